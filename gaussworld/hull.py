"""Convex hulls: what an object without convex parts of its own collides with."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .shape import Mesh

#: Most corners of a hull; simulators slow down with their number.
MOST = 256
#: A hull with less of the volume of a cube as long as it is flat: rounding errors alone give it a thickness.
_FLAT = 1e-6


def convex_hull(mesh: Mesh) -> Mesh | None:
    """The closed convex hull of a mesh, its faces looking outwards; None for a flat one.

    One with more than 256 corners is that of the outermost vertices in so many evenly spread directions,
    which never sticks out of the whole.

    Raises:
        ModuleNotFoundError: scipy is not installed.
    """
    from scipy.spatial import ConvexHull, QhullError

    points = mesh.vertices.detach().double()
    try:
        corners = points[torch.from_numpy(ConvexHull(points.numpy()).vertices).long()]
        if len(corners) > MOST:
            corners = corners[(corners @ _directions().T).argmax(0).unique()]
        found = ConvexHull(corners.numpy())
    # Qhull refuses what is flat, and fewer than four points, by either.
    except (QhullError, ValueError):
        return None
    faces = torch.from_numpy(found.simplices).long()
    a, b, c = corners[faces].unbind(1)
    # Qhull winds its triangles either way.
    inwards = (torch.linalg.cross(b - a, c - a) * (a - corners.mean(0))).sum(1) < 0
    faces[inwards] = faces[inwards][:, [0, 2, 1]]
    length = float((corners.amax(0) - corners.amin(0)).norm())
    hull = Mesh(corners.to(mesh.vertices), faces)
    return hull if hull.volume > _FLAT * length**3 else None


def _directions() -> torch.Tensor:
    """Unit vectors on a Fibonacci spiral over the sphere."""
    rows = torch.arange(MOST, dtype=torch.float64)
    z = 1 - (2 * rows + 1) / MOST
    angle = rows * (math.pi * (3 - math.sqrt(5)))
    across = (1 - z * z).sqrt()
    return torch.stack([across * angle.cos(), across * angle.sin(), z], 1)


def within_hull(points: Float[Tensor, "m d"], outline: Float[Tensor, "k d"]) -> Bool[Tensor, " m"]:
    """Which points lie in the convex hull of others; none where these lie on a line, or in a plane."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        sides = torch.from_numpy(ConvexHull(outline.detach().double().numpy()).equations)
    except (QhullError, ValueError):
        return torch.zeros(len(points), dtype=torch.bool)
    return (points.detach().double() @ sides[:, :-1].T + sides[:, -1] <= 0).all(1)
