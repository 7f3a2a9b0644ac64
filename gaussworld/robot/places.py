"""Where the files are that a URDF names: beside it, above it, or in a ROS package."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse


def candidates(name: str, urdf: Path, package_paths: Sequence[Path]) -> list[Path]:
    """Paths at which a file of a URDF may be, the likeliest first.

    `package://NAME/rest` is sought in folders of that name, or whose package.xml has it: in `package_paths`
    and those of ROS_PACKAGE_PATH, and in every folder above the URDF. Other names are relative to the URDF.
    """
    parsed = urlparse(name)
    if parsed.scheme in ("package", "model"):
        return _in_packages(unquote(parsed.netloc), unquote(parsed.path).lstrip("/"), urdf, package_paths)
    if parsed.scheme == "file":
        return [Path(unquote(parsed.path))]
    path = Path(name)
    if path.is_absolute():
        return [path]
    # Some programs write paths relative to the package, or to the place where they were called.
    return [folder / path for folder in (urdf.parent, *package_paths, *list(urdf.parent.parents)[:3])]


def _in_packages(package: str, rest: str, urdf: Path, package_paths: Sequence[Path]) -> list[Path]:
    environment = os.environ.get("ROS_PACKAGE_PATH", "")
    given = [*package_paths, *(Path(each) for each in environment.split(os.pathsep) if each)]
    found = []
    for folder in (*given, *list(urdf.parents)[:8]):
        found.append(folder / package / rest)
        if folder.name == package or _package_name(folder) == package:
            found.append(folder / rest)
    # The folder that holds the URDF may be the package under another name.
    return list(dict.fromkeys([*found, urdf.parent / rest, urdf.parent.parent / rest]))


def _package_name(folder: Path) -> str:
    """What a folder's package.xml calls it; empty without one."""
    try:
        text = (folder / "package.xml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.partition("<name>")[2].partition("</name>")[0].strip()
