"""`Target`: what an edit is about - objects, rows of objects, or what lies in a volume."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from ..camera import Camera
from ..gaussians import DELETED, LOCKED, Gaussians
from ..selection import in_box, in_polygon, in_sphere
from ..world import World
from ..world_object import Vector, WorldObject
from .objects import Pose7, found, posed_at, unlocked
from .rows import Rows


@dataclass(frozen=True)
class Box:
    """A box in the world."""

    pose: Pose7
    """x y z [m, or the world's unit] of its middle, quaternion w x y z."""
    size: Vector
    """[m, or the world's unit] whole lengths of its edges."""

    def holds(self, gaussians: Gaussians) -> Bool[Tensor, " n"]:
        return in_box(gaussians, posed_at(self.pose), self.size)


@dataclass(frozen=True)
class Sphere:
    """A ball in the world."""

    center: Vector
    """[m, or the world's unit]"""
    radius: float
    """[m, or the world's unit]"""

    def holds(self, gaussians: Gaussians) -> Bool[Tensor, " n"]:
        return in_sphere(gaussians, torch.tensor(self.center), self.radius)


@dataclass(frozen=True, eq=False)
class Polygon:
    """What a camera sees inside a polygon on its picture, however far away."""

    camera: Camera
    points: tuple[tuple[float, float], ...]
    """[px]"""

    def holds(self, gaussians: Gaussians) -> Bool[Tensor, " n"]:
        return in_polygon(gaussians, self.camera, torch.tensor(self.points))


Volume = Box | Sphere | Polygon


@dataclass(frozen=True)
class Target:
    """What an edit is about: whole objects, rows of objects, or both; of these what lies in a volume."""

    objects: tuple[int, ...] = ()
    """Whole objects."""
    rows: Rows = field(default_factory=Rows)
    """Ranges [start, stop) of rows by object id."""
    inside: Volume | None = None
    """Of the objects and rows only what lies in it; without any, of all that is neither hidden nor locked."""

    def masks(self, world: World) -> Iterator[tuple[WorldObject, Bool[Tensor, " n"]]]:
        """Each object with the rows that count, which are not deleted.

        Raises:
            ValueError: nothing is asked for or found, there is no such object or row.
        """
        if self.inside is None:
            yield from self._named(world)
            return
        chosen = list(self._named(world)) if self.objects or self.rows.ranges else list(self._all(world))
        within = [(item, mask & self.inside.holds(item.posed())) for item, mask in chosen]
        within = [(item, mask) for item, mask in within if bool(mask.any())]
        if not within:
            raise ValueError("inside: expected a volume with Gaussians in it, got an empty one")
        yield from within

    def free(self, world: World) -> Iterator[tuple[WorldObject, Bool[Tensor, " n"]]]:
        """As `masks`, for an edit that locks forbid.

        Raises:
            ValueError: an object is locked, or one of the rows is.
        """
        for item, mask in self.masks(world):
            unlocked(world, (item.id,))
            if bool(((item.gaussians.flags & LOCKED) != 0)[mask].any()):
                raise ValueError(f"object {item.id} ({item.name}): expected Gaussians that are not locked")
            yield item, mask

    def _named(self, world: World) -> Iterator[tuple[WorldObject, Bool[Tensor, " n"]]]:
        chosen = self.rows.masks(world)
        for item in found(world, (*self.objects, *chosen)):
            yield item, alive(item) if item.id in self.objects else chosen[item.id]

    def _all(self, world: World) -> Iterator[tuple[WorldObject, Bool[Tensor, " n"]]]:
        for item in world.objects.values():
            if not item.hidden and not item.locked and len(item.gaussians):
                yield item, alive(item)


def alive(item: WorldObject) -> Bool[Tensor, " n"]:
    """Rows of an object that are not deleted."""
    return (item.gaussians.flags & DELETED) == 0
