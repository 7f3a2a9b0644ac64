"""Colours of a mesh's vertices, looked up in the views that see them."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.neighbors import nearest
from gaussworld.shape import Mesh

from .depth import DepthView


def vertex_normals(mesh: Mesh) -> Float[Tensor, "v 3"]:
    """Unit normals of the vertices, large faces counting more."""
    a, b, c = mesh.triangles.unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    sums = torch.zeros_like(mesh.vertices)
    sums.index_add_(0, mesh.faces.long().flatten(), across.repeat_interleave(3, dim=0))
    return torch.nn.functional.normalize(sums, dim=1)


@torch.no_grad()
def painted(mesh: Mesh, views: Iterable[DepthView], tolerance: float) -> Mesh:
    """The mesh with the mean colour that views see at each vertex, frontal views counting more.

    Vertices that no view sees, such as those below, get the colour of the nearest one that is seen.

    Args:
        mesh: in the world frame.
        views: of the same object.
        tolerance: [unit of the world] a vertex deeper than what a view sees by more than this is hidden.
    """
    normals = vertex_normals(mesh)
    total, weight = torch.zeros_like(mesh.vertices), torch.zeros(len(mesh.vertices))
    for view in views:
        places, depths = view.camera.project(mesh.vertices)
        column, row = places.floor().long().unbind(1)
        inside = (column >= 0) & (row >= 0) & (column < view.camera.width) & (row < view.camera.height)
        index = torch.where(inside & (depths > 0), row * view.camera.width + column, 0)
        measured = view.depth.flatten()[index]
        away = torch.nn.functional.normalize(view.camera.center - mesh.vertices, dim=1)
        facing = (away * normals).sum(1).clamp(min=0)
        seen = inside & (depths > 0) & (measured > 0) & ((measured - depths).abs() < tolerance)
        share = seen * facing.square()
        total += share[:, None] * view.rgb.reshape(-1, 3)[index]
        weight += share
    known = weight > 1e-3
    colors = torch.full_like(mesh.vertices, 0.7)
    colors[known] = (total / weight.clamp(min=1e-9)[:, None])[known]
    if bool(known.any()) and not bool(known.all()):
        colors[~known] = colors[known][nearest(mesh.vertices[known], 1, mesh.vertices[~known])[1][:, 0]]
    return Mesh(mesh.vertices, mesh.faces, colors.clamp(0, 1))
