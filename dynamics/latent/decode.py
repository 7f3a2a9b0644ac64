"""`Decoder`: the situations of a latent rollout as states - poses, twists, joints, particles, robots."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import pose7_from_pose, pose_from_pose7, quats_from_rotation
from gaussworld.state import State
from gaussworld.world import World

from ..matter.parts import Part
from ..physics.motion import product, rotations
from ..physics.tree import branches, carried, place
from .situation import Follower, Situation


class Decoder:
    """Situations of one world to its states."""

    def __init__(self, world: World, follower: Follower, tools: int) -> None:
        """Find what is carried by joints and tools."""
        self.follower = follower
        tree = branches(world, follower.matter, tools)
        held: set[int] = set()
        for branch in tree:
            if branch.tool is not None or branch.chain or branch.finger or branch.parent in held:
                held.add(branch.row)
        self.tree, self.held = tree, held

    def states(
        self,
        begin: State,
        path: Situation,
        tool_poses: Float[Tensor, "u n a 7"],
        grip: Float[Tensor, "u n a"],
        dt: float,
    ) -> State:
        """The states (u, n) of situations (u, n) that began with a state (n), which stays as it is."""
        u = len(tool_poses)
        poses, twists = (v.expand(u, *v.shape).clone() for v in (begin.object_poses, begin.object_twists))
        joints, rates = (v.expand(u, *v.shape).clone() for v in (begin.joint_positions, begin.joint_rates))
        positions, velocities = list[Tensor](), list[Tensor]()
        for index, part in enumerate(self.follower.parts):
            if part.joint_row is not None:
                joints[..., part.joint_row] = path.joints[..., index]
                rates[..., part.joint_row] = path.rates[..., index]
            if part.kind.bends:
                points, speeds = self._bent(begin, path, part, index, dt)
                shares = self.follower.matter.masses[part.rows]
                shares = shares / shares.sum()
                poses[..., part.row, :3] += shares @ (points - points[:1])
                twists[1:, :, part.row] = torch.cat([shares @ speeds, 0 * (shares @ speeds)], -1)[1:]
            else:
                self._solid(begin, path, part, index, poses, twists)
                points, speeds = self._carried(begin, part, poses, twists)
            positions.append(points)
            velocities.append(speeds)
        joints, rates = self._fingers(joints, rates, grip, dt)
        poses, twists = self._trees(poses, twists, joints, tool_poses, dt)
        time = begin.time + dt * torch.arange(u).to(poses)[:, None]
        kept = {name: getattr(begin, name) for name in ("residual", "grasped")}
        kept = {name: value.expand(u, *value.shape) for name, value in kept.items()}
        return replace(
            begin,
            object_poses=poses,
            object_twists=twists,
            joint_positions=joints,
            joint_rates=rates,
            particle_positions=torch.cat(positions, -2),
            particle_velocities=torch.cat(velocities, -2),
            tool_poses=tool_poses,
            grip=grip,
            time=time,
            **kept,
        )

    def _solid(
        self, begin: State, path: Situation, part: Part, index: int, poses: Tensor, twists: Tensor
    ) -> None:
        """Write the poses and twists of a thing that does not bend; what rests keeps its pose to the bit."""
        turns, centers = path.turns[:, :, index], path.centers[:, :, index]
        moved = (turns != turns[:1]).flatten(-2).any(-1) | (centers != centers[:1]).any(-1)
        levers = (turns @ self.follower.scene.centers[0, index, :, None])[..., 0]
        pose = torch.cat([centers - levers, quats_from_rotation(turns)], -1)
        poses[:, :, part.row] = torch.where(moved[..., None], pose, poses[:, :, part.row])
        spin = path.spins[:, :, index]
        speed = path.velocities[:, :, index] - torch.linalg.cross(spin, levers)
        twists[1:, :, part.row] = torch.cat([speed, spin], -1)[1:]

    def _carried(self, begin: State, part: Part, poses: Tensor, twists: Tensor) -> tuple[Tensor, Tensor]:
        pose, twist = poses[:, :, part.row], twists[:, :, part.row]
        rest, turns = self.follower.matter.rest[part.rows], rotations(pose[..., 3:])
        x, y, z = twist[..., 3:].unbind(-1)
        o = torch.zeros_like(x)
        crossed = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
        # One product for places and one for speeds: a planner asks for many samples of many particles.
        points = rest @ turns.transpose(-1, -2) + pose[..., None, :3]
        speeds = rest @ (crossed @ turns).transpose(-1, -2) + twist[..., None, :3]
        points[0], speeds[0] = (
            getattr(begin, f"particle_{name}")[:, part.rows] for name in ("positions", "velocities")
        )
        return points, speeds

    def _bent(
        self, begin: State, path: Situation, part: Part, index: int, dt: float
    ) -> tuple[Tensor, Tensor]:
        start = begin.particle_positions[:, part.rows]
        moved = path.anchors[:, :, index] - path.anchors[:1, :, index]
        points = self.follower.particles(index, start, moved)
        speeds = torch.cat([begin.particle_velocities[None, :, part.rows], points.diff(dim=0) / dt])
        return points, speeds

    def _fingers(self, joints: Tensor, rates: Tensor, grip: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """Joints of robots' fingers follow the grip."""
        for branch in self.tree:
            if branch.finger and branch.joint is not None and branch.joint_row is not None and grip.shape[-1]:
                open_ = 1 - grip[1:, :, min(branch.tool or 0, grip.shape[-1] - 1)]
                joints[1:, :, branch.joint_row] = branch.joint.limits[1] * open_
                rates[1:, :, branch.joint_row] = joints.diff(dim=0)[:, :, branch.joint_row] / dt
        return joints, rates

    def _trees(
        self, poses: Tensor, twists: Tensor, joints: Tensor, tool_poses: Tensor, dt: float
    ) -> tuple[Tensor, Tensor]:
        """Poses and twists of what is on joints and on tools; at time 0 they stay what they are."""
        if not self.held:
            return poses, twists
        shape, rows = poses.shape[:2], poses.shape[2]
        bases, flat = {}, poses.flatten(0, 1)
        for branch in self.tree:
            if branch.tool is not None:
                base = pose_from_pose7(poses[0, :, branch.row]).expand(shape[0], -1, -1, -1)
                tool = tool_poses[..., branch.tool, :]
                bases[branch.row] = carried(base, tool[:1].expand_as(tool), tool).flatten(0, 1)
        free = {row: pose_from_pose7(flat[:, row]) for row in range(rows) if row not in self._rows}
        placed = place(self.tree, free, joints.flatten(0, 1), bases).poses
        for row in sorted(self.held):
            poses[1:, :, row] = pose7_from_pose(placed[row]).unflatten(0, shape)[1:]
            twists[1:, :, row] = _between(poses[:-1, :, row], poses[1:, :, row], dt)
        return poses, twists

    @property
    def _rows(self) -> set[int]:
        return {branch.row for branch in self.tree}


def _between(before: Tensor, after: Tensor, dt: float) -> Tensor:
    """(*b, 6) mean twist from one pose (*b, 7) to the next."""
    back = torch.cat([before[..., 3:4], -before[..., 4:]], -1)
    turn = product(after[..., 3:], back)
    turn = torch.where(turn[..., :1] < 0, -turn, turn)
    sine = (turn[..., 1:].square().sum(-1, keepdim=True) + 1e-24).sqrt()
    ratio = 2 * torch.atan2(sine, turn[..., :1]) / sine
    return torch.cat([after[..., :3] - before[..., :3], ratio * turn[..., 1:]], -1) / dt
