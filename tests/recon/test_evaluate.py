"""Scores: perfect and wrong pictures, masks, transparency, depth against a sensor, and no pictures at all."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.metrics import ssim
from gaussworld.render import render
from recon.evaluate import Scores, ViewScore, evaluate
from recon.frames import View

SKY = (0.2, 0.3, 0.4)


@pytest.fixture
def camera() -> Camera:
    """Two metres in front of the origin."""
    return Camera.looking_at((2.0, 0.0, 0.0), (0.0, 0.0, 0.0), 48, 36)


@pytest.fixture
def wall() -> Gaussians:
    """A flat, opaque disc across the view, at the origin."""
    return Gaussians.from_activated(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([[1e-3, 5.0, 5.0]]),
        torch.full((1,), 0.99),
        torch.tensor([[0.3, 0.5, 0.7]]),
    )


@pytest.fixture
def ball() -> Gaussians:
    """A soft ball in the middle of the view, sky around it."""
    return Gaussians.from_activated(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), 0.2),
        torch.full((1,), 0.8),
        torch.full((1, 3), 0.5),
    )


def test_scores_follow_the_error(ball, camera):
    """A picture off by 51 of 255 steps everywhere scores 14 dB, the Gaussians' own picture far more."""
    same = View.of(camera, render(ball, camera, background=SKY).rgb, "same")
    off = replace(same, pixels=same.pixels + 51, name="off")
    scores = evaluate(ball, [off, same], SKY)
    assert [view.name for view in scores.views] == ["off", "same"]
    assert scores.views[0].psnr == pytest.approx(20 * math.log10(5), abs=0.02)
    assert scores.views[1].psnr > 55
    assert scores.views[1].ssim > 0.999 > scores.views[0].ssim
    assert scores.psnr == (scores.views[0].psnr + scores.views[1].psnr) / 2
    assert (scores.lpips, scores.depth_error) == (None, None)


def test_transparent_pixels_are_seen_over_the_background(ball, camera):
    """A cut-out picture is compared in front of the colour the Gaussians are drawn on."""
    rendering = render(ball, camera)
    cut_out = View.of(camera, rendering.rgb)
    cut_out = replace(cut_out, alpha=(rendering.alpha * 255).round().to(torch.uint8))
    assert evaluate(ball, [cut_out], SKY).psnr > 45
    assert evaluate(ball, [cut_out], (1.0, 1.0, 1.0)).psnr > 45
    assert evaluate(ball, [replace(cut_out, alpha=None)], SKY).psnr < 20


def test_masked_pixels_do_not_count(ball, camera):
    """Whatever stands where the mask is black, the figures are the same, LPIPS included."""
    view = View.of(camera, render(ball, camera, background=SKY).rgb + 0.05)
    mask = torch.ones(36, 48, dtype=torch.bool)
    mask[:, 30:] = False
    spoilt = replace(view, pixels=torch.where(mask[..., None], view.pixels, 255 - view.pixels), mask=mask)
    seen = []

    def metric(image, target):
        seen.append((image[~mask] - target[~mask]).abs().max().item())
        return 0.25

    first, second = (evaluate(ball, [v], SKY, metric) for v in (replace(view, mask=mask), spoilt))
    assert first == second
    assert seen == [0.0, 0.0]
    assert first.lpips == 0.25
    assert first.psnr > evaluate(ball, [replace(spoilt, mask=None)], SKY).psnr + 5


def test_ssim_of_a_mask_weighs_only_what_counts():
    """A full mask changes nothing, and a window's means are over its counted pixels alone."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(30, 40, 3, generator=generator)
    y = (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    full = torch.ones(30, 40, dtype=torch.bool)
    assert ssim(x, y, full) == pytest.approx(ssim(x, y), abs=1e-12)
    expected = structural_similarity(
        x.numpy()[:, :20],
        y.numpy()[:, :20],
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=2,
    )
    left = full.clone()
    left[:, 20:] = False
    assert ssim(x, y, left) == pytest.approx(np.asarray(expected).item(), abs=0.02)
    y[:, 20:] = 1 - y[:, 20:]
    spoilt = y.clone()
    spoilt[:, 20:] = 0
    assert ssim(x, y, left) == ssim(x, spoilt, left)
    with pytest.raises(ValueError, match="away from the border"):
        ssim(x, y, torch.zeros(30, 40, dtype=torch.bool))


def test_a_view_of_which_nothing_counts_is_left_out_of_the_mean(ball, camera):
    """Its figures are NaN, and the others' mean stands."""
    view = View.of(camera, render(ball, camera, background=SKY).rgb + 0.1, "good")
    blind = replace(view, mask=torch.zeros(36, 48, dtype=torch.bool), name="blind")
    scores = evaluate(ball, [blind, view], SKY)
    assert math.isnan(scores.views[0].psnr)
    assert scores.psnr == scores.views[1].psnr
    assert [score.name for score in scores.worst(5)] == ["good", "blind"]


def test_a_picture_smaller_than_the_window_has_no_ssim(ball):
    """Ten pixels hold no window of eleven; PSNR is still told."""
    small = Camera.looking_at((2.0, 0.0, 0.0), (0.0, 0.0, 0.0), 10, 10)
    score = evaluate(ball, [View.of(small, torch.zeros(10, 10, 3))], SKY).views[0]
    assert math.isnan(score.ssim) and score.psnr > 0


def test_depth_error_is_the_median_over_what_both_know(wall, camera):
    """A wall two metres away, a sensor 3 cm off and half blind, and outliers that do not matter."""
    depth = render(wall, camera, outputs=("depth",)).depth
    assert depth is not None
    assert float(depth.median()) == pytest.approx(2.0, abs=0.02)
    measured = depth + 0.03
    measured[:, :24] = 0.0
    measured[:3] = 9.0
    view = View(camera, torch.zeros(36, 48, 3, dtype=torch.uint8), depth=measured)
    assert evaluate(wall, [view]).depth_error == pytest.approx(0.03, abs=1e-4)
    other = replace(view, depth=depth + 0.05)
    assert evaluate(wall, [view, other]).depth_error == pytest.approx(0.04, abs=1e-4)
    mask = torch.zeros(36, 48, dtype=torch.bool)
    mask[:3] = True
    assert evaluate(wall, [replace(view, mask=mask)]).depth_error == pytest.approx(7.0, abs=0.1)


def test_depth_is_not_judged_where_nothing_was_measured_or_shown(ball, camera):
    """A blind sensor has no error, nor have Gaussians that one can see through."""
    blind = View(camera, torch.zeros(36, 48, 3, dtype=torch.uint8), depth=torch.zeros(36, 48))
    assert evaluate(ball, [blind]).depth_error is None
    thin = replace(ball, opacity_logits=torch.full((1,), -3.0))
    assert evaluate(thin, [replace(blind, depth=torch.ones(36, 48))]).depth_error is None


def test_the_worst_come_first():
    """By PSNR."""
    scores = Scores(
        tuple(ViewScore(name, psnr, 0.9) for name, psnr in (("a", 30.0), ("b", 20.0), ("c", 25.0)))
    )
    assert [view.name for view in scores.worst(2)] == ["b", "c"]


def test_no_views_have_no_score():
    """The mean of nothing is not a number, rather than a zero that looks like a result."""
    empty = Gaussians(
        torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 1, 3)
    )
    scores = evaluate(empty, [])
    assert math.isnan(scores.psnr) and math.isnan(scores.ssim)
    assert (scores.lpips, scores.depth_error) == (None, None)
