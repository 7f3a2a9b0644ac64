"""Where things rest: table tops, shelves and the floor, found on what never moves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.hull import within_hull
from gaussworld.pose import rotation_from_quats, transform_points
from gaussworld.support import outward
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID, Material, ObjectKind, WorldObject

from .fields import surface_samples
from .parts import Ground
from .solidity import Body, shown_gaussians

#: Cosine beyond which a surface is level.
_LEVEL = 0.9
#: [m] thickness of a slice of level surface, and how far above or below it what rests there may begin.
_SLICE, _NEAR = 0.006, 0.03
#: A slice with such a part of the points of the fullest is as good.
_NEARLY = 0.8
#: [m] side of the cells by which a level surface is followed, and how many empty ones are bridged.
_CELL, _GAP = 0.04, 2
#: A table is at least so wide [m], and its top such a part of its outline seen from above; what is smaller is
#: met by its distance field, sides included. Level parts of the background are at least so wide [m].
_TABLE, _SHARE, _WIDE = 0.4, 0.6, 0.25
#: A floor is at least so far below a table's top [m].
_BELOW = 0.1
#: Samples on a surface.
_SAMPLES = 6000


@dataclass(frozen=True, eq=False)
class Patch:
    """A level surface."""

    height: float
    """[m]"""
    outline: Float[Tensor, "k 2"]
    """[m] convex, counter-clockwise."""
    friction: float


def ground_of(world: World, movable: Sequence[WorldObject]) -> tuple[Ground, frozenset[int]]:
    """The ground under a world's things, and the ids of the static objects whose tops are patches of it.

    Objects come first: wide ones with a level top. Then the background, near what stands on nothing yet and
    far below. Where nothing is known there is a plane under the lowest thing.

    Args:
        world: in metres, +z up.
        movable: what moves.
    """
    bottoms = [_bottom(item) for item in movable]
    patches: dict[int, Patch] = {}
    jointed = {item.parent for item in world.objects.values() if item.joint is not None}
    for item in world.objects.values():
        still = item.kind is ObjectKind.STATIC and item.id != BACKGROUND_ID and not item.hidden
        if still and item.id not in jointed and (patch := _top(item)) is not None:
            patches[item.id] = patch
    rest = _background(world)
    friction = world.objects[BACKGROUND_ID].material.friction if len(rest) else Material().friction
    found = list(patches.values())
    found += _under([points for points in bottoms if not _carried(points, found)], rest, friction)
    floor = _floor(rest, found, bottoms)
    if floor is None:
        floor = _below_all(world, found, bottoms)
    # What reaches down to the floor is the floor: it has no edge.
    found = sorted(
        (patch for patch in found if patch.height > floor + _NEAR), key=lambda patch: -patch.height
    )
    heights = torch.tensor([patch.height for patch in found] + [floor])
    frictions = torch.tensor([patch.friction for patch in found] + [friction])
    ground = Ground(heights, tuple(patch.outline for patch in found), frictions)
    return ground, frozenset(patches)


def outline_of(points: Float[Tensor, "n 2"]) -> Float[Tensor, "k 2"] | None:
    """The corners of points' convex hull, counter-clockwise; None where they lie on a line."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        found = ConvexHull(points.double().numpy())
    except (QhullError, ValueError):
        return None
    return points[torch.from_numpy(found.vertices).long()].float()


def _area(outline: Tensor) -> float:
    """[m^2] of a polygon, by the shoelace formula."""
    x, y = outline.double().unbind(1)
    return float((x * y.roll(-1) - y * x.roll(-1)).sum() / 2)


def _bottom(item: WorldObject) -> Tensor:
    """[m] the lowest points of a thing, in the world."""
    points = transform_points(item.world_from_object, Body(item).surface)
    if not len(points):
        return points
    low = points[:, 2].quantile(0.01) if len(points) > 100 else points[:, 2].min()
    return points[points[:, 2] <= low + _SLICE]


def _level_points(item: WorldObject) -> tuple[Tensor, Tensor]:
    """[m] points in the world where its surface looks up, and all of its points."""
    pose = item.world_from_object
    if item.shape is not None and len(item.shape.mesh.faces):
        mesh = item.shape.mesh
        mesh = outward(mesh) if Body(item).closed else mesh
        triangles = mesh.transformed(pose).triangles
        a, b, c = triangles.unbind(1)
        normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
        points, face = surface_samples(triangles, _SAMPLES)
        points = torch.cat([points, triangles.reshape(-1, 3)])
        face = torch.cat([face, torch.arange(len(triangles)).repeat_interleave(3)])
        return points[normal[face, 2] > _LEVEL], points
    gaussians = shown_gaussians(item.gaussians)
    points = transform_points(pose, gaussians.means)
    # The shortest axis of a Gaussian is the normal of its surface; it may look either way.
    axis = gaussians.log_scales.argmin(1)
    normal = rotation_from_quats(gaussians.quats).gather(2, axis[:, None, None].expand(-1, 3, 1))[..., 0]
    up = (normal @ pose[:3, :3].T.to(normal))[:, 2].abs() > _LEVEL
    return points[up], points


def _top(item: WorldObject) -> Patch | None:
    """The level top of something wide; None for what is small or has none."""
    level, points = _level_points(item)
    if len(level) < 20:
        return None
    whole = outline_of(points[:, :2])
    height = _height(level[:, 2])
    flat = level[(level[:, 2] - height).abs() < _SLICE]
    outline = outline_of(_together(flat[:, :2]))
    if whole is None or outline is None or float((outline.amax(0) - outline.amin(0)).min()) < _TABLE:
        return None
    if _area(outline) < _SHARE * _area(whole):
        return None
    return Patch(height, outline, item.material.friction)


def _height(heights: Tensor) -> float:
    """[m] where most heights are: the middle of those in the fullest slice, or in one above that nearly is.

    Of a board whose both sides are seen that is the upper one.
    """
    at = (heights / _SLICE).round().long()
    lowest = int(at.min())
    counts = torch.nn.functional.pad((at - lowest).bincount(), (1, 1))
    wide = counts[1:-1] + counts[2:] + counts[:-2]
    highest = int((wide >= _NEARLY * wide.max()).nonzero()[-1, 0])
    # Its slice counts because of its own points, or of those just below.
    best = highest + lowest - int(highest > 0 and bool(counts[highest] > counts[highest + 1]))
    return float(heights[(at - best).abs() <= 1].median())


def _together(points: Tensor, seeds: Tensor | None = None) -> Tensor:
    """Points that hang together, cell by cell: the largest such part, or those that hang on seeds."""
    from scipy.ndimage import binary_dilation, label

    low = points.amin(0)
    at = ((points - low) / _CELL).long()
    grid = torch.zeros(*(at.amax(0) + 1).tolist(), dtype=torch.bool)
    grid[at[:, 0], at[:, 1]] = True
    wide = binary_dilation(grid.numpy(), iterations=_GAP)
    found: Any = label(wide, structure=torch.ones(3, 3).numpy())
    parts = torch.from_numpy(found[0])
    part = parts[at[:, 0], at[:, 1]].long()
    if seeds is None:
        return points[part == part.bincount().argmax()]
    near = ((seeds - low) / _CELL).long()
    inside = ((near >= 0) & (near < torch.tensor(grid.shape))).all(1)
    hit = parts[near[inside, 0], near[inside, 1]].long().unique()
    return points[torch.isin(part, hit[hit > 0])]


def _background(world: World) -> Tensor:
    """[m] where what nobody segmented looks up, in the world."""
    item = world.objects.get(BACKGROUND_ID)
    if item is None or item.hidden or Body(item).empty:
        return torch.zeros(0, 3)
    return _level_points(item)[0]


def _carried(bottom: Tensor, patches: Iterable[Patch]) -> bool:
    """Whether a thing's lowest points are on one of the patches, or over it."""
    return any(_over(bottom, patch) and float(bottom[:, 2].min()) > patch.height - _NEAR for patch in patches)


def _over(points: Tensor, patch: Patch) -> bool:
    inside: Bool[Tensor, " n"] = within_hull(points[:, :2], patch.outline)
    return bool(inside.float().mean() > 0.5)


def _under(bottoms: Sequence[Tensor], rest: Tensor, friction: float) -> list[Patch]:
    """Level parts of the background that things stand on: about their feet, at that height."""
    found: list[Patch] = []
    for bottom in bottoms:
        if not len(rest) or _carried(bottom, found):
            continue
        height = float(bottom[:, 2].median())
        flat = rest[(rest[:, 2] - height).abs() < _NEAR]
        if len(flat) < 20:
            continue
        flat = flat[(flat[:, 2] - _height(flat[:, 2])).abs() < _SLICE]
        seeds = bottom[:, :2]
        points = _together(flat[:, :2], seeds)
        outline = outline_of(points) if len(points) >= 20 else None
        if outline is not None and float((outline.amax(0) - outline.amin(0)).min()) >= _WIDE:
            found.append(Patch(float(flat[:, 2].median()), outline, friction))
    return found


def _floor(rest: Tensor, patches: Sequence[Patch], bottoms: Sequence[Tensor]) -> float | None:
    """[m] the fullest level of the background below all that is found so far."""
    lowest = min([patch.height for patch in patches] + [float(points[:, 2].min()) for points in bottoms])
    below = rest[rest[:, 2] < lowest - _BELOW]
    if len(below) < 50:
        return None
    height = _height(below[:, 2])
    flat = below[(below[:, 2] - height).abs() < 2 * _SLICE]
    # A floor is more than a ledge.
    return height if len(flat) >= 0.1 * len(below) else None


def _below_all(world: World, patches: Sequence[Patch], bottoms: Sequence[Tensor]) -> float:
    """[m] where no floor was seen: the foot of what never moves, or what the lowest thing stands on."""
    lowest = min(float(points[:, 2].min()) for points in bottoms)
    tables = [patch.height for patch in patches]
    if not tables:
        return lowest
    if lowest < min(tables) - _NEAR:
        return lowest
    feet = [_feet(item) for item in world.objects.values() if item.kind is ObjectKind.STATIC]
    known = [foot for foot in feet if foot is not None and foot < min(tables) - _BELOW]
    return min(known, default=min(tables) - 0.75)


def _feet(item: WorldObject) -> float | None:
    if item.id == BACKGROUND_ID or item.hidden or not len(Body(item).surface):
        return None
    heights = transform_points(item.world_from_object, Body(item).surface)[:, 2]
    return float(heights.quantile(0.01))
