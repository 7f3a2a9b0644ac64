"""Where an object's Gaussians lie: which of them count, the box around them, and what they stand on."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from
from gaussworld.selection.connect import components

from .carve import Grid

#: Gaussians fainter than this are no surface.
_FAINT = 0.05
#: A part of an object with less than this share of its Gaussians is a stray.
_STRAY = 0.02
#: [share of the object's size] thickness of the layer in which a support's surface is looked for.
_LAYER = 0.02


def solid(gaussians: Gaussians) -> Gaussians:
    """An object's Gaussians without faint ones and without strays that lie apart from it."""
    kept = gaussians.detach().select(gaussians.opacities.detach() > _FAINT)
    if len(kept) < 50:
        return kept
    free = replace(kept, flags=torch.zeros_like(kept.flags))
    part = components(free)
    sizes = part.bincount()
    return kept.select((sizes >= max(1.0, _STRAY * len(kept)))[part])


def axes_from_up(up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Columns: two level directions and `up`; the world's own axes where up is +z."""
    if float(up[2]) > 1 - 1e-6:
        return torch.eye(3)
    side = torch.linalg.cross(torch.eye(3)[int(up.abs().argmin())], up)
    side = side / side.norm()
    return torch.stack([side, torch.linalg.cross(up, side), up], dim=1)


def grid_around(gaussians: Gaussians, up: Float[Tensor, "3"], voxels: int) -> Grid:
    """About so many voxels around Gaussians, two standard deviations and some voxels beyond their centres."""
    axes = axes_from_up(up)
    local = gaussians.means @ axes
    deviations = torch.einsum("ia,nij,ja->na", axes, gaussians.covariances, axes).clamp(min=0).sqrt()
    low = (local - 2 * deviations).amin(0)
    high = (local + 2 * deviations).amax(0)
    span = (high - low).clamp(min=1e-6)
    # A plate must not become infinitely fine.
    span_for_size = span.clamp(min=0.03 * float(span.amax()))
    voxel = float((span_for_size.prod() / voxels) ** (1 / 3))
    margin = 4 * voxel
    size = [int(side) for side in torch.ceil((span + 2 * margin) / voxel) + 1]
    origin = axes @ (low - margin)
    return Grid(pose_from(axes, origin), voxel, (size[0], size[1], size[2]))


def corners_of(grid: Grid, margin: float = 4.0) -> Float[Tensor, "8 3"]:
    """The corners of the box that a grid was made around, in the world frame."""
    low = torch.full((3,), margin)
    high = torch.tensor([float(count - 1) for count in grid.size]) - margin
    choice = torch.cartesian_prod(*(torch.stack([a, b]) for a, b in zip(low, high)))
    pose = grid.world_from_grid
    return choice * grid.voxel @ pose[:3, :3].T + pose[:3, 3]


def floor_under(own: Gaussians, others: Gaussians, up: Float[Tensor, "3"]) -> float | None:
    """Coordinate along `up` of the level surface an object stands on; None where there is none.

    The densest thin layer of other Gaussians around its foot, sought farther and farther out, since a smooth
    table has few of them.

    Args:
        own: the object's Gaussians, without strays, in the world frame.
        others: of what it rests on, or all others.
        up: unit direction against gravity.
    """
    if not len(own) or not len(others):
        return None
    axes = axes_from_up(up)
    mine, theirs = own.means @ axes, others.means.detach() @ axes
    low, high = (torch.quantile(_sample(mine), q, dim=0) for q in (0.01, 0.99))
    size = float((high - low).amax())
    middle, reach = (low + high)[:2] / 2, 0.75 * float((high - low)[:2].norm())
    level = (theirs[:, 2] > low[2] - 0.15 * size) & (theirs[:, 2] < low[2] + 0.25 * (high - low)[2])
    level &= others.opacities.detach() > 0.3
    for factor in (1, 2, 4):
        near = level & ((theirs[:, :2] - middle).norm(dim=1) < factor * reach)
        heights = theirs[near, 2].sort().values
        if len(heights) < 20:
            continue
        ends = torch.searchsorted(heights, heights + _LAYER * size, right=True)
        counts = ends - torch.arange(len(heights))
        first = int(counts.argmax())
        if int(counts[first]) >= max(10, 0.2 * len(heights)):
            return float(heights[first : first + int(counts[first])].median())
    return None


def _sample(points: Tensor, most: int = 100_000) -> Tensor:
    """torch.quantile takes 16 million numbers at most, and needs no more than these."""
    return points[:: max(1, len(points) // most)]
