"""The verbs of reconstruction: `recon`, and its steps `sfm`, `splat`, `score`."""

import json as json_text
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gaussworld.config import load_config
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.io import load, load_capture
from gaussworld.log import Done, Event, follow

from .evaluate import Scores, evaluate
from .fit import TrainConfig
from .inputs import Source, sniff
from .inputs.video import VideoConfig
from .perceptual import lpips_metric
from .place import PlaceConfig, save_placed
from .place import place as place_capture
from .read import read_views
from .reconstruct import (
    Device,
    ReconConfig,
    Reconstruction,
    posed,
    reconstruction,
    training_device,
)
from .run import Clock, Run, begin, claim, settings_of
from .sfm import SfmConfig
from .truth import camera_errors

Inputs = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="INPUT")]
Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
Place = Annotated[PlaceConfig, tyro.conf.arg(name="")]

_MEASURES = ("psnr", "ssim", "lpips", "depth_error")
_NORMAL, _PLACE, _SFM, _VIDEO = TrainConfig(), PlaceConfig(), SfmConfig(), VideoConfig()


def recon(
    inputs: Inputs,
    /,
    *,
    out: Out,
    resume: bool = True,
    device: Device = "auto",
    at: float = 0.0,
    truth: Path | None = None,
    objects: bool = True,
    masks: Path | None = None,
    place: Place = _PLACE,
    video: VideoConfig = _VIDEO,
    sfm: SfmConfig = _SFM,
    config: TrainConfig = _NORMAL,
) -> None:
    """Turn photographs, video, RGB-D, or any capture with cameras into Gaussians.

    INPUT is a folder of photographs, a video or several, a COLMAP model, a transforms.json, an RGB-D folder,
    a calibrated rig of videos, or an LLFF folder: it is found out which. The run folder holds scene.ply, the
    same as a world for edits, cameras, frame and scale, a turning picture and report.html, which says how
    good it is.

    Args:
        inputs: one path, or several videos.
        out: the run folder; one that an earlier run on the same input left is gone on with.
        resume: go on with a run that is there; --no-resume trains anew.
        device: where to train; auto takes a GPU when gsplat can run on it.
        at: [s] moment at which a rig of synchronised videos is reconstructed.
        truth: a capture with the true cameras of the same pictures, by file name; only to tell errors.
        objects: find the objects in the world, their shapes and masses, where they stand on something.
        masks: a folder of id pictures of the objects, as for `gaussworld objects`; default: by geometry.
        place: frame and scale.
        video: how frames of a video are chosen.
        sfm: how cameras are found where the input has none.
        config: how Gaussians are fitted.
    """
    options = ReconConfig(at, device, truth, objects, place, video, sfm, masks)
    print(summary(_followed(reconstruction(inputs, out, config, options, resume), "Reconstructing", out)))


def splat(
    capture: Annotated[Path, tyro.conf.arg(metavar="CAPTURE")],
    /,
    *,
    out: Out,
    resume: bool = True,
    device: Device = "auto",
    at: float = 0.0,
    objects: bool = True,
    masks: Path | None = None,
    place: Place = _PLACE,
    config: TrainConfig = _NORMAL,
) -> None:
    """Fit Gaussians to pictures whose cameras are known: the second half of recon.

    Args:
        capture: a transforms.json, a COLMAP model, what sfm wrote, an RGB-D folder, a rig or an LLFF folder.
        out: the run folder; one that an earlier run on the same input left is gone on with.
        resume: go on with a run that is there; --no-resume trains anew.
        device: where to train; auto takes a GPU when gsplat can run on it.
        at: [s] moment at which a rig of synchronised videos is reconstructed.
        objects: find the objects in the world, their shapes and masses, where they stand on something.
        masks: a folder of id pictures of the objects, as for `gaussworld objects`; default: by geometry.
        place: frame and scale.
        config: how Gaussians are fitted.
    """
    source = sniff(capture)
    if not source.kind.has_cameras:
        raise CaptureError(
            f"{capture}: expected pictures with cameras, got a {source.kind.value}; use gaussworld recon, or"
            " gaussworld sfm first"
        )
    options = ReconConfig(at, device, objects=objects, place=place, masks=masks)
    print(summary(_followed(reconstruction([capture], out, config, options, resume), "Fitting", out)))


def sfm(
    inputs: Inputs,
    /,
    *,
    out: Out,
    resume: bool = True,
    place: Place = _PLACE,
    video: VideoConfig = _VIDEO,
    config: SfmConfig = _SFM,
) -> None:
    """Find the cameras of photographs or videos: the first half of recon.

    Writes transforms.json with the sparse points beside it, and the COLMAP model in sfm/sparse/0.

    Args:
        inputs: a folder of photographs, or one or several videos.
        out: the folder for cameras and model; one that an earlier run on the same input left is gone on with.
        resume: use what an earlier run found; --no-resume finds everything anew.
        place: frame and scale.
        video: how frames of a video are chosen.
        config: how cameras are found.
    """
    source = sniff(inputs)
    if source.kind.has_cameras:
        raise CaptureError(
            f"{source.path}: expected photographs or video, got a {source.kind.value}, which has cameras; use"
            " gaussworld splat"
        )
    settings = settings_of(config, place, video)
    run = claim(out, "sfm", [str(path.resolve()) for path in inputs], settings, resume)
    if not resume:
        shutil.rmtree(run.sfm, ignore_errors=True)
    events = _cameras(source, run, ReconConfig(place=place, video=video, sfm=config), resume)
    print(follow(events, "Cameras").result)


def score(
    scene: Annotated[Path, tyro.conf.arg(metavar="SCENE")],
    capture: Annotated[Path | None, tyro.conf.arg(metavar="CAPTURE")] = None,
    /,
    *,
    split: Literal["auto", "train", "validation", "test", "all"] = "auto",
    truth: Path | None = None,
    holdout: int = 0,
    resolution: int | None = None,
    background: tuple[float, float, float] | None = None,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Compare Gaussians with pictures: PSNR, SSIM, LPIPS where its weights are installed, and depth.

    Args:
        scene: a run folder, or a file of Gaussians.
        capture: pictures with cameras in the scene's frame; default: those of the run.
        split: which pictures; auto takes held-out ones, and all where none are held out.
        truth: a capture with the true cameras of the same pictures: camera errors are told as well.
        holdout: take every so many-th picture as held out; 0 keeps the capture's own splits.
        resolution: [px] longer side of the pictures at most; default: as the run was trained, else full size.
        background: colour behind the scene, range [0, 1]; default: as the run was trained, else black.
        device: where to draw.
        json: print JSON for programs.
    """
    if not scene.exists():
        raise ConfigError(f"expected a run folder or a file of Gaussians, got {scene}, which does not exist")
    run = Run(scene) if scene.is_dir() else None
    if run is not None and not run.read():
        raise ConfigError(
            f"expected a run folder or a file of Gaussians, got {scene}, a folder without run.json"
        )
    if run is not None and not run.scene.is_file():
        raise ConfigError(f"{scene}: expected a run with Gaussians, got only cameras; use gaussworld recon")
    if capture is None and run is None:
        raise ConfigError(f"expected SCENE CAPTURE, got only {scene}; name the pictures to compare with")
    told = run or (Run(capture) if capture is not None and (capture / "config.toml").is_file() else None)
    trained = TrainConfig(resolution=0) if told is None else load_config(TrainConfig, told.config)
    pictured = load_capture(capture or run.cameras)  # pyright: ignore[reportOptionalMemberAccess]
    pictured = pictured.with_holdout(holdout) if holdout else pictured
    splits = (split,) if split != "all" else ("train", "validation", "test")
    if split == "auto":
        splits = ("test",) if any(True for _ in pictured.of("test")) else ("train", "validation", "test")
    frames = list(pictured.of(*splits))  # pyright: ignore[reportArgumentType]
    if not frames:
        raise CaptureError(
            f"expected pictures of split {split}, got none of {len(pictured)}; try --split all"
        )
    longest = trained.resolution if resolution is None else resolution
    read = follow(read_views(frames, longest, pictured.metres_per_unit), "Reading pictures").result
    target = training_device(device)
    views = [view.to(target) for view in read if view is not None]
    gaussians = load(scene if run is None else run.scene).to(target)
    scores = evaluate(gaussians, views, background or trained.background, lpips_metric())
    sizes = sorted({f"{view.camera.width}x{view.camera.height}" for view in views})
    facts = {"split": "+".join(splits), "sizes": sizes, **_figures(scores)}
    if truth is not None:
        facts["cameras"] = camera_errors(pictured, load_capture(truth))
    print(json_text.dumps(facts, indent=2) if json else _score_table(facts))


def _followed(events: Iterator[Event[Reconstruction]], title: str, out: Path) -> Reconstruction:
    try:
        return follow(events, title).result
    except KeyboardInterrupt:
        if (out / "run.json").exists():
            print(f"What there is so far lies in {out}; the same command goes on.", file=sys.stderr)
        raise


def summary(result: Reconstruction) -> str:
    """What a person wants to know at the end: how good, and what to open."""
    report = result.report
    judged = next((split for split in ("test", "validation", "train") if report["scores"].get(split)), None)
    lines = [
        f"{report['gaussians']:,} Gaussians from {report['images_used']} of {report['images_given']} pictures"
        f"{_of_video(report.get('video_frames'))} in {_duration(sum(report['seconds'].values()))}."
    ]
    if judged is not None:
        scores = report["scores"][judged]
        what = "Pictures held out" if judged == "test" else f"Pictures of the {judged} split"
        lines[0] += f" {what}: {_cell(scores['psnr'])} dB PSNR, {_cell(scores['ssim'])} SSIM."
    for name, what in (
        ("report.html", "how good it is, with pictures: open it in a browser"),
        ("turntable.mp4", "a turn around the scene"),
        ("scene.ply", "the Gaussians"),
        ("scene.world", "the same as a world for edits: gaussworld world --help"),
    ):
        lines.append(f"  {result.run.folder / name}  {what}")
    return "\n".join(lines)


def _of_video(frames: int | None) -> str:
    return "" if frames is None else f", chosen from {frames:,} frames of video,"


def _cameras(source: Source, run: Run, options: ReconConfig, resume: bool) -> Iterator[Event[str]]:
    """Cameras found and written; the result says what came out."""
    clock = Clock(run, resume)
    with clock.running():
        clock.enter("cameras")
        found = yield from posed(source, run, options)
        placed = place_capture(found.capture, options.place, keep=False)
        clock.kept = True
    begin(run, "sfm", options.sfm, settings_of(options.sfm, options.place, options.video), resume=True)
    save_placed(run, placed)
    run.write(finished=True)
    capture = placed.capture
    yield Done(
        f"Found the cameras of {len(capture)} of {found.given} pictures{_of_video(found.video_frames)} and"
        f" {len(capture.points):,} points.\n"
        f"  {run.cameras}  cameras; gaussworld splat {run.folder} -o OUT fits Gaussians to them\n"
        f"  {run.sfm / 'sparse' / '0'}  the COLMAP model"
    )


def _figures(scores: Scores) -> dict[str, Any]:
    """Means and views as plain values; null where a figure was not measured."""
    means = {name: _known(getattr(scores, name)) for name in _MEASURES}
    views = [
        {"name": view.name, **{name: _known(getattr(view, name)) for name in _MEASURES}}
        for view in scores.views
    ]
    return {**means, "views": views}


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _score_table(facts: dict[str, Any]) -> str:
    """Views, worst first, and their means, as aligned columns; a measure that nothing has is left out."""
    shown = [name for name in _MEASURES if facts[name] is not None]
    views = sorted(facts["views"], key=lambda view: view["psnr"] if view["psnr"] is not None else math.inf)
    rows = [["picture", *(name.replace("_", " ") for name in shown)]]
    rows += [[view["name"], *(_cell(view[name]) for name in shown)] for view in views]
    rows += [[f"mean ({facts['split']}, {len(views)})", *(_cell(facts[name]) for name in shown)]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))
        for row in rows
    ]
    lines += ["", f"compared at {', '.join(facts['sizes'][:3])} px"]
    errors = facts.get("cameras")
    if errors is not None:
        lines += ["", "cameras against the truth:"]
        lines += [f"  {name.replace('_', ' '):<18}{value:.6g}" for name, value in errors.items()]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) < 10 else f"{value:.2f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
