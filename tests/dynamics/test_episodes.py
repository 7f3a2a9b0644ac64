"""Episodes on disk: what is read is what was written, windows, splits, worlds, and what is refused."""

import json
import math

import jaxtyping
import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from dynamics.episodes import FRAME, SPEC, Episode, EpisodeSet, write_episode, write_index
from dynamics.episodes.episode_set import _opened
from dynamics.matter.parts import PartKind
from dynamics.tool import pusher, tool_record
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.hull import convex_hull
from gaussworld.io.mesh_file import save_mesh
from gaussworld.shape import Mesh
from gaussworld.state import ActionSpec, State
from gaussworld.world_object import ObjectKind

STEPS = 6
ROW = {"category": "wood", "parent": None, "joint": None, "joint_damping": None, "joint_friction": None,
       "parts": [], "stiffness": None, "damping": None, "fixed": []}  # fmt: skip


@pytest.fixture
def as_in_production():
    """Switch jaxtyping's checks off, so that the messages users see come to light."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def cube(side):
    corners = [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    mesh = convex_hull(Mesh(torch.tensor(corners).float() * side / 2, torch.tensor([[0, 1, 2], [1, 2, 3]])))
    assert mesh is not None
    return mesh


def card(**changed):
    joint = {"kind": "prismatic", "axis": [1.0, 0.0, 0.0], "origin": [0.0, 0.0, 0.0], "limits": [0.0, 0.2],
             "position": 0.05}  # fmt: skip
    names = ("table", "STATIC", "STATIC"), ("box 1", "RIGID", "RIGID"), ("drawer", "ARTICULATED", "JOINT")
    objects = [
        {**ROW, "id": i + 1, "name": name, "kind": kind, "part": part, "mass": 0.2, "volume": 1e-3,
         "friction": 0.4, "mesh": f"meshes/{i}.ply"}
        for i, (name, kind, part) in enumerate(names)
    ]  # fmt: skip
    objects[2] |= {"joint": joint, "parent": 1, "joint_damping": 0.7}
    spec = {"kind": "tool_pose", "size": 1, "frame": "world", "units": "m", "rate_hz": 10.0, "limits": None}
    made = {
        "family": "push", "seed": 7, "split": "train", "policy": "scripted", "frame": FRAME, "rate_hz": 10.0,
        "steps": STEPS, "action_spec": spec, "tools": [tool_record(pusher())], "objects": objects,
        "cameras": [], "ground": {}, "physics": {},
    }  # fmt: skip
    return {**made, **changed}


def arrays():
    """A box that moves along x, and a drawer that opens."""
    u = np.arange(STEPS + 1)
    poses = np.tile([0.0, 0, 0, 1, 0, 0, 0], (STEPS + 1, 3, 1))
    poses[:, 1, 0], poses[:, 2, 0] = 0.01 * u, 0.5 + 0.02 * u
    tools = np.tile([0.0, 0, 0.1, 1, 0, 0, 0], (STEPS + 1, 1, 1))
    rest = np.array([[0.05, 0.0, 0.0], [0.0, 0.05, 0.0]])
    return {
        "time": 0.1 * u,
        "tool_poses": tools,
        "grip": np.zeros((STEPS + 1, 1)),
        "action_tools": tools[1:],
        "action_grip": np.zeros((STEPS, 1)),
        "object_poses": poses,
        "object_twists": np.zeros((STEPS + 1, 3, 6)),
        "joint_positions": 0.05 + 0.02 * u[:, None],
        "joint_rates": np.full((STEPS + 1, 1), 0.2),
        "object_ids": np.array([1, 2, 3]),
        "joint_ids": np.array([3]),
        "point_objects": np.array([2, 2]),
        "point_rest": rest,
        "points": rest + poses[:, 1, None, :3],
        "contacts": np.zeros((STEPS + 1, 3, 4)),
    }


def written(folder, facts=None, numbers=None):
    """An episode's folder."""
    for i, side in enumerate((1.0, 0.1, 0.2)):
        save_mesh(cube(side), folder / f"meshes/{i}.ply")
    write_episode(folder, facts or card(), numbers or arrays())
    return folder


@pytest.fixture
def episode(tmp_path):
    return written(tmp_path / "push-00000")


def test_what_is_read_is_what_was_written(episode):
    """States, actions, tracks, contacts, objects, tools."""
    read, wanted = Episode(episode), arrays()
    assert len(read) == STEPS and read.spec == SPEC and read.family == "push" and read.name == "push-00000"
    assert len(read.states) == STEPS + 1 and len(read.actions) == STEPS
    assert read.states.object_ids == (1, 2, 3) and read.states.joint_ids == (3,)
    np.testing.assert_allclose(read.states.object_poses.numpy(), wanted["object_poses"], atol=1e-7)
    assert read.actions.tools is not None
    np.testing.assert_allclose(read.actions.tools.numpy(), wanted["action_tools"], atol=1e-7)
    np.testing.assert_allclose(read.tracks.points.numpy(), wanted["points"], atol=1e-7)
    assert read.contacts.dtype == torch.bool and read.contacts.shape == (STEPS + 1, 3, 4)
    drawer = read.objects[3]
    assert drawer.part is PartKind.JOINT and drawer.kind is ObjectKind.ARTICULATED
    assert drawer.joint is not None and drawer.joint.limits == (0.0, 0.2) and drawer.joint.position == 0.05
    assert drawer.parent == 1 and drawer.joint_damping == 0.7
    assert read.tools[0].name == "pusher"


def test_parts_of_an_episode_are_read_alone(episode):
    """The rows that are asked for, and a refusal of others."""
    read = Episode(episode)
    assert read.states_between(2, 4).time.tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert len(read.actions_between(2, 4)) == 2
    with pytest.raises(ValueError, match="within its 6 steps"):
        read.states_between(0, 7)


def test_the_world_is_that_of_time_0(episode):
    """Objects, poses, joints; the truth about materials only when it is asked for."""
    read = Episode(episode)
    world = read.world(400)
    state = State.at_rest(world)
    assert state.object_ids == read.states.object_ids and state.joint_ids == read.states.joint_ids
    assert torch.allclose(state.object_poses, read.states.object_poses[0], atol=1e-6)
    assert torch.allclose(state.joint_positions, read.states.joint_positions[0])
    assert world.metres_per_unit == 1.0 and world.up == (0.0, 0.0, 1.0)
    assert world.objects[2].shape is not None and len(world.objects[2].gaussians.means) >= 50
    assert world.objects[2].material.friction == 0.5
    assert world.objects[2].material.sources["friction"] == "default"
    true = read.world(400, truth=True).objects[2].material
    assert true.friction == 0.4 and true.mass == pytest.approx(0.2)


def test_windows_are_streamed(tmp_path):
    """Each stretch once, in order or shuffled the same way by the same seed; splits and families."""
    entries = []
    for i, split in enumerate(("train", "test", "train")):
        written(tmp_path / f"push-{i:05d}", card(split=split))
        entry = {"name": f"push-{i:05d}", "family": "push", "seed": i, "split": split, "steps": STEPS}
        entries.append(entry)
    write_index(tmp_path, {}, entries)
    everything = EpisodeSet(tmp_path)
    assert len(everything) == 3 and everything.families == ("push",)
    assert everything.split("train").names == ("push-00000", "push-00002")
    assert len(everything.split("val")) == 0 and len(everything.family("push")) == 3
    assert everything["push-00001"].split == "test" and len(everything[1:]) == 2
    places = [(w.episode.name, w.start) for w in everything.windows(3)]
    assert places == [(name, start) for name in everything.names for start in (0, 3)]
    shuffled = [
        [(w.episode.name, w.start) for w in everything.windows(3, 1, torch.Generator().manual_seed(1))]
        for _ in range(2)
    ]
    assert shuffled[0] == shuffled[1] != sorted(shuffled[0]) and len(set(shuffled[0])) == 12
    window = next(everything.windows(3))
    assert len(window.states) == 4 and len(window.actions) == 3 and len(window.tracks.points) == 4
    with pytest.raises(CaptureError, match="'rope', got only push"):
        everything.family("rope")
    with pytest.raises(ValueError, match="train, val, test"):
        everything.split("dev")
    with pytest.raises(KeyError, match="push-9"):
        everything["push-9"]


def test_one_episode_is_a_set(episode):
    """A folder with a card and no list."""
    assert [each.family for each in EpisodeSet(episode)] == ["push"]


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"frame": "world, +y up, metres"}, CaptureError, "expected the frame 'world, \\+z up, metres'"),
        ({"rate_hz": 30.0}, CaptureError, "10 Hz, for the states too, got 30 Hz"),
        ({"version": 2}, FileFormatError, "expected version 1 or older, got 2; a newer GaussWorld"),
        ({"format": "other"}, FileFormatError, "expected format 'gaussworld-episodes', got 'other'"),
        ({"steps": 9}, FileFormatError, "expected shape"),
        ({"objects": [{"id": 1}]}, FileFormatError, "expected all facts of an episode"),
    ],
)
def test_other_episodes_are_refused(episode, changed, error, said):
    """Another frame, rate, version, format, length, or facts that are missing."""
    path = episode / "episode.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(error, match=said):
        _ = Episode(episode).states


def test_other_units_are_refused(episode, as_in_production):
    """Actions in degrees are not taken for metres."""
    path = episode / "episode.json"
    facts = json.loads(path.read_text())
    facts["action_spec"]["units"] = "mm"
    path.write_text(json.dumps(facts))
    with pytest.raises(CaptureError, match="tool_pose expects m, got 'mm'"):
        Episode(episode)


def test_another_spec_than_asked_for_is_refused(episode):
    """A model for 20 Hz gets no actions at 10 Hz."""
    wanted = ActionSpec("tool_pose", 1, "world", "m", 20.0)
    with pytest.raises(CaptureError, match=r"expected actions of rate_hz 20\.0, got 10\.0"):
        Episode(episode, wanted)
    _opened.cache_clear()
    with pytest.raises(CaptureError, match="rate_hz"):
        EpisodeSet(episode, wanted)


def test_nan_is_refused(episode, tmp_path):
    """When it is read, and when it is written."""
    numbers = arrays()
    numbers["object_poses"][3, 1, 0] = math.nan
    with pytest.raises(ValueError, match="expected finite numbers in object_poses"):
        written(tmp_path / "bad", numbers=numbers)
    path = episode / "episode.safetensors"
    stored = load(path.read_bytes())
    stored["object_poses"] = numbers["object_poses"].astype(np.float32)
    path.write_bytes(save(stored))
    with pytest.raises(FileFormatError, match="expected finite numbers in object_poses, got NaN"):
        _ = Episode(episode).states


def test_damaged_files_are_refused(episode, tmp_path):
    """Cut short, missing, no JSON, another shape, no list."""
    path = episode / "episode.safetensors"
    whole = path.read_bytes()
    for data in (whole[:-100], whole[:40], b""):
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match="it may be cut short"):
            _ = Episode(episode).states
    stored = load(whole)
    path.write_bytes(save({**stored, "grip": np.zeros((STEPS + 1, 2), np.float32)}))
    with pytest.raises(FileFormatError, match="for grip, got"):
        _ = Episode(episode).states
    path.unlink()
    with pytest.raises(FileFormatError, match="cannot be read"):
        _ = Episode(episode).states
    (episode / "episode.json").write_text("{")
    with pytest.raises(FileFormatError, match="expected JSON"):
        Episode(episode)
    with pytest.raises(FileFormatError, match="expected a readable file"):
        EpisodeSet(tmp_path / "nowhere")


def test_what_was_not_drawn_is_said(episode):
    """An episode without cameras."""
    read = Episode(episode)
    with pytest.raises(CaptureError, match="--cameras 4"):
        _ = read.start
    with pytest.raises(CaptureError, match="got 'camera-0'"):
        read.video("camera-0")


def test_arrays_of_another_layout_are_not_written(tmp_path):
    """One too few."""
    numbers = arrays()
    del numbers["points"]
    with pytest.raises(ValueError, match="points"):
        write_episode(tmp_path, card(), numbers)
