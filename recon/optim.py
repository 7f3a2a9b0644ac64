"""Parameters under optimisation: leaf tensors with Adam, whose rows and moments move together."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.sh import coefficient_count, degree_of

from .adam import Learnt, named, under


@dataclass(frozen=True)
class LearningRates:
    """Adam's step sizes, three to ten times those of Kerbl et al. 2023: for runs of some thousand steps."""

    means: float = 4.8e-4
    """Times the scene's extent."""
    means_final: float = 0.01
    """What is left of the rate of means at the end, falling exponentially."""
    quats: float = 1e-2
    log_scales: float = 3e-2
    opacity_logits: float = 0.15
    sh0: float = 1.5e-2
    sh_rest: float = 1e-3
    others_final: float = 0.3
    """What is left of all other rates at the end, falling exponentially."""


class Parameters:
    """Gaussians being fitted. `sh` lives as two leaves, `sh0` and `sh_rest`, because their rates differ."""

    def __init__(self, gaussians: Gaussians, rates: LearningRates, extent: float) -> None:
        self.rates, self.extent = rates, extent
        self._object_ids, self._flags = gaussians.object_ids, gaussians.flags
        values = {
            name: getattr(gaussians, name) for name in ("means", "quats", "log_scales", "opacity_logits")
        }
        values |= {"sh0": gaussians.sh[:, :1], "sh_rest": gaussians.sh[:, 1:]}
        self._learnt = {name: Learnt(value.detach().clone()) for name, value in values.items()}

    def __len__(self) -> int:
        return len(self.leaf("means"))

    @property
    def sh_degree(self) -> int:
        return degree_of(1 + self.leaf("sh_rest").shape[1])

    def leaf(self, name: str) -> Tensor:
        """The leaf tensor `means`, `quats`, `log_scales`, `opacity_logits`, `sh0` or `sh_rest`."""
        return self._learnt[name].value

    def moments(self, name: str) -> tuple[Tensor, Tensor]:
        """Adam's first and second moments of a leaf."""
        return self._learnt[name].first, self._learnt[name].second

    def gaussians(self) -> Gaussians:
        """The Gaussians of the leaves, connected to them for gradients."""
        sh = (
            torch.cat([self.leaf("sh0"), self.leaf("sh_rest")], dim=1) if self.sh_degree else self.leaf("sh0")
        )
        means, quats = self.leaf("means"), self.leaf("quats")
        log_scales, opacity_logits = self.leaf("log_scales"), self.leaf("opacity_logits")
        return Gaussians(means, quats, log_scales, opacity_logits, sh, self._object_ids, self._flags)

    def rate(self, name: str, progress: float) -> float:
        """The step size of a leaf at `progress` in [0, 1] of the run."""
        if name == "means":
            return self.rates.means * self.extent * self.rates.means_final**progress
        return getattr(self.rates, name) * self.rates.others_final**progress

    def step(self, progress: float) -> None:
        """One Adam step on the leaves' gradients, at the rates of `progress` in [0, 1]; drops them."""
        for name, learnt in self._learnt.items():
            learnt.step(self.rate(name, progress))

    @torch.no_grad()
    def rearrange(
        self, parents: Int[Tensor, " m"], fresh: Bool[Tensor, " m"], changed: dict[str, Tensor]
    ) -> None:
        """Replace the rows: new row i descends from old row `parents[i]`.

        Values, object ids and moments are the parent's, but `changed` names leaves with new values (m rows),
        and moments of `fresh` rows start at zero. Everything is built before anything is replaced, so that an
        interrupt leaves either the old rows or the new ones.
        """
        kept = (~fresh).to(torch.float32)

        def moved(moment: Tensor) -> Tensor:
            return moment[parents] * kept.reshape(-1, *[1] * (moment.ndim - 1))

        learnt = {}
        for name, old in self._learnt.items():
            value = changed[name] if name in changed else old.value.detach()[parents]
            learnt[name] = old.replaced(value, moved(old.first), moved(old.second))
        object_ids, flags = self._object_ids[parents], self._flags[parents]
        self._learnt, self._object_ids, self._flags = learnt, object_ids, flags

    @torch.no_grad()
    def raise_sh_degree(self, degree: int) -> None:
        """Add zero coefficients, with zero moments, up to `degree`; before that they cost nothing."""
        missing = coefficient_count(degree) - 1 - self.leaf("sh_rest").shape[1]
        if missing <= 0:
            return

        def grown(value: Tensor) -> Tensor:
            return torch.cat([value, value.new_zeros(len(value), missing, 3)], dim=1)

        old = self._learnt["sh_rest"]
        rest = old.replaced(grown(old.value.detach()), grown(old.first), grown(old.second))
        self._learnt = {**self._learnt, "sh_rest": rest}

    def state(self) -> dict[str, Tensor]:
        """Copies of all rows, ids, flags and moments, for a checkpoint."""
        state = {"object_ids": self._object_ids.clone(), "flags": self._flags.clone()}
        for name, learnt in self._learnt.items():
            state |= named(name, learnt.state())
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave; nothing is shared with it."""
        self._learnt = {name: Learnt.restored(under(name, state)) for name in self._learnt}
        self._object_ids, self._flags = state["object_ids"].clone(), state["flags"].clone()
