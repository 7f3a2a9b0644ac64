"""The verb of simulation: `generate`."""

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import tyro

from gaussworld.log import follow

from .episodes_config import GenerateConfig
from .produce import generate_episodes
from .still import generate_still

_CONFIG = GenerateConfig()


def generate(
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    still: bool = False,
    workers: int | None = None,
    json: bool = False,
    config: GenerateConfig = _CONFIG,
) -> None:
    """Simulate manipulation: episodes of pushing, lifting, opening and bending things, with all that is true.

    OUT becomes a set of episodes: tool paths, actions, poses, tracks of points, contacts, and with --cameras
    calibrated RGB-D and ids of every moment (docs/episodes.md says how it is laid out). With --still it
    becomes a capture of a scene at rest that `gaussworld recon` reads, with truth.json, ids and meshes beside
    it; further states of the same scene lie in OUT/state-1 and so on.

    Args:
        out: the folder to make; one that was broken off is gone on with.
        still: a scene at rest, seen by a ring of cameras, in place of episodes.
        workers: processes that work; by default one for each core.
        json: print JSON for programs.
        config: what is in the scene, what happens, and how it is seen.
    """
    if still:
        made = follow(generate_still(out, config.still, workers), "Simulating").result
        facts: dict[str, Any] = {
            "folders": [str(folder) for folder in made.folders],
            "views": made.views,
            "drawn": made.drawn,
        }
    else:
        done = follow(generate_episodes(out, config.moving, workers), "Simulating").result
        facts = {"folder": str(done.folder), **{k: getattr(done, k) for k in ("episodes", "steps", "made")}}
    if json:
        print(json_text.dumps(facts))
