"""`Tool`: what a robot touches the world with, as rounded boxes that move with its pose and its grip."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Tool:
    """Rounded boxes in the tool's frame: origin at the point of the tip, z towards the wrist.

    Raises:
        ValueError: shapes contradict each other, or a size is negative.
    """

    name: str
    centers: Float[Tensor, "k 3"]
    """[m] middles of the boxes while the tool is open (grip 0)."""
    halves: Float[Tensor, "k 3"]
    """[m] half extents of the boxes inside the rounding; 0 0 0 is a ball, 0 0 h an upright capsule."""
    radii: Float[Tensor, " k"]
    """[m] of the rounding."""
    travel: Float[Tensor, "k 3"]
    """[m] how far each box moves from open (grip 0) to closed (grip 1)."""
    friction: float = 0.5
    """Coulomb coefficient towards what it touches."""

    def __post_init__(self) -> None:
        count = len(self.centers)
        wanted = {"centers": (count, 3), "halves": (count, 3), "radii": (count,), "travel": (count, 3)}
        for name, shape in wanted.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise ValueError(f"Tool.{name}: expected shape {shape}, got {got}")
        if bool((self.halves < 0).any()) or bool((self.radii < 0).any()):
            raise ValueError("Tool: expected half extents and radii of at least 0, got negative ones")
        if not self.friction >= 0:
            raise ValueError(f"Tool.friction: expected at least 0, got {self.friction}")

    @property
    def grips(self) -> bool:
        """Whether it can close on something."""
        return bool((self.travel != 0).any())

    def boxes(self, grip: Float[Tensor, "*b"]) -> Float[Tensor, "*b k 3"]:
        """[m] middles of the boxes in the tool's frame when it is closed that far."""
        return self.centers.to(grip) + grip[..., None, None] * self.travel.to(grip)

    def distance(self, points: Float[Tensor, "*b n 3"], grip: Float[Tensor, "*b"]) -> Float[Tensor, "*b n k"]:
        """[m] signed distance of points in the tool's frame to each box, negative inside; differentiable.

        The exact distance to a rounded box: Quilez, "3D SDF primitives",
        iquilezles.org/articles/distfunctions.
        """
        apart = (points[..., None, :] - self.boxes(grip)[..., None, :, :]).abs() - self.halves.to(points)
        outside = apart.clamp(min=0).square().sum(-1).add(1e-18).sqrt()
        return outside + apart.amax(-1).clamp(max=0) - self.radii.to(points)


def pusher() -> Tool:
    """An upright rod of 25 mm diameter and 16 cm length."""
    return Tool(
        "pusher",
        torch.tensor([[0.0, 0.0, 0.08]]),
        torch.tensor([[0.0, 0.0, 0.0675]]),
        torch.tensor([0.0125]),
        torch.zeros(1, 3),
        friction=0.3,
    )


def gripper() -> Tool:
    """Two parallel fingers of 22 x 12 x 100 mm that each open by 45 mm along y, below a palm."""
    return Tool(
        "gripper",
        torch.tensor([[0.0, 0.051, 0.05], [0.0, -0.051, 0.05], [0.0, 0.0, 0.1175]]),
        torch.tensor([[0.009, 0.004, 0.048], [0.009, 0.004, 0.048], [0.023, 0.073, 0.0155]]),
        torch.tensor([0.002, 0.002, 0.002]),
        torch.tensor([[0.0, -0.045, 0.0], [0.0, 0.045, 0.0], [0.0, 0.0, 0.0]]),
        friction=0.9,
    )


#: The tools that come with the simulator, by the name that flags and episodes use.
TOOLS = {"pusher": pusher, "gripper": gripper}


def tool_named(name: str) -> Tool:
    """A tool that comes with us, or one described by a JSON file (`tool_record` writes such).

    Raises:
        ConfigError: there is no such tool or file, or the file describes none.
    """
    if name in TOOLS:
        return TOOLS[name]()
    path = Path(name)
    if not path.is_file():
        known = ", ".join(TOOLS)
        raise ConfigError(f"expected a tool ({known}) or a JSON file that describes one, got {name!r}")
    try:
        return tool_from_record(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: expected JSON that describes a tool, got {error}") from error


def tool_record(tool: Tool) -> dict[str, Any]:
    """The tool as plain values: name, friction, and for each box center, half, radius and travel [m]."""
    rows = zip(tool.centers.tolist(), tool.halves.tolist(), tool.radii.tolist(), tool.travel.tolist())
    keys = ("center", "half", "radius", "travel")
    return {"name": tool.name, "friction": tool.friction, "boxes": [dict(zip(keys, row)) for row in rows]}


def tool_from_record(record: dict[str, Any]) -> Tool:
    """The tool that `tool_record` described.

    Raises:
        KeyError: something is missing.
        TypeError: something is of another type.
        ValueError: shapes or sizes make no sense.
    """
    boxes = record["boxes"]
    columns = [torch.tensor([box[key] for box in boxes]) for key in ("center", "half", "radius", "travel")]
    return Tool(str(record["name"]), *columns, friction=float(record["friction"]))
