"""Joints: doors turn about their hinge, drawers slide along their axis, both within their limits."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gaussworld.world_object import Joint, ObjectKind

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import Case, Scene, Solid, table, way

#: [m] of the door: width, thickness, height, and how far its inner edge is from the hinge.
_WIDE, _THICK, _HIGH, _OFF = 0.3, 0.02, 0.3, 0.005
#: [m] radius of the pusher, and where on the door it pushes.
_RADIUS, _ARM = 0.0125, 0.22
#: [rad] and [m] limits.
_OPEN, _OUT = 1.5, 0.2
#: [m] how far the drawer is out at first, and half of its depth.
_FIRST, _HALF = 0.12, 0.1
_TIP = 0.03


@cache
def door(damping: float) -> Scene:
    """A door in the xz plane that opens towards +y, its hinge at the origin, on a post."""
    hinge = Joint("revolute", (0.0, 0.0, 1.0), limits=(0.0, _OPEN))
    post = Solid("post", (0.04, 0.04, 0.32), (-0.045, 0.0, 0.16), kind=ObjectKind.STATIC)
    leaf = Solid(
        "door", (_WIDE, _THICK, _HIGH), (0.0, 0.0, 0.01 + _HIGH / 2), kind=ObjectKind.ARTICULATED,
        middle=(_OFF + _WIDE / 2, 0.0, 0.0), damping=damping, joint=hinge, parent="post",
    )  # fmt: skip
    return Scene("door", (table(), post, leaf))


@cache
def drawer(damping: float) -> Scene:
    """A drawer that slides along x out of a cabinet; it is 12 cm out."""
    slide = Joint("prismatic", (1.0, 0.0, 0.0), limits=(0.0, _OUT), position=_FIRST)
    body = Solid("cabinet", (0.2, 0.24, 0.13), (-_HALF - 0.105, 0.0, 0.065), kind=ObjectKind.STATIC)
    box = Solid(
        "drawer", (2 * _HALF, 0.2, 0.1), (_FIRST, 0.0, 0.06), kind=ObjectKind.ARTICULATED, damping=damping,
        joint=slide, parent="cabinet",
    )  # fmt: skip
    return Scene("drawer", (table(), body, box))


@cache
def _opening() -> list[Case]:
    """The tool pushes the closed door; heavily damped, it follows the tool and no farther."""
    return [door(5.0).case(way((_ARM, -0.08, _TIP), (_ARM, 0.1, _TIP)))]


@cache
def _swinging() -> list[Case]:
    """Thrown open, and against its closed stop: it would coast, by rate / damping, beyond them."""
    return [door(1.0).case(20, rates={"door": rate}) for rate in (4.0, -2.0)]


@cache
def _closing() -> list[Case]:
    """Straight, and obliquely."""
    begin, end = _FIRST + _HALF + _RADIUS + 0.04, 0.04 + _HALF + _RADIUS
    straight = way((begin, 0.0, _TIP), (end, 0.0, _TIP))
    steps = torch.linspace(0, 1, len(straight))[:, None]
    return [drawer(5.0).case(path) for path in (straight, straight + steps * torch.tensor([0.0, 0.08, 0.0]))]


@cache
def _sliding() -> list[Case]:
    return [drawer(1.0).case(15, rates={"drawer": rate}) for rate in (1.0, -1.0)]


def _angle(each: Outcome) -> Tensor:
    """(u,) [rad] how far the door is open."""
    turns = each.turns("door")
    return torch.atan2(turns[:, 1, 0], turns[:, 0, 0])


def _beyond(values: Sequence[Tensor], limit: float) -> float:
    return max(0.0, *(max(float(value.max()) - limit, -float(value.min())) for value in values))


@check(
    "joints",
    2.0,
    "deg",
    "2 degrees are 8 mm where the tool touches, soft contact and coasting together.",
    _opening,
)
def door_follows_the_tool(outcomes: Sequence[Outcome]) -> Found:
    """A pushed door lies against the tool: angle atan(y / x) + asin((thickness / 2 + radius) / distance)."""
    each = outcomes[0]
    x, y = each.case.tool_path[-1, :2].tolist()
    wanted = math.atan2(y, x) + math.asin((_THICK / 2 + _RADIUS) / math.hypot(x, y))
    got = float(_angle(each)[-1])
    off = abs(math.degrees(got - wanted))
    return Found(
        off, f"the door is at {math.degrees(got):.0f} degrees in place of {math.degrees(wanted):.0f}"
    )


@check("joints", 1.0, "deg", "A stop is a stop; 1 degree is for its softness.", _swinging)
def door_keeps_its_limits(outcomes: Sequence[Outcome]) -> Found:
    """A door that is thrown open, or shut, never goes beyond its stops."""
    beyond = math.degrees(_beyond([_angle(each) for each in outcomes], _OPEN))
    return Found(beyond, f"the door goes {beyond:.1f} degrees beyond its stop")


@check(
    "joints", 0.001, "m", "A hinge has no play; 1 mm is for rounding.", lambda: [*_opening(), *_swinging()]
)
def door_stays_on_its_hinge(outcomes: Sequence[Outcome]) -> Found:
    """Whatever moves a door, its hinge stays where it is, and upright."""
    moved, tilt = (
        worst([each.moved("door") for each in outcomes]),
        worst([each.tilt("door") for each in outcomes]),
    )
    said = f"the hinge moved {1000 * moved:.1f} mm and leans {tilt:.1f} degrees"
    return Found(moved, said, {"leans_deg": tilt}, sound=tilt < 1)


@check("joints", 0.005, "m", "It is pushed 80 mm; at constant speed it cannot leave the tool.", _closing)
def drawer_follows_the_tool(outcomes: Sequence[Outcome]) -> Found:
    """A drawer that is pushed shut, straight or obliquely, has its front at the tool."""
    ends = [each.places("drawer")[-1, 0] for each in outcomes]
    wanted = [each.case.tool_path[-1, 0] - _RADIUS - _HALF for each in outcomes]
    off = worst([(end - want).abs() for end, want in zip(ends, wanted)])
    return Found(off, f"the drawer's front is {1000 * off:.0f} mm from the tool")


@check("joints", 0.002, "m", "A stop is a stop; 2 mm are for its softness.", _sliding)
def drawer_keeps_its_limits(outcomes: Sequence[Outcome]) -> Found:
    """A drawer that is thrown open, or shut, never goes beyond its stops."""
    beyond = _beyond([each.places("drawer")[:, 0] for each in outcomes], _OUT)
    return Found(beyond, f"the drawer goes {1000 * beyond:.1f} mm beyond its stop")


@check("joints", 0.001, "m", "A slide has no play; 1 mm is for rounding.", lambda: [*_closing(), *_sliding()])
def drawer_stays_on_its_slide(outcomes: Sequence[Outcome]) -> Found:
    """Whatever moves a drawer, and however obliquely, it moves along its axis only, and does not turn."""
    off = worst(
        [(each.places("drawer") - each.places("drawer")[:1])[:, 1:].norm(dim=-1) for each in outcomes]
    )
    turned = worst([each.angle("drawer") for each in outcomes])
    said = f"the drawer is {1000 * off:.1f} mm off its axis and turned {turned:.1f} degrees"
    return Found(off, said, {"turned_deg": turned}, sound=turned < 1)


@check("joints", 1e-4, "m", "It never moves.", lambda: [*_opening(), *_swinging(), *_closing(), *_sliding()])
def parents_stay(outcomes: Sequence[Outcome]) -> Found:
    """What a door or a drawer is mounted on stays where it is, and so does the table."""
    still = [
        each.moved(solid.name)
        for each in outcomes
        for solid in each.case.scene.solids
        if solid.kind is ObjectKind.STATIC
    ]
    moved = worst(still)
    return Found(moved, f"what never moves moved {1000 * moved:.1f} mm")


CHECKS = (
    door_follows_the_tool, door_keeps_its_limits, door_stays_on_its_hinge, drawer_follows_the_tool,
    drawer_keeps_its_limits, drawer_stays_on_its_slide, parents_stay,
)  # fmt: skip
