"""Spherical harmonics: orthonormal, ordered and signed as in Gaussian splatting, turning with the object."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from gaussworld.pose import normalize_quats, rotation_from_quats
from gaussworld.sh import (
    coefficient_count,
    degree_of,
    evaluate_sh,
    rgb_from_sh0,
    rotate_sh,
    sh0_from_rgb,
    sh_basis,
)

DOUBLE = torch.float64
seeds = st.integers(0, 2**31 - 1)

#: Coefficient -> (band l, order m, sign towards the real harmonics without Condon-Shortley phase).
SIGNS = [
    (0, 0, +1),
    (1, -1, -1), (1, 0, +1), (1, 1, -1),
    (2, -2, +1), (2, -1, -1), (2, 0, +1), (2, 1, -1), (2, 2, +1),
    (3, -3, -1), (3, -2, +1), (3, -1, -1), (3, 0, +1), (3, 1, -1), (3, 2, +1), (3, 3, -1),
]  # fmt: skip


def random_directions(seed, count):
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return torch.nn.functional.normalize(directions, dim=-1)


def random_rotation(seed):
    return rotation_from_quats(
        normalize_quats(torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE))
    )


def random_sh(seed, n, degree):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, coefficient_count(degree), 3, generator=generator, dtype=DOUBLE)


def seen_along(sh, directions):
    """Colours (n, d, 3) of n Gaussians along d directions."""
    n, d = len(sh), len(directions)
    return evaluate_sh(sh[:, None].expand(n, d, *sh.shape[1:]), directions.expand(n, d, 3))


def test_the_basis_is_orthonormal_on_the_sphere():
    """Gauss-Legendre times equal angles integrates products of degree 6 exactly."""
    z, weights = np.polynomial.legendre.leggauss(8)
    angles = np.arange(16) * 2 * np.pi / 16
    z, angle = (torch.from_numpy(a).reshape(-1) for a in np.meshgrid(z, angles, indexing="ij"))
    weight = torch.from_numpy(weights).repeat_interleave(16) * 2 * math.pi / 16
    r = (1 - z * z).sqrt()
    basis = sh_basis(torch.stack([r * angle.cos(), r * angle.sin(), z], -1), 3)
    gram = basis.T @ (basis * weight[:, None])
    torch.testing.assert_close(gram, torch.eye(16, dtype=DOUBLE), rtol=0, atol=1e-12)


def test_order_and_signs_against_scipy():
    directions = random_directions(0, 100)
    x, y, z = directions.T.numpy()
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    basis = sh_basis(directions, 3).numpy()
    for row, (band, order, sign) in enumerate(SIGNS):
        # scipy carries the Condon-Shortley phase (-1)^m; the real harmonics here are those without it.
        value = sph_harm_y(band, abs(order), polar, azimuth) * (-1) ** order
        real = value.real if order == 0 else math.sqrt(2) * (value.imag if order < 0 else value.real)
        np.testing.assert_allclose(basis[:, row], sign * real, atol=1e-13)


def test_the_table_in_the_conventions_is_the_code(repository):
    """Each row of docs/conventions.md, read as Python, is the basis function it names."""
    text = (
        (repository / "docs" / "conventions.md")
        .read_text(encoding="utf-8")
        .replace("−", "-")
        .replace("²", "**2")
    )
    rows = re.findall(r"\| (\d+) \| (\d), (-?\d) \| ([^|]+) (?=\|)", text)
    directions = random_directions(9, 20)
    x, y, z = directions.unbind(-1)
    basis = sh_basis(directions, 3)
    assert sorted((int(k), int(band), int(order)) for k, band, order, _ in rows) == [
        (k, band, order) for k, (band, order, _) in enumerate(SIGNS)
    ]
    for k, _, _, formula in rows:
        product = re.sub(r"(?<=[\dxyz)])\s*(?=[xyz(])", "*", formula)
        wanted = torch.zeros_like(x) + eval(product, {"x": x, "y": y, "z": z})
        torch.testing.assert_close(basis[:, int(k)], wanted, rtol=0, atol=1e-5)


def test_lower_degrees_are_the_first_columns():
    directions = random_directions(1, 10)
    full = sh_basis(directions, 3)
    for degree in range(4):
        assert torch.equal(sh_basis(directions, degree), full[:, : coefficient_count(degree)])


def test_first_bands_by_hand():
    """A red coefficient on the last function of band 1 is seen from -x, because its sign is negative."""
    sh = torch.zeros(4, 3)
    sh[3, 0] = 1.0
    assert evaluate_sh(sh, torch.tensor([-2.0, 0, 0])).tolist() == pytest.approx([0.5 + 0.48860251, 0.5, 0.5])


@given(seeds, st.integers(0, 3))
@settings(max_examples=30)
def test_rotated_coefficients_look_the_same_from_the_turned_direction(seed, degree):
    sh, rotation, directions = random_sh(seed, 5, degree), random_rotation(seed), random_directions(seed, 20)
    turned = rotate_sh(sh, rotation)
    torch.testing.assert_close(
        seen_along(turned, directions @ rotation.T), seen_along(sh, directions), rtol=0, atol=1e-12
    )
    single = rotate_sh(sh.float(), rotation.float())
    torch.testing.assert_close(single, turned.float(), rtol=0, atol=1e-5)


@given(seeds, st.integers(1, 3))
@settings(max_examples=20)
def test_rotation_composes_and_inverts(seed, degree):
    sh, a, b = random_sh(seed, 4, degree), random_rotation(seed), random_rotation(seed + 1)
    torch.testing.assert_close(rotate_sh(rotate_sh(sh, b), a), rotate_sh(sh, a @ b), rtol=0, atol=1e-12)
    torch.testing.assert_close(rotate_sh(rotate_sh(sh, a), a.T), sh, rtol=0, atol=1e-12)


def test_rotation_keeps_bands_apart_and_their_energy():
    sh, rotation = random_sh(2, 6, 3), random_rotation(2)
    for band in range(4):
        alone = torch.zeros_like(sh)
        rows = slice(band**2, (band + 1) ** 2)
        alone[:, rows] = sh[:, rows]
        turned = rotate_sh(alone, rotation)
        torch.testing.assert_close(turned[:, rows].square().sum(), alone.square().sum(), rtol=1e-12, atol=0)
        turned[:, rows] = 0
        assert turned.abs().max() < 1e-13


def test_identity_changes_nothing():
    sh = random_sh(3, 5, 3)
    assert torch.equal(rotate_sh(sh, torch.eye(3)), sh)


def test_rotation_is_differentiable_in_the_coefficients():
    sh = random_sh(4, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: rotate_sh(value, random_rotation(5)), sh)


def test_a_thousand_small_turns_round_the_circle_return():
    angle = torch.tensor(2 * math.pi / 1000)
    c, s = angle.cos(), angle.sin()
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    start = random_sh(6, 3, 3).float()
    sh = start
    for _ in range(1000):
        sh = rotate_sh(sh, turn)
    torch.testing.assert_close(sh, start, rtol=0, atol=1e-3)


def test_colours_round_trip_and_degree_zero_is_seen_from_everywhere():
    rgb = torch.rand(10, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    sh0 = sh0_from_rgb(rgb)
    torch.testing.assert_close(rgb_from_sh0(sh0), rgb)
    seen = seen_along(sh0[:, None], random_directions(7, 4))
    torch.testing.assert_close(seen, rgb[:, None].expand(10, 4, 3))
    assert sh0_from_rgb(torch.full((1, 3), 0.5)).tolist() == [[0, 0, 0]]


def test_directions_of_any_length():
    sh, directions = random_sh(8, 1, 3), random_directions(8, 5)
    torch.testing.assert_close(seen_along(sh, directions * 9), seen_along(sh, directions))


def test_counts_and_degrees():
    assert [coefficient_count(d) for d in range(4)] == [1, 4, 9, 16]
    assert [degree_of(k) for k in (1, 4, 9, 16)] == [0, 1, 2, 3]
    for count in (0, 3, 15, 25):
        with pytest.raises(ValueError, match=rf"expected 1, 4, 9 or 16 SH coefficients .*, got {count}"):
            degree_of(count)


@pytest.mark.parametrize("degree", range(4))
def test_no_gaussians(degree):
    sh = torch.zeros(0, coefficient_count(degree), 3)
    assert rotate_sh(sh, random_rotation(9)).shape == sh.shape
    assert evaluate_sh(sh, torch.zeros(0, 3)).shape == (0, 3)
