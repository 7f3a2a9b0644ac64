"""Where a hole's texture comes from: the like place on the same surface, its colours blended in."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .grid import distance_to, widened

#: [cells] what lies this close to a piece decides which place is like it.
_RING = 6.0
#: [cells] smaller pieces are not cut further, and no more pieces than this are looked at.
_SMALLEST, _MOST = 40, 40
#: This share of a source may be unknown: gaps are closed afterwards.
_MISSING = 0.02
#: A difference in brightness counts less than one in texture: it is blended away.
_OFFSET_WEIGHT = 0.3


@dataclass(frozen=True, eq=False)
class Patch:
    """A piece of a hole, and where to copy it from."""

    cells: Bool[Tensor, "h w"]
    shift: tuple[int, int]
    """[cells] rows and columns from the piece to its source."""
    change: Float[Tensor, "h w 3"]
    """What to add to the source's colours, at the piece's cells."""


def patches(
    picture: Float[Tensor, "h w 3"], known: Bool[Tensor, "h w"], hole: Bool[Tensor, "h w"]
) -> tuple[list[Patch], Bool[Tensor, "h w"], Float[Tensor, "h w 3"]]:
    """Pieces that cover a hole, the cells that no source was found for, and the whole picture.

    The source of a piece is the shift of the surface that looks most alike around it; pieces without one are
    halved. Colours are blended as in seamless cloning (Perez et al. 2003, "Poisson image editing").

    Args:
        picture: the surface seen from above.
        known: where it can be copied from.
        hole: what is to be filled; none of it is known.
    """
    picture, done = picture.clone(), known.clone()
    found, left = list[Patch](), torch.zeros_like(hole)
    queue, looked = [hole] if bool(hole.any()) else [], 0
    while queue:
        piece = queue.pop(0)
        ring = widened(piece, _RING) & done & ~piece
        looked += 1
        shift = _best_shift(picture, known, done, piece, ring) if looked <= _MOST else None
        if shift is None:
            halves = list(_halves(piece)) if looked < _MOST else []
            left |= piece if not halves else torch.zeros_like(piece)
            queue = halves + queue
            continue
        source = torch.roll(picture, (-shift[0], -shift[1]), (0, 1))
        change = membrane(picture - source, piece, ring)
        picture = torch.where(piece[..., None], (source + change).clamp(0, 1), picture)
        done = done | piece
        found.append(Patch(piece, shift, change))
    ring = widened(left, 3.0) & done
    picture = torch.where(left[..., None], membrane(picture, left, ring), picture)
    return found, left, picture


def _best_shift(
    picture: Tensor, known: Tensor, done: Tensor, piece: Tensor, ring: Tensor
) -> tuple[int, int] | None:
    """The whole number of rows and columns by which the ring's surroundings look most alike.

    All shifts at once, by correlation in Fourier space; outside the picture nothing is known.
    """
    needed = piece | ring
    height, width = piece.shape
    size = (2 * height, 2 * width)
    unknown = torch.ones(size)
    unknown[:height, :width] = (~known).float()
    short = _correlated(needed.float(), unknown, size)
    ring_mask = ring.float()
    count = float(ring_mask.sum())
    if count < 1:
        return None
    squares, sums = torch.zeros(size), torch.zeros(size)
    for channel in range(3):
        values = torch.where(known, picture[..., channel], 0.0)
        target = picture[..., channel] * ring_mask
        at = _correlated(ring_mask, values, size) / count
        squares += _correlated(ring_mask, values**2, size) / count
        squares += (target**2).sum() / count - 2 * _correlated(target, values, size) / count
        sums += (at - target.sum() / count) ** 2
    cost = squares - (1 - _OFFSET_WEIGHT) * sums
    cost = torch.where(short < 0.5 + _MISSING * float(needed.sum()), cost, torch.inf)
    best = int(cost.argmin())
    if not bool(torch.isfinite(cost.flatten()[best])):
        return None
    row, column = best // size[1], best % size[1]
    return (row if row < height else row - size[0], column if column < width else column - size[1])


def _correlated(mask: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """Sum over places p of mask(p) values(p + shift), for every shift."""
    return torch.fft.irfft2(torch.fft.rfft2(mask, s=size).conj() * torch.fft.rfft2(values, s=size), s=size)


def _halves(piece: Tensor) -> Iterator[Tensor]:
    """The two halves of a piece across its longer side; none if it is small."""
    rows, columns = piece.nonzero().unbind(1)
    if len(rows) < _SMALLEST:
        return
    along, places = (
        (0, rows) if int(rows.max() - rows.min()) >= int(columns.max() - columns.min()) else (1, columns)
    )
    line = torch.arange(piece.shape[along]) < int(places.median().clamp(min=int(places.min()) + 1))
    lower = line[:, None] if along == 0 else line[None, :]
    yield piece & lower
    yield piece & ~lower


def membrane(values: Tensor, piece: Tensor, ring: Tensor) -> Float[Tensor, "h w 3"]:
    """The smoothest continuation of `values` from the ring into the piece: Laplace's equation.

    The ring's values are averaged along it first, so that single grains of texture do not streak inwards.
    """
    import numpy as np
    from scipy.ndimage import gaussian_filter
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    out = torch.zeros_like(values)
    rows = piece.nonzero()
    if not len(rows) or not bool(ring.any()):
        return out
    weight = gaussian_filter(ring.numpy().astype("float64"), 2.0)
    masked = (values * ring[..., None]).numpy().astype("float64")
    smooth = (
        np.stack([gaussian_filter(masked[..., c], 2.0) for c in range(3)], -1)
        / np.maximum(weight, 1e-6)[..., None]
    )
    # A ring that touches the piece in places only leaves the other borders free.
    border = (ring & (distance_to(piece) <= 1.5)).numpy()
    number = np.full(piece.shape, -1)
    number[piece.numpy()] = np.arange(len(rows))
    diagonal, right = np.full(len(rows), 1e-9), np.zeros((len(rows), 3))
    right += 1e-9 * smooth[ring.numpy()].mean(0)
    i_list, j_list = [], []
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        at = rows.numpy() + np.array(step)
        valid = ((at >= 0) & (at < np.array(piece.shape))).all(1)
        here, at = np.arange(len(rows))[valid], at[valid]
        other, fixed = number[at[:, 0], at[:, 1]], border[at[:, 0], at[:, 1]]
        inner = other >= 0
        diagonal[here[inner | fixed]] += 1
        i_list.append(here[inner])
        j_list.append(other[inner])
        right[here[fixed]] += smooth[at[fixed, 0], at[fixed, 1]]
    i, j = np.concatenate(i_list), np.concatenate(j_list)
    n = len(rows)
    matrix = coo_matrix((-np.ones(len(i)), (i, j)), (n, n)).tocsc()
    matrix.setdiag(diagonal)
    solved = spsolve(matrix, right).reshape(n, 3)
    out[rows[:, 0], rows[:, 1]] = torch.from_numpy(solved).to(values)
    return out
