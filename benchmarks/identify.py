"""Identification on simulated recordings: `python benchmarks/identify.py [--first SEED] [--count N]`.

Prints a Markdown table for strikes (the coefficient of the pair of thing and table) and one for ropes
(stiffness over density): truth, what is found and its 90 % interval, and how long it took. Each row has a
recording of its own, and knows the world as it is seen: default materials, true shapes.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from machine import commit, processor

from dynamics.episodes import Episode, EpisodeSet
from dynamics.generate.episodes_config import EpisodesConfig
from dynamics.generate.produce import generate_episodes
from dynamics.generate.trial import Family, Policy
from dynamics.identify import Found, IdentifyConfig, identify
from dynamics.identify.commands import FINE
from dynamics.observed import Observation
from dynamics.prior import Prior
from gaussworld.log import drain

#: Family, policy, steps of a recording, and what is looked for with the wanted error [%].
_KINDS: dict[Family, tuple[Policy, int, str, float]] = {
    "push": ("strike", 40, "friction", 10.0),
    "push_t": ("strike", 40, "friction", 10.0),
    "rope": ("arch", 28, "stiffness", 20.0),
}


@dataclass(frozen=True)
class Row:
    """One recording."""

    name: str
    truth: float
    value: float
    low: float
    high: float
    seconds: float

    @property
    def error(self) -> float:
        """[%]"""
        return 100 * (self.value / self.truth - 1)


def main() -> None:
    """Generate, identify, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=7000, help="seed of the sets")
    parser.add_argument("--count", type=int, default=5, help="recordings of each family")
    parser.add_argument("--family", nargs="*", default=list(_KINDS), choices=list(_KINDS))
    parser.add_argument("--seconds", type=float, default=100.0)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores, load {load:.1f}.")
    for family in asked.family:
        policy, _, field, wanted = _KINDS[family]
        unit = "mu of the pair" if field == "friction" else "E / rho [m^2/s^2]"
        print(f"\n| {family}, {policy} | {unit} | found | 90 % | error | seconds |")
        print("|---|---|---|---|---|---|")
        rows = []
        for row in measured(family, asked.first, asked.count, asked.seconds):
            rows.append(row)
            cells = f"{row.truth:.4g} | {row.value:.4g} | {row.low:.3g} to {row.high:.3g}"
            print(f"| {row.name} | {cells} | {row.error:+.1f} % | {row.seconds:.0f} |", flush=True)
        good = sum(abs(row.error) <= wanted for row in rows)
        inside = sum(row.low <= row.truth <= row.high for row in rows)
        slow = max(row.seconds for row in rows)
        print(
            f"\n{good} of {len(rows)} within {wanted:g} %, {inside} intervals hold the truth,"
            f" at most {slow:.0f} s."
        )


def measured(family: Family, seed: int, count: int, seconds: float) -> Iterator[Row]:
    """What is found in each recording of a family."""
    policy, steps, field, _ = _KINDS[family]
    config = EpisodesConfig(family=(family,), policy=policy, episodes=count, steps=steps, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        drain(generate_episodes(Path(folder) / "set", config, 1))
        for episode in EpisodeSet(Path(folder) / "set"):
            yield one(episode, field, seconds)


def one(episode: Episode, field: str, seconds: float) -> Row:
    """What is found in a recording."""
    world = episode.world(truth=False)
    model = Prior(world, tools=episode.tools, config=FINE, action_spec=episode.spec)
    events = identify(model, world, [Observation.of_episode(episode)], IdentifyConfig(seconds=seconds))
    result = drain(events).result
    found: Found = next(each for each in result.found if each.unknown.field == field)
    number = found.unknown.object_id
    assert number is not None
    thing, table = episode.objects[number], next(iter(episode.objects.values()))
    values = (found.value, found.low, found.high)
    if field == "friction":
        # The table keeps the coefficient that the world says; what counts is the pair's.
        ours = world.objects[table.id].material.friction
        values = tuple(math.sqrt(value * ours) for value in values)
        truth = math.sqrt(thing.friction * table.friction)
    else:
        assert thing.stiffness is not None
        values = tuple(value / world.objects[number].material.density for value in values)
        truth = thing.stiffness * thing.volume / thing.mass
    value, low, high = values
    return Row(episode.name, truth, value, low, high, result.seconds)


if __name__ == "__main__":
    main()
