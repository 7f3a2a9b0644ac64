"""Turning Gaussians between axis conventions such as RUB (x right, y up, z back) and RDF (PLY's)."""

from dataclasses import replace

import torch

from ..gaussians import Gaussians
from ..sh import sh_basis

#: Where each letter of a convention's name points, in RDF.
_RDF = {"R": (1, 0, 0), "L": (-1, 0, 0), "D": (0, 1, 0), "U": (0, -1, 0), "F": (0, 0, 1), "B": (0, 0, -1)}


def to_rdf(gaussians: Gaussians, axes: str) -> Gaussians:
    """The same Gaussians in axes right-down-front, given in those of the name: `"RUB"`, `"RFU"`.

    Left-handed conventions mirror. Where axes differ only in direction, nothing is rounded.
    """
    rdf_from_axes = torch.tensor([_RDF[letter] for letter in axes], dtype=torch.float32).T
    signs = rdf_from_axes.diagonal()
    if bool((signs != 0).all()):
        return flipped(gaussians, (float(signs[0]), float(signs[1]), float(signs[2])))
    mirror = float(torch.linalg.det(rdf_from_axes).round())
    pose = torch.eye(4)
    pose[:3, :3] = torch.diag(torch.tensor([mirror, 1.0, 1.0])) @ rdf_from_axes
    return flipped(gaussians.transformed(pose), (mirror, 1.0, 1.0))


def flipped(gaussians: Gaussians, signs: tuple[float, float, float]) -> Gaussians:
    """Gaussians after the directions of the axes with sign -1 were reversed, exactly.

    With D = diag(signs), D R S² Rᵀ D = (D R D) S² (D R D)ᵀ: D R D is a rotation, even if D mirrors.
    """
    x, y, z = signs
    device = gaussians.device
    turn = torch.tensor([1.0, y * z, x * z, x * y], device=device)
    # Each basis function is even or odd in every axis; this direction lies on no zero of any of them.
    direction = torch.tensor([[0.48, 0.6, 0.64]], dtype=torch.float64)
    degree = gaussians.sh_degree
    parity = sh_basis(direction * torch.tensor([signs], dtype=torch.float64), degree) / sh_basis(
        direction, degree
    )
    return replace(
        gaussians,
        means=gaussians.means * torch.tensor(signs, device=device),
        quats=gaussians.quats * turn,
        sh=gaussians.sh * parity[0].round().to(gaussians.sh)[:, None],
    )
