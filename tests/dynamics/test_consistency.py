"""The consistency suite: an ideal model passes, and each broken one fails just what it breaks."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from dynamics.consistency import (
    CHECKS,
    Future,
    Predictor,
    bending,
    consistency,
    joints,
    of_dynamics,
    permanence,
    predictor_named,
    scenes,
    sensitivity,
    support,
)
from dynamics.consistency.check import Check
from dynamics.consistency.commands import consistency as verb
from dynamics.consistency.commands import told
from dynamics.consistency.outcome import Outcome, outcome
from dynamics.consistency.scenes import GRAVITY, Case
from dynamics.consistency.suite import chosen
from dynamics.models import model_named
from dynamics.tool import Tool
from gaussworld.camera import Camera
from gaussworld.errors import ConfigError
from gaussworld.pose import invert_pose, pose_from_pose7, quats_from_rotation, rotation_from_rotvec
from gaussworld.state import Action, Rollout, State
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

RIGID = (
    "permanence",
    "support",
    "conservation",
    "penetration",
    "causality",
    "sensitivity",
    "horizon",
    "joints",
)
#: Of a step while something flies or slides, and while all is slow.
FAST, SLOW = 5, 2


@pytest.fixture(scope="module", autouse=True)
def few_gaussians() -> Iterator[None]:
    """The fakes look at shapes only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "_MANY", 60)
        patch.setattr(scenes, "_GAUSSIANS", 60)
        yield


class Thing:
    """A box of the ideal model."""

    def __init__(self, world: World, start: State, row: int) -> None:
        item = world.objects[start.object_ids[row]]
        assert item.shape is not None
        corners = item.shape.mesh.vertices.double().numpy()
        self.half = np.ptp(corners, 0) / 2
        self.kind, self.joint, self.friction = item.kind, item.joint, item.material.friction
        pose = pose_from_pose7(start.object_poses[row].double()).numpy()
        self.turn, self.place = pose[:3, :3].copy(), pose[:3, 3].copy()
        self.velocity, self.spin = start.object_twists[row].double().numpy().reshape(2, 3).copy()
        self.free = item.kind is ObjectKind.RIGID
        square = np.square(2 * self.half)
        self.inertia = (square.sum() - square) / 12
        self.slope = 0.0

    @property
    def extent(self) -> np.ndarray:
        """Half of its bounding box in the world."""
        return np.abs(self.turn) @ self.half

    @property
    def level(self) -> bool:
        return float(np.abs(self.turn[2]).max()) > 0.9999


class Ideal:
    """Boxes by the book: they fall, land, tip, slide, are pushed out of the tool, and push each other.

    The options break one thing each.
    """

    def __init__(
        self, pushes: bool = True, early: int = 0, falls: bool = True, gain: float = 0.0, blind: bool = False
    ) -> None:
        self.pushes, self.early, self.falls, self.gain, self.blind = pushes, early, falls, gain, blind

    def predict(self, world: World, start: State, actions: Action, tools: tuple[Tool, ...]) -> Future:
        things = [Thing(world, start, row) for row in range(len(start.object_ids))]
        rates = dict(zip(start.joint_ids, start.joint_rates.tolist()))
        joints = {n: item.joint for n, item in world.objects.items() if item.joint is not None}
        angles = {n: joint.position for n, joint in joints.items()}
        assert actions.tools is not None
        path = torch.cat([start.tool_poses[None], actions.tools])[:, 0, :3].double().numpy()
        path = np.concatenate([path[self.early :], np.repeat(path[-1:], self.early, 0)])
        substeps = FAST if bool(start.object_twists.any()) else SLOW if len(path) < 100 else 1
        turns, places = [[each.turn for each in things]], [[each.place.copy() for each in things]]
        radius = float(tools[0].radii[0])
        for begin, end in pairwise(path):
            for k in range(substeps):
                tool = begin + (end - begin) * (k + 1) / substeps
                self._step(things, tool, radius, 0.1 / substeps)
            for number, joint in joints.items():
                row = start.object_ids.index(number)
                self._jointed(things[row], joint, number, angles, rates, end, radius)
            turns.append([each.turn for each in things])
            places.append([each.place.copy() for each in things])
        quats = quats_from_rotation(torch.from_numpy(np.array(turns)))
        return Future(torch.cat([torch.from_numpy(np.array(places)), quats], -1).float())

    def _step(self, things: list[Thing], tool: np.ndarray, radius: float, dt: float) -> None:
        free = [each for each in things if each.free]
        for each in free:
            each.velocity *= 1 + self.gain * dt
            self._supported(each, things, dt)
            if self.pushes and not (self.blind and self._hidden(each, things)):
                self._pushed(each, tool, radius)
        for _ in range(2):
            for each in free:
                for other in things:
                    near = abs(each.place[0] - other.place[0]) < 0.4 > abs(each.place[1] - other.place[1])
                    if other is not each and near and other.half[0] < 0.4:
                        self._apart(each, other)

    def _hidden(self, each: Thing, things: list[Thing]) -> bool:
        return any(
            not o.free and o.half[2] > 0.1 and o.half[1] < 0.02 and each.place[1] > o.place[1] for o in things
        )

    def _supported(self, each: Thing, things: list[Thing], dt: float) -> None:
        """Gravity, or friction where something is under its middle."""
        slope = next((o for o in things if not o.free and not o.level and o.joint is None), None)
        if slope is not None:
            self._on_slope(each, slope, dt)
            return
        low, top = each.place[2] - each.extent[2], -math.inf
        for other in things:
            if other is not each and (np.abs(each.place - other.place)[:2] <= other.extent[:2]).all():
                height = other.place[2] + other.extent[2]
                top = max(top, height if height < each.place[2] else -math.inf)
        if low > top + 1e-6 and self.falls:
            fall = -0.5 * GRAVITY * dt**2
            each.place = each.place + each.velocity * dt + [0, 0, fall]
            each.velocity[2] -= GRAVITY * dt
            self._spun(each, dt)
            if each.place[2] - each.extent[2] >= top:
                return
        if not self.falls and low > top + 1e-6:
            return
        self._laid(each, top)
        each.place = each.place + each.velocity * dt
        speed = np.linalg.norm(each.velocity)
        # Both have the same friction, so that it counts however it is combined.
        slower = max(0.0, speed - each.friction * GRAVITY * dt * (1 if self.gain == 0 else 0))
        each.place -= each.velocity / max(speed, 1e-12) * (speed - slower) * dt / 2
        each.velocity *= slower / max(speed, 1e-12)
        turned = float(each.spin[2])
        each.spin = np.array(
            [0.0, 0.0, math.copysign(max(0.0, abs(turned) - 60 * each.friction * dt), turned)]
        )
        self._spun(each, dt)

    def _laid(self, each: Thing, top: float) -> None:
        """On the face that its middle falls to."""
        if not each.level:
            up = int(np.abs(each.turn[2]).argmax())
            corner = each.turn @ (each.half * np.sign(-each.turn[2]))
            tilt = math.acos(min(1.0, abs(each.turn[2, up])))
            if tilt > 0.01 and up == 2 and each.half[2] > 2 * each.half[0]:
                x = -corner @ np.array([1.0, 0.0, 0.0])
                toppled = abs(tilt) > math.atan2(each.half[0], each.half[2])
                each.turn = _about_y(math.copysign(math.pi / 2, x)) if toppled else np.eye(3)
            else:
                each.turn = np.eye(3)[:, [up, (up + 1) % 3, (up + 2) % 3]].T[[1, 2, 0]]
                each.turn = each.turn * np.linalg.det(each.turn)
        each.velocity[2] = 0.0
        each.place[2] = top + each.extent[2]

    def _on_slope(self, each: Thing, slope: Thing, dt: float) -> None:
        down, up = slope.turn[:, 0], slope.turn[:, 2]
        pull = GRAVITY * (-down[2] - each.friction * up[2])
        if pull > 0 and self.falls:
            each.place = each.place + down * (each.slope * dt + pull * dt**2 / 2)
            each.slope += pull * dt

    def _spun(self, each: Thing, dt: float) -> None:
        """Without torque: L stays, and the rotation of halfway turns it on."""
        if not each.spin.any():
            return
        momentum = each.turn @ np.diag(each.inertia) @ each.turn.T @ each.spin
        for share in (0.5, 1.0):
            half = _rotation(each.spin * dt * 0.5) @ each.turn
            spin = half @ np.diag(1 / each.inertia) @ half.T @ momentum
            if share == 1.0:
                each.turn = _rotation(spin * dt) @ each.turn
        each.spin = each.turn @ np.diag(1 / each.inertia) @ each.turn.T @ momentum

    def _pushed(self, each: Thing, tool: np.ndarray, radius: float) -> None:
        """Out of the rod, without turning."""
        if (
            tool[2] + radius > each.place[2] + each.extent[2]
            or tool[2] + 0.16 < each.place[2] - each.extent[2]
        ):
            return
        local = each.turn.T @ (tool - each.place)
        local[np.abs(each.turn[2]).argmax()] = 0.0
        near = np.clip(local, -each.half, each.half)
        gap = np.linalg.norm(local - near)
        if gap < 1e-9:
            axis = int((np.abs(local) / each.half).argmax())
            near = local.copy()
            near[axis] = math.copysign(each.half[axis], local[axis])
            each.place = each.place + each.turn @ (local - near) * (1 + radius / np.linalg.norm(local - near))
        elif gap < radius:
            each.place = each.place + each.turn @ ((local - near) * (1 - radius / gap))

    def _apart(self, each: Thing, other: Thing) -> None:
        overlap = each.extent + other.extent - np.abs(each.place - other.place)
        if (overlap <= 0).any() or not each.level or not other.level:
            return
        axis = int(overlap.argmin())
        if axis == 2:
            return
        away = math.copysign(overlap[axis], other.place[axis] - each.place[axis])
        both = (each.velocity[axis] + other.velocity[axis]) / 2 if other.free else 0.0
        first = abs(each.velocity[axis]) >= abs(other.velocity[axis])
        if other.free and first:
            other.place[axis] += away
        else:
            each.place[axis] -= away
        each.velocity[axis] = both
        if other.free:
            other.velocity[axis] = both

    def _jointed(
        self, each: Thing, joint: Any, number: int, angles: dict[int, float], rates: dict[int, float],
        tool: np.ndarray, radius: float,
    ) -> None:  # fmt: skip
        before = angles[number]
        angles[number] += rates[number] * 0.1
        rates[number] *= math.exp(-0.1)
        if joint.kind == "revolute":
            reach = each.half[1] + radius
            far = math.hypot(tool[0], tool[1])
            if self.pushes and tool[2] < 0.3 and reach < far < 0.4:
                angles[number] = max(angles[number], math.atan2(tool[1], tool[0]) + math.asin(reach / far))
            angles[number] = float(np.clip(angles[number], *joint.limits))
            c, s = math.cos(angles[number]), math.sin(angles[number])
            each.turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
            return
        if self.pushes and tool[2] < 0.1 and abs(tool[1]) < each.half[1]:
            angles[number] = min(angles[number], tool[0] - radius - each.half[0])
        angles[number] = float(np.clip(angles[number], *joint.limits))
        each.place[0] += angles[number] - before


def _rotation(vector: np.ndarray) -> np.ndarray:
    return rotation_from_rotvec(torch.from_numpy(vector)).numpy()


def _about_y(angle: float) -> np.ndarray:
    return _rotation(np.array([0.0, angle, 0.0]))


class Changed:
    """The ideal model with its poses changed afterwards."""

    known: Mapping[tuple[bytes, ...], Future] = {}

    def __init__(self, change: Any) -> None:
        self.change = change

    def predict(self, world: World, start: State, actions: Action, tools: tuple[Tool, ...]) -> Future:
        assert actions.tools is not None
        asked = (start.object_poses, start.object_twists, start.joint_rates, start.tool_poses, actions.tools)
        names = "".join(f"{item.name} {item.material}" for item in world.objects.values())
        key = (names.encode(), *(value.numpy().tobytes() for value in asked))
        if key not in Changed.known:
            Changed.known = {**Changed.known, key: Ideal().predict(world, start, actions, tools)}
        poses = Changed.known[key].poses.clone()
        return Future(self.change(poses, _free(world, start)))


def _free(world: World, start: State) -> list[int]:
    """Rows of the rigid things."""
    return [k for k, n in enumerate(start.object_ids) if world.objects[n].kind is ObjectKind.RIGID]


def same(poses: torch.Tensor, free: list[int]) -> torch.Tensor:
    return poses


def swapped(poses: torch.Tensor, free: list[int]) -> torch.Tensor:
    """Of several things, two change places for a moment."""
    if len(free) > 2:
        poses[5, [free[0], free[1]]] = poses[5, [free[1], free[0]]]
    return poses


def drifting(poses: torch.Tensor, free: list[int]) -> torch.Tensor:
    poses[:, free, 0] += 2e-4 * torch.arange(len(poses))[:, None]
    return poses


def forgetful(poses: torch.Tensor, free: list[int]) -> torch.Tensor:
    poses[150:] = torch.nan
    return poses


def losing(poses: torch.Tensor, free: list[int]) -> torch.Tensor:
    return poses[:, :-1] if len(free) == 5 else poses


def sinking(poses: torch.Tensor, free: list[int]) -> torch.Tensor:
    poses[1:, free, 2] -= 0.004
    return poses


def elsewhere(poses: torch.Tensor, free: list[int]) -> torch.Tensor:
    poses[0, free, 1] += 0.0015
    return poses


class Bent:
    """The ideal of what bends: it hangs, drapes, and is carried along without stretching."""

    def __init__(self, stretch: float = 1.0, points: bool = True) -> None:
        self.stretch, self.points = stretch, points

    def predict(self, world: World, start: State, actions: Action, tools: tuple[Tool, ...]) -> Future:
        number = next(n for n, item in world.objects.items() if item.kind is ObjectKind.DEFORMABLE)
        row, name = start.object_ids.index(number), world.objects[number].name
        assert actions.tools is not None
        tool = torch.cat([start.tool_poses[None], actions.tools])[:, 0, :3]
        points = _cloud(name) + start.object_poses[row, :3]
        moved = {"rope": self._rope, "cloth": self._cloth, "block": self._block}[name](points, tool, actions)
        moved = torch.cat([moved[:1], points + (moved[1:] - points)])
        poses = start.object_poses.expand(len(tool), -1, -1).clone()
        poses[:, row, :3] += (moved - moved[0]).mean(1)
        middle = moved.mean(1, keepdim=True)
        moved = torch.cat([moved[:1], middle[1:] + self.stretch * (moved - middle)[1:]])
        return Future(poses, {number: moved} if self.points else {})

    def _rope(self, points: torch.Tensor, tool: torch.Tensor, actions: Action) -> torch.Tensor:
        moved = points.expand(len(tool), -1, -1).clone()
        if float(points[0, 2]) > 0.1:
            fallen = GRAVITY * (torch.arange(len(tool)) / 10).square() / 2
            moved[..., 2] = (moved[..., 2] - fallen[:, None]).clamp(min=0.003)
        elif float(tool[-1, 2]) < 0.1:
            moved[..., 1] = moved[..., 1].maximum((tool[:, 1] + 0.015)[:, None])
        else:
            assert actions.grip is not None
            hand = torch.where(
                (actions.grip[:, 0] == 1)[:, None], tool[1:], tool[:1] * torch.tensor([1.0, 1.0, 0.0])
            )
            hand = torch.cat([hand[:1], hand])[:, None]
            behind = points[:, 0] - bending._TAKEN
            hangs = (behind < hand[..., 2]) & (hand[..., 2] > 0.01)
            moved[..., 0] = torch.where(hangs, hand[..., 0], moved[..., 0])
            moved[..., 2] = torch.where(hangs, hand[..., 2] - behind.clamp(min=0), moved[..., 2])
        return moved

    def _cloth(self, points: torch.Tensor, tool: torch.Tensor, actions: Action) -> torch.Tensor:
        last = points.clone()
        beyond = (points[:, 0].abs() - 0.05).clamp(min=0)
        last[:, 0] = points[:, 0].clamp(-0.05, 0.05)
        last[:, 2] = 0.1005 - beyond
        return torch.stack([points, *[last] * (len(tool) - 1)])

    def _block(self, points: torch.Tensor, tool: torch.Tensor, actions: Action) -> torch.Tensor:
        on = (tool[:, :1] + 0.0125 - points[:, 0].min()).clamp(min=0)
        on = on * (tool[:, 2:] < 0.06)
        return points + torch.cat([on, 0 * on, 0 * on], 1)[:, None]


def _cloud(name: str) -> torch.Tensor:
    """Points of a thing in its frame."""
    if name == "rope":
        x = torch.linspace(-0.2, 0.2, 41)
        return torch.stack([x, 0 * x, 0 * x], 1)
    half = {"cloth": (0.12, 0.12, 0.0), "block": (0.05, 0.05, 0.03)}[name]
    axes = [torch.linspace(-h, h, 9 if h else 1) if h else torch.zeros(1) for h in half]
    return torch.cartesian_prod(*axes)


IDEAL = Changed(same)
STILL_PASSES = "falls", "goes-with-the-tool"


def failed(model: Predictor, only: tuple[str, ...] = RIGID) -> set[str]:
    report = consistency(model, only)
    assert all(each.said for each in report.results if each.passed is False)
    return set(report.failed)


def case_of(name: str) -> Case:
    return chosen([name])[0].cases()[0]


def test_the_ideal_passes_everything() -> None:
    """What moves by the book passes every check, most of them to the last digit."""
    report = consistency(IDEAL, RIGID, "ideal")
    bent = consistency(Bent(), ("bending",))
    assert report.failed == bent.failed == ()
    assert len(report.passed) + len(bent.passed) == len(CHECKS)
    assert "ideal: 51 of 51 checks passed" in told(report)
    exact = {each.name: each.value for each in report.results}
    assert exact["falls"] < 1e-5 and exact["goes-with-the-tool"] < 1e-5 and exact["flight-energy"] < 1e-4
    assert exact["sliding-distance"] < 0.002 and exact["flight-spin"] < 0.005


BROKEN: dict[str, tuple[Predictor, set[str]]] = {
    "ignores actions": (
        Ideal(pushes=False),
        {
            "hidden-is-met", "out-of-view", "tool-stays-out", "goes-with-the-tool", "opposite-pushes-differ",
            "wrong-action-shows", "push-is-passed-on", "door-follows-the-tool", "drawer-follows-the-tool",
        },
    ),
    "acts before contact": (Ideal(early=3), {"still-before-contact", "blind-to-the-future"}),
    "without gravity": (
        Ideal(falls=False),
        {
            "falls", "lands", "edge-outside", "ledge-outside", "slope-slides", "flight-momentum",
            "flight-spin", "flight-energy",
        },
    ),
    "gains energy": (
        Ideal(gain=1.0),
        {
            "falls", "flight-momentum", "flight-energy", "sliding-slows", "sliding-distance",
            "collision-momentum",
        },
    ),
    "forgets what it does not see": (Ideal(blind=True), {"hidden-is-met"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_breaks_one_law_fails_for_that(name: str) -> None:
    """Ignoring actions, acting early, no gravity, energy from nowhere, out of sight out of mind."""
    model, wanted = BROKEN[name]
    assert failed(model, tuple(group for group in RIGID if group != "horizon")) == wanted


CHANGED: dict[str, tuple[Any, set[str]]] = {
    "teleports": (swapped, {"no-jumps", "stack-stays", "rests", "returns"}),
    "slides at rest": (
        drifting,
        {
            "hidden-stays", "hidden-is-met", "out-of-view", "edge-inside", "ledge-inside", "stack-stays",
            "slope-holds", "pushed-to-a-wall", "still-before-contact", "others-stay", "air-moves-nothing",
            "turned-and-shifted-alike", "push-is-passed-on", "rests", "returns", "works-on",
        },
    ),
    "becomes NaN": (forgetful, {"rests", "returns", "works-on"}),
    "loses an object": (losing, {"nothing-lost", "no-jumps", "begins-as-asked"}),
    "sinks into the table": (
        sinking,
        {
            "hidden-stays", "lands", "edge-inside", "ledge-inside", "stack-stays", "slope-holds",
            "sliding-slows", "collision-momentum", "table-holds", "still-before-contact", "others-stay",
            "air-moves-nothing", "rests", "returns",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_future_that_is_spoilt_fails_for_that(name: str) -> None:
    """Teleporting, creeping, NaN after 15 s, a thing that is gone, things that sink."""
    change, wanted = CHANGED[name]
    assert failed(Changed(change)) == wanted


def test_what_bends_is_measured_by_its_points() -> None:
    """Stretched by 20 % it fails; without points nobody knows, and what needs none is judged all the same."""
    assert failed(Bent(1.2), ("bending",)) == {
        "rope-keeps-its-length", "rope-is-held", "held-rope-hangs", "cloth-keeps-its-size",
        "soft-block-stands", "soft-block-springs-back",
    }  # fmt: skip
    report = consistency(Bent(points=False), ("bending",))
    assert report.failed == () and report.passed == ("rope-falls", "soft-block-goes-with-the-tool")
    assert "unknown" in told(report) and "gives no points" in told(report)


def test_a_crash_fails_one_check_and_says_so() -> None:
    """What the model raises on doors is the result of the checks with doors, and of no others."""

    class NoDoors(Changed):
        def predict(self, world: World, start: State, actions: Action, tools: tuple[Tool, ...]) -> Future:
            if start.joint_ids and "door" in {item.name for item in world.objects.values()}:
                raise RuntimeError("what is a door?")
            return super().predict(world, start, actions, tools)

    report = consistency(NoDoors(same), ("joints", "falls"))
    said = {each.name: each.said for each in report.results if each.passed is False}
    assert set(said) == {
        "door-follows-the-tool", "door-keeps-its-limits", "door-stays-on-its-hinge", "parents-stay"
    }  # fmt: skip
    assert set(said.values()) == {"the model failed: RuntimeError: what is a door?"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p[:, :1], r"expected all 2 objects at every moment, got 1"),
        (lambda p: p[:-1], r"expected poses of shape"),
        (lambda p: p * torch.tensor([1.0, 1, 1, 2, 2, 2, 2]), r"table has a quaternion .* 1 at step 0"),
        (lambda p: torch.where(torch.arange(len(p))[:, None, None] > 3, torch.inf, p), r"infinity at step 4"),
    ],
)
def test_an_answer_that_is_none_is_named(spoil: Any, message: str) -> None:
    """A thing too few, a moment too few, quaternions of length 2, infinity."""
    case = case_of("falls")
    poses = case.start.object_poses.expand(len(case.actions) + 1, -1, -1)
    with pytest.raises(ValueError, match=message):
        outcome(case, Future(spoil(poses)))


def test_a_rollout_is_an_answer_too() -> None:
    """With objects in another order, and particles that are those of the only thing that bends."""
    case = case_of("rope-falls")
    start = case.start
    flipped = replace(start, object_ids=start.object_ids[::-1], object_poses=start.object_poses.flip(0))
    still, points = torch.zeros(5, 3), start.object_poses[1, :3] + _cloud("rope")[::10]
    flipped = replace(
        flipped, particle_positions=points, particle_velocities=still, residual=still,
        grasped=torch.zeros(1, 5, dtype=torch.bool),
    )  # fmt: skip
    states = flipped.expand(len(case.actions) + 1).map(torch.clone)
    read = outcome(case, Rollout(states, case.actions, 0.1))
    assert torch.equal(read.places("rope")[0], start.object_poses[read.row("rope"), :3])
    assert read.points("rope").shape == (len(case.actions) + 1, 5, 3)


def sees(camera: Camera, points: torch.Tensor) -> torch.Tensor:
    """Whether points are in the picture."""
    local = (
        points @ invert_pose(camera.world_from_camera)[:3, :3].T
        + invert_pose(camera.world_from_camera)[:3, 3]
    )
    pixels = local[:, :2] / local[:, 2:] * torch.tensor([camera.K[0, 0], camera.K[1, 1]]) + camera.K[:2, 2]
    size = torch.tensor([camera.width, camera.height])
    return ((pixels > 0) & (pixels < size)).all(1) & (local[:, 2] > 0)


def test_what_is_hidden_is_hidden() -> None:
    """The screen is between every camera and every corner of the box, which one in front is not."""
    scene = permanence.behind_a_screen()
    read = outcome(scene.case(1), Future(scene.case(1).start.object_poses.expand(2, -1, -1)))
    screen = scene.solid("screen")
    for camera in scene.world.cameras:
        for name, behind in (("hidden", True), ("seen", False)):
            corners = read.corners(name)[0]
            share = camera.center[1] / (camera.center[1] - corners[:, 1])
            meets = camera.center + share[:, None] * (corners - camera.center)
            inside = (
                (meets[:, 0].abs() < screen.size[0] / 2)
                & (meets[:, 2] < screen.size[2])
                & (share < 1)
                & (share > 0)
            )
            assert bool(inside.all()) is behind and bool(inside.any()) is behind
            assert bool(sees(camera, corners).all())


def test_what_leaves_the_view_was_in_it() -> None:
    """First all of the box is in the picture, and at the end none."""
    scene = permanence.narrow_view()
    read = IDEAL.predict(*_asked(permanence._leaving()[0]))
    seen = outcome(permanence._leaving()[0], read).corners("box")
    (camera,) = scene.world.cameras
    assert bool(sees(camera, seen[0]).all()) and not bool(sees(camera, seen[-1]).any())


def _asked(case: Case) -> tuple[World, State, Action, tuple[Tool, ...]]:
    return case.world, case.start, case.actions, case.scene.tools


def test_closed_forms_are_those_of_the_books() -> None:
    """Inertia and balance of boxes, the door's angle, turned and shifted questions."""
    box = scenes.Solid("box", (0.2, 0.1, 0.05), (0.0, 0.0, 0.0), density=1000.0)
    assert box.mass == pytest.approx(1.0)
    assert box.inertia.diagonal().tolist() == pytest.approx([0.0125 / 12, 0.0425 / 12, 0.05 / 12])
    case = support._leaning(10.0)[0]
    read = outcome(case, Future(case.start.object_poses.expand(len(case.actions) + 1, -1, -1)))
    assert float(read.tilt("box")[0]) == pytest.approx(10.0, abs=1e-3)
    lowest = read.corners("box")[0]
    assert float(lowest[:, 2].min()) == pytest.approx(0.0, abs=1e-6)
    turned = sensitivity._moved_scenes()[1]
    first = sensitivity._moved_scenes()[0]
    a, b = first.tool_path[-1], turned.tool_path[-1]
    assert (float(b[0]), float(b[1])) == pytest.approx((-float(a[1]), float(a[0])), abs=1e-6)
    assert float(turned.start.object_poses[1, 6]) == pytest.approx(math.sin(math.pi / 4), abs=1e-6)
    assert torch.equal(turned.start.object_poses[0], first.start.object_poses[0])
    door = joints._opening()[0]
    assert (
        outcome(door, Future(door.start.object_poses.expand(len(door.actions) + 1, -1, -1))).tilt("door")[0]
        == 0
    )


def test_depths_of_boxes_and_tools() -> None:
    """Boxes 5 mm in each other, side by side and crosswise; the rod 5 mm in a box, and 5 mm before it."""
    scene = scenes.two_boxes()
    for turn in (0.0, math.pi / 2):
        case = scene.case(1, places={"far": (0.095, 0.0, 0.025)}, turns={"far": (0.0, 0.0, turn)})
        read = outcome(case, Future(case.start.object_poses.expand(2, -1, -1)))
        assert read.depth("near", "far")[0] == pytest.approx(0.005, abs=1e-6)
    path = torch.tensor([[-0.0575, 0.0, 0.01], [-0.0675, 0.0, 0.01]])
    case = scene.case(path)
    read = outcome(case, Future(case.start.object_poses.expand(2, -1, -1)))
    assert read.tool_gap("near").tolist() == pytest.approx([-0.005, 0.005], abs=1e-6)


def test_our_own_models_are_asked_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Persistence fails what it must and passes what asks for nothing; each scene is made once."""
    made: list[int] = []

    def maker(world: World, matter: Any, tools: tuple[Tool, ...]) -> Any:
        made.append(len(world.objects))
        return model_named("persistence", world, matter, tools)

    report = consistency(of_dynamics(maker), ("falls", "lands", "sensitivity"))
    assert report.failed == (
        "falls", "lands", "goes-with-the-tool", "opposite-pushes-differ", "wrong-action-shows",
        "push-is-passed-on",
    )  # fmt: skip
    assert report.passed == (
        "mirrored-alike",
        "turned-and-shifted-alike",
        "little-changes-little",
        "same-again",
    )
    assert len(made) == 2


def test_the_prior_passes_what_it_was_made_for() -> None:
    """A fall and pushes from four sides, with Gaussians, matter and all."""
    report = consistency(predictor_named("prior"), STILL_PASSES)
    assert report.passed == STILL_PASSES


def test_every_check_says_what_it_asks() -> None:
    """Names are unique, sentences are sentences, and the page lists every check."""
    names = [each.name for each in CHECKS]
    assert len(set(names)) == len(names)
    page = Path(__file__).parents[2].joinpath("docs", "consistency.md").read_text(encoding="utf-8")
    for each in CHECKS:
        assert isinstance(each, Check) and each.asks.endswith(".") and each.reason.endswith(".")
        assert f"`{each.name}`" in page, f"docs/consistency.md says nothing of {each.name}"


OWN = '''"""A model of one's own."""

import torch

from dynamics.consistency import Future


class Still:
    """Nothing moves."""

    def predict(self, world, start, actions, tools):
        return Future(start.object_poses.expand(len(actions) + 1, -1, -1))


def make():
    return Still()


still = Still()
three = 3
'''


@pytest.mark.parametrize("name", ["Still", "still", "make"])
def test_ones_own_model_is_named_by_module_and_object(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class, an object, or a function that gives one, in the current folder."""
    (tmp_path / f"own_{name}_model.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    report = consistency(predictor_named(f"own_{name}_model:{name}"), STILL_PASSES)
    assert report.failed == STILL_PASSES


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("priro", r"expected prior, .*or package\.module:object, got 'priro'"),
        ("no_such_module:x", r"importable, got ModuleNotFoundError"),
        ("math:no_such_thing", r"importable, got AttributeError"),
        ("math:pi", r"importable, got TypeError"),
        ("builtins:dict", r"to have predict\(world, start, actions, tools\), got dict"),
        (":x", r"expected package\.module:object"),
    ],
)
def test_models_that_are_none_are_refused(name: str, message: str) -> None:
    """A misspelt name, no such module or object, and objects that cannot predict."""
    with pytest.raises(ConfigError, match=message):
        predictor_named(name)


def test_a_folder_that_is_no_model_is_refused_at_once(tmp_path: Path) -> None:
    """In one sentence, and not by 61 checks."""
    from gaussworld.errors import GaussWorldError

    with pytest.raises(GaussWorldError):
        predictor_named(str(tmp_path))


def test_the_verb_writes_a_report_and_is_strict_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table or JSON on stdout, the file, exit code 1 only with --strict, and no such check."""
    out = tmp_path / "report.json"
    verb("persistence", only=("same-again", "goes-with-the-tool"), out=out)
    said = capsys.readouterr().out
    assert "pass" in said and "FAIL" in said and "100 mm (at most 5 mm)" in said
    assert "persistence: 1 of 2 checks passed" in said
    record = json.loads(out.read_text())
    assert record["format"] == "gaussworld-consistency" and record["passed"] == 1 and record["judged"] == 2
    assert {each["name"]: each["passed"] for each in record["checks"]} == {
        "goes-with-the-tool": False, "same-again": True
    }  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        verb("persistence", only=("goes-with-the-tool",), strict=True, json=True)
    assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out)["checks"][0]["value"] == pytest.approx(0.1, abs=1e-4)
    with pytest.raises(
        ConfigError, match=r"--only: expected a group \(permanence, .*\) or a check, got 'grvity'"
    ):
        verb("persistence", only=("grvity",))


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What people copy works."""
    page = Path(__file__).parents[2].joinpath("docs", "consistency.md").read_text(encoding="utf-8")
    example = page.split("```python")[1].split("```")[0]
    assert 8 <= len([line for line in example.splitlines() if line.strip()]) <= 16
    (tmp_path / "page_example.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    report = consistency(predictor_named("page_example:FollowsTheTool"), ("goes-with-the-tool", "falls"))
    assert report.failed == ("falls",)


def test_outcomes_measure_angles_and_speeds() -> None:
    """A quarter turn is 90 degrees, and turning by 0.2 rad in a step is 2 rad/s."""
    case = scenes.one_box().case(2)
    poses = case.start.object_poses.expand(3, -1, -1).clone()
    for step, angle in enumerate((0.0, 0.2, math.pi / 2)):
        poses[step, 1, 3:] = quats_from_rotation(rotation_from_rotvec(torch.tensor([0.0, 0.0, angle])))
        poses[step, 1, 0] = 0.03 * step
    read: Outcome = outcome(case, Future(poses))
    assert float(read.angle("box")[-1]) == pytest.approx(90.0, abs=1e-3)
    assert float(read.spins("box")[0, 2]) == pytest.approx(2.0, abs=1e-4)
    assert read.velocities("box")[:, 0].tolist() == pytest.approx([0.3, 0.3], abs=1e-5)


def test_a_model_that_writes_into_its_question_harms_nobody() -> None:
    """The next one is asked the same."""

    class Scribbles(Changed):
        def predict(self, world: World, start: State, actions: Action, tools: tuple[Tool, ...]) -> Future:
            future = super().predict(world, start, actions, tools)
            start.object_poses.fill_(torch.nan)
            assert actions.tools is not None
            actions.tools.zero_()
            return future

    for model in (Scribbles(same), IDEAL):
        assert consistency(model, STILL_PASSES).failed == ()


@pytest.fixture
def as_users_see_it() -> Iterator[None]:
    """Without the shape checks of the tests."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def test_points_must_be_those_of_the_thing(as_users_see_it: None) -> None:
    """All over it at first, finite, of an object that there is; arrays of numpy do."""
    case = case_of("rope-falls")
    poses = case.start.object_poses.expand(len(case.actions) + 1, -1, -1)
    points = (_cloud("rope") + torch.tensor([0.0, 0.0, 0.6])).expand(len(poses), -1, -1).clone()
    assert outcome(case, Future(poses, {2: points})).points("rope").shape == points.shape
    bad = points.clone()
    bad[3:] = torch.nan
    spoilt = {
        "all over rope at step 0, got ones that end 200 mm off": {2: points[:, 20:]},
        "rope has points of NaN or infinity at step 3": {2: bad},
        "got some of 7": {7: points},
        r"expected points of shape \(13, k, 3\)": {2: points[:5]},
    }
    for message, given in spoilt.items():
        with pytest.raises(ValueError, match=message):
            outcome(case, Future(poses, given))
    arrays, nothing = Future(poses.numpy(), {2: points.tolist()}), Future(None)  # pyright: ignore
    assert torch.equal(outcome(case, arrays).future.poses, poses)
    with pytest.raises(ValueError, match="expected a Future of tensors"):
        outcome(case, nothing)
