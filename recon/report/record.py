"""The facts of a run: everything that goes to report.json, as plain values."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaussworld.errors import FileFormatError
from gaussworld.io.atomic import replacing

from ..evaluate import Scores, ViewScore

FORMAT = 1
JSON_NAME = "report.json"
_DIGITS = 6
MARKS = (20.0, 25.0, 28.0, 30.0, 32.0, 35.0)
"""[dB] whose times are told, where the curve reaches them."""


@dataclass(frozen=True)
class CurvePoint:
    """How good the fit was at one moment of training."""

    seconds: float
    """[s] of training, evaluations not counted."""
    step: int
    psnr: float
    """[dB] mean over the judged pictures."""
    gaussians: int


@dataclass(frozen=True)
class Report:
    """What a run was given, what it made of it, how good that is, and what it cost."""

    title: str
    """Names the scene to a person."""
    input: str
    """The path as the user gave it."""
    input_kind: str
    """In words: "folder of images", "video", "COLMAP model"."""
    images_given: int
    images_used: int
    """Those that got a camera, training and held-out together."""
    gaussians: int
    sh_degree: int
    scores: Mapping[str, Scores] = field(default_factory=dict)
    """By split; "test" are pictures that no part of the training saw."""
    curve: tuple[CurvePoint, ...] = ()
    curve_split: str = "test"
    """The pictures that the curve judges."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """[s] of wall time by stage, in order; of all sittings, where the run was stopped and gone on with."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Name and reason of every picture that was not used."""
    video_frames: int | None = None
    """Frames of videos that the pictures were chosen from; None where they are no frames of videos."""
    peak_memory: int | None = None
    """[bytes] of main memory."""
    peak_device_memory: int | None = None
    """[bytes] on the GPU, where one was used."""
    scale: Mapping[str, Any] | None = None
    """metres_per_unit [m] (None: unknown), source, confidence (a word, or 0 to 1), detail."""
    up: Mapping[str, Any] | None = None
    """direction (three numbers in the frame of scene.ply), source, confidence, detail."""
    trajectory: Mapping[str, Any] | None = None
    """Against true poses: ate_rmse, ate_median, ate_max, rpe_translation [m], rpe_rotation_deg [deg], and how
    many cameras."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Preset and what was changed, in words."""
    machine: Mapping[str, str] = field(default_factory=dict)
    files: tuple[tuple[str, str], ...] = ()
    """Files beside the report: path relative to it, and what it is."""
    video: str | None = "turntable.mp4"
    """A turning picture of the scene beside the report."""
    notes: tuple[str, ...] = ()
    """Sentences the reader should know."""
    created: str = ""
    """When, as ISO 8601."""

    @property
    def judged(self) -> str | None:
        """The split whose scores are the run's: the one training knew least of."""
        return next((split for split in ("test", "validation", "train") if _has_views(self, split)), None)

    @property
    def metres_per_unit(self) -> float | None:
        """[m] None while nobody knows."""
        return None if self.scale is None else self.scale.get("metres_per_unit")

    def time_to(self, psnr: float) -> float | None:
        """[s] of training until the curve first reached so much PSNR [dB]; None if it never did."""
        return next((point.seconds for point in self.curve if point.psnr >= psnr), None)


def save_record(folder: Path, report: Report) -> None:
    """Write report.json; the old one stays until the new one is whole."""
    text = json.dumps(as_json(report), indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(folder / JSON_NAME) as file:
        # Names of files need not be valid text.
        file.write((text + "\n").encode("utf-8", "backslashreplace"))


def read_report(folder: Path) -> dict[str, Any]:
    """What report.json in a run folder says.

    Raises:
        FileFormatError: it is missing, malformed, or of another version.
    """
    path = folder / JSON_NAME
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: expected the report of a run, got no such file") from error
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: expected the report of a run as JSON, got: {error}") from error
    version = read.get("format") if isinstance(read, dict) else None
    if version != FORMAT:
        raise FileFormatError(
            f"{path}: expected a report of format {FORMAT}, got {version}; write it again with this version"
        )
    return read


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON's own types; what is not known, NaN or infinite is null."""
    record = {"format": FORMAT, **{name: getattr(report, name) for name in vars(report)}}
    record["scores"] = {split: _scores(scores) for split, scores in report.scores.items()}
    record["curve"] = [vars(point) for point in report.curve]
    record["time_to_psnr"] = {f"{mark:g}": report.time_to(mark) for mark in MARKS} if report.curve else {}
    record["left_out"] = [{"name": name, "reason": reason} for name, reason in report.left_out]
    record["files"] = [{"path": path, "what": what} for path, what in report.files]
    return _plain(record)


def _scores(scores: Scores) -> dict[str, Any]:
    means = {name: getattr(scores, name) for name in ("psnr", "ssim", "lpips", "depth_error")}
    return {**means, "views": [_view(view) for view in scores.views]}


def _view(view: ViewScore) -> dict[str, Any]:
    return dict(vars(view))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(
        f"Report: expected numbers, words, lists and mappings, got {type(value).__name__}: {value}"
    )


def _has_views(report: Report, split: str) -> bool:
    return split in report.scores and bool(report.scores[split].views)
