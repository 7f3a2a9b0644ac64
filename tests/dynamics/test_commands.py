"""The verb `generate`: what it prints, and what it refuses."""

import json

import jaxtyping
import pytest

pytest.importorskip("mujoco")

from dynamics.generate import commands
from dynamics.generate.config import StillConfig
from dynamics.generate.episodes_config import EpisodesConfig, GenerateConfig
from dynamics.generate.produce import Made
from dynamics.generate.still import Still
from gaussworld.errors import ConfigError
from gaussworld.log import Done, Progress


@pytest.fixture
def as_in_production():
    """Switch jaxtyping's checks off, so that the messages users see come to light."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_json_names_the_captures(tmp_path, monkeypatch, capsys):
    """Programs learn where the states are, and how much was drawn."""
    asked = []

    def pretended(out, config, workers):
        asked.append((out, config, workers))
        yield Progress(0, 8)
        yield Done(Still((out, out / "state-1"), 4, 8))

    monkeypatch.setattr(commands, "generate_still", pretended)
    config = GenerateConfig(views=4, states=1)
    commands.generate(tmp_path, still=True, workers=2, json=True, config=config)
    assert asked == [(tmp_path, StillConfig(views=4, states=1), 2)]
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"folders": [str(tmp_path), str(tmp_path / "state-1")], "views": 4, "drawn": 8}


def test_episodes_are_the_default(tmp_path, monkeypatch, capsys):
    """Without --still the settings of episodes are handed on."""
    asked = []

    def pretended(out, config, workers):
        asked.append((out, config, workers))
        yield Done(Made(out, 3, 60, 3))

    monkeypatch.setattr(commands, "generate_episodes", pretended)
    config = GenerateConfig(family=("push",), episodes=3, steps=20, seed=5)
    commands.generate(tmp_path, json=True, config=config)
    assert asked == [(tmp_path, EpisodesConfig(family=("push",), episodes=3, steps=20, seed=5), None)]
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(tmp_path), "episodes": 3, "steps": 60, "made": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"family": ("juggle",)}, "--family: expected all or some of push_t"),
        ({"family": ()}, "--family"),
        ({"policy": "wild"}, "--policy: expected mixed, scripted"),
        ({"episodes": 0}, "--episodes: expected 1"),
        ({"steps": 0}, "--steps: expected 1"),
        ({"cameras": 65}, "--cameras: expected 0 to 64, got 65"),
        ({"split": (0.5, 0.5, 0.5)}, "--split: expected three shares"),
        ({"fov_deg": 1.0}, "--fov-deg"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_settings_out_of_range_are_named(wrong, said, as_in_production):
    """One sentence for each."""
    with pytest.raises(ConfigError, match=said):
        EpisodesConfig(**wrong)
