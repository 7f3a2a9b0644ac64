"""Joints from poses: hinge or slide, the axis, its place, and what is refused."""

import math

import pytest
import torch
from torch import Tensor

import recon.joints
from gaussworld import edit
from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject
from recon.joints import JointEstimate, PoseNoise, estimate_joint, joint_between, motion_along

AXIS = torch.nn.functional.normalize(torch.tensor([0.1, -0.05, 1.0]), dim=0)
ORIGIN = torch.tensor([0.4, -0.2, 0.3])
HOME = pose_from(rotation_from_rotvec(torch.tensor([0.2, 0.4, -0.3])), torch.tensor([0.15, -0.25, 0.32]))


def _at(kind, *positions: float) -> list[Tensor]:
    return [motion_along(kind, AXIS, ORIGIN, torch.tensor(float(p))) @ HOME for p in positions]


def _between(poses: list[Tensor]) -> JointEstimate:
    first, second = poses
    return joint_between(first, second)


def _noisy(pose: Tensor, generator: torch.Generator, noise: PoseNoise) -> Tensor:
    turn = torch.randn(3, generator=generator) * noise.rotation
    shift = torch.randn(3, generator=generator) * noise.translation
    return pose_from(rotation_from_rotvec(turn) @ pose[:3, :3], pose[:3, 3] + shift)


def _axis_error_deg(found: JointEstimate) -> float:
    return math.degrees(math.acos(min(1.0, float(torch.tensor(found.axis) @ AXIS))))


def _offset(found: JointEstimate) -> float:
    return float(torch.linalg.cross(torch.tensor(found.origin) - ORIGIN, AXIS).norm())


def test_a_hinge_is_found_exactly_from_two_poses():
    """Axis, point on it and angle of a door that opened by 70 degrees."""
    found = _between(_at("revolute", 0.0, math.radians(70)))
    assert found.kind == "revolute" and found.evidence > 10
    assert _axis_error_deg(found) < 0.1 and _offset(found) < 1e-4
    assert found.positions == pytest.approx((0.0, math.radians(70)), abs=1e-4)


def test_a_slide_is_found_exactly_from_two_poses():
    """Direction and travel of a drawer; its limits are the positions that were seen."""
    found = _between(_at("prismatic", 0.0, 0.2))
    assert found.kind == "prismatic" and found.evidence > 0
    assert _axis_error_deg(found) < 0.1
    assert found.limits == pytest.approx((0.0, 0.2), abs=1e-5)


def test_a_half_turn_is_no_trouble():
    """The cotangent of the half angle vanishes there, and the rotation vector's sign is free."""
    found = _between(_at("revolute", 0.0, math.pi - 1e-4))
    assert abs(float(torch.tensor(found.axis) @ AXIS)) > 0.9999 and _offset(found) < 1e-3


@pytest.mark.parametrize("kind", ["revolute", "prismatic"])
def test_more_states_average_noise_out(kind):
    """Six noisy poses give a better axis than two of them, and the right kind."""
    generator, noise = torch.Generator().manual_seed(3), PoseNoise()
    furthest = 1.0 if kind == "revolute" else 0.25
    two, six = [], []
    for _ in range(2):
        poses = [_noisy(p, generator, noise) for p in _at(kind, *torch.linspace(0, furthest, 6).tolist())]
        pair, several = joint_between(poses[0], poses[-1]), estimate_joint(poses)
        assert pair.kind == several.kind == kind
        two.append(_axis_error_deg(pair))
        six.append(_axis_error_deg(several))
    assert sum(six) < sum(two) and max(six) < 2.0


def test_a_door_that_is_ajar_is_no_drawer():
    """Eight degrees at a hinge 25 cm away look like a shift of 3.5 cm: the turn decides."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        poses = [_noisy(p, generator, PoseNoise()) for p in _at("revolute", 0.0, math.radians(8))]
        assert _between(poses).kind == "revolute"


def test_the_edit_moves_the_object_as_it_was_seen_to_move():
    """SetJoint in the object's own frame: from the open pose, motion to position 0 closes the door."""
    closed, opened = _at("revolute", 0.0, 1.2)
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    gaussians = Gaussians.from_activated(
        torch.zeros(1, 3), quats, torch.ones(1, 3), torch.full((1,), 0.5), torch.zeros(1, 3)
    )
    world = World({4: WorldObject(4, "door", gaussians, ObjectKind.RIGID, opened)})
    found = joint_between(closed, opened)
    door = edit.applied(found.edit(4, opened), world).find(4)
    assert door.kind is ObjectKind.ARTICULATED and door.joint is not None
    assert door.joint.position == pytest.approx(1.2, abs=1e-4)
    back = door.world_from_object @ door.joint.motion(torch.tensor(0.0))
    assert torch.allclose(back, closed, atol=1e-4)


def test_too_little_motion_is_refused():
    """Poses that differ by their noise say nothing about an axis."""
    with pytest.raises(ValueError, match="open the joint farther"):
        _between(_at("revolute", 0.0, 0.004))


def test_one_pose_is_refused():
    """There is no motion in one pose."""
    with pytest.raises(ValueError, match="at least two poses"):
        estimate_joint([HOME])


def test_a_pose_that_is_not_rigid_is_refused():
    """A scaled matrix would give a wrong axis in silence."""
    with pytest.raises(ValueError, match="orthonormal"):
        joint_between(HOME, torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))


def test_fits_run_on_one_thread(monkeypatch):
    """Thousands of tiny operators wait for each other otherwise."""
    seen, real = set(), recon.joints.motion_along

    def watched(*arguments):
        seen.add(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(recon.joints, "motion_along", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _between(_at("revolute", 0.0, 0.5))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    # The rest of it, after the fits, is one short operator.
    assert seen and seen - {2} == {1}
