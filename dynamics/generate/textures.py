"""Solid textures with fine detail: a colour for every point of a surface, random but repeatable."""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8

Pattern = Literal["noise", "stripes", "checker", "spots", "wood", "plain"]
Color = tuple[float, float, float]
_CELLS = 32


@dataclass(frozen=True)
class Look:
    """How a surface is painted."""

    pattern: Pattern
    colors: tuple[Color, Color, Color]
    """sRGB, range [0, 1]."""
    period: float = 0.02
    """[m] size of the pattern."""
    grain: float = 0.12
    """Strength of the fine detail that is laid over it."""
    fine: float = 0.0022
    """[m] size of the fine detail."""
    seed: int = 0


def random_look(random: np.random.Generator, hue: float) -> Look:
    """A pattern in three shades around a hue (range [0, 1]) and one opposite."""
    patterns = [name for name in get_args(Pattern) if name not in ("plain", "wood")]
    colors = (
        _hsv(hue, random.uniform(0.55, 0.85), random.uniform(0.55, 0.8)),
        _hsv(hue + random.uniform(-0.08, 0.08), random.uniform(0.25, 0.6), random.uniform(0.75, 0.95)),
        _hsv(hue + random.uniform(0.35, 0.65), random.uniform(0.4, 0.8), random.uniform(0.25, 0.6)),
    )
    pattern = patterns[int(random.integers(len(patterns)))]
    return Look(pattern, colors, random.uniform(0.012, 0.03), 0.14, seed=int(random.integers(2**31)))


def painted(look: Look, points: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The painting of a chart whose texels show these points [m] of the surface."""
    flat = points.reshape(-1, 3)
    field = _Noise(look.seed)
    color = _PATTERNS[look.pattern](look, flat, field)
    fine = field.at(flat / look.fine) + field.at(flat / (2.7 * look.fine) + 7.3) - 1.0
    color = color * (1 + look.grain * fine[:, None])
    return (color.clip(0, 1) * 255).round().astype(np.uint8).reshape(points.shape)


class _Noise:
    """Smooth random values in [0, 1] on a lattice that repeats."""

    def __init__(self, seed: int) -> None:
        self._table = np.random.default_rng(seed).random((_CELLS,) * 3)

    def at(self, points: np.ndarray) -> np.ndarray:
        """At points in lattice cells."""
        from scipy.ndimage import map_coordinates

        base = np.floor(points)
        share = points - base
        smooth = base + share * share * (3 - 2 * share)
        return map_coordinates(self._table, smooth.T, order=1, mode="grid-wrap")

    def fractal(self, points: np.ndarray, octaves: int = 3) -> np.ndarray:
        """Several scales on top of each other (Perlin 1985), about 0.5."""
        weights = 0.5 ** np.arange(octaves)
        layers = [self.at(points * 2.0**i + 5.1 * i) * weights[i] for i in range(octaves)]
        return np.sum(layers, axis=0) / weights.sum()


def _mixed(colors: np.ndarray, share: np.ndarray) -> np.ndarray:
    """From the first colour at 0 to the second at 1."""
    return colors[0] + (colors[1] - colors[0]) * share[:, None]


def _edge(value: np.ndarray, width: float = 0.04) -> np.ndarray:
    """0 below zero, 1 above it, and a narrow ramp between."""
    return (value / width + 0.5).clip(0, 1)


def _noise(look: Look, points: np.ndarray, field: _Noise) -> np.ndarray:
    colors = np.array(look.colors)
    value = field.fractal(points / (1.6 * look.period), 4)
    base = _mixed(colors, _edge(value - 0.5, 0.06))
    third = _edge(field.fractal(points / look.period + 3.7, 3) - 0.62)
    return base + (colors[2] - base) * third[:, None]


def _stripes(look: Look, points: np.ndarray, field: _Noise) -> np.ndarray:
    colors = np.array(look.colors)
    turn = np.random.default_rng(look.seed).normal(size=3)
    bent = points @ (turn / np.linalg.norm(turn)) / look.period + 0.5 * field.at(points / 0.03)
    phase = bent % 1.0
    base = _mixed(colors, _edge(0.5 - np.abs(phase - 0.5) - 0.25, 0.06))
    thin = _edge(0.06 - np.abs((bent / 3 % 1.0) - 0.5), 0.03)
    return base + (colors[2] - base) * thin[:, None]


def _checker(look: Look, points: np.ndarray, field: _Noise) -> np.ndarray:
    colors = np.array(look.colors)
    cells = np.floor(points / look.period + 0.31).astype(np.int64)
    base = _mixed(colors, (cells.sum(1) % 2).astype(np.float64))
    # Every cell has a shade of its own, so that no two places on the object look the same.
    shade = np.random.default_rng(look.seed).random((16, 16, 16))
    own = shade[tuple((cells % 16).T)]
    base = base * (0.8 + 0.35 * own[:, None])
    return np.where(own[:, None] > 0.86, colors[2], base)


def _spots(look: Look, points: np.ndarray, field: _Noise) -> np.ndarray:
    colors = np.array(look.colors)
    shade = field.fractal(points / 0.02)
    base = np.array(_mixed(colors, 0.35 * shade))
    table = np.random.default_rng(look.seed).random((16, 16, 16, 4))
    cell = np.floor(points / look.period)
    for corner in np.ndindex(2, 2, 2):
        home = cell + np.array(corner) - (points / look.period - cell < 0.5)
        entry = table[tuple((home.astype(np.int64) % 16).T)]
        away = np.linalg.norm(points / look.period - home - 0.25 - 0.5 * entry[:, :3], axis=1)
        inside = _edge(0.18 + 0.24 * entry[:, 3] - away)
        spot = np.where(entry[:, 3:] > 0.5, colors[1], colors[2])
        base = base + (spot - base) * inside[:, None]
    return base


def _wood(look: Look, points: np.ndarray, field: _Noise) -> np.ndarray:
    colors = np.array(look.colors)
    bent = points + 0.012 * np.stack([field.at(points / 0.12 + 9.7 * i) for i in range(3)], axis=1)
    rings = np.hypot(bent[:, 1] + 0.35, bent[:, 2] + 0.11) / look.period
    phase = rings % 1.0
    base = _mixed(colors, phase * phase)
    fibres = field.at(points / np.array([0.03, 0.0018, 0.0018]))
    return base + (colors[2] - base) * (0.45 * _edge(fibres - 0.68, 0.2))[:, None]


def _plain(look: Look, points: np.ndarray, field: _Noise) -> np.ndarray:
    return _mixed(np.array(look.colors), field.fractal(points / look.period))


_PATTERNS: dict[Pattern, Callable[[Look, np.ndarray, _Noise], np.ndarray]] = {
    "noise": _noise,
    "stripes": _stripes,
    "checker": _checker,
    "spots": _spots,
    "wood": _wood,
    "plain": _plain,
}


def _hsv(hue: float, saturation: float, value: float) -> Color:
    r, g, b = colorsys.hsv_to_rgb(float(hue) % 1.0, float(saturation), float(value))
    return r, g, b
