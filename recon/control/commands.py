"""The verb `control`: depth, normal, edge and segmentation videos that steer video models."""

import json as json_text
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gaussworld.io import holds_world, load_world
from gaussworld.log import follow

from ..run import Run
from .clips import CONTROLS, CONVENTIONS, ControlConfig, control_clips
from .path import camera_path

_DEFAULT = ControlConfig()
Kind = Literal["rgb", "depth", "normal", "edge", "segmentation"]


def control(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    control: tuple[Kind, ...] = CONTROLS,
    path: str = "turntable",
    frames: int | None = None,
    fps: float = 24.0,
    width: int | None = None,
    height: int | None = None,
    json: bool = False,
    config: ControlConfig = _DEFAULT,
) -> None:
    """Draw videos of a world that steer video models: rgb, depth, normal, edge, segmentation.

    All clips show the same frames. Depth is inverse, 8-bit, in one range for all of them; edges are Canny's
    on the picture; segmentation has one colour for each object; normals are in the camera's frame. What each
    means is in control.json, the cameras are in transforms.json.

    Args:
        world: the world's folder, a run, or a file of Gaussians.
        out: a new folder for the videos.
        control: which kinds; default: all.
        path: turntable, tour (where the world's cameras were), or a file or folder with cameras, in order.
        frames: how many; default: 120, or as many as the file has cameras.
        fps: frames per second.
        width: [px] default: the cameras', at most 640.
        height: [px] default: as the width and the cameras' shape have it.
        json: print JSON for programs.
        config: how they are drawn.
    """
    # The world of a run has its objects, which the run's file of Gaussians has not.
    loaded = load_world(Run(world).world if holds_world(Run(world).world) else world)
    cameras = camera_path(loaded, path, frames, width, height)
    result = follow(control_clips(loaded, cameras, out, control, fps, config), "Drawing").result
    if json:
        names = [file.name for file in result.files]
        print(json_text.dumps({"folder": str(out), "files": names, "frames": result.frames}, indent=2))
        return
    size = f"{cameras[0].width}x{cameras[0].height}"
    print(f"Wrote {result.frames} frames of {size} at {fps:g} a second:")
    for file in result.files:
        print(f"  {file}")
    print(f"  {out / CONVENTIONS}  what each means")
