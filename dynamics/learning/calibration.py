"""`Radius` and `Usual`: radii that hold the truth nine times out of ten, and what training was like."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: The share of true places that a radius shall hold.
COVERED = 0.9
#: [m] No doubt is smaller once something happened.
_LEAST = 2e-4
#: Horizons on whose errors a factor rests besides its own, as a share of it.
_WINDOW = 0.15


@dataclass(frozen=True, eq=False)
class Radius:
    """Conformal factors on doubts, one for each horizon (Vovk et al. 2005; Lei et al. 2018)."""

    factors: Float[Tensor, " h"]
    """Of horizons 1 to h; beyond them the last goes on."""

    def __call__(self, doubts: Float[Tensor, "u *b o"]) -> Float[Tensor, "u *b o"]:
        """[m] radii for doubts [m] after 0, 1, 2, ... steps."""
        steps = torch.arange(1, len(doubts)).clamp(max=len(self.factors)) - 1
        factors = torch.cat([self.factors.new_zeros(1), self.factors[steps]]).to(doubts)
        return factors.reshape(-1, *[1] * (doubts.ndim - 1)) * floored(doubts)

    @classmethod
    def of(cls, errors: Float[Tensor, "h n"], doubts: Float[Tensor, "h n"]) -> "Radius":
        """From errors [m] of recordings that were not learned from, NaN where there was nothing to see.

        Raises:
            ValueError: there is not one error.
        """
        ratios = errors / floored(doubts)
        factors = []
        for horizon in range(1, len(ratios) + 1):
            reach = int(_WINDOW * horizon)
            near = ratios[max(0, horizon - 1 - reach) : horizon + reach]
            near = near[near.isfinite()]
            factors.append(_quantile(near) if len(near) else math.nan)
        known = [value for value in factors if math.isfinite(value)]
        if not known:
            raise ValueError("expected errors to learn radii from, got none: nothing moved")
        filled, last = [], known[0]
        for value in factors:
            last = value if math.isfinite(value) else last
            filled.append(last)
        return cls(torch.tensor(filled))


def floored(doubts: Tensor) -> Tensor:
    """Doubts that are never quite zero, but for those of what nothing happened to."""
    return torch.where(doubts > 0, (doubts.square() + _LEAST**2).sqrt(), 0 * doubts + _LEAST)


def _quantile(ratios: Tensor) -> float:
    """The smallest ratio that is not exceeded nine times out of ten, by those seen and the next one."""
    rank = min(len(ratios), math.ceil((len(ratios) + 1) * COVERED))
    return float(ratios.sort().values[rank - 1])


@dataclass(frozen=True, eq=False)
class Usual:
    """How far situations of training were from their mean, by their own covariance (Lee et al. 2018)."""

    mean: Float[Tensor, " f"]
    whitening: Float[Tensor, "f f"]
    distances: Float[Tensor, " n"]
    """Of situations that were not in mean and covariance, sorted."""

    @classmethod
    def of(cls, known: Float[Tensor, "n f"], other: Float[Tensor, "m f"]) -> "Usual":
        """From situations, and from others of the same kind that tell how far such a one usually is."""
        mean = known.mean(0)
        off = (known - mean).double()
        scale = off.square().mean(0).sqrt() + 0.02 * mean.abs() + 1e-3
        covariance = (off / scale).T @ (off / scale) / max(len(known) - 1, 1)
        # Few situations know little of many directions.
        mixed = 0.9 * covariance + 0.1 * torch.eye(len(mean)).to(covariance)
        values, vectors = torch.linalg.eigh(mixed)
        whitening = (vectors / values.clamp(min=1e-6).sqrt()).T / scale
        made = cls(mean, whitening.float(), torch.zeros(0))
        return cls(mean, made.whitening, made._far(other).sort().values)

    def _far(self, situations: Tensor) -> Tensor:
        return ((situations - self.mean) @ self.whitening.T).norm(dim=-1)

    def rank(self, situation: Float[Tensor, " f"]) -> float:
        """The share of usual situations that are nearer to the mean."""
        return float((self.distances < self._far(situation[None])).float().mean())
