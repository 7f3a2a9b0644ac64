"""What points and Gaussians of a bending part hang on: a few particles each, along the part."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.neighbors import nearest
from gaussworld.pose import multiply_quats, quats_from_rotation, rotation_from_quats

#: Particles that each point hangs on, and how many near ones are looked at for them.
HOLDS, _LOOKED_AT = 6, 16
#: Width of the radial basis function in distances between neighbouring particles.
_WIDTH = 0.7
#: Rounds of rotations that make three columns orthogonal.
SWEEPS = 4
#: Columns this alike and this near to a right angle are left as they are: they have no axes of their own.
ROUND = 1e-5
#: [m^2] of lengths whose square root is taken.
TINY = 1e-18


@dataclass(frozen=True, eq=False)
class Binding:
    """n points of a part in its rest frame, and the particles that carry them."""

    points: Float[Tensor, "n 3"]
    """[m]"""
    rows: Int[Tensor, "n k"]
    """Of the part's particles, the nearest first."""
    weights: Float[Tensor, "n k"]
    """They sum to 1."""
    rest: Float[Tensor, "p 3"]
    """[m] the part's particles."""

    @classmethod
    def of(
        cls, points: Float[Tensor, "n 3"], rest: Float[Tensor, "p 3"], edges: Int[Tensor, "e 2"]
    ) -> "Binding":
        """Gaussian weights by distance, over the nearest particles that are at most two edges apart.

        So a point on one leg of a bend does not hang on the other.
        """
        points = points.detach().to(rest)
        count = min(_LOOKED_AT, len(rest))
        gaps, rows = nearest(rest, count, points)
        linked = torch.eye(len(rest), dtype=torch.bool)
        linked[edges[:, 0], edges[:, 1]] = True
        linked = linked | linked.T
        linked = (linked.float() @ linked.float()) > 0
        gaps = gaps.masked_fill(~linked[rows[:, :1], rows], torch.inf)
        gaps, order = gaps.sort(dim=1, stable=True)
        gaps, rows = gaps[:, :HOLDS], rows.gather(1, order)[:, :HOLDS]
        width = _WIDTH * float(nearest(rest, 1)[0].mean()) if len(rest) > 1 else 1.0
        weights = (-gaps.square() / (2 * width**2)).softmax(1)
        return cls(points, rows, weights, rest)

    def blended(self, positions: Tensor, gradients: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the points are, and how their surroundings are turned and stretched.

        Args:
            positions: (*b, p, 3) [m] of the particles.
            gradients: (*b, p, 3, 3) at them.
            turns: (*b, p, 4) unit quaternions at them.

        Returns:
            Positions (*b, n, 3), gradients (*b, n, 3, 3), turns (*b, n, 4).
        """
        shift = positions - (gradients @ self.rest.to(positions)[..., None])[..., 0]
        whole = torch.cat([gradients.flatten(-2), shift], -1)
        flat, weights = self.rows.reshape(-1), self.weights.to(positions)
        held = whole.index_select(-2, flat).unflatten(-2, self.rows.shape)
        mixed = (weights[..., None] * held).sum(-2)
        gradient = mixed[..., :9].unflatten(-1, (3, 3))
        means = (gradient @ self.points.to(positions)[..., None])[..., 0] + mixed[..., 9:]
        quats = turns.index_select(-2, flat).unflatten(-2, self.rows.shape)
        # A quaternion and its negative are one rotation: without the sign they would cancel.
        sign = ((quats * quats[..., :1, :]).sum(-1, keepdim=True) < 0).to(quats)
        turn = (weights[..., None] * (1 - 2 * sign) * quats).sum(-2)
        return means, gradient, turn / turn.norm(dim=-1, keepdim=True).clamp(min=TINY)


def stretched(
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    gradients: Float[Tensor, "n 3 3"],
    turns: Float[Tensor, "n 4"],
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 3"]]:
    """Unit quaternions and logarithms of the scales of Gaussians with covariance F Sigma F^T.

    One-sided Jacobi rotations (Hestenes 1958) turn the stretched axes until they are orthogonal again. They
    start from the axes at rest, so axes stay what they were, and nothing is done to what moves rigidly.

    Args:
        quats: at rest, any length.
        scales: at rest.
        gradients: F.
        turns: the rotation in F, which tells the sign of the quaternions.
    """
    axes = gradients @ (rotation_from_quats(quats) * scales[:, None, :])
    columns = list(axes.unbind(-1))
    for _ in range(SWEEPS):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            columns[i], columns[j] = _upright(columns[i], columns[j])
    a, b, c = columns
    lengths = torch.stack([(x.square().sum(-1) + TINY).sqrt() for x in columns], -1)
    handed = torch.where((torch.linalg.cross(a, b) * c).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    first, second = a / lengths[:, :1], b / lengths[:, 1:2]
    # The third is where the other two say, even if nothing is left of its length.
    third = handed * c / lengths[:, 2:]
    found = quats_from_rotation(torch.stack([first, second, third], -1))
    before = multiply_quats(turns, quats)
    return torch.where((found * before).sum(-1, keepdim=True) < 0, -found, found), lengths.log()


def _upright(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two columns turned in their own plane until they are at a right angle."""
    size = (a * a).sum(-1, keepdim=True) + (b * b).sum(-1, keepdim=True) + TINY
    apart = ((b - a) * (b + a)).sum(-1, keepdim=True) / size
    dot = (a * b).sum(-1, keepdim=True) / size
    round_ = torch.maximum(apart.abs(), dot.abs()) <= ROUND
    apart = torch.where(round_, torch.ones_like(apart), apart)
    dot = torch.where(round_, torch.zeros_like(dot), dot)
    sign = torch.where(apart < 0, -1.0, 1.0).to(apart)
    tangent = 2 * dot * sign / (apart.abs() + (apart * apart + 4 * dot * dot).sqrt())
    cosine = 1 / (1 + tangent * tangent).sqrt()
    sine = cosine * tangent
    return cosine * a - sine * b, sine * a + cosine * b
