"""Gaussians to splats on the image plane: EWA for pinhole cameras, and what every projection shares."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians
from ..pose import rotation_from_quats, transform_points
from .contract import RenderSettings

#: A splat weaker than this at a pixel does not touch it (one step of an 8-bit picture).
ALPHA_THRESHOLD = 1 / 255
#: Splats end at most this many standard deviations from their centre, where exp(-x^2 / 2) = 1/255.
MAX_EXTENT = 3.33
#: [px] what an extent saturates at, so that it fits int32.
MAX_RADIUS = 1e9


@dataclass(frozen=True, eq=False)
class Projected:
    """n splats as one camera sees them, row by row; rows that were dropped hold zeros."""

    means2d: Float[Tensor, "n 2"]
    """[px] centres."""
    conics: Float[Tensor, "n 3"]
    """[1/px^2] a, b, c of the inverse 2D covariance [[a, b], [b, c]]."""
    depths: Float[Tensor, " n"]
    """[m] z in the camera frame: what splats are sorted by."""
    opacities: Float[Tensor, " n"]
    """Opacity at the centre, after the antialiasing factor."""
    radii: Int[Tensor, "n 2"]
    """[px] half extents, int32; zeros mark a dropped row."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of m Gaussians on the image plane, before the low-pass filter."""

    means2d: Float[Tensor, "m 2"]
    """[px] centres."""
    covariances: Float[Tensor, "m 3"]
    """[px^2] xx, xy, yy of the 2D covariance."""
    determinants: Float[Tensor, " m"]
    """[px^4] of the covariances; given separately because xx yy - xy xy cancels badly for needles."""
    depths: Float[Tensor, " m"]
    """[m] z in the camera frame."""
    valid: Bool[Tensor, " m"]
    """False where the camera model does not hold."""


def project_pinhole(gaussians: Gaussians, camera: Camera, settings: RenderSettings) -> Projected:
    """EWA projection (Zwicker et al. 2002; Kerbl et al. 2023, eq. 5) with the conventions of gsplat 1.5."""
    return project_with(pinhole_moments, gaussians, camera, settings)


def project_with(
    moments_of: Callable[[Gaussians, Camera], Moments],
    gaussians: Gaussians,
    camera: Camera,
    settings: RenderSettings,
) -> Projected:
    """Projection in two passes: find the rows that show, then project those with gradients.

    Rows that are dropped never enter the autograd graph, so their infinities cannot become NaN gradients.
    """
    with torch.no_grad():
        radii = half_extents(moments_of(gaussians, camera), gaussians.opacities, camera, settings)
    rows = radii.amax(dim=-1).nonzero()[:, 0]
    shown = gaussians.select(rows)
    moments = moments_of(shown, camera)
    conics, compensations = low_pass(moments, settings.eps2d)
    opacities = shown.opacities * compensations if settings.antialiased else shown.opacities

    def scatter(values: Tensor) -> Tensor:
        return values.new_zeros(len(gaussians), *values.shape[1:]).index_put((rows,), values)

    return Projected(
        scatter(moments.means2d), scatter(conics), scatter(moments.depths), scatter(opacities), radii
    )


def pinhole_moments(gaussians: Gaussians, camera: Camera) -> Moments:
    """First-order image of each Gaussian: J W cov W^T J^T with J the Jacobian of the perspective division.

    The Jacobian is taken at a point at most 15 % of the picture outside it, as in gsplat: farther out, the
    linearisation would blow up.
    """
    camera_from_world, K = camera.camera_from_world.to(gaussians.means), camera.K.to(gaussians.means)
    x, y, z = transform_points(camera_from_world, gaussians.means).unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = 0.15 * camera.width / fx, 0.15 * camera.height / fy
    tan_x = clamp(x / z, -(cx / fx + margin_x), (camera.width - cx) / fx + margin_x)
    tan_y = clamp(y / z, -(cy / fy + margin_y), (camera.height - cy) / fy + margin_y)
    # Rows of J W R S: the 2D covariance is the Gram matrix of these two 3-vectors.
    half = camera_from_world[:3, :3] @ (rotation_from_quats(gaussians.quats) * gaussians.scales[:, None, :])
    u = (fx / z)[:, None] * (half[:, 0] - tan_x[:, None] * half[:, 2])
    v = (fy / z)[:, None] * (half[:, 1] - tan_y[:, None] * half[:, 2])
    covariances = torch.stack([(u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)], -1)
    area = torch.linalg.cross(u, v)
    means2d = torch.stack([fx * (x / z) + cx, fy * (y / z) + cy], -1)
    # det(M M^T) = |u x v|^2 (Cauchy-Binet) keeps its digits where xx yy - xy xy loses them.
    return Moments(means2d, covariances, (area * area).sum(-1), z, torch.ones_like(z, dtype=torch.bool))


def clamp(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Clamp between tensors; outside, the gradient goes to the bounds."""
    return torch.minimum(torch.maximum(value, low), high)


def low_pass(moments: Moments, eps2d: float) -> tuple[Float[Tensor, "m 3"], Float[Tensor, " m"]]:
    """Conics with eps2d [px^2] on the diagonal, and sqrt(det before / det after) (Yu et al. 2024, eq. 8)."""
    determinants = filtered_determinants(moments, eps2d)
    xx, xy, yy = moments.covariances.unbind(-1)
    conics = torch.stack([yy + eps2d, -xy, xx + eps2d], -1) / determinants[:, None]
    return conics, (moments.determinants / determinants).clamp(min=0).sqrt()


def filtered_determinants(moments: Moments, eps2d: float) -> Float[Tensor, " m"]:
    """[px^4] determinants of the covariances with eps2d added to the diagonal: det + eps trace + eps^2."""
    return moments.determinants + eps2d * (moments.covariances[:, 0] + moments.covariances[:, 2] + eps2d)


def half_extents(
    moments: Moments, opacities: Float[Tensor, " m"], camera: Camera, settings: RenderSettings
) -> Int[Tensor, "m 2"]:
    """[px] per axis, ceil(e sqrt(cov_ii)), e = min(3.33, sqrt(2 ln(255 opacity))) (Radl et al. 2024, B.2).

    Zero for splats that are closer than near or farther than far, degenerate, fainter than 1/255 (after the
    antialiasing factor), not larger than radius_clip in both axes, or wholly outside the picture.
    """
    conics, compensations = low_pass(moments, settings.eps2d)
    peak = opacities * compensations if settings.antialiased else opacities
    reach = (2 * (peak / ALPHA_THRESHOLD).clamp(min=1).log()).sqrt().clamp(max=MAX_EXTENT)
    deviations = (moments.covariances[:, [0, 2]] + settings.eps2d).sqrt()
    extents = (reach[:, None] * deviations).ceil()
    size = extents.new_tensor([camera.width, camera.height])
    on_screen = (moments.means2d + extents > 0).all(-1) & (moments.means2d - extents < size).all(-1)
    kept = moments.valid & on_screen & (peak >= ALPHA_THRESHOLD) & (extents > settings.radius_clip).any(-1)
    kept &= (moments.depths >= settings.near) & (moments.depths <= settings.far) & (extents > 0).all(-1)
    kept &= (filtered_determinants(moments, settings.eps2d) > 0) & torch.isfinite(conics).all(-1)
    kept &= torch.isfinite(moments.means2d).all(-1)
    return torch.where(kept[:, None], extents.clamp(max=MAX_RADIUS), 0).to(torch.int32)
