"""Drawing episodes: video, depth and ids of every camera at every moment, and a capture of the start."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.camera_record import camera_record
from gaussworld.capture import Capture, Frame
from gaussworld.io import save_cameras
from gaussworld.io.images import write_depth, write_image
from gaussworld.io.video import write_video

from .assemble import model_of
from .draw import Artist, SimView
from .episodes_config import EpisodesConfig
from .flex.body import place_flex
from .forms import coarser
from .motion import STEP
from .simulate import Recorded
from .trial import Trial, stream

#: Factor on the width of texels: frames of episodes are small.
COARSER = 2.5
_SHADOWS = 1024
"""[px] of the map of the lamp that throws shadows."""
_ELEVATIONS = (25.0, 62.0)
"""[deg]"""


def film(trial: Trial, recorded: Recorded, folder: Path, config: EpisodesConfig) -> list[dict[str, Any]]:
    """Draw every moment from every camera.

    Writes, for each camera, `rgb.mp4`, `depth/0000.png` ... [mm] and `ids/0000.png` ..., and into `start` the
    first moment of all cameras as a capture.

    Args:
        trial: what happened.
        recorded: how.
        folder: of the episode.
        config: how many cameras, and their pictures.

    Returns:
        The cameras' records, with names.

    Raises:
        BackendUnavailable: no off-screen OpenGL can be had.
    """
    views = cameras_of(trial, config)
    with coarser(COARSER):
        model = model_of(trial, drawn=True)
    model.vis.quality.shadowsize = _SHADOWS
    artist = Artist(trial.scene, config.width, config.height, model, trial.flexes)
    for flex in trial.flexes:
        place_flex(model, artist.data, flex)
    try:
        for i, camera in enumerate(views):
            place = folder / f"camera-{i}"
            frames = _drawn(artist, recorded, camera, place, folder / "start", i)
            write_video(place / "rgb.mp4", frames, 1 / STEP)
    finally:
        artist.close()
    save_cameras(_capture(views, folder / "start"), folder / "start" / "transforms.json")
    return [{"name": f"camera-{i}", **camera_record(camera)} for i, camera in enumerate(views)]


def cameras_of(trial: Trial, config: EpisodesConfig) -> list[Camera]:
    """Cameras around the table at random places; those of a cabinet are before it."""
    random = stream(trial.seed, 4)
    start, first = random.random(2)
    cameras = []
    for i in range(config.cameras):
        share = (i + start + random.uniform(-0.25, 0.25)) / config.cameras
        azimuth = 2 * math.pi * share
        if trial.front is not None:
            azimuth = math.radians(220) * (share % 1.0 - 0.5)
        low, high = _ELEVATIONS
        elevation = math.radians(low + (high - low) * ((first + i * 0.6180339887) % 1.0))
        distance = random.uniform(0.68, 0.9)
        target = random.uniform(-0.03, 0.03, 3) + (0.0, 0.0, 0.04 if trial.front is None else 0.08)
        across, up = distance * math.cos(elevation), distance * math.sin(elevation)
        eye = target + (across * math.cos(azimuth), across * math.sin(azimuth), up)
        cameras.append(
            Camera.looking_at(_rounded(eye), _rounded(target), config.width, config.height, config.fov_deg)
        )
    return cameras


def _drawn(
    artist: Artist, recorded: Recorded, camera: Camera, place: Path, start: Path, number: int
) -> Iterator[torch.Tensor]:
    """The colour pictures of a camera; depth and ids are written on the way."""
    for moment, qpos in enumerate(recorded.qpos):
        artist.show_positions(qpos)
        seen = artist.draw(camera)
        _write_png(place / "depth" / f"{moment:04d}.png", _millimetres(seen))
        _write_png(place / "ids" / f"{moment:04d}.png", seen.ids.numpy())
        if moment == 0:
            write_image(start / "images" / f"{number:04d}.png", seen.rgb)
            write_depth(start / "depth" / f"{number:04d}.png", seen.depth)
            _write_png(start / "ids" / f"{number:04d}.png", seen.ids.numpy())
        yield seen.rgb


def _millimetres(seen: SimView) -> np.ndarray:
    return (seen.depth.double().numpy() * 1000).round().clip(0, 65534)


def _write_png(path: Path, values: np.ndarray) -> None:
    """16 bits; the folder gets its name only when all of it is written, so that a file needs no care."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path, "PNG")


def _capture(cameras: list[Camera], start: Path) -> Capture:
    frames = (
        Frame(camera, start / "images" / f"{i:04d}.png", depth=start / "depth" / f"{i:04d}.png")
        for i, camera in enumerate(cameras)
    )
    return Capture(tuple(frames), metres_per_unit=1.0)


def _rounded(point: np.ndarray) -> tuple[float, float, float]:
    # So that a camera is the same on every machine.
    x, y, z = (float(round(value, 6)) for value in point)
    return x, y, z
