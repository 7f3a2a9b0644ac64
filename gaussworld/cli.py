"""The console script `gaussworld`: finds the verb, parses its flags, and turns failures into one sentence.

Nothing heavy is imported here: `gaussworld --help` must answer at once.
"""

import difflib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Annotated, Any

from . import __version__
from .errors import ConfigError, GaussWorldError
from .verbs import PRESET_TYPES, VERBS, resolve

Command = Callable[[], Any]

USAGE = "usage: gaussworld VERB [ARGUMENTS]\n       gaussworld VERB --help"
FLAGS = """  --version      Print the version.
  -v, --verbose  Say more while working.
  --debug        Show where an error comes from (also: GAUSSWORLD_DEBUG=1)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 failed, 2 called wrongly, 130 interrupted."""
    # Read when torch loads: its idle threads would spin on the cores that the rasterizer's threads need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if argv is None else argv)
    debug = _taken(words, "--debug") or os.environ.get("GAUSSWORLD_DEBUG", "0") not in ("", "0")
    verbose = _taken(words, "--verbose", "-v")
    try:
        return _dispatch(words, verbose)
    except KeyboardInterrupt:
        return _fail("Interrupted.", 130)
    except BrokenPipeError:
        # The reader (head, less) has left: nothing more can be said, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        return _fail(*_explained(error, split_verb(words)[0]))


def _dispatch(words: Sequence[str], verbose: bool) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"gaussworld {__version__}\n")
        return 0
    verb, flags = split_verb(words)
    if verb in families():
        sys.stdout.write(overview(verb))
        return 0
    if verb not in VERBS:
        family = verb.split()[0]
        known = [name for name in VERBS if name.startswith(f"{family} ")]
        known = known or [name for name in VERBS if " " not in name] + sorted(families())
        close = difflib.get_close_matches(verb, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"verbs are {', '.join(known)}"
        raise ConfigError(f"expected a verb, got {verb!r}; {hint}")
    function = resolve(VERBS[verb].target)
    call = parse_command(verb, function, flags)
    if call is not None:
        from .log import setup_logging

        setup_logging(verbose)
        call()
    return 0


def split_verb(words: Sequence[str]) -> tuple[str, list[str]]:
    """The verb, of two words for a family such as `world`, and what follows it."""
    count = 2 if words[0] in families() and len(words) > 1 and not words[1].startswith("-") else 1
    return " ".join(words[:count]), list(words[count:])


def families() -> set[str]:
    """First words of verbs that have two."""
    return {name.split()[0] for name in VERBS if " " in name}


def overview(family: str = "") -> str:
    """What `gaussworld --help` prints: every verb, or those of a family, with one line each, by group."""
    chosen = {name: verb for name, verb in VERBS.items() if not family or name.startswith(f"{family} ")}
    width = max(map(len, chosen)) + 2
    lines = [USAGE, ""]
    for group, verbs in groupby(chosen.items(), key=lambda item: item[1].group):
        lines += [f"{group}:", *(f"  {name:<{width}}{verb.help}" for name, verb in verbs), ""]
    return "\n".join([*lines, "Anywhere:", FLAGS, ""])


def parse_command(verb: str, function: Callable[..., Any], flags: Sequence[str]) -> Command | None:
    """The function of a verb bound to what the command line says; None when that was only `--help`.

    Raises:
        ConfigError: a flag or a preset is wrong.
    """
    # tyro takes 0.2 s to import, which `gaussworld --help` does not need.
    from .config import load_config
    from .flags import parse_flags, pick_kinds, take_values

    parameters = dict(inspect.signature(function).parameters)
    rest, note = list(flags), ""
    if config := parameters.get("config"):
        default, (sources, rest) = config.default, take_values(rest, "--config", "--preset")
        for source in sources:
            default = load_config(type(default), source, default, _preset_group(type(default)))
        default, rest = pick_kinds(default, rest)
        annotation = Annotated[type(default), _flat()]
        parameters["config"] = config.replace(default=default, annotation=annotation)
        note = _preset_note(type(default))
    bound = _binder(function, parameters)
    try:
        return parse_flags(bound, rest, prog=f"gaussworld {verb}", description=_described(function, note))
    except ConfigError as error:
        raise ConfigError(f"{error} (see gaussworld {verb} --help)") from error
    except SystemExit:
        return None


def _binder(function: Callable[..., Any], parameters: dict[str, inspect.Parameter]) -> Callable[..., Command]:
    """A function with these parameters that only binds them, so that parsing ends before work begins."""

    @functools.wraps(function)
    def bind(*args: Any, **keywords: Any) -> Command:
        return functools.partial(function, *args, **keywords)

    del bind.__wrapped__  # else tyro would read the annotations there
    bind.__signature__ = inspect.Signature(list(parameters.values()))  # pyright: ignore[reportAttributeAccessIssue]
    bind.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return bind


def _flat() -> object:
    import tyro

    return tyro.conf.arg(name="")


def _preset_group(kind: type) -> str:
    groups = (group for group, target in PRESET_TYPES.items() if target.endswith(f":{kind.__name__}"))
    return next(groups, kind.__name__)


def _preset_note(kind: type) -> str:
    from .config import preset_names

    names = [name.split("/")[1] for name in preset_names(_preset_group(kind))]
    if not names:
        return "--config FILE starts from a TOML file."
    return (
        f"--preset NAME (or --config FILE) starts from a shipped preset or a TOML file: {', '.join(names)}."
    )


def _described(function: Callable[..., Any], note: str) -> str:
    """The docstring up to its sections, and what can be said about presets."""
    text = inspect.getdoc(function) or ""
    return "\n\n".join(part for part in (text.split("\n\nArgs:")[0].split("\n\nRaises:")[0], note) if part)


def _explained(error: Exception, verb: str) -> tuple[str, int]:
    """One sentence and the exit status for whatever went wrong."""
    if isinstance(error, ConfigError):
        where = f" {verb}" if verb in VERBS else ""
        return f"gaussworld{where}: {error}", 2
    if isinstance(error, GaussWorldError | ValueError):
        return f"gaussworld {verb}: {error}", 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"gaussworld {verb}: {error.filename}: {error.strerror}", 1
    what = f"{type(error).__name__}: {error}"
    return f"gaussworld {verb}: unexpected {what}; --debug shows where it comes from", 1


def _fail(message: str, status: int) -> int:
    sys.stderr.write(message.rstrip() + "\n")
    return status


def _taken(words: list[str], *flags: str) -> bool:
    """Whether one of the flags is among the words, which loses it."""
    found = [word for word in words if word in flags]
    words[:] = [word for word in words if word not in flags]
    return bool(found)
