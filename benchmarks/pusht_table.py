"""The table of the pusht_robot capture from its three videos: height and tilt against ground_plane.json.

    python benchmarks/pusht_table.py ../shared/data/pusht_robot

Each video's median over time has neither arm nor pushed block in it. `recon.place.photo_plane` looks for the
plane about the robot's base (z = 0, level), once with the videos alone and once with the foot of the robot
(link0 of its URDF, standing at the origin) as a known body. The truth is read at the very end.
"""

import argparse
import json
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from machine import commit, processor
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.io.video import read_video
from gaussworld.robot import load_robot, posed_meshes
from recon.inputs.rig import read_rig
from recon.place.photo_plane import PhotoPlane, plane_from_views
from recon.place.sighted import sightings_of

#: Frames of each video that the median is over.
_FRAMES = 41
#: Where the rig looks: the middle of the reach in front of the robot [m], and a square around it [m].
_MIDDLE, _SIDE = (0.48, 0.35, 0.0), 1.0


def medians(folder: Path) -> tuple[list[Tensor], list[Camera]]:
    """For each camera the median over its video."""
    with TemporaryDirectory() as scratch:
        frames = read_rig(folder, Path(scratch)).frames
        names = [Path(str(frame.image)).stem for frame in frames]
    pictures = []
    for name in names:
        every = [
            (picture * 255).to(torch.uint8) for _, picture in read_video(folder / "videos" / f"{name}.mp4")
        ]
        rows = torch.linspace(0, len(every) - 1, _FRAMES).long().tolist()
        pictures.append(torch.stack([every[row] for row in rows]).median(0).values / 255)
    return pictures, [frame.camera for frame in frames]


def compared(found: PhotoPlane, truth: Tensor) -> tuple[float, float]:
    """Height above the true plane at the middle [mm], and the angle between the two [deg]."""
    normal, offset = truth[:3] / truth[:3].norm(), truth[3] / truth[:3].norm()
    height = float(found.middle.double() @ normal + offset) * 1000
    cosine = float(found.normal.double() @ normal)
    return height, math.degrees(math.acos(min(1.0, abs(cosine))))


def main() -> None:
    """Print the table of docs and results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("capture", type=Path, help="the folder pusht_robot")
    capture = parser.parse_args().capture
    pictures, cameras = medians(capture / "sample_demos" / "0")
    start = torch.eye(4)
    start[:3, 3] = torch.tensor(_MIDDLE)
    robot = load_robot(capture / "assets" / "robots" / "panda.urdf")
    meshes = posed_meshes(robot, {}, torch.eye(4))
    foot = next(mesh for name, mesh in meshes.items() if name.endswith("link0"))
    sightings = sightings_of(foot, pictures, cameras)
    truth = torch.tensor(
        json.loads((capture / "environment" / "ground_plane.json").read_text())["plane"]
    ).double()
    print(f"{processor()}, commit {commit()}\n")
    print(
        "| from | height error [mm] | tilt error [deg] | own estimate of both | windows | residual [px] | s |"
    )
    print("|---|--:|--:|---|--:|--:|--:|")
    for name, seen in (("three videos", []), ("and the robot's foot", sightings)):
        begun = time.perf_counter()
        found = plane_from_views(pictures, cameras, start, _SIDE, seen)
        seconds = time.perf_counter() - begun
        height, tilt = compared(found, truth)
        own = f"{found.height_error * 1000:.1f} mm, {math.degrees(found.tilt_error):.2f} deg"
        print(
            f"| {name} | {height:+.1f} | {tilt:.2f} | {own} | {found.matches} | {found.residual_px:.2f} |"
            f" {seconds:.0f} |"
        )


if __name__ == "__main__":
    main()
