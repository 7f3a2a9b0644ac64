"""Tensors with facts as one safetensors file: what files of actions and of rollouts share."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FileFormatError
from .atomic import replacing


def write_tensors(
    path: Path | str, format: str, version: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write tensors as they are, with facts as JSON in the file's metadata; the old file stays until then.

    Raises:
        ValueError: a fact is no JSON.
        GaussWorldError: the file system refuses.
    """
    from safetensors.torch import save

    metadata = {"format": format, "version": str(version)}
    metadata |= {name: json.dumps(value, allow_nan=False) for name, value in facts.items()}
    # Copies: views that share memory, as of an expanded batch, are no tensors that can be written.
    data = save({name: value.detach().cpu().clone() for name, value in tensors.items()}, metadata)
    with replacing(Path(path)) as file:
        file.write(data)


def read_tensors(
    path: Path | str, format: str, version: int, names: tuple[str, ...] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the facts of a file that `write_tensors` wrote.

    Args:
        path: the file.
        format: what it must say it is.
        version: the only one that is read.
        names: of the tensors to read; default: all. Those that are not in the file are left out.

    Raises:
        FileFormatError: no such file, a damaged one, or one of another format or version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: expected {format}, got no such file; check the path")
    try:
        # The reader checks every offset against the size of the file, which bounds what it allocates.
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            _check(path, metadata, format, version)
            wanted = [name for name in file.keys() if names is None or name in names]
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise FileFormatError(
            f"{path}: expected {format} as a whole safetensors file, got one that cannot be read ({error});"
            " write or copy it again"
        ) from error
    return tensors, _facts(path, metadata)


def _check(path: Path, metadata: Mapping[str, str], format: str, version: int) -> None:
    if metadata.get("format") != format:
        got = metadata.get("format", "a file that does not say what it is")
        raise FileFormatError(f"{path}: expected {format}, got {got!r:.80}; choose another file")
    if metadata.get("version") != str(version):
        raise FileFormatError(
            f"{path}: expected {format} of version {version}, got {metadata.get('version')!r:.20}; update"
            " GaussWorld or write it again"
        )


def _facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        return {
            name: json.loads(text) for name, text in metadata.items() if name not in ("format", "version")
        }
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected JSON in its metadata, got: {error}; write it again"
        ) from error
