// What bodies do to each other within a substep: contacts of points with ground, tools and distance fields, and the speeds that
// all of them allow together. dynamics/physics/{touch,contact,bodies}.py is the twin in PyTorch, with gradients, and says what is
// computed; gaussworld/render/kernels/__init__.py mirrors the declarations.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pool.h"

#if defined(_WIN32)
#define GW_API extern "C" __declspec(dllexport)
#else
#define GW_API extern "C" __attribute__((visibility("default")))
#endif

// A world; nothing here changes while it moves. Parameters have a batch axis of `guesses`, which is 1 or the batch.
struct ContactWorld {
  const float* volumes;        // (parts, res, res, res, 4): distance [m] and its gradient, at (z, y, x)
  const float* low;            // (parts, 3) [m] of the volumes
  const float* high;           // (parts, 3)
  const float* masses;         // (guesses, parts) [kg]
  const float* frictions;      // (guesses, parts)
  const float* tool_frictions; // (guesses, tools)
  const float* patches;        // (guesses)
  const float* heights;        // (grounds) [m], the highest first
  const float* grounds;        // (grounds) friction
  const int32_t* outlines;     // (grounds) where the planes of each patch begin; the last patch has none
  const float* planes;         // (planes, 3) inward normal and offset
  const float* radii;          // (points) [m] of the tools' points
  const int64_t* owners;       // (points) the tools that they belong to
  int32_t parts, guesses, tools, patch_count, resolution, points;
  float depth;        // [m] what is lower than this below a patch is beside it
  float sunk;         // [m] also what has its middle lower than this below a patch went over its edge
  float stiffness;    // of contacts, times substep squared over mass
  float stick;        // [m/s]
  float recovery;     // [m/s]
  float settled;      // [m/s, rad/s] iterations end when no speed changes by more
  int32_t iterations; // for each bound of friction
  int32_t rounds;
};

// A part at one moment.
struct ContactFrame {
  const float* pose;    // (batch, 4, 4)
  const float* center;  // (batch, 3) [m]
  const float* spread;  // (batch, 6, size), or null where `first` says which of the speeds are the twist
  const float* arms;    // (n, 3) [m] particles from the centre of mass, in the part's axes
  int64_t count;        // of the particles
  int32_t first;        // of the six speeds; -1 without such
  int32_t slot;         // among the rigid parts, or -1
};

// Rigid parts that go on for a substep.
struct FlightStep {
  int64_t batch;
  const float* centers;    // (batch, rigid, 3) [m] of mass
  const float* turns;      // (batch, rigid, 4)
  const float* twists;     // (batch, rigid, 6) before the substep
  const float* rotations;  // (batch, rigid, 3, 3)
  const float* speeds;     // (batch, size) that contact allows
  const uint8_t* touched;  // (batch, rigid)
  const float* inertias;   // (rigid, 3, 3) in the parts' axes
  const float* inverses;   // (rigid, 3, 3)
  float* new_centers;
  float* new_turns;
  float* new_twists;
  float* new_rotations;
  int32_t rigid, size;
  float h;  // [s]
};

enum ContactKind { GROUND = 0, TOOLS = 1, PART = 2 };

struct ContactList {
  const uint8_t* near;  // (batch, count) which of the points may touch, or null for all
  const float* share;   // (batch, points) 0 where a tool does not push, or null
  int64_t count;        // of the part's particles, or of the tools' points
  int32_t kind, part, other;
  int32_t pushes_other; // whether `other` moves
};

struct ContactStep {
  int64_t batch;
  const float* matrix;  // (batch, size, size) masses
  const float* start;   // (batch, size) speeds without contact
  const float* guess;   // (batch, size)
  const float* points;  // (batch, points, 3) [m] of the tools
  const float* drifts;  // (batch, points, 3) [m/s]
  const ContactFrame* frames;
  const ContactList* lists;
  const float* extras;  // (5, batch, size): damping, dry, low, high, stiffness; or null
  float* speeds;        // (batch, size)
  uint8_t* touched;     // (batch, rigid) parts that something but the ground touches
  int32_t size, count, rigid;
  float h;              // [s]
};

namespace {

constexpr int kLanes = 16, kSums = 43;
using Lane = float[kLanes];
enum Column { NX, NY, NZ, MX, MY, MZ, AX, AY, AZ, DX, DY, DZ, WANTED, ALONG, FRICTION, BOUND, SHARE, MET, COLUMNS };

// The points of one contact of one sample, in blocks of lanes.
struct Points {
  std::vector<float> values;  // (blocks, COLUMNS, kLanes)
  int64_t blocks = 0;
  float stiffness = 0;
  bool level = false, identity = false;
  std::vector<double> spread;  // (6, size)
  std::vector<int64_t> rows;   // of the points that may touch

  void choose(const uint8_t* near, int64_t count) {
    rows.clear();
    for (int64_t i = 0; i < count; ++i)
      if (!near || near[i]) rows.push_back(i);
    reset((int64_t)rows.size());
  }
  void reset(int64_t count) {
    blocks = (count + kLanes - 1) / kLanes;
    values.assign((size_t)(blocks * COLUMNS * kLanes), 0.f);
    // Lanes that no point fills want nothing.
    for (int64_t b = 0; b < blocks; ++b)
      for (int l = 0; l < kLanes; ++l) block(b)[WANTED * kLanes + l] = -1e9f;
  }
  float* block(int64_t b) { return values.data() + b * COLUMNS * kLanes; }
  float* lane(int64_t i) { return block(i / kLanes) + i % kLanes; }
};

struct Workspace {
  std::vector<Points> points;
  std::vector<double> total, base, force, speeds, start, back;
};

void turned(const float* pose, const float* v, float* out) {
  for (int r = 0; r < 3; ++r) out[r] = pose[4 * r] * v[0] + pose[4 * r + 1] * v[1] + pose[4 * r + 2] * v[2];
}

void local(const float* pose, const float* p, float* out) {
  float d[3] = {p[0] - pose[3], p[1] - pose[7], p[2] - pose[11]};
  for (int c = 0; c < 3; ++c) out[c] = pose[c] * d[0] + pose[4 + c] * d[1] + pose[8 + c] * d[2];
}

// Signed distance and outward normal at a point of a part's frame (`FieldLookup`).
float distance(const ContactWorld& in, int part, const float* point, float* normal) {
  const float *low = in.low + 3 * part, *high = in.high + 3 * part;
  int res = in.resolution, cell[3];
  float weight[3], away = 0;
  for (int c = 0; c < 3; ++c) {
    float inside = std::fmin(std::fmax(point[c], low[c]), high[c]);
    away += (point[c] - inside) * (point[c] - inside);
    float at = (inside - low[c]) / (high[c] - low[c]) * (res - 1);
    int whole = (int)at;
    cell[c] = whole < 0 ? 0 : whole > res - 2 ? res - 2 : whole;
    weight[c] = at - cell[c];
  }
  const float* volume = in.volumes + (int64_t)part * res * res * res * 4;
  float found[4] = {0, 0, 0, 0};
  for (int corner = 0; corner < 8; ++corner) {
    int x = corner & 1, y = corner >> 1 & 1, z = corner >> 2;
    float w = (x ? weight[0] : 1 - weight[0]) * (y ? weight[1] : 1 - weight[1]) * (z ? weight[2] : 1 - weight[2]);
    const float* value = volume + 4 * (((int64_t)(cell[2] + z) * res + cell[1] + y) * res + cell[0] + x);
    for (int c = 0; c < 4; ++c) found[c] += w * value[c];
  }
  float length = std::sqrt(found[1] * found[1] + found[2] * found[2] + found[3] * found[3] + 1e-12f);
  for (int c = 0; c < 3; ++c) normal[c] = found[1 + c] / length;
  return found[0] + std::sqrt(away);
}

// Height over what would carry a point, and the friction of that (`GroundLookup`).
float height(const ContactWorld& in, const float* p, float middle, float* friction) {
  int found = in.patch_count - 1;
  for (int g = 0; g + 1 < in.patch_count; ++g) {
    bool over = p[2] > in.heights[g] - in.depth && middle > in.heights[g] - in.sunk;
    for (int32_t k = in.outlines[g]; over && k < in.outlines[g + 1]; ++k) {
      const float* plane = in.planes + 3 * k;
      over = plane[0] * p[0] + plane[1] * p[1] >= plane[2];
    }
    if (over) {
      found = g;
      break;
    }
  }
  *friction = in.grounds[found];
  return p[2] - in.heights[found];
}

struct Sample {
  const ContactWorld& in;
  const ContactStep& step;
  int64_t row;    // of the batch
  int64_t guess;  // of the parameters
  Workspace& work;

  float wanted(float gap) const { return std::fmin(-gap / step.h, in.recovery); }

  void set(float* lane, const float* arm, const float* normal, float gap, float friction) const {
    for (int c = 0; c < 3; ++c) lane[(NX + c) * kLanes] = normal[c], lane[(AX + c) * kLanes] = arm[c];
    lane[MX * kLanes] = arm[1] * normal[2] - arm[2] * normal[1];
    lane[MY * kLanes] = arm[2] * normal[0] - arm[0] * normal[2];
    lane[MZ * kLanes] = arm[0] * normal[1] - arm[1] * normal[0];
    lane[WANTED * kLanes] = wanted(gap);
    lane[FRICTION * kLanes] = std::sqrt(friction + 1e-12f);
    lane[SHARE * kLanes] = 1;
  }

  void on_ground(const ContactList& list, Points& out) const {
    const ContactFrame& frame = step.frames[list.part];
    const float *pose = frame.pose + 16 * row, *center = frame.center + 3 * row, up[3] = {0, 0, 1};
    float own = in.frictions[guess * in.parts + list.part], patch = in.patches[guess];
    out.stiffness = 0.1f * in.stiffness * in.masses[guess * in.parts + list.part];
    for (int64_t i = 0; i < (int64_t)out.rows.size(); ++i) {
      float arm[3], point[3], friction;
      turned(pose, frame.arms + 3 * out.rows[i], arm);
      for (int c = 0; c < 3; ++c) point[c] = arm[c] + center[c];
      float gap = height(in, point, center[2], &friction), *lane = out.lane(i);
      set(lane, arm, up, gap, own * friction);
      lane[AX * kLanes] *= patch, lane[AY * kLanes] *= patch;
    }
  }

  void on_tools(const ContactList& list, Points& out) const {
    const ContactFrame& frame = step.frames[list.part];
    const float *pose = frame.pose + 16 * row, *center = frame.center + 3 * row;
    float own = in.frictions[guess * in.parts + list.part];
    out.stiffness = in.stiffness * in.masses[guess * in.parts + list.part];
    for (int64_t i = 0; i < (int64_t)out.rows.size(); ++i) {
      int64_t k = out.rows[i];
      const float *point = step.points + 3 * (row * in.points + k), *drift = step.drifts + 3 * (row * in.points + k);
      float at[3], slope[3], normal[3], arm[3], *lane = out.lane(i);
      local(pose, point, at);
      float apart = distance(in, list.part, at, slope);
      turned(pose, slope, normal);
      for (int c = 0; c < 3; ++c) normal[c] = -normal[c], arm[c] = point[c] + normal[c] * apart - center[c];
      set(lane, arm, normal, apart - in.radii[k], own * in.tool_frictions[guess * in.tools + in.owners[k]]);
      for (int c = 0; c < 3; ++c) lane[(DX + c) * kLanes] = drift[c], lane[ALONG * kLanes] += normal[c] * drift[c];
      if (list.share) lane[SHARE * kLanes] = list.share[row * in.points + k];
    }
  }

  void on_part(const ContactList& list, Points& out) const {
    const ContactFrame &frame = step.frames[list.part], &of = step.frames[list.other];
    const float *pose = frame.pose + 16 * row, *center = frame.center + 3 * row, *other = of.pose + 16 * row;
    const float *masses = in.masses + guess * in.parts, *frictions = in.frictions + guess * in.parts;
    float mass = masses[list.part];
    if (list.pushes_other) mass = mass * masses[list.other] / (mass + masses[list.other]);
    out.stiffness = in.stiffness * mass;
    for (int64_t i = 0; i < (int64_t)out.rows.size(); ++i) {
      float arm[3], point[3], at[3], slope[3], normal[3];
      turned(pose, frame.arms + 3 * out.rows[i], arm);
      for (int c = 0; c < 3; ++c) point[c] = arm[c] + center[c];
      local(other, point, at);
      float gap = distance(in, list.other, at, slope);
      turned(other, slope, normal);
      set(out.lane(i), arm, normal, gap, frictions[list.part] * frictions[list.other]);
    }
  }

  // The (6, size) map from all speeds to a part's twist about its centre, added with a sign to `out`.
  void add_spread(int part, double sign, const float* towards, double* out) const {
    const ContactFrame& frame = step.frames[part];
    int d = step.size;
    float apart[3] = {0, 0, 0};
    if (towards)
      for (int c = 0; c < 3; ++c) apart[c] = towards[c] - frame.center[3 * row + c];
    for (int j = 0; j < d; ++j) {
      double column[6] = {0, 0, 0, 0, 0, 0};
      if (frame.spread) {
        for (int r = 0; r < 6; ++r) column[r] = frame.spread[(row * 6 + r) * d + j];
      } else if (frame.first >= 0 && j >= frame.first && j < frame.first + 6) {
        column[j - frame.first] = 1;
      }
      const double* w = column + 3;
      column[0] += w[1] * apart[2] - w[2] * apart[1];
      column[1] += w[2] * apart[0] - w[0] * apart[2];
      column[2] += w[0] * apart[1] - w[1] * apart[0];
      for (int r = 0; r < 6; ++r) out[r * d + j] += sign * column[r];
    }
  }

  void relative(const Points& points, const double* speeds, float* twist) const {
    int d = step.size;
    for (int r = 0; r < 6; ++r) {
      double sum = 0;
      if (points.identity) sum = speeds[r];
      else
        for (int j = 0; j < d; ++j) sum += points.spread[r * d + j] * speeds[j];
      twist[r] = (float)sum;
    }
  }

  void prepare(const ContactList& list, Points& out) {
    int d = step.size;
    out.choose(list.near ? list.near + row * list.count : nullptr, list.count);
    out.level = list.kind == GROUND;
    if (list.kind == GROUND) on_ground(list, out);
    else if (list.kind == TOOLS) on_tools(list, out);
    else on_part(list, out);
    const ContactFrame& frame = step.frames[list.part];
    out.identity = d == 6 && frame.first == 0 && !(list.kind == PART && list.pushes_other);
    if (!out.identity) {
      out.spread.assign((size_t)(6 * d), 0);
      add_spread(list.part, 1, nullptr, out.spread.data());
      if (list.kind == PART && list.pushes_other) add_spread(list.other, -1, frame.center + 3 * row, out.spread.data());
    }
    float twist[6];
    relative(out, work.start.data(), twist);
    for (int64_t b = 0; b < out.blocks; ++b) {
      float* v = out.block(b);
      for (int l = 0; l < kLanes; ++l) {
        float inside = std::fmax(v[WANTED * kLanes + l], 0.f) * out.stiffness * v[SHARE * kLanes + l];
        v[MET * kLanes + l] = pressure(out, v, l, twist) > 0;
        v[BOUND * kLanes + l] = inside;
      }
    }
  }

  static float along(const float* v, int l, const float* t) {
    return v[NX * kLanes + l] * t[0] + v[NY * kLanes + l] * t[1] + v[NZ * kLanes + l] * t[2] + v[MX * kLanes + l] * t[3] +
           v[MY * kLanes + l] * t[4] + v[MZ * kLanes + l] * t[5] - v[ALONG * kLanes + l];
  }

  static float pressure(const Points& points, const float* v, int l, const float* t) {
    float over = v[WANTED * kLanes + l] - along(v, l, t);
    return points.stiffness * (over > 0 ? over : 0) * v[SHARE * kLanes + l];
  }

  void rebound(Points& points) const {
    float twist[6];
    relative(points, work.speeds.data(), twist);
    for (int64_t b = 0; b < points.blocks; ++b) {
      float* v = points.block(b);
      for (int l = 0; l < kLanes; ++l) v[BOUND * kLanes + l] = pressure(points, v, l, twist);
    }
  }

  // What a block of points does at a relative twist: how hard it holds, presses, and where to. Loops over lanes alone, so that
  // the compiler makes one instruction of each.
  struct Acting {
    Lane holding, excess, drive;
  };

  void act(const Points& points, float* v, const float* t, Acting& out) const {
    float stick = in.stick * in.stick, stiffness = points.stiffness, flat = points.level ? 0.f : 1.f;
    for (int l = 0; l < kLanes; ++l) {
      float ax = v[AX * kLanes + l], ay = v[AY * kLanes + l], az = v[AZ * kLanes + l];
      float share = v[SHARE * kLanes + l], want = v[WANTED * kLanes + l], speed = along(v, l, t);
      float x = t[0] + t[4] * az - t[5] * ay - v[DX * kLanes + l];
      float y = t[1] + t[5] * ax - t[3] * az - v[DY * kLanes + l];
      float z = t[2] + t[3] * ay - t[4] * ax - v[DZ * kLanes + l];
      float across = x * x + y * y + flat * (z * z - speed * speed);
      across = across > 0.f ? across : 0.f;
      float holding = v[FRICTION * kLanes + l] * v[BOUND * kLanes + l] / std::sqrt(across + stick);
      float push = (want - speed) * share > 0.f ? 1.f : v[MET * kLanes + l];
      float pushing = stiffness * push * share, excess = pushing - flat * holding;
      out.holding[l] = holding;
      out.excess[l] = excess;
      out.drive[l] = pushing * want + excess * v[ALONG * kLanes + l];
      v[MET * kLanes + l] = 0.f;
    }
  }

  static void gather(float* sum, const float* a, const float* b) {
    for (int l = 0; l < kLanes; ++l) sum[l] += a[l] * b[l];
  }

  static void times(float* out, const float* a, const float* b) {
    for (int l = 0; l < kLanes; ++l) out[l] = a[l] * b[l];
  }

  // 0-20 rows x rows, 21-30 moments of the friction, 31-36 push, 37-42 drag; see `Linearised.system`.
  void sums(Points& points, const float* t, double* out) const {
    Lane acc[kSums] = {}, weighted;
    for (int64_t b = 0; b < points.blocks; ++b) {
      float* v = points.block(b);
      Acting acting;
      act(points, v, t, acting);
      // The rows of upright normals have three places that are not zero.
      int k = 0, first = points.level ? 2 : 0, last = points.level ? 5 : 6;
      for (int r = 0; r < 6; ++r) {
        if (r < first || r >= last) {
          k += 6 - r;
          continue;
        }
        times(weighted, acting.excess, v + (NX + r) * kLanes);
        for (int c = r; c < 6; ++c) gather(acc[k++], weighted, v + (NX + c) * kLanes);
        gather(acc[31 + r], acting.drive, v + (NX + r) * kLanes);
      }
      const float* arms[3] = {v + AX * kLanes, v + AY * kLanes, v + AZ * kLanes};
      Lane held[3];
      for (int l = 0; l < kLanes; ++l) acc[21][l] += acting.holding[l];
      for (int c = 0; c < 3; ++c) {
        times(held[c], acting.holding, arms[c]);
        for (int l = 0; l < kLanes; ++l) acc[22 + c][l] += held[c][l];
        gather(acc[25 + c], held[c], arms[c]);
      }
      gather(acc[28], held[0], arms[1]);
      gather(acc[29], held[0], arms[2]);
      gather(acc[30], held[1], arms[2]);
      if (points.level) continue;
      const float* drifts[3] = {v + DX * kLanes, v + DY * kLanes, v + DZ * kLanes};
      for (int c = 0; c < 3; ++c) {
        int e = (c + 1) % 3, f = (c + 2) % 3;
        gather(acc[37 + c], acting.holding, drifts[c]);
        for (int l = 0; l < kLanes; ++l) acc[40 + c][l] += held[e][l] * drifts[f][l] - held[f][l] * drifts[e][l];
      }
    }
    for (int k = 0; k < kSums; ++k) {
      double sum = 0;
      for (int l = 0; l < kLanes; ++l) sum += acc[k][l];
      out[k] = sum;
    }
  }

  // Matrix (6, 6) and vector (6) of one contact at the speeds there are.
  void system(Points& points, double block[6][6], double* vector) const {
    float twist[6];
    double s[kSums];
    relative(points, work.speeds.data(), twist);
    sums(points, twist, s);
    int k = 0;
    for (int r = 0; r < 6; ++r)
      for (int c = r; c < 6; ++c) block[r][c] = block[c][r] = s[k++];
    // The sum of G^T P G over points, with G = [1, -[a]x] and P the plane, or all of space.
    double up = points.level ? 0 : 1;
    const double *a = s + 22, *aa = s + 25, *cross = s + 28;
    double extra[6][6] = {};
    extra[0][0] = extra[1][1] = s[21], extra[2][2] = up * s[21];
    extra[0][4] = a[2], extra[0][5] = -a[1], extra[1][3] = -a[2], extra[1][5] = a[0];
    extra[2][3] = up * a[1], extra[2][4] = -up * a[0];
    extra[3][3] = aa[2] + up * aa[1], extra[4][4] = aa[2] + up * aa[0], extra[5][5] = aa[0] + aa[1];
    extra[3][4] = -up * cross[0], extra[3][5] = -cross[1], extra[4][5] = -cross[2];
    for (int r = 0; r < 6; ++r) {
      vector[r] = s[31 + r] + s[37 + r];
      for (int c = r; c < 6; ++c) {
        block[r][c] += extra[r][c];
        if (c > r) block[c][r] = block[r][c];
      }
    }
  }

  void add(Points& points) {
    int d = step.size;
    double block[6][6], vector[6];
    system(points, block, vector);
    if (points.identity) {
      for (int r = 0; r < 6; ++r)
        for (int c = 0; c < 6; ++c) {
          work.total[r * d + c] += block[r][c];
          vector[r] -= block[r][c] * work.start[c];
        }
      for (int r = 0; r < 6; ++r) work.force[r] += vector[r];
      return;
    }
    const double* spread = points.spread.data();
    work.back.assign((size_t)(6 * d), 0);  // block @ spread
    for (int r = 0; r < 6; ++r)
      for (int c = 0; c < 6; ++c)
        for (int j = 0; j < d; ++j) work.back[r * d + j] += block[r][c] * spread[c * d + j];
    for (int r = 0; r < 6; ++r)
      for (int j = 0; j < d; ++j) vector[r] -= work.back[r * d + j] * work.start[j];
    for (int i = 0; i < d; ++i)
      for (int r = 0; r < 6; ++r) {
        double s = spread[r * d + i];
        if (s == 0) continue;
        work.force[i] += s * vector[r];
        for (int j = 0; j < d; ++j) work.total[i * d + j] += s * work.back[r * d + j];
      }
  }

  // Damping, dry friction and limits of joints (`Extras`).
  void add_extras() {
    int d = step.size;
    const float* column[5];
    for (int k = 0; k < 5; ++k) column[k] = step.extras + (k * step.batch + row) * d;
    for (int j = 0; j < d; ++j) {
      double speed = work.speeds[j], stick = in.stick;
      double under = speed < column[2][j] ? column[4][j] : 0, over = speed > column[3][j] ? column[4][j] : 0;
      double held = column[0][j] + column[1][j] / std::sqrt(speed * speed + stick * stick) + under + over;
      double low = column[2][j] > -1e6f ? column[2][j] : -1e6, high = column[3][j] < 1e6f ? column[3][j] : 1e6;
      work.total[j * d + j] += held;
      work.force[j] += under * low + over * high - held * work.start[j];
    }
  }

  // The answer of total x = force, in place of the force, by Cholesky's factors.
  void cholesky() {
    int d = step.size;
    double *m = work.total.data(), *x = work.force.data();
    for (int j = 0; j < d; ++j) {
      double pivot = m[j * d + j];
      for (int k = 0; k < j; ++k) pivot -= m[j * d + k] * m[j * d + k];
      pivot = std::sqrt(pivot > 1e-30 ? pivot : 1e-30);
      m[j * d + j] = pivot;
      for (int i = j + 1; i < d; ++i) {
        double sum = m[i * d + j];
        for (int k = 0; k < j; ++k) sum -= m[i * d + k] * m[j * d + k];
        m[i * d + j] = sum / pivot;
      }
    }
    for (int i = 0; i < d; ++i) {
      for (int k = 0; k < i; ++k) x[i] -= m[i * d + k] * x[k];
      x[i] /= m[i * d + i];
    }
    for (int i = d - 1; i >= 0; --i) {
      for (int k = i + 1; k < d; ++k) x[i] -= m[k * d + i] * x[k];
      x[i] /= m[i * d + i];
    }
  }

  // One step of Newton's method; how much the speeds changed by it.
  double iterate() {
    int d = step.size;
    work.total = work.base;
    work.force.assign((size_t)d, 0);
    for (int c = 0; c < step.count; ++c) add(work.points[c]);
    if (step.extras) add_extras();
    cholesky();
    double change = 0;
    for (int j = 0; j < d; ++j) {
      double speed = work.start[j] + work.force[j];
      change = std::fmax(change, std::fabs(speed - work.speeds[j]));
      work.speeds[j] = speed;
    }
    return change;
  }

  void solve() {
    int d = step.size;
    work.start.assign(step.start + row * d, step.start + (row + 1) * d);
    work.speeds.assign(step.guess + row * d, step.guess + (row + 1) * d);
    work.base.assign(step.matrix + row * d * d, step.matrix + (row + 1) * d * d);
    if ((int)work.points.size() < step.count) work.points.resize(step.count);
    for (int c = 0; c < step.count; ++c) prepare(step.lists[c], work.points[c]);
    for (int round = 0; round < in.rounds; ++round) {
      if (round)
        for (int c = 0; c < step.count; ++c) rebound(work.points[c]);
      for (int k = 0; k < in.iterations; ++k)
        // The very first knows only what was met without contact: it cannot tell whether all is said.
        if (iterate() < in.settled && (round || k)) break;
    }
    for (int j = 0; j < d; ++j) step.speeds[row * d + j] = (float)work.speeds[j];
    for (int c = 0; c < step.count; ++c) mark(step.lists[c], work.points[c]);
  }

  void mark(const ContactList& list, Points& points) const {
    if (points.level) return;
    bool pressed = false;
    for (int64_t i = 0; i < (int64_t)points.rows.size() && !pressed; ++i) pressed = points.lane(i)[BOUND * kLanes] > 0;
    if (!pressed) return;
    uint8_t* touched = step.touched + row * step.rigid;
    int slot = step.frames[list.part].slot;
    if (slot >= 0) touched[slot] = 1;
    if (list.kind != PART || !list.pushes_other) return;
    slot = step.frames[list.other].slot;
    if (slot >= 0) touched[slot] = 1;
  }
};

void multiply(const double* m, const double* v, double* out) {
  for (int r = 0; r < 3; ++r) out[r] = m[3 * r] * v[0] + m[3 * r + 1] * v[1] + m[3 * r + 2] * v[2];
}

void multiply_transposed(const double* m, const double* v, double* out) {
  for (int r = 0; r < 3; ++r) out[r] = m[r] * v[0] + m[3 + r] * v[1] + m[6 + r] * v[2];
}

void matrix_of(const double* q, double* m) {
  double n = 1 / (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), w = q[0], x = q[1], y = q[2], z = q[3];
  m[0] = (w * w + x * x - y * y - z * z) * n, m[1] = 2 * (x * y - w * z) * n, m[2] = 2 * (x * z + w * y) * n;
  m[3] = 2 * (x * y + w * z) * n, m[4] = (w * w - x * x + y * y - z * z) * n, m[5] = 2 * (y * z - w * x) * n;
  m[6] = 2 * (x * z - w * y) * n, m[7] = 2 * (y * z + w * x) * n, m[8] = (w * w - x * x - y * y + z * z) * n;
}

// A unit quaternion after a further turn by a rotation vector in the world's axes.
void turn_by(const double* q, const double* by, double* out) {
  double angle = std::sqrt(by[0] * by[0] + by[1] * by[1] + by[2] * by[2] + 1e-24);
  double w = std::cos(angle / 2), k = std::sin(angle / 2) / angle, x = k * by[0], y = k * by[1], z = k * by[2];
  out[0] = w * q[0] - x * q[1] - y * q[2] - z * q[3];
  out[1] = w * q[1] + x * q[0] + y * q[3] - z * q[2];
  out[2] = w * q[2] - x * q[3] + y * q[0] + z * q[1];
  out[3] = w * q[3] + x * q[2] - y * q[1] + z * q[0];
  double n = 1 / std::sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2] + out[3] * out[3]);
  for (int c = 0; c < 4; ++c) out[c] *= n;
}

// One rigid part (`Bodies.moved`): its angular momentum stays what it is.
void fly(const FlightStep& step, int64_t sample, int part) {
  int64_t at = sample * step.rigid + part;
  const float *twist = step.twists + 6 * at, *speed = step.speeds + sample * step.size + 6 * part;
  double q[4], old[9], inertia[9], inverse[9], mean[6], spin[3], momentum[3], world[3];
  for (int c = 0; c < 4; ++c) q[c] = step.turns[4 * at + c];
  for (int c = 0; c < 9; ++c) {
    old[c] = step.rotations[9 * at + c];
    inertia[c] = step.inertias[9 * part + c], inverse[c] = step.inverses[9 * part + c];
  }
  for (int c = 0; c < 6; ++c) mean[c] = speed[c];
  if (!step.touched[at])
    for (int c : {0, 1, 5}) mean[c] += ((double)twist[c] - speed[c]) / 2;
  double now[3] = {speed[3], speed[4], speed[5]};
  multiply_transposed(old, now, spin);
  multiply(inertia, spin, momentum);
  multiply(old, momentum, world);
  // Angular velocity in the world at another rotation, as a change, so that rounding does not add up.
  auto spun = [&](const double* rotation, double* out) {
    double own[3], mine[3], lacking[3], change[3];
    multiply_transposed(rotation, world, own);
    multiply(inertia, spin, mine);
    for (int c = 0; c < 3; ++c) lacking[c] = own[c] - mine[c];
    multiply(inverse, lacking, change);
    for (int c = 0; c < 3; ++c) change[c] += spin[c];
    multiply(rotation, change, out);
  };
  double by[3], half[4], rotation[9], rate[3], turn[4];
  for (int c = 0; c < 3; ++c) by[c] = mean[3 + c] * step.h / 2;
  turn_by(q, by, half);
  matrix_of(half, rotation);
  spun(rotation, rate);
  for (int c = 0; c < 3; ++c) by[c] = (rate[c] + mean[3 + c] - now[c]) * step.h;
  turn_by(q, by, turn);
  matrix_of(turn, rotation);
  spun(rotation, rate);
  for (int c = 0; c < 3; ++c) {
    step.new_centers[3 * at + c] = (float)(step.centers[3 * at + c] + step.h * mean[c]);
    step.new_twists[6 * at + c] = speed[c], step.new_twists[6 * at + 3 + c] = (float)rate[c];
  }
  for (int c = 0; c < 4; ++c) step.new_turns[4 * at + c] = (float)turn[c];
  for (int c = 0; c < 9; ++c) step.new_rotations[9 * at + c] = (float)rotation[c];
}

}  // namespace

GW_API int gw_flight(const FlightStep* step) {
  for (int64_t sample = 0; sample < step->batch; ++sample)
    for (int part = 0; part < step->rigid; ++part) fly(*step, sample, part);
  return 0;
}

GW_API int gw_contacts(const ContactWorld* world, const ContactStep* step) {
  try {
    constexpr int64_t block = 4;
    Pool::instance().run((step->batch + block - 1) / block, [&](int64_t first, int) {
      static thread_local Workspace work;
      for (int64_t row = first * block; row < std::min(step->batch, (first + 1) * block); ++row) {
        Sample sample{*world, *step, row, world->guesses > 1 ? row : 0, work};
        sample.solve();
      }
    });
    return 0;
  } catch (...) {
    return 4;  // FAILED, as in kernels.cpp
  }
}
