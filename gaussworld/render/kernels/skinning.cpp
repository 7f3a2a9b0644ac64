// Gaussians that hang on particles: blended, stretched, and given orthogonal axes again. dynamics/binding.py is the twin in
// PyTorch and says what is computed; gaussworld/render/kernels/__init__.py mirrors the declarations.
#include <cmath>
#include <cstdint>

#include "harmonics.h"
#include "pool.h"

#if defined(_WIN32)
#define GW_API extern "C" __declspec(dllexport)
#else
#define GW_API extern "C" __attribute__((visibility("default")))
#endif

struct SkinInput {
  int64_t n;              // Gaussians
  const float* points;    // (n, 3) at rest
  const float* axes;      // (n, 3, 3) at rest: columns are principal axes times standard deviations
  const float* quats;     // (n, 4) unit, at rest
  const int32_t* rows;    // (n, holds) particles, the nearest first
  const float* weights;   // (n, holds) that sum to 1
  const float* carriers;  // (particles, 16): gradient 3 x 3 by rows, shift, unit quaternion
  int32_t holds;
  int32_t sweeps;
  float round;            // columns this alike and this near to a right angle have no axes of their own
  float tiny;             // [m^2] below which lengths are not told apart
};

struct SkinOutput {
  float* means;       // (n, 3)
  float* quats;       // (n, 4)
  float* log_scales;  // (n, 3)
  float* turns;       // (n, 4)
};

struct ColorInput {
  int64_t n;
  const float* means;  // (n, 3)
  const float* turns;  // (n, 4) unit quaternions from rest to now
  const float* sh;     // (n, count, 3) at rest
  int32_t count;
  float center[3];     // of the camera
};

namespace {

constexpr int kLanes = 16, kBlock = 1024;
using Lane = float[kLanes];

// Two columns of every lane, turned in their own plane until they are at a right angle (one-sided Jacobi rotation).
void upright(Lane* a, Lane* b, float round, float tiny) {
  for (int l = 0; l < kLanes; ++l) {
    float size = tiny, apart = 0, dot = 0;
    for (int c = 0; c < 3; ++c) {
      size += a[c][l] * a[c][l] + b[c][l] * b[c][l];
      apart += (b[c][l] - a[c][l]) * (b[c][l] + a[c][l]);
      dot += a[c][l] * b[c][l];
    }
    apart /= size;
    dot /= size;
    float larger = std::fabs(apart) > std::fabs(dot) ? std::fabs(apart) : std::fabs(dot);
    bool alike = larger <= round;
    apart = alike ? 1.f : apart;
    dot = alike ? 0.f : dot;
    float sign = apart < 0 ? -1.f : 1.f;
    float tangent = 2 * dot * sign / (std::fabs(apart) + std::sqrt(apart * apart + 4 * dot * dot));
    float cosine = 1 / std::sqrt(1 + tangent * tangent), sine = cosine * tangent;
    for (int c = 0; c < 3; ++c) {
      float x = a[c][l], y = b[c][l];
      a[c][l] = cosine * x - sine * y;
      b[c][l] = sine * x + cosine * y;
    }
  }
}

// The sum of what a Gaussian's particles say; quaternions on the side of the nearest one's.
void blend(const SkinInput& in, int64_t i, float* mixed) {
  const int32_t* rows = in.rows + i * in.holds;
  const float* weights = in.weights + i * in.holds;
  const float* first = in.carriers + (int64_t)rows[0] * 16 + 12;
  for (int j = 0; j < 16; ++j) mixed[j] = 0;
  for (int k = 0; k < in.holds; ++k) {
    const float* held = in.carriers + (int64_t)rows[k] * 16;
    float w = weights[k], dot = 0;
    for (int j = 0; j < 4; ++j) dot += held[12 + j] * first[j];
    float signed_weight = dot < 0 ? -w : w;
    for (int j = 0; j < 12; ++j) mixed[j] += w * held[j];
    for (int j = 12; j < 16; ++j) mixed[j] += signed_weight * held[j];
  }
}

// Unit quaternions of rotations given as columns (Shepperd 1978), on the side of `before`.
void quaternion(const float m[3][3], const float* before, float* out) {
  float xx = m[0][0], yy = m[1][1], zz = m[2][2];
  float a = m[2][1] - m[1][2], b = m[0][2] - m[2][0], c = m[1][0] - m[0][1];
  float d = m[1][0] + m[0][1], e = m[0][2] + m[2][0], f = m[2][1] + m[1][2];
  float w = xx + yy + zz, x = xx - yy - zz, y = yy - xx - zz, z = zz - xx - yy;
  float q[4];
  if (w >= x && w >= y && w >= z) {
    q[0] = 1 + w, q[1] = a, q[2] = b, q[3] = c;
  } else if (x >= y && x >= z) {
    q[0] = a, q[1] = 1 + x, q[2] = d, q[3] = e;
  } else if (y >= z) {
    q[0] = b, q[1] = d, q[2] = 1 + y, q[3] = f;
  } else {
    q[0] = c, q[1] = e, q[2] = f, q[3] = 1 + z;
  }
  float norm = 1 / std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
  float dot = q[0] * before[0] + q[1] * before[1] + q[2] * before[2] + q[3] * before[3];
  if (dot < 0) norm = -norm;
  for (int j = 0; j < 4; ++j) out[j] = q[j] * norm;
}

void product(const float* a, const float* b, float* out) {
  out[0] = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3];
  out[1] = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2];
  out[2] = a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1];
  out[3] = a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0];
}

// Position and turn of one Gaussian; its stretched axes go into a lane.
void carry(const SkinInput& in, const SkinOutput& out, int64_t i, int lane, Lane columns[3][3]) {
  float mixed[16];
  blend(in, i, mixed);
  const float *point = in.points + 3 * i, *axes = in.axes + 9 * i;
  float norm = 0;
  for (int j = 12; j < 16; ++j) norm += mixed[j] * mixed[j];
  norm = 1 / std::sqrt(norm > 1e-36f ? norm : 1e-36f);
  for (int j = 0; j < 4; ++j) out.turns[4 * i + j] = mixed[12 + j] * norm;
  for (int r = 0; r < 3; ++r) {
    const float* g = mixed + 3 * r;
    out.means[3 * i + r] = g[0] * point[0] + g[1] * point[1] + g[2] * point[2] + mixed[9 + r];
    for (int c = 0; c < 3; ++c) columns[c][r][lane] = g[0] * axes[c] + g[1] * axes[3 + c] + g[2] * axes[6 + c];
  }
}

// Quaternion and log scales of one Gaussian, of its orthogonal axes in a lane.
void finish(const SkinInput& in, const SkinOutput& out, int64_t i, int lane, Lane columns[3][3]) {
  float m[3][3], before[4];
  for (int c = 0; c < 3; ++c) {
    float squared = in.tiny;
    for (int r = 0; r < 3; ++r) squared += columns[c][r][lane] * columns[c][r][lane];
    float inverse = 1 / std::sqrt(squared);
    out.log_scales[3 * i + c] = 0.5f * std::log(squared);
    for (int r = 0; r < 3; ++r) m[r][c] = columns[c][r][lane] * inverse;
  }
  float volume = m[0][2] * (m[1][0] * m[2][1] - m[2][0] * m[1][1]) + m[1][2] * (m[2][0] * m[0][1] - m[0][0] * m[2][1]) +
                 m[2][2] * (m[0][0] * m[1][1] - m[1][0] * m[0][1]);
  if (volume < 0)
    for (int r = 0; r < 3; ++r) m[r][2] = -m[r][2];
  product(out.turns + 4 * i, in.quats + 4 * i, before);
  quaternion(m, before, out.quats + 4 * i);
}

// The basis functions at a unit direction (the order and signs of gaussworld/sh.py), for one Gaussian.
void basis_at(float x, float y, float z, int count, float* b) {
  b[0] = SH_C0;
  if (count < 4) return;
  b[1] = -SH_C1 * y, b[2] = SH_C1 * z, b[3] = -SH_C1 * x;
  if (count < 9) return;
  float xx = x * x, yy = y * y, zz = z * z;
  b[4] = SH_C2[0] * x * y, b[5] = SH_C2[1] * y * z, b[6] = SH_C2[2] * (2 * zz - xx - yy);
  b[7] = SH_C2[3] * x * z, b[8] = SH_C2[4] * (xx - yy);
  if (count < 16) return;
  b[9] = SH_C3[0] * y * (3 * xx - yy), b[10] = SH_C3[1] * x * y * z, b[11] = SH_C3[2] * y * (4 * zz - xx - yy);
  b[12] = SH_C3[3] * z * (2 * zz - 3 * xx - 3 * yy), b[13] = SH_C3[4] * x * (4 * zz - xx - yy);
  b[14] = SH_C3[5] * z * (xx - yy), b[15] = SH_C3[6] * x * (xx - 3 * yy);
}

// What one Gaussian shows to an eye: the direction of view is turned back, its harmonics stay as they are.
void show(const ColorInput& in, int64_t i, float* color) {
  const float* q = in.turns + 4 * i;
  float d[3], t[3], norm = 0;
  for (int c = 0; c < 3; ++c) d[c] = in.means[3 * i + c] - in.center[c];
  // With u = -(q1, q2, q3): d + 2 q0 (u x d) + 2 u x (u x d).
  t[0] = -2 * (q[2] * d[2] - q[3] * d[1]), t[1] = -2 * (q[3] * d[0] - q[1] * d[2]), t[2] = -2 * (q[1] * d[1] - q[2] * d[0]);
  float x = d[0] + q[0] * t[0] - (q[2] * t[2] - q[3] * t[1]);
  float y = d[1] + q[0] * t[1] - (q[3] * t[0] - q[1] * t[2]);
  float z = d[2] + q[0] * t[2] - (q[1] * t[1] - q[2] * t[0]);
  norm = std::sqrt(x * x + y * y + z * z);
  // As torch.nn.functional.normalize: a Gaussian at the eye shows something finite.
  norm = 1 / (norm > 1e-12f ? norm : 1e-12f);
  float b[16];
  basis_at(x * norm, y * norm, z * norm, in.count, b);
  const float* sh = in.sh + (int64_t)3 * in.count * i;
  float sum[3] = {0.5f, 0.5f, 0.5f};
  for (int k = 0; k < in.count; ++k)
    for (int c = 0; c < 3; ++c) sum[c] += b[k] * sh[3 * k + c];
  for (int c = 0; c < 3; ++c) color[3 * i + c] = sum[c] < 0 ? 0 : sum[c];
}

}  // namespace

GW_API int gw_seen_colors(const ColorInput* input, float* colors) {
  const ColorInput& in = *input;
  try {
    Pool::instance().run((in.n + kBlock - 1) / kBlock, [&](int64_t block, int) {
      int64_t stop = std::min(in.n, (block + 1) * kBlock);
      for (int64_t i = block * kBlock; i < stop; ++i) show(in, i, colors);
    });
    return 0;
  } catch (...) {
    return 4;  // FAILED, as in kernels.cpp
  }
}

GW_API int gw_skin(const SkinInput* input, const SkinOutput* output) {
  const SkinInput& in = *input;
  try {
    Pool::instance().run((in.n + kBlock - 1) / kBlock, [&](int64_t block, int) {
      int64_t stop = std::min(in.n, (block + 1) * kBlock);
      for (int64_t start = block * kBlock; start < stop; start += kLanes) {
        Lane columns[3][3] = {};
        int count = (int)std::min<int64_t>(kLanes, stop - start);
        for (int l = 0; l < count; ++l) carry(in, *output, start + l, l, columns);
        for (int s = 0; s < in.sweeps; ++s) {
          upright(columns[0], columns[1], in.round, in.tiny);
          upright(columns[0], columns[2], in.round, in.tiny);
          upright(columns[1], columns[2], in.round, in.tiny);
        }
        for (int l = 0; l < count; ++l) finish(in, *output, start + l, l, columns);
      }
    });
    return 0;
  } catch (...) {
    return 4;  // FAILED, as in kernels.cpp
  }
}
