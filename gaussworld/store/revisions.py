"""`Store`: the revisions of one world on disk - commit, read, undo, redo, branches and tags."""

import getpass
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, ConflictError, GaussWorldError, StoreError
from ..world import World
from . import database as db
from .chunks import Chunks, Pending
from .manifest import StoredWorld, decoded, encoded
from .packs import PackReader, PackWriter, sync_folder

MAIN = "main"
RefKind = Literal["branch", "tag", "undone"]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Revision:
    """One state of a world, and the edit that led to it."""

    id: int
    parent: int | None
    op: str
    """Name of the edit."""
    details: Mapping[str, Any]
    """The edit's own fields."""
    author: str
    time: float
    """[s since 1970]"""
    root: str
    """Hash of the manifest's root."""


@dataclass(frozen=True)
class Ref:
    """A name for a revision; a branch is where undo and redo have led it, its tip how far redo leads."""

    kind: RefKind
    name: str
    revision: int
    tip: int


class Store:
    """A world's folder: `world.db`, `packs/`, `cache/`. Not safe to share between threads without a lock.

    Args:
        path: the folder.
        read_only: never write; default: only where the folder cannot be written.

    Raises:
        StoreError: no world, a newer format, a damaged database, or a file system without locks.
    """

    def __init__(self, path: Path | str, read_only: bool | None = None) -> None:
        self.path = Path(path)
        self.read_only = (
            (not db.writable(self.path) if self.path.is_dir() else False) if read_only is None else read_only
        )
        self.database = db.Database(self.path, self.read_only)
        self.packs = PackReader(self.path / "packs")
        self.chunks = Chunks(self.database, self.packs)
        self._writer = PackWriter(self.path / "packs")

    @classmethod
    def create(cls, path: Path | str, world: World, *, op: str = "create", details: Any = None) -> "Store":
        """Make a new store whose first revision is `world`; the folder appears only when it is whole.

        Raises:
            StoreError: something is there already, or the file system refuses.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise StoreError(f"expected a new folder for the world, got {path}, which exists; choose another")
        build = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            (build / "packs").mkdir(parents=True)
            (build / "cache").mkdir()
            db.refuse_network(build)
            with db.translated(path):
                db.create(build / db.FILE, MAIN)
            store = cls(build, read_only=False)
            try:
                store.commit(world, None, parent=None, branch=MAIN, op=op, details=details or {})
            finally:
                store.close()
            if path.is_dir():
                path.rmdir()
            build.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            why = error.strerror or error
            raise StoreError(f"could not write {path}: {why}; choose another place or make room") from error
        finally:
            shutil.rmtree(build, ignore_errors=True)
        return cls(path)

    def close(self) -> None:
        """Let go of the files; worlds that were read stay usable."""
        self._writer.close()
        self.database.close()

    def release(self) -> None:
        """Let go of the pack that is being written and of all mappings; what comes next opens its own."""
        self._writer.close()
        self.packs.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(
        self, revision: int, near: StoredWorld | None = None, *, allow_damage: bool = False
    ) -> StoredWorld:
        """The world as it was at a revision; its arrays are mapped, not loaded.

        Args:
            revision: which.
            near: a world of this store, whose objects are reused where they are the same.
            allow_damage: leave out objects that cannot be read, with a warning each; else they are an error.

        Raises:
            StoreError: no such revision, or a damaged one.
        """

        def broken(number: int, _: str, error: Exception) -> None:
            found = f"{self.path}: object {number} of revision {revision} is damaged: {error}"
            if not allow_damage:
                raise StoreError(
                    f"{found}; `gaussworld world verify` lists the damage, --allow-damage opens the rest"
                ) from error
            _logger.warning("%s; it is left out", found)

        with self.database.snapshot():
            self.chunks.refresh()
            root = self.revision(revision).root
            try:
                stored = decoded(root, self.chunks.node, self.chunks.array, near, broken)
            except GaussWorldError:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(
                    f"{self.path}: expected a sound manifest at revision {revision}, got damage: {error}"
                ) from error
        return replace(stored, world=replace(stored.world, revision=str(revision)))

    def revision(self, number: int) -> Revision:
        """One revision's facts.

        Raises:
            StoreError: there is none of this number.
        """
        with db.translated(self.path):
            row = self.database.connection.execute(f"{_REVISIONS} WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise StoreError(f"{self.path}: expected a revision of this world, got {number}; see `world log`")
        return _revision(row)

    def history(self, revision: int) -> Iterator[Revision]:
        """A revision and its ancestors, newest first.

        Raises:
            StoreError: one is missing, or they go in a circle.
        """
        number: int | None = revision
        while number is not None:
            each = self.revision(number)
            yield each
            number = each.parent
            if number is not None and number >= each.id:
                raise StoreError(
                    f"{self.path}: expected revision {each.id} to follow an older one, got {number}"
                )

    def revisions(self) -> list[Revision]:
        """Every revision there is, newest first."""
        with db.translated(self.path):
            rows = self.database.connection.execute(f"{_REVISIONS} ORDER BY id DESC").fetchall()
        return [_revision(row) for row in rows]

    def touching(self, object_id: int) -> set[int]:
        """Revisions whose edit touched an object."""
        query = "SELECT revision FROM object_index WHERE object = ?"
        with db.translated(self.path):
            return {row[0] for row in self.database.connection.execute(query, (object_id,))}

    def refs(self) -> list[Ref]:
        """All branches, tags and undone tips."""
        with db.translated(self.path):
            rows = self.database.connection.execute("SELECT kind, name, revision, tip FROM ref").fetchall()
        for kind, name, *numbers in rows:
            if not isinstance(kind, str) or not isinstance(name, str) or {*map(type, numbers)} != {int}:
                raise StoreError(f"{self.path}: expected names of revisions, got damage: {name!r:.80}")
        return [Ref(*row) for row in rows]

    def branch(self, name: str | None = None) -> Ref:
        """A branch; default: the one that is checked out.

        Raises:
            ConfigError: there is none of this name.
        """
        name = name or self.meta("branch")
        return self._ref("branch", name)

    def resolve(self, name: str) -> int:
        """The revision that a branch, a tag or a number names.

        Raises:
            ConfigError: none of them.
        """
        for kind in ("branch", "tag", "undone"):
            for ref in self.refs():
                if ref.kind == kind and ref.name == name:
                    return ref.revision
        if name.isascii() and name.isdigit():
            return self.revision(int(name)).id
        known = ", ".join(f"{ref.name} ({ref.kind})" for ref in self.refs())
        raise ConfigError(f"expected a branch, a tag or a revision's number, got {name!r}; there are {known}")

    def meta(self, key: str) -> str:
        """A fact of the whole store: format_version, branch."""
        with db.translated(self.path):
            row = self.database.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise StoreError(f"{self.database.path}: expected a fact {key!r}, got none; the file is damaged")
        return row[0]

    def commit(
        self,
        world: World,
        base: StoredWorld | None,
        *,
        parent: int | None,
        branch: str,
        op: str,
        details: Mapping[str, Any],
        author: str | None = None,
        touched: Mapping[int, tuple[str, str]] | None = None,
    ) -> tuple[StoredWorld, int]:
        """Write a new revision and make it the head of a branch; durable when this returns.

        Args:
            world: what it is.
            base: what was read or written as `parent`; only the difference is written.
            parent: the revision this one follows, which must still be the branch's head.
            branch: its name.
            op: name of the edit.
            details: its fields, as JSON.
            author: who; default: the user's name.
            touched: for the index, object id -> (name, what changed).

        Raises:
            ConflictError: somebody committed in between.
            StoreError: the disk is full or refuses; the store is as it was.
        """
        self._refuse_reading("commit")
        base = base or StoredWorld(World())
        pending = Pending(self.database, self._writer)
        text = json.dumps(details, separators=(",", ":"), allow_nan=False)
        try:
            with db.translated(self.path):
                stored = encoded(world, base, pending.put_node, pending.put_arrays)
            pending.sync()
            with self.database.transaction() as connection:
                self._check_head(branch, parent, op)
                if not pending.record():
                    raise StoreError(f"{self.path}: chunks were collected while writing; try again")
                row = (parent, op, text, author or _author(), time.time(), stored.root)
                number = connection.execute(
                    "INSERT INTO revision(parent, op, op_json, author, time, manifest) VALUES(?,?,?,?,?,?)",
                    row,
                ).lastrowid
                assert number is not None
                self._advance(branch, number)
                self._index(number, touched)
            self.chunks.learn({name: at for name, (at, _) in pending.added.items()})
        except OSError as error:
            pending.forget()
            raise StoreError(
                f"{self.path}: could not write: {error.strerror or error}; make room and try again,"
                f" revision {parent} is untouched"
            ) from error
        except BaseException:
            pending.forget()
            raise
        return replace(stored, world=replace(world, revision=str(number))), number

    def undo(self, branch: str, at: int | None = None) -> int:
        """Move a branch one revision back.

        Args:
            branch: its name.
            at: where it must be.

        Raises:
            ConfigError: it is at its first revision.
            ConflictError: it is not where it must be.
        """
        self._refuse_reading("undo")
        with self.database.transaction() as connection:
            ref = self._ref("branch", branch)
            if at is not None:
                self._check_head(branch, at, "undo")
            parent = self.revision(ref.revision).parent
            if parent is None:
                raise ConfigError(f"expected something to undo on {branch}, got its first revision")
            connection.execute(_MOVE, (parent, ref.tip, "branch", branch))
        return parent

    def redo(self, branch: str, at: int | None = None) -> int:
        """Move a branch one revision forward, towards its tip.

        Args:
            branch: its name.
            at: where it must be.

        Raises:
            ConfigError: nothing was undone.
            ConflictError: it is not where it must be.
        """
        self._refuse_reading("redo")
        with self.database.transaction() as connection:
            ref = self._ref("branch", branch)
            if at is not None:
                self._check_head(branch, at, "redo")
            if ref.revision == ref.tip:
                raise ConfigError(f"expected something to redo on {branch}, got nothing undone")
            child = ref.tip
            for each in self.history(ref.tip):
                if each.parent == ref.revision:
                    child = each.id
                    break
            connection.execute(_MOVE, (child, ref.tip, "branch", branch))
        return child

    def restore(self, revision: int, branch: str) -> None:
        """Move a branch to one of its revisions, from the first to the tip, as repeated undo or redo would.

        Raises:
            ConfigError: the revision is not on the branch.
        """
        self._refuse_reading("restore")
        with self.database.transaction() as connection:
            ref = self._ref("branch", branch)
            if not any(each.id == revision for each in self.history(ref.tip)):
                raise ConfigError(f"expected a revision of branch {branch}, got {revision}; see `world log`")
            connection.execute(_MOVE, (revision, ref.tip, "branch", branch))

    def add_ref(self, kind: RefKind, name: str, revision: int, *, force: bool = False) -> None:
        """Name a revision.

        Raises:
            ConfigError: a name that is taken, or that no branch or tag can have.
        """
        self._refuse_reading(kind)
        if not name or name.isdigit() or not name.isprintable() or len(name) > 200 or name != name.strip():
            raise ConfigError(f"expected a name for the {kind} that is no number, got {name!r:.80}")
        with self.database.transaction() as connection:
            self.revision(revision)
            if kind == "branch" and force:
                self._keep_undone(name)
            if not force and any(ref.name == name for ref in self.refs()):
                raise ConfigError(f"expected a new name, got {name!r}, which is taken; choose another")
            connection.execute("INSERT OR REPLACE INTO ref VALUES(?,?,?,?)", (kind, name, revision, revision))

    def remove_ref(self, kind: RefKind, name: str) -> None:
        """Take a name away; its revisions stay until they are collected.

        Raises:
            ConfigError: there is none of this name, or it is the branch that is checked out.
        """
        self._refuse_reading("remove")
        with self.database.transaction() as connection:
            self._ref(kind, name)
            if kind == "branch" and name == self.meta("branch"):
                raise ConfigError(f"expected another branch, got {name}, which is checked out")
            connection.execute("DELETE FROM ref WHERE kind = ? AND name = ?", (kind, name))

    def checkout(self, branch: str) -> None:
        """Choose the branch that opens from now on.

        Raises:
            ConfigError: there is none of this name.
        """
        self._refuse_reading("checkout")
        with self.database.transaction() as connection:
            self._ref("branch", branch)
            connection.execute("UPDATE meta SET value = ? WHERE key = 'branch'", (branch,))

    def _ref(self, kind: RefKind, name: str) -> Ref:
        refs = [ref for ref in self.refs() if ref.kind == kind]
        for ref in refs:
            if ref.name == name:
                return ref
        known = ", ".join(ref.name for ref in refs) or "none"
        raise ConfigError(f"expected a {kind} of this world, got {name!r}; there are: {known}")

    def _check_head(self, branch: str, parent: int | None, op: str) -> None:
        heads = {ref.name: ref.revision for ref in self.refs() if ref.kind == "branch"}
        head = heads.get(branch)
        if head == parent:
            return
        if head is None:
            raise ConflictError(f"{self.path}: expected branch {branch}, got none; somebody removed it")
        last = self.revision(head)
        raise ConflictError(
            f"{self.path}: expected revision {parent} at the head of {branch} to {op}, got revision {head}"
            f" ({last.op} by {last.author}); read it and try again"
        )

    def _advance(self, branch: str, number: int) -> None:
        """Make a revision the head of a branch; what was undone keeps a name of its own."""
        self._keep_undone(branch)
        self.database.connection.execute(
            "INSERT OR REPLACE INTO ref VALUES('branch', ?, ?, ?)", (branch, number, number)
        )

    def _keep_undone(self, branch: str) -> None:
        for ref in self.refs():
            if ref.kind == "branch" and ref.name == branch and ref.tip != ref.revision:
                row = ("undone", f"undone-{ref.tip}", ref.tip, ref.tip)
                self.database.connection.execute("INSERT OR REPLACE INTO ref VALUES(?, ?, ?, ?)", row)

    def _index(self, number: int, touched: Mapping[int, tuple[str, str]] | None) -> None:
        rows = [(number, object_id, name, what) for object_id, (name, what) in (touched or {}).items()]
        self.database.connection.executemany("INSERT INTO object_index VALUES(?, ?, ?, ?)", rows)

    def _refuse_reading(self, what: str) -> None:
        if self.read_only:
            raise StoreError(
                f"{self.path}: expected a world that can be written for {what}, got one open"
                " read-only; copy it to a place of your own"
            )


_REVISIONS = "SELECT id, parent, op, op_json, author, time, manifest FROM revision"
_INSERT = "INSERT INTO revision(parent, op, op_json, author, time, manifest) VALUES(?, ?, ?, ?, ?, ?)"
_MOVE = "UPDATE ref SET revision = ?, tip = ? WHERE kind = ? AND name = ?"


def _revision(row: tuple[Any, ...]) -> Revision:
    """A row of the table, which a damaged file may hold anything in.

    Raises:
        StoreError: a value is of another type.
    """
    number, parent, op, text, author, when, root = row
    kinds = (int, int | None, str, str, str, int | float, str)
    if not all(isinstance(value, kind) for value, kind in zip(row, kinds)):
        raise StoreError(f"expected the facts of a revision, got {row!r:.200}; the database is damaged")
    try:
        details = json.loads(text)
    except (ValueError, RecursionError):
        details = {}
    return Revision(number, parent, op, details, author, when, root)


def _author() -> str:
    """The user's name, as far as the system tells."""
    try:
        return os.environ.get("GAUSSWORLD_AUTHOR") or getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
