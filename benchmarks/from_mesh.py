"""How close Gaussians made of meshes are to the meshes: `python benchmarks/from_mesh.py [--gaussians N]`.

Prints a table in Markdown: PSNR inside the object's mask against ray-cast pictures (8 views, 3 distances).
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
import torch
from machine import commit, processor
from PIL import Image

import gaussworld as gw
from gaussworld.io.images import write_image
from gaussworld.pose import look_at
from gaussworld.render import RenderSettings, render
from gaussworld.robot import load_robot
from gaussworld.robot.geometry import link_surface
from gaussworld.shape import Mesh
from gaussworld.surface import Paint, Surface, box, cylinder, sphere
from gaussworld.surface.discs import discs
from gaussworld.surface.painted import merged

SIZE, FOV_DEG, SUPERSAMPLES = 400, 40.0, 3
CAPTURES = Path(__file__).resolve().parents[2] / "shared/data"
PHOTO = CAPTURES / "banana/images/DSC_0423.JPG"
PANDA = CAPTURES / "pusht_robot/assets/robots/panda.urdf"


def picture(size: int) -> torch.Tensor:
    """Smooth colours, rings, a checkerboard and thin letters-like strokes."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    rgb = torch.stack([x, y, 1 - x], 2) * 0.6 + 0.2
    radius = ((x - 0.3) ** 2 + (y - 0.3) ** 2).sqrt()
    rings = ((radius * 25).floor() % 2 == 0) & (radius < 0.22)
    rgb[rings] = torch.tensor([0.9, 0.85, 0.2])
    checks = ((x * 16).floor() + (y * 16).floor()) % 2 == 0
    rgb[checks & (x > 0.55) & (y > 0.55)] = torch.tensor([0.1, 0.15, 0.35])
    strokes = ((x * 40).floor() % 4 == 0) & (y > 0.7) & (x < 0.5)
    rgb[strokes] = torch.tensor([0.05, 0.05, 0.05])
    return rgb


def photograph() -> torch.Tensor:
    """A picture as labels and posters have: 512 px of a real scene."""
    return torch.from_numpy(np.asarray(Image.open(PHOTO).convert("RGB").resize((512, 512)), np.float32) / 255)


def textured_box(texture: torch.Tensor) -> Surface:
    plain = box((0.2, 0.14, 0.1))
    triangles = plain.mesh.triangles
    normal = (
        torch.linalg.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        .abs()
        .argmax(1)
    )
    keep = torch.tensor([[1, 2], [0, 2], [0, 1]])[normal]
    unit = triangles / torch.tensor([0.2, 0.14, 0.1]) + 0.5
    uv = unit.gather(2, keep[:, None].expand(-1, 3, 2))
    return Surface(plain.mesh, (Paint((1.0, 1.0, 1.0), texture),), corner_uv=uv)


def t_block() -> Surface:
    bar = box((0.2, 0.05, 0.03)).tinted((0.35, 0.55, 0.75))
    stem = box((0.05, 0.15, 0.03)).tinted((0.75, 0.45, 0.3))
    lower = torch.eye(4)
    lower[1, 3] = -0.1
    return merged([bar, stem.transformed(lower)])


def mug() -> Surface:
    """Thin wall (3 mm), open top, a handle."""
    outer, inner = _tube(0.04, 0.1), _tube(0.037, 0.1).flipped()
    ring = _ring(0.037, 0.04, 0.05)
    floor = _disc(0.04, -0.05).flipped()
    inside = _disc(0.037, -0.047)
    body = [outer.tinted((0.85, 0.3, 0.2)), inner.tinted((0.95, 0.95, 0.9)), ring.tinted((0.9, 0.6, 0.2))]
    bottom = [floor.tinted((0.4, 0.2, 0.1)), inside.tinted((0.3, 0.5, 0.7))]
    return merged([*body, *bottom, _torus(0.03, 0.006).tinted((0.2, 0.35, 0.6))])


def rippled_sphere() -> Surface:
    """Fine stripes and spots as vertex colours."""
    fine = o3d.geometry.TriangleMesh.create_sphere(0.1, 160)
    vertices = torch.from_numpy(np.asarray(fine.vertices)).float()
    faces = torch.from_numpy(np.asarray(fine.triangles)).int()
    x, y, z = (vertices / 0.1).unbind(1)
    colors = torch.stack(
        [0.5 + 0.45 * (30 * z).sin(), 0.5 + 0.45 * (24 * x).sin() * (24 * y).sin(), 0.5 + 0.3 * y], 1
    )
    return Surface(Mesh(vertices, faces), (Paint((1.0, 1.0, 1.0)),), corner_colors=colors[faces.long()])


def panda() -> Surface:
    robot = load_robot(PANDA)
    poses = robot.link_poses(
        robot.positions({"panda_joint2": 0.3, "panda_joint4": -1.8, "panda_joint6": 2.1})
    )
    tints = torch.rand(len(robot.links), 3, generator=torch.Generator().manual_seed(4)) * 0.6 + 0.3
    surfaces = []
    for link, pose, tint in zip(robot.links, poses, tints.tolist()):
        if (surface := link_surface(link)) is not None:
            surfaces.append(surface.tinted((tint[0], tint[1], tint[2])).transformed(pose))
    return merged(surfaces)


SURFACES: dict[str, Callable[[], Surface]] = {
    "box, hard-edged texture": lambda: textured_box(picture(512)),
    "box, photograph": lambda: textured_box(photograph()),
    "T-block": t_block,
    "sphere": lambda: sphere(0.1).tinted((0.8, 0.5, 0.2)),
    "mug, 3 mm wall": mug,
    "rippled sphere": rippled_sphere,
    "Panda": panda,
}


def _tube(radius: float, length: float) -> Surface:
    surface = cylinder(radius, length)
    return Surface(Mesh(surface.mesh.vertices, surface.mesh.faces[:128]))


def _disc(radius: float, height: float) -> Surface:
    angles = torch.arange(64) * (2 * math.pi / 64)
    ring = torch.stack([radius * angles.cos(), radius * angles.sin(), torch.full((64,), height)], 1)
    i = torch.arange(64)
    faces = torch.stack([torch.full_like(i, 64), i, (i + 1) % 64], 1)
    return Surface(Mesh(torch.cat([ring, torch.tensor([[0.0, 0.0, height]])]), faces))


def _ring(inner: float, outer: float, height: float) -> Surface:
    a, b = _disc(inner, height).mesh.vertices[:64], _disc(outer, height).mesh.vertices[:64]
    i = torch.arange(64)
    j = (i + 1) % 64
    return Surface(
        Mesh(
            torch.cat([a, b]),
            torch.cat([torch.stack([i, i + 64, j + 64], 1), torch.stack([i, j + 64, j], 1)]),
        )
    )


def _torus(large: float, small: float) -> Surface:
    made = o3d.geometry.TriangleMesh.create_torus(large, small, 60, 24)
    vertices = torch.from_numpy(np.asarray(made.vertices)).float()[:, [0, 2, 1]] * torch.tensor(
        [1.0, -1.0, 1.0]
    )
    vertices = vertices + torch.tensor([0.066, 0.0, 0.0])
    keep = torch.from_numpy(np.asarray(made.triangles)).int()
    outside = (vertices[:, :2].norm(dim=1) > 0.0385)[keep.long()].all(1)
    return Surface(Mesh(vertices, keep[outside]))


def cameras(surface: Surface, size: int = SIZE) -> Iterator[tuple[float, gw.Camera]]:
    """8 directions on a sphere, 3 distances each, in radii of the mesh."""
    low, high = surface.mesh.vertices.min(0).values, surface.mesh.vertices.max(0).values
    middle, radius = (low + high) / 2, float((high - low).norm()) / 2
    i = torch.arange(8) + 0.5
    z, turn = 1 - 2 * i / 8, i * 2.399963
    directions = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], 1)
    for distance in (2.0, 3.0, 6.0):
        for direction in directions:
            pose = look_at(middle + direction * distance * radius, middle)
            yield distance, gw.Camera.pinhole(pose, size, size, FOV_DEG)


def raycast(surface: Surface, camera: gw.Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Albedo over black, averaged over each pixel, and the share of the pixel that is covered."""
    fine = camera.rescaled(camera.width * SUPERSAMPLES, camera.height * SUPERSAMPLES)
    scene = o3d.t.geometry.RaycastingScene()
    tensor: Any = o3d.core.Tensor
    vertices, faces = surface.mesh.vertices.numpy(), surface.mesh.faces.numpy().astype(np.uint32)
    scene.add_triangles(tensor(vertices), tensor(faces))
    origin, directions = fine.rays()
    rays = torch.cat([origin.expand_as(directions), directions], -1).reshape(-1, 6)
    hits = scene.cast_rays(tensor(rays.contiguous().numpy()))
    rows = torch.from_numpy(hits["primitive_ids"].numpy().astype(np.int64))
    uv = torch.from_numpy(hits["primitive_uvs"].numpy())
    hit = rows < len(surface.mesh.faces)
    colors = torch.zeros(len(rays), 3)
    weights = torch.cat([1 - uv.sum(1, keepdim=True), uv], 1)
    colors[hit] = surface.colors_at(rows[hit], weights[hit])
    shape = (camera.height, SUPERSAMPLES, camera.width, SUPERSAMPLES)
    return colors.reshape(*shape, 3).mean((1, 3)), hit.float().reshape(shape).mean((1, 3))


def psnr(errors: list[torch.Tensor]) -> float:
    """Of the mean over all pixels of all views."""
    return float(-10 * torch.cat(errors).mean().log10())


def measured(name: str, count: int, size: int, folder: Path | None) -> str:
    """A row of the table: PSNR inside the mask at each distance, and again with anti-aliasing."""
    surface = SURFACES[name]()
    start = time.perf_counter()
    gaussians = discs(surface, count)
    seconds = time.perf_counter() - start
    errors: dict[tuple[bool, float], list[torch.Tensor]] = {}
    for row, (distance, camera) in enumerate(cameras(surface, size)):
        truth, covered = raycast(surface, camera)
        mask = covered >= 0.5
        # What is seen of the object in a pixel: at its outline the truth is part object and part background.
        wanted = truth / covered.clamp(min=1e-6)[..., None]
        for antialiased in (False, True):
            with torch.no_grad():
                drawn = render(gaussians, camera, settings=RenderSettings(antialiased=antialiased))
            rgb = drawn.rgb.clamp(0, 1)
            errors.setdefault((antialiased, distance), []).append((rgb - wanted)[mask].square().flatten())
            if folder is not None and not antialiased and row % 8 == 1:
                both = torch.cat([truth, rgb], 1)
                write_image(folder / f"{name.replace(' ', '_').replace(',', '')}-{distance:g}.png", both)
    values = [psnr(errors[key]) for key in sorted(errors)]
    middle = " | ".join(f"{value:.1f}" for value in values)
    return f"| {name} | {len(gaussians):,} | {seconds:.1f} s | {middle} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gaussians", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=SIZE, help="of the pictures [px]")
    parser.add_argument("--only", default="", help="meshes whose names begin so")
    parser.add_argument("--pictures", type=Path, default=None, help="a folder for pictures")
    args = parser.parse_args()
    columns = ["mesh", "Gaussians", "made in", *(f"{each} radii" for each in (2, 3, 6))]
    columns += [f"{each} radii, anti-aliased" for each in (2, 3, 6)]
    sys.stdout.write(
        f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores; {args.size} px square,"
        f" {SUPERSAMPLES}x{SUPERSAMPLES} rays a pixel; PSNR inside the mask [dB].\n\n"
        f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    )
    for name in SURFACES:
        needed = PANDA if name == "Panda" else PHOTO if "photo" in name else Path(__file__)
        if name.startswith(args.only) and needed.is_file():
            sys.stdout.write(measured(name, args.gaussians, args.size, args.pictures) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
