"""Exposure: an affine change of colour per training picture, so that Gaussians need not explain it."""

import torch
from jaxtyping import Float
from torch import Tensor

from .adam import Learnt

_RATE, _FINAL = 1e-3, 0.1
#: How hard transforms are pulled towards none: a bias that all of a picture shows is stronger, noise is not.
_PULL = 0.5


class Exposure:
    """One 3x4 colour transform per picture, learnt with the Gaussians and pulled towards the identity.

    Held-out pictures are shown without any: the mean over the pictures is kept at the identity.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._affine = Learnt(torch.zeros(count, 3, 4, device=device))

    def applied(self, rgb: Float[Tensor, "h w 3"], index: int) -> Float[Tensor, "h w 3"]:
        """A rendering as the camera of picture `index` would have exposed it."""
        change = self._affine.value[index]
        return rgb + rgb @ change[:, :3].T + change[:, 3]

    def step(self, progress: float) -> None:
        """One Adam step at `progress` in [0, 1] of the run; then the mean change is taken out."""
        affine = self._affine.value
        if affine.grad is not None:
            # Only the picture just seen: the others have nothing to hold against the pull.
            seen = (affine.grad != 0).flatten(1).any(1)[:, None, None]
            affine.grad += 2 * _PULL * affine.detach() * seen
        self._affine.step(_RATE * _FINAL**progress)
        with torch.no_grad():
            affine -= affine.mean(0, keepdim=True)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return self._affine.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self._affine = Learnt.restored(state)
