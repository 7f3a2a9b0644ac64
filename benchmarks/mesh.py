"""Quality and speed of meshes: `python benchmarks/mesh.py --still CAPTURE RUN [--rgbd RUN]`.

--still takes a simulated capture (`gaussworld generate --still`) with its truth and a run of `gaussworld
recon` on it. Gaussians get the true ids of the pixels they project to, so that geometry is judged and not
segmentation. Compared is the surface that cameras see: points of the true depth pictures against the mesh,
and vertices of the mesh that some camera sees against the true meshes; Chamfer is the mean of the two.

--rgbd takes a run on an RGB-D capture: the mesh of its Gaussians against the fused depth of its sensor.

--copies N takes every Gaussian of the still run N times, to time a larger scene.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from machine import commit, processor
from PIL import Image

import gaussworld as gw
from gaussworld.capture import Capture
from gaussworld.gaussians import cat
from gaussworld.io.mesh_file import load_mesh
from gaussworld.log import drain
from gaussworld.shape import Mesh, Shape, is_closed
from recon.mesh import scene_mesh, shapes
from recon.mesh.open3d_mesh import open3d
from recon.mesh.sensor import measured_views

Truth = dict


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--still", type=Path, nargs=2, metavar=("CAPTURE", "RUN"), action="append", default=[]
    )
    parser.add_argument("--rgbd", type=Path, metavar="RUN")
    parser.add_argument("--copies", type=int, default=1)
    args = parser.parse_args()
    sys.stdout.write(f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores.\n\n")
    for capture, run in args.still:
        still(capture, run, args.copies)
    if args.rgbd is not None:
        rgbd(args.rgbd)


def still(folder: Path, run: Path, copies: int) -> None:
    capture, truth = gw.io.load_capture(folder), json.loads((folder / "truth.json").read_text())
    world = true_world(folder, run, capture, truth, copies)
    start, busy = time.perf_counter(), time.process_time()
    made: dict[int, Shape] = drain(shapes(world)).result
    middle = time.perf_counter()
    drain(scene_mesh(world))
    end, spent = time.perf_counter(), time.process_time() - busy
    count = sum(len(item.gaussians) for item in world.objects.values())
    sys.stdout.write(
        f"{folder.name}: {count:,} Gaussians; shapes of {len(made)} objects {middle - start:.1f} s, scene"
        f" mesh {end - middle:.1f} s; {spent:.1f} s of processor time.\n\n"
        "| object | Chamfer | truth to mesh | mesh to truth | volume / truth | parts | closed |\n"
        "|---|--:|--:|--:|--:|--:|---|\n"
    )
    points, ids = seen_points(folder, capture)
    placed = {i: shape.mesh.transformed(world.objects[i].world_from_object) for i, shape in made.items()}
    visible = seen_vertices(placed, capture)
    chamfers = []
    for item in truth["objects"]:
        number = item["id"]
        if number not in placed or not bool((ids == number).any()):
            sys.stdout.write(f"| {item['name']} | no shape |\n")
            continue
        true = load_mesh(folder / item["mesh"]).transformed(torch.tensor(item["world_from_object"]).float())
        there = distances(points[ids == number], placed[number])
        back = distances(placed[number].vertices[visible[number]], true)
        chamfers.append((float(there.mean()) + float(back.mean())) / 2 * 1e3)
        ratio = made[number].mesh.volume / item["volume"]
        closed = "yes" if is_closed(made[number].mesh) else "no"
        sys.stdout.write(
            f"| {item['name']} | {chamfers[-1]:.2f} mm | {there.mean() * 1e3:.2f} mm"
            f" | {back.mean() * 1e3:.2f} mm | {ratio:.2f} | {len(made[number].parts)} | {closed} |\n"
        )
    sys.stdout.write(f"\nMean Chamfer {np.mean(chamfers):.2f} mm, worst {max(chamfers):.2f} mm.\n\n")


def true_world(folder: Path, run: Path, capture: Capture, truth: Truth, copies: int) -> gw.World:
    """The Gaussians of a run, each with the id that most of the pixels it projects to have."""
    gaussians = gw.load(run)
    most = max(item["id"] for item in truth["objects"]) + 1
    votes = torch.zeros(len(gaussians), most)
    for frame in capture.frames:
        ids, depth = (
            picture(folder / "ids", frame.name),
            picture(folder / "depth", frame.name) / 1e3,
        )
        camera = frame.camera
        places, z = camera.project(gaussians.means)
        column, row = places.floor().long().unbind(1)
        seen = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height) & (z > 0)
        index = torch.where(seen, row * camera.width + column, 0)
        seen &= (depth.flatten()[index] - z).abs() < 0.015
        rows = seen.nonzero()[:, 0]
        chosen = ids.flatten()[index][rows].long().clamp(max=most - 1)
        votes.index_put_((rows, chosen), torch.ones(len(rows)), accumulate=True)
    gaussians = replace(gaussians, object_ids=votes.argmax(1).to(torch.int32))
    gaussians = cat([gaussians] * copies)
    cameras = [frame.camera for frame in capture.frames]
    world = gw.World.from_gaussians(gaussians, cameras=cameras, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))
    names = {item["id"]: item["name"] for item in truth["objects"]}
    objects = {i: replace(item, name=names.get(i, item.name)) for i, item in world.objects.items()}
    return replace(world, objects=objects)


def picture(folder: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(folder / name)).astype(np.float32))


def seen_points(folder: Path, capture: Capture) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the true surface behind every 41st pixel, and their ids."""
    points, ids = [], []
    for frame in capture.frames:
        depth = picture(folder / "depth", frame.name).flatten()[::41] / 1e3
        number = picture(folder / "ids", frame.name).flatten()[::41].long()
        pixels, known = frame.camera.pixel_centers().reshape(-1, 2)[::41], depth > 0
        points.append(frame.camera.unproject(pixels[known], depth[known]))
        ids.append(number[known])
    return torch.cat(points), torch.cat(ids)


def seen_vertices(meshes: dict[int, Mesh], capture: Capture) -> dict[int, torch.Tensor]:
    """Which vertices of each mesh some camera sees, past all of the meshes."""
    scene = caster(*meshes.values())
    seen = {i: torch.zeros(len(mesh.vertices), dtype=torch.bool) for i, mesh in meshes.items()}
    for frame in capture.frames[::3]:
        for number, mesh in meshes.items():
            away = frame.camera.center - mesh.vertices
            rays = torch.cat([mesh.vertices + 1e-3 * away / away.norm(dim=1, keepdim=True), away], dim=1)
            hidden = scene.test_occlusions(tensor(rays), tnear=0.0, tfar=1.0, nthreads=1).numpy()
            places, depths = frame.camera.project(mesh.vertices)
            inside = (places >= 0).all(1) & (depths > 0)
            inside &= (places < torch.tensor([frame.camera.width, frame.camera.height])).all(1)
            seen[number] |= inside & ~torch.from_numpy(hidden)
    return seen


def distances(points: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    """[m] from points to the surface of a mesh."""
    return torch.from_numpy(caster(mesh).compute_distance(tensor(points), nthreads=1).numpy())


def caster(*meshes: Mesh):
    scene = open3d().t.geometry.RaycastingScene(nthreads=1)
    for mesh in meshes:
        scene.add_triangles(tensor(mesh.vertices), open3d().core.Tensor(mesh.faces.numpy().astype(np.uint32)))
    return scene


def tensor(values: torch.Tensor):
    return open3d().core.Tensor(np.ascontiguousarray(values.float().numpy()))


def rgbd(run: Path) -> None:
    world, capture = gw.io.load_world(run), gw.io.load_capture(run)
    start = time.perf_counter()
    ours = drain(scene_mesh(world)).result
    taken = time.perf_counter() - start
    views = measured_views(capture, world, 50, 480)
    sensor = drain(scene_mesh(world, measured=views, rendered=False)).result
    there, back = distances(sensor.vertices, ours), distances(ours.vertices, sensor)
    sys.stdout.write(
        f"{run.name}: mesh of {len(gw.load(run)):,} Gaussians in {taken:.1f} s; fused sensor depth to mesh"
        f" median {there.median() * 1e3:.1f} mm, mean {there.mean() * 1e3:.1f} mm, within 3 cm"
        f" {(there < 0.03).float().mean():.1%}; mesh to sensor median {back.median() * 1e3:.1f} mm.\n"
    )


if __name__ == "__main__":
    main()
