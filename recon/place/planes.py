"""Planes among sparse points: a seeded RANSAC that proposes from neighbours and scores flatness."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.neighbors import nearest

_MOST_POINTS = 5000
_PROPOSALS = 500
#: Proposals come from points within this many neighbours of each other: most lie on one surface.
_NEIGHBOURS = 60


@dataclass(frozen=True, eq=False)
class Plane:
    """All x with normal · x = offset."""

    normal: Float[Tensor, "3"]
    """Unit length; of either sign."""
    offset: float
    """[unit of the points]"""
    share: float
    """Share of the points that lie on it, beyond what a cloud without a plane would have there."""

    def distances(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """How far points lie before (positive) or behind it [unit of the points]."""
        return points @ self.normal.to(points) - self.offset


def find_planes(
    points: Float[Tensor, "m 3"],
    thickness: float,
    wanted: Callable[[Float[Tensor, "p 3"]], Bool[Tensor, " p"]],
    seed: int = 0,
    least_share: float = 0.08,
    most: int = 3,
) -> list[Plane]:
    """Find the planes that hold the most points, one after another (Fischler and Bolles 1981).

    A slab of a cloud without planes holds a third of what the three times thicker one holds; only what is
    beyond that counts, so that a thick cloud is not taken for a plane.

    Args:
        points: at most 5000 of them, drawn at random, are looked at.
        thickness: [unit of the points] how far from a plane its points may lie.
        wanted: which of the proposed unit normals to consider.
        seed: of the draws.
        least_share: of the points, below which a plane is none.
        most: stop after that many.
    """
    generator = torch.Generator().manual_seed(seed)
    points = points.detach().cpu().double()
    points = points[torch.isfinite(points).all(-1)]
    if len(points) > _MOST_POINTS:
        points = points[torch.randperm(len(points), generator=generator)[:_MOST_POINTS]]
    planes, total = [], len(points)
    while len(planes) < most and len(points) > max(_NEIGHBOURS, least_share * total):
        plane = _best(points, thickness, wanted, generator)
        if plane is None or plane.share * len(points) < least_share * total:
            break
        planes.append(Plane(plane.normal, plane.offset, plane.share * len(points) / total))
        points = points[plane.distances(points).abs() > 2 * thickness]
    return planes


def _best(
    points: Tensor,
    thickness: float,
    wanted: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> Plane | None:
    """The wanted plane with the most points, fitted to them."""
    normals, offsets = _proposals(points, generator)
    kept = wanted(normals)
    if not bool(kept.any()):
        return None
    normals, offsets = normals[kept], offsets[kept]
    best = int(_excess(points @ normals.T - offsets, thickness).argmax())
    normal, offset = normals[best], offsets[best]
    for _ in range(5):
        rows = (points @ normal - offset).abs() <= thickness
        if int(rows.sum()) < 3:
            return None
        middle = points[rows].mean(0)
        normal = torch.linalg.eigh((points[rows] - middle).T @ (points[rows] - middle)).eigenvectors[:, 0]
        offset = middle @ normal
    if not bool(wanted(normal[None])[0]):
        return None
    share = float(_excess(points @ normal[:, None] - offset, thickness)[0]) / len(points)
    return Plane(normal, float(offset), share)


def _proposals(points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Planes through random triples of neighbours: unit normals and offsets."""
    first = torch.randint(len(points), (_PROPOSALS,), generator=generator)
    _, rows = nearest(points, _NEIGHBOURS, points[first])
    # The outer half of the neighbourhood: a wide triple knows its normal better.
    half = _NEIGHBOURS // 2
    picked = torch.randint(half, _NEIGHBOURS, (_PROPOSALS, 2), generator=generator)
    second, third = rows.gather(1, picked).unbind(1)
    normals = torch.linalg.cross(points[second] - points[first], points[third] - points[first])
    sound = normals.norm(dim=-1) > 0
    normals = torch.nn.functional.normalize(normals[sound], dim=-1)
    return normals, (normals * points[first][sound]).sum(-1)


def _excess(distances: Float[Tensor, "m p"], thickness: float) -> Float[Tensor, " p"]:
    """Points within `thickness`, less half of those in the two slabs of that thickness on either side."""
    near = (distances.abs() <= thickness).sum(0)
    around = (distances.abs() <= 3 * thickness).sum(0) - near
    return near - around / 2
