"""The verb `consistency`."""

import json as json_text
import math
from pathlib import Path
from typing import Annotated

import tyro

from gaussworld.facts import finite
from gaussworld.io.atomic import replacing
from gaussworld.log import follow

from .predictor import predictor_named
from .suite import Report, Result, chosen, running


def consistency(
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    only: tuple[str, ...] = (),
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Test whether a model's futures are physically possible, against closed forms.

    What each check asks, and why its limit is there, is in docs/consistency.md.

    Args:
        model: prior, persistence or constant-velocity, a model's folder, or package.module:object of one's
            own, which has predict(world, start, actions, tools); the module's code is run.
        only: groups and names of checks; default: all.
        out: a JSON file for the report.
        strict: exit with 1 if a check fails.
        json: print the report as JSON.
    """
    checks = chosen(only)
    predictor = predictor_named(model)
    report = follow(running(predictor, checks, model), "Consistency").result
    text = json_text.dumps(finite(report.record()), indent=2, allow_nan=False)
    if out is not None:
        with replacing(out) as file:
            file.write(text.encode() + b"\n")
    print(text if json else told(report))
    if strict and report.failed:
        raise SystemExit(1)


def told(report: Report) -> str:
    """The report as a table, with a sentence for each failure."""
    width = max(len(each.name) for each in report.results)
    lines, group = [], ""
    for each in report.results:
        if each.group != group:
            group = each.group
            lines.append(f"{group}")
        lines.append(f"  {_word(each):<7} {each.name:<{width}}  {_figure(each):>10} {_limit(each)}")
        if each.said:
            lines.append(f"          {each.said}")
    judged = len(report.passed) + len(report.failed)
    seconds = sum(each.seconds for each in report.results)
    lines.append(f"{report.model}: {len(report.passed)} of {judged} checks passed, in {seconds:.0f} s")
    return "\n".join(lines)


def _word(each: Result) -> str:
    return {True: "pass", False: "FAIL", None: "unknown"}[each.passed]


def _figure(each: Result) -> str:
    return "-" if not math.isfinite(each.value) else _spelled(each.value, each.unit)


def _limit(each: Result) -> str:
    return f"({'at least' if each.least else 'at most'} {_spelled(each.limit, each.unit)})"


def _spelled(value: float, unit: str) -> str:
    if unit == "m":
        return f"{1000 * value:.3g} mm"
    return f"{100 * value:.3g} %" if unit == "" else f"{value:.3g} {unit}"


__all__ = ["consistency", "told"]
