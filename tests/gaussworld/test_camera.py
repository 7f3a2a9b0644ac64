"""Cameras: round trips, agreement with OpenCV and COLMAP, pixel conventions, and what is refused.

K's principal point is compared in one pixel convention: shifting both it and the pixels by half a
pixel changes nothing, so OpenCV's centre-at-integer formulas give our numbers.
"""

import math
from dataclasses import FrozenInstanceError, replace

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.camera import Camera, CameraModel
from gaussworld.pose import OPENGL_FROM_OPENCV, look_at, transform_points

DOUBLE = torch.float64
seeds = st.integers(0, 2**31 - 1)

#: name -> (model, distortion): mild, strong, rational and wide-angle lenses.
LENSES = {
    "pinhole": (CameraModel.PINHOLE, ()),
    "opencv": (CameraModel.OPENCV, (-0.1, 0.02, 0.001, -0.002)),
    "opencv5": (CameraModel.OPENCV, (-0.28, 0.09, 0.003, -0.004, -0.01)),
    "rational": (CameraModel.OPENCV, (0.6, 0.1, 0.0007, -0.0005, 0.02, 0.9, 0.25, 0.05)),
    "strong": (CameraModel.OPENCV, (-0.42, 0.22, 0.004, 0.003, -0.03)),
    "fisheye": (CameraModel.FISHEYE, (0.05, -0.01, 0.003, -0.0005)),
    "wide fisheye": (CameraModel.FISHEYE, (-0.03, -0.006, 0.002, -0.0003)),
}
BENT = [name for name in LENSES if name != "pinhole"]


def camera_of(lens, dtype=DOUBLE):
    model, distortion = LENSES[lens]
    K = torch.tensor([[420.0, 0, 315.5], [0, 410.0, 238.25], [0, 0, 1]], dtype=dtype)
    pose = look_at(torch.tensor([1.0, -2.0, 0.5], dtype=dtype), torch.tensor([0.2, 0.1, 0.0], dtype=dtype))
    return Camera(pose, K, 640, 480, model, distortion)


def cone(seed, count, widest_deg):
    """Unit directions in the camera frame up to an angle off the axis."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.rand(count, generator=generator, dtype=DOUBLE) * math.radians(widest_deg)
    phi = torch.rand(count, generator=generator, dtype=DOUBLE) * 2 * math.pi
    return torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)


def in_front(camera, seed=0, count=200, widest_deg=40.0):
    """World points before the camera, 0.5 to 5 m away."""
    distance = 0.5 + 4.5 * torch.rand(
        count, 1, generator=torch.Generator().manual_seed(seed + 1), dtype=DOUBLE
    )
    return transform_points(camera.world_from_camera, cone(seed, count, widest_deg) * distance)


@pytest.mark.parametrize("lens", LENSES)
@given(seed=seeds)
@settings(max_examples=10)
def test_unproject_inverts_project(lens, seed):
    camera = camera_of(lens)
    points = in_front(camera, seed)
    pixels, depths = camera.project(points)
    assert (depths > 0).all()
    torch.testing.assert_close(camera.unproject(pixels, depths), points, rtol=0, atol=1e-9)


@pytest.mark.parametrize("lens", LENSES)
def test_project_inverts_unproject_on_every_pixel(lens):
    camera = camera_of(lens)
    pixels = camera.pixel_centers().reshape(-1, 2)[::37]
    depths = torch.linspace(0.5, 4.0, len(pixels), dtype=DOUBLE)
    found, z = camera.project(camera.unproject(pixels, depths))
    torch.testing.assert_close(found, pixels, rtol=0, atol=1e-7)
    torch.testing.assert_close(z, depths)


@pytest.mark.parametrize("lens", LENSES)
def test_single_precision_round_trip(lens):
    camera = camera_of(lens, torch.float32)
    points = in_front(camera_of(lens)).float()
    pixels, depths = camera.project(points)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(camera.unproject(pixels, depths), points, rtol=0, atol=2e-5)


@pytest.mark.parametrize("lens", LENSES)
def test_projection_agrees_with_opencv(lens):
    camera = camera_of(lens)
    points = in_front(camera)
    pose = camera.camera_from_world.numpy()
    rotation, translation = cv2.Rodrigues(pose[:3, :3])[0], pose[:3, 3]
    K, distortion = camera.K.numpy(), np.array(camera.distortion)
    rows = points.numpy()[:, None]
    if camera.model is CameraModel.FISHEYE:
        wanted, _ = cv2.fisheye.projectPoints(rows, rotation, translation, K, distortion)
    else:
        wanted, _ = cv2.projectPoints(rows, rotation, translation, K, distortion if len(distortion) else None)
    np.testing.assert_allclose(camera.project(points)[0].numpy(), wanted[:, 0], atol=1e-8)


@pytest.mark.parametrize(
    ("lens", "model"),
    [
        ("pinhole", "PINHOLE"),
        ("opencv", "OPENCV"),
        ("opencv5", "FULL_OPENCV"),
        ("rational", "FULL_OPENCV"),
        ("fisheye", "OPENCV_FISHEYE"),
        ("wide fisheye", "OPENCV_FISHEYE"),
    ],
)
def test_projection_agrees_with_colmap(lens, model):
    camera = camera_of(lens)
    K, padding = camera.K, 8 if model == "FULL_OPENCV" else len(camera.distortion)
    distortion = (*camera.distortion, *(0.0,) * (padding - len(camera.distortion)))
    params = [float(v) for v in (K[0, 0], K[1, 1], K[0, 2], K[1, 2], *distortion)]
    colmap = pycolmap.Camera(model=model, width=640, height=480, params=params)
    points = in_front(camera)
    in_camera = transform_points(camera.camera_from_world, points)
    np.testing.assert_allclose(
        camera.project(points)[0].numpy(), np.array(colmap.img_from_cam(in_camera.numpy())), atol=1e-8
    )


@pytest.mark.parametrize("lens", ["opencv", "opencv5", "rational"])
def test_undistortion_agrees_with_opencv(lens):
    camera = camera_of(lens)
    plane = camera.distort(cone(3, 100, 35.0))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    distortion = np.array(camera.distortion)
    wanted = cv2.undistortPoints(plane.numpy()[:, None], np.eye(3), distortion, criteria=criteria)
    found = camera.undistort(plane)
    np.testing.assert_allclose((found[:, :2] / found[:, 2:]).numpy(), wanted[:, 0], atol=1e-7)


@pytest.mark.parametrize("lens", ["fisheye", "wide fisheye"])
def test_fisheye_undistortion_agrees_with_opencv(lens):
    camera = camera_of(lens)
    plane = camera.distort(cone(4, 100, 60.0))
    wanted = cv2.fisheye.undistortPoints(plane.numpy()[:, None], np.eye(3), np.array(camera.distortion))
    found = camera.undistort(plane)
    np.testing.assert_allclose((found[:, :2] / found[:, 2:]).numpy(), wanted[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "distortion", "widest_deg"),
    [
        (CameraModel.OPENCV, (-0.5, 0.3, 0.01, -0.01, -0.05), 40),
        (CameraModel.OPENCV, (0.9, 0.5, -0.01, 0.01, 0.3), 65),
        (CameraModel.OPENCV, (12.0, 5.0, 0.0, 0.0, 0.4, 12.3, 9.0, 1.5), 65),
        (CameraModel.FISHEYE, (0.0, 0.0, 0.0, 0.0), 175),
        (CameraModel.FISHEYE, (0.4, -0.1, 0.02, 0.01), 120),
        (CameraModel.FISHEYE, (-0.07, 0.003, -0.0005, 0.00002), 110),
    ],
)
def test_undistort_inverts_distort_for_strong_lenses(model, distortion, widest_deg):
    camera = Camera(torch.eye(4), torch.eye(3), 8, 8, model, distortion)
    directions = cone(5, 2000, widest_deg)
    found = camera.undistort(camera.distort(directions))
    torch.testing.assert_close(found, directions, rtol=0, atol=1e-7)


def test_coordinates_beyond_the_edge_of_the_lens_get_finite_unit_directions():
    for name in BENT:
        camera = replace(camera_of(name), width=6400, height=6400)
        directions = camera.undistort(torch.tensor([[50.0, 0], [0, -9], [3, 3], [1e6, 1e6]], dtype=DOUBLE))
        assert torch.isfinite(directions).all()
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones(4, dtype=DOUBLE))


@pytest.mark.parametrize("lens", LENSES)
def test_the_optical_axis_is_exact_and_has_gradients(lens):
    camera = camera_of(lens)
    axis = torch.tensor(
        [[0.0, 0, 2.0], [1e-12, 0, 1.0], [1e-5, -1e-5, 1.0]], dtype=DOUBLE, requires_grad=True
    )
    plane = camera.distort(axis)
    torch.testing.assert_close(plane, axis[:, :2] / axis[:, 2:], rtol=0, atol=1e-9)
    plane.sum().backward()
    torch.testing.assert_close(axis.grad[:, 0], torch.tensor([0.5, 1, 1], dtype=DOUBLE), rtol=0, atol=1e-3)
    at_centre = camera.undistort(torch.zeros(1, 2, dtype=DOUBLE))
    torch.testing.assert_close(at_centre, torch.tensor([[0.0, 0, 1]], dtype=DOUBLE))


@pytest.mark.parametrize("lens", LENSES)
def test_gradients_both_ways(lens):
    camera = camera_of(lens)
    directions = (cone(6, 4, 30.0) * 1.5).requires_grad_()
    assert torch.autograd.gradcheck(camera.distort, directions, atol=1e-6)
    plane = camera.distort(directions).detach().requires_grad_()
    assert torch.autograd.gradcheck(camera.undistort, plane, atol=1e-5)


def test_points_behind_have_depths_below_zero():
    camera = Camera.looking_at((0.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    _, depths = camera.project(torch.tensor([[2.0, 0, 0], [-3.0, 0, 0]]))
    assert depths.tolist() == pytest.approx([2, -3])


def test_looking_at_puts_the_target_in_the_middle_and_up_up():
    camera = Camera.looking_at((1.0, 2.0, 3.0), (4.0, -1.0, 0.5), 200, 100)
    pixels, _ = camera.project(torch.tensor([[4.0, -1, 0.5], [4.0, -1, 0.6]]))
    assert pixels[0].tolist() == pytest.approx([100, 50], abs=1e-3)
    assert pixels[1, 1] < 50


def test_pinhole_field_of_view_is_vertical():
    camera = Camera.pinhole(torch.eye(4), 300, 100, 60.0)
    top = torch.tensor([[0.0, -math.tan(math.radians(30)), 1.0]])
    assert camera.project(top)[0][0].tolist() == pytest.approx([150, 0], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("lens", LENSES)
def test_rays_pass_through_pixel_centres(lens, dtype):
    camera = camera_of(lens, dtype).rescaled(32, 24)
    origin, rays = camera.rays()
    assert rays.shape == (24, 32, 3)
    assert rays.dtype == dtype
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(24, 32, dtype=dtype))
    pixels, _ = camera.project((origin + 3 * rays).reshape(-1, 3))
    torch.testing.assert_close(pixels, camera.pixel_centers().reshape(-1, 2), rtol=0, atol=1e-4)
    assert camera.pixel_centers()[0, 0].tolist() == [0.5, 0.5]
    assert camera.pixel_centers()[2, 5].tolist() == [5.5, 2.5]


@pytest.mark.parametrize("lens", LENSES)
def test_rescaling_scales_pixels_and_keeps_corners(lens):
    camera = camera_of(lens)
    half = camera.rescaled(320, 160)
    points = in_front(camera)
    factor = torch.tensor([320 / 640, 160 / 480], dtype=DOUBLE)
    torch.testing.assert_close(half.project(points)[0], camera.project(points)[0] * factor)
    corners = torch.tensor([[0.0, 0], [640, 480]], dtype=DOUBLE)
    torch.testing.assert_close(half.directions(corners * factor), camera.directions(corners))
    assert (half.width, half.height) == (320, 160)


def test_cropping_shifts_pixels():
    camera = camera_of("opencv")
    part = camera.cropped(100, 40, 200, 150)
    points = in_front(camera)
    shift = torch.tensor([100.0, 40], dtype=DOUBLE)
    torch.testing.assert_close(part.project(points)[0], camera.project(points)[0] - shift)
    assert (part.width, part.height) == (200, 150)


def test_undistorted_is_the_pinhole_twin():
    camera = camera_of("fisheye").undistorted()
    assert camera.model is CameraModel.PINHOLE
    assert camera.distortion == ()
    assert torch.equal(camera.K, camera_of("pinhole").K)


def test_opengl_poses_become_ours_by_one_product():
    """An OpenGL camera sees along -z with y up; what it has ahead and above, ours has ahead and above."""
    ours = camera_of("pinhole")
    world_from_opengl = ours.world_from_camera @ OPENGL_FROM_OPENCV.double()
    ahead = transform_points(world_from_opengl, torch.tensor([[0.0, 0.1, -2.0]], dtype=DOUBLE))
    back = Camera(world_from_opengl @ OPENGL_FROM_OPENCV.double(), ours.K, 640, 480)
    pixels, depths = back.project(ahead)
    assert depths.tolist() == pytest.approx([2.0])
    assert pixels[0].tolist() == pytest.approx([315.5, 238.25 - 410 * 0.05])


def test_centre_and_inverse():
    camera = camera_of("pinhole")
    assert camera.center.tolist() == [1.0, -2.0, 0.5]
    torch.testing.assert_close(
        camera.camera_from_world @ camera.world_from_camera, torch.eye(4, dtype=DOUBLE)
    )


def test_no_points():
    for lens in LENSES:
        pixels, depths = camera_of(lens).project(torch.zeros(0, 3, dtype=DOUBLE))
        assert pixels.shape == (0, 2)
        assert camera_of(lens).unproject(pixels, depths).shape == (0, 3)


def test_cameras_are_frozen():
    with pytest.raises(FrozenInstanceError):
        camera_of("pinhole").width = 3


K = torch.tensor([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])


def spoiled(tensor, index, value):
    copy = tensor.clone()
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"world_from_camera": torch.eye(3)},
            r"Camera.world_from_camera: expected shape \(4, 4\), got \(3, 3\)",
        ),
        ({"K": torch.eye(4)}, r"Camera.K: expected shape \(3, 3\), got \(4, 4\)"),
        ({"width": 0}, "expected a width and height of at least 1 px, got 0x48"),
        ({"height": -1}, "expected a width and height of at least 1 px, got 64x-1"),
        ({"K": spoiled(K, (0, 0), -5)}, "Camera.K: .* positive focal lengths, got fx=-5, fy=100"),
        ({"K": spoiled(K, (1, 2), math.nan)}, "Camera.K: expected finite values"),
        ({"K": spoiled(K, (0, 1), 0.5)}, r"Camera.K: expected rows fx 0 cx, 0 fy cy, 0 0 1 \(no skew\)"),
        ({"K": K.T}, r"Camera.K: expected rows"),
        ({"world_from_camera": torch.eye(4) * math.inf}, "Camera.world_from_camera: expected finite values"),
        (
            {"world_from_camera": torch.diag(torch.tensor([2.0, 2, 2, 1]))},
            "orthonormal columns, got an error of 3",
        ),
        ({"world_from_camera": torch.diag(torch.tensor([1.0, -1, 1, 1]))}, "got a mirror image"),
        ({"distortion": (0.1,)}, "Camera.distortion: PINHOLE expects 0 values, got 1"),
        ({"model": CameraModel.OPENCV, "distortion": (0.1, 0.2)}, "OPENCV expects 4 or 5 or 8 values, got 2"),
        ({"model": CameraModel.FISHEYE}, "FISHEYE expects 4 values, got 0"),
        (
            {"model": CameraModel.FISHEYE, "distortion": (0.1, 0, 0, math.inf)},
            "distortion: expected finite values",
        ),
    ],
)
def test_bad_cameras_say_why(changes, message, as_in_production):
    good = {"world_from_camera": torch.eye(4), "K": K, "width": 64, "height": 48}
    Camera(**good)
    with pytest.raises(ValueError, match=message):
        Camera(**{**good, **changes})


@pytest.mark.parametrize("fov_deg", [0.0, 180.0, -10.0, math.nan])
def test_impossible_fields_of_view(fov_deg):
    with pytest.raises(ValueError, match="expected a field of view between 0 and 180 degrees"):
        Camera.pinhole(torch.eye(4), 10, 10, fov_deg)
