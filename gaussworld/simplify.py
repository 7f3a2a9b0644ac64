"""Fewer Gaussians that look alike: near and similar pairs become one Gaussian with the same moments."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .gaussians import DELETED, HIDDEN, LOCKED, MAX_LOGIT, Gaussians
from .neighbors import nearest
from .pose import quats_from_rotation
from .sh import C0

#: Each Gaussian may merge with one of so many nearest ones.
NEIGHBORS = 8
#: What a squared difference of colour costs, in nats for a unit of weight.
COLOR_COST = 10.0
#: Thickness, in parts of the smaller Gaussian's size, below which shapes do not differ.
THINNEST = 0.03
#: So often pairs that are each other's best are taken out before neighbours are looked for anew.
_PASSES = 4


@dataclass(frozen=True, eq=False)
class _Mixture:
    """m Gaussians of one object as they are merged: moments and weights instead of axes and logits."""

    means: Float[Tensor, "m 3"]
    covariances: Float[Tensor, "m 6"]
    """xx, xy, xz, yy, yz, zz."""
    weights: Float[Tensor, " m"]
    """Opacity times area: what a Gaussian covers."""
    opacities: Float[Tensor, " m"]
    sh: Float[Tensor, "m k 3"]
    rows: Int[Tensor, " m"]
    """The first row that went into each."""
    merged: Bool[Tensor, " m"]

    def select(self, rows: Tensor) -> "_Mixture":
        return _Mixture(*(getattr(self, field.name).index_select(0, rows) for field in fields(self)))

    def __len__(self) -> int:
        return len(self.means)


def simplify(gaussians: Gaussians, count: int) -> Gaussians:
    """Exactly `count` Gaussians that look as much like these as pairwise merging can make them.

    In a few rounds each Gaussian is compared with its nearest ones, and pairs that cost least become one:
    mean, covariance and harmonics by weight, so that the first two moments of a pair stay (Runnalls 2007,
    "Kullback-Leibler approach to Gaussian mixture reduction", eq. 2-4). The weight is opacity times area, as
    in Kerbl et al. 2024 ("A hierarchical 3D Gaussian representation", section 4.1). The same input gives the
    same output.

    Deleted Gaussians go first, without a trace. Locked ones stay as they are, and so do all that are merged
    with none. Nothing merges across objects, nor what is hidden with what is shown. A merged Gaussian has
    the place in the order, and the flags, of its first one.

    Args:
        gaussians: in any frame, the same for all.
        count: how many are wanted.

    Raises:
        ValueError: there are not that many, or fewer are wanted than locked ones and objects allow.
    """
    gaussians = gaussians.detach().select((gaussians.flags & DELETED) == 0)
    locked = (gaussians.flags & LOCKED) != 0
    groups = _groups(gaussians, locked)
    least = int(locked.sum()) + len(groups)
    if not least <= count <= len(gaussians):
        raise ValueError(
            f"expected a count from {least} (locked Gaussians, and one per object) to {len(gaussians)},"
            f" got {count}"
        )
    mixtures = [_mixture(gaussians, rows) for rows in groups]
    while (excess := sum(map(len, mixtures)) + int(locked.sum()) - count) > 0:
        mixtures = _merge_round(mixtures, excess)
    return _assembled(gaussians, locked, mixtures)


def _groups(gaussians: Gaussians, locked: Tensor) -> list[Tensor]:
    """Rows that may merge with each other: of one object, and alike hidden or shown."""
    key = gaussians.object_ids.long() * 2 + ((gaussians.flags & HIDDEN) != 0)
    free = (~locked).nonzero()[:, 0]
    order = free[torch.sort(key[free], stable=True).indices]
    sizes = key[order].unique_consecutive(return_counts=True)[1].tolist()
    return list(order.split(sizes)) if len(order) else []


def _mixture(gaussians: Gaussians, rows: Tensor) -> _Mixture:
    part = gaussians.select(rows)
    xx, xy, xz, _, yy, yz, _, _, zz = part.covariances.flatten(1).unbind(dim=1)
    covariances = torch.stack([xx, xy, xz, yy, yz, zz], dim=1)
    # Not zero, so that shares of two that cover nothing are numbers.
    weights = (part.opacities * _areas(covariances)).clamp(min=1e-30)
    nothing = torch.zeros_like(rows, dtype=torch.bool)
    return _Mixture(part.means, covariances, weights, part.opacities, part.sh, rows, nothing)


def _merge_round(mixtures: list[_Mixture], excess: int) -> list[_Mixture]:
    """Merge the cheapest disjoint pairs of all objects, at most `excess` of them."""
    found = [_pairs(mixture) for mixture in mixtures]
    owner = torch.cat([torch.full((len(costs),), k) for k, (_, costs) in enumerate(found)])
    cheapest = torch.sort(torch.cat([costs for _, costs in found]).cpu(), stable=True).indices[:excess]
    taken = torch.zeros(len(owner), dtype=torch.bool)
    taken[cheapest] = True
    masks = taken.split([len(costs) for _, costs in found])
    return [
        _merge(mixture, pairs[mask.to(pairs.device)]) if bool(mask.any()) else mixture
        for mixture, (pairs, _), mask in zip(mixtures, found, masks)
    ]


def _pairs(m: _Mixture) -> tuple[Int[Tensor, "p 2"], Float[Tensor, " p"]]:
    """Disjoint pairs of neighbours, cheap ones preferred, and what they cost."""
    if len(m) < 2:
        return torch.zeros(0, 2, dtype=torch.long), torch.zeros(0)
    _, near = nearest(m.means, min(NEIGHBORS, len(m) - 1))
    first = torch.arange(len(m), device=near.device)[:, None].expand_as(near)
    low, high = torch.minimum(first, near), torch.maximum(first, near)
    # Each pair once: found from its lower row, or from the higher one if that is not known to the lower.
    known = (low * len(m) + high).flatten().unique()
    pairs = torch.stack([known // len(m), known % len(m)], dim=1)
    costs = _costs(m, *pairs.unbind(dim=1))
    chosen = _disjoint(pairs, costs, len(m))
    return pairs[chosen], costs[chosen]


def _disjoint(pairs: Int[Tensor, "p 2"], costs: Float[Tensor, " p"], count: int) -> Int[Tensor, " q"]:
    """Pairs that are each other's cheapest, repeated among what is left: no row is there twice."""
    order = torch.sort(costs, stable=True).indices
    left = pairs[order]
    ranks = torch.arange(len(order), device=order.device)
    chosen: list[Tensor] = []
    for _ in range(_PASSES):
        best = torch.full((count,), len(order), device=order.device)
        best.scatter_reduce_(0, left[:, 0], ranks, "amin").scatter_reduce_(0, left[:, 1], ranks, "amin")
        mutual = (best[left] == ranks[:, None]).all(dim=1)
        chosen.append(ranks[mutual])
        used = torch.zeros(count, dtype=torch.bool, device=order.device)
        used[left[mutual].flatten()] = True
        free = ~used[left].any(dim=1)
        left, ranks = left[free], ranks[free]
    return order[torch.cat(chosen)]


def _costs(m: _Mixture, i: Tensor, j: Tensor) -> Float[Tensor, " p"]:
    """What merging loses: Runnalls' bound on the divergence (2007, eq. 21), and the scatter of colour.

    Half of w log|P| - w_i log|P_i| - w_j log|P_j|. A little thickness is added to all three, below which
    a flat Gaussian's shape does not show.
    """
    wi, wj, a, b = m.weights[i], m.weights[j], m.covariances[i], m.covariances[j]
    share = wi / (wi + wj)
    _, merged = _moments(m, i, j, share)
    sizes = torch.minimum(a[:, 0] + a[:, 3] + a[:, 5], b[:, 0] + b[:, 3] + b[:, 5])
    blur = sizes * THINNEST**2
    shape = (wi + wj) * _log_det(merged, blur) - wi * _log_det(a, blur) - wj * _log_det(b, blur)
    color = (m.sh[i, 0] - m.sh[j, 0]).square().sum(dim=1) * C0**2
    return 0.5 * shape + COLOR_COST * share * wj * color


def _moments(m: _Mixture, i: Tensor, j: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of pairs, the first with its share of the weight (Runnalls 2007, eq. 3 and 4)."""
    apart, share = m.means[i] - m.means[j], share[:, None]
    x, y, z = apart.unbind(dim=1)
    between = torch.stack([x * x, x * y, x * z, y * y, y * z, z * z], dim=1)
    inside = share * m.covariances[i] + (1 - share) * m.covariances[j]
    return m.means[j] + share * apart, inside + share * (1 - share) * between


def _merge(m: _Mixture, pairs: Int[Tensor, "p 2"]) -> _Mixture:
    """The first of each pair becomes both, the second goes."""
    i, j = pairs.unbind(dim=1)
    weights = m.weights[i] + m.weights[j]
    share = m.weights[i] / weights
    means, covariances = _moments(m, i, j, share)
    areas = _areas(covariances)
    # What is covered stays, but nothing gets more opaque than the two behind each other.
    both = 1 - (1 - m.opacities[i]) * (1 - m.opacities[j])
    opacities = torch.minimum(weights / areas, both)
    share = share[:, None, None]
    sh = share * m.sh[i] + (1 - share) * m.sh[j]
    merged = torch.ones_like(i, dtype=torch.bool)
    rows = torch.minimum(m.rows[i], m.rows[j])
    new = _Mixture(means, covariances, opacities * areas, opacities, sh, rows, merged)
    old = {field.name: getattr(m, field.name) for field in fields(_Mixture)}
    put = {name: value.index_copy(0, i, getattr(new, name)) for name, value in old.items()}
    kept = torch.ones(len(m), dtype=torch.bool, device=i.device)
    kept[j] = False
    return _Mixture(**put).select(kept.nonzero()[:, 0])


def _assembled(gaussians: Gaussians, locked: Tensor, mixtures: list[_Mixture]) -> Gaussians:
    """Gaussians again, in the order of their first rows; only merged ones are written anew."""
    fixed = locked.nonzero()[:, 0]
    rows = torch.cat([fixed, *(m.rows for m in mixtures)])
    out = gaussians.select(rows)
    at = torch.cat([torch.zeros_like(locked[fixed]), *(m.merged for m in mixtures)]).nonzero()[:, 0]
    if len(at):
        parts = [m.select(m.merged.nonzero()[:, 0]) for m in mixtures]
        new = _Mixture(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(_Mixture)))
        out = _written(out, at, new)
    return out.select(torch.sort(rows).indices)


def _written(out: Gaussians, at: Tensor, new: _Mixture) -> Gaussians:
    """Principal axes and logits of merged moments in place of rows."""
    full = new.covariances[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3).double()
    squares, axes = torch.linalg.eigh(full)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    log_scales = 0.5 * squares.clamp(min=1e-30).log()
    logits = torch.logit(new.opacities.double()).clamp(-MAX_LOGIT, MAX_LOGIT)
    return replace(
        out,
        means=out.means.index_copy(0, at, new.means),
        quats=out.quats.index_copy(0, at, quats_from_rotation(axes).to(out.quats)),
        log_scales=out.log_scales.index_copy(0, at, log_scales.to(out.log_scales)),
        opacity_logits=out.opacity_logits.index_copy(0, at, logits.to(out.opacity_logits)),
        sh=out.sh.index_copy(0, at, new.sh),
    )


def _areas(covariances: Float[Tensor, "m 6"]) -> Float[Tensor, " m"]:
    """Of a face: sqrt(a^2 b^2 + a^2 c^2 + b^2 c^2) for deviations a, b and c."""
    xx, xy, xz, yy, yz, zz = covariances.double().unbind(dim=1)
    minors = xx * yy - xy * xy + xx * zz - xz * xz + yy * zz - yz * yz
    return minors.clamp(min=1e-60).sqrt().to(covariances)


def _log_det(covariances: Float[Tensor, "p 6"], blur: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Of covariances with `blur` on the diagonal; in double precision, because a flat one's cancels."""
    xx, xy, xz, yy, yz, zz = covariances.double().unbind(dim=1)
    xx, yy, zz = xx + blur, yy + blur, zz + blur
    minors = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    return minors.clamp(min=1e-300).log().to(covariances)
