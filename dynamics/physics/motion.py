"""Motion of frames: small turns, ways between two poses, moving tools."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gaussworld.pose import multiply_quats

from ..tool import Tool


def _product_matrix() -> Tensor:
    """(16, 4): from the outer product of two quaternions to their Hamilton product."""
    units = torch.eye(4)
    pairs = [multiply_quats(a, b) for a in units for b in units]
    return torch.stack(pairs)


def _rotation_matrix() -> Tensor:
    """(16, 9): from the outer product of a unit quaternion with itself to its rotation."""
    rows = torch.zeros(4, 4, 3, 3)
    for axis, signs in enumerate(([1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1])):
        rows[range(4), range(4), axis, axis] = torch.tensor(signs, dtype=torch.float32)
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        rows[a + 1, b + 1, a, b] = rows[a + 1, b + 1, b, a] = 2.0
        rows[0, c + 1, b, a], rows[0, c + 1, a, b] = 2.0, -2.0
    return rows.reshape(16, 9)


_PRODUCT, _ROTATION = _product_matrix(), _rotation_matrix()


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return (a[..., :, None] * b[..., None, :]).flatten(-2)


def product(a: Tensor, b: Tensor) -> Tensor:
    """`multiply_quats` in two operators instead of thirty."""
    return _outer(a, b) @ _PRODUCT.to(a)


def rotations(quats: Tensor) -> Tensor:
    """`rotation_from_quats` in a few operators."""
    # Also a unit quaternion's length is off by rounding, always a bit to the same side: that would add up.
    length = quats.square().sum(-1)[..., None, None]
    return (_outer(quats, quats) @ _ROTATION.to(quats)).unflatten(-1, (3, 3)) / length


def turned(quats: Tensor, rotvec: Tensor) -> Tensor:
    """Unit quaternions (*b, 4) after a further turn by rotation vectors (*b, 3) [rad] in the world's axes."""
    angle = (rotvec.square().sum(-1, keepdim=True) + 1e-24).sqrt()
    # torch.sinc(x) is sin(pi x) / (pi x): exact at zero, with finite gradients.
    turn = torch.cat([(angle / 2).cos(), 0.5 * torch.sinc(angle / (2 * torch.pi)) * rotvec], dim=-1)
    result = product(turn, quats)
    return result / result.square().sum(-1, keepdim=True).sqrt()


def ways(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Poses (*b, 7) at `count` + 1 equal times from start to end: straight lines, and turns at constant rate.

    The last are the ends themselves.
    """
    times = torch.arange(1, count, dtype=start.dtype, device=start.device) / count
    times = times.reshape(-1, *[1] * start.ndim)
    places = start[..., :3] + times * (end - start)[..., :3]
    a, b = start[..., 3:], end[..., 3:]
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)
    # Shoemake 1985, slerp; near zero the weights go over into those of a straight line.
    cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
    angle = torch.atan2((1 - cosine.square()).clamp(min=1e-12).sqrt(), cosine)
    mixed = ((1 - times) * angle).sin() * a + (times * angle).sin() * b
    turns = torch.where(angle < 1e-3, (1 - times) * a + times * b, mixed / angle.sin())
    turns = turns / turns.square().sum(-1, keepdim=True).sqrt()
    between = torch.cat([places, turns], dim=-1)
    return torch.cat([start[None], between, end[None]])


@dataclass(frozen=True, eq=False)
class ToolPoints:
    """Balls that fill the skin of the tools' boxes: k points, each of one box of one tool."""

    offsets: Tensor
    """(k, 3) [m] from the tool's origin, while it is open."""
    travel: Tensor
    """(k, 3) [m] from open to closed."""
    radii: Tensor
    """(k) [m]"""
    tools: Tensor
    """(k) row of the tool."""
    boxes: Tensor
    """(k) row among the boxes of all tools."""
    fingers: tuple[tuple[int, ...], ...]
    """Of each tool, the rows of the boxes that travel."""

    def at(self, poses: Tensor, grip: Tensor) -> Tensor:
        """Where they are (*b, k, 3) [m] for tool poses (*b, a, 7) and grips (*b, a)."""
        local = self.offsets + grip[..., self.tools, None] * self.travel
        rotation = rotations(poses[..., 3:])
        if rotation.shape[-3] == 1:
            return poses[..., :3] + local @ rotation[..., 0, :, :].transpose(-1, -2)
        return poses[..., self.tools, :3] + (rotation[..., self.tools, :, :] @ local[..., None])[..., 0]


def tool_points(tools: Sequence[Tool], spacing: float, like: Tensor) -> ToolPoints:
    """Points at most `spacing` apart on the boxes inside the rounding."""
    offsets, travel, radii, owners, boxes, fingers = [], [], [], [], [], []
    box = 0
    for row, tool in enumerate(tools):
        moving = []
        for center, half, radius, way in zip(tool.centers, tool.halves, tool.radii, tool.travel):
            points = center + _skin(half, spacing)
            offsets.append(points)
            travel.append(way.expand_as(points))
            radii.append(radius.expand(len(points)))
            owners += [row] * len(points)
            boxes += [box] * len(points)
            if bool((way != 0).any()):
                moving.append(box)
            box += 1
        fingers.append(tuple(moving))
    if not tools:
        offsets, travel, radii = [torch.zeros(0, 3)], [torch.zeros(0, 3)], [torch.zeros(0)]
    rows = torch.tensor(owners, dtype=torch.long, device=like.device)
    numbers = torch.tensor(boxes, dtype=torch.long, device=like.device)
    at, ways_closed, sizes = (torch.cat(column).to(like) for column in (offsets, travel, radii))
    return ToolPoints(at, ways_closed, sizes, rows, numbers, tuple(fingers))


def _skin(half: Tensor, spacing: float) -> Tensor:
    """Points (k, 3) on the surface of a box about zero, corners included."""
    axes = []
    for value in half.tolist():
        count = int(-(-2 * value // spacing)) + 1 if value > 0 else 1
        axes.append(torch.linspace(-value, value, count) if count > 1 else torch.zeros(1))
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    outer = torch.zeros(len(grid), dtype=torch.bool)
    for axis, values in enumerate(axes):
        # Along an axis without extent every point would count as an end.
        if len(values) > 1:
            outer |= (grid[:, axis].abs() - half[axis]).abs() < 1e-9
    return grid[outer] if bool(outer.any()) and sum(len(v) > 1 for v in axes) == 3 else grid
