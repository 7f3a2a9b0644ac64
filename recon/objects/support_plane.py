"""The plane that things stand on: found among level planes, with its edge and the noise of its surface."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.world_object import Vector

from ..place.align import estimate_up
from ..place.planes import find_planes

#: Cosine of the largest angle between a plane that things stand on and the horizon.
_LEVEL = 0.97
#: Thickness of a plane while it is sought, as a share of the distance to the cameras.
_THICKNESS = 0.008
#: A plane that things stand on makes up this share of what the largest does in the pictures, carries this
#: share of itself, and at least so much of what stands on a lower one.
_LARGE, _CARRIES, _MOST = 0.1, 0.01, 0.3
#: Things reach up from their plane by this share of its diameter at most.
_TALLEST = 0.6
#: Cells of the map of a plane, across.
_CELLS = 160
_POINTS = 5000
_DEVIATION = 1.4826


@dataclass(frozen=True, eq=False)
class Surface:
    """A level plane, all x with normal · x = offset, and where it is covered."""

    normal: Float[Tensor, "3"]
    """Unit length, up."""
    offset: float
    noise: float
    """[unit] robust standard deviation of the heights of its own Gaussians."""
    axes: Float[Tensor, "2 3"]
    low: Float[Tensor, "2"]
    cell: float
    """[unit] side of a cell of the map."""
    inside: Bool[Tensor, "a b"]
    """Cells within its edge, whatever stands on them."""
    area: float
    """[unit squared] of those."""
    spacing: float
    """[unit] between its Gaussians: its edge is known no better."""

    def heights(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """[unit] above the plane."""
        return points @ self.normal - self.offset

    def covers(self, points: Float[Tensor, "m 3"], margin: int = 0) -> Bool[Tensor, " m"]:
        """Whether points are above or below a cell within the edge, or within `margin` cells of one."""
        from scipy.ndimage import binary_dilation

        cells, there = self._cells(points)
        grown = self.inside
        if margin > 0:
            grown = torch.from_numpy(binary_dilation(grown.numpy(), iterations=margin))
        return there & grown[cells[:, 0], cells[:, 1]]

    def near(self, points: Float[Tensor, "m 3"]) -> Bool[Tensor, " m"]:
        """Whether points are on the surface, as far as its noise lets tell."""
        return self.heights(points).abs() <= 4 * self.noise

    def above(self, points: Float[Tensor, "m 3"]) -> Bool[Tensor, " m"]:
        """Whether points are where things on the surface would be."""
        heights = self.heights(points)
        return (heights > 4 * self.noise) & (heights < _TALLEST * self.area**0.5)

    def level(self, up: Float[Tensor, "3"]) -> float:
        """[unit] height of its middle."""
        return float(self.middle() @ up)

    def middle(self) -> Float[Tensor, "3"]:
        """A point of the plane, in the middle of what is covered."""
        cells = self.inside.nonzero().float().mean(0) + 0.5
        return (self.low + cells * self.cell) @ self.axes + self.normal * self.offset

    def _cells(self, points: Tensor) -> tuple[Int[Tensor, "m 2"], Bool[Tensor, " m"]]:
        at = ((points @ self.axes.T - self.low) / self.cell).floor().long()
        size = torch.tensor(self.inside.shape)
        there = ((at >= 0) & (at < size)).all(1)
        return at.minimum(size - 1).clamp(min=0), there


def upward(up: Vector | None, cameras: Sequence[Camera], points: Float[Tensor, "n 3"]) -> Float[Tensor, "3"]:
    """The direction against gravity: what the world knows, or what cameras and planes tell."""
    if up is not None or not cameras:
        return torch.nn.functional.normalize(torch.tensor(up or (0.0, 0.0, 1.0)).float(), dim=0)
    frames = tuple(Frame(camera, torch.zeros(1, 1, 3)) for camera in cameras)
    return estimate_up(Capture(frames, points, torch.zeros_like(points))).vector()


def level_surfaces(
    points: Float[Tensor, "n 3"],
    weights: Float[Tensor, " n"],
    up: Float[Tensor, "3"],
    cameras: Sequence[Camera],
    seed: int = 0,
) -> list[Surface]:
    """Level planes below the cameras, those with the most weight first.

    Args:
        points: centres of Gaussians.
        weights: how much of the pictures each makes up.
        up: against gravity.
        cameras: they look at tables from above.
        seed: of the search.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = points[torch.multinomial(weights, min(_POINTS, len(points)), generator=generator)]
    centers = torch.stack([camera.center for camera in cameras]).to(points) if cameras else points
    reach = float((centers[:, None] - drawn[None, :500]).norm(dim=-1).median()) if cameras else _spread(drawn)
    up_double = up.double()
    found = find_planes(
        drawn, _THICKNESS * reach, lambda normals: (normals @ up_double).abs() > _LEVEL, seed, 0.03, 6
    )
    surfaces = []
    for plane in found:
        sign = 1.0 if float(plane.normal @ up_double) > 0 else -1.0
        normal, offset = (sign * plane.normal).float(), sign * plane.offset
        surface = _fitted(points, weights, normal, offset, _THICKNESS * reach)
        above = float((surface.heights(centers) > 0).float().mean()) if cameras else 1.0
        if above > 0.5:
            surfaces.append(surface)
    return surfaces


def carrying(
    surfaces: Sequence[Surface], points: Float[Tensor, "n 3"], weights: Float[Tensor, " n"]
) -> Surface | None:
    """The surface that things stand on; None where there is none.

    From the lowest upwards: a higher one takes its place if it bears most of what stands on the lower one,
    besides itself. So a table is taken before its floor, but the lid of a box is not before the table.
    """
    own = [float(weights[surface.covers(points) & surface.near(points)].sum()) for surface in surfaces]
    chosen: Surface | None = None
    for surface, weight in sorted(zip(surfaces, own), key=lambda each: each[0].level(surfaces[0].normal)):
        carried = surface.covers(points) & surface.above(points)
        load = float(weights[carried].sum())
        if weight < _LARGE * max(own) or load < _CARRIES * weight:
            continue
        if chosen is not None:
            beside = chosen.covers(points) & chosen.above(points)
            beside &= ~(surface.covers(points, 2) & ~surface.above(points))
            if load < _MOST * float(weights[beside].sum()):
                continue
        chosen = surface
    return chosen


def _fitted(points: Tensor, weights: Tensor, normal: Tensor, offset: float, thickness: float) -> Surface:
    """The plane through its own Gaussians, ever closer, and the map of where they are."""
    for part in (1.0, 0.7, 0.5, 0.35):
        rows = (points @ normal - offset).abs() <= part * thickness
        near, weight = points[rows].double(), weights[rows].double()[:, None]
        middle = (near * weight).sum(0) / weight.sum()
        spread = (near - middle) * weight.sqrt()
        fitted = torch.linalg.eigh(spread.T @ spread).eigenvectors[:, 0].float()
        normal = fitted if float(fitted @ normal) > 0 else -fitted
        offset = float(middle.float() @ normal)
        residual = (near.float() @ normal - offset).abs()
        noise = _DEVIATION * float(residual.median())
    axes = _across(normal)
    flat = (points[(points @ normal - offset).abs() <= max(3 * noise, 0.2 * thickness)]) @ axes.T
    return Surface(normal, offset, noise, axes, *_map(flat))


def _across(normal: Tensor) -> Float[Tensor, "2 3"]:
    first = torch.linalg.cross(normal, torch.eye(3)[int(normal.abs().argmin())])
    first = torch.nn.functional.normalize(first, dim=0)
    return torch.stack([first, torch.linalg.cross(normal, first)])


def _map(flat: Float[Tensor, "m 2"]) -> tuple[Tensor, float, Bool[Tensor, "a b"], float, float]:
    """Cells that a surface covers: its largest piece, gaps closed, what stands on it filled in."""
    from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, label

    ends = torch.quantile(flat[:: max(1, len(flat) // 100_000)], torch.tensor([0.005, 0.995]), dim=0)
    size = float((ends[1] - ends[0]).max())
    cell, border = size / _CELLS, 8
    low = ends[0] - border * cell
    at = ((flat - low) / cell).floor().long()
    shape = ((ends[1] - low) / cell).ceil().long() + border
    at = at[((at >= 0) & (at < shape)).all(1)]
    grid = np.zeros(tuple(shape.tolist()), bool)
    grid[tuple(at.T.numpy())] = True
    closed = np.asarray(binary_fill_holes(binary_closing(grid, iterations=6)))
    pieces, count = label(binary_opening(closed, iterations=2))  # pyright: ignore[reportGeneralTypeIssues]
    if count:
        closed = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    area = max(float(closed.sum()), 1.0) * cell**2
    return low, cell, torch.from_numpy(closed), area, (area / max(len(flat), 1)) ** 0.5


def _spread(points: Tensor) -> float:
    return float((points - points.median(0).values).norm(dim=1).median())
