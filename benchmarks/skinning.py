"""How long Gaussians take to follow a state, and a world to become matter.

    python benchmarks/skinning.py

100,000 Gaussians with colours of degree 3: as five rigid boxes, and as one cloth, rope or soft block of 128
particles (a rope has up to 64). "Posed" is what a renderer needs when the view is turned instead of the
colours. Medians after a warm-up, of the wall and of all threads' processor time, which other jobs on the
machine disturb less.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from machine import commit, processor

from dynamics.matter.parts import Matter
from dynamics.matter.sample import MatterConfig, matter_of
from dynamics.skinning.skin import Skin
from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose7_from_pose, pose_from, rotation_from_rotvec, transform_points
from gaussworld.render import kernels
from gaussworld.shape import Mesh, Shape
from gaussworld.state import State
from gaussworld.support import spread_points
from gaussworld.surface import box
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

#: [m] what bends.
SIZES = {"rope": (0.5, 0.012, 0.012), "cloth": (0.3, 0.3, 0.003), "soft block": (0.1, 0.1, 0.08)}
FORMS = {
    "rope": MatterConfig(ropes=(1,)),
    "cloth": MatterConfig(cloths=(1,)),
    "soft block": MatterConfig(volumes=(1,)),
}
TOTAL = 100_000


def painted(mesh: Mesh, count: int) -> Gaussians:
    """Gaussians all over a surface, with colours of degree 3."""
    chance = torch.Generator().manual_seed(0)
    a, b, c = mesh.triangles.unbind(1)
    points = spread_points(mesh.triangles, torch.linalg.cross(b - a, c - a).norm(dim=1), count)
    quats = torch.randn(len(points), 4, generator=chance)
    sh = 0.2 * torch.randn(len(points), 16, 3, generator=chance)
    return Gaussians(points, quats, torch.full_like(points, math.log(1e-3)), torch.ones(len(points)), sh)


def world_of(sizes: list[tuple[float, float, float]], kind: ObjectKind, each: int) -> World:
    """Boxes beside each other."""
    items = {}
    for number, size in enumerate(sizes, 1):
        mesh, pose = box(size).mesh, pose_from(torch.eye(3), torch.tensor([0.2 * number, 0.0, 0.0]))
        item = WorldObject(number, f"thing {number}", painted(mesh, each), kind, pose, shape=Shape(mesh))
        items[number] = item
    return World(items, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def milliseconds(work: Callable[[], object], runs: int = 15) -> str:
    """The medians of the wall and of the processor time, as columns of the table."""
    for _ in range(min(3, runs)):
        work()
    walls, processors = [], []
    for _ in range(runs):
        wall, busy = time.perf_counter(), time.process_time()
        work()
        processors.append(1000 * (time.process_time() - busy))
        walls.append(1000 * (time.perf_counter() - wall))
    return f"{statistics.median(walls):.1f} | {statistics.median(processors):.1f}"


def rest_state(world: World, matter: Matter) -> State:
    """The world as it stands."""
    poses = {part.object_id: world.objects[part.object_id].world_from_object for part in matter.parts}
    rest = [transform_points(poses[part.object_id], matter.rest[part.rows]) for part in matter.parts]
    return State.at_rest(world, particle_positions=torch.cat(rest))


def rows_of(name: str, skin: Skin, state: State, target: float) -> list[str]:
    """Lines of the table for one skin and a moved state."""
    center = torch.tensor([0.0, -1.0, 1.0])
    posed = skin.posed(state)
    asked = replace(state, particle_positions=state.particle_positions.clone().requires_grad_())
    asked.object_poses.requires_grad_()
    times = {
        f"posed, target {target:g} ms": milliseconds(lambda: skin.posed(state)),
        "colours with the view turned": milliseconds(lambda: posed.colors(center)),
        "posed with gradients kept": milliseconds(lambda: skin.posed(asked), 3),
        "posed, colours turned": milliseconds(lambda: skin.gaussians(state), 3),
    }
    return [f"| {name} | {what} | {value} |" for what, value in times.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    if kernels.available():
        kernels.set_threads(threads)
    print(f"Commit {commit()}, {processor()}, {threads} threads\n")
    print("| 100,000 Gaussians | what | ms | ms of processor |\n|---|---|---|---|")
    world = world_of([(0.1, 0.08, 0.06)] * 5, ObjectKind.RIGID, TOTAL // 5)
    made = milliseconds(lambda: matter_of(world), 1)
    matter = matter_of(world)
    turn = rotation_from_rotvec(torch.tensor([0.3, -1.0, 0.5]))
    pose = pose7_from_pose(pose_from(turn, torch.tensor([0.1, 0.2, 0.3])))
    state = replace(rest_state(world, matter), object_poses=pose.expand(5, 7).clone())
    print("\n".join(rows_of("5 rigid boxes", Skin.bind(matter, world), state, 5)))
    print(f"| 5 rigid boxes | `matter_of` | {made} |")
    for name, size in SIZES.items():
        world = world_of([size], ObjectKind.DEFORMABLE, TOTAL)
        settings = FORMS[name]
        made = milliseconds(lambda w=world, s=settings: matter_of(w, s), 1)
        matter = matter_of(world, settings)
        state = rest_state(world, matter)
        x, y, z = state.particle_positions.unbind(1)
        bent = torch.stack([x, y + 0.05 * (10 * x).sin(), z + 0.05 * (12 * x).cos()], 1)
        state = replace(state, particle_positions=bent)
        skin = Skin.bind(matter, world)
        bound = milliseconds(lambda m=matter, w=world: Skin.bind(m, w), 1)
        print("\n".join(rows_of(f"{name}, {len(bent)} particles", skin, state, 25)))
        print(f"| {name} | `matter_of` | {made} |\n| {name} | `Skin.bind` | {bound} |")


if __name__ == "__main__":
    main()
