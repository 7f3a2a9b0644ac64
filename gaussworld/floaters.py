"""Gaussians that float in empty space, or that nobody would miss: faint, absurdly large, alone."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .gaussians import Gaussians
from .neighbors import nearest
from .selection import components, selectable, spacing
from .selection.masks import drawn

#: A normal distribution's deviation is so many times its median absolute one.
_DEVIATION = 1.4826


@dataclass(frozen=True)
class FloaterSettings:
    """What counts as a floater; an infinite or zero bound switches its rule off."""

    faintest: float = 0.01
    """Gaussians of lower opacity go, range [0, 1]."""
    largest: float = 0.3
    """Gaussians whose largest deviation is above this part of the scene's extent go; see `extent`."""
    outlier: float = 2.0
    """Robust deviations above the median at which the gap to the neighbours makes a Gaussian isolated."""
    neighbors: int = 8
    """How many neighbours tell the gap."""
    part: int = 20
    """Isolated Gaussians go only if fewer than this hang together."""
    step: float = 4.0
    """Longest step from Gaussian to Gaussian of what hangs together, in units of `selection.spacing`."""


def floaters(gaussians: Gaussians, settings: FloaterSettings | None = None) -> Bool[Tensor, " n"]:
    """Rows worth deleting: nearly transparent, absurdly large, or isolated and in a small part.

    Isolation is an outlier of the mean distance to some neighbours (Rusu et al. 2008, statistical outlier
    removal), but of its ratio to the Gaussian's own size, taken as a logarithm: where a scene is sparse its
    Gaussians are large and touch, and belong. Rows that cannot be selected are never marked; locked ones
    count as neighbours, hidden ones do not.

    Args:
        gaussians: in the world frame.
        settings: bounds; the defaults leave what a trained scene shows unchanged.
    """
    s = settings or FloaterSettings()
    sizes = gaussians.scales.detach().amax(dim=1)
    there = drawn(gaussians)
    rows = there.nonzero()[:, 0]
    found = gaussians.opacities.detach() < s.faintest
    if len(rows):
        found |= sizes > s.largest * extent(gaussians.means.detach()[rows])
    if len(rows) > s.neighbors and math.isfinite(s.outlier):
        found[rows] |= _isolated(gaussians.detach().select(rows), sizes[rows], s)
    return found & selectable(gaussians)


def extent(points: Float[Tensor, "m 3"]) -> float:
    """[unit of points] diagonal of the box that holds the middle 90 % of the points along each axis."""
    sorted_axes = torch.sort(points, dim=0).values
    cut = int(0.05 * (len(points) - 1))
    return float((sorted_axes[len(points) - 1 - cut] - sorted_axes[cut]).norm())


def _isolated(gaussians: Gaussians, sizes: Tensor, s: FloaterSettings) -> Bool[Tensor, " m"]:
    gaps = nearest(gaussians.means, s.neighbors)[0].mean(dim=1)
    ratio = (gaps.clamp(min=1e-30) / sizes.clamp(min=1e-30)).log()
    middle = ratio.median()
    spread = _DEVIATION * (ratio - middle).abs().median()
    far = ratio > middle + s.outlier * spread
    # Locked Gaussians connect too, so flags are left aside.
    free = replace(gaussians, flags=torch.zeros_like(gaussians.flags))
    parts = components(free, s.step * spacing(gaussians.means))
    return far & (parts.bincount()[parts] < s.part)
