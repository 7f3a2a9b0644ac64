"""The verbs as their user calls them: what is printed, exit codes, and one sentence for every bad input."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld import cli
from gaussworld.io import load, load_capture, save_cameras
from gaussworld.io.images import write_image
from gaussworld.io.video import read_video
from gaussworld.metrics import psnr
from recon.commands import summary
from recon.reconstruct import Reconstruction
from recon.run import Run
from recon.synthetic import TabletopConfig, tabletop

QUICK = ["--steps", "20", "--max-gaussians", "450", "--sh-degree", "1"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tabletop on disk: pictures and transforms.json."""
    folder = tmp_path_factory.mktemp("scene")
    capture = tabletop(TabletopConfig(views=9, width=48, height=36, points=400))
    frames = []
    for i, frame in enumerate(capture.frames):
        assert isinstance(frame.image, torch.Tensor)
        write_image(folder / f"{i:03d}.png", frame.image)
        frames.append(replace(frame, image=folder / f"{i:03d}.png", depth=None, split="train"))
    save_cameras(replace(capture, frames=tuple(frames)), folder / "transforms.json")
    return folder


@pytest.fixture(scope="module", autouse=True)
def short_video() -> Iterator[None]:
    """The turning picture is tested elsewhere; here it would only take time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("recon.outcome._VIDEO_FRAMES", 4)
        yield


@pytest.fixture(scope="module")
def run(short_video: None, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on it."""
    out = tmp_path_factory.mktemp("runs") / "out"
    assert cli.main(["splat", str(scene), "-o", str(out), *QUICK]) == 0
    return out


def test_recon_says_how_good_it_is(scene, tmp_path, capsys):
    """The last words: how many, how long, how good, and what to open; exit status 0."""
    assert cli.main(["recon", str(scene), "-o", str(tmp_path / "out"), *QUICK]) == 0
    shown = capsys.readouterr()
    assert re.search(r"400 Gaussians from 9 of 9 pictures in \d+ s\. Pictures held out: [\d.]+ dB", shown.out)
    assert str(tmp_path / "out" / "report.html") in shown.out
    assert "Training" in shown.err
    config = (tmp_path / "out" / "config.toml").read_text()
    assert "steps = 20\n" in config


def test_of_a_video_it_says_how_many_frames_there_were(run):
    """All chosen pictures are used; what they were chosen from tells how thin the choice is."""
    report = json.loads((run / "report.json").read_text())
    assert "chosen" not in summary(Reconstruction(Run(run), load(run), load_capture(run), report))
    report["video_frames"] = 1200
    said = summary(Reconstruction(Run(run), load(run), load_capture(run), report))
    assert said.startswith("400 Gaussians from 9 of 9 pictures, chosen from 1,200 frames of video, in ")


def test_presets_and_flags(scene, tmp_path):
    """--preset sets what flags then change; the resolved settings are written."""
    flags = ["--preset", "preview", "--steps", "11", "--max-gaussians", "450"]
    assert cli.main(["splat", str(scene), "-o", str(tmp_path / "out"), *flags]) == 0
    config = (tmp_path / "out" / "config.toml").read_text()
    assert "steps = 11\n" in config
    assert "resolution = 480\n" in config


def test_minutes_end_the_run(scene, tmp_path):
    """A budget of a tenth of a second ends long before the steps do, at the end of the schedule."""
    flags = ["--minutes", "0.002", "--steps", "100000", "--max-gaussians", "450"]
    assert cli.main(["splat", str(scene), "-o", str(tmp_path / "out"), *flags]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["curve"][-1]["step"] < 1000


def test_score_prints_a_table_and_json(run, scene, capsys):
    """Held-out pictures by default, worst first; the same figures as in the report."""
    assert cli.main(["score", str(run)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["picture", "psnr", "ssim"]
    assert table[-3].startswith("mean (test, 2)")
    assert table[-1] == "compared at 48x36 px"
    assert cli.main(["score", str(run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    report = json.loads((run / "report.json").read_text())
    assert facts["psnr"] == pytest.approx(report["scores"]["test"]["psnr"], abs=0.05)
    assert facts["lpips"] is None
    assert cli.main(["score", str(run / "scene.ply"), str(scene), "--holdout", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] == pytest.approx(facts["psnr"], abs=0.05)
    assert cli.main(["score", str(run), "--truth", str(scene), "--split", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cameras"]["ate_rmse"] == pytest.approx(0, abs=1e-5)


def test_info_tells_what_a_run_knows(run, tmp_path, capsys):
    """Pictures, held-out PSNR, whether it is finished, scale and source; of a stopped run, how far it got."""
    assert cli.main(["info", str(run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    report = json.loads((run / "report.json").read_text())
    assert (facts["kind"], facts["count"], facts["finished"]) == ("gaussians", report["gaussians"], True)
    assert (facts["pictures"], facts["pictures_given"], facts["pictures_held_out"]) == (9, 9, 2)
    assert facts["held_out_psnr"] == report["scores"]["test"]["psnr"]
    assert (facts["metres_per_unit"], facts["scale_source"]) == (1.0, "input")
    assert cli.main(["info", str(run)]) == 0
    table = dict(re.findall(r"^(\S+(?: \S+)*)  +(.*)$", capsys.readouterr().out, re.MULTILINE))
    assert (table["finished"], table["pictures"], table["scale source"]) == ("yes", "9", "input")
    assert table["held out psnr"] == str(facts["held_out_psnr"])
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    Run(stopped).write(finished=False)
    (stopped / "frame.json").write_text("{")
    assert cli.main(["info", str(stopped), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["finished"], facts["steps"], "scale_source" in facts) == (False, 20, False)
    assert facts["held_out_psnr"] == pytest.approx(report["curve"][-1]["psnr"], abs=1e-3)


def test_a_runs_turntable_takes_the_path_of_its_own(run, tmp_path, capsys):
    """`render --turntable` shows what turntable.mp4 shows; other views are taken where they are asked for."""
    frames = [picture for _, picture in read_video(run / "turntable.mp4")]
    words = ["render", str(run), "--turntable", str(len(frames)), "-o"]
    assert cli.main([*words, str(tmp_path / "a.mp4")]) == 0
    assert "(640x480)" in capsys.readouterr().out
    again = [picture for _, picture in read_video(tmp_path / "a.mp4")]
    assert len(again) == len(frames)
    assert min(float(psnr(a, b)) for a, b in zip(again, frames)) > 40
    words[3] = "2"
    assert cli.main([*words, str(tmp_path / "b.mp4"), "--width", "64"]) == 0
    assert cli.main([*words, str(tmp_path / "c.mp4"), "--width", "64", "--eye", "1", "1", "1"]) == 0
    assert "(64x48)" in capsys.readouterr().out
    first, other = (next(read_video(tmp_path / name))[1] for name in ("b.mp4", "c.mp4"))
    assert float(psnr(first, other)) < 30


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["score", "{run}/scene.ply"], "expected SCENE CAPTURE, got only"),
        (["score", "{scene}"], "expected a run folder or a file of Gaussians, got"),
        (["score", "{run}", "--split", "validation"], "expected pictures of split validation, got none of 9"),
        (["splat", "{photos}", "-o", "{out}"], "expected pictures with cameras, got a folder of pictures"),
        (["sfm", "{scene}", "-o", "{out}"], "which has cameras; use gaussworld splat"),
        (["recon", "{scene}", "-o", "{out}", "--preset", "norml"], "got 'norml'; did you mean 'normal'?"),
        (
            ["recon", "{scene}", "-o", "{out}", "--steps", "0"],
            "at least 1 step and 4 Gaussians, got 0 and",
        ),
        (["recon", "{scene}", "-o", "{out}", "--device", "cuda"], "got a PyTorch that sees none"),
        (["recon", "{empty}", "-o", "{out}"], "got an empty folder; put the pictures or the video there"),
        (["recon", "{one}", "-o", "{out}"], "expected at least 3 pictures from different places, got 1"),
        (["recon", "{nowhere}", "-o", "{out}"], "got no such path; check its spelling"),
        (["recon", "{zero}", "-o", "{out}"], "zero.mp4: expected a video, got an empty file of 0 bytes"),
        (["recon", "{sound}", "-o", "{out}"], "expected a video stream"),
        (["recon", "{nan}", "-o", "{out}"], "002.png): expected a finite 4x4 or 3x4 matrix"),
        (["recon", "{focal}", "-o", "{out}"], "expected finite values and positive focal lengths, got fx=0"),
        (["recon", "{behind}", "-o", "{out}"], "expected points in front of the cameras"),
        (["recon", "{run}/scene.ply", "-o", "{out}"], "already a scene of Gaussians"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_sentence(words, sentence, run, scene, tmp_path, capsys):
    """Exit status 1 or 2, one line on stderr that says what was expected; no folder is left half made."""
    if words[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    filled = [word.format_map(_Inputs(run, scene, tmp_path)) for word in words]
    assert cli.main(filled) in (1, 2)
    shown = capsys.readouterr()
    last = shown.err.strip().splitlines()[-1]
    assert sentence in last, shown.err
    assert "Traceback" not in shown.err
    assert "unexpected" not in last
    assert not (tmp_path / "out" / "scene.ply").exists()


class _Inputs(dict):
    """Bad inputs by name, made when they are asked for."""

    def __init__(self, run: Path, scene: Path, folder: Path) -> None:
        super().__init__(run=run, scene=scene, out=folder / "out", nowhere=folder / "nowhere")
        self.folder, self.scene = folder, scene

    def __missing__(self, name: str) -> Path:
        path = self.folder / name
        if name in ("empty", "one", "photos"):
            path.mkdir()
            for i in range({"empty": 0, "one": 1, "photos": 4}[name]):
                write_image(path / f"{i}.jpg", torch.rand(24, 32, 3))
        elif name == "zero":
            path = path.with_suffix(".mp4")
            path.write_bytes(b"")
        elif name == "sound":
            path = path.with_suffix(".mp4")
            _sound(path)
        else:
            self._spoilt(path, name)
        return path

    def _spoilt(self, path: Path, name: str) -> None:
        """The scene's transforms.json with one thing wrong."""
        save_cameras(load_capture(self.scene), path / "transforms.json")
        listed = json.loads((path / "transforms.json").read_text())
        if name == "focal":
            listed["fl_x"] = 0.0
        elif name == "nan":
            listed["frames"][2]["transform_matrix"][0][3] = float("nan")
        elif name == "behind":
            for frame in listed["frames"]:
                pose = np.array(frame["transform_matrix"])
                pose[:3, 1:3] *= -1  # As if the file had OpenCV's axes.
                frame["transform_matrix"] = pose.tolist()
        (path / "transforms.json").write_text(json.dumps(listed))


def _sound(path: Path) -> None:
    """A file with a tone and no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
