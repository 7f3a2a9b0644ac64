"""How far predictions are from what happened: distances of followed points, at each horizon."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.errors import CaptureError
from gaussworld.pose import invert_pose, transform_points
from gaussworld.state import Dynamics, Rollout, State
from gaussworld.world import World

from .episodes import Episode
from .matter import Matter
from .skinning import Skin


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
    tracks = episode.tracks_between(0, len(rollout))
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
    where = Skin.bind(matter, world).points(rest, ids)
    apart = (where(rollout.states) - points).norm(dim=-1)
    rested = (points - points[:1]).norm(dim=-1)
    return Errors(_mean_by_object(apart, ids), _mean_by_object(rested, ids), rollout)


def _movable(world: World, matter: Matter, ids: Tensor) -> Bool[Tensor, " q"]:
    kinds = {part.object_id: part.kind.value for part in matter.parts}
    there = [kinds.get(number, "STATIC") != "STATIC" and number in world.objects for number in ids.tolist()]
    return torch.tensor(there, dtype=torch.bool)


def _mean_by_object(distances: Float[Tensor, "u q"], ids: Tensor) -> Float[Tensor, " u"]:
    means = [distances[:, ids == number].mean(1) for number in ids.unique().tolist()]
    return torch.stack(means).mean(0)
