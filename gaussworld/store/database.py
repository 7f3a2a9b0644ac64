"""The SQLite file of a world: its schema, opening it safely, and bringing an older one up to date."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreError

FILE = "world.db"
FORMAT_VERSION = 1
#: "GAUS", so that programs such as `file` can tell.
APPLICATION_ID = 0x47415553
#: How long to wait for another writer [s].
PATIENCE_S = 10.0

SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pack(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE chunk(hash TEXT PRIMARY KEY, pack INTEGER NOT NULL REFERENCES pack(id), offset INTEGER NOT NULL,
  length INTEGER NOT NULL, codec TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE revision(id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER REFERENCES revision(id),
  op TEXT NOT NULL, op_json TEXT NOT NULL, author TEXT NOT NULL, time REAL NOT NULL, manifest TEXT NOT NULL);
CREATE INDEX revision_parent ON revision(parent);
CREATE TABLE ref(kind TEXT NOT NULL CHECK(kind IN ('branch', 'tag', 'undone')), name TEXT NOT NULL,
  revision INTEGER NOT NULL REFERENCES revision(id), tip INTEGER NOT NULL REFERENCES revision(id),
  time REAL NOT NULL, PRIMARY KEY(kind, name)) WITHOUT ROWID;
CREATE TABLE rollout(id INTEGER PRIMARY KEY, revision INTEGER NOT NULL REFERENCES revision(id),
  model TEXT NOT NULL, actions TEXT NOT NULL, dt REAL NOT NULL, result TEXT NOT NULL, time REAL NOT NULL);
CREATE TABLE object_index(revision INTEGER NOT NULL REFERENCES revision(id), object INTEGER NOT NULL,
  name TEXT NOT NULL, change TEXT NOT NULL, PRIMARY KEY(revision, object)) WITHOUT ROWID;
CREATE INDEX object_index_object ON object_index(object);
"""

#: From this version to the next: statements. There is no older format yet.
MIGRATIONS: dict[int, tuple[str, ...]] = {}

_TABLES = frozenset("meta pack chunk revision ref rollout object_index".split())
#: Where locks do not hold, or shared memory between programs does not exist.
_NETWORK = frozenset("afs ceph cifs davfs fuse.sshfs glusterfs lustre ncpfs nfs nfs4 smb2 smb3 smbfs".split())


def create(path: Path, branch: str) -> None:
    """Write an empty database of the current format.

    Raises:
        sqlite3.Error: the file system refuses.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.executescript("BEGIN;" + SCHEMA + "COMMIT;")
        facts = {"format_version": str(FORMAT_VERSION), "branch": branch}
        connection.executemany("INSERT INTO meta VALUES(?, ?)", facts.items())
    finally:
        connection.close()


class Database:
    """One connection to the database of a world.

    Raises:
        StoreError: it is no world, of an unknown format, damaged, or on a file system that cannot lock.
    """

    def __init__(self, folder: Path, read_only: bool) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.read_only = read_only
        if not self.path.is_file():
            got = "no such path" if not folder.exists() else "a folder without one"
            if folder.is_file():
                got = "a file; a splat file becomes a world by `gaussworld world create`"
            raise StoreError(f"{folder}: expected a world, which is a folder with {FILE}, got {got}")
        if not read_only:
            refuse_network(folder)
        self._immutable: tuple[int, int] | None = None
        with translated(self.path):
            self.connection = self._connect()
            try:
                version = self._version()
                if version < FORMAT_VERSION and not read_only:
                    self._migrate(version)
            except BaseException:
                self.connection.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        uri = self.path.resolve().as_uri()
        if not self.read_only:
            connection = _connected(f"{uri}?mode=rw")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(
                    f"{self.path}: expected a file system with locks and shared memory, got one where"
                    f" write-ahead logging does not work ({mode}); move the world to a local disk"
                )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            return connection
        connection = _connected(f"{uri}?mode=ro")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            return connection
        except sqlite3.OperationalError:
            connection.close()
            # SQLite cannot share memory in a folder it cannot write to; without a log there is no need.
            if self._has_log():
                raise
            self._immutable = self._stamp()
            return _connected(f"{uri}?mode=ro&immutable=1")

    def _has_log(self) -> bool:
        log = self.path.with_name(FILE + "-wal")
        return log.exists() and log.stat().st_size > 0

    def _stamp(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_mtime_ns, stat.st_size

    def renew(self) -> None:
        """Open the file again if it was taken for one that never changes, and has changed."""
        if self._immutable is not None and (self._stamp() != self._immutable or self._has_log()):
            self._immutable = None
            self.connection.close()
            with translated(self.path):
                self.connection = self._connect()

    def _version(self) -> int:
        """The format, of a file that holds our tables and nothing that runs by itself."""
        rows = self.connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        names = {name for kind, name, _ in rows if kind == "table"}
        if not names & _TABLES:
            raise StoreError(f"{self.path}: expected the database of a world, got another SQLite file")
        if any(kind in ("view", "trigger") or "VIRTUAL" in str(sql).upper() for kind, _, sql in rows):
            raise StoreError(f"{self.path}: expected plain tables, got views, triggers or virtual tables")
        if missing := _TABLES - names:
            raise StoreError(f"{self.path}: expected the tables of a world, got none called {min(missing)}")
        row = self.connection.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone()
        try:
            version = int(row[0])
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"{self.path}: expected a format version, got {row!r:.80}; the file is damaged"
            ) from error
        if version > FORMAT_VERSION or version < min([*MIGRATIONS, FORMAT_VERSION]):
            raise StoreError(
                f"{self.path}: expected format version {min([*MIGRATIONS, FORMAT_VERSION])} to"
                f" {FORMAT_VERSION}, got {version}; open it with the version that made it, or a newer one"
            )
        return version

    def _migrate(self, version: int) -> None:
        """Bring an older database up to date, after a copy of it was put beside it."""
        backup = self.path.with_name(f"{FILE}.v{version}.bak")
        if not backup.exists():
            copy = sqlite3.connect(backup)
            self.connection.backup(copy)
            copy.close()
        with self.transaction() as connection:
            # Another program may have done it meanwhile.
            row = connection.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone()
            for step in range(int(row[0]), FORMAT_VERSION):
                for statement in MIGRATIONS[step]:
                    connection.execute(statement)
            connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'format_version'", (str(FORMAT_VERSION),)
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, with no other writer at the same time.

        Raises:
            StoreError: another writer holds on, or the disk refuses.
        """
        with translated(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several reads that see one state.

        Raises:
            StoreError: the database is damaged.
        """
        with translated(self.path):
            if self.connection.in_transaction:
                yield self.connection
                return
            self.renew()
            self.connection.execute("BEGIN")
            try:
                yield self.connection
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """What SQLite says about a file, as one sentence.

    Raises:
        StoreError: instead of any sqlite3.Error, or of text that is none.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        if "locked" in words or "busy" in words:
            raise StoreError(
                f"{path}: expected to write within {PATIENCE_S:g} s, but another program holds the world;"
                " try again when it is done"
            ) from error
        if "full" in words:
            raise StoreError(
                f"{path}: expected room on the disk, got none; make room and try again, the last revision is"
                " untouched"
            ) from error
        raise StoreError(
            f"{path}: expected a sound database, got: {words}; see `gaussworld world verify`"
        ) from error


def _connected(uri: str) -> sqlite3.Connection:
    # Threads share the connection under the lock of whoever owns it (`Session`).
    opened = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE_S, check_same_thread=False)
    # A file from a stranger must not run functions.
    opened.execute("PRAGMA trusted_schema = OFF")
    return opened


def writable(folder: Path) -> bool:
    """Whether this process may write a world in this folder."""
    return all(
        os.access(path, os.W_OK) for path in (folder, folder / FILE, folder / "packs") if path.exists()
    )


def refuse_network(folder: Path) -> None:
    """Refuse file systems on which two programs can damage a database.

    Raises:
        StoreError: it is one.
    """
    if (kind := _filesystem(folder)) in _NETWORK:
        raise StoreError(
            f"{folder}: expected a local disk, got a network file system ({kind}), whose locks cannot be"
            " trusted; copy the world to a local disk, or open it read-only"
        )


def _filesystem(folder: Path) -> str:
    """Type of the file system a path is on, where the system tells; else nothing."""
    if not sys.platform.startswith("linux"):
        return ""
    place, best, kind = os.path.realpath(folder), "", ""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        parts = line.split()
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, parts[2]
    return kind
