// The C interface of the CPU rasterizer; gaussworld/render/kernels/__init__.py mirrors every declaration.
#include <algorithm>
#include <chrono>

#include "loss.h"
#include "projected.h"
#include "projection_backward.h"
#include "raster_backward.h"
#include "replay.h"

#if defined(_MSC_VER)
#include <intrin.h>
#endif

#if defined(_WIN32)
#define GW_API extern "C" __declspec(dllexport)
#else
#define GW_API extern "C" __attribute__((visibility("default")))
#endif

enum Status { OK = 0, BAD_ROW = 1, OUT_OF_MEMORY = 2, TOO_MANY = 3, FAILED = 4 };

template <class Work>
static int guarded(const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return OUT_OF_MEMORY;
  } catch (...) {
    return FAILED;
  }
}

GW_API const char* gw_instruction_set() { return GW_ISA; }
// The widest instruction set that this processor runs: "v4", "v3" or "v1" of x86-64, or "neon".
GW_API const char* gw_best_variant() {
#if defined(_MSC_VER) && defined(_M_X64)
  int leaf7[4], leaf1[4];
  __cpuid(leaf1, 1);
  __cpuidex(leaf7, 7, 0);
  bool saved = (leaf1[2] >> 27) & 1;
  uint64_t enabled = saved ? _xgetbv(0) : 0;
  const int avx512 = 1 << 16 | 1 << 17 | 1 << 30, vl = 1 << 31;
  if ((enabled & 0xe6) == 0xe6 && (leaf7[1] & avx512) == avx512 && (leaf7[1] & vl)) return "v4";
  if ((enabled & 6) == 6 && ((leaf7[1] >> 5) & 1) && ((leaf1[2] >> 12) & 1)) return "v3";
  return "v1";
#elif defined(__x86_64__)
  __builtin_cpu_init();
  bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512) return "v4";
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  return avx2 ? "v3" : "v1";
#else
  return "neon";
#endif
}

GW_API int gw_threads() { return Pool::instance().threads(); }
GW_API void gw_set_threads(int count) { Pool::instance().set_threads(count); }

// Sixteen independent chains of multiply-adds on every thread, `rounds` times: the peak that benchmarks compare to.
// 512 floating-point operations a round and thread.
GW_API float gw_multiply_adds(int64_t rounds) {
  int threads = Pool::instance().threads();
  std::vector<float> result((size_t)threads);
  Pool::instance().run(threads, [&](int64_t i, int) {
    F16 chain[16], a(0.999f), b(0.001f);
    for (int k = 0; k < 16; ++k) chain[k] = F16((float)k);
    for (int64_t r = 0; r < rounds; ++r)
      for (int k = 0; k < 16; ++k) chain[k] = fma(chain[k], a, b);
    F16 total = chain[0];
    for (int k = 1; k < 16; ++k) total += chain[k];
    result[(size_t)i] = sum(total);
  });
  float total = 0;
  for (float r : result) total += r;
  return total;
}

GW_API Frame* gw_frame_create() { return new (std::nothrow) Frame(); }
GW_API void gw_frame_destroy(Frame* f) { delete f; }
GW_API int64_t gw_frame_bad_row(const Frame* f) { return f->bad_row.load(); }
GW_API int64_t gw_frame_visible(const Frame* f) { return f->visible; }
GW_API int64_t gw_frame_intersections(const Frame* f) { return f->intersections; }
GW_API int64_t gw_frame_capacity(const Frame* f) { return (int64_t)f->capacity_bytes(); }
GW_API int64_t gw_frame_bytes(const Frame* f) { return (int64_t)f->workspace_bytes(); }

// Contributions (4x4 block, Gaussian) of the last saved forward pass: the unit of work of the raster stages.
GW_API int64_t gw_frame_contributions(const Frame* f) {
  int64_t total = 0;
  for (size_t t = 0; t < f->tiles(); ++t)
    for (int k = 0; k < f->tile_done[t]; ++k)
      for (int b = 0; b < BLOCKS; ++b) total += f->segments[f->tile_segment[t] + k].count[b];
  return total;
}

GW_API int gw_project(Frame* f, const ProjectionInput* in, float* means2d, int32_t* radii) {
  return guarded([&] {
    project(*f, *in, means2d, radii);
    return f->bad_row.load() >= 0 ? BAD_ROW : OK;
  });
}

GW_API int gw_load_projected(Frame* f, const ProjectedInput* in) {
  return guarded([&] {
    load_projected(*f, *in);
    return OK;
  });
}

// Order the visible Gaussians by depth, then list them by tile; `save` keeps what replays and the backward pass need.
GW_API int gw_sort(Frame* f) {
  return guarded([&] {
    sort_by_depth(*f);
    return OK;
  });
}

GW_API int gw_bin(Frame* f, int save) {
  return guarded([&] {
    f->saved = save != 0;
    return bin_into_tiles(*f) ? OK : TOO_MANY;
  });
}

GW_API int gw_blend(Frame* f, const float* background, const uint8_t* mask, float* rgb, float* alpha, float* depth) {
  return guarded([&] {
    for (int k = 0; k < 3; ++k) f->background[k] = background ? background[k] : 0.0f;
    RasterOutput out = {{{rgb, rgb + 1, rgb + 2, depth}, {3, 3, 3, 1}}, alpha};
    blend(*f, mask, out);
    return OK;
  });
}

// Gradients of whatever was drawn; null pointers stand for zero gradients. `features` [n, width] and `v_blended`
// [h, w, width] belong to gw_blend_features; `v_features` [n, width] arrives filled with zeros.
GW_API int gw_blend_backward(Frame* f, const float* v_rgb, const float* v_alpha, const float* v_depth, int absolute,
                             const float* features, const float* v_blended, int64_t width, float* v_features) {
  return guarded([&] {
    RasterGradient v = {{nullptr, nullptr, nullptr, v_depth}, {3, 3, 3, 1}, v_alpha, absolute != 0,
                        features, v_blended, v_features, v_blended ? width : 0};
    for (int k = 0; k < 3 && v_rgb; ++k) v.channel[k] = v_rgb + k;
    blend_backward(*f, v);
    return OK;
  });
}

// `features` [n, width] blended into `out` [h, w, width], four columns at a time.
GW_API int gw_blend_features(Frame* f, const float* features, int64_t width, float* out) {
  return guarded([&] {
    for (int64_t first = 0; first < width; first += 4)
      blend_features(*f, {features + first, width, (int)std::min<int64_t>(4, width - first)}, out + first, width);
    return OK;
  });
}

GW_API int gw_dominant_ids(Frame* f, int32_t* ids) {
  return guarded([&] {
    dominant_ids(*f, ids);
    return OK;
  });
}

// For a backward pass that reaches the projection without having passed the picture.
GW_API int gw_clear_moments(Frame* f) {
  return guarded([&] {
    int64_t size = f->groups() * GROUP * 16;
    memset(f->moments.need((size_t)size), 0, (size_t)size * sizeof(float));
    return OK;
  });
}

GW_API int gw_screen_gradients(Frame* f, float* v_means2d, float* absolute) {
  screen_gradients(*f, v_means2d, absolute);
  return OK;
}

GW_API int gw_projected_gradients(Frame* f, float* v_conics, float* v_opacities, float* v_colors, float* v_depths) {
  projected_gradients(*f, v_conics, v_opacities, v_colors, v_depths);
  return OK;
}

GW_API int gw_project_backward(Frame* f, const ProjectionInput* in, ProjectionGradient* v) {
  return guarded([&] {
    project_backward(*f, *in, *v);
    return OK;
  });
}

// (1 - weight) L1 + weight (1 - SSIM) of two [h, w, 3] images; `gradient` [h, w, 3] with respect to the first, or null.
GW_API int gw_photometric_loss(const float* image, const float* target, int32_t width, int32_t height, float weight,
                               double* loss, float* gradient) {
  return guarded([&] {
    *loss = photometric_loss(image, target, width, height, weight, gradient);
    return OK;
  });
}
