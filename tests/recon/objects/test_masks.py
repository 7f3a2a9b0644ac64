"""Masks on disk: every form they come in, and what is wrong with those that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, FileFormatError
from recon.objects import read_masks
from recon.objects.masks import capture_masks

WIDTH, HEIGHT = 40, 30
IDS = np.zeros((HEIGHT, WIDTH), np.uint16)
IDS[5:20, 5:15], IDS[10:25, 20:35] = 3, 300


def frames(count: int = 3) -> list[Frame]:
    """Frames whose pictures are called 0000.jpg and so on."""
    camera = Camera.looking_at((1.0, 0.0, 1.0), (0.0, 0.0, 0.0), WIDTH, HEIGHT)
    return [Frame(camera, Path(f"images/{i:04d}.jpg")) for i in range(count)]


def write(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    """A picture of these pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = picture.convert("L").convert("P")
        picture.putpalette([value for i in range(256) for value in (i, 255 - i, 7 * i % 256)])
    picture.save(path)


def test_sixteen_bit_ids_stay_what_they_are(tmp_path: Path) -> None:
    """Ids of grey 16-bit pictures are kept as they are written."""
    for i in range(3):
        write(tmp_path / f"{i:04d}.png", IDS)
    masks = read_masks(tmp_path, frames())
    assert len(masks.frames) == 3 and not masks.notices and not masks.per_picture
    assert masks.pictures[0].unique().tolist() == [0, 3, 300]


def test_eight_bit_and_indexed_ids(tmp_path: Path) -> None:
    """Grey pictures of 8 bits hold ids, indexed ones their indices; `a.jpg.png` belongs to `a.jpg`."""
    small = np.where(IDS == 300, 7, IDS).astype(np.uint8)
    write(tmp_path / "0000.jpg.png", small)
    write(tmp_path / "0001.png", small, "P")
    masks = read_masks(tmp_path, frames(2))
    assert torch.equal(masks.pictures[0], masks.pictures[1])
    assert masks.pictures[0].unique().tolist() == [0, 3, 7]


def test_a_colour_for_each_object(tmp_path: Path) -> None:
    """Colours become small numbers, the same in all pictures, black being background."""
    coloured = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    coloured[IDS == 3], coloured[IDS == 300] = (255, 0, 0), (0, 0, 255)
    write(tmp_path / "0000.png", coloured)
    write(tmp_path / "0001.png", np.where((IDS == 300)[..., None], coloured, 0).astype(np.uint8))
    masks = read_masks(tmp_path, frames(2))
    red, blue = int(masks.pictures[0][10, 10]), int(masks.pictures[0][15, 30])
    assert {red, blue} == {1, 2} and int(masks.pictures[1][15, 30]) == blue
    assert "#ff0000" in masks.names[red]


def test_a_folder_for_each_object(tmp_path: Path) -> None:
    """Binary masks in folders called after objects; one that no mask shows is named and left out."""
    for i in range(2):
        write(tmp_path / "mug" / f"{i:04d}.png", ((IDS == 3) * 255).astype(np.uint8))
        write(tmp_path / "box" / f"{i:04d}.png", ((IDS == 300) * 255).astype(np.uint8))
        write(tmp_path / "ghost" / f"{i:04d}.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    masks = read_masks(tmp_path, frames(2))
    assert sorted(masks.names.values()) == ["box", "mug"]
    assert masks.names[int(masks.pictures[0][10, 10])] == "mug"
    assert masks.notices == ("No mask shows ghost: left out.",)


def test_a_folder_for_each_picture(tmp_path: Path) -> None:
    """Binary masks of one picture: their numbers mean nothing beyond it, small ones lie on large ones."""
    everything = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for i in range(2):
        write(tmp_path / f"{i:04d}" / "a.png", everything)
        write(tmp_path / f"{i:04d}" / "b.png", ((IDS == 3) * 255).astype(np.uint8))
    masks = read_masks(tmp_path, frames(2))
    assert masks.per_picture
    assert int(masks.pictures[0][10, 10]) != int(masks.pictures[0][0, 0]) != 0


def test_another_count_is_said(tmp_path: Path) -> None:
    """Masks of some pictures are used, and the number of both is told."""
    write(tmp_path / "0001.png", IDS)
    write(tmp_path / "9999.png", IDS)
    masks = read_masks(tmp_path, frames())
    assert [frame.name for frame in masks.frames] == ["0001.jpg"]
    assert "masks of 1 of 3 pictures" in masks.notices[0]


def test_another_size_of_the_same_proportions(tmp_path: Path) -> None:
    """Masks of half the size are taken, and that is told."""
    write(tmp_path / "0000.png", IDS[::2, ::2])
    masks = read_masks(tmp_path, frames(1))
    assert "Masks of 20x15 px are stretched to their pictures of 40x30 px." in masks.notices
    assert tuple(masks.pictures[0].shape) == (15, 20)


def test_other_proportions_are_refused(tmp_path: Path) -> None:
    """One sentence says which picture, what was expected and what there is."""
    write(tmp_path / "0000.png", IDS.T.copy())
    with pytest.raises(
        CaptureError, match=r"mask of 40x30 px for 0000.jpg, or of these proportions, got 30x40"
    ):
        read_masks(tmp_path, frames(1))


def test_empty_masks_are_refused(tmp_path: Path) -> None:
    """Masks that show nothing at all are somebody's mistake."""
    write(tmp_path / "0000.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(CaptureError, match="expected masks of things, got 1 empty"):
        read_masks(tmp_path, frames(1))


def test_masks_of_other_pictures_are_refused(tmp_path: Path) -> None:
    """Names that fit no picture: the message says how they should be called."""
    write(tmp_path / "left" / "cat.png", IDS)
    with pytest.raises(CaptureError, match=r"called after the pictures \(0000, 0001, 0002"):
        read_masks(tmp_path, frames())
    with pytest.raises(CaptureError, match="expected a folder of masks"):
        read_masks(tmp_path / "nothing", frames())


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    """Thousands of colours are no labels; a torn file is named."""
    rng = np.random.default_rng(0)
    write(tmp_path / "0000.png", rng.integers(0, 255, (90, 120, 3)).astype(np.uint8))
    with pytest.raises(FileFormatError, match=r"0000.png.*colours; save masks as PNG"):
        read_masks(tmp_path, frames(1))
    (tmp_path / "0000.png").write_bytes(b"not a picture")
    with pytest.raises(FileFormatError, match=r"0000.png: expected a whole picture"):
        read_masks(tmp_path, frames(1))


def test_the_captures_own_masks(tmp_path: Path) -> None:
    """White in the masks that a capture lists is one object; without any, that is said."""
    write(tmp_path / "m.png", ((IDS > 0) * 255).astype(np.uint8))
    frame = Frame(frames(1)[0].camera, tmp_path / "i.jpg", mask=tmp_path / "m.png")
    assert capture_masks([frame]).pictures[0].unique().tolist() == [0, 1]
    with pytest.raises(CaptureError, match="lists masks, got one without"):
        capture_masks(frames(1))
