// One AVX2 register of eight floats.
#pragma once

#include <immintrin.h>

#define GW_ISA "avx2"

using PartMask = __m256;

struct Part {
  static constexpr int LANES = 8;
  __m256 v;
  Part() = default;
  Part(__m256 x) : v(x) {}
  static Part broadcast(float x) { return _mm256_set1_ps(x); }
  static Part load(const float* p) { return _mm256_loadu_ps(p); }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void stream(float* p) const { _mm256_stream_ps(p, v); }
};

static inline void fence() { _mm_sfence(); }

static inline Part part_add(Part a, Part b) { return _mm256_add_ps(a.v, b.v); }
static inline Part part_sub(Part a, Part b) { return _mm256_sub_ps(a.v, b.v); }
static inline Part part_mul(Part a, Part b) { return _mm256_mul_ps(a.v, b.v); }
static inline Part part_div(Part a, Part b) { return _mm256_div_ps(a.v, b.v); }
static inline Part part_min(Part a, Part b) { return _mm256_min_ps(a.v, b.v); }
static inline Part part_max(Part a, Part b) { return _mm256_max_ps(a.v, b.v); }
static inline Part part_sqrt(Part a) { return _mm256_sqrt_ps(a.v); }
static inline Part part_ceil(Part a) { return _mm256_ceil_ps(a.v); }
static inline Part part_reciprocal(Part a) { return _mm256_rcp_ps(a.v); }
static inline Part part_fma(Part a, Part b, Part c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
static inline Part part_fnma(Part a, Part b, Part c) { return _mm256_fnmadd_ps(a.v, b.v, c.v); }

static inline PartMask part_less(Part a, Part b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ); }
static inline PartMask part_less_equal(Part a, Part b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ); }
static inline PartMask part_and(PartMask a, PartMask b) { return _mm256_and_ps(a, b); }
static inline PartMask part_or(PartMask a, PartMask b) { return _mm256_or_ps(a, b); }
static inline PartMask part_without(PartMask a, PartMask b) { return _mm256_andnot_ps(b, a); }
static inline uint32_t part_bits(PartMask a) { return (uint32_t)_mm256_movemask_ps(a); }
static inline Part part_select(PartMask m, Part yes, Part no) { return _mm256_blendv_ps(no.v, yes.v, m); }
static inline Part part_keep(PartMask m, Part a) { return _mm256_and_ps(m, a.v); }
static inline PartMask part_mask(uint32_t b) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)b), lane), lane));
}

// 2^p; far below the range of float32 the clamp keeps the exponent field valid.
static inline Part part_exp2(Part p) {
  __m256 x = _mm256_max_ps(p.v, _mm256_set1_ps(-126.0f));
  __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 f = _mm256_sub_ps(x, n);
  __m256 r = _mm256_set1_ps(0.001327647203f);
  r = _mm256_fmadd_ps(r, f, _mm256_set1_ps(0.00967554148f));
  r = _mm256_fmadd_ps(r, f, _mm256_set1_ps(0.05550713275f));
  r = _mm256_fmadd_ps(r, f, _mm256_set1_ps(0.2402211972f));
  r = _mm256_fmadd_ps(r, f, _mm256_set1_ps(0.6931469671f));
  r = _mm256_fmadd_ps(r, f, _mm256_set1_ps(1.000000072f));
  __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(r), shift));
}

static inline void part_transpose(Part (&r)[8]) {
  __m256 t[8], s[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    s[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    s[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    s[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    s[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i].v = _mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
    r[i + 4].v = _mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
  }
}
