"""`EvaluateConfig`: what is judged, and how closely it is looked at."""

from dataclasses import dataclass
from typing import Literal

from gaussworld.errors import ConfigError

#: Every model stands beside these.
BASELINES = ("persistence", "constant-velocity", "prior")


@dataclass(frozen=True)
class EvaluateConfig:
    """How models are judged."""

    split: Literal["train", "val", "test"] = "test"
    """Which episodes; a model that was trained on them is judged only where train is asked for."""
    horizons: tuple[int, ...] = (1, 10, 30, 100, 300)
    """[steps] after which figures are taken; those that an episode does not reach are left out."""
    most: int | None = None
    """Judge at most so many episodes of each family and shift, the first ones; default: all."""
    family: tuple[str, ...] = ()
    """Only these families; default: all there are."""
    pictures: bool = True
    """Compare drawn Gaussians: IoU, PSNR, SSIM."""
    width: int = 320
    """[px] of these pictures."""
    gaussians: int = 8000
    """Of an episode's world, about so many."""
    materials: Literal["default", "true"] = "default"
    """What models know of masses, frictions and stiffnesses; true ones tell what knowing them is worth."""
    preset: str = "rgbd"
    """With --seen, how finely worlds are reconstructed, one of `gaussworld recon`'s presets."""
    seed: int = 0
    """Of the resampling behind intervals."""

    def __post_init__(self) -> None:
        steps = self.horizons
        if not steps or min(steps) < 1 or list(steps) != sorted(set(steps)):
            raise ConfigError(f"horizons: expected rising numbers of steps from 1 on, got {steps}")
        if self.most is not None and self.most < 1:
            raise ConfigError(f"most: expected at least 1 episode, got {self.most}")
        if self.width < 32:
            raise ConfigError(f"width: expected at least 32 px, got {self.width}")
        if self.gaussians < 100:
            raise ConfigError(f"gaussians: expected at least 100, got {self.gaussians}")
