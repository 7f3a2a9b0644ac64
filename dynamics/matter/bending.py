"""Particles of what bends: along a rope's axis, in the middle of a cloth, all through a volume."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.neighbors import nearest

from .fields import distance_field, grid, grid_points, look_up
from .geodesic import Web, farthest_points, unique_pairs
from .parts import PartKind
from .solidity import DENSE, Body

#: [m] thinnest half thickness that a cloth or a rope is taken to have.
_THINNEST = 5e-4
#: Grid points along each axis by which the inside of a volume is found.
_GRID = 32
#: A ball in a volume has such a part of their mean distance as its radius.
_BALL = 0.25


@dataclass(frozen=True, eq=False)
class Bent:
    """Particles of one part in its object's frame."""

    points: Float[Tensor, "p 3"]
    """[m]"""
    radii: Float[Tensor, " p"]
    """[m]"""
    shares: Float[Tensor, " p"]
    """Of the mass; their sum is 1."""
    edges: Int[Tensor, "e 2"]
    """Neighbours along the thing; each pair once, the smaller row first."""
    volume: float
    """[m^3] as the particles have it."""


def particles_of(body: Body, kind: PartKind, count: int, neighbors: int) -> Bent:
    """Particles of a body that bends.

    Args:
        body: what bends.
        kind: ROPE, CLOTH or VOLUME.
        count: how many particles, at most.
        neighbors: how many of its nearest each is joined with by an edge; a rope's with two on each side.
    """
    if len(body.dense) < 4:
        return _lump(body)
    if kind is PartKind.ROPE:
        return _rope(body, count)
    return _cloth(body, count, neighbors) if kind is PartKind.CLOTH else _volume(body, count, neighbors)


def _lump(body: Body) -> Bent:
    """Three Gaussians or fewer are one ball each."""
    count = len(body.dense)
    pairs = torch.combinations(torch.arange(count)) if count > 1 else torch.zeros(0, 2, dtype=torch.int64)
    volume = 1e-9 if body.hull is None else body.hull.volume
    radius = max((volume / count * 0.24) ** (1 / 3), _THINNEST)
    ones = torch.ones(count)
    return Bent(body.dense, radius * ones, ones / count, pairs, volume)


def _rope(body: Body, count: int) -> Bent:
    """Evenly spaced on the axis, from a radius inside one end to a radius inside the other."""
    line, radius = _axis(body.dense.double())
    at = torch.cat([line.new_zeros(1), (line[1:] - line[:-1]).norm(dim=1).cumsum(0)])
    length = float(at[-1])
    # Balls that overlap would push each other, and more of them than fit make a rope no smoother.
    number = max(8, min(count, int(length / (2 * radius)) + 1))
    points = _along(line, at, torch.linspace(0, length, number, dtype=line.dtype))
    shares = torch.full((number,), 1.0)
    shares[[0, -1]] = 0.5 + radius * (number - 1) / length
    rows = torch.arange(number)
    pairs = [torch.stack([rows[:-step], rows[step:]], 1) for step in (1, 2)]
    volume = torch.pi * radius**2 * (length + 4 / 3 * radius)
    radii = torch.full((number,), radius)
    return Bent(points.float(), radii, shares / shares.sum(), unique_pairs(torch.cat(pairs)), volume)


def _axis(dense: Tensor) -> tuple[Tensor, float]:
    """A tube's centre line [m], shortened by the radius at both ends, and its radius [m].

    Slices by the distance along the surface from one end come first; then twice the points are laid onto the
    line through the slices' middles, only near where they were, so that legs that touch stay apart.
    """
    _, along = Web(dense).ends()
    length = float(along.max())
    slices = max(8, min(64, len(dense) // 12))
    radius = _THINNEST
    for _ in range(3):
        middles, where = _middles(dense, along, slices)
        along, across = _laid(dense, middles, where, 3 * length / slices, along)
        radius = max(float(across.median()), _THINNEST)
    middles, where = _middles(dense, along, slices)
    low, high = float(along.quantile(0.005)) + radius, float(along.quantile(0.995)) - radius
    kept = middles[(where > low) & (where < high)]
    if len(kept) < 2:
        return middles[[0, -1]], radius
    ends = [_beyond(kept, where[(where > low) & (where < high)], place) for place in (low, high)]
    return torch.cat([ends[0], kept, ends[1]]), radius


def _middles(points: Tensor, along: Tensor, slices: int) -> tuple[Tensor, Tensor]:
    """Middles of slices, and their places along; thin slices overlap so that noise averages out."""
    length = float(along.max())
    at = (torch.arange(slices, dtype=points.dtype) + 0.5) * (length / slices)
    weight = (1 - (along[None] - at[:, None]).abs() / (length / slices)).clamp(min=0)
    total = weight.sum(1)
    filled = total > 0
    weight = weight[filled] / total[filled, None]
    return weight @ points, weight @ along


def _laid(points: Tensor, line: Tensor, where: Tensor, reach: float, along: Tensor) -> tuple[Tensor, Tensor]:
    """Place along a line through points, from its start, and distance from it; the ends go on straight."""
    starts, ends = line[:-1], line[1:]
    edge = ends - starts
    lengths = edge.norm(dim=1)
    begin = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])[:-1]
    offset = points[:, None] - starts
    share = (offset * edge).sum(2) / lengths.square()
    low, high = torch.zeros_like(lengths), torch.ones_like(lengths)
    low[0], high[-1] = -torch.inf, torch.inf
    share = torch.minimum(torch.maximum(share, low), high)
    gap = (offset - share[..., None] * edge).norm(dim=2)
    far = (along[:, None] < where[:-1] - reach) | (along[:, None] > where[1:] + reach)
    best = gap.masked_fill(far, torch.inf).argmin(1, keepdim=True)
    place = begin[best[:, 0]] + (share.gather(1, best) * lengths[best])[:, 0]
    return place - place.min(), gap.gather(1, best)[:, 0]


def _beyond(line: Tensor, where: Tensor, place: float) -> Tensor:
    """The point of a line at a place outside of it, straight on."""
    low = abs(place - float(where[0])) < abs(place - float(where[-1]))
    a, b = (line[0], line[min(2, len(line) - 1)]) if low else (line[-1], line[max(-3, -len(line))])
    step = abs(place - float(where[0] if low else where[-1]))
    return (a + (a - b) / (a - b).norm().clamp(min=1e-12) * step)[None]


def _along(line: Tensor, at: Tensor, places: Tensor) -> Tensor:
    row = torch.searchsorted(at, places).clamp(1, len(at) - 1)
    share = (places - at[row - 1]) / (at[row] - at[row - 1]).clamp(min=1e-12)
    return line[row - 1] + share[:, None] * (line[row] - line[row - 1])


def _cloth(body: Body, count: int, neighbors: int) -> Bent:
    """Evenly spread over the sheet between a cloth's two sides."""
    surface = body.surface[:: max(1, len(body.surface) // (4 * DENSE))]
    middle, apart = _sheet(surface)
    # Where more of one side than of the other was near, the first pass stops short.
    middle, _ = _sheet(middle)
    dense = middle[farthest_points(middle, DENSE)]
    half = max(_half_thickness(body, apart), _THINNEST)
    rows = farthest_points(dense, count)
    edges = Web(dense).neighbors(rows, neighbors)
    area = _area(body, dense)
    radii = torch.full((len(rows),), half)
    return Bent(dense[rows], radii, _shares(dense, rows), edges, 2 * half * area)


def _sheet(points: Tensor) -> tuple[Tensor, Tensor]:
    """Points moved across onto the plane of their neighbours, and how far [m]."""
    k = min(24, len(points) - 1)
    _, near = nearest(points, k)
    group = torch.cat([points[:, None], points[near]], 1).double()
    middle = group.mean(1)
    spread = group - middle[:, None]
    normal = torch.linalg.eigh(spread.transpose(1, 2) @ spread).eigenvectors[..., 0]
    height = ((points.double() - middle) * normal).sum(1, keepdim=True)
    return (points.double() - height * normal).to(points), height[:, 0].abs().to(points)


def _half_thickness(body: Body, apart: Tensor) -> float:
    if body.closed and body.item.shape is not None:
        return abs(body.item.shape.mesh.volume) / body.item.shape.mesh.area
    return float(apart.median())


def _area(body: Body, dense: Tensor) -> float:
    """[m^2] of one side."""
    if body.item.shape is not None and body.meshed:
        return body.item.shape.mesh.area / (2 if body.closed else 1)
    # Points at a blue-noise distance d from each other cover about 0.7 d^2 each.
    return 0.9 * len(dense) * float(nearest(dense, 1)[0].median()) ** 2


def _volume(body: Body, count: int, neighbors: int) -> Bent:
    """Evenly spread inside, the outermost one radius below the surface."""
    solid = body.solid
    if solid is None:
        return _cloth(body, count, neighbors)
    size = float((solid.vertices.amax(0) - solid.vertices.amin(0)).max())
    low, spacing = grid(solid.vertices, _GRID, 0.1 * size)
    field = distance_field(solid, body.parts, low, spacing, _GRID)
    apart = (solid.volume / count) ** (1 / 3)
    radius = min(_BALL * apart, 0.5 * -float(field.min()))
    inner = grid_points(low, spacing, _GRID)[field.reshape(-1) < -radius - 0.3 * apart]
    dense = torch.cat([_sunk(body.dense, field, low, spacing, radius), inner[:: max(1, len(inner) // DENSE)]])
    dense = dense[farthest_points(dense, DENSE)]
    rows = farthest_points(dense, count)
    edges = Web(dense).neighbors(rows, neighbors)
    radii = torch.full((len(rows),), radius)
    return Bent(dense[rows], radii, _shares(dense, rows), edges, solid.volume)


def _sunk(points: Tensor, field: Tensor, low: Tensor, spacing: Tensor, depth: float) -> Tensor:
    """Surface points moved inwards until they are that deep."""
    step = float(spacing.min())
    for _ in range(4):
        height = look_up(field, low, spacing, points)
        slope = torch.stack(
            [
                look_up(field, low, spacing, points + step * axis)
                - look_up(field, low, spacing, points - step * axis)
                for axis in torch.eye(3).to(points)
            ],
            1,
        )
        slope = torch.nn.functional.normalize(slope, dim=1)
        points = points - ((height + depth).clamp(min=-step))[:, None] * slope
    return points


def _shares(dense: Tensor, rows: Tensor) -> Float[Tensor, " p"]:
    """The part of the evenly spread points that is nearest to each particle."""
    owner = nearest(dense[rows], 1, dense)[1][:, 0]
    counts = owner.bincount(minlength=len(rows)).float()
    return counts / counts.sum()
