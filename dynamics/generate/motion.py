"""Moving a tool: what a policy is told, and the plain motions that all policies are made of.

A policy is a generator: it yields where the tool shall be at the end of the next control step (x y z [m], yaw
[rad], grip), and is sent a `View` of what then is.
"""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..tool import Tool

Random = np.random.Generator
STEP = 0.1
"""[s] length of a control step."""
LONGEST = 0.1
"""[m] of one step."""
FINGER = 0.045
"""[m] how far each finger of the gripper opens."""
_TURN, _CLOSE = 2.5, 3.5
"""[rad/s] and [1/s] for yaw and grip."""


@dataclass(frozen=True, eq=False)
class View:
    """What a policy knows, which is everything."""

    sent: Float[np.ndarray, "5"]
    """What it asked for last: x y z [m], yaw [rad], grip."""
    poses: Mapping[int, Float[np.ndarray, "4 4"]]
    """[m] `world_from_object` by id."""
    positions: Mapping[int, float]
    """[rad] or [m] of the joints by id."""
    vertices: Mapping[int, Float[np.ndarray, "v 3"]]
    """[m] of what bends, by id."""


Steps = Generator[np.ndarray, View, None]
Motion = Generator[np.ndarray, View, View]


def front_of(tool: Tool) -> float:
    """[m] from the axis of a tool that pushes to its front, which is along its x."""
    # A tool's numbers are float32, and what is built on them shall be to the last digit what was meant.
    return round(float(tool.halves[0, 0] + tool.radii[0]), 6)


def girth_of(tool: Tool) -> float:
    """[m] of the upright cylinder about its axis that holds a tool that pushes."""
    flat = tool.halves[0, :2]
    return round(float(flat.norm() + tool.radii[0]), 6)


def go(view: View, goal: np.ndarray, speed: float) -> Motion:
    """Straight to a goal in equal steps at about a speed [m/s], yaw and grip along the way."""
    start, way = view.sent, goal - view.sent
    far = float(np.linalg.norm(way[:3]))
    needed = max(far / speed, abs(way[3]) / _TURN, abs(way[4]) / _CLOSE)
    count = max(1, round(needed / STEP), math.ceil(far / LONGEST - 1e-6))
    for i in range(count):
        view = yield start + way * ((i + 1) / count)
    return view


def over(view: View, goal: np.ndarray, safe: float, speed: float = 0.4) -> Motion:
    """Up to a safe height [m], across, and down to a goal."""
    high = max(safe, view.sent[2])
    view = yield from go(view, at(view.sent, z=high), speed)
    view = yield from go(view, np.array([*goal[:2], high, *goal[3:]]), speed)
    return (yield from go(view, goal, speed * 0.8))


def hold(view: View, steps: int) -> Motion:
    """Stay."""
    for _ in range(steps):
        view = yield view.sent.copy()
    return view


def at(hand: np.ndarray, **changed: float) -> np.ndarray:
    """The same with another x, y, z, yaw or grip."""
    made = hand.copy()
    for name, value in changed.items():
        made[("x", "y", "z", "yaw", "grip").index(name)] = value
    return made


def near_yaw(yaw: float, like: float, period: float = 2 * math.pi) -> float:
    """[rad] the same direction, as near to another angle as whole periods allow."""
    return like + (yaw - like + period / 2) % period - period / 2


def wander(
    view: View,
    random: Random,
    pull: Callable[[View], np.ndarray],
    heights: tuple[float, float],
    grips: bool,
    reach: float = 0.33,
) -> Steps:
    """Smooth random motion that is drawn to a point which moves (an Ornstein-Uhlenbeck process).

    Args:
        view: what is.
        random: where numbers come from.
        pull: gives the point [m].
        heights: [m] lowest and highest z.
        grips: whether the tool can close.
        reach: [m] farthest from the middle along x and y.
    """
    speed, grip, wish = np.zeros(4), 0.0, 0.0
    size, rest = np.array([0.09, 0.09, 0.05, 0.5]), np.array([0.7, 0.7, 0.6, 0.8])
    while True:
        away = pull(view) - view.sent[:3]
        drawn = np.array([*(1.5 * away[:2]), 1.5 * away[2], 0.0])
        speed = rest * speed + (1 - rest) * drawn + size * random.normal(size=4)
        if not grips:
            speed[3] = 0.0
        speed[:3] *= min(1.0, 0.4 / max(float(np.linalg.norm(speed[:3])), 1e-9))
        if random.random() < 0.08:
            wish = float(random.random() < 0.5) * float(grips)
        grip = float(np.clip(wish, grip - 0.3, grip + 0.3))
        target = np.append(view.sent[:4] + STEP * speed, grip)
        target[:2] = target[:2].clip(-reach, reach)
        target[2] = np.clip(target[2], *heights)
        view = yield target
