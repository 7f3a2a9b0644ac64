"""MJCF: MuJoCo loads it, what lies on the table stays there, masses and joints are right."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.errors import EditError, UnknownScale
from gaussworld.gaussians import Gaussians
from gaussworld.io.bodies import inertia_of, unique_names
from gaussworld.io.mjcf import save_mjcf
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.shape import Mesh, Shape
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, WorldObject

trimesh = pytest.importorskip("trimesh")


def dots(n: int = 3) -> Gaussians:
    return Gaussians(
        torch.rand(n, 3), torch.ones(n, 4), torch.zeros(n, 3) - 4, torch.zeros(n), torch.zeros(n, 1, 3)
    )


def mesh_of(made) -> Mesh:
    vertices = torch.from_numpy(np.array(made.vertices, np.float32))
    return Mesh(vertices, torch.from_numpy(np.array(made.faces, np.int32)), vertices.abs().clamp(0, 1))


def box(x: float, y: float, z: float) -> Shape:
    mesh = mesh_of(trimesh.creation.box((x, y, z)))
    return Shape(mesh, (mesh,))


def at(x: float, y: float, z: float, yaw: float = 0.0) -> torch.Tensor:
    return pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, yaw])), torch.tensor([x, y, z]))


def thing(number: int, name: str, shape: Shape | None, pose: torch.Tensor, **more) -> WorldObject:
    kind = more.pop("kind", ObjectKind.RIGID)
    return WorldObject(number, name, dots(), kind, pose, shape=shape, **more)


def kitchen() -> World:
    """A table, two boxes on it, a cabinet with a door that stands at 0.3 rad, and an arm of two links."""
    door = Joint("revolute", (0.0, 0.0, 1.0), (-0.1, 0.0, 0.0), (0.0, 1.5), 0.3)
    turn = Joint("revolute", (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (-2.0, 2.0), 0.5)
    slide = Joint("prismatic", (1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (-0.1, 0.2), 0.05)
    robot = ObjectKind.ROBOT
    items = [
        thing(1, "the table!", box(1.0, 0.8, 0.04), at(0, 0, 0.38), kind=ObjectKind.STATIC),
        thing(2, "box", box(0.1, 0.06, 0.05), at(0.1, 0.1, 0.425, 0.7), material=Material(density=700.0)),
        thing(3, "box", box(0.05, 0.05, 0.12), at(-0.1, 0.1, 0.46), material=Material(friction=0.9)),
        thing(4, "cabinet", box(0.2, 0.2, 0.2), at(-0.3, -0.2, 0.5), kind=ObjectKind.STATIC),
        thing(
            5,
            "door",
            box(0.2, 0.01, 0.2),
            at(-0.3, -0.095, 0.5, 0.3),
            kind=ObjectKind.ARTICULATED,
            joint=door,
            parent=4,
        ),
        thing(6, "base", box(0.1, 0.1, 0.1), at(0.3, -0.2, 0.45), kind=robot),
        thing(7, "arm", box(0.3, 0.04, 0.04), at(0.3, -0.2, 0.55, 0.4), kind=robot, joint=turn, parent=6),
        thing(8, "hand", box(0.04, 0.1, 0.02), at(0.3, -0.2, 0.6, 0.4), kind=robot, joint=slide, parent=7),
    ]
    camera = Camera.looking_at((1.0, 1.0, 1.2), (0.0, 0.0, 0.4), 64, 48)
    return World({item.id: item for item in items}, (camera,), 1.0, (0.0, 0.0, 1.0))


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * math.degrees(math.acos(min(1.0, abs(float(a @ b)))))


@pytest.fixture
def loaded(tmp_path: Path):
    mujoco = pytest.importorskip("mujoco")
    return mujoco, mujoco.MjModel.from_xml_path(str(save_mjcf(kitchen(), tmp_path)))


def test_everything_stays_where_it_stands(loaded) -> None:
    """For 2 s nothing on the table moves by more than 2 mm or 1 degree, and the arm holds its pose."""
    mujoco, model = loaded
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    places, turns = data.xpos.copy(), data.xquat.copy()
    while data.time < 2:
        mujoco.mj_step(model, data)
    assert np.abs(data.xpos - places).max() < 2e-3
    assert max(map(angle_between, data.xquat, turns)) < 1.0


def test_poses_masses_and_joints(loaded) -> None:
    """Bodies are where the world has them; masses, inertias, limits and present positions as stated."""
    mujoco, model = loaded
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for name, item in zip(
        ("the_table", "box", "box_2", "cabinet", "door", "base", "arm", "hand"), kitchen().objects.values()
    ):
        body = model.body(name)
        assert np.allclose(data.body(name).xpos, item.world_from_object[:3, 3], atol=1e-6)
        assert np.allclose(data.body(name).xmat.reshape(3, 3), item.world_from_object[:3, :3], atol=1e-6)
        if name == "box":
            assert body.mass[0] == pytest.approx(700 * 0.1 * 0.06 * 0.05, rel=1e-3)
            wanted = np.array([0.06**2 + 0.05**2, 0.1**2 + 0.05**2, 0.1**2 + 0.06**2]) / 12 * body.mass[0]
            assert np.allclose(np.sort(body.inertia), np.sort(wanted), rtol=1e-3)
    assert model.joint("door").range.tolist() == [0.0, 1.5]
    assert model.joint("hand").range.tolist() == pytest.approx([-0.1, 0.2])
    assert float(data.joint("door").qpos[0]) == pytest.approx(0.3)
    assert float(data.joint("hand").qpos[0]) == pytest.approx(0.05)
    assert model.nu == 2 and model.ncam == 1
    assert model.geom("box_2_part0").friction[0] == pytest.approx(0.9)
    data.joint("door").qpos[0] = 1.0
    mujoco.mj_forward(model, data)
    moved = kitchen().objects[5]
    assert moved.joint is not None
    wanted = moved.world_from_object @ moved.joint.motion(torch.tensor(1.0))
    assert np.allclose(data.body("door").xpos, wanted[:3, 3], atol=1e-6)


def test_visual_geoms_do_not_collide(loaded) -> None:
    """Surfaces are drawn, convex parts collide."""
    _, model = loaded
    visual = model.geom_group == 2
    assert visual.sum() == 8 and not model.geom_contype[visual].any()
    assert (model.geom_group == 3).sum() == 8


def test_camera_looks_the_same_way(loaded) -> None:
    """MuJoCo's camera has the place, direction and field of view of the world's."""
    mujoco, model = loaded
    data, camera = mujoco.MjData(model), kitchen().cameras[0]
    mujoco.mj_forward(model, data)
    assert np.allclose(data.cam_xpos[0], camera.center, atol=1e-6)
    assert np.allclose(-data.cam_xmat[0].reshape(3, 3)[:, 2], camera.world_from_camera[:3, 2], atol=1e-6)
    assert model.cam_fovy[0] == pytest.approx(50.0, abs=1e-3)


def test_other_units_and_up(tmp_path: Path) -> None:
    """A world in centimetres with +y up becomes metres and +z up."""
    mujoco = pytest.importorskip("mujoco")
    turn = pose_from(rotation_from_rotvec(torch.tensor([-math.pi / 2, 0.0, 0.0])), torch.zeros(3))
    world = replace(kitchen().reframed(turn, 100.0), metres_per_unit=0.01)
    assert world.up is not None and world.up[1] == pytest.approx(1.0, abs=1e-6)
    model = mujoco.MjModel.from_xml_path(str(save_mjcf(world, tmp_path)))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.body("box").xpos[2] == pytest.approx(0.425, abs=1e-5)
    assert model.body("box").mass[0] == pytest.approx(700 * 0.1 * 0.06 * 0.05, rel=1e-2)


def test_stated_volume_and_center_count(tmp_path: Path) -> None:
    """Mass is the material's density times its volume, about its centre of mass."""
    mujoco = pytest.importorskip("mujoco")
    material = Material(density=1000.0, volume=1e-4, center_of_mass=(0.0, 0.0, -0.01))
    world = kitchen().with_object(replace(kitchen().objects[2], material=material))
    model = mujoco.MjModel.from_xml_path(str(save_mjcf(world, tmp_path, cameras=0, ground=False)))
    assert model.body("box").mass[0] == pytest.approx(0.1)
    assert np.allclose(model.body("box").ipos, [0, 0, -0.01])
    assert model.ncam == 0 and model.geom_type[0] == mujoco.mjtGeom.mjGEOM_MESH


def test_objects_without_shapes_are_named(tmp_path: Path) -> None:
    """The sentence says what to run."""
    world = kitchen().with_object(replace(kitchen().objects[2], shape=None))
    with pytest.raises(EditError, match=r"1 without \(box\); run `gaussworld mesh`"):
        save_mjcf(world, tmp_path)


def test_unknown_scale_is_refused(tmp_path: Path) -> None:
    """Physics needs metres."""
    with pytest.raises(UnknownScale, match="set it"):
        save_mjcf(replace(kitchen(), metres_per_unit=None), tmp_path)


def test_background_without_shape_is_left_out(tmp_path: Path) -> None:
    """What is not segmented is no obstacle, unless somebody gave it a shape."""
    mujoco = pytest.importorskip("mujoco")
    world = kitchen().with_object(WorldObject(0, "background", dots()))
    assert mujoco.MjModel.from_xml_path(str(save_mjcf(world, tmp_path))).nbody == 9
    world = kitchen().with_object(WorldObject(0, "background", dots(), shape=box(3.0, 3.0, 0.1)))
    assert mujoco.MjModel.from_xml_path(str(save_mjcf(world, tmp_path / "b"))).nbody == 10


def test_inertia_against_trimesh() -> None:
    """Volume, centre and inertia of a closed mesh away from the origin."""
    made = trimesh.creation.capsule(height=0.2, radius=0.03).apply_translation((1.0, -2.0, 0.5))
    volume, center, inertia = inertia_of(mesh_of(made))
    assert volume == pytest.approx(made.volume, rel=1e-4)
    assert np.allclose(center, made.center_mass, atol=1e-5)
    assert np.allclose(inertia, made.moment_inertia, rtol=1e-2, atol=1e-9)


def test_names_are_plain_and_unique() -> None:
    """Spaces, digits in front, other scripts, and repeats."""
    got = unique_names(["a b", "a_b", "3 cups", "鍋", "鍋", "world", "a/b"])
    assert got == ["a_b", "a_b_2", "object_3_cups", "object", "object_2", "object_world", "a_b_3"]


def square(size: float, corners: int = 4) -> Mesh:
    """A flat sheet of a triangle or two."""
    vertices = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]) * size
    return Mesh(vertices[:corners], torch.tensor([[0, 1, 2], [0, 2, 3]])[: corners - 2])


def nothing() -> Gaussians:
    return dots(0)


def compiled(world: World, folder: Path, **more):
    mujoco = pytest.importorskip("mujoco")
    return mujoco, mujoco.MjModel.from_xml_path(str(save_mjcf(world, folder, **more)))


def test_links_without_geometry_are_bodies_without_geoms(tmp_path: Path) -> None:
    """A root `world`, a carriage that slides without a shape, and `tool0`; the arm on it stands still."""
    slide = Joint("prismatic", (1.0, 0.0, 0.0), limits=(-0.2, 0.2), position=0.1)
    turn = Joint("revolute", (0.0, 1.0, 0.0), limits=(-2.0, 2.0), position=0.2)
    robot = {"kind": ObjectKind.ROBOT}
    items = [
        replace(thing(1, "world", None, at(0, 0, 0.5), **robot), gaussians=nothing()),
        replace(thing(2, "x", None, at(0.1, 0, 0.5), parent=1, joint=slide, **robot), gaussians=nothing()),
        thing(3, "arm", box(0.3, 0.05, 0.05), at(0.1, 0, 0.6), parent=2, joint=turn, **robot),
        replace(thing(4, "tool0", None, at(0.25, 0, 0.6), parent=3, **robot), gaussians=nothing()),
        replace(thing(5, "left over", None, at(0.0, 0.0, 0.0)), gaussians=nothing()),
    ]
    mujoco, model = compiled(World({i.id: i for i in items}, (), 1.0, (0.0, 0.0, 1.0)), tmp_path)
    assert model.nbody == 5 and model.nu == 2 and model.ngeom == 3
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    while data.time < 1:
        mujoco.mj_step(model, data)
    assert np.allclose(data.body("tool0").xpos, [0.25, 0, 0.6], atol=2e-3)


def test_only_empty_things_is_refused(tmp_path: Path) -> None:
    """Frames alone are no scene."""
    item = replace(thing(1, "base", None, at(0.0, 0.0, 0.0), kind=ObjectKind.ROBOT), gaussians=nothing())
    with pytest.raises(EditError, match="at least one object with a shape"):
        save_mjcf(World({1: item}, (), 1.0, (0.0, 0.0, 1.0)), tmp_path)


def test_loose_things_without_parts_rest_on_the_table(tmp_path: Path) -> None:
    """They collide as their hulls, also where the surface is open, and weigh what these hold."""
    whole = box(0.1, 0.1, 0.1).mesh
    lidless = replace(whole, faces=whole.faces[2:])
    for i, mesh in enumerate((whole, lidless)):
        world = kitchen().with_object(thing(2, "box", Shape(mesh), at(0.1, 0.1, 0.45)))
        mujoco, model = compiled(world, tmp_path / str(i))
        assert model.body("box").mass[0] == pytest.approx(0.5, rel=1e-3)
        data = mujoco.MjData(model)
        while data.time < 1:
            mujoco.mj_step(model, data)
        assert data.body("box").xpos[2] == pytest.approx(0.45, abs=2e-3)


def test_flat_parts_and_triangles_are_no_obstacle(tmp_path: Path) -> None:
    """Parts without a volume are no colliders, and a surface that MuJoCo refuses is not drawn."""
    shapes = (
        Shape(square(0.1), (square(0.1),)),
        Shape(square(0.1, 3), (square(0.1, 3),)),
        Shape(square(0.1), (square(0.1), box(0.1, 0.1, 0.1).mesh)),
        Shape(Mesh(square(0.1).vertices, torch.tensor([[0, 1, 2], [0, 2, 1]]))),
    )
    for i, (shape, geoms) in enumerate(zip(shapes, ((1, 0), (0, 0), (1, 1), (1, 0)))):
        world = kitchen().with_object(thing(2, "sheet", shape, at(0.1, 0.1, 0.6)))
        _, model = compiled(world, tmp_path / str(i))
        mine = model.geom_bodyid == model.body("sheet").id
        assert ((model.geom_group[mine] == 2).sum(), (model.geom_group[mine] == 3).sum()) == geoms
        assert model.body("sheet").mass[0] > 0 and (model.body("sheet").inertia > 0).all()


def test_parts_and_objects_of_the_same_name(tmp_path: Path) -> None:
    """`cup_part0` is an object and a part of `cup`; `CUP` would be the same file on some systems."""
    items = [
        thing(1, "cup", box(0.1, 0.1, 0.1), at(0, 0, 0.1)),
        thing(2, "cup_part0", box(0.2, 0.2, 0.2), at(1, 0, 0.1)),
        thing(3, "CUP", box(0.3, 0.3, 0.3), at(2, 0, 0.2)),
    ]
    _, model = compiled(World({i.id: i for i in items}, (), 1.0, (0.0, 0.0, 1.0)), tmp_path)
    assert model.nbody == 4 and model.ngeom == 7
    files = [path.name.casefold() for path in (tmp_path / "meshes").iterdir()]
    assert len(files) == len(set(files)) == 6
    for name, size in (("cup", 0.1), ("cup_part0", 0.2), ("CUP_2", 0.3)):
        assert model.body(name).mass[0] == pytest.approx(500 * size**3, rel=1e-3)
        for geom in np.flatnonzero(model.geom_bodyid == model.body(name).id):
            assert model.geom_rbound[geom] == pytest.approx(size * math.sqrt(3) / 2, rel=1e-3)


def test_on_a_hidden_parent_things_are_free(tmp_path: Path) -> None:
    """What carried it is not there, so nothing holds it; on a shown one it is fixed."""
    tray = thing(9, "tray", box(0.2, 0.2, 0.01), at(1.0, 1.0, 0.5), kind=ObjectKind.STATIC)
    cup = thing(10, "cup", box(0.05, 0.05, 0.1), at(1.0, 1.0, 0.56), parent=9)
    for hidden in (False, True):
        world = kitchen().with_object(replace(tray, hidden=hidden)).with_object(cup)
        _, model = compiled(world, tmp_path / str(hidden))
        assert model.body("cup").dofnum[0] == (6 if hidden else 0)
