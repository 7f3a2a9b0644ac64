"""Where Gaussians appear and vanish during training: the seam, and the strategies behind it."""

from typing import Protocol, runtime_checkable

from gaussworld.render import Rendering

from ..optim import Parameters
from .adc import Adc, DensityControl

__all__ = ["Adc", "DensityControl", "Strategy"]


@runtime_checkable
class Strategy(Protocol):
    """Changes the set of Gaussians while they are fitted; never above its cap."""

    def observe(self, rendering: Rendering) -> None:
        """Look at a rendering after its backward pass."""
        ...

    def adapt(self, parameters: Parameters, step: int) -> None:
        """Add and remove rows after optimiser step `step`, counted from 1."""
        ...
