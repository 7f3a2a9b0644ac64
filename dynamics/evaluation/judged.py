"""`Judged`: what was found of one model in one episode, as plain values that JSON keeps."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gaussworld.errors import FileFormatError


@dataclass(frozen=True)
class Passage:
    """What became of one thing that can move, for the share of trajectories that were right."""

    object: str
    path_m: float
    """[m] that its followed points really went until then, mean."""
    error_m: float
    """[m] mean distance of its followed points then."""

    def within(self, share: float) -> bool:
        """Whether the error is within this share of the path."""
        return self.error_m <= share * self.path_m


@dataclass(frozen=True)
class Judged:
    """One model in one episode."""

    episode: str
    family: str
    seed: int
    shift: str | None
    """What was held out, such as "mass"; None for an ordinary episode."""
    policy: str
    model: str
    steps: int
    dt: float
    """[s] of a step."""
    still: bool
    """Nothing moved: it is counted apart."""
    failed: str | None = None
    """Why there are no figures; None where there are."""
    at: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Figures after so many steps, by name; see docs/evaluation.md."""
    curve: tuple[float, ...] = ()
    """[m] mean distance at every moment."""
    passages: tuple[Passage, ...] = ()
    """Of things that really moved, after 3 s; none in a shorter episode."""
    energy_gain_j: float | None = None
    """[J] that came from nothing."""
    surprise: float | None = None
    """Out-of-distribution score, range [0, 1], of a model that has one."""
    step_s: tuple[float, ...] = ()
    """[s] that single steps took."""

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "at": {str(step): dict(values) for step, values in self.at.items()}}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Judged":
        """What `record` gave.

        Raises:
            FileFormatError: something is missing, or of another kind.
        """
        try:
            at = {int(step): {k: float(v) for k, v in row.items()} for step, row in record["at"].items()}
            passages = tuple(Passage(**each) for each in record["passages"])
            lists = {name: tuple(map(float, record[name])) for name in ("curve", "step_s")}
            return cls(**{**record, "at": at, "passages": passages, **lists})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"expected the figures of an episode, got none for {error}") from error
