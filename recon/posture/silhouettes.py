"""Silhouettes of a robot at many joint positions: by points for the search, by rays for the last word."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, max_pool2d

from gaussworld.camera import Camera
from gaussworld.robot import Robot, posed_meshes
from gaussworld.shape import Mesh

from ..mesh.open3d_mesh import decimated, open3d

#: Points farther beyond the picture than this share of it are left out: lens models end there.
_MARGIN = 0.2
#: [unit] points nearer to the camera's plane are left out.
_NEAR = 0.02
#: Side of the blocks [cells] in which silhouettes are compared too: those that miss each other attract.
_BLOCK = 6
#: Share of a cell from which on a point of what covers it is likely to lie in it.
_TOUCHED = 0.1


@dataclass(frozen=True, eq=False)
class RobotView:
    """What one picture tells of where the robot is."""

    camera: Camera
    mask: Bool[Tensor, "h w"]
    """Where it shows the robot."""
    known: Bool[Tensor, "h w"]
    """Where the mask counts: elsewhere there may be robot or not."""


@dataclass(frozen=True, eq=False)
class Target:
    """A view in coarse cells: which share of each is robot, and known."""

    camera: Camera
    mask: Float[Tensor, "r c"]
    known: Float[Tensor, "r c"]

    @classmethod
    def of(cls, view: RobotView, columns: int, touched: bool = False) -> "Target":
        """A view whose picture is cut into square cells.

        Args:
            view: what is known.
            columns: cells across.
            touched: a cell counts whole where the mask touches it, as points do.
        """
        camera = view.camera
        rows = max(1, round(camera.height * columns / camera.width))
        both = torch.stack([view.mask & view.known, view.known]).float()
        mask, known = adaptive_avg_pool2d(both, (rows, columns))
        if touched:
            mask = (mask > _TOUCHED).float()
            known = torch.maximum(known, mask)
        return cls(camera.rescaled(columns, rows), mask, known)

    def difference(self, drawn: Float[Tensor, "b r c"]) -> Float[Tensor, " b"]:
        """1 - intersection over union of silhouettes and mask, half in cells and half in blocks of cells."""
        return (1 - self.overlap(drawn, 1) + 1 - self.overlap(drawn, _BLOCK)) / 2

    def overlap(self, drawn: Float[Tensor, "b r c"], block: int = 1) -> Float[Tensor, " b"]:
        """Intersection over union where the mask is known, of shares: sums of minima and maxima."""
        shown, mask = drawn * self.known, self.mask[None]
        if block > 1:
            shown, mask = (avg_pool2d(each, block, ceil_mode=True) for each in (shown, mask))
        both, either = torch.minimum(shown, mask), torch.maximum(shown, mask)
        return both.sum((1, 2)) / either.sum((1, 2)).clamp(min=1e-6)


class PointRobot:
    """A robot as points on its surface: silhouettes of hundreds of positions at once, with rough edges."""

    def __init__(
        self,
        robot: Robot,
        points: int,
        generator: torch.Generator,
        world_from_base: Float[Tensor, "4 4"] | None = None,
    ) -> None:
        self._robot = robot
        self._base = (torch.eye(4) if world_from_base is None else world_from_base).float()
        meshes = link_meshes(robot)
        areas = torch.tensor([mesh.area for mesh in meshes.values()])
        counts = (areas / areas.sum() * points).ceil().long().tolist()
        self._points = {
            row: _scattered(mesh, count, generator) for (row, mesh), count in zip(meshes.items(), counts)
        }

    def poses(self, positions: Float[Tensor, "b j"]) -> Float[Tensor, "b l 4 4"]:
        """`world_from_link`."""
        return self._base @ self._robot.link_poses(positions).float()

    def drawn(self, poses: Float[Tensor, "b l 4 4"], camera: Camera) -> Float[Tensor, "b r c"]:
        """1 in the pixels of a coarse camera that show the robot, small holes closed."""
        inside = camera.camera_from_world.float() @ poses
        local = torch.cat(
            [
                points @ inside[:, row, :3, :3].mT + inside[:, row, None, :3, 3]
                for row, points in self._points.items()
            ],
            dim=1,
        )
        size = local.new_tensor([camera.width, camera.height])
        plain = local[..., :2] / local[..., 2:] @ camera.K[:2, :2].float().T + camera.K[:2, 2].float()
        near = ((plain / size - 0.5).abs() < 0.5 + _MARGIN).all(-1) & (local[..., 2] > _NEAR)
        pixels = camera.distort(local) @ camera.K[:2, :2].float().T + camera.K[:2, 2].float()
        seen = near & ((pixels >= 0) & (pixels < size)).all(-1)
        batch, spot = seen.nonzero(as_tuple=True)
        column, row = pixels[batch, spot].long().unbind(-1)
        cells = torch.zeros(len(poses), camera.height, camera.width)
        cells[batch, row, column] = 1
        grown = max_pool2d(cells[:, None], 3, 1, 1)
        return -max_pool2d(-grown, 3, 1, 1)[:, 0]


class MeshRobot:
    """A robot as meshes that rays are cast at: exact silhouettes, one position after the other."""

    def __init__(self, robot: Robot, faces: int, world_from_base: Float[Tensor, "4 4"] | None = None) -> None:
        self._base = (torch.eye(4) if world_from_base is None else world_from_base).float()
        self._robot = robot
        self._meshes = {row: decimated(mesh, faces) for row, mesh in link_meshes(robot).items()}
        self._rays: dict[int, np.ndarray] = {}

    def drawn(self, positions: Float[Tensor, " j"], cameras: Sequence[Camera]) -> list[Float[Tensor, "h w"]]:
        """1 in the pixels of each camera whose centre shows the robot."""
        core, scene = open3d().core, open3d().t.geometry.RaycastingScene(nthreads=1)
        poses = self._base @ self._robot.link_poses(positions).float()
        for row, mesh in self._meshes.items():
            posed = mesh.transformed(poses[row])
            faces = core.Tensor(posed.faces.contiguous().numpy()).to(core.uint32)
            scene.add_triangles(core.Tensor(posed.vertices.contiguous().numpy()), faces)
        hits = [scene.test_occlusions(core.Tensor(self._rays_of(camera))).numpy() for camera in cameras]
        return [torch.from_numpy(hit).float() for hit in hits]

    def _rays_of(self, camera: Camera) -> np.ndarray:
        """Rays are made once for each camera: lenses take long to undo."""
        if id(camera) not in self._rays:
            origin, directions = camera.rays()
            both = torch.cat([origin.expand_as(directions), directions], dim=-1).float().contiguous()
            self._rays[id(camera)] = both.numpy()
        return self._rays[id(camera)]


def link_meshes(robot: Robot) -> dict[int, Mesh]:
    """The links that have a mesh, by row, each in its own frame [m]."""
    posed = posed_meshes(robot)
    poses = robot.link_poses(robot.rest)
    return {
        row: posed[name].transformed(torch.linalg.inv(poses[row]))
        for row, name in enumerate(robot.link_names)
        if name in posed
    }


def _scattered(mesh: Mesh, count: int, generator: torch.Generator) -> Float[Tensor, "p 3"]:
    """Points on a mesh, evenly by area."""
    a, b, c = mesh.triangles.float().unbind(1)
    areas = torch.linalg.cross(b - a, c - a).norm(dim=1)
    faces = torch.multinomial(areas, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, 1, generator=generator)
    flip = u + v > 1
    u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
    return a[faces] + u * (b - a)[faces] + v * (c - a)[faces]
