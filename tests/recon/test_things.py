"""From Gaussians to things: a block on a board becomes two objects with shapes, masses and supports."""

from pathlib import Path

import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.gaussians import Gaussians, cat
from gaussworld.io import save_cameras
from gaussworld.io.images import write_image
from gaussworld.log import Notice, drain
from gaussworld.render import render
from gaussworld.world import World
from gaussworld.world_object import ObjectKind
from recon.run import Run
from recon.things import with_things


def discs(points: torch.Tensor, step: float, rgb: tuple[float, float, float]) -> Gaussians:
    """Round, opaque Gaussians that close the gaps between points."""
    n = len(points)
    quats, scales = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(n, 4), torch.full((n, 3), 0.5 * step)
    return Gaussians.from_activated(
        points, quats, scales, torch.full((n,), 0.95), torch.tensor([rgb]).expand(n, 3)
    )


def scene(block: bool) -> World:
    """A brown board of half a metre, with a blue block of 12 x 10 x 8 cm on it or without."""
    step = 0.01
    line = torch.arange(-0.25, 0.25, step)
    board = discs(torch.cartesian_prod(line, line, torch.zeros(1)), step, (0.6, 0.4, 0.2))
    parts = [board]
    if block:
        sides = (
            torch.arange(-0.06, 0.061, step),
            torch.arange(-0.05, 0.051, step),
            torch.arange(0.01, 0.081, step),
        )
        solid = torch.cartesian_prod(*sides)
        low, high = solid.amin(0), solid.amax(0)
        skin = ((solid - low).abs().amin(1) < 1e-3) | ((solid - high).abs().amin(1) < 1e-3)
        parts.append(discs(solid[skin], step, (0.1, 0.2, 0.8)))
    cameras = [
        Camera.looking_at((0.7 * x, 0.7 * y, 0.5), (0.0, 0.0, 0.03), 160, 120, 50.0)
        for x, y in ((1, 0), (0.5, 0.87), (-0.5, 0.87), (-1, 0), (-0.5, -0.87), (0.5, -0.87))
    ]
    return World.from_gaussians(cat(parts), cameras=cameras, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def test_a_block_on_a_board_becomes_a_thing():
    """It has its size, a closed shape, a mass, and rests on what carries it."""
    world = drain(with_things(scene(block=True), Path("desk.world"))).result
    rigid = [item for item in world.objects.values() if item.kind is ObjectKind.RIGID]
    assert len(rigid) == 1
    (block,) = rigid
    assert 550 < len(block.gaussians) < 700
    assert block.shape is not None and block.shape.parts
    assert 0.6e-3 < block.material.volume < 1.5e-3 and block.material.sources["volume"] == "shape"
    carriers = [world.objects[number] for number in block.supported_by]
    assert [item.kind for item in carriers] == [ObjectKind.STATIC]


def test_where_nothing_stands_the_world_stays_whole():
    """A notice says why, and nothing is lost."""
    before = scene(block=False)
    events = list(with_things(before, Path("desk.world")))
    assert any(isinstance(event, Notice) and "stays in one piece" in str(event) for event in events)
    assert list(events[-1].result.objects) == list(before.objects)


def test_masks_say_what_the_things_are(tmp_path):
    """With pictures of ids the objects are those, whatever their form, under the ids' numbers."""
    whole = scene(block=True)
    world = World.from_gaussians(whole.posed(), cameras=whole.cameras, metres_per_unit=1.0, up=whole.up)
    run, masks = tmp_path / "run", tmp_path / "masks"
    (run / "images").mkdir(parents=True)
    masks.mkdir()
    frames = []
    for number, camera in enumerate(whole.cameras):
        picture = render(whole.posed(), camera)
        write_image(run / "images" / f"{number}.png", picture.rgb.clamp(0, 1))
        blue = picture.rgb[..., 2] > 1.5 * picture.rgb[..., 0]
        Image.fromarray((blue * 7).to(torch.uint8).numpy()).save(masks / f"{number}.png")
        frames.append(Frame(camera, run / "images" / f"{number}.png"))
    save_cameras(Capture(tuple(frames), metres_per_unit=1.0), Run(run).cameras)
    found = drain(with_things(world, Run(run).world, masks)).result
    assert sorted(found.objects) == [0, 7]
    assert 450 < len(found.objects[7].gaussians) < 800
