"""From pushes along edges to motion: momentum is kept exactly, and solid things stay solid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.state import State

from ..matter.parts import PartKind
from ..physics.motion import rotations, turned
from .graph import Graph
from .layout import Hinge, Layout
from .touch import Bodies


@dataclass(frozen=True, eq=False)
class Correction:
    """What N bodies of b samples do besides what was predicted: k = 0 for places, 1 for velocities."""

    linear: Float[Tensor, "k b N 3"]
    """[m/s] of centres; for places the mean over the step."""
    angular: Float[Tensor, "k b s 3"]
    """[rad/s] of solid bodies."""
    joints: tuple[Float[Tensor, "k b"], ...]
    """[rad/s] or [m/s] of each hinge."""

    def scaled(self, share: float) -> "Correction":
        """The same, so many times as large."""
        joints = tuple(share * value for value in self.joints)
        return Correction(share * self.linear, share * self.angular, joints)


def momenta(graph: Graph, strengths: Float[Tensor, "E k d"]) -> tuple[Tensor, Tensor]:
    """(G, k, 3) [kg m/s] what each body gets, and (G, k, 3) [kg m^2/s] about its centre of mass.

    What one end of an edge gets, the other gives.
    """
    size, kinds = graph.size, strengths.shape[1]
    impulse = graph.masses[:, None, None] * (strengths @ graph.directions)
    arms = (graph.target_arms, graph.source_arms)
    linear = impulse.new_zeros(size + 1, kinds, 3)
    angular = impulse.new_zeros(size + 1, kinds, 3)
    for sign, row, arm in ((1.0, graph.target, arms[0]), (-1.0, graph.source, arms[1])):
        push = sign * impulse
        linear = linear.index_add(0, row, push)
        angular = angular.index_add(0, row, torch.linalg.cross(arm[:, None].expand_as(push), push))
    return linear[:-1], angular[:-1]


def correction_of(layout: Layout, bodies: Bodies, linear: Tensor, angular: Tensor) -> Correction:
    """What the bodies of one world do, given their momenta (b * N, k, 3)."""
    count, size = bodies.centers.shape[:2]
    linear = linear.unflatten(0, (count, size)).movedim(2, 0)
    angular = angular.unflatten(0, (count, size)).movedim(2, 0)
    solid = len(layout.solid)
    pushed = linear / layout.masses[:, None]
    inertia = bodies.turns @ layout.inertias.to(pushed) @ bodies.turns.transpose(-1, -2)
    # A thin thing has no inertia about its own length that could be divided by.
    floor = 1e-2 * inertia.diagonal(dim1=-1, dim2=-2).mean(-1)[..., None, None] + 1e-9
    inertia = inertia + floor * torch.eye(3).to(inertia)
    spin = torch.linalg.solve(inertia, angular[:, :, :solid, :, None])[..., 0] if solid else angular[:, :, :0]
    spin, hinged = spin.clone(), []
    free = torch.cat([pushed.new_ones(solid), layout.free.to(pushed)])
    pushed = pushed * free[:, None]
    for hinge in layout.hinges:
        hinged.append(_along(hinge, bodies, linear[:, :, hinge.node], angular[:, :, hinge.node]))
    for hinge in layout.hinges:
        pushed = pushed.clone()
        pushed[:, :, hinge.node] = 0
        spin[:, :, hinge.node] = 0
    return Correction(_untwisted(layout, bodies, pushed, linear, angular), spin, tuple(hinged))


def _along(hinge: Hinge, bodies: Bodies, linear: Tensor, angular: Tensor) -> Tensor:
    """(k, b) what a joint feels."""
    axis, origin = axis_of(hinge, bodies)
    if hinge.joint.kind == "prismatic":
        return (linear * axis).sum(-1) / hinge.inertia
    arm = bodies.centers[:, hinge.node] - origin
    torque = angular + torch.linalg.cross(arm.expand_as(linear), linear)
    return (torque * axis).sum(-1) / hinge.inertia


def axis_of(hinge: Hinge, bodies: Bodies) -> tuple[Tensor, Tensor]:
    """(b, 3) direction of the axis, and (b, 3) [m] a point on it, in the world."""
    turn = bodies.turns[:, hinge.node]
    axis = turn @ turn.new_tensor(hinge.joint.axis)
    arm = turn.new_tensor(hinge.joint.origin) - hinge.part.center.to(turn)
    return axis, bodies.centers[:, hinge.node] + turn @ arm


def _untwisted(
    layout: Layout, bodies: Bodies, pushed: Tensor, linear: Tensor, angular: Tensor
) -> Float[Tensor, "k b N 3"]:
    """The velocities of particles without the turn that edges inside a thing gave it.

    An edge that does not act along itself makes a torque which nothing outside takes up; the turn that has
    just this angular momentum is taken off again.
    """
    if not layout.bent:
        return pushed
    result, row = pushed, len(layout.solid)
    for part in layout.bent:
        rows = slice(row, row + part.stop - part.start)
        row = rows.stop
        mass = layout.masses[rows, None]
        at = bodies.centers[:, rows]
        middle = (mass * at).sum(1, keepdim=True) / mass.sum()
        arms = at - middle
        # Torques of single particles are what the halves of an edge made off its line.
        torque = angular[:, :, rows].sum(2)
        square = arms.square().sum(-1)[..., None, None] * torch.eye(3).to(arms)
        inertia = (mass[..., None] * (square - arms[..., :, None] * arms[..., None, :])).sum(1)
        inertia = inertia + 1e-3 * inertia.diagonal(dim1=-1, dim2=-2).mean(-1)[..., None, None] * torch.eye(
            3
        ).to(arms)
        spin = torch.linalg.solve(inertia, torque[..., None])[..., 0]
        turn = torch.linalg.cross(
            spin[:, :, None].expand(*spin.shape[:2], len(mass), 3), arms.expand(len(spin), *arms.shape)
        )
        result = torch.cat([result[:, :, : rows.start], result[:, :, rows] + turn, result[:, :, row:]], 2)
    assert linear.shape == pushed.shape
    return result


def corrected(layout: Layout, bodies: Bodies, after: State, change: Correction, dt: float) -> State:
    """A predicted state with a correction; what was not corrected keeps its bits."""
    poses, twists = after.object_poses.clone(), after.object_twists.clone()
    positions, velocities = after.particle_positions.clone(), after.particle_velocities.clone()
    joints, rates = after.joint_positions.clone(), after.joint_rates.clone()
    for node, part in enumerate(layout.solid):
        if part.kind is PartKind.JOINT:
            continue
        spin, end = change.angular[0, :, node], change.angular[1, :, node]
        center = bodies.centers[:, node] + dt * change.linear[0, :, node]
        quats = turned(poses[:, part.row, 3:], dt * spin)
        turn = rotations(quats)
        arm = (turn @ layout.offsets[node, :, None])[..., 0]
        twist = twists[:, part.row]
        old_arm = (bodies.turns[:, node] @ layout.offsets[node, :, None])[..., 0]
        rate = twist[:, 3:] + end
        speed = (
            twist[:, :3] + torch.linalg.cross(twist[:, 3:], old_arm) + change.linear[1, :, node]
        ) - torch.linalg.cross(rate, arm)
        poses[:, part.row] = torch.cat([center - arm, quats], -1)
        twists[:, part.row] = torch.cat([speed, rate], -1)
    for hinge, moved in zip(layout.hinges, change.joints):
        _hinged(hinge, bodies, poses, twists, joints, rates, moved, dt)
    rows, solid = layout.particles, len(layout.solid)
    positions[:, rows] += dt * change.linear[0, :, solid:]
    velocities[:, rows] += change.linear[1, :, solid:]
    state = replace(
        after,
        object_poses=poses,
        object_twists=twists,
        joint_positions=joints,
        joint_rates=rates,
        particle_positions=positions,
        particle_velocities=velocities,
    )
    return _carried(layout, state, after)


def _hinged(
    hinge: Hinge,
    bodies: Bodies,
    poses: Tensor,
    twists: Tensor,
    joints: Tensor,
    rates: Tensor,
    moved: Tensor,
    dt: float,
) -> None:
    """Move a joint within its limits, and what goes with it."""
    low, high = hinge.joint.limits
    was = joints[:, hinge.row].clone()
    joints[:, hinge.row] = (was + dt * moved[0]).clamp(low, high)
    rates[:, hinge.row] += moved[1]
    step = joints[:, hinge.row] - was
    axis, origin = axis_of(hinge, bodies)
    for row in hinge.carried:
        place = poses[:, row, :3]
        if hinge.joint.kind == "prismatic":
            poses[:, row, :3] = place + step[:, None] * axis
            twists[:, row, :3] += moved[1][:, None] * axis
            continue
        # Exact: the arm turns as the thing does.
        quats = turned(poses[:, row, 3:], step[:, None] * axis)
        unit = torch.zeros_like(quats)
        unit[:, 0] = 1
        turn = rotations(turned(unit, step[:, None] * axis))
        poses[:, row] = torch.cat([origin + (turn @ (place - origin)[..., None])[..., 0], quats], -1)
        twists[:, row, :3] += moved[1][:, None] * torch.linalg.cross(axis, poses[:, row, :3] - origin)
        twists[:, row, 3:] += moved[1][:, None] * axis


def _carried(layout: Layout, state: State, after: State) -> State:
    """Particles of solid things, and poses of what bends, follow."""
    positions, velocities = state.particle_positions, state.particle_velocities
    poses, twists = state.object_poses, state.object_twists
    for part in layout.solid:
        pose = poses[:, part.row]
        arms = layout.matter.rest[part.rows].expand(len(pose), -1, 3) @ rotations(pose[:, 3:]).transpose(
            -1, -2
        )
        positions[:, part.rows] = pose[:, None, :3] + arms
        twist = twists[:, part.row]
        velocities[:, part.rows] = twist[:, None, :3] + torch.linalg.cross(
            twist[:, None, 3:].expand_as(arms), arms
        )
    for part in layout.bent:
        mass = layout.matter.masses[part.rows, None]
        shift = positions[:, part.rows] - after.particle_positions[:, part.rows]
        drift = velocities[:, part.rows] - after.particle_velocities[:, part.rows]
        poses[:, part.row, :3] += (mass * shift).sum(1) / mass.sum()
        twists[:, part.row, :3] += (mass * drift).sum(1) / mass.sum()
    return state


def carried_points(
    layout: Layout,
    bodies: Bodies,
    parts: Sequence[Tensor],
    shift: Tensor,
    turn: Tensor,
    joints: Sequence[Tensor],
) -> list[Tensor]:
    """(b, n, 3) [m] how followed points move, for small motions of their bodies; differentiable.

    Args:
        layout: of the world.
        bodies: where they are.
        parts: (b, n, 3) followed points of every solid part, by node.
        shift: (b, s, 3) [m] of the centres.
        turn: (b, s, 3) [rad] of them.
        joints: (b) of each hinge.
    """
    result = []
    hinges = {hinge.node: (hinge, value) for hinge, value in zip(layout.hinges, joints)}
    for node, points in enumerate(parts):
        if node in hinges:
            hinge, value = hinges[node]
            axis, origin = axis_of(hinge, bodies)
            way = axis[:, None].expand_as(points)
            if hinge.joint.kind == "revolute":
                way = torch.linalg.cross(way, points - origin[:, None])
            result.append(value[:, None, None] * way)
            continue
        arms = points - bodies.centers[:, node, None]
        result.append(shift[:, node, None] + torch.linalg.cross(turn[:, node, None].expand_as(arms), arms))
    return result
