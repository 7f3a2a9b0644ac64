"""`Dataset`: a LeRobot folder of version 2.0, 2.1 or 3.0 as it lies on disk; rows of numbers by episode."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaussworld.errors import FileFormatError
from gaussworld.io.json_object import read_object

from .parquet import existing, table_of

_MAX_JSON = 64 << 20
_VERSIONS = ((2, 0), (2, 1), (3, 0))


@dataclass(frozen=True)
class Feature:
    """A column of a dataset."""

    dtype: str
    """float32, int64, bool, string, ..., or image or video."""
    shape: tuple[int, ...]
    names: tuple[str, ...]
    """Of the numbers in it, where the dataset says."""

    @property
    def pictures(self) -> bool:
        """Whether it is seen by a camera."""
        return self.dtype in ("image", "video")


@dataclass(frozen=True)
class Recording:
    """Where an episode's rows and pictures are."""

    index: int
    length: int
    """Rows."""
    task: str
    data: Path
    videos: Mapping[str, tuple[Path, float]]
    """By feature: the file, and the time [s] in it at which the episode begins."""


@dataclass(frozen=True)
class Dataset:
    """What a dataset holds; rows and pictures are read when they are asked for."""

    folder: Path
    version: tuple[int, int]
    fps: float
    robot: str
    features: Mapping[str, Feature]
    recordings: tuple[Recording, ...]
    splits: Mapping[str, range]
    """Numbers of the episodes in each split that the dataset names."""

    def split_of(self, index: int) -> str:
        """The name of the split of an episode; train where the dataset does not say."""
        return next((name for name, span in self.splits.items() if index in span), "train")


def open_dataset(folder: Path | str) -> Dataset:
    """Read what a LeRobot dataset says about itself.

    Raises:
        FileFormatError: it is none, is of another version, or contradicts itself.
        MissingDependency: pyarrow is not installed, which a dataset of version 3 needs even for that.
    """
    folder = Path(folder)
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise FileFormatError(
            f"{folder}: expected a LeRobot dataset, a folder with meta/info.json, got none there;"
            " choose the folder that holds meta, data and videos"
        )
    info = read_object(path, _MAX_JSON)
    version = _version(path, info.get("codebase_version"))
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 10_000:
        raise FileFormatError(f"{path}: expected fps above 0, got {fps!r:.40}; mend info.json")
    features = _features(path, info.get("features"))
    recordings = (
        _of_version_3(folder, info, features) if version[0] == 3 else _of_version_2(folder, info, features)
    )
    if not recordings:
        raise FileFormatError(f"{folder}: expected at least one episode, got none; record some first")
    robot = str(info.get("robot_type") or "unknown")
    return Dataset(
        folder, version, float(fps), robot, features, recordings, _splits(path, info.get("splits"))
    )


def _version(path: Path, got: object) -> tuple[int, int]:
    found = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", str(got))
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version in _VERSIONS:
        return version
    hint = "update GaussWorld" if version > _VERSIONS[-1] else "convert it with lerobot's own scripts"
    raise FileFormatError(
        f"{path}: expected codebase_version v2.0, v2.1 or v3.0, got {str(got)[:40]!r}; {hint}"
    )


def _features(path: Path, got: object) -> dict[str, Feature]:
    if not isinstance(got, dict) or not got:
        raise FileFormatError(f"{path}: expected features, got {type(got).__name__}; copy the dataset again")
    try:
        return {
            str(name): Feature(
                str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), _names(entry.get("names"))
            )
            for name, entry in got.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{path}: expected dtype and shape of every feature, got {error!r:.80}"
        ) from error


def _names(given: Any) -> tuple[str, ...]:
    """Names come as a list, or as a table of lists such as {motors: [...]}."""
    groups = list(given.values()) if isinstance(given, dict) else [given]
    return tuple(str(name) for group in groups if isinstance(group, list) for name in group)


def _splits(path: Path, given: object) -> dict[str, range]:
    """`{"train": "0:180", "test": "180:206"}`."""
    spans = {}
    for name, text in (given if isinstance(given, dict) else {}).items():
        found = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", str(text))
        if not found:
            raise FileFormatError(f"{path}: expected splits such as 0:180, got {name}: {str(text)[:40]!r}")
        spans[str(name)] = range(int(found[1]), int(found[2]))
    return spans


def _of_version_2(
    folder: Path, info: Mapping[str, Any], features: Mapping[str, Feature]
) -> tuple[Recording, ...]:
    """A file for every episode; their lengths in meta/episodes.jsonl."""
    path = folder / "meta" / "episodes.jsonl"
    chunk, cameras = _whole(info, "chunks_size", folder), _cameras(features)
    recordings = []
    for row in _json_lines(existing(path, "the list of episodes")):
        index = _whole(row, "episode_index", path)
        numbers = {"episode_index": index, "episode_chunk": index // max(chunk, 1)}
        videos = {name: (_filled(folder, info, "video_path", numbers, name), 0.0) for name in cameras}
        data = _filled(folder, info, "data_path", numbers)
        recordings.append(Recording(index, _whole(row, "length", path), _task(row), data, videos))
    return tuple(recordings)


def _of_version_3(
    folder: Path, info: Mapping[str, Any], features: Mapping[str, Feature]
) -> tuple[Recording, ...]:
    """Many episodes to a file; where each is stands in meta/episodes."""
    files = sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise FileFormatError(
            f"{folder}: expected meta/episodes/chunk-000/file-000.parquet, got no such file"
        )
    recordings = []
    for path in files:
        table = table_of(path)
        # The statistics of every episode lie there too: hundreds of columns that nobody reads here.
        kept = [name for name in table.column_names if not name.startswith("stats/")]
        for row in table.select(kept).to_pylist():
            numbers = _places(row, "data", path)
            videos = {
                name: (
                    _filled(folder, info, "video_path", _places(row, f"videos/{name}", path), name),
                    float(row.get(f"videos/{name}/from_timestamp") or 0.0),
                )
                for name in _cameras(features)
            }
            index, length = _whole(row, "episode_index", path), _whole(row, "length", path)
            data = _filled(folder, info, "data_path", numbers)
            recordings.append(Recording(index, length, _task(row), data, videos))
    return tuple(sorted(recordings, key=lambda recording: recording.index))


def _cameras(features: Mapping[str, Feature]) -> list[str]:
    return [name for name, feature in features.items() if feature.dtype == "video"]


def _places(row: Mapping[str, Any], prefix: str, path: Path) -> dict[str, int]:
    return {name: _whole(row, f"{prefix}/{name}", path) for name in ("chunk_index", "file_index")}


def _whole(row: Mapping[str, Any], key: str, path: Path) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FileFormatError(f"{path}: expected {key} as a whole number, got {value!r:.40}; copy it again")
    return value


def _task(row: Mapping[str, Any]) -> str:
    tasks = row.get("tasks")
    return "; ".join(map(str, tasks)) if isinstance(tasks, list) else str(tasks or "")


def _filled(
    folder: Path, info: Mapping[str, Any], key: str, numbers: Mapping[str, int], camera: str = ""
) -> Path:
    """A path that info.json gives with places such as {episode_index:06d} to fill in."""
    template = info.get(key)
    values: dict[str, int | str] = {**numbers, "video_key": camera}

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise FileFormatError(
                f"{folder / 'meta' / 'info.json'}: expected known names in {key}, got {found[0]!r}"
            )
        return str(values[found[1]]).zfill(int(found[2] or 0))

    if not isinstance(template, str):
        raise FileFormatError(f"{folder / 'meta' / 'info.json'}: expected {key}, got {template!r:.40}")
    path = folder / re.sub(r"\{(\w+)(?::0?(\d+)d)?\}", value, template)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FileFormatError(
            f"{folder / 'meta' / 'info.json'}: expected {key} inside the dataset, got {template!r:.80}"
        )
    return path


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (ValueError, OSError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected a JSON object in each line, got: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise FileFormatError(f"{path}: expected a JSON object in each line, got other JSON")
    yield from rows
