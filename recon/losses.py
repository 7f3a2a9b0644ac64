"""What training minimises: the photometric loss, depth where a sensor measured it, regularisers."""

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.render.loss import photometric_loss

from .frames import View

#: Relative errors of depth beyond this pull no more: they are edges and reflections.
_WORST_DEPTH = 0.5


def picture_loss(
    rgb: Float[Tensor, "h w 3"], view: View, background: Float[Tensor, "3"], lambda_dssim: float
) -> Float[Tensor, ""]:
    """(1 - lambda) L1 + lambda (1 - SSIM) (Kerbl et al. 2023, eq. 7) against the view over the background.

    Where the view's mask is black, truth and rendering both show the background.
    """
    target = view.over(background)
    if view.mask is None:
        return photometric_loss(rgb, target, lambda_dssim)
    counts = view.mask[..., None]
    return photometric_loss(
        torch.where(counts, rgb, background), torch.where(counts, target, background), lambda_dssim
    )


def depth_loss(depth: Float[Tensor, "h w"], alpha: Float[Tensor, "h w"], view: View) -> Float[Tensor, ""]:
    """Mean relative error of rendered z-depth where a sensor measured one, large errors capped."""
    assert view.depth is not None
    known = (view.depth > 0) & (alpha.detach() > 0.5)
    if view.mask is not None:
        known &= view.mask
    measured = torch.where(known, view.depth, 1.0)
    error = ((depth - measured).abs() / measured).clamp(max=_WORST_DEPTH)
    return (error * known).mean()


def regularizer(gaussians: Gaussians, extent: float, opacity: float, scale: float) -> Float[Tensor, ""]:
    """Pull opacities and sizes down, so that Gaussians which show nothing vanish (Kheradmand et al. 2024, 4).

    Args:
        gaussians: connected to what is learnt.
        extent: [unit of the poses] sizes count relative to it.
        opacity, scale: weights.
    """
    return opacity * gaussians.opacities.mean() + scale * gaussians.scales.mean() / extent
