"""Video files: H.264 in MP4 out, anything PyAV decodes in, with the container's own timestamps."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError, MissingDependency
from .atomic import replacing


def write_video(path: Path | str, frames: Iterable[Float[Tensor, "_ _ 3"]], fps: float) -> None:
    """Encode frames in [0, 1] as H.264 (yuv420p) MP4, one by one; odd sizes grow by a repeated row or column.

    The file appears under its name only when it is whole.

    Raises:
        ValueError: no frames, frames of different sizes, or a rate that is not positive.
        MissingDependency: PyAV is not installed.
    """
    if not fps > 0:
        raise ValueError(f"write_video: expected a positive number of frames per second, got {fps}")
    with replacing(Path(path)) as file:
        _encode(file, frames, fps)


def read_video(path: Path | str) -> Iterator[tuple[float, Float[Tensor, "h w 3"]]]:
    """Decode a video: the time [s] of each frame by the container's timestamps, and its pixels in [0, 1].

    Raises:
        FileFormatError: the file is missing, holds no video, or breaks off where nothing can be decoded.
        MissingDependency: PyAV is not installed.
    """
    av = _av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise FileFormatError(f"{path}: expected a video stream, got a file without one")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                yield _seconds(frame, stream, index), _tensor(frame)
    except (av.FFmpegError, OSError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise FileFormatError(f"{path}: expected a video that can be decoded, got: {error}") from error


def _encode(file: BinaryIO, frames: Iterable[Tensor], fps: float) -> None:
    av = _av()
    size = stream = None
    with av.open(file, "w", format="mp4") as container:
        for frame in frames:
            if size is None or stream is None:
                size = tuple(frame.shape)
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": "16", "preset": "veryfast"}
            if tuple(frame.shape) != size:
                raise ValueError(
                    f"write_video: expected frames of shape {size} like the first, got {tuple(frame.shape)}"
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_even_bytes(frame), format="rgb24")))
        if stream is None:
            raise ValueError("write_video: expected at least one frame, got none")
        container.mux(stream.encode())


def _even_bytes(frame: Tensor):
    """uint8 pixels of even height and width: yuv420p halves both."""
    pixels = (frame.detach().clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu()
    if pixels.shape[0] % 2:
        pixels = torch.cat([pixels, pixels[-1:]], dim=0)
    if pixels.shape[1] % 2:
        pixels = torch.cat([pixels, pixels[:, -1:]], dim=1)
    return pixels.contiguous().numpy()


def _seconds(frame, stream, index: int) -> float:
    """A raw stream has no timestamps; then the nominal rate is all there is."""
    if frame.pts is not None:
        return float(frame.pts * frame.time_base)
    return index / float(stream.average_rate or stream.guessed_rate or 30)


def _tensor(frame) -> Tensor:
    return torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255


def _av():
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "expected PyAV to read and write videos, found none; run `pip install av`"
        ) from error
    return av
