"""Prior against persistence on recorded episodes, by family: `python benchmarks/prediction.py EPISODES`.

    gaussworld generate EPISODES --episodes 10 --seed 8000 --cameras 4 --filmed 2
    python benchmarks/prediction.py EPISODES [--seen WORK] [--material default|true] [--split test]

Prints a table in Markdown: mean distance [mm] of followed points after 10 and 30 steps, means over episodes.
With --seen the worlds are reconstructed from the episodes' first RGB-D frames, into WORK; those that were not
drawn are left out.
"""

import argparse
import time
from collections import defaultdict
from datetime import date
from pathlib import Path

import torch
from machine import commit, processor

from dynamics.baselines import ConstantVelocity, Persistence
from dynamics.episodes import Episode, EpisodeSet
from dynamics.episodes.seen import seen_world
from dynamics.evaluation import track_errors
from dynamics.matter import matter_of
from dynamics.prior import Prior
from gaussworld.errors import GaussWorldError
from gaussworld.log import drain
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

STEPS = (10, 30)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("episodes", type=Path)
    parser.add_argument("--seen", type=Path)
    parser.add_argument("--material", choices=("default", "true"), default="default")
    parser.add_argument("--split")
    parser.add_argument("--family", nargs="*")
    parser.add_argument("--each", action="store_true", help="a line for every episode")
    asked = parser.parse_args()
    rows: dict[str, list[list[float]]] = defaultdict(list)
    speeds: dict[str, list[float]] = defaultdict(list)
    for episode in EpisodeSet(asked.episodes):
        if asked.split not in (None, episode.split) or (asked.family and episode.family not in asked.family):
            continue
        try:
            world = started(episode, asked.seen, asked.material == "true")
        except GaussWorldError as error:
            print(f"<!-- {episode.name}: {error} -->")
            continue
        figures, rate = judged(episode, world)
        rows[episode.family].append(figures)
        speeds[episode.family].append(rate)
        if asked.each:
            print(episode.name, episode.policy, " ".join(f"{value:.1f}" for value in figures), flush=True)
    what = "seen by the cameras" if asked.seen else f"true meshes, {asked.material} materials"
    print(f"\n{date.today()}, commit {commit()}, {processor()}; worlds: {what}\n")
    print("| family | episodes | prior / persistence / constant velocity, 10 steps | 30 steps | steps/s |")
    print("|---|--:|--:|--:|--:|")
    for family, figures in rows.items():
        means = torch.tensor(figures).mean(0).tolist()
        ten, thirty = (" / ".join(f"{value:.1f}" for value in means[k : k + 3]) for k in (0, 3))
        rate = torch.tensor(speeds[family]).median()
        print(f"| {family} | {len(figures)} | {ten} | {thirty} | {float(rate):.0f} |")


def started(episode: Episode, work: Path | None, truth: bool) -> World:
    """The world that an episode begins with.

    Raises:
        GaussWorldError: it was not drawn.
    """
    if work is None:
        return episode.world(truth=truth)
    return drain(seen_world(episode, work / episode.name)).result


def judged(episode: Episode, world: World) -> tuple[list[float], float]:
    """[mm] errors of the three models after 10, then after 30 steps; and steps a second of the prior."""
    matter = matter_of(world)
    settings = {"tools": episode.tools, "action_spec": episode.spec}
    prior = Prior(world, matter, **settings)
    others = [Persistence(world, matter, **settings), ConstantVelocity(world, matter, **settings)]
    with one_torch_thread():
        found = track_errors([prior, *others], world, matter, episode, max(STEPS))
        begun = time.monotonic()
        with torch.no_grad():
            prior.rollout(found[0].rollout.states[0], found[0].rollout.actions)
        rate = len(found[0].rollout) / (time.monotonic() - begun)
    return [1000 * each.at(min(step, len(episode)))[0] for step in STEPS for each in found], rate


if __name__ == "__main__":
    main()
