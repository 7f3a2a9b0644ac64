"""Depth views: the surface's depth to a millimetre, also behind haze; edges and empty pixels say nothing."""

from types import SimpleNamespace

import torch

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians, cat
from recon.mesh.depth import depth_view

SLANTED = Camera.looking_at((0.5, 0.0, 0.4), (0.0, 0.0, 0.0), 96, 72, 30.0)


def true_depth(camera: Camera) -> torch.Tensor:
    """z-depth of the plane z = 0."""
    origin, rays = camera.rays()
    distance = -origin[2] / rays[..., 2]
    return distance * (rays @ camera.world_from_camera[:3, 2])


def haze(count: int = 400) -> Gaussians:
    """Faint large Gaussians between camera and sheet, as training without depth leaves them."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(count, 3, generator=generator) * torch.tensor([0.3, 0.3, 0.2]) + torch.tensor(
        [0, -0.15, 0.05]
    )
    ones = torch.ones(count)
    return Gaussians.from_activated(
        means, torch.ones(count, 4), torch.full((count, 3), 0.02), ones * 0.01, means * 0 + 0.5
    )


def test_slanted_sheet(things: SimpleNamespace) -> None:
    """Half a degree of slant would show: the depth inside Gaussians is taken, not that of their centres."""
    view = depth_view(things.sheet(0.8, 0.6, 0.02), SLANTED)
    known = view.depth > 0
    assert known.float().mean() > 0.95
    error = (view.depth - true_depth(SLANTED))[known]
    assert error.abs().median() < 1e-3 and error.abs().quantile(0.9) < 3e-3


def test_haze_does_not_pull_the_surface(things: SimpleNamespace) -> None:
    """The expected depth is off by centimetres there; ours is not."""
    from gaussworld.render import render

    hazy = cat([things.sheet(0.6, 0.6), haze()])
    view, truth = depth_view(hazy, SLANTED), true_depth(SLANTED)
    known = view.depth > 0
    expected = render(hazy, SLANTED, outputs=("depth",)).depth
    assert expected is not None
    middle = (slice(24, 48), slice(32, 64))
    assert (expected - truth)[middle].abs().median() > 5e-3
    assert (view.depth - truth)[middle].abs().median() < 1.5e-3
    assert known[middle].all()


def test_edges_and_emptiness_are_unknown(things: SimpleNamespace) -> None:
    """A small sheet before a far one: between the two, and beside both, depth is 0."""
    near, far = things.sheet(0.1, 0.1, z=0.2), things.sheet(0.3, 0.3, z=-0.3)
    camera = Camera.looking_at((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), 80, 80, 30.0)
    view = depth_view(cat([near, far]), camera)
    values = view.depth[view.depth > 0]
    assert bool((((values - 0.8).abs() < 5e-3) | ((values - 1.3).abs() < 5e-3)).all())
    assert view.depth[0, 0] == 0 and view.alpha[0, 0] == 0
    assert int((view.depth == 0).sum()) > 4 * 80
    assert (view.rgb[40, 40] - 0.5).abs().max() < 0.02


def test_distorted_camera_is_taken_without_its_lens(things: SimpleNamespace) -> None:
    """The view says so in its camera."""
    from dataclasses import replace

    from gaussworld.camera import CameraModel

    bent = replace(SLANTED, model=CameraModel.OPENCV, distortion=(0.1, 0.0, 0.0, 0.0))
    view = depth_view(things.sheet(0.6, 0.6, 0.02), bent)
    assert view.camera.model is CameraModel.PINHOLE
    assert torch.equal(view.depth, depth_view(things.sheet(0.6, 0.6, 0.02), SLANTED).depth)
