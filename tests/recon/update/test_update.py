"""Updates: pictures find their place, what moved is moved, and what did not stays bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, ConfigError, FileFormatError
from gaussworld.io import save_cameras
from gaussworld.io.images import write_image
from gaussworld.log import drain
from gaussworld.pose import pose_from, rotation_from_rotvec, rotvec_from_rotation
from gaussworld.session import Session
from gaussworld.store import Store
from gaussworld.world import World
from recon.update import UpdateConfig, Updated, update
from recon.update.commands import update as update_verb
from recon.update.states import poses_seen

TABLE, CRATE, BALL = 1, 2, 3
#: Small and quick; the thresholds are those of real runs.
QUICK = UpdateConfig(pictures=5, resolution=320, renderings=6)


def _run(world: World, folder: Path, **changes) -> Updated:
    return drain(update(world, [folder], replace(QUICK, **changes))).result


def _moved(world: World, number: int, shift: tuple[float, float, float], yaw: float) -> World:
    old = world.find(number).world_from_object
    turn = rotation_from_rotvec(torch.tensor([0.0, 0.0, yaw]))
    return world.moved(number, pose_from(turn @ old[:3, :3], old[:3, 3] + torch.tensor(shift)))


def test_unposed_pictures_of_an_unchanged_world_change_nothing(place, tmp_path):
    """All register within millimetres, though exposed otherwise, and there are no false changes."""
    updated = _run(place.world, place.photograph(place.world, tmp_path, gain=0.8))
    assert not updated.changed and not updated.moves and updated.world is place.world
    assert len(updated.shots) == 5
    for shot, camera in zip(updated.shots, place.cameras):
        found, true = shot.camera.world_from_camera, camera.world_from_camera
        assert float((found - true)[:3, 3].norm()) < 0.005
        assert float(rotvec_from_rotation(found[:3, :3] @ true[:3, :3].T).norm()) < 0.005


def test_a_crate_that_was_carried_away_is_moved_in_one_revision(place, tmp_path, capsys):
    """Within 3 mm and 1.5 degrees; all else stays bit for bit; the joint fits both states; undo works."""
    stored = tmp_path / "kitchen.world"
    place.world.save(stored)
    truth = _moved(place.world, CRATE, (0.08, -0.3, 0.0), 0.6)
    pictures = place.photograph(truth, tmp_path / "new", count=4)
    update_verb(
        stored,
        (pictures,),
        out=tmp_path / "out",
        joint="crate",
        json=True,
        config=replace(QUICK, refit=False),
    )
    told = json.loads(capsys.readouterr().out)
    assert told["revision"] == 2
    assert [(each["id"], each["verdict"]) for each in told["objects"]] == [(CRATE, "moved")]
    assert told["joint"]["kind"] == "revolute" and abs(told["joint"]["positions"][1] - 0.6) < 0.03
    assert (tmp_path / "out" / "update.png").is_file() and (tmp_path / "out" / "update.json").is_file()
    assert len(poses_seen(stored, CRATE)) == 2
    with Session(stored) as session:
        now = session.world
        found, true = now.find(CRATE).world_from_object, truth.find(CRATE).world_from_object
        assert float((found - true)[:3, 3].norm()) < 0.003
        assert float(rotvec_from_rotation(found[:3, :3] @ true[:3, :3].T).norm()) < 0.026
        assert now.find(CRATE).joint is not None
        for number in (TABLE, CRATE, BALL):
            old, new = place.world.find(number).gaussians, now.find(number).gaussians
            assert torch.equal(old.means, new.means[: len(old)]) and torch.equal(old.sh, new.sh[: len(old)])
        session.undo()
        pose = session.world.find(CRATE).world_from_object
        assert torch.equal(pose, place.world.find(CRATE).world_from_object)


def test_a_thing_that_is_gone_is_told_and_kept_by_a_dry_run(place, tmp_path, capsys):
    """The pictures show the table where it stood; --dry-run says so and writes nothing."""
    stored = tmp_path / "kitchen.world"
    place.world.save(stored)
    pictures = place.photograph(place.world.without_object(BALL), tmp_path / "new", count=4)
    update_verb(stored, (pictures,), dry_run=True, config=replace(QUICK, refit=False))
    told = capsys.readouterr().out
    assert "3 (ball) is gone" in told and "Nothing was written" in told and "crate" not in told
    with Store(stored, read_only=True) as store:
        assert store.branch().revision == 1


def test_a_joint_that_cannot_be_found_costs_nothing_else(place, tmp_path, capsys):
    """The ball is gone and told so in a revision; that the crate never moved is the error at the end."""
    stored = tmp_path / "kitchen.world"
    place.world.save(stored)
    pictures = place.photograph(place.world.without_object(BALL), tmp_path / "new", count=4)
    quick = replace(QUICK, refit=False)
    with pytest.raises(ConfigError, match=r"--joint crate: expected .*; its joint is as it was"):
        update_verb(stored, (pictures,), joint="crate", json=True, config=quick)
    told = json.loads(capsys.readouterr().out)
    assert told["revision"] == 2 and told["joint"] is None and "--joint crate" in told["joint_problem"]
    with Session(stored) as session:
        assert session.world.find(BALL).hidden and session.world.find(CRATE).joint is None


def test_a_thing_that_is_new_becomes_an_object(place, tmp_path):
    """Fitted where it stands; the rows of everything else only gain a flag at most."""
    before = place.world.without_object(BALL)
    updated = _run(before, place.photograph(place.world, tmp_path), refit_steps=40)
    assert updated.renewal is not None and updated.renewal.changed and not updated.moves
    assert updated.renewal.psnr_after > updated.renewal.psnr_before + 1.5
    assert torch.equal(before.find(CRATE).gaussians.means, updated.world.find(CRATE).gaussians.means)
    (number,) = updated.renewal.new_objects
    middle = updated.world.find(number).world_from_object[:3, 3]
    assert float((middle[:2] - torch.tensor([0.16, 0.14])).norm()) < 0.05


def test_a_capture_with_poses_is_only_a_first_guess(place, tmp_path):
    """Poses a centimetre off are put right, and one that is nonsense does not keep its picture away."""
    folder = place.photograph(place.world, tmp_path, count=5)
    frames = []
    for i, camera in enumerate(place.cameras):
        pose = camera.world_from_camera.clone()
        pose[0, 3] += 0.01 if i else 1.0
        frames.append(Frame(replace(camera, world_from_camera=pose), folder / f"new_{i}.png"))
    save_cameras(Capture(tuple(frames)), folder / "transforms.json")
    updated = _run(place.world, folder, refit=False)
    assert len(updated.shots) == 5 and not updated.changed
    for shot, camera in zip(updated.shots, place.cameras):
        assert float((shot.camera.center - camera.center).norm()) < 0.005


def test_pictures_of_another_place_are_refused(place, tmp_path):
    """Nothing registers: one sentence that says so."""
    with pytest.raises(CaptureError, match=r"expected at least 3 pictures that show this world, got 0 of 3"):
        _run(place.world, place.photograph(place.other(), tmp_path, count=3))


def test_a_single_picture_is_refused(place, tmp_path):
    """It cannot tell a change from a reflection."""
    with pytest.raises(CaptureError, match="at least 3 pictures"):
        _run(place.world, place.photograph(place.world, tmp_path, count=1))


def test_pictures_that_cannot_be_read_are_left_out(place, tmp_path):
    """They are named with the reason; the others do."""
    place.photograph(place.world, tmp_path, count=3)
    (tmp_path / "broken.png").write_bytes((tmp_path / "new_0.png").read_bytes()[:900])
    updated = _run(place.world, tmp_path, refit=False)
    assert [name for name, _ in updated.left_out] == ["broken.png"] and len(updated.shots) == 3


def test_only_unreadable_pictures_are_refused(place, tmp_path):
    """Three broken files are no pictures."""
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises((CaptureError, FileFormatError)):
        _run(place.world, tmp_path)


def test_a_world_without_cameras_is_refused(place, tmp_path):
    """There is nowhere to look at it from."""
    place.photograph(place.world, tmp_path, count=3)
    with pytest.raises(CaptureError, match="expected a world with cameras"):
        _run(replace(place.world, cameras=()), tmp_path)


def test_an_empty_world_is_refused(place, tmp_path):
    """There is nothing to compare with."""
    with pytest.raises(CaptureError, match="expected a world with Gaussians"):
        _run(World(cameras=place.world.cameras), tmp_path)


def test_unknown_objects_and_cameras_are_refused(place, tmp_path):
    """--joint of a thing that is not there, --camera-like of a camera that is not."""
    stored = tmp_path / "a.world"
    place.world.save(stored)
    with pytest.raises(ConfigError, match="--joint: expected a name of an object"):
        update_verb(stored, (tmp_path,), joint="fridge")
    place.photograph(place.world, tmp_path / "new", count=3)
    with pytest.raises(ConfigError, match="--camera-like: expected one of the world's 12 cameras, got 12"):
        update_verb(stored, (tmp_path / "new",), camera_like=12)


def test_plain_pictures_say_why_they_have_no_place(place, tmp_path):
    """A white wall has no features."""
    for i in range(3):
        write_image(tmp_path / f"{i}.png", torch.full((240, 320, 3), 0.2 + 0.1 * i))
    with pytest.raises(CaptureError, match="shows only 0 features"):
        _run(place.world, tmp_path)
