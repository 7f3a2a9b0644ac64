"""Captures: splits, names, and what is refused."""

from pathlib import Path

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame

CAMERA = Camera.looking_at((1.0, 0.0, 1.0), (0.0, 0.0, 0.0), 4, 3)


def capture_of(count):
    return Capture(tuple(Frame(CAMERA, Path(f"images/{i:03d}.png")) for i in range(count)))


def test_holdout_takes_every_nth_frame_from_the_first():
    capture = capture_of(10).with_holdout(4)
    assert [frame.name for frame in capture.of("test")] == ["000.png", "004.png", "008.png"]
    assert [frame.name for frame in capture.of("train")] == [f"{i:03d}.png" for i in (1, 2, 3, 5, 6, 7, 9)]
    assert list(capture.of("validation")) == []
    assert [f.name for f in capture.of("train", "test")] == [f.name for f in capture.frames]


def test_holdout_replaces_an_older_split_and_leaves_the_original_alone():
    first = capture_of(6).with_holdout(2)
    second = first.with_holdout(3)
    assert [frame.split for frame in second.frames] == ["test", "train", "train"] * 2
    assert [frame.split for frame in first.frames] == ["test", "train"] * 3


@pytest.mark.parametrize("every", [1, 0, -3])
def test_holding_out_everything_is_refused(every):
    with pytest.raises(ValueError, match=f"every 2nd frame or fewer, got every={every}"):
        capture_of(4).with_holdout(every)


def test_misspelt_splits_are_refused(as_in_production):
    with pytest.raises(ValueError, match="expected splits among train, validation, test, got val"):
        capture_of(2).of("val")


def test_defaults():
    capture = capture_of(3)
    assert len(capture) == 3
    assert capture.metres_per_unit is None
    assert capture.points.shape == capture.colors.shape == (0, 3)
    assert torch.equal(capture.world_from_source, torch.eye(4))
    assert {frame.split for frame in capture.frames} == {"train"}


def test_pictures_in_memory_have_a_name():
    assert Frame(CAMERA, torch.zeros(3, 4, 3)).name == "in memory"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.zeros(5, 3)}, r"Capture.colors: expected shape \(5, 3\), got \(0, 3\)"),
        ({"points": torch.zeros(5, 2)}, r"Capture.points: expected shape \(5, 3\), got \(5, 2\)"),
        ({"metres_per_unit": 0.0}, "Capture.metres_per_unit: expected a positive length or None, got 0.0"),
    ],
)
def test_bad_captures_say_why(changes, message, as_in_production):
    with pytest.raises(ValueError, match=message):
        Capture((), **changes)
