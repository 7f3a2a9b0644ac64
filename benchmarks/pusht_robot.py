"""How well a robot's Gaussians cover the robot in pusht_robot's first frames; nobody recorded its joints.

    python benchmarks/pusht_robot.py ../shared/data/pusht_robot

Joint positions are estimated (`recon.posture.fit_joints`) from automatic masks: what is brighter in the first
frames than over time, and is grey. The URDF's Gaussians at these positions are drawn into the three cameras
and compared with outlines of the robot that were drawn by hand, on enlarged pictures, before any position was
estimated: what of the robot the picture shows, with hand, fingers and pusher, but without cables, plugs and
the plate below its foot. They are read at the very end.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from machine import commit, processor
from torch import Tensor
from torch.nn.functional import max_pool2d

from gaussworld.camera import Camera
from gaussworld.edit import AddRobot
from gaussworld.io.images import write_image
from gaussworld.io.video import read_video
from gaussworld.log import drain
from gaussworld.render import render
from gaussworld.robot import Robot, load_robot, posed_meshes
from gaussworld.shape import Mesh
from gaussworld.world import World
from recon.inputs.rig import read_rig
from recon.mesh.open3d_mesh import open3d
from recon.place.photo_plane import PhotoPlane, plane_from_views
from recon.place.sighted import sightings_of
from recon.posture import RobotView, fit_joints

#: Every so many frames of each video are looked at.
_EVERY = 20
#: Where the rig looks: the middle of the reach in front of the robot [m], and a square around it [m].
_MIDDLE, _SIDE = (0.48, 0.35, 0.0), 1.0
#: The posture from which a Panda starts work, fingers closed, and how far about it is searched [rad].
_READY, _SPREAD = (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4, 0.0), 1.0
#: [m] from the hand's frame to the tip of the pusher, and how high above the table that may be.
_TIP, _HIGH = 0.19, 0.08
#: Brightness: more than the median over time; more than what is dark over time; of the robot; unchanged.
_BRIGHTER, _MUCH_BRIGHTER, _BRIGHT, _SAME = 0.16, 0.35, 0.35, 0.07
#: Largest share of a grey's colour, smallest patch [px], and reach of closing and about the foot [px].
_COLOURED, _PATCH, _CLOSED, _FOOT = 0.38, 150, 25, 15
_GAUSSIANS = 200_000

# fmt: off
#: Outlines by hand [px, the first pixel's middle is at 0.5], by camera.
OUTLINES: dict[str, list[list[tuple[float, float]]]] = {
    "220422302296": [
        [(30, 0), (29.5, 5), (27, 13.5), (29, 20), (47, 44), (57, 56), (60, 64), (64, 78), (66, 87),
         (70, 88), (80, 87), (95, 84), (105, 78), (112, 72), (117, 67), (119, 63), (112, 58), (104, 48),
         (101, 45), (96, 42), (92, 42), (86, 31), (77, 17), (68, 3), (67, 0)],
        [(196, 3), (200, 2), (203, 0), (209, 0), (211, 8), (212, 18), (219, 50), (218, 53), (214, 54),
         (211, 52), (204, 20), (201, 8), (197, 5)],
        [(163, 0), (166, 3), (170, 4.5), (176, 3.5), (182, 1), (183, 0)],
    ],
    "234222302164": [
        [(228, 0), (230.6, 3), (237.8, 6.6), (240.8, 8.2), (241.3, 12.2), (242, 17), (244.6, 19.9),
         (245, 29.6), (248, 32), (247, 49), (245.7, 68.4), (247.5, 71), (250.5, 72.2), (254, 71.4),
         (256, 69.4), (258.2, 59.2), (259.4, 49), (260.4, 34.7), (261.2, 29.6), (263.8, 34.2),
         (266.3, 33.2), (269.4, 29.6), (270.4, 27), (272.6, 22.4), (275.5, 23.3), (287.8, 28),
         (291.8, 30.6), (296, 31.8), (300.5, 31.8), (305.6, 29.6), (309.7, 22.4), (312.2, 12.2),
         (314.8, 5.1), (315.3, 0)],
    ],
    "234222303707": [
        [(267.5, 73.75), (280, 71.5), (292.5, 75), (303.75, 83.75), (308.75, 95), (309, 105),
         (306.25, 115), (303, 122.5), (302.5, 137.5), (306.25, 148.75), (309, 157.5), (308.75, 167.5),
         (306.25, 176.25), (302.5, 185), (296.25, 191.25), (285, 194.25), (265, 197), (245, 199.25),
         (231.25, 200.75), (229.5, 205), (231.25, 220), (235.5, 240), (240, 252.5), (246.25, 270),
         (211.25, 270), (209.5, 252.5), (206.25, 235), (202.5, 220), (200.5, 210), (196.25, 197.5),
         (188.75, 182.5), (185, 167.5), (185.5, 157.5), (188.75, 149.5), (190.75, 146.25), (191.25, 143),
         (188.75, 128.75), (192.5, 125.5), (196.25, 120.75), (207.5, 119.25), (226.25, 118.75),
         (230, 113.75), (231.25, 106.25), (245, 90), (253.75, 80.5)],
        [(310.5, 270), (306.25, 255), (302.5, 240), (301.25, 233.75), (306.25, 227), (310, 220),
         (313.75, 213.75), (320, 209.25), (327.5, 209), (335, 213), (337, 215), (338, 213.75),
         (350, 217.5), (370, 218), (376.25, 216.25), (382.5, 208.75), (392.5, 204.25), (402.5, 203),
         (412.5, 205), (425, 211.25), (442.5, 225), (460, 241.25), (480, 257.5), (480, 270), (390, 270),
         (382.5, 268), (370, 263.75), (360, 261.25), (350, 260), (342.5, 257.5), (342.5, 270)],
    ],
}
# fmt: on


def frames_over_time(folder: Path) -> dict[str, tuple[Camera, Tensor]]:
    """By camera: its calibration as given, and frames of its video, the first one first."""
    with TemporaryDirectory() as scratch:
        frames = read_rig(folder, Path(scratch)).frames
    found = {}
    for frame in frames:
        name = Path(str(frame.image)).stem
        video = read_video(folder / "videos" / f"{name}.mp4")
        found[name] = frame.camera, torch.stack([p for row, (_, p) in enumerate(video) if row % _EVERY == 0])
    return found


def corrected(frames: Sequence[Tensor], cameras: Sequence[Camera], foot: Mesh) -> PhotoPlane:
    """The table, and cameras that agree on it and on the robot's foot, from medians over time."""
    pictures = [each.median(0).values for each in frames]
    start = torch.eye(4)
    start[:3, 3] = torch.tensor(_MIDDLE)
    return plane_from_views(pictures, cameras, start, _SIDE, sightings_of(foot, pictures, cameras))


def robot_view(frames: Tensor, camera: Camera, foot: Mesh) -> RobotView:
    """What of the first frame is robot that has moved, and what is neither robot nor in doubt."""
    first, rest = frames[0], frames[1:]
    middle, dark = rest.median(0).values, rest.quantile(0.25, 0)
    high, low = first.amax(-1), first.amin(-1)
    grey = (high - low < _COLOURED * high) & (first[..., 2] < first[..., 0] + 0.04)
    others = [(each.amax(-1) - each.amin(-1)) > 0.4 for each in (first, middle, dark)]
    # Where the coloured block is, or mostly is, brightness tells nothing.
    block = others[0] | others[1] | others[2]
    brighter = ((first - middle).amax(-1) > _BRIGHTER) | ((first - dark).amax(-1) > _MUCH_BRIGHTER)
    mask = patches(brighter & (high > _BRIGHT) & grey & ~grown(block, 9))
    # What became darker is in the shade: covers of the robot are lighter than the table.
    changed = grown(((first - dark).amax(-1) > _SAME) & ~mask, 3)
    holes = ~grown(~grown(mask, _CLOSED), _CLOSED)
    doubt = changed | (grey & (low > _BRIGHT)) | holes | block
    still = grown(silhouette(foot, camera), 2 * _FOOT + 1)
    return RobotView(camera, mask, (mask | ~doubt) & ~still)


def grown(mask: Tensor, side: int) -> Tensor:
    return max_pool2d(mask[None, None].float(), side, 1, side // 2)[0, 0] > 0.5


def patches(mask: Tensor) -> Tensor:
    """A mask without its small patches."""
    count, label, figures, _ = cv2.connectedComponentsWithStats(mask.numpy().astype(np.uint8))
    kept = [row for row in range(1, count) if figures[row, cv2.CC_STAT_AREA] >= _PATCH]
    return torch.from_numpy(np.isin(label, kept))


def silhouette(mesh: Mesh, camera: Camera) -> Tensor:
    core, scene = open3d().core, open3d().t.geometry.RaycastingScene(nthreads=1)
    faces = core.Tensor(mesh.faces.contiguous().numpy()).to(core.uint32)
    scene.add_triangles(core.Tensor(mesh.vertices.contiguous().numpy()), faces)
    origin, rays = camera.rays()
    both = torch.cat([origin.expand_as(rays), rays], dim=-1).float().contiguous()
    return torch.from_numpy(scene.test_occlusions(core.Tensor(both.numpy())).numpy())


def tool_prior(robot: Robot, table: PhotoPlane):
    """The pusher points down, its tip a little above the table."""
    hand = robot.link_names.index("panda_hand")
    up, offset = table.normal.float(), table.offset

    def cost(poses: Tensor) -> Tensor:
        down = -poses[:, hand, :3, 2] @ up
        height = (poses[:, hand, :3, 3] + _TIP * poses[:, hand, :3, 2]) @ up - offset
        beyond = (height - height.clamp(0.0, _HIGH)).abs().clamp(max=1)
        return 0.3 * (1 - down) + 0.2 * beyond

    return cost


def by_hand(name: str, width: int, height: int) -> Tensor:
    """The pixels of which the larger part is inside of a camera's outlines."""
    fine = np.zeros((height * 8, width * 8), np.uint8)
    for outline in OUTLINES[name]:
        cv2.fillPoly(fine, [np.round(np.array(outline) * 8 - 0.5).astype(np.int32)], (1,))
    return torch.from_numpy(fine.reshape(height, 8, width, 8).mean((1, 3)) > 0.5)


def overlap(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum()) / max(1, int((a | b).sum()))


def look(path: Path, first: Tensor, drawn: Tensor, truth: Tensor) -> None:
    """The frame with what both call robot in green, only the Gaussians in blue, only the outline in red."""
    tint = torch.stack([truth & ~drawn, truth & drawn, drawn & ~truth], dim=-1).float()
    write_image(path, torch.where((drawn | truth)[..., None], 0.55 * first + 0.45 * tint, first))


def main() -> None:
    """Print the table of docs and results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("capture", type=Path, help="the folder pusht_robot")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for pictures")
    arguments = parser.parse_args()
    urdf = arguments.capture / "assets" / "robots" / "panda.urdf"
    videos = frames_over_time(arguments.capture / "sample_demos" / "0")
    robot = load_robot(urdf)
    foot = posed_meshes(robot, {}, torch.eye(4))["panda_link0"]
    given, frames = [camera for camera, _ in videos.values()], [each for _, each in videos.values()]
    begun = time.perf_counter()
    table = corrected(frames, given, foot)
    found_cameras = time.perf_counter()
    views = [robot_view(each, camera, foot) for each, camera in zip(frames, table.cameras)]
    events = fit_joints(
        robot,
        views,
        torch.Generator().manual_seed(arguments.seed),
        torch.tensor(_READY),
        _SPREAD,
        tool_prior(robot, table),
    )
    fit = drain(events).result
    fitted = time.perf_counter()
    joints = dict(zip(robot.joint_names, fit.positions.tolist()))
    gaussians = AddRobot(str(urdf), joints, scale=1.0, gaussians=_GAUSSIANS).apply(World({})).posed()
    print(f"{processor()}, commit {commit()}\n")
    print(
        f"cameras {found_cameras - begun:.0f} s, joints {fitted - found_cameras:.0f} s, seed {arguments.seed}"
    )
    print(json.dumps({name: round(value, 4) for name, value in joints.items()}) + "\n")
    print(
        "| camera | IoU, camera as given | IoU, camera corrected | overlap with the mask it was fitted to |"
    )
    print("|---|--:|--:|--:|")
    for row, name in enumerate(videos):
        truth = by_hand(name, given[row].width, given[row].height)
        scores = []
        for kind, camera in (("given", given[row]), ("corrected", table.cameras[row])):
            drawn = render(gaussians, camera).alpha.reshape(truth.shape) > 0.5
            scores.append(overlap(drawn, truth))
            if arguments.out:
                arguments.out.mkdir(parents=True, exist_ok=True)
                look(arguments.out / f"{name}_{kind}.png", frames[row][0], drawn, truth)
        print(f"| {name} | {scores[0]:.3f} | {scores[1]:.3f} | {fit.overlaps[row]:.3f} |")


if __name__ == "__main__":
    main()
