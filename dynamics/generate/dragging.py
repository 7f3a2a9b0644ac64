"""Handling what bends with a gripper: taking a rope's or a cloth's end and dragging it, squeezing a block."""

import math

import numpy as np

from .flex.flex import Flex
from .motion import FINGER, Motion, Random, Steps, View, at, go, hold, near_yaw
from .trial import Trial

_EDGE = 0.3
"""[m] farthest from the table's middle that things are dragged."""


def drags(trial: Trial, view: View, random: Random) -> Steps:
    """Take a rope or a cloth somewhere, lift it a little or more, carry it away, and let go."""
    flex = trial.flexes[0]
    slow = trial.policy == "expert"
    while True:
        points = view.vertices[flex.id]
        row = _taken(flex, random)
        view = yield from _over(flex, view, row)
        low, high = float(view.sent[2]), float(points[:, 2].max()) + 0.03
        view = yield from go(view, at(view.sent, grip=closed(flex)), 0.3)
        view = yield from hold(view, 1)
        speed = random.uniform(0.08, 0.18 if slow else 0.3)
        up = random.choice([random.uniform(0.005, 0.02), random.uniform(0.04, 0.16)])
        view = yield from go(view, at(view.sent, z=low + up), speed)
        way = random.uniform(-0.7, 0.7, 2) * _EDGE - view.sent[:2]
        way *= min(1.0, random.uniform(0.1, 0.22) / max(float(np.linalg.norm(way)), 1e-9))
        goal = (view.sent[:2] + way).clip(-_EDGE, _EDGE)
        turn = view.sent[3] + random.uniform(-0.8, 0.8)
        view = yield from go(view, at(view.sent, x=goal[0], y=goal[1], yaw=turn), speed)
        if random.random() < 0.6:
            view = yield from go(view, at(view.sent, z=low + 0.004), speed)
        view = yield from go(view, at(view.sent, grip=0.35), 0.3)
        view = yield from go(view, at(view.sent, z=high), 0.25)
        view = yield from hold(view, int(random.integers(0, 4)))


def arches(trial: Trial, view: View, random: Random) -> Steps:
    """Lift a rope by its middle into an arch whose feet stay on the table: its shape tells its stiffness.

    It is slow, and low enough that nothing swings: what swings tells more of damping than of stiffness.
    """
    flex = trial.flexes[0]
    while True:
        view = yield from _over(flex, view, flex.count // 2 + int(random.integers(-2, 3)))
        low, slow = float(view.sent[2]), random.uniform(0.1, 0.14)
        high = low + random.uniform(0.26, 0.3) * flex.size[0]
        view = yield from go(view, at(view.sent, grip=closed(flex)), 0.3)
        view = yield from hold(view, 1)
        view = yield from go(view, at(view.sent, z=high), slow)
        view = yield from hold(view, 4)
        view = yield from go(view, at(view.sent, z=low), slow)
        view = yield from go(view, at(view.sent, grip=0.35), 0.3)


def squeezes(trial: Trial, view: View, random: Random) -> Steps:
    """Close on a soft block, lift or drag it, let it go; or press on it from above."""
    flex = trial.flexes[0]
    while True:
        points = view.vertices[flex.id]
        middle, top = points.mean(0), float(points[:, 2].max())
        yaw, wide = _narrow(flex, points, view.sent[3])
        press = random.random() < 0.25
        grip = 1.0 if press else 0.0
        high = max(top + 0.025, float(view.sent[2]))
        view = yield from go(view, at(view.sent, z=high, grip=grip), 0.35)
        view = yield from go(view, np.array([*middle[:2], top + 0.02, yaw, grip]), 0.35)
        if press:
            view = yield from go(view, at(view.sent, z=top - random.uniform(0.2, 0.4) * flex.size[2]), 0.08)
            view = yield from hold(view, int(random.integers(1, 4)))
            view = yield from go(view, at(view.sent, z=top + 0.03), 0.25)
            continue
        low = max(0.004, float(middle[2]) - 0.012)
        view = yield from go(view, at(view.sent, z=low), 0.25)
        into = random.uniform(0.06, 0.16) * wide
        view = yield from go(
            view, at(view.sent, grip=float(np.clip(1 - (wide / 2 - into) / FINGER, 0, 1))), 0.3
        )
        view = yield from hold(view, 1)
        up, speed = random.choice([0.002, random.uniform(0.04, 0.12)]), random.uniform(0.08, 0.25)
        view = yield from go(view, at(view.sent, z=low + up), speed)
        way = random.uniform(-0.2, 0.2, 2) - view.sent[:2]
        way *= min(1.0, 0.18 / max(float(np.linalg.norm(way)), 1e-9))
        x, y = view.sent[:2] + way
        view = yield from go(
            view, at(view.sent, x=x, y=y, yaw=view.sent[3] + random.uniform(-0.6, 0.6)), speed
        )
        view = yield from go(view, at(view.sent, z=low + random.choice([0.001, 0.02])), speed)
        view = yield from go(view, at(view.sent, grip=0.0), 0.3)
        view = yield from go(view, at(view.sent, z=low + top + 0.03), 0.3)
        view = yield from hold(view, int(random.integers(0, 3)))


def _over(flex: Flex, view: View, row: int) -> Motion:
    """Open, to where the fingers close across a vertex."""
    points = view.vertices[flex.id]
    spot, yaw = points[row], near_yaw(_across(flex, points, row), view.sent[3], math.pi)
    low = max(0.002, float(spot[2]) - 0.5 * flex.radius)
    high = float(points[:, 2].max()) + 0.03
    view = yield from go(view, at(view.sent, z=max(high, view.sent[2]), grip=0.35), 0.35)
    view = yield from go(view, np.array([spot[0], spot[1], high, yaw, 0.35]), 0.35)
    # What bends may have crept meanwhile.
    spot = view.vertices[flex.id][row]
    return (yield from go(view, np.array([spot[0], spot[1], low, yaw, 0.35]), 0.25))


def closed(flex: Flex) -> float:
    """The grip that just holds a rope or a cloth."""
    return float(np.clip(1 - 0.9 * flex.radius / FINGER, 0.0, 1.0))


def _taken(flex: Flex, random: Random) -> int:
    """A rope's end or any of its vertices; a cloth's corner or somewhere along its edges."""
    free = [i for i in range(flex.count) if i not in flex.tied]
    if flex.kind == "rope":
        ends = [i for i in (0, flex.count - 1) if i in free]
        return int(random.choice(ends)) if ends and random.random() < 0.6 else int(random.choice(free))
    rows = np.arange(flex.count).reshape(flex.counts[:2])
    corners = rows[[0, 0, -1, -1], [0, -1, 0, -1]]
    rim = np.concatenate([rows[0], rows[-1], rows[:, 0], rows[:, -1]])
    chosen = [int(i) for i in (corners if random.random() < 0.7 else rim) if int(i) in free]
    return int(random.choice(chosen))


def _across(flex: Flex, points: np.ndarray, row: int) -> float:
    """[rad] yaw with which the fingers close across a rope, or towards the middle of a cloth."""
    if flex.kind == "rope":
        before, after = points[max(row - 1, 0)], points[min(row + 1, flex.count - 1)]
        along = after - before
    else:
        along = points.mean(0) - points[row]
    return math.atan2(along[1], along[0])


def _narrow(flex: Flex, points: np.ndarray, yaw: float) -> tuple[float, float]:
    """Yaw [rad] and width [m] of the narrower grasp from above of a block, as it lies now."""
    lattice = points.reshape(*flex.counts, 3)
    ends = [(lattice.take(-1, axis=i), lattice.take(0, axis=i)) for i in range(3)]
    sides = [last.mean((0, 1)) - first.mean((0, 1)) for last, first in ends]
    up = int(np.argmax([abs(side[2]) / max(float(np.linalg.norm(side)), 1e-9) for side in sides]))
    side = min((sides[i] for i in range(3) if i != up), key=lambda each: float(np.linalg.norm(each)))
    wide = float(np.linalg.norm(side)) + 2 * flex.radius
    return near_yaw(math.atan2(side[1], side[0]) - math.pi / 2, yaw, math.pi), wide
