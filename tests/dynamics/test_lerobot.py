"""Datasets that lerobot itself wrote become episodes; everything that is unclear is refused in one sentence.

tests/dynamics/data/lerobot.zip is made by benchmarks/lerobot_environment.py: datasets of lerobot 0.3.3
(v2.1) and 0.4.4 (v3.0), and the numbers that lerobot's own loader reads of them.
"""

import importlib
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynamics.episodes import EpisodeSet
from dynamics.lerobot.commands import import_lerobot
from dynamics.lerobot.config import LeRobotConfig
from dynamics.lerobot.convert import import_dataset
from dynamics.lerobot.dataset import open_dataset
from dynamics.lerobot.motion import motion_of
from dynamics.lerobot.recorded import read_motion
from dynamics.lerobot.rows import read_rows
from gaussworld.camera import Camera
from gaussworld.camera_record import camera_record
from gaussworld.config import load_config
from gaussworld.errors import ConfigError, FileFormatError, MissingDependency
from gaussworld.io.video import read_video
from gaussworld.log import Notice, drain
from gaussworld.pose import rotation_from_quats

FIXTURE = Path(__file__).with_name("data") / "lerobot.zip"
VERSIONS = ("v2.1", "v3.0")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datasets as lerobot wrote them."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (the extra lerobot)")
    folder = tmp_path_factory.mktemp("lerobot")
    with zipfile.ZipFile(FIXTURE) as file:
        file.extractall(folder)
    return folder


@pytest.fixture
def datasets(packed: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(packed, tmp_path / "datasets"))


def preset(name: str) -> LeRobotConfig:
    return load_config(LeRobotConfig, f"lerobot/{name}")


def changed_info(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = folder / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))
    return folder


def changed_rows(path: Path, name: str, change: Callable[[list[Any]], Any]) -> None:
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

    table = parquet.ParquetFile(path).read()
    values = table[name].to_pylist()
    change(values)
    column = table.schema.get_field_index(name)
    parquet.write_table(
        table.set_column(column, table.field(column), pyarrow.array(values, table.field(column).type)), path
    )


@pytest.mark.parametrize("name", ["pusht", "aloha"])
@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_are_those_of_lerobots_own_loader(packed: Path, version: str, name: str) -> None:
    """Every state and action equals, bit for bit, what LeRobotDataset gives."""
    dataset, theirs = open_dataset(packed / version / name), np.load(packed / version / f"{name}.npz")
    assert f"v{dataset.version[0]}.{dataset.version[1]}" == version
    assert dataset.fps == json.loads(str(theirs["facts"]))["fps"]
    for column in ("observation.state", "action"):
        ours = [read_rows(dataset, recording, (column,))[column] for recording in dataset.recordings]
        assert np.array_equal(np.concatenate(ours), theirs[column].astype(np.float64))
    assert [recording.length for recording in dataset.recordings] == [12, 9]
    assert dataset.recordings[0].task == "Push it."


@pytest.mark.parametrize("version", VERSIONS)
def test_pusht_becomes_metres(packed: Path, tmp_path: Path, version: str) -> None:
    """Pixels become metres with y upward; a row's action is the target of the step that follows it."""
    done = drain(import_dataset(packed / version / "pusht", tmp_path / "out", preset("pusht")))
    assert (done.result.episodes, done.result.steps, done.result.rate_hz) == (2, 19, 10.0)
    theirs = np.load(packed / version / "pusht.npz")
    episode = EpisodeSet(tmp_path / "out")["push_t-00001"]
    states, actions = episode.states, episode.actions
    assert actions.tools is not None
    pixels = torch.from_numpy(theirs["observation.state"][12:]).double()
    wanted = torch.stack([pixels[:, 0], 512 - pixels[:, 1]], 1) / 1200
    torch.testing.assert_close(states.tool_poses[:, 0, :2].double(), wanted, atol=1e-6, rtol=0)
    told = torch.from_numpy(theirs["action"][12:-1]).double()
    wanted = torch.stack([told[:, 0], 512 - told[:, 1]], 1) / 1200
    torch.testing.assert_close(actions.tools[:, 0, :2].double(), wanted, atol=1e-6, rtol=0)
    assert states.tool_poses[0, 0, 2:].tolist() == [0, 1, 0, 0, 0]
    assert states.object_poses.shape == (9, 0, 7)
    torch.testing.assert_close(states.time, torch.arange(9) / 10)
    facts = json.loads((tmp_path / "out" / "push_t-00001" / "episode.json").read_text())
    assert facts["action_spec"]["kind"] == "tool_pose" and facts["rate_hz"] == 10
    assert facts["objects"] == [] and facts["physics"] is None and facts["tools"][0]["name"] == "pusher"
    assert facts["source"]["format"] == f"LeRobot {version}"
    listed = json.loads((tmp_path / "out" / "episodes.json").read_text())
    assert [row["name"] for row in listed["episodes"]] == ["push_t-00000", "push_t-00001"]


@pytest.mark.parametrize("version", VERSIONS)
def test_aloha_becomes_joints(packed: Path, tmp_path: Path, version: str) -> None:
    """Arm joints and grippers are told apart, names are kept, and 1 = open becomes grip 0."""
    drain(import_dataset(packed / version / "aloha", tmp_path / "out", preset("aloha"), episodes=[0]))
    theirs = np.load(packed / version / "aloha.npz")
    motion = read_motion(tmp_path / "out" / "aloha-00000")
    states, actions = motion.states, motion.actions
    assert actions.joints is not None and actions.spec.kind == "joint_position"
    columns = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    assert np.array_equal(states.joint_positions.numpy(), theirs["observation.state"][:12][:, columns])
    assert np.array_equal(actions.joints.numpy(), theirs["action"][:11][:, columns])
    wanted = torch.from_numpy(1 - theirs["observation.state"][:12][:, [6, 13]])
    torch.testing.assert_close(motion.grip, wanted)
    slope = (states.joint_positions[2] - states.joint_positions[0]) * 25
    torch.testing.assert_close(states.joint_rates[1], slope, atol=1e-4, rtol=1e-4)
    facts = json.loads((tmp_path / "out" / "aloha-00000" / "episode.json").read_text())
    assert [joint["name"] for joint in facts["joints"]][5:7] == ["left_wrist_rotate", "right_waist"]
    assert facts["action_spec"]["frame"] == "joint"


@pytest.mark.parametrize("version", VERSIONS)
def test_videos_stay_with_their_rows(packed: Path, tmp_path: Path, version: str) -> None:
    """Every picture is that of its row, also where episodes share one file."""
    config = replace(preset("pusht"), rate_hz=5.0)
    drain(import_dataset(packed / version / "pusht", tmp_path / "out", config, videos=True))
    for episode, count in enumerate((6, 5)):
        video = tmp_path / "out" / f"push_t-{episode:05d}" / "camera-0" / "rgb.mp4"
        greys = [float(picture.mean()) * 255 for _, picture in read_video(video)]
        assert greys == pytest.approx([40 + 90 * episode + 14 * i for i in range(count)], abs=2)


def test_pictures_among_the_rows(datasets: Path, tmp_path: Path) -> None:
    """Features of dtype image lie in the parquet files, as PNG."""
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]
    from PIL import Image

    source = datasets / "v2.1" / "pusht"
    still = {"dtype": "image", "shape": [4, 6, 3], "names": ["height", "width", "channel"]}
    changed_info(source, lambda info: info["features"].update({"observation.still": still}))
    path = sorted((source / "data").rglob("*.parquet"))[0]
    table, cells = parquet.ParquetFile(path).read(), []
    for row in range(table.num_rows):
        file = io.BytesIO()
        Image.new("RGB", (6, 4), (20 * row,) * 3).save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    parquet.write_table(table.append_column("observation.still", pyarrow.array(cells, kind)), path)
    config = replace(preset("pusht"), rate_hz=5.0)
    drain(import_dataset(source, tmp_path / "out", config, episodes=[0], videos=True))
    video = tmp_path / "out" / "push_t-00000" / "camera-1" / "rgb.mp4"
    greys = [float(picture.mean()) * 255 for _, picture in read_video(video)]
    assert greys == pytest.approx([40 * i for i in range(6)], abs=3)


def test_calibration_is_taken_along(packed: Path, tmp_path: Path) -> None:
    """A camera's record comes out as it went in; a camera of another size is refused."""
    camera = Camera.looking_at((0.2, 0.2, 0.8), (0.2, 0.21, 0.0), 64, 64)
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"observation.image": camera_record(camera)}))
    source = packed / "v3.0" / "pusht"
    drain(import_dataset(source, tmp_path / "out", preset("pusht"), videos=True, calibration=path))
    facts = json.loads((tmp_path / "out" / "push_t-00000" / "episode.json").read_text())
    assert facts["videos"][0] == {"folder": "camera-0", "feature": "observation.image", "calibrated": True}
    read = EpisodeSet(tmp_path / "out")[0].camera("camera-0")
    assert torch.equal(read.K, camera.K) and torch.equal(read.world_from_camera, camera.world_from_camera)
    path.write_text(json.dumps({"observation.image": camera_record(camera.rescaled(96, 96))}))
    with pytest.raises(FileFormatError, match=r"of the pictures' size, .*got 96x96 px"):
        drain(import_dataset(source, tmp_path / "other", preset("pusht"), calibration=path))
    path.write_text(json.dumps({"wrist": camera_record(camera)}))
    with pytest.raises(FileFormatError, match=r"features of pictures .observation.image., got 'wrist'"):
        drain(import_dataset(source, tmp_path / "other", preset("pusht"), calibration=path))


def test_version_2_0_reads_alike(datasets: Path, tmp_path: Path) -> None:
    """Version 2.0 differs from 2.1 in its statistics alone, which are not read."""
    source = changed_info(datasets / "v2.1" / "pusht", lambda info: info.update(codebase_version="v2.0"))
    (source / "meta" / "episodes_stats.jsonl").unlink()
    assert drain(import_dataset(source, tmp_path / "out", preset("pusht"))).result.steps == 19


def test_a_lower_rate_keeps_the_last_command_of_each_step(packed: Path) -> None:
    """At half the rate a step ends at its second row's target; motions are added up instead."""
    dataset = open_dataset(packed / "v2.1" / "pusht")
    config = replace(preset("pusht"), rate_hz=5.0)
    rows = read_rows(dataset, dataset.recordings[0], (config.state, config.action))
    motion = motion_of(dataset, config, rows, "here")
    assert len(motion.states) == 6 and motion.actions.tools is not None
    assert float(motion.actions.tools[0, 0, 0]) == pytest.approx(rows["action"][1, 0] / 1200)
    assert float(motion.states.tool_poses[1, 0, 0]) == pytest.approx(rows["observation.state"][2, 0] / 1200)
    delta = replace(config, kind="tool_delta", action_metres_per_unit=1e-4)
    motion = motion_of(dataset, delta, rows, "here")
    wanted = rows["action"][:2].sum(0) * 1e-4
    assert motion.actions.tools is not None
    assert motion.actions.tools[0, 0, :2].tolist() == pytest.approx([wanted[0], -wanted[1]])


def posed(rows: np.ndarray, config: LeRobotConfig, packed: Path) -> torch.Tensor:
    """Tool poses that made-up rows of state and action mean."""
    dataset = open_dataset(packed / "v2.1" / "aloha")
    wide = np.zeros((len(rows), 14))
    wide[:, : rows.shape[1]] = rows
    motion = motion_of(dataset, config, {"observation.state": wide, "action": wide}, "here")
    return motion.states.tool_poses


def test_rotations_and_frames(packed: Path) -> None:
    """Yaw turns with the world and against a mirrored y; a tool that looks down is turned to look up."""
    rows = np.array([[1.0, 2.0, 0.5, 90.0], [1.0, 2.0, 0.5, 0.0]])
    plain = LeRobotConfig(
        kind="tool_pose",
        position=("0", "1", "2"),
        rotation=("3",),
        rotation_as="yaw",
        angles="deg",
        metres_per_unit=0.1,
        tools=("pusher",),
    )
    half = 0.5**0.5
    pose = posed(rows, plain, packed)[0, 0].tolist()
    assert pose == pytest.approx([0.1, 0.2, 0.05, half, 0, 0, half], abs=1e-6)
    pose = posed(rows, replace(plain, y_down=True), packed)[0, 0].tolist()
    assert pose == pytest.approx([0.1, -0.2, 0.05, half, 0, 0, -half], abs=1e-6)
    turned = replace(plain, world_from_data=(0.0, 0.0, 1.0, half, 0.0, 0.0, half))
    assert posed(rows, turned, packed)[1, 0].tolist() == pytest.approx(
        [-0.2, 0.1, 1.05, half, 0, 0, half], abs=1e-6
    )
    # A flange whose z looks down at the table, with the tip 10 cm along it.
    quats = np.concatenate([rows[:, :3], np.tile([1.0, 0.0, 0.0, 0.0], (2, 1))], 1)
    down = replace(
        plain,
        rotation=("3", "4", "5", "6"),
        rotation_as="xyzw",
        data_from_tool=(0.0, 0.0, 0.1, 0.0, 1.0, 0.0, 0.0),
    )
    pose = posed(quats, down, packed)[0, 0]
    assert pose[:3].tolist() == pytest.approx([0.1, 0.2, -0.05], abs=1e-6)
    torch.testing.assert_close(rotation_from_quats(pose[3:]), torch.eye(3), atol=1e-6, rtol=0)


def test_roll_pitch_yaw(packed: Path) -> None:
    """Roll comes first and yaw last, about fixed axes."""
    config = LeRobotConfig(
        kind="tool_pose",
        position=("0", "1", "2"),
        rotation=("3", "4", "5"),
        rotation_as="rpy",
        angles="deg",
        metres_per_unit=1.0,
        tools=("gripper",),
    )
    rows = np.array([[0.0, 0, 0, 90, 0, 90]] * 2)
    turn = rotation_from_quats(posed(rows, config, packed)[0, 0, 3:])
    # z goes to -y by the roll, and -y to x by the yaw.
    torch.testing.assert_close(turn @ torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)


def test_grippers_outside_of_their_range_are_told(packed: Path, tmp_path: Path) -> None:
    """Numbers beyond the range are put to its end, and one sentence says how many."""
    config, told = replace(preset("aloha"), grip_range=(0.6, 0.0)), []
    drain(import_dataset(packed / "v2.1" / "aloha", tmp_path / "out", config), told.append)
    messages = [event.message for event in told if isinstance(event, Notice)]
    assert len(messages) == 1 and "lay outside of --grip-range" in messages[0]


def test_the_verb_prints_json(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What programs read names the folder and counts."""
    import_lerobot(packed / "v3.0" / "pusht", out=tmp_path / "out", json=True, config=preset("pusht"))
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"folder": str(tmp_path / "out"), "episodes": 2, "steps": 19, "rate_hz": 10.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": None}, "expected the meaning of the dataset's numbers, got none: choose --config pusht"),
        ({"metres_per_unit": None}, "--metres-per-unit: expected what one unit of a position is"),
        ({"tools": ()}, "--tools: expected what each tool is"),
        ({"tools": ("spatula",)}, "expected a tool .pusher, gripper. or a JSON file.*'spatula'"),
        ({"position": ("0",)}, "--position: expected 2 columns for 1 tool, and --height"),
        (
            {"position": ("0", "7")},
            "expected a column of observation.state, 0 to 1 .motor_0, motor_1., got '7'",
        ),
        ({"state": "observation.pose"}, "expected a feature of numbers .*got 'observation.pose'"),
        ({"state": "observation.image"}, "expected a feature of numbers .*got 'observation.image'"),
        (
            {"rate_hz": 4.0},
            "--rate-hz: expected a whole fraction of the dataset's 10 Hz, such as 10, 5, 2, got 4",
        ),
        ({"rate_hz": 20.0}, "--rate-hz: expected a whole fraction of the dataset's 10 Hz"),
        ({"rotation": ("0",)}, "--rotation-as: expected wxyz, xyzw"),
        ({"rotation": ("0",), "rotation_as": "yaw"}, "--angles: expected rad or deg, got none"),
        ({"grip": ("0",)}, "--grip-range: expected the numbers of an open and a closed gripper"),
        ({"kind": "joint_position"}, "--joints: expected the columns of the joints, got none"),
        ({"kind": "joint_position", "joints": ("0",)}, "--angles: expected rad or deg"),
    ],
)
def test_an_incomplete_meaning_is_refused(
    packed: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """What the numbers mean is asked for and never guessed; nothing is left behind."""
    config = replace(preset("pusht"), **change)
    with pytest.raises(ConfigError, match=words):
        drain(import_dataset(packed / "v2.1" / "pusht", tmp_path / "out", config))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"metres_per_unit": -1.0}, {"grip_range": (1.0, 1.0)}, {"family": "a/b"}])
def test_a_senseless_meaning_is_refused(change: dict[str, Any]) -> None:
    """Values that nothing can mean are refused when they are given."""
    with pytest.raises(ConfigError, match="expected"):
        replace(LeRobotConfig(), **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda info: info.update(codebase_version="v3.1"),
            "expected codebase_version .* got 'v3.1'; update",
        ),
        (
            lambda info: info.update(codebase_version="v1.6"),
            "got 'v1.6'; convert it with lerobot's own scripts",
        ),
        (lambda info: info.pop("codebase_version"), "expected codebase_version v2.0, v2.1 or v3.0"),
        (lambda info: info.update(fps=0), "expected fps above 0, got 0"),
        (lambda info: info.update(features={}), "expected features, got dict"),
        (lambda info: info.update(data_path="../../secret"), "expected data_path inside the dataset"),
        (lambda info: info.update(data_path="{episode_name}"), "expected known names in data_path"),
        (
            lambda info: info.update(splits={"train": "all"}),
            "expected splits such as 0:180, got train: 'all'",
        ),
        (lambda info: info.update(fps=25), "expected a row every 0.04 s .fps 25 in info.json., got 0.1 s"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_dataset_that_contradicts_itself_is_refused(
    datasets: Path, tmp_path: Path, version: str, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    """Other versions, rates and damaged facts: one sentence each."""
    source = changed_info(datasets / version / "pusht", change)
    with pytest.raises(FileFormatError, match=words):
        drain(import_dataset(source, tmp_path / "out", preset("pusht")))
    assert not (tmp_path / "out").exists()


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    """A folder without meta/info.json, and one whose info.json is no JSON."""
    with pytest.raises(
        FileFormatError, match=r"expected a LeRobot dataset, a folder with meta/info.json, got none"
    ):
        open_dataset(tmp_path)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("no")
    with pytest.raises(FileFormatError, match="expected JSON"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_missing_and_damaged_files_are_named(datasets: Path, tmp_path: Path, version: str) -> None:
    """A video or parquet file that is gone or cut short is named."""
    source = datasets / version / "pusht"
    video = next(source.rglob("*.mp4"))
    video.unlink()
    with pytest.raises(FileFormatError, match=r"expected the video of observation.image, got no such file"):
        drain(import_dataset(source, tmp_path / "out", preset("pusht"), videos=True))
    data = sorted((source / "data").rglob("*.parquet"))[0]
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="expected a parquet file, got one that cannot be read"):
        drain(import_dataset(source, tmp_path / "out", preset("pusht"), episodes=[0]))
    data.unlink()
    with pytest.raises(FileFormatError, match="expected the rows of episode 0, got no such file"):
        drain(import_dataset(source, tmp_path / "out", preset("pusht"), episodes=[0]))
    (tmp_path / "out").mkdir()
    with pytest.raises(FileFormatError, match="expected a readable file"):
        read_motion(tmp_path / "out")
    (tmp_path / "out").rmdir()
    with pytest.raises(ConfigError, match="--episodes: expected numbers from 0 to 1, got 7"):
        drain(import_dataset(source, tmp_path / "out", preset("pusht"), episodes=[7]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_bad_rows_are_refused(datasets: Path, tmp_path: Path, version: str) -> None:
    """NaN, a gap in time, and another number of rows than promised."""
    source = datasets / version / "pusht"
    data = sorted((source / "data").rglob("*.parquet"))[0]
    whole = data.read_bytes()

    def refused(words: str, config: LeRobotConfig = preset("pusht")) -> None:  # noqa: B008
        with pytest.raises(FileFormatError, match=words):
            drain(import_dataset(source, tmp_path / "out", config, episodes=[0]))

    changed_rows(data, "observation.state", lambda rows: rows.__setitem__(3, [float("nan"), 1.0]))
    refused("observation.state: expected finite numbers, got nan in column 0 of row 3")
    data.write_bytes(whole)
    changed_rows(data, "timestamp", lambda rows: rows.__setitem__(slice(4, 12), [t + 1 for t in rows[4:12]]))
    refused("expected a row every 0.1 s .fps 10 in info.json., got 1.1 s after row 3")
    data.write_bytes(whole)
    changed_rows(data, "episode_index", lambda rows: rows.__setitem__(11, 5))
    refused("expected 12 rows as meta says, got 11")
    data.write_bytes(whole)
    refused(
        "expected numbers up to 50 m, got .* m; is --metres-per-unit right",
        replace(preset("pusht"), metres_per_unit=1.0),
    )
    joints = LeRobotConfig(kind="joint_position", joints=("0", "1"), angles="rad")
    refused("expected numbers up to 30 rad, got .* rad; is --angles right", joints)
    quats = replace(preset("pusht"), rotation=("0", "1", "0", "1"), rotation_as="wxyz")
    refused("expected unit quaternions, got other lengths", quats)


def test_out_must_be_empty(packed: Path, tmp_path: Path) -> None:
    """Nothing is written over."""
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected a folder that is new or empty"):
        drain(import_dataset(packed / "v2.1" / "pusht", tmp_path, preset("pusht")))


def test_pyarrow_is_asked_for(datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the message names the extra."""
    importlib.import_module("dynamics.lerobot.parquet")._read_table.cache_clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'gaussworld\[lerobot\]'"):
        drain(import_dataset(datasets / "v2.1" / "pusht", tmp_path / "out", preset("pusht")))
