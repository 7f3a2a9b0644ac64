"""The header of a PLY file: its parser, strict about everything that steers how much is read afterwards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ..errors import FileFormatError

Encoding = Literal["ascii", "binary_little_endian", "binary_big_endian"]

#: A 3DGS header is about 1.5 KB; a longer one than this is no header.
MAX_HEADER_BYTES = 65536

SCALAR_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}  # fmt: skip

_BYTE_ORDERS: dict[Encoding, str] = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Element:
    """One table of a PLY file."""

    name: str
    count: int
    properties: dict[str, str]
    """Property name to numpy type code without byte order, or "list"."""

    @property
    def has_lists(self) -> bool:
        return "list" in self.properties.values()

    def dtype(self, encoding: Encoding) -> np.dtype:
        """One row as a numpy structure; only for elements without list properties."""
        order = _BYTE_ORDERS[encoding]
        return np.dtype([(name, order + code) for name, code in self.properties.items()])


@dataclass(frozen=True)
class Header:
    """What a PLY file promises."""

    encoding: Encoding
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    size: int
    """[bytes] length of the header: where the body begins."""

    def element(self, name: str) -> Element | None:
        return next((element for element in self.elements if element.name == name), None)


def read_header(file: BinaryIO, path: Path) -> Header:
    """Parse the header at the start of `file` and leave the file at the first byte of the body.

    Raises:
        FileFormatError: not a PLY file, or a header that is malformed, contradictory or longer than 64 KiB.
    """
    start = file.read(MAX_HEADER_BYTES)
    if not start:
        raise FileFormatError(f"{path}: expected a PLY file, got an empty file; write or download it again")
    first = start.split(b"\n", 1)[0].rstrip(b"\r")
    if first != b"ply":
        raise FileFormatError(f"{path}: expected a PLY file, whose first line is 'ply', got {first[:20]!r}")
    lines, size = _header_lines(start, path)
    file.seek(size)
    encoding = _parse_format(next(lines, ""), path)
    elements: list[Element] = []
    comments: list[str] = []
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "comment":
            comments.append(rest)
        elif word == "element":
            elements.append(_parse_element(rest, elements, path))
        elif word == "property":
            _parse_property(rest, elements, path)
        elif word not in ("", "obj_info"):
            raise FileFormatError(f"{path}: expected a PLY header line, got {line[:60]!r}")
    for element in elements:
        # Rows of no size would make any count plausible.
        if element.count and not element.properties:
            raise FileFormatError(f"{path}: expected a property in element {element.name!r}, got none")
    return Header(encoding, tuple(elements), tuple(comments), size)


def _header_lines(start: bytes, path: Path) -> tuple[Iterator[str], int]:
    """The lines between `ply` and `end_header`, and the size of the header in bytes."""
    lines, position = [], 0
    while (end := start.find(b"\n", position)) >= 0:
        line = start[position:end].rstrip(b"\r").decode("ascii", "replace")
        position = end + 1
        if line.strip() == "end_header":
            return iter(lines[1:]), position
        lines.append(line)
    where = (
        f"the first {MAX_HEADER_BYTES} bytes" if len(start) == MAX_HEADER_BYTES else f"all {len(start)} bytes"
    )
    raise FileFormatError(
        f"{path}: expected the line 'end_header', got none in {where}; the PLY header is cut or hostile"
    )


def _parse_format(line: str, path: Path) -> Encoding:
    words = line.split()
    if len(words) == 3 and words[0] == "format" and words[2] == "1.0":
        for encoding in _BYTE_ORDERS:
            if words[1] == encoding:
                return encoding
    known = ", ".join(_BYTE_ORDERS)
    raise FileFormatError(f"{path}: expected 'format <{known}> 1.0' as second line, got {line[:60]!r}")


def _parse_element(rest: str, elements: list[Element], path: Path) -> Element:
    words = rest.split()
    if len(words) != 2 or not (words[1].isascii() and words[1].isdigit()) or len(words[1]) > 18:
        raise FileFormatError(f"{path}: expected 'element <name> <count of at least 0>', got {rest[:60]!r}")
    if any(element.name == words[0] for element in elements):
        raise FileFormatError(f"{path}: expected each element once, got element {words[0]!r} twice")
    return Element(words[0], int(words[1]), {})


def _parse_property(rest: str, elements: list[Element], path: Path) -> None:
    words = rest.split()
    if not elements:
        raise FileFormatError(f"{path}: expected an element before property {rest[:60]!r}")
    properties = elements[-1].properties
    types, name = (
        (words[1:-1], words[-1]) if words[:1] == ["list"] else (words[:1], words[-1] if words else "")
    )
    if len(words) != (4 if words[:1] == ["list"] else 2):
        raise FileFormatError(f"{path}: expected 'property <type> <name>', got {rest[:60]!r}")
    if unknown := [type_name for type_name in types if type_name not in SCALAR_TYPES]:
        raise FileFormatError(
            f"{path}: property {name!r}: expected one of {', '.join(SCALAR_TYPES)}, got {unknown[0]!r}"
        )
    if name in properties:
        raise FileFormatError(
            f"{path}: expected each property once, got {name!r} twice in {elements[-1].name!r}"
        )
    properties[name] = "list" if words[0] == "list" else SCALAR_TYPES[words[0]]
