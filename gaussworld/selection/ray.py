"""What a ray meets first: picking one Gaussian, and with it an object and a point of the world."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..gaussians import LOCKED, Gaussians
from ..pose import rotation_from_quats
from ..threads import one_torch_thread
from ..world_object import Vector
from .masks import BLOCK, drawn, vector_of

#: Where so much light is left, the ray has met a surface.
SOLID = 0.5
#: The rasterizer's bounds: fainter than this is not drawn, and that is so many deviations from any centre.
_FAINTEST, _WIDEST = 1 / 255, 3.33
_MAX_ALPHA = 0.999


@dataclass(frozen=True, eq=False)
class Hit:
    """What a ray met."""

    row: int
    object_id: int
    depth: float
    """[unit of the world] from the ray's origin to the point."""
    point: Float[Tensor, "3"]
    """In the world frame, on the ray."""


@one_torch_thread()
def pick(
    gaussians: Gaussians, origin: Float[Tensor, "3"] | Vector, direction: Float[Tensor, "3"] | Vector
) -> Hit | None:
    """The Gaussian seen where the ray points; None if the ray passes through, or ends at a locked one.

    Every Gaussian counts with its largest response along the ray, opacity * exp(-D^2 / 2) with D the smallest
    Mahalanobis distance of the ray to its centre, at the place of that response (Wu et al. 2024, 3DGUT,
    eq. 11). Ordered by that place, the surface is where transmittance falls under one half; of the
    Gaussians whose response peaks within one deviation of it, the one with the largest weight is picked.

    Args:
        gaussians: in the world frame.
        origin: [unit of the world] where the ray begins; what lies behind is not met.
        direction: of any length but zero.

    Raises:
        ValueError: the direction is zero, or not finite.
    """
    origin = vector_of(origin, gaussians.means, "origin")
    direction = vector_of(direction, gaussians.means, "direction")
    length = direction.norm()
    if not bool(length > 0) or not bool(torch.isfinite(length) & torch.isfinite(origin).all()):
        got = f"{origin.tolist()} and {direction.tolist()}"
        raise ValueError(f"expected a finite origin and a direction other than zero, got {got}")
    direction = direction / length
    rows = _near_ray(gaussians, origin, direction)
    depths, deviations, alphas = responses(gaussians.select(rows), origin, direction)
    kept = (alphas >= _FAINTEST) & (depths > 0)
    # Ties in depth go by row, so that the answer does not hang on the sort.
    order = kept.nonzero()[:, 0]
    order = order[torch.sort(depths[order], stable=True).indices]
    left = (1 - alphas[order]).cumprod(dim=0)
    solid = (left < SOLID).nonzero()[:, 0]
    if not len(solid):
        return None
    depth = depths[order[solid[0]]]
    weights = alphas[order] * torch.cat([left.new_ones(1), left[:-1]])
    here = (depths[order] - depth).abs() <= deviations[order]
    row = int(rows[order[torch.where(here, weights, -1).argmax()]])
    if int(gaussians.flags[row]) & LOCKED:
        return None
    return Hit(row, int(gaussians.object_ids[row]), float(depth), origin + depth * direction)


def responses(
    gaussians: Gaussians, origin: Float[Tensor, "3"], direction: Float[Tensor, "3"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Where responses along a ray of unit direction peak, their deviation there [as means], their height.

    With o and d in the frame where the Gaussian is the unit ball's, the peak is at -o.d / d.d, the deviation
    1 / |d|, and D = |o x d| / |d|.
    """
    frame = rotation_from_quats(gaussians.quats.detach()) / gaussians.scales.detach()[:, None, :]
    start = torch.einsum("nij,ni->nj", frame, origin - gaussians.means.detach())
    heading = torch.einsum("nij,i->nj", frame, direction)
    square = heading.square().sum(dim=1)
    across = torch.linalg.cross(start, heading).square().sum(dim=1) / square
    alphas = (gaussians.opacities.detach() * (-0.5 * across).exp()).clamp(max=_MAX_ALPHA)
    return -(start * heading).sum(dim=1) / square, square.rsqrt(), alphas


def _near_ray(gaussians: Gaussians, origin: Tensor, direction: Tensor) -> Int[Tensor, " m"]:
    """Drawn rows whose ball of 3.33 deviations meets the ray: a cheap bound."""
    near: list[Tensor] = []
    means, log_scales = gaussians.means.detach(), gaussians.log_scales.detach()
    for center, log_scale in zip(means.split(BLOCK), log_scales.split(BLOCK)):
        x, y, z = (center - origin).unbind(dim=1)
        along = x * direction[0] + y * direction[1] + z * direction[2]
        off = (x * x + y * y + z * z).addcmul_(along, along, value=-1.0)
        a, b, c = log_scale.unbind(dim=1)
        reach = torch.maximum(torch.maximum(a, b), c).exp_().mul_(_WIDEST)
        # Cancellation in `off` is at most a few roundings of the squared distance.
        slack = along.abs().mul_(1e-3)
        near.append((off <= (reach + slack).square_()) & (along + reach > 0))
    rows = torch.cat(near) if near else torch.zeros(0, dtype=torch.bool, device=means.device)
    return (rows & drawn(gaussians)).nonzero()[:, 0]
