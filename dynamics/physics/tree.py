"""Objects that move with others: joints, what is mounted on something, robots on their tools."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gaussworld.pose import invert_pose, pose_from
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind

from ..matter.parts import Matter, PartKind
from .motion import rotations


@dataclass(frozen=True, eq=False)
class Branch:
    """One object that does not move by itself."""

    row: int
    """Of `State.object_ids`."""
    parent: int | None
    """Row of the object that carries it."""
    place: Tensor
    """(4, 4) towards the parent, or towards the world, with its joint where the world has it."""
    joint: Joint | None = None
    joint_row: int | None = None
    tool: int | None = None
    """The tool that a robot's base is attached to."""
    finger: bool = False
    """Whether its joint follows the grip."""
    chain: tuple[int, ...] = ()
    """Joint rows of its own and of all that carry it, but for fingers."""


def branches(world: World, matter: Matter, tools: int) -> list[Branch]:
    """Carriers before what they carry."""
    rows = {number: row for row, number in enumerate(matter.object_ids)}
    joints = {number: row for row, number in enumerate(matter.joint_ids)}
    free = {part.row for part in matter.parts if part.kind is PartKind.RIGID or part.kind.bends}
    made: dict[int, Branch] = {}

    def visit(number: int) -> None:
        row, item = rows[number], world.objects[number]
        if row in made or row in free:
            return
        parent, place, chain = None, item.world_from_object, ()
        if item.parent is not None:
            visit(item.parent)
            parent = rows[item.parent]
            place = invert_pose(world.objects[item.parent].world_from_object.to(place)) @ place
            chain = made[parent].chain if parent in made else ()
        robot = item.kind is ObjectKind.ROBOT
        base = robot and item.joint is None and (parent is None or not _is_robot(world, item.parent))
        number_of_bases = sum(branch.tool is not None for branch in made.values())
        joint_row = joints.get(number) if item.joint is not None else None
        made[row] = Branch(
            row, parent, place.to(matter.rest), item.joint, joint_row,
            min(number_of_bases, tools - 1) if base and tools else None, robot and joint_row is not None,
            chain if joint_row is None or robot else (*chain, joint_row),
        )  # fmt: skip

    for number in matter.object_ids:
        visit(number)
    return list(made.values())


def _is_robot(world: World, number: int | None) -> bool:
    return number is not None and world.objects[number].kind is ObjectKind.ROBOT


@dataclass(frozen=True, eq=False)
class Placed:
    """Where the objects are, and how the joints would move them."""

    poses: dict[int, Tensor]
    """Row -> (B, 4, 4)."""
    axes: dict[int, Tensor]
    """Joint row -> (B, 3) axis in the world."""
    origins: dict[int, Tensor]
    """Joint row -> (B, 3) [m] a point on the axis."""


def place(tree: list[Branch], free: dict[int, Tensor], positions: Tensor, bases: dict[int, Tensor]) -> Placed:
    """Poses of all objects of a tree.

    Args:
        tree: carriers first.
        free: poses (B, 4, 4) of objects that move by themselves, by row.
        positions: (B, j) [rad or m] of the joints.
        bases: poses (B, 4, 4) of robots' bases, by row.
    """
    poses, axes, origins = dict(free), {}, {}
    count = len(positions)
    for branch in tree:
        pose = bases.get(branch.row)
        if pose is None:
            pose = branch.place.expand(count, 4, 4)
            if branch.parent is not None:
                pose = poses[branch.parent] @ pose
        if branch.joint is not None and branch.joint_row is not None:
            pose = pose @ branch.joint.motion(positions[:, branch.joint_row])
            axes[branch.joint_row] = pose[:, :3, :3] @ pose.new_tensor(branch.joint.axis)
            origin = pose.new_tensor(branch.joint.origin)
            origins[branch.joint_row] = pose[:, :3, :3] @ origin + pose[:, :3, 3]
        poses[branch.row] = pose
    return Placed(poses, axes, origins)


def carried(base: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Pose (B, 4, 4) of what is rigidly attached to a tool that moved between two poses (B, 7)."""
    return pose_of(after) @ invert_pose(pose_of(before)) @ base


def pose_of(pose: Tensor) -> Tensor:
    """`pose_from_pose7` in fewer operators."""
    return pose_from(rotations(pose[..., 3:]), pose[..., :3])


def axis_twists(placed: Placed, branch: Branch, center: Tensor, joints: int, kinds: dict[int, str]) -> Tensor:
    """(B, 6, j) twists about `center` (B, 3) that one unit of each joint's rate gives to a branch."""
    columns = center.new_zeros(len(center), joints, 6)
    for row in branch.chain:
        axis = placed.axes[row]
        if kinds[row] == "prismatic":
            column = torch.cat([axis, torch.zeros_like(axis)], -1)
        else:
            column = torch.cat([torch.linalg.cross(axis, center - placed.origins[row]), axis], -1)
        columns = columns.index_copy(1, torch.tensor([row], device=center.device), column[:, None])
    return columns.transpose(-1, -2)
