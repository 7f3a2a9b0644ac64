"""Scenes before they are drawn: cabinet, tools, piles, and settings that cannot be."""

import sys

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from dynamics.generate import mjcf
from dynamics.generate.arrange import arranged, random_scene
from dynamics.generate.config import StillConfig
from dynamics.generate.forms import Form, extruded
from dynamics.generate.settle import supports
from dynamics.generate.things import KINDS, random_thing
from dynamics.generate.truth import truth
from gaussworld.errors import BackendUnavailable, ConfigError, MissingDependency
from gaussworld.shape import is_closed


def states_of(config):
    """A scene at rest and its states, without drawing."""
    scene = random_scene(config)
    model = mjcf.compiled(scene, drawn=False)
    return scene, model, arranged(config, scene, model)


@pytest.mark.parametrize("kind", KINDS)
def test_forms_are_closed_and_made_of_their_convex_parts(kind):
    """Every kind has a closed surface of its size, and parts that fill it."""
    thing = random_thing(np.random.default_rng(3), 2, kind, (0.1, 0.1), 0.3)
    shape = thing.form.shape
    assert is_closed(shape.mesh)
    size = shape.mesh.vertices.amax(0) - shape.mesh.vertices.amin(0)
    assert 0.03 < float(size.max()) < 0.15
    assert shape.mesh.center_of_mass.norm() < 1e-5
    assert all(is_closed(part) and part.volume > 0 for part in shape.parts)
    assert sum(part.volume for part in shape.parts) == pytest.approx(shape.mesh.volume, rel=0.06)
    for piece in thing.form.pieces:
        triangles = torch.from_numpy(piece.vertices[piece.faces])
        normals = torch.linalg.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        shading = torch.from_numpy(piece.normals[piece.faces]).mean(1)
        assert float(((normals * shading).sum(1) > 0).double().mean()) == 1.0


def test_paint_lies_where_the_charts_say():
    """The texel at a vertex's place in the painting shows a point near that vertex."""
    for kind in ("tblock", "mug", "ball"):
        for piece in random_thing(np.random.default_rng(1), 2, kind, (0.1, 0.1), 0.1).form.pieces:
            texels = piece.chart.texels()
            rows = (piece.uv[:, 1] * len(texels)).astype(int).clip(0, len(texels) - 1)
            columns = (piece.uv[:, 0] * texels.shape[1]).astype(int).clip(0, texels.shape[1] - 1)
            # The form was centred after its chart was made.
            away = texels[rows, columns] - piece.vertices
            away -= np.median(away, axis=0)
            assert np.abs(away).max() < 3e-3


def test_a_crossed_polygon_is_refused():
    """Not every list of corners is an outline."""
    with pytest.raises(ValueError, match="simple polygon"):
        extruded([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)], 0.1)


def test_door_and_drawer_turn_about_their_axes():
    """The axes in truth.json carry one state's pose into the other's; neither pierces the cabinet."""
    from gaussworld.world_object import Joint

    config = StillConfig(scene="cabinet", states=2, seed=5)
    scene, model, states = states_of(config)
    told = [truth(scene, state, supports(model, scene, state), config.seed)["objects"] for state in states]
    jointed = [(a, b) for a, b in zip(told[0], told[2]) if a["kind"] == "ARTICULATED"]
    assert [a["name"] for a, _ in jointed] == ["door", "drawer"]
    for a, b in jointed:
        joint = Joint(**{**a["joint"], **{k: tuple(a["joint"][k]) for k in ("axis", "origin", "limits")}})
        assert a["joint"]["position"] != b["joint"]["position"]
        motion = joint.motion(torch.tensor(b["joint"]["position"], dtype=torch.float64))
        moved = torch.tensor(a["world_from_object"], dtype=torch.float64) @ motion
        assert torch.allclose(moved, torch.tensor(b["world_from_object"], dtype=torch.float64), atol=1e-9)
        assert a["parent"] == next(item["id"] for item in told[0] if item["name"] == "cabinet")
    # Opened, the door's far edge is out in front.
    door = np.array(jointed[0][0]["world_from_object"]) @ [0.0, -0.17, 0.1, 1.0]
    assert door[0] > -0.1


def test_things_can_lie_on_others():
    """A pile is told as what rests on what, and stays one when other things move."""
    config = StillConfig(objects=4, stacked=1, states=1, seed=2)
    scene, model, states = states_of(config)
    for state in states:
        below = supports(model, scene, state)
        assert sorted(low for carried in below.values() for low in carried)[:3] == [1, 1, 1]
        assert any(1 not in carried for carried in below.values())


def test_the_gripper_has_two_fingers_that_open():
    """Base and fingers are robot's parts, each with an id; the fingers slide apart."""
    scene, _, (state,) = states_of(StillConfig(tool="gripper", objects=1, seed=3))
    base, left, right = (item for item in scene.objects if item.kind.name == "ROBOT")
    assert (base.joint, left.parent, right.parent) == (None, base.id, base.id)
    apart = np.linalg.norm((state.pose(left) - state.pose(right))[:3, 3])
    assert apart == pytest.approx(state.positions[left.id] + state.positions[right.id], abs=1e-6)
    assert apart > 0.01


def test_too_many_things_are_told():
    """One sentence, not an endless search."""
    with pytest.raises(ConfigError, match="ask for fewer or smaller"):
        states_of(StillConfig(objects=9, size=(0.28, 0.3), tool="none"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objects": 41}, "--objects: expected 0 to 40"),
        ({"size": (0.2, 0.1)}, "--size: expected two lengths"),
        ({"stacked": 3}, "--stacked: expected 0 to 2"),
        ({"views": 0}, "--views: expected 1 to 2000"),
        ({"width": 4}, "--width: expected 8 to 4096"),
        ({"fov_deg": 179.0}, "--fov-deg: expected 5 to 120"),
        ({"radius": 3.0}, "--radius: expected 0.4 to 2"),
        ({"seed": -1}, "--seed: expected 0 or more"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    """Each is refused with its flag."""
    with pytest.raises(ConfigError, match=message):
        StillConfig(**wrong)


def test_without_mujoco_the_extra_is_named(monkeypatch):
    """And without OpenGL, what to install."""
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingDependency, match=r"gaussworld\[sim\]"):
        mjcf.mujoco_module()


def test_without_opengl_egl_is_named(monkeypatch):
    """MuJoCo's own error says nothing of what to do."""
    import mujoco

    from dynamics.generate.draw import Artist

    def broken(*_):
        raise RuntimeError("no EGL display")

    monkeypatch.setattr(mujoco, "Renderer", broken)
    with pytest.raises(BackendUnavailable, match="libegl1"):
        Artist(
            random_scene(StillConfig(objects=0, tool="none")),
            16,
            16,
            mujoco.MjModel.from_xml_string("<mujoco/>"),
        )


def test_the_mjcf_loads_again():
    """What is simulated can be written as MJCF and read by MuJoCo."""
    import mujoco

    scene = random_scene(StillConfig(objects=2, seed=1))
    spec = mjcf.spec_of(scene, drawn=False)
    spec.compile()
    model = mujoco.MjModel.from_xml_string(spec.to_xml())
    masses = {item.name: item.mass for item in scene.objects}
    assert model.body_mass.sum() == pytest.approx(sum(masses.values()), rel=1e-4)


def test_forms_count_pieces():
    """A look for each piece, or one for all."""
    thing = random_thing(np.random.default_rng(0), 2, "box", (0.1, 0.1), 0.2)
    with pytest.raises(ValueError, match="looks"):
        type(thing)(2, "two", thing.kind, Form(thing.form.pieces * 2), thing.looks * 3, "wood", 0.5)
