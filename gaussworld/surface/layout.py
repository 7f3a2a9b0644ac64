"""Layouts: JSON or TOML files that list coloured boxes, cylinders, spheres, planes and meshes.

A layout is a table with `objects`, a list, and perhaps `up` ("z" or "y") and `metres_per_unit` (1 if absent):

    {"objects": [
        {"name": "table", "shape": "box", "size": [1.2, 0.8, 0.04], "position": [0, 0, -0.02],
         "color": "#b08050", "kind": "STATIC"},
        {"shape": "cylinder", "radius": 0.04, "length": 0.1, "position": [0.2, 0, 0.05],
         "color": [0.9, 0.2, 0.1], "mass": 0.3},
        {"shape": "sphere", "radius": 0.03, "position": [0, 0.1, 0.03]},
        {"shape": "plane", "size": [4, 4]},
        {"shape": "mesh", "path": "mug.obj", "scale": 0.001, "rotation": [1, 0, 0, 0]}]}

Of an object only its shape and sizes must be given. position: its middle (of a mesh: its origin). rotation:
wxyz; or rotation_deg: about x, then y, then z. color: "#rrggbb", or 3 numbers in [0, 1]. kind: STATIC, which
planes are by default, or RIGID. mass in kg.
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..pose import pose_from, rotation_from_quats, rotation_from_rotvec
from ..world_object import ObjectKind, Vector
from .file import load_surface
from .painted import GREY, Surface
from .solids import box, cylinder, plane, sphere

#: Shape -> its sizes, each with how many numbers.
_SIZES: dict[str, dict[str, int]] = {
    "box": {"size": 3},
    "cylinder": {"radius": 1, "length": 1},
    "sphere": {"radius": 1},
    "plane": {"size": 2},
    "mesh": {},
}
_KEYS = {"name", "shape", "position", "rotation", "rotation_deg", "color", "kind", "mass", "path", "scale"}


@dataclass(frozen=True, eq=False)
class Placed:
    """One thing of a layout."""

    name: str
    surface: Surface
    """In its own frame."""
    world_from_object: Float[Tensor, "4 4"]
    kind: ObjectKind
    mass: float | None
    """[kg]"""
    convex: bool
    """Whether it is a solid that simulators take as it is."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Things where they shall be."""

    things: tuple[Placed, ...]
    metres_per_unit: float = 1.0
    up: str = "z"


def load_layout(path: Path | str) -> Layout:
    """Read a layout; this module's docstring says what is in one.

    Raises:
        FileFormatError: no such file, broken JSON or TOML, an unknown key, or a value out of its range; the
            message names the object and the key.
    """
    path = Path(path)
    table = _table(path)
    if unknown := set(table) - {"objects", "metres_per_unit", "up"}:
        raise FileFormatError(
            f"{path}: expected keys among objects, metres_per_unit, up, got {', '.join(sorted(unknown))}"
        )
    items = table.get("objects")
    if not isinstance(items, list) or not items:
        raise FileFormatError(f'{path}: expected "objects", a list of at least one, got {items!r:.80}')
    unit, up = table.get("metres_per_unit", 1.0), table.get("up", "z")
    if up not in ("y", "z"):
        raise FileFormatError(f'{path}: up: expected "y" or "z", got {up!r:.40}')
    (scale,) = _numbers(unit, 1, f"{path}: metres_per_unit", positive=True)
    return Layout(tuple(_placed(each, row, path) for row, each in enumerate(items)), scale, up)


def _table(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileFormatError(f"{path}: expected a layout, got no such file")
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected a layout, got a broken file ({error!s:.120})") from error
    if not isinstance(table, Mapping):
        raise FileFormatError(f'{path}: expected a table with "objects", got {table!r:.80}')
    return table


def _placed(item: Any, row: int, path: Path) -> Placed:
    where = f"{path}: object {row}"
    if not isinstance(item, Mapping):
        raise FileFormatError(f"{where}: expected a table, got {item!r:.80}")
    shape = item.get("shape")
    if shape not in _SIZES:
        raise FileFormatError(f"{where}: shape: expected one of {', '.join(_SIZES)}, got {shape!r:.40}")
    allowed = (_KEYS if shape == "mesh" else _KEYS - {"path", "scale"}) | set(_SIZES[shape])
    if unknown := set(item) - allowed:
        wanted, got = ", ".join(sorted(allowed)), ", ".join(sorted(map(str, unknown)))
        raise FileFormatError(f"{where}: expected keys of a {shape} among {wanted}, got {got}")
    surface = _mesh(item, path, where) if shape == "mesh" else _solid(item, shape, where)
    if "color" in item:
        surface = surface.tinted(_color(item["color"], f"{where}: color"))
    name = item.get("name", f"{shape} {row + 1}")
    if not isinstance(name, str) or not name.strip():
        raise FileFormatError(f"{where}: name: expected a text, got {name!r:.40}")
    mass = None
    if "mass" in item:
        (mass,) = _numbers(item["mass"], 1, f"{where}: mass", positive=True)
    return Placed(
        name.strip(),
        surface,
        _pose(item, where),
        _kind(item, shape, where),
        mass,
        shape in ("box", "cylinder", "sphere"),
    )


def _solid(item: Mapping[str, Any], shape: str, where: str) -> Surface:
    sizes: list[float] = []
    for key, count in _SIZES[shape].items():
        sizes += _numbers(item.get(key), count, f"{where}: {key}", positive=True)
    if shape == "box":
        return box((sizes[0], sizes[1], sizes[2]))
    made = {"cylinder": cylinder, "sphere": sphere, "plane": plane}[shape](*sizes)
    return made.tinted(GREY)


def _mesh(item: Mapping[str, Any], path: Path, where: str) -> Surface:
    name = item.get("path")
    if not isinstance(name, str):
        raise FileFormatError(f"{where}: path: expected the path of a mesh file, got {name!r:.80}")
    (scale,) = _numbers(item.get("scale", 1.0), 1, f"{where}: scale", positive=True)
    return load_surface(path.parent / name, scale)


def _pose(item: Mapping[str, Any], where: str) -> Float[Tensor, "4 4"]:
    position = torch.tensor(_numbers(item.get("position", [0, 0, 0]), 3, f"{where}: position"))
    rotation = torch.eye(3)
    if "rotation" in item and "rotation_deg" in item:
        raise FileFormatError(f"{where}: expected rotation or rotation_deg, got both; leave one out")
    if "rotation" in item:
        quaternion = torch.tensor(_numbers(item["rotation"], 4, f"{where}: rotation"))
        if not bool(quaternion.any()):
            raise FileFormatError(f"{where}: rotation: expected a quaternion wxyz, got zeros")
        rotation = rotation_from_quats(quaternion)
    for axis, degrees in enumerate(
        _numbers(item.get("rotation_deg", [0, 0, 0]), 3, f"{where}: rotation_deg")
    ):
        rotation = rotation_from_rotvec(torch.eye(3)[axis] * math.radians(degrees)) @ rotation
    return pose_from(rotation, position)


def _kind(item: Mapping[str, Any], shape: str, where: str) -> ObjectKind:
    usual = "STATIC" if shape == "plane" else "RIGID"
    kind = item.get("kind", usual)
    if kind not in ("STATIC", "RIGID"):
        raise FileFormatError(f"{where}: kind: expected STATIC or RIGID, got {kind!r:.40}")
    return ObjectKind(kind)


def _color(value: Any, where: str) -> Vector:
    if isinstance(value, str):
        digits = value.removeprefix("#")
        try:
            r, g, b = bytes.fromhex(digits)
        except ValueError as error:
            raise FileFormatError(
                f'{where}: expected "#rrggbb" or 3 numbers in [0, 1], got {value!r:.40}'
            ) from error
        return r / 255, g / 255, b / 255
    r, g, b = _numbers(value, 3, where)
    if not (0 <= min(r, g, b) and max(r, g, b) <= 1):
        raise FileFormatError(f"{where}: expected numbers in [0, 1], got {value}")
    return r, g, b


def _numbers(value: Any, count: int, where: str, positive: bool = False) -> list[float]:
    values = value if isinstance(value, list | tuple) else [value]
    good = len(values) == count and all(
        isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each)
        for each in values
    )
    if not good or (positive and not min(values) > 0):
        wanted = f"{'positive ' if positive else ''}number{'s' if count > 1 else ''}"
        raise FileFormatError(f"{where}: expected {count} {wanted}, got {value!r:.80}")
    return [float(each) for each in values]
