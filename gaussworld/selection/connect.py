"""What hangs together: connected parts, and the flood that starts at a selection."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..gaussians import Gaussians
from ..threads import one_torch_thread
from . import compiled
from .cells import Cells
from .color import like_color
from .masks import BLOCK, check_mask, selectable

#: Default distance of a step, in units of `spacing`: a surface strewn at random stays in one piece.
STEP = 3.0
#: Half of the 26 cubes around a cube; the other half is reached from the other side.
_HALF = [(x, y, z) for x in (0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)]
#: Points whose neighbours tell the spacing, and the part of them whose neighbour is that near.
_SAMPLE, _QUANTILE = 1000, 0.75
_TABLE_SIZE = 1 << 21


@dataclass(frozen=True, eq=False)
class Neighborhood:
    """Where the selectable Gaussians of one revision are: build it once, and floods answer at once.

    It is valid for the Gaussians it was built from, flags included.
    """

    cells: Cells
    """Of the selectable rows."""
    count: int
    """Rows of the Gaussians, selectable or not."""

    @classmethod
    @one_torch_thread()
    def of(cls, gaussians: Gaussians, distance: float | None = None) -> "Neighborhood":
        """Index all that may be selected, for steps of `distance`; default: 3 times `spacing`.

        Raises:
            ValueError: the distance is not positive and finite.
        """
        points, free = gaussians.means.detach().cpu(), selectable(gaussians).cpu()
        if bool(free.all()):
            cells = Cells.of(points, STEP * spacing(points) if distance is None else distance)
            return cls(cells, len(gaussians))
        rows = free.nonzero()[:, 0]
        points = points.index_select(0, rows)
        cells = Cells.of(points, STEP * spacing(points) if distance is None else distance)
        return cls(replace(cells, rows=rows[cells.rows]), len(gaussians))

    @cached_property
    @one_torch_thread()
    def parts(self) -> Int[Tensor, " c"]:
        """The connected part that each cube of `cells` belongs to."""
        return connected_cubes(self.cells)


@one_torch_thread()
def components(
    gaussians: Gaussians, distance: float | None = None, index: Neighborhood | None = None
) -> Int[Tensor, " n"]:
    """The connected part of each Gaussian, largest part first; -1 for those that cannot be selected.

    Two Gaussians are in one part if a chain of selectable Gaussians leads from one centre to the other by
    steps of at most `distance` (single linkage; DBSCAN of Ester et al. 1996 without noise).

    Args:
        gaussians: in the world frame.
        distance: [unit of the world] longest step; default: that of the index, or 3 times `spacing`.
        index: saves the sorting, and for its own distance the search too.

    Raises:
        ValueError: the distance is not positive and finite, or the index is of other Gaussians.
    """
    index = _index(gaussians, distance, index)
    return _numbered(index.cells, index.parts, len(gaussians)).to(gaussians.device)


@one_torch_thread()
def connected(
    gaussians: Gaussians,
    seeds: Bool[Tensor, " n"],
    distance: float | None = None,
    color_tolerance: float | None = None,
    index: Neighborhood | None = None,
) -> Bool[Tensor, " n"]:
    """The parts that the seeds belong to: a flood from the seeds by steps of at most `distance`.

    With a tolerance it runs only through Gaussians whose colour is at most that far, in Oklab, from the mean
    colour of the seeds; see `like_color`. Arguments and errors otherwise as for `components`.
    """
    check_mask(gaussians, seeds)
    index = _index(gaussians, distance, index)
    cells, starts = index.cells, seeds.cpu().index_select(0, index.cells.rows)
    if not bool(starts.any()):
        return torch.zeros_like(seeds)
    if color_tolerance is not None:
        color = gaussians.rgb.detach()[cells.rows[starts].to(seeds.device)].mean(dim=0)
        alike = like_color(gaussians, color, color_tolerance).cpu()[cells.rows] | starts
        if "parts" in vars(index):
            # What the plain flood does not reach, this one does not either.
            alike &= _same(index.parts, cells.any(starts))[cells.owners]
        cells, starts = cells.only(alike), starts[alike]
    if color_tolerance is None and ("parts" in vars(index) or compiled.usable(cells.points)):
        reached = _same(index.parts, cells.any(starts))
    else:
        reached = _flooded(cells, cells.any(starts))
    found = torch.zeros(len(gaussians), dtype=torch.bool)
    found[cells.rows] = reached.repeat_interleave(cells.counts, output_size=len(cells.rows))
    return found.to(seeds.device)


def _same(parts: Int[Tensor, " c"], chosen: Bool[Tensor, " c"]) -> Bool[Tensor, " c"]:
    """Cubes in the same part as a chosen one."""
    held = torch.zeros(len(parts), dtype=torch.bool)
    held[parts[chosen]] = True
    return held.index_select(0, parts)


def _flooded(cells: Cells, wet: Bool[Tensor, " c"]) -> Bool[Tensor, " c"]:
    """Cubes that a flood from the wet ones reaches; only what is beside the water is looked at closely."""
    if compiled.usable(cells.points):
        return _same(connected_cubes(cells), wet)
    if not len(cells):
        return wet
    labels = _join(len(cells), _rough_edges(cells))
    reached = torch.zeros(len(cells), dtype=torch.bool)
    fresh = labels[wet]
    while len(fresh):
        reached[fresh] = True
        is_fresh = torch.zeros(len(cells), dtype=torch.bool)
        is_fresh[fresh] = True
        dry, water = (~reached[labels]).nonzero()[:, 0], is_fresh[labels]
        met = torch.zeros(len(cells), dtype=torch.bool)
        outside, inside = cells.cubes(dry), cells.cubes(water)
        for outer, inner in outside.beside(inside):
            names = labels[dry[outer]]
            still = (~met[names]).nonzero()[:, 0]
            outer, inner, names = outer[still], inner[still], names[still]
            for pair, a, b in outside.point_pairs(inside, outer, inner):
                met[names[pair[outside.within(inside, a, b)]]] = True
        fresh = met.nonzero()[:, 0]
    return reached[labels]


@one_torch_thread()
def spacing(points: Float[Tensor, "m 3"]) -> float:
    """[unit of points] typical distance to the nearest neighbour: the upper quartile of a sample.

    Points at the same place do not count as neighbours; 1 where no two places are known.
    """
    points = points.detach().cpu()
    every = max(len(points) // _SAMPLE, 1)
    sample = points[::every].double()
    low, high = np.quantile(sample.numpy(), [0.1, 0.9], axis=0) if len(points) > 1 else (np.zeros(3),) * 2
    widest = float((sample.amax(0) - sample.amin(0)).max()) if len(points) else 0.0
    distance = float((high - low).max()) / math.sqrt(max(len(points), 1)) or widest
    while distance > 0:
        nearest = _sample_distances(Cells.of(points, distance), every)
        typical = float(nearest.quantile(_QUANTILE, interpolation="lower"))
        if typical < math.inf or distance > 2 * widest:
            return typical if typical < math.inf else 1.0
        distance *= 2
    return 1.0


def _sample_distances(cells: Cells, every: int) -> Float[Tensor, " s"]:
    """Distance to the nearest other place of every so many-th point; infinity where none is in reach."""
    chosen = cells.only(torch.arange(len(cells.points)) % every == 0)
    squared = torch.full((len(chosen.points),), math.inf, dtype=torch.float64)
    for mine, theirs in chosen.pairs_with(cells):
        for _, a, b in chosen.point_pairs(cells, mine, theirs):
            apart = (chosen.points[a].double() - cells.points[b].double()).square_().sum(-1)
            apart[(apart == 0) | (apart > cells.distance**2)] = math.inf
            squared.scatter_reduce_(0, a, apart, "amin")
    return squared.sqrt()


def connected_cubes(cells: Cells) -> Int[Tensor, " c"]:
    """The connected part of each cube, numbered in the order of their first cubes.

    One point of each cube stands for it at first, which joins nearly all that belongs together. What is left,
    the cubes outside the largest part, is then compared with all around it, point by point.
    """
    if len(cells) < 2:
        return torch.zeros(len(cells), dtype=torch.long)
    if compiled.usable(cells.points):
        return compiled.connected_parts(cells.raw)
    labels = _join(len(cells), _rough_edges(cells))
    outside = labels != labels.bincount().argmax()
    others, mine_labels = cells.only(outside[cells.owners]), labels[outside]
    edges: list[Tensor] = []
    for mine, theirs in others.pairs_with(cells):
        apart = mine_labels[mine] != labels[theirs]
        mine, theirs = mine[apart], theirs[apart]
        for pair, a, b in others.point_pairs(cells, mine, theirs):
            met = pair[others.within(cells, a, b)]
            edges.append(torch.stack([mine_labels[mine[met]], labels[theirs[met]]]))
    if not edges:
        return labels
    return _join(len(cells), torch.cat(edges, dim=1))[labels]


def _rough_edges(cells: Cells) -> Int[Tensor, "2 e"]:
    """Neighbouring cubes whose first points are near: most of the pairs that touch, and none that do not."""
    table = torch.zeros(_TABLE_SIZE, dtype=torch.int32)
    numbers = torch.arange(len(cells), dtype=torch.int32)
    table[cells.keys & (_TABLE_SIZE - 1)] = numbers
    firsts = cells.points[cells.starts]
    # Rounding may deny an edge, which the close look afterwards finds, but must not make one.
    limit = cells.distance**2 * (1 - 1e-5)
    edges = [torch.zeros(2, 0, dtype=torch.int32)]
    for block in torch.arange(len(cells)).split(BLOCK):
        keys, places = cells.keys[block], firsts[block]
        for x, y, z in _HALF:
            wanted = keys + (x * cells.steps[0] + y * cells.steps[1] + z)
            found = table.index_select(0, wanted & (_TABLE_SIZE - 1))
            there = (cells.keys.index_select(0, found) == wanted).nonzero()[:, 0]
            found = found.index_select(0, there)
            apart = firsts.index_select(0, found) - places.index_select(0, there)
            near = (apart.square_().sum(dim=1) <= limit).nonzero()[:, 0]
            found, there = found.index_select(0, near), there.index_select(0, near)
            edges.append(torch.stack([block[0].int() + there.int(), found]))
    return torch.cat(edges, dim=1)


def _join(count: int, edges: Int[Tensor, "2 e"]) -> Int[Tensor, " v"]:
    """Connected components of a graph of `count` vertices."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not count:
        return torch.zeros(0, dtype=torch.long)
    ones = np.ones(edges.shape[1], dtype=np.int8)
    graph = coo_matrix((ones, tuple(edges.int().numpy())), shape=(count, count))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def _numbered(cells: Cells, parts: Tensor, n: int) -> Int[Tensor, " n"]:
    """Labels of all rows, parts in order of size, then of their first row; -1 outside the cells."""
    count = int(parts.max()) + 1 if len(parts) else 0
    sizes = torch.zeros(count, dtype=torch.long).index_add_(0, parts, cells.counts)
    # The rows of a cube ascend.
    firsts = torch.full((count,), n).scatter_reduce_(0, parts, cells.rows[cells.starts], "amin")
    order = np.lexsort((firsts.numpy(), -sizes.numpy()))
    rank = torch.empty(count, dtype=torch.long)
    rank[torch.from_numpy(order)] = torch.arange(count)
    labels = torch.full((n,), -1)
    labels[cells.rows] = rank[parts].repeat_interleave(cells.counts, output_size=len(cells.points))
    return labels


def _index(gaussians: Gaussians, distance: float | None, index: Neighborhood | None) -> Neighborhood:
    if index is not None and index.count != len(gaussians):
        raise ValueError(f"expected an index of these {len(gaussians)} Gaussians, got one of {index.count}")
    if index is not None and distance in (None, index.cells.distance):
        return index
    return Neighborhood.of(gaussians, distance)
