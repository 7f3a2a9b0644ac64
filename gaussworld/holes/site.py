"""Where a thing touches a surface, and that surface laid flat: what is hole, trace, and fit to be copied."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import LOCKED, Gaussians
from ..neighbors import nearest
from ..pose import multiply_quats, quats_from_rotation, rotation_from_quats
from ..selection import spacing
from ..selection.masks import drawn
from .chart import Chart, chart_of
from .grid import Grid, closed, connected_to, distance_to, widened

#: How many thicknesses below the surface its lower layers reach.
_LAYERS = 3.0
#: Coverage seen from straight above at which a cell is part of the surface.
_COVERED = 0.6


@dataclass(frozen=True)
class HoleSettings:
    """What counts as the hole; lengths are in parts of the size of what stood there."""

    reach: float = 0.35
    """How far around it the surface is looked for."""
    contact: float = 0.25
    """Up to which height over the surface a thing hides it."""
    lid: float = 0.12
    """Up to which height over the surface a thing's rim is looked for."""
    margin: float = 0.04
    """How much further than the thing the hole reaches at least."""
    fringe: float = 0.8
    """How far from it traces are taken away: its shadow, and its colours in the surface."""
    traces: float = 3.0
    """Robust deviations from the surface around at which a colour is such a trace."""
    window: float = 1.6
    """How far around the hole a like place is looked for."""


def outline_points(gaussians: Gaussians) -> Float[Tensor, "m 3"]:
    """Middles and ends of the longer axes of Gaussians that can be seen: where a thing is."""
    seen = gaussians.select(drawn(gaussians) & (gaussians.opacities > 0.2))
    axes = rotation_from_quats(seen.quats) * seen.scales[:, None, :]
    order = seen.log_scales.argsort(dim=1, descending=True)[:, None, :2].expand(-1, 3, 2)
    ends = axes.gather(2, order).transpose(1, 2)
    middle = seen.means[:, None]
    return torch.cat([middle, middle + ends, middle - ends], dim=1).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Contact:
    """A surface under a thing, as a chart."""

    chart: Chart
    over: Float[Tensor, "m 3"]
    """Points of the thing in the chart."""
    low: Float[Tensor, "l 3"]
    """Those that hide the surface."""
    size: float
    """[m, or the world's unit] diagonal of the thing's bounding box."""
    step: float
    """[m, or the world's unit] spacing of the surface's Gaussians."""

    @property
    def wide(self) -> float:
        """[m, or the world's unit] diagonal of what is hidden."""
        return float((self.low[:, :2].amax(0) - self.low[:, :2].amin(0)).norm())

    def grid(self, margin: float) -> Grid:
        """Cells over what is hidden, and a margin in parts of it."""
        return Grid.around(self.low[:, :2], margin * self.wide + 4 * self.step, self.step / 2)

    def foot(self, grid: Grid) -> Bool[Tensor, "h w"]:
        """The cells that the thing hides."""
        return closed(grid.marked(self.low[:, :2]), max(2.0, 0.2 * self.wide / grid.cell))


def contact_of(
    surface: Gaussians,
    above: Float[Tensor, "m 3"],
    one_sided: bool,
    s: HoleSettings,
    generator: torch.Generator,
) -> Contact | None:
    """The surface that something stands on, or that a region of space crosses; None where there is none."""
    if not len(above) or not len(surface):
        return None
    size = float((above.amax(0) - above.amin(0)).norm())
    near = drawn(surface) & (surface.opacities > 0.05)
    if not size > 0 or not bool(near.any()):
        return None
    thin = above[:: max(1, len(above) // 5000)]
    near[near.clone()] = nearest(thin, 1, surface.means[near])[0][:, 0] < s.reach * size
    if int(near.sum()) < 12:
        return None
    step = min(spacing(surface.means[near]), 0.1 * size)
    thickness = max(step, 0.02 * size)
    chart = chart_of(surface.means[near], surface.opacities[near], above, thickness, generator, one_sided)
    if chart is None:
        return None
    over = chart.flat(above)
    hides = over[:, 2] < s.contact * size if one_sided else over[:, 2].abs() < thickness
    return Contact(chart, over, over[hides], size, step) if bool(hides.any()) else None


@dataclass(frozen=True, eq=False)
class Site:
    """The surface around a hole, laid flat."""

    surface: Gaussians
    chart: Chart
    flat: Float[Tensor, "n 3"]
    """Its Gaussians in the chart."""
    grid: Grid
    hole: Bool[Tensor, "h w"]
    known: Bool[Tensor, "h w"]
    """Where it can be copied from."""
    picture: Float[Tensor, "h w 3"]
    usable: Bool[Tensor, " n"]
    """Rows of the surface that may be copied."""
    gone: Bool[Tensor, " n"]
    """Rows that are to go."""


def site_of(
    surface: Gaussians, contact: Contact, others: Float[Tensor, "k 3"], one_sided: bool, s: HoleSettings
) -> Site:
    """The hole that a thing leaves, with its traces, and the surface beside it."""
    chart, size = contact.chart, contact.size
    there = drawn(surface) & (surface.opacities > 0.05)
    flat, grid = chart.flat(surface.means), contact.grid(s.window)
    hole = widened(contact.foot(grid), max(1.0, s.margin * size / grid.cell))
    # Surfaces are often made of several thin layers; the lower ones belong to what is seen.
    slack = chart.thickness + surface.scales.amin(1)
    in_band = there & (flat[:, 2] < slack) & (flat[:, 2] > -_LAYERS * slack)
    level, shaded = flattened(surface, chart), _under(others, chart, grid, s.contact * size)
    if one_sided and s.fringe > 0:
        picture, cover = grid.picture(level.select(in_band & ~grid.within(hole, flat[:, :2])))
        reach = s.fringe * contact.wide / grid.cell
        hole = _with_traces(hole, picture, (cover > _COVERED) & ~shaded, reach, s.traces)
    usable = in_band & ~grid.within(hole, flat[:, :2])
    picture, cover = grid.picture(level.select(usable))
    known = (cover > _COVERED) & ~hole & ~shaded
    gone = _in_the_way(there, flat, grid, hole, contact) & ((surface.flags & LOCKED) == 0)
    return Site(surface, chart, flat, grid, hole, known, picture, usable, gone)


def flattened(surface: Gaussians, chart: Chart) -> Gaussians:
    """Gaussians in the chart; a gentle bend turns them little."""
    turn = quats_from_rotation(chart.chart_from_world[:3, :3])
    quats = multiply_quats(turn.expand_as(surface.quats), surface.quats)
    return replace(surface, means=chart.flat(surface.means), quats=quats)


def _under(others: Tensor, chart: Chart, grid: Grid, height: float) -> Bool[Tensor, "h w"]:
    """Cells that other things stand on."""
    if not len(others):
        return torch.zeros(grid.height, grid.width, dtype=torch.bool)
    flat = chart.flat(others)
    low = (flat[:, 2] > -chart.thickness) & (flat[:, 2] < height)
    return widened(grid.marked(flat[low][:, :2]), 3.0)


def _with_traces(hole: Tensor, picture: Tensor, clean: Tensor, reach: float, deviations: float) -> Tensor:
    """The hole with all that hangs together with it and has another colour than the surface farther out."""
    away = distance_to(hole)
    outer = picture[clean & (away > reach)]
    if len(outer) < 30:
        return hole
    middle = outer.median(0).values
    spread = 1.4826 * (outer - middle).abs().median(0).values
    odd = ((picture - middle).abs() > deviations * spread + 0.04).any(-1) & clean
    traces = connected_to(odd & (away <= reach), widened(hole, 1.5)) & (away <= reach)
    # A dark line of the surface's own that touches the hole is no trace of the thing: thin parts stay.
    broad = widened(~widened(~traces, 2.0), 2.0)
    # The soft rim of a shadow is too faint to be odd.
    return closed(hole | widened(broad, 2.0) & (away > 0), 1.5)


def _in_the_way(
    there: Tensor, flat: Tensor, grid: Grid, hole: Tensor, contact: Contact
) -> Bool[Tensor, " n"]:
    """Rows of the surface in the hole, and those inside the thing itself."""
    over, thickness = contact.over, contact.chart.thickness
    inside = grid.within(hole, flat[:, :2]) & (flat[:, 2] > -_LAYERS * thickness) & (flat[:, 2] <= thickness)
    silhouette = widened(grid.marked(over[:, :2]), 1.5)
    top = float(over[:: max(1, len(over) // 10**6), 2].quantile(0.98))
    within = grid.within(silhouette | hole, flat[:, :2])
    return there & (inside | (within & (flat[:, 2] > thickness) & (flat[:, 2] < top)))
