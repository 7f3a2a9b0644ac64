"""Convex hulls of objects, and how far apart two of them are at least."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.gaussians import DELETED, HIDDEN
from gaussworld.pose import transform_points
from gaussworld.shape import Mesh
from gaussworld.world_object import Vector, WorldObject

#: Directions whose extreme points stand for a hull of many points.
_DIRECTIONS = 200
#: Corners of one part that a simulation is given.
_MOST_CORNERS = 4000
#: Gaussians fainter than this are no surface; this share of the others at either end of an axis is stray.
_FAINT, _STRAY = 0.3, 0.005
#: Share of a thing's height that shows the outline of its underside.
_FOOT = 0.15


@dataclass(frozen=True, eq=False)
class Hull:
    """A convex solid, in float64."""

    vertices: Float[Tensor, "v 3"]
    normals: Float[Tensor, "f 3"]
    """Outward unit normals of its faces, each direction once."""

    def moved(self, motion: Float[Tensor, "4 4"]) -> "Hull":
        """The hull after a rigid motion."""
        motion = motion.to(self.vertices)
        return Hull(transform_points(motion, self.vertices), self.normals @ motion[:3, :3].T)

    def holds(self, points: Float[Tensor, "m 3"], margin: float = 0.0) -> Tensor:
        """Which points lie inside it, or no farther than `margin` outside of every face's plane."""
        reach = (self.vertices @ self.normals.T).amax(0)
        return (points.double() @ self.normals.T <= reach + margin).all(1)


def hull_of(points: Float[Tensor, "m 3"]) -> Hull:
    """The convex hull of points; flat ones get the least of a thickness.

    Raises:
        ValueError: fewer than 3 points.
    """
    from scipy.spatial import ConvexHull, QhullError

    if len(points) < 3:
        raise ValueError(f"expected at least 3 points for a hull, got {len(points)}")
    points = _extreme(points.detach().double().cpu())
    try:
        hull = ConvexHull(points.numpy())
    except QhullError:
        size = float((points.amax(0) - points.amin(0)).norm()) or 1.0
        shifts = torch.cartesian_prod(*[torch.tensor([-1e-4, 1e-4], dtype=torch.float64)] * 3) * size
        points = (points[:, None] + shifts).reshape(-1, 3)
        hull = ConvexHull(points.numpy())
    normals = torch.from_numpy(hull.equations[:, :3].copy())
    return Hull(points[torch.from_numpy(hull.vertices).long()], _distinct(normals))


def _extreme(points: Tensor) -> Tensor:
    """Of many points those that are outermost in one of many directions (a sphere's Fibonacci spiral)."""
    if len(points) <= _DIRECTIONS:
        return points
    step = torch.arange(_DIRECTIONS, dtype=torch.float64) + 0.5
    height, angle = 1 - 2 * step / _DIRECTIONS, math.pi * (1 + 5**0.5) * step
    radius = (1 - height * height).sqrt()
    spiral = torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)
    axes = torch.cat([spiral, torch.eye(3).double(), -torch.eye(3).double()])
    return points[(points @ axes.T).argmax(0).unique()]


def _distinct(normals: Tensor) -> Tensor:
    """Directions that differ by more than rounding: a quad is two triangles."""
    return torch.nn.functional.normalize((normals * 1e4).round().unique(dim=0), dim=-1)


def gap(a: Sequence[Hull], b: Sequence[Hull]) -> float:
    """[unit] how far apart two unions of hulls are at least; negative where they may overlap.

    The separating axes tried are the normals of all faces: what they part is apart, at least that far. Edges
    against edges are left out, so the answer can be too small, never too large.
    """
    return min(_gap(one, other) for one in a for other in b)


def _gap(a: Hull, b: Hull) -> float:
    middle_a, middle_b = a.vertices.mean(0), b.vertices.mean(0)
    reach = (a.vertices - middle_a).norm(dim=1).max() + (b.vertices - middle_b).norm(dim=1).max()
    if (apart := float((middle_a - middle_b).norm() - reach)) > 0:
        return apart
    axes = torch.cat([a.normals, b.normals])
    along_a, along_b = a.vertices @ axes.T, b.vertices @ axes.T
    return float(torch.maximum(along_b.amin(0) - along_a.amax(0), along_a.amin(0) - along_b.amax(0)).max())


def object_hulls(item: WorldObject, up: Vector | None = None) -> tuple[Hull, ...]:
    """The hulls that stand for an object, in its own frame; none where it has neither shape nor Gaussians."""
    return tuple(hull_of(points) for points in object_corners(item, up))


def object_corners(item: WorldObject, up: Vector | None = None) -> list[Float[Tensor, "_ 3"]]:
    """Points whose convex hulls stand for an object, in its own frame.

    They are those of its convex parts, else one set of its surface, else one of its Gaussians. The underside
    of those nobody saw: it is taken to be flat where the thing stands, if `up` tells where that is.
    """
    if item.shape is not None:
        meshes: Sequence[Mesh] = item.shape.parts or (item.shape.mesh,)
        solids = [mesh.vertices for mesh in meshes if len(mesh.vertices) >= 4]
        if solids:
            return [points[:: 1 + len(points) // _MOST_CORNERS] for points in solids]
    points = seen_points(item)
    if len(points) < 4:
        return []
    if up is not None:
        axis = item.world_from_object[:3, :3].T @ torch.tensor(up)
        height = points @ axis
        low, high = float(height.min()), float(height.max())
        foot = height <= low + _FOOT * (high - low)
        points = torch.cat([points, points[foot] - (height[foot] - low)[:, None] * axis])
    return [_extreme(points.double())]


def seen_points(item: WorldObject) -> Float[Tensor, "m 3"]:
    """Middles of an object's Gaussians that can be seen, without strays, in its own frame."""
    gaussians = item.gaussians
    there = ((gaussians.flags & (DELETED | HIDDEN)) == 0) & (gaussians.opacities.detach() > _FAINT)
    points = gaussians.means.detach()[there]
    if len(points) < 50:
        return points
    ordered, cut = points.sort(dim=0).values, int(_STRAY * len(points))
    low, high = ordered[cut], ordered[len(points) - 1 - cut]
    return points[((points >= low) & (points <= high)).all(1)]
