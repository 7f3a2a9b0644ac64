"""URDF: yourdfpy and trimesh load it, links are where the world has them, masses are right."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.edit.robot import AddRobot
from gaussworld.errors import EditError
from gaussworld.gaussians import Gaussians
from gaussworld.io.urdf import save_urdf
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.shape import Mesh, Shape
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, WorldObject

trimesh = pytest.importorskip("trimesh")
yourdfpy = pytest.importorskip("yourdfpy")
# yourdfpy calls a function that trimesh is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:.*Scene.dump:DeprecationWarning")


def box(x: float, y: float, z: float) -> Shape:
    made = trimesh.creation.box((x, y, z))
    mesh = Mesh(
        torch.from_numpy(np.array(made.vertices, np.float32)),
        torch.from_numpy(np.array(made.faces, np.int32)),
    )
    return Shape(mesh, (mesh,))


def thing(number: int, name: str, shape: Shape, pose: torch.Tensor, **more) -> WorldObject:
    n = 2
    gaussians = Gaussians(
        torch.rand(n, 3), torch.ones(n, 4), torch.zeros(n, 3), torch.zeros(n), torch.zeros(n, 1, 3)
    )
    return WorldObject(number, name, gaussians, more.pop("kind", ObjectKind.RIGID), pose, shape=shape, **more)


def at(x: float, y: float, z: float, *turn: float) -> torch.Tensor:
    return pose_from(rotation_from_rotvec(torch.tensor(turn or (0.0, 0.0, 0.0))), torch.tensor([x, y, z]))


def scene() -> World:
    """A table, a box, a cabinet with a drawer at 0.05 m and on it a door at 0.3 rad, and a wheel."""
    door = Joint("revolute", (0.0, 0.0, 1.0), (-0.1, 0.02, 0.0), (0.0, 1.5), 0.3)
    drawer = Joint("prismatic", (0.0, 1.0, 0.0), (0.3, 0.0, 0.0), (0.0, 0.2), 0.05)
    wheel = Joint("revolute", (0.0, 1.0, 0.0), position=1.2)
    loose, static = ObjectKind.ARTICULATED, ObjectKind.STATIC
    items = [
        thing(1, "table", box(1.0, 0.8, 0.04), at(0, 0, 0.38), kind=static),
        thing(
            2,
            "box 2",
            box(0.1, 0.06, 0.05),
            at(0.1, 0.1, 0.425, 0.1, 0.5, 0.7),
            material=Material(density=700.0),
        ),
        thing(4, "cabinet", box(0.2, 0.2, 0.2), at(-0.3, -0.2, 0.5, 0.0, 0.0, 0.2), kind=static),
        thing(
            5,
            "drawer",
            box(0.2, 0.1, 0.2),
            at(-0.3, -0.095, 0.5, 0.0, 0.0, 0.3),
            kind=loose,
            joint=drawer,
            parent=4,
        ),
        thing(
            6,
            "door",
            box(0.2, 0.01, 0.2),
            at(-0.2, -0.05, 0.5, 0.3, -0.2, 0.3),
            kind=loose,
            joint=door,
            parent=5,
        ),
        thing(7, "wheel", box(0.1, 0.02, 0.1), at(0.5, 0.5, 0.5, 1.0, 0.0, 0.0), kind=loose, joint=wheel),
    ]
    return World({item.id: item for item in items}, (), 1.0, (0.0, 0.0, 1.0))


@pytest.fixture
def loaded(tmp_path: Path):
    path = save_urdf(scene(), tmp_path)
    # Floating joints are no joints with a value for yourdfpy: it says so as a warning of its own logger.
    robot = yourdfpy.URDF.load(str(path), build_collision_scene_graph=True, load_collision_meshes=True)
    return path.parent, robot


def test_links_are_where_the_world_has_them(loaded) -> None:
    """At the positions of positions.json, every surface lies where the world has it."""
    folder, robot = loaded
    stand = json.loads((folder / "positions.json").read_text())
    assert stand == {"drawer": 0.05, "door": 0.3, "wheel": 1.2}
    robot.update_cfg(stand)
    for name, number in (
        ("cabinet", 4),
        ("drawer", 5),
        ("door", 6),
        ("wheel", 7),
        ("table", 1),
        ("box_2", 2),
    ):
        item = scene().objects[number]
        assert item.shape is not None
        origin = next(v.origin for v in robot.link_map[name].visuals)
        got = robot.get_transform(name, "world") @ (np.eye(4) if origin is None else origin)
        assert np.allclose(got, item.world_from_object, atol=1e-5), name


def test_joints_have_their_own_zero_and_limits(loaded) -> None:
    """Another position moves the door as the world's joint does; an endless joint is continuous."""
    folder, robot = loaded
    robot.update_cfg({**json.loads((folder / "positions.json").read_text()), "door": 1.1})
    item = scene().objects[6]
    assert item.joint is not None
    wanted = item.world_from_object @ item.joint.motion(torch.tensor(1.1))
    got = robot.get_transform("door", "world") @ robot.link_map["door"].visuals[0].origin
    assert np.allclose(got, wanted, atol=1e-5)
    limit = robot.joint_map["drawer"].limit
    assert (limit.lower, limit.upper) == (0.0, 0.2)
    assert robot.joint_map["wheel"].type == "continuous"
    assert robot.joint_map["box_2_to_world"].type == "floating"
    assert robot.joint_map["table_fixed"].type == "fixed"


def test_masses_and_inertias(loaded) -> None:
    """As a box of that density has them."""
    inertial = loaded[1].link_map["box_2"].inertial
    mass = 700 * 0.1 * 0.06 * 0.05
    assert inertial.mass == pytest.approx(mass, rel=1e-3)
    wanted = np.diag([0.06**2 + 0.05**2, 0.1**2 + 0.05**2, 0.1**2 + 0.06**2]) * mass / 12
    assert np.allclose(inertial.inertia, wanted, rtol=1e-3, atol=1e-9)


def test_assemblies_have_files_of_their_own(loaded) -> None:
    """One per root; trimesh reads the meshes that they name."""
    folder, _ = loaded
    assert {path.name for path in folder.glob("*.urdf")} == {
        "scene.urdf", "table.urdf", "box_2.urdf", "cabinet.urdf", "wheel.urdf",
    }  # fmt: skip
    cabinet = yourdfpy.URDF.load(str(folder / "cabinet.urdf"))
    assert set(cabinet.link_map) == {"cabinet", "drawer", "door"} and cabinet.base_link == "cabinet"
    mesh = trimesh.load_mesh(folder / cabinet.link_map["door"].collisions[0].geometry.mesh.filename)
    assert mesh.is_watertight and mesh.volume == pytest.approx(0.2 * 0.01 * 0.2, rel=1e-4)


def test_turned_by_a_right_angle_of_pitch(tmp_path: Path) -> None:
    """Roll, pitch and yaw at the gimbal's lock give the same rotation."""
    pose = at(0.1, 0.2, 0.3, 0.0, math.pi / 2, 0.0) @ at(0.0, 0.0, 0.0, 0.4, 0.0, 0.0)
    world = World(
        {1: thing(1, "a", box(0.1, 0.2, 0.3), pose, kind=ObjectKind.STATIC)}, (), 1.0, (0.0, 0.0, 1.0)
    )
    robot = yourdfpy.URDF.load(str(save_urdf(world, tmp_path)))
    assert np.allclose(robot.get_transform("a", "world"), pose, atol=1e-5)


def test_without_shape_is_refused(tmp_path: Path) -> None:
    """The sentence says what to run."""
    bare = replace(scene().objects[1], shape=None)
    with pytest.raises(EditError, match="gaussworld mesh"):
        save_urdf(scene().with_object(bare), tmp_path)


ARM = """<robot name="r"><link name="world"/><link name="arm"><inertial><mass value="2"/></inertial>
<visual><geometry><box size="0.1 0.1 0.4"/></geometry></visual></link><link name="slider"/><link name="tip">
<visual><geometry><sphere radius="0.05"/></geometry></visual></link>
<joint name="a" type="revolute"><parent link="world"/><child link="arm"/><origin xyz="0 0 0.3"/>
<axis xyz="0 1 0"/><limit lower="-1" upper="1"/></joint>
<joint name="b" type="prismatic"><parent link="arm"/><child link="slider"/><origin xyz="0 0 0.2"/>
<axis xyz="0 0 1"/><limit lower="0" upper="0.3"/></joint>
<joint name="c" type="fixed"><parent link="slider"/><child link="tip"/></joint></robot>"""


def test_a_robot_with_an_empty_base_goes_round(tmp_path: Path) -> None:
    """Links without geometry are links without geometry again, and all stand where they stood."""
    (tmp_path / "r.urdf").write_text(ARM)
    world = AddRobot(str(tmp_path / "r.urdf"), {"a": 0.4, "b": 0.1}, gaussians=200).apply(
        World({}, (), 1.0, (0.0, 0.0, 1.0))
    )
    path = save_urdf(world, tmp_path / "out")
    robot = yourdfpy.URDF.load(str(path))
    assert not robot.link_map["object_world"].visuals and not robot.link_map["slider"].visuals
    assert robot.link_map["arm"].inertial.mass == pytest.approx(2)
    robot.update_cfg(json.loads((path.parent / "positions.json").read_text()))
    for name, item in zip(("object_world", "arm", "slider", "tip"), world.objects.values()):
        assert np.allclose(robot.get_transform(name, "world"), item.world_from_object, atol=1e-5), name


def test_a_thing_called_scene_keeps_off_the_scene(tmp_path: Path) -> None:
    """In any case of its letters: some systems do not tell them apart."""
    item = thing(1, "Scene", box(0.1, 0.1, 0.1), at(0.0, 0.0, 0.0))
    save_urdf(World({1: item}, (), 1.0, (0.0, 0.0, 1.0)), tmp_path)
    assert {path.name for path in tmp_path.glob("*.urdf")} == {"scene.urdf", "scene_object.urdf"}


def test_on_a_hidden_parent_things_float(tmp_path: Path) -> None:
    """What carried it is not in the file."""
    tray = thing(1, "tray", box(0.2, 0.2, 0.01), at(0, 0, 0.5), kind=ObjectKind.STATIC, hidden=True)
    cup = thing(2, "cup", box(0.05, 0.05, 0.1), at(0, 0, 0.56), parent=1)
    robot = yourdfpy.URDF.load(str(save_urdf(World({1: tray, 2: cup}, (), 1.0, (0.0, 0.0, 1.0)), tmp_path)))
    assert robot.joint_map["cup_to_world"].type == "floating"
