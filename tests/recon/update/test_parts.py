"""The parts of an update: exposure, differences of pictures, poses of cameras, what a world knows well."""

import torch

from gaussworld.camera import Camera
from gaussworld.render import render
from recon.frames import View
from recon.update.changes import compared, tolerant_error
from recon.update.exposure_match import Exposure, matched_exposure
from recon.update.familiar import well_known
from recon.update.landmarks import Matches
from recon.update.relocalise import Shot, solved, with_pose


def test_exposure_is_matched_although_a_third_has_changed():
    """Gain and offset to 1 %, with a third of the picture something else."""
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(60, 80, 3, generator=generator)
    picture = rgb * torch.tensor([0.8, 0.9, 0.7]) + 0.05
    picture[:20] = torch.rand(20, 80, 3, generator=generator)
    found = matched_exposure(rgb, picture, torch.ones(60, 80))
    assert torch.allclose(found.gain, torch.tensor([0.8, 0.9, 0.7]), atol=0.01)
    assert torch.allclose(found.offset, torch.full((3,), 0.05), atol=0.01)
    assert torch.allclose(found.undone(found(rgb)), rgb, atol=1e-5)


def test_a_shift_of_a_pixel_is_no_change_and_a_patch_is():
    """Edges a pixel off cost nothing; a new patch does, all of it."""
    generator = torch.Generator().manual_seed(1)
    blocks = torch.rand(12, 16, 3, generator=generator).repeat_interleave(10, 0).repeat_interleave(10, 1)
    picture = blocks.roll(1, dims=1)
    picture[40:70, 40:70] = torch.tensor([1.0, 0.0, 1.0])
    error = tolerant_error(blocks, picture)
    assert float(error[:35].max()) < 0.02
    assert float(error[45:65, 45:65].median()) > 0.2


def test_a_camera_is_found_among_wrong_matches():
    """A third of the matches points anywhere."""
    generator = torch.Generator().manual_seed(2)
    camera = Camera.looking_at((0.9, -0.4, 0.6), (0.0, 0.0, 0.0))
    points = torch.rand(90, 3, generator=generator) - 0.5
    pixels, _ = camera.project(points)
    pixels[:30] = torch.rand(30, 2, generator=generator) * 400
    found = solved(Matches(pixels, points, torch.zeros(90, dtype=torch.int32)), camera, 3.0)
    assert found is not None and found[1] >= 55
    assert torch.allclose(found[0], camera.world_from_camera, atol=1e-3)


def test_matches_that_say_nothing_give_no_camera():
    """All in one place: no pose, and no crash of the solver."""
    camera = Camera.looking_at((1.0, 0.0, 1.0), (0.0, 0.0, 0.0))
    same = Matches(torch.zeros(20, 2), torch.zeros(20, 3), torch.zeros(20, dtype=torch.int32))
    assert solved(same, camera, 3.0) is None


def test_what_the_world_never_saw_well_does_not_count(place):
    """Pictures of a world that one camera saw are of nothing that is known well, whatever they show."""
    camera, exposure = place.cameras[0], Exposure(torch.ones(3), torch.zeros(3))
    shown = place.world.shown()
    picture = render(shown, camera).rgb.clamp(0, 1)
    patch = (slice(100, 150), slice(130, 190))
    picture[patch] = 0.0
    shot = Shot("new", View.of(camera, picture), exposure)
    (well,) = well_known(shown, place.world.cameras, [shot], 8)
    far = with_pose(camera, torch.eye(4))
    (hardly,) = well_known(shown, [place.world.cameras[0], far, far], [shot], 8)
    (every,), (none,) = compared(shown, [shot], [well]), compared(shown, [shot], [hardly])
    assert float(every.changed[patch].float().mean()) > 0.8
    assert not bool(none.changed[patch].any())
