"""Gaussians that float in empty space, or that nobody would miss: faint, absurdly large, alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .camera import Camera
from .gaussians import Gaussians
from .neighbors import nearest
from .render import render
from .selection import components, selectable, spacing
from .selection.masks import drawn

#: A normal distribution's deviation is so many times its median absolute one.
_DEVIATION = 1.4826
#: What is within this share of the distance of a surface may belong to it.
_NEAR = 0.02
#: Fewer cameras do not tell where something is; [px] longer side of what is drawn for them.
_FEWEST_VIEWS, _LONGEST = 3, 480


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
    ahead: float = 0.9
    """Isolated Gaussians go that hang in front of the others for this share of the cameras; above 1 none."""
    views: int = 16
    """How many cameras are asked, at most."""


def floaters(
    gaussians: Gaussians, settings: FloaterSettings | None = None, cameras: Sequence[Camera] = ()
) -> Bool[Tensor, " n"]:
    """Rows worth deleting: nearly transparent, absurdly large, isolated and in a small part, or in mid-air.

    Isolation is an outlier of the mean distance to some neighbours (Rusu et al. 2008, statistical outlier
    removal), but of its ratio to the Gaussian's own size, taken as a logarithm: where a scene is sparse its
    Gaussians are large and touch, and belong. Rows that cannot be selected are never marked; locked ones
    count as neighbours, hidden ones do not.

    Args:
        gaussians: in the world frame.
        settings: bounds; the defaults leave what a trained scene shows unchanged.
        cameras: those that saw the scene: what hangs in front of the surfaces for nearly all of them, and is
            not what they look at, is in mid-air.
    """
    s = settings or FloaterSettings()
    sizes = gaussians.scales.detach().amax(dim=1)
    there = drawn(gaussians)
    rows = there.nonzero()[:, 0]
    found = gaussians.opacities.detach() < s.faintest
    if len(rows):
        found |= sizes > s.largest * extent(gaussians.means.detach()[rows])
    if len(rows) > s.neighbors and math.isfinite(s.outlier):
        shown = gaussians.detach().select(rows)
        far = _gaps(shown, sizes[rows], s) > s.outlier
        found[rows] |= _in_small_parts(shown, far, s) | _in_mid_air(
            shown, far, ~far & ~found[rows], cameras, s
        )
    return found & selectable(gaussians)


def extent(points: Float[Tensor, "m 3"]) -> float:
    """[unit of points] diagonal of the box that holds the middle 90 % of the points along each axis."""
    sorted_axes = torch.sort(points, dim=0).values
    cut = int(0.05 * (len(points) - 1))
    return float((sorted_axes[len(points) - 1 - cut] - sorted_axes[cut]).norm())


def _gaps(gaussians: Gaussians, sizes: Tensor, s: FloaterSettings) -> Float[Tensor, " m"]:
    """Robust deviations from the median of how far neighbours are in units of a Gaussian's own size."""
    gaps = nearest(gaussians.means, s.neighbors)[0].mean(dim=1)
    ratio = (gaps.clamp(min=1e-30) / sizes.clamp(min=1e-30)).log()
    middle = ratio.median()
    return (ratio - middle) / (_DEVIATION * (ratio - middle).abs().median()).clamp(min=1e-12)


def _in_small_parts(gaussians: Gaussians, far: Tensor, s: FloaterSettings) -> Bool[Tensor, " m"]:
    # Locked Gaussians connect too, so flags are left aside.
    free = replace(gaussians, flags=torch.zeros_like(gaussians.flags))
    parts = components(free, s.step * spacing(gaussians.means))
    return far & (parts.bincount()[parts] < s.part)


@torch.no_grad()
def _in_mid_air(
    gaussians: Gaussians, suspects: Tensor, solid: Tensor, cameras: Sequence[Camera], s: FloaterSettings
) -> Bool[Tensor, " m"]:
    """Suspects that hang in front of the surface that solid ones make up.

    A suspect that is part of a surface lies on what its neighbours draw; one in mid-air is ahead of it, from
    wherever one looks.
    """
    if not bool(suspects.any()) or not bool(solid.any()) or not cameras or s.ahead > 1:
        return torch.zeros_like(suspects)
    some, rest = gaussians.select(suspects), gaussians.select(solid)
    reach = 2 * some.scales.amax(dim=1)
    seen, ahead = torch.zeros(len(some)), torch.zeros(len(some))
    for camera in _spread(cameras, s.views):
        small = _small(camera)
        drawn_rest = render(rest, small, colors=torch.zeros_like(rest.means), outputs=("depth",))
        assert drawn_rest.depth is not None
        depth = torch.where(drawn_rest.alpha > 0.5, drawn_rest.depth, 0.0)
        pixels, z = small.project(some.means)
        x, y = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < small.width) & (y < small.height)
        behind = torch.zeros(len(some))
        behind[inside] = depth[y[inside], x[inside]]
        known = inside & (behind > 0)
        seen += known
        ahead += known & (z + reach < behind * (1 - _NEAR))
    found = torch.zeros_like(suspects)
    found[suspects] = (seen >= _FEWEST_VIEWS) & (ahead >= s.ahead * seen)
    return found


def _small(camera: Camera) -> Camera:
    scale = min(1.0, _LONGEST / max(camera.width, camera.height))
    return camera.rescaled(max(8, round(camera.width * scale)), max(8, round(camera.height * scale)))


def _spread(cameras: Sequence[Camera], most: int) -> list[Camera]:
    return [cameras[i * len(cameras) // most] for i in range(most)] if len(cameras) > most else list(cameras)
