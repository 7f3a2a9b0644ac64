"""Pieces of surface that hang together, and touching things told apart at the crease between them."""

import heapq

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.hull import within_hull
from gaussworld.neighbors import nearest

_NEIGHBOURS = 10
#: Neighbours hang together up to this many times the spacing around either of them.
_STEP = 2.5
#: [spacings] side of the patches that touching things are taken apart into.
_PATCH = 3.0
#: Sine of the bend of a hollow crease, and distance of colours in Oklab: where a border begins, and is sure.
_BEND, _COLOR = (0.1, 0.3), (0.04, 0.12)
#: Distance of colours in Oklab within which neighbours are one bit of surface for certain.
_ALIKE = 0.06
#: Patches are put together while less than this share of what is between them looks like a border.
_BORDER = 0.4
#: What is thought of so many edges before any is looked at.
_DOUBT, _EDGES = 0.3, 6.0
#: A part of a piece is a thing of its own from this share of its weight on, and this many Gaussians.
_SHARE, _FEWEST = 0.03, 25
#: A crumb has at most this share of the weight of a thing that is nearer than so many spacings.
_CRUMB, _NEAR = 0.1, 5.0
#: A hollow thing's floor is so flat and so low, as shares of the thing's height, and lies within its outline.
_FLAT, _LOW, _WITHIN = 0.3, 0.4, 0.8


def hanging_together(points: Float[Tensor, "m 3"]) -> tuple[Int[Tensor, " m"], Int[Tensor, "e 2"], float]:
    """Pieces of m points, the edges that make them so, and the typical spacing [unit of points].

    The reach of an edge follows the spacing around it, so that smooth surfaces, which few large Gaussians
    make up, are not torn, and close things not joined.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if len(points) <= _NEIGHBOURS:
        return torch.zeros(len(points), dtype=torch.long), torch.zeros(0, 2, dtype=torch.long), 1.0
    distances, rows = nearest(points, _NEIGHBOURS)
    around = distances[:, : _NEIGHBOURS // 2].mean(1)
    typical = float(around.median())
    around = around.clamp(0.3 * typical, 3 * typical)
    near = distances <= _STEP * torch.minimum(around[:, None], around[rows])
    first = torch.arange(len(points))[:, None].expand_as(rows)[near]
    edges = torch.stack([first, rows[near]], 1)
    graph = coo_matrix((np.ones(len(edges), np.int8), tuple(edges.T.numpy())), shape=(len(points),) * 2)
    _, pieces = connected_components(graph, directed=False)
    return torch.from_numpy(pieces).long(), edges, typical


def taken_apart(
    pieces: Int[Tensor, " m"],
    edges: Int[Tensor, "e 2"],
    spacing: float,
    points: Float[Tensor, "m 3"],
    normals: Float[Tensor, "m 3"],
    colors: Float[Tensor, "m 3"],
    weights: Float[Tensor, " m"],
) -> Int[Tensor, " m"]:
    """Pieces cut where one thing touches another: along hollow creases at which the colour changes.

    Hollow creases are where things meet (Stein et al. 2014, "Object partitioning using local convexity");
    but things are hollow in themselves, so that colour must agree. Patches are put together in the order of
    how little the borders between them look like one, on the mean, so that no single leak joins two things.

    Args:
        pieces: as `hanging_together` found them, with its edges and spacing.
        points: on the surface [unit of the world].
        normals: outwards.
        colors: in Oklab.
        weights: how much of the pictures each makes up.
    """
    bend, unlike = _creases(edges, points, normals, colors)
    is_border = _ramp(bend, *_BEND) * _ramp(unlike, *_COLOR)
    patches = _patches(points, edges, bend, unlike, spacing)
    a, b = patches[edges[:, 0]], patches[edges[:, 1]]
    across = a != b
    low, high = torch.minimum(a, b)[across], torch.maximum(a, b)[across]
    pairs, index = torch.stack([low, high], 1).unique(dim=0, return_inverse=True)
    count = torch.zeros(len(pairs)).index_add_(0, index, torch.ones(len(index)))
    border = torch.zeros(len(pairs)).index_add_(0, index, is_border[across])
    names = torch.from_numpy(
        _agglomerated(int(patches.max()) + 1, pairs.numpy(), count.numpy(), border.numpy())
    )
    return _substantial(names[patches], pieces, weights, edges)


def with_floors(
    parts: Int[Tensor, " m"],
    places: Float[Tensor, "m 2"],
    heights: Float[Tensor, " m"],
    weights: Float[Tensor, " m"],
) -> Int[Tensor, " m"]:
    """Parts among which the floors of hollow things have gone to these: a bowl's bottom is not seen to touch
    its sides where it is dark, but a flat, low part that lies inside another's outline is part of it.

    Args:
        parts: as `taken_apart` found them.
        places: on the surface that things stand on.
        heights: above it.
        weights: how much of the pictures each makes up.
    """
    sizes = torch.zeros(int(parts.max()) + 1).index_add_(0, parts, weights)
    order = sizes.argsort(descending=True).tolist()
    spans = {number: _span(heights[parts == number]) for number in order}
    made = parts.clone()
    for rank, small in enumerate(order):
        mine = parts == small
        for large in order[:rank]:
            low, high = spans[large]
            bottom, top = spans[small]
            is_flat = top - bottom < _FLAT * (high - low) and top < low + _LOW * (high - low)
            if is_flat and float(within_hull(places[mine], places[parts == large]).float().mean()) > _WITHIN:
                made[mine] = large
                break
    return made


def with_crumbs(
    parts: Int[Tensor, " m"], points: Float[Tensor, "m 3"], weights: Float[Tensor, " m"], spacing: float
) -> Int[Tensor, " m"]:
    """Parts among which crumbs have gone to the thing right beside them: reflections and dark creases tear
    small bits off.

    Args:
        parts: pieces of things.
        points: [unit] where they are.
        weights: how much of the pictures each makes up.
        spacing: [unit] between the points of a surface.
    """
    sizes = torch.zeros(int(parts.max()) + 1).index_add_(0, parts, weights)
    made = parts.clone()
    for small in sizes.argsort().tolist():
        mine = parts == small
        large = ~mine & (sizes[parts] * _CRUMB > sizes[small])
        if not bool(mine.any()) or not bool(large.any()):
            continue
        gaps, rows = (found[:, 0] for found in nearest(points[large], 1, points[mine]))
        if float(gaps.min()) < _NEAR * spacing:
            made[mine] = parts[large][rows[gaps.argmin()]]
    # What a crumb went to may itself have been one.
    return made if torch.equal(made, parts) else with_crumbs(made, points, weights, spacing)


def _span(heights: Float[Tensor, " m"]) -> tuple[float, float]:
    """From where to where nearly all lie."""
    low, high = torch.quantile(
        heights[:: max(1, len(heights) // 50_000)], torch.tensor([0.05, 0.95])
    ).tolist()
    return low, high


def _patches(
    points: Tensor, edges: Tensor, bend: Tensor, unlike: Tensor, spacing: float
) -> Int[Tensor, " m"]:
    """Small bits of surface, each in a cube and without any sign of a border inside."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    cubes = ((points - points.amin(0)) / (_PATCH * spacing)).long()
    a, b = edges.T
    alike = (cubes[a] == cubes[b]).all(1) & (bend < _BEND[0]) & (unlike < _ALIKE)
    ones = np.ones(int(alike.sum()), np.int8)
    graph = coo_matrix((ones, tuple(edges[alike].T.numpy())), shape=(len(points),) * 2)
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def _creases(
    edges: Tensor, points: Tensor, normals: Tensor, colors: Tensor
) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
    """Sine of the bend along each edge, positive where it is hollow, and the distance of colours."""
    a, b = edges.T
    along = torch.nn.functional.normalize(points[b] - points[a], dim=1)
    # In a hollow crease each side leans towards the other.
    return ((normals[a] - normals[b]) * along).sum(1) / 2, (colors[a] - colors[b]).norm(dim=1)


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp(0, 1)


def _agglomerated(n: int, pairs: np.ndarray, count: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Names of n patches after joining neighbours, the mean of whose borders is low, lowest first."""
    ties: list[dict[int, tuple[float, float]]] = [{} for _ in range(n)]
    heap: list[tuple[float, int, int, float]] = []
    for (a, b), c, s in zip(pairs.tolist(), count.tolist(), border.tolist()):
        ties[a][b] = ties[b][a] = (c, s)
        heapq.heappush(heap, (_doubt(c, s), a, b, c))
    name = np.arange(n)
    while heap:
        doubt, a, b, c = heapq.heappop(heap)
        if doubt > _BORDER:
            break
        if ties[a].get(b, (0.0, 0.0))[0] != c or name[a] != a or name[b] != b:
            continue  # one of them has grown since
        if len(ties[a]) < len(ties[b]):
            a, b = b, a
        name[b] = a
        del ties[a][b]
        for other, (c2, s2) in ties[b].items():
            if other == a:
                continue
            c1, s1 = ties[a].get(other, (0.0, 0.0))
            ties[a][other] = ties[other][a] = (c1 + c2, s1 + s2)
            ties[other].pop(b, None)
            heapq.heappush(heap, (_doubt(c1 + c2, s1 + s2), a, other, c1 + c2))
        ties[b] = {}
    while (name != name[name]).any():
        name = name[name]
    return name


def _doubt(count: float, border: float) -> float:
    """The mean of the edges between two patches, and of some more: one edge alone proves little."""
    return (border + _DOUBT * _EDGES) / (count + _EDGES)


def _substantial(parts: Tensor, pieces: Tensor, weights: Tensor, edges: Tensor) -> Int[Tensor, " m"]:
    """Parts that are too small for a thing go to the part they have the most edges with."""
    parts = parts.unique(return_inverse=True)[1]
    whole = torch.zeros(int(pieces.max()) + 1).index_add_(0, pieces, weights)
    for _ in range(20):
        number = int(parts.max()) + 1
        weight = torch.zeros(number).index_add_(0, parts, weights)
        piece = torch.zeros(number, dtype=torch.long).scatter_(0, parts, pieces)
        small = (weight < _SHARE * whole[piece]) | (parts.bincount(minlength=number) < _FEWEST)
        a, b = parts[edges[:, 0]], parts[edges[:, 1]]
        across = (a != b) & (small[a] | small[b])
        if not bool(across.any()):
            break
        a, b = torch.cat([a[across], b[across]]), torch.cat([b[across], a[across]])
        pairs, count = torch.stack([a, b], 1)[small[a]].unique(dim=0, return_counts=True)
        # The smallest first, and each into its closest neighbour only.
        order = torch.argsort(count, stable=True)
        goal = torch.arange(number)
        goal[pairs[order, 0]] = pairs[order, 1]
        smallest = int(pairs[:, 0][weight[pairs[:, 0]].argmin()])
        parts = torch.where(parts == smallest, goal[smallest], parts).unique(return_inverse=True)[1]
    return parts
