"""The verb `demo`: ray-cast a tabletop of meshes, fit Gaussians to the pictures, show truth beside fit."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Split
from gaussworld.errors import ConfigError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load_world, save, save_cameras
from gaussworld.io.images import write_image
from gaussworld.io.video import write_video
from gaussworld.log import follow
from gaussworld.render import render
from gaussworld.world_object import ObjectKind

from .evaluate import Scores, evaluate
from .fit import TrainConfig
from .frames import View, load_view
from .keep import keep_world
from .report import side_by_side, worst_panels
from .strategy import Adc
from .synthetic import SKY, TabletopConfig, tabletop
from .things import with_things
from .trainer import train

#: Matt surfaces and known points need little: about ten seconds on two cores.
DEMO = TrainConfig(
    steps=1500,
    max_gaussians=25_000,
    start_gaussians=25_000,
    sh_degree=1,
    coarse=2,
    coarse_until=0.3,
    strategy=Adc(every=100, clone_below=0.005),
)

_MADE_BY = "gaussworld demo"
_TURNTABLE_SECONDS, _TURNTABLE_FPS = 4.0, 30.0


def main(out: Path = Path("out/demo"), config: TrainConfig = DEMO) -> None:
    """Ray-cast a small tabletop, fit Gaussians to the pictures on the CPU, and show both side by side.

    Writes side_by_side.png, turntable.mp4, scene.ply and the same as a world of things, images with
    transforms.json, report.json and metrics.jsonl; takes about a minute on two cores.

    Args:
        out: folder for the results; one that an earlier demo wrote is written again.
        config: how to fit; its seed arranges the scene too, its background is the scene's sky.
    """
    start = time.monotonic()
    claim(out)
    config = replace(config, background=SKY)
    capture = tabletop(TabletopConfig(), config.seed)
    seconds = {"scene": time.monotonic() - start}
    gaussians = follow(train(capture, config), "Fitting", metrics=out / "metrics.jsonl").result
    seconds["fit"] = time.monotonic() - start - seconds["scene"]
    report = write_results(out, capture, gaussians)
    report["objects"] = write_world(out)
    seconds["total"] = time.monotonic() - start
    report |= {"steps": config.steps, "seed": config.seed, "seconds": _rounded(seconds), "finished": True}
    _write_report(out, report)
    _print_summary(out, report, seconds)


def claim(out: Path) -> None:
    """Make the folder ours before the work begins.

    Raises:
        ConfigError: it holds files that no demo wrote, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: expected a folder, got the file {out}; name another place")
    if out.is_dir() and any(out.iterdir()) and not _ours(out / "report.json"):
        raise ConfigError(
            f"--out: expected a new folder or one that an earlier demo wrote, got {out}, which holds other"
            " files; name another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.jsonl").unlink(missing_ok=True)
    _write_report(out, {"finished": False})


def write_results(out: Path, capture: Capture, gaussians: Gaussians) -> dict:
    """Write pictures, video, scene and cameras; returns the figures of the report."""
    held_out, trained = _named(capture, "test"), _named(capture, "train")
    scores = evaluate(gaussians, held_out, SKY), evaluate(gaussians, trained, SKY)
    chosen = [
        *worst_panels(gaussians, held_out, scores[0], SKY, 1),
        *worst_panels(gaussians, trained, scores[1], SKY, 0, "training"),
    ]
    write_image(out / "side_by_side.png", side_by_side(chosen, ("truth: ray-cast meshes", "fit: Gaussians")))
    write_video(out / "turntable.mp4", turntable(gaussians), _TURNTABLE_FPS)
    save(gaussians, out / "scene.ply", up=(0.0, 0.0, 1.0), metres_per_unit=1.0)
    save_cameras(write_pictures(capture, out / "images"), out / "transforms.json")
    return {
        "held_out": _figures(scores[0]),
        "training": _figures(scores[1]),
        "gaussians": len(gaussians),
        "views": len(capture),
    }


def write_world(out: Path) -> list[str]:
    """Keep the scene as a world, and then as a world of things; gives their names."""
    path = out / "scene.world"
    world = load_world(out)
    keep_world(path, world, "demo")
    world = follow(with_things(world, path), "Objects").result
    keep_world(path, world, "the objects of the demo")
    return [item.name for item in world.objects.values() if item.kind is ObjectKind.RIGID]


def _named(capture: Capture, split: Split) -> list[View]:
    """Views of a split, called by their place in it: these pictures have no files to be named after."""
    return [replace(load_view(frame), name=f"view {i}") for i, frame in enumerate(capture.of(split))]


def write_pictures(capture: Capture, folder: Path) -> Capture:
    """The same capture with its pictures on disk, as other programs want them."""
    frames = []
    for i, frame in enumerate(capture.frames):
        path = folder / f"{i:03d}.png"
        write_image(path, load_view(frame).image)
        frames.append(replace(frame, image=path, depth=None))
    return replace(capture, frames=tuple(frames))


@torch.no_grad()
def turntable(gaussians: Gaussians, width: int = 640, height: int = 480) -> Iterator[Float[Tensor, "h w 3"]]:
    """One slow turn around the table, the camera rising and sinking once."""
    count = round(_TURNTABLE_SECONDS * _TURNTABLE_FPS)
    for i in range(count):
        turn = 2 * math.pi * i / count
        elevation = math.radians(34 + 12 * math.sin(turn))
        direction = (
            math.cos(elevation) * math.cos(turn),
            math.cos(elevation) * math.sin(turn),
            math.sin(elevation),
        )
        x, y, z = (1.1 * part for part in direction)
        camera = Camera.looking_at((x, y, z), (0.0, 0.0, -0.03), width, height, 45.0)
        yield render(gaussians, camera, background=SKY).rgb


def _figures(scores: Scores) -> dict:
    views = [{"psnr": round(view.psnr, 3), "ssim": round(view.ssim, 4)} for view in scores.views]
    return {"psnr": round(scores.psnr, 3), "ssim": round(scores.ssim, 4), "views": views}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


def _ours(report: Path) -> bool:
    try:
        return json.loads(report.read_text(encoding="utf-8")).get("made_by") == _MADE_BY
    except (OSError, ValueError, AttributeError):
        return False


def _write_report(out: Path, report: dict) -> None:
    text = json.dumps({"made_by": _MADE_BY, **report}, indent=2)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")


def _print_summary(out: Path, report: dict, seconds: dict[str, float]) -> None:
    from rich.console import Console

    held_out = report["held_out"]
    console = Console(highlight=False)
    console.print(
        f"Fitted {report['gaussians']:,} Gaussians to {report['views'] - len(held_out['views'])} pictures in"
        f" {seconds['fit']:.0f} s ({seconds['total']:.0f} s in all)."
        f" Pictures held out: {held_out['psnr']:.1f} dB PSNR, {held_out['ssim']:.3f} SSIM."
    )
    for name, what in (
        ("side_by_side.png", "truth, fit and difference"),
        ("turntable.mp4", "a turn around the scene"),
        ("scene.ply", "the Gaussians"),
        ("scene.world", f"the same as a world of {len(report['objects'])} things: gaussworld world --help"),
        ("report.json", "the figures"),
    ):
        console.print(f"  {out / name}  {what}", soft_wrap=True)
