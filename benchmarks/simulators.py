"""A reconstructed world in MuJoCo: do things rest where the splat shows them?

    python benchmarks/simulators.py WORLD --out docs/pictures/mujoco.jpg

Exports the world as MJCF and as URDF, lets MuJoCo run both for two seconds, and prints how far each object
has moved. The picture shows the splats, and MuJoCo after these two seconds, from the same camera.
"""

import argparse
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
import torch
from machine import commit, processor
from torch import Tensor

import gaussworld as gw
from gaussworld.io import load_world
from gaussworld.io.images import write_image
from gaussworld.io.mjcf import save_mjcf
from gaussworld.io.urdf import save_urdf
from gaussworld.world import World

_SECONDS = 2.0


def settled(model: Any) -> tuple[Any, dict[str, tuple[float, float]]]:
    """The state after a while, and for each free body how far it went [mm] and turned [deg]."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    before = data.xpos.copy(), data.xquat.copy()
    while data.time < _SECONDS:
        mujoco.mj_step(model, data)
    drifts = {}
    for body in range(1, model.nbody):
        joint = model.body_jntadr[body]
        if joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
            away = float(np.linalg.norm(data.xpos[body] - before[0][body])) * 1000
            turn = abs(float(before[1][body] @ data.xquat[body]))
            drifts[model.body(body).name] = away, math.degrees(2 * math.acos(min(1.0, turn)))
    return data, drifts


def drawn(model: Any, data: Any, width: int, height: int) -> Tensor:
    """What MuJoCo's first exported camera sees: the visual meshes alone."""
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    options = mujoco.MjvOption()
    options.geomgroup[3] = 0
    with mujoco.Renderer(model, height, width) as renderer:
        renderer.update_scene(data, camera=0, scene_option=options)
        return torch.from_numpy(renderer.render().copy()).float() / 255


def side_by_side(world: World, model: Any, data: Any) -> Tensor:
    """Splats on the left, MuJoCo on the right."""
    camera = world.cameras[0].undistorted()
    splats = gw.render(world.shown(), camera, background=(0.75, 0.8, 0.85)).rgb.clamp(0, 1)
    return torch.cat([splats, drawn(model, data, camera.width, camera.height)], dim=1)


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path)
    parser.add_argument("--out", type=Path, help="the picture")
    args = parser.parse_args()
    world = load_world(args.world)
    print(f"{processor()}, commit {commit()}\n")
    print("| format | object | moved [mm] | turned [deg] |\n|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        scene = save_mjcf(world, Path(folder) / "mjcf")
        model = mujoco.MjModel.from_xml_path(str(scene))
        data, drifts = settled(model)
        urdf = mujoco.MjModel.from_xml_path(str(save_urdf(world, Path(folder) / "urdf")))
        for name, found in (("MJCF", drifts), ("URDF", settled(urdf)[1])):
            for body, (away, turn) in found.items():
                print(f"| {name} | {body} | {away:.2f} | {turn:.2f} |")
        if args.out is not None:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_image(args.out, side_by_side(world, model, data))
            print(json.dumps({"picture": str(args.out)}))


if __name__ == "__main__":
    main()
