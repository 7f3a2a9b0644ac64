"""A world of coloured Gaussians and pictures of it after something changed; nothing is trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.io.images import write_image
from gaussworld.render import render
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

TABLE, CRATE, BALL = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Place:
    """A world, and a way to photograph what has become of it."""

    world: World
    photograph: Callable[..., Path]
    """Writes pictures of a world into a folder: `photograph(world, folder, count=5)`."""
    cameras: list[Camera]
    """Those that took five pictures."""
    other: Callable[[], World]
    """Builds another place of the same kind."""


def _spots(points: Tensor, size: float, generator: torch.Generator) -> Gaussians:
    """Gaussians with colours of their own: a texture that features like."""
    count = len(points)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4)
    # A few large blotches and many small ones.
    scales = size * (0.5 + torch.rand(count, 1, generator=generator)).expand(-1, 3)
    rgb = torch.rand(count, 3, generator=generator) ** 0.7
    return Gaussians.from_activated(points, quats, scales, torch.full((count,), 0.98), rgb)


def _box(size: tuple[float, float, float], count: int, generator: torch.Generator) -> Tensor:
    """Points on the faces of a box whose bottom is at z = 0."""
    points = torch.rand(count, 3, generator=generator)
    axis = torch.randint(3, (count,), generator=generator)
    side = torch.randint(2, (count,), generator=generator).float()
    points[torch.arange(count), axis] = side
    return (points - torch.tensor([0.5, 0.5, 0.0])) * torch.tensor(size)


def ring(count: int, turn: float = 0.0, radius: float = 1.0, width: int = 320) -> list[Camera]:
    """Cameras around the table."""
    found = []
    for i in range(count):
        angle = torch.tensor(turn + 6.2831853 * i / count)
        eye = (radius * float(angle.cos()), radius * float(angle.sin()), 0.7)
        found.append(Camera.looking_at(eye, (0.0, 0.0, 0.0), width, width * 3 // 4, 46.0))
    return found


def build_world(seed: int = 0) -> World:
    """A table with a crate and a second, smaller one."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.linspace(-0.45, 0.45, 64)
    flat = torch.cartesian_prod(steps, steps)
    table = torch.cat([flat, torch.full((len(flat), 1), -0.008)], dim=1)
    parts = [
        (TABLE, "table", ObjectKind.STATIC, table, 0.010, (0.0, 0.0, 0.0)),
        (
            CRATE,
            "crate",
            ObjectKind.RIGID,
            _box((0.16, 0.12, 0.10), 1100, generator),
            0.007,
            (-0.15, 0.1, 0.0),
        ),
        (BALL, "ball", ObjectKind.RIGID, _box((0.1, 0.1, 0.12), 900, generator), 0.006, (0.16, 0.14, 0.0)),
    ]
    objects = {}
    for number, name, kind, points, size, at in parts:
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor(at)
        gaussians = _spots(points, size, generator)
        ids = torch.full_like(gaussians.object_ids, number)
        objects[number] = WorldObject(number, name, replace(gaussians, object_ids=ids), kind, pose)
    return World(objects, tuple(ring(12)), metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def photograph(world: World, folder: Path, count: int = 5, gain: float = 1.0) -> Path:
    """Pictures of a world from between its own cameras, exposed otherwise if asked."""
    with torch.no_grad():
        for i, camera in enumerate(ring(count, turn=0.2, radius=0.95)):
            write_image(folder / f"new_{i}.png", (gain * render(world.shown(), camera).rgb).clamp(0, 1))
    return folder


@pytest.fixture(scope="session")
def place() -> Place:
    """The world as it was."""
    return Place(build_world(), photograph, ring(5, turn=0.2, radius=0.95), lambda: build_world(seed=9))
