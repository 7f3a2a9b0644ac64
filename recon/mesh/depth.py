"""Depth of Gaussians as a depth camera would measure it: where the surface is, and where nobody can tell."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.pose import rotation_from_quats, transform_points
from gaussworld.render import render

DepthKind = Literal["surface", "expected"]
#: [standard deviations along the ray] how far before its middle a Gaussian is opaque: measured against the
#: ray-cast depth of a tabletop, with and without depth in training.
_SKIN = 1.0
#: [share of the depth] the most that this can be: thick Gaussians are translucent and have no skin.
_THICKEST = 0.002


@dataclass(frozen=True, eq=False)
class DepthView:
    """What one camera measures."""

    camera: Camera
    """A pinhole camera."""
    depth: Float[Tensor, "h w"]
    """[unit of the world] z-depth of the surface; 0 where nobody can tell."""
    rgb: Float[Tensor, "h w 3"]
    """Colour of the surface, range [0, 1]."""
    alpha: Float[Tensor, "h w"]
    """How much there is of it, range [0, 1]: a Gaussian's accumulated opacity."""


@torch.no_grad()
def depth_view(
    gaussians: Gaussians,
    camera: Camera,
    solid: float = 0.5,
    jump: float | None = None,
    kind: DepthKind = "surface",
) -> DepthView:
    """Render the depth of the surface that a pixel shows most of, without pixels at edges.

    Trained without a depth sensor, Gaussians are translucent: the expected depth then lies centimetres off
    the surface, towards the camera or behind it. The Gaussian of the largest blend weight is at the surface.
    It counts with the depth at which the pixel's ray is deepest inside it, not with that of its centre, since
    Gaussians are flat, large, and seen at an angle. A median of 3x3 pixels takes out those that disagree.

    Args:
        gaussians: in the world frame.
        camera: a distorted one is taken without its distortion.
        solid: least accumulated opacity of a surface.
        jump: [unit of the world] a pixel whose neighbours differ by more than this is an edge; default: 4 %
            of the depth.
        kind: "surface" as above; "expected" takes the mean depth of all that a pixel shows, which is smoother
            where Gaussians are coarse, and right only as far as nothing translucent is in front.
    """
    camera = camera.undistorted()
    drawn = render(gaussians, camera, outputs=("ids",) if kind == "surface" else ("depth",))
    shown = drawn.alpha >= solid
    if drawn.ids is not None:
        shown &= drawn.ids >= 0
        found = _depth_inside(gaussians, camera, drawn.ids.clamp(min=0))
    else:
        assert drawn.depth is not None
        found = drawn.depth
    depth = torch.where(shown, found, torch.nan)
    depth, low, high = _neighborhood(depth)
    bound = 0.04 * depth if jump is None else torch.full_like(depth, jump)
    sure = shown & (depth > 0) & (high - low <= bound)
    rgb = (drawn.rgb / drawn.alpha.clamp(min=1e-6)[..., None]).clamp(0, 1)
    return DepthView(camera, torch.where(sure, depth, 0.0), rgb, drawn.alpha)


def _depth_inside(gaussians: Gaussians, camera: Camera, ids: Int[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """z-depth at which the ray of each pixel is deepest inside a Gaussian.

    With M the inverse covariance in camera axes, mu the centre and d = (x, y, 1), the density along the ray
    z d is largest at z = d.M.mu / d.M.d (as in Zhang et al. 2024, RaDe-GS).
    """
    from_world = camera.camera_from_world.to(gaussians.means)
    used, rows = ids.long().unique(return_inverse=True)
    means = transform_points(from_world, gaussians.means[used])
    axes = from_world[:3, :3] @ rotation_from_quats(gaussians.quats[used])
    # As multiples of the smallest scale, so that squares stay in range.
    scales = gaussians.scales[used]
    half = axes * (scales.amin(1, keepdim=True) / scales)[:, None, :]
    inverse = half @ half.transpose(1, 2)
    pulled = (inverse @ means[:, :, None])[..., 0]
    rays = camera.directions(camera.pixel_centers()).to(means)
    rays = rays / rays[..., 2:]
    tightness = torch.einsum("hwi,hwij,hwj->hw", rays, inverse[rows], rays).clamp(min=1e-20)
    deepest = (rays * pulled[rows]).sum(-1) / tightness
    skin = _SKIN * scales.amin(1)[rows] / tightness.sqrt()
    return deepest - torch.minimum(skin, _THICKEST * deepest.abs())


def _neighborhood(depth: Float[Tensor, "h w"]) -> tuple[Tensor, Tensor, Tensor]:
    """Median, least and greatest of the 3x3 pixels around each that are known (not NaN)."""
    padded = torch.nn.functional.pad(depth[None, None], (1, 1, 1, 1), value=torch.nan)[0, 0]
    height, width = depth.shape
    around = torch.stack([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])
    middle = around.nanmedian(0).values.nan_to_num(0.0)
    known = ~around.isnan()
    low = torch.where(known, around, torch.inf).amin(0)
    high = torch.where(known, around, -torch.inf).amax(0)
    return middle, low, high
