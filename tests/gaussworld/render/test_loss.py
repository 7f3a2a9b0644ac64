"""The fused photometric loss against its twin, and the twin against scikit-image."""

import pytest
import torch
from skimage.metrics import structural_similarity as skimage_ssim

from gaussworld.render import kernels
from gaussworld.render.loss import photometric_loss, photometric_loss_reference, structural_similarity


def pictures(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(height * 1000 + width)
    target = torch.rand(height, width, 3, generator=g, dtype=torch.float64)
    return (target + 0.2 * torch.randn(height, width, 3, generator=g, dtype=torch.float64)).clamp(
        0, 1
    ), target


@pytest.mark.skipif(not kernels.available(), reason="the CPU kernels are not compiled here")
@pytest.mark.parametrize("variant", kernels.variants())
@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 129), (7, 200), (1, 1), (100, 5), (65, 257)])
@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_kernel_equals_twin(variant: str, height: int, width: int, weight: float) -> None:
    image, target = pictures(height, width)
    expected_in = image.clone().requires_grad_()
    expected = photometric_loss_reference(expected_in, target, weight)
    expected.backward()
    got_in = image.float().requires_grad_()
    with kernels.using(variant):
        got = photometric_loss(got_in, target.float(), weight)
        (3 * got).backward()
    assert got.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    error = (got_in.grad / 3 - expected_in.grad).norm() / expected_in.grad.norm()
    assert error < 1e-4


def test_same_picture_costs_nothing() -> None:
    _, target = pictures(40, 30)
    assert photometric_loss(target.float(), target.float()).item() == pytest.approx(0, abs=1e-6)


def test_similarity_agrees_with_scikit_image_away_from_the_border() -> None:
    image, target = pictures(40, 50)
    _, expected = skimage_ssim(
        image.numpy(), target.numpy(), channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    inside = (slice(5, -5), slice(5, -5))
    got = structural_similarity(image, target)[inside]
    assert torch.allclose(got, torch.from_numpy(expected[inside]), atol=1e-6)


@pytest.mark.parametrize(
    "shapes", [((4, 4, 3), (4, 5, 3)), ((4, 4, 1), (4, 4, 1)), ((2, 4, 4, 3), (2, 4, 4, 3))]
)
def test_other_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"two h x w x 3 images of one shape, got \("):
        photometric_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_devices_must_agree() -> None:
    with pytest.raises(ValueError, match="one device, got cpu and meta"):
        photometric_loss(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3, device="meta"))
