"""Objects from geometry alone: the surface that things stand on, and what stands on it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, part
from gaussworld.selection import oklab
from gaussworld.world_object import BACKGROUND_ID, ObjectKind, Vector

from .clusters import hanging_together, taken_apart, with_crumbs, with_floors
from .found import Found
from .lift import Votes, decided
from .seen import Seen, look
from .support_plane import Surface, carrying, level_surfaces, upward

#: What stands on a surface begins this many deviations above it, and this share of its diameter.
_DEVIATIONS, _ABOVE = 5.0, 0.002
#: Things reach up from their surface by this share of its diameter at most.
_TALLEST = 0.8
#: A thing has this share of the weight of its surface, and this many Gaussians, at least.
_LIGHTEST, _FEWEST = 0.0008, 25
#: [cells] how far beyond the edge a table's sides, and things that hang over it, may be.
_SIDES, _OVER = 3, 12
#: A surface with less than this share of its weight below it is the ground, not a table.
_BELOW = 0.02
#: [px] A Gaussian that makes up less of the pictures says nothing.
_SEEN = 0.3


def from_geometry(
    gaussians: Gaussians, cameras: Sequence[Camera], up: Vector | None
) -> Iterator[Event[Found]]:
    """Find the table and the things on it; what is beside and beneath is background.

    Args:
        gaussians: in the world frame; those that are shown.
        cameras: that look at the scene; the surface is what they see of it.
        up: against gravity; found out where it is None.

    Raises:
        CaptureError: no level surface that carries anything.
    """
    seen = yield from part(look(gaussians, cameras), "Looking")
    yield Done(things_on_surface(gaussians, seen, cameras, up))


def things_on_surface(
    gaussians: Gaussians, seen: Seen, cameras: Sequence[Camera], up: Vector | None
) -> Found:
    """As `from_geometry`, of Gaussians whose surface is known."""
    surfaces = level_surfaces(seen.points, seen.weights, upward(up, cameras, seen.points), cameras)
    surface = carrying(surfaces, seen.points, seen.weights)
    if surface is None:
        got = f"{len(surfaces)} such surfaces, with nothing on them" if surfaces else "no level surface"
        raise CaptureError(
            f"expected a table, a floor or another level surface with things on it, got {got}; give masks:"
            " --masks or --mask-command"
        )
    heights = surface.heights(seen.points)
    above = max(_DEVIATIONS * surface.noise, _ABOVE * surface.area**0.5)
    things = _things(gaussians, seen, surface, heights, above)
    table = _table(seen, surfaces, surface, heights, above) & (things == 0)
    is_ground = not _lies_above_something(seen, surface, heights, above)
    first = 1 if is_ground else 2
    labels = torch.where(things > 0, things + first - 1, torch.where(table, first - 1, BACKGROUND_ID))
    votes = _votes(seen, labels, things, heights / above)
    lifted = decided(gaussians, votes)
    found = Found(lifted.ids, lifted.confidences)
    return found if is_ground else replace(found, names={1: "table"}, kinds={1: ObjectKind.STATIC})


def _things(
    gaussians: Gaussians, seen: Seen, surface: Surface, heights: Tensor, above: float
) -> Int[Tensor, " n"]:
    """The thing that each Gaussian above the surface belongs to, from 1, the largest first; 0 for none."""
    points, weights = seen.points, seen.weights
    high = (heights > above) & (heights < _TALLEST * surface.area**0.5) & (weights > _SEEN)
    rows = (high & surface.covers(points, _OVER)).nonzero()[:, 0]
    things = torch.zeros(len(points), dtype=torch.long)
    if len(rows) < _FEWEST:
        return things
    pieces, edges, spacing = hanging_together(points[rows])
    colors = oklab(gaussians.rgb.detach()[rows])
    parts = taken_apart(pieces, edges, spacing, points[rows], seen.normals[rows], colors, weights[rows])
    parts = with_floors(parts, points[rows] @ surface.axes.T, heights[rows], weights[rows])
    parts = with_crumbs(parts, points[rows], weights[rows], spacing)
    number = int(parts.max()) + 1
    weight = torch.zeros(number).index_add_(0, parts, weights[rows])
    over = torch.zeros(number).index_add_(0, parts, weights[rows] * surface.covers(points[rows]))
    own = float(weights[(heights.abs() <= above) & surface.covers(points)].sum())
    kept = (weight > _LIGHTEST * own) & (parts.bincount(minlength=number) >= _FEWEST) & (over > 0.5 * weight)
    order = torch.argsort(torch.where(kept, weight, 0.0), descending=True)
    rank = torch.empty(number, dtype=torch.long)
    rank[order] = torch.arange(1, number + 1)
    things[rows] = torch.where(kept, rank, 0)[parts]
    return things


def _table(
    seen: Seen, surfaces: Sequence[Surface], surface: Surface, heights: Tensor, above: float
) -> Bool[Tensor, " n"]:
    """The surface itself, and what is beneath it and not the ground: its sides and legs."""
    margin = _SIDES + round(2 * surface.spacing / surface.cell)
    beneath = surface.covers(seen.points, margin) & (heights <= above)
    for other in surfaces:
        if float(surface.heights(other.middle()[None])[0]) < -2 * above:
            level = other.heights(seen.points)
            beneath &= (heights >= -above) | (level > max(4 * other.noise, above))
    return beneath


def _lies_above_something(seen: Seen, surface: Surface, heights: Tensor, above: float) -> bool:
    own = float(seen.weights[(heights.abs() <= above) & surface.covers(seen.points)].sum())
    return float(seen.weights[heights < -2 * above].sum()) > _BELOW * own


def _votes(seen: Seen, labels: Tensor, things: Tensor, height: Float[Tensor, " n"]) -> Votes:
    """Evidence for each label: less of it close to the border between a thing and what it stands on.

    Args:
        seen: weights count.
        labels: chosen for each Gaussian.
        things: above the surface, 0 for none.
        height: in units of the border between surface and things.
    """
    numbers, columns = labels.unique(return_inverse=True)
    # Halfway between surface and border nothing is sure; from twice the border's height on all is.
    sure = torch.where(things > 0, height - 1, torch.where(height > 0, 1 - height, 1.0)).clamp(0.05, 1)
    lost = (height > 1) & (things == 0)
    evidence = seen.weights * torch.where(lost, 0.0, sure)
    weights = torch.zeros(len(labels), len(numbers))
    weights[torch.arange(len(labels)), columns] = evidence
    return Votes(tuple(numbers.tolist()), weights)
