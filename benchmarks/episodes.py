"""How fast episodes are made, against MuJoCo alone on the same models.

    python benchmarks/episodes.py --episodes 4 --steps 60

For each family: episodes a minute and control steps a second of `gaussworld generate` (one process, all of it
written, no pictures), MuJoCo steps a second while it simulates, and those of plain `mj_step` calls on the
same models and starts, the tool holding still. The ratio is the share of MuJoCo's own speed that is left.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from machine import commit, processor

from dynamics.generate.assemble import model_of
from dynamics.generate.episodes_config import EpisodesConfig
from dynamics.generate.families import trial_of
from dynamics.generate.mjcf import mujoco_module
from dynamics.generate.produce import Job, jobs_of, make
from dynamics.generate.simulate import SUBSTEPS, _Stage, simulate
from dynamics.generate.trial import FAMILIES


def made(folder: Path, jobs: list[Job], config: EpisodesConfig) -> float:
    """[s] to make and write episodes."""
    start = time.perf_counter()
    for job in jobs:
        make(folder, job, config)
    return time.perf_counter() - start


def simulated(jobs: list[Job]) -> float:
    """[s] to simulate episodes that are compiled already: tool, policy, contacts and recording included."""
    seconds = 0.0
    for job in jobs:
        trial = trial_of(job.family, job.seed, job.policy)
        model = model_of(trial)
        start = time.perf_counter()
        simulate(trial, job.steps, model)
        seconds += time.perf_counter() - start
    return seconds


def alone(jobs: list[Job]) -> float:
    """[s] of as many plain steps of MuJoCo, from the same starts, with the tool holding still."""
    seconds = 0.0
    for job in jobs:
        trial = trial_of(job.family, job.seed, job.policy)
        model = model_of(trial)
        stage = _Stage(trial, model)
        stage.settle()
        step = mujoco_module().mj_step
        start = time.perf_counter()
        for _ in range(job.steps * SUBSTEPS):
            step(model, stage._data)
        seconds += time.perf_counter() - start
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"Commit {commit()}, {processor()}, one process, {asked.episodes} episodes of {asked.steps} steps.\n"
    )
    print("| family | episodes/min | control steps/s | MuJoCo steps/s | MuJoCo alone, steps/s | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    for family in FAMILIES:
        config = EpisodesConfig((family,), asked.episodes, asked.steps, seed=asked.seed)
        jobs = jobs_of(config)
        with tempfile.TemporaryDirectory() as folder:
            whole = made(Path(folder), jobs, config)
        control = asked.episodes * asked.steps
        inside, outside = (control * SUBSTEPS / seconds for seconds in (simulated(jobs), alone(jobs)))
        rates = f"{60 * asked.episodes / whole:,.0f} | {control / whole:,.0f}"
        print(f"| {family} | {rates} | {inside:,.0f} | {outside:,.0f} | {inside / outside:.2f} |", flush=True)


if __name__ == "__main__":
    main()
