"""Files of actions: what people and programs write is read as it was meant, and nothing is guessed."""

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.errors import FileFormatError
from gaussworld.io.actions import ActionFile, load_actions, save_actions
from gaussworld.state import Action, ActionSpec

SPEC = ActionSpec("tool_pose", 1, "world", "m", 10.0)


def written(folder: Path, record: object, name: str = "a.json") -> Path:
    path = folder / name
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def some(size: int = 1, steps: int = 5) -> ActionFile:
    generator = torch.Generator().manual_seed(3)
    poses = torch.randn(steps + 1, size, 7, generator=generator)
    poses[..., 3:] = torch.nn.functional.normalize(poses[..., 3:], dim=-1)
    grip = torch.rand(steps + 1, size, generator=generator)
    spec = ActionSpec("tool_pose", size, "world", "m", 20.0, ((-9.0,) * 3, (9.0,) * 3))
    tools = ("pusher", {"name": "rod", "boxes": []})[:size]
    return ActionFile(Action(spec, poses[1:], grip=grip[1:]), tools, poses[0], grip[0])


def test_what_one_target_leaves_out_is_as_before(tmp_path: Path) -> None:
    """Positions alone are enough; turn and grip stay until they are said again."""
    record = {
        "tool": "gripper",
        "start": [0, 0, 0.2],
        "actions": [
            [0.1, 0, 0.2],
            {"yaw_deg": 90},
            {"position": [0.1, 0.1, 0.2], "grip": 1},
            {"repeat": 3},
            [0, 0, 0, 1, 0, 0, 0],
        ],
    }
    found = load_actions(written(tmp_path, record))
    assert found.tools == ("gripper",) and len(found) == 7 and found.actions.spec == SPEC
    poses, grip = found.actions.tools, found.actions.grip
    assert poses is not None and grip is not None and found.start is not None
    assert poses[1, 0, :3].tolist() == pytest.approx([0.1, 0, 0.2])
    assert poses[2, 0, 3:].tolist() == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    assert grip[:, 0].tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert poses[6, 0, 3:].tolist() == [1, 0, 0, 0] and found.start[0, 2] == pytest.approx(0.2)


def test_a_path_has_one_speed(tmp_path: Path) -> None:
    """Corners are joined by straight lines of so many metres a second; a stop closes the grip."""
    record = {
        "via": [[0, 0, 0.1], [0.3, 0, 0.1], {"grip": 1.0, "repeat": 4}, [0.3, 0.1, 0.1]],
        "speed": 0.25,
    }
    found = load_actions(written(tmp_path, record))
    poses, grip = found.actions.tools, found.actions.grip
    assert poses is not None and grip is not None and found.start is not None
    assert found.start[0, :3].tolist() == pytest.approx([0, 0, 0.1])
    steps = torch.cat([found.start[None], poses])[:, 0, :3].diff(dim=0).norm(dim=-1)
    assert steps[:12].tolist() == pytest.approx([0.025] * 12, abs=1e-6)
    assert grip[11:16, 0].tolist() == [0, 0.25, 0.5, 0.75, 1] and len(found) == 20


def test_two_tools(tmp_path: Path) -> None:
    """Several tools have a list of targets in each step."""
    record = {
        "tools": ["pusher", "pusher"],
        "actions": [{"tools": [[0, 0, 0], [1, 0, 0]]}, {"tools": [[0, 0, 1], {}], "repeat": 2}],
    }
    poses = load_actions(written(tmp_path, record)).actions.tools
    assert poses is not None and tuple(poses.shape) == (3, 2, 7)
    assert poses[2, :, :3].tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("suffix", [".json", ".npz", ".safetensors"])
@pytest.mark.parametrize("size", [1, 2])
def test_written_actions_are_read_to_the_bit(tmp_path: Path, suffix: str, size: int) -> None:
    """Poses, grip, start, spec and tools come back as they were."""
    made = some(size)
    save_actions(made, tmp_path / f"a{suffix}")
    found = load_actions(tmp_path / f"a{suffix}")
    assert found.actions.spec == made.actions.spec and found.tools == made.tools
    for name in ("tools", "grip"):
        assert torch.equal(getattr(found.actions, name), getattr(made.actions, name))
    assert found.start is not None and made.start is not None and torch.equal(found.start, made.start)
    assert found.start_grip is not None and torch.equal(found.start_grip, made.start_grip)  # pyright: ignore


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_joint_actions_are_read_to_the_bit(tmp_path: Path, suffix: str) -> None:
    """Other kinds of action are written as arrays."""
    spec = ActionSpec("joint_position", 7, "joint", "rad", 50.0)
    save_actions(ActionFile(Action(spec, joints=torch.rand(4, 7))), tmp_path / f"a{suffix}")
    assert load_actions(tmp_path / f"a{suffix}").actions.spec == spec
    with pytest.raises(ValueError, match="expected tool_pose"):
        save_actions(ActionFile(Action(spec, joints=torch.rand(4, 7))), tmp_path / "a.json")


def test_a_table(tmp_path: Path) -> None:
    """A CSV has a column for each number and states facts after #."""
    text = "# rate_hz 20\n# tool gripper\nx,y,z,grip\n0,0,0.1,0\n0.1,0,0.1,1\n"
    found = load_actions(written(tmp_path, text, "a.csv"))
    assert found.tools == ("gripper",) and found.actions.spec.rate_hz == 20
    assert found.actions.grip is not None and found.actions.grip[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "expected JSON"),
        ([1], "expected a JSON object"),
        ({}, "either `actions`"),
        ({"actions": [], "via": []}, "either `actions`"),
        ({"actions": []}, "at least 1 action, got none"),
        ({"actions": {}}, "expected a list"),
        ({"action": [[0, 0, 0]]}, "expected keys among"),
        ({"actions": [[0, 0]]}, r"actions\[0\]: expected 3 or 7 finite numbers"),
        ({"actions": [[0, 0, float("nan")]]}, "finite numbers"),
        ({"actions": [[0, 0, 1e300]]}, "finite numbers"),
        ({"actions": [[0, 0, True]]}, "finite numbers"),
        ({"actions": ["up"]}, "a list of numbers or an object"),
        ({"actions": [{"pos": [0, 0, 0]}]}, "expected keys among position"),
        ({"actions": [{"quat": [1, 1, 0, 0]}]}, "expected a unit quaternion"),
        ({"actions": [{"quat": [1, 0, 0, 0], "yaw_deg": 3}]}, "either quat or yaw_deg"),
        ({"actions": [{"grip": 2}]}, r"in \[0, 1\]"),
        ({"actions": [{"repeat": 10**9}]}, "at most 1000000 steps"),
        ({"actions": [{"repeat": 0}]}, "at least 1"),
        ({"spec": {"frame": "tool"}, "actions": [[0, 0, 0]]}, "tool_pose expects world, got 'tool'"),
        ({"spec": {"units": "mm"}, "actions": [[0, 0, 0]]}, "tool_pose expects m, got 'mm'"),
        ({"spec": {"rate_hz": 0}, "actions": [[0, 0, 0]]}, "positive finite rate"),
        ({"spec": {"rate": 10}, "actions": [[0, 0, 0]]}, "spec: expected keys among"),
        ({"spec": [], "actions": [[0, 0, 0]]}, "spec: expected a JSON object"),
        ({"spec": {"limits": [[0, 0, 0], [1, 1, 1]]}, "actions": [[2, 0, 0]]}, "got 2; clamp them"),
        ({"spec": {"limits": 3}, "actions": [[0, 0, 0]]}, "lists of lowest and highest"),
        ({"spec": {"kind": "gripper"}, "actions": [[0, 0, 0]]}, "expects tool"),
        ({"tools": ["a", "b"], "actions": [[0, 0, 0]]}, 'expected {"tools"'),
        ({"tools": 3, "actions": [[0, 0, 0]]}, "names or records of tools"),
        ({"format": "x", "actions": [[0, 0, 0]]}, "expected gaussworld-actions of version 1"),
        ({"version": 2, "actions": [[0, 0, 0]]}, "of version 1"),
        ({"via": [[0, 0, 0]]}, "at least 2 corners"),
        ({"via": [[0, 0, 0], [1, 0, 0]], "speed": 0}, "above 0"),
        ({"via": [[0, 0, 0], [1, 0, 0]], "speed": 1e-9}, "at most 1000000 steps"),
        ({"via": [[0, 0, 0], [1, 0, 0]], "start": [0, 0, 0]}, "leave `start` out"),
    ],
)
@pytest.mark.usefixtures("as_in_production")
def test_bad_json_is_refused_with_a_sentence(tmp_path: Path, record: object, said: str) -> None:
    """Every mistake names the file and what was expected there."""
    with pytest.raises(FileFormatError, match=said) as caught:
        load_actions(written(tmp_path, record))
    assert "a.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x y z at least"),
        ("x,y\n1,2\n", "x y z at least"),
        ("x,y,z,w\n1,2,3,4\n", "expected columns among"),
        ("x,y,z\n", "at least 1 action"),
        ("x,y,z\n1,2\n", "row 1: expected 3 values"),
        ("x,y,z\n1,2,up\n", "could not convert"),
        ("x,y,z\n1,2,nan\n", "finite numbers"),
        ("# hz 3\nx,y,z\n1,2,3\n", "expected # rate_hz"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """A CSV without its columns, or with other things than numbers."""
    with pytest.raises(FileFormatError, match=said):
        load_actions(written(tmp_path, text, "a.csv"))


@pytest.mark.usefixtures("as_in_production")
def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """A cut file, one of another format, a pickle, a bomb, values that are not finite."""
    save_actions(some(), tmp_path / "a.safetensors")
    save_actions(some(), tmp_path / "a.npz")
    for name in ("a.safetensors", "a.npz"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(FileFormatError, match="write"):
            load_actions(path)
        path.write_bytes(b"\xff" * 100)
        with pytest.raises(FileFormatError, match="expected"):
            load_actions(path)
    np.savez(tmp_path / "p.npz", tools=np.array([{}], dtype=object))
    with pytest.raises(FileFormatError, match="npz of actions"):
        load_actions(tmp_path / "p.npz")
    poses = np.zeros((3, 1, 7), np.float32)
    np.savez(tmp_path / "nan.npz", tools=poses * np.nan)
    with pytest.raises(FileFormatError, match="finite"):
        load_actions(tmp_path / "nan.npz")
    np.savez(tmp_path / "quat.npz", tools=poses)
    with pytest.raises(FileFormatError, match="unit quaternions"):
        load_actions(tmp_path / "quat.npz")
    np.savez(tmp_path / "whole.npz", tools=poses.astype(int))
    with pytest.raises(FileFormatError, match="floating-point"):
        load_actions(tmp_path / "whole.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("tools.npy", "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(bytes(1 << 20))
    with pytest.raises(FileFormatError, match="at most"):
        load_actions(tmp_path / "bomb.npz")


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    """A path without a file, and a suffix that is no format of actions."""
    with pytest.raises(FileFormatError, match="no such file"):
        load_actions(tmp_path / "a.json")
    with pytest.raises(FileFormatError, match="expected a file of actions"):
        load_actions(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"expected \.json"):
        save_actions(some(), tmp_path / "a.csv")
