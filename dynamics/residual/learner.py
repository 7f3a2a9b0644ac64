"""`ResidualLearner`: what `fit` trains of a corrected model - windows, losses, gate, radii."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.errors import ConfigError
from gaussworld.log import Event, Notice, Progress
from gaussworld.state import Action, State

from ..baselines import ConstantVelocity
from ..learning.calibration import Radius, Usual
from ..learning.recording import Recording
from ..physics.settings import PriorConfig
from ..prior import Prior
from .files import save_residual
from .globals import Globals
from .graph import Graph, graph_of, joined, mirrored
from .impulses import Correction, carried_points, corrected, correction_of, momenta
from .layout import Layout
from .limits import limited
from .model import Gate, Residual, Step, doubt_of, observed, situation
from .network import ImpulseNetwork, NetworkConfig, Pushes

Base = Literal["prior", "none"]
#: [m] Errors below it count by their squares.
_SMOOTH = 0.002
#: Followed particles of each solid part.
_FOLLOWED = 16
#: Share of training in which single steps are learned.
_SINGLE = 0.15
#: How much of a change of velocity is left a step later.
_STAYS = 0.5
#: Shares of a correction that the gate tries.
_SHARES = (0.25, 0.5, 0.75, 1.0)
#: Steps over which the gate judges, and moments of a recording from which it does.
_HORIZON, _BEGINNINGS = 30, (0, 10, 20, 30, 40)
#: How much of the last difference may go on, and how many steps are observed before.
_PERSISTED, _PREFIX = (0.0, 0.25, 0.5, 1.0), 10
#: Recordings that tell what is usual.
_USUAL = 12
#: Held-out recordings that choose the gate, about.
_JUDGES = 20
#: Worlds of so few bodies keep what the base says of all their steps.
_FEW = 12


@dataclass(frozen=True)
class ResidualConfig:
    """What a corrected model is like, and how it learns."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    windows: int = 32
    """Stretches of each recording in a step of training."""
    longest: int = 8
    """Steps of the longest rollouts that are learned from; they begin with 1 and get longer."""

    def __post_init__(self) -> None:
        for name in ("windows", "longest"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recording with what does not change while it is learned from."""

    recording: Recording
    base: Prior | ConstantVelocity
    layout: Layout
    moved: Float[Tensor, " t"]
    """[m] how far its particles go in each step."""
    rows: Int[Tensor, " n"]
    """Particles that are compared."""

    @cached_property
    def single(self) -> Step:
        """The base's step from every moment, and what a network sees of it."""
        states, actions = self.recording.states, self.recording.actions
        with torch.no_grad():
            return self.seen(states[: len(actions)], actions)

    def seen(self, state: State, action: Action) -> Step:
        """The base's step, and what a network sees of it."""
        after = self.base.advanced(state, action)
        graph, bodies = graph_of(self.layout, state, after, self.recording.spec.dt)
        empty = Pushes(torch.zeros(0), torch.zeros(0), torch.zeros(0))
        return Step(after, graph, bodies, empty, torch.zeros(0))


class ResidualLearner:
    """A network that corrects, while it is trained."""

    def __init__(
        self, config: ResidualConfig, given: Globals, generator: torch.Generator, base: Base = "prior"
    ) -> None:
        """An untrained network.

        Args:
            config: what it is like.
            given: parameters of the prior.
            generator: of the first weights.
            base: what is corrected: the physics prior, or nothing but things that go on as they do.
        """
        self.config, self.globals = config, given
        self.base: Base = base
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            self.module = ImpulseNetwork(config.network)
        self.gate, self.radius, self.usual = Gate(), None, None
        self._prepared: dict[str, Prepared] = {}

    def prepared(self, recording: Recording) -> Prepared:
        """The recording with base and layout; made once."""
        if recording.identity not in self._prepared:
            base = base_of(self.base, recording, self.globals)
            prior = base if isinstance(base, Prior) else base.prior
            layout = Layout.of(recording.world, recording.matter, recording.tools, prior.parameters)
            rows = [torch.arange(0)]
            rows += [torch.arange(p.start, min(p.stop, p.start + _FOLLOWED)) for p in layout.solid]
            rows += [torch.arange(p.start, p.stop) for p in layout.bent]
            places = recording.states.particle_positions
            moved = (places[1:] - places[:-1]).norm(dim=-1).amax(-1)
            self._prepared[recording.identity] = Prepared(recording, base, layout, moved, torch.cat(rows))
        return self._prepared[recording.identity]

    def begin(self, recordings: Sequence[Recording]) -> None:
        """Learn what is usual of each number that the network is told."""
        some = [self.prepared(each) for each in recordings[:_USUAL]]
        graphs = []
        for ready in some:
            moments = torch.arange(0, len(ready.recording), max(1, len(ready.recording) // 8))
            graphs.append(ready.seen(ready.recording.states[moments], ready.recording.actions[moments]).graph)
        self.module.fit_scale(joined(graphs))

    def length(self, share: float) -> int:
        """Steps of the rollouts at a moment of training: at first 1, then 2, 4, ... each as long."""
        stages = int(math.log2(self.config.longest))
        later = max(0.0, share - _SINGLE) / (1 - _SINGLE)
        return 1 if share < _SINGLE else min(self.config.longest, 2 ** (1 + int(later * stages)))

    def loss(
        self, recordings: Sequence[Recording], share: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Of some stretches of some recordings; see the `Learner` protocol."""
        steps = self.length(share)
        runs = [_Run.start(self.prepared(each), steps, self.config.windows, generator) for each in recordings]
        in_mirror = torch.rand(len(runs), generator=generator).lt(0.5).tolist()
        heads = torch.randint(
            self.config.network.heads, (sum(run.bodies for run in runs),), generator=generator
        )
        losses: dict[str, list[Tensor]] = {"place": [], "speed": [], "doubt": []}
        for index in range(steps):
            for run in runs:
                run.predict(index)
            graphs = [mirrored(run.graph) if turn else run.graph for run, turn in zip(runs, in_mirror)]
            graph = joined(graphs)
            pushes = self.module(graph)
            chosen = heads[graph.target.clamp(max=len(heads) - 1)]
            strengths = pushes.strengths[chosen, torch.arange(len(chosen))]
            linear, angular = momenta(graph, strengths)
            row = 0
            for run in runs:
                mine = slice(row, row + run.bodies)
                row = mine.stop
                own = Pushes(strengths[None, :0], pushes.rates[mine], pushes.latent[:0])
                for name, value in run.correct(index, linear[mine], angular[mine], own).items():
                    losses[name].append(value)
        parts = {name: torch.stack(values).mean() for name, values in losses.items()}
        return {"loss": parts["place"] + 0.5 * parts["speed"] + 0.02 * parts["doubt"], **parts}

    def model(self, recording: Recording, gate: Gate | None = None, radius: Radius | None = None) -> Residual:
        """The model of a recording's world, its correction wholly open unless a gate is given."""
        ready = self.prepared(recording)
        open_gate = Gate({part.kind.value: 1.0 for part in recording.matter.parts})
        return Residual(ready.base, self.module, gate or open_gate, radius, self.usual)

    def score(self, recording: Recording) -> float:
        """[m] mean distance after up to 30 steps from the beginning."""
        errors, _ = self.judged(recording, None, (0,))
        return float(errors.nanmean())

    @torch.no_grad()
    def judged(
        self, recording: Recording, gate: Gate | None, beginnings: Sequence[int], steps: int = _HORIZON
    ) -> tuple[Tensor, Tensor]:
        """(h, w, o) [m] mean distances of what moves, and doubts, after each step from some moments.

        NaN where the recording ends before, and for what cannot move or did not.
        """
        ready, states = self.prepared(recording), recording.states
        starts = torch.tensor([b for b in beginnings if b < len(recording)])
        model = self.model(recording, gate, Radius(torch.ones(1)))
        reach = (starts[None] + torch.arange(steps + 1)[:, None]).clamp(max=len(recording))
        rows = reach[:-1].clamp(max=len(recording) - 1)
        rollout = model.rollout(states[starts], recording.actions[rows])
        apart = (rollout.states.particle_positions - states.particle_positions[reach]).norm(dim=-1)[1:]
        late = (starts[None] + torch.arange(1, steps + 1)[:, None]) > len(recording)
        count = len(recording.matter.object_ids)
        errors = torch.full((steps, len(starts), count), math.nan)
        went = (states.particle_positions[reach] - states.particle_positions[reach[:1]]).norm(dim=-1)[1:]
        for part in (*ready.layout.solid, *ready.layout.bent):
            still = torch.maximum(apart, went)[..., part.rows].amax(-1) < 1e-3
            mean = apart[..., part.rows].mean(-1)
            errors[..., part.row] = mean.masked_fill(late | still, math.nan)
        assert rollout.spread is not None
        return errors, rollout.spread[1:]

    def finish(self, recordings: Sequence[Recording], learned: Sequence[Recording]) -> Iterator[Event[None]]:
        """Choose the gate, and learn radii and what is usual, on recordings that were not learned from."""
        kinds = sorted({part.kind.value for each in recordings for part in self.prepared(each).layout.solid})
        kinds += sorted({part.kind.value for each in recordings for part in self.prepared(each).layout.bent})
        judges = recordings[:: max(1, len(recordings) // _JUDGES)]
        tried = {0.0: self._mean(judges, Gate())}
        for done, share in enumerate(_SHARES):
            yield Progress(done, len(_SHARES) + 2, {}, "choosing the gate")
            tried[share] = self._mean(judges, Gate(dict.fromkeys(kinds, share)))
        rested = self._rested(judges)
        best = min(tried, key=lambda share: tried[share])
        if self.base == "prior" and tried[best] >= min(tried[0.0], rested):
            best = 0.0
        if self.base == "none":
            best = max(_SHARES, key=lambda share: -tried[share])
        self.gate = Gate(dict.fromkeys(kinds, best))
        went_on = {share: self._with_prefix(judges, share) for share in _PERSISTED}
        self.gate = Gate(self.gate.shares, min(went_on, key=lambda share: went_on[share]))
        yield Notice(
            f"gate: {best:g} of the correction; {1000 * tried[best]:.1f} mm on held-out recordings,"
            f" {1000 * tried[0.0]:.1f} mm without, {1000 * rested:.1f} mm if nothing moved"
        )
        yield Notice(
            f"after {_PREFIX} observed steps: {1000 * went_on[0.0]:.1f} mm, with {self.gate.persisted:g} of"
            f" the last difference {1000 * went_on[self.gate.persisted]:.1f} mm"
        )
        yield Progress(len(_SHARES), len(_SHARES) + 2, {}, "learning radii")
        self.radius = self._radii(recordings)
        self.usual = self._usual(learned, recordings)

    def _mean(self, recordings: Sequence[Recording], gate: Gate) -> float:
        """[m] over recordings, moments and steps."""
        found = [float(self.judged(each, gate, _BEGINNINGS)[0].nanmean()) for each in recordings]
        found = [value for value in found if math.isfinite(value)]
        return sum(found) / max(len(found), 1)

    @torch.no_grad()
    def _with_prefix(self, recordings: Sequence[Recording], share: float) -> float:
        """[m] mean distance of predictions that begin after some observed steps."""
        found = []
        for each in recordings:
            model = self.model(each, Gate(self.gate.shares, share))
            for start in (b for b in _BEGINNINGS if _PREFIX <= b < len(each) - 1):
                before = slice(start - _PREFIX, start)
                states = each.states[start - _PREFIX : start + 1]
                begun = observed(model, states, each.actions[before])
                stop = min(len(each), start + _HORIZON)
                rollout = model.rollout(begun, each.actions[start:stop])
                rows = self.prepared(each).rows
                seen = each.states.particle_positions[start : stop + 1, rows]
                if float((seen - seen[:1]).norm(dim=-1).max()) > 1e-3:
                    found.append(
                        float((rollout.states.particle_positions[:, rows] - seen).norm(dim=-1).mean())
                    )
        return sum(found) / max(len(found), 1)

    def _rested(self, recordings: Sequence[Recording]) -> float:
        """[m] the same if nothing had moved."""
        found = []
        for each in recordings:
            places = each.states.particle_positions[:, self.prepared(each).rows]
            for start in (b for b in _BEGINNINGS if b < len(each)):
                away = (places[start + 1 : start + 1 + _HORIZON] - places[start]).norm(dim=-1)
                if float(away.max()) > 1e-3:
                    found.append(float(away.mean()))
        return sum(found) / max(len(found), 1)

    def _radii(self, recordings: Sequence[Recording]) -> Radius | None:
        """Of the places of objects: that is what a spread is about."""
        errors, doubts = [], []
        for each in recordings:
            off, doubt = self._places(each)
            errors.append(off.flatten(1))
            doubts.append(doubt.flatten(1))
        joint = torch.cat(errors, 1)
        return Radius.of(joint, torch.cat(doubts, 1)) if bool(joint.isfinite().any()) else None

    @torch.no_grad()
    def _places(self, recording: Recording) -> tuple[Tensor, Tensor]:
        """(h, w, o) [m] errors of the objects' places from some moments, and doubts."""
        steps, states = len(recording), recording.states
        starts = torch.arange(0, len(recording), max(1, len(recording) // 6))
        model = self.model(recording, self.gate, Radius(torch.ones(1)))
        reach = (starts[None] + torch.arange(steps + 1)[:, None]).clamp(max=len(recording))
        rollout = model.rollout(states[starts], recording.actions[reach[:-1].clamp(max=len(recording) - 1)])
        seen = states.object_poses[reach][..., :3]
        off = (rollout.states.object_poses[..., :3] - seen).norm(dim=-1)[1:]
        went = (seen - seen[:1]).norm(dim=-1)[1:]
        late = (starts[None] + torch.arange(1, steps + 1)[:, None]) > len(recording)
        mine = torch.zeros(off.shape[-1], dtype=torch.bool)
        layout = self.prepared(recording).layout
        mine[[part.row for part in (*layout.solid, *layout.bent)]] = True
        nothing = (torch.maximum(off, went) < 1e-3) | late[..., None] | ~mine
        assert rollout.spread is not None
        return off.masked_fill(nothing, math.nan), rollout.spread[1:]

    def _usual(self, learned: Sequence[Recording], other: Sequence[Recording]) -> Usual | None:
        """What situations of training were like, by stretches of half a recording."""
        known, fresh = (
            torch.stack([v for each in group for v in self._situations(each)]) for group in (learned, other)
        )
        return Usual.of(known, fresh) if len(known) > 1 and len(fresh) else None

    @torch.no_grad()
    def _situations(self, recording: Recording) -> list[Tensor]:
        model, states, actions = self.model(recording), recording.states, recording.actions
        half = max(1, min(30, len(recording)))
        result = []
        for start in range(0, len(recording) - half + 1, half):
            before = states[start : start + half]
            after = model.base.advanced(before, actions[start : start + half])
            result.append(situation(model.layout, model.watched(before, after)))
        return result

    def save(self, folder: Path, facts: dict[str, object]) -> None:
        """Write the model, and beside it its prior alone."""
        save_residual(folder, self.module, self.base, self.globals, self.gate, self.radius, self.usual, facts)


def base_of(base: Base, recording: Recording, given: Globals) -> Prior | ConstantVelocity:
    """What is corrected, for the world of a recording."""
    world, matter, tools, spec = recording.world, recording.matter, recording.tools, recording.spec
    if base == "none":
        return ConstantVelocity(world, matter, tools, spec)
    prior = Prior(world, matter, tools, PriorConfig(contacts=False), None, spec)
    return prior.with_parameters(given.applied(prior.parameters))


@dataclass(eq=False)
class _Run:
    """Rollouts of some stretches of one recording, at one step."""

    ready: Prepared
    starts: Tensor
    state: State
    shift: Tensor
    """(w, s, 3) [m] zero, with the gradient of where solid things are; so are those that follow."""
    turn: Tensor
    joints: list[Tensor]
    soft: Tensor
    drift: list[Tensor]
    """The same of velocities: of centres, turns, joints and particles."""
    doubt: Tensor
    step: Step | None = None

    @classmethod
    def start(cls, ready: Prepared, steps: int, count: int, generator: torch.Generator) -> "_Run":
        """Stretches in which something moves are taken more often; of one step, all where bodies are few."""
        everything = steps == 1 and ready.layout.size <= _FEW
        moved = ready.moved.unfold(0, steps, 1).sum(-1) if steps <= len(ready.moved) else ready.moved[:1]
        moved = moved.nan_to_num(0.0)
        weights = 0.02 * float(moved.mean()) + moved + 1e-4
        starts = torch.multinomial(weights, count, replacement=True, generator=generator)
        if everything:
            starts, count = torch.arange(len(ready.recording)), len(ready.recording)
        state = ready.recording.states[starts]
        solid, hinges = len(ready.layout.solid), len(ready.layout.hinges)
        zeros = state.object_poses.new_zeros
        joints = [zeros(count) for _ in range(hinges)]
        soft = zeros(count, len(ready.layout.particles), 3)
        drift = [zeros(count, solid, 3), zeros(count, solid, 3), soft, *joints]
        return cls(
            ready,
            starts,
            state,
            zeros(count, solid, 3),
            zeros(count, solid, 3),
            joints,
            soft,
            drift,
            zeros(count, len(ready.recording.matter.object_ids)),
            ready.single if everything else None,
        )

    @property
    def bodies(self) -> int:
        """Of all samples together."""
        return len(self.starts) * self.ready.layout.size

    @property
    def graph(self) -> Graph:
        """What a network sees of the step."""
        assert self.step is not None
        return self.step.graph

    def predict(self, index: int) -> None:
        """The base's step, and what a network sees of it."""
        if self.step is not None and index == 0:
            return
        actions = self.ready.recording.actions
        rows = (self.starts + index).clamp(max=len(actions) - 1)
        with torch.no_grad():
            self.step = self.ready.seen(self.state, actions[rows])

    def correct(self, index: int, linear: Tensor, angular: Tensor, pushes: Pushes) -> dict[str, Tensor]:
        """Go on with a correction, and how far that is from what happened."""
        assert self.step is not None
        ready, step, dt = self.ready, self.step, self.ready.recording.spec.dt
        layout = ready.layout
        change = correction_of(layout, step.bodies, linear, angular)
        with torch.no_grad():
            still = Correction(
                change.linear.detach(), change.angular.detach(), tuple(v.detach() for v in change.joints)
            )
            still = limited(layout, step.graph, step.bodies, still, dt)
            self.state = corrected(layout, step.bodies, step.after, still, dt)
        solid = len(layout.solid)
        self.shift = self.shift + dt * (change.linear[0, :, :solid] + self.drift[0])
        self.turn = self.turn + dt * (change.angular[0] + self.drift[1])
        self.soft = self.soft + dt * (change.linear[0, :, solid:] + self.drift[2])
        self.joints = [a + dt * (b[0] + d) for a, b, d in zip(self.joints, change.joints, self.drift[3:])]
        self.drift = [
            _STAYS * self.drift[0] + change.linear[1, :, :solid],
            _STAYS * self.drift[1] + change.angular[1],
            _STAYS * self.drift[2] + change.linear[1, :, solid:],
            *(_STAYS * d + b[1] for d, b in zip(self.drift[3:], change.joints)),
        ]
        truth = ready.recording.states[(self.starts + index + 1).clamp(max=len(ready.recording))]
        places = self._followed(step, self.shift, self.turn, self.joints, self.soft)
        speeds = self._followed(step, self.drift[0], self.drift[1], self.drift[3:], self.drift[2])
        off = self.state.particle_positions[:, ready.rows] - truth.particle_positions[:, ready.rows]
        rush = self.state.particle_velocities[:, ready.rows] - truth.particle_velocities[:, ready.rows]
        doubt = doubt_of(layout, step.graph, step.bodies, pushes, dt)
        self.doubt = self.doubt + doubt
        errors = (self.state.object_poses - truth.object_poses)[..., :3].norm(dim=-1)
        return {
            "place": _smooth(off + places - places.detach()) * 100,
            "speed": _smooth(dt * (rush + speeds - speeds.detach())) * 100,
            "doubt": self._surprised(errors.detach()),
        }

    def _followed(
        self, step: Step, shift: Tensor, turn: Tensor, joints: Sequence[Tensor], soft: Tensor
    ) -> Tensor:
        """(w, n, 3) how the compared particles move, for small motions of bodies."""
        at = self.state.particle_positions
        solid = [at[:, p.start : min(p.stop, p.start + _FOLLOWED)] for p in self.ready.layout.solid]
        return torch.cat(
            [*carried_points(self.ready.layout, step.bodies, solid, shift, turn, joints), soft], 1
        )

    def _surprised(self, errors: Tensor) -> Tensor:
        """Negative log-likelihood of errors (w, o) [m] under exponential distributions of the doubts."""
        layout = self.ready.layout
        rows = [part.row for part in (*layout.solid, *layout.bent)]
        scale = (self.doubt[:, rows].square() + 1e-7).sqrt()
        return (scale.log() + errors[:, rows] / scale).mean()


def _smooth(off: Tensor) -> Tensor:
    """Mean Huber norm (w, n, 3) [m] (Huber 1964)."""
    apart = (off.square().sum(-1) + 1e-12).sqrt()
    return torch.where(apart < _SMOOTH, 0.5 * apart.square() / _SMOOTH, apart - 0.5 * _SMOOTH).mean()
