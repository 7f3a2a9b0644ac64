"""Meshes of glTF's KHR_gaussian_splatting: Gaussians as attributes of points, and back."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError
from ..gaussians import Gaussians, cat
from ..sh import C0, coefficient_count
from .glb import Document, listed
from .linear import gaussians_from, linear_from, linear_from_srgb, srgb_from_linear

logger = logging.getLogger(__name__)

EXTENSION = "KHR_gaussian_splatting"
_SRGB, _LINEAR = "srgb_rec709_display", "lin_rec709_display"
_POINTS, _VERTICES = 0, 34962
_FLOAT, _BYTE = 5126, 5121


class Packed:
    """Meshes, accessors and buffer views of a file that is being put together, and the bytes themselves."""

    def __init__(self) -> None:
        self.meshes: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.parts: list[np.ndarray] = []
        self.size = 0

    def add(self, gaussians: Gaussians, name: str, path: Path) -> int:
        """A mesh of points with the attributes of the specification's "Ellipse Kernel"; its index."""
        linear = linear_from(gaussians, path)
        prefix, sh = f"{EXTENSION}:", linear["sh"]
        bounds = {"min": linear["positions"].min(0).tolist(), "max": linear["positions"].max(0).tolist()}
        attributes = {
            "POSITION": self._accessor(linear["positions"], "VEC3", **bounds),
            "COLOR_0": self._accessor(_fallback(linear), "VEC4", componentType=_BYTE, normalized=True),
            f"{prefix}ROTATION": self._accessor(linear["rotations"], "VEC4"),
            f"{prefix}SCALE": self._accessor(linear["scales"], "VEC3"),
            f"{prefix}OPACITY": self._accessor(linear["opacities"], "SCALAR"),
        }
        for index, semantic in enumerate(_harmonics(sh.shape[1])):
            attributes[semantic] = self._accessor(np.ascontiguousarray(sh[:, index]), "VEC3")
        extension = {"kernel": "ellipse", "colorSpace": _SRGB}
        extension |= {"projection": "perspective", "sortingMethod": "cameraDistance"}
        primitive = {"mode": _POINTS, "attributes": attributes, "extensions": {EXTENSION: extension}}
        self.meshes.append({"name": name, "primitives": [primitive]})
        return len(self.meshes) - 1

    def lists(self) -> dict[str, Any]:
        """The top-level lists that are not empty: glTF allows no others."""
        buffers = [{"byteLength": self.size}] if self.size else []
        lists = {"meshes": self.meshes, "accessors": self.accessors, "bufferViews": self.views}
        return {name: values for name, values in {**lists, "buffers": buffers}.items() if values}

    def _accessor(self, array: np.ndarray, kind: str, **more: Any) -> int:
        self.views.append(
            {"buffer": 0, "byteOffset": self.size, "byteLength": array.nbytes, "target": _VERTICES}
        )
        accessor = {"bufferView": len(self.views) - 1, "componentType": _FLOAT, "count": len(array)}
        self.accessors.append({**accessor, "type": kind, **more})
        self.parts.append(array)
        self.size += array.nbytes
        return len(self.accessors) - 1


def _fallback(linear: Mapping[str, np.ndarray]) -> np.ndarray:
    """COLOR_0 as "Fallback Behavior" says: the diffuse colour in linear light, the opacity as its alpha."""
    diffuse = linear_from_srgb(np.clip(linear["sh"][:, 0] * C0 + 0.5, 0, 1))
    rgba = np.concatenate([diffuse, linear["opacities"][:, None]], axis=1)
    return np.round(rgba * 255).astype(np.uint8)


def _harmonics(count: int) -> list[str]:
    """Names of the attributes of `count` coefficients, in their order ("Spherical Harmonics Attributes")."""
    degrees = range(round(count**0.5))
    return [f"{EXTENSION}:SH_DEGREE_{d}_COEF_{n}" for d in degrees for n in range(2 * d + 1)]


def gaussians_of(document: Document, mesh: Any) -> Gaussians | None:
    """The Gaussians of a mesh, of all its primitives; None where it has none.

    Raises:
        FileFormatError: they are compressed, of another kernel or colour space, or their data is bad.
    """
    where = f"{document.path}: mesh {mesh}"
    parts = [_gaussians(document, each, where) for each in _primitives(document, mesh)]
    return cat(parts) if len(parts) > 1 else parts[0] if parts else None


def count_of(document: Document, mesh: Any) -> int:
    """How many Gaussians a mesh promises.

    Raises:
        FileFormatError: no such mesh, or no positive number.
    """
    return sum(
        document.count(_attributes(document, primitive).get("POSITION"), "POSITION")
        for primitive in _primitives(document, mesh)
    )


def _primitives(document: Document, mesh: Any) -> Iterator[dict[str, Any]]:
    """Those of a mesh's primitives that are Gaussians."""
    stated = document.entry("meshes", mesh, "a node")
    for primitive in listed(stated, "primitives", document.path):
        extensions = primitive.get("extensions") if isinstance(primitive, dict) else None
        if isinstance(extensions, dict) and EXTENSION in extensions:
            yield primitive


def _attributes(document: Document, primitive: Mapping[str, Any]) -> dict[str, Any]:
    attributes = primitive.get("attributes")
    if not isinstance(attributes, dict):
        raise FileFormatError(f"{document.path}: expected attributes of a primitive, got {attributes!r:.40}")
    return attributes


def _gaussians(document: Document, primitive: Mapping[str, Any], where: str) -> Gaussians:
    extension, attributes = primitive["extensions"][EXTENSION], _attributes(document, primitive)
    color_space = _check_kernel(extension, primitive, where)
    present = [name for name in attributes if str(name).startswith(f"{EXTENSION}:SH_DEGREE_")]
    names = _harmonics(_complete(present, attributes, where))
    wanted = {"POSITION": "VEC3", f"{EXTENSION}:ROTATION": "VEC4", f"{EXTENSION}:SCALE": "VEC3"}
    wanted |= {f"{EXTENSION}:OPACITY": "SCALAR"} | (
        dict.fromkeys(names, "VEC3") if names else {"COLOR_0": ""}
    )
    if missing := [name for name in wanted if name not in attributes]:
        raise FileFormatError(f"{where}: expected Gaussians with {', '.join(missing)}, got a mesh without")
    counts = {document.count(attributes[name], name) for name in wanted}
    if len(counts) > 1:
        raise FileFormatError(f"{where}: expected as many of each attribute, got {sorted(counts)}")
    arrays = {name: document.array(attributes[name], kind, name) for name, kind in wanted.items() if kind}
    sh = np.stack([arrays[name] for name in names], axis=1) if names else _from_color(document, attributes)
    linear = {
        "positions": arrays["POSITION"],
        "rotations": arrays[f"{EXTENSION}:ROTATION"],
        "scales": _scales(arrays[f"{EXTENSION}:SCALE"], where),
        "opacities": arrays[f"{EXTENSION}:OPACITY"][:, 0],
        "sh": _encoded(sh) if color_space == _LINEAR else sh,
    }
    return gaussians_from(linear, where)


def _check_kernel(extension: Any, primitive: Mapping[str, Any], where: str) -> str:
    """Refuse what would be drawn wrongly; the colour space."""
    if not isinstance(extension, dict) or primitive.get("mode") != _POINTS:
        raise FileFormatError(f"{where}: expected {EXTENSION} on points (mode 0), got {primitive!r:.80}")
    if inner := extension.get("extensions"):
        raise FileFormatError(
            f"{where}: expected plain attributes, got {', '.join(map(str, inner))[:80]}; unpack it with the"
            " program that made it, or export .spz or .ply instead"
        )
    kernel, color_space = extension.get("kernel", "ellipse"), extension.get("colorSpace", _SRGB)
    if kernel != "ellipse" or color_space not in (_SRGB, _LINEAR):
        raise FileFormatError(
            f"{where}: expected kernel ellipse and colorSpace {_SRGB} or {_LINEAR}, got {kernel!r:.40} and"
            f" {color_space!r:.40}"
        )
    return color_space


def _complete(present: list[str], attributes: Mapping[str, Any], where: str) -> int:
    """How many coefficients there are, if "degrees are not partially defined"."""
    if not present and "COLOR_0" in attributes:
        return 0
    for degree in range(4):
        if len(present) <= coefficient_count(degree):
            if set(present) == set(_harmonics(coefficient_count(degree))):
                return coefficient_count(degree)
            break
    raise FileFormatError(
        f"{where}: expected all SH coefficients of degree 0 to 1, 2 or 3, or of degree 0, got"
        f" {len(present)} attributes ({', '.join(map(str, present))[:120]})"
    )


def _from_color(document: Document, attributes: Mapping[str, Any]) -> np.ndarray:
    """SH of degree 0 from COLOR_0, which is linear; alpha is not used, opacity has its own attribute."""
    index = attributes["COLOR_0"]
    kind = document.entry("accessors", index, "COLOR_0").get("type")
    color = document.array(index, "VEC4" if kind == "VEC4" else "VEC3", "COLOR_0")[:, :3]
    return ((srgb_from_linear(color) - 0.5) / C0).astype(np.float32)[:, None]


def _scales(scales: np.ndarray, where: str) -> np.ndarray:
    """Linear scales; drafts of the extension, and programs that followed them, stored logarithms."""
    if np.count_nonzero(scales < 0) * 2 <= scales.size:
        return scales
    logger.warning("%s: most scales are negative, so they are read as logarithms, as in drafts", where)
    with np.errstate(over="ignore"):
        return np.exp(scales)


def _encoded(sh: np.ndarray) -> np.ndarray:
    """Coefficients of linear light as those of sRGB: f(c + d) is about f(c) + f'(c) d, c the mean colour."""
    mean = sh[:, :1].astype(np.float64) * C0 + 0.5
    slope = (srgb_from_linear(mean + 1e-3) - srgb_from_linear(mean - 1e-3)) / 2e-3
    encoded = sh * slope
    encoded[:, :1] = (srgb_from_linear(mean) - 0.5) / C0
    # What is too large for float32 becomes infinite here and is refused with its row afterwards.
    with np.errstate(over="ignore"):
        return encoded.astype(np.float32)
