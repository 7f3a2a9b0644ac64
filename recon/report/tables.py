"""The page's tables: scores of every picture, times of the stages, pictures left out, plain facts."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from ..evaluate import Scores, ViewScore, badness
from .words import counted, duration, figure, length

_MOST_ROWS = 400
_MOST_NAMES = 200


def scores_table(scores: Scores, metres_per_unit: float | None) -> str:
    """One row a picture, the worst first; its heads sort it."""
    views = scores.worst(_MOST_ROWS)
    columns = [("PSNR", "psnr", 2), ("SSIM", "ssim", 4)]
    if scores.lpips is not None:
        columns.append(("LPIPS", "lpips", 4))
    depth = scores.depth_error is not None
    heads = ["Picture", *(title for title, _, _ in columns), *(["Depth error"] if depth else [])]
    low, high = _range(views)
    rows = []
    for view in views:
        cells = [_cell(getattr(view, name), digits) for _, name, digits in columns]
        cells[0] = _cell(view.psnr, 2, " dB", _share(view.psnr, low, high))
        if depth:
            cells.append(_length_cell(view.depth_error, metres_per_unit))
        rows.append(
            f'<tr><th scope="row" data-v="{escape(view.name)}">{escape(view.name)}</th>{"".join(cells)}</tr>'
        )
    means = [figure(getattr(scores, name), digits) for _, name, digits in columns]
    means[0] += " dB"
    if depth:
        means.append(length(scores.depth_error, metres_per_unit))
    mean = "".join(f"<td>{value}</td>" for value in means)
    more = len(scores.views) - len(views)
    rest = f'<p class="soft">The other {more:,} are in report.json.</p>' if more else ""
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{_heads(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
        f'<tfoot><tr class="mean"><th scope="row">mean</th>{mean}</tr></tfoot></table></div>{rest}'
    )


def stages_table(seconds: Mapping[str, float]) -> str:
    """What took how long, with a bar for its share."""
    longest = max(seconds.values(), default=0.0) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{duration(value)}</td>'
        f'<td><span class="bar" style="--share:{value / longest:.3f}"></span></td></tr>'
        for name, value in seconds.items()
    )
    total = (
        f'<tr class="mean"><th scope="row">all</th><td>{duration(sum(seconds.values()))}</td><td></td></tr>'
    )
    return f'<table class="stages"><tbody>{rows}{total}</tbody></table>'


def facts_table(facts: Mapping[str, str] | Sequence[tuple[str, str]]) -> str:
    """Names and values in words."""
    pairs = facts.items() if isinstance(facts, Mapping) else facts
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(str(v))}</td></tr>' for k, v in pairs)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def left_out_list(left_out: Sequence[tuple[str, str]]) -> str:
    """Grouped by reason, most pictures first."""
    groups: dict[str, list[str]] = {}
    for name, reason in left_out:
        groups.setdefault(reason, []).append(name)
    opened = " open" if len(left_out) <= 12 else ""
    parts = []
    for reason, names in sorted(groups.items(), key=lambda item: -len(item[1])):
        listed = ", ".join(f"<code>{escape(name)}</code>" for name in names[:_MOST_NAMES])
        more = f" and {len(names) - _MOST_NAMES:,} more, see report.json" if len(names) > _MOST_NAMES else ""
        summary = f"{escape(reason)} <small>· {counted(len(names), 'picture')}</small>"
        parts.append(f"<details{opened}><summary>{summary}</summary><p>{listed}{more}</p></details>")
    return "".join(parts)


def _heads(titles: Sequence[str]) -> str:
    sort = {"PSNR": ' aria-sort="ascending"'}
    return "".join(
        f'<th scope="col"{sort.get(title, "")}><button type="button" title="Sort">{title}</button></th>'
        for title in titles
    )


def _cell(value: float | None, digits: int, unit: str = "", share: float | None = None) -> str:
    known = value is not None and not math.isnan(value)
    bar = "" if share is None else f'<span class="place" style="--share:{share:.3f}"></span>'
    key = "" if not known else "1e9" if math.isinf(value or 0.0) else f"{value:.6g}"
    return f'<td data-v="{key}">{figure(value, digits)}{unit if known else ""}{bar}</td>'


def _length_cell(value: float | None, metres_per_unit: float | None) -> str:
    if value is None:
        return '<td data-v="">–</td>'
    return f'<td data-v="{value:.6g}">{length(value, metres_per_unit)}</td>'


def _range(views: Sequence[ViewScore]) -> tuple[float, float]:
    known = [badness(view) for view in views if math.isfinite(badness(view))]
    return (min(known), max(known)) if known else (0.0, 0.0)


def _share(value: float, low: float, high: float) -> float | None:
    """Where a dot lies between the worst and the best."""
    return (value - low) / (high - low) if math.isfinite(value) and high > low else None
