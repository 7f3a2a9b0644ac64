"""What structure from motion can be told, what one attempt is made with, and what comes of it."""

from dataclasses import dataclass, replace
from typing import Literal

from gaussworld.capture import Capture

Mapper = Literal["global", "incremental"]


@dataclass(frozen=True)
class SfmConfig:
    """How cameras are found."""

    max_side: int = 1200
    """[px] Larger pictures are shrunk to this longer side to find features; a retry may use more."""
    max_features: int = 8192
    """At most so many features a picture; a retry may use twice as many."""
    matching: Literal["auto", "exhaustive", "sequential", "similar"] = "auto"
    """Which pictures are compared: all, neighbours in time and those that look alike, or only those that look
    alike. auto: all up to 60 pictures, more of a video sequential, more of photographs similar."""
    mapper: Literal["auto", "global", "incremental"] = "auto"
    """auto: global first where EXIF tells the focal length, else incremental; the other one when pictures are
    left over or the matches contradict the model."""
    one_camera: Literal["auto", "yes", "no"] = "auto"
    """Whether pictures share a lens; auto: those of equal size and EXIF do."""
    lens: Literal["auto", "pinhole", "radial", "opencv", "fisheye"] = "auto"
    """auto: one radial term; the whole OpenCV model and principal point where they explain clearly more. A
    fisheye has to be said."""
    seed: int = 0
    """The same seed, pictures and settings give the same features, matches and incremental model."""

    def __post_init__(self) -> None:
        if self.max_side < 64:
            raise ValueError(f"SfmConfig.max_side: expected at least 64 px, got {self.max_side}")
        if self.max_features < 64:
            raise ValueError(f"SfmConfig.max_features: expected at least 64, got {self.max_features}")
        if self.seed < 0:
            raise ValueError(f"SfmConfig.seed: expected 0 or more, got {self.seed}")


@dataclass(frozen=True)
class Features:
    """How features are found."""

    side: int
    """[px] longer side of the picture they are found in."""
    count: int
    """The most of one picture."""
    peak: float = 0.02 / 3
    """Contrast below which a feature is dropped (Lowe 2004, sec. 4)."""
    edge: float = 10.0
    """Ratio of curvatures above which a feature lies on an edge (Lowe 2004, sec. 4.1)."""
    enlarge: bool = False
    """Look for features smaller than a pixel too, where the picture is not larger than `side`."""


@dataclass(frozen=True)
class Thresholds:
    """How much evidence matching and mapping ask for."""

    ratio: float = 0.8
    """Distance of a match to that of the second best (Lowe 2004, sec. 7.1)."""
    pair_inliers: int = 15
    """Matches that have to agree for two pictures to count as connected."""
    pose_inliers: int = 30
    """Points that have to agree for a picture to join the model."""
    angle_deg: float = 1.5
    """[deg] Points seen under smaller angles are dropped."""


@dataclass(frozen=True)
class Rung:
    """One step of the ladder of retries."""

    name: str
    features: Features
    thresholds: Thresholds = Thresholds()


def rungs(config: SfmConfig) -> tuple[Rung, ...]:
    """The ladder: ordinary settings, then more features, lower thresholds, larger pictures."""
    side = config.max_side
    plain = Features(side, config.max_features)
    more = Features(side * 4 // 3, 2 * config.max_features, peak=0.002, edge=16.0, enlarge=True)
    lower = Thresholds(ratio=0.85, pair_inliers=10, pose_inliers=15, angle_deg=0.75)
    return (
        Rung("ordinary settings", plain),
        Rung("more features", more),
        Rung("lower thresholds", more, lower),
        Rung("larger pictures", replace(more, side=2 * side), lower),
    )


@dataclass(frozen=True)
class Attempt:
    """What was tried once, and how far it got."""

    settings: str
    """The step of the ladder, in words."""
    mapper: Mapper
    registered: int
    """Pictures in the largest model that are no outliers."""
    dropped: int
    """Outliers."""
    models: int
    """Pieces that did not connect to each other."""
    points: int
    agreement: float
    """Share of the verified matches that the largest model explains, range [0, 1]."""
    reprojection_error: float
    """[px] in the pictures' own pixels, mean."""
    seconds: float
    """[s] for features, matching and mapping, as far as they were not known from before."""


@dataclass(frozen=True, eq=False)
class SfmResult:
    """Cameras and points."""

    capture: Capture
    """The registered pictures in the order they were given; unit and frame are arbitrary."""
    left_out: tuple[tuple[str, str], ...]
    """Name and reason of each picture that is not in the capture."""
    attempts: tuple[Attempt, ...]
    """What was tried, in order."""
    reprojection_error: float
    """[px] in the pictures' own pixels, mean."""
