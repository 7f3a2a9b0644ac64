"""Light is found from how the sides of things differ, and things that turn keep to it."""

import math

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians, cat
from gaussworld.pose import invert_pose, pose_from, quats_from_rotation, rotation_from_rotvec
from gaussworld.render import render
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject
from recon.fill import Light, light_of, moved_in_light, relit
from recon.objects.seen import Seen

LAMP = torch.nn.functional.normalize(torch.tensor([0.8, 0.3, 0.7]), dim=0)


def falls(normals: torch.Tensor) -> torch.Tensor:
    """What a matt white surface sends back: a lamp and light from everywhere."""
    return 0.4 + 0.5 * (normals @ LAMP).clamp(min=0)


def directions(count: int) -> torch.Tensor:
    """Evenly over the sphere, along a spiral."""
    i = torch.arange(count) + 0.5
    z, around = 1 - 2 * i / count, math.pi * (1 + 5**0.5) * i
    flat = (1 - z * z).sqrt()
    return torch.stack([flat * around.cos(), flat * around.sin(), z], dim=1)


def ball(count: int, center: tuple[float, float, float], rgb: torch.Tensor, number: int) -> Gaussians:
    """A lit ball of radius 0.1 with two colours."""
    normals = directions(count)
    axis = torch.tensor([0.0, 0.0, 1.0]).expand_as(normals)
    x = torch.nn.functional.normalize(torch.linalg.cross(axis + 0.01, normals), dim=1)
    rotation = torch.stack([x, torch.linalg.cross(normals, x), normals], dim=2)
    albedo = torch.where((normals[:, :1] * 5).sin() > 0, rgb, rgb.flip(0))
    colors = (albedo * falls(normals)[:, None]).clamp(0, 1)
    scales = torch.tensor([0.008, 0.008, 0.001]).expand(count, 3)
    made = Gaussians.from_activated(
        0.1 * normals + torch.tensor(center),
        quats_from_rotation(rotation),
        scales,
        torch.full((count,), 0.95),
        colors,
    )
    made.object_ids.fill_(number)
    return made


@pytest.fixture
def lit() -> World:
    """Two balls, seen from all around."""
    red, green = torch.tensor([0.9, 0.3, 0.2]), torch.tensor([0.2, 0.8, 0.4])
    both = cat([ball(1500, (-0.15, 0.0, 0.0), red, 1), ball(1500, (0.15, 0.0, 0.0), green, 2)])
    eyes = 0.9 * directions(12)
    cameras = [Camera.looking_at(tuple(eye.tolist()), (0.0, 0.0, 0.0), 96, 96, 32.0) for eye in eyes]
    return World.from_gaussians(both, cameras=cameras, metres_per_unit=1.0)


def test_a_lamp_is_found():
    """To a few percent, whatever colours things have."""
    made = cat(
        [
            ball(800, (0.0, 0.0, 0.0), torch.rand(3, generator=torch.Generator().manual_seed(i)), i)
            for i in (1, 2)
        ]
    )
    normals = directions(800).repeat(2, 1)
    light = light_of(made, Seen(torch.full((1600,), 5.0), made.means, normals))
    wanted = falls(normals) / falls(normals).mean()
    assert float((light.brightness(normals) / wanted - 1).abs().mean()) < 0.08


def test_where_nothing_tells_light_comes_from_everywhere():
    """Nothing seen: nothing changes when it turns."""
    made = ball(50, (0.0, 0.0, 0.0), torch.tensor([0.5, 0.5, 0.5]), 1)
    light = light_of(made, Seen(torch.zeros(50), made.means, torch.zeros(50, 3)))
    assert torch.allclose(light.brightness(directions(20)), torch.ones(20), atol=1e-5)


def test_a_thing_that_turns_is_lit_from_where_the_lamp_is(lit: World):
    """Turned by half, it looks as if painted there; without light its dark side faces the lamp."""
    turn = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, math.pi])), torch.zeros(3))
    pose = lit.objects[1].world_from_object @ turn
    plain, shaded = lit.moved(1, pose), moved_in_light(lit, {1: pose})
    assert torch.equal(shaded.objects[1].gaussians.means, lit.objects[1].gaussians.means)
    assert shaded.objects[2] is lit.objects[2]
    camera = Camera.looking_at((-0.15, -0.8, 0.3), (-0.15, 0.0, 0.0), 64, 64, 18.0)
    normals = directions(1500) @ turn[:3, :3].T
    posed = lit.objects[1].posed(pose)
    own = posed.rgb / falls(directions(1500))[:, None]
    truth = render(posed, camera, colors=(own * falls(normals)[:, None]).clamp(0, 1)).rgb
    errors = [float((render(w.objects[1].posed(), camera).rgb - truth).abs().mean()) for w in (plain, shaded)]
    assert errors[1] < 0.4 * errors[0]


def test_brightness_acts_on_every_band():
    """Twice the light is twice the colour, from every side."""
    from gaussworld.sh import evaluate_sh

    g = torch.Generator().manual_seed(0)
    sh = 0.1 * torch.randn(30, 4, 3, generator=g)
    one = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(30, 4)
    made = Gaussians(torch.zeros(30, 3), one, torch.zeros(30, 3), torch.zeros(30), sh)
    seen = evaluate_sh(relit(made, torch.full((30,), 1.5)).sh, directions(30))
    assert torch.allclose(seen, 1.5 * evaluate_sh(sh, directions(30)), atol=1e-5)


def test_moving_back_gives_the_colours_back(lit: World):
    """There and back under one light."""
    light = Light(torch.tensor([3.5, 0.3, 0.6, 0.4, 0.0, 0.0, 0.1, 0.0, 0.0]))
    home = lit.objects[1].world_from_object
    turn = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, 0.5])), torch.tensor([0.05, 0.0, 0.0]))
    there = moved_in_light(lit, {1: home @ turn}, light)
    back = moved_in_light(there, {1: home}, light)
    change = (back.objects[1].gaussians.rgb - lit.objects[1].gaussians.rgb).abs()
    assert float(change.median()) < 0.02
    assert torch.allclose(back.objects[1].world_from_object @ invert_pose(home), torch.eye(4), atol=1e-6)


def test_objects_that_are_not_there(lit: World):
    """The ids there are are named."""
    with pytest.raises(ValueError, match="expected the id of an object of this world, got 9; there are 1"):
        moved_in_light(lit, {9: torch.eye(4)})


def test_a_world_without_cameras_keeps_its_colours():
    """Nobody can tell what was seen, so nothing is guessed."""
    item = WorldObject(1, "ball", ball(200, (0.0, 0.0, 0.0), torch.ones(3), 1), ObjectKind.RIGID)
    pose = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, 1.0])), torch.zeros(3))
    moved = moved_in_light(World({1: item}), {1: pose})
    assert torch.allclose(moved.objects[1].gaussians.sh, item.gaussians.sh, atol=1e-6)
