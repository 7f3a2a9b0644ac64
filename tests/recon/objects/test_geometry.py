"""Objects from geometry alone, and geometry together with masks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.log import Notice, drain
from gaussworld.world_object import ObjectKind
from recon.objects import Found, Masks, combined, from_both, from_geometry, from_masks

UP = (0.0, 0.0, 1.0)


def found_in(scene: Any, up: tuple[float, float, float] | None = UP) -> Found:
    """What geometry finds."""
    return drain(from_geometry(scene.gaussians, scene.cameras, up)).result


def masks_of(scene: Any, names: dict[int, str] | None = None) -> Masks:
    """The true masks of a scene."""
    frames = tuple(Frame(camera, torch.zeros(1, 1, 3)) for camera in scene.cameras)
    return Masks(frames, scene.pictures, names or {})


def best(scene: Any, found: Found, number: int) -> float:
    """Intersection over union of the object that fits best, among Gaussians that are seen."""
    seen = found.confidences > 64
    truth = seen & (scene.ids == number)
    ratios = [
        float((truth & (found.ids == i)).sum()) / float((truth | (seen & (found.ids == i))).sum())
        for i in found.numbers
    ]
    return max(ratios)


def test_table_and_things_on_it(scene: Any) -> None:
    """A table, two boxes, and a floor that is background."""
    found = found_in(scene)
    assert found.numbers == [1, 2, 3]
    assert found.names == {1: "table"} and found.kinds == {1: ObjectKind.STATIC}
    for number in (1, 2, 3):
        assert best(scene, found, number) > 0.95
    floor = (scene.ids == 0) & (found.confidences > 64)
    assert float((found.ids[floor] == 0).float().mean()) > 0.98


def test_up_is_found_out(scene: Any) -> None:
    """A world that does not know up asks its cameras and planes."""
    found = found_in(scene, None)
    assert best(scene, found, 2) > 0.95


def test_a_single_object(build: Callable[..., Any], table: Gaussians, red: Gaussians) -> None:
    """One thing on a table is found as one."""
    scene = build((1, table), (2, red))
    found = found_in(scene)
    assert len(found.numbers) == 2 and best(scene, found, 2) > 0.95


def test_things_on_the_ground(
    build: Callable[..., Any], floor: Gaussians, box: Callable[..., Gaussians]
) -> None:
    """With nothing below it the surface is the ground, and no object."""
    thing = box((-0.15, -0.15, -0.4), (0.15, 0.15, -0.1), (0.8, 0.1, 0.1), 0.02)
    found = found_in(build((0, floor), (1, thing)))
    assert found.numbers == [1] and not found.names


def test_a_scene_without_a_surface(build: Callable[..., Any], red: Gaussians) -> None:
    """No level surface, or none with things on it: one sentence asks for masks."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(500, 3, generator=generator)
    cloud = replace(red.select(torch.arange(500)), means=0.2 * means)
    with pytest.raises(CaptureError, match=r"expected a table, a floor .* give masks"):
        found_in(build((1, cloud)))


def test_an_empty_table(build: Callable[..., Any], table: Gaussians, floor: Gaussians) -> None:
    """A table with nothing on it carries nothing."""
    with pytest.raises(CaptureError, match=r"things on it, got .* with nothing on them"):
        found_in(build((1, table)))


def test_masks_decide_and_geometry_proposes(scene: Any) -> None:
    """What masks know keeps their numbers; what they call background is found by its shape."""
    pictures = tuple(torch.where(picture == 2, 2, 0) for picture in scene.pictures)
    masks = replace(masks_of(scene, {2: "mug"}), pictures=pictures)
    masked = drain(from_masks(scene.gaussians, masks)).result
    found = drain(from_both(scene.gaussians, scene.cameras, UP, masked)).result
    assert len(found.numbers) == 3 and found.names[2] == "mug"
    assert [name for name in found.names.values() if name == "table"]
    assert all(best(scene, found, number) > 0.93 for number in (1, 2, 3))


def test_geometry_tells_which_mask_is_the_table() -> None:
    """A mask that covers what the shapes call the table stays where it is."""
    ids = torch.tensor([5, 5, 5, 7, 7], dtype=torch.int32)
    sure = torch.full((5,), 200, dtype=torch.uint8)
    shaped = Found(torch.tensor([1, 1, 1, 2, 2]).int(), sure, {1: "table"}, {1: ObjectKind.STATIC})
    found = combined(Found(ids, sure), shaped)
    assert found.kinds[5] is ObjectKind.STATIC and found.numbers == [5, 7]


def test_masks_without_a_surface_alone_decide(build: Callable[..., Any], red: Gaussians) -> None:
    """Where geometry has nothing to say, the masks stand, and that is told."""
    scene = build((1, red))
    masked = drain(from_masks(scene.gaussians, masks_of(scene))).result
    events = list(from_both(scene.gaussians, scene.cameras, UP, masked))
    assert any(isinstance(event, Notice) and "Masks alone decide" in event.message for event in events)


def test_what_carries_all_others_is_fixed(scene: Any) -> None:
    """Of masks, the one as wide as all together is no thing to move; names say it too."""
    found = drain(from_masks(scene.gaussians, masks_of(scene, {2: "kitchen counter"}))).result
    assert found.kinds == {1: ObjectKind.STATIC, 2: ObjectKind.STATIC, 3: ObjectKind.RIGID}


def test_few_pictures_and_ids_that_never_appear(scene: Any) -> None:
    """Two pictures are told to be few; an id that no Gaussian mostly shows is named and left out."""
    few = replace(
        masks_of(scene, {9: "speck"}), frames=masks_of(scene).frames[:2], pictures=scene.pictures[:2]
    )
    few.pictures[0][0, 0] = 9
    events = list(from_masks(scene.gaussians, few))
    told = [event.message for event in events if isinstance(event, Notice)]
    few.pictures[0][0, 0] = 0
    assert any("Only 2 picture(s)" in each for each in told)
    assert any("mostly shows speck: left out" in each for each in told)


def test_masks_of_another_world(scene: Any) -> None:
    """Pictures in which no Gaussian is: nothing is found, and that is an error."""
    away = Camera.looking_at((50.0, 0.0, 0.0), (100.0, 0.0, 0.0), 192, 144)
    masks = Masks((Frame(away, torch.zeros(1, 1, 3)),), (torch.ones(144, 192).long(),))
    with pytest.raises(CaptureError, match="Gaussians that show what the masks are of, got none"):
        drain(from_masks(scene.gaussians, masks))
