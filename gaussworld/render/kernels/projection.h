// Projection of Gaussians to the image and its derivative, sixteen at a time (Zwicker et al. 2002, EWA splatting).
#pragma once

#include "frame.h"
#include "harmonics.h"

// What both directions of the projection read; the layout is mirrored in __init__.py.
struct ProjectionInput {
  int64_t n;
  const float *means, *quats, *log_scales, *opacity_logits;  // [n,3] [n,4] [n,3] [n]
  const float* sh;                                           // [n,sh_stride,3]
  const float* colors;                                       // [n,3] or null: use the harmonics
  int32_t sh_stride, sh_count;                               // coefficients stored, coefficients used
  int32_t width, height, antialiased, padding;
  float rotation[9], translation[3], center[3];  // camera_from_world, and the camera's centre in the world
  float fx, fy, cx, cy, near, far, eps2d, radius_clip, max_alpha, max_log_scale;
};

// A 3-vector for sixteen Gaussians.
struct Vec3 {
  F16 x, y, z;
};
static inline F16 dot(Vec3 a, Vec3 b) { return fma(a.x, b.x, fma(a.y, b.y, a.z * b.z)); }
static inline Vec3 operator*(Vec3 a, F16 s) { return {a.x * s, a.y * s, a.z * s}; }
static inline Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
static inline Vec3 axpy(F16 s, Vec3 a, Vec3 b) { return {fma(s, a.x, b.x), fma(s, a.y, b.y), fma(s, a.z, b.z)}; }
static inline Vec3 constant(const float* v) { return {F16(v[0]), F16(v[1]), F16(v[2])}; }

// Sixteen Gaussians on their way to the image: every intermediate value the derivative needs again.
struct Splat16 {
  Vec3 mean, in_camera;
  F16 inverse_length;      // of the quaternion
  F16 w, x, y, z;          // the unit quaternion
  Vec3 axis[3];            // columns of its rotation matrix
  F16 scale[3];
  F16 inverse_z, tx, ty;   // tx, ty: the Jacobian's clamped x and y
  M16 inside_x, inside_y;  // where they were not clamped
  Vec3 t0, t1;             // rows of J W
  F16 m0[3], m1[3];        // rows of M = J W R S; the 2D covariance is M M^T
  F16 xx, xy, yy;          // that covariance plus the low-pass filter
  F16 det_before, det, compensation, opacity;
  F16 u, v;                // pixels
  M16 acceptable;
};

// Lanes past the end repeat the last Gaussian, so that they are harmless.
static inline void load_lanes(const float* data, int stride, const int32_t* row, F16* out) {
  float lanes[4][16];
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < stride; ++j) lanes[j][i] = data[(int64_t)row[i] * stride + j];
  for (int j = 0; j < stride; ++j) out[j] = F16::load(lanes[j]);
}

// Lanes a rasterizer must refuse: not finite, no rotation, or too large for float32.
static inline M16 acceptable16(const F16* values, int count, F16 largest_quat, F16 largest_log_scale, float max_log_scale) {
  M16 ok = less(F16(0.0f), largest_quat) & less_equal(largest_log_scale, F16(max_log_scale));
  for (int i = 0; i < count; ++i) ok = ok & less_equal(abs(values[i]), F16(3.4e38f));  // false for NaN too
  return ok;
}

static inline void project16(const ProjectionInput& in, const int32_t* row, Splat16& s) {
  F16 loaded[11], *mean = loaded, *quat = loaded + 3, *log_scale = loaded + 7, &logit = loaded[10];
  load_lanes(in.means, 3, row, mean);
  load_lanes(in.quats, 4, row, quat);
  load_lanes(in.log_scales, 3, row, log_scale);
  load_lanes(in.opacity_logits, 1, row, &logit);

  s.mean = {mean[0], mean[1], mean[2]};
  Vec3 w0 = constant(in.rotation), w1 = constant(in.rotation + 3), w2 = constant(in.rotation + 6);
  s.in_camera = {dot(w0, s.mean) + F16(in.translation[0]), dot(w1, s.mean) + F16(in.translation[1]),
                 dot(w2, s.mean) + F16(in.translation[2])};

  // Scaled by the largest component first, so that squaring can neither overflow nor vanish.
  F16 largest = max(max(abs(quat[0]), abs(quat[1])), max(abs(quat[2]), abs(quat[3])));
  s.acceptable =
      acceptable16(loaded, 11, largest, max(log_scale[0], max(log_scale[1], log_scale[2])), in.max_log_scale);
  F16 unit = F16(1.0f) / max(largest, F16(1e-37f));
  F16 w = quat[0] * unit, x = quat[1] * unit, y = quat[2] * unit, z = quat[3] * unit;
  F16 inverse = F16(1.0f) / sqrt(fma(w, w, fma(x, x, fma(y, y, z * z))));
  s.inverse_length = inverse * unit;
  s.w = w = w * inverse, s.x = x = x * inverse, s.y = y = y * inverse, s.z = z = z * inverse;
  F16 one(1.0f), two(2.0f);
  s.axis[0] = {fnma(two, fma(y, y, z * z), one), two * fma(x, y, w * z), two * fms(x, z, w * y)};
  s.axis[1] = {two * fms(x, y, w * z), fnma(two, fma(x, x, z * z), one), two * fma(y, z, w * x)};
  s.axis[2] = {two * fma(x, z, w * y), two * fms(y, z, w * x), fnma(two, fma(x, x, y * y), one)};
  for (int j = 0; j < 3; ++j) s.scale[j] = exp_clamped(log_scale[j]);

  F16 fx(in.fx), fy(in.fy);
  s.inverse_z = one / s.in_camera.z;
  F16 ratio_x = s.in_camera.x * s.inverse_z, ratio_y = s.in_camera.y * s.inverse_z;
  s.u = fma(fx, ratio_x, F16(in.cx));
  s.v = fma(fy, ratio_y, F16(in.cy));
  // The local affine approximation is bad far outside the image: the Jacobian is taken at most 15 % of a half view beyond.
  float tan_x = 0.5f * in.width / in.fx, tan_y = 0.5f * in.height / in.fy;
  F16 high_x((in.width - in.cx) / in.fx + 0.3f * tan_x), low_x(-in.cx / in.fx - 0.3f * tan_x);
  F16 high_y((in.height - in.cy) / in.fy + 0.3f * tan_y), low_y(-in.cy / in.fy - 0.3f * tan_y);
  s.inside_x = less_equal(low_x, ratio_x) & less_equal(ratio_x, high_x);
  s.inside_y = less_equal(low_y, ratio_y) & less_equal(ratio_y, high_y);
  s.tx = clamp(ratio_x, low_x, high_x) * s.in_camera.z;
  s.ty = clamp(ratio_y, low_y, high_y) * s.in_camera.z;

  F16 inverse_z2 = s.inverse_z * s.inverse_z;
  s.t0 = axpy(-(fx * s.tx * inverse_z2), w2, w0 * (fx * s.inverse_z));
  s.t1 = axpy(-(fy * s.ty * inverse_z2), w2, w1 * (fy * s.inverse_z));
  for (int j = 0; j < 3; ++j) {
    s.m0[j] = dot(s.t0, s.axis[j]) * s.scale[j];
    s.m1[j] = dot(s.t1, s.axis[j]) * s.scale[j];
  }
  F16 xx = fma(s.m0[0], s.m0[0], fma(s.m0[1], s.m0[1], s.m0[2] * s.m0[2]));
  F16 yy = fma(s.m1[0], s.m1[0], fma(s.m1[1], s.m1[1], s.m1[2] * s.m1[2]));
  s.xy = fma(s.m0[0], s.m1[0], fma(s.m0[1], s.m1[1], s.m0[2] * s.m1[2]));
  // det(M M^T) as the sum of squared 2x2 minors (Cauchy-Binet): a needle's xx yy - xy^2 would cancel to nothing.
  F16 c0 = fms(s.m0[1], s.m1[2], s.m0[2] * s.m1[1]);
  F16 c1 = fms(s.m0[2], s.m1[0], s.m0[0] * s.m1[2]);
  F16 c2 = fms(s.m0[0], s.m1[1], s.m0[1] * s.m1[0]);
  s.det_before = fma(c0, c0, fma(c1, c1, c2 * c2));
  F16 blur(in.eps2d);
  s.xx = xx + blur, s.yy = yy + blur;
  s.det = fma(blur, xx + yy + blur, s.det_before);
  s.opacity = one / (one + exp_clamped(-logit));
  s.compensation = one;
  if (in.antialiased) s.compensation = sqrt(max(s.det_before / s.det, F16(0.0f)));
}

// Lanes to draw, with their extents: e sqrt(cov_ii) pixels, e being where alpha falls below 1/255, at most 3.33.
static inline M16 visible16(const ProjectionInput& in, const Splat16& s, F16& radius_x, F16& radius_y, F16& log2_opacity) {
  F16 opacity = s.opacity * s.compensation;
  F16 zero(0.0f);
  M16 ok = less_equal(F16(in.near), s.in_camera.z) & less_equal(s.in_camera.z, F16(in.far));
  ok = ok & less(zero, s.det) & less(s.det, F16(3e38f)) & less_equal(F16(1.0f / 255.0f), opacity);
  log2_opacity = log2_positive(max(opacity, F16(1e-30f)));
  F16 extent = min(F16(3.33f), sqrt(max((log2_opacity - F16(LOG2_MIN_ALPHA)) * F16(2.0f / LOG2E), zero)));
  radius_x = ceil(extent * sqrt(s.xx));
  radius_y = ceil(extent * sqrt(s.yy));
  M16 clipped = less_equal(radius_x, F16(in.radius_clip)) & less_equal(radius_y, F16(in.radius_clip));
  ok = without(ok, clipped);
  ok = ok & less(zero, s.u + radius_x) & less(s.u - radius_x, F16((float)in.width));
  return ok & less(zero, s.v + radius_y) & less(s.v - radius_y, F16((float)in.height));
}

// Two values of sixteen Gaussians, interleaved.
template <class T>
static inline void write_pairs(F16 a, F16 b, int count, T* out) {
  float first[16], second[16];
  T pairs[32];
  a.store(first), b.store(second);
  for (int j = 0; j < 16; ++j) pairs[2 * j] = (T)first[j], pairs[2 * j + 1] = (T)second[j];
  memcpy(out, pairs, 2 * sizeof(T) * count);
}

// Sixteen rows, ready to store one after another; colours follow later.
static inline void splat_rows(const Splat16& s, F16 radius_x, F16 radius_y, F16 log2_opacity, const int32_t* row,
                              F16 (&r)[16]) {
  // The inverse covariance [yy, -xy; -xy, xx] / det, times log2(e)/2, as a Cholesky factor.
  F16 half(0.5f * LOG2E), inverse = F16(1.0f) / s.det, yy_inverse = F16(1.0f) / s.yy;
  float ids[16];
  memcpy(ids, row, sizeof(ids));
  r[0] = s.u, r[1] = s.v;
  r[2] = sqrt(half * s.yy * inverse);
  r[3] = -(r[2] * s.xy * yy_inverse);
  r[4] = sqrt(half * yy_inverse);
  r[5] = log2_opacity;
  r[6] = r[7] = r[8] = F16(0.0f);
  r[9] = s.in_camera.z;
  r[10] = radius_x, r[11] = radius_y, r[12] = F16::load(ids);
  r[13] = s.opacity * s.compensation;
  r[14] = s.compensation, r[15] = F16(0.0f);
  transpose(r);
}

static inline void project_group(Frame& frame, const ProjectionInput& in, int64_t group, float* means2d, int32_t* radii) {
  int64_t begin = group * GROUP, end = begin + GROUP < in.n ? begin + GROUP : in.n;
  int32_t used = 0;
  for (int64_t i = begin; i < end; i += 16) {
    int32_t row[16];
    for (int j = 0; j < 16; ++j) row[j] = (int32_t)(i + j < end ? i + j : end - 1);
    Splat16 s;
    project16(in, row, s);
    F16 radius_x, radius_y, log2_opacity;
    M16 drawn = visible16(in, s, radius_x, radius_y, log2_opacity) & s.acceptable;
    int count = end - i < 16 ? (int)(end - i) : 16;
    uint32_t real = (1u << count) - 1, refused = ~bits(s.acceptable) & real, lanes = bits(drawn) & real;
    for (int j = 0; refused >> j; ++j)
      if (refused >> j & 1) report_bad(frame, i + j);
    write_pairs(keep(drawn, s.u), keep(drawn, s.v), count, means2d + 2 * i);
    F16 huge(1e9f);
    write_pairs(keep(drawn, min(radius_x, huge)), keep(drawn, min(radius_y, huge)), count, radii + 2 * i);
    if (!lanes) continue;
    TileRect rects[16];
    frame.tile_rects(s.u, s.v, radius_x, radius_y, rects);
    F16 rows[16];
    splat_rows(s, radius_x, radius_y, log2_opacity, row, rows);
    for (int j = 0; j < 16; ++j) {
      if (!(lanes >> j & 1)) continue;
      rows[j].store((float*)&frame.rows[begin + used]);
      frame.rects[begin + used++] = rects[j];
    }
  }
  frame.group_visible[group] = used;
  Row* rows = &frame.rows[begin];
  if (in.colors)
    color_rows_given(frame, rows, used, in.colors);
  else
    color_rows(frame, rows, used, in.means, in.center, in.sh, in.sh_stride, in.sh_count);
}

// Fill frame.rows; `means2d` [n,2] and `radii` [n,2] get zeros for Gaussians that are not drawn.
static void project(Frame& frame, const ProjectionInput& in, float* means2d, int32_t* radii) {
  frame.begin(in.n, in.width, in.height, in.max_alpha);
  Pool::instance().run(frame.groups(), [&](int64_t group, int) { project_group(frame, in, group, means2d, radii); });
}
