"""PSNR and SSIM against closed forms and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gaussworld.metrics import psnr, ssim


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a noisy copy."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.linspace(0, 3, 41), torch.linspace(0, 4, 57), indexing="ij")
    image = torch.stack([(x.sin() + 1) / 2, (y.cos() + 1) / 2, (x * y).sin().abs()], dim=-1)
    return image, (image + 0.08 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def test_psnr_of_a_known_error() -> None:
    """A constant error of 0.1 is 20 dB; equal pictures are infinitely alike."""
    image = torch.full((4, 5, 3), 0.5)
    assert psnr(image, image + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(image, image) == math.inf


def test_psnr_matches_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Same number as peak_signal_noise_ratio."""
    image, noisy = pair
    assert psnr(noisy, image) == pytest.approx(
        peak_signal_noise_ratio(image.numpy(), noisy.numpy(), data_range=1), abs=1e-4
    )


def test_psnr_mask_counts_only_what_is_true() -> None:
    """Errors outside of the mask do not count."""
    image, wrong = torch.zeros(4, 4, 3), torch.zeros(4, 4, 3)
    wrong[0], wrong[1:] = 1.0, 0.1
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0] = False
    assert psnr(wrong, image, mask) == pytest.approx(20, abs=1e-4)
    with pytest.raises(ValueError, match="with at least one True, got"):
        psnr(wrong, image, torch.zeros(4, 4, dtype=torch.bool))


@pytest.mark.parametrize("size", [(11, 11), (12, 30), (41, 57)])
def test_ssim_matches_scikit_image(pair: tuple[torch.Tensor, torch.Tensor], size: tuple[int, int]) -> None:
    """To 1e-4 of structural_similarity with the window of the paper, down to the smallest picture."""
    image, noisy = (picture[: size[0], : size[1]] for picture in pair)
    expected = structural_similarity(
        image.numpy().astype(np.float64),
        noisy.numpy().astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=2,
    )
    assert ssim(noisy, image) == pytest.approx(float(expected), abs=1e-6)
    assert ssim(image, image) == pytest.approx(1, abs=1e-9)


def test_pictures_must_be_alike_in_shape_and_large_enough() -> None:
    """The messages show both shapes."""
    with pytest.raises(ValueError, match=r"got \(10, 12, 3\)"):
        ssim(torch.zeros(10, 12, 3), torch.zeros(10, 12, 3))


def test_shapes_are_compared(as_in_production: None) -> None:
    """Where no shape checker runs, ours speaks."""
    with pytest.raises(ValueError, match=r"got \(4, 4, 3\) and \(4, 5, 3\)"):
        psnr(torch.zeros(4, 4, 3), torch.zeros(4, 5, 3))
