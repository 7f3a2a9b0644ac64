"""A ring of cameras around the table, at different heights and distances."""

import math

import numpy as np

from gaussworld.camera import Camera

from .config import StillConfig

_ELEVATIONS = (20.0, 60.0)
"""[deg]"""


def ring(config: StillConfig, state: int) -> list[Camera]:
    """The cameras of one state: the same design for all, at other places in each.

    Neighbours differ in height by golden-ratio steps; a cabinet is seen from the front and the sides.
    """
    random = np.random.default_rng([config.seed, 3, state])
    start, first = random.random(2)
    cameras = []
    for i in range(config.views):
        share = (i + start + random.uniform(-0.2, 0.2)) / config.views
        azimuth = 2 * math.pi * share
        if config.scene == "cabinet":
            azimuth = math.radians(240) * (share % 1.0 - 0.5)
        low, high = _ELEVATIONS
        elevation = math.radians(low + (high - low) * ((first + i * 0.6180339887) % 1.0))
        distance = config.distance * random.uniform(0.92, 1.08)
        target = random.uniform(-0.02, 0.02, 3) + (0.0, 0.0, 0.03 if config.scene == "tabletop" else 0.14)
        across, up = distance * math.cos(elevation), distance * math.sin(elevation)
        eye = target + (across * math.cos(azimuth), across * math.sin(azimuth), up)
        cameras.append(
            Camera.looking_at(_vector(eye), _vector(target), config.width, config.height, config.fov_deg)
        )
    return cameras


def _vector(point: np.ndarray) -> tuple[float, float, float]:
    # Rounded, so that a camera is the same on every machine.
    x, y, z = (float(round(value, 6)) for value in point)
    return x, y, z
