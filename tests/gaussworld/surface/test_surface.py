"""Surfaces: solids, mesh files with every kind of colour, layouts; what is wrong is told in a sentence."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.errors import FileFormatError
from gaussworld.hull import convex_hull
from gaussworld.shape import Mesh, Shape, is_closed
from gaussworld.surface import box, cylinder, load_surface, plane, sphere
from gaussworld.surface.layout import load_layout
from gaussworld.surface.objects import Thing, layout_things, material_of, mesh_thing
from gaussworld.world_object import ObjectKind

trimesh = pytest.importorskip("trimesh")


def test_solids_are_closed_and_face_outwards():
    """Their volumes are those of the formulas, but for the corners of circles."""
    for surface, volume in ((box((1.0, 2.0, 3.0)), 6.0), (cylinder(1.0, 2.0), 6.2832), (sphere(1.0), 4.1888)):
        assert is_closed(surface.mesh)
        assert surface.mesh.volume == pytest.approx(volume, rel=0.01)
    assert plane(2.0, 3.0).mesh.area == pytest.approx(6)


def textured(path: Path) -> Path:
    """A square whose texture is red, green, blue and white by quarters."""
    from PIL import Image

    rgb = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    image = Image.fromarray(rgb.repeat(8, 0).repeat(8, 1))
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image)
    if path.suffix == ".obj":
        material = trimesh.visual.material.SimpleMaterial(image=image, diffuse=[255, 255, 255, 255])
    made = trimesh.Trimesh(
        np.column_stack([uv, np.zeros(4)]), [[0, 1, 2], [0, 2, 3]], process=False,
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
    )  # fmt: skip
    made.export(path)
    return path


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_textures_are_the_right_way_up(tmp_path: Path, suffix: str):
    """The first row of the picture is at the top of the texture's coordinates."""
    surface = load_surface(textured(tmp_path / f"square{suffix}"))
    points = torch.tensor([[0.2, 0.8], [0.8, 0.8], [0.2, 0.2], [0.8, 0.2]])
    corners = surface.mesh.triangles[:, :, :2]
    found = []
    for x, y in points.tolist():
        for face, (a, b, c) in enumerate(corners):
            matrix = torch.cat([torch.stack([a, b, c], 1), torch.ones(1, 3)])
            weights = torch.linalg.solve(matrix, torch.tensor([x, y, 1.0]))
            if bool((weights > -1e-6).all()):
                found.append(surface.colors_at(torch.tensor([face]), weights[None])[0].tolist())
                break
    wanted = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    assert np.allclose(found, wanted, atol=0.02)


def test_face_and_vertex_colours(tmp_path: Path):
    """A .ply has either; faces stay of one colour."""
    cube = trimesh.creation.box()
    cube.visual.vertex_colors = np.tile([255, 128, 0, 255], (8, 1))
    cube.export(tmp_path / "v.ply")
    surface = load_surface(tmp_path / "v.ply")
    assert surface.colored.colors is not None
    assert torch.allclose(surface.colored.colors, torch.tensor([1.0, 128 / 255, 0.0]), atol=1e-3)
    faces = trimesh.creation.box()
    faces.visual.face_colors = np.array([[20 * i, 0, 0, 255] for i in range(12)], np.uint8)
    faces.export(tmp_path / "f.ply")
    surface = load_surface(tmp_path / "f.ply")
    middle = surface.colors_at(torch.arange(12), torch.full((12, 3), 1 / 3))
    assert sorted((middle[:, 0] * 255).round().tolist()) == [20 * i for i in range(12)]


def test_inside_out_is_turned_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """An open mesh is taken as it is."""
    cube = trimesh.creation.box()
    cube.invert()
    cube.export(tmp_path / "c.stl")
    with caplog.at_level(logging.WARNING):
        surface = load_surface(tmp_path / "c.stl", 2.0)
    assert surface.mesh.volume == pytest.approx(8) and "inside out" in caplog.text
    half = trimesh.Trimesh(cube.vertices, cube.faces[:6], process=False)
    half.export(tmp_path / "h.obj")
    assert not is_closed(load_surface(tmp_path / "h.obj").mesh)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.step", "x", "expected a mesh file"),
        ("a.obj", "v 0 0 0\nv 1 0 0\n", "expected a mesh with faces"),
        ("a.stl", "solid", "expected a"),
        ("a.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "expected finite coordinates"),
        ("a.obj", "v 0 0 0\nv 0 0 0\nv 0 1 0\nf 1 2 3\n", "without an area"),
    ],
)
def test_bad_meshes_are_refused(tmp_path: Path, name: str, text: str, message: str):
    """In one sentence with the path."""
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_surface(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(FileFormatError, match="no such file"):
        load_surface(tmp_path / "none.obj")


LAYOUT = {
    "objects": [
        {"name": "table", "shape": "box", "size": [1.2, 0.8, 0.04], "color": "#b08050", "kind": "STATIC"},
        {"shape": "cylinder", "radius": 0.04, "length": 0.1, "position": [0.2, 0, 0.07], "mass": 0.3,
         "rotation_deg": [90, 0, 0]},
        {"shape": "sphere", "radius": 0.03, "color": [0.9, 0.2, 0.1]},
        {"shape": "plane", "size": [4, 4]},
    ]
}  # fmt: skip


def test_layouts_in_json_and_toml(tmp_path: Path):
    """Sizes, places, colours, kinds and masses."""
    (tmp_path / "a.json").write_text(json.dumps(LAYOUT))
    table, can, ball, floor = layout_things(load_layout(tmp_path / "a.json"))
    assert (table.name, table.kind, can.name) == ("table", ObjectKind.STATIC, "cylinder 2")
    assert floor.kind is ObjectKind.STATIC and ball.kind is ObjectKind.RIGID
    assert can.world_from_object[:3, 3].tolist() == pytest.approx([0.2, 0, 0.07])
    assert can.world_from_object[:3, 2].tolist() == pytest.approx([0, -1, 0], abs=1e-6)
    assert material_of(can).mass == pytest.approx(0.3)
    assert table.shape is not None and len(table.shape.parts) == 1 and table.shape.mesh.colors is not None
    assert table.shape.mesh.colors[0].tolist() == pytest.approx([176 / 255, 128 / 255, 80 / 255])
    (tmp_path / "a.toml").write_text(
        'up = "y"\n[[objects]]\nshape = "box"\nsize = [1, 2, 3]\nposition = [0, 5, 0]\n'
    )
    (thing,) = layout_things(load_layout(tmp_path / "a.toml"))
    assert thing.world_from_object[:3, 3].tolist() == pytest.approx([0, 0, 5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "cone"}, "object 0: shape: expected one of box, cylinder, .*, got 'cone'"),
        ({"size": [1, 2]}, "object 0: size: expected 3 positive numbers"),
        ({"size": [1, 2, 0]}, "object 0: size: expected 3 positive numbers"),
        ({"colour": "#fff"}, "object 0: expected keys of a box among .*, got colour"),
        ({"color": "#ff"}, 'object 0: color: expected "#rrggbb"'),
        ({"color": [2, 0, 0]}, r"object 0: color: expected numbers in \[0, 1\]"),
        ({"kind": "ROBOT"}, "object 0: kind: expected STATIC or RIGID"),
        ({"mass": -1}, "object 0: mass: expected 1 positive number"),
        ({"rotation": [0, 0, 0, 0]}, "object 0: rotation: expected a quaternion"),
        ({"rotation": [1, 0, 0, 0], "rotation_deg": [0, 0, 1]}, "got both"),
        ({"name": ""}, "object 0: name: expected a text"),
    ],
)
def test_bad_layouts_name_the_object_and_the_key(tmp_path: Path, change: dict, message: str):
    """One sentence each."""
    item = {"shape": "box", "size": [1, 1, 1]} | change
    (tmp_path / "a.json").write_text(json.dumps({"objects": [item]}))
    with pytest.raises(FileFormatError, match=message):
        load_layout(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "broken file"), ("[]", 'expected a table with "objects"'), ('{"objects": []}', "at least one"),
     ('{"objects": [1], "a": 1}', "expected keys among"), ('{"objects": [1]}', "object 0: expected a table"),
     ('{"objects": [1], "up": "x"}', "up: expected")],
)  # fmt: skip
def test_bad_files_of_layouts(tmp_path: Path, text: str, message: str):
    """One sentence each."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        load_layout(tmp_path / "a.json")


def test_meshes_collide_as_their_hulls(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Closed or open, but for an open one that never moves, which its hull would fill, and a flat one."""
    cube = trimesh.creation.box((0.1, 0.2, 0.3))
    cube.export(tmp_path / "cube.obj")
    trimesh.Trimesh(cube.vertices, cube.faces[2:], process=False).export(tmp_path / "lidless.obj")
    for name in ("cube", "lidless"):
        path = tmp_path / f"{name}.obj"
        thing = mesh_thing(path, load_surface(path))
        assert thing.shape is not None and len(thing.shape.parts) == 1 and is_closed(thing.shape.parts[0])
        assert thing.shape.parts[0].volume == pytest.approx(0.006, rel=1e-4)
        assert material_of(thing).volume == pytest.approx(0.006, rel=1e-4)
    still = mesh_thing(path, load_surface(path), kind=ObjectKind.STATIC)
    assert still.shape is not None and not still.shape.parts and material_of(still).volume is None
    flat = mesh_thing(path, plane(1.0, 1.0))
    assert flat.shape is not None and not flat.shape.parts and material_of(flat).volume is None
    assert "hollows" not in caplog.text
    trimesh.creation.annulus(0.4, 0.5, 0.1).export(tmp_path / "ring.obj")
    mesh_thing(tmp_path / "ring.obj", load_surface(tmp_path / "ring.obj"))
    assert "ring: it collides as its convex hull" in caplog.text


def test_a_given_mass_is_kept_where_the_surface_is_open(tmp_path: Path):
    """Volume is then that of the convex parts, or of the hull."""
    cube = box((0.1, 0.1, 0.1)).mesh
    lidless = replace(cube, faces=cube.faces[2:])
    for shape in (Shape(lidless), Shape(lidless, (cube,))):
        material = material_of(Thing("a", None, shape=shape, mass=2.0))
        assert material.mass == pytest.approx(2.0) and material.volume == pytest.approx(0.001, rel=1e-4)
    assert material_of(Thing("a", None, shape=Shape(plane(1.0, 1.0).mesh), mass=2.0)).mass is None


def test_hulls_have_few_corners():
    """A finely cut ball's lies within it and has almost its volume; a triangle has none."""
    ball = trimesh.creation.icosphere(subdivisions=5, radius=1.0)
    vertices = torch.from_numpy(np.array(ball.vertices, np.float32)) + 3
    mesh = Mesh(vertices, torch.from_numpy(np.array(ball.faces, np.int32)))
    hull = convex_hull(mesh)
    assert hull is not None and is_closed(hull) and len(hull.vertices) <= 256
    assert 0.96 * mesh.volume < hull.volume < mesh.volume
    assert convex_hull(Mesh(vertices[:3], torch.tensor([[0, 1, 2]]))) is None
