"""How a picture shows the world's colours: a gain and an offset per channel that changes do not disturb."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_ROUNDS, _GAINS, _FEWEST = 6, (0.4, 2.5), 200


@dataclass(frozen=True, eq=False)
class Exposure:
    """Colours as one picture shows them."""

    gain: Float[Tensor, "3"]
    offset: Float[Tensor, "3"]

    def __call__(self, rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        """The world's colours as this picture shows them."""
        return rgb * self.gain + self.offset

    def undone(self, rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        """The picture's colours as the world would show them."""
        return (rgb - self.offset) / self.gain


def matched_exposure(
    rgb: Float[Tensor, "h w 3"], picture: Float[Tensor, "h w 3"], alpha: Float[Tensor, "h w"]
) -> Exposure:
    """Gain and offset from a rendering to a picture, by least squares that are weighted anew in each round.

    Pixels that do not fit, because something is elsewhere, lose their weight (Holland and Welsch 1977).
    """
    solid = alpha.detach() > 0.9
    identity = Exposure(torch.ones(3), torch.zeros(3))
    if int(solid.sum()) < _FEWEST:
        return identity
    x, y = rgb.detach()[solid], picture[solid]
    gain, offset = identity.gain, identity.offset
    for _ in range(_ROUNDS):
        error = (x * gain + offset - y).abs().mean(1)
        scale = 1.5 * float(error.median()) + 1e-3
        weight = (1 / (1 + (error / scale) ** 2) ** 2)[:, None]
        total = weight.sum()
        mx, my = (weight * x).sum(0) / total, (weight * y).sum(0) / total
        spread = (weight * (x - mx) ** 2).sum(0)
        gain = (weight * (x - mx) * (y - my)).sum(0) / spread.clamp(min=1e-6)
        # A channel without contrast says nothing about its gain.
        gain = torch.where(spread / total < 1e-4, torch.ones(3), gain).clamp(*_GAINS)
        offset = my - gain * mx
    return Exposure(gain, offset)
