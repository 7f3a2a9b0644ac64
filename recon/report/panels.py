"""Truth, fit and difference side by side: chosen so that they flatter nobody, for a page or one picture."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.gaussians import Gaussians

from ..evaluate import Scores, badness, shown
from ..frames import BLACK, Color, View

DIFFERENCE_GAIN = 4
_PAPER, _INK = (250, 250, 250), (20, 20, 20)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture beside what the Gaussians show from the same camera."""

    name: str
    truth: Float[Tensor, "h w 3"]
    fit: Float[Tensor, "h w 3"]
    psnr: float
    """[dB]"""
    ssim: float = math.nan
    kind: str = "held-out"
    """"held-out" or "training"."""
    rank: str = ""
    """Its place among its kind, in words: "worst of 7"."""
    mask: Bool[Tensor, "h w"] | None = None
    """True where the picture counts."""

    @property
    def difference(self) -> Float[Tensor, "h w 3"]:
        """|fit - truth|, amplified; black where nothing counts."""
        difference = ((self.fit - self.truth).abs() * DIFFERENCE_GAIN).clamp(0, 1)
        return difference if self.mask is None else difference * self.mask[..., None]

    @property
    def label(self) -> str:
        """A caption of one line."""
        return f"{self.kind} {self.name}: {self.psnr:.1f} dB"


def worst_panels(
    gaussians: Gaussians,
    views: Sequence[View],
    scores: Scores,
    background: Color = BLACK,
    count: int = 3,
    kind: str = "held-out",
) -> list[Panel]:
    """The views with the lowest PSNR, the worst first, then the median and the best one.

    Args:
        gaussians: what was fitted.
        views: what `scores` judged, in the same order.
        scores: from `evaluate`.
        background: the one that was evaluated over.
        count: how many of the worst; views of which nothing counts never come.
        kind: "held-out" or "training".
    """
    judged = [i for i, score in enumerate(scores.views) if not math.isnan(score.psnr)]
    order = sorted(judged, key=lambda i: badness(scores.views[i]))
    places = sorted(
        {*range(min(count, len(order))), len(order) // 2, len(order) - 1} & set(range(len(order)))
    )
    panels = []
    for place in places:
        view, score = views[order[place]], scores.views[order[place]]
        seen = view.to(gaussians.device)
        fit, truth = shown(gaussians, seen, background).cpu(), seen.over(background).cpu()
        mask = None if view.mask is None else view.mask.cpu()
        rank = _rank(place, len(order))
        panels.append(Panel(score.name, truth, fit, score.psnr, score.ssim, kind, rank, mask))
    return panels


def _rank(place: int, count: int) -> str:
    if count == 1:
        return "the only one"
    if place == count - 1:
        return f"best of {count}"
    if place == 0:
        return f"worst of {count}"
    if place == count // 2 and count > 3:
        return f"median of {count}"
    ordinal = {2: "2nd", 3: "3rd"}.get(place + 1, f"{place + 1}th")
    return f"{ordinal} worst of {count}"


def side_by_side(
    panels: Sequence[Panel], titles: tuple[str, str] = ("truth", "fit: Gaussians")
) -> Float[Tensor, "h w 3"]:
    """One picture with truth, fit and amplified difference of each panel in a row, with captions.

    Raises:
        ValueError: no panels.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not panels:
        raise ValueError("side_by_side: expected at least one panel, got none")
    gap, head = 6, 26
    width = max(panel.fit.shape[1] for panel in panels)
    height = head + sum(panel.fit.shape[0] + gap for panel in panels)
    sheet = Image.new("RGB", (3 * width + 4 * gap, height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, title in enumerate((*titles, f"difference x{DIFFERENCE_GAIN}")):
        draw.text((gap + column * (width + gap) + 4, 5), title, fill=_INK, font=font)
    top = head
    for panel in panels:
        for column, picture in enumerate((panel.truth, panel.fit, panel.difference)):
            sheet.paste(_pillow(picture), (gap + column * (width + gap), top))
        # Readable on any picture: dark letters with a light rim.
        draw.text((gap + 6, top + 4), panel.label, _INK, font, stroke_width=2, stroke_fill=_PAPER)
        top += panel.fit.shape[0] + gap
    pixels = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8)
    return pixels.reshape(sheet.height, sheet.width, 3).float() / 255


def jpeg_uri(picture: Float[Tensor, "h w 3"], width: int, quality: int) -> str:
    """A picture as a data URI that a page can hold, shrunk to at most `width` pixels across."""
    from PIL import Image

    image = _pillow(picture)
    if image.width > width:
        image = image.resize(
            (width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS
        )
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _pillow(picture: Tensor):
    from PIL import Image

    pixels = (picture.detach().cpu().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.contiguous().numpy())
