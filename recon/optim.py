"""Parameters under optimisation: leaf tensors with Adam, whose rows and moments move together."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.sh import coefficient_count, degree_of


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


#: What becomes of a moment, given its leaf's name.
_Moved = Callable[[str, Tensor], Tensor]


class Parameters:
    """Gaussians being fitted. `sh` lives as two leaves, `sh0` and `sh_rest`, because their rates differ."""

    def __init__(self, gaussians: Gaussians, rates: LearningRates, extent: float) -> None:
        self.rates, self.extent = rates, extent
        self._object_ids, self._flags = gaussians.object_ids, gaussians.flags
        values = {
            name: getattr(gaussians, name) for name in ("means", "quats", "log_scales", "opacity_logits")
        }
        values |= {"sh0": gaussians.sh[:, :1], "sh_rest": gaussians.sh[:, 1:]}
        self._adam = self._fresh_adam({name: value.detach().clone() for name, value in values.items()})

    def __len__(self) -> int:
        return len(self.leaf("means"))

    @property
    def sh_degree(self) -> int:
        return degree_of(1 + self.leaf("sh_rest").shape[1])

    def leaf(self, name: str) -> Tensor:
        """The leaf tensor `means`, `quats`, `log_scales`, `opacity_logits`, `sh0` or `sh_rest`."""
        return self._group(name)["params"][0]

    def moments(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Adam's first and second moments of a leaf; None before its first step."""
        state = self._adam.state.get(self.leaf(name))
        return (state["exp_avg"], state["exp_avg_sq"]) if state else None

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
        rate, final = self._rate(name)
        return rate * final**progress

    def step(self, progress: float) -> None:
        """One Adam step on the leaves' gradients, at the rates of `progress` in [0, 1]; drops them."""
        for group in self._adam.param_groups:
            group["lr"] = self.rate(group["name"], progress)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Copies of all rows, ids, flags and moments, for a checkpoint."""
        state = {name: value.clone() for name, value in self._leaves().items()}
        state |= {"object_ids": self._object_ids.clone(), "flags": self._flags.clone()}
        for name in self._leaves():
            for key, value in self._adam.state.get(self.leaf(name), {}).items():
                state[f"{name}.{key}"] = value.clone()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave; nothing is shared with it."""
        adam = self._fresh_adam({name: state[name].clone() for name in self._leaves()})
        for group in adam.param_groups:
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{group['name']}.{key}" in state]
            if keys:
                moments = {key: state[f"{group['name']}.{key}"].clone() for key in keys}
                adam.state[group["params"][0]] = moments
        self._adam = adam
        self._object_ids, self._flags = state["object_ids"].clone(), state["flags"].clone()

    @torch.no_grad()
    def rearrange(
        self, parents: Int[Tensor, " m"], fresh: Bool[Tensor, " m"], changed: dict[str, Tensor]
    ) -> None:
        """Replace the rows: new row i descends from old row `parents[i]`.

        Values, object ids and moments are the parent's, but `changed` names leaves with new values (m rows),
        and moments of `fresh` rows start at zero. Everything is built before anything is replaced, so that an
        interrupt leaves either the old rows or the new ones.
        """
        leaves = {name: value[parents] for name, value in self._leaves().items() if name not in changed}
        kept = (~fresh).to(torch.float32)

        def moved(_: str, moment: Tensor) -> Tensor:
            return moment[parents] * kept.reshape(-1, *[1] * (moment.ndim - 1))

        adam = self._fresh_adam(leaves | changed, moved)
        object_ids, flags = self._object_ids[parents], self._flags[parents]
        self._adam, self._object_ids, self._flags = adam, object_ids, flags

    @torch.no_grad()
    def raise_sh_degree(self, degree: int) -> None:
        """Add zero coefficients, with zero moments, up to `degree`; before that they cost nothing."""
        missing = coefficient_count(degree) - 1 - self.leaf("sh_rest").shape[1]
        if missing <= 0:
            return

        def grown(value: Tensor) -> Tensor:
            return torch.cat([value, value.new_zeros(len(value), missing, 3)], dim=1)

        leaves = self._leaves()
        leaves["sh_rest"] = grown(leaves["sh_rest"])
        self._adam = self._fresh_adam(leaves, lambda name, m: grown(m) if name == "sh_rest" else m)

    def _leaves(self) -> dict[str, Tensor]:
        return {group["name"]: group["params"][0].detach() for group in self._adam.param_groups}

    def _rate(self, name: str) -> tuple[float, float]:
        if name == "means":
            return self.rates.means * self.extent, self.rates.means_final
        return getattr(self.rates, name), self.rates.others_final

    def _group(self, name: str) -> dict:
        return next(group for group in self._adam.param_groups if group["name"] == name)

    def _fresh_adam(self, leaves: dict[str, Tensor], moved: _Moved | None = None) -> torch.optim.Adam:
        """Adam over new leaves; `moved` turns the old optimiser's moments into theirs."""
        groups = [
            {"name": name, "params": [value.contiguous().requires_grad_()], "lr": self._rate(name)[0]}
            for name, value in leaves.items()
        ]
        adam = torch.optim.Adam(groups, eps=1e-15, fused=True)
        if moved is None:
            return adam
        for group in adam.param_groups:
            if old := self._adam.state.get(self.leaf(group["name"])):
                moments = {key: moved(group["name"], old[key]) for key in ("exp_avg", "exp_avg_sq")}
                adam.state[group["params"][0]] = {"step": old["step"].clone(), **moments}
        return adam
