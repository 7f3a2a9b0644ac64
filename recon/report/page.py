"""report.html: one file that explains a run to someone who has never seen the program."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from ..evaluate import Scores
from .chart import curve_svg
from .headline import head_html, hero_html
from .panels import DIFFERENCE_GAIN, Panel
from .pictures import panels_html
from .record import MARKS, Report
from .style import CSS, SCRIPT
from .tables import facts_table, left_out_list, scores_table, stages_table
from .words import GLOSSARY, OF_SPLIT, confidence, counted, duration, figure, length


def report_page(report: Report, panels: Sequence[Panel]) -> str:
    """The whole page; every word that comes from files or users is escaped."""
    digest = b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    # Nothing may be loaded but pictures inside the page and the video beside it; no script but ours may run.
    policy = (
        "default-src 'none'; img-src data:; media-src 'self' file:; style-src 'unsafe-inline';"
        f" script-src 'sha256-{digest}'"
    )
    sections = "\n".join(filter(None, _sections(report, panels)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)} · GaussWorld</title><style>{CSS}</style></head>\n"
        f"<body><main>{sections}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _sections(report: Report, panels: Sequence[Panel]) -> Iterator[str]:
    yield head_html(report)
    yield hero_html(report)
    if shown := panels_html(panels):
        yield _section("Photo beside reconstruction", _PANELS + shown)
    if len(report.curve) > 1:
        yield _section("How fast it got there", _curve(report))
    yield _scores(report)
    yield _geometry(report)
    yield _left_out(report)
    yield _costs(report)
    yield _run(report)
    yield _files(report)
    words = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in GLOSSARY)
    yield _section("What the words mean", f'<div class="card"><dl>{words}</dl></div>')
    when = f", {report.created}" if report.created else ""
    made = f"GaussWorld {report.machine.get('GaussWorld', '')}".strip() + when
    yield f"<footer>Written by {escape(made)}. Every figure of this page is in report.json too.</footer>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


_PANELS = (
    "<p>The worst pictures come first, so that nothing is flattered. Left the photo, in the middle what the"
    f" Gaussians show from the same place, right their difference, amplified {DIFFERENCE_GAIN} times: black"
    " means equal. Click a picture to enlarge it; click again to flip between photo and Gaussians.</p>"
)


def _curve(report: Report) -> str:
    of = escape(OF_SPLIT.get(report.curve_split, report.curve_split))
    reached = ((mark, report.time_to(mark)) for mark in MARKS)
    marks = "".join(
        f"<li><b>{mark:g} dB</b> after {duration(seconds)}</li>"
        for mark, seconds in reached
        if seconds is not None
    )
    listed = f'<ul class="marks">{marks}</ul>' if marks else ""
    return (
        f"<p>Mean PSNR of the {of} pictures over the time spent in training, without reading pictures and"
        " measuring. Point at a dot for its figures.</p>"
        f'<div class="card">{curve_svg(report.curve, 1020, 300, "wide")}'
        f"{curve_svg(report.curve, 360, 250, 'narrow')}{listed}</div>"
    )


def _scores(report: Report) -> str:
    parts = []
    for split, of in OF_SPLIT.items():
        scores = report.scores.get(split)
        if scores is None or not scores.views:
            continue
        table = scores_table(scores, report.metres_per_unit)
        if split == report.judged:
            parts.append(f'<div class="card">{table}</div>')
        else:
            told = _summary(of, scores)
            parts.append(f'<details class="card"><summary>{told}</summary>{table}</details>')
    if not parts:
        return ""
    of = OF_SPLIT[report.judged or "train"]
    said = f"<p>Every {of} picture, the worst first. Click the head of a column to sort by it.</p>"
    return _section("Picture by picture", said + "".join(parts))


def _summary(of: str, scores: Scores) -> str:
    pictures = counted(len(scores.views), f"{of} picture")
    return f"The {pictures}: mean {figure(scores.psnr, 1)} dB, SSIM {figure(scores.ssim, 3)}"


def _geometry(report: Report) -> str:
    facts = [("scale", _scale(report.scale)), ("up", _up(report.up))]
    if report.trajectory:
        facts.append(("camera path", _trajectory(report.trajectory)))
    return _section("Scale and orientation", f'<div class="card">{facts_table(facts)}</div>')


def _scale(scale: Mapping[str, Any] | None) -> str:
    if scale is None or scale.get("metres_per_unit") is None:
        return (
            "Unknown: pictures alone do not tell how large a scene is, so lengths are in units of the input."
            " Depth, a calibrated rig, a known distance or an AprilTag of known size would settle it."
        )
    return f"One unit is {scale['metres_per_unit']:.4g} m{_reasons(scale)}"


def _up(up: Mapping[str, Any] | None) -> str:
    if up is None or up.get("direction") is None:
        return "As in the input: which way is up was not determined."
    # Adding zero turns -0 into 0.
    direction = ", ".join(f"{round(part, 3) + 0.0:.3g}" for part in up["direction"])
    return f"({direction}) in the frame of scene.ply{_reasons(up)}"


def _reasons(fact: Mapping[str, Any]) -> str:
    source = f", from {fact['source']}" if fact.get("source") else ""
    sure = f"; {confidence(fact['confidence'])}" if fact.get("confidence") is not None else ""
    detail = f". {fact['detail']}" if fact.get("detail") else ""
    return f"{source}{sure}{detail}".rstrip(".") + "."


def _trajectory(trajectory: Mapping[str, Any]) -> str:
    named = (("ate_rmse", "root mean square"), ("ate_median", "median"), ("ate_max", "largest"))
    parts = [f"{words} {length(trajectory[k], 1.0)}" for k, words in named if trajectory.get(k) is not None]
    over = f" of {trajectory['cameras']:,} cameras" if trajectory.get("cameras") else ""
    said = f"Distance{over} to their true positions after alignment (ATE): {', '.join(parts) or 'unknown'}."
    drift = []
    if trajectory.get("rpe_translation") is not None:
        drift.append(length(trajectory["rpe_translation"], 1.0))
    if trajectory.get("rpe_rotation_deg") is not None:
        drift.append(f"{trajectory['rpe_rotation_deg']:.2g}°")
    return f"{said} Drift from one picture to the next (RPE): {' and '.join(drift)}." if drift else said


def _left_out(report: Report) -> str:
    if not report.left_out:
        return ""
    not_used = counted(len(report.left_out), "picture was", "pictures were")
    listed = f'<div class="card">{left_out_list(report.left_out)}</div>'
    return _section("Pictures left out", f"<p>{not_used} not used, for these reasons.</p>{listed}")


def _costs(report: Report) -> str:
    if not report.seconds:
        return ""
    return _section("Where the time went", f'<div class="card">{stages_table(report.seconds)}</div>')


def _run(report: Report) -> str:
    cards = "".join(
        f'<div class="card"><h2>{title}</h2>{facts_table(facts)}</div>'
        for title, facts in (("Settings", report.settings), ("Machine", report.machine))
        if facts
    )
    return f'<section class="pair">{cards}</section>' if cards else ""


def _files(report: Report) -> str:
    if not report.files:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><a href="{escape(quote(path))}">{escape(path)}</a></th>'
        f"<td>{escape(what)}</td></tr>"
        for path, what in report.files
    )
    table = f'<div class="card"><table class="facts"><tbody>{rows}</tbody></table></div>'
    return _section("Files beside this page", table)
