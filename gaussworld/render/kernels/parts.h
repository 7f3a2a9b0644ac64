// What hangs together: the connected parts of points sorted into cubes, found by threads together.
#pragma once

#include "cells.h"

static bool any_within(const float* a, int64_t na, const float* b, int64_t nb, double limit) {
  for (int64_t i = 0; i < na; ++i)
    for (int64_t j = 0; j < nb; ++j)
      if (squared_distance(a + 3 * i, b + 3 * j) <= limit) return true;
  return false;
}

// The points of `a` that are within the limit of the box of `b`.
static std::vector<float> facing(const float* a, int64_t na, const float* b, int64_t nb, double limit) {
  Box box;
  for (int64_t j = 0; j < nb; ++j) box.add(b + 3 * j);
  std::vector<float> kept;
  for (int64_t i = 0; i < na; ++i)
    if (box.nearest(a + 3 * i) <= limit) kept.insert(kept.end(), a + 3 * i, a + 3 * i + 3);
  return kept;
}

// Whether a point of cube i is within the distance of one of cube j.
static bool touch(const Cubes& c, int64_t i, int64_t j, double limit) {
  const float *a = c.points + 3 * c.starts[i], *b = c.points + 3 * c.starts[j];
  int64_t na = c.counts[i], nb = c.counts[j];
  if (na * nb <= 256) return any_within(a, na, b, nb, limit);
  // Mostly the first points tell; where they do not, two clumps may be just out of reach.
  if (any_within(a, std::min<int64_t>(na, 8), b, std::min<int64_t>(nb, 8), limit)) return true;
  std::vector<float> near_b = facing(a, na, b, nb, limit);
  if (near_b.empty()) return false;
  std::vector<float> near_a = facing(b, nb, near_b.data(), (int64_t)near_b.size() / 3, limit);
  return any_within(near_b.data(), (int64_t)near_b.size() / 3, near_a.data(), (int64_t)near_a.size() / 3, limit);
}

// Sets that threads join at the same time, without locks (Anderson and Woll 1991). A set is named by its least member, so
// the names do not depend on who joined first.
class Sets {
 public:
  explicit Sets(int64_t size) : parent_(new std::atomic<int32_t>[(size_t)std::max<int64_t>(size, 1)]) {
    for (int64_t i = 0; i < size; ++i) parent_[(size_t)i].store((int32_t)i, std::memory_order_relaxed);
  }

  int32_t find(int32_t i) {
    while (true) {
      int32_t up = get(i), top = get(up);
      if (up == top) return up;
      // Only ever from one ancestor to another, and never at a root: what others join meanwhile is not undone.
      parent_[(size_t)i].store(top, std::memory_order_relaxed);
      i = top;
    }
  }

  void join(int32_t a, int32_t b) {
    while ((a = find(a)) != (b = find(b))) {
      if (a < b) std::swap(a, b);
      int32_t root = a;
      if (parent_[(size_t)a].compare_exchange_strong(root, b, std::memory_order_relaxed)) return;
    }
  }

 private:
  int32_t get(int32_t i) const { return parent_[(size_t)i].load(std::memory_order_relaxed); }

  std::unique_ptr<std::atomic<int32_t>[]> parent_;
};

// Cubes by the block of 4 x 4 x 4 they lie in, which is at least REACH wide: a hashed table of the set that all cubes of a
// block belong to, or MIXED.
class Blocks {
 public:
  static constexpr int32_t NONE = -1, MIXED = -2;

  Blocks(const Cubes& c, const std::vector<int32_t>& sets) : cubes_(c) {
    steps_[1] = c.steps[1] / 4 + 3;
    steps_[0] = steps_[1] * (c.steps[0] / c.steps[1] / 4 + 3);
    // At most half full: looking for what is not there has to end.
    int64_t size = 64;
    while (size < 2 * c.size) size *= 2;
    slots_.resize((size_t)size);
    numbers_ = room_for<int64_t>(c.size);
    in_pieces(c.size, CUBES_PER_TASK, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t i = begin; i < end; ++i) numbers_[i] = number(c.keys[i]);
    });
    for (int64_t i = 0; i < c.size; ++i) {
      Slot& slot = slots_[find(numbers_[i])];
      int32_t set = sets[(size_t)i];
      if (slot.set == NONE) slot = {numbers_[i], set, false};
      if (slot.set != set) slot.set = MIXED;
    }
    in_pieces(size, CUBES_PER_TASK, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t k = begin; k < end; ++k) slots_[(size_t)k].calm = is_calm(slots_[(size_t)k]);
    });
  }

  // Whether all cubes within reach of this one belong to its set.
  bool calm(int64_t cube) const { return slots_[find(numbers_[cube])].calm; }

 private:
  struct Slot {
    int64_t block = 0;
    int32_t set = NONE;
    bool calm = false;
  };

  int64_t number(int64_t key) const {
    int64_t x = key / cubes_.steps[0], rest = key - x * cubes_.steps[0], y = rest / cubes_.steps[1];
    int64_t z = rest - y * cubes_.steps[1];
    return (x / 4 + 1) * steps_[0] + (y / 4 + 1) * steps_[1] + z / 4 + 1;
  }

  // The slot of a block, or the empty one where it would be.
  size_t find(int64_t block) const {
    size_t at = (size_t)(((uint64_t)block * 0x9e3779b97f4a7c15u) >> 20);
    for (;; ++at) {
      const Slot& slot = slots_[at &= slots_.size() - 1];
      if (slot.set == NONE || slot.block == block) return at;
    }
  }

  bool is_calm(const Slot& slot) const {
    if (slot.set < 0) return false;
    for (int64_t x = -1; x <= 1; ++x)
      for (int64_t y = -1; y <= 1; ++y)
        for (int64_t z = -1; z <= 1; ++z) {
          int32_t set = slots_[find(slot.block + x * steps_[0] + y * steps_[1] + z)].set;
          if (set != NONE && set != slot.set) return false;
        }
    return true;
  }

  const Cubes& cubes_;
  int64_t steps_[2];
  std::vector<Slot> slots_;
  std::unique_ptr<int64_t[]> numbers_;
};

// The set of each cube, and those cubes that have to be compared with all around them: where sets meet, outside the largest
// one; or in all of them, where that is less work.
struct Rest {
  std::vector<int32_t> sets;
  std::vector<int64_t> cubes, keys;
  bool all = false;

  Rest(const Cubes& c, Sets& joined) : sets((size_t)c.size) {
    std::vector<int32_t> sizes((size_t)c.size);
    for (int64_t i = 0; i < c.size; ++i) ++sizes[(size_t)(sets[(size_t)i] = joined.find((int32_t)i))];
    int32_t largest = (int32_t)(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
    if (sizes[(size_t)largest] == c.size) return;
    Blocks blocks(c, sets);
    // With all cubes on this side, half of the columns do.
    all = 2 * (int64_t)sizes[(size_t)largest] < c.size;
    for (int64_t i = 0; i < c.size; ++i) {
      if ((sets[(size_t)i] == largest && !all) || blocks.calm(i)) continue;
      cubes.push_back(i);
      keys.push_back(c.keys[i]);
    }
  }
};

// The connected part of each cube, parts numbered in the order of their first cubes; returns how many there are.
//
// Cubes that lie side by side are compared first, which joins nearly all that belongs together; then the rest.
static int64_t connected_parts(const Cubes& c, int64_t* parts) {
  if (!c.size) return 0;
  Sets sets(c.size);
  double limit = c.distance * c.distance;
  auto look = [&](int64_t i, int64_t j) {
    int32_t a = sets.find((int32_t)i), b = sets.find((int32_t)j);
    if (a != b && touch(c, i, j, limit)) sets.join(a, b);
  };
  in_pieces(c.size, CUBES_PER_TASK, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i)
      if (i + 1 < c.size && c.keys[i + 1] == c.keys[i] + 1) look(i, i + 1);
    for (int k = 0; k < NEXT; ++k) {
      int64_t shift = COLUMNS[k].x * c.steps[0] + COLUMNS[k].y * c.steps[1];
      walk(c.keys, begin, end, c.keys, c.size, shift - 1, shift + 1, look);
    }
  });
  Rest rest(c, sets);
  auto look_again = [&](int64_t i, int64_t j) {
    int64_t cube = rest.cubes[(size_t)i];
    if (rest.sets[(size_t)cube] != rest.sets[(size_t)j]) look(cube, j);
  };
  in_pieces((int64_t)rest.cubes.size(), CUBES_PER_TASK, [&](int64_t begin, int64_t end, int64_t) {
    auto column = [&](int64_t shift) {
      walk(rest.keys.data(), begin, end, c.keys, c.size, shift - REACH, shift + REACH, look_again);
    };
    column(0);
    for (int k = 0; k < (rest.all ? HALF : 2 * HALF); ++k) column(COLUMNS[k].x * c.steps[0] + COLUMNS[k].y * c.steps[1]);
  });
  int64_t count = 0;
  for (int64_t i = 0; i < c.size; ++i) {
    int32_t root = sets.find((int32_t)i);
    parts[i] = root == i ? count++ : parts[root];
  }
  return count;
}
