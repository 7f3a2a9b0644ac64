"""`Crew`: one process or several that train the same model, as `torchrun` starts them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Crew:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "Crew":
        """The crew that torchrun's environment tells of; a lone process without one.

        Gradients travel through NCCL between GPUs and through Gloo elsewhere.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size <= 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[T]:
        """This process's share."""
        return list(items[self.rank :: self.size])

    def average(self, module: nn.Module) -> None:
        """Give all processes the mean of their gradients."""
        if self.size == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in module.parameters()]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        flat /= self.size
        for parameter, part in zip(module.parameters(), flat.split([grad.numel() for grad in grads])):
            parameter.grad = part.view_as(parameter).clone()

    def gathered(self, values: Sequence[T]) -> list[T]:
        """What all processes have, in one list."""
        if self.size == 1:
            return list(values)
        lists: list[Any] = [None] * self.size
        distributed.all_gather_object(lists, list(values))
        return [value for part in lists for value in part]

    def told(self, value: T) -> T:
        """What the leader has."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]
