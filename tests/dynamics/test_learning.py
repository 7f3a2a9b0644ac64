"""`fit`: from episodes to a model - stopped and gone on with, by one process or two, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynamics.episodes import Episode, EpisodeSet
from dynamics.generate.episodes_config import EpisodesConfig
from dynamics.generate.produce import generate_episodes
from dynamics.learning.commands import fit
from dynamics.learning.crew import Crew
from dynamics.learning.fit import CHECKPOINT, FitConfig, finished, fitting, material_of
from dynamics.learning.recording import Recording, recording_of
from dynamics.learning.trainer import Training, TrainingConfig, train, weights_of
from dynamics.residual.globals import Globals, find_globals
from dynamics.residual.learner import ResidualConfig, ResidualLearner
from dynamics.residual.network import NetworkConfig
from gaussworld.errors import CaptureError, ConfigError, FileFormatError, GaussWorldError
from gaussworld.log import drain

pytest.importorskip("mujoco")
SMALL = ResidualConfig(NetworkConfig(width=8, rounds=1), windows=4, longest=2)
QUICK = TrainingConfig(steps=6, minutes=0.0, recordings=1, judged=2, judges=2)
CONFIG = FitConfig(identify=False, training=QUICK, residual=SMALL)


@pytest.fixture(autouse=True)
def _quick(quick: None) -> None:
    """As in production."""


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few short pushes."""
    folder = tmp_path_factory.mktemp("learning") / "push"
    config = EpisodesConfig(family=("push",), episodes=8, steps=14, split=(0.6, 0.2, 0.2), seed=5)
    drain(generate_episodes(folder, config, workers=1))
    return folder


@pytest.fixture(scope="module")
def recordings(episodes: Path) -> list[Recording]:
    """The same, prepared."""
    return [recording_of(episode) for episode in EpisodeSet(episodes)]


def begun(config: TrainingConfig = QUICK, seed: int = 0) -> Training:
    """A training at its beginning."""
    learner = ResidualLearner(SMALL, Globals(), torch.Generator().manual_seed(seed))
    return Training.begin(learner, config)


def run(training: Training, recordings: list[Recording], stop: int | None = None) -> None:
    """Train, perhaps only until some step."""
    slices = [recordings[0:4:2], recordings[1:4:2]]
    events = train(training, slices, recordings[4:6], Crew())
    for _ in events:
        if stop is not None and training.step >= stop:
            return


def test_particles_follow_the_truth(recordings: list[Recording]) -> None:
    """States with particles agree with the points that the episode followed."""
    for each in recordings[:3]:
        tracks = each.tracks
        part = each.movable[0]
        middle = each.states.particle_positions[:, part.rows].mean(1)
        seen = tracks.points[:, tracks.objects == part.object_id].mean(1)
        off = (middle - middle[:1]) - (seen - seen[:1])
        assert float(off.norm(dim=-1).max()) < 0.02


def test_resumed_is_unbroken(recordings: list[Recording]) -> None:
    """Stopped after any step and gone on with, the weights are the same bits."""
    config = replace(QUICK, steps=8)
    whole, first, second = begun(config), begun(config), begun(config, seed=1)
    run(whole, recordings)
    run(first, recordings, stop=3)
    assert first.step == 5
    second.restore(first.state())
    run(second, recordings)
    for name, value in weights_of(whole.learner).items():
        assert torch.equal(value, weights_of(second.learner)[name]), name
    assert whole.judgements == second.judgements


def test_learning_helps(recordings: list[Recording]) -> None:
    """On what it learns from, errors of single steps fall."""
    config = replace(QUICK, steps=60)
    training = begun(config)
    generator = torch.Generator().manual_seed(3)
    training.learner.begin(recordings[:4])
    training.mean = weights_of(training.learner)
    before = float(training.learner.loss(recordings[:4], 0.0, generator)["place"].detach())
    slices = [recordings[:2], recordings[2:4]]
    drain(train(training, slices, [], Crew()))
    training.learner.module.load_state_dict(training.mean)
    again = torch.Generator().manual_seed(3)
    after = float(training.learner.loss(recordings[:4], 0.0, again)["place"].detach())
    assert after < 0.9 * before


def test_nan_names_the_episode(recordings: list[Recording]) -> None:
    """Training that meets NaN stops with the episode's name, and the weights are as before."""
    bad = replace(
        recordings[1],
        identity="push:bad",
        states=replace(
            recordings[1].states, particle_positions=recordings[1].states.particle_positions * float("nan")
        ),
    )
    training = begun()
    kept = weights_of(training.learner)
    with pytest.raises(GaussWorldError, match=f"NaN or infinity with the episode {bad.name}"):
        drain(train(training, [[bad], [bad]], [], Crew()))
    assert training.step == 0
    for name, value in weights_of(training.learner).items():
        assert torch.equal(value, kept[name])


def test_prior_is_fitted(recordings: list[Recording]) -> None:
    """The family's numbers predict training recordings no worse than the defaults, and are repeatable."""
    found = drain(find_globals(recordings[:1], seed=1)).result
    assert set(found.factors) == {"patch", "friction", "tool_friction"}
    assert found == drain(find_globals(recordings[:1], seed=1)).result


def test_fit_from_the_command_line(episodes: Path, tmp_path: Path) -> None:
    """The verb writes a model that predicts, tells what it is, and knows when it is done."""
    from gaussworld.cli import main

    out = tmp_path / "model"
    asked = ["fit", str(episodes), "-o", str(out), "--config", "debug", "--no-identify", "--workers", "1"]
    main([*asked, "--json"])
    card = json.loads((out / "model.json").read_text())
    assert card["kind"] == "hybrid" and card["families"] == ["push"]
    learned = {Episode(episodes / n).seed for n in EpisodeSet(episodes).split("train").names}
    assert {int(each.split(":")[1]) for each in card["trained_on"]} == learned
    assert not (out / CHECKPOINT).exists() and (out / "prior" / "model.json").is_file()
    stamp = (out / "model.safetensors").stat().st_mtime_ns
    main(asked)
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp
    test = EpisodeSet(episodes).split("test").names[0]
    where = tmp_path / "future"
    asked = ["predict", str(episodes / test), "--model", str(out), "-o", str(where), "--steps", "3"]
    main([*asked, "--width", "64", "--height", "48"])
    assert (where / "summary.json").is_file()


def test_splits_share_nothing(episodes: Path) -> None:
    """No two episodes share an object or actions, and those of the test split are not touched."""
    material = material_of([episodes], 0)
    names = {folder.name for folder in (*material.learned, *material.held_out)}
    assert not names & set(EpisodeSet(episodes).split("test").names)
    seen = {}
    for folder in sorted(episodes.glob("push-*")):
        episode = Episode(folder)
        thing = next(item for item in episode.objects.values() if item.part and item.part.value == "RIGID")
        for what in (thing.mesh.read_bytes(), episode.actions.tools.numpy().tobytes()):
            assert what not in seen, f"{folder.name} shares something with {seen.get(what)}"
            seen[what] = folder.name


def test_two_processes_learn_the_same(episodes: Path, tmp_path: Path) -> None:
    """`torchrun --nproc-per-node 2` reaches the losses of one process within 1 %."""
    losses = []
    for count in (1, 2):
        out = tmp_path / str(count)
        start = [sys.executable, "-m"]
        if count > 1:
            start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
        done = subprocess.run(
            [*start, "gaussworld", "fit", str(episodes), "-o", str(out), "--config", "debug",
             "--no-identify", "--workers", "1"],
            capture_output=True, text=True, check=False, timeout=400,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        losses.append([row["loss"] for row in rows if "loss" in row])
    assert len(losses[0]) == len(losses[1]) > 0
    for one, two in zip(*losses):
        assert abs(one - two) <= 0.01 * abs(one)


def test_bad_input_is_refused(episodes: Path, tmp_path: Path) -> None:
    """No episodes, other rates, folders or settings, broken checkpoints: one clear sentence each."""

    def refused(error: type[Exception], text: str, folders: list[Path], out: Path, config: FitConfig) -> None:
        with pytest.raises(error, match=text):
            drain(fitting(folders, out, config, workers=1))

    out = tmp_path / "out"
    refused(FileFormatError, "list of episodes|no such file|episodes.json", [tmp_path / "none"], out, CONFIG)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "notes.txt").write_text("mine")
    refused(ConfigError, "holds other files", [episodes], alone, CONFIG)
    assert (alone / "notes.txt").read_text() == "mine"
    refused(ConfigError, "got the file", [episodes], alone / "notes.txt", CONFIG)
    for folder, place in ((episodes, alone), (tmp_path / "none", out)):
        with pytest.raises(GaussWorldError):
            fit((folder,), out=place, config=CONFIG)
    assert [item.name for item in alone.iterdir()] == ["notes.txt"] and not out.exists()
    slow = tmp_path / "slow"
    shutil.copytree(episodes, slow)
    name = EpisodeSet(slow).split("train").names[-1]
    card = json.loads((slow / name / "episode.json").read_text())
    card["rate_hz"] = card["action_spec"]["rate_hz"] = 20.0
    (slow / name / "episode.json").write_text(json.dumps(card))
    refused(CaptureError, "at 20 Hz; fit them apart", [slow], out, CONFIG)
    assert not out.exists()
    few = tmp_path / "few"
    drain(generate_episodes(few, EpisodesConfig(family=("push",), episodes=1, steps=3, seed=1), workers=1))
    refused(CaptureError, "at least 2 episodes", [few], out, CONFIG)
    drain(fitting([episodes], out, CONFIG, workers=1))
    assert finished(out, [episodes], CONFIG)
    other = replace(CONFIG, training=replace(QUICK, seed=7))
    assert not finished(out, [episodes], other)
    refused(ConfigError, "settings with which", [episodes], out, other)
    (out / CHECKPOINT).write_bytes(b"nothing")
    refused(FileFormatError, "delete it to begin anew", [episodes], out, CONFIG)
    with pytest.raises(ConfigError, match="kind"):
        FitConfig(kind="magic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="steps"):
        TrainingConfig(steps=0)
