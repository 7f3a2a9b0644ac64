"""Motion of what bends: one substep of springs, curvature, contact with a Coulomb cone and held particles.

The implicit step is minimised by turns of directions and positions as in Bouaziz et al. 2014, "Projective
dynamics"; contacts press through the same inverse matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .web import Web, through


@dataclass(frozen=True, eq=False)
class Obstacle:
    """What each of n particles may touch: at most one plane each, as it is at the start of a substep."""

    normals: Tensor
    """(n, B, 3) away from what it touches."""
    room: Tensor
    """(n, B) [m] how far it may go against the normal."""
    drift: Tensor | None
    """(n, B, 3) [m] how far what it touches goes by itself; None for rest."""
    friction: Tensor
    """(n, B) Coulomb coefficient."""
    part: int | None = None
    """Row of the rigid or jointed part that feels it."""


@dataclass(frozen=True, eq=False)
class Held:
    """Particles that tools carry: at most g in each of B samples."""

    rows: Tensor
    """(B, g) of the n particles."""
    real: Tensor
    """(B, g) 1, or 0 where there are fewer."""
    inverse: Tensor
    """(B, g, g) of the response of these to forces on these [N/m]."""
    columns: Tensor
    """(B, n, g) response of all to forces on these [m/N]."""

    @classmethod
    def of(cls, web: Web, held: Tensor) -> "Held | None":
        """For a mask (B, n)."""
        most = int(held.sum(-1).max()) if held.numel() else 0
        if most == 0:
            return None
        rows = held.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :most]
        real = held.gather(1, rows).to(web.response)
        response = web.response if web.response.ndim == 3 else web.response.expand(len(held), -1, -1)
        columns = response.gather(2, rows[:, None].expand(-1, held.shape[-1], -1))
        own = columns.gather(1, rows[..., None].expand(-1, -1, most))
        own = own * real[:, None] * real[..., None]
        # A row of no particle answers to nothing.
        size = own.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=1e-6)[:, None, None]
        own = own + torch.diag_embed(1 - real) * size
        return cls(rows, real, torch.linalg.inv(own.double()).to(own), columns * real[:, None])

    def put(self, at: Tensor, wanted: Tensor) -> Tensor:
        """Positions (n, B, 3) after the forces that bring the held ones to where they shall be."""
        index = self.rows[..., None].expand(-1, -1, 3)
        lack = (wanted - at).transpose(0, 1).gather(1, index) * self.real[..., None]
        moved = at + (self.columns @ (self.inverse @ lack)).transpose(0, 1)
        return moved


@dataclass(frozen=True, eq=False)
class Bent:
    """The outcome of a substep."""

    positions: Tensor
    """(n, B, 3)"""
    velocities: Tensor
    """(n, B, 3)"""
    pushes: list[Tensor]
    """Of each obstacle, the force (n, B, 3) [N] on the particles."""


def bent(
    web: Web,
    start: Tensor,
    velocities: Tensor,
    obstacles: list[Obstacle],
    held: Held | None,
    wanted: Tensor | None,
    gravity: float,
    damping: Tensor,
    iterations: int,
    h: float,
) -> Bent:
    """One substep of h seconds.

    Args:
        web: springs and their response, for substeps of this length.
        start: (n, B, 3) [m].
        velocities: (n, B, 3) [m/s].
        obstacles: what they may touch.
        held: which are carried.
        wanted: (n, B, 3) [m] where the held ones shall be.
        gravity: [m/s^2].
        damping: (b, n) [1/s] of motion inside a part.
        iterations: how often the directions are taken anew.
        h: [s].
    """
    # Selecting columns copies nothing and keeps gradients; indexing with a list would gather.
    free = (~web.tied)[:, None, None].to(start)
    fall = torch.stack(
        [
            torch.zeros_like(start[..., 0]),
            torch.zeros_like(start[..., 0]),
            torch.full_like(start[..., 0], -gravity * h * h),
        ],
        -1,
    )
    ahead = start + free * (h * velocities + fall)
    # Directions are taken where things are without their fall: that settles several times sooner.
    at = start + free * (h * velocities)
    forces = [torch.zeros_like(start) for _ in obstacles]
    for _ in range(iterations):
        moved = ahead + web.settled(ahead, at)
        at = moved
        if obstacles:
            at = moved + through(web.response, _sum(forces))
        if held is not None and wanted is not None:
            at = held.put(at, wanted)
        if obstacles:
            new = _pressed(web, start, at, obstacles, forces)
            at = at + through(web.response, _sum(new) - _sum(forces))
            forces = new
            if held is not None and wanted is not None:
                at = held.put(at, wanted)
    for obstacle in obstacles:
        out = -_depth(obstacle, start, at)
        at = at + obstacle.normals * (out.clamp(min=0) * free[..., 0])[..., None]
    at = torch.where(web.tied[:, None, None], start, at)
    after = (at - start) / h
    calm = _calm(obstacles, forces, held, web, len(start[0]))
    return Bent(at, _quiet(web, start, velocities, at, after, damping, calm, h), forces)


def _sum(forces: list[Tensor]) -> Tensor:
    total = forces[0]
    for force in forces[1:]:
        total = total + force
    return total


def _depth(obstacle: Obstacle, start: Tensor, at: Tensor) -> Tensor:
    """(n, B) [m] how far positions stay clear of the obstacle; negative inside."""
    way = at - start if obstacle.drift is None else at - start - obstacle.drift
    return (way * obstacle.normals).sum(-1) + obstacle.room


def _pressed(
    web: Web, start: Tensor, at: Tensor, obstacles: list[Obstacle], forces: list[Tensor]
) -> list[Tensor]:
    """Better contact forces: each lack over what all active contacts together would move there."""
    depths = [_depth(obstacle, start, at) for obstacle in obstacles]
    active = [(depth < 0) | (force.square().sum(-1) > 0) for depth, force in zip(depths, forces)]
    any_active = active[0]
    for mask in active[1:]:
        any_active = any_active | mask
    share = through(web.response.abs(), any_active.to(at)[..., None])[..., 0]
    own = web.response.diagonal(dim1=-2, dim2=-1)
    own = own[:, None] if own.ndim == 1 else own.T
    share = torch.maximum(share, own)
    result = []
    for obstacle, depth, force in zip(obstacles, depths, forces):
        normal = obstacle.normals
        old = (force * normal).sum(-1)
        press = (old - depth / share).clamp(min=0)
        way = at - start if obstacle.drift is None else at - start - obstacle.drift
        slide = way - normal * (way * normal).sum(-1, keepdim=True)
        grip = (force - normal * old[..., None]) - slide / share[..., None]
        size = (grip.square().sum(-1) + 1e-18).sqrt()
        bound = obstacle.friction * press
        grip = grip * (bound / torch.maximum(size, bound + 1e-9))[..., None]
        result.append(normal * press[..., None] + grip)
    return result


def _calm(obstacles: list[Obstacle], forces: list[Tensor], held: Held | None, web: Web, count: int) -> Tensor:
    """(B, m) 1 for parts that nothing touches or holds, whose angular momentum is therefore kept."""
    touched = torch.zeros(count, len(web.masses), dtype=torch.bool, device=web.masses.device)
    for force in forces:
        touched = touched | (force.square().sum(-1) > 0).T
    if held is not None:
        touched = (
            touched | torch.zeros_like(held.columns[:, :, 0]).scatter_add(1, held.rows, held.real).bool()
        )
    touched = touched | web.tied
    return torch.stack([~touched[:, mine].any(-1) for _, mine in web.parts], -1)


def _quiet(
    web: Web,
    start: Tensor,
    before: Tensor,
    at: Tensor,
    after: Tensor,
    damping: Tensor,
    calm: Tensor,
    h: float,
) -> Tensor:
    """Velocities (n, B, 3) with motion inside the parts damped, and the spin of free parts kept."""
    result = []
    for part, (_, mine) in enumerate(web.parts):
        mass = web.masses[mine][..., None]
        total = mass.sum(0)
        center, drift = (mass * at[mine]).sum(0) / total, (mass * after[mine]).sum(0) / total
        arms = at[mine] - center
        moment = (mass * torch.linalg.cross(arms, after[mine] - drift)).sum(0)
        square = (mass * arms.square().sum(-1, keepdim=True)).sum(0)[..., None]
        inertia = square * torch.eye(3).to(at) - torch.einsum(
            "nb,nbi,nbj->bij", mass[..., 0].expand(arms.shape[:2]), arms, arms
        )
        # A straight rope has no inertia about itself: nothing turns it.
        inertia = inertia + 1e-4 * square * torch.eye(3).to(at)
        old_center = (mass * start[mine]).sum(0) / total
        old_drift = (mass * before[mine]).sum(0) / total
        old = (mass * torch.linalg.cross(start[mine] - old_center, before[mine] - old_drift)).sum(0)
        lack = (old - moment) * calm[:, part, None]
        spins = torch.linalg.solve(inertia, torch.stack([moment, lack], -1))
        spin, kept = spins.unbind(-1)
        rigid = drift + torch.linalg.cross(spin.expand_as(arms), arms)
        fade = (-h * damping[:, mine]).exp().T[..., None]
        inner = (after[mine] - rigid) * fade
        free = (~web.tied[mine])[:, None, None].to(at)
        result.append((rigid + inner + torch.linalg.cross(kept.expand_as(arms), arms)) * free)
    return torch.cat(result)
