"""Frames of videos: how motion and sharpness are seen, which are kept, what is written, what is refused."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.images import read_image
from gaussworld.io.video import read_grey, read_video, write_video
from gaussworld.log import Done, Notice, Progress
from recon.inputs.spacing import VideoConfig, spaced
from recon.inputs.tracks import Sighting, sightings
from recon.inputs.video import Candidate, ChosenFrames, choose_frames

cv2 = pytest.importorskip("cv2")

_WIDTH, _HEIGHT = 200, 150
_FPS = 25.0
_FEW = VideoConfig(max_frames=8, min_frames=5)


def _plane(seed: int = 0, length: int = 1400) -> np.ndarray:
    """A wall with detail of all sizes, in [0, 1]."""
    rng = np.random.default_rng(seed)
    wall = np.zeros((_HEIGHT + 40, length, 3), np.float32)
    for size in (3, 8, 30):
        coarse = rng.random((wall.shape[0] // size + 2, length // size + 2, 3), np.float32)
        wall += cv2.resize(coarse, (length, wall.shape[0]), interpolation=cv2.INTER_CUBIC)
    return (wall / 3).clip(0, 1)


def _view(wall: np.ndarray, x: float, y: float = 10.0, blur: int = 1) -> torch.Tensor:
    """What a camera sees that has gone x pixels along the wall; `blur`: the way [px] during its exposure."""
    shift = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    view = cv2.warpAffine(wall, shift, (_WIDTH, _HEIGHT), flags=cv2.INTER_LINEAR)
    return torch.from_numpy(cv2.blur(view, (blur, 1)).clip(0, 1))


def _film(path: Path, way: Sequence[float] | np.ndarray, blurred: Sequence[int] = (), seed: int = 0) -> Path:
    wall = _plane(seed)
    write_video(path, [_view(wall, x, blur=11 if i in blurred else 1) for i, x in enumerate(way)], _FPS)
    return path


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Path:
    """40 frames, 3 px (1.5 % of the width) apart, with a blank in the file's name."""
    return _film(tmp_path_factory.mktemp("pan") / "my clip.mp4", np.arange(40) * 3.0)


def _run(videos: list[Path], folder: Path, config: VideoConfig | None = None) -> tuple[ChosenFrames, list]:
    events = list(choose_frames(videos, folder, config))
    assert isinstance(events[-1], Done)
    return events[-1].result, events


def _chosen(frames: ChosenFrames) -> list[Candidate]:
    return [candidate for candidate in frames.candidates if candidate.chosen]


def _seen(path: Path) -> list[Sighting]:
    return list(sightings(read_grey(path)))


def test_the_way_travelled_is_that_of_the_camera(tmp_path):
    """Slow, fast and standing still: within 3 % of the true way, in % of the width."""
    way = np.concatenate([np.arange(0, 30, 1.5), np.full(8, 30.0), np.arange(30, 230, 8.0), [230.0]])
    seen = _seen(_film(tmp_path / "a.mp4", way))
    travelled = [frame.travelled for frame in seen]
    assert travelled == pytest.approx(100 * way / _WIDTH, rel=0.03, abs=0.3)
    assert not any(frame.lost or frame.cut for frame in seen)


def test_a_shaking_hand_goes_nowhere(tmp_path):
    """A camera that trembles by 1.5 px for two seconds has travelled less than a step."""
    rng = np.random.default_rng(0)
    seen = _seen(_film(tmp_path / "a.mp4", 50 + rng.normal(0, 1.0, 50)))
    assert seen[-1].travelled < 2.5


def test_blur_lowers_sharpness(tmp_path):
    """An exposure over 11 px costs more than a third of the detail."""
    seen = _seen(_film(tmp_path / "a.mp4", np.arange(20) * 3.0, blurred=(7, 13)))
    sharpness = np.array([frame.sharpness for frame in seen])
    rest = np.delete(sharpness, [7, 13])
    assert sharpness[[7, 13]].max() < 0.65 * rest.min()
    assert rest.std() < 0.1 * rest.mean()


def test_blurred_frames_are_passed_over(tmp_path):
    """None of the blurred frames is taken, and each says how blurred it is."""
    blurred = (0, 6, 7, 8, 15, 22, 23, 30)
    frames, _ = _run([_film(tmp_path / "a.mp4", np.arange(40) * 3.0, blurred)], tmp_path / "out")
    assert not {c.index for c in _chosen(frames)} & set(blurred)
    for index in blurred:
        assert frames.candidates[index].reason.startswith("blurred: sharpness 0.")


def test_duplicates_are_named(tmp_path):
    """A camera that delivers each third frame twice."""
    way = np.arange(40) * 3.0
    way[2::3] = way[1:-1:3][: len(way[2::3])]
    frames, _ = _run([_film(tmp_path / "a.mp4", way)], tmp_path / "out")
    for index in range(2, 40, 3):
        assert not frames.candidates[index].chosen
        assert frames.candidates[index].reason == f"duplicate of frame {index - 1}"


def test_frames_are_spread_by_way_not_by_time(tmp_path):
    """Half of the time the camera creeps: the other half, where it goes ten times as far, gets the frames."""
    way = np.concatenate([np.arange(60) * 0.5, 30 + np.arange(1, 61) * 5.0])
    frames, _ = _run([_film(tmp_path / "a.mp4", way)], tmp_path / "out", VideoConfig(max_frames=25))
    chosen = _chosen(frames)
    assert 20 <= len(chosen) <= 25
    assert sum(c.index >= 60 for c in chosen) > 4 * sum(c.index < 60 for c in chosen)
    gaps = np.diff(100 * way[[c.index for c in chosen]] / _WIDTH)
    aim = 100 * way[-1] / _WIDTH / 25
    assert gaps.min() > 0.6 * aim
    assert gaps.max() < 1.6 * aim
    assert [c.shift for c in chosen[1:]] == pytest.approx(gaps, abs=0.4)


def test_every_frame_has_a_reason(pan, tmp_path):
    """The chosen ones too; they count what they were chosen from."""
    frames, _ = _run([pan], tmp_path, _FEW)
    assert [c.index for c in frames.candidates] == list(range(40))
    assert [c.time for c in frames.candidates] == pytest.approx(np.arange(40) / _FPS, abs=1e-6)
    reasons = [c.reason for c in frames.candidates]
    assert all(reasons)
    assert sum(reason.startswith("chosen: sharpest of ") for reason in reasons) == len(frames.images)
    assert any(reason.startswith("moved only ") for reason in reasons)


def test_chosen_frames_are_those_of_the_video(pan, tmp_path):
    """Names, times and pixels belong together; COLMAP's text files allow no blanks in names."""
    frames, events = _run([pan], tmp_path, _FEW)
    whole = list(read_video(pan))
    for path, time, candidate in zip(frames.images, frames.times, _chosen(frames), strict=True):
        assert path == tmp_path / "images" / f"my_clip_{candidate.index:06d}.jpg"
        assert time == candidate.time == whole[candidate.index][0]
        assert float((read_image(path) - whole[candidate.index][1]).abs().mean()) < 0.02
    steps = [event for event in events if isinstance(event, Progress)]
    assert steps[0].total == 40
    assert steps[-1].step == steps[-1].total == len(frames.images)


def test_a_second_call_takes_what_is_there(pan, tmp_path):
    """Nothing is decoded again until the video or an image has changed, or the record cannot be read."""
    video, out = tmp_path / "a.mp4", tmp_path / "out"
    shutil.copy(pan, video)
    first, _ = _run([video], out, _FEW)
    again, events = _run([video], out, _FEW)
    assert again == first
    assert [type(event) for event in events] == [Done]
    first.images[3].unlink()
    assert _run([video], out, _FEW)[0] == first
    (out / "frames.json").write_text("{ broken")
    assert _run([video], out, _FEW)[0] == first
    os.utime(video, ns=(1, 1))
    assert len(_run([video], out, _FEW)[1]) > 1
    assert set((out / "images").iterdir()) == set(first.images)


def test_another_choice_replaces_the_images_but_no_others(pan, tmp_path):
    """Images that only the earlier choice wanted go; a stranger's stays."""
    many, _ = _run([pan], tmp_path, VideoConfig(max_frames=15, min_frames=5))
    (tmp_path / "images" / "mine.jpg").write_bytes(b"kept")
    few, _ = _run([pan], tmp_path, _FEW)
    assert len(few.images) <= 8 < len(many.images)
    kept = {path.name for path in (tmp_path / "images").iterdir()}
    assert kept == {path.name for path in few.images} | {"mine.jpg"}


def test_the_record_is_strict_json(pan, tmp_path):
    """frames.json holds settings, inputs and one line for each frame, and no Infinity."""
    frames, _ = _run([pan], tmp_path, _FEW)
    text = (tmp_path / "frames.json").read_text()
    record = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert record["config"]["max_frames"] == 8
    assert record["videos"][0]["bytes"] == pan.stat().st_size
    assert record["images"] == [path.name for path in frames.images]
    assert len(record["candidates"]) == 40
    assert sum('"reason"' in line for line in text.splitlines()) == 40


def test_a_record_cannot_point_outside_its_folder(pan, tmp_path):
    """Names in a foreign frames.json are stripped of their folders before anything is removed."""
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "frames.json").write_text(json.dumps({"images": ["../../victim.jpg", str(victim)]}))
    _run([pan], tmp_path / "out", _FEW)
    assert victim.read_bytes() == b"precious"


def test_a_still_camera_is_refused(tmp_path):
    """One sentence with what was seen; noise is no motion."""
    rng = np.random.default_rng(0)
    view = _view(_plane(), 50.0)
    noisy = [
        (view + torch.from_numpy(rng.normal(0, 0.02, view.shape)).float()).clamp(0, 1) for _ in range(20)
    ]
    write_video(tmp_path / "still.mp4", noisy, _FPS)
    with pytest.raises(CaptureError) as refusal:
        _run([tmp_path / "still.mp4"], tmp_path / "out")
    assert str(refusal.value) == (
        f"{tmp_path / 'still.mp4'}: expected a camera that moves, got 20 frames over 0.8 s in which the"
        " picture shifts by 0.0 % of its width; walk around the scene, or give cameras whose places are known"
    )
    assert not (tmp_path / "out").exists()


def test_a_still_camera_beside_moving_ones_is_left_out(pan, tmp_path):
    """It is named in a notice, and its frames in the record say why."""
    still = tmp_path / "still.mp4"
    write_video(still, [_view(_plane(), 50.0)] * 10, _FPS)
    frames, events = _run([still, pan], tmp_path / "out", _FEW)
    assert {c.video for c in _chosen(frames)} == {str(pan)}
    assert all(c.reason == "the camera stands still" for c in frames.candidates[:10])
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert notice.message.startswith(f"{still}: expected a camera that moves")


def test_several_videos_share_the_frames(tmp_path):
    """Equal names get numbers; the one that goes farther gets more; both count towards the maximum."""
    paths = []
    for folder, step in (("one", 2.0), ("two", 6.0)):
        (tmp_path / folder).mkdir()
        paths.append(_film(tmp_path / folder / "clip.mp4", np.arange(40) * step))
    frames, _ = _run(paths, tmp_path / "out", VideoConfig(max_frames=24))
    names = [path.name for path in frames.images]
    assert 18 <= len(set(names)) == len(names) <= 24
    first = sum(name.startswith("clip_") for name in names)
    second = sum(name.startswith("clip-2_") for name in names)
    assert first + second == len(names)
    assert second > 2 * first > 4


def test_a_broken_video_among_others_is_named_and_skipped(pan, tmp_path):
    """Alone it is refused."""
    (tmp_path / "empty.mp4").write_bytes(b"")
    frames, events = _run([tmp_path / "empty.mp4", pan], tmp_path / "out", _FEW)
    assert frames.images
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert "empty.mp4: expected a video, got an empty file" in notice.message
    with pytest.raises(FileFormatError, match="empty file of 0 bytes"):
        _run([tmp_path / "empty.mp4"], tmp_path / "out2")
    with pytest.raises(CaptureError, match="at least one video"):
        _run([], tmp_path / "out2")


def test_a_cut_keeps_both_scenes(tmp_path):
    """The second scene starts a chain of its own, and the user hears of the cut."""
    first, second = _plane(1), _plane(2)
    views = [_view(first, 3.0 * i) for i in range(30)] + [_view(second, 3.0 * i) for i in range(30)]
    write_video(tmp_path / "cut.mp4", views, _FPS)
    frames, events = _run([tmp_path / "cut.mp4"], tmp_path / "out")
    chosen = [c.index for c in _chosen(frames)]
    assert any(24 <= index < 30 for index in chosen)
    assert any(30 <= index < 40 for index in chosen)
    (notice,) = (event.message for event in events if isinstance(event, Notice))
    assert "cuts, or pans too fast to follow, at 1.3 s" in notice
    assert sum(c.reason.startswith("too dark, flat or blurred") for c in frames.candidates) < 6


def test_a_dark_moment_is_no_cut(tmp_path):
    """A lens covered for three frames: they are left out, and the way goes on."""
    wall = _plane()
    views = [_view(wall, 3.0 * i) * (0.0 if 14 <= i < 17 else 1.0) for i in range(30)]
    write_video(tmp_path / "dark.mp4", views, _FPS)
    frames, events = _run([tmp_path / "dark.mp4"], tmp_path / "out")
    assert not any(isinstance(event, Notice) for event in events)
    assert not any(frames.candidates[i].chosen for i in (14, 15, 16))
    assert frames.candidates[14].reason.startswith("too dark, flat or blurred")
    assert frames.candidates[15].reason == "duplicate of frame 14"


def test_a_fast_pan_keeps_its_overlap(tmp_path):
    """A swing of 7 % of the width a frame: neighbours stay within 15 %."""
    way = np.concatenate([np.arange(20) * 2.0, 38 + np.arange(1, 15) * 14.0, 234 + np.arange(1, 20) * 2.0])
    video = _film(tmp_path / "a.mp4", way)
    frames, _ = _run([video], tmp_path / "out")
    gaps = np.diff(way[[c.index for c in _chosen(frames)]]) / _WIDTH
    assert gaps.max() < 0.15
    assert len(frames.images) > 20


def test_only_the_part_asked_for_is_looked_at(pan, tmp_path):
    """Start and end in seconds; numbers stay those of the file."""
    frames, _ = _run([pan], tmp_path / "out", VideoConfig(start=0.4, end=1.2, max_frames=8, min_frames=5))
    assert [c.index for c in frames.candidates] == list(range(10, 31))
    with pytest.raises(
        CaptureError, match=r"clip\.mp4: expected frames between 9 s and 10 s, got a video of 1\.6 s"
    ):
        _run([pan], tmp_path / "late", VideoConfig(start=9.0, end=10.0))


def test_a_long_way_with_few_frames_is_said_aloud(tmp_path):
    """The notice names the number of frames that would overlap."""
    video = _film(tmp_path / "a.mp4", np.arange(60) * 10.0)
    frames, events = _run([video], tmp_path / "out", VideoConfig(max_frames=10, min_frames=3))
    assert len(frames.images) <= 10
    (notice,) = (event.message for event in events if isinstance(event, Notice))
    assert notice.startswith("the camera goes far: ")
    assert int(notice.split("max_frames ")[1].split()[0]) >= 25


@pytest.mark.parametrize(
    "settings",
    [{"max_frames": 2, "min_frames": 2}, {"min_frames": 200}, {"parallax": 20.0}, {"start": 3.0, "end": 2.0}],
)
def test_settings_that_contradict_each_other_are_refused(settings):
    """Counts, distances and times have an order."""
    with pytest.raises(ValueError, match="expected"):
        VideoConfig(**settings)


def _sightings(
    travelled: Sequence[float] | np.ndarray, cuts: Sequence[int] = (), blurred: Sequence[int] = ()
) -> list[Sighting]:
    return [
        Sighting(i, i / 30, 3.0 if i in blurred else 10.0, float(way), cut=i in cuts)
        for i, way in enumerate(travelled)
    ]


def test_more_scenes_than_frames_are_thinned():
    """Cuts at every frame: the maximum holds, from the first to the last."""
    frames = _sightings(np.zeros(300), cuts=range(1, 300))
    (verdicts,) = spaced([frames], VideoConfig(max_frames=50)).verdicts
    chosen = [i for i, verdict in enumerate(verdicts) if verdict.chosen]
    assert len(chosen) == 50
    assert (chosen[0], chosen[-1]) == (0, 299)


def test_a_jump_takes_the_frames_on_both_sides():
    """Nothing lies between: the last frame before it and the first after it are kept."""
    frames = _sightings([*np.arange(0, 10, 0.25), *np.arange(60, 70, 0.25)])
    (verdicts,) = spaced([frames], VideoConfig()).verdicts
    chosen = [i for i, verdict in enumerate(verdicts) if verdict.chosen]
    assert {39, 40} <= set(chosen)
    assert verdicts[40].reason == "chosen: before it the picture moves by 50.2 % from one frame to the next"


def test_a_stretch_of_blur_is_crossed_within_the_overlap():
    """The first sharp frame after it is taken; where none is near enough, the sharpest of the blurred."""
    short = _sightings(np.arange(200.0) / 4, blurred=range(40, 60))
    (verdicts,) = spaced([short], VideoConfig()).verdicts
    assert not any(verdicts[i].chosen for i in range(40, 60))
    long = _sightings(np.arange(400.0) / 4, blurred=range(100, 200))
    (verdicts,) = spaced([long], VideoConfig()).verdicts
    places = [i / 4 for i, verdict in enumerate(verdicts) if verdict.chosen]
    assert max(np.diff(places)) <= 12.5


def test_a_real_hand_held_video(captures, tmp_path):
    """Kitchen, first five seconds: neighbours differ and overlap."""
    frames, _ = _run([captures / "redkitchen_video" / "video.mp4"], tmp_path / "out", VideoConfig(end=5.0))
    chosen = _chosen(frames)
    assert 30 <= len(chosen) <= 100
    assert max(c.shift for c in chosen) < 12
    assert min(c.shift for c in chosen[1:]) > 1


def test_a_real_fixed_camera(captures, tmp_path):
    """The robot moves, the camera does not."""
    videos = sorted((captures / "pusht_robot" / "sample_demos" / "0" / "videos").glob("*.mp4"))
    with pytest.raises(CaptureError, match=r"expected a camera that moves, got \d+ frames over 1\.0 s"):
        _run(videos[:1], tmp_path / "out", VideoConfig(end=1.0))
