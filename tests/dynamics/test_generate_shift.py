"""Shifted episodes: drawn from outside of all that ordinary ones are drawn from, and for judging alone."""

import colorsys
import hashlib
import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

pytest.importorskip("mujoco")

from dynamics.episodes import Episode, EpisodeSet
from dynamics.generate.assemble import model_of
from dynamics.generate.episodes_config import EpisodesConfig, GenerateConfig
from dynamics.generate.families import trial_of
from dynamics.generate.motion import front_of, girth_of
from dynamics.generate.produce import generate_episodes, jobs_of
from dynamics.generate.ranges import ORDINARY, ways_of
from dynamics.generate.shift import SHIFTS
from dynamics.generate.simulate import _Stage, simulate
from dynamics.generate.trial import FAMILIES, Family, Policy, Trial
from dynamics.generate.unseen import FINGERS, HOOKS, RODS
from dynamics.tool import TOOLS
from gaussworld.errors import ConfigError
from gaussworld.log import drain
from gaussworld.world_object import ObjectKind

COUNTED: tuple[Family, ...] = ("push_t", "push", "push_many", "lift")
RANGED = [
    (family, shift)
    for family in FAMILIES
    for shift in ("size", "mass", "friction", "count")
    if shift != "count" or family in COUNTED
]
#: Of what ordinary trials are made, as it was before there were shifts.
BEFORE = "9362ff2f9a801b05fc85b099c33255dcab0072ddfddc4d1922c75723c0223ec3"


def made(out, config, workers=1):
    return drain(generate_episodes(out, config, workers)).result


def moving(trial: Trial):
    """What can be moved."""
    kinds = (ObjectKind.RIGID, ObjectKind.ARTICULATED, ObjectKind.DEFORMABLE)
    return list(trial.scene.of(*kinds))


def apart(a, b):
    """Whether two spans have no number in common."""
    return a[1] < b[0] or b[1] < a[0]


def facts(trial: Trial) -> list[float]:
    """Numbers of everything that a trial is drawn from."""
    found = [*trial.hand, trial.scene.ambient, trial.tool.friction, *trial.tool.halves.flatten().tolist()]
    for item in trial.scene.objects:
        points = item.form.points()
        found += [item.friction, item.density or 0.0, np.abs(points).sum()]
        found += [channel for look in item.looks for color in look.colors for channel in color]
    for pose in trial.start.poses.values():
        found += pose.ravel().tolist()
    for flex in trial.flexes:
        found += [flex.young, flex.density, flex.friction, flex.damping, *flex.size, np.abs(flex.start).sum()]
    for feel in trial.feel.values():
        found += [feel.damping, feel.friction]
    return found


def test_ordinary_trials_are_what_they_were():
    """To four decimals, on any machine: shifts have changed no seed's episode."""
    told = []
    for family in FAMILIES:
        policies: tuple[Policy, ...] = ("scripted", "random", "arch" if family == "rope" else "expert")
        for seed, policy in enumerate(policies, 7):
            # Rounded, so that another machine's last digits do not count; 0.0 is added for the sign of zero.
            told += [f"{round(value, 4) + 0.0:.4f}" for value in facts(trial_of(family, seed, policy))]
    assert hashlib.sha256(" ".join(told).encode()).hexdigest() == BEFORE


@pytest.mark.parametrize(("family", "shift"), RANGED)
def test_ranges_are_disjoint(family, shift):
    """What is shifted has no value in common with what is drawn otherwise; all else has the same range."""
    usual, ways = ORDINARY[family], ways_of(family, shift)
    changed = {
        "size": lambda r: [r.sizes[0]],
        "mass": lambda r: [r.density or ORDINARY_DENSITY],
        "friction": lambda r: [r.friction, r.table, *([r.damping, r.resistance] if r.damping[1] else [])],
        "count": lambda r: [r.count],
    }[shift]
    assert ways
    for way in ways:
        assert all(apart(a, b) for a, b in zip(changed(usual), changed(way)))
        kept = {
            "size": {"sizes": usual.sizes},
            "mass": {"density": usual.density},
            "friction": {
                "friction": usual.friction,
                "table": usual.table,
                "damping": usual.damping,
                "resistance": usual.resistance,
            },
            "count": {"count": usual.count},
        }[shift]
        assert replace(way, **kept) == usual


#: [kg/m^3] from cardboard less a third to ceramic plus a third.
ORDINARY_DENSITY = (200 * np.exp(-0.4), 2300 * np.exp(0.4))


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_are_new(family):
    """Forms of other names, or proportions that no ordinary one can have; they come to rest and lie still."""
    names = {
        item.name.split()[0] for seed in range(12) for item in moving(trial_of(family, seed, "scripted"))
    }
    shaped = [trial_of(family, seed, "scripted", "shape") for seed in range(12)]
    if family in COUNTED:
        new = {item.name.split()[0] for trial in shaped for item in moving(trial)}
        assert not new & names and len(new) > 1
        trial = replace(shaped[0], hand=np.array([0.36, 0.36, 0.25, 0.0, 0.0]))
        stage = _Stage(trial, model_of(trial))
        stage.settle()
        before = stage.poses()
        for _ in range(5):
            stage.step(trial.hand, trial.hand)
        assert max(np.abs(stage.poses()[item.id] - before[item.id]).max() for item in moving(trial)) < 1e-4
        return
    if family == "rope":
        assert min(trial.flexes[0].radius for trial in shaped) > ORDINARY["rope"].sizes[1][1]
        return
    spans = ORDINARY[family].sizes
    pairs = [(0, 1), (1, 2)] if family != "cloth" else [(0, 1)]
    for trial in shaped:
        assert trial.flexes or trial.front
        size = trial.flexes[0].size if not trial.front else trial.front.size
        ratios = [
            not spans[a][0] / spans[b][1] <= size[a] / size[b] <= spans[a][1] / spans[b][0] for a, b in pairs
        ]
        assert any(ratios)


@pytest.mark.parametrize("family", FAMILIES)
def test_colors_are_all_that_changes(family):
    """The same seed happens as it did, in colours that are pure, or have none."""
    plain, other = (trial_of(family, 11, "scripted", shift) for shift in ("none", "color"))
    for item in moving(other):
        looks = [trial_look.look for trial_look in other.flexes] or item.looks
        for look in looks:
            _, saturation, value = colorsys.rgb_to_hsv(*look.colors[0])
            assert value > 0.99 and (saturation > 0.99 or saturation == 0)
    if family in ("push_t", "drawer", "rope"):
        a, b = simulate(plain, 3), simulate(other, 3)
        assert np.array_equal(a.object_poses, b.object_poses) and np.array_equal(a.commands, b.commands)


@pytest.mark.parametrize("family", FAMILIES)
def test_tools_are_new(family):
    """Their size is in no ordinary tool; the form that is drawn is as wide as the boxes that collide."""
    trial = trial_of(family, 0, "scripted")
    usual, fronts = front_of(trial.tool), set()
    for seed in range(6):
        trial = trial_of(family, seed, "scripted", "tool")
        assert trial.tool.name not in TOOLS
        fronts.add(front_of(trial.tool))
        # A gripper's first body is its palm.
        robot = list(trial.scene.of(ObjectKind.ROBOT))
        assert robot[0].name == trial.tool.name
        body = robot[-1 if trial.tool.grips else 0]
        points = body.form.pieces[0].vertices
        assert np.abs(points[:, 0]).max() == pytest.approx(front_of(trial.tool), abs=1e-5)
        if not trial.tool.grips:
            assert np.linalg.norm(points[:, :2], axis=1).max() == pytest.approx(
                girth_of(trial.tool), abs=2e-3
            )
    assert usual not in fronts and len(fronts) > 1
    spans = FINGERS if trial.tool.grips else HOOKS if trial.front else RODS
    assert all(apart(span, (usual, usual)) for span in spans)


def test_paddles_face_where_they_push():
    """A paddle turns its broad side, and moves something."""
    seed = next(s for s in range(20) if trial_of("push_t", s, "scripted", "tool").tool.name == "paddle")
    trial = trial_of("push_t", seed, "scripted", "tool")
    recorded = simulate(trial, 30)
    assert np.ptp(recorded.tools[:, 3]) > 0.05
    assert recorded.contacts[1:, 1, -1].any()
    assert np.linalg.norm(recorded.object_poses[-1, 1, :2] - recorded.object_poses[0, 1, :2]) > 0.01


@pytest.mark.parametrize("family", COUNTED)
def test_more_things_stand_apart(family):
    """So many, with no two touching at the start."""
    few, most = ways_of(family, "count")[0].count
    for seed in range(3):
        trial = trial_of(family, seed, "scripted", "count")
        items = moving(trial)
        assert few <= len(items) <= most
        recorded = simulate(trial, 1)
        rows = [i for i, item in enumerate(trial.scene.objects) if item.kind is ObjectKind.RIGID]
        assert not recorded.contacts[0][np.ix_(rows, rows)].any()
        assert [item.id for item in trial.scene.objects] == list(range(1, len(trial.scene.objects) + 1))


def test_large_things_find_room():
    """Where they do not all at once, one after the other."""
    for seed in range(500, 512):
        items = moving(trial_of("push_many", seed, "scripted", "size"))
        assert 2 <= len(items) <= 4


def test_what_a_family_cannot_have_is_refused():
    """In one sentence."""
    with pytest.raises(ConfigError, match=r"--shift count: expected --family push_t or .* lift, got door"):
        EpisodesConfig(family=("push", "door"), shift="count")
    assert GenerateConfig(family=("push",), shift="size").moving.shift == "size"
    assert set(SHIFTS) == set(get_args(EpisodesConfig.__dataclass_fields__["shift"].type))


def test_shifted_seeds_are_others_and_for_judging():
    """No seed is one of an ordinary set, nor one of another shift's; every split is test."""
    seeds = set()
    for shift in SHIFTS:
        jobs = jobs_of(EpisodesConfig(family=("push",), episodes=20, shift=shift))
        assert shift == "none" or {job.split for job in jobs} == {"test"}
        seeds |= {job.seed for job in jobs}
    assert len(seeds) == 20 * len(SHIFTS)


def test_a_set_says_its_shift(tmp_path):
    """In its list, in each card, and in Python; it repeats; ordinary sets are written as they were."""
    config = EpisodesConfig(family=("push", "drawer"), episodes=1, steps=4, seed=3, shift="size")
    made(tmp_path / "a", config)
    made(tmp_path / "b", config)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    index = json.loads((tmp_path / "a" / "episodes.json").read_text())
    assert index["config"]["shift"] == "size" and {e["shift"] for e in index["episodes"]} == {"size"}
    shifted = EpisodeSet(tmp_path / "a")
    assert shifted.shifts == ("size",) and len(shifted.split("test")) == 2
    assert shifted[0].shift == "size"
    with pytest.raises(ConfigError, match="shift = size"):
        made(tmp_path / "a", replace(config, shift="none"))
    made(tmp_path / "plain", replace(config, family=("push",), shift="none"))
    plain = EpisodeSet(tmp_path / "plain")
    assert plain.shifts == (None,) and Episode(tmp_path / "plain" / "push-00000").shift is None
    assert "shift" not in (tmp_path / "plain" / "episodes.json").read_text()
    assert "shift" not in (tmp_path / "plain" / "push-00000" / "episode.json").read_text()
