"""The verb `import lerobot`."""

import json as json_text
from pathlib import Path
from typing import Annotated

import tyro

from gaussworld.log import follow

from .config import LeRobotConfig
from .convert import import_dataset

_UNKNOWN = LeRobotConfig()


def import_lerobot(
    dataset: Annotated[Path, tyro.conf.arg(metavar="DATASET")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    episodes: tuple[int, ...] = (),
    videos: bool = False,
    calibration: Path | None = None,
    json: bool = False,
    config: LeRobotConfig = _UNKNOWN,
) -> None:
    """Make episodes of a LeRobot dataset's states and actions (versions 2.0, 2.1 and 3.0).

    What the numbers mean is never guessed: take --config pusht or aloha, or say it with the flags below.

    Args:
        dataset: the folder that holds meta, data and videos.
        out: the folder of episodes to make.
        episodes: numbers of the episodes to take; default: all.
        videos: take the cameras' pictures along, one for each state.
        calibration: JSON with a camera's record for each feature of pictures that is calibrated.
        json: print JSON for programs.
        config: what the numbers mean.
    """
    work = import_dataset(dataset, out, config, episodes=episodes, videos=videos, calibration=calibration)
    made = follow(work, "Importing").result
    if json:
        facts = {"folder": str(made.folder), "episodes": made.episodes, "steps": made.steps}
        print(json_text.dumps(facts | {"rate_hz": made.rate_hz}))
