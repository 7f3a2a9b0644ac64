"""Lids: where an object is covered by what stands on it, and has no Gaussians therefore."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.gaussians import Gaussians, cat
from gaussworld.hull import within_hull
from gaussworld.pose import pose_from
from gaussworld.shape import Mesh

from .convex import hull
from .extent import axes_from_up, floor_under

#: Discs along the longer side of a foot.
_ACROSS = 40


def resting(
    own: Gaussians, others: Sequence[Gaussians], up: Float[Tensor, "3"]
) -> list[tuple[Gaussians, float]]:
    """Those of others that stand on an object, and the coordinate along `up` of the level they stand on.

    Args:
        own: the object's Gaussians in the world frame.
        others: Gaussians of other objects, each without strays.
        up: unit direction against gravity.
    """
    found = [(other, floor_under(other, own, up)) for other in others]
    return [(other, height) for other, height in found if height is not None]


def with_lids(own: Gaussians, riders: Sequence[tuple[Gaussians, float]], up: Float[Tensor, "3"]) -> Gaussians:
    """An object's Gaussians, and level discs where others stand on it.

    Pictures show nothing of an object below what stands on it. Drawn alone it has a hole there, through which
    one would look at its inside and take it for empty.

    Args:
        own: the object's Gaussians in the world frame.
        riders: as `resting` finds them.
        up: unit direction against gravity.
    """
    lids = (_lid(own, rider, up, height) for rider, height in riders)
    made = [own, *(lid for lid in lids if lid is not None)]
    return cat(made) if len(made) > 1 else own


def levelled(
    parts: Sequence[Mesh], levels: Sequence[float], up: Float[Tensor, "3"], slack: float
) -> tuple[Mesh, ...]:
    """Convex parts cut off at the level on which things stand, where they reach a little above it.

    The hull of a table goes through the highest of all bumps and rims of its mesh: what stands on the table
    would be thrown up by that.

    Args:
        parts: in the world frame.
        levels: coordinates along `up`.
        up: unit direction against gravity.
        slack: [unit of the world] a part that reaches higher than this above a level has a reason to.
    """
    made = []
    for part in parts:
        top = float((part.vertices @ up).amax())
        below = [level for level in levels if 0 < top - level < slack]
        made.append(_cut_off(part, up, min(below)) if below else part)
    return tuple(made)


def _cut_off(part: Mesh, up: Tensor, level: float) -> Mesh:
    """What of a convex mesh lies below a level; the whole where nothing would be left."""
    heights = part.vertices @ up - level
    edges = torch.cat([part.faces[:, [0, 1]], part.faces[:, [1, 2]], part.faces[:, [2, 0]]]).long()
    a, b = heights[edges[:, 0]], heights[edges[:, 1]]
    crossing = (a < 0) & (b > 0)
    share = (a / (a - b))[crossing][:, None]
    start, end = part.vertices[edges[crossing, 0]], part.vertices[edges[crossing, 1]]
    return hull(torch.cat([part.vertices[heights <= 0], start + share * (end - start)]), 4 * 64) or part


def _lid(own: Gaussians, rider: Gaussians, up: Tensor, height: float) -> Gaussians | None:
    """Discs over the foot of what stands on an object, as far as the object reaches at that height."""
    axes = axes_from_up(up)
    above, mine = rider.means @ axes, own.means @ axes
    size = float((above.amax(0) - above.amin(0)).amax())
    foot = above[above[:, 2] < height + 0.5 * size][:, :2]
    level = mine[
        (mine[:, 2] - height).abs() < 0.1 * size + 0.02 * float((mine.amax(0) - mine.amin(0)).amax())
    ]
    if len(foot) < 3 or len(level) < 3:
        return None
    low, high = foot.amin(0), foot.amax(0)
    step = float((high - low).amax()) / _ACROSS
    if not step > 0:
        return None
    x, y = (torch.arange(float(a), float(b) + step, step) for a, b in zip(low, high))
    spots = torch.cartesian_prod(x, y)
    spots = spots[within_hull(spots, foot) & within_hull(spots, level[:, :2])]
    if not len(spots):
        return None
    count = len(spots)
    discs = Gaussians.from_activated(
        torch.cat([spots, torch.full((count, 1), height)], dim=1),
        torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4),
        torch.tensor([0.7, 0.7, 0.02]).expand(count, 3) * step,
        torch.full((count,), 0.95),
        own.rgb.median(0).values.expand(count, 3),
    )
    return discs.transformed(pose_from(axes, torch.zeros(3)))
