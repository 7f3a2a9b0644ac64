"""Our physics beside Newton's XPBD: `python benchmarks/second_physics.py` (needs the extra `newton`).

Prints a Markdown table: where a sliding box stops, where pushes leave it, how far a cord stretches and how
it swings, with our usual settings and with fine ones, and what a control step costs. Newton builds its
kernels once, which takes a minute.
"""

import math
import os
import time
from dataclasses import replace
from datetime import date
from importlib.metadata import version

import torch
from machine import commit, processor
from torch import Tensor

from dynamics.matter.parts import Matter
from dynamics.matter.sample import MatterConfig, matter_of
from dynamics.physics.newton import NewtonSolver
from dynamics.physics.settings import PriorConfig
from dynamics.prior import Prior
from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.shape import Mesh, Shape
from gaussworld.state import Action
from gaussworld.surface import box, cylinder
from gaussworld.world import World
from gaussworld.world_object import Material, ObjectKind, WorldObject

FINE = PriorConfig(substeps=24, iterations=12, bend_iterations=16)
Made = tuple[World, Matter]


def main() -> None:
    torch.set_num_threads(1)
    print(f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores, one thread.")
    print(f"newton {version('newton')}, warp {version('warp-lang')}, torch {torch.__version__}.\n")
    print("| | books | Newton | ours, usual settings | ours, 24 substeps | unit |")
    print("|---|---|---|---|---|---|")
    for speed, friction in ((0.5, 0.4), (0.5, 0.2), (1.0, 0.8)):
        made = sliding(friction)
        books = f"{1e3 * speed**2 / (2 * friction * 9.81):.1f}"
        row(f"box at {speed} m/s on {friction} stops after", books, made, lambda p, v=speed: slid(p, v), "mm")
    for offset in (0.0, 0.005, 0.015):
        label = f"pushed 100 mm, {1e3 * offset:.0f} mm off its middle: x, y, turn"
        row(label, "", sliding(0.4), lambda p, y=offset: pushed(p, y), "mm, mm, °")
    made = cord(0.0, 2e4)
    row("cord of 40 cm hangs lower by", f"{1e3 * 500 * 9.81 * 0.4**2 / (2 * 2e4):.1f}", made, hung, "mm")
    for stiffness in (1e5, 1e6):
        label = f"cord of {stiffness:g} Pa let go level: its end after 0.3, 0.5 s"
        row(label, "", cord(-math.pi / 2, stiffness), swung, "mm, mm")


def row(label: str, books: str, made: Made, measure, unit: str) -> None:
    cells = []
    for config, solver in ((PriorConfig(), NewtonSolver), (PriorConfig(), None), (FINE, None)):
        prior = Prior(*made, config=config) if solver is None else Prior(*made, solver=solver)
        measure(prior)  # Kernels are loaded, and a step is recorded.
        start, steps = time.perf_counter(), measure(prior)
        each = 1e3 * (time.perf_counter() - start) / steps[1]
        cells.append(", ".join(f"{value:.1f}" for value in steps[0]) + f" ({each:.0f} ms/step)")
    print(f"| {label} | {books} | {' | '.join(cells)} | {unit} |", flush=True)


def slid(prior: Prior, speed: float) -> tuple[list[float], int]:
    state = prior.initial(prior.world, torch.tensor([[-0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0]]))
    twists = state.object_twists.clone()
    twists[:, 0] = speed
    final = prior.rollout(replace(state, object_twists=twists), still(prior, 5)).final
    return [1e3 * float(final.object_poses[0, 0])], 5


def pushed(prior: Prior, offset: float) -> tuple[list[float], int]:
    tool = torch.tensor([[-0.0525, offset, 0.01, 1.0, 0.0, 0.0, 0.0]])
    tools = tool.repeat(11, 1, 1)
    tools[:, 0, 0] += torch.linspace(0.01, 0.11, 11).clamp(max=0.1)
    state = prior.initial(prior.world, tool)
    pose = prior.rollout(state, Action(prior.action_spec, tools=tools)).final.object_poses[0]
    turn = math.degrees(2 * math.atan2(float(pose[6]), float(pose[3])))
    return [1e3 * float(pose[0]), 1e3 * float(pose[1]), turn], 11


def hung(prior: Prior) -> tuple[list[float], int]:
    """The mean of the second half: what swings up and down does so about where it would rest."""
    lows = ends(prior, 30)[15:, 2]
    return [1e3 * (0.8 - float(lows.mean()))], 30


def swung(prior: Prior) -> tuple[list[float], int]:
    path = ends(prior, 5)
    return [1e3 * float(path[3, 0]), 1e3 * float(path[5, 0])], 5


def ends(prior: Prior, steps: int) -> Tensor:
    state = prior.initial(prior.world, torch.tensor([[-0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0]]))
    return prior.rollout(state, still(prior, steps)).states.particle_positions[:, -1]


def still(prior: Prior, steps: int) -> Action:
    pose = torch.tensor([[-0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0]])
    return Action(prior.action_spec, tools=pose.repeat(steps, 1, 1))


def thing(mesh: Mesh, kind: ObjectKind, pose: Tensor, material: Material) -> World:
    points = torch.cat([mesh.vertices, mesh.triangles.mean(1)])
    ones = torch.ones(len(points), 1)
    turns, sizes = ones * torch.tensor([1.0, 0.0, 0.0, 0.0]), 2e-3 * ones.expand(-1, 3)
    gaussians = Gaussians.from_activated(points, turns, sizes, 0.9 * ones[:, 0], 0.5 * ones.expand(-1, 3))
    item = WorldObject(
        1, "thing", gaussians, kind, shape=Shape(mesh), world_from_object=pose, material=material
    )
    return World({1: item}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def sliding(friction: float) -> Made:
    """A box of 8 x 6 x 5 cm on a ground, both of one coefficient."""
    pose = pose_from(torch.eye(3), torch.tensor([0.0, 0.0, 0.025]))
    world = thing(box((0.08, 0.06, 0.05)).mesh, ObjectKind.RIGID, pose, Material(friction=friction))
    matter = matter_of(world)
    frictions = torch.full_like(matter.ground.frictions, friction)
    return world, replace(matter, ground=replace(matter.ground, frictions=frictions))


def cord(turn: float, stiffness: float) -> Made:
    """Twenty beads on 40 cm, the upper end tied, far above the ground."""
    pose = pose_from(rotation_from_rotvec(torch.tensor([0.0, turn, 0.0])), torch.tensor([0.0, 0.0, 1.0]))
    material = Material(stiffness=stiffness, density=500.0, damping=0.1)
    world = thing(cylinder(0.008, 0.4).mesh, ObjectKind.DEFORMABLE, pose, material)
    matter = matter_of(world, MatterConfig(ropes=(1,), rope_particles=20))
    count = len(matter.rest)
    rest = torch.zeros(count, 3)
    rest[:, 2] = torch.linspace(0.2, -0.2, count)
    fixed = (torch.arange(count) == 0).float()
    return world, replace(
        matter,
        rest=rest,
        masses=torch.full((count,), matter.parts[0].mass / count),
        edges=torch.stack([torch.arange(count - 1), torch.arange(1, count)], 1),
        radii=torch.full((count,), 0.004),
        parts=(replace(matter.parts[0], fixed=fixed),),
        ground=replace(matter.ground, heights=matter.ground.heights - 5),
    )


if __name__ == "__main__":
    main()
