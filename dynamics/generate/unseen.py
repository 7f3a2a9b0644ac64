"""What only shifted episodes have: forms, paint and tools that no ordinary one has."""

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..tool import Tool, gripper, pusher
from .forms import Form, Points2, extruded, turned
from .ranges import Span
from .textures import Color, Look

Random = np.random.Generator
_WHITE: Color = (1.0, 1.0, 1.0)
_BLACK: Color = (0.0, 0.0, 0.0)
#: [m] radii of rods for pushing, and of those that go between a front and its bar.
RODS: tuple[Span, ...] = ((0.02, 0.025),)
HOOKS: tuple[Span, ...] = ((0.006, 0.009), (0.0155, 0.017))
#: [m] half the width of a paddle, and half that of narrow and wide fingers.
PADDLE: Span = (0.03, 0.05)
FINGERS: tuple[Span, ...] = ((0.004, 0.007), (0.017, 0.022))


def unseen_form(family: str, random: Random, size: tuple[float, ...]) -> tuple[str, Form]:
    """The name and the form of a thing to push or to lift; its frame is at its centre of mass.

    Args:
        family: push_t has letters, lift what fingers hold as well as a box, others prisms.
        random: where numbers are from.
        size: [m] as `Ranges.sizes`, drawn.
    """
    if family == "lift":
        wide, _, tall = size
        tall = min(tall, 1.6 * wide + 0.01)
        name = str(random.choice(["cylinder", "hexagon"]))
        if name == "cylinder":
            line = [(0.0, 0.0), (wide / 2, 0.0), (wide / 2, tall), (0.0, tall)]
            return name, Form((turned(line),)).centred()
        return name, Form((extruded(_regular(6, wide / math.sqrt(3)), tall),)).centred()
    makers = _LETTERS if family == "push_t" else _PRISMS
    name = str(random.choice(list(makers)))
    tall = max(0.03, size[0] * random.uniform(0.25, 0.4))
    outline, convex = makers[name](random, size[0])
    return name, Form((extruded(outline, min(tall, 0.07), convex),)).centred()


Outline = tuple[Points2, list[Points2]]


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> Points2:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _letter_l(random: Random, size: float) -> Outline:
    bar, side = size * random.uniform(0.26, 0.34), size * random.uniform(0.6, 0.85)
    corners = [(0.0, 0.0), (side, 0.0), (side, bar), (bar, bar), (bar, size), (0.0, size)]
    return corners, [_rectangle(0.0, 0.0, side, bar), _rectangle(0.0, bar, bar, size)]


def _plus(random: Random, size: float) -> Outline:
    b, a = size * random.uniform(0.13, 0.17), size / 2
    corners = [
        (-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b),
        (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b),
    ]  # fmt: skip
    return corners, [_rectangle(-b, -a, b, a), _rectangle(-a, -b, -b, b), _rectangle(b, -b, a, b)]


def _letter_u(random: Random, size: float) -> Outline:
    bar, tall = size * random.uniform(0.24, 0.3), size * random.uniform(0.7, 0.95)
    inner = size - bar
    corners = [
        (0.0, 0.0), (size, 0.0), (size, tall), (inner, tall),
        (inner, bar), (bar, bar), (bar, tall), (0.0, tall),
    ]  # fmt: skip
    arms = [_rectangle(0.0, bar, bar, tall), _rectangle(inner, bar, size, tall)]
    return corners, [_rectangle(0.0, 0.0, size, bar), *arms]


def _letter_z(random: Random, size: float) -> Outline:
    # Its two bars overlap by a bar's width; half of all are mirrored.
    bar, arm = size * random.uniform(0.28, 0.34), size * random.uniform(0.58, 0.66)
    start = size - arm
    corners = [
        (0.0, 0.0), (arm, 0.0), (arm, bar), (size, bar),
        (size, 2 * bar), (start, 2 * bar), (start, bar), (0.0, bar),
    ]  # fmt: skip
    parts = [_rectangle(0.0, 0.0, arm, bar), _rectangle(start, bar, size, 2 * bar)]
    if random.random() < 0.5:
        return _mirrored(corners), [_mirrored(part) for part in parts]
    return corners, parts


def _mirrored(corners: Points2) -> Points2:
    return [(-x, y) for x, y in reversed(corners)]


def _regular(count: int, radius: float) -> Points2:
    angle = np.arange(count) * 2 * math.pi / count
    return [(radius * math.cos(t), radius * math.sin(t)) for t in angle]


def _triangle(random: Random, size: float) -> Outline:
    return [(0.0, 0.0), (size, 0.0), (size * random.uniform(0.2, 0.6), size * random.uniform(0.6, 0.9))], []


def _hexagon(random: Random, size: float) -> Outline:
    return _regular(6, size / 2), []


def _ellipse(random: Random, size: float) -> Outline:
    flat = random.uniform(0.45, 0.7)
    return [(x, flat * y) for x, y in _regular(40, size / 2)], []


def _half_disc(random: Random, size: float) -> Outline:
    angle = np.linspace(0.0, math.pi, 21)
    return [(size / 2 * math.cos(t), size / 2 * math.sin(t)) for t in angle], []


_Maker = Callable[[Random, float], Outline]
_LETTERS: dict[str, _Maker] = {
    "L-block": _letter_l,
    "plus": _plus,
    "U-block": _letter_u,
    "Z-block": _letter_z,
}
_PRISMS: dict[str, _Maker] = {
    "triangle": _triangle,
    "hexagon": _hexagon,
    "ellipse": _ellipse,
    "half-disc": _half_disc,
    "L-block": _letter_l,
}


def unseen_look(look: Look) -> Look:
    """Neon of one colour, or a fine checker of black and white: ordinary paint is neither pure nor grey."""
    random = np.random.default_rng([look.seed, 1])
    if random.random() < 0.3:
        return Look("checker", (_WHITE, _BLACK, _WHITE), random.uniform(0.006, 0.01), 0.0, seed=look.seed)
    hue = random.random()
    neon, other = (colorsys.hsv_to_rgb((hue + shift) % 1.0, 1.0, 1.0) for shift in (0.0, 0.5))
    pattern = "plain" if random.random() < 0.5 else "spots"
    return Look(pattern, (neon, neon, other), 0.02, 0.0, seed=look.seed)


def unseen_table(look: Look) -> Look:
    """A table that is not of wood."""
    random = np.random.default_rng([look.seed, 2])
    shades: tuple[tuple[Color, Color, Color], ...] = (
        ((0.95, 0.95, 0.95), (0.85, 0.87, 0.9), _WHITE),
        ((0.05, 0.05, 0.06), (0.12, 0.12, 0.14), _BLACK),
        ((0.05, 0.35, 0.15), (0.08, 0.45, 0.2), (0.03, 0.25, 0.1)),
    )
    return replace(look, pattern="noise", colors=shades[int(random.integers(len(shades)))])


def unseen_tool(family: str, random: Random) -> Tool:
    """A thicker rod or a paddle to push with; a thicker or thinner rod to hook with; other fingers."""
    if family in ("lift", "rope", "cloth", "soft"):
        half = float(random.uniform(*FINGERS[int(random.integers(len(FINGERS)))]))
        made = gripper()
        halves = made.halves.clone()
        halves[:2, 0] = half - float(made.radii[0])
        name = "narrow gripper" if half < 0.011 else "wide gripper"
        return replace(made, name=name, halves=halves)
    if family in ("door", "drawer"):
        return _rod(float(random.uniform(*HOOKS[int(random.integers(len(HOOKS)))])))
    if random.random() < 0.5:
        return _rod(float(random.uniform(*RODS[0])))
    edge = 0.002
    half = torch.tensor([[0.006, float(random.uniform(*PADDLE)), 0.08]])
    return replace(
        pusher(), name="paddle", halves=half - edge, radii=torch.tensor([edge])
    )  # fmt: skip


def _rod(radius: float) -> Tool:
    radius = round(radius, 5)
    return replace(
        pusher(),
        name="thick rod" if radius > 0.0125 else "thin rod",
        halves=torch.tensor([[0.0, 0.0, 0.08 - radius]]),
        radii=torch.tensor([radius]),
    )
