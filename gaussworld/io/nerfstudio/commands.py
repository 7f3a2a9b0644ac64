"""The verb `import nerfstudio`, and what `export --format nerfstudio` does."""

import json as json_text
from pathlib import Path
from typing import Annotated

import tyro

from ...log import follow
from ...session import Session
from .dataset import save_dataset
from .run import find_run, load_run


def import_run(
    run: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    data: Path | None = None,
    json: bool = False,
) -> None:
    """Make a stored world of a run of nerfstudio's splatfacto, in the frame of its dataset.

    The checkpoint of the newest step is read, without running code of it.

    Args:
        run: the run's folder, outputs/NAME/METHOD/TIME.
        out: the world to make, such as kitchen.world.
        data: the dataset, when it is no longer where the run found it.
        json: print JSON for programs.
    """
    files = find_run(run)
    world = load_run(files.folder, data)
    details = {"from": str(run), "step": files.step}
    with Session.create(out, world, details=details) as session:
        count = sum(len(item.gaussians) for item in world.objects.values())
        facts = {"world": str(out), "revision": session.revision, "step": files.step, "gaussians": count}
    facts |= {"cameras": len(world.cameras), "metres_per_unit": world.metres_per_unit, "up": world.up}
    text = f"Made {out}: {count:,} Gaussians of step {files.step:,}, {len(world.cameras):,} cameras."
    print(json_text.dumps(facts, indent=2) if json else text)


def export_dataset(
    source: Annotated[Path, tyro.conf.arg(metavar="SOURCE")],
    folder: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    depth: bool = False,
    json: bool = False,
) -> None:
    """Write a dataset for nerfstudio: `ns-train splatfacto --data FOLDER`, or gaussworld.

    Args:
        source: a run folder or a capture, whose pictures are copied; or a stored world, which is drawn.
        folder: the folder to make.
        depth: write depth maps too.
        json: print JSON for programs.
    """
    saved = follow(save_dataset(source, folder, depth=depth), "Writing pictures").result
    facts = {"folder": str(folder), "pictures": saved.pictures, "rendered": saved.rendered}
    facts["points"] = saved.points
    how = "drawn of its Gaussians" if saved.rendered else "copied"
    text = f"Wrote {folder}: {saved.pictures:,} pictures, {how}, and {saved.points:,} points to start from."
    print(json_text.dumps(facts, indent=2) if json else text)
