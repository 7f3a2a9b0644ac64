"""Selections that grow or shrink by a distance."""

import torch
from jaxtyping import Bool
from torch import Tensor

from ..gaussians import Gaussians
from ..threads import one_torch_thread
from . import compiled
from .cells import Cells
from .connect import Neighborhood
from .masks import check_mask, selectable


@one_torch_thread()
def grow(
    gaussians: Gaussians, mask: Bool[Tensor, " n"], distance: float, index: Neighborhood | None = None
) -> Bool[Tensor, " n"]:
    """The selection and all whose centre is within `distance` [unit of the world] of a selected centre.

    Args:
        gaussians: in the world frame.
        mask: the selection; rows that cannot be selected do not count.
        distance: how far it grows.
        index: saves the sorting where it was built for the same distance.

    Raises:
        ValueError: the distance is not positive and finite, or lengths differ.
    """
    check_mask(gaussians, mask)
    inside = mask & selectable(gaussians)
    return inside | _near(gaussians, inside, distance, index)


@one_torch_thread()
def shrink(
    gaussians: Gaussians, mask: Bool[Tensor, " n"], distance: float, index: Neighborhood | None = None
) -> Bool[Tensor, " n"]:
    """The selection without all that is within `distance` of something selectable that is not selected.

    Arguments and errors as for `grow`.
    """
    check_mask(gaussians, mask)
    free = selectable(gaussians)
    return mask & free & ~_near(gaussians, free & ~mask, distance, index)


def _near(
    gaussians: Gaussians, inside: Bool[Tensor, " n"], distance: float, index: Neighborhood | None
) -> Bool[Tensor, " n"]:
    """Selectable rows within the distance of those inside, which are selectable too."""
    if not bool(inside.any()):
        return inside
    if index is None or index.cells.distance != distance or index.count != len(gaussians):
        index = Neighborhood.of(gaussians, distance)
    cells, found = index.cells, torch.zeros(len(inside), dtype=torch.bool)
    found[cells.rows] = _reached(cells, inside.cpu().index_select(0, cells.rows))
    return found.to(inside.device)


def _reached(cells: Cells, inside: Bool[Tensor, " m"]) -> Bool[Tensor, " m"]:
    """Sorted points within the distance of those inside, all of their cubes included."""
    if compiled.usable(cells.points):
        return compiled.reached(cells.raw, inside)
    full = cells.any(inside)
    reached = full[cells.owners]
    others, chosen = cells.cubes(~full), cells.cubes(full)
    for mine, theirs in others.beside(chosen):
        for _, a, b in others.point_pairs(chosen, mine, theirs):
            new = inside[b] & ~reached[a]
            a, b = a[new], b[new]
            reached[a[others.within(chosen, a, b)]] = True
    return reached
