"""`Graph`: bodies and what they touch at the end of a step, told by numbers that no shift or turn changes.

Vectors enter only as products with each other and with the vertical, and leave only as combinations of
each other: so the network commutes with shifts, and with turns about the vertical (Villar et al. 2021,
"Scalars are universal").
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.state import State

from ..matter.parts import PartKind
from ..physics.motion import rotations
from .layout import FACTS, Layout

#: Vectors along which an edge may act: normal, across it, up, and four velocities.
DIRECTIONS = 7
#: Kinds of edge: tool, ground, something that stands, something that moves, inside what bends.
EDGES = 5
TOOL, GROUND, STANDING, MOVING, WEB = range(EDGES)
NODE_FACTS = FACTS + 9
EDGE_FACTS = EDGES + 21 + 4 + 4 + 6
#: [m] Contacts act fully up to the first distance and not beyond the second.
_TOUCHING, _CLEAR = 0.002, 0.01
#: [m/s] Below it a speed counts little.
_SLOW = 0.02
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
class Graph:
    """G bodies of all samples in a row, and E edges between them; row G is the rest of the world."""

    nodes: Float[Tensor, "G f"]
    facts: Float[Tensor, "E h"]
    source: Int[Tensor, " E"]
    target: Int[Tensor, " E"]
    directions: Float[Tensor, "E d 3"]
    """[m/s] what an edge may act along, already faded where nothing touches."""
    source_arms: Float[Tensor, "E 3"]
    """[m] from the source's centre of mass to where they touch."""
    target_arms: Float[Tensor, "E 3"]
    masses: Float[Tensor, " E"]
    """[kg] reduced mass of the two."""
    inside: Float[Tensor, " E"]
    """1 for edges inside what bends."""

    @property
    def size(self) -> int:
        """The number G of bodies."""
        return len(self.nodes)


@dataclass(frozen=True, eq=False)
class _Edges:
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
    reach: float = _CLEAR


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


def graph_of(layout: Layout, before: State, after: State, dt: float) -> tuple[Graph, Bodies]:
    """What a network sees of a step that something else predicted.

    Args:
        layout: of the world.
        before: with one batch axis.
        after: what was predicted, tools where they are then.
        dt: [s]
    """
    bodies = bodies_of(layout, before, after, dt)
    found = [*_on_ground(layout, bodies, after), *_on_tools(layout, bodies, before, after, dt)]
    found += [*_on_others(layout, bodies, after), *_inside(layout, bodies)]
    nodes = _node_facts(layout, bodies, after)
    parts = [part for edges in found if (part := _edge_parts(layout, bodies, edges)) is not None]
    empty = _nothing(bodies.centers)
    columns = [torch.cat(column) for column in zip(empty, *parts)]
    return Graph(nodes.flatten(0, 1), *columns), bodies


def joined(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one; bodies are numbered on."""
    offsets, total = [], 0
    for graph in graphs:
        offsets.append(total)
        total += graph.size
    columns = {f.name: [getattr(graph, f.name) for graph in graphs] for f in fields(Graph)}
    for name in ("source", "target"):
        columns[name] = [
            torch.where(value == graph.size, total, value + offset)
            for value, graph, offset in zip(columns[name], graphs, offsets)
        ]
    return Graph(**{name: torch.cat(values) for name, values in columns.items()})


def _nothing(like: Tensor) -> list[Tensor]:
    zeros, long = like.new_zeros, dict(dtype=torch.long, device=like.device)
    return [
        zeros(0, EDGE_FACTS),
        torch.zeros(0, **long),
        torch.zeros(0, **long),
        zeros(0, DIRECTIONS, 3),
        zeros(0, 3),
        zeros(0, 3),
        zeros(0),
        zeros(0),
    ]


def _velocity(layout: Layout, bodies: Bodies, node: Tensor, at: Tensor, which: int) -> Tensor:
    """(b, e, 3) [m/s] of points of bodies; zero for the world. `which`: 0 before, 1 after, 2 mean."""
    linear = (bodies.before, bodies.after, bodies.mean)[which]
    linear, spin = _padded(linear), _padded(_wide(bodies.spins[which], layout.size))
    arms = at - _take(_padded(bodies.centers), node)
    return _take(linear, node) + torch.linalg.cross(_take(spin, node), arms)


def _wide(values: Tensor, size: int) -> Tensor:
    """(b, N, 3): those of solid parts, then zeros."""
    return torch.cat([values, values.new_zeros(len(values), size - values.shape[1], 3)], 1)


def _padded(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_zeros(len(values), 1, *values.shape[2:])], 1)


def _take(values: Tensor, node: Tensor) -> Tensor:
    """(b, e, k) rows of (b, N + 1, k)."""
    return values.gather(1, node[..., None].expand(-1, -1, values.shape[-1]))


def _edge_parts(layout: Layout, bodies: Bodies, edges: _Edges) -> tuple[Tensor, ...] | None:
    """The near ones of some edges as columns of a `Graph`."""
    near = edges.gap < edges.reach
    if not bool(near.any()):
        return None
    size, at = layout.size, edges.at
    v = [_velocity(layout, bodies, edges.target, at, k) for k in range(3)]
    if edges.kind in (MOVING, WEB):
        own = [_velocity(layout, bodies, edges.source, at, k) for k in range(3)]
        slips, drift = [a - b for a, b in zip(v, own)], own[2] if edges.kind == MOVING else 0 * own[2]
    else:
        slips, drift = [v[0] - edges.drift, v[1] - edges.drift, v[2] - edges.drift], edges.drift
    vectors = [edges.normal, *slips, drift]
    vectors = [value[near] for value in vectors]
    normal, moves = vectors[0], vectors[1:]
    speed = sum((move.square().sum(-1) + 1e-12).sqrt() for move in moves)
    assert isinstance(speed, Tensor)
    gap = edges.gap[near]
    fade = ((_CLEAR - gap) / (_CLEAR - _TOUCHING)).clamp(0, 1) if edges.kind != WEB else torch.ones_like(gap)
    batch = torch.arange(len(near), device=near.device)[:, None].expand_as(near)[near]
    target, source = edges.target[near], edges.source[near]
    world = len(near) * size
    up = normal.new_tensor([0.0, 0.0, 1.0]).expand_as(normal)
    place = at[near]
    centers = _padded(bodies.centers)
    target_arms = place - centers[batch, target]
    source_arms = torch.where((source < size)[:, None], place - centers[batch, source], 0.0)
    directions = torch.stack(
        [
            normal * speed[:, None],
            torch.linalg.cross(up, normal) * speed[:, None],
            up * speed[:, None],
            *moves,
        ],
        1,
    )
    known = torch.cat([layout.masses, layout.masses.new_full((1,), 1e9)]).to(speed)
    reduced = known[target] * known[source] / (known[target] + known[source])
    length = target_arms.norm(dim=-1, keepdim=True)
    arms = target_arms / (length + 1e-3) if edges.kind != WEB else 0 * target_arms
    scaled = [move / (speed[:, None] + 1e-3) for move in moves]
    numbers = _products([normal, up, arms, *scaled])
    sizes = [
        speed.add(_SLOW).log() + 2,
        gap * 100,
        length[:, 0] * 10,
        edges.friction[near],
        (gap < _TOUCHING).to(gap),
        fade,
    ]
    kind = normal.new_zeros(len(normal), EDGES)
    kind[:, edges.kind] = 1
    facts = torch.cat([kind, numbers, torch.stack(sizes, -1)], -1)
    return (
        facts,
        torch.where(source < size, batch * size + source, world),
        batch * size + target,
        directions * fade[:, None, None],
        source_arms,
        target_arms,
        reduced,
        torch.full_like(speed, float(edges.kind == WEB)),
    )


def _products(vectors: list[Tensor]) -> Tensor:
    """(e, 29): products of seven vectors with each other, squares of the last four, and what tells left from
    right."""
    stacked = torch.stack(vectors, 1)
    gram = stacked @ stacked.transpose(1, 2)
    a, b = torch.triu_indices(len(vectors), len(vectors), 1)
    normal, _, arms, *moves = vectors
    handed = [_left(normal, moves[2]), _left(normal, moves[3]), _left(arms, normal), _left(arms, moves[3])]
    return torch.cat([gram[:, a, b], gram.diagonal(dim1=1, dim2=2)[:, 3:], torch.stack(handed, -1)], -1)


def _left(a: Tensor, b: Tensor) -> Tensor:
    """Vertical part of the cross product."""
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _on_ground(layout: Layout, bodies: Bodies, after: State) -> list[_Edges]:
    count, result = len(bodies.centers), []
    for node, part in enumerate(layout.solid):
        if part.kind is not PartKind.RIGID:
            continue
        # Corners come first.
        points = after.particle_positions[:, part.start : min(part.stop, part.start + 32)]
        height, friction = layout.ground(points, bodies.centers[:, node, 2])
        low = height.topk(min(_GROUND, height.shape[1]), dim=1, largest=False).indices
        at = _take(points, low)
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


def _world_edges(
    kind: int, layout: Layout, node: Tensor, at: Tensor, gap: Tensor, friction: Tensor
) -> _Edges:
    """Edges from level ground."""
    up = at.new_tensor([0.0, 0.0, 1.0]).expand_as(at)
    return _Edges(kind, torch.full_like(node, layout.size), node, up, gap, at, torch.zeros_like(at), friction)


def _on_tools(layout: Layout, bodies: Bodies, before: State, after: State, dt: float) -> list[_Edges]:
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
            point = _take(at, best) + _take(normal, best) * distance.gather(1, best)[..., None]
            result.append(
                _Edges(
                    TOOL,
                    torch.full_like(best, layout.size),
                    torch.full_like(best, node),
                    _take(normal, best),
                    gap.gather(1, best),
                    point,
                    _take(drift, best),
                    frictions[balls.tools[best]],
                )
            )
    return [*result, *_tools_on_particles(layout, before, after, dt)]


def _tools_on_particles(layout: Layout, before: State, after: State, dt: float) -> list[_Edges]:
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
        there = _take(local, best) @ rotations(was[:, 3:]).transpose(-1, -2) + was[:, None, :3]
        at = _take(points, best)
        normal = torch.nn.functional.normalize(_take(slope, best), dim=-1) @ turn.transpose(-1, -2)
        friction = torch.full_like(gap.gather(1, best), tool.friction)
        result.append(
            _Edges(
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


def _on_others(layout: Layout, bodies: Bodies, after: State) -> list[_Edges]:
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
            if not bool((gap < _CLEAR).any()):
                continue
            best = gap.topk(
                min(_OTHER if node is not None else _BENT_TOOL, gap.shape[1]), 1, largest=False
            ).indices
            first = int(torch.searchsorted(layout.particles, part.start)) if node is None else 0
            target = best + len(layout.solid) + first if node is None else torch.full_like(best, node)
            at = _take(points, best)
            friction = torch.full_like(gap.gather(1, best), 0.5)
            kind = STANDING if source == layout.size else MOVING
            result.append(
                _Edges(
                    kind,
                    torch.full_like(best, source),
                    target,
                    _take(normal, best) @ turn.transpose(-1, -2),
                    gap.gather(1, best),
                    at,
                    torch.zeros_like(at),
                    friction,
                )
            )
    return result


def _inside(layout: Layout, bodies: Bodies) -> list[_Edges]:
    if not len(layout.webs):
        return []
    count = len(bodies.centers)
    source, target = (layout.webs[:, k].expand(count, -1) for k in (0, 1))
    way = _take(bodies.centers, target) - _take(bodies.centers, source)
    length = (way.square().sum(-1) + 1e-12).sqrt()
    stretch = (length / layout.lengths - 1).clamp(-1, 1)
    middle = 0.5 * (_take(bodies.centers, target) + _take(bodies.centers, source))
    return [
        _Edges(
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


def _node_facts(layout: Layout, bodies: Bodies, after: State) -> Tensor:
    """(b, N, f)"""
    count, size = bodies.centers.shape[:2]
    speeds = [_size(each) for each in (bodies.before, bodies.after, bodies.mean)]
    spins = [_size(_wide(each, size)) for each in bodies.spins[1:]]
    height, _ = layout.ground(bodies.centers)
    held = _held(layout, after)
    limits = torch.ones(count, size, 2)
    for hinge in layout.hinges:
        at = after.joint_positions[:, hinge.row, None]
        low, high = hinge.joint.limits
        limits[:, hinge.node] = torch.cat([at - low, high - at], -1).clamp(0, 1)
    moving = torch.stack(
        [
            *[(value + _SLOW).log() + 2 for value in speeds],
            *[(v + 0.2).log() for v in spins],
            (height * 10).clamp(-1, 3),
            held,
        ],
        -1,
    )
    return torch.cat([layout.facts.expand(count, -1, -1), moving, limits.to(moving)], -1)


def _size(values: Tensor) -> Tensor:
    return (values.square().sum(-1) + 1e-12).sqrt()


def _held(layout: Layout, after: State) -> Tensor:
    """(b, N) whether a tool holds it."""
    grasped = after.grasped.any(1).to(after.object_poses)
    solid = [
        grasped[:, part.start : part.stop].amax(1)
        if part.stop > part.start
        else grasped.new_zeros(len(grasped))
        for part in layout.solid
    ]
    return torch.cat([*(value[:, None] for value in solid), grasped[:, layout.particles]], 1)
