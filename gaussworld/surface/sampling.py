"""Points on a surface, dense where its form or its paint is fine: what the cells of Gaussians are made of."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..neighbors import nearest
from ..shape import Mesh
from .painted import Surface

#: Points for each cell: enough for the second moments of its form.
PER_CELL = 12
#: [rad] Faces that meet at a larger angle meet at a crease.
CREASE = math.radians(35)
#: Spacing at a crease, and where colours change sharply, as a share of the largest.
FINEST = 0.35
#: How fast spacing grows with the distance from a crease.
GROWTH = 0.35
#: Standard deviation of the colours nearby at which spacing is half the largest.
DETAIL = 0.06


@dataclass(frozen=True, eq=False)
class Points:
    """Points on a surface, in an order in which neighbours are near each other; all stand for as much."""

    positions: Float[Tensor, "m 3"]
    normals: Float[Tensor, "m 3"]
    """Unit normals of the faces they are on."""
    colors: Float[Tensor, "m 3"]
    """sRGB"""
    spacing: Float[Tensor, " m"]
    """How far apart cells shall be here; a point stands for a share of its square."""


@dataclass(frozen=True, eq=False)
class _Patches:
    """Small triangles that cover a surface, each a part of one of its faces."""

    mesh: Mesh
    faces: Int[Tensor, " t"]
    """The face each is a part of."""
    corners: Float[Tensor, "t 3 3"]
    """Barycentric coordinates in that face of its three corners."""

    def select(self, mask: Tensor) -> "_Patches":
        return _Patches(self.mesh, self.faces[mask], self.corners[mask])

    @property
    def places(self) -> Float[Tensor, "t 3 3"]:
        return self.corners @ self.mesh.triangles[self.faces]

    @property
    def areas(self) -> Float[Tensor, " t"]:
        a, b, c = self.places.double().unbind(1)
        return torch.linalg.cross(b - a, c - a).norm(dim=1) / 2

    def halved(self) -> "_Patches":
        """Each cut in two at the middle of its longest edge."""
        places = self.places
        longest = (places.roll(-1, 1) - places).norm(dim=2).argmax(1)
        rows = torch.arange(len(longest))
        a, b, c = (self.corners[rows, (longest + i) % 3] for i in range(3))
        middle = (a + b) / 2
        halves = [torch.stack([a, middle, c], 1), torch.stack([middle, b, c], 1)]
        return _Patches(self.mesh, self.faces.repeat(2), torch.cat(halves))


class _Spacing:
    """How fine a surface must be sampled at a place, relative to its coarsest."""

    def __init__(self, surface: Surface, coarsest: float, generator: torch.Generator) -> None:
        self.coarsest = coarsest
        self.creases = crease_points(surface.mesh, coarsest * FINEST / 2)
        pool = int(min(max(4 * surface.mesh.area / coarsest**2, 64), 400_000))
        whole = _whole(surface.mesh)
        faces, weights = _scattered(whole, whole.areas, pool, generator)
        colors = surface.colors_at(faces, weights)
        varied = len(colors) > 12 and bool((colors.amax(0) - colors.amin(0) > 1e-3).any())
        self.pool = (surface.mesh.triangles[faces] * weights[..., None]).sum(1) if varied else None
        if self.pool is not None:
            around = colors[nearest(self.pool, 12)[1]]
            self.fineness = 1 + around.std(dim=1).norm(dim=1) / DETAIL

    def distances(self, places: Float[Tensor, "t 3"]) -> tuple[Tensor, Tensor]:
        """Distance to the next crease, and the factor by which paint asks for finer cells."""
        far = torch.full((len(places),), math.inf)
        crease = nearest(self.creases, 1, places)[0][:, 0] if len(self.creases) else far
        if self.pool is None:
            return crease, torch.ones(len(places))
        return crease, self.fineness[nearest(self.pool, 1, places)[1][:, 0]]

    @staticmethod
    def of(coarsest: float, crease: Tensor, fineness: Tensor) -> Tensor:
        by_paint = (coarsest / fineness).clamp(min=coarsest * FINEST)
        return torch.minimum(by_paint, coarsest * FINEST + GROWTH * crease)


def points_on(surface: Surface, count: int, generator: torch.Generator) -> Points:
    """Points for `count` cells, `PER_CELL` for each.

    Raises:
        ValueError: the surface has no area.
    """
    area = surface.mesh.area
    if not 0 < area < math.inf:
        raise ValueError(f"expected a surface with an area above 0, got {area:g}")
    spacing = _Spacing(surface, math.sqrt(area / count), generator)
    patches, crease, fineness = _divided(surface.mesh, spacing)
    coarsest = _fitting(patches.areas, crease, fineness, spacing.coarsest, count)
    wanted = spacing.of(coarsest, crease, fineness)
    order = _along_a_curve(patches.places.mean(1))
    patches, wanted = _Patches(patches.mesh, patches.faces[order], patches.corners[order]), wanted[order]
    rows, inner = _scattered_rows(patches.areas / wanted.double() ** 2, count * PER_CELL, generator)
    weights = (patches.corners[rows] * inner[..., None]).sum(1)
    faces = patches.faces[rows]
    positions = (surface.mesh.triangles[faces] * weights[..., None]).sum(1)
    normals = face_normals(surface.mesh)[faces]
    return Points(positions, normals, surface.colors_at(faces, weights), wanted[rows])


def crease_points(mesh: Mesh, step: float) -> Float[Tensor, "k 3"]:
    """Points along the edges where the surface ends or turns sharply, at most `step` apart."""
    faces = mesh.faces.long()
    corners = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    edges, index, counts = corners.unique(dim=0, return_inverse=True, return_counts=True)
    normals = face_normals(mesh).repeat(3, 1)
    # The sum of two unit normals that differ by an angle a is 2 cos(a / 2) long.
    sums = torch.zeros(len(edges), 3).index_add_(0, index, normals).norm(dim=1)
    sharp = (counts != 2) | (sums < 2 * math.cos(CREASE / 2))
    a, b = (mesh.vertices[edges[sharp][:, i]] for i in (0, 1))
    along = ((b - a).norm(dim=1) / step).ceil().clamp(1, 1000).long()
    rows = torch.arange(len(a)).repeat_interleave(along)
    place = torch.arange(len(rows)) - (along.cumsum(0) - along)[rows]
    share = ((place + 0.5) / along[rows])[:, None]
    return a[rows] * (1 - share) + b[rows] * share


def face_normals(mesh: Mesh) -> Float[Tensor, "f 3"]:
    """Unit normals, computed in double precision; those of faces without an area are 0."""
    a, b, c = mesh.triangles.double().unbind(1)
    return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1, eps=1e-300).float()


def _whole(mesh: Mesh) -> _Patches:
    count = len(mesh.faces)
    return _Patches(mesh, torch.arange(count), torch.eye(3).expand(count, 3, 3))


def _divided(mesh: Mesh, spacing: _Spacing) -> tuple[_Patches, Tensor, Tensor]:
    """The surface in patches of about the spacing wanted, with what `_Spacing.distances` says of them."""
    done: list[tuple[_Patches, Tensor, Tensor]] = []
    rest = _whole(mesh)
    for _ in range(50):
        places = rest.places
        crease, fineness = spacing.distances(places.mean(1))
        limit = 2 * spacing.of(spacing.coarsest, crease, fineness)
        large = (places.roll(-1, 1) - places).norm(dim=2).amax(1) > limit
        done.append((rest.select(~large), crease[~large], fineness[~large]))
        if not bool(large.any()):
            break
        rest = rest.select(large).halved()
    patches, crease, fineness = zip(*done)
    joined = _Patches(mesh, torch.cat([p.faces for p in patches]), torch.cat([p.corners for p in patches]))
    return joined, torch.cat(crease), torch.cat(fineness)


def _fitting(areas: Tensor, crease: Tensor, fineness: Tensor, start: float, count: int) -> float:
    """The coarsest spacing with which there are `count` cells, by bisection."""
    low, high = start / 10, start * 10
    for _ in range(40):
        middle = math.sqrt(low * high)
        cells = float((areas / _Spacing.of(middle, crease, fineness).double() ** 2).sum())
        low, high = (middle, high) if cells > count else (low, middle)
    return math.sqrt(low * high)


def _scattered(
    patches: _Patches, weights: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Faces and barycentric coordinates of points in patches."""
    rows, inner = _scattered_rows(weights, count, generator)
    return patches.faces[rows], (patches.corners[rows] * inner[..., None]).sum(1)


def _scattered_rows(
    weights: Float[Tensor, " t"], count: int, generator: torch.Generator
) -> tuple[Int[Tensor, " m"], Float[Tensor, "m 3"]]:
    """Rows of triangles, as often as their weights say, and barycentric coordinates in them.

    Strata instead of pure chance: the sum over triangles is cut in equal lengths, with one point in each.
    """
    ends = weights.cumsum(0)
    at = (torch.arange(count) + torch.rand(count, generator=generator).double()) * (float(ends[-1]) / count)
    rows = torch.searchsorted(ends, at).clamp(max=len(ends) - 1)
    u, v = torch.rand(2, count, generator=generator)
    # Uniform on a triangle (Osada et al. 2002, "Shape distributions", eq. 1).
    root = u.sqrt()
    return rows, torch.stack([1 - root, root * (1 - v), root * v], 1)


def _along_a_curve(places: Float[Tensor, "t 3"]) -> Int[Tensor, " t"]:
    """An order in which neighbours are mostly near each other: Morton's."""
    low, high = places.amin(0), places.amax(0)
    cells = ((places - low) / float((high - low).max().clamp(min=1e-30)) * 1023).long()
    code = torch.zeros(len(places), dtype=torch.long)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code.argsort()
