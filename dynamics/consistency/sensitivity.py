"""Action sensitivity: other actions give other futures, and alike ones alike futures."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gaussworld.pose import invert_quats, multiply_quats, quats_from_rotation, rotation_from_rotvec

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import BOX, REACH, Case, one_box, pushing, two_boxes

#: [m] how far boxes are pushed.
_ADVANCE = 0.1
#: [deg] from where the box is pushed, at the middles of its faces.
_SIDES = (0.0, 90.0, 180.0, 270.0)
#: [m] beside the middle, where pushes also turn the box; and how far two neighbours differ.
_ASIDE, _LITTLE = 0.02, 1e-4
_TURN, _SHIFT = 37.0, (0.11, -0.07, 0.0)
_SYMMETRY = "Of 100 mm pushed: what rounding and a grid of contacts may do, 5 %."


def _direction(degrees: float) -> Tensor:
    return rotation_from_rotvec(torch.tensor([0.0, 0.0, math.radians(degrees)]))


@cache
def _from_all_sides() -> list[Case]:
    paths = [pushing(_ADVANCE) @ _direction(side).T for side in _SIDES]
    miss = pushing(_ADVANCE, aside=0.15)
    return [one_box().case(path) for path in [*paths, miss]]


def _wanted() -> Tensor:
    """(5, 2) [m] where the box ends: with the tool's way, and where it was if the tool misses."""
    ends = [(_direction(side) @ torch.tensor([_ADVANCE, 0.0, 0.0]))[:2] for side in _SIDES]
    return torch.stack([*ends, torch.zeros(2)])


def _ends(outcomes: Sequence[Outcome]) -> Tensor:
    return torch.stack([each.places("box")[-1, :2] for each in outcomes])


@cache
def _mirrored() -> list[Case]:
    return [one_box().case(pushing(_ADVANCE, aside=side * _ASIDE)) for side in (1.0, -1.0)]


@cache
def _moved_scenes() -> list[Case]:
    case = one_box().case(pushing(_ADVANCE, aside=_ASIDE))
    return [case, case.turned(90.0), case.turned(_TURN), case.turned(0.0, _SHIFT), case.turned(_TURN, _SHIFT)]


@cache
def _neighbours() -> list[Case]:
    return [one_box().case(pushing(_ADVANCE, aside=_ASIDE + step)) for step in (0.0, _LITTLE, -_LITTLE)]


@cache
def _chain() -> list[Case]:
    return [two_boxes().case(pushing(0.25, wait=10))]


@cache
def _twice() -> list[Case]:
    return [one_box().case(pushing(_ADVANCE, aside=_ASIDE, wait=wait)) for wait in (5, 6)]


@check(
    "sensitivity", 0.005, "m",
    "Of 100 mm pushed: it slides on by v^2 / (2 mu g) = 1.3 mm, the rest is for soft contact.",
    _from_all_sides,
)  # fmt: skip
def goes_with_the_tool(outcomes: Sequence[Outcome]) -> Found:
    """A box that is pushed at the middle of a face ends where the tool's way ends, and else stays."""
    off = (_ends(outcomes) - _wanted()).norm(dim=-1)
    far = float(off.max())
    return Found(far, f"the box ended {1000 * far:.0f} mm from where the tool's way puts it")


@check(
    "sensitivity", 0.5, "", "Half of the true difference: less could not choose between the pushes.",
    _from_all_sides, least=True,
)  # fmt: skip
def opposite_pushes_differ(outcomes: Sequence[Outcome]) -> Found:
    """Pushes from opposite sides give futures as different as they are: a share of the true 0.2 m."""
    ends = _ends(outcomes)
    least = float(torch.stack([(ends[0] - ends[2]).norm(), (ends[1] - ends[3]).norm()]).min()) / (
        2 * _ADVANCE
    )
    return Found(least, f"opposite pushes differ by {100 * least:.0f} % of what they should")


@check(
    "sensitivity", 0.5, "", "Half of the true difference: with less, wrong actions look right.",
    _from_all_sides, least=True,
)  # fmt: skip
def wrong_action_shows(outcomes: Sequence[Outcome]) -> Found:
    """With the action of another push, or one that misses, the future differs: a share of what it should."""
    ends, wanted = _ends(outcomes), _wanted()
    rows, columns = torch.triu_indices(len(ends), len(ends), 1)
    shares = (ends[rows] - ends[columns]).norm(dim=-1) / (wanted[rows] - wanted[columns]).norm(dim=-1)
    least = float(shares.min())
    return Found(least, f"a wrong action changes the future by {100 * least:.0f} % of what it should")


@check("sensitivity", 0.005, "m", _SYMMETRY, _mirrored)
def mirrored_alike(outcomes: Sequence[Outcome]) -> Found:
    """A push to the left of the middle is the mirror image of one to the right."""
    a, b = outcomes
    places = b.places("box") * torch.tensor([1.0, -1.0, 1.0])
    quats = b.quats("box") * torch.tensor([1.0, -1.0, 1.0, -1.0])
    return _alike([_apart(a.places("box"), a.quats("box"), places, quats)], "mirrored")


@check("sensitivity", 0.005, "m", _SYMMETRY, _moved_scenes)
def turned_and_shifted_alike(outcomes: Sequence[Outcome]) -> Found:
    """A scene that is turned about the vertical, or shifted, has the future turned, or shifted."""
    first, apart = outcomes[0], []
    motions = [(90.0, (0.0,) * 3), (_TURN, (0.0,) * 3), (0.0, _SHIFT), (_TURN, _SHIFT)]
    for each, (degrees, shift) in zip(outcomes[1:], motions):
        rotation = _direction(degrees)
        places = first.places("box") @ rotation.T + torch.tensor(shift)
        quats = multiply_quats(quats_from_rotation(rotation).expand(len(places), 4), first.quats("box"))
        apart.append(_apart(places, quats, each.places("box"), each.quats("box")))
    return _alike(apart, "turned or shifted")


def _apart(a: Tensor, a_quats: Tensor, b: Tensor, b_quats: Tensor) -> Tensor:
    """(u,) [m] between two poses: of their places, and of points a box's half edge away that turn along."""
    between = multiply_quats(invert_quats(a_quats), b_quats)
    angle = 2 * torch.atan2(between[:, 1:].norm(dim=-1), between[:, 0].abs())
    return (a - b).norm(dim=-1) + angle * BOX[0] / 2


def _alike(apart: Sequence[Tensor], how: str) -> Found:
    off = worst(apart)
    return Found(off, f"the {how} scene has a future that is {1000 * off:.1f} mm from the {how} future")


@check(
    "sensitivity",
    0.001,
    "m",
    "Ten times the change: such a push magnifies, by a few times, what differs.",
    _neighbours,
)
def little_changes_little(outcomes: Sequence[Outcome]) -> Found:
    """A push that is 0.1 mm beside another has a future that hardly differs."""
    first = outcomes[0]
    off = worst(
        [
            _apart(first.places("box"), first.quats("box"), each.places("box"), each.quats("box"))
            for each in outcomes[1:]
        ]
    )
    return Found(off, f"0.1 mm in the action makes {1000 * off:.1f} mm in the future")


@check(
    "sensitivity", 1e-4, "m", "The same question; a tenth of a millimetre is for rounding in batches.", _twice
)
def same_again(outcomes: Sequence[Outcome]) -> Found:
    """The same question twice, the second time for a step longer, has the same answer."""
    first, second = (each.future.poses for each in outcomes)
    off = float((first - second[: len(first)]).abs().max())
    return Found(off, f"asked twice, the answers differ by {1000 * off:.1f} mm")


@check("sensitivity", 0.005, "m", "As for a single box, which slides on by 1.3 mm.", _chain)
def push_is_passed_on(outcomes: Sequence[Outcome]) -> Found:
    """A box that is pushed into another one pushes it on, to a box's length before itself."""
    each = outcomes[0]
    wanted = each.case.tool_path[-1, 0] + REACH + BOX[0]
    off = float((each.places("far")[-1, :2] - torch.tensor([float(wanted), 0.0])).norm())
    return Found(off, f"the box that is pushed by the other ends {1000 * off:.0f} mm from where it should")


CHECKS = (
    goes_with_the_tool, opposite_pushes_differ, wrong_action_shows, mirrored_alike, turned_and_shifted_alike,
    little_changes_little, same_again, push_is_passed_on,
)  # fmt: skip
