"""`Store`: the revisions of one world on disk - commit, read, undo, redo, branches and tags."""

import getpass
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..edit.change import touched
from ..errors import ConfigError, ConflictError, GaussWorldError, StoreError
from ..io.atomic import sync_folder
from ..world import World
from . import database as db
from .chunks import Chunks, Pending
from .manifest import StoredWorld, decoded, encoded
from .packs import PackReader, PackWriter
from .records import COLUMNS, Ref, RefKind, Revision

MAIN = "main"
_logger = logging.getLogger(__name__)


#: So often a commit is written again because a collection took what it was built on.
_TRIES = 5


#: What reading a damaged or forged manifest may raise.
DAMAGE = (GaussWorldError, AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)


class _Collected(Exception):
    """Chunks or packs of a commit were collected while it was being written."""


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

        try:
            return self._read(revision, near, allow_damage=False)
        except StoreError:
            # Packs may have been written anew between looking up and mapping: look again, once.
            self.chunks.forget()
            self.packs.release()
        return self._read(revision, near, allow_damage)

    def _read(self, revision: int, near: StoredWorld | None, allow_damage: bool) -> StoredWorld:
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
            except DAMAGE as error:
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
        return Revision.from_row(row)

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
        return [Revision.from_row(row) for row in rows]

    def touching(self, object_id: int) -> set[int]:
        """Revisions whose edit touched an object."""
        query = "SELECT revision FROM object_index WHERE object = ?"
        with db.translated(self.path):
            return {row[0] for row in self.database.connection.execute(query, (object_id,))}

    def refs(self) -> list[Ref]:
        """All branches, tags and undone tips."""
        with db.translated(self.path):
            rows = self.database.connection.execute("SELECT kind, name, revision, tip FROM ref").fetchall()
        return [Ref.from_row(row) for row in rows]

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
    ) -> tuple[StoredWorld, int]:
        """Write a new revision and make it the head of a branch; durable when this returns.

        A world that is the same as its parent makes no revision: the parent is given back.

        Args:
            world: what it is.
            base: what was read or written as `parent`; only the difference is written.
            parent: the revision this one follows, which must still be the branch's head.
            branch: its name.
            op: name of the edit.
            details: its fields, as JSON.
            author: who; default: the user's name.

        Raises:
            ConflictError: somebody committed in between.
            StoreError: the disk is full or refuses; the store is as it was.
        """
        self._refuse_reading("commit")
        base = base or StoredWorld(World())
        if parent is not None and base.world.revision != str(parent):
            raise ValueError(f"expected the base to be revision {parent}, got {base.world.revision}")
        text = json.dumps(details, separators=(",", ":"), allow_nan=False)
        row = (parent, op, text, author or _author(), time.time())
        index = _index(base.world, world)
        for _ in range(_TRIES):
            pending = Pending(self.database, self._writer, self.packs)
            try:
                with db.translated(self.path):
                    stored = encoded(world, base, pending.put_node, pending.put_arrays)
                if parent is not None and stored.root == base.root:
                    # Nothing differs, to the bit: that makes no revision.
                    self._check_head(branch, parent, op)
                    return base, parent
                pending.sync()
                number = self._record(pending, (*row, stored.root), branch, index)
                self.chunks.learn({name: at for name, (at, _) in pending.added.items()})
            except _Collected:
                self._writer.close()
                continue
            except OSError as error:
                pending.forget()
                raise StoreError(
                    f"{self.path}: could not write: {error.strerror or error}; make room and try again,"
                    f" revision {parent} is untouched"
                ) from error
            except BaseException:
                pending.forget()
                self.chunks.forget()
                raise
            return replace(stored, world=replace(world, revision=str(number))), number
        raise StoreError(f"{self.path}: expected to write, but garbage is collected all the time; try again")

    def _record(
        self,
        pending: Pending,
        row: tuple[Any, ...],
        branch: str,
        index: Sequence[tuple[int, str, str]],
    ) -> int:
        """The transaction of a commit: all or nothing."""
        with self.database.transaction() as connection:
            self._check_head(branch, row[0], row[1])
            if not pending.record():
                raise _Collected
            number = connection.execute(_INSERT, row).lastrowid
            assert number is not None
            self._keep_undone(branch)
            self._put_ref("branch", branch, number)
            rows = [(number, *entry) for entry in index]
            connection.executemany("INSERT INTO object_index VALUES(?, ?, ?, ?)", rows)
        return number

    def undo(self, branch: str, at: int | None = None) -> Ref:
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
        return replace(ref, revision=parent)

    def redo(self, branch: str, at: int | None = None) -> Ref:
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
        return replace(ref, revision=child)

    def restore(self, revision: int, branch: str, at: int | None = None) -> Ref:
        """Move a branch to one of its revisions, from the first to the tip, as repeated undo or redo would.

        Args:
            revision: where to.
            branch: its name.
            at: where it must be.

        Raises:
            ConfigError: the revision is not on the branch.
            ConflictError: it is not where it must be.
        """
        self._refuse_reading("restore")
        with self.database.transaction() as connection:
            ref = self._ref("branch", branch)
            if at is not None:
                self._check_head(branch, at, "restore")
            if not any(each.id == revision for each in self.history(ref.tip)):
                raise ConfigError(f"expected a revision of branch {branch}, got {revision}; see `world log`")
            connection.execute(_MOVE, (revision, ref.tip, "branch", branch))
        return replace(ref, revision=revision)

    def add_ref(self, kind: RefKind, name: str, revision: int) -> None:
        """Name a revision.

        Raises:
            ConfigError: a name that is taken, or that no branch or tag can have.
        """
        self._refuse_reading(kind)
        if not name.isprintable() or not 0 < len(name) <= 200 or name.isdigit() or " " in name:
            raise ConfigError(f"expected a name for the {kind}, no number and no spaces, got {name!r:.80}")
        with self.database.transaction():
            self.revision(revision)
            if any(ref.name == name for ref in self.refs()):
                raise ConfigError(f"expected a new name, got {name!r}, which is taken; choose another")
            self._put_ref(kind, name, revision)

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
        raise ConfigError(
            f"expected a {kind} of this world, got {name!r}; there are: {known};"
            f" `gaussworld world branch W NAME --at {name}` begins one at a tag or a revision"
            if kind == "branch" and any(ref.name == name for ref in self.refs())
            else f"expected a {kind} of this world, got {name!r}; there are: {known}"
        )

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

    def _put_ref(self, kind: RefKind, name: str, revision: int) -> None:
        row = (kind, name, revision, revision, time.time())
        self.database.connection.execute("INSERT OR REPLACE INTO ref VALUES(?, ?, ?, ?, ?)", row)

    def _keep_undone(self, branch: str) -> None:
        """Give a name to what was undone on a branch that goes another way now."""
        for ref in self.refs():
            if ref.kind == "branch" and ref.name == branch and ref.tip != ref.revision:
                self._put_ref("undone", f"undone-{ref.tip}", ref.tip)

    def _refuse_reading(self, what: str) -> None:
        if self.read_only:
            raise StoreError(
                f"{self.path}: expected a world that can be written for {what}, got one open"
                " read-only; copy it to a place of your own"
            )


_REVISIONS = f"SELECT {COLUMNS} FROM revision"
_INSERT = "INSERT INTO revision(parent, op, op_json, author, time, manifest) VALUES(?, ?, ?, ?, ?, ?)"
_MOVE = "UPDATE ref SET revision = ?, tip = ? WHERE kind = ? AND name = ?"


def _index(before: World, after: World) -> list[tuple[int, str, str]]:
    """Id, name, and what was touched, for the index of objects."""
    everything = {**before.objects, **after.objects}
    changed = touched(before, after)
    return [(number, everything[number].name, ",".join(sorted(what))) for number, what in changed.items()]


def _author() -> str:
    """The user's name, as far as the system tells."""
    try:
        return os.environ.get("GAUSSWORLD_AUTHOR") or getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
