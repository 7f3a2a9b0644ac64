"""Datasets for nerfstudio: what its parser wants to find, and the same cameras and pictures as before."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld import (
    Camera,
    CameraModel,
    Gaussians,
    World,
    load_capture,
    look_at,
    render,
    save,
    save_cameras,
)
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, ConfigError, GaussWorldError
from gaussworld.io.images import image_size, read_depth, read_image, read_mask, write_depth, write_image
from gaussworld.io.nerfstudio import SavedDataset, save_dataset
from gaussworld.io.nerfstudio.commands import export_dataset
from gaussworld.io.ply import read_points
from gaussworld.log import Notice, drain


def camera(index: int = 0, **words: Any) -> Camera:
    eye = torch.tensor([2.0 - 0.5 * index, -2.0, 1.0])
    pinhole = Camera.pinhole(look_at(eye, torch.zeros(3)), 32, 24, 50.0)
    return Camera(pinhole.world_from_camera, pinhole.K, 32, 24, **words) if words else pinhole


def blob() -> Gaussians:
    g = torch.Generator().manual_seed(1)
    n = 60
    return Gaussians.from_activated(
        0.3 * torch.randn(n, 3, generator=g),
        torch.randn(n, 4, generator=g),
        torch.full((n, 3), 0.1),
        torch.linspace(0, 1, n),
        torch.rand(n, 3, generator=g),
    )


def photographs(folder: Path, count: int = 12, suffix: str = ".png", **words: Any) -> Capture:
    """Pictures on disk, each of another colour."""
    frames = []
    for index in range(count):
        path = folder / f"photo{index:02d}{suffix}"
        write_image(path, torch.full((24, 32, 3), (index + 1) / 20))
        frames.append(Frame(camera(index, **words), path))
    return Capture(tuple(frames))


def saved(source: Any, folder: Path, **words: Any) -> tuple[SavedDataset, dict[str, Any], Capture]:
    result = drain(save_dataset(source, folder, **words)).result
    return result, json.loads((folder / "transforms.json").read_text()), load_capture(folder)


def same_cameras(a: Capture, b: Capture) -> None:
    assert len(a) == len(b)
    for one, other in zip(a.frames, b.frames):
        torch.testing.assert_close(one.camera.world_from_camera, other.camera.world_from_camera)
        torch.testing.assert_close(one.camera.K, other.camera.K)
        assert one.camera.distortion == other.camera.distortion


def test_capture_keeps_cameras_and_pictures(tmp_path: Path) -> None:
    """The files themselves, under their names; one camera model for all; no transform that was applied."""
    capture = photographs(tmp_path / "in", suffix=".jpg")
    capture = Capture(capture.frames, torch.rand(9, 3), torch.rand(9, 3), world_from_source=2 * torch.eye(4))
    result, meta, again = saved(capture, tmp_path / "out")
    assert result == SavedDataset(tmp_path / "out", 12, rendered=False, points=9)
    same_cameras(capture, again)
    for frame, entry in zip(capture.frames, meta["frames"]):
        assert (tmp_path / "out" / entry["file_path"]).read_bytes() == Path(frame.image).read_bytes()  # type: ignore
    assert meta["camera_model"] == "PINHOLE"
    assert "train_filenames" not in meta
    assert "applied_transform" not in meta
    assert "applied_scale" not in meta


def test_lenses_are_kept(tmp_path: Path) -> None:
    """nerfstudio straightens pictures itself; where each has its own lens, the model is still stated."""
    first, second = (0.1, 0.0, 0.01, 0.0), (0.2, 0.0, 0.0, 0.0)
    capture = photographs(tmp_path / "in", model=CameraModel.OPENCV, distortion=first)
    other = photographs(tmp_path / "in", model=CameraModel.OPENCV, distortion=second)
    mixed = Capture((*capture.frames[:6], *other.frames[6:]))
    _, meta, again = saved(mixed, tmp_path / "out")
    assert meta["camera_model"] == "OPENCV"
    assert "fl_x" in meta["frames"][0]
    same_cameras(mixed, again)
    fisheye = photographs(tmp_path / "in", model=CameraModel.FISHEYE, distortion=(0.1, 0.0, 0.0, 0.0))
    assert saved(fisheye, tmp_path / "fisheye")[1]["camera_model"] == "OPENCV_FISHEYE"


def test_lenses_that_nerfstudio_does_not_know(tmp_path: Path) -> None:
    """Fisheye beside others, and rational distortion."""
    plain = photographs(tmp_path / "in")
    fisheye = photographs(tmp_path / "in", model=CameraModel.FISHEYE, distortion=(0.1, 0.0, 0.0, 0.0))
    with pytest.raises(CaptureError, match="got both"):
        drain(save_dataset(Capture((*plain.frames, *fisheye.frames)), tmp_path / "out"))
    rational = (0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0, 0.0)
    capture = photographs(tmp_path / "in", model=CameraModel.OPENCV, distortion=rational)
    with pytest.raises(CaptureError, match="got rational distortion"):
        drain(save_dataset(capture, tmp_path / "out"))
    assert not list(tmp_path.glob("*out*"))


def test_pictures_that_nerfstudio_would_misread(tmp_path: Path) -> None:
    """Turned by EXIF, of 16 bits, or of another size than their camera: written anew; the camera follows."""
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((32, 24, 3), 200, np.uint8)).save(turned, exif=exif)
    deep, large, grey = tmp_path / "deep.png", tmp_path / "large.png", tmp_path / "grey.png"
    Image.fromarray(np.full((24, 32), 30000, np.uint16)).save(deep)
    write_image(large, torch.rand(48, 64, 3))
    write_image(grey, torch.rand(24, 32))
    capture = Capture(tuple(Frame(camera(i), path) for i, path in enumerate((turned, deep, large, grey))))
    _, meta, again = saved(capture, tmp_path / "out")
    sizes = [image_size(frame.image, upright=False) for frame in again.frames]  # type: ignore
    assert sizes == [(32, 24), (32, 24), (64, 48), (32, 24)]
    assert [(frame.camera.width, frame.camera.height) for frame in again.frames] == sizes
    assert [entry["file_path"] for entry in meta["frames"][:2]] == ["images/turned.png", "images/deep.png"]
    for frame in again.frames:
        with Image.open(frame.image) as picture:  # type: ignore
            assert picture.mode in ("RGB", "L")
            assert 0x0112 not in picture.getexif()


def test_names_that_clash(tmp_path: Path) -> None:
    """Pictures of two cameras are often called alike; so are those of one name in two formats."""
    left, right = photographs(tmp_path / "left", 2), photographs(tmp_path / "right", 2)
    _, meta, again = saved(Capture((*left.frames, *right.frames)), tmp_path / "out")
    assert len({entry["file_path"] for entry in meta["frames"]}) == 4
    same_cameras(Capture((*left.frames, *right.frames)), again)


def test_pictures_in_memory_with_depth(tmp_path: Path) -> None:
    """As simulated captures have them."""
    frames = [Frame(camera(i), torch.rand(24, 32, 4), depth=torch.full((24, 32), 1.25)) for i in range(3)]
    capture = Capture(tuple(frames), metres_per_unit=1.0)
    _, meta, again = saved(capture, tmp_path / "out", depth=True)
    assert meta["metres_per_unit"] == 1.0
    assert read_image(again.frames[0].image).shape == (24, 32, 4)  # type: ignore
    assert float(read_depth(again.frames[2].depth).max()) == 1.25  # type: ignore
    assert "depth_file_path" not in saved(capture, tmp_path / "flat")[1]["frames"][0]


def test_depth_that_cannot_be_stated(tmp_path: Path) -> None:
    """In another unit than metres, or for some pictures only: left out, with a word."""
    frames = [Frame(camera(i), torch.rand(24, 32, 3), depth=torch.ones(24, 32)) for i in range(2)]
    inches = Capture(tuple(frames), metres_per_unit=0.0254)
    some = Capture((frames[0], Frame(camera(1), torch.rand(24, 32, 3))), metres_per_unit=1.0)
    for index, capture in enumerate((inches, some)):
        events = list(save_dataset(capture, tmp_path / f"{index}", depth=True))
        assert [
            event for event in events if isinstance(event, Notice) and "Depth is left out" in event.message
        ]
        assert "depth_file_path" not in (tmp_path / f"{index}" / "transforms.json").read_text()


def test_masks_for_all_or_none(tmp_path: Path) -> None:
    """nerfstudio wants a mask for every picture, of its size; depth of another size is fitted likewise."""
    capture = photographs(tmp_path / "in", 3)
    half = torch.zeros(12, 16)
    half[:, 8:] = 1
    write_image(tmp_path / "mask.png", half)
    write_depth(tmp_path / "depth.png", 2 * torch.ones(12, 16))
    frames = [Frame(f.camera, f.image, depth=tmp_path / "depth.png") for f in capture.frames]
    frames[1] = Frame(camera(1), frames[1].image, tmp_path / "mask.png", tmp_path / "depth.png")
    _, meta, again = saved(Capture(tuple(frames)), tmp_path / "out", depth=True)
    masks = [read_mask(frame.mask) for frame in again.frames]  # type: ignore
    assert [int(mask.sum()) for mask in masks] == [24 * 32, 24 * 16, 24 * 32]
    assert not bool(masks[1][:, :16].any())
    assert all(read_depth(frame.depth).shape == (24, 32) for frame in again.frames)  # type: ignore
    with Image.open(tmp_path / "out" / meta["frames"][0]["mask_path"]) as picture:
        assert picture.mode == "L"


def test_masks_of_another_shape(tmp_path: Path) -> None:
    """A mask that cannot be its picture's."""
    write_image(tmp_path / "mask.png", torch.ones(40, 10))
    frame = Frame(camera(), photographs(tmp_path / "in", 1).frames[0].image, tmp_path / "mask.png")
    with pytest.raises(CaptureError, match="expected a mask or depth map with the proportions"):
        drain(save_dataset(Capture((frame,)), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_something_to_evaluate_on(tmp_path: Path) -> None:
    """nerfstudio judges on `val` while training and on `test` afterwards, and stops where either is empty."""
    capture = photographs(tmp_path / "in").with_holdout(6)
    _, meta, again = saved(capture, tmp_path / "out")
    assert meta["val_filenames"] == meta["test_filenames"] == ["images/photo00.png", "images/photo06.png"]
    assert len(meta["train_filenames"]) == 10
    assert [frame.split for frame in again.frames] == [frame.split for frame in capture.frames]
    few = saved(photographs(tmp_path / "in", 4), tmp_path / "few")[1]
    assert len(few["train_filenames"]) == 4
    assert few["val_filenames"] == few["test_filenames"] == ["images/photo03.png"]


def test_world_is_drawn(tmp_path: Path) -> None:
    """A world keeps no pictures: its cameras see its Gaussians, whose solid ones are points to start from."""
    world = World.from_gaussians(blob(), cameras=[camera(i) for i in range(3)], metres_per_unit=1.0)
    world.save(tmp_path / "w.world")
    result, meta, again = saved(
        tmp_path / "w.world", tmp_path / "out", depth=True, background=(0.0, 0.5, 1.0)
    )
    assert result.rendered
    with torch.no_grad():
        drawn = render(blob(), camera(1), background=(0.0, 0.5, 1.0), outputs=["depth"])
    assert drawn.depth is not None
    assert float((read_image(again.frames[1].image) - drawn.rgb.clamp(0, 1)).abs().max()) < 0.003  # type: ignore
    assert float((read_depth(again.frames[1].depth) - drawn.depth).abs().max()) < 0.001  # type: ignore
    points, colors = read_points(tmp_path / "out" / meta["ply_file_path"])
    solid = blob().select(blob().opacities > 0.1)
    torch.testing.assert_close(points, solid.means)
    assert float((colors - solid.rgb).abs().max()) < 0.003
    assert result.points == len(points) == len(solid)


def test_run_keeps_its_pictures(tmp_path: Path) -> None:
    """A run folder has Gaussians and pictures: the pictures are copied, the Gaussians are where to start."""
    save(blob(), tmp_path / "run" / "scene.ply")
    save_cameras(photographs(tmp_path / "in"), tmp_path / "run" / "transforms.json")
    result, _, again = saved(tmp_path / "run", tmp_path / "out")
    assert not result.rendered
    assert result.points == int((blob().opacities > 0.1).sum())
    assert torch.equal(read_image(again.frames[3].image), read_image(tmp_path / "in" / "photo03.png"))  # type: ignore


def test_nothing_is_overwritten_and_nothing_half_made(tmp_path: Path) -> None:
    """A folder with files stays as it is, and a failure leaves none behind."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected a new or an empty folder"):
        drain(save_dataset(photographs(tmp_path / "in"), tmp_path / "out"))
    capture = photographs(tmp_path / "in")
    Path(capture.frames[5].image).write_bytes(b"no picture")  # type: ignore
    with pytest.raises(GaussWorldError, match=r"photo05\.png"):
        drain(save_dataset(capture, tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_world_without_cameras(tmp_path: Path) -> None:
    """There is nobody who sees it."""
    with pytest.raises(CaptureError, match="expected a world with cameras, got none"):
        drain(save_dataset(World.from_gaussians(blob()), tmp_path / "out"))


def test_verb_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gaussworld export SOURCE FOLDER --format nerfstudio`."""
    save_cameras(photographs(tmp_path / "in"), tmp_path / "in" / "transforms.json")
    export_dataset(tmp_path / "in", tmp_path / "out")
    assert "12 pictures, copied, and 0 points" in capsys.readouterr().out
    World.from_gaussians(blob(), cameras=[camera()]).save(tmp_path / "w.world")
    export_dataset(tmp_path / "w.world", tmp_path / "drawn", json=True)
    assert json.loads(capsys.readouterr().out)["rendered"] is True
