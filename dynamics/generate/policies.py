"""Who moves the tool: scripted, random or a noisy expert, for each family; or what tells materials."""

from collections.abc import Callable, Mapping

import numpy as np

from gaussworld.world_object import ObjectKind

from .dragging import arches, drags, squeezes
from .lifting import lifts
from .motion import LONGEST, Random, Steps, View, wander
from .opening import bar_at, opens
from .pushing import expert, scripted, strikes
from .trial import Family, Trial, stream

Policy = Callable[[Trial, View, Random], Steps]
#: By family: the scripted policy and the expert.
_POLICIES: dict[Family, tuple[Policy, Policy]] = {
    "push_t": (scripted, expert),
    "push": (scripted, expert),
    "push_many": (scripted, expert),
    "lift": (lifts, lifts),
    "door": (opens, opens),
    "drawer": (opens, opens),
    "rope": (drags, drags),
    "cloth": (drags, drags),
    "soft": (squeezes, squeezes),
}
#: Motions that tell materials; `TELLING` has the families they are for.
_TELLING: dict[str, Policy] = {"strike": strikes, "arch": arches}
_NOISE = np.array([0.0012, 0.0012, 0.0005, 0.008, 0.0])
"""[m] and [rad] a step: of an expert's hand."""
_FLOOR = 0.003
"""[m] lowest that noise takes a tool."""


class Mover:
    """Where the tool shall go, step by step."""

    def __init__(self, trial: Trial) -> None:
        self._trial, self._random = trial, stream(trial.seed, 2)
        self._steps: Steps | None = None
        self._clean, self._error = trial.hand.copy(), np.zeros(5)
        self._last = trial.hand.copy()

    def next(
        self,
        poses: Mapping[int, np.ndarray],
        positions: Mapping[int, float],
        vertices: Mapping[int, np.ndarray],
    ) -> np.ndarray:
        """The target at the end of the next step: x y z [m], yaw [rad], grip.

        Args:
            poses: [m] `world_from_object` by id.
            positions: [rad] or [m] of joints by id.
            vertices: [m] of what bends, by id.
        """
        view = View(self._clean, poses, positions, vertices)
        if self._steps is None:
            self._steps = _steps(self._trial, view)
            self._clean = next(self._steps)
        else:
            self._clean = self._steps.send(view)
        wanted = self._clean.copy()
        if self._trial.policy == "expert":
            self._error = 0.8 * self._error + self._random.normal(size=5) * _NOISE
            wanted += self._error
            wanted[2] = max(wanted[2], min(self._clean[2], _FLOOR))
        way = wanted[:3] - self._last[:3]
        wanted[:3] = self._last[:3] + way * min(1.0, LONGEST / max(float(np.linalg.norm(way)), 1e-9))
        self._last = wanted
        return wanted


def _steps(trial: Trial, view: View) -> Steps:
    random = stream(trial.seed, 1)
    if trial.policy == "random":
        return _wander(trial, view, random)
    if trial.policy in _TELLING:
        return _TELLING[trial.policy](trial, view, random)
    return _POLICIES[trial.family][trial.policy == "expert"](trial, view, random)


def _wander(trial: Trial, view: View, random: Random) -> Steps:
    items = list(trial.scene.of(ObjectKind.RIGID, ObjectKind.DEFORMABLE))
    item = items[int(random.integers(len(items)))] if items else None

    def pull(now: View) -> np.ndarray:
        if item is None:
            return bar_at(trial, now)
        return now.vertices[item.id].mean(0) if item.id in now.vertices else now.poses[item.id][:3, 3]

    heights = (0.004, 0.02) if not trial.tool.grips else (0.001 if trial.flexes else 0.004, 0.1)
    if trial.front is not None:
        middle = trial.front.bar[1]
        heights = (middle - 0.05, middle + 0.03)
    return wander(view, random, pull, heights, trial.tool.grips)
