"""Reconstruction on a GPU: fox at full resolution for 7,000 and 30,000 steps; PSNR, time and memory.

Needs a CUDA device and gsplat. The trainer and the presets are those of the CPU; only the rasterizer differs.

    python benchmarks/gpu_recon.py --data ../shared/data/fox
    python benchmarks/gpu_recon.py --smoke            # a tiny scene, also without a GPU: does it work?
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gaussworld.capture import Capture
from gaussworld.config import load_config
from gaussworld.io import load_capture
from recon.evaluate import evaluate
from recon.fit import TrainConfig, start
from recon.frames import View, load_view
from recon.strategy import Adc, Mcmc
from recon.synthetic import SKY, TabletopConfig, tabletop
from recon.trainer import take_step

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "fox"


def main() -> int:
    """Train with both strategies and print one JSON object for each run."""
    options = _options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type != "cuda" and not options.smoke:
        print(
            "No CUDA device here: use --smoke to see that the script works, benchmarks/train.py to measure."
        )
        return 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, smoke test"
    capture, resolution = _capture(options)
    views, judges = (
        [load_view(frame, resolution, capture.metres_per_unit).to(device) for frame in capture.of(split)]
        for split in ("train", "test")
    )
    for steps in options.steps:
        for strategy in ("adc", "mcmc"):
            config = _config(strategy, steps, options)
            print(json.dumps({"device": name, **measure(views, judges, capture, config, device)}), flush=True)
    return 0


def measure(
    views: Sequence[View],
    judges: Sequence[View],
    capture: Capture,
    config: TrainConfig,
    device: torch.device,
) -> dict[str, object]:
    """Train once; seconds include placing the first Gaussians and all steps, not reading and evaluating."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    begun = time.perf_counter()
    fit = start(views, capture.points, capture.colors, config, device)
    while fit.share < 1:
        take_step(fit)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - begun
    scores = evaluate(fit.gaussians, judges, config.background)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {
        "size": f"{views[0].camera.width}x{views[0].camera.height}",
        "strategy": type(config.strategy).__name__.lower(),
        "steps": fit.step,
        "gaussians": len(fit.parameters),
        "seconds": round(seconds, 2),
        "steps_per_second": round(fit.step / seconds, 1),
        "psnr": round(scores.psnr, 3),
        "ssim": round(scores.ssim, 4),
        "peak_gpu_memory_gb": None if peak is None else round(peak / 1e9, 3),
    }


def _config(strategy: str, steps: int, options: argparse.Namespace) -> TrainConfig:
    config = load_config(TrainConfig, "high", group="train")
    most = 2000 if options.smoke else options.max_gaussians
    background = SKY if options.smoke else config.background
    config = replace(
        config,
        background=background,
        steps=steps,
        max_gaussians=most,
        start_gaussians=min(most, config.start_gaussians),
    )
    if strategy == "adc":
        return replace(config, strategy=Adc(), lambda_opacity=0.0, lambda_scale=0.0)
    return replace(config, strategy=Mcmc(), lambda_opacity=0.01, lambda_scale=0.01)


def _capture(options: argparse.Namespace) -> tuple[Capture, int]:
    if options.smoke:
        return tabletop(TabletopConfig(views=9, width=48, height=36, points=400)), 0
    return load_capture(options.data).with_holdout(8), options.resolution


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="a capture with cameras")
    parser.add_argument("--resolution", type=int, default=0, help="longer side of the pictures [px]; 0: full")
    parser.add_argument("--max-gaussians", type=int, default=500_000)
    parser.add_argument("--steps", type=int, nargs="+", default=[7000, 30000])
    parser.add_argument("--smoke", action="store_true", help="a tiny scene and few Gaussians")
    options = parser.parse_args()
    if options.smoke:
        options.steps = [40]
    return options


if __name__ == "__main__":
    sys.exit(main())
