"""`Window`: a stretch of a recording that is predicted at once, and whether things slide alone in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from gaussworld.pose import pose_from_pose7

from ..matter.parts import Matter, PartKind
from ..observed import Observation
from .unknowns import IdentifyConfig

#: [m/s] what is slower rests; what begins to slide alone is as fast as the second.
_REST, _FAST = 0.01, 0.12
#: [m/s] by which what slides alone may seem to become faster.
_FASTER = 0.02
#: [m] by which the way to the tool may seem to become shorter.
_NEARER = 0.002
#: [m] what has moved less lies as it did.
_STIRRED = 1.5e-3
#: Grip below which nothing is between the fingers yet.
_HALF = 0.5
#: Grip from which a gripper may hold something.
_CLOSED = 0.2


@dataclass(frozen=True, eq=False)
class Window:
    """Steps `start` to `stop` of a recording."""

    recording: Observation
    start: int
    stop: int
    slide: int | None = None
    """Number of the slide that it is a part of, where nothing but the ground touches what moves."""
    movers: tuple[int, ...] = ()
    """Ids of what slides alone."""

    def __len__(self) -> int:
        """The number of steps."""
        return self.stop - self.start


def windows_of(recordings: Sequence[Observation], matter: Matter, config: IdentifyConfig) -> list[Window]:
    """Windows of all recordings: those of free slides first, then evenly spaced ones.

    Of what bends there is only one window, which begins while it lies as at time 0, because only then its
    shape is known. What a closed gripper holds cannot be told from where things are, so that no window begins
    with one.
    """
    if matter.bending:
        return [Window(each, _untouched(each), len(each)) for each in recordings]
    windows, slides = [], 0
    for recording in recordings:
        found, slides = _free(recording, matter, slides)
        windows += found
    for recording in recordings:
        windows += _even(recording, config, [each for each in windows if each.recording is recording])
    return windows


def _even(recording: Observation, config: IdentifyConfig, slides: Sequence[Window]) -> Iterator[Window]:
    """Windows at equal distances; in those that are wholly in a slide, or begin in one, no tool pushes."""
    total, inside = len(recording), {k for each in slides for k in range(each.start, each.stop)}
    for start in range(0, max(total - config.window, 0) + 1, config.stride):
        if not _holds(recording, start) and start not in inside:
            yield Window(recording, start, min(start + config.window, total))


def _untouched(recording: Observation) -> int:
    """The last moment until which nothing moved and no gripper had closed half."""
    far = (recording.points - recording.points[:1]).norm(dim=-1)
    moved = (far > _STIRRED).any(-1) | (recording.states.grip > _HALF).any(-1)
    first = int(moved.nonzero()[0, 0]) if bool(moved.any()) else 1
    return min(max(first - 1, 0), len(recording) - 1)


def _holds(recording: Observation, moment: int) -> bool:
    return bool((recording.states.grip[moment] >= _CLOSED).any())


def _free(recording: Observation, matter: Matter, number: int) -> tuple[list[Window], int]:
    """Windows from every moment of every free slide to its end."""
    windows: list[Window] = []
    free, speeds = _alone(recording, matter)
    start = 0
    while start < len(recording):
        if not bool(free[start].any()) or float(speeds[start].max()) < _FAST or _holds(recording, start):
            start += 1
            continue
        stop = start + 1
        while stop < len(recording) and bool(free[stop].any()) and float(speeds[stop].max()) > _REST:
            stop += 1
        rows = (speeds[start] > _REST).nonzero()[:, 0].tolist()
        ids = tuple(_loose(recording, matter)[row] for row in rows)
        # What has almost come to rest tells little by itself.
        begins = [k for k in range(start, stop) if float(speeds[k].max()) > _FAST]
        windows += [Window(recording, k, stop, number, ids) for k in begins]
        number, start = number + 1, stop
    return windows, number


def _alone(recording: Observation, matter: Matter) -> tuple[Bool[Tensor, "t 1"], Tensor]:
    """In which steps exactly one thing slides away from the tools, slower and slower; and speeds (u, r)."""
    states, ids = recording.states, _loose(recording, matter)
    if not ids:
        return torch.zeros(len(recording), 1, dtype=torch.bool), states.object_twists[:, :0, 0]
    rows = [states.object_ids.index(number) for number in ids]
    twists = states.object_twists[:, rows]
    speeds = twists[..., :3].norm(dim=-1)
    # About its middle, which is nearer to where its mass is than the frame's origin may be.
    middles = torch.stack([_middle(recording, number) for number in ids], 1)
    ways = (middles[:, :, None] - states.tool_poses[:, None, :, :3]).norm(dim=-1)
    leaving = (ways[1:] > ways[:-1] - _NEARER).all(-1)
    falling = (middles[1:, :, 2] - middles[:-1, :, 2]).abs() < 2e-3
    braking = speeds[1:] < speeds[:-1] + _FASTER
    moving = speeds[:-1] > _REST
    alone = moving.sum(-1, keepdim=True) == 1
    quiet = (speeds[1:] < _REST) | moving
    good = leaving & braking & falling | ~moving
    return alone & (good & quiet).all(-1, keepdim=True), speeds


def _loose(recording: Observation, matter: Matter) -> list[int]:
    numbers = [part.object_id for _, part in matter.of(PartKind.RIGID)]
    return [number for number in numbers if number in recording.states.object_ids]


def _middle(recording: Observation, number: int) -> Tensor:
    """(u, 3) [m] mean of the points followed on a thing."""
    points = recording.points[:, recording.point_objects == number]
    if points.shape[1]:
        return points.mean(1)
    row = recording.states.object_ids.index(number)
    return pose_from_pose7(recording.states.object_poses[:, row])[:, :3, 3]
