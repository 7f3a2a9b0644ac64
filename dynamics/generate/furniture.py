"""Cabinets for episodes: one hinged door, or one drawer, each with a bar that a rod can hook."""

import math
from dataclasses import dataclass

import numpy as np

from gaussworld.world_object import Joint, ObjectKind

from .forms import Form, Piece, box
from .ranges import Ranges
from .scene import SceneObject, upright
from .textures import Look, random_look

Random = np.random.Generator
BOARD = 0.012
"""[m] thickness of the boards, and of the bar."""
SLOT = 0.04
"""[m] between a front and its bar; the rod has to go in."""
_GAP = 0.003
_TEXEL = 0.0012
_METAL = Look("plain", ((0.15, 0.15, 0.17), (0.25, 0.25, 0.27), (0.1, 0.1, 0.1)), 0.01, 0.1, seed=3)
_DOOR = math.radians(100)


@dataclass(frozen=True)
class Front:
    """Where to touch the moving part of a cabinet, in the frame of the cabinet."""

    size: tuple[float, float, float]
    """[m] of the whole: depth, width, height."""
    face: float
    """[m] x of the outer side of the front."""
    bar: tuple[float, float]
    """[m] y and z of the bar's middle."""
    reach: float
    """[m] half the free length of the bar."""
    hinge: tuple[float, float] = (0.0, 0.0)
    """[m] x and y of a door's axis."""

    @property
    def slot(self) -> tuple[float, float]:
        """[m] x and y between front and bar."""
        return self.face + SLOT / 2, self.bar[0]


def furniture(
    random: Random, kind: str, first_id: int, ranges: Ranges, hooked: bool = False
) -> tuple[list[SceneObject], Front]:
    """A cabinet and its door or drawer; their frames are at the middle of the front's lower edge.

    Args:
        random: where numbers are from.
        kind: door or drawer.
        first_id: of the cabinet; its front has the next.
        ranges: of sizes, frictions and densities.
        hooked: with a hook on one post in place of a bar on two.
    """
    deep, wide, tall = (random.uniform(*span) for span in ranges.sizes)
    place = upright(
        random.uniform(-0.16, -0.1), random.uniform(-0.04, 0.04), 0.0, random.uniform(-0.35, 0.35)
    )
    looks = [random_look(random, random.random()) for _ in range(2)]
    friction = [round(float(random.uniform(*ranges.friction)), 3) for _ in range(2)]
    assert ranges.density is not None
    body = SceneObject(
        first_id, "cabinet", ObjectKind.STATIC, Form(_body(deep, wide, tall)), (looks[0],), "wood",
        friction[0], home=place,
    )  # fmt: skip
    make = _door if kind == "door" else _drawer
    form, joint, front = make(random, deep, wide, tall)
    if hooked:
        form = Form(form.pieces[:-2] + form.pieces[-1:])
    metal = 2 if hooked else 3
    paint = (looks[1],) * (len(form.pieces) - metal) + (_METAL,) * metal
    moving = SceneObject(
        first_id + 1, kind, ObjectKind.ARTICULATED, form, paint, "wood", friction[1], first_id, joint, place,
        density=float(random.uniform(*ranges.density)),
    )  # fmt: skip
    return [body, moving], front


def _body(deep: float, wide: float, tall: float) -> tuple[Piece, ...]:
    inside, middle = wide - 2 * BOARD, -deep / 2
    return (
        _board(deep, BOARD, tall, (middle, (wide - BOARD) / 2, tall / 2)),
        _board(deep, BOARD, tall, (middle, -(wide - BOARD) / 2, tall / 2)),
        _board(deep, inside, BOARD, (middle, 0.0, BOARD / 2)),
        _board(deep, inside, BOARD, (middle, 0.0, tall - BOARD / 2)),
        _board(BOARD, inside, tall - 2 * BOARD, (BOARD / 2 - deep, 0.0, tall / 2)),
    )


def _door(random: Random, deep: float, wide: float, tall: float) -> tuple[Form, Joint, Front]:
    side = float(random.choice([-1.0, 1.0]))
    x = BOARD / 2 + _GAP
    panel = _board(BOARD, wide - 2 * _GAP, tall - 2 * _GAP, (x, 0.0, tall / 2))
    face, reach = x + BOARD / 2, random.uniform(0.03, 0.038)
    y, z = -side * (wide / 2 - reach - BOARD - 0.015), max(0.55 * tall, tall - 0.1)
    hinge = (x, side * (wide / 2 - _GAP))
    joint = Joint("revolute", (0.0, 0.0, side), (*hinge, 0.0), (0.0, _DOOR))
    form = Form((panel, *_bar(face, y, z, reach)))
    return form, joint, Front((deep, wide, tall), face, (y, z), reach, hinge)


def _drawer(random: Random, deep: float, wide: float, tall: float) -> tuple[Form, Joint, Front]:
    x, board = BOARD / 2 + _GAP, 0.008
    face, reach = x + BOARD / 2, random.uniform(0.03, 0.045)
    long, broad = deep - BOARD - 0.012, wide - 2 * BOARD - 4 * _GAP
    low, height = BOARD + 0.006, (tall - 2 * BOARD) * random.uniform(0.6, 0.85)
    start = x - BOARD / 2
    at, side, level = start - long / 2, (broad - board) / 2, low + board + height / 2 - board
    pieces = (
        _board(BOARD, wide - 2 * _GAP, tall - 2 * _GAP, (x, 0.0, tall / 2)),
        _board(long, broad, board, (at, 0.0, low + board / 2)),
        _board(long, board, height - board, (at, side, level)),
        _board(long, board, height - board, (at, -side, level)),
        _board(board, broad - 2 * board, height - board, (start - long + board / 2, 0.0, level)),
    )
    z = max(0.55 * tall, tall - 0.1)
    joint = Joint("prismatic", (1.0, 0.0, 0.0), limits=(0.0, round(0.7 * deep, 4)))
    form = Form((*pieces, *_bar(face, 0.0, z, reach)))
    return form, joint, Front((deep, wide, tall), face, (0.0, z), reach)


def _bar(face: float, y: float, z: float, reach: float) -> tuple[Piece, ...]:
    """A bar before a front, on two posts."""
    post = reach + BOARD / 2
    return (
        _board(SLOT, BOARD, BOARD, (face + SLOT / 2, y - post, z)),
        _board(SLOT, BOARD, BOARD, (face + SLOT / 2, y + post, z)),
        _board(BOARD, 2 * reach + 2 * BOARD, BOARD, (face + SLOT + BOARD / 2, y, z)),
    )


def _board(x: float, y: float, z: float, at: tuple[float, float, float]) -> Piece:
    return box(x, y, z, at, _TEXEL)
