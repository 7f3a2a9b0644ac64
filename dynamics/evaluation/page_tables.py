"""The page's tables: distances at all horizons, every figure at one of them, what is said once of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .report import COVERAGES, LEAST_MOVED_M, Report, Row
from .statistics import Mean, Share
from .table import BASELINES_TOLD, changed, group_name, last_told

#: What a cell holds: a value to sort by, and HTML.
Cell = tuple[int | float | None, str]


@dataclass(frozen=True)
class Column:
    """A figure of the table of all figures."""

    head: str
    name: str
    scale: float = 1.0
    digits: int = 2
    larger: bool = False
    """Whether more is better."""


COLUMNS = (
    Column("distance<br>mm", "distance_m", 1000.0),
    Column("track error<br>mm", "track_m", 1000.0),
    Column("Chamfer<br>mm", "chamfer_m", 1000.0),
    Column("EMD<br>mm", "emd_m", 1000.0),
    Column("position<br>mm", "position_m", 1000.0),
    Column("angle<br>deg", "angle_deg"),
    Column("IoU", "iou", 1.0, 3, True),
    Column("PSNR<br>dB", "psnr_db", 1.0, 1, True),
    Column("SSIM", "ssim", 1.0, 3, True),
    Column("LPIPS", "lpips", 1.0, 3),
    Column("film IoU", "film_iou", 1.0, 3, True),
    Column("film PSNR<br>dB", "film_psnr_db", 1.0, 1, True),
    Column("film SSIM", "film_ssim", 1.0, 3, True),
    Column("film LPIPS", "film_lpips", 1.0, 3),
    Column("penetration<br>mm", "penetration_m", 1000.0),
    Column("momentum<br>g m/s", "momentum_kg_m_s", 1000.0),
    Column("energy<br>mJ", "energy_j", 1000.0),
    Column("radius<br>mm", "spread_m", 1000.0),
)


#: Episodes in the list of the worst.
_WORST = 10
_COVERED = ("covered<br>by place", "if it moved", "covered<br>by points", "if it moved")


def distances_table(report: Report, steps: Sequence[int], places: Mapping[str, int]) -> str:
    """Mean distance at all horizons, improvements at one."""
    told = last_told(report, list(steps))
    heads = ["Family", "Model", "Episodes", *(f"{step} step{'s' * (step > 1)}<br>mm" for step in steps)]
    bases = [base for base in BASELINES_TOLD if any(row.gain.get(base) for row in report.rows)]
    heads += [*(f"vs {base}" for base in bases), "right at 3 s"]
    lines = []
    for row, begins in _rows(report):
        at = told.get(row.group)
        cells: list[Cell] = [(row.episodes, _episodes(row))]
        for step in steps:
            best = report.leads(row, step)
            cells.append(_mean(row.figure("distance_m", step), 1000.0, 2, best, True))
        for base in bases:
            cells.append(_gain(row.gain.get(base, {}).get(at) if at is not None else None))
        cells.append(_share(row.success))
        lines.append(_line(row, cells, begins, places))
    return _table(heads, lines)


def figures_table(report: Report, step: int, places: Mapping[str, int]) -> str:
    """Every figure after so many steps; what nobody has is left out."""
    rows = [(row, begins) for row, begins in _rows(report) if step in row.at]
    columns = [each for each in COLUMNS if any(row.figure(each.name, step) for row, _ in rows)]
    covered = any(row.covered("placed", step) for row, _ in rows)
    lines = []
    for row, begins in rows:
        group = [other for other in report.of(row.group) if not other.failed]
        cells: list[Cell] = [_figure(row, group, column, step) for column in columns]
        if covered:
            cells += [_share(row.covered(name, step)) for name in COVERAGES]
        lines.append(_line(row, cells, begins, places))
        recording = next((each for each in report.recording if each.group == row.group), None)
        if row is report.of(row.group)[-1] and recording is not None:
            told = [_recorded(recording, column, step) for column in columns]
            lines.append(
                _line(recording, [*told, *[(None, "–")] * (len(COVERAGES) * covered)], False, places)
            )
    heads = ["Family", "Model", *(column.head for column in columns)]
    return _table(heads + (list(_COVERED) if covered else []), lines)


def models_table(report: Report, places: Mapping[str, int]) -> str:
    """What is said once of a model in a family."""
    heads = ["Family", "Model", "Episodes", "failed", "right at 3 s", "energy from nothing<br>mJ"]
    heads += ["step, p50<br>ms", "step, p95<br>ms", "unusual", "moved where nothing did<br>mm"]
    lines = []
    for row, begins in _rows(report):
        steps = sorted(row.still_m)
        failed = f'<span class="bad">{len(row.failed)}</span>' if row.failed else "0"
        cells = [
            (row.episodes, _episodes(row)),
            (float(len(row.failed)), failed),
            _share(row.success),
            _mean(row.energy_gain_j, 1000.0, 3),
            *((row.step_s.get(p), _number(row.step_s.get(p), 1000.0, 2)) for p in ("p50", "p95")),
            _mean(row.surprise, 1.0, 3),
            _mean(row.still_m[steps[-1]] if steps else None, 1000.0, 3),
        ]
        lines.append(_line(row, cells, begins, places))
    return _table(heads, lines)


def worst_table(report: Report, model: str) -> str:
    """The episodes in which a model is farthest off after 30 steps, or the last horizon before."""
    told = last_told(report, list(report.horizons))
    found = []
    for each in report.judged:
        figures = each.at.get(told.get((each.family, each.shift), 0))
        if each.model == model and not each.still and figures is not None:
            found.append((figures["distance_m"], figures["moved_m"], each))
    found.sort(key=lambda entry: -entry[0])
    lines = [
        f'<tr><th scope="row">{escape(each.episode)}</th>'
        f"<td>{escape(group_name((each.family, each.shift)))}</td>"
        f"<td>{escape(each.policy)}</td><td>{1000 * off:.1f} mm</td><td>{1000 * moved:.1f} mm</td></tr>"
        for off, moved, each in found[:_WORST]
    ]
    if not lines:
        return ""
    heads = ("Episode", "Family", "Policy", "off by", "things went")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _rows(report: Report) -> list[tuple[Row, bool]]:
    """All rows, and whether each is the first of its family."""
    return [(row, place == 0) for group in report.groups for place, row in enumerate(report.of(group))]


def _figure(row: Row, group: Sequence[Row], column: Column, step: int) -> Cell:
    told = row.figure(column.name, step)
    others = [mean.mean for other in group if (mean := other.figure(column.name, step)) is not None]
    moved = row.figure("moved_m", step)
    plain = row.failed or len(set(others)) < 2 or column.name == "spread_m"
    if told is None or plain or moved is None or moved.mean <= LEAST_MOVED_M:
        return _mean(told, column.scale, column.digits)
    choose: Callable[[list[float]], float] = max if column.larger else min
    return _mean(told, column.scale, column.digits, told.mean == choose(others))


def _recorded(row: Row, column: Column, step: int) -> Cell:
    # Everything else of a recording is its distance from itself.
    told = row.figure(column.name, step) if column.name == "penetration_m" else None
    return _mean(told, column.scale, column.digits)


def _line(row: Row, cells: Sequence[Cell], begins: bool, places: Mapping[str, int]) -> str:
    family = group_name(row.group)
    shown = "".join(
        f'<td data-v="{"" if value is None else f"{value:.6g}"}">{text}</td>' for value, text in cells
    )
    place = places.get(row.model)
    key = "soft" if place is None else f"key m{place}"
    return (
        f"<tr{' class=begins' if begins else ''}>"
        f'<th scope="row" data-v="{escape(family)}">{escape(family)}</th>'
        f'<td data-v="{escape(row.model)}"><span class="{key}">{escape(row.model)}</span></td>{shown}</tr>'
    )


def _table(heads: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f'<th scope="col"><button type="button">{text}</button></th>' for text in heads)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _episodes(row: Row) -> str:
    still = f"<small>+ {row.still} still</small>" if row.still else ""
    failed = f' <small class="bad">{len(row.failed)} failed</small>' if row.failed else ""
    return f"{row.episodes}{still}{failed}"


def _mean(told: Mean | None, scale: float, digits: int, best: bool = False, interval: bool = False) -> Cell:
    if told is None:
        return None, "–"
    text = f"{told.mean * scale:.{digits}f}"
    text = f'<span class="best"><i>{text}</i></span>' if best else text
    if interval and told.count > 1:
        text += f"<small>{told.low * scale:.{digits}f}–{told.high * scale:.{digits}f}</small>"
    return told.mean * scale, text


def _gain(told: Mean | None) -> Cell:
    if told is None:
        return None, "–"
    low, high = (changed(value) for value in sorted((-told.low, -told.high)))
    text = f"{changed(-told.mean)}<small>{low} to {high}</small>"
    return -told.mean, text


def _share(told: Share | None) -> Cell:
    if told is None:
        return None, "–"
    interval = f"{100 * told.low:.0f}–{100 * told.high:.0f}, {told.hits}/{told.count}"
    return told.share, f"{100 * told.share:.0f} %<small>{interval}</small>"


def _number(value: float | None, scale: float, digits: int) -> str:
    return "–" if value is None else f"{value * scale:.{digits}f}"
