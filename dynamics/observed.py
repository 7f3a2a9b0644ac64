"""`Observation`: what somebody saw happen to a world, as states that a model can start from and points."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.pose import invert_pose, pose7_from_pose, pose_from_pose7, rotvec_from_rotation
from gaussworld.state import Action, Rollout, State
from gaussworld.world import World

from .episodes import Episode


@dataclass(frozen=True, eq=False)
class Observation:
    """A recording: t actions, the u = t + 1 states around them, and q points that were followed."""

    states: State
    """Time is the batch axis; object poses are in the frames that the recording's objects have."""
    actions: Action
    point_objects: Int[Tensor, " q"]
    points: Float[Tensor, "u q 3"]
    """[m] world frame."""

    def __len__(self) -> int:
        """The number t of actions."""
        return len(self.actions)

    @classmethod
    def of_episode(cls, episode: Episode) -> "Observation":
        """What an episode's files say."""
        tracks = episode.tracks
        return cls(episode.states, episode.actions, tracks.objects, tracks.points)

    @classmethod
    def of_rollout(cls, rollout: Rollout, radius: float = 0.05) -> "Observation":
        """What was predicted or tracked: of every object its origin and three points [m] beside it.

        Args:
            rollout: unbatched, of objects that do not bend, with twists; `with_twists` works them out.
            radius: how far those points are from the origin.
        """
        states = rollout.states
        poses = pose_from_pose7(states.object_poses)
        offsets = torch.cat([torch.zeros(1, 3), torch.eye(3)]).to(poses) * radius
        points = (poses[:, :, None, :3, :3] @ offsets[..., None])[..., 0] + poses[:, :, None, :3, 3]
        ids = torch.tensor(states.object_ids).repeat_interleave(len(offsets))
        return cls(states, rollout.actions, ids, points.flatten(1, 2))

    def begin(self, state: State, world: World, moments: Int[Tensor, " w"]) -> State:
        """A model's first state, moved to what was seen at some moments: a batch of w states.

        Rigid and jointed objects stand, move and turn as seen; what bends stays as it is, so that only moment
        0 makes sense for it. An object that was not observed stays, too.

        Args:
            state: what the model begins with, unbatched; its particles are kept in step with the objects.
            world: that state's.
            moments: rows of the recording.
        """
        seen = self.states
        begun = state.expand(len(moments)).map(torch.clone)
        poses, twists = begun.object_poses, begun.object_twists
        for row, number in enumerate(state.object_ids):
            if number not in seen.object_ids:
                continue
            place = seen.object_ids.index(number)
            recorded = pose_from_pose7(seen.object_poses[:, place].double())
            ours = world.objects[number].world_from_object.double()
            moved = recorded[moments] @ invert_pose(recorded[0]) @ ours
            poses[:, row] = pose7_from_pose(moved).to(poses)
            twist = seen.object_twists[moments, place].to(twists)
            lever = (moved[:, :3, 3] - recorded[moments, :3, 3]).to(twist)
            velocity = twist[:, :3] + torch.linalg.cross(twist[:, 3:], lever)
            twists[:, row] = torch.cat([velocity, twist[:, 3:]], -1)
        joints, rates = begun.joint_positions, begun.joint_rates
        for row, number in enumerate(state.joint_ids):
            if number in seen.joint_ids:
                place = seen.joint_ids.index(number)
                joints[:, row] = seen.joint_positions[moments, place].to(joints)
                rates[:, row] = seen.joint_rates[moments, place].to(rates)
        tools, grip = seen.tool_poses[moments].to(poses), seen.grip[moments].to(poses)
        return replace(begun, tool_poses=tools, grip=grip, time=seen.time[moments].to(poses))


def with_twists(states: State, dt: float) -> State:
    """States with the twists that their poses tell, by differences over a step [s].

    They are those of the middle of the step that led to a state: what brakes is slower at its end.
    """
    poses = pose_from_pose7(states.object_poses)
    moves = (poses[1:, :, :3, 3] - poses[:-1, :, :3, 3]) / dt
    turns = rotvec_from_rotation(poses[1:, :, :3, :3] @ poses[:-1, :, :3, :3].transpose(-1, -2)) / dt
    steps = torch.cat([moves, turns], -1)
    return replace(states, object_twists=torch.cat([torch.zeros_like(steps[:1]), steps]))
