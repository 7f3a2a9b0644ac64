"""The turning camera: closed, smooth, near where cameras were, looking at what they looked at."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture, Frame
from gaussworld.io import load_capture
from gaussworld.pose import pose_from, rotation_from_rotvec
from recon.place.align import reframed
from recon.tour import turning_path, video_size

Z = torch.tensor([0.0, 0.0, 1.0])
PIVOT = (1.0, 2.0, 0.5)


def _capture(cameras: list[Camera], points: torch.Tensor | None = None) -> Capture:
    points = torch.zeros(0, 3) if points is None else points
    frames = tuple(Frame(camera, torch.zeros(1, 1, 3)) for camera in cameras)
    return Capture(frames, points, torch.zeros_like(points))


def _arc(degrees: float, count: int = 24, elevations: tuple[float, ...] = (30.0,)) -> Capture:
    """Cameras three units from the pivot on an arc about it, at each elevation in turn."""
    cameras = []
    for i in range(count):
        azimuth = math.radians(degrees * i / (count - 1) + 200)
        elevation = math.radians(elevations[i % len(elevations)])
        x, y, z = (
            center + 3 * part
            for center, part in zip(
                PIVOT,
                (
                    math.cos(elevation) * math.cos(azimuth),
                    math.cos(elevation) * math.sin(azimuth),
                    math.sin(elevation),
                ),
            )
        )
        cameras.append(Camera.looking_at((x, y, z), PIVOT, 640, 480, 50.0))
    return _capture(cameras)


def _walk(count: int = 80, degrees: float = 300.0, length: float = 6.0) -> Capture:
    """A shaky walk along x that looks outwards, along y at first, and turns as it goes."""
    draw = torch.Generator().manual_seed(0)
    cameras = []
    for i in range(count):
        share, shake = i / (count - 1), 0.02 * torch.randn(3, generator=draw)
        angle = math.radians(90 - degrees * (share - 0.5))
        eye = torch.tensor([length * share, 0.0, 1.6]) + shake
        target = eye + torch.tensor([math.cos(angle), math.sin(angle), -0.3]) + shake
        cameras.append(Camera.looking_at(_triple(eye), _triple(target), 640, 480, 50.0))
    points = torch.rand(500, 3, generator=draw) * torch.tensor([8.0, 6.0, 2.0]) + torch.tensor([-1, -3, 0.0])
    return _capture(cameras, points)


def _triple(vector: torch.Tensor) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z


def _steps(path: list[Camera]) -> tuple[torch.Tensor, torch.Tensor]:
    """Metres gone and degrees turned from each frame to the next, the last to the first included."""
    poses = torch.stack([camera.world_from_camera for camera in path])
    after = poses.roll(-1, 0)
    cosines = ((poses[:, :3, :3] * after[:, :3, :3]).sum((1, 2)) - 1) / 2
    return (poses - after)[:, :3, 3].norm(dim=-1), cosines.clamp(-1, 1).acos().rad2deg()


def _azimuths(path: list[Camera]) -> torch.Tensor:
    centers = torch.stack([camera.center for camera in path]) - torch.tensor(PIVOT)
    return torch.atan2(centers[:, 1], centers[:, 0]).rad2deg()


def _nearest(path: list[Camera], capture: Capture) -> float:
    """The largest distance of the path's cameras from the capture's."""
    seen = torch.stack([frame.camera.center for frame in capture.frames])
    return float(torch.cdist(torch.stack([camera.center for camera in path]), seen).amin(1).max())


def _level(path: list[Camera], up: torch.Tensor = Z) -> float:
    """The largest slope of the horizon: the right axis is level."""
    return float(torch.stack([camera.world_from_camera[:3, 0] @ up for camera in path]).abs().max())


def _assert_sees(path: list[Camera], pivot: tuple[float, float, float]) -> None:
    for camera in path:
        pixels, depths = camera.project(torch.tensor([pivot]))
        assert float(depths[0]) > 0
        assert torch.allclose(pixels[0], torch.tensor([camera.width / 2, camera.height / 2]), atol=1.0)


def test_a_full_ring_is_turned_round_once():
    """Cameras all around: 360 degrees at even speed, at their distance and height, closing on itself."""
    capture = _arc(345, elevations=(20.0, 30.0, 40.0))
    path = turning_path(capture, Z, 120, 640, 480)
    assert len(path) == 120
    _assert_sees(path, PIVOT)
    gone, turned = _steps(path)
    assert float(gone.max()) < 1.3 * float(gone.min())
    assert float(turned.max()) < 6
    ahead = torch.diff(_azimuths(path), append=_azimuths(path)[:1]) % 360
    assert float(ahead.max()) < 6
    assert float(ahead.sum()) == pytest.approx(360, abs=1e-2)
    distances = torch.stack([(camera.center - torch.tensor(PIVOT)).norm() for camera in path])
    assert torch.allclose(distances, torch.full((120,), 3.0), atol=0.05)
    assert _level(path) < 1e-5


def test_a_gap_of_a_few_cameras_is_crossed():
    """Three hundred degrees are nearly all around."""
    ahead = torch.diff(_azimuths(turning_path(_arc(300), Z, 90, 640, 480))) % 360
    assert float(ahead.max()) < 8


def test_one_side_is_swung_over():
    """A hundred degrees: to and fro inside them, and closed."""
    capture = _arc(100)
    path = turning_path(capture, Z, 150, 640, 480)
    _assert_sees(path, PIVOT)
    gone, turned = _steps(path)
    assert float(turned.max()) < 2.5
    assert float(gone.max()) < 0.15
    assert float((path[0].center - capture.frames[0].camera.center).norm()) < 0.3
    covered = (_azimuths(path) - 200 + 180) % 360 - 180
    assert 0 < float(covered.min()) < 10
    assert 90 < float(covered.max()) < 100
    assert _nearest(path, capture) < 0.15


def test_rings_at_two_heights_are_both_visited():
    """Nobody was at 20 degrees between the passes at 0 and 40: the swing goes out over one and back over the
    other."""
    capture = _arc(100, 40, elevations=(0.0, 40.0))
    path = turning_path(capture, Z, 150, 640, 480)
    heights = torch.stack([camera.center[2] for camera in path]) - PIVOT[2]
    elevations = (heights / 3).clamp(-1, 1).asin().rad2deg()
    assert float(elevations.min()) < 6
    assert float(elevations.max()) > 34
    # Only where it changes from one to the other it is between them.
    assert float(((elevations > 10) & (elevations < 30)).double().mean()) < 0.2


def test_the_frame_does_not_matter():
    """Another frame and unit: the same path in it."""
    move = pose_from(rotation_from_rotvec(torch.tensor([0.9, -1.7, 0.6])), torch.tensor([3.0, -2.0, 7.0]))
    for capture in (_arc(345), _walk()):
        path = turning_path(capture, Z, 60, 320, 240)
        moved = turning_path(reframed(capture, move, 0.5), move[:3, 2], 60, 320, 240)
        there = reframed(_capture(path), move, 0.5)
        gap = torch.stack([(a.camera.center - b.center).norm() for a, b in zip(there.frames, moved)])
        # A full turn may begin elsewhere on the ring where gaps tie; a walk may not.
        same = torch.cdist(
            torch.stack([f.camera.center for f in there.frames]), torch.stack([c.center for c in moved])
        ).amin(1)
        assert float(same.max()) < 0.1
        if capture.points.numel():
            assert float(gap.max()) < 0.05


def test_a_walk_is_followed_there_and_back():
    """Outward-looking cameras: their path without its shaking, the horizon level, the same way back."""
    capture = _walk(degrees=60, length=2.0)
    path = turning_path(capture, Z, 200, 640, 480)
    gone, turned = _steps(path)
    assert float(gone.max()) < 0.06
    assert float(turned.max()) < 1.2
    # Shaking would turn some steps around.
    directions = torch.stack([camera.center[0] for camera in path]).diff()
    assert bool((directions[:98] > -1e-4).all())
    assert bool((directions[101:] < 1e-4).all())
    assert torch.allclose(path[50].world_from_camera, path[150].world_from_camera, atol=1e-4)
    assert _nearest(path, capture) < 0.2
    assert _level(path) < 1e-5
    assert float(path[100].center[0] - path[0].center[0]) > 1.2


def test_a_long_walk_is_shown_as_far_as_the_eye_can_follow():
    """Three hundred degrees in four seconds are too many: a stretch, at a speed that is no strain."""
    path = turning_path(_walk(400, 1200.0, 20.0), Z, 120, 640, 480)
    _, turned = _steps(path)
    assert float(turned.max()) < 1.5
    assert float(turned.sum()) > 30


def test_side_by_side_needs_points():
    """Parallel cameras have no common point on their axes; the middle of the points serves."""
    cameras = []
    for i in range(15):
        x, z = 0.2 * (i % 5) - 0.4, 0.2 * (i // 5)
        cameras.append(Camera.looking_at((x, 0.0, z), (x, 5.0, z), 640, 480, 50.0))
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(300, 3, generator=draw) + torch.tensor([-0.5, 2.0, -0.3])
    path = turning_path(_capture(cameras, points), Z, 90, 640, 480)
    _assert_sees(path, _triple(points.median(dim=0).values))
    assert _nearest(path, _capture(cameras)) < 0.3
    assert float(_steps(turning_path(_capture(cameras), Z, 90, 640, 480))[1].max()) < 3


def test_one_camera_stands_still():
    """There is nowhere to go, and no error."""
    capture = _capture([Camera.looking_at((1.0, 0.0, 0.0), (0.0, 0.0, 0.0))])
    path = turning_path(capture, Z, 10, 64, 48)
    assert torch.allclose(path[3].world_from_camera, capture.frames[0].camera.world_from_camera, atol=1e-4)


def test_straight_down_keeps_its_horizon():
    """A drone that looks straight down along its way, where up tells nothing about the upper edge."""
    down = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
    poses = [pose_from(down, torch.tensor([0.3 * i, 0.0, 10.0])) for i in range(40)]
    path = turning_path(_capture([Camera.pinhole(p, 64, 48, 50.0) for p in poses]), Z, 120, 64, 48)
    assert float(_steps(path)[1].max()) < 0.5
    assert torch.allclose(path[30].world_from_camera[:3, :3], down, atol=1e-3)


def test_the_lens_is_the_cameras():
    """Focal lengths scale with the size; another shape of video shows less, not more; a fisheye is tamed."""
    capture = _arc(345)
    focal = float(capture.frames[0].camera.K[0, 0])
    assert float(turning_path(capture, Z, 2, 320, 240)[0].K[0, 0]) == pytest.approx(focal / 2)
    wide, tall = (turning_path(capture, Z, 2, *size)[0] for size in ((640, 240), (320, 480)))
    assert float(wide.K[0, 0]) == pytest.approx(focal)
    assert float(tall.K[0, 0]) == pytest.approx(focal)
    assert wide.K[:2, 2].tolist() == [320, 120]
    lens = replace(
        capture.frames[0].camera.rescaled(640, 480),
        K=torch.tensor([[150.0, 0, 320], [0, 150.0, 240], [0, 0, 1]]),
        model=CameraModel.FISHEYE,
        distortion=(0.0, 0.0, 0.0, 0.0),
    )
    fisheyes = [replace(lens, world_from_camera=frame.camera.world_from_camera) for frame in capture.frames]
    camera = turning_path(_capture(fisheyes), Z, 2, 640, 480)[0]
    assert 2 * math.degrees(math.atan(320 / float(camera.K[0, 0]))) == pytest.approx(100)


def test_sizes_of_videos():
    """The pictures' proportions, upright ones upright, both sides even."""
    pose = torch.eye(4)
    sizes = {
        (1080, 1920): (360, 640),
        (640, 480): (640, 480),
        (3008, 2000): (640, 426),
        (5000, 3): (640, 2),
    }
    for (width, height), wanted in sizes.items():
        assert video_size(_capture([Camera.pinhole(pose, width, height, 50.0)])) == wanted
    assert video_size(_capture([Camera.pinhole(pose, 640, 480, 50.0)]), 333) == (332, 250)


def test_bad_calls_are_refused():
    """No cameras, no frames, no direction."""
    capture = _arc(345)
    with pytest.raises(ValueError, match="expected cameras and frames, got 0 cameras"):
        turning_path(Capture(()), Z, 10, 64, 48)
    with pytest.raises(ValueError, match="frames=0"):
        turning_path(capture, Z, 0, 64, 48)
    with pytest.raises(ValueError, match="up direction of non-zero length"):
        turning_path(capture, torch.zeros(3), 10, 64, 48)
    with pytest.raises(ValueError, match="got 0 cameras and 640 px"):
        video_size(Capture(()))


def test_the_fox_is_swung_around(captures: Path):
    """Ninety degrees at three heights, portrait: a portrait video near the cameras."""
    capture = load_capture(captures / "fox")
    size = video_size(capture)
    assert size == (360, 640)
    path = turning_path(capture, Z, 180, *size)
    _, turned = _steps(path)
    assert float(turned.max()) < 2.5
    forward = torch.stack([camera.world_from_camera[:3, 2] for camera in path])
    seen = torch.stack([frame.camera.world_from_camera[:3, 2] for frame in capture.frames])
    assert float((forward @ seen.T).clamp(-1, 1).acos().rad2deg().amin(1).max()) < 25
