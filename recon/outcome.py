"""The end of a run: how good it is, the turning picture, the report, and what its files say later."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.errors import GaussWorldError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load_capture
from gaussworld.io.json_object import read_object
from gaussworld.io.video import write_video
from gaussworld.log import Progress
from gaussworld.render import render

from .evaluate import Scores, evaluate
from .fit import Fit
from .frames import View
from .memory import peak_device_memory, peak_memory
from .perceptual import lpips_metric
from .place import Placed
from .report import CurvePoint, Panel, Report, machine_facts, read_report, worst_panels, write_report
from .report.record import JSON_NAME
from .run import Clock, Run
from .tour import scene_tour
from .train_run import read_metrics

logger = logging.getLogger(__name__)

_VIDEO_FRAMES, _VIDEO_FPS = 180, 30.0
#: Training pictures that are scored beside the held-out ones: a look at how much the fit learnt by heart.
_TRAINING_SCORED = 8
#: [bytes] A larger file is none of a run's.
_LARGEST_JSON = 1 << 28


def write_outcome(
    run: Run,
    fit: Fit,
    placed: Placed,
    views: Mapping[str, Sequence[View]],
    facts: Mapping[str, Any],
    clock: Clock,
) -> Iterator[Progress]:
    """Judge the fit, write the turning picture, report.json and report.html.

    Args:
        run: where.
        fit: a finished fit.
        placed: its capture.
        views: all views by split.
        facts: what else the report says: title, input, input_kind, images_given, left_out.
        clock: it runs for the judging.
    """
    gaussians, background = fit.gaussians, fit.config.background
    scores, panels = _judged(fit, views)
    clock.enter("turning picture")
    yield Progress(0, None, stage="Turning picture")
    up = torch.tensor(placed.up.direction if placed.up is not None else (0.0, 0.0, 1.0))
    cameras = scene_tour(placed.capture, gaussians, up, _VIDEO_FRAMES)
    write_video(run.turntable, drawn(gaussians, cameras, background), _VIDEO_FPS)
    clock.enter("")
    peak = peak_memory()
    report = Report(
        **facts,
        images_used=len(placed.capture),
        gaussians=len(gaussians),
        sh_degree=gaussians.sh_degree,
        scores=scores,
        curve=_curve(run),
        seconds=clock.seconds,
        peak_memory=peak,
        peak_device_memory=peak_device_memory(),
        scale=None if placed.scale is None else asdict(placed.scale),
        up=None if placed.up is None else asdict(placed.up),
        settings=_settings(fit),
        machine=machine_facts(gaussians.device),
        files=_files(run),
        video=run.turntable.name,
        notes=_notes(fit, views),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_report(run.folder, report, panels)


@torch.no_grad()
def drawn(
    gaussians: Gaussians, cameras: Sequence[Camera], background: tuple[float, float, float]
) -> Iterator[Float[Tensor, "h w 3"]]:
    """Pictures of Gaussians from each camera."""
    for camera in cameras:
        yield render(gaussians, camera, background=background).rgb.clamp(0, 1).cpu()


def run_facts(folder: Path) -> dict[str, Any]:
    """What the JSON files of a run say, finished or not; `gaussworld info` tells it.

    Files that are not there are passed over, those that cannot be read too, with a warning.
    """
    run, facts = Run(folder), {}
    try:
        card = run.read()
    except GaussWorldError as error:
        logger.warning("Left out: %s", error)
        return {}
    for ask in (_card_facts, _picture_facts, _score_facts, _scale_facts):
        try:
            facts |= ask(run, card)
        except GaussWorldError as error:
            logger.warning("Left out: %s", error)
    return facts


def _card_facts(run: Run, card: Mapping[str, Any]) -> dict[str, Any]:
    seconds = round(sum(card.get("seconds", {}).values()), 1)
    return {"finished": bool(card.get("finished")), "seconds": seconds}


def _picture_facts(run: Run, card: Mapping[str, Any]) -> dict[str, Any]:
    if not run.cameras.exists():
        return {}
    capture = load_capture(run.cameras, need_pictures=False)
    return {"pictures": len(capture), "pictures_held_out": sum(1 for _ in capture.of("test"))}


def _score_facts(run: Run, card: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run that goes on, how far its curve got: a report that is there is of an earlier one."""
    if card.get("finished"):
        if not (run.folder / JSON_NAME).exists():
            return {}
        report = read_report(run.folder)
        held_out = report.get("scores", {}).get("test", {})
        return {
            "pictures_given": report.get("images_given"),
            "video_frames": report.get("video_frames"),
            "held_out_psnr": held_out.get("psnr"),
            "held_out_ssim": held_out.get("ssim"),
        }
    rows = read_metrics(run)
    judged = [row["held_out_psnr"] for row in rows if row.get("held_out_psnr") is not None]
    reached = round(judged[-1], 3) if judged else None
    return {"steps": rows[-1]["step"] if rows else 0, "held_out_psnr": reached}


def _scale_facts(run: Run, card: Mapping[str, Any]) -> dict[str, Any]:
    if not run.frame.exists():
        return {}
    scale = read_object(run.frame, _LARGEST_JSON).get("scale") or {}
    return {
        "metres_per_unit": scale.get("metres_per_unit"),
        "scale_source": scale.get("source", "unknown"),
        "scale_confidence": scale.get("confidence"),
    }


def _judged(fit: Fit, views: Mapping[str, Sequence[View]]) -> tuple[dict[str, Scores], list[Panel]]:
    gaussians, background, perceptual = fit.gaussians, fit.config.background, lpips_metric()
    trained = views["train"][:: max(1, len(views["train"]) // _TRAINING_SCORED)]
    scores, panels = {}, []
    for split, kind, some in (
        ("test", "held-out", views["test"]),
        ("validation", "validation", views["validation"]),
        ("train", "training", trained),
    ):
        if some:
            on_device = [view.to(gaussians.device) for view in some]
            scores[split] = evaluate(gaussians, on_device, background, perceptual)
            count = 3 if split == "test" else 2
            panels += worst_panels(gaussians, on_device, scores[split], background, count, kind)
    return scores, panels


def _curve(run: Run) -> tuple[CurvePoint, ...]:
    """Held-out PSNR over seconds of training; a step that was done twice counts as the second time."""
    rows = {int(row["step"]): row for row in read_metrics(run) if row.get("held_out_psnr") is not None}
    return tuple(
        CurvePoint(row["training_seconds"], step, row["held_out_psnr"], int(row["gaussians"]))
        for step, row in sorted(rows.items())
    )


def _settings(fit: Fit) -> dict[str, str]:
    config = fit.config
    view = fit.levels[-1][0].camera
    return {
        "steps": f"{fit.step:,} of {config.steps:,}",
        "training pictures": f"{len(fit.levels[-1])} of {view.width}x{view.height} px",
        "most Gaussians": f"{config.max_gaussians:,}",
        "strategy": type(config.strategy).__name__.lower(),
        "exposure": "learnt for each picture" if config.exposure else "taken as it is",
        "camera poses": "corrected" if fit.poses is not None else "taken as they are",
        "seed": str(config.seed),
    }


def _files(run: Run) -> tuple[tuple[str, str], ...]:
    named = {
        run.scene: "the Gaussians, in the layout of 3D Gaussian splatting",
        run.world: "the same as a world for edits",
        run.cameras: "all cameras and their splits",
        run.frame: "frame, up direction and scale, with source and confidence",
        run.turntable: "a turn around the scene",
        run.metrics: "loss, PSNR and number of Gaussians while training",
        run.config: "settings of the training",
        run.sfm: "features, matches and the sparse model",
        run.pictures: "frames and copies of photographs that were used",
    }
    return tuple((path.name, what) for path, what in named.items() if path.exists())


def _notes(fit: Fit, views: Mapping[str, Sequence[View]]) -> tuple[str, ...]:
    notes = []
    if not views["test"]:
        notes.append("No picture was held out: the scores are of pictures that were trained on.")
    if fit.tried_poses and fit.poses is None:
        notes.append("Correcting the camera poses was tried and not kept: pictures left out did not gain.")
    return tuple(notes)
