"""The verbs `gaussworld world ...`: make, list, change and keep stored worlds."""

import json as json_text
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .. import io
from ..edit import EDITS, between
from ..edit.describe import described, named, summary
from ..edit.plain import from_plain, with_ids
from ..errors import ConfigError, StoreError
from ..log import follow
from ..session import Session
from ..world import World
from .collect import collect
from .database import FILE
from .revisions import Store
from .share import SUFFIX, export
from .share import unpack as unpacked
from .tables import differences, object_row, revision_row, spans, table, world_rows
from .verify import verify as verified

WorldPath = Annotated[Path, tyro.conf.arg(metavar="WORLD")]
Source = Annotated[Path, tyro.conf.arg(name="from", metavar="PATH")]


def create(world: WorldPath, /, *, source: Source, allow_damage: bool = False, json: bool = False) -> None:
    """Make a stored world of a run of `gaussworld recon`, a splat file, a .glb or .usd scene, or a world.

    Args:
        world: the folder to make, such as kitchen.world.
        source: what to make it of; a world gives its present state, without its history.
        allow_damage: of a damaged world, take what can be read.
        json: print JSON for programs.
    """
    made = _rescued(source) if allow_damage else io.load_world(source)
    with Session.create(world, made, details={"from": str(source)}) as session:
        count = sum(len(item.gaussians) for item in made.objects.values())
        facts = {"world": str(world), "revision": session.revision, "objects": len(made.objects)}
        facts |= {"gaussians": count, "metres_per_unit": made.metres_per_unit}
    scale = "" if made.metres_per_unit else "; its scale is not known: `gaussworld world edit ... set-scale`"
    text = f"Made {world}: {len(made.objects)} object(s), {count:,} Gaussians{scale}."
    _say(facts, text, json)


def list_objects(
    path: Annotated[Path, tyro.conf.arg(metavar="PATH")],
    /,
    *,
    allow_damage: bool = False,
    json: bool = False,
) -> None:
    """List the objects of a world, or the worlds in a folder.

    Args:
        path: a world, or a folder with worlds.
        allow_damage: leave out objects that cannot be read.
        json: print JSON for programs.
    """
    _check_no_recording(path)
    rows = _objects(path, allow_damage) if (path / FILE).is_file() else world_rows(path)
    shown = [{key: value for key, value in row.items() if key != "record"} for row in rows]
    _say(rows, table(shown) or "Nothing here: no objects, or no worlds in this folder.", json)


def _check_no_recording(path: Path) -> None:
    """Say what to do with a recorded episode, or a set of them, in place of listing nothing."""
    names = {"episode.json": "a recorded episode", "episodes.json": "a set of recorded episodes"}
    for name, what in names.items():
        if (path / name).is_file():
            one = path if name == "episode.json" else path / "NAME"
            raise ConfigError(
                f"expected a stored world or a folder with some, got {path}, {what}; look at one with"
                f" `gaussworld predict {one} -o OUT`, or make a world of it: `gaussworld import episode {one}"
                " -o W.world`"
            )


def log(
    world: WorldPath,
    /,
    *,
    branch: str | None = None,
    object: int | None = None,
    limit: int = 50,
    all: bool = False,
    json: bool = False,
) -> None:
    """Show a world's history, newest first; > is where it stands, lines above that can be redone.

    Args:
        world: the world's folder.
        branch: which branch; default: the one that is checked out.
        object: only what touched the object of this id.
        limit: at most so many.
        all: every revision of every branch, also what was undone and replaced.
        json: print JSON for programs.
    """
    if limit < 1:
        raise ConfigError(f"--limit: expected at least 1, got {limit}")
    with Store(world, read_only=True) as store:
        ref = store.branch(branch)
        history = store.revisions() if all else [*store.history(ref.tip)]
        if object is not None:
            touching = store.touching(object)
            history = [revision for revision in history if revision.id in touching]
        names: dict[int, list[str]] = {}
        for each in store.refs():
            names.setdefault(each.revision, []).append(each.name)
        rows = [
            revision_row(revision, names.get(revision.id, []), ref.revision) for revision in history[:limit]
        ]
    _say(rows, table(rows) or "Nothing touched it.", json)


def diff(world: WorldPath, a: str, b: str | None = None, /, *, json: bool = False) -> None:
    """Say what differs between two revisions.

    Args:
        world: the world's folder.
        a: the older one: a branch, a tag or a number.
        b: the newer one; default: where the world stands.
        json: print JSON for programs.
    """
    with Store(world, read_only=True) as store:
        old = store.read(store.resolve(a))
        new = store.read(store.branch().revision if b is None else store.resolve(b), old)
        facts = differences(between("diff", old.world, new.world), new.world)
    lines = [f"{change['object']}: {change['what']}" for change in facts["objects"]]
    lines += [f"world: {name}" for name in facts["world"]]
    _say(facts, "\n".join(lines) or "No difference.", json)


def edit(
    world: WorldPath,
    name: Annotated[str, tyro.conf.arg(metavar="EDIT")],
    fields: Annotated[str, tyro.conf.arg(metavar="JSON")] = "{}",
    /,
    *,
    branch: str | None = None,
    allow_damage: bool = False,
    json: bool = False,
) -> None:
    """Do one edit, such as: gaussworld world edit W move '{"objects": [3], "offset": [0, 0, 0.1]}'.

    Args:
        world: the world's folder.
        name: the edit: move, rotate, place, scale, duplicate, delete, rename, set-kind, set-joint, ...
        fields: its fields as a JSON object; - reads it from the standard input.
        branch: which branch; default: the one that is checked out.
        allow_damage: go on without objects that cannot be read.
        json: print JSON for programs.
    """
    plain = _json_object(fields)
    with Session(world, branch, allow_damage=allow_damage) as session:
        before, was = session.world, session.revision
        number = session.do(from_plain(name, with_ids(plain, before)))
        done = differences(between(name, before, session.world), session.world)
    facts = {"revision": number, "branch": session.branch} | done
    what = "; ".join([f"{row['object']}: {row['what']}" for row in done["objects"]] + done["world"])
    text = f"Revision {number} of {session.branch}: {what}." if number != was else "Nothing changed."
    _say(facts, text, json)


def edits(name: str | None = None, /, *, json: bool = False) -> None:
    """List the edits, or say what the fields of one are.

    Args:
        name: an edit, or a part of one: target, box, sphere, polygon; default: list all edits.
        json: print JSON for programs.
    """
    if name is None:
        rows = [{"edit": each, "what": summary(kind)} for each, kind in sorted(EDITS.items())]
        _say(rows, table(rows), json)
        return
    try:
        kind = named(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rows = [vars(field) for field in described(kind)]
    _say(rows, f"{name}: {summary(kind)}\n\n{table(rows)}", json)


def undo(world: WorldPath, /, *, steps: int = 1, branch: str | None = None, json: bool = False) -> None:
    """Go back, one revision or several.

    Args:
        world: the world's folder.
        steps: how many.
        branch: which branch; default: the one that is checked out.
        json: print JSON for programs.
    """
    _stepped(world, steps, branch, "undo", json)


def redo(world: WorldPath, /, *, steps: int = 1, branch: str | None = None, json: bool = False) -> None:
    """Go forward again, after undo.

    Args:
        world: the world's folder.
        steps: how many.
        branch: which branch; default: the one that is checked out.
        json: print JSON for programs.
    """
    _stepped(world, steps, branch, "redo", json)


def branch(
    world: WorldPath,
    name: str | None = None,
    /,
    *,
    at: str | None = None,
    delete: bool = False,
    json: bool = False,
) -> None:
    """List branches, or begin one.

    Args:
        world: the world's folder.
        name: of the new branch; default: list them.
        at: where it begins: a branch, a tag or a number; default: where the world stands.
        delete: take the branch of this name away; its revisions stay until `gc`.
        json: print JSON for programs.
    """
    _named("branch", world, name, at, delete, json)


def tag(
    world: WorldPath,
    name: str | None = None,
    /,
    *,
    at: str | None = None,
    delete: bool = False,
    json: bool = False,
) -> None:
    """List tags, or name a revision.

    Args:
        world: the world's folder.
        name: of the new tag; default: list them.
        at: what it names: a branch, a tag or a number; default: where the world stands.
        delete: take the tag of this name away.
        json: print JSON for programs.
    """
    _named("tag", world, name, at, delete, json)


def checkout(world: WorldPath, branch: str, /, *, json: bool = False) -> None:
    """Choose the branch that opens; `world branch W NAME --at TAG` begins one at a tag or an old revision.

    Args:
        world: the world's folder.
        branch: its name.
        json: print JSON for programs.
    """
    with Store(world) as store:
        store.checkout(branch)
        number = store.branch().revision
    _say({"branch": branch, "revision": number}, f"On {branch}, at revision {number}.", json)


def verify(world: WorldPath, /, *, json: bool = False) -> None:
    """Read everything again and name what is damaged, with its objects and revisions; exit 1 if anything is.

    Args:
        world: the world's folder.
        json: print JSON for programs.
    """
    with Store(world, read_only=True) as store:
        found = follow(verified(store), "Verifying").result
    damages = [vars(damage) for damage in found.damages]
    facts = {"sound": not damages, "chunks": found.chunks, "bytes": found.bytes, "damages": damages}
    lines = [
        f"{damage.problem}\n  objects: {', '.join(damage.objects) or 'none'}"
        f"\n  revisions: {spans(damage.revisions) or 'none'}"
        for damage in found.damages
    ]
    sound = f"Sound: {found.chunks:,} chunks, {found.bytes / 1e6:,.1f} MB."
    _say(facts, "\n".join(lines) or sound, json)
    if damages:
        raise StoreError(f"{world}: expected a sound world, got {len(damages)} damaged place(s), named above")


def gc(
    world: WorldPath,
    /,
    *,
    undone_days: float | None = None,
    compact: Literal["auto", "yes", "no"] = "auto",
    json: bool = False,
) -> None:
    """Forget what no branch or tag leads to, and free its room.

    Args:
        world: the world's folder.
        undone_days: also forget what was undone and replaced longer ago than this; default: keep it.
        compact: write the packs anew in the order of reading; auto: when 30 % of them is garbage.
        json: print JSON for programs.
    """
    with Store(world) as store:
        anew = {"auto": None, "yes": True, "no": False}[compact]
        freed = follow(collect(store, undone_days=undone_days, compact=anew), "Collecting").result
    text = (
        f"Forgot {freed.revisions} revision(s) and {freed.chunks} chunk(s);"
        f" {freed.bytes_before / 1e6:,.1f} MB before, {freed.bytes_after / 1e6:,.1f} MB now."
    )
    if freed.bytes_waiting:
        # Programs that have the world open may still read them.
        text += f" {freed.bytes_waiting / 1e6:,.1f} MB of it go with a gc in an hour."
    _say(vars(freed), text, json)


def pack(
    world: WorldPath,
    /,
    *,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a world with its whole history as one .worldz file.

    Args:
        world: the world's folder.
        out: the file; default: beside the world.
        force: overwrite a file that exists.
        json: print JSON for programs.
    """
    out = out or world.with_suffix(SUFFIX)
    if out.suffix.lower() != SUFFIX:
        raise ConfigError(f"--out: expected a name that ends in {SUFFIX}, got {out}")
    if out.exists() and not force:
        raise ConfigError(f"expected a new file, got {out}, which exists; add --force to overwrite it")
    with Store(world, read_only=True) as store:
        if damages := follow(verified(store), "Verifying").result.damages:
            raise StoreError(
                f"{world}: expected a sound world to pack, got damage: {damages[0].problem}; see `gaussworld"
                " world verify`, and `world create --allow-damage` takes what can be read"
            )
        follow(export(store, out), "Packing")
    size = out.stat().st_size
    _say({"path": str(out), "bytes": size}, f"Wrote {out}, {size / 1e6:,.1f} MB.", json)


def unpack(
    archive: Annotated[Path, tyro.conf.arg(metavar="FILE.worldz")],
    world: Annotated[Path | None, tyro.conf.arg(metavar="WORLD")] = None,
    /,
    *,
    json: bool = False,
) -> None:
    """Make a world of a .worldz file; everything in it is checked first.

    Args:
        archive: the file.
        world: the folder to make; default: beside the file.
        json: print JSON for programs.
    """
    target = world or archive.with_suffix(".world")
    follow(unpacked(archive, target), "Unpacking")
    _say({"world": str(target)}, f"Made {target}.", json)


def _say(facts: Any, text: str, json: bool) -> None:
    print(json_text.dumps(facts, indent=2, allow_nan=False) if json else text)


def _rescued(path: Path) -> World:
    with Store(path, read_only=True) as store:
        return store.read(store.branch().revision, allow_damage=True).world


def _objects(path: Path, allow_damage: bool) -> Sequence[Mapping[str, Any]]:
    world = _rescued(path) if allow_damage else World.open(path)
    return [object_row(item, world.metres_per_unit) for item in world.objects.values()]


def _stepped(world: Path, steps: int, branch: str | None, which: str, json: bool) -> None:
    if steps < 1:
        raise ConfigError(f"--steps: expected at least 1, got {steps}")
    # The store alone: nothing is read, so that one can step away from a damaged revision.
    with Store(world) as store:
        ref = store.branch(branch)
        line = [revision.id for revision in store.history(ref.tip)]
        here = line.index(ref.revision)
        there = here + steps if which == "undo" else here - steps
        if not 0 <= there < len(line):
            most = len(line) - 1 - here if which == "undo" else here
            raise ConfigError(f"expected at most {most} step(s) to {which} on {ref.name}, got {steps}")
        ref = store.restore(line[there], ref.name, ref.revision)
    facts = {"branch": ref.name, "revision": ref.revision}
    _say(facts, f"{ref.name} is at revision {ref.revision}.", json)


def _named(kind: Any, world: Path, name: str | None, at: str | None, delete: bool, json: bool) -> None:
    if name is None:
        if delete or at is not None:
            raise ConfigError(f"expected the name of a {kind}, got none")
        with Store(world, read_only=True) as store:
            here = store.meta("branch")
            rows = [
                {"here": kind == "branch" and ref.name == here, kind: ref.name} | {"revision": ref.revision}
                for ref in store.refs()
                if ref.kind == kind
            ]
        _say(rows, table(rows) or f"No {kind} yet.", json)
        return
    with Store(world) as store:
        if delete:
            store.remove_ref(kind, name)
            _say({"deleted": name}, f"Took {kind} {name} away.", json)
            return
        number = store.branch().revision if at is None else store.resolve(at)
        store.add_ref(kind, name, number)
    _say({kind: name, "revision": number}, f"{kind.capitalize()} {name} is at revision {number}.", json)


def _json_object(text: str) -> Mapping[str, Any]:
    if text == "-":
        import sys

        text = sys.stdin.read()
    try:
        fields = json_text.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"expected the edit's fields as JSON, got {text[:80]!r} ({error})") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"expected the edit's fields as a JSON object, got {text[:80]!r}")
    return fields
