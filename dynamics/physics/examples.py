"""Small worlds made by hand, with their matter: boxes, a T, a door, a rope, a cloth, a block; for tests."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, WorldObject

from ..matter.parts import Fields, Ground, Matter, Part, PartKind

Box = tuple[Sequence[float], Sequence[float]]
"""Middle and half extents [m]."""


def floor(friction: float = 0.5) -> Ground:
    """Level ground without an edge."""
    return Ground(torch.zeros(1), (), torch.tensor([friction]))


def table(half: float = 0.2, friction: float = 0.5) -> Ground:
    """A square table at z = 0, with the floor 0.7 m below."""
    outline = half * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    return Ground(torch.tensor([0.0, -0.7]), (outline,), torch.full((2,), friction))


def rigid(
    shapes: Sequence[Sequence[Box]],
    places: Sequence[Sequence[float]],
    mass: float = 0.5,
    friction: float = 0.5,
    ground: Ground | None = None,
    spacing: float = 0.034,
) -> tuple[World, Matter]:
    """Rigid things, each a union of boxes, at places x y z [m]."""
    objects, parts, rests, fields, start = {}, [], [], [], 0
    for row, (boxes, place) in enumerate(zip(shapes, places)):
        points = torch.cat([_shell(box, boxes, spacing) for box in boxes])
        center, inertia = _inertia(boxes, mass)
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor(place)
        material = Material(friction=friction)
        objects[row + 1] = WorldObject(
            row + 1, f"thing {row}", _gaussians(points), ObjectKind.RIGID, pose, material=material
        )
        stop = start + len(points)
        parts.append(Part(row + 1, row, PartKind.RIGID, start, stop, mass, center, inertia))
        start = stop
        rests.append(points)
        fields.append(_field(boxes))
    return _joined(objects, parts, rests, 0.0, torch.zeros(0, 2, dtype=torch.long), fields, ground)


def box(size: Sequence[float] = (0.1, 0.1, 0.05), **others: object) -> tuple[World, Matter]:
    """One box on the ground."""
    half = [value / 2 for value in size]
    return rigid([[((0.0, 0.0, 0.0), half)]], [(0.0, 0.0, half[2])], **others)  # pyright: ignore


def tee(**others: object) -> tuple[World, Matter]:
    """A T-block 15 cm wide on the ground."""
    bars: list[Box] = [((0.0, 0.0, 0.0), (0.075, 0.02, 0.02)), ((0.0, -0.07, 0.0), (0.02, 0.05, 0.02))]
    return rigid([bars], [(0.0, 0.0, 0.02)], **others)  # pyright: ignore


def door(damping: float = 1.0) -> tuple[World, Matter]:
    """A door 30 cm wide, hinged at the z axis, that opens towards -y up to a right angle."""
    world, matter = rigid([[((0.15, 0.0, 0.0), (0.15, 0.01, 0.2))]], [(0.0, 0.0, 0.25)], mass=2.0)
    joint = Joint("revolute", (0.0, 0.0, 1.0), limits=(-math.pi / 2, 0.0))
    item, part = world.objects[1], matter.parts[0]
    item = WorldObject(
        1, "door", item.gaussians, ObjectKind.ARTICULATED, item.world_from_object, joint=joint,
        material=Material(damping=damping),
    )  # fmt: skip
    part = Part(1, 0, PartKind.JOINT, part.start, part.stop, 2.0, part.center, part.inertia, joint_row=0)
    made = Matter(
        (1,), (1,), (part,), matter.rest, matter.radii, matter.masses, matter.owners, matter.edges,
        matter.fields, matter.ground,
    )  # fmt: skip
    return World({1: item}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0)), made


def bending(
    kind: PartKind,
    points: Tensor,
    edges: Tensor,
    radius: float,
    mass: float = 0.1,
    stiffness: float = 1e5,
    density: float = 500.0,
    place: Sequence[float] = (0.0, 0.0, 0.0),
    fixed: Tensor | None = None,
    damping: float = 1.0,
    ground: Ground | None = None,
) -> tuple[World, Matter]:
    """Something that bends, with particles (p, 3) and edges (e, 2)."""
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor(place)
    material = Material(stiffness=stiffness, density=density, damping=damping)
    item = WorldObject(1, "thing", _gaussians(points), ObjectKind.DEFORMABLE, pose, material=material)
    part = Part(1, 0, kind, 0, len(points), mass, points.mean(0), torch.eye(3), fixed=fixed)
    nowhere = torch.full((4, 4, 4), 10.0), torch.full((3,), -1.0), torch.full((3,), 0.66)
    return _joined({1: item}, [part], [points], radius, edges, [nowhere], ground)


def rope(
    count: int = 40, length: float = 0.6, radius: float = 0.005, **others: object
) -> tuple[World, Matter]:
    """A straight rope along x that lies on the ground."""
    x = torch.linspace(0, length, count)
    rows = torch.arange(count)
    edges = torch.cat([torch.stack([rows[:-k], rows[k:]], 1) for k in (1, 2)])
    points = torch.stack([x, 0 * x, 0 * x], -1)
    return bending(PartKind.ROPE, points, edges, radius, **{"place": (0.0, 0.0, radius)} | others)  # pyright: ignore


def cloth(count: int = 9, side: float = 0.2, radius: float = 0.001, **others: object) -> tuple[World, Matter]:
    """A square cloth that lies on the ground."""
    x = torch.linspace(-side / 2, side / 2, count)
    plane = torch.cartesian_prod(x, x)
    points = torch.cat([plane, 0 * plane[:, :1]], -1)
    place = (0.0, 0.0, radius)
    return bending(PartKind.CLOTH, points, _nearest(points, 8), radius, **{"place": place} | others)  # pyright: ignore


def block(**others: object) -> tuple[World, Matter]:
    """A soft block of 10 x 10 x 6 cm on the ground."""
    axes = [torch.linspace(-half, half, count) for half, count in ((0.044, 5), (0.044, 5), (0.024, 4))]
    points = torch.cartesian_prod(*axes)
    place = (0.0, 0.0, 0.03)
    return bending(PartKind.VOLUME, points, _nearest(points, 10), 0.006, **{"place": place} | others)  # pyright: ignore


def _joined(
    objects: dict[int, WorldObject],
    parts: list[Part],
    rests: list[Tensor],
    radius: float,
    edges: Tensor,
    fields: list[tuple[Tensor, Tensor, Tensor]],
    ground: Ground | None,
) -> tuple[World, Matter]:
    rest = torch.cat(rests)
    owners = torch.cat([torch.full((len(points),), row) for row, points in enumerate(rests)])
    shares = [torch.full((len(points),), part.mass / len(points)) for part, points in zip(parts, rests)]
    made = Fields(*(torch.stack(column) for column in zip(*fields)))
    matter = Matter(
        tuple(objects), (), tuple(parts), rest, torch.full((len(rest),), radius), torch.cat(shares), owners,
        edges, made, ground or floor(),
    )  # fmt: skip
    return World(objects, metres_per_unit=1.0, up=(0.0, 0.0, 1.0)), matter


def _gaussians(points: Tensor) -> Gaussians:
    count = len(points)
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1)
    return Gaussians(points, quats, torch.full((count, 3), -5.0), torch.ones(count), torch.zeros(count, 1, 3))


def _distance(points: Tensor, boxes: Sequence[Box]) -> Tensor:
    distances = []
    for middle, half in boxes:
        apart = (points - torch.tensor(middle)).abs() - torch.tensor(half)
        distances.append(apart.clamp(min=0).norm(dim=-1) + apart.amax(-1).clamp(max=0))
    return torch.stack(distances).amin(0)


def _shell(mine: Box, boxes: Sequence[Box], spacing: float) -> Tensor:
    """Points on the part of a box's surface that is the union's."""
    middle, half = torch.tensor(mine[0]), torch.tensor(mine[1])
    axes = [torch.linspace(-h, h, max(2, round(2 * h / spacing) + 1)) for h in half.tolist()]
    grid = torch.cartesian_prod(*axes)
    grid = grid[((grid.abs() - half).abs() < 1e-6).any(-1)] + middle
    return grid[_distance(grid, boxes) > -1e-6]


def _inertia(boxes: Sequence[Box], mass: float) -> tuple[Tensor, Tensor]:
    """Centre of mass and inertia about it, of boxes that do not overlap, of one density."""
    halves = torch.tensor([half for _, half in boxes])
    middles = torch.tensor([middle for middle, _ in boxes])
    masses = mass * halves.prod(-1) / halves.prod(-1).sum()
    center = (masses[:, None] * middles).sum(0) / mass
    square, arms = halves.square() / 3, middles - center
    total = torch.zeros(3, 3)
    for m, s, arm in zip(masses, square, arms):
        own = torch.diag(s.sum() - s)
        total += m * (own + arm.square().sum() * torch.eye(3) - torch.outer(arm, arm))
    return center, total


def _field(boxes: Sequence[Box], count: int = 32, margin: float = 0.03) -> tuple[Tensor, Tensor, Tensor]:
    low = torch.stack([torch.tensor(middle) - torch.tensor(half) for middle, half in boxes]).amin(0) - margin
    high = torch.stack([torch.tensor(middle) + torch.tensor(half) for middle, half in boxes]).amax(0) + margin
    axes = [torch.linspace(float(a), float(b), count) for a, b in zip(low, high)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    return _distance(grid, boxes), low, (high - low) / (count - 1)


def _nearest(points: Tensor, count: int) -> Tensor:
    apart = torch.cdist(points, points)
    apart.fill_diagonal_(torch.inf)
    others = apart.topk(count, largest=False).indices
    rows = torch.arange(len(points))[:, None].expand_as(others)
    return (
        torch.stack([torch.minimum(rows, others), torch.maximum(rows, others)], -1)
        .reshape(-1, 2)
        .unique(dim=0)
    )
