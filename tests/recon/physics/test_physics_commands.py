"""The verb `physics`: its table, what it commits, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from gaussworld.errors import ConfigError
from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from
from gaussworld.session import Session
from gaussworld.shape import Mesh, Shape
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject
from recon.physics.commands import physics

CORNERS = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
FACES = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
FACES += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]


def _box(number: int, name: str, size: tuple, at: tuple, kind=ObjectKind.RIGID) -> WorldObject:
    mesh = Mesh(CORNERS * torch.tensor(size), torch.tensor(FACES))
    n = len(mesh.vertices)
    gaussians = Gaussians.from_activated(
        mesh.vertices,
        torch.eye(4)[:1].expand(n, 4),
        torch.full((n, 3), 0.01),
        torch.ones(n),
        torch.ones(n, 3),
    )
    return WorldObject(
        number, name, gaussians, kind, pose_from(torch.eye(3), torch.tensor(at)), shape=Shape(mesh)
    )


@pytest.fixture
def stored(tmp_path) -> Path:
    """A table, and a mug's block on it."""
    table = _box(1, "table", (1.0, 1.0, 0.1), (0.0, 0.0, -0.05), ObjectKind.STATIC)
    mug = _box(2, "mug", (0.1, 0.1, 0.1), (0.0, 0.0, 0.05))
    World({1: table, 2: mug}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0)).save(tmp_path / "a.world")
    return tmp_path / "a.world"


def test_the_table_says_what_and_from_where(stored, capsys):
    """Categories by name, a measured mass, supports; all of it is kept and can be undone."""
    physics(stored, category=("mug=Ceramic", "1=wood"), mass=("mug=0.35",))
    text = capsys.readouterr().out
    assert "1,000.0 cm3" in text and "0.35 kg" in text and "shape, measured, category" in text
    assert "35-80 kg" in text and "weigh what is hollow" in text
    with Session(stored) as session:
        mug = session.world.find("mug")
        assert mug.material.mass == pytest.approx(0.35) and mug.supported_by == (1,)
        assert mug.material.sources["density"] == "measured"
        assert session.world.find("table").supported_by == ()
        assert session.history()[0].op == "set-material"
    physics(stored, category=("mug=steel",))
    with Session(stored) as session:
        assert session.world.find("mug").material.mass == pytest.approx(0.35)


def test_json_and_nothing_twice(stored, capsys):
    """Programs get numbers with units of metres; a second run changes nothing; a dry one never does."""
    physics(stored, category=("mug=glass",), dry_run=True, json=True)
    dry = json.loads(capsys.readouterr().out)
    assert dry["objects"][1]["mass"] == pytest.approx(2.5, rel=1e-5)
    with Session(stored) as session:
        assert session.revision == dry["revision"] and session.world.find("mug").supported_by is None
    physics(stored, json=True)
    first = json.loads(capsys.readouterr().out)
    physics(stored, json=True)
    assert json.loads(capsys.readouterr().out) == first
    assert first["objects"][1]["rests_on"] == [1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"category": ("mug",)}, "--category: expected OBJECT=VALUE"),
        ({"category": ("cup=wood",)}, "--category: expected a name of an object .* 2 \\(mug\\)"),
        ({"category": ("mug=cheese",)}, "--category: expected a category among aluminium"),
        ({"mass": ("mug=heavy",)}, "--mass mug: expected kilograms above 0, got 'heavy'"),
        ({"mass": ("mug=-1",)}, "--mass mug: expected kilograms above 0"),
    ],
)
def test_what_cannot_be(stored, flags, message):
    """One sentence each, and the world is left as it was."""
    with pytest.raises(ConfigError, match=message):
        physics(stored, **flags)
    with Session(stored) as session:
        assert len(session.history()) == 1


def test_a_mass_needs_a_scale(tmp_path):
    """Cubic units weigh nothing."""
    World({2: _box(2, "mug", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))}).save(tmp_path / "b.world")
    with pytest.raises(ConfigError, match="without scale"):
        physics(tmp_path / "b.world", mass=("mug=1",))
