"""Joint positions from masks: an arm of boxes whose outlines are drawn by hand, at known positions."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError
from gaussworld.log import Progress, drain
from gaussworld.robot import Robot, load_robot
from recon.posture import Effort, RobotView, fit_joints
from recon.posture.evolve import evolve

#: Middle and size of the boxes of each link, in the link's frame [m].
BOXES = {
    "foot": [((0, 0, 0.05), (0.16, 0.12, 0.1))],
    "shoulder": [((0.02, 0, 0.1), (0.08, 0.1, 0.2))],
    "elbow": [((0.15, 0, 0), (0.3, 0.06, 0.06)), ((0.08, 0.06, 0), (0.06, 0.08, 0.04))],
    "hand": [((0.08, 0, 0), (0.16, 0.04, 0.05)), ((0.14, 0, 0.05), (0.04, 0.04, 0.08))],
}
JOINTS = (("foot", "shoulder", "0 0 0.1", "0 0 1"), ("shoulder", "elbow", "0.02 0 0.2", "0 1 0"))
JOINTS += (("elbow", "hand", "0.3 0 0", "0 1 0"),)
CAMERAS = [
    Camera.looking_at(eye, (0.15, 0.0, 0.2), 128, 96, 45.0)
    for eye in ((1.0, 0.9, 0.6), (-0.2, -1.2, 0.5), (0.5, 0.1, 1.5))
]
SMALL = {"points": (1500, 4000), "cells": (40, 80)}
EFFORT = Effort(128, 2, 1, (20, 20, 30), (10, 10, 10), **SMALL)
NEAR = Effort(16, 1, 1, (15, 20, 30), (10, 10, 10), **SMALL)


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    def link(name: str) -> str:
        boxes = (
            f'<visual><origin xyz="{" ".join(map(str, middle))}"/><geometry>'
            f'<box size="{" ".join(map(str, size))}"/></geometry></visual>'
            for middle, size in BOXES[name]
        )
        return f'<link name="{name}">{"".join(boxes)}</link>'

    def joint(parent: str, child: str, xyz: str, axis: str) -> str:
        return (
            f'<joint name="{child}" type="revolute"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{xyz}"/><axis xyz="{axis}"/><limit lower="-1.8" upper="1.8"/></joint>'
        )

    path = tmp_path_factory.mktemp("arm") / "arm.urdf"
    text = "".join(map(link, BOXES)) + "".join(joint(*each) for each in JOINTS)
    path.write_text(f'<robot name="arm">{text}</robot>')
    return load_robot(Path(path))


def outline(robot: Robot, positions: Tensor, camera: Camera, base: Tensor | None = None) -> Tensor:
    """A box's outline is the hull of its projected corners."""
    poses = robot.link_poses(positions)
    drawn = np.zeros((camera.height * 8, camera.width * 8), np.uint8)
    for name, pose in zip(robot.link_names, poses if base is None else base @ poses):
        for middle, size in BOXES[name]:
            signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
            corners = torch.tensor(middle) + signs * torch.tensor(size)
            pixels = camera.project(corners @ pose[:3, :3].T + pose[:3, 3])[0]
            hull = cv2.convexHull(np.round(pixels.numpy() * 8 - 0.5).astype(np.int32))
            cv2.fillConvexPoly(drawn, hull, (1,))
    shares = drawn.reshape(camera.height, 8, camera.width, 8).mean((1, 3))
    return torch.from_numpy(shares > 0.5)


def views_of(robot: Robot, positions: Tensor, base: Tensor | None = None) -> list[RobotView]:
    known = torch.ones(96, 128, dtype=torch.bool)
    return [RobotView(camera, outline(robot, positions, camera, base), known) for camera in CAMERAS]


def test_joints_are_found_within_two_degrees(arm: Robot):
    """From the posture at rest, half a radian and more away; the steps are counted."""
    truth = torch.tensor([0.6, -0.5, 0.9])
    seen = []
    events = fit_joints(arm, views_of(arm, truth), torch.Generator().manual_seed(0), effort=EFFORT)
    fit = drain(events, seen.append).result
    assert (fit.positions - truth).abs().max() < math.radians(2)
    assert min(fit.overlaps) > 0.93
    steps = [event.step for event in seen if isinstance(event, Progress)]
    assert steps == list(range(1, 2 * 20 + 20 + 30 + 1))


def test_a_wrong_patch_that_is_not_known_does_no_harm(arm: Robot):
    """Half of a picture is in doubt, and its mask is wrong; a base that stands elsewhere, and a start."""
    truth = torch.tensor([-0.3, -0.7, 1.2])
    base = torch.eye(4)
    base[:3, 3] = torch.tensor([0.05, 0.1, 0.0])
    views = views_of(arm, truth, base)
    mask, known = views[0].mask.clone(), views[0].known.clone()
    mask[:, :64], known[:, :64] = True, False
    views[0] = RobotView(CAMERAS[0], mask, known)
    start = truth + torch.tensor([0.2, -0.2, 0.2])
    generator = torch.Generator().manual_seed(1)
    events = fit_joints(arm, views, generator, start, 0.2, world_from_base=base, effort=NEAR)
    assert (drain(events).result.positions - truth).abs().max() < math.radians(2)


def test_a_prior_decides_what_no_view_shows(arm: Robot):
    """The hand is out of sight of the only view, and told to point down."""
    truth = torch.tensor([0.2, -0.4, 0.5])
    mask = outline(arm, truth, CAMERAS[1])
    known = torch.zeros_like(mask)
    known[64:] = True
    events = fit_joints(
        arm,
        [RobotView(CAMERAS[1], mask, known)],
        torch.Generator().manual_seed(0),
        prior=lambda poses: 1 + poses[:, 3, 2, 0],
        effort=NEAR,
    )
    pose = arm.link_poses(drain(events).result.positions)[3]
    assert float(pose[2, 0]) < -0.98


def test_masks_that_cannot_be_used_are_refused(arm: Robot):
    """No view, none with any robot in it, and a mask of another size."""
    g = torch.Generator()
    empty = torch.zeros(96, 128, dtype=torch.bool)
    for views in ([], [RobotView(CAMERAS[0], empty, ~empty)], [RobotView(CAMERAS[0], ~empty, empty)]):
        with pytest.raises(CaptureError, match="shows the robot in at least one view, got"):
            next(iter(fit_joints(arm, views, g)))
    small = RobotView(CAMERAS[0], ~empty[::2, ::2], ~empty[::2, ::2])
    with pytest.raises(ValueError, match=r"camera's size \(96, 128\), got \(48, 64\)"):
        next(iter(fit_joints(arm, [small], g)))


def test_evolution_follows_a_bent_valley():
    """Rosenbrock's function, far from its minimum."""

    def cost(x: Tensor) -> Tensor:
        return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)

    start, steps = torch.zeros(4).double() - 1.0, torch.full((4,), 0.5).double()
    run = evolve(
        cost, start, steps, generations=250, population=16, generator=torch.Generator().manual_seed(0)
    )
    best = list(run)[-1]
    assert best.cost < 1e-4
    assert (best.place - 1).abs().max() < 0.02
