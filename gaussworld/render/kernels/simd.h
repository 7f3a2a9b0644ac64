// Sixteen float lanes (F16) and sixteen lane masks (M16), the same names for every instruction set.
//
// The library is compiled once per instruction set with different compiler flags; this header picks the widest one the
// flags allow. AVX-512 holds sixteen lanes in one register; the others hold them in a few (see simd_wide.h). Algorithms are
// written once, in terms of the names below, and read the same everywhere.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "simd_avx512.h"
#else
#include "simd_wide.h"
#endif

// What every instruction set shares, built from its primitives.

static inline F16 operator-(F16 a) { return F16(0.0f) - a; }
static inline F16& operator+=(F16& a, F16 b) { return a = a + b; }
static inline F16 floor(F16 a) { return -ceil(-a); }
static inline F16 abs(F16 a) { return max(a, -a); }
static inline F16 clamp(F16 a, F16 low, F16 high) { return min(max(a, low), high); }

// 1 / a to about 1e-7 relative: the approximate reciprocal and one Newton step.
static inline F16 reciprocal(F16 a) {
  F16 r = approximate_reciprocal(a);
  return r * fnma(a, r, F16(2.0f));
}

// 2^p to 1e-7 relative; p is clamped to the exponents that float32 has.
static inline F16 exp2_clamped(F16 p) { return exp2_fast(clamp(p, F16(-126.0f), F16(127.0f))); }

static inline F16 exp_clamped(F16 x) { return exp2_clamped(x * F16(1.44269504089f)); }

static inline float sum(F16 a) {
  float lanes[16];
  a.store(lanes);
  float total = 0;
  for (int i = 0; i < 16; ++i) total += lanes[i];
  return total;
}

// log2(a) of positive normal numbers: a = m 2^e with m in [0.75, 1.5), and log2(m) / (m - 1) as a polynomial.
static inline F16 log2_positive(F16 a) {
  F16 m, e;
  split_exponent(a, m, e);
  F16 x = m - F16(1.0f);
  F16 r(-0.0643443442f);
  for (float c : {0.1506671976f, -0.1902785488f, 0.2091009938f, -0.2401481007f, 0.2883840368f, -0.3606748548f,
                  0.4809007724f, -0.7213475374f, 1.442695035f})
    r = fma(r, x, F16(c));
  return fma(r, x, e);
}

// Ask for a cache line; any address is allowed.
static inline void prefetch(const void* address) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address);
#else
  (void)address;
#endif
}
