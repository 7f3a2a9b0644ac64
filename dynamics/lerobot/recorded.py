"""What a robot did as an episode's files: tools in the arrays that all have, a robot's joints beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaussworld.errors import FileFormatError
from gaussworld.io.atomic import replacing
from gaussworld.io.json_object import read_object
from gaussworld.state import Action, ActionSpec, State

from ..episodes import FORMAT, VERSION, Episode, write_episode
from ..episodes.layout import ARRAYS, CARD, MOST_BYTES
from ..episodes.write import write_json
from .motion import Motion

#: A robot's joints are of no object, so they stand beside the arrays of every episode.
_JOINTS = ("robot_joints", "robot_rates", "robot_grip", "action_joints", "action_robot_grip")


def write_motion(folder: Path, card: Mapping[str, Any], motion: Motion) -> None:
    """Write an episode without objects.

    Args:
        folder: of the episode.
        card: what goes into episode.json.
        motion: states and actions of tools, or of joints.

    Raises:
        GaussWorldError: the file system refuses.
    """
    arrays = {name: value.numpy() for name, value in _arrays(motion).items()}
    if motion.actions.tools is not None:
        write_episode(folder, card, arrays)
        return
    from safetensors.numpy import save

    states, actions = motion.states, motion.actions
    assert actions.joints is not None
    grip = motion.grip[1:] if actions.grip is None else actions.grip
    values = (states.joint_positions, states.joint_rates, motion.grip, actions.joints, grip)
    arrays |= {name: value.numpy() for name, value in zip(_JOINTS, values)}
    with replacing(folder / ARRAYS) as file:
        file.write(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
    write_json(folder / CARD, {"format": FORMAT, "version": VERSION, **card})


def read_motion(folder: Path | str) -> Motion:
    """The states and actions of an imported episode, of tools or of joints.

    Raises:
        FileFormatError: no such episode, or a damaged one.
        CaptureError: its frame, rate or units are others.
    """
    folder = Path(folder)
    card = read_object(folder / CARD, MOST_BYTES, "an episode")
    spec = card.get("action_spec")
    if not isinstance(spec, dict) or not str(spec.get("kind")).startswith("joint"):
        episode = Episode(folder)
        return Motion(episode.states, episode.actions, episode.states.grip, 0)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        values = load_file(folder / ARRAYS)
        joints, rates, grip, action, action_grip = (values[name] for name in _JOINTS)
        states = _without_objects(values["time"], joint_positions=joints, joint_rates=rates)
        closing = action_grip if action_grip.shape[1] else None
        return Motion(states, Action(ActionSpec(**spec), joints=action, grip=closing), grip, 0)
    except (OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
        raise FileFormatError(
            f"{folder}: expected the joints of an imported episode, got none that can be read"
            f" ({error!s:.120}); import it again"
        ) from error


def _without_objects(time: Tensor, joint_positions: Tensor, joint_rates: Tensor) -> State:
    ids = tuple(range(1, 1 + joint_positions.shape[1]))
    poses = torch.zeros(len(time), 0, 7)
    return State(
        (), poses, joint_ids=ids, joint_positions=joint_positions, joint_rates=joint_rates, time=time
    )


def _arrays(motion: Motion) -> dict[str, Tensor]:
    """What every episode holds; what is not known of objects has no rows."""
    states, actions = motion.states, motion.actions
    count, tools = len(states), states.tool_poses.shape[1]
    told = actions.grip if actions.tools is not None else None
    return {
        "time": states.time,
        "tool_poses": states.tool_poses,
        "grip": states.grip,
        "object_poses": states.object_poses,
        "object_twists": states.object_twists,
        "joint_positions": torch.zeros(count, 0),
        "joint_rates": torch.zeros(count, 0),
        "points": torch.zeros(count, 0, 3),
        "contacts": torch.zeros(count, 0, tools, dtype=torch.bool),
        "action_tools": torch.zeros(count - 1, 0, 7) if actions.tools is None else actions.tools,
        "action_grip": torch.zeros(count - 1, tools) if told is None else told,
        "object_ids": torch.zeros(0, dtype=torch.int64),
        "joint_ids": torch.zeros(0, dtype=torch.int64),
        "point_objects": torch.zeros(0, dtype=torch.int64),
        "point_rest": torch.zeros(0, 3),
    }
