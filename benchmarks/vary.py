"""Randomised copies of scenes: `python benchmarks/vary.py SCENE [SCENE ...] [--copies 10] [--keep FOLDER]`.

SCENE is what `gaussworld generate --still` wrote; the world is made of its true meshes, painted from its
pictures. Prints a table in Markdown: copies a minute, and whether things rest and keep apart by two judges,

* own: the simulation by which `gaussworld vary` itself accepts a placement;
* mjcf: the copy written with `save_mjcf`, table and all, and simulated for a second as anybody would; before:
  the same of the scene as it was.

A thing rests if it moves by at most 2 mm and turns by at most 1 degree within that second.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import torch
from machine import commit, processor

from gaussworld.capture import Capture
from gaussworld.gaussians import Gaussians
from gaussworld.io import load_capture
from gaussworld.io.images import read_depth, read_image
from gaussworld.io.mjcf import save_mjcf
from gaussworld.log import Event, Progress, drain
from gaussworld.sh import sh0_from_rgb
from gaussworld.shape import Shape
from gaussworld.surface import load_surface
from gaussworld.surface.discs import discs
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, Vector, WorldObject
from recon.mesh.convex import convex_parts
from recon.vary.copies import LABELS, Varied, variations
from recon.vary.settings import VaryConfig

#: Gaussians on a square metre, and on one object at least and at most.
PER_AREA, FEWEST, MOST = 2e5, 800, 40_000
#: [m] How near true depth a Gaussian must be to be seen.
SEEN = 0.004


@dataclass(frozen=True)
class Judged:
    """Things of all copies, by the judge that takes the files."""

    rest: int
    things: int
    farthest: float
    """[mm]"""
    deepest: float
    """[mm] how far things reach into each other at the start."""


def world_of(scene: Path) -> World:
    """The true world of a scene, with shapes, materials and painted Gaussians."""
    truth, capture = json.loads((scene / "truth.json").read_text()), load_capture(scene)
    objects = {each["id"]: object_of(each, scene) for each in truth["objects"]}
    world = World(objects, tuple(f.camera for f in capture.frames), 1.0, (0.0, 0.0, 1.0))
    return painted(world, capture)


def object_of(facts: dict, scene: Path) -> WorldObject:
    surface = load_surface(scene / facts["mesh"])
    count = max(FEWEST, min(MOST, round(surface.mesh.area * PER_AREA)))
    joint = facts["joint"]
    made = joint and Joint(
        joint["kind"],
        three(joint["axis"]),
        three(joint["origin"]),
        (float(joint["limits"][0]), float(joint["limits"][1])),
        float(joint["position"]),
    )
    return WorldObject(
        id=facts["id"],
        name=facts["name"],
        gaussians=discs(surface, count),
        kind=ObjectKind(facts["kind"]),
        world_from_object=torch.tensor(facts["world_from_object"]).float(),
        parent=facts["parent"],
        joint=made,
        material=Material(friction=float(facts["friction"] or 0.5), category=facts["category"] or ""),
        shape=Shape(surface.mesh, convex_parts(surface.mesh)),
    )


def three(numbers: Sequence[float]) -> Vector:
    x, y, z = map(float, numbers)
    return x, y, z


def painted(world: World, capture: Capture) -> World:
    """Gaussians in the mean colour of the pixels that see them."""
    posed = world.posed()
    total, seen = torch.zeros(len(posed), 3), torch.zeros(len(posed))
    for frame in capture.frames:
        assert isinstance(frame.image, Path) and isinstance(frame.depth, Path)
        picture, depth = read_image(frame.image)[..., :3], read_depth(frame.depth)
        pixels, z = frame.camera.project(posed.means)
        x, y = pixels.nan_to_num(-1.0).floor().long().unbind(1)
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < frame.camera.width) & (y < frame.camera.height)
        rows = inside.nonzero()[:, 0]
        rows = rows[(depth[y[rows], x[rows]] - z[rows]).abs() < SEEN]
        total[rows] += picture[y[rows], x[rows]]
        seen[rows] += 1
    colors = torch.where(seen[:, None] > 0, total / seen[:, None].clamp(min=1), torch.full_like(total, 0.5))
    start, objects = 0, {}
    for number, item in world.objects.items():
        end = start + len(item.gaussians)
        objects[number] = replace(item, gaussians=colored(item.gaussians, colors[start:end]))
        start = end
    return replace(world, objects=objects)


def colored(gaussians: Gaussians, colors: torch.Tensor) -> Gaussians:
    return replace(gaussians, sh=sh0_from_rgb(colors)[:, None])


def simulated(copies: Sequence[World]) -> Judged:
    """Every copy as a file for MuJoCo, left alone for a second."""
    import mujoco

    rest = things = 0
    farthest = deepest = 0.0
    for world in copies:
        with tempfile.TemporaryDirectory() as folder:
            model = mujoco.MjModel.from_xml_path(str(save_mjcf(world, Path(folder))))  # pyright: ignore
        data = mujoco.MjData(model)  # pyright: ignore
        mujoco.mj_forward(model, data)  # pyright: ignore
        free = [int(model.jnt_bodyid[i]) for i in range(model.njnt) if int(model.jnt_type[i]) == 0]
        for contact in data.contact[: data.ncon]:
            bodies = {int(model.geom_bodyid[geom]) for geom in contact.geom}
            if bodies <= set(free):
                deepest = max(deepest, -1000 * float(contact.dist))
        places, turns = data.xpos.copy(), data.xmat.copy().reshape(-1, 3, 3)
        mujoco.mj_step(model, data, round(1.0 / model.opt.timestep))  # pyright: ignore
        for body in free:
            moved = 1000 * float(torch.tensor(data.xpos[body] - places[body]).norm())
            cosine = (float((data.xmat[body].reshape(3, 3) @ turns[body].T).trace()) - 1) / 2
            turned = float(torch.rad2deg(torch.tensor(max(-1.0, min(1.0, cosine))).acos()))
            rest += moved <= 2.0 and turned <= 1.0
            farthest = max(farthest, moved)
        things += len(free)
    return Judged(rest, things, farthest, deepest)


def row(scene: Path, copies: int, keep: Path | None) -> str:
    world = world_of(scene)
    out = (keep or Path(tempfile.mkdtemp(prefix="vary-"))) / scene.name
    times: list[float] = [time.perf_counter()]
    steps = variations(world, out, copies, 1000, VaryConfig(), render=keep is not None)

    def listen(event: Event[Varied]) -> None:
        if isinstance(event, Progress) and event.step:
            times.append(time.perf_counter())

    done = drain(steps, listen).result
    # What is prepared once counts for the first copy, which is left out.
    laps = [b - a for a, b in pairwise(times[1:])]
    labels = json.loads((out / LABELS).read_text())["copies"]
    drifts = [each["drift_mm"] for copy in labels for each in copy["objects"] if each["drift_mm"] is not None]
    overlap = max((copy["overlap_mm"] or 0.0 for copy in labels), default=0.0)
    theirs = simulated([World.open(out / copy["world"]) for copy in labels])
    before = simulated([world])
    count = sum(len(item.gaussians) for item in world.objects.values())
    cells = [
        scene.name,
        f"{count:,}",
        f"{60 / statistics.median(laps):.0f}" if laps else "-",
        f"{done.moved}",
        f"{done.without_room}",
        f"{done.judged - done.restless} of {done.judged}",
        f"{statistics.median(drifts):.2f}, {max(drifts):.2f}" if drifts else "-",
        f"{overlap:.2f}",
        f"{before.rest} of {before.things}",
        f"{theirs.rest} of {theirs.things}",
        f"{theirs.farthest:.2f}",
        f"{theirs.deepest:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument(
        "--keep", type=Path, default=None, help="keep the copies here, with pictures (and their time)"
    )
    args = parser.parse_args()
    heads = (
        "scene", "Gaussians", "copies a minute", "placed", "no room", "rest (own)", "drift mm: median, most",
        "overlap mm", "before (mjcf)", "rest (mjcf)", "most mm", "overlap mm",
    )  # fmt: skip
    sys.stdout.write(
        f"{date.today()}, commit {commit()}, {processor()}; {args.copies} copies of each scene.\n\n"
    )
    sys.stdout.write("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|\n")
    for scene in args.scenes:
        sys.stdout.write(row(scene, args.copies, args.keep) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
