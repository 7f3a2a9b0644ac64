// One SSE2 register of four floats: what every x86-64 processor has.
#pragma once

#include <emmintrin.h>
#include <xmmintrin.h>

#define GW_ISA "sse2"

using PartMask = __m128;

struct Part {
  static constexpr int LANES = 4;
  __m128 v;
  Part() = default;
  Part(__m128 x) : v(x) {}
  static Part broadcast(float x) { return _mm_set1_ps(x); }
  static Part load(const float* p) { return _mm_loadu_ps(p); }
  void store(float* p) const { _mm_storeu_ps(p, v); }
  void stream(float* p) const { _mm_stream_ps(p, v); }
};

static inline void fence() { _mm_sfence(); }

static inline Part part_add(Part a, Part b) { return _mm_add_ps(a.v, b.v); }
static inline Part part_sub(Part a, Part b) { return _mm_sub_ps(a.v, b.v); }
static inline Part part_mul(Part a, Part b) { return _mm_mul_ps(a.v, b.v); }
static inline Part part_div(Part a, Part b) { return _mm_div_ps(a.v, b.v); }
static inline Part part_min(Part a, Part b) { return _mm_min_ps(a.v, b.v); }
static inline Part part_max(Part a, Part b) { return _mm_max_ps(a.v, b.v); }
static inline Part part_sqrt(Part a) { return _mm_sqrt_ps(a.v); }
static inline Part part_reciprocal(Part a) { return _mm_rcp_ps(a.v); }
static inline Part part_fma(Part a, Part b, Part c) { return _mm_add_ps(_mm_mul_ps(a.v, b.v), c.v); }
static inline Part part_fnma(Part a, Part b, Part c) { return _mm_sub_ps(c.v, _mm_mul_ps(a.v, b.v)); }

static inline PartMask part_less(Part a, Part b) { return _mm_cmplt_ps(a.v, b.v); }
static inline PartMask part_less_equal(Part a, Part b) { return _mm_cmple_ps(a.v, b.v); }
static inline PartMask part_and(PartMask a, PartMask b) { return _mm_and_ps(a, b); }
static inline PartMask part_or(PartMask a, PartMask b) { return _mm_or_ps(a, b); }
static inline PartMask part_without(PartMask a, PartMask b) { return _mm_andnot_ps(b, a); }
static inline uint32_t part_bits(PartMask a) { return (uint32_t)_mm_movemask_ps(a); }
static inline Part part_select(PartMask m, Part yes, Part no) {
  return _mm_or_ps(_mm_and_ps(m, yes.v), _mm_andnot_ps(m, no.v));
}
static inline Part part_keep(PartMask m, Part a) { return _mm_and_ps(m, a.v); }
static inline PartMask part_mask(uint32_t b) {
  const __m128i lane = _mm_setr_epi32(1, 2, 4, 8);
  return _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32((int)b), lane), lane));
}

// SSE2 cannot round up: truncate through integers and add one where that went down. Values beyond 2^31 have no fraction.
static inline Part part_ceil(Part a) {
  __m128 t = _mm_cvtepi32_ps(_mm_cvttps_epi32(a.v));
  t = _mm_add_ps(t, _mm_and_ps(_mm_cmplt_ps(t, a.v), _mm_set1_ps(1.0f)));
  return part_select(_mm_cmplt_ps(a.v, _mm_set1_ps(8388608.0f)), t, a);
}

// 2^p; far below the range of float32 the clamp keeps the exponent field valid.
static inline Part part_exp2(Part p) {
  __m128 x = _mm_max_ps(p.v, _mm_set1_ps(-126.0f));
  __m128i n = _mm_cvtps_epi32(x);
  __m128 f = _mm_sub_ps(x, _mm_cvtepi32_ps(n));
  __m128 r = _mm_set1_ps(0.001327647203f);
  for (float c : {0.00967554148f, 0.05550713275f, 0.2402211972f, 0.6931469671f, 1.000000072f})
    r = _mm_add_ps(_mm_mul_ps(r, f), _mm_set1_ps(c));
  return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(r), _mm_slli_epi32(n, 23)));
}

static inline void part_transpose(Part (&r)[4]) { _MM_TRANSPOSE4_PS(r[0].v, r[1].v, r[2].v, r[3].v); }
