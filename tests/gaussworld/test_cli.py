"""The command line as people meet it: help, exit statuses, the exact sentence of the commonest mistakes."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gaussworld import cli, verbs
from gaussworld.errors import CaptureError
from gaussworld.verbs import Verb


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m gaussworld` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "gaussworld", *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs a command line in an empty folder; returns the exit status and what was said on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAUSSWORLD_DEBUG", raising=False)

    def call(*words: str) -> tuple[int, str]:
        status = cli.main(words)
        return status, capsys.readouterr().err

    return call


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Adds a verb `try` that runs the given function."""

    def add(function: object) -> None:
        monkeypatch.setitem(verbs.VERBS, "try", Verb("tests:function", "For a test."))
        monkeypatch.setattr(cli, "resolve", lambda target: function)

    return add


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, by group."""
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, entry in verbs.VERBS.items():
        assert f"  {name}" in shown and entry.help in shown and f"{entry.group}:\n" in shown


def test_help_without_words(capsys: pytest.CaptureFixture[str]) -> None:
    """`gaussworld` alone is a question."""
    assert cli.main([]) == 0
    assert capsys.readouterr().out == cli.overview()


def test_version(repository: Path) -> None:
    """Through `python -m gaussworld`."""
    done = run("--version", cwd=repository)
    assert (done.returncode, done.stdout) == (0, "gaussworld 0.1.0\n")


@pytest.mark.parametrize("name", sorted(verbs.VERBS))
def test_every_verb_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its module imports, its parameters can be parsed, and its docstring is shown."""
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: gaussworld {name}" in shown and "--help" in shown


MISSING = "expected a file of Gaussians or a capture, got nothing.ply, which does not exist"


FIRST = [name for name in verbs.VERBS if " " not in name] + ["import", "world"]


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["rendr"], 2, "gaussworld: expected a verb, got 'rendr'; did you mean 'render'?"),
        (["xyz"], 2, f"gaussworld: expected a verb, got 'xyz'; verbs are {', '.join(FIRST)}"),
        (["info"], 2, "gaussworld info: missing: PATH (see gaussworld info --help)"),
        (["info", "nothing.ply"], 1, f"gaussworld info: {MISSING}"),
        (
            ["info", "a.ply", "--jsn"],
            2,
            "gaussworld info: unknown flag --jsn; did you mean --json? (see gaussworld info --help)",
        ),
        (
            ["render", "a.ply", "-o", "a.png", "--width", "wide"],
            2,
            "gaussworld render: --width: expected INT, got ['wide'] (see gaussworld render --help)",
        ),
        (
            ["convert", "a.ply", "b.ply", "--sh-degree", "5"],
            2,
            "gaussworld convert: --sh-degree: got '5', expected one of ('0', '1', '2', '3', 'None') "
            "(see gaussworld convert --help)",
        ),
        (
            ["render", "a.ply", "-o", "a.png", "--turntable", "2"],
            2,
            "gaussworld render: --turntable: expected an .mp4 to write, got a.png; change its suffix",
        ),
        (
            ["render", "a.ply", "-o", "a.mp4"],
            2,
            "gaussworld render: expected a picture (.png, .jpg), got a.mp4; add --turntable 90 for a video",
        ),
        (
            ["render", "a.ply", "-o", "a.png", "--config", "render/antialised"],
            2,
            "gaussworld render: expected a TOML file or the name of a shipped preset, "
            "got 'render/antialised'; did you mean 'render/antialiased'?",
        ),
        (
            ["render", "a.ply", "-o", "a.png", "--config", "bad.toml"],
            2,
            "gaussworld render: bad.toml: expected a known key, got 'antialised'; "
            "did you mean 'antialiased'?",
        ),
        (
            ["convert", "a.ply", "taken.ply"],
            2,
            "gaussworld convert: expected a new file, got taken.ply, which exists; "
            "add --force to overwrite it",
        ),
    ],
)
def test_mistakes(words: list[str], status: int, sentence: str, said, tmp_path: Path) -> None:
    """Byte for byte: one sentence on stderr."""
    (tmp_path / "taken.ply").write_text("")
    (tmp_path / "bad.toml").write_text("antialised = true\n")
    assert said(*words) == (status, sentence + "\n")


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (CaptureError("expected pictures, got none"), 1, "gaussworld try: expected pictures, got none"),
        (ValueError("expected 3, got 4"), 1, "gaussworld try: expected 3, got 4"),
        (FileNotFoundError(2, "No such file", "x.ply"), 1, "gaussworld try: x.ply: No such file"),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (
            RuntimeError("odd"),
            1,
            "gaussworld try: unexpected RuntimeError: odd; --debug shows where it comes from",
        ),
    ],
)
def test_failures_of_a_command(error: BaseException, status: int, sentence: str, said, verb) -> None:
    """Whatever a command raises becomes one sentence and an exit status."""

    def fail() -> None:
        raise error

    verb(fail)
    assert said("try") == (status, sentence + "\n")


def test_debug_shows_the_traceback(said, verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """By flag, before or after the verb, and by environment."""

    def fail() -> None:
        raise ValueError("deep inside")

    verb(fail)
    for words in (["--debug", "try"], ["try", "--debug"]):
        with pytest.raises(ValueError, match="deep inside"):
            said(*words)
    monkeypatch.setenv("GAUSSWORLD_DEBUG", "1")
    with pytest.raises(ValueError, match="deep inside"):
        said("try")


def test_a_command_gets_its_flags_and_preset(said, verb, tmp_path: Path) -> None:
    """`--config` sets defaults, flags override them, later presets earlier ones."""
    from gaussworld.render import RenderSettings

    calls = []

    def command(scene: Path, /, *, count: int = 1, config: RenderSettings = RenderSettings()) -> None:  # noqa: B008
        """Try.

        Args:
            scene: what.
            count: how many.
        """
        calls.append((scene, count, config))

    verb(command)
    (tmp_path / "near.toml").write_text("near = 2.0\neps2d = 0.5\n")
    words = [
        "try",
        "a.ply",
        "--config",
        "render/antialiased",
        "--config=near.toml",
        "--near",
        "3",
        "--count=2",
    ]
    assert said(*words) == (0, "")
    assert calls == [(Path("a.ply"), 2, RenderSettings(near=3.0, eps2d=0.5, antialiased=True))]


def test_help_names_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    """So that nobody has to look into the package for them."""
    cli.main(["render", "--help"])
    shown = capsys.readouterr().out
    assert "--preset NAME (or --config FILE) starts from a shipped preset or a TOML file:" in shown
    assert "antialiased" in shown
    assert "--near FLOAT" in shown and "--config.near" not in shown


def test_messages_name_only_verbs_that_exist(repository: Path) -> None:
    """`gaussworld something` in any string of the packages is a command that one can run today."""
    named = {
        (cli.split_verb(match[1].split())[0], str(file.relative_to(repository)))
        for package in ("gaussworld", "recon", "dynamics")
        for file in (repository / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for match in re.finditer(r"(?<!import )\bgaussworld ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", node.value)
    }
    assert any(verb == "demo" for verb, _ in named)
    known = set(verbs.VERBS) | cli.families()
    assert {(verb, file) for verb, file in named if verb not in known} == set()


def test_a_reader_that_leaves_is_no_error(repository: Path) -> None:
    """`gaussworld ... | head -1` ends without a word."""
    code = (
        "import sys; from gaussworld import cli; cli.overview = lambda: 'x' * 10**6; sys.exit(cli.main([]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
