"""Surfaces that things rest on: their planes, and how far they reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.pose import invert_pose, look_at, transform_points

#: Cells along the longer side of a surface.
_CELLS = 128


@dataclass(frozen=True, eq=False)
class Surface:
    """A plane that carries things, and the cells of it that are there."""

    support: int
    """Id of the object it belongs to."""
    world_from_plane: Float[Tensor, "4 4"]
    """Third axis: its normal, upward; float64."""
    corner: Float[Tensor, "2"]
    """[unit] where the first cell begins, in the plane."""
    cell: float
    """[unit]"""
    there: Bool[Tensor, "u v"]
    """Cells where the surface is."""

    def flat(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """World points in the plane's frame; the third number is the height above it."""
        return transform_points(invert_pose(self.world_from_plane), points.double())

    def carries(self, places: Float[Tensor, "m 2"]) -> bool:
        """Whether all these places of the plane are on the surface."""
        at = ((places - self.corner) / self.cell).floor().long()
        size = torch.tensor(self.there.shape)
        return bool(((at >= 0) & (at < size)).all()) and bool(self.there[at[:, 0], at[:, 1]].all())

    def inset(self, margin: float) -> "Surface":
        """The same surface without a rim of this width [unit]."""
        from scipy.ndimage import distance_transform_edt

        padded = torch.nn.functional.pad(self.there, (1, 1, 1, 1))
        depth = torch.as_tensor(distance_transform_edt(padded.numpy()))[1:-1, 1:-1]
        return Surface(
            self.support, self.world_from_plane, self.corner, self.cell, depth * self.cell > margin
        )

    def pick(self, generator: torch.Generator) -> Float[Tensor, "2"]:
        """A random place on it.

        Raises:
            ValueError: nothing of it is there.
        """
        cells = self.there.nonzero()
        if not len(cells):
            raise ValueError("expected a surface with room, got none")
        cell = cells[int(torch.randint(len(cells), (), generator=generator))]
        return self.corner + (cell + torch.rand(2, generator=generator, dtype=torch.float64)) * self.cell


def surface_of(
    support: int,
    points: Float[Tensor, "m 3"],
    up: Float[Tensor, "3"],
    lowest: Sequence[Float[Tensor, "3"]],
    footprints: Sequence[Float[Tensor, "_ 3"]],
    thickness: float,
) -> Surface | None:
    """The surface of an object on which others rest; None where too few of its points are near them.

    Args:
        support: its id.
        points: on it, in the world.
        up: unit direction against gravity.
        lowest: one lowest point of each thing that rests on it, which tell the height.
        footprints: points of each of them, which tell where it cannot be seen.
        thickness: [unit] how far from the plane its points may be.
    """
    points, up = points.double(), up.double()
    height = torch.stack([point.double() @ up for point in lowest]).median()
    near = points[((points @ up - height).abs() <= 3 * thickness)]
    if len(near) < 20:
        return None
    normal, middle = _fitted(near, up, thickness)
    frame = look_at(middle, middle + normal, torch.eye(3).double()[int(up.abs().argmin())])
    flat = transform_points(invert_pose(frame), near)
    flat = flat[flat[:, 2].abs() <= 1.5 * thickness, :2]
    stood = [transform_points(invert_pose(frame), each.double())[:, :2] for each in footprints]
    return _rastered(support, frame, flat, stood)


def _fitted(points: Tensor, up: Tensor, thickness: float) -> tuple[Tensor, Tensor]:
    """Normal and middle of the plane through most of the points (least squares, without outliers)."""
    normal, middle = up, points.median(0).values
    for _ in range(8):
        distances = (points - middle) @ normal
        rows = distances.abs() <= thickness
        if int(rows.sum()) < 10:
            break
        middle = points[rows].mean(0)
        spread = points[rows] - middle
        found = torch.linalg.eigh(spread.T @ spread).eigenvectors[:, 0]
        found = found * torch.sign(found @ up)
        # What lies along a line, or a wall, is no table.
        normal = found if float(found @ up) > 0.94 else up
        # Its edge goes on downward: what is near the plane counts, ever nearer while that is most of it.
        left = distances[rows] - distances[rows].median()
        thickness = max(0.7 * thickness, min(thickness, 4 * float(left.abs().median())))
    return normal, middle


def _rastered(support: int, frame: Tensor, flat: Tensor, stood: list[Tensor]) -> Surface | None:
    """Cells with points, closed where they are sparse or where things stand; the largest piece."""
    from scipy.ndimage import binary_closing, binary_fill_holes, label

    ordered, cut = flat.sort(dim=0).values, len(flat) // 500
    low, high = ordered[cut], ordered[len(flat) - 1 - cut]
    cell = float((high - low).amax()) / _CELLS
    if not cell > 0:
        return None
    # So few points that most cells would be empty: larger cells.
    cell = max(cell, 1.5 * float(((high - low).prod() / len(flat)).sqrt()))
    size = ((high - low) / cell).long() + 1
    there = torch.zeros(int(size[0]), int(size[1]), dtype=torch.bool)
    for places in (flat, *stood):
        at = ((places - low) / cell).floor().long()
        at = at[((at >= 0) & (at < size)).all(1)]
        there[at[:, 0], at[:, 1]] = True
    padded = torch.nn.functional.pad(there, (4, 4, 4, 4)).numpy()
    whole = binary_fill_holes(binary_closing(padded, iterations=3))
    pieces, count = label(whole)  # pyright: ignore[reportGeneralTypeIssues]
    pieces = torch.as_tensor(pieces)[4:-4, 4:-4]
    if not count:
        return None
    sizes = torch.bincount(pieces.flatten(), minlength=count + 1)
    largest = int(sizes[1:].argmax()) + 1
    return Surface(support, frame, low, cell, pieces == largest)
