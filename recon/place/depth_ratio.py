"""How sensor depth compares with the depth of sparse points in the same picture, robustly."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.capture import Frame
from gaussworld.io.images import read_depth

from .triangulate import visible

#: Logarithms of ratios this close to each other agree.
AGREE = 0.05


@dataclass(frozen=True)
class Ratio:
    """Sensor depth over point depth, over all pictures."""

    value: float
    """[m / unit]"""
    share: float
    """Share of all ratios that lie within 5 % of `value`; what hides a point makes its ratio smaller."""
    spread: float
    """Relative standard deviation, from the median deviation, between pictures; NaN for fewer than three."""
    pictures: int
    """Pictures with five or more ratios near `value`."""
    count: int
    """All ratios."""


def depth_ratio(frames: list[Frame], points: Float[Tensor, "m 3"]) -> Ratio | None:
    """The ratio at which most comparisons agree; None where there is nothing to compare.

    Ratios of visible points crowd together; those of points that something hides scatter below. The densest
    5 % are found first, and the median about them is taken.

    Args:
        frames: with depth files [mm].
        points: [unit of the poses] hidden ones may be among them.
    """
    logs = [_log_ratios(frame, points) for frame in frames]
    everything = torch.cat(logs) if logs else torch.zeros(0)
    if not len(everything):
        return None
    mode = _mode(everything)
    medians = [near.median() for log in logs if len(near := log[(log - mode).abs() < 2 * AGREE]) >= 5]
    return Ratio(
        value=math.exp(mode),
        share=float(((everything - mode).abs() < AGREE).double().mean()),
        spread=_deviation(torch.stack(medians)) if len(medians) > 2 else math.nan,
        pictures=len(medians),
        count=len(everything),
    )


def _log_ratios(frame: Frame, points: Float[Tensor, "m 3"]) -> Float[Tensor, " r"]:
    """Logarithms of metres of the sensor over units of the points, where both know."""
    assert isinstance(frame.depth, Path)
    depth = read_depth(frame.depth)
    height, width = depth.shape
    camera = (frame.depth_camera or frame.camera).to("cpu").rescaled(width, height)
    _, pixels, units = visible(camera, points)
    # Across an edge the sensor may have seen the other side: a point counts where its neighbourhood agrees.
    padded = torch.nn.functional.pad(depth[None, None], (1, 1, 1, 1), mode="replicate")
    highest = torch.nn.functional.max_pool2d(padded, 3, 1)[0, 0]
    lowest = -torch.nn.functional.max_pool2d(-padded, 3, 1)[0, 0]
    x, y = pixels.long().unbind(-1)
    sound = (lowest[y, x] > 0) & (highest[y, x] < (1 + AGREE) * lowest[y, x])
    return (depth[y, x][sound].double() / units[sound].double()).log()


def _mode(values: Float[Tensor, " r"]) -> float:
    """The median about the window of width `AGREE` that holds the most values."""
    ordered = values.sort().values
    counts = torch.searchsorted(ordered, ordered + AGREE) - torch.arange(len(ordered))
    middle = float(ordered[counts.argmax()]) + AGREE / 2
    for _ in range(5):
        middle = float(ordered[(ordered - middle).abs() < AGREE].median())
    return middle


def _deviation(values: Tensor) -> float:
    return 1.4826 * float((values - values.median()).abs().median())
