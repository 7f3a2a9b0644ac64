// A Frame holds everything one camera's rendering needs between its stages; frames are reused, so nothing is allocated
// once the largest scene has been seen.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "pool.h"
#include "simd.h"

constexpr int TILE = 16;       // pixels a side
constexpr int BLOCK = 4;       // pixels a side; 4x4 pixels are the 16 lanes of a vector
constexpr int BLOCKS = 16;     // blocks of a tile
constexpr int CHUNK = 256;     // Gaussians of a tile held in the L1 cache at a time
constexpr int GROUP = 2048;    // Gaussians a projection task handles
constexpr int PREFETCH = 48;    // entries to look ahead in lists that point to scattered memory
constexpr float LOG2E = 1.44269504089f;
constexpr float LOG2_MIN_ALPHA = -7.99435344f;  // log2(1 / 255)
constexpr float MIN_TRANSMITTANCE = 1e-4f;

// Uninitialised memory that keeps its largest size.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(raw_); }
  // Room for `count` items; what was in the buffer is lost when it has to grow.
  T* need(size_t count) {
    if (count > capacity_) {
      std::free(raw_);
      capacity_ = count + count / 8;
      raw_ = std::malloc(capacity_ * sizeof(T) + 64);
      if (!raw_) {
        capacity_ = 0;
        throw std::bad_alloc();
      }
      data_ = (T*)(((uintptr_t)raw_ + 63) & ~(uintptr_t)63);
    }
    used_ = count;
    return data_;
  }
  T* data() const { return data_; }
  void swap(Buffer& other) {
    std::swap(raw_, other.raw_), std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_), std::swap(used_, other.used_);
  }
  T& operator[](size_t i) const { return data_[i]; }
  size_t used_bytes() const { return used_ * sizeof(T); }
  size_t capacity_bytes() const { return capacity_ * sizeof(T); }

 private:
  void* raw_ = nullptr;
  T* data_ = nullptr;
  size_t capacity_ = 0, used_ = 0;
};

// What the raster stages read of a visible Gaussian: one cache line.
//
// The exponent of its opacity at an offset (dx, dy) from its mean is log2_opacity - u^2 - v^2 with
// u = l11 dx + l12 dy and v = l22 dy: the Cholesky factor of the inverse covariance, so that it can never turn positive.
struct alignas(64) Row {
  float mean_x, mean_y;
  float l11, l12, l22;
  float log2_opacity;
  float channel[4];          // red, green, blue, z
  float radius_x, radius_y;  // [px]
  int32_t gaussian;          // row in the caller's tensors
  float opacity;             // after the antialiasing factor
  float compensation;        // that factor
  uint32_t clamped;          // bits 0-2: the colour channel was negative and became 0
};
static_assert(sizeof(Row) == 64, "a row is one cache line");

// Sums over the pixels of one Gaussian, g being the gradient of the loss with respect to log(alpha).
enum Moment { G, GX, GY, GXX, GXY, GYY, RED, GREEN, BLUE, DEPTH, ABS_X, ABS_Y };

// The tiles that a Gaussian's extent touches; x1 and y1 are exclusive. 16 bits hold pictures of 65535 tiles a side.
struct TileRect {
  uint16_t x0, y0, x1, y1;
  uint32_t count() const { return (uint32_t)(x1 - x0) * (uint32_t)(y1 - y0); }
};

// The contributors of the sixteen blocks of one chunk: entries are chunk-local index | lane mask << 16.
struct Segment {
  uint32_t* entries;
  uint16_t count[BLOCKS];
};

// Memory for contributors, one slab list per thread slot; slabs are kept from rendering to rendering.
class Slabs {
 public:
  static constexpr size_t SIZE = 1 << 18;
  void reset() { slab_ = 0, used_ = 0; }
  uint32_t* room(size_t count) {
    if (!slabs_.empty() && used_ + count > SIZE) ++slab_, used_ = 0;
    if (slab_ >= slabs_.size()) slabs_.emplace_back(new uint32_t[SIZE]);
    return slabs_[slab_].get() + used_;
  }
  void take(size_t count) { used_ += count; }
  size_t used_bytes() const { return (slab_ * SIZE + used_) * 4; }
  size_t capacity_bytes() const { return slabs_.size() * SIZE * 4; }

 private:
  std::vector<std::unique_ptr<uint32_t[]>> slabs_;
  size_t slab_ = 0, used_ = 0;
};

struct Frame {
  int32_t width = 0, height = 0, tiles_x = 0, tiles_y = 0;
  int64_t n = 0, visible = 0, intersections = 0;
  float max_alpha = 0.999f;
  float background[3] = {0, 0, 0};
  bool saved = false;

  Buffer<Row> rows;                 // by slot: GROUP slots a projection task, only the first few of each used
  Buffer<int32_t> group_visible;    // visible Gaussians of each projection task
  Buffer<uint32_t> keys, keys_swap; // z-depth as sortable integer
  Buffer<uint32_t> order, order_swap;  // slots of visible Gaussians by depth
  Buffer<uint32_t> histogram;
  Buffer<TileRect> rects;           // by slot
  Buffer<int64_t> group_first;      // what comes before each projection task's: Gaussians to sort, then intersections
  Buffer<uint32_t> first;           // by slot: the number of its first intersection
  Buffer<uint32_t> list;            // by tile, then depth: slots
  Buffer<uint32_t> number;          // beside `list`: the number of the intersection, counted slot by slot, then by tile
  Buffer<int64_t> tile_first;       // [tiles + 1]
  Buffer<uint32_t> tile_counts;
  Buffer<Segment> segments;
  Buffer<int64_t> tile_segment;     // [tiles + 1]: first segment of each tile
  Buffer<int32_t> tile_done;        // segments that were reached before the tile was opaque
  std::vector<Slabs> slabs;         // by thread of the pool
  Buffer<float> final_transmittance;  // by tile, block, lane
  Buffer<float> moments;            // [16] by slot
  Buffer<float> partial;            // by number: 16 floats and features, each tile's share of a Gaussian's gradient
  Buffer<double> camera_sums;
  std::atomic<int64_t> bad_row{-1};

  size_t tiles() const { return (size_t)tiles_x * tiles_y; }

  int64_t groups() const { return (n + GROUP - 1) / GROUP; }

  // Room for the rows of `count` Gaussians on a picture of the given size.
  void begin(int64_t count, int32_t w, int32_t h, float alpha_limit) {
    n = count, width = w, height = h, max_alpha = alpha_limit;
    tiles_x = (w + TILE - 1) / TILE, tiles_y = (h + TILE - 1) / TILE;
    bad_row.store(-1);
    rows.need((size_t)groups() * GROUP);
    rects.need((size_t)groups() * GROUP);
    group_visible.need((size_t)groups());
  }

  // Tiles touched by sixteen Gaussians of the given centres and half extents [px].
  void tile_rects(F16 x, F16 y, F16 radius_x, F16 radius_y, TileRect (&out)[16]) const {
    F16 s(1.0f / TILE), zero(0.0f), wide((float)tiles_x), high((float)tiles_y);
    float side[4][16];
    clamp(floor((x - radius_x) * s), zero, wide).store(side[0]);
    clamp(floor((y - radius_y) * s), zero, high).store(side[1]);
    clamp(ceil((x + radius_x) * s), zero, wide).store(side[2]);
    clamp(ceil((y + radius_y) * s), zero, high).store(side[3]);
    for (int i = 0; i < 16; ++i) {
      uint32_t low = (uint32_t)(int32_t)side[0][i] | (uint32_t)(int32_t)side[1][i] << 16;
      uint32_t upper = (uint32_t)(int32_t)side[2][i] | (uint32_t)(int32_t)side[3][i] << 16;
      out[i] = {(uint16_t)low, (uint16_t)(low >> 16), (uint16_t)upper, (uint16_t)(upper >> 16)};
    }
  }

  // Bytes that the last rendering used, counting rows and rectangles of visible Gaussians only; the sums that are gradients
  // (moments) and what belongs to pixels (final_transmittance) are not workspace.
  size_t workspace_bytes() const {
    size_t total = (size_t)visible * (sizeof(Row) + sizeof(TileRect) + sizeof(uint32_t));
    total += keys.used_bytes() + keys_swap.used_bytes() + order.used_bytes() + order_swap.used_bytes();
    total += histogram.used_bytes() + number.used_bytes() + list.used_bytes() + tile_first.used_bytes();
    total += tile_counts.used_bytes() + segments.used_bytes() + partial.used_bytes();
    for (const auto& s : slabs) total += s.used_bytes();
    return total;
  }

  // Bytes reserved, whatever for: what must not grow from step to step.
  size_t capacity_bytes() const {
    size_t total = rows.capacity_bytes() + rects.capacity_bytes() + first.capacity_bytes() + keys.capacity_bytes() * 2;
    total += order.capacity_bytes() * 2 + histogram.capacity_bytes() + number.capacity_bytes() + list.capacity_bytes();
    total += tile_first.capacity_bytes() + tile_counts.capacity_bytes() + segments.capacity_bytes();
    total += moments.capacity_bytes() + partial.capacity_bytes() + final_transmittance.capacity_bytes();
    for (const auto& s : slabs) total += s.capacity_bytes();
    return total;
  }
};

// Remember the lowest row that a rasterizer must refuse.
static inline void report_bad(Frame& frame, int64_t row) {
  int64_t known = frame.bad_row.load();
  while ((known < 0 || row < known) && !frame.bad_row.compare_exchange_weak(known, row)) {
  }
}
