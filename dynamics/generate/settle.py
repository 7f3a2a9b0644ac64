"""Letting a scene come to rest under gravity, and asking what then rests on what."""

from typing import Any

import numpy as np
from jaxtyping import Float

from gaussworld.world_object import ObjectKind

from .mjcf import TIMESTEP, body_pose, mujoco_module, object_of_geom, place
from .scene import SceneState, SimScene

_PATIENCE = 6.0
"""[s] of simulated time after which a scene that still moves is given up."""
_QUIET = 0.25
"""[s] for which everything has to be slow."""
_SLOW = (0.002, 0.02)
"""[m/s] and [rad/s]"""


def settled(model: Any, scene: SimScene, state: SceneState) -> SceneState | None:
    """The state in which everything loose has come to rest; None if it does not, or falls off the table.

    Args:
        model: of the scene, drawn or not.
        scene: what is in it.
        state: where everything is let go.
    """
    mujoco = mujoco_module()
    data = mujoco.MjData(model)
    place(model, data, scene, state)
    held = [model.joint(i).qposadr[0] for i in range(model.njnt) if model.jnt_type[i] != 0]
    positions = data.qpos[held].copy()
    free = np.array([i for i in range(model.njnt) if model.jnt_type[i] == 0], dtype=int)
    first = model.jnt_dofadr[free][:, None]
    moves, turns = first + np.arange(3), first + np.arange(3, 6)
    quiet = 0
    for _ in range(round(_PATIENCE / TIMESTEP)):
        mujoco.mj_step(model, data)
        data.qpos[held] = positions
        slow = np.abs(data.qvel[moves]).max(initial=0) < _SLOW[0]
        slow = slow and np.abs(data.qvel[turns]).max(initial=0) < _SLOW[1]
        quiet = quiet + 1 if slow else 0
        if quiet * TIMESTEP >= _QUIET:
            break
    else:
        return None
    poses = dict(state.poses)
    for item in scene.of(ObjectKind.RIGID):
        poses[item.id] = body_pose(data, item)
    found = SceneState(poses, state.positions)
    return found if all(_on_table(scene, pose) for pose in _loose(scene, found)) else None


def supports(model: Any, scene: SimScene, state: SceneState) -> dict[int, tuple[int, ...]]:
    """For everything loose, the ids of what carries it: contacts below it whose normal is rather upright."""
    mujoco = mujoco_module()
    data = mujoco.MjData(model)
    place(model, data, scene, state)
    owner = object_of_geom(model, scene)
    found: dict[int, set[int]] = {item.id: set() for item in scene.of(ObjectKind.RIGID)}
    for contact in data.contact[: data.ncon]:
        # The normal points from the first geom to the second.
        low, high = (int(owner[geom]) for geom in contact.geom)
        up = float(contact.frame[2])
        if abs(up) < 0.5:
            continue
        low, high = (low, high) if up > 0 else (high, low)
        if high in found and low != high:
            found[high].add(low)
    return {id: tuple(sorted(below)) for id, below in found.items()}


def _loose(scene: SimScene, state: SceneState) -> list[Float[np.ndarray, "4 4"]]:
    return [state.poses[item.id] for item in scene.of(ObjectKind.RIGID)]


def _on_table(scene: SimScene, pose: np.ndarray) -> bool:
    x, y, z = pose[:3, 3].tolist()
    return z > 0 and abs(x) < scene.table[0] / 2 - 0.02 and abs(y) < scene.table[1] / 2 - 0.02
