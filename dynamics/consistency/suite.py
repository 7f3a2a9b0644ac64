"""The suite: all checks in order, run one after another on a predictor, each for itself."""

import logging
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from gaussworld.errors import ConfigError
from gaussworld.log import Done, Event, Progress, drain
from gaussworld.state import Rollout
from gaussworld.threads import one_torch_thread
from gaussworld.world_object import ObjectKind

from . import bending, causality, conservation, horizon, joints, penetration, permanence, sensitivity, support
from .check import Check, Found
from .outcome import Astray, Outcome, outcome
from .predictor import Future, OfDynamics, Predictor
from .scenes import Case

logger = logging.getLogger(__name__)

CHECKS: tuple[Check, ...] = (
    *permanence.CHECKS, *support.CHECKS, *conservation.CHECKS, *penetration.CHECKS, *causality.CHECKS,
    *sensitivity.CHECKS, *horizon.CHECKS, *joints.CHECKS, *bending.CHECKS,
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What one check came to."""

    name: str
    group: str
    asks: str
    passed: bool | None
    """None: it could not be judged, because the model does not say what it takes."""
    value: float
    """In `unit`; NaN if there was no answer."""
    limit: float
    unit: str
    least: bool
    """Whether the value must be at least the limit, and not at most."""
    reason: str
    """Why the limit is there."""
    said: str
    """What went wrong, in a sentence; empty if nothing did."""
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    """[s] that model and judge took."""


@dataclass(frozen=True)
class Report:
    """What the suite came to."""

    model: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> tuple[str, ...]:
        """Names of the checks that passed."""
        return tuple(each.name for each in self.results if each.passed is True)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(each.name for each in self.results if each.passed is False)

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        judged = len(self.passed) + len(self.failed)
        return {
            "format": "gaussworld-consistency",
            "version": 1,
            "model": self.model,
            "passed": len(self.passed),
            "judged": judged,
            "checks": [asdict(each) for each in self.results],
        }


def chosen(only: Sequence[str]) -> tuple[Check, ...]:
    """The checks of these names or groups, in the suite's order; all if none are named.

    Raises:
        ConfigError: there is no such check or group.
    """
    groups = list(dict.fromkeys(each.group for each in CHECKS))
    known = {*groups, *(each.name for each in CHECKS)}
    for name in only:
        if name not in known:
            raise ConfigError(
                f"--only: expected a group ({', '.join(groups)}) or a check, got {name!r};"
                " docs/consistency.md lists the checks"
            )
    return tuple(each for each in CHECKS if not only or each.group in only or each.name in only)


def consistency(model: Predictor, only: Sequence[str] = (), name: str = "model") -> Report:
    """Run the suite.

    Args:
        model: what is tested.
        only: groups and names of checks; default: all.
        name: of the model, for the report.

    Raises:
        ConfigError: there is no such check or group.
    """
    return drain(running(model, chosen(only), name)).result


def running(
    model: Predictor, checks: Sequence[Check], name: str = "model"
) -> Generator[Event[Report], None, None]:
    """As `consistency`, check by check."""
    results: list[Result] = []
    answers = Answers(model)
    with one_torch_thread():
        for row, each in enumerate(checks):
            yield Progress(row, len(checks), message=f"{each.group}: {each.name}")
            results.append(judged(answers, each))
        yield Progress(len(checks), len(checks))
    yield Done(Report(name, tuple(results)))


class Answers:
    """A model's answers, each asked for once: several checks look at the same question."""

    def __init__(self, model: Predictor) -> None:
        self._model = model
        self._known: dict[int, tuple[Case, Future | Rollout]] = {}

    def to(self, cases: Sequence[Case]) -> list[Outcome]:
        """The questions with their answers, in order.

        Raises:
            Astray: an answer that is none.
        """
        new = [case for case in cases if id(case) not in self._known]
        for case, answer in zip(new, self._asked(new), strict=True):
            self._known[id(case)] = (case, answer)
        return [outcome(case, self._known[id(case)][1]) for case in cases]

    def _asked(self, cases: Sequence[Case]) -> Sequence[Future | Rollout]:
        if isinstance(self._model, OfDynamics):
            return self._model.predict_all(cases)
        # Copies: a model that writes into what it is given must not change the questions to the next.
        return [
            self._model.predict(c.world, c.start.map(torch.clone), c.actions.map(torch.clone), c.scene.tools)
            for c in cases
        ]


def judged(answers: Answers, each: Check) -> Result:
    """One check; whatever the model does, it is this check's result and no other's."""
    begun = time.monotonic()
    passed: bool | None = False
    figures: dict[str, float] = {}
    value, said = math.nan, ""
    try:
        outcomes = answers.to(each.cases())
        if each.points and not all(map(_has_points, outcomes)):
            passed, said = None, "the model gives no points of what bends"
        else:
            found = each.judge(outcomes)
            value, figures, passed = found.value, dict(found.figures), each.passes(found)
            said = "" if passed else _sentence(found)
    except Astray as error:
        said = str(error)
    except Exception as error:  # A stranger's model may fail in any way; the next check goes on.
        logger.debug("%s", each.name, exc_info=True)
        said = f"the model failed: {type(error).__name__}: {error}"
    seconds = time.monotonic() - begun
    return Result(
        each.name, each.group, each.asks, passed, value, each.limit, each.unit, each.least, each.reason, said,
        figures, seconds,
    )  # fmt: skip


def _has_points(each: Outcome) -> bool:
    bending = [n for n, item in each.case.world.objects.items() if item.kind is ObjectKind.DEFORMABLE]
    return all(number in each.future.points for number in bending)


def _sentence(found: Found) -> str:
    return found.said if math.isfinite(found.value) else f"{found.said} (no number)"
