"""Where tools go that nothing can: through a table or a thing that stands still, or inside one at first."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import rotation_from_quats
from gaussworld.state import Rollout
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID, ObjectKind

from ..matter.parts import Matter, PartKind
from ..physics.lookup import FieldLookup, GroundLookup
from ..physics.motion import tool_points
from ..tool import Tool

#: [m] deeper than this in the ground a tool goes through it; what begins farther below is below on purpose.
_SUNK, _BELOW = 0.005, 0.1
#: [m] the same in things, whose distances are known as finely as half their grid.
_INSIDE = 0.005
#: [m] between points of a tool's surface.
_SPACING = 0.01
#: [m] a thing this near to a level surface is what the surface is of.
_NEAR = 0.01


def path_warnings(world: World, matter: Matter, tools: tuple[Tool, ...], rollout: Rollout) -> list[str]:
    """One sentence for each thing that a tool's path meets as nothing can, with the first step.

    Args:
        world: in metres.
        matter: of the world.
        tools: in the order of the states' tools.
        rollout: unbatched.
    """
    states = rollout.states
    if not tools:
        return []
    with torch.no_grad():
        balls = tool_points(tools, _SPACING, states.object_poses)
        points = balls.at(states.tool_poses, states.grip)
        said = []
        for row, tool in enumerate(tools):
            mine = balls.tools == row
            said += _ground(world, matter, tool.name, points[:, mine], balls.radii[mine])
            said += _things(world, matter, tool.name, points[:, mine], balls.radii[mine], rollout)
            said += _bending(world, matter, tool, row, rollout)
    return said


def _ground(
    world: World, matter: Matter, name: str, points: Float[Tensor, "u k 3"], radii: Float[Tensor, " k"]
) -> Iterator[str]:
    lookup = GroundLookup.of(matter.ground)
    # Without an edge the last patch is under everything.
    planes: list[Any] = [*lookup.planes, None]
    for height, plane in zip(matter.ground.heights.tolist(), planes):
        low = points[..., 2] - radii - height
        if plane is not None:
            inward, offsets = plane
            over = (points[..., :2] @ inward.T >= offsets).all(-1)
            low = torch.where(over, low, torch.ones_like(low))
        depth = (-low).amax(-1)
        if plane is not None and float(depth[0]) > _BELOW:
            # It begins under the table, which is no way through it.
            continue
        if (step := _first(depth > _SUNK)) is None:
            continue
        what, deep = _level(world, height), 1000 * float(depth.max())
        if step == 0:
            yield f"The {name} starts {1000 * float(depth[0]):.0f} mm inside {what}: begin its path higher."
        else:
            yield f"The {name} goes through {what} from step {step} on, up to {deep:.0f} mm deep."
        return


def _things(
    world: World,
    matter: Matter,
    name: str,
    points: Float[Tensor, "u k 3"],
    radii: Float[Tensor, " k"],
    rollout: Rollout,
) -> Iterator[str]:
    """Of what stands still for the whole path, of what can move for where it starts."""
    lookup, poses = FieldLookup.of(matter.fields), rollout.states.object_poses
    for row, part in enumerate(matter.parts):
        if part.kind.bends:
            continue
        count = len(points) if part.kind is PartKind.STATIC else 1
        turn = rotation_from_quats(poses[:count, part.row, 3:])
        local = (points[:count] - poses[:count, None, part.row, :3]) @ turn
        depth = (radii - lookup(row, local)[0]).amax(-1)
        blur = _INSIDE + 0.5 * float(matter.fields.spacing[row].max())
        if (step := _first(depth > blur)) is None:
            continue
        what, deep = world.objects[part.object_id].name, 1000 * float(depth.max())
        if step == 0:
            begun = 1000 * float(depth[0])
            yield f"The {name} starts {begun:.0f} mm inside {what}: begin its path elsewhere."
        else:
            yield (
                f"The {name} goes through {what}, which stands still, from step {step} on, up to"
                f" {deep:.0f} mm deep."
            )


def _bending(world: World, matter: Matter, tool: Tool, row: int, rollout: Rollout) -> Iterator[str]:
    """Of what bends: particles that are inside of the tool at first."""
    first = rollout.states[0]
    turn = rotation_from_quats(first.tool_poses[row, 3:])
    for part in matter.parts:
        if not part.kind.bends:
            continue
        local = (first.particle_positions[part.rows] - first.tool_poses[row, :3]) @ turn
        depth = float(-tool.distance(local, first.grip[row]).min())
        if depth > _INSIDE:
            what = world.objects[part.object_id].name
            yield f"The {tool.name} starts {1000 * depth:.0f} mm inside {what}: begin its path elsewhere."


def _first(so: Tensor) -> int | None:
    rows = so.nonzero()[:, 0]
    return int(rows[0]) if len(rows) else None


def _level(world: World, height: float) -> str:
    """The name of what has a level top there."""
    for item in world.objects.values():
        if item.kind is ObjectKind.STATIC and item.id != BACKGROUND_ID and len(item.gaussians):
            top = float(item.posed().means[:, 2].quantile(0.98)) if len(item.gaussians) < 10**6 else None
            if top is not None and abs(top - height) < _NEAR:
                return item.name
    return "the ground"
