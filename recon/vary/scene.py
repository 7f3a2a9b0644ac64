"""What of a world can be placed anew: groups that move together, surfaces, and what is in the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import transform_points
from gaussworld.support import spread_points, supports
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, Vector, WorldObject

from .hulls import Hull, object_hulls, seen_points
from .settings import VaryConfig
from .table import Surface, surface_of

#: How far from its plane a surface's points may be, and how high above it something is in the way: [m], or as
#: a part of five times the size of things where the scale is unknown.
_THICKNESS, _RAISED = 0.006, 0.012
_MOST_POINTS = 60_000


@dataclass(frozen=True, eq=False)
class Group:
    """Things that are moved together: one, or a stack."""

    members: tuple[int, ...]
    """Ids, the one that carries the rest first."""
    carried: tuple[int, ...]
    """Ids of what is mounted on them and comes along by itself."""
    hulls: tuple[Hull, ...]
    """Of all of them, in the world."""
    surface: int
    """Which of the scene's surfaces it stands on."""
    settled: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))
    """The motion from where the world has it to where `hulls` are: round things roll onto a facet."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A world, as far as placing things is concerned."""

    world: World
    groups: tuple[Group, ...]
    surfaces: tuple[Surface, ...]
    walls: tuple[tuple[Hull, ...], ...]
    """For each surface the hulls of what stays."""
    clutter: tuple[Float[Tensor, "m 3"], ...]
    """For each surface the points above it of what stays and has no hulls."""
    rests_on: Mapping[int, tuple[int, ...]]
    """As `gaussworld.support.supports` says."""
    unit: float
    """[unit] length of a metre; of the things' size times five where the scale is unknown."""


def scene_of(world: World, config: VaryConfig) -> Scene:
    """Find out what can be moved, and where to.

    Raises:
        ValueError: nobody knows where up is.
    """
    rests_on = supports(world)
    movable = {n: item for n, item in world.objects.items() if _movable(world, item, rests_on)}
    hulls = {n: _posed_hulls(item, world.up) for n, item in world.objects.items()}
    movable = {number: item for number, item in movable.items() if hulls[number]}
    unit = _metre(world, [hulls[number] for number in movable])
    surfaces: list[Surface] = []
    groups: list[Group] = []
    up = torch.tensor(world.up, dtype=torch.float64)
    for support, sets in _by_support(movable, rests_on, config.unstack).items():
        # What stands on other things, and shall come down, does not tell where the surface is.
        firm = [i for i, members in enumerate(sets) if support in rests_on[members[0]]]
        first = len(surfaces)
        for level in _levels({i: hulls[sets[i][0]] for i in firm}, up, 0.02 * unit):
            surface = _surface(world, support, [hulls[sets[i][0]] for i in level], up, unit)
            if surface is not None:
                groups += [_group(world, sets[i], hulls, len(surfaces)) for i in level]
                surfaces.append(surface)
        if len(surfaces) > first:
            groups += [_group(world, sets[i], hulls, first) for i in range(len(sets)) if i not in firm]
    moving = {number for group in groups for number in (*group.members, *group.carried)}
    walls = [_walls(world, surface, moving, hulls) for surface in surfaces]
    clutter = [_clutter(world, surface, moving, _RAISED * unit) for surface in surfaces]
    return Scene(world, tuple(groups), tuple(surfaces), tuple(walls), tuple(clutter), rests_on, unit)


def _movable(world: World, item: WorldObject, rests_on: Mapping[int, tuple[int, ...]]) -> bool:
    if item.kind is not ObjectKind.RIGID or item.locked or item.hidden or not rests_on.get(item.id):
        return False
    return not any(world.objects[number].locked for number in _mounted(world, item.id))


def _mounted(world: World, number: int) -> tuple[int, ...]:
    return tuple(other for other, item in world.objects.items() if number in world.ancestors(item))


def _posed_hulls(item: WorldObject, up: Vector | None) -> tuple[Hull, ...]:
    # What is hidden is in nobody's way.
    hulls = () if item.hidden else object_hulls(item, up)
    return tuple(hull.moved(item.world_from_object) for hull in hulls)


def _metre(world: World, things: list[tuple[Hull, ...]]) -> float:
    if world.metres_per_unit is not None:
        return 1 / world.metres_per_unit
    sizes = [float((h.vertices.amax(0) - h.vertices.amin(0)).norm()) for hulls in things for h in hulls]
    return 5 * sorted(sizes)[len(sizes) // 2] if sizes else 1.0


def _by_support(
    movable: Mapping[int, WorldObject], rests_on: Mapping[int, tuple[int, ...]], unstack: bool
) -> dict[int, list[tuple[int, ...]]]:
    """Support that stays -> the sets of things on it that move together, their lowest first."""
    root = {number: number for number in movable}

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for number in movable:
        for below in rests_on[number]:
            if below in movable and not unstack:
                root[find(number)] = find(below)
    sets: dict[int, list[int]] = {}
    for number in movable:
        sets.setdefault(find(number), []).append(number)
    found: dict[int, list[tuple[int, ...]]] = {}
    for members in sets.values():
        first = sorted(members, key=lambda n: (all(b in movable for b in rests_on[n]), n))
        ground = _ground(first[0], movable, rests_on)
        if ground is not None:
            found.setdefault(ground, []).append(tuple(first))
    return dict(sorted(found.items()))


def _ground(
    number: int, movable: Mapping[int, WorldObject], rests_on: Mapping[int, tuple[int, ...]]
) -> int | None:
    """The first thing down from here that stays."""
    seen = set()
    while number in movable:
        if number in seen:
            return None
        seen.add(number)
        below = rests_on[number]
        number = next((each for each in below if each not in movable), below[0])
    return number


def _levels(feet: Mapping[int, tuple[Hull, ...]], up: Tensor, step: float) -> list[list[int]]:
    """Things by the height at which they stand, apart by more than `step`: the boards of a shelf."""
    heights = {i: min(float((hull.vertices @ up).min()) for hull in hulls) for i, hulls in feet.items()}
    order = sorted(feet, key=lambda i: heights[i])
    levels = [order[:1]] if order else []
    for a, b in pairwise(order):
        if heights[b] - heights[a] > step:
            levels.append([])
        levels[-1].append(b)
    return levels


def _surface(
    world: World, support: int, feet: list[tuple[Hull, ...]], up: Tensor, unit: float
) -> Surface | None:
    item, vertices = world.objects[support], [torch.cat([h.vertices for h in hulls]) for hulls in feet]
    points = _points(item, up)
    low = [each[(each @ up).argmin()] for each in vertices]
    prints = []
    for each in vertices:
        height = each @ up
        foot = each[height <= height.min() + 0.1 * (height.max() - height.min()) + 0.003 * unit]
        prints.append(_filled(foot, up))
    return surface_of(support, points, up, low, prints, _THICKNESS * unit)


def _filled(foot: Tensor, up: Tensor) -> Tensor:
    """Points all over a footprint, by mixing its corners."""
    draw = torch.Generator().manual_seed(0)
    weights = torch.rand(600, len(foot), generator=draw, dtype=torch.float64).log().neg()
    weights = weights**3
    mixed = (weights / weights.sum(1, keepdim=True)) @ foot
    return torch.cat([foot, mixed])


def _points(item: WorldObject, facing: Float[Tensor, "3"] | None = None) -> Float[Tensor, "m 3"]:
    """Points on an object in the world: its Gaussians, or its mesh where it has few.

    Args:
        item: the object.
        facing: a direction of the world; then the mesh comes first, and only its faces that look there.
    """
    points = seen_points(item)
    if item.shape is not None and len(item.shape.mesh.faces) and (len(points) < 500 or facing is not None):
        corners = item.shape.mesh.transformed(item.world_from_object).triangles
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = normals.norm(dim=-1)
        if facing is not None:
            rows = normals @ facing.to(normals) > 0.9 * area
            corners, area = (corners[rows], area[rows]) if bool(rows.any()) else (corners, area)
        return spread_points(corners, area, 20_000)
    if len(points) > _MOST_POINTS:
        points = points[torch.linspace(0, len(points) - 1, _MOST_POINTS).long()]
    return transform_points(item.world_from_object, points)


def _group(
    world: World, members: tuple[int, ...], hulls: Mapping[int, tuple[Hull, ...]], surface: int
) -> Group:
    carried = tuple(dict.fromkeys(each for number in members for each in _mounted(world, number)))
    carried = tuple(number for number in carried if number not in members)
    return Group(members, carried, tuple(h for n in (*members, *carried) for h in hulls[n]), surface)


def _walls(
    world: World, surface: Surface, moving: set[int], hulls: Mapping[int, tuple[Hull, ...]]
) -> tuple[Hull, ...]:
    stays = [
        n for n, item in world.objects.items() if n not in moving and n != surface.support and _solid(item)
    ]
    return tuple(hull for number in stays for hull in hulls[number])


def _solid(item: WorldObject) -> bool:
    """Whether its hulls say where it is; a room's hull, or a shelf's, would be full."""
    if item.shape is not None and item.shape.parts:
        return True
    return item.kind in (ObjectKind.RIGID, ObjectKind.DEFORMABLE)


def _clutter(world: World, surface: Surface, moving: set[int], raised: float) -> Float[Tensor, "m 3"]:
    """Points above a surface, within its reach, of what stays: walls of a room, a rim, a lamp."""
    found = []
    low = surface.corner
    high = low + torch.tensor(surface.there.shape) * surface.cell
    margin = 0.1 * float((high - low).amax())
    for number, item in world.objects.items():
        if item.hidden or number in moving or (number != surface.support and _solid(item)):
            continue
        points = _points(item).double()
        flat = surface.flat(points)
        over = (flat[:, 2] > raised) & ((flat[:, :2] > low - margin) & (flat[:, :2] < high + margin)).all(1)
        found.append(points[over])
    return torch.cat(found) if found else torch.zeros(0, 3, dtype=torch.float64)


def moved_world(world: World, motions: Mapping[int, Float[Tensor, "4 4"]]) -> World:
    """The world with objects after rigid motions of the world's frame, each moved by itself alone."""
    items = {
        number: replace(
            item, world_from_object=(motions[number].double() @ item.world_from_object.double()).float()
        )
        if number in motions
        else item
        for number, item in world.objects.items()
    }
    return replace(world, objects=items)
