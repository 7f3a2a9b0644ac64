"""The colours of elastic things: bands of a rope, and a painting that lies over a cloth or a block."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from ..mjcf import DRAWN, mujoco_module
from ..textures import painted
from .flex import Flex

_TEXEL = 0.0006
"""[m]"""


def rope_colors(flex: Flex) -> Float[np.ndarray, "e 3"]:
    """sRGB of a rope's segments, range [0, 1]: bands of its look's three colours."""
    colors = np.array(flex.look.colors)
    which = np.array([0, 0, 1, 0, 1, 1, 2])
    shade = 0.85 + 0.3 * np.random.default_rng(flex.look.seed).random((len(flex.edges), 1))
    return (colors[which[np.arange(len(flex.edges)) % len(which)]] * shade).clip(0, 1)


def picture_colors(flex: Flex, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """sRGB of points of the rest shape, range [0, 1], as they are drawn."""
    flat = np.concatenate([_chart(flex, points), np.zeros((len(points), 1))], axis=1)
    return painted(flex.look, flat[None])[0] / 255.0


def paint(spec: Any, name: str, flex: Flex, made: Any) -> None:
    """Lay its painting over a cloth or a block that has been added as `made`."""
    mujoco = mujoco_module()
    places = _chart(flex, flex.rest)
    extent = places.max(0)
    width, height = (max(8, math.ceil(float(side) / _TEXEL)) for side in extent)
    x, y = np.meshgrid((np.arange(width) + 0.5) * _TEXEL, (np.arange(height) + 0.5) * _TEXEL)
    picture = painted(flex.look, np.stack([x, y, np.zeros_like(x)], axis=-1))
    texture = spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=3
    )
    texture.data = picture.tobytes()
    material = spec.add_material(name=name, specular=0.0, shininess=0.0, reflectance=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    made.material = name
    made.texcoord = (places / (np.array([width, height]) * _TEXEL)).ravel()
    made.group = DRAWN


def _chart(flex: Flex, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """[m] where points of the rest shape lie on its painting, which no face of a block shows edge-on."""
    tilt = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
    low = flex.rest.min(0) @ tilt
    return points @ tilt - low
