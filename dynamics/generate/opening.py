"""Opening and closing a door or a drawer with a rod: hooking its bar, or pushing from outside or inside."""

import math
from collections.abc import Callable

import numpy as np

from gaussworld.world_object import ObjectKind

from .furniture import BOARD, SLOT, Front
from .motion import STEP, Motion, Random, Steps, View, at, front_of, go, hold, over
from .trial import Trial

Place = Callable[[float], np.ndarray]


def opens(trial: Trial, view: View, random: Random) -> Steps:
    """Open, close, open ... by different amounts, and in all ways that the moment allows."""
    moving, front = next(trial.scene.of(ObjectKind.ARTICULATED)), trial.front
    assert front is not None and moving.joint is not None
    pose, top = trial.start.poses[moving.id], moving.joint.limits[1]
    door, side = moving.joint.kind == "revolute", moving.joint.axis[2]
    arm = math.dist(front.bar[:1], front.hinge[1:]) if door else 1.0
    low, safe, rod = front.bar[1] - 0.03, front.size[2] + 0.02, front_of(trial.tool)

    def place(x: float, y: float) -> Place:
        """Where a point of the closed front [m] is, in the world, by the joint's position."""
        return lambda position: (pose @ _moved(front, door, side, x, y, position))[:2]

    slot = place(*front.slot)
    outside = place(front.face + SLOT + BOARD + rod + 0.006, front.bar[0])
    inside = place(front.face - BOARD - rod - 0.008, front.bar[0])
    while True:
        now = view.positions[moving.id]
        ways = ["hook"] + ["outside"] * (now > 0.3 * top) * 2 + ["inside"] * (door and 0.4 < now < 0.8 * top)
        way = str(random.choice(ways))
        speed = random.uniform(0.08, 0.3 if trial.policy == "expert" else 0.45) / arm
        goal = random.uniform(0.45, 0.95) * top
        if way == "outside" or (way == "hook" and now > 0.6 * top):
            goal = now * random.uniform(0.0, 0.5)
        path = {"hook": slot, "outside": outside, "inside": inside}[way]
        start = path(now)
        view = yield from over(view, np.array([*start, low, 0.0, 0.0]), safe)
        # What presses on a front from outside starts a little before it, and shall reach it.
        view = yield from _along(view, path, view.positions[moving.id], goal, speed)
        view = yield from go(view, at(view.sent, z=safe), 0.35)
        view = yield from hold(view, int(random.integers(0, 5)))


def _along(view: View, path: Place, start: float, goal: float, speed: float) -> Motion:
    """From one position of a joint to another, at a speed [rad/s] or [m/s] of the joint."""
    count = max(1, math.ceil(abs(goal - start) / (speed * STEP)))
    for i in range(count):
        x, y = path(start + (goal - start) * (i + 1) / count)
        view = yield at(view.sent, x=x, y=y)
    return view


def _moved(front: Front, door: bool, side: float, x: float, y: float, position: float) -> np.ndarray:
    """A point of the closed front at a position of the joint, in the frame of the cabinet."""
    if not door:
        return np.array([x + position, y, 0.0, 1.0])
    c, s = math.cos(side * position), math.sin(side * position)
    a, b = x - front.hinge[0], y - front.hinge[1]
    return np.array([front.hinge[0] + c * a - s * b, front.hinge[1] + s * a + c * b, 0.0, 1.0])


def bar_at(trial: Trial, view: View) -> np.ndarray:
    """[m] the middle of the bar now."""
    moving, front = next(trial.scene.of(ObjectKind.ARTICULATED)), trial.front
    assert front is not None
    local = np.array([front.face + SLOT, front.bar[0], front.bar[1], 1.0])
    return (view.poses[moving.id] @ local)[:3]
