"""The result on disk: the model in sparse/0, and sfm.json that says of which pictures and settings it is."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gaussworld.capture import Capture, Frame
from gaussworld.errors import FileFormatError
from gaussworld.io.atomic import replacing
from gaussworld.io.colmap_lens import BY_ID, camera_from
from gaussworld.pose import invert_pose

from .background import colmap
from .pictures import Pictures
from .settings import Attempt, SfmConfig, SfmResult

#: Raised whenever the same pictures and settings give something else.
VERSION = 1


def signature(pictures: Pictures, config: SfmConfig, ordered: bool) -> dict[str, Any]:
    """What a finished result belongs to."""
    return pictures.signature(version=VERSION, config=config, ordered=ordered)


def read_result(work: Path, pictures: Pictures, wanted: dict[str, Any]) -> SfmResult | None:
    """What an earlier run on the same pictures with the same settings found; None where there is no such."""
    record, folder = work / "sfm.json", work / "sparse" / "0"
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        if said["made_from"] != json.loads(json.dumps(wanted)):
            return None
        attempts = tuple(Attempt(**attempt) for attempt in said["attempts"])
        left_out = tuple((str(name), str(reason)) for name, reason in said["left_out"])
        capture = capture_of(colmap().Reconstruction(folder), pictures)
        return SfmResult(capture, left_out, attempts, float(said["reprojection_error"]))
    # An absent, foreign or damaged record or model means that the work is done anew.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def write_result(work: Path, model: Any, result: SfmResult, made_from: dict[str, Any]) -> None:
    """Put model and record into the work folder; the record comes last, and only with its own model."""
    folder, fresh = work / "sparse" / "0", work / "sparse" / ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    model.write_binary(fresh)
    (work / "sfm.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    said = {
        "made_from": made_from,
        "registered": len(result.capture),
        "reprojection_error": result.reprojection_error,
        "left_out": result.left_out,
        "attempts": [asdict(attempt) for attempt in result.attempts],
    }
    with replacing(work / "sfm.json") as file:
        file.write(json.dumps(said, indent=2).encode())


def capture_of(model: Any, pictures: Pictures) -> Capture:
    """COLMAP's reconstruction as a capture; frames in the order in which the pictures were given.

    Raises:
        FileFormatError: the model holds none of the pictures.
    """
    images = {image.name: image for image in model.images.values() if image.has_pose}
    frames = []
    for picture in pictures.all:
        if (image := images.get(picture.name)) is None:
            continue
        camera = model.cameras[image.camera_id]
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3] = torch.from_numpy(image.cam_from_world().matrix())
        lens, parameters = BY_ID[int(camera.model)], [float(value) for value in camera.params]
        world_from_camera = invert_pose(pose).float()
        frames.append(
            Frame(camera_from(lens, camera.width, camera.height, parameters, world_from_camera), picture.path)
        )
    if not frames:
        raise FileFormatError("expected a model of these pictures, got one of others; delete its folder")
    points = [model.points3D[key] for key in sorted(model.points3D)]
    positions = torch.tensor([point.xyz.tolist() for point in points], dtype=torch.float32).reshape(-1, 3)
    colors = torch.tensor([point.color.tolist() for point in points], dtype=torch.float32).reshape(-1, 3)
    return Capture(tuple(frames), positions, colors / 255)
