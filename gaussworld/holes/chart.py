"""`Chart`: the surface around a hole laid flat - a plane, gently bent where the surface is."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..pose import invert_pose, pose_from, rotation_from_rotvec, transform_points

_PROPOSALS, _SAMPLES, _FEWEST = 400, 2000, 12
#: A bend must shrink the distances from the surface to this share, or the surface is taken for a plane.
_WORTH_BENDING = 0.7


@dataclass(frozen=True, eq=False)
class Chart:
    """Coordinates x, y along a surface and z above it."""

    chart_from_world: Float[Tensor, "4 4"]
    """Rigid; z along the plane's normal."""
    bend: Float[Tensor, "6"]
    """Height of the surface over the plane: times x^2, x y, y^2, x, y, 1."""
    thickness: float
    """[m, or the world's unit] what lies closer than this to the surface belongs to it."""

    def flat(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """Points of the world in the chart."""
        local = transform_points(self.chart_from_world, points)
        return torch.cat([local[:, :2], local[:, 2:] - self._height(local)[:, None]], dim=1)

    def raised(self, flat: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """Points of the chart in the world."""
        local = torch.cat([flat[:, :2], flat[:, 2:] + self._height(flat)[:, None]], dim=1)
        return transform_points(invert_pose(self.chart_from_world), local)

    def turns(self, source: Float[Tensor, "m 2"], target: Float[Tensor, "m 2"]) -> Float[Tensor, "m 3 3"]:
        """Rotations in the world that carry the surface's normal at one place to that at another."""
        a, b = self._normals(source), self._normals(target)
        axis = torch.linalg.cross(a, b)
        # For unit vectors the cross product's length is the sine; the bend is gentle, so far from 1.
        angle = axis.norm(dim=1, keepdim=True).clamp(max=1)
        rotvec = axis / angle.clamp(min=1e-12) * torch.asin(angle)
        local, turn = rotation_from_rotvec(rotvec), self.chart_from_world[:3, :3]
        return turn.T @ local @ turn

    def _height(self, local: Tensor) -> Tensor:
        return _terms(local[:, 0], local[:, 1]) @ self.bend

    def _normals(self, xy: Tensor) -> Tensor:
        a, b, c, d, e, _ = self.bend.tolist()
        x, y = xy.unbind(1)
        slopes = torch.stack([-(2 * a * x + b * y + d), -(b * x + 2 * c * y + e), torch.ones_like(x)], dim=1)
        return torch.nn.functional.normalize(slopes, dim=1)


def chart_of(
    points: Float[Tensor, "m 3"],
    weights: Float[Tensor, " m"],
    above: Float[Tensor, "k 3"],
    thickness: float,
    generator: torch.Generator,
    one_sided: bool = True,
) -> Chart | None:
    """The surface that most of some points lie on, and that other points stand on.

    The plane is found by random sampling (Fischler and Bolles 1981) and refined by least squares.

    Args:
        points: of the surface and around.
        weights: how much each counts.
        above: what stands there; z points towards them.
        thickness: [unit of points] how far off the surface a point may be.
        generator: chooses the samples.
        one_sided: only planes with (almost) all of `above` on one side.

    Returns:
        None where there is no such surface.
    """
    if len(points) < _FEWEST:
        return None
    some = points[torch.randperm(len(points), generator=generator)[:_SAMPLES]]
    normals, offsets = _planes(some, generator)
    score = _support(points, weights, normals, offsets, thickness)
    if one_sided:
        score = torch.where(_stand_on_one_side(above, normals, offsets, thickness), score, -1.0)
    best = int(score.argmax())
    if not float(score[best]) > 0:
        return None
    normal, offset = normals[best], offsets[best]
    for _ in range(3):
        near = (points @ normal - offset).abs() < 2 * thickness
        normal, offset = _least_squares(points[near], weights[near], normal)
    middle = above.mean(0)
    if float(middle @ normal - offset) < 0:
        normal, offset = -normal, -offset
    origin = middle - (middle @ normal - offset) * normal
    chart = Chart(_frame(normal, origin), torch.zeros(6), thickness)
    return _bent(chart, points, weights)


def _planes(points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    rows = torch.randint(len(points), (_PROPOSALS, 3), generator=generator)
    a, b, c = points[rows].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    return normals, (normals * a).sum(1)


def _support(
    points: Tensor, weights: Tensor, normals: Tensor, offsets: Tensor, thickness: float
) -> Float[Tensor, " p"]:
    """Weight of the points on each plane; those off its middle count less."""
    found = torch.zeros(len(normals))
    for some, weight in zip(points.split(_SAMPLES), weights.split(_SAMPLES)):
        distance = (some @ normals.T - offsets) / thickness
        found += (weight[:, None] * (1 - distance**2).clamp(min=0)).sum(0)
    return torch.where(normals.norm(dim=1) > 0.5, found, -1.0)


def _stand_on_one_side(above: Tensor, normals: Tensor, offsets: Tensor, thickness: float) -> Tensor:
    """Planes that what stands there touches without reaching through."""
    some = above[:: max(1, len(above) // _SAMPLES)]
    heights = some @ normals.T - offsets
    heights = heights * torch.where(heights.median(0).values < 0, -1.0, 1.0)
    size = float((some.amax(0) - some.amin(0)).norm())
    lowest = heights.quantile(0.03, dim=0)
    # A plane through its middle has the other half below.
    through = (heights < -2 * thickness).float().mean(0)
    return (through < 0.2) & (lowest < 0.25 * size)


def _least_squares(points: Tensor, weights: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    share = weights / weights.sum().clamp(min=1e-12)
    middle = (share[:, None] * points).sum(0)
    spread = (points - middle) * share.sqrt()[:, None]
    normal = torch.linalg.eigh(spread.T @ spread).eigenvectors[:, 0]
    normal = normal if float(normal @ old) >= 0 else -normal
    return normal, middle @ normal


def _frame(normal: Tensor, origin: Tensor) -> Tensor:
    """chart_from_world, x along the world's axis that the plane contains best."""
    axis = torch.eye(3)[int(normal.abs().argmin())]
    x = torch.nn.functional.normalize(axis - (axis @ normal) * normal, dim=0)
    rotation = torch.stack([x, torch.linalg.cross(normal, x), normal])
    return pose_from(rotation, -rotation @ origin)


def _bent(chart: Chart, points: Tensor, weights: Tensor) -> Chart:
    """The chart with the quadric that fits better than its plane, if one clearly does."""
    local = transform_points(chart.chart_from_world, points)
    near = local[:, 2].abs() < 4 * chart.thickness
    local, weights = local[near], weights[near]
    if len(local) < 3 * _FEWEST:
        return chart
    size = float(local[:, :2].std()) + 1e-12
    terms = _terms(local[:, 0] / size, local[:, 1] / size)
    bend = torch.zeros(6)
    for _ in range(8):
        off = (local[:, 2] - terms @ bend) / (2 * chart.thickness)
        # Tukey's biweight: what is far off does not belong to the surface.
        trust = weights * (1 - off**2).clamp(min=0) ** 2
        normal = terms.T @ (trust[:, None] * terms) + 1e-3 * trust.sum() * torch.eye(6)
        bend = torch.linalg.solve(normal, terms.T @ (trust * local[:, 2]))
    before, after = local[:, 2].abs().median(), (local[:, 2] - terms @ bend).abs().median()
    if float(after) > _WORTH_BENDING * float(before):
        return chart
    return replace(chart, bend=bend / torch.tensor([size**2] * 3 + [size] * 2 + [1.0]))


def _terms(x: Tensor, y: Tensor) -> Float[Tensor, "m 6"]:
    return torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)], dim=1)
