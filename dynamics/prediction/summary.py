"""`summary`: what happened in a predicted future, as plain values for people and programs."""

import math
from typing import Any

import torch
from torch import Tensor

from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.pose import pose_from_pose7, rotvec_from_rotation
from gaussworld.state import Rollout
from gaussworld.world_object import WorldObject

from ..evaluation import errors_of
from ..rollout import Accounts
from .predict import Prediction, tool_robots
from .question import MOVABLE
from .tool_path import path_warnings

#: Share of training situations; what is more unusual than that was not learned.
_UNUSUAL = 0.99
#: [m] and [rad] below which a thing counts as not moved.
_STILL_M, _STILL_RAD = 1e-3, math.radians(0.5)


def summary(prediction: Prediction, model: str, seed: int, seconds: dict[str, float]) -> dict[str, Any]:
    """Final poses, displacements, contacts, warnings and timing.

    Args:
        prediction: what was predicted.
        model: its name.
        seed: of the samples.
        seconds: [s] what else took time, by name.
    """
    question, rollout = prediction.question, prediction.rollout
    movable = [
        (row, question.world.objects[number])
        for row, number in enumerate(rollout.states.object_ids)
        if question.world.objects[number].kind in MOVABLE
    ]
    steps = len(rollout)
    return {
        "format": "gaussworld-prediction",
        "version": 1,
        "model": model,
        "world": question.source,
        "revision": question.world.revision,
        "tools": [tool.name for tool in question.tools],
        "steps": steps,
        "dt": rollout.dt,
        "seconds": steps * rollout.dt,
        "seed": seed,
        "samples": 1 if prediction.samples is None else prediction.samples.states.batch_shape[1],
        "objects": [_object(rollout, row, item) for row, item in movable],
        "contacts": contacts_of(prediction),
        "events": events_of(prediction),
        "truth": truth_of(prediction),
        "surprise": prediction.surprise,
        "warnings": warnings_of(prediction),
        "timing": {
            "ready_s": prediction.ready_seconds,
            "predict_s": prediction.seconds,
            "steps_per_s": steps / max(prediction.seconds, 1e-9),
            **{f"{name}_s": value for name, value in seconds.items()},
        },
    }


def _object(rollout: Rollout, row: int, item: WorldObject) -> dict[str, Any]:
    states = rollout.states
    poses = states.object_poses[:, row].double()
    turn = pose_from_pose7(poses)[:, :3, :3]
    told: dict[str, Any] = {
        "id": item.id,
        "name": item.name,
        "kind": item.kind.value,
        "start": poses[0].tolist(),
        "final": poses[-1].tolist(),
        "moved_m": float((poses[-1, :3] - poses[0, :3]).norm()),
        "turned_deg": math.degrees(float(rotvec_from_rotation(turn[-1] @ turn[0].T).norm())),
        "path_m": float(poses[:, :3].diff(dim=0).norm(dim=-1).sum()),
    }
    if item.id in states.joint_ids:
        joint = states.joint_positions[:, states.joint_ids.index(item.id)]
        told |= {"joint_start": float(joint[0]), "joint_final": float(joint[-1])}
    if rollout.spread is not None:
        told["spread_m"] = float(rollout.spread[-1, row])
    return told


def truth_of(prediction: Prediction) -> dict[str, float] | None:
    """[m] mean distance of the points that a recording followed, over time and at the end; None without."""
    question, rollout = prediction.question, prediction.rollout
    if question.episode is None or prediction.matter is None or len(rollout) > len(question.episode):
        return None
    try:
        errors = errors_of(rollout, question.world, prediction.matter, question.episode)
    except (CaptureError, FileFormatError):
        return None
    return {
        "mean_m": float(errors.predicted[1:].mean()),
        "final_m": float(errors.predicted[-1]),
        "mean_if_nothing_moved_m": float(errors.rested[1:].mean()),
        "final_if_nothing_moved_m": float(errors.rested[-1]),
    }


def contacts_of(prediction: Prediction) -> list[dict[str, Any]]:
    """Who touched whom, first and last when [s], and in how many of the states; none if nobody said."""
    question, rollout = prediction.question, prediction.rollout
    if rollout.contacts is None:
        return []
    ids, world = rollout.states.object_ids, question.world
    names = [world.objects[number].name for number in ids] + [tool.name for tool in question.tools]
    told = []
    for row in range(len(ids)):
        for column in range(row + 1, len(names)):
            touching = rollout.contacts[:, row, column]
            if column < len(ids):
                touching = touching | rollout.contacts[:, column, row]
            if bool(touching.any()):
                told.append(
                    {"object": names[row], "with": names[column], "is_tool": column >= len(ids)}
                    | _when(touching, rollout.dt)
                )
    return told


def _when(touching: Tensor, dt: float) -> dict[str, Any]:
    steps = touching.nonzero()[:, 0]
    return {"first_s": int(steps[0]) * dt, "last_s": int(steps[-1]) * dt, "states": len(steps)}


def events_of(prediction: Prediction) -> list[dict[str, Any]]:
    """What happened to objects, such as falling off; none where the particles are the model's own affair."""
    question, rollout = prediction.question, prediction.rollout
    if prediction.matter is None:
        return []
    accounts = Accounts(question.world, prediction.matter, question.tools)
    return [
        {
            "object": question.world.objects[event.object_id].name,
            "kind": event.kind,
            "time_s": event.step * rollout.dt,
        }
        for event in accounts.events(rollout)
    ]


def warnings_of(prediction: Prediction) -> list[str]:
    """What makes a prediction doubtful, in sentences."""
    question, rollout = prediction.question, prediction.rollout
    said: list[str] = []
    moved = [
        row
        for row, number in enumerate(rollout.states.object_ids)
        if question.world.objects[number].kind in MOVABLE and _moves(rollout, row)
    ]
    if not moved:
        said.append("Nothing moved: the tools may have touched nothing; look at the video, or at their path.")
    if prediction.matter is not None:
        said += path_warnings(question.world, prediction.matter, question.tools, rollout)
    if prediction.surprise is not None and prediction.surprise > _UNUSUAL:
        said.append(
            f"This is more unusual than {100 * prediction.surprise:.0f} % of what the model learned from"
            " (other shapes, sizes, tools or speeds): rely neither on it nor on its radii."
        )
    else:
        lowest = float(rollout.states.tool_poses[..., 2].min())
        floor = min((float(item.posed().means[:, 2].min()) for item in _solid(question)), default=lowest)
        if lowest < floor - 0.01:
            said.append(f"A tool goes {1000 * (floor - lowest):.0f} mm below everything there is.")
    robots = [question.world.objects[number].name for number in tool_robots(question.world)]
    for name, tool in zip(robots, question.tools):
        if tool.name not in name:
            said.append(
                f"The world's robot is called {name}, but a {tool.name} acts: pictures show the robot."
            )
    guessed = [
        question.world.objects[rollout.states.object_ids[row]].name
        for row in moved
        if question.world.objects[rollout.states.object_ids[row]].material.sources["friction"] == "default"
    ]
    if guessed:
        said.append(
            f"Friction is only a default for {', '.join(guessed[:4])}: `gaussworld physics` guesses it"
            " better, `gaussworld identify` finds it from a recording."
        )
    return said


def _solid(question: Any) -> list[WorldObject]:
    return [item for item in question.world.objects.values() if len(item.gaussians)]


def _moves(rollout: Rollout, row: int) -> bool:
    poses = rollout.states.object_poses[:, row]
    far = (poses[:, :3] - poses[0, :3]).norm(dim=-1).max() > _STILL_M
    cosine = (poses[:, 3:] * poses[0, 3:]).sum(-1).abs().clamp(max=1)
    return bool(far) or float(2 * torch.acos(cosine).max()) > _STILL_RAD
