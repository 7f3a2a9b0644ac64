"""Which Gaussians may be selected at all, and how a new selection joins the old one."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import DELETED, HIDDEN, LOCKED, Gaussians

#: Rows worked on together, so that what is computed from them stays in the cache.
BLOCK = 1 << 15

How = Literal["replace", "add", "remove", "intersect"]


def selectable(gaussians: Gaussians) -> Bool[Tensor, " n"]:
    """Rows that are neither deleted, hidden nor locked and lie at a finite place; no tool selects others."""
    return ((gaussians.flags & (DELETED | HIDDEN | LOCKED)) == 0) & _finite(gaussians)


def drawn(gaussians: Gaussians) -> Bool[Tensor, " n"]:
    """Rows that are neither deleted nor hidden: what stands in the way, locked or not."""
    return ((gaussians.flags & (DELETED | HIDDEN)) == 0) & _finite(gaussians)


def invert(gaussians: Gaussians, mask: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """All that may be selected and is not."""
    return selectable(gaussians) & ~mask


def combined(old: Bool[Tensor, " n"], new: Bool[Tensor, " n"], how: How) -> Bool[Tensor, " n"]:
    """The selection after a tool found `new`.

    Raises:
        ValueError: the masks differ in length, or there is no such way to combine.
    """
    if len(old) != len(new):
        raise ValueError(f"expected two masks of equal length, got {len(old)} and {len(new)} rows")
    if how == "replace":
        return new.clone()
    if how == "add":
        return old | new
    if how == "remove":
        return old & ~new
    if how == "intersect":
        return old & new
    raise ValueError(f"expected how = replace, add, remove or intersect, got {how!r}")


def check_mask(gaussians: Gaussians, mask: Tensor) -> None:
    """Refuse a mask of another length.

    Raises:
        ValueError: not one row per Gaussian.
    """
    if len(mask) != len(gaussians):
        raise ValueError(f"expected a mask of {len(gaussians)} rows, got {len(mask)}")


def _finite(gaussians: Gaussians) -> Tensor:
    # A sum is finite where all parts are (or where they overflow, which is nowhere either): one pass.
    x, y, z = gaussians.means.detach().unbind(dim=1)
    total = (x + y).add_(z)
    # No other number taken from itself is nothing: two passes, where torch.isfinite takes four.
    return total.sub_(total) == 0


def vector_of(values: Tensor | Sequence[float], like: Tensor, name: str) -> Float[Tensor, "3"]:
    """Three numbers, given as a tensor or plainly.

    Raises:
        ValueError: not three.
    """
    vector = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    if vector.shape != (3,):
        raise ValueError(f"{name}: expected 3 numbers, got shape {tuple(vector.shape)}")
    return vector
