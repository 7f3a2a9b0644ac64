"""Conservation: momentum in free flight, energy that nothing adds to, friction that only slows."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from .check import Found, check
from .outcome import Outcome, worst
from .scenes import BOX, GRAVITY, Case, Scene, Solid, one_box, table, two_boxes

_HEIGHT = BOX[2] / 2
#: [m/s] and [rad/s] with which things are thrown; 0.4 s later they are still in the air.
_THROWN = (0.8, 0.4, 1.5)
_SPUN = (1.5, 2.0, 2.5)
_FLIGHT = 4
_PUSHED_OFF = 1.0
"""[m/s] with which things slide."""


@cache
def brick() -> Scene:
    """A box of three different edges, which bounces a little."""
    size = (0.12, 0.08, 0.04)
    return Scene("brick", (table(), Solid("box", size, (0.0, 0.0, size[2] / 2), restitution=0.3)))


@cache
def _thrown() -> list[Case]:
    begin = {"box": (0.0, 0.0, 0.5)}
    spins = [(0.0, 0.0, 0.0), _SPUN, (0.0, 0.0, 4.0)]
    return [brick().case(_FLIGHT, places=begin, twists={"box": (*_THROWN, *spin)}) for spin in spins]


@cache
def _dropped() -> list[Case]:
    turns = [(0.0, 0.0, 0.0), (0.6, 0.2, 0.0), (0.3, -0.9, 0.4)]
    return [brick().case(15, places={"box": (0.0, 0.0, 0.3)}, turns={"box": turn}) for turn in turns]


@cache
def _sliding() -> list[Case]:
    speed = _PUSHED_OFF
    twists = [
        (speed, 0.0, 0.0, 0.0, 0.0, 0.0),
        (0.6, 0.5, 0.0, 0.0, 0.0, 5.0),
        (0.0, 0.0, 0.0, 0.0, 0.0, 8.0),
    ]
    return [one_box().case(12, twists={"box": twist}) for twist in twists]


@cache
def _sliding_far() -> list[Case]:
    twist = {"box": (_PUSHED_OFF, 0.0, 0.0, 0.0, 0.0, 0.0)}
    return [one_box(friction).case(12, twists=twist) for friction in (0.2, 0.4)]


@cache
def _hitting() -> list[Case]:
    return [two_boxes(0.0).case(8, twists={"near": (0.5, 0.0, 0.0, 0.0, 0.0, 0.0)})]


def _energy(each: Outcome, name: str) -> Tensor:
    """(t,) [J] of every step: from mean velocities, and the height that goes with them in free flight.

    Halfway through a step the height is the mean of its ends less a dt^2 / 8, a the acceleration there.
    """
    solid = each.case.scene.solid(name)
    speed, spin = each.velocities(name), each.spins(name)
    heights = each.places(name)[:, 2]
    bends = heights.diff(n=2)
    bends = torch.cat([bends[:1], (bends[1:] + bends[:-1]) / 2, bends[-1:]])
    halfway = (heights[1:] + heights[:-1]) / 2 - bends / 8
    turning = (each.angular_momenta(name) * spin).sum(-1) / 2
    return solid.mass * (speed.square().sum(-1) / 2 + GRAVITY * halfway) + turning


def _first_energy(each: Outcome, name: str) -> float:
    """[J] at time 0, by what was asked."""
    solid, row = each.case.scene.solid(name), each.row(name)
    twist = each.case.start.object_twists[row]
    turn = each.turns(name)[0]
    spin = turn.T @ twist[3:]
    height = float(each.case.start.object_poses[row, 2])
    moving = solid.mass * float(twist[:3].square().sum()) / 2
    return moving + float(spin @ solid.inertia @ spin) / 2 + solid.mass * GRAVITY * height


@check("conservation", 0.02, "", "Nothing acts sideways; 2 % is more than any integrator loses.", _thrown)
def flight_momentum(outcomes: Sequence[Outcome]) -> Found:
    """A thrown box keeps its horizontal velocity in flight; the change is a share of it."""
    wanted = torch.tensor(_THROWN[:2])
    off = worst([(each.velocities("box")[:, :2] - wanted).norm(dim=-1) / wanted.norm() for each in outcomes])
    return Found(off, f"its horizontal velocity changes by {100 * off:.0f} % in the air")


@check(
    "conservation", 0.05, "",
    "Read from poses 0.1 s apart, a spin of 4 rad/s is uncertain by (w dt)^2 / 24, below 1 %.", _thrown,
)  # fmt: skip
def flight_spin(outcomes: Sequence[Outcome]) -> Found:
    """A thrown box keeps its angular momentum in flight, tumbling or not; the change is a share of it."""
    changes = []
    for each in outcomes[1:]:
        turn, spin = each.turns("box")[0], each.case.start.object_twists[each.row("box"), 3:]
        first = turn @ each.case.scene.solid("box").inertia @ turn.T @ spin
        changes.append((each.angular_momenta("box") - first).norm(dim=-1) / first.norm())
    off = worst(changes)
    return Found(off, f"its angular momentum changes by {100 * off:.0f} % in the air")


@check(
    "conservation",
    0.05,
    "",
    "An integrator of first order with 6 substeps a step is off by 2 % here.",
    _thrown,
)
def flight_energy(outcomes: Sequence[Outcome]) -> Found:
    """The energy of a thrown box stays the same; the change is a share of that it has over the table."""
    changes = []
    for each in outcomes:
        first = _first_energy(each, "box")
        changes.append((_energy(each, "box") / first - 1).abs())
    off = worst(changes)
    return Found(off, f"its energy changes by {100 * off:.0f} % in the air")


@check("conservation", 0.05, "", "As in flight; a bounce may lose any share, and gains none.", _dropped)
def landing_gains_nothing(outcomes: Sequence[Outcome]) -> Found:
    """A dropped box never has more energy than it began with, whatever it does on the table."""
    gains = [_energy(each, "box") / _first_energy(each, "box") - 1 for each in outcomes]
    gain = max(0.0, worst(gains))
    return Found(gain, f"its energy rises by {100 * gain:.0f} % over that with which it was let go")


@check("conservation", 0.01, "m/s", "Friction only slows; 1 % of the first speed.", _sliding)
def sliding_slows(outcomes: Sequence[Outcome]) -> Found:
    """A box that slides or spins on a level table never gets faster, nor turns faster."""
    gains, spins = [], []
    for each in outcomes:
        twist = each.case.start.object_twists[each.row("box")]
        speed = torch.cat([twist[:3].norm()[None], each.velocities("box").norm(dim=-1)])
        spin = torch.cat([twist[3:].norm()[None], each.spins("box").norm(dim=-1)])
        gains.append(speed.diff())
        spins.append(spin.diff())
    gain, spun = max(0.0, worst(gains)), max(0.0, worst(spins))
    said = f"its speed rises by {gain:.3f} m/s, its turning by {spun:.2f} rad/s, though nothing pushes"
    return Found(gain, said, {"spin_rad_s": spun}, sound=spun < 0.1)


@check("conservation", 0.1, "", "As for the free fall: an integrator of first order.", _sliding_far)
def sliding_distance(outcomes: Sequence[Outcome]) -> Found:
    """A box that begins at v = 1 m/s slides v^2 / (2 mu g): 0.255 m and 0.127 m for mu = 0.2 and 0.4."""
    wanted = [_PUSHED_OFF**2 / (2 * mu * GRAVITY) for mu in (0.2, 0.4)]
    slid = [float(each.moved("box")[-1]) for each in outcomes]
    off = max(abs(a - b) / b for a, b in zip(slid, wanted))
    said = f"it slid {slid[0]:.3f} and {slid[1]:.3f} m in place of {wanted[0]:.3f} and {wanted[1]:.3f} m"
    return Found(off, said, {"slid_02_m": slid[0], "slid_04_m": slid[1]})


@check("conservation", 0.05, "", "Without friction nothing takes momentum away.", _hitting)
def collision_momentum(outcomes: Sequence[Outcome]) -> Found:
    """Without friction a sliding box hits an equal one: their momentum stays, and no energy is gained."""
    each = outcomes[0]
    speeds = torch.stack([each.velocities(name) for name in ("near", "far")])
    off = float((speeds.sum(0) - torch.tensor([0.5, 0.0, 0.0])).norm(dim=-1).max()) / 0.5
    energy = float(speeds.square().sum((0, 2)).max()) / 0.25 - 1
    gap = float((each.places("far") - each.places("near"))[:, 0].min()) - BOX[0]
    said = (
        f"the momentum of both changes by {100 * off:.0f} %, their energy by {100 * energy:+.0f} % at most,"
        f" and the gap between them gets down to {1000 * gap:.0f} mm"
    )
    return Found(off, said, {"energy_gain": energy, "gap_m": gap}, sound=energy < 0.05 and gap > -0.002)


CHECKS = (
    flight_momentum, flight_spin, flight_energy, landing_gains_nothing, sliding_slows, sliding_distance,
    collision_momentum,
)  # fmt: skip
