"""`Stage`: a world's Gaussians in a state, with the tools among them - what pictures of a rollout show."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians, cat
from gaussworld.pose import invert_pose, look_at, pose_from_pose7
from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

from ..tool import Tool
from .props import tool_box_poses, tool_objects

Posed = Callable[[State], Gaussians]
#: [deg] field of view of a camera that nobody chose, and how far down it looks.
_FOV_DEG, _DOWN_DEG = 40.0, 40.0


class Stage:
    """What is drawn of a world in a state: its Gaussians, bent where things bend, and its tools.

    Args:
        world: in metres.
        tools: in the order of the states' tools; not drawn where the world has a robot of its own.
        posed: gives the Gaussians of a state in the world frame; default: objects move rigidly.
    """

    def __init__(self, world: World, tools: Sequence[Tool], posed: Posed | None = None) -> None:
        self.world = world
        self._posed = posed or world.posed
        robot = any(item.kind is ObjectKind.ROBOT for item in world.objects.values())
        self.tools = tuple(tools)
        self._drawn = () if robot else self.tools
        self._props = tool_objects(self._drawn, world.next_id) if self._drawn else []

    def gaussians(self, state: State) -> Gaussians:
        """What is seen in an unbatched state, in the world frame."""
        seen = self._posed(state).shown()
        if not self._props:
            return seen
        poses = pose_from_pose7(tool_box_poses(self._drawn, state.tool_poses, state.grip))
        return cat([seen, *(item.posed(pose) for item, pose in zip(self._props, poses))])


def framing_camera(world: World, states: State, width: int, height: int) -> Camera:
    """A camera that sees all that moves in a rollout, from in front and above.

    Args:
        world: in metres.
        states: time is their only batch axis.
        width: [px]
        height: [px]
    """
    low, high = _moving_bounds(world, states)
    middle, reach = (low + high) / 2, float((high - low).norm()) / 2
    # Things on their own would fill the picture; some of what they stand on gives them a place.
    reach = max(1.15 * reach, 0.1)
    half = torch.tensor(_FOV_DEG / 2).deg2rad()
    half = torch.minimum(half, torch.atan(half.tan() * width / height))
    down = torch.tensor(_DOWN_DEG).deg2rad()
    front = torch.nn.functional.normalize(torch.tensor([0.3, -1.0, 0.0]), dim=0)
    aside = down.cos() * front + down.sin() * torch.tensor([0.0, 0.0, 1.0])
    eye = middle + aside * (reach / float(half.sin()))
    return Camera.pinhole(look_at(eye, middle), width, height, _FOV_DEG)


def _moving_bounds(world: World, states: State) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """The box of what is movable, wherever it comes, and of the tools' tips."""
    points = [states.tool_poses[..., :3].reshape(-1, 3), states.particle_positions.reshape(-1, 3)]
    poses = pose_from_pose7(states.object_poses)
    for row, number in enumerate(states.object_ids):
        item = world.objects[number]
        if item.kind in (ObjectKind.STATIC, ObjectKind.ROBOT) or not len(item.gaussians):
            continue
        ordered = item.gaussians.means.detach().sort(dim=0).values
        corners = torch.cartesian_prod(*ordered[[int(0.02 * len(ordered)), int(0.98 * len(ordered))]].T)
        motion = poses[:, row]
        moved = corners @ motion[:, :3, :3].transpose(-1, -2) + motion[:, None, :3, 3]
        points.append(moved.reshape(-1, 3))
    every = torch.cat([each.cpu().float() for each in points])
    if not len(every):
        return torch.full((3,), -0.5), torch.full((3,), 0.5)
    return every.amin(0), every.amax(0)


def object_shapes(world: World, states: State, posed: Posed) -> dict[int, "Shapes"]:
    """For a 4D file: how the Gaussians of each deformable object lie in its own frame at each state."""
    return {
        number: Shapes(world, states, posed, row)
        for row, number in enumerate(states.object_ids)
        if world.objects[number].kind is ObjectKind.DEFORMABLE and len(world.objects[number].gaussians)
    }


class Shapes:
    """The Gaussians of one object in its own frame, state after state; worked out when asked for."""

    def __init__(self, world: World, states: State, posed: Posed, row: int) -> None:
        self._world, self._states, self._posed, self._row = world, states, posed, row

    def __iter__(self) -> Iterator[Gaussians]:
        number = self._states.object_ids[self._row]
        for step in range(len(self._states)):
            state = self._states[step]
            everything = self._posed(state)
            mine = everything.select(everything.object_ids == number)
            yield mine.transformed(invert_pose(pose_from_pose7(state.object_poses[self._row])))
