"""Long horizon: 300 steps, 30 s, of rest, of work, and of nothing that matters."""

import math
from collections.abc import Sequence
from functools import cache

import torch

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import BOX, TIP, Case, Scene, Solid, table

STEPS = 300
_HEIGHT = BOX[2] / 2
#: [m] at most, and [rad] a step: how the tool goes to and fro between two boxes.
_SWING, _PACE = 0.15, 2 * math.pi / 60


@cache
def resting() -> Scene:
    """A box, a tall one, a cube and a plate, each alone."""
    sizes = {"box": BOX, "tall": (0.05, 0.05, 0.16), "cube": (0.06, 0.06, 0.06), "plate": (0.16, 0.1, 0.02)}
    things = [
        Solid(name, size, (0.25 * k - 0.4, 0.0, size[2] / 2)) for k, (name, size) in enumerate(sizes.items())
    ]
    return Scene("resting", (table(), *things))


@cache
def between() -> Scene:
    """Two boxes with room for a tool between them."""
    boxes = [Solid(name, BOX, (x, 0.0, _HEIGHT)) for name, x in (("left", -0.1), ("right", 0.1))]
    return Scene("between", (table(), *boxes))


@cache
def _to_and_fro() -> list[Case]:
    """A swing that gets wider, so that each box is pushed again and again."""
    time = torch.arange(STEPS + 1)
    x = _SWING * (0.2 + 0.8 * time / STEPS) * torch.sin(_PACE * time)
    return [between().case(torch.stack([x, 0 * x, 0 * x + TIP], 1))]


@cache
def _circling() -> list[Case]:
    """Five rounds in the air, back to where they began."""
    angle = torch.arange(STEPS + 1) * (5 * 2 * math.pi / STEPS)
    return [resting().case(torch.stack([0.3 * angle.cos(), 0.1 * angle.sin(), 0 * angle + 0.25], 1))]


def _drift(outcomes: Sequence[Outcome]) -> tuple[float, str]:
    """Of all things, how far one moved as a share of its longest edge, and which."""
    each = outcomes[0]
    shares = {
        name: float(each.moved(name).max()) / max(each.case.scene.solid(name).size)
        for name in each.case.scene.free
    }
    name = max(shares, key=lambda key: shares[key])
    return shares[name], name


@check(
    "horizon",
    0.01,
    "",
    "dynamics.md, target 2: below 1 % of an object's size.",
    lambda: [resting().case(STEPS)],
)
def rests(outcomes: Sequence[Outcome]) -> Found:
    """Four things that nothing touches drift by less than 1 % of their size in 300 steps."""
    share, name = _drift(outcomes)
    return Found(share, f"{name} drifts by {100 * share:.1f} % of its size in 300 steps at rest")


@check("horizon", 0.01, "", "As for things at rest.", _circling)
def returns(outcomes: Sequence[Outcome]) -> Found:
    """After five rounds of the tool in the air, 300 steps, everything is where it was."""
    share, name = _drift(outcomes)
    return Found(share, f"{name} drifts by {100 * share:.1f} % of its size while the tool circles in the air")


@check("horizon", 0.005, "m", "They lie flat and cannot climb: a tenth of their height.", _to_and_fro)
def works_on(outcomes: Sequence[Outcome]) -> Found:
    """Pushed to and fro for 300 steps, two boxes lie on the table all the time, moved, out of the tool."""
    each = outcomes[0]
    off = worst([(each.places(name)[:, 2] - _HEIGHT).abs() for name in each.case.scene.free])
    moved = min(float(each.moved(name)[-1]) for name in each.case.scene.free)
    inside = max(0.0, worst([-each.tool_gap(name) for name in each.case.scene.free]))
    said = (
        f"a box is {1000 * off:.0f} mm off its height, one moved {1000 * moved:.0f} mm only, the tool is"
        f" {1000 * inside:.0f} mm in one"
    )
    figures = {"least_moved_m": moved, "tool_inside_m": inside}
    return Found(off, said, figures, sound=moved > 0.05 and inside < 0.005)


CHECKS = (rests, returns, works_on)
