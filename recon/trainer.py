"""Fit Gaussians to posed pictures: a stream of events that ends with the Gaussians."""

import time
from collections.abc import Collection, Generator, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.capture import Capture
from gaussworld.errors import CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Notice, Progress
from gaussworld.metrics import psnr
from gaussworld.render import render
from gaussworld.threads import one_torch_thread

from .evaluate import evaluate
from .fit import Fit, TrainConfig, start
from .frames import View, load_view
from .losses import depth_loss, picture_loss, regularizer
from .refine import PoseRefinement

_STEPS_PER_EVENT = 10
#: Held-out pictures are looked at this often for the curve, and at most so many of them.
_JUDGEMENTS, _MOST_JUDGES = 20, 12
#: A trial of pose corrections lasts so many rounds through the pictures, and must gain this much [dB].
_TRIAL_ROUNDS, _WORTH, _FEWEST_TO_TRY = 3, 0.05, 4


def begin(capture: Capture, config: TrainConfig | None = None, device: torch.device | str = "cpu") -> Fit:
    """Read the training pictures and place the first Gaussians.

    Raises:
        CaptureError: there are no training pictures, or one contradicts its camera.
    """
    config = config or TrainConfig()
    views = [load_view(f, config.resolution, capture.metres_per_unit) for f in capture.of("train")]
    if not views:
        raise CaptureError(
            f"expected a training picture among {len(capture)} frames, got none; check their splits"
        )
    return start(views, capture.points, capture.colors, config, device)


def train(
    capture: Capture,
    config: TrainConfig | None = None,
    *,
    resume: Fit | None = None,
    judges: Sequence[View] = (),
) -> Iterator[Event[Gaussians]]:
    """Fit Gaussians to the training split of a capture.

    Args:
        capture: posed pictures; only its train split is looked at.
        config: how.
        resume: a fit to take up where it stopped; capture and config are then those it began with. Hand in
            `begin(capture, config)` to keep hold of the Gaussians when the stream is closed before its end.
        judges: held-out views that the curve of PSNR over time is measured on; nothing is learnt from them.

    Yields:
        `Progress` with loss, PSNR [dB] of the picture just looked at and number of Gaussians every ten steps,
        now and then with the held-out PSNR; `Done` with the Gaussians last.
    """
    fit = resume or begin(capture, config)
    judges = [judges[i] for i in _spread(len(judges), _MOST_JUDGES)]
    judged = int(fit.share * _JUDGEMENTS)
    while fit.share < 1:
        wanted = fit.config.refine_poses and not fit.tried_poses and len(fit.views) >= _FEWEST_TO_TRY
        if wanted and fit.share >= fit.config.coarse_until:
            yield from _try_poses(fit)
        values = take_step(fit)
        if fit.step % _STEPS_PER_EVENT and fit.share < 1:
            continue
        shown = {name: float(value) for name, value in values.items()}
        shown["gaussians"] = float(len(fit.parameters))
        if judges and (int(fit.share * _JUDGEMENTS) > judged or fit.share >= 1):
            judged = int(fit.share * _JUDGEMENTS)
            scores = evaluate(fit.gaussians, judges, fit.config.background)
            shown |= {"held_out_psnr": scores.psnr, "training_seconds": round(fit.seconds, 3)}
        yield Progress(fit.step, _total(fit), shown)
    yield Done(fit.gaussians)


def take_step(fit: Fit, leave_out: Collection[int] = ()) -> dict[str, Tensor | float]:
    """Draw one training view, compare, improve, and let the strategy act.

    Args:
        fit: what to improve, in place.
        leave_out: training pictures not to look at.

    Returns:
        The loss and, every tenth step, the PSNR [dB] of the picture.
    """
    begun, share = time.perf_counter(), fit.share
    if fit.config.sh_every > 0:
        fit.parameters.raise_sh_degree(min(fit.config.sh_degree, int(share / fit.config.sh_every)))
    index = _next_view(fit, leave_out)
    with one_torch_thread():
        values = _learn(fit, index)
        fit.parameters.step(share)
        for part in (fit.exposure, fit.poses):
            if part is not None:
                part.step(share)
    fit.step += 1
    fit.strategy.adapt(fit.parameters, fit.step, share)
    fit.seconds += time.perf_counter() - begun
    return values


def _learn(fit: Fit, index: int) -> dict[str, Tensor | float]:
    """Gradients of everything with respect to one picture."""
    config, view = fit.config, fit.views[index]
    background = _background(fit, view)
    gaussians = fit.parameters.gaussians()
    with_depth = view.depth is not None and config.lambda_depth > 0
    rendering = render(
        gaussians,
        fit.camera(index),
        background=background,
        mask=view.mask,
        outputs=("depth",) if with_depth else (),
    )
    if rendering.means2d is not None:
        rendering.means2d.retain_grad()
    rgb = rendering.rgb if fit.exposure is None else fit.exposure.applied(rendering.rgb, index)
    loss = picture = picture_loss(rgb, view, background, config.lambda_dssim)
    if with_depth and rendering.depth is not None:
        loss = loss + config.lambda_depth * depth_loss(rendering.depth, rendering.alpha, view)
    if config.lambda_opacity > 0 or config.lambda_scale > 0:
        loss = loss + regularizer(
            gaussians, fit.parameters.extent, config.lambda_opacity, config.lambda_scale
        )
    loss.backward()
    fit.strategy.observe(rendering)
    if (fit.step + 1) % _STEPS_PER_EVENT:
        return {"loss": picture.detach()}
    if view.mask is not None and not bool(view.mask.any()):
        return {"loss": picture.detach()}
    likeness = psnr(rgb.detach().clamp(0, 1), view.over(background), view.mask)
    return {"loss": picture.detach(), "psnr": likeness}


def _background(fit: Fit, view: View) -> Float[Tensor, "3"]:
    """The configured colour; a random one behind transparency, or black Gaussians would stand in for it."""
    if view.alpha is None:
        return torch.tensor(fit.config.background, device=view.pixels.device)
    return torch.rand(3, generator=fit.generator).to(view.pixels.device)


def _next_view(fit: Fit, leave_out: Collection[int]) -> int:
    """Every view once, in random order, before any comes again."""
    while True:
        if not fit.queue:
            fit.queue = torch.randperm(len(fit.levels[-1]), generator=fit.generator).tolist()
        index = fit.queue.pop()
        if index not in leave_out:
            return index


def _try_poses(fit: Fit) -> Iterator[Progress | Notice]:
    """Go on for a while with and without corrections of the cameras, and take up what was better.

    The judges are training pictures left out of both trials: the held-out ones decide nothing. Both trials
    are of twins, so that the fit may be stopped and saved at any event.
    """
    count = len(fit.views)
    judges = set(range(min(4, count - 1), count, 8))
    reached, spent = [], 0.0
    for poses in (None, fit.refinement()):
        psnr_reached, seconds = yield from _trial(fit, poses, judges)
        reached.append(psnr_reached)
        spent += seconds
    fit.poses = fit.refinement() if reached[1] > reached[0] + _WORTH else None
    fit.tried_poses, fit.seconds = True, fit.seconds + spent
    kept = "kept" if fit.poses is not None else "not kept"
    yield Notice(
        f"Correcting the camera poses is {kept}: pictures left out reach {reached[1]:.2f} dB with it,"
        f" {reached[0]:.2f} dB without."
    )


def _trial(
    fit: Fit, poses: PoseRefinement | None, judges: Collection[int]
) -> Generator[Progress, None, tuple[float, float]]:
    """PSNR [dB] that pictures left out reach if the fit goes on with these corrections; seconds it took."""
    twin, before = fit.twin(), fit.seconds
    twin.poses = poses
    steps = max(_TRIAL_ROUNDS * len(fit.views), fit.config.steps // 20)
    how = "as they are" if poses is None else "corrected"
    for step in range(steps):
        if step % _STEPS_PER_EVENT == 0:
            message = f"trying camera poses {how}, {step} of {steps} steps"
            yield Progress(fit.step, _total(fit), message=message)
        take_step(twin, leave_out=judges)
    begun = time.perf_counter()
    views = [fit.levels[-1][i] for i in sorted(judges)]
    scores = evaluate(twin.gaussians, views, fit.config.background)
    return scores.psnr, twin.seconds - before + time.perf_counter() - begun


def _total(fit: Fit) -> int:
    """Steps there will be, as far as the speed so far tells."""
    return fit.config.steps if fit.share >= 1 or not fit.step else max(fit.step, round(fit.step / fit.share))


def _spread(count: int, most: int) -> list[int]:
    """At most so many indices, evenly spread."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]
