"""What a path holds - pictures, video, a capture with known cameras - and the capture, read and checked."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError
from gaussworld.io import colmap, llff, load_capture, rgbd, transforms
from gaussworld.io.lookup import USUAL_FOLDERS

from . import axes, rig_files
from .color_focal import with_color_focal
from .no_inputs import ACCEPTED, UNDECODED, contents, visible, what_it_is
from .rig import read_rig
from .rig_files import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MIN_PICTURES = 3


class InputKind(Enum):
    """What a source is; the value is the noun for people."""

    IMAGES = "folder of pictures"
    VIDEO = "video"
    COLMAP = "COLMAP model"
    TRANSFORMS = "transforms.json"
    RGBD = "RGB-D folder"
    RIG = "calibrated rig"
    LLFF = "poses_bounds.npy"

    @property
    def has_cameras(self) -> bool:
        return self not in (InputKind.IMAGES, InputKind.VIDEO)


@dataclass(frozen=True)
class Source:
    """An input that was recognised."""

    kind: InputKind
    path: Path
    """What was given, or the folder that holds all of it."""
    images: tuple[Path, ...] = ()
    """The pictures of IMAGES, in the order of their names."""
    videos: tuple[Path, ...] = ()
    """The files of VIDEO."""


def sniff(path: Path | Sequence[Path]) -> Source:
    """What an input is; known cameras win over the pictures beside them.

    Args:
        path: a file, a folder, or several videos or several pictures.

    Raises:
        CaptureError: nothing that can be reconstructed from is there; the message says what is.
    """
    if isinstance(path, Path):
        if not path.exists():
            raise CaptureError(f"{path}: expected {ACCEPTED}, got no such path; check its spelling")
        try:
            return _sniff_file(path) if path.is_file() else _sniff_folder(path)
        except OSError as error:
            raise CaptureError(f"{path}: expected a readable path, got: {error.strerror or error}") from error
    paths = [Path(each) for each in path]
    if len(paths) == 1:
        return sniff(paths[0])
    for each in paths:
        if not each.exists():
            raise CaptureError(f"{each}: expected a video or a picture, got no such path; check its spelling")
    if paths and all(map(_is_video, paths)):
        return Source(InputKind.VIDEO, paths[0].parent, videos=tuple(paths))
    if paths and all(each.is_file() and each.suffix.lower() in PICTURE_SUFFIXES for each in paths):
        return _images(paths[0].parent, paths)
    raise CaptureError(
        f"expected one path, or several videos, or several pictures, got {len(paths)} paths of another kind"
        f" ({', '.join(path.name for path in paths[:3])}); give one folder"
    )


def read_posed(source: Source, frames_folder: Path, at: float = 0.0) -> Capture:
    """Read a source whose cameras are known; `check_capture` then tells whether they can be true.

    Args:
        source: of a kind that `has_cameras`.
        frames_folder: gets the pictures that are taken out of a rig's videos.
        at: [s] the moment at which a rig is looked at.

    Raises:
        ValueError: the source has no cameras.
        CaptureError: the capture cannot be used.
        FileFormatError: a malformed file.
    """
    if not source.kind.has_cameras:
        raise ValueError(f"read_posed: expected a source with cameras, got {source.kind.value}")
    if source.kind is InputKind.RIG:
        return read_rig(source.path, frames_folder, at)
    capture = load_capture(source.path)
    return with_color_focal(capture) if source.kind is InputKind.RGBD else capture


def check_capture(capture: Capture) -> Capture:
    """Refuse cameras that certainly do not look at the scene, and warn of single ones that see none of it.

    Points must be in view. Where they are not, or there are none, matches between pictures must not fit
    another reading of the poses far better.

    Raises:
        CaptureError: no frames, or poses in other axes or of the other direction than was taken for granted.
    """
    if not capture.frames:
        raise CaptureError("expected a capture with at least one frame, got none")
    cameras = [frame.camera for frame in capture.frames]
    seen = axes.points_in_view(cameras, capture.points) if len(capture.points) else {}
    totals = {name: int(counts.sum()) for name, counts in seen.items()}
    most = max(totals.values(), default=0)
    if totals and not most:
        raise CaptureError(
            f"expected points in front of the cameras, got none of {len(capture.points)} in view of any of"
            f" {len(cameras)} cameras; are points and cameras in the same frame and unit?"
        )
    if not totals or totals[axes.AS_READ] < most / 2:
        _check_pictures(capture.frames)
    if totals and totals[axes.AS_READ] < 0.01 * most:
        likely = next(name for name in axes.READINGS if totals[name] >= most / 2)
        raise CaptureError(
            f"expected points in front of the cameras, got {totals[axes.AS_READ]} in view of all"
            f" {len(cameras)} of them together, and {totals[likely]} if the poses {axes.ADVICE[likely]}"
        )
    if totals:
        _warn_of_blind(capture.frames, seen[axes.AS_READ])
    return capture


def _sniff_file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if rig_files.find(path):
        return Source(InputKind.RIG, path)
    if suffix == ".json":
        return Source(InputKind.TRANSFORMS, path)
    if suffix in VIDEO_SUFFIXES:
        return Source(InputKind.VIDEO, path, videos=(path,))
    for kind, find in (
        (InputKind.COLMAP, colmap.find),
        (InputKind.RGBD, rgbd.find),
        (InputKind.LLFF, llff.find),
    ):
        if find(path):
            return Source(kind, path)
    if suffix in PICTURE_SUFFIXES:
        return _images(path.parent, [path])
    raise CaptureError(f"{path}: {what_it_is(path)}")


def _sniff_folder(folder: Path) -> Source:
    for kind, find in (
        (InputKind.TRANSFORMS, transforms.find),
        (InputKind.COLMAP, colmap.find),
        (InputKind.RGBD, rgbd.find),
        (InputKind.LLFF, llff.find),
        (InputKind.RIG, rig_files.find),
    ):
        if find(folder):
            return Source(kind, folder)
    videos = sorted(path for path in visible(folder) if _is_video(path))
    pictures = _pictures_below(folder)
    # Telephones put a short video beside every photograph.
    if videos and len(pictures) < MIN_PICTURES:
        return Source(InputKind.VIDEO, folder, videos=tuple(videos))
    if not pictures:
        raise CaptureError(f"{folder}: expected {ACCEPTED}, got {contents(folder)}")
    return _images(folder, pictures)


def _images(folder: Path, pictures: Sequence[Path]) -> Source:
    if len(pictures) < MIN_PICTURES:
        raise CaptureError(
            f"{pictures[0] if len(pictures) == 1 else folder}: expected at least {MIN_PICTURES} pictures from"
            f" different places, got {len(pictures)}; walk around the scene and take more"
        )
    return Source(InputKind.IMAGES, folder, images=tuple(sorted(pictures)))


def _pictures_below(folder: Path) -> list[Path]:
    """The pictures in a folder, else in a usual folder in it, else in the only one in it with pictures."""
    for place in (folder, *(folder / name for name in USUAL_FOLDERS)):
        if found := _pictures_in(place):
            return found
    # A folder for each camera of a rig, or for each day.
    for name in USUAL_FOLDERS:
        if found := [path for below in _folders(folder / name) for path in _pictures_in(below)]:
            return found
    groups = [found for below in _folders(folder) if (found := _pictures_in(below))]
    if len(groups) > 1:
        raise CaptureError(
            f"{folder}: expected one folder of pictures, got {len(groups)}"
            f" ({', '.join(group[0].parent.name for group in groups[:4])}); name the one to use"
        )
    return groups[0] if groups else []


def _pictures_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    entries = visible(folder)
    pictures = sorted(path for path in entries if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    odd = sorted(path for path in entries if path.suffix.lower() in UNDECODED)
    needed = len(odd) >= MIN_PICTURES or not any(map(_is_video, entries))
    if odd and len(pictures) < MIN_PICTURES and needed:
        raise CaptureError(f"{odd[0]}: {what_it_is(odd[0])} ({len(odd)} of them are in this folder)")
    if odd:
        logger.warning(
            "%s (and %d more like it) is left out: it %s", odd[0], len(odd) - 1, what_it_is(odd[0])
        )
    return pictures


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in visible(folder) if path.is_dir()) if folder.is_dir() else []


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _warn_of_blind(frames: Sequence[Frame], counts: Int[Tensor, " n"]) -> None:
    blind = [frame.name for frame, count in zip(frames, counts.tolist()) if not count]
    if blind and float(counts.double().median()) >= 20:
        logger.warning(
            "%d of %d cameras have none of the scene's points in view; their poses may be wrong: %s",
            len(blind), len(counts), ", ".join(blind[:3]) + (", ..." if len(blind) > 3 else ""),
        )  # fmt: skip


def _check_pictures(frames: Sequence[Frame]) -> None:
    votes = axes.agreement(frames, axes.TELLING)
    found = votes.winner()
    if found not in (None, axes.AS_READ):
        raise CaptureError(
            f"expected poses that the pictures bear out, got {votes.fitting[axes.AS_READ]} of {votes.matches}"
            f" matches between pictures that fit them, while {votes.fitting[found]} do if the poses"
            f" {axes.ADVICE[found]}"
        )
