"""What each frame of a video is worth: its sharpness, how far the picture has moved, whether it repeats."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaussworld.errors import MissingDependency
from gaussworld.io.video import GreyFrame

#: Longer side [px] of the pictures in which points are followed.
_TRACKED = 480
#: New points are taken once the old ones have moved this far [% of the picture's width]: near enough for them
#: to look alike, far enough for the shaking of a hand that stands still not to add up to a long way.
_NEW_POINTS = 2.0
_POINTS = 250
_FEWEST_POINTS = 12
#: Share of the points that must be found again.
_FOUND = 0.35
#: Points that come back farther than this [px] from where they started were lost on the way.
_RETURN = 1.0
#: Peak of the phase correlation above which its shift is believed; of unrelated pictures it stays below 0.05.
_PEAK = 0.12
#: Where nothing can be followed for so long [s], the scene has been cut.
_LOST = 0.15
#: Mean difference [grey levels] below which two frames are the same one.
_SAME = 0.2


@dataclass(frozen=True)
class Sighting:
    """One decoded frame of a video."""

    index: int
    """Number of the frame in the file, from 0."""
    time: float
    """[s]"""
    sharpness: float
    """Standard deviation of the Laplacian of Gaussian [grey levels]; to be compared within one scene only."""
    travelled: float
    """How far the picture has moved since the first frame [% of its width], the median of points followed."""
    same_as: int | None = None
    """The frame that this one repeats."""
    lost: bool = False
    """Nothing of the frames before is found in it: too dark, flat or blurred."""
    cut: bool = False
    """A new scene begins."""


def sightings(frames: Iterable[GreyFrame]) -> Iterator[Sighting]:
    """Judge the frames of one video, in order, holding only three small pictures at a time.

    Points are followed by pyramidal Lucas-Kanade, there and back (Bouguet, Pyramidal implementation of the
    affine Lucas Kanade feature tracker, 2001); a shift too fast for that is measured by phase correlation.

    Args:
        frames: as `gaussworld.io.video.read_grey` gives them.

    Raises:
        MissingDependency: OpenCV is not installed.
    """
    track, before, unlike = None, None, None
    for frame in frames:
        picture = frame.picture.numpy()
        small, sharpness = _shrunk(picture), _sharpness(picture)
        if track is None or before is None or small.shape != before.shape:
            track = _Track(small, frame.time, track.travelled if track else 0.0)
            lost, cut, unlike = False, before is not None, frame.index
        elif float(_cv2().norm(small, before, _cv2().NORM_L1)) < _SAME * small.size:
            # Compared with the first of its like, not with the last: slow motion would look like no motion.
            yield Sighting(frame.index, frame.time, sharpness, track.travelled, same_as=unlike)
            continue
        else:
            lost, cut = track.step(small, frame.time)
        before, unlike = small, frame.index
        yield Sighting(frame.index, frame.time, sharpness, track.travelled, lost=lost, cut=cut)


class _Track:
    """Points of one picture, followed through those after it."""

    def __init__(self, small: np.ndarray, time: float, travelled: float) -> None:
        self.travelled = travelled
        self._start(small)
        self._last, self._seen = small, time

    def step(self, small: np.ndarray, time: float) -> tuple[bool, bool]:
        """Follow the points into the next picture; whether that failed, and whether a new scene begins."""
        (moved, found), shift = self._follow(small), None
        if moved is not None:
            self.travelled = self._base + moved
        elif (shift := self._slide(small)) is not None:
            self.travelled += shift
        lost = moved is None and shift is None
        cut = lost and time - self._seen >= _LOST
        if cut or not lost:
            self._last, self._seen = small, time
            if moved is None or moved > _NEW_POINTS or found < 2 * _FOUND:
                self._start(small)
        return lost and not cut, cut

    def _start(self, small: np.ndarray) -> None:
        """Take new points in this picture."""
        self._first, self._base = small, self.travelled
        apart = 0.03 * small.shape[1]
        points = _cv2().goodFeaturesToTrack(small, _POINTS, 0.01, apart)
        self._points = np.zeros((0, 1, 2), np.float32) if points is None else points
        self._now = self._points.copy()

    def _follow(self, small: np.ndarray) -> tuple[float | None, float]:
        """The median way of the points [% of the width], None where too few were found; the share found."""
        if len(self._points) < _FEWEST_POINTS:
            return None, 0.0
        cv2 = _cv2()
        how: dict[str, Any] = {"winSize": (17, 17), "maxLevel": 4, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
        there, ok, _ = cv2.calcOpticalFlowPyrLK(self._first, small, self._points, self._now.copy(), **how)
        back, ok_back, _ = cv2.calcOpticalFlowPyrLK(small, self._first, there, self._points.copy(), **how)
        off = np.linalg.norm((back - self._points)[:, 0], axis=1)
        kept = (ok[:, 0] > 0) & (ok_back[:, 0] > 0) & (off < _RETURN)
        if kept.sum() < max(_FEWEST_POINTS, _FOUND * len(kept)):
            return None, float(kept.mean())
        ways = (there - self._points)[kept, 0]
        # Points that were lost set out again from where most of the others are.
        self._now = np.where(kept[:, None, None], there, self._points + np.median(ways, axis=0))
        moved = float(np.median(np.linalg.norm(ways, axis=1)))
        return 100 * moved / small.shape[1], float(kept.mean())

    def _slide(self, small: np.ndarray) -> float | None:
        """The shift of the whole picture since the last one followed [% of the width]; None if unclear."""
        cv2 = _cv2()
        window = cv2.createHanningWindow(small.shape[::-1], cv2.CV_32F)
        pair = self._last.astype(np.float32), small.astype(np.float32)
        (x, y), peak = cv2.phaseCorrelate(*pair, window)
        return 100 * float(np.hypot(x, y)) / small.shape[1] if peak > _PEAK else None


def _shrunk(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape
    scale = min(1.0, _TRACKED / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _cv2().resize(picture, size, interpolation=_cv2().INTER_AREA) if scale < 1 else picture


def _sharpness(picture: np.ndarray) -> float:
    """Smoothing first keeps sensor noise and compression blocks from passing for detail."""
    cv2 = _cv2()
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    return float(cv2.meanStdDev(cv2.Laplacian(smooth, cv2.CV_16S))[1].item())


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency(
            "expected OpenCV to choose frames of a video, found none;"
            " run `pip install opencv-python-headless`"
        ) from error
    return cv2
