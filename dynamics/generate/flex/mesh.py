"""`flex_mesh`: the coloured closed surface of an elastic thing whose vertices are somewhere."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int

from gaussworld.shape import Mesh

from .flex import Flex
from .paint import picture_colors, rope_colors

_FINE = 0.0045
"""[m] sides of the triangles: the paint has to be seen in the colours of their corners."""
_AROUND = 10
"""Corners of a rope's section."""


def flex_mesh(flex: Flex, vertices: Float[np.ndarray, "v 3"]) -> Mesh:
    """A tube, a sheet with its thickness, or a block; its faces are the same wherever the vertices are.

    Args:
        flex: whose surface it is.
        vertices: [m] in the frame that the surface is wanted in.
    """
    if flex.kind == "rope":
        return _tube(flex, vertices)
    points, rest = _thick(flex, vertices), _thick(flex, flex.rest)
    finer = tuple(max(1, math.ceil(step / _FINE)) for step in flex.steps)
    surface, faces = _surface(_finer(points, finer))
    colors = picture_colors(flex, _surface(_finer(rest, finer))[0])
    return _mesh(surface, faces, colors)


def _mesh(points: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> Mesh:
    floats = (torch.from_numpy(np.ascontiguousarray(rows)).float() for rows in (points, colors))
    vertices, paint = floats
    return Mesh(vertices, torch.from_numpy(np.ascontiguousarray(faces)).int(), paint.clamp(0, 1))


def _thick(flex: Flex, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "x y z 3"]:
    """The lattice of vertices with its surface where the thing ends: half a thickness or a radius further."""
    lattice = vertices.reshape(*flex.counts, 3)
    if flex.kind == "cloth":
        sheet = lattice[:, :, 0]
        normal = np.cross(np.gradient(sheet, axis=0), np.gradient(sheet, axis=1))
        normal *= flex.radius / np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-12)
        return np.stack([sheet - normal, sheet + normal], axis=2)
    grown = lattice.copy()
    for axis, step in enumerate(flex.steps):
        rows = np.moveaxis(grown, axis, 0)
        for end, inner in ((0, 1), (-1, -2)):
            rows[end] += (rows[end] - rows[inner]) * flex.radius / step
    return grown


def _finer(lattice: Float[np.ndarray, "x y z 3"], times: tuple[int, ...]) -> Float[np.ndarray, "p q r 3"]:
    """Every cell of a lattice cut into so many along each axis."""
    for axis, count in enumerate(times):
        size = lattice.shape[axis]
        at = np.linspace(0, size - 1, (size - 1) * count + 1)
        low = np.minimum(at.astype(int), size - 2)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        lattice = (1 - share) * lattice.take(low, axis) + share * lattice.take(low + 1, axis)
    return lattice


def _surface(
    lattice: Float[np.ndarray, "x y z 3"],
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """The outer points of a lattice, and their triangles, which look outwards."""
    rows = np.arange(math.prod(lattice.shape[:3])).reshape(lattice.shape[:3])
    faces = []
    for axis in range(3):
        for end in (0, -1):
            side = np.moveaxis(rows, axis, 0)[end]
            # With y taken out, the two axes that are left turn the other way round.
            side = side if (end == -1) != (axis == 1) else side.T
            a, b, c, d = side[:-1, :-1], side[1:, :-1], side[1:, 1:], side[:-1, 1:]
            faces += [np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))]
    used, triangles = np.unique(np.concatenate(faces), return_inverse=True)
    return lattice.reshape(-1, 3)[used], triangles.reshape(-1, 3)


def _tube(flex: Flex, vertices: Float[np.ndarray, "v 3"]) -> Mesh:
    """Rings along the rope, closed by half balls."""
    times = max(1, math.ceil(flex.steps[0] / _FINE))
    line = _finer(vertices.reshape(-1, 1, 1, 3), (times,)).reshape(-1, 3)
    ahead = _unit(np.asarray(np.gradient(line, axis=0)))
    side, other = _frames(ahead)
    colors = rope_colors(flex)[np.minimum(np.arange(len(line)) // times, len(flex.edges) - 1)]
    tilt = np.array([0.75, 0.45]) * math.pi / 2
    ends = [(0, -t) for t in tilt] + [(i, 0.0) for i in range(len(line))] + [(-1, t) for t in tilt[::-1]]
    angle = np.arange(_AROUND) * 2 * math.pi / _AROUND
    # So wide that the section has the area of the circle.
    radius = flex.radius * math.sqrt(2 * math.pi / (_AROUND * math.sin(2 * math.pi / _AROUND)))
    rings = []
    for i, lift in ends:
        around = np.outer(np.cos(angle), side[i]) + np.outer(np.sin(angle), other[i])
        rings.append(line[i] + radius * (math.cos(lift) * around + math.sin(lift) * ahead[i]))
    poles = np.stack([line[0] - flex.radius * ahead[0], line[-1] + flex.radius * ahead[-1]])
    paint = np.concatenate([np.repeat(colors[[i for i, _ in ends]], _AROUND, axis=0), colors[[0, -1]]])
    return _mesh(np.concatenate([*rings, poles]), _tube_faces(len(ends)), paint)


def _tube_faces(rings: int) -> Int[np.ndarray, "f 3"]:
    rows = np.arange(rings * _AROUND).reshape(rings, _AROUND)
    beside = np.roll(rows, -1, axis=1)
    a, b, c, d = rows[:-1], beside[:-1], beside[1:], rows[1:]
    faces = [np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))]
    first, last = rings * _AROUND, rings * _AROUND + 1
    faces.append(np.stack([np.full(_AROUND, first), beside[0], rows[0]], axis=-1))
    faces.append(np.stack([np.full(_AROUND, last), rows[-1], beside[-1]], axis=-1))
    return np.concatenate(faces)


def _frames(ahead: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Two directions across a line at every point, turned as little as can be along it (Bishop 1975)."""
    sides = np.empty_like(ahead)
    # The axis that is least along the line's beginning.
    side = np.eye(3)[np.abs(ahead[0]).argmin()]
    for i, tangent in enumerate(ahead):
        side = _unit(side - tangent * (side @ tangent))
        sides[i] = side
    return sides, np.cross(ahead, sides)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
