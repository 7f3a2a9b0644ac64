// Further passes over the contributors that a forward pass saved: more channels, and who dominates each pixel.
#pragma once

#include "raster.h"

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

// Visit every contributor of every pixel, front to back: visit(block state, chunk-local index, list, weight).
template <class Visitor>
static void replay_tile(const Frame& f, int64_t tile, const ChannelSource& source, Visitor& visitor) {
  Chunk chunk;
  F16 transmittance[BLOCKS];
  for (auto& t : transmittance) t = F16(1.0f);
  int64_t begin = f.tile_first[tile], end = f.tile_first[tile + 1];
  for (int k = 0; k < f.tile_done[tile]; ++k) {
    int64_t i = begin + (int64_t)k * CHUNK;
    const uint32_t* list = f.list.data() + i;
    load_chunk(f, list, (int)std::min<int64_t>(CHUNK, end - i), TileCenter(f, tile), chunk);
    load_channels(f, list, chunk, source);
    const Segment& segment = f.segments[f.tile_segment[tile] + k];
    const uint32_t* entries = segment.entries;
    for (int b = 0; b < BLOCKS; ++b) {
      F16 px = lanes_x() + F16(block_x(b)), py = lanes_y() + F16(block_y(b)), t = transmittance[b];
      for (int e = 0; e < segment.count[b]; ++e) {
        uint32_t index = entries[e] & 0xffff;
        F16 alpha = keep(mask_from_bits(entries[e] >> 16),
                         min(F16(f.max_alpha), exp2_fast(log2_alpha(chunk, index, px, py))));
        visitor.visit(b, chunk, index, f.rows[list[index]].gaussian, alpha * t);
        t = fnma(alpha, t, t);
      }
      transmittance[b] = t;
      entries += segment.count[b];
    }
  }
}

struct SumChannels {
  F16 sum[BLOCKS][4];
  void visit(int b, const Chunk& c, uint32_t k, int32_t, F16 weight) {
    for (int j = 0; j < 4; ++j) sum[b][j] = fma(weight, F16(c.channel[j][k]), sum[b][j]);
  }
};

struct FindDominant {
  F16 best[BLOCKS], id[BLOCKS];  // the ids are integers in float lanes: only moved, never computed with
  void visit(int b, const Chunk&, uint32_t, int32_t gaussian, F16 weight) {
    float as_float;
    memcpy(&as_float, &gaussian, 4);
    M16 better = less(best[b], weight);
    best[b] = select(better, weight, best[b]);
    id[b] = select(better, F16(as_float), id[b]);
  }
};

template <class Store>
static void for_blocks(const Frame& f, int64_t tile, const Store& store) {
  for (int b = 0; b < BLOCKS; ++b) {
    int x = (int)(tile % f.tiles_x) * TILE + b % 4 * BLOCK, y = (int)(tile / f.tiles_x) * TILE + b / 4 * BLOCK;
    if (x < f.width && y < f.height) store(b, x, y);
  }
}

// Up to four columns of a feature tensor, blended.
static void blend_features(const Frame& f, const ChannelSource& source, float* out, int64_t stride) {
  Pool::instance().run((int64_t)f.tiles(), [&](int64_t tile, int) {
    SumChannels visitor;
    for (auto& block : visitor.sum)
      for (auto& sum : block) sum = F16(0.0f);
    replay_tile(f, tile, source, visitor);
    for_blocks(f, tile, [&](int b, int x, int y) {
      for (int k = 0; k < source.used; ++k) store_block(f, x, y, visitor.sum[b][k], out + k, stride);
    });
  });
}

// The Gaussian with the largest blend weight at each pixel, -1 where there is none.
static void dominant_ids(const Frame& f, int32_t* ids) {
  Pool::instance().run((int64_t)f.tiles(), [&](int64_t tile, int) {
    FindDominant visitor;
    const int32_t nobody = -1;
    float as_float;
    memcpy(&as_float, &nobody, 4);
    for (int b = 0; b < BLOCKS; ++b) visitor.best[b] = F16(0.0f), visitor.id[b] = F16(as_float);
    replay_tile(f, tile, ChannelSource(), visitor);
    for_blocks(f, tile, [&](int b, int x, int y) { store_block(f, x, y, visitor.id[b], (float*)ids, 1); });
  });
}
