"""Reading a capture's pictures into views: side by side, with progress, leaving out what cannot be read."""

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gaussworld.camera import CameraModel
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, FileFormatError, GaussWorldError
from gaussworld.log import Done, Event, Notice, Progress
from gaussworld.threads import one_torch_thread

from .fit import TrainConfig
from .frames import View, load_view
from .memory import available_memory

_MOST_THREADS = 8
#: [bytes] One row of Gaussians of degree 3.
_ROW = 59 * 4
#: [bytes] Parameters, gradients, two moments and the rasterizer's workspace of one Gaussian.
_PER_GAUSSIAN = 4 * _ROW + 600
#: [bytes] What a checkpoint takes while it is written: parameters and moments as copies, as bytes, as a file.
_PER_GAUSSIAN_SAVED = 9 * _ROW
#: [bytes] What a twin takes on which corrections of poses are tried.
_PER_GAUSSIAN_TRIED = 4 * _ROW
#: [bytes] What torch, the rasterizer's buffers of a picture and the rest take.
_OVERHEAD = 600 << 20
_PER_PIXEL_IN_WORK = 200
#: [bytes] At most, of each pixel in a file while it is decoded; of each that is left after the first
#: shrinking, without and with a lens to straighten; of each whose depth another camera measured.
_DECODED, _FINISHED, _STRAIGHTENED, _CARRIED_OVER = 44, 54, 120, 60


def read_views(
    frames: Sequence[Frame], longest: int, metres_per_unit: float | None
) -> Iterator[Event[list[View | None]]]:
    """Views of frames, in their order; None, with a `Notice`, for those whose files are damaged.

    Args:
        frames: what to read.
        longest: [px] longer side of the views at most; 0 keeps the pictures' size.
        metres_per_unit: [m] unit of the poses.
    """

    def loaded(frame: Frame) -> View | GaussWorldError:
        try:
            return load_view(frame, longest, metres_per_unit)
        except (FileFormatError, CaptureError) as error:
            return error

    views: list[View | None] = []
    with one_torch_thread(), ThreadPoolExecutor(decoding_threads(frames, longest)) as pool:
        for view in pool.map(loaded, frames):
            if not isinstance(view, View):
                yield Notice(f"Left out: {view}.")
            views.append(view if isinstance(view, View) else None)
            yield Progress(len(views), len(frames))
    yield Done(views)


def check_budget(frames: Sequence[Frame], config: TrainConfig, folder: Path) -> None:
    """Refuse, before any work, what will not fit in memory or on the disk.

    Raises:
        CaptureError: less memory or disk is free than training will take.
    """
    needed, free = memory_needed(frames, config), available_memory()
    if free is not None and needed > free:
        raise CaptureError(
            f"expected {needed / 1e9:.1f} GB of free memory for {len(frames)} pictures and"
            f" {config.max_gaussians:,} Gaussians, got {free / 1e9:.1f} GB; lower --resolution or"
            " --max-gaussians"
        )
    # A checkpoint with its moments, written beside the old one, the scene, and small files.
    on_disk = config.max_gaussians * 59 * 4 * 7 + (50 << 20)
    room = shutil.disk_usage(folder).free
    if on_disk > room:
        raise CaptureError(
            f"expected {on_disk / 1e9:.1f} GB of free disk for the run in {folder}, got {room / 1e9:.1f} GB;"
            " make room, lower --max-gaussians, or name another folder"
        )


def memory_needed(frames: Sequence[Frame], config: TrainConfig) -> int:
    """[bytes] An estimate of what a run takes at its peak: while it reads, or while it trains and saves."""
    kept = _kept(frames, config.resolution)
    threads = decoding_threads(frames, config.resolution)
    reading = kept + decoding_memory(frames, config.resolution, threads)
    pyramid = 4 / 3 if config.coarse > 1 and config.coarse_until > 0 else 1
    largest = max((width * height for width, height in _sizes(frames, config.resolution)), default=0)
    each = _PER_GAUSSIAN + _PER_GAUSSIAN_SAVED + (_PER_GAUSSIAN_TRIED if config.refine_poses else 0)
    training = kept * pyramid + largest * _PER_PIXEL_IN_WORK + config.max_gaussians * each
    return round(max(reading, training)) + _OVERHEAD


def decoding_threads(frames: Sequence[Frame], longest: int) -> int:
    """How many pictures are read side by side: as many as there are cores and there is memory for."""
    most, free = max(1, min(_MOST_THREADS, os.cpu_count() or 1)), available_memory()
    if free is None:
        return most
    room = free - _OVERHEAD - _kept(frames, longest)
    fitting = (n for n in range(most, 1, -1) if decoding_memory(frames, longest, n) <= room)
    return next(fitting, 1)


def decoding_memory(frames: Sequence[Frame], longest: int, threads: int) -> int:
    """[bytes] Buffers of so many threads if each reads one of the largest pictures."""
    return sum(sorted((_buffers(frame, longest) for frame in frames), reverse=True)[:threads])


def _buffers(frame: Frame, longest: int) -> int:
    """[bytes] What reading one picture takes before its view is ready."""
    camera = frame.camera
    pixels = camera.width * camera.height
    factor = max(1, max(camera.width, camera.height) // (2 * longest)) if longest > 0 else 1
    each = _FINISHED if camera.model is CameraModel.PINHOLE else _STRAIGHTENED
    each += _CARRIED_OVER if frame.depth_camera is not None else 0
    return max(_DECODED * pixels, each * pixels // factor**2)


def _kept(frames: Sequence[Frame], longest: int) -> int:
    """[bytes] of the views: colours, mask and depth."""
    return sum(
        width * height * (3 + (frame.mask is not None) + 4 * (frame.depth is not None))
        for (width, height), frame in zip(_sizes(frames, longest), frames)
    )


def _sizes(frames: Sequence[Frame], longest: int) -> list[tuple[int, int]]:
    """[px] of the views."""
    sizes = [(frame.camera.width, frame.camera.height) for frame in frames]
    scales = [min(1.0, longest / max(size)) if longest > 0 else 1.0 for size in sizes]
    return [(round(w * scale), round(h * scale)) for (w, h), scale in zip(sizes, scales)]
