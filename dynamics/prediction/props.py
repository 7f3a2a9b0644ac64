"""Tools as objects of a world, so that pictures and 4D files show what pushes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import pose7_from_pose, pose_from, pose_from_pose7
from gaussworld.shape import Mesh
from gaussworld.state import Rollout, State
from gaussworld.surface import Paint, Surface, box, sphere
from gaussworld.surface.objects import Detail, Thing, objects_of
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

from ..tool import Tool

#: sRGB of what is drawn of tools, one for each tool in turn; nothing that a scene is likely to have.
COLORS = ((0.16, 0.45, 0.75), (0.80, 0.38, 0.10))
#: Gaussians of each box of a tool.
_GAUSSIANS = 1500


def rounded_box(half: Float[Tensor, "3"], radius: float) -> Mesh:
    """A box of these half extents inside its rounding, around the origin.

    It is the ball of the rounding with its eighths pushed apart to the corners.
    """
    if radius <= 0:
        x, y, z = (2 * half).tolist()
        return box((x, y, z)).mesh
    ball = sphere(radius).mesh
    # What lies between two sides, but for rounding, goes to one of them as a whole ring; else faces are torn.
    sides = torch.where(ball.vertices < -1e-6 * radius, -1.0, 1.0)
    return Mesh(ball.vertices + sides * half, ball.faces)


def tool_objects(tools: Sequence[Tool], first_id: int) -> list[WorldObject]:
    """An object for each box of each tool, in the box's own frame, named after the tool."""
    things = [
        Thing(
            f"{tool.name} {row + 1}" if len(tool.radii) > 1 else tool.name,
            Surface(rounded_box(tool.halves[row], float(tool.radii[row])), (Paint(COLORS[n % len(COLORS)]),)),
            kind=ObjectKind.ROBOT,
        )
        for n, tool in enumerate(tools)
        for row in range(len(tool.radii))
    ]
    return objects_of(things, Detail(max(1, _GAUSSIANS * len(things)), shade=True), first_id)


def tool_box_poses(
    tools: Sequence[Tool], tool_poses: Float[Tensor, "*b a 7"], grip: Float[Tensor, "*b a"]
) -> Float[Tensor, "*b k 7"]:
    """[m] where the boxes of all tools are, in the order of `tool_objects`: x y z, w x y z."""
    parts = []
    for row, tool in enumerate(tools):
        centers = tool.boxes(grip[..., row])
        tool_from_box = pose_from(torch.eye(3).expand(*centers.shape[:-1], 3, 3), centers)
        parts.append(pose_from_pose7(tool_poses[..., row, None, :]) @ tool_from_box)
    return pose7_from_pose(torch.cat(parts, dim=-3))


def with_props(world: World, states: State, tools: Sequence[Tool]) -> tuple[World, State]:
    """A world with the tools in it as objects, and states in which they are where the tools are.

    A world that has a robot of its own is left as it is: it follows the tool already.
    """
    robot = any(item.kind is ObjectKind.ROBOT for item in world.objects.values())
    if robot or not tools or not states.tool_poses.shape[-2]:
        return world, states
    props = tool_objects(tools, world.next_id)
    poses = tool_box_poses(tools, states.tool_poses, states.grip)
    for item in props:
        world = world.with_object(item)
    joined = torch.cat([states.object_poses, poses.to(states.object_poses)], dim=-2)
    twists = torch.cat([states.object_twists, poses.new_zeros(*poses.shape[:-1], 6)], dim=-2)
    ids = (*states.object_ids, *(item.id for item in props))
    return world, replace(states, object_ids=ids, object_poses=joined, object_twists=twists)


def rollout_with_props(world: World, rollout: Rollout, tools: Sequence[Tool]) -> tuple[World, Rollout]:
    """As `with_props`, for a rollout; its spread and contacts, which are of other rows, are left out."""
    staged, states = with_props(world, rollout.states, tools)
    return staged, replace(rollout, states=states, spread=None, contacts=None)
