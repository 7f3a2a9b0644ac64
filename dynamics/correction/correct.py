"""Correction: a predicted state pulled to what is observed - points, or pictures through the rasterizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.pose import (
    invert_pose,
    pose7_from_pose,
    pose_from,
    pose_from_pose7,
    rotation_from_rotvec,
    rotvec_from_rotation,
)
from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

from ..matter.parts import Matter, PartKind


@dataclass(frozen=True, eq=False)
class PointView:
    """Points that were seen at one moment."""

    points: Float[Tensor, "m 3"]
    """[m] world frame."""
    objects: Int[Tensor, " m"] | None = None
    """Id of the object each is of; None: nobody knows."""
    rest: Float[Tensor, "m 3"] | None = None
    """[m] which point of its object each is, in the object's frame at rest; None: nobody knows."""

    def __post_init__(self) -> None:
        if self.rest is not None and self.objects is None:
            raise ValueError("PointView.rest: expected `objects` beside it, got none")
        for name in ("points", "rest"):
            value = getattr(self, name)
            if value is not None and not bool(value.isfinite().all()):
                raise ValueError(f"PointView.{name}: expected finite values, got NaN or infinity")
        for name in ("objects", "rest"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.points):
                raise ValueError(f"PointView.{name}: expected {len(self.points)} rows, got {len(value)}")


@dataclass(frozen=True, eq=False)
class ImageView:
    """A picture that was taken at one moment."""

    camera: Camera
    rgb: Float[Tensor, "h w 3"]
    """Range [0, 1]."""
    depth: Float[Tensor, "h w"] | None = None
    """[m] z-depth; 0 is unknown."""
    mask: Bool[Tensor, "h w"] | None = None
    """True where the picture counts; None: everywhere."""

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        for name in ("rgb", "depth", "mask"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape[:2]) != size:
                raise ValueError(f"ImageView.{name}: expected {size} pixels, got {tuple(value.shape[:2])}")

    def cloud(self, stride: int = 1) -> Float[Tensor, "m 3"]:
        """[m] the points that the depth shows, in the world frame, of every so many-th pixel."""
        if self.depth is None:
            return torch.zeros(0, 3)
        rows = slice(stride // 2, None, stride)
        pixels, depth = self.camera.pixel_centers()[rows, rows], self.depth[rows, rows]
        valid = depth > 0
        if self.mask is not None:
            valid &= self.mask[rows, rows]
        return self.camera.unproject(pixels[valid], depth[valid])


@dataclass(frozen=True)
class CorrectConfig:
    """How far a state is pulled to what is observed."""

    gate: float = 0.04
    """[m] what is seen farther from an object is not of it."""
    tolerance: float = 0.004
    """[m] how exact observed points are; those that fit worse count less and less."""
    place_doubt: float = 0.02
    """[m] how far a prediction may be off in one step."""
    turn_doubt: float = 0.2
    """[rad] likewise."""
    rounds: int = 8
    """How often points are matched anew."""
    points: int = 2500
    """Observed points that are used, at most; and points of each object."""
    steps: int = 12
    """Of Adam, for pictures."""
    rate_place: float = 0.0015
    """[m] of Adam's steps."""
    rate_turn: float = 0.03
    """[rad] of Adam's steps."""
    depth_tolerance: float = 0.01
    """[m] what a depth that is off by this much counts as much as a colour that is off by 0.1."""
    match_light: bool = True
    """Bring the drawn picture's brightness to that of the observed one before they are compared."""
    speed_gain: float = 0.5
    """Share of the correction that is believed to be an error of the speed."""
    seed: int = 0
    """Of the choice of points."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """A state that was pulled to what is observed."""

    state: State
    moved: Mapping[int, float] = field(default_factory=dict)
    """[m] how far each object was moved, by id."""
    seen: Mapping[int, int] = field(default_factory=dict)
    """How many points were matched to each, or pixels shown; an object that is not here was not seen."""


def moved_objects(
    world: World,
    state: State,
    poses: Mapping[int, Tensor],
    joints: Mapping[int, Tensor],
    matter: Matter | None,
) -> State:
    """A state with rigid objects at other poses and joints at other positions; what they carry comes along.

    Differentiable. Rigid particles follow their objects.

    Args:
        world: in metres.
        state: unbatched.
        poses: 4x4 by id of objects that move freely.
        joints: [rad or m] by id of objects on joints.
        matter: whose particles the state has.
    """
    old = dict(zip(state.object_ids, pose_from_pose7(state.object_poses)))
    new = dict(old)
    for number in _carriers_first(world, state.object_ids):
        item = world.objects[number]
        if number in poses:
            new[number] = poses[number]
            continue
        if item.parent in new and new[item.parent] is not old[item.parent]:
            new[number] = new[item.parent] @ invert_pose(old[item.parent]) @ old[number]
        if number in joints and item.joint is not None:
            before = state.joint_positions[state.joint_ids.index(number)]
            back = invert_pose(item.joint.motion(before))
            new[number] = new[number] @ back @ item.joint.motion(joints[number])
    positions = state.joint_positions
    if joints:
        values = [joints.get(number, positions[row]) for row, number in enumerate(state.joint_ids)]
        positions = torch.stack(values)
    stacked = pose7_from_pose(torch.stack([new[number] for number in state.object_ids]))
    particles = _followed(state, old, new, matter)
    return replace(state, object_poses=stacked, joint_positions=positions, particle_positions=particles)


def moved_particles(state: State, positions: Float[Tensor, "p 3"], matter: Matter) -> State:
    """A state with the particles of bending things elsewhere; their objects' places follow the mean."""
    poses = state.object_poses.clone()
    for _, part in matter.of(PartKind.ROPE, PartKind.CLOTH, PartKind.VOLUME):
        weights = matter.masses[part.rows] / matter.masses[part.rows].sum()
        shift = positions[part.rows] - state.particle_positions[part.rows]
        poses[part.row, :3] += (weights[:, None] * shift).sum(0)
    return replace(state, object_poses=poses, particle_positions=positions)


def believed(before: State, after: State, dt: float, gain: float) -> State:
    """A corrected state whose speeds are corrected too: an alpha-beta filter (Benedict and Bordner 1962).

    The whole correction, as a speed, is kept as the last observed residual of the particles.

    Args:
        before: as it was predicted.
        after: as it was corrected.
        dt: [s] since the last observation.
        gain: share of the correction that was an error of the speed.
    """
    shift = after.object_poses[..., :3] - before.object_poses[..., :3]
    old, new = (pose_from_pose7(each.object_poses)[..., :3, :3] for each in (before, after))
    turn = rotvec_from_rotation(new @ old.transpose(-1, -2))
    twists = before.object_twists + gain * torch.cat([shift, turn], -1) / dt
    apart = (after.particle_positions - before.particle_positions) / dt
    return replace(
        after,
        object_twists=twists,
        joint_rates=before.joint_rates + gain * (after.joint_positions - before.joint_positions) / dt,
        particle_velocities=before.particle_velocities + gain * apart,
        residual=apart,
    )


def free_objects(world: World, state: State) -> tuple[list[int], list[int], list[int]]:
    """Ids of what a correction may move: freely, along a joint, and by bending."""
    items = [world.objects[number] for number in state.object_ids]
    items = [item for item in items if len(item.gaussians) and not item.hidden]
    rigid = [item.id for item in items if item.kind is ObjectKind.RIGID]
    jointed = [item.id for item in items if item.kind is ObjectKind.ARTICULATED]
    return rigid, jointed, [item.id for item in items if item.kind is ObjectKind.DEFORMABLE]


def exponential(twist: Float[Tensor, "6"], center: Float[Tensor, "3"]) -> Float[Tensor, "4 4"]:
    """A small motion about a point: shift [m], then rotation vector [rad]; differentiable."""
    rotation = rotation_from_rotvec(twist[3:])
    return pose_from(rotation, center + twist[:3] - rotation @ center)


def _carriers_first(world: World, ids: Sequence[int]) -> list[int]:
    return sorted(ids, key=lambda number: len(world.ancestors(world.objects[number])))


def _followed(
    state: State, old: Mapping[int, Tensor], new: Mapping[int, Tensor], matter: Matter | None
) -> Float[Tensor, "p 3"]:
    if matter is None or not len(matter.rest):
        return state.particle_positions
    parts: list[Any] = []
    for part in matter.parts:
        rows = state.particle_positions[part.rows]
        if new[part.object_id] is not old[part.object_id] and not part.kind.bends:
            motion = new[part.object_id] @ invert_pose(old[part.object_id])
            rows = rows @ motion[:3, :3].T + motion[:3, 3]
        parts.append(rows)
    return torch.cat(parts)
