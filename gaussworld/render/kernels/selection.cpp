// The C interface of the selection kernels; gaussworld/render/kernels/__init__.py mirrors every declaration.
//
// A source of its own, because it is compiled without fused multiply-adds: see CMakeLists.txt.
#include <new>

#include "parts.h"

#if defined(_WIN32)
#define GW_API extern "C" __declspec(dllexport)
#else
#define GW_API extern "C" __attribute__((visibility("default")))
#endif

// As in kernels.cpp.
enum SelectionStatus { OK = 0, OUT_OF_MEMORY = 2, TOO_MANY = 3, FAILED = 4 };

template <class Work>
static int guarded(const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return OUT_OF_MEMORY;
  } catch (...) {
    return FAILED;
  }
}

// TOO_MANY: the places are so far apart that the cubes between them cannot be numbered.
GW_API int gw_cells_sort(const float* points, int64_t n, double inverse, int64_t* steps, float* sorted_points, int64_t* rows,
                         int64_t* keys, int64_t* starts, int64_t* counts, int64_t* cubes) {
  return guarded([&] {
    *cubes = sort_into_cubes(points, n, inverse, steps, {sorted_points, rows, keys, starts, counts});
    return *cubes < 0 ? TOO_MANY : OK;
  });
}

GW_API int gw_cells_parts(const Cubes* cubes, int64_t* parts) {
  return guarded([&] {
    connected_parts(*cubes, parts);
    return OK;
  });
}

GW_API int gw_cells_reach(const Cubes* cubes, const uint8_t* inside, uint8_t* reached) {
  return guarded([&] {
    reach(*cubes, inside, reached);
    return OK;
  });
}
