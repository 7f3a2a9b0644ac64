"""The verb `objects`: finds the objects of a stored world and commits them as one revision."""

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from gaussworld.gaussians import DELETED, Gaussians
from gaussworld.log import follow
from gaussworld.session import Session
from gaussworld.store.tables import table
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID

from .finding import How, MaskSource, RobotSource, checked, finding
from .found import segment_edit
from .sources import stored_world

Flat = tyro.conf.arg(name="")
_NO_MASKS, _NO_ROBOT = MaskSource(), RobotSource()


def objects(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    /,
    *,
    source: Annotated[How, tyro.conf.arg(name="from")] = "auto",
    mask: Annotated[MaskSource, Flat] = _NO_MASKS,
    robot: Annotated[RobotSource, Flat] = _NO_ROBOT,
    json: bool = False,
) -> None:
    """Find the objects in a world: from masks, from geometry, or both; the robot's from its URDF.

    One edit, which `gaussworld world undo` takes back. Every Gaussian gets an object and a confidence.

    Args:
        world: a stored world, or a run folder that has one.
        source: masks, geometry (a table or floor and what stands on it), or both: geometry proposes, masks
            decide; auto takes masks where there are some.
        mask: where masks come from.
        robot: a robot whose links become objects.
        json: print JSON for programs.
    """
    path = stored_world(world)
    how = checked(source, mask, robot)
    with Session(path) as session:
        found = follow(finding(path, session.world, how, mask, robot), "Objects").result
        edit = segment_edit(session.world, session.world.posed(), found)
        before = session.revision
        revision = session.do(edit)
        rows = object_rows(session.world)
    if json:
        print(json_text.dumps({"revision": revision, "objects": rows}, indent=2))
        return
    print(table(rows))
    done = f"Revision {revision} of {path}" if revision != before else "Nothing changed"
    print(f"\n{done}: {len(rows)} object(s). gaussworld world undo {path} takes it back.")


def object_rows(world: World) -> list[dict[str, Any]]:
    """What a person wants to know of each object, the background last."""
    scale, unit = (100 * world.metres_per_unit, "cm") if world.metres_per_unit else (1.0, "units")
    rows = []
    for item in sorted(world.objects.values(), key=lambda each: (each.id == BACKGROUND_ID, each.id)):
        there = item.gaussians.select((item.gaussians.flags & DELETED) == 0)
        sure = there.id_confidences.float().mean() / 255 if len(there) else torch.tensor(0.0)
        size = " x ".join(f"{side * scale:.3g}" for side in _size(there)) if len(there) else ""
        facts = {"id": item.id, "name": item.name, "kind": item.kind.value, "gaussians": len(there)}
        rows.append(facts | {f"size {unit}": size, "confidence": round(float(sure), 3)})
    return rows


def _size(gaussians: Gaussians) -> list[float]:
    """Sides of the box, along the object's axes, that holds nearly all Gaussians."""
    means = gaussians.means.detach()
    some = means[:: max(1, len(means) // 50_000)]
    low, high = torch.quantile(some, torch.tensor([0.01, 0.99]), dim=0)
    return (high - low).tolist()
