"""Convex parts: one hull for what is nearly convex, several for an L, bounds on time, and odd meshes."""

import logging

import numpy as np
import pytest
import torch

from gaussworld.shape import Mesh, is_closed
from recon.mesh.convex import convex_parts, hull

trimesh = pytest.importorskip("trimesh")


def mesh_of(made) -> Mesh:
    vertices = torch.from_numpy(np.array(made.vertices, np.float32))
    return Mesh(vertices, torch.from_numpy(np.array(made.faces, np.int32)))


def angle() -> Mesh:
    """An L of 0.2 x 0.2 x 0.05 with arms 0.05 wide: half of its hull is empty."""
    x = [(0, 0), (0.2, 0), (0.2, 0.05), (0.05, 0.05), (0.05, 0.2), (0, 0.2)]
    n = len(x)
    vertices = torch.tensor([(*p, 0.0) for p in x] + [(*p, 0.05) for p in x])
    top = [(0, 1, 3), (1, 2, 3), (0, 3, 5), (3, 4, 5)]
    faces = [(a + n, b + n, c + n) for a, b, c in top] + [(a, c, b) for a, b, c in top]
    for i in range(n):
        j = (i + 1) % n
        faces += [(i, j, j + n), (i, j + n, i + n)]
    return Mesh(vertices, torch.tensor(faces, dtype=torch.int32))


def test_box_is_one_hull() -> None:
    """Nothing to cut; the hull is the box, wound outwards."""
    mesh = mesh_of(trimesh.creation.box((0.1, 0.2, 0.3)))
    (part,) = convex_parts(mesh)
    assert is_closed(part) and part.volume == pytest.approx(mesh.volume, rel=1e-5)


def test_hull_keeps_few_vertices() -> None:
    """A fine ball becomes a hull of 64 vertices that holds nearly as much."""
    mesh = mesh_of(trimesh.creation.icosphere(subdivisions=4, radius=0.1))
    (part,) = convex_parts(mesh)
    assert len(part.vertices) <= 64 and is_closed(part)
    assert 0.9 * mesh.volume < part.volume <= mesh.volume


def test_angle_falls_into_arms() -> None:
    """Closed convex parts that together hold what the L holds, and no more."""
    mesh = angle()
    assert is_closed(mesh) and mesh.volume == pytest.approx(0.05 * (0.2 * 0.05 + 0.15 * 0.05))
    parts = convex_parts(mesh, threshold=0.05)
    assert 2 <= len(parts) <= 4 and all(is_closed(part) for part in parts)
    assert sum(part.volume for part in parts) == pytest.approx(mesh.volume, rel=0.12)
    again = convex_parts(mesh, threshold=0.05)
    assert all(torch.equal(a.vertices, b.vertices) for a, b in zip(parts, again))


def test_number_of_parts_is_bounded() -> None:
    """A ring asks for many; it gets what is allowed."""
    mesh = mesh_of(trimesh.creation.torus(0.1, 0.02))
    parts = convex_parts(mesh, threshold=0.02, most=5)
    assert len(parts) == 5
    assert sum(part.volume for part in parts) < 0.8 * float(hull(mesh.vertices).volume)  # pyright: ignore
    (whole,) = convex_parts(mesh, most=1)
    assert len(whole.vertices) <= 64


def test_open_and_flat_meshes() -> None:
    """An open mesh gets its hull, one in a plane gets nothing."""
    closed = angle()
    (part,) = convex_parts(Mesh(closed.vertices, closed.faces[:-1]))
    assert is_closed(part)
    flat = Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]), torch.tensor([[0, 1, 2], [1, 3, 2]])
    )
    assert convex_parts(flat) == ()


def test_coacd_finds_the_arms() -> None:
    """Its search cuts the L in two, every time the same."""
    pytest.importorskip("coacd")
    first, again = (convex_parts(angle(), "coacd", seconds=120.0) for _ in range(2))
    assert len(first) == 2 and sum(part.volume for part in first) == pytest.approx(angle().volume, rel=0.02)
    assert all(torch.equal(a.vertices, b.vertices) for a, b in zip(first, again))


def test_coacd_that_takes_too_long_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    """The cuts stand in, and it is said."""
    pytest.importorskip("coacd")
    with caplog.at_level(logging.WARNING):
        parts = convex_parts(angle(), "coacd", seconds=0.01)
    assert "longer than" in caplog.text and len(parts) >= 2
