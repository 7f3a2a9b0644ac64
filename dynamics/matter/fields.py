"""Signed distances to solids on grids: by triangles near each point, signed by what lies above it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.neighbors import nearest
from gaussworld.shape import Mesh

#: Samples on a surface by which near triangles are found, and how many of them a point looks at: one that is
#: within so many times their distance of the surface, and others.
_SAMPLES, _NEAR, _BAND, _FAR = 4000, 16, 2.0, 3
#: Of meshes with so few faces all are looked at.
_FEW = 24
#: A ray is moved off the grid by such parts of a cell, so that it does not run along edges.
_ASIDE = (0.0137, 0.0091)


def grid(
    vertices: Float[Tensor, "v 3"], size: int, margin: float
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """[m] first point, and spacing, of a grid of size^3 points about vertices, wider by a margin."""
    low, high = vertices.amin(0) - margin, vertices.amax(0) + margin
    return low, (high - low) / (size - 1)


def grid_points(low: Float[Tensor, "3"], spacing: Float[Tensor, "3"], size: int) -> Float[Tensor, "g 3"]:
    """All points of a grid, x slowest."""
    steps = torch.arange(size).to(low)
    return low + spacing * torch.cartesian_prod(steps, steps, steps)


def distance_field(
    solid: Mesh, parts: tuple[Mesh, ...], low: Float[Tensor, "3"], spacing: Float[Tensor, "3"], size: int
) -> Float[Tensor, "r r r"]:
    """[m] signed distance, negative inside, at grid points (x, y, z).

    Args:
        solid: closed, its faces looking outwards; the parts as one mesh if there are any.
        parts: closed and convex, their union being the solid, which may then overlap itself; empty if it
            does not. Depth inside a union is that inside its deepest part.
        low: the first grid point.
        spacing: between grid points.
        size: grid points along each axis.
    """
    points = grid_points(low, spacing, size)
    apart = surface_distance(points, solid)
    inside = _inside(solid, low, spacing, size).reshape(-1)
    field = torch.where(inside, -apart, apart)
    if len(parts) > 1:
        field[inside] = _depth(points[inside], parts)
    return field.reshape(size, size, size)


def look_up(
    field: Float[Tensor, "r r r"], low: Float[Tensor, "3"], spacing: Float[Tensor, "3"], points: Tensor
) -> Float[Tensor, " n"]:
    """[m] the field between grid points, trilinear; beyond the grid that of its rim."""
    size = field.shape[0]
    at = ((points - low) / spacing).clamp(0, size - 1)
    floor = at.floor().clamp(max=size - 2)
    share, base = at - floor, floor.long()
    total = points.new_zeros(len(points))
    for corner in torch.cartesian_prod(*(torch.tensor([0, 1]),) * 3):
        x, y, z = (base + corner).unbind(1)
        weight = torch.where(corner.bool(), share, 1 - share).prod(1)
        total = total + weight * field[x, y, z]
    return total


def surface_samples(
    triangles: Float[Tensor, "f 3 3"], count: int
) -> tuple[Float[Tensor, "c 3"], Int[Tensor, " c"]]:
    """Points spread over triangles evenly by area, and the row of each one's triangle; always the same.

    The R2 sequence of M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018).
    """
    a, b, c = triangles.unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1).double().cumsum(0)
    steps = torch.arange(count, dtype=torch.float64)
    face = torch.searchsorted(area, (steps + 0.5) / count * area[-1]).clamp(max=len(triangles) - 1)
    u = ((0.5 + steps * 0.7548776662466927) % 1).to(triangles)
    v = ((0.5 + steps * 0.5698402909980532) % 1).to(triangles)
    u, v = torch.where(u + v > 1, 1 - u, u)[:, None], torch.where(u + v > 1, 1 - v, v)[:, None]
    return a[face] + u * (b - a)[face] + v * (c - a)[face], face


def surface_distance(points: Float[Tensor, "n 3"], mesh: Mesh) -> Float[Tensor, " n"]:
    """[m] to the nearest of the triangles that are near by samples of their surface, or of all if few."""
    triangles = mesh.triangles
    if len(triangles) <= _FEW:
        each = [_to_triangles(points, one.expand(len(points), 3, 3)) for one in triangles]
        return torch.stack(each).amin(0)
    samples, face = surface_samples(triangles, _SAMPLES)
    # What is nearest to a point outside is often a corner.
    corner = torch.zeros(len(mesh.vertices), dtype=torch.int64)
    corner[mesh.faces.long().T.reshape(-1)] = torch.arange(len(triangles)).repeat(3)
    used = mesh.faces.long().reshape(-1).unique()
    samples, face = torch.cat([samples, mesh.vertices[used]]), torch.cat([face, corner[used]])
    gaps, rows = nearest(samples, _FAR, points)
    best = _nearest_of(points, triangles, face[rows])
    a, b, c = triangles.unbind(1)
    apart = float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2 / _SAMPLES) ** 0.5
    near = (gaps[:, 0] < _BAND * apart).nonzero()[:, 0]
    if len(near):
        rows = nearest(samples, _NEAR, points[near])[1]
        best[near] = torch.minimum(best[near], _nearest_of(points[near], triangles, face[rows]))
    return best


def _nearest_of(points: Tensor, triangles: Tensor, rows: Int[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Distance of each point to the nearest of its own triangles."""
    return torch.stack([_to_triangles(points, triangles[column]) for column in rows.unbind(1)]).amin(0)


def _to_triangles(points: Float[Tensor, "n 3"], triangles: Float[Tensor, "n 3 3"]) -> Float[Tensor, " n"]:
    """Distance of each point to its triangle: to its plane where it stands over it, else to its edges."""
    a, b, c = triangles.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    over = torch.ones(len(points), dtype=torch.bool)
    least = torch.full((len(points),), torch.inf).to(points)
    for start, end in ((a, b), (b, c), (c, a)):
        edge, offset = end - start, points - start
        over &= (torch.linalg.cross(edge, offset) * normal).sum(1) >= 0
        along = ((offset * edge).sum(1) / edge.square().sum(1).clamp(min=1e-30)).clamp(0, 1)
        least = torch.minimum(least, (offset - along[:, None] * edge).square().sum(1))
    length = normal.norm(dim=1)
    height = ((points - a) * normal).sum(1).abs() / length.clamp(min=1e-30)
    return torch.where(over & (length > 0), height, least.sqrt())


def _inside(solid: Mesh, low: Tensor, spacing: Tensor, size: int) -> Bool[Tensor, "r r r"]:
    """Which grid points have more faces above that look up than such that look down."""
    triangles = ((solid.triangles - low) / spacing).double()
    aside = torch.tensor(_ASIDE, dtype=torch.float64)
    flat = triangles[:, :, :2] - aside
    first = flat.amin(1).ceil().clamp(0, size).long()
    last = (flat.amax(1).floor() + 1).clamp(0, size).long()
    wide = (last - first).clamp(min=0)
    count = wide.prod(1)
    face = torch.repeat_interleave(torch.arange(len(triangles)), count)
    step = torch.arange(len(face)) - (count.cumsum(0) - count)[face]
    x, y = first[face, 0] + step // wide[face, 1], first[face, 1] + step % wide[face, 1]
    a, b, c = (corner - torch.stack([x, y], 1) for corner in flat[face].unbind(1))
    u, v, w = _turn(b, c), _turn(c, a), _turn(a, b)
    hit = ((u >= 0) & (v >= 0) & (w >= 0)) | ((u <= 0) & (v <= 0) & (w <= 0))
    total = u + v + w
    hit &= total != 0
    x, y, u, v, w, total, face = (value[hit] for value in (x, y, u, v, w, total, face))
    za, zb, zc = triangles[face, :, 2].unbind(1)
    height = (u * za + v * zb + w * zc) / total
    # A crossing counts for all grid points below it: add it to the last of them, then sum downwards.
    below = height.ceil().long().clamp(0, size)
    turns = torch.zeros(size, size, size + 1, dtype=torch.float64)
    turns.index_put_((x, y, below), total.sign(), accumulate=True)
    above = turns.flip(2).cumsum(2).flip(2)
    return above[:, :, 1:] > 0.5


def _turn(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _depth(points: Float[Tensor, "n 3"], parts: tuple[Mesh, ...]) -> Float[Tensor, " n"]:
    """Minus the distance to the surface of the convex part in which a point is deepest."""
    deepest = torch.zeros(len(points)).to(points)
    for part in parts:
        a, b, c = part.triangles.unbind(1)
        normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
        kept = normals.norm(dim=1) > 0.5
        normals, offsets = normals[kept], (normals * a).sum(1)[kept]
        near = ((points > part.vertices.amin(0)) & (points < part.vertices.amax(0))).all(1).nonzero()[:, 0]
        if len(near):
            height = (points[near] @ normals.T - offsets).amax(1)
            deepest[near] = torch.minimum(deepest[near], height.clamp(max=0))
    return deepest
