"""Video round trips: pixels, sizes, timestamps, and what is refused."""

import pytest
import torch

from gaussworld.errors import FileFormatError
from gaussworld.io.video import read_video, write_video


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
