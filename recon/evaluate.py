"""How well Gaussians show pictures they were not fitted to, and how far their depth is from a sensor's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.metrics import SSIM_RADIUS, psnr, ssim
from gaussworld.render import Rendering, render

from .frames import BLACK, Color, View
from .perceptual import Perceptual


@dataclass(frozen=True)
class ViewScore:
    """One picture's likeness."""

    name: str
    psnr: float
    """[dB] NaN where no pixel counts."""
    ssim: float
    """NaN where no window of 11 x 11 px fits between the picture's borders around a pixel that counts."""
    lpips: float | None = None
    """Learned perceptual distance; None where it was not measured."""
    depth_error: float | None = None
    """[unit of the poses] median distance from the sensor's depth; None without a sensor."""


@dataclass(frozen=True)
class Scores:
    """The likeness of all pictures asked for; means leave out views where there was nothing to measure."""

    views: tuple[ViewScore, ...]

    @property
    def psnr(self) -> float:
        """[dB] mean over the views; NaN without views."""
        return _mean(view.psnr for view in self.views)

    @property
    def ssim(self) -> float:
        """Mean over the views; NaN without views."""
        return _mean(view.ssim for view in self.views)

    @property
    def lpips(self) -> float | None:
        """Mean over the views; None where it was not measured."""
        return _mean_or_none(view.lpips for view in self.views)

    @property
    def depth_error(self) -> float | None:
        """[unit of the poses] mean over the views of their medians; None without a sensor."""
        return _mean_or_none(view.depth_error for view in self.views)

    def worst(self, count: int) -> tuple[ViewScore, ...]:
        """The views with the lowest PSNR, the worst first; those without one come last."""
        return tuple(sorted(self.views, key=badness)[:count])


def badness(view: ViewScore) -> float:
    """A key that sorts the worst view first and views without PSNR last."""
    return math.inf if math.isnan(view.psnr) else view.psnr


@torch.no_grad()
def evaluate(
    gaussians: Gaussians,
    views: Sequence[View],
    background: Color = BLACK,
    perceptual: Perceptual | None = None,
) -> Scores:
    """Score Gaussians against each view: where it has a mask, only pixels inside count.

    Args:
        gaussians: what was fitted.
        views: what the cameras saw; moved to the Gaussians' device one by one.
        background: colour behind the Gaussians and behind transparent pixels of the views, range [0, 1].
        perceptual: LPIPS, from `perceptual.lpips_metric()`; None leaves it out, which is faster.
    """
    return Scores(
        tuple(_scored(gaussians, view.to(gaussians.device), background, perceptual) for view in views)
    )


@torch.no_grad()
def shown(gaussians: Gaussians, view: View, background: Color = BLACK) -> Float[Tensor, "h w 3"]:
    """What the Gaussians show from a view's camera, range [0, 1]: the picture that `evaluate` judges."""
    return render(gaussians, view.camera, background=background).rgb.clamp(0, 1)


def _scored(gaussians: Gaussians, view: View, background: Color, perceptual: Perceptual | None) -> ViewScore:
    outputs = () if view.depth is None else ("depth",)
    rendering = render(gaussians, view.camera, background=background, outputs=outputs)
    rgb, truth, mask = rendering.rgb.clamp(0, 1), view.over(background), view.mask
    if mask is not None and not bool(mask.any()):
        return ViewScore(view.name, math.nan, math.nan)
    likeness = math.nan
    inside = truth[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS, 0]
    if inside.numel() and (
        mask is None or bool(mask[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS].any())
    ):
        likeness = ssim(rgb, truth, mask)
    distance = None if perceptual is None else _perceived(perceptual, rgb, view, background)
    return ViewScore(view.name, psnr(rgb, truth, mask), likeness, distance, _depth_error(rendering, view))


def _perceived(perceptual: Perceptual, rgb: Tensor, view: View, background: Color) -> float | None:
    """The network sees whole pictures: where nothing counts, both show the background."""
    truth = view.over(background)
    if view.mask is None:
        return perceptual(rgb, truth)
    counts, behind = view.mask[..., None], torch.as_tensor(background).to(rgb)
    return perceptual(torch.where(counts, rgb, behind), torch.where(counts, truth, behind))


def _depth_error(rendering: Rendering, view: View) -> float | None:
    """The median of |rendered - measured| where a depth was measured and the Gaussians are opaque."""
    if view.depth is None or rendering.depth is None:
        return None
    compared = (view.depth > 0) & (rendering.alpha > 0.5)
    if view.mask is not None:
        compared &= view.mask
    if not bool(compared.any()):
        return None
    return float((rendering.depth - view.depth)[compared].abs().median())


def _mean(values: Iterable[float]) -> float:
    listed = [value for value in values if not math.isnan(value)]
    return sum(listed) / len(listed) if listed else math.nan


def _mean_or_none(values: Iterable[float | None]) -> float | None:
    listed = [value for value in values if value is not None]
    return sum(listed) / len(listed) if listed else None
