"""From videos to still frames: sharp, spread over the way the camera went, the reasons in a file beside."""

import itertools
import json
import math
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.atomic import replacing
from gaussworld.io.images import write_image
from gaussworld.io.video import GreyFrame, read_frames, read_grey, video_info
from gaussworld.log import Done, Event, Notice, Progress

from .sources import matches, read_record, sources
from .spacing import Spaced, Verdict, VideoConfig, spaced, stands_still, way
from .tracks import Sighting, sightings

_VERSION = 1
_FRAMES_PER_EVENT = 10
#: Structure from motion wants at least so many pictures.
_FEWEST = 3


@dataclass(frozen=True)
class Candidate:
    """A decoded frame and what became of it."""

    video: str
    """The file it is from."""
    index: int
    """Number of the frame in the file, from 0."""
    time: float
    """[s] by the file's timestamps."""
    sharpness: float
    """Standard deviation of the Laplacian of Gaussian [grey levels]; to be compared within one scene only."""
    shift: float
    """How far the picture has moved since the last chosen frame [% of its width]."""
    chosen: bool
    reason: str
    """Why it was chosen or left out, in a few words."""


@dataclass(frozen=True)
class ChosenFrames:
    """Still frames on disk, and how they were chosen."""

    images: tuple[Path, ...]
    times: tuple[float, ...]
    """[s] of each image in its video."""
    candidates: tuple[Candidate, ...]
    """All decoded frames, video after video."""


def choose_frames(
    videos: Sequence[Path], folder: Path, config: VideoConfig | None = None
) -> Iterator[Event[ChosenFrames]]:
    """Choose frames of videos and write them to `folder`/images, the choice to `folder`/frames.json.

    Every frame is decoded once, small, to measure its sharpness and how far the picture has moved; the chosen
    ones a second time, whole. A second call with the same files and settings takes what is there.

    Args:
        videos: files of one scene, from one or more moving cameras.
        folder: where the images and the record of the choice go.
        config: how many frames, and which.

    Yields:
        `Progress` in frames decoded, then in images written; a `Notice` on what the user should know; `Done`
        with the chosen frames last.

    Raises:
        CaptureError: no videos, cameras that stand still, or too few frames.
        FileFormatError: none of the videos can be decoded.
        MissingDependency: PyAV or OpenCV is not installed.
    """
    config, videos = config or VideoConfig(), list(dict.fromkeys(videos))
    if not videos:
        raise CaptureError("expected at least one video, got none; name the files")
    if (known := _known(videos, folder, config)) is not None:
        yield Done(known, _summary(known))
        return
    seen = yield from _seen(videos, config)
    moving = yield from _moving(seen)
    choice = spaced(list(moving.values()), config)
    candidates = tuple(_candidates(seen, moving, choice))
    chosen = [candidate for candidate in candidates if candidate.chosen]
    yield from _remarks(chosen, choice, moving, config)
    images = yield from _written(chosen, folder)
    result = ChosenFrames(tuple(images), tuple(c.time for c in chosen), candidates)
    _record(result, videos, folder, config)
    yield Done(result, _summary(result))


def _seen(
    videos: Sequence[Path], config: VideoConfig
) -> Generator[Progress | Notice, None, dict[Path, list[Sighting]]]:
    """Look at every frame; returns what was seen of each video that can be read."""
    seen: dict[Path, list[Sighting]] = {}
    refusals: list[FileFormatError] = []
    expected = {}
    for video in videos:
        try:
            expected[video] = video_info(video).frames
        except FileFormatError as error:
            refusals.append(error)
    counts = list(expected.values())
    total = sum(n for n in counts if n) if all(counts) else None
    done = 0
    for video in expected:
        frames: list[Sighting] = []
        try:
            for frame in sightings(_between(video, config)):
                frames.append(frame)
                if len(frames) % _FRAMES_PER_EVENT == 0:
                    values = {"sharpness": frame.sharpness, "moved_percent": frame.travelled}
                    yield Progress(done + len(frames), total, values, f"looking at {video.name}")
        except FileFormatError as error:
            refusals.append(error)
            continue
        done += len(frames)
        if not frames:
            raise CaptureError(_out_of_range(video, config))
        seen[video] = frames
    if not seen:
        raise refusals[0]
    for refusal in refusals:
        yield Notice(f"{refusal}; the other videos are used")
    return seen


def _between(video: Path, config: VideoConfig) -> Iterator[GreyFrame]:
    for frame in read_grey(video):
        if frame.time > config.end:
            return
        if frame.time >= config.start:
            yield frame


def _out_of_range(video: Path, config: VideoConfig) -> str:
    length = video_info(video).seconds
    got = f"a video of {length:.1f} s" if length is not None else "none"
    return (
        f"{video}: expected frames between {config.start:g} s and {config.end:g} s, got {got};"
        " choose another start or end"
    )


def _moving(
    seen: dict[Path, list[Sighting]],
) -> Generator[Notice, None, dict[Path, list[Sighting]]]:
    """Leave out videos of cameras that stand still; returns the others."""
    still = {video: frames for video, frames in seen.items() if stands_still(frames)}
    if len(still) == len(seen):
        names = ", ".join(str(video) for video in still)
        raise CaptureError(
            f"{names}: expected a camera that moves, got {_movement(still)};"
            " walk around the scene, or give cameras whose places are known"
        )
    for video, frames in still.items():
        yield Notice(
            f"{video}: expected a camera that moves, got {_movement({video: frames})}; it is left out"
        )
    return {video: frames for video, frames in seen.items() if video not in still}


def _movement(videos: dict[Path, list[Sighting]]) -> str:
    frames = sum(map(len, videos.values()))
    seconds = max((f[-1].time - f[0].time for f in videos.values() if f), default=0.0)
    most = max(map(way, videos.values()))
    return f"{frames} frames over {seconds:.1f} s in which the picture shifts by {most:.1f} % of its width"


def _candidates(
    seen: dict[Path, list[Sighting]], moving: dict[Path, list[Sighting]], choice: Spaced
) -> Iterator[Candidate]:
    verdicts = dict(zip(moving, choice.verdicts))
    for video, frames in seen.items():
        still = Verdict(False, 0.0, "the camera stands still")
        for frame, verdict in zip(frames, verdicts.get(video, [still] * len(frames))):
            yield Candidate(
                video=str(video),
                index=frame.index,
                time=frame.time,
                sharpness=round(frame.sharpness, 3),
                shift=round(verdict.shift, 3),
                chosen=verdict.chosen,
                reason=verdict.reason,
            )


def _remarks(
    chosen: Sequence[Candidate], choice: Spaced, moving: dict[Path, list[Sighting]], config: VideoConfig
) -> Iterator[Notice]:
    """What speaks against a good registration.

    Raises:
        CaptureError: there are too few frames.
    """
    if len(chosen) < _FEWEST:
        names = ", ".join(video.name for video in moving)
        raise CaptureError(
            f"{names}: expected at least {_FEWEST} different sharp frames, got {len(chosen)}; film for longer"
        )
    if choice.spacing > config.max_shift:
        wanted = math.ceil(config.max_frames * choice.spacing / config.max_shift)
        yield Notice(
            f"the camera goes far: {len(chosen)} frames lie about {choice.spacing:.0f} % of the picture's"
            f" width apart; with max_frames {wanted} neighbours would overlap better"
        )
    for video, frames in moving.items():
        if cuts := [frame.time for frame in frames if frame.cut]:
            at = ", ".join(f"{time:.1f}" for time in cuts[:5]) + (", ..." if len(cuts) > 5 else "")
            yield Notice(f"{video}: cuts, or pans too fast to follow, at {at} s; parts may not join")


def _written(chosen: Sequence[Candidate], folder: Path) -> Generator[Progress, None, list[Path]]:
    """Write the chosen frames; returns their paths."""
    images: list[Path] = []
    names = _names(dict.fromkeys(c.video for c in chosen))
    for video, name in names.items():
        wanted = [c for c in chosen if c.video == video]
        for candidate, picture in zip(wanted, read_frames(video, [c.time for c in wanted]), strict=True):
            images.append(folder / "images" / f"{name}_{candidate.index:06d}.jpg")
            write_image(images[-1], picture)
            yield Progress(len(images), len(chosen), message="writing images")
    return images


def _names(videos: Iterable[str]) -> dict[str, str]:
    """A name for each video that no other has, from its stem; COLMAP's text files allow no blanks in it."""
    names: dict[str, str] = {}
    for video in videos:
        stem = name = re.sub(r"[^\w.-]", "_", Path(video).stem, flags=re.ASCII)
        for number in itertools.count(2):
            if name not in names.values():
                break
            name = f"{stem}-{number}"
        names[video] = name
    return names


def _summary(frames: ChosenFrames) -> str:
    return f"{len(frames.images)} of {len(frames.candidates)} frames chosen"


def _asked(videos: Sequence[Path], config: VideoConfig) -> dict[str, Any]:
    """What the choice depends on."""
    settings = {key: value if math.isfinite(value) else None for key, value in asdict(config).items()}
    return {"version": _VERSION, "videos": sources(videos), "config": settings}


def _record(frames: ChosenFrames, videos: Sequence[Path], folder: Path, config: VideoConfig) -> None:
    """Write frames.json, one candidate a line, and remove the images that only an earlier choice wanted."""
    earlier = _recorded_images(read_record(folder / "frames.json"), folder)
    head = {
        **_asked(videos, config),
        "images": [path.name for path in frames.images],
        "times": list(frames.times),
    }
    lines = ",\n  ".join(json.dumps(asdict(candidate)) for candidate in frames.candidates)
    text = json.dumps(head, indent=1).rstrip("}\n") + f',\n "candidates": [\n  {lines}\n ]\n}}\n'
    with replacing(folder / "frames.json") as file:
        file.write(text.encode())
    for path in set(earlier) - set(frames.images):
        path.unlink(missing_ok=True)


def _known(videos: Sequence[Path], folder: Path, config: VideoConfig) -> ChosenFrames | None:
    """An earlier choice from the same files with the same settings, if all its images are there."""
    record = read_record(folder / "frames.json")
    if not matches(record, _asked(videos, config)):
        return None
    images = _recorded_images(record, folder)
    try:
        candidates = tuple(Candidate(**candidate) for candidate in record["candidates"])
        times = tuple(float(time) for time in record["times"])
    except (KeyError, TypeError, ValueError):
        return None
    if len(images) != len(times) or not images or not all(path.is_file() for path in images):
        return None
    return ChosenFrames(images, times, candidates)


def _recorded_images(record: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    names = record.get("images")
    # Only names: a record from elsewhere must not lead to files outside the folder.
    return tuple(
        folder / "images" / Path(str(name)).name for name in (names if isinstance(names, list) else [])
    )
