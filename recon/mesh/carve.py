"""A closed surface of one object: a dense signed distance, fused from depth, carved where it is empty."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.shape import Mesh

from .depth import DepthView
from .open3d_mesh import from_open3d, open3d

#: Pixels with less accumulated opacity than this show what is behind the object.
_EMPTY = 0.1
#: [voxels] how far behind a surface its depth still says something.
_TRUNCATION = 3.0


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of cubic voxels anywhere in the world."""

    world_from_grid: Float[Tensor, "4 4"]
    """Rigid: the middle of the first voxel, and the directions of the three axes."""
    voxel: float
    """[unit of the world] edge of a voxel."""
    size: tuple[int, int, int]
    """Voxels along the three axes."""

    def along(self, axis: int) -> Float[Tensor, "k 3"]:
        """World offsets of the voxels along one axis from the grid's origin."""
        steps = torch.arange(self.size[axis], dtype=torch.float32) * self.voxel
        return steps[:, None] * self.world_from_grid[:3, axis]

    def heights(self, up: Float[Tensor, "3"]) -> Float[Tensor, "x y z"]:
        """Coordinate of every voxel along a direction of the world."""
        x, y, z = (self.along(axis) @ up for axis in range(3))
        return x[:, None, None] + y[:, None] + z + self.world_from_grid[:3, 3] @ up


@torch.no_grad()
def carved(
    views: Iterable[DepthView], grid: Grid, floor: tuple[Float[Tensor, "3"], float] | None = None
) -> Float[Tensor, "x y z"]:
    """Signed distance in truncation lengths, range [-1, 1], positive outside the object.

    The average over views of the distance along the ray (Curless and Levoy 1996), where pixels that show
    nothing of the object say that all voxels behind them are outside, as in a visual hull. What no camera
    has seen to be empty is inside: so the surface closes where nobody looked, at the bottom above all.

    Args:
        views: of this object alone.
        grid: where to look.
        floor: a direction and a coordinate along it below which there is no object: what it stands on.
    """
    total, count, seen = torch.zeros(grid.size), torch.zeros(grid.size), 0
    for view in views:
        distance, known = _measured(view, grid)
        total += torch.where(known, distance, 0.0)
        count += known
        seen += 1
    # One view that looks through a hole between Gaussians must not carve a hole through the object.
    enough = max(2.0, 0.08 * seen)
    field = torch.where(count >= enough, total / count.clamp(min=1), -1.0)
    if floor is not None:
        up, height = floor
        field = torch.maximum(field, (height - grid.heights(up)) / (_TRUNCATION * grid.voxel)).clamp(max=1)
    return field


def surface(field: Float[Tensor, "x y z"], grid: Grid) -> Mesh:
    """The surface at which a signed distance is zero, closed at the walls of the grid, in the world frame."""
    padded = torch.nn.functional.pad(field, (1, 1, 1, 1, 1, 1), value=1.0)
    # Where a voxel's middle lies exactly on the surface, the surface would touch itself there.
    padded = torch.where(padded.abs() < 1e-4, torch.full_like(padded, 1e-4), padded)
    volume = np.ascontiguousarray(-padded.permute(2, 1, 0).numpy(), np.float32)
    mesh = from_open3d(open3d().t.geometry.TriangleMesh.create_isosurfaces(volume, [0.0]))
    vertices = (mesh.vertices - 1) * grid.voxel
    made = Mesh(vertices, mesh.faces)
    if made.volume < 0:
        made = Mesh(vertices, mesh.faces[:, [0, 2, 1]])
    return made.transformed(grid.world_from_grid)


def _measured(view: DepthView, grid: Grid) -> tuple[Tensor, Tensor]:
    """Signed distance of every voxel to what one camera sees in its pixel, and where that says something."""
    camera = view.camera
    from_world = camera.camera_from_world
    origin = from_world[:3, :3] @ grid.world_from_grid[:3, 3] + from_world[:3, 3]
    axes = [grid.along(axis) @ from_world[:3, :3].T for axis in range(3)]
    x, y, z = (
        axes[0][:, None, None, i] + axes[1][:, None, i] + (axes[2][:, i] + origin[i]) for i in range(3)
    )
    near = z > 1e-6
    inverse = 1 / z.clamp(min=1e-6)
    column = (x * inverse).mul_(camera.K[0, 0]).add_(camera.K[0, 2]).floor_()
    row = (y * inverse).mul_(camera.K[1, 1]).add_(camera.K[1, 2]).floor_()
    inside = near & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
    index = torch.where(inside, row * camera.width + column, 0.0).long()
    depth = _with_empty(view).flatten()[index]
    distance = ((depth - z) / (_TRUNCATION * grid.voxel)).clamp_(max=1)
    return distance, inside & (depth > 0) & (distance > -1)


def _with_empty(view: DepthView) -> Tensor:
    """Depth, and a very large one where the ray meets nothing of the object."""
    return torch.where(view.alpha < _EMPTY, torch.full_like(view.depth, 1e9), view.depth)
