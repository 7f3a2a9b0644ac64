"""`Learner`: what `fit` trains, whatever it is."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gaussworld.log import Event

from .recording import Recording


@runtime_checkable
class Learner(Protocol):
    """A model while it is trained; randomness comes from the generators that are handed in alone."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    def begin(self, recordings: Sequence[Recording]) -> None:
        """Take over from some recordings of training what does not change with training, such as scales."""
        ...

    def loss(
        self, recordings: Sequence[Recording], share: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """`loss`, and its parts by name, of some random stretches of some recordings.

        Args:
            recordings: what happened.
            share: how much of the training is done, range [0, 1].
            generator: chooses the stretches.
        """
        ...

    def score(self, recording: Recording) -> float:
        """[m] mean distance after up to 30 steps on a held-out recording; NaN if nothing moved."""
        ...

    def finish(self, recordings: Sequence[Recording], learned: Sequence[Recording]) -> Iterator[Event[None]]:
        """Gate, radii and what is usual, after training.

        Args:
            recordings: that were not learned from.
            learned: some that were.
        """
        ...

    def save(self, folder: Path, facts: dict[str, object]) -> None:
        """Write model.json, with these facts in it, and model.safetensors."""
        ...
