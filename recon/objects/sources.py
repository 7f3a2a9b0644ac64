"""Where the pictures of a world are: in its run folder or a capture, cameras in the world's frame."""

from dataclasses import replace
from pathlib import Path

import torch

from gaussworld.camera import Camera
from gaussworld.capture import Capture
from gaussworld.errors import CaptureError, ConfigError, FileFormatError
from gaussworld.io import holds_world, load_capture
from gaussworld.pose import pose_from
from gaussworld.world import World

from ..run import Run


def stored_world(path: Path) -> Path:
    """The stored world of a path: itself, or that of a run folder.

    Raises:
        ConfigError: there is none.
    """
    if holds_world(path):
        return path
    if holds_world(Run(path).world):
        return Run(path).world
    if path.exists():
        raise ConfigError(
            f"expected a stored world or a run folder that has one, got {path}; make one:"
            f" gaussworld world create NEW.world --from {path}"
        )
    raise ConfigError(f"expected a stored world or a run folder, got {path}, which does not exist")


def pictures_of(path: Path, world: World, capture: Path | None) -> Capture:
    """The pictures of a world with their cameras in its frame.

    Args:
        path: of the stored world, which may lie in the folder of its run.
        world: as it is now; it may have been turned and scaled since it was made.
        capture: where the pictures are; default: in that run.

    Raises:
        ConfigError: the world lies in no run, and no capture is named.
        CaptureError: the pictures cannot be found.
    """
    run = Run(path.resolve().parent)
    if capture is None and not run.cameras.is_file():
        raise ConfigError(
            f"masks belong to pictures, but {path} keeps only cameras; name the pictures it was made of with"
            " --capture PATH, or use --from geometry"
        )
    try:
        found = load_capture(capture or run.cameras)
    except FileFormatError as error:
        raise CaptureError(f"--capture: {error}") from error
    return _in_world(world, found)


def _in_world(world: World, capture: Capture) -> Capture:
    """The capture's cameras moved by what turns its frame into the world's."""
    new_from_old = world.world_from_source.double() @ torch.linalg.inv(capture.world_from_source.double())
    scale = float(torch.linalg.det(new_from_old[:3, :3]).abs()) ** (1 / 3)
    rotation, shift = (new_from_old[:3, :3] / scale).float(), new_from_old[:3, 3].float()

    def moved(camera: Camera) -> Camera:
        pose = camera.world_from_camera.float()
        return replace(
            camera,
            world_from_camera=pose_from(rotation @ pose[:3, :3], rotation @ pose[:3, 3] * scale + shift),
        )

    frames = tuple(replace(frame, camera=moved(frame.camera)) for frame in capture.frames)
    return replace(capture, frames=frames)
