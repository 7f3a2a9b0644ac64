"""Pictures of an episode: out of video files that it shares with others, or out of its rows."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import FileFormatError
from gaussworld.io.video import read_frames

from .dataset import Dataset, Recording
from .rows import read_images


def pictures(
    dataset: Dataset, recording: Recording, name: str, times: np.ndarray
) -> Iterator[Float[Tensor, "h w 3"]]:
    """What a camera saw at some of an episode's rows.

    Args:
        dataset: where it is.
        recording: the episode.
        name: a feature of dtype video or image.
        times: [s] of the wanted rows since the episode's beginning, rising.

    Raises:
        FileFormatError: a video is missing or damaged, or has no frame at one of the times.
        MissingDependency: PyAV or pyarrow is not installed.
    """
    if dataset.features[name].dtype == "image":
        wanted = set(np.rint(times * dataset.fps).astype(int).tolist())
        for row, encoded in enumerate(read_images(dataset, recording, name)):
            if row in wanted:
                yield _decoded(encoded, recording.data)
        return
    path, start = recording.videos[name]
    if not path.is_file():
        raise FileFormatError(
            f"{path}: expected the video of {name}, got no such file; copy the whole dataset"
        )
    there = _frame_times(path)
    nearest = there[np.abs(there[None] - (start + times)[:, None]).argmin(1)]
    off = np.abs(nearest - start - times)
    if off.max() > 0.5 / dataset.fps:
        late = int(off.argmax())
        raise FileFormatError(
            f"{path}: expected a frame at {start + times[late]:.3f} s for episode {recording.index},"
            f" got the nearest at {nearest[late]:.3f} s; copy the dataset again"
        )
    yield from read_frames(path, nearest.tolist())


def _frame_times(path: Path) -> np.ndarray:
    """[s] of all frames as the container states them, without decoding."""
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            ticks = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
            times = sorted(float(tick * stream.time_base) for tick in ticks)  # pyright: ignore
    except (av.FFmpegError, OSError, IndexError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise FileFormatError(
            f"{path}: expected a video, got one that cannot be read: {error!s:.80}"
        ) from error
    if not times:
        raise FileFormatError(f"{path}: expected frames with times, got none; encode the video again")
    return np.array(times)


def _decoded(encoded: bytes, path: Path) -> Float[Tensor, "h w 3"]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{path}: expected pictures, got one that cannot be read: {error!s:.80}"
        ) from error
    return torch.from_numpy(pixels.astype(np.float32) / 255)
