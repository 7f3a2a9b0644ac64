"""The demo end to end at a few steps, and its care for folders that are not its own."""

import json
from dataclasses import replace

import pytest

import gaussworld as gw
from gaussworld.errors import ConfigError
from gaussworld.io.images import image_size
from gaussworld.io.video import read_video
from recon import demo
from recon.synthetic import TabletopConfig


@pytest.fixture
def small(monkeypatch):
    """The same demo with small pictures and a short video."""
    monkeypatch.setattr(
        demo, "TabletopConfig", lambda: TabletopConfig(views=9, width=64, height=48, points=300)
    )
    monkeypatch.setattr(demo, "_TURNTABLE_FPS", 2.0)


def test_demo_writes_everything_and_may_run_again(small, tmp_path, capsys):
    """All files are there and sound; a second run over its own folder is welcome."""
    out = tmp_path / "demo"
    config = replace(demo.DEMO, seed=1, steps=20)
    demo.main(out, config)
    demo.main(out, config)
    report = json.loads((out / "report.json").read_text())
    assert report["finished"] is True
    assert len(report["held_out"]["views"]) == 2
    assert 10 < report["held_out"]["psnr"] < 60
    assert image_size(out / "side_by_side.png") == (3 * 64 + 4 * 6, 26 + 4 * (48 + 6))
    frames = [frame for _, frame in read_video(out / "turntable.mp4")]
    assert len(frames) == 8
    assert frames[0].shape == (480, 640, 3)
    assert float((frames[0] - frames[4]).abs().mean()) > 0.01
    assert len(json.loads((out / "transforms.json").read_text())["frames"]) == 9
    assert (out / "scene.ply").stat().st_size > 1000
    assert len(gw.World.open(out / "scene.world").posed()) == len(gw.load(out / "scene.ply"))
    assert "side_by_side.png" in capsys.readouterr().out


def test_a_folder_with_other_files_is_refused(tmp_path):
    """Nothing that the demo did not write may be lost."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        demo.main(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_is_refused(tmp_path):
    """--out must be a folder."""
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="expected a folder"):
        demo.main(tmp_path / "out")
