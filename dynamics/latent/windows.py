"""Recordings as tensors that stay in memory, and batches of windows of them, padded to one size."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..learning.recording import Recording
from .config import LatentConfig
from .scene import Scene, joined, padded, scene_of
from .situation import Follower, Hands, Situation, hands_of, shaken

_T = TypeVar("_T", Situation, Hands)
#: [m] a window in which nothing goes farther is a quiet one, and how often such a one is drawn.
_QUIET, _SELDOM = 0.002, 0.2


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recording as the latent model sees it: u moments."""

    scene: Scene
    truth: Situation
    """u moments."""
    hands: Hands
    """u moments."""
    paths: Float[Tensor, " u"]
    """[m] how far anything has gone until each moment."""

    def __len__(self) -> int:
        """The number t of steps."""
        return len(self.paths) - 1


def prepared(recording: Recording, config: LatentConfig) -> Prepared:
    """The tensors of a recording."""
    scene = scene_of(recording.world, recording.matter, recording.tools, config)
    follower = Follower(scene, recording.matter)
    truth = follower.situation(recording.states)
    hands = hands_of(scene, recording.states.tool_poses, recording.states.grip)
    steps = (truth.anchors[1:] - truth.anchors[:-1]).norm(dim=-1).mean(-1).sum(-1)
    return Prepared(scene, truth, hands, torch.cat([steps.new_zeros(1), steps.cumsum(0)]))


@dataclass(frozen=True, eq=False)
class Windows:
    """n windows of u moments each, as many in a row of each of the q worlds."""

    scene: Scene
    """Of the q worlds."""
    begin: Situation
    """(n)"""
    truth: Situation
    """(n, u)"""
    hands: list[Hands]
    """u of (n)"""

    def __len__(self) -> int:
        return len(self.begin.centers)


def batch(
    whole: Sequence[Prepared],
    starts: Sequence[int],
    steps: int,
    device: torch.device | str = "cpu",
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Windows:
    """Windows that begin at some moments of some recordings.

    Args:
        whole: recordings of at least so many steps.
        starts: moments at which windows begin: as many of the first recording as of the second, and so on.
        steps: length of all of them.
        device: where the batch goes.
        noise: [m] by which things stand elsewhere at the beginning.
        generator: draws that noise, and which windows are turned into their mirror images; None for none.
    """
    scene, each = joined([each.scene for each in whole]), len(starts) // len(whole)
    rows = [slice(start, start + steps + 1) for start in starts]
    whole = [recording for recording in whole for _ in range(each)]
    truth = Situation(**_stacked(Situation, [each.truth for each in whole], rows))
    hands = Hands(**_stacked(Hands, [each.hands for each in whole], rows))
    scene, truth, hands = scene.to(device), to_device(truth, device), to_device(hands, device)
    if generator is not None:
        # Physics is the same in a mirror: every window stands for two.
        signs = (2 * torch.randint(2, (len(scene),), generator=generator) - 1).float().to(device)
        both = signs.repeat_interleave(each)
        scene, truth, hands = scene.mirrored(signs), truth.mirrored(both), hands.mirrored(both)
    begin = _at(truth, 0)
    if noise > 0 and generator is not None:
        begin = shaken(scene.repeated(each), begin, noise, generator)
    return Windows(scene, begin, truth, [_at(hands, moment) for moment in range(steps + 1)])


def drawn(whole: Sequence[Prepared], count: int, steps: int, generator: torch.Generator) -> list[int]:
    """Where `count` random windows of each recording begin, more often where something moves."""
    starts: list[int] = []
    for each in whole:
        paths = each.paths
        moved = paths[steps:] - paths[: len(paths) - steps] > _QUIET
        weights = torch.where(moved, 1.0, _SELDOM)
        starts += torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
    return starts


def _stacked(
    kind: type[Situation] | type[Hands], values: Sequence[Situation] | Sequence[Hands], rows: list[slice]
) -> dict[str, Tensor]:
    return {
        f.name: padded([getattr(value, f.name)[row][None] for value, row in zip(values, rows)])
        for f in fields(kind)
    }


def _at(value: _T, moment: int) -> _T:
    return type(value)(**{f.name: getattr(value, f.name)[:, moment] for f in fields(value)})


def to_device(value: _T, device: torch.device | str) -> _T:
    """The same on a device."""
    return type(value)(**{f.name: getattr(value, f.name).to(device) for f in fields(value)})
