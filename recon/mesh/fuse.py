"""The surface of a whole scene: depth of many views fused in open3d's sparse voxel grid."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.shape import Mesh

from .depth import DepthView
from .open3d_mesh import from_open3d, open3d

_BLOCK = 8
#: [voxels] how far from a surface voxels are kept.
_TRUNCATION = 4.0
#: Blocks with surface in them that are allowed: a gigabyte, and some seconds.
_MOST_BLOCKS = 10_000
#: Voxels that fewer views have seen are noise.
_LEAST_VIEWS = 2.0


class Fusion:
    """A truncated signed distance field with colours (Curless and Levoy 1996), where there are surfaces."""

    def __init__(self, voxel: float, farthest: float = math.inf) -> None:
        """An empty field.

        Args:
            voxel: [unit of the world] edge of a voxel.
            farthest: [unit of the world] greater depths are left out.
        """
        self.voxel, self._farthest = voxel, min(farthest, 1e6)
        core = open3d().core
        self._grid = open3d().t.geometry.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            attr_dtypes=(core.float32, core.float32, core.float32),
            attr_channels=((1), (1), (3)),
            voxel_size=voxel,
            block_resolution=_BLOCK,
            block_count=20_000,
        )
        self._views = 0

    def add(self, view: DepthView) -> None:
        """Fuse what one camera measures; pixels of depth 0 say nothing."""
        depth = torch.where(view.depth < self._farthest, view.depth, torch.zeros_like(view.depth))
        if not bool((depth > 0).any()):
            return
        picture, color = _picture(depth[..., None]), _picture(view.rgb)
        K = _matrix(view.camera.K)
        pose = _matrix(view.camera.camera_from_world)
        most = float(depth.max()) * 1.01 + self.voxel
        blocks = self._grid.compute_unique_block_coordinates(picture, K, pose, 1.0, most, _TRUNCATION)
        self._grid.integrate(blocks, picture, color, K, pose, 1.0, most, _TRUNCATION)
        self._views += 1

    def mesh(self) -> Mesh:
        """The surface, with colours, facing the cameras; without faces where nothing was fused."""
        if not self._views:
            return Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
        return from_open3d(self._grid.extract_triangle_mesh(min(_LEAST_VIEWS, self._views)))


def fused(views: Iterable[DepthView], voxel: float, farthest: float = math.inf) -> Mesh:
    """The surface that depth views agree on, with colours; see `Fusion`."""
    fusion = Fusion(voxel, farthest)
    for view in views:
        fusion.add(view)
    return fusion.mesh()


def voxel_for(views: Sequence[DepthView], voxels: int) -> tuple[float, float]:
    """Edge of the voxels, and the farthest depth, for a scene seen in depth views [unit of the world].

    Args:
        views: of the scene.
        voxels: in the median depth that the views see; fewer where there is so much surface around that it
            would fill the memory and take minutes.
    """
    depths = torch.cat([view.depth[::4, ::4][view.depth[::4, ::4] > 0] for view in views])
    if not len(depths):
        return 1.0, math.inf
    middle = float(depths.median())
    voxel, farthest = middle / voxels, 4 * middle
    points = torch.cat([_points(view, 4, farthest) for view in views])
    for _ in range(4):
        blocks = len(_cells(points, _BLOCK * voxel))
        if blocks <= _MOST_BLOCKS:
            break
        # Surface: the number of blocks goes with the square.
        voxel *= (blocks / _MOST_BLOCKS) ** 0.5
    return voxel, farthest


def _cells(points: Float[Tensor, "m 3"], edge: float) -> Int[Tensor, " k"]:
    """The cubes of a grid that points lie in, as one number each."""
    index = (points / edge).floor().long()
    index = index - index.amin(0)
    x, y = index[:, 0].max() + 1, index[:, 1].max() + 1
    return ((index[:, 2] * y + index[:, 1]) * x + index[:, 0]).unique()


def _points(view: DepthView, stride: int, farthest: float) -> Float[Tensor, "m 3"]:
    pixels, depth = view.camera.pixel_centers()[::stride, ::stride], view.depth[::stride, ::stride]
    known = (depth > 0) & (depth < farthest)
    return view.camera.unproject(pixels[known], depth[known])


def _picture(values: Float[Tensor, "h w c"]) -> Any:
    data = np.ascontiguousarray(values.detach().float().cpu().numpy())
    return open3d().t.geometry.Image(open3d().core.Tensor(data))


def _matrix(values: Tensor) -> Any:
    return open3d().core.Tensor(np.ascontiguousarray(values.detach().double().cpu().numpy()))
