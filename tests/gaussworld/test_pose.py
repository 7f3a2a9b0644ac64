"""Rotations and poses: group axioms, agreement with scipy, and the places where naive formulas break."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gaussworld.pose import (
    OPENGL_FROM_OPENCV,
    check_rigid,
    invert_pose,
    invert_quats,
    look_at,
    multiply_quats,
    normalize_quats,
    pose7_from_pose,
    pose_from,
    pose_from_pose7,
    quats_from_rotation,
    rotation_from_quats,
    rotation_from_rotvec,
    rotvec_from_rotation,
    slerp_quats,
    transform_points,
    wxyz_from_xyzw,
    xyzw_from_wxyz,
)

DOUBLE = torch.float64
seeds = st.integers(0, 2**31 - 1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_quats(seed, *shape):
    return normalize_quats(torch.randn(*shape, 4, generator=generator(seed), dtype=DOUBLE))


def random_poses(seed, *shape):
    translation = torch.randn(*shape, 3, generator=generator(seed + 1), dtype=DOUBLE)
    return pose_from(rotation_from_quats(random_quats(seed, *shape)), translation)


def to_scipy(quats):
    return Rotation.from_quat(xyzw_from_wxyz(quats).numpy())


def assert_same_rotation(a, b, tolerance=1e-12):
    """Quaternions a and b name the same rotations, up to sign."""
    assert (a * b).sum(-1).abs().min() > 1 - tolerance


def assert_close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@given(seeds)
@settings(max_examples=30)
def test_quaternions_form_a_group(seed):
    a, b, c = random_quats(seed, 3).unbind(0)
    identity = torch.tensor([1.0, 0, 0, 0], dtype=DOUBLE)
    assert_close(multiply_quats(a, b).norm(), torch.tensor(1.0, dtype=DOUBLE))
    assert_close(multiply_quats(a, identity), a)
    assert_close(multiply_quats(identity, a), a)
    assert_close(multiply_quats(a, invert_quats(a)), identity)
    assert_close(multiply_quats(multiply_quats(a, b), c), multiply_quats(a, multiply_quats(b, c)))


@given(seeds)
@settings(max_examples=30)
def test_poses_form_a_group(seed):
    a, b, c = random_poses(seed, 3).unbind(0)
    identity = torch.eye(4, dtype=DOUBLE)
    check_rigid(a @ b, "closure")
    assert_close(a @ invert_pose(a), identity)
    assert_close(invert_pose(a) @ a, identity)
    assert_close(invert_pose(a @ b), invert_pose(b) @ invert_pose(a))
    points = torch.randn(5, 3, generator=generator(seed), dtype=DOUBLE)
    assert_close(transform_points(a @ b, points), transform_points(a, transform_points(b, points)))
    assert_close((a @ b) @ c, a @ (b @ c))


@given(seeds)
@settings(max_examples=30)
def test_matrices_follow_the_product_of_quaternions(seed):
    a, b = random_quats(seed, 2, 7).unbind(0)
    both = rotation_from_quats(multiply_quats(a, b))
    assert_close(both, rotation_from_quats(a) @ rotation_from_quats(b))


def test_double_cover():
    q = random_quats(0, 100)
    assert_close(rotation_from_quats(q), rotation_from_quats(-q))


def test_quaternions_of_any_length_rotate():
    q = random_quats(1, 10)
    assert_close(rotation_from_quats(q * 7.5), rotation_from_quats(q))


def test_matrices_agree_with_scipy():
    q = random_quats(2, 200)
    assert_close(rotation_from_quats(q), torch.from_numpy(to_scipy(q).as_matrix()))


def test_products_agree_with_scipy():
    a, b = random_quats(3, 2, 200).unbind(0)
    scipys = wxyz_from_xyzw(torch.from_numpy((to_scipy(a) * to_scipy(b)).as_quat()))
    assert_same_rotation(multiply_quats(a, b), scipys)


def test_the_borders_undo_each_other_and_put_w_first():
    q = torch.arange(8.0).reshape(2, 4)
    assert torch.equal(xyzw_from_wxyz(wxyz_from_xyzw(q)), q)
    assert wxyz_from_xyzw(torch.tensor([1.0, 2, 3, 4])).tolist() == [4, 1, 2, 3]


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, -1), (1, 2, 3)])
@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 2.0, 3.1, math.pi - 1e-9, math.pi, 4.0, 6.0])
def test_quats_from_rotation_on_every_branch(axis, angle):
    """Each axis makes another of the four divisors the largest; half turns make w zero."""
    axis = torch.nn.functional.normalize(torch.tensor(axis, dtype=DOUBLE), dim=0)
    half = torch.tensor(angle, dtype=DOUBLE) / 2
    q = torch.cat([half.cos()[None], half.sin() * axis])
    found = quats_from_rotation(rotation_from_quats(q))
    assert found[0] >= 0
    assert_close(found.norm(), torch.tensor(1.0, dtype=DOUBLE))
    assert_same_rotation(found, q)


@given(seeds)
@settings(max_examples=20)
def test_quats_from_rotation_inverts_rotation_from_quats(seed):
    q = random_quats(seed, 50)
    assert_same_rotation(quats_from_rotation(rotation_from_quats(q)), q)
    single = quats_from_rotation(rotation_from_quats(q.float()))
    assert_same_rotation(single.double(), q, 1e-6)


@pytest.mark.parametrize(
    "angle", [0.0, 1e-12, 1e-7, 9.9e-5, 1.01e-4, 1e-3, 1.0, 3.0, math.pi - 1e-6, math.pi - 1e-12]
)
def test_exponential_and_logarithm_agree_with_scipy(angle):
    direction = torch.nn.functional.normalize(
        torch.randn(20, 3, generator=generator(4), dtype=DOUBLE), dim=-1
    )
    rotvec = direction * angle
    rotation = rotation_from_rotvec(rotvec)
    scipys = Rotation.from_rotvec(rotvec.numpy())
    assert_close(rotation, torch.from_numpy(scipys.as_matrix()), 1e-13)
    found = rotvec_from_rotation(rotation)
    # At a half turn both signs of the axis are right.
    same = (found * rotvec).sum(-1, keepdim=True) >= 0
    assert_close(torch.where(same, found, -found), rotvec, 1e-8)


def test_rotvec_keeps_relative_precision_at_small_angles():
    rotvec = torch.tensor([[3e-5, -2e-5, 1e-5], [3e-3, -2e-3, 1e-3]])
    found = rotvec_from_rotation(rotation_from_rotvec(rotvec))
    torch.testing.assert_close(found, rotvec, rtol=2e-4, atol=0)
    exact = rotation_from_rotvec(rotvec.double())
    assert (rotation_from_rotvec(rotvec) - exact).abs().max() < 1e-7


@given(seeds)
@settings(max_examples=20)
def test_logarithm_is_at_most_a_half_turn(seed):
    rotvec = torch.randn(50, 3, generator=generator(seed), dtype=DOUBLE) * 10
    found = rotvec_from_rotation(rotation_from_rotvec(rotvec))
    assert found.norm(dim=-1).max() <= math.pi + 1e-12
    assert_close(rotation_from_rotvec(found), rotation_from_rotvec(rotvec), 1e-10)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-4, 1.0])
def test_gradient_of_the_exponential(scale):
    start = torch.tensor([0.3, -0.5, 0.8], dtype=DOUBLE) * scale
    start.requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_rotvec, start, atol=1e-6)


def test_gradients_at_the_identity_are_finite():
    rotvec = torch.zeros(3, requires_grad=True)
    rotvec_from_rotation(rotation_from_rotvec(rotvec)).sum().backward()
    assert torch.isfinite(rotvec.grad).all()
    torch.testing.assert_close(rotvec.grad, torch.ones(3))


@given(seeds, st.floats(0, 1))
@settings(max_examples=40)
def test_slerp_agrees_with_scipy(seed, t):
    from scipy.spatial.transform import Slerp

    a, b = random_quats(seed, 2).unbind(0)
    wanted = Slerp([0, 1], to_scipy(torch.stack([a, b])))(t).as_quat()
    assert_same_rotation(slerp_quats(a, b, t), wxyz_from_xyzw(torch.from_numpy(wanted)))


def test_slerp_end_points_and_shorter_arc():
    a, b = random_quats(5, 2, 100).unbind(0)
    assert_close(slerp_quats(a, b, 0.0), a)
    assert_same_rotation(slerp_quats(a, b, 1.0), b)
    middle = slerp_quats(a, b, 0.5)
    assert (middle * a).sum(-1).min() >= math.cos(math.pi / 4) - 1e-12
    assert_same_rotation(middle, slerp_quats(a, -b, 0.5))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-4, 1e-3])
def test_slerp_of_almost_equal_quaternions(angle):
    a = random_quats(6, 1)[0].requires_grad_()
    turn = torch.tensor([math.cos(angle / 2), math.sin(angle / 2), 0, 0], dtype=DOUBLE)
    quarter = torch.tensor([math.cos(angle / 8), math.sin(angle / 8), 0, 0], dtype=DOUBLE)
    mixed = slerp_quats(a, multiply_quats(a, turn), 0.25)
    assert_close(mixed, multiply_quats(a, quarter), 1e-11)
    mixed.sum().backward()
    assert torch.isfinite(a.grad).all()


@given(seeds)
@settings(max_examples=20)
def test_look_at_axes(seed):
    """z points at the target, y is the downward-most axis across it, and the frame is right-handed."""
    eye, target = torch.randn(2, 8, 3, generator=generator(seed), dtype=DOUBLE).unbind(0)
    pose = look_at(eye, target)
    check_rigid(pose, "look_at")
    right, down, forward = pose[..., :3, :3].unbind(-1)
    assert_close(forward, torch.nn.functional.normalize(target - eye, dim=-1))
    assert_close(right[..., 2], torch.zeros(8, dtype=DOUBLE))
    assert (down[..., 2] < 0).all()
    assert_close(pose[..., :3, 3], eye)


@pytest.mark.parametrize("up", [(0, 0, 1), (0, 0, -2), (1, 0, 0), (0, 1, 0), (1, 1, 1), (1e-3, 1e-3, 1e-3)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_look_at_straight_along_up_is_still_a_pose(up, sign):
    up = torch.tensor(up, dtype=torch.float32)
    pose = look_at(torch.zeros(3), sign * up, up)
    check_rigid(pose, "look_at")
    torch.testing.assert_close(pose[:3, 2], sign * torch.nn.functional.normalize(up, dim=0))


def test_look_at_another_up():
    pose = look_at(torch.zeros(3), torch.tensor([0.0, 0, 1]), torch.tensor([0.0, -5, 0]))
    torch.testing.assert_close(pose, torch.eye(4))


def test_pose7_round_trip():
    poses = random_poses(7, 4, 5)
    rows = pose7_from_pose(poses)
    assert rows.shape == (4, 5, 7)
    assert_close(pose_from_pose7(rows), poses)
    assert pose7_from_pose(torch.eye(4)).tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_opengl_flip_is_its_own_inverse_and_turns_y_and_z():
    assert torch.equal(OPENGL_FROM_OPENCV @ OPENGL_FROM_OPENCV, torch.eye(4))
    ahead_and_down = torch.tensor([[0.0, 1.0, 1.0]])
    assert transform_points(OPENGL_FROM_OPENCV, ahead_and_down).tolist() == [[0, -1, -1]]


def test_batches_with_no_rows():
    assert quats_from_rotation(torch.zeros(0, 3, 3)).shape == (0, 4)
    assert pose7_from_pose(torch.zeros(0, 4, 4)).shape == (0, 7)
    assert transform_points(torch.eye(4), torch.zeros(0, 3)).shape == (0, 3)


def test_zero_quaternion_is_refused():
    with pytest.raises(ValueError, match=r"expected quaternions of non-zero length, got an all-zero one"):
        normalize_quats(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]))


def test_look_at_itself_is_refused():
    with pytest.raises(ValueError, match="expected a target away from the eye"):
        look_at(torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match="expected an up direction of non-zero length"):
        look_at(torch.zeros(3), torch.ones(3), torch.zeros(3))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m[:3, :3].mul_(2), "orthonormal columns, got an error of 3"),
        (lambda m: m[:, 0].mul_(-1), "got a mirror image"),
        (lambda m: m[3].copy_(torch.tensor([0, 0, 1.0, 1])), "expected the last row 0 0 0 1"),
        (lambda m: m[:3, 3].fill_(math.nan), "expected finite values"),
        (lambda m: m[0, 1].add_(0.1), "orthonormal columns"),
    ],
)
def test_check_rigid_names_what_is_wrong(spoil, message):
    pose = torch.eye(4)
    check_rigid(pose, "pose")
    spoil(pose)
    with pytest.raises(ValueError, match=f"^pose: .*{message}"):
        check_rigid(pose, "pose")
