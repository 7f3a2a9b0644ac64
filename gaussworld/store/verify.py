"""Reading everything a world has on disk, and naming the objects and revisions that damage has reached."""

from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from ..errors import StoreError
from ..log import Done, Event, Progress
from .database import translated
from .manifest import needed_by, walk
from .packs import Location, hash_of
from .revisions import DAMAGE, Store


@dataclass(frozen=True)
class Damage:
    """A chunk that is not what it was, and what needs it."""

    problem: str
    objects: tuple[str, ...]
    """As in "box (3)"; empty when a whole revision cannot be read, or nothing needs it any more."""
    revisions: tuple[int, ...]


@dataclass(frozen=True)
class Verified:
    """What a check found."""

    chunks: int
    bytes: int
    damages: tuple[Damage, ...]


def verify(store: Store) -> Generator[Event[Verified], None, None]:
    """Ask SQLite about its file, and hash every chunk again.

    Raises:
        StoreError: the database itself cannot be read.
    """
    damages: list[Damage] = []
    with translated(store.database.path):
        words = " ".join(str(row[0]) for row in store.database.connection.execute("PRAGMA integrity_check"))
    if words != "ok":
        damages.append(Damage(f"{store.database.path}: {' '.join(words.split())[:300]}", (), ()))
    with store.database.snapshot():
        store.chunks.refresh()
        places = dict(store.chunks.places)
        needs = _needs(store)
        total, done = sum(at.length for at in places.values()), 0
        for name, at in sorted(places.items(), key=lambda pair: (pair[1].pack, pair[1].offset)):
            if (problem := _problem(store, name, at)) is not None:
                damages.append(_damage(problem, needs.users.pop(name, set())))
            done += at.length
            yield Progress(done, total, stage="Hashing [bytes]")
    # Chunks that are not in the database at all.
    for name, users in needs.users.items():
        if name not in places:
            damages.append(_damage(f"chunk {name} is lost", users))
    damages += needs.unreadable
    yield Done(Verified(len(places), total, tuple(_merged(damages))))


def _problem(store: Store, name: str, at: Location) -> str | None:
    try:
        with store.packs.view(at) as view:
            found = hash_of(view)
    except StoreError as error:
        return str(error)
    if found != name:
        return f"{store.packs.folder / at.pack}: {at.length} bytes at {at.offset} are not what was written"
    return None


@dataclass
class _Needs:
    """Which object of which revision needs a chunk, by hash."""

    users: dict[str, set[tuple[str, int]]]
    unreadable: list[Damage]


def _needs(store: Store) -> _Needs:
    """Walk the manifests of all revisions, each node once for every revision it is in."""
    needs = _Needs(defaultdict(set), [])
    blocks: dict[str, list[str]] = {}
    for revision in reversed(store.revisions()):
        needs.users[revision.root].add(("", revision.id))
        try:
            root = store.chunks.node(revision.root)
            for name in [root["cameras"]] if root["cameras"] else []:
                needs.users[name].add(("cameras", revision.id))

            def inner(name: str, number: int = revision.id) -> None:
                needs.users[name].add(("", number))

            for number, node in walk(root["objects"], store.chunks.node, inner):
                for name, user in _object_chunks(store, number, node, blocks):
                    needs.users[name].add((user, revision.id))
        except DAMAGE as error:
            needs.unreadable.append(Damage(f"revision {revision.id}: {error}", (), (revision.id,)))
    return needs


def _object_chunks(
    store: Store, number: int, node: str, known: dict[str, list[str]]
) -> Iterator[tuple[str, str]]:
    """Hashes that an object needs, each with its name; `known` keeps the chunks of nodes seen before."""
    yield node, f"object {number}"
    try:
        record = store.chunks.node(node)
        user = f"{record['name']} ({number})"
        if node not in known:
            known[node] = needed_by(record, store.chunks.node)
    except DAMAGE:
        return
    for name in known[node]:
        yield name, user


def _merged(damages: list[Damage]) -> list[Damage]:
    """One entry for each problem: a pack that is missing is one, however many chunks it held."""
    objects: dict[str, set[str]] = {}
    revisions: dict[str, set[int]] = {}
    for damage in damages:
        objects.setdefault(damage.problem, set()).update(damage.objects)
        revisions.setdefault(damage.problem, set()).update(damage.revisions)
    return [Damage(name, tuple(sorted(objects[name])), tuple(sorted(revisions[name]))) for name in objects]


def _damage(problem: str, users: set[tuple[str, int]]) -> Damage:
    objects = sorted({user for user, _ in users if user})
    return Damage(problem, tuple(objects), tuple(sorted({number for _, number in users})))
