"""Randomised copies: nothing overlaps, everything rests and stays on the table, labels tell the truth."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.edit import Grade
from gaussworld.errors import ConfigError
from gaussworld.gaussians import HIDDEN, Gaussians
from gaussworld.io import load_capture
from gaussworld.io.images import read_depth
from gaussworld.log import Notice, drain
from gaussworld.pose import pose_from, pose_from_pose7, rotation_from_rotvec, rotvec_from_rotation
from gaussworld.session import Session
from gaussworld.shape import Mesh, Shape
from gaussworld.world import World
from gaussworld.world_object import ObjectKind
from recon.vary.commands import vary
from recon.vary.copies import variations
from recon.vary.hulls import gap, hull_of, object_hulls
from recon.vary.placement import arrange, lying_turns
from recon.vary.scene import scene_of
from recon.vary.settings import VaryConfig
from recon.vary.variation import prepared, varied

MOVES = VaryConfig(fill=False, simulate=False, colours=0.0, light=0.0, cameras=1)


def _apart(world: World, numbers: list[int]) -> float:
    hulls = {
        n: [h.moved(world.objects[n].world_from_object) for h in object_hulls(world.objects[n])]
        for n in numbers
    }
    return min(gap(hulls[a], hulls[b]) for a in numbers for b in numbers if a < b)


def test_gaps_between_boxes_are_known():
    """Exact face to face; negative where they overlap; turned ones are never farther than they are."""
    cube = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    a = hull_of(cube)
    assert len(a.normals) == 6
    assert gap([a], [hull_of(cube + torch.tensor([1.25, 0.3, 0.0]))]) == pytest.approx(0.25)
    assert gap([a], [hull_of(cube + torch.tensor([0.9, 0.3, 0.0]))]) == pytest.approx(-0.1, abs=1e-6)
    turn = rotation_from_rotvec(torch.tensor([0.0, 0.0, math.pi / 4]))
    b = hull_of((cube - 0.5) @ turn.T + torch.tensor([0.5 + 0.5 + math.sqrt(0.5) + 0.1, 0.5, 0.5]))
    assert 0 < gap([a], [b]) <= 0.1 + 1e-6
    assert bool(a.holds(torch.tensor([[0.5, 0.5, 0.5]])).all()) and not bool(
        a.holds(torch.tensor([[1.1, 0, 0]])).any()
    )


def test_flat_and_long_hulls_have_a_thickness():
    """A sheet is a solid, however thin; two points are none."""
    sheet = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert len(hull_of(sheet).normals) >= 6
    with pytest.raises(ValueError, match="at least 3 points"):
        hull_of(sheet[:2])


@pytest.mark.parametrize("shape", [True, False])
def test_what_can_move_and_where_to(tabletop, shape):
    """The stack is one group, the robot and what hangs stay, and the table's extent is found."""
    scene = scene_of(tabletop(shape), MOVES)
    assert sorted(group.members for group in scene.groups) == [(2, 3), (4,)]
    (surface,) = scene.surfaces
    assert surface.support == 1
    area = float(surface.there.sum()) * surface.cell**2
    assert area == pytest.approx(0.8, rel=0.12)
    assert abs(float(surface.world_from_plane[2, 3])) < 0.002
    assert float(surface.world_from_plane[2, 2]) > 0.9998


@pytest.mark.parametrize("shape", [True, False])
def test_copies_stand_on_the_table_and_keep_apart(tabletop, shape):
    """Over many seeds: clear of each other and of the robot, feet on the table, stacks whole."""
    world = tabletop(shape)
    base = prepared(world, MOVES)
    for seed in range(12):
        copy = varied(base, MOVES, seed)
        assert not copy.stuck
        after = copy.world
        assert _apart(after, [2, 4, 5]) > 0.007
        for number, size in ((2, 0.1), (4, 0.08)):
            pose = after.objects[number].world_from_object
            assert float(pose[2, 3]) == pytest.approx(size / 2, abs=0.004)
            assert abs(float(pose[0, 3])) < 0.5 and abs(float(pose[1, 3])) < 0.4
        old = torch.linalg.inv(world.objects[2].world_from_object) @ world.objects[3].world_from_object
        new = torch.linalg.inv(after.objects[2].world_from_object) @ after.objects[3].world_from_object
        assert torch.allclose(old, new, atol=1e-5)
        assert after.objects[3].supported_by == (2,) and after.objects[4].supported_by == (1,)
        for number in (1, 5, 6):
            assert torch.equal(
                after.objects[number].world_from_object, world.objects[number].world_from_object
            )


def test_seeds_repeat_and_differ(tabletop):
    """The same seed is the same copy; colours do not depend on whether things move."""
    config = replace(MOVES, colours=0.6, light=0.6)
    base = prepared(tabletop(), config)
    a, b, c = varied(base, config, 3), varied(base, config, 3), varied(base, config, 4)
    pose = lambda copy: copy.world.objects[4].world_from_object  # noqa: E731
    assert torch.equal(pose(a), pose(b)) and not torch.equal(pose(a), pose(c))
    assert torch.equal(a.world.objects[4].gaussians.sh, b.world.objects[4].gaussians.sh)
    assert torch.equal(a.cameras[0].world_from_camera, b.cameras[0].world_from_camera)
    still = varied(prepared(tabletop(), replace(config, move=False)), replace(config, move=False), 3)
    (light,), (same,) = ([e for e in copy.edits if isinstance(e, Grade)] for copy in (a, still))
    assert (light.exposure, light.tint) == (same.exposure, same.tint) and light.exposure != 0


def test_reach_and_turn_are_limits(tabletop):
    """Things stay near where they were, and as they were turned, if asked to."""
    config = replace(MOVES, reach=0.05, turn_deg=0.0, clearance=0.002)
    world = tabletop()
    base = prepared(world, config)
    for seed in range(5):
        after = varied(base, config, seed).world
        old, new = world.objects[4].world_from_object, after.objects[4].world_from_object
        assert float((old[:2, 3] - new[:2, 3]).norm()) < 0.06
        assert torch.allclose(old[:3, :3], new[:3, :3], atol=1e-3)


def test_reach_is_in_metres(tabletop):
    """In a world of centimetres as well, measured between the places where things stand."""
    config = replace(MOVES, reach=0.05, clearance=0.002)
    world = tabletop().reframed(torch.eye(4), 100.0)
    base, far = prepared(world, config), 0.0
    for seed in range(5):
        after = varied(base, config, seed).world
        shift = (after.objects[4].world_from_object - world.objects[4].world_from_object)[:2, 3].norm()
        assert float(shift) < 5.1
        far = max(far, float(shift))
    assert far > 1.0


def test_what_is_hidden_is_in_nobodys_way(tabletop):
    """Neither as a wall nor as clutter; hidden Gaussians are not points of a thing."""
    world = tabletop(False)
    post = world.objects[5]
    high = [_highest(scene_of(world, MOVES).clutter)]
    hidden = [replace(post, hidden=True), replace(post, gaussians=_all_hidden(post.gaussians))]
    high += [_highest(scene_of(world.with_object(each), MOVES).clutter) for each in hidden]
    assert high[0] > 0.25 and max(high[1:]) < 0.25
    assert object_hulls(hidden[1]) == ()
    (walls,) = scene_of(tabletop(), MOVES).walls
    without = tabletop().with_object(replace(tabletop().objects[6], hidden=True))
    (fewer,) = scene_of(without, MOVES).walls
    assert len(walls) == len(fewer) + 1


def _all_hidden(gaussians: Gaussians) -> Gaussians:
    return replace(gaussians, flags=gaussians.flags | HIDDEN)


def _highest(clutter) -> float:
    return max((float(points[:, 2].max()) for points in clutter if len(points)), default=0.0)


def test_unstacked_things_come_down(tabletop):
    """What stood on another thing stands on the table."""
    config = replace(MOVES, unstack=True)
    after = varied(prepared(tabletop(), config), config, 1).world
    assert after.objects[3].supported_by == (1,)
    assert float(after.objects[3].world_from_object[2, 3]) == pytest.approx(0.03, abs=0.003)


def test_lying_on_other_faces(tabletop):
    """A block can be put on its other sides, whose lowest point is on the table as well."""
    world = tabletop()
    scene = scene_of(world, MOVES)
    (block,) = (group for group in scene.groups if group.members == (4,))
    turns = lying_turns(block.hulls, world.objects[4].world_from_object[:3, 3], torch.tensor([0.0, 0.0, 1.0]))
    assert 3 <= len(turns) <= 5
    config = replace(MOVES, lying=1.0)
    heights, base = set(), prepared(world, config)
    for seed in range(8):
        pose = varied(base, config, seed).world.objects[4].world_from_object
        heights.add(round(float(pose[2, 3]), 3))
    assert heights <= {0.025, 0.04, 0.06} and len(heights) >= 2


def test_a_table_without_room_is_told(tabletop, make_box):
    """What finds no place stays where it is, and the copy says so."""
    world = tabletop()
    small = make_box(1, (0.14, 0.14, 0.04), (0.2, 0.2, -0.02), kind=ObjectKind.STATIC)
    block = make_box(7, (0.1, 0.1, 0.02), (0.2, 0.2, 0.01))
    world = World({1: small, 7: block}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))
    config = replace(MOVES, clearance=0.03)
    copy = varied(prepared(world, config), config, 0)
    assert copy.stuck == (7,)
    assert torch.equal(copy.world.objects[7].world_from_object, block.world_from_object)


def test_clutter_without_shapes_is_in_the_way(tabletop, make_box):
    """Nothing is put into a wall of Gaussians in the background."""
    world = tabletop()
    wall = make_box(0, (1.0, 0.02, 0.3), (0.0, 0.0, 0.152), shape=False, kind=ObjectKind.STATIC, count=9000)
    items = {n: world.objects[n] for n in (1, 2)} | {0: replace(wall, name="background")}
    world = World(items, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))
    base = prepared(world, MOVES)
    for seed in range(12):
        assert abs(float(varied(base, MOVES, seed).world.objects[2].world_from_object[1, 3])) > 0.06


def test_things_rest_in_simulation(tabletop):
    """A second of MuJoCo moves nothing by more than a millimetre, and nothing overlaps there either."""
    pytest.importorskip("mujoco")
    config = replace(MOVES, simulate=True)
    base = prepared(tabletop(), config)
    assert base.judged == {2, 3, 4}
    copy = varied(base, config, 5)
    assert set(copy.drifts) == {2, 3, 4} and not copy.restless
    assert max(drift.millimetres for drift in copy.drifts.values()) < 1.0
    assert copy.overlap is not None and copy.overlap < 0.1


def test_round_things_roll_onto_a_facet(tabletop):
    """A lying prism of twelve sides that stands on an edge is put onto a side, and rests there ever after."""
    pytest.importorskip("mujoco")
    world, radius = tabletop(), 0.04
    angle = torch.arange(12) * (2 * math.pi / 12) - math.pi / 2
    ring = torch.stack([torch.zeros(12), radius * angle.cos(), radius * angle.sin()], -1)
    points = torch.cat([ring - torch.tensor([0.06, 0, 0]), ring + torch.tensor([0.06, 0, 0])])
    trimesh = pytest.importorskip("trimesh")
    solid = trimesh.convex.convex_hull(points.numpy())
    prism = Mesh(torch.tensor(solid.vertices).float(), torch.tensor(solid.faces))
    item = world.objects[4]
    pose = pose_from(rotation_from_rotvec(torch.tensor([0.02, 0.0, 0.0])), torch.tensor([-0.2, -0.2, radius]))
    item = replace(item, shape=Shape(prism, (prism,)), world_from_object=pose)
    config = replace(MOVES, simulate=True)
    base = prepared(world.with_object(item), config)
    assert base.scene is not None and 4 in base.judged
    (group,) = (each for each in base.scene.groups if each.members == (4,))
    turned = rotvec_from_rotation(group.settled[:3, :3]).norm()
    assert math.degrees(float(turned)) == pytest.approx(15, abs=2)
    copy = varied(base, config, 1)
    assert copy.drifts[4].within(0.5, 0.5)
    assert float(copy.world.objects[4].world_from_object[2, 3]) == pytest.approx(
        radius * math.cos(math.pi / 12), abs=1e-3
    )


def test_what_cannot_rest_is_found_out(tabletop):
    """A block that leans too far over its foot is judged by geometry alone, and the user hears of it."""
    pytest.importorskip("mujoco")
    world = tabletop()
    cube = world.objects[2].shape
    assert cube is not None
    corners = cube.mesh.vertices.clone()
    low = corners[:, 2] < 0
    corners[low, 0] = corners[low, 0] * 0.2 - 0.04
    tip = Mesh(corners, cube.mesh.faces)
    item = world.objects[2]
    assert item.shape is not None
    world = world.without_object(3).with_object(
        replace(item, shape=replace(item.shape, mesh=tip, parts=(tip,)))
    )
    base = prepared(world, replace(MOVES, simulate=True))
    assert 2 not in base.judged and 4 in base.judged
    assert any("box 2" in notice for notice in base.notices)


def test_worlds_and_labels_on_disk(tabletop, tmp_path, capsys):
    """Each copy opens as a world at its labelled poses, with its edits as history, and can be undone."""
    tabletop().save(tmp_path / "a.world")
    config = VaryConfig(simulate=False, cameras=2, longest=96)
    vary(tmp_path / "a.world", out=tmp_path / "out", n=2, seed=9, render=True, json=True, config=config)
    assert json.loads(capsys.readouterr().out)["moved"] == 6
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert [copy["seed"] for copy in labels["copies"]] == [9, 10]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0000", "0000.world", "0001", "0001.world", "labels.json",
    ]  # fmt: skip
    for copy in labels["copies"]:
        with Session(tmp_path / "out" / copy["world"]) as session:
            for item in copy["objects"]:
                pose = pose_from_pose7(torch.tensor(item["new"]))
                assert torch.allclose(session.world.objects[item["id"]].world_from_object, pose, atol=1e-5)
            names = [revision.op for revision in session.history()][::-1]
            assert names[0] == "create" and names[1:] == [each["edit"] for each in copy["edits"]]
            session.undo()
    assert World.open(tmp_path / "a.world").objects[4].name == "box 4"


def test_pictures_agree_with_their_labels(tabletop, tmp_path):
    """Depth lies on the table, boxes hold their objects, cameras open as a capture."""
    config = replace(MOVES, cameras=2, longest=96)
    drain(variations(tabletop(), tmp_path / "out", 1, 0, config, render=True))
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())["copies"][0]
    capture = load_capture(tmp_path / "out" / "0000")
    assert len(capture) == 2 and capture.metres_per_unit == 1.0
    for frame, picture in zip(capture.frames, labels["pictures"]):
        assert isinstance(frame.depth, Path)
        depth = read_depth(frame.depth)
        with Image.open(tmp_path / "out" / "0000" / "ids" / picture["picture"]) as image:
            ids = torch.tensor(np.array(image).astype(int))
        for item in picture["objects"]:
            left, top, right, bottom = item["box"]
            inside = ids[top:bottom, left:right] == item["id"]
            assert int(inside.sum()) == item["pixels"] == int((ids == item["id"]).sum())
        rows = ((ids == 1) & (depth > 0)).nonzero()
        points = frame.camera.unproject(rows.flip(1).float() + 0.5, depth[rows[:, 0], rows[:, 1]])
        assert abs(float(points[:, 2].median())) < 0.01


def test_packs_are_shared(tabletop, tmp_path):
    """What copies have in common is on the disk once, where the file system has links."""
    drain(variations(tabletop(), tmp_path / "out", 2, 0, MOVES))
    packs = [
        {p.name: p.stat() for p in (tmp_path / "out" / f"000{i}.world" / "packs").iterdir()} for i in (0, 1)
    ]
    common = set(packs[0]) & set(packs[1])
    assert common and all(packs[0][name].st_size == packs[1][name].st_size for name in common)
    if all(packs[0][name].st_nlink > 1 for name in common):
        assert all(packs[0][name].st_ino == packs[1][name].st_ino for name in common)


def test_bad_wishes(tabletop, tmp_path, as_usual):
    """A full folder, no copies, nothing that rests, no up, and strengths out of range: a sentence each."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    for out, n, world, message in (
        (tmp_path / "full", 1, tabletop(), "expected a new or empty folder"),
        (tmp_path / "a", 0, tabletop(), "expected at least 1 copy, got 0"),
        (tmp_path / "b", 1, World({1: tabletop().objects[1]}, up=(0.0, 0.0, 1.0)), "rigid things that rest"),
        (tmp_path / "c", 1, replace(tabletop(), up=None), "knows where up is"),
    ):
        with pytest.raises(ConfigError, match=message):
            drain(variations(world, out, n))
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"
    wishes: tuple[dict[str, Any], ...] = (
        {"colours": 1.5},
        {"clearance": -1.0},
        {"cameras": 0},
        {"reach": 0.0},
        {"drift_mm": 0.0},
    )
    for wrong in wishes:
        with pytest.raises(ValueError, match="expected"):
            VaryConfig(**wrong)


@pytest.fixture
def as_usual():
    """Without shape checks, as users run it."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_unknown_scale_and_no_cameras(tabletop, tmp_path):
    """Without a scale things move by geometry, which is said; without cameras a ring is made."""
    world = replace(tabletop().reframed(torch.eye(4), 7.0), metres_per_unit=None, cameras=())
    config = replace(MOVES, simulate=True, cameras=3, longest=64)
    told: list[str] = []
    done = drain(
        variations(world, tmp_path / "out", 1, 0, config),
        lambda event: told.append(event.message) if isinstance(event, Notice) else None,
    ).result
    assert done.moved == 3 and done.judged == 0
    assert any("the scale is not known" in text for text in told)
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert len(labels["copies"][0]["cameras"]) == 3


def test_locked_things_stay(tabletop):
    """Locks are respected, in moves and in light."""
    world = tabletop()
    world = world.with_object(replace(world.objects[4], locked=True))
    config = replace(MOVES, light=0.5, colours=1.0)
    copy = varied(prepared(world, config), config, 0)
    assert torch.equal(copy.world.objects[4].world_from_object, world.objects[4].world_from_object)
    assert copy.world.objects[4].gaussians.sh is world.objects[4].gaussians.sh


def test_mounted_things_come_along(tabletop, make_box):
    """A handle mounted on a block moves with it and counts as part of it."""
    world = tabletop()
    knob = make_box(8, (0.02, 0.02, 0.02), (-0.2, -0.2, 0.09), parent=4)
    world = world.with_object(knob)
    scene = scene_of(world, MOVES)
    (group,) = (each for each in scene.groups if each.members == (4,))
    assert group.carried == (8,) and len(group.hulls) == 2
    after = varied(prepared(world, MOVES), MOVES, 2).world
    old = torch.linalg.inv(world.objects[4].world_from_object) @ knob.world_from_object
    new = torch.linalg.inv(after.objects[4].world_from_object) @ after.objects[8].world_from_object
    assert torch.allclose(old, new, atol=1e-5)


def test_a_tilted_table_is_tilted(tabletop):
    """Things stand on the plane that is there, not on a level one."""
    tilt = pose_from(rotation_from_rotvec(torch.tensor([math.radians(3), 0.0, 0.0])), torch.zeros(3))
    world = replace(tabletop().reframed(tilt), up=(0.0, 0.0, 1.0))
    scene = scene_of(world, MOVES)
    normal = scene.surfaces[0].world_from_plane[:3, 2]
    assert float(normal @ tilt[:3, 2].double()) > 0.9999
    found = arrange(scene, MOVES, torch.Generator().manual_seed(0))
    moved = scene.groups[-1].hulls[0].moved(found.motions[len(scene.groups) - 1])
    assert abs(float(scene.surfaces[0].flat(moved.vertices)[:, 2].min())) < 1e-3
