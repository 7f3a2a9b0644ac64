"""Structure from motion: cameras of drawn and photographed scenes, going on, retries, explained failures."""

import json
import math
import os
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pycolmap
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

import recon.sfm.ladder as ladder
from gaussworld.camera import Camera
from gaussworld.capture import Capture
from gaussworld.errors import CaptureError
from gaussworld.io import colmap, transforms
from gaussworld.io.images import write_image
from gaussworld.log import Done, Event, Notice, Progress
from gaussworld.threads import one_torch_thread
from recon.sfm import SfmConfig, SfmResult, structure_from_motion
from recon.sfm.database import feature_counts
from recon.sfm.judge import judge
from recon.sfm.pairs import choose_pairs
from recon.sfm.pictures import Pictures, open_pictures
from recon.sfm.record import capture_of
from recon.sfm.settings import Features, Rung
from recon.synthetic import MeshScene, cast_view, mesh_scene
from recon.synthetic.textures import tabletop_parts
from recon.trajectory import ate

WIDTH, HEIGHT = 320, 240
Events = list[Event[SfmResult]]


@pytest.fixture(scope="module")
def scene() -> MeshScene:
    """The tabletop."""
    return mesh_scene(tabletop_parts(torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def arc(scene: MeshScene, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Tensor]:
    """Pictures on an arc in two folders, with spaces in their names; their true poses."""
    folder, truth = tmp_path_factory.mktemp("arc"), {}
    for step in range(8):
        angle = 0.13 * step
        camera = looking((0.84 * math.cos(angle), 0.84 * math.sin(angle), 0.6))
        path = folder / ("first half" if step < 4 else "second") / f"view {step}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(path, drawn(scene, camera))
        truth[path] = camera.world_from_camera
    return truth


@pytest.fixture(scope="module")
def found(arc: dict[Path, Tensor], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Events]:
    """The work folder and the events of a run on the arc."""
    work = tmp_path_factory.mktemp("work")
    return work, list(structure_from_motion(list(arc), work))


def drawn(scene: MeshScene, camera: Camera) -> Tensor:
    with one_torch_thread():
        return cast_view(scene, camera).rgb


def looking(eye: tuple[float, float, float], target: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Camera:
    return Camera.looking_at(eye, target, WIDTH, HEIGHT, 46.0)


def result_of(events: Events) -> SfmResult:
    last = events[-1]
    assert isinstance(last, Done)
    return last.result


def error_of(capture: Capture, truth: dict[Path, Tensor]) -> float:
    found = {f.image: f.camera.world_from_camera for f in capture.frames if isinstance(f.image, Path)}
    return ate(torch.stack(list(found.values())), torch.stack([truth[path] for path in found])).rmse


def write_all(folder: Path, pictures: list[Tensor]) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures):
        write_image(path, picture)
    return paths


@pytest.fixture
def one_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures come after the first attempt: retries of hopeless pictures take long."""
    every = ladder.rungs
    monkeypatch.setattr(ladder, "rungs", lambda config: every(config)[:1])


def test_cameras_are_the_true_ones(arc: dict[Path, Tensor], found: tuple[Path, Events]) -> None:
    """All pictures get a camera, in the order given, at the true place up to a similarity."""
    result = result_of(found[1])
    assert [frame.image for frame in result.capture.frames] == list(arc)
    assert error_of(result.capture, arc) < 0.005
    assert 0 < result.reprojection_error < 1
    assert len(result.capture.points) > 100 and result.capture.colors.max() <= 1
    assert result.capture.colors.std() > 0.01
    assert result.left_out == () and result.capture.metres_per_unit is None


def test_bar_moves_and_ends_full(found: tuple[Path, Events]) -> None:
    """Steps never go back, the last one is the total, and every stage says what it does."""
    told = [event for event in found[1] if isinstance(event, Progress)]
    assert all(first.step <= second.step for first, second in pairwise(told))
    assert told[-1].step == told[-1].total
    said = " ".join(event.message for event in told)
    assert all(
        word in said for word in ("finding features", "matching", "of 28 pairs", "mapping", "refining")
    )


def test_model_on_disk_is_read_by_others(arc: dict[Path, Tensor], found: tuple[Path, Events]) -> None:
    """The work folder holds a COLMAP model that reads as the same cameras."""
    root = Path(os.path.commonpath(list(arc)))
    read = colmap.read(found[0], images=root)
    ours = {frame.image: frame.camera for frame in result_of(found[1]).capture.frames}
    assert len(read) == 8
    for frame in read.frames:
        assert torch.allclose(frame.camera.world_from_camera, ours[frame.image].world_from_camera, atol=1e-5)


def test_second_call_reads_the_first(arc: dict[Path, Tensor], found: tuple[Path, Events]) -> None:
    """The same pictures and settings give the stored result without work: to the bit, points in order too."""
    again = list(structure_from_motion(list(arc), found[0]))
    assert len(again) == 1
    before, after = result_of(found[1]), result_of(again)
    assert after.attempts == before.attempts
    assert (after.left_out, after.reprojection_error) == (before.left_out, before.reprojection_error)
    assert len(after.capture) == len(before.capture)
    for first, second in zip(before.capture.frames, after.capture.frames):
        ours, theirs = second.camera, first.camera
        assert second.image == first.image
        assert torch.equal(ours.world_from_camera, theirs.world_from_camera)
        assert torch.equal(ours.K, theirs.K)
        assert (ours.model, ours.distortion) == (theirs.model, theirs.distortion)
    assert torch.equal(after.capture.points, before.capture.points)
    assert torch.equal(after.capture.colors, before.capture.colors)


def test_the_first_result_is_read_back(
    arc: dict[Path, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of points in memory may differ from that on disk: the first call gives the latter, too."""
    fresh: list[Capture] = []

    def shuffled(model: Any, pictures: Pictures) -> Capture:
        capture = capture_of(model, pictures)
        fresh.append(replace(capture, points=capture.points.flip(0), colors=capture.colors.flip(0)))
        return fresh[0]

    monkeypatch.setattr(ladder, "capture_of", shuffled)
    first = result_of(list(structure_from_motion(list(arc)[:4], tmp_path))).capture
    second = result_of(list(structure_from_motion(list(arc)[:4], tmp_path))).capture
    assert torch.equal(first.points, second.points) and torch.equal(first.colors, second.colors)
    assert not torch.equal(first.points, fresh[0].points)


def test_other_pictures_are_not_the_first(
    arc: dict[Path, Tensor], found: tuple[Path, Events], tmp_path: Path
) -> None:
    """A result is not taken for that of other pictures, settings or a damaged record."""
    work = tmp_path / "work"
    said = json.loads((found[0] / "sfm.json").read_text())
    said["made_from"]["config"]["seed"] = 7
    work.mkdir()
    (work / "sfm.json").write_text(json.dumps(said))
    (work / "database.db").write_bytes(b"no database" * 100)
    events = list(structure_from_motion(list(arc)[:5], work))
    assert len(result_of(events).capture) == 5
    assert any(isinstance(event, Progress) for event in events)


def test_interrupted_run_goes_on(arc: dict[Path, Tensor], tmp_path: Path) -> None:
    """A run closed while matching leaves features that the next one takes, and no half a result."""
    run = structure_from_motion(list(arc), tmp_path)
    for event in run:
        if isinstance(event, Progress) and event.message.startswith("matching"):
            break
    assert isinstance(run, Generator)
    run.close()
    assert not (tmp_path / "sfm.json").exists()
    assert all(feature_counts(tmp_path / "database.db").values())
    stamp = (tmp_path / "database.db").stat().st_ino
    events = list(structure_from_motion(list(arc), tmp_path))
    assert len(result_of(events).capture) == 8
    assert (tmp_path / "database.db").stat().st_ino == stamp


def test_same_seed_same_cameras(arc: dict[Path, Tensor], found: tuple[Path, Events], tmp_path: Path) -> None:
    """Features, matches and the incremental mapper repeat themselves."""
    again = result_of(list(structure_from_motion(list(arc), tmp_path)))
    for first, second in zip(result_of(found[1]).capture.frames, again.capture.frames):
        assert torch.allclose(first.camera.world_from_camera, second.camera.world_from_camera, atol=1e-4)


def test_retry_keeps_the_larger_model(
    arc: dict[Path, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first attempt with too few features is followed by a better one, and that is said."""
    steps = (Rung("few", Features(WIDTH, 64, peak=0.5)), Rung("many", Features(WIDTH, 8192, enlarge=True)))
    monkeypatch.setattr(ladder, "rungs", lambda _: steps)
    events = list(structure_from_motion(list(arc), tmp_path))
    result, said = result_of(events), [event.message for event in events if isinstance(event, Notice)]
    assert any("trying many" in message for message in said)
    assert any(message.startswith("kept the largest model of") for message in said)
    assert len(result.capture) == 8 and result.attempts[-1].settings == "many"
    assert result.attempts[0].registered < 8
    assert [path.name for path in tmp_path.glob("*.db*")] == ["database.db"]


def test_outlier_camera_is_named(arc: dict[Path, Tensor], found: tuple[Path, Events]) -> None:
    """A camera put elsewhere contradicts its matches; the untouched model has no outlier."""
    model = pycolmap.Reconstruction(found[0] / "sparse" / "0")
    database = found[0] / "database.db"
    sound = judge(database, model, 15)
    assert sound.outliers == {} and sound.agreement > 0.9
    image = next(image for image in model.images.values() if image.name.endswith("view 3.png"))
    moved = pycolmap.Rigid3d(pycolmap.Rotation3d([0.0, 0.5, 0.0, 0.866]), [0.5, 0.5, 1.0])
    model.frames[image.frame_id].rig_from_world = moved * image.cam_from_world()
    verdict = judge(database, model, 15)
    assert list(verdict.outliers) == [image.name]
    assert "contradict" in verdict.outliers[image.name] and verdict.agreement < sound.agreement


def test_far_camera_is_named(found: tuple[Path, Events]) -> None:
    """A camera far from all others is an outlier even where nothing contradicts it."""
    model = pycolmap.Reconstruction(found[0] / "sparse" / "0")
    image = next(image for image in model.images.values() if image.name.endswith("view 3.png"))
    away = pycolmap.Rigid3d(pycolmap.Rotation3d(), [0.0, 0.0, 1e4])
    model.frames[image.frame_id].rig_from_world = away * image.cam_from_world()
    # No pair has so many matches: only the distance is left to testify.
    assert "farther out" in judge(found[0] / "database.db", model, 10**6).outliers[image.name]


def test_unrelated_pictures(tmp_path: Path, one_rung: None) -> None:
    """Noise has features but no overlap."""
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(60, 80, 3, generator=generator) for _ in range(4)]
    images = write_all(tmp_path, [n.repeat_interleave(4, 0).repeat_interleave(4, 1) for n in noise])
    with pytest.raises(
        CaptureError, match=r"expected 4 pictures .*got 0 placed \(no two of them connect\).*not"
    ):
        list(structure_from_motion(images, tmp_path / "work"))


def test_turning_on_the_spot(scene: MeshScene, tmp_path: Path, one_rung: None) -> None:
    """Pictures from one place connect, but have no parallax."""
    targets = [(0.2 * math.sin(a), 0.9 * math.sin(a), 0.0) for a in (-0.2, -0.12, -0.04, 0.04, 0.12, 0.2)]
    pictures = [drawn(scene, looking((0.9, 0.0, 0.7), target)) for target in targets]
    with pytest.raises(CaptureError, match=r"6 of 6 connect: .*no parallax .*walk sideways"):
        list(structure_from_motion(write_all(tmp_path, pictures), tmp_path / "work"))


def test_blurred_pictures(arc: dict[Path, Tensor], tmp_path: Path, one_rung: None) -> None:
    """Pictures without detail are told from pictures without overlap."""
    images = [tmp_path / path.name for path in list(arc)[:3]]
    for sharp, image in zip(arc, images):
        with Image.open(sharp) as picture:
            picture.filter(ImageFilter.GaussianBlur(14)).save(image)
    with pytest.raises(CaptureError, match=r"median picture has \d+ features: blur.*sharp, well lit"):
        list(structure_from_motion(images, tmp_path / "work"))


def test_broken_files_are_named(arc: dict[Path, Tensor], tmp_path: Path) -> None:
    """A file that is no picture and one that is cut off are left out, with a reason."""
    text, cut = tmp_path / "notes.jpg", tmp_path / "cut.png"
    text.write_text("no picture")
    whole = next(iter(arc)).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    events = list(structure_from_motion([text, *list(arc)[:5], cut], tmp_path / "work"))
    reasons = {Path(name).name: reason for name, reason in result_of(events).left_out}
    assert reasons["notes.jpg"] == "no picture that can be opened"
    assert "cut.png" in reasons
    assert len(result_of(events).capture) == 5


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_pictures(arc: dict[Path, Tensor], tmp_path: Path, count: int) -> None:
    """Fewer than three pictures are refused before any work."""
    with pytest.raises(CaptureError, match=r"expected .*pictures of one scene.*, got"):
        list(structure_from_motion(list(arc)[:count], tmp_path))
    assert not list(tmp_path.iterdir())


def test_lens_is_shared_by_equal_pictures(tmp_path: Path) -> None:
    """auto: equal sizes without EXIF share a camera; no: each has its own."""
    sizes = [(40, 30), (40, 30), (30, 40)]
    images = write_all(tmp_path, [torch.zeros(height, width, 3) for width, height in sizes])
    pictures = open_pictures(images)
    assert [len(group) for group in pictures.lenses("auto")] == [2, 1]
    assert len(pictures.lenses("no")) == 3


def test_pairs_of_a_video(found: tuple[Path, Events], arc: dict[Path, Tensor]) -> None:
    """Neighbours in time are always compared; alike pictures come on top; exhaustive compares all."""
    root = Path(os.path.commonpath(list(arc)))
    names = [path.relative_to(root).as_posix() for path in arc]
    database = found[0] / "database.db"
    assert len(choose_pairs(database, names, "exhaustive", False, 0)) == 28
    assert {(row, row + 1) for row in range(7)} <= set(choose_pairs(database, names, "sequential", True, 0))
    alike = choose_pairs(database, names, "similar", False, 0)
    assert alike == choose_pairs(database, names, "similar", False, 0) and {(0, 1), (6, 7)} <= set(alike)


@pytest.mark.parametrize(
    "make", [lambda: SfmConfig(max_side=10), lambda: SfmConfig(max_features=1), lambda: SfmConfig(seed=-1)]
)
def test_config_is_checked(make: Callable[[], SfmConfig]) -> None:
    """Settings that cannot work are refused."""
    with pytest.raises(ValueError, match="expected"):
        make()


def test_photographs(captures: Path, tmp_path: Path) -> None:
    """Eight photographs of the fox at a small size get cameras that are the published ones."""
    published = {frame.name: frame.camera for frame in transforms.read(captures / "fox").frames}
    images = sorted((captures / "fox" / "images").iterdir())[:8]
    result = result_of(list(structure_from_motion(images, tmp_path, SfmConfig(max_side=600))))
    assert len(result.capture) == 8
    truth = {path: published[path.name].world_from_camera for path in images}
    assert error_of(result.capture, truth) < 0.05
