"""The robot's tool over the table: a pusher's rod, or a parallel gripper with two fingers."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float

from gaussworld.world_object import Joint, ObjectKind

from .forms import Form, box, turned
from .scene import SceneObject, upright
from .textures import Look

Tool = Literal["pusher", "gripper", "none"]
#: [m] circle that a tool keeps free on the table.
REACH: dict[Tool, float] = {"pusher": 0.05, "gripper": 0.09, "none": 0.0}
_STEEL = Look("noise", ((0.30, 0.32, 0.35), (0.42, 0.44, 0.47), (0.18, 0.19, 0.21)), 0.012, 0.12, seed=11)
_BLUE = Look("stripes", ((0.12, 0.25, 0.50), (0.20, 0.36, 0.62), (0.75, 0.78, 0.80)), 0.016, 0.12, seed=12)
_TIP = Look("checker", ((0.85, 0.45, 0.10), (0.95, 0.62, 0.20), (0.25, 0.20, 0.18)), 0.012, 0.12, seed=13)
_FINGER = 0.045
"""[m] how far a finger opens."""


def tool_objects(tool: Tool, first_id: int) -> list[SceneObject]:
    """The bodies of a tool, its base first, their frames at the point between tip and table."""
    if tool == "none":
        return []
    return [_pusher(first_id)] if tool == "pusher" else _gripper(first_id)


def tool_poses(
    objects: list[SceneObject], x: float, y: float, yaw: float, height: float
) -> Mapping[int, Float[np.ndarray, "4 4"]]:
    """Where a tool's bodies are when its tip is at a place [m], `height` above the table."""
    return {item.id: upright(x, y, height, yaw) for item in objects}


def tool_positions(objects: list[SceneObject], random: np.random.Generator) -> dict[int, float]:
    """How far its fingers are open [m]."""
    opening = round(float(random.uniform(0.3, 0.9)) * _FINGER, 4)
    return {item.id: opening for item in objects if item.joint is not None}


def _pusher(id: int) -> SceneObject:
    rod = turned([(0.0, 0.0), (0.011, 0.0), (0.0125, 0.0015), (0.0125, 0.16), (0.0, 0.16)])
    head = turned([(0.0, 0.0), (0.03, 0.0), (0.03, 0.012), (0.024, 0.018), (0.024, 0.07), (0.0, 0.07)])
    form = Form((rod, head.moved(np.eye(3), (0.0, 0.0, 0.16))))
    return SceneObject(id, "pusher", ObjectKind.ROBOT, form, (_TIP, _BLUE), "metal", 0.3)


def _gripper(first_id: int) -> list[SceneObject]:
    palm = box(0.05, 0.15, 0.035, (0.0, 0.0, 0.1175))
    wrist = turned([(0.0, 0.0), (0.026, 0.0), (0.026, 0.08), (0.0, 0.08)]).moved(np.eye(3), (0.0, 0.0, 0.135))
    base = SceneObject(
        first_id, "gripper", ObjectKind.ROBOT, Form((palm, wrist)), (_BLUE, _STEEL), "metal", 0.3
    )
    fingers = []
    for i, side in enumerate((1.0, -1.0)):
        # Closed, the two fingers touch in the middle.
        form = Form((box(0.022, 0.012, 0.1, (0.0, side * 0.006, 0.05)),))
        joint = Joint("prismatic", (0.0, side, 0.0), limits=(0.0, _FINGER))
        name = f"{('left', 'right')[i]} finger"
        kind, look = ObjectKind.ROBOT, (_TIP,)
        fingers.append(SceneObject(first_id + 1 + i, name, kind, form, look, "rubber", 0.9, first_id, joint))
    return [base, *fingers]


def tool_yaw(random: np.random.Generator) -> float:
    """[rad]"""
    return float(random.uniform(0, 2 * math.pi))
