"""README.md is true: its Python runs, its commands parse, its links lead somewhere, its file map is complete.

`REFRESH_README=1 pytest tests/test_readme.py -k file_map` (or `make readme`) writes the file map anew.
"""

import ast
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- file map: make readme -->\n", "<!-- end of file map -->"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


def commands() -> Iterator[list[str]]:
    """Every line of the shell examples, with continued lines joined and comments dropped."""
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def file_map() -> str:
    """Every module of the four packages with the first line of its docstring."""
    lines = []
    for package in ("gaussworld", "recon", "dynamics", "viewer"):
        for path in sorted((ROOT / package).rglob("*.py"), key=lambda p: (len(p.parts), p)):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(f"{path.relative_to(ROOT).as_posix():<36} {docstring.splitlines()[0]}")
    return "```text\n" + "\n".join(lines) + "\n```\n"


def test_file_map_is_complete() -> None:
    """It is generated; `make readme` refreshes it."""
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    current, _, tail = rest.partition(END)
    if os.environ.get("REFRESH_README") == "1":
        README.write_text(head + BEGIN + file_map() + END + tail, encoding="utf-8")
        return
    assert current == file_map(), "README.md: the file map is out of date; run `make readme`"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the scene the examples speak of."""
    import torch

    import gaussworld as gw

    generator = torch.Generator().manual_seed(0)
    means = torch.randn(200, 3, generator=generator) * 0.3
    quats = torch.tensor([[1.0, 0, 0, 0]]).expand(200, 4)
    scales, opacities = torch.full((200, 3), 0.05), torch.full((200,), 0.8)
    gw.save(
        gw.Gaussians.from_activated(means, quats, scales, opacities, means.sigmoid()), tmp_path / "scene.ply"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_examples_run(workplace: Path) -> None:
    """One after another, in a folder that holds scene.ply."""
    assert blocks("python")
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert (workplace / "view.png").stat().st_size > 0


def test_shell_examples_parse() -> None:
    """Every verb, flag and make target exists; nothing is run."""
    from gaussworld.cli import parse_command, split_verb
    from gaussworld.verbs import VERBS, resolve

    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    seen = set()
    for program, *words in commands():
        seen.add(program)
        if program == "make":
            assert [word for word in words if "=" not in word and word not in targets] == []
        elif program == "gaussworld":
            verb, flags = split_verb(words)
            assert callable(parse_command(verb, resolve(VERBS[verb].target), flags))
        else:
            assert program in ("pip", "git", "cd")
    assert {"make", "gaussworld"} <= seen


def test_every_verb_is_shown() -> None:
    """A verb nobody reads about is not used."""
    from gaussworld.cli import split_verb
    from gaussworld.verbs import VERBS

    assert set(VERBS) <= {split_verb(words[1:])[0] for words in commands() if words[0] == "gaussworld"}


def test_links_lead_somewhere() -> None:
    """Links to files of the repository."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
