"""Means and shares with the intervals in which they lie nine times out of ten."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: What every interval promises, and that quantile of the normal distribution.
CONFIDENCE, _Z = 0.9, 1.6448536269514722
_RESAMPLES = 1000


@dataclass(frozen=True)
class Mean:
    """A mean over episodes."""

    mean: float
    low: float
    """5 % of the means of resampled episodes are below."""
    high: float
    """5 % are above."""
    error: float | None
    """Standard error of the mean; None for a single episode."""
    count: int
    """Episodes."""


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    share: float
    low: float
    """Wilson's interval, 90 %."""
    high: float
    hits: int
    count: int


def mean_of(values: Sequence[float], seed: int = 0) -> Mean | None:
    """Mean and percentile bootstrap interval (Efron 1979) of one value for each episode; None of none."""
    if not values:
        return None
    given = torch.tensor(values, dtype=torch.float64)
    means = given[_draws(len(given), seed)].mean(1)
    low, high = _middle(means)
    error = float(given.std()) / math.sqrt(len(given)) if len(given) > 1 else None
    return Mean(float(given.mean()), low, high, error, len(given))


def gain_of(values: Sequence[float], others: Sequence[float], seed: int = 0) -> Mean | None:
    """By which share the mean of `values` is below that of `others`, of the same episodes: 0.25 is 25 % less.

    Episodes are resampled in pairs. None where there is no episode, or nothing to improve upon.

    Args:
        values: one for each episode.
        others: of the same episodes, in the same order.
        seed: of the resampling.
    """
    if len(values) != len(others):
        raise ValueError(f"expected values of the same episodes, got {len(values)} and {len(others)}")
    a, b = (torch.tensor(each, dtype=torch.float64) for each in (values, others))
    if not len(a) or float(b.sum()) <= 0:
        return None
    rows = _draws(len(a), seed)
    low, high = _middle(1 - a[rows].sum(1) / b[rows].sum(1).clamp(min=1e-12))
    return Mean(float(1 - a.sum() / b.sum()), low, high, None, len(a))


def share_of(hits: int, count: int) -> Share | None:
    """A share with its score interval (Wilson 1927, JASA 22, p. 209-212); None of none.

    Raises:
        ValueError: more hits than there are.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"expected hits of 0 to {count}, got {hits}")
    if not count:
        return None
    p, z2 = hits / count, _Z * _Z
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(p * (1 - p) / count + z2 / (4 * count * count))
    return Share(p, max(middle - half, 0.0), min(middle + half, 1.0), hits, count)


def quantile_of(values: Sequence[float], share: float) -> float | None:
    """The value that this share of all is not above; None of none."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(share)) if values else None


def curve_of(rows: Sequence[Sequence[float]], seed: int = 0) -> list[tuple[float, float, float]]:
    """Mean, low and high at each moment of curves, one for each episode, that may be of different lengths.

    At each moment those that reach it count.
    """
    if not rows:
        return []
    longest = max(map(len, rows))
    values = torch.full((len(rows), longest), math.nan, dtype=torch.float64)
    for row, given in enumerate(rows):
        values[row, : len(given)] = torch.tensor(given, dtype=torch.float64)
    means = values[_draws(len(rows), seed)].nanmean(1)
    # A resampling may hold none of the longest episodes: it says nothing about their end.
    low, high = means.nanquantile(0.05, dim=0), means.nanquantile(0.95, dim=0)
    return list(zip(values.nanmean(0).tolist(), low.tolist(), high.tolist()))


def _draws(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, (_RESAMPLES, count), generator=generator)


def _middle(values: Float[Tensor, " r"]) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([0.05, 0.95], dtype=values.dtype)).tolist()
    return low, high
