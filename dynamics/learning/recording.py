"""`Recording`: an episode as a model learns from it: its world, and true states with particles."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.pose import invert_pose, pose_from_pose7, transform_points
from gaussworld.state import Action, ActionSpec, State
from gaussworld.world import World

from ..episodes import Episode
from ..episodes.episode import Tracks
from ..matter.parts import Matter, Part
from ..matter.sample import matter_of
from ..observed import Observation
from ..prior import Prior
from ..tool import Tool

#: Followed points that tell where a particle of something that bends is.
_HOLDS = 8
#: [m^2] keeps weights small where followed points are nearly on one line or plane.
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Recording:
    """What happened, as states that a model could have predicted."""

    name: str
    identity: str
    """family:seed; the same for the same episode wherever it lies."""
    family: str
    policy: str
    world: World
    matter: Matter
    tools: tuple[Tool, ...]
    spec: ActionSpec
    states: State
    """u = t + 1 of them, time is the batch axis; particles are the matter's."""
    actions: Action
    """t of them, time is the batch axis."""
    tracks: Tracks

    def __len__(self) -> int:
        """The number t of actions."""
        return len(self.actions)

    @property
    def movable(self) -> tuple[Part, ...]:
        """The parts that can move."""
        return tuple(part for part in self.matter.parts if part.stop > part.start)

    def moved(self, start: int = 0, stop: int | None = None) -> float:
        """[m] how far the particle that went farthest is from where it was."""
        points = self.states.particle_positions[start : None if stop is None else stop + 1]
        return float((points - points[:1]).norm(dim=-1).max()) if points.numel() else 0.0


def recording_of(episode: Episode, gaussians: int = 1000, world: World | None = None) -> Recording:
    """An episode with the world that it began with.

    Args:
        episode: what happened.
        gaussians: of the world that is made of the true meshes.
        world: what the model starts from in its place, such as what the cameras saw.

    Raises:
        FileFormatError: the episode's files are damaged.
        ValueError: nothing in it can move.
    """
    world = episode.world(gaussians) if world is None else world
    matter = matter_of(world)
    prior = Prior(world, matter, episode.tools, action_spec=episode.spec)
    moments = torch.arange(len(episode) + 1)
    seen = Observation.of_episode(episode).begin(prior.initial(world), world, moments)
    return Recording(
        episode.name,
        f"{episode.family}:{episode.seed}",
        episode.family,
        episode.policy,
        world,
        matter,
        episode.tools,
        episode.spec,
        _with_particles(seen, world, matter, episode),
        episode.actions,
        episode.tracks,
    )


def _with_particles(states: State, world: World, matter: Matter, episode: Episode) -> State:
    """The states with every particle where the poses, or the points that were followed, say."""
    places, speeds = [], []
    for part in matter.parts:
        if part.kind.bends:
            at = _bent(part, world, matter, episode)
            places.append(at)
            speeds.append(torch.cat([torch.zeros_like(at[:1]), at.diff(dim=0)]) * episode.spec.rate_hz)
            continue
        pose, twist = pose_from_pose7(states.object_poses[:, part.row]), states.object_twists[:, part.row]
        points = transform_points(pose, matter.rest[part.rows].expand(len(pose), -1, 3))
        arms = points - pose[:, None, :3, 3]
        places.append(points)
        speeds.append(twist[:, None, :3] + torch.linalg.cross(twist[:, None, 3:].expand_as(arms), arms))
    return replace(states, particle_positions=torch.cat(places, 1), particle_velocities=torch.cat(speeds, 1))


def _bent(part: Part, world: World, matter: Matter, episode: Episode) -> Float[Tensor, "u n 3"]:
    """[m] where the particles of a part that bends were."""
    tracks = episode.tracks
    mine = tracks.objects == part.object_id
    points = tracks.points[:, mine]
    pose = world.objects[part.object_id].world_from_object
    rest = transform_points(invert_pose(pose), points[0])
    rows, weights = carriers(matter.rest[part.rows], rest)
    at = (weights[..., None] * points[:, rows]).sum(-2)
    # What the weights cannot say of places off the followed points goes along unturned.
    off = transform_points(pose, matter.rest[part.rows] - (weights[..., None] * rest[rows]).sum(1))
    return at + (off - pose[:3, 3])


def carriers(
    points: Float[Tensor, "n 3"], rest: Float[Tensor, "q 3"]
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """The k followed points that carry each point, with weights that sum to 1 and give back its place.

    The smallest such weights that favour near ones: moving least squares with a linear basis (Lancaster and
    Salkauskas 1981).
    """
    count = min(_HOLDS, len(rest))
    gaps, rows = torch.cdist(points, rest).topk(count, dim=1, largest=False)
    near = 1 / (gaps.square() + (0.5 * gaps[:, -1:]).square() + 1e-8)
    near = near / near.sum(1, keepdim=True)
    middle = (near[..., None] * rest[rows]).sum(1)
    arms = rest[rows] - middle[:, None]
    spread = (near[..., None, None] * arms[..., :, None] * arms[..., None, :]).sum(1)
    solved = torch.linalg.solve(spread + _RIDGE * torch.eye(3), (points - middle)[..., None])[..., 0]
    return rows, near * (1 + (arms * solved[:, None]).sum(-1))
