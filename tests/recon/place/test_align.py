"""Up from cameras and planes, and reframing: pictures stay the same, the way back is kept."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load_capture
from gaussworld.pose import pose_from, rotation_from_rotvec, transform_points
from gaussworld.render import render
from recon.place.align import Up, estimate_up, reframed, up_from, upright
from recon.place.planes import find_planes
from recon.synthetic import TabletopConfig, ring_cameras

Z = torch.tensor([0.0, 0.0, 1.0])
#: Some rigid motion, as unlike the identity as can be.
MOVE = pose_from(rotation_from_rotvec(torch.tensor([0.9, -1.7, 0.6])), torch.tensor([3.0, -2.0, 7.0]))


def _capture(poses: torch.Tensor, points: torch.Tensor | None = None) -> Capture:
    points = torch.zeros(0, 3) if points is None else points
    frames = tuple(Frame(Camera.pinhole(pose, 64, 48, 50.0), torch.zeros(48, 64, 3)) for pose in poses)
    return Capture(frames, points, torch.zeros_like(points))


def _ring(count: int = 28) -> torch.Tensor:
    return torch.stack([camera.world_from_camera for camera in ring_cameras(TabletopConfig(views=count))])


def _rolled(poses: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """The cameras turned about their own optical axes."""
    turns = torch.stack([degrees * 0, degrees * 0, degrees.deg2rad()], dim=-1)
    return poses @ pose_from(rotation_from_rotvec(turns), torch.zeros(len(poses), 3))


def _degrees(up: Up, truth: torch.Tensor) -> float:
    return math.degrees(math.acos(min(1.0, float(up.vector() @ truth))))


def _slab(count: int, normal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A square plate of side 2 through the origin, 2 mm thick."""
    flat = torch.rand(count, 3, generator=generator) * 2 - 1
    flat[:, 2] *= 0.001
    return flat @ _turn_from_z(normal).T


def _turn_from_z(normal: torch.Tensor) -> torch.Tensor:
    axis = torch.linalg.cross(Z, normal)
    return rotation_from_rotvec(axis * math.asin(float(axis.norm())) / max(float(axis.norm()), 1e-9))


def test_cameras_held_level_tell_up():
    """Cameras all around that look down at 20 to 55 degrees, held with a shaky hand."""
    draw = torch.Generator().manual_seed(0)
    up = estimate_up(_capture(_rolled(_ring(), 4 * torch.randn(28, generator=draw))))
    assert up.source == "cameras"
    assert _degrees(up, Z) < 2
    assert up.confidence > 0.85
    assert up.vector().norm() == pytest.approx(1)


def test_some_cameras_on_their_side_do_not_matter():
    """A third of the pictures in portrait: the others decide."""
    degrees = torch.where(torch.arange(28) % 3 == 0, 90.0, 0.0)
    assert _degrees(estimate_up(_capture(_rolled(_ring(), degrees))), Z) < 2


def test_one_side_only_is_less_sure_and_follows_the_upper_edge():
    """A single camera's up is the upper edge of its picture; nobody should be sure of it."""
    pose = Camera.looking_at((2.0, 0.0, 0.2), (0.0, 0.0, 0.0)).world_from_camera
    up = estimate_up(_capture(pose[None]))
    assert _degrees(up, Z) < 7
    assert up.confidence < 0.3


def test_straight_down_is_down():
    """A drone's pictures have no upper edge; their right axes span the ground."""
    down = rotation_from_rotvec(torch.tensor([math.pi, 0.0, 0.0]))
    turns = torch.arange(12.0)[:, None] * torch.tensor([0.0, 0.0, 0.5])
    poses = pose_from(rotation_from_rotvec(turns) @ down, torch.rand(12, 3))
    assert _degrees(estimate_up(_capture(poses)), Z) < 1


def test_a_table_makes_it_exact():
    """Cameras rolled by six degrees on a short arc err; the table among the points does not."""
    draw = torch.Generator().manual_seed(1)
    poses = _rolled(_ring(120)[:15], torch.full((15,), 6.0))
    clutter = torch.rand(1500, 3, generator=draw) * 2 - 1
    points = torch.cat([_slab(800, Z, draw), clutter])
    alone, helped = estimate_up(_capture(poses)), estimate_up(_capture(poses, points))
    assert _degrees(alone, Z) > 3
    assert helped.source == "plane"
    assert _degrees(helped, Z) < 0.3
    assert helped.confidence > 0.95 > alone.confidence


def test_two_walls_make_it_exact():
    """Upright planes that are not parallel know up as well as a floor does."""
    draw = torch.Generator().manual_seed(2)
    walls = [_slab(600, torch.tensor(n), draw) for n in ([1.0, 0.0, 0.0], [0.6, 0.8, 0.0])]
    poses = _rolled(_ring(120)[:15], torch.full((15,), 6.0))
    up = estimate_up(_capture(poses, torch.cat(walls)))
    assert up.source == "plane"
    assert _degrees(up, Z) < 0.6


def test_a_ramp_or_a_thick_cloud_is_no_floor():
    """A plane 40 degrees from level and a cloud without planes leave the cameras' answer alone."""
    draw = torch.Generator().manual_seed(3)
    ramp = _slab(2000, torch.tensor([0.643, 0.0, 0.766]), draw)
    cloud = torch.randn(2000, 3, generator=draw)
    for points in (ramp, cloud):
        up = estimate_up(_capture(_ring(), points))
        assert up.source == "cameras"
        assert _degrees(up, Z) < 1


def test_the_frame_does_not_matter_and_seeds_repeat():
    """A moved capture has its up moved; the same seed gives the same answer to the bit."""
    draw = torch.Generator().manual_seed(4)
    points = torch.cat([_slab(800, Z, draw), torch.rand(800, 3, generator=draw)])
    capture = reframed(_capture(_ring(), points), MOVE, 12.5)
    assert _degrees(estimate_up(capture), MOVE[:3, 2]) < 0.3
    assert estimate_up(capture) == estimate_up(capture)


def test_planes_come_largest_first():
    """Two plates of known places: normals, offsets and shares; what is not wanted is not found."""
    draw = torch.Generator().manual_seed(5)
    x = torch.tensor([1.0, 0.0, 0.0])
    points = torch.cat([_slab(1000, Z, draw) + Z * 0.7, _slab(600, x, draw) - x * 2])
    first, second = find_planes(points, 0.01, lambda normals: normals[:, 0] < 2)
    assert abs(float(first.normal[2])) == pytest.approx(1, abs=1e-4)
    assert abs(first.offset) == pytest.approx(0.7, abs=2e-3)
    assert first.share == pytest.approx(0.62, abs=0.03)
    assert abs(float(second.normal[0])) == pytest.approx(1, abs=1e-4)
    assert float(first.distances(points)[:1000].abs().max()) < 0.005
    assert find_planes(points, 0.01, lambda normals: normals[:, 1].abs() > 0.99) == []
    assert find_planes(points[:5], 0.01, lambda normals: normals[:, 0] < 2) == []


def test_reframed_pictures_are_the_same():
    """Gaussians of SH degree 3, moved along with their cameras, look the same to the last digits."""
    draw = torch.Generator().manual_seed(6)
    gaussians = Gaussians.from_activated(
        torch.randn(200, 3, generator=draw) * 0.3,
        torch.randn(200, 4, generator=draw),
        torch.rand(200, 3, generator=draw) * 0.1 + 0.02,
        torch.rand(200, generator=draw) * 0.9,
        torch.rand(200, 3, generator=draw),
    ).with_sh_degree(3)
    gaussians = replace(gaussians, sh=gaussians.sh + torch.randn(200, 16, 3, generator=draw) * 0.2)
    capture = _capture(_ring(4))
    moved = reframed(capture, MOVE, 2.5)
    for before, after in zip(capture.frames, moved.frames):
        truth = render(gaussians, before.camera, outputs=("depth",))
        drawn = render(gaussians.transformed(MOVE, 2.5), after.camera, outputs=("depth",))
        assert torch.allclose(drawn.rgb, truth.rgb, atol=2e-4)
        assert truth.depth is not None
        assert drawn.depth is not None
        assert torch.allclose(drawn.depth, 2.5 * truth.depth, atol=2e-3)


def test_reframing_keeps_the_way_back():
    """Cameras, depth cameras, depth, points and unit follow; the inverse brings all of it home."""
    camera = Camera.looking_at((1.0, 2.0, 0.5), (0.0, 0.0, 0.0), 8, 6)
    frames = (
        Frame(camera, torch.zeros(6, 8, 3), depth=torch.full((6, 8), 2.0), depth_camera=camera),
        Frame(camera, Path("a.png"), depth=Path("a_depth.png")),
    )
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(7))
    source = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))
    capture = Capture(frames, points, torch.zeros(5, 3), metres_per_unit=0.5, world_from_source=source)
    moved = reframed(capture, MOVE, 4.0)
    assert moved.metres_per_unit == pytest.approx(0.125)
    deep = moved.frames[0].depth
    assert isinstance(deep, torch.Tensor)
    assert torch.equal(deep, torch.full((6, 8), 8.0))
    assert moved.frames[1].depth == Path("a_depth.png")
    assert moved.frames[0].depth_camera is not None
    assert moved.frames[1].depth_camera is None
    pixels, depths = camera.project(points)
    for each in (moved.frames[0].camera, moved.frames[0].depth_camera):
        again, deeper = each.project(moved.points)
        assert torch.allclose(again, pixels, atol=1e-3)
        assert torch.allclose(deeper, 4 * depths, atol=1e-4)
    in_source = transform_points(torch.linalg.inv(moved.world_from_source), moved.points)
    assert torch.allclose(in_source, points / 2, atol=1e-5)


def test_upright_is_the_smallest_turn():
    """Up becomes +z, the origin stays, and a capture that stands upright is not touched."""
    capture = _capture(_ring(6))
    for direction in ([0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [0.6, 0.0, 0.8]):
        turned, new_from_old = upright(capture, Up((direction[0], direction[1], direction[2]), "given", 1.0))
        assert torch.allclose(new_from_old[:3, :3] @ torch.tensor(direction), Z, atol=1e-6)
        assert torch.equal(new_from_old[:3, 3], torch.zeros(3))
        assert torch.allclose(turned.world_from_source, new_from_old, atol=1e-6)
        cosine = (float(new_from_old[:3, :3].trace()) - 1) / 2
        assert cosine == pytest.approx(direction[2], abs=1e-6)
    same, new_from_old = upright(capture, Up((0.0, 0.0, 1.0), "given", 1.0))
    assert torch.equal(new_from_old, torch.eye(4))
    assert torch.equal(same.frames[3].camera.world_from_camera, capture.frames[3].camera.world_from_camera)


def test_what_the_flag_says():
    """auto, keep, an axis, and a sentence for anything else."""
    capture = _capture(_ring(6))
    assert up_from("keep", capture) is None
    assert up_from("-y", capture) == Up((0.0, -1.0, 0.0), "given", 1.0)
    found = up_from("auto", capture)
    assert found is not None
    assert found.source == "cameras"
    with pytest.raises(ConfigError, match=r"--up: expected auto, keep or one of \+x .* got 'z'"):
        up_from("z", capture)
    with pytest.raises(CaptureError, match="at least one camera"):
        up_from("auto", Capture(()))


def test_bad_motions_are_refused():
    """A scale inside the matrix, and a scale that is none."""
    capture = _capture(_ring(3))
    with pytest.raises(ValueError, match="orthonormal"):
        reframed(capture, torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    with pytest.raises(ValueError, match="positive scale"):
        reframed(capture, torch.eye(4), -1.0)


def test_the_fox_hangs_upright(captures: Path):
    """Its file's +z is the mean upper edge of the pictures, about five degrees from plumb; we are nearer."""
    up = estimate_up(load_capture(captures / "fox"))
    assert _degrees(up, Z) < 8
    wall = torch.tensor([0.874, -0.478, -0.089])  # Its normal, from structure from motion.
    assert abs(math.degrees(math.asin(float(up.vector() @ wall)))) < 3
