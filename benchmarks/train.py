"""Time to PSNR of a preset on a capture with known cameras; no points are given, so the start counts too.

Every 8th picture is held out. Recipes are chosen with `--split validation`: the held-out pictures are then
not read, and every 8th of the others is the judge. Time is that of placing the first Gaussians and of the
steps; reading pictures and evaluating are not in it.

    python benchmarks/train.py                                  # fox at 270x480, preset preview
    python benchmarks/train.py --preset normal --seeds 3
    python benchmarks/train.py --resolution 960 --preset normal
    python benchmarks/train.py --data out/banana --split validation --set strategy.every=50
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import tyro

from gaussworld.capture import Capture
from gaussworld.config import load_config
from gaussworld.flags import parse_flags, pick_kinds
from gaussworld.io import load_capture
from gaussworld.log import Notice, Progress
from recon.evaluate import evaluate
from recon.fit import TrainConfig, start
from recon.frames import View, load_view
from recon.memory import peak_memory
from recon.trainer import train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "fox"
MARKS = (22.0, 25.0, 26.0, 28.0, 29.0, 30.0, 31.0)


def main() -> None:
    """Run the preset for every seed and print its curve and its marks."""
    options = _options()
    capture = _split(load_capture(options.data), options.split)
    config = replace(
        load_config(TrainConfig, options.preset, group="train"), resolution=options.resolution, minutes=0.0
    )
    flags = [f"--{change.replace('_', '-')}" for change in options.set]
    config, flags = pick_kinds(config, flags)
    config = parse_flags(TrainConfig, flags, default=config, markers=(tyro.conf.FlagConversionOff,))
    views, judges = (
        [load_view(frame, options.resolution, capture.metres_per_unit) for frame in capture.of(split)]
        for split in ("train", options.split)
    )
    size = f"{views[0].camera.width}x{views[0].camera.height}"
    print(f"{options.data.name} {size}, {len(views)} training and {len(judges)} {options.split} views")
    runs = [
        _run(views, judges, capture, replace(config, seed=seed), options) for seed in range(options.seeds)
    ]
    _summarize(runs, options)


def _run(
    views: list[View], judges: list[View], capture: Capture, config: TrainConfig, options: argparse.Namespace
) -> list[tuple[float, float]]:
    """(seconds since the first Gaussian was placed, PSNR) along the run."""
    begun = time.perf_counter()
    points = slice(None) if options.points else slice(0, 0)
    fit = start(views, capture.points[points], capture.colors[points], config)
    curve, placing = [], time.perf_counter() - begun
    print(f"seed {config.seed} start {placing:.2f} s, {len(fit.parameters):,} Gaussians", flush=True)
    for event in train(capture, resume=fit):
        if isinstance(event, Notice):
            print(event.message)
        if not isinstance(event, Progress) or (fit.step % options.every and fit.share < 1):
            continue
        seconds = placing + fit.seconds
        scores = evaluate(fit.gaussians, judges, config.background)
        curve.append((seconds, scores.psnr))
        if not options.quiet or fit.step >= config.steps:
            at = f"seed {config.seed} step {fit.step:5d} {seconds:6.1f} s {len(fit.parameters):6d} Gaussians"
            depth = "" if scores.depth_error is None else f" depth error {scores.depth_error:.4f}"
            print(f"{at} {scores.psnr:.2f} dB {scores.ssim:.4f}{depth}", flush=True)
    return curve


def _summarize(runs: list[list[tuple[float, float]]], options: argparse.Namespace) -> None:
    finals, ends = [run[-1][1] for run in runs], [run[-1][0] for run in runs]
    print(f"\n{options.preset}, {options.seeds} seeds, {' '.join(options.set)}")
    print(f"final PSNR mean {statistics.mean(finals):.2f} dB, lowest {min(finals):.2f}")
    print(f"whole run: {', '.join(f'{end:.1f}' for end in ends)} s")
    for mark in MARKS:
        reached = [next((seconds for seconds, psnr in run if psnr >= mark), None) for run in runs]
        shown = ", ".join("never" if s is None else f"{s:.1f} s" for s in reached)
        print(f"time to {mark:g} dB: {shown}")
    if (peak := peak_memory()) is not None:
        print(f"peak memory {peak / 1e9:.2f} GB")


def _split(capture: Capture, judge: str) -> Capture:
    """Frames 0, 8, 16, ... are test; to tune, they are dropped and every 8th of the rest validates."""
    capture = capture.with_holdout(8)
    if judge == "test":
        return capture
    train = [frame for frame in capture.frames if frame.split == "train"]
    frames = tuple(replace(f, split="validation") if i % 8 == 4 else f for i, f in enumerate(train))
    return replace(capture, frames=frames)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="a capture with cameras")
    parser.add_argument("--preset", default="preview", help="of configs/train, or a TOML file")
    parser.add_argument("--resolution", type=int, default=480, help="longer side of the pictures [px]")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--points", action="store_true", help="begin at the capture's points")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--every", type=int, default=50, help="steps between evaluations")
    parser.add_argument("--quiet", action="store_true", help="print only the last step of a run")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="change the preset")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
