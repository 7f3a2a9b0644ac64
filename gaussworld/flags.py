"""Command-line flags -> dataclasses and calls: the one tyro parser, and what it refuses as one sentence."""

import dataclasses
import difflib
import io
import re
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import tyro

from .errors import ConfigError

C = TypeVar("C")
T = TypeVar("T")

#: What tyro says that only programmers understand, and what we say.
_PLAINER = (
    (
        r"^Error parsing (\S+): invalid literal for int\(\) with base 10: ",
        r"\1: expected a whole number, got ",
    ),
    (r"^Error parsing (\S+): could not convert string to float: ", r"\1: expected a number, got "),
    (r"^Error parsing (\S+): ", r"\1: "),
    (r"^invalid choice (.*) for argument '(\S+)'\. Expected one of ", r"\2: got \1, expected one of "),
    (
        r"^Missing value for argument '(\S+)'\. Expected (\d+) values?",
        r"\1: expected \2 value(s) after it, got fewer",
    ),
    (
        r"^(\S+): no type matching (?:\{None\}\|)?(.*?) could be .*?from (\[.*?\])\..*",
        r"\1: expected \2, got \3",
    ),
    (r"^Unrecognized options: ", "not understood: "),
)


def parse_flags(
    target: type[T] | Callable[..., T],
    flags: Sequence[str],
    *,
    default: T | None = None,
    prog: str | None = None,
    description: str | None = None,
    markers: Sequence[Any] = (),
) -> T:
    """Parse command-line flags with tyro into a dataclass or the result of a function that only binds them.

    `--help` prints and exits as usual.

    Raises:
        ConfigError: a flag is unknown, missing or of the wrong type; the message suggests a near one.
    """
    if default is not None:
        default, flags = pick_kinds(default, flags)
    keywords: dict[str, Any] = {"default": default} if default is not None else {}

    def parse(words: list[str]) -> T:
        # Subcommands are never wanted for unions: `pick_kinds` has already narrowed them.
        marks = (tyro.conf.AvoidSubcommands, *markers)
        return tyro.cli(target, args=words, prog=prog, description=description, config=marks, **keywords)

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse(list(flags))
    except SystemExit as stop:
        if not stop.code:
            raise
    _check_known(flags, parse)
    raise ConfigError(_sentence(said.getvalue()))


def pick_kinds(config: C, flags: Sequence[str], prefix: str = "") -> tuple[C, list[str]]:
    """Follow flags such as `--strategy.kind mcmc`: `config` with that union member, and the other flags.

    Raises:
        ConfigError: the union has no member of that kind.
    """
    rest = list(flags)
    for name, members in sections_of(type(config)):
        section, path = getattr(config, name), f"{prefix}{kebab(name)}."
        asked, rest = take_values(rest, f"--{path}kind")
        for kind in asked:
            section = member_of(section, members, kind, f"--{path}kind")
        if section is not None:
            section, rest = pick_kinds(section, rest, path)
        config = with_field(config, name, section)
    return config, rest


def take_values(flags: Sequence[str], *names: str) -> tuple[list[str], list[str]]:
    """The values of every `--name VALUE` and `--name=VALUE`, and the flags without them.

    Raises:
        ConfigError: the flag stands last, without a value.
    """
    values: list[str] = []
    rest: list[str] = []
    queue = iter(flags)
    for word in queue:
        name, equals, given = word.partition("=")
        if name in names and equals:
            values.append(given)
        elif word in names:
            value = next(queue, None)
            if value is None:
                raise ConfigError(f"{word}: expected a value after it, got nothing")
            values.append(value)
        else:
            rest.append(word)
    return values, rest


def sections_of(kind: type) -> Iterator[tuple[str, tuple[type, ...]]]:
    """Fields that are dataclasses or unions of them, with the union's members (`NoneType` among them)."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        if any(dataclasses.is_dataclass(member) for member in members):
            yield field.name, tuple(members)


def member_of(current: object, members: Sequence[type], asked: str, where: str) -> object:
    """The default instance of the member called `asked`, or `current` when it already is one."""
    by_name = {kind_name(member): member for member in members}
    if asked not in by_name:
        raise ConfigError(f"{where}: expected {' or '.join(by_name)}, got {asked!r}")
    member = by_name[asked]
    return current if isinstance(current, member) else member()


def kind_name(member: type) -> str:
    """`Mcmc` is `mcmc`, `LearningRates` is `learning-rates`, `None` is `none`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", member.__name__).lower()
    return "none" if member is types.NoneType else words


def kebab(name: str) -> str:
    return name.replace("_", "-")


def with_field(config: C, name: str, value: object) -> C:
    return dataclasses.replace(cast(Any, config), **{name: value})


def _sentence(box: str) -> str:
    """What tyro's box of lines says, as one sentence: its first paragraph, between the title and a rule."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    # Every line has two characters of frame, which are blank where the terminal cannot show lines.
    body = [line[2:].rstrip("│ ") for line in plain.splitlines()[1:] if not line.startswith("╰")]
    rules = [at for at, line in enumerate(body) if at > 0 and line.startswith(("───", "---"))] or [len(body)]
    first = [line for line in body[: rules[0]] if not line.startswith("---")]
    if first and first[0].startswith("Missing from"):
        # Arguments are indented by four spaces, their help by more; "-o PATH, --out PATH" has a long form.
        names = [line.split(", ")[-1].strip() for line in first[1:] if re.match(r" {4}\S", line)]
        return f"missing: {', '.join(names)}"
    said = " ".join(line.strip() for line in first).strip().rstrip(".")
    for pattern, plainer in _PLAINER:
        said = re.sub(pattern, plainer, said)
    return re.sub(r"(?<=expected one of )\((.*?)\)", _sorted_choices, said)


def _sorted_choices(listed: re.Match[str]) -> str:
    """tyro keeps choices in a set, whose order changes from run to run."""
    choices = sorted(listed[1].split(", "), key=lambda choice: (choice == "'None'", choice))
    return f"({', '.join(choices)})"


def _check_known(flags: Sequence[str], parse: Callable[[list[str]], object]) -> None:
    """Refuse the first flag that the help does not name.

    tyro itself takes the value of an unknown flag for a positional argument, and complains about that one.
    """
    told = io.StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        parse(["--help"])
    known = sorted(set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w.-]*", told.getvalue())))
    for flag in flags:
        name = flag.split("=")[0].replace("_", "-")
        if re.match(r"--?[a-zA-Z]", name) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(f"unknown flag {name}" + (f"; did you mean {close[0]}?" if close else ""))


def asked_size(
    width: int | None, height: int | None, own: tuple[int, int], least: int = 1
) -> tuple[int, int]:
    """[px] width and height of a picture as --width and --height ask; one alone keeps the proportions.

    Args:
        width: as asked, or None.
        height: as asked, or None.
        own: what the picture has if nobody asks.
        least: of both.

    Raises:
        ConfigError: fewer than that.
    """
    for flag, side in (("--width", width), ("--height", height)):
        if side is not None and side < least:
            raise ConfigError(f"{flag}: expected at least {least} px, got {side}")
    if width is not None and height is not None:
        return width, height
    if width is not None:
        return width, max(least, round(width * own[1] / own[0]))
    if height is not None:
        return max(least, round(height * own[0] / own[1])), height
    return own
