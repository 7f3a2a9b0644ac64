// Draws a small random scene with the kernels, forward and backward, and writes every result as float32 to the file named
// first: emulated_arm.py compares what different instruction sets give.
#include <cstdio>
#include <random>

#include "../gaussworld/render/kernels/kernels.cpp"

static std::mt19937 generator(1);

// Sums of integers are the same everywhere; the standard library's distributions are not.
static std::vector<float> normal(size_t count, float mean, float deviation) {
  std::vector<float> values(count);
  for (float& value : values) {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += generator() / 4294967296.0;
    value = mean + deviation * (float)(sum - 6);
  }
  return values;
}

int main(int, char** arguments) {
  const int n = 3000, width = 75, height = 61, features = 5;
  const size_t pixels = (size_t)width * height;
  auto means = normal(3 * n, 0, 0.6f), quats = normal(4 * n, 0, 1), log_scales = normal(3 * n, -3, 0.5f);
  auto logits = normal(n, 0, 1.5f), sh = normal(48 * n, 0, 0.3f), feature = normal(features * n, 0, 1);
  ProjectionInput in = {};
  in.n = n, in.width = width, in.height = height, in.antialiased = 1, in.sh_stride = in.sh_count = 16;
  in.means = means.data(), in.quats = quats.data(), in.log_scales = log_scales.data();
  in.opacity_logits = logits.data(), in.sh = sh.data();
  const float rotation[9] = {1, 0, 0, 0, 0, -1, 0, 1, 0};
  std::copy(rotation, rotation + 9, in.rotation);
  in.translation[2] = 3, in.center[1] = -3;
  in.fx = in.fy = 70, in.cx = 37, in.cy = 30, in.near = 0.01f, in.far = 1e10f, in.eps2d = 0.3f;
  in.max_alpha = 0.999f, in.max_log_scale = 40;

  gw_set_threads(2);
  Frame* frame = gw_frame_create();
  std::vector<float> means2d(2 * n), rgb(3 * pixels), alpha(pixels), depth(pixels), blended(features * pixels);
  std::vector<int32_t> radii(2 * n), ids(pixels);
  gw_project(frame, &in, means2d.data(), radii.data());
  gw_sort(frame);
  gw_bin(frame, 1);
  const float background[3] = {0.1f, 0.2f, 0.3f};
  gw_blend(frame, background, nullptr, rgb.data(), alpha.data(), depth.data());
  gw_blend_features(frame, feature.data(), features, blended.data());
  gw_dominant_ids(frame, ids.data());

  auto v_rgb = normal(3 * pixels, 0, 1), v_alpha = normal(pixels, 0, 1), v_blended = normal(features * pixels, 0, 1);
  std::vector<float> v_features(features * n), v_means2d(2 * n), absolute(2 * n);
  gw_blend_backward(frame, v_rgb.data(), v_alpha.data(), nullptr, 1, feature.data(), v_blended.data(), features,
                    v_features.data());
  gw_screen_gradients(frame, v_means2d.data(), absolute.data());
  std::vector<float> v_means(3 * n), v_quats(4 * n), v_log_scales(3 * n), v_logits(n), v_sh(48 * n);
  ProjectionGradient v = {v_means2d.data(), v_means.data(), v_quats.data(), v_log_scales.data(),
                          v_logits.data(),  v_sh.data(),    nullptr,        {}};
  gw_project_backward(frame, &in, &v);
  double loss;
  std::vector<float> v_image(3 * pixels), dominant(ids.begin(), ids.end()), camera(v.camera, v.camera + 15);
  gw_photometric_loss(rgb.data(), v_rgb.data(), width, height, 0.2f, &loss, v_image.data());

  FILE* file = std::fopen(arguments[1], "wb");
  for (const auto* values : {&rgb, &alpha, &depth, &blended, &dominant, &means2d, &v_means2d, &absolute, &v_means, &v_quats,
                             &v_log_scales, &v_logits, &v_sh, &v_features, &camera, &v_image})
    std::fwrite(values->data(), sizeof(float), values->size(), file);
  std::fclose(file);
  std::printf("%s: %ld of %d Gaussians visible, loss %.6f\n", gw_instruction_set(), (long)frame->visible, n, loss);
}
