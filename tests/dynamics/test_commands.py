"""The verb `generate`: what it prints, and what it refuses."""

import json

import pytest

pytest.importorskip("mujoco")

from dynamics import commands
from dynamics.generate.config import StillConfig
from dynamics.generate.still import Still
from gaussworld.errors import ConfigError
from gaussworld.log import Done, Progress


def test_only_stills_can_be_made(tmp_path):
    """Episodes are for later; nothing is begun."""
    with pytest.raises(ConfigError, match="--still"):
        commands.generate(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_json_names_the_captures(tmp_path, monkeypatch, capsys):
    """Programs learn where the states are, and how much was drawn."""
    asked = []

    def pretended(out, config, workers):
        asked.append((out, config, workers))
        yield Progress(0, 8)
        yield Done(Still((out, out / "state-1"), 4, 8))

    monkeypatch.setattr(commands, "generate_still", pretended)
    config = StillConfig(views=4, states=1)
    commands.generate(tmp_path, still=True, workers=2, json=True, config=config)
    assert asked == [(tmp_path, config, 2)]
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"folders": [str(tmp_path), str(tmp_path / "state-1")], "views": 4, "drawn": 8}
