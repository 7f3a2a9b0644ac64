"""LPIPS, the learned perceptual distance, where its package and weights are installed; nothing is fetched."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import torch
from jaxtyping import Float
from torch import Tensor

log = logging.getLogger(__name__)

Perceptual = Callable[[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]], float | None]
"""Distance of two pictures in [0, 1]; None where they are too small for the network."""

Backbone = Literal["alex", "vgg"]
_BACKBONE_WEIGHTS = {"alex": "AlexNet_Weights", "vgg": "VGG16_Weights"}
_SMALLEST_SIDE = 32
"""[px] below this nothing is left after the networks' poolings."""


def lpips_metric(net: Backbone = "alex") -> Perceptual | None:
    """LPIPS 0.1 (Zhang et al. 2018, eq. 1, arXiv 1801.03924), or None where it cannot be had without network.

    The `lpips` package brings its own small weights but lets torchvision download the backbone's when torch's
    cache lacks them: then, and without the package, there is no metric. To fill the cache, run once by hand
    `python -c "import lpips; lpips.LPIPS(net='alex')"`.

    Args:
        net: the backbone; "alex" is what papers report unless they say otherwise.
    """
    try:
        # Broken pairs of torch and torchvision raise anything, RuntimeError among it.
        import lpips  # pyright: ignore[reportMissingImports]
        import torchvision  # pyright: ignore[reportMissingImports]
    except Exception as error:
        log.info("LPIPS is not measured: %s", error)
        return None
    weights = _backbone_file(torchvision, net)
    if not weights.is_file():
        log.info("LPIPS is not measured: its backbone %s is not there", weights)
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips uses an argument that torchvision has renamed.
            model = lpips.LPIPS(net=net, verbose=False)
    except Exception as error:
        log.warning("LPIPS is not measured: %s could not be loaded (%s)", weights, error)
        return None
    return _metric(model.eval().requires_grad_(False))


def _metric(model: torch.nn.Module) -> Perceptual:
    @torch.no_grad()
    def distance(image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> float | None:
        if min(image.shape[:2]) < _SMALLEST_SIDE:
            return None
        x, y = (picture.permute(2, 0, 1)[None] * 2 - 1 for picture in (image, target))
        return float(model.to(image.device)(x, y))

    return distance


def _backbone_file(torchvision: Any, net: Backbone) -> Path:
    """Where torchvision looks before it downloads; it alone knows the name of the file."""
    url = getattr(torchvision.models, _BACKBONE_WEIGHTS[net]).IMAGENET1K_V1.url
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(url).path).name)
