"""Object permanence: what is hidden, or has left the view, is where it was, and nothing comes or goes."""

from collections.abc import Sequence
from functools import cache

import torch

from gaussworld.world_object import ObjectKind

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import BOX, REACH, TIP, Case, Scene, Solid, table, waiting, way

_HEIGHT = BOX[2] / 2
#: [m/s] of the tool in the crowd.
_FAST = 0.2
#: [m] where the thing that leaves the view begins and how far it is pushed.
_EDGE, _OUT = 0.25, 0.2


@cache
def behind_a_screen() -> Scene:
    """A box in front of a screen, and one behind it that no camera sees."""
    screen = Solid("screen", (0.5, 0.02, 0.3), (0.0, 0.0, 0.15), kind=ObjectKind.STATIC)
    seen = Solid("seen", BOX, (0.0, -0.2, _HEIGHT))
    hidden = Solid("hidden", BOX, (0.0, 0.15, _HEIGHT))
    eyes = ((0.3, -1.0, 0.35), (-0.4, -1.0, 0.3), (0.0, -1.1, 0.4))
    return Scene("behind a screen", (table(), screen, seen, hidden), eyes=eyes)


@cache
def narrow_view() -> Scene:
    """A box at the edge of what the only camera sees."""
    box = Solid("box", BOX, (_EDGE, 0.0, _HEIGHT))
    return Scene("narrow view", (table(), box), eyes=((0.0, -0.5, 0.25),))


@cache
def crowd() -> Scene:
    """Five boxes close together."""
    places = ((0.0, 0.0), (0.12, 0.03), (0.13, -0.09), (0.02, 0.13), (0.25, 0.01))
    boxes = [Solid(f"box {k}", (0.08, 0.08, 0.05), (x, y, 0.025)) for k, (x, y) in enumerate(places)]
    return Scene("crowd", (table(), *boxes))


@cache
def _front_push() -> list[Case]:
    y = -0.2
    path = way((-REACH - 0.05, y, TIP), (0.1 - REACH, y, TIP))
    return [behind_a_screen().case(waiting(path, 10))]


@cache
def _hidden_push() -> list[Case]:
    y = 0.15
    corners = [(-0.15, y, 0.35), (-0.15, y, TIP)]
    down = way(*corners, speed=0.2)
    along = way(corners[1], (0.1 - REACH, y, TIP))
    return [behind_a_screen().case(waiting(torch.cat([down, along[1:]]), 5))]


@cache
def _leaving() -> list[Case]:
    begin, end = _EDGE - REACH - 0.03, _EDGE + _OUT - REACH
    along = way((begin, 0.0, TIP), (end, 0.0, TIP))
    back = way((end, 0.0, TIP), (begin, 0.0, TIP), speed=0.2)
    return [narrow_view().case(waiting(torch.cat([along, back[1:]]), 10))]


@cache
def _sweep() -> list[Case]:
    path = way((-0.15, 0.02, TIP), (0.2, 0.02, TIP), (0.0, 0.1, TIP), (0.15, -0.1, TIP), speed=_FAST)
    return [crowd().case(waiting(path, 10))]


@check("permanence", 0.001, "m", "Nothing touches it; 1 mm is a hundredth of its size.", _front_push)
def hidden_stays(outcomes: Sequence[Outcome]) -> Found:
    """A box that a screen hides from every camera stays where it was while another is pushed in front."""
    moved = worst([each.moved("hidden") for each in outcomes])
    return Found(moved, f"the hidden box moved {1000 * moved:.1f} mm though nothing touched it")


@check(
    "permanence", 0.005, "m",
    "Of 100 mm pushed: it slides on by v^2 / (2 mu g) = 1.3 mm, the rest is for soft contact.",
    _hidden_push,
)  # fmt: skip
def hidden_is_met(outcomes: Sequence[Outcome]) -> Found:
    """A tool that goes behind the screen pushes the hidden box from where it was, as far as it goes."""
    end = outcomes[0].places("hidden")[-1]
    wanted = outcomes[0].case.tool_path[-1, :2] + torch.tensor([REACH, 0.0])
    off = float((end[:2] - wanted).norm())
    got = f"{float(end[0]):.3f} {float(end[1]):.3f}"
    return Found(off, f"the hidden box ended at {got} m, {1000 * off:.0f} mm from where the tool puts it")


@check("permanence", 0.005, "m", "As when a hidden box is met.", _leaving)
def out_of_view(outcomes: Sequence[Outcome]) -> Found:
    """A box that was pushed out of the view stays where it was left, while the tool goes away."""
    wanted = torch.tensor([_EDGE + _OUT, 0.0, _HEIGHT])
    off = float((outcomes[0].places("box")[-20:] - wanted).norm(dim=-1).max())
    return Found(off, f"outside of the view the box is up to {1000 * off:.0f} mm from where it was left")


@check("permanence", 0.005, "m", "They lie flat and cannot climb: a tenth of their height.", _sweep)
def nothing_lost(outcomes: Sequence[Outcome]) -> Found:
    """Of five boxes that are pushed through each other's places, all lie on the table all the time."""
    each = outcomes[0]
    heights = torch.stack([each.places(name)[:, 2] for name in each.case.scene.free])
    off = (heights - heights[:, :1]).abs()
    row, step = divmod(int(off.argmax()), off.shape[1])
    name, value = each.case.scene.free[row], float(off.max())
    return Found(value, f"{name} is {1000 * value:.0f} mm above or below where it lies, at step {step}")


@check(
    "permanence", 2 * _FAST / 10, "m",
    "Even without any loss a push at 0.2 m/s makes nothing faster than 0.4 m/s, 40 mm a step.", _sweep,
)  # fmt: skip
def no_jumps(outcomes: Sequence[Outcome]) -> Found:
    """None of the five boxes moves farther in a step than a tool of that speed can throw it."""
    each = outcomes[0]
    steps = torch.stack([each.places(name).diff(dim=0).norm(dim=-1) for name in each.case.scene.free])
    row, step = divmod(int(steps.argmax()), steps.shape[1])
    name, value = each.case.scene.free[row], float(steps.max())
    return Found(value, f"{name} jumped {1000 * value:.0f} mm in step {step + 1}")


@check("permanence", 0.001, "m", "The start was told; 1 mm is a hundredth of a thing's size.", _sweep)
def begins_as_asked(outcomes: Sequence[Outcome]) -> Found:
    """The future begins where things are: its first moment is the start."""
    poses = [each.future.poses[0, :, :3] - each.case.start.object_poses[:, :3] for each in outcomes]
    off = worst([pose.norm(dim=-1) for pose in poses])
    return Found(off, f"at time 0 a thing is {1000 * off:.1f} mm from where it was said to be")


CHECKS = (hidden_stays, hidden_is_met, out_of_view, nothing_lost, no_jumps, begins_as_asked)
