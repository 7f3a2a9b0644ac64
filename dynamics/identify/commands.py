"""The verb `identify`."""

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import tyro

from gaussworld.errors import CaptureError, ConfigError
from gaussworld.facts import finite
from gaussworld.io import holds_world
from gaussworld.log import follow
from gaussworld.session import Session
from gaussworld.world import World

from ..episodes import Episode, EpisodeSet
from ..matter.parts import PartKind
from ..observed import Observation
from ..physics.settings import PriorConfig
from ..prior import Prior
from ..tool import Tool
from .search import Identified, identify
from .unknowns import IdentifyConfig

_CONFIG = IdentifyConfig()
#: Fine enough for what is found to be the material's, and not this integrator's.
FINE = PriorConfig(substeps=10, bend_iterations=12, contacts=False)
#: [m] how far apart the origins of one thing may be in world and recording: what was reconstructed has its
#: own in its middle, wherever the simulator had it.
_SAME_PLACE = 0.15


def identify_verb(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    /,
    *,
    recordings: Annotated[tuple[Path, ...], tyro.conf.arg(name="from", metavar="EPISODE")],
    dry_run: bool = False,
    json: bool = False,
    config: IdentifyConfig = _CONFIG,
) -> None:
    """Find the friction, stiffness and damping with which physics predicts what was recorded.

    What the recordings tell is kept in the world as its objects' material, with "identified" as its source
    and an undo like every edit; what they do not tell is only shown. Slow pushes tell the tool's friction and
    how the load is spread; the ground's friction takes a thing that slides on after the tool let go.

    Args:
        world: a stored world, or the folder of a run that has one.
        recordings: episodes that begin with this world.
        dry_run: show what was found, and change nothing.
        json: print JSON for programs.
        config: how hard to search.
    """
    world = world / "scene.world" if holds_world(world / "scene.world") else world
    with Session(world, read_only=True if dry_run else None) as session:
        before, now = session.revision, session.world
        model, observations = _read(now, recordings)
        found = follow(identify(model, model.world, observations, config), "Identifying").result
        edits = found.edits()
        for edit in () if dry_run else edits:
            session.do(edit)
        facts = _facts(found, now) | {"world": str(world), "revision": session.revision}
    if json:
        print(json_text.dumps(finite(facts), indent=2, allow_nan=False))
        return
    print("\n".join(_lines(found)))
    kept = "" if dry_run or facts["revision"] == before else f", kept as revision {facts['revision']}"
    print(f"{len(edits)} object(s) have new materials{' to be kept' if dry_run else kept}.")


def _read(world: World, folders: tuple[Path, ...]) -> tuple[Prior, list[Observation]]:
    """The prior of a world, and the recordings.

    Raises:
        ConfigError: no recordings.
        CaptureError: recordings of other tools or other things.
    """
    episodes = [episode for folder in folders for episode in EpisodeSet(folder)]
    if not episodes:
        raise ConfigError("--from: expected at least one episode, got none; `gaussworld generate` makes some")
    tools: tuple[Tool, ...] = episodes[0].tools
    world = world.in_metres()
    for episode in episodes:
        _check(episode, world, tools)
    model = Prior(world, tools=tools, config=FINE, action_spec=episodes[0].spec)
    return model, [Observation.of_episode(episode) for episode in episodes]


def _check(episode: Episode, world: World, tools: tuple[Tool, ...]) -> None:
    if [tool.name for tool in episode.tools] != [tool.name for tool in tools]:
        wanted, got = (", ".join(tool.name for tool in each) for each in (tools, episode.tools))
        raise CaptureError(f"{episode.folder}: expected the tool of the others, {wanted}, got {got}")
    first = episode.states_between(0, 0)
    for number, pose in zip(first.object_ids, first.object_poses[0]):
        facts = episode.objects[number]
        if facts.part is None or facts.part is PartKind.STATIC:
            continue
        ours = world.objects.get(number)
        if ours is None or float((ours.world_from_object[:3, 3] - pose[:3]).norm()) > _SAME_PLACE:
            raise CaptureError(
                f"{episode.folder}: expected a recording that begins with this world, got one whose"
                f" {facts.name} (id {number}) is elsewhere; make its world: gaussworld import episode"
            )


def _facts(found: Identified, world: World) -> dict[str, Any]:
    rows = [
        {
            "label": each.unknown.label,
            "object": each.unknown.object_id,
            "field": each.unknown.field,
            "value": each.value,
            "low": each.low,
            "high": each.high,
            "told": each.told,
        }
        for each in found.found
    ]
    return {
        "found": rows,
        "error_before_m": found.error_before,
        "error_m": found.error,
        "seconds": found.seconds,
        "rollouts": found.rollouts,
        "objects": len(world.objects),
    }


def _lines(found: Identified) -> list[str]:
    width = max(len(each.unknown.label) for each in found.found)
    lines = [
        f"  {each.unknown.label:<{width}}  {each.value:.4g}  (90 %: {each.low:.3g} to {each.high:.3g})"
        + ("" if each.told else "  the recordings do not tell")
        for each in found.found
    ]
    before, after = 1000 * found.error_before, 1000 * found.error
    return [
        f"Prediction error {before:.1f} mm before, {after:.1f} mm after, in {found.seconds:.0f} s:",
        *lines,
    ]
