"""Plane sweep: depths of a textured scene, who is asked, and rays that nobody else sees."""

import torch

from recon.frames import load_view
from recon.initialize import along_rays, focus
from recon.sweep import small, sweep, witnesses
from recon.synthetic import TabletopConfig, tabletop


def test_depths_are_those_of_the_meshes():
    """Most textured pixels get the ray caster's depth within a few per cent; a random guess would not."""
    capture = tabletop(TabletopConfig(views=24, width=160, height=120, points=10))
    views = small([load_view(frame) for frame in capture.frames])
    cameras = [view.camera for view in views]
    asked = witnesses(cameras, focus(cameras))[3].tolist()
    depth = capture.frames[3].depth
    seen = (depth > 0).nonzero()
    rows = seen[torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))[:400]]
    pixels = rows.flip(-1) + 0.5
    found = sweep(views[3], [views[i] for i in asked], pixels, 0.4, 2.5, torch.Generator().manual_seed(0))
    error = (found / depth[rows[:, 0], rows[:, 1]] - 1).abs()
    assert float(error.median()) < 0.05
    assert float((error < 0.1).float().mean()) > 0.7


def test_witnesses_see_the_target_from_a_little_aside():
    """On a ring of 36 views ten degrees apart the two direct neighbours come first, never the view itself."""
    capture = tabletop(TabletopConfig(views=36, width=16, height=12, points=10))
    cameras = [frame.camera for frame in capture.frames]
    asked = witnesses(cameras, torch.zeros(3))
    assert asked.shape == (36, 4)
    assert all(i not in asked[i].tolist() for i in range(36))
    assert (
        float(
            torch.tensor([min(abs(j - i), 36 - abs(j - i)) for i in range(36) for j in asked[i]])
            .float()
            .mean()
        )
        < 3
    )


def test_one_view_alone_gets_random_depths_in_range():
    """Nobody to ask: depths are drawn, finite, and within the range."""
    view = load_view(tabletop(TabletopConfig(views=2, width=32, height=24, points=10)).frames[1])
    points, _ = along_rays([view], 50, torch.Generator().manual_seed(0))
    _, depths = view.camera.project(points)
    reach = float((focus([view.camera]) - view.camera.center).norm())
    assert float(depths.min()) >= 0.29 * reach
    assert float(depths.max()) <= 2.51 * reach
    assert float(depths.std()) > 0.1 * reach
