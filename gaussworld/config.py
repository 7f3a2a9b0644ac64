"""Configuration: frozen dataclasses <-> TOML presets <-> command-line flags, through one tyro parser.

Defaults live in frozen dataclasses beside the code they steer. A preset is a TOML file that holds only what
differs; it is turned into flags, parsed like the command line, and becomes the real command line's default.
Sections are nested dataclasses; a field that is a union of dataclasses is picked by `kind`, in a file
(`kind = "mcmc"`) as on the command line (`--strategy.kind mcmc`).
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast

import tyro

from .errors import ConfigError
from .flags import kebab, kind_name, member_of, parse_flags, sections_of, with_field

C = TypeVar("C")


def presets_folder() -> Path:
    """Where presets lie: in the package when a wheel was installed, else in the checkout's `configs`."""
    package = Path(__file__).resolve().parent
    shipped = package / "presets"
    return shipped if shipped.is_dir() else package.parent / "configs"


def preset_names(group: str = "") -> list[str]:
    """The shipped presets, as `group/stem`: of one group, or all."""
    folder = presets_folder()
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))
    return sorted(name for name in names if name.startswith(f"{group}/") or not group)


def find_preset(source: str | Path, group: str = "") -> Path:
    """The file of a preset that is given by its path or, when it is a shipped one, by `group/stem` or `stem`.

    Raises:
        ConfigError: there is neither such a file nor such a preset in the group.
    """
    names = preset_names(group)
    for name in (str(source), f"{group}/{source}"):
        if name in names:
            return presets_folder() / f"{name}.toml"
    if Path(source).is_file():
        return Path(source)
    short = [name.removeprefix(f"{group}/") for name in names]
    hint = _did_you_mean(str(source), [*names, *short])
    hint = hint or f"shipped presets are {', '.join(short) or '(none)'}"
    raise ConfigError(f"expected a TOML file or the name of a shipped preset, got {str(source)!r}; {hint}")


def load_config(kind: type[C], source: str | Path, default: C | None = None, group: str = "") -> C:
    """Read a preset into a dataclass; what the file does not say comes from `default`, or from the dataclass.

    Args:
        kind: the dataclass.
        source: a file or the name of a shipped preset.
        default: where to start from.
        group: the folder of presets in which a bare name is looked up.

    Raises:
        ConfigError: there is no such preset, it is no TOML, or a key or value in it is wrong.
    """
    path = find_preset(source, group)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, got a file that does not parse: {error}") from error
    start = kind() if default is None else default
    try:
        start, flags = _flags_from_table(start, table, prefix="")
        return parse_flags(kind, flags, default=start, markers=(tyro.conf.FlagConversionOff,))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def save_config(config: object, path: Path | str) -> None:
    """Write a dataclass, fully resolved, as TOML that `load_config` reads back to an equal one."""
    # Imported here: `gaussworld.io` brings torch, which reading a preset does not need.
    from .io.atomic import replacing

    with replacing(Path(path)) as file:
        file.write(toml_from_config(config).encode())


def toml_from_config(config: object) -> str:
    """The TOML of a dataclass: its values, then a section for each nested dataclass."""
    return "\n".join(_toml_lines(config, section="")).strip() + "\n"


def _flags_from_table(config: C, table: dict[str, Any], prefix: str) -> tuple[C, list[str]]:
    """`config` with the union members a TOML table picks, and the table as flags, its keys checked."""
    sections, known = (
        dict(sections_of(type(config))),
        [field.name for field in dataclasses.fields(cast(Any, config))],
    )
    flags: list[str] = []
    for key, value in table.items():
        name, shown = key.replace("-", "_"), f"{prefix}{key}"
        if name not in known:
            hint = _did_you_mean(name, known) or f"known keys are {', '.join(known)}"
            raise ConfigError(f"expected a known key, got {shown!r}; {hint}")
        if (name in sections) != isinstance(value, dict):
            expected = "a section of keys" if name in sections else "a value"
            raise ConfigError(f"{shown}: expected {expected}, got {value!r}")
        if name in sections:
            section, more = _section_flags(
                getattr(config, name), sections[name], value, f"{prefix}{kebab(name)}."
            )
            config, flags = with_field(config, name, section), flags + more
        else:
            flags += _flag(f"--{prefix}{kebab(name)}", value)
    return config, flags


def _section_flags(
    section: object, members: tuple[type, ...], table: dict[str, Any], path: str
) -> tuple[object, list[str]]:
    inner = dict(table)
    if len(members) > 1 and "kind" in inner:
        section = member_of(section, members, str(inner.pop("kind")), f"{path}kind")
    if section is not None:
        return _flags_from_table(section, inner, path)
    if inner:
        raise ConfigError(f"{path.rstrip('.')}: expected kind among its keys, got only {', '.join(inner)}")
    return None, []


def _flag(flag: str, value: object) -> list[str]:
    # `--flag=value` lets a value begin with a dash; a list needs its items apart.
    return [flag, *map(str, _flat(value))] if isinstance(value, list) else [f"{flag}={value}"]


def _flat(values: list[Any]) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, list) else [value]


def _toml_lines(config: object, section: str) -> Iterator[str]:
    nested = dict(sections_of(type(config)))
    for field in dataclasses.fields(cast(Any, config)):
        if field.name not in nested:
            yield f"{field.name} = {_toml_value(getattr(config, field.name))}"
    for name, members in nested.items():
        value = getattr(config, name)
        yield from ["", f"[{section}{name}]"]
        if len(members) > 1:
            yield f"kind = {_toml_value(kind_name(type(value)))}"
        if value is not None:
            yield from _toml_lines(value, f"{section}{name}.")


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml_value, value))}]"
    text = value.name if isinstance(value, Enum) else str(value)
    # A TOML basic string is a JSON string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _did_you_mean(got: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(got, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""
