"""Discs look like the surface they are made of: against ray casts, from both sides, at edges."""

import numpy as np
import pytest
import torch

import gaussworld as gw
from gaussworld.gaussians import Gaussians
from gaussworld.pose import look_at, rotation_from_quats
from gaussworld.render import render
from gaussworld.surface import Surface, box, plane, sphere
from gaussworld.surface.discs import discs
from gaussworld.surface.lining import room_below
from gaussworld.surface.objects import Detail
from gaussworld.surface.painted import merged
from gaussworld.surface.sampling import crease_points, points_on
from gaussworld.surface.shading import shaded


def striped() -> Surface:
    """A box of two colours."""
    right = torch.eye(4)
    right[0, 3] = 0.1
    return merged(
        [
            box((0.1, 0.1, 0.1)).tinted((0.9, 0.4, 0.1)),
            box((0.1, 0.1, 0.1)).tinted((0.2, 0.5, 0.9)).transformed(right),
        ]
    )


def psnr(surface: Surface, gaussians: Gaussians, direction: tuple[float, float, float]) -> float:
    """Inside the mask of the object, against rays through the middles of pixels."""
    open3d = pytest.importorskip("open3d")
    middle = (surface.mesh.vertices.amin(0) + surface.mesh.vertices.amax(0)) / 2
    eye = middle + 0.45 * torch.nn.functional.normalize(torch.tensor(direction), dim=0)
    camera = gw.Camera.pinhole(look_at(eye, middle), 128, 128, 40.0)
    scene = open3d.t.geometry.RaycastingScene()
    vertices, faces = surface.mesh.vertices.numpy(), surface.mesh.faces.numpy().astype(np.uint32)
    scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(faces))
    origin, directions = camera.rays()
    rays = torch.cat([origin.expand_as(directions), directions], -1).reshape(-1, 6).contiguous()
    hits = scene.cast_rays(open3d.core.Tensor(rays.numpy()))
    rows = torch.from_numpy(hits["primitive_ids"].numpy().astype(np.int64))
    hit = rows < len(faces)
    truth = surface.colors_at(rows[hit], torch.full((int(hit.sum()), 3), 1 / 3))
    seen = render(gaussians, camera).rgb.reshape(-1, 3)[hit]
    return float(-10 * (seen - truth).square().mean().log10())


@pytest.mark.parametrize("direction", [(1.0, -0.8, 0.6), (0.1, -1.0, 0.1), (-0.5, 0.3, -1.0)])
def test_a_box_looks_like_its_ray_cast(direction: tuple[float, float, float]):
    """From corner, front and below, with few Gaussians, on a background that would shine through."""
    surface = box((0.2, 0.1, 0.1)).tinted((0.9, 0.4, 0.1))
    assert psnr(surface, discs(surface, 3000), direction) > 36


def test_a_seam_between_two_colours_is_blurred_by_a_spacing_only():
    """Two boxes that touch: all but the seam is as it should be."""
    surface = striped()
    assert psnr(surface, discs(surface, 4000), (0.1, -1.0, 0.1)) > 22


def test_a_sphere_and_a_sheet_from_behind():
    """Round outlines are covered; an open sheet is seen from both of its sides."""
    ball = sphere(0.1).tinted((0.8, 0.5, 0.2))
    assert psnr(ball, discs(ball, 4000), (1.0, 1.0, 1.0)) > 40
    sheet = plane(0.2, 0.2).tinted((0.3, 0.7, 0.4))
    made = discs(sheet, 3000)
    for z in (1.0, -1.0):
        assert psnr(sheet, made, (0.2, 0.1, z)) > 32


def test_nothing_bulges():
    """No Gaussian reaches beyond the box by more than a part of the spacing; all are flat on their faces."""
    surface = box((0.2, 0.1, 0.1))
    made = discs(surface, 5000)
    beyond = (made.means.abs() - torch.tensor([0.1, 0.05, 0.05])).amax(1)
    assert float(beyond.max()) < 1e-4
    normals = rotation_from_quats(made.quats)[:, :, 0]
    assert float((normals.abs().amax(1) > 0.99).float().mean()) > 0.98
    along = made.covariances.diagonal(dim1=1, dim2=2).sqrt()
    reach = (made.means.abs() + along - torch.tensor([0.1, 0.05, 0.05])).amax(1)
    spacing = (surface.mesh.area / 5000) ** 0.5
    assert float(reach.quantile(0.99)) < 0.8 * spacing


def test_the_same_surface_gives_the_same_bits():
    """Places are drawn from a seed."""
    a, b = discs(box((0.1, 0.2, 0.3)), 800), discs(box((0.1, 0.2, 0.3)), 800)
    assert torch.equal(a.means, b.means) and torch.equal(a.sh, b.sh) and 500 < len(a) <= 800
    with pytest.raises(ValueError, match="at least 1 Gaussian, got 0"):
        discs(box((0.1, 0.2, 0.3)), 0)


def test_points_are_dense_at_creases():
    """And as many as asked for; the box has 12 edges."""
    surface = box((1.0, 1.0, 1.0))
    points = points_on(surface, 1000, torch.Generator().manual_seed(0))
    assert len(points.positions) == 12_000
    near = (points.positions.abs() > 0.47).sum(1) >= 2
    assert float(near.float().mean()) > 1.5 * (1 - 0.94**2)
    creases = crease_points(surface.mesh, 0.1)
    assert len(creases) == 120 and bool(((creases.abs() > 0.4999).sum(1) == 2).all())
    assert len(crease_points(sphere(1.0).mesh, 0.1)) == 0


def test_a_lining_lies_inside_also_of_what_is_inside_out():
    """There is none in sheets, in thin plates and at creases."""
    solid = box((1.0, 1.0, 1.0))
    middle, normal, spacing = (
        torch.tensor([[0.0, 0.0, 0.5]]),
        torch.tensor([[0.0, 0.0, 1.0]]),
        torch.tensor([0.1]),
    )
    assert room_below(solid, middle, normal, spacing).tolist() == pytest.approx([-0.05])
    assert room_below(solid.flipped(), middle, -normal, spacing).tolist() == pytest.approx([0.05])
    corner = torch.tensor([[0.45, 0.0, 0.5]])
    assert room_below(solid, corner, normal, spacing).tolist() == [0]
    thin = box((1.0, 1.0, 0.1))
    assert room_below(thin, torch.tensor([[0.0, 0.0, 0.05]]), normal, spacing).tolist() == [0]
    assert room_below(plane(1.0, 1.0), torch.zeros(1, 3), normal, spacing).tolist() == [0]


def test_shading_darkens_what_looks_down():
    """The top of a box is brighter than its bottom."""
    made = discs(box((0.1, 0.1, 0.1)), 600)
    lit = shaded(made, torch.eye(4))
    top, bottom = made.means[:, 2] > 0.0495, made.means[:, 2] < -0.0495
    assert float(lit.rgb[top].mean()) > 1.5 * float(lit.rgb[bottom].mean())


def test_budgets():
    """By number, shared by the roots of areas; by spacing, as many as that takes; never absurdly many."""
    assert Detail(900).counts([4.0, 1.0]) == [600, 300]
    assert Detail(spacing=0.1).counts([4.0, 1.0]) == [400, 100]
    with pytest.raises(ValueError, match="spacing: expected a positive length"):
        Detail(spacing=0.0).counts([1.0])
    with pytest.raises(ValueError, match="at most 20,000,000 Gaussians"):
        Detail(spacing=1e-5).counts([1.0])
