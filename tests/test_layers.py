"""The shape of the tree: who imports whom, no cycles, no heavy imports, no long files, presets that load."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gaussworld", "recon", "dynamics", "viewer")
MAX_LINES = 500
HEAVY = frozenset(
    "av cv2 fastapi gsplat matplotlib mujoco nerfstudio open3d pycolmap scipy trimesh viser".split()
)
BANNED_NAMES = frozenset("utils helpers common base manager factory misc".split())


@dataclass(frozen=True)
class Import:
    """One import of a module by a module."""

    importer: str
    imported: str
    at_import_time: bool


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Every import in a file, as absolute names; `from a import b` names both a and a.b."""
    name = module_name(path, root)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def walk(node: ast.AST, top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(name, alias.name, top)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = package.split(".")
                    base = ".".join(filter(None, [*parts[: len(parts) - child.level + 1], base]))
                yield Import(name, base, top)
                for alias in child.names:
                    yield Import(name, f"{base}.{alias.name}", top)
            else:
                typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, top and not inside and not typing_only)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), top=True)


def wrong_arrows(root: Path) -> list[str]:
    """Spokes import themselves and the hub; the hub imports no spoke."""
    found = set()
    for path in sources(root):
        for each in imports_of(path, root):
            here, there = each.importer.split(".")[0], each.imported.split(".")[0]
            if there in PACKAGES and there not in (here, "gaussworld"):
                found.add(f"{each.importer} imports {there}")
    return sorted(found)


def heavy_imports(root: Path) -> list[str]:
    """Optional and slow packages that the hub imports at module level."""
    return sorted(
        f"{each.importer} imports {each.imported} at module level"
        for path in sources(root)
        for each in imports_of(path, root)
        if each.at_import_time and each.importer.split(".")[0] == "gaussworld"
        if each.imported in HEAVY
    )


def import_cycle(root: Path) -> list[str]:
    """Modules that import each other in a ring while being imported, or nothing."""
    modules = {module_name(path, root): path for path in sources(root)}
    graph = {
        name: {e.imported for e in imports_of(path, root) if e.at_import_time and e.imported in modules}
        - {name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def search(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            # A package's own __init__ runs before its modules: a sibling imported through it is no ring.
            if not name.startswith(f"{other}.") and (ring := search(other, [*trail, name])):
                return ring
        done.add(name)
        return []

    return next((ring for name in sorted(graph) if (ring := search(name, []))), [])


def untidy(root: Path) -> list[str]:
    """Files that are too long, begin without a docstring, or are named after nothing."""
    found = []
    for path in sources(root):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(root)
        if (lines := text.count("\n")) > MAX_LINES:
            found.append(f"{name}: {lines} lines")
        if not ast.get_docstring(ast.parse(text)):
            found.append(f"{name}: no docstring")
        if path.stem in BANNED_NAMES:
            found.append(f"{name}: name the thing it holds")
        if "from __future__ import annotations" in text:
            found.append(f"{name}: postponed annotations can silence shape checks")
    return found


def test_arrows_point_at_the_hub() -> None:
    """recon, dynamics and viewer never import each other, and gaussworld imports none of them."""
    assert wrong_arrows(ROOT) == []


def test_hub_imports_nothing_heavy() -> None:
    """Optional packages are imported where they are used."""
    assert heavy_imports(ROOT) == []


def test_no_import_cycles() -> None:
    """Modules can be understood, and imported, one after another."""
    assert import_cycle(ROOT) == []


def test_files_are_tidy() -> None:
    """At most 500 lines, a docstring first, a name that says something."""
    assert untidy(ROOT) == []


def test_four_packages_are_there() -> None:
    """The checks above looked at something."""
    assert [package for package in PACKAGES if not (ROOT / package / "__init__.py").is_file()] == []
    assert len(list(sources(ROOT))) > 20


@pytest.fixture
def bad_tree(tmp_path: Path) -> Path:
    """A tree that breaks every rule."""
    files = {
        "gaussworld/__init__.py": '"""Hub."""\n',
        "gaussworld/a.py": '"""A."""\nfrom . import b\nimport recon.trainer\nimport viser\n',
        "gaussworld/b.py": '"""B."""\nfrom .a import thing\n',
        "gaussworld/fine.py": '"""Late imports."""\n\n\ndef f():\n    import viser\n\n    from .a import x\n',
        "recon/__init__.py": '"""Spoke."""\n',
        "recon/trainer.py": '"""T."""\n\n\ndef f():\n    from viewer import app\n',
        "viewer/__init__.py": "x = 1\n",
        "viewer/utils.py": '"""U."""\n' + "x = 1\n" * 600,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_checkers_find_what_is_wrong(bad_tree: Path) -> None:
    """A checker that never fails checks nothing."""
    assert wrong_arrows(bad_tree) == ["gaussworld.a imports recon", "recon.trainer imports viewer"]
    assert heavy_imports(bad_tree) == ["gaussworld.a imports viser at module level"]
    assert import_cycle(bad_tree) == ["gaussworld.a", "gaussworld.b", "gaussworld.a"]
    assert untidy(bad_tree) == [
        "viewer/__init__.py: no docstring",
        "viewer/utils.py: 601 lines",
        "viewer/utils.py: name the thing it holds",
    ]


def test_every_preset_loads() -> None:
    """Presets may only hold keys that exist."""
    from gaussworld.config import load_config, preset_names
    from gaussworld.verbs import PRESET_TYPES, resolve

    assert preset_names()
    for name in preset_names():
        kind = resolve(PRESET_TYPES[name.split("/")[0]])
        assert isinstance(load_config(kind, name), kind)
