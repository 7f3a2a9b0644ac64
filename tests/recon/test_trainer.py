"""Training on a tiny tabletop: it learns, repeats bit for bit, keeps its cap, and survives being stopped."""

from dataclasses import replace

import pytest
import torch

from gaussworld.capture import Capture
from gaussworld.errors import CaptureError
from gaussworld.log import Done, Notice, Progress
from recon.evaluate import evaluate
from recon.fit import TrainConfig
from recon.frames import load_view
from recon.strategy import Adc
from recon.synthetic import SKY, TabletopConfig, tabletop
from recon.trainer import begin, train

CONFIG = TrainConfig(
    steps=60,
    max_gaussians=450,
    sh_degree=1,
    background=SKY,
    strategy=Adc(start=0.1, every=10, grad_threshold=1e-5),
)


@pytest.fixture(scope="module")
def capture() -> Capture:
    return tabletop(TabletopConfig(views=9, width=48, height=36, points=400))


def _fitted(capture: Capture, config: TrainConfig):
    events = list(train(capture, config))
    assert isinstance(events[-1], Done)
    return events[-1].result


def test_held_out_views_improve(capture):
    """Sixty steps gain at least 3 dB on held-out pictures, and Gaussians up to the exact cap."""
    views = [load_view(frame) for frame in capture.of("test")]
    start = evaluate(begin(capture, CONFIG).gaussians, views, SKY)
    end_gaussians = _fitted(capture, CONFIG)
    end = evaluate(end_gaussians, views, SKY)
    assert end.psnr > start.psnr + 3
    assert end.ssim > start.ssim
    assert len(end_gaussians) == CONFIG.max_gaussians
    assert end_gaussians.sh_degree == 1


def test_events_tell_the_way(capture):
    """Progress comes every ten steps with loss and count, and counts to the total."""
    events = list(train(capture, replace(CONFIG, steps=25)))
    steps = [(event.step, event.total) for event in events if isinstance(event, Progress)]
    assert steps == [(10, 25), (20, 25), (25, 25)]
    assert set(events[0].values) == {"loss", "psnr", "gaussians"}


def test_the_same_seed_gives_the_same_bits(capture):
    """On the CPU a seed decides everything; another gives another result."""
    config = replace(CONFIG, steps=25)
    first, second, other = (_fitted(capture, c) for c in (config, config, replace(config, seed=1)))
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert not (len(first) == len(other) and torch.equal(first.means, other.means))


def test_a_stopped_fit_is_usable_and_goes_on(capture):
    """Closing the stream leaves whole Gaussians; taking the fit up again ends where an unbroken run ends."""
    fit = begin(capture, CONFIG)
    events = train(capture, CONFIG, resume=fit)
    next(events)
    events.close()
    stopped = fit.gaussians
    assert fit.step == 10
    assert len({len(value) for value in vars(stopped).values()}) == 1
    assert all(bool(torch.isfinite(value).all()) for value in vars(stopped).values())
    *_, done = train(capture, CONFIG, resume=fit)
    assert torch.equal(done.result.means, _fitted(capture, CONFIG).means)


def test_a_trial_of_poses_can_be_stopped(capture):
    """It tells of itself every ten steps, leaves the fit as it is till the end, and is made again."""
    config = replace(CONFIG, refine_poses=True)
    fit = begin(capture, config)
    events = train(capture, config, resume=fit)
    states, said = [], []
    for event in events:
        if isinstance(event, Notice):
            break
        if "trying camera poses" in event.message:
            states.append(fit.state())
            said.append(event.message)
            if len(said) == 5:
                events.close()
    assert said[0] == "trying camera poses as they are, 0 of 21 steps"
    assert said[4] == "trying camera poses corrected, 10 of 21 steps"
    assert not fit.tried_poses and fit.poses is None
    for name, value in fit.state().items():
        assert all(torch.equal(state[name], value) for state in states), name
    *_, done = train(capture, config, resume=fit)
    assert fit.tried_poses
    assert torch.equal(done.result.means, _fitted(capture, config).means)


def test_a_start_without_points_learns_too(capture):
    """Random points along the rays stand in for structure from motion."""
    config = replace(CONFIG, start_gaussians=400)
    blind = replace(capture, points=torch.zeros(0, 3), colors=torch.zeros(0, 3))
    views = [load_view(frame) for frame in capture.of("test")]
    start = evaluate(begin(blind, config).gaussians, views, SKY)
    assert evaluate(_fitted(blind, config), views, SKY).psnr > start.psnr + 2


def test_a_capture_without_training_views_is_refused(capture):
    """All frames held out: nothing to learn from."""
    frames = tuple(replace(frame, split="test") for frame in capture.frames)
    with pytest.raises(CaptureError, match="training picture among 9 frames"):
        begin(replace(capture, frames=frames), CONFIG)


def test_impossible_budgets_are_refused():
    """No steps is a bad call."""
    with pytest.raises(ValueError, match="at least 1 step"):
        replace(CONFIG, steps=0)
