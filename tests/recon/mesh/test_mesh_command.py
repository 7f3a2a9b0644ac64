"""The verb `mesh`: shapes are committed and can be undone, files are written, and mistakes get a sentence."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gaussworld.errors import ConfigError
from gaussworld.gaussians import cat
from gaussworld.io import save
from gaussworld.io.mesh_file import load_mesh
from gaussworld.session import Session
from gaussworld.shape import is_closed
from gaussworld.world import World
from gaussworld.world_object import ObjectKind
from recon.mesh import MeshSettings
from recon.mesh.commands import mesh

pytest.importorskip("open3d")
QUICK = MeshSettings(views=8, pixels=80, voxels=40_000, faces=1000, scene_voxels=80, scene_pixels=120)


@pytest.fixture
def stored(things: SimpleNamespace, tmp_path: Path) -> Path:
    """A table and a box on it, as a stored world."""
    table, box = things.sheet(0.5, 0.5, 0.02), things.box((0.12, 0.1, 0.08), (0.0, 0.0, 0.04))
    ids = torch.cat([torch.full((len(table),), 1), torch.full((len(box),), 2)]).int()
    gaussians = replace(cat([table, box]), object_ids=ids)
    world = World.from_gaussians(gaussians, cameras=things.ring(), metres_per_unit=1.0, up=(0.0, 0.0, 1.0))
    world = world.with_object(replace(world.objects[1], name="table", kind=ObjectKind.STATIC))
    world = world.with_object(replace(world.objects[2], name="box"))
    world.save(tmp_path / "a.world")
    return tmp_path / "a.world"


def test_shapes_are_kept_and_files_written(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The world has them after the verb and not after undo; the files are a scene, objects, MJCF and URDF."""
    out = tmp_path / "out"
    mesh(stored, out=out, mjcf=True, urdf=True, json=True, config=QUICK)
    facts = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in facts["objects"]] == ["table", "box"]
    assert facts["objects"][1]["volume"] == pytest.approx(0.12 * 0.1 * 0.08, rel=0.15)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"scene.ply", "objects/box.ply", "objects/box_convex.ply", "scene.xml", "scene.urdf"} <= names
    assert is_closed(load_mesh(out / "objects" / "box.ply"))
    with Session(stored) as session:
        shape = session.world.objects[2].shape
        assert shape is not None and session.revision == facts["revision"]
        assert session.world.objects[2].material.volume == pytest.approx(shape.volume)
        session.undo()
        assert session.world.objects[2].shape is None


def test_chosen_objects_only(stored: Path, capsys: pytest.CaptureFixture) -> None:
    """By name; the others stay as they are."""
    mesh(stored, objects=("box",), config=QUICK)
    assert "box" in capsys.readouterr().out
    world = World.open(stored)
    assert world.objects[1].shape is None and world.objects[2].shape is not None


def test_file_of_gaussians(things: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """It keeps nothing, so a folder is asked for; there, the scene's mesh is written."""
    save(things.ball(0.1, (0.0, 0.0, 0.0)), tmp_path / "a.ply")
    with pytest.raises(ConfigError, match=r"--out FOLDER.*gaussworld world create"):
        mesh(tmp_path / "a.ply", config=QUICK)
    mesh(tmp_path / "a.ply", out=tmp_path / "out", format="obj", config=QUICK)
    assert "everything is background" in capsys.readouterr().out
    assert len(load_mesh(tmp_path / "out" / "scene.obj").faces) > 100


def test_mistakes_get_a_sentence(stored: Path, tmp_path: Path) -> None:
    """Unknown and locked objects, a file as folder, exports without a folder, absent sensor depth."""
    with pytest.raises(ConfigError, match=r"--objects.*a name.*'cup'"):
        mesh(stored, objects=("cup",), config=QUICK)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder"):
        mesh(stored, out=tmp_path / "file", config=QUICK)
    with pytest.raises(ConfigError, match="--mjcf"):
        mesh(stored, mjcf=True, config=QUICK)
    with pytest.raises(ConfigError, match="--depth sensor"):
        mesh(stored, depth="sensor", config=QUICK)
    with pytest.raises(ConfigError, match="a run with its pictures"):
        mesh(stored, objects=("box",), out=tmp_path / "o", depth="sensor", config=QUICK)
    from gaussworld import edit

    with Session(stored) as session:
        session.do(edit.Lock(edit.Target((2,)), True))
    with pytest.raises(ConfigError, match="not locked, got box"):
        mesh(stored, objects=("box",), config=QUICK)
