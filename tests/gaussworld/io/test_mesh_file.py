"""Mesh files: what comes back, seams, colours and textures, and every way in which a file can be bad."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.errors import FileFormatError
from gaussworld.io.mesh_file import load_mesh, save_mesh
from gaussworld.shape import Mesh, is_closed

trimesh = pytest.importorskip("trimesh")


def box(colors: bool = False) -> Mesh:
    made = trimesh.creation.box((0.4, 0.2, 0.1))
    vertices = torch.from_numpy(np.array(made.vertices, np.float32))
    painted = (vertices - vertices.amin(0)) / (vertices.amax(0) - vertices.amin(0)) if colors else None
    return Mesh(vertices, torch.from_numpy(np.array(made.faces, np.int32)), painted)


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".ply", ".glb"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    """What is written comes back closed, with its volume, and colours where the format has them."""
    save_mesh(box(colors=suffix != ".stl"), tmp_path / f"a{suffix}")
    mesh = load_mesh(tmp_path / f"a{suffix}")
    assert len(mesh.vertices) == 8 and len(mesh.faces) == 12 and is_closed(mesh)
    assert mesh.volume == pytest.approx(0.008, rel=1e-5)
    if suffix == ".stl":
        assert mesh.colors is None
        return
    assert mesh.colors is not None
    spread = (mesh.vertices - mesh.vertices.amin(0)) / torch.tensor([0.4, 0.2, 0.1])
    assert torch.allclose(mesh.colors, spread, atol=3e-3)


def test_scale(tmp_path: Path) -> None:
    """Millimetres become metres."""
    save_mesh(box(), tmp_path / "a.stl")
    mesh = load_mesh(tmp_path / "a.stl", scale=0.001)
    assert mesh.volume == pytest.approx(8e-12, rel=1e-4)
    with pytest.raises(ValueError, match="positive"):
        load_mesh(tmp_path / "a.stl", scale=0.0)


def test_parts_of_a_scene_lie_at_their_places(tmp_path: Path) -> None:
    """A GLB's nodes are moved, then joined."""
    scene = trimesh.Scene()
    for i in range(2):
        scene.add_geometry(
            trimesh.creation.box(), transform=trimesh.transformations.translation_matrix([3 * i, 0, 0])
        )
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    assert mesh.volume == pytest.approx(2.0)
    assert mesh.vertices.amax(0).tolist() == [3.5, 0.5, 0.5]


def test_texture_becomes_vertex_colors(tmp_path: Path) -> None:
    """The texture's left half is red, its right half blue; u runs along x."""
    from PIL import Image

    made = trimesh.creation.box((2.0, 1.0, 1.0))
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    picture.paste((0, 0, 255), (4, 0, 8, 8))
    uv = np.stack([np.clip(made.vertices[:, 0] / 2 + 0.5, 0.1, 0.9), np.full(8, 0.5)], axis=1)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)
    made.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    made.export(tmp_path / "a.glb")
    mesh = load_mesh(tmp_path / "a.glb")
    assert mesh.colors is not None and is_closed(mesh)
    right = mesh.vertices[:, 0] > 0
    assert torch.allclose(mesh.colors[right], torch.tensor([0.0, 0.0, 1.0]), atol=0.02)
    assert torch.allclose(mesh.colors[~right], torch.tensor([1.0, 0.0, 0.0]), atol=0.02)


def test_inside_out_is_turned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Faces that look inwards are turned, and it is said."""
    save_mesh(Mesh(box().vertices, box().faces[:, [0, 2, 1]]), tmp_path / "a.ply")
    with caplog.at_level(logging.WARNING):
        mesh = load_mesh(tmp_path / "a.ply")
    assert mesh.volume == pytest.approx(0.008, rel=1e-5)
    assert "inside out" in caplog.text


def test_faces_wound_both_ways_are_made_alike(tmp_path: Path) -> None:
    """Some faces of a closed mesh look inwards: they are turned."""
    faces = box().faces.clone()
    faces[::3] = faces[::3][:, [0, 2, 1]]
    save_mesh(Mesh(box().vertices, faces), tmp_path / "a.ply")
    mesh = load_mesh(tmp_path / "a.ply")
    assert is_closed(mesh) and mesh.volume == pytest.approx(0.008, rel=1e-5)


def test_open_mesh_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mesh with a hole is of use, but its volume is not its own."""
    save_mesh(Mesh(box().vertices, box().faces[:-1]), tmp_path / "a.ply")
    with caplog.at_level(logging.WARNING):
        mesh = load_mesh(tmp_path / "a.ply")
    assert not is_closed(mesh) and len(mesh.faces) == 11
    assert "the mesh is open" in caplog.text


def test_points_only_are_refused(tmp_path: Path) -> None:
    """A cloud of points is no mesh; the sentence says who reads Gaussians."""
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(20, 3))).export(tmp_path / "a.ply")
    with pytest.raises(FileFormatError, match="only points"):
        load_mesh(tmp_path / "a.ply")


def test_nan_is_refused(tmp_path: Path) -> None:
    """A vertex without a place is named."""
    vertices = box().vertices.numpy().copy()
    vertices[3, 1] = np.nan
    trimesh.Trimesh(vertices, box().faces.numpy(), process=False).export(tmp_path / "a.ply")
    with pytest.raises(FileFormatError, match=r"finite numbers.* vertex 3"):
        load_mesh(tmp_path / "a.ply")


def test_faces_without_area_are_refused(tmp_path: Path) -> None:
    """A mesh of lines has no surface."""
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nf 1 2 1\n")
    with pytest.raises(FileFormatError, match="faces"):
        load_mesh(tmp_path / "a.obj")


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".ply", ".glb", ".gltf"])
@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 84, b"ply\nformat ascii 1.0\nelement vertex 9", b"{}", b"glTF"]
)
def test_broken_files_are_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    """Empty files, headers without a body, and files of something else."""
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(FileFormatError, match="expected a "):
        load_mesh(tmp_path / f"a{suffix}")


def test_face_beyond_the_vertices_is_refused(tmp_path: Path) -> None:
    """An index that points nowhere."""
    head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    body = (
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"
    )
    (tmp_path / "a.ply").write_text(head + body)
    with pytest.raises(FileFormatError, match="expected"):
        load_mesh(tmp_path / "a.ply")


def test_other_suffixes_and_missing_files(tmp_path: Path) -> None:
    """The sentence lists the formats."""
    with pytest.raises(FileFormatError, match=r"\.obj, \.stl"):
        load_mesh(tmp_path / "a.step")
    with pytest.raises(FileFormatError, match="no such file"):
        load_mesh(tmp_path / "a.obj")
    with pytest.raises(ValueError, match="suffix"):
        save_mesh(box(), tmp_path / "a.step")
    with pytest.raises(ValueError, match="faces"):
        save_mesh(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int32)), tmp_path / "a.ply")
