"""Penetration: solids keep out of each other, of walls, of the table and of the tool."""

from collections.abc import Sequence
from functools import cache

import torch

from gaussworld.world_object import ObjectKind

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import BOX, REACH, TIP, Case, Scene, Solid, one_box, pushing, table, two_boxes, waiting, way

_HEIGHT = BOX[2] / 2
#: [m] where the wall begins.
_WALL = 0.15
_REASON = "2 mm is what a depth camera sees, and less than any gripper's tolerance."


@cache
def before_a_wall() -> Scene:
    """A box 10 cm before a wall."""
    wall = Solid("wall", (0.04, 0.6, 0.15), (_WALL + 0.02, 0.0, 0.075), kind=ObjectKind.STATIC)
    return Scene("before a wall", (table(), wall, Solid("box", BOX, (0.0, 0.0, _HEIGHT))))


@cache
def _pushes() -> list[Case]:
    oblique = way((-0.12, -0.1, TIP), (0.05, 0.05, TIP))
    fast = way((-REACH - 0.09, 0.0, TIP), (0.15 - REACH, 0.0, TIP), speed=0.3)
    paths = [pushing(), pushing(aside=0.03), waiting(oblique, 5), waiting(fast, 5)]
    return [one_box().case(path) for path in paths]


@cache
def _to_the_wall() -> list[Case]:
    """Until the box touches the wall, and not beyond: what then gave way would be anybody's guess."""
    return [before_a_wall().case(pushing(_WALL - BOX[0] / 2, wait=10))]


@cache
def _against_the_wall() -> list[Case]:
    return [before_a_wall().case(10, twists={"box": (v, 0.3 * v, 0.0, 0.0, 0.0, 0.0)}) for v in (1.0, 2.0)]


@cache
def _chain() -> list[Case]:
    return [two_boxes().case(pushing(0.25, wait=10))]


@cache
def _dropped() -> list[Case]:
    turns = [(0.0, 0.0, 0.0), (0.5, 0.3, 0.2), (-0.4, 0.9, 0.0), (0.7, 0.0, 0.0)]
    return [one_box().case(15, places={"box": (0.0, 0.0, 0.3)}, turns={"box": turn}) for turn in turns]


def _deep(depth: float, what: str) -> Found:
    return Found(depth, f"{what} {1000 * depth:.1f} mm deep")


@check("penetration", 0.002, "m", _REASON, _pushes)
def tool_stays_out(outcomes: Sequence[Outcome]) -> Found:
    """The tool is never inside the box: pushed at its middle, beside it, obliquely, and fast."""
    return _deep(max(0.0, worst([-each.tool_gap("box") for each in outcomes])), "the tool is in the box")


@check("penetration", 0.002, "m", _REASON, _to_the_wall)
def pushed_to_a_wall(outcomes: Sequence[Outcome]) -> Found:
    """A box that is pushed until it touches a wall is not in it."""
    return _deep(worst([each.depth("box", "wall") for each in outcomes]), "the box is in the wall")


@check("penetration", 0.002, "m", _REASON, _against_the_wall)
def slid_against_a_wall(outcomes: Sequence[Outcome]) -> Found:
    """A box that slides fast against a wall is never in it, nor beyond."""
    depth = worst([each.depth("box", "wall") for each in outcomes])
    beyond = worst([each.places("box")[:, 0] for each in outcomes]) - _WALL
    return _deep(max(depth, beyond), "the box is in the wall, or beyond where it begins,")


@check("penetration", 0.002, "m", _REASON, _chain)
def pushed_together(outcomes: Sequence[Outcome]) -> Found:
    """A box that is pushed into another one, and pushes it on, is not in it."""
    return _deep(worst([each.depth("near", "far") for each in outcomes]), "one box is in the other")


@check("penetration", 0.002, "m", _REASON, _dropped)
def table_holds(outcomes: Sequence[Outcome]) -> Found:
    """A dropped box is never in the table: level, tumbled, or on an edge."""
    lowest = torch.stack([each.corners("box")[..., 2].amin() for each in outcomes])
    return _deep(max(0.0, -float(lowest.min())), "a corner of the box is in the table")


CHECKS = (tool_stays_out, pushed_to_a_wall, slid_against_a_wall, pushed_together, table_holds)
