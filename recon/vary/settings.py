"""What a variation may change, and by how much."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class VaryConfig:
    """What a variation may change, and by how much; 0 or --no-... leaves it as it is."""

    move: bool = True
    """Place things anew on what they rest on."""
    reach: float | None = None
    """[m, or the world's unit] how far a thing goes at most; default: anywhere on its surface."""
    turn_deg: float = 180.0
    """[deg] how far a thing turns about the upright at most, either way."""
    lying: float = 0.0
    """Chance that a single thing is put on another of its faces on which it rests; needs a shape."""
    unstack: bool = False
    """Place what stands on other movable things by itself; else it goes along with them."""
    clearance: float = 0.008
    """[m] free space kept between things, and to the rim of what they stand on."""
    simulate: bool = True
    """Let MuJoCo judge whether things rest, where it is installed and the scale is known."""
    drift_mm: float = 2.0
    """[mm] how far a thing that rests may move within a second of simulation."""
    drift_deg: float = 1.0
    """[deg] how far it may turn."""
    colours: float = 0.5
    """How strongly movable things are recoloured, range [0, 1]; about half of them are."""
    light: float = 0.5
    """How strongly exposure, white balance, contrast and saturation of everything vary, range [0, 1]."""
    cameras: int = 4
    """How many cameras a copy has, chosen from those of the world."""
    camera_motion: float = 0.5
    """How far they are moved about the scene, range [0, 1]; 1 is 30 degrees and a fifth of the distance."""
    longest: int = 640
    """[px] longer side of their pictures at most."""
    fill: bool = True
    """Fill what was never seen under things that move, where that can be done."""

    def __post_init__(self) -> None:
        for name in ("colours", "light", "camera_motion", "lying"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name):g}")
        for name in ("turn_deg", "clearance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name):g}")
        for name in ("drift_mm", "drift_deg"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name):g}")
        if self.reach is not None and not self.reach > 0:
            raise ValueError(f"reach: expected more than 0, got {self.reach:g}")
        if self.cameras < 1 or self.longest < 16:
            got = f"{self.cameras} and {self.longest}"
            raise ValueError(f"expected at least 1 camera and pictures of 16 px, got {got}")
