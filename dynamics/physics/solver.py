"""`ContactSolver`: the default physics of the prior, a control step as a few implicit substeps in torch."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from gaussworld.pose import (
    invert_quats,
    multiply_quats,
    pose7_from_pose,
    pose_from_pose7,
    transform_points,
)
from gaussworld.state import State
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..matter.parts import Matter
from ..tool import Tool
from .bodies import Bodies, Extras, Frame, Motion, relative, solve
from .compiled import CompiledContacts, fits
from .contact import Contact, Linearised
from .grasp import Grip, Scene, held_motion
from .lookup import FieldLookup, GroundLookup
from .motion import rotations, tool_points, ways
from .parameters import Parameters
from .settings import PriorConfig
from .soft import Soft, Sweep
from .touch import Near, Surroundings, ToolMotion, somewhere
from .tree import carried, pose_of
from .web import Web


class ContactSolver:
    """One world's physics; nothing in it changes after it was made."""

    def __init__(
        self,
        world: World,
        matter: Matter,
        tools: tuple[Tool, ...],
        parameters: Parameters,
        config: PriorConfig,
    ) -> None:
        self.matter, self.tools, self.config = matter, tools, config
        self.bodies = Bodies.of(world, matter, len(tools))
        self.parameters = parameters.rows()
        self._webs: dict[float, Web] = {}
        self.around = Surroundings(
            self.bodies,
            FieldLookup.of(matter.fields),
            GroundLookup.of(matter.ground),
            tool_points(tools, config.tool_spacing, matter.rest),
            tools,
            self.parameters,
            config,
        )

    def step(self, state: State, tool_poses: Tensor, grip: Tensor | None, dt: float) -> State:
        """The state `dt` [s] later, for a state with one batch axis.

        Args:
            state: at the start.
            tool_poses: (B, a, 7) at the end.
            grip: (B, a) at the end; None leaves it.
            dt: [s]
        """
        # Without what bends all operators are short; only the kernel gains from more threads.
        with nullcontext() if self.matter.bending else one_torch_thread():
            return self._step(state, tool_poses, grip, dt)

    def _step(self, state: State, tool_poses: Tensor, grip: Tensor | None, dt: float) -> State:
        count, h = self.config.substeps, dt / self.config.substeps
        hand = Grip.start(self.around, state, state.grip if grip is None else grip)
        poses = ways(state.tool_poses, tool_poses, count)
        grips = hand.ways(count)
        points = self.around.tools.at(poses, grips)
        motion = self.motion(state)
        frames, _ = self.bodies.frames(motion)
        pairs = self.around.pairs(frames, 0.03 + self._fastest(motion) * dt)
        near = self.around.near(frames, motion, points, dt)
        soft = None if not self.matter.bending else Soft.start(self.around, self.web(h), state, dt)
        for s in range(count):
            tools = ToolMotion(points[s], (points[s + 1] - points[s]) / h)
            at = None if soft is None else soft.positions
            hand = hand.closed(
                self.around, Scene(frames, None if soft is None else soft.web, at, poses[s]), tools, grips[s]
            )
            motion = self._substep(motion, frames, tools, near, pairs, hand, poses[s], poses[s + 1], h)
            if soft is not None:
                sweep = Sweep(poses[s], poses[s + 1], grips[s], grips[s + 1])
                soft, motion = soft.moved(self.around, motion, frames, sweep, hand.grasped, h)
            if s + 1 < count:
                frames, _ = self.bodies.frames(motion)
        return self._finished(state, motion, soft, tool_poses, hand, dt)

    def web(self, h: float) -> Web:
        """Springs for substeps of h seconds; made once, but for parameters that are being identified."""
        learned = torch.is_grad_enabled() and any(
            getattr(self.parameters, name).requires_grad for name in ("stiffness", "density", "mass")
        )
        if learned:
            return Web.of(self.matter, self.parameters, h)
        if h not in self._webs:
            self._webs[h] = Web.of(self.matter, self.parameters, h)
        return self._webs[h]

    def _fastest(self, motion: Motion) -> float:
        speeds = motion.twists[..., :3].detach().norm(dim=-1)
        return min(float(speeds.max()), 5.0) if speeds.numel() else 0.0

    def _substep(
        self,
        motion: Motion,
        frames: dict[int, Frame],
        tools: ToolMotion,
        near: Near,
        pairs: list[tuple[int, int]],
        hand: Grip,
        before: Tensor,
        after: Tensor,
        h: float,
    ) -> Motion:
        bodies, around = self.bodies, self.around
        if not bodies.size:
            return motion
        matrix = bodies.mass_matrix(motion, frames, self.parameters)
        matrix = matrix.expand(len(motion.joints), -1, -1)
        speeds = bodies.speeds(motion)
        start = speeds + h * bodies.fall(frames, matrix, self.parameters, self.config.gravity)
        free = {row: share for row in near.tools if (share := hand.free(around, row)) is not None}
        matrix, start, speeds = hand.hold(around, motion, frames, matrix, start, speeds, before, after, h)
        extras = self._extras(motion, matrix, h)
        if fits(around, matrix, start, speeds, tools.points):
            compiled = self.compiled
            speeds, touched = compiled(matrix, start, speeds, frames, tools, near, pairs, free, extras, h)
            moved = compiled.moved(motion, speeds, touched, h)
        else:
            contacts = self._contacts(frames, tools, near, pairs, free, h)
            speeds, met = solve(matrix, start, speeds, contacts, extras, self.config)
            moved = bodies.moved(motion, speeds, self._touched(met, speeds), h)
        return held_motion(around, hand, motion, moved, before, after)

    @cached_property
    def compiled(self) -> CompiledContacts:
        """The same contacts without gradients."""
        return CompiledContacts.of(self.around)

    def _contacts(
        self,
        frames: dict[int, Frame],
        tools: ToolMotion,
        near: Near,
        pairs: list[tuple[int, int]],
        free: dict[int, Tensor],
        h: float,
    ) -> list[tuple[Contact, Tensor | None]]:
        """All contacts there may be, with the maps from speeds to their twists."""
        around = self.around
        contacts = [around.on_ground(row, frames[row], rows, h) for row, rows in somewhere(near.ground)]
        contacts += [
            around.on_tools(row, frames[row], tools, rows, h, free.get(row))
            for row, rows in somewhere(near.tools)
        ]
        contacts += [around.on_part(a, frames[a], b, frames[b], h) for a, b in pairs]
        return [
            (
                contact,
                relative(frames[contact.part], None if contact.other is None else frames[contact.other]),
            )
            for contact in contacts
        ]

    def _touched(self, met: list[Linearised], like: Tensor) -> Tensor:
        """(B, r) which rigid parts touch more than the ground."""
        rigid = self.bodies.rigid
        pressed = torch.zeros(len(like), len(rigid), dtype=torch.bool, device=like.device)
        for linearised in met:
            contact = linearised.contact
            if contact.level:
                continue
            touched = (linearised.bound > 0).any(-1)
            mine = torch.tensor([row in (contact.part, contact.other) for row in rigid], device=like.device)
            pressed = pressed | (touched[:, None] & mine.bool())
        return pressed

    def _extras(self, motion: Motion, matrix: Tensor, h: float) -> Extras | None:
        """Damping, friction and limits of joints."""
        bodies, first = self.bodies, 6 * len(self.bodies.rigid)
        if not bodies.moving_joints:
            return None
        weights = matrix.diagonal(dim1=-2, dim2=-1)
        rows = list(bodies.moving_joints)
        mine = {branch.joint_row: branch.row for branch in bodies.tree}
        part_of = {part.row: row for row, part in enumerate(self.matter.parts)}
        parts = [part_of.get(mine[row], 0) for row in rows]
        inertia = weights[:, first:]
        damping = h * inertia * self.parameters.damping[:, parts]
        dry = h * inertia * self.parameters.joint_friction[:, parts]
        at = motion.joints[:, rows]
        low, high = ((limit[rows] - at) / h for limit in bodies.limits)
        return Extras(
            _behind(first, damping), _behind(first, dry),
            _behind(first, low, -1e6), _behind(first, high, 1e6),
            _behind(first, self.config.contact_stiffness * inertia), self.config.stick_speed,
        )  # fmt: skip

    def motion(self, state: State) -> Motion:
        """The bodies' part of a state with one batch axis."""
        rows = [self.matter.parts[row].row for row in self.bodies.rigid]
        poses, twists = state.object_poses[:, rows], state.object_twists[:, rows]
        turns = poses[..., 3:] / poses[..., 3:].square().sum(-1, keepdim=True).sqrt()
        arms = (rotations(turns) @ self.bodies.offsets[..., None])[..., 0]
        speeds = twists[..., :3] + torch.linalg.cross(twists[..., 3:], arms)
        twists = torch.cat([speeds, twists[..., 3:]], -1)
        return Motion(
            poses[..., :3] + arms, turns, twists, state.joint_positions, state.joint_rates, rotations(turns)
        )

    def bases(self, state: State, tool_poses: Tensor) -> dict[int, Tensor]:
        """Poses (B, 4, 4) of the robots' bases when the tools of a state are at other poses."""
        result = {}
        for branch in self.bodies.tree:
            if branch.tool is not None:
                base = pose_of(state.object_poses[:, branch.row])
                result[branch.row] = carried(
                    base, state.tool_poses[:, branch.tool], tool_poses[:, branch.tool]
                )
        return result

    def _finished(
        self,
        state: State,
        motion: Motion,
        soft: Soft | None,
        tool_poses: Tensor,
        hand: Grip,
        dt: float,
    ) -> State:
        motion = self._with_fingers(motion, hand.grip, dt)
        _, placed = self.bodies.frames(motion, self.bases(state, tool_poses))
        poses, twists = list(state.object_poses.unbind(1)), list(state.object_twists.unbind(1))
        for branch in self.bodies.tree:
            pose = pose7_from_pose(placed[branch.row])
            twists[branch.row] = _twist_between(poses[branch.row], pose, dt)
            poses[branch.row] = pose
        for k, row in enumerate(self.bodies.rigid):
            part = self.matter.parts[row]
            arms = (motion.rotations[:, k] @ self.bodies.offsets[k, :, None])[..., 0]
            twist = motion.twists[:, k]
            speed = twist[:, :3] - torch.linalg.cross(twist[:, 3:], arms)
            poses[part.row] = torch.cat([motion.centers[:, k] - arms, motion.turns[:, k]], -1)
            twists[part.row] = torch.cat([speed, twist[:, 3:]], -1)
        if soft is not None:
            soft.place(self.matter, poses, twists)
        stacked = torch.stack(poses, 1), torch.stack(twists, 1)
        positions, velocities = self.carried_particles(state, soft, *stacked)
        return replace(
            state,
            object_poses=stacked[0],
            object_twists=stacked[1],
            joint_positions=motion.joints,
            joint_rates=motion.rates,
            particle_positions=positions,
            particle_velocities=velocities,
            tool_poses=tool_poses,
            grip=hand.grip,
            grasped=hand.grasped,
            time=state.time + dt,
        )

    def _with_fingers(self, motion: Motion, grip: Tensor, dt: float) -> Motion:
        """Joints of robots' fingers follow the grip."""
        positions = motion.joints
        fingers = [branch for branch in self.bodies.tree if branch.finger]
        if not fingers or not grip.shape[-1]:
            return motion
        columns = list(positions.unbind(1))
        for branch in fingers:
            if branch.joint is not None and branch.joint_row is not None:
                columns[branch.joint_row] = branch.joint.limits[1] * (
                    1 - grip[:, min(branch.tool or 0, grip.shape[-1] - 1)]
                )
        after = torch.stack(columns, 1)
        return replace(motion, joints=after, rates=motion.rates + (after - positions) / dt)

    def carried_particles(
        self, state: State, soft: Soft | None, poses: Tensor, twists: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Positions and velocities (B, p, 3), where parts do not bend as poses (B, o, 7) and twists say."""
        bending = {} if soft is None else dict(soft.web.parts)
        positions, velocities = [], []
        for row, part in enumerate(self.matter.parts):
            if soft is not None and row in bending:
                positions.append(soft.positions[bending[row]].transpose(0, 1))
                velocities.append(soft.velocities[bending[row]].transpose(0, 1))
                continue
            pose, twist = pose_from_pose7(poses[:, part.row]), twists[:, part.row]
            points = transform_points(pose, self.matter.rest[part.rows].expand(len(pose), -1, 3))
            arms = points - pose[:, None, :3, 3]
            positions.append(points)
            velocities.append(
                twist[:, None, :3] + torch.linalg.cross(twist[:, None, 3:].expand_as(arms), arms)
            )
        if not positions:
            return state.particle_positions, state.particle_velocities
        return torch.cat(positions, 1), torch.cat(velocities, 1)


def _behind(count: int, values: Tensor, fill: float = 0.0) -> Tensor:
    """(B, d): `count` columns of a number before the values (B, j)."""
    pad = torch.full((len(values), count), fill, dtype=values.dtype, device=values.device)
    return torch.cat([pad, values], -1)


def _twist_between(before: Tensor, after: Tensor, dt: float) -> Tensor:
    """(B, 6) mean twist from one pose (B, 7) to the next."""
    turn = multiply_quats(after[:, 3:], invert_quats(before[:, 3:]))
    turn = torch.where(turn[:, :1] < 0, -turn, turn)
    sine = (turn[:, 1:].square().sum(-1, keepdim=True) + 1e-24).sqrt()
    ratio = 2 * torch.atan2(sine, turn[:, :1]) / sine
    return torch.cat([after[:, :3] - before[:, :3], ratio * turn[:, 1:]], -1) / dt
