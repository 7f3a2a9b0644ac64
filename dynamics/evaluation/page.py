"""index.html: one file that shows how good models are, to someone who has never seen the program."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from urllib.parse import quote

from .curves import curves_svg
from .entrants import is_baseline
from .page_style import COLORED, CSS, OTHERS, SCRIPT
from .page_tables import distances_table, figures_table, models_table, worst_table
from .report import Report, Row
from .table import changed, group_name, last_told, shown_steps
from .words import GLOSSARY

_MOST_NAMES = 40


def report_page(report: Report) -> str:
    """The whole page; every word that comes from files or users is escaped."""
    digest = b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    # Nothing may be loaded but the videos beside the page; no script but ours may run.
    policy = (
        "default-src 'none'; img-src data:; media-src 'self' file:; style-src 'unsafe-inline';"
        f" script-src 'sha256-{digest}'"
    )
    sections = "\n".join(filter(None, _sections(report)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>How good are these predictions? · GaussWorld</title><style>{CSS}</style></head>\n"
        f"<body><main>{sections}</main><script>{SCRIPT}</script></body></html>\n"
    )


def colors_of(models: Sequence[str]) -> dict[str, int]:
    """A colour's number for each model: well-known ones keep theirs on every page."""
    places = {name: COLORED.index(name) for name in models if name in COLORED}
    others = [name for name in models if name not in COLORED]
    return places | {name: len(COLORED) + row % OTHERS for row, name in enumerate(others)}


def _sections(report: Report) -> Iterator[str]:
    places, steps = colors_of(report.models), shown_steps(report)
    yield _head(report, steps)
    yield _curves(report, steps, places)
    if report.videos:
        yield _videos(report)
    said = (
        "<p>Means over episodes, with the interval in which the mean lies nine times out of ten. Green is the"
        " least of its family. Improvements are of the error after 30 steps, or after the last horizon before"
        " that; less error is negative. Click a head to sort.</p>"
    )
    yield _section("Mean distance", f'{said}<div class="card">{distances_table(report, steps, places)}</div>')
    yield _figures(report, steps, places)
    yield _section(
        "Once for each model",
        "<p>Trajectories that were right, energy that came from nothing, and what a step costs.</p>"
        f'<div class="card">{models_table(report, places)}</div>',
    )
    model = next((name for name in report.models if not is_baseline(name)), report.models[-1])
    if worst := worst_table(report, model):
        said = f"<p>Where {escape(model)} is farthest off after 30 steps: what to look at next.</p>"
        yield _section("Where it goes wrong", f'{said}<div class="card">{worst}</div>')
    yield _apart(report)
    words = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in GLOSSARY)
    yield _section("What the words mean", f'<div class="card"><dl>{words}</dl></div>')
    made, when = (escape(str(report.facts.get(key, ""))) for key in ("made_by", "created"))
    yield (
        f"<footer>{made} {when}. Every figure of this page, and those of every episode, are in"
        ' <a href="report.json">report.json</a>.</footer>'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _head(report: Report, steps: Sequence[int]) -> str:
    episodes = {each.episode for each in report.judged if not each.still}
    families = dict.fromkeys(family for family, _ in report.groups)
    shifts = dict.fromkeys(shift for _, shift in report.groups if shift is not None)
    settings = report.facts.get("settings", {})
    split = escape(str(settings.get("split", ""))) if isinstance(settings, Mapping) else ""
    worlds = escape(str(report.facts.get("worlds", "")))
    named = escape(", ".join(map(str, families)))
    held = f"; held out on purpose: {escape(', '.join(map(str, shifts)))}" if shifts else ""
    lead = (
        f"{len(report.models)} models predict {len(episodes)} recorded episodes of the {split} split from"
        f" their first moment, and are compared with what happened: {named}{held}."
    )
    tiles = "".join(_tiles(report, steps))
    return (
        f'<p class="kicker">GaussWorld · evaluation · worlds: {worlds}</p><h1>How good are these'
        f' predictions?</h1><p class="lead">{lead}</p><div class="tiles">{tiles}</div>'
    )


def _tiles(report: Report, steps: Sequence[int]) -> Iterator[str]:
    """One for each model that is no baseline; of physics where there is none else."""
    told = last_told(report, list(steps))
    learned = [name for name in report.models if not is_baseline(name)] or ["prior"]
    for place, model in enumerate(name for name in learned if name in report.models):
        rows = [row for row in report.rows if row.model == model and row.shift is None]
        own = any(row.gain.get("own prior") for row in rows)
        base = "persistence" if model == "prior" else "own prior" if own else "prior"
        gains = [gain for row in rows if (gain := _gain_at(row, base, told)) is not None]
        if not gains:
            continue
        mean = changed(-sum(gains) / len(gains))
        wins = sum(gain > 0 for gain in gains)
        yield (
            f'<div class="tile{" first" if place == 0 else ""}"><b>{mean}</b><span>error of'
            f" {escape(model)} against {'its fitted prior' if own else base}</span><small>mean of"
            f" {len(gains)} families, better in {wins}</small></div>"
        )
        hits = [row.success for row in rows if row.success is not None]
        if count := sum(each.count for each in hits):
            right = sum(each.hits for each in hits)
            yield (
                f'<div class="tile"><b>{100 * right / count:.0f} %</b><span>trajectories of {escape(model)}'
                f" right at 3 s</span><small>{right} of {count} within 5 % of their path</small></div>"
            )


def _gain_at(row: Row, base: str, told: Mapping[tuple[str, str | None], int]) -> float | None:
    step = told.get(row.group)
    gain = row.gain.get(base, {}).get(step) if step is not None else None
    return None if gain is None else gain.mean


def _curves(report: Report, steps: Sequence[int], places: Mapping[str, int]) -> str:
    legend = "".join(
        f'<button type="button" class="m{places[name]}" data-model="{places[name]}" aria-pressed="true">'
        f"{escape(name)}</button>"
        for name in report.models
    )
    cards = []
    for number, group in enumerate(report.groups):
        rows = report.of(group)
        count = max((row.episodes for row in rows), default=0)
        svg = curves_svg(rows, places, steps, number)
        if svg:
            name = escape(group_name(group))
            cards.append(f'<div class="card"><h3>{name} <small>{count} episodes</small></h3>{svg}</div>')
    if not cards:
        return ""
    said = (
        "<p>How far points on the things that move are from where they really went, over the time since the"
        " beginning. Bands hold the mean nine times out of ten; dots are the horizons of the tables, point at"
        " one. Click a name to hide a model.</p>"
    )
    return _section(
        "Error over time",
        f'{said}<div class="legend">{legend}</div><div class="grid2">{"".join(cards)}</div>',
    )


def _videos(report: Report) -> str:
    figures = "".join(
        f'<figure class="card"><video controls muted loop playsinline preload="metadata"'
        f' src="{escape(quote(each["file"]))}"></video><figcaption>{escape(each["episode"])}'
        f"{escape(' · other ' + each['shift'] if each['shift'] else '')}: {escape(each['shows'])}"
        "</figcaption></figure>"
        for each in report.videos
    )
    said = "<p>Side by side, in real time, from the first moment; nothing was chosen by how well it went.</p>"
    return _section("Truth and predictions", f'{said}<div class="grid2">{figures}</div>')


def _figures(report: Report, steps: Sequence[int], places: Mapping[str, int]) -> str:
    if not steps:
        return ""
    first = max((step for step in steps if step <= 30), default=steps[0])
    tabs = "".join(
        f'<button type="button" role="tab" data-of="at{step}" aria-selected="{str(step == first).lower()}">'
        f"{step} step{'s' if step > 1 else ''}</button>"
        for step in steps
    )
    tables = "".join(
        f'<div id="at{step}" class="card{"" if step == first else " off"}">'
        f"{figures_table(report, step, places)}</div>"
        for step in steps
    )
    said = (
        "<p>Everything that was measured after so many steps. The recording itself is measured as well, where"
        " that says something of the measure.</p>"
    )
    return _section("Every figure", f'{said}<div class="tabs" role="tablist">{tabs}</div>{tables}')


def _apart(report: Report) -> str:
    still = list(dict.fromkeys(each.episode for each in report.judged if each.still))
    failed = [(name, row.model, why) for row in report.rows for name, why in row.failed.items()]
    parts = []
    if still:
        more = f" and {len(still) - _MOST_NAMES} more" if len(still) > _MOST_NAMES else ""
        parts.append(
            f"<p>In {len(still)} episodes nothing moves by more than 1 mm: a model that does nothing is right"
            f" there, so they enter no mean: {escape(', '.join(still[:_MOST_NAMES]))}{more}.</p>"
        )
    listed = [*failed, *((name, "all", why) for name, why in report.left_out.items())]
    if listed:
        rows = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(model)}</td><td>{escape(why)}</td></tr>'
            for name, model, why in listed[:_MOST_NAMES]
        )
        parts.append(
            "<p>Failed or left out, and not averaged away: a model that failed is never the best of its"
            ' family.</p><div class="card scroll"><table class="plain"><thead><tr><th>Episode</th>'
            f"<th>Model</th><th>Why</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return _section("Counted apart", "".join(parts)) if parts else ""
