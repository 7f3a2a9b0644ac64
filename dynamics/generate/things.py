"""Random things to put on a table: their forms, paint and substance."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from gaussworld.world_object import ObjectKind

from .forms import Form, box, disc_part, extruded, turned, wall_parts
from .scene import SUBSTANCES, SceneObject
from .textures import Look, random_look

Kind = Literal["box", "cylinder", "tblock", "lblock", "mug", "bowl", "ball", "capsule", "prism"]
Random = np.random.Generator

_CATEGORIES: dict[Kind, tuple[str, ...]] = {
    "box": ("wood", "cardboard", "plastic", "foam"),
    "cylinder": ("wood", "plastic", "metal"),
    "tblock": ("wood", "plastic"),
    "lblock": ("wood", "plastic"),
    "mug": ("ceramic", "plastic"),
    "bowl": ("ceramic", "wood", "plastic"),
    "ball": ("rubber", "foam", "wood"),
    "capsule": ("rubber", "plastic"),
    "prism": ("wood", "cardboard", "foam"),
}
KINDS: tuple[Kind, ...] = tuple(_CATEGORIES)
TABLE_LOOK = ((0.72, 0.53, 0.34), (0.58, 0.40, 0.24), (0.40, 0.26, 0.15))


def random_thing(random: Random, id: int, kind: Kind, size: tuple[float, float], hue: float) -> SceneObject:
    """A thing of a kind, its largest side within `size` [m]."""
    form = _FORMS[kind](random, float(random.uniform(*size))).centred()
    category = str(random.choice(_CATEGORIES[kind]))
    look = random_look(random, hue)
    friction = round(float(random.uniform(*SUBSTANCES[category].friction)), 3)
    return SceneObject(id, f"{kind} {id - 1}", ObjectKind.RIGID, form, (look,), category, friction)


def table(random: Random, id: int, size: tuple[float, float], height: float) -> SceneObject:
    """A wooden table whose top lies at z = 0, its legs reaching down to the floor [m]."""
    x, y, thick, leg = *size, 0.03, 0.05
    long = height - thick
    corners = [(a * (x / 2 - 0.06), b * (y / 2 - 0.06)) for a in (-1, 1) for b in (-1, 1)]
    legs = [box(leg, leg, long, (a, b, -thick - long / 2), 0.002) for a, b in corners]
    look = Look("wood", TABLE_LOOK, 0.03, 0.10, seed=int(random.integers(2**31)))
    form = Form((box(x, y, thick, (0.0, 0.0, -thick / 2), 0.001), *legs))
    return SceneObject(id, "table", ObjectKind.STATIC, form, (look,), "wood", 0.6, home=np.eye(4))


def rest_rotation(random: Random, kind: str) -> np.ndarray:
    """How a thing of a kind is put down before it settles: standing, or on one of its sides."""
    turn = {
        "box": _axis_turn(int(random.integers(3))),
        "cylinder": _axis_turn(int(random.random() < 0.3)),
        "tblock": _axis_turn(0),
        "lblock": _axis_turn(int(random.random() < 0.3)),
        "capsule": _axis_turn(1),
        "prism": _axis_turn(int(random.random() < 0.3)),
    }.get(kind, np.eye(3))
    yaw = random.uniform(0, 2 * math.pi)
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ turn


def _axis_turn(which: int) -> np.ndarray:
    """Nothing, a quarter turn about y, or one about x."""
    quarter = {
        1: [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]],
        2: [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
    }
    return np.array(quarter.get(which, np.eye(3)))


def _box(random: Random, size: float) -> Form:
    return Form((box(size, size * random.uniform(0.5, 0.9), size * random.uniform(0.35, 0.9)),))


def _cylinder(random: Random, size: float) -> Form:
    radius = size / 2 * random.uniform(0.45, 0.8)
    return Form((turned([(0.0, 0.0), (radius, 0.0), (radius, size), (0.0, size)]),))


def _tblock(random: Random, size: float) -> Form:
    bar, a = size * random.uniform(0.24, 0.32), size / 2
    b = bar / 2
    corners = [(-b, -a), (b, -a), (b, a - bar), (a, a - bar), (a, a), (-a, a), (-a, a - bar), (-b, a - bar)]
    parts = [
        [(-b, -a), (b, -a), (b, a - bar), (-b, a - bar)],
        [(-a, a - bar), (a, a - bar), (a, a), (-a, a)],
    ]
    return Form((extruded(corners, max(0.03, size * random.uniform(0.25, 0.4)), parts),))


def _lblock(random: Random, size: float) -> Form:
    bar, side = size * random.uniform(0.3, 0.42), size * random.uniform(0.7, 0.95)
    corners = [(0.0, 0.0), (side, 0.0), (side, bar), (bar, bar), (bar, size), (0.0, size)]
    parts = [
        [(0.0, 0.0), (side, 0.0), (side, bar), (0.0, bar)],
        [(0.0, bar), (bar, bar), (bar, size), (0.0, size)],
    ]
    return Form((extruded(corners, max(0.03, size * random.uniform(0.3, 0.5)), parts),))


def _mug(random: Random, size: float) -> Form:
    radius, wall, base = size * random.uniform(0.36, 0.46), size * 0.045 + 0.001, size * 0.06
    inner = radius - wall
    profile = [(0.0, 0.0), (radius, 0.0), (radius, size), (inner, size), (inner, base), (0.0, base)]
    parts = wall_parts([(radius, 0.0), (radius, size)], [(inner, 0.0), (inner, size)])
    return Form((turned(profile, [*parts, disc_part(inner, 0.0, base)]),))


def _bowl(random: Random, size: float) -> Form:
    radius, height, wall = size / 2, size * random.uniform(0.32, 0.42), 0.004 + 0.02 * size
    foot = radius * 0.45
    bend = np.linspace(0.0, 1.0, 7) * math.pi / 2
    outer = [(foot + (radius - foot) * math.sin(t), height * (1 - math.cos(t))) for t in bend]
    inner = [
        (foot + (radius - wall - foot) * math.sin(t), wall + (height - wall) * (1 - math.cos(t)))
        for t in bend
    ]
    parts = wall_parts(outer, inner)
    profile = [(0.0, 0.0), *outer, *inner[::-1], (0.0, wall)]
    return Form((turned(profile, [*parts, disc_part(foot, 0.0, wall)]),))


def _ball(random: Random, size: float) -> Form:
    # A flat foot keeps it where it is put.
    radius, squash = size / 2 * random.uniform(0.8, 1.0), random.uniform(0.75, 1.0)
    bend = np.linspace(0.16, 1.0, 24) * math.pi
    line = [(radius * math.sin(t), -radius * squash * math.cos(t)) for t in bend]
    return Form((turned([(0.0, line[0][1]), *line[:-1], (0.0, line[-1][1])]),))


def _capsule(random: Random, size: float) -> Form:
    radius = size * random.uniform(0.16, 0.24)
    bend = np.linspace(0.0, 1.0, 12) * math.pi / 2
    low = [(radius * math.sin(t), radius * (1 - math.cos(t))) for t in bend]
    high = [(radius * math.cos(t), size - radius * (1 - math.sin(t))) for t in bend]
    return Form((turned([*low, *high[:-1], (0.0, size)]),))


def _prism(random: Random, size: float) -> Form:
    count, radius = int(random.choice([3, 5, 6])), size / 2
    angle = np.arange(count) * 2 * math.pi / count
    corners = [(radius * math.cos(t), radius * math.sin(t)) for t in angle]
    return Form((extruded(corners, size * random.uniform(0.5, 0.9)),))


_FORMS: dict[Kind, Callable[[Random, float], Form]] = {
    "box": _box,
    "cylinder": _cylinder,
    "tblock": _tblock,
    "lblock": _lblock,
    "mug": _mug,
    "bowl": _bowl,
    "ball": _ball,
    "capsule": _capsule,
    "prism": _prism,
}
