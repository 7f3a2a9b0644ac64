"""New pictures of a known place: photographs, frames of a video, or a capture with poses as first guess."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, ConfigError, GaussWorldError
from gaussworld.io.images import image_size
from gaussworld.log import Notice, Progress, part
from gaussworld.pose import pose_from
from gaussworld.world import World

from ..frames import View, load_view
from ..inputs import InputKind, Source, read_posed, sniff
from ..inputs.photos import usable_photos
from ..inputs.video import choose_frames

_EXIF, _FOCAL_35 = 0x8769, 0xA405
#: Focal lengths to try, as multiples of the longer side, when nothing tells: wide telephone to portrait lens.
_FOCALS = (0.7, 0.85, 1.0, 1.2, 1.5)
_SAME_SHAPE = 0.02

T = TypeVar("T")
Steps = Generator[Progress | Notice, None, "Pictures"]


@dataclass(frozen=True, eq=False)
class Picture:
    """One new picture and what is known of the camera that took it."""

    name: str
    frame: Frame
    lenses: tuple[Camera, ...]
    """Cameras it may have been taken with, likeliest first; their poses mean nothing unless `posed`."""
    posed: bool = False

    def view(self, lens: Camera, longest: int) -> View:
        """Read it, without distortion, as taken with one of its lenses.

        Raises:
            GaussWorldError: the file cannot be read.
        """
        return load_view(replace(self.frame, camera=lens, depth=None), longest)


@dataclass(frozen=True)
class Pictures:
    """What was given."""

    all: tuple[Picture, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """Name and reason of each that cannot be used."""


def read_pictures(
    paths: Sequence[Path], world: World, scratch: Path, most: int, camera_like: int | None
) -> Steps:
    """Find the new pictures and the cameras they may be of.

    Args:
        paths: a folder, a video, pictures, or anything with cameras.
        world: whose cameras may have taken them too.
        scratch: a folder for frames of videos and for copies.
        most: at most so many pictures, evenly spread.
        camera_like: number of the world's camera that took them; None finds out.

    Raises:
        CaptureError: nothing there can be used.
        ConfigError: the world has no such camera.
    """
    if camera_like is not None and not 0 <= camera_like < len(world.cameras):
        raise ConfigError(
            f"--camera-like: expected one of the world's {len(world.cameras)} cameras, got {camera_like};"
            " they count from 0"
        )
    source = sniff(paths)
    if source.kind.has_cameras:
        return _posed(read_posed(source, scratch / "frames"), world, most)
    left_out: tuple[tuple[str, str], ...] = ()
    if source.kind is InputKind.VIDEO:
        chosen = yield from part(choose_frames(source.videos, scratch / "frames"), "Choosing frames")
        files: Sequence[Path] = chosen.images
    else:
        files, left_out = yield from _photographs(source, scratch)
    pictures = []
    for path in _spread(files, most):
        lenses = _lenses(path, world, camera_like)
        pictures.append(Picture(path.name, Frame(lenses[0], path), lenses))
    return Pictures(tuple(pictures), left_out)


def _photographs(
    source: Source, scratch: Path
) -> Generator[Progress | Notice, None, tuple[tuple[Path, ...], tuple[tuple[str, str], ...]]]:
    photos = yield from part(usable_photos(source.images, scratch / "photos"), "Looking at pictures")
    return photos.images, photos.left_out


def _posed(capture: Capture, world: World, most: int) -> Pictures:
    """A capture in the frame that its input came in, which often is the one that the world's came in."""
    frames = _spread(capture.frames, most)
    if not frames:
        raise CaptureError("expected a capture with at least one picture, got none")
    pictures = []
    for frame in frames:
        camera = _carried(frame.camera, world)
        pictures.append(Picture(frame.name, replace(frame, camera=camera), (camera,), posed=True))
    return Pictures(tuple(pictures))


def _carried(camera: Camera, world: World) -> Camera:
    """A camera in the world's source frame, in the world's."""
    similarity = world.world_from_source.to(camera.world_from_camera)
    scale = float(torch.linalg.det(similarity[:3, :3])) ** (1 / 3)
    pose = camera.world_from_camera
    moved = pose_from(
        similarity[:3, :3] / scale @ pose[:3, :3], similarity[:3, :3] @ pose[:3, 3] + similarity[:3, 3]
    )
    return replace(camera, world_from_camera=moved)


def _lenses(path: Path, world: World, camera_like: int | None) -> tuple[Camera, ...]:
    """What may have taken a photograph: the world's cameras, what EXIF says, or usual focal lengths.

    Raises:
        GaussWorldError: it is no picture.
    """
    width, height = image_size(path)
    if camera_like is not None:
        return (world.cameras[camera_like].rescaled(width, height),)
    # A camera of the same proportions is the same camera more often than not.
    alike: dict[tuple[float, ...], Camera] = {}
    for camera in world.cameras:
        if abs(camera.width / camera.height * height / width - 1) < _SAME_SHAPE:
            lens = camera.rescaled(width, height)
            key = (*(round(float(v) / width, 3) for v in lens.K[:2].flatten()), *lens.distortion)
            alike.setdefault(key, lens)
    told = _told_by_exif(path, width, height)
    found = [*list(alike.values())[:3], *([told] if told is not None else [])]
    if not found:
        found = [_lens(width, height, focal * max(width, height)) for focal in _FOCALS]
    return tuple(found)


def _told_by_exif(path: Path, width: int, height: int) -> Camera | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            focal = float(picture.getexif().get_ifd(_EXIF).get(_FOCAL_35, 0))
    except (OSError, ValueError, TypeError, GaussWorldError):
        return None
    # 35 mm film is 36 mm wide.
    return (
        _lens(width, height, focal / 36 * max(width, height)) if math.isfinite(focal) and focal > 0 else None
    )


def _lens(width: int, height: int, focal: float) -> Camera:
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Camera(torch.eye(4), K, width, height, CameraModel.PINHOLE)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly spread."""
    count = len(items)
    return list(items) if count <= most else [items[i * count // most] for i in range(most)]
