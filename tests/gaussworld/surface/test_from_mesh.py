"""`gaussworld from-mesh`: worlds and files of meshes, URDFs and layouts, and what it refuses."""

import json
from pathlib import Path

import pytest

import gaussworld as gw
from gaussworld import io
from gaussworld.errors import ConfigError, FileFormatError
from gaussworld.surface.commands import from_mesh, joint_values
from gaussworld.surface.objects import Detail

trimesh = pytest.importorskip("trimesh")
FEW = Detail(600)
URDF = """<robot name="r"><link name="a"><visual><geometry><box size="1 1 1"/></geometry></visual></link>
<link name="b"><visual><geometry><sphere radius="0.5"/></geometry></visual></link>
<joint name="j" type="revolute"><parent link="a"/><child link="b"/><origin xyz="0 0 1"/><axis xyz="1 0 0"/>
<limit lower="-1" upper="1"/></joint></robot>"""


def test_a_mesh_in_millimetres_becomes_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """In metres, z up, with a shape and a volume; the output is a sentence."""
    trimesh.creation.box((100, 200, 50)).export(tmp_path / "brick.stl")
    from_mesh(tmp_path / "brick.stl", out=tmp_path / "a.world", unit="mm", config=FEW)
    assert "Wrote" in capsys.readouterr().out
    world = gw.World.open(tmp_path / "a.world")
    (item,) = world.objects.values()
    assert world.metres_per_unit == 1 and world.up == (0, 0, 1) and item.name == "brick"
    assert item.material.volume == pytest.approx(0.001, rel=1e-4) and item.shape is not None
    assert item.posed().means.amax(0).tolist() == pytest.approx([0.05, 0.1, 0.025], abs=1e-3)


def test_gltf_is_y_up_and_others_say_what_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The unit and the axis that a file does not have are told; --json has them too."""
    tall = trimesh.creation.box((1, 3, 1))
    tall.export(tmp_path / "t.glb")
    from_mesh(tmp_path / "t.glb", out=tmp_path / "t.ply", config=FEW)
    assert float(io.load(tmp_path / "t.ply").means[:, 2].max()) == pytest.approx(1.5, abs=0.01)
    assert "taken as" not in capsys.readouterr().out
    tall.export(tmp_path / "t.obj")
    from_mesh(tmp_path / "t.obj", out=tmp_path / "u.ply", json=True, config=FEW)
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["notes"]) == 2 and "--unit mm" in facts["notes"][0] and "--up y" in facts["notes"][1]


def test_a_robot_and_a_layout(tmp_path: Path):
    """Objects are kept apart; joint values are taken."""
    (tmp_path / "r.urdf").write_text(URDF)
    from_mesh(tmp_path / "r.urdf", out=tmp_path / "r.world", joint=("j=0.5",), config=FEW)
    world = gw.World.open(tmp_path / "r.world")
    joint = world.find("b").joint
    assert joint is not None and joint.position == 0.5 and world.find("b").parent == world.find("a").id
    layout = {"metres_per_unit": 0.01, "objects": [{"shape": "box", "size": [10, 10, 10]}]}
    (tmp_path / "l.json").write_text(json.dumps(layout))
    from_mesh(tmp_path / "l.json", out=tmp_path / "l.glb", config=FEW)
    assert float(io.load(tmp_path / "l.glb").means.abs().max()) == pytest.approx(0.05, abs=1e-3)


def test_what_is_refused(tmp_path: Path):
    """Before anything is written."""
    (tmp_path / "r.urdf").write_text(URDF)
    trimesh.creation.box().export(tmp_path / "m.stl")
    out = tmp_path / "x.ply"
    with pytest.raises(ConfigError, match="--joint and --package-path are for a"):
        from_mesh(tmp_path / "m.stl", out=out, joint=("a=1",))
    with pytest.raises(ConfigError, match="--unit and --up are for meshes"):
        from_mesh(tmp_path / "r.urdf", out=out, unit="mm")
    with pytest.raises(ValueError, match="joint j: expected a position within its limits -1 to 1, got 2"):
        from_mesh(tmp_path / "r.urdf", out=out, joint=("j=2",))
    with pytest.raises(ConfigError, match="expected a file among"):
        from_mesh(tmp_path / "r.step", out=out)
    with pytest.raises(FileFormatError, match="no such file"):
        from_mesh(tmp_path / "none.obj", out=out)
    with pytest.raises(ConfigError, match="or a suffix among"):
        from_mesh(tmp_path / "m.stl", out=tmp_path / "x.png", config=FEW)
    assert not out.exists()
    out.write_text("")
    with pytest.raises(ConfigError, match="which exists"):
        from_mesh(tmp_path / "m.stl", out=out)
    for words in (("a",), ("a=b",), ("=1",), ("a=1", "a=2")):
        with pytest.raises(ConfigError, match="expected NAME=VALUE"):
            joint_values(words)
