"""`render(gaussians, cameras)`: one contract, three rasterizers; the device of the inputs chooses."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians
from .contract import OUTPUTS, Output, Rendering, RenderRequest, RenderSettings, check_cameras

__all__ = ["OUTPUTS", "Backend", "Output", "RenderRequest", "RenderSettings", "Rendering", "render"]

Backend = Literal["cpu", "cuda", "reference"]


def render(
    gaussians: Gaussians,
    cameras: Camera | Sequence[Camera],
    *,
    background: Float[Tensor, "*c 3"] | Sequence[float] | None = None,
    colors: Float[Tensor, "n 3"] | None = None,
    features: Float[Tensor, "n f"] | None = None,
    mask: Bool[Tensor, "*c h w"] | None = None,
    outputs: Iterable[Output] = (),
    settings: RenderSettings | None = None,
    backend: Backend | None = None,
) -> Rendering:
    """Draw Gaussians as seen by one camera or a batch; see below for what is differentiable.

    Gradients flow to the Gaussians, colours, features, backgrounds and camera poses, not to K. Flags are not
    looked at: select what is to be drawn.

    Args:
        gaussians: what to draw; its device chooses the rasterizer unless `backend` does.
        cameras: one camera, or a sequence of equal size: then every picture has a leading camera axis.
        background: colour behind everything, range [0, 1], one for all cameras or one each; default black.
        colors: colours to use instead of the spherical harmonics.
        features: extra channels per Gaussian, blended like colour.
        mask: False where a pixel may be skipped.
        outputs: any of "depth", "normals", "ids", "absgrad" on top of rgb and alpha.
        settings: constants of the rasterizer.
        backend: "cpu" kernels, "cuda" (gsplat), or "reference" (plain PyTorch: slow, any device and dtype).

    Raises:
        ValueError: a parameter is not finite or has the wrong shape or device, or cameras differ in size.
        BackendUnavailable: CUDA is asked for and gsplat cannot run.
    """
    if not isinstance(gaussians, Gaussians):
        raise TypeError(
            f"gaussians: expected Gaussians, got {type(gaussians).__name__}; gw.load reads a file"
        )
    single = isinstance(cameras, Camera)
    batch = [cameras] if isinstance(cameras, Camera) else list(cameras)
    check_cameras(batch)
    request = _request(gaussians, batch, background, colors, features, mask, outputs, settings)
    on_device = [camera.to(gaussians.device) for camera in batch]
    with _full_precision(gaussians.device.type):
        rendering = _rasterize(_choose(gaussians, backend), gaussians, on_device, request)
    return _first(rendering) if single else rendering


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Poses and projections do not survive autocast's sixteen bits."""
    return torch.autocast(device, enabled=False) if device in ("cpu", "cuda") else nullcontext()


def _choose(gaussians: Gaussians, backend: Backend | None) -> Backend:
    if backend is not None:
        return backend
    if gaussians.device.type == "cuda":
        return "cuda"
    if gaussians.device.type != "cpu" or gaussians.means.dtype != torch.float32:
        return "reference"
    from . import cpu

    return "cpu" if cpu.available() else "reference"


def _rasterize(
    backend: Backend, gaussians: Gaussians, cameras: list[Camera], request: RenderRequest
) -> Rendering:
    if backend == "cpu":
        from . import cpu as chosen
    elif backend == "cuda":
        from . import cuda as chosen
    elif backend == "reference":
        from . import reference as chosen
    else:
        raise ValueError(f"expected backend cpu, cuda or reference, got {backend!r}")
    return chosen.rasterize(gaussians, cameras, request)


def _request(
    gaussians: Gaussians,
    cameras: list[Camera],
    background: Float[Tensor, "*c 3"] | Sequence[float] | None,
    colors: Tensor | None,
    features: Tensor | None,
    mask: Tensor | None,
    outputs: Iterable[Output],
    settings: RenderSettings | None,
) -> RenderRequest:
    n, c, size = len(gaussians), len(cameras), (cameras[0].height, cameras[0].width)
    names: Iterable[str] = (outputs,) if isinstance(outputs, str) else outputs
    asked = set(names)
    wanted: frozenset[Output] = frozenset(output for output in OUTPUTS if output in asked)
    # Colour and alpha are always there; asking for them is no mistake.
    if unknown := asked - wanted - {"rgb", "alpha"}:
        raise ValueError(f"expected outputs among {', '.join(OUTPUTS)}, got {', '.join(sorted(unknown))}")
    if background is not None:
        background = torch.as_tensor(background, dtype=gaussians.means.dtype, device=gaussians.device)
        if tuple(background.shape) not in ((3,), (c, 3)):
            raise ValueError(f"background: expected shape (3,) or ({c}, 3), got {tuple(background.shape)}")
        if not bool(torch.isfinite(background.detach()).all()):
            raise ValueError(f"background: expected finite values, got {background.tolist()}")
        background = background.expand(c, 3)
    if mask is not None:
        if tuple(mask.shape) not in (size, (c, *size)):
            raise ValueError(f"mask: expected shape {size} or {(c, *size)}, got {tuple(mask.shape)}")
        _check_device("mask", mask, gaussians.device)
        mask = mask.to(torch.bool).expand(c, *size)
    for name, value, width in (("colors", colors, 3), ("features", features, None)):
        if value is None:
            continue
        if value.ndim != 2 or len(value) != n or (width is not None and value.shape[1] != width):
            raise ValueError(f"{name}: expected shape ({n}, {width or 'f'}), got {tuple(value.shape)}")
        _check_device(name, value, gaussians.device)
        bad = ~torch.isfinite(value.detach()).all(dim=1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise ValueError(f"{name}: expected finite values, got {value[row][:4].tolist()} in row {row}")
    return RenderRequest(background, colors, features, mask, wanted, settings or RenderSettings())


def _check_device(name: str, value: Tensor, device: torch.device) -> None:
    if value.device != device:
        raise ValueError(f"{name}: expected device {device} (that of the Gaussians), got {value.device}")


def _first(rendering: Rendering) -> Rendering:
    """Drop the camera axis of the pictures of a batch of one."""
    pictures = {name: value for name, value in vars(rendering).items() if name not in ("means2d", "radii")}
    # Squeezing is a view in both directions; indexing would copy every gradient.
    return replace(
        rendering, **{name: value.squeeze(0) for name, value in pictures.items() if value is not None}
    )
