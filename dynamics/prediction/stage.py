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
from .viewpoint import Cloud, cloud_of, sight

Posed = Callable[[State], Gaussians]
#: [deg] field of view of a camera that nobody chose, and how far down it looks, usually and at least.
_FOV_DEG, _DOWN_DEG, _LOW_DEG = 40.0, 40.0, 22.0
#: [deg] about +z where it is, seen from +x, and how far it may be turned from there.
_FRONT_DEG = -73.3
_TURNS_DEG = (0.0, 40.0, -40.0, 80.0, -80.0, 125.0, -125.0, 180.0)
#: Moments that are looked at for that, and [m] or share of a turn below which a thing stands still.
_MOMENTS, _STILL = 5, 2e-3
#: What it is worth, in shares that are seen, that things fill as much of the picture, and go as far in it, as
#: from anywhere else.
_WIDE, _FAR = 0.15, 0.6


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


def framing_camera(
    world: World,
    states: State,
    width: int,
    height: int,
    tools: Sequence[Tool] = (),
    posed: Posed | None = None,
) -> Camera:
    """A camera that sees all that moves in a rollout, from above and from where least of it is hidden.

    Args:
        world: in metres.
        states: time is their only batch axis.
        width: [px]
        height: [px]
        tools: in the order of the states' tools; they may hide things.
        posed: gives the Gaussians of a state in the world frame; default: objects move rigidly.
    """
    low, high = _moving_bounds(world, states)
    middle, reach = (low + high) / 2, float((high - low).norm()) / 2
    # Things on their own would fill the picture; some of what they stand on gives them a place.
    reach = max(1.15 * reach, 0.1)
    half = torch.tensor(_FOV_DEG / 2).deg2rad()
    half = torch.minimum(half, torch.atan(half.tan() * width / height))

    def from_side(turn: float, down: float) -> Camera:
        around, lift = (torch.tensor(each).deg2rad() for each in (_FRONT_DEG + turn, down))
        aside = torch.stack([lift.cos() * around.cos(), lift.cos() * around.sin(), lift.sin()])
        eye = middle + aside * (reach / float(half.sin()))
        return Camera.pinhole(look_at(eye, middle), width, height, _FOV_DEG)

    clouds = _moments(Stage(world, tools, posed), states)
    if not clouds:
        return from_side(0.0, _DOWN_DEG)
    views = [(turn, down, from_side(turn, down)) for down in (_DOWN_DEG, _LOW_DEG) for turn in _TURNS_DEG]
    sights = [sight(clouds, camera) for _, _, camera in views]
    widest, farthest = max(1, *(cells for _, cells, _ in sights)), max(1.0, *(far for _, _, far in sights))

    def worth(row: int) -> float:
        turn, down, _ = views[row]
        seen, cells, far = sights[row]
        # Where it matters little, things are seen from in front.
        usual = 0.03 * abs(turn) / 180 + 0.03 * (down != _DOWN_DEG)
        return seen + _WIDE * cells / widest + _FAR * far / farthest - usual

    return views[max(range(len(views)), key=worth)][2]


def _moments(stage: Stage, states: State) -> list[Cloud]:
    """Some moments of a rollout, with what moves to be looked for; nothing where nothing can."""
    kinds = (ObjectKind.STATIC, ObjectKind.ROBOT)
    movable = {
        n: item for n, item in stage.world.objects.items() if item.kind not in kinds and not item.hidden
    }
    poses = states.object_poses
    moved = [
        n
        for row, n in enumerate(states.object_ids)
        if n in movable and float((poses[:, row] - poses[0, row]).abs().max()) > _STILL
    ]
    ids = tuple(moved or [n for n, item in movable.items() if len(item.gaussians)])
    if not ids:
        return []
    rows = torch.linspace(0, len(states) - 1, min(_MOMENTS, len(states))).round().long().unique()
    with torch.no_grad():
        clouds = [cloud_of(stage.gaussians(states[row]), ids) for row in rows.tolist()]
    return [cloud for cloud in clouds if len(cloud.sought)]


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
