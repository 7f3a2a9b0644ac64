"""COLMAP's database of features and matches: made for one set of pictures and settings, looked into."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .background import colmap
from .pictures import Pictures
from .settings import SfmConfig

#: Focal length over the longer side where EXIF says nothing: between phones (0.7) and webcams (0.95).
_FOCAL_GUESS, _FISHEYE_GUESS = 0.85, 0.4
_MODELS = {
    "auto": "SIMPLE_RADIAL",
    "pinhole": "SIMPLE_PINHOLE",
    "radial": "SIMPLE_RADIAL",
    "opencv": "SIMPLE_RADIAL",
    "fisheye": "SIMPLE_RADIAL_FISHEYE",
}


def ready_database(path: Path, pictures: Pictures, config: SfmConfig, signature: dict[str, Any]) -> None:
    """Leave a database at `path` that holds the pictures' cameras, and features and matches of before if any.

    A database that was made from other pictures or settings, or that is damaged, is made anew.

    Args:
        path: the file.
        pictures: whose cameras it holds.
        config: which of them share a lens, and of which kind.
        signature: stored inside; a database with another one is of no use.
    """
    text = json.dumps(signature, sort_keys=True)
    if _signature(path) == text:
        _restore_names(path)
        return
    remove_database(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pycolmap = colmap()
    pycolmap.Database.open(path).close()
    options = pycolmap.ImageReaderOptions()
    options.camera_model = _MODELS[config.lens]
    options.default_focal_length_factor = _FISHEYE_GUESS if config.lens == "fisheye" else _FOCAL_GUESS
    for group in pictures.lenses(config.one_camera):
        names = [picture.name for picture in group]
        pycolmap.import_images(path, pictures.root, pycolmap.CameraMode.SINGLE, names, options)
    if config.lens == "fisheye":
        _believe_focal_lengths(path)
    # Last: a database without it counts as unfinished.
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE names AS SELECT image_id, name FROM images")
        connection.execute("CREATE TABLE gaussworld (signature TEXT)")
        connection.execute("INSERT INTO gaussworld VALUES (?)", (text,))


def _believe_focal_lengths(path: Path) -> None:
    """A guess is enough, but without one COLMAP verifies no match of two fisheye pictures."""
    with colmap().Database.open(path) as opened:
        for camera in opened.read_all_cameras():
            camera.has_prior_focal_length = True
            opened.update_camera(camera)


@contextmanager
def named_by_id(path: Path) -> Iterator[dict[str, str]]:
    """Pictures are called by their ids for a while: names with spaces would break COLMAP's lists of pairs.

    Yields:
        The new name by the old one.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE images SET name = CAST(image_id AS TEXT)")
        rows = connection.execute("SELECT name, image_id FROM names").fetchall()
    try:
        yield {name: str(image_id) for name, image_id in rows}
    finally:
        _restore_names(path)


def _restore_names(path: Path) -> None:
    """Undo `named_by_id`, of a run too that was killed in its middle."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE images SET name = (SELECT name FROM names WHERE names.image_id = images.image_id)"
        )


def remove_database(path: Path) -> None:
    """Delete the file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _signature(path: Path) -> str | None:
    if not path.is_file():
        return None
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            return None
        row = connection.execute("SELECT signature FROM gaussworld").fetchone()
        return row and row[0]
    return None


@contextmanager
def watched(path: Path) -> Iterator[Any]:
    """A database that COLMAP writes in another thread, opened to see how far that is.

    With COLMAP's SQLite, never Python's: of two copies of SQLite in a process, one that closes the file takes
    the locks of the other away, and with them its memory.
    """
    with colmap().Database.open(path) as opened:
        yield opened


def described_images(path: Path) -> int:
    """How many pictures were decoded and searched for features."""
    return sum(count is not None for count in feature_counts(path).values())


def feature_counts(path: Path) -> dict[str, int | None]:
    """Features of each picture, by name; None where the picture could not be decoded."""
    query = "SELECT names.name, rows FROM names LEFT JOIN descriptors USING (image_id)"
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute(query).fetchall())


def focal_is_known(path: Path) -> bool:
    """Whether EXIF told the focal length of every camera."""
    with colmap().Database.open(path) as database:
        return all(camera.has_prior_focal_length for camera in database.read_all_cameras())


def verified_pairs(path: Path, fewest: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Image ids and verified matches (m 2), as rows of features, of pairs with at least `fewest` of them."""
    pycolmap = colmap()
    with pycolmap.Database.open(path) as database:
        ids, geometries = database.read_two_view_geometries()
    for pair_id, geometry in zip(ids, geometries):
        matches = np.asarray(geometry.inlier_matches).reshape(-1, 2)
        if len(matches) >= fewest:
            first, second = pycolmap.pair_id_to_image_pair(pair_id)
            yield first, second, matches


def match_counts(path: Path) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Of each pair of names that was compared: matches, verified ones, COLMAP's configuration of the pair."""
    pycolmap = colmap()
    query = (
        "SELECT pair_id, COALESCE(matches.rows, 0), two_view_geometries.rows, config"
        " FROM two_view_geometries LEFT JOIN matches USING (pair_id)"
    )
    with closing(sqlite3.connect(path)) as connection:
        names = dict(connection.execute("SELECT image_id, name FROM names").fetchall())
        rows = connection.execute(query).fetchall()
    ids = (pycolmap.pair_id_to_image_pair(pair_id) for pair_id, *_ in rows)
    return {(names[a], names[b]): tuple(counts) for (a, b), (_, *counts) in zip(ids, rows)}
