"""What bends: ropes, cloths and soft blocks keep their length and size, hang, drape, and fall."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gaussworld.world_object import ObjectKind

from ..tool import gripper
from .check import Found, check
from .outcome import Outcome, worst
from .scenes import GRAVITY, RATE_HZ, Case, Scene, Solid, table, waiting, way

#: [m] of the rope: length and radius; of the cloth: side and thickness; of the block.
_LONG, _RADIUS = 0.4, 0.003
_SIDE, _THIN = 0.24, 0.001
_SOFT = (0.1, 0.1, 0.06)
#: [m] where the gripper takes the rope, half of what its fingers cover, and how high it lifts it.
_TAKEN, _FINGER, _LIFTED = -0.19, 0.011, 0.5
#: [m] edge of the beam that the cloth falls on; radius of the pusher; thickness of a finger.
_UNDER, _ROD, _THICK = 0.1, 0.0125, 0.012


def _limp(
    name: str, size: tuple[float, float, float], category: str, height: float, **others: float
) -> Solid:
    place = (0.0, 0.0, height)
    return Solid(name, size, place, kind=ObjectKind.DEFORMABLE, category=category, **others)  # pyright: ignore


@cache
def rope() -> Scene:
    """A rope along x on a table, with a gripper.

    It weighs w = 0.28 N/m, and EI = 1.3e-5 N m^2: held level it bends down within (EI / w)^(1/3) = 4 cm.
    """
    size = (_LONG, 2 * _RADIUS, 2 * _RADIUS)
    things = (table(), _limp("rope", size, "rope", _RADIUS, stiffness=2e5, density=1000.0))
    return Scene("rope", things, (gripper(),))


@cache
def cloth() -> Scene:
    """A cloth in the air, level, 1 cm above a beam over which two of its sides hang.

    It weighs w = 9.8 N/m^2, and D = E h^3 / 12 = 8e-5 N m: it bends down within (D / w)^(1/3) = 2 cm.
    """
    beam = Solid("beam", (_UNDER, 0.4, _UNDER), (0.0, 0.0, _UNDER / 2), kind=ObjectKind.STATIC)
    size, height = (_SIDE, _SIDE, _THIN), _UNDER + 0.01
    sheet = _limp("cloth", size, "cloth", height, density=1000.0, stiffness=1e6)
    return Scene("cloth", (table(), beam, sheet))


@cache
def soft_block() -> Scene:
    """A soft block on a table."""
    return Scene(
        "soft block", (table(), _limp("block", _SOFT, "foam", _SOFT[2] / 2, stiffness=1e5, density=200.0))
    )


@cache
def _pulled() -> list[Case]:
    """The closed gripper goes across the rope's middle, a flat finger first."""
    path = waiting(way((0.0, -0.06, 0.0005), (0.0, 0.12, 0.0005)), 5)
    return [rope().case(path, grip=torch.ones(len(path)))]


@cache
def _lifted() -> list[Case]:
    """The gripper goes down to the rope's end, closes, lifts it clear of the table, and waits."""
    low, high = 0.001, _LIFTED
    down = waiting(way((_TAKEN, 0.0, 0.08), (_TAKEN, 0.0, low)), 5)
    # Over the place where the rope leaves the table: what hangs is upright all the way, and does not swing.
    aslant = (_TAKEN + _LONG, 0.0, _LONG)
    up = waiting(way((_TAKEN, 0.0, low), aslant, (_TAKEN + _LONG, 0.0, high), speed=0.15), 15)
    grip = torch.cat([torch.zeros(len(down) - 5), torch.linspace(0.2, 1.0, 5), torch.ones(len(up) - 1)])
    return [rope().case(torch.cat([down, up[1:]]), grip=grip)]


@cache
def _rope_dropped() -> list[Case]:
    return [rope().case(12, places={"rope": (0.0, 0.0, 0.6)})]


@cache
def _cloth_dropped() -> list[Case]:
    return [cloth().case(20)]


@cache
def _block_pushed() -> list[Case]:
    begin, end, height = -_ROD - _SOFT[0] / 2 - 0.05, 0.05 - _ROD - _SOFT[0] / 2, 0.01
    return [soft_block().case(waiting(way((begin, 0.0, height), (end, 0.0, height)), 15))]


def _along(points: Tensor) -> Tensor:
    """(u, k, 3) points of a rope in their order along it, which at first is that of x."""
    return points[:, points[0, :, 0].argsort()]


def _lengths(points: Tensor) -> Tensor:
    """(u,) [m] from end to end along a rope."""
    return _along(points).diff(dim=1).norm(dim=-1).sum(1)


def _neighbours(points: Tensor, count: int = 4) -> Tensor:
    """(e, 2) each point with the nearest at first."""
    apart = torch.cdist(points[0], points[0])
    apart.fill_diagonal_(torch.inf)
    near = apart.topk(min(count, len(apart) - 1), largest=False).indices
    rows = torch.arange(len(near))[:, None].expand_as(near)
    return torch.stack([rows, near], -1).reshape(-1, 2)


def _stretch(points: Tensor) -> Tensor:
    """(u, e) how much longer each distance between neighbours is than at first, as a share."""
    a, b = _neighbours(points).unbind(1)
    lengths = (points[:, a] - points[:, b]).norm(dim=-1)
    return lengths / lengths[0] - 1


@check(
    "bending", 0.05, "", "Its weight stretches it by density g length / (2 stiffness) = 1 %; more by jerks.",
    lambda: [*_pulled(), *_lifted()], points=True,
)  # fmt: skip
def rope_keeps_its_length(outcomes: Sequence[Outcome]) -> Found:
    """A rope that is pushed across at its middle, or held up at an end, keeps its length from end to end."""
    lengths = [_lengths(each.points("rope")) for each in outcomes]
    off = worst([(length / length[0] - 1).abs() for length in lengths])
    return Found(off, f"the rope's length changes by {100 * off:.0f} %")


@check("bending", 0.01, "m", "Soft contact, and the way the rope bends about the tool.", _pulled, points=True)
def rope_goes_with_the_tool(outcomes: Sequence[Outcome]) -> Found:
    """The middle of a rope that a closed gripper goes across is where the finger's side is."""
    each = outcomes[0]
    points = each.points("rope")
    middle = points[-1, points[0, :, 0].abs().argmin()]
    off = abs(float(middle[1] - each.case.tool_path[-1, 1]) - _THICK - _RADIUS)
    return Found(off, f"the rope's middle is {1000 * off:.0f} mm from the side of the tool")


@check("bending", 0.02, "m", "Within the fingers, which cover 22 mm.", _lifted, points=True)
def rope_is_held(outcomes: Sequence[Outcome]) -> Found:
    """The end that a gripper closed on goes up with it."""
    each = outcomes[0]
    points = each.points("rope")
    held = (points[0, :, 0] - _TAKEN).abs() < _FINGER
    held[(points[0, :, 0] - _TAKEN).abs().argmin()] = True
    up = float(points[-1, held, 2].mean() - points[0, held, 2].mean())
    wanted = float(each.case.tool_path[-1, 2]) - 0.001
    return Found(abs(up - wanted), f"the held end went up {up:.2f} m, the gripper {wanted:.2f} m")


@check(
    "bending", 0.04, "m", "A tenth of the length; held level, a heavy elastica ends 7 mm higher.",
    _lifted, points=True,
)  # fmt: skip
def held_rope_hangs(outcomes: Sequence[Outcome]) -> Found:
    """A rope held up at one end hangs straight down: its other end a length below, and below the hand."""
    each = outcomes[0]
    points = _along(each.points("rope"))
    free = float(points[0, -1, 0]) - (_TAKEN + _FINGER)
    end, hand = points[-1, -1], each.case.tool_path[-1, :3]
    off = float(end[2] - (hand[2] - free))
    aside = float((end[:2] - hand[:2]).norm())
    said = f"the free end hangs {1000 * off:+.0f} mm above where it should, {1000 * aside:.0f} mm aside"
    return Found(abs(off), said, {"aside_m": aside}, sound=aside < 0.06)


@check("bending", 0.1, "", "As for a box.", _rope_dropped)
def rope_falls(outcomes: Sequence[Outcome]) -> Found:
    """A rope in the air has fallen g t^2 / 2 after t = 0.1, 0.2 and 0.3 s; the error is a share of 0.44 m."""
    times = torch.arange(4) / RATE_HZ
    wanted = GRAVITY * times.square() / 2
    heights = outcomes[0].places("rope")[:4, 2]
    off = float(((heights[0] - heights - wanted).abs() / wanted[-1]).max())
    fell = float(heights[0] - heights[-1])
    return Found(
        off, f"after 0.3 s it fell {fell:.3f} m in place of {float(wanted[-1]):.3f} m", {"fell_m": fell}
    )


@check(
    "bending", 0.1, "", "It lands with 0.4 m/s: a jerk of v / sqrt(stiffness / density) = 1.4 %.",
    _cloth_dropped, points=True,
)  # fmt: skip
def cloth_keeps_its_size(outcomes: Sequence[Outcome]) -> Found:
    """A cloth that falls on a beam does not stretch: the 95th percentile of distances of neighbours."""
    stretched = max(0.0, float(_stretch(outcomes[0].points("cloth")).quantile(0.95, dim=1).max()))
    return Found(stretched, f"the cloth stretches by {100 * stretched:.0f} %")


@check(
    "bending", 0.02, "m", "Held level at the edge, a heavy elastica ends 7 mm higher than that.",
    _cloth_dropped, points=True,
)  # fmt: skip
def cloth_drapes(outcomes: Sequence[Outcome]) -> Found:
    """On a beam lies a cloth's middle; its sides hang down as far as they reach beyond it."""
    points = outcomes[0].points("cloth")
    first, last = points[0], points[-1]
    middle = last[first[:, :2].norm(dim=-1).argmin(), 2]
    sides = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-0.5, 0.0, 0.5])) * _SIDE / 2
    rows = torch.cdist(sides, first[:, :2].contiguous()).argmin(1)
    beyond = first[rows, 0].abs() - _UNDER / 2
    off = (last[rows, 2] - (_UNDER - beyond)).abs().max()
    lies = abs(float(middle) - _UNDER - _THIN / 2)
    said = f"a side hangs {1000 * float(off):.0f} mm off, the middle lies {1000 * lies:.0f} mm off"
    return Found(float(off), said, {"middle_off_m": lies}, sound=lies < 0.01)


@check(
    "bending", 0.05, "", "Under its own weight it sags by density g height / (2 stiffness), 0.06 %.",
    lambda: [soft_block().case(50)], points=True,
)  # fmt: skip
def soft_block_stands(outcomes: Sequence[Outcome]) -> Found:
    """A soft block at rest keeps its height for 5 s, and its place; the change is a share of its height."""
    each = outcomes[0]
    heights = each.points("block")[..., 2].amax(1)
    off, moved = float((heights - heights[0]).abs().max()) / _SOFT[2], worst([each.moved("block")])
    said = f"its height changes by {100 * off:.0f} %, and it moved {1000 * moved:.1f} mm"
    return Found(off, said, {"moved_m": moved}, sound=moved < 0.002)


@check(
    "bending",
    0.05,
    "",
    "Nothing pushes it any more; what is left is friction with the table.",
    _block_pushed,
    points=True,
)
def soft_block_springs_back(outcomes: Sequence[Outcome]) -> Found:
    """A soft block that was pushed away has its size again 1.5 s later, across and upwards."""
    points = outcomes[0].points("block")
    sizes = points.amax(1) - points.amin(1)
    off = float((sizes[-1] / sizes[0] - 1).abs().max())
    return Found(off, f"its size stays changed by {100 * off:.0f} %")


@check("bending", 0.01, "m", "A box's 5 mm, and as much for being soft.", _block_pushed)
def soft_block_goes_with_the_tool(outcomes: Sequence[Outcome]) -> Found:
    """A soft block that is pushed 5 cm at the middle of its face ends 5 cm on."""
    off = (outcomes[0].places("block") - outcomes[0].places("block")[0])[-1, :2] - torch.tensor([0.05, 0.0])
    return Found(
        float(off.norm()), f"it ended {1000 * float(off.norm()):.0f} mm from where the tool's way puts it"
    )


CHECKS = (
    rope_keeps_its_length, rope_goes_with_the_tool, rope_is_held, held_rope_hangs, rope_falls,
    cloth_keeps_its_size, cloth_drapes, soft_block_stands, soft_block_springs_back,
    soft_block_goes_with_the_tool,
)  # fmt: skip
