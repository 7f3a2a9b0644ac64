"""Reading a capture's pictures into views: side by side, with progress, leaving out what cannot be read."""

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, FileFormatError, GaussWorldError
from gaussworld.log import Done, Event, Notice, Progress

from .fit import TrainConfig
from .frames import View, load_view
from .memory import available_memory
from .threads import one_torch_thread

#: [bytes] Parameters, gradients, two moments and the rasterizer's workspace of one Gaussian of degree 3.
_PER_GAUSSIAN = 59 * 4 * 4 + 600
#: [bytes] What torch, the rasterizer's buffers of a picture and the rest take.
_OVERHEAD = 600 << 20
_PER_PIXEL_IN_WORK = 200


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
    workers = max(1, min(8, os.cpu_count() or 1))
    with one_torch_thread(), ThreadPoolExecutor(workers) as pool:
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
    """[bytes] An estimate of what training will take at its peak."""
    sizes = [_size(frame, config.resolution) for frame in frames]
    kept = sum(w * h * (3 + 4 * (frame.depth is not None)) for (w, h), frame in zip(sizes, frames))
    largest = max(chain((w * h for w, h in sizes), [0]))
    pyramid = 4 / 3 if config.coarse > 1 and config.coarse_until > 0 else 1
    return round(
        kept * pyramid + largest * _PER_PIXEL_IN_WORK + config.max_gaussians * _PER_GAUSSIAN + _OVERHEAD
    )


def _size(frame: Frame, longest: int) -> tuple[int, int]:
    width, height = frame.camera.width, frame.camera.height
    scale = min(1.0, longest / max(width, height)) if longest > 0 else 1.0
    return round(width * scale), round(height * scale)
