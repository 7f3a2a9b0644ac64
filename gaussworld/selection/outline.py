"""Points in a polygon or near a stroke: a small raster decides almost all of them, the rest is computed."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from .masks import BLOCK

#: Longer side of the raster at most; its squares are never smaller than a pixel.
_SIDE = 1024
#: Tests of one point against one edge that are made together.
_BLOCK = 1 << 18
#: What is known of all points in one square of the raster.
_OUTSIDE, _INSIDE, _UNSURE = 0, 1, 2
#: Lines are taken to be so much thicker [squares], against rounding.
_SLACK = 1e-3


def inside_polygon(points: Float[Tensor, "m 2"], corners: Float[Tensor, "v 2"]) -> Bool[Tensor, " m"]:
    """Even-odd rule: from these points a ray to the right crosses the closed polygon an odd number of times.

    Points that are not finite are outside.
    """
    corners = corners.detach().cpu().double()
    edges = torch.stack([corners, corners.roll(-1, dims=0)], dim=1)
    raster = _Raster.around(corners, 0.0)
    known = _polygon_squares(raster.local(edges), raster.shape)
    found, unsure = raster.look_up(points, known)
    exact = [_crosses_odd(part, edges) for part in _parts(points[unsure], len(edges))]
    found[unsure] = torch.cat(exact) if exact else False
    return found


def near_stroke(
    points: Float[Tensor, "m 2"], stroke: Float[Tensor, "v 2"], radius: float
) -> Bool[Tensor, " m"]:
    """Points at most `radius` away from the straight lines between successive points of a stroke."""
    stroke = stroke.detach().cpu().double()
    edges = torch.stack([stroke, torch.cat([stroke[1:], stroke[-1:]])], dim=1)
    raster = _Raster.around(stroke, radius)
    known = _stroke_squares(raster.local(edges), radius / raster.side, raster.shape)
    found, unsure = raster.look_up(points, known)
    limit = radius * radius
    exact = [_squared_distance(part, edges) <= limit for part in _parts(points[unsure], len(edges))]
    found[unsure] = torch.cat(exact) if exact else False
    return found


@dataclass(frozen=True)
class _Raster:
    """Squares that cover an outline, with a border of one."""

    low: Float[Tensor, "2"]
    side: float
    shape: tuple[int, int]

    @classmethod
    def around(cls, corners: Tensor, margin: float) -> "_Raster":
        low, high = corners.amin(dim=0) - margin, corners.amax(dim=0) + margin
        side = max(float((high - low).max()) / (_SIDE - 3), 1.0)
        width, height = ((high - low) / side).floor().long().tolist()
        return cls(low - side, side, (height + 3, width + 3))

    def local(self, points: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
        """In units of squares, from the corner of the first."""
        return (points.double() - self.low) / self.side

    def look_up(self, points: Tensor, known: UInt8[Tensor, "h w"]) -> tuple[Tensor, Tensor]:
        """Points in squares that are inside, and the numbers of those that have to be computed."""
        height, width = self.shape
        found: list[Tensor] = []
        for part in points.split(BLOCK):
            x, y = self.local(part).unbind(dim=1)
            there = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            square = torch.where(there, y.floor() * width + x.floor(), 0).long()
            # The first square is of the border, outside.
            found.append(known.flatten().index_select(0, square))
        states = torch.cat(found) if found else torch.zeros(0, dtype=torch.uint8)
        return states == _INSIDE, (states == _UNSURE).nonzero()[:, 0]


def _parts(points: Tensor, count: int) -> list[Tensor]:
    return list(points.double().split(max(1, _BLOCK // count))) if len(points) else []


def _crosses_odd(points: Float[Tensor, "m 2"], edges: Float[Tensor, "e 2 2"]) -> Bool[Tensor, " m"]:
    x, y = points[:, None, 0], points[:, None, 1]
    (x0, y0), (x1, y1) = edges[:, 0].unbind(dim=1), edges[:, 1].unbind(dim=1)
    # A corner counts for the edge below it only, so that a ray through it crosses once.
    crossed = ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return crossed.sum(dim=1) % 2 == 1


def _squared_distance(points: Float[Tensor, "m 2"], edges: Float[Tensor, "e 2 2"]) -> Float[Tensor, " m"]:
    """To the nearest of the edges, which may be single points."""
    (x0, y0), (dx, dy) = edges[:, 0].unbind(dim=1), (edges[:, 1] - edges[:, 0]).unbind(dim=1)
    x, y = points[:, None, 0] - x0, points[:, None, 1] - y0
    share = (x * dx + y * dy).div_((dx * dx + dy * dy).clamp(min=1e-300)).clamp_(0, 1)
    return (x - share * dx).square_().add_((y - share * dy).square_()).amin(dim=1)


def _polygon_squares(edges: Float[Tensor, "e 2 2"], shape: tuple[int, int]) -> UInt8[Tensor, "h w"]:
    """Squares inside by the even-odd rule at their middles; unsure where an edge passes."""
    height, width = shape
    (x0, y0), (x1, y1) = edges[:, 0].unbind(dim=1), edges[:, 1].unbind(dim=1)
    slope = (x1 - x0) / (y1 - y0)
    middle = torch.arange(height, dtype=torch.float64)[:, None] + 0.5
    row, edge = ((y0 <= middle) != (y1 <= middle)).nonzero().unbind(dim=1)
    at = x0[edge] + (row + 0.5 - y0[edge]) * slope[edge]
    # To the right of a crossing instead of to its left: the closed outline has an even number in each row.
    flips = torch.zeros(height, width + 1, dtype=torch.int32)
    flips.index_put_((row, (at - 0.5).ceil().long().clamp(0, width)), flips.new_ones(1), accumulate=True)
    inside = flips[:, :width].cumsum(dim=1, dtype=torch.int32) & 1
    # An edge touches in each row what lies between where it enters and where it leaves.
    top, bottom = middle - 0.5 - _SLACK, middle + 0.5 + _SLACK
    row, edge = ((torch.minimum(y0, y1) <= bottom) & (torch.maximum(y0, y1) >= top)).nonzero().unbind(dim=1)
    low, high = torch.minimum(x0, x1)[edge], torch.maximum(x0, x1)[edge]
    enter = x0[edge] + (top[row, 0] - y0[edge]) * slope[edge]
    leave = x0[edge] + (bottom[row, 0] - y0[edge]) * slope[edge]
    flat = ~torch.isfinite(enter) | ~torch.isfinite(leave)
    first = torch.where(flat, low, torch.minimum(enter, leave).clamp(low, high)) - _SLACK
    last = torch.where(flat, high, torch.maximum(enter, leave).clamp(low, high)) + _SLACK
    touched = torch.zeros(height, width + 1, dtype=torch.int32)
    one = touched.new_ones(1)
    touched.index_put_((row, first.floor().long().clamp(0, width)), one, accumulate=True)
    touched.index_put_((row, last.floor().long().clamp(-1, width - 1) + 1), -one, accumulate=True)
    unsure = touched[:, :width].cumsum(dim=1, dtype=torch.int32) > 0
    return inside.to(torch.uint8).masked_fill_(unsure, _UNSURE)


def _stroke_squares(
    edges: Float[Tensor, "e 2 2"], radius: float, shape: tuple[int, int]
) -> UInt8[Tensor, "h w"]:
    """Squares wholly near the stroke; unsure where the middle is less than half a diagonal from its rim."""
    squared = torch.full(shape, math.inf, dtype=torch.float64)
    half = math.sqrt(0.5) + _SLACK
    low = (edges.amin(dim=1) - radius - 2).long().clamp(min=0).tolist()
    high = (edges.amax(dim=1) + radius + 2).long().tolist()
    for edge, (left, top), (right, bottom) in zip(edges, low, high):
        part = squared[top : bottom + 1, left : right + 1]
        height, width = part.shape
        y = torch.arange(top, top + height).double() + 0.5
        x = torch.arange(left, left + width).double() + 0.5
        (ax, ay), (dx, dy) = edge[0].tolist(), (edge[1] - edge[0]).tolist()
        length = max(dx * dx + dy * dy, 1e-300)
        share = ((x - ax) * (dx / length) + ((y - ay) * (dy / length))[:, None]).clamp_(0, 1)
        away = (x - ax - share * dx).square_() + (y[:, None] - ay - share * dy).square_()
        torch.minimum(part, away, out=part)
    known = torch.full(shape, _UNSURE, dtype=torch.uint8)
    known[squared > (radius + half) ** 2] = _OUTSIDE
    if radius > half:
        known[squared < (radius - half) ** 2] = _INSIDE
    return known
