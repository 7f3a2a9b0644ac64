"""Fit Gaussians to posed pictures: a stream of events that ends with the Gaussians."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.capture import Capture
from gaussworld.errors import CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Progress
from gaussworld.render import render
from gaussworld.render.loss import photometric_loss

from .frames import View, load_view
from .initialize import along_rays, from_points, scene_extent
from .optim import LearningRates, Parameters
from .strategy import Adc, DensityControl, Strategy
from .threads import one_torch_thread

_STEPS_PER_EVENT = 10


@dataclass(frozen=True)
class TrainConfig:
    """How to fit; inputs and outputs are arguments of the command."""

    steps: int = 3000
    """Pictures looked at, one a step."""
    max_gaussians: int = 60_000
    """There are never more."""
    random_start: int = 30_000
    """Gaussians to begin with where the capture brings no points."""
    sh_degree: int = 3
    """Highest band of spherical harmonics."""
    sh_every: float = 0.1
    """Share of the run after which the next band joins."""
    shrink: int = 1
    """Divide the pictures' width and height by this."""
    coarse: int = 2
    """Divide them once more by this at first: steps cost what their pixels cost."""
    coarse_until: float = 0.5
    """Share of the run at which full resolution begins."""
    lambda_dssim: float = 0.2
    """Weight of 1 - SSIM; the rest is L1."""
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Colour behind the scene, range [0, 1]."""
    seed: int = 0
    """Order of the pictures, random start, places of split Gaussians."""
    rates: LearningRates = field(default_factory=LearningRates)
    strategy: Adc = field(default_factory=Adc)


@dataclass(eq=False)
class Fit:
    """A fit under way: whole after every step, so that it can be stopped, used, and taken up again."""

    config: TrainConfig
    views: tuple[View, ...]
    coarse_views: tuple[View, ...]
    parameters: Parameters
    strategy: Strategy
    generator: torch.Generator
    step: int = 0
    """Steps done."""
    queue: list[int] = field(default_factory=list)
    """Views still to come in this round through all of them."""

    @property
    def gaussians(self) -> Gaussians:
        """What is fitted so far."""
        return self.parameters.gaussians().detach()


def begin(capture: Capture, config: TrainConfig | None = None, device: torch.device | str = "cpu") -> Fit:
    """Read the training pictures and place the first Gaussians.

    Raises:
        CaptureError: there are no training pictures, or one contradicts its camera.
        ValueError: the configuration allows no Gaussian or no step.
    """
    config = config or TrainConfig()
    views = [load_view(frame, config.shrink, config.background).to(device) for frame in capture.of("train")]
    if not views:
        raise CaptureError(
            f"expected a training picture among {len(capture)} frames, got none; check their splits"
        )
    return start(views, capture.points, capture.colors, config)


def start(
    views: Sequence[View], points: Float[Tensor, "m 3"], colors: Float[Tensor, "m 3"], config: TrainConfig
) -> Fit:
    """Place the first Gaussians for pictures that are in memory already, on their device.

    Raises:
        ValueError: the configuration allows no Gaussian or no step.
    """
    if config.steps < 1 or config.max_gaussians < 4:
        raise ValueError(
            f"expected at least 1 step and 4 Gaussians, got {config.steps} and {config.max_gaussians}"
        )
    generator = torch.Generator().manual_seed(config.seed)
    if len(points) < 4:
        gaussians = along_rays(views, min(config.random_start, config.max_gaussians), generator)
    else:
        rows = torch.randperm(len(points), generator=generator)[: config.max_gaussians].sort().values
        gaussians = from_points(points[rows], colors[rows])
    extent = scene_extent([view.camera for view in views])
    parameters = Parameters(gaussians.to(views[0].image.device), config.rates, extent)
    control = DensityControl(config.strategy, config.steps, config.max_gaussians, extent, generator)
    coarse = [view.shrunk(config.coarse) for view in views] if config.coarse_until > 0 else views
    return Fit(config, tuple(views), tuple(coarse), parameters, control, generator)


def train(
    capture: Capture, config: TrainConfig | None = None, *, resume: Fit | None = None
) -> Iterator[Event[Gaussians]]:
    """Fit Gaussians to the training split of a capture.

    Args:
        capture: posed pictures; only its train split is looked at.
        config: how.
        resume: a fit to take up where it stopped; capture and config are then those it began with. Hand in
            `begin(capture, config)` to keep hold of the Gaussians when the stream is closed before its end.

    Yields:
        `Progress` with loss and number of Gaussians every ten steps, `Done` with the Gaussians last.
    """
    fit = resume or begin(capture, config)
    total = fit.config.steps
    while fit.step < total:
        loss = take_step(fit)
        if fit.step % _STEPS_PER_EVENT == 0 or fit.step == total:
            values = {"loss": float(loss), "gaussians": float(len(fit.parameters))}
            yield Progress(fit.step, total, values)
    yield Done(fit.gaussians)


def take_step(fit: Fit) -> Tensor:
    """Draw one training view, compare, improve, and let the strategy act; returns the loss."""
    config, share = fit.config, fit.step / fit.config.steps
    if config.sh_every > 0:
        fit.parameters.raise_sh_degree(min(config.sh_degree, int(share / config.sh_every)))
    views = fit.coarse_views if share < config.coarse_until else fit.views
    view = views[_next_view(fit)]
    with one_torch_thread():
        rendering = render(fit.parameters.gaussians(), view.camera, background=config.background)
        if rendering.means2d is not None:
            rendering.means2d.retain_grad()
        loss = photometric_loss(rendering.rgb, view.image, config.lambda_dssim)
        loss.backward()
        fit.strategy.observe(rendering)
        fit.parameters.step(share)
    fit.step += 1
    fit.strategy.adapt(fit.parameters, fit.step)
    return loss.detach()


def _next_view(fit: Fit) -> int:
    """Every view once, in random order, before any comes again."""
    if not fit.queue:
        fit.queue = torch.randperm(len(fit.views), generator=fit.generator).tolist()
    return fit.queue.pop()
