"""The verb `fit`."""

import json as json_text
import os
from pathlib import Path
from typing import Annotated

import tyro

from gaussworld.log import drain, follow

from .crew import Crew
from .fit import METRICS, FitConfig, Fitted, claim_folder, finished, fitting

_FIT = FitConfig()


def fit(
    episodes: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="EPISODES")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    resume: bool = True,
    workers: int | None = None,
    seen: Path | None = None,
    json: bool = False,
    config: FitConfig = _FIT,
) -> None:
    """Learn from episodes how things move when tools act: a model for `predict --model OUT`.

    Episodes of the split "train" are learned from, those of "val" choose the best moment, the gate and the
    radii, those of "test" are left for `gaussworld evaluate`. OUT becomes a folder: model.json and
    model.safetensors; of a hybrid model also prior/, its physics alone. What was broken off is gone on with.
    With several processes: torchrun --nproc-per-node N -m gaussworld fit ...

    Args:
        episodes: sets that `generate` wrote.
        out: the model's folder.
        resume: go on with what OUT holds; --no-resume begins anew.
        workers: processes that prepare episodes; default: one for each core.
        seen: start from what the first RGB-D frames show, reconstructed into this folder, in place of true
            meshes; episodes that were not filmed are left out.
        json: print what was made as JSON.
        config: what is learned and how; presets in configs/fit.
    """
    workers = workers or max(1, (os.cpu_count() or 1) // Crew.here().size)
    if resume and finished(out, episodes, config, seen):
        print(f"{out} already holds this model; --no-resume makes it anew")
        return
    events = fitting(episodes, out, config, resume=resume, workers=workers, seen=seen)
    if not Crew.here().leads:
        drain(events)
        return
    # Before metrics are written: nothing appears in a folder that is not ours.
    claim_folder(episodes, out, config, resume=resume, seen=seen)
    made: Fitted = follow(events, "Fitting", metrics=out / METRICS).result
    if json:
        print(
            json_text.dumps(
                {
                    "folder": str(made.folder),
                    "kind": made.kind,
                    "steps": made.steps,
                    "seconds": round(made.seconds, 1),
                    "held_out_m": made.held_out,
                },
                indent=2,
            )
        )
    else:
        print(f"{made.kind} model in {made.folder}: {made.steps} steps in {made.seconds:.0f} s;")
        print(f"{1000 * made.held_out:.1f} mm off in the mean over 30 steps of recordings that were held out")
