"""Runs of splatfacto come back in the capture's frame, and nothing of theirs is executed."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gaussworld import Camera, Gaussians, World, look_at, render, save_cameras
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, ConfigError, FileFormatError
from gaussworld.io.images import write_image
from gaussworld.io.nerfstudio import find_run, load_run
from gaussworld.io.nerfstudio.commands import import_run
from gaussworld.pose import pose_from, rotation_from_rotvec

MakeRun = Callable[..., Path]


def some_gaussians(count: int = 40, degree: int = 3) -> Gaussians:
    """Coloured from every side, so that a forgotten rotation of the harmonics shows."""
    g = torch.Generator().manual_seed(3)
    return Gaussians(
        0.4 * torch.randn(count, 3, generator=g) + torch.tensor([1.0, 2.0, -0.5]),
        torch.randn(count, 4, generator=g),
        0.3 * torch.randn(count, 3, generator=g) - 2.5,
        torch.randn(count, generator=g) + 1,
        0.4 * torch.randn(count, (degree + 1) ** 2, 3, generator=g),
    )


def pose(turn: tuple[float, float, float], shift: tuple[float, float, float]) -> torch.Tensor:
    return pose_from(rotation_from_rotvec(torch.tensor(turn)), torch.tensor(shift))


NERF_FROM_CAPTURE, SCALE = pose((0.3, -1.1, 0.7), (0.2, -1.5, 3.0)), 0.37


def in_nerf_frame(gaussians: Gaussians) -> Gaussians:
    return gaussians.transformed(NERF_FROM_CAPTURE).transformed(torch.eye(4), SCALE)


def dataset(folder: Path, source: torch.Tensor | None = None) -> Capture:
    """Three cameras around the Gaussians, as transforms.json with pictures."""
    frames = []
    for index in range(3):
        path = folder / "images" / f"{index}.png"
        write_image(path, torch.full((48, 64, 3), 0.5))
        eye = torch.tensor([3.0 * (index - 1), -2.0, 1.0])
        frames.append(Frame(Camera.pinhole(look_at(eye, torch.tensor([1.0, 2, -0.5])), 64, 48, 50.0), path))
    capture = Capture(tuple(frames), metres_per_unit=0.5)
    if source is not None:
        capture = Capture(tuple(frames), metres_per_unit=0.5, world_from_source=source)
    save_cameras(capture, folder / "transforms.json")
    return capture


def picture(gaussians: Gaussians, camera: Camera) -> torch.Tensor:
    with torch.no_grad():
        return render(gaussians, camera).rgb


def test_run_returns_to_the_frame_of_its_capture(make_run: MakeRun, tmp_path: Path) -> None:
    """Positions, sizes, colours from every side, cameras, unit and up."""
    truth, capture = some_gaussians(), dataset(tmp_path / "data")
    world = load_run(make_run(in_nerf_frame(truth), NERF_FROM_CAPTURE, SCALE, tmp_path / "data"))
    got = world.shown()
    torch.testing.assert_close(got.means, truth.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.log_scales, truth.log_scales, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.opacity_logits, truth.opacity_logits)
    assert len(world.cameras) == 3
    assert world.metres_per_unit == 0.5
    for camera, frame in zip(world.cameras, capture.frames):
        torch.testing.assert_close(camera.world_from_camera, frame.camera.world_from_camera)
        assert float((picture(got, camera) - picture(truth, frame.camera)).abs().max()) < 1e-3
    assert world.up is not None
    torch.testing.assert_close(torch.tensor(world.up), NERF_FROM_CAPTURE[2, :3], atol=1e-5, rtol=0)


def test_applied_transform_of_the_dataset_is_told_apart(make_run: MakeRun, tmp_path: Path) -> None:
    """nerfstudio stores its own turn times the dataset's: the world is in the dataset's frame."""
    truth, applied = some_gaussians(), pose((0.0, 0.4, -0.9), (5.0, 0.0, 1.0))
    source = applied @ torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))
    source[:3, 3] = applied[:3, 3] * 2
    dataset(tmp_path / "data", source)
    run = make_run(in_nerf_frame(truth), NERF_FROM_CAPTURE @ applied, SCALE * 2, tmp_path / "data")
    world = load_run(run)
    torch.testing.assert_close(world.shown().means, truth.means, atol=1e-4, rtol=0)
    torch.testing.assert_close(world.world_from_source, source, atol=1e-5, rtol=0)


def test_run_without_its_dataset(make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    """The frame before the applied transform, no cameras, and one warning."""
    truth, applied = some_gaussians(), pose((0.0, 0.4, -0.9), (5.0, 0.0, 1.0))
    with caplog.at_level(logging.WARNING):
        world = load_run(make_run(in_nerf_frame(truth), NERF_FROM_CAPTURE @ applied, SCALE))
    before = truth.means @ applied[:3, :3] - applied[:3, 3] @ applied[:3, :3]
    torch.testing.assert_close(world.shown().means, before, atol=1e-4, rtol=0)
    assert not world.cameras
    assert "dataset /nowhere/kitchen is not there" in caplog.text
    assert "--data" in caplog.text


def test_dataset_that_has_moved(make_run: MakeRun, tmp_path: Path) -> None:
    """`data` says where it is; a wrong place is refused."""
    dataset(tmp_path / "elsewhere")
    run = make_run(in_nerf_frame(some_gaussians()), NERF_FROM_CAPTURE, SCALE)
    assert len(load_run(run, tmp_path / "elsewhere").cameras) == 3
    with pytest.raises(CaptureError, match="no such path"):
        load_run(run, tmp_path / "nothing")


def test_dataset_path_relative_to_where_training_ran(make_run: MakeRun, tmp_path: Path) -> None:
    """`ns-train --data data/kitchen` writes a relative path; it is found from above the run."""
    dataset(tmp_path / "data" / "kitchen")
    run = make_run(in_nerf_frame(some_gaussians()), NERF_FROM_CAPTURE, SCALE, Path("data/kitchen"))
    assert len(load_run(run).cameras) == 3


def test_newest_step_is_taken(make_run: MakeRun) -> None:
    """By number, whatever else lies there."""
    make_run(some_gaussians(10), NERF_FROM_CAPTURE, SCALE, step=9_999)
    run = make_run(some_gaussians(20), NERF_FROM_CAPTURE, SCALE, step=29_999)
    (run / "nerfstudio_models" / "step-best.ckpt").write_text("notes")
    assert find_run(run).step == 29_999
    assert len(load_run(run).shown()) == 20


def test_run_is_found_from_above_and_from_its_config(make_run: MakeRun, tmp_path: Path) -> None:
    """The folder of one experiment is as good as that of its only run; of two runs none is guessed."""
    run = make_run(some_gaussians(), NERF_FROM_CAPTURE, SCALE)
    assert find_run(tmp_path / "outputs").folder == run
    assert find_run(run / "config.yml").folder == run
    (run.with_name("later")).mkdir()
    (run.with_name("later") / "config.yml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match=r"expected the folder of one run of nerfstudio, .* got 2"):
        find_run(tmp_path / "outputs")


def test_colours_without_harmonics_are_logits(make_run: MakeRun) -> None:
    """With sh_degree 0 splatfacto stores logits of colours."""
    plain = some_gaussians(degree=0)
    world = load_run(make_run(plain, torch.eye(4), 1.0))
    torch.testing.assert_close(world.shown().rgb, plain.sh[:, 0].sigmoid())


def test_rows_that_are_not_finite_are_left_out(make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    """As nerfstudio's own export does, with a word about it."""
    broken = some_gaussians()
    broken.means[3, 1], broken.quats[7] = torch.nan, 0.0
    with caplog.at_level(logging.WARNING):
        world = load_run(make_run(broken, NERF_FROM_CAPTURE, SCALE))
    assert len(world.shown()) == 38
    assert "2 of 40 Gaussians are not finite" in caplog.text


def test_what_gaussians_cannot_carry_is_said(make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    """Antialiasing and refined cameras; and a turn that was not upward says nothing about up."""
    words = {"mode": "antialiased", "optimizer": "SO3xR3", "orientation": "pca"}
    with caplog.at_level(logging.WARNING):
        world = load_run(make_run(some_gaussians(), NERF_FROM_CAPTURE, SCALE, **words))
    assert "antialiased" in caplog.text
    assert "refined its cameras" in caplog.text
    assert world.up is None


def test_another_dataset_is_noticed(
    make_run: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """nerfstudio scales cameras into a cube; those of another dataset do not fill it."""
    capture = dataset(tmp_path / "data")
    centers = torch.stack([frame.camera.center for frame in capture.frames])
    fitting = 1 / float((centers @ NERF_FROM_CAPTURE[:3, :3].T + NERF_FROM_CAPTURE[:3, 3]).abs().max())
    with caplog.at_level(logging.WARNING):
        load_run(make_run(some_gaussians(), NERF_FROM_CAPTURE, fitting, tmp_path / "data", auto="true"))
        assert not caplog.text
        load_run(make_run(some_gaussians(), NERF_FROM_CAPTURE, 1.2 * fitting, tmp_path / "data", auto="true"))
    assert "do not lie as those that the run was trained on" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataparser_transforms.json", "{", "expected JSON"),
        (
            "dataparser_transforms.json",
            '{"transform": [[1, 0], [0, 1]], "scale": 1}',
            "expected a 3x4 matrix",
        ),
        ("dataparser_transforms.json", '{"scale": 1}', "dataparser_transforms.json"),
        ("config.yml", "just words", "expected the config.yml of a nerfstudio run"),
        ("config.yml", "a: 'open", "a quote that is not closed"),
    ],
)
def test_damaged_files_are_blamed(make_run: MakeRun, name: str, text: str, message: str) -> None:
    """One sentence that names the file."""
    run = make_run(some_gaussians(), NERF_FROM_CAPTURE, SCALE)
    (run / name).write_text(text)
    with pytest.raises(FileFormatError, match=message):
        load_run(run)


@pytest.mark.parametrize("bad", ["scale", "turn"])
def test_impossible_placements_are_refused(make_run: MakeRun, bad: str) -> None:
    """A scale of zero and a sheared turn would send everything nowhere."""
    run = make_run(some_gaussians(), NERF_FROM_CAPTURE, SCALE)
    placed = json.loads((run / "dataparser_transforms.json").read_text())
    if bad == "scale":
        placed["scale"] = 0.0
    else:
        placed["transform"][0][0] = 3.0
    (run / "dataparser_transforms.json").write_text(json.dumps(placed))
    with pytest.raises(FileFormatError, match=r"expected a positive 'scale'|expected a rotation"):
        load_run(run)


def test_run_without_a_checkpoint(make_run: MakeRun) -> None:
    """Training that ended before its first checkpoint."""
    run = make_run(some_gaussians(), NERF_FROM_CAPTURE, SCALE)
    next((run / "nerfstudio_models").iterdir()).unlink()
    with pytest.raises(FileFormatError, match="expected a checkpoint such as"):
        load_run(run)


def test_verb_makes_a_world(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gaussworld import nerfstudio RUN -o OUT`."""
    dataset(tmp_path / "data")
    run = make_run(in_nerf_frame(some_gaussians()), NERF_FROM_CAPTURE, SCALE, tmp_path / "data")
    import_run(run, out=tmp_path / "kitchen.world")
    assert "40 Gaussians of step 199, 3 cameras" in capsys.readouterr().out
    assert len(World.open(tmp_path / "kitchen.world").shown()) == 40
    import_run(run, out=tmp_path / "again.world", json=True)
    assert json.loads(capsys.readouterr().out)["gaussians"] == 40
