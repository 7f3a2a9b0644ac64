"""The surface of a whole scene: depth of many views fused in open3d's sparse voxel grid."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.shape import Mesh

from .depth import DepthView
from .open3d_mesh import from_open3d, open3d, parts

_BLOCK = 8
#: [voxels] how far from a surface voxels are kept.
_TRUNCATION = 4.0
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


def voxel_for(gaussians: Gaussians, cameras: Sequence[Camera], voxels: int) -> tuple[float, float]:
    """Edge of the voxels, and the farthest depth, of a scene [unit of the world].

    Args:
        gaussians: of the scene.
        cameras: from which it is fused.
        voxels: along the diagonal of what lies within the reach of the cameras.
    """
    solid = gaussians.means.detach()[gaussians.opacities.detach() > 0.3]
    points = solid if len(solid) else gaussians.means.detach()
    ends = [torch.quantile(points[:: max(1, len(points) // 50_000)], q, dim=0) for q in (0.02, 0.98)]
    centers = torch.stack([camera.center for camera in cameras])
    middle = points.median(0).values
    # A few Gaussians of a far background must not set the scale of what stands before the cameras.
    seen = 3 * float((centers - middle).norm(dim=1).max()) + 1e-6
    diagonal = min(float((ends[1] - ends[0]).norm()), seen)
    return diagonal / voxels, 1.5 * diagonal


def cleaned(mesh: Mesh, share: float) -> Mesh:
    """Without connected parts that have less than this share of the largest part's area."""
    from gaussworld.shape import joined

    found = parts(mesh)
    if not found:
        return mesh
    return joined([part for part in found if part.area >= share * found[0].area])


def _picture(values: Float[Tensor, "h w c"]) -> Any:
    data = np.ascontiguousarray(values.detach().float().cpu().numpy())
    return open3d().t.geometry.Image(open3d().core.Tensor(data))


def _matrix(values: Tensor) -> Any:
    return open3d().core.Tensor(np.ascontiguousarray(values.detach().double().cpu().numpy()))
