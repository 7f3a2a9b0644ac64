"""Tracking: prediction plus correction, moment after moment, over a recording."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from gaussworld.io.video import read_video
from gaussworld.log import Done, Event, Progress
from gaussworld.state import Action, Dynamics, Rollout, State, stack
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..episodes import Episode
from ..matter.parts import Matter
from ..prediction.picture import fitted
from ..prediction.predict import check_finite
from ..prediction.stage import Posed
from ..tool import Tool
from .correct import CorrectConfig, Corrected, ImageView, PointView, believed
from .images import ImageCorrection
from .points import PointCorrection

View = PointView | ImageView


@dataclass(frozen=True)
class TrackConfig:
    """How a recording is followed."""

    points: bool = True
    """Use points, and the points that depth shows."""
    images: bool | None = None
    """Refine by the pictures, through the rasterizer: good where Gaussians look like the pictures, as those
    of a reconstruction do. None: only where no points were matched."""
    stride: int = 3
    """Of depth, every so many-th pixel in both directions is a point."""
    longest: int = 320
    """[px] pictures of a recording are shrunk to this."""
    every: int = 1
    """Correct at every so many-th moment; in between is prediction alone."""
    cameras: tuple[int, ...] = ()
    """Of a recording, which to look through; none: all."""


class Tracker:
    """Follows what happens to a world: predicts a step, then pulls it to what is seen.

    It keeps no state between calls but what it knows of the world's surfaces.
    """

    def __init__(
        self,
        model: Dynamics,
        world: World,
        tools: Sequence[Tool] = (),
        posed: Posed | None = None,
        config: TrackConfig | None = None,
        correct: CorrectConfig | None = None,
    ) -> None:
        """Get ready.

        Args:
            model: what predicts.
            world: in metres.
            tools: what acts.
            posed: gives the Gaussians of a state, bent where things bend.
            config: what is looked at.
            correct: how far states are pulled.
        """
        self.model, self.config = model, config or TrackConfig()
        self._correct = correct or CorrectConfig()
        matter = getattr(model, "matter", None)
        matter = matter if isinstance(matter, Matter) else None
        self._points = PointCorrection(world, tools, matter, posed, self._correct)
        self._images = ImageCorrection(world, tools, matter, posed, self._correct)

    def correct(self, state: State, views: Sequence[View]) -> Corrected:
        """A predicted state pulled to what is seen at its moment; as it is where nothing is."""
        config, corrected = self.config, Corrected(state)
        images = [view for view in views if isinstance(view, ImageView)]
        if config.points:
            cloud = _cloud(views, config.stride)
            if len(cloud.points):
                corrected = self._points.correct(state, cloud)
            for view in views:
                if isinstance(view, PointView) and view.objects is not None:
                    corrected = self._points.correct(corrected.state, view)
        if images and (config.images or (config.images is None and not corrected.seen)):
            corrected = self._images.correct(corrected.state, images)
        # The speeds of what was not seen stay as they were predicted.
        dt = self.model.action_spec.dt * config.every
        gain = self._correct.speed_gain
        return replace(corrected, state=believed(state, corrected.state, dt, gain))

    def step(self, state: State, action: Action, views: Sequence[View]) -> State:
        """The state one period later, as predicted and then corrected."""
        return self.correct(self.model.step(state, action), views).state


def track(
    tracker: Tracker, state: State, actions: Action, seen: Iterable[Sequence[View]]
) -> Generator[Event[Rollout], None, None]:
    """Follow a recording; the result's states are the corrected ones.

    Args:
        tracker: model and world.
        state: unbatched, at time 0.
        actions: what was done; the first axis is time.
        seen: what was observed at time 0 and after each action; an empty sequence where nothing was. When it
            ends early, the rest is prediction alone.

    Raises:
        ValueError: the actions' spec is not the model's, or a state is not finite.
    """
    views = iter(seen)
    every, spent = tracker.config.every, 0.0
    with one_torch_thread():
        state = tracker.correct(state, next(views, ())).state
        # What was wrong with the first guess is no speed.
        states = [_resting(state)]
        for step in range(len(actions)):
            begun = time.monotonic()
            state = tracker.model.step(states[-1], actions[step])
            now = next(views, ())
            if now and (step + 1) % every == 0:
                state = tracker.correct(state, now).state
            states.append(state)
            spent += time.monotonic() - begun
            yield Progress(step + 1, len(actions), {"seconds_a_frame": spent / (step + 1)}, "tracking")
        check_finite(stack(states))
    yield Done(Rollout(stack(states), actions, tracker.model.action_spec.dt))


def episode_views(episode: Episode, config: TrackConfig | None = None) -> Iterator[list[ImageView]]:
    """What the cameras of a recording saw, moment after moment; pictures are read as they are asked for.

    Args:
        episode: a recording with pictures.
        config: which cameras, and how large.
    """
    config = config or TrackConfig()
    names = list(episode.cameras)
    names = [names[row] for row in config.cameras or range(len(names))]
    scaled = []
    for name in names:
        camera = episode.camera(name)
        scale = min(1.0, config.longest / max(camera.width, camera.height))
        scaled.append(camera.rescaled(round(camera.width * scale), round(camera.height * scale)))
    films = [read_video(episode.video(name)) for name in names]
    for moment, pictures in enumerate(zip(*films)):
        views = []
        for name, camera, (_, picture) in zip(names, scaled, pictures):
            depth = _nearest(episode.depth(name, moment), camera.width, camera.height)
            views.append(ImageView(camera, fitted(picture, camera.width, camera.height), depth))
        yield views


def _nearest(depth: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Depth in another size, not blended: between two things there is nothing."""
    return torch.nn.functional.interpolate(depth[None, None], (height, width), mode="nearest-exact")[0, 0]


def _cloud(views: Sequence[View], stride: int) -> PointView:
    parts = [view.cloud(stride) for view in views if isinstance(view, ImageView)]
    parts += [view.points for view in views if isinstance(view, PointView) and view.objects is None]
    return PointView(torch.cat([torch.zeros(0, 3), *parts]))


def _resting(state: State) -> State:
    return replace(
        state,
        object_twists=torch.zeros_like(state.object_twists),
        joint_rates=torch.zeros_like(state.joint_rates),
        particle_velocities=torch.zeros_like(state.particle_velocities),
        residual=torch.zeros_like(state.residual),
    )
