"""Simulated episodes: tools are where they were sent, friction is true, and a seed repeats."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco")

from dynamics.episodes import SPLITS, EpisodeSet
from dynamics.generate.assemble import friction_of, is_box, is_cylinder, model_of
from dynamics.generate.episodes_config import EpisodesConfig
from dynamics.generate.families import trial_of
from dynamics.generate.forms import box, turned
from dynamics.generate.hands import Hand
from dynamics.generate.mjcf import body_name, mujoco_module
from dynamics.generate.produce import generate_episodes, jobs_of
from dynamics.generate.simulate import _Stage, simulate
from dynamics.generate.trial import FAMILIES
from dynamics.tool import gripper, pusher
from gaussworld.errors import ConfigError
from gaussworld.log import drain
from gaussworld.world_object import ObjectKind

TINY = EpisodesConfig(family=("push", "door"), episodes=2, steps=6, seed=3)


def make(out, config=TINY, workers=1):
    return drain(generate_episodes(out, config, workers)).result


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def away(trial):
    """The same trial with its tool far from everything."""
    return replace(trial, hand=np.array([0.33, 0.33, 0.25, 0.0, 0.0]))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small set, written once for all tests."""
    folder = tmp_path_factory.mktemp("episodes") / "set"
    assert make(folder).made == 4
    return folder


def test_the_same_seed_gives_the_same_bytes(tiny, tmp_path):
    """Every file, and another seed gives others."""
    make(tmp_path / "again")
    assert files_of(tiny) == files_of(tmp_path / "again")
    make(tmp_path / "other", replace(TINY, seed=4))
    name = "push-00000/episode.safetensors"
    assert files_of(tiny)[name] != files_of(tmp_path / "other")[name]


def test_what_was_broken_off_is_gone_on_with(tiny, tmp_path):
    """Half an episode and one that is gone are made again; the others are not touched."""
    whole, out = files_of(tiny), tmp_path / "set"
    make(out)
    kept = (out / "push-00000" / "episode.json").stat().st_mtime_ns
    (out / "door-00001").rename(out / ".door-00001.part")
    (out / ".door-00001.part" / "episode.json").unlink()
    assert make(out).made == 1
    assert files_of(out) == whole
    assert (out / "push-00000" / "episode.json").stat().st_mtime_ns == kept
    assert make(out).made == 0


def test_a_set_grows(tmp_path):
    """More episodes leave the first ones as they were."""
    make(tmp_path, replace(TINY, family=("push",)))
    before = files_of(tmp_path)
    assert make(tmp_path, replace(TINY, family=("push",), episodes=3)).made == 1
    after = files_of(tmp_path)
    assert all(after[name] == data for name, data in before.items() if name != "episodes.json")
    assert len(EpisodeSet(tmp_path)) == 3


def test_other_folders_are_refused(tiny, tmp_path):
    """Other settings, other files, a file in place of a folder, no processes."""
    with pytest.raises(ConfigError, match="was made \\(steps = 6\\), got others"):
        make(tiny, replace(TINY, steps=7))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="which holds other files"):
        make(tmp_path)
    with pytest.raises(ConfigError, match="got the file"):
        make(tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match="--workers"):
        make(tmp_path / "new", workers=0)


def test_splits_have_their_shares():
    """Any first so many episodes are divided as asked, and stay where they are when there are more."""
    jobs = jobs_of(EpisodesConfig(family=("push",), episodes=200, split=(0.6, 0.2, 0.2)))
    shares = [sum(job.split == name for job in jobs) / 200 for name in SPLITS]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.02)
    assert jobs[:50] == jobs_of(EpisodesConfig(family=("push",), episodes=50, split=(0.6, 0.2, 0.2)))
    assert len({job.seed for job in jobs}) == 200
    assert {job.policy for job in jobs} == {"scripted", "random", "expert"}


@pytest.mark.parametrize(("family", "tool"), [("push", pusher()), ("lift", gripper())])
def test_the_tool_in_the_simulator_is_the_tool(family, tool):
    """Its boxes are where dynamics.tool says, open and closed."""
    trial = away(trial_of(family, 5, "scripted"))
    model = model_of(trial)
    mujoco = mujoco_module()
    data = mujoco.MjData(model)
    hand = Hand(model, [item for item in trial.scene.objects if item.kind is ObjectKind.ROBOT])
    for grip in (0.0, 0.4, 1.0) if tool.grips else (0.0,):
        hand.put(data, np.array([0.1, -0.2, 0.3, 0.5, grip]))
        mujoco.mj_forward(model, data)
        c, s = math.cos(0.5), math.sin(0.5)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        centers = tool.boxes(tool.radii.new_tensor(grip)).numpy() @ turn.T + [0.1, -0.2, 0.3]
        for row, center in enumerate(centers):
            geom = model.geom(f"hand_box{row}")
            np.testing.assert_allclose(data.geom_xpos[geom.id], center, atol=1e-6)
            half, radius = tool.halves[row].numpy(), float(tool.radii[row])
            capsule = half[:2].max() == 0
            wanted = [radius, half[2], 0] if capsule else half + radius
            np.testing.assert_allclose(geom.size, wanted, atol=1e-6)


@pytest.mark.parametrize("family", ["push_t", "lift", "rope"])
def test_tools_follow_their_targets(family):
    """Less than a millimetre behind, in free space, at any speed that is asked for."""
    trial = away(trial_of(family, 1, "scripted"))
    stage = _Stage(trial, model_of(trial))
    stage.settle()
    last = trial.hand
    for move in ([-0.05, 0.0, -0.02, 0.2, 0.0], [-0.03, -0.05, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]):
        target = last + np.array(move)
        stage.step(last, target)
        assert np.abs(stage.moment()[4][:3] - target[:3]).max() < 1e-3
        last = target


@pytest.mark.parametrize("family", ["push_t", "push", "lift"])
def test_what_is_not_touched_lies_still(family):
    """Three seconds."""
    trial = away(trial_of(family, 2, "scripted"))
    stage = _Stage(trial, model_of(trial))
    stage.settle()
    before = stage.poses()[2]
    for _ in range(30):
        stage.step(trial.hand, trial.hand)
    assert np.abs(stage.poses()[2] - before).max() < 1e-4


@pytest.mark.parametrize(("family", "seed"), [("push_t", 0), ("push", 1), ("push", 2)])
def test_friction_is_the_geometric_mean(family, seed):
    """A thing that slides freely stops after v^2 / 2 mu g."""
    trial = away(trial_of(family, seed, "scripted"))
    model = model_of(trial)
    stage = _Stage(trial, model)
    stage.settle()
    joint = model.joint(f"{body_name(trial.scene[2])}_free")
    start = stage.poses()[2][:2, 3]
    stage._data.qvel[joint.dofadr[0]] = 0.4
    for _ in range(10):
        stage.step(trial.hand, trial.hand)
    far = np.linalg.norm(stage.poses()[2][:2, 3] - start)
    mu = math.sqrt(friction_of(trial, trial.scene[1]) * friction_of(trial, trial.scene[2]))
    assert far == pytest.approx(0.4**2 / (2 * 9.81 * mu), rel=0.05)


@pytest.mark.parametrize("family", ["push_t", "push", "push_many"])
def test_pushes_reach_their_thing(family):
    """A scripted rod touches and moves something; contacts say when."""
    moved = []
    for seed in range(3):
        trial = trial_of(family, seed, "scripted")
        recorded = simulate(trial, 30)
        rows = [i for i, item in enumerate(trial.scene.objects) if item.kind is ObjectKind.RIGID]
        moved.append(np.abs(recorded.object_poses[-1, rows, :2] - recorded.object_poses[0, rows, :2]).max())
        touched = recorded.contacts[1:, rows, -1].any(axis=0)
        assert touched.any()
        # Rigid things touch the table.
        assert recorded.contacts[0, rows, 0].all()
    assert sum(value > 0.01 for value in moved) >= 2


def test_pinches_hold():
    """A lifted box leaves the table and does not slip between the fingers."""
    trial = trial_of("lift", 1001, "scripted")
    recorded = simulate(trial, 45)
    lifted = recorded.object_poses[:, 1, 2] - recorded.object_poses[0, 1, 2]
    up = lifted > 0.02
    assert up.sum() > 5
    inside = recorded.object_poses[up, 1, 2] - recorded.tools[up, 2]
    assert np.ptp(inside) < 2e-3
    assert recorded.contacts[up, 1, -1].all()


@pytest.mark.parametrize(("family", "far"), [("door", 0.5), ("drawer", 0.05)])
def test_bars_are_hooked(family, far):
    """Scripted rods open what is closed; the joint is where the pose says."""
    opened = []
    for seed in range(4):
        trial = trial_of(family, seed, "scripted")
        recorded = simulate(trial, 50)
        opened.append(np.ptp(recorded.joint_positions[:, 0]))
        item = trial.scene[3]
        pose = replace(trial.start, positions={3: recorded.joint_positions[-1, 0]}).pose(item)
        np.testing.assert_allclose(recorded.object_poses[-1, 2, :3], pose[:3, 3], atol=1e-6)
    assert sum(value > far for value in opened) >= 3


def test_a_rope_is_taken_along():
    """A gripper that closes on a rope holds it until it opens."""
    trial = trial_of("rope", 1000, "scripted")
    recorded = simulate(trial, 34)
    path = recorded.vertices[2]
    assert np.linalg.norm(path[-1] - path[0], axis=1).max() > 0.03
    held = recorded.contacts[:, 1, -1]
    assert held.any()
    lengths = np.linalg.norm(np.diff(path, axis=1), axis=2).sum(1)
    assert np.abs(lengths / trial.flexes[0].size[0] - 1).max() < 0.05


def test_every_family_can_be_made():
    """Ids count from 1, the table comes first, and the tool last."""
    for family in FAMILIES:
        trial = trial_of(family, 9, "random")
        objects = trial.scene.objects
        assert [item.id for item in objects] == list(range(1, len(objects) + 1))
        assert objects[0].name == "table"
        assert objects[-1].kind is ObjectKind.ROBOT


def test_primitives_are_recognised():
    """Boxes and cylinders collide as such, other convex parts as meshes."""
    parts = [box(0.1, 0.2, 0.3, (1.0, 0.0, 0.0)).parts[0].vertices.numpy()]
    parts.append(turned([(0.0, 0.0), (0.04, 0.0), (0.04, 0.05), (0.0, 0.05)]).parts[0].vertices.numpy())
    parts.append(turned([(0.0, 0.0), (0.04, 0.0), (0.02, 0.05), (0.0, 0.05)]).parts[0].vertices.numpy())
    assert [is_box(p) for p in parts] == [True, False, False]
    assert [is_cylinder(p) for p in parts] == [False, True, False]


def test_the_list_says_what_there_is(tiny):
    """Names, families, seeds, splits and steps."""
    index = json.loads((tiny / "episodes.json").read_text())
    assert [entry["name"] for entry in index["episodes"]] == [
        "push-00000", "push-00001", "door-00000", "door-00001",
    ]  # fmt: skip
    assert index["config"]["seed"] == 3
    assert all(entry["steps"] == 6 for entry in index["episodes"])


@pytest.mark.parametrize("family", ["push", "push_t"])
def test_a_strike_ends_in_a_free_slide(family):
    """The rod has stopped, and what it struck slides on alone, slower by its friction, and stays up."""
    for seed in (1000, 1003):
        trial = trial_of(family, seed, "strike")
        recorded = simulate(trial, 16)
        speeds = np.linalg.norm(recorded.object_twists[:, 1, :3], axis=1)
        k = int(speeds.argmax())
        mu = math.sqrt(trial.scene.objects[0].friction * trial.scene.objects[1].friction)
        assert speeds[k] > 0.4
        assert not recorded.contacts[k + 1, 1, -1], "the rod still pushes"
        if speeds[k + 1] > 0.05:
            assert (speeds[k] - speeds[k + 1]) / 0.1 == pytest.approx(mu * 9.81, rel=0.15)
        assert speeds[k + 1] < speeds[k] and speeds[-1] < 0.01
        assert abs(recorded.object_poses[-1, 1, 2] - recorded.object_poses[0, 1, 2]) < 2e-3


def test_an_arch_is_lifted_by_its_middle():
    """A rope that lay straight; its ends stay on the table."""
    trial = trial_of("rope", 1000, "arch")
    assert trial.flexes[0].bent is None
    shape = simulate(trial, 24).vertices[2]
    tops, ends = shape[:, len(shape[0]) // 2, 2], shape[:, [0, -1], 2]
    assert tops[0] < 0.01 and tops.max() > 0.2 * trial.flexes[0].size[0]
    assert ends.max() < 0.02


def test_policies_that_tell_are_for_some_families():
    """One sentence names them."""
    with pytest.raises(ConfigError, match="--policy strike: expected --family push_t or push or push_many"):
        EpisodesConfig(family=("rope",), policy="strike")
    with pytest.raises(ConfigError, match="--policy arch: expected --family rope, got push_t"):
        EpisodesConfig(policy="arch")
