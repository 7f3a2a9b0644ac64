"""Distances between sets of points and between turns: Chamfer, earth mover's, angles without double cover."""

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.neighbors import nearest
from gaussworld.pose import invert_quats, multiply_quats, normalize_quats

#: Points that are paired at most: the assignment takes the cube of their number.
MOST_PAIRED = 256


def chamfer(a: Float[Tensor, "m 3"], b: Float[Tensor, "n 3"]) -> float:
    """[m] mean distance to the nearest of the others, averaged over both directions.

    Not squared, and halved: two sets that are apart by d everywhere have a distance of d.
    """
    there, back = nearest(b, 1, a)[0], nearest(a, 1, b)[0]
    return float(there.mean() + back.mean()) / 2


def earth_movers(a: Float[Tensor, "n 3"], b: Float[Tensor, "n 3"]) -> float:
    """[m] mean distance of the one-to-one pairing that makes it least (Rubner et al. 2000), exact.

    Of more than 256 points every so many-th counts, the same rows of both.

    Raises:
        ValueError: the sets are of different sizes.
    """
    from scipy.optimize import linear_sum_assignment

    if len(a) != len(b) or not len(a):
        raise ValueError(f"expected as many points in both sets, and some, got {len(a)} and {len(b)}")
    rows = torch.linspace(0, len(a) - 1, min(len(a), MOST_PAIRED)).round().long()
    apart = torch.cdist(a[rows].double(), b[rows].double(), compute_mode="donot_use_mm_for_euclid_dist")
    left, right = linear_sum_assignment(apart.numpy())
    return float(apart[torch.from_numpy(left), torch.from_numpy(right)].mean())


def angle_between(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b"]:
    """[rad] 0 to pi, by which one turn must be turned to become the other; q and -q are the same turn."""
    apart = multiply_quats(invert_quats(normalize_quats(a.double())), normalize_quats(b.double()))
    return 2 * torch.atan2(apart[..., 1:].norm(dim=-1), apart[..., 0].abs())
