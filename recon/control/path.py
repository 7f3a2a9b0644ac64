"""Where the camera goes: a turn about the scene, the capture's own path, or the cameras of a file."""

from collections.abc import Sequence
from pathlib import Path

import torch

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.commands import Viewpoint, around, choose_camera
from gaussworld.errors import ConfigError
from gaussworld.io import holds_world, load_capture, load_world
from gaussworld.pose import pose_from, quats_from_rotation, rotation_from_quats, slerp_quats
from gaussworld.world import World

from ..tour import scene_tour


def camera_path(
    world: World, path: str, frames: int | None, width: int | None, height: int | None
) -> list[Camera]:
    """The cameras of a clip, all of one size.

    Args:
        world: what is looked at.
        path: turntable (a full turn about everything), tour (where the world's cameras were, in a loop),
            or a file or folder whose cameras are taken in order.
        frames: of the clip; default: 120, or as many as the file has cameras. Fewer or more than it has are
            spread evenly in between.
        width: [px] default: that of the cameras, at most 640; one side given, the other keeps the shape.
        height: [px]

    Raises:
        ConfigError: a world without cameras for a tour, or a size or number out of range.
        CaptureError: no cameras in the file.
    """
    for flag, value in (("--frames", frames), ("--width", width), ("--height", height)):
        if value is not None and value < 1:
            raise ConfigError(f"{flag}: expected at least 1, got {value}")
    if path == "turntable":
        cameras = _turntable(world, frames or 120)
    elif path == "tour":
        cameras = _tour(world, frames or 120)
    else:
        cameras = _of_file(Path(path))
        cameras = resampled(cameras, frames) if frames is not None else cameras
    return [camera.rescaled(*_size(cameras[0], width, height)) for camera in cameras]


def resampled(cameras: Sequence[Camera], frames: int) -> list[Camera]:
    """So many cameras evenly spread over a path: places in straight lines, directions by slerp."""
    if len(cameras) == 1 or frames == 1:
        return [cameras[0]] * frames
    found = []
    for i in range(frames):
        at = i * (len(cameras) - 1) / (frames - 1)
        left = min(int(at), len(cameras) - 2)
        a, b, share = cameras[left], cameras[left + 1], at - left
        pose_a, pose_b = a.world_from_camera, b.world_from_camera
        quats = [quats_from_rotation(pose[:3, :3]) for pose in (pose_a, pose_b)]
        turn = rotation_from_quats(slerp_quats(quats[0], quats[1], share))
        middle = torch.lerp(pose_a[:3, 3], pose_b[:3, 3], share)
        K = torch.lerp(a.K, b.rescaled(a.width, a.height).K, share)
        found.append(Camera(pose_from(turn, middle), K, a.width, a.height))
    return found


def _turntable(world: World, frames: int) -> list[Camera]:
    up = torch.tensor(world.up or (0.0, 0.0, 1.0))
    camera, pivot = choose_camera(Viewpoint(), world.shown(), up)
    return around(camera, pivot, up, frames)


def _tour(world: World, frames: int) -> list[Camera]:
    if not world.cameras:
        raise ConfigError(
            "--path tour: expected a world with cameras, got one without; take --path turntable"
        )
    capture = Capture(tuple(Frame(camera, Path(f"camera {i}")) for i, camera in enumerate(world.cameras)))
    return scene_tour(capture, world.shown(), torch.tensor(world.up or (0.0, 0.0, 1.0)), frames)


def _of_file(path: Path) -> list[Camera]:
    if not path.exists():
        raise ConfigError(
            f"--path: expected turntable, tour, or something with cameras, got {path}, which does not exist"
        )
    if path.is_dir() and holds_world(path):
        cameras = list(load_world(path).cameras)
    else:
        cameras = [frame.camera for frame in load_capture(path, need_pictures=False).frames]
    if not cameras:
        raise ConfigError(f"--path: expected cameras, got {path}, which has none")
    return [camera.to("cpu").undistorted() for camera in cameras]


def _size(camera: Camera, width: int | None, height: int | None) -> tuple[int, int]:
    """Even, for codecs."""
    scale = min(1.0, 640 / max(camera.width, camera.height))
    if width is None and height is None:
        width, height = round(camera.width * scale), round(camera.height * scale)
    elif width is None:
        assert height is not None
        width = round(height * camera.width / camera.height)
    elif height is None:
        height = round(width * camera.height / camera.width)
    return max(2, 2 * round(width / 2)), max(2, 2 * round(height / 2))
