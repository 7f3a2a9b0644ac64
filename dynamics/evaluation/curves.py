"""Error over time as an inline SVG: a line and a band for each model, with their names at the ends."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from .report import Row

Scale = Callable[[int | float], float]
_WIDTH, _HEIGHT = 560, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 142, 26, 38
_STEPS = (1, 2, 2.5, 5, 10)
#: [px] between names.
_GAP = 15.0
#: A model that goes astray may reach so many times what persistence does; beyond, its line leaves.
_MOST = 1.6


def curves_svg(
    rows: Sequence[Row], places: Mapping[str, int], horizons: Sequence[int], number: int = 0
) -> str:
    """Mean distance [mm] of each model over time [s], in the episodes of one family.

    Args:
        rows: of the models.
        places: each model's colour, as a number of the style sheet's classes.
        horizons: [steps] at which there are dots.
        number: of the picture on its page.
    """
    rows = [row for row in rows if len(row.curve) > 1]
    if not rows:
        return ""
    dt, last = rows[0].dt, max(len(row.curve) for row in rows) - 1
    top = _top(rows)
    x_ticks, y_ticks = nice_ticks(0.0, last * dt, 6), nice_ticks(0.0, top, 5)
    right, floor = float(_WIDTH - _RIGHT), float(_HEIGHT - _BOTTOM)

    def x(step: int | float) -> float:
        return _LEFT + (right - _LEFT) * step / last

    def y(metres: int | float) -> float:
        return floor - (floor - _TOP) * min(1000 * metres / y_ticks[-1], 1.5)

    name = f"clip{number}"
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="mean distance over time">',
        f'<clipPath id="{name}"><rect x="{_LEFT}" y="{_TOP - 4}" width="{right - _LEFT + 5}"'
        f' height="{floor - _TOP + 6}"/></clipPath>',
        *(_row(y(tick / 1000), tick, right) for tick in y_ticks),
        *(_column(x(tick / dt), tick, floor) for tick in x_ticks if tick <= last * dt * 1.001),
        f'<text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">seconds</text>',
        '<text x="4" y="12">mean distance in mm</text>',
        f'<g clip-path="url(#{name})">',
    ]
    for row in rows:
        parts.append(_band(row, places[row.model], x, y))
    for row in rows:
        parts.append(_line(row, places[row.model], x, y, horizons))
    parts.append("</g>")
    parts += _names(rows, places, y, right, floor)
    return "".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers, the first at or below `low`, the last at or above `high`."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * each for each in _STEPS if power * each * count >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 9) for i in range(first, max(last, first + 1) + 1)]


def _top(rows: Sequence[Row]) -> float:
    """[mm] where the picture ends."""
    most = {row.model: max(mean for mean, _, _ in row.curve) for row in rows}
    top = max(most.values())
    if "persistence" in most and most["persistence"] > 0:
        top = min(top, _MOST * most["persistence"])
    return 1000 * max(top, 1e-5)


def _row(y: float, tick: float, right: float) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    )


def _column(x: float, tick: float, floor: float) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>'
        f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="middle">{tick:g}</text>'
    )


def _band(row: Row, place: int, x: Scale, y: Scale) -> str:
    moments = [
        (step, low, high) for step, (_, low, high) in enumerate(row.curve) if math.isfinite(low + high)
    ]
    there = [f"{x(step):.1f},{y(high):.1f}" for step, _, high in moments]
    back = [f"{x(step):.1f},{y(low):.1f}" for step, low, _ in reversed(moments)]
    return f'<polygon class="m{place} band" data-model="{place}" points="{" ".join(there + back)}"/>'


def _line(row: Row, place: int, x: Scale, y: Scale, horizons: Sequence[int]) -> str:
    points = " ".join(f"{x(step):.1f},{y(mean):.1f}" for step, (mean, _, _) in enumerate(row.curve))
    dots = []
    for step in horizons:
        told = row.figure("distance_m", step)
        if told is None:
            continue
        text = (
            f"{row.model}: {1000 * told.mean:.2f} mm after {step} steps"
            f" ({1000 * told.low:.2f} to {1000 * told.high:.2f}, {told.count} episodes)"
        )
        at = f'cx="{x(step):.1f}" cy="{y(told.mean):.1f}"'
        dots.append(
            f'<g><title>{escape(text)}</title><circle class="reach" {at} r="10"/>'
            f'<circle class="dot" {at} r="3"/></g>'
        )
    line = f'<polyline class="line" points="{points}"/>'
    return f'<g class="m{place}" data-model="{place}">{line}{"".join(dots)}</g>'


def _names(rows: Sequence[Row], places: Mapping[str, int], y: Scale, right: float, floor: float) -> list[str]:
    """The models' names where their lines end, moved apart where they would overlap."""
    ends = sorted((min(max(y(row.curve[-1][0]), _TOP), floor), row.model) for row in rows)
    places_y, at = [], -math.inf
    for end, _ in ends:
        at = max(end, at + _GAP)
        places_y.append(at)
    # What is pushed below the floor pushes the others up again.
    limit = floor + 2
    for row in reversed(range(len(ends))):
        places_y[row] = min(places_y[row], limit)
        limit = places_y[row] - _GAP
    return [
        f'<g class="m{places[model]}" data-model="{places[model]}">'
        f'<path class="lead" d="M{right + 3},{end:.1f} L{right + 12},{at:.1f}"/>'
        f'<text class="name" x="{right + 15}" y="{at + 4:.1f}">{escape(model[:18])}</text></g>'
        for at, (end, model) in zip(places_y, ends)
    ]
