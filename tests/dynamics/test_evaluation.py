"""`gaussworld evaluate`: models are judged in episodes with known errors; what must not count does not."""

import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from dynamics import models
from dynamics.baselines import Persistence
from dynamics.episodes import FRAME, Episode, EpisodeSet, write_episode, write_index
from dynamics.evaluation import entrants as entrants_module
from dynamics.evaluation import evaluate as evaluate_module
from dynamics.evaluation import videos as videos_module
from dynamics.evaluation.cases import cases
from dynamics.evaluation.commands import evaluate as verb
from dynamics.evaluation.entrants import entrants, identity_of
from dynamics.evaluation.evaluate import evaluating
from dynamics.evaluation.page import report_page
from dynamics.evaluation.settings import EvaluateConfig
from dynamics.tool import pusher, tool_record
from gaussworld.errors import CaptureError, ConfigError, FileFormatError
from gaussworld.hull import convex_hull
from gaussworld.io.mesh_file import save_mesh
from gaussworld.log import Done, drain
from gaussworld.shape import Mesh
from gaussworld.state import ActionSpec, Rollout

STEPS, SPEED = 32, 0.005
QUICK = EvaluateConfig(pictures=False, gaussians=300)


def cube(side):
    corners = [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    mesh = convex_hull(Mesh(torch.tensor(corners).float() * side / 2, torch.tensor([[0, 1, 2], [1, 2, 3]])))
    assert mesh is not None
    return mesh


def episode(folder, seed=7, steps=STEPS, speed=SPEED, split="test", family="push", **facts):
    """A box on a table that goes `speed` [m] a step along x, with a rod that touches nothing."""
    u = np.arange(steps + 1)
    poses = np.tile([0.0, 0, 0, 1, 0, 0, 0], (steps + 1, 2, 1))
    poses[:, 0, 2], poses[:, 1, 2], poses[:, 1, 0] = -0.5, 0.05, speed * u
    twists = np.zeros((steps + 1, 2, 6))
    twists[1:, 1, 0] = 10 * speed
    tools = np.tile([0.0, 0, 0.6, 1, 0, 0, 0], (steps + 1, 1, 1))
    rest = 0.05 * np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    arrays = {
        "time": 0.1 * u, "tool_poses": tools, "grip": np.zeros((steps + 1, 1)), "action_tools": tools[1:],
        "action_grip": np.zeros((steps, 1)), "object_poses": poses, "object_twists": twists,
        "joint_positions": np.zeros((steps + 1, 0)), "joint_rates": np.zeros((steps + 1, 0)),
        "object_ids": np.array([1, 2]), "joint_ids": np.zeros(0), "point_objects": np.full(6, 2),
        "point_rest": rest, "points": rest + poses[:, 1, None, :3], "contacts": np.zeros((steps + 1, 2, 3)),
    }  # fmt: skip
    row = {"category": "wood", "parent": None, "joint": None, "parts": [], "friction": 0.4, "mass": 0.2}
    objects = [
        {**row, "id": 1, "name": "table", "kind": "STATIC", "part": "STATIC", "volume": 1.0},
        {**row, "id": 2, "name": "box <1>", "kind": "RIGID", "part": "RIGID", "volume": 1e-3},
    ]
    for item, side, color in zip(objects, (1.0, 0.1), ([0.2, 0.3, 0.2], [0.9, 0.2, 0.1])):
        item["color"] = color
        item["mesh"] = f"meshes/{item['id']}.ply"
        save_mesh(cube(side), folder / item["mesh"])
    spec = {"kind": "tool_pose", "size": 1, "frame": "world", "units": "m", "rate_hz": 10.0, "limits": None}
    card = {
        "family": family, "seed": seed, "split": split, "policy": "scripted", "frame": FRAME, "rate_hz": 10.0,
        "steps": steps, "action_spec": spec, "tools": [tool_record(pusher())], "objects": objects,
        "cameras": [], "ground": {}, "physics": {},
    }  # fmt: skip
    write_episode(folder, {**card, **facts}, arrays)
    return folder


def episode_set(folder, *given):
    """A set of episodes, each told by what differs."""
    entries = []
    for row, facts in enumerate(given):
        facts = {"seed": row, **facts}
        made = Episode(episode(folder / f"push-{row:05d}", **facts))
        entry = {"name": made.name, "family": made.family, "seed": made.seed, "policy": made.policy}
        entries.append({**entry, "split": made.split, "steps": made.steps, "shift": made.shift})
    write_index(folder, {}, entries)
    return folder


class Sliding(Persistence):
    """The box goes along x as it truly does, but for what is asked."""

    made: int = 0

    def __init__(
        self, world, matter, tools, rate_hz, off=0.0, lift=0.0, flip=False, astray=None, radius=None
    ):
        spec = ActionSpec("tool_pose", len(tools), "world", "m", rate_hz)
        super().__init__(world, matter, tools, spec)
        self._how = off, lift, flip, astray, radius
        type(self).made += 1

    def rollout(self, state, actions):
        off, lift, flip, astray, radius = self._how
        count = len(actions) + 1
        states, steps = state.expand(count).map(torch.clone), torch.arange(count)
        poses = states.object_poses
        poses[:, 1, 0] += SPEED * steps
        poses[1:, 1, 1] += off
        poses[:, 1, 2] += lift * steps
        if flip:
            poses[1::2, 1, 3:] *= -1
        if astray is not None:
            poses[astray, 1, 0] = torch.nan
        tools = torch.cat([state.tool_poses[None], actions.tools])
        made = replace(states, tool_poses=tools, time=0.1 * steps)
        spread = None if radius is None else torch.full((count, 2), radius)
        return Rollout(made, actions, self.action_spec.dt, spread=spread)

    def step(self, state, action):
        return state


def report_on(folder, builders, config=QUICK, **more):
    return drain(evaluating(folder, builders, config, **more)).result


def test_a_perfect_model_has_no_errors(tmp_path):
    """Zero everywhere, the box covers itself, its trajectory is right; what is not reached is not there."""
    folder = episode(tmp_path / "push-00000")
    config = replace(QUICK, pictures=True, width=64)
    report = report_on(folder, {"sliding": Sliding}, config)
    (row,) = report.rows
    assert sorted(row.at) == [1, 10, 30] and report.horizons == (1, 10, 30, 100, 300)
    errors = ("distance_m", "track_m", "chamfer_m", "emd_m", "position_m", "momentum_kg_m_s", "energy_j")
    for step, figures in row.at.items():
        assert {name: figures[name].mean for name in errors} == {
            name: pytest.approx(0, abs=1e-6) for name in errors
        }
        assert figures["angle_deg"].mean == pytest.approx(0, abs=1e-3)
        assert figures["iou"].mean == 1.0 and figures["psnr_db"].mean > 50 and figures["ssim"].mean > 0.999
        assert figures["moved_m"].mean == pytest.approx(SPEED * step, rel=1e-4)
    assert row.success is not None and (row.success.hits, row.success.count) == (1, 1)
    assert row.energy_gain_j is not None and row.energy_gain_j.mean == pytest.approx(0, abs=1e-6)
    assert len(row.curve) == STEPS + 1 and set(row.step_s) == {"p50", "p95"} and not row.coverage
    assert report.recording[0].at[30]["distance_m"].mean == pytest.approx(0, abs=1e-6)


def test_known_errors_are_told_as_they_are(tmp_path):
    """A box 4 mm aside is 4 mm off by every distance; one too high is wrong in energy, and gained it."""
    folder = episode(tmp_path / "push-00000")
    builders = {"aside": partial(Sliding, off=0.004), "rising": partial(Sliding, lift=0.002)}
    aside, rising = report_on(folder, builders, replace(QUICK, pictures=True, width=64)).rows
    for name in ("distance_m", "track_m", "emd_m", "position_m"):
        assert aside.at[30][name].mean == pytest.approx(0.004, rel=1e-3), name
    assert 0 < aside.at[30]["chamfer_m"].mean <= 0.00401
    assert aside.at[30]["iou"].mean < 1 and aside.at[30]["psnr_db"].mean < 60
    assert aside.at[30]["momentum_kg_m_s"].mean == pytest.approx(0, abs=1e-6)
    # After 3 s the path is 150 mm: 4 mm are within 5 % of it, 60 mm are not.
    assert aside.success is not None and aside.success.hits == 1
    assert rising.success is not None and rising.success.hits == 0
    assert rising.at[10]["distance_m"].mean == pytest.approx(0.02, rel=1e-3)
    assert rising.at[10]["track_m"].mean == pytest.approx(0.002 * 5.5, rel=1e-3)
    gained = rising.energy_gain_j
    assert gained is not None and gained.mean > 0.1
    share = rising.at[10]["momentum_kg_m_s"].mean / 0.02
    assert rising.at[10]["energy_j"].mean == pytest.approx(share * (9.81 * 0.02 + 0.5 * 0.02**2), rel=1e-2)
    assert gained.mean == pytest.approx(share * 9.81 * 0.002 * STEPS, rel=1e-2)


def test_both_signs_of_a_quaternion_are_one_turn(tmp_path):
    """A model that gives -q every other step is not 360 degrees off."""
    (row,) = report_on(episode(tmp_path / "push-00000"), {"flip": partial(Sliding, flip=True)}).rows
    assert row.at[1]["angle_deg"].mean == pytest.approx(0, abs=1e-3)
    assert row.at[1]["distance_m"].mean == pytest.approx(0, abs=1e-6)


def test_episodes_without_motion_are_counted_apart(tmp_path):
    """Goals reached at the start help nobody's mean: a lazy model would look good in them."""
    folder = episode_set(tmp_path / "set", {}, {"speed": 0.0}, {"speed": 2e-5})
    lazy, keen = report_on(folder, {"persistence": models.MODELS["persistence"], "sliding": Sliding}).rows
    assert (lazy.episodes, lazy.still) == (keen.episodes, keen.still) == (1, 2)
    assert lazy.at[30]["distance_m"].mean == pytest.approx(30 * SPEED, rel=1e-3)
    assert keen.at[30]["distance_m"].mean == pytest.approx(0, abs=1e-6)
    assert keen.gain["persistence"][30].mean == pytest.approx(1.0, abs=1e-4)
    assert keen.still_m[30].mean > 0.14 and keen.success is not None and keen.success.count == 1


def test_a_model_that_goes_astray_has_failed(tmp_path):
    """NaN in a state is told for that episode; the model is never the best, whatever the rest says."""
    folder = episode_set(tmp_path / "set", {}, {})
    calls = []

    def sometimes(*given):
        calls.append(given)
        return Sliding(*given, astray=5 if len(calls) == 1 else None)

    report = report_on(folder, {"net": sometimes, "aside": partial(Sliding, off=0.01)})
    net, aside = report.rows
    assert list(net.failed) == ["push-00000"] and "object_poses after step 5" in net.failed["push-00000"]
    assert (
        net.at[30]["distance_m"].count == 1
        and net.at[30]["distance_m"].mean < aside.at[30]["distance_m"].mean
    )
    assert report.best(("push", None), 30) == "aside" and not net.gain
    page = report_page(report)
    assert "1 failed" in page and "object_poses after step 5" in page


def test_radii_hold_or_do_not(tmp_path):
    """A thing 4 mm off is within 5 mm and not within 3 mm; without a spread nothing is said."""
    builders = {f"within {r}": partial(Sliding, off=0.004, radius=r) for r in (0.003, 0.005)}
    near, far = report_on(episode(tmp_path / "push-00000"), builders).rows
    for name in ("placed", "placed_moved", "near", "near_moved"):
        assert near.coverage[name][30].hits == 0 and far.coverage[name][30].hits == 1, name
    assert far.coverage["placed"][30].count == 1 and far.at[30]["spread_m"].mean == pytest.approx(0.005)


def test_scores_of_the_unusual(tmp_path):
    """Whether a model wants its rollout or the state and actions, its score is asked for."""

    class Asked(Sliding):
        def surprise(self, rollout):
            return 0.25 if isinstance(rollout, Rollout) else 1.0

    class AskedTwice(Sliding):
        def surprise(self, state, actions):
            return len(actions) / 100

    rows = report_on(episode(tmp_path / "push-00000"), {"a": Asked, "b": AskedTwice, "c": Sliding}).rows
    assert [row.surprise and round(row.surprise.mean, 6) for row in rows] == [0.25, 0.32, None]


def model_folder(folder, trained_on):
    folder.mkdir(parents=True)
    card = {"format": "gaussworld-model", "version": 1, "kind": "hybrid", "trained_on": trained_on}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def test_nobody_is_judged_by_what_it_was_trained_on(tmp_path, monkeypatch):
    """An episode is its family and seed, wherever its files lie; --split train asks for it."""
    monkeypatch.setattr(entrants_module, "model_named", lambda name, *given: Sliding(*given))
    folder = episode_set(tmp_path / "set", {"seed": 11}, {"seed": 12}, {"seed": 13, "split": "train"})
    seen = model_folder(tmp_path / "seen", ["push:12", "push:13"])
    with pytest.raises(
        ConfigError, match=r"--model hybrid: expected episodes that it was not trained on, got 1 .*push:12"
    ):
        report_on(folder, [str(seen)])
    assert report_on(folder, [str(seen)], replace(QUICK, split="train")).models == ("hybrid",)
    other = model_folder(tmp_path / "other", ["push:13", "rope:12"])
    report = report_on(folder, ["persistence", f"mine={other}"])
    assert report.models == ("persistence", "mine") and not report.rows[1].failed


def test_a_fitted_prior_stands_beside_its_model(tmp_path, monkeypatch):
    """What a model corrects was fitted as well: to beat the unfitted prior alone would be no merit."""
    made = {"prior": partial(Sliding, off=0.02), "hybrid": partial(Sliding, off=0.01)}
    monkeypatch.setattr(
        entrants_module, "model_named", lambda name, *given: made[name.split("/")[-1]](*given)
    )
    hybrid = model_folder(tmp_path / "hybrid", [])
    model_folder(hybrid / "prior", [])
    card = json.loads((hybrid / "model.json").read_text())
    (hybrid / "prior" / "model.json").write_text(json.dumps({**card, "kind": "prior"}))
    report = report_on(episode(tmp_path / "push-00000"), [str(hybrid)])
    assert report.models == ("hybrid's prior", "hybrid")
    own, row = report.rows
    assert row.gain["own prior"][30].mean == pytest.approx(0.5, rel=1e-3) and not own.gain
    page = report_page(report)
    assert "vs own prior" in page and "against its fitted prior" in page
    assert entrants([str(hybrid / "prior")])[0].name == "fitted prior"


def test_models_that_are_none(tmp_path):
    """Unknown names, two of one name, folders of something else, damaged cards, none at all."""
    folder = episode(tmp_path / "push-00000")
    one, two = (model_folder(tmp_path / name, []) for name in ("one", "two"))
    with pytest.raises(ConfigError, match="got hybrid twice; name them"):
        report_on(folder, [str(one), str(two)])
    with pytest.raises(ConfigError, match="expected one of prior"):
        report_on(folder, ["newton's"])
    with pytest.raises(ConfigError, match="at least one model"):
        report_on(folder, [])
    (two / "model.json").write_text('{"format": "gaussworld-episodes"}')
    with pytest.raises(FileFormatError, match="expected format 'gaussworld-model'"):
        report_on(folder, [str(two)])
    (two / "model.json").write_text('{"format": "gaussworld-model", "version": 1, "trained_on": 3}')
    with pytest.raises(FileFormatError, match="trained_on to list episodes as family:seed, got 3"):
        report_on(folder, [str(two)])


def test_nothing_is_converted_silently(tmp_path):
    """Episodes of another rate or frame, and models of another rate, end in one sentence."""
    folder = episode(tmp_path / "a" / "push-00000")
    spec = {"kind": "tool_pose", "size": 1, "frame": "world", "units": "m", "rate_hz": 20.0, "limits": None}
    fast = episode(tmp_path / "b" / "push-00000", seed=8, rate_hz=20.0, action_spec=spec)
    with pytest.raises(
        CaptureError, match=r"expected actions of rate_hz 10\.0 .* got 20\.0; judge them apart"
    ):
        report_on([folder, fast], ["persistence"])
    turned = episode(tmp_path / "c" / "push-00000", frame="camera, -y up, metres")
    with pytest.raises(CaptureError, match="expected the frame"):
        report_on(turned, ["persistence"])

    def other(world, matter, tools, rate_hz):
        raise ConfigError(f"model: expected 25 Hz, got {rate_hz:g} Hz; generate episodes at its rate")

    with pytest.raises(ConfigError, match="expected 25 Hz, got 10 Hz"):
        report_on(folder, {"net": other})
    with pytest.raises(CaptureError, match="expected episodes of the split val, got 1 of test push"):
        report_on(folder, ["persistence"], replace(QUICK, split="val"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"horizons": (10, 1)}, "rising"),
        ({"horizons": ()}, "rising"),
        ({"most": 0}, "at least 1"),
        ({"width": 8}, "32"),
    ],
)
def test_settings_that_make_no_sense(changed, message):
    """Each is refused where it is said."""
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig(**changed)


def test_each_episode_once_and_not_too_many(tmp_path):
    """Two sets that share episodes; --most is for each family and shift; shifts are rows of their own."""
    short = {"steps": 1}
    a = episode_set(tmp_path / "a", short, short, {"shift": "mass", "seed": 50, **short})
    b = episode_set(tmp_path / "b", short, {"seed": 70, **short}, {"shift": "mass", "seed": 51, **short})
    found = [(each.shift, identity_of(each)) for each in cases([a, b], QUICK)]
    assert found == [
        (None, "push:0"),
        (None, "push:1"),
        ("mass", "push:50"),
        (None, "push:70"),
        ("mass", "push:51"),
    ]
    fewer = cases([a, b], replace(QUICK, most=1))
    assert [(each.shift, identity_of(each)) for each in fewer] == [found[0], found[2]]
    (lone,) = cases(a / "push-00002", QUICK)
    assert lone.name == "push-00002" and lone.shift == "mass"
    assert len(cases(EpisodeSet(b), replace(QUICK, family=("push",)))) == 3


def test_what_was_broken_off_goes_on(tmp_path, monkeypatch):
    """Found episodes are kept by their bytes, the model and the settings; failures are tried again."""
    monkeypatch.setitem(models.MODELS, "sliding", Sliding)
    folder, out = episode_set(tmp_path / "set", {"steps": 3}, {"steps": 3}), tmp_path / "out"
    Sliding.made = 0
    work = evaluating(folder, ["sliding"], QUICK, out=out)
    for _ in range(2):
        next(work)
    work.close()
    assert Sliding.made == 1
    whole = report_on(folder, ["sliding"], out=out)
    assert Sliding.made == 2 and whole.rows[0].episodes == 2
    again = report_on(folder, ["sliding"], replace(QUICK, most=2, seed=0), out=out)
    assert Sliding.made == 2 and again.rows == whole.rows
    report_on(folder, ["sliding"], replace(QUICK, most=1, gaussians=200), out=out)
    assert Sliding.made == 3
    episode(folder / "push-00001", seed=1, steps=3, speed=0.004)
    assert report_on(folder, ["sliding"], out=out).rows != whole.rows
    assert Sliding.made == 4
    for path in (out / "judged").iterdir():
        path.write_text("{")
    monkeypatch.setitem(models.MODELS, "sliding", partial(Sliding, astray=3))
    one = replace(QUICK, most=1)
    assert len(report_on(folder, ["sliding"], one, out=out).rows[0].failed) == 1
    monkeypatch.setitem(models.MODELS, "sliding", Sliding)
    assert not report_on(folder, ["sliding"], one, out=out).rows[0].failed


def test_worlds_may_be_what_cameras_saw(tmp_path, monkeypatch):
    """With --seen the reconstruction is what models start from; where it fails, the episode is told."""
    folder, asked = episode_set(tmp_path / "set", {}, {}), []

    def seen(episode, work, preset):
        asked.append((episode.name, work, preset))
        if episode.name == "push-00001":
            raise CaptureError("expected pictures, got an episode without; generate it with --cameras 4")
        world = episode.world(300)
        box = world.objects[2]
        aside = torch.eye(4)
        aside[1, 3] = 0.01
        yield Done(world.with_object(replace(box, world_from_object=aside @ box.world_from_object)))

    monkeypatch.setattr(evaluate_module, "seen_world", seen)
    report = report_on(folder, {"sliding": Sliding}, seen=tmp_path / "work")
    assert asked[0] == ("push-00000", tmp_path / "work" / "push-00000", "rgbd")
    assert list(report.left_out) == ["push-00001"] and "--cameras 4" in report.left_out["push-00001"]
    # Points are bound where they are, so that a world that is a little off moves as well.
    assert report.rows[0].at[30]["distance_m"].mean == pytest.approx(0, abs=1e-6)
    assert report.rows[0].at[30]["position_m"].mean == pytest.approx(0, abs=1e-6)
    assert report.facts["worlds"] == "seen by the cameras"


class Tags(HTMLParser):
    """Whether what is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_stands_alone(tmp_path):
    """Well-formed, nothing loaded from elsewhere, every name escaped, curves and tables there."""
    folder = episode_set(tmp_path / "set", {"family": "<b>"}, {"shift": "mass", "seed": 9})
    report = report_on(folder, {"<i>odd": Sliding, "persistence": models.MODELS["persistence"]})
    report = replace(
        report, videos=({"file": "videos/a.mp4", "episode": "a", "family": "b", "shift": "", "shows": "x"},)
    )
    assert [row.group for row in report.rows] == [("<b>", None)] * 2 + [("push", "mass")] * 2
    page = report_page(report)
    tags = Tags()
    tags.feed(page)
    assert not tags.wrong and not tags.open
    assert not re.search(r"(src|href)=\"(?!videos/|report\.json)", page) and "http:" not in page
    assert "https:" not in page and "<i>odd" not in page and "&lt;i&gt;odd" in page and "<b></h3>" not in page
    assert page.count("<svg") == 2 and page.count('class="sortable"') == 5 and "push · other mass" in page
    assert "<video controls" in page and report_page(report) == page


def test_the_verb(tmp_path, monkeypatch, capsys):
    """A page, a JSON, a table; it goes on in its own folder and touches no other; baselines stand beside."""
    monkeypatch.setitem(models.MODELS, "sliding", Sliding)
    folder, out = episode_set(tmp_path / "set", {}, {"speed": 0.0, "steps": 3}), tmp_path / "out"
    verb((folder,), out=out, model=("sliding",), config=QUICK)
    said = capsys.readouterr().out
    assert "sliding" in said and "constant-velocity" in said and "[mm]" in said and "index.html" in said
    assert "Nothing moves in 1 of 2 episodes" in said
    told = json.loads((out / "report.json").read_text())
    assert told["format"] == "gaussworld-evaluation" and told["models"][-1] == "sliding"
    assert len(told["episodes"]) == 2 * 5 and {row["model"] for row in told["rows"]} == set(told["models"])
    Sliding.made = 0
    verb((folder,), out=out, model=("sliding",), baselines=False, json=True, config=QUICK)
    assert json.loads(capsys.readouterr().out)["models"] == ["sliding"] and Sliding.made == 0
    verb((folder,), out=out, model=("sliding",), baselines=False, fresh=True, config=replace(QUICK, most=1))
    assert Sliding.made == 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "judged").mkdir()
    with pytest.raises(ConfigError, match="which holds other files"):
        verb((folder,), out=tmp_path / "thesis", model=("sliding",), fresh=True, config=QUICK)
    assert (tmp_path / "thesis" / "judged").is_dir()
    with pytest.raises(ConfigError, match="expected EPISODES"):
        verb((), out=tmp_path / "none", config=QUICK)
    with pytest.raises(CaptureError, match="of the split val"):
        verb((folder,), out=tmp_path / "none", config=replace(QUICK, split="val"))
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match="leave --no-baselines out"):
        verb((folder,), out=tmp_path / "none", baselines=False, config=QUICK)


def test_videos_show_truth_and_predictions(tmp_path, monkeypatch):
    """A few episodes in which something moves; made once; the page shows them."""
    pytest.importorskip("av")
    from gaussworld.io.video import read_video

    monkeypatch.setitem(models.MODELS, "sliding", Sliding)
    monkeypatch.setattr(videos_module, "_GAUSSIANS", 300)
    monkeypatch.setattr(videos_module, "_WIDTH", 64)
    folder, out = (
        episode_set(tmp_path / "set", {"speed": 0.0, "steps": 3}, {"steps": 3}, {"steps": 3}),
        tmp_path / "out",
    )
    verb((folder,), out=out, model=("sliding",), videos=1, config=QUICK)
    (video,) = (out / "videos").iterdir()
    assert video.name.startswith("push-00001-") and video.name in (out / "index.html").read_text()
    _, frame = next(iter(read_video(video)))
    assert frame.shape[1] > 2 * frame.shape[0]
    before = video.stat().st_mtime_ns
    verb((folder,), out=out, model=("sliding",), videos=1, config=QUICK)
    assert video.stat().st_mtime_ns == before


@pytest.mark.slow
def test_any_number_of_processes_finds_the_same(tmp_path):
    """But for the times of steps."""
    folder = episode_set(tmp_path / "set", {"steps": 3}, {"steps": 2})
    one, two = (report_on(folder, ["persistence"], workers=count) for count in (1, 2))
    assert [replace(row, step_s={}) for row in one.rows] == [replace(row, step_s={}) for row in two.rows]
    assert [each.episode for each in two.judged] == [each.episode for each in one.judged]
