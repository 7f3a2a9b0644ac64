// Points sorted into small cubes, and what is near them: the fast twin of gaussworld/selection; see parts.h too.
//
// Cubes have sides of the distance / sqrt(3), so all points of one are within the distance of each other, and a point within
// it lies at most REACH cubes away. Cubes are numbered so that neighbours along z have successive numbers; sorted, the cubes
// near those of a list are found by walking two lists at once. Distances are in double precision, summed in the order x, y, z,
// without fused multiply-adds: to the last bit as gaussworld/selection/cells.py has them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "pool.h"

constexpr int REACH = 2;
constexpr int64_t CUBES_PER_TASK = 2048, POINTS_PER_TASK = 1 << 14;
constexpr int DIGIT_BITS = 11;

// Not filled with zeros, unlike a vector.
template <class T>
static std::unique_ptr<T[]> room_for(int64_t count) {
  return std::unique_ptr<T[]>(new T[(size_t)std::max<int64_t>(count, 1)]);
}

// work(begin, end, number) over [0, count) in pieces of `size`.
template <class Work>
static void in_pieces(int64_t count, int64_t size, const Work& work) {
  Pool::instance().run((count + size - 1) / size,
                       [&](int64_t k, int) { work(k * size, std::min(count, (k + 1) * size), k); });
}

// A point to be sorted: the number of its cube and its row, in one number where both fit.
struct Packed {
  uint64_t both;

  static Packed of(uint64_t key, int64_t row, int row_bits) { return {key << row_bits | (uint64_t)row}; }
  uint64_t key(int row_bits) const { return both >> row_bits; }
  int64_t row(int row_bits) const { return (int64_t)(both & (((uint64_t)1 << row_bits) - 1)); }
};

struct Wide {
  uint64_t number;
  int64_t place;

  static Wide of(uint64_t key, int64_t row, int) { return {key, row}; }
  uint64_t key(int) const { return number; }
  int64_t row(int) const { return place; }
};

static int bits_of(uint64_t value) {
  int bits = 0;
  while (bits < 64 && value >> bits) ++bits;
  return bits;
}

// Sort by key, rows of equal keys in the order they have, digit by digit; `spare` is as large as `entries`. Returns where
// the result is.
template <class Entry>
static Entry* sorted(Entry* entries, Entry* spare, int64_t n, int key_bits, int row_bits) {
  int passes = (key_bits + DIGIT_BITS - 1) / DIGIT_BITS, width = passes ? (key_bits + passes - 1) / passes : 0;
  int64_t pieces = std::max<int64_t>(1, std::min<int64_t>(Pool::instance().threads(), n / POINTS_PER_TASK));
  int64_t size = (n + pieces - 1) / pieces, digits = (int64_t)1 << width;
  std::vector<int64_t> at((size_t)(pieces * digits));
  for (int pass = 0; pass < passes; ++pass) {
    auto digit = [&](const Entry& e) { return (int64_t)(e.key(row_bits) >> (pass * width)) & (digits - 1); };
    std::fill(at.begin(), at.end(), 0);
    in_pieces(n, size, [&](int64_t begin, int64_t end, int64_t piece) {
      int64_t* mine = at.data() + piece * digits;
      for (int64_t i = begin; i < end; ++i) ++mine[digit(entries[i])];
    });
    int64_t total = 0;
    for (int64_t d = 0; d < digits; ++d)
      for (int64_t piece = 0; piece < pieces; ++piece) {
        int64_t count = at[(size_t)(piece * digits + d)];
        at[(size_t)(piece * digits + d)] = total;
        total += count;
      }
    in_pieces(n, size, [&](int64_t begin, int64_t end, int64_t piece) {
      int64_t* mine = at.data() + piece * digits;
      for (int64_t i = begin; i < end; ++i) spare[mine[digit(entries[i])]++] = entries[i];
    });
    std::swap(entries, spare);
  }
  return entries;
}

// Smallest and largest coordinate of n > 0 points.
static void bounds(const float* points, int64_t n, float* low, float* high) {
  int64_t pieces = (n + POINTS_PER_TASK - 1) / POINTS_PER_TASK;
  std::vector<float> part((size_t)(6 * pieces));
  in_pieces(n, POINTS_PER_TASK, [&](int64_t begin, int64_t end, int64_t piece) {
    const float* p = points + 3 * begin;
    float box[6] = {p[0], p[1], p[2], p[0], p[1], p[2]};
    for (int64_t i = begin; i < end; ++i, p += 3)
      for (int k = 0; k < 3; ++k) {
        box[k] = std::min(box[k], p[k]);
        box[3 + k] = std::max(box[3 + k], p[k]);
      }
    memcpy(&part[(size_t)(6 * piece)], box, sizeof(box));
  });
  for (int k = 0; k < 3; ++k) {
    low[k] = part[(size_t)k], high[k] = part[(size_t)(3 + k)];
    for (int64_t piece = 1; piece < pieces; ++piece) {
      low[k] = std::min(low[k], part[(size_t)(6 * piece + k)]);
      high[k] = std::max(high[k], part[(size_t)(6 * piece + 3 + k)]);
    }
  }
}

// Numbers cubes of side 1 / inverse, from the low corner of the points.
struct Numbering {
  float low[3];
  double inverse;
  int64_t steps[2] = {1, 1};
  uint64_t largest = 0;

  // False where the numbers would not do: too many cubes from end to end, or places that are no numbers.
  bool fit(const float* points, int64_t n) {
    float high[3];
    bounds(points, n, low, high);
    double spans[3], product = 1;
    for (int k = 0; k < 3; ++k) {
      spans[k] = ((double)high[k] - (double)low[k]) * inverse + 2 + 2 * REACH;
      product *= spans[k];
    }
    if (!(product < 4611686018427387904.0)) return false;  // 2^62
    steps[0] = (int64_t)spans[1] * (int64_t)spans[2];
    steps[1] = (int64_t)spans[2];
    largest = (uint64_t)((int64_t)spans[0] * steps[0]);
    return true;
  }

  uint64_t operator()(const float* p) const {
    int64_t at[3];
    for (int k = 0; k < 3; ++k) {
      double along = ((double)p[k] - (double)low[k]) * inverse;
      at[k] = along >= 0 ? (int64_t)along : 0;  // not a number: anywhere
    }
    return (uint64_t)(at[0] * steps[0] + at[1] * steps[1] + at[2]);
  }
};

// What sorting n points into cubes gives: points and rows [n]; keys, starts and counts of the cubes, with room for n.
struct SortedCubes {
  float* points;
  int64_t *rows, *keys, *starts, *counts;
};

template <class Entry>
static int64_t fill_cubes(const float* points, int64_t n, const Numbering& number, int key_bits, int row_bits,
                          const SortedCubes& out) {
  auto first = room_for<Entry>(n), second = room_for<Entry>(n);
  in_pieces(n, POINTS_PER_TASK, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) first[i] = Entry::of(number(points + 3 * i), i, row_bits);
  });
  Entry* entries = sorted(first.get(), second.get(), n, key_bits, row_bits);
  auto begins = [&](int64_t i) { return i == 0 || entries[i].key(row_bits) != entries[i - 1].key(row_bits); };
  std::vector<int64_t> before((size_t)((n + POINTS_PER_TASK - 1) / POINTS_PER_TASK) + 1);
  in_pieces(n, POINTS_PER_TASK, [&](int64_t begin, int64_t end, int64_t piece) {
    int64_t found = 0;
    for (int64_t i = begin; i < end; ++i) {
      out.rows[i] = entries[i].row(row_bits);
      memcpy(out.points + 3 * i, points + 3 * out.rows[i], 3 * sizeof(float));
      found += begins(i);
    }
    before[(size_t)piece + 1] = found;
  });
  for (size_t k = 1; k < before.size(); ++k) before[k] += before[k - 1];
  in_pieces(n, POINTS_PER_TASK, [&](int64_t begin, int64_t end, int64_t piece) {
    int64_t cube = before[(size_t)piece];
    for (int64_t i = begin; i < end; ++i) {
      if (!begins(i)) continue;
      out.keys[cube] = (int64_t)entries[i].key(row_bits);
      out.starts[cube++] = i;
    }
  });
  int64_t cubes = before.back();
  for (int64_t c = 0; c < cubes; ++c) out.counts[c] = (c + 1 < cubes ? out.starts[c + 1] : n) - out.starts[c];
  return cubes;
}
// Sort n points into cubes of side 1 / inverse. Returns the number of cubes, or -1 where their numbers would not do; `steps`
// is what one step along x and along y adds to a key.
static int64_t sort_into_cubes(const float* points, int64_t n, double inverse, int64_t* steps, const SortedCubes& out) {
  if (n <= 0) return 0;
  Numbering number;
  number.inverse = inverse;
  if (!number.fit(points, n)) return -1;
  steps[0] = number.steps[0], steps[1] = number.steps[1];
  int key_bits = bits_of(number.largest), row_bits = bits_of((uint64_t)n);
  return key_bits + row_bits <= 64 ? fill_cubes<Packed>(points, n, number, key_bits, row_bits, out)
                                   : fill_cubes<Wide>(points, n, number, key_bits, row_bits, out);
}

// Cubes of a grid, by ascending key, with their points; mirrored in gaussworld/selection/compiled.py.
struct Cubes {
  const float* points;
  const int64_t *keys, *starts, *counts;
  int64_t size;
  int64_t steps[2];
  double distance;
};

struct Column {
  int x, y;
};

// Steps to the columns of cubes within reach, nearest first; the second half mirrors the first, (0, 0) is left out.
constexpr int HALF = 12, NEXT = 2;
constexpr Column COLUMNS[2 * HALF] = {
    {0, 1}, {1, 0}, {1, 1}, {1, -1}, {0, 2}, {2, 0}, {1, 2}, {1, -2}, {2, 1}, {2, -1}, {2, 2}, {2, -2},
    {0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-1, -2}, {-1, 2}, {-2, -1}, {-2, 1}, {-2, -2}, {-2, 2}};

// The first of keys[from, to), ascending, that is not below `wanted`; quick where it is near `from`.
static inline int64_t not_below(const int64_t* keys, int64_t from, int64_t to, int64_t wanted) {
  int64_t step = 1;
  for (int k = 0; k < 4; ++k, ++from)
    if (from >= to || keys[from] >= wanted) return from;
  while (from + step < to && keys[from + step] < wanted) from += step, step *= 2;
  return std::lower_bound(keys + from, keys + std::min(to, from + step), wanted) - keys;
}

// visit(i, j) for i in [begin, end) of `mine` and j in `theirs` with theirs[j] - mine[i] between low and high.
template <class Visit>
static inline void walk(const int64_t* mine, int64_t begin, int64_t end, const int64_t* theirs, int64_t size, int64_t low,
                        int64_t high, const Visit& visit) {
  if (begin >= end) return;
  int64_t at = std::lower_bound(theirs, theirs + size, mine[begin] + low) - theirs;
  for (int64_t i = begin; i < end && at < size;) {
    at = not_below(theirs, at, size, mine[i] + low);
    if (at == size) return;
    for (int64_t j = at; j < size && theirs[j] <= mine[i] + high; ++j) visit(i, j);
    ++i;
    if (i < end && mine[i] + high < theirs[at]) i = not_below(mine, i, end, theirs[at] - high);
  }
}

static inline double squared_distance(const float* a, const float* b) {
  double x = (double)a[0] - (double)b[0], y = (double)a[1] - (double)b[1], z = (double)a[2] - (double)b[2];
  return (x * x + y * y) + z * z;
}

// A box around points. Rounding is monotonic: `nearest` is never above, `farthest` never below the distance computed to any
// point inside, so that both decide exactly.
struct Box {
  float low[3], high[3];

  Box() {
    for (int k = 0; k < 3; ++k) low[k] = std::numeric_limits<float>::infinity(), high[k] = -low[k];
  }
  void add(const float* p) {
    for (int k = 0; k < 3; ++k) low[k] = std::min(low[k], p[k]), high[k] = std::max(high[k], p[k]);
  }
  double nearest(const float* p) const {
    double d[3];
    for (int k = 0; k < 3; ++k) d[k] = std::max({(double)low[k] - (double)p[k], (double)p[k] - (double)high[k], 0.0});
    return (d[0] * d[0] + d[1] * d[1]) + d[2] * d[2];
  }
  double farthest(const float* p) const {
    double d[3];
    for (int k = 0; k < 3; ++k) d[k] = std::max((double)p[k] - (double)low[k], (double)high[k] - (double)p[k]);
    return (d[0] * d[0] + d[1] * d[1]) + d[2] * d[2];
  }
};

// Cubes on one side of a question: their places among all, and their keys.
struct Side {
  std::vector<int64_t> cubes, keys;

  void add(const Cubes& c, int64_t cube) {
    cubes.push_back(cube);
    keys.push_back(c.keys[cube]);
  }
};

// Marks in `reached` the points within the distance of one that is `inside`; both one byte for each sorted point, 0 or 1.
static void reach(const Cubes& c, const uint8_t* inside, uint8_t* reached) {
  // Where there are more points than this, it pays to ask first where those inside are.
  constexpr int64_t MANY = 16;
  std::vector<Box> boxes((size_t)c.size);
  auto full = room_for<uint8_t>(c.size);
  in_pieces(c.size, CUBES_PER_TASK, [&](int64_t first, int64_t last, int64_t) {
    for (int64_t i = first; i < last; ++i) {
      int64_t begin = c.starts[i], end = begin + c.counts[i];
      full[i] = std::find(inside + begin, inside + end, 1) != inside + end;
      std::fill(reached + begin, reached + end, full[i]);
      for (int64_t p = begin; full[i] && c.counts[i] > MANY && p < end; ++p)
        if (inside[p]) boxes[(size_t)i].add(c.points + 3 * p);
    }
  });
  Side dry, wet;
  for (int64_t i = 0; i < c.size; ++i) (full[i] ? wet : dry).add(c, i);
  double limit = c.distance * c.distance;
  auto look = [&](int64_t i, int64_t j) {
    int64_t mine = dry.cubes[(size_t)i], theirs = wet.cubes[(size_t)j], from = c.starts[theirs], to = from + c.counts[theirs];
    for (int64_t p = c.starts[mine]; p < c.starts[mine] + c.counts[mine]; ++p) {
      const float* point = c.points + 3 * p;
      if (reached[p]) continue;
      if (c.counts[theirs] > MANY) {
        const Box& box = boxes[(size_t)theirs];
        if (box.nearest(point) > limit) continue;
        if ((reached[p] = box.farthest(point) <= limit)) continue;
      }
      for (int64_t q = from; q < to && !reached[p]; ++q)
        reached[p] = inside[q] && squared_distance(point, c.points + 3 * q) <= limit;
    }
  };
  in_pieces((int64_t)dry.cubes.size(), CUBES_PER_TASK, [&](int64_t begin, int64_t end, int64_t) {
    auto column = [&](int64_t shift) {
      walk(dry.keys.data(), begin, end, wet.keys.data(), (int64_t)wet.keys.size(), shift - REACH, shift + REACH, look);
    };
    column(0);
    for (const Column& at : COLUMNS) column(at.x * c.steps[0] + at.y * c.steps[1]);
  });
}
