"""Edits as JSON and back, for histories and for programs that are not Python."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jaxtyping import AbstractArray
from torch import Tensor

from .. import io
from ..camera import Camera
from ..camera_record import camera_from_record, camera_record
from ..errors import EditError, GaussWorldError
from ..gaussians import Gaussians
from ..io.mesh_file import load_mesh
from ..shape import Shape
from ..world import World
from . import EDITS, Edit
from .rows import Rows

#: A history says of more ranges of rows than this only how many Gaussians they are.
_MOST_RANGES = 1000

#: Turns a file's path into Gaussians; None where files are not welcome.
Load = Callable[[Path], Gaussians]


#: Fields that hold ids of objects, alone or in a list.
_IDS = ("objects", "object_id", "parent", "supported_by")


def with_ids(plain: Mapping[str, Any], world: World) -> dict[str, Any]:
    """The fields with ids in the place of names of objects, such as {"objects": ["mug"]}.

    Raises:
        EditError: no object has such a name, or several have.
    """

    def id_of(value: Any) -> Any:
        if isinstance(value, list):
            return [id_of(each) for each in value]
        if not isinstance(value, str):
            return value
        try:
            return world.find(value).id
        except ValueError as error:
            raise EditError(str(error)) from error

    found = {}
    for key, value in plain.items():
        inner = with_ids(value, world) if isinstance(value, Mapping) else value
        found[key] = id_of(value) if key in _IDS else inner
    return found


def to_plain(edit: Edit) -> dict[str, Any]:
    """An edit's fields as JSON values, for a history; what is too large for one is told by its size.

    Raises:
        EditError: a number is NaN or infinite.
    """
    plain = _plain_fields(edit)
    try:
        json.dumps(plain, allow_nan=False)
    except ValueError as error:
        raise EditError(f"{edit.name}: expected finite numbers, got NaN or infinity") from error
    return plain


def from_plain(name: str, plain: Mapping[str, Any], load: Load | None = io.load) -> Edit:
    """The edit of a name with these fields.

    Args:
        name: a key of `EDITS`.
        plain: its fields as JSON values; Gaussians are the path of a splat file.
        load: reads such a file; None refuses them all.

    Raises:
        EditError: no such edit, a field that it has not or lacks, or a value of another type.
    """
    if name not in EDITS:
        raise EditError(f"expected an edit among {', '.join(sorted(EDITS))}, got {name!r:.80}")
    if load is None and getattr(EDITS[name], "reads_files", False):
        raise EditError(f"{name}: expected an edit that reads no file, got {str(plain.get('path'))!r:.80}")
    try:
        return _built(EDITS[name], plain, name, load)
    except GaussWorldError as error:
        raise EditError(str(error)) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise EditError(f"{error}") from error


def _plain_fields(value: Any) -> dict[str, Any]:
    named = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: _plain(each) for name, each in named.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Rows):
        ranges = sum(map(len, value.ranges.values()))
        return value.to_plain() if ranges <= _MOST_RANGES else {"count": len(value)}
    if isinstance(value, Gaussians | Tensor):
        return {"count": len(value)}
    if isinstance(value, Shape):
        return {"faces": len(value.mesh.faces), "parts": len(value.parts)}
    if isinstance(value, Camera):
        return camera_record(value)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    # Numbers of numpy and torch.
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def _built(wanted: Any, value: Any, where: str, load: Load | None) -> Any:
    """A value of a type, from JSON.

    Raises:
        ValueError: it is something else; the message says where.
    """
    origin, parts = get_origin(wanted), get_args(wanted)
    if wanted is Rows:
        return Rows.from_plain(value)
    if wanted is Camera:
        return camera_from_record(_table(value, where))
    if wanted is Gaussians:
        return _loaded(value, where, load)
    if wanted is Shape:
        return _shape(value, where, load)
    if isinstance(wanted, type) and issubclass(wanted, AbstractArray):
        raise ValueError(f"{where}: expected an edit made in Python, got {value!r:.80}; tensors are no JSON")
    if is_dataclass(wanted):
        return _dataclass(wanted, _table(value, where), where, load)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        names = [each.value for each in wanted]
        return wanted(_one_of(value.upper() if isinstance(value, str) else value, names, where))
    if origin is Literal:
        return _one_of(value, list(parts), where)
    if origin in (Union, UnionType):
        return _union(parts, value, where, load)
    if origin is tuple:
        return _tuple(parts, value, where, load)
    if origin is not None and issubclass(origin, Mapping):
        return {
            key: _built(parts[1], each, f"{where}.{key}", load) for key, each in _table(value, where).items()
        }
    return _scalar(wanted, value, where)


def _dataclass(kind: Any, table: Mapping[str, Any], where: str, load: Load | None) -> Any:
    known = {field.name: field for field in fields(kind)}
    if unknown := set(table) - set(known):
        wanted, got = ", ".join(known), ", ".join(sorted(map(str, unknown)))
        raise ValueError(f"{where}: expected fields among {wanted}, got {got[:200]}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"{where}: expected {', '.join(needed)}, got none for {', '.join(missing)}")
    return kind(**{n: _built(known[n].type, each, f"{where}.{n}", load) for n, each in table.items()})


def _union(parts: tuple[Any, ...], value: Any, where: str, load: Load | None) -> Any:
    """The first of several types that fits; dataclasses are told apart by their fields."""
    if value is None and NoneType in parts:
        return None
    rest = [part for part in parts if part is not NoneType]
    reasons = []
    for part in rest:
        try:
            return _built(part, value, where, load)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError("; or ".join(reasons))


def _tuple(parts: tuple[Any, ...], value: Any, where: str, load: Load | None) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: expected a list, got {value!r:.80}")
    if len(parts) == 2 and parts[1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(value) != len(parts):
        raise ValueError(f"{where}: expected {len(parts)} values, got {len(value)}")
    return tuple(
        _built(part, each, f"{where}[{i}]", load) for i, (part, each) in enumerate(zip(parts, value))
    )


def _scalar(wanted: Any, value: Any, where: str) -> Any:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # A bool is an int to Python, but not to anybody else.
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"{where}: expected {_NAMES.get(wanted, wanted)}, got {value!r:.80}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value}")
    return value


def _one_of(value: Any, names: list[Any], where: str) -> Any:
    if value not in names:
        raise ValueError(f"{where}: expected one of {', '.join(map(str, names))}, got {value!r:.80}")
    return value


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected an object, got {value!r:.80}")
    return value


def _loaded(value: Any, where: str, load: Load | None) -> Gaussians:
    if not isinstance(value, str) or load is None:
        wanted = "the path of a splat file" if load else "no file"
        raise ValueError(f"{where}: expected {wanted}, got {value!r:.80}")
    return load(Path(value))


def _shape(value: Any, where: str, load: Load | None) -> Shape:
    if not isinstance(value, str) or load is None:
        wanted = "the path of a mesh file" if load else "no file"
        raise ValueError(f"{where}: expected {wanted}, got {value!r:.80}")
    return Shape(load_mesh(Path(value)))


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
