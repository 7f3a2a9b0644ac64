"""`Found`: the objects of a scene, as any way of finding them tells it, and what becomes of it in a world."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from gaussworld.edit import Segment
from gaussworld.gaussians import DELETED, HIDDEN, Gaussians
from gaussworld.neighbors import nearest
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID, ObjectKind

#: Confidence at most of what nobody sees, of 255.
_UNSEEN = 32
#: An object found anew is an old one if they share this part of all their Gaussians.
_SAME = 0.5


@dataclass(frozen=True, eq=False)
class Found:
    """An id for each of n Gaussians, and what is known of each object."""

    ids: Int[Tensor, " n"]
    """0 is the background."""
    confidences: UInt8[Tensor, " n"]
    """255 is certain."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of objects that have one; the others are called after their number in the world."""
    kinds: Mapping[int, ObjectKind] = field(default_factory=dict)
    """Rigid where it is not said."""

    @property
    def numbers(self) -> list[int]:
        """Ids of the objects that have Gaussians."""
        return [number for number in self.ids.unique().tolist() if number != BACKGROUND_ID]


def seen_rows(gaussians: Gaussians) -> Bool[Tensor, " n"]:
    """Rows that pictures can tell something about: neither deleted nor hidden."""
    return (gaussians.flags & (DELETED | HIDDEN)) == 0


def segment_edit(world: World, gaussians: Gaussians, found: Found) -> Segment:
    """The edit that makes objects of what was found among the shown Gaussians of a world.

    Rows that are not shown go with their nearest neighbour. Locked objects and robots keep theirs. An object
    that is mostly one the world has keeps its number, and with it name, kind and material.

    Args:
        world: to be changed.
        gaussians: all of its Gaussians, as `World.posed` gives them.
        found: for the shown ones among them.
    """
    found = _for_all(gaussians, found)
    kept = {
        number
        for number, item in world.objects.items()
        if item.locked or (item.kind is ObjectKind.ROBOT and number != BACKGROUND_ID)
    }
    old = gaussians.object_ids
    is_kept = torch.isin(old, torch.tensor(sorted(kept), dtype=old.dtype))
    renamed = _renumbered(world, torch.where(is_kept, BACKGROUND_ID, found.ids), old, kept)
    ids = torch.zeros_like(old)
    for number, new in renamed.items():
        ids[found.ids == number] = new
    ids = torch.where(is_kept, old, ids).to(torch.int32)
    confidences = torch.where(is_kept, gaussians.id_confidences, found.confidences)
    fresh = {number: new for number, new in renamed.items() if new not in world.objects}
    names = {new: found.names[number] for number, new in fresh.items() if number in found.names}
    kinds = {new: found.kinds.get(number, ObjectKind.RIGID) for number, new in fresh.items()}
    return Segment(ids, confidences, names, kinds)


def _for_all(gaussians: Gaussians, found: Found) -> Found:
    """As found, for the rows that are not shown too."""
    shown = seen_rows(gaussians)
    if bool(shown.all()) or not bool(shown.any()):
        return found
    ids = torch.zeros(len(gaussians), dtype=found.ids.dtype)
    confidences = torch.zeros(len(gaussians), dtype=torch.uint8)
    ids[shown], confidences[shown] = found.ids, found.confidences
    means = gaussians.means.detach().nan_to_num(0)
    _, rows = nearest(means[shown], 1, means[~shown])
    ids[~shown] = found.ids[rows[:, 0]]
    confidences[~shown] = found.confidences[rows[:, 0]].clamp(max=_UNSEEN)
    return replace(found, ids=ids, confidences=confidences)


def _renumbered(world: World, ids: Tensor, old: Tensor, kept: set[int]) -> dict[int, int]:
    """Number found -> number in the world: that of the same object before, its own if free, or a new one."""
    numbers = [number for number in ids.unique().tolist() if number != BACKGROUND_ID]
    renamed: dict[int, int] = {}
    for number in numbers:
        rows = ids == number
        before, count = old[rows].unique(return_counts=True)
        candidate, shared = int(before[count.argmax()]), int(count.max())
        together = int(rows.sum()) + int((old == candidate).sum()) - shared
        if candidate != BACKGROUND_ID and candidate not in kept and shared > _SAME * together:
            renamed[number] = candidate
    taken = {*world.objects, *renamed.values(), BACKGROUND_ID}
    for number in numbers:
        if number not in renamed:
            renamed[number] = number if number not in taken else max(taken) + 1
            taken.add(renamed[number])
    return renamed
