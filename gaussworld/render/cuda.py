"""The CUDA rasterizer: gsplat 1.5's kernels, called stage by stage, behind this package's contract."""

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera, CameraModel
from ..errors import BackendUnavailable
from ..gaussians import Gaussians
from ..sh import degree_of
from .contract import Rendering, RenderRequest, RenderSettings, check_finite, facing_normals
from .reference import TILE, Blended, project, rendering_of, splat_alphas
from .reference import rasterize as rasterize_by_reference

#: The versions whose kernels and signatures this module knows.
KNOWN_VERSIONS = "1.5."
#: min(0.999f, ...) in gsplat 1.5's kernels: not a parameter.
COMPILED_MAX_ALPHA = 0.999
#: The widest rasterizer that gsplat 1.5 compiles.
MAX_CHANNELS = 513
#: Splats that gsplat's index pass takes in one batch.
_BATCH = TILE * TILE
#: Pixels per index pass: a pixel has tens of splats, each about 60 bytes until the heaviest is found.
_PIXELS_PER_PASS = 1 << 18


@dataclass(frozen=True, eq=False)
class Splats:
    """n splats in each of c pictures, as they go from stage to stage; zero radii mark dropped rows."""

    means2d: Float[Tensor, "c n 2"]
    conics: Float[Tensor, "c n 3"]
    depths: Float[Tensor, "c n"]
    opacities: Float[Tensor, "c n"]
    radii: Int[Tensor, "c n 2"]

    @property
    def shown(self) -> Bool[Tensor, "c n"]:
        """Rows that were not dropped."""
        return (self.radii > 0).all(dim=-1)


@dataclass(frozen=True, eq=False)
class Tiles:
    """Which splats may touch which 16x16 tile, front to back."""

    offsets: Int[Tensor, "c lines columns"]
    """Where the list of each tile begins in `rows`."""
    rows: Int[Tensor, " pairs"]
    """picture * n + row of each splat."""


def rasterize(gaussians: Gaussians, cameras: list[Camera], request: RenderRequest) -> Rendering:
    """Draw Gaussians on a CUDA device as seen by c cameras of one size, with a leading camera axis.

    Distorted cameras are projected by this package's unscented transform; gsplat blends.

    Raises:
        BackendUnavailable: there is no CUDA device, or gsplat is missing, not known, or cannot be built.
        ValueError: a parameter is not finite, not float32 or not on a CUDA device, `max_alpha` is not 0.999,
            or more than 513 channels are wanted.
    """
    gsplat = load_gsplat(gaussians.device)
    _check(gaussians, request)
    if not len(gaussians):
        # gsplat divides by the number of Gaussians.
        return rasterize_by_reference(gaussians, cameras, request)
    splats = project_splats(gsplat, gaussians, cameras, request.settings)
    width, height = cameras[0].width, cameras[0].height
    tiles = list_tiles(gsplat, splats, width, height)
    layers = channel_layers(gsplat, gaussians, cameras, splats, request)
    values, alpha = blend(
        gsplat, splats, tiles, torch.cat(list(layers.values()), dim=-1), width, height, request
    )
    ids = None
    if "ids" in request.outputs:
        ids = heaviest_rows(gsplat, splats, tiles, width, height, request.mask)
    widths = {name: layer.shape[-1] for name, layer in layers.items()}
    return rendering_of(widths, Blended(values, alpha, ids), request, splats.means2d, splats.radii)


def load_gsplat(device: torch.device) -> ModuleType:
    """The gsplat package with working kernels; a failed build is remembered, not tried again.

    Raises:
        BackendUnavailable: it cannot run here; the message says what is missing.
        ValueError: it could, but the Gaussians are not on a CUDA device.
    """
    found = _probe()
    if isinstance(found, str):
        raise BackendUnavailable(f"{found}; backend='cpu' or 'reference' draws the same on the processor")
    if device.type != "cuda":
        raise ValueError(
            f"expected Gaussians on a CUDA device, got {device}; move them with gaussians.to('cuda')"
        )
    return found


def available() -> bool:
    """Whether gsplat can draw here; the first call may build its kernels, which takes minutes."""
    return missing() is None


def missing() -> str | None:
    """What keeps gsplat from drawing here, in words; None when nothing does."""
    found = _probe()
    return found if isinstance(found, str) else None


@cache
def _probe() -> ModuleType | str:
    """gsplat, or what is missing."""
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        torch_build = f"PyTorch {torch.__version__} ({build})"
        return f"backend 'cuda' needs an NVIDIA GPU that PyTorch can use, but {torch_build} finds none"
    try:
        import gsplat
    except ImportError as error:
        needs = f"backend 'cuda' needs gsplat {KNOWN_VERSIONS}x"
        return f"{needs}, which cannot be imported ({error}); pip install gsplat==1.5.3"
    if not gsplat.__version__.startswith(KNOWN_VERSIONS):
        return f"backend 'cuda' knows gsplat {KNOWN_VERSIONS}x, but {gsplat.__version__} is installed"
    return _built(gsplat)


def _built(gsplat: ModuleType) -> ModuleType | str:
    """gsplat with its kernels compiled, which the first import on a machine does."""
    needs = f"gsplat {gsplat.__version__} needs nvcc of CUDA {torch.version.cuda}, a C++ compiler and ninja"
    try:
        from gsplat.cuda import _backend
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{needs} to build its kernels, and the build failed: {first}"
    if _backend._C is None:
        return f"{needs} to build its kernels, and no CUDA toolkit is found (set CUDA_HOME)"
    return gsplat


def _check(gaussians: Gaussians, request: RenderRequest) -> None:
    check_finite(gaussians)
    if gaussians.means.dtype != torch.float32:
        raise ValueError(
            f"expected float32 Gaussians for backend 'cuda', got {gaussians.means.dtype};"
            " backend='reference' draws any dtype"
        )
    if request.settings.max_alpha != COMPILED_MAX_ALPHA:
        raise ValueError(
            f"expected max_alpha {COMPILED_MAX_ALPHA} for backend 'cuda', where gsplat has it compiled in,"
            f" got {request.settings.max_alpha}; other backends take any value"
        )


def project_splats(
    gsplat: ModuleType, gaussians: Gaussians, cameras: list[Camera], settings: RenderSettings
) -> Splats:
    """Splats of all pictures: by gsplat's fused kernel if every camera is a pinhole, else one by one."""
    if any(camera.model is not CameraModel.PINHOLE for camera in cameras):
        views = [project(gaussians, camera, settings) for camera in cameras]
        names = ("means2d", "conics", "depths", "opacities", "radii")
        return Splats(*(torch.stack([getattr(view, name) for view in views]) for name in names))
    radii, means2d, depths, conics, compensations = gsplat.fully_fused_projection(
        gaussians.means,
        None,
        gaussians.quats,
        gaussians.scales,
        torch.stack([camera.camera_from_world.to(gaussians.means) for camera in cameras]),
        torch.stack([camera.K.to(gaussians.means) for camera in cameras]),
        cameras[0].width,
        cameras[0].height,
        eps2d=settings.eps2d,
        near_plane=settings.near,
        far_plane=settings.far,
        radius_clip=settings.radius_clip,
        packed=False,
        calc_compensations=settings.antialiased,
        opacities=gaussians.opacities,
    )
    # gsplat leaves dropped rows unset: what is there must reach neither the caller nor a product with zero.
    shown = (radii > 0).all(dim=-1)
    opacities = gaussians.opacities.expand(len(cameras), -1)
    if settings.antialiased:
        opacities = opacities * torch.where(shown, compensations, 0)
    means2d, conics = torch.where(shown[..., None], means2d, 0), torch.where(shown[..., None], conics, 0)
    return Splats(means2d, conics, torch.where(shown, depths, 0), opacities, radii)


def list_tiles(gsplat: ModuleType, splats: Splats, width: int, height: int) -> Tiles:
    """Splats by tile and depth."""
    columns, lines = -(-width // TILE), -(-height // TILE)
    _, keys, rows = gsplat.isect_tiles(
        splats.means2d, splats.radii, splats.depths, TILE, columns, lines, packed=False
    )
    return Tiles(gsplat.isect_offset_encode(keys, len(splats.radii), columns, lines), rows)


def channel_layers(
    gsplat: ModuleType, gaussians: Gaussians, cameras: list[Camera], splats: Splats, request: RenderRequest
) -> dict[str, Float[Tensor, "c n _"]]:
    """What is summed along rays, in the order in which the channels are stored."""
    c = len(cameras)
    if request.colors is not None:
        layers = {"rgb": request.colors.expand(c, -1, -1)}
    else:
        layers = {"rgb": _colors_from_sh(gsplat, gaussians, cameras, splats, request.settings.sh_degree)}
    if "depth" in request.outputs:
        layers["depth"] = splats.depths[..., None]
    if "normals" in request.outputs:
        layers["normals"] = torch.stack([facing_normals(gaussians, camera) for camera in cameras])
    if request.features is not None:
        layers["features"] = request.features.expand(c, -1, -1)
    count = sum(layer.shape[-1] for layer in layers.values())
    if count > MAX_CHANNELS:
        raise ValueError(
            f"expected at most {MAX_CHANNELS} channels for backend 'cuda', got {count}; split the features"
        )
    return layers


def _colors_from_sh(
    gsplat: ModuleType, gaussians: Gaussians, cameras: list[Camera], splats: Splats, degree: int | None
) -> Float[Tensor, "c n 3"]:
    present = degree_of(gaussians.sh.shape[1])
    used = present if degree is None else min(degree, present)
    centers = torch.stack([camera.center.to(gaussians.means) for camera in cameras])
    directions = gaussians.means - centers[:, None]
    sh = gaussians.sh.expand(len(cameras), -1, -1, -1)
    return (gsplat.spherical_harmonics(used, directions, sh, masks=splats.shown) + 0.5).clamp(min=0)


def blend(
    gsplat: ModuleType,
    splats: Splats,
    tiles: Tiles,
    channels: Float[Tensor, "c n channels"],
    width: int,
    height: int,
    request: RenderRequest,
) -> tuple[Float[Tensor, "c h w channels"], Float[Tensor, "c h w"]]:
    """Sums over splats, and alpha; gsplat skips tiles that are masked off, single pixels are cleared here."""
    values, alpha = gsplat.rasterize_to_pixels(
        splats.means2d,
        splats.conics,
        channels,
        splats.opacities,
        width,
        height,
        TILE,
        tiles.offsets,
        tiles.rows,
        # Added later instead: gsplat leaves alpha unset in masked tiles, and its gradient would use it.
        backgrounds=None,
        masks=None if request.mask is None else tile_mask(request.mask),
        packed=False,
        absgrad="absgrad" in request.outputs,
    )
    alpha = alpha[..., 0]
    if request.mask is not None:
        values = torch.where(request.mask[..., None], values, 0)
        alpha = torch.where(request.mask, alpha, 0)
    return values, alpha


def tile_mask(mask: Bool[Tensor, "c h w"]) -> Bool[Tensor, "c lines columns"]:
    """True for 16x16 tiles with at least one pixel to draw."""
    c, h, w = mask.shape
    padded = torch.nn.functional.pad(mask, (0, -w % TILE, 0, -h % TILE))
    return padded.reshape(c, -(-h // TILE), TILE, -(-w // TILE), TILE).any(dim=4).any(dim=2)


@torch.no_grad()
def heaviest_rows(
    gsplat: ModuleType,
    splats: Splats,
    tiles: Tiles,
    width: int,
    height: int,
    mask: Bool[Tensor, "c h w"] | None,
) -> Int[Tensor, "c h w"]:
    """Row of the largest blend weight per pixel, -1 where nothing was hit, from gsplat's lists of hits.

    Goes band by band to bound the memory: a pixel that starts without light is done before its first hit.
    """
    c, n = splats.opacities.shape
    ids = torch.full((c, height, width), -1, dtype=torch.int64, device=splats.radii.device)
    lines = max(1, _PIXELS_PER_PASS // width)
    for picture in range(c):
        for top in range(0, height, lines):
            light = torch.zeros_like(ids, dtype=splats.means2d.dtype)
            light[picture, top : top + lines] = 1
            if mask is not None:
                light = torch.where(mask, light, 0)
            rows, pixels, pictures = gsplat.rasterize_to_indices_in_range(
                0,
                len(tiles.rows) // _BATCH + 1,
                light,
                splats.means2d,
                splats.conics,
                splats.opacities,
                width,
                height,
                TILE,
                tiles.offsets,
                tiles.rows,
            )
            centers = torch.stack([pixels % width, pixels // width], dim=-1) + 0.5
            flat = pictures * n + rows
            alphas = splat_alphas(
                splats.means2d.reshape(-1, 2)[flat] - centers,
                splats.conics.reshape(-1, 3)[flat],
                splats.opacities.reshape(-1)[flat],
                COMPILED_MAX_ALPHA,
            )
            best = heaviest_hits(alphas, pixels, width * height)
            hit = best >= 0
            ids[picture].view(-1)[hit] = rows[best[hit]]
    return ids


def heaviest_hits(
    alphas: Float[Tensor, " hits"], pixels: Int[Tensor, " hits"], count: int
) -> Int[Tensor, " count"]:
    """Index of the hit with the largest weight alpha_i prod_{j<i} (1 - alpha_j) in each of `count` pixels.

    The frontmost of equal ones; -1 for pixels without hits. Hits of a pixel lie together, front to back.
    """
    best = torch.full((count,), -1, dtype=torch.int64, device=pixels.device)
    if not len(pixels):
        return best
    # Double precision: one running sum of logarithms serves all pixels, each takes differences of it.
    logs = (1 - alphas.double()).log()
    before = logs.cumsum(0) - logs
    starts = torch.ones_like(pixels, dtype=torch.bool)
    starts[1:] = pixels[1:] != pixels[:-1]
    weights = alphas.double() * (before - before[starts][starts.cumsum(0) - 1]).exp()
    largest = weights.new_zeros(count).scatter_reduce(0, pixels, weights, "amax")
    leading = (weights == largest[pixels]).nonzero()[:, 0]
    first = torch.full_like(best, len(pixels)).scatter_reduce(0, pixels[leading], leading, "amin")
    return torch.where(first < len(pixels), first, best)
