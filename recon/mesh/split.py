"""Convex parts by plane cuts: quick, and the same on every machine."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gaussworld.shape import Mesh

from .open3d_mesh import open3d

#: Voxels along the longest side of the mesh in which cuts are judged.
_SIDE = 36
#: Places along each axis at which a part may be cut.
_PLACES = 8
#: What an uneven cut, and one through much material, may cost in comparison with what the hulls waste.
_EVEN, _NARROW = 0.05, 0.05


@dataclass(frozen=True, eq=False)
class _Cell:
    """A box of voxels and what of the mesh lies in it."""

    low: np.ndarray
    """First voxel along each axis."""
    high: np.ndarray
    """One beyond the last voxel."""
    filled: np.ndarray
    """(m, 3) voxels inside the mesh."""
    hull: float
    """[voxels] volume of their convex hull."""

    @property
    def waste(self) -> float:
        """[voxels] what the hull holds beyond the mesh."""
        return self.hull - len(self.filled)


def cut_parts(mesh: Mesh, threshold: float, most: int) -> list[np.ndarray]:
    """Vertices of the parts into which a closed mesh falls by cuts along the axes of its box.

    The part whose convex hull wastes most is cut where the two hulls waste least, until no part wastes more
    than a share of `threshold` of the whole, or there are `most` parts (after Lien and Amato 2007,
    "Approximate convex decomposition of polyhedra", with volume as the measure of concavity).

    Args:
        mesh: closed.
        threshold: share of the mesh's volume that a part may waste.
        most: so many parts at most.
    """
    axes, middle = _principal(mesh)
    local = (mesh.vertices.double().numpy() - middle) @ axes
    low, span = local.min(0), local.max(0) - local.min(0)
    voxel = span.max() / _SIDE
    size = np.maximum(1, np.ceil(span / voxel)).astype(int)
    filled = _inside(Mesh(torch.from_numpy(local.astype(np.float32)), mesh.faces), low, voxel, size)
    if not len(filled):
        return [mesh.vertices.double().numpy()]
    cells = [_cell(np.zeros(3, int), size, filled)]
    while len(cells) < most:
        worst = max(range(len(cells)), key=lambda i: cells[i].waste)
        if cells[worst].waste < threshold * len(filled):
            break
        halves = _best_cut(cells[worst])
        if halves is None:
            break
        cells[worst : worst + 1] = halves
    clipped = (_clipped(local, mesh.faces.numpy(), cell, low, voxel, size) for cell in cells)
    return [points @ axes.T + middle for points in clipped if len(points) > 3]


def _principal(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Axes (3, 3) of the smallest box around a mesh, right-handed, and the box's middle."""
    import trimesh

    box_from_mesh, _ = trimesh.bounds.oriented_bounds(mesh.vertices.double().numpy())
    axes = np.array(box_from_mesh[:3, :3]).T
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    return axes, -axes @ box_from_mesh[:3, 3]


def _inside(mesh: Mesh, low: np.ndarray, voxel: float, size: np.ndarray) -> np.ndarray:
    """(m, 3) indices of the voxels whose middles are inside a mesh."""
    core, scene = open3d().core, open3d().t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        core.Tensor(np.ascontiguousarray(mesh.vertices.numpy())),
        core.Tensor(mesh.faces.numpy().astype(np.uint32)),
    )
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3)
    middles = (low + (index + 0.5) * voxel).astype(np.float32)
    return index[scene.compute_occupancy(core.Tensor(middles), nthreads=1).numpy() > 0.5]


def _cell(low: np.ndarray, high: np.ndarray, filled: np.ndarray) -> _Cell:
    return _Cell(low, high, filled, _hull_volume(filled))


def _hull_volume(filled: np.ndarray) -> float:
    """[voxels] volume of the convex hull of voxels: of the ends of their columns, with all their corners."""
    from scipy.spatial import ConvexHull

    if not len(filled):
        return 0.0
    low = filled.min(0)
    flat = np.ravel_multi_index((filled[:, :2] - low[:2]).T, (filled[:, :2] - low[:2]).max(0) + 1)
    first = np.full(flat.max() + 1, np.iinfo(np.int64).max)
    last = np.full(flat.max() + 1, -1)
    np.minimum.at(first, flat, filled[:, 2])
    np.maximum.at(last, flat, filled[:, 2])
    some = np.nonzero(last >= 0)[0]
    columns = np.stack(np.unravel_index(some, (filled[:, :2] - low[:2]).max(0) + 1), 1) + low[:2]
    ends = np.concatenate([np.c_[columns, first[some]], np.c_[columns, last[some] + 1]])
    corners = [ends + np.array([i, j, 0]) for i in (0, 1) for j in (0, 1)]
    return float(ConvexHull(np.unique(np.concatenate(corners), axis=0)).volume)


def _best_cut(cell: _Cell) -> list[_Cell] | None:
    """The two halves that waste least together; None where no cut leaves both with something.

    Even halves and narrow necks are preferred a little: to cut a ring open gains nothing at first, and to
    shave off its flat side would gain a little every time (Mamou 2016 weighs balance in the same way).
    """
    best, least, count = None, math.inf, len(cell.filled)
    axes = np.arange(3)
    for axis in range(3):
        ends = cell.filled[:, axis].min(), cell.filled[:, axis].max() + 1
        for place in np.unique(np.linspace(*ends, _PLACES + 2).round().astype(int))[1:-1]:
            below = cell.filled[:, axis] < place
            share = float(below.mean())
            if share in (0.0, 1.0):
                continue
            halves = [
                _cell(cell.low, np.where(axes == axis, place, cell.high), cell.filled[below]),
                _cell(np.where(axes == axis, place, cell.low), cell.high, cell.filled[~below]),
            ]
            neck = np.count_nonzero(cell.filled[:, axis] == place) / count ** (2 / 3)
            cost = sum(half.hull for half in halves) / cell.hull + _EVEN * abs(2 * share - 1) + _NARROW * neck
            if cost < least:
                best, least = halves, cost
    return best


def _clipped(
    vertices: np.ndarray, faces: np.ndarray, cell: _Cell, low: np.ndarray, voxel: float, size: np.ndarray
) -> np.ndarray:
    """Points whose hull is that of the mesh in a cell: its vertices, and where its edges leave the cell."""
    # Outer walls are no cuts: the mesh may stick out of the voxels by a rounding error.
    start = np.where(cell.low == 0, -np.inf, low + cell.low * voxel)
    stop = np.where(cell.high == size, np.inf, low + cell.high * voxel)
    slack = 1e-6 * voxel
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])), axis=0)
    a, b = vertices[edges[:, 0]], vertices[edges[:, 1]]
    points: list[Any] = [vertices]
    for axis in range(3):
        for wall in (start[axis], stop[axis]):
            crossing = (
                (a[:, axis] - wall) * (b[:, axis] - wall) < 0 if np.isfinite(wall) else np.zeros(len(a), bool)
            )
            p, q = a[crossing], b[crossing]
            points.append(p + (q - p) * ((wall - p[:, axis]) / (q[:, axis] - p[:, axis]))[:, None])
    # What lies deep inside at the edges of the cell, where neither a vertex nor an edge of the mesh is.
    points.append(low + (cell.filled + 0.5) * voxel)
    found = np.concatenate(points)
    return found[((found >= start - slack) & (found <= stop + slack)).all(axis=1)]
