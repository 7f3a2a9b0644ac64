"""What objects leave behind when they go: the surface under them, filled from its surroundings."""

from collections.abc import Mapping, Sequence

import torch

from gaussworld.edit import EDITS, Edit, applied
from gaussworld.errors import EditError
from gaussworld.world import World

from .changes import widened
from .landmarks import drawn
from .relocalise import Shot

#: Share of the pixels around an object that one surface must have to be what it stood on.
_MOST = 0.3
_VIEWS = 6


def surface_below(world: World, objects: Sequence[int], shots: Sequence[Shot]) -> dict[int, int]:
    """What each object stood on: what the world says, else what is seen around it most, or nothing."""
    found: dict[int, int] = {}
    shown = world.shown()
    for number in objects:
        if supports := world.find(number).supported_by:
            found[number] = supports[0]
            continue
        counts: dict[int, int] = {}
        for shot in shots[:: max(1, len(shots) // _VIEWS)]:
            drawing = drawn(shown, shot.camera)
            assert drawing.ids is not None
            rows = drawing.ids.long()
            ids = torch.where(rows >= 0, shown.object_ids[rows.clamp(min=0)].long(), -1)
            mine = ids == number
            around = widened(mine, max(2, shot.camera.width // 80)) & ~mine & (ids >= 0)
            for each, count in zip(*ids[around].unique(return_counts=True)):
                counts[int(each)] = counts.get(int(each), 0) + int(count)
        likely = max(counts, key=lambda each: counts[each], default=None)
        if likely is not None and counts[likely] > _MOST * sum(counts.values()):
            found[number] = likely
    return found


def filled(world: World, surfaces: Mapping[int, int]) -> tuple[World, list[Edit]]:
    """The world with the surfaces under objects made whole while the objects still stand there.

    Where that cannot be done the pictures have to tell what is there.
    """
    kind, edits = EDITS.get("fill-hole"), []
    for number, surface in surfaces.items() if kind is not None else ():
        assert kind is not None
        edit = kind(object_id=surface, objects=(number,), undersides=False)  # pyright: ignore[reportCallIssue]
        try:
            world = applied(edit, world)
        except EditError:
            continue
        edits.append(edit)
    return world, edits
