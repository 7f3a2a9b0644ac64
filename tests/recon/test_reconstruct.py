"""Whole runs on a tiny tabletop with cameras: what lies in the folder, stopping, going on, bad folders."""

import json
import math
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussworld import edit
from gaussworld.camera import Camera
from gaussworld.capture import Capture
from gaussworld.errors import CaptureError, ConfigError, GaussWorldError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_capture, load_framing, save_cameras
from gaussworld.io.images import write_depth, write_image
from gaussworld.log import Done, Event, Notice, Progress
from gaussworld.pose import rotation_from_rotvec
from gaussworld.session import Session
from gaussworld.threads import one_torch_thread
from recon.checkpoint import load_checkpoint
from recon.fit import TrainConfig
from recon.place import PlaceConfig
from recon.reconstruct import ReconConfig, Reconstruction, reconstruct, reconstruction
from recon.run import Run, claim
from recon.strategy import Adc, Mcmc
from recon.synthetic import SKY, TabletopConfig, cast_view, mesh_scene, tabletop
from recon.synthetic.textures import tabletop_parts

CONFIG = TrainConfig(
    steps=40, max_gaussians=450, sh_degree=1, background=SKY, strategy=Adc(0.1, 0.8, 10, grad_threshold=1e-5)
)

MCMC = replace(CONFIG, strategy=Mcmc(start=0.1, every=10), lambda_opacity=0.01, lambda_scale=0.01)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tabletop on disk: pictures, depth, transforms.json."""
    folder = tmp_path_factory.mktemp("scene")
    capture = tabletop(TabletopConfig(views=9, width=48, height=36, points=400))
    frames = []
    for i, frame in enumerate(capture.frames):
        assert isinstance(frame.image, torch.Tensor)
        assert isinstance(frame.depth, torch.Tensor)
        write_image(folder / f"{i:03d}.png", frame.image)
        write_depth(folder / f"{i:03d}.depth.png", frame.depth)
        frames.append(
            replace(frame, image=folder / f"{i:03d}.png", depth=folder / f"{i:03d}.depth.png", split="train")
        )
    save_cameras(replace(capture, frames=tuple(frames)), folder / "transforms.json")
    return folder


@pytest.fixture(autouse=True)
def short_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few frames are as good a test as many."""
    monkeypatch.setattr("recon.outcome._VIDEO_FRAMES", 4)


def _run(
    scene: Path,
    out: Path,
    config: TrainConfig = CONFIG,
    options: ReconConfig | None = None,
    resume: bool = True,
) -> tuple[Reconstruction, list[Event[Reconstruction]]]:
    events = list(reconstruction([scene], out, config, options, resume))
    assert isinstance(events[-1], Done)
    return events[-1].result, events


def test_a_run_folder_is_complete(scene, tmp_path):
    """Gaussians, cameras, frame and scale, report and turning picture, and all of it can be read again."""
    result, events = _run(scene, tmp_path / "out")
    run = result.run
    for path in (run.scene, run.cameras, run.frame, run.config, run.checkpoint, run.metrics, run.turntable):
        assert path.is_file(), path
    assert len(load(run.scene)) == len(result.gaussians)
    assert load_framing(run.scene).metres_per_unit == 1.0
    capture = load_capture(run.cameras)
    assert [frame.split for frame in capture.frames].count("test") == 2
    frame = json.loads(run.frame.read_text())
    assert frame["scale"]["source"] == "input"
    assert frame["up"]["confidence"] > 0
    report = json.loads((run.folder / "report.json").read_text())
    assert report["images_used"] == report["images_given"] == 9
    assert report["scores"]["test"]["psnr"] > 10
    assert report["scores"]["test"]["depth_error"] < 0.5
    assert len(report["curve"]) >= 4
    assert "<html" in (run.folder / "report.html").read_text()
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert list(dict.fromkeys(stages)) == ["Reading pictures", "Training", "Judging", "Turning picture"]


def test_objects_are_looked_for_unless_nobody_wants_them(scene, tmp_path, things_found):
    """At the end, in the world of the run; and not in one that somebody has edited."""
    first, _ = _run(scene, tmp_path / "out")
    assert things_found == [first.run.world]
    _run(scene, tmp_path / "plain", options=ReconConfig(objects=False))
    assert len(things_found) == 1
    with Session(first.run.world) as session:
        session.do(edit.Rename(0, "desk"))
    _run(scene, tmp_path / "out", resume=False)
    assert len(things_found) == 1


def test_masks_that_are_not_there_are_said_before_the_work(scene, tmp_path):
    """A misspelt folder costs no training."""
    options = ReconConfig(masks=tmp_path / "maskes")
    with pytest.raises(CaptureError, match=r"--masks: expected a folder of masks, got .*maskes"):
        reconstruct(scene, tmp_path / "run", config=CONFIG, options=options)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_done_again(scene, tmp_path):
    """The second call answers from the folder."""
    first, _ = _run(scene, tmp_path / "out")
    before = first.run.scene.stat().st_mtime_ns
    second, events = _run(scene, tmp_path / "out")
    assert any(isinstance(event, Notice) and "finished" in event.message for event in events)
    assert first.run.scene.stat().st_mtime_ns == before
    assert torch.allclose(second.gaussians.means, first.gaussians.means)


def _stopped(events: Iterator[Event[Reconstruction]], step: int) -> None:
    """Closes a run at the first event of its training that has got so far."""
    for event in events:
        if isinstance(event, Progress) and event.stage == "Training" and event.step >= step:
            break
    events.close()  # pyright: ignore[reportAttributeAccessIssue]


def _assert_same(ours: Gaussians, theirs: Gaussians) -> None:
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize(
    ("config", "step"),
    [(CONFIG, 0), (CONFIG, 20), (MCMC, 20), (replace(CONFIG, exposure=True), 20)],
    ids=["at once", "adc", "mcmc", "exposure"],
)
def test_a_stopped_run_goes_on_to_the_same_end(scene, tmp_path, config, step):
    """Closed in the middle, the folder opens; taken up again it ends bit for bit as an unbroken run."""
    unbroken, _ = _run(scene, tmp_path / "whole", config)
    _stopped(reconstruction([scene], tmp_path / "out", config), step)
    run = Run(tmp_path / "out")
    assert not run.read()["finished"]
    if step:
        assert len(load(run.scene)) > 4
    resumed, events = _run(scene, tmp_path / "out", config)
    going_on = f"Going on with the run in {run.folder} at step {step}."
    assert bool(step) == (Notice(going_on) in events)
    _assert_same(resumed.gaussians, unbroken.gaussians)
    steps = [json.loads(line)["step"] for line in resumed.run.metrics.read_text().splitlines()]
    assert steps == [10, 20, 30, 40]


def test_a_run_on_photographs_goes_on_to_the_same_end(tmp_path):
    """Cameras found, training stopped: what is read back is to the bit what was found, and so is the end."""
    photos = tmp_path / "photos"
    photographed = mesh_scene(tabletop_parts(torch.Generator().manual_seed(0)))
    for i in range(5):
        eye = (0.84 * math.cos(0.13 * i), 0.84 * math.sin(0.13 * i), 0.6)
        camera = Camera.looking_at(eye, (0.0, 0.0, 0.0), 320, 240, 46.0)
        with one_torch_thread():
            write_image(photos / f"{i}.png", cast_view(photographed, camera).rgb)
    config = replace(CONFIG, steps=20, resolution=48)
    # On several threads torch's own sums may differ in the last bit when other work keeps a core.
    with one_torch_thread():
        unbroken, _ = _run(photos, tmp_path / "whole", config)
        # Threads may find slightly other cameras: those found once are taken, in a run that got so far.
        again = Run(tmp_path / "out")
        shutil.copytree(unbroken.run.folder, again.folder)
        again.write(finished=False)
        for path in (again.checkpoint, again.scene, again.metrics, again.cameras, again.frame):
            path.unlink()
        _stopped(reconstruction([photos], again.folder, config), 10)
        resumed, _ = _run(photos, again.folder, config)
    assert resumed.report["images_used"] == 5
    _assert_same(resumed.gaussians, unbroken.gaussians)


def test_seconds_of_all_sittings_count(scene, tmp_path):
    """A stage that was stopped goes on counting where it was; a run that begins anew counts anew."""
    run = Run(tmp_path / "out")
    _stopped(reconstruction([scene], run.folder, CONFIG), 20)
    first = run.read()["seconds"]
    assert list(first) == ["cameras", "reading", "training"] and first["training"] > 0
    run.write(seconds={**first, "reading": 500.0, "training": 1000.0})
    seconds = _run(scene, run.folder)[0].report["seconds"]
    assert list(seconds) == ["cameras", "reading", "training", "judging", "turning picture"]
    assert 500 <= seconds["reading"] < 600 and 1000 < seconds["training"] < 1100
    told = run.read()["seconds"]
    assert told.pop("objects") >= 0
    assert told == pytest.approx(seconds, rel=1e-4)
    assert _run(scene, run.folder, resume=False)[0].report["seconds"]["training"] < 100


def test_ctrl_c_in_python_leaves_a_run_that_goes_on(scene, tmp_path):
    """`gw.reconstruct` waits for the next event, saves, and ends as an unbroken run when called again."""
    seen: list[int] = []

    def interrupt(event: Event[Reconstruction]) -> None:
        if isinstance(event, Progress) and event.stage == "Training":
            seen.append(event.step)
            if event.step == 20:
                signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            reconstruct(scene, tmp_path / "out", config=CONFIG, listen=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[-1] == 20
    assert int(load_checkpoint(Run(tmp_path / "out").checkpoint)[0]["counts"][0]) == 20
    resumed = reconstruct(str(scene), str(tmp_path / "out"), config=CONFIG)
    _assert_same(resumed.gaussians, _run(scene, tmp_path / "whole")[0].gaussians)


def test_another_folder_is_not_touched(scene, tmp_path):
    """Other files, a file, another input's run, other settings: one sentence, and nothing changes."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(ConfigError, match=r"mine, which holds other files; name another folder"):
        _run(scene, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    with pytest.raises(ConfigError, match="expected a folder, got the file"):
        _run(scene, tmp_path / "mine" / "notes.txt")
    result, _ = _run(scene, tmp_path / "out")
    before = result.run.scene.read_bytes()
    with pytest.raises(ConfigError, match=r"other settings \(steps: 40, now 50\); add --no-resume"):
        _run(scene, tmp_path / "out", replace(CONFIG, steps=50))
    with pytest.raises(ConfigError, match="which holds one on"):
        claim(tmp_path / "out", "recon", ["/elsewhere"], {}, resume=True)
    assert result.run.scene.read_bytes() == before


def test_no_resume_trains_anew(scene, tmp_path):
    """Other settings are taken, and the curve begins at the beginning."""
    _run(scene, tmp_path / "out")
    result, _ = _run(scene, tmp_path / "out", replace(CONFIG, steps=20), resume=False)
    steps = [json.loads(line)["step"] for line in result.run.metrics.read_text().splitlines()]
    assert steps == [10, 20]


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"made_by": "gaussworld recon", "format": 99, "version": "9.0"}, "format 99 of GaussWorld 9.0"),
        ({"made_by": "someone else"}, "got a file of something else"),
    ],
)
def test_runs_of_others_are_refused(scene, tmp_path, card, sentence):
    """Another version's run, or another program's run.json."""
    (tmp_path / "run.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=sentence):
        _run(scene, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text()) == card


def test_a_damaged_card_is_refused(scene, tmp_path):
    """run.json that is no JSON."""
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match="expected the run's JSON"):
        _run(scene, tmp_path)


def test_a_full_disk_loses_nothing(scene, tmp_path, monkeypatch):
    """The disk fills up while Gaussians are saved: one sentence, and the earlier checkpoint stays."""
    _stopped(reconstruction([scene], tmp_path / "out", CONFIG), 10)
    run = Run(tmp_path / "out")
    before = run.checkpoint.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(GaussWorldError, match="No space left on device"):
        patched.setattr("recon.train_run._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        patched.setattr("gaussworld.io.atomic.os.fsync", full)
        _run(scene, tmp_path / "out")
    assert run.checkpoint.read_bytes() == before
    _run(scene, tmp_path / "out")
    assert run.read()["finished"]


def test_too_little_memory_is_said_before_the_work(scene, tmp_path, monkeypatch):
    """The sentence has both figures and the flags that help."""
    monkeypatch.setattr("recon.read.available_memory", lambda: 10 << 20)
    with pytest.raises(CaptureError, match=r"GB of free memory .* lower --resolution or --max-gaussians"):
        _run(scene, tmp_path / "out")


def test_a_picture_that_is_cut_short_is_left_out(scene, tmp_path):
    """It is named in a notice and in the report; the others are trained on."""
    folder = tmp_path / "scene"
    folder.mkdir()
    for path in scene.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    broken = folder / "004.png"
    broken.write_bytes(broken.read_bytes()[:700])
    result, events = _run(folder, tmp_path / "out")
    assert any(isinstance(event, Notice) and "004.png" in event.message for event in events)
    assert [entry["name"] for entry in result.report["left_out"]] == ["004.png"]
    assert result.report["images_used"] == 8


def test_up_turns_scene_and_cameras_together(scene, tmp_path):
    """With --up -y the cameras turn, the way back is stored, and the pictures still fit."""
    turned, _ = _run(scene, tmp_path / "out", options=ReconConfig(place=PlaceConfig(up="-y")))
    kept, _ = _run(scene, tmp_path / "kept")
    way = turned.capture.world_from_source
    assert float((way[:3, :3] @ torch.tensor([0.0, -1.0, 0.0]) - torch.tensor([0.0, 0.0, 1.0])).norm()) < 1e-5
    there = way @ kept.capture.frames[3].camera.world_from_camera
    assert torch.allclose(there, turned.capture.frames[3].camera.world_from_camera, atol=1e-5)
    assert abs(turned.report["scores"]["test"]["psnr"] - kept.report["scores"]["test"]["psnr"]) < 2


def test_true_cameras_tell_the_error(scene, tmp_path):
    """Cameras moved by 1 cm against the truth are reported as such."""
    truth = load_capture(scene / "transforms.json")
    moved = []
    for i, frame in enumerate(truth.frames):
        pose = frame.camera.world_from_camera.clone()
        pose[0, 3] += 0.01 * (-1) ** i
        moved.append(replace(frame, camera=replace(frame.camera, world_from_camera=pose)))
    path = tmp_path / "truth" / "transforms.json"
    save_cameras(Capture(tuple(moved), truth.points, truth.colors, 1.0), path)
    result, _ = _run(scene, tmp_path / "out", options=ReconConfig(truth=path))
    assert result.report["trajectory"]["ate_rmse"] == pytest.approx(0.01, rel=0.1)
    assert result.report["trajectory"]["cameras"] == 9


def test_few_pictures_are_all_trained_on(scene, tmp_path):
    """Five pictures: none is held out, and the report says that its scores are of training pictures."""
    capture = load_capture(scene / "transforms.json")
    save_cameras(replace(capture, frames=capture.frames[:5]), tmp_path / "five" / "transforms.json")
    result, _ = _run(tmp_path / "five", tmp_path / "out")
    assert "test" not in result.report["scores"]
    assert "No picture was held out" in result.report["notes"][0]


@pytest.mark.parametrize(("radians", "kept"), [(0.01, True), (0.0, False)], ids=["perturbed", "true"])
def test_poses_are_corrected_only_when_it_helps(scene, tmp_path, monkeypatch, radians, kept):
    """Cameras turned at random by half a degree are corrected, true ones left alone; both is told."""
    # So few steps would make for a trial too short to tell.
    monkeypatch.setattr("recon.trainer._TRIAL_ROUNDS", 16)
    capture = load_capture(scene / "transforms.json")
    generator = torch.Generator().manual_seed(0)
    frames = []
    for frame in capture.frames:
        pose = frame.camera.world_from_camera.clone()
        pose[:3, :3] = rotation_from_rotvec(radians * torch.randn(3, generator=generator)) @ pose[:3, :3]
        frames.append(replace(frame, camera=replace(frame.camera, world_from_camera=pose)))
    save_cameras(replace(capture, frames=tuple(frames)), tmp_path / "off" / "transforms.json")
    config = replace(CONFIG, refine_poses=True, steps=160, coarse_until=0.25)
    result, events = _run(tmp_path / "off", tmp_path / "out", config)
    said = [event.message for event in events if isinstance(event, Notice) and "Correcting" in event.message]
    assert len(said) == 1
    assert ("is kept" if kept else "is not kept") in said[0]
    assert result.report["settings"]["camera poses"] == ("corrected" if kept else "taken as they are")
    given = load_capture(tmp_path / "off" / "transforms.json")
    written = load_capture(result.run.cameras)
    moved = [
        not torch.allclose(a.camera.world_from_camera, b.camera.world_from_camera, atol=1e-6)
        for a, b in zip(given.frames, written.frames)
    ]
    assert moved == [kept and frame.split == "train" for frame in written.frames]


def test_another_placement_is_not_mixed_in(scene, tmp_path):
    """A run that was stopped does not go on in another frame or with other splits."""
    _stopped(reconstruction([scene], tmp_path / "out", CONFIG), 10)
    for place in (PlaceConfig(up="-y"), PlaceConfig(holdout=3)):
        with pytest.raises(ConfigError, match="other settings"):
            _run(scene, tmp_path / "out", options=ReconConfig(place=place))


def test_a_refused_restart_keeps_the_old_run(scene, tmp_path):
    """--no-resume with a budget that cannot be met: the finished run is still finished and whole."""
    run = _run(scene, tmp_path / "out")[0].run
    before = run.checkpoint.read_bytes(), run.card.read_bytes()
    with pytest.raises(CaptureError):
        _run(scene, tmp_path / "out", replace(CONFIG, max_gaussians=10**10), resume=False)
    assert (run.checkpoint.read_bytes(), run.card.read_bytes()) == before
    assert run.read()["finished"]


def test_stated_validation_pictures_are_not_trained_on(scene, tmp_path):
    """A capture that states any split keeps all of its splits."""
    capture = load_capture(scene / "transforms.json")
    frames = tuple(
        replace(frame, split="validation" if i in (1, 3) else "train")
        for i, frame in enumerate(capture.frames)
    )
    save_cameras(replace(capture, frames=frames), tmp_path / "stated" / "transforms.json")
    result, _ = _run(tmp_path / "stated", tmp_path / "out")
    assert [frame.split for frame in result.capture.frames].count("validation") == 2
    assert "test" not in result.report["scores"]
