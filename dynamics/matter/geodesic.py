"""Points spread over a cloud, and how far apart they are along it rather than through the air."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.neighbors import nearest

#: Neighbours in the graph of a cloud; a link longer than so many times the median one is a short cut.
_LINKS, _LONGEST = 8, 1.8


def farthest_points(
    points: Float[Tensor, "n 3"], count: int, first: Int[Tensor, " f"] | None = None
) -> Int[Tensor, " c"]:
    """Rows of points each of which is the farthest from all before it; fewer where points coincide.

    Gonzalez 1985, "Clustering to minimize the maximum intercluster distance".

    Args:
        points: to choose from.
        count: how many rows, at most.
        first: rows that are chosen already; they come first. Default: the point farthest from the middle.
    """
    points = points.detach()
    if first is None:
        first = (points - points.mean(0)).square().sum(1).argmax()[None]
    chosen = first.tolist()[:count]
    gap = torch.full((len(points),), torch.inf).to(points)
    for row in chosen:
        gap = torch.minimum(gap, (points - points[row]).square().sum(1))
    least = 1e-12 * float((points.amax(0) - points.amin(0)).square().sum())
    while len(chosen) < min(count, len(points)):
        row = int(gap.argmax())
        if not float(gap[row]) > least:
            break
        chosen.append(row)
        gap = torch.minimum(gap, (points - points[row]).square().sum(1))
    return torch.tensor(chosen, dtype=torch.int64)


class Web:
    """A graph over a cloud: each point with its nearest ones, without short cuts, all in one piece."""

    def __init__(self, points: Float[Tensor, "n 3"]) -> None:
        from scipy.sparse import coo_matrix

        self.points = points.detach().double()
        pairs, lengths = _links(self.points)
        joined = _bridges(self.points, pairs)
        if len(joined):
            gaps = (self.points[joined[:, 0]] - self.points[joined[:, 1]]).norm(dim=1)
            pairs, lengths = torch.cat([pairs, joined]), torch.cat([lengths, gaps])
        size = (len(points), len(points))
        # Coinciding points are neighbours too, and a stored zero would be no link.
        weights = lengths.clamp(min=1e-9).numpy()
        self._graph = coo_matrix((weights, (pairs[:, 0].numpy(), pairs[:, 1].numpy())), size).tocsr()

    def distances(self, rows: Int[Tensor, " s"], limit: float = float("inf")) -> Float[Tensor, "s n"]:
        """[m] along the graph from each of some points to all; infinite beyond the limit."""
        from scipy.sparse.csgraph import dijkstra

        found = dijkstra(self._graph, directed=False, indices=rows.numpy(), limit=limit)
        return torch.from_numpy(np.atleast_2d(found))

    def ends(self) -> tuple[int, Float[Tensor, " n"]]:
        """A point at one end of the cloud, and how far all are from it: two sweeps find the diameter."""
        start = self.distances(torch.zeros(1, dtype=torch.int64))[0]
        end = int(start.argmax())
        return end, self.distances(torch.tensor([end]))[0]

    def neighbors(self, rows: Int[Tensor, " s"], k: int) -> Int[Tensor, "e 2"]:
        """Pairs (of places in `rows`, smaller first) of points that are among each other's k nearest."""
        count = len(rows)
        if count < 2:
            return torch.zeros(0, 2, dtype=torch.int64)
        apart = self.distances(rows)[:, rows]
        apart.fill_diagonal_(torch.inf)
        near = apart.topk(min(k, count - 1), dim=1, largest=False).indices
        here = torch.arange(count)[:, None].expand_as(near)
        return unique_pairs(torch.stack([here, near], -1).reshape(-1, 2))


def unique_pairs(pairs: Int[Tensor, "e 2"]) -> Int[Tensor, "d 2"]:
    """Each pair once, the smaller row first, in order."""
    return torch.unique(pairs.sort(dim=1).values, dim=0)


def _links(points: Tensor) -> tuple[Tensor, Tensor]:
    k = min(_LINKS, len(points) - 1)
    if k < 1:
        return torch.zeros(0, 2, dtype=torch.int64), points.new_zeros(0)
    gaps, rows = nearest(points, k)
    here = torch.arange(len(points))[:, None].expand_as(rows)
    # Of each point the two nearest stay, or those in sparse regions would hang in the air.
    near = gaps <= _LONGEST * gaps[:, : (k + 1) // 2].median()
    near[:, :2] = True
    pairs = unique_pairs(torch.stack([here, rows], -1)[near])
    return pairs, (points[pairs[:, 0]] - points[pairs[:, 1]]).norm(dim=1)


def _bridges(points: Tensor, pairs: Tensor) -> Tensor:
    """The shortest links that make one piece of several: Boruvka's way to a spanning tree."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    found: list[Tensor] = []
    while True:
        links = torch.cat([pairs, *found]).numpy()
        graph = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), (len(points), len(points)))
        count, labels = connected_components(graph, directed=False)
        if count == 1:
            return torch.cat(found) if found else pairs.new_zeros(0, 2)
        part = torch.from_numpy(labels.astype(np.int64))
        # The largest piece need not ask: all others do.
        largest = int(part.bincount().argmax())
        steps = [_shortest(points, part == number) for number in range(count) if number != largest]
        found.append(unique_pairs(torch.stack(steps)))


def _shortest(points: Tensor, inside: Tensor) -> Tensor:
    here, there = inside.nonzero()[:, 0], (~inside).nonzero()[:, 0]
    gaps, rows = nearest(points[there], 1, points[here])
    best = int(gaps[:, 0].argmin())
    return torch.stack([here[best], there[rows[best, 0]]])
