"""Pictures of a copy with their labels: colour, depth, ids and normals of every camera, and boxes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.io import save_cameras
from gaussworld.io.images import write_depth, write_image
from gaussworld.world import World

from ..control.channels import normal_picture, seen, write_ids

#: What lies where, for whoever reads labels.json.
LAYOUT = {
    "images": "8-bit sRGB",
    "depth": "16-bit z-depth in mm (thousandths of the world's unit if the scale is unknown); 0: nothing",
    "ids": "16-bit object id; 0: background, or nothing",
    "normals": "(n + 1) / 2 in the camera's frame, x right, y up, z to the viewer; nothing: 128 128 255",
    "transforms.json": "cameras, as nerfstudio has them",
}


def write_pictures(world: World, cameras: Sequence[Camera], folder: Path) -> Iterator[dict[str, Any]]:
    """Draw a world from cameras, in the layout of a simulated capture; gives the labels of each picture.

    Raises:
        GaussWorldError: the file system refuses.
    """
    shown, frames = world.shown(), []
    metre = world.metres_per_unit or 1.0
    for i, camera in enumerate(cameras):
        view = seen(shown, camera)
        image, depth = folder / "images" / f"{i:04d}.png", folder / "depth" / f"{i:04d}.png"
        write_image(image, view.rgb)
        write_depth(depth, view.depth * metre)
        write_ids(folder / "ids" / f"{i:04d}.png", view.ids)
        write_image(folder / "normals" / f"{i:04d}.png", normal_picture(view.normals))
        frames.append(Frame(camera, image, depth=depth))
        yield {"picture": f"{i:04d}.png", "objects": visible(view.ids)}
    capture = Capture(tuple(frames), metres_per_unit=world.metres_per_unit)
    save_cameras(capture, folder / "transforms.json")


def visible(ids: Int[Tensor, "h w"]) -> list[dict[str, Any]]:
    """For every object its pixels, and the box around them: left, top, and right, bottom just outside."""
    found = []
    for number in ids.unique().tolist():
        if number == 0:
            continue
        rows, columns = (ids == number).nonzero().unbind(1)
        box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        found.append({"id": number, "pixels": len(rows), "box": box})
    return found
