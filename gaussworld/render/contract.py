"""What every rasterizer takes and gives: settings, request, rendering, and the checks on bad input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians
from ..pose import rotation_from_quats

Output = Literal["depth", "normals", "ids", "absgrad"]
OUTPUTS: tuple[Output, ...] = ("depth", "normals", "ids", "absgrad")


@dataclass(frozen=True)
class RenderSettings:
    """Constants of the rasterizer; the defaults are those of gsplat 1.5."""

    near: float = 0.01
    """Gaussians closer than this z-depth [m] are dropped."""
    far: float = 1e10
    """Gaussians farther than this z-depth [m] are dropped."""
    eps2d: float = 0.3
    """[px^2] added to the diagonal of every 2D covariance: a low-pass filter of about one pixel."""
    radius_clip: float = 0.0
    """Gaussians whose extent is at most this many pixels in both axes are dropped."""
    max_alpha: float = 0.999
    """No single Gaussian covers a pixel more than this."""
    antialiased: bool = False
    """Scale opacity by sqrt(det before / det after) the low-pass filter (Yu et al. 2024, Mip-Splatting)."""
    sh_degree: int | None = None
    """Use SH bands up to this degree only; None uses all there are."""

    def __post_init__(self) -> None:
        if not 0 < self.near < self.far:
            raise ValueError(f"expected 0 < near < far, got near={self.near} and far={self.far}")
        if not (0 <= self.eps2d < math.inf and 0 <= self.radius_clip < math.inf):
            got = f"eps2d={self.eps2d} and radius_clip={self.radius_clip}"
            raise ValueError(f"expected eps2d and radius_clip of at least 0, got {got}")
        if not 0 < self.max_alpha < 1:
            raise ValueError(f"expected 0 < max_alpha < 1, got {self.max_alpha}")
        if self.sh_degree not in (None, 0, 1, 2, 3):
            raise ValueError(f"expected sh_degree 0, 1, 2, 3 or None, got {self.sh_degree}")


@dataclass(frozen=True, eq=False)
class Rendering:
    """An image of Gaussians; a leading camera axis c is there when a sequence of cameras was given."""

    rgb: Float[Tensor, "*c h w 3"]
    """Colour over the background; may exceed 1 where SH does."""
    alpha: Float[Tensor, "*c h w"]
    """Accumulated opacity, range [0, 1]."""
    depth: Float[Tensor, "*c h w"] | None = None
    """[m] expected z-depth, sum(w z) / alpha; 0 where nothing was hit."""
    normals: Float[Tensor, "*c h w 3"] | None = None
    """sum(w n) in the world frame, n the shortest axis turned towards the camera; not normalised."""
    features: Float[Tensor, "*c h w f"] | None = None
    """sum(w f) of the features that were handed in."""
    ids: Int[Tensor, "*c h w"] | None = None
    """Row of the Gaussian with the largest blend weight, -1 where nothing was hit."""
    means2d: Float[Tensor, "c n 2"] | None = None
    """[px] projected centres, always with the camera axis. For densification: call `means2d.retain_grad()`
    before backward and find their gradient in `.grad`; when "absgrad" was asked for, `.absgrad` holds the sum
    of the absolute per-pixel parts (Ye et al. 2024, AbsGS). Both add up over backward passes."""
    radii: Int[Tensor, "c n 2"] | None = None
    """[px] half extents per axis, always with the camera axis; 0 for Gaussians that were dropped, so that
    `radii.amax(-1) > 0` are the visible rows."""


@dataclass(frozen=True, eq=False)
class RenderRequest:
    """What to draw, besides the Gaussians and the cameras; tensors are on the Gaussians' device."""

    background: Float[Tensor, "c 3"] | None = None
    """Colour behind everything, one per camera; None is black."""
    colors: Float[Tensor, "n 3"] | None = None
    """Colours to use instead of the SH."""
    features: Float[Tensor, "n f"] | None = None
    """Extra channels, blended like colour, over zero."""
    mask: Bool[Tensor, "c h w"] | None = None
    """False where a pixel need not be drawn: it shows the background, alpha 0, and gives no gradient."""
    outputs: frozenset[Output] = frozenset()
    settings: RenderSettings = field(default_factory=RenderSettings)


def facing_normals(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "n 3"]:
    """Each Gaussian's shortest axis as a unit vector in the world frame, turned towards the camera."""
    axis = gaussians.log_scales.detach().argmin(dim=-1)
    rotation = rotation_from_quats(gaussians.quats)
    normals = rotation.gather(-1, axis[:, None, None].expand(-1, 3, 1))[..., 0]
    away = ((gaussians.means - camera.center.to(gaussians.means)) * normals).sum(-1, keepdim=True) > 0
    return torch.where(away, -normals, normals)


def check_cameras(cameras: Sequence[Camera]) -> None:
    """A batch must share its size, so that its pictures stack.

    Raises:
        ValueError: no camera, or cameras of different sizes.
    """
    if not cameras:
        raise ValueError("expected at least one camera, got an empty sequence")
    sizes = {(camera.width, camera.height) for camera in cameras}
    if len(sizes) > 1:
        listed = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
        raise ValueError(
            f"expected cameras of one size in a batch, got {listed}; render them one by one or rescale them"
        )


def check_finite(gaussians: Gaussians) -> None:
    """Refuse parameters that no rasterizer can draw, naming the field and the first bad row.

    Raises:
        ValueError: a NaN or infinity, a zero quaternion, or a log scale whose exponential overflows float32.
    """
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        value = getattr(gaussians, name).detach()
        bad = ~torch.isfinite(value).reshape(len(gaussians), math.prod(value.shape[1:])).all(dim=1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise ValueError(
                f"Gaussians.{name}: expected finite values, got "
                f"{value[row].flatten()[:4].tolist()} in row {row}"
            )
    zero = (gaussians.quats.detach() == 0).all(dim=1)
    if bool(zero.any()):
        row = int(zero.nonzero()[0, 0])
        raise ValueError(
            f"Gaussians.quats: expected non-zero quaternions, got zeros in row {row}; "
            "[1, 0, 0, 0] is identity"
        )
    huge = (gaussians.log_scales.detach() > MAX_LOG_SCALE).any(dim=1)
    if bool(huge.any()):
        row = int(huge.nonzero()[0, 0])
        got = float(gaussians.log_scales[row].detach().max())
        raise ValueError(
            f"Gaussians.log_scales: expected at most {MAX_LOG_SCALE:g} (squares must fit float32), "
            f"got {got:g} in row {row}; linear scales go to Gaussians.from_activated"
        )


#: exp(40)^2 = 5e34 still fits float32 with room for the projection's factors.
MAX_LOG_SCALE = 40.0
