"""What `gaussworld info` says about Gaussians, worlds and captures, as a table or as JSON."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from . import io
from .capture import Capture
from .gaussians import Gaussians
from .io import Framing

PERCENTILES = (5, 50, 95)
#: Bins of the histograms: of opacity from 0 to 1, of scale from its smallest to its largest, by ratio.
BINS = 12
_BARS = "▁▂▃▄▅▆▇█"


def gaussian_facts(path: Path) -> dict[str, Any]:
    """Of a file of Gaussians or a run folder."""
    gaussians = io.load(path)
    facts = {"kind": "gaussians"} | _contents(gaussians) | _framing(io.load_framing(path))
    size = (path / io.SCENE if path.is_dir() else path).stat().st_size
    return facts | {"file_size": size, "memory_size": _memory(gaussians)}


def world_facts(path: Path) -> dict[str, Any]:
    """Of a stored world, or a file that keeps objects apart."""
    world, framing = io.load_world(path), io.load_framing(path)
    kinds = Counter(item.kind.value for item in world.objects.values())
    facts: dict[str, Any] = {"kind": "world", "objects": len(world.objects), "kinds": dict(kinds)}
    facts |= {"cameras": len(world.cameras), "revision": world.revision}
    posed = world.posed()
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    facts |= _contents(posed.shown()) | {"hidden_or_deleted": len(posed) - len(posed.shown())}
    return (
        facts
        | _framing(framing)
        | {
            "file_size": sum(file.stat().st_size for file in files),
            "memory_size": _memory(posed),
        }
    )


def capture_facts(capture: Capture) -> dict[str, Any]:
    """Of pictures with cameras."""
    cameras = [frame.camera for frame in capture.frames]
    sizes = Counter(f"{camera.width}x{camera.height} {camera.model.value}" for camera in cameras)
    facts: dict[str, Any] = {
        "kind": "capture",
        "frames": len(capture),
        "splits": dict(Counter(frame.split for frame in capture.frames)),
        "cameras": dict(sizes),
        "with_depth": sum(frame.depth is not None for frame in capture.frames),
        "with_mask": sum(frame.mask is not None for frame in capture.frames),
        "points": len(capture.points),
        "metres_per_unit": capture.metres_per_unit,
    }
    if cameras:
        centers = torch.stack([camera.center for camera in cameras])
        facts |= {"camera_min": _rounded(centers.amin(0)), "camera_max": _rounded(centers.amax(0))}
    return facts


def robust_bounds(gaussians: Gaussians) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """[unit of the scene] The box between the 5th and 95th percentile of the Gaussians that can be seen.

    Trained scenes have floaters far out, which would make everything else a dot.

    Raises:
        ValueError: there are no Gaussians.
    """
    if not len(gaussians):
        raise ValueError("expected a scene with Gaussians, got an empty one")
    seen = gaussians.opacities > 0.1
    means = gaussians.means[seen if bool(seen.any()) else torch.ones_like(seen)].detach().cpu()
    ordered = means.sort(dim=0).values
    last = len(ordered) - 1
    return ordered[int(0.05 * last)], ordered[math.ceil(0.95 * last)]


def finite(value: Any) -> Any:
    """The same facts with null for the numbers that JSON cannot write: infinity and NaN."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(facts: dict[str, Any]) -> str:
    """Facts as aligned lines, without those nobody stated."""
    stated = {key: value for key, value in facts.items() if value is not None}
    width = max(map(len, stated)) + 2
    return "\n".join(
        f"{key.replace('_', ' '):<{width}}{_spelled(key, value)}" for key, value in stated.items()
    )


def _contents(gaussians: Gaussians) -> dict[str, Any]:
    facts: dict[str, Any] = {"count": len(gaussians), "sh_degree": gaussians.sh_degree}
    if not len(gaussians):
        return facts
    low, high = gaussians.means.amin(0), gaussians.means.amax(0)
    core_low, core_high = robust_bounds(gaussians)
    return facts | {
        "bounds_min": _rounded(low),
        "bounds_max": _rounded(high),
        "extent": _rounded(high - low),
        "core_min": _rounded(core_low),
        "core_max": _rounded(core_high),
        "opacity_percentiles": _percentiles(gaussians.opacities),
        "opacity_histogram": _histogram(gaussians.opacities, 0.0, 1.0),
        "scale_percentiles": _percentiles(gaussians.scales.flatten()),
        "scale_histogram": _ratio_histogram(gaussians.scales.flatten()),
    }


def _framing(framing: Framing) -> dict[str, Any]:
    return {
        "up": list(framing.up) if framing.up else None,
        "metres_per_unit": framing.metres_per_unit,
        "frame": framing.frame,
    }


def _memory(gaussians: Gaussians) -> int:
    return sum(tensor.nbytes for tensor in vars(gaussians).values())


def _percentiles(values: Float[Tensor, " m"]) -> dict[str, float]:
    ordered = values.detach().sort().values
    return {str(p): _shortened(float(ordered[round(p / 100 * (len(ordered) - 1))])) for p in PERCENTILES}


def _histogram(values: Float[Tensor, " m"], low: float, high: float) -> dict[str, Any]:
    counts = torch.histc(values.detach().cpu(), BINS, low, high).long().tolist()
    return {"from": _shortened(low), "to": _shortened(high), "counts": counts}


def _ratio_histogram(values: Float[Tensor, " m"]) -> dict[str, Any]:
    """Bins whose bounds grow by equal factors; scales of zero or infinity are left out."""
    logs = values.detach().cpu().log()
    logs = logs[torch.isfinite(logs)]
    if not len(logs):
        return {"from": 0.0, "to": 0.0, "counts": [0] * BINS}
    low, high = float(logs.min()), float(logs.max())
    counts = _histogram(logs, low, high)["counts"]
    return {"from": _shortened(math.exp(low)), "to": _shortened(math.exp(high)), "counts": counts}


def _rounded(vector: Float[Tensor, "3"]) -> list[float]:
    return [_shortened(value) for value in vector.detach().tolist()]


def _shortened(value: float) -> float:
    return float(f"{value:.6g}")


def _spelled(key: str, value: Any) -> str:
    if key.endswith("size"):
        return f"{value / 1e6:,.2f} MB"
    if key.endswith("histogram"):
        tallest = max(*value["counts"], 1)
        bars = "".join(_BARS[math.ceil(count / tallest * (len(_BARS) - 1))] for count in value["counts"])
        return f"{value['from']:g} {bars} {value['to']:g}"
    if isinstance(value, dict):
        names = {name: f"{name} %" if key.endswith("percentiles") else name for name in value}
        return ", ".join(f"{names[name]}: {_spelled('', inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "  ".join(f"{inner:.6g}" for inner in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
