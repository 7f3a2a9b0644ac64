// L1 and structural dissimilarity in one pass over tiles of an image, with the gradient (Wang et al. 2004; Kerbl et al. 2023,
// eq. 7). SSIM uses an 11x11 Gaussian window of sigma 1.5 and zeros beyond the border, as 3D Gaussian splatting does.
#pragma once

#include "frame.h"

constexpr int RADIUS = 5;
constexpr int LOSS_ROWS = 32, LOSS_FLOATS = 384;                     // a tile: 32 rows of 128 interleaved pixels
constexpr int HALO = 3 * RADIUS, PADDED = LOSS_FLOATS + 2 * HALO + 2;  // one side, and a row with both sides
constexpr int TALL = LOSS_ROWS + 2 * RADIUS;
constexpr float SSIM_C1 = 0.01f * 0.01f, SSIM_C2 = 0.03f * 0.03f;

struct Window {
  float tap[RADIUS + 1];  // from the centre outward
  Window() {
    double weight[RADIUS + 1], total = 0;
    for (int k = 0; k <= RADIUS; ++k) {
      weight[k] = std::exp(-0.5 * k * k / (1.5 * 1.5));
      total += k ? 2 * weight[k] : weight[k];
    }
    for (int k = 0; k <= RADIUS; ++k) tap[k] = (float)(weight[k] / total);
  }
};

struct LossTile {
  int64_t row, column;  // the first row, and the first float of a row
  int rows, floats;
};

static inline LossTile loss_tile(int64_t index, int64_t width3, int64_t height) {
  int64_t across = (width3 + LOSS_FLOATS - 1) / LOSS_FLOATS;
  LossTile t = {index / across * LOSS_ROWS, index % across * LOSS_FLOATS, 0, 0};
  t.rows = (int)std::min<int64_t>(LOSS_ROWS, height - t.row);
  t.floats = (int)std::min<int64_t>(LOSS_FLOATS, width3 - t.column);
  return t;
}

// A row of an image with its halo, zero outside the image.
static inline void padded_row(const float* image, int64_t width3, int64_t height, int64_t row, int64_t column, float* out) {
  memset(out, 0, PADDED * sizeof(float));
  if (row < 0 || row >= height) return;
  int64_t begin = std::max<int64_t>(0, column - HALO), end = std::min(width3, column + LOSS_FLOATS + HALO);
  if (begin < end) memcpy(out + (begin - column + HALO), image + row * width3 + begin, (size_t)(end - begin) * sizeof(float));
}

// Symmetric blur: `from` points at the first output's centre, neighbours lie `step` floats apart.
static inline F16 blur(const Window& w, const float* from, int64_t step) {
  F16 value = F16(w.tap[0]) * F16::load(from);
  for (int k = 1; k <= RADIUS; ++k) value = fma(F16(w.tap[k]), F16::load(from - k * step) + F16::load(from + k * step), value);
  return value;
}

struct LossScratch {
  alignas(64) float padded[5][PADDED + 16];
  alignas(64) float blurred[5][TALL][LOSS_FLOATS];
};

// Horizontally blurred x, y, x^2, y^2, x y of a tile and of the rows above and below it.
static inline void blur_moments(const Window& w, const float* x, const float* y, int64_t width3, int64_t height,
                                const LossTile& t, LossScratch& s) {
  for (int r = 0; r < t.rows + 2 * RADIUS; ++r) {
    padded_row(x, width3, height, t.row + r - RADIUS, t.column, s.padded[0]);
    padded_row(y, width3, height, t.row + r - RADIUS, t.column, s.padded[1]);
    for (int i = 0; i < PADDED; i += 16) {
      F16 a = F16::load(s.padded[0] + i), b = F16::load(s.padded[1] + i);
      (a * a).store(s.padded[2] + i), (b * b).store(s.padded[3] + i), (a * b).store(s.padded[4] + i);
    }
    for (int q = 0; q < 5; ++q)
      for (int i = 0; i < t.floats; i += 16) blur(w, s.padded[q] + HALO + i, 3).store(s.blurred[q][r] + i);
  }
}

struct LossMaps {
  float *mean, *square, *product;  // dS/d(E x), dS/d(E x^2), dS/d(E x y) by pixel and channel; null when not wanted
};

static inline F16 similarity(F16 mx, F16 my, F16 xx, F16 yy, F16 xy, F16& v_mean, F16& v_square, F16& v_product) {
  F16 two(2.0f), c1(SSIM_C1), c2(SSIM_C2);
  F16 n1 = fma(two * mx, my, c1), n2 = fma(two, fnma(mx, my, xy), c2);
  F16 d1 = fma(mx, mx, fma(my, my, c1)), d2 = fnma(mx, mx, xx) + fnma(my, my, yy) + c2;
  F16 i1 = F16(1.0f) / d1, i2 = F16(1.0f) / d2, value = n1 * n2 * (i1 * i2);
  v_mean = two * (my * (n2 - n1) * (i1 * i2) + value * mx * (i2 - i1));
  v_square = -(value * i2);
  v_product = two * n1 * (i1 * i2);
  return value;
}

struct LossSums {
  double absolute, similarity;
};

static inline LossSums measure_tile(const Window& w, const float* x, const float* y, int64_t width3, int64_t height,
                                    const LossTile& t, const LossMaps& maps, LossScratch& s) {
  blur_moments(w, x, y, width3, height, t, s);
  LossSums sums = {0, 0};
  for (int r = 0; r < t.rows; ++r) {
    F16 absolute(0.0f), similar(0.0f);
    int64_t base = (t.row + r) * width3 + t.column;
    for (int i = 0; i < t.floats; i += 16) {
      F16 b[5], v[3];
      for (int q = 0; q < 5; ++q) b[q] = blur(w, s.blurred[q][r + RADIUS] + i, LOSS_FLOATS);
      F16 value = similarity(b[0], b[1], b[2], b[3], b[4], v[0], v[1], v[2]);
      int count = std::min(16, t.floats - i);
      M16 real = mask_from_bits((1u << count) - 1);
      similar += keep(real, value);
      float* to[3] = {maps.mean, maps.square, maps.product};
      if (count == 16) {
        absolute += abs(F16::load(x + base + i) - F16::load(y + base + i));
        for (int k = 0; k < 3 && maps.mean; ++k) v[k].store(to[k] + base + i);
      } else {
        for (int j = 0; j < count; ++j) sums.absolute += std::fabs(x[base + i + j] - y[base + i + j]);
        float lanes[16];
        for (int k = 0; k < 3 && maps.mean; ++k) v[k].store(lanes), memcpy(to[k] + base + i, lanes, sizeof(float) * count);
      }
    }
    sums.absolute += sum(absolute), sums.similarity += sum(similar);
  }
  return sums;
}

// dL/dx_i = l1 sign(x_i - y_i) - ssim sum_j w_ij (mean_j + 2 x_i square_j + y_i product_j)
static inline void loss_gradient_tile(const Window& w, const float* x, const float* y, int64_t width3, int64_t height,
                                      const LossTile& t, const LossMaps& maps, float l1, float ssim, LossScratch& s,
                                      float* gradient) {
  const float* from[3] = {maps.mean, maps.square, maps.product};
  for (int q = 0; q < 3; ++q)
    for (int r = 0; r < t.rows + 2 * RADIUS; ++r) {
      padded_row(from[q], width3, height, t.row + r - RADIUS, t.column, s.padded[q]);
      for (int i = 0; i < t.floats; i += 16) blur(w, s.padded[q] + HALO + i, 3).store(s.blurred[q][r] + i);
    }
  for (int r = 0; r < t.rows; ++r) {
    int64_t base = (t.row + r) * width3 + t.column;
    for (int i = 0; i < t.floats; i += 16) {
      int count = std::min(16, t.floats - i);
      float lanes[2][16] = {{0}, {0}};
      memcpy(lanes[0], x + base + i, sizeof(float) * count);
      memcpy(lanes[1], y + base + i, sizeof(float) * count);
      F16 a = F16::load(lanes[0]), b = F16::load(lanes[1]), zero(0.0f);
      F16 b0 = blur(w, s.blurred[0][r + RADIUS] + i, LOSS_FLOATS), b1 = blur(w, s.blurred[1][r + RADIUS] + i, LOSS_FLOATS);
      F16 b2 = blur(w, s.blurred[2][r + RADIUS] + i, LOSS_FLOATS);
      F16 structure = fma(a + a, b1, fma(b, b2, b0));
      F16 sign = keep(less(b, a), F16(1.0f)) - keep(less(a, b), F16(1.0f));
      F16 value = fnma(F16(ssim), structure, F16(l1) * sign);
      value.store(lanes[0]);
      memcpy(gradient + base + i, lanes[0], sizeof(float) * count);
    }
  }
}

static double photometric_loss(const float* x, const float* y, int64_t width, int64_t height, float weight, float* gradient) {
  static const Window window;
  // One set of scratch buffers a calling thread, kept between calls.
  static thread_local Buffer<LossScratch> scratch;
  static thread_local Buffer<float> map_memory;
  static thread_local Buffer<LossSums> sum_memory;
  int64_t width3 = 3 * width, size = width3 * height;
  int64_t across = (width3 + LOSS_FLOATS - 1) / LOSS_FLOATS, tiles = across * ((height + LOSS_ROWS - 1) / LOSS_ROWS);
  const int threads = Pool::instance().threads();
  LossScratch* s = scratch.need((size_t)threads);
  LossSums* sums = sum_memory.need((size_t)tiles);
  LossMaps maps = {nullptr, nullptr, nullptr};
  if (gradient) {
    float* memory = map_memory.need((size_t)size * 3 + 16);
    maps = {memory, memory + size, memory + 2 * size};
  }
  Pool::instance().run(tiles, [&](int64_t i, int worker) {
    sums[i] = measure_tile(window, x, y, width3, height, loss_tile(i, width3, height), maps, s[worker]);
  }, threads);
  float l1 = (1 - weight) / (float)size, ssim = weight / (float)size;
  if (gradient)
    Pool::instance().run(tiles, [&](int64_t i, int worker) {
      loss_gradient_tile(window, x, y, width3, height, loss_tile(i, width3, height), maps, l1, ssim, s[worker], gradient);
    }, threads);
  LossSums total = {0, 0};
  for (int64_t i = 0; i < tiles; ++i) total.absolute += sums[i].absolute, total.similarity += sums[i].similarity;
  return (1 - weight) * total.absolute / (double)size + weight * (1 - total.similarity / (double)size);
}
