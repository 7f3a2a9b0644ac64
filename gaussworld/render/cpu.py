"""The CPU rasterizer: autograd around the compiled kernels; `reference.py` says what it computes."""

import ctypes
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..camera import Camera, CameraModel
from ..gaussians import Gaussians
from ..sh import coefficient_count, evaluate_sh
from . import kernels
from .contract import MAX_LOG_SCALE, Rendering, RenderRequest, RenderSettings, check_finite, facing_normals
from .recycle import recycled

#: [px] so that tile coordinates fit 16 bits in the kernels.
MAX_SIDE = (1 << 20) - 16

log = logging.getLogger(__name__)


@cache
def available() -> bool:
    """Whether the kernels are compiled; when not, says so once."""
    found = kernels.available()
    if not found:
        log.warning(
            "GaussWorld's CPU kernels are not compiled: rendering falls back to the PyTorch reference,"
            " hundreds of times slower; install a C++17 compiler and reinstall"
        )
    return found


def rasterize(gaussians: Gaussians, cameras: list[Camera], request: RenderRequest) -> Rendering:
    """Draw with the compiled kernels; see `render` for the contract.

    Raises:
        ValueError: parameters are not finite, or are not float32 on the CPU.
        MissingDependency: the kernels are not compiled.
    """
    if gaussians.means.dtype != torch.float32 or gaussians.device.type != "cpu":
        got = f"{gaussians.means.dtype} on {gaussians.device}"
        raise ValueError(
            f"Gaussians: the CPU kernels expect float32 on cpu, got {got}; use backend='reference'"
        )
    width, height = cameras[0].width, cameras[0].height
    if max(width, height) > MAX_SIDE:
        raise ValueError(
            f"expected pictures of at most {MAX_SIDE} px a side, got {width}x{height}; render crops"
        )
    projections = [_project(gaussians, camera, request) for camera in cameras]
    means2d = _stacked([p.means2d for p in projections])
    if "absgrad" in request.outputs:
        means2d.absgrad = torch.zeros_like(means2d)  # pyright: ignore[reportAttributeAccessIssue]
    pictures = [_blend(p, means2d, i, gaussians, cameras[i], request) for i, p in enumerate(projections)]
    stacked = {name: _stacked([picture[name] for picture in pictures]) for name in pictures[0]}
    return Rendering(**stacked, means2d=means2d, radii=_stacked([p.radii for p in projections]))


def _stacked(values: list[Tensor]) -> Tensor:
    """A leading camera axis; one camera's needs no copy."""
    return values[0][None] if len(values) == 1 else torch.stack(values)


def _floats(*shape: int) -> Tensor:
    """Uninitialised memory for the kernels, whatever torch's default dtype and device are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _c_floats(values: Tensor | None) -> ctypes.Array[ctypes.c_float]:
    assert values is not None
    return (ctypes.c_float * values.numel())(*values.flatten().tolist())


@dataclass(frozen=True, eq=False)
class _Projection:
    """A frame whose rows are loaded, and the graph tensors the blending depends on."""

    frame: kernels.Frame
    means2d: Tensor
    radii: Tensor
    link: Tensor | None = None
    """Of a pinhole frame: carries the order "blend before project" through the backward pass."""
    projected: tuple[Tensor | None, ...] = (None,) * 4
    """Of a frame projected in PyTorch: conics, depths, opacities, colours."""


def _project(gaussians: Gaussians, camera: Camera, request: RenderRequest) -> _Projection:
    if camera.model is not CameraModel.PINHOLE:
        return _project_distorted(gaussians, camera, request)
    frame = kernels.Frame()
    pose = camera.world_from_camera.float()
    means2d, radii, link = _Project.apply(
        frame, camera, request.settings, gaussians.means, gaussians.quats, gaussians.log_scales,
        gaussians.opacity_logits, gaussians.sh, request.colors, pose[:3, :3].T,
        camera.camera_from_world[:3, 3].float(), pose[:3, 3],
    )  # fmt: skip
    if frame.library.gw_frame_bad_row(frame.handle) >= 0:
        check_finite(gaussians)
        row = frame.library.gw_frame_bad_row(frame.handle)
        raise ValueError(f"Gaussians.sh: expected colours that fit float32, got an overflow in row {row}")
    return _Projection(frame, means2d, radii, link)


def _project_distorted(gaussians: Gaussians, camera: Camera, request: RenderRequest) -> _Projection:
    """Distorted cameras: the unscented projection in PyTorch, the blending in the kernels."""
    from .unscented import project_unscented

    check_finite(gaussians)
    settings = request.settings
    p = project_unscented(gaussians, camera, settings)
    colors = request.colors
    if colors is None:
        count = _coefficients(gaussians.sh.shape[1], settings)
        colors = evaluate_sh(gaussians.sh[:, :count], gaussians.means - camera.center).clamp(min=0)
    tensors = [t.float().contiguous() for t in (p.means2d, p.conics, p.depths, p.opacities, colors)]
    frame = kernels.Frame()
    radii = p.radii.to(torch.int32).contiguous()
    pointers = [t.data_ptr() for t in tensors]
    frame.call(
        "gw_load_projected",
        kernels.ProjectedInput(
            len(gaussians), *pointers, radii.data_ptr(), camera.width, camera.height, settings.max_alpha
        ),
    )
    return _Projection(frame, tensors[0], radii, projected=tuple(tensors[1:]))


def _coefficients(stored: int, settings: RenderSettings) -> int:
    return stored if settings.sh_degree is None else min(stored, coefficient_count(settings.sh_degree))


def _blend(
    projection: _Projection,
    means2d: Tensor,
    index: int,
    gaussians: Gaussians,
    camera: Camera,
    request: RenderRequest,
) -> dict[str, Tensor]:
    """Pictures of one camera, by the names of `Rendering`'s fields."""
    columns = [] if request.features is None else [request.features.float()]
    if "normals" in request.outputs:
        columns.append(facing_normals(gaussians, camera))
    features = torch.cat(columns, dim=1) if columns else None
    inputs = (means2d.squeeze(0) if len(means2d) == 1 else means2d[index], *projection.projected, features)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    background = None if request.background is None else request.background[index]
    rgb, alpha, depth, extra = _Blend.apply(
        projection.frame, (camera.height, camera.width), means2d, index, request, save,
        projection.link, inputs[0], features, background, *projection.projected,
    )  # fmt: skip
    pictures = {"rgb": rgb, "alpha": alpha}
    if "depth" in request.outputs:
        pictures["depth"] = depth / alpha.clamp(min=1e-10)
    if request.features is not None:
        pictures["features"] = extra[..., : request.features.shape[1]]
    if "normals" in request.outputs:
        pictures["normals"] = extra[..., -3:]
    if "ids" in request.outputs:
        ids = torch.empty(camera.height, camera.width, dtype=torch.int32, device="cpu")
        projection.frame.call("gw_dominant_ids", ids)
        pictures["ids"] = ids.long()
    return pictures


class _Project(torch.autograd.Function):
    """Gaussians to means on screen and radii; everything else the picture needs stays inside the frame."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, frame: kernels.Frame, camera: Camera, settings: RenderSettings, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        data = [None if t is None else t.detach().float().contiguous() for t in tensors]
        means, _, _, _, sh, _, rotation, translation, center = data
        assert means is not None and sh is not None
        K = camera.K
        ctx.input = kernels.ProjectionInput(
            len(means), *(None if t is None else t.data_ptr() for t in data[:6]),
            sh.shape[1], _coefficients(sh.shape[1], settings), camera.width, camera.height,
            settings.antialiased, 0, *(_c_floats(t) for t in (rotation, translation, center)),
            float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]),
            settings.near, settings.far, settings.eps2d,
            settings.radius_clip, settings.max_alpha, MAX_LOG_SCALE,
        )  # fmt: skip
        means2d = _floats(len(means), 2)
        radii = torch.empty(len(means), 2, dtype=torch.int32, device="cpu")
        frame.call("gw_project", ctx.input, means2d, radii)
        ctx.frame = frame
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*data)
        ctx.mark_non_differentiable(radii)
        return means2d, radii, _floats(1).zero_()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_means2d: Tensor | None, _v_radii: None, v_link: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if v_means2d is None:
            return (None,) * 12
        data = ctx.saved_tensors
        # Checkpointing and other hooks may have moved what the forward pass saved.
        for name, tensor in zip(kernels.PROJECTION_TENSORS, data):
            setattr(ctx.input, name, None if tensor is None else tensor.data_ptr())
        colors = data[5]
        gradients = [recycled(t.shape) for t in data[:4]]
        v_sh = recycled(data[4].shape) if colors is None and ctx.needs_input_grad[7] else None
        v_colors = None if colors is None else recycled(colors.shape)
        v_means2d = v_means2d.contiguous()
        out = kernels.ProjectionGradient(
            *(None if t is None else t.data_ptr() for t in (v_means2d, *gradients, v_sh, v_colors))
        )
        if v_link is None:
            # The pictures took no part in this pass; the frame may hold what an earlier pass left.
            ctx.frame.call("gw_clear_moments")
        ctx.frame.call("gw_project_backward", ctx.input, out)
        camera = torch.tensor(list(out.camera), dtype=torch.float32, device="cpu")
        pose = (camera[:9].reshape(3, 3), camera[9:12], camera[12:])
        return None, None, None, *gradients, v_sh, v_colors, *pose


class _Blend(torch.autograd.Function):
    """A loaded frame to pictures. The gradients of a pinhole frame go on to `_Project` inside the frame."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        frame: kernels.Frame,
        size: tuple[int, int],
        screen: Tensor,
        index: int,
        request: RenderRequest,
        save: bool,
        link: Tensor | None,
        means2d: Tensor,
        features: Tensor | None,
        background: Tensor | None,
        *projected: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        features = None if features is None else features.detach().contiguous()
        frame.call("gw_sort")
        frame.call("gw_bin", int(save or features is not None or "ids" in request.outputs))
        rgb, alpha = _floats(*size, 3), _floats(*size)
        depth = _floats(*size) if "depth" in request.outputs else None
        mask = None if request.mask is None else request.mask[index].contiguous().view(torch.uint8)
        color = None if background is None else background.detach().float().contiguous()
        frame.call("gw_blend", color, mask, rgb, alpha, depth)
        extra = None
        if features is not None:
            extra = _floats(*size, features.shape[1])
            frame.call("gw_blend_features", features, features.shape[1], extra)
        ctx.set_materialize_grads(False)
        ctx.frame, ctx.screen, ctx.index, ctx.absolute = frame, screen, index, "absgrad" in request.outputs
        ctx.linked, ctx.count = link is not None, len(means2d)
        ctx.save_for_backward(features, alpha)
        return rgb, alpha, depth, extra

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *v_pictures: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore
        v_rgb, v_alpha, v_depth, v_extra = (None if v is None else v.contiguous() for v in v_pictures)
        features, alpha = ctx.saved_tensors
        v_background = None
        if ctx.needs_input_grad[9] and v_rgb is not None:
            v_background = ((1 - alpha)[..., None] * v_rgb).sum((0, 1))
        if not any(ctx.needs_input_grad[i] for i in (7, 8, 10, 11, 12, 13)):
            return *(None,) * 9, v_background, *(None,) * 4
        frame = ctx.frame
        v_features = None if v_extra is None else torch.zeros_like(features)
        width = 0 if features is None else features.shape[1]
        frame.call(
            "gw_blend_backward",
            v_rgb,
            v_alpha,
            v_depth,
            int(ctx.absolute),
            features,
            v_extra,
            width,
            v_features,
        )
        v_means2d = _floats(ctx.count, 2)
        absolute = _floats(ctx.count, 2) if ctx.absolute else None
        frame.call("gw_screen_gradients", v_means2d, absolute)
        if absolute is not None:
            ctx.screen.absgrad[ctx.index] += absolute
        v_link = _floats(1).zero_() if ctx.linked else None
        projected = (None,) * 4 if ctx.linked else _projected_gradients(frame, ctx.count)
        return *(None,) * 6, v_link, v_means2d, v_features, v_background, *projected


def _projected_gradients(frame: kernels.Frame, n: int) -> tuple[Tensor, ...]:
    v_conics, v_depths, v_opacities, v_colors = (_floats(n, *s).zero_() for s in ((3,), (), (), (3,)))
    frame.call("gw_projected_gradients", v_conics, v_opacities, v_colors, v_depths)
    return v_conics, v_depths, v_opacities, v_colors
