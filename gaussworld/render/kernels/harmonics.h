// Colour from spherical harmonics and its derivative, for sixteen visible Gaussians at a time.
#pragma once

#include "frame.h"

constexpr float SH_C0 = 0.28209479177387814f;
constexpr float SH_C1 = 0.4886025119029199f;
constexpr float SH_C2[5] = {1.0925484305920792f, -1.0925484305920792f, 0.31539156525252005f, -1.0925484305920792f,
                            0.5462742152960396f};
constexpr float SH_C3[7] = {-0.5900435899266435f, 2.890611442640554f,  -0.4570457994644658f, 0.3731763325901154f,
                            -0.4570457994644658f, 1.445305721320277f, -0.5900435899266435f};

// The basis functions 1 to count-1 at unit directions (the order and signs of gaussworld/sh.py).
static inline void sh_basis(F16 x, F16 y, F16 z, int count, F16* b) {
  b[0] = F16(SH_C0);
  if (count < 4) return;
  b[1] = F16(-SH_C1) * y, b[2] = F16(SH_C1) * z, b[3] = F16(-SH_C1) * x;
  if (count < 9) return;
  F16 xx = x * x, yy = y * y, zz = z * z, two(2.0f);
  b[4] = F16(SH_C2[0]) * x * y;
  b[5] = F16(SH_C2[1]) * y * z;
  b[6] = F16(SH_C2[2]) * (two * zz - xx - yy);
  b[7] = F16(SH_C2[3]) * x * z;
  b[8] = F16(SH_C2[4]) * (xx - yy);
  if (count < 16) return;
  F16 three(3.0f), four(4.0f);
  b[9] = F16(SH_C3[0]) * y * (three * xx - yy);
  b[10] = F16(SH_C3[1]) * x * y * z;
  b[11] = F16(SH_C3[2]) * y * (four * zz - xx - yy);
  b[12] = F16(SH_C3[3]) * z * (two * zz - three * (xx + yy));
  b[13] = F16(SH_C3[4]) * x * (four * zz - xx - yy);
  b[14] = F16(SH_C3[5]) * z * (xx - yy);
  b[15] = F16(SH_C3[6]) * x * (xx - three * yy);
}

// Gradient with respect to the direction (x, y, z), taken as free variables, of sum_k v[k] basis[k].
static inline void sh_basis_backward(F16 x, F16 y, F16 z, int count, const F16* v, F16& vx, F16& vy, F16& vz) {
  vx = vy = vz = F16(0.0f);
  if (count < 4) return;
  vx = F16(-SH_C1) * v[3], vy = F16(-SH_C1) * v[1], vz = F16(SH_C1) * v[2];
  if (count < 9) return;
  F16 two(2.0f), four(4.0f);
  F16 a4 = F16(SH_C2[0]) * v[4], a5 = F16(SH_C2[1]) * v[5], a6 = F16(SH_C2[2]) * v[6], a7 = F16(SH_C2[3]) * v[7],
      a8 = F16(SH_C2[4]) * v[8];
  vx += a4 * y - two * a6 * x + a7 * z + two * a8 * x;
  vy += a4 * x + a5 * z - two * a6 * y - two * a8 * y;
  vz += a5 * y + four * a6 * z + a7 * x;
  if (count < 16) return;
  F16 xx = x * x, yy = y * y, zz = z * z, three(3.0f), six(6.0f), eight(8.0f);
  F16 a9 = F16(SH_C3[0]) * v[9], a10 = F16(SH_C3[1]) * v[10], a11 = F16(SH_C3[2]) * v[11], a12 = F16(SH_C3[3]) * v[12],
      a13 = F16(SH_C3[4]) * v[13], a14 = F16(SH_C3[5]) * v[14], a15 = F16(SH_C3[6]) * v[15];
  vx += six * a9 * x * y + a10 * y * z - two * a11 * x * y - six * a12 * x * z + a13 * (four * zz - three * xx - yy) +
        two * a14 * x * z + three * a15 * (xx - yy);
  vy += three * a9 * (xx - yy) + a10 * x * z + a11 * (four * zz - xx - three * yy) - six * a12 * y * z -
        two * a13 * x * y - two * a14 * y * z - six * a15 * x * y;
  vz += a10 * x * y + eight * a11 * y * z + three * a12 * (two * zz - xx - yy) + eight * a13 * x * z + a14 * (xx - yy);
}

// Coefficients of sixteen Gaussians as lanes: c[3 k + channel].
static inline void load_harmonics(const float* const* rows, int count, F16 (&c)[48]) {
  int floats = 3 * count;
  for (int base = 0; base < floats; base += 16) {
    F16 block[16];
    int width = floats - base < 16 ? floats - base : 16;
    for (int i = 0; i < 16; ++i) {
      float part[16] = {0};
      if (width < 16) memcpy(part, rows[i] + base, sizeof(float) * width);
      block[i] = F16::load(width < 16 ? part : rows[i] + base);
    }
    transpose(block);
    for (int i = 0; i < 16; ++i) c[base + i] = block[i];
  }
}

static inline void view_directions(const Row* const* rows, const float* means, const float* center, F16& x, F16& y,
                                   F16& z, F16& inverse_length) {
  float lanes[3][16];
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 3; ++j) lanes[j][i] = means[3 * (int64_t)rows[i]->gaussian + j] - center[j];
  x = F16::load(lanes[0]), y = F16::load(lanes[1]), z = F16::load(lanes[2]);
  inverse_length = F16(1.0f) / max(sqrt(fma(x, x, fma(y, y, z * z))), F16(1e-12f));
  x = x * inverse_length, y = y * inverse_length, z = z * inverse_length;
}

static inline void color_rows_given(Frame& frame, Row* rows, int count, const float* colors) {
  for (int i = 0; i < count; ++i) {
    memcpy(rows[i].channel, colors + 3 * (int64_t)rows[i].gaussian, 3 * sizeof(float));
    float finite = (rows[i].channel[0] + rows[i].channel[1] + rows[i].channel[2]) * 0.0f;  // NaN unless all are finite
    if (!(finite == 0.0f)) report_bad(frame, rows[i].gaussian);
  }
}

// Colours of `count` rows from harmonics: max(SH + 0.5, 0).
static inline void color_rows(Frame& frame, Row* rows, int count, const float* means, const float* center, const float* sh,
                              int sh_stride, int sh_count) {
  for (int i = 0; i < count; i += 16) {
    const Row* lane[16];
    const float* coefficients[16];
    for (int j = 0; j < 16; ++j) {
      lane[j] = &rows[i + j < count ? i + j : count - 1];
      coefficients[j] = sh + (int64_t)lane[j]->gaussian * sh_stride * 3;
    }
    F16 x, y, z, inverse_length, basis[16], c[48];
    view_directions(lane, means, center, x, y, z, inverse_length);
    sh_basis(x, y, z, sh_count, basis);
    load_harmonics(coefficients, sh_count, c);
    float out[3][16];
    uint32_t negative[3], finite = 0xffff;
    for (int channel = 0; channel < 3; ++channel) {
      F16 value(0.5f);
      for (int k = 0; k < sh_count; ++k) value = fma(basis[k], c[3 * k + channel], value);
      negative[channel] = bits(less(value, F16(0.0f)));
      finite &= bits(less_equal(abs(value), F16(3.4e38f)));
      max(value, F16(0.0f)).store(out[channel]);
    }
    for (int j = 0; j < 16 && i + j < count; ++j) {
      Row& row = rows[i + j];
      if (!(finite >> j & 1)) report_bad(frame, row.gaussian);
      row.clamped = 0;
      for (int channel = 0; channel < 3; ++channel) {
        row.channel[channel] = out[channel][j];
        row.clamped |= (negative[channel] >> j & 1) << channel;
      }
    }
  }
}
