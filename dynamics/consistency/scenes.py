"""Small scenes of exact solids on a table, and what is done in them: the questions of the suite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.pose import pose7_from_pose, pose_from, pose_from_pose7, rotation_from_rotvec
from gaussworld.shape import Shape
from gaussworld.state import Action, ActionSpec, State
from gaussworld.surface import Paint, Surface
from gaussworld.surface import solids as surfaces
from gaussworld.surface.objects import Detail, Thing, objects_of
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, Vector, WorldObject

from ..tool import Tool, pusher

RATE_HZ = 10.0
"""[1/s] of all actions of the suite."""
GRAVITY = 9.81
"""[m/s^2]"""
#: [m] where a tool waits that has nothing to do: far from everything.
PARKED = (-0.55, -0.55, 0.45)
#: Gaussians of each thing, and of a table, which is large.
_GAUSSIANS, _MANY = 600, 5000
_COLORS = ((0.8, 0.3, 0.2), (0.2, 0.5, 0.8), (0.9, 0.7, 0.2), (0.3, 0.7, 0.4), (0.6, 0.4, 0.7))
_TABLE_COLOR, _STILL_COLOR = (0.6, 0.5, 0.4), (0.75, 0.75, 0.72)


@dataclass(frozen=True)
class Solid:
    """A box, or for a rope a rod along x, that becomes an object of a scene."""

    name: str
    size: Vector
    """[m] edge lengths along its own axes."""
    place: Vector
    """[m] of its frame's origin in the world."""
    turn: Vector = (0.0, 0.0, 0.0)
    """[rad] rotation vector of its frame."""
    kind: ObjectKind = ObjectKind.RIGID
    middle: Vector = (0.0, 0.0, 0.0)
    """[m] of the box in its own frame; the origin for all that moves freely."""
    friction: float = 0.4
    density: float = 500.0
    """[kg/m^3]"""
    restitution: float = 0.0
    stiffness: float = 1e5
    """[Pa]"""
    damping: float = 1.0
    """[1/s] of motion inside it, or along its joint."""
    category: str = ""
    joint: Joint | None = None
    parent: str | None = None

    @property
    def half(self) -> Float[Tensor, "3"]:
        """[m] half extents."""
        return torch.tensor(self.size) / 2

    @property
    def mass(self) -> float:
        """[kg] of a box."""
        return self.density * math.prod(self.size)

    @property
    def inertia(self) -> Float[Tensor, "3 3"]:
        """[kg m^2] of a box of one density about its middle: m (b^2 + c^2) / 12 about the first axis."""
        square = torch.tensor(self.size).square()
        return torch.diag(self.mass / 12 * (square.sum() - square))

    @property
    def pose(self) -> Float[Tensor, "4 4"]:
        """world_from_object at time 0."""
        return pose_from(rotation_from_rotvec(torch.tensor(self.turn)), torch.tensor(self.place))


def table(half: float = 0.6, friction: float = 0.4) -> Solid:
    """A board with its top at z = 0; there is nothing below."""
    return Solid(
        "table", (2 * half, 2 * half, 0.04), (0.0, 0.0, -0.02), kind=ObjectKind.STATIC, friction=friction
    )


@dataclass(frozen=True, eq=False)
class Scene:
    """Things at rest, tools that act on them, and cameras in front of them (towards -y)."""

    name: str
    solids: tuple[Solid, ...]
    tools: tuple[Tool, ...] = field(default_factory=lambda: (pusher(),))
    eyes: tuple[Vector, ...] = ((0.3, -1.0, 0.6), (-0.4, -1.0, 0.45))
    """[m] where cameras are; they look at the middle of the table."""

    @cached_property
    def world(self) -> World:
        """In metres, +z up, with Gaussians all over the surfaces; object 1 is the first solid."""
        objects = {}
        for number, each in enumerate(self.solids, 1):
            parent = None if each.parent is None else self.id(each.parent)
            made = _object(each, _COLORS[number % len(_COLORS)])
            objects[number] = replace(made, id=number, parent=parent)
        cameras = tuple(Camera.looking_at(eye, (0.0, 0.0, 0.05), 320, 240) for eye in self.eyes)
        return World(objects, cameras, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))

    def id(self, name: str) -> int:
        """The object's id in the world."""
        return [each.name for each in self.solids].index(name) + 1

    def solid(self, name: str) -> Solid:
        """The solid of a name."""
        return self.solids[self.id(name) - 1]

    @property
    def free(self) -> tuple[str, ...]:
        """Names of all that can move."""
        return tuple(each.name for each in self.solids if each.kind is not ObjectKind.STATIC)

    def case(
        self,
        path: Float[Tensor, "u 3"] | int,
        places: Mapping[str, Sequence[float]] | None = None,
        turns: Mapping[str, Sequence[float]] | None = None,
        twists: Mapping[str, Sequence[float]] | None = None,
        rates: Mapping[str, float] | None = None,
        grip: Float[Tensor, " u"] | None = None,
    ) -> "Case":
        """What is done here.

        Args:
            path: [m] where the tool's tip is at every moment; or for how many steps it is parked.
            places: [m] of things that begin elsewhere.
            turns: [rad] rotation vectors of things that begin turned otherwise.
            twists: [m/s] and [rad/s] of things that begin moving.
            rates: [rad/s] or [m/s] of joints that begin moving.
            grip: of the tool at every moment; default: open.
        """
        if isinstance(path, int):
            path = torch.tensor(PARKED).expand(path + 1, 3)
        places, turns = dict(places or {}), dict(turns or {})
        world = self.world
        for name in {**places, **turns}:
            own = self.solid(name)
            turn, place = turns.get(name, own.turn), places.get(name, own.place)
            pose = pose_from(rotation_from_rotvec(torch.tensor(turn)), torch.tensor(place))
            world = world.moved(self.id(name), pose)
        upright = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(path), 4)
        tools = torch.cat([path, upright], 1)[:, None]
        state = State.at_rest(world, tool_poses=tools[0])
        speeds, along = state.object_twists.clone(), state.joint_rates.clone()
        for name, twist in (twists or {}).items():
            speeds[state.object_ids.index(self.id(name))] = torch.tensor(twist)
        for name, rate in (rates or {}).items():
            along[state.joint_ids.index(self.id(name))] = rate
        first = state.grip if grip is None else grip[:1]
        state = replace(state, object_twists=speeds, joint_rates=along, grip=first)
        spec = ActionSpec("tool_pose", 1, "world", "m", RATE_HZ)
        return Case(
            self, world, state, Action(spec, tools[1:], grip=None if grip is None else grip[1:, None])
        )


@dataclass(frozen=True, eq=False)
class Case:
    """One question: what happens if the tools do this, from this start?"""

    scene: Scene
    world: World
    """With everything where it begins."""
    start: State
    """Unbatched, without particles."""
    actions: Action
    """(t, 1) poses of the tool."""

    @property
    def tool_path(self) -> Float[Tensor, "u 7"]:
        """The tool's pose at every moment, as it was asked to be."""
        assert self.actions.tools is not None
        return torch.cat([self.start.tool_poses[None], self.actions.tools])[:, 0]

    @property
    def grip_path(self) -> Float[Tensor, " u"]:
        """How far the tool is closed at every moment."""
        if self.actions.grip is None:
            return self.start.grip[0].expand(len(self.actions) + 1)
        return torch.cat([self.start.grip[None], self.actions.grip])[:, 0]

    def turned(self, degrees: float, shift: Sequence[float] = (0.0, 0.0, 0.0)) -> "Case":
        """The same things and the same path, all turned about the vertical and then shifted [m].

        The table stays; it is so large that this makes no difference.
        """
        rotation = rotation_from_rotvec(torch.tensor([0.0, 0.0, math.radians(degrees)]))
        return self._placed(pose_from(rotation, torch.tensor(shift)))

    def _placed(self, motion: Float[Tensor, "4 4"]) -> "Case":
        world = self.world
        for name in self.scene.free:
            number = self.scene.id(name)
            world = world.moved(number, motion @ world.objects[number].world_from_object)
        poses = {n: pose7_from_pose(item.world_from_object) for n, item in world.objects.items()}
        start = replace(
            self.start,
            object_poses=torch.stack([poses[number] for number in self.start.object_ids]),
            object_twists=_turned_twists(motion, self.start.object_twists),
            tool_poses=_moved_poses(motion, self.start.tool_poses),
        )
        assert self.actions.tools is not None
        actions = replace(self.actions, tools=_moved_poses(motion, self.actions.tools))
        return replace(self, world=world, start=start, actions=actions)


def way(*corners: Sequence[float], speed: float = 0.1) -> Float[Tensor, "u 3"]:
    """[m] a path along straight lines at a speed [m/s]: a point for every step of 0.1 s."""
    points = [torch.tensor(corners[0])]
    for begin, end in pairwise(corners):
        a, b = torch.tensor(begin), torch.tensor(end)
        steps = max(1, math.ceil(float((b - a).norm()) / speed * RATE_HZ - 1e-6))
        points += [a + (b - a) * (k + 1) / steps for k in range(steps)]
    return torch.stack(points)


def waiting(path: Float[Tensor, "u 3"], steps: int) -> Float[Tensor, "v 3"]:
    """The path, and then that many steps at its end."""
    return torch.cat([path, path[-1:].expand(steps, 3)])


def _moved_poses(motion: Tensor, poses: Tensor) -> Tensor:
    return pose7_from_pose(motion @ pose_from_pose7(poses))


def _turned_twists(motion: Tensor, twists: Tensor) -> Tensor:
    turn = motion[:3, :3].T
    return torch.cat([twists[..., :3] @ turn, twists[..., 3:] @ turn], -1)


@cache
def _object(each: Solid, color: Vector) -> WorldObject:
    """The solid as an object of no number yet; the same table in many scenes is made once."""
    if each.kind is ObjectKind.STATIC:
        color = _TABLE_COLOR if each.name == "table" else _STILL_COLOR
    mesh = surfaces.box(each.size).mesh
    if each.category == "rope":
        along_x = pose_from(rotation_from_rotvec(torch.tensor([0.0, math.pi / 2, 0.0])), torch.zeros(3))
        mesh = surfaces.cylinder(each.size[1] / 2, each.size[0]).mesh.transformed(along_x)
    mesh = mesh.transformed(pose_from(torch.eye(3), torch.tensor(each.middle)))
    surface = Surface(mesh, (Paint(color),))
    shape = Shape(surface.colored, (mesh,))
    thing = Thing(each.name, surface, each.pose, each.kind, shape, joint=each.joint)
    made = objects_of([thing], Detail(_MANY if each.name == "table" else _GAUSSIANS))[0]
    return replace(made, material=_material(each, made.material))


def _material(each: Solid, made: Material) -> Material:
    known = made.with_values("user", friction=each.friction, density=each.density)
    known = known.with_values("user", restitution=each.restitution, stiffness=each.stiffness)
    known = known.with_values("user", damping=each.damping)
    return replace(known, category=each.category)


#: [m] edge lengths of the box that most scenes have.
BOX: Vector = (0.1, 0.1, 0.05)
#: [m] from the axis of the pusher to the middle of the box that it pushes.
REACH = 0.0125 + BOX[0] / 2
#: [m] height of the pusher's tip above the table.
TIP = 0.01


@cache
def one_box(friction: float = 0.4, half: float = 0.6) -> Scene:
    """A box in the middle of a table; both have this friction, so that it counts however they are combined.

    Args:
        friction: Coulomb coefficient.
        half: [m] of the table's top.
    """
    things = (table(half, friction), Solid("box", BOX, (0.0, 0.0, BOX[2] / 2), friction=friction))
    return Scene("one box", things)


@cache
def two_boxes(friction: float = 0.4) -> Scene:
    """Two equal boxes, their middles 25 cm apart along x."""
    height = BOX[2] / 2
    boxes = [
        Solid(name, BOX, (x, 0.0, height), friction=friction) for name, x in (("near", 0.0), ("far", 0.25))
    ]
    return Scene("two boxes", (table(friction=friction), *boxes))


def pushing(advance: float = 0.1, aside: float = 0.0, wait: int = 5) -> Float[Tensor, "u 3"]:
    """[m] the tool's way: from 5 cm before the box at the origin towards +x, until it pushed that far.

    Args:
        advance: [m] how far the box is pushed.
        aside: [m] how far beside the middle of its face.
        wait: steps at the end.
    """
    begin, end = -REACH - 0.05, advance - REACH
    return waiting(way((begin, aside, TIP), (end, aside, TIP)), wait)
