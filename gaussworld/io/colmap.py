"""COLMAP sparse models, binary and text, to `Capture` and back."""

import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..capture import Capture, Frame
from ..errors import CaptureError, FileFormatError, GaussWorldError
from ..pose import invert_pose, pose_from, quats_from_rotation, rotation_from_quats
from . import colmap_binary, colmap_text
from .colmap_lens import camera_from, parameters_from
from .colmap_model import CameraRow, ImageRow, Points
from .lookup import USUAL_FOLDERS, find_listed, warn_missing

logger = logging.getLogger(__name__)

_FORMS = ((".bin", colmap_binary), (".txt", colmap_text))
_MODEL_FOLDERS = ("", "sparse", "colmap/sparse", "dense/sparse", "dense/0/sparse")


def find(path: Path) -> Path | None:
    """The folder of the model that `path` is, belongs to or holds; the largest where there are several."""
    if path.is_file():
        return (
            path.parent if path.stem in ("cameras", "images", "points3D") and _suffix(path.parent) else None
        )
    for name in _MODEL_FOLDERS:
        if _suffix(path / name):
            return path / name
        if pieces := _pieces(path / name):
            return pieces[0]
    return None


def _pieces(folder: Path) -> list[Path]:
    """Numbered models, the largest first; the mapper writes one for each piece that no other connected to."""
    return sorted((piece for piece in folder.glob("[0-9]*") if _suffix(piece)), key=_size, reverse=True)


def _suffix(folder: Path) -> str | None:
    """ ".bin" or ".txt", whichever the folder has cameras and images in."""
    for suffix, _ in _FORMS:
        if all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
            return suffix
    return None


def _size(folder: Path) -> int:
    return (folder / f"images{_suffix(folder)}").stat().st_size


def read(path: Path, images: Path | None = None, need_pictures: bool = True) -> Capture:
    """Read the registered pictures that exist, ordered by name; the others are named in one warning.

    Rigs and frames (COLMAP 4) need not be read: the images file holds every picture's own pose.

    Args:
        path: the model's folder, a file in it, or a folder above it.
        images: where the pictures are; by default `images/` and its like beside or above the model.
        need_pictures: else all images are read, and absent pictures get the paths they should have.

    Raises:
        FileFormatError: a malformed file, or a lens we have no model for.
        CaptureError: no model, or none of its pictures exists.
    """
    folder = find(path)
    if folder is None:
        raise CaptureError(
            f"{path}: expected a COLMAP model, got no cameras.bin or cameras.txt; check the path"
        )
    if path.is_dir() and folder != path and len(pieces := _pieces(folder.parent)) > 1:
        logger.warning(
            "%s holds %d models; the largest, %s, is read", folder.parent, len(pieces), folder.name
        )
    suffix = _suffix(folder)
    form = dict(_FORMS)[suffix or ""]
    try:
        cameras = form.read_cameras(folder / f"cameras{suffix}")
        rows = sorted(form.read_images(folder / f"images{suffix}"), key=lambda row: row.name)
        points_file = folder / f"points3D{suffix}"
        points = form.read_points(points_file) if points_file.is_file() else None
    except OSError as error:
        raise FileFormatError(
            f"{folder}: expected a readable model, got: {error.strerror or error}"
        ) from error
    frames = _frames(folder, rows, cameras, _image_folders(folder, images), need_pictures)
    if points is None:
        return Capture(frames)
    _check_finite(points, points_file)
    positions, colors = torch.from_numpy(points.positions).float(), torch.from_numpy(points.colors.copy())
    return Capture(frames, positions, colors.float() / 255)


def _frames(
    folder: Path,
    rows: list[ImageRow],
    cameras: dict[int, CameraRow],
    image_folders: list[Path],
    need_pictures: bool,
) -> tuple[Frame, ...]:
    frames, missing = [], []
    for row in rows:
        try:
            camera = _camera(row, cameras)
        except ValueError as error:
            raise FileFormatError(f"{folder}: image {row.name!r}: {error}") from error
        image = find_listed(row.name, image_folders)
        if image is None and need_pictures:
            missing.append(row.name)
        else:
            frames.append(Frame(camera, image or image_folders[0] / row.name))
    if not frames:
        looked = ", ".join(str(place) for place in image_folders[:3])
        raise CaptureError(
            f"{folder}: expected the pictures of {len(rows)} registered images, got none on disk"
            f" (looked in {looked}, ...); put them into one of these folders"
        )
    warn_missing(folder, "pictures", missing, len(rows))
    return tuple(frames)


def _camera(row: ImageRow, cameras: dict[int, CameraRow]) -> Camera:
    if row.camera_id not in cameras:
        raise ValueError(f"expected a camera id among those of the cameras file, got {row.camera_id}")
    quaternion = torch.tensor(row.quaternion, dtype=torch.float64)
    if not bool(quaternion.any()):
        raise ValueError("expected a non-zero quaternion, got zeros")
    # In double precision until the pose is inverted: centres of far-away cameras would lose digits.
    camera_from_world = pose_from(
        rotation_from_quats(quaternion), torch.tensor(row.translation, dtype=torch.float64)
    )
    camera = cameras[row.camera_id]
    world_from_camera = invert_pose(camera_from_world).float()
    return camera_from(camera.lens, camera.width, camera.height, camera.parameters, world_from_camera)


def _image_folders(model: Path, images: Path | None) -> list[Path]:
    if images is not None:
        return [images]
    roots = [model, *model.resolve().parents[:3]]
    return [root / name for root in roots for name in USUAL_FOLDERS] + roots


def _check_finite(points: Points, path: Path) -> None:
    bad = ~np.isfinite(points.positions).all(axis=1)
    if bad.any():
        raise FileFormatError(f"{path}: expected finite positions, got otherwise in row {int(bad.argmax())}")


def write(capture: Capture, folder: Path, text: bool = False, images: Path | None = None) -> None:
    """Write a capture as a model without observations, binary unless `text`; equal intrinsics share a camera.

    Args:
        capture: what to write; the model has no place for splits, times, masks, depth and the unit.
        folder: becomes the model's folder.
        text: write text files instead of binary ones.
        images: the folder that names are relative to; by default the innermost that holds all pictures.

    Raises:
        ValueError: no frames, or pictures in memory only.
        GaussWorldError: the file system refuses, or the folder holds parts of another model, which would mix.
    """
    names = _names(capture, images)
    suffix, form = _FORMS[1 if text else 0]
    _refuse_mixture(folder, suffix)
    ids: dict[CameraRow, int] = {}
    rows = []
    for frame, name in zip(capture.frames, names):
        lens, parameters = parameters_from(frame.camera)
        camera = CameraRow(lens, frame.camera.width, frame.camera.height, parameters)
        camera_from_world = invert_pose(frame.camera.world_from_camera.detach().cpu().double())
        quaternion = tuple(quats_from_rotation(camera_from_world[:3, :3]).tolist())
        translation = tuple(camera_from_world[:3, 3].tolist())
        rows.append(ImageRow(name, ids.setdefault(camera, len(ids) + 1), quaternion, translation))
    colors = (capture.colors.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    points = Points(capture.points.detach().cpu().double().numpy(), colors)
    form.write_points(folder / f"points3D{suffix}", points)
    form.write_images(folder / f"images{suffix}", rows)
    form.write_cameras(folder / f"cameras{suffix}", {number: camera for camera, number in ids.items()})


def _refuse_mixture(folder: Path, suffix: str) -> None:
    """Rigs and frames, and files of the other form, would be read together with ours."""
    ours = {f"{name}{suffix}" for name in ("cameras", "images", "points3D")}
    names = [
        f"{name}{end}" for name in ("cameras", "images", "points3D", "rigs", "frames") for end, _ in _FORMS
    ]
    if found := [name for name in names if name not in ours and (folder / name).exists()]:
        raise GaussWorldError(
            f"{folder}: expected no other model there, got its {found[0]}; choose an empty folder"
        )


def _names(capture: Capture, images: Path | None) -> list[str]:
    if not capture.frames:
        raise ValueError("expected a capture with at least one frame, got none")
    paths = []
    for frame in capture.frames:
        if isinstance(frame.image, Tensor):
            raise ValueError("expected pictures on disk, got one in memory; write it with write_image first")
        paths.append(frame.image.absolute())
    root = images.absolute() if images else Path(os.path.commonpath([path.parent for path in paths]))
    if outside := [path for path in paths if not path.is_relative_to(root)]:
        raise ValueError(f"expected all pictures below {root}, got {outside[0]}")
    return [path.relative_to(root).as_posix() for path in paths]
