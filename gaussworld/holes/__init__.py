"""Holes that things leave in what they stood on: found, cleared of their traces, and filled from around.

What lies under an object was never seen. Before it moves, or after it went, the surface there is made whole:
copied from the place on the same surface that looks most alike around, colours blended in.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import LOCKED, Gaussians, cat
from ..pose import invert_pose, multiply_quats, quats_from_rotation
from ..selection.masks import drawn
from ..sh import rgb_from_sh0, sh0_from_rgb
from ..threads import one_torch_thread
from .chart import Chart
from .grid import Grid, closed, nearest_of, widened
from .patch import Patch, membrane, patches
from .site import HoleSettings, Site, contact_of, flattened, outline_points, site_of

__all__ = ["Filling", "HoleSettings", "close_underside", "fill_hole", "outline_points"]

#: How sure the id of a Gaussian is that nobody saw.
_GUESSED = 64
#: [cells] half the widest gap between neighbouring Gaussians of a thing.
_GAP = 3.0


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

    Its colours and heights go smoothly from what is known along the rim to the middle.

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
    flat, grid = contact.chart.flat(thing.means), contact.grid(0.1)
    # Nothing that reaches below what it stands on was ever seen.
    gone = (flat[:, 2] < -contact.chart.thickness / 2) & ((thing.flags & LOCKED) == 0)
    index = grid.index(flat[:, :2])
    low = drawn(thing) & (thing.opacities > 0.2) & ~gone & (index >= 0) & (flat[:, 2] < s.lid * contact.size)
    if not bool(low.any()):
        return Filling(gone, thing.select(slice(0, 0)))
    rgb, height, rows = _lowest(thing.rgb[low], flat[low, 2], index[low], grid)
    # Between neighbouring Gaussians nothing is open.
    known = ~widened(~widened(rows, _GAP), _GAP)
    # The outline is that of whole Gaussians; a lid must not stick out.
    foot = ~widened(~closed(known, 0.2 * contact.wide / grid.cell), 1.5)
    bare = foot & ~known
    if not bool(bare.any()):
        return Filling(gone, thing.select(slice(0, 0)))
    rim = widened(bare, 2 * _GAP) & known
    colors = membrane(rgb, bare, rim)
    rise = membrane(height[..., None].expand(-1, -1, 3), bare, rim)[..., 0].clamp(min=0.0) + grid.cell / 2
    return Filling(gone, _guessed(_sheet(contact.chart, grid, bare, colors, rise, grid.cell / 2)))


def _lowest(rgb: Tensor, z: Tensor, index: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Colour and height of the lowest Gaussian in each cell or nearest to it, and which cells have one."""
    # Of several values for one place the last one stays.
    order = z.argsort(descending=True, stable=True)
    place = index[order].numpy()
    colors, height = np.zeros((grid.height * grid.width, 3), "f4"), np.zeros(grid.height * grid.width, "f4")
    colors[place], height[place] = rgb[order].numpy(), z[order].numpy()
    known = torch.zeros(len(height), dtype=torch.bool)
    known[index] = True
    shape = (grid.height, grid.width)
    at = nearest_of(known.reshape(shape)).flatten()
    colors, height = colors[at], height[at]
    lowest = torch.from_numpy(colors).reshape(*shape, 3), torch.from_numpy(height).reshape(shape)
    return *lowest, known.reshape(shape)


def _guessed(made: Gaussians) -> Gaussians:
    sure = torch.full_like(made.id_confidences, _GUESSED)
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
