"""How far predictions are from what happened: distances of followed points, at each horizon."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.errors import CaptureError
from gaussworld.pose import invert_pose, transform_points
from gaussworld.state import Dynamics, Rollout, State
from gaussworld.world import World

from ..episodes import Episode
from ..matter import Matter
from ..skinning import Skin


@dataclass(frozen=True, eq=False)
class Errors:
    """How far points are from where they were seen, at each of u moments."""

    predicted: Float[Tensor, " u"]
    """[m] mean distance of predicted from seen points."""
    rested: Float[Tensor, " u"]
    """[m] the same if nothing had moved."""
    rollout: Rollout

    def at(self, step: int) -> tuple[float, float]:
        """[m] both after so many steps."""
        return float(self.predicted[step]), float(self.rested[step])


@dataclass(frozen=True, eq=False)
class Followed:
    """Points on things that can move, where they really went, and how to ask a state for them."""

    ids: Int[Tensor, " q"]
    """The object of each, in rising order."""
    points: Float[Tensor, "u q 3"]
    """[m] where they were, world frame."""
    where: Callable[[State], Float[Tensor, "*b q 3"]]
    """[m] where a state has them, world frame."""

    @property
    def objects(self) -> tuple[int, ...]:
        """That have such points."""
        return tuple(self.ids.unique().tolist())

    def by_object(self, values: Float[Tensor, "*b q"]) -> Float[Tensor, "*b k"]:
        """Means over the points of each object."""
        return torch.stack([values[..., self.ids == number].mean(-1) for number in self.objects], -1)


def first_state(model: Dynamics, world: World, episode: Episode) -> State:
    """The model's first state, with the tools where they were at time 0."""
    seen = episode.states_between(0, 0)
    state = model.initial(world)
    return replace(
        state, tool_poses=seen.tool_poses[0].to(state.tool_poses), grip=seen.grip[0].to(state.grip)
    )


def track_errors(
    models: Sequence[Dynamics], world: World, matter: Matter, episode: Episode, steps: int | None = None
) -> list[Errors]:
    """Predict an episode from its beginning with each model, and follow its points.

    Args:
        models: of this world.
        world: as the episode begins, of true meshes or of what was seen.
        matter: of the world.
        episode: what happened.
        steps: predict so many; default: all.

    Raises:
        CaptureError: nothing that can move was followed.
    """
    steps = len(episode) if steps is None else min(steps, len(episode))
    actions = episode.actions_between(0, steps)
    with torch.no_grad():
        rollouts = [model.rollout(first_state(model, world, episode), actions) for model in models]
    return [errors_of(rollout, world, matter, episode) for rollout in rollouts]


@torch.no_grad()
def errors_of(rollout: Rollout, world: World, matter: Matter, episode: Episode) -> Errors:
    """How far the points that an episode followed are from where a rollout has them.

    Points of what can move count, each thing the same; they are bound to the world as it is at time 0.

    Raises:
        CaptureError: nothing that can move was followed.
    """
    followed = followed_points(world, matter, episode, len(rollout))
    apart = (followed.where(rollout.states) - followed.points).norm(dim=-1)
    rested = (followed.points - followed.points[:1]).norm(dim=-1)
    return Errors(followed.by_object(apart).mean(1), followed.by_object(rested).mean(1), rollout)


def followed_points(
    world: World, matter: Matter, episode: Episode, steps: int | None = None, skin: Skin | None = None
) -> Followed:
    """The points of an episode on things that can move, bound to the world as it is at time 0.

    Args:
        world: as the episode begins.
        matter: of the world.
        episode: what happened.
        steps: only the first so many; default: all.
        skin: of the world; default: it is bound here.

    Raises:
        CaptureError: nothing that can move was followed.
    """
    tracks = episode.tracks_between(0, len(episode) if steps is None else steps)
    movable = _movable(world, matter, tracks.objects)
    if not bool(movable.any()):
        raise CaptureError(f"{episode.folder}: expected points followed on things that move, got none")
    ids, points = tracks.objects[movable], tracks.points[:, movable]
    ids, order = ids.sort(stable=True)
    points = points[:, order]
    rest = torch.cat(
        [
            transform_points(invert_pose(world.objects[number].world_from_object), points[0, ids == number])
            for number in ids.unique().tolist()
        ]
    )
    skin = Skin.bind(matter, world) if skin is None else skin
    return Followed(ids, points, skin.points(rest, ids))


def _movable(world: World, matter: Matter, ids: Tensor) -> Bool[Tensor, " q"]:
    kinds = {part.object_id: part.kind.value for part in matter.parts}
    there = [kinds.get(number, "STATIC") != "STATIC" and number in world.objects for number in ids.tolist()]
    return torch.tensor(there, dtype=torch.bool)
