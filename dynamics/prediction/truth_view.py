"""What a recording shows: its own pictures, or its true states drawn as Gaussians."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.io.video import read_video
from gaussworld.neighbors import nearest
from gaussworld.pose import transform_points
from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

from ..episodes import Episode
from .picture import Picture, drawn, fitted
from .stage import Stage

#: Tracks that carry a Gaussian of a bending thing.
_CARRIERS = 4


def recorded(episode: Episode | None) -> bool:
    """Whether a recording has pictures."""
    return episode is not None and _filmed(episode, 0)


def truth_frames(
    episode: Episode, world: World, stage: Stage, cameras: Sequence[Camera], indices: Sequence[int]
) -> list[Iterable[Picture]]:
    """For each camera the truth, picture after picture.

    Args:
        episode: the recording.
        world: in metres; of the same objects.
        stage: draws where there are no pictures.
        cameras: to look through.
        indices: which of the recording's cameras these are; none: others.
    """
    if indices and all(_filmed(episode, index) for index in indices):
        return [_film(episode, index, camera) for index, camera in zip(indices, cameras)]
    shown = Stage(world, stage.tools, TruePoses(episode, world))
    return [drawn(shown, episode.states, camera) for camera in cameras]


class TruePoses:
    """Gaussians of a world in the true states of a recording: bending things follow their tracks.

    A Gaussian is carried by the tracks that are nearest to it at time 0, weighted by their distance.
    """

    def __init__(self, episode: Episode, world: World) -> None:
        self._world = world
        self._tracks = episode.tracks
        self._times = episode.states.time
        self._carriers = {
            number: self._bound(number)
            for number, item in world.objects.items()
            if item.kind is ObjectKind.DEFORMABLE and bool((episode.tracks.objects == number).any())
        }

    def __call__(self, state: State) -> Gaussians:
        """What is seen in one of the recording's states."""
        seen = self._world.posed(state)
        means = seen.means.clone()
        step = int((self._times - state.time).abs().argmin())
        for number, (rows, weights, rest) in self._carriers.items():
            shift = self._tracks.points[step] - self._tracks.points[0]
            moved = rest + (shift[rows] * weights[..., None]).sum(1)
            means[seen.object_ids == number] = moved
        return replace(seen, means=means)

    def _bound(self, number: int) -> tuple[Tensor, Tensor, Float[Tensor, "n 3"]]:
        item, mine = self._world.objects[number], (self._tracks.objects == number).nonzero()[:, 0]
        rest = transform_points(item.world_from_object, item.gaussians.means)
        apart, rows = nearest(self._tracks.points[0][mine], min(_CARRIERS, len(mine)), rest)
        weights = 1 / apart.clamp(min=1e-4) ** 2
        return mine[rows], weights / weights.sum(1, keepdim=True), rest


def _filmed(episode: Episode, index: int) -> bool:
    names = list(episode.cameras)
    return index < len(names) and episode.video(names[index]).is_file()


def _film(episode: Episode, index: int, camera: Camera) -> Iterator[Picture]:
    for _, picture in read_video(episode.video(list(episode.cameras)[index])):
        yield fitted(picture, camera.width, camera.height)
