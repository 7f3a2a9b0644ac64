"""Control videos: every channel against a wall whose depth, normal and extent are known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.errors import ConfigError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load_capture
from gaussworld.io.images import read_depth
from gaussworld.io.video import read_video
from gaussworld.log import Progress, drain
from gaussworld.pose import look_at
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject
from recon.control.channels import depth_picture, edge_picture, normal_picture, palette_color, seen, write_ids
from recon.control.clips import CONTROLS, Control, ControlConfig, control_clips
from recon.control.commands import control
from recon.control.path import camera_path, resampled


def _wall(number: int, y: float, half: float, color: tuple, kind=ObjectKind.STATIC) -> WorldObject:
    """A square in the plane of this y that faces -y."""
    step = torch.linspace(-half, half, 60)
    x, z = (part.reshape(-1) for part in torch.meshgrid(step, step, indexing="ij"))
    means = torch.stack([x, torch.full_like(x, y), z], -1)
    n = len(means)
    scales = torch.tensor([half / 40, half / 400, half / 40]).expand(n, 3)
    gaussians = Gaussians.from_activated(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(n, 4),
        scales,
        torch.full((n,), 0.95),
        torch.tensor(color).expand(n, 3),
    )
    return WorldObject(number, f"wall {number}", gaussians, kind)


@pytest.fixture
def world() -> World:
    """A small red square in front of a large grey one, and cameras on an arc before them."""
    cameras = tuple(
        Camera.looking_at((2 * math.sin(a), -2 * math.cos(a), 0.2), (0.0, 0.0, 0.0), 96, 64)
        for a in (-0.4, 0.0, 0.4)
    )
    items = [_wall(1, 0.0, 0.8, (0.5, 0.5, 0.5)), _wall(7, -0.5, 0.2, (1.0, 0.1, 0.1), ObjectKind.RIGID)]
    return World({item.id: item for item in items}, cameras, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def _ahead() -> Camera:
    return Camera.looking_at((0.0, -2.0, 0.0), (0.0, 0.0, 0.0), 96, 64)


def test_channels_of_known_walls(world):
    """z-depth in metres, normals towards the viewer, ids of what is in front; nothing is 0."""
    view = seen(world.shown(), _ahead())
    assert float(view.depth[32, 48]) == pytest.approx(1.5, abs=0.01)
    assert float(view.depth[32, 75]) == pytest.approx(2.0, abs=0.01)
    assert torch.allclose(view.normals[32, 48], torch.tensor([0.0, 0.0, 1.0]), atol=0.02)
    assert int(view.ids[32, 48]) == 7 and int(view.ids[32, 75]) == 1
    far = seen(world.shown(), Camera.looking_at((0.0, -8.0, 0.0), (0.0, 0.0, 0.0), 96, 64))
    assert float(far.depth[0, 0]) == 0 and int(far.ids[0, 0]) == 0 and bool((far.normals[0, 0] == 0).all())


def test_normals_have_the_axes_of_opengl(world):
    """Seen from its left a wall faces right in the picture; seen from above it faces down, always to us."""
    left = seen(world.shown(), Camera.looking_at((-1.5, -1.5, 0.0), (0.0, 0.0, 0.0), 96, 64)).normals[32, 48]
    above = seen(world.shown(), Camera.looking_at((0.0, -1.5, 1.5), (0.0, 0.0, 0.0), 96, 64)).normals[32, 48]
    half = math.sqrt(0.5)
    assert torch.allclose(left, torch.tensor([half, 0.0, half]), atol=0.05)
    assert torch.allclose(above, torch.tensor([0.0, -half, half]), atol=0.05)


def test_depth_is_inverse_and_one_range():
    """White at near, black at far and at nothing, and in between by 1 / z."""
    grey = depth_picture(torch.tensor([[1.0, 2.0, 4.0, 0.0, 0.5, 9.0]]), 1.0, 4.0)[0, :, 0]
    assert torch.allclose(grey, torch.tensor([1.0, 1 / 3, 0.0, 0.0, 1.0, 0.0]), atol=1e-6)


def test_nothing_is_flat_in_normals():
    """Where nothing is, normals have the colour of a surface that faces the camera."""
    assert normal_picture(torch.zeros(1, 1, 3))[0, 0].tolist() == [0.5, 0.5, 1.0]


def test_edges_are_where_colours_change():
    """A square's outline, and nothing inside it."""
    picture = torch.zeros(40, 40, 3)
    picture[10:30, 10:30] = 1.0
    edges = edge_picture(picture, 100.0, 200.0)[..., 0]
    assert float(edges[15:25, 15:25].max()) == 0 and float(edges[8:12].max()) == 1.0
    assert set(edges.unique().tolist()) == {0.0, 1.0}


def test_colours_of_objects_differ_and_stay():
    """Sixty objects have sixty colours, far from black; they are a function of the id alone."""
    colors = torch.tensor([palette_color(number) for number in range(1, 61)])
    assert palette_color(0) == (0.0, 0.0, 0.0)
    assert len(colors.unique(dim=0)) == 60 and float(colors.amax(1).min()) > 0.5
    near = torch.tensor([palette_color(number) for number in range(1, 13)])
    gaps = (near[:, None] - near).norm(dim=-1) + 10 * torch.eye(12)
    assert float(gaps.min()) > 0.15


def test_clips_and_conventions(world, tmp_path, capsys):
    """One video for each kind, as many frames each; exact depth and ids beside; everything said in JSON."""
    world.save(tmp_path / "a.world")
    config = ControlConfig(exact=True)
    control(
        tmp_path / "a.world", out=tmp_path / "out", path="tour", frames=5, fps=12.0, json=True, config=config
    )
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    facts = json.loads((tmp_path / "out" / "control.json").read_text())
    assert list(facts["controls"]) == list(CONTROLS) and facts["fps"] == 12.0
    for kind in CONTROLS:
        frames = [frame for _, frame in read_video(tmp_path / "out" / facts["controls"][kind]["file"])]
        assert len(frames) == 5 and frames[0].shape[:2] == tuple(facts["size"][::-1])
    objects = {each["id"]: each["rgb"] for each in facts["controls"]["segmentation"]["objects"]}
    first = next(read_video(tmp_path / "out" / "segmentation.mp4"))[1]
    height, width = first.shape[:2]
    wanted = torch.tensor(objects[7]) / 255
    assert float((first[height // 2, width // 2] - wanted).abs().max()) < 0.1
    capture = load_capture(tmp_path / "out", need_pictures=False)
    path = capture.frames[0].depth
    assert isinstance(path, Path)
    depth = read_depth(path)
    assert float(depth[height // 2, width // 2]) == pytest.approx(1.5, abs=0.15)
    with Image.open(tmp_path / "out" / "ids" / "0000.png") as ids:
        assert int(np.array(ids)[height // 2, width // 2]) == 7


def test_depth_of_a_clip_keeps_one_range(world, tmp_path):
    """The same wall has the same grey from frame to frame, where the camera only turns about it."""
    cameras = [_ahead(), _ahead().rescaled(96, 64)]
    config = ControlConfig(near=1.0, far=4.0)
    done = drain(control_clips(world, cameras, tmp_path / "out", ("depth",), 24.0, config)).result
    assert [path.name for path in done.files] == ["depth.mp4"]
    for _, frame in read_video(tmp_path / "out" / "depth.mp4"):
        assert float(frame[32, 48, 0]) == pytest.approx((1 / 1.5 - 0.25) / 0.75, abs=0.02)


def test_paths(world, tmp_path):
    """A turn, a tour, a world's cameras in order and in between; sizes are even."""
    assert len(camera_path(world, "turntable", 7, None, None)) == 7
    assert len(camera_path(world, "tour", None, None, None)) == 120
    world.save(tmp_path / "a.world")
    own = camera_path(world, str(tmp_path / "a.world"), None, 101, None)
    assert [camera.width for camera in own] == [100] * 3 and own[0].height % 2 == 0
    more = resampled(world.cameras, 5)
    assert torch.allclose(more[2].world_from_camera, world.cameras[1].world_from_camera, atol=1e-5)
    halfway = more[1].center
    assert torch.allclose(halfway, (world.cameras[0].center + world.cameras[1].center) / 2, atol=1e-5)
    expected = look_at(halfway, torch.zeros(3))
    assert float((more[1].world_from_camera[:3, 2] - expected[:3, 2]).norm()) < 0.05


def test_bad_wishes(world, tmp_path):
    """Sizes, ranges, kinds, paths and folders that cannot be: a sentence each, and nothing is written."""
    for path, frames, width, message in (
        ("tour", 0, None, "--frames: expected at least 1, got 0"),
        ("turntable", 2, 0, "--width: expected at least 1"),
        (str(tmp_path / "none.json"), None, None, "does not exist"),
    ):
        with pytest.raises(ConfigError, match=message):
            camera_path(world, path, frames, width, None)
    with pytest.raises(ConfigError, match="a world with cameras"):
        camera_path(replace(world, cameras=()), "tour", 4, None, None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    wishes: tuple[tuple[Path, tuple[Control, ...], ControlConfig, str], ...] = (
        (tmp_path / "full", CONTROLS, ControlConfig(), "new or empty folder"),
        (tmp_path / "a", (), ControlConfig(), "expected some of rgb"),
        (tmp_path / "b", ("depth",), ControlConfig(near=2.0, far=1.0), "--far: expected more than --near"),
        (tmp_path / "c", ("edge",), ControlConfig(edge_low=300.0), "--edge-low <= --edge-high"),
    )
    for out, kinds, config, message in wishes:
        with pytest.raises(ConfigError, match=message):
            drain(control_clips(world, [_ahead()], out, kinds, 24.0, config))
        assert not out.exists() or (out / "mine.txt").exists()


def test_ctrl_c_leaves_no_half_video(world, tmp_path):
    """Closed in the middle, no video appears under its name, and no thread is left waiting."""
    events = control_clips(world, [_ahead()] * 6, tmp_path / "out", ("rgb", "depth"))
    for event in events:
        if isinstance(event, Progress) and event.step == 3:
            events.close()
            break
    assert list((tmp_path / "out").iterdir()) == []


def test_ids_beyond_sixteen_bits(tmp_path):
    """They are refused, not cut."""
    with pytest.raises(ValueError, match="expected ids up to 65535, got 70000"):
        write_ids(tmp_path / "a.png", torch.full((2, 2), 70000, dtype=torch.int32))
