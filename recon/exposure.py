"""Exposure: an affine change of colour per training picture, so that Gaussians need not explain it."""

import torch
from jaxtyping import Float
from torch import Tensor

_RATE, _FINAL = 1e-3, 0.1
#: How hard transforms are pulled towards none: a bias that all of a picture shows is stronger, noise is not.
_PULL = 0.5


class Exposure:
    """One 3x4 colour transform per picture, learnt with the Gaussians and pulled towards the identity.

    Held-out pictures are shown without any: the mean over the pictures is kept at the identity.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.affine = torch.zeros(count, 3, 4, device=device, requires_grad=True)
        self._adam = torch.optim.Adam([self.affine], lr=_RATE)

    def applied(self, rgb: Float[Tensor, "h w 3"], index: int) -> Float[Tensor, "h w 3"]:
        """A rendering as the camera of picture `index` would have exposed it."""
        change = self.affine[index]
        return rgb + rgb @ change[:, :3].T + change[:, 3]

    def step(self, progress: float) -> None:
        """One Adam step at `progress` in [0, 1] of the run; then the mean change is taken out."""
        self._adam.param_groups[0]["lr"] = _RATE * _FINAL**progress
        if self.affine.grad is not None:
            # Only the picture just seen: the others have nothing to hold against the pull.
            seen = (self.affine.grad != 0).flatten(1).any(1)[:, None, None]
            self.affine.grad += 2 * _PULL * self.affine.detach() * seen
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.affine -= self.affine.mean(0, keepdim=True)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"affine": self.affine.detach().clone(), **moments(self._adam, self.affine)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        with torch.no_grad():
            self.affine.copy_(state["affine"])
        restore_moments(self._adam, self.affine, state)


def moments(adam: torch.optim.Adam, leaf: Tensor) -> dict[str, Tensor]:
    """The moments of a leaf, for a checkpoint; nothing before its first step."""
    return {key: value.clone() for key, value in adam.state.get(leaf, {}).items()}


def restore_moments(adam: torch.optim.Adam, leaf: Tensor, state: dict[str, Tensor]) -> None:
    """Give a leaf the moments that a checkpoint holds beside it; none when it holds none."""
    keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if key in state]
    if keys:
        adam.state[leaf] = {key: state[key].clone() for key in keys}
    else:
        adam.state.pop(leaf, None)
