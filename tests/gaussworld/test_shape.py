"""`Mesh` and `Shape`: volumes and centres against closed forms, and what is refused."""

import math

import pytest
import torch
import trimesh

from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.shape import Mesh, Shape, is_closed, joined


def mesh_from(body: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(body.vertices, dtype=torch.float32), torch.tensor(body.faces))


BODIES = {
    "box": trimesh.creation.box((0.1, 0.2, 0.3)),
    "cylinder": trimesh.creation.cylinder(0.05, 0.2, sections=200),
    "torus": trimesh.creation.torus(0.1, 0.03),
}


@pytest.mark.parametrize("name", BODIES)
def test_volume_area_and_center_are_those_of_trimesh(name: str):
    """Anywhere in space, at any size."""
    body = BODIES[name]
    motion = pose_from(rotation_from_rotvec(torch.tensor([0.3, -1.0, 0.5])), torch.tensor([1.0, -2.0, 0.7]))
    mesh = mesh_from(body).transformed(motion, 2.0)
    assert mesh.volume == pytest.approx(body.volume * 8, rel=1e-4)
    assert mesh.area == pytest.approx(body.area * 4, rel=1e-4)
    wanted = motion[:3, :3] @ torch.tensor(body.center_mass, dtype=torch.float32) * 2 + motion[:3, 3]
    assert torch.allclose(mesh.center_of_mass, wanted, atol=1e-4)
    assert is_closed(mesh)


def test_open_and_inside_out_meshes_are_told():
    """A missing face opens a mesh; turned faces make its volume negative."""
    box = mesh_from(BODIES["box"])
    assert not is_closed(Mesh(box.vertices, box.faces[1:]))
    assert not is_closed(Mesh(box.vertices, torch.cat([box.faces[:1].flip(1), box.faces[1:]])))
    inside_out = Mesh(box.vertices, box.faces.flip(1))
    assert is_closed(inside_out) and inside_out.volume == pytest.approx(-box.volume)
    assert not is_closed(Mesh(box.vertices, box.faces[:0]))


def test_an_open_shape_has_the_volume_of_its_parts():
    """What is scanned from above has no bottom, its hulls have."""
    box = mesh_from(BODIES["box"])
    lid = Mesh(box.vertices, box.faces[2:])
    assert Shape(lid, (box,)).volume == pytest.approx(0.006, rel=1e-4)
    assert Shape(box, (mesh_from(BODIES["torus"]),)).volume == pytest.approx(0.006, rel=1e-4)
    assert torch.allclose(Shape(lid, (box,)).center_of_mass, torch.zeros(3), atol=1e-6)
    far = lid.transformed(pose_from(torch.eye(3), torch.tensor([0.0, 0.0, 1.0])))
    assert Shape(far).volume == 0 and float(Shape(far).center_of_mass[2]) == pytest.approx(1.0, abs=0.1)


def test_meshes_join_with_their_colours():
    """Rows of faces follow; colours stay where all have them."""
    a, b = mesh_from(BODIES["box"]), mesh_from(BODIES["torus"])
    both = joined([a, b])
    assert both.volume == pytest.approx(a.volume + b.volume, rel=1e-5) and both.colors is None
    painted = [Mesh(m.vertices, m.faces, torch.rand(len(m.vertices), 3)) for m in (a, b)]
    assert torch.equal(joined(painted).colors[len(a.vertices) :], painted[1].colors)
    with pytest.raises(ValueError, match="expected at least one mesh"):
        joined([])


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (torch.zeros(3, 3), torch.tensor([[0, 1, 3]]), "expected rows of 3 vertices, got 3"),
        (torch.zeros(3, 3), torch.tensor([[0, 1, -1]]), "expected rows of 3 vertices"),
        (torch.full((3, 3), math.nan), torch.tensor([[0, 1, 2]]), "expected finite numbers"),
    ],
)
def test_impossible_meshes_are_refused(vertices: torch.Tensor, faces: torch.Tensor, message: str):
    """Before they reach a kernel or a simulator."""
    with pytest.raises(ValueError, match=message):
        Mesh(vertices, faces)
