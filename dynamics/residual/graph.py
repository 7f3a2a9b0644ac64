"""`Graph`: bodies and what they touch at the end of a step, told by numbers that no shift or turn changes.

Vectors enter only as products with each other and with the vertical, and leave only as combinations of
each other: so the network commutes with shifts, and with turns about the vertical (Villar et al. 2021,
"Scalars are universal").
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.state import State

from .layout import FACTS, Layout
from .touch import (
    CLEAR,
    EDGES,
    MOVING,
    TOUCHING,
    WEB,
    Bodies,
    Touch,
    bodies_of,
    inside_what_bends,
    on_ground,
    on_others,
    on_tools,
    padded,
    velocity_at,
    wide,
)

#: Vectors along which an edge may act: normal, across it, up, and four velocities.
DIRECTIONS = 7
NODE_FACTS = FACTS + 9
EDGE_FACTS = EDGES + 21 + 4 + 4 + 6
#: Where the facts of an edge are that tell left from right, and which direction does.
_HANDED, _ACROSS = slice(EDGES + 25, EDGES + 29), 1
#: [m/s] Below it a speed counts little.
_SLOW = 0.02
#: [m/s] What moves slower than this rests: pushes fade, so that they cannot feed on themselves.
_REST = 0.005


@dataclass(frozen=True, eq=False)
class Graph:
    """G bodies of all samples in a row, and E edges between them; row G is the rest of the world."""

    nodes: Float[Tensor, "G f"]
    facts: Float[Tensor, "E h"]
    source: Int[Tensor, " E"]
    target: Int[Tensor, " E"]
    speeds: Float[Tensor, " E"]
    """[m/s] how fast things go there, faded where nothing touches."""
    directions: Float[Tensor, "E d 3"]
    """[m/s] what an edge may act along, shared among the edges of a kind that a body has: no body is pushed
    much faster than what it touches moves."""
    source_arms: Float[Tensor, "E 3"]
    """[m] from the source's centre of mass to where they touch."""
    target_arms: Float[Tensor, "E 3"]
    masses: Float[Tensor, " E"]
    """[kg] reduced mass of the two."""
    normals: Float[Tensor, "E 3"]
    """From the source towards the target."""
    gaps: Float[Tensor, " E"]
    """[m] between the two; large for edges inside what bends."""

    @property
    def kinds(self) -> Int[Tensor, " E"]:
        """What kind of edge each is."""
        return self.facts[:, :EDGES].argmax(1) if len(self.facts) else self.target

    @property
    def size(self) -> int:
        """The number G of bodies."""
        return len(self.nodes)


def graph_of(layout: Layout, before: State, after: State, dt: float) -> tuple[Graph, Bodies]:
    """What a network sees of a step that something else predicted.

    Args:
        layout: of the world.
        before: with one batch axis.
        after: what was predicted, tools where they are then.
        dt: [s]
    """
    bodies = bodies_of(layout, before, after, dt)
    found = [*on_ground(layout, bodies, after), *on_tools(layout, bodies, before, after, dt)]
    found += [*on_others(layout, bodies, after), *inside_what_bends(layout, bodies)]
    nodes = _node_facts(layout, bodies, after)
    parts = [part for edges in found if (part := _edge_parts(layout, bodies, edges)) is not None]
    empty = _nothing(bodies.centers)
    columns = [torch.cat(column) for column in zip(empty, *parts)]
    facts, source, target, speeds, directions, *rest = columns
    directions = directions / _shared(facts, source, target, len(nodes) * layout.size)[:, None, None]
    return Graph(nodes.flatten(0, 1), facts, source, target, speeds, directions, *rest), bodies


def _shared(facts: Tensor, source: Tensor, target: Tensor, size: int) -> Tensor:
    """(E) how many edges of its kind there are at the busier end of each edge."""
    kind = facts[:, :EDGES].argmax(1) if len(facts) else target
    result = torch.ones_like(facts[:, 0])
    for rows in (source, target):
        key = rows * EDGES + kind
        count = torch.bincount(key, minlength=(size + 1) * EDGES)[key]
        result = torch.maximum(result, torch.where(rows < size, count, 1).to(result))
    return result


def mirrored(graph: Graph) -> Graph:
    """What is seen of the same step in a mirror: what tells left from right changes its sign.

    Training on both makes a network know that there is no left and right in physics.
    """
    facts, directions = graph.facts.clone(), graph.directions.clone()
    facts[:, _HANDED] *= -1
    directions[:, _ACROSS] *= -1
    return replace(graph, facts=facts, directions=directions)


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
    zeros = like.new_zeros
    rows = torch.zeros(0, dtype=torch.long, device=like.device)
    return [
        zeros(0, EDGE_FACTS),
        rows,
        rows,
        zeros(0),
        zeros(0, DIRECTIONS, 3),
        zeros(0, 3),
        zeros(0, 3),
        zeros(0),
        zeros(0, 3),
        zeros(0),
    ]


def _edge_parts(layout: Layout, bodies: Bodies, edges: Touch) -> tuple[Tensor, ...] | None:
    """The near ones of some edges as columns of a `Graph`."""
    near = edges.gap < edges.reach
    if not bool(near.any()):
        return None
    size, at = layout.size, edges.at
    v = [velocity_at(layout, bodies, edges.target, at, k) for k in range(3)]
    if edges.kind in (MOVING, WEB):
        own = [velocity_at(layout, bodies, edges.source, at, k) for k in range(3)]
        slips, drift = [a - b for a, b in zip(v, own)], own[2] if edges.kind == MOVING else 0 * own[2]
    else:
        slips, drift = [v[0] - edges.drift, v[1] - edges.drift, v[2] - edges.drift], edges.drift
    vectors = [edges.normal, *slips, drift]
    vectors = [value[near] for value in vectors]
    normal, moves = vectors[0], vectors[1:]
    speed = sum((move.square().sum(-1) + 1e-12).sqrt() for move in moves)
    assert isinstance(speed, Tensor)
    gap = edges.gap[near]
    fade = ((CLEAR - gap) / (CLEAR - TOUCHING)).clamp(0, 1) if edges.kind != WEB else torch.ones_like(gap)
    batch = torch.arange(len(near), device=near.device)[:, None].expand_as(near)[near]
    target, source = edges.target[near], edges.source[near]
    world = len(near) * size
    up = normal.new_tensor([0.0, 0.0, 1.0]).expand_as(normal)
    place = at[near]
    centers = padded(bodies.centers)
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
        (gap < TOUCHING).to(gap),
        fade,
    ]
    kind = normal.new_zeros(len(normal), EDGES)
    kind[:, edges.kind] = 1
    facts = torch.cat([kind, numbers, torch.stack(sizes, -1)], -1)
    return (
        facts,
        torch.where(source < size, batch * size + source, world),
        batch * size + target,
        speed * fade,
        directions * (fade * (speed / _REST).square().clamp(max=1))[:, None, None],
        source_arms,
        target_arms,
        reduced,
        normal,
        gap if edges.kind != WEB else torch.full_like(gap, 1e3),
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


def _node_facts(layout: Layout, bodies: Bodies, after: State) -> Tensor:
    """(b, N, f)"""
    count, size = bodies.centers.shape[:2]
    speeds = [_size(each) for each in (bodies.before, bodies.after, bodies.mean)]
    spins = [_size(wide(each, size)) for each in bodies.spins[1:]]
    height, _ = layout.ground(bodies.centers)
    held = _held(layout, after)
    limits = bodies.centers.new_ones(count, size, 2)
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
