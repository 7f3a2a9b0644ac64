"""One tensor under Adam (Kingma and Ba 2015), its moments in reach: rows come and go while it is learnt."""

import torch
from torch import Tensor
from torch.optim.adam import adam


class Learnt:
    """A leaf tensor and what Adam remembers about it.

    `torch.optim.Adam` hides the moments in a dictionary keyed by the tensor, which changes with every new
    row, and imports the compiler for a second and a half; this calls the same fused step.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value.detach().contiguous().requires_grad_()
        """The leaf: gradients gather in it."""
        self.first, self.second = torch.zeros_like(value), torch.zeros_like(value)
        """Running means of the gradient and of its square."""
        self.steps = torch.zeros((), device=value.device)

    def step(self, rate: float) -> None:
        """Move against the gradient by Adam's rule, and drop it; nothing happens without one."""
        if self.value.grad is None:
            return
        if self.value.numel():
            adam(
                [self.value],
                [self.value.grad],
                [self.first],
                [self.second],
                [],
                [self.steps],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=0.0,
                eps=1e-15,
                maximize=False,
            )
        self.value.grad = None

    def replaced(self, value: Tensor, first: Tensor, second: Tensor) -> "Learnt":
        """The same leaf with other rows; both moments have the shape of the value."""
        new = Learnt(value)
        new.first, new.second, new.steps = first.contiguous(), second.contiguous(), self.steps
        return new

    def state(self) -> dict[str, Tensor]:
        """Copies of the value and of all that Adam remembers, for a checkpoint."""
        return {
            "value": self.value.detach().clone(),
            "first": self.first.clone(),
            "second": self.second.clone(),
            "steps": self.steps.clone(),
        }

    @classmethod
    def restored(cls, state: dict[str, Tensor]) -> "Learnt":
        """What `state` gave; nothing is shared with it."""
        learnt = cls(state["value"].clone())
        learnt.first, learnt.second = state["first"].clone(), state["second"].clone()
        learnt.steps = state["steps"].clone()
        return learnt


def under(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a checkpoint whose keys begin with `name/`, without that."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def named(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state whose keys begin with `name/`; the inverse of `under`."""
    return {f"{name}/{key}": value for key, value in state.items()}
