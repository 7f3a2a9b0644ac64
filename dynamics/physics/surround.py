"""What particles of bending things meet: ground, tools, parts with a surface, and each other."""

import torch
from torch import Tensor

from ..tool import Tool
from .bend import Obstacle
from .bodies import Frame
from .motion import product, rotations
from .touch import Surroundings
from .web import Web


def ground_obstacle(around: Surroundings, web: Web, at: Tensor, mixed: Tensor, h: float) -> Obstacle:
    """The ground under particles (n, B, 3); mixed (n, b) is the particles' own friction."""
    height, friction = around.ground(at)
    room = _kept(height - web.radii[:, None], around, h)
    up = at.new_tensor([0.0, 0.0, 1.0]).expand_as(at)
    return Obstacle(up, room, None, (mixed * friction + 1e-12).sqrt().expand_as(room))


def tool_obstacles(
    around: Surroundings,
    web: Web,
    at: Tensor,
    mixed: Tensor,
    before: Tensor,
    after: Tensor,
    grips: tuple[Tensor, Tensor],
    held: Tensor,
    h: float,
) -> list[Obstacle]:
    """The nearest box of each tool.

    Args:
        around: the rest.
        web: the particles.
        at: (n, B, 3) [m].
        mixed: (n, b) the particles' own friction.
        before: (B, a, 7) where the tools are.
        after: (B, a, 7) where they will be after the substep.
        grips: (B, a) now, and then.
        held: (B, a, n) what each tool holds, which it does not push.
        h: [s].
    """
    result = []
    for row, tool in enumerate(around.shapes):
        turn, place = rotations(before[:, row, 3:]), before[:, row, :3]
        local = ((at - place)[..., None, :] @ turn)[..., 0, :]
        distance, normal, box = _nearest_box(tool, local, grips[0][:, row])
        # Where the point of the box at which it touches will be.
        travel = tool.travel.to(at)[box] * (grips[1] - grips[0])[:, row, None]
        then = rotations(after[:, row, 3:])
        moved = ((local + travel)[..., None, :] @ then.transpose(-1, -2))[..., 0, :] + after[:, row, :3]
        room = _kept(distance - web.radii[:, None], around, h)
        room = torch.where(held[:, row].T, torch.full_like(room, 10.0), room)
        normal = (normal[..., None, :] @ turn.transpose(-1, -2))[..., 0, :]
        friction = (mixed * around.parameters.tool_friction[:, row] + 1e-12).sqrt().expand_as(room)
        result.append(Obstacle(normal, room, moved - at, friction))
    return result


def _nearest_box(tool: Tool, local: Tensor, grip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance (n, B) [m], outward normal (n, B, 3) and row (n, B) of the box nearest to points (n, B, 3)."""
    offset = local[..., None, :] - tool.boxes(grip)
    apart = offset.abs() - tool.halves.to(local)
    outside = apart.clamp(min=0)
    far = (outside.square().sum(-1) + 1e-18).sqrt()
    deepest = apart.amax(-1)
    distances = far + deepest.clamp(max=0) - tool.radii.to(local)
    distance, box = distances.min(-1)
    # Inside the box itself the nearest face counts.
    inside = (apart == deepest[..., None]).to(local)
    way = torch.where((deepest > 0)[..., None], outside / far[..., None], inside)
    way = way * torch.where(offset < 0, -1.0, 1.0)
    index = box[..., None, None].expand(*box.shape, 1, 3)
    return distance, way.gather(-2, index)[..., 0, :], box


def part_obstacle(
    around: Surroundings,
    web: Web,
    row: int,
    frame: Frame,
    twist: Tensor | None,
    at: Tensor,
    mixed: Tensor,
    h: float,
) -> Obstacle:
    """The surface of a part that moves with a twist (B, 6) about its centre, or stands."""
    local = frame.local(at.transpose(0, 1))
    distance, normal = around.fields(row, local)
    room = _kept(distance.T - web.radii[:, None], around, h)
    drift = None
    if twist is not None:
        arms = at - frame.center
        drift = h * (twist[:, :3] + torch.linalg.cross(twist[:, 3:].expand_as(arms), arms))
    friction = (mixed * around.parameters.friction[:, row] + 1e-12).sqrt().expand_as(room)
    return Obstacle(frame.turn(normal).transpose(0, 1), room, drift, friction, row)


def _kept(gap: Tensor, around: Surroundings, h: float) -> Tensor:
    """Room, where what is inside already comes out slowly."""
    return gap.clamp(min=-around.config.recovery_speed * h)


def carried_points(at: Tensor, tool: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Points (n, B, 3) as they go with the tools that hold them, given as shares (B, a, n)."""
    turn = product(after[..., 3:], before[..., 3:] * before.new_tensor([1.0, -1.0, -1.0, -1.0]))
    turn = rotations(turn)
    result = at
    for row in range(before.shape[1]):
        moved = ((at - before[:, row, :3])[..., None, :] @ turn[:, row].transpose(-1, -2))[..., 0, :]
        mine = tool[:, row].T[..., None]
        result = torch.where(mine, moved + after[:, row, :3], result)
    return result


def close_pairs(web: Web, rest: Tensor, at: Tensor, reach: float) -> tuple[Tensor, Tensor] | None:
    """Rows of particles that may come to touch in some sample, but do not at rest; None for no such."""
    sizes = web.radii[:, None] + web.radii
    apart = torch.cdist(at.detach().transpose(0, 1), at.detach().transpose(0, 1))
    near = (apart < sizes + reach).any(0)
    near &= torch.cdist(rest, rest) > 1.5 * sizes + 1e-3
    a, b = torch.nonzero(near.triu(1), as_tuple=True)
    return (a, b) if len(a) else None


def kept_apart(web: Web, pairs: tuple[Tensor, Tensor], at: Tensor) -> Tensor:
    """(n, B, 3) [m] moves that push overlapping balls half way each, by their masses."""
    a, b = pairs
    way = at.index_select(0, a) - at.index_select(0, b)
    apart = (way.square().sum(-1) + 1e-18).sqrt()
    over = (web.radii[a] + web.radii[b])[:, None] - apart
    over = over.clamp(min=0)
    masses = web.masses
    heavy = masses.index_select(0, a) + masses.index_select(0, b)
    push = way * (over / apart)[..., None]
    touched = (over > 0).to(at)
    count = torch.zeros_like(at[..., 0]).index_add(0, a, touched).index_add(0, b, touched).clamp(min=1)
    # The share of the busier of the two, for both alike: so momentum stays.
    busy = torch.maximum(count.index_select(0, a), count.index_select(0, b))
    push = push / busy[..., None]
    one = push * (masses.index_select(0, b) / heavy)[..., None]
    two = push * (masses.index_select(0, a) / heavy)[..., None]
    return torch.zeros_like(at).index_add(0, a, one).index_add(0, b, -two)
