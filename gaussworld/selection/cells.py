"""Points sorted into small cubes: the index behind flood, grow and shrink, exact at any distance."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from . import compiled

#: Cubes up to this many steps away can hold a point within the distance: two sides are 1.15 distances.
REACH = 2
#: Steps to the columns of cubes (x, y) within reach.
COLUMNS = [(x, y) for x in range(-REACH, REACH + 1) for y in range(-REACH, REACH + 1)]
#: Entries of the hashed set of cubes; a power of two, so that wrapping keeps neighbours neighbours.
_HASH_SIZE = 1 << 22
#: So many cubes are looked up at once without asking first which lie near the others.
_FEW = 10_000
#: Pairs of points looked at together.
_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class Cells:
    """m points, sorted by cube; two points of one cube are always within `distance` of each other."""

    distance: float
    points: Float[Tensor, "m 3"]
    """[unit of the world] sorted by cube."""
    rows: Int[Tensor, " m"]
    """The row that each sorted point had before."""
    keys: Int[Tensor, " c"]
    """Ascending numbers of the c cubes: `(x, y, z)` times `(*steps, 1)`."""
    starts: Int[Tensor, " c"]
    """First sorted point of each cube."""
    counts: Int[Tensor, " c"]
    """Points in each cube."""
    steps: tuple[int, int]
    """What one step along x and along y adds to a key; one along z adds 1."""

    @classmethod
    def of(cls, points: Float[Tensor, "m 3"], distance: float) -> "Cells":
        """Sort finite points on the CPU into cubes of side `distance` / sqrt(3).

        Raises:
            ValueError: the distance is not positive and finite.
        """
        if not 0 < distance < math.inf:
            raise ValueError(f"expected a positive finite distance, got {distance}")
        side = distance / math.sqrt(3) * (1 - 1e-9)
        made = compiled.sorted_cubes(points, side) if compiled.usable(points) else None
        if made is not None:
            return cls(distance, *made)
        keys, steps = _keys(points, side)
        keys, rows = _sorted(keys)
        return cls(distance, points.index_select(0, rows), rows, *_runs(keys), steps)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def owners(self) -> Int[Tensor, " m"]:
        """The cube of each sorted point; only where no cubes were left out."""
        return torch.arange(len(self)).repeat_interleave(self.counts, output_size=len(self.points))

    @property
    def raw(self) -> compiled.Cubes:
        """For the kernels, while these cells live."""
        parts = self.points, self.keys, self.starts, self.counts
        return compiled.Cubes.of(*parts, self.steps, self.distance)

    def only(self, kept: Bool[Tensor, " m"]) -> "Cells":
        """The same grid with some of the sorted points left out; nothing is sorted again."""
        rows = kept.nonzero()[:, 0]
        cubes = _runs(self.keys[self.owners[rows]])
        return Cells(self.distance, self.points[rows], self.rows[rows], *cubes, self.steps)

    def cubes(self, kept: Bool[Tensor, " c"] | Int[Tensor, " k"]) -> "Cells":
        """The same points seen through some of the cubes only."""
        keys, starts, counts = self.keys[kept], self.starts[kept], self.counts[kept]
        return Cells(self.distance, self.points, self.rows, keys, starts, counts, self.steps)

    def any(self, marked: Bool[Tensor, " m"]) -> Bool[Tensor, " c"]:
        """Cubes in which a marked sorted point lies."""
        found = torch.zeros(len(self), dtype=torch.bool)
        rows = marked.nonzero()[:, 0]
        # The last cube that begins at a point or before; for few there is no need to know those of all.
        few = len(rows) < _FEW
        found[torch.searchsorted(self.starts, rows, right=True) - 1 if few else self.owners[rows]] = True
        return found

    def around(self, other: "Cells") -> Bool[Tensor, " c"]:
        """Cubes that may have a cube of `other`, of the same grid, within reach; a few others come along."""
        marked = torch.zeros(_HASH_SIZE, dtype=torch.uint8)
        marked[other.keys & (_HASH_SIZE - 1)] = 1
        for step in (1, self.steps[1], self.steps[0]):
            near = marked.clone()
            for shift in (*range(-REACH, 0), *range(1, REACH + 1)):
                turn = shift * step % _HASH_SIZE
                near[turn:] |= marked[: _HASH_SIZE - turn]
                near[:turn] |= marked[_HASH_SIZE - turn :]
            marked = near
        return marked[self.keys & (_HASH_SIZE - 1)].bool()

    def beside(self, other: "Cells") -> Iterator[tuple[Int[Tensor, " p"], Int[Tensor, " p"]]]:
        """`pairs_with`, found from the side with less work."""
        if len(other) < _FEW:
            for theirs, mine in other.pairs_with(self):
                yield mine, theirs
            return
        near = self.around(other).nonzero()[:, 0]
        for mine, theirs in self.cubes(near).pairs_with(other):
            yield near[mine], theirs

    def pairs_with(self, other: "Cells") -> Iterator[tuple[Int[Tensor, " p"], Int[Tensor, " p"]]]:
        """All (cube, cube of `other`) within reach of each other, itself included, in batches."""
        last = len(other) - 1
        for x, y in COLUMNS if last >= 0 else []:
            low = self.keys + (x * self.steps[0] + y * self.steps[1] - REACH)
            at = _first_not_below(other.keys, low)
            mine = torch.arange(len(self))
            for _ in range(2 * REACH + 1):
                # Keys ascend: what is beyond the column now stays beyond it.
                hit = ((at <= last) & (other.keys[at.clamp(max=last)] <= low + 2 * REACH)).nonzero()[:, 0]
                mine, at, low = mine[hit], at[hit], low[hit]
                if not len(mine):
                    break
                yield mine, at
                at = at + 1

    def within(self, other: "Cells", a: Int[Tensor, " p"], b: Int[Tensor, " p"]) -> Bool[Tensor, " p"]:
        """Pairs of sorted points that are within the distance, in double precision."""
        apart = self.points.index_select(0, a).double() - other.points.index_select(0, b).double()
        x, y, z = apart.square_().unbind(dim=1)
        return x + y + z <= self.distance * self.distance

    def point_pairs(
        self, other: "Cells", mine: Int[Tensor, " p"], theirs: Int[Tensor, " p"]
    ) -> Iterator[tuple[Int[Tensor, " q"], Int[Tensor, " q"], Int[Tensor, " q"]]]:
        """Every point of one cube with every point of the other: number of the pair of cubes, and points."""
        wide = other.counts[theirs]
        totals = self.counts[mine] * wide
        ends = totals.cumsum(0)
        begin = 0
        while begin < len(mine):
            done = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(torch.searchsorted(ends, done + _BLOCK, right=True)))
            part = slice(begin, end)
            pair = torch.arange(begin, end).repeat_interleave(totals[part])
            inside = torch.arange(len(pair)) - (ends - totals)[pair] + done
            a, b = inside // wide[pair], inside % wide[pair]
            yield pair, self.starts[mine[pair]] + a, other.starts[theirs[pair]] + b
            begin = end


def _keys(points: Tensor, side: float) -> tuple[Tensor, tuple[int, int]]:
    """The number of each point's cube, and what a step along x and y adds to it."""
    if not len(points):
        return torch.zeros(0, dtype=torch.long), (1, 1)
    low = points.amin(dim=0)
    # Double precision and one axis at a time: what must be exact, with little memory to move.
    cubes = [points[:, i].double().sub_(low[i]).mul_(1 / side) for i in range(3)]
    spans = [float(axis.amax()) + 2 + 2 * REACH for axis in cubes]
    if math.prod(spans) < 1 << 62:
        axes = [axis.long() for axis in cubes]
    else:
        axes = [_without_gaps(axis.floor()) for axis in cubes]
        spans = [float(axis.amax()) + 1 + 2 * REACH for axis in axes]
    steps = int(spans[1]) * int(spans[2]), int(spans[2])
    return axes[0].mul_(steps[0]).add_(axes[1].mul_(steps[1])).add_(axes[2]), steps


def _without_gaps(axis: Tensor) -> Tensor:
    """Coordinates of cubes with wide empty stretches shortened: a far outlier must not use up the numbers."""
    values, inverse = axis.unique(return_inverse=True)
    return torch.cat([values.new_zeros(1), values.diff().clamp(max=REACH + 1)]).cumsum(0)[inverse].long()


def _sorted(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Keys in ascending order and the row of each."""
    bits = max(len(keys) - 1, 1).bit_length()
    if not len(keys) or int(keys.max()) >= 1 << (63 - bits):
        return torch.sort(keys, stable=True)
    # Numpy sorts 500,000 numbers in 4 ms, a third of torch's time, when key and row are one number.
    packed = torch.from_numpy(np.sort(((keys << bits) | torch.arange(len(keys))).numpy()))
    return packed >> bits, packed & ((1 << bits) - 1)


def _runs(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The different values of sorted keys, where each begins, and how often it is there."""
    first = torch.ones(len(keys), dtype=torch.bool)
    torch.ne(keys[1:], keys[:-1], out=first[1:])
    starts = first.nonzero()[:, 0]
    counts = torch.empty_like(starts)
    torch.sub(starts[1:], starts[:-1], out=counts[:-1])
    counts[-1:] = len(keys) - starts[-1:]
    return keys[starts], starts, counts


def _first_not_below(keys: Tensor, values: Tensor) -> Tensor:
    # Numpy's search uses that the values ascend too: 2 ms instead of 3 for 100,000 among as many.
    return torch.from_numpy(np.searchsorted(keys.numpy(), values.numpy()))
