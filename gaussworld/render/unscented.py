"""Splats of Gaussians in distorted cameras: the unscented transform (Wu et al. 2024, 3DGUT)."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Camera, CameraModel
from ..gaussians import Gaussians
from ..pose import rotation_from_quats, transform_points
from .contract import RenderSettings
from .projection import Moments, Projected, clamp, project_with

#: Spread of the sigma points (alpha of the unscented transform, gsplat 1.5's choice; kappa is 0).
ALPHA = 0.1
#: Sigma points lie this many standard deviations from the centre: sqrt(alpha^2 (3 + kappa)).
SPREAD = math.sqrt(3 * ALPHA * ALPHA)
#: How far outside the picture, in parts of its size, covariances are taken where they are (EWA's margin).
MARGIN = 0.15


def project_unscented(gaussians: Gaussians, camera: Camera, settings: RenderSettings) -> Projected:
    """Splats of n Gaussians in an OPENCV or FISHEYE camera (any model works; PINHOLE is cheaper by EWA).

    A row is dropped when one of its sigma points is closer than `near` or lies where distortion folds back:
    beyond the radius (OPENCV) or angle (FISHEYE) at which the distorted radius stops growing. Depth is z
    in the camera frame for all models, so a fisheye shows the half space in front of it, 180 degrees.
    """

    def moments_of(rows: Gaussians, view: Camera) -> Moments:
        return unscented_moments(rows, view, settings.near)

    return project_with(moments_of, gaussians, camera, settings)


def unscented_moments(gaussians: Gaussians, camera: Camera, near: float) -> Moments:
    """Mean and covariance on the image plane from the images of seven sigma points per Gaussian.

    The covariance is sum w d_i d_i^T with d_i the images relative to that of the centre, w = 1 / (6 alpha^2)
    (Gustafsson and Hendeby 2012, eq. 12). The mean is the image of the centre, not the mean of the images:
    so a lens without distortion draws what the EWA projection draws, also for large Gaussians, and a scene
    fitted to distorted pictures looks the same through a pinhole. They differ to second order in the size.
    Runs in double precision: differences of nearby pixels are divided by alpha^2.
    """
    double = gaussians.means.double()
    camera_from_world, K = camera.camera_from_world.to(double), camera.K.to(double)
    center = transform_points(camera_from_world, double)
    axes = camera_from_world[:3, :3] @ rotation_from_quats(gaussians.quats.double())
    steps = SPREAD * (axes * gaussians.log_scales.double().exp()[:, None, :]).transpose(-1, -2)
    moved = _towards_picture(center, camera)
    points = torch.cat([moved[:, None], moved[:, None] + steps, moved[:, None] - steps], dim=1)

    def pixels(at: Tensor) -> Tensor:
        return camera.distort(at) @ K[:2, :2].T + K[:2, 2]

    images = pixels(points)
    offsets = images[:, 1:] - images[:, :1]
    covariance = offsets.transpose(-1, -2) @ offsets / (2 * SPREAD * SPREAD)
    xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinants = (xx * yy - xy * xy).clamp(min=0)
    inside = camera_holds(camera, points) & (points[..., 2] >= near)
    valid = camera_holds(camera, center) & inside.all(dim=1)
    means2d, covariances = pixels(center), torch.stack([xx, xy, yy], dim=-1)
    dtype = gaussians.means.dtype
    return Moments(
        means2d.to(dtype), covariances.to(dtype), determinants.to(dtype), center[:, 2].to(dtype), valid
    )


def _towards_picture(center: Float[Tensor, "m 3"], camera: Camera) -> Float[Tensor, "m 3"]:
    """Centres moved sideways until they lie at most 15 % of its size outside the picture.

    The covariance is taken there: close to the plane z = 0, perspective would smear a Gaussian over the whole
    picture. A fisheye has no such place.
    """
    if camera.model is CameraModel.FISHEYE:
        return center
    low, high = (bound.to(center) for bound in _picture_bounds(camera))
    sideways = clamp(center[:, :2] / center[:, 2:], low, high) * center[:, 2:]
    return torch.cat([sideways, center[:, 2:]], dim=-1)


@torch.no_grad()
def _picture_bounds(camera: Camera) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """Smallest and largest x/z, y/z that the picture shows, with the margin on each side, within the fold."""
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    border = torch.tensor([[x, y] for x in (0, 0.5, 1) for y in (0, 0.5, 1)], dtype=torch.float64) * size
    # Directions on the processor: nine points are not worth a kernel launch each.
    directions = camera.to("cpu").directions(border)
    plane = directions[:, :2] / directions[:, 2:]
    low, high = plane.amin(dim=0), plane.amax(dim=0)
    margin, fold = MARGIN * (high - low), fold_radius(camera)
    return (low - margin).clamp(min=-fold, max=fold), (high + margin).clamp(min=-fold, max=fold)


def camera_holds(camera: Camera, points: Float[Tensor, "*b 3"]) -> Bool[Tensor, "*b"]:
    """Where the camera model is one to one: in front and within the fold radius (fisheyes: fold angle)."""
    x, y, z = points.detach().unbind(-1)
    if camera.model is CameraModel.FISHEYE:
        return torch.atan2(torch.hypot(x, y), z) <= fold_radius(camera)
    return (z > 0) & (torch.hypot(x, y) <= fold_radius(camera) * z)


def fold_radius(camera: Camera) -> float:
    """Tangent (OPENCV) or angle [rad] (FISHEYE) off axis up to which the distorted radius grows; or infinity.

    Found on a fine grid, not as a root of a polynomial of degree nine; tangential distortion is left aside.
    """
    if camera.model is CameraModel.PINHOLE:
        return math.inf
    fisheye = camera.model is CameraModel.FISHEYE
    reach = torch.linspace(0, math.pi if fisheye else 20.0, 4001, dtype=torch.float64)
    square = reach * reach
    if fisheye:
        k1, k2, k3, k4 = camera.distortion
        bent = reach * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
    else:
        k1, k2, _, _, k3, k4, k5, k6 = (*camera.distortion, *(0.0,) * (8 - len(camera.distortion)))
        bent = reach * (1 + square * (k1 + square * (k2 + square * k3)))
        bent = bent / (1 + square * (k4 + square * (k5 + square * k6)))
    folds = (bent.diff() <= 0).nonzero()
    if len(folds):
        return float(reach[folds[0, 0]])
    return math.pi if fisheye else math.inf
