"""Where Gaussians appear and vanish during training: the seam, and the strategies behind it."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gaussworld.render import Rendering

from ..optim import Parameters
from .adc import Adc, DensityControl
from .mcmc import Mcmc, Relocation

__all__ = ["Adc", "DensityControl", "Mcmc", "Relocation", "Strategy", "strategy_for"]


@runtime_checkable
class Strategy(Protocol):
    """Changes the set of Gaussians while they are fitted; never above its cap."""

    def observe(self, rendering: Rendering) -> None:
        """Look at a rendering after its backward pass."""
        ...

    def adapt(self, parameters: Parameters, step: int, share: float) -> None:
        """Add, move and remove rows after optimiser step `step`, counted from 1, at `share` of the run."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What it remembers between steps, for a checkpoint."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        ...


def strategy_for(settings: Adc | Mcmc, cap: int, extent: float, generator: torch.Generator) -> Strategy:
    """The strategy that a configuration asks for, with its cap on the number of Gaussians."""
    if isinstance(settings, Mcmc):
        return Relocation(settings, cap, generator)
    return DensityControl(settings, cap, extent, generator)
