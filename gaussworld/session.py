"""`Session`: one live world on disk - its selection, its place in the history, and one queue of commands.

The viewer and the HTTP service change a world through a session and through nothing else. Commands from any
thread are done one after the other; each is durable when its future is done, and then the listeners are told.
"""

import logging
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from .edit import Edit, Rows, Target, applied, between, touched
from .edit.plain import to_plain
from .errors import ConflictError, GaussWorldError, StoreError
from .selection import How, combined
from .store import Ref, Revision, Store
from .world import World

T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Update:
    """What a listener is told."""

    cause: str
    """Name of an edit, or undo, redo, restore, checkout, refresh, preview, select, tag, branch."""
    world: World
    """As it is now, a preview included."""
    revision: int
    branch: str
    selection: Target
    touched: dict[int, frozenset[str]] = field(default_factory=dict)
    """Object id -> the fields and arrays that may differ; "added" or "removed" for one that came or went."""
    facts: frozenset[str] = frozenset()
    """Fields of the world itself that may differ."""


class Session:
    """A world that can be changed; close it, or use it in a `with` block.

    Args:
        path: the world's folder.
        branch: which branch to work on; default: the one that is checked out.
        read_only: refuse every change; default: only where the folder cannot be written.

    Raises:
        StoreError: no world, a newer format, damage, or a file system without locks.
        ConfigError: no such branch.
    """

    def __init__(
        self,
        path: Path | str,
        branch: str | None = None,
        *,
        read_only: bool | None = None,
        allow_damage: bool = False,
    ) -> None:
        self._store = Store(path, read_only)
        try:
            self._branch = self._store.branch(branch)
            self._stored = self._store.read(self._branch.revision, allow_damage=allow_damage)
        except BaseException:
            self._store.close()
            raise
        self._preview: World | None = None
        self._selection = Target()
        self._listeners: list[Callable[[Update], None]] = []
        self._untold: deque[Update] = deque()
        self._telling = False
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._queue = ThreadPoolExecutor(max_workers=1, thread_name_prefix="session")
        self._worker: int | None = None

    @classmethod
    def create(cls, path: Path | str, world: World, *, details: dict[str, Any] | None = None) -> "Session":
        """Store a world in a new folder and open it.

        Raises:
            StoreError: something is there already, or the file system refuses.
        """
        Store.create(path, world, details=details).close()
        return cls(path)

    @classmethod
    def temporary(cls, world: World) -> "Session":
        """A session whose world is gone when it is closed."""
        # Windows does not delete what is still mapped.
        scratch = tempfile.TemporaryDirectory(prefix="gaussworld-", ignore_cleanup_errors=True)
        session = cls.create(Path(scratch.name) / "temporary.world", world)
        session._scratch = scratch
        return session

    @property
    def path(self) -> Path:
        """The world's folder."""
        return self._store.path

    @property
    def read_only(self) -> bool:
        """Whether every change is refused."""
        return self._store.read_only

    @property
    def world(self) -> World:
        """As it is now; a preview, while there is one."""
        return self._stored.world if self._preview is None else self._preview

    @property
    def revision(self) -> int:
        """The revision this session is at."""
        return self._branch.revision

    @property
    def branch(self) -> str:
        """The branch this session works on."""
        return self._branch.name

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier revision."""
        return self._run(lambda: self._store.revision(self.revision).parent is not None)

    @property
    def can_redo(self) -> bool:
        """Whether something was undone."""
        return self._branch.tip != self._branch.revision

    @property
    def selection(self) -> Target:
        """What is selected: hand it to an edit as its target."""
        return self._selection

    def do(self, edit: Edit, author: str | None = None) -> int:
        """Apply an edit and commit it; gives the new revision.

        Raises:
            EditError: it cannot be done.
            ConflictError: another program has changed the branch; the session has followed it.
            StoreError: the disk is full or refuses, or the world is read-only.
        """
        return self._run(lambda: self._do(edit, author))

    def submit(self, edit: Edit, author: str | None = None) -> Future[int]:
        """As `do`, without waiting."""
        return self._submit(lambda: self._do(edit, author))

    def preview(self, edit: Edit | None) -> World:
        """Show what an edit would do, in place of the preview before, or none; nothing is committed.

        Raises:
            EditError: it cannot be done.
        """
        return self._run(lambda: self._show(edit))

    def undo(self) -> int:
        """Go back one revision; gives it.

        Raises:
            ConfigError: this is the first revision.
            ConflictError: another program has changed the branch; the session has followed it.
        """
        return self._run(lambda: self._step("undo", self._store.undo))

    def redo(self) -> int:
        """Go forward one revision; gives it.

        Raises:
            ConfigError: nothing was undone.
            ConflictError: another program has changed the branch; the session has followed it.
        """
        return self._run(lambda: self._step("redo", self._store.redo))

    def restore(self, revision: int | str) -> int:
        """Go to any revision of this branch, by its number or a tag, as repeated undo or redo would.

        Raises:
            ConfigError: it is not on this branch.
            ConflictError: another program has changed the branch; the session has followed it.
        """

        def move(branch: str, at: int) -> Ref:
            return self._store.restore(self._store.resolve(str(revision)), branch, at)

        return self._run(lambda: self._step("restore", move))

    def checkout(self, branch: str) -> int:
        """Work on another branch from now on; other sessions stay where they are.

        Raises:
            ConfigError: there is none of this name.
        """

        def command() -> int:
            reached = self._follow("checkout", self._store.branch(branch))
            if not self.read_only:
                self._store.checkout(branch)
            return reached

        return self._run(command)

    def add_branch(self, name: str, revision: int | str | None = None) -> None:
        """Begin a branch here, or at another revision; `checkout` changes to it.

        Raises:
            ConfigError: a name that is taken or cannot be one.
        """
        self._run(lambda: self._name("branch", name, revision))

    def add_tag(self, name: str, revision: int | str | None = None) -> None:
        """Name this revision, or another.

        Raises:
            ConfigError: a name that is taken or cannot be one.
        """
        self._run(lambda: self._name("tag", name, revision))

    def refs(self) -> list[Ref]:
        """All branches, tags and undone tips."""
        return self._run(self._store.refs)

    def history(self) -> list[Revision]:
        """From the branch's tip to the first revision; those above `revision` can be redone."""
        return self._run(lambda: list(self._store.history(self._store.branch(self.branch).tip)))

    def refresh(self) -> int:
        """Follow what other programs did to the branch.

        Raises:
            ConfigError: somebody removed it.
        """
        return self._run(lambda: self._follow("refresh", self._store.branch(self.branch)))

    def select(self, target: Target, how: How = "replace") -> Target:
        """Change the selection; what does not exist is left out."""
        return self._run(lambda: self._select(target, how))

    def listen(self, listener: Callable[[Update], None]) -> Callable[[], None]:
        """Be told of every change, on the session's own thread; gives a function that ends it."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def close(self) -> None:
        """Finish what is queued and let go of the files; worlds that were read stay usable.

        Raises:
            RuntimeError: a listener asks for it, on the thread that would have to wait for itself.
        """
        if threading.get_ident() == self._worker:
            raise RuntimeError("expected close() from another thread, got it from a listener")
        self._queue.shutdown()
        self._store.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def __repr__(self) -> str:
        return f"Session({str(self.path)!r}, branch {self.branch}, revision {self.revision}: {self.world!r})"

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, command: Callable[[], T]) -> Future[T]:
        def worked() -> T:
            self._worker = threading.get_ident()
            return command()

        try:
            return self._queue.submit(worked)
        except RuntimeError as error:
            raise StoreError(f"{self.path}: expected an open session, got one that was closed") from error

    def _run(self, command: Callable[[], T]) -> T:
        # A listener may ask for more; its thread is the queue's, which would wait for itself.
        if threading.get_ident() == self._worker:
            return command()
        return self._submit(command).result()

    def _do(self, edit: Edit, author: str | None) -> int:
        before = self.world
        try:
            after, plain = applied(edit, self._stored.world), to_plain(edit)
            self._stored, number = self._store.commit(
                after,
                self._stored,
                parent=self.revision,
                branch=self.branch,
                op=edit.name,
                details=plain,
                author=author,
            )
        except ConflictError:
            self._follow("refresh", self._store.branch(self.branch))
            raise
        except GaussWorldError:
            if self._preview is not None:
                self._show(None)
            raise
        self._preview = None
        if number == self.revision:
            # Nothing differs: the history stays as it is, and so does what can be redone.
            return number
        # What others have committed since is theirs: this session stands at its own revision.
        self._branch = Ref("branch", self.branch, number, number)
        self._tell(edit.name, before)
        return number

    def _step(self, cause: str, move: Callable[[str, int], Ref]) -> int:
        try:
            return self._follow(cause, move(self.branch, self.revision))
        except ConflictError:
            self._follow("refresh", self._store.branch(self.branch))
            raise

    def _show(self, edit: Edit | None) -> World:
        before = self.world
        self._preview = None if edit is None else applied(edit, self._stored.world)
        self._tell("preview", before)
        return self.world

    def _follow(self, cause: str, ref: Ref) -> int:
        """Stand where a branch is, and tell the listeners; if that cannot be read, nothing changes."""
        before, stored = self.world, self._store.read(ref.revision, self._stored)
        self._preview, self._stored, self._branch = None, stored, ref
        self._tell(cause, before)
        return ref.revision

    def _name(self, kind: Literal["branch", "tag"], name: str, revision: int | str | None) -> None:
        number = self.revision if revision is None else self._store.resolve(str(revision))
        self._store.add_ref(kind, name, number)
        self._tell(kind, self.world)

    def _select(self, target: Target, how: How) -> Target:
        self._selection = _combined(self._selection, _existing(target, self.world), how, self.world)
        self._tell("select", self.world)
        return self._selection

    def _tell(self, cause: str, before: World) -> None:
        after = self.world
        changed = touched(before, after)
        self._selection = _pruned(self._selection, before, after)
        facts = frozenset(between("", replace(before, objects={}), replace(after, objects={})).world)
        update = Update(cause, after, self.revision, self.branch, self._selection, changed, facts)
        self._untold.append(update)
        if self._telling:
            # A listener asked for this change: the others hear of the one before first.
            return
        self._telling = True
        try:
            while self._untold:
                self._deliver(self._untold.popleft())
        finally:
            self._telling = False

    def _deliver(self, update: Update) -> None:
        for listener in list(self._listeners):
            try:
                listener(update)
            except Exception:
                # What is committed stays, and the others must hear of it.
                _logger.exception("a listener failed on %s", update.cause)


def _pruned(selection: Target, before: World, after: World) -> Target:
    """A selection without the objects that are gone, and without rows whose numbers mean others now."""
    objects = tuple(number for number in selection.objects if number in after.objects)
    rows = {
        number: ranges
        for number, ranges in selection.rows.ranges.items()
        if number in before.objects
        and number in after.objects
        and len(before.objects[number].gaussians) == len(after.objects[number].gaussians)
    }
    return replace(selection, objects=objects, rows=Rows(rows))


def _existing(target: Target, world: World) -> Target:
    """What of a selection a world has."""
    counts = {number: len(item.gaussians) for number, item in world.objects.items()}
    rows = {
        number: ranges[(ranges[:, 0] >= 0) & (ranges[:, 1] <= counts[number])]
        for number, ranges in target.rows.ranges.items()
        if number in counts
    }
    return Target(tuple(number for number in target.objects if number in counts), Rows(rows))


def _combined(old: Target, new: Target, how: How, world: World) -> Target:
    """A selection after another one is put in its place, added, removed, or intersected with it."""
    if how == "replace":
        return new
    chosen = {
        "add": dict.fromkeys((*old.objects, *new.objects)),
        "remove": dict.fromkeys(number for number in old.objects if number not in new.objects),
        "intersect": dict.fromkeys(number for number in old.objects if number in new.objects),
    }[how]
    masks = {}
    for number in {*old.rows.ranges, *new.rows.ranges}:
        count = len(world.objects[number].gaussians)
        masks[number] = combined(old.rows.mask(number, count), new.rows.mask(number, count), how)
    return Target(tuple(chosen), Rows.from_masks(masks))
