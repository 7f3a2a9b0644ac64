"""Scores: a perfect picture, a wrong one, and no pictures at all."""

import math

import torch

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.render import render
from recon.evaluate import evaluate
from recon.frames import View


def test_scores_follow_the_error():
    """A picture off by 0.1 everywhere scores 20 dB, the Gaussians' own picture far more."""
    camera = Camera.looking_at((2.0, 0.0, 0.0), (0.0, 0.0, 0.0), 32, 24)
    one = torch.ones(1)
    ball = Gaussians.from_activated(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), 0.3),
        0.8 * one,
        torch.full((1, 3), 0.5),
    )
    sky = (0.2, 0.3, 0.4)
    picture = render(ball, camera, background=sky).rgb.detach()
    scores = evaluate(ball, [View(camera, picture + 0.1, "off"), View(camera, picture, "same")], sky)
    assert [view.name for view in scores.views] == ["off", "same"]
    assert abs(scores.views[0].psnr - 20) < 1e-3
    assert scores.views[1].psnr > 60
    assert scores.views[1].ssim > 0.9999 > scores.views[0].ssim
    assert scores.psnr == (scores.views[0].psnr + scores.views[1].psnr) / 2


def test_no_views_have_no_score():
    """The mean of nothing is not a number, rather than a zero that looks like a result."""
    empty = Gaussians(
        torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 1, 3)
    )
    assert math.isnan(evaluate(empty, []).psnr)
