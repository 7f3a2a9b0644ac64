"""The photometric loss of 3D Gaussian splatting, fused on the CPU, and its readable twin."""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import kernels

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def photometric_loss(
    image: Float[Tensor, "..."], target: Float[Tensor, "..."], lambda_dssim: float = 0.2
) -> Float[Tensor, ""]:
    """(1 - lambda) L1 + lambda (1 - SSIM) (Kerbl et al. 2023, eq. 7); gradients go to `image` only.

    Raises:
        ValueError: the two are not h x w x 3 images of one shape on one device.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.shape != target.shape:
        raise ValueError(
            f"expected two h x w x 3 images of one shape, got {tuple(image.shape)} and {tuple(target.shape)}"
        )
    if image.device != target.device:
        raise ValueError(f"expected images on one device, got {image.device} and {target.device}")
    fits = image.device.type == "cpu" and image.dtype == torch.float32 and target.dtype == torch.float32
    if fits and kernels.available():
        return _PhotometricLoss.apply(image, target, lambda_dssim)
    return photometric_loss_reference(image, target, lambda_dssim)


def photometric_loss_reference(
    image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"], lambda_dssim: float = 0.2
) -> Float[Tensor, ""]:
    """The same loss in plain PyTorch; differentiable in `image`, on any device, in any precision."""
    target = target.detach()
    l1 = (image - target).abs().mean()
    return (1 - lambda_dssim) * l1 + lambda_dssim * (1 - structural_similarity(image, target).mean())


def structural_similarity(
    image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]
) -> Float[Tensor, "h w 3"]:
    """SSIM map (Wang et al. 2004): 11x11 Gaussian window, sigma 1.5, zeros beyond the border, range 1."""
    offsets = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    window = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    window = window / window.sum()

    def blur(x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)[:, None]
        x = torch.nn.functional.conv2d(x, window[None, None, :, None], padding=(WINDOW // 2, 0))
        x = torch.nn.functional.conv2d(x, window[None, None, None, :], padding=(0, WINDOW // 2))
        return x[:, 0].permute(1, 2, 0)

    mx, my = blur(image), blur(target)
    xx, yy, xy = (
        blur(image * image) - mx * mx,
        blur(target * target) - my * my,
        blur(image * target) - mx * my,
    )
    return (2 * mx * my + C1) * (2 * xy + C2) / ((mx * mx + my * my + C1) * (xx + yy + C2))


class _PhotometricLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, lambda_dssim: float) -> Tensor:  # pyright: ignore
        image, target = image.detach().contiguous(), target.detach().contiguous()
        gradient = torch.empty_like(image) if ctx.needs_input_grad[0] else None
        loss = ctypes.c_double()
        height, width = image.shape[:2]
        status = kernels.library().gw_photometric_loss(
            image.data_ptr(), target.data_ptr(), width, height, lambda_dssim, loss,
            None if gradient is None else gradient.data_ptr(),
        )  # fmt: skip
        kernels.check(status)
        ctx.save_for_backward(gradient)
        return image.new_tensor(loss.value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_loss: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (gradient,) = ctx.saved_tensors
        return gradient * v_loss, None, None
