"""Updates of simulated scenes in which things moved: places of pictures, poses, joints, false alarms.

    gaussworld generate --still ... makes the scenes: OUT with its states OUT/state-1, OUT/state-2, ...
    python benchmarks/update.py OUT [OUT ...] --work W

The world is fitted to state 0 without every eighth picture and gets its true object ids: only the update is
measured. Pictures are handed over without poses. Errors of a pose are those of the object's surface.
"""

import argparse
import json
import math
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import commit, processor
from PIL import Image
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_capture, save
from gaussworld.io.images import read_depth, write_image
from gaussworld.log import drain, follow
from gaussworld.pose import invert_pose, rotvec_from_rotation, transform_points
from gaussworld.world import World
from gaussworld.world_object import ObjectKind
from recon.fit import TrainConfig
from recon.joints import estimate_joint
from recon.strategy import Adc
from recon.trainer import train
from recon.update import UpdateConfig, Updated, update
from recon.update.report import strip

FIT = TrainConfig(
    steps=900, max_gaussians=45_000, start_gaussians=35_000, sh_degree=1, coarse_until=0.6, resolution=640,
    strategy=Adc(every=100, clone_below=0.005),
)  # fmt: skip
#: A pose that differs by less than this has not changed: [m], [rad].
STILL = (0.002, math.radians(1))


def main() -> None:
    options = _options()
    print(f"commit {commit()}, {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| scene | state | registered | cm | deg | object | truth | found | mm | deg | s | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    joints: list[str] = []
    for scene in options.scenes:
        joints += _scene(scene, options.work / scene.name, options.pictures)
    if joints:
        print("\n| scene | object | truth | found | axis deg | offset mm | states |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(joints))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenes", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="where fits and pictures of the result go")
    parser.add_argument("--pictures", type=int, default=12, help="new pictures of each state")
    return parser.parse_args()


def _scene(folder: Path, work: Path, count: int) -> list[str]:
    work.mkdir(parents=True, exist_ok=True)
    truths = {0: json.loads((folder / "truth.json").read_text())}
    world = _world(folder, _fitted(folder, work), truths[0])
    poses: dict[int, list[Tensor]] = {
        number: [item.world_from_object] for number, item in world.objects.items()
    }
    _state(folder, 0, world, truths[0], truths[0], work, count, held_out=True)
    for state in sorted(folder.glob("state-*")):
        number = int(state.name.split("-")[1])
        truths[number] = json.loads((state / "truth.json").read_text())
        updated = _state(state, number, world, truths[0], truths[number], work, count)
        for move in updated.moves:
            if move.verdict == "moved":
                poses[move.object_id].append(updated.world.find(move.object_id).world_from_object)
    return _joints(folder.name, truths[0], poses)


def _fitted(folder: Path, work: Path) -> Gaussians:
    kept = work / "gaussians.ply"
    if not kept.exists():
        capture = load_capture(folder).with_holdout(8)
        save(follow(train(capture, FIT), f"Fitting {folder.name}").result, kept)
    return load(kept)


def _world(folder: Path, gaussians: Gaussians, truth: dict[str, Any]) -> World:
    """The fit with the ids that most pictures give to the surface at each Gaussian."""
    capture = load_capture(folder)
    votes = torch.zeros(len(gaussians), 64)
    for frame in capture.frames:
        assert isinstance(frame.image, Path)
        camera, ids = frame.camera, np.array(Image.open(folder / "ids" / frame.name)).astype(np.int64)
        depth = read_depth(folder / "depth" / frame.name)
        at, z = camera.project(gaussians.means)
        x, y = at.floor().long().unbind(1)
        rows = ((z > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)).nonzero()[:, 0]
        there = depth[y[rows], x[rows]]
        rows = rows[((z[rows] - there).abs() < 0.012) & (there > 0)]
        votes[rows, torch.from_numpy(ids)[y[rows], x[rows]]] += 1
    best = votes.max(1)
    ids = torch.where(best.values > 0, best.indices, 0).to(torch.int32)
    world = World.from_gaussians(
        replace(gaussians, object_ids=ids),
        cameras=[frame.camera for frame in capture.with_holdout(8).of("train")],
        metres_per_unit=1.0,
        up=(0.0, 0.0, 1.0),
    )
    for each in truth["objects"]:
        if each["id"] in world.objects:
            kind = ObjectKind.RIGID if each["kind"] == "ARTICULATED" else ObjectKind[each["kind"]]
            item = replace(world.find(each["id"]), name=each["name"], kind=kind)
            world = world.with_object(item)
    return world


def _state(
    folder: Path,
    number: int,
    world: World,
    before: dict[str, Any],
    now: dict[str, Any],
    work: Path,
    count: int,
    held_out: bool = False,
) -> Updated:
    capture = load_capture(folder)
    frames = list(capture.with_holdout(8).of("test")) if held_out else list(capture.frames)
    frames = frames[:: max(1, len(frames) // count)][:count]
    plain = work / f"state-{number}"
    shutil.rmtree(plain, ignore_errors=True)
    plain.mkdir(parents=True)
    for frame in frames:
        assert isinstance(frame.image, Path)
        shutil.copy(frame.image, plain / frame.name)
    clock, spent = time.monotonic(), time.process_time()
    updated = drain(update(world, [plain], UpdateConfig(pictures=count))).result
    clock, spent = time.monotonic() - clock, time.process_time() - spent
    _pictures_row(work.name, number, frames, updated, clock, spent)
    _object_rows(work.name, number, world, before, now, updated)
    write_image(work / f"state-{number}.png", strip(world, updated))
    return updated


def _pictures_row(name: str, number: int, frames: list, updated: Updated, clock: float, spent: float) -> None:
    true = {frame.name: frame.camera.world_from_camera for frame in frames}
    shifts, turns = [], []
    for shot in updated.shots:
        shift, turn = _differ(shot.camera.world_from_camera, true[shot.name])
        shifts.append(100 * shift)
        turns.append(math.degrees(turn))
    middle = len(shifts) // 2
    renewal = updated.renewal
    refit = "re-fit: none" if renewal is None or not renewal.changed else (
        f"re-fit: {renewal.added} new, {renewal.erased} erased, {len(renewal.new_objects)} new objects,"
        f" {renewal.psnr_before:.1f} to {renewal.psnr_after:.1f} dB"
    )  # fmt: skip
    print(
        f"| {name} | {number} | {len(updated.shots)}/{len(frames)} | {sorted(shifts)[middle]:.2f}"
        f" (worst {max(shifts):.2f}) | {sorted(turns)[middle]:.2f} | {refit} | | | | | {clock:.0f}"
        f" | {spent:.0f} |",
        flush=True,
    )


def _object_rows(
    name: str, number: int, world: World, before: dict[str, Any], now: dict[str, Any], updated: Updated
) -> None:
    old = {each["id"]: torch.tensor(each["world_from_object"]).float() for each in before["objects"]}
    new = {each["id"]: torch.tensor(each["world_from_object"]).float() for each in now["objects"]}
    found = {move.object_id: move for move in updated.moves}
    for key, item in world.objects.items():
        if key not in old:
            continue
        truth = "gone" if key not in new else "moved" if _changed(old[key], new[key]) else "stays"
        verdict = found[key].verdict if key in found else "stays"
        if truth == verdict == "stays" and key not in found:
            continue
        mm, deg = "", ""
        if truth == verdict == "moved":
            motion, points = new[key] @ invert_pose(old[key]), item.posed().means
            away = transform_points(found[key].motion, points) - transform_points(motion, points)
            mm = f"{1000 * float(away.norm(dim=1).mean()):.1f}"
            deg = f"{math.degrees(_differ(found[key].motion, motion)[1]):.2f}"
        print(
            f"| {name} | {number} | | | | {item.name} | {truth} | {verdict} | {mm} | {deg} | | |", flush=True
        )


def _joints(name: str, truth: dict[str, Any], poses: dict[int, list[Tensor]]) -> list[str]:
    rows = []
    for each in truth["objects"]:
        joint, seen = each["joint"], poses.get(each["id"], [])
        if not joint:
            continue
        if len(seen) < 2:
            rows.append(f"| {name} | {each['name']} | {joint['kind']} | not seen to move | | | {len(seen)} |")
            continue
        found = estimate_joint(seen)
        pose = torch.tensor(each["world_from_object"]).float()
        axis = pose[:3, :3] @ torch.tensor(joint["axis"]).float()
        origin = transform_points(pose, torch.tensor([joint["origin"]]).float())[0]
        angle = math.degrees(math.acos(min(1.0, abs(float(torch.tensor(found.axis) @ axis)))))
        offset = torch.linalg.cross(torch.tensor(found.origin) - origin, axis).norm()
        apart = f"{1000 * float(offset):.1f}" if joint["kind"] == "revolute" else ""
        kinds = f"{joint['kind']} | {found.kind}"
        rows.append(f"| {name} | {each['name']} | {kinds} | {angle:.2f} | {apart} | {len(seen)} |")
    return rows


def _changed(a: Tensor, b: Tensor) -> bool:
    shift, turn = _differ(a, b)
    return shift > STILL[0] or turn > STILL[1]


def _differ(a: Tensor, b: Tensor) -> tuple[float, float]:
    """[m] and [rad] between two poses."""
    turn = rotvec_from_rotation(a[:3, :3] @ b[:3, :3].T).norm()
    return float((a[:3, 3] - b[:3, 3]).norm()), float(turn)


if __name__ == "__main__":
    main()
