// Front-to-back blending, tile by tile, and replays over the contributors that a forward pass saved.
#pragma once

#include "frame.h"
#include "tiles.h"

// Where pixels go: four channels, each with a first element and a distance between pixels; null skips the channel.
struct Planes {
  float* channel[4];
  int64_t stride[4];
};

// A chunk of a tile's Gaussians as arrays, in the tile's own coordinates; one more entry that never shows.
struct Chunk {
  int count;
  alignas(64) float l11[CHUNK + 16], l12[CHUNK + 16], l22[CHUNK + 16], u0[CHUNK + 16], v0[CHUNK + 16],
      log2_opacity[CHUNK + 16], dx[CHUNK + 16], dy[CHUNK + 16];  // dx, dy: tile centre minus mean
  alignas(64) float channel[4][CHUNK + 16];
};

// Lane and block geometry about the tile's centre: pixel centres lie at -7.5 ... 7.5.
static inline float block_x(int block) { return (float)(block % 4) * BLOCK - 6.0f; }
static inline float block_y(int block) { return (float)(block / 4) * BLOCK - 6.0f; }
static inline F16 lanes_x() {
  const float x[16] = {-1.5f, -0.5f, 0.5f, 1.5f, -1.5f, -0.5f, 0.5f, 1.5f, -1.5f, -0.5f, 0.5f, 1.5f, -1.5f, -0.5f, 0.5f, 1.5f};
  return F16::load(x);
}
static inline F16 lanes_y() {
  const float y[16] = {-1.5f, -1.5f, -1.5f, -1.5f, -0.5f, -0.5f, -0.5f, -0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 1.5f, 1.5f, 1.5f, 1.5f};
  return F16::load(y);
}

struct TileCenter {
  float x, y;
  TileCenter(const Frame& f, int64_t tile)
      : x((float)(tile % f.tiles_x) * TILE + 0.5f * TILE), y((float)(tile / f.tiles_x) * TILE + 0.5f * TILE) {}
};

// Read `count` rows of the tile's list into arrays.
static inline void load_chunk(const Frame& f, const uint32_t* list, int count, TileCenter center, Chunk& c) {
  c.count = count;
  for (int i = 0; i < count; i += 16) {
    F16 r[16];
    for (int j = 0; j < 16; ++j) prefetch(&f.rows[list[std::min(i + j + PREFETCH, count - 1)]]);
    for (int j = 0; j < 16; ++j) r[j] = F16::load((const float*)&f.rows[list[i + j < count ? i + j : count - 1]]);
    transpose(r);
    F16 dx = F16(center.x) - r[0], dy = F16(center.y) - r[1];
    dx.store(c.dx + i), dy.store(c.dy + i);
    r[2].store(c.l11 + i), r[3].store(c.l12 + i), r[4].store(c.l22 + i);
    fma(r[2], dx, r[3] * dy).store(c.u0 + i);
    (r[4] * dy).store(c.v0 + i);
    r[5].store(c.log2_opacity + i);
    for (int k = 0; k < 4; ++k) r[6 + k].store(c.channel[k] + i);
  }
  // The entry that pads lists to a multiple of four, and the lanes that repeat the last Gaussian.
  for (int i = count; i < CHUNK + 16 && i < count + 32; ++i) {
    c.l11[i] = c.l12[i] = c.l22[i] = c.u0[i] = c.v0[i] = 0.0f;
    c.log2_opacity[i] = -1e30f;
    c.channel[0][i] = c.channel[1][i] = c.channel[2][i] = c.channel[3][i] = 0.0f;
  }
}

// For each 4x4 block, the chunk's Gaussians whose alpha can reach 1/255 at one of its pixel centres: the exact range of x
// that an ellipse covers within a row of blocks, compared to the columns.
static inline void cull_chunk(const Chunk& c, uint32_t live_blocks, uint32_t (*lists)[CHUNK + 16], int* counts) {
  for (int b = 0; b < BLOCKS; ++b) counts[b] = 0;
  F16 zero(0.0f), one(1.0f);
  for (int i = 0; i < c.count; i += 16) {
    F16 l11 = F16::load(c.l11 + i), l12 = F16::load(c.l12 + i), l22 = F16::load(c.l22 + i);
    F16 dx = F16::load(c.dx + i), dy = F16::load(c.dy + i);
    // A hair of slack: the blending repeats the test exactly for each pixel.
    F16 level = fma(F16::load(c.log2_opacity + i) - F16(LOG2_MIN_ALPHA), F16(1.0001f), F16(1e-4f));
    F16 l11_inverse = one / max(l11, F16(1e-30f)), l22_inverse = one / max(l22, F16(1e-30f));
    F16 half_height = sqrt(max(level, zero)) * l22_inverse;
    F16 lean = half_height * l12 / sqrt(max(fma(l12, l12, l22 * l22), F16(1e-37f)));
    F16 l22_squared = l22 * l22;
    M16 seen = less_equal(zero, level);
    for (int y = 0; y < 4; ++y) {
      if (!(live_blocks >> (4 * y) & 15)) continue;
      F16 top = max(F16(block_y(4 * y) - 1.5f) + dy, -half_height);
      F16 bottom = min(F16(block_y(4 * y) + 1.5f) + dy, half_height);
      M16 in_row = seen & less_equal(top, bottom);
      if (!any(in_row)) continue;
      F16 y_right = clamp(-lean, top, bottom), y_left = clamp(lean, top, bottom);
      F16 right = fnma(l12, y_right, sqrt(max(fnma(l22_squared * y_right, y_right, level), zero))) * l11_inverse - dx;
      F16 left = fnma(l12, y_left, -sqrt(max(fnma(l22_squared * y_left, y_left, level), zero))) * l11_inverse - dx;
      for (int x = 0; x < 4; ++x) {
        int b = 4 * y + x;
        if (!(live_blocks >> b & 1)) continue;
        M16 hit = in_row & less_equal(left, F16(block_x(b) + 1.5f)) & less_equal(F16(block_x(b) - 1.5f), right);
        counts[b] += compress_indices(hit, (uint32_t)i, lists[b] + counts[b]);
      }
    }
  }
}

// log2 of a Gaussian's opacity at the sixteen pixels (px, py) about the tile's centre.
static inline F16 log2_alpha(const Chunk& c, uint32_t i, F16 px, F16 py) {
  F16 u = fma(F16(c.l11[i]), px, fma(F16(c.l12[i]), py, F16(c.u0[i])));
  F16 v = fma(F16(c.l22[i]), py, F16(c.v0[i]));
  return fnma(v, v, fnma(u, u, F16(c.log2_opacity[i])));
}

struct BlockState {
  F16 px, py, transmittance, sum[4];
  uint32_t live;
};

// A pixel that takes no more light is moved so far away that nothing reaches it.
static inline F16 exile(F16 px, uint32_t live) { return select(mask_from_bits(live), px, F16(1e15f)); }

// Blend the listed Gaussians into one block; contributors are appended to `out`, their number returned.
template <bool SAVE>
static inline int blend_block(const Chunk& c, const uint32_t* list, int count, F16 max_alpha, BlockState& s, uint32_t* out) {
  F16 px = s.px, py = s.py, t = s.transmittance, sum0 = s.sum[0], sum1 = s.sum[1], sum2 = s.sum[2], sum3 = s.sum[3];
  const F16 threshold(LOG2_MIN_ALPHA), opaque(MIN_TRANSMITTANCE);
  int written = 0;
  for (int i = 0; i < count; i += 4) {
    F16 alpha[4];
    M16 hit[4];
    for (int j = 0; j < 4; ++j) {
      F16 p = log2_alpha(c, list[i + j], px, py);
      hit[j] = less_equal(threshold, p);
      alpha[j] = keep(hit[j], min(max_alpha, exp2_fast(p)));
    }
    // Four Gaussians at once while no pixel ends among them: then transmittance is a plain product.
    F16 before[4], after = t;
    for (int j = 0; j < 4; ++j) before[j] = after, after = fnma(alpha[j], after, after);
    M16 ended = less_equal(after, opaque);
    if (any(ended)) {
      for (int j = 0; j < 4; ++j) {
        M16 alive = mask_from_bits(s.live);
        hit[j] = hit[j] & alive;
        F16 next = fnma(alpha[j], t, t);
        M16 last = hit[j] & less_equal(next, opaque);  // this Gaussian is left out
        hit[j] = without(hit[j], last);
        before[j] = t;
        alpha[j] = keep(hit[j], alpha[j]);
        t = select(hit[j], next, t);
        s.live &= ~bits(last);
      }
      px = exile(px, s.live);
      after = t;
    }
    t = after;
    for (int j = 0; j < 4; ++j) {
      uint32_t k = list[i + j];
      F16 weight = alpha[j] * before[j];
      sum0 = fma(weight, F16(c.channel[0][k]), sum0);
      sum1 = fma(weight, F16(c.channel[1][k]), sum1);
      sum2 = fma(weight, F16(c.channel[2][k]), sum2);
      sum3 = fma(weight, F16(c.channel[3][k]), sum3);
      if (SAVE) {
        uint32_t lanes = bits(hit[j]);
        out[written] = k | lanes << 16;
        written += lanes != 0;
      }
    }
    if (!s.live) break;
  }
  s.px = px, s.transmittance = t;
  s.sum[0] = sum0, s.sum[1] = sum1, s.sum[2] = sum2, s.sum[3] = sum3;
  return written;
}

// Pixels of a block that exist and are wanted.
static inline uint32_t wanted_pixels(const Frame& f, const uint8_t* mask, int x, int y) {
  uint32_t live = 0;
  for (int j = 0; j < 16; ++j) {
    int px = x + j % 4, py = y + j / 4;
    if (px < f.width && py < f.height && (!mask || mask[(int64_t)py * f.width + px])) live |= 1u << j;
  }
  return live;
}

static inline uint32_t block_mask(const Frame& f, const uint8_t* mask, int x, int y) {
  if (!mask && x + BLOCK <= f.width && y + BLOCK <= f.height) return 0xffff;
  return wanted_pixels(f, mask, x, y);
}

static inline void store_block(const Frame& f, int x, int y, F16 value, float* data, int64_t stride) {
  if (!data) return;
  float lanes[16];
  value.store(lanes);
  int columns = std::min(BLOCK, f.width - x), rows = std::min(BLOCK, f.height - y);
  for (int j = 0; j < rows; ++j)
    for (int i = 0; i < columns; ++i) data[((int64_t)(y + j) * f.width + x + i) * stride] = lanes[4 * j + i];
}

static inline F16 load_block(const Frame& f, int x, int y, const float* data, int64_t stride) {
  float lanes[16] = {0};
  int columns = std::min(BLOCK, f.width - x), rows = std::min(BLOCK, f.height - y);
  for (int j = 0; j < rows; ++j)
    for (int i = 0; i < columns; ++i) lanes[4 * j + i] = data[((int64_t)(y + j) * f.width + x + i) * stride];
  return F16::load(lanes);
}

struct RasterOutput {
  Planes planes;
  float* alpha;
};

template <bool SAVE>
static void blend_tile(Frame& f, int64_t tile, const uint8_t* mask, const RasterOutput& out, Slabs* slabs) {
  Chunk chunk;
  uint32_t lists[BLOCKS][CHUNK + 16];
  int counts[BLOCKS];
  BlockState blocks[BLOCKS];
  int left = (int)(tile % f.tiles_x) * TILE, top = (int)(tile / f.tiles_x) * TILE;
  TileCenter center(f, tile);
  uint32_t live_blocks = 0;
  for (int b = 0; b < BLOCKS; ++b) {
    BlockState& s = blocks[b];
    s.live = block_mask(f, mask, left + b % 4 * BLOCK, top + b / 4 * BLOCK);
    s.px = exile(lanes_x() + F16(block_x(b)), s.live);
    s.py = lanes_y() + F16(block_y(b));
    s.transmittance = F16(1.0f);
    for (auto& sum : s.sum) sum = F16(0.0f);
    if (s.live) live_blocks |= 1u << b;
  }
  int64_t begin = f.tile_first[tile], end = f.tile_first[tile + 1];
  int done = 0;
  for (int64_t i = begin; i < end && live_blocks; i += CHUNK, ++done) {
    int count = (int)std::min<int64_t>(CHUNK, end - i);
    load_chunk(f, f.list.data() + i, count, center, chunk);
    cull_chunk(chunk, live_blocks, lists, counts);
    Segment* segment = SAVE ? &f.segments[f.tile_segment[tile] + done] : nullptr;
    uint32_t* entries = SAVE ? slabs->room(BLOCKS * (CHUNK + 4)) : nullptr;
    if (SAVE) segment->entries = entries;
    for (int b = 0; b < BLOCKS; ++b) {
      int written = 0;
      if (live_blocks >> b & 1) {
        for (int k = 0; k < 4; ++k) lists[b][counts[b] + k] = (uint32_t)count;
        written = blend_block<SAVE>(chunk, lists[b], counts[b], F16(f.max_alpha), blocks[b], entries);
        if (!blocks[b].live) live_blocks &= ~(1u << b);
      }
      if (SAVE) segment->count[b] = (uint16_t)written, entries += written;
    }
    if (SAVE) slabs->take((size_t)(entries - segment->entries));
  }
  if (SAVE) f.tile_done[tile] = done;
  for (int b = 0; b < BLOCKS; ++b) {
    BlockState& s = blocks[b];
    int x = left + b % 4 * BLOCK, y = top + b / 4 * BLOCK;
    if (x >= f.width || y >= f.height) continue;
    if (SAVE) s.transmittance.store(&f.final_transmittance[(tile * BLOCKS + b) * 16]);
    for (int k = 0; k < 3; ++k)
      store_block(f, x, y, fma(s.transmittance, F16(f.background[k]), s.sum[k]), out.planes.channel[k], out.planes.stride[k]);
    store_block(f, x, y, s.sum[3], out.planes.channel[3], out.planes.stride[3]);
    store_block(f, x, y, F16(1.0f) - s.transmittance, out.alpha, 1);
  }
}

static void prepare_saving(Frame& f) {
  int64_t tiles = (int64_t)f.tiles(), total = 0;
  int64_t* first = f.tile_segment.need((size_t)tiles + 1);
  for (int64_t t = 0; t < tiles; ++t) {
    first[t] = total;
    total += (f.tile_first[t + 1] - f.tile_first[t] + CHUNK - 1) / CHUNK;
  }
  first[tiles] = total;
  f.segments.need((size_t)total);
  f.tile_done.need((size_t)tiles);
  f.final_transmittance.need((size_t)tiles * TILE * TILE);
  if ((int)f.slabs.size() < Pool::instance().threads()) f.slabs.resize((size_t)Pool::instance().threads());
  for (auto& s : f.slabs) s.reset();
}

static void blend(Frame& f, const uint8_t* mask, const RasterOutput& out) {
  if (f.saved) prepare_saving(f);
  Pool::instance().run((int64_t)f.tiles(), [&](int64_t tile, int worker) {
    if (f.saved)
      blend_tile<true>(f, tile, mask, out, &f.slabs[(size_t)worker]);
    else
      blend_tile<false>(f, tile, mask, out, nullptr);
  }, f.saved ? (int)f.slabs.size() : 1 << 20);
}
