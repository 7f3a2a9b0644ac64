"""`render(gaussians, cameras)`: one contract, three rasterizers; the device of the inputs chooses."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians


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
    means2d: Float[Tensor, "*c n 2"] | None = None
    """[px] projected centres; after backward `.grad` holds the gradient and `.absgrad` the sum of its absolute
    per-pixel parts (Ye et al. 2024, AbsGS), which densification reads."""
    radii: Int[Tensor, "*c n 2"] | None = None
    """[px] half extents per axis, 0 for Gaussians that were dropped; `radii.amax(-1) > 0` are the visible rows."""
