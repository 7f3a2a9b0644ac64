"""`Fit`: a training run at one moment - its settings, its pictures, and all that changes with a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians

from .adam import named, under
from .exposure import Exposure
from .frames import BLACK, Color, View
from .initialize import scene_extent, starting_gaussians
from .optim import LearningRates, Parameters
from .refine import PoseRefinement
from .strategy import Adc, Mcmc, Strategy, strategy_for


@dataclass(frozen=True)
class TrainConfig:
    """How to fit; inputs and outputs are arguments of the command."""

    steps: int = 1500
    """Pictures looked at, one a step."""
    minutes: float = 0.0
    """[min] The schedule is squeezed into this much training time where the steps would take longer; 0: no
    limit. Results then depend on the machine's speed."""
    max_gaussians: int = 40_000
    """There are never more."""
    start_gaussians: int = 10_000
    """Gaussians to begin with: at the capture's points or depth, the rest where pictures agree on a depth."""
    sh_degree: int = 3
    """Highest band of spherical harmonics."""
    sh_every: float = 0.1
    """Share of the run after which the next band joins."""
    resolution: int = 960
    """[px] Longer side of the training pictures at most; 0 keeps their size."""
    coarse: int = 4
    """Divide width and height by this at first, then by half of it, and so on: steps cost their pixels."""
    coarse_until: float = 0.4
    """Share of the run at which full resolution begins."""
    lambda_dssim: float = 0.2
    """Weight of 1 - SSIM; the rest is L1."""
    lambda_depth: float = 0.3
    """Weight of the relative error of depth, where a sensor measured it."""
    lambda_opacity: float = 0.0
    """Weight of the mean opacity; Kheradmand et al. take 0.01 with mcmc."""
    lambda_scale: float = 0.0
    """Weight of the mean size in units of the scene's extent; they take 0.01 with mcmc."""
    exposure: bool = False
    """Learn an affine change of colour for each picture."""
    refine_poses: bool = False
    """Try to correct the training cameras; kept only if pictures that are not trained on look better."""
    background: Color = BLACK
    """Colour behind the scene, range [0, 1]; pictures with transparency are trained over random colours."""
    seed: int = 0
    """Order of the pictures, random start, places of new Gaussians."""
    rates: LearningRates = field(default_factory=LearningRates)
    strategy: Adc | Mcmc = field(default_factory=Adc)

    def __post_init__(self) -> None:
        if self.steps < 1 or min(self.max_gaussians, self.start_gaussians) < 4:
            raise ValueError(
                f"expected at least 1 step and 4 Gaussians, got {self.steps} and"
                f" {min(self.max_gaussians, self.start_gaussians)}"
            )
        if not 0 <= self.sh_degree <= 3 or self.resolution < 0 or not 0 <= self.coarse_until <= 1:
            raise ValueError(
                "expected sh_degree in 0..3, resolution >= 0 and coarse_until in 0..1, got"
                f" {self.sh_degree}, {self.resolution} and {self.coarse_until}"
            )
        if self.strategy.every < 1:
            raise ValueError(f"expected strategy.every of at least 1, got {self.strategy.every}")
        if not all(0 <= part <= 1 for part in self.background):
            raise ValueError(f"expected a background in 0..1, got {self.background}")
        if self.minutes < 0 or self.coarse < 1:
            raise ValueError(
                f"expected minutes >= 0 and coarse >= 1, got minutes={self.minutes} and coarse={self.coarse}"
            )


@dataclass(eq=False)
class Fit:
    """A fit under way: whole after every step, so that it can be stopped, used, and taken up again."""

    config: TrainConfig
    levels: tuple[tuple[View, ...], ...]
    """The training pictures, coarsest first."""
    parameters: Parameters
    strategy: Strategy
    generator: torch.Generator
    exposure: Exposure | None = None
    poses: PoseRefinement | None = None
    tried_poses: bool = False
    """Whether it is decided if corrections of poses help."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """[s] Time that the steps took."""
    queue: list[int] = field(default_factory=list)
    """Views still to come in this round through all of them."""

    @property
    def gaussians(self) -> Gaussians:
        """What is fitted so far."""
        return self.parameters.gaussians().detach()

    @property
    def share(self) -> float:
        """How much of the run is done, range [0, 1]."""
        done = self.step / self.config.steps
        if self.config.minutes > 0:
            done = max(done, self.seconds / (60 * self.config.minutes))
        return min(1.0, done)

    @property
    def views(self) -> tuple[View, ...]:
        """The training pictures at the resolution that this moment of the run asks for."""
        until, count = self.config.coarse_until, len(self.levels) - 1
        if count == 0 or self.share >= until:
            return self.levels[-1]
        return self.levels[min(count, int(self.share / until * count))]

    def camera(self, index: int) -> Camera:
        """The camera of a training picture, corrected if poses are refined."""
        camera = self.views[index].camera
        return camera if self.poses is None else self.poses.camera(index, camera)

    def refinement(self) -> PoseRefinement:
        """Corrections of the training cameras that are still zero."""
        device = self.parameters.leaf("means").device
        return PoseRefinement(len(self.levels[-1]), self.parameters.extent, device)

    def twin(self) -> "Fit":
        """Another fit at the same moment that shares only the pictures: its steps leave this one as it is."""
        twin = _assembled(self.config, self.levels, _placeholder(), self.parameters.extent, torch.Generator())
        twin.restore(self.state())
        return twin

    def state(self) -> dict[str, Tensor]:
        """Everything that changes from step to step, as tensors."""
        counts = torch.tensor([self.step, int(self.tried_poses), int(self.poses is not None)])
        state = {
            "counts": counts,
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            "queue": torch.tensor(self.queue, dtype=torch.int64),
            "generator": self.generator.get_state(),
        }
        for name, part in self._parts():
            state |= named(name, part.state())
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.step, tried, refining = state["counts"].tolist()
        self.tried_poses, self.seconds = bool(tried), float(state["seconds"])
        self.queue = state["queue"].tolist()
        self.generator.set_state(state["generator"].cpu())
        self.poses = self.refinement() if refining else None
        device = self.parameters.leaf("means").device
        on_device = {key: value.to(device) for key, value in state.items() if "/" in key}
        for name, part in self._parts():
            part.restore(under(name, on_device))

    def _parts(self) -> list[tuple[str, Parameters | Strategy | Exposure | PoseRefinement]]:
        parts = [("parameters", self.parameters), ("strategy", self.strategy)]
        parts += [("exposure", self.exposure)] if self.exposure is not None else []
        return parts + ([("poses", self.poses)] if self.poses is not None else [])


def start(
    views: Sequence[View],
    points: Float[Tensor, "m 3"],
    colors: Float[Tensor, "m 3"],
    config: TrainConfig,
    device: torch.device | str = "cpu",
    resume: dict[str, Tensor] | None = None,
) -> Fit:
    """Place the first Gaussians for pictures that are in memory already, or take up a checkpoint's."""
    generator = torch.Generator().manual_seed(config.seed)
    extent = scene_extent([view.camera for view in views])
    if resume is None:
        count = min(config.start_gaussians, config.max_gaussians)
        gaussians = starting_gaussians(views, points, colors, count, generator)
    else:
        gaussians = _placeholder()
    levels = tuple(tuple(view.shrunk(factor).to(device) for view in views) for factor in _factors(config))
    fit = _assembled(config, levels, gaussians, extent, generator)
    if resume is not None:
        fit.restore(resume)
    return fit


def _assembled(
    config: TrainConfig,
    levels: tuple[tuple[View, ...], ...],
    gaussians: Gaussians,
    extent: float,
    generator: torch.Generator,
) -> Fit:
    """A fit at step 0 on the device of its pictures."""
    device = levels[-1][0].pixels.device
    parameters = Parameters(gaussians.to(device), config.rates, extent)
    strategy = strategy_for(config.strategy, config.max_gaussians, extent, generator)
    exposure = Exposure(len(levels[-1]), device) if config.exposure else None
    return Fit(config, levels, parameters, strategy, generator, exposure)


def _factors(config: TrainConfig) -> list[int]:
    """What the pictures' sides are divided by, one level after the other: 4, 2, 1."""
    factors, factor = [], config.coarse if config.coarse_until > 0 else 1
    while factor > 1:
        factors.append(factor)
        factor //= 2
    return [*factors, 1]


def _placeholder() -> Gaussians:
    """One Gaussian, to be replaced by a checkpoint's."""
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    zeros = torch.zeros(1, 3)
    return Gaussians.from_activated(zeros, quats, zeros + 1, torch.full((1,), 0.5), zeros)
