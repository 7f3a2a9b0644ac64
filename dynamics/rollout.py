"""What a rollout says: who touches whom, how deep, momentum and energy, and what happened in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.pose import pose_from_pose7, rotation_from_quats, transform_points
from gaussworld.state import Rollout, State
from gaussworld.world import World

from .matter.parts import Matter, Part, PartKind
from .physics.lookup import FieldLookup, GroundLookup
from .physics.motion import tool_points
from .tool import Tool

#: [m] things this near touch.
_TOUCHING = 1e-3
#: [m] below the ground it stood on, a thing has fallen; above any, a thing let go has been dropped.
_FALLEN, _HIGH = 0.05, 0.02
#: Cosine of how far a thing may lean before it has toppled.
_UPRIGHT = 0.70710678


@dataclass(frozen=True)
class Event:
    """Something that happened to an object."""

    kind: Literal["fell off", "toppled", "grasped", "released", "dropped"]
    object_id: int
    step: int
    """The state in which it is first so."""
    sample: int = 0
    """Row of the flattened batch."""

    def __str__(self) -> str:
        return f"step {self.step}: object {self.object_id} {self.kind}"


@dataclass(frozen=True, eq=False)
class Momentum:
    """Of every object."""

    linear: Float[Tensor, "*b o 3"]
    """[kg m/s]"""
    angular: Float[Tensor, "*b o 3"]
    """[kg m^2/s] about its own centre of mass."""
    kinetic: Float[Tensor, "*b o"]
    """[J]"""
    height: Float[Tensor, "*b o"]
    """[J] in the field of gravity, from z = 0."""

    @property
    def energy(self) -> Float[Tensor, "*b o"]:
        """[J] but for what is stored in bending and stretching."""
        return self.kinetic + self.height


class Accounts:
    """What can be said of the states of one world, whatever predicted them."""

    def __init__(self, world: World, matter: Matter, tools: Sequence[Tool], gravity: float = 9.81) -> None:
        """For the states of models that were made for this world, matter and tools."""
        self.world, self.matter, self.tools, self.gravity = world, matter, tuple(tools), gravity

    @cached_property
    def _fields(self) -> FieldLookup:
        return FieldLookup.of(self.matter.fields)

    @cached_property
    def _ground(self) -> GroundLookup:
        return GroundLookup.of(self.matter.ground)

    @torch.no_grad()
    def contacts(self, states: State) -> Bool[Tensor, "*b o m"]:
        """Whether object o touches column m: the objects in the states' order, then the tools.

        What a tool holds it touches.
        """
        flat, shape = _flat(states)
        touching = self._gaps(flat) < _TOUCHING
        for part in self.matter.parts:
            held = flat.grasped[..., part.rows].any(-1)
            touching[:, part.row, len(self.matter.object_ids) :] |= held
        return touching.reshape(*shape, len(self.matter.object_ids), -1)

    @torch.no_grad()
    def penetration(self, states: State) -> Float[Tensor, "*b o"]:
        """[m] how deep each object is in the ground, in a tool or in another object, at the deepest point."""
        flat, shape = _flat(states)
        gaps = self._gaps(flat).amin(-1)
        for part in self.matter.parts:
            if part.kind not in (PartKind.STATIC, PartKind.JOINT):
                height, _ = self._ground(flat.particle_positions[:, part.rows])
                lowest = (height - self.matter.radii[part.rows]).amin(-1)
                gaps[:, part.row] = torch.minimum(gaps[:, part.row], lowest)
        return (-gaps).clamp(min=0).reshape(*shape, -1)

    def _gaps(self, flat: State) -> Tensor:
        """(B, o, o + a) [m] smallest distances; large where nobody asks."""
        count, objects = len(flat.object_poses), len(self.matter.object_ids)
        gaps = torch.full((count, objects, objects + len(self.tools)), 1.0).to(flat.object_poses)
        rotations = rotation_from_quats(flat.object_poses[..., 3:])
        balls = tool_points(self.tools, 0.012, flat.object_poses)
        points = balls.at(flat.tool_poses, flat.grip) if self.tools else None
        for row, part in enumerate(self.matter.parts):
            turn, place = rotations[:, part.row], flat.object_poses[:, None, part.row, :3]
            if part.kind.bends:
                self._soft_gaps(flat, part, gaps)
                continue
            if points is not None:
                distance, _ = self._fields(row, (points - place) @ turn)
                for tool in range(len(self.tools)):
                    mine = balls.tools == tool
                    gaps[:, part.row, objects + tool] = (distance - balls.radii)[:, mine].amin(-1)
            for other in self.matter.parts:
                if other.row == part.row or other.start == other.stop:
                    continue
                if part.kind is PartKind.STATIC and other.kind is PartKind.STATIC:
                    continue
                distance, _ = self._fields(row, (flat.particle_positions[:, other.rows] - place) @ turn)
                nearest = (distance - self.matter.radii[other.rows]).amin(-1)
                for a, b in ((part.row, other.row), (other.row, part.row)):
                    gaps[:, a, b] = torch.minimum(gaps[:, a, b], nearest)
        return gaps

    def _soft_gaps(self, flat: State, part: Part, gaps: Tensor) -> None:
        points = flat.particle_positions[:, part.rows]
        for row, tool in enumerate(self.tools):
            pose = flat.tool_poses[:, row]
            local = (points - pose[:, None, :3]) @ rotation_from_quats(pose[:, 3:])
            distance = tool.distance(local, flat.grip[:, row]).amin(-1) - self.matter.radii[part.rows]
            gaps[:, part.row, len(self.matter.object_ids) + row] = distance.amin(-1)

    def momentum(self, states: State) -> Momentum:
        """Momentum and energy of every object; zero for what has no mass."""
        flat, shape = _flat(states)
        count, objects = len(flat.object_poses), len(self.matter.object_ids)
        like = flat.object_poses
        linear, angular = [like.new_zeros(count, 3)] * objects, [like.new_zeros(count, 3)] * objects
        kinetic, height = [like.new_zeros(count)] * objects, [like.new_zeros(count)] * objects
        for part in self.matter.parts:
            row = part.row
            if part.kind.bends:
                mass = self.matter.masses[part.rows, None]
                at, speed = flat.particle_positions[:, part.rows], flat.particle_velocities[:, part.rows]
                center, drift = (mass * at).sum(1) / mass.sum(), (mass * speed).sum(1) / mass.sum()
                linear[row] = (mass * speed).sum(1)
                angular[row] = (mass * torch.linalg.cross(at - center[:, None], speed - drift[:, None])).sum(
                    1
                )
                kinetic[row] = 0.5 * (mass * speed.square()).sum((1, 2))
            elif part.mass > 0:
                turn, twist = rotation_from_quats(flat.object_poses[:, row, 3:]), flat.object_twists[:, row]
                arm = turn @ part.center.to(turn)
                center = flat.object_poses[:, row, :3] + arm
                speed = twist[:, :3] + torch.linalg.cross(twist[:, 3:], arm)
                inertia = turn @ part.inertia.to(turn) @ turn.transpose(-1, -2)
                linear[row] = part.mass * speed
                angular[row] = (inertia @ twist[:, 3:, None])[..., 0]
                kinetic[row] = 0.5 * (linear[row] * speed).sum(-1) + 0.5 * (angular[row] * twist[:, 3:]).sum(
                    -1
                )
            else:
                continue
            height[row] = part.mass * self.gravity * center[:, 2]
        columns = [torch.stack(column, 1).reshape(*shape, objects, 3) for column in (linear, angular)]
        scalars = [torch.stack(column, 1).reshape(*shape, objects) for column in (kinetic, height)]
        return Momentum(*columns, *scalars)

    @torch.no_grad()
    def events(self, rollout: Rollout) -> tuple[Event, ...]:
        """What happened to the objects, by step: of a batch, sample after sample."""
        states = rollout.states
        shape, axes = (len(states), math.prod(states.batch_shape[1:])), len(states.batch_shape)
        flat = states.map(lambda value: value.reshape(*shape, *value.shape[axes:]))
        found = []
        for sample in range(flat.object_poses.shape[1]):
            mine = flat.map(lambda value, sample=sample: value[:, sample])
            happened = [event for part in self.matter.parts for event in self._events(mine, part, sample)]
            found += sorted(happened, key=lambda event: event.step)
        return tuple(found)

    def _events(self, states: State, part: Part, sample: int) -> list[Event]:
        found = []

        def first(kind: Literal["fell off", "toppled"], so: Tensor) -> None:
            if bool(so.any()) and not bool(so[0]):
                found.append(Event(kind, part.object_id, int(so.int().argmax()), sample))

        if part.kind is PartKind.RIGID or part.kind.bends:
            poses = pose_from_pose7(states.object_poses[:, part.row])
            center = transform_points(poses, part.center.to(poses).expand(len(poses), 1, 3))[:, 0]
            over, _ = self._ground(center[:1])
            ground = center[0, 2] - over[0]
            first("fell off", center[:, 2] < ground - _FALLEN)
        if part.kind is PartKind.RIGID:
            turns = rotation_from_quats(states.object_poses[:, part.row, 3:])
            first("toppled", (turns[:, 2] * turns[:1, 2]).sum(-1) < _UPRIGHT)
        held = states.grasped[..., part.rows].flatten(1).any(-1)
        points = states.particle_positions[:, part.rows]
        if points.shape[1] == 0:
            return found
        clear = self._ground(points)[0].amin(-1) > _HIGH
        for step in range(1, len(held)):
            if bool(held[step]) and not bool(held[step - 1]):
                found.append(Event("grasped", part.object_id, step, sample))
            elif bool(held[step - 1]) and not bool(held[step]):
                kind = "dropped" if bool(clear[step - 1]) else "released"
                found.append(Event(kind, part.object_id, step, sample))
        return found


def _flat(states: State) -> tuple[State, tuple[int, ...]]:
    """The states with one batch axis, and the axes they had."""
    shape = states.batch_shape
    count = math.prod(shape)
    return states.map(lambda value: value.reshape(count, *value.shape[len(shape) :])), shape
