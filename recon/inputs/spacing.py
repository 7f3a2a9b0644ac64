"""Which frames of a video to keep: evenly spaced along the way the picture moves, the sharpest there."""

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .tracks import Sighting

#: A frame is looked for this far around the place where one is due [share of the spacing].
_AROUND = 0.35
#: However short the way, neighbours are not nearer than this [% of the picture's width].
_NEAREST = 0.5
#: Sharpness is relative to that of the frames so far around [s], to their 80th percentile.
_MOMENT, _SHARP = 0.75, 0.8
#: A camera whose picture moves less than this [% of its width] in a whole video stands still.
_STILL = 5.0


@dataclass(frozen=True)
class VideoConfig:
    """How many frames to take from videos, and which."""

    max_frames: int = 100
    """At most so many, all videos together; they are spread by how far the picture moves, not by time."""
    min_frames: int = 20
    """A short way is divided more finely than `parallax`, into about so many."""
    parallax: float = 2.0
    """Neighbouring frames are about so far apart [% of the picture's width], farther if the way is long."""
    max_shift: float = 12.0
    """Neighbouring frames should share most of what they see: at most so far apart [% of the width]."""
    sharpness: float = 0.7
    """A frame less sharp than this share of its neighbours in time is passed over if another is near."""
    start: float = 0.0
    """Frames before this time [s] are left out."""
    end: float = math.inf
    """Frames after this time [s] are left out."""

    def __post_init__(self) -> None:
        if not 3 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"expected 3 <= min_frames <= max_frames, got {self.min_frames} and {self.max_frames}"
            )
        if not 0 < self.parallax < self.max_shift:
            raise ValueError(f"expected 0 < parallax < max_shift, got {self.parallax} and {self.max_shift}")
        if not self.start < self.end:
            raise ValueError(f"expected start < end, got {self.start} and {self.end}")


@dataclass(frozen=True)
class Verdict:
    """Whether a frame is kept."""

    chosen: bool
    shift: float
    """How far the picture has moved since the last chosen frame before it [% of the width]."""
    reason: str


@dataclass(frozen=True)
class Spaced:
    """What was decided about every frame of every video."""

    verdicts: tuple[tuple[Verdict, ...], ...]
    spacing: float
    """Aimed at between neighbours [% of the picture's width]."""


@dataclass(frozen=True)
class _Rated:
    """A frame that can be chosen."""

    index: int
    travelled: float
    sharpness: float
    """Relative to that of the frames around it in time."""


_Scene = list[_Rated]
"""Frames between two cuts."""


def stands_still(frames: Sequence[Sighting]) -> bool:
    """Whether the camera that took these frames did not move."""
    return not any(frame.cut for frame in frames) and way(frames) < _STILL


def way(frames: Sequence[Sighting]) -> float:
    """How far the picture moves in a video [% of its width]."""
    return max(f.travelled for f in frames) - min(f.travelled for f in frames) if frames else 0.0


def spaced(videos: Sequence[Sequence[Sighting]], config: VideoConfig) -> Spaced:
    """Choose frames of several videos, with one spacing for all of them.

    Args:
        videos: all frames of each, in order of time.
        config: how many, how far apart, how sharp.
    """
    scenes = [_rated(frames) for frames in videos]
    spacing = _spacing(scenes, config)
    chosen = [_chosen(of_video, spacing, config) for of_video in scenes]
    chosen = _thinned(chosen, config.max_frames)
    verdicts = tuple(
        tuple(_verdicts(frames, of_video, picked, spacing, config.sharpness))
        for frames, of_video, picked in zip(videos, scenes, chosen)
    )
    return Spaced(verdicts, spacing)


def _between_cuts(frames: Sequence[Sighting]) -> list[list[Sighting]]:
    scenes: list[list[Sighting]] = [[]]
    for frame in frames:
        if frame.cut:
            scenes.append([])
        scenes[-1].append(frame)
    return [scene for scene in scenes if scene]


def _relative_sharpness(scene: Sequence[Sighting]) -> list[float]:
    """Sharpness by that of the sharper frames shortly before and after, for textures differ by place."""
    times = [frame.time for frame in scene]
    sharpness = np.array([frame.sharpness for frame in scene])
    relative = []
    for i, time in enumerate(times):
        # At least two frames on either side, however few there are in a second.
        first = min(bisect.bisect_left(times, time - _MOMENT), max(i - 2, 0))
        last = max(bisect.bisect_right(times, time + _MOMENT), i + 3)
        relative.append(float(sharpness[i] / max(np.quantile(sharpness[first:last], _SHARP), 1e-6)))
    return relative


def _rated(frames: Sequence[Sighting]) -> list[_Scene]:
    """The frames that can be chosen, scene by scene."""
    scenes = [
        [
            _Rated(frame.index, frame.travelled, rating)
            for frame, rating in zip(scene, _relative_sharpness(scene))
            if not frame.lost and frame.same_as is None
        ]
        for scene in _between_cuts(frames)
    ]
    return [scene for scene in scenes if scene]


def _spacing(videos: Sequence[Sequence[_Scene]], config: VideoConfig) -> float:
    """The smallest distance [% of the width] that is worth it and does not make too many frames."""

    def too_many(spacing: float) -> bool:
        return sum(len(_chosen(scenes, spacing, config)) for scenes in videos) > config.max_frames

    total = sum(scene[-1].travelled - scene[0].travelled for scenes in videos for scene in scenes)
    low = max(min(config.parallax, total / config.min_frames), _NEAREST)
    if not too_many(low):
        return low
    high = max(low, total)
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if too_many(middle) else (low, middle)
    return high


def _chosen(scenes: Sequence[_Scene], spacing: float, config: VideoConfig) -> dict[int, str]:
    """The frames that make a chain through every scene, by index, each with its reason."""
    chosen: dict[int, str] = {}
    for number, scene in enumerate(scenes):
        where = "at the start" if number == 0 else "after a cut"
        here = scene[0].travelled
        limit = here + max(spacing, config.max_shift)
        at, reason = _best(scene, 0, here, here + _AROUND * spacing, limit, config)
        chosen[scene[at].index] = f"{reason} {where}"
        while (step := _next(scene, at, spacing, config)) is not None:
            at, reason = step
            chosen[scene[at].index] = reason
    return chosen


def _next(scene: _Scene, at: int, spacing: float, config: VideoConfig) -> tuple[int, str] | None:
    """The frame to choose after frame `at`, and why; None at the end of the scene."""
    here = scene[at].travelled
    near, far = here + (1 - _AROUND) * spacing, here + (1 + _AROUND) * spacing
    # Overlap comes before even spacing, sharpness before both within what overlap allows.
    limit = here + max(spacing, config.max_shift)
    far = min(far, limit)
    if not _window(scene, at + 1, near, far):
        return _across(scene, at, far, limit)
    best, reason = _best(scene, at + 1, near, far, limit, config)
    return best, f"{reason} after {scene[best].travelled - here:.1f} % of motion"


def _best(
    scene: _Scene, first: int, near: float, far: float, limit: float, config: VideoConfig
) -> tuple[int, str]:
    """The sharpest frame from `near` to `far`; if that is blurred, the first that is not up to `limit`."""
    window = _window(scene, first, near, far)
    best = max(window, key=lambda i: scene[i].sharpness)
    if scene[best].sharpness >= config.sharpness:
        return best, f"chosen: sharpest of {_frames(len(window))}"
    for later in _window(scene, first, near, limit):
        if scene[later].sharpness >= config.sharpness:
            return later, "chosen: first sharp frame"
    return best, f"chosen: sharpest of {_frames(len(window))}, all blurred,"


def _across(scene: _Scene, at: int, far: float, limit: float) -> tuple[int, str] | None:
    """The next frame where the picture jumps past the place where one was due."""
    here = scene[at].travelled
    after = next((i for i in range(at + 1, len(scene)) if scene[i].travelled > far), None)
    if after is None:
        return None
    jump = scene[after].travelled - scene[after - 1].travelled
    reason = f"the picture moves by {jump:.1f} % from one frame to the next"
    if scene[after].travelled > limit and after - 1 > at and scene[after - 1].travelled > here + _NEAREST:
        return after - 1, f"chosen: after it {reason}"
    return after, f"chosen: before it {reason}"


def _window(scene: _Scene, first: int, near: float, far: float) -> list[int]:
    """Positions from `first` on of the frames from the first at `near` to the last before `far` is passed."""
    window = []
    for i in range(first, len(scene)):
        if scene[i].travelled > far:
            break
        if window or scene[i].travelled >= near:
            window.append(i)
    return window


def _thinned(chosen: Sequence[dict[int, str]], most: int) -> list[dict[int, str]]:
    """More scenes than frames: keep every so many-th frame."""
    every = [(video, index) for video, of_video in enumerate(chosen) for index in of_video]
    if len(every) <= most:
        return list(chosen)
    kept = {every[round(i * (len(every) - 1) / (most - 1))] for i in range(most)}
    return [
        {index: reason for index, reason in of_video.items() if (video, index) in kept}
        for video, of_video in enumerate(chosen)
    ]


def _verdicts(
    frames: Sequence[Sighting],
    scenes: Sequence[_Scene],
    chosen: dict[int, str],
    spacing: float,
    blurred: float,
) -> Iterator[Verdict]:
    ahead = [frame for frame in frames if frame.index in chosen][::-1]
    before: Sighting | None = None
    rating = {rated.index: rated.sharpness for scene in scenes for rated in scene}
    for frame in frames:
        shift = max(0.0, frame.travelled - (before or frames[0]).travelled)
        if ahead and frame is ahead[-1]:
            before = ahead.pop()
            yield Verdict(True, shift, chosen[frame.index])
        elif (reason := _unfit(frame, rating.get(frame.index, 0.0), blurred)) is not None:
            yield Verdict(False, shift, reason)
        elif before is not None and (shift < (1 - _AROUND) * spacing or not ahead):
            yield Verdict(False, shift, f"moved only {shift:.1f} % since frame {before.index}")
        elif ahead and ahead[-1].sharpness > frame.sharpness:
            yield Verdict(False, shift, f"frame {ahead[-1].index} close by is sharper")
        else:
            yield Verdict(False, shift, "enough frames are chosen around it")


def _unfit(frame: Sighting, rating: float, blurred: float) -> str | None:
    """What speaks against a frame wherever it lies."""
    if frame.same_as is not None:
        return f"duplicate of frame {frame.same_as}"
    if frame.lost:
        return "too dark, flat or blurred: nothing seen before is found in it"
    if rating < blurred:
        return f"blurred: sharpness {rating:.2f} of its neighbours'"
    return None


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"
