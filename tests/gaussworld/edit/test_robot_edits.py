"""Meshes and robots as edits: what they add, how joints move it, exact undo, JSON, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gaussworld.edit import between
from gaussworld.edit.change import bits
from gaussworld.edit.plain import to_plain
from gaussworld.edit.robot import AddMesh, AddRobot, SetJoints
from gaussworld.robot import load_robot
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

ARM = """<robot name="arm">
  <link name="base"><inertial><mass value="2"/></inertial>
    <visual><geometry><box size="0.2 0.2 0.1"/></geometry></visual>
    <collision><geometry><box size="0.2 0.2 0.1"/></geometry></collision></link>
  <link name="upper">
    <visual><origin xyz="0 0 0.2"/><geometry><box size="0.05 0.05 0.4"/></geometry></visual></link>
  <link name="mount"/>
  <link name="tip"><collision><geometry><sphere radius="0.03"/></geometry></collision></link>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/>
    <origin xyz="0 0 0.05" rpy="0 0 0.3"/><axis xyz="0 1 0"/><limit lower="-1" upper="1.5"/></joint>
  <joint name="wrist" type="fixed"><parent link="upper"/><child link="mount"/><origin xyz="0 0 0.4"/></joint>
  <joint name="reach" type="prismatic"><parent link="mount"/><child link="tip"/>
    <axis xyz="0 0 1"/><limit lower="0" upper="0.2"/></joint>
</robot>"""
CUBE = "\n".join(
    [f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    + ["f 1 2 4", "f 1 4 3", "f 5 7 8", "f 5 8 6", "f 1 5 6", "f 1 6 2",
       "f 3 4 8", "f 3 8 7", "f 1 3 7", "f 1 7 5", "f 2 6 8", "f 2 8 4"]
)  # fmt: skip
FEW = 400


@pytest.fixture
def arm(tmp_path: Path) -> str:
    path = tmp_path / "arm.urdf"
    path.write_text(ARM)
    return str(path)


@pytest.fixture
def cube(tmp_path: Path) -> str:
    path = tmp_path / "cube.obj"
    path.write_text(CUBE)
    return str(path)


def room() -> World:
    return World(metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def assert_same_bits(a: World, b: World) -> None:
    assert list(a.objects) == list(b.objects)
    for number, x in a.objects.items():
        y = b.objects[number]
        assert (x.name, x.parent, x.joint, x.material) == (y.name, y.parent, y.joint, y.material)
        assert torch.equal(bits(x.world_from_object), bits(y.world_from_object))
        for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
            assert torch.equal(bits(getattr(x.gaussians, name)), bits(getattr(y.gaussians, name)))


def test_a_robot_becomes_linked_objects(arm: str):
    """An object per link with geometry: parent, joint, mass, shape; what is fixed without is left out."""
    pose = (1.0, 2.0, 0.5, 1.0, 0.0, 0.0, 0.0)
    world = AddRobot(arm, {"shoulder": 0.5}, pose, "left", gaussians=FEW).apply(room())
    base, upper, tip = world.objects.values()
    assert [item.name for item in (base, upper, tip)] == ["left/base", "left/upper", "left/tip"]
    assert (base.parent, upper.parent, tip.parent) == (None, base.id, upper.id)
    assert {item.kind for item in world.objects.values()} == {ObjectKind.ROBOT} and base.joint is None
    assert upper.joint is not None and upper.joint.limits == (-1, 1.5) and upper.joint.position == 0.5
    assert base.material.mass == pytest.approx(2) and base.material.sources["density"] == "user"
    assert base.shape is not None and len(base.shape.parts) == 1 and len(base.gaussians) > 50
    robot = load_robot(arm)
    wanted = robot.link_poses(robot.positions({"shoulder": 0.5})).float()
    for item, row in ((base, 0), (upper, 1), (tip, 3)):
        moved = item.world_from_object.clone()
        moved[:3, 3] -= torch.tensor(pose[:3])
        assert torch.allclose(moved, wanted[row], atol=1e-6)


def test_joints_move_as_the_urdf_would(arm: str):
    """From the world alone: the file is gone. Parents first, children come along, positions are kept."""
    robot = load_robot(arm)
    world = AddRobot(arm, gaussians=FEW).apply(room())
    Path(arm).unlink()
    for values in ({"upper": -0.7, "tip": 0.15}, {"tip": 0.02}, {"upper": 1.2}):
        world = SetJoints(1, values).apply(world)
    wanted = robot.link_poses(robot.positions({"shoulder": 1.2, "reach": 0.02})).float()
    for number, row in ((1, 0), (2, 1), (3, 3)):
        assert torch.allclose(world.objects[number].world_from_object, wanted[row], atol=1e-5)
    joint = world.objects[3].joint
    assert joint is not None and joint.position == 0.02


def test_a_robot_in_a_world_of_other_units(arm: str):
    """Millimetres: everything is a thousand times as large, prismatic limits too; the mass is the same."""
    world = AddRobot(arm, {"reach": 0.1}, gaussians=FEW).apply(
        dataclasses.replace(room(), metres_per_unit=0.001)
    )
    tip = world.objects[3]
    assert tip.world_from_object[2, 3] == pytest.approx(550, rel=1e-4)
    assert tip.joint is not None and tip.joint.limits == pytest.approx((0, 200))
    assert float(world.objects[1].gaussians.means.norm(dim=1).max()) == pytest.approx(150, rel=0.05)
    with pytest.raises(ValueError, match="scale: expected the units of the world in one metre"):
        AddRobot(arm).apply(World())
    assert len(AddRobot(arm, scale=2.0, gaussians=FEW).apply(World()).objects) == 3


def test_adding_a_mesh(cube: str):
    """At its pose and scale, with a shape and a volume, under a name of its own."""
    edit = AddMesh(cube, pose=(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0), scale=0.1, gaussians=FEW)
    world = edit.apply(edit.apply(room()))
    one, two = world.objects.values()
    assert (one.name, two.name, one.kind) == ("cube", "cube 2", ObjectKind.RIGID)
    assert one.shape is not None and one.shape.volume == pytest.approx(0.001, rel=1e-4)
    assert one.material.volume == pytest.approx(0.001, rel=1e-4)
    seen = one.posed().means
    assert seen.amin(0).tolist() == pytest.approx([0, 0, 1], abs=0.01)
    assert seen.amax(0).tolist() == pytest.approx([0.1, 0.1, 1.1], abs=0.01)


def test_undo_and_redo_are_exact(arm: str, cube: str):
    """Bit for bit, for each of the three; the same edit again gives the same bits."""
    worlds = [AddMesh(cube, gaussians=FEW).apply(room())]
    worlds.append(AddRobot(arm, gaussians=FEW).apply(worlds[-1]))
    worlds.append(SetJoints(2, {"upper": 0.3, "tip": 0.1}).apply(worlds[-1]))
    for before, after in zip([room(), *worlds], worlds):
        change = between("x", before, after)
        assert_same_bits(change.undo(after), before)
        assert_same_bits(change.redo(before), after)
    assert_same_bits(AddMesh(cube, gaussians=FEW).apply(room()), worlds[0])


def test_edits_are_plain(arm: str, cube: str):
    """Their fields are JSON that a person can read."""
    for edit in (AddMesh(cube, "mug"), AddRobot(arm, {"reach": 0.1}), SetJoints(2, {"upper": 0.3})):
        plain = json.loads(json.dumps(to_plain(edit)))
        assert set(plain) == {field.name for field in dataclasses.fields(edit)}
        again = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
        if "kind" in again:
            again["kind"] = ObjectKind(again["kind"])
        kind: Any = type(edit)
        assert kind(**again) == edit


def test_what_is_refused(arm: str, cube: str):
    """Limits are named, unknown joints listed, locks kept, bad sizes told."""
    world = AddRobot(arm, new_name="left", gaussians=FEW).apply(room())
    with pytest.raises(
        ValueError, match=r"joint upper: expected a position within its limits -1 to 1.5, got 2"
    ):
        SetJoints(1, {"upper": 2.0}).apply(world)
    joint = SetJoints(1, {"left/upper": 2.0}, clamp=True).apply(world).objects[2].joint
    assert joint is not None and joint.position == 1.5
    with pytest.raises(
        ValueError, match=r"got 'elbow'; there are left/upper \(-1 to 1.5\), left/tip \(0 to 0.2\)"
    ):
        SetJoints(1, {"elbow": 0.0}).apply(world)
    with pytest.raises(ValueError, match="each object once"):
        SetJoints(1, {"upper": 0.0, "2": 0.1}).apply(world)
    with pytest.raises(ValueError, match="at least one joint"):
        SetJoints(1, {}).apply(world)
    locked = world.with_object(dataclasses.replace(world.objects[3], locked=True))
    with pytest.raises(ValueError, match=r"not locked, got 3 \(left/tip\)"):
        SetJoints(1, {"upper": 0.0}).apply(locked)
    with pytest.raises(ValueError, match=r"joint shoulder: .* limits -1 to 1.5, got 9"):
        AddRobot(arm, {"shoulder": 9.0}).apply(room())
    with pytest.raises(ValueError, match="missing: expected refuse or substitute"):
        AddRobot(arm, missing="ignore").apply(room())
    with pytest.raises(ValueError, match="scale: expected a positive finite number, got 0"):
        AddMesh(cube, scale=0.0).apply(room())
    with pytest.raises(ValueError, match="gaussians: expected 1 to"):
        AddMesh(cube, gaussians=0).apply(room())
    with pytest.raises(ValueError, match="up: expected"):
        AddMesh(cube, up="x").apply(room())
