// The derivative of the projection and of the colours, sixteen visible Gaussians at a time.
#pragma once

#include "projection.h"

// Gradients to write; sh and colors may be null. The layout is mirrored in __init__.py.
struct ProjectionGradient {
  const float* means2d;  // [n,2] in
  float *means, *quats, *log_scales, *opacity_logits, *sh, *colors;
  double camera[15];  // rotation 9, translation 3, center 3
};

struct CovarianceGradient {
  F16 xx, xy, yy;  // xy counts both off-diagonal entries
};

static inline CovarianceGradient covariance_gradient(const Splat16& s, const F16* moment, bool antialiased, F16 eps2d) {
  F16 inverse = F16(1.0f) / s.det, half(0.5f);
  F16 a = s.yy * inverse, b = -(s.xy * inverse), c = s.xx * inverse;
  // With g = dL/dlog(alpha) and P the inverse covariance, dL/dSigma = 1/2 P (sum g d d^T) P.
  F16 left0 = fma(a, moment[GXX], b * moment[GXY]), left1 = fma(a, moment[GXY], b * moment[GYY]);
  F16 right0 = fma(b, moment[GXX], c * moment[GXY]), right1 = fma(b, moment[GXY], c * moment[GYY]);
  CovarianceGradient v = {half * fma(left0, a, left1 * b), fma(left0, b, left1 * c), half * fma(right0, b, right1 * c)};
  if (antialiased) {
    // log(compensation) = (log det_before - log det) / 2.
    F16 g = half * moment[G], before = g / max(s.det_before, F16(1e-30f)), after = g * inverse;
    v.xx += (s.yy - eps2d) * before - s.yy * after;
    v.yy += (s.xx - eps2d) * before - s.xx * after;
    v.xy += F16(2.0f) * s.xy * (after - before);
  }
  return v;
}

struct SplatGradient {
  Vec3 mean, in_camera, w0, w1, w2;  // w: rows of camera_from_world's rotation
  F16 quat[4], log_scale[3], logit;
};

// Through M = T R S, T = J W: to the scales, the rotation's columns and T's rows.
static inline void factor_gradient(const Splat16& s, CovarianceGradient v, Vec3* v_axis, Vec3& v_t0, Vec3& v_t1,
                                   F16* v_log_scale) {
  F16 two(2.0f), zero(0.0f);
  v_t0 = v_t1 = {zero, zero, zero};
  for (int j = 0; j < 3; ++j) {
    F16 v_m0 = fma(two * v.xx, s.m0[j], v.xy * s.m1[j]), v_m1 = fma(two * v.yy, s.m1[j], v.xy * s.m0[j]);
    v_log_scale[j] = fma(v_m0, s.m0[j], v_m1 * s.m1[j]);
    v_m0 = v_m0 * s.scale[j], v_m1 = v_m1 * s.scale[j];
    v_axis[j] = axpy(v_m0, s.t0, s.t1 * v_m1);
    v_t0 = axpy(v_m0, s.axis[j], v_t0);
    v_t1 = axpy(v_m1, s.axis[j], v_t1);
  }
}

static inline void quat_gradient(const Splat16& s, const Vec3* v, F16* out) {
  F16 two(2.0f), four(4.0f);
  F16 w = s.w, x = s.x, y = s.y, z = s.z;
  // d R / d q of the unit quaternion; v[j] is the gradient of column j.
  F16 a = v[1].z - v[2].y, b = v[2].x - v[0].z, c = v[0].y - v[1].x;
  F16 d = v[0].y + v[1].x, e = v[2].x + v[0].z, f = v[1].z + v[2].y;
  F16 qw = two * fma(x, a, fma(y, b, z * c));
  F16 qx = two * fma(w, a, fma(y, d, z * e)) - four * x * (v[1].y + v[2].z);
  F16 qy = two * fma(w, b, fma(x, d, z * f)) - four * y * (v[0].x + v[2].z);
  F16 qz = two * fma(w, c, fma(x, e, y * f)) - four * z * (v[0].x + v[1].y);
  // Normalisation projects out the part along the quaternion itself.
  F16 along = fma(w, qw, fma(x, qx, fma(y, qy, z * qz)));
  out[0] = (qw - w * along) * s.inverse_length;
  out[1] = (qx - x * along) * s.inverse_length;
  out[2] = (qy - y * along) * s.inverse_length;
  out[3] = (qz - z * along) * s.inverse_length;
}

static inline void splat_gradient(const ProjectionInput& in, const Splat16& s, const F16* moment, F16 v_u, F16 v_v,
                                  SplatGradient& out) {
  CovarianceGradient v = covariance_gradient(s, moment, in.antialiased, F16(in.eps2d));
  Vec3 v_axis[3], v_t0, v_t1;
  factor_gradient(s, v, v_axis, v_t0, v_t1, out.log_scale);
  quat_gradient(s, v_axis, out.quat);
  out.logit = moment[G] * (F16(1.0f) - s.opacity);

  Vec3 w0 = constant(in.rotation), w1 = constant(in.rotation + 3), w2 = constant(in.rotation + 6);
  F16 fx(in.fx), fy(in.fy), z1 = s.inverse_z, z2 = z1 * z1, zero(0.0f), two(2.0f);
  F16 j00 = fx * z1, j11 = fy * z1, j02 = -(fx * s.tx * z2), j12 = -(fy * s.ty * z2);
  F16 v00 = dot(v_t0, w0), v02 = dot(v_t0, w2), v11 = dot(v_t1, w1), v12 = dot(v_t1, w2);
  out.w0 = v_t0 * j00, out.w1 = v_t1 * j11, out.w2 = axpy(j02, v_t0, v_t1 * j12);

  F16 x = s.in_camera.x, y = s.in_camera.y;
  Vec3 p;
  p.x = fma(v_u, j00, -keep(s.inside_x, v02 * fx * z2));
  p.y = fma(v_v, j11, -keep(s.inside_y, v12 * fy * z2));
  // j02 = -fx x / z^2 falls with z^-2 inside, but as -fx limit / z where x / z is clamped.
  F16 power_x = select(s.inside_x, two, F16(1.0f)), power_y = select(s.inside_y, two, F16(1.0f));
  p.z = moment[DEPTH] - fma(v_u * j00 * x, z1, v_v * j11 * y * z1) - fma(v00, j00, v11 * j11) * z1 -
        fma(power_x * v02, j02, power_y * v12 * j12) * z1;
  out.in_camera = p;
  out.mean = axpy(p.x, w0, axpy(p.y, w1, w2 * p.z));
}

// Colours: gradients of the coefficients (written to `v_c`) and of the direction, as a gradient of the mean.
static inline Vec3 color_gradient(const ProjectionInput& in, const Vec3& mean, const Row* const* lane, const F16* moment,
                                  F16 (&v_c)[48]) {
  F16 basis[16], c[48], v_basis[16], v_color[3];
  Vec3 to = axpy(F16(-1.0f), constant(in.center), mean);
  F16 inverse_length = F16(1.0f) / max(sqrt(dot(to, to)), F16(1e-12f));
  Vec3 d = to * inverse_length;
  F16 x = d.x, y = d.y, z = d.z;
  sh_basis(x, y, z, in.sh_count, basis);
  const float* coefficients[16];
  for (int j = 0; j < 16; ++j) coefficients[j] = in.sh + (int64_t)lane[j]->gaussian * in.sh_stride * 3;
  load_harmonics(coefficients, in.sh_count, c);
  for (int channel = 0; channel < 3; ++channel) {
    uint32_t hidden = 0;
    for (int j = 0; j < 16; ++j) hidden |= (lane[j]->clamped >> channel & 1) << j;
    v_color[channel] = keep(mask_from_bits(~hidden & 0xffff), moment[RED + channel]);
  }
  for (int k = 0; k < in.sh_count; ++k) {
    v_basis[k] = fma(v_color[0], c[3 * k], fma(v_color[1], c[3 * k + 1], v_color[2] * c[3 * k + 2]));
    for (int channel = 0; channel < 3; ++channel) v_c[3 * k + channel] = basis[k] * v_color[channel];
  }
  Vec3 v;
  sh_basis_backward(x, y, z, in.sh_count, v_basis, v.x, v.y, v.z);
  return axpy(-dot(v, d), d, v) * inverse_length;
}

// Gradients of everything but the colour, as sixteen rows: mean 3, quaternion 4, log scale 3, logit 1.
static inline void write_geometry(const Vec3& mean, const SplatGradient& g, const int32_t* row, int count,
                                  const ProjectionGradient& v) {
  F16 r[16] = {mean.x, mean.y, mean.z, g.quat[0], g.quat[1], g.quat[2], g.quat[3],
               g.log_scale[0], g.log_scale[1], g.log_scale[2], g.logit, g.logit, g.logit, g.logit, g.logit, g.logit};
  transpose(r);
  for (int i = 0; i < count; ++i) {
    float lane[16];
    r[i].store(lane);
    int64_t at = row[i];
    memcpy(v.means + 3 * at, lane, 3 * sizeof(float));
    memcpy(v.quats + 4 * at, lane + 3, 4 * sizeof(float));
    memcpy(v.log_scales + 3 * at, lane + 7, 3 * sizeof(float));
    v.opacity_logits[at] = lane[10];
  }
}

static inline void write_colors(const F16* moment, const int32_t* row, int count, float* colors) {
  float lanes[3][16];
  for (int k = 0; k < 3; ++k) moment[RED + k].store(lanes[k]);
  for (int i = 0; i < count; ++i)
    for (int k = 0; k < 3; ++k) colors[3 * (int64_t)row[i] + k] = lanes[k][i];
}

static inline void write_harmonics(F16 (&v_c)[48], const ProjectionInput& in, const int32_t* row, int count, float* out) {
  int floats = 3 * in.sh_count, stride = 3 * in.sh_stride;
  for (int base = 0; base < stride; base += 16) {
    F16 block[16];
    for (int k = 0; k < 16; ++k) block[k] = base + k < floats ? v_c[base + k] : F16(0.0f);
    transpose(block);
    int width = stride - base < 16 ? stride - base : 16;
    for (int i = 0; i < count; ++i) {
      float* to = out + (int64_t)row[i] * stride + base;
      float lanes[16];
      block[i].store(width == 16 ? to : lanes);
      if (width < 16) memcpy(to, lanes, sizeof(float) * width);
    }
  }
}

// Gaussians that were not drawn have no gradient.
static void clear_unseen(const Frame& f, const ProjectionInput& in, const ProjectionGradient& v, int64_t group) {
  int64_t begin = group * GROUP, end = std::min(in.n, begin + GROUP);
  int32_t next = 0, used = f.group_visible[group];
  auto clear = [](float* data, int64_t i, int width) {
    if (data) memset(data + i * width, 0, sizeof(float) * width);
  };
  for (int64_t i = begin; i < end; ++i) {
    if (next < used && f.rows[begin + next].gaussian == i) {
      ++next;
      continue;
    }
    clear(v.means, i, 3), clear(v.quats, i, 4), clear(v.log_scales, i, 3), clear(v.opacity_logits, i, 1);
    clear(v.sh, i, 3 * in.sh_stride), clear(v.colors, i, 3);
  }
}

static void project_group_backward(const Frame& f, const ProjectionInput& in, const ProjectionGradient& v, int64_t group,
                                   double* camera) {
  F16 totals[15];
  for (auto& total : totals) total = F16(0.0f);
  clear_unseen(f, in, v, group);
  int64_t begin = group * GROUP;
  int32_t used = f.group_visible[group];
  for (int32_t i = 0; i < used; i += 16) {
    int count = used - i < 16 ? used - i : 16;
    int32_t row[16];
    const Row* lane[16];
    F16 moment[16];
    for (int j = 0; j < 16; ++j) {
      int64_t slot = begin + (j < count ? i + j : i);
      lane[j] = &f.rows[slot];
      row[j] = lane[j]->gaussian;
      // Lanes past the end compute with zero gradients.
      moment[j] = j < count ? F16::load(f.moments.data() + 16 * slot) : F16(0.0f);
    }
    transpose(moment);
    float uv[2][16] = {{0}, {0}};
    for (int j = 0; j < count; ++j) uv[0][j] = v.means2d[2 * (int64_t)row[j]], uv[1][j] = v.means2d[2 * (int64_t)row[j] + 1];
    Splat16 s;
    project16(in, row, s);
    SplatGradient out;
    splat_gradient(in, s, moment, F16::load(uv[0]), F16::load(uv[1]), out);
    Vec3 v_direction = {F16(0.0f), F16(0.0f), F16(0.0f)};
    if (!in.colors) {
      F16 v_c[48];
      v_direction = color_gradient(in, s.mean, lane, moment, v_c);
      if (v.sh) write_harmonics(v_c, in, row, count, v.sh);
    } else {
      if (v.colors) write_colors(moment, row, count, v.colors);
    }
    write_geometry(out.mean + v_direction, out, row, count, v);
    Vec3 rows[3] = {axpy(out.in_camera.x, s.mean, out.w0), axpy(out.in_camera.y, s.mean, out.w1),
                    axpy(out.in_camera.z, s.mean, out.w2)};
    F16 sums[15] = {rows[0].x, rows[0].y, rows[0].z, rows[1].x, rows[1].y, rows[1].z, rows[2].x, rows[2].y, rows[2].z,
                    out.in_camera.x, out.in_camera.y, out.in_camera.z, -v_direction.x, -v_direction.y, -v_direction.z};
    for (int k = 0; k < 15; ++k) totals[k] += sums[k];
  }
  for (int k = 0; k < 15; ++k) camera[k] = sum(totals[k]);
}

static void project_backward(Frame& f, const ProjectionInput& in, ProjectionGradient& v) {
  int64_t groups = f.groups();
  double* partial = f.camera_sums.need((size_t)groups * 15);
  Pool::instance().run(groups, [&](int64_t group, int) { project_group_backward(f, in, v, group, partial + 15 * group); });
  for (int k = 0; k < 15; ++k) {
    v.camera[k] = 0;
    for (int64_t g = 0; g < groups; ++g) v.camera[k] += partial[15 * g + k];
  }
}
