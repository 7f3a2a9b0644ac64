"""The table in the terminal: mean distance at each horizon, by family and model."""

from rich.table import Table
from rich.text import Text

from .report import Report, Row
from .statistics import Mean, Share

#: What improvements are told over, in this order.
BASELINES_TOLD = ("own prior", "prior", "persistence")
#: A change beyond this reads better as a factor.
_LARGE = 3.0


def summary_table(report: Report) -> Table:
    """One line for each model in each family: distances [mm], improvement, trajectories that were right."""
    steps = shown_steps(report)
    judged = last_told(report, steps)
    heads = ["family", "n", "model", *map(str, steps), "failed"]
    heads += [*(f"vs {base}" for base in BASELINES_TOLD), "right at 3 s", "covered", "step"]
    groups = [
        [_line(report, row, place, steps, judged.get(group)) for place, row in enumerate(report.of(group))]
        for group in report.groups
    ]
    # What nobody has is no column.
    kept = [
        place for place in range(len(heads)) if any(str(line[place]) for lines in groups for line in lines)
    ]
    table = Table(title=Text(title_of(report)), title_justify="left", show_edge=False, pad_edge=False)
    for place in kept:
        table.add_column(heads[place], justify="left" if heads[place] in ("family", "model") else "right")
    for lines in groups:
        for line in lines:
            table.add_row(*(line[place] for place in kept))
        table.add_section()
    return table


def title_of(report: Report) -> str:
    """What the numbers are."""
    first = report.rows[0] if report.rows else None
    rate = f" of {first.dt:g} s" if first is not None else ""
    return f"Mean distance [mm] after so many steps{rate}, {report.facts.get('worlds', '')}".rstrip(", ")


def shown_steps(report: Report) -> list[int]:
    """The horizons that any episode reaches."""
    return [step for step in report.horizons if any(step in row.at for row in report.rows)]


def last_told(report: Report, steps: list[int]) -> dict[tuple[str, str | None], int]:
    """The horizon at which a family's improvement is told: 30 steps, or the last before that it reaches."""
    found = {}
    for group in report.groups:
        reached = [step for step in steps if step <= 30 and any(step in row.at for row in report.of(group))]
        if reached:
            found[group] = reached[-1]
    return found


def group_name(group: tuple[str, str | None]) -> str:
    """A family, with what was held out."""
    family, shift = group
    return family if shift is None else f"{family} · other {shift}"


def _line(report: Report, row: Row, place: int, steps: list[int], judged: int | None) -> list[Text | str]:
    cells: list[Text | str] = [group_name(row.group) if place == 0 else "", _count(row) if place == 0 else ""]
    cells.append(row.model)
    for step in steps:
        cells.append(_distance(row.figure("distance_m", step), report.leads(row, step)))
    cells.append(Text(f"{len(row.failed)} failed", "bold red") if row.failed else "")
    for base in BASELINES_TOLD:
        cells.append(gained(row.gain.get(base, {}).get(judged) if judged is not None else None))
    cells += [shared(row.success), shared(row.covered("placed_moved", judged))]
    return [*cells, f"{1000 * row.step_s['p50']:.1f} ms" if row.step_s else ""]


def _count(row: Row) -> str:
    return f"{row.episodes}" + (f" (+{row.still} still)" if row.still else "")


def _distance(told: Mean | None, best: bool) -> Text | str:
    if told is None:
        return "–"
    half = 1000 * (told.high - told.low) / 2
    text = f"{1000 * told.mean:.1f} ± {half:.1f}" if told.count > 1 else f"{1000 * told.mean:.1f}"
    return Text(f"{text} *", "bold green") if best else text


def gained(told: Mean | None) -> str:
    """An improvement in percent; minus is less error."""
    return "" if told is None else changed(-told.mean)


def changed(share: float) -> str:
    """A change in signed whole percent, never minus zero; as a factor where it is large."""
    if share > _LARGE:
        return f"×{1 + share:.0f}"
    text = f"{100 * share:+.0f}"
    return "0 %" if text in ("-0", "+0") else f"{text.replace('-', '−')} %"


def shared(told: Share | None) -> str:
    """A share in percent with its interval."""
    return "" if told is None else f"{100 * told.share:.0f} % ({100 * told.low:.0f}–{100 * told.high:.0f})"
