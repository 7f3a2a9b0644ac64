"""Training inside a run folder: checkpoints, metrics, and a stop at any moment that leaves all whole."""

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import torch

from gaussworld.config import toml_from_config
from gaussworld.errors import ConfigError, GaussWorldError
from gaussworld.io import save
from gaussworld.io.atomic import replacing
from gaussworld.log import Done, Notice, Progress

from .checkpoint import load_checkpoint, save_checkpoint
from .fit import Fit, TrainConfig, start
from .frames import View
from .place import Placed
from .run import Clock, Run
from .trainer import train

_SECONDS_BETWEEN_CHECKPOINTS = 30.0


def trained(
    run: Run,
    placed: Placed,
    views: Sequence[View],
    judges: Sequence[View],
    config: TrainConfig,
    device: torch.device,
    clock: Clock,
) -> Generator[Progress | Notice, None, Fit]:
    """Train, or go on training from the run's checkpoint, and save Gaussians and state at the end.

    Closed at an event, it leaves the Gaussians so far and a checkpoint; killed, those of half a minute ago.
    """
    yield Progress(0, config.steps, stage="Training", message="placing Gaussians")
    state = None
    if run.checkpoint.exists():
        state, begun_with = load_checkpoint(run.checkpoint)
        if begun_with != fingerprint(placed, config):
            raise ConfigError(
                f"{run.folder}: expected the pictures, cameras and splits that its checkpoint was made with,"
                " got others; add --no-resume to train anew"
            )
        _forget_after(run, int(state["counts"][0]))
    judges = [view.to(device) for view in judges]
    fit = start(views, placed.capture.points, placed.capture.colors, config, device, state)
    if state is not None:
        yield Notice(f"Going on with the run in {run.folder} at step {fit.step:,}.")
    saved = time.monotonic()
    try:
        for event in train(placed.capture, resume=fit, judges=judges):
            if isinstance(event, Done):
                break
            if isinstance(event, Progress):
                event = replace(event, stage="Training")
                if event.values:
                    _record(run, event)
            yield event
            if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                save_fit(run, fit, placed)
                clock.enter("training")
                saved = time.monotonic()
    except GeneratorExit:
        save_fit(run, fit, placed)
        raise
    save_fit(run, fit, placed)
    return fit


def save_fit(run: Run, fit: Fit, placed: Placed) -> None:
    """Write the Gaussians as they are, and what is needed to go on."""
    up = None if placed.up is None else placed.up.direction
    save(fit.gaussians.to("cpu"), run.scene, up=up, metres_per_unit=placed.capture.metres_per_unit)
    save_checkpoint(run.checkpoint, fit.state(), fingerprint(placed, fit.config))


def fingerprint(placed: Placed, config: TrainConfig) -> str:
    """Settings and a digest of names, splits and cameras: what a checkpoint's numbers refer to."""
    digest = hashlib.sha256()
    for frame in placed.capture.frames:
        digest.update(f"{frame.name} {frame.split} ".encode("utf-8", "backslashreplace"))
        digest.update(frame.camera.world_from_camera.cpu().numpy().tobytes())
        digest.update(frame.camera.K.cpu().numpy().tobytes())
    return f"{toml_from_config(config)}# capture {digest.hexdigest()}\n"


def _record(run: Run, event: Progress) -> None:
    try:
        with run.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": event.step, **event.values}) + "\n")
    except OSError as error:
        raise GaussWorldError(
            f"could not write {run.metrics}: {error.strerror or error}; make room"
        ) from error


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last one that was cut off by a kill is passed over."""
    if not run.metrics.exists():
        return []
    rows = []
    for line in run.metrics.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _forget_after(run: Run, step: int) -> None:
    """Drop what a killed run measured after its last checkpoint: those steps are done again."""
    rows = [row for row in read_metrics(run) if row["step"] <= step]
    with replacing(run.metrics) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
