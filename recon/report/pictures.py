"""The pictures of the page: truth, fit and difference of each panel, within a budget of bytes."""

import math
from collections.abc import Sequence
from html import escape

from .panels import DIFFERENCE_GAIN, Panel, jpeg_uri
from .words import figure

BUDGET = 2_500_000
"""Characters that all pictures of a page may take."""
#: Width [px] and JPEG quality, tried one after another until all fits.
_LEVELS = ((480, 86), (480, 76), (400, 72), (320, 66), (240, 60))
_TALL = 1.15


def panels_html(panels: Sequence[Panel], budget: int = BUDGET) -> str:
    """All panels, as large as the budget allows; where even small pictures are too many, the first ones."""
    encoded = _encoded(panels, budget)
    if not encoded:
        return ""
    tall = all(panel.fit.shape[0] > _TALL * panel.fit.shape[1] for panel in panels)
    shown = "".join(_panel(panel, uris) for panel, uris in zip(panels, encoded))
    return f'<div class="panels{" tall" if tall else ""}">{shown}</div>{_ZOOM}'


_ZOOM = (
    '<dialog aria-label="Enlarged picture"><img src="data:," alt=""><p><span></span>'
    '<button type="button">Close</button></p></dialog>'
)


def _encoded(panels: Sequence[Panel], budget: int) -> list[list[str]]:
    encoded: list[list[str]] = []
    for width, quality in _LEVELS:
        encoded = [
            [jpeg_uri(picture, width, quality) for picture in (panel.truth, panel.fit, panel.difference)]
            for panel in panels
        ]
        if _characters(encoded) <= budget:
            return encoded
    while encoded and _characters(encoded) > budget:
        encoded.pop()
    return encoded


def _characters(encoded: list[list[str]]) -> int:
    return sum(len(uri) for uris in encoded for uri in uris)


def _panel(panel: Panel, uris: Sequence[str]) -> str:
    name, (height, width) = escape(panel.name), panel.fit.shape[:2]
    likeness = "" if math.isnan(panel.ssim) else f" · SSIM {figure(panel.ssim, 3)}"
    titles = ("photo", "Gaussians", f"difference ×{DIFFERENCE_GAIN}")
    shots = "".join(
        f'<button class="shot" type="button" title="Enlarge"><img src="{uri}" alt="{name}: {title}"'
        f' width="{width}" height="{height}"><span>{title}</span></button>'
        for uri, title in zip(uris, titles)
    )
    rank = f"{panel.rank} {panel.kind} pictures" if panel.rank else f"{panel.kind} picture"
    return (
        f'<article class="card panel"><header><b>{name}</b><span>{escape(rank)}</span>'
        f'<span class="fig">{figure(panel.psnr, 1)} dB{likeness}</span></header>'
        f'<div class="trio">{shots}</div></article>'
    )
