"""Selections that grow or shrink by a distance."""

from jaxtyping import Bool
from torch import Tensor

from ..gaussians import Gaussians
from ..threads import one_torch_thread
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
    found = mask & selectable(gaussians)
    if not bool(found.any()):
        return found
    if index is None or index.cells.distance != distance or index.count != len(gaussians):
        index = Neighborhood.of(gaussians, distance)
    reached = _reached(index.cells, found.cpu()[index.cells.rows])
    found = found.clone()
    found[index.cells.rows[reached].to(found.device)] = True
    return found


@one_torch_thread()
def shrink(
    gaussians: Gaussians, mask: Bool[Tensor, " n"], distance: float, index: Neighborhood | None = None
) -> Bool[Tensor, " n"]:
    """The selection without all that is within `distance` of something selectable that is not selected.

    Arguments and errors as for `grow`.
    """
    check_mask(gaussians, mask)
    free = selectable(gaussians)
    return mask & free & ~grow(gaussians, free & ~mask, distance, index)


def _reached(cells: Cells, inside: Bool[Tensor, " m"]) -> Bool[Tensor, " m"]:
    """Sorted points within the distance of those inside."""
    full = cells.any(inside)
    reached = full[cells.owners]
    others, chosen = cells.cubes(~full), cells.cubes(full)
    for mine, theirs in others.beside(chosen):
        for _, a, b in others.point_pairs(chosen, mine, theirs):
            new = inside[b] & ~reached[a]
            a, b = a[new], b[new]
            reached[a[others.within(chosen, a, b)]] = True
    return reached
