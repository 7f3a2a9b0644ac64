"""How alike two pictures are: PSNR and SSIM of h x w x 3 tensors in [0, 1]."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
"""[px] the 11 x 11 window of Wang et al. 2004."""


def psnr(
    image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"], mask: Bool[Tensor, "h w"] | None = None
) -> float:
    """Peak signal-to-noise ratio [dB] for a peak of 1; infinite for equal pictures.

    Args:
        image: what was made.
        target: what it should be.
        mask: True where pixels count.

    Raises:
        ValueError: the pictures differ in shape, or the mask leaves no pixel.
    """
    _check_alike(image, target)
    squared = (image.double() - target.double()).square()
    if mask is not None:
        if tuple(mask.shape) != tuple(image.shape[:2]) or not bool(mask.any()):
            raise ValueError(
                f"mask: expected shape {tuple(image.shape[:2])} with at least one True, "
                f"got {tuple(mask.shape)} with {int(mask.sum())}"
            )
        squared = squared[mask]
    return float(-10 * squared.mean().log10())


def ssim(
    image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"], mask: Bool[Tensor, "h w"] | None = None
) -> float:
    """Mean structural similarity (Wang et al. 2004, eq. 13, IEEE TIP 13(4)), at most 1.

    Gaussian window of 11 x 11 px and sigma 1.5 px, population covariances, averaged over channels and over
    the pixels whose window lies inside the picture: what scikit-image's `structural_similarity` gives with
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2.

    Args:
        image: what was made.
        target: what it should be.
        mask: True where pixels count: windows weigh only those (as Gao et al. 2022, "Monocular Dynamic View
            Synthesis: A Reality Check", do), and only windows around those are averaged.

    Raises:
        ValueError: the pictures differ in shape or are smaller than the window, or the mask differs in shape
            or leaves no window.
    """
    _check_alike(image, target)
    side = 2 * SSIM_RADIUS + 1
    if min(image.shape[:2]) < side:
        raise ValueError(f"ssim: expected pictures of at least {side}x{side} px, got {tuple(image.shape)}")
    x, y = (picture.double().permute(2, 0, 1)[:, None] for picture in (image, target))
    if mask is None:
        mean_x, mean_y, xx, yy, xy = (_blurred(v) for v in (x, y, x * x, y * y, x * y))
    else:
        weight, kept = _window_weights(mask, image)
        mean_x, mean_y, xx, yy, xy = (
            (_blurred(v * mask) / weight)[..., kept] for v in (x, y, x * x, y * y, x * y)
        )
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return float((numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def _window_weights(mask: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each window that counts, never 0, and which windows are around a pixel that counts."""
    if tuple(mask.shape) != tuple(image.shape[:2]):
        raise ValueError(f"mask: expected shape {tuple(image.shape[:2])}, got {tuple(mask.shape)}")
    kept = mask[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]
    if not bool(kept.any()):
        raise ValueError(f"mask: expected a True at least {SSIM_RADIUS} px away from the border, got none")
    return _blurred(mask.to(torch.float64)[None, None]).clamp(min=1e-12), kept


def _blurred(planes: Tensor) -> Tensor:
    """Gaussian-weighted means of the windows that lie inside."""
    offsets = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=planes.dtype, device=planes.device)
    weights = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    weights = weights / weights.sum()
    return _summed(_summed(planes, weights, -1), weights, -2)


def _summed(planes: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Weighted sums along one axis: torch has no fast convolution in double precision."""
    count = planes.shape[dim] - len(weights) + 1
    total = planes.narrow(dim, 0, count) * weights[0]
    for start in range(1, len(weights)):
        total.add_(planes.narrow(dim, start, count), alpha=float(weights[start]))
    return total


def _check_alike(image: Tensor, target: Tensor) -> None:
    if image.ndim != 3 or image.shape != target.shape:
        raise ValueError(
            f"expected pictures of one shape (h, w, 3), got {tuple(image.shape)} and {tuple(target.shape)}"
        )
