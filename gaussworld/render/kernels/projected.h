// Gaussians that were projected elsewhere (distorted cameras, see unscented.py): rows in, dense gradients out.
#pragma once

#include "projection.h"

// The layout is mirrored in __init__.py.
struct ProjectedInput {
  int64_t n;
  const float *means2d, *conics, *depths, *opacities, *colors;  // [n,2] [n,3] [n] [n] [n,3]; conics: inverse covariances a b c
  const int32_t* radii;                                         // [n,2] px, 0 for Gaussians that are not drawn
  int32_t width, height;
  float max_alpha, padding;
};

static void load_projected(Frame& f, const ProjectedInput& in) {
  f.begin(in.n, in.width, in.height, in.max_alpha);
  Pool::instance().run(f.groups(), [&](int64_t group, int) {
    int32_t used = 0;
    for (int64_t i = group * GROUP, end = std::min(in.n, i + GROUP); i < end; ++i) {
      float opacity = in.opacities[i];
      if (in.radii[2 * i] <= 0 || in.radii[2 * i + 1] <= 0 || !(opacity >= 1.0f / 255.0f)) continue;
      const float *conic = in.conics + 3 * i, scale = 0.5f * LOG2E;
      Row row = {};
      row.mean_x = in.means2d[2 * i], row.mean_y = in.means2d[2 * i + 1];
      row.l11 = std::sqrt(scale * conic[0]);
      row.l12 = scale * conic[1] / row.l11;
      row.l22 = std::sqrt(std::max(scale * conic[2] - row.l12 * row.l12, 0.0f));
      row.log2_opacity = std::log2(opacity);
      memcpy(row.channel, in.colors + 3 * i, 3 * sizeof(float));
      row.channel[3] = in.depths[i];
      row.radius_x = (float)in.radii[2 * i], row.radius_y = (float)in.radii[2 * i + 1];
      row.gaussian = (int32_t)i;
      row.opacity = opacity, row.compensation = 1.0f;
      TileRect rects[16];
      f.tile_rects(F16(row.mean_x), F16(row.mean_y), F16(row.radius_x), F16(row.radius_y), rects);
      f.rects[group * GROUP + used] = rects[0];
      f.rows[group * GROUP + used++] = row;
    }
    f.group_visible[group] = used;
  });
}

// Gradients of the visible Gaussians' conics, opacities, colours and depths; the arrays arrive filled with zeros.
static void projected_gradients(const Frame& f, float* v_conics, float* v_opacities, float* v_colors, float* v_depths) {
  for (int64_t k = 0; k < f.visible; ++k) {
    const Row& row = f.rows[f.order[k]];
    const float* m = f.moments.data() + 16 * (size_t)f.order[k];
    int64_t i = row.gaussian;
    v_conics[3 * i] = -0.5f * m[GXX], v_conics[3 * i + 1] = -m[GXY], v_conics[3 * i + 2] = -0.5f * m[GYY];
    v_opacities[i] = m[G] / row.opacity;
    memcpy(v_colors + 3 * i, m + RED, 3 * sizeof(float));
    v_depths[i] = m[DEPTH];
  }
}

// Gradients of the means on screen, dense: [n,2], zero where nothing was drawn; optionally the absolute sums too.
static void screen_gradients(const Frame& f, float* v_means2d, float* absolute) {
  Pool::instance().run(f.groups(), [&](int64_t group, int) {
    int64_t begin = group * GROUP, size = std::min<int64_t>(GROUP, f.n - begin);
    memset(v_means2d + 2 * begin, 0, sizeof(float) * 2 * size);
    if (absolute) memset(absolute + 2 * begin, 0, sizeof(float) * 2 * size);
    for (int64_t slot = begin; slot < begin + f.group_visible[group]; ++slot) {
      const Row& row = f.rows[slot];
      const float *m = f.moments.data() + 16 * slot, scale = 2.0f / LOG2E;
      float a = scale * row.l11 * row.l11, b = scale * row.l11 * row.l12;
      float c = scale * (row.l12 * row.l12 + row.l22 * row.l22);
      float* to = v_means2d + 2 * (int64_t)row.gaussian;
      to[0] = a * m[GX] + b * m[GY], to[1] = b * m[GX] + c * m[GY];
      if (absolute) memcpy(absolute + 2 * (int64_t)row.gaussian, m + ABS_X, 2 * sizeof(float));
    }
  });
}
