"""Garbage: forgetting revisions that no name leads to, and writing packs anew without the holes they left."""

import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass

from ..errors import StoreError
from ..log import Done, Event, Progress
from .manifest import needed_by, walk
from .packs import ALIGNMENT, Location, PackWriter
from .revisions import Store

#: A pack that no revision knows may belong to a writer that is about to commit [s].
_GRACE_S = 3600.0
#: Packs are written anew when more of them is dead than this.
_WASTE = 0.3
#: Every program that writes begins a pack; beyond so many they become one.
_MOST_PACKS = 100
#: A single pack with no more dead than this has nothing to gain.
_SLACK = 0.05
_STAGE = "Collecting [chunks]"


@dataclass(frozen=True)
class Collected:
    """What was freed."""

    revisions: int
    """Forgotten."""
    chunks: int
    """Forgotten."""
    bytes_before: int
    """[bytes] of all packs."""
    bytes_after: int
    """[bytes]"""
    bytes_waiting: int
    """[bytes] of these, of packs that nobody needs and that go when they are old enough."""


def collect(
    store: Store, *, undone_days: float | None = None, compact: bool | None = None, grace_s: float = _GRACE_S
) -> Generator[Event[Collected], None, None]:
    """Forget what neither a branch nor a tag nor an undone tip leads to.

    Args:
        store: open for writing.
        undone_days: forget what was undone and replaced longer ago than this; default: keep it all.
        compact: write the packs anew, in the order of reading; default: when 30 % of them is dead.
        grace_s: [s] leave packs younger than this that no revision knows: a writer may be about to commit.

    Raises:
        StoreError: the store is read-only, damaged, or another program writes.
    """
    if store.read_only:
        raise StoreError(f"{store.path}: expected a world that can be written, got one open read-only")
    before = _size(store)
    with store.database.transaction() as connection:
        store.chunks.refresh()
        if undone_days is not None:
            connection.execute(
                "DELETE FROM ref WHERE kind = 'undone' AND time <= ?",
                (time.time() - undone_days * 86400,),
            )
        alive = _reachable(store)
        rows = connection.execute("SELECT id FROM revision ORDER BY id DESC").fetchall()
        dead = [(row[0],) for row in rows if row[0] not in alive]
        for table in ("object_index", "rollout"):
            connection.executemany(f"DELETE FROM {table} WHERE revision = ?", dead)
        # Children before their parents, which they point to.
        connection.executemany("DELETE FROM revision WHERE id = ?", dead)
        marked = yield from _marked(store, sorted(alive))
        lost = [(name,) for name in store.chunks.places if name not in marked]
        connection.executemany("DELETE FROM chunk WHERE hash = ?", lost)
        # Packs that only wait for their removal are no reason to write everything again.
        known = {row[0] for row in connection.execute("SELECT name FROM pack")}
        used = _size(store, known)
        live = sum(-(-store.chunks.places[name].length // ALIGNMENT) * ALIGNMENT for name in marked)
        wasteful = len(known) > _MOST_PACKS or used - live > _WASTE * max(used, 1)
        if (compact or (compact is None and wasteful)) and (len(known) > 1 or used - live > _SLACK * used):
            yield from _rewrite(store, marked)
        connection.execute("DELETE FROM pack WHERE id NOT IN (SELECT pack FROM chunk)")
    store.chunks.forget()
    store.release()
    _remove_packs(store, grace_s)
    store.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    left = {row[0] for row in store.database.connection.execute("SELECT name FROM pack")}
    after = _size(store)
    yield Done(Collected(len(dead), len(lost), before, after, after - _size(store, left)))


def _reachable(store: Store) -> set[int]:
    """Revisions that a name leads to, with all their ancestors."""
    alive: set[int] = set()
    for ref in store.refs():
        for start in (ref.revision, ref.tip):
            for revision in store.history(start):
                if revision.id in alive:
                    break
                alive.add(revision.id)
    return alive


def _marked(store: Store, revisions: list[int]) -> Generator[Event[Collected], None, dict[str, None]]:
    """Chunks that these revisions need, in the order in which reading the newest one asks for them."""
    marked: dict[str, None] = {}
    for count, number in enumerate(reversed(revisions), 1):
        root_hash = store.revision(number).root
        root = store.chunks.node(root_hash)
        marked[root_hash] = None
        if root["cameras"]:
            marked[root["cameras"]] = None
        for _, node in walk(root["objects"], store.chunks.node, marked.setdefault):
            if node in marked:
                continue
            marked[node] = None
            marked.update(dict.fromkeys(needed_by(store.chunks.node(node), store.chunks.node)))
        yield Progress(count, len(revisions), stage="Marking [revisions]")
    row = "SELECT actions FROM rollout UNION SELECT result FROM rollout"
    marked.update(dict.fromkeys(r[0] for r in store.database.connection.execute(row)))
    return marked


def _rewrite(store: Store, marked: dict[str, None]) -> Generator[Event[Collected], None, None]:
    """Copy all live chunks into new packs and point the database there; what is damaged stays as it is."""
    writer, moved = PackWriter(store.packs.folder), dict[str, Location]()
    try:
        for count, name in enumerate(marked, 1):
            try:
                with store.packs.view(store.chunks.places[name]) as view:
                    moved[name] = writer.add(view)
            except StoreError:
                continue
            yield Progress(count, len(marked), stage=_STAGE)
        writer.sync()
    except OSError as error:
        raise StoreError(
            f"{store.path}: could not write: {error.strerror or error}; make room and try again, nothing is"
            " lost"
        ) from error
    finally:
        writer.close()
    connection = store.database.connection
    connection.executemany(
        "INSERT OR IGNORE INTO pack(name) VALUES(?)", [(name,) for name in {at.pack for at in moved.values()}]
    )
    ids = dict(connection.execute("SELECT name, id FROM pack").fetchall())
    connection.executemany(
        "UPDATE chunk SET pack = ?, offset = ? WHERE hash = ?",
        [(ids[at.pack], at.offset, name) for name, at in moved.items()],
    )


def _remove_packs(store: Store, grace_s: float) -> None:
    """Delete pack files that no chunk is in; one that a program still maps goes at a later time.

    Under the lock of writers: a commit either is done and its pack known, or comes later and finds it gone.
    """
    with store.database.transaction() as connection:
        known = {row[0] for row in connection.execute("SELECT name FROM pack")}
        for path in store.packs.folder.glob("*.pack"):
            with suppress(OSError):
                if path.name not in known and time.time() - path.stat().st_mtime > grace_s:
                    path.unlink()


def _size(store: Store, names: set[str] | None = None) -> int:
    """[bytes] of all packs, or of those of these names."""
    files = list(store.packs.folder.glob("*.pack"))
    return sum(file.stat().st_size for file in files if names is None or file.name in names)
