"""Causality: nothing moves before it is touched, far from what is touched, or for what is yet to come."""

from collections.abc import Sequence
from functools import cache

import torch

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import BOX, REACH, TIP, Case, Scene, Solid, one_box, pushing, table, waiting, way

_HEIGHT = BOX[2] / 2
#: [m] a tool this far away, or farther, has not touched.
_NEAR = 0.01
#: The step from which two paths differ.
_PARTING = 10
_REASON = "Nothing touches it; 1 mm is a hundredth of its size."


@cache
def side_by_side() -> Scene:
    """A box, and another 18 cm to the side of it."""
    boxes = [Solid(name, BOX, (0.0, y, _HEIGHT)) for name, y in (("pushed", 0.0), ("beside", 0.18))]
    return Scene("side by side", (table(), *boxes))


@cache
def _approaches() -> list[Case]:
    above = waiting(way((0.0, 0.0, 0.3), (0.0, 0.0, 0.065)), 3)
    along = way((-0.3, 0.02, TIP), (0.05 - REACH, 0.02, TIP))
    passing = way((-0.3, 0.09, TIP), (0.3, 0.09, TIP), speed=0.2)
    return [one_box().case(path) for path in (above, along, passing)]


@cache
def _parting() -> list[Case]:
    """The same way up to a step; then on, back, aside, and standing still."""
    same = pushing(0.15, wait=0)[: _PARTING + 1]
    ways = [torch.tensor([0.01, 0.0, 0.0]), torch.tensor([-0.02, 0.0, 0.0]), torch.tensor([0.0, 0.02, 0.0])]
    steps = torch.arange(1, 11)[:, None]
    paths = [torch.cat([same, same[-1] + steps * each]) for each in ways]
    return [one_box().case(path) for path in [*paths, waiting(same, 10)]]


@cache
def _in_the_air() -> list[Case]:
    high = 0.12
    corners = [(-0.3, 0.0, high), (0.3, 0.0, high), (0.0, 0.3, high), (-0.3, 0.0, high)]
    return [side_by_side().case(way(*corners, speed=0.3))]


@check("causality", 0.001, "m", _REASON, _approaches)
def still_before_contact(outcomes: Sequence[Outcome]) -> Found:
    """A box does not move while the tool has never been within 1 cm: from above, from afar, passing."""
    early = []
    for each in outcomes:
        before = (each.tool_gap("box") > _NEAR).int().cumprod(0).bool()
        early.append(each.moved("box")[before])
    moved = worst(early)
    return Found(moved, f"the box moved {1000 * moved:.1f} mm before the tool was within 10 mm")


@check("causality", 0.001, "m", _REASON, lambda: [side_by_side().case(pushing())])
def others_stay(outcomes: Sequence[Outcome]) -> Found:
    """While one box is pushed, another 8 cm beside it stays."""
    moved = worst([each.moved("beside") for each in outcomes])
    return Found(moved, f"the box that nothing touched moved {1000 * moved:.1f} mm")


@check("causality", 0.001, "m", _REASON, _in_the_air)
def air_moves_nothing(outcomes: Sequence[Outcome]) -> Found:
    """A tool that goes over the boxes, 7 cm above them, moves none."""
    moved = worst([each.moved(name) for each in outcomes for name in ("pushed", "beside")])
    return Found(moved, f"a box moved {1000 * moved:.1f} mm while the tool was 70 mm above")


@check(
    "causality",
    1e-4,
    "m",
    "The same question up to there; a tenth of a millimetre is for rounding in batches.",
    _parting,
)
def blind_to_the_future(outcomes: Sequence[Outcome]) -> Found:
    """Two ways that are the same up to step 10 give the same states up to step 10."""
    first = outcomes[0].future.poses[: _PARTING + 1]
    off = worst([(each.future.poses[: _PARTING + 1] - first).abs() for each in outcomes[1:]])
    return Found(off, f"what the tool does later changes what was before by {1000 * off:.1f} mm")


CHECKS = (still_before_contact, others_stay, air_moves_nothing, blind_to_the_future)
