"""Every edit: what it does, that undo and redo are exact, and what it refuses."""

import dataclasses
import json
import math
import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

import gaussworld as gw
from gaussworld import edit
from gaussworld.camera_record import camera_record
from gaussworld.edit.change import bits
from gaussworld.edit.plain import from_plain, to_plain, with_ids
from gaussworld.errors import EditError
from gaussworld.gaussians import DELETED, HIDDEN, LOCKED, Gaussians
from gaussworld.pose import look_at
from gaussworld.shape import Mesh, Shape
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind, WorldObject

# The shape checks look at a random item of every tuple, which does not change what is drawn.
# Nor are failures made smaller: the worlds are small as they are, and that takes minutes.
DATA = Path(__file__).parent / "data"
PATIENCE = {"suppress_health_check": list(HealthCheck), "phases": (Phase.generate,)}
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
FIELDS = ("means", "quats", "log_scales", "opacity_logits", "sh", "flags", "id_confidences")


def blob(n: int, seed: int, degree: int = 1, spread: float = 0.05) -> Gaussians:
    """A ball of Gaussians about the origin."""
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(n, 3, generator=g) * spread,
        torch.randn(n, 4, generator=g),
        torch.randn(n, 3, generator=g) * 0.3 - 4,
        torch.randn(n, generator=g) + 2,
        torch.randn(n, (degree + 1) ** 2, 3, generator=g) * 0.3,
    )


_THINGS = ((1, "box", "RIGID"), (2, "lid", "ARTICULATED"), (3, "ball", "RIGID"), (7, "arm", "ROBOT"))


def tabletop(seed: int = 0) -> World:
    """A table, a box with a lid on a hinge, and two loose balls, one of them a robot's."""
    objects = [WorldObject(0, "background", blob(300, seed, 2, 0.5))]
    for number, name, kind in (
        (1, "box", "RIGID"),
        (2, "lid", "ARTICULATED"),
        (3, "ball", "RIGID"),
        (7, "arm", "ROBOT"),
    ):
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor([0.3 * number, -0.1 * number, 0.2])
        joint = Joint("revolute", (0.0, 1.0, 0.0), (0.1, 0.0, 0.0), (0.0, 1.5)) if name == "lid" else None
        parent = 1 if name == "lid" else None
        item = WorldObject(
            number, name, blob(40 + number, seed + number), ObjectKind(kind), pose, parent, joint
        )
        objects.append(item)
    camera = gw.Camera.pinhole(look_at(torch.tensor([2.0, 0.0, 1.0]), torch.zeros(3)), 64, 48, 50.0)
    return World({item.id: item for item in objects}, (camera,), 0.5, (0.0, 0.0, 1.0))


def copied(item: WorldObject) -> WorldObject:
    return dataclasses.replace(item, gaussians=item.gaussians.map(torch.clone))


def assert_bits(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape and torch.equal(bits(a), bits(b))


def assert_same(a: World, b: World) -> None:
    """Bit for bit, in every field of every object."""
    assert list(a.objects) == list(b.objects)
    assert (a.metres_per_unit, a.up) == (b.metres_per_unit, b.up)
    assert [*map(camera_record, a.cameras)] == [*map(camera_record, b.cameras)]
    assert torch.equal(a.world_from_source, b.world_from_source)
    for number, x in a.objects.items():
        y = b.objects[number]
        for field in dataclasses.fields(WorldObject):
            if field.name == "gaussians":
                for name in FIELDS:
                    left, right = getattr(x.gaussians, name), getattr(y.gaussians, name)
                    assert left.shape == right.shape and torch.equal(
                        edit.change.bits(left), edit.change.bits(right)
                    ), name
            elif field.name == "world_from_object":
                assert torch.equal(
                    edit.change.bits(x.world_from_object), edit.change.bits(y.world_from_object)
                )
            elif field.name == "shape":
                assert surfaces(x) == surfaces(y), field.name
            else:
                assert getattr(x, field.name) == getattr(y, field.name), field.name


def surfaces(item: WorldObject) -> list[tuple[bytes, bytes]]:
    """The vertices and faces of an object's shape, to the bit: two shapes are never the same one."""
    meshes = [] if item.shape is None else [item.shape.mesh, *item.shape.parts]
    return [(mesh.vertices.numpy().tobytes(), mesh.faces.numpy().tobytes()) for mesh in meshes]


NUMBERS = st.floats(-2, 2, width=32)
VECTORS = st.tuples(NUMBERS, NUMBERS, NUMBERS)
DIRECTIONS = VECTORS.filter(lambda v: math.hypot(*v) > 0.1)
QUATERNIONS = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS).filter(lambda q: math.hypot(*q) > 0.1)
POSES = st.builds(lambda p, q: (*p, *q), VECTORS, QUATERNIONS)
IDS = st.sampled_from([0, 1, 2, 3, 7])
SOME = st.lists(IDS, min_size=1, max_size=4).map(tuple)
FACTORS = st.floats(0.1, 5)
NAMES = st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1, max_size=20).filter(
    lambda t: t.strip()
)
CAMERA = gw.Camera.pinhole(look_at(torch.tensor([2.0, 0.3, 1.0]), torch.zeros(3)), 64, 48, 60.0)


@st.composite
def rows(draw: st.DrawFn) -> edit.Rows:
    """Some rows of some objects of `tabletop`."""
    world = tabletop()
    seed, share = draw(st.integers(0, 99)), draw(st.sampled_from([0.02, 0.5, 1.0]))
    g = torch.Generator().manual_seed(seed)
    chosen = draw(SOME)
    return edit.Rows.from_masks(
        {n: torch.rand(len(world.objects[n].gaussians), generator=g) < share for n in chosen}
    )


def box_shape(size: float) -> Shape:
    """A cube of this side about the origin, as its own single part."""
    corners = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]) * size
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = torch.tensor([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))])
    mesh = Mesh(corners, faces)
    return Shape(mesh, (mesh,))


@st.composite
def segments(draw: st.DrawFn) -> edit.Segment:
    """Ids for the rows of `tabletop`: some stay, some go to other objects or a new one."""
    world, g = tabletop(), torch.Generator().manual_seed(draw(st.integers(0, 99)))
    ids = world.posed().object_ids.clone()
    moved = torch.rand(len(ids), generator=g) < draw(st.sampled_from([0.0, 0.1, 1.0]))
    choice = torch.tensor(draw(st.lists(st.sampled_from([0, 1, 3, 9]), min_size=1, max_size=3)))
    ids[moved] = choice[torch.randint(len(choice), (int(moved.sum()),), generator=g)].to(ids)
    sure = torch.randint(0, 256, (len(ids),), generator=g).to(torch.uint8)
    return edit.Segment(ids, sure if draw(st.booleans()) else None, {9: "bolt"})


BALLS = st.builds(edit.Sphere, VECTORS, FACTORS)
TARGETS = st.builds(edit.Target, SOME) | st.builds(edit.Target, st.just(()) | SOME, rows(), st.none() | BALLS)
KINDS = st.sampled_from([ObjectKind.STATIC, ObjectKind.RIGID, ObjectKind.ROBOT])
UNIT = st.floats(0, 1)
VOLUMES = (
    st.builds(edit.Box, POSES, st.tuples(FACTORS, FACTORS, FACTORS))
    | BALLS
    | st.just(edit.Polygon(CAMERA, ((5.0, 5.0), (50.0, 10.0), (30.0, 40.0))))
)
EVERY = {
    "move": st.builds(edit.Move, SOME, VECTORS),
    "rotate": st.builds(edit.Rotate, SOME, QUATERNIONS, st.none() | VECTORS),
    "place": st.builds(edit.Place, IDS, POSES),
    "scale": st.builds(edit.Scale, SOME, FACTORS, st.none() | VECTORS),
    "duplicate": st.builds(edit.Duplicate, SOME, VECTORS),
    "delete": st.builds(edit.Delete, SOME),
    "rename": st.builds(edit.Rename, IDS, NAMES),
    "set-kind": st.builds(edit.SetKind, SOME, KINDS),
    "set-joint": st.builds(edit.SetJoint, IDS, st.sampled_from(["revolute", "prismatic", "fixed"]),
                           DIRECTIONS, VECTORS, st.none() | st.floats(-3, 0),
                           st.none() | st.floats(0, 3), NUMBERS),
    "set-material": st.builds(edit.SetMaterial, SOME, st.fixed_dictionaries({}, optional={
        "friction": FACTORS, "density": FACTORS, "restitution": st.floats(0, 1), "volume": FACTORS}),
        st.none() | st.sampled_from(["wood", ""]), st.none() | VECTORS),
    "reparent": st.builds(edit.Reparent, st.just((3,)), st.sampled_from([None, 0, 1, 2, 7])),
    "add": st.builds(edit.Add, st.builds(blob, st.integers(1, 20), st.integers(0, 9)), NAMES,
                     st.sampled_from([ObjectKind.STATIC, ObjectKind.RIGID]), POSES, FACTORS, st.none() | IDS),
    "set-shape": st.builds(edit.SetShape, IDS, st.none() | st.floats(0.1, 2).map(box_shape)),
    "set-support": st.builds(edit.SetSupport, SOME, st.none() | st.lists(IDS, max_size=2).map(tuple)),
    "segment": segments(),
    "add-mesh": st.builds(edit.AddMesh, st.just(str(DATA / "wedge.obj")), st.just("") | NAMES, POSES,
                          FACTORS, st.sampled_from([ObjectKind.STATIC, ObjectKind.RIGID]),
                          gaussians=st.integers(20, 90)),
    "add-robot": st.builds(edit.AddRobot, st.just(str(DATA / "arm.urdf")),
                           st.floats(-2, 2).map(lambda angle: {"shoulder": angle}), POSES,
                           st.just("") | NAMES,
                           scale=st.none() | FACTORS, clamp=st.booleans(), gaussians=st.integers(50, 90)),
    "set-joints": st.builds(edit.SetJoints, st.sampled_from([1, 2, 3]),
                            st.floats(-0.3, 1.8).map(lambda angle: {"lid": angle}), st.booleans()),
    "fill-hole": st.builds(edit.FillHole, st.just(0), st.just(()) | st.just((3,)), st.none() | BALLS,
                           undersides=st.booleans(), seed=st.integers(0, 3)),
    "merge": st.builds(edit.Merge, st.lists(IDS, min_size=2, max_size=4, unique=True).map(tuple)),
    "hide": st.builds(edit.Hide, TARGETS, st.booleans()),
    "lock": st.builds(edit.Lock, TARGETS, st.booleans()),
    "erase": st.builds(edit.Erase, TARGETS),
    "restore": st.builds(edit.Restore, SOME),
    "recolour": st.builds(edit.Recolour, TARGETS, st.tuples(UNIT, UNIT, UNIT), UNIT, st.booleans()),
    "grade": st.builds(edit.Grade, TARGETS, NUMBERS, st.floats(-0.5, 0.5), FACTORS.map(lambda v: v * 0.8),
                       UNIT, st.floats(-1, 1), st.floats(-1, 1)),
    "split": st.builds(edit.Split, TARGETS, NAMES),
    "separate": st.builds(edit.Separate, IDS, st.floats(0.005, 0.1), st.integers(1, 5)),
    "crop": st.builds(edit.Crop, VOLUMES, st.sampled_from(["inside", "outside"])),
    "set-up": st.builds(edit.SetUp, DIRECTIONS),
    "set-scale": st.builds(edit.SetScale, VECTORS, st.just((5.0, 5.0, 5.0)), FACTORS),
    "remove-floaters": st.builds(edit.RemoveFloaters, st.just(()) | SOME),
    "simplify": st.builds(edit.Simplify, st.integers(30, 400)),
}  # fmt: skip


#: Edits that hold what is no JSON: files or tensors.
PROGRAMS = ("add", "set-shape", "segment")


def test_every_edit_has_a_strategy():
    """No edit can be added without its property test."""
    assert set(EVERY) == set(edit.EDITS)


@pytest.mark.parametrize("name", EVERY)
def test_do_undo_redo_is_the_identity(name: str):
    """Undo gives the world before and redo the world after, bit for bit; neither input is changed."""

    # The geometry of these takes longer.
    count = {"remove-floaters": 6, "simplify": 6}.get(name, 15)

    @settings(max_examples=count, **PATIENCE)
    @given(EVERY[name], st.lists(st.sampled_from([*EVERY]).flatmap(EVERY.__getitem__), max_size=1))
    def check(change: edit.Edit, before: list[edit.Edit]) -> None:
        world = tabletop()
        for each in before:
            try:
                world = edit.applied(each, world)
            except EditError:
                return
        kept = dataclasses.replace(
            world,
            objects={
                n: dataclasses.replace(o, gaussians=o.gaussians.map(torch.clone))
                for n, o in world.objects.items()
            },
        )
        try:
            after, change_made = edit.do(change, world)
        except EditError as error:
            assert str(error).startswith(f"{name}: ")
            assert_same(world, kept)
            return
        done.append(1)
        assert_same(world, kept)
        assert_same(change_made.undo(after), world)
        assert_same(change_made.redo(change_made.undo(after)), after)

    done: list[int] = []
    check()
    assert len(done) >= 3, "hardly any of the edits could be done"


@settings(max_examples=80, **PATIENCE)
@given(st.sampled_from([name for name in EVERY if name not in PROGRAMS]).flatmap(EVERY.__getitem__))
def test_json_keeps_every_edit(change: edit.Edit):
    """What a program sends as JSON does the same as the edit it was made of."""
    again = from_plain(change.name, json.loads(json.dumps(to_plain(change))))
    world = tabletop()
    try:
        wanted = edit.applied(change, world)
    except EditError as error:
        with pytest.raises(EditError) as caught:
            edit.applied(again, world)
        assert str(caught.value) == str(error)
        return
    assert_same(edit.applied(again, world), wanted)


def test_moving_a_box_carries_its_lid_once():
    """Mounted objects come along, also when they are chosen themselves."""
    world = tabletop()
    moved = edit.applied(edit.Move((1, 2), (0.0, 0.0, 1.0)), world)
    for number in (1, 2):
        shift = (
            moved.objects[number].world_from_object[:3, 3] - world.objects[number].world_from_object[:3, 3]
        )
        assert shift.tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert moved.objects[3] is world.objects[3]


def test_rotation_keeps_its_pivot():
    """A quarter turn about a point leaves that point where it is."""
    world = tabletop()
    half = math.sqrt(0.5)
    turned = edit.applied(edit.Rotate((1,), (half, 0.0, 0.0, half), (1.0, 0.0, 0.0)), world)
    old, new = (w.objects[1].world_from_object[:3, 3] for w in (world, turned))
    (x, y, z), about = old.tolist(), 1.0
    assert new.tolist() == pytest.approx([about - y, x - about, z], abs=1e-6)


def test_scaling_about_a_point():
    """Every Gaussian goes twice as far from the point, and is twice as large; the joint follows."""
    world = tabletop()
    scaled = edit.applied(edit.Scale((2,), 2.0, (1.0, 1.0, 1.0)), world)
    old, new = world.objects[2].posed(), scaled.objects[2].posed()
    assert torch.allclose(new.means - 1, 2 * (old.means - 1), atol=1e-5)
    assert torch.allclose(new.scales, 2 * old.scales)
    joint = scaled.objects[2].joint
    assert joint is not None and joint.origin == (0.2, 0.0, 0.0)


def test_splitting_and_merging_leave_the_picture():
    """What is split off and merged again is where it was."""
    world = tabletop()
    mask = torch.zeros(len(world.objects[3].gaussians), dtype=torch.bool)
    mask[5:20] = True
    parted = edit.applied(edit.Split(edit.Target(rows=edit.Rows.from_masks({3: mask})), "ball"), world)
    new = parted.objects[8]
    assert new.name == "ball 2" and len(new.gaussians) == 15 and len(parted.objects[3].gaussians) == 28
    whole = edit.applied(edit.Merge((3, 8)), parted)
    assert list(whole.objects) == [0, 1, 2, 3, 7]
    old, again = world.objects[3].posed(), whole.objects[3].posed()
    order = torch.cat([(~mask).nonzero()[:, 0], mask.nonzero()[:, 0]])
    assert torch.allclose(again.means, old.means[order], atol=1e-6)
    assert torch.allclose(again.covariances, old.covariances[order], atol=1e-7)


def test_erased_gaussians_come_back():
    """Deletion sets bits, and restore clears them."""
    world = tabletop()
    world = edit.applied(edit.Erase(edit.Target((3,))), world)
    assert bool((world.objects[3].gaussians.flags == DELETED).all())
    assert len(world.posed().shown()) == len(world.posed()) - 43
    world = edit.applied(edit.Restore((3,)), world)
    assert not bool(world.objects[3].gaussians.flags.any())


def test_hidden_objects_are_not_shown_and_locked_ones_not_edited():
    """Facts of an object count for each of its Gaussians."""
    world = edit.applied(edit.Hide(edit.Target((1,))), tabletop())
    assert bool((world.posed().flags[300:341] == HIDDEN).all())
    world = edit.applied(edit.Lock(edit.Target((3,))), world)
    assert bool((world.posed().flags[-90:-47] == LOCKED).all())
    with pytest.raises(
        EditError, match=r"move: expected objects that are not locked, got 3 \(ball\); unlock it"
    ):
        edit.applied(edit.Move((3,), (0.0, 0.0, 1.0)), world)
    edit.applied(edit.Move((3,), (0.0, 0.0, 1.0)), edit.applied(edit.Lock(edit.Target((3,)), False), world))


@pytest.mark.parametrize(
    "change",
    [
        edit.Move((1,), (0.0, 0.0, 1.0)),
        edit.Place(1, (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)),
        edit.Delete((1,)),
        edit.Merge((3, 1)),
    ],
)
def test_what_is_locked_does_not_come_along(change: edit.Edit):
    """Neither moved with its parent, nor unmounted."""
    world = edit.applied(edit.Lock(edit.Target((2,))), tabletop())
    with pytest.raises(EditError, match=r"expected nothing locked .*, got 2 \(lid\)"):
        edit.applied(change, world)


def test_merging_along_a_chain_of_parents():
    """A grandchild that takes its grandparent in hangs on what the grandparent hung on."""
    world = edit.applied(edit.Reparent((3,), 2), tabletop())
    world = edit.applied(edit.Reparent((1,), 7), world)
    merged = edit.applied(edit.Merge((3, 2, 1)), world)
    assert list(merged.objects) == [0, 3, 7] and merged.objects[3].parent == 7


def test_what_was_hidden_stays_hidden():
    """When its Gaussians go to another object."""
    world = edit.applied(edit.Hide(edit.Target((1,))), tabletop())
    shown = len(world.posed().shown())
    assert len(edit.applied(edit.Merge((3, 1)), world).posed().shown()) == shown
    rows = edit.Rows.from_masks({1: torch.ones(41, dtype=torch.bool)})
    assert len(edit.applied(edit.Split(edit.Target(rows=rows), "x"), world).posed().shown()) == shown


def test_volumes_choose_what_an_edit_is_about():
    """Of the objects that are named, or of all that are not hidden or locked."""
    world = edit.applied(edit.Hide(edit.Target((7,))), tabletop())
    ball = edit.Sphere((0.9, -0.3, 0.2), 0.08)
    everything = edit.applied(edit.Split(edit.Target(inside=ball), "part"), world)
    only = edit.applied(edit.Split(edit.Target((3,), inside=ball), "part"), world)
    counts = [len(w.objects[8].gaussians) for w in (everything, only)]
    assert 20 < counts[1] <= 43 and counts[0] >= counts[1]
    assert bool((only.objects[8].posed().means - torch.tensor([0.9, -0.3, 0.2])).norm(dim=1).max() <= 0.08)
    with pytest.raises(EditError, match="inside: expected a volume with Gaussians in it, got an empty one"):
        edit.applied(edit.Erase(edit.Target(inside=edit.Sphere((99.0, 0.0, 0.0), 1.0))), world)


def test_names_stand_for_ids_in_json():
    """Everywhere an object is meant; kinds in any case of letters."""
    world = tabletop()
    plain = {"target": {"objects": ["lid", 3]}, "parent": "box", "rgb": "box"}
    wanted = {"target": {"objects": [2, 3]}, "parent": 1, "rgb": "box"}
    assert with_ids(plain, world) == wanted
    with pytest.raises(EditError, match=r"expected a name of an object .*, got 'cup'; there are 0 \(back"):
        with_ids({"objects": ["cup"]}, world)
    assert from_plain("set-kind", {"objects": [1], "kind": "static"}) == edit.SetKind((1,), ObjectKind.STATIC)
    with pytest.raises(EditError, match="rename: new_name: expected a name of its own, got 'lid', object 2"):
        edit.applied(edit.Rename(1, "lid"), world)


def test_small_things_are_no_floaters():
    """A button of one Gaussian on a table is judged in the scene, not alone."""
    g = torch.Generator().manual_seed(0)
    means = torch.cat([torch.rand(3000, 2, generator=g), torch.zeros(3000, 1)], dim=1)
    flat = torch.full((3000, 3), math.log(0.01))
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(3000, 4)
    table = Gaussians(means, quats, flat, torch.full((3000,), 3.0), torch.zeros(3000, 1, 3))
    knob = table.select(slice(0, 3))
    world = World({0: WorldObject(0, "table", table), 1: WorldObject(1, "knob", knob)})
    cleaned = edit.applied(edit.RemoveFloaters(), world)
    assert not bool(cleaned.objects[1].gaussians.flags.any())


def test_numbers_that_are_none_do_not_get_in():
    """Neither of a file nor by arithmetic."""
    bad = blob(5, 0)
    bad.means[2, 1] = math.nan
    with pytest.raises(EditError, match="add: gaussians: expected finite means"):
        edit.applied(edit.Add(bad, "x"), tabletop())
    with pytest.raises(EditError, match="scale: gaussians: expected finite means"):
        edit.applied(edit.Scale((0,), 1e39), tabletop())


def test_an_edited_world_is_no_stored_one(tmp_path):
    """Its revision is that of a world that it no longer is."""
    stored = tabletop().save(tmp_path / "a.world")
    assert stored.revision == "1" and edit.applied(edit.Rename(1, "x"), stored).revision is None


def test_recolouring_gives_the_colour():
    """Without shading every chosen Gaussian has it; with shading they have it on average."""
    world = tabletop()
    flat = edit.applied(edit.Recolour(edit.Target((3,)), (0.2, 0.4, 0.8), keep_shading=False), world)
    assert torch.allclose(
        flat.objects[3].gaussians.rgb, torch.tensor([0.2, 0.4, 0.8]).expand(43, 3), atol=1e-6
    )
    black = edit.applied(edit.Recolour(edit.Target((3,)), (0.0, 0.0, 0.0), keep_shading=False), world)
    red = edit.applied(edit.Recolour(edit.Target((3,)), (0.9, 0.1, 0.1)), black)
    assert red.objects[3].gaussians.rgb.mean(0).tolist() == pytest.approx([0.9, 0.1, 0.1], abs=1e-5)
    shaded = edit.applied(edit.Recolour(edit.Target((3,)), (0.2, 0.3, 0.4)), world)
    rgb = shaded.objects[3].gaussians.rgb
    assert rgb.mean(0).tolist() == pytest.approx([0.2, 0.3, 0.4], abs=0.01) and float(rgb.std(0).min()) > 0.01


def test_grading_acts_on_what_is_seen_from_every_side():
    """The affine map of the SH equals the map of the evaluated colour."""
    from gaussworld.sh import evaluate_sh

    change = edit.Grade(edit.Target((3,)), 0.4, 0.1, 1.3, 0.6, 0.5, -0.2)
    matrix, offset = change.affine()
    world = tabletop()
    old, new = world.objects[3].gaussians, edit.applied(change, world).objects[3].gaussians
    directions = torch.nn.functional.normalize(
        torch.randn(43, 3, generator=torch.Generator().manual_seed(3)), dim=1
    )
    wanted = evaluate_sh(old.sh, directions) @ matrix.T + offset
    assert torch.allclose(evaluate_sh(new.sh, directions), wanted, atol=1e-5)


def test_cropping_by_a_ball():
    """What is outside is deleted, hidden and locked things are left alone."""
    world = edit.applied(edit.Hide(edit.Target((7,))), tabletop())
    cropped = edit.applied(edit.Crop(edit.Sphere((0.0, 0.0, 0.0), 0.4)), world)
    posed = cropped.posed()
    seen = (posed.flags & (DELETED | HIDDEN)) == 0
    assert bool((posed.means[seen].norm(dim=1) <= 0.4).all()) and bool(seen.any())
    assert not bool((cropped.objects[7].gaussians.flags & DELETED).any())


def test_up_and_scale_set_the_conventions():
    """Up becomes +z, the unit becomes the metre, and the way back to the source is kept."""
    world = tabletop()
    point = world.objects[3].posed().means[0]
    up = edit.applied(edit.SetUp((0.0, 1.0, 0.0)), world)
    assert up.up == (0.0, 0.0, 1.0)
    assert torch.allclose(
        up.objects[3].posed().means[0], torch.stack([point[0], -point[2], point[1]]), atol=1e-6
    )
    back = up.world_from_source.inverse() @ torch.cat([up.objects[3].posed().means[0], torch.ones(1)])
    assert torch.allclose(back[:3], point, atol=1e-5)
    scaled = edit.applied(edit.SetScale((0.0, 0.0, 0.0), (2.0, 0.0, 0.0), 0.5), world)
    assert scaled.require_scale() == 1.0
    assert torch.allclose(scaled.objects[3].posed().means[0], point * 0.25, atol=1e-6)


def test_turning_upside_down():
    """Down is a direction too."""
    world = edit.applied(edit.SetUp((0.0, 0.0, -1.0)), tabletop())
    assert torch.allclose(
        world.world_from_source[:3, :3] @ torch.tensor([0.0, 0.0, -1.0]), torch.tensor([0.0, 0.0, 1.0])
    )


def test_separating_pieces():
    """Two balls that do not touch become two objects; the larger stays."""
    world = tabletop()
    far = edit.applied(edit.Move((3,), (5.0, 0.0, 0.0)), world)
    merged = edit.applied(edit.Merge((1, 3)), edit.applied(edit.Delete((2,)), far))
    parted = edit.applied(edit.Separate(1, 0.2, 10), merged)
    assert sorted(len(item.gaussians) for item in parted.objects.values()) == [41, 43, 47, 300]
    # The rest frame of the larger, second ball is that of the object it stays in.
    assert len(parted.posed()) == len(merged.posed())


def test_simplify_keeps_shares():
    """The count is exact and no object vanishes."""
    world = edit.applied(edit.Simplify(100), tabletop())
    sizes = [len(item.gaussians) for item in world.objects.values()]
    assert sum(sizes) == 100 and min(sizes) > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit.Move((9,), (0.0, 0.0, 0.0)), r"move: expected the id of an object .*, got 9; there are 0"),
        (edit.Move((), (0.0, 0.0, 0.0)), "move: objects: expected at least one id, got none"),
        (edit.Move((1,), (0.0, math.nan, 0.0)), "move: offset: expected 3 finite numbers"),
        (edit.Rotate((1,), (0.0, 0.0, 0.0, 0.0)), "rotate: rotation: expected a quaternion wxyz, not 0"),
        (edit.Scale((1,), -2.0), "scale: factor: expected a positive finite number, got -2"),
        (edit.Rename(1, " \n"), "rename: expected a name of 1 to 200 printable characters"),
        (edit.SetKind((1,), ObjectKind.ARTICULATED), r"set-kind: object 1 \(box\): expected a joint"),
        (edit.SetMaterial((1,), {"colour": 1.0}), "set-material: values: expected .*, got colour"),
        (edit.SetMaterial((1,), {"friction": -1.0}), "set-material: Material.friction: expected"),
        (edit.Reparent((1,), 2), "reparent: object 1 .* expected a tree of parents, got a cycle"),
        (edit.Merge((1, 1)), "merge: objects: expected at least two different ones"),
        (edit.Split(edit.Target(), "x"), "split: objects: expected at least one id, got none"),
        (edit.Erase(edit.Target((), edit.Rows({3: torch.tensor([[0, 99]])}))), "erase: object 3: expected"),
        (edit.SetUp((0.0, 0.0, 0.0)), "set-up: up: expected a direction"),
        (edit.SetScale((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), 1.0), "set-scale: expected two different points"),
        (edit.Simplify(1), "simplify: count: expected 5 to 473 Gaussians, got 1"),
        (edit.Separate(1, 1.0), "separate: object 1 .* expected pieces of 50 .*, got none"),
        (edit.Grade(edit.Target((1,)), exposure=99.0), "grade: exposure: expected -8 to 8, got 99"),
        (edit.Recolour(edit.Target((1,)), (2.0, 0.0, 0.0)), "recolour: expected rgb and"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_sentence(as_in_production: None, change: edit.Edit, message: str):
    """The edit and the field are named."""
    with pytest.raises(EditError, match=message):
        edit.applied(change, tabletop())


def test_a_shape_brings_volume_and_balance():
    """They are taken from the shape, scale with the object, and go with it; what is known stays."""
    world = edit.applied(edit.SetShape(3, box_shape(0.1)), tabletop())
    material = world.objects[3].material
    assert material.volume == pytest.approx(1e-3, rel=1e-4)
    assert material.center_of_mass == pytest.approx((0, 0, 0), abs=1e-6)
    assert material.mass == pytest.approx(500 * 1e-3, rel=1e-4)
    assert material.sources["volume"] == "shape"
    larger = edit.applied(edit.Scale((3,), 2.0), world).objects[3]
    assert larger.material.volume == pytest.approx(8e-3, rel=1e-4)
    assert larger.shape.mesh.volume == pytest.approx(8e-3, rel=1e-4)
    cut = edit.applied(edit.Erase(edit.Target(rows=edit.Rows({3: torch.tensor([[0, 5]])}))), world).objects[3]
    assert cut.shape is None and cut.material.volume is None
    weighed = edit.applied(edit.SetMaterial((3,), {"volume": 2e-3}), tabletop())
    weighed = edit.applied(edit.SetShape(3, box_shape(0.1)), weighed)
    assert weighed.objects[3].material.volume == 2e-3
    heavy = edit.applied(edit.SetMaterial((3,), {"mass": 4.0}), weighed)
    # A unit of this world is half a metre.
    assert heavy.objects[3].material.density == pytest.approx(2000 / 0.5**3)
    reshaped = edit.applied(
        edit.SetShape(3, box_shape(0.2)), edit.applied(edit.SetMaterial((3,), {"mass": 4.0}), world)
    )
    assert reshaped.objects[3].material.volume == pytest.approx(8e-3, rel=1e-4)
    assert reshaped.objects[3].material.mass * 0.5**3 == pytest.approx(4.0, rel=1e-4)
    with pytest.raises(EditError, match="for its mass, expected a world of known scale"):
        edit.applied(edit.SetMaterial((3,), {"mass": 4.0}), dataclasses.replace(world, metres_per_unit=None))


def test_what_moves_forgets_what_it_rests_on():
    """Moving the table loses the box on it; moving both together does not."""
    world = edit.applied(edit.SetSupport((3,), (1,)), tabletop())
    assert world.objects[3].supported_by == (1,)
    assert edit.applied(edit.Move((1,), (0.0, 0.0, 1.0)), world).objects[3].supported_by is None
    assert edit.applied(edit.Move((3,), (0.0, 0.0, 1.0)), world).objects[3].supported_by is None
    assert edit.applied(edit.Move((1, 3), (0.0, 0.0, 1.0)), world).objects[3].supported_by == (1,)
    assert edit.applied(edit.Delete((1,)), world).objects[3].supported_by is None
    hanging = edit.applied(edit.SetSupport((3,), ()), world)
    assert edit.applied(edit.Move((3,), (0.0, 0.0, 1.0)), hanging).objects[3].supported_by is None
    with pytest.raises(EditError, match="expected objects that do not rest on 1"):
        edit.applied(edit.SetSupport((1,), (3,)), world)
    assert edit.applied(edit.Move((2,), (0.0, 0.0, 1.0)), world).objects[3].supported_by == (1,)


def test_what_has_no_gaussians_outlives_a_segmentation():
    """The root of a robot is often empty, and carries the rest; what rests on what changed is not known."""
    world = edit.applied(edit.SetSupport((1,), (3,)), tabletop())
    nothing = blob(1, 0).select(slice(0, 0))
    world = world.with_object(WorldObject(8, "root", nothing, ObjectKind.ROBOT, locked=True))
    ids = world.posed().object_ids.clone()
    ids[ids == 3] = torch.where(torch.arange(int((ids == 3).sum())) < 5, 9, 3).to(ids)
    after = edit.applied(edit.Segment(ids), world)
    assert 8 in after.objects and after.objects[1].supported_by is None
    assert world.objects[1].supported_by == (3,)


def test_nothing_to_restore_changes_nothing():
    """A shape is kept when nothing was deleted."""
    world = edit.applied(edit.SetShape(3, box_shape(0.1)), tabletop())
    assert edit.applied(edit.Restore((3,)), world).objects[3] is world.objects[3]


def test_segments_become_objects_where_they_are():
    """Every Gaussian keeps its place in the world; emptied objects go, new ones are centred."""
    world = tabletop()
    before = world.posed()
    ids = before.object_ids.clone()
    ids[:50] = 9
    ids[ids == 3] = 0
    sure = torch.full((len(ids),), 200, dtype=torch.uint8)
    after = edit.applied(edit.Segment(ids, sure, {9: "bolt"}, {9: ObjectKind.STATIC}), world)
    assert 3 not in after.objects and after.objects[9].name == "bolt"
    assert after.objects[9].kind is ObjectKind.STATIC
    seen = after.posed()
    assert bool((seen.id_confidences == 200).all())
    for number in (0, 1, 2, 7, 9):
        mine = seen.means[seen.object_ids == number].sort(0).values
        assert torch.allclose(mine, before.means[ids == number].sort(0).values, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "plain", "message"),
    [
        ("fly", {}, "expected an edit among add, .*, got 'fly'"),
        ("move", {"objects": [1]}, "move: expected objects, offset, got none for offset"),
        ("move", {"speed": 3}, "move: expected fields among objects, offset, got speed"),
        ("move", {"objects": [1], "offset": [0, 0]}, "move.offset: expected 3 values, got 2"),
        ("move", {"objects": ["1"], "offset": [0, 0, 1]}, r"move.objects\[0\]: expected a whole number"),
        ("move", {"objects": 1, "offset": [0, 0, 1]}, "move.objects: expected a list, got 1"),
        ("hide", {"target": {"objects": [1]}, "hidden": 1}, "hide.hidden: expected true or false, got 1"),
        ("set-kind", {"objects": [1], "kind": "WOBBLY"}, "set-kind.kind: expected one of .*, got 'WOBBLY'"),
        ("erase", {"target": {"rows": {"x": 1}}}, "expected pairs of rows by object id"),
        ("erase", {"target": {"rows": {"1": [[0.5, 1]]}}}, "expected pairs of rows by object id"),
        ("erase", {"target": {"rows": {"01": [[0, 1]]}}}, "expected ids of objects, got '01'"),
        ("add", {"gaussians": "nowhere.ply", "new_name": "x"}, "or a file of Gaussians .*, got no such file"),
        ("crop", {"volume": {"radius": 1}}, "crop.volume: expected"),
        ("segment", {"ids": [1, 2]}, "segment.ids: expected an edit made in Python"),
        ("set-shape", {"object_id": 1, "shape": [0]}, "set-shape.shape: expected the path of a mesh file"),
    ],
)  # fmt: skip
def test_json_of_strangers_is_checked(name: str, plain: dict, message: str):
    """The place and what was expected are named."""
    with pytest.raises(EditError, match=message):
        from_plain(name, plain)


def test_files_can_be_refused():
    """A server need not read the files that a client names."""
    with pytest.raises(EditError, match=r"add\.gaussians: expected no file, got '/etc/passwd'"):
        from_plain("add", {"gaussians": "/etc/passwd", "new_name": "x"}, load=None)
    for name in ("add-mesh", "add-robot"):
        with pytest.raises(
            EditError, match=f"{name}: expected an edit that reads no file, got '/etc/passwd'"
        ):
            from_plain(name, {"path": "/etc/passwd"}, load=None)


def test_the_examples_of_the_documentation_are_edits(repository, tmp_path):
    """Every edit has one, but for that which only programs can do, and each can be read."""
    text = (repository / "docs" / "worlds.md").read_text(encoding="utf-8")
    examples = re.findall(r"^gaussworld world edit W ([a-z-]+) '(.*?)'", text, re.M)
    assert {name for name, _ in examples} == set(edit.EDITS) - {"segment"}
    names = {"mug": 1, "lid": 2, "table": 3}
    world = World({n: WorldObject(n, name, blob(3, n)) for name, n in names.items()})
    mesh = tmp_path / "mug.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    for name, fields in examples:
        plain = with_ids(json.loads(fields), world)
        if name == "set-shape":
            plain["shape"] = str(mesh)
        assert from_plain(name, plain, load=lambda path: blob(3, 0)).name == name
