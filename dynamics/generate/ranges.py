"""`Ranges`: from where sizes, masses, frictions and counts of an episode are drawn, shifted or not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .shift import Shift

Random = np.random.Generator
Span = tuple[float, float]
"""Lowest and highest of an even draw."""


@dataclass(frozen=True)
class Ranges:
    """What the things of one family are drawn from."""

    sizes: tuple[Span, ...]
    """[m] push_t: the longest side. push, push_many: a box's longest side, a cylinder's radius. lift: width,
    length, height. door, drawer: depth, width, height. rope: length, radius. cloth: two sides, thickness.
    soft: three sides."""
    friction: Span = (0.15, 0.7)
    """Coulomb coefficient of the things."""
    table: Span = (0.2, 0.6)
    """The same of the table."""
    density: Span | None = None
    """[kg/m^3] None: of a substance that is drawn, give or take a third."""
    damping: Span = (0.0, 0.0)
    """[N s/m] or [N m s/rad] of a joint."""
    resistance: Span = (0.0, 0.0)
    """[N] or [N m] of a joint's dry friction."""
    count: tuple[int, int] = (1, 1)
    """Fewest and most things."""


_PUSHED = Ranges(((0.05, 0.13), (0.025, 0.06)))
_DOOR = Ranges(
    ((0.16, 0.24), (0.2, 0.32), (0.16, 0.24)),
    friction=(0.25, 0.6),
    density=(350.0, 900.0),
    damping=(0.05, 0.6),
    resistance=(0.02, 0.25),
)
#: What ordinary episodes are drawn from.
ORDINARY: dict[str, Ranges] = {
    "push_t": Ranges(((0.1, 0.17),)),
    "push": _PUSHED,
    "push_many": replace(_PUSHED, count=(2, 4)),
    "lift": Ranges(((0.025, 0.06), (0.035, 0.09), (0.035, 0.1))),
    "door": _DOOR,
    "drawer": replace(
        _DOOR, sizes=(*_DOOR.sizes[:2], (0.12, 0.18)), damping=(0.5, 6.0), resistance=(0.3, 2.5)
    ),
    "rope": Ranges(((0.36, 0.5), (0.004, 0.006)), friction=(0.3, 0.5), density=(700.0, 1300.0)),
    "cloth": Ranges(
        ((0.18, 0.24), (0.18, 0.24), (0.002, 0.003)), friction=(0.4, 0.8), density=(150.0, 400.0)
    ),
    "soft": Ranges(((0.05, 0.1), (0.04, 0.065), (0.04, 0.07)), friction=(0.5, 0.9), density=(100.0, 500.0)),
}
#: Smaller and larger ones: the sizes by which a thing is larger than all others; thicknesses stay.
_SIZES: dict[str, tuple[tuple[Span, ...], ...]] = {
    "push_t": (((0.065, 0.09),), ((0.19, 0.24),)),
    "push": (((0.033, 0.045), (0.016, 0.0225)), ((0.145, 0.18), (0.067, 0.085))),
    "lift": (
        ((0.015, 0.022), (0.024, 0.032), (0.024, 0.032)),
        ((0.064, 0.076), (0.098, 0.125), (0.105, 0.13)),
    ),
    "door": (
        ((0.11, 0.145), (0.15, 0.185), (0.12, 0.145)),
        ((0.26, 0.32), (0.34, 0.4), (0.26, 0.32)),
    ),
    "drawer": (
        ((0.11, 0.145), (0.145, 0.185), (0.09, 0.11)),
        ((0.26, 0.32), (0.34, 0.4), (0.2, 0.25)),
    ),
    "rope": (((0.2, 0.3), (0.004, 0.006)), ((0.56, 0.7), (0.004, 0.006))),
    "cloth": (
        ((0.11, 0.15), (0.11, 0.15), (0.002, 0.003)),
        ((0.27, 0.32), (0.27, 0.32), (0.002, 0.003)),
    ),
    "soft": (
        ((0.03, 0.045), (0.024, 0.035), (0.024, 0.035)),
        ((0.112, 0.14), (0.07, 0.08), (0.076, 0.095)),
    ),
}
#: Proportions that no other has: a tall cabinet, a thick rope, a strip of cloth, a slab and a pillar.
_SHAPES: dict[str, tuple[tuple[Span, ...], ...]] = {
    "door": (((0.16, 0.24), (0.14, 0.18), (0.26, 0.34)),),
    "drawer": (((0.16, 0.24), (0.14, 0.18), (0.2, 0.28)),),
    "rope": (((0.36, 0.5), (0.0085, 0.012)),),
    "cloth": (((0.27, 0.34), (0.08, 0.12), (0.002, 0.003)),),
    "soft": (
        ((0.08, 0.11), (0.055, 0.075), (0.02, 0.028)),
        ((0.035, 0.045), (0.033, 0.042), (0.1, 0.125)),
    ),
}
#: Lighter and heavier ones [kg/m^3].
_DENSITIES: dict[str, tuple[Span, Span]] = {
    "thing": ((30.0, 110.0), (4000.0, 7000.0)),
    "lift": ((30.0, 110.0), (3600.0, 5000.0)),
    "door": ((90.0, 230.0), (2700.0, 5400.0)),
    "rope": ((175.0, 350.0), (3000.0, 6000.0)),
    "cloth": ((40.0, 75.0), (900.0, 1800.0)),
    "soft": ((25.0, 50.0), (1200.0, 2400.0)),
}
_SLIPPERY, _STICKY, _STICKIER = (0.05, 0.12), (0.8, 1.2), (0.95, 1.3)
#: Damping and resistance of joints: freer and stiffer ones.
_JOINTS: dict[str, tuple[tuple[Span, Span], ...]] = {
    "door": (((0.005, 0.03), (0.0, 0.01)), ((0.8, 1.5), (0.35, 0.6))),
    "drawer": (((0.05, 0.3), (0.0, 0.15)), ((8.0, 15.0), (3.5, 6.0))),
}
#: Things with their distractors; of `push_many` more than ever.
_COUNTS = {"push_t": (3, 4), "push": (3, 4), "push_many": (5, 7), "lift": (3, 4)}


def ranges_of(family: str, shift: Shift, random: Random) -> Ranges:
    """From what an episode is drawn; which way a shift goes is drawn here."""
    ways = ways_of(family, shift)
    return ways[int(random.integers(len(ways)))]


def ways_of(family: str, shift: Shift) -> tuple[Ranges, ...]:
    """All ways in which a shift changes the ranges of a family; the ordinary ones if it changes none."""
    usual = ORDINARY[family]
    like = "push" if family == "push_many" else family
    if shift == "size":
        return _with_sizes(usual, _SIZES[like])
    if shift == "shape" and like in _SHAPES:
        return _with_sizes(usual, _SHAPES[like])
    if shift == "mass":
        kind = {"push_t": "thing", "push": "thing", "drawer": "door"}.get(like, like)
        return tuple(replace(usual, density=span) for span in _DENSITIES[kind])
    if shift == "friction":
        sticky = _STICKIER if family in ("cloth", "soft") else _STICKY
        made = [replace(usual, friction=span, table=span) for span in (_SLIPPERY, sticky)]
        same = (usual.damping, usual.resistance)
        joints = _JOINTS.get(family, (same, same))
        return tuple(replace(each, damping=a, resistance=b) for each, (a, b) in zip(made, joints))
    if shift == "count":
        return (replace(usual, count=_COUNTS[family]),)
    return (usual,)


def _with_sizes(usual: Ranges, ways: Sequence[tuple[Span, ...]]) -> tuple[Ranges, ...]:
    return tuple(replace(usual, sizes=sizes) for sizes in ways)
