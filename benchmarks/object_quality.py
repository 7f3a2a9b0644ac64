"""How whole objects stay when cut out and moved: `python benchmarks/object_quality.py SCENE[=RUN] ...`.

SCENE is a folder that `gaussworld generate --still` wrote, with at least one more state; RUN a stored world
or splat file of it, made here where none is given. Prints tables in Markdown: what recomposing a scene of its
cut objects costs, and how close an object that moved is to the simulator's picture of where it went. Ids are
lifted from the true masks of the training views, or are those of RUN's own objects with `--own-ids`.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from machine import commit, processor

from gaussworld.camera import Camera
from gaussworld.edit import RemoveFloaters, applied
from gaussworld.gaussians import Gaussians
from gaussworld.io import load_capture, load_world
from gaussworld.io.images import write_image
from gaussworld.log import drain
from gaussworld.metrics import psnr
from gaussworld.neighbors import nearest
from gaussworld.pose import invert_pose, transform_points
from gaussworld.render import render
from gaussworld.world import World
from gaussworld.world_object import ObjectKind
from recon.fill import PolishConfig, moved_in_light, polish, tidy_cut
from recon.fit import TrainConfig
from recon.frames import View, load_view
from recon.objects.lift import lift
from recon.objects.masks import read_labels
from recon.trainer import train

HOLDOUT = 8
#: [m] what lies closer to where a thing stood was below it.
FOOT = 0.006


@dataclass(frozen=True, eq=False)
class State:
    """Pictures, true ids and true poses at one moment."""

    views: list[View]
    ids: list[torch.Tensor]
    splits: list[str]
    poses: dict[int, torch.Tensor]
    meshes: dict[int, Path]
    kinds: dict[int, ObjectKind]
    names: dict[int, str]

    def thinned(self, every: int) -> "State":
        """Every so many of the pictures."""
        kept = {name: getattr(self, name)[::every] for name in ("views", "ids", "splits")}
        return replace(self, **kept)

    def of(self, split: str) -> list[int]:
        return [i for i, each in enumerate(self.splits) if each == split]


def read_state(folder: Path) -> State:
    """A folder of the layout that `generate --still` writes."""
    capture = load_capture(folder).with_holdout(HOLDOUT)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["objects"]
    views = [load_view(frame, metres_per_unit=capture.metres_per_unit) for frame in capture.frames]
    ids = [read_labels(folder / "ids" / Path(frame.name).name) for frame in capture.frames]
    kinds = {o["id"]: ObjectKind(o["kind"]) for o in truth}
    poses = {o["id"]: torch.tensor(o["world_from_object"]) for o in truth}
    meshes = {o["id"]: folder / o["mesh"] for o in truth}
    splits = [frame.split for frame in capture.frames]
    return State(views, ids, splits, poses, meshes, kinds, {o["id"]: o["name"] for o in truth})


def reconstructed(folder: Path, run: Path | None, config: TrainConfig) -> Gaussians:
    """The Gaussians of a run, or of one made now."""
    if run is None:
        capture = load_capture(folder).with_holdout(HOLDOUT)
        return drain(train(capture, config)).result
    if run.suffix == ".pt":
        return torch.load(run, weights_only=False)
    world = World.open(run) if run.is_dir() else load_world(run)
    return applied(RemoveFloaters(), world).shown()


def cut(gaussians: Gaussians, state: State) -> World:
    """A world of objects, by true masks of the training views."""
    some = state.of("train")
    cameras = [state.views[i].camera for i in some]
    lifted = lift(gaussians, cameras, [state.ids[i] for i in some])
    named = replace(gaussians, object_ids=lifted.ids, id_confidences=lifted.confidences)
    world = World.from_gaussians(named, cameras=cameras, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))
    for number, item in world.objects.items():
        kind = state.kinds.get(number, ObjectKind.STATIC)
        known = kind in (ObjectKind.STATIC, ObjectKind.RIGID)
        name = state.names.get(number, "background")
        world = world.with_object(replace(item, name=name, kind=kind if known else ObjectKind.STATIC))
    return world


def quality(gaussians: Gaussians, views: Sequence[View]) -> float:
    """[dB] mean over views."""
    return float(np.mean([psnr(shown(gaussians, view.camera), view.image) for view in views]))


@torch.no_grad()
def shown(gaussians: Gaussians, camera: Camera) -> torch.Tensor:
    return render(gaussians, camera).rgb.clamp(0, 1)


def inside(gaussians: Gaussians, state: State, masks: Sequence[torch.Tensor]) -> float:
    """[dB] over all pixels of the masks."""
    total, count = 0.0, 0
    for view, mask in zip(state.views, masks):
        if bool(mask.any()):
            error = (shown(gaussians, view.camera) - view.image)[mask]
            total, count = total + float((error**2).sum()), count + error.numel()
    return -10 * math.log10(total / count) if count else math.nan


def motions(before: State, after: State) -> dict[int, torch.Tensor]:
    """What of the objects moved, as new_from_old in the world."""
    found = {}
    for number, pose in before.poses.items():
        motion = after.poses[number] @ invert_pose(pose)
        if float((motion - torch.eye(4)).abs().max()) > 1e-3:
            found[number] = motion
    return found


def footprints(before: State, after: State, number: int) -> list[torch.Tensor]:
    """Pixels of the later pictures that show what the object hid by standing on it."""
    import trimesh

    mesh = trimesh.load_mesh(before.meshes[number])
    points = trimesh.sample.sample_surface(mesh, 20000, seed=0)[0]
    there = transform_points(before.poses[number], torch.tensor(np.asarray(points), dtype=torch.float32))
    masks = []
    for view, ids in zip(after.views, after.ids):
        assert view.depth is not None
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        still = (view.depth > 0) & (ids != number)
        rows = still.nonzero()
        pixels = view.camera.pixel_centers()[still]
        at = view.camera.unproject(pixels, view.depth[still])
        near = ((at >= there.amin(0) - FOOT) & (at <= there.amax(0) + FOOT)).all(1)
        if bool(near.any()):
            close = nearest(there, 1, at[near])[0][:, 0] < FOOT
            rows = rows[near][close]
            mask[rows[:, 0], rows[:, 1]] = True
        masks.append(mask)
    return masks


def moved(world: World, turns: dict[int, torch.Tensor], light: bool) -> World:
    poses = {
        n: motion @ world.objects[n].world_from_object for n, motion in turns.items() if n in world.objects
    }
    if light:
        return moved_in_light(world, poses)
    for number, pose in poses.items():
        world = world.moved(number, pose)
    return world


def save_pictures(folder: Path, name: str, state: State, worlds: dict[str, World], masks: list) -> None:
    """Truth and all worlds beside each other, from the views that show most of what moved."""
    best = sorted(range(len(masks)), key=lambda i: -int(masks[i].sum()))[:1] + [0, len(masks) // 2]
    for i in best:
        view = state.views[i]
        row = [view.image, *(shown(world.shown(), view.camera) for world in worlds.values())]
        write_image(folder / f"{name}-view{i}.png", torch.cat(row, dim=1))


def measured(folder: Path, run: Path | None, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Rows of the two tables."""
    config = TrainConfig(steps=options.steps, max_gaussians=options.max_gaussians, start_gaussians=30_000)
    before, gaussians = read_state(folder), reconstructed(folder, run, config)
    train_views = [before.views[i] for i in before.of("train")]
    test_views = [before.views[i] for i in before.of("test")]
    plain = World.open(run) if options.own_ids and run else cut(gaussians, before)
    ids = [before.ids[i] for i in before.of("train")]
    polished = drain(polish(plain, train_views, ids, PolishConfig(steps=options.polish_steps))).result
    train_views = train_views[:: options.every]
    # What is below things is filled, and their shadows taken away, only when they leave.
    stages = {"cut": plain, "refitted": polished, "all made ready to leave": tidy_cut(polished)}
    scores = [(quality(gaussians, train_views), quality(gaussians, test_views))]
    scores += [(quality(w.shown(), train_views), quality(w.shown(), test_views)) for w in stages.values()]
    whole = " | ".join(f"{a:.2f} / {b:.2f}" for a, b in scores)
    loss = scores[0][0] - scores[2][0]
    first = [f"| {folder.name} | {len(plain.objects) - 1} | {whole} | {loss:+.2f} |"]
    second = []
    for path in sorted(folder.glob("state-*")):
        after = read_state(path).thinned(options.every)
        turns = {n: m for n, m in motions(before, after).items() if n in plain.objects}
        tidy = tidy_cut(polished, list(turns))
        worlds = {
            "cut": moved(plain, turns, False),
            "refitted, filled": moved(tidy, turns, False),
            "and lit": moved(tidy, turns, True),
        }
        for number in turns:
            masks = [mask == number for mask in after.ids]
            under = footprints(before, after, number)
            values = [inside(world.shown(), after, masks) for world in worlds.values()]
            holes = [inside(worlds[k].shown(), after, under) for k in ("cut", "and lit")]
            figures = " | ".join(f"{value:.2f}" for value in (*values, *holes))
            turn = math.degrees(math.acos(max(-1, min(1, (float(turns[number][:3, :3].trace()) - 1) / 2))))
            second.append(f"| {folder.name}/{path.name} | {before.names[number]} | {turn:.0f} | {figures} |")
            if options.pictures:
                save_pictures(options.pictures, f"{folder.name}-{path.name}-{number}", after, worlds, masks)
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenes", nargs="+", help="SCENE or SCENE=RUN")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--max-gaussians", type=int, default=60_000)
    parser.add_argument("--polish-steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=1, help="judge by every so many training and new views")
    parser.add_argument("--own-ids", action="store_true")
    parser.add_argument("--pictures", type=Path, help="folder for truth, before and after, side by side")
    options = parser.parse_args()
    first, second = [], []
    for each in options.scenes:
        scene, _, run = each.partition("=")
        rows = measured(Path(scene), Path(run) if run else None, options)
        first, second = first + rows[0], second + rows[1]
    print(f"{date.today()}, commit {commit()}, {processor()}\n")
    print("Recomposed scenes: PSNR [dB] of training / held-out views.\n")
    print("| scene | objects | uncut | cut | refitted | all made ready to leave | loss when refitted |")
    print("|---|--:|--:|--:|--:|--:|--:|", *first, sep="\n")
    print("\nObjects that moved: PSNR [dB] inside their true mask, and where they stood.\n")
    print("| scene | object | turn [deg] | cut | refitted, filled | and lit | hole, cut | hole, filled |")
    print("|---|---|--:|--:|--:|--:|--:|--:|", *second, sep="\n")


if __name__ == "__main__":
    main()
