// F16 and M16 on AVX-512: one register each.
#pragma once

#include <immintrin.h>

#define GW_ISA "avx512"

struct M16 {
  __mmask16 m;
};

struct F16 {
  __m512 v;
  F16() = default;
  F16(__m512 x) : v(x) {}
  explicit F16(float x) : v(_mm512_set1_ps(x)) {}
  static F16 load(const float* p) { return _mm512_loadu_ps(p); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  // Past the caches; `p` is aligned to 64 bytes, and fence() comes before another thread reads.
  void stream(float* p) const { _mm512_stream_ps(p, v); }
};

static inline void fence() { _mm_sfence(); }

static inline F16 operator+(F16 a, F16 b) { return _mm512_add_ps(a.v, b.v); }
static inline F16 operator-(F16 a, F16 b) { return _mm512_sub_ps(a.v, b.v); }
static inline F16 operator*(F16 a, F16 b) { return _mm512_mul_ps(a.v, b.v); }
static inline F16 operator/(F16 a, F16 b) { return _mm512_div_ps(a.v, b.v); }
static inline F16 fma(F16 a, F16 b, F16 c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }    // a b + c
static inline F16 fnma(F16 a, F16 b, F16 c) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }  // c - a b
static inline F16 fms(F16 a, F16 b, F16 c) { return _mm512_fmsub_ps(a.v, b.v, c.v); }    // a b - c
static inline F16 min(F16 a, F16 b) { return _mm512_min_ps(a.v, b.v); }
static inline F16 max(F16 a, F16 b) { return _mm512_max_ps(a.v, b.v); }
static inline F16 sqrt(F16 a) { return _mm512_sqrt_ps(a.v); }
static inline F16 ceil(F16 a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
static inline F16 approximate_reciprocal(F16 a) { return _mm512_rcp14_ps(a.v); }

static inline M16 less(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
static inline M16 less_equal(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
static inline M16 operator&(M16 a, M16 b) { return {(__mmask16)(a.m & b.m)}; }
static inline M16 operator|(M16 a, M16 b) { return {(__mmask16)(a.m | b.m)}; }
static inline M16 without(M16 a, M16 b) { return {(__mmask16)(a.m & ~b.m)}; }  // a and not b
static inline uint32_t bits(M16 a) { return a.m; }
static inline M16 mask_from_bits(uint32_t b) { return {(__mmask16)b}; }
static inline bool any(M16 a) { return a.m != 0; }
static inline F16 select(M16 m, F16 yes, F16 no) { return _mm512_mask_mov_ps(no.v, m.m, yes.v); }
static inline F16 keep(M16 m, F16 a) { return _mm512_maskz_mov_ps(m.m, a.v); }  // zero elsewhere

// 2^p for p whose result is a normal float: floor and fraction come from one instruction, scaling from another.
static inline F16 exp2_fast(F16 p) {
  __m512 f = _mm512_reduce_ps(p.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_set1_ps(0.00187757668f);
  r = _mm512_fmadd_ps(r, f, _mm512_set1_ps(0.008989340283f));
  r = _mm512_fmadd_ps(r, f, _mm512_set1_ps(0.05582631767f));
  r = _mm512_fmadd_ps(r, f, _mm512_set1_ps(0.2401536173f));
  r = _mm512_fmadd_ps(r, f, _mm512_set1_ps(0.6931530731f));
  r = _mm512_fmadd_ps(r, f, _mm512_set1_ps(0.9999999251f));
  return _mm512_scalef_ps(r, p.v);
}

// Exponent e and mantissa m with a = m 2^e and m in [0.75, 1.5).
static inline void split_exponent(F16 a, F16& mantissa, F16& exponent) {
  __m512 m = _mm512_getmant_ps(a.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src), e = _mm512_getexp_ps(a.v);
  __mmask16 high = _mm512_cmp_ps_mask(m, _mm512_set1_ps(1.5f), _CMP_GE_OQ);
  mantissa = _mm512_mask_mul_ps(m, high, m, _mm512_set1_ps(0.5f));
  exponent = _mm512_mask_add_ps(e, high, e, _mm512_set1_ps(1.0f));
}

// Write `base + lane` for the lanes set in `m`, in order; up to 16 slots past `out` may be overwritten.
static inline int compress_indices(M16 m, uint32_t base, uint32_t* out) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i index = _mm512_add_epi32(_mm512_set1_epi32((int)base), lanes);
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(m.m, index));
  return _mm_popcnt_u32(m.m);
}

static inline void transpose(F16 (&r)[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  __m512 s[16];
  for (int i = 0; i < 16; i += 4) {
    s[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    s[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    s[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    s[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(s[i], s[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0x88);
    t[i + 8] = _mm512_shuffle_f32x4(s[i], s[i + 4], 0xdd);
    t[i + 12] = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i].v = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
    r[i + 8].v = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
    r[i + 4].v = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
    r[i + 12].v = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
  }
}
