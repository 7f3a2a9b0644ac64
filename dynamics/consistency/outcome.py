"""`Outcome`: a question with its answer, and the lengths, angles and speeds that are read off it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import invert_quats, multiply_quats, rotation_from_quats, rotvec_from_rotation
from gaussworld.state import Rollout
from gaussworld.world_object import ObjectKind

from .predictor import Future
from .scenes import RATE_HZ, Case, Solid

#: [m] so near to the ends of a thing that bends must its points be at first.
_COVERED = 0.02


class Astray(ValueError):
    """An answer that is none: NaN, a thing missing, another number of moments."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A question with its answer; u moments, 0.1 s apart."""

    case: Case
    future: Future

    def row(self, name: str) -> int:
        """Of the poses."""
        return self.case.start.object_ids.index(self.case.scene.id(name))

    def places(self, name: str) -> Float[Tensor, "u 3"]:
        """[m] of the thing's origin, its middle if it moves freely."""
        return self.future.poses[:, self.row(name), :3]

    def quats(self, name: str) -> Float[Tensor, "u 4"]:
        """How it is turned."""
        return torch.nn.functional.normalize(self.future.poses[:, self.row(name), 3:], dim=-1)

    def turns(self, name: str) -> Float[Tensor, "u 3 3"]:
        """world_from_object rotations."""
        return rotation_from_quats(self.quats(name))

    def moved(self, name: str) -> Float[Tensor, " u"]:
        """[m] how far its origin is from where it was."""
        places = self.places(name)
        return (places - places[0]).norm(dim=-1)

    def angle(self, name: str) -> Float[Tensor, " u"]:
        """[deg] how far it is turned against how it was."""
        quats = self.quats(name)
        between = multiply_quats(invert_quats(quats[:1]).expand_as(quats), quats)
        return 2 * torch.atan2(between[:, 1:].norm(dim=-1), between[:, 0].abs()).rad2deg()

    def tilt(self, name: str) -> Float[Tensor, " u"]:
        """[deg] between its own z axis and the vertical."""
        return self.turns(name)[:, 2, 2].clamp(-1, 1).acos().rad2deg()

    def velocities(self, name: str) -> Float[Tensor, "t 3"]:
        """[m/s] mean velocity in every step."""
        return self.places(name).diff(dim=0) * RATE_HZ

    def spins(self, name: str) -> Float[Tensor, "t 3"]:
        """[rad/s] mean angular velocity in every step, in the world."""
        turns = self.turns(name)
        return rotvec_from_rotation(turns[1:] @ turns[:-1].transpose(-1, -2)) * RATE_HZ

    def angular_momenta(self, name: str) -> Float[Tensor, "t 3"]:
        """[kg m^2/s] of every step about the middle: R I R^T w with the rotation halfway."""
        quats = self.quats(name)
        near = torch.where((quats[1:] * quats[:-1]).sum(-1, keepdim=True) < 0, -quats[1:], quats[1:])
        halfway = rotation_from_quats(torch.nn.functional.normalize(quats[:-1] + near, dim=-1))
        inertia = halfway @ self.case.scene.solid(name).inertia @ halfway.transpose(-1, -2)
        return (inertia @ self.spins(name)[..., None])[..., 0]

    def corners(self, name: str) -> Float[Tensor, "u 8 3"]:
        """[m] of the box, in the world."""
        solid = self.case.scene.solid(name)
        signs = torch.cartesian_prod(*(torch.tensor([-1.0, 1.0]),) * 3)
        own = signs * solid.half + torch.tensor(solid.middle)
        return own @ self.turns(name).transpose(-1, -2) + self.places(name)[:, None]

    def points(self, name: str) -> Float[Tensor, "u k 3"]:
        """[m] of a thing that bends."""
        return self.future.points[self.case.scene.id(name)]

    def depth(self, name: str, other: str) -> Float[Tensor, " u"]:
        """[m] how deep two boxes are in each other: the deepest point of one's surface in the other."""
        depths = [self._points_in(a, b) for a, b in ((name, other), (other, name))]
        return torch.maximum(*depths)

    def _points_in(self, name: str, other: str) -> Tensor:
        scene = self.case.scene
        points = _surface(scene.solid(name)) @ self.turns(name).transpose(-1, -2) + self.places(name)[:, None]
        return (-self._distance(points, other)).amax(-1).clamp(min=0)

    def _distance(self, points: Tensor, name: str) -> Tensor:
        """[m] signed, of points (u, k, 3) in the world to a box."""
        solid = self.case.scene.solid(name)
        local = (points - self.places(name)[:, None]) @ self.turns(name) - torch.tensor(solid.middle)
        apart = local.abs() - solid.half
        return apart.clamp(min=0).norm(dim=-1) + apart.amax(-1).clamp(max=0)

    def tool_gap(self, name: str) -> Float[Tensor, " u"]:
        """[m] between the tool and a box, negative inside: of the tool's rounded boxes' middles, sampled."""
        tool, path = self.case.scene.tools[0], self.case.tool_path
        shares = torch.cartesian_prod(*(torch.linspace(-1, 1, count) for count in (3, 3, 33)))
        boxes = tool.boxes(self.case.grip_path)[:, :, None] + tool.halves[:, None] * shares
        turns = rotation_from_quats(path[:, 3:])
        points = boxes.flatten(1, 2) @ turns.transpose(-1, -2) + path[:, None, :3]
        radii = tool.radii.repeat_interleave(len(shares))
        return (self._distance(points, name) - radii).amin(-1)


def _surface(solid: Solid, count: int = 9) -> Tensor:
    """(k, 3) points on a box: a lattice on every face, with edges and corners, in its object's frame."""
    lattice = torch.cartesian_prod(*(torch.linspace(-1, 1, count),) * 3)
    outer = lattice[(lattice.abs() == 1).any(-1)]
    return outer * solid.half + torch.tensor(solid.middle)


def outcome(case: Case, answer: Future | Rollout) -> Outcome:
    """The question with its answer, once it is one.

    Raises:
        Astray: NaN or infinity, a thing missing, another number of moments, no rotation.
    """
    future = _future(case, answer) if isinstance(answer, Rollout) else answer
    if not isinstance(future, Future):
        raise Astray(f"expected a Future or a Rollout, got {type(answer).__name__}")
    future = _tensors(future)
    moments, objects = len(case.actions) + 1, len(case.start.object_ids)
    shape, wanted = tuple(future.poses.shape), (moments, objects, 7)
    if len(shape) == 3 and shape[0] == moments and shape[1] != objects:
        raise Astray(f"expected all {objects} objects at every moment, got {shape[1]}")
    if shape != wanted:
        raise Astray(f"expected poses of shape {wanted}, got {shape}")
    _check_poses(case, future)
    _check_points(case, future)
    return Outcome(case, future)


def _tensors(future: Future) -> Future:
    """Whatever arrays a model gives, as tensors of our own."""

    def taken(values: Any) -> Tensor:
        return torch.as_tensor(values).detach().float().cpu()

    try:
        return Future(taken(future.poses), {int(k): taken(v) for k, v in future.points.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise Astray(f"expected a Future of tensors, got {error}") from error


def _check_poses(case: Case, future: Future) -> None:
    names = [case.world.objects[number].name for number in case.start.object_ids]
    bad = ~future.poses.isfinite().all(-1)
    if bool(bad.any()):
        step, row = bad.nonzero()[0].tolist()
        raise Astray(f"{names[row]} has a pose of NaN or infinity at step {step}")
    off = (future.poses[..., 3:].norm(dim=-1) - 1).abs() > 1e-2
    if bool(off.any()):
        step, row = off.nonzero()[0].tolist()
        raise Astray(f"{names[row]} has a quaternion that is not of length 1 at step {step}")


def _check_points(case: Case, future: Future) -> None:
    """Points of what bends: at every moment, finite, and at first all over the thing that they are of."""
    for number, points in future.points.items():
        if number not in case.world.objects:
            raise Astray(f"expected points of objects {tuple(case.world.objects)}, got some of {number}")
        item = case.world.objects[number]
        if points.ndim != 3 or len(points) != len(future.poses) or points.shape[-1] != 3:
            raise Astray(f"expected points of shape ({len(future.poses)}, k, 3), got {tuple(points.shape)}")
        bad = ~points.isfinite().flatten(1).all(-1)
        if bool(bad.any()):
            raise Astray(f"{item.name} has points of NaN or infinity at step {int(bad.nonzero()[0])}")
        if item.shape is None or item.kind is not ObjectKind.DEFORMABLE:
            continue
        whole = item.shape.mesh.transformed(item.world_from_object).vertices
        ends = [(values.amin(0), values.amax(0)) for values in (whole, points[0])]
        off = max(float((a - b).abs().max()) for a, b in zip(*ends))
        if off > _COVERED:
            raise Astray(
                f"expected points all over {item.name} at step 0, got ones that end {1000 * off:.0f} mm off"
            )


def _future(case: Case, rollout: Rollout) -> Future:
    """Poses in the order of the question; particles are those of the only thing there that bends."""
    states, wanted = rollout.states, case.start.object_ids
    missing = [number for number in wanted if number not in states.object_ids]
    if missing:
        raise Astray(f"expected objects {wanted}, got {states.object_ids}")
    rows = [states.object_ids.index(number) for number in wanted]
    free = [item for item in case.world.objects.values() if item.kind is not ObjectKind.STATIC]
    bends = len(free) == 1 and free[0].kind is ObjectKind.DEFORMABLE and states.particle_positions.shape[-2]
    return Future(states.object_poses[:, rows], {free[0].id: states.particle_positions} if bends else {})


def worst(values: Sequence[Tensor]) -> float:
    """The largest number in several tensors."""
    return max(float(value.max()) for value in values)
