"""Trajectory errors: known similarities are found again, known errors are measured, bad input is refused."""

import itertools
import math

import jaxtyping
import pytest
import torch

from gaussworld.pose import pose_from, rotation_from_rotvec
from recon.trajectory import Similarity, align_trajectories, ate, rpe


@pytest.fixture
def as_in_production():
    """Switch jaxtyping's checks off, so that the messages users see come to light."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _poses(count: int = 12, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    turns = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return pose_from(
        rotation_from_rotvec(turns), torch.randn(count, 3, generator=draw, dtype=torch.float64) * 2 + 5
    )


def _similarity(scale: float = 3.7) -> Similarity:
    rotation = rotation_from_rotvec(torch.tensor([0.4, -2.0, 1.1], dtype=torch.float64))
    return Similarity(rotation, torch.tensor([-8.0, 2.0, 30.0], dtype=torch.float64), scale)


def test_a_known_similarity_is_found_again():
    """Moved, turned and rescaled poses align to nothing left, and the 4x4 maps every centre."""
    true = _poses()
    found = align_trajectories(_similarity().moved(true), true)
    assert found.scale == pytest.approx(1 / 3.7)
    assert torch.allclose(found.rotation, _similarity().rotation.T, atol=1e-9)
    assert torch.allclose(found.moved(_similarity().moved(true)), true, atol=1e-9)
    error = ate(_similarity().moved(true), true)
    assert error.rmse < 1e-9
    assert error.scale == pytest.approx(1 / 3.7)
    assert torch.allclose(error.similarity, found.matrix)


def test_float32_poses_do_as_well():
    """Readers hand over float32; the answer keeps its digits."""
    true = _poses().float()
    assert ate(_similarity().moved(true), true).rmse < 1e-4


def test_planar_and_mirrored_centres_give_no_mirror_image():
    """Centres in a plane, and a mirrored trajectory, are answered by a rotation."""
    flat = _poses()
    flat[:, 2, 3] = 1.0
    assert ate(_similarity().moved(flat), flat).rmse < 1e-9
    mirrored = _poses()
    mirrored[:, 2, 3] *= -1
    assert torch.linalg.det(align_trajectories(mirrored, _poses()).rotation) == pytest.approx(1.0)
    assert ate(mirrored, _poses()).rmse > 0.1


def test_on_a_line_the_orientations_decide_the_turn():
    """Centres on a straight line leave a turn open, which the cameras' axes settle."""
    line = _poses()
    line[:, :3, 3] = torch.arange(12.0).double()[:, None] * torch.tensor([1.0, 2.0, 0.5]).double()
    found = align_trajectories(_similarity().moved(line), line)
    assert torch.allclose(found.rotation, _similarity().rotation.T, atol=1e-6)


def test_errors_are_those_that_were_made():
    """One centre of twelve displaced: the largest error is near the displacement, the median near zero."""
    true = _poses(200)
    wrong = true.clone()
    wrong[7, 0, 3] += 0.5
    error = ate(wrong, true, with_scale=False)
    assert error.scale == 1
    assert error.max == pytest.approx(0.5, rel=0.02)
    assert error.rmse == pytest.approx(0.5 / math.sqrt(200), rel=0.05)
    assert error.median < 0.01


def test_without_scale_a_wrong_unit_shows():
    """A trajectory of half the size has an error only if its unit is taken at its word."""
    true = _poses()
    half = true.clone()
    half[:, :3, 3] *= 0.5
    assert ate(half, true).rmse < 1e-9
    assert ate(half, true, with_scale=False).rmse > 0.5
    assert rpe(half, true).translation < 1e-9
    assert rpe(half, true, with_scale=False).translation > 0.5


def test_relative_errors_do_not_depend_on_the_frame():
    """A constant drift per step is what is measured, whatever the frame and unit of the estimate."""
    true = _poses(20)
    slip = pose_from(
        rotation_from_rotvec(torch.tensor([0.0, math.radians(2.0), 0.0]).double()), torch.zeros(3).double()
    )
    drifted = [true[0]]
    for before, after in itertools.pairwise(true):
        drifted.append(drifted[-1] @ torch.linalg.inv(before) @ after @ slip)
    drifted = torch.stack(drifted)
    error = rpe(drifted, true, with_scale=False)
    assert error.rotation_deg == pytest.approx(2.0)
    assert error.translation < 1e-9
    moved = rpe(_similarity(1.0).moved(drifted), true, with_scale=False)
    assert moved.rotation_deg == pytest.approx(2.0)
    assert rpe(_similarity().moved(true), true, delta=5).translation < 1e-9


@pytest.mark.usefixtures("as_in_production")
def test_what_cannot_be_aligned_is_refused():
    """Two cameras, one place, other counts, NaN, and pairs that do not exist."""
    poses, still = _poses(), _poses()
    still[:, :3, 3] = 4.0
    with pytest.raises(ValueError, match=r"at least 3 cameras .* got 2"):
        align_trajectories(poses[:2], poses[:2])
    with pytest.raises(ValueError, match="estimated cameras at different places, got all 12 at one point"):
        ate(still, poses)
    with pytest.raises(ValueError, match="true cameras at different places"):
        ate(poses, still)
    with pytest.raises(ValueError, match=r"got shapes \(11, 4, 4\) and \(12, 4, 4\)"):
        ate(poses[1:], poses)
    with pytest.raises(ValueError, match="finite estimated poses"):
        ate(poses * math.nan, poses)
    with pytest.raises(ValueError, match="1 <= delta < 12"):
        rpe(poses, poses, delta=12)
