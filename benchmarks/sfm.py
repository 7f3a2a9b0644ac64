"""Structure from motion on real captures: registered pictures, time, attempts, distance from true cameras.

    python benchmarks/sfm.py                     # fox, banana and redkitchen, from ../shared/data
    python benchmarks/sfm.py --sets fox --seed 1 # one of them, another seed

Seconds of processor time say more than seconds on the clock where others use the machine too.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gaussworld.io import load_capture
from gaussworld.log import Notice, follow
from recon.inputs.video import choose_frames
from recon.sfm import SfmConfig, SfmResult, structure_from_motion
from recon.trajectory import ate

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@dataclass(frozen=True)
class Scene:
    """Pictures, and the true pose of those that have one."""

    name: str
    images: list[Path]
    truth: dict[Path, Tensor]
    unit: str
    """Of the true poses."""
    ordered: bool = False


def main() -> None:
    options = _options()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for scene in scenes(options.data, Path(folder), options.sets):
            config = SfmConfig(seed=options.seed, mapper=options.mapper)
            _report(scene, Path(folder) / scene.name, config)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with the captures")
    parser.add_argument("--work", type=Path, help="where scratch files go")
    parser.add_argument("--sets", nargs="+", default=["fox", "banana", "redkitchen"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mapper", choices=("auto", "global", "incremental"), default="auto")
    return parser.parse_args()


def scenes(data: Path, work: Path, names: list[str]) -> Iterator[Scene]:
    """The captures asked for; frames of the video are chosen here and now."""
    if "fox" in names:
        frames = load_capture(data / "fox").frames
        truth = {f.image: f.camera.world_from_camera for f in frames if isinstance(f.image, Path)}
        yield Scene("fox", sorted((data / "fox" / "images").iterdir()), truth, "of its own")
    if "banana" in names:
        yield Scene("banana", sorted((data / "banana" / "images").iterdir()), {}, "")
    if "redkitchen" in names:
        yield _redkitchen(data / "redkitchen_video", work / "frames")


def _redkitchen(data: Path, work: Path) -> Scene:
    chosen = follow(choose_frames([data / "video.mp4"], work), "frames").result
    poses = json.loads((data / "poses.json").read_text())["poses"]
    indices = [each.index for each in chosen.candidates if each.chosen]
    truth = {path: torch.tensor(poses[index]) for path, index in zip(chosen.images, indices)}
    return Scene("redkitchen", list(chosen.images), truth, "m", ordered=True)


def _report(scene: Scene, work: Path, config: SfmConfig) -> None:
    began, processor = time.monotonic(), _processor_seconds()
    events = structure_from_motion(scene.images, work, config, ordered=scene.ordered)
    notices = []
    result = None
    for event in events:
        if isinstance(event, Notice):
            notices.append(event.message)
        result = getattr(event, "result", None)
    assert isinstance(result, SfmResult)
    print(
        f"\n{scene.name}: {len(result.capture)} of {len(scene.images)} registered,"
        f" {len(result.capture.points):,} points, {result.reprojection_error:.3f} px,"
        f" {time.monotonic() - began:.1f} s ({_processor_seconds() - processor:.1f} s of processor)"
    )
    for notice in notices:
        print(f"  - {notice}")
    for each in result.attempts:
        print(f"  {each}")
    camera = result.capture.frames[0].camera
    print(f"  first camera: {camera.model.value}, K {camera.K.flatten().tolist()}, {camera.distortion}")
    for name, reason in result.left_out:
        print(f"  left out: {name}: {reason}")
    _report_truth(scene, result)


def _report_truth(scene: Scene, result: SfmResult) -> None:
    found = {f.image: f.camera for f in result.capture.frames if isinstance(f.image, Path)}
    known = [path for path in found if path in scene.truth]
    if len(known) < 3:
        return
    true = torch.stack([scene.truth[path].double() for path in known])
    estimated = torch.stack([found[path].world_from_camera.double() for path in known])
    error = ate(estimated, true)
    centers = true[:, :3, 3]
    extent = float((centers.amax(0) - centers.amin(0)).norm())
    print(
        f"  position error of {len(known)} cameras: rmse {error.rmse:.4f}, max {error.max:.4f} (unit"
        f" {scene.unit}); rmse {error.rmse / extent:.3%} of the extent, {extent:.2f}"
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
