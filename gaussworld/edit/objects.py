"""Edits of whole objects: where they are, and which there are."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import HIDDEN, Gaussians, cat
from ..pose import invert_pose, normalize_quats, pose_from, rotation_from_quats
from ..world import World, unsupported
from ..world_object import ObjectKind, Vector, WorldObject

Quaternion = tuple[float, float, float, float]
Pose7 = tuple[float, float, float, float, float, float, float]
AT_ORIGIN: Pose7 = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Move:
    """Shift objects along the world's axes; what is mounted on them comes along."""

    name: ClassVar[str] = "move"
    objects: tuple[int, ...]
    offset: Vector
    """[m, or the world's unit]"""

    def apply(self, world: World) -> World:
        motion = torch.eye(4)
        motion[:3, 3] = vector(self.offset, "offset")
        return _moved(world, self.objects, motion)


@dataclass(frozen=True)
class Rotate:
    """Turn objects about a point; what is mounted on them comes along."""

    name: ClassVar[str] = "rotate"
    objects: tuple[int, ...]
    rotation: Quaternion
    """wxyz, in the world's axes; any length but 0."""
    about: Vector | None = None
    """The point that stays; default: the middle of the objects' origins."""

    def apply(self, world: World) -> World:
        about = _pivot(world, self.objects, self.about)
        rotation = _rotation(self.rotation)
        return _moved(world, self.objects, pose_from(rotation, about - rotation @ about))


@dataclass(frozen=True)
class Place:
    """Put one object at a pose; what is mounted on it comes along."""

    name: ClassVar[str] = "place"
    object_id: int
    pose: Pose7
    """x y z [m, or the world's unit], w x y z."""

    def apply(self, world: World) -> World:
        unlocked(world, (self.object_id,))
        _refuse_locked_riders(world, {self.object_id})
        return world.moved(self.object_id, posed_at(self.pose))


@dataclass(frozen=True)
class Scale:
    """Make objects larger or smaller; their joints scale, what is mounted on them stays."""

    name: ClassVar[str] = "scale"
    objects: tuple[int, ...]
    factor: float
    about: Vector | None = None
    """The point that stays; default: the middle of the objects' origins."""

    def apply(self, world: World) -> World:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"factor: expected a positive finite number, got {self.factor:g}")
        about = _pivot(world, self.objects, self.about)
        for item in unlocked(world, self.objects):
            pose = item.world_from_object.clone()
            pose[:3, 3] = about + self.factor * (pose[:3, 3] - about)
            world = world.with_object(
                replace(
                    item,
                    world_from_object=pose,
                    gaussians=_scaled(item.gaussians, self.factor),
                    joint=item.joint and item.joint.scaled(self.factor),
                    shape=item.shape and item.shape.transformed(torch.eye(4), self.factor),
                    material=item.material.scaled(self.factor),
                    supported_by=None,
                )
            )
        return replace(world, objects=unsupported(world.objects, set(self.objects)))


@dataclass(frozen=True)
class Duplicate:
    """Copy objects, without what is mounted on them."""

    name: ClassVar[str] = "duplicate"
    objects: tuple[int, ...]
    offset: Vector = (0.0, 0.0, 0.0)
    """[m, or the world's unit] where the copies are, from their originals."""

    def apply(self, world: World) -> World:
        offset = vector(self.offset, "offset")
        for item in found(world, self.objects):
            pose = item.world_from_object.clone()
            pose[:3, 3] += offset
            copy = replace(item, id=world.next_id, name=new_name(world, item.name), world_from_object=pose)
            world = world.with_object(replace(copy, locked=False, supported_by=None))
        return world


@dataclass(frozen=True)
class Delete:
    """Remove objects; what was mounted on them stands by itself."""

    name: ClassVar[str] = "delete"
    objects: tuple[int, ...]

    def apply(self, world: World) -> World:
        gone = {item.id for item in unlocked(world, self.objects)}
        return without(world, gone)


@dataclass(frozen=True, eq=False)
class Add:
    """Add an object made of Gaussians, of a file or computed; as JSON, `gaussians` is a file's path."""

    name: ClassVar[str] = "add"
    gaussians: Gaussians
    """In the new object's own frame."""
    new_name: str
    kind: ObjectKind = ObjectKind.RIGID
    pose: Pose7 = AT_ORIGIN
    """x y z [m, or the world's unit], w x y z."""
    scale: float = 1.0
    """Units of the world in one unit of the file."""
    parent: int | None = None

    def apply(self, world: World) -> World:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale: expected a positive finite number, got {self.scale:g}")
        if not len(self.gaussians):
            raise ValueError("gaussians: expected at least one, got none")
        if self.parent is not None:
            world.find(self.parent)
        gaussians = self.gaussians.detach().to("cpu")
        if self.scale != 1:
            gaussians = _scaled(gaussians, self.scale)
        check_finite(gaussians)
        name = new_name(world, checked_name(self.new_name))
        item = WorldObject(world.next_id, name, gaussians, self.kind, posed_at(self.pose), self.parent)
        return world.with_object(item)


@dataclass(frozen=True)
class Merge:
    """Make one object of several: the first keeps its id, name, pose and kind."""

    name: ClassVar[str] = "merge"
    objects: tuple[int, ...]

    def apply(self, world: World) -> World:
        first, *others = unlocked(world, self.objects)
        if not others:
            raise ValueError(f"objects: expected at least two different ones, got {self.objects}")
        own = invert_pose(first.world_from_object)
        parts = [as_shown(item).transformed(own @ item.world_from_object) for item in others]
        gone = {item.id for item in others}
        # Its parent may be merged into it: then it hangs on the next thing below that stays.
        parent = next((number for number in world.ancestors(first) if number not in gone), None)
        gaussians = cat([as_shown(first), *parts])
        merged = replace(first.reshaped(gaussians), parent=parent, hidden=False, supported_by=None)
        mounted = {
            number: replace(item, parent=first.id)
            for number, item in world.objects.items()
            if item.parent in gone and number != first.id and number not in gone
        }
        if locked := [item for item in mounted.values() if item.locked]:
            raise ValueError(f"expected nothing locked on what goes, got {locked[0].id} ({locked[0].name})")
        kept = {**world.objects, **mounted, first.id: merged}
        left = {number: kept[number] for number in kept if number not in gone}
        return replace(world, objects=unsupported(left, gone))


def as_shown(item: WorldObject) -> Gaussians:
    """Gaussians that stay hidden when they leave a hidden object."""
    if not item.hidden:
        return item.gaussians
    return replace(item.gaussians, flags=item.gaussians.flags | HIDDEN)


def found(world: World, objects: Iterable[int]) -> list[WorldObject]:
    """Objects by id, each once.

    Raises:
        ValueError: none is asked for, or there is no such object.
    """
    items = [world.find(number) for number in dict.fromkeys(objects)]
    if not items:
        raise ValueError("objects: expected at least one id, got none")
    return items


def unlocked(world: World, objects: Iterable[int]) -> list[WorldObject]:
    """As `found`, for an edit that locks forbid.

    Raises:
        ValueError: one is locked.
    """
    items = found(world, objects)
    for item in items:
        if item.locked:
            raise ValueError(f"expected objects that are not locked, got {item.id} ({item.name}); unlock it")
    return items


def without(world: World, gone: set[int]) -> World:
    """A world without some objects; what was mounted on them stands by itself.

    Raises:
        ValueError: something locked was mounted on them.
    """
    for item in world.objects.values():
        if item.locked and item.parent in gone:
            raise ValueError(f"expected nothing locked on what goes, got {item.id} ({item.name}); unlock it")
    kept = {
        number: replace(item, parent=None) if item.parent in gone else item
        for number, item in world.objects.items()
        if number not in gone
    }
    return replace(world, objects=unsupported(kept, gone))


def new_name(world: World, name: str) -> str:
    """A name that no object has: "box", "box 2", "box 3"."""
    taken = {item.name for item in world.objects.values()}
    stem, _, last = name.rpartition(" ")
    stem = stem if stem and last.isdigit() and name in taken else name
    number = 2
    while name in taken:
        name, number = f"{stem} {number}", number + 1
    return name


def checked_name(name: str) -> str:
    """A name that people can read.

    Raises:
        ValueError: it is empty, longer than 200 characters, or has line breaks.
    """
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise ValueError(f"expected a name of 1 to 200 printable characters, got {name[:80]!r}")
    return name.strip()


def _moved(world: World, objects: Iterable[int], motion: Tensor) -> World:
    items = unlocked(world, objects)
    chosen = {item.id for item in items}
    _refuse_locked_riders(world, chosen)
    before = world
    for item in items:
        # What is mounted on another chosen object comes along with that one.
        if not chosen & set(world.ancestors(item)):
            world = world.moved(item.id, motion @ item.world_from_object)
    # They move together: one that rests on another of them still does.
    touched = {n for n, item in world.objects.items() if chosen & {n, *world.ancestors(item)}}
    supports = {n: item.supported_by for n, item in unsupported(before.objects, touched).items()}
    resting = {
        n: item if item.supported_by == supports[n] else replace(item, supported_by=supports[n])
        for n, item in world.objects.items()
    }
    return replace(world, objects=resting)


def _refuse_locked_riders(world: World, chosen: set[int]) -> None:
    for item in world.objects.values():
        if item.locked and chosen & set(world.ancestors(item)):
            raise ValueError(f"expected nothing locked to come along, got {item.id} ({item.name}); unlock it")


def _pivot(world: World, objects: Iterable[int], about: Vector | None) -> Float[Tensor, "3"]:
    if about is not None:
        return vector(about, "about")
    return torch.stack([item.world_from_object[:3, 3] for item in found(world, objects)]).mean(0)


def _scaled(gaussians: Gaussians, factor: float) -> Gaussians:
    means, log_scales = gaussians.means * factor, gaussians.log_scales + math.log(factor)
    scaled = replace(gaussians, means=means, log_scales=log_scales)
    check_finite(scaled)
    return scaled


def check_finite(gaussians: Gaussians) -> None:
    """Refuse numbers that no file would take.

    Raises:
        ValueError: one is NaN or infinite, or a quaternion is zero.
    """
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        if not bool(torch.isfinite(getattr(gaussians, name)).all()):
            raise ValueError(f"gaussians: expected finite {name}, got NaN or infinity")
    if not bool(gaussians.quats.any(dim=1).all()):
        raise ValueError("gaussians: expected quaternions other than zero, got one")


def vector(values: Vector, name: str) -> Float[Tensor, "3"]:
    """A point or direction of finite numbers.

    Raises:
        ValueError: it is something else.
    """
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise ValueError(f"{name}: expected 3 finite numbers, got {values}")
    return torch.tensor(values, dtype=torch.float32)


def _rotation(quaternion: Quaternion) -> Float[Tensor, "3 3"]:
    length = math.hypot(*quaternion)
    if len(quaternion) != 4 or not 0 < length < math.inf:
        raise ValueError(f"rotation: expected a quaternion wxyz, not 0, got {quaternion}")
    return rotation_from_quats(normalize_quats(torch.tensor(quaternion, dtype=torch.float32)))


def posed_at(pose: Pose7) -> Float[Tensor, "4 4"]:
    """The pose of x y z, w x y z.

    Raises:
        ValueError: it is not finite, or its quaternion is 0.
    """
    vector(pose[:3], "pose")
    return pose_from(_rotation(pose[3:]), torch.tensor(pose[:3], dtype=torch.float32))
