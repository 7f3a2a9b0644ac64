"""Where pixels are in space: from the rays of several pictures, or from the sparse points around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.pose import transform_points

#: [px] A ray that passes this far from the point counts half as much.
_OUTLIER_PX = 2.0
#: [rad] Rays closer together than this say nothing about distance.
LEAST_PARALLAX = 0.02
_NEIGHBOURS = 12


@dataclass(frozen=True, eq=False)
class Triangulated:
    """Points where rays meet, and how well they do."""

    points: Float[Tensor, "k 3"]
    """[unit of the poses] float64."""
    errors: Float[Tensor, "v k"]
    """[px] distance of each picture's ray from the point."""
    parallax: Float[Tensor, " k"]
    """[rad] largest angle between two rays to the point."""


def triangulate(cameras: Sequence[Camera], pixels: Float[Tensor, "v k 2"]) -> Triangulated:
    """Intersect rays, lenses undone: a linear start, then reweighting to least angles without outliers.

    The linear form (Hartley and Sturm 1997, with lines instead of image planes, so that fisheye rays beside
    the camera count too) weighs near and far pictures wrongly; dividing by the distance mends that.

    Args:
        cameras: v of them, at two places or more.
        pixels: the same k points in each camera's picture [px].
    """
    poses = torch.stack([camera.world_from_camera.cpu() for camera in cameras]).double()
    rays = torch.stack([camera.directions(seen.double()) for camera, seen in zip(cameras, pixels)])
    rays = rays @ poses[:, :3, :3].transpose(1, 2)
    centers, focal = poses[:, None, :3, 3], torch.tensor([float(camera.K[0, 0]) for camera in cameras])
    across = torch.eye(3, dtype=torch.float64) - rays[..., :, None] * rays[..., None, :]
    weights = torch.ones(rays.shape[:2], dtype=torch.float64)
    points, away, errors = _met(across, centers, weights, focal)
    for _ in range(10):
        weights = 1 / (away.norm(dim=-1) * (1 + (errors / _OUTLIER_PX).square())).square()
        points, away, errors = _met(across, centers, weights, focal)
    # A point behind a camera is no meeting of rays.
    errors = torch.where((away * rays).sum(-1) > 0, errors, torch.inf)
    cosines = (rays[:, None] * rays[None]).sum(-1).amin(dim=(0, 1))
    return Triangulated(points, errors, cosines.clamp(-1, 1).arccos())


def _met(across: Tensor, centers: Tensor, weights: Tensor, focal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The points nearest to their weighted rays, the ways to them, and how far rays miss them [px]."""
    summed = (weights[..., None, None] * across).sum(0)
    target = (weights[..., None] * (across @ centers[..., None])[..., 0]).sum(0)
    points = torch.linalg.lstsq(summed, target[..., None]).solution[..., 0]
    away = points - centers
    sines = (across @ away[..., None])[..., 0].norm(dim=-1) / away.norm(dim=-1).clamp(min=1e-12)
    return points, away, sines * focal[:, None]


def visible(
    camera: Camera, points: Float[Tensor, "m 3"]
) -> tuple[Int[Tensor, " s"], Float[Tensor, "s 2"], Float[Tensor, " s"]]:
    """Rows, pixels and z-depths of the points that fall into a camera's picture, hidden ones included."""
    pixels, depths = camera.project(points)
    size = pixels.new_tensor([camera.width, camera.height])
    rows = ((depths > 0) & ((pixels >= 0) & (pixels < size)).all(-1)).nonzero()[:, 0]
    if camera.distortion:
        # Polynomial lenses fold what is far outside the picture back into it.
        seen = torch.nn.functional.normalize(transform_points(camera.camera_from_world, points[rows]), dim=-1)
        rows = rows[(camera.directions(pixels[rows]) * seen).sum(-1) > 0.999]
    return rows, pixels[rows], depths[rows]


def located(
    camera: Camera, points: Float[Tensor, "m 3"], pixels: Float[Tensor, "k 2"]
) -> tuple[Float[Tensor, "k 3"], Float[Tensor, " k"]]:
    """Pixels on the surface that the sparse points around them suggest, and how unsure that is.

    The inverse depth of a plane is affine in the pixel; one is fitted robustly to the nearest points in the
    picture, so that points of another surface among them do little.

    Args:
        camera: of the picture.
        points: sparse points; hidden ones may be among them.
        pixels: where to look [px].

    Returns:
        Places in the world frame, and the spread of the neighbours about the fit, relative to the depth.

    Raises:
        ValueError: fewer than three points are in the picture.
    """
    _, seen, depths = visible(camera, points.detach().cpu())
    if len(seen) < 3:
        raise ValueError(f"expected at least 3 sparse points in the picture, got {len(seen)}")
    found, spreads = [], []
    for pixel in pixels:
        rows = (seen - pixel).norm(dim=-1).topk(min(_NEIGHBOURS, len(seen)), largest=False).indices
        inverse, spread = _inverse_depth((seen[rows] - pixel).double(), 1 / depths[rows].double())
        found.append(camera.unproject(pixel[None], (1 / inverse)[None].to(pixel))[0])
        spreads.append(spread)
    return torch.stack(found), torch.stack(spreads)


def _inverse_depth(offsets: Float[Tensor, "k 2"], inverse: Float[Tensor, " k"]) -> tuple[Tensor, Tensor]:
    """The inverse depth at offset zero and its neighbours' spread about the fitted plane, relative to it."""
    scale = offsets.norm(dim=-1).median().clamp(min=1.0)
    design = torch.cat([torch.ones_like(offsets[:, :1]), offsets / scale], dim=-1)
    nearness = 1 / (1 + (offsets / scale).square().sum(-1))
    # Least median of squares over all triples: as many as half of the neighbours may be of another surface.
    triples = torch.combinations(torch.arange(len(design)), 3)
    planes = _fitted(design[triples], inverse[triples], torch.ones(triples.shape, dtype=torch.float64))
    plane = planes[(inverse - planes @ design.T).abs().quantile(0.5, dim=-1).argmin()]
    residuals = inverse - design @ plane
    weights = nearness
    for _ in range(5):
        spread = residuals.abs().median().clamp(min=1e-3 * float(inverse.median()))
        weights = nearness / (1 + (residuals / (2 * spread)).square()).square()
        plane = _fitted(design, inverse, weights)
        residuals = inverse - design @ plane
    rms = ((weights * residuals.square()).sum() / weights.sum()).sqrt()
    at_zero = plane[0].clamp(min=0.2 * float(inverse.min()), max=5 * float(inverse.max()))
    return at_zero, rms / at_zero


def _fitted(design: Float[Tensor, "*b m 3"], values: Float[Tensor, "*b m"], weights: Tensor) -> Tensor:
    """Weighted least squares, with the slope damped a little where the points do not support one."""
    damping = torch.diag(torch.tensor([0.0, 1e-2, 1e-2], dtype=torch.float64))
    weighted = weights[..., None] * design
    return torch.linalg.solve(
        weighted.transpose(-1, -2) @ design + damping,
        (weighted * values[..., None]).sum(-2),
    )
