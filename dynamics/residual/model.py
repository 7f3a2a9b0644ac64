"""`Residual`: physics, or nothing, corrected by a network, through a gate with an exact fallback."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.state import Action, ActionSpec, Rollout, State, stack
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..baselines import ConstantVelocity
from ..learning.calibration import Radius, Usual
from ..matter.parts import PartKind
from ..prior import Prior
from .graph import Graph, graph_of
from .impulses import Correction, axis_of, corrected, correction_of, momenta
from .layout import Hinge, Layout
from .limits import limited
from .network import ImpulseNetwork, Pushes
from .touch import Bodies

#: [m/s] What moves slower than this is not pushed on by a difference seen before.
_MOVES = 0.01


@dataclass(frozen=True)
class Gate:
    """How much of the correction counts, decided on recordings that were not learned from."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """By kind of part; 0 leaves a part of this kind to the base, bit for bit, and so does a kind not seen."""
    persisted: float = 0.0
    """How much of the last observed difference goes on."""

    @property
    def closed(self) -> bool:
        """Whether nothing passes."""
        return not any(self.shares.values())


@dataclass(frozen=True, eq=False)
class Step:
    """One step: what was predicted, seen and pushed."""

    after: State
    graph: Graph
    bodies: Bodies
    pushes: Pushes
    doubt: Float[Tensor, "b o"]
    """[m] by how much the objects' places got less sure, uncalibrated."""


class Residual:
    """A base model whose steps a network corrects."""

    def __init__(
        self,
        base: Prior | ConstantVelocity,
        network: ImpulseNetwork,
        gate: Gate,
        radius: Radius | None = None,
        usual: Usual | None = None,
    ) -> None:
        """Put a model together.

        Args:
            base: predicts first.
            network: pushes after that.
            gate: says how much of it counts.
            radius: makes honest radii of doubts.
            usual: knows what training situations were like.
        """
        self.base, self.network, self.gate = base, network, gate
        self._radius, self._usual = radius, usual
        self.prior = base if isinstance(base, Prior) else base.prior
        self.world, self.matter, self.tools = self.prior.world, self.prior.matter, self.prior.tools
        self.layout = Layout.of(self.world, self.matter, self.tools, self.prior.parameters)

    @property
    def action_spec(self) -> ActionSpec:
        """Poses that the tools reach at the end of a step."""
        return self.prior.action_spec

    def initial(self, world: World, tool_poses: Float[Tensor, "a 7"] | None = None) -> State:
        """As `Prior.initial`."""
        return self.prior.initial(world, tool_poses)

    def step(self, state: State, action: Action) -> State:
        """The state one period later."""
        self.prior.check(state, action, action.batch_shape)
        flat, actions, shape = _flat(state, action)
        with one_torch_thread():
            after = self._advanced(flat, actions)[0]
        return after.map(lambda value: value.reshape((*shape, *value.shape[1:])))

    def rollout(self, state: State, actions: Action) -> Rollout:
        """Step through actions, whose first axis is time."""
        self.prior.check(state, actions, actions.batch_shape[1:])
        shape = state.batch_shape
        count = math.prod(shape)
        flat = state.map(lambda value: value.reshape(count, *value.shape[len(shape) :]))
        steps = actions.map(lambda value: value.reshape(len(actions), count, *value.shape[1 + len(shape) :]))
        states, doubts = [flat], [flat.object_poses.new_zeros(flat.object_poses.shape[:2])]
        with one_torch_thread():
            for index in range(len(actions)):
                after, doubt = self._advanced(states[-1], steps[index])
                states.append(after)
                doubts.append(doubts[-1] + doubt)
        stacked = stack(states).map(lambda value: value.reshape((len(states), *shape, *value.shape[2:])))
        contacts = self.prior.accounts.contacts(stacked) if self.prior.config.contacts else None
        spread = None
        if self._radius is not None:
            spread = self._radius(torch.stack(doubts)).reshape(len(states), *shape, -1)
        return Rollout(stacked, actions, self.action_spec.dt, spread=spread, contacts=contacts)

    def surprise(self, rollout: Rollout) -> float:
        """The share of training situations that are less unusual than a rollout's, range [0, 1].

        Args:
            rollout: unbatched, of this model.
        """
        if self._usual is None:
            return 0.0
        states = rollout.states
        with torch.no_grad(), one_torch_thread():
            found = self.watched(states[:-1], self.base.advanced(states[:-1], rollout.actions))
            return self._usual.rank(situation(self.layout, found))

    def unprompted(self, state: State, action: Action) -> State:
        """The next state of a flat batch, whatever differences it carries."""
        after = self.base.advanced(state, action)
        return after if self.gate.closed else self._pushed(self.watched(state, after))

    def _advanced(self, state: State, action: Action) -> tuple[State, Tensor]:
        """The next state of a flat batch, and by how much places got less sure."""
        after = self.base.advanced(state, action)
        with torch.no_grad():
            persisted = self.gate.persisted > 0 and bool((state.residual != 0).any())
            if self.gate.closed and not persisted and self._radius is None:
                return after, torch.zeros_like(after.object_poses[..., 0])
            found = self.watched(state, after)
            after = self._pushed(found) if not self.gate.closed else after
            if persisted:
                after = went_on(self.layout, found.bodies, state, after, self.gate.persisted, self._dt)
        return after, found.doubt

    def _pushed(self, found: Step) -> State:
        """What was predicted, with the correction that the gate lets through."""
        linear, angular = momenta(found.graph, found.pushes.strengths.mean(0))
        change = correction_of(self.layout, found.bodies, linear, angular)
        change = gated(self.layout, change, self.gate.shares)
        change = limited(self.layout, found.graph, found.bodies, change, self._dt)
        return corrected(self.layout, found.bodies, found.after, change, self._dt)

    @property
    def _dt(self) -> float:
        return self.action_spec.dt

    def watched(self, state: State, after: State) -> Step:
        """What the network says of a step of the base (one batch axis)."""
        graph, bodies = graph_of(self.layout, state, after, self._dt)
        pushes = self.network(graph)
        return Step(after, graph, bodies, pushes, doubt_of(self.layout, graph, bodies, pushes, self._dt))


def _flat(state: State, action: Action) -> tuple[State, Action, tuple[int, ...]]:
    shape = state.batch_shape
    count, axes = math.prod(shape), len(shape)

    def change(value: Tensor) -> Tensor:
        return value.reshape(count, *value.shape[axes:])

    return state.map(change), action.map(change), shape


def doubt_of(layout: Layout, graph: Graph, bodies: Bodies, pushes: Pushes, dt: float) -> Float[Tensor, "b o"]:
    """[m] by how much the place of each object gets less sure: with speed, of it and of what touches it."""
    count, size = bodies.centers.shape[:2]
    speeds = graph.speeds
    felt = speeds.new_zeros(graph.size + 1).scatter_reduce(0, graph.target, speeds, "amax")[:-1]
    felt = torch.maximum(felt.reshape(count, size), bodies.mean.norm(dim=-1))
    growth = dt * felt * pushes.rates.reshape(count, size)
    result = growth.new_zeros(count, len(layout.matter.object_ids))
    columns = list(result.unbind(1))
    row = len(layout.solid)
    for node, part in enumerate(layout.solid):
        columns[part.row] = growth[:, node]
    for part in layout.bent:
        columns[part.row] = growth[:, row : row + part.stop - part.start].mean(1)
        row += part.stop - part.start
    return torch.stack(columns, 1)


def gated(layout: Layout, change: Correction, shares: Mapping[str, float]) -> Correction:
    """A correction of which every kind of part gets its share."""
    kinds = [part.kind for part in layout.solid]
    kinds += [part.kind for part in layout.bent for _ in range(part.stop - part.start)]
    factors = change.linear.new_tensor([shares.get(kind.value, 0.0) for kind in kinds])
    joint = shares.get(PartKind.JOINT.value, 0.0)
    return Correction(
        change.linear * factors[:, None],
        change.angular * factors[: len(layout.solid), None],
        tuple(joint * value for value in change.joints),
    )


def went_on(layout: Layout, bodies: Bodies, before: State, after: State, share: float, dt: float) -> State:
    """A predicted state in which the last observed difference goes on, as long as a thing moves.

    Solid things get the one motion that fits the differences of their particles best.
    """
    residual = before.residual.to(after.object_poses)
    linear = torch.zeros_like(bodies.centers)
    angular = torch.zeros_like(bodies.spins[0])
    for node, part in enumerate(layout.solid):
        off = residual[:, part.rows]
        arms = after.particle_positions[:, part.rows] - bodies.centers[:, node, None]
        mean, middle = off.mean(1), arms.mean(1, keepdim=True)
        arms = arms - middle
        torque = torch.linalg.cross(arms, off - mean[:, None]).sum(1)
        square = arms.square().sum((1, 2))[:, None, None] * torch.eye(3).to(arms)
        spread = square - arms.transpose(1, 2) @ arms + 1e-6 * torch.eye(3).to(arms)
        spin = torch.linalg.solve(spread, torque[..., None])[..., 0]
        linear[:, node] = mean - torch.linalg.cross(spin, middle[:, 0])
        angular[:, node] = spin
    linear[:, len(layout.solid) :] = residual[:, layout.particles]
    moves = (bodies.mean.norm(dim=-1) / _MOVES).square().clamp(max=1)[..., None] * share
    linear = linear * moves
    angular = angular * moves[:, : len(layout.solid)]
    zeros = torch.zeros_like
    joints = tuple(
        torch.stack([value := _rate(bodies, hinge, linear), zeros(value)]) for hinge in layout.hinges
    )
    change = Correction(torch.stack([linear, zeros(linear)]), torch.stack([angular, zeros(angular)]), joints)
    return corrected(layout, bodies, after, change, dt)


def _rate(bodies: Bodies, hinge: Hinge, linear: Tensor) -> Tensor:
    """(b) [rad/s] or [m/s] of a joint whose part has this velocity."""
    axis, origin = axis_of(hinge, bodies)
    velocity = linear[:, hinge.node]
    if hinge.joint.kind == "prismatic":
        return (velocity * axis).sum(-1)
    way = torch.linalg.cross(axis, bodies.centers[:, hinge.node] - origin)
    return (velocity * way).sum(-1) / way.square().sum(-1).clamp(min=1e-9)


def situation(layout: Layout, found: Step) -> Float[Tensor, " f"]:
    """What a stretch of time was like: what the network knew of the bodies that did something, and sizes."""
    count, size = found.bodies.centers.shape[:2]
    latent = found.pushes.latent.reshape(count, size, -1)
    speeds = found.graph.speeds
    felt = speeds.new_zeros(found.graph.size + 1).scatter_reduce(0, found.graph.target, speeds, "amax")
    weights = felt[:-1].reshape(count, size).clamp(max=0.1)[..., None] + 1e-4
    active = (weights * latent).sum((0, 1)) / weights.sum()
    tools = [
        value for tool in layout.tools for value in (tool.radii.min(), tool.halves.max(), tool.halves.mean())
    ]
    sizes = latent.new_tensor([10 * float(value) for value in tools[:3]])
    solid = latent.new_tensor([math.log(1 + len(layout.solid) + len(layout.bent))])
    return torch.cat([active, layout.facts.mean(0), sizes, solid])


def observed(model: Residual, states: State, actions: Action) -> State:
    """The last of some observed states, with the last differences between what was seen and predicted.

    Args:
        model: what predicts, without differences of before.
        states: u of them, time is the batch axis.
        actions: u - 1 of them.

    Raises:
        ValueError: not one state more than actions.
    """
    if len(states) != len(actions) + 1:
        raise ValueError(f"expected one state more than actions, got {len(states)} and {len(actions)}")
    last = states[-1]
    if not len(actions):
        return last
    dt = model.action_spec.dt
    with torch.no_grad(), one_torch_thread():
        recent = slice(max(0, len(actions) - 5), len(actions))
        guesses = model.unprompted(states[recent], actions[recent])
        seen = states.particle_positions[recent.start + 1 :]
        off = (seen - guesses.particle_positions) / dt
        # Only of moments in which the thing moved: at rest there is nothing to be learned.
        moved = (states.particle_positions[recent.start + 1 :] - states.particle_positions[recent]).norm(
            dim=-1
        )
        weight = (moved > 1e-3).to(off)[..., None]
        mean = (weight * off).sum(0) / weight.sum(0).clamp(min=1)
    return replace(last, residual=mean)
