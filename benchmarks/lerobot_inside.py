"""What lerobot_environment.py runs in lerobot's environment: `write FOLDER` or `read FOLDER OUT.npz`.

Writes small datasets with lerobot itself, and reads them back with lerobot's own loader.
"""

import importlib
import inspect
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

# torchvision's ordinary wheel describes operators that it lacks beside torch's CPU build when it loads.
OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

FRAMES = (12, 9)
SIDE = 64


def main() -> None:
    job, folder = sys.argv[1], Path(sys.argv[2])
    if job == "write":
        for name, make in {"pusht": pusht, "aloha": aloha}.items():
            shutil.rmtree(folder / name, ignore_errors=True)
            write(folder / name, *make())
    else:
        np.savez(sys.argv[3], **read(folder))  # pyright: ignore[reportArgumentType]


def pusht() -> tuple[int, dict[str, Any], list[list[dict[str, Any]]]]:
    """Rate, features and frames in the layout of lerobot/pusht: pixels of gym-pusht, one camera."""
    motors = {"dtype": "float32", "shape": (2,), "names": {"motors": ["motor_0", "motor_1"]}}
    video = {"dtype": "video", "shape": (SIDE, SIDE, 3), "names": ["height", "width", "channel"]}
    features = {"observation.image": video, "observation.state": motors, "action": motors}
    episodes = []
    for episode, count in enumerate(FRAMES):
        turn = 0.3 * np.arange(count) + episode
        at = np.stack([256 + 120 * np.cos(turn), 256 + 90 * np.sin(turn)], 1).astype(np.float32)
        to = (at + np.array([7.5, -3.25])).astype(np.float32)
        episodes.append(
            [
                {"observation.image": picture(episode, i), "observation.state": at[i], "action": to[i]}
                for i in range(count)
            ]
        )
    return 10, features, episodes


def picture(episode: int, frame: int) -> np.ndarray:
    """Grey that tells the frame, so that a picture taken from another row shows."""
    return np.full((SIDE, SIDE, 3), 40 + 90 * episode + 7 * frame, np.uint8)


def aloha() -> tuple[int, dict[str, Any], list[list[dict[str, Any]]]]:
    """Rate, features and frames in the layout of lerobot/aloha_sim_*: fourteen motors at 50 Hz, no camera."""
    joints = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
    names = [f"{side}_{joint}" for side in ("left", "right") for joint in joints]
    motors = {"dtype": "float32", "shape": (14,), "names": {"motors": names}}
    episodes = []
    for episode, count in enumerate(FRAMES):
        rows = np.sin(np.arange(14) + 0.05 * np.arange(count)[:, None] + episode).astype(np.float32)
        rows[:, [6, 13]] = 0.5 + 0.5 * rows[:, [6, 13]]
        later = np.roll(rows, -1, 0)
        episodes.append([{"observation.state": rows[i], "action": later[i]} for i in range(count)])
    return 50, {"observation.state": motors, "action": motors}, episodes


def write(folder: Path, fps: int, features: dict[str, Any], episodes: list[list[dict[str, Any]]]) -> None:
    module = importlib.import_module("lerobot.datasets.lerobot_dataset")
    known = inspect.signature(module.LeRobotDataset.create).parameters
    # H.264 where it can be chosen: the other versions write AV1.
    more = {"vcodec": "h264"} if "vcodec" in known else {}
    made = module.LeRobotDataset.create(
        f"gaussworld/{folder.name}", fps=fps, features=features, root=folder, robot_type="simulated", **more
    )
    for episode in episodes:
        for frame in episode:
            if "task" in inspect.signature(made.add_frame).parameters:
                made.add_frame(dict(frame), task="Push it.")
            else:
                made.add_frame({**frame, "task": "Push it."})
        made.save_episode()
    if hasattr(made, "finalize"):
        made.finalize()
    shutil.rmtree(folder / "images", ignore_errors=True)


def read(folder: Path) -> dict[str, np.ndarray]:
    """Every number of a dataset as lerobot's own loader gives it, by column."""
    module = importlib.import_module("lerobot.datasets.lerobot_dataset")
    loaded = module.LeRobotDataset(f"gaussworld/{folder.name}", root=folder)
    columns: dict[str, np.ndarray] = {
        name: np.stack([np.asarray(value) for value in loaded.hf_dataset[:][name]])
        for name in ("observation.state", "action", "timestamp", "frame_index", "episode_index")
    }
    facts = {"version": module.CODEBASE_VERSION, "fps": loaded.fps, "episodes": loaded.num_episodes}
    assert math.isclose(float(columns["timestamp"][1]), 1 / loaded.fps, rel_tol=1e-5)
    return columns | {"facts": np.array(json.dumps(facts))}


if __name__ == "__main__":
    main()
