"""Ropes, cloths and soft bodies within a control step: what they meet, and what that does to the bodies."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaussworld.pose import rotation_from_quats
from gaussworld.state import State

from ..matter.parts import Matter
from .bend import Held, Obstacle, bent
from .bodies import Frame, Motion
from .surround import carried_points, close_pairs, ground_obstacle, kept_apart, part_obstacle, tool_obstacles
from .touch import Surroundings
from .web import Web


@dataclass(frozen=True, eq=False)
class Sweep:
    """How the tools go over a substep."""

    before: Tensor
    """(B, a, 7)"""
    after: Tensor
    """(B, a, 7)"""
    grip_before: Tensor
    """(B, a)"""
    grip_after: Tensor
    """(B, a)"""


@dataclass(frozen=True, eq=False)
class Soft:
    """The n particles that bend."""

    web: Web
    positions: Tensor
    """(n, B, 3)"""
    velocities: Tensor
    """(n, B, 3)"""
    damping: Tensor
    """(b, n)"""
    friction: Tensor
    """(n, b)"""
    pairs: tuple[Tensor, Tensor] | None
    """Rows of particles that may come to touch each other."""

    @classmethod
    def start(cls, around: Surroundings, web: Web, state: State, dt: float) -> "Soft":
        """At the start of a control step of `dt` seconds."""
        at = state.particle_positions[:, web.rows].transpose(0, 1).contiguous()
        velocities = state.particle_velocities[:, web.rows].transpose(0, 1).contiguous()
        matter, parameters = around.bodies.matter, around.parameters
        owners = matter.owners[web.rows].long()
        pairs = None
        if around.config.self_contact:
            fastest = min(float(velocities.detach().norm(dim=-1).max()), 2.0)
            pairs = close_pairs(web, matter.rest[web.rows], at, 0.01 + 2 * fastest * dt)
        return cls(
            web, at, velocities, parameters.damping[:, owners], parameters.friction[:, owners].T, pairs
        )

    def moved(
        self,
        around: Surroundings,
        motion: Motion,
        frames: dict[int, Frame],
        sweep: Sweep,
        grasped: Tensor,
        h: float,
    ) -> tuple["Soft", Motion]:
        """One substep of h seconds later, and the bodies as they were pushed."""
        web, at = self.web, self.positions
        held = grasped[..., web.rows]
        carried = Held.of(web, held.any(1)) if bool(held.any()) else None
        wanted = None if carried is None else carried_points(at, held, sweep.before, sweep.after)
        obstacles = [ground_obstacle(around, web, at, self.friction, h)]
        if len(around.shapes):
            grips = sweep.grip_before, sweep.grip_after
            obstacles += tool_obstacles(
                around, web, at, self.friction, sweep.before, sweep.after, grips, held, h
            )
        speeds = around.bodies.speeds(motion)
        for row, frame in frames.items():
            if self._near(around, row, frame):
                twist = frame.twist(speeds) if frame.moves else None
                obstacles.append(part_obstacle(around, web, row, frame, twist, at, self.friction, h))
        config = around.config
        result = bent(
            web, at, self.velocities, obstacles, carried, wanted, config.gravity, self.damping,
            config.bend_iterations, h,
        )  # fmt: skip
        positions, velocities = result.positions, result.velocities
        if self.pairs is not None:
            apart = kept_apart(web, self.pairs, positions)
            positions, velocities = positions + apart, velocities + apart / h
        moved = replace(self, positions=positions, velocities=velocities)
        return moved, _pushed(around, motion, frames, at, obstacles, result.pushes, h)

    def _near(self, around: Surroundings, row: int, frame: Frame) -> bool:
        distance, _ = around.fields(row, frame.local(self.positions.detach().transpose(0, 1)))
        return bool((distance - self.web.radii < 0.02).any())

    def place(self, matter: Matter, poses: list[Tensor], twists: list[Tensor]) -> None:
        """Fill in the poses and twists of objects that bend: their middle says where they are."""
        for row, mine in self.web.parts:
            part = matter.parts[row]
            share = matter.masses[part.rows] / matter.masses[part.rows].sum()
            middle = torch.einsum("n,nbi->bi", share, self.positions[mine])
            drift = torch.einsum("n,nbi->bi", share, self.velocities[mine])
            turn = poses[part.row][:, 3:]
            origin = rotation_from_quats(turn) @ (share @ matter.rest[part.rows])
            poses[part.row] = torch.cat([middle - origin, turn], -1)
            twists[part.row] = torch.cat([drift, torch.zeros_like(drift)], -1)


def _pushed(
    around: Surroundings,
    motion: Motion,
    frames: dict[int, Frame],
    at: Tensor,
    obstacles: list[Obstacle],
    pushes: list[Tensor],
    h: float,
) -> Motion:
    """The bodies after the particles pushed back."""
    bodies, twists = around.bodies, list(motion.twists.unbind(1))
    for obstacle, push in zip(obstacles, pushes):
        if obstacle.part not in bodies.rigid:
            continue
        k, frame = bodies.rigid.index(obstacle.part), frames[obstacle.part]
        impulse = -h * push
        moment = torch.linalg.cross(at - frame.center, impulse).sum(0)
        scale = around.parameters.mass[:, obstacle.part, None]
        inertia = bodies.world_inertias(motion.rotations)[:, k]
        spin = torch.linalg.solve(inertia, moment[..., None])[..., 0] / scale
        twists[k] = twists[k] + torch.cat([impulse.sum(0) / (bodies.masses[k] * scale), spin], -1)
    return replace(motion, twists=torch.stack(twists, 1)) if twists else motion
