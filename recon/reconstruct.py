"""One reconstruction from input to run folder - cameras, place, training, report - as a stream of events."""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from gaussworld.camera import Camera
from gaussworld.capture import Capture
from gaussworld.config import load_config
from gaussworld.errors import BackendUnavailable, CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_capture, load_world
from gaussworld.log import Done, Event, Notice, Progress, drain, part

from .fit import Fit, TrainConfig
from .frames import View
from .inputs import InputKind, Source, check_capture, read_posed, sniff
from .inputs.photos import usable_photos
from .inputs.video import VideoConfig, choose_frames
from .keep import keep_world
from .outcome import write_outcome
from .place import PlaceConfig, Placed, place, save_placed
from .read import check_budget, read_views
from .report import read_report
from .run import Clock, Run, begin, claim, settings_of
from .sfm import SfmConfig, structure_from_motion
from .things import with_things
from .train_run import trained
from .truth import camera_errors

logger = logging.getLogger(__name__)
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class ReconConfig:
    """What to do around the training: where cameras come from, which way is up, how long a unit is."""

    at: float = 0.0
    """[s] Moment at which a rig of synchronised videos is reconstructed."""
    device: Device = "auto"
    """Where to train; auto takes a GPU when gsplat can run on it."""
    truth: Path | None = None
    """A capture with the true cameras of the same pictures, by file name; only to tell errors."""
    objects: bool = True
    """Find the objects in the world, their shapes and masses, where they stand on something."""
    place: PlaceConfig = field(default_factory=PlaceConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    sfm: SfmConfig = field(default_factory=SfmConfig)
    masks: Path | None = None
    """A folder of id pictures of the objects, named like the pictures; by default objects are found by
    geometry."""


@dataclass(frozen=True, eq=False)
class Found:
    """A capture, and what was given for it."""

    capture: Capture
    given: int
    """Pictures there were."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Name and reason of those that are not in the capture."""
    video_frames: int | None = None
    """Frames that the pictures were chosen from, where they are a video's."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What came out: the run folder and the Gaussians in it."""

    run: Run
    gaussians: Gaussians
    capture: Capture
    report: dict[str, Any]
    """What report.json says."""


def reconstruct(
    inputs: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    config: TrainConfig | Path | str | None = None,
    options: ReconConfig | None = None,
    resume: bool = True,
    listen: Callable[[Event[Reconstruction]], None] | None = None,
) -> Reconstruction:
    """Turn pictures into Gaussians in a run folder, and wait for the end; `gaussworld recon` in Python.

    Ctrl-C waits for the next event and leaves a run that the same call goes on with; a second one does not
    wait.

    Args:
        inputs: anything `gaussworld recon` takes; several for videos.
        out: the run folder; an earlier run in it on the same input is gone on with.
        config: how to train: a configuration, or the name of a preset or file; default: normal.
        options: everything else.
        resume: go on with a run that is there; else train anew.
        listen: is handed every event, for progress; `reconstruction` is the stream itself.

    Raises:
        CaptureError: the input cannot be reconstructed.
        ConfigError: `out` holds something else, or a run with other settings.
        KeyboardInterrupt: Ctrl-C; what there is so far lies in `out`.
    """
    if isinstance(config, Path | str):
        config = load_config(TrainConfig, config, group="train")
    paths = [Path(inputs)] if isinstance(inputs, Path | str) else [Path(path) for path in inputs]
    return drain(reconstruction(paths, Path(out), config, options, resume), listen).result


def reconstruction(
    inputs: Sequence[Path],
    out: Path,
    config: TrainConfig | None = None,
    options: ReconConfig | None = None,
    resume: bool = True,
) -> Iterator[Event[Reconstruction]]:
    """Turn pictures into Gaussians in a run folder; goes on where an earlier run on the same input stopped.

    Args:
        inputs: one path, or several videos.
        out: the run folder.
        config: how to train.
        options: everything else.
        resume: go on with a run that is there; else train anew.

    Raises:
        CaptureError: the input cannot be reconstructed.
        ConfigError: `out` holds something else, or a run with other settings.
    """
    config, options = config or TrainConfig(), options or ReconConfig()
    if options.masks is not None and not options.masks.is_dir():
        raise CaptureError(f"--masks: expected a folder of masks, got {options.masks}, which is none")
    device = training_device(options.device)
    source = sniff(inputs)
    settings = settings_of(config, options.place, options.video, options.sfm) | {"at": repr(options.at)}
    run = claim(out, "recon", [str(path.resolve()) for path in inputs], settings, resume)
    truth = None if options.truth is None else load_capture(options.truth)
    card = run.read()
    if resume and card["finished"] and card["verb"] == "recon":
        yield Notice(f"{out} holds this run, finished; --no-resume trains it anew.")
        if not run.world.exists():
            keep_world(run.world, load_world(out), title_of(inputs))
        yield Done(Reconstruction(run, load(run.scene), load_capture(run.cameras), read_report(run.folder)))
        return
    clock = Clock(run, resume)
    with clock.running():
        clock.enter("cameras")
        found = yield from posed(source, run, options)
        placed = place(found.capture, options.place, keep=source.kind.has_cameras)
        if truth is not None:
            camera_errors(placed.capture, truth)
        clock.enter("reading")
        check_budget(placed.capture.frames, config, run.folder)
        placed, views, unread = yield from _read(placed, config)
        begin(run, "recon", config, settings, resume)
        clock.kept = True
        clock.enter("training")
        save_placed(run, placed)
        fit = yield from trained(run, placed, views["train"], views["test"], config, device, clock)
        if fit.poses is not None:
            placed, views = corrected(placed, views, fit)
            save_placed(run, placed)
        world = load_world(out)
        if notice := keep_world(run.world, world, title_of(inputs)):
            yield Notice(notice)
        clock.enter("judging")
        yield Progress(0, None, stage="Judging")
        facts = _facts(inputs, source, found, unread)
        if truth is not None:
            facts["trajectory"] = camera_errors(placed.capture, truth)
        yield from write_outcome(run, fit, placed, views, facts, clock)
        # A world that somebody has edited stays theirs.
        if options.objects and not notice:
            clock.enter("objects")
            world = yield from part(with_things(world, run.world, options.masks), "Objects")
            keep_world(run.world, world, f"the objects of {title_of(inputs)}")
    run.write(finished=True)
    yield Done(Reconstruction(run, fit.gaussians.to("cpu"), placed.capture, read_report(run.folder)))


def _facts(
    inputs: Sequence[Path], source: Source, found: Found, unread: tuple[tuple[str, str], ...]
) -> dict[str, Any]:
    """What the report says about the input."""
    return {
        "title": title_of(inputs),
        "input": ", ".join(map(str, inputs)),
        "input_kind": source.kind.value,
        "images_given": found.given,
        "left_out": found.left_out + unread,
        "video_frames": found.video_frames,
    }


@torch.no_grad()
def corrected(placed: Placed, views: dict[str, list[View]], fit: Fit) -> tuple[Placed, dict[str, list[View]]]:
    """The capture and its training views with the cameras that the fit corrected."""
    assert fit.poses is not None
    frames, trained, index = [], [], 0
    for frame in placed.capture.frames:
        if frame.split == "train":
            frame = replace(frame, camera=_moved(frame.camera, fit.camera(index)))
            view = views["train"][index]
            trained.append(replace(view, camera=_moved(view.camera, fit.camera(index))))
            index += 1
        frames.append(frame)
    capture = replace(placed.capture, frames=tuple(frames))
    return replace(placed, capture=capture), {**views, "train": trained}


def _moved(camera: Camera, to: Camera) -> Camera:
    return replace(camera, world_from_camera=to.world_from_camera.detach().to(camera.K))


def title_of(inputs: Sequence[Path]) -> str:
    """A name for the scene: the input's, or that of the folder around a nameless one."""
    path = inputs[0].resolve()
    plain = path.stem.lower() in (
        "transforms",
        "images",
        "sparse",
        "0",
        "color",
        "rgb",
        "input",
        "video",
        "videos",
        "photos",
    )
    return path.parent.name if plain else path.stem or path.name


def posed(source: Source, run: Run, options: ReconConfig) -> Generator[Progress | Notice, None, Found]:
    """The capture of any input: read where there are cameras, found by structure from motion elsewhere."""
    if source.kind.has_cameras:
        capture = check_capture(read_posed(source, run.pictures, options.at))
        return Found(capture, len(capture))
    images, times, left_out, given, decoded = source.images, {}, (), len(source.images), None
    if source.kind is InputKind.VIDEO:
        chosen = yield from part(choose_frames(source.videos, run.pictures, options.video), "Choosing frames")
        images, times = chosen.images, dict(zip((path.name for path in chosen.images), chosen.times))
        given, decoded = len(images), len(chosen.candidates)
    else:
        photos = yield from part(usable_photos(source.images, run.pictures), "Looking at photos")
        images, left_out = photos.images, photos.left_out
    ordered = source.kind is InputKind.VIDEO
    result = yield from part(
        structure_from_motion(images, run.sfm, options.sfm, ordered=ordered), "Finding cameras"
    )
    frames = tuple(replace(frame, time=times.get(frame.name, frame.time)) for frame in result.capture.frames)
    capture = replace(result.capture, frames=frames)
    return Found(capture, given, (*left_out, *result.left_out), decoded)


def training_device(asked: Device) -> torch.device:
    """The device to train on; auto never fails.

    Raises:
        BackendUnavailable: a GPU is asked for and there is none, or gsplat cannot run on it.
    """
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "expected a CUDA device for --device cuda, got a PyTorch that sees none; use --device cpu"
        )
    from gaussworld.render import cuda

    if (missing := cuda.missing()) is None:
        return torch.device("cuda")
    if asked == "cuda":
        raise BackendUnavailable(missing)
    logger.warning("Training on the CPU: %s", missing)
    return torch.device("cpu")


def _read(
    placed: Placed, config: TrainConfig
) -> Generator[Progress | Notice, None, tuple[Placed, dict[str, list[View]], tuple[tuple[str, str], ...]]]:
    """The views of all frames by split; frames that cannot be read leave the capture."""
    capture = placed.capture
    views = yield from part(
        read_views(capture.frames, config.resolution, capture.metres_per_unit), "Reading pictures"
    )
    frames = tuple(frame for frame, view in zip(capture.frames, views) if view is not None)
    unread = tuple((f.name, "cannot be read") for f, view in zip(capture.frames, views) if view is None)
    by_split: dict[str, list[View]] = {"train": [], "validation": [], "test": []}
    for frame, view in zip(capture.frames, views):
        if view is not None:
            by_split[frame.split].append(view)
    if not by_split["train"]:
        raise CaptureError(
            f"expected a training picture among {len(capture)} frames, got none that can be read; check the"
            " files and their splits"
        )
    return replace(placed, capture=replace(capture, frames=frames)), by_split, unread
