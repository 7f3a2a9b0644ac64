"""`Robot`: links with geometry, the joints between them, and where joint positions put the links."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..pose import pose_from
from ..surface import Surface
from ..world_object import Vector

JointKind = Literal["revolute", "continuous", "prismatic", "fixed"]
#: [rad or m] how far beyond a limit a position may be, for the rounding of files and of single precision.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Piece:
    """One visual or collision element of a link."""

    surface: Surface
    """In the piece's own frame [m]."""
    link_from_piece: Float[Tensor, "4 4"]
    convex: bool = False
    """Whether it is a primitive, which simulators take as it is."""


@dataclass(frozen=True, eq=False)
class Link:
    """One rigid body of a robot; either kind of geometry may be absent."""

    name: str
    visual: tuple[Piece, ...] = ()
    collision: tuple[Piece, ...] = ()
    mass: float | None = None
    """[kg] None where the file says nothing."""
    center_of_mass: Vector | None = None
    """[m] in the link's frame."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What it looks like: the visual geometry, or the collision geometry of a link without."""
        return self.visual or self.collision


@dataclass(frozen=True)
class Mimic:
    """A joint that follows another: its position is `multiplier * position of the other + offset`."""

    joint: str
    multiplier: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, eq=False)
class LinkJoint:
    """What holds a link to its parent."""

    name: str
    kind: JointKind
    parent: str
    """Name of the link it is fixed on."""
    child: str
    """Name of the link it moves; the joint's axis and motion are in that link's frame."""
    parent_from_joint: Float[Tensor, "4 4"]
    """Pose of the child at position 0."""
    axis: Vector = (1.0, 0.0, 0.0)
    """Unit direction."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """[rad] or [m]"""
    mimic: Mimic | None = None

    @property
    def free(self) -> bool:
        """Whether somebody chooses its position."""
        return self.kind != "fixed" and self.mimic is None


@dataclass(frozen=True, eq=False)
class Robot:
    """A tree of links; immutable, without positions of its own."""

    name: str
    links: tuple[Link, ...]
    """Every link after its parent; the base is first."""
    joints: tuple[LinkJoint, ...]
    """`joints[i]` holds `links[i + 1]`."""
    notices: tuple[str, ...] = ()
    """What in the file was read otherwise than it says."""

    def __post_init__(self) -> None:
        names = [link.name for link in self.links]
        if not names or [joint.child for joint in self.joints] != names[1:]:
            raise ValueError("Robot.joints: expected one joint for every link but the first, in their order")
        seen: set[str] = set(names[:1])
        for joint in self.joints:
            if joint.parent not in seen or joint.child in seen:
                raise ValueError(f"Robot.joints: expected {joint.parent!r} before {joint.child!r}, once each")
            seen.add(joint.child)

    @property
    def link_names(self) -> tuple[str, ...]:
        return tuple(link.name for link in self.links)

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """The j joints whose positions somebody chooses: neither fixed nor mimicking."""
        return tuple(joint.name for joint in self.joints if joint.free)

    @cached_property
    def limits(self) -> Float[Tensor, "j 2"]:
        """[rad] or [m] lowest and highest position of each of `joint_names`, in double precision.

        A joint that another mimics has the limits of both.
        """
        rows = [self._limits_of(j) for j in self.joints if j.free]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)

    @property
    def rest(self) -> Float[Tensor, " j"]:
        """The position of every joint that is nearest to 0 within its limits, in double precision."""
        zeros = torch.zeros(len(self.joint_names), dtype=torch.float64)
        return zeros.clamp(self.limits[:, 0], self.limits[:, 1])

    def link(self, name: str) -> Link:
        """The link of a name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        return self.links[self._row(name)]

    def positions(
        self, values: Mapping[str, float] | Sequence[float] | None = None, *, clamp: bool = False
    ) -> Float[Tensor, " j"]:
        """Positions of all joints, in the order of `joint_names`, in double precision.

        Args:
            values: [rad or m] by joint, those left out are at `rest`; or one for each joint in order.
            clamp: move values outside of the limits to the nearest limit instead of refusing them.

        Raises:
            ValueError: an unknown joint, a wrong number of values, or one outside of its limits.
        """
        if not isinstance(values, Mapping):
            given = list(values or ())
            if given and len(given) != len(self.joint_names):
                wanted = f"{len(self.joint_names)} joint values ({', '.join(self.joint_names)})"
                raise ValueError(f"expected {wanted}, got {len(given)}")
            values = dict(zip(self.joint_names, given))
        if unknown := set(values) - set(self.joint_names):
            raise ValueError(self._unknown(sorted(unknown)[0]))
        found = self.rest
        for row, name in enumerate(self.joint_names):
            if name in values:
                low, high = self.limits[row].tolist()
                found[row] = within(float(values[name]), low, high, name, clamp)
        return found

    def link_poses(self, joint_positions: Float[Tensor, "*b j"]) -> Float[Tensor, "*b l 4 4"]:
        """`base_from_link` of every link in order, for a batch of positions; differentiable.

        Args:
            joint_positions: [rad or m] in the order of `joint_names`; limits are not looked at.

        Raises:
            ValueError: a wrong number of positions.
        """
        if joint_positions.shape[-1] != len(self.joint_names):
            wanted, got = f"(*b, {len(self.joint_names)})", tuple(joint_positions.shape)
            raise ValueError(f"joint_positions: expected shape {wanted}, got {got}")
        batch = joint_positions.shape[:-1]
        moving = self._motions(joint_positions)
        poses = [torch.eye(4).to(joint_positions).expand(*batch, 4, 4)]
        rows = {name: row for row, name in enumerate(self.link_names)}
        for joint in self.joints:
            origin = joint.parent_from_joint.to(joint_positions)
            motion = moving.get(joint.name)
            step = origin.expand(*batch, 4, 4) if motion is None else origin @ motion
            poses.append(poses[rows[joint.parent]] @ step)
        return torch.stack(poses, dim=-3)

    def all_positions(self, joint_positions: Float[Tensor, " j"]) -> dict[str, float]:
        """[rad or m] of every joint that moves, by name, also of those that mimic another."""
        values = dict(zip(self.joint_names, joint_positions.tolist()))
        named = {joint.name: joint for joint in self.joints}
        found = {}
        for joint in self.joints:
            if joint.kind != "fixed":
                source, scale, offset = self._source(joint, named)
                found[joint.name] = values[source] * scale + offset
        return found

    def _motions(self, joint_positions: Tensor) -> dict[str, Tensor]:
        """What each joint does at its position; a mimicking joint at that of the one it follows."""
        by_name = dict(zip(self.joint_names, joint_positions.unbind(-1)))
        named = {joint.name: joint for joint in self.joints}
        moving = {}
        for joint in self.joints:
            if joint.kind == "fixed":
                continue
            source, scale, offset = self._source(joint, named)
            position = by_name[source] * scale + offset
            moving[joint.name] = joint_motion(joint.kind, joint.axis, position)
        return moving

    def _source(self, joint: LinkJoint, named: Mapping[str, LinkJoint]) -> tuple[str, float, float]:
        """The free joint that a joint follows, in the end, and how: factor and offset."""
        scale, offset = 1.0, 0.0
        while joint.mimic is not None:
            scale, offset = scale * joint.mimic.multiplier, offset + scale * joint.mimic.offset
            joint = named[joint.mimic.joint]
        return joint.name, scale, offset

    def _limits_of(self, joint: LinkJoint) -> tuple[float, float]:
        low, high = joint.limits
        named = {each.name: each for each in self.joints}
        for other in self.joints:
            if other.mimic is None or other.kind == "fixed":
                continue
            source, scale, offset = self._source(other, named)
            if source == joint.name and scale != 0:
                ends = sorted((limit - offset) / scale for limit in other.limits)
                low, high = max(low, ends[0]), min(high, ends[1])
        return (low, high) if low <= high else joint.limits

    def _row(self, name: str) -> int:
        if name not in self.link_names:
            known = ", ".join(self.link_names)
            raise ValueError(f"expected a link of {self.name} ({known}), got {name!r:.80}")
        return self.link_names.index(name)

    def _unknown(self, name: str) -> str:
        for joint in self.joints:
            if joint.name == name and joint.mimic is not None:
                return (
                    f"joint {name}: expected no value, because it follows {joint.mimic.joint}; leave it out"
                )
            if joint.name == name:
                return f"joint {name}: expected no value, because it is fixed; leave it out"
        return f"expected a joint of {self.name} ({', '.join(self.joint_names)}), got {name!r:.80}"


def within(value: float, low: float, high: float, name: str, clamp: bool = False) -> float:
    """A joint's value, if its limits hold it, or the nearest that they hold.

    Raises:
        ValueError: it is not finite, or outside of the limits and `clamp` is off; the message names both.
    """
    if not math.isfinite(value):
        raise ValueError(f"joint {name}: expected a finite number, got {value}")
    if not clamp and not low - TOLERANCE <= value <= high + TOLERANCE:
        raise ValueError(
            f"joint {name}: expected a position within its limits {low:g} to {high:g}, got {value:g};"
            " choose another, or clamp it"
        )
    return min(max(value, low), high)


def joint_motion(kind: JointKind, axis: Vector, position: Float[Tensor, "*b"]) -> Float[Tensor, "*b 4 4"]:
    """The motion about, or along, an axis through the origin (Rodrigues' formula); differentiable."""
    x, y, z = axis
    direction, eye = position.new_tensor(axis), torch.eye(3).to(position)
    if kind == "prismatic":
        return pose_from(eye.expand(*position.shape, 3, 3), position[..., None] * direction)
    skew = position.new_tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sine, half = position.sin()[..., None, None], (position / 2).sin()[..., None, None]
    # 1 - cos(a) = 2 sin(a/2)^2, which keeps its digits where the cosine is almost 1.
    rotation = eye + sine * skew + 2 * half * half * (skew @ skew)
    return pose_from(rotation, torch.zeros_like(rotation[..., 0]))
