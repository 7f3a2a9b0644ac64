"""The verb of simulation: `generate`."""

import json as json_text
from pathlib import Path
from typing import Annotated

import tyro

from gaussworld.errors import ConfigError
from gaussworld.log import follow

from .generate.config import StillConfig
from .generate.still import generate_still

_STILL = StillConfig()


def generate(
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    still: bool = False,
    workers: int | None = None,
    json: bool = False,
    config: StillConfig = _STILL,
) -> None:
    """Make simulated captures with known truth: RGB-D, ids, poses, meshes, masses and joints.

    OUT becomes a capture that `gaussworld recon` reads, with truth.json, ids and meshes beside it; further
    states of the same scene lie in OUT/state-1 and so on.

    Args:
        out: the folder to make; one that was broken off is gone on with.
        still: a scene at rest, seen by a ring of cameras.
        workers: processes that draw; by default one for each core.
        json: print JSON for programs.
        config: what is in the scene, and how it is seen.
    """
    if not still:
        raise ConfigError("expected --still, the only kind of capture that is made so far; add --still")
    done = follow(generate_still(out, config, workers), "Simulating")
    if json:
        made = done.result
        facts = {
            "folders": [str(folder) for folder in made.folders],
            "views": made.views,
            "drawn": made.drawn,
        }
        print(json_text.dumps(facts))
