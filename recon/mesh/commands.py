"""The verb `mesh`: shapes of a world's objects, committed to it, and files of them and of the whole scene."""

import json as json_text
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gaussworld import edit
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.io import holds_world, load_capture, load_world
from gaussworld.io.bodies import unique_names
from gaussworld.io.mesh_file import save_mesh
from gaussworld.io.mjcf import save_mjcf
from gaussworld.io.urdf import save_urdf
from gaussworld.log import follow
from gaussworld.session import Session
from gaussworld.shape import Shape, is_closed, joined
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID

from ..run import Run
from .sensor import measured_views
from .shapes import MeshSettings, scene_mesh, shapes

Suffix = Literal["ply", "obj", "stl", "glb"]
_DEFAULT = MeshSettings()


def mesh(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    /,
    *,
    objects: tuple[str, ...] = (),
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    format: Suffix = "ply",
    scene: bool = True,
    mjcf: bool = False,
    urdf: bool = False,
    depth: Literal["gaussians", "sensor", "both"] = "gaussians",
    json: bool = False,
    config: MeshSettings = _DEFAULT,
) -> None:
    """Make meshes and convex collision shapes of a world's objects, and keep them in the world.

    A stored world, also that of a run folder, gets a shape for each object, one revision an object, which
    `gaussworld world undo` takes back. With --out, files are written too, in the world's frame and unit: a
    mesh of the whole scene, one of each object, and on request a MuJoCo model and a URDF in metres.

    Args:
        world: a stored world, a run folder, or a file of Gaussians, of which only files are made.
        objects: names or ids; default: all that have no shape yet but the background. Those that are named
            are made anew, and lose the mesh of their file if they came from one.
        out: a folder for files.
        format: of the meshes in it.
        scene: write the mesh of the whole scene as well.
        mjcf: write scene.xml for MuJoCo as well.
        urdf: write scene.urdf as well, and one file for each assembly.
        depth: what the scene's mesh is fused from; sensor needs a run whose capture has depth.
        json: print JSON for programs.
        config: how fine.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out: expected a folder, got the file {out}; name another place")
    if out is None and (mjcf or urdf):
        raise ConfigError("expected --out FOLDER with --mjcf and --urdf, got none")
    if depth != "gaussians" and out is None:
        raise ConfigError(f"--depth {depth}: expected --out FOLDER for the scene's mesh, got none")
    stored = next((path for path in (world, Run(world).world) if holds_world(path)), None)
    if stored is None:
        if out is None:
            raise ConfigError(
                f"expected a stored world or --out FOLDER, got {world}, which can keep no shapes; make a"
                f" world: gaussworld world create NEW.world --from {world}"
            )
        shown, revision = _shaped(load_world(world), objects, config), None
    else:
        shown, revision = _committed(stored, objects, config)
    files = [] if out is None else _files(world, shown, out, format, scene, depth, config)
    if out is not None and mjcf:
        files.append(save_mjcf(shown, out))
    if out is not None and urdf:
        files.append(save_urdf(shown, out))
    rows = _rows(shown, _chosen(shown, objects) if objects else _listed(shown))
    if json:
        facts = {"revision": revision, "objects": rows, "files": [str(path) for path in files]}
        print(json_text.dumps(facts, indent=2))
        return
    print(_table(rows, shown.metres_per_unit))
    if revision is not None:
        print(f"\nRevision {revision} of {stored}. gaussworld world undo {stored} takes a shape back.")
    for path in files:
        print(f"  {path}")


def _committed(path: Path, objects: Sequence[str], config: MeshSettings) -> tuple[World, int]:
    """The stored world with shapes, and its revision."""
    with Session(path) as session:
        chosen = _chosen(session.world, objects)
        if locked := [session.world.objects[i].name for i in chosen if session.world.objects[i].locked]:
            raise ConfigError(
                f"expected objects that are not locked, got {', '.join(locked)}; unlock them, or name others"
                " with --objects"
            )
        made = follow(shapes(session.world, chosen, config), "Shapes").result if chosen else {}
        for number, shape in made.items():
            session.do(edit.SetShape(number, shape))
        return session.world, session.revision


def _shaped(world: World, objects: Sequence[str], config: MeshSettings) -> World:
    chosen = _chosen(world, objects)
    made = follow(shapes(world, chosen, config), "Shapes").result if chosen else {}
    for number, shape in made.items():
        world = edit.applied(edit.SetShape(number, shape), world)
    return world


def _chosen(world: World, objects: Sequence[str]) -> list[int]:
    """Ids of what was named; of all that is shown and has no shape but the background, where nothing was."""
    if not objects:
        return [i for i in _listed(world) if world.objects[i].shape is None]
    try:
        return [world.find(int(name) if name.isdigit() else name).id for name in objects]
    except ValueError as error:
        raise ConfigError(f"--objects: {error}") from error


def _listed(world: World) -> list[int]:
    """Ids of all that is shown but the background."""
    return [i for i, item in world.objects.items() if i != BACKGROUND_ID and not item.hidden]


def _files(
    source: Path, world: World, out: Path, suffix: str, scene: bool, depth: str, config: MeshSettings
) -> list[Path]:
    written = []
    if scene:
        views = _measured(source, world, config) if depth != "gaussians" else []
        whole = follow(scene_mesh(world, config, views, depth != "sensor"), "Scene mesh").result
        if not len(whole.faces):
            raise ConfigError(f"{source}: expected surfaces to mesh, got none; look at it: gaussworld render")
        written.append(out / f"scene.{suffix}")
        save_mesh(whole, written[-1])
    shaped = [item for item in world.objects.values() if item.shape is not None]
    for item, name in zip(shaped, unique_names(item.name for item in shaped)):
        assert item.shape is not None
        placed = item.shape.transformed(item.world_from_object)
        written.append(out / "objects" / f"{name}.{suffix}")
        save_mesh(placed.mesh, written[-1])
        if placed.parts:
            written.append(out / "objects" / f"{name}_convex.{suffix}")
            save_mesh(joined([replace(part, colors=None) for part in placed.parts]), written[-1])
    return written


def _measured(source: Path, world: World, config: MeshSettings) -> list[Any]:
    """Depth views of the sensor of a run's capture."""
    try:
        capture = load_capture(source)
    except CaptureError as error:
        raise ConfigError(f"--depth: expected a run with its pictures, got {source} ({error})") from error
    views = measured_views(capture, world, config.views, config.scene_pixels)
    if not views:
        raise ConfigError(
            f"--depth: expected a capture with measured depth, got {source} without; use --depth gaussians"
        )
    return views


def _rows(world: World, chosen: Sequence[int]) -> list[dict[str, Any]]:
    return [_row(world.objects[i].name, world.objects[i].shape, world) for i in chosen]


def _row(name: str, shape: Shape | None, world: World) -> dict[str, Any]:
    if shape is None:
        return {"name": name, "faces": 0, "parts": 0, "closed": False, "volume": None}
    scale = world.metres_per_unit or 1.0
    facts = {"faces": len(shape.mesh.faces), "parts": len(shape.parts), "closed": is_closed(shape.mesh)}
    return {"name": name, **facts, "volume": float(f"{shape.volume * scale**3:.6g}")}


def _table(rows: list[dict[str, Any]], metres_per_unit: float | None) -> str:
    from gaussworld.store.tables import table

    if not rows:
        return "No objects: everything is background. Find them: gaussworld objects WORLD"
    litres = metres_per_unit is not None
    shown = [
        {
            "object": row["name"],
            "faces": row["faces"],
            "convex parts": row["parts"],
            "closed": "yes" if row["closed"] else "no",
            "volume": "-" if row["volume"] is None else _volume(row["volume"], litres),
        }
        for row in rows
    ]
    return table(shown)


def _volume(value: float, litres: bool) -> str:
    return f"{value * 1000:.3g} L" if litres else f"{value:.3g} units^3"
