"""`predict`: what a world will look like if tools do this."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaussworld.errors import ConfigError
from gaussworld.io.action_script import ActionFile
from gaussworld.log import Done, Event, Progress, drain
from gaussworld.pose import (
    invert_pose,
    multiply_quats,
    pose7_from_pose,
    pose_from_pose7,
    transform_points,
)
from gaussworld.state import Action, Dynamics, Rollout, State
from gaussworld.threads import one_torch_thread
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

from ..matter.parts import Matter, PartKind
from ..matter.sample import matter_of
from ..models import Learned, model_named
from ..rollout import Accounts
from ..skinning.skin import Skin
from ..tool import Tool
from .question import MAX_SPEED, Question, ask
from .stage import Posed

#: Steps between two signs of life.
_CHUNK = 5


@dataclass(frozen=True)
class PredictConfig:
    """How a future is predicted."""

    samples: int = 1
    """Futures from starts that differ a little: how far they come apart is the spread."""
    noise: float = 0.002
    """[m] standard deviation of the places at which samples start; of their turns it is 1 degree."""
    max_speed: float = MAX_SPEED
    """[m/s] actions that move a tool faster are refused: they would carry it through things."""
    seed: int = 0
    """Of the samples' starts."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples: expected at least 1, got {self.samples}")
        if not 0 <= self.noise < 1:
            raise ConfigError(f"noise: expected metres, 0 to 1, got {self.noise}")


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted future, and what it answers."""

    question: Question
    rollout: Rollout
    """Unbatched; its spread is what the model says, or that of the samples."""
    samples: Rollout | None
    """All samples as a batch (t + 1, s), the undisturbed one first; None if there was one."""
    seconds: float
    """[s] that the model took to predict."""
    ready_seconds: float = 0.0
    """[s] that making the model and its first state took."""
    matter: Matter | None = None
    """What the particles of the states are of; None if only the model knows."""
    surprise: float | None = None
    """Share of training situations that are less unusual, range [0, 1]; None if nothing was learned."""

    def posed(self) -> Posed | None:
        """What gives the Gaussians of a state, bent where things bend; None where nobody knows how."""
        return None if self.matter is None else Skin.bind(self.matter, self.question.world).gaussians


def predict(
    world: World | Path | str,
    actions: Action | ActionFile | Mapping[str, Any] | Path | str | None = None,
    model: str | Dynamics = "prior",
    *,
    tools: Sequence[Tool | str] | None = None,
    steps: int | None = None,
    config: PredictConfig | None = None,
) -> Rollout:
    """What a world will look like if tools do this.

    Args:
        world: a world, or the path of a stored world, a run, a file of a scene, or an episode.
        actions: targets of the tools, a file of actions, a dict as in such a file (.json), or an episode in
            which they were done; default: those of `world`, where it is an episode.
        model: prior, persistence or constant-velocity, or a model.
        tools: what acts, if the actions do not say; default: the pusher.
        steps: predict only the first so many.
        config: samples, seed, and what is refused.

    Raises:
        UnknownScale: the world's scale is not known.
        ConfigError: nothing can move, z is not up, no such model or tool.
        FileFormatError: a path that holds neither, or a damaged file.
        ValueError: actions of another kind, rate or unit, or with jumps; or a model that went astray.
    """
    config = config or PredictConfig()
    if actions is None:
        if isinstance(world, World):
            raise ValueError("actions: expected some, got none; only an episode brings its own")
        actions = world
    question = ask(world, actions, tools, config.max_speed).first(steps)
    return drain(predicting(question, model, config)).result.rollout


def predicting(
    question: Question, model: str | Dynamics = "prior", config: PredictConfig | None = None
) -> Generator[Event[Prediction], None, None]:
    """As `predict`, step by step.

    Raises:
        ConfigError: no such model.
        ValueError: the model is of another action spec, or a state is not finite.
    """
    config = config or PredictConfig()
    with one_torch_thread():
        begun = time.monotonic()
        matter = matter_of(question.world)
        if isinstance(model, str):
            rate = question.actions.spec.rate_hz
            model = model_named(model, question.world, matter, question.tools, rate)
        # What a model is made of, and what it predicts, are timed apart: a planner makes it once.
        model.action_spec.check(question.actions)
        state, actions = start_state(model, question), question.actions
        if config.samples > 1:
            state = _scattered(state, question.world, config, _matter(model, matter, state))
            actions = actions.map(lambda value: value[:, None].expand(-1, config.samples, *value.shape[1:]))
        ready = time.monotonic() - begun
        begun = time.monotonic()
        whole = yield from _stepped(model, state, actions)
        seconds = time.monotonic() - begun
    many = config.samples > 1
    first = sample(whole, 0) if many else whole
    if many and first.spread is None:
        first = replace(first, spread=spread(whole))
    # A model of its own particles has a matter of its own, which only it knows.
    matter = _matter(model, matter, first.states)
    first = _with_contacts(question, first, matter)
    unusual = model.surprise(first) if isinstance(model, Learned) else None
    yield Done(Prediction(question, first, whole if many else None, seconds, ready, matter, unusual))


def _matter(model: Dynamics, matter: Matter, states: State) -> Matter | None:
    own = getattr(model, "matter", matter)
    matter = own if isinstance(own, Matter) else matter
    return matter if states.particle_positions.shape[-2] == len(matter.rest) else None


def _with_contacts(question: Question, rollout: Rollout, matter: Matter | None) -> Rollout:
    """With what touches what, where the model did not say."""
    if rollout.contacts is not None or matter is None:
        return rollout
    accounts = Accounts(question.world, matter, question.tools)
    return replace(rollout, contacts=accounts.contacts(rollout.states))


def start_state(model: Dynamics, question: Question) -> State:
    """The world as it stands at time 0, with the tools where the actions begin."""
    state = model.initial(question.world)
    if state.tool_poses.shape[-2] != len(question.tools):
        raise ValueError(
            f"expected a model of {len(question.tools)} tools, got one of {state.tool_poses.shape[-2]}"
        )
    start = question.start.to(state.tool_poses)
    state = replace(state, tool_poses=start, grip=question.start_grip.to(state.grip))
    return replace(state, object_poses=_robots_at(question.world, state))


def _robots_at(world: World, state: State) -> Tensor:
    """Object poses with each robot that is a tool, and no arm, where its tool begins."""
    poses = state.object_poses.clone()
    for number, tool in zip(tool_robots(world), pose_from_pose7(state.tool_poses)):
        motion = tool @ invert_pose(pose_from_pose7(poses[state.object_ids.index(number)]))
        for row, other in enumerate(state.object_ids):
            if other == number or number in world.ancestors(world.objects[other]):
                poses[row] = pose7_from_pose(motion @ pose_from_pose7(poses[row]))
    return poses


def tool_robots(world: World) -> list[int]:
    """Ids of robots' bases whose frames are those of the tools, in order: robots without arms."""
    robots = {n: item for n, item in world.objects.items() if item.kind is ObjectKind.ROBOT}
    if any(item.joint is not None and item.joint.kind == "revolute" for item in robots.values()):
        return []
    return [n for n, item in robots.items() if item.joint is None and item.parent not in robots]


def sample(rollout: Rollout, row: int) -> Rollout:
    """One of a batch of rollouts (t + 1, s)."""
    contacts = None if rollout.contacts is None else rollout.contacts[:, row]
    radii = None if rollout.spread is None else rollout.spread[:, row]
    states = rollout.states.map(lambda value: value[:, row])
    actions = rollout.actions.map(lambda value: value[:, row])
    return Rollout(states, actions, rollout.dt, radii, contacts)


def spread(rollout: Rollout) -> Tensor:
    """[m] radius about the first sample's objects that holds nine samples out of ten, shape (t + 1, o)."""
    places = rollout.states.object_poses[..., :3]
    return (places - places[:, :1]).norm(dim=-1).quantile(0.9, dim=1)


def check_finite(states: State) -> None:
    """Refuse states in which a number is NaN or infinite.

    Raises:
        ValueError: names the first step and field that are.
    """
    bad = [f.name for f in fields(State) if isinstance(getattr(states, f.name), Tensor)]
    bad = [name for name in bad if not bool(getattr(states, name).isfinite().all())]
    if bad:
        value = getattr(states, bad[0])
        step = int((~value.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"expected finite states, got NaN or infinity in {bad[0]} after step {step}: the model went"
            " astray; report it with the world and the actions"
        )


def _stepped(model: Dynamics, state: State, actions: Action) -> Generator[Event[Prediction], None, Rollout]:
    """The rollout in chunks; a model is the same however it is called."""
    parts: list[Rollout] = []
    # Only the whole knows how far ahead a step is, on which it hangs how sure it can be.
    chunk = len(actions) if isinstance(model, Learned) else _CHUNK
    for begin in range(0, len(actions), chunk):
        yield Progress(begin, len(actions), message="predicting")
        part = model.rollout(state, actions[begin : begin + chunk])
        check_finite(part.states)
        parts.append(part)
        state = part.final
    yield Progress(len(actions), len(actions), message="predicting")
    return joined(parts, actions)


def joined(parts: Sequence[Rollout], actions: Action) -> Rollout:
    """Rollouts each of which begins where the last ended, as one."""
    rows = [0] + [1] * (len(parts) - 1)
    states = replace(
        parts[0].states,
        **{
            field.name: torch.cat([getattr(part.states, field.name)[row:] for part, row in zip(parts, rows)])
            for field in fields(State)
            if isinstance(getattr(parts[0].states, field.name), Tensor)
        },
    )
    extras: dict[str, Tensor | None] = {}
    for name in ("spread", "contacts"):
        values = [getattr(part, name) for part in parts]
        known = all(value is not None for value in values)
        extras[name] = torch.cat([value[row:] for value, row in zip(values, rows)]) if known else None
    return Rollout(states, actions, actions.spec.dt, **extras)


def _scattered(state: State, world: World, config: PredictConfig, matter: Matter | None) -> State:
    """A batch of starts: the first as it is, in the others free rigid objects stand a little elsewhere.

    They are moved in the plane and turned about the vertical, so that what rests on something still does.
    """
    generator = torch.Generator().manual_seed(config.seed)
    states = state.expand(config.samples).map(torch.clone)
    poses = states.object_poses
    for row, number in enumerate(state.object_ids):
        item = world.objects[number]
        shift = torch.randn(config.samples, 2, generator=generator) * config.noise
        half = torch.randn(config.samples, generator=generator).deg2rad() / 2
        if item.kind is not ObjectKind.RIGID or item.parent is not None:
            continue
        shift[0], half[0] = 0, 0
        turn = torch.stack([half.cos(), 0 * half, 0 * half, half.sin()], -1)
        poses[:, row, :2] += shift
        poses[1:, row, 3:] = multiply_quats(turn, poses[:, row, 3:])[1:]
    if matter is None:
        return states
    parts = []
    for part in matter.parts:
        rows = states.particle_positions[:, part.rows]
        if part.kind is PartKind.RIGID:
            rows = transform_points(pose_from_pose7(poses[:, part.row]), matter.rest[part.rows])
            rows[0] = state.particle_positions[part.rows]
        parts.append(rows)
    particles = torch.cat(parts, dim=1) if parts else states.particle_positions
    return replace(states, particle_positions=particles)
