"""Which pictures are compared: all, neighbours in time, and those that look alike by their features."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gaussworld.threads import one_torch_thread

from .background import colmap

#: Up to so many pictures each is compared with each.
ALL_UP_TO = 60
#: Neighbours in time; beyond them, pictures 16, 32, ... frames away.
_NEIGHBOURS, _FARTHEST_POWER = 10, 8
#: Alike pictures of each: a video only needs them to close loops.
_LOOPS, _ALIKE = 8, 30
_WORDS, _SAMPLES, _ROUNDS = 64, 256, 10

Pair = tuple[int, int]


def choose_pairs(
    database: Path,
    names: list[str],
    matching: Literal["auto", "exhaustive", "sequential", "similar"],
    ordered: bool,
    seed: int,
) -> list[Pair]:
    """Rows in `names` of the pictures to compare, first below second, sorted.

    Args:
        database: holds the features by which pictures look alike.
        names: in time order where `ordered`.
        matching: the way of choosing.
        ordered: the pictures are a video's.
        seed: of the sample of features.
    """
    if matching == "auto":
        few = len(names) <= ALL_UP_TO
        matching = "exhaustive" if few else "sequential" if ordered else "similar"
    if matching == "exhaustive":
        return list(combinations(range(len(names)), 2))
    near = _neighbours(len(names)) if matching == "sequential" else set()
    with one_torch_thread():
        likeness = _likeness(database, names, seed)
    for first, second in near:
        likeness[first, second] = likeness[second, first] = -1
    return sorted(near | _alike(likeness, _LOOPS if near else _ALIKE))


def _neighbours(count: int) -> set[Pair]:
    steps = [*range(1, _NEIGHBOURS + 1), *(2**power for power in range(4, _FARTHEST_POWER + 1))]
    return {(row, row + step) for step in steps for row in range(count - step)}


def _alike(likeness: Tensor, count: int) -> set[Pair]:
    likeness.fill_diagonal_(-1)
    best, others = likeness.topk(min(count, len(likeness) - 1), dim=1)
    found: Iterable[list[int]] = torch.nonzero(best > 0).tolist()
    rows = ((row, int(others[row, column])) for row, column in found)
    return {(min(pair), max(pair)) for pair in rows}


def _likeness(database: Path, names: list[str], seed: int) -> Tensor:
    """Cosines (n n) between vectors of locally aggregated descriptors (Jégou et al. 2010, sec. 3)."""
    samples = _samples(database, names, torch.Generator().manual_seed(seed))
    words = _words(torch.cat(samples), torch.Generator().manual_seed(seed))
    vectors = torch.stack([_aggregated(sample, words) for sample in samples])
    return vectors @ vectors.T


def _samples(database: Path, names: list[str], generator: torch.Generator) -> list[Tensor]:
    """Some descriptors of each picture, unit length."""
    samples = []
    with colmap().Database.open(database) as opened:
        ids = {image.name: image.image_id for image in opened.read_all_images()}
        for name in names:
            if name not in ids or not opened.exists_descriptors(ids[name]):
                samples.append(torch.zeros(0, 128))
                continue
            found = torch.tensor(opened.read_descriptors(ids[name]).data).reshape(-1, 128)
            rows = torch.randperm(len(found), generator=generator)[:_SAMPLES]
            samples.append(torch.nn.functional.normalize(found[rows].float(), dim=1))
    return samples


def _words(descriptors: Tensor, generator: torch.Generator) -> Tensor:
    """Centres of clusters of descriptors, by Lloyd's algorithm."""
    words = descriptors[torch.randperm(len(descriptors), generator=generator)[:_WORDS]]
    for _ in range(_ROUNDS):
        nearest = (descriptors @ words.T).argmax(dim=1)
        sums = torch.zeros_like(words).index_add_(0, nearest, descriptors)
        words = torch.nn.functional.normalize(torch.where(sums.any(1, keepdim=True), sums, words), dim=1)
    return words


def _aggregated(descriptors: Tensor, words: Tensor) -> Tensor:
    nearest = (descriptors @ words.T).argmax(dim=1) if len(descriptors) else torch.zeros(0, dtype=torch.long)
    residuals = torch.zeros_like(words).index_add_(0, nearest, descriptors - words[nearest])
    # Each word counts alike, or a repeated pattern would speak for the whole picture.
    residuals = torch.nn.functional.normalize(residuals, dim=1)
    return torch.nn.functional.normalize(residuals.flatten(), dim=0)
