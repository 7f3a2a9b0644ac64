"""The specification: a differentiable rasterizer of Gaussians in plain PyTorch, on any device and dtype.

Every stage is a function of its own; the other rasterizers must give its pictures and its gradients.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..camera import Camera, CameraModel
from ..gaussians import Gaussians
from ..sh import coefficient_count, evaluate_sh
from .contract import Rendering, RenderRequest, RenderSettings, check_finite, facing_normals
from .projection import ALPHA_THRESHOLD, Projected, project_pinhole
from .unscented import project_unscented

#: [px] side of the square tiles in which splats are listed; it decides which pixels a splat may touch.
TILE = 16
#: A pixel is done when the next splat would leave less light than this; that splat is left out.
MIN_TRANSMITTANCE = 1e-4
#: Expected depth divides by at least this much alpha.
MIN_ALPHA = 1e-10


def rasterize(gaussians: Gaussians, cameras: list[Camera], request: RenderRequest) -> Rendering:
    """Draw Gaussians as seen by c cameras of one size; every picture has a leading camera axis.

    Raises:
        ValueError: a parameter of the Gaussians is not finite, or cannot be drawn.
    """
    check_finite(gaussians)
    projections = [project(gaussians, camera, request.settings) for camera in cameras]
    means2d = torch.stack([projected.means2d for projected in projections])
    absgrad = torch.zeros_like(means2d) if "absgrad" in request.outputs else None
    if absgrad is not None:
        means2d.absgrad = absgrad  # pyright: ignore[reportAttributeAccessIssue]
    layers = [channel_layers(gaussians, c, p, request) for c, p in zip(cameras, projections)]
    blended = [
        blend(
            replace(projected, means2d=means2d[index]),
            tile_lists(projected, camera.width, camera.height),
            torch.cat(list(layers[index].values()), dim=-1),
            camera.width,
            camera.height,
            max_alpha=request.settings.max_alpha,
            mask=None if request.mask is None else request.mask[index],
            absgrad=None if absgrad is None else absgrad[index],
        )
        for index, (camera, projected) in enumerate(zip(cameras, projections))
    ]
    widths = {name: layer.shape[-1] for name, layer in layers[0].items()}
    values, alpha, ids = (
        torch.stack([getattr(b, name) for b in blended]) for name in ("values", "alpha", "ids")
    )
    radii = torch.stack([projected.radii for projected in projections])
    return rendering_of(widths, Blended(values, alpha, ids), request, means2d, radii)


def project(gaussians: Gaussians, camera: Camera, settings: RenderSettings) -> Projected:
    """Splats of n Gaussians: EWA for pinhole cameras, the unscented transform for distorted ones."""
    if camera.model is CameraModel.PINHOLE:
        return project_pinhole(gaussians, camera, settings)
    return project_unscented(gaussians, camera, settings)


def colors_from_sh(gaussians: Gaussians, camera: Camera, degree: int | None = None) -> Float[Tensor, "n 3"]:
    """Colour towards the camera, max(SH(mean - camera centre) + 0.5, 0), of the bands up to `degree`."""
    count = gaussians.sh.shape[1] if degree is None else min(coefficient_count(degree), gaussians.sh.shape[1])
    directions = gaussians.means - camera.center.to(gaussians.means)
    return evaluate_sh(gaussians.sh[:, :count], directions).clamp(min=0)


def channel_layers(
    gaussians: Gaussians, camera: Camera, projected: Projected, request: RenderRequest
) -> dict[str, Float[Tensor, "n _"]]:
    """What is summed along rays, in the order in which the channels are stored."""
    colors = request.colors
    if colors is None:
        colors = colors_from_sh(gaussians, camera, request.settings.sh_degree)
    layers = {"rgb": colors}
    if "depth" in request.outputs:
        layers["depth"] = projected.depths[:, None]
    if "normals" in request.outputs:
        layers["normals"] = facing_normals(gaussians, camera)
    if request.features is not None:
        layers["features"] = request.features
    return layers


def rendering_of(
    widths: dict[str, int],
    blended: "Blended",
    request: RenderRequest,
    means2d: Float[Tensor, "c n 2"],
    radii: Int[Tensor, "c n 2"],
) -> Rendering:
    """Split the channels, put the background behind the colour, and divide accumulated depth by alpha.

    Args:
        widths: how many channels each layer has, in the order of storage.
        blended: sums over splats, with a leading camera axis.
        request: says which background and outputs are wanted.
        means2d: handed on.
        radii: handed on.
    """
    alpha = blended.alpha
    pictures = dict(zip(widths, blended.values.split(list(widths.values()), dim=-1)))
    if request.background is not None:
        pictures["rgb"] = pictures["rgb"] + (1 - alpha)[..., None] * request.background[:, None, None, :]
    if "depth" in pictures:
        pictures["depth"] = pictures["depth"][..., 0] / alpha.clamp(min=MIN_ALPHA)
    ids = blended.ids if "ids" in request.outputs else None
    return Rendering(**pictures, alpha=alpha, ids=ids, means2d=means2d, radii=radii)


@dataclass(frozen=True, eq=False)
class TileLists:
    """Which splats may touch which tile, front to back."""

    rows: Int[Tensor, " pairs"]
    """Rows of the splats, tile after tile, within a tile by depth and then by row."""
    starts: Int[Tensor, " tiles_plus_1"]
    """Where each tile's list begins in `rows`, tiles counted row by row; the last entry is its length."""


def tile_lists(projected: Projected, width: int, height: int) -> TileLists:
    """The splats whose rectangle of extents touches each 16x16 tile (Kerbl et al. 2023, section 6).

    A splat is drawn in the whole of every tile that its rectangle touches, and nowhere else.
    """
    columns, lines = -(-width // TILE), -(-height // TILE)
    order = _front_to_back(projected)
    centers = projected.means2d.detach()[order] / TILE
    reach = projected.radii[order].to(centers) / TILE
    limit = centers.new_tensor([columns, lines])
    first = (centers - reach).floor().clamp(min=torch.zeros_like(limit), max=limit).long()
    after = (centers + reach).ceil().clamp(min=torch.zeros_like(limit), max=limit).long()
    spans = after - first
    counts = spans.prod(dim=-1)
    owner = torch.repeat_interleave(torch.arange(len(order), device=order.device), counts)
    within = torch.arange(len(owner), device=order.device) - (counts.cumsum(0) - counts)[owner]
    column = first[owner, 0] + within % spans[owner, 0]
    line = first[owner, 1] + within // spans[owner, 0]
    tiles, by_tile = torch.sort(line * columns + column, stable=True)
    bounds = torch.arange(columns * lines + 1, device=order.device)
    return TileLists(order[owner[by_tile]], torch.searchsorted(tiles, bounds))


def _front_to_back(projected: Projected) -> Int[Tensor, " m"]:
    """Rows that show, by depth; equal depths by row."""
    rows = projected.radii.amax(dim=-1).nonzero()[:, 0]
    return rows[torch.argsort(projected.depths.detach()[rows], stable=True)]


@dataclass(frozen=True, eq=False)
class Blended:
    """What lies over nothing: sums over splats with the weights w = alpha_i prod_{j<i} (1 - alpha_j)."""

    values: Float[Tensor, "*c h w channels"]
    alpha: Float[Tensor, "*c h w"]
    ids: Int[Tensor, "*c h w"] | None
    """Row of the largest weight, the frontmost of equal ones; -1 where nothing was hit."""


def blend(
    projected: Projected,
    lists: TileLists,
    channels: Float[Tensor, "n channels"],
    width: int,
    height: int,
    max_alpha: float = 0.999,
    mask: Bool[Tensor, "height width"] | None = None,
    absgrad: Float[Tensor, "n 2"] | None = None,
) -> Blended:
    """Blend splats front to back, tile by tile (Kerbl et al. 2023, eq. 3).

    Args:
        projected: the splats.
        lists: which of them each tile draws.
        channels: what to sum per splat: colour, depth, normals, features.
        width: of the picture [px].
        height: of the picture [px].
        max_alpha: no splat covers a pixel more than this.
        mask: False where a pixel is left empty.
        absgrad: to which the backward pass adds the absolute per-pixel gradients of `projected.means2d`.
    """
    starts = lists.starts.tolist()
    parts = []
    for tile in range(len(starts) - 1):
        rows = lists.rows[starts[tile] : starts[tile + 1]]
        pixels = _tile_pixels(tile, width, height, mask, rows.device)
        if len(rows) and len(pixels):
            parts.append((pixels, *_blend_tile(projected, channels, rows, pixels, width, max_alpha, absgrad)))
    return _assemble(parts, channels, width, height)


def _tile_pixels(
    tile: int, width: int, height: int, mask: Tensor | None, device: torch.device
) -> Int[Tensor, " p"]:
    """Indices, y * width + x, of the pixels of a tile that are to be drawn."""
    line, column = divmod(tile, -(-width // TILE))
    y = torch.arange(line * TILE, min((line + 1) * TILE, height), device=device)
    x = torch.arange(column * TILE, min((column + 1) * TILE, width), device=device)
    pixels = (y[:, None] * width + x).flatten()
    return pixels if mask is None else pixels[mask.flatten()[pixels]]


def _blend_tile(
    projected: Projected,
    channels: Tensor,
    rows: Int[Tensor, " m"],
    pixels: Int[Tensor, " p"],
    width: int,
    max_alpha: float,
    absgrad: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Values [p, channels], alpha [p] and ids [p] of the pixels of one tile; `rows` are front to back."""
    centers = torch.stack([pixels % width, pixels // width], -1).to(channels) + 0.5

    def sums(
        means2d: Tensor, conics: Tensor, opacities: Tensor, channels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        means = means2d[rows].expand(len(pixels), -1, -1)
        if absgrad is not None and means.requires_grad:
            means.register_hook(partial(_add_absolute, absgrad, rows))
        alphas = splat_alphas(means - centers[:, None], conics[rows], opacities[rows], max_alpha)
        weights = blend_weights(alphas)
        largest, best = weights.detach().max(dim=1)
        return weights @ channels[rows], weights.sum(dim=1), torch.where(largest > 0, rows[best], -1)

    inputs = (projected.means2d, projected.conics, projected.opacities, channels)
    if not torch.is_grad_enabled() or not any(value.requires_grad for value in inputs):
        return sums(*inputs)
    # The p x m intermediates are recomputed in the backward pass: 100k Gaussians would fill many gigabytes.
    return checkpoint(sums, *inputs, use_reentrant=False, preserve_rng_state=False)


def _add_absolute(absgrad: Tensor, rows: Tensor, gradient: Tensor) -> None:
    absgrad.index_add_(0, rows, gradient.abs().sum(dim=0))


def splat_alphas(
    offsets: Float[Tensor, "*b 2"],
    conics: Float[Tensor, "... 3"],
    opacities: Float[Tensor, "..."],
    max_alpha: float,
) -> Float[Tensor, "*b"]:
    """How much splats cover pixels: min(max_alpha, o exp(-sigma)), 0 below 1/255 (Kerbl et al. 2023, sec. 4).

    Args:
        offsets: [px] splat centre minus pixel centre.
        conics: [1/px^2] a, b, c of the inverse 2D covariances, broadcast against the offsets.
        opacities: at the centres, broadcast too.
        max_alpha: the upper bound.
    """
    dx, dy = offsets.unbind(-1)
    a, b, c = conics.unbind(-1)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alphas = (opacities * (-sigma.clamp(min=0)).exp()).clamp(max=max_alpha)
    return torch.where((sigma >= 0) & (alphas >= ALPHA_THRESHOLD), alphas, 0)


def blend_weights(alphas: Float[Tensor, "p m"]) -> Float[Tensor, "p m"]:
    """w_i = alpha_i prod_{j<i} (1 - alpha_j), zero from the first splat that would leave at most 1e-4."""
    after = (1 - alphas).cumprod(dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    return torch.where(after > MIN_TRANSMITTANCE, alphas * before, 0)


def _assemble(parts: list[tuple[Tensor, ...]], channels: Tensor, width: int, height: int) -> Blended:
    """Place the pixels of all tiles in the picture; the others are empty."""
    values = channels.new_zeros(height * width, channels.shape[1])
    alpha = channels.new_zeros(height * width)
    ids = torch.full((height * width,), -1, dtype=torch.int64, device=channels.device)
    if parts:
        where, *columns = (torch.cat(column) for column in zip(*parts, strict=True))
        values, alpha, ids = (
            target.index_put((where,), column)
            for target, column in zip((values, alpha, ids), columns, strict=True)
        )
    return Blended(
        values.reshape(height, width, -1), alpha.reshape(height, width), ids.reshape(height, width)
    )
