"""Random scenes: things on a table that stand apart and rest, and further states of the same scene."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gaussworld.errors import ConfigError
from gaussworld.world_object import ObjectKind

from .cabinet import KEPT_FREE, cabinet_objects, cabinet_pose, openings
from .config import StillConfig
from .mjcf import compiled
from .scene import Lamp, SceneObject, SceneState, SimScene, upright
from .settle import settled
from .things import KINDS, random_thing, rest_rotation, table
from .tools import REACH, tool_objects, tool_poses, tool_positions, tool_yaw

Random = np.random.Generator
_LAMPS = (
    Lamp((0.9, -0.8, 1.7), strength=0.52, shadow=True),
    Lamp((-1.2, 0.5, 1.3), strength=0.22),
    Lamp((0.2, 1.3, 0.9), strength=0.16),
)
_GAP = 0.015
"""[m] left free between things."""
_EDGE = 0.05
"""[m] left free along the table's edge."""
_PLACES, _ARRANGEMENTS = 400, 40


def arranged(config: StillConfig) -> tuple[SimScene, list[SceneState]]:
    """A random scene at rest, and its states: the first, then `config.states` others.

    Raises:
        ConfigError: the things do not fit on the table, or will not come to rest.
        MissingDependency: mujoco is not installed.
    """
    scene = _scene(config, _stream(config, 0))
    model = compiled(scene, drawn=False)
    states = [_first_state(config, scene, model)]
    for i in range(config.states):
        states.append(_next_state(config, scene, model, states[-1], i + 1))
    return scene, states


def _stream(config: StillConfig, *which: int) -> Random:
    """Random numbers of their own for each purpose, so that one more draw here changes nothing there."""
    return np.random.default_rng([config.seed, *which])


def _scene(config: StillConfig, random: Random) -> SimScene:
    cabinet = config.scene == "cabinet"
    size = (1.0, 1.0) if cabinet else (0.8, 0.8)
    room = (2.3, 0.72)
    objects = [table(random, 1, size, room[1])]
    kinds = list(random.permutation(KINDS))
    hue = float(random.random())
    for i in range(config.count):
        # Golden-ratio steps keep the hues of all things apart.
        thing = random_thing(random, i + 2, kinds[i % len(kinds)], config.size, hue + 0.6180339887 * i)
        objects.append(thing)
    if cabinet:
        objects += cabinet_objects(random, len(objects) + 1)
    objects += tool_objects(config.tool, len(objects) + 1)
    return SimScene(tuple(objects), _LAMPS, table=size, room=room, seed=config.seed)


def _first_state(config: StillConfig, scene: SimScene, model: Any) -> SceneState:
    for attempt in range(_ARRANGEMENTS):
        random = _stream(config, 1, attempt)
        poses = {item.id: np.eye(4) for item in scene.of(ObjectKind.STATIC)}
        positions: dict[int, float] = {}
        fixed = [item for item in scene.objects if item.name in ("cabinet", "door", "drawer")]
        poses |= {item.id: cabinet_pose() for item in fixed}
        positions |= openings(fixed, random)
        tool = list(scene.of(ObjectKind.ROBOT))
        taken = _kept_free(config)
        spot = _free_spot(random, scene, taken, REACH[config.tool])
        if spot is not None:
            poses |= tool_poses(tool, *spot, tool_yaw(random), float(random.uniform(0.01, 0.04)))
            positions |= tool_positions(tool, random)
            taken = [*taken, (*spot, REACH[config.tool])] if tool else taken
            state = _dropped(random, scene, SceneState(poses, positions), taken, _by_size(scene))
            state = settled(model, scene, state) if state is not None else None
            if state is not None:
                return _rounded(state)
    raise ConfigError(
        f"expected {config.count} things of {config.size[0]:g} to {config.size[1]:g} m to find room and rest on a"
        f" table of {scene.table[0]:g} m, but they did not in {_ARRANGEMENTS} attempts; ask for fewer or smaller"
    )


def _next_state(
    config: StillConfig, scene: SimScene, model: Any, before: SceneState, index: int
) -> SceneState:
    """One to three things elsewhere, door and drawer opened differently; all else exactly where it was."""
    loose = list(scene.of(ObjectKind.RIGID))
    for attempt in range(_ARRANGEMENTS):
        random = _stream(config, 2, index, attempt)
        count = int(random.integers(1, min(3, len(loose)) + 1)) if loose else 0
        chosen = [loose[i] for i in sorted(random.choice(len(loose), count, replace=False))] if count else []
        stay = [item for item in loose if item not in chosen]
        taken = _kept_free(config) + _circles(scene, before, stay)
        tool = next(scene.of(ObjectKind.ROBOT), None)
        if tool is not None:
            taken.append((*before.poses[tool.id][:2, 3], REACH[config.tool]))
        jointed = list(scene.of(ObjectKind.ARTICULATED))
        positions = {**before.positions, **openings(jointed, random)}
        state = _dropped(random, scene, SceneState(before.poses, positions), taken, chosen)
        state = settled(model, scene, state) if state is not None else None
        if state is not None and all(_unmoved(before, state, item) for item in stay):
            kept = {item.id: before.poses[item.id] for item in stay}
            return _rounded(SceneState({**state.poses, **kept}, state.positions))
    raise ConfigError(
        f"expected room to move things on the table for state {index}, but found none in {_ARRANGEMENTS}"
        " attempts; ask for fewer or smaller things"
    )


def _dropped(
    random: Random,
    scene: SimScene,
    state: SceneState,
    taken: list[tuple[float, float, float]],
    things: Sequence[SceneObject],
) -> SceneState | None:
    """The state with things put down just above the table, apart from all circles; None without room."""
    poses, taken = dict(state.poses), list(taken)
    for item in things:
        rotation = rest_rotation(random, item.name.split()[0])
        points = item.form.points() @ rotation.T
        radius = float(np.linalg.norm(points[:, :2], axis=1).max())
        spot = _free_spot(random, scene, taken, radius)
        if spot is None:
            return None
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, (*spot, 0.0015 - points[:, 2].min())
        poses[item.id] = pose
        taken.append((*spot, radius))
    return replace(state, poses=poses)


def _free_spot(
    random: Random, scene: SimScene, taken: Sequence[tuple[float, float, float]], radius: float
) -> tuple[float, float] | None:
    """A place [m] on the table, rather near its middle, where a circle meets none that is taken."""
    half = np.array(scene.table) / 2 - _EDGE - radius
    if half.min() <= 0:
        return None
    for _ in range(_PLACES):
        spot = (
            (random.normal(size=2) * 0.16).clip(-half, half)
            if scene.table[0] < 0.9
            else random.uniform(-half, half)
        )
        if all(math.dist(spot, circle[:2]) > circle[2] + radius + _GAP for circle in taken):
            return float(spot[0]), float(spot[1])
    return None


def _kept_free(config: StillConfig) -> list[tuple[float, float, float]]:
    return list(KEPT_FREE) if config.scene == "cabinet" else []


def _circles(
    scene: SimScene, state: SceneState, things: Sequence[SceneObject]
) -> list[tuple[float, float, float]]:
    circles = []
    for item in things:
        pose = state.poses[item.id]
        around = np.linalg.norm((item.form.points() @ pose[:3, :3].T)[:, :2], axis=1).max()
        circles.append((float(pose[0, 3]), float(pose[1, 3]), float(around)))
    return circles


def _by_size(scene: SimScene) -> list[SceneObject]:
    """Large things first: they are the hardest to find room for."""
    return sorted(scene.of(ObjectKind.RIGID), key=lambda item: -item.radius)


def _unmoved(before: SceneState, after: SceneState, item: SceneObject) -> bool:
    return bool(np.abs(before.poses[item.id] - after.poses[item.id]).max() < 2e-3)


def _rounded(state: SceneState) -> SceneState:
    """Poses whose rotation is one to the last digit."""
    poses = {}
    for id, pose in state.poses.items():
        left, _, right = np.linalg.svd(pose[:3, :3])
        pose = pose.copy()
        pose[:3, :3] = left @ right
        poses[id] = pose
    return SceneState(poses, state.positions)


__all__ = ["arranged", "upright"]
