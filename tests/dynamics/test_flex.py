"""Ropes, cloths and soft blocks in MuJoCo: true stiffness and mass, contact, grips, surfaces and pictures."""

import os
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dynamics.generate import forms
from dynamics.generate.arrange import random_scene
from dynamics.generate.config import StillConfig
from dynamics.generate.draw import Artist
from dynamics.generate.flex.body import (
    add_flex,
    flex_name,
    flex_touches,
    flex_velocities,
    flex_vertices,
    place_flex,
)
from dynamics.generate.flex.flex import FLEX_KINDS, Flex, FlexKind, hanging, random_flex
from dynamics.generate.flex.grip import add_grips, grip, held, release
from dynamics.generate.flex.mesh import flex_mesh
from dynamics.generate.mjcf import COLLIDING, spec_of
from dynamics.generate.scene import SceneState
from gaussworld.camera import Camera
from gaussworld.errors import BackendUnavailable
from gaussworld.shape import is_closed

if sys.platform.startswith("linux"):
    os.environ.setdefault("MUJOCO_GL", "egl")
mujoco = pytest.importorskip("mujoco")

GRAVITY = 9.81


def some(kind: FlexKind, seed: int = 0, **changes: object) -> Flex:
    """A random thing with some of its facts chosen."""
    return replace(random_flex(np.random.default_rng(seed), kind, 7, 0.3), **changes)  # type: ignore[arg-type]


class Stage:
    """A table, one elastic thing, and a tool that is where it is put: a capsule with its tip at 0."""

    def __init__(self, flex: Flex, table: bool = True) -> None:
        self.flex, spec = flex, mujoco.MjSpec()
        spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
        spec.option.timestep = 0.002
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        still = {"group": COLLIDING, "contype": 0, "conaffinity": 0}
        if table:
            kind = mujoco.mjtGeom.mjGEOM_BOX
            spec.worldbody.add_geom(
                name="table", type=kind, size=[0.5, 0.5, 0.02], pos=[0, 0, -0.02], **still
            )
        tool = spec.worldbody.add_body(name="tool", mocap=True, pos=[0, 0, 1])
        kind = mujoco.mjtGeom.mjGEOM_CAPSULE
        tool.add_geom(name="rod", type=kind, size=[0.0125, 0.06, 0], pos=[0, 0, 0.0725], **still)
        add_flex(spec, flex)
        add_grips(spec, flex, "tool")
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        place_flex(self.model, self.data, flex)
        mujoco.mj_forward(self.model, self.data)

    def run(self, seconds: float, to: tuple[float, float, float] | None = None) -> np.ndarray:
        """Let time pass while the tool moves evenly to a place; the vertices then."""
        count, start = round(seconds / 0.002), self.data.mocap_pos[0].copy()
        for i in range(count):
            if to is not None:
                self.data.mocap_pos[0] = start + (np.array(to) - start) * (i + 1) / count
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        assert self.data.warning.number.sum() == 0
        return self.vertices

    @property
    def vertices(self) -> np.ndarray:
        return flex_vertices(self.model, self.data, self.flex)


@pytest.mark.parametrize("kind", FLEX_KINDS)
def test_model_has_the_vertices_and_the_mass_that_the_thing_has(kind: FlexKind) -> None:
    """Where vertices start, in which order, and what they weigh is the same here and in the simulator."""
    flex = some(kind, seed=3, **({"counts": (8, 8, 1)} if kind == "cloth" else {}))
    stage = Stage(flex)
    assert np.abs(stage.vertices - flex.start).max() < 1e-9
    body = stage.model.body(flex_name(flex)).id
    assert stage.model.body_subtreemass[body] == pytest.approx(flex.mass, rel=1e-9)
    assert flex.masses.sum() == pytest.approx(flex.mass, rel=1e-9)
    center = stage.data.subtree_com[body]
    assert np.abs(flex.masses @ flex.start / flex.mass - center).max() < 1e-9


@pytest.mark.parametrize("young", [5e4, 1e6])
def test_hanging_rope_lengthens_as_the_elastic_bar_does(young: float) -> None:
    """By rho g L^2 / 2 E: stiffness is Young's modulus, and does not depend on the number of vertices."""
    rope = some("rope", size=(0.4, 0.008, 0.008), counts=(26, 1, 1), bent=None, young=young, density=1000.0)
    stage = Stage(hanging(replace(rope, damping=0.03), height=0.6), table=False)
    vertices = stage.run(1.6)
    expected = 1000.0 * GRAVITY * 0.4**2 / (2 * young)
    assert vertices[0, 2] - vertices[-1, 2] - 0.4 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("count", [11, 17])
def test_clamped_rope_sags_as_the_beam_does(count: int) -> None:
    """By rho A g L^4 / 8 E I of Euler and Bernoulli, clamped in the middle of the first segment."""
    rope = some("rope", size=(0.16, 0.008, 0.008), counts=(count, 1, 1), bent=None, young=2e7, density=1000.0)
    stage = Stage(replace(rope, tied=(0, 1), pose=np.eye(4), damping=0.02), table=False)
    sag = -stage.run(2.0)[-1, 2]
    free = 0.16 - 0.08 / (count - 1)
    expected = 1000.0 * GRAVITY * free**4 / (2 * 2e7 * 0.004**2)
    assert sag == pytest.approx(expected, rel=0.02)


def test_lifted_rope_shows_how_stiff_it_is() -> None:
    """The same lift of an end leaves ropes of different stiffness in clearly different shapes."""
    shapes = []
    for young in (2e5, 2e6):
        rope = some("rope", seed=1, size=(0.4, 0.01, 0.01), counts=(21, 1, 1), young=young, bent=None)
        stage = Stage(rope)
        stage.data.mocap_pos[0] = stage.vertices[0]
        mujoco.mj_forward(stage.model, stage.data)
        grip(stage.model, stage.data, stage.flex)
        x, y, _ = stage.vertices[0]
        shapes.append(stage.run(1.2, (x + 0.05, y, 0.15)))
    assert np.linalg.norm(shapes[0] - shapes[1], axis=1).mean() > 0.005


def test_hanging_cloth_lengthens_as_the_elastic_bar_does() -> None:
    """By rho g L^2 / 2 E where its whole upper edge is held and nothing contracts across."""
    cloth = some("cloth", size=(0.2, 0.1, 0.003), counts=(9, 5, 1), young=2e4, poisson=0.0, density=250.0)
    stage = Stage(replace(hanging(cloth, height=0.5), tied=tuple(range(5)), damping=0.03), table=False)
    vertices = stage.run(1.0).reshape(9, 5, 3)
    expected = 250.0 * GRAVITY * 0.2**2 / (2 * 2e4)
    assert vertices[0, :, 2].mean() - vertices[-1, :, 2].mean() - 0.2 == pytest.approx(expected, rel=0.05)


def test_block_sinks_under_its_weight_as_the_elastic_bar_does() -> None:
    """By rho g h^2 / 2 E, compared with a much stiffer one on the same table."""
    heights = []
    for young in (1e4, 1e6):
        block = some("soft", size=(0.06, 0.06, 0.08), young=young, poisson=0.0, density=600.0)
        block.pose[2, 3] = 0.04
        heights.append(Stage(block).run(1.2)[:, 2].max())
    # What is below the surface by which MuJoCo inflates a block has no weight on it.
    expected = 600.0 * GRAVITY * 0.078**2 / 2 * (1 / 1e4 - 1 / 1e6)
    assert heights[1] - heights[0] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("kind", FLEX_KINDS)
def test_velocities_are_the_rates_of_the_vertices(kind: FlexKind) -> None:
    """Also where nodes of cells move the vertices, and in the frame of a turned block."""
    stage = Stage(some(kind, seed=2))
    stage.data.qvel[:] = np.random.default_rng(0).normal(size=stage.model.nv) * 0.1
    mujoco.mj_forward(stage.model, stage.data)
    rates, before = flex_velocities(stage.model, stage.data, stage.flex), stage.vertices
    mujoco.mj_integratePos(stage.model, stage.data.qpos, stage.data.qvel, 1e-4)
    mujoco.mj_forward(stage.model, stage.data)
    assert np.abs((stage.vertices - before) / 1e-4 - rates).max() < 1e-6


@pytest.mark.parametrize("kind", ["rope", "cloth"])
def test_grip_lifts_and_release_drops(kind: FlexKind) -> None:
    """What is at the tip is held at the tool while it moves, and falls when it is let go."""
    fewer = {"counts": (8, 8, 1)} if kind == "cloth" else {}
    stage = Stage(some(kind, seed=4, **fewer))
    stage.run(0.1)
    assert grip(stage.model, stage.data, stage.flex) == ()
    x, y, z = stage.vertices[1]
    stage.data.mocap_pos[0] = (x, y, z + 0.006)
    mujoco.mj_forward(stage.model, stage.data)
    taken = grip(stage.model, stage.data, stage.flex)
    assert 1 in taken and held(stage.model, stage.data, stage.flex) == taken
    assert kind == "cloth" or taken == (0, 1)
    lifted = stage.run(0.5, (x, y, 0.15))
    assert lifted[1] == pytest.approx([x, y, 0.144], abs=0.004)
    release(stage.model, stage.data, stage.flex)
    assert held(stage.model, stage.data, stage.flex) == ()
    assert stage.run(0.5, (x, y, 0.4))[1, 2] < 0.06


@pytest.mark.parametrize("kind", ["rope", "soft"])
def test_rod_pushes_along_the_table(kind: FlexKind) -> None:
    """It is touched, moves with the rod, and stays on the table."""
    stage = Stage(some(kind, seed=1, bent=None))
    middle = stage.run(0.1)[:, :2].mean(0)
    across = stage.flex.pose[:2, 1]
    behind, ahead = middle - 0.09 * across, middle + 0.05 * across
    stage.data.mocap_pos[0] = (*behind, 0.001)
    # A rope's middle goes furthest.
    row = stage.flex.count // 2
    before = stage.vertices[row, :2]
    after = stage.run(1.0, (*ahead, 0.001))
    moved = (after[row, :2] - before) @ across
    assert 0.04 < moved < 0.12
    touched = {stage.model.geom(geom).name for geom in flex_touches(stage.model, stage.data, stage.flex)}
    assert touched == {"table", "rod"}
    assert after[:, 2].min() > 0


def test_folded_cloth_lies_on_itself() -> None:
    """A corner laid over onto the rest comes to lie a thickness higher, not inside it."""
    cloth = some("cloth", size=(0.16, 0.16, 0.004), counts=(8, 8, 1), young=1e4, density=400.0)
    stage = Stage(cloth)
    start, middle = stage.vertices[0], stage.vertices.mean(0)
    stage.data.mocap_pos[0] = start
    mujoco.mj_forward(stage.model, stage.data)
    grip(stage.model, stage.data, stage.flex)
    x, y, _ = middle + 0.4 * (middle - start)
    stage.run(0.5, (*((start + middle) / 2)[:2], 0.1))
    stage.run(0.5, (x, y, 0.012))
    release(stage.model, stage.data, stage.flex)
    folded = stage.run(0.4, (x, y, 0.2))
    below = np.abs(folded[:, 2] - 0.002) < 0.001
    above = folded[:, 2] > 0.004
    assert below.sum() > 25 and above.sum() > 5


@pytest.mark.parametrize("kind", FLEX_KINDS)
def test_surface_is_closed_and_weighs_what_the_thing_weighs(kind: FlexKind) -> None:
    """Its volume, its paint, and that faces stay the same when vertices move."""
    flex = some(kind, seed=5)
    mesh = flex_mesh(flex, flex.start)
    # Half balls close a rope's ends.
    ends = 4 / 3 * np.pi * flex.radius**3 if kind == "rope" else 0.0
    assert is_closed(mesh)
    assert mesh.volume == pytest.approx(flex.volume + ends, rel=0.01)
    assert mesh.colors is not None and float(mesh.colors.std(0).max()) > 0.03
    moved = flex_mesh(flex, flex.start * 1.1)
    assert moved.colors is not None and torch.equal(moved.colors, mesh.colors)
    assert torch.equal(moved.faces, mesh.faces)


def test_pictures_show_each_where_its_surface_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In colour, in depth and with their ids, from above, beside each other."""
    monkeypatch.setattr(forms, "COARSER", 12.0)
    scene = random_scene(StillConfig(objects=0, tool="none"))
    spec, flexes = spec_of(scene), []
    for i, kind in enumerate(FLEX_KINDS):
        flex = random_flex(np.random.default_rng(6), kind, 7 + i, 0.3, (0.0, 0.2 * i - 0.2))
        flexes.append(replace(flex, counts=(8, 8, 1)) if kind == "cloth" else flex)
        add_flex(spec, flexes[-1])
    try:
        artist = Artist(scene, 160, 120, spec.compile(), flexes)
    except BackendUnavailable:
        pytest.skip("no OpenGL")
    for flex in flexes:
        place_flex(artist.model, artist.data, flex)
    artist.show(SceneState({item.id: item.home for item in scene.objects if item.home is not None}))
    camera = Camera.looking_at((0.0, -0.05, 0.8), (0.0, 0.0, 0.0), 160, 120, 45.0)
    seen = artist.draw(camera)
    artist.close()
    assert int((seen.ids == scene.objects[0].id).sum()) > 3000
    for flex in flexes:
        inside = seen.ids == flex.id
        surface = flex_mesh(flex, flex.start).transformed(camera.world_from_camera.inverse())
        assert 60 < int(inside.sum()) < 6000
        assert float(seen.depth[inside].min()) == pytest.approx(
            float(surface.vertices[:, 2].min()), abs=0.002
        )
        assert float(seen.rgb[inside].std(0).max()) > 0.03


@pytest.mark.parametrize("kind", FLEX_KINDS)
def test_hard_handling_neither_breaks_nor_loses_it(kind: FlexKind) -> None:
    """A tool that rushes through it at 1 m/s, and one that swings what it holds."""
    fewer = {"counts": (8, 8, 1)} if kind == "cloth" else {}
    for seed in range(2):
        stage, random = Stage(some(kind, seed=seed, **fewer)), np.random.default_rng(seed)
        stage.data.mocap_pos[0] = stage.vertices[-1] + (0.0, 0.0, 0.01)
        mujoco.mj_forward(stage.model, stage.data)
        grip(stage.model, stage.data, stage.flex)
        for _ in range(4):
            x, y, z = random.uniform((-0.1, -0.1, 0.01), (0.1, 0.1, 0.2))
            vertices = stage.run(0.2, (x, y, z))
            assert np.isfinite(vertices).all()
            assert np.abs(vertices).max() < 0.5 and vertices[:, 2].min() > -0.005


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("rope", {"id": 0}, "id: expected at least 1"),
        ("rope", {"counts": (200, 1, 1)}, "further apart than it is thick"),
        ("rope", {"counts": (20, 2, 1)}, "counts: expected at least"),
        ("rope", {"young": -1.0}, "young and density above 0"),
        ("rope", {"tied": (99,)}, "tied: expected vertices below"),
        ("rope", {"bent": np.zeros((3, 3))}, "bent: expected shape"),
        ("cloth", {"poisson": 0.5}, "poisson in"),
        ("soft", {"tied": (0,)}, "neither tied nor bent"),
    ],
)
def test_things_that_cannot_be_are_refused(kind: FlexKind, changes: dict[str, Any], message: str) -> None:
    """Each with what was expected."""
    with pytest.raises(ValueError, match=message):
        some(kind, **changes)


@pytest.mark.parametrize("kind", FLEX_KINDS)
def test_random_things_depend_on_the_seed_alone_and_fit_the_table(kind: FlexKind) -> None:
    """The same numbers from the same seed; lying on the table, in a square of 60 cm."""
    for seed in range(10):
        one, two = some(kind, seed=seed), some(kind, seed=seed)
        assert np.array_equal(one.start, two.start) and one.young == two.young and one.look == two.look
        assert np.abs(one.start[:, :2]).max() < 0.3
        assert flex_mesh(one, one.start).vertices[:, 2].min() == pytest.approx(0.0, abs=3e-4)
