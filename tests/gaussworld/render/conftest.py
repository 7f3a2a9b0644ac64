"""Scenes and cameras that the rasterizers' tests share, each a fixture that returns a builder."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.pose import look_at
from gaussworld.sh import coefficient_count


def _random_scene(n: int, seed: int = 0, sh_degree: int = 3, dtype: torch.dtype = torch.float32) -> Gaussians:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    size = math.log(0.35 / max(n, 1) ** (1 / 3))
    return Gaussians(
        means=normal(n, 3) * 0.5,
        quats=normal(n, 4),
        log_scales=size + 0.6 * normal(n, 3),
        opacity_logits=1.5 * normal(n),
        sh=0.4 * normal(n, coefficient_count(sh_degree), 3),
    ).map(lambda value: value.to(dtype) if value.is_floating_point() else value)


def _placed_scene(dtype: torch.dtype = torch.float64, sh_degree: int = 1) -> Gaussians:
    t = torch.tensor
    g = torch.Generator().manual_seed(5)
    scene = Gaussians(
        means=t(
            [[0.1, -0.3, 0.2], [-0.35, 0.1, 0.1], [0.3, 0.4, -0.25], [0.02, 0.8, 0.05], [-0.6, -0.2, -0.3]]
        ),
        quats=t(
            [
                [1.0, 0.2, 0.1, -0.3],
                [0.3, 0.9, -0.5, 0.2],
                [-0.7, 0.1, 0.6, 0.4],
                [2.0, 0, 1, 0],
                [0.1, 0.2, 0.3, 0.4],
            ]
        ),
        log_scales=t(
            [[0.25, 0.1, 0.15], [0.4, 0.2, 0.1], [0.12, 0.3, 0.2], [0.6, 0.5, 0.4], [0.1, 0.2, 0.3]]
        ).log(),
        opacity_logits=t([0.3, 1.2, -0.6, 2.0, 0.8]),
        sh=0.5 + 0.15 * torch.randn(5, coefficient_count(sh_degree), 3, generator=g),
    )
    return scene.map(lambda value: value.to(dtype) if value.is_floating_point() else value)


#: position, log scales, opacity logit of what breaks rasterizers, seen from (0, -3, 0) along +y.
_NASTY = (
    ((0.0, 0.5, 0.0), (2.5, 2.5, 2.5), -1.0),  # 12 m wide, the camera is inside
    ((5.0, 40.0, 9.0), (3.5, 3.0, 2.0), 0.5),  # a wall behind everything
    ((0.1, 0.0, 0.1), (-14.0, -14.0, -14.0), 3.0),  # far smaller than a pixel
    ((0.2, 0.0, -0.2), (-30.0, -30.0, -30.0), 3.0),  # squares vanish next to the low-pass filter
    ((-0.2, 0.1, 0.2), (0.3, -9.0, -9.0), 1.0),  # a needle
    ((0.3, -0.1, 0.1), (-9.0, 1.5, -9.0), 1.0),  # a needle that points at the camera
    ((0.0, 0.2, 0.3), (-16.0, -0.7, -0.7), 2.0),  # a disc, edge-on
    ((0.4, 0.2, -0.3), (-0.7, -16.0, -0.7), 2.0),  # a disc, face-on
    ((0.0, -4.0, 0.0), (-1.0, -1.0, -1.0), 2.0),  # behind the camera
    ((0.0, -3.2, 0.0), (0.5, 0.5, 0.5), 2.0),  # behind it, but reaching forward
    ((0.001, -2.98, 0.001), (-7.0, -7.0, -7.0), 0.0),  # just beyond the near plane
    ((0.0, -2.995, 0.0), (-4.0, -4.0, -4.0), 2.0),  # before the near plane
    ((30.0, 0.0, 0.0), (1.0, 1.0, 1.0), 2.0),  # far to the side
    ((-2.2, 0.0, 0.0), (-0.2, -0.2, -0.2), 1.0),  # centre outside, edge inside
    ((0.3, 0.3, 0.3), (-1.5, -2.0, -1.0), 15.0),  # opaque
    ((-0.3, 0.3, 0.3), (-1.5, -2.0, -1.0), -15.0),  # invisible
    ((-0.3, 0.3, -0.3), (-1.5, -1.5, -1.5), -5.5),  # just above 1/255
)


def _nasty_scene(
    copies: int = 12, sh_degree: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    stack = [
        ((-0.1, -0.2, 0.0), (-1.2, -1.2, -1.2), 2.5)
    ] * copies  # one place, one depth: order by row, early stop
    rows = [*_NASTY, *stack]
    n = len(rows)
    quats = torch.zeros(n, 4, dtype=torch.float64)
    quats[:, 0] = 1
    quats[::3] = 1e-3 * torch.randn(len(quats[::3]), 4, generator=g, dtype=torch.float64)
    quats[1::3, 1:] = 0.02
    quats[1::3] *= 100
    return Gaussians(
        means=torch.tensor([row[0] for row in rows], dtype=torch.float64),
        quats=quats,
        log_scales=torch.tensor([row[1] for row in rows], dtype=torch.float64),
        opacity_logits=torch.tensor([row[2] for row in rows], dtype=torch.float64),
        sh=0.5 * torch.randn(n, coefficient_count(sh_degree), 3, generator=g, dtype=torch.float64),
    ).map(lambda value: value.to(dtype) if value.is_floating_point() else value)


def _ring_camera(
    index: int = 0,
    count: int = 8,
    width: int = 64,
    height: int = 48,
    radius: float = 3.0,
    dtype: torch.dtype = torch.float32,
) -> Camera:
    angle = 2 * math.pi * index / count - math.pi / 2
    elevation = 0.3 * (index % 3)
    eye = torch.tensor([radius * math.cos(angle), radius * math.sin(angle), elevation], dtype=dtype)
    return Camera.pinhole(look_at(eye, torch.zeros(3, dtype=dtype)), width, height, 50.0)


def _with_grad(gaussians: Gaussians) -> Gaussians:
    return gaussians.map(
        lambda value: value.detach().clone().requires_grad_() if value.is_floating_point() else value
    )


@pytest.fixture
def random_scene() -> Callable[..., Gaussians]:
    """`random_scene(n, seed=0, sh_degree=3, dtype=float32)`: a ball of Gaussians of mixed sizes."""
    return _random_scene


@pytest.fixture
def placed_scene() -> Callable[..., Gaussians]:
    """`placed_scene(dtype=float64, sh_degree=1)`: five broad Gaussians, smooth for finite differences."""
    return _placed_scene


@pytest.fixture
def nasty_scene() -> Callable[..., Gaussians]:
    """`nasty_scene(copies=12, sh_degree=3, dtype=float32)`: huge, tiny, edge-on, stacked; for camera 0."""
    return _nasty_scene


@pytest.fixture
def ring_camera() -> Callable[..., Camera]:
    """`ring_camera(index=0, count=8, width=64, height=48, radius=3.0)`: on a circle, looks at the origin."""
    return _ring_camera


@pytest.fixture
def with_grad() -> Callable[[Gaussians], Gaussians]:
    """`with_grad(gaussians)`: a copy whose floating-point fields are leaves that want gradients."""
    return _with_grad
