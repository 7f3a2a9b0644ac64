"""Adaptive density control (Kerbl et al. 2023, section 5.2) with an exact cap and decaying opacities."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.pose import rotation_from_quats
from gaussworld.render import Rendering

from ..optim import Parameters


@dataclass(frozen=True)
class Adc:
    """Settings of adaptive density control."""

    start: float = 0.05
    """Share of the run before the first change."""
    stop: float = 0.6
    """Share of the run after which nothing changes any more."""
    every: int = 50
    """Steps between changes."""
    grad_threshold: float = 2e-4
    """Mean length of a projected centre's gradient, in half pictures, above which a Gaussian multiplies."""
    clone_below: float = 0.01
    """Times the scene's extent: smaller Gaussians are cloned, larger ones are split in two."""
    prune_opacity: float = 0.005
    """Gaussians fainter than this go."""
    prune_scale: float = 0.5
    """Times the scene's extent: wider Gaussians go."""
    opacity_decay: float = 0.02
    """Share of every opacity taken away at each change. Hard resets to 0.01 would push alpha below the
    rasterizer's 1/255, where gradients end."""


class DensityControl:
    """Multiplies Gaussians where the picture pulls at them, removes those that show nothing."""

    def __init__(self, settings: Adc, cap: int, extent: float, generator: torch.Generator) -> None:
        self.settings, self.cap, self.extent, self.generator = settings, cap, extent, generator
        self._pulls: Tensor | None = None
        self._seen: Tensor | None = None

    def observe(self, rendering: Rendering) -> None:
        """Add up how hard a picture pulls at the centres of the Gaussians it shows."""
        assert rendering.means2d is not None and rendering.radii is not None
        if rendering.means2d.grad is None:
            return
        height, width = rendering.alpha.shape[-2:]
        half = rendering.means2d.new_tensor([width / 2, height / 2])
        pulls = (rendering.means2d.grad * half).norm(dim=-1).sum(0)
        seen = (rendering.radii.amax(-1) > 0).sum(0)
        if self._pulls is None or self._seen is None or len(self._pulls) != len(pulls):
            self._pulls, self._seen = torch.zeros_like(pulls), torch.zeros_like(seen)
        self._pulls += pulls
        self._seen += seen

    def state(self) -> dict[str, Tensor]:
        """The pulls added up so far."""
        if self._pulls is None or self._seen is None:
            return {}
        return {"pulls": self._pulls.clone(), "seen": self._seen.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        # Copies, because observing adds in place to what somebody may go back to.
        self._pulls = state["pulls"].clone() if "pulls" in state else None
        self._seen = state["seen"].clone() if "seen" in state else None

    def adapt(self, parameters: Parameters, step: int, share: float) -> None:
        """Every few steps: prune, clone, split, fade."""
        if step % self.settings.every or not self.settings.start <= share <= self.settings.stop:
            return
        if self._pulls is None or self._seen is None:
            return
        pull = self._pulls / self._seen.clamp(min=1)
        self._pulls = self._seen = None
        keep = _worth_keeping(parameters, self.settings, self.extent)
        wanted = keep & (pull > self.settings.grad_threshold)
        grown = strongest(pull, wanted, self.cap - int(keep.sum()))
        replace_rows(parameters, keep, grown, self.settings, self.extent, self.generator)


def strongest(pull: Float[Tensor, " n"], wanted: Bool[Tensor, " n"], budget: int) -> Bool[Tensor, " n"]:
    """The wanted rows, or as many of those with the largest pull as the budget allows."""
    rows = wanted.nonzero()[:, 0]
    if len(rows) > max(0, budget):
        order = pull[rows].argsort(descending=True, stable=True)
        rows = rows[order[: max(0, budget)]]
    chosen = torch.zeros_like(wanted)
    chosen[rows] = True
    return chosen


@torch.no_grad()
def replace_rows(
    parameters: Parameters,
    keep: Bool[Tensor, " n"],
    grown: Bool[Tensor, " n"],
    settings: Adc,
    extent: float,
    generator: torch.Generator,
) -> None:
    """Keep, clone or split rows in one move; each grown row adds exactly one Gaussian."""
    scales = parameters.leaf("log_scales").exp()
    large = scales.amax(-1) > settings.clone_below * extent
    cloned, split = (grown & ~large).nonzero()[:, 0], (grown & large).nonzero()[:, 0]
    stay = (keep & ~(grown & large)).nonzero()[:, 0]
    halves = torch.cat([split, split])
    parents = torch.cat([stay, cloned, halves])
    fresh = torch.ones_like(parents, dtype=torch.bool)
    fresh[: len(stay)] = False

    means = parameters.leaf("means")[parents]
    log_scales = parameters.leaf("log_scales")[parents]
    first = len(parents) - len(halves)
    means[first:] += _spread(parameters, halves, generator)
    log_scales[first:] -= math.log(1.6)
    opacities = _shared_opacity(parameters, parents, grown & ~large) * (1 - settings.opacity_decay)
    changed = {"means": means, "log_scales": log_scales, "opacity_logits": torch.logit(opacities, eps=1e-6)}
    parameters.rearrange(parents, fresh, changed)


def _worth_keeping(parameters: Parameters, settings: Adc, extent: float) -> Bool[Tensor, " n"]:
    visible = parameters.leaf("opacity_logits").sigmoid() > settings.prune_opacity
    sane = parameters.leaf("log_scales").exp().amax(-1) < settings.prune_scale * extent
    keep = visible & sane
    # A scene of which nothing is left could never grow again.
    return keep if bool(keep.any()) else torch.ones_like(keep)


def _spread(
    parameters: Parameters, rows: Int[Tensor, " m"], generator: torch.Generator
) -> Float[Tensor, "m 3"]:
    """Offsets drawn from the Gaussians themselves."""
    scales = parameters.leaf("log_scales")[rows].exp()
    noise = torch.randn(scales.shape, generator=generator).to(scales) * scales
    return (rotation_from_quats(parameters.leaf("quats")[rows]) @ noise[..., None])[..., 0]


def _shared_opacity(
    parameters: Parameters, parents: Int[Tensor, " m"], cloned: Bool[Tensor, " n"]
) -> Float[Tensor, " m"]:
    """Two clones on one spot together cover what one did: 1 - sqrt(1 - o) (Rota Bulò et al. 2024, eq. 6)."""
    opacities = parameters.leaf("opacity_logits").sigmoid()
    return torch.where(cloned, 1 - (1 - opacities).clamp(min=1e-6).sqrt(), opacities)[parents]
