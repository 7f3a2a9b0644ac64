"""`Question`: a world, what is done to it and by what - checked before anything is predicted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import ConfigError, FileFormatError, UnknownScale
from gaussworld.io import holds_world, load_world
from gaussworld.io.action_script import ActionFile, actions_from_plain
from gaussworld.io.actions import load_actions
from gaussworld.state import Action
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

from ..episodes import Episode, EpisodeSet
from ..episodes.layout import INDEX
from ..tool import Tool, pusher, tool_from_record, tool_named, tool_record

#: [m/s] no tool is moved faster: beyond it a step would carry a thin tool through what it should push.
MAX_SPEED = 1.0
#: Kinds of object that a model may move.
MOVABLE = (ObjectKind.RIGID, ObjectKind.ARTICULATED, ObjectKind.DEFORMABLE)
#: Of an episode's world: enough for thin things not to sink into what is below them, when drawn.
_GAUSSIANS = 60_000
#: What a run folder calls its stored world.
_RUN_WORLD = "scene.world"


@dataclass(frozen=True, eq=False)
class Question:
    """What will this world look like if these tools do this?"""

    world: World
    """In metres, z up."""
    actions: Action
    """The first axis is time."""
    tools: tuple[Tool, ...]
    start: Float[Tensor, "a 7"]
    """[m] where the tools are at time 0: x y z, w x y z."""
    start_grip: Float[Tensor, " a"]
    episode: Episode | None = None
    """The recording that world or actions are of; its truth is shown beside the prediction."""
    source: str | None = None
    """Where the world is from."""

    def first(self, steps: int | None) -> "Question":
        """The question about the first steps only.

        Raises:
            ConfigError: fewer than 1.
        """
        if steps is None or steps >= len(self.actions):
            return self
        if steps < 1:
            raise ConfigError(f"--steps: expected at least 1, got {steps}")
        return replace(self, actions=self.actions[:steps])


def ask(
    world: World | Path | str,
    actions: Action | ActionFile | Mapping[str, Any] | Path | str,
    tools: Sequence[Tool | str] | None = None,
    max_speed: float = MAX_SPEED,
) -> Question:
    """Put together what a prediction needs, and refuse what cannot be predicted.

    Args:
        world: a world, or the path of a stored world, a run, a file of a scene, or an episode.
        actions: what is done, a file of actions, a dict as in such a file, or an episode of it.
        tools: by what, if the actions do not say; default: the pusher.
        max_speed: [m/s] a target farther from the last than this allows is refused.

    Raises:
        UnknownScale: the world's scale is not known.
        ConfigError: nothing in the world can move, z is not up, no such tool, or tools that contradict the
            actions.
        FileFormatError: a path that holds neither, or a damaged file.
        ValueError: actions of another kind than tool poses, or with jumps.
    """
    told, episode = _told(actions)
    place, seen = _world(world)
    episode = seen if seen is not None else episode
    chosen = _tools(told, tools)
    poses = told.actions.tools
    if told.actions.spec.kind != "tool_pose" or poses is None:
        raise ValueError(
            f"actions: expected the kind tool_pose (targets of tools in the world's frame), got"
            f" {told.actions.spec.kind}; convert them, they are never guessed"
        )
    if len(told.actions.batch_shape) != 1 or not len(told.actions):
        shape = tuple(poses.shape)
        raise ValueError(f"actions: expected targets of shape (t, a, 7) with t of at least 1, got {shape}")
    start = poses[0] if told.start is None else told.start
    grip = _start_grip(told)
    check_speed(torch.cat([start[None], poses]), told.actions.spec.dt, max_speed)
    return Question(
        _ready(place, None if isinstance(world, World) else Path(world)),
        told.actions,
        chosen,
        start,
        grip,
        episode,
        None if isinstance(world, World) else str(world),
    )


def check_speed(poses: Float[Tensor, "u a 7"], dt: float, max_speed: float) -> None:
    """Refuse a target that the tool cannot reach in one step.

    Raises:
        ValueError: names the first step that goes too far.
    """
    if not 0 < max_speed < math.inf:
        raise ValueError(f"max_speed: expected metres per second above 0, got {max_speed}")
    far = poses[..., :3].diff(dim=0).norm(dim=-1)
    if bool((far > max_speed * dt * (1 + 1e-4)).any()):
        step, tool = (far > max_speed * dt * (1 + 1e-4)).nonzero()[0].tolist()
        raise ValueError(
            f"actions: expected targets within {max_speed * dt:.3g} m of the last ({max_speed:g} m/s), got"
            f" {float(far[step, tool]):.3g} m in step {step}; put targets in between, or raise --max-speed"
        )


def is_episode(path: Path) -> bool:
    """Whether a folder is that of a recorded episode."""
    return (path / "episode.json").is_file()


def check_no_set(path: Path) -> None:
    """Refuse a folder of many episodes where one is meant.

    Raises:
        FileFormatError: so it is; names the first of them.
    """
    if is_episode(path) or not (path / INDEX).is_file():
        return
    names = EpisodeSet(path).names
    hint = f"name one of them, such as {path / names[0]}" if names else "generate some"
    raise FileFormatError(f"{path}: expected one episode, got a set of {len(names)}; {hint}")


def _told(
    actions: Action | ActionFile | Mapping[str, Any] | Path | str,
) -> tuple[ActionFile, Episode | None]:
    if isinstance(actions, Action):
        return ActionFile(actions), None
    if isinstance(actions, ActionFile):
        return actions, None
    if isinstance(actions, Mapping):
        return actions_from_plain(actions), None
    path = Path(actions)
    check_no_set(path)
    if is_episode(path):
        episode = Episode(path)
        return actions_of(episode), episode
    if path.is_dir():
        raise FileFormatError(f"{path}: expected a file of actions or an episode, got another folder")
    return load_actions(path), None


def _world(world: World | Path | str) -> tuple[World, Episode | None]:
    if isinstance(world, World):
        return world, None
    path = Path(world)
    check_no_set(path)
    if is_episode(path):
        episode = Episode(path)
        return episode.world(_GAUSSIANS), episode
    # The world of a run has its objects, which the run's file of Gaussians has not.
    return load_world(path / _RUN_WORLD if holds_world(path / _RUN_WORLD) else path), None


def actions_of(episode: Episode) -> ActionFile:
    """The actions of a recording, with its tools and where they began."""
    states = episode.states
    records = tuple(tool_record(tool) for tool in episode.tools)
    return ActionFile(episode.actions, records, states.tool_poses[0], states.grip[0])


def _tools(told: ActionFile, asked: Sequence[Tool | str] | None) -> tuple[Tool, ...]:
    size = told.actions.spec.size
    if asked:
        chosen = [tool_named(each) if isinstance(each, str) else each for each in asked]
    elif told.tools:
        chosen = [tool_named(each) if isinstance(each, str) else _recorded(each) for each in told.tools]
    else:
        chosen = [pusher()] * size
    if len(chosen) != size:
        raise ConfigError(
            f"expected {size} tools, as many as the actions move, got {len(chosen)}; name each of them"
        )
    return tuple(chosen)


def _recorded(record: Any) -> Tool:
    try:
        return tool_from_record(record)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"actions: expected the record of a tool, got {error} in it") from error


def _start_grip(told: ActionFile) -> Tensor:
    if told.start_grip is not None:
        return told.start_grip
    if told.actions.grip is not None:
        return told.actions.grip[0]
    return torch.zeros(told.actions.spec.size)


def _ready(world: World, path: Path | None) -> World:
    """The world in metres, z up, with something that can move; what is missing is told as commands to do."""
    make, store = _editable(path)
    if world.metres_per_unit is None:
        raise UnknownScale(
            "expected a world of known scale, got metres_per_unit = None; measure a distance in it and set"
            f" it: {make}`gaussworld world edit {store} set-scale"
            """ '{"a": [x, y, z], "b": [x, y, z], "metres": 0.5}'`"""
            + (f", then predict {store}" if make else "")
        )
    world = world.in_metres()
    if world.up is None or not world.up[2] > 1 - 1e-4:
        raise ConfigError(
            f"expected a world whose +z is up, got up = {world.up}; turn it:"
            f""" {make}`gaussworld world edit {store} set-up '{{"up": [x, y, z]}}'`"""
        )
    movable = [item for item in world.objects.values() if item.kind in MOVABLE and len(item.gaussians)]
    if not movable:
        kinds = ", ".join(f"{item.name} {item.kind.value}" for item in list(world.objects.values())[:5])
        raise ConfigError(
            f"expected a world with an object that can move, got {kinds or 'an empty one'}; find objects:"
            f" {make}`gaussworld objects {store}`, or say which moves:"
            f""" `gaussworld world edit {store} set-kind '{{"objects": [1], "kind": "RIGID"}}'`"""
        )
    return world


def _editable(path: Path | None) -> tuple[str, str]:
    """What has to be done so that there is a stored world to edit, and how that is called."""
    if path is None or is_episode(path):
        return "", "W"
    if holds_world(path / _RUN_WORLD):
        return "", str(path / _RUN_WORLD)
    if holds_world(path):
        return "", str(path)
    made = path.with_suffix(".world").name
    return f"`gaussworld world create {made} --from {path}`, ", made
