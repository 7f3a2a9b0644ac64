"""The folder of a prediction: states, a 4D world, a video, and a summary for people and programs."""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaussworld import __version__
from gaussworld.camera import Camera
from gaussworld.errors import ConfigError, GaussWorldError, MissingDependency
from gaussworld.facts import finite
from gaussworld.flags import asked_size
from gaussworld.io.atomic import replacing
from gaussworld.io.rollouts import save_rollout, world_facts
from gaussworld.io.usd_rollout import write_rollout
from gaussworld.log import Done, Event, Notice, Progress
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..tool import tool_record
from .picture import Column, drawn, film
from .predict import Prediction
from .props import rollout_with_props
from .stage import Posed, Stage, framing_camera, object_shapes
from .summary import summary
from .truth_view import recorded, truth_frames

_log = logging.getLogger(__name__)
SUMMARY, ROLLOUT, SAMPLES, VIDEO, SCENE = (
    "summary.json",
    "rollout.safetensors",
    "samples.safetensors",
    "prediction.mp4",
    "rollout.usdc",
)
MADE_BY = "gaussworld predict"


#: [px] of either side of a video.
_LEAST = 16


@dataclass(frozen=True)
class ShowConfig:
    """What a prediction is shown as."""

    video: bool = True
    """Draw prediction.mp4, with the truth beside it where a recording has it."""
    scene: bool = True
    """Write rollout.usdc, the world in 4D, for programs that play USD."""
    camera: tuple[int, ...] = ()
    """Which of the world's cameras to look through, one or several; default: one that sees all that moves."""
    width: int | None = None
    """[px] of the video, for each camera; default: the camera's, at most 640."""
    height: int | None = None
    """[px] default: as the width and the camera's shape have it."""


@dataclass(frozen=True)
class Written:
    """What was written."""

    folder: Path
    files: tuple[Path, ...]
    summary: dict[str, Any]


def check_out(out: Path, force: bool) -> None:
    """Refuse a folder that holds something else.

    Raises:
        ConfigError: it is there and --force was not said, or it is no prediction.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise ConfigError(f"expected a new folder, got {out}, which exists; add --force to replace it")
    if not (out / SUMMARY).is_file():
        raise ConfigError(
            f"expected a folder of an earlier prediction to replace, got {out}, which is none; choose another"
        )


def write_prediction(
    prediction: Prediction,
    out: Path,
    model: str,
    seed: int = 0,
    show: ShowConfig | None = None,
    posed: Posed | None = None,
    force: bool = False,
) -> Generator[Event[Written], None, None]:
    """Write a prediction's files; the folder appears under its name only when all of them are whole.

    Args:
        prediction: what was predicted.
        out: a new folder.
        model: its name, for the record.
        seed: likewise.
        show: what to draw.
        posed: gives the Gaussians of a state, bent where things bend; default: all move rigidly.
        force: replace an earlier prediction.

    Raises:
        ConfigError: the folder holds something, or the world has no such camera.
        GaussWorldError: the file system refuses.
    """
    show, out = show or ShowConfig(), Path(out)
    check_out(out, force)
    indices, cameras = _cameras(prediction, show, posed)
    build = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        _made(build)
        facts, timing = _facts(prediction, model, seed), {}
        save_rollout(prediction.rollout, build / ROLLOUT, facts)
        if prediction.samples is not None:
            save_rollout(prediction.samples, build / SAMPLES, facts)
        if show.scene:
            yield Progress(0, None, message="writing the 4D world")
            begun = time.monotonic()
            if said := _scene(prediction, build / SCENE, posed):
                yield Notice(said)
            timing["scene"] = time.monotonic() - begun
        if show.video:
            begun = time.monotonic()
            yield from _video(prediction, build / VIDEO, cameras, indices, posed)
            timing["video"] = time.monotonic() - begun
        told = summary(prediction, model, seed, timing)
        with replacing(build / SUMMARY) as file:
            file.write(json.dumps(finite(told), indent=2, allow_nan=False).encode())
        names = sorted(each.name for each in build.iterdir())
        _moved(build, out)
    finally:
        shutil.rmtree(build, ignore_errors=True)
    yield Done(Written(out, tuple(out / name for name in names), told))


def _made(build: Path) -> None:
    try:
        build.mkdir(parents=True)
    except OSError as error:
        raise GaussWorldError(
            f"could not make {build.parent}: {error.strerror}; choose another place"
        ) from error


def _moved(build: Path, out: Path) -> None:
    """Put a finished folder in its place; an older prediction goes only then."""
    old = out.with_name(f".{out.name}.{secrets.token_hex(4)}.old")
    try:
        if out.exists():
            os.replace(out, old)
        os.replace(build, out)
    except OSError as error:
        if old.exists() and not out.exists():
            os.replace(old, out)
        raise GaussWorldError(f"could not write {out}: {error.strerror}; choose another place") from error
    shutil.rmtree(old, ignore_errors=True)


def _facts(prediction: Prediction, model: str, seed: int) -> dict[str, Any]:
    question = prediction.question
    return {
        "made_by": f"{MADE_BY} {__version__}",
        "world": world_facts(question.world, question.source),
        "model": model,
        "seed": seed,
        "objects": [{"id": item.id, "name": item.name} for item in question.world.objects.values()],
        "tools": [tool_record(tool) for tool in question.tools],
    }


def _scene(prediction: Prediction, path: Path, posed: Posed | None) -> str | None:
    """Write the 4D world; why not, where usd-core is missing."""
    world, rollout = prediction.question.world, prediction.rollout
    posed = posed or world.posed
    shapes = object_shapes(world, rollout.states, posed)
    staged, moving = rollout_with_props(world, rollout, prediction.question.tools)
    try:
        with one_torch_thread():
            write_rollout(staged, moving, path, shapes=shapes)
    except MissingDependency as error:
        return f"No 4D world is written: {error}"
    return None


def check_cameras(world: World, show: ShowConfig) -> None:
    """Refuse cameras that a world has not.

    Raises:
        ConfigError: so it is.
    """
    for index in show.camera:
        if not 0 <= index < len(world.cameras):
            has = f"0 to {len(world.cameras) - 1}" if world.cameras else "none: leave --camera out"
            raise ConfigError(f"--camera: expected one of the world's cameras ({has}), got {index}")


def _cameras(
    prediction: Prediction, show: ShowConfig, posed: Posed | None
) -> tuple[tuple[int, ...], list[Camera]]:
    world, states = prediction.question.world, prediction.rollout.states
    check_cameras(world, show)
    chosen = show.camera
    if not chosen and recorded(prediction.question.episode):
        # The recording's own pictures are the truth that there is.
        chosen = (0,)
    if not chosen:
        width, height = asked_size(show.width, show.height, (640, 480), _LEAST)
        return (), [framing_camera(world, states, width, height, prediction.question.tools, posed)]
    cameras = []
    for index in chosen:
        camera = world.cameras[index]
        scale = min(1.0, 640 / max(camera.width, camera.height))
        own = (round(camera.width * scale), round(camera.height * scale))
        size = asked_size(show.width, show.height, own, _LEAST)
        cameras.append(camera.rescaled(*size))
    if len({(camera.width, camera.height) for camera in cameras}) > 1:
        raise ConfigError("--camera: expected cameras of one size, got several; add --width and --height")
    return chosen, cameras


def _video(
    prediction: Prediction, path: Path, cameras: list[Camera], indices: tuple[int, ...], posed: Posed | None
) -> Generator[Progress, None, None]:
    question, rollout = prediction.question, prediction.rollout
    stage = Stage(question.world, question.tools, posed)
    columns = [Column("prediction", [drawn(stage, rollout.states, camera) for camera in cameras])]
    if question.episode is not None:
        truth = truth_frames(question.episode, question.world, stage, cameras, indices)
        columns.append(Column("truth", truth))
    with one_torch_thread():
        yield from film(path, columns, rollout.dt, len(rollout.states))
