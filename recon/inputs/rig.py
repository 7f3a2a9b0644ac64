"""Calibrated rigs to `Capture`: what synchronised videos or pictures of known cameras show at a moment."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError
from gaussworld.io.images import image_size, write_image
from gaussworld.io.video import read_video
from gaussworld.pose import OPENGL_FROM_OPENCV

from . import rig_files
from .axes import agreement, meeting
from .rig_files import AXES, Member

logger = logging.getLogger(__name__)

#: [s] how far from a video's frames a moment may lie, and how far apart pictures of one moment may be taken.
_BEYOND, _APART = 0.5, 0.05
#: [s] times that start later than this count from some clock's epoch, not from the begin of the capture.
_EPOCH = 1e6


def read_rig(folder: Path, frames_folder: Path, at: float = 0.0) -> Capture:
    """The pictures that a calibrated rig took nearest to one moment, written as PNG, with their cameras [m].

    Timestamps in the files beat those of the video containers. Axes that no file states are found out.

    Args:
        folder: holds `rig.json`, or `cameras.json` and `videos/*.json` (docs/formats.md, "Rig").
        frames_folder: gets `<camera>.png` for every video.
        at: the moment, on the clock of the timestamps [s].

    Raises:
        CaptureError: no rig, fewer than two cameras, a moment outside a video, or axes that cannot be told.
        FileFormatError: a malformed file.
    """
    file = rig_files.find(folder)
    if file is None:
        raise CaptureError(
            f"{folder}: expected a rig.json, or a cameras.json beside videos/*.json, got neither;"
            " check the path"
        )
    axes, members = rig_files.read(file)
    if len(members) < 2:
        raise CaptureError(
            f"{file}: expected at least 2 cameras, got {len(members)}; of one moving camera give the video"
        )
    start = _start(members)
    frames = [_frame(member, frames_folder, at, start) for member in members]
    _warn_unless_together(file, [frame.time for frame in frames if frame.time is not None])
    if (axes or _found_axes(file, frames)) == "opengl":
        frames = [_turned(frame) for frame in frames]
    return Capture(tuple(frames), metres_per_unit=1.0)


def _start(members: Sequence[Member]) -> float:
    """What to take from all timestamps, so that they count from about the begin of the capture [s]."""
    first = min((member.times[0] for member in members if member.times), default=0.0)
    return first if first > _EPOCH else 0.0


def _frame(member: Member, frames_folder: Path, at: float, start: float) -> Frame:
    """The picture a camera took nearest to the moment, on disk, and when that was."""
    if not member.is_video:
        return Frame(member.camera(lambda: image_size(member.path)), member.path)
    time, pixels = _nearest_frame(member, at, start)
    if abs(time - at) > _BEYOND:
        raise CaptureError(
            f"{member.path}: expected a moment within the video, got {at:g} s, while its nearest frame is at"
            f" {time:.3f} s; choose another"
        )
    height, width, _ = pixels.shape
    camera, target = member.camera(lambda: (width, height)), frames_folder / f"{member.name}.png"
    write_image(target, pixels)
    return Frame(camera, target, time=time)


def _nearest_frame(member: Member, at: float, start: float) -> tuple[float, Float[Tensor, "h w 3"]]:
    """The time [s] and the pixels; stated timestamps are believed, else the container's."""
    if member.times is None:
        return _nearest_by_container(member.path, at)
    times = [time - start for time in member.times]
    index = min(range(len(times)), key=lambda i: abs(times[i] - at))
    for _, pixels in islice(read_video(member.path), index, None):
        return times[index], pixels
    raise CaptureError(
        f"{member.path}: expected {len(times)} frames, as many as it has timestamps, got at most {index};"
        " is it the right video?"
    )


def _nearest_by_container(path: Path, at: float) -> tuple[float, Float[Tensor, "h w 3"]]:
    frames = read_video(path)
    best = next(frames)
    for later in frames:
        if abs(later[0] - at) > abs(best[0] - at):
            break
        best = later
    return best


def _warn_unless_together(file: Path, times: Sequence[float]) -> None:
    if times and (apart := max(times) - min(times)) > _APART:
        logger.warning(
            "%s: the pictures were taken up to %.0f ms apart; what moves will blur", file, apart * 1000
        )


def _found_axes(file: Path, frames: Sequence[Frame]) -> str:
    """What the file does not state: by matches between the pictures, else by where the optical axes meet.

    Cameras that look outward in one convention look inward in the other. When the pictures have too little in
    common, the rig is taken to look at something, if its cameras then stand upright in a world whose z is up.
    """
    readings = {"opencv": lambda pose: pose, "opengl": lambda pose: pose @ OPENGL_FROM_OPENCV.to(pose)}
    if found := agreement(frames, readings).winner():
        logger.info("%s: %s axes, by matches between the pictures", file, found)
        return found
    cameras = [frame.camera for frame in frames]
    met = meeting(cameras)
    side = met.side() if met is not None else 0
    upright = _upright(cameras)
    if side == 0 or upright == -side:
        why = "meet neither ahead of all cameras nor behind them" if side == 0 else "and the upright disagree"
        raise CaptureError(
            f"{file}: expected camera axes that are stated or can be found out, got optical axes that {why};"
            ' write "axes": "opencv" or "axes": "opengl" into the file'
        )
    found = AXES[0] if side > 0 else AXES[1]
    reason = "and so the cameras stand upright" if upright else 'if wrong, write "axes" into the file'
    logger.log(
        logging.INFO if upright else logging.WARNING,
        "%s: %s axes, because the scene then lies in front of the cameras; %s", file, found, reason,
    )  # fmt: skip
    return found


def _upright(cameras: Sequence[Camera]) -> int:
    """1 when all cameras, as OpenCV's, have the world's +z up in their picture, -1 all down, 0 in between."""
    down = torch.stack([camera.world_from_camera[2, 1] for camera in cameras])
    return 1 if bool((down < -0.1).all()) else -1 if bool((down > 0.1).all()) else 0


def _turned(frame: Frame) -> Frame:
    pose = frame.camera.world_from_camera @ OPENGL_FROM_OPENCV
    return replace(frame, camera=replace(frame.camera, world_from_camera=pose))
