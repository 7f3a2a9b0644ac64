"""A short refit with ids held fast: Gaussians draw back behind the borders of their objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.gaussians import DELETED, HIDDEN, Gaussians
from gaussworld.log import Done, Event, Progress
from gaussworld.pose import invert_pose
from gaussworld.render import render
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..frames import BLACK, Color, View
from ..initialize import scene_extent
from ..losses import picture_loss
from ..objects.lift import UNKNOWN
from ..optim import LearningRates, Parameters

_STEPS_PER_EVENT = 10


@dataclass(frozen=True)
class PolishConfig:
    """How long, and how much the borders count."""

    steps: int = 300
    """Pictures looked at, one a step."""
    lambda_ids: float = 0.3
    """Weight of the error of the blended ids."""
    lambda_dssim: float = 0.2
    """Weight of 1 - SSIM in the error of the picture."""
    background: Color = BLACK
    """Colour behind the scene, range [0, 1]."""
    seed: int = 0
    """Order of the pictures."""
    rates: LearningRates = field(
        default_factory=lambda: LearningRates(1e-4, 0.01, 5e-3, 1.5e-2, 0.08, 6e-3, 5e-4)
    )
    """Step sizes: a few times smaller than those of a fit."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lambda_ids >= 0 or not 0 <= self.lambda_dssim <= 1:
            raise ValueError(
                "expected at least 1 step, lambda_ids >= 0 and lambda_dssim in 0..1, got"
                f" {self.steps}, {self.lambda_ids:g} and {self.lambda_dssim:g}"
            )


def polish(
    world: World,
    views: Sequence[View],
    id_images: Sequence[Int[Tensor, "h w"]],
    config: PolishConfig | None = None,
) -> Iterator[Event[World]]:
    """Refit a world's Gaussians so that each object's cover its pixels in the pictures, and no others.

    No Gaussian is added, none changes its object; hidden and deleted ones stay as they are.

    Args:
        world: whose objects' Gaussians have the right ids.
        views: training pictures.
        id_images: object of each of their pixels; -1 where it is not known.
        config: how.

    Raises:
        ValueError: no pictures, or not as many with ids.

    Yields:
        `Progress` with the loss every ten steps, `Done` with the world last.
    """
    if not views or len(views) != len(id_images):
        raise ValueError(f"expected ids for every picture, got {len(id_images)} for {len(views)}")
    config, posed = config or PolishConfig(), world.posed()
    there = (posed.flags & (DELETED | HIDDEN)) == 0
    shown = posed.select(there)
    columns = shown.object_ids.unique()
    marks = (shown.object_ids[:, None] == columns).float()
    targets = [_target(view, image, columns) for view, image in zip(views, id_images)]
    parameters = Parameters(shown, config.rates, scene_extent([view.camera for view in views]))
    generator, queue = torch.Generator().manual_seed(config.seed), list[int]()
    for step in range(config.steps):
        queue = queue or torch.randperm(len(views), generator=generator).tolist()
        i = queue.pop()
        with one_torch_thread():
            loss = _loss(parameters.gaussians(), marks, views[i], *targets[i], config)
            loss.backward()
            parameters.step(step / config.steps)
        if (step + 1) % _STEPS_PER_EVENT == 0:
            yield Progress(step + 1, config.steps, {"loss": float(loss.detach())})
    yield Done(_with(world, posed, there, parameters.gaussians().detach()))


def _target(view: View, image: Tensor, columns: Tensor) -> tuple[Float[Tensor, "h w l"], Bool[Tensor, "h w"]]:
    """One channel for each object, and where something is known."""
    size = (view.camera.height, view.camera.width)
    if tuple(image.shape) != size:
        rows = ((torch.arange(size[0]) + 0.5) * image.shape[0] / size[0]).long()
        places = ((torch.arange(size[1]) + 0.5) * image.shape[1] / size[1]).long()
        image = image[rows][:, places]
    return (image[..., None] == columns).float(), image != UNKNOWN


def _loss(
    gaussians: Gaussians, marks: Tensor, view: View, target: Tensor, known: Tensor, config: PolishConfig
) -> Float[Tensor, ""]:
    background = torch.tensor(config.background)
    drawn = render(gaussians, view.camera, background=background, features=marks, mask=view.mask)
    assert drawn.features is not None
    counts = known if view.mask is None else known & view.mask
    wrong = ((drawn.features - target).abs().sum(-1) * counts).mean()
    return picture_loss(drawn.rgb, view, background, config.lambda_dssim) + config.lambda_ids * wrong


def _with(world: World, posed: Gaussians, there: Tensor, fitted: Gaussians) -> World:
    """The world with what was fitted in the place of what was shown."""
    fitted = fitted.with_sh_degree(posed.sh_degree)
    starts = 0
    for item in list(world.objects.values()):
        rows = slice(starts, starts + len(item.gaussians))
        starts = rows.stop
        mine = there[rows]
        if not bool(mine.any()):
            continue
        first = int(there[: rows.start].sum())
        part = fitted.select(slice(first, first + int(mine.sum())))
        own = part.transformed(invert_pose(item.world_from_object)).with_sh_degree(item.gaussians.sh_degree)
        values = {}
        for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
            values[name] = getattr(item.gaussians, name).clone()
            values[name][mine] = getattr(own, name)
        world = world.with_object(replace(item, gaussians=replace(item.gaussians, **values)))
    return world
