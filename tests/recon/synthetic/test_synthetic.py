"""The synthetic tabletop: the same bits for a seed, sound geometry, a missing open3d explained."""

import sys

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.errors import MissingDependency
from gaussworld.pose import transform_points
from recon.synthetic import SKY, TabletopConfig, cast_view, mesh_scene, ring_cameras, tabletop
from recon.synthetic.textures import TABLE_RADIUS, Part, plain, tabletop_parts

SMALL = TabletopConfig(views=9, width=48, height=36, points=300)


@pytest.fixture(scope="module")
def capture():
    return tabletop(SMALL, seed=3)


def test_a_seed_gives_the_same_bits(capture):
    """Pictures and points repeat for a seed and differ for another."""
    again, other = tabletop(SMALL, seed=3), tabletop(SMALL, seed=4)
    for first, second in zip(capture.frames, again.frames, strict=True):
        assert torch.equal(first.image, second.image)
    assert torch.equal(capture.points, again.points)
    assert not torch.equal(capture.frames[0].image, other.frames[0].image)


def test_every_eighth_view_is_held_out(capture):
    """Views 0 and 8 of nine are for testing."""
    assert [i for i, frame in enumerate(capture.frames) if frame.split == "test"] == [0, 8]


def test_cameras_look_at_the_table_from_above():
    """The table's middle projects near the picture's middle, in front of the camera, and its rim fits in."""
    angle = torch.linspace(0, 6.28, 50)
    rim = torch.stack([TABLE_RADIUS * angle.cos(), TABLE_RADIUS * angle.sin(), torch.zeros(50)], dim=-1)
    for camera in ring_cameras(TabletopConfig()):
        pixels, depths = camera.project(torch.zeros(1, 3))
        assert float((pixels[0] - torch.tensor([160.0, 120.0])).abs().max()) < 12
        assert float(depths[0]) > 0.8
        assert float(camera.center[2]) > 0.3
        pixels, _ = camera.project(rim)
        assert bool(((pixels > 0) & (pixels < torch.tensor([320.0, 240.0]))).all())


def test_depth_unprojects_onto_the_meshes(capture):
    """A point that depth names lies on the surface that another camera's ray caster would hit."""
    from open3d.core import Tensor as Open3dTensor

    scene = mesh_scene(tabletop_parts(torch.Generator().manual_seed(3)))
    frame = capture.frames[2]
    seen = frame.depth > 0
    points = frame.camera.unproject(frame.camera.pixel_centers()[seen], frame.depth[seen])
    distance = scene.caster.compute_distance(Open3dTensor(points.numpy())).numpy()
    assert len(points) > 300
    assert float(distance.max()) < 1e-4


def test_depth_is_along_the_optical_axis():
    """A wall across the axis has the same z-depth everywhere, whatever the length of the ray."""
    corners = torch.tensor([[2.0, -9.0, -9.0], [2.0, 9.0, -9.0], [2.0, 9.0, 9.0], [2.0, -9.0, 9.0]])
    wall = Part("wall", corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), plain(0.5, 0.5, 0.5), torch.eye(4))
    view = cast_view(mesh_scene((wall,)), Camera.looking_at((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 16, 12, 60.0))
    assert torch.allclose(view.depth, torch.full((12, 16), 2.0), atol=1e-5)


def test_sky_and_lit_surfaces_differ(capture):
    """Where there is no depth around a pixel its colour is the sky's; the points carry other colours."""
    frame = capture.frames[1]
    corner = frame.image[0, 0]
    assert float(frame.depth[0, 0]) == 0
    assert torch.allclose(corner, torch.tensor(SKY), atol=1e-6)
    assert float((capture.colors - torch.tensor(SKY)).abs().sum(-1).mean()) > 0.3


def test_points_lie_near_the_surface(capture):
    """Points are on the table, a few noise widths off at most."""
    assert capture.points.shape == (300, 3)
    assert float(capture.points[:, :2].norm(dim=-1).max()) < TABLE_RADIUS + 0.01
    assert float(capture.points[:, 2].min()) > -0.04
    assert float(capture.points[:, 2].max()) < 0.2


def test_parts_stand_on_the_table():
    """Nothing but the table itself reaches below its top."""
    for part in tabletop_parts(torch.Generator().manual_seed(0))[1:]:
        assert float(transform_points(part.world_from_part, part.vertices)[:, 2].min()) > -1e-3, part.name


@pytest.mark.parametrize(
    ("error", "hint"), [(ImportError("no"), "pip install open3d"), (OSError("libusb"), "libusb-1.0-0")]
)
def test_a_missing_ray_caster_is_explained(monkeypatch, error, hint):
    """Neither a missing package nor a missing system library ends in a traceback without advice."""

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "open3d":
                raise error

    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(MissingDependency, match=hint):
        mesh_scene(())
