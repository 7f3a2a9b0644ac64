"""A nerfstudio run's config.yml as plain mappings, lists and scalars; nothing is constructed.

nerfstudio writes its settings with yaml.dump of Python objects, and reads them with a loader that can run
code. This reads the block style that yaml.dump writes, and no other YAML; tags are dropped.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import FileFormatError

_MAX_BYTES = 1 << 18
_MAX_DEPTH = 100
#: Lines of one quoted text.
_MAX_QUOTED = 200
#: `key: value`; keys of settings are plain words, keys of mappings may be quoted.
_ENTRY = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^\s'"\-&*!\[{][^:]*?|-[^\s:][^:]*?):(?: +(.*))?$""", re.DOTALL
)
_PROPERTY = re.compile(r"(![^\s]*|&[^\s]+)(?:\s+|$)")
#: Classes and functions are written as a tag with their name and an empty string; here the name is the value.
_NAME = "!!python/name:"
_WORDS: dict[str, Any] = {"null": None, "~": None, "": None, "true": True, "false": False}


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        FileFormatError: not readable, or not what nerfstudio writes.
    """
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise FileFormatError(f"{path}: expected at most {_MAX_BYTES} bytes of settings, got {size}")
        text = path.read_text(encoding="utf-8")
        content = _Reader(list(_lines(text))).value(-1)
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    except ValueError as error:
        raise FileFormatError(f"{path}: expected the config.yml of a nerfstudio run, got {error}") from error
    if not isinstance(content, dict):
        raise FileFormatError(
            f"{path}: expected the config.yml of a nerfstudio run, got a file without settings"
        )
    return content


def setting(config: object, *keys: str) -> Any:
    """What stands below nested keys; None where there is nothing."""
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config


def path_setting(config: object, *keys: str) -> PurePosixPath | None:
    """A path, which nerfstudio writes as the list of its parts."""
    value = setting(config, *keys)
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        return None
    return PurePosixPath(*(part.replace("\\", "/") for part in parts))


@dataclass(frozen=True)
class _Line:
    number: int
    indent: int
    text: str


def _lines(text: str) -> Iterator[_Line]:
    """Lines that say something, with quoted scalars that run over several joined to one."""
    held, start, indent = "", 0, 0
    for number, raw in enumerate(text.splitlines(), 1):
        bare = raw.strip()
        if held:
            if number - start > _MAX_QUOTED:
                break
            held = f"{held} {bare}" if bare else f"{held}\n"
        elif not bare or bare.startswith(("#", "%")) or bare in ("---", "..."):
            continue
        else:
            held, start, indent = bare, number, len(raw) - len(raw.lstrip(" "))
        if not _open_quote(held):
            yield _Line(start, indent, held)
            held = ""
    if held:
        raise ValueError(f"a quote that is not closed (line {start})")


def _open_quote(text: str) -> bool:
    """Whether a quoted scalar begins in this line and does not end there."""
    value = text
    while value.startswith("- "):
        value = value[2:].lstrip()
    if (entry := _ENTRY.match(value)) is not None:
        value = entry[2] or ""
    while (found := _PROPERTY.match(value)) is not None:
        value = value[found.end() :]
    if value[:1] == "'":
        return value.count("'") % 2 == 1
    if value[:1] == '"':
        return re.fullmatch(r'"(?:[^"\\]|\\.)*"', value, re.DOTALL) is None
    return False


class _Reader:
    """Walks down the lines; every block begins where the one before it ended."""

    def __init__(self, lines: list[_Line]) -> None:
        self._lines, self._next = lines, 0
        self._anchors: dict[str, Any] = {}
        self._depth = 0

    def value(self, above: int, inline: str = "", in_mapping: bool = False) -> Any:
        """A value: what stands behind its key, else the block below, deeper than the line it hangs on."""
        anchor, name, rest = None, None, inline
        while (found := _PROPERTY.match(rest)) is not None:
            anchor = found[1][1:] if found[1][0] == "&" else anchor
            name = found[1].removeprefix(_NAME) if found[1].startswith(_NAME) else name
            rest = rest[found.end() :]
        if name is not None:
            value = name
        else:
            value = self._scalar(rest, above) if rest else self._block(above, in_mapping)
        if anchor is not None:
            self._anchors[anchor] = value
        return value

    def _peek(self) -> _Line | None:
        return self._lines[self._next] if self._next < len(self._lines) else None

    def _block(self, above: int, in_mapping: bool) -> Any:
        line = self._peek()
        # Lists in a mapping may stand as far left as their key.
        lowest = above if in_mapping and line is not None and _is_item(line.text) else above + 1
        if line is None or line.indent < lowest:
            return None
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"settings nested deeper than {_MAX_DEPTH} (line {line.number})")
        if _is_item(line.text):
            value = self._items(line.indent)
        elif _ENTRY.match(line.text):
            value = self._entries(line.indent)
        else:
            self._next += 1
            value = self.value(line.indent - 1, line.text)
        self._depth -= 1
        return value

    def _items(self, indent: int) -> list[Any]:
        items = []
        while (line := self._peek()) is not None and line.indent == indent and _is_item(line.text):
            rest = line.text[1:].lstrip()
            inner = indent + len(line.text) - len(rest)
            if rest and (_is_item(rest) or _ENTRY.match(rest)):
                # A block that begins on the dash's own line: read it as if it stood alone.
                self._lines[self._next] = _Line(line.number, inner, rest)
                items.append(self._block(indent, False))
            else:
                self._next += 1
                items.append(self.value(indent, rest))
        return items

    def _entries(self, indent: int) -> dict[str, Any]:
        entries = {}
        while (line := self._peek()) is not None and line.indent == indent and not _is_item(line.text):
            found = _ENTRY.match(line.text)
            if found is None:
                raise ValueError(f"{line.text!r:.60} where a setting is expected (line {line.number})")
            self._next += 1
            key = str(_plain(found[1]))
            entries[key] = self.value(indent, found[2] or "", in_mapping=True)
        if (line := self._peek()) is not None and line.indent > indent:
            raise ValueError(f"{line.text!r:.60} with another indentation (line {line.number})")
        return entries

    def _scalar(self, text: str, above: int) -> Any:
        if text[0] == "*":
            return self._anchors.get(text[1:])
        if text[0] not in "'\"|>":
            # yaml.dump folds long plain scalars: the rest stands deeper, without a key.
            while (line := self._peek()) is not None and line.indent > above:
                text, self._next = f"{text} {line.text}", self._next + 1
        elif text[0] in "|>":
            while (line := self._peek()) is not None and line.indent > above:
                text, self._next = f"{text}\n{line.text}", self._next + 1
            return text.partition("\n")[2]
        return _plain(text)


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _plain(text: str) -> Any:
    """A scalar as Python sees it; what is no number, word or quote is a string."""
    if text[:1] == "'" and text[-1:] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        try:
            return json.loads(text, strict=False)
        except ValueError:
            return text[1:-1]
    if text in ("[]", "{}"):
        return [] if text == "[]" else {}
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
