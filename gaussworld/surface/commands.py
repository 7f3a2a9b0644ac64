"""The verb `gaussworld from-mesh`: Gaussians of a mesh, a URDF or a layout of solids."""

import json as json_text
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .. import io
from ..errors import ConfigError
from ..robot import load_robot
from ..robot.things import link_things
from ..session import Session
from ..shape import is_closed
from ..world import World
from ..world_object import ObjectKind
from .file import SUFFIXES, load_surface
from .layout import load_layout
from .objects import UNITLESS, UNITS, Detail, Thing, layout_things, mesh_thing, objects_of

Unit = Literal["m", "cm", "mm", "inch", "ft"]
_USUAL = Detail()


def from_mesh(
    source: Annotated[Path, tyro.conf.arg(metavar="INPUT")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    unit: Unit | None = None,
    up: Literal["y", "z"] | None = None,
    kind: Literal["STATIC", "RIGID"] = "RIGID",
    joint: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    clamp: bool = False,
    package_path: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = (),
    missing: Literal["refuse", "substitute"] = "refuse",
    force: bool = False,
    json: bool = False,
    config: Detail = _USUAL,
) -> None:
    """Make Gaussians of a mesh, a URDF or a layout of boxes.

    Args:
        source: an .obj, .stl, .glb, .gltf, .ply (textures, materials and colours are kept), a .urdf, or a
            layout (.json, .toml) of coloured boxes, cylinders, spheres, planes and meshes.
        out: a stored world to make (.world), or a file of Gaussians (.ply, .glb, .spz, ...).
        unit: length of a mesh's unit; default: metres, as glTF says and others are taken to mean.
        up: a mesh's axis against gravity; default: y for glTF, z for others. In the result z is up.
        kind: how a mesh may move.
        joint: NAME=VALUE [rad or m] of a robot's joint, once for each; others are at 0 or near it.
        clamp: take the nearest limit for joint values outside of theirs.
        package_path: a folder that holds ROS packages named by package://, once for each.
        missing: for meshes that a URDF names and that are not there: refuse, or go on with what is there.
        force: overwrite a file that exists.
        json: print JSON for programs.
        config: how many Gaussians, and their light.
    """
    if out.exists() and (not force or out.is_dir()):
        raise ConfigError(f"expected a new file or world, got {out}, which exists; choose another name")
    notes: list[str] = []
    suffix = source.suffix.lower()
    if suffix != ".urdf" and (joint or package_path):
        raise ConfigError(f"--joint and --package-path are for a .urdf, got {source}; leave them out")
    if suffix in (".urdf", ".json", ".toml") and (unit or up):
        raise ConfigError(f"--unit and --up are for meshes, got {source}, which says its own; leave them out")
    if suffix == ".urdf":
        robot = load_robot(source, package_path, missing=missing)
        notes += robot.notices
        world = _world(link_things(robot, robot.positions(joint_values(joint), clamp=clamp)), config)
    elif suffix in (".json", ".toml"):
        layout = load_layout(source)
        world = _world(layout_things(layout), config, layout.metres_per_unit)
    elif suffix in SUFFIXES:
        world = _of_mesh(source, unit, up, ObjectKind(kind), config, notes)
    else:
        wanted = ", ".join((*SUFFIXES, ".urdf", ".json", ".toml"))
        raise ConfigError(f"expected a file among {wanted}, got {source}")
    _written(world, source, out)
    _say(world, out, notes, json)


def joint_values(words: Sequence[str]) -> dict[str, float]:
    """The values of `NAME=VALUE` each.

    Raises:
        ConfigError: a word is something else, or a name comes twice.
    """
    values: dict[str, float] = {}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            value = float(text)
        except ValueError as error:
            raise ConfigError(f"--joint: expected NAME=VALUE such as elbow=0.5, got {word!r}") from error
        if not name or name in values:
            raise ConfigError(f"--joint: expected NAME=VALUE with each name once, got {word!r}")
        values[name] = value
    return values


def _of_mesh(
    source: Path, unit: Unit | None, up: str | None, kind: ObjectKind, detail: Detail, notes: list[str]
) -> World:
    surface = load_surface(source)
    suffix = source.suffix.lower()
    if unit is None and suffix in UNITLESS:
        extent = float((surface.mesh.vertices.amax(0) - surface.mesh.vertices.amin(0)).max())
        notes.append(
            f"{suffix} says nothing of its unit; taken as metres, so it is {extent:.3g} m large."
            " Say --unit mm if not."
        )
    if up is None and suffix == ".obj":
        notes.append(".obj says nothing of its axes; z is taken as up. Say --up y if it is not.")
    if not is_closed(surface.mesh):
        notes.append("The mesh is open: it is drawn from both sides, and its volume and mass stay unknown.")
    return _world([mesh_thing(source, surface, kind=kind, up=up)], detail, UNITS[unit or "m"])


def _world(things: Sequence[Thing], detail: Detail, metres_per_unit: float = 1.0) -> World:
    """A world in metres, whose spacing was meant in the unit of the things."""
    objects = {item.id: item for item in objects_of(things, detail)}
    world = World(objects, (), metres_per_unit, (0.0, 0.0, 1.0))
    return world if metres_per_unit == 1 else world.in_metres()


def _written(world: World, source: Path, out: Path) -> None:
    if out.suffix.lower() == ".world":
        Session.create(out, world, details={"from": str(source)}).close()
    elif out.suffix.lower() in io.FORMATS:
        io.save_world(world, out)
    else:
        raise ConfigError(f"expected .world or a suffix among {', '.join(io.FORMATS)}, got {out}")


def _say(world: World, out: Path, notes: Sequence[str], json: bool) -> None:
    count = sum(len(item.gaussians) for item in world.objects.values())
    facts = {"out": str(out), "objects": len(world.objects), "gaussians": count, "notes": list(notes)}
    if json:
        print(json_text.dumps(facts, indent=2))
        return
    for note in notes:
        print(note)
    print(f"Wrote {count:,} Gaussians in {len(world.objects)} object(s) to {out}.")
