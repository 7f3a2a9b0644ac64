"""The plane of few pictures: found with and without errors of calibration, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.shape import Mesh
from recon.place import photo_plane
from recon.place.photo_plane import plane_from_views
from recon.place.sighted import sightings_of

EYES = ((0.5, -0.3, 0.6), (-0.5, -0.35, 0.65), (0.05, 0.6, 0.7))
SIDE = 0.5


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """A coarser plane, in two rounds: what is small has no need of four."""
    monkeypatch.setattr(photo_plane, "_ROUNDS", ((48, 16, 12), (32, 12, 5)))


def texture(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Blobs of many sizes, nowhere the same."""
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros_like(x)
    for _ in range(60):
        kx, ky, phase = (torch.rand(3, generator=generator) * 2 - 1).tolist()
        total = total + torch.sin(120 * (kx * x + ky * y) + 6 * phase)
    return (0.4 + 0.015 * total).clamp(0, 1)


def seen(camera: Camera, slope: tuple[float, float, float], block: bool = False) -> torch.Tensor:
    """What a camera sees of the plane z = a + b x + c y, ray by ray; with a white block on it."""
    origin, rays = camera.rays()
    normal = torch.tensor([-slope[1], -slope[2], 1.0])
    along = (slope[0] - origin @ normal) / (rays @ normal)
    points = origin + along[..., None] * rays
    grey = texture(points[..., 0], points[..., 1])
    picture = torch.stack([grey, grey * 0.9, grey * 0.8], dim=-1)
    if block:
        low, high = torch.tensor([-0.05, -0.04, -0.02]), torch.tensor([0.05, 0.06, 0.08])
        a, b = (low - origin) / rays, (high - origin) / rays
        enter, leave = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
        picture = torch.where((enter < leave)[..., None], torch.tensor([1.0, 0.95, 0.9]), picture)
    return picture


def rig() -> list[Camera]:
    return [Camera.looking_at(eye, (0.0, 0.0, 0.0), 240, 180, 45.0) for eye in EYES]


def wrong(camera: Camera, turn: tuple[float, float, float], shift: tuple[float, float, float]) -> Camera:
    """A camera whose calibration is off."""
    change = pose_from(rotation_from_rotvec(torch.tensor(turn)), torch.tensor(shift))
    return replace(camera, world_from_camera=camera.world_from_camera @ change)


def test_a_tilted_plane_is_found():
    """Height and tilt, from pictures of cameras that are right."""
    slope = (0.012, 0.03, -0.02)
    cameras = rig()
    found = plane_from_views([seen(c, slope) for c in cameras], cameras, torch.eye(4), SIDE, spacing=0.003)
    truth = torch.tensor([-0.03, 0.02, 1.0]).double() / math.sqrt(1 + 0.03**2 + 0.02**2)
    assert math.degrees(math.acos(min(1.0, float(found.normal @ truth)))) < 0.1
    assert float(found.middle[2]) == pytest.approx(0.012, abs=5e-4)
    assert found.residual_px < 0.3 and found.matches > 30
    assert 0 < found.height_error < 0.02


def test_a_known_body_makes_up_for_a_wrong_calibration():
    """Cameras wrong by almost a degree and 5 mm: the plane is within 4 mm, and the pictures agree again."""
    slope, cameras = (0.0, 0.01, 0.0), rig()
    pictures = [seen(camera, slope, block=True) for camera in cameras]
    told = [
        wrong(cameras[0], (0.012, -0.010, 0.0), (0.004, 0.0, -0.003)),
        wrong(cameras[1], (-0.010, 0.011, 0.005), (0.0, 0.005, 0.003)),
        wrong(cameras[2], (0.010, 0.012, -0.006), (-0.005, 0.0, 0.004)),
    ]
    sides = torch.tensor([[-0.05, 0.05], [-0.04, 0.06], [-0.02, 0.08]])
    corners = torch.cartesian_prod(*sides)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    block = Mesh(corners, torch.tensor(faces))
    sightings = sightings_of(block, pictures, told)
    assert [each.camera for each in sightings] == [0, 1, 2]
    for each in sightings:
        truth = cameras[each.camera].project(each.points)[0]
        before = told[each.camera].project(each.points)[0]
        assert float((before - truth).norm(dim=1).mean()) > 2
        assert float((each.pixels - truth).norm(dim=1).mean()) < 1.2
    found = plane_from_views(pictures, told, torch.eye(4), SIDE, sightings, 0.003)
    assert float(found.middle[2]) == pytest.approx(0.0, abs=4e-3)
    assert found.residual_px < 0.6


def test_pictures_that_share_nothing_are_refused():
    """Blank walls, one picture, and lenses that bend."""
    cameras = rig()
    blank = [torch.full((180, 240, 3), 0.5)] * 3
    with pytest.raises(CaptureError, match="expected pictures that share a texture on the plane, got 0"):
        plane_from_views(blank, cameras, torch.eye(4), SIDE, spacing=0.003)
    with pytest.raises(CaptureError, match="at least 2 calibrated cameras to find a plane, got 1 of 1"):
        plane_from_views(blank[:1], cameras[:1], torch.eye(4), SIDE)
