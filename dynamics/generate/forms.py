"""`Form`: the surface of a simulated object as turned and extruded pieces, with charts to paint them on."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from gaussworld.shape import Mesh, Shape, joined

Points2 = Sequence[tuple[float, float]]
#: Profile corners sharper than this are edges; gentler ones are shaded smooth.
_CREASE_DEG = 40.0
_SEGMENTS = 64
_TEXEL = 0.0006
"""[m] width of a texel on an object of ordinary size."""
_MAX_TEXELS = 1536
#: Factor on all widths of texels; tests paint coarsely.
COARSER = 1.0
#: Texels around a chart that continue it, so that filtering never mixes two charts.
_GUTTER = 4


@contextmanager
def coarser(factor: float) -> Iterator[None]:
    """Forms that are made, and paintings that are painted, in the block have so much wider texels."""
    global COARSER  # noqa: PLW0603 - texels are asked for far below what knows how fine they shall be.
    before = COARSER
    COARSER = before * factor
    try:
        yield
    finally:
        COARSER = before


@dataclass(frozen=True, eq=False)
class Piece:
    """One closed surface in the object's frame, cut open along creases and seams so that paint fits on it."""

    vertices: Float[np.ndarray, "v 3"]
    """[m]"""
    normals: Float[np.ndarray, "v 3"]
    uv: Float[np.ndarray, "v 2"]
    """Place in the painting, range [0, 1]; v runs down the rows."""
    faces: Int[np.ndarray, "f 3"]
    """Counter-clockwise seen from outside."""
    chart: "PrismChart | TurnedChart"
    """Where on the surface each texel of the painting is."""
    parts: tuple[Mesh, ...]
    """Convex meshes that collide in its stead."""

    def moved(self, rotation: Float[np.ndarray, "3 3"], offset: Sequence[float]) -> "Piece":
        """The piece turned, then shifted [m]; its paint stays on it."""
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = torch.from_numpy(rotation), torch.tensor(offset, dtype=torch.float64)
        return replace(
            self,
            vertices=self.vertices @ rotation.T + np.asarray(offset),
            normals=self.normals @ rotation.T,
            parts=tuple(part.transformed(pose) for part in self.parts),
        )

    def welded(self) -> Mesh:
        """The closed mesh: every point once."""
        keys = np.round(self.vertices * 1e7).astype(np.int64)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        faces = inverse.reshape(-1)[self.faces]
        distinct = (faces != np.roll(faces, 1, axis=1)).all(1)
        return _mesh(self.vertices[first], faces[distinct])


@dataclass(frozen=True, eq=False)
class Form:
    """Closed pieces that make one rigid body; they touch, but no piece reaches into another."""

    pieces: tuple[Piece, ...]

    @cached_property
    def shape(self) -> Shape:
        """Surface and convex parts."""
        parts = tuple(part for piece in self.pieces for part in piece.parts)
        return Shape(joined([piece.welded() for piece in self.pieces]), parts)

    def points(self) -> Float[np.ndarray, "v 3"]:
        """[m] all vertices."""
        return np.concatenate([piece.vertices for piece in self.pieces])

    def centred(self) -> "Form":
        """The same form with its centre of mass at the origin."""
        offset = -self.shape.mesh.center_of_mass.double().numpy()
        return Form(tuple(piece.moved(np.eye(3), offset.tolist()) for piece in self.pieces))


def box(x: float, y: float, z: float, at: Sequence[float] = (0.0, 0.0, 0.0), texel: float = _TEXEL) -> Piece:
    """A cuboid with its middle at `at` [m]."""
    corners = [(-x / 2, -y / 2), (x / 2, -y / 2), (x / 2, y / 2), (-x / 2, y / 2)]
    return extruded(corners, z, texel=texel).moved(np.eye(3), at)


def extruded(polygon: Points2, height: float, convex: Sequence[Points2] = (), texel: float = _TEXEL) -> Piece:
    """A prism over a polygon [m], its middle height at z = 0.

    Args:
        polygon: corners, counter-clockwise.
        height: [m]
        convex: convex polygons that together are the polygon; not needed if it is convex itself.
        texel: [m] width of a texel of its painting.
    """
    corners = np.asarray(polygon, dtype=np.float64)
    chart = PrismChart(corners, height, texel)
    vertices, normals, uv, faces = chart.sides()
    triangles = _ear_clipped(corners)
    for top in (False, True):
        cap = np.column_stack([corners, np.full(len(corners), height / 2 if top else -height / 2)])
        faces.append((triangles if top else triangles[:, ::-1]) + sum(map(len, vertices)))
        vertices.append(cap)
        normals.append(np.tile([0.0, 0.0, 1.0 if top else -1.0], (len(corners), 1)))
        uv.append(chart.cap_uv(corners, top))
    parts = tuple(_hull_prism(np.asarray(part), height) for part in (convex or [polygon]))
    arrays = (np.concatenate(rows) for rows in (vertices, normals, uv, faces))
    return Piece(*arrays, chart=chart, parts=parts)


def turned(profile: Points2, parts: Sequence[Mesh] = (), segments: int = _SEGMENTS) -> Piece:
    """A solid of revolution about z.

    Args:
        profile: (radius, z) [m] from the axis at the bottom, round the outside, to the axis at the top.
        parts: convex parts; without them the solid is taken to be convex.
        segments: corners of every ring.
    """
    line = np.asarray(profile, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    along /= along[-1]
    steps = np.diff(line, axis=0)
    outward = np.column_stack([steps[:, 1], -steps[:, 0]])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    angle = np.linspace(0, 2 * math.pi, segments + 1)
    vertices, normals, uv, faces = [], [], [], []
    for i in range(len(steps)):
        for end, neighbour in ((i, i - 1), (i + 1, i + 1)):
            normal = _shaded(outward, i, neighbour)
            vertices.append(_ring(line[end, 0], line[end, 1], angle))
            normals.append(_ring(normal[0], normal[1], angle))
            uv.append(np.column_stack([angle / (2 * math.pi), np.full(len(angle), along[end])]))
        faces.append(_band(2 * i * (segments + 1), segments, bool(line[i, 0] > 0), bool(line[i + 1, 0] > 0)))
    arrays = [np.concatenate(rows) for rows in (vertices, normals, uv, faces)]
    arrays[0] = _closed_ring(arrays[0], segments)
    piece = Piece(*arrays, chart=TurnedChart(line, along), parts=tuple(parts))
    return piece if parts else replace(piece, parts=(piece.welded(),))


def wall_parts(outer: Points2, inner: Points2, sectors: int = 16) -> list[Mesh]:
    """Convex parts of a turned wall between two lines of (radius, z) [m] with equally many points."""
    angle = np.linspace(0, 2 * math.pi, sectors + 1)
    parts = []
    for k in range(sectors):
        for i in range(len(outer) - 1):
            section = [outer[i], outer[i + 1], inner[i + 1], inner[i]]
            ends = [_ring(r, z, angle[k : k + 2]) for r, z in section]
            parts.append(_hexahedron(np.array(ends)))
    return parts


def disc_part(radius: float, low: float, high: float) -> Mesh:
    """A cylinder's convex mesh between two heights [m]."""
    angle = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    rim = np.column_stack([np.cos(angle), np.sin(angle)]) * radius
    mesh = _hull_prism(rim, high - low)
    shift = torch.tensor([0.0, 0.0, (low + high) / 2])
    return replace(mesh, vertices=mesh.vertices + shift)


class PrismChart:
    """Where the faces of a prism lie in its painting: the sides as a strip above, the two caps below."""

    def __init__(self, corners: np.ndarray, height: float, texel: float) -> None:
        self.corners, self.height = corners, height
        ahead = np.roll(corners, -1, axis=0)
        self.lengths = np.linalg.norm(ahead - corners, axis=1)
        self.low = corners.min(0)
        self.extent = corners.max(0) - self.low
        total = (max(self.lengths.sum(), 2 * self.extent[0]), height + self.extent[1])
        self.texel = max(texel * COARSER, max(total) / (_MAX_TEXELS - 6 * _GUTTER))
        self.strip = (self._count(self.lengths.sum()), self._count(height))
        self.cap = (self._count(self.extent[0]), self._count(self.extent[1]))
        self.width = max(self.strip[0], 2 * self.cap[0] + 2 * _GUTTER) + 2 * _GUTTER
        self.rows = self.strip[1] + self.cap[1] + 4 * _GUTTER

    def _count(self, length: float) -> int:
        return max(2, math.ceil(length / self.texel))

    def _strip_uv(self, along: np.ndarray, up: np.ndarray) -> np.ndarray:
        x = _GUTTER + along / self.lengths.sum() * self.strip[0]
        y = _GUTTER + up * self.strip[1]
        return np.column_stack([x / self.width, y / self.rows])

    def cap_uv(self, points: np.ndarray, top: bool) -> np.ndarray:
        share = (points - self.low) / self.extent
        x = _GUTTER + share[:, 0] * self.cap[0] + (self.cap[0] + 2 * _GUTTER) * top
        y = self.strip[1] + 3 * _GUTTER + share[:, 1] * self.cap[1]
        return np.column_stack([x / self.width, y / self.rows])

    def sides(self) -> tuple[list, list, list, list]:
        vertices, normals, uv, faces = [], [], [], []
        along = np.concatenate([[0.0], np.cumsum(self.lengths)])
        for i, (a, b) in enumerate(zip(self.corners, np.roll(self.corners, -1, axis=0))):
            z = self.height / 2
            vertices.append(np.array([[*a, -z], [*b, -z], [*b, z], [*a, z]]))
            out = np.array([b[1] - a[1], a[0] - b[0], 0.0])
            normals.append(np.tile(out / np.linalg.norm(out), (4, 1)))
            ends = along[[i, i + 1, i + 1, i]]
            uv.append(self._strip_uv(ends, np.array([0.0, 0.0, 1.0, 1.0])))
            faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i)
        return vertices, normals, uv, faces

    def texels(self) -> Float[np.ndarray, "h w 3"]:
        """[m] the point that each texel shows: on the strip, and on the planes of the caps."""
        points = np.zeros((self.rows, self.width, 3))
        rows, columns = np.arange(self.rows) + 0.5, np.arange(self.width) + 0.5
        along = (columns - _GUTTER) / self.strip[0] * self.lengths.sum()
        knots = np.concatenate([[0.0], np.cumsum(self.lengths)])
        looped = np.vstack([self.corners, self.corners[:1]])
        side = self.strip[1] + 2 * _GUTTER
        for axis in range(2):
            points[:side, :, axis] = np.interp(along % knots[-1], knots, looped[:, axis])
        points[:side, :, 2] = ((rows[:side] - _GUTTER) / self.strip[1] - 0.5)[:, None] * self.height
        half = self.cap[0] + 2 * _GUTTER
        for top in (0, 1):
            x = (columns - _GUTTER - half * top) / self.cap[0] * self.extent[0] + self.low[0]
            y = (rows[side:] - side - _GUTTER) / self.cap[1] * self.extent[1] + self.low[1]
            span = slice(half * top, half * (top + 1))
            points[side:, span, 0] = x[None, span]
            points[side:, span, 1] = y[:, None]
            points[side:, span, 2] = (top - 0.5) * self.height
        return points


@dataclass(frozen=True, eq=False)
class TurnedChart:
    """The painting of a solid of revolution: the angle along its rows, the profile down its columns."""

    line: Float[np.ndarray, "p 2"]
    """[m] the profile's radius and z."""
    along: Float[np.ndarray, " p"]
    """Share of the profile's length up to each point."""

    def texels(self) -> Float[np.ndarray, "h w 3"]:
        """[m] the point that each texel shows."""
        length = np.linalg.norm(np.diff(self.line, axis=0), axis=1).sum()
        around = 2 * math.pi * self.line[:, 0].max()
        texel = max(_TEXEL * COARSER, max(length, around) / _MAX_TEXELS)
        width, rows = (max(4, math.ceil(size / texel)) for size in (around, length))
        share = (np.arange(rows) + 0.5) / rows
        radius, z = (np.interp(share, self.along, self.line[:, axis])[:, None] for axis in (0, 1))
        angle = (np.arange(width) + 0.5) / width * 2 * math.pi
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.tile(z, (1, width))], axis=-1)


def _shaded(outward: np.ndarray, here: int, neighbour: int) -> np.ndarray:
    """The normal (radial, z) at an end of a profile's step: the neighbour's too, unless there is a crease."""
    if not 0 <= neighbour < len(outward):
        return outward[here]
    if outward[here] @ outward[neighbour] < math.cos(math.radians(_CREASE_DEG)):
        return outward[here]
    mean = outward[here] + outward[neighbour]
    return mean / np.linalg.norm(mean)


def _ring(radius: float, z: float, angle: np.ndarray) -> np.ndarray:
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.full(len(angle), z)])


def _closed_ring(vertices: np.ndarray, segments: int) -> np.ndarray:
    """The last point of each ring exactly where its first is."""
    rings = vertices.reshape(-1, segments + 1, 3).copy()
    rings[:, -1] = rings[:, 0]
    return rings.reshape(-1, 3)


def _band(start: int, segments: int, low: bool, high: bool) -> np.ndarray:
    """Faces between two rings; a ring of no radius is a point, and its triangles are left out."""
    i = np.arange(segments)
    a, b = start + i, start + i + 1
    c, d = b + segments + 1, a + segments + 1
    faces = ([np.column_stack([a, b, c])] if low else []) + ([np.column_stack([a, c, d])] if high else [])
    return np.concatenate(faces)


def _ear_clipped(corners: np.ndarray) -> np.ndarray:
    """Triangles of a simple counter-clockwise polygon (Meisters 1975, "Polygons have ears")."""
    left, triangles = list(range(len(corners))), []
    while len(left) > 3:
        for k in range(len(left)):
            a, b, c = left[k - 1], left[k], left[(k + 1) % len(left)]
            others = [corners[i] for i in left if i not in (a, b, c)]
            if _turn(*corners[[a, b, c]]) > 1e-12 and not any(
                _inside(p, *corners[[a, b, c]]) for p in others
            ):
                triangles.append((a, b, c))
                del left[k]
                break
        else:
            raise ValueError("expected a simple polygon, counter-clockwise, got one without ears")
    return np.array([*triangles, tuple(left)])


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _inside(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    return min(_turn(a, b, p), _turn(b, c, p), _turn(c, a, p)) >= -1e-12


def _hull_prism(corners: np.ndarray, height: float) -> Mesh:
    """A prism over a convex polygon."""
    count = len(corners)
    vertices = np.array([[*p, z] for z in (-height / 2, height / 2) for p in corners])
    fan = np.array([(0, i, i + 1) for i in range(1, count - 1)])
    i = np.arange(count)
    j = (i + 1) % count
    sides = np.concatenate([np.column_stack([i, j, j + count]), np.column_stack([i, j + count, i + count])])
    return _mesh(vertices, np.concatenate([fan[:, ::-1], fan + count, sides]))


def _hexahedron(corners: np.ndarray) -> Mesh:
    """Eight corners as (four around, two along), the four clockwise seen from the first end."""
    points = corners.transpose(1, 0, 2).reshape(8, 3)
    around = [(0, 1, 2), (0, 2, 3), (4, 6, 5), (4, 7, 6)]
    sides = [f for i in range(4) for f in ((i, i + 4, (i + 1) % 4), ((i + 1) % 4, i + 4, (i + 1) % 4 + 4))]
    mesh = _mesh(points, np.array(around + sides))
    return mesh if mesh.volume > 0 else replace(mesh, faces=mesh.faces.flip(1))


def _mesh(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    return Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(np.ascontiguousarray(faces)).int())
