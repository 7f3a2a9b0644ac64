"""Tensors of a torch checkpoint by name, read without unpickling arbitrary code; only those asked for.

A checkpoint is a zip: a pickle that describes the tensors, and their bytes beside it. The pickle may name
only what is listed here, every name stands for something of ours, and nothing else is ever called.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import FileFormatError
from ..archive import Archive, open_archive

_MAX_BYTES = 1 << 36
_MAX_PICKLE_BYTES = 1 << 24
_MAX_DIMENSIONS = 8
#: What torch.save's pickles are made of, which is protocol 2.
_OPCODES = frozenset(
    "PROTO EMPTY_DICT EMPTY_LIST EMPTY_TUPLE MARK BINPUT LONG_BINPUT BINGET LONG_BINGET BINUNICODE BININT"
    " BININT1 BININT2 LONG1 BINFLOAT NEWTRUE NEWFALSE NONE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND"
    " APPENDS GLOBAL REDUCE BUILD BINPERSID STOP".split()
)
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in the archive."""

    entry: str
    """Name of its bytes below `data/`."""
    count: int
    """Numbers in that entry, of which the tensor shows some."""
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: object) -> None:
        # A pickle would write past the constructor, and past every check.
        raise _Foreign("a changed tensor")


class Checkpoint:
    """An open checkpoint: what it holds, and its tensors on demand; made by `open_checkpoint`."""

    def __init__(self, archive: Archive) -> None:
        self.path, self._archive = archive.path, archive
        pickles = [name for name in archive.entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise FileFormatError(
                f"{self.path}: expected a checkpoint of torch.save, got another zip archive"
            )
        self._root = pickles[0].removesuffix("data.pkl")
        order = f"{self._root}byteorder"
        if order in archive.entries and archive.read(order, 16) != b"little":
            raise FileFormatError(f"{self.path}: expected little-endian numbers, got others; save it again")
        #: What was handed to torch.save, with a `Stored` in place of every tensor.
        self.content = _unpickled(archive.read(pickles[0], _MAX_PICKLE_BYTES), self.path)

    def read(self, stored: Stored) -> Tensor:
        """The tensor itself, contiguous and on the CPU.

        Raises:
            FileFormatError: its bytes are missing, damaged, or fewer than its shape promises.
        """
        try:
            _check_layout(stored.count, stored.offset, stored.shape, stored.stride)
        except ValueError as error:
            raise FileFormatError(
                f"{self.path}: expected tensors within their bytes, got {error}; copy it again"
            ) from error
        name = f"{self._root}data/{stored.entry}"
        size = stored.count * stored.dtype.itemsize
        if (entry := self._archive.entries.get(name)) is None or entry.size != size:
            got = "none" if entry is None else f"{entry.size}"
            raise FileFormatError(f"{self.path}: expected {size} bytes in {name!r}, got {got}; copy it again")
        if not prod(stored.shape):
            return torch.zeros(stored.shape, dtype=stored.dtype)
        flat = torch.frombuffer(bytearray(self._archive.read(name, size)), dtype=stored.dtype)
        return flat.as_strided(stored.shape, stored.stride, stored.offset).contiguous()


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Open what torch.save wrote, without running anything of it.

    Raises:
        FileFormatError: not a checkpoint, damaged, or one whose pickle asks for other classes or functions
            than those that describe tensors and numbers.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    if start != b"PK\x03\x04":
        raise FileFormatError(
            f"{path}: expected a checkpoint of torch.save in its zip form, got something else; if it is of"
            " torch before 1.6, save it again with a newer one"
        )
    with open_archive(path, max_total_bytes=_MAX_BYTES) as archive:
        yield Checkpoint(archive)


def tensors_of(content: object, prefix: str = "") -> dict[str, Stored]:
    """The tensors of a state dict, by name; other values are passed over."""
    if not isinstance(content, Mapping):
        return {}
    return {f"{prefix}{key}": value for key, value in content.items() if isinstance(value, Stored)}


def _unpickled(raw: bytes, path: Path) -> Any:
    try:
        _check_opcodes(raw)
        return _Reader(io.BytesIO(raw)).load()
    except _Foreign as error:
        raise FileFormatError(
            f"{path}: expected a checkpoint of tensors and numbers, got one that asks for {error}, which is"
            " refused because a checkpoint can run code that way; if you trust it, load it with torch and"
            " save only its state dict"
        ) from None
    # A pickle is a program: malformed bytes end in any of a dozen exceptions.
    except Exception as error:
        raise FileFormatError(
            f"{path}: expected a whole checkpoint, got a damaged one: {type(error).__name__}: {error!s:.100}"
        ) from error


def _check_opcodes(raw: bytes) -> None:
    """Refuse what torch never writes, and places in the memo for which gigabytes would be set aside."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"the opcode {opcode.name}")
        if opcode.name == "LONG_BINPUT" and (not isinstance(argument, int) or argument > count):
            raise ValueError(f"memo {argument}")


class _Foreign(Exception):
    """A name that is not listed."""


class _Call:
    """Something that the pickle may call; nothing can be written to it."""

    __slots__ = ("_function",)

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Foreign("a changed function")


class _Ignored:
    """A value nobody needs, such as the learning rates that a scheduler keeps as NumPy numbers."""

    __slots__ = ()

    def __init__(self, *arguments: object) -> None:
        del arguments

    def __setstate__(self, state: object) -> None:
        del state


@dataclass(frozen=True)
class _Storage:
    entry: str
    dtype: torch.dtype
    count: int

    def __setstate__(self, state: object) -> None:
        raise _Foreign("a changed storage")


class _Ordered(OrderedDict[Any, Any]):
    """A dictionary whose methods a pickle cannot replace; what torch notes beside a state dict is dropped."""

    def __setstate__(self, state: object) -> None:
        del state


def _rebuilt(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Stored:
    """A tensor's description, once it is known to stay within its bytes."""
    del rest
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    _check_layout(storage.count, offset, shape, stride)
    return Stored(storage.entry, storage.count, storage.dtype, offset, tuple(shape), tuple(stride))


def _check_layout(count: Any, offset: Any, shape: Any, stride: Any) -> None:
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in (count, offset, *shape, *stride)):
        raise ValueError("a tensor without plain numbers for its shape")
    if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of shape {shape} and stride {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride))
    if prod(shape) and not 0 <= last < count:
        raise ValueError(f"a tensor of shape {shape} in {count} numbers")
    # Strides may show one number many times; a few bytes must not become terabytes.
    if prod(shape) > max(count, 1):
        raise ValueError(f"a tensor of shape {shape} made of {count} numbers")


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Call(_Ordered),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_rebuilt),
    ("torch._utils", "_rebuild_parameter"): _Call(lambda data, *rest: data),
    ("torch", "Size"): _Call(tuple),
    ("torch", "device"): _Call(_Ignored),
    ("numpy", "dtype"): _Call(_Ignored),
    ("numpy.core.multiarray", "scalar"): _Call(_Ignored),
    ("numpy._core.multiarray", "scalar"): _Call(_Ignored),
    ("_codecs", "encode"): _Call(_Ignored),
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Reader(pickle.Unpickler):
    """Only listed names; tensors become descriptions."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Foreign(f"{module}.{name}"[:100]) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, entry, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(count) is not int or count < 0:
            raise ValueError(f"a storage of {dtype!r}")
        if not isinstance(entry, str) or not entry.isdigit():
            raise ValueError(f"a storage named {entry!r}")
        return _Storage(entry, dtype, count)
