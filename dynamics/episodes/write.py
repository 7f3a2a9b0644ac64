"""Writing episodes: one folder each, and the index of a set."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from safetensors.numpy import save

from gaussworld.io.atomic import replacing

from .layout import ACTIONS, ARRAYS, CARD, FIXED, FORMAT, INDEX, INTEGERS, MOMENTS, VERSION


def write_episode(
    folder: Path, card: Mapping[str, Any], arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> None:
    """Write an episode's arrays and then its card, without which there is no episode.

    Args:
        folder: of the episode; its meshes are there already.
        card: what goes into episode.json; format and version are added.
        arrays: all that the layout names: float32, ids as int64, contacts as bool.

    Raises:
        ValueError: an array is missing or superfluous, or a number is not finite.
        GaussWorldError: the file system refuses.
    """
    wanted = {*MOMENTS, *ACTIONS, *FIXED}
    if wanted != set(arrays):
        differ = ", ".join(sorted(wanted ^ set(arrays)))
        raise ValueError(f"write_episode: expected the arrays of the layout, got others: {differ}")
    ready = {name: _packed(name, arrays[name]) for name in sorted(arrays)}
    with replacing(folder / ARRAYS) as file:
        file.write(save(ready))
    write_json(folder / CARD, {"format": FORMAT, "version": VERSION, **card})


def write_index(folder: Path, config: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]]) -> None:
    """Write the list of a set's episodes.

    Args:
        folder: of the set.
        config: how it was made.
        episodes: name, family, seed, split, steps of each.

    Raises:
        GaussWorldError: the file system refuses.
    """
    index = {"format": FORMAT, "version": VERSION, "config": dict(config), "episodes": list(episodes)}
    write_json(folder / INDEX, index)


def write_json(path: Path, value: object) -> None:
    """Write plain values; NaN and infinity are refused, because JSON has none."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def _packed(name: str, values: np.ndarray) -> np.ndarray:
    kind = np.int64 if name in INTEGERS else np.bool_ if name == "contacts" else np.float32
    packed = np.ascontiguousarray(values, dtype=kind)
    if kind is np.float32 and not np.isfinite(packed).all():
        raise ValueError(f"write_episode: expected finite numbers in {name}, got NaN or infinity")
    return packed
