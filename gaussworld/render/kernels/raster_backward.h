// The derivative of blending: walks the saved contributors back to front, without culling and without thresholds.
//
// Gradients of one Gaussian arrive from many tiles. Each tile writes its share to the intersection's own row, and the rows
// are summed per Gaussian in a fixed order afterwards: no atomics, and the same bits however tiles were scheduled.
#pragma once

#include "raster.h"

struct RasterGradient {
  const float* channel[4];  // gradients with respect to the four channels; null is zero
  int64_t stride[4];
  const float* alpha;       // [h,w] or null
  bool over_background;     // channels 0-2 were laid over frame.background
  bool absolute;            // also sum |gradient| of the means per pixel (Ye et al. 2024)
};

// Where the four channels of the Gaussians come from: their rows, or columns of a feature tensor.
struct ChannelSource {
  const float* features = nullptr;  // [n, stride]
  int64_t stride = 0;
  int used = 4;
};

static inline void load_channels(const Frame& f, const uint32_t* list, Chunk& c, const ChannelSource& source) {
  if (!source.features) return;
  for (int i = 0; i < c.count; ++i) {
    const float* from = source.features + (int64_t)f.rows[list[i]].gaussian * source.stride;
    for (int k = 0; k < 4; ++k) c.channel[k][i] = k < source.used ? from[k] : 0.0f;
  }
}

// The gradients that sixteen contributors of one block collect, pixel by pixel.
struct Contributors {
  alignas(64) float g[16][16], weight[16][16];
  alignas(64) float dx[16], dy[16], l11[16], l12[16], l22[16];
  uint32_t index[16];
};

// Sums over the pixels of a block, contributor by lane: x, y about the block's centre.
static inline void block_moments(const F16 (&g)[16], F16& m, F16& mx, F16& my, F16& mxx, F16& mxy, F16& myy) {
  F16 s[4], sx[4], sxx[4];
  for (int y = 0; y < 4; ++y) {
    F16 outer = g[4 * y] + g[4 * y + 3], inner = g[4 * y + 1] + g[4 * y + 2];
    F16 outer_difference = g[4 * y + 3] - g[4 * y], inner_difference = g[4 * y + 2] - g[4 * y + 1];
    s[y] = outer + inner;
    sx[y] = fma(F16(1.5f), outer_difference, F16(0.5f) * inner_difference);
    sxx[y] = fma(F16(2.25f), outer, F16(0.25f) * inner);
  }
  m = (s[0] + s[3]) + (s[1] + s[2]);
  mx = (sx[0] + sx[3]) + (sx[1] + sx[2]);
  mxx = (sxx[0] + sxx[3]) + (sxx[1] + sxx[2]);
  my = fma(F16(1.5f), s[3] - s[0], F16(0.5f) * (s[2] - s[1]));
  mxy = fma(F16(1.5f), sx[3] - sx[0], F16(0.5f) * (sx[2] - sx[1]));
  myy = fma(F16(2.25f), s[0] + s[3], F16(0.25f) * (s[1] + s[2]));
}

static inline void absolute_moments(const Contributors& c, const F16 (&g)[16], F16 ox, F16 oy, F16& ax, F16& ay) {
  F16 l11 = F16::load(c.l11), l12 = F16::load(c.l12), l22 = F16::load(c.l22), two(2.0f / LOG2E);
  F16 a = two * l11 * l11, b = two * l11 * l12, d = two * fma(l12, l12, l22 * l22);
  ax = ay = F16(0.0f);
  for (int p = 0; p < 16; ++p) {
    F16 x = ox + F16((float)(p % 4) - 1.5f), y = oy + F16((float)(p / 4) - 1.5f);
    ax += abs(g[p] * fma(a, x, b * y));
    ay += abs(g[p] * fma(b, x, d * y));
  }
}

// Turn sixteen contributors' pixel gradients into sums per contributor and add them to their rows.
static inline void add_contributors(const Contributors& c, int count, int block, const float (&v)[4][16], bool absolute,
                                    float* rows) {
  F16 g[16], w[16];
  for (int i = 0; i < 16; ++i) g[i] = i < count ? F16::load(c.g[i]) : F16(0.0f);
  for (int i = 0; i < 16; ++i) w[i] = i < count ? F16::load(c.weight[i]) : F16(0.0f);
  transpose(g);
  transpose(w);
  F16 out[16];
  F16 m, mx, my, mxx, mxy, myy;
  block_moments(g, m, mx, my, mxx, mxy, myy);
  F16 ox = F16::load(c.dx) + F16(block_x(block)), oy = F16::load(c.dy) + F16(block_y(block));
  F16 gx = fma(ox, m, mx), gy = fma(oy, m, my);
  out[G] = m, out[GX] = gx, out[GY] = gy;
  out[GXX] = fma(ox, mx + gx, mxx);
  out[GXY] = fma(ox, my, fma(oy, gx, mxy));
  out[GYY] = fma(oy, my + gy, myy);
  for (int k = 0; k < 4; ++k) {
    F16 even(0.0f), odd(0.0f);
    for (int p = 0; p < 16; p += 2) {
      even = fma(w[p], F16(v[k][p]), even);
      odd = fma(w[p + 1], F16(v[k][p + 1]), odd);
    }
    out[RED + k] = even + odd;
  }
  out[ABS_X] = out[ABS_Y] = out[12] = out[13] = out[14] = out[15] = F16(0.0f);
  if (absolute) absolute_moments(c, g, ox, oy, out[ABS_X], out[ABS_Y]);
  transpose(out);
  for (int i = 0; i < count; ++i) {
    float* row = rows + 16 * (size_t)c.index[i];
    (F16::load(row) + out[i]).store(row);
  }
}

struct BlockGradient {
  F16 transmittance, behind;  // behind: gradient carried by everything farther away
  float v[4][16];
};

// One block's share of a chunk: `entries` front to back.
static inline void blend_block_backward(const Chunk& chunk, const uint32_t* entries, int count, int block, F16 max_alpha,
                                        bool absolute, BlockGradient& s, float* rows) {
  F16 px = lanes_x() + F16(block_x(block)), py = lanes_y() + F16(block_y(block)), one(1.0f);
  F16 v0 = F16::load(s.v[0]), v1 = F16::load(s.v[1]), v2 = F16::load(s.v[2]), v3 = F16::load(s.v[3]);
  F16 t = s.transmittance, behind = s.behind;
  Contributors c;
  for (int last = count; last > 0; last -= 16) {
    int some = last < 16 ? last : 16;
    for (int i = 0; i < some; ++i) {
      uint32_t entry = entries[last - 1 - i], k = entry & 0xffff;
      F16 raw = exp2_fast(log2_alpha(chunk, k, px, py));
      M16 lanes = mask_from_bits(entry >> 16);
      F16 alpha = keep(lanes, min(raw, max_alpha));
      F16 inverse = reciprocal(one - alpha);
      t = t * inverse;
      F16 weight = alpha * t;
      F16 value = fma(v0, F16(chunk.channel[0][k]),
                      fma(v1, F16(chunk.channel[1][k]), fma(v2, F16(chunk.channel[2][k]), v3 * F16(chunk.channel[3][k]))));
      F16 v_alpha = fnma(behind, inverse, t * value);
      behind = fma(weight, value, behind);
      keep(less_equal(raw, max_alpha), alpha * v_alpha).store(c.g[i]);
      weight.store(c.weight[i]);
      c.dx[i] = chunk.dx[k], c.dy[i] = chunk.dy[k], c.index[i] = k;
      if (absolute) c.l11[i] = chunk.l11[k], c.l12[i] = chunk.l12[k], c.l22[i] = chunk.l22[k];
    }
    add_contributors(c, some, block, s.v, absolute, rows);
  }
  s.transmittance = t, s.behind = behind;
}

static inline void begin_block(const Frame& f, int64_t tile, int b, const RasterGradient& v, BlockGradient& s) {
  int x = (int)(tile % f.tiles_x) * TILE + b % 4 * BLOCK, y = (int)(tile / f.tiles_x) * TILE + b / 4 * BLOCK;
  F16 behind(0.0f);
  for (int k = 0; k < 4; ++k) {
    F16 value = v.channel[k] ? load_block(f, x, y, v.channel[k], v.stride[k]) : F16(0.0f);
    value.store(s.v[k]);
    if (v.over_background && k < 3) behind = fma(value, F16(f.background[k]), behind);
  }
  if (v.alpha) behind = behind - load_block(f, x, y, v.alpha, 1);
  s.transmittance = F16::load(&f.final_transmittance[(tile * BLOCKS + b) * 16]);
  s.behind = behind * s.transmittance;
}

static void blend_tile_backward(const Frame& f, int64_t tile, const RasterGradient& v, const ChannelSource& source,
                                float* partial) {
  int64_t begin = f.tile_first[tile], end = f.tile_first[tile + 1];
  float* rows = partial;
  memset(rows, 0, (size_t)(end - begin) * 16 * sizeof(float));
  int done = f.tile_done[tile];
  if (!done) return;
  Chunk chunk;
  BlockGradient blocks[BLOCKS];
  int left = (int)(tile % f.tiles_x) * TILE, top = (int)(tile / f.tiles_x) * TILE;
  for (int b = 0; b < BLOCKS; ++b)
    if (left + b % 4 * BLOCK < f.width && top + b / 4 * BLOCK < f.height) begin_block(f, tile, b, v, blocks[b]);
  for (int k = done - 1; k >= 0; --k) {
    int64_t i = begin + (int64_t)k * CHUNK;
    const uint32_t* list = f.list.data() + i;
    load_chunk(f, list, (int)std::min<int64_t>(CHUNK, end - i), TileCenter(f, tile), chunk);
    load_channels(f, list, chunk, source);
    const Segment& segment = f.segments[f.tile_segment[tile] + k];
    const uint32_t* entries = segment.entries;
    for (int b = 0; b < BLOCKS; ++b) {
      if (segment.count[b])
        blend_block_backward(chunk, entries, segment.count[b], b, F16(f.max_alpha), v.absolute, blocks[b],
                             rows + 16 * (i - begin));
      entries += segment.count[b];
    }
  }
}

// Where the colour sums of a pass over features go: columns of a dense gradient.
struct FeatureGradient {
  float* data = nullptr;  // [n, stride]
  int64_t stride = 0;
  int used = 0;
};

static inline F16 divert_features(const Frame& f, uint32_t slot, F16 total, const FeatureGradient& to) {
  float lanes[16];
  total.store(lanes);
  float* row = to.data + (int64_t)f.rows[slot].gaussian * to.stride;
  for (int k = 0; k < to.used; ++k) row[k] += lanes[RED + k];
  return keep(mask_from_bits(0xffffu & ~(15u << RED)), total);
}

// Sum each Gaussian's rows of a band of tiles into f.moments, which is indexed by slot.
static void gather_moments(const Frame& f, int64_t low, int64_t high, const float* partial, bool add,
                           const FeatureGradient& features) {
  constexpr int64_t STEP = 1024;
  Pool::instance().run((f.visible + STEP - 1) / STEP, [&](int64_t range, int) {
    for (int64_t i = range * STEP, end = std::min(f.visible, i + STEP); i < end; ++i) {
      uint32_t slot = f.order[i];
      float* to = f.moments.data() + 16 * (size_t)slot;
      F16 total(0.0f);
      for (int64_t e = f.first[i]; e < f.first[i + 1]; ++e) {
        int64_t place = f.where[e];
        if (place >= low && place < high) total += F16::load(partial + 16 * (place - low));
      }
      if (features.data) total = divert_features(f, slot, total, features);
      if (add) total += F16::load(to);
      total.store(to);
    }
  });
}

// Gradients of all visible Gaussians into f.moments; `add` keeps what an earlier pass over other channels left there.
static void blend_backward(Frame& f, const RasterGradient& v, const ChannelSource& source, bool add,
                           const FeatureGradient& features) {
  int64_t tiles = (int64_t)f.tiles(), groups = (f.n + GROUP - 1) / GROUP;
  f.moments.need((size_t)groups * GROUP * 16);
  // Bands bound the memory for intersection rows; their limits must not depend on the number of threads.
  const int64_t budget = std::max<int64_t>(1 << 17, 2 * f.visible);
  for (int64_t first = 0; first < tiles;) {
    int64_t last = first + 1;
    while (last < tiles && f.tile_first[last + 1] - f.tile_first[first] <= budget) ++last;
    int64_t low = f.tile_first[first], high = f.tile_first[last];
    float* partial = f.partial.need((size_t)(high - low) * 16);
    Pool::instance().run(last - first, [&](int64_t i, int) {
      int64_t tile = first + i;
      blend_tile_backward(f, tile, v, source, partial + 16 * (f.tile_first[tile] - low));
    });
    gather_moments(f, low, high, partial, add || first > 0, features);
    first = last;
  }
}
