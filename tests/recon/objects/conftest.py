"""A table with a red and a blue box on it, over a floor, made of discs whose true ids are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians, cat
from gaussworld.pose import quats_from_rotation
from recon.objects import draw_ids

TABLE, RED, BLUE = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Scene:
    """Discs, their true ids, and cameras around them with pictures of those ids."""

    gaussians: Gaussians
    ids: Int[Tensor, " n"]
    cameras: tuple[Camera, ...]
    pictures: tuple[Int[Tensor, "h w"], ...]

    def right(self, ids: Int[Tensor, " n"], number: int, found: int) -> float:
        """Intersection over union of Gaussians of an object."""
        a, b = self.ids == number, ids == found
        return float((a & b).sum()) / float((a | b).sum())


def discs(low: tuple[float, ...], high: tuple[float, ...], rgb: tuple[float, ...], step: float) -> Gaussians:
    """The faces of a box as a grid of flat discs; a side without extent gives one face, looking up."""
    sides, parts = torch.tensor(high) - torch.tensor(low), []
    for axis in range(3):
        u, v = [i for i in range(3) if i != axis]
        if not (sides[u] > 0 and sides[v] > 0):
            continue
        a = torch.arange(low[u] + step / 2, high[u], step)
        b = torch.arange(low[v] + step / 2, high[v], step)
        grid = torch.cartesian_prod(a, b)
        for end in {low[axis], high[axis]}:
            means = torch.zeros(len(grid), 3)
            means[:, u], means[:, v], means[:, axis] = grid[:, 0], grid[:, 1], end
            scales = torch.full((len(grid), 3), 0.5 * step)
            scales[:, axis] = 0.02 * step
            quats = quats_from_rotation(torch.eye(3)).expand(len(grid), 4)
            color = torch.tensor(rgb).expand(len(grid), 3)
            opacities = torch.full((len(grid),), 0.97)
            parts.append(Gaussians.from_activated(means, quats, scales, opacities, color))
    return cat(parts)


def ring(count: int, distance: float = 1.1, width: int = 192) -> tuple[Camera, ...]:
    """Cameras around the table."""
    turns = [2 * math.pi * i / count for i in range(count)]
    return tuple(
        Camera.looking_at(
            (distance * math.cos(t), distance * math.sin(t), 0.5 + 0.2 * (i % 2)),
            (0.0, 0.0, 0.0),
            width,
            width * 3 // 4,
        )
        for i, t in enumerate(turns)
    )


def made(parts: list[tuple[int, Gaussians]], cameras: tuple[Camera, ...]) -> Scene:
    """A scene of parts with ids."""
    gaussians = cat([part for _, part in parts])
    ids = torch.cat([torch.full((len(part),), number) for number, part in parts]).to(torch.int32)
    return Scene(gaussians, ids, cameras, tuple(draw_ids(gaussians, ids, camera) for camera in cameras))


@pytest.fixture(scope="session")
def build() -> Callable[..., Scene]:
    """Makes a scene of parts with ids, seen by eight cameras of a width."""
    return lambda *parts, width=192: made(list(parts), ring(8, width=width))


@pytest.fixture(scope="session")
def box() -> Callable[..., Gaussians]:
    """Makes the discs of a box: lowest and highest corner, colour, step."""
    return discs


@pytest.fixture(scope="session")
def floor() -> Gaussians:
    """A floor 40 cm below the table."""
    return discs((-1.2, -1.2, -0.4), (1.2, 1.2, -0.4), (0.6, 0.6, 0.55), 0.05)


@pytest.fixture(scope="session")
def table() -> Gaussians:
    """A table top of 70 x 60 x 3 cm."""
    return discs((-0.35, -0.3, -0.03), (0.35, 0.3, 0.0), (0.5, 0.35, 0.2), 0.012)


@pytest.fixture(scope="session")
def red() -> Gaussians:
    """A red box on the table."""
    return discs((-0.2, -0.1, 0.0), (-0.08, 0.02, 0.1), (0.8, 0.1, 0.1), 0.01)


@pytest.fixture(scope="session")
def blue() -> Gaussians:
    """A blue box on the table."""
    return discs((0.06, 0.0, 0.0), (0.16, 0.1, 0.07), (0.1, 0.2, 0.8), 0.01)


@pytest.fixture(scope="session")
def scene(floor: Gaussians, table: Gaussians, red: Gaussians, blue: Gaussians) -> Scene:
    """All of it, seen by eight cameras."""
    return made([(0, floor), (TABLE, table), (RED, red), (BLUE, blue)], ring(8))
