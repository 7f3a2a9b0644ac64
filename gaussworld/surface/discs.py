"""Surfaces as Gaussians: flat discs, one for each cell of a division that keeps to edges and to paint."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..gaussians import Gaussians, cat
from ..neighbors import nearest
from ..pose import quats_from_rotation
from .lining import room_below
from .painted import Surface
from .sampling import PER_CELL, Points, points_on

#: How often cells are moved to the middle of what is nearest to them.
ROUNDS = 4
#: What normals that differ by 1, and colours that differ by 1, count in units of the spacing.
NORMAL_WEIGHT, COLOR_WEIGHT = 1.5, 3.0
#: Standard deviation of a disc over that of its cell: narrow keeps the paint sharp where there is a lining
#: below, wide lets nothing shine through.
NARROW, WIDE, LINING = 1.4, 2.4, 2.0
#: Standard deviation across the disc over that along it.
THICKNESS = 0.05
#: A disc is at most so many times as long as wide.
ELONGATION = 4.0
OPAQUE = 0.9995
#: Share of the Gaussians that are the lining, and how much farther than the others they are apart.
BELOW, SPARSER = 0.2, 2.0
#: With fewer Gaussians than these, all are on the surface.
FEWEST_WITH_LINING = 500


@dataclass(frozen=True, eq=False)
class _Cells:
    """A division of points: for each cell the means of its points."""

    positions: Float[Tensor, "n 3"]
    normals: Float[Tensor, "n 3"]
    colors: Float[Tensor, "n 3"]
    spacing: Float[Tensor, " n"]
    owner: Int[Tensor, " m"]
    """The cell of each point."""


def discs(surface: Surface, count: int, generator: torch.Generator | None = None) -> Gaussians:
    """About `count` Gaussians in the surface's frame, which look like it from both of its sides.

    Cells are found as superpixels are (Achanta et al. 2012, "SLIC superpixels"), of points on the surface by
    place, normal and colour, so that they end at creases and at edges of the paint; a disc has the mean and
    the second moments of its cell. A fifth of the discs are a lining just below the surface.

    Args:
        surface: closed or open.
        count: how many; at least 1.
        generator: for the places; default: seed 0.

    Raises:
        ValueError: no area, or a count below 1.
    """
    if count < 1:
        raise ValueError(f"expected at least 1 Gaussian, got {count}")
    generator = generator or torch.Generator().manual_seed(0)
    below = round(count * BELOW) if count >= FEWEST_WITH_LINING else 0
    # What cannot be lined is better spent on the surface.
    unused = round(below * (1 - _lined_share(surface, below))) if below else 0
    upper, normals, spacing = _layer(surface, count - below + unused, generator)
    lined = torch.zeros(len(upper), dtype=torch.bool)
    if below:
        lined = room_below(surface, upper.means, normals, spacing * (SPARSER * 1.3)) != 0
    upper = _widened(upper, torch.where(lined, NARROW, WIDE), torch.where(lined, 0.97, OPAQUE))
    if not bool(lined.any()):
        return upper
    lining, normals, spacing = _layer(surface, below, generator)
    depth = room_below(surface, lining.means, normals, spacing)
    lining = replace(lining, means=lining.means + depth[:, None] * normals).select(depth != 0)
    return cat([upper, _widened(lining, torch.tensor(LINING), torch.tensor(OPAQUE))])


def _lined_share(surface: Surface, below: int) -> float:
    """What share of `below` discs could lie below the surface, asked of a few."""
    few = 300
    points = points_on(surface, few, torch.Generator().manual_seed(1))
    places, normals = points.positions[::PER_CELL], points.normals[::PER_CELL]
    spacing = points.spacing[::PER_CELL] * (few / below) ** 0.5
    return float((room_below(surface, places, normals, spacing) != 0).float().mean())


def _widened(gaussians: Gaussians, width: Tensor, opacity: Tensor) -> Gaussians:
    return replace(
        gaussians,
        log_scales=gaussians.log_scales + width.log()[..., None],
        opacity_logits=torch.logit(opacity).expand(len(gaussians)).clone(),
    )


def _layer(
    surface: Surface, count: int, generator: torch.Generator
) -> tuple[Gaussians, Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Discs as wide as their cells' standard deviations, their normals, and how far they are apart."""
    points = points_on(surface, count, generator)
    cells = _divided(points, count)
    quats, scales = _forms(points, cells)
    opaque, colors = torch.ones(len(scales)), cells.colors.clamp(0, 1)
    made = Gaussians.from_activated(cells.positions, quats, scales.clamp(min=1e-12), opaque, colors)
    return made, cells.normals, cells.spacing


def _divided(points: Points, count: int) -> _Cells:
    """Cells by Lloyd's algorithm (1982), from one point in every `PER_CELL` along a space-filling curve."""
    every = len(points.positions) // count
    start = torch.arange(count) * every + every // 2
    cells = _Cells(
        points.positions[start], points.normals[start], points.colors[start], points.spacing[start], start
    )
    for _ in range(ROUNDS):
        cells = _means(points, _owners(points, cells), len(cells.positions))
    return cells


def _owners(points: Points, cells: _Cells) -> Int[Tensor, " m"]:
    """The cell that is nearest to each point by place, normal and colour, among those nearest by place."""
    k = min(8, len(cells.positions))
    distances, rows = nearest(cells.positions, k, points.positions)
    cost = (distances / points.spacing[:, None]) ** 2
    for weight, own, theirs in (
        (NORMAL_WEIGHT, points.normals, cells.normals),
        (COLOR_WEIGHT, points.colors, cells.colors),
    ):
        cost += weight**2 * (own[:, None] - theirs[rows]).square().sum(-1)
    return rows.gather(1, cost.argmin(1, keepdim=True))[:, 0]


def _means(points: Points, owner: Int[Tensor, " m"], count: int) -> _Cells:
    """The cells of an assignment; those that own nothing are left out."""
    owned = torch.bincount(owner, minlength=count) > 0
    owner = (owned.long().cumsum(0) - 1)[owner]
    count = int(owned.sum())
    # Every point stands for an area of the square of the spacing.
    weights = points.spacing.square()
    total = torch.zeros(count).index_add_(0, owner, weights)

    def mean(values: Tensor) -> Tensor:
        sums = torch.zeros(count, values.shape[1]).index_add_(0, owner, values * weights[:, None])
        return sums / total[:, None]

    normals = torch.nn.functional.normalize(mean(points.normals), dim=1)
    spacing = mean(points.spacing[:, None])[:, 0]
    return _Cells(mean(points.positions), normals, mean(points.colors), spacing, owner)


def _forms(points: Points, cells: _Cells) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 3"]]:
    """Rotations and standard deviations of discs in the tangent planes: shortest axis first."""
    count = len(cells.positions)
    weights = points.spacing.square()
    offset = points.positions - cells.positions[cells.owner]
    products = (offset[:, :, None] * offset[:, None, :] * weights[:, None, None]).reshape(-1, 9)
    total = torch.zeros(count).index_add_(0, cells.owner, weights)
    moments = torch.zeros(count, 9).index_add_(0, cells.owner, products) / total[:, None]
    normals = cells.normals
    flat = torch.eye(3) - normals[:, :, None] * normals[:, None, :]
    moments = flat @ moments.reshape(-1, 3, 3) @ flat
    # A dozen points know a cell's form only roughly: a little of the form it should have is mixed in.
    usual = (cells.spacing**2 / 12)[:, None, None] * flat
    axes, deviations = _principal(0.8 * moments + 0.2 * usual, normals)
    long = deviations[:, 1].clamp(max=cells.spacing)
    short = torch.maximum(deviations[:, 0], long / ELONGATION)
    scales = torch.stack([short * THICKNESS, short, long], 1)
    return quats_from_rotation(axes), scales


def _principal(moments: Tensor, normals: Tensor) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n 2"]]:
    """Right-handed axes (normal, short, long) and the standard deviations along the last two."""
    across = torch.nn.functional.one_hot(normals.abs().argmin(1), 3).float()
    u = torch.nn.functional.normalize(torch.linalg.cross(normals, across), dim=1)
    v = torch.linalg.cross(normals, u)
    a, b, c = (torch.einsum("ni,nij,nj->n", x, moments, y) for x, y in ((u, u), (u, v), (v, v)))
    # The eigenvalues of a symmetric 2x2 matrix, and the direction of the larger.
    half, root = (a + c) / 2, (((a - c) / 2) ** 2 + b * b).sqrt()
    angle = torch.atan2(2 * b, a - c) / 2
    long = angle.cos()[:, None] * u + angle.sin()[:, None] * v
    short = torch.linalg.cross(long, normals)
    deviations = torch.stack([half - root, half + root], 1).clamp(min=0).sqrt()
    return torch.stack([normals, short, long], 2), deviations
