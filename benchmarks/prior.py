"""Speed and truth of the physics prior: `python benchmarks/prior.py [EPISODES]` prints markdown tables."""

import argparse
import os
import platform
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import torch

from dynamics.episodes import Episode, EpisodeSet
from dynamics.matter.parts import Matter
from dynamics.physics import examples
from dynamics.physics.settings import PriorConfig
from dynamics.prior import Prior
from gaussworld.pose import pose_from_pose7
from gaussworld.state import Action, State
from gaussworld.world import World

FAST = PriorConfig(substeps=4, bend_iterations=3, contacts=False)
START = torch.tensor([[-0.068, 0.0, 0.01, 1.0, 0.0, 0.0, 0.0]])


def main() -> None:
    """Time steps of hand-made worlds; with a folder of episodes also compare with persistence."""
    parser = argparse.ArgumentParser()
    parser.add_argument("episodes", nargs="?", type=Path, help="a folder that `gaussworld generate` wrote")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--split", default="train")
    parser.add_argument("--most", type=int, default=10, help="episodes of each family")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    command = ["git", "rev-parse", "--short", "HEAD"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    commit, load = told.stdout.strip(), os.getloadavg()[0]
    print(f"commit {commit}, {platform.machine()}, {args.threads} threads, load {load:.1f}\n")
    print("| world | particles | steps/s | 64 samples, default [ms] | 64 samples, fast [ms] |")
    print("|---|---|---|---|---|")
    made = {
        "box": examples.box(spacing=0.022), "T": examples.tee(spacing=0.017), "rope": examples.rope(64),
        "cloth": examples.cloth(11), "block": examples.block(),
    }  # fmt: skip
    for name, (world, matter) in made.items():
        single = timed(world, matter, PriorConfig(), 1)
        batches = [timed(world, matter, config, 64) for config in (PriorConfig(), FAST)]
        rest = " | ".join(f"{1000 * value:.1f}" for value in batches)
        print(f"| {name} | {len(matter.rest)} | {1 / single:.0f} | {rest} |")
    if args.episodes is not None:
        compared(args.episodes, args.split, args.most)


@torch.no_grad()
def timed(world: World, matter: Matter, config: PriorConfig, samples: int) -> float:
    """Best of some control steps [s] that push."""
    prior = Prior(world, matter, config=config)
    state = prior.initial(world, START).expand(samples).map(torch.clone)
    action = Action(prior.action_spec, state.tool_poses + torch.tensor([0.02, 0, 0, 0, 0, 0, 0]))
    best = float("inf")
    for _ in range(12):
        begun = time.perf_counter()
        prior.step(state, action)
        best = min(best, time.perf_counter() - begun)
    return best


def compared(folder: Path, split: str, most: int) -> None:
    """Mean distance of the tracked points after 10 and 30 steps, over windows from every 15th step."""
    print("\n| family | windows | prior 10 [mm] | persistence 10 | prior 30 | persistence 30 |")
    print("|---|---|---|---|---|---|")
    episodes = EpisodeSet(folder)
    for family in episodes.families:
        rows = []
        for episode in list(episodes.family(family).split(split))[:most]:
            rows += [distances(episode, start) for start in range(0, episode.steps - 29, 15)]
        if rows:
            means = " | ".join(f"{1000 * value:.1f}" for value in torch.tensor(rows).mean(0).tolist())
            print(f"| {family} | {len(rows)} | {means} |")


@torch.no_grad()
def distances(episode: Episode, start: int) -> list[float]:
    """[m] of the prior and of persistence after 10 and after 30 steps, of points on things with a pose."""
    world = episode.world(gaussians=3000)
    prior = Prior(world, tools=episode.tools, action_spec=episode.spec, config=PriorConfig(contacts=False))
    rollout = prior.rollout(at(prior, world, episode, start), episode.actions_between(start, start + 30))
    tracks, result = episode.tracks_between(start, start + 30), []
    rows = [rollout.states.object_ids.index(int(number)) for number in tracks.objects]
    for horizon in (10, 30):
        poses = pose_from_pose7(rollout.states.object_poses[horizon])[rows]
        points = (poses[:, :3, :3] @ tracks.rest[..., None])[..., 0] + poses[:, :3, 3]
        for guess in (points, tracks.points[0]):
            result.append(float((guess - tracks.points[horizon]).norm(dim=-1).mean()))
    return result


def at(prior: Prior, world: World, episode: Episode, start: int) -> State:
    """The true state of an episode's things, with the prior's particles."""
    seen = episode.states_between(start, start)[0]
    names = ("object_poses", "object_twists", "joint_positions", "joint_rates", "tool_poses", "grip")
    return prior.placed(replace(prior.initial(world), **{name: getattr(seen, name) for name in names}))


if __name__ == "__main__":
    main()
