"""Finding the files that a capture lists: exact paths, usual folders, suffixes left out, and one warning."""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

logger = logging.getLogger(__name__)

#: Tried in this order for paths without a suffix, as Blender scenes write them.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp")
#: Folders next to a list of pictures in which people keep them.
USUAL_FOLDERS = ("images", "input", "rgb", "color", "frames")


def find_listed(listed: str, folders: Sequence[Path]) -> Path | None:
    """The file that a list calls `listed`: below one of the folders by its path, else by its name alone.

    A capture that was moved has stale prefixes, so only the last folder and the name are kept when the whole
    path leads nowhere.
    """
    # Lists written under Windows use backslashes.
    path = PurePosixPath(listed.replace("\\", "/"))
    for tail in (path, PurePosixPath(*path.parts[-2:]), PurePosixPath(path.name)):
        for folder in folders:
            for candidate in _spellings(folder / tail):
                if _is_file(candidate):
                    return candidate
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A listed name may be longer than the file system allows.
        return False


def _spellings(path: Path) -> list[Path]:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return [path]
    return [path, *(path.with_name(path.name + suffix) for suffix in PICTURE_SUFFIXES if path.name)]


def warn_missing(path: Path, what: str, missing: Sequence[str], total: int) -> None:
    """Say once, in one line, how many listed files are not on disk and which come first."""
    if missing:
        few = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        logger.warning(
            "%s lists %d %s; %d of them are not on disk and are left out: %s",
            path, total, what, len(missing), few,
        )  # fmt: skip
