"""The verb `export`: a world as folders of files that other programs open."""

import json as json_text
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .. import io
from ..errors import ConfigError
from ..world import World
from ..world_object import ObjectKind
from .mjcf import save_mjcf
from .nerfstudio.commands import export_dataset
from .urdf import save_urdf

_RUN_WORLD = "scene.world"
#: What writes a world with shapes into a folder, and what opens it there.
_SIMULATORS: dict[str, tuple[Callable[[World, Path], Path], str]] = {
    "mjcf": (save_mjcf, "MuJoCo: mujoco.MjModel.from_xml_path, or `python -m mujoco.viewer --mjcf`"),
    "urdf": (save_urdf, "yourdfpy, PyBullet, Isaac and others"),
}


def export(
    source: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    folder: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    format: Literal["mjcf", "urdf", "nerfstudio"],
    depth: bool = False,
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a world as a folder for simulators, in metres and with +z up, or for nerfstudio.

    Single files (.usd, .glb, .ply, ...) are `gaussworld convert`'s: USD has colliders, masses and joints too.

    Args:
        source: a stored world, or a file that keeps objects; for nerfstudio a run folder or a capture too.
        folder: the folder to make.
        format: mjcf and urdf need shapes, which `gaussworld mesh` makes.
        depth: with nerfstudio, write depth maps.
        force: write into a folder that holds something; files of the same names are replaced.
        json: print JSON for programs.
    """
    if depth and format != "nerfstudio":
        raise ConfigError(f"--depth: expected with --format nerfstudio, got {format}; leave it out")
    if folder.suffix.lower() in io.WORLD_FORMATS:
        raise ConfigError(
            f"expected a folder to make, got {folder}; files are written by `gaussworld convert`"
        )
    if not force and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"expected a new folder, got {folder}, which holds something; add --force")
    if format == "nerfstudio":
        return export_dataset(source, folder, depth=depth, json=json)
    save, opens = _SIMULATORS[format]
    # A run keeps the objects in its world, not in scene.ply.
    world = io.load_world(source / _RUN_WORLD if io.holds_world(source / _RUN_WORLD) else source)
    made = save(world, folder)
    count = len(world.objects)
    loose = [i for i in world.objects.values() if i.kind is ObjectKind.RIGID and i.supported_by == ()]
    robots = any(item.kind is ObjectKind.ROBOT for item in world.objects.values())
    facts = {"file": str(made), "objects": count}
    print(json_text.dumps(facts, indent=2) if json else f"Wrote {made}: {count} object(s), for {opens}.")
    if loose and not json:
        names = ", ".join(item.name for item in loose[:8])
        print(f"Rests on nothing and will fall: {names}. What is held or fixed is `set-kind` static.")
    if robots and not json:
        where = "keyframe home" if format == "mjcf" else "positions.json"
        print(f"Robots stand as in the world at {where}; without it their joints go to zero.")
