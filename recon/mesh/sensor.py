"""What a depth sensor measured, as depth views in a world's frame."""

from gaussworld.capture import Capture
from gaussworld.world import World

from ..frames import load_view
from .cameras import spread_over
from .depth import DepthView


def measured_views(capture: Capture, world: World, count: int, pixels: int) -> list[DepthView]:
    """Depth and colour of a capture's frames that have depth.

    Args:
        capture: in the world's frame, as that of a run is.
        world: tells the unit.
        count: frames at most.
        pixels: [px] longer side at most.
    """
    frames = spread_over([frame for frame in capture.frames if frame.depth is not None], count)
    views = []
    for frame in frames:
        view = load_view(frame, pixels, world.metres_per_unit)
        if view.depth is not None and bool((view.depth > 0).any()):
            views.append(DepthView(view.camera, view.depth, view.image, (view.depth > 0).float()))
    return views
