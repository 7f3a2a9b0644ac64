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
  bool absolute;            // also sum |gradient| of the means per pixel (Ye et al. 2024)
  const float* features;    // [n, width] extra channels, or null
  const float* v_blended;   // [h, w, width] gradients with respect to the blended features
  float* v_features;        // [n, width] out, arrives filled with zeros
  int64_t width;            // 0 without features
  // Floats of an intersection's row: 16, then features, up to whole cache lines.
  int64_t row_floats() const { return 16 + (width + 15) / 16 * 16; }
};

// A tile's extra channels: values by channel and chunk-local index, pixel gradients by block, channel and lane.
struct TileFeatures {
  std::vector<float> value, gradient;
  int64_t width = 0;
  float* values(int64_t k) { return value.data() + k * (CHUNK + 16); }
  float* gradients(int block, int64_t k) { return gradient.data() + (block * width + k) * 16; }
};

static inline void load_features(const Frame& f, const uint32_t* list, int count, const float* features, TileFeatures& t) {
  for (int i = 0; i < count; ++i) {
    const float* from = features + (int64_t)f.rows[list[i]].gaussian * t.width;
    for (int64_t k = 0; k < t.width; ++k) t.values(k)[i] = from[k];
  }
}

// One block's way through the contributors, back to front.
struct BlockGradient {
  F16 transmittance, behind;  // behind: gradient carried by everything farther away
  float v[4][16];             // gradients of the four channels, by lane
};

// Sixteen contributors with their pixels' gradients, waiting to be summed. They come from one block or from a few: short
// lists would leave most lanes empty otherwise.
struct Contributors {
  alignas(64) float g[16][16], weight[16][16];
  alignas(64) float dx[16], dy[16], l11[16], l12[16], l22[16];  // dx, dy: centre of the block minus mean
  uint32_t index[16];
  int block[16];
  int count = 0;
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

// Sum over pixels of weight times a channel's gradient, contributor by lane.
static inline F16 channel_sum(const F16 (&weight)[16], const float* v) {
  F16 even(0.0f), odd(0.0f);
  for (int p = 0; p < 16; p += 2) {
    even = fma(weight[p], F16(v[p]), even);
    odd = fma(weight[p + 1], F16(v[p + 1]), odd);
  }
  return even + odd;
}

// Neighbouring lanes whose contributors come from one block.
struct Runs {
  M16 lanes[16];
  int block[16];
  int count = 0;
};

static inline Runs find_runs(const Contributors& c) {
  Runs runs;
  for (int i = 0; i < c.count;) {
    uint32_t lanes = 0;
    int block = c.block[i];
    for (; i < c.count && c.block[i] == block; ++i) lanes |= 1u << i;
    runs.lanes[runs.count] = mask_from_bits(lanes);
    runs.block[runs.count++] = block;
  }
  return runs;
}

// Channel sums of contributors that may belong to several blocks, each with its own pixel gradients.
template <class Gradients>
static inline F16 channel_sums(const Runs& runs, const F16 (&weight)[16], const Gradients& gradients) {
  F16 total = channel_sum(weight, gradients(runs.block[0]));
  for (int i = 1; i < runs.count; ++i)
    total = select(runs.lanes[i], channel_sum(weight, gradients(runs.block[i])), total);
  return total;
}

// Turn the pixel gradients of waiting contributors into sums and add them to their rows: 16 floats, then features.
static inline void add_contributors(Contributors& c, BlockGradient* blocks, bool absolute, TileFeatures& features,
                                    int64_t stride, float* rows) {
  F16 g[16], w[16], zero(0.0f);
  for (int i = c.count; i < 16; ++i) zero.store(c.g[i]), zero.store(c.weight[i]);
  for (int i = 0; i < 16; ++i) g[i] = F16::load(c.g[i]), w[i] = F16::load(c.weight[i]);
  const Runs runs = find_runs(c);
  transpose(g);
  transpose(w);
  F16 out[16];
  F16 m, mx, my, mxx, mxy, myy;
  block_moments(g, m, mx, my, mxx, mxy, myy);
  F16 ox = F16::load(c.dx), oy = F16::load(c.dy);
  F16 gx = fma(ox, m, mx), gy = fma(oy, m, my);
  out[G] = m, out[GX] = gx, out[GY] = gy;
  out[GXX] = fma(ox, mx + gx, mxx);
  out[GXY] = fma(ox, my, fma(oy, gx, mxy));
  out[GYY] = fma(oy, my + gy, myy);
  for (int k = 0; k < 4; ++k) out[RED + k] = channel_sums(runs, w, [&](int b) { return blocks[b].v[k]; });
  out[ABS_X] = out[ABS_Y] = out[12] = out[13] = out[14] = out[15] = zero;
  if (absolute) absolute_moments(c, g, ox, oy, out[ABS_X], out[ABS_Y]);
  transpose(out);
  for (int i = 0; i < c.count; ++i) {
    float* row = rows + stride * c.index[i];
    (F16::load(row) + out[i]).store(row);
  }
  for (int64_t k = 0; k < features.width; ++k) {
    float lanes[16];
    channel_sums(runs, w, [&](int b) { return features.gradients(b, k); }).store(lanes);
    for (int i = 0; i < c.count; ++i) rows[stride * c.index[i] + 16 + k] += lanes[i];
  }
  c.count = 0;
}

// A block's share of a chunk: `entries` front to back; what fills a group goes to the chunk's rows.
static inline void blend_block_backward(const Chunk& chunk, const uint32_t* entries, int count, int block, F16 max_alpha,
                                        const RasterGradient& v, TileFeatures& features, BlockGradient* blocks,
                                        Contributors& c, float* rows) {
  BlockGradient& s = blocks[block];
  const float x = block_x(block), y = block_y(block);
  F16 px = lanes_x() + F16(x), py = lanes_y() + F16(y), one(1.0f);
  F16 v0 = F16::load(s.v[0]), v1 = F16::load(s.v[1]), v2 = F16::load(s.v[2]), v3 = F16::load(s.v[3]);
  F16 t = s.transmittance, behind = s.behind;
  while (count > 0) {
    int some = std::min(count, 16 - c.count);
    for (int i = c.count; i < c.count + some; ++i) {
      uint32_t entry = entries[--count], k = entry & 0xffff;
      F16 raw = exp2_fast(log2_alpha(chunk, k, px, py));
      M16 lanes = mask_from_bits(entry >> 16);
      F16 alpha = keep(lanes, min(raw, max_alpha));
      F16 inverse = reciprocal(one - alpha);
      t = t * inverse;
      F16 weight = alpha * t;
      F16 value = fma(v0, F16(chunk.channel[0][k]),
                      fma(v1, F16(chunk.channel[1][k]), fma(v2, F16(chunk.channel[2][k]), v3 * F16(chunk.channel[3][k]))));
      for (int64_t j = 0; j < features.width; ++j)
        value = fma(F16::load(features.gradients(block, j)), F16(features.values(j)[k]), value);
      F16 v_alpha = fnma(behind, inverse, t * value);
      behind = fma(weight, value, behind);
      keep(less_equal(raw, max_alpha), alpha * v_alpha).store(c.g[i]);
      weight.store(c.weight[i]);
      c.dx[i] = chunk.dx[k] + x, c.dy[i] = chunk.dy[k] + y;
      c.index[i] = k, c.block[i] = block;
      if (v.absolute) c.l11[i] = chunk.l11[k], c.l12[i] = chunk.l12[k], c.l22[i] = chunk.l22[k];
    }
    c.count += some;
    if (c.count == 16) add_contributors(c, blocks, v.absolute, features, v.row_floats(), rows);
  }
  s.transmittance = t, s.behind = behind;
}

static inline void begin_block(const Frame& f, int64_t tile, int b, const RasterGradient& v, TileFeatures& features,
                               BlockGradient& s) {
  int x = (int)(tile % f.tiles_x) * TILE + b % 4 * BLOCK, y = (int)(tile / f.tiles_x) * TILE + b / 4 * BLOCK;
  F16 behind(0.0f);
  for (int k = 0; k < 4; ++k) {
    F16 value = v.channel[k] ? load_block(f, x, y, v.channel[k], v.stride[k]) : F16(0.0f);
    value.store(s.v[k]);
    if (k < 3) behind = fma(value, F16(f.background[k]), behind);
  }
  for (int64_t k = 0; k < v.width; ++k) load_block(f, x, y, v.v_blended + k, v.width).store(features.gradients(b, k));
  if (v.alpha) behind = behind - load_block(f, x, y, v.alpha, 1);
  s.transmittance = F16::load(&f.final_transmittance[(tile * BLOCKS + b) * 16]);
  s.behind = behind * s.transmittance;
}

// Send a chunk's rows to their intersections' own: each Gaussian's lie together there.
static inline void send_rows(const uint32_t* number, int count, const float* rows, int64_t stride, float* partial) {
  for (int i = 0; i < count; ++i)
    for (int64_t k = 0; k < stride; k += 16) F16::load(rows + stride * i + k).stream(partial + stride * number[i] + k);
}

static void blend_tile_backward(const Frame& f, int64_t tile, const RasterGradient& v) {
  static thread_local TileFeatures features;
  static thread_local Buffer<float> row_memory;
  const int64_t begin = f.tile_first[tile], end = f.tile_first[tile + 1], stride = v.row_floats();
  float* rows = row_memory.need((size_t)(CHUNK * stride));
  features.width = v.width;
  features.value.resize((size_t)v.width * (CHUNK + 16));
  features.gradient.resize((size_t)v.width * BLOCKS * 16);
  Chunk chunk;
  BlockGradient blocks[BLOCKS];
  Contributors waiting;
  int left = (int)(tile % f.tiles_x) * TILE, top = (int)(tile / f.tiles_x) * TILE;
  for (int b = 0; b < BLOCKS; ++b)
    if (left + b % 4 * BLOCK < f.width && top + b / 4 * BLOCK < f.height) begin_block(f, tile, b, v, features, blocks[b]);
  for (int64_t k = (end - begin + CHUNK - 1) / CHUNK - 1; k >= 0; --k) {
    int64_t i = begin + k * CHUNK;
    int count = (int)std::min<int64_t>(CHUNK, end - i);
    memset(rows, 0, (size_t)(count * stride) * sizeof(float));
    if (k < f.tile_done[tile]) {
      const uint32_t* list = f.list.data() + i;
      load_chunk(f, list, count, TileCenter(f, tile), chunk);
      if (v.width) load_features(f, list, count, v.features, features);
      const Segment& segment = f.segments[f.tile_segment[tile] + k];
      const uint32_t* entries = segment.entries;
      for (int b = 0; b < BLOCKS; ++b) {
        if (segment.count[b])
          blend_block_backward(chunk, entries, segment.count[b], b, F16(f.max_alpha), v, features, blocks, waiting, rows);
        entries += segment.count[b];
      }
      if (waiting.count) add_contributors(waiting, blocks, v.absolute, features, stride, rows);
    }
    send_rows(f.number.data() + i, count, rows, stride, f.partial.data());
  }
  fence();
}

// Sum each Gaussian's rows into f.moments, which is indexed by slot.
static void gather_moments(const Frame& f, const RasterGradient& v) {
  const int64_t stride = v.row_floats();
  Pool::instance().run(f.groups(), [&](int64_t group, int) {
    for (int64_t slot = group * GROUP; slot < group * GROUP + f.group_visible[group]; ++slot) {
      const float* row = f.partial.data() + stride * f.first[slot];
      float* features = v.width ? v.v_features + (int64_t)f.rows[slot].gaussian * v.width : nullptr;
      F16 total(0.0f);
      for (uint32_t i = 0, count = f.rects[slot].count(); i < count; ++i, row += stride) {
        total += F16::load(row);
        for (int64_t k = 0; k < v.width; ++k) features[k] += row[16 + k];
      }
      total.store(f.moments.data() + 16 * slot);
    }
  });
}

// Gradients of all visible Gaussians into f.moments, and of their features.
static void blend_backward(Frame& f, const RasterGradient& v) {
  f.moments.need((size_t)f.groups() * GROUP * 16);
  f.partial.need((size_t)(f.intersections * v.row_floats()));
  Pool::instance().run((int64_t)f.tiles(), [&](int64_t tile, int) { blend_tile_backward(f, tile, v); });
  gather_moments(f, v);
}
