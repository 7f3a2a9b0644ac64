// F16 and M16 made of a few narrower registers: two of AVX2's, four of SSE2's or NEON's, or sixteen scalars.
//
// `Part` is one register with the operations below; the rest of this file spreads them over all parts.
#pragma once

#if defined(__AVX2__) && (defined(__FMA__) || defined(_MSC_VER))
#include "simd_avx2.h"
#elif defined(__SSE2__) || defined(_M_X64)
#include "simd_sse2.h"
#elif defined(__ARM_NEON) || defined(_M_ARM64)
#include "simd_neon.h"
#else
#error "no vector instruction set is known for this processor: build with wheel.cmake=false"
#endif

constexpr int PARTS = 16 / Part::LANES;

struct M16 {
  PartMask m[PARTS];
};

struct F16 {
  Part v[PARTS];
  F16() = default;
  explicit F16(float x) {
    for (auto& part : v) part = Part::broadcast(x);
  }
  static F16 load(const float* p) {
    F16 r;
    for (int i = 0; i < PARTS; ++i) r.v[i] = Part::load(p + i * Part::LANES);
    return r;
  }
  void store(float* p) const {
    for (int i = 0; i < PARTS; ++i) v[i].store(p + i * Part::LANES);
  }
  // Past the caches; `p` is aligned to 64 bytes, and fence() comes before another thread reads.
  void stream(float* p) const {
    for (int i = 0; i < PARTS; ++i) v[i].stream(p + i * Part::LANES);
  }
};

#define GW_SPREAD(R, NAME, PARAMS, CALL)         \
  static inline R NAME PARAMS {                  \
    R r;                                         \
    for (int i = 0; i < PARTS; ++i) CALL;        \
    return r;                                    \
  }
#define GW_BINARY(NAME, PART) GW_SPREAD(F16, NAME, (F16 a, F16 b), r.v[i] = PART(a.v[i], b.v[i]))
#define GW_UNARY(NAME, PART) GW_SPREAD(F16, NAME, (F16 a), r.v[i] = PART(a.v[i]))
#define GW_TERNARY(NAME, PART) GW_SPREAD(F16, NAME, (F16 a, F16 b, F16 c), r.v[i] = PART(a.v[i], b.v[i], c.v[i]))

GW_BINARY(operator+, part_add)
GW_BINARY(operator-, part_sub)
GW_BINARY(operator*, part_mul)
GW_BINARY(operator/, part_div)
GW_BINARY(min, part_min)
GW_BINARY(max, part_max)
GW_UNARY(sqrt, part_sqrt)
GW_UNARY(ceil, part_ceil)
GW_UNARY(approximate_reciprocal, part_reciprocal)
GW_UNARY(exp2_fast, part_exp2)
GW_TERNARY(fma, part_fma)
GW_TERNARY(fnma, part_fnma)
GW_SPREAD(F16, fms, (F16 a, F16 b, F16 c), r.v[i] = part_sub(part_mul(a.v[i], b.v[i]), c.v[i]))
GW_SPREAD(M16, less, (F16 a, F16 b), r.m[i] = part_less(a.v[i], b.v[i]))
GW_SPREAD(M16, less_equal, (F16 a, F16 b), r.m[i] = part_less_equal(a.v[i], b.v[i]))
GW_SPREAD(M16, operator&, (M16 a, M16 b), r.m[i] = part_and(a.m[i], b.m[i]))
GW_SPREAD(M16, operator|, (M16 a, M16 b), r.m[i] = part_or(a.m[i], b.m[i]))
GW_SPREAD(M16, without, (M16 a, M16 b), r.m[i] = part_without(a.m[i], b.m[i]))
GW_SPREAD(F16, select, (M16 m, F16 yes, F16 no), r.v[i] = part_select(m.m[i], yes.v[i], no.v[i]))
GW_SPREAD(F16, keep, (M16 m, F16 a), r.v[i] = part_keep(m.m[i], a.v[i]))
GW_SPREAD(M16, mask_from_bits, (uint32_t b), r.m[i] = part_mask(b >> (i * Part::LANES)))

static inline uint32_t bits(M16 a) {
  uint32_t r = 0;
  for (int i = 0; i < PARTS; ++i) r |= part_bits(a.m[i]) << (i * Part::LANES);
  return r;
}
static inline bool any(M16 a) { return bits(a) != 0; }

// Exponent e and mantissa m with a = m 2^e and m in [0.75, 1.5).
static inline void split_exponent(F16 a, F16& mantissa, F16& exponent) {
  float lanes[16], m[16], e[16];
  a.store(lanes);
  for (int i = 0; i < 16; ++i) {
    uint32_t u;
    memcpy(&u, &lanes[i], 4);
    int power = (int)(u >> 23) - 127;
    u = (u & 0x007fffffu) | 0x3f800000u;
    memcpy(&m[i], &u, 4);
    if (m[i] >= 1.5f) m[i] *= 0.5f, ++power;
    e[i] = (float)power;
  }
  mantissa = F16::load(m);
  exponent = F16::load(e);
}

// Write `base + lane` for the lanes set in `m`, in order; up to 16 slots past `out` may be overwritten.
static inline int compress_indices(M16 mask, uint32_t base, uint32_t* out) {
  uint32_t b = bits(mask);
  int count = 0;
  for (uint32_t lane = 0; b; ++lane, b >>= 1) {
    out[count] = base + lane;
    count += b & 1;
  }
  return count;
}

static inline void transpose(F16 (&r)[16]) {
  for (int row = 0; row < PARTS; ++row)
    for (int column = row; column < PARTS; ++column) {
      Part a[Part::LANES], b[Part::LANES];
      for (int i = 0; i < Part::LANES; ++i) {
        a[i] = r[row * Part::LANES + i].v[column];
        b[i] = r[column * Part::LANES + i].v[row];
      }
      part_transpose(a);
      part_transpose(b);
      for (int i = 0; i < Part::LANES; ++i) {
        r[column * Part::LANES + i].v[row] = a[i];
        r[row * Part::LANES + i].v[column] = b[i];
      }
    }
}
