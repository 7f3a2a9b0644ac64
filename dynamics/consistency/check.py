"""`Check`: one test of the suite - what it asks, how an answer is judged, and where it passes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .outcome import Outcome
from .scenes import Case


@dataclass(frozen=True)
class Found:
    """What an answer came to."""

    value: float
    """In the check's unit; compared with its limit."""
    said: str
    """One sentence that explains a failure."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, their units in their names."""
    sound: bool = True
    """False fails it, whatever the value."""


Judge = Callable[[Sequence[Outcome]], Found]


@dataclass(frozen=True)
class Check:
    """One test: questions, and what is made of the answers."""

    name: str
    group: str
    asks: str
    """What is tested, in a sentence."""
    limit: float
    """In `unit`: a value up to it passes, or if `least` one from it on."""
    unit: str
    reason: str
    """Why the limit is there and not elsewhere."""
    cases: Callable[[], Sequence[Case]]
    judge: Judge
    least: bool = False
    points: bool = False
    """Whether it needs the points of what bends."""

    def passes(self, found: Found) -> bool:
        """Whether what was found is within the limit; NaN is not."""
        within = found.value >= self.limit if self.least else found.value <= self.limit
        return found.sound and math.isfinite(found.value) and within


def check(
    group: str,
    limit: float,
    unit: str,
    reason: str,
    cases: Callable[[], Sequence[Case]],
    least: bool = False,
    points: bool = False,
) -> Callable[[Judge], Check]:
    """A check of a function that judges: its name is the check's, its docstring says what is asked."""

    def made(judge: Judge) -> Check:
        name, asks = str(judge.__name__).replace("_", "-"), " ".join((judge.__doc__ or "").split())
        return Check(name, group, asks, limit, unit, reason, cases, judge, least, points)

    return made
