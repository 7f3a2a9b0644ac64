"""First Gaussians: widths from neighbours, guesses inside the pictures, the point the cameras look at."""

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError
from recon.frames import View
from recon.initialize import along_rays, focus, from_points, scene_extent


def _ring(count: int = 6) -> list[View]:
    views = []
    for angle in torch.arange(count) * 6.2831853 / count:
        eye = (3 * float(angle.cos()) + 1, 3 * float(angle.sin()) + 2, 1.5)
        views.append(View.of(Camera.looking_at(eye, (1.0, 2.0, 0.5), 32, 24), torch.full((24, 32, 3), 0.25)))
    return views


def test_widths_are_the_spacing_of_a_grid():
    """Points one unit apart become Gaussians of width one in the points' colours."""
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3)
    colors = torch.rand(64, 3, generator=torch.Generator().manual_seed(0))
    start = from_points(grid, colors)
    assert torch.allclose(start.scales, torch.ones(64, 3), atol=1e-5)
    assert torch.allclose(start.rgb, colors, atol=1e-5)
    assert torch.equal(start.means, grid)


def test_duplicates_and_outliers_get_sane_widths():
    """Coinciding points get no zero width, a lone far one does not cover the scene."""
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3)
    points = torch.cat([grid, grid[:1].expand(4, 3), torch.tensor([[1000.0, 0.0, 0.0]])])
    scales = from_points(points, torch.zeros(69, 3)).scales
    assert float(scales.min()) >= 0.09
    assert float(scales.max()) < 2


def test_too_few_points_are_refused():
    """Three points are no start."""
    with pytest.raises(CaptureError, match="at least 4 points"):
        from_points(torch.rand(3, 3), torch.rand(3, 3))


def test_guesses_are_seen_by_their_cameras():
    """Exactly as many as asked for, all in front of some camera and in its picture, in its colour."""
    views = _ring()
    points, colors = along_rays(views, 100, torch.Generator().manual_seed(0))
    assert len(points) == len(colors) == 100
    seen = torch.zeros(100, dtype=torch.bool)
    for view in views:
        pixels, depths = view.camera.project(points)
        inside = ((pixels >= 0) & (pixels <= torch.tensor([32.0, 24.0]))).all(-1)
        seen |= inside & (depths > 0.3 * 3) & (depths < 2.6 * 3.3)
    assert bool(seen.all())
    assert torch.allclose(colors, torch.full((100, 3), 0.25), atol=3e-3)


def test_focus_is_where_the_cameras_look():
    """A ring that looks at a point, and parallel cameras that look at none."""
    cameras = [view.camera for view in _ring()]
    assert torch.allclose(focus(cameras), torch.tensor([1.0, 2.0, 0.5]), atol=1e-4)
    side_by_side = [Camera.looking_at((0.0, y, 0.0), (5.0, y, 0.0)) for y in (-1.0, 0.0, 1.0)]
    ahead = focus(side_by_side)
    assert float(ahead[0]) > 0
    assert bool(torch.isfinite(ahead).all())


def test_extent_is_the_reach_of_the_ring():
    """Cameras three units around their middle reach 3.3; one camera alone reaches something positive."""
    cameras = [view.camera for view in _ring()]
    assert scene_extent(cameras) == pytest.approx(3.3, rel=1e-4)
    assert scene_extent(cameras[:1]) > 0
