"""Edits of the whole world: its axes and scale, and cleaning it up."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ..floaters import floaters
from ..gaussians import DELETED
from ..pose import pose_from, rotation_from_rotvec
from ..simplify import simplify
from ..world import World
from ..world_object import Vector, WorldObject
from .objects import check_finite, found, unlocked
from .parts import erased

Z = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class SetUp:
    """Say which way is up; the world turns about its origin so that this becomes +z."""

    name: ClassVar[str] = "set-up"
    up: Vector | None = None
    """Any length but 0; default: what the world says is up."""

    def apply(self, world: World) -> World:
        direction = self.up or world.up
        if direction is None:
            raise ValueError("up: expected a direction, because this world does not say what is up, got none")
        length = math.hypot(*direction)
        if not 0 < length < math.inf:
            raise ValueError(f"up: expected a direction, got {self.up}")
        up, z = torch.tensor(direction, dtype=torch.float64) / length, torch.tensor(Z, dtype=torch.float64)
        axis, cosine = torch.linalg.cross(up, z), float(up @ z)
        if float(axis.norm()) < 1e-12:
            # Straight down: any horizontal axis will do.
            axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        angle = math.atan2(float(torch.linalg.cross(up, z).norm()), cosine)
        turn = rotation_from_rotvec(axis / axis.norm() * angle).float()
        turned = world.reframed(pose_from(turn, torch.zeros(3))) if angle > 0 else world
        return replace(turned, up=Z)


@dataclass(frozen=True)
class SetScale:
    """Say how far two points of the world are from each other; its unit becomes the metre."""

    name: ClassVar[str] = "set-scale"
    a: Vector
    """[the world's unit so far]"""
    b: Vector
    """[the world's unit so far]"""
    metres: float

    def apply(self, world: World) -> World:
        distance = math.dist(self.a, self.b)
        if not 0 < self.metres < math.inf or not 0 < distance < math.inf:
            raise ValueError(
                f"expected two different points and a positive distance, got {self.a}, {self.b} and"
                f" {self.metres:g} m"
            )
        scaled = world.reframed(torch.eye(4), self.metres / distance)
        for item in scaled.objects.values():
            check_finite(item.gaussians)
        return replace(scaled, metres_per_unit=1.0)


@dataclass(frozen=True)
class RemoveFloaters:
    """Delete Gaussians that hang in empty space, cannot be seen, or are absurdly large."""

    name: ClassVar[str] = "remove-floaters"
    objects: tuple[int, ...] = ()
    """Default: all that are not locked."""

    def apply(self, world: World) -> World:
        # What floats is seen in the whole scene: a button alone would be a speck in the void.
        scene = world.posed()
        masks = floaters(scene, cameras=world.cameras).split(
            [len(item.gaussians) for item in world.objects.values()]
        )
        marked = dict(zip(world.objects, masks))
        for item in _free(world, self.objects):
            if bool(marked[item.id].any()):
                world = world.with_object(erased(item, marked[item.id]))
        return world


@dataclass(frozen=True)
class Simplify:
    """Merge Gaussians until so many are left, each object its share; erased ones cannot be restored then."""

    name: ClassVar[str] = "simplify"
    count: int
    """Of all chosen objects together."""
    objects: tuple[int, ...] = ()
    """Default: all that are not locked."""

    def apply(self, world: World) -> World:
        items = _free(world, self.objects)
        alive = {item.id: (item.gaussians.flags & DELETED) == 0 for item in items}
        total = sum(int(mask.sum()) for mask in alive.values())
        if not len(items) <= self.count <= total:
            raise ValueError(f"count: expected {len(items)} to {total} Gaussians, got {self.count}")
        shares = _shares({number: int(mask.sum()) for number, mask in alive.items()}, self.count)

        for item in items:
            part = item.gaussians.select(alive[item.id])
            # An object's Gaussians are its own, whatever ids they had where they came from.
            part = replace(part, object_ids=torch.full_like(part.object_ids, item.id))
            gaussians = simplify(part, shares[item.id])
            world = world.with_object(replace(item, gaussians=gaussians))
        return world


def _free(world: World, objects: tuple[int, ...]) -> list[WorldObject]:
    if objects:
        return unlocked(world, objects)
    return [item for item in found(world, world.objects) if not item.locked] if world.objects else []


def _shares(sizes: dict[int, int], count: int) -> dict[int, int]:
    """Whole numbers in proportion to sizes, summing to `count`, none above its size or, if it has any, 0."""
    total = sum(sizes.values())
    shares = {number: min(size, max(min(size, 1), size * count // total)) for number, size in sizes.items()}
    for number in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        room = count - sum(shares.values())
        low, high = min(sizes[number], 1), sizes[number]
        shares[number] = min(high, max(low, shares[number] + room))
    return shares
