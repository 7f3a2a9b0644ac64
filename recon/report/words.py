"""Figures as people read them: with units, with as many digits as mean something."""

import math

OF_SPLIT = {"test": "held-out", "validation": "validation", "train": "training"}
"""What pictures of a split are called; in the order in which their scores are believed."""

GLOSSARY = (
    (
        "Gaussian",
        "A soft, coloured, see-through ellipsoid. Many of them, drawn one over the other, show the scene from"
        " any place. Spherical harmonics (SH) let their colour change with the direction of view.",
    ),
    (
        "Held out",
        "Pictures kept away from training, every 8th by default. How well they are predicted tells how the"
        " scene looks from new places; pictures of the training always look better.",
    ),
    (
        "PSNR",
        "Peak signal-to-noise ratio in decibels; higher is better, and 6 dB more is half the error. Around"
        " 20 dB a scene is recognisable, from 25 dB it is good, from 30 dB hard to tell from the photo.",
    ),
    ("SSIM", "Structural similarity of small windows, at most 1: sensitive to blur and lost texture."),
    (
        "LPIPS",
        "Distance as a neural network perceives it, 0 is identical. Measured only where the lpips package and"
        " its weights are installed; they are never downloaded unasked.",
    ),
    (
        "Depth error",
        "How far the depth of the Gaussians is from what a sensor measured: the median over the pixels of a"
        " picture, averaged over pictures.",
    ),
    (
        "ATE, RPE",
        "Absolute trajectory error: how far estimated camera positions are from the true ones after the best"
        " alignment. Relative pose error: the drift from one picture to the next.",
    ),
)


def duration(seconds: float) -> str:
    """`0.8 s`, `12 s`, `4 min 05 s`, `2 h 10 min`."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def length(value: float | None, metres_per_unit: float | None) -> str:
    """`3.1 mm`, `4.2 cm`, `1.27 m`; in units of the poses while their length is not known."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if metres_per_unit is None:
        return f"{value:.3g} units"
    metres = value * metres_per_unit
    for factor, name in ((1000, "mm"), (100, "cm")):
        if abs(metres) * factor < 99.5 if name == "cm" else abs(metres) < 0.00995:
            return f"{metres * factor:.3g} {name}"
    return f"{metres:.3g} m"


def size(count: int) -> str:
    """`312 MB`, `1.4 GB`, in powers of ten."""
    for factor, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.{0 if count / factor >= 99.5 else 1}f} {name}"
    return f"{count} bytes"


def figure(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point, a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `1,200 pictures`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def colour_error(psnr: float) -> str:
    """What a PSNR [dB] means: the root mean square error of a colour value."""
    share = 10 ** (-psnr / 20)
    return f"{share * 100:.2g} % of full brightness ({share * 255:.2g} of 255 steps)"


def confidence(value: object) -> str:
    """`high confidence`; numbers from 0 to 1 become a word with their percentage."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        word = "high" if value >= 0.8 else "medium" if value >= 0.5 else "low"
        return f"{word} confidence ({value * 100:.0f} %)"
    return f"{value} confidence" if value else "confidence unknown"
