"""The unscented projection against OpenCV, EWA without distortion, sampling, and finite differences."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.gaussians import Gaussians
from gaussworld.pose import rotation_from_quats
from gaussworld.render import RenderSettings, render
from gaussworld.render.projection import project_pinhole
from gaussworld.render.unscented import fold_radius, project_unscented, unscented_moments

FOX = Path(__file__).parents[4] / "shared" / "data" / "fox" / "transforms.json"
LENSES = {
    "opencv": (CameraModel.OPENCV, (-0.12, 0.05, 0.002, -0.001, 0.01)),
    "rational": (CameraModel.OPENCV, (0.2, -0.05, 0.001, 0.001, 0.01, 0.25, 0.02, 0.0)),
    "fisheye": (CameraModel.FISHEYE, (-0.04, 0.02, -0.006, 0.001)),
}
SETTINGS = RenderSettings()


def points(n: int, spread: float, log_scale: float = -12.0) -> Gaussians:
    """Point-like Gaussians around (0, 0, 2)."""
    g = torch.Generator().manual_seed(0)
    means = spread * (2 * torch.rand(n, 3, generator=g, dtype=torch.float64) - 1)
    return Gaussians(
        means + torch.tensor([0.0, 0.0, 2.0]),
        torch.randn(n, 4, generator=g, dtype=torch.float64),
        torch.full((n, 3), log_scale, dtype=torch.float64),
        torch.full((n,), 2.0, dtype=torch.float64),
        torch.zeros(n, 1, 3, dtype=torch.float64),
    )


def lens(name: str, width: int = 160, height: int = 120, focal: float = 70.0) -> Camera:
    model, distortion = LENSES[name]
    K = torch.tensor(
        [[focal, 0, width / 2 - 3], [0, focal + 2, height / 2 + 1], [0, 0, 1]], dtype=torch.float64
    )
    return Camera(torch.eye(4, dtype=torch.float64), K, width, height, model, distortion)


def opencv_pixels(camera: Camera, means: torch.Tensor) -> torch.Tensor:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    rotation, shift = np.zeros(3), np.zeros(3)
    K, distortion = camera.K.double().numpy(), np.array(camera.distortion)
    if camera.model is CameraModel.FISHEYE:
        found, _ = cv2.fisheye.projectPoints(means.numpy()[:, None], rotation, shift, K, distortion)
    else:
        found, _ = cv2.projectPoints(means.numpy(), rotation, shift, K, distortion)
    return torch.from_numpy(found[:, 0])


@pytest.mark.parametrize("name", LENSES)
def test_points_land_where_opencv_puts_them(name):
    scene, camera = points(200, 1.2), lens(name)
    projected = project_unscented(scene, camera, SETTINGS)
    seen = projected.radii.amax(-1) > 0
    assert int(seen.sum()) > 50
    expected = opencv_pixels(camera, scene.means)
    torch.testing.assert_close(projected.means2d[seen], expected[seen], atol=1e-5, rtol=0)


def test_points_land_where_opencv_puts_them_through_the_fox_camera():
    if not FOX.exists():
        pytest.skip("shared/data/fox is not there")
    data = json.loads(FOX.read_text())
    K = torch.tensor(
        [[data["fl_x"], 0, data["cx"]], [0, data["fl_y"], data["cy"]], [0, 0, 1]], dtype=torch.float64
    )
    distortion = tuple(float(data[key]) for key in ("k1", "k2", "p1", "p2"))
    size = int(data["w"]), int(data["h"])
    camera = Camera(torch.eye(4, dtype=torch.float64), K, *size, CameraModel.OPENCV, distortion)
    scene = points(200, 0.8)
    projected = project_unscented(scene, camera, SETTINGS)
    seen = projected.radii.amax(-1) > 0
    assert int(seen.sum()) > 50
    torch.testing.assert_close(
        projected.means2d[seen], opencv_pixels(camera, scene.means)[seen], atol=1e-4, rtol=0
    )


def test_a_strong_fisheye_sees_almost_half_a_sphere():
    """Directions up to 87 degrees off axis, which no pinhole picture could hold."""
    angles = torch.linspace(-1.52, 1.52, 41, dtype=torch.float64)
    means = torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()], -1)
    scene = replace(points(41, 1.0), means=means)
    camera = replace(lens("fisheye", 300, 60), distortion=(0.0, 0.0, 0.0, 0.0))
    projected = project_unscented(scene, camera, SETTINGS)
    assert (projected.radii > 0).all()
    torch.testing.assert_close(projected.means2d[:, 0], 147 + 70 * angles, atol=1e-4, rtol=0)


@pytest.mark.parametrize("spread, scale", [(0.8, -5.5), (2.5, -5.5), (0.8, -2.0)])
def test_without_distortion_it_is_the_ewa_projection(spread, scale):
    """Small and large; inside the picture, and outside, where both take the covariance at the border."""
    scene = points(300, spread, scale)
    camera = replace(lens("opencv"), distortion=(0.0, 0.0, 0.0, 0.0))
    for settings in (SETTINGS, RenderSettings(antialiased=True)):
        ours = project_unscented(scene, camera, settings)
        ewa = project_pinhole(scene, camera.undistorted(), settings)
        deep = scene.means[:, 2] > 0.3
        assert int((ewa.radii[deep].amax(-1) > 0).sum()) > 20
        torch.testing.assert_close(ours.means2d[deep], ewa.means2d[deep], atol=1e-9, rtol=0)
        torch.testing.assert_close(ours.conics[deep], ewa.conics[deep], atol=0.01, rtol=0.01)
        torch.testing.assert_close(ours.opacities[deep], ewa.opacities[deep], atol=0, rtol=0.01)
        assert torch.equal(ours.depths[deep], ewa.depths[deep])
        assert (ours.radii[deep] - ewa.radii[deep]).abs().max() <= 1


def test_a_wide_gaussian_beyond_the_border_keeps_its_ewa_shape():
    """Nine picture widths to the side at little depth, perspective alone would smear it over the picture."""
    scene = replace(
        points(1, 0.0),
        means=torch.tensor([[9.0, 0.0, 0.5]]).double(),
        log_scales=torch.full((1, 3), -3.0).double(),
    )
    camera = replace(lens("opencv"), distortion=(0.0, 0.0, 0.0, 0.0))
    sideways = unscented_moments(scene, camera, 0.01)
    assert (
        float(sideways.covariances.amax()) < 800
    )  # the free Jacobian gives 70^2 0.05^2 18^2 / 0.5^2 = 16000


@pytest.mark.parametrize("name", LENSES)
def test_mean_and_covariance_are_those_of_projected_samples(name):
    """A Gaussian of some ten pixels; 40000 samples."""
    g = torch.Generator().manual_seed(1)
    scene = replace(
        points(1, 0.0),
        means=torch.tensor([[0.5, -0.3, 2.0]]).double(),
        log_scales=torch.tensor([[0.16, 0.05, 0.1]]).double().log(),
    )
    camera = lens(name)
    normal = torch.randn(40000, 3, generator=g, dtype=torch.float64)
    half = rotation_from_quats(scene.quats)[0] * scene.scales[0]
    pixels, _ = camera.project(scene.means + normal @ half.T)
    moments = unscented_moments(scene, camera, 0.01)
    covariance = torch.cov(pixels.T)
    expected = torch.stack([covariance[0, 0], covariance[0, 1], covariance[1, 1]])
    torch.testing.assert_close(moments.means2d[0], pixels.mean(0), atol=0.2, rtol=0)
    assert float((moments.covariances[0] - expected).norm() / expected.norm()) < 0.05
    determinant = expected[0] * expected[2] - expected[1] ** 2
    assert float(moments.determinants[0]) == pytest.approx(float(determinant), rel=0.1)


@pytest.mark.parametrize("name", LENSES)
def test_gradients_match_central_differences(name, placed_scene, ring_camera, with_grad):
    """Of a picture, in double precision; one random direction per parameter."""
    scene = with_grad(placed_scene())
    plain = ring_camera(1, width=20, height=17, dtype=torch.float64)
    model, distortion = LENSES[name]
    camera = replace(plain, model=model, distortion=distortion)
    g = torch.Generator().manual_seed(2)
    wanted = torch.randn(17, 20, 4, generator=g, dtype=torch.float64)

    def loss(gaussians):
        image = render(gaussians, camera, backend="reference")
        return (torch.cat([image.rgb, image.alpha[..., None]], -1) * wanted).sum()

    loss(scene).backward()
    for field in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        value = getattr(scene, field)
        step = 1e-6 * torch.randn(value.shape, generator=g, dtype=torch.float64)
        with torch.no_grad():
            difference = loss(replace(scene, **{field: value + step})) - loss(
                replace(scene, **{field: value - step})
            )
        assert float((value.grad * step).sum()) == pytest.approx(float(difference) / 2, rel=2e-5), field


def test_on_the_axis_gradients_are_finite():
    for name in LENSES:
        scene = points(1, 0.0, -3.0).map(lambda v: v.requires_grad_() if v.is_floating_point() else v)
        projected = project_unscented(scene, lens(name), SETTINGS)
        (projected.means2d.sum() + projected.conics.sum()).backward()
        assert torch.isfinite(scene.means.grad).all() and scene.means.grad[0, :2].abs().min() > 30, name
        assert torch.isfinite(scene.quats.grad).all() and torch.isfinite(scene.log_scales.grad).all(), name


@pytest.mark.parametrize("name", LENSES)
def test_behind_beside_and_too_near_are_dropped(name):
    """A row that is dropped holds zeros and gives no gradient."""
    means = torch.tensor([[0.0, 0, -2], [1.0, 0, 0], [0.0, 0, 0.009], [0.0, 0, 2], [0.0, 0, 0.02]]).double()
    scene = replace(points(5, 0.0, -9.0), means=means)
    scales = scene.log_scales.clone()
    scales[4] = math.log(0.5)  # its centre is far enough, its sigma points are not
    scene = replace(scene, log_scales=scales, means=means.requires_grad_())
    projected = project_unscented(scene, lens(name), SETTINGS)
    assert (projected.radii.amax(-1) > 0).tolist() == [False, False, False, True, False]
    assert not projected.conics[[0, 1, 2, 4]].any()
    projected.means2d.sum().backward()
    assert torch.isfinite(means.grad).all() and not means.grad[[0, 1, 2, 4]].any()


def test_points_beyond_the_fold_do_not_come_back_into_the_picture():
    """r (1 - 0.3 r^2) grows up to r = 1.054; a point at r = 1.8 would land at 0.05, inside the picture."""
    camera = replace(lens("opencv"), distortion=(-0.3, 0.0, 0.0, 0.0))
    assert fold_radius(camera) == pytest.approx(1 / math.sqrt(0.9), abs=0.01)
    means = torch.tensor([[1.8 * 2, 0.0, 2.0], [0.9 * 2, 0.0, 2.0]]).double()
    scene = replace(points(2, 0.0), means=means)
    assert (project_unscented(scene, camera, SETTINGS).radii.amax(-1) > 0).tolist() == [False, True]


def test_fold_radius_of_lenses_that_never_fold():
    assert fold_radius(replace(lens("opencv"), distortion=(0.1, 0.0, 0.0, 0.0))) == math.inf
    assert fold_radius(replace(lens("fisheye"), distortion=(0.0, 0.0, 0.0, 0.0))) == pytest.approx(math.pi)
    assert fold_radius(lens("opencv").undistorted()) == math.inf


def test_a_distorted_picture_is_the_warped_pinhole_picture(random_scene, ring_camera):
    """Gaussians through a lens look like the pinhole picture looked up at undistorted pixels."""
    camera = ring_camera(0, width=128, height=96, radius=2.0, dtype=torch.float64)
    bent = replace(camera, model=CameraModel.OPENCV, distortion=(0.6, 0.1, 0.01, -0.01))
    scene = random_scene(300, dtype=torch.float64)
    lensed, straight = (render(scene, view, backend="reference").rgb for view in (bent, camera))
    directions = bent.directions(bent.pixel_centers().double())
    pixels = directions[..., :2] / directions[..., 2:] @ camera.K[:2, :2].T + camera.K[:2, 2]
    grid = 2 * pixels / torch.tensor([128.0, 96.0]) - 1
    warped = torch.nn.functional.grid_sample(straight.permute(2, 0, 1)[None], grid[None], align_corners=False)
    difference = (lensed - warped[0].permute(1, 2, 0)).abs()
    assert float(difference.mean()) < 0.2 * float((lensed - straight).abs().mean())
