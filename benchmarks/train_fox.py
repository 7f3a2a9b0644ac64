"""Time to PSNR on `fox` (50 phone photographs) at 270x480: plain training loop, no points given.

Every 8th picture is held out. Tune with `--split validation`: the held-out pictures are then not read, and
every 8th of the others is the judge. Time excludes reading pictures and evaluating.

    python benchmarks/train_fox.py --recipe preview --seeds 4
"""

import argparse
import dataclasses
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from gaussworld.capture import Capture
from gaussworld.config import load_config
from gaussworld.io import load_capture
from recon.evaluate import evaluate
from recon.frames import View, load_view
from recon.trainer import TrainConfig, start, take_step

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "fox"
MARKS = (25.0, 26.0, 28.0, 30.0)
SHRINK = 4


def main() -> None:
    """Run the recipe for every seed and print its curve and its marks."""
    options = _options()
    capture = _split(load_capture(options.data / "transforms.json"), options.split)
    views, judges = (
        [load_view(frame, SHRINK) for frame in capture.of(split)] for split in ("train", options.split)
    )
    config = replace(load_config(TrainConfig, f"train/{options.recipe}"), shrink=SHRINK)
    for change in options.set:
        config = _changed(config, *change.split("=", 1))
    runs = [_run(views, judges, replace(config, seed=seed), options) for seed in range(options.seeds)]
    finals = [run[-1][1] for run in runs]
    print(f"\n{options.recipe}, {options.seeds} seeds, {len(judges)} {options.split} views")
    print(f"final PSNR mean {statistics.mean(finals):.2f} dB, lowest {min(finals):.2f}")
    for mark in MARKS:
        reached = [next((seconds for seconds, psnr in run if psnr >= mark), None) for run in runs]
        shown = ", ".join("never" if s is None else f"{s:.1f} s" for s in reached)
        print(f"time to {mark:g} dB: {shown}")


def _run(
    views: list[View], judges: list[View], config: TrainConfig, options: argparse.Namespace
) -> list[tuple[float, float]]:
    """(seconds since the first Gaussian was placed, PSNR) along the run."""
    begun = time.perf_counter()
    fit = start(views, torch.zeros(0, 3), torch.zeros(0, 3), config)
    curve, seconds = [], time.perf_counter() - begun
    while fit.step < config.steps:
        begun = time.perf_counter()
        for _ in range(min(options.every, config.steps - fit.step)):
            take_step(fit)
        seconds += time.perf_counter() - begun
        scores = evaluate(fit.gaussians, judges)
        curve.append((seconds, scores.psnr))
        at = f"seed {config.seed} step {fit.step:5d} {seconds:6.1f} s {len(fit.parameters):6d} Gaussians"
        print(f"{at} {scores.psnr:.2f} dB {scores.ssim:.4f}", flush=True)
    return curve


def _split(capture: Capture, judge: str) -> Capture:
    """Frames 0, 8, 16, ... are test; to tune, they are dropped and every 8th of the rest validates."""
    capture = capture.with_holdout(8)
    if judge == "test":
        return capture
    train = [frame for frame in capture.frames if frame.split == "train"]
    frames = tuple(replace(f, split="validation") if i % 8 == 4 else f for i, f in enumerate(train))
    return replace(capture, frames=frames)


def _changed(config: TrainConfig, path: str, text: str) -> TrainConfig:
    """`strategy.every=50`: the configuration with one field changed."""
    name, _, rest = path.partition(".")
    old = getattr(config, name)
    return replace(
        config, **{name: _changed(old, rest, text) if dataclasses.is_dataclass(old) else type(old)(text)}
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with transforms.json and images")
    parser.add_argument("--recipe", default="preview", help="a preset of configs/train")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--every", type=int, default=50, help="steps between evaluations")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe")
    return parser.parse_args()


if __name__ == "__main__":
    main()
