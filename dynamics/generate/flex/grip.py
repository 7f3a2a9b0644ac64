"""Holding elastic things: a gripper takes what is between its fingers by equalities that are switched.

A pinch by friction alone slips off thin ropes and never picks a flat cloth; soft blocks are held by friction.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ...tool import Tool
from ..mjcf import mujoco_module
from .body import flex_name
from .flex import Flex

_BETWEEN = ((-0.012, -0.012, -0.012), (0.012, 0.012, 0.03))
"""[m] lowest and highest corner of what fingers of 22 mm hold when they are closed, in the tool's frame."""
_MARGIN = 0.001
"""[m] that this is wider than the fingers."""
_REACH = 0.02
"""[m] from the middle of the fingers' tips to the nearest vertex, where none is between them."""
_HARDLY = 0.002
"""[m]"""
_HOLD = (0.005, 1.0)
"""[s] time constant and damping ratio."""


def add_grips(spec: Any, flex: Flex, tool_body: str) -> None:
    """Let a tool hold a rope or a cloth: a connection to every vertex that is free, none of them active.

    Args:
        spec: MuJoCo's description of the scene, the tool and the elastic thing in it.
        flex: what was added.
        tool_body: name of the body whose frame is the tool's; it holds, and its fingers may slide on it.
    """
    mujoco = mujoco_module()
    if flex.kind == "soft":
        return
    for i in range(flex.count):
        if i not in flex.tied:
            spec.add_equality(
                name=f"{flex_name(flex)}_grip{i}",
                type=mujoco.mjtEq.mjEQ_CONNECT,
                objtype=mujoco.mjtObj.mjOBJ_BODY,
                name1=tool_body,
                name2=f"{flex_name(flex)}_{i}",
                active=False,
                solref=list(_HOLD),
                solimp=[0.97, 0.99, 0.001, 0.5, 2.0],
            )


def between(tool: Tool) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """[m] lowest and highest corner of what a gripper's closed fingers hold, in its frame."""
    low, high = _BETWEEN
    wide = round(float(tool.halves[0, 0] + tool.radii[0]), 6) + _MARGIN
    return (-wide, *low[1:]), (wide, *high[1:])


def grip(
    model: Any,
    data: Any,
    flex: Flex,
    between: Sequence[Sequence[float]] = _BETWEEN,
    reach: float = _REACH,
) -> tuple[int, ...]:
    """Hold what is between the fingers where it is; to be called when they have closed.

    Args:
        model: of the scene.
        data: of the model, positions up to date.
        flex: what was added with `add_grips`.
        between: [m] lowest and highest corner of what is held, in the tool's frame.
        reach: [m] from the tool's tip to the one vertex that is held where none is between the fingers; of a
            rope always two at least are held.

    Returns:
        The vertices that are held, none if all are too far.
    """
    links = _links(model, flex)
    if not links:
        return ()
    rows, vertices = np.array(list(links.values())), np.array(list(links))
    local = _in_tool(model, data, rows)
    low, high = np.asarray(between, dtype=np.float64)
    held = ((local >= low) & (local <= high)).all(1)
    away = np.linalg.norm(local, axis=1)
    if not held.any() and away.min() <= reach:
        held[away.argmin()] = True
    if flex.kind == "rope" and held.sum() == 1:
        # Fingers are wide enough to hold a rope's direction, too. Of two neighbours that are about as far
        # it is always the first, so that a hair's breadth decides nothing.
        apart = vertices - int(vertices[held][0])
        held[np.where(np.abs(apart) == 1, away + _HARDLY * apart, np.inf).argmin()] = True
    for row, at in zip(rows[held], local[held]):
        model.eq_data[row, :3], model.eq_data[row, 3:6] = at, 0.0
    data.eq_active[rows] = held
    return tuple(int(i) for i in vertices[held])


def release(model: Any, data: Any, flex: Flex) -> None:
    """Let everything of it go."""
    for row in _links(model, flex).values():
        data.eq_active[row] = 0


def held(model: Any, data: Any, flex: Flex) -> tuple[int, ...]:
    """The vertices that a tool holds."""
    return tuple(i for i, row in _links(model, flex).items() if data.eq_active[row])


def _links(model: Any, flex: Flex) -> dict[int, int]:
    """The equality of every vertex that has one."""
    mujoco = mujoco_module()
    kind, name = mujoco.mjtObj.mjOBJ_EQUALITY, f"{flex_name(flex)}_grip"
    rows = {i: mujoco.mj_name2id(model, kind, f"{name}{i}") for i in range(flex.count)}
    return {i: row for i, row in rows.items() if row >= 0}


def _in_tool(model: Any, data: Any, rows: np.ndarray) -> Float[np.ndarray, "n 3"]:
    """[m] the vertices of equalities in the tool's frame."""
    tool, bodies = model.eq_obj1id[rows[0]], model.eq_obj2id[rows]
    return (data.xpos[bodies] - data.xpos[tool]) @ data.xmat[tool].reshape(3, 3)
