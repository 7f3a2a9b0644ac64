"""Video files: H.264 in MP4 out; anything PyAV decodes in, upright, with the container's own timestamps."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..errors import FileFormatError, MissingDependency
from .atomic import replacing

_log = logging.getLogger(__name__)

#: Transfer curves of high-dynamic-range video: SMPTE 2084 (PQ) and ARIB STD-B67 (HLG).
_HIGH_DYNAMIC_RANGE = (16, 18)
#: What such video is mapped to: the curve of IEC 61966-2-1 (sRGB) and the primaries of BT.709.
_STANDARD_RANGE = {"dst_color_trc": 13, "dst_color_primaries": 1}
#: Distance to the next wanted frame [s] from which jumping may be quicker than decoding what lies between.
_WORTH_A_JUMP = 1.0
#: A stream is said to break off when fewer than this share of the frames in its index come out.
_WHOLE = 0.95


@dataclass(frozen=True)
class VideoInfo:
    """What the head of a video file promises; nothing is decoded."""

    frames: int | None
    """None where the container does not count them."""
    seconds: float | None
    """Length [s]; None where the container does not say."""


@dataclass(frozen=True, eq=False)
class GreyFrame:
    """A frame's brightness, small enough to look at every frame of a long video."""

    index: int
    """Number of the frame in the file, from 0."""
    time: float
    """[s] by the container's timestamps."""
    picture: UInt8[Tensor, "h w"]


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

    Frames are turned and mirrored as the file's display matrix asks; high dynamic range is mapped to sRGB.
    Of a file that is broken in places, what can be decoded is given, and a warning is logged.

    Raises:
        FileFormatError: the file is missing or empty, holds no video, or nothing of it can be decoded.
        MissingDependency: PyAV is not installed.
    """
    path, pictures = Path(path), _Pictures(Path(path))
    with _opened(path) as (container, stream):
        for index, frame in enumerate(_all(container, stream, path)):
            yield _seconds(frame, stream, index), pictures.rgb(frame, stream)


def read_grey(path: Path | str, longest: int = 960) -> Iterator[GreyFrame]:
    """Decode a video for analysis: small pictures of its brightness, several times faster than `read_video`.

    Args:
        path: the video; turned, and read past its broken places, as by `read_video`.
        longest: larger pictures are shrunk until their longer side has this many pixels.

    Raises:
        FileFormatError: the file is missing or empty, holds no video, or nothing of it can be decoded.
        MissingDependency: PyAV is not installed.
    """
    path, pictures = Path(path), _Pictures(Path(path))
    with _opened(path) as (container, stream):
        for index, frame in enumerate(_all(container, stream, path)):
            yield GreyFrame(index, _seconds(frame, stream, index), pictures.grey(frame, stream, longest))


def read_frames(path: Path | str, times: Sequence[float]) -> Iterator[Float[Tensor, "h w 3"]]:
    """The pictures in [0, 1] at exactly these times as `read_grey` and `read_video` gave them, in order.

    Stretches without a wanted frame are jumped over where the container can.

    Args:
        path: the video; upright and in sRGB as from `read_video`.
        times: [s] in increasing order.

    Raises:
        FileFormatError: there is no frame at one of the times, or the file cannot be read at all.
        MissingDependency: PyAV is not installed.
    """
    path, pictures, found = Path(path), _Pictures(Path(path)), 0
    # A jump may land too late (damaged or missing indices): the rest is then looked for frame by frame.
    for jumping in (True, False):
        with _opened(path) as (container, stream):
            for frame in _at(container, stream, times[found:], jumping):
                yield pictures.rgb(frame, stream)
                found += 1
    if found < len(times):
        raise FileFormatError(
            f"{path}: expected a frame at {times[found]:.3f} s, got none; has the file changed since?"
        )


def video_info(path: Path | str) -> VideoInfo:
    """What a video file says about itself, without decoding it.

    Raises:
        FileFormatError: the file is missing or empty, or holds no video.
        MissingDependency: PyAV is not installed.
    """
    with _opened(Path(path)) as (container, stream):
        return _promised(container, stream)


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


def _even_bytes(frame: Tensor) -> np.ndarray:
    """uint8 pixels of even height and width: yuv420p halves both."""
    # numpy, as in reading: torch would wake its threads for every frame, beside the encoder's.
    pixels = (frame.detach().cpu().numpy().clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A video's container and its first moving picture; every refusal becomes one sentence."""
    av = _av()
    if not path.is_file():
        raise FileFormatError(f"{path}: expected a video, got no such file; check the path")
    if path.stat().st_size == 0:
        raise FileFormatError(f"{path}: expected a video, got an empty file of 0 bytes; copy it again")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            # The cover of an audio file is a "video" stream too.
            cover = av.stream.Disposition.attached_pic
            streams = [s for s in container.streams.video if not s.disposition & cover]
            if not streams:
                raise FileFormatError(
                    f"{path}: expected a video stream, got a file without one; choose another"
                )
            streams[0].thread_type = "AUTO"
            yield container, streams[0]
    except (av.FFmpegError, OSError) as error:  # pyright: ignore[reportPrivateImportUsage]
        why = getattr(error, "strerror", None) or error
        raise FileFormatError(
            f"{path}: expected a whole video, got one that cannot be read ({why});"
            " it may be cut short: copy it again"
        ) from error


def _promised(container: Any, stream: Any) -> VideoInfo:
    seconds = None
    if stream.duration is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1e6
    rate = stream.average_rate or stream.guessed_rate
    return VideoInfo(stream.frames or (round(seconds * float(rate)) if seconds and rate else None), seconds)


def _all(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Every frame that can be decoded; what could not is told at the end."""
    broken: list[str] = []
    count, first, last = 0, 0.0, 0.0
    for frame in _decoded(container, stream, broken):
        yield frame
        last = _seconds(frame, stream, count)
        first = first if count else last
        count += 1
    if not count:
        why = broken[0] if broken else "no frames"
        raise FileFormatError(
            f"{path}: expected frames that can be decoded, got none ({why}); copy or convert the video again"
        )
    promised = _promised(container, stream)
    missing = count < _WHOLE * stream.frames
    missing |= not stream.frames and last - first < _WHOLE * (promised.seconds or 0) - 1
    if broken or missing:
        of = f" of about {promised.frames}" if promised.frames and promised.frames > count else ""
        _log.warning(
            "%s: the file is damaged or breaks off; the %d%s frames that can be decoded are used",
            path,
            count,
            of,
        )


def _decoded(container: Any, stream: Any, broken: list[str]) -> Iterator[Any]:
    """Frames from here on; why packets could not be decoded is put into `broken`."""
    packets = container.demux(stream)
    while True:
        try:
            frames = next(packets).decode()
        except StopIteration:
            return
        except _av().FFmpegError as error:
            # The packets after a damaged one may be whole; a failing demuxer ends the loop by itself.
            broken.append(error.strerror or str(error))
            continue
        yield from frames


def _at(container: Any, stream: Any, times: Sequence[float], jumping: bool) -> Iterator[Any]:
    """The frames at the given times, up to the first that is not found."""
    frames, here = enumerate(_decoded(container, stream, [])), 0.0
    for time in times:
        left = here
        jumped = False
        if jumping and time - here > _WORTH_A_JUMP:
            jumping = jumped = _jump(container, stream, time)
            frames = enumerate(_decoded(container, stream, [])) if jumped else frames
        for index, frame in frames:
            here = _seconds(frame, stream, index)
            if jumped and (here <= left or frame.pts is None):
                jumping = False  # Key frames are farther apart than the wanted ones: jumps only lead back.
            jumped = False
            if here == time:
                yield frame
                break
            if jumping and here > time:
                return
        else:
            return


def _jump(container: Any, stream: Any, time: float) -> bool:
    """Go to the key frame before a time; false where the container has no index to go by."""
    try:
        container.seek(round(time / stream.time_base), stream=stream)
    except _av().FFmpegError:
        return False
    return True


def _seconds(frame: Any, stream: Any, index: int) -> float:
    """A raw stream has no timestamps; then the nominal rate is all there is."""
    if frame.pts is not None:
        return float(frame.pts * frame.time_base)
    return index / float(stream.average_rate or stream.guessed_rate or 30)


class _Pictures:
    """Turns decoded frames into tensors, upright and of square pixels; keeps what conversions need."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reformatter = _av().video.reformatter.VideoReformatter()
        self._colors: dict[str, int] | None = None
        self._turns: dict[int, list[int]] = {}

    def rgb(self, frame: Any, stream: Any) -> Float[Tensor, "h w 3"]:
        if self._colors is None:
            self._colors = self._conversion(frame)
        width, height = _square_pixels(frame, stream)
        picture = self._reformatter.reformat(frame, width, height, "rgb24", **self._colors)
        # numpy divides in this thread: torch would wake its own for every frame, beside the decoder's.
        return torch.from_numpy(np.divide(self._upright(picture.to_ndarray(), frame), 255, dtype=np.float32))

    def grey(self, frame: Any, stream: Any, longest: int) -> UInt8[Tensor, "h w"]:
        width, height = _square_pixels(frame, stream)
        scale = min(1.0, longest / max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        kind = "AREA" if scale < 1 else "BILINEAR"
        picture = self._reformatter.reformat(frame, width, height, "gray", interpolation=kind)
        return torch.from_numpy(self._upright(picture.to_ndarray(), frame))

    def _upright(self, pixels: np.ndarray, frame: Any) -> np.ndarray:
        """Turn and mirror by quarter turns as the display matrix asks (x' = a x + c y, y' = b x + d y)."""
        # PyAV's side data and their frame hold each other: asking every frame would keep hundreds in memory.
        rotation = getattr(frame, "rotation", 0)
        if rotation not in self._turns:
            side = frame.side_data.get("DISPLAYMATRIX")
            self._turns[rotation] = (
                [1, 0, 0, 0, 1] if side is None else np.frombuffer(side, np.int32, 5).tolist()
            )
        a, b, _, c, d = self._turns[rotation]
        if abs(a) + abs(d) < abs(b) + abs(c):
            pixels = pixels.swapaxes(0, 1)
            down, right = b, c
        else:
            down, right = d, a
        return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])

    def _conversion(self, frame: Any) -> dict[str, int]:
        """High dynamic range shown as if it were sRGB is flat and grey: it has to be mapped."""
        if getattr(frame, "color_trc", None) not in _HIGH_DYNAMIC_RANGE:
            return {}
        try:
            self._reformatter.reformat(frame, format="rgb24", **_STANDARD_RANGE)
        except (TypeError, _av().FFmpegError):
            _log.warning(
                "%s: high dynamic range is not mapped to sRGB, colours look flat; update PyAV", self._path
            )
            return {}
        return _STANDARD_RANGE


def _square_pixels(frame: Any, stream: Any) -> tuple[int, int]:
    """Width and height [px] of a frame once its pixels are square; a ratio within 1 % is a rounding."""
    ratio = float(stream.sample_aspect_ratio or 1)
    if abs(ratio - 1) < 0.01 or ratio <= 0:
        return frame.width, frame.height
    return (
        (round(frame.width * ratio), frame.height)
        if ratio > 1
        else (frame.width, round(frame.height / ratio))
    )


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "expected PyAV to read and write videos, found none; run `pip install av`"
        ) from error
    return av
