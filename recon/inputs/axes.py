"""Which way cameras look: readings of their poses, judged by optical axes and by matches in pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Frame
from gaussworld.errors import GaussWorldError
from gaussworld.io.images import read_frame
from gaussworld.pose import OPENGL_FROM_OPENCV, invert_pose
from gaussworld.threads import one_torch_thread

Reading = Callable[[Float[Tensor, "4 4"]], Float[Tensor, "4 4"]]

AS_READ = "as read"
FLIPPED = "flipped"
#: What else the poses of a file could mean.
READINGS: Mapping[str, Reading] = {
    AS_READ: lambda pose: pose,
    FLIPPED: lambda pose: pose @ OPENGL_FROM_OPENCV.to(pose),
    "inverted": invert_pose,
    # A file of world-to-camera poses, after its reader turned the axes of what it took for camera-to-world.
    "turned and inverted": lambda pose: invert_pose(pose @ OPENGL_FROM_OPENCV.to(pose)),
    "inverted and flipped": lambda pose: invert_pose(pose) @ OPENGL_FROM_OPENCV.to(pose),
}
#: Those that relative poses, and therefore matches, can tell from each other.
TELLING: Mapping[str, Reading] = {
    name: reading for name, reading in READINGS.items() if name != "turned and inverted"
}
#: What is wrong with poses that one of them fits, and what to do.
ADVICE: Mapping[str, str] = {
    FLIPPED: (
        "have their axes flipped: they look like OpenGL's (y up, z backward) taken for OpenCV's (y down, z"
        " forward) or the reverse; negate the second and third column of every camera-to-world matrix"
    ),
    **dict.fromkeys(
        list(READINGS)[2:], "are world-to-camera taken for camera-to-world; invert every matrix of the file"
    ),
}

#: [px] the longer side of pictures when features are matched, and how far off a match may be at that size.
_MATCHED_SIZE, _TOLERANCE = 640, 3.0
#: Votes after which no more pictures are looked at.
_ENOUGH = 100


@dataclass(frozen=True)
class Meeting:
    """Where the optical axes of several cameras come closest to each other."""

    point: Float[Tensor, "3"]
    along: Float[Tensor, " n"]
    """Signed distance of that point along each camera's forward axis [unit of the poses]."""
    off: Float[Tensor, " n"]
    """The angle between each optical axis, taken as a line, and the direction to the point [rad]."""

    def side(self) -> int:
        """1 when the point lies ahead of nearly all cameras and near the middle of their view, -1 when behind
        nearly all, 0 when the axes do not tell."""
        met = self.off < 0.35
        if len(met) < 2 or float(met.double().mean()) < 0.9:
            return 0
        ahead = float((self.along > 0).double().mean())
        return 1 if ahead >= 0.9 else -1 if ahead <= 0.1 else 0


def meeting(cameras: Sequence[Camera]) -> Meeting | None:
    """The point nearest to all optical axes (least squares); None when they are parallel to some degrees."""
    poses = torch.stack([camera.world_from_camera.detach().cpu().double() for camera in cameras])
    axes, centers = poses[:, :3, 2], poses[:, :3, 3]
    across = torch.eye(3).double() - axes[:, :, None] * axes[:, None, :]
    if float(torch.linalg.eigvalsh(across.mean(0))[0]) < 5e-3:
        return None
    point = torch.linalg.solve(across.sum(0), (across @ centers[..., None]).sum(0))[:, 0]
    along = ((point - centers) * axes).sum(-1)
    away = (point - centers - along[:, None] * axes).norm(dim=-1)
    return Meeting(point, along, torch.atan2(away, along.abs()))


def points_in_view(
    cameras: Sequence[Camera], points: Float[Tensor, "m 3"], most: int = 2000
) -> dict[str, Int[Tensor, " n"]]:
    """How many of (at most so many of) the points each camera has in view, by each reading of its pose."""
    rows = torch.linspace(0, len(points) - 1, min(most, len(points))).long()
    sample = points.detach().cpu()[rows].double()
    return {
        name: torch.stack([_in_view(camera.to("cpu"), reading, sample).sum() for camera in cameras])
        for name, reading in READINGS.items()
    }


def _in_view(camera: Camera, reading: Reading, points: Float[Tensor, "m 3"]) -> Bool[Tensor, " m"]:
    pose = reading(camera.world_from_camera.detach().double())
    # Perspective lenses' polynomials fold far points back into the picture; a fisheye sees beside itself.
    lens = camera if camera.model is CameraModel.FISHEYE else camera.undistorted()
    pixels, depth = replace(lens, world_from_camera=pose).project(points)
    inside = (pixels >= 0) & (pixels < pixels.new_tensor([camera.width, camera.height]))
    return inside.all(-1) & ((depth > 0) | torch.tensor(camera.model is CameraModel.FISHEYE))


@dataclass(frozen=True)
class Votes:
    """How matches between pictures bear out readings of the poses."""

    matches: int
    fitting: Mapping[str, int]
    """Of them, those that fit each reading."""

    def winner(self, least: int = 25) -> str | None:
        """The reading that most matches fit, if others are far behind; None when the pictures do not tell."""
        name = max(self.fitting, key=lambda name: self.fitting[name])
        others = max((count for other, count in self.fitting.items() if other != name), default=0)
        wanted = max(least, 3 * others, self.matches // 2)
        return name if self.fitting[name] >= wanted else None


def agreement(frames: Sequence[Frame], readings: Mapping[str, Reading]) -> Votes:
    """Match pictures, pair by pair until one reading of their poses has won.

    A match fits when its two rays pass each other within a few pixels in front of both cameras, or are
    parallel. A picture that cannot be read matches none.

    Args:
        frames: near ones in this order should see the same things.
        readings: by name, what to make of each pose that was read.
    """
    votes = Votes(0, dict.fromkeys(readings, 0))
    seen: dict[int, _Features] = {}
    with one_torch_thread():
        for pair in _pairs(len(frames)):
            for index in pair:
                seen[index] = seen.get(index) or _features(frames[index])
            votes = _with_pair(votes, frames, pair, seen, readings)
            if votes.winner(_ENOUGH):
                break
    return votes


def _with_pair(
    votes: Votes,
    frames: Sequence[Frame],
    pair: tuple[int, int],
    seen: Mapping[int, "_Features"],
    readings: Mapping[str, Reading],
) -> Votes:
    """The votes, and those of one more pair."""
    a, b = (seen[index] for index in pair)
    first, second = _matched(a, b)
    poses = [frames[index].camera.world_from_camera.detach().cpu().double() for index in pair]
    tolerance = max(a.tolerance, b.tolerance)
    fitting = {
        name: votes.fitting[name] + _fitting(reading(poses[0]), first, reading(poses[1]), second, tolerance)
        for name, reading in readings.items()
    }
    return Votes(votes.matches + len(first), fitting)


@dataclass(frozen=True)
class _Features:
    """SIFT features of one picture."""

    rays: Float[Tensor, "n 3"]
    """Unit directions in the camera frame."""
    descriptors: Float[Tensor, "n d"]
    tolerance: float
    """[rad] the angle of some pixels at the middle of the picture."""


def _features(frame: Frame) -> _Features:
    try:
        image, camera = read_frame(frame)
    except GaussWorldError:
        return _Features(torch.zeros(0, 3).double(), torch.zeros(0, 128), 0.0)
    camera = camera.to("cpu")
    scale = min(1.0, _MATCHED_SIZE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    grey = image[..., :3].detach().cpu().float().mean(-1)[None, None]
    small = torch.nn.functional.interpolate(grey, (height, width), mode="area")[0, 0]
    pixels, descriptors = _sift((small.clamp(0, 1) * 255).to(torch.uint8).numpy())
    rays = camera.directions(pixels * pixels.new_tensor([camera.width / width, camera.height / height]))
    return _Features(rays.double(), descriptors, _TOLERANCE / (float(camera.K[0, 0]) * scale))


def _sift(grey: np.ndarray) -> tuple[Tensor, Tensor]:
    """Positions (n, 2) [px] and unit descriptors (n, 128) of a grey picture's features (Lowe 2004)."""
    import pycolmap

    level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, pycolmap.logging.Level.WARNING.value
    try:
        options = pycolmap.FeatureExtractionOptions()
        options.sift.max_num_features = 2000
        options.sift.first_octave = 0
        options.num_threads = 1
        extractor = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)
        keypoints, descriptors = extractor.extract_from_uint8_array(np.ascontiguousarray(grey))
    finally:
        pycolmap.logging.minloglevel = level
    positions = torch.tensor([[point.x, point.y] for point in keypoints], dtype=torch.float64)
    values = torch.from_numpy(np.array(descriptors.data, dtype=np.float32)).reshape(-1, 128)
    return positions.reshape(-1, 2), torch.nn.functional.normalize(values, dim=-1)


def _matched(a: _Features, b: _Features) -> tuple[Tensor, Tensor]:
    """Rays (m, 3) of features that are each other's nearest, and clearly nearer than the second (ratio 0.8).

    Of unit descriptors, 1 minus the cosine is half the squared distance.
    """
    if len(a.rays) < 2 or len(b.rays) < 2:
        return a.rays[:0], b.rays[:0]
    alike = a.descriptors @ b.descriptors.T
    nearest = alike.topk(2, dim=1)
    (best, runner_up), to = nearest.values.unbind(1), nearest.indices[:, 0]
    mutual = alike.argmax(0)[to] == torch.arange(len(to))
    clear = (1 - best).clamp(min=0) < 0.64 * (1 - runner_up)
    rows = (mutual & clear).nonzero()[:, 0]
    return a.rays[rows], b.rays[to[rows]]


def _fitting(first: Tensor, rays1: Tensor, second: Tensor, rays2: Tensor, tolerance: float) -> int:
    """How many pairs of rays (m, 3), of cameras at these poses, meet in front of both cameras."""
    d1, d2 = rays1 @ first[:3, :3].T, rays2 @ second[:3, :3].T
    base = second[:3, 3] - first[:3, 3]
    cosine = (d1 * d2).sum(-1)
    sine2 = (1 - cosine * cosine).clamp(min=1e-12)
    # The nearest points of two lines: s1 d1 and base + s2 d2, with the line between them across both.
    along1, along2 = d1 @ base, d2 @ base
    s1, s2 = (along1 - cosine * along2) / sine2, (cosine * along1 - along2) / sine2
    gap = (s1[:, None] * d1 - base - s2[:, None] * d2).norm(dim=-1)
    meets = gap < tolerance * torch.minimum(s1, s2)
    # Which of two almost parallel rays' ends is nearer drowns in noise; they meet far away.
    return int((meets | ((d1 - d2).norm(dim=-1) < tolerance)).sum())


def _pairs(count: int) -> list[tuple[int, int]]:
    """All pairs of a few frames; of many, some near each other here and there in the sequence."""
    if count <= 5:
        return list(combinations(range(count), 2))
    # A tenth of a ring apart, pictures may have too little in common; the next frame of a video is too like.
    pairs = []
    for gap in dict.fromkeys((count // 10 + 1, max(1, count // 25), 1)):
        starts = torch.linspace(0, count - 1 - gap, 3).round().int().unique().tolist()
        pairs += [(start, start + gap) for start in starts]
    return pairs
