"""Objects made ready to be moved: what is below them filled, their undersides closed."""

from collections.abc import Sequence

from gaussworld import edit
from gaussworld.edit.fill import FillHole
from gaussworld.errors import EditError
from gaussworld.holes import outline_points
from gaussworld.neighbors import nearest
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

_MOVABLE = (ObjectKind.RIGID, ObjectKind.DEFORMABLE)
#: Outlines are compared at so many points.
_POINTS = 3000


def tidy_cut(world: World, objects: Sequence[int] | None = None, seed: int = 0) -> World:
    """Fill what objects hide of the surfaces that carry them, and close their undersides.

    An object without a surface below, such as one that hangs, stays as it is.

    Args:
        world: made of objects.
        objects: which; default: all that may move and are neither hidden nor locked.
        seed: chooses the samples that surfaces are found by.

    Raises:
        ValueError: there is no such object.
    """
    chosen = [world.find(number) for number in objects or ()] if objects is not None else _movable(world)
    for change in _fillings(world, chosen, seed):
        for each in change:
            try:
                world = edit.applied(each, world)
            except EditError:
                continue
            break
    return world


def _movable(world: World) -> list[WorldObject]:
    items = world.objects.values()
    return [i for i in items if i.kind in _MOVABLE and not i.hidden and not i.locked and len(i.gaussians)]


def _fillings(world: World, chosen: Sequence[WorldObject], seed: int) -> list[list[FillHole]]:
    """For each object the edits that may fill the hole below it, the likeliest first."""
    return [[FillHole(below, (item.id,), seed=seed) for below in _carriers(world, item)] for item in chosen]


def _carriers(world: World, item: WorldObject) -> list[int]:
    """What an object rests on; where nobody knows, what does not move and is nearest."""
    if item.supported_by is not None:
        return [number for number in item.supported_by if number in world.objects]
    points = outline_points(item.posed())
    distances = {}
    for other in world.objects.values():
        if other.kind is ObjectKind.STATIC and other.id != item.id and len(points):
            around = outline_points(other.posed())
            if len(around):
                some = points[:: max(1, len(points) // _POINTS)]
                distances[other.id] = float(nearest(around, 1, some)[0].quantile(0.05))
    return sorted(distances, key=distances.__getitem__)
