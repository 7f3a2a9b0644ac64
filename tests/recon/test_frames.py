"""Frames made ready: undistortion against the camera's own formulas, sizes, and contradictions."""

from dataclasses import replace

import pytest
import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError
from gaussworld.io.images import write_depth, write_image
from recon.frames import carried_over, load_view, undistorted_camera

PINHOLE = Camera.looking_at((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 64, 48, 50.0)
CURVED = replace(PINHOLE, model=CameraModel.OPENCV, distortion=(-0.2, 0.05, 0.002, -0.001))
FISHEYE = replace(PINHOLE, model=CameraModel.FISHEYE, distortion=(0.05, -0.01, 0.0, 0.0))


def _picture_of_directions(camera: Camera) -> torch.Tensor:
    """Each pixel holds its own direction, moved into [0, 1]."""
    return camera.directions(camera.pixel_centers()) * 0.5 + 0.5


@pytest.mark.parametrize("camera", [CURVED, FISHEYE], ids=["opencv", "fisheye"])
def test_undistorted_pixels_show_their_own_directions(camera):
    """A picture that stores the distorted camera's directions becomes the pinhole camera's directions."""
    view = load_view(Frame(camera, _picture_of_directions(camera)))
    assert view.camera.model is CameraModel.PINHOLE
    expected = _picture_of_directions(view.camera)
    assert float((view.image - expected).abs().max()) < 4e-3


@pytest.mark.parametrize("camera", [CURVED, FISHEYE], ids=["opencv", "fisheye"])
def test_the_pinhole_view_is_filled_and_wide(camera):
    """Every pixel of the pinhole camera lies inside the original picture, and some pixel at its very edge."""
    pinhole = undistorted_camera(camera)
    directions = pinhole.directions(pinhole.pixel_centers())
    pixels = camera.distort(directions) @ camera.K[:2, :2].T + camera.K[:2, 2]
    margin = torch.minimum(pixels, torch.tensor([64.0, 48.0]) - pixels).min()
    assert 0.45 < float(margin) < 1.0


def test_a_pinhole_picture_is_left_alone():
    """Without distortion and shrinking, pixels are the same to half a byte."""
    image = torch.rand(48, 64, 3)
    view = load_view(Frame(PINHOLE, image))
    assert float((view.image - image).abs().max()) < 0.51 / 255
    assert view.camera is PINHOLE


def test_shrinking_averages_and_keeps_the_rays():
    """A quarter-size view averages 4x4 pixels and its pixel centres look where the blocks' middles look."""
    image = torch.rand(48, 64, 3)
    view = load_view(Frame(PINHOLE, image), longest=16)
    assert view.image.shape == (12, 16, 3)
    assert torch.allclose(view.image[0, 0], image[:4, :4].mean((0, 1)), atol=5e-3)
    assert torch.allclose(
        view.camera.rays()[1][0, 0],
        PINHOLE.directions(torch.tensor([2.0, 2.0])) @ PINHOLE.world_from_camera[:3, :3].T,
        atol=1e-6,
    )


def test_a_smaller_picture_rescales_its_camera():
    """The camera says 64x48, the picture is 32x24: the same rays at half the resolution."""
    view = load_view(Frame(PINHOLE, torch.zeros(24, 32, 3)))
    assert (view.camera.width, view.camera.height) == (32, 24)
    assert float(view.camera.K[0, 0]) == pytest.approx(float(PINHOLE.K[0, 0]) / 2)


def test_transparency_shows_the_background():
    """Half-transparent white over red is pink."""
    image = torch.ones(48, 64, 4)
    image[..., 3] = 0.5
    view = load_view(Frame(PINHOLE, image))
    assert torch.allclose(view.over((1.0, 0.0, 0.0))[5, 5], torch.tensor([1.0, 0.5, 0.5]), atol=4e-3)
    assert torch.allclose(view.over((0.0, 0.0, 0.0))[5, 5], torch.full((3,), 0.5), atol=4e-3)


def test_hidden_colour_does_not_bleed():
    """Green that is wholly transparent leaves no green in the shrunk picture's visible part."""
    image = torch.zeros(48, 64, 4)
    image[:, :, 1] = 1.0
    image[:, :31, 0], image[:, :31, 1], image[:, :31, 3] = 1.0, 0.0, 1.0
    view = load_view(Frame(PINHOLE, image), longest=16)
    assert view.alpha is not None
    edge = view.over((0.0, 0.0, 0.0))[6, 7]
    assert torch.allclose(edge, torch.tensor([0.75, 0.0, 0.0]), atol=0.01)


def test_masks_and_depth_come_along(tmp_path):
    """A mask twice as large is scaled to the picture; depth in millimetres becomes the unit of the poses."""
    mask = torch.zeros(96, 128)
    mask[:, 64:] = 1.0
    write_image(tmp_path / "mask.png", mask)
    write_depth(tmp_path / "depth.png", torch.full((48, 64), 1.5))
    frame = Frame(PINHOLE, torch.rand(48, 64, 3), mask=tmp_path / "mask.png", depth=tmp_path / "depth.png")
    view = load_view(frame, longest=32, metres_per_unit=0.5)
    assert view.mask is not None
    assert view.depth is not None
    assert view.mask[:, 16:].all()
    assert not view.mask[:, :16].any()
    assert torch.allclose(view.depth, torch.full((24, 32), 3.0))


def test_a_mask_of_another_picture_is_refused(tmp_path):
    """Proportions that do not fit name the file and both sizes."""
    write_image(tmp_path / "mask.png", torch.zeros(64, 64))
    with pytest.raises(CaptureError, match=r"mask\.png: expected .*64x48, got 64x64"):
        load_view(Frame(PINHOLE, torch.rand(48, 64, 3), mask=tmp_path / "mask.png"))


def test_depth_of_another_camera_is_carried_over():
    """A plane 2 in front of both cameras has depth 2 in the picture's camera, wherever it is seen."""
    pose = PINHOLE.world_from_camera.clone()
    pose[:3, 3] += pose[:3, 0] * 0.1
    beside = Camera.pinhole(pose, 128, 96, 60.0)
    carried = carried_over(torch.full((96, 128), 2.0), beside, PINHOLE)
    known = carried > 0
    assert float(known.float().mean()) > 0.9
    assert torch.allclose(carried[known], torch.tensor(2.0), atol=1e-5)
    front = torch.full((96, 128), 2.0)
    front[40:60, 60:80] = 1.0
    assert float(carried_over(front, beside, PINHOLE)[24, 32]) < 1.01
