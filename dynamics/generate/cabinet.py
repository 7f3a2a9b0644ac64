"""A cabinet with a drawer above a hinged door, whose axes are known."""

import math
from collections.abc import Sequence

import numpy as np

from gaussworld.world_object import Joint, ObjectKind

from .forms import Form, Piece, box
from .scene import SceneObject, upright
from .textures import Look, random_look

WIDE, DEEP, TALL, BOARD = 0.36, 0.26, 0.36, 0.012
"""[m] of the body; the fronts lie before it, in the direction of +x."""
#: [m] where it stands: its front's middle, at the table.
FRONT = (-0.1, 0.0)
#: [m] circles (x, y, radius) that nothing may stand in: the body, and where the door swings.
KEPT_FREE = (
    (FRONT[0] - DEEP / 2, 0.0, 0.24),
    (FRONT[0] + 0.02, WIDE / 2, 0.37),
    (FRONT[0] + 0.12, -0.06, 0.2),
)
_DRAWER = 0.12
_GAP = 0.003
_TEXEL = 0.0012
"""[m]"""
_OPEN = {"door": (0.0, math.radians(110)), "drawer": (0.0, 0.18)}


def cabinet_objects(random: np.random.Generator, first_id: int) -> list[SceneObject]:
    """Body, door and drawer, their frames at the middle of the front's lower edge."""
    hue = float(random.random())
    body_look, door_look, drawer_look = (random_look(random, hue + shift) for shift in (0.0, 0.3, 0.62))
    knob = Look("plain", ((0.15, 0.15, 0.17), (0.25, 0.25, 0.27), (0.1, 0.1, 0.1)), 0.01, 0.1, seed=3)
    friction, closed = 0.45, upright(*FRONT, 0.0)
    body = SceneObject(
        first_id, "cabinet", ObjectKind.STATIC, Form(_body()), (body_look,), "wood", friction, home=closed
    )
    side = WIDE / 2 - _GAP
    hinge = Joint("revolute", (0.0, 0.0, 1.0), (BOARD / 2 + _GAP, side, 0.0), _OPEN["door"])
    slide = Joint("prismatic", (1.0, 0.0, 0.0), limits=_OPEN["drawer"])
    door = SceneObject(
        first_id + 1, "door", ObjectKind.ARTICULATED, Form(_door()), (door_look, knob), "wood", friction,
        first_id, hinge, closed,
    )  # fmt: skip
    drawer_looks = (drawer_look,) * 5 + (knob,)
    drawer = SceneObject(
        first_id + 2, "drawer", ObjectKind.ARTICULATED, Form(_drawer()), drawer_looks, "wood", friction,
        first_id, slide, closed,
    )  # fmt: skip
    return [body, door, drawer]


def openings(objects: Sequence[SceneObject], random: np.random.Generator) -> dict[int, float]:
    """Random positions [rad] or [m] of door and drawer."""
    found = {}
    for item in objects:
        if item.joint is not None and item.kind is ObjectKind.ARTICULATED:
            low, high = item.joint.limits
            found[item.id] = round(float(random.uniform(low + 0.15 * (high - low), high)), 4)
    return found


def _body() -> tuple:
    inside = WIDE - 2 * BOARD
    middle = -DEEP / 2
    shelf = TALL - _DRAWER - BOARD / 2
    back = TALL - 2 * BOARD
    return (
        _board(DEEP, BOARD, TALL, (middle, (WIDE - BOARD) / 2, TALL / 2)),
        _board(DEEP, BOARD, TALL, (middle, -(WIDE - BOARD) / 2, TALL / 2)),
        _board(DEEP, inside, BOARD, (middle, 0.0, BOARD / 2)),
        _board(DEEP, inside, BOARD, (middle, 0.0, TALL - BOARD / 2)),
        _board(BOARD, inside, back, (-DEEP + BOARD / 2, 0.0, TALL / 2)),
        _board(DEEP - BOARD, inside, BOARD, (middle + BOARD / 2, 0.0, shelf)),
    )


def _door() -> tuple:
    tall = TALL - _DRAWER - 2 * _GAP
    x = BOARD / 2 + _GAP
    panel = _board(BOARD, WIDE - 2 * _GAP, tall, (x, 0.0, tall / 2 + _GAP))
    return panel, _board(0.02, 0.014, 0.09, (x + BOARD / 2 + 0.01, -WIDE / 2 + 0.035, tall * 0.6))


def _drawer() -> tuple:
    tall, x = _DRAWER - 2 * _GAP, BOARD / 2 + _GAP
    middle, start = TALL - _DRAWER / 2, x - BOARD / 2
    deep, wide, board = DEEP - 2 * BOARD - 0.01, WIDE - 2 * BOARD - 4 * _GAP, 0.008
    height = tall - 2 * BOARD - 0.01
    low = TALL - _DRAWER + BOARD / 2 + 0.006
    at = start - deep / 2
    return (
        _board(BOARD, WIDE - 2 * _GAP, tall, (x, 0.0, middle)),
        _board(deep, wide, board, (at, 0.0, low + board / 2)),
        _board(deep, board, height, (at, (wide - board) / 2, low + board + height / 2)),
        _board(deep, board, height, (at, -(wide - board) / 2, low + board + height / 2)),
        _board(board, wide - 2 * board, height, (start - deep + board / 2, 0.0, low + board + height / 2)),
        _board(0.02, 0.1, 0.014, (x + BOARD / 2 + 0.01, 0.0, middle)),
    )


def _board(x: float, y: float, z: float, at: tuple[float, float, float]) -> Piece:
    return box(x, y, z, at, _TEXEL)
