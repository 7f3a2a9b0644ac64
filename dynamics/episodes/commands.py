"""The verb `import episode`: the world at the beginning of an episode, stored."""

import json as json_text
from pathlib import Path
from typing import Annotated

import tyro

from gaussworld.log import follow
from gaussworld.session import Session

from .episode import Episode
from .seen import seen_world


def import_episode(
    episode: Annotated[Path, tyro.conf.arg(metavar="EPISODE")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    seen: bool = False,
    work: Path | None = None,
    preset: str = "rgbd",
    gaussians: int = 12_000,
    truth: bool = False,
    json: bool = False,
) -> None:
    """Make a stored world of the first moment of an episode.

    Its things have the numbers that the episode has, so that predictions can be compared with it.

    Args:
        episode: a folder that `gaussworld generate` made.
        out: the world to make, such as push.world.
        seen: reconstruct what the episode's cameras see, in place of its true meshes.
        work: with --seen, the folder of that reconstruction; default: OUT with .run at its end.
        preset: with --seen, how finely it is reconstructed, one of `gaussworld recon`'s presets.
        gaussians: without --seen, about so many for all objects.
        truth: without --seen, with the true masses, frictions and stiffnesses, in place of defaults.
        json: print JSON for programs.
    """
    recording = Episode(episode)
    if seen:
        folder = out.with_name(out.name + ".run") if work is None else work
        world = follow(seen_world(recording, folder, preset), "Reconstructing").result
    else:
        world = recording.world(gaussians, truth)
    details = {"from": str(episode), "seen": seen}
    with Session.create(out, world, details=details) as session:
        count = sum(len(item.gaussians) for item in world.objects.values())
        facts = {"world": str(out), "revision": session.revision, "gaussians": count}
        facts |= {"objects": {number: item.name for number, item in world.objects.items()}}
    names = ", ".join(item.name for item in world.objects.values())
    text = f"Made {out}: {count:,} Gaussians; {names}."
    print(json_text.dumps(facts, indent=2) if json else text)
