// One NEON register of four floats (64-bit Arm).
#pragma once

#include <arm_neon.h>

#define GW_ISA "neon"

using PartMask = uint32x4_t;

struct Part {
  static constexpr int LANES = 4;
  float32x4_t v;
  Part() = default;
  Part(float32x4_t x) : v(x) {}
  static Part broadcast(float x) { return vdupq_n_f32(x); }
  static Part load(const float* p) { return vld1q_f32(p); }
  void store(float* p) const { vst1q_f32(p, v); }
  void stream(float* p) const { vst1q_f32(p, v); }  // no such store among the intrinsics
};

static inline void fence() {}

static inline Part part_add(Part a, Part b) { return vaddq_f32(a.v, b.v); }
static inline Part part_sub(Part a, Part b) { return vsubq_f32(a.v, b.v); }
static inline Part part_mul(Part a, Part b) { return vmulq_f32(a.v, b.v); }
static inline Part part_div(Part a, Part b) { return vdivq_f32(a.v, b.v); }
static inline Part part_min(Part a, Part b) { return vminq_f32(a.v, b.v); }
static inline Part part_max(Part a, Part b) { return vmaxq_f32(a.v, b.v); }
static inline Part part_sqrt(Part a) { return vsqrtq_f32(a.v); }
static inline Part part_ceil(Part a) { return vrndpq_f32(a.v); }
// The estimate has 8 bits; one step here and one in reciprocal() give float32's 24.
static inline Part part_reciprocal(Part a) {
  float32x4_t r = vrecpeq_f32(a.v);
  return vmulq_f32(r, vrecpsq_f32(a.v, r));
}
static inline Part part_fma(Part a, Part b, Part c) { return vfmaq_f32(c.v, a.v, b.v); }
static inline Part part_fnma(Part a, Part b, Part c) { return vfmsq_f32(c.v, a.v, b.v); }

static inline PartMask part_less(Part a, Part b) { return vcltq_f32(a.v, b.v); }
static inline PartMask part_less_equal(Part a, Part b) { return vcleq_f32(a.v, b.v); }
static inline PartMask part_and(PartMask a, PartMask b) { return vandq_u32(a, b); }
static inline PartMask part_or(PartMask a, PartMask b) { return vorrq_u32(a, b); }
static inline PartMask part_without(PartMask a, PartMask b) { return vbicq_u32(a, b); }
static inline uint32x4_t part_lane_bits() {
  const uint32_t lanes[4] = {1, 2, 4, 8};
  return vld1q_u32(lanes);
}
static inline uint32_t part_bits(PartMask a) { return vaddvq_u32(vandq_u32(a, part_lane_bits())); }
static inline Part part_select(PartMask m, Part yes, Part no) { return vbslq_f32(m, yes.v, no.v); }
static inline Part part_keep(PartMask m, Part a) {
  return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(a.v)));
}
static inline PartMask part_mask(uint32_t b) { return vtstq_u32(vdupq_n_u32(b), part_lane_bits()); }

// 2^p; far below the range of float32 the clamp keeps the exponent field valid.
static inline Part part_exp2(Part p) {
  float32x4_t x = vmaxq_f32(p.v, vdupq_n_f32(-126.0f));
  int32x4_t n = vcvtnq_s32_f32(x);
  float32x4_t f = vsubq_f32(x, vcvtq_f32_s32(n));
  float32x4_t r = vdupq_n_f32(0.001327647203f);
  for (float c : {0.00967554148f, 0.05550713275f, 0.2402211972f, 0.6931469671f, 1.000000072f})
    r = vfmaq_f32(vdupq_n_f32(c), r, f);
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(r), vshlq_n_s32(n, 23)));
}

static inline void part_transpose(Part (&r)[4]) {
  float32x4x2_t a = vtrnq_f32(r[0].v, r[1].v), b = vtrnq_f32(r[2].v, r[3].v);
  r[0].v = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  r[1].v = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  r[2].v = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  r[3].v = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}
