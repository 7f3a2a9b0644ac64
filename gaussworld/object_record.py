"""An object's facts as JSON, for the store and formats that keep objects: all but Gaussians and shape."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .gaussians import Gaussians
from .shape import Shape
from .world_object import Joint, Material, ObjectKind, WorldObject

_JOINT = {field.name for field in fields(Joint)}
_MATERIAL = {field.name for field in fields(Material)}
_DEFAULT = Material()
_LARGEST = float(np.finfo(np.float32).max)


def record_of(item: WorldObject) -> dict[str, Any]:
    """The facts of an object that differ from the defaults; `object_from_record` gives them back exactly."""
    record: dict[str, Any] = {"id": item.id, "name": item.name, "kind": item.kind.value}
    record["pose"] = numbers_from(item.world_from_object[:3])
    if item.parent is not None:
        record["parent"] = item.parent
    if item.joint is not None:
        record["joint"] = asdict(item.joint) | {"limits": [_finite(value) for value in item.joint.limits]}
    if material := _stated(item.material):
        record["material"] = material
    if item.supported_by is not None:
        record["supported_by"] = list(item.supported_by)
    return record | {name: True for name in ("hidden", "locked") if getattr(item, name)}


def object_from_record(
    record: Mapping[str, Any], gaussians: Gaussians, shape: Shape | None = None
) -> WorldObject:
    """The object that a record describes, with its Gaussians and shape, which are not in it.

    Raises:
        ValueError: a fact is missing, of the wrong type, or out of range.
    """
    try:
        joint, material, supports = (record.get(name) for name in ("joint", "material", "supported_by"))
        return WorldObject(
            id=_whole(record["id"]),
            name=_text(record["name"]),
            gaussians=gaussians,
            kind=ObjectKind(record["kind"]),
            world_from_object=pose_from_numbers(record["pose"]),
            parent=None if record.get("parent") is None else _whole(record["parent"]),
            joint=None if joint is None else _joint(joint),
            material=_material(material) if material else _DEFAULT,
            shape=shape,
            supported_by=None if supports is None else tuple(_whole(number) for number in supports),
            hidden=record.get("hidden") is True,
            locked=record.get("locked") is True,
        )
    except KeyError as error:
        raise ValueError(f"expected an object with {error.args[0]!r}, got {', '.join(record)}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"expected the facts of an object, got {str(dict(record))[:120]} ({error})"
        ) from error


def numbers_from(values: Float[Tensor, "..."]) -> list[float]:
    """float32 values, row by row, as the shortest decimal numbers that read back to the same bits."""
    flat = values.detach().cpu().float().reshape(-1).numpy()
    return [float(np.format_float_scientific(value)) for value in flat]


def pose_from_numbers(numbers: Any) -> Float[Tensor, "4 4"]:
    """The pose whose first three rows `numbers_from` spelled.

    Raises:
        ValueError: not 12 finite numbers.
    """
    if (
        not isinstance(numbers, list | tuple)
        or len(numbers) != 12
        or not {*map(type, numbers)} <= {int, float}
        or not all(map(math.isfinite, numbers))
    ):
        raise ValueError(f"expected a pose as 12 finite numbers, got {str(numbers)[:80]}")
    if max(map(abs, numbers)) > _LARGEST:
        raise ValueError(f"expected a pose of float32 numbers, got {str(numbers)[:80]}")
    # numpy rounds a decimal number once, from float64, as it was written.
    return torch.from_numpy(np.array([*numbers, 0.0, 0.0, 0.0, 1.0], np.float32).reshape(4, 4))


def _stated(material: Material) -> dict[str, Any]:
    """Values that are not defaults nobody looked at, and where each is from."""
    plain, default = asdict(material), asdict(Material())
    sources = {name: source for name, source in material.sources.items() if source != "default"}
    values = {k: v for k, v in plain.items() if k != "sources" and (v != default[k] or k in sources)}
    return values | ({"sources": sources} if sources else {})


def _material(record: Mapping[str, Any]) -> Material:
    values: dict[str, Any] = {key: value for key, value in record.items() if key in _MATERIAL}
    if values.get("center_of_mass") is not None:
        x, y, z = (float(value) for value in values["center_of_mass"])
        values["center_of_mass"] = (x, y, z)
    values["category"] = _text(record.get("category", ""))
    return Material(**values)


def _joint(record: Mapping[str, Any]) -> Joint:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    low, high = values.pop("limits", (None, None))
    limits = (-math.inf if low is None else low, math.inf if high is None else high)
    return Joint(**{key: value for key, value in values.items() if key in _JOINT}, limits=limits)


def _finite(value: float) -> float | None:
    """JSON has no infinity: null stands for no limit."""
    return value if math.isfinite(value) else None


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, got {value!r:.40}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r:.40}")
    return value
