"""Floaters: what is marked in a scene with known ones, and what never is."""

import math
from dataclasses import replace

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.floaters import FloaterSettings, extent, floaters
from gaussworld.gaussians import DELETED, LOCKED, Gaussians, cat

SURFACE, LONERS, FAINT, HUGE = slice(0, 2500), slice(2500, 2520), slice(2520, 2540), slice(2540, 2542)


@pytest.fixture
def scene() -> Gaussians:
    """A plane, half of it ten times sparser with larger Gaussians; specks above it; faint and huge ones."""
    g = torch.Generator().manual_seed(0)
    means = torch.rand(2542, 3, generator=g) * torch.tensor([1.0, 1.0, 0.005])
    means[2000:2500, 0] = 1 + 2 * means[2000:2500, 0]
    means[2000:2500, 1] = 3 * means[2000:2500, 1] - 1
    means[LONERS, 2] += 0.3 + torch.rand(20, generator=g)
    scales = torch.full((2542, 3), 0.02)
    scales[2000:2500] = 0.12
    scales[LONERS] = 0.01
    scales[HUGE] = 3.0
    opacities = torch.full((2542,), 0.8)
    opacities[FAINT] = 0.005
    return Gaussians.from_activated(
        means, torch.tensor([1.0, 0, 0, 0]).expand(2542, 4), scales, opacities, torch.full((2542, 3), 0.5)
    )


def test_known_floaters_are_found(scene):
    """All faint and huge ones, nearly all specks, and nearly nothing of either surface."""
    found = floaters(scene)
    assert bool(found[FAINT].all()) and bool(found[HUGE].all())
    assert int(found[LONERS].sum()) >= 18
    assert int(found[SURFACE].sum()) <= 5


def test_rules_can_be_switched_off(scene):
    """Zero and infinite bounds mark nothing; each rule alone marks its own."""
    off = FloaterSettings(faintest=0.0, largest=math.inf, outlier=math.inf)
    assert not bool(floaters(scene, off).any())
    assert floaters(scene, replace(off, faintest=0.01)).nonzero()[:, 0].tolist() == list(range(2520, 2540))
    assert floaters(scene, replace(off, largest=0.3)).nonzero()[:, 0].tolist() == [2540, 2541]
    assert not bool(floaters(scene, replace(off, outlier=2.0, part=0)).any())


def test_a_group_of_loners_is_no_floater(scene):
    """Fifty specks that hang together are a thing, five are not."""
    g = torch.Generator().manual_seed(1)
    for count, kept in ((50, True), (5, False)):
        means = scene.means.clone()
        means[:count] = torch.tensor([0.0, 0.0, 2.0]) + 0.04 * torch.rand(count, 3, generator=g)
        log_scales = scene.log_scales.clone()
        log_scales[:count] = math.log(0.001)
        moved = replace(scene, means=means, log_scales=log_scales)
        assert bool(floaters(moved)[:count].all()) is not kept


def test_locked_and_deleted_are_never_marked(scene):
    """Locked ones still keep their neighbours company."""
    locked = replace(scene, flags=torch.full((2542,), LOCKED, dtype=torch.uint8))
    assert not bool(floaters(locked).any())
    flags = torch.zeros(2542, dtype=torch.uint8)
    flags[100:2000], flags[FAINT] = LOCKED, DELETED
    found = floaters(replace(scene, flags=flags))
    assert not bool(found[100:2000].any()) and not bool(found[FAINT].any())
    assert int(found[:100].sum()) <= 2


def test_few_or_no_gaussians(scene):
    """Too few to have neighbours: only the other rules speak."""
    assert floaters(scene.select(slice(0, 0))).shape == (0,)
    assert floaters(scene.select(slice(0, 5))).tolist() == [False] * 5


def test_extent_ignores_outliers():
    """The diagonal of the middle 90 percent."""
    points = torch.linspace(0, 1, 101)[:, None].expand(101, 3).clone()
    points[100] = 1e6
    assert extent(points) == pytest.approx(0.9 * math.sqrt(3), rel=1e-3)


def ring(count: int, radius: float = 3.0) -> list[Camera]:
    """Cameras around the plane of `scene` that look down on it."""
    angles = [2 * math.pi * i / count for i in range(count)]
    eyes = [(0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a), 2.0) for a in angles]
    return [Camera.looking_at(eye, (0.5, 0.5, 0.0), 96, 72, 50.0) for eye in eyes]


def crowded(scene: Gaussians) -> tuple[Gaussians, torch.Tensor]:
    """With a cloud of specks so dense that they hang together, and which rows they are."""
    g = torch.Generator().manual_seed(2)
    specks = scene.select(torch.arange(2500, 2520).repeat(10))
    means = 0.2 + 0.6 * torch.rand(200, 3, generator=g)
    specks = replace(specks, means=means, log_scales=torch.full((200, 3), math.log(0.004)))
    both = cat([scene, specks])
    return both, torch.arange(len(both)) >= len(scene)


def test_cameras_see_what_hangs_in_mid_air(scene):
    """Specks that hang together are found by those who look past them, and the surface stays."""
    both, specks = crowded(scene)
    alone, asked = floaters(both), floaters(both, cameras=ring(6))
    assert float(asked[specks].float().mean()) > 0.85 > 0.3 > float(alone[specks].float().mean())
    assert int(asked[SURFACE].sum()) <= 5
    assert torch.equal(floaters(both, FloaterSettings(ahead=1.1), ring(6)), alone)


def test_two_cameras_are_too_few_to_tell(scene):
    """What is in front of something for two may be a thing of its own."""
    both, _ = crowded(scene)
    assert torch.equal(floaters(both, cameras=ring(2)), floaters(both))
