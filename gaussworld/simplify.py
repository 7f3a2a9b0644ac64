"""Fewer Gaussians that look alike: pairs of near and similar ones become one with the same moments."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .gaussians import DELETED, HIDDEN, LOCKED, MAX_LOGIT, Gaussians
from .neighbors import nearest
from .pose import quats_from_rotation
from .sh import C0

K = 8
SHARE = 0.3
COLOR = 3.0
EPS = 0.1
OP = 'union'
AREA = 'surface'
SHW = 'w'


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Gaussians in the form in which they are merged: moments and weights instead of axes and logits."""

    means: Float[Tensor, "n 3"]
    covariances: Float[Tensor, "n 6"]
    weights: Float[Tensor, " n"]
    opacities: Float[Tensor, " n"]
    sh: Float[Tensor, "n k 3"]
    flags: Tensor
    groups: Tensor
    sources: Tensor
    """Row it came from; -1 once merged... first row."""
    merged: Tensor

    def select(self, rows):
        return _Mixture(*(getattr(self, f).index_select(0, rows) for f in self.__dataclass_fields__))


def area(c):
    xx, xy, xz, yy, yz, zz = c.unbind(1)
    return (xx * yy - xy * xy + xx * zz - xz * xz + yy * zz - yz * yz).clamp(min=1e-30).sqrt()


def six(m):
    return torch.stack([m[:, 0, 0], m[:, 0, 1], m[:, 0, 2], m[:, 1, 1], m[:, 1, 2], m[:, 2, 2]], 1)


def logdet(c, eps):
    xx, xy, xz, yy, yz, zz = c.unbind(1)
    xx, yy, zz = xx + eps, yy + eps, zz + eps
    det = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    return (det.clamp(min=1e-38)).log()


def merged_moments(mi, ci, wi, mj, cj, wj):
    s = wi / (wi + wj)
    d = mi - mj
    x, y, z = d.unbind(1)
    outer = torch.stack([x * x, x * y, x * z, y * y, y * z, z * z], 1)
    mean = mj + s[:, None] * d
    cov = s[:, None] * ci + (1 - s)[:, None] * cj + (s * (1 - s))[:, None] * outer
    return mean, cov


def cost(m, i, j):
    mi, mj = m.means[i], m.means[j]
    ci, cj, wi, wj = m.covariances[i], m.covariances[j], m.weights[i], m.weights[j]
    mean, cov = merged_moments(mi, ci, wi, mj, cj, wj)
    tr = (ci[:, 0] + ci[:, 3] + ci[:, 5]).minimum(cj[:, 0] + cj[:, 3] + cj[:, 5])
    eps = tr * EPS**2
    kl = 0.5 * ((wi + wj) * logdet(cov, eps) - wi * logdet(ci, eps) - wj * logdet(cj, eps))
    dc = (m.sh[i, 0] - m.sh[j, 0]).square().sum(1) * C0**2
    return kl + COLOR * wi * wj / (wi + wj) * dc


def matching(n, i, j, c, passes=4):
    """Pairs, no row twice."""
    order = torch.sort(c, stable=True).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    free = torch.ones(n, dtype=torch.bool)
    chosen = []
    for _ in range(passes):
        best = torch.full((n,), len(order))
        best.scatter_reduce_(0, i, rank, "amin").scatter_reduce_(0, j, rank, "amin")
        mutual = (best[i] == rank) & (best[j] == rank)
        chosen.append(rank[mutual])
        free[i[mutual]] = False
        free[j[mutual]] = False
        left = free[i] & free[j]
        i, j, rank = i[left], j[left], rank[left]
        if not len(i):
            break
    return order[torch.cat(chosen).sort().values]


def round_(m, need):
    n = len(m.means)
    _, rows = nearest(m.means, min(K, n - 1))
    i = torch.arange(n)[:, None].expand_as(rows).flatten()
    j = rows.flatten()
    a, b = torch.minimum(i, j), torch.maximum(i, j)
    keys = (a * n + b).unique()
    i, j = keys // n, keys % n
    c = cost(m, i, j)
    pairs = matching(n, i, j, c)
    take = pairs[: max(1, min(need, int(SHARE * len(pairs)) if SHARE < 1 else need))]
    i, j = i[take], j[take]
    mean, cov = merged_moments(m.means[i], m.covariances[i], m.weights[i], m.means[j], m.covariances[j], m.weights[j])
    wi, wj = m.weights[i], m.weights[j]
    s = (wi / (wi + wj))
    oi, oj = m.opacities[i], m.opacities[j]
    w = wi + wj
    if OP == 'union':
        op = (w / area(cov)).minimum(1 - (1 - oi) * (1 - oj))
    elif OP == 'mass':
        op = (w / area(cov)).clamp(max=.999)
    elif OP == 'max':
        op = torch.maximum(oi,oj)
    fields = {f: getattr(m, f).clone() for f in m.__dataclass_fields__}
    fields['means'][i] = mean
    fields['covariances'][i] = cov
    fields['opacities'][i] = op
    fields['weights'][i] = op * area(cov)
    fields['sh'][i] = m.sh[i] * s[:, None, None] + m.sh[j] * (1 - s)[:, None, None]
    fields['merged'][i] = True
    keep = torch.ones(n, dtype=torch.bool)
    keep[j] = False
    return _Mixture(**fields).select(keep.nonzero()[:, 0])


def simplify(g, count):
    cov = six(g.covariances)
    a = area(cov)
    m = _Mixture(g.means, cov, g.opacities * a, g.opacities, g.sh, g.flags, g.object_ids, torch.arange(len(g)), torch.zeros(len(g), dtype=torch.bool))
    rounds = 0
    while len(m.means) > count:
        m = round_(m, len(m.means) - count)
        rounds += 1
    out = g.select(m.sources)
    c = m.covariances[m.merged]
    full = c[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    val, vec = torch.linalg.eigh(full.double())
    vec = vec * torch.where(torch.linalg.det(vec) < 0, -1, 1)[:, None, None]
    q, ls = out.quats.clone(), out.log_scales.clone()
    q[m.merged] = quats_from_rotation(vec).float()
    ls[m.merged] = (0.5 * val.clamp(min=1e-14).log()).float()
    lo = out.opacity_logits.clone()
    lo[m.merged] = torch.logit(m.opacities[m.merged]).clamp(-MAX_LOGIT, MAX_LOGIT)
    return replace(out, means=m.means, quats=q, log_scales=ls, opacity_logits=lo, sh=m.sh), rounds
