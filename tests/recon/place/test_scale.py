"""Scale from depth, distances and tags: known units are found again, and failures say why."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError
from gaussworld.io.images import write_depth
from recon.place.align import reframed
from recon.place.scale import (
    Scale,
    chosen_scale,
    known_scale,
    scale_from_depth,
    scale_from_pixels,
    scale_from_points,
    scale_from_tags,
)
from recon.place.tags import find_tags
from recon.place.triangulate import located, triangulate, visible
from recon.synthetic import TabletopConfig, tabletop

_TAG = 0.16
_SUPERSAMPLED = 4


def _corners(center: tuple[float, float, float], size: float = _TAG) -> torch.Tensor:
    """[m] A tag on a floor, its corners in the order of its pattern seen from above."""
    offsets = torch.tensor([[-1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]])
    return torch.tensor(center) + offsets * size / 2


def _photograph(camera: Camera, tags: dict[int, torch.Tensor], noise: float = 2.0) -> torch.Tensor:
    """The picture a camera takes of tags on a grey floor, with a little blur and noise."""
    picture = np.full((camera.height, camera.width), 128.0, np.float32)
    for number, corners in tags.items():
        picture = _pasted(picture, camera, number, corners)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.6)
    picture = picture + np.random.default_rng(camera.width).normal(0, noise, picture.shape)
    if camera.distortion:
        plane = camera.directions(camera.pixel_centers())
        pixels = plane[..., :2] / plane[..., 2:] @ camera.K[:2, :2].T + camera.K[:2, 2]
        x, y = (pixels.numpy() - 0.5).astype(np.float32).transpose(2, 0, 1)
        picture = cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_CUBIC, borderValue=128.0)
    return (torch.from_numpy(picture).float() / 255).clamp(0, 1)[..., None].expand(-1, -1, 3)


def _pasted(picture: np.ndarray, camera: Camera, number: int, corners: torch.Tensor) -> np.ndarray:
    aruco = cv2.aruco
    tag = aruco.generateImageMarker(aruco.getPredefinedDictionary(aruco.DICT_APRILTAG_36h11), number, 80)
    sheet = np.pad(tag, 10, constant_values=255).astype(np.float32)
    inside = np.array([[10, 10], [90, 10], [90, 90], [10, 90]], np.float32)
    pixels, _ = camera.undistorted().project(corners)
    s, h = _SUPERSAMPLED, cv2.getPerspectiveTransform(inside, pixels.numpy().astype(np.float32))
    # OpenCV counts from the middle of the first pixel, h from its corner.
    h = (
        np.array([[s, 0, -0.5], [0, s, -0.5], [0, 0, 1]])
        @ h
        @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    )
    size = (camera.width * s, camera.height * s)
    drawn, covered = (cv2.warpPerspective(x, h, size) for x in (sheet, np.ones_like(sheet)))
    drawn, covered = (
        cv2.resize(x, picture.shape[::-1], interpolation=cv2.INTER_AREA) for x in (drawn, covered)
    )
    return picture * (1 - covered) + drawn


def _cameras(count: int = 5, distortion: Sequence[float] = ()) -> list[Camera]:
    cameras = []
    for i in range(count):
        angle = 0.9 * i - 1.8
        eye = (1.1 * math.sin(angle), -1.1 * math.cos(angle), 0.9 + 0.1 * i)
        camera = Camera.looking_at(eye, (0.05 * i, 0.0, 0.0), 480, 360, 45.0)
        lens = CameraModel.OPENCV if distortion else CameraModel.PINHOLE
        cameras.append(replace(camera, model=lens, distortion=tuple(distortion)))
    return cameras


def _tagged(unit: float = 1.0, distortion: Sequence[float] = ()) -> Capture:
    """Two tags seen by five cameras, in a capture whose unit is `unit` metres."""
    tags = {7: _corners((-0.2, 0.1, 0.0)), 3: _corners((0.25, -0.05, 0.0))}
    frames = tuple(Frame(camera, _photograph(camera, tags)) for camera in _cameras(5, distortion))
    return reframed(Capture(frames), torch.eye(4), 1 / unit)


@pytest.fixture(scope="module")
def tagged() -> Capture:
    """Rendered once: one unit is 2.7 m."""
    return _tagged(2.7)


@pytest.fixture(scope="module")
def table() -> Capture:
    """The tabletop from eight sides, in metres."""
    return tabletop(TabletopConfig(views=8, width=160, height=120, points=2000))


def _with_depth_files(capture: Capture, folder: Path, unit: float) -> Capture:
    """The capture as structure from motion would hand it over, in units of `unit` metres, depth in files."""
    frames = []
    for i, frame in enumerate(capture.frames):
        assert isinstance(frame.depth, torch.Tensor)
        write_depth(folder / f"{i}.png", frame.depth)
        frames.append(replace(frame, depth=folder / f"{i}.png"))
    scaled = replace(capture, frames=tuple(frames), metres_per_unit=None)
    return reframed(scaled, torch.eye(4), 1 / unit)


def test_corners_are_exact():
    """A tag's corners are found to a quarter of a pixel, in the pattern's order, in our coordinates."""
    camera, corners = _cameras()[0], _corners((0.0, 0.0, 0.0))
    picture = (_photograph(camera, {11: corners})[..., 0] * 255).to(torch.uint8)
    ((number, found),) = find_tags(picture)
    assert number == 11
    truth, _ = camera.project(corners)
    assert float((found - truth).abs().max()) < 0.25


def test_tags_give_the_scale(tagged: Capture):
    """Two tags in five pictures: a length within half a percent, with its figures in a sentence."""
    scale = scale_from_tags(tagged, _TAG)
    assert scale.source == "apriltag"
    assert scale.metres_per_unit == pytest.approx(2.7, rel=0.005)
    assert scale.confidence > 0.7
    assert "2 tag(s) tag36h11 of 0.16 m (id 3, 7), seen 10 times" in scale.detail


def test_tags_through_a_bent_lens():
    """Distortion is undone before triangulation."""
    scale = scale_from_tags(_tagged(0.5, (-0.25, 0.06, 0.0, 0.0)), _TAG)
    assert scale.metres_per_unit == pytest.approx(0.5, rel=0.01)


def test_one_wrong_camera_does_not_matter(tagged: Capture):
    """A camera that structure from motion put elsewhere is outvoted."""
    wrong = tagged.frames[2]
    pose = wrong.camera.world_from_camera.clone()
    pose[:3, 3] += torch.tensor([0.05, -0.03, 0.04])
    frames = list(tagged.frames)
    frames[2] = replace(wrong, camera=replace(wrong.camera, world_from_camera=pose))
    scale = scale_from_tags(replace(tagged, frames=tuple(frames)), _TAG)
    assert scale.metres_per_unit == pytest.approx(2.7, rel=0.01)


def test_no_tag_is_said(tagged: Capture):
    """None at all, one picture only, a wrong family, a wrong size."""
    with pytest.raises(CaptureError, match="family tag36h11 in the pictures, got none in 2"):
        blank = Frame(tagged.frames[0].camera, torch.full((360, 480, 3), 0.5))
        scale_from_tags(Capture((blank, blank)), _TAG)
    with pytest.raises(CaptureError, match="two pictures from different places, got 2 sighting"):
        scale_from_tags(replace(tagged, frames=tagged.frames[:1]), _TAG)
    with pytest.raises(CaptureError, match="got 4 sighting"):
        scale_from_tags(replace(tagged, frames=tagged.frames[:1] * 2), _TAG)
    with pytest.raises(ValueError, match=r"among tag16h5, .* got 'tag99'"):
        scale_from_tags(tagged, _TAG, "tag99")
    with pytest.raises(ValueError, match="positive tag size"):
        scale_from_tags(tagged, 0.0)


def test_depth_gives_the_scale(table: Capture, tmp_path: Path):
    """Sensor depth in millimetres against noisy points, many of which other things hide."""
    capture = _with_depth_files(table, tmp_path, 0.37)
    scale = scale_from_depth(capture)
    assert scale.source == "depth"
    assert scale.metres_per_unit == pytest.approx(0.37, rel=0.003)
    assert scale.confidence > 0.6
    assert chosen_scale(capture) == scale


def test_the_depth_camera_is_used(table: Capture, tmp_path: Path):
    """Depth of another camera than the picture's: its own pose and lens count."""
    capture = _with_depth_files(table, tmp_path, 1.0)
    aside = torch.eye(4)
    aside[0, 3] = 0.3
    frames = tuple(
        replace(
            frame,
            depth_camera=frame.camera,
            camera=replace(frame.camera, world_from_camera=frame.camera.world_from_camera @ aside),
        )
        for frame in capture.frames
    )
    assert scale_from_depth(replace(capture, frames=frames)).metres_per_unit == pytest.approx(1.0, rel=0.003)


def test_depth_that_does_not_fit_is_refused(table: Capture, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Depth that is noise, no depth at all, and no points."""
    capture = _with_depth_files(table, tmp_path, 1.0)
    draw = torch.Generator().manual_seed(0)
    for i in range(len(capture)):
        blocks = torch.exp(torch.rand(1, 1, 12, 16, generator=draw) * 4 - 2)
        write_depth(tmp_path / f"{i}.png", torch.nn.functional.interpolate(blocks, scale_factor=10.0)[0, 0])
    with pytest.raises(CaptureError, match="to agree on a scale, got only"):
        scale_from_depth(capture)
    assert chosen_scale(capture) is None
    assert "the scale stays unknown: expected sensor depth and points to agree" in caplog.text
    with pytest.raises(CaptureError, match="got 0 from 2000 points and 0 depth files"):
        scale_from_depth(replace(table, metres_per_unit=None))
    bare = replace(capture, points=torch.zeros(0, 3), colors=torch.zeros(0, 3))
    with pytest.raises(CaptureError, match="got 0 from 0 points"):
        scale_from_depth(bare)


def test_two_places_and_a_distance():
    """Five units were measured as two metres."""
    scale = scale_from_points((0.0, 0.0, 0.0), (3.0, 4.0, 0.0), 2.0)
    assert scale.metres_per_unit == pytest.approx(0.4)
    assert scale.source == "points"
    with pytest.raises(ValueError, match="two different places"):
        scale_from_points((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 2.0)
    with pytest.raises(ValueError, match="positive distance"):
        scale_from_points((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), -2.0)


def test_two_pixels_and_a_distance(table: Capture):
    """Two spots on the table: from the points around them, and better from a second picture."""
    spots = torch.tensor([[-0.30, 0.16, 0.0], [0.20, -0.32, 0.0]])
    distance = float((spots[0] - spots[1]).norm())
    (a, b), (again_a, again_b) = (
        [(float(x), float(y)) for x, y in table.frames[i].camera.project(spots)[0]] for i in (1, 3)
    )
    one = scale_from_pixels(table, 1, a, b, distance)
    assert one.metres_per_unit == pytest.approx(1.0, rel=0.05)
    two = scale_from_pixels(table, 1, a, b, distance, (3, again_a, again_b))
    assert two.metres_per_unit == pytest.approx(1.0, rel=1e-3)
    assert two.confidence > one.confidence
    assert chosen_scale(table, pixels=(1, a, b, distance)) == one


def test_bad_pixels_are_refused(table: Capture):
    """Outside the picture, no such frame, rays that do not meet, and no points to go by."""
    a, b = (40.0, 60.0), (100.0, 60.0)
    with pytest.raises(ValueError, match=r"inside the 160x120 picture of frame 0, got \(200, 60\)"):
        scale_from_pixels(table, 0, (200.0, 60.0), b, 1.0)
    with pytest.raises(ValueError, match="one of 8 frames, got 9"):
        scale_from_pixels(table, 9, a, b, 1.0)
    with pytest.raises(CaptureError, match="frames 0 and 4 to meet in space"):
        scale_from_pixels(table, 0, a, b, 1.0, (4, (10.0, 110.0), (150.0, 5.0)))
    bare = replace(table, points=torch.zeros(0, 3), colors=torch.zeros(0, 3))
    with pytest.raises(CaptureError, match="frame 0: expected at least 3 sparse points"):
        scale_from_pixels(bare, 0, a, b, 1.0)


def test_the_better_founded_scale_is_taken(tagged: Capture):
    """Given beats tags, tags a distance, a distance the input's own unit; nothing known is None."""
    metric = replace(tagged, metres_per_unit=2.0)
    two = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 5.0)
    given = chosen_scale(metric, metres_per_unit=3.0, tag_size=_TAG, points=two)
    assert given == Scale(3.0, "given", 1.0, "One unit is 3 m, as given.")
    sources = [
        chosen_scale(metric, tag_size=_TAG, points=two),
        chosen_scale(metric, points=two),
        chosen_scale(metric),
    ]
    assert [scale.source for scale in sources if scale] == ["apriltag", "points", "input"]
    assert known_scale(tagged) is None
    assert chosen_scale(tagged) is None
    with pytest.raises(ValueError, match="positive length of one unit"):
        chosen_scale(tagged, metres_per_unit=0.0)


def test_rays_meet_in_front_of_all_lenses():
    """Exact pixels of pinhole, bent and fisheye cameras triangulate to the points they show."""
    points = torch.tensor([[0.1, 0.2, 0.0], [-0.3, 0.1, 0.2]])
    cameras = _cameras(4)
    cameras[1] = replace(cameras[1], model=CameraModel.FISHEYE, distortion=(0.05, -0.01, 0.0, 0.0))
    cameras[2] = replace(cameras[2], model=CameraModel.OPENCV, distortion=(-0.2, 0.05, 0.001, 0.002))
    found = triangulate(cameras, torch.stack([camera.project(points)[0] for camera in cameras]))
    assert torch.allclose(found.points.float(), points, atol=1e-5)
    assert float(found.errors.max()) < 1e-2
    assert float(found.parallax.min()) > 1.0


def test_places_from_points_around():
    """Points of a slanted plane, some of a wall far behind: pixels land on the plane."""
    camera = Camera.looking_at((0.0, -2.0, 1.0), (0.0, 0.0, 0.0), 320, 240, 50.0)
    draw = torch.Generator().manual_seed(0)
    plane = torch.rand(400, 3, generator=draw) * 2 - 1
    plane[:, 2] = 0.3 * plane[:, 0]
    behind = torch.rand(80, 3, generator=draw) * 2 - 1 + torch.tensor([0.0, 6.0, 0.0])
    truth = torch.tensor([[0.3, 0.1, 0.09], [-0.4, -0.2, -0.12]])
    places, spreads = located(camera, torch.cat([plane, behind]), camera.project(truth)[0])
    assert torch.allclose(places, truth, atol=0.02)
    assert float(spreads.max()) < 0.05


def test_what_a_bent_lens_folds_is_not_visible():
    """A strong lens maps points far aside back into the picture; they are not in it."""
    camera = replace(_cameras(1)[0], model=CameraModel.OPENCV, distortion=(-0.35, 0.0, 0.0, 0.0))
    ahead = camera.unproject(torch.tensor([[240.0, 180.0], [100.0, 90.0]]), torch.tensor([1.0, 2.0]))
    aside = camera.center + (camera.world_from_camera[:3, :3] @ torch.tensor([1.7, 0.0, 1.0]))
    rows, pixels, depths = visible(camera, torch.cat([ahead, aside[None]]))
    assert rows.tolist() == [0, 1]
    assert torch.allclose(pixels[1], torch.tensor([100.0, 90.0]), atol=1e-2)
    assert torch.allclose(depths, torch.tensor([1.0, 2.0]), atol=1e-4)
