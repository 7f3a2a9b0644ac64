"""What a correction must not do: push things into each other, or make what nobody pushes faster."""

from dataclasses import replace

import torch
from torch import Tensor

from .graph import Graph
from .impulses import Correction
from .layout import Layout
from .touch import MOVING, TOOL, Bodies, wide

#: How often contacts are asked.
_ROUNDS = 16


@torch.no_grad()
def limited(layout: Layout, graph: Graph, bodies: Bodies, change: Correction, dt: float) -> Correction:
    """The correction within what contacts allow.

    Args:
        layout: of the world.
        graph: of one world's samples.
        bodies: of the same.
        change: what a network wants.
        dt: [s]
    """
    return _kept_apart(layout, graph, bodies, _not_faster(layout, graph, bodies, change), dt)


def _not_faster(layout: Layout, graph: Graph, bodies: Bodies, change: Correction) -> Correction:
    """What no tool and no other thing touches gets no faster than it was: friction only slows."""
    count, size = bodies.centers.shape[:2]
    pushing = (graph.kinds == TOOL) | (graph.kinds == MOVING)
    touched = torch.zeros(graph.size + 1, dtype=torch.bool, device=graph.target.device)
    touched[graph.target[pushing]] = True
    touched[graph.source[pushing]] = True
    left = ~touched[:-1].reshape(count, size)
    linear, angular, solid = change.linear.clone(), change.angular.clone(), len(layout.solid)
    linear[1] = _capped(bodies.before, bodies.after, linear[1], left)
    angular[1] = _capped(bodies.spins[0], bodies.spins[1], angular[1], left[:, :solid])
    # Ways are those of speeds between the two.
    linear[0] = _capped(bodies.before, bodies.mean, linear[0], left)
    angular[0] = _capped(bodies.spins[0], bodies.spins[2], angular[0], left[:, :solid])
    return replace(change, linear=linear, angular=angular)


def _capped(before: Tensor, after: Tensor, change: Tensor, where: Tensor) -> Tensor:
    """A change of velocity (b, n, 3) that makes nothing faster than before or after."""
    most = torch.maximum(before.norm(dim=-1), after.norm(dim=-1))
    wanted = after + change
    length = wanted.norm(dim=-1).clamp(min=1e-9)
    share = (most / length).clamp(max=1)[..., None]
    return torch.where(where[..., None], wanted * share - after, change)


def _kept_apart(layout: Layout, graph: Graph, bodies: Bodies, change: Correction, dt: float) -> Correction:
    """The ways such that no gap closes further than to nothing, by impulses along normals (Jacobi)."""
    near = graph.gaps < 1.0
    if not bool(near.any()):
        return change
    target, source, normal = graph.target[near], graph.source[near], graph.normals[near]
    arms = graph.target_arms[near], graph.source_arms[near]
    room = graph.gaps[near].clamp(min=0) / dt
    light, inverse = _mobility(layout, bodies)
    levers = [torch.linalg.cross(arm, normal) for arm in arms]
    turns = [(inverse[row] @ lever[..., None])[..., 0] for row, lever in zip((target, source), levers)]
    stiff = light[target] + light[source]
    stiff = stiff + sum((turn * lever).sum(-1) for turn, lever in zip(turns, levers))
    shared = torch.bincount(torch.cat([target, source]), minlength=graph.size + 1).to(room)
    busy = torch.maximum(shared[target], torch.where(source < graph.size, shared[source], 1.0))
    linear = torch.cat([change.linear[0].flatten(0, 1), room.new_zeros(1, 3)])
    spin = torch.cat([wide(change.angular[0], layout.size).flatten(0, 1), room.new_zeros(1, 3)])
    for _ in range(_ROUNDS):
        speeds = [
            ((linear[row] * normal).sum(-1) + (spin[row] * lever).sum(-1))
            for row, lever in zip((target, source), levers)
        ]
        push = (speeds[1] - speeds[0] - room).clamp(min=0) / (stiff + 1e-9) / busy
        for sign, row, turn in ((1.0, target, turns[0]), (-1.0, source, turns[1])):
            linear = linear.index_add(0, row, sign * (push * light[row])[:, None] * normal)
            spin = spin.index_add(0, row, sign * push[:, None] * turn)
    count, size = bodies.centers.shape[:2]
    ways = change.linear.clone()
    ways[0] = linear[:-1].reshape(count, size, 3)
    angular = change.angular.clone()
    angular[0] = spin[:-1].reshape(count, size, 3)[:, : len(layout.solid)]
    return replace(change, linear=ways, angular=angular)


def _mobility(layout: Layout, bodies: Bodies) -> tuple[Tensor, Tensor]:
    """(G + 1) [1/kg] and (G + 1, 3, 3) [1/(kg m^2)] of all bodies; zero for what a contact does not move."""
    count, size = bodies.centers.shape[:2]
    free = layout.masses.new_ones(size)
    free[[hinge.node for hinge in layout.hinges]] = 0
    free[len(layout.solid) :] = layout.free.to(free)
    light = (free / layout.masses).expand(count, -1)
    inertia = bodies.turns @ layout.inertias.to(light) @ bodies.turns.transpose(-1, -2)
    floor = 1e-2 * inertia.diagonal(dim1=-1, dim2=-2).mean(-1)[..., None, None] + 1e-9
    turning = torch.linalg.inv(inertia + floor * torch.eye(3).to(inertia))
    turning = turning * free[: len(layout.solid), None, None]
    whole = torch.cat([turning, turning.new_zeros(count, size - len(layout.solid), 3, 3)], 1)
    zero = light.new_zeros(1)
    return torch.cat([light.flatten(), zero]), torch.cat([whole.flatten(0, 1), zero.expand(1, 3, 3)])
