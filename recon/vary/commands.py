"""The verb `vary`: randomised copies of a world with their labels."""

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from gaussworld.io import holds_world, load_world
from gaussworld.log import follow

from ..run import Run
from .copies import LABELS, Varied, variations
from .settings import VaryConfig

_DEFAULT = VaryConfig()


def vary(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10,
    seed: int = 0,
    render: bool = False,
    json: bool = False,
    config: VaryConfig = _DEFAULT,
) -> None:
    """Write randomised copies of a world: training data, and what-if cases.

    Things are placed anew on what they rest on, so that nothing overlaps and everything rests (a second of
    simulation judges, where MuJoCo is there); some get other colours, everything another light, cameras move.
    Robots and static things stay. Each copy is a world of its own, its edits are its history; labels.json
    says what was drawn.

    Args:
        world: the world's folder, a run, or a .glb or .usd scene.
        out: a new folder for 0000.world, 0001.world, ... and labels.json.
        n: how many copies.
        seed: of the first copy; copy i is that of seed + i.
        render: draw colour, depth, ids and normals from each copy's cameras into 0000/, 0001/, ...
        json: print JSON for programs.
        config: what may change.
    """
    # The world of a run has its objects, which the run's file of Gaussians has not.
    path = Run(world).world if holds_world(Run(world).world) else world
    events = variations(load_world(path), out, n, seed, config, render=render, source=str(world))
    result = follow(events, "Varying").result
    if json:
        print(json_text.dumps({**asdict(result), "folder": str(result.folder)}, indent=2))
    else:
        print(_summary(result, render))


def _summary(result: Varied, render: bool) -> str:
    text = f"Wrote {result.copies} world(s) to {result.folder}; {result.moved} thing(s) placed anew"
    if result.judged:
        text += (
            f", {result.judged} of them watched in simulation (farthest drift {result.largest_drift:.2f} mm)"
        )
    for count, what in ((result.without_room, "found no room and stayed"), (result.restless, "did not rest")):
        text += f"; {count} {what}" if count else ""
    lines = [f"{text}.", f"  {result.folder / LABELS}  what was drawn, for every copy"]
    if render:
        lines.append(f"  {result.folder / '0000'}  pictures with depth, ids and normals; so for every copy")
    return "\n".join(lines)
