"""Edits of whole objects: where they are, what they are, and which there are."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import HIDDEN, Gaussians, cat
from ..pose import invert_pose, normalize_quats, pose_from, rotation_from_quats
from ..world import World
from ..world_object import Joint, Material, ObjectKind, Source, Vector, WorldObject

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
        motion[:3, 3] = _vector(self.offset, "offset")
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
                )
            )
        return world


@dataclass(frozen=True)
class Duplicate:
    """Copy objects, without what is mounted on them."""

    name: ClassVar[str] = "duplicate"
    objects: tuple[int, ...]
    offset: Vector = (0.0, 0.0, 0.0)
    """[m, or the world's unit] where the copies are, from their originals."""

    def apply(self, world: World) -> World:
        offset = _vector(self.offset, "offset")
        for item in found(world, self.objects):
            pose = item.world_from_object.clone()
            pose[:3, 3] += offset
            copy = replace(item, id=world.next_id, name=new_name(world, item.name), world_from_object=pose)
            world = world.with_object(replace(copy, locked=False))
        return world


@dataclass(frozen=True)
class Delete:
    """Remove objects; what was mounted on them stands by itself."""

    name: ClassVar[str] = "delete"
    objects: tuple[int, ...]

    def apply(self, world: World) -> World:
        gone = {item.id for item in unlocked(world, self.objects)}
        return without(world, gone)


@dataclass(frozen=True)
class Rename:
    """Give an object another name."""

    name: ClassVar[str] = "rename"
    object_id: int
    new_name: str

    def apply(self, world: World) -> World:
        item, name = world.find(self.object_id), checked_name(self.new_name)
        for other in world.objects.values():
            if other.name == name and other.id != item.id:
                raise ValueError(f"new_name: expected a name of its own, got {name!r}, object {other.id}'s")
        return world.with_object(replace(item, name=name))


@dataclass(frozen=True)
class SetKind:
    """Say how objects may move. One that becomes articulated needs `SetJoint`, which does both."""

    name: ClassVar[str] = "set-kind"
    objects: tuple[int, ...]
    kind: ObjectKind

    def apply(self, world: World) -> World:
        kind = ObjectKind(self.kind)
        keeps_joint = kind in (ObjectKind.ARTICULATED, ObjectKind.ROBOT)
        for item in unlocked(world, self.objects):
            joint = item.joint if keeps_joint else None
            world = world.with_object(replace(item, kind=kind, joint=joint))
        return world


@dataclass(frozen=True)
class SetJoint:
    """Give an object its one degree of freedom, or take it."""

    name: ClassVar[str] = "set-joint"
    object_id: int
    kind: Literal["revolute", "prismatic", "fixed"]
    """fixed: without a joint; an articulated object becomes rigid."""
    axis: Vector = (0.0, 0.0, 1.0)
    """In the object's own frame, any length but 0."""
    origin: Vector = (0.0, 0.0, 0.0)
    """[m, or the world's unit] a point on the axis, in the object's own frame."""
    lower: float | None = None
    """[rad] or [m]; None is no limit."""
    upper: float | None = None
    """[rad] or [m]; None is no limit."""
    position: float = 0.0
    """[rad] or [m] where the joint stands now."""

    def apply(self, world: World) -> World:
        (item,) = unlocked(world, (self.object_id,))
        robot = item.kind is ObjectKind.ROBOT
        if self.kind == "fixed":
            kind = item.kind if item.kind is not ObjectKind.ARTICULATED else ObjectKind.RIGID
            return world.with_object(replace(item, kind=kind, joint=None))
        length = math.hypot(*self.axis)
        if not 0 < length < math.inf:
            raise ValueError(f"axis: expected a direction, got {self.axis}")
        x, y, z = (value / length for value in self.axis)
        _vector(self.origin, "origin")
        limits = (
            -math.inf if self.lower is None else self.lower,
            math.inf if self.upper is None else self.upper,
        )
        if not math.isfinite(self.position):
            raise ValueError(f"position: expected a finite number, got {self.position}")
        joint = Joint(self.kind, (x, y, z), self.origin, limits, self.position)
        kind = ObjectKind.ROBOT if robot else ObjectKind.ARTICULATED
        return world.with_object(replace(item, kind=kind, joint=joint))


@dataclass(frozen=True)
class SetMaterial:
    """Set numbers of objects' materials, as somebody knows them."""

    name: ClassVar[str] = "set-material"
    objects: tuple[int, ...]
    values: Mapping[str, float]
    """density [kg/m^3], friction, restitution, stiffness [Pa], damping [1/s]: those that change."""
    source: Source = "user"

    def apply(self, world: World) -> World:
        known = {name for name in vars(Material()) if name != "sources"}
        if unknown := set(self.values) - known:
            wanted, got = ", ".join(sorted(known)), ", ".join(sorted(unknown))
            raise ValueError(f"values: expected fields among {wanted}, got {got}")
        for item in unlocked(world, self.objects):
            material = item.material.with_values(self.source, **self.values)
            world = world.with_object(replace(item, material=material))
        return world


@dataclass(frozen=True)
class Reparent:
    """Mount objects on another one, or on nothing; they stay where they are."""

    name: ClassVar[str] = "reparent"
    objects: tuple[int, ...]
    parent: int | None

    def apply(self, world: World) -> World:
        if self.parent is not None:
            world.find(self.parent)
        for item in unlocked(world, self.objects):
            world = world.with_object(replace(item, parent=self.parent))
        return world


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
        merged = replace(first, gaussians=gaussians, parent=parent, hidden=False)
        mounted = {
            number: replace(item, parent=first.id)
            for number, item in world.objects.items()
            if item.parent in gone and number != first.id and number not in gone
        }
        if locked := [item for item in mounted.values() if item.locked]:
            raise ValueError(f"expected nothing locked on what goes, got {locked[0].id} ({locked[0].name})")
        kept = {**world.objects, **mounted, first.id: merged}
        return replace(world, objects={number: kept[number] for number in kept if number not in gone})


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
    return replace(world, objects=kept)


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
    for item in items:
        # What is mounted on another chosen object comes along with that one.
        if not chosen & set(world.ancestors(item)):
            world = world.moved(item.id, motion @ item.world_from_object)
    return world


def _refuse_locked_riders(world: World, chosen: set[int]) -> None:
    for item in world.objects.values():
        if item.locked and chosen & set(world.ancestors(item)):
            raise ValueError(f"expected nothing locked to come along, got {item.id} ({item.name}); unlock it")


def _pivot(world: World, objects: Iterable[int], about: Vector | None) -> Float[Tensor, "3"]:
    if about is not None:
        return _vector(about, "about")
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


def _vector(values: Vector, name: str) -> Float[Tensor, "3"]:
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
    _vector(pose[:3], "pose")
    return pose_from(_rotation(pose[3:]), torch.tensor(pose[:3], dtype=torch.float32))
