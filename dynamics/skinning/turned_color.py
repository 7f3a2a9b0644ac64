"""Spherical harmonics turned by another rotation in each row, band by band."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import rotation_from_quats
from gaussworld.sh import degree_of, sh_basis

#: Directions among which those of a band are chosen; rows turned at once.
_CANDIDATES, _BLOCK = 400, 1 << 15


def turn_colors(sh: Float[Tensor, "n k 3"], turns: Float[Tensor, "n 4"]) -> Float[Tensor, "n k 3"]:
    """The appearance of Gaussians each of which was turned; exact, and differentiable towards the turns.

    A rotation maps each band to itself: band l is known by its values in 2l + 1 directions (Sloan 2008,
    "Stupid spherical harmonics tricks"), and f'(d) = f(R^T d).
    """
    degree = degree_of(sh.shape[1])
    if degree == 0:
        return sh
    blocks = zip(sh.split(_BLOCK), turns.split(_BLOCK))
    return torch.cat([_turned(colors, rotation_from_quats(quats), degree) for colors, quats in blocks])


def _turned(sh: Tensor, rotations: Tensor, degree: int) -> Tensor:
    found = [sh[:, :1]]
    for band in range(1, degree + 1):
        rows = slice(band * band, (band + 1) ** 2)
        directions, inverse = band_directions(band)
        basis = sh_basis(directions.to(sh) @ rotations, degree)[..., rows]
        found.append(inverse.to(sh) @ (basis @ sh[:, rows]))
    return torch.cat(found, 1)


@cache
def band_directions(band: int) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m m"]]:
    """2 band + 1 directions in which the functions of a band differ well, and the inverse of their matrix."""
    i = torch.arange(_CANDIDATES, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * i / _CANDIDATES, i * (torch.pi * (3 - 5**0.5))
    across = (1 - z * z).sqrt()
    directions = torch.stack([across * angle.cos(), across * angle.sin(), z], -1)
    basis = sh_basis(directions, band)[:, band * band :]
    # Greedily the direction that is farthest from the span of those chosen: pivoted Gram-Schmidt.
    left, chosen = basis.clone(), []
    for _ in range(2 * band + 1):
        row = int(left.norm(dim=1).argmax())
        chosen.append(row)
        unit = left[row] / left[row].norm()
        left = left - (left @ unit)[:, None] * unit
    return directions[chosen], torch.linalg.inv(basis[chosen])
