"""Contacts of a body with a Coulomb cone, linearised as a stiffness of its six degrees of freedom."""

from dataclasses import dataclass

import torch
from torch import Tensor


def skew(vectors: Tensor) -> Tensor:
    """Matrices (*b, 3, 3) that multiply as the cross product with vectors (*b, 3) from the left."""
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*vectors.shape[:-1], 3, 3)


def _moment_matrix(directions: Tensor) -> Tensor:
    """(10, 36): from 1 x y z xx yy zz xy xz yz of a lever arm to G^T P G, G = [1, -[r]x], P a projection."""
    base = torch.cat([torch.eye(3), torch.zeros(3, 3)], 1)
    arms = [torch.cat([torch.zeros(3, 3), -skew(axis)], 1) for axis in torch.eye(3)]
    P = torch.diag(directions)
    rows = [base.T @ P @ base] + [base.T @ P @ arm + arm.T @ P @ base for arm in arms]
    rows += [arm.T @ P @ arm for arm in arms]
    rows += [arms[a].T @ P @ arms[b] + arms[b].T @ P @ arms[a] for a, b in ((0, 1), (0, 2), (1, 2))]
    return torch.stack(rows).reshape(10, 36)


_ALL = _moment_matrix(torch.ones(3))
_LEVEL = _moment_matrix(torch.tensor([1.0, 1.0, 0.0]))


def _features(arms: Tensor) -> Tensor:
    crossed = arms[..., [0, 0, 1]] * arms[..., [1, 2, 2]]
    return torch.cat([torch.ones_like(arms[..., :1]), arms, arms.square(), crossed], -1)


@dataclass(frozen=True, eq=False)
class Contact:
    """n points at which a part may touch something, over a batch of B."""

    part: int
    """Row of the part whose points or surface these are."""
    other: int | None
    """Row of the part it may touch, or None where that moves by itself: ground, tools, what never moves."""
    arms: Tensor
    """(B, n, 3) [m] from the part's centre of mass, for the friction."""
    rows: Tensor
    """(B, n, 6) what a twist about the centre of mass gives as speed along the normals."""
    wanted: Tensor
    """(B, n) [m/s] lowest relative speed along the normal."""
    stiffness: Tensor
    """(B, 1) [kg] impulse over speed."""
    friction: Tensor
    """(B, n) or (B, 1) Coulomb coefficient."""
    drift: Tensor | None = None
    """(B, n, 3) [m/s] how what it touches moves by itself; None for rest."""
    level: bool = False
    """Whether all normals are upright, so that friction acts in the plane alone."""
    share: Tensor | None = None
    """(B, n) 0 where contact is switched off, else 1; None for everywhere."""


class Linearised:
    """A contact made ready for the iterations of a substep."""

    def __init__(self, contact: Contact, stick_speed: float, guess: Tensor, start: Tensor) -> None:
        """Prepare for iterations.

        Args:
            contact: the points.
            stick_speed: [m/s] below this, friction holds in proportion to speed.
            guess: (B, 6) relative twist that the iterations begin with.
            start: (B, 6) relative twist without any contact.
        """
        self.contact = contact
        self.stick = stick_speed**2
        self.moments = _features(contact.arms)
        self.matrix = (_LEVEL if contact.level else _ALL).to(contact.arms)
        self.columns = contact.rows.transpose(-1, -2)
        self.along = None
        if contact.drift is not None:
            normals = contact.rows[..., :3]
            self.along = (normals * contact.drift).sum(-1)
            self.drive = torch.cat([contact.drift, torch.linalg.cross(contact.arms, contact.drift)], -1)
        # What the first guess does not press but would meet is pressed from the start, though nobody knows
        # yet how much: its friction has to wait, or it would hold things that slide.
        self.met = self.pressures(start)[0] > 0
        # What the last substep left inside is pressed out now as it was then.
        bound = contact.stiffness * contact.wanted.clamp(min=0)
        self.bound = bound if contact.share is None else bound * contact.share

    def pressures(self, twist: Tensor) -> tuple[Tensor, Tensor]:
        """Impulse (B, n) [N s] along each normal at a relative twist (B, 6), and the speed along it."""
        contact = self.contact
        speed = (contact.rows @ twist[..., None])[..., 0]
        if self.along is not None:
            speed = speed - self.along
        pressure = contact.stiffness * (contact.wanted - speed).clamp(min=0)
        return (pressure if contact.share is None else pressure * contact.share), speed

    def rebound(self, twist: Tensor) -> None:
        """From now on friction is bound by the pressures at a twist (B, 6)."""
        self.bound = self.pressures(twist)[0]

    def system(self, twist: Tensor) -> tuple[Tensor, Tensor]:
        """Matrix (B, 6, 6) and vector (B, 6): the contact's impulse at a twist near by is vector - matrix t.

        Friction is the cone's bound, which stays until it is `rebound`, over the sliding speed as it is now:
        iterating this settles at Coulomb's law, and needs no tangent frames.
        """
        contact = self.contact
        pressure, speed = self.pressures(twist)
        sliding = torch.baddbmm(twist[:, None, :3], contact.arms, skew(twist[:, 3:]).transpose(-1, -2))
        if contact.drift is not None:
            sliding = sliding - contact.drift
        if contact.level:
            across = sliding[..., :2].square().sum(-1)
        else:
            across = (sliding.square().sum(-1) - speed.square()).clamp(min=0)
        pushes = (pressure > 0) | self.met
        holding = contact.friction * self.bound * (across + self.stick).rsqrt()
        pushing = contact.stiffness * pushes
        if contact.share is not None:
            pushing = pushing * contact.share
        self.met = torch.zeros_like(self.met)
        excess = pushing if contact.level else pushing - holding
        matrix = (holding[:, None] @ self.moments)[:, 0] @ self.matrix
        matrix = matrix.reshape(-1, 6, 6) + (self.columns * excess[:, None]) @ contact.rows
        drive = pushing * contact.wanted
        if self.along is not None:
            drive = drive + excess * self.along
        vector = (drive[:, None] @ contact.rows)[:, 0]
        if self.along is not None:
            vector = vector + (holding[:, None] @ self.drive)[:, 0]
        return matrix, vector
