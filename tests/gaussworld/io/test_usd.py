"""USD: worlds and rollouts out and back, what USD alone says of them, foreign and hostile files."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gaussworld import edit
from gaussworld.errors import FileFormatError, MissingDependency
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_framing, load_world, save, save_world, usd_stage
from gaussworld.io.usd_rollout import read_rollout_poses, write_rollout
from gaussworld.pose import (
    normalize_quats,
    pose7_from_pose,
    pose_from,
    rotation_from_rotvec,
    transform_points,
)
from gaussworld.shape import Mesh, Shape
from gaussworld.state import Action, ActionSpec, Rollout, State, stack
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind, WorldObject

pxr = pytest.importorskip("pxr")
from pxr import Gf, Usd, UsdGeom, UsdPhysics, UsdShade  # noqa: E402

SHARED = [HealthCheck.function_scoped_fixture]


def blob(seed=0, n=5, k=4):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    quats = normalize_quats(normal(n, 4))
    return Gaussians(normal(n, 3), quats, normal(n, 3) - 4, normal(n), normal(n, k, 3) * 0.3)


def turn(x, y, z, shift=(0.0, 0.0, 0.0)):
    return pose_from(rotation_from_rotvec(torch.tensor([x, y, z])), torch.tensor(shift))


def kitchen():
    """A table with a cup on it, a rope, a hidden lamp."""
    table = WorldObject(3, "the table!", blob(1), ObjectKind.RIGID, turn(0.1, 0.2, 0.3, (1.0, 2.0, 3.0)))
    cup = WorldObject(8, "cup", blob(2), ObjectKind.RIGID, turn(0.5, -0.2, 0.3, (1.0, 2.0, 4.0)), parent=3)
    rope = WorldObject(5, "rope", blob(4, k=16), ObjectKind.DEFORMABLE, turn(0.0, 0.0, 1.0))
    lamp = WorldObject(9, "cup", blob(3, k=1), hidden=True)
    return World({3: table, 8: cup, 5: rope, 9: lamp}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def falling(world, steps=4):
    """A rollout in which the table turns and all but the lamp moves."""
    state, states = State.at_rest(world), []
    for step in range(steps + 1):
        moved = world.moved(3, turn(0.1, 0.2, 0.3 + 0.2 * step, (1.0, 2.0, 3.0 - 0.1 * step)))
        moved = moved.moved(5, turn(0.0, 0.5 * step, 1.0, (0.3 * step, 0.0, 0.0)))
        poses = [item.world_from_object for item in moved.objects.values()]
        states.append(replace(state, object_poses=pose7_from_pose(torch.stack(poses))))
    spec = ActionSpec("gripper", 1, "tool", "fraction", 20.0)
    return Rollout(stack(states), Action(spec, grip=torch.zeros(steps, 1)), 0.05)


@pytest.fixture
def unprobed(monkeypatch):
    """Files that we have just written need no process of their own to look at them first."""
    monkeypatch.setattr(usd_stage, "_check", lambda *_: None)


def stage_of(text, path):
    """A stage that somebody else wrote."""
    path.write_text(f'#usda 1.0\n(\n    metersPerUnit = 0.01\n    upAxis = "Y"\n)\n{text}')
    return path


SPLAT = """
def Xform "room" {
    double3 xformOp:translate = (1, 2, 3)
    uniform token[] xformOpOrder = ["xformOp:translate"]
    def ParticleField3DGaussianSplat "chair" {
        point3f[] positions = [(0, 0, 0), (1, 1, 1)]
        OTHERS
    }
}
"""


@settings(max_examples=30, suppress_health_check=SHARED)
@given(data=st.data(), suffix=st.sampled_from([".usda", ".usdc", ".usd", ".usdz"]))
def test_worlds_come_back(tmp_path, unprobed, worlds, data, suffix):
    """Objects, kinds, joints, parents, names and facts; what is exact and what is near says `check_same`."""
    world = worlds.build(data.draw(worlds.recipes))
    save_world(world, tmp_path / f"a{suffix}")
    worlds.check_same(load_world(tmp_path / f"a{suffix}"), world)


def test_a_file_is_looked_at_first_and_read(tmp_path, worlds, capfd):
    """The way that users go, with the look in another process; USD says nothing on the terminal."""
    save_world(kitchen(), tmp_path / "a.usdc")
    worlds.check_same(load_world(tmp_path / "a.usdc"), kitchen())
    save_world(World({1: WorldObject(1, "one", blob())}), tmp_path / "a.usdc")
    assert list(load_world(tmp_path / "a.usdc").objects) == [1]
    assert capfd.readouterr() == ("", "")
    assert [each.name for each in tmp_path.iterdir()] == ["a.usdc"]


def test_plain_gaussians_come_back_with_their_ids_and_framing(tmp_path, unprobed):
    """`save` and `load`: no rounding of positions, and what was said of the frame."""
    gaussians = replace(blob(), object_ids=torch.tensor([0, 4, 0, 4, 4], dtype=torch.int32))
    save(gaussians, tmp_path / "a.usdz", frame="robot base", up=(0.0, 0.0, 2.0), metres_per_unit=0.1)
    framing = load_framing(tmp_path / "a.usdz")
    assert (framing.frame, framing.up, framing.metres_per_unit) == ("robot base", (0.0, 0.0, 2.0), 0.1)
    back = load(tmp_path / "a.usdz")
    assert torch.equal(back.means, gaussians.means[[0, 2, 1, 3, 4]])
    assert back.object_ids.tolist() == [0, 0, 4, 4, 4]


def test_the_stage_says_what_usd_wants_to_know(tmp_path):
    """Unit, up axis, a default prim, visibility, the schema's attributes: read here with USD alone."""
    from pxr import Usd, UsdGeom, UsdVol

    save_world(replace(kitchen(), metres_per_unit=0.5), tmp_path / "a.usda")
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    assert (UsdGeom.GetStageMetersPerUnit(stage), UsdGeom.GetStageUpAxis(stage)) == (0.5, "Z")
    assert stage.GetDefaultPrim().GetPath() == "/World"
    paths = {str(prim.GetPath()) for prim in stage.Traverse() if prim.GetTypeName() == "Xform"}
    assert paths == {"/World", "/World/the_table", "/World/the_table/cup", "/World/rope", "/World/cup_9"}
    part = UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath("/World/the_table/cup/gaussians"))
    cup = kitchen().objects[8]
    positions = torch.from_numpy(np.array(part.GetPositionsAttr().Get()))
    matrix = torch.from_numpy(
        np.array(UsdGeom.XformCache().GetLocalToWorldTransform(part.GetPrim())).T.copy()
    )
    wanted = transform_points(cup.world_from_object, cup.gaussians.means)
    torch.testing.assert_close(transform_points(matrix.float(), positions), wanted)
    first = part.GetOrientationsAttr().Get()[0]
    torch.testing.assert_close(
        torch.tensor([first.GetReal(), *first.GetImaginary()]), cup.gaussians.quats[0], rtol=0, atol=1e-6
    )
    torch.testing.assert_close(torch.from_numpy(np.array(part.GetScalesAttr().Get())), cup.gaussians.scales)
    assert part.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 1
    flat = np.array(part.GetRadianceSphericalHarmonicsCoefficientsAttr().Get())
    assert np.array_equal(flat[:4], cup.gaussians.sh[0].numpy())
    lamp = UsdGeom.Imageable(stage.GetPrimAtPath("/World/cup_9/gaussians"))
    assert lamp.ComputeVisibility() == "invisible"
    assert stage.GetPrimAtPath("/World/rope").GetCustomDataByKey("gaussworld:kind") == "DEFORMABLE"


@pytest.mark.parametrize(
    "up, axis", [((0.0, 1.0, 0.0), "Y"), ((0.0, -1.0, 0.0), "Z"), ((0.6, 0.0, -0.8), "Z"), (None, "Z")]
)
def test_others_see_it_upright(tmp_path, up, axis):
    """Where neither axis is up, the root turns the world until one is."""
    from pxr import Usd, UsdGeom

    save_world(replace(kitchen(), up=up), tmp_path / "a.usda")
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    assert UsdGeom.GetStageUpAxis(stage) == axis
    matrix = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(stage.GetPrimAtPath("/World")))
    turned = np.array([*(up or (0.0, 0.0, 1.0)), 0.0]) @ matrix
    assert np.allclose(turned[:3], (0, 1, 0) if axis == "Y" else (0, 0, 1), atol=1e-12)


def test_a_prim_moved_elsewhere_moves_its_object(tmp_path, unprobed):
    """The stage wins over the record; what it carries comes along, all else keeps its bits."""
    from pxr import Gf, Usd

    save_world(kitchen(), tmp_path / "a.usda")
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    attribute = stage.GetPrimAtPath("/World/the_table").GetAttribute("xformOp:translate")
    attribute.Set(attribute.Get() + Gf.Vec3d(0.25, 0, 0))
    stage.Save()
    world = load_world(tmp_path / "a.usda")
    for number in (3, 8):
        was, now = (each.objects[number].world_from_object for each in (kitchen(), world))
        wanted = was[:3, 3] + torch.tensor([0.25, 0.0, 0.0])
        torch.testing.assert_close(now[:3, 3], wanted, rtol=0, atol=1e-6)
    assert torch.equal(world.objects[5].world_from_object, kitchen().objects[5].world_from_object)


def test_a_foreign_stage(tmp_path, unprobed):
    """Defaults of the schema for what is absent; unit and axis as stated; one alone is a background."""
    world = load_world(stage_of(SPLAT.replace("OTHERS", ""), tmp_path / "a.usda"))
    (item,) = world.objects.values()
    assert (item.id, item.name, item.kind, world.up, world.metres_per_unit) == (
        0, "chair", ObjectKind.STATIC, (0.0, 1.0, 0.0), 0.01
    )  # fmt: skip
    assert item.world_from_object[:3, 3].tolist() == [1, 2, 3]
    assert (
        item.gaussians.quats.tolist() == [[1, 0, 0, 0]] * 2
        and item.gaussians.scales.tolist() == [[1] * 3] * 2
    )
    assert item.gaussians.opacities.min() > 0.99 and item.gaussians.rgb.tolist() == [[0.5] * 3] * 2


def test_a_stage_composed_of_files_beside_it(tmp_path):
    """References to prims of the same file and of others, as instances too, are objects like all others."""
    stage_of(SPLAT.replace("OTHERS", ""), tmp_path / "asset.usda")
    text = """
def Xform "one" (references = @./asset.usda@</room>) {
    double3 xformOp:translate = (5, 0, 0)
}
def Xform "two" (
    instanceable = true
    references = </one>
) {
    token visibility = "invisible"
}
"""
    world = load_world(stage_of(text, tmp_path / "a.usda"))
    facts = [(i.name, i.kind.value, i.hidden, len(i.gaussians)) for i in world.objects.values()]
    assert facts == [("chair", "RIGID", False, 2), ("chair", "RIGID", True, 2)]
    assert world.objects[1].world_from_object[:3, 3].tolist() == [5, 0, 0]


def test_half_floats_long_arrays_and_high_degrees(tmp_path, unprobed, caplog):
    """Halves serve where there are no floats, what is too long is cut, what is too short is left out."""
    others = """quath[] orientationsh = [(0, 1, 0, 0), (1, 0, 0, 0), (1, 0, 0, 0)]
        half3[] scalesh = [(0.5, 0.25, 0.125), (1, 1, 1)]
        float[] opacities = [0.25]
        uniform int radiance:sphericalHarmonicsDegree = 4
        float3[] radiance:sphericalHarmonicsCoefficients = ["""
    others += ", ".join(["(1, 2, 3)"] * 50) + "]"
    got = load(stage_of(SPLAT.replace("OTHERS", others), tmp_path / "a.usda"))
    assert got.quats.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    torch.testing.assert_close(got.scales[0], torch.tensor([0.5, 0.25, 0.125]))
    assert got.sh_degree == 3 and got.sh[1, 15].tolist() == [1, 2, 3]
    assert got.opacities.min() > 0.99
    assert "opacities has 1 of 2 values" in caplog.text and "SH above degree 3" in caplog.text


def test_rollouts_come_back(tmp_path, unprobed, worlds):
    """Time samples of all poses; at rest the file is the world."""
    world, rollout = kitchen(), falling(kitchen())
    write_rollout(world, rollout, tmp_path / "a.usdc")
    times, poses = read_rollout_poses(tmp_path / "a.usdc")
    torch.testing.assert_close(times, torch.arange(5, dtype=torch.float64) * 0.05)
    assert set(poses) == set(world.objects)
    for row, number in enumerate(rollout.states.object_ids):
        wanted = rollout.states.object_poses[:, row]
        torch.testing.assert_close(poses[number], wanted, rtol=0, atol=1e-6)
    worlds.check_same(load_world(tmp_path / "a.usdc"), world)


def test_rollouts_at_another_rate_and_in_another_up_axis(tmp_path, unprobed):
    """Seconds stay seconds, and poses are in the world's frame whatever the root does."""
    world, rollout = replace(kitchen(), up=(0.0, -1.0, 0.0)), falling(kitchen())
    write_rollout(world, rollout, tmp_path / "a.usda", fps=60.0)
    times, poses = read_rollout_poses(tmp_path / "a.usda")
    torch.testing.assert_close(times, torch.arange(5, dtype=torch.float64) * 0.05)
    wanted = rollout.states.object_poses[:, rollout.states.object_ids.index(8)]
    torch.testing.assert_close(poses[8], wanted, rtol=0, atol=1e-6)


def test_what_deforms_has_positions_at_each_time(tmp_path):
    """Read with USD alone: positions of the rope at each time code, its colours once."""
    from pxr import Usd

    world, rollout = kitchen(), falling(kitchen())
    rope = world.objects[5].gaussians
    steps = [replace(rope, means=rope.means + 0.1 * step) for step in range(5)]
    write_rollout(world, rollout, tmp_path / "a.usdz", shapes={5: iter(steps)})
    stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (0, 4, 20)
    part = stage.GetPrimAtPath("/World/rope/gaussians")
    positions = part.GetAttribute("positions")
    assert positions.GetTimeSamples() == [0, 1, 2, 3, 4]
    assert np.array_equal(np.array(positions.Get(3)), steps[3].means.numpy())
    assert part.GetAttribute("radiance:sphericalHarmonicsCoefficients").GetNumTimeSamples() == 0


def test_rollouts_that_do_not_fit_are_refused(tmp_path, as_in_production):
    """Another world's objects, too few steps, other counts, another suffix, and no rollout to read."""
    world, rollout = kitchen(), falling(kitchen())
    rope = world.objects[5].gaussians
    with pytest.raises(ValueError, match=r"others: \[5\]"):
        write_rollout(world.without_object(5), rollout, tmp_path / "a.usda")
    with pytest.raises(ValueError, match="expected 5 steps, got 2"):
        write_rollout(world, rollout, tmp_path / "a.usda", shapes={5: [rope, rope]})
    with pytest.raises(ValueError, match="5 steps of 5 Gaussians, got 3 in step 1"):
        write_rollout(world, rollout, tmp_path / "a.usda", shapes={5: [rope, rope.select(slice(3))]})
    with pytest.raises(ValueError, match="a suffix among"):
        write_rollout(world, rollout, tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())
    save_world(world, tmp_path / "a.usda")
    with pytest.raises(FileFormatError, match="no object of ours moves"):
        read_rollout_poses(tmp_path / "a.usda")


@pytest.mark.parametrize(
    "others, message",
    [("float3[] scales = [(1, 1, 1), (1, nan, 1)]", "finite scales.* in row 1"),
     ("float3[] scales = [(1, 1, 1), (1, -1, 1)]", "scales of at least 0.* in row 1"),
     ("float[] opacities = [0.5, 3]", r"opacities in \[0, 1\].* in row 1"),
     ("quatf[] orientations = [(0, 0, 0, 0), (1, 0, 0, 0)]", "non-zero quaternion.* in row 0"),
     ("uniform int radiance:sphericalHarmonicsDegree = -3", "SH degree of 0 or more"),
     ('matrix4d xformOp:transform = ((1,0,0,0), (0,2,0,0), (0,0,1,0), (0,0,0,1))\n'
      'uniform token[] xformOpOrder = ["xformOp:transform"]', "one scale for all axes"),
     ('double3 xformOp:scale = (-1, 1, 1)\nuniform token[] xformOpOrder = ["xformOp:scale"]', "mirror image"),
     ('double3 xformOp:scale = (0, 0, 0)\nuniform token[] xformOpOrder = ["xformOp:scale"]', "inverted")],
)  # fmt: skip
def test_hostile_numbers_are_refused(tmp_path, unprobed, others, message):
    """NaN, what is out of range, and matrices that are no poses, with the prim."""
    path = stage_of(SPLAT.replace("OTHERS", others), tmp_path / "a.usda")
    with pytest.raises(FileFormatError, match=f"chair.*{message}"):
        load(path)


@pytest.mark.parametrize(
    "name, data, message",
    [("a.usda", b"", "an empty one"), ("b.usda", b"no usd", "a whole USD file"),
     ("c.usda", b'#usda 1.0\ndef Xform "a" {\n float x = \n', "a whole USD file, got: .*Expected"),
     ("d.usdc", b"PXR-USDC" + bytes(range(200)), "USD file"),
     ("e.usdz", b"PK\x03\x04" + bytes(99), "USD file"),
     ("f.usda", b'#usda 1.0\ndef Xform "a" {}\n', "expected prims of ParticleField3DGaussianSplat"),
     ("g.usda", b"#usda 1.0\n(subLayers = [@/etc/passwd@])\n", "its own folder, got '/etc/passwd'"),
     ("h.usda", b'#usda 1.0\ndef "a" (references = @../up.usda@) {}\n', r"folder, got '\.\./up\.usda'"),
     ("i.usda", b'#usda 1.0\ndef "a" (payload = @http://host/a.usda@) {}\n', "its own folder, got 'http"),
     ("j.usda", b"#usda 1.0\n(subLayers = [@missing.usda@])\n", "files that are there.*missing")],
)  # fmt: skip
def test_hostile_files_are_refused(tmp_path, capfd, name, data, message):
    """Broken ones and those that reach for others, with one sentence and nothing else on the terminal."""
    (tmp_path / name).write_bytes(data)
    (tmp_path.parent / "up.usda").write_text("#usda 1.0\n")
    with pytest.raises(FileFormatError, match=message) as caught:
        load_world(tmp_path / name)
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


def test_files_on_which_usd_fails_or_never_ends_are_refused(tmp_path, monkeypatch):
    """It happens in a process of its own, which may die."""
    save_world(kitchen(), tmp_path / "a.usda")
    for code, message in (("import os; os.abort()", "usd-core fails"), ("while True: pass", "in 1 s")):
        (tmp_path / "usd_probe.py").write_text(code)
        monkeypatch.setattr(usd_stage, "__file__", str(tmp_path / "usd_stage.py"))
        monkeypatch.setattr(usd_stage, "_PATIENCE", 1.0)
        usd_stage._check.cache_clear()
        with pytest.raises(FileFormatError, match=message):
            load_world(tmp_path / "a.usda")
    usd_stage._check.cache_clear()


def test_records_of_nonsense_are_refused(tmp_path, unprobed, as_in_production):
    """Facts that are no JSON, of another version, or of the wrong types."""
    save_world(kitchen(), tmp_path / "a.usda")
    text = (tmp_path / "a.usda").read_text()
    for old, new, message in (
        ('{"version": 1', '{"version": 99', "version 1, got 99"), ('{"id": 5', '{"id": 5,,', "facts as JSON"),
        ('"name": "rope"', '"name": 7', "prim|node 'rope'"), ('{"version": 1', "[", "facts as JSON"),
    ):  # fmt: skip
        (tmp_path / "b.usda").write_text(text.replace(old, new, 1))
        with pytest.raises(FileFormatError, match=message):
            load_world(tmp_path / "b.usda")


@pytest.mark.parametrize("got", ["none", "an older one"])
def test_without_usd_the_extra_is_named(tmp_path, monkeypatch, got):
    """Neither a traceback nor a guess."""
    usd_stage.pxr.cache_clear()
    if got == "none":
        monkeypatch.setitem(sys.modules, "pxr.Gf", None)
    else:
        monkeypatch.setattr(usd_stage, "SPLATS", "NotYetInvented")
    (tmp_path / "a.usda").write_text("#usda 1.0\n")
    with pytest.raises(MissingDependency, match=rf"got {got}; run `pip install 'gaussworld\[usd\]'`"):
        load(tmp_path / "a.usda")
    with pytest.raises(MissingDependency, match=r"usd-core 26\.3"):
        save(blob(), tmp_path / "b.usda")
    usd_stage.pxr.cache_clear()


def cube(size: float) -> Shape:
    """A cube about the origin, in two halves."""
    body = trimesh.creation.box((size, size, size))
    mesh = Mesh(torch.tensor(body.vertices).float(), torch.tensor(body.faces))
    left = trimesh.creation.box((size / 2, size, size)).apply_translation((-size / 4, 0, 0))
    right = trimesh.creation.box((size / 2, size, size)).apply_translation((size / 4, 0, 0))
    halves = (Mesh(torch.tensor(half.vertices).float(), torch.tensor(half.faces)) for half in (left, right))
    return Shape(replace(mesh, colors=torch.full((8, 3), 0.25)), tuple(halves))


def shaped_kitchen() -> World:
    """A table with a drawer, and a box on it, all with shapes; the unit is 0.5 m."""
    one = Gaussians(*(torch.ones(3, *tail) for tail in ((3,), (4,), (3,), (), (1, 3))))
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.1, 0.2, 0.9])
    joint = Joint("prismatic", (0.0, -1.0, 0.0), limits=(0.0, 0.3), position=0.1)
    table = WorldObject(1, "table", one, shape=cube(0.8))
    drawer = WorldObject(2, "drawer", one, ObjectKind.ARTICULATED, pose, 1, joint, shape=cube(0.2))
    box = WorldObject(3, "box", one, ObjectKind.RIGID, pose, shape=cube(0.1), supported_by=(1,))
    world = World({item.id: item for item in (table, drawer, box)}, (), 0.5, (0.0, 0.0, 1.0))
    for number, item in list(world.objects.items()):
        world = edit.applied(edit.SetShape(number, item.shape), world)
    return edit.applied(edit.SetMaterial((3,), {"density": 800.0, "friction": 0.7}), world)


def test_shapes_come_back(tmp_path, unprobed):
    """Surface, colours and parts, and what they tell of the objects."""
    world = shaped_kitchen()
    save_world(world, tmp_path / "a.usdc")
    found = load_world(tmp_path / "a.usdc")
    for number, item in world.objects.items():
        other = found.objects[number]
        assert other.material == item.material and other.supported_by == item.supported_by
        pairs = zip((item.shape.mesh, *item.shape.parts), (other.shape.mesh, *other.shape.parts), strict=True)
        for a, b in pairs:
            assert torch.equal(a.vertices, b.vertices) and torch.equal(a.faces, b.faces)
        assert torch.equal(other.shape.mesh.colors, item.shape.mesh.colors)


def test_simulators_find_bodies_colliders_and_joints(tmp_path):
    """As UsdPhysics has them: masses in kilograms, lengths in the stage's unit, joints about their axes."""
    save_world(shaped_kitchen(), tmp_path / "a.usda")
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    prims = {prim.GetName(): prim for prim in stage.Traverse()}
    assert not prims["table"].HasAPI(UsdPhysics.RigidBodyAPI)
    assert prims["table"].GetChild("collision_1").HasAPI(UsdPhysics.CollisionAPI)
    assert prims["box"].HasAPI(UsdPhysics.RigidBodyAPI)
    # 0.1 units are 5 cm.
    mass = UsdPhysics.MassAPI(prims["box"]).GetMassAttr().Get()
    assert mass == pytest.approx(800 * 0.05**3, rel=1e-4)
    scene = UsdPhysics.Scene(prims["physics"])
    assert scene.GetGravityMagnitudeAttr().Get() == pytest.approx(9.81 / 0.5)
    joint = UsdPhysics.PrismaticJoint(prims["drawer"].GetChild("joint"))
    limits = joint.GetLowerLimitAttr().Get(), joint.GetUpperLimitAttr().Get()
    assert limits == pytest.approx((-0.1, 0.2))
    assert joint.GetBody0Rel().GetTargets() == [prims["table"].GetPath()]
    turn = Gf.Matrix3d(Gf.Quatd(joint.GetLocalRot1Attr().Get()))
    assert Gf.IsClose(Gf.Vec3d(1, 0, 0) * turn, Gf.Vec3d(0, -1, 0), 1e-6)
    friction, _ = UsdShade.MaterialBindingAPI(prims["box"].GetChild("collision_0")).ComputeBoundMaterial(
        "physics"
    )
    assert UsdPhysics.MaterialAPI(friction.GetPrim()).GetDynamicFrictionAttr().Get() == pytest.approx(0.7)
    assert UsdGeom.Mesh(prims["box"].GetChild("surface")).GetPurposeAttr().Get() == "proxy"
    # Both halves of the box keep their place about its middle.
    points = UsdGeom.Mesh(prims["box"].GetChild("collision_0")).GetPointsAttr().Get()
    assert max(point[0] for point in points) == pytest.approx(0, abs=1e-6)
