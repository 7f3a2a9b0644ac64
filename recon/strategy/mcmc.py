"""Splatting as Markov chain Monte Carlo (Kheradmand et al. 2024): noise, relocation, an exact cap.

The paper's opacity and scale regularisers are `lambda_opacity` and `lambda_scale` of the trainer.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.pose import rotation_from_quats
from gaussworld.render import Rendering

from ..optim import Parameters

#: The most copies that one Gaussian is cut into at once; the sums of eq. 9 lose their digits beyond.
_MOST_COPIES = 51


@dataclass(frozen=True)
class Mcmc:
    """Settings of the Markov chain."""

    start: float = 0.02
    """Share of the run before the first relocation."""
    stop: float = 0.85
    """Share of the run after which nothing is relocated or added any more."""
    every: int = 100
    """Steps between relocations."""
    growth: float = 0.05
    """Share of the Gaussians added at each relocation, up to the cap."""
    dead_opacity: float = 0.005
    """Gaussians fainter than this are moved onto living ones."""
    noise: float = 4e6
    """Size of the noise on the means, times their learning rate, both relative to the scene's extent so that
    the unit does not matter: with this trainer's rates, the paper's 5e5 (eq. 10) at an extent of 5."""


class Relocation:
    """Moves dead Gaussians onto living ones without changing the picture, and lets all of them wander."""

    def __init__(self, settings: Mcmc, cap: int, generator: torch.Generator) -> None:
        self.settings, self.cap, self.generator = settings, cap, generator

    def observe(self, rendering: Rendering) -> None:
        """Nothing is learnt from gradients."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """There is nothing to take up."""

    @torch.no_grad()
    def adapt(self, parameters: Parameters, step: int, share: float) -> None:
        """Every few steps relocate and grow; at every step add noise to the means."""
        if step % self.settings.every == 0 and self.settings.start <= share <= self.settings.stop:
            self._relocate(parameters)
            self._grow(parameters)
        if self.settings.noise > 0:
            self._wander(parameters, share)

    def _relocate(self, parameters: Parameters) -> None:
        opacities = parameters.leaf("opacity_logits").sigmoid()
        dead = opacities <= self.settings.dead_opacity
        if not bool(dead.any()) or bool(dead.all()):
            return
        weights = torch.where(dead, 0.0, opacities)
        chosen = self._draw(weights, int(dead.sum()))
        parents = torch.arange(len(opacities), device=opacities.device)
        parents[dead] = chosen
        _cut(parameters, parents, dead.nonzero()[:, 0])

    def _grow(self, parameters: Parameters) -> None:
        count = len(parameters)
        more = min(self.cap, math.ceil(count * (1 + self.settings.growth))) - count
        if more <= 0:
            return
        chosen = self._draw(parameters.leaf("opacity_logits").sigmoid(), more)
        rows = torch.arange(count, device=chosen.device)
        _cut(parameters, torch.cat([rows, chosen]), torch.arange(count, count + more, device=chosen.device))

    def _draw(self, weights: Float[Tensor, " n"], count: int) -> Int[Tensor, " m"]:
        """Rows in proportion to their weight, with replacement; on the CPU, so that a seed decides."""
        cumulated = weights.double().cpu().cumsum(0)
        at = torch.rand(count, generator=self.generator, dtype=torch.float64) * cumulated[-1]
        rows = torch.searchsorted(cumulated, at, right=True).clamp(max=len(weights) - 1)
        return rows.to(weights.device)

    def _wander(self, parameters: Parameters, share: float) -> None:
        """Noise shaped like each Gaussian, for those that show little (eq. 10)."""
        opacities = parameters.leaf("opacity_logits").sigmoid()
        faint = torch.sigmoid(-100 * (opacities - 0.005))
        scales, quats = parameters.leaf("log_scales").exp(), parameters.leaf("quats")
        noise = torch.randn(scales.shape, generator=self.generator).to(scales)
        rotations = rotation_from_quats(quats)
        turned = (rotations.transpose(1, 2) @ noise[..., None])[..., 0] * scales.square()
        moved = (rotations @ turned[..., None])[..., 0]
        size = self.settings.noise * parameters.rate("means", share) / parameters.extent**2
        parameters.leaf("means").add_(moved * (size * faint)[:, None])


@torch.no_grad()
def _cut(parameters: Parameters, parents: Int[Tensor, " m"], fresh: Int[Tensor, " f"]) -> None:
    """Rows become copies of their parents, and each parent with its copies shows what it showed alone."""
    copies = torch.bincount(parents, minlength=len(parameters)).clamp(max=_MOST_COPIES)
    opacities, log_scales = shared_among(
        parameters.leaf("opacity_logits").sigmoid(), parameters.leaf("log_scales"), copies
    )
    changed = {
        "opacity_logits": torch.logit(opacities, eps=1e-6)[parents],
        "log_scales": log_scales[parents],
    }
    # Parents change as much as their copies do: their moments describe what they no longer are.
    renewed = (copies > 1)[parents]
    renewed[fresh] = True
    parameters.rearrange(parents, renewed, changed)


def shared_among(
    opacities: Float[Tensor, " n"], log_scales: Float[Tensor, "n 3"], copies: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Opacity and log scales of N Gaussians on one spot that together look like one (eq. 9).

    Args:
        opacities: of the one, range (0, 1).
        log_scales: of the one.
        copies: N for each row; rows with at most 1 stay as they are.
    """
    rows = (copies > 1).nonzero()[:, 0]
    n, one = copies[rows], opacities[rows]
    each = 1 - (1 - one).clamp(min=1e-7) ** (1 / n)
    powers = each.double()[:, None] ** torch.arange(1, _MOST_COPIES + 1, device=each.device)
    sums = (powers * _weights(_MOST_COPIES).to(each.device)[n - 1]).sum(1)
    shared, grown = opacities.clone(), log_scales.clone()
    shared[rows] = each
    # Standard deviations scale with the root of the covariance's factor: opacity / sum.
    grown[rows] += (one / sums).log().to(log_scales)[:, None]
    return shared, grown


@cache
def _weights(most: int) -> Float[Tensor, "n k"]:
    """Row N - 1, column k: sum over i = k+1..N of binom(i-1, k) (-1)^k / sqrt(k + 1)."""
    table = torch.zeros(most, most, dtype=torch.float64)
    for n in range(1, most + 1):
        for k in range(n):
            # Summing binom(i-1, k) over i gives binom(N, k+1).
            table[n - 1, k] = math.comb(n, k + 1) * (-1) ** k / math.sqrt(k + 1)
    return table
