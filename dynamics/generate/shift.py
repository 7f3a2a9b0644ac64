"""`Shift`: what is drawn from where no ordinary episode is, and which families can have it."""

from collections.abc import Sequence
from typing import Literal, get_args

from gaussworld.errors import ConfigError

Shift = Literal["none", "shape", "size", "mass", "friction", "color", "count", "tool"]
SHIFTS: tuple[Shift, ...] = get_args(Shift)
#: Families that can have a shift, where it is not all of them: no second door is beside a door.
_APT: dict[Shift, tuple[str, ...]] = {"count": ("push_t", "push", "push_many", "lift")}


def check_shift(shift: Shift, families: Sequence[str]) -> None:
    """Refuse what a family cannot have.

    Raises:
        ConfigError: so it is, or there is no such shift.
    """
    if shift not in SHIFTS:
        raise ConfigError(f"--shift: expected one of {', '.join(SHIFTS)}, got {shift!r}")
    apt = _APT.get(shift)
    if others := [name for name in families if apt is not None and name not in apt]:
        raise ConfigError(f"--shift {shift}: expected --family {' or '.join(apt or ())}, got {others[0]}")
