"""Edits that bring meshes and robots into a world, and that move robots by their joints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ..robot import load_robot
from ..robot.model import within
from ..robot.things import link_things
from ..surface import load_surface
from ..surface.objects import Detail, lit, mesh_thing, objects_of
from ..world import World
from ..world_object import ObjectKind
from .objects import AT_ORIGIN, Pose7, checked_name, new_name, posed_at, unlocked


@dataclass(frozen=True)
class AddMesh:
    """Add an object made of a mesh file: Gaussians on its surface, and its shape."""

    name: ClassVar[str] = "add-mesh"
    reads_files: ClassVar[bool] = True
    path: str
    """Of an .obj, .stl, .glb, .gltf or .ply, as the program sees it that does the edit."""
    new_name: str = ""
    """Default: the file's name."""
    pose: Pose7 = AT_ORIGIN
    """x y z [m, or the world's unit], w x y z."""
    scale: float = 1.0
    """Units of the world in one unit of the file."""
    kind: ObjectKind = ObjectKind.RIGID
    up: str = ""
    """The file's axis against gravity, y or z; default: y for glTF, z for others."""
    gaussians: int = 50_000
    """How many."""
    shade: bool = False
    """Bake the light of a lamp above into the colours."""
    parent: int | None = None

    def apply(self, world: World) -> World:
        _check_scale(self.scale)
        if self.parent is not None:
            world.find(self.parent)
        path = Path(self.path)
        surface = load_surface(path, self.scale)
        thing = mesh_thing(path, surface, self.new_name, ObjectKind(self.kind), self.up or None)
        thing = replace(thing, world_from_object=posed_at(self.pose))
        (item,) = objects_of([thing], Detail(self.gaussians, shade=self.shade), world.next_id)
        name = new_name(world, checked_name(thing.name))
        return world.with_object(replace(item, name=name, parent=self.parent))


@dataclass(frozen=True)
class AddRobot:
    """Add a robot of a URDF: an object for every link, each with its joint, mounted one on another."""

    name: ClassVar[str] = "add-robot"
    reads_files: ClassVar[bool] = True
    path: str
    """Of the URDF, as the program sees it that does the edit."""
    joints: Mapping[str, float] = field(default_factory=dict)
    """[rad or m] position by joint; others are at 0, or as near as their limits allow."""
    pose: Pose7 = AT_ORIGIN
    """Of the base: x y z [m, or the world's unit], w x y z."""
    new_name: str = ""
    """Put before the links' names, with a slash; default: the links' names alone."""
    scale: float | None = None
    """Units of the world in one metre; default: what the world's own scale says."""
    package_paths: tuple[str, ...] = ()
    """Folders that hold the ROS packages which package:// names."""
    missing: str = "refuse"
    """Meshes that are not there: refuse, or substitute, which goes on with what is there."""
    clamp: bool = False
    """Take the nearest limit for joint values outside of theirs."""
    gaussians: int = 100_000
    """For all links together."""
    shade: bool = False
    """Bake the light of a lamp above into the colours, as the robot stands now."""
    parent: int | None = None
    """What the base is mounted on."""

    def apply(self, world: World) -> World:
        if self.missing not in ("refuse", "substitute"):
            raise ValueError(f"missing: expected refuse or substitute, got {self.missing!r:.40}")
        if self.parent is not None:
            world.find(self.parent)
        scale = _units_per_metre(world) if self.scale is None else self.scale
        _check_scale(scale)
        prefix = checked_name(self.new_name) if self.new_name else ""
        missing = "substitute" if self.missing == "substitute" else "refuse"
        robot = load_robot(self.path, self.package_paths, missing=missing)
        positions = robot.positions(self.joints, clamp=self.clamp)
        things = link_things(robot, positions, prefix=prefix)
        items = objects_of(things, Detail(self.gaussians), world.next_id)
        # Built in metres about the origin, and then brought to its place and to the world's unit.
        placed = World({item.id: item for item in items}).reframed(posed_at(self.pose), scale)
        for item in placed.objects.values():
            parent = self.parent if item.parent is None else item.parent
            named = replace(item, parent=parent, name=new_name(world, checked_name(item.name)))
            world = world.with_object(lit(named) if self.shade else named)
        return world


@dataclass(frozen=True)
class SetJoints:
    """Move joints of a robot or of furniture; what is mounted on the moved parts comes along."""

    name: ClassVar[str] = "set-joints"
    object_id: int
    """The robot's base; or any object below which the joints are."""
    values: Mapping[str, float]
    """[rad] or [m] position by the name or id of the object that the joint moves."""
    clamp: bool = False
    """Take the nearest limit for values outside of the joints'."""

    def apply(self, world: World) -> World:
        if not self.values:
            raise ValueError("values: expected at least one joint, got none")
        chosen = {_moved_by(world, self.object_id, key): (key, value) for key, value in self.values.items()}
        if len(chosen) != len(self.values):
            raise ValueError("values: expected each object once, got one by two names")
        riders = {number for number in world.objects if set(chosen) & {number, *_above(world, number)}}
        unlocked(world, sorted(riders))
        # Parents first: a child's pose, which its own joint starts from, follows theirs.
        for number in sorted(chosen, key=lambda each: len(_above(world, each))):
            world = _turned(world, number, *chosen[number], self.clamp)
        return world


def _turned(world: World, number: int, name: str, value: float, clamp: bool) -> World:
    item = world.objects[number]
    assert item.joint is not None
    position = within(value, *item.joint.limits, name, clamp)
    motion = item.joint.motion(item.world_from_object.double().new_tensor(position))
    world = world.moved(number, (item.world_from_object.double() @ motion).to(item.world_from_object))
    moved = world.objects[number]
    return world.with_object(replace(moved, joint=replace(item.joint, position=position)))


def _moved_by(world: World, root: int, key: str) -> int:
    """The object with a joint that a name or an id says, the root or below it."""
    world.find(root)
    below = [
        item
        for number, item in world.objects.items()
        if item.joint is not None and root in (number, *_above(world, number))
    ]
    found = [item for item in below if key in (item.name, str(item.id), item.name.rpartition("/")[2])]
    if len(found) == 1:
        return found[0].id
    names = [
        f"{item.name} ({item.joint.limits[0]:g} to {item.joint.limits[1]:g})" for item in below if item.joint
    ]
    known = ", ".join(names[:40]) or "none"
    raise ValueError(f"values: expected an object that a joint moves, got {key!r:.80}; there are {known}")


def _above(world: World, number: int) -> list[int]:
    return world.ancestors(world.objects[number])


def _units_per_metre(world: World) -> float:
    if world.metres_per_unit is None:
        raise ValueError(
            "scale: expected the units of the world in one metre, because this world's scale is not known,"
            " got none; give it, or do set-scale first"
        )
    return 1 / world.metres_per_unit


def _check_scale(scale: float) -> None:
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: expected a positive finite number, got {scale:g}")
