"""`Markers`: some points of every movable part, by which predicted and observed motion are compared."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.neighbors import nearest
from gaussworld.pose import invert_pose, pose_from_pose7, transform_points
from gaussworld.state import State
from gaussworld.world import World

from ..matter.geodesic import farthest_points
from ..matter.parts import Matter, PartKind
from ..observed import Observation

#: Markers of a part.
_EACH = 8
#: Followed points that one marker goes with.
_NEAR = 3


@dataclass(frozen=True, eq=False)
class Markers:
    """Particles that stand for their parts."""

    matter: Matter
    world: World
    rows: Int[Tensor, " k"]
    """Of the matter's particles."""
    owners: Int[Tensor, " k"]
    """Row of `parts`."""

    @classmethod
    def of(cls, matter: Matter, world: World) -> "Markers":
        """Up to eight of each part that moves, far apart from each other."""
        kinds = (PartKind.RIGID, PartKind.JOINT, PartKind.ROPE, PartKind.CLOTH, PartKind.VOLUME)
        rows = [
            part.start + farthest_points(matter.rest[part.rows], min(_EACH, part.stop - part.start))
            for _, part in matter.of(*kinds)
        ]
        chosen = torch.cat(rows) if rows else torch.zeros(0, dtype=torch.long)
        return cls(matter, world, chosen, matter.owners[chosen])

    def at(self, state: State) -> Float[Tensor, "*b k 3"]:
        """[m] where they are in the world; differentiable."""
        return state.particle_positions[..., self.rows, :]

    def seen(self, recording: Observation, initial: State) -> Float[Tensor, "u k 3"]:
        """[m] where they were in a recording, at each of its moments.

        Those of rigid and jointed parts go with the recorded poses, those of parts that bend as the nearest
        of the followed points do.

        Args:
            recording: of this world.
            initial: the model's first state, unbatched.

        Raises:
            ValueError: nothing was followed on an object that bends.
        """
        start = initial.particle_positions[self.rows]
        found = start.expand(len(recording) + 1, -1, -1).clone()
        poses = pose_from_pose7(recording.states.object_poses.double())
        for row, part in enumerate(self.matter.parts):
            mine = self.owners == row
            if not bool(mine.any()):
                continue
            if part.kind.bends:
                found[:, mine] = _followed(recording, part.object_id, start[mine])
            elif part.object_id in recording.states.object_ids:
                place = recording.states.object_ids.index(part.object_id)
                motion = (poses[:, place] @ invert_pose(poses[0, place])).to(start)
                found[:, mine] = transform_points(motion, start[mine].expand(len(motion), -1, -1))
        return found


def _followed(recording: Observation, object_id: int, start: Float[Tensor, "k 3"]) -> Float[Tensor, "u k 3"]:
    """Points that move as the nearest followed points do, by the inverse of their distance."""
    points = recording.points[:, recording.point_objects == object_id].to(start)
    if not points.shape[1]:
        raise ValueError(
            f"expected points that were followed on object {object_id}, which bends, got none; record tracks"
        )
    distance, rows = nearest(points[0], min(_NEAR, points.shape[1]), start)
    weights = 1 / distance.clamp(min=1e-4)
    weights = weights / weights.sum(-1, keepdim=True)
    moves = (points - points[:1])[:, rows]
    return start + (weights[..., None] * moves).sum(-2)
