"""`Report`: what was found of all models, family by family and shift by shift; report.json."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gaussworld.facts import finite

from .entrants import OWN_PRIOR
from .judge import RECORDING
from .judged import Judged
from .statistics import Mean, Share, curve_of, gain_of, mean_of, quantile_of, share_of

FORMAT, VERSION = "gaussworld-evaluation", 1
#: A trajectory is right whose error is within this share of its path.
WITHIN = 0.05
#: [m] before things have gone so far on average, there is nothing to be better at.
LEAST_MOVED_M = 1e-4
#: What improvements are told over.
BASES = ("prior", "persistence")
#: What is counted of radii: things, or those that had moved; by place, or by the mean distance of points.
COVERAGES = ("placed", "placed_moved", "near", "near_moved")
_COUNTS = (*COVERAGES, "asked", "asked_moved")


@dataclass(frozen=True)
class Row:
    """One model in the episodes of one family, ordinary or of one shift."""

    family: str
    shift: str | None
    model: str
    episodes: int
    """In which something moved: all figures are of these."""
    still: int
    """In which nothing did: counted apart."""
    failed: Mapping[str, str]
    """Episodes in which there is no figure, and why."""
    at: Mapping[int, Mapping[str, Mean]]
    """Figures after so many steps, by name: means over the episodes that last so long."""
    gain: Mapping[str, Mapping[int, Mean]]
    """By which share the mean distance is below that of a baseline: prior, persistence, or "own prior", which
    was fitted with the model. Not for a model that failed, nor before things moved 0.1 mm on average."""
    coverage: Mapping[str, Mapping[int, Share]]
    """How often things were within the 90 % radius that was predicted: by one of `COVERAGES`, by steps."""
    success: Share | None
    """Of things that moved, within 5 % of their path's length after 3 s."""
    energy_gain_j: Mean | None
    surprise: Mean | None
    step_s: Mapping[str, float]
    """p50 and p95 of what a step took."""
    curve: Sequence[tuple[float, float, float]]
    """[m] mean distance at each moment, and its interval."""
    still_m: Mapping[int, Mean]
    """[m] mean distance where nothing moved."""
    dt: float = 0.1
    """[s] of a step."""

    @property
    def group(self) -> tuple[str, str | None]:
        """Family and shift."""
        return self.family, self.shift

    def covered(self, name: str, step: int | None) -> Share | None:
        """One of `COVERAGES` after so many steps, if there is one."""
        return None if step is None else self.coverage.get(name, {}).get(step)

    def figure(self, name: str, step: int) -> Mean | None:
        """A mean after so many steps, if there is one."""
        return self.at.get(step, {}).get(name)


@dataclass(frozen=True)
class Report:
    """What was found."""

    rows: tuple[Row, ...]
    """Of models; families in order, within them shifts, within them models."""
    recording: tuple[Row, ...]
    """What the same measures say of the recordings themselves."""
    judged: tuple[Judged, ...]
    """Of every episode."""
    models: tuple[str, ...]
    horizons: tuple[int, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Episodes in which nobody was judged, and why."""
    videos: tuple[Mapping[str, str], ...] = ()
    """File beside the report, episode, family, what is shown."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Settings, machine, when."""

    @property
    def groups(self) -> tuple[tuple[str, str | None], ...]:
        """Families and shifts, in order."""
        return tuple(dict.fromkeys(row.group for row in self.rows))

    def of(self, group: tuple[str, str | None]) -> tuple[Row, ...]:
        """The models' rows of a family and shift."""
        return tuple(row for row in self.rows if row.group == group)

    def best(self, group: tuple[str, str | None], step: int) -> str | None:
        """The model of the least mean distance that never failed; None before things move, or if all tie."""
        found = {
            row.model: told.mean
            for row in self.of(group)
            if not row.failed
            and (told := row.figure("distance_m", step)) is not None
            and (moved := row.figure("moved_m", step)) is not None
            and moved.mean > LEAST_MOVED_M
        }
        tied = len(found) == len(self.of(group)) and len(set(found.values())) == 1
        return None if not found or tied else min(found, key=lambda name: found[name])

    def leads(self, row: Row, step: int) -> bool:
        """Whether no model of its family has a smaller mean distance."""
        best = next((each for each in self.of(row.group) if each.model == self.best(row.group, step)), None)
        ours, theirs = (each and each.figure("distance_m", step) for each in (row, best))
        return not row.failed and ours is not None and theirs is not None and ours.mean == theirs.mean

    def record(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return finite(
            {
                "format": FORMAT,
                "version": VERSION,
                **self.facts,
                "models": list(self.models),
                "horizons": list(self.horizons),
                "rows": [_plain(row) for row in self.rows],
                "recording": [_plain(row) for row in self.recording],
                "left_out": dict(self.left_out),
                "videos": [dict(each) for each in self.videos],
                "episodes": [each.record() for each in self.judged],
            }
        )


def report_of(
    judged: Iterable[Judged],
    models: Sequence[str],
    horizons: Sequence[int],
    seed: int = 0,
    left_out: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Report:
    """Sum up what was found in single episodes.

    Args:
        judged: in any order.
        models: in the order of tables.
        horizons: [steps]
        seed: of the resampling.
        left_out: episodes in which nobody was judged, and why.
        facts: what else the report says.
    """
    found = sorted(judged, key=lambda each: (each.family, each.shift or "", each.episode))
    groups: dict[tuple[str, str | None], list[Judged]] = {}
    for each in found:
        groups.setdefault((each.family, each.shift), []).append(each)
    rows = [_row(mine, name, horizons, seed) for mine in groups.values() for name in models]
    recorded = [_row(mine, RECORDING, horizons, seed) for mine in groups.values()]
    return Report(
        tuple(row for row in rows if row is not None),
        tuple(row for row in recorded if row is not None),
        tuple(found),
        tuple(models),
        tuple(horizons),
        dict(left_out or {}),
        facts=dict(facts or {}),
    )


def _row(group: Sequence[Judged], model: str, horizons: Sequence[int], seed: int) -> Row | None:
    mine = [each for each in group if each.model == model]
    if not mine:
        return None
    moving = [each for each in mine if not each.still]
    good = [each for each in moving if each.failed is None]
    failed = {each.episode: each.failed for each in mine if each.failed is not None}
    passages = [passage for each in good for passage in each.passages]
    times = [seconds for each in good for seconds in each.step_s[1:]]
    middle, slow = quantile_of(times, 0.5), quantile_of(times, 0.95)
    bases = {name: name for name in BASES if name != model} | {"own prior": model + OWN_PRIOR}
    gains = {told: _gains(good, group, base, horizons, seed) for told, base in bases.items() if not failed}
    return Row(
        mine[0].family,
        mine[0].shift,
        model,
        episodes=len(moving),
        still=len(mine) - len(moving),
        failed=failed,
        at=_means(good, horizons, seed),
        gain={name: told for name, told in gains.items() if told},
        coverage={name: told for name in COVERAGES if (told := _covered(good, horizons, name))},
        success=share_of(sum(each.within(WITHIN) for each in passages), len(passages)),
        energy_gain_j=mean_of([e.energy_gain_j for e in good if e.energy_gain_j is not None], seed),
        surprise=mean_of([each.surprise for each in good if each.surprise is not None], seed),
        step_s={} if middle is None or slow is None else {"p50": middle, "p95": slow},
        curve=curve_of([each.curve for each in good], seed),
        still_m=_still(mine, horizons, seed),
        dt=mine[0].dt,
    )


def _means(judged: Sequence[Judged], horizons: Sequence[int], seed: int) -> dict[int, dict[str, Mean]]:
    found = {}
    for step in horizons:
        rows = [each.at[step] for each in judged if step in each.at]
        names = dict.fromkeys(name for row in rows for name in row if name not in _COUNTS)
        means = {name: mean_of([row[name] for row in rows if name in row], seed) for name in names}
        if told := {name: mean for name, mean in means.items() if mean is not None}:
            found[step] = told
    return found


def _still(judged: Sequence[Judged], horizons: Sequence[int], seed: int) -> dict[int, Mean]:
    still = [each for each in judged if each.still and each.failed is None]
    means = _means(still, horizons, seed)
    return {step: row["distance_m"] for step, row in means.items()}


def _gains(
    good: Sequence[Judged], group: Sequence[Judged], base: str, horizons: Sequence[int], seed: int
) -> dict[int, Mean]:
    """Over a baseline, of the episodes in which that did not fail."""
    others = {each.episode: each.at for each in group if each.model == base and each.failed is None}
    found = {}
    for step in horizons:
        pairs = [
            (each.at[step], others[each.episode][step])
            for each in good
            if step in each.at and step in others.get(each.episode, {})
        ]
        if sum(a["moved_m"] for a, _ in pairs) <= LEAST_MOVED_M * len(pairs):
            continue
        told = gain_of([a["distance_m"] for a, _ in pairs], [b["distance_m"] for _, b in pairs], seed)
        if told is not None:
            found[step] = told
    return found


def _covered(judged: Sequence[Judged], horizons: Sequence[int], name: str) -> dict[int, Share]:
    found, asked = {}, "asked_moved" if name.endswith("_moved") else "asked"
    for step in horizons:
        rows = [each.at[step] for each in judged if "asked" in each.at.get(step, {})]
        hits, count = (int(sum(row[each] for row in rows)) for each in (name, asked))
        if (told := share_of(hits, count)) is not None:
            found[step] = told
    return found


def _plain(row: Row) -> dict[str, Any]:
    told = asdict(row)
    for name in ("at", "still_m"):
        told[name] = {str(step): value for step, value in told[name].items()}
    for name in ("gain", "coverage"):
        told[name] = {key: {str(n): value for n, value in row.items()} for key, row in told[name].items()}
    told["curve"] = [list(moment) for moment in row.curve]
    return told
