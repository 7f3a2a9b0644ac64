"""Picking things up: over a thing, down, close, lift, carry, put down or drop, and away."""

import math

import numpy as np

from gaussworld.world_object import ObjectKind

from .motion import FINGER, Random, Steps, View, at, go, hold, near_yaw
from .trial import Trial

_SQUEEZE = 0.004
"""[m] that each finger is commanded into what it holds."""
_REACH = 0.26


def lifts(trial: Trial, view: View, random: Random) -> Steps:
    """One thing is picked up again and again."""
    item = next(trial.scene.of(ObjectKind.RIGID))
    points = item.form.points()
    size = np.ptp(points, axis=0)
    slow = trial.policy == "expert"
    while True:
        pose = view.poses[item.id]
        yaw, wide = _grasp(pose, size, view.sent[3])
        if wide > 2 * FINGER - 0.008:
            view = yield from hold(view, 5)
            continue
        top = float((points @ pose[2, :3]).max() + pose[2, 3])
        low = max(0.004, pose[2, 3] - random.uniform(0.0, 0.012), top - 0.085)
        above = np.array([*pose[:2, 3], top + 0.02, yaw, 0.0])
        view = yield from go(view, at(view.sent, z=max(top + 0.02, view.sent[2]), grip=0.0), 0.3)
        view = yield from go(view, above, 0.3)
        view = yield from go(view, at(above, z=low), 0.25)
        closed = float(np.clip(1 - (wide / 2 - _SQUEEZE) / FINGER, 0.0, 1.0))
        view = yield from go(view, at(view.sent, grip=closed), 0.3)
        view = yield from hold(view, 1)
        up, speed = random.uniform(0.04, 0.14), random.uniform(0.1, 0.22 if slow else 0.35)
        view = yield from go(view, at(view.sent, z=low + up), speed)
        spot = random.uniform(-_REACH, _REACH, 2)
        way = spot - view.sent[:2]
        spot = view.sent[:2] + way * min(1.0, 0.22 / max(float(np.linalg.norm(way)), 1e-9))
        turn = view.sent[3] + random.uniform(-0.9, 0.9)
        view = yield from go(view, at(view.sent, x=spot[0], y=spot[1], yaw=turn), speed)
        drop = 0.001 if slow or random.random() < 0.6 else random.uniform(0.01, 0.04)
        view = yield from go(view, at(view.sent, z=low + drop), speed)
        view = yield from go(view, at(view.sent, grip=0.0), 0.3)
        view = yield from go(view, at(view.sent, z=low + top + 0.03), 0.3)
        view = yield from hold(view, int(random.integers(0, 4)))


def _grasp(pose: np.ndarray, size: np.ndarray, yaw: float) -> tuple[float, float]:
    """Yaw [rad] and width [m] of the narrower grasp of a box from above, as it lies now."""
    up = int(np.abs(pose[2, :3]).argmax())
    axis = min((i for i in range(3) if i != up), key=lambda i: size[i])
    # The fingers move along the tool's y.
    x, y = pose[0, axis], pose[1, axis]
    return near_yaw(math.atan2(y, x) - math.pi / 2, yaw, math.pi), float(size[axis])
