"""PSNR over seconds of training as an inline SVG that needs no script."""

import math
from collections.abc import Sequence
from html import escape

from .record import CurvePoint
from .words import duration

_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 14, 30, 42
_STEPS = (1, 2, 2.5, 5, 10)


def curve_svg(points: Sequence[CurvePoint], width: int, height: int, css_class: str) -> str:
    """A line with a dot for each evaluation; pointing at a dot tells its figures.

    Args:
        points: in the order of their seconds; those without a finite PSNR are skipped.
        width, height: [px] of the drawing, which its place on the page scales.
        css_class: so that a page can show one for wide and one for narrow windows.
    """
    points = [point for point in points if math.isfinite(point.psnr)]
    if not points:
        return ""
    unit, name = (60.0, "minutes") if points[-1].seconds > 240 else (1.0, "seconds")
    along = [point.seconds / unit for point in points]
    x_ticks = nice_ticks(0.0, max(along[-1], 1e-3), max(3, width // 110))
    psnrs = [point.psnr for point in points]
    y_ticks = nice_ticks(min(psnrs), max(psnrs), max(3, height // 55))

    def x(value: float) -> float:
        last = max(x_ticks[-1], along[-1])
        return _LEFT + (width - _LEFT - _RIGHT) * value / last

    def y(value: float) -> float:
        return (
            height - _BOTTOM - (height - _TOP - _BOTTOM) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        )

    places = [(x(s), y(point.psnr)) for s, point in zip(along, points)]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    floor = height - _BOTTOM
    parts = [
        f'<svg class="{css_class}" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="PSNR over {name} of training">',
        *(_row(y(tick), tick, width) for tick in y_ticks),
        *(_column(x(tick), tick, floor) for tick in x_ticks),
        f'<text x="{width - _RIGHT}" y="{height - 6}" text-anchor="end">{name} of training</text>',
        '<text x="4" y="12">PSNR in dB</text>',
        f'<polygon class="area" points="{places[0][0]:.1f},{floor} {line} {places[-1][0]:.1f},{floor}"/>',
        f'<polyline class="line" points="{line}"/>',
        *(_dot(place, point) for place, point in zip(places, points)),
        _last(places[-1], points[-1]),
        "</svg>",
    ]
    return "".join(parts)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers, the first at or below `low`, the last at or above `high`."""
    span = max(high - low, 1e-6 * max(1.0, abs(high)))
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * each for each in _STEPS if power * each * count >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 9) for i in range(first, max(last, first + 1) + 1)]


def _row(y: float, tick: float, width: int) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    )


def _column(x: float, tick: float, floor: int) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>'
        f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="middle">{tick:g}</text>'
    )


def _dot(place: tuple[float, float], point: CurvePoint) -> str:
    of = f"step {point.step:,}, {point.gaussians:,} Gaussians"
    told = f"{point.psnr:.2f} dB after {duration(point.seconds)}: {of}"
    # A wide ring that nobody sees makes the dot easy to point at.
    return (
        f'<g class="point"><title>{escape(told)}</title>'
        f'<circle class="reach" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="11"/>'
        f'<circle class="dot" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="2.6"/></g>'
    )


def _last(place: tuple[float, float], point: CurvePoint) -> str:
    x, y = place[0], place[1] + 20
    return f'<text class="end" x="{x:.1f}" y="{y:.1f}" text-anchor="end">{point.psnr:.1f} dB</text>'
