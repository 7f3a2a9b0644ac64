"""Edits of what objects are: name, kind, joint, material, shape, and what they rest or are mounted on."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from ..shape import Shape
from ..world import World
from ..world_object import Joint, Material, ObjectKind, Source, Vector, WorldObject
from .objects import checked_name, unlocked, vector


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
        vector(self.origin, "origin")
        limits = (
            -math.inf if self.lower is None else self.lower,
            math.inf if self.upper is None else self.upper,
        )
        if not math.isfinite(self.position):
            raise ValueError(f"position: expected a finite number, got {self.position}")
        if limits[0] <= limits[1] and not limits[0] <= self.position <= limits[1]:
            raise ValueError(
                f"position: expected a value within the limits {limits[0]:g} to {limits[1]:g}, got"
                f" {self.position:g}"
            )
        joint = Joint(self.kind, (x, y, z), self.origin, limits, self.position)
        kind = ObjectKind.ROBOT if robot else ObjectKind.ARTICULATED
        return world.with_object(replace(item, kind=kind, joint=joint))


@dataclass(frozen=True)
class SetMaterial:
    """Set numbers of objects' materials, as somebody knows them."""

    name: ClassVar[str] = "set-material"
    objects: tuple[int, ...]
    values: Mapping[str, float] = field(default_factory=dict)
    """density [kg/m^3], friction, restitution, stiffness [Pa], damping [1/s], volume [m^3, or the world's
    unit cubed], mass [kg]: those that change. A mass sets the density, so volume and scale must be known."""
    category: str | None = None
    """What it is made of in a word, such as "wood"; empty for nobody knows. Changes no number."""
    center_of_mass: Vector | None = None
    """[m, or the world's unit] in the object's own frame."""
    source: Source = "user"

    def apply(self, world: World) -> World:
        known = {item.name for item in fields(Material)} - {"sources", "category", "center_of_mass"} | {
            "mass"
        }
        if unknown := set(self.values) - known:
            wanted, got = ", ".join(sorted(known)), ", ".join(sorted(unknown))
            raise ValueError(f"values: expected fields among {wanted}, got {got}")
        if self.category is not None and (len(self.category) > 80 or not self.category.isprintable()):
            raise ValueError(
                f"category: expected at most 80 printable characters, got {self.category[:80]!r}"
            )
        for item in unlocked(world, self.objects):
            world = world.with_object(replace(item, material=self._on(item, world.metres_per_unit)))
        return world

    def _on(self, item: WorldObject, metres_per_unit: float | None) -> Material:
        values: dict[str, Any] = dict(self.values)
        if (mass := values.pop("mass", None)) is not None:
            volume = values.get("volume", item.material.volume)
            lacking = {
                "a density or a mass, got both": "density" in values,
                "a volume, got none; make a shape with `gaussworld mesh`": volume is None,
                "a world of known scale, got none; use set-scale first": metres_per_unit is None,
            }
            for sentence in (sentence for sentence, lacks in lacking.items() if lacks):
                raise ValueError(f"object {item.id} ({item.name}): for its mass, expected {sentence}")
            assert volume is not None and metres_per_unit is not None
            values["density"] = mass / (volume * metres_per_unit**3)
        if self.center_of_mass is not None:
            vector(self.center_of_mass, "center_of_mass")
            values["center_of_mass"] = self.center_of_mass
        category = item.material.category if self.category is None else self.category.strip()
        return replace(item.material.with_values(self.source, **values), category=category)


@dataclass(frozen=True)
class SetSupport:
    """Say what objects rest on; moving either makes it unknown again."""

    name: ClassVar[str] = "set-support"
    objects: tuple[int, ...]
    supported_by: tuple[int, ...] | None
    """Ids; none for what hangs in the air, null for nobody knows."""

    def apply(self, world: World) -> World:
        below = None if self.supported_by is None else tuple(dict.fromkeys(self.supported_by))
        for number in below or ():
            world.find(number)
        for item in unlocked(world, self.objects):
            if item.id in _all_below(world, below or ()):
                raise ValueError(f"supported_by: expected objects that do not rest on {item.id}, got {below}")
            world = world.with_object(replace(item, supported_by=below))
        return world


def _all_below(world: World, objects: Iterable[int]) -> set[int]:
    """Objects, and all that these rest on in turn."""
    found: set[int] = set()
    waiting = list(objects)
    while waiting:
        number = waiting.pop()
        if number not in found and number in world.objects:
            found.add(number)
            waiting += world.objects[number].supported_by or ()
    return found


@dataclass(frozen=True, eq=False)
class SetShape:
    """Give an object its surface and collision parts, or take them; as JSON, a mesh file."""

    name: ClassVar[str] = "set-shape"
    object_id: int
    shape: Shape | None
    """In the object's own frame. Volume and centre of mass follow, unless somebody knows better."""

    def apply(self, world: World) -> World:
        (item,) = unlocked(world, (self.object_id,))
        weighed = item.material.volume and item.material.sources["density"] not in ("default", "category")
        material = item.material.without_form()
        if self.shape is not None and (volume := self.shape.volume) > 0:
            x, y, z = self.shape.center_of_mass.tolist()
            found = {"volume": volume, "center_of_mass": (x, y, z)}
            free = {k: v for k, v in found.items() if material.sources[k] in ("default", "shape")}
            material = material.with_values("shape", **free)
            if weighed and "volume" in free:
                # Somebody knows what it weighs: that stays, whatever the form.
                density = item.material.density * (item.material.volume or volume) / volume
                material = replace(material, density=density)
        return world.with_object(replace(item, shape=self.shape, material=material))


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
