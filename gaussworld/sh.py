"""Real spherical harmonics in the order and signs of 3D Gaussian splatting: evaluation, rotation, colour."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
C3 = (
    -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
    -0.4570457994644658, 1.445305721320277, -0.5900435899266435,
)  # fmt: skip
MAX_DEGREE = 3


def coefficient_count(degree: int) -> int:
    """The number k of coefficients of bands 0 to `degree`."""
    return (degree + 1) ** 2


def degree_of(count: int) -> int:
    """The degree whose bands hold `count` coefficients.

    Raises:
        ValueError: count is none of 1, 4, 9, 16.
    """
    for degree in range(MAX_DEGREE + 1):
        if coefficient_count(degree) == count:
            return degree
    raise ValueError(f"expected 1, 4, 9 or 16 SH coefficients (degree 0 to 3), got {count}")


def sh_basis(directions: Float[Tensor, "*b 3"], degree: int) -> Float[Tensor, "*b k"]:
    """The (degree+1)^2 basis functions at unit directions.

    Polynomials of Sloan 2008 ("Stupid Spherical Harmonics Tricks", appendix A2) with
    the signs of Kerbl et al. 2023.
    """
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, C0)]
    if degree >= 1:
        basis += [-C1 * y, C1 * z, -C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            C2[0] * x * y, C2[1] * y * z, C2[2] * (2 * zz - xx - yy), C2[3] * x * z, C2[4] * (xx - yy),
        ]  # fmt: skip
    if degree >= 3:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            C3[0] * y * (3 * xx - yy),
            C3[1] * x * y * z,
            C3[2] * y * (4 * zz - xx - yy),
            C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            C3[4] * x * (4 * zz - xx - yy),
            C3[5] * z * (xx - yy),
            C3[6] * x * (xx - 3 * yy),
        ]
    return torch.stack(basis, dim=-1)


def evaluate_sh(sh: Float[Tensor, "*b k 3"], directions: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Colour before the clamp, `sum_k basis_k sh_k + 0.5`, seen along directions of any non-zero length."""
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return (sh_basis(directions, degree_of(sh.shape[-2]))[..., None] * sh).sum(-2) + 0.5


def sh0_from_rgb(rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """The degree-0 coefficients that show the colour `rgb` from every side."""
    return (rgb - 0.5) / C0


def rgb_from_sh0(sh0: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """The colour that degree-0 coefficients show, before the clamp at 0."""
    return sh0 * C0 + 0.5


@cache
def _sample_directions() -> Tensor:
    # A Fibonacci sphere: well spread, so that the basis matrices below are well conditioned.
    i = torch.arange(32, dtype=torch.float64) + 0.5
    z = 1 - 2 * i / 32
    angle = i * (torch.pi * (3 - 5**0.5))
    r = (1 - z * z).sqrt()
    return torch.stack([r * angle.cos(), r * angle.sin(), z], dim=-1)


@cache
def _inverse_basis(degree: int) -> Tensor:
    return torch.linalg.pinv(sh_basis(_sample_directions(), degree))


def rotate_sh(sh: Float[Tensor, "n k 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "n k 3"]:
    """Coefficients of the same appearance after the object turned by `rotation`.

    A band spans a space that rotations map to itself, so the change of basis is solved exactly from samples:
    f'(d) = f(R^T d) at 32 directions. No gradient flows to `rotation`.
    """
    degree, rotation = degree_of(sh.shape[-2]), rotation.detach().cpu().double()
    if degree == 0 or torch.equal(rotation, torch.eye(3, dtype=rotation.dtype)):
        return sh
    turned = sh_basis(_sample_directions() @ rotation, degree)
    change = (_inverse_basis(degree) @ turned).to(sh)
    return torch.einsum("jk,nkc->njc", change, sh)
