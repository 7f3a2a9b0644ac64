"""The colour camera's focal length, found where colours of different frames agree."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.io import load_capture
from gaussworld.io.images import write_depth, write_image
from gaussworld.pose import look_at
from recon.inputs.color_focal import with_color_focal

LENS = torch.tensor([[120.0, 0, 80], [0, 120, 60], [0, 0, 1]])
WALL = torch.tensor([-0.3, -0.2, 1.0])


def slope(camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours and z-depth [m] of the spotted plane z = 2 + 0.3 x + 0.2 y."""
    origin, rays = camera.rays()
    way = ((2 - WALL @ origin) / (rays @ WALL))[..., None]
    spots = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(4))
    where = (origin + rays * way)[None, ..., :2] / 4
    seen = torch.nn.functional.grid_sample(spots, where, align_corners=False)[0, 0]
    return seen[..., None].expand(-1, -1, 3), way[..., 0] * (rays @ camera.world_from_camera[:3, 2])


def sequence(folder: Path, ratio: float, frames: int = 8) -> Capture:
    """Frames that state the depth camera; the colour camera's focal length is `ratio` times its."""
    taken = []
    for i in range(frames):
        eye = torch.tensor([0.12 * i - 0.4, 0.1 * (i % 3), -0.05 * i])
        pose = look_at(eye, torch.tensor([0.0, 0.05 * i, 2.0]), torch.tensor([0.0, -1.0, 0.0]))
        stated = Camera(pose, LENS, 160, 120)
        colored = replace(stated, K=LENS * torch.tensor([[ratio, ratio, 1.0]] * 2 + [[1.0, 1.0, 1.0]]))
        write_image(folder / f"{i}.png", slope(colored)[0])
        write_depth(folder / f"{i}.depth.png", slope(stated)[1])
        taken.append(Frame(stated, folder / f"{i}.png", depth=folder / f"{i}.depth.png"))
    return Capture(tuple(taken), metres_per_unit=1.0)


@pytest.mark.parametrize("ratio", [0.88, 1.15])
def test_another_focal_length_is_found(tmp_path: Path, ratio: float, caplog) -> None:
    """Within a percent; the stated camera stays the depth's, and the warning names both."""
    capture = sequence(tmp_path, ratio)
    for before, after in zip(capture.frames, with_color_focal(capture).frames, strict=True):
        assert float(after.camera.K[0, 0]) == pytest.approx(120 * ratio, rel=0.01)
        assert after.camera.K[0, 2] == 80
        assert after.depth_camera is before.camera
    assert "not at the stated 120 px, which is taken for the depth camera's" in caplog.text


def test_what_fits_or_is_settled_stays(tmp_path: Path, caplog) -> None:
    """A registered sequence, one whose depth camera is known, too few frames, and blank pictures."""
    for capture in (
        sequence(tmp_path / "fits", 1.0),
        Capture(tuple(replace(f, depth_camera=f.camera) for f in sequence(tmp_path / "b", 0.88).frames)),
        sequence(tmp_path / "c", 0.88, frames=2),
    ):
        assert with_color_focal(capture) is capture
    blank = sequence(tmp_path, 0.88)
    for frame in blank.frames:
        assert isinstance(frame.image, Path)
        write_image(frame.image, torch.full((120, 160, 3), 0.5))
    assert with_color_focal(blank) is blank
    assert not caplog.records


def test_the_real_sensor_has_two_cameras(captures: Path) -> None:
    """The focal length that comes with these frames is the depth camera's; the other's is near 525 px."""
    frame = with_color_focal(load_capture(captures / "rgbd_50")).frames[0]
    assert 510 < float(frame.camera.K[0, 0]) < 532
    assert frame.depth_camera is not None and float(frame.depth_camera.K[0, 0]) == 585
