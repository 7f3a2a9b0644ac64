"""`Rows`: which Gaussians of which objects an edit is about, as ranges of row numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..gaussians import DELETED
from ..world import World


@dataclass(frozen=True, eq=False)
class Rows:
    """Ranges [start, stop) of rows by object id; empty ranges are left out."""

    ranges: Mapping[int, Int[Tensor, "m 2"]] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World, mask: Bool[Tensor, " n"]) -> "Rows":
        """The rows of a mask over `world.posed()`, as the functions of `gaussworld.selection` give it.

        Raises:
            ValueError: the mask is of another length than there are Gaussians.
        """
        counts = [len(item.gaussians) for item in world.objects.values()]
        if len(mask) != sum(counts):
            raise ValueError(f"expected a mask of {sum(counts)} rows, got {len(mask)}")
        return cls.from_masks(dict(zip(world.objects, mask.split(counts))))

    @classmethod
    def from_masks(cls, masks: Mapping[int, Bool[Tensor, " n"]]) -> "Rows":
        """The rows that are true, by object id."""
        found = {number: ranges_of(mask) for number, mask in masks.items()}
        return cls({number: ranges for number, ranges in found.items() if len(ranges)})

    def __len__(self) -> int:
        """How many rows."""
        return sum(int((ranges[:, 1] - ranges[:, 0]).sum()) for ranges in self.ranges.values())

    def mask(self, object_id: int, count: int) -> Bool[Tensor, " n"]:
        """The rows of one object that has `count` Gaussians.

        Raises:
            ValueError: a range reaches beyond them.
        """
        ranges = self.ranges.get(object_id)
        if ranges is None or not len(ranges):
            return torch.zeros(count, dtype=torch.bool)
        if int(ranges.min()) < 0 or int(ranges.max()) > count or bool((ranges[:, 0] > ranges[:, 1]).any()):
            raise ValueError(f"object {object_id}: expected ranges within its {count} Gaussians, got others")
        steps = torch.zeros(count + 1, dtype=torch.int32)
        steps.index_add_(0, ranges[:, 0], torch.ones(len(ranges), dtype=torch.int32))
        steps.index_add_(0, ranges[:, 1], -torch.ones(len(ranges), dtype=torch.int32))
        return steps.cumsum(0)[:-1] > 0

    def masks(self, world: World) -> dict[int, Bool[Tensor, " n"]]:
        """The rows of every object that has some, without those that are deleted.

        Raises:
            ValueError: there is no such object, or a range reaches beyond its Gaussians.
        """
        found = {}
        for number in self.ranges:
            gaussians = world.find(number).gaussians
            found[number] = self.mask(number, len(gaussians)) & ((gaussians.flags.cpu() & DELETED) == 0)
        return found

    def to_plain(self) -> dict[str, Any]:
        """As JSON: object id -> pairs."""
        return {str(number): ranges.tolist() for number, ranges in self.ranges.items()}

    @classmethod
    def from_plain(cls, plain: Any) -> "Rows":
        """What `to_plain` wrote.

        Raises:
            ValueError: something else.
        """
        if not isinstance(plain, Mapping) or not all(map(_is_pairs, plain.values())):
            raise ValueError(f"expected pairs of rows by object id, got {str(plain)[:80]}")
        ranges = {}
        for number, pairs in plain.items():
            if not str(number).isdigit() or str(int(number)) != str(number):
                raise ValueError(f"expected ids of objects, got {str(number)[:80]!r}")
            ranges[int(number)] = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
        return cls(ranges)


def _is_pairs(pairs: Any) -> bool:
    def is_pair(pair: Any) -> bool:
        whole = isinstance(pair, list | tuple) and [*map(type, pair)] == [int, int]
        return whole and 0 <= pair[0] <= pair[1] < 2**62

    return isinstance(pairs, list | tuple) and all(map(is_pair, pairs))


def ranges_of(mask: Tensor) -> Tensor:
    """Where a mask begins and ceases to be true."""
    edges = torch.zeros(len(mask) + 2, dtype=torch.int8)
    edges[1:-1] = mask.cpu()
    steps = edges.diff()
    return torch.stack([(steps == 1).nonzero()[:, 0], (steps == -1).nonzero()[:, 0]], dim=1)
