"""From Gaussians to a world of things: objects by their geometry, their shapes, masses and supports."""

from collections.abc import Iterator
from pathlib import Path

from gaussworld import edit
from gaussworld.errors import GaussWorldError
from gaussworld.log import Done, Event, Notice, part
from gaussworld.support import physical_edits
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

from .mesh.shapes import shapes
from .objects.finding import MaskSource, RobotSource, finding
from .objects.found import segment_edit


def with_things(world: World, path: Path, masks: Path | None = None) -> Iterator[Event[World]]:
    """What `gaussworld objects`, `mesh` and `physics` do one after the other, on a world not yet stored.

    Where nothing stands on anything, the world stays as it is, with a notice that says so.

    Args:
        world: with its cameras.
        path: where it will be, in the folder of its run if there are masks.
        masks: a folder of id pictures of the objects, as `gaussworld objects --masks` takes it; by default
            they are found by geometry.
    """
    if masks is not None:
        # What the user gave must not be passed over in silence.
        yield Done((yield from part(_made(world, path, masks), "Things")))
        return
    try:
        made = yield from part(_made(world, path, None), "Things")
    except (GaussWorldError, ValueError) as error:
        yield Notice(f"The world stays in one piece: {error}. `gaussworld objects` takes masks, too.")
        made = world
    yield Done(made)


def _made(world: World, path: Path, masks: Path | None) -> Iterator[Event[World]]:
    way = "geometry" if masks is None else "masks"
    search = finding(path, world, way, MaskSource(masks), RobotSource())
    found = yield from part(search, "Objects")
    world = edit.applied(segment_edit(world, world.posed(), found), world)
    made = yield from part(shapes(world), "Shapes")
    for number, shape in made.items():
        world = edit.applied(edit.SetShape(number, shape), world)
    for each in physical_edits(world, {}):
        world = edit.applied(each, world)
    names = [item.name for item in world.objects.values() if item.kind is ObjectKind.RIGID]
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    yield Notice(
        f"The world holds {len(names)} thing(s) that can be moved: {listed}. See `gaussworld world list`."
    )
    yield Done(world)
