"""glTF's containers: the JSON and the buffers of a `.glb` or `.gltf`, checked accessors, and writing both."""

import base64
import binascii
import json
import os
import re
import struct
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard
from urllib.parse import unquote

import numpy as np

from ..errors import FileFormatError
from .atomic import replacing

#: glTF 2.0, "Binary glTF Layout": magic, version, length of the file; then chunks of length, type, data.
_HEADER, _CHUNK = struct.Struct("<4sII"), struct.Struct("<II")
_MAGIC, _JSON, _BIN = b"glTF", 0x4E4F534A, 0x004E4942
#: Bytes of JSON: a GLB keeps none of its data there, a .gltf perhaps all of it.
_MAX_JSON, _MAX_GLTF = 64 << 20, 1 << 30
#: Lists, objects and commas in it: what a parser needs memory for is told before it starts.
_MAX_VALUES = 4_000_000
#: glTF 2.0, "Accessor Data Types".
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_DATA = "data:application/octet-stream;base64,"
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


class Document:
    """A glTF file that is open for reading; nothing is copied before an accessor is asked for.

    Raises:
        FileFormatError: not a glTF 2.0 file, or lengths that contradict each other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(4) == _MAGIC:
                text, self._bin = _chunks(file, size, path)
            elif size > _MAX_GLTF:
                raise FileFormatError(f"{path}: expected at most {_MAX_GLTF} bytes of JSON, got {size}")
            else:
                file.seek(0)
                text, self._bin = file.read(), None
        self.json = _parsed(text, path)
        version = _object(self.json.get("asset"), "asset", path).get("version")
        if not isinstance(version, str) or not version.startswith("2."):
            raise FileFormatError(f"{path}: expected glTF 2.0, got version {version!r:.20}; export it again")

    def entry(self, kind: str, index: Any, of: str) -> dict[str, Any]:
        """The object at an index of one of the top-level lists.

        Args:
            kind: the list, such as "nodes".
            index: as the file states it.
            of: who states it, for the message.

        Raises:
            FileFormatError: there is none.
        """
        entries = self.json.get(kind, [])
        if not isinstance(entries, list) or not _whole(index) or not index < len(entries):
            there = len(entries) if isinstance(entries, list) else "no list of them"
            raise FileFormatError(
                f"{self.path}: expected {of} to name one of {kind} ({there}), got {index!r:.40}"
            )
        return _object(entries[index], f"{kind} {index}", self.path)

    def count(self, index: Any, of: str) -> int:
        """How many elements an accessor states.

        Raises:
            FileFormatError: no such accessor, or no positive number.
        """
        count = self.entry("accessors", index, of).get("count")
        if not _whole(count) or count < 1:
            raise FileFormatError(f"{self.path}: expected {of} to have a positive count, got {count!r:.40}")
        return count

    def array(self, index: Any, kind: str, of: str) -> np.ndarray:
        """The elements of an accessor as float32 (n, width), integers mapped as glTF 2.0 says.

        Args:
            index: which accessor.
            kind: the type it must have, such as "VEC3".
            of: the attribute, for messages.

        Raises:
            FileFormatError: it is of another type, sparse, without data, or reaches out of its buffer.
        """
        accessor, count, where = self.entry("accessors", index, of), self.count(index, of), self.path
        component = accessor.get("componentType")
        if accessor.get("type") != kind or not _whole(component) or component not in _COMPONENTS:
            raise FileFormatError(
                f"{where}: expected {of} as {kind} of floats, bytes or shorts, got"
                f" {accessor.get('type')!r:.20} of component type {component!r:.20}"
            )
        if "sparse" in accessor or "bufferView" not in accessor:
            raise FileFormatError(
                f"{where}: expected {of} with all its values in a buffer view, got a sparse or empty"
                " accessor; export it without compression"
            )
        dtype, width = np.dtype(_COMPONENTS[component]), _WIDTHS[kind]
        data, stride = self._view(accessor["bufferView"], of)
        offset, stride = accessor.get("byteOffset", 0), stride or width * dtype.itemsize
        needed = stride * (count - 1) + width * dtype.itemsize
        if not _whole(offset) or stride < width * dtype.itemsize or offset + needed > len(data):
            raise FileFormatError(
                f"{where}: expected {of} within its buffer view of {len(data)} bytes, got {count} elements"
                f" of {stride} bytes from {offset!r:.40}; the file is cut or malformed"
            )
        raw = np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))
        values = raw.astype(np.float32)
        if accessor.get("normalized") is True and dtype.kind in "iu":
            values = np.maximum(values / np.float32(np.iinfo(dtype).max), np.float32(-1))
        return values

    @cached_property
    def stored_bytes(self) -> int:
        """How many bytes all buffers have together."""
        buffers = self.json.get("buffers", [])
        number = len(buffers) if isinstance(buffers, list) else 0
        return sum(len(self._buffer(index)) for index in range(number))

    def _view(self, index: Any, of: str) -> tuple[memoryview, int | None]:
        view = self.entry("bufferViews", index, of)
        if extensions := view.get("extensions"):
            raise FileFormatError(
                f"{self.path}: expected plain buffer views, got {', '.join(map(str, extensions))[:80]};"
                " export it without compression"
            )
        data = self._buffer(view.get("buffer"))
        offset, length, stride = view.get("byteOffset", 0), view.get("byteLength"), view.get("byteStride")
        if not _whole(offset) or not _whole(length) or not offset + length <= len(data):
            raise FileFormatError(
                f"{self.path}: expected the buffer view of {of} within its buffer of {len(data)} bytes,"
                f" got {length!r:.40} bytes from {offset!r:.40}; the file is cut or malformed"
            )
        if stride is not None and not (_whole(stride) and 4 <= stride <= 252):
            raise FileFormatError(f"{self.path}: expected a byteStride of 4 to 252, got {stride!r:.40}")
        return data[offset : offset + length], stride

    def _buffer(self, index: Any) -> memoryview:
        if not hasattr(self, "_buffers"):
            self._buffers: dict[int, memoryview] = {}
        stated = self.entry("buffers", index, "a buffer view")
        if index not in self._buffers:
            data, length = self._loaded(stated.get("uri"), index), stated.get("byteLength")
            if not _whole(length) or length > len(data):
                raise FileFormatError(
                    f"{self.path}: expected buffer {index} of {length!r:.40} bytes, got {len(data)};"
                    " the file is cut or malformed"
                )
            self._buffers[index] = data[:length]
        return self._buffers[index]

    def _loaded(self, uri: Any, index: int) -> memoryview:
        if uri is None and index == 0 and self._bin is not None:
            return _mapped(self.path, *self._bin)
        if not isinstance(uri, str):
            raise FileFormatError(f"{self.path}: expected buffer {index} with data, got uri {uri!r:.40}")
        if uri.startswith("data:"):
            head, _, body = uri.partition(",")
            try:
                if not head.endswith(";base64"):
                    raise ValueError("no base64")
                return memoryview(base64.b64decode(body, validate=True))
            except (binascii.Error, ValueError) as error:
                raise FileFormatError(
                    f"{self.path}: expected buffer {index} in base64, got: {error!s:.60}"
                ) from error
        beside = neighbour(self.path, uri)
        return _mapped(beside, 0, beside.stat().st_size)


def neighbour(path: Path, uri: str) -> Path:
    """The file in the folder of `path`, or below it, that a relative URI of `path` names.

    Raises:
        FileFormatError: it names a host, a scheme, or a place outside; or there is no such file.
    """
    name, folder = unquote(uri), path.parent.resolve()
    outside = _SCHEME.match(name) or name.startswith(("/", "\\")) or "\\" in name or "\0" in name
    found = None if outside else (folder / name).resolve()
    if found is None or not found.is_relative_to(folder):
        raise FileFormatError(
            f"{path}: expected files in its own folder, got {uri!r:.80}; copy it beside and name it there"
        )
    if not found.is_file():
        raise FileFormatError(f"{path}: expected the file {uri!r:.80} beside it, which is not there")
    return found


def listed(stated: Mapping[str, Any], name: str, path: Path) -> list[Any]:
    """A list that may be left out.

    Raises:
        FileFormatError: something else stands there.
    """
    value = stated.get(name, [])
    if not isinstance(value, list):
        raise FileFormatError(f"{path}: expected {name} to be a list, got {value!r:.40}")
    return value


def write(document: Mapping[str, Any], parts: Iterable[np.ndarray], path: Path) -> None:
    """Write a glTF: a `.glb` with one binary chunk, or a `.gltf` with the same in base64.

    Args:
        document: the JSON, whose only buffer, if any, is what the parts are together.
        parts: arrays that follow each other in the buffer, each of a multiple of 4 bytes.
        path: where to.

    Raises:
        ValueError: more than fits the container.
    """
    size = sum(buffer["byteLength"] for buffer in document.get("buffers", []))
    if path.suffix.lower() == ".gltf":
        if size * 4 / 3 > _MAX_GLTF - _MAX_JSON:
            raise ValueError(f"{path}: expected less than {_MAX_GLTF} bytes, got {size}; write a .glb")
        data = base64.b64encode(b"".join(part.tobytes() for part in parts)).decode("ascii")
        buffers = [{**buffer, "uri": _DATA + data} for buffer in document.get("buffers", [])]
        document = {**document, "buffers": buffers} if buffers else document
        with replacing(path) as file:
            file.write(json.dumps(document, allow_nan=False).encode("ascii"))
        return
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)
    total = _HEADER.size + _CHUNK.size + len(text) + (_CHUNK.size + size if size else 0)
    if len(text) > _MAX_JSON:
        raise ValueError(
            f"{path}: expected at most {_MAX_JSON} bytes about objects, got {len(text)}; merge some"
        )
    if total >= 2**32:
        raise ValueError(f"{path}: expected less than 4 GiB, a .glb's limit, got {total} bytes; write a .ply")
    with replacing(path) as file:
        file.write(_HEADER.pack(_MAGIC, 2, total) + _CHUNK.pack(len(text), _JSON) + text)
        if size:
            file.write(_CHUNK.pack(size, _BIN))
            for part in parts:
                file.write(part.tobytes())


def _chunks(file: BinaryIO, size: int, path: Path) -> tuple[bytes, tuple[int, int] | None]:
    """The JSON, and where the binary chunk is: offset and length."""
    head = file.read(_HEADER.size - 4)
    version, length = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
    if version != 2 or length != size:
        raise FileFormatError(
            f"{path}: expected a GLB of version 2 and {length} bytes as its header says, got version"
            f" {version} and {size} bytes; fetch it again"
        )
    text, binary, at = None, None, _HEADER.size
    while at < size:
        head = file.read(_CHUNK.size)
        length, kind = _CHUNK.unpack(head) if len(head) == _CHUNK.size else (size, 0)
        at += _CHUNK.size
        if length > size - at or (text is None and (kind != _JSON or length > _MAX_JSON)):
            raise FileFormatError(
                f"{path}: expected a chunk of JSON (at most {_MAX_JSON} bytes) and then of data within the"
                f" file's {size} bytes, got {length} bytes of type {kind:#x} at {at}; fetch it again"
            )
        if text is None:
            text = file.read(length)
        elif kind == _BIN and binary is None:
            binary = (at, length)
        at += length
        file.seek(at)
    if text is None:
        raise FileFormatError(f"{path}: expected a chunk of JSON, got a GLB without any; fetch it again")
    return text, binary


def _mapped(path: Path, offset: int, length: int) -> memoryview:
    if length == 0:
        return memoryview(b"")
    return np.memmap(path, np.uint8, "r", offset, (length,)).data


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    def refused(word: str) -> float:
        raise ValueError(f"the number {word}")

    if (values := sum(text.count(mark) for mark in (b"[", b"{", b","))) > _MAX_VALUES:
        raise FileFormatError(f"{path}: expected at most {_MAX_VALUES} values in its JSON, got {values}")
    try:
        return _object(json.loads(text, parse_constant=refused), "the file", path)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected glTF's JSON, got: {error!s:.100}; export it again"
        ) from error


def _object(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: expected {what} to be a JSON object, got {value!r:.40}")
    return value


def _whole(value: Any) -> TypeGuard[int]:
    """Whether a number of JSON can be an index or a length."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
