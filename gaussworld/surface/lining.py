"""Wide discs just below a surface: they close the gaps between the narrow ones on it."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import Gaussians
from ..neighbors import nearest
from ..shape import Mesh
from .painted import Surface
from .sampling import crease_points

#: Standard deviation of a disc over that of its cell: wide, so that nothing shines through.
LINING_WIDTH = 2.0
#: How deep, as a share of the distance between the discs, and at most of the thickness.
DEPTH, MOST_OF_THICKNESS = 0.5, 0.35
#: Distance that a disc keeps from creases, in distances between discs, so that nothing bulges.
MARGIN = 1.5


def lining(
    surface: Surface, wide: Gaussians, normals: Float[Tensor, "n 3"], spacing: Float[Tensor, " n"]
) -> Gaussians:
    """Wide discs on a surface, moved below it; those at creases go, and those of sheets stay where they are.

    Args:
        surface: what they are on.
        wide: the discs.
        normals: of the surface at each; they may look inwards.
        spacing: distance between discs, at each.
    """
    creases = crease_points(surface.mesh, float(spacing.mean()))
    keep = torch.ones(len(wide), dtype=torch.bool)
    if len(creases):
        keep = nearest(creases, 1, wide.means)[0][:, 0] > MARGIN * spacing
    if not bool(keep.any()):
        return wide.select(keep)
    wide, normals, spacing = wide.select(keep), normals[keep], spacing[keep]
    step = 1e-3 * spacing
    inside, thickness = _inwards(surface.mesh, wide.means, normals, step)
    solid = inside.any(1)
    # Where the mesh is inside out, below is where its normals look.
    sign = torch.where(inside[:, 0], -1.0, 1.0) * solid
    depth = torch.minimum(DEPTH * spacing, MOST_OF_THICKNESS * torch.where(inside[:, 0], *thickness.unbind(1)))
    return replace(wide, means=wide.means + (sign * depth.nan_to_num(0.0, 0.0))[:, None] * normals)


def _inwards(
    mesh: Mesh, places: Tensor, normals: Tensor, step: Tensor
) -> tuple[Bool[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Against and along the normals: whether that is into a solid, and how far it reaches.

    Into a solid a ray meets the surface an odd number of times, and out of it an even number.
    """
    import open3d

    scene = open3d.t.geometry.RaycastingScene()
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32)
    scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(faces))
    odd, reach = [], []
    for sign in (-1.0, 1.0):
        directions = sign * normals
        starts = places + step[:, None] * directions
        rays = open3d.core.Tensor(torch.cat([starts, directions], 1).contiguous().numpy())
        odd.append(torch.from_numpy(scene.count_intersections(rays).numpy().astype(np.int64)) % 2 == 1)
        reach.append(torch.from_numpy(scene.cast_rays(rays)["t_hit"].numpy().copy()))
    against, along = odd
    return torch.stack([against & ~along, along & ~against], 1), torch.stack(reach, 1)
