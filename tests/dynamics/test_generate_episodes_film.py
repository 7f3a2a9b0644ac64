"""Pictures of simulated episodes: what cameras see is where the arrays say it is, and a seed repeats."""

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from dynamics.episodes import Episode
from dynamics.generate import film as filming
from dynamics.generate import forms
from dynamics.generate.episodes_config import EpisodesConfig
from dynamics.generate.produce import generate_episodes
from gaussworld.errors import BackendUnavailable
from gaussworld.io import load_capture
from gaussworld.io.video import read_video
from gaussworld.log import drain
from gaussworld.pose import invert_pose, transform_points

FILMED = EpisodesConfig(
    family=("lift", "rope"), episodes=1, steps=3, policy="scripted", cameras=2, width=128, height=96, seed=5
)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Two episodes with cameras, or skip where nothing can draw."""
    folder = tmp_path_factory.mktemp("filmed") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "COARSER", 10.0)
        try:
            drain(generate_episodes(folder, FILMED, 1))
            drain(generate_episodes(folder.with_name("again"), FILMED, 1))
        except BackendUnavailable as error:
            pytest.skip(str(error))
    return folder


def test_pictures_repeat_too(filmed):
    """Videos, depth, ids: the same bytes."""
    for path in filmed.rglob("*"):
        if path.is_file():
            again = filmed.with_name("again") / path.relative_to(filmed)
            assert path.read_bytes() == again.read_bytes(), path


@pytest.mark.parametrize("name", ["lift-00000", "rope-00000"])
def test_points_are_where_the_cameras_see_them(filmed, name):
    """Tracked points project onto their object's pixels, at its depth, first and last."""
    episode = Episode(filmed / name)
    tracks = episode.tracks
    for moment in (0, FILMED.steps):
        for label, camera in episode.cameras.items():
            inside = transform_points(invert_pose(camera.world_from_camera), tracks.points[moment])
            pixels = (inside @ camera.K.T)[:, :2] / inside[:, 2:]
            column, row = pixels.floor().long().unbind(1)
            within = (column >= 0) & (column < 128) & (row >= 0) & (row < 96)
            ids, depth = episode.ids(label, moment), episode.depth(label, moment)
            assert set(ids.unique().tolist()) <= {0, *episode.objects}
            seen = ids[row[within], column[within]] == tracks.objects[within]
            away = (depth[row[within], column[within]] - inside[within, 2]).abs()
            front = seen & (away < 0.02)
            # A rope is about as wide as a pixel here, and a box hides its own back and half its edges.
            assert front.float().mean() > 0.25


def test_the_start_is_a_capture(filmed):
    """All cameras, calibrated, with depth; videos have a frame for every moment."""
    episode = Episode(filmed / "lift-00000")
    capture = load_capture(episode.start)
    assert len(capture) == 2 and capture.metres_per_unit == 1.0
    for frame, camera in zip(capture.frames, episode.cameras.values()):
        assert torch.allclose(frame.camera.world_from_camera, camera.world_from_camera, atol=1e-6)
        assert frame.depth is not None
    for label in episode.cameras:
        frames = [picture for _, picture in read_video(episode.video(label))]
        assert len(frames) == FILMED.steps + 1 and frames[0].shape == (96, 128, 3)
    assert len(episode.world(300).cameras) == 2


def test_without_opengl_the_package_is_named(tmp_path, monkeypatch):
    """Cameras need it; the episode that could not be drawn is not there."""

    def broken(*_):
        raise BackendUnavailable(
            "expected OpenGL that draws off screen; install EGL (apt-get install libegl1)"
        )

    monkeypatch.setattr(filming, "Artist", broken)
    monkeypatch.setattr(forms, "COARSER", 10.0)
    config = EpisodesConfig(family=("push",), episodes=1, steps=2, cameras=1, width=32, height=24)
    with pytest.raises(BackendUnavailable, match="libegl1"):
        drain(generate_episodes(tmp_path / "set", config, 1))
    assert not (tmp_path / "set" / "push-00000").exists()
    plain = EpisodesConfig(family=("push",), episodes=1, steps=2)
    assert drain(generate_episodes(tmp_path / "plain", plain, 1)).result.made == 1


def test_only_the_first_are_filmed(tmp_path, monkeypatch):
    """`filmed` counts for each family, and pictures change nothing of what happens."""
    from dynamics.generate.produce import jobs_of

    jobs = jobs_of(EpisodesConfig(family=("push", "door"), episodes=3, cameras=1, filmed=1))
    assert [job.filmed for job in jobs] == [True, False, False] * 2
    assert not any(job.filmed for job in jobs_of(EpisodesConfig(family=("push",), filmed=2)))
    assert np.all([job.seed >= 0 for job in jobs])
