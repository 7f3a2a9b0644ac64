"""Chunks of a world by their hash: finding them in the packs, and adding those of a revision to be."""

import json
import math
import os
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import StoreError
from .columns import ROWS, Column
from .database import Database
from .packs import Location, PackReader, PackWriter, hash_of

_DTYPES = {"f4": torch.float32, "u1": torch.uint8, "i4": torch.int32}
#: A larger node is not one of ours [bytes].
_MAX_NODE = 1 << 28
#: Beyond so many bytes, an array may repeat its chunks so many times on average.
_LARGE, _MOST_COPIES = 1 << 28, 20
#: Places of other types than ours, which a damaged database may hold.
_STRANGE = (
    "SELECT 1 FROM chunk WHERE typeof(hash) <> 'text' OR typeof(pack) <> 'integer'"
    " OR typeof(offset) <> 'integer' OR typeof(length) <> 'integer'"
    " UNION ALL SELECT 1 FROM pack WHERE typeof(name) <> 'text' LIMIT 1"
)


_WHERE = "SELECT pack.name, offset, length FROM chunk JOIN pack ON pack.id = chunk.pack WHERE hash = ?"


class Chunks:
    """All committed chunks, read."""

    def __init__(self, database: Database, packs: PackReader) -> None:
        self._database, self._packs = database, packs
        #: Where every chunk lies, by hash, as of the last `refresh`.
        self.places: dict[str, Location] = {}
        self._version = -1

    def refresh(self) -> None:
        """Learn where all chunks lie, when another connection has changed the database.

        One query for all is five times as fast as one for each when a world is opened.
        """
        connection = self._database.connection
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            if connection.execute(_STRANGE).fetchone():
                raise StoreError(f"{self._database.path}: expected places of chunks, got damage")
            packs = dict(connection.execute("SELECT id, name FROM pack").fetchall())
            rows = connection.execute("SELECT hash, pack, offset, length FROM chunk").fetchall()
            self.places = {name: Location(packs.get(pack, ""), *at) for name, pack, *at in rows}
            self._version = version

    def forget(self) -> None:
        """Look everything up again at the next `refresh`."""
        self._version = -1

    def learn(self, places: Mapping[str, Location]) -> None:
        """Chunks that this connection has committed."""
        self.places.update(places)

    def location(self, name: str) -> Location:
        """Where a chunk lies.

        Raises:
            StoreError: there is no such chunk.
        """
        if (place := self.places.get(name)) is None:
            raise StoreError(f"{self._database.path}: expected a chunk {name}, got none; it was lost")
        return place

    def node(self, name: str) -> Any:
        """What a JSON chunk says.

        Raises:
            StoreError: it is lost or damaged.
        """
        at = self.location(name)
        if at.length > _MAX_NODE:
            raise StoreError(f"{at.pack}: expected a node of at most {_MAX_NODE} bytes, got {at.length}")
        try:
            return json.loads(self._packs.mapped(at)[at.offset : at.offset + at.length])
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"{at.pack}: expected a node at byte {at.offset}, got damage: {error}"
            ) from error

    def array(self, column: Column, count: int) -> Tensor:
        """A column's array; mapped without a copy when its chunks lie one behind the other.

        Raises:
            StoreError: a chunk is lost, or has another length than its rows need.
        """
        if len(column.chunks) == 1:
            return self._single(column, count)
        if len(column.chunks) != -(-count // ROWS):
            raise StoreError(f"expected an array of {count} rows, got {len(column.chunks)} chunks")
        places = [self.location(name) for name in column.chunks]
        shape, dtype = (count, *column.tail), _DTYPES[column.dtype]
        wanted, got = math.prod(shape) * dtype.itemsize, sum(at.length for at in places)
        if wanted != got:
            raise StoreError(f"expected {wanted} bytes for an array of shape {shape}, got {got}")
        if not wanted:
            return torch.zeros(shape, dtype=dtype)
        # A file that names one chunk a million times must not take memory for all of them.
        if wanted > _LARGE and wanted > _MOST_COPIES * sum(at.length for at in {*places}):
            raise StoreError(f"expected an array that the packs hold, got {wanted} bytes of repetitions")
        mapped = [self._packs.mapped(at) for at in places]
        first = places[0]
        if all(
            at.pack == first.pack and at.offset == before.offset + before.length
            for before, at in pairwise(places)
        ):
            return self._flat(mapped[-1], first.offset, wanted, dtype).view(shape)
        parts = [self._flat(m, at.offset, at.length, dtype) for m, at in zip(mapped, places)]
        return torch.cat(parts).view(shape)

    def _single(self, column: Column, count: int) -> Tensor:
        """As `array`, for the one chunk that most objects of a world with many of them have."""
        at, shape = self.location(column.chunks[0]), (count, *column.tail)
        if math.prod(shape) * _DTYPES[column.dtype].itemsize != at.length:
            raise StoreError(f"expected an array of shape {shape}, got {at.length} bytes")
        # numpy makes a shaped view of a buffer twice as fast as torch.
        mapped = self._packs.mapped(at)
        return torch.from_numpy(np.ndarray(shape, column.dtype, mapped, at.offset))

    def _flat(self, mapped: Any, offset: int, length: int, dtype: torch.dtype) -> Tensor:
        return torch.frombuffer(mapped, dtype=dtype, count=length // dtype.itemsize, offset=offset)


class Pending:
    """The chunks of a revision that is being written, not yet known to the database."""

    def __init__(self, database: Database, writer: PackWriter, packs: PackReader) -> None:
        self._database, self._writer, self._packs = database, writer, packs
        self._mark = writer.mark()
        self.added: dict[str, tuple[Location, str]] = {}
        self.reused: set[str] = set()

    def put_node(self, data: bytes) -> str:
        """Add a JSON chunk, unless it is there."""
        name = hash_of(data)
        self._put(name, data, "json")
        return name

    def put_arrays(self, pieces: Sequence[memoryview]) -> list[str]:
        """Add pieces of arrays in their order, hashing ahead on the other cores."""
        if len(pieces) < 4:
            names = [hash_of(piece) for piece in pieces]
            for name, piece in zip(names, pieces):
                self._put(name, piece, "raw")
            return names
        names = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for piece, name in zip(pieces, pool.map(hash_of, pieces)):
                self._put(name, piece, "raw")
                names.append(name)
        return names

    def _put(self, name: str, data: bytes | memoryview, codec: str) -> None:
        if name in self.added or name in self.reused:
            return
        if self._is_sound(name):
            self.reused.add(name)
        else:
            self.added[name] = self._writer.add(data), codec

    def _is_sound(self, name: str) -> bool:
        """Whether a chunk is there, whole: one that has rotted is written anew rather than named again."""
        row = self._database.connection.execute(_WHERE, (name,)).fetchone()
        if row is None:
            return False
        try:
            with self._packs.view(Location(*row)) as view:
                return hash_of(view) == name
        except StoreError:
            return False

    def record(self) -> bool:
        """Inside a transaction, tell the database of the new chunks.

        False when a collection has meanwhile taken one that was to be reused, or a pack for garbage: then all
        must be written again.
        """
        connection = self._database.connection
        for name in self.reused:
            if not connection.execute(_WHERE, (name,)).fetchone():
                return False
        packs = {at.pack for at, _ in self.added.values()}
        if not all(map(self._packs.exists, packs)):
            return False
        connection.executemany("INSERT OR IGNORE INTO pack(name) VALUES(?)", [(name,) for name in packs])
        ids = dict(connection.execute("SELECT name, id FROM pack").fetchall())
        connection.executemany(
            "INSERT OR REPLACE INTO chunk VALUES(?, ?, ?, ?, ?)",
            [(name, ids[at.pack], at.offset, at.length, codec) for name, (at, codec) in self.added.items()],
        )
        return True

    def sync(self) -> None:
        """Bring the new chunks onto the disk: before the transaction, never after."""
        if self.added:
            self._writer.sync()

    def forget(self) -> None:
        """Take back what was written, unless it was committed after all: an interrupt may come just then."""
        if self.added and not self._is_known():
            self._writer.rewind(self._mark)

    def _is_known(self) -> bool:
        try:
            found = self._database.connection.execute(_WHERE, (next(iter(self.added)),)).fetchone()
        except sqlite3.Error:
            return True
        return found is not None
