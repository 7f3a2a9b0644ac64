"""Losses: masks hide pixels, depth pulls Gaussians to where the sensor saw them, regularisers shrink."""

from dataclasses import replace

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.render import render
from recon.frames import View
from recon.losses import depth_loss, picture_loss, regularizer

CAMERA = Camera.looking_at((3.0, 0.0, 0.0), (0.0, 0.0, 0.0), 48, 36)
BLACK = torch.zeros(3)


def _view(seed: int = 0) -> View:
    return View.of(CAMERA, torch.rand(36, 48, 3, generator=torch.Generator().manual_seed(seed)))


def test_masked_pixels_do_not_count():
    """Whatever is drawn or seen under the mask, the loss is the same, and it gives no gradient there."""
    view = _view()
    mask = torch.ones(36, 48, dtype=torch.bool)
    mask[:, 24:] = False
    masked = replace(view, mask=mask)
    scribbled = replace(masked, pixels=torch.where(mask[..., None], view.pixels, 255 - view.pixels))
    rgb = torch.rand(36, 48, 3, requires_grad=True)
    loss = picture_loss(rgb, masked, BLACK, 0.2)
    assert torch.equal(loss, picture_loss(rgb, scribbled, BLACK, 0.2))
    loss.backward()
    assert rgb.grad is not None
    assert float(rgb.grad[:, 24:].abs().max()) == 0
    assert float(rgb.grad[:, :24].abs().min()) >= 0
    assert float(rgb.grad[:, :24].abs().max()) > 0


def test_a_perfect_picture_costs_nothing():
    """Over the background, with transparency."""
    view = replace(_view(), alpha=torch.randint(0, 256, (36, 48), dtype=torch.uint8))
    background = torch.tensor([0.2, 0.4, 0.6])
    assert float(picture_loss(view.over(background), view, background, 0.2)) == pytest.approx(0, abs=1e-6)


def test_depth_pulls_a_gaussian_into_place():
    """Ten steps of descent on the depth loss alone move it from depth 3 towards the sensor's 2.5."""
    view = replace(_view(), depth=torch.full((36, 48), 2.5))
    means = torch.zeros(1, 3, requires_grad=True)
    adam = torch.optim.Adam([means], lr=0.05)
    quats, scales = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 3), 0.5)
    for _ in range(15):
        gaussians = Gaussians.from_activated(
            torch.zeros(1, 3), quats, scales, torch.full((1,), 0.95), torch.ones(1, 3)
        )
        rendering = render(replace(gaussians, means=means), CAMERA, outputs=("depth",))
        assert rendering.depth is not None
        loss = depth_loss(rendering.depth, rendering.alpha, view)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(means.detach()[0, 0]) == pytest.approx(0.5, abs=0.15)


def test_unknown_depth_is_not_looked_at():
    """Zeros of the sensor and pixels that nothing covers cost nothing; outliers cost no more than the cap."""
    depth = torch.zeros(36, 48)
    view = replace(_view(), depth=depth)
    drawn, alpha = torch.full((36, 48), 2.0), torch.ones(36, 48)
    assert float(depth_loss(drawn, alpha, view)) == 0
    view = replace(view, depth=torch.full((36, 48), 1e-3))
    assert float(depth_loss(drawn, alpha, view)) == pytest.approx(0.5)
    assert float(depth_loss(drawn, alpha * 0, view)) == 0


def test_regularizer_shrinks_sizes_and_opacities():
    """Its gradient pulls both down, whatever the unit of the scene."""
    losses = []
    for unit in (1.0, 10.0):
        log_scales = torch.full((2, 3), 0.1 * unit).log().requires_grad_()
        logits = torch.zeros(2, requires_grad=True)
        gaussians = Gaussians(
            torch.zeros(2, 3), torch.tensor([[1.0, 0, 0, 0]] * 2), log_scales, logits, torch.zeros(2, 1, 3)
        )
        loss = regularizer(gaussians, unit, opacity=0.01, scale=0.01)
        loss.backward()
        assert log_scales.grad is not None
        assert logits.grad is not None
        assert bool((log_scales.grad > 0).all())
        assert bool((logits.grad > 0).all())
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1])
