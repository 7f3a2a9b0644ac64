"""Video round trips: pixels, sizes, timestamps, rotation, damaged files, and what is refused."""

import gc
import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from gaussworld.errors import FileFormatError
from gaussworld.io.video import read_frames, read_grey, read_video, video_info, write_video


def _moving_square(count: int, height: int, width: int) -> list[torch.Tensor]:
    frames = []
    for i in range(count):
        frame = torch.full((height, width, 3), 0.2)
        frame[8:24, 4 + 4 * i : 20 + 4 * i] = torch.tensor([0.9, 0.5, 0.1])
        frames.append(frame)
    return frames


def test_frames_and_times_survive_a_round_trip(tmp_path):
    """Pixels come back within what chroma subsampling loses, at the times they were given."""
    frames = _moving_square(6, 48, 64)
    write_video(tmp_path / "a.mp4", frames, fps=12.5)
    times, decoded = zip(*read_video(tmp_path / "a.mp4"))
    assert times == pytest.approx([i / 12.5 for i in range(6)], abs=1e-6)
    for frame, back in zip(frames, decoded, strict=True):
        assert back.shape == frame.shape
        assert float((frame - back).abs().mean()) < 0.02
    assert float((frames[0] - decoded[5]).abs().mean()) > 0.05


def test_odd_sizes_grow_by_one(tmp_path):
    """yuv420p needs even sizes: the last row and column are repeated."""
    write_video(tmp_path / "odd.mp4", _moving_square(2, 31, 45), fps=10.0)
    _, frame = next(read_video(tmp_path / "odd.mp4"))
    assert tuple(frame.shape) == (32, 46, 3)
    assert float((frame[30] - frame[31]).abs().mean()) < 0.03


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    """Frames of two sizes are refused, and neither a file nor a partial one stays."""
    with pytest.raises(ValueError, match=r"expected frames of shape \(32, 32, 3\)"):
        write_video(tmp_path / "b.mp4", [torch.zeros(32, 32, 3), torch.zeros(16, 32, 3)], fps=10.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [([], 10.0, "at least one frame"), ([torch.zeros(2, 2, 3)], 0.0, "positive")],
)
def test_bad_calls_are_refused(tmp_path, frames, fps, message):
    """No frames and no rate are bad calls."""
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "c.mp4", frames, fps)


def test_what_is_no_video_is_refused(tmp_path):
    """A text file and a missing file are format errors that name the path."""
    (tmp_path / "not.mp4").write_text("no video at all")
    for name in ("not.mp4", "missing.mp4"):
        with pytest.raises(FileFormatError, match=name):
            next(read_video(tmp_path / name))


def _pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Coarse coloured noise, another one for each frame: they survive compression, and no two look alike."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return list(blocks.repeat(8, axis=1).repeat(8, axis=2))


def _write(
    path: Path,
    pictures: Sequence[np.ndarray],
    milliseconds: Sequence[int] | None = None,
    turned: tuple[float, bool, bool] | None = None,
    key_every: int = 250,
    aspect: Fraction | None = None,
    faststart: bool = False,
) -> None:
    """A file as cameras write it: own times, display matrix, pixel aspect, distance of key frames."""
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "preset": "veryfast", "g": str(key_every)}
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turned:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a display matrix")
            stream.set_display_rotation(*turned)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = milliseconds[i] if milliseconds else 40 * i
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_times_are_the_containers_own(tmp_path):
    """Variable frame rate: no nominal rate explains these times."""
    milliseconds = [0, 33, 66, 500, 533, 1200, 1201, 2000]
    _write(tmp_path / "vfr.mp4", _pictures(8), milliseconds)
    wanted = pytest.approx([t / 1000 for t in milliseconds], abs=1e-4)
    assert [time for time, _ in read_video(tmp_path / "vfr.mp4")] == wanted
    assert [frame.time for frame in read_grey(tmp_path / "vfr.mp4")] == wanted
    assert [frame.index for frame in read_grey(tmp_path / "vfr.mp4")] == list(range(8))


def test_a_raw_stream_has_its_nominal_rate(tmp_path):
    """Without a container there are no timestamps."""
    _write(tmp_path / "raw.h264", _pictures(5))
    times = [time for time, _ in read_video(tmp_path / "raw.h264")]
    assert len(times) == 5
    assert np.diff(times) == pytest.approx(times[1])
    assert times[1] > 0
    (frame,) = read_frames(tmp_path / "raw.h264", [times[3]])
    assert torch.equal(frame, list(read_video(tmp_path / "raw.h264"))[3][1])


@pytest.mark.parametrize(
    ("turned", "seen"),
    [
        ((90.0, False, False), np.rot90),
        ((180.0, False, False), lambda p: np.rot90(p, 2)),
        ((-90.0, False, False), lambda p: np.rot90(p, -1)),
        ((0.0, True, False), lambda p: p[:, ::-1]),
        ((0.0, False, True), lambda p: p[::-1]),
        ((90.0, True, False), lambda p: np.rot90(p)[:, ::-1]),
    ],
)
def test_frames_stand_upright(tmp_path, turned, seen):
    """Phones store frames sideways or mirrored and say so (display matrix, degrees counter-clockwise)."""
    (picture,) = _pictures(1)
    _write(tmp_path / "phone.mp4", [picture] * 2, turned=turned)
    wanted = torch.from_numpy(seen(picture).copy()).float() / 255
    for _, frame in read_video(tmp_path / "phone.mp4"):
        assert frame.shape == wanted.shape
        assert float((frame - wanted).abs().mean()) < 0.03
    (_, first), *_ = read_video(tmp_path / "phone.mp4")
    grey = next(read_grey(tmp_path / "phone.mp4")).picture.float() / 255
    luma = first @ torch.tensor([0.299, 0.587, 0.114])
    assert float((grey - luma).abs().mean()) < 0.03
    assert torch.equal(next(read_frames(tmp_path / "phone.mp4", [0.0])), first)


def test_oblong_pixels_become_square(tmp_path):
    """A pixel aspect of 4:3 widens the picture, for a camera has one focal length."""
    _write(tmp_path / "dv.mp4", _pictures(2), aspect=Fraction(4, 3))
    assert next(read_video(tmp_path / "dv.mp4"))[1].shape == (48, 85, 3)
    assert next(read_grey(tmp_path / "dv.mp4")).picture.shape == (48, 85)


def test_small_grey_frames_keep_proportions_and_brightness(tmp_path):
    """Only larger pictures are shrunk, to the longer side asked for."""
    _write(tmp_path / "a.mp4", _pictures(3, 96, 160))
    small = [frame.picture for frame in read_grey(tmp_path / "a.mp4", longest=80)]
    assert [tuple(picture.shape) for picture in small] == [(48, 80)] * 3
    assert small[0].dtype == torch.uint8
    whole = [frame.picture for frame in read_grey(tmp_path / "a.mp4")]
    assert tuple(whole[0].shape) == (96, 160)
    halved = whole[1].float().reshape(48, 2, 80, 2).mean(dim=(1, 3))
    assert float((small[1].float() - halved).abs().mean()) < 4


@pytest.mark.parametrize("key_every", [10, 250])
def test_single_frames_are_those_of_the_whole_video(tmp_path, key_every):
    """With key frames to jump to and without; near and far; from the start."""
    _write(tmp_path / "long.mp4", _pictures(120), key_every=key_every)
    whole = list(read_video(tmp_path / "long.mp4"))
    wanted = [0, 1, 44, 45, 90, 119]
    frames = list(read_frames(tmp_path / "long.mp4", [whole[i][0] for i in wanted]))
    for i, frame in zip(wanted, frames, strict=True):
        assert torch.equal(frame, whole[i][1])


def test_a_time_without_a_frame_is_refused(tmp_path):
    """The sentence names the time; frames before it have been given."""
    _write(tmp_path / "a.mp4", _pictures(60))
    frames = read_frames(tmp_path / "a.mp4", [0.0, 1.99])
    next(frames)
    with pytest.raises(FileFormatError, match=r"a\.mp4: expected a frame at 1\.990 s, got none"):
        next(frames)


def test_decoded_frames_are_let_go(tmp_path):
    """Reading holds a few frames, not all of them, even when no garbage is collected."""
    _write(tmp_path / "a.mp4", _pictures(60), turned=(90.0, False, False))
    gc.collect()
    gc.disable()
    try:
        alive = 0
        for _ in read_grey(tmp_path / "a.mp4"):
            alive = max(alive, sum(type(thing) is av.VideoFrame for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert 0 < alive < 20


def test_the_head_of_a_file_tells_length_and_frames(tmp_path):
    """Nothing is decoded for it."""
    _write(tmp_path / "a.mp4", _pictures(50))
    info = video_info(tmp_path / "a.mp4")
    assert info.frames == 50
    assert info.seconds == pytest.approx(2.0, abs=0.05)


def test_of_a_file_cut_short_what_is_there_is_used(tmp_path, caplog):
    """The warning says how much that is; a whole file gives none."""
    _write(tmp_path / "whole.mp4", _pictures(60), faststart=True)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    with caplog.at_level(logging.WARNING):
        count = sum(1 for _ in read_video(tmp_path / "whole.mp4"))
        assert (count, caplog.messages) == (60, [])
        count = sum(1 for _ in read_grey(tmp_path / "cut.mp4"))
    assert 20 < count < 50
    assert f"cut.mp4: the file is damaged or breaks off; the {count} of about 60 frames" in caplog.text


def test_a_file_without_its_index_is_refused(tmp_path):
    """MP4 keeps its index at the end: a recording that was interrupted has none."""
    _write(tmp_path / "a.mp4", _pictures(30))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:5000])
    with pytest.raises(FileFormatError, match=r"cut\.mp4: expected a whole video.*copy it again"):
        next(read_video(tmp_path / "cut.mp4"))


def _write_sound(path: Path, cover: bool = False) -> None:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        picture = container.add_stream("mjpeg") if cover else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(_pictures(1)[0], format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


@pytest.mark.parametrize("read", [lambda p: next(read_video(p)), lambda p: next(read_grey(p)), video_info])
def test_files_without_pictures_are_refused(tmp_path, read):
    """Empty, missing, sound alone, sound with a cover picture: each has its sentence."""
    (tmp_path / "empty.mp4").write_bytes(b"")
    _write_sound(tmp_path / "sound.mp4")
    _write_sound(tmp_path / "song.mp4", cover=True)
    for name, message in (
        ("empty.mp4", "expected a video, got an empty file of 0 bytes"),
        ("missing.mp4", "expected a video, got no such file"),
        ("sound.mp4", "expected a video stream, got a file without one"),
        ("song.mp4", "expected a video stream, got a file without one"),
    ):
        with pytest.raises(FileFormatError, match=f"{name}: {message}"):
            read(tmp_path / name)


@pytest.mark.slow
def test_high_dynamic_range_becomes_srgb(tmp_path):
    """HLG white at 75 % signal is diffuse white, which shown unmapped would be a light grey."""
    if int(av.__version__.split(".")[0]) < 17:
        pytest.skip("this PyAV cannot map transfer curves")
    with av.open(str(tmp_path / "hlg.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = 18, 9, 9, 1
        grey = np.full((48, 64, 3), 191, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
        frame.color_trc, frame.color_primaries = 18, 9
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _, picture = next(read_video(tmp_path / "hlg.mkv"))
    assert float(picture.mean()) > 0.85
    assert float(picture.std()) < 0.02
