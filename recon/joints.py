"""Joint axes of doors and drawers from two or more poses they were seen at, as screw motions."""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.edit import SetJoint
from gaussworld.errors import MissingDependency
from gaussworld.pose import (
    check_rigid,
    invert_pose,
    pose_from,
    rotation_from_rotvec,
    rotvec_from_rotation,
    transform_points,
)
from gaussworld.threads import one_torch_thread
from gaussworld.world_object import Vector

#: A hinge has turned by at least so many standard deviations of a rotation about one axis.
_LEAST_TURN = 6.0

JointKind = Literal["revolute", "prismatic"]


@dataclass(frozen=True)
class PoseNoise:
    """How well the poses are known: standard deviations of a rotation and of a position."""

    rotation: float = math.radians(0.7)
    """[rad]"""
    translation: float = 0.004
    """[m, or the unit of the poses]"""


@dataclass(frozen=True)
class JointEstimate:
    """An axis in the frame of the poses, and where on it each of them is."""

    kind: JointKind
    axis: Vector
    """Unit direction; positions grow along it, or about it by the right-hand rule."""
    origin: Vector
    """[unit of the poses] the point on the axis that is nearest to the object at its first pose."""
    positions: tuple[float, ...]
    """[rad] or [unit] one for each pose, the first 0."""
    rotation_error: float
    """[rad] root mean square of what this joint leaves unexplained."""
    translation_error: float
    """[unit] likewise."""
    evidence: float
    """By how much the other kind of joint is worse, as a difference of BIC; above 10 is very strong."""

    @property
    def limits(self) -> tuple[float, float]:
        """[rad] or [unit] lowest and highest position that was seen."""
        return min(self.positions), max(self.positions)

    def edit(self, object_id: int, world_from_object: Float[Tensor, "4 4"], state: int = -1) -> SetJoint:
        """The edit that gives an object, which stands at the pose of `state`, this joint.

        Args:
            object_id: the object.
            world_from_object: where it stands now, in the frame of the poses.
            state: number of the pose it stands at; default: the last.
        """
        own = invert_pose(world_from_object.double())
        axis = own[:3, :3] @ torch.tensor(self.axis).double()
        origin = transform_points(own, torch.tensor([self.origin]).double())[0]
        low, high = self.limits
        return SetJoint(
            object_id, self.kind, _vector(axis), _vector(origin), low, high, self.positions[state]
        )


def joint_between(
    pose_a: Float[Tensor, "4 4"], pose_b: Float[Tensor, "4 4"], noise: PoseNoise | None = None
) -> JointEstimate:
    """The joint that takes an object from one pose to another: a hinge or a slide, whichever is likelier.

    Args:
        pose_a, pose_b: `parent_from_object` at two moments; of a parent that rests, `world_from_object`.
        noise: how well they are known; it decides where little was moved.

    Raises:
        ValueError: a pose is not rigid, or the two do not differ by more than the noise.
    """
    return estimate_joint([pose_a, pose_b], noise)


def estimate_joint(poses: Sequence[Float[Tensor, "4 4"]], noise: PoseNoise | None = None) -> JointEstimate:
    """The joint that explains all poses of an object best, by least squares.

    Every rigid motion is a screw (Chasles): the two poses farthest apart give axis, angle and pitch to begin
    with. A hinge is a screw without pitch, a slide one without angle; both are fitted to all poses, and the
    one with the lower Bayesian information criterion is taken (a slide has two numbers less to fit).

    Args:
        poses: `parent_from_object` at two or more moments.
        noise: how well they are known.

    Raises:
        ValueError: fewer than two poses, one that is not rigid, or none that differs by more than the noise.
    """
    noise = noise or PoseNoise()
    if len(poses) < 2:
        raise ValueError(f"expected at least two poses of the object, got {len(poses)}")
    for pose in poses:
        check_rigid(pose, "poses")
    exact = torch.stack([pose.detach().cpu().double() for pose in poses])
    turns = rotvec_from_rotation(exact[:, :3, :3] @ exact[0, :3, :3].T)
    _check_moved(turns, exact, noise)
    kinds: tuple[JointKind, JointKind] = ("revolute", "prismatic")
    with one_torch_thread():
        fits: dict[JointKind, tuple[float, _Model]] = {k: _fitted(k, exact, turns, noise) for k in kinds}
    best, other = sorted(kinds, key=lambda kind: fits[kind][0])
    if float(turns.norm(dim=1).max()) < _LEAST_TURN * noise.rotation:
        # A hinge far away always fits a slide's noise a little better.
        best, other = "prismatic", "revolute"
    return _signed(best, fits[best][1], exact, fits[other][0] - fits[best][0])


@dataclass(frozen=True, eq=False)
class _Model:
    """A joint in numbers: the pose at position 0, the axis there, and a position for each pose."""

    start: Tensor
    axis: Tensor
    origin: Tensor
    positions: Tensor

    def errors(self, kind: JointKind, poses: Tensor) -> Tensor:
        """A rotation vector and a shift of the object's origin for each pose."""
        there = motion_along(kind, self.axis, self.origin, self.positions) @ self.start
        turns = rotvec_from_rotation(poses[:, :3, :3] @ there[:, :3, :3].transpose(1, 2))
        return torch.cat([turns, poses[:, :3, 3] - there[:, :3, 3]], dim=1)


def motion_along(
    kind: JointKind, axis: Float[Tensor, "3"], origin: Float[Tensor, "3"], position: Float[Tensor, "*b"]
) -> Float[Tensor, "*b 4 4"]:
    """How a joint moves what hangs on it, in the frame that the axis is given in."""
    eye = torch.eye(3).to(axis)
    travel = position[..., None] * axis
    if kind == "prismatic":
        return pose_from(eye.expand(*position.shape, 3, 3), travel)
    rotation = rotation_from_rotvec(travel)
    return pose_from(rotation, (eye - rotation) @ origin)


def _check_moved(turns: Tensor, poses: Tensor, noise: PoseNoise) -> None:
    angle = float(turns.norm(dim=1).max())
    shift = float((poses[:, :3, 3] - poses[0, :3, 3]).norm(dim=1).max())
    if angle < 3 * noise.rotation and shift < 3 * noise.translation:
        raise ValueError(
            f"expected poses that differ by more than their noise, got {math.degrees(angle):.2g} degrees and"
            f" {shift:.2g}; open the joint farther"
        )


def _fitted(kind: JointKind, poses: Tensor, turns: Tensor, noise: PoseNoise) -> tuple[float, _Model]:
    """The joint's Bayesian information criterion and its numbers, by Levenberg-Marquardt."""
    start = _first_guess(kind, poses, turns)
    weights = torch.tensor([noise.rotation] * 3 + [noise.translation] * 3).double()
    # Two directions across the axis in which it can turn, and in which its origin can shift.
    across = torch.linalg.svd(start.axis[None]).Vh[1:]

    def model(values: Tensor) -> _Model:
        turned = torch.nn.functional.normalize(start.axis + values[6:8] @ across, dim=0)
        pose = pose_from(
            rotation_from_rotvec(values[:3]) @ start.start[:3, :3], start.start[:3, 3] + values[3:6]
        )
        first = torch.zeros(1).double()
        hinge = kind == "revolute"
        origin = start.origin + (values[8:10] @ across if hinge else 0)
        return _Model(pose, turned, origin, torch.cat([first, values[10 if hinge else 8 :]]))

    def residuals(values: Any) -> Any:
        return (model(torch.from_numpy(values)).errors(kind, poses) / weights).flatten().numpy()

    count = 10 if kind == "revolute" else 8
    initial = torch.cat([torch.zeros(count).double(), start.positions[1:]])
    found = _scipy_optimize().least_squares(residuals, initial.numpy(), method="lm", max_nfev=400)
    score = 2 * float(found.cost) + len(initial) * math.log(6 * len(poses))
    return score, model(torch.from_numpy(found.x))


def _first_guess(kind: JointKind, poses: Tensor, turns: Tensor) -> _Model:
    """The screw between the first pose and the one that differs most from it."""
    home = poses[0, :3, 3]
    shifts = poses[:, :3, 3] - home
    if kind == "prismatic":
        axis = torch.nn.functional.normalize(shifts[shifts.norm(dim=1).argmax()], dim=0)
        axis = axis if bool(axis.any()) else torch.tensor([0.0, 0.0, 1.0]).double()
        return _Model(poses[0], axis, home, shifts @ axis)
    widest = turns.norm(dim=1).argmax()
    angle = float(turns[widest].norm())
    axis = turns[widest] / max(angle, 1e-9)
    axis = axis if angle > 1e-9 else torch.tensor([0.0, 0.0, 1.0]).double()
    shift = shifts[widest] - (shifts[widest] @ axis) * axis
    # The foot of the axis: half the way over, then across it by the cotangent of half the angle.
    reach = 1 / math.tan(max(angle, 1e-3) / 2)
    origin = home + (shift + reach * torch.linalg.cross(axis, shift)) / 2
    return _Model(poses[0], axis, origin, turns @ axis)


def _signed(kind: JointKind, model: _Model, poses: Tensor, evidence: float) -> JointEstimate:
    errors = model.errors(kind, poses)
    axis, positions = model.axis, model.positions
    if float(positions[positions.abs().argmax()]) < 0:
        axis, positions = -axis, -positions
    home = poses[0][:3, 3]
    origin = model.origin + ((home - model.origin) @ axis) * axis if kind == "revolute" else home
    rms = errors.square().reshape(-1, 2, 3).sum(-1).mean(0).sqrt()
    return JointEstimate(
        kind,
        _vector(axis),
        _vector(origin),
        tuple(positions.tolist()),
        float(rms[0]),
        float(rms[1]),
        evidence,
    )


def _vector(values: Tensor) -> Vector:
    x, y, z = values.tolist()
    return x, y, z


def _scipy_optimize() -> Any:
    try:
        return importlib.import_module("scipy.optimize")
    except ImportError as error:
        raise MissingDependency(
            f"expected scipy to fit joints, got: {error}; run `pip install scipy`"
        ) from error
