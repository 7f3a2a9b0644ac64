"""Frames made ready: undistortion against the camera's own formulas, sizes, and contradictions."""

from dataclasses import replace

import pytest
import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Frame
from recon.frames import load_view, undistorted_camera

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
    assert float((view.image - expected).abs().max()) < 2e-3


@pytest.mark.parametrize("camera", [CURVED, FISHEYE], ids=["opencv", "fisheye"])
def test_the_pinhole_view_is_filled_and_wide(camera):
    """Every pixel of the pinhole camera lies inside the original picture, and some pixel at its very edge."""
    pinhole = undistorted_camera(camera)
    directions = pinhole.directions(pinhole.pixel_centers())
    pixels = camera.distort(directions) @ camera.K[:2, :2].T + camera.K[:2, 2]
    margin = torch.minimum(pixels, torch.tensor([64.0, 48.0]) - pixels).min()
    assert 0.45 < float(margin) < 1.0


def test_a_pinhole_picture_is_left_alone():
    """Without distortion and shrinking, pixels are the very same."""
    image = torch.rand(48, 64, 3)
    view = load_view(Frame(PINHOLE, image))
    assert view.image is image
    assert view.camera is PINHOLE


def test_shrinking_averages_and_keeps_the_rays():
    """A quarter-size view averages 4x4 pixels and its pixel centres look where the blocks' middles look."""
    image = torch.rand(48, 64, 3)
    view = load_view(Frame(PINHOLE, image), shrink=4)
    assert view.image.shape == (12, 16, 3)
    assert torch.allclose(view.image[0, 0], image[:4, :4].mean((0, 1)), atol=1e-6)
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
    view = load_view(Frame(PINHOLE, image), background=(1.0, 0.0, 0.0))
    assert torch.allclose(view.image[5, 5], torch.tensor([1.0, 0.5, 0.5]))
