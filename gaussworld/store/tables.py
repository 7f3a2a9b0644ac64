"""What `gaussworld world ...` shows, as rows for JSON and as aligned tables for people."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..edit.change import Change
from ..errors import FileFormatError, GaussWorldError
from ..gaussians import DELETED
from ..object_record import record_of
from ..world import World
from ..world_object import WorldObject
from .database import FILE
from .records import Revision
from .revisions import Store


def object_row(item: WorldObject, metres_per_unit: float | None) -> dict[str, Any]:
    """An object of a world, for its list; masses need a world of known scale."""
    mass = item.material.mass if metres_per_unit is not None else None
    deleted = int(((item.gaussians.flags & DELETED) != 0).sum())
    states = [name for name in ("hidden", "locked") if getattr(item, name)]
    return {
        "id": item.id,
        "name": item.name,
        "kind": item.kind.value,
        "gaussians": len(item.gaussians) - deleted,
        "parent": item.parent,
        "kg": mass if mass is None else float(f"{mass * (metres_per_unit or 1) ** 3:.3g}"),
        "faces": None if item.shape is None else len(item.shape.mesh.faces),
        "rests on": item.supported_by,
        "position": [round(value, 4) for value in item.world_from_object[:3, 3].tolist()],
        "state": " ".join([*states, *([f"{deleted} deleted"] if deleted else [])]),
        "record": record_of(item),
    }


def world_rows(path: Path) -> Sequence[Mapping[str, Any]]:
    """The worlds in a folder; one that cannot be opened says why.

    Raises:
        FileFormatError: it is no folder.
    """
    if not path.is_dir():
        raise FileFormatError(f"expected a world or a folder with worlds, got {path}, which is none")
    rows = []
    for file in sorted(path.glob(f"[!.]*/{FILE}")):
        row: dict[str, Any] = {"world": str(file.parent)}
        try:
            with Store(file.parent, read_only=True) as store:
                ref = store.branch()
                row |= {"branch": ref.name, "revision": ref.revision}
                row |= {"changed": _when(store.revision(ref.revision).time)}
        except GaussWorldError as error:
            row |= {"branch": None, "revision": None, "changed": f"cannot be opened: {error}"}
        size = sum(part.stat().st_size for part in file.parent.rglob("*") if part.is_file())
        rows.append(row | {"MB": round(size / 1e6, 1)})
    return rows


def revision_row(revision: Revision, names: Sequence[str], here: int) -> dict[str, Any]:
    """A revision, for the log."""
    return {
        "here": revision.id == here,
        "revision": revision.id,
        "parent": revision.parent,
        "edit": revision.op,
        "fields": dict(revision.details),
        "author": revision.author,
        "time": _when(revision.time),
        "names": [*names],
    }


def differences(change: Change, world: World) -> dict[str, Any]:
    """What a change did, by object."""
    rows = [{"object": f"{item.name} ({item.id})", "what": "added"} for item in change.added]
    rows += [{"object": f"{item.name} ({item.id})", "what": "removed"} for item in change.removed]
    for each in change.changed:
        what = [name.replace("world_from_object", "pose") for name in each.facts]
        what += [f"{name} of {len(column.old):,} Gaussians" for name, column in each.columns.items()]
        if each.whole is not None:
            what.append(f"{len(each.whole[0]):,} Gaussians became {len(each.whole[1]):,}")
        if what:
            rows.append({"object": f"{world.find(each.id).name} ({each.id})", "what": ", ".join(what)})
    return {"objects": rows, "world": [*change.world]}


def spans(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as 1-3, 7."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in spans)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned columns under their names."""
    if not rows:
        return ""
    cells = [[_cell(value) for value in row.values()] for row in rows]
    heads = ["" if name == "here" else name for name in rows[0]]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths)) for line in [heads, *cells]]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return ">" if value else ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        text = json.dumps(value)
        return text if len(text) <= 60 else text[:57] + "..."
    many = isinstance(value, Sequence) and not isinstance(value, str)
    text = " ".join(map(str, value)) if many else str(value)
    # Names come from files, and a terminal would obey what they may hold.
    return "".join(letter if letter.isprintable() else "?" for letter in text)
