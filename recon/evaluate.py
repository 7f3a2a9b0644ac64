"""How well Gaussians show pictures they were not fitted to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from gaussworld.gaussians import Gaussians
from gaussworld.metrics import psnr, ssim
from gaussworld.render import render

from .frames import View


@dataclass(frozen=True)
class ViewScore:
    """One picture's likeness."""

    name: str
    psnr: float
    """[dB]"""
    ssim: float


@dataclass(frozen=True)
class Scores:
    """The likeness of all pictures asked for."""

    views: tuple[ViewScore, ...]

    @property
    def psnr(self) -> float:
        """[dB] mean over the views; NaN without views."""
        return _mean(view.psnr for view in self.views)

    @property
    def ssim(self) -> float:
        """Mean over the views; NaN without views."""
        return _mean(view.ssim for view in self.views)


@torch.no_grad()
def evaluate(
    gaussians: Gaussians, views: Sequence[View], background: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Scores:
    """PSNR and SSIM of Gaussians against each view."""
    scores = []
    for view in views:
        rgb = render(gaussians, view.camera, background=background).rgb.clamp(0, 1)
        scores.append(ViewScore(view.name, float(psnr(rgb, view.image)), float(ssim(rgb, view.image))))
    return Scores(tuple(scores))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else float("nan")
