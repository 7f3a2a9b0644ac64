"""The floods' compiled kernels: the same answers as the torch code beside them, many times sooner."""

import ctypes
from ctypes import byref, c_double, c_int64, c_void_p

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..render import kernels

#: Rows and cubes are numbered with 32 bits in the kernels.
_MOST = 1 << 31


class Cubes(ctypes.Structure):
    """Mirror of `Cubes` in cells.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("points", "keys", "starts", "counts")),
        ("size", c_int64),
        ("steps", c_int64 * 2),
        ("distance", c_double),
    ]

    @classmethod
    def of(
        cls,
        points: Float[Tensor, "m 3"],
        keys: Int[Tensor, " c"],
        starts: Int[Tensor, " c"],
        counts: Int[Tensor, " c"],
        steps: tuple[int, int],
        distance: float,
    ) -> "Cubes":
        """Of the members of `Cells`, which must outlive the result."""
        addresses = [part.data_ptr() for part in (points, keys, starts, counts)]
        return cls(*addresses, len(keys), (c_int64 * 2)(*steps), distance)


def usable(points: Float[Tensor, "m 3"]) -> bool:
    """Whether there are kernels, and for points of this type."""
    return points.dtype == torch.float32 and len(points) < _MOST and kernels.available()


def sorted_cubes(
    points: Float[Tensor, "m 3"], side: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, tuple[int, int]] | None:
    """Finite points sorted into cubes: points, rows, keys, starts, counts and steps of `Cells`.

    None where they lie so far apart that the cubes between them cannot be numbered.
    """
    m = len(points)
    points, found = points.contiguous(), torch.empty((m, 3), dtype=torch.float32)
    rows, keys, starts, counts = (torch.empty(m, dtype=torch.long) for _ in range(4))
    steps, cubes = (c_int64 * 2)(1, 1), c_int64()
    out = [part.data_ptr() for part in (found, rows, keys, starts, counts)]
    status = kernels.library().gw_cells_sort(points.data_ptr(), m, 1 / side, steps, *out, byref(cubes))
    if status == kernels.TOO_MANY:
        return None
    _check(status)
    # Copies, because an index that is kept should not hold room for a cube per point.
    keys, starts, counts = (part[: cubes.value].clone() for part in (keys, starts, counts))
    return found, rows, keys, starts, counts, (steps[0], steps[1])


def connected_parts(cubes: Cubes) -> Int[Tensor, " c"]:
    """The connected part of each cube, numbered in the order of their first cubes."""
    parts = torch.empty(cubes.size, dtype=torch.long)
    _check(kernels.library().gw_cells_parts(byref(cubes), parts.data_ptr()))
    return parts


def reached(cubes: Cubes, inside: Bool[Tensor, " m"]) -> Bool[Tensor, " m"]:
    """Sorted points in the cube of a point inside, or within the distance of one."""
    inside, found = inside.contiguous(), torch.empty(len(inside), dtype=torch.bool)
    _check(kernels.library().gw_cells_reach(byref(cubes), inside.data_ptr(), found.data_ptr()))
    return found


def _check(status: int) -> None:
    if status == kernels.OUT_OF_MEMORY:
        raise MemoryError("looking for neighbours ran out of memory; select from fewer Gaussians")
    if status != kernels.OK:
        raise RuntimeError("the kernels' threads could not be started; use fewer: kernels.set_threads(1)")
