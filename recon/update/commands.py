"""The verb `update`: bring a stored world up to date with new pictures."""

import json as json_text
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from gaussworld.edit import applied
from gaussworld.errors import ConfigError, EditError, MissingDependency
from gaussworld.io.atomic import replacing
from gaussworld.io.images import write_image
from gaussworld.log import follow
from gaussworld.store import Store
from gaussworld.store.revisions import StoredWorld
from gaussworld.world import World

from ..joints import JointEstimate, estimate_joint
from .report import facts, sentences, strip
from .run import UpdateConfig, Updated
from .run import update as updating
from .states import pose_in_parent, poses_seen

_DEFAULTS = UpdateConfig()


def update(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    images: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="NEW_IMAGES")],
    /,
    *,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    joint: str | None = None,
    camera_like: int | None = None,
    dry_run: bool = False,
    json: bool = False,
    config: UpdateConfig = _DEFAULTS,
) -> None:
    """Bring a world up to date with new pictures: move or re-fit what has changed, and only that.

    NEW_IMAGES are a folder of photographs, a video, or a capture with cameras, whose poses are only a first
    guess. Objects that are elsewhere are moved, those that are gone hidden, what is new is fitted: one
    revision, which `gaussworld world undo` takes back. OUT gets update.json and update.png, which shows the
    pictures beside the world before and after.

    Args:
        world: the world's folder.
        images: one path, or several pictures.
        out: folder for the report; default: update in the world's cache.
        joint: name or id of a door or drawer: its axis is estimated from all poses it had in this world.
        camera_like: number of the world's camera that took the pictures, from 0; default: found out.
        dry_run: only say what would be done.
        json: print JSON for programs.
        config: how to look.

    Raises:
        ConfigError: no such object, or no joint explains its poses; what else was found is written then.
    """
    with Store(world, read_only=True) as store:
        branch = store.branch()
        base = store.read(branch.revision)
    before = base.world
    wanted = None if joint is None else _object_id(before, joint)
    updated = follow(updating(before, images, config, camera_like=camera_like), "Updating").result
    axis, failed = None, None
    try:
        if wanted is not None:
            updated, axis = _with_joint(world, before, updated, wanted)
    except (ConfigError, EditError, MissingDependency) as error:
        # Minutes of work are not thrown away for it: it is told at the end.
        failed = error
    told = facts(before, updated) | {"joint": None if axis is None else vars(axis)}
    told["joint_problem"] = None if failed is None else str(failed)
    told["revision"] = branch.revision
    if updated.changed and not dry_run:
        told["revision"] = _committed(world, base, branch.name, updated, told)
    _reported(out or world / "cache" / "update", before, updated, told)
    lines = [
        *sentences(before, updated, dry_run),
        *_axis_lines(axis, wanted is not None and before.find(wanted).parent is not None),
    ]
    if updated.changed and not dry_run:
        lines.append(
            f"Revision {told['revision']} of {branch.name}; `gaussworld world undo {world}` takes it back."
        )
    print(json_text.dumps(told, indent=2) if json else "\n".join(lines))
    if failed is not None:
        raise failed


def _object_id(world: World, joint: str) -> int:
    try:
        return world.find(int(joint) if joint.isdigit() else joint).id
    except ValueError as error:
        raise ConfigError(f"--joint: {error}") from error


def _with_joint(path: Path, before: World, updated: Updated, number: int) -> tuple[Updated, JointEstimate]:
    """The update with the joint of an object as one more edit."""
    name = before.find(number).name
    if updated.world.find(number).hidden:
        raise ConfigError(f"--joint {name}: expected an object that the pictures show, but it is gone")
    pose = pose_in_parent(updated.world, number, before)
    try:
        axis = estimate_joint([*poses_seen(path, number), pose])
    except ValueError as error:
        raise ConfigError(f"--joint {name}: {error}; its joint is as it was") from error
    edit = axis.edit(number, pose)
    return replace(updated, world=applied(edit, updated.world), edits=(*updated.edits, edit)), axis


def _committed(path: Path, base: StoredWorld, branch: str, updated: Updated, told: dict[str, Any]) -> int:
    """One revision, if nobody else has changed the world since it was read."""
    details = {key: told[key] for key in ("objects", "edits", "refit", "joint", "joint_problem")}
    details["pictures"] = [row["name"] for row in told["pictures"] if row["registered"]]
    assert base.world.revision is not None
    with Store(path) as store:
        _, number = store.commit(
            updated.world,
            base,
            parent=int(base.world.revision),
            branch=branch,
            op="update",
            details=details,
        )
    return number


def _reported(out: Path, before: World, updated: Updated, told: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "update.json") as file:
        file.write((json_text.dumps(told, indent=2) + "\n").encode())
    write_image(out / "update.png", strip(before, updated))


def _axis_lines(axis: JointEstimate | None, mounted: bool) -> list[str]:
    if axis is None:
        return []
    direction, origin = (", ".join(f"{v:.3f}" for v in vector) for vector in (axis.axis, axis.origin))
    low, high = axis.limits
    return [
        f"  A {axis.kind} joint along ({direction}) through ({origin}), from {low:.3g} to {high:.3g}, as seen"
        f" in {len(axis.positions)} states{', in the frame of what it is mounted on' * mounted}."
    ]
