"""Random scenes: things on a table that stand apart and rest, and further states of the same scene."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gaussworld.errors import ConfigError
from gaussworld.world_object import ObjectKind

from .cabinet import KEPT_FREE, cabinet_objects, openings
from .config import StillConfig
from .scene import Lamp, SceneObject, SceneState, SimScene
from .settle import settled, supports
from .things import KINDS, random_thing, rest_rotation, table
from .tools import REACH, tool_objects, tool_poses, tool_positions, tool_yaw

Random = np.random.Generator
Circle = tuple[float, float, float]
_LAMPS = (
    Lamp((0.9, -0.8, 1.7), strength=0.52, shadow=True),
    Lamp((-1.2, 0.5, 1.3), strength=0.22),
    Lamp((0.2, 1.3, 0.9), strength=0.16),
)
_ROOM = (2.3, 0.72)
_GAP = 0.015
"""[m] left free between things."""
_EDGE = 0.05
"""[m] left free along the table's edge."""
_SPREAD = 0.16
"""[m] standard deviation of places on a table without a cabinet."""
_PLACES, _ARRANGEMENTS = 400, 40
#: Kinds that a thing can be put on.
_FLAT = ("box", "cylinder", "lblock", "tblock", "prism")


def random_scene(config: StillConfig) -> SimScene:
    """What is in the scene of a seed: table, things, cabinet, tool, in this order of ids."""
    random = _stream(config, 0)
    cabinet = config.scene == "cabinet"
    size = (1.0, 1.0) if cabinet else (0.8, 0.8)
    objects = [table(random, 1, size, _ROOM[1])]
    kinds = list(random.permutation(KINDS))
    hue = float(random.random())
    for i in range(config.count):
        # Golden-ratio steps keep the hues of all things apart.
        shade = hue + 0.6180339887 * i
        objects.append(random_thing(random, i + 2, kinds[i % len(kinds)], config.size, shade))
    if cabinet:
        objects += cabinet_objects(random, len(objects) + 1)
    objects += tool_objects(config.tool, len(objects) + 1)
    return SimScene(tuple(objects), _LAMPS, table=size, room=_ROOM, seed=config.seed)


def arranged(config: StillConfig, scene: SimScene, model: Any) -> list[SceneState]:
    """The states of a scene at rest: the first, then `config.states` others.

    Raises:
        ConfigError: the things do not fit on the table, or will not come to rest.
    """
    arranger = _Arranger(config, scene, model)
    states = [arranger.first()]
    for i in range(config.states):
        states.append(arranger.next(states[-1], i + 1))
    return states


def _stream(config: StillConfig, *which: int) -> Random:
    """Random numbers of their own for each purpose, so that one more draw here changes nothing there."""
    return np.random.default_rng([config.seed, *which])


@dataclass(frozen=True)
class _Arranger:
    config: StillConfig
    scene: SimScene
    model: Any

    def first(self) -> SceneState:
        """Everything put down anew."""
        tool = list(self.scene.of(ObjectKind.ROBOT))
        reach = REACH[self.config.tool]
        for attempt in range(_ARRANGEMENTS):
            random = _stream(self.config, 1, attempt)
            poses = {item.id: item.home for item in self.scene.objects if item.home is not None}
            positions = openings(self.scene.objects, random)
            spot = self._spot(random, self._kept_free(), reach)
            if spot is None:
                continue
            poses |= tool_poses(tool, *spot, tool_yaw(random), float(random.uniform(0.01, 0.04)))
            positions |= tool_positions(tool, random)
            taken = self._kept_free() + [(*spot, reach)] * bool(tool)
            # Large things first: they are the hardest to find room for.
            things = sorted(self.scene.of(ObjectKind.RIGID), key=lambda item: -item.radius)
            state = self._settled(random, SceneState(poses, positions), taken, things)
            if state is not None:
                return state
        low, high = self.config.size
        raise ConfigError(
            f"expected {self.config.count} things of {low:g} to {high:g} m to find room and rest on the"
            f" table, but they did not in {_ARRANGEMENTS} attempts; ask for fewer or smaller things"
        )

    def next(self, before: SceneState, index: int) -> SceneState:
        """One to three things elsewhere, door and drawer opened differently; all else exactly as before."""
        loose = list(self.scene.of(ObjectKind.RIGID))
        below = supports(self.model, self.scene, before)
        carriers = {id for carried in below.values() for id in carried}
        movable = [item for item in loose if item.id not in carriers]
        tool = next(self.scene.of(ObjectKind.ROBOT), None)
        for attempt in range(_ARRANGEMENTS):
            random = _stream(self.config, 2, index, attempt)
            count = int(random.integers(1, min(3, len(movable)) + 1)) if movable else 0
            rows = sorted(random.choice(len(movable), count, replace=False)) if count else []
            chosen = [movable[row] for row in rows]
            stay = [item for item in loose if item not in chosen]
            taken = self._kept_free() + [_circle(before, item) for item in stay]
            if tool is not None:
                x, y = before.poses[tool.id][:2, 3].tolist()
                taken.append((x, y, REACH[self.config.tool]))
            jointed = list(self.scene.of(ObjectKind.ARTICULATED))
            positions = {**before.positions, **openings(jointed, random)}
            state = self._settled(random, SceneState(before.poses, positions), taken, chosen, stacked=0)
            if state is not None and all(_unmoved(before, state, item) for item in stay):
                kept = {item.id: before.poses[item.id] for item in stay}
                return replace(state, poses={**state.poses, **kept})
        raise ConfigError(
            f"expected room to move things on the table for state {index}, but found none in {_ARRANGEMENTS}"
            " attempts; ask for fewer or smaller things"
        )

    def _settled(
        self,
        random: Random,
        state: SceneState,
        taken: list[Circle],
        things: Sequence[SceneObject],
        stacked: int | None = None,
    ) -> SceneState | None:
        """The state with things put down apart from all circles and come to rest; None where that fails."""
        stacked = min(self.config.stacked if stacked is None else stacked, len(things) // 2)
        grounded = things[: len(things) - stacked]
        poses, taken = dict(state.poses), list(taken)
        for item in grounded:
            rotation = rest_rotation(random, _kind(item))
            points = item.form.points() @ rotation.T
            radius = float(np.linalg.norm(points[:, :2], axis=1).max())
            spot = self._spot(random, taken, radius)
            if spot is None:
                return None
            poses[item.id] = _put_down(rotation, points, (*spot, 0.0))
            taken.append((*spot, radius))
        pairs = self._stacked(random, poses, grounded, things[len(grounded) :])
        if pairs is None:
            return None
        found = settled(self.model, self.scene, replace(state, poses=poses))
        if found is None:
            return None
        below = supports(self.model, self.scene, found) if pairs else {}
        return _rounded(found) if all(low in below[high] for high, low in pairs) else None

    def _stacked(
        self,
        random: Random,
        poses: dict[int, np.ndarray],
        grounded: Sequence[SceneObject],
        things: Sequence[SceneObject],
    ) -> list[tuple[int, int]] | None:
        """Put each thing on a flat one, which is written into `poses`; pairs of ids, upper and lower."""
        free = [item for item in grounded if _kind(item) in _FLAT]
        if len(free) < len(things):
            return None
        pairs = []
        for item, base in zip(things, free):
            rotation = rest_rotation(random, _kind(item))
            points = item.form.points() @ rotation.T
            place = poses[base.id]
            top = float((base.form.points() @ place[:3, :3].T)[:, 2].max() + place[2, 3])
            poses[item.id] = _put_down(
                rotation, points, (float(place[0, 3]), float(place[1, 3]), top + 0.001)
            )
            pairs.append((item.id, base.id))
        return pairs

    def _spot(self, random: Random, taken: Sequence[Circle], radius: float) -> tuple[float, float] | None:
        """A place [m] on the table where a circle meets none that is taken."""
        half = np.array(self.scene.table) / 2 - _EDGE - radius
        if half.min() <= 0:
            return None
        for _ in range(_PLACES):
            if self.config.scene == "cabinet":
                spot = random.uniform(-half, half)
            else:
                spot = (random.normal(size=2) * _SPREAD).clip(-half, half)
            if all(math.dist(spot, circle[:2]) > circle[2] + radius + _GAP for circle in taken):
                return float(spot[0]), float(spot[1])
        return None

    def _kept_free(self) -> list[Circle]:
        return list(KEPT_FREE) if self.config.scene == "cabinet" else []


def _put_down(rotation: np.ndarray, points: np.ndarray, at: tuple[float, float, float]) -> np.ndarray:
    """The pose of a thing, turned already, just above a place."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, (at[0], at[1], at[2] + 0.0015 - points[:, 2].min())
    return pose


def _circle(state: SceneState, item: SceneObject) -> Circle:
    """The circle on the table that holds a thing."""
    pose = state.poses[item.id]
    radius = np.linalg.norm((item.form.points() @ pose[:3, :3].T)[:, :2], axis=1).max()
    return float(pose[0, 3]), float(pose[1, 3]), float(radius)


def _kind(item: SceneObject) -> str:
    return item.name.split()[0]


def _unmoved(before: SceneState, after: SceneState, item: SceneObject) -> bool:
    return bool(np.abs(before.poses[item.id] - after.poses[item.id]).max() < 2e-3)


def _rounded(state: SceneState) -> SceneState:
    """Poses whose rotation is one to the last digit."""
    poses = {}
    for id, pose in state.poses.items():
        left, _, right = np.linalg.svd(pose[:3, :3])
        poses[id] = pose.copy()
        poses[id][:3, :3] = left @ right
    return replace(state, poses=poses)
