"""`Bodies` and `Touch`: where bodies are in a step, and all contacts and edges there may be between them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.state import State

from ..matter.parts import PartKind
from ..physics.motion import rotations
from .layout import Layout

#: Kinds of edge: tool, ground, something that stands, something that moves, inside what bends.
EDGES = 5
TOOL, GROUND, STANDING, MOVING, WEB = range(EDGES)
#: [m] Contacts act fully up to the first distance and not beyond the second.
TOUCHING, CLEAR = 0.002, 0.01
#: Contacts looked at of every body with the ground, with each box of a tool, and with each other part.
_GROUND, _BOX, _OTHER, _BENT_TOOL = 8, 3, 3, 24


@dataclass(frozen=True, eq=False)
class Bodies:
    """Where N bodies are and how they moved in a step of dt."""

    centers: Float[Tensor, "b N 3"]
    before: Float[Tensor, "b N 3"]
    """[m/s] velocity of the centres at the beginning."""
    after: Float[Tensor, "b N 3"]
    mean: Float[Tensor, "b N 3"]
    spins: tuple[Float[Tensor, "b s 3"], Float[Tensor, "b s 3"], Float[Tensor, "b s 3"]]
    """[rad/s] of the solid ones: before, after, mean."""
    turns: Float[Tensor, "b s 3 3"]


@dataclass(frozen=True, eq=False)
class Touch:
    """Edges of a batch in a dense layout (b, e), before the far ones are left out."""

    kind: int
    source: Tensor
    """(b, e) node, or N for the world."""
    target: Tensor
    normal: Tensor
    """(b, e, 3) from the source towards the target."""
    gap: Tensor
    """(b, e) [m]"""
    at: Tensor
    """(b, e, 3) [m] where they touch."""
    drift: Tensor
    """(b, e, 3) [m/s] mean velocity of the source there."""
    friction: Tensor
    """(b, e) of the source."""
    reach: float = CLEAR


def bodies_of(layout: Layout, before: State, after: State, dt: float) -> Bodies:
    """The bodies of a layout in a step from `before` to `after` (one batch axis)."""
    rows = layout.rows
    turns = layout.turns(after)
    arms = (turns @ layout.offsets[..., None])[..., 0]
    turns_before = layout.turns(before)
    arms_before = (turns_before @ layout.offsets[..., None])[..., 0]
    place = after.object_poses[:, rows, :3] + arms
    place_before = before.object_poses[:, rows, :3] + arms_before
    speeds = []
    for state, arm in ((before, arms_before), (after, arms)):
        twist = state.object_twists[:, rows]
        speeds.append((twist[..., :3] + torch.linalg.cross(twist[..., 3:], arm), twist[..., 3:]))
    spin = _turn_rate(turns_before, turns, dt)
    n = layout.particles
    at, at_before = after.particle_positions[:, n], before.particle_positions[:, n]
    cat = torch.cat
    return Bodies(
        cat([place, at], 1),
        cat([speeds[0][0], before.particle_velocities[:, n]], 1),
        cat([speeds[1][0], after.particle_velocities[:, n]], 1),
        cat([place - place_before, at - at_before], 1) / dt,
        (speeds[0][1], speeds[1][1], spin),
        turns,
    )


def _turn_rate(before: Tensor, after: Tensor, dt: float) -> Tensor:
    """[rad/s] of small turns: the antisymmetric part of the rotation between."""
    turn = after @ before.transpose(-1, -2)
    skew = torch.stack(
        [
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ],
        -1,
    )
    return skew / (2 * dt)


def velocity_at(layout: Layout, bodies: Bodies, node: Tensor, at: Tensor, which: int) -> Tensor:
    """(b, e, 3) [m/s] of points of bodies; zero for the world. `which`: 0 before, 1 after, 2 mean."""
    linear = (bodies.before, bodies.after, bodies.mean)[which]
    linear, spin = padded(linear), padded(wide(bodies.spins[which], layout.size))
    arms = at - take(padded(bodies.centers), node)
    return take(linear, node) + torch.linalg.cross(take(spin, node), arms)


def wide(values: Tensor, size: int) -> Tensor:
    """(b, N, 3): those of solid parts, then zeros."""
    return torch.cat([values, values.new_zeros(len(values), size - values.shape[1], 3)], 1)


def padded(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_zeros(len(values), 1, *values.shape[2:])], 1)


def take(values: Tensor, node: Tensor) -> Tensor:
    """(b, e, k) rows of (b, N + 1, k)."""
    return values.gather(1, node[..., None].expand(-1, -1, values.shape[-1]))


def on_ground(layout: Layout, bodies: Bodies, after: State) -> list[Touch]:
    count, result = len(bodies.centers), []
    for node, part in enumerate(layout.solid):
        if part.kind is not PartKind.RIGID:
            continue
        # Corners come first.
        points = after.particle_positions[:, part.start : min(part.stop, part.start + 32)]
        height, friction = layout.ground(points, bodies.centers[:, node, 2])
        low = height.topk(min(_GROUND, height.shape[1]), dim=1, largest=False).indices
        at = take(points, low)
        result.append(
            _world_edges(
                GROUND, layout, torch.full_like(low, node), at, height.gather(1, low), friction.gather(1, low)
            )
        )
    if len(layout.particles):
        points = after.particle_positions[:, layout.particles]
        height, friction = layout.ground(points)
        gap = height - layout.matter.radii[layout.particles]
        node = torch.arange(len(layout.solid), layout.size).expand(count, -1)
        result.append(_world_edges(GROUND, layout, node, points, gap, friction))
    return result


def _world_edges(kind: int, layout: Layout, node: Tensor, at: Tensor, gap: Tensor, friction: Tensor) -> Touch:
    """Edges from level ground."""
    up = at.new_tensor([0.0, 0.0, 1.0]).expand_as(at)
    return Touch(kind, torch.full_like(node, layout.size), node, up, gap, at, torch.zeros_like(at), friction)


def on_tools(layout: Layout, bodies: Bodies, before: State, after: State, dt: float) -> list[Touch]:
    if not layout.tools:
        return []
    balls, result = layout.points, []
    at = balls.at(after.tool_poses, after.grip)
    drift = (at - balls.at(before.tool_poses, before.grip)) / dt
    place = {part.object_id: row for row, part in enumerate(layout.matter.parts)}
    frictions = at.new_tensor([tool.friction for tool in layout.tools])
    boxes = [torch.nonzero(balls.boxes == box)[:, 0] for box in balls.boxes.unique().tolist()]
    for node, part in enumerate(layout.solid):
        turn, origin = bodies.turns[:, node], after.object_poses[:, None, part.row, :3]
        distance, normal = layout.fields(place[part.object_id], (at - origin) @ turn)
        gap, normal = distance - balls.radii, -(normal @ turn.transpose(-1, -2))
        for rows in boxes:
            best = gap[:, rows].topk(min(_BOX, len(rows)), dim=1, largest=False).indices
            best = rows[best]
            point = take(at, best) + take(normal, best) * distance.gather(1, best)[..., None]
            result.append(
                Touch(
                    TOOL,
                    torch.full_like(best, layout.size),
                    torch.full_like(best, node),
                    take(normal, best),
                    gap.gather(1, best),
                    point,
                    take(drift, best),
                    frictions[balls.tools[best]],
                )
            )
    return [*result, *_tools_on_particles(layout, before, after, dt)]


def _tools_on_particles(layout: Layout, before: State, after: State, dt: float) -> list[Touch]:
    """The particles nearest to each tool."""
    result, rows = [], layout.particles
    if not len(rows):
        return result
    points = after.particle_positions[:, rows]
    for row, tool in enumerate(layout.tools):
        pose, was = after.tool_poses[:, row], before.tool_poses[:, row]
        turn = rotations(pose[:, 3:])
        local = (points - pose[:, None, :3]) @ turn
        with torch.enable_grad():
            asked = local.detach().requires_grad_()
            distance = tool.distance(asked, after.grip[:, row]).amin(-1)
            (slope,) = torch.autograd.grad(distance.sum(), asked)
        gap = distance.detach() - layout.matter.radii[rows]
        best = gap.topk(min(_BENT_TOOL, len(rows)), dim=1, largest=False).indices
        there = take(local, best) @ rotations(was[:, 3:]).transpose(-1, -2) + was[:, None, :3]
        at = take(points, best)
        normal = torch.nn.functional.normalize(take(slope, best), dim=-1) @ turn.transpose(-1, -2)
        friction = torch.full_like(gap.gather(1, best), tool.friction)
        result.append(
            Touch(
                TOOL,
                torch.full_like(best, layout.size),
                best + len(layout.solid),
                normal,
                gap.gather(1, best),
                at,
                (at - there) / dt,
                friction,
            )
        )
    return result


def on_others(layout: Layout, bodies: Bodies, after: State) -> list[Touch]:
    """Points of solid parts, and particles, at the surfaces of other parts."""
    result, matter = [], layout.matter
    solid = {part.object_id: node for node, part in enumerate(layout.solid)}
    askers = [
        (node, slice(part.start, part.stop), part)
        for node, part in enumerate(layout.solid)
        if part.kind is PartKind.RIGID
    ]
    askers += [(None, slice(part.start, part.stop), part) for part in layout.bent]
    for row, other in enumerate(matter.parts):
        if other.kind.bends or float(matter.fields.values[row].min()) > 1:
            continue
        pose = after.object_poses[:, other.row]
        turn = rotations(pose[:, 3:])
        source = solid.get(other.object_id, layout.size)
        for node, rows, part in askers:
            if part.object_id == other.object_id:
                continue
            points = after.particle_positions[:, rows]
            distance, normal = layout.fields(row, (points - pose[:, None, :3]) @ turn)
            gap = distance - matter.radii[rows]
            if not bool((gap < CLEAR).any()):
                continue
            best = gap.topk(
                min(_OTHER if node is not None else _BENT_TOOL, gap.shape[1]), 1, largest=False
            ).indices
            first = int(torch.searchsorted(layout.particles, part.start)) if node is None else 0
            target = best + len(layout.solid) + first if node is None else torch.full_like(best, node)
            at = take(points, best)
            friction = torch.full_like(gap.gather(1, best), 0.5)
            kind = STANDING if source == layout.size else MOVING
            result.append(
                Touch(
                    kind,
                    torch.full_like(best, source),
                    target,
                    take(normal, best) @ turn.transpose(-1, -2),
                    gap.gather(1, best),
                    at,
                    torch.zeros_like(at),
                    friction,
                )
            )
    return result


def inside_what_bends(layout: Layout, bodies: Bodies) -> list[Touch]:
    if not len(layout.webs):
        return []
    count = len(bodies.centers)
    source, target = (layout.webs[:, k].expand(count, -1) for k in (0, 1))
    way = take(bodies.centers, target) - take(bodies.centers, source)
    length = (way.square().sum(-1) + 1e-12).sqrt()
    stretch = (length / layout.lengths - 1).clamp(-1, 1)
    middle = 0.5 * (take(bodies.centers, target) + take(bodies.centers, source))
    return [
        Touch(
            WEB,
            source,
            target,
            way / length[..., None],
            stretch * 0.1,
            middle,
            torch.zeros_like(way),
            layout.lengths.expand(count, -1) * 20,
            reach=1e9,
        )
    ]
