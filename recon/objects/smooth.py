"""Votes of single Gaussians made to agree with their neighbourhood: crisp borders, none left out."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.neighbors import nearest
from gaussworld.threads import one_torch_thread

_NEIGHBOURS = 8
_ROUNDS = 3
#: [px] A Gaussian with that much weight is as sure of itself as its neighbours can make it.
_HALF_HEARD = 2.0
#: What the neighbours say counts so much beside what the pictures say.
_NEIGHBOURS_COUNT = 0.5
#: Sureness at most of Gaussians that no picture shows.
_UNSEEN = 0.25
#: Standard deviation of colour, in linear steps of RGB in [0, 1], within one surface.
_COLOR = 0.1


@one_torch_thread()
def smoothed(
    gaussians: Gaussians, weights: Float[Tensor, "n l"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The column of each Gaussian, and its sureness in [0, 1].

    A Gaussian's own shares are mixed with those of its nearest neighbours, near and like-coloured ones most,
    a few times over: label propagation (Zhou et al. 2003, "Learning with local and global consistency").

    Args:
        gaussians: in the world frame.
        weights: [px] evidence for each label; rows of zeros know nothing.
    """
    total = weights.sum(1)
    own = weights / total.clamp(min=1e-6)[:, None]
    trust = total / (total + _HALF_HEARD)
    if len(gaussians) <= _NEIGHBOURS or weights.shape[1] < 2:
        return own.argmax(1), _sureness(own, trust, own.argmax(1))
    rows, ties = _graph(gaussians)
    shares = own * trust[:, None]
    for _ in range(_ROUNDS):
        around = (shares[rows] * ties[..., None]).sum(1)
        shares = (own * trust[:, None] + _NEIGHBOURS_COUNT * around) / (1 + _NEIGHBOURS_COUNT)
    chosen = shares.argmax(1)
    chosen = _filled(gaussians, chosen, shares.amax(1) > 1e-4)
    return chosen, _sureness(own, trust, chosen)


def _graph(gaussians: Gaussians) -> tuple[Tensor, Tensor]:
    """Nearest neighbours and how much each is listened to; sums to one."""
    means, rgb = gaussians.means.detach(), gaussians.rgb.detach()
    distances, rows = nearest(means, _NEIGHBOURS)
    typical = distances.median(1, keepdim=True).values.clamp(min=1e-12)
    unlike = (rgb[rows] - rgb[:, None]).square().sum(-1) / (2 * _COLOR**2)
    ties = torch.exp(-0.5 * (distances / typical).square() - unlike) * gaussians.opacities.detach()[rows]
    return rows, ties / ties.sum(1, keepdim=True).clamp(min=1e-12)


def _filled(gaussians: Gaussians, chosen: Tensor, known: Tensor) -> Tensor:
    """What neither pictures nor neighbours know takes the label of the nearest that is known."""
    if bool(known.all()) or not bool(known.any()):
        return chosen
    _, rows = nearest(gaussians.means.detach()[known], 1, gaussians.means.detach()[~known])
    filled = chosen.clone()
    filled[~known] = chosen[known][rows[:, 0]]
    return filled


def _sureness(own: Tensor, trust: Tensor, chosen: Tensor) -> Float[Tensor, " n"]:
    share = own.gather(1, chosen[:, None])[:, 0]
    return (
        torch.where(trust > 0, share * trust.sqrt(), 0.0)
        .clamp(min=0)
        .where(trust > 0.2, share.clamp(max=_UNSEEN))
    )
