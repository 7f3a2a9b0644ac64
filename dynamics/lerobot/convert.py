"""A LeRobot dataset becomes a set of episodes; what it does not know, such as objects, stays unknown."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gaussworld.camera import Camera
from gaussworld.camera_record import camera_from_record, camera_record
from gaussworld.errors import ConfigError, FileFormatError
from gaussworld.io.atomic import appearing
from gaussworld.io.json_object import blaming, read_object
from gaussworld.io.video import write_video
from gaussworld.log import Done, Event, Notice, Progress

from ..episodes import FRAME, write_index
from ..tool import tool_named, tool_record
from .config import LeRobotConfig
from .dataset import Dataset, Recording, open_dataset
from .motion import Motion, check_columns, every, joint_names, motion_of
from .recorded import write_motion
from .rows import read_rows
from .videos import pictures


@dataclass(frozen=True)
class Imported:
    """What was made of a dataset."""

    folder: Path
    episodes: int
    steps: int
    rate_hz: float


def import_dataset(
    folder: Path | str,
    out: Path | str,
    config: LeRobotConfig,
    *,
    episodes: Sequence[int] = (),
    videos: bool = False,
    calibration: Path | str | None = None,
) -> Iterator[Event[Imported]]:
    """Write the states and actions of a LeRobot dataset as episodes; OUT appears when it is whole.

    Args:
        folder: the dataset: the folder that holds meta, data and videos.
        out: the folder to make.
        config: what the numbers mean.
        episodes: numbers of the episodes to take; default: all.
        videos: take the pictures along, one for each state.
        calibration: a JSON file with the record of a camera for features of pictures, in the world's frame.

    Raises:
        ConfigError: the meaning is incomplete, does not fit the dataset, or the folder is not empty.
        FileFormatError: the dataset cannot be read, contradicts itself, or holds NaN or other units.
        MissingDependency: pyarrow is not installed.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"expected a folder that is new or empty, got {out}; choose another")
    dataset = open_dataset(folder)
    check_columns(dataset, config)
    chosen = _chosen(dataset, episodes)
    cameras = _cameras(dataset, calibration)
    tools = [tool_record(tool_named(name)) for name in config.tools]
    with appearing(out) as temporary:
        work = _Work(dataset, config, cameras, tools, videos)
        yield from work.write(chosen, temporary)
    rate = dataset.fps / every(dataset, config)
    summary = f"Wrote {out}: {len(work.written)} episodes, {work.steps:,} steps at {rate:g} Hz."
    yield Done(Imported(out, len(work.written), work.steps, rate), summary)


class _Work:
    """What all episodes share, and what has been written of them."""

    def __init__(
        self,
        dataset: Dataset,
        config: LeRobotConfig,
        cameras: Mapping[str, Camera],
        tools: list[dict[str, Any]],
        videos: bool,
    ) -> None:
        self._dataset, self._config, self._cameras, self._tools = dataset, config, cameras, tools
        # Calibrated ones first: the numbers of their folders are then those of the list of cameras.
        seen = [name for name, feature in dataset.features.items() if feature.pictures]
        self._pictures = sorted(seen, key=lambda name: name not in cameras) if videos else []
        self.written: list[dict[str, Any]] = []
        self.steps = 0

    def write(self, chosen: Sequence[Recording], folder: Path) -> Generator[Progress | Notice, None, None]:
        clamped, need = 0, every(self._dataset, self._config) + 1
        for done, recording in enumerate(chosen):
            if recording.length < need:
                yield Notice(
                    f"Episode {recording.index} has {recording.length} of {need} rows for one step: left out."
                )
                continue
            motion = self._motion(recording)
            clamped += motion.clamped
            name = f"{self._config.family}-{recording.index:05d}"
            self._write_one(recording, motion, name, folder / name)
            self.steps += len(motion.actions)
            self.written.append(self._listed(recording, motion, name))
            yield Progress(done + 1, len(chosen), {"steps": float(self.steps)})
        if not self.written:
            raise FileFormatError(
                f"{self._dataset.folder}: expected episodes of {need} rows or more, got none"
            )
        if clamped:
            yield Notice(
                f"{clamped} numbers of grippers lay outside of --grip-range and were put to its ends."
            )
        write_index(folder, asdict(self._config), self.written)

    def _motion(self, recording: Recording) -> Motion:
        names = tuple(dict.fromkeys((self._config.state, self._config.action)))
        rows = read_rows(self._dataset, recording, names)
        return motion_of(self._dataset, self._config, rows, f"{recording.data}, episode {recording.index}")

    def _listed(self, recording: Recording, motion: Motion, name: str) -> dict[str, Any]:
        split = self._dataset.split_of(recording.index)
        return {
            "name": name,
            "family": self._config.family,
            "seed": -1,  # Nothing was drawn at random.
            "split": split if split in ("train", "val", "test") else "train",
            "steps": len(motion.actions),
        }

    def _write_one(self, recording: Recording, motion: Motion, name: str, folder: Path) -> None:
        folder.mkdir()
        for number, feature in enumerate(self._pictures):
            times = motion.states.time.double().numpy()
            video = folder / f"camera-{number}" / "rgb.mp4"
            write_video(
                video, pictures(self._dataset, recording, feature, times), motion.actions.spec.rate_hz
            )
        card = self._listed(recording, motion, name) | self._facts(recording, motion)
        write_motion(folder, card, motion)

    def _facts(self, recording: Recording, motion: Motion) -> dict[str, Any]:
        joints = [] if self._config.tool_kind else list(joint_names(self._dataset, self._config))
        calibrated = [name for name in self._pictures if name in self._cameras]
        return {
            "frame": FRAME,
            "rate_hz": motion.actions.spec.rate_hz,
            "action_spec": asdict(motion.actions.spec),
            "tools": self._tools if self._config.tool_kind else [],
            "objects": [],
            "joints": [{"id": number, "name": name} for number, name in enumerate(joints, 1)],
            "cameras": [
                camera_record(self._cameras[name]) | {"name": f"camera-{number}", "feature": name}
                for number, name in enumerate(calibrated)
            ],
            "videos": [
                {"folder": f"camera-{number}", "feature": name, "calibrated": name in calibrated}
                for number, name in enumerate(self._pictures)
            ],
            "ground": None,
            "physics": None,
            "policy": "recorded",
            "source": {
                "format": "LeRobot v{}.{}".format(*self._dataset.version),
                "dataset": self._dataset.folder.resolve().name,
                "episode": recording.index,
                "task": recording.task,
                "robot": self._dataset.robot,
            },
        }


def _chosen(dataset: Dataset, numbers: Sequence[int]) -> list[Recording]:
    there = {recording.index: recording for recording in dataset.recordings}
    for number in numbers:
        if number not in there:
            raise ConfigError(f"--episodes: expected numbers from {min(there)} to {max(there)}, got {number}")
    return [there[number] for number in dict.fromkeys(numbers)] if numbers else list(dataset.recordings)


def _cameras(dataset: Dataset, path: Path | str | None) -> dict[str, Camera]:
    if path is None:
        return {}
    path, cameras = Path(path), {}
    for name, record in read_object(path, 1 << 24, "cameras by the name of their feature").items():
        feature = dataset.features.get(name)
        if feature is None or not feature.pictures:
            known = ", ".join(n for n, f in dataset.features.items() if f.pictures) or "none"
            raise FileFormatError(f"{path}: expected features of pictures ({known}), got {name!r:.60}")
        with blaming(f"{path}, {name}"):
            camera = camera_from_record(record)
        if sorted(feature.shape)[-2:] != sorted((camera.height, camera.width)):
            got = f"{camera.width}x{camera.height}"
            raise FileFormatError(
                f"{path}, {name}: expected a camera of the pictures' size, {feature.shape},"
                f" got {got} px; rescale it"
            )
        cameras[name] = camera
    return cameras
