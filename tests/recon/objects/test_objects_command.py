"""The verb `objects` on stored worlds: one edit, what it says, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.capture import Capture, Frame
from gaussworld.edit import applied
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.gaussians import DELETED
from gaussworld.io import save_cameras
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.session import Session
from gaussworld.world import World
from gaussworld.world_object import ObjectKind
from recon.objects import Found, segment_edit
from recon.objects.commands import objects
from recon.objects.finding import MaskSource, RobotSource, joint_values
from recon.objects.sources import pictures_of

URDF = """<robot name="r"><link name="hand"><visual><origin xyz="-0.14 -0.04 0.05"/>
<geometry><box size="0.12 0.12 0.1"/></geometry></visual></link></robot>"""


@pytest.fixture(scope="module")
def world(scene: Any) -> World:
    """The scene as it comes from a reconstruction: all background."""
    return World.from_gaussians(
        scene.gaussians, cameras=scene.cameras, metres_per_unit=1.0, up=(0.0, 0.0, 1.0)
    )


@pytest.fixture
def stored(world: World, tmp_path: Path) -> Path:
    """It in a folder."""
    world.save(tmp_path / "a.world")
    return tmp_path / "a.world"


@pytest.fixture
def pictures(scene: Any, tmp_path: Path) -> Path:
    """A capture with pictures on disk, and masks beside it."""
    frames = []
    for i, (camera, ids) in enumerate(zip(scene.cameras, scene.pictures)):
        path = tmp_path / "capture" / "images" / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((camera.height, camera.width, 3), np.uint8)).save(path)
        Image.fromarray(ids.numpy().astype(np.uint16)).save(tmp_path / "masks" / path.name)
        frames.append(Frame(camera, path))
    save_cameras(Capture(tuple(frames)), tmp_path / "capture" / "transforms.json")
    return tmp_path / "capture"


def test_geometry_is_one_edit(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects with kinds, frames and confidences; undone in one step; found again under the same numbers."""
    objects(stored, json=True)
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["objects"]] == ["table", "object 2", "object 3", "background"]
    assert told["objects"][0]["kind"] == "STATIC" and "size cm" in told["objects"][0]
    with Session(stored) as session:
        made = session.world
        assert made.objects[2].kind is ObjectKind.RIGID
        middle = made.objects[2].world_from_object[:3, 3]
        assert torch.allclose(middle, torch.tensor([-0.14, -0.04, 0.05]), atol=0.01)
        assert int(made.objects[2].gaussians.id_confidences.float().mean()) > 150
        session.undo()
        assert list(session.world.objects) == [0]
        session.redo()
    objects(stored)
    assert "table" in capsys.readouterr().out
    assert list(World.open(stored).objects) == [0, 1, 2, 3]


def test_masks_of_a_named_capture(stored: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids of masks are the numbers of the objects."""
    objects(stored, mask=MaskSource(pictures.parent / "masks", capture=pictures), json=True)
    told = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in told["objects"]] == [1, 2, 3, 0]
    assert told["objects"][0]["kind"] == "STATIC"


def test_masks_need_pictures(stored: Path, pictures: Path) -> None:
    """A world in no run keeps cameras only: the sentence says what to name."""
    with pytest.raises(ConfigError, match=r"keeps only cameras; name the pictures .* --capture"):
        objects(stored, mask=MaskSource(pictures.parent / "masks"))


def test_cameras_follow_a_world_that_was_turned(world: World, pictures: Path, tmp_path: Path) -> None:
    """Edits may have turned and scaled the world since: its pictures are looked at from the same places."""
    turn = pose_from(rotation_from_rotvec(torch.tensor([0.3, -0.5, 1.0])), torch.tensor([0.2, 3.0, -1.0]))
    moved = world.reframed(turn, 2.5)
    capture = pictures_of(tmp_path / "a.world", moved, pictures)
    for frame, camera in zip(capture.frames, moved.cameras):
        assert torch.allclose(frame.camera.world_from_camera, camera.world_from_camera, atol=1e-4)


def test_a_robot_alone(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a URDF and nothing else, only the robot is found."""
    (tmp_path / "r.urdf").write_text(URDF)
    objects(stored, robot=RobotSource(tmp_path / "r.urdf", tolerance=0.004), json=True)
    told = json.loads(capsys.readouterr().out)["objects"]
    assert [(row["name"], row["kind"]) for row in told] == [("hand", "ROBOT"), ("background", "STATIC")]


def test_flags_that_make_no_sense(stored: Path, tmp_path: Path) -> None:
    """Each contradiction is one sentence."""
    some = MaskSource(tmp_path, "prog {image} {output}")
    for mask, source, text in (
        (some, "auto", "got both"),
        (MaskSource(tmp_path), "geometry", "use --from both"),
        (MaskSource(), "masks", "got neither"),
        (MaskSource(mask_command="prog"), "auto", r"\{image\} and \{output\}"),
        (MaskSource(tmp_path, mask_timeout=0.0), "auto", "positive time"),
    ):
        with pytest.raises(ConfigError, match=text):
            objects(stored, source=source, mask=mask)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="expected --urdf with it"):
        objects(stored, robot=RobotSource(joints="a=1"))
    with pytest.raises(ConfigError, match="make one: gaussworld world create"):
        objects(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        objects(tmp_path / "none")


def test_joint_values() -> None:
    """NAME=VALUE pairs, or a sentence."""
    assert joint_values("a=1, b_2=-0.5,") == {"a": 1.0, "b_2": -0.5}
    for text in ("a", "a=x", "=1"):
        with pytest.raises(ConfigError, match="expected NAME=VALUE,NAME=VALUE"):
            joint_values(text)


def test_robots_with_other_joints(stored: Path, tmp_path: Path) -> None:
    """A joint that the robot has not."""
    (tmp_path / "r.urdf").write_text(URDF)
    with pytest.raises(ConfigError, match=r"--joints: .*elbow"):
        objects(stored, robot=RobotSource(tmp_path / "r.urdf", "elbow=1"))


def test_hidden_and_deleted_rows_go_along(world: World) -> None:
    """What is not shown gets the id of its neighbours, with low confidence."""
    item = world.objects[0]
    flags = torch.zeros_like(item.gaussians.flags)
    flags[::7] = DELETED
    world = world.with_object(replace(item, gaussians=replace(item.gaussians, flags=flags)))
    count = int((flags == 0).sum())
    found = Found(torch.ones(count).int(), torch.full((count,), 250, dtype=torch.uint8))
    edit = segment_edit(world, world.posed(), found)
    assert edit.ids.unique().tolist() == [1] and int(edit.confidences[::7].max()) <= 32  # pyright: ignore


def test_locked_objects_and_numbers_in_use(world: World, scene: Any) -> None:
    """A locked object keeps its Gaussians, and no new object takes its number."""
    sure = torch.full((len(scene.ids),), 200, dtype=torch.uint8)
    first = applied(segment_edit(world, world.posed(), Found(scene.ids, sure)), world)
    first = first.with_object(replace(first.objects[2], locked=True))
    everything = first.posed()
    floor = everything.object_ids == 0
    edit = segment_edit(first, everything, Found(torch.where(floor, 2, 0).int(), sure))
    again = applied(edit, first)
    assert len(again.objects[2].gaussians) == len(first.objects[2].gaussians)
    assert len(again.objects[4].gaussians) == int(floor.sum())


def test_a_world_that_shows_nothing(build: Callable[..., Any], world: World, tmp_path: Path) -> None:
    """All hidden: nothing to find."""
    world.with_object(replace(world.objects[0], hidden=True)).save(tmp_path / "b.world")
    with pytest.raises(CaptureError, match="a world that shows none"):
        objects(tmp_path / "b.world")
