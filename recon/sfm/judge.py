"""Is a model to be believed: how many of the matches it explains, and which of its cameras are outliers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .background import colmap
from .database import verified_pairs

#: [px] Matches this far off their epipolar lines are not explained.
_OFF_LINE = 4.0
#: Pairs with fewer matches are wrong too often to testify against a camera that has better ones.
_STRONG_PAIR = 30
_FEWEST_POINTS = 12
_FEWEST_EXPLAINED = 0.5
#: A camera so many times farther from the middle than the median camera is no part of the scene.
_FAR = 15.0


@dataclass(frozen=True)
class Verdict:
    """What the matches say about a model."""

    agreement: float
    """Share of the verified matches between its pictures that its geometry explains, range [0, 1]."""
    outliers: dict[str, str]
    """Reason by name of each camera that should go."""


def judge(database: Path, model: Any, pair_inliers: int) -> Verdict:
    """Test all verified matches against the cameras: a folded or drifted model contradicts many of them.

    The number of points and their reprojection error do not show it: they are of what fits.

    Args:
        database: the matches.
        model: COLMAP's reconstruction.
        pair_inliers: pairs with fewer matches do not count.
    """
    images = {key: image for key, image in model.images.items() if image.has_pose}
    rays, focals = _rays(database, model, images)
    totals = {key: np.zeros((2, 2)) for key in images}
    explained = total = 0
    for first, second, matches in verified_pairs(database, pair_inliers):
        if first in images and second in images:
            pair = images[second].cam_from_world() * images[first].cam_from_world().inverse()
            focal = (focals[first] + focals[second]) / 2
            off = _off_line(rays[first][matches[:, 0]], rays[second][matches[:, 1]], pair) * focal
            good = int((off < _OFF_LINE).sum())
            explained, total = explained + good, total + len(matches)
            strong = int(len(matches) >= _STRONG_PAIR)
            for key in (first, second):
                totals[key][strong] += (good, len(matches))
    return Verdict(explained / max(total, 1), _outliers(images, totals))


def _rays(
    database: Path, model: Any, images: dict[int, Any]
) -> tuple[dict[int, np.ndarray], dict[int, float]]:
    """Features on the plane z = 1 (n 3), free of the lens' distortion, and focal lengths [px]."""
    rays, focals = {}, {}
    with colmap().Database.open(database) as opened:
        for key, image in images.items():
            camera = model.cameras[image.camera_id]
            plane = camera.cam_from_img(opened.read_keypoints(key)[:, :2].astype(np.float64))
            rays[key] = np.concatenate([plane, np.ones((len(plane), 1))], axis=1)
            focals[key] = camera.mean_focal_length()
    return rays, focals


def _off_line(first: np.ndarray, second: np.ndarray, second_from_first: Any) -> np.ndarray:
    """Sampson distances on the plane z = 1 (Hartley and Zisserman 2004, eq. 11.9)."""
    essential = colmap().essential_matrix_from_pose(second_from_first)
    lines, back = first @ essential.T, second @ essential
    norm = (lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1)
    return np.abs((second * lines).sum(1)) / np.sqrt(norm + 1e-20)


def _outliers(images: dict[int, Any], totals: dict[int, np.ndarray]) -> dict[str, str]:
    centers = {key: np.asarray(image.projection_center()) for key, image in images.items()}
    middle = np.median(list(centers.values()), axis=0)
    distances = {key: float(np.linalg.norm(center - middle)) for key, center in centers.items()}
    usual = float(np.median(list(distances.values())))
    outliers = {}
    for key, image in images.items():
        weak, strong = totals[key]
        good, count = strong if strong[1] else weak
        if image.num_points3D < _FEWEST_POINTS:
            outliers[image.name] = f"sees only {image.num_points3D} of the model's points"
        elif good < _FEWEST_EXPLAINED * count:
            outliers[image.name] = f"{1 - good / count:.0%} of its matches contradict its place in the model"
        elif distances[key] > _FAR * usual:
            outliers[image.name] = f"lies {distances[key] / usual:.0f} times farther out than the others"
    return outliers
