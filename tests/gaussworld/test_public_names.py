"""`import gaussworld as gw`: instant, complete, and the verb `render` is never hidden by the folder."""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import gaussworld as gw


def run(code: str, repository: Path) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_every_public_name_resolves() -> None:
    """The list, the lazy table and what type checkers read say the same."""
    for name in gw.__all__:
        assert getattr(gw, name) is not None
    assert set(gw._HOMES) | set(gw._SPOKES) == set(gw.__all__) - {"__version__"}
    assert set(gw.__all__) <= set(dir(gw))


def test_type_checkers_see_the_same_names(repository: Path) -> None:
    """The imports under TYPE_CHECKING name every public name, from the same place."""
    tree = ast.parse((repository / "gaussworld" / "__init__.py").read_text())
    seen = {
        # `from . import edit` names a module.
        alias.name: node.module or alias.name
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == gw._HOMES


def test_unknown_name() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="module 'gaussworld' has no attribute 'nothing'"):
        gw.nothing  # noqa: B018


def test_import_is_light(repository: Path) -> None:
    """Neither torch nor numpy is imported before a name needs it."""
    code = (
        "import sys, gaussworld, gaussworld.cli; print({'torch', 'numpy', 'tyro', 'rich'} & set(sys.modules))"
    )
    assert run(code, repository) == "set()"


@pytest.mark.parametrize(
    "first", ["", "import gaussworld.render.contract", "from gaussworld.render import render as other"]
)
def test_render_is_callable_whatever_was_imported_first(first: str, repository: Path) -> None:
    """`gaussworld.render` is a folder too: importing it must not hide the verb."""
    code = (
        f"{first}\nimport gaussworld as gw, inspect\nprint(callable(gw.render), gw.render.contract.__name__)"
    )
    assert run(code, repository) == "True gaussworld.render.contract"


def test_calling_the_folder_calls_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments and result pass through."""
    folder = import_module("gaussworld.render")
    monkeypatch.setattr(folder, "render", lambda *args, **keywords: (args, keywords))
    assert gw.render(1, outputs=2) == ((1,), {"outputs": 2})


def test_version_is_that_of_the_distribution() -> None:
    """pyproject.toml takes it from the package; an install that is out of date would differ."""
    try:
        installed = version("gaussworld")
    except PackageNotFoundError:
        pytest.skip("gaussworld is not installed: the tests run on the checkout itself")
    assert installed == gw.__version__
