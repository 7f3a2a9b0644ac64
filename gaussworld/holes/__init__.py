"""Holes that things leave in what they stood on: found, cleared of their traces, and filled from around.

What lies under an object was never seen. Before it moves, or after it went, the surface there is made whole:
copied from the place on the same surface that looks most alike around, colours blended in.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import LOCKED, Gaussians, cat
from ..neighbors import nearest
from ..pose import invert_pose, multiply_quats, quats_from_rotation
from ..selection.masks import drawn
from ..sh import rgb_from_sh0, sh0_from_rgb
from ..threads import one_torch_thread
from .chart import Chart
from .grid import Grid, closed, widened
from .patch import Patch, patches
from .site import Contact, HoleSettings, Site, contact_of, flattened, outline_points, site_of

__all__ = ["GUESSED", "Filling", "HoleSettings", "close_underside", "fill_hole", "outline_points"]

#: How sure the id of a Gaussian is that nobody saw.
GUESSED = 64
#: [cells] half the widest gap between neighbouring Gaussians of a thing.
_GAP = 3.0
#: So many Gaussians near a place say what colour a thing has below it.
_ALIKE = 24


@dataclass(frozen=True, eq=False)
class Filling:
    """What to change of a surface's Gaussians."""

    gone: Bool[Tensor, " n"]
    """Rows that were in the hole, or in the way."""
    new: Gaussians
    """What takes their place, in the same frame."""


@one_torch_thread()
def fill_hole(
    surface: Gaussians,
    above: Float[Tensor, "m 3"],
    others: Float[Tensor, "k 3"],
    generator: torch.Generator,
    *,
    one_sided: bool = True,
    settings: HoleSettings | None = None,
) -> Filling | None:
    """Fill the hole that something leaves in a surface.

    Args:
        surface: Gaussians of what it stands on, in the world frame.
        above: points of what stands there.
        others: points of other things, under which the surface cannot be copied.
        generator: chooses the samples that the surface is found by.
        one_sided: the thing stands on the surface; False for a mere region of space that the surface crosses.
        settings: what counts as the hole.

    Returns:
        None where there is no surface to fill.
    """
    s = settings or HoleSettings()
    surface = surface.detach()
    contact = contact_of(surface, above, one_sided, s, generator)
    if contact is None:
        return None
    site = site_of(surface, contact, others, one_sided, s)
    pieces, left, colors = patches(site.picture, site.known, site.hole)
    new = [part for piece in pieces if len(part := _copied(site, piece))]
    bare = _bare(site, new) | left
    if bool(bare.any()):
        new.append(_plain(site, bare, colors))
    return Filling(site.gone, _guessed(cat(new))) if new else None


@one_torch_thread()
def close_underside(
    thing: Gaussians,
    surface: Gaussians,
    generator: torch.Generator,
    settings: HoleSettings | None = None,
) -> Filling | None:
    """A lid for the side of a thing that nobody saw, because it stands on it; what lies below it goes.

    It has the colours of what is near.

    Args:
        thing: Gaussians of what may tip over, in the world frame.
        surface: of what it stands on.
        generator: chooses the samples that the surface is found by.
        settings: how the surface is found.

    Returns:
        None where there is no surface below.
    """
    s = settings or HoleSettings()
    thing, above = thing.detach(), outline_points(thing.detach())
    contact = contact_of(surface.detach(), above, True, s, generator)
    if contact is None:
        return None
    chart, grid = contact.chart, contact.grid(0.1)
    free, z = (thing.flags & LOCKED) == 0, chart.flat(thing.means)[:, 2]
    # Nothing that reaches below what it stands on was ever seen.
    below = (z < -chart.thickness / 2) & free
    through = _reaches_through(thing, chart) & ~below & free & drawn(thing)
    above = _squeezed(thing.select(through), chart)
    solid = cat([thing.select(~through & ~below), above])
    lid = _lid(solid.select(drawn(solid) & (solid.opacities > 0.2)), contact, grid, s.lid * contact.size)
    return Filling(below | through, cat([above, _guessed(lid)]))


def _lid(solid: Gaussians, contact: Contact, grid: Grid, reach: float) -> Gaussians:
    """A sheet over what the rim of a thing surrounds, in the colours of what is near."""
    flat = contact.chart.flat(solid.means)
    low = (grid.index(flat[:, :2]) >= 0) & (flat[:, 2] < reach)
    foot = closed(grid.marked(flat[low][:, :2]), max(_GAP, 0.2 * contact.wide / grid.cell))
    # A lid must not stick out.
    foot = ~widened(~foot, 1.0)
    if int(low.sum()) < _ALIKE or not bool(foot.any()):
        return solid.select(slice(0, 0))
    xy = grid.centers(foot)
    sides = torch.cat([flat[low][:, :2], torch.zeros(int(low.sum()), 1)], dim=1)
    rows = nearest(sides, _ALIKE, torch.cat([xy, torch.zeros(len(xy), 1)], dim=1))[1]
    colors, rise = torch.zeros(*foot.shape, 3), torch.zeros(foot.shape)
    # The median of many: single Gaussians at the edge are dark with the surface's shadow.
    colors[foot] = solid.rgb[low][rows].median(1).values
    rise[foot] = flat[low, 2][rows].clamp(min=0).quantile(0.1, dim=1)
    return _sheet(contact.chart, grid, foot, colors, rise, grid.cell / 4)


def _reaches_through(thing: Gaussians, chart: Chart) -> Bool[Tensor, " n"]:
    """Gaussians whose two deviations reach below the surface."""
    z, deviation = _heights(thing, chart)
    return z - 2 * deviation < -chart.thickness / 4


def _heights(thing: Gaussians, chart: Chart) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """How high above the surface centres are, and deviations along its normal."""
    up = chart.chart_from_world[2, :3]
    return chart.flat(thing.means)[:, 2], (thing.covariances @ up @ up).clamp(min=1e-20).sqrt()


def _squeezed(thing: Gaussians, chart: Chart) -> Gaussians:
    """Gaussians that reach through the surface, squeezed into the part above it.

    The map that squeezes heights is linear, so that a Gaussian stays one: its covariance becomes S C S^T.
    """
    if not len(thing):
        return thing
    up = chart.chart_from_world[2, :3]
    z, deviation = _heights(thing, chart)
    high = (z + 2 * deviation).clamp(min=chart.thickness / 10)
    share = (high / (4 * deviation)).clamp(max=1.0)
    # S = 1 + (share - 1) up up^T acts along the normal only.
    squeeze = torch.eye(3) + (share - 1)[:, None, None] * torch.outer(up, up)
    values, axes = torch.linalg.eigh(squeeze @ thing.covariances @ squeeze.transpose(1, 2))
    axes[:, :, 0] *= torch.linalg.det(axes).sign()[:, None]
    return replace(
        thing,
        means=thing.means + (high / 2 - z)[:, None] * up,
        quats=quats_from_rotation(axes),
        log_scales=values.clamp(min=1e-14).log() / 2,
    )


def _guessed(made: Gaussians) -> Gaussians:
    sure = torch.full_like(made.id_confidences, GUESSED)
    return replace(made, id_confidences=sure, flags=torch.zeros_like(made.flags))


def _copied(site: Site, piece: Patch) -> Gaussians:
    """The Gaussians of a piece's source, carried over."""
    grid = site.grid
    shift = torch.tensor([piece.shift[1], piece.shift[0]]) * grid.cell
    rows = (site.usable & grid.within(piece.cells, site.flat[:, :2] - shift)).nonzero()[:, 0]
    source, flat = site.surface.select(rows), site.flat[rows]
    xy = flat[:, :2] - shift
    means = site.chart.raised(torch.cat([xy, flat[:, 2:]], dim=1))
    turn = quats_from_rotation(site.chart.turns(flat[:, :2], xy))
    change = piece.change.reshape(-1, 3)[grid.index(xy)]
    # Colours outside [0, 1] would show where the surface's own spherical harmonics bring them back.
    rgb = (rgb_from_sh0(source.sh[:, 0]) + change).clamp(0, 1)
    sh = torch.cat([sh0_from_rgb(rgb)[:, None], source.sh[:, 1:]], dim=1)
    return replace(source, means=means, quats=multiply_quats(turn, source.quats), sh=sh)


def _bare(site: Site, new: list[Gaussians]) -> Bool[Tensor, "h w"]:
    """Cells of the hole that are not covered yet."""
    parts = [flattened(part, site.chart) for part in (site.surface.select(site.usable), *new)]
    return site.hole & (site.grid.picture(cat(parts))[1] < 0.8)


def _plain(site: Site, bare: Tensor, colors: Tensor) -> Gaussians:
    """A flat Gaussian in the middle of every bare cell: nearest in kind to what is around."""
    thin = site.grid.cell / 2
    if bool(site.usable.any()):
        thin = min(thin, float(site.surface.scales[site.usable].amin(1).median()))
    return _sheet(site.chart, site.grid, bare, colors, torch.zeros(bare.shape), thin)


def _sheet(
    chart: Chart, grid: Grid, cells: Tensor, colors: Tensor, heights: Tensor, thickness: float
) -> Gaussians:
    xy = grid.centers(cells)
    means = chart.raised(torch.cat([xy, heights[cells][:, None]], dim=1))
    turn = quats_from_rotation(invert_pose(chart.chart_from_world)[:3, :3])
    scales = torch.tensor([0.7 * grid.cell, 0.7 * grid.cell, thickness])
    n = len(xy)
    opacities = torch.full((n,), 0.9)
    return Gaussians.from_activated(
        means, turn.expand(n, 4), scales.expand(n, 3), opacities, colors[cells].clamp(0, 1)
    )
