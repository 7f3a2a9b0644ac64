"""Support and stability: what falls, what stays, what topples - by where the middle is."""

import math
from collections.abc import Sequence
from functools import cache, partial

import torch

from gaussworld.world_object import ObjectKind

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import BOX, GRAVITY, RATE_HZ, Case, Scene, Solid, one_box, table

_HEIGHT = BOX[2] / 2
#: [m] how far a middle is inside or outside of an edge.
_OVER = 0.02
#: [m] half of the small table, and of the pedestal.
_SMALL, _PEDESTAL = 0.3, 0.05
#: [m] the tall box; it balances on an edge when leaning atan(width / height) = 16.7 degrees.
_TALL = (0.06, 0.06, 0.2)
#: [deg] slopes with tan 15 = 0.27 < 0.4 < tan 30 = 0.58.
_GENTLE, _STEEP = 15.0, 30.0
#: [m] how high things are let go, and how many steps they then fall freely.
_DROP, _FREE = 0.6, 3


@cache
def stack_of_three() -> Scene:
    """A large, a middling and a small box on top of each other."""
    boxes = [
        Solid(f"box {k}", (w, w, 0.05), (0.0, 0.0, 0.025 + 0.05 * k)) for k, w in enumerate((0.1, 0.08, 0.06))
    ]
    return Scene("stack", (table(), *boxes))


@cache
def pedestal() -> Scene:
    """A box on a block of 10 cm that never moves."""
    block = Solid("block", (0.1, 0.1, 0.1), (0.0, 0.0, 0.05), kind=ObjectKind.STATIC)
    return Scene("pedestal", (table(), block, Solid("box", BOX, (0.0, 0.0, 0.1 + _HEIGHT))))


@cache
def tall_box() -> Scene:
    """A box of 6 x 6 x 20 cm that stands."""
    return Scene("tall box", (table(), Solid("box", _TALL, (0.0, 0.0, _TALL[2] / 2), friction=0.6)))


@cache
def ramp(degrees: float) -> Scene:
    """A box on a slope down towards +x."""
    tilt = math.radians(degrees)
    up = torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)])
    middle, turn = torch.tensor([0.0, 0.0, 0.25]), (0.0, tilt, 0.0)
    slab = Solid("ramp", (0.7, 0.3, 0.04), (0.0, 0.0, 0.25), turn, ObjectKind.STATIC)
    back = torch.tensor([math.cos(tilt), 0.0, -math.sin(tilt)]) * -0.2
    x, y, z = (middle + back + up * (0.02 + _HEIGHT)).tolist()
    return Scene(f"ramp {degrees:g}", (table(), slab, Solid("box", BOX, (x, y, z), turn)))


@cache
def _dropped() -> list[Case]:
    turns = [(0.0, 0.0, 0.0), (0.5, 0.3, 0.2), (-0.4, 0.9, 0.0)]
    return [one_box().case(25, places={"box": (0.0, 0.0, _DROP)}, turns={"box": turn}) for turn in turns]


@cache
def _over_the_edge(over: float) -> list[Case]:
    far = _SMALL + over
    places = [(far, 0.0, _HEIGHT), (0.0, -far, _HEIGHT)]
    return [one_box(half=_SMALL).case(20, places={"box": place}) for place in places]


@cache
def _over_the_ledge(over: float) -> list[Case]:
    far, height = _PEDESTAL + over, 0.1 + _HEIGHT
    places = [(far, 0.0, height), (0.0, -far, height)]
    return [pedestal().case(20, places={"box": place}) for place in places]


@cache
def _leaning(degrees: float) -> list[Case]:
    """On one of its lower edges, towards +x and towards -x."""
    lean, half, high = math.radians(degrees), _TALL[0] / 2, _TALL[2] / 2
    x = half - half * math.cos(lean) + high * math.sin(lean)
    z = half * math.sin(lean) + high * math.cos(lean)
    return [
        tall_box().case(30, places={"box": (sign * x, 0.0, z)}, turns={"box": (0.0, sign * lean, 0.0)})
        for sign in (1.0, -1.0)
    ]


@check(
    "support", 0.1, "",
    "An integrator of first order with 5 substeps a step errs by g t dt / 10, a fifteenth of g t^2 / 2 here.",
    _dropped,
)  # fmt: skip
def falls(outcomes: Sequence[Outcome]) -> Found:
    """A box in the air has fallen g t^2 / 2 after t = 0.1, 0.2 and 0.3 s; the error is a share of 0.44 m."""
    times = torch.arange(_FREE + 1) / RATE_HZ
    wanted = GRAVITY * times.square() / 2
    drops = [each.places("box")[0, 2] - each.places("box")[: _FREE + 1, 2] for each in outcomes]
    off = worst([(drop - wanted).abs() / wanted[-1] for drop in drops])
    fell = float(drops[0][-1])
    return Found(
        off, f"after 0.3 s it fell {fell:.3f} m in place of {float(wanted[-1]):.3f} m", {"fell_m": fell}
    )


@check("support", 0.003, "m", "3 mm is what a depth camera sees.", _dropped)
def lands(outcomes: Sequence[Outcome]) -> Found:
    """2.5 s after it was let go it lies still on the table: its lowest corner is at the table's height."""
    lowest = [each.corners("box")[-1, :, 2].min() for each in outcomes]
    off, speed = (
        worst([low.abs() for low in lowest]),
        worst([each.velocities("box")[-1].norm() for each in outcomes]),
    )
    said = f"its lowest corner is {1000 * off:.0f} mm off the table, and it moves at {speed:.3f} m/s"
    return Found(off, said, {"speed_m_s": speed}, sound=speed < 0.01)


def _stays(name: str, outcomes: Sequence[Outcome], where: str) -> Found:
    moved, leant = (
        worst([each.moved(name) for each in outcomes]),
        worst([each.angle(name) for each in outcomes]),
    )
    said = f"{where} it moved {1000 * moved:.1f} mm and turned {leant:.1f} degrees"
    return Found(moved, said, {"turned_deg": leant}, sound=leant < 2)


def _went_down(outcomes: Sequence[Outcome], where: str) -> Found:
    fell = min(float(each.places("box")[0, 2] - each.places("box")[:, 2].min()) for each in outcomes)
    return Found(fell, f"{where} it went down {1000 * fell:.0f} mm only, in 2 s")


_STAYING = "What is supported does not move; 2 mm is 2 % of its size, for settling."


@check("support", 0.002, "m", _STAYING, partial(_over_the_edge, -_OVER))
def edge_inside(outcomes: Sequence[Outcome]) -> Found:
    """A box half over the table's edge, its middle 2 cm inside, stays."""
    return _stays("box", outcomes, "with its middle on the table")


@check(
    "support", 0.1, "m", "It tips within 0.3 s and then falls freely.",
    partial(_over_the_edge, _OVER), least=True,
)  # fmt: skip
def edge_outside(outcomes: Sequence[Outcome]) -> Found:
    """A box half over the table's edge, its middle 2 cm outside, falls."""
    return _went_down(outcomes, "with its middle beyond the table")


@check("support", 0.002, "m", _STAYING, partial(_over_the_ledge, -_OVER))
def ledge_inside(outcomes: Sequence[Outcome]) -> Found:
    """A box half over the edge of what it stands on, its middle 2 cm inside, stays."""
    return _stays("box", outcomes, "with its middle on the block")


@check(
    "support", 0.05, "m", "It is 10 cm above the table, to which it must tip or fall.",
    partial(_over_the_ledge, _OVER), least=True,
)  # fmt: skip
def ledge_outside(outcomes: Sequence[Outcome]) -> Found:
    """A box half over the edge of what it stands on, its middle 2 cm outside, falls."""
    return _went_down(outcomes, "with its middle beyond the block")


@check("support", 0.002, "m", _STAYING, lambda: [stack_of_three().case(30)])
def stack_stays(outcomes: Sequence[Outcome]) -> Found:
    """Three boxes on top of each other stay for 3 s."""
    return max(
        (_stays(f"box {k}", outcomes, f"box {k} of the stack:") for k in range(3)), key=lambda f: f.value
    )


@check(
    "support", 3.0, "deg",
    "Each rocking keeps 77 % of its energy (Housner 1963): 3 s leave less than 1 degree.",
    partial(_leaning, 10.0),
)  # fmt: skip
def leaning_rights_itself(outcomes: Sequence[Outcome]) -> Found:
    """A tall box that leans 10 degrees, less than atan(width / height) = 16.7, falls back on its foot."""
    tilt = worst([each.tilt("box")[-1] for each in outcomes])
    return Found(tilt, f"after 3 s it leans {tilt:.0f} degrees")


@check(
    "support",
    5.0,
    "deg",
    "It lies on a face that is level; 5 degrees are for settling.",
    partial(_leaning, 24.0),
)
def leaning_topples(outcomes: Sequence[Outcome]) -> Found:
    """A tall box that leans 24 degrees, more than atan(width / height) = 16.7, ends on its side."""
    tilts = torch.stack([each.tilt("box")[-1] for each in outcomes])
    off = float((tilts - 90).abs().max())
    return Found(off, f"after 3 s it leans {float(tilts.min()):.0f} degrees in place of 90")


@check("support", 0.002, "m", _STAYING, lambda: [ramp(_GENTLE).case(20)])
def slope_holds(outcomes: Sequence[Outcome]) -> Found:
    """A box of friction 0.4 on a slope of 15 degrees (tan 15 = 0.27 < 0.4) stays."""
    return _stays("box", outcomes, "on the gentle slope")


@check("support", 0.1, "", "As for the free fall.", lambda: [ramp(_STEEP).case(5)])
def slope_slides(outcomes: Sequence[Outcome]) -> Found:
    """On 30 degrees it slides g (sin 30 - 0.4 cos 30) t^2 / 2 in t = 0.5 s; the error is a share of it."""
    tilt = math.radians(_STEEP)
    wanted = GRAVITY * (math.sin(tilt) - 0.4 * math.cos(tilt)) * 0.5**2 / 2
    slid = float(outcomes[0].moved("box")[5])
    return Found(abs(slid - wanted) / wanted, f"it slid {slid:.3f} m in 0.5 s in place of {wanted:.3f} m")


CHECKS = (
    falls, lands, edge_inside, edge_outside, ledge_inside, ledge_outside, stack_stays, leaning_rights_itself,
    leaning_topples, slope_holds, slope_slides,
)  # fmt: skip
