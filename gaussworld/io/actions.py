"""Files of actions: JSON and CSV that people write, safetensors and npz that programs write."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError
from ..state import Action
from .action_script import (
    FORMAT,
    MAX_BYTES,
    VERSION,
    ActionFile,
    json_record,
    read_csv,
    read_json,
    spec_from_record,
)
from .atomic import replacing
from .json_object import blaming
from .tensor_file import read_tensors, write_tensors

#: Suffixes of files of actions.
SUFFIXES = (".json", ".csv", ".safetensors", ".npz")
_ARRAYS = ("tools", "joints", "grip", "start", "start_grip")


def load_actions(path: Path | str) -> ActionFile:
    """Read a file of actions; the suffix decides how.

    Raises:
        FileFormatError: no such file, an unknown suffix, damage, no actions, or values that make no sense.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        kinds = ", ".join(SUFFIXES)
        raise FileFormatError(f"{path}: expected a file of actions ({kinds}), got {path.suffix!r}")
    if not path.is_file():
        raise FileFormatError(f"{path}: expected a file of actions, got no such file; check the path")
    readers = {".json": read_json, ".csv": read_csv, ".npz": _read_npz, ".safetensors": _read_safetensors}
    with blaming(str(path)):
        found = readers[path.suffix.lower()](path)
    if not found.actions.batch_shape or not len(found.actions):
        raise FileFormatError(f"{path}: expected at least 1 action, got none; add targets to `actions`")
    return found


def save_actions(found: ActionFile, path: Path | str) -> None:
    """Write actions; a `.safetensors` or `.npz` gives the same bits back, a `.json` the same float32 values.

    Raises:
        ValueError: another suffix, a batch, or (`.json`) actions that are not tool poses.
        GaussWorldError: the file system refuses.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    if len(found.actions.batch_shape) != 1:
        raise ValueError(f"expected one sequence of actions, got a batch {found.actions.batch_shape}")
    spec = asdict(found.actions.spec)
    tools = [each if isinstance(each, str) else dict(each) for each in found.tools]
    if suffix == ".json":
        text = json.dumps(json_record(found, spec, tools), indent=1, allow_nan=False)
        with replacing(path) as file:
            file.write(text.encode())
        return
    values = {name: getattr(found.actions, name) for name in ("tools", "joints", "grip")}
    values |= {"start": found.start, "start_grip": found.start_grip}
    tensors = {name: value for name, value in values.items() if value is not None}
    if suffix == ".safetensors":
        write_tensors(path, FORMAT, VERSION, tensors, {"spec": spec, "tools": tools})
    elif suffix == ".npz":
        _write_npz(path, tensors, {"format": FORMAT, "version": VERSION, "spec": spec, "tools": tools})
    else:
        raise ValueError(f"{path}: expected .json, .safetensors or .npz to write, got {suffix!r}")


def _read_safetensors(path: Path) -> ActionFile:
    tensors, facts = read_tensors(path, FORMAT, VERSION, _ARRAYS)
    return _from_arrays(tensors, facts)


def _from_arrays(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> ActionFile:
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise ValueError(f"{name}: expected float32, got {value.dtype}")
    values: dict[str, Tensor | None] = {name: None for name in _ARRAYS}
    values |= {name: value.float() for name, value in tensors.items()}
    spec, tools = spec_from_record(facts.get("spec", {})), facts.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(each, str | dict) for each in tools):
        raise ValueError(f"tools: expected names or records of tools, got {tools!r:.60}")
    _check_time(values)
    actions = Action(spec, values["tools"], values["joints"], values["grip"])
    if len(actions.batch_shape) != 1:
        raise ValueError(f"expected one sequence of actions, got a batch of shape {actions.batch_shape}")
    return ActionFile(actions, tuple(tools), values["start"], values["start_grip"])


def _check_time(values: Mapping[str, Tensor | None]) -> None:
    axes = {"tools": 3, "joints": 2, "grip": 2}
    for name, count in axes.items():
        value = values[name]
        if value is not None and value.ndim != count:
            raise ValueError(f"{name}: expected {count} axes, time first, got shape {tuple(value.shape)}")


def _read_npz(path: Path) -> ActionFile:
    """Arrays as numpy writes them, with the facts as JSON in the text array `facts`; never a pickle."""
    import zipfile

    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            # What the directory promises is checked before anything is unpacked.
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise FileFormatError(f"{path}: expected at most {MAX_BYTES} bytes of arrays, got {size}")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in (*_ARRAYS, "facts")}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise FileFormatError(f"{path}: expected an npz of actions, got: {error}; write it again") from error
    facts = json.loads(str(arrays.pop("facts"))) if "facts" in arrays else {}
    if not isinstance(facts, dict) or facts.get("format", FORMAT) != FORMAT:
        raise ValueError(f"facts: expected those of {FORMAT}, got {facts!r:.60}")
    if facts.get("version", VERSION) != VERSION:
        raise ValueError(f"expected {FORMAT} of version {VERSION}, got {facts.get('version')!r:.20}")
    for name, value in arrays.items():
        if value.dtype.kind != "f":
            raise ValueError(f"{name}: expected floating-point numbers, got {value.dtype}")
    return _from_arrays(
        {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}, facts
    )


def _write_npz(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    import numpy as np

    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    with replacing(path) as file:
        arrays["facts"] = np.array(json.dumps(facts, allow_nan=False))
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
