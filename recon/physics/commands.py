"""The verb `physics`: volumes, masses, friction and supports of a world's objects, and their sources."""

import json as json_text
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from gaussworld.edit import Edit, SetMaterial, applied
from gaussworld.errors import ConfigError
from gaussworld.facts import finite
from gaussworld.io import holds_world
from gaussworld.session import Session
from gaussworld.store.tables import table
from gaussworld.substances import SUBSTANCES, category_named
from gaussworld.support import physical_edits
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID

from ..run import Run

Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="OBJECT=VALUE")]


def physics(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    /,
    *,
    category: Pairs = (),
    mass: Pairs = (),
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Work out what objects weigh, how they slide and what they rest on, and keep it in the world.

    Volumes and centres of mass come from shapes (`gaussworld mesh` makes them), filled evenly: what is hollow
    comes out too heavy, unless --mass says better. Densities and friction come from categories. Numbers that
    somebody measured, identified or set are kept.

    Args:
        world: the world's folder, or that of a run.
        category: what objects are made of, by name or id, such as mug=ceramic 3=wood.
        mass: [kg] what a scale said, such as mug=0.35; becomes a measured density.
        dry_run: show what it would be, and change nothing.
        json: print JSON for programs.
    """
    world = Run(world).world if holds_world(Run(world).world) else world
    with Session(world, read_only=True if dry_run else None) as session:
        after, before, count = session.world, session.revision, 0
        for each in planned(session.world, _pairs(category, "--category"), _pairs(mass, "--mass")):
            if not dry_run:
                session.do(each)
            after, count = applied(each, after), count + 1
        rows = physical_rows(after)
        facts = {"world": str(world), "revision": session.revision, "up": after.up, "objects": rows}
    if json:
        print(json_text.dumps(finite(facts), indent=2, allow_nan=False))
        return
    print(table([_for_people(row) for row in rows]) or "Nothing here: no objects.")
    for line in _remarks(after, rows):
        print(line)
    kept = "" if dry_run or facts["revision"] == before else f", kept as revision {facts['revision']}"
    print(f"{count} change(s){' not made' if dry_run else kept}.")


def planned(world: World, categories: Mapping[str, str], masses: Mapping[str, str]) -> list[Edit]:
    """Edits for what was said and what shapes and categories tell, in order.

    Raises:
        ConfigError: no such object or category, a mass that is no positive number or has no volume.
    """
    named = {_found(world, name, "--category"): _category(word) for name, word in categories.items()}
    edits = physical_edits(world, named)
    for each in edits:
        world = applied(each, world)
    for name, text in masses.items():
        number = _found(world, name, "--mass")
        kilograms, volume = _positive(text, name), world.objects[number].material.volume
        if volume is None or world.metres_per_unit is None:
            lacking = "shape: run `gaussworld mesh` first" if volume is None else "scale: set it first"
            raise ConfigError(f"--mass {name}: expected an object of known volume, got one without {lacking}")
        density = kilograms / (volume * world.metres_per_unit**3)
        edits.append(SetMaterial((number,), {"density": density}, source="measured"))
    return edits


def physical_rows(world: World) -> list[dict[str, Any]]:
    """What is known about every object, for a table: numbers in metres and kilograms, None where unknown."""
    rows, metre = [], world.metres_per_unit
    for number, item in world.objects.items():
        material = item.material
        cubic = None if material.volume is None or metre is None else material.volume * metre**3
        center = material.center_of_mass
        usual = SUBSTANCES.get(material.category) if material.sources["density"] == "category" else None
        rows.append(
            {
                "id": number,
                "object": item.name,
                "kind": item.kind.value,
                "category": material.category or None,
                "volume": cubic,
                "density": material.density,
                "mass": None if cubic is None else cubic * material.density,
                "mass_range": [cubic * each for each in usual.densities] if usual and cubic else None,
                "center_of_mass": center and metre and [value * metre for value in center],
                "friction": material.friction,
                "rests_on": None if item.supported_by is None else [*item.supported_by],
                "sources": dict(material.sources),
            }
        )
    return rows


def _for_people(row: Mapping[str, Any]) -> dict[str, Any]:
    center, sources = row["center_of_mass"], row["sources"]
    below = row["rests_on"]
    return {
        "id": row["id"],
        "object": row["object"],
        "category": row["category"],
        "volume": _cell(row["volume"], lambda value: f"{value * 1e6:,.1f} cm3"),
        "mass": _cell(row["mass"], lambda value: f"{value:.3g} kg"),
        "usual": _cell(row["mass_range"], lambda ends: f"{ends[0]:.2g}-{ends[1]:.2g} kg"),
        "center of mass": _cell(center, lambda at: " ".join(f"{value:.3f}" for value in at) + " m"),
        "friction": f"{row['friction']:.2f}",
        "rests on": "?" if below is None else " ".join(map(str, below)) or "nothing",
        "volume, density, friction from": ", ".join(
            sources[name] for name in ("volume", "density", "friction")
        ),
    }


def _cell(value: Any, text: Callable[[Any], str]) -> str | None:
    return None if value is None else text(value)


def _remarks(world: World, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What would help, and what not to trust."""
    lines = []
    if any(row["mass_range"] for row in rows):
        lines.append("Masses take things for solid: weigh what is hollow, and say --mass NAME=KG.")
    if any(row["mass"] and row["sources"]["density"] == "default" for row in rows):
        lines.append("A density from default is a guess: say what things are made of, --category NAME=wood.")
    if (
        any(row["volume"] is None and row["id"] != BACKGROUND_ID for row in rows)
        and world.metres_per_unit is not None
    ):
        lines.append("Objects without a volume have no shape yet: gaussworld mesh makes them.")
    if world.metres_per_unit is None:
        lines.append("The scale is not known, and so no mass: gaussworld world edit W set-scale.")
    if world.up is None:
        lines.append(
            "Nobody knows which way is up, and so what rests on what: gaussworld world edit W set-up."
        )
    return lines


def _pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, sign, value = text.rpartition("=")
        if not sign or not name or not value:
            raise ConfigError(f"{flag}: expected OBJECT=VALUE, such as mug=ceramic, got {text!r}")
        found[name] = value
    return found


def _found(world: World, name: str, flag: str) -> int:
    numbered = name.isascii() and name.isdigit() and int(name) in world.objects
    try:
        return world.find(int(name) if numbered else name).id
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from error


def _category(word: str) -> str:
    try:
        return category_named(word)
    except ValueError as error:
        raise ConfigError(f"--category: {error}") from error


def _positive(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"--mass {name}: expected kilograms above 0, got {text!r}")
    return value
