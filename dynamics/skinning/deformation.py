"""How the surroundings of a bending part's particles turn and stretch, from where the particles are."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from gaussworld.pose import invert_quats, multiply_quats, quats_from_rotation, rotation_from_quats

from ..matter.parts import PartKind

#: A neighbourhood with less of its longest extent across than this is a sheet, or a line; squared.
_FLAT = 0.03
#: A rope whose particles keep their places to this part of its bends has turned as a whole; one that is bent
#: less than this, squared, is straight.
_RIGID, _STRAIGHT = 0.05, 1e-6
_TINY = 1e-12
#: Newton steps towards the rotation in a matrix; each doubles the digits.
_STEPS = 8


@runtime_checkable
class Deformation(Protocol):
    """Of one part: its particles' positions in the world to what happens around each of them."""

    def __call__(self, positions: Float[Tensor, "*b p 3"]) -> tuple[Tensor, Tensor]:
        """Gradients F (*b, p, 3, 3) from the rest frame to the world, and their rotations (*b, p, 4).

        Rotations are quaternions wxyz, whose sign is that of the part's rotation at the start where they are
        near it. Differentiable.
        """
        ...


def deformation_of(
    rest: Float[Tensor, "p 3"], edges: Int[Tensor, "e 2"], kind: PartKind, start: Float[Tensor, "3 3"]
) -> Deformation:
    """The deformation of a part that bends.

    Args:
        rest: [m] particles in the rest frame.
        edges: pairs of rows that are neighbours.
        kind: of the part; a rope's particles are in order.
        start: the rotation from the rest frame to the world at the start: what a rope's roll is measured by.
    """
    turn = quats_from_rotation(start)
    if len(rest) == 1:
        return _Ball(turn)
    if kind is PartKind.ROPE or len(rest) == 2:
        return _Rope.of(rest, turn)
    return _Sheet.of(rest, edges) if _is_flat(rest, edges, kind) else _Solid.of(rest, edges)


@dataclass(frozen=True, eq=False)
class _Ball:
    """One particle says nothing of turns."""

    start: Float[Tensor, "4"]

    def __call__(self, positions: Float[Tensor, "*b p 3"]) -> tuple[Tensor, Tensor]:
        turns = self.start.to(positions).expand(*positions.shape[:-1], 4)
        return rotation_from_quats(turns), turns


@dataclass(frozen=True, eq=False)
class _Around:
    """Neighbours of each particle, padded with itself, and how much each counts."""

    rows: Int[Tensor, "p m"]
    weights: Float[Tensor, "p m"]
    arms: Float[Tensor, "p m 3"]
    """[m] from the particle to its neighbours at rest."""

    @classmethod
    def of(cls, rest: Tensor, edges: Tensor) -> "_Around":
        count = len(rest)
        both = torch.cat([edges, edges.flip(1)])
        both = both[both[:, 0].argsort(stable=True)]
        degree = both[:, 0].bincount(minlength=count)
        place = torch.arange(len(both)) - (degree.cumsum(0) - degree)[both[:, 0]]
        rows = torch.arange(count)[:, None].repeat(1, max(1, int(degree.max())))
        rows[both[:, 0], place] = both[:, 1]
        arms = rest[rows] - rest[:, None]
        lengths = arms.norm(dim=-1)
        there = lengths > 0
        typical = (lengths.sum(1) / there.sum(1).clamp(min=1))[:, None].clamp(min=_TINY)
        # Near neighbours say more about a place than far ones do.
        weights = torch.where(there, (-((lengths / typical) ** 2)).exp(), 0.0) / typical**2
        return cls(rows, weights.double(), arms.double())

    @property
    def moments(self) -> Float[Tensor, "p 3 3"]:
        """Second moments of the neighbours at rest."""
        return torch.einsum("pm,pmi,pmj->pij", self.weights, self.arms, self.arms)

    def moved(self, positions: Tensor) -> Tensor:
        """(*b, p, m, 3) [m] from each particle to its neighbours now."""
        return (
            positions[..., self.rows.reshape(-1), :].unflatten(-2, self.rows.shape) - positions[..., None, :]
        )


def _is_flat(rest: Tensor, edges: Tensor, kind: PartKind) -> bool:
    if kind is PartKind.CLOTH or len(rest) < 4:
        return True
    spans = torch.linalg.eigvalsh(_Around.of(rest, edges).moments)
    return bool((spans[:, 0] < _FLAT**2 * spans[:, 2]).any())


@dataclass(frozen=True, eq=False)
class _Solid:
    """Neighbours in all directions: moving least squares (Mueller et al. 2004, "Point based animation")."""

    around: _Around
    slopes: Float[Tensor, "p m 3"]

    @classmethod
    def of(cls, rest: Tensor, edges: Tensor) -> "_Solid":
        around = _Around.of(rest, edges)
        inverse = torch.linalg.inv(around.moments)
        arms = around.arms * around.weights[..., None]
        return cls(around, arms @ inverse)

    def __call__(self, positions: Float[Tensor, "*b p 3"]) -> tuple[Tensor, Tensor]:
        gradient = torch.einsum("...pmi,pmj->...pij", self.around.moved(positions.double()), self.slopes)
        return gradient.to(positions), quats_from_rotation(nearest_rotation(gradient)).to(positions)


@dataclass(frozen=True, eq=False)
class _Sheet:
    """Neighbours in a plane: they tell two columns; the third stays a unit normal."""

    around: _Around
    slopes: Float[Tensor, "p m 2"]
    axes: Float[Tensor, "p 3 3"]
    """Columns: two in the sheet, and its normal, right-handed."""

    @classmethod
    def of(cls, rest: Tensor, edges: Tensor) -> "_Sheet":
        around = _Around.of(rest, edges)
        spans, axes = torch.linalg.eigh(around.moments)
        # Eigenvectors, so that what sticks out of the plane does not tilt the two columns.
        first, second = axes[..., 2], axes[..., 1]
        axes = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
        flat = around.arms @ axes[..., :2]
        spans = torch.stack([spans[:, 2], spans[:, 1]], -1)
        least = (_FLAT**2 * spans[:, :1]).clamp(min=_TINY)
        slopes = flat * around.weights[..., None] / spans.maximum(least)[:, None]
        return cls(around, slopes, axes)

    def __call__(self, positions: Float[Tensor, "*b p 3"]) -> tuple[Tensor, Tensor]:
        columns = torch.einsum("...pmi,pmj->...pij", self.around.moved(positions.double()), self.slopes)
        a, b = columns.unbind(-1)
        u, v = _unit(a), _unit(b)
        # The right angle nearest to both.
        middle, across = _unit(u + v), _unit(u - v)
        first, second = (middle + across) * 0.5**0.5, (middle - across) * 0.5**0.5
        normal = _unit(torch.linalg.cross(first, second))
        back = self.axes.transpose(-1, -2)
        turns = quats_from_rotation(torch.stack([first, second, normal], -1) @ back)
        return (torch.stack([a, b, normal], -1) @ back).to(positions), turns.to(positions)


@dataclass(frozen=True, eq=False)
class _Rope:
    """A chain: tangents tell two of three angles; the frames roll as little as possible along it.

    Parallel transport from one end (Bishop 1975, "There is more than one way to frame a curve") leaves the
    roll of the whole. A rope that kept its shape has turned with it. Else its roll is the least towards the
    start: which way a rope rolled cannot be seen from its particles, and following its bends would flip it
    over when a bend to the left becomes one to the right.
    """

    rest: Float[Tensor, "p 3"]
    tangents: Float[Tensor, "p 3"]
    transport: Float[Tensor, "p 4"]
    lengths: Float[Tensor, " p"]
    start: Float[Tensor, "4"]
    bent: float
    """How far it is from straight: the share of the extent across its tangents, squared."""

    @classmethod
    def of(cls, rest: Tensor, start: Tensor) -> "_Rope":
        rest, start = rest.double(), start.double()
        tangents = _tangents(rest)
        arms = rest - rest.mean(0)
        across = arms - tangents * (arms * tangents).sum(-1, keepdim=True)
        share = float(across.square().sum() / arms.square().sum().clamp(min=_TINY))
        return cls(arms, tangents, _transported(tangents), _lengths(rest), start, share)

    def __call__(self, positions: Float[Tensor, "*b p 3"]) -> tuple[Tensor, Tensor]:
        points = positions.double()
        tangents, start = _tangents(points), self.start.expand(*points.shape[:-2], 4)
        before = rotated(start, self.tangents[0])
        root = _product(_between(before, tangents[..., 0, :]), start)[..., None, :]
        back = invert_quats(self.transport)
        turns = _product(_product(_transported(tangents), root), back)
        half = self._roll(points - points.mean(-2, keepdim=True), tangents, turns)[..., None, None] / 2
        rolls = torch.cat([half.cos().expand_as(tangents[..., :1]), half.sin() * tangents], -1)
        turns = _product(rolls, turns)
        turns = turns / turns.norm(dim=-1, keepdim=True)
        longer = (_lengths(points) / self.lengths - 1)[..., None, None]
        stretch = torch.eye(3).to(points) + longer * self.tangents[:, :, None] * self.tangents[:, None, :]
        gradient = rotation_from_quats(turns) @ stretch
        return gradient.to(positions), torch.where(turns[..., :1] < 0, -turns, turns).to(positions)

    def _roll(self, arms: Tensor, tangents: Tensor, turns: Tensor) -> Tensor:
        """(*b) [rad] by which all frames roll about their tangents."""
        turned = rotated(turns, self.rest)
        along = tangents * (turned * tangents).sum(-1, keepdim=True)
        across = turned - along
        side = torch.linalg.cross(tangents, across)
        whole = torch.stack([(across * arms).sum((-1, -2)), (side * arms).sum((-1, -2))], -1)
        whole = whole / (whole.square().sum(-1, keepdim=True) + _TINY**2).sqrt()
        fitted = along + whole[..., None, :1] * across + whole[..., None, 1:] * side
        misfit = (fitted - arms).square().sum((-1, -2)) / self.rest.square().sum().clamp(min=_TINY)
        # A change as large as the bends are leaves nothing of what they say.
        share = min(1.0, self.bent / _STRAIGHT) * (-misfit / (_RIGID**2 * self.bent + _TINY)).exp()[..., None]
        since = _product(turns, invert_quats(self.start))
        w, v = since[..., 0], (since[..., 1:] * tangents).sum(-1)
        least = torch.stack([(w * w - v * v).sum(-1), (-2 * w * v).sum(-1)], -1)
        least = least / (least.square().sum(-1, keepdim=True) + _TINY).sqrt()
        mixed = share * whole + (1 - share) * least
        return torch.atan2(mixed[..., 1], mixed[..., 0] + _TINY)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Rotations `a` after rotations `b`; both broadcast."""
    return multiply_quats(*torch.broadcast_tensors(a, b))


def rotated(quats: Float[Tensor, "*b 4"], vectors: Float[Tensor, "*c 3"]) -> Float[Tensor, "*d 3"]:
    """Vectors turned by unit quaternions; both broadcast."""
    axis = quats[..., 1:].broadcast_to(torch.broadcast_shapes(quats[..., 1:].shape, vectors.shape))
    twice = 2 * torch.linalg.cross(axis, vectors.expand_as(axis))
    return vectors + quats[..., :1] * twice + torch.linalg.cross(axis, twice)


def nearest_rotation(matrices: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """The rotation in matrices, by Newton's iteration (Higham 1986, "Computing the polar decomposition").

    Unlike that of a singular value decomposition its gradient is finite for rotations too. What is squashed
    flat or turned inside out keeps the turn of its first two columns.
    """
    size = matrices.square().sum((-1, -2), keepdim=True).add(_TINY).sqrt() / 3**0.5
    upright = _upright(matrices / size)
    sound = (_determinant(matrices)[..., None, None] > 1e-3 * size**3) & (size > 1e-6)
    turn = torch.where(sound, matrices / size, upright)
    for _ in range(_STEPS):
        turn = 0.5 * (turn + _cofactors(turn) / _determinant(turn)[..., None, None])
    return turn


def _upright(matrices: Tensor) -> Tensor:
    """Right-handed axes, the first along the first column and the second in the plane of the first two."""
    axes = torch.eye(3).to(matrices)
    u, v = matrices[..., 0], matrices[..., 1]
    first = _unit(torch.where(u.square().sum(-1, keepdim=True) > 1e-8, u, axes[0]))
    side = v - first * (first * v).sum(-1, keepdim=True)
    # Any direction across will do where the second column says nothing.
    other = axes[first.detach().abs().argmin(-1)]
    other = other - first * (first * other).sum(-1, keepdim=True)
    second = _unit(torch.where(side.square().sum(-1, keepdim=True) > 1e-8, side, other))
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def _cofactors(m: Tensor) -> Tensor:
    a, b, c = m.unbind(-1)
    return torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -1)


def _determinant(m: Tensor) -> Tensor:
    a, b, c = m.unbind(-1)
    return (a * torch.linalg.cross(b, c)).sum(-1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().sum(-1, keepdim=True) + _TINY).sqrt()


def _tangents(points: Tensor) -> Tensor:
    """Unit directions along a chain at each of its points: between those before and after."""
    steps = points[..., 1:, :] - points[..., :-1, :]
    steps = normalize(steps, dim=-1, eps=1e-9)
    inner = steps[..., 1:, :] + steps[..., :-1, :]
    # Where a chain turns back on itself the step before says where it goes.
    inner = inner + 1e-6 * steps[..., :-1, :]
    return normalize(torch.cat([steps[..., :1, :], inner, steps[..., -1:, :]], -2), dim=-1, eps=1e-9)


def _lengths(points: Tensor) -> Tensor:
    """[m] of the steps before and after each point of a chain, on average."""
    steps = (points[..., 1:, :] - points[..., :-1, :]).square().sum(-1).add(_TINY).sqrt()
    return (torch.cat([steps[..., :1], steps], -1) + torch.cat([steps, steps[..., -1:]], -1)) / 2


def _between(a: Tensor, b: Tensor) -> Tensor:
    """The smallest rotations (*b, 4) from unit vectors to others."""
    quats = torch.cat([1 + (a * b).sum(-1, keepdim=True) + 1e-7, torch.linalg.cross(a, b)], -1)
    return quats / (quats.square().sum(-1, keepdim=True) + _TINY).sqrt()


def _transported(tangents: Tensor) -> Tensor:
    """Rotations (*b, p, 4) that carry a frame from the first tangent to each, by as little as possible."""
    steps = _between(tangents[..., :-1, :], tangents[..., 1:, :])
    one = torch.zeros_like(steps[..., :1, :])
    one[..., 0] = 1
    total, shift = torch.cat([one, steps], -2), 1
    # Products of ever longer runs: the number of rounds is the logarithm of the number of steps.
    while shift < total.shape[-2]:
        later = multiply_quats(total[..., shift:, :], total[..., :-shift, :])
        total, shift = torch.cat([total[..., :shift, :], later], -2), 2 * shift
    return total / total.norm(dim=-1, keepdim=True)
