"""Gaussians of like colour, by distance in a perceptual space."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import Gaussians
from ..sh import rgb_from_sh0
from ..threads import one_torch_thread
from ..world_object import Vector
from .masks import BLOCK, selectable, vector_of

# Linear sRGB to the responses of the eye's cones, and their cube roots to lightness and two colour axes:
# Ottosson 2020, "A perceptual color space for image processing", the matrices of 2021-01-25.
_CONES_FROM_RGB = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LAB_FROM_CONES = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def oklab(rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Lightness, green to red and blue to yellow in Oklab (Ottosson 2020) of sRGB colours in [0, 1].

    Equal distances look about equally different; 0.02 is just seen.
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp(min=0).pow(2.4))
    cones = linear @ linear.new_tensor(_CONES_FROM_RGB).T
    return cones.clamp(min=0).pow(1 / 3) @ linear.new_tensor(_LAB_FROM_CONES).T


@one_torch_thread()
def like_color(
    gaussians: Gaussians, color: Float[Tensor, "3"] | Vector | int, tolerance: float = 0.1
) -> Bool[Tensor, " n"]:
    """Gaussians whose view-independent colour is near a given one.

    Args:
        gaussians: what to select from.
        color: sRGB, range [0, 1]; or the row of a Gaussian whose colour is meant.
        tolerance: largest distance in Oklab; 0.02 is just seen, 0.1 is another shade, 1 is black and white.

    Raises:
        ValueError: the row does not exist, or the tolerance is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"expected a tolerance of at least 0, got {tolerance}")
    sh0 = gaussians.sh.detach()[:, 0]
    if isinstance(color, int):
        if not 0 <= color < len(gaussians):
            raise ValueError(f"expected the row of one of {len(gaussians)} Gaussians, got {color}")
        color = gaussians.rgb.detach()[color]
    wanted = oklab(vector_of(color, sh0, "color"))
    near = [
        (oklab(rgb_from_sh0(part).clamp_(0, 1)) - wanted).square_().sum(dim=1) <= tolerance * tolerance
        for part in sh0.split(BLOCK)
    ]
    return torch.cat(near) & selectable(gaussians) if near else selectable(gaussians)
