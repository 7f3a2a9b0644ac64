"""A capture in its place: pictures held out, the unit's length, which way is up, and the way back."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from gaussworld.capture import Capture
from gaussworld.io import save_cameras

from ..run import Run, write_json
from .align import Up, estimate_up, up_from, upright
from .scale import Scale, chosen_scale

#: Fewer pictures than this are all needed for training: none is held out.
_FEWEST_TO_JUDGE = 8


@dataclass(frozen=True)
class PlaceConfig:
    """What is held out, which way is up, how long a unit is."""

    holdout: int = 8
    """Every so many-th picture is held out to judge the result; 0 trains on all. Splits that the input states
    are kept."""
    up: Literal["auto", "keep", "+x", "-x", "+y", "-y", "+z", "-z"] | None = None
    """Turn the scene so that this axis of the input's frame, or the one found out (auto), becomes +z; keep
    turns nothing. Default: keep where the input has cameras, auto where they are found here."""
    metres_per_unit: float | None = None
    """[m] Length of one unit of the input's poses, where you know it."""
    tag_size: float | None = None
    """[m] Side of the black square of AprilTags (36h11) in the pictures: the scale is measured from them."""
    measured: tuple[float, float, float, float, float, float, float] | None = None
    """Two points of the scene, in the input's frame, and their distance [m]: x y z x y z distance."""

    def __post_init__(self) -> None:
        if self.holdout < 0 or self.holdout == 1:
            raise ValueError(f"expected holdout 0 for none, or 2 and more, got {self.holdout}")


@dataclass(frozen=True, eq=False)
class Placed:
    """A capture with what is known about its frame."""

    capture: Capture
    up: Up | None
    scale: Scale | None


def place(capture: Capture, config: PlaceConfig, keep: bool) -> Placed:
    """Hold pictures out, find the scale, and turn the scene upright where that is asked for.

    Args:
        capture: as it came in.
        config: what is asked for.
        keep: whether the capture's frame means something to its owner, and stays unless `up` says otherwise.
    """
    stated = any(True for _ in capture.of("validation", "test"))
    if config.holdout and len(capture) >= _FEWEST_TO_JUDGE and not stated:
        capture = capture.with_holdout(config.holdout)
    scale = chosen_scale(
        capture,
        metres_per_unit=config.metres_per_unit,
        tag_size=config.tag_size,
        points=_two_points(config.measured),
    )
    if scale is not None:
        capture = replace(capture, metres_per_unit=scale.metres_per_unit)
    up = up_from(config.up or ("keep" if keep else "auto"), capture)
    if up is None:
        return Placed(capture, estimate_up(capture), scale)
    return Placed(upright(capture, up)[0], replace(up, direction=(0.0, 0.0, 1.0)), scale)


def save_placed(run: Run, placed: Placed) -> None:
    """Write the cameras, and what is known about their frame."""
    save_cameras(placed.capture, run.cameras)
    write_json(
        run.frame,
        {
            "metres_per_unit": placed.capture.metres_per_unit,
            "scale": None if placed.scale is None else asdict(placed.scale),
            "up": None if placed.up is None else asdict(placed.up),
            "world_from_source": placed.capture.world_from_source.tolist(),
        },
    )


def _two_points(
    measured: tuple[float, ...] | None,
) -> tuple[tuple[float, float, float], tuple[float, float, float], float] | None:
    if measured is None:
        return None
    ax, ay, az, bx, by, bz, distance = measured
    return (ax, ay, az), (bx, by, bz), distance
