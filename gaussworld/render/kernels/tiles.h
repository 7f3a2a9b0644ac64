// From projected rows to one list per 16x16 tile, nearest first: a radix sort by depth, then a stable counting sort.
#pragma once

#include <algorithm>

#include "frame.h"

// Stable least-significant-digit radix sort of (key, value) pairs: three passes of 11 bits. Ranges of the input are
// counted and scattered side by side; the result of a stable sort does not depend on how many ranges there are.
static void sort_pairs(Frame& f, int64_t count) {
  constexpr int BITS = 11, BUCKETS = 1 << BITS;
  int64_t ranges = std::min<int64_t>(Pool::instance().threads(), count / 4096 + 1);
  int64_t step = (count + ranges - 1) / ranges;
  uint32_t* histogram = f.histogram.need((size_t)ranges * BUCKETS);
  uint32_t *key = f.keys.data(), *value = f.order.data(), *key_to = f.keys_swap.need(f.n), *value_to = f.order_swap.need(f.n);
  for (int shift = 0; shift < 33; shift += BITS) {
    auto digit = [shift](uint32_t k) { return (k >> shift) & (BUCKETS - 1); };
    Pool::instance().run(ranges, [&](int64_t range, int) {
      uint32_t* h = histogram + range * BUCKETS;
      memset(h, 0, BUCKETS * sizeof(uint32_t));
      for (int64_t i = range * step, end = std::min(count, i + step); i < end; ++i) ++h[digit(key[i])];
    });
    uint32_t total = 0;
    for (int b = 0; b < BUCKETS; ++b)
      for (int64_t range = 0; range < ranges; ++range) {
        uint32_t c = histogram[range * BUCKETS + b];
        histogram[range * BUCKETS + b] = total;
        total += c;
      }
    Pool::instance().run(ranges, [&](int64_t range, int) {
      uint32_t* h = histogram + range * BUCKETS;
      for (int64_t i = range * step, end = std::min(count, i + step); i < end; ++i) {
        uint32_t to = h[digit(key[i])]++;
        key_to[to] = key[i];
        value_to[to] = value[i];
      }
    });
    std::swap(key, key_to);
    std::swap(value, value_to);
  }
  // Three passes end in the swap buffer.
  f.order.swap(f.order_swap);
}

// Slots of all visible Gaussians in f.order, nearest first; equal depths keep the order of the input.
static void sort_by_depth(Frame& f) {
  int64_t groups = f.groups();
  f.visible = 0;
  uint32_t* keys = f.keys.need(f.n);
  uint32_t* order = f.order.need(f.n);
  int64_t* first = f.group_first.need((size_t)groups + 1);
  for (int64_t g = 0; g < groups; ++g) first[g] = f.visible, f.visible += f.group_visible[g];
  Pool::instance().run(groups, [&](int64_t g, int) {
    for (int32_t i = 0; i < f.group_visible[g]; ++i) {
      uint32_t slot = (uint32_t)(g * GROUP + i), bits;
      memcpy(&bits, &f.rows[slot].channel[3], 4);
      // Floats compare like integers once negative ones are flipped.
      keys[first[g] + i] = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
      order[first[g] + i] = slot;
    }
  });
  sort_pairs(f, f.visible);
}

// How many intersections come before each Gaussian's when they are counted slot by slot.
static void number_intersections(Frame& f) {
  int64_t* group_first = f.group_first.need((size_t)f.groups() + 1);
  uint32_t* first = f.first.need((size_t)f.groups() * GROUP);
  Pool::instance().run(f.groups(), [&](int64_t g, int) {
    int64_t total = 0;
    for (int64_t slot = g * GROUP; slot < g * GROUP + f.group_visible[g]; ++slot) total += f.rects[slot].count();
    group_first[g] = total;
  });
  int64_t total = 0;
  for (int64_t g = 0; g < f.groups(); ++g) {
    int64_t c = group_first[g];
    group_first[g] = total;
    total += c;
  }
  f.intersections = total;
  Pool::instance().run(f.groups(), [&](int64_t g, int) {
    uint32_t running = (uint32_t)group_first[g];
    for (int64_t slot = g * GROUP; slot < g * GROUP + f.group_visible[g]; ++slot) {
      first[slot] = running;
      running += f.rects[slot].count();
    }
  });
}

// Lists of slots by tile, nearest first; `number` says for each entry which of all intersections, counted Gaussian by
// Gaussian, it is. False when there are more intersections than 32 bits can count.
static bool bin_into_tiles(Frame& f) {
  number_intersections(f);
  if (f.intersections > (int64_t)UINT32_MAX) return false;
  int64_t tiles = (int64_t)f.tiles();
  int64_t ranges = std::min<int64_t>(Pool::instance().threads(), f.visible / 1024 + 1);
  int64_t step = (f.visible + ranges - 1) / ranges;
  uint32_t* counts = f.tile_counts.need((size_t)(ranges * tiles));
  Pool::instance().run(ranges, [&](int64_t range, int) {
    uint32_t* mine = counts + range * tiles;
    memset(mine, 0, (size_t)tiles * sizeof(uint32_t));
    for (int64_t i = range * step, end = std::min(f.visible, i + step); i < end; ++i) {
      TileRect r = f.rects[f.order[i]];
      for (int32_t y = r.y0; y < r.y1; ++y)
        for (int32_t x = r.x0; x < r.x1; ++x) ++mine[(int64_t)y * f.tiles_x + x];
    }
  });
  uint32_t total = 0;
  int64_t* tile_first = f.tile_first.need((size_t)tiles + 1);
  for (int64_t t = 0; t < tiles; ++t) {
    tile_first[t] = total;
    for (int64_t range = 0; range < ranges; ++range) {
      uint32_t c = counts[range * tiles + t];
      counts[range * tiles + t] = total;
      total += c;
    }
  }
  tile_first[tiles] = f.intersections;
  uint32_t* list = f.list.need((size_t)f.intersections);
  uint32_t* number = f.saved ? f.number.need((size_t)f.intersections) : nullptr;
  Pool::instance().run(ranges, [&](int64_t range, int) {
    uint32_t* cursor = counts + range * tiles;
    for (int64_t i = range * step, end = std::min(f.visible, i + step); i < end; ++i) {
      uint32_t slot = f.order[i], emitted = f.first[slot];
      TileRect r = f.rects[slot];
      for (int32_t y = r.y0; y < r.y1; ++y)
        for (int32_t x = r.x0; x < r.x1; ++x) {
          uint32_t to = cursor[(int64_t)y * f.tiles_x + x]++;
          list[to] = slot;
          if (number) number[to] = emitted++;
        }
    }
  });
  return true;
}
