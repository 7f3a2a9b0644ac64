"""Elasticity of what bends: springs along edges and against curvature, in one matrix inverted beforehand."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..matter.parts import Matter, Part, PartKind
from .parameters import Parameters

#: Sum of stiffness times squared length over all springs, over Young's modulus times volume, for springs in a
#: row, in a plane and in space that lie in all directions alike: uniform uniaxial stress gives the modulus.
_SHARE = {PartKind.ROPE: 1.0, PartKind.CLOTH: 3.0, PartKind.VOLUME: 6.0}
#: Largest stiffness of a cloth's springs over mass per substep squared: with stiffer ones the few iterations
#: of a substep would keep it from folding. It stretches a little more instead.
_STIFFEST = 6.0
#: Factor on the mass of what cannot move.
_TIED = 1e6


@dataclass(frozen=True, eq=False)
class Web:
    """n particles that bend, e springs and c curvatures, for guesses of parameters along b."""

    rows: Tensor
    """(n) among the matter's particles."""
    ends: tuple[Tensor, Tensor]
    """(e), (e): rows of the n that springs join."""
    lengths: Tensor
    """(e) [m] at rest."""
    curves: Tensor
    """(c, n) from positions to curvatures."""
    bends: Tensor
    """(c) [m] length of the curvatures at rest."""
    response: Tensor
    """(n, n), or (b, n, n): how far each particle goes in a substep for a unit force on each [m/N]."""
    pull: Tensor
    """(n, e), or (b, n, e): how far for each spring's lack of length."""
    bend: Tensor
    """(n, c), or (b, n, c): how far for each curvature's excess."""
    masses: Tensor
    """(n, b) [kg]"""
    tied: Tensor
    """(n) bool: what cannot move."""
    parts: tuple[tuple[int, slice], ...]
    """Row of each part that bends, with its rows of the n."""
    radii: Tensor
    """(n) [m]"""

    @classmethod
    def of(cls, matter: Matter, parameters: Parameters, h: float) -> "Web":
        """For substeps of h seconds."""
        parts, rows, first = [], [], 0
        for row, part in matter.of(PartKind.ROPE, PartKind.CLOTH, PartKind.VOLUME):
            count = part.stop - part.start
            parts.append((row, slice(first, first + count)))
            rows.append(torch.arange(part.start, part.stop, device=matter.rest.device))
            first += count
        index = torch.cat(rows)
        like = matter.rest.double()
        place = torch.full((len(like),), -1, device=like.device)
        place[index] = torch.arange(first, device=like.device)
        ends, lengths, springs, curves, bends, stiff = [], [], [], [], [], []
        for row, mine in parts:
            pairs = _springs(matter, matter.parts[row])
            apart = (like[pairs[:, 0]] - like[pairs[:, 1]]).norm(dim=-1).clamp(min=1e-6)
            weight = (parameters.stiffness / parameters.density * parameters.mass)[:, row].double()
            kind, mass = matter.parts[row].kind, max(matter.parts[row].mass, 1e-6)
            # Young's modulus times volume is its ratio to density, times the mass.
            energy = weight[:, None] * mass
            spring = _SHARE[kind] * energy / (max(len(pairs), 1) * apart.square())
            if kind is PartKind.CLOTH:
                inertia = mass * parameters.mass[:, row, None].double() / (len(index[mine]) * h**2)
                spring = torch.minimum(spring, _STIFFEST * inertia)
            springs.append(spring)
            ends.append(place[pairs])
            lengths.append(apart)
            curve = _curvatures(kind, place[pairs], mine, like[index])
            curves.append(curve)
            # A rope is straight at rest: how it lies is chance, and its axis is known too coarsely to tell.
            straight = kind is PartKind.ROPE
            bends.append((curve @ like[index]).norm(dim=-1) * (not straight))
            radius = matter.radii[index[mine]].double().mean().clamp(min=1e-4)
            bending = _bending(kind, energy, radius, apart, mine.stop - mine.start)
            stiff.append(bending.expand(-1, len(curve)))
        pairs, springs, curves, stiff = (
            torch.cat(ends),
            torch.cat(springs, 1),
            torch.cat(curves),
            torch.cat(stiff, 1),
        )
        tied = torch.cat([_tied(matter.parts[row], index[mine]) for row, mine in parts])
        scale = torch.stack([parameters.mass[:, row] for row in matter.owners[index].tolist()])
        masses = matter.masses[index, None] * scale
        difference = like.new_zeros(len(pairs), first)
        difference[torch.arange(len(pairs)), pairs[:, 0]] = 1.0
        difference[torch.arange(len(pairs)), pairs[:, 1]] = -1.0
        heavy = masses.double().T * torch.where(tied, _TIED, 1.0) / h**2
        matrix = torch.diag_embed(heavy) + difference.T @ (springs[..., None] * difference)
        matrix = matrix + curves.T @ (stiff[..., None] * curves)
        response = torch.linalg.inv(matrix)
        pull, bend = response @ (difference.T * springs[:, None]), response @ (curves.T * stiff[:, None])
        one = (lambda value: value[0].float()) if len(response) == 1 else (lambda value: value.float())
        return cls(
            index, (pairs[:, 0], pairs[:, 1]), torch.cat(lengths).float(),
            curves.float(), torch.cat(bends).float(),
            one(response), one(pull), one(bend), masses, tied, tuple(parts), matter.radii[index],
        )  # fmt: skip

    def settled(self, start: Tensor, at: Tensor) -> Tensor:
        """(n, B, 3) how far all go from `start` for the springs, as they are directed `at` (n, B, 3)."""
        a, b = self.ends
        along = at.index_select(0, a) - at.index_select(0, b)
        length = (along.square().sum(-1, keepdim=True) + 1e-18).sqrt()
        lack = along * (self.lengths[:, None, None] / length)
        lack = lack - (start.index_select(0, a) - start.index_select(0, b))
        moved = through(self.pull, lack)
        if len(self.curves):
            bent = through(self.curves, at)
            size = (bent.square().sum(-1, keepdim=True) + 1e-18).sqrt()
            wanted = bent * (self.bends[:, None, None] / size)
            moved = moved + through(self.bend, wanted - through(self.curves, start))
        return moved


def through(matrix: Tensor, values: Tensor) -> Tensor:
    """(i, B, 3) of a matrix (i, k), or one for each sample (B, i, k), with values (k, B, 3)."""
    if matrix.ndim == 2:
        return (matrix @ values.flatten(1)).unflatten(1, values.shape[1:])
    return (matrix @ values.transpose(0, 1)).transpose(0, 1)


def _tied(part: Part, rows: Tensor) -> Tensor:
    if part.fixed is None:
        return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    return part.fixed.to(rows.device) > 0.5


def _springs(matter: Matter, part: Part) -> Tensor:
    """(e, 2) edges that carry tension: of a rope those of its shortest tree, of others all."""
    mine = (matter.edges[:, 0] >= part.start) & (matter.edges[:, 0] < part.stop)
    edges = matter.edges[mine].long()
    if part.kind is not PartKind.ROPE:
        return edges
    lengths = (matter.rest[edges[:, 0]] - matter.rest[edges[:, 1]]).norm(dim=-1)
    root = list(range(len(matter.rest)))

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    kept = []
    for row in lengths.argsort(stable=True).tolist():
        a, b = (top(i) for i in edges[row].tolist())
        if a != b:
            root[a] = b
            kept.append(row)
    return edges[sorted(kept)]


def _curvatures(kind: PartKind, pairs: Tensor, mine: slice, places: Tensor) -> Tensor:
    """(c, n) from positions (n, 3) to the mean ways to the neighbours, where these lie all around."""
    near: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    rows = []
    for i in range(mine.start, mine.stop):
        others = near.get(i, [])
        if kind is PartKind.VOLUME or len(others) < 2 or (kind is PartKind.ROPE and len(others) != 2):
            continue
        row = places.new_zeros(len(places))
        row[others], row[i] = 1.0 / len(others), -1.0
        apart = (places[others] - places[i]).norm(dim=-1).mean()
        # At a cloth's border the mean lies inside.
        if kind is PartKind.ROPE or (row @ places).norm() < 0.15 * apart:
            rows.append(row)
    return torch.stack(rows) if rows else places.new_zeros(0, len(places))


def _bending(kind: PartKind, energy: Tensor, radius: Tensor, apart: Tensor, count: int) -> Tensor:
    """(b, 1) stiffness of a curvature [N/m], from Young's modulus times volume (b, 1).

    A rope of length L has E A = energy / L and E I = E A r^2 / 4; the mean of the ways to both neighbours is
    d^2 / 2 times the curvature, which holds for a length d. A cloth of thickness 2 r has a flexural rigidity
    of E (2 r)^3 / 12 (1 - 1/9); its mean is d^2 / 4 times the curvature's trace.
    """
    if kind is PartKind.ROPE:
        return energy / apart.sum() * radius.square() / apart.mean() ** 3
    return energy * 6 * radius.square() / (count * apart.square().mean().square())
