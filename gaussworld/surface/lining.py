"""Where wide discs may lie just below a surface: they close the gaps between narrow ones on it."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..neighbors import nearest
from ..shape import Mesh
from .painted import Surface
from .sampling import crease_points

#: How deep it lies, as a share of the distance between its discs.
DEPTH = 0.5
#: Least distance from creases, and least thickness, in distances between discs of the lining.
MARGIN, LEAST_THICKNESS = 1.5, 3.0


def room_below(
    surface: Surface,
    places: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
    spacing: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """How far along each normal, so mostly negative, a lining may lie; 0 where there must be none.

    There is none near creases, where it would bulge, in thin parts, where it would show on the other side,
    and in sheets, which have no inside.

    Args:
        surface: whose lining.
        places: on it.
        normals: of the surface there; they may look inwards.
        spacing: distance between discs of the lining there.
    """
    inside, thickness = _inwards(surface.mesh, places, normals, 0.1 * spacing)
    solid, thickness = inside.any(1), torch.where(inside[:, 0], *thickness.unbind(1))
    solid &= thickness > LEAST_THICKNESS * spacing
    creases = crease_points(surface.mesh, float(spacing.mean()))
    if len(creases):
        solid &= nearest(creases, 1, places)[0][:, 0] > MARGIN * spacing
    # Where the mesh is inside out, below is where its normals look.
    return torch.where(inside[:, 0], -DEPTH, DEPTH) * spacing * solid


def _inwards(
    mesh: Mesh, places: Tensor, normals: Tensor, step: Tensor
) -> tuple[Bool[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Against and along the normals: whether that is into a solid, and how far it reaches.

    Into a solid a ray meets the surface an odd number of times, and out of it an even number.
    """
    import open3d

    tensor: Any = open3d.core.Tensor
    scene = open3d.t.geometry.RaycastingScene()
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32)
    scene.add_triangles(tensor(vertices), tensor(faces))
    odd, reach = [], []
    for sign in (-1.0, 1.0):
        directions = sign * normals
        starts = places + step[:, None] * directions
        rays = tensor(torch.cat([starts, directions], 1).contiguous().numpy())
        odd.append(torch.from_numpy(scene.count_intersections(rays).numpy().astype(np.int64)) % 2 == 1)
        reach.append(torch.from_numpy(scene.cast_rays(rays)["t_hit"].numpy().copy()))
    against, along = odd
    return torch.stack([against & ~along, along & ~against], 1), torch.stack(reach, 1)
