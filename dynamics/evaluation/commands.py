"""The verb `evaluate`."""

import json as json_text
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from gaussworld.errors import ConfigError
from gaussworld.io.atomic import replacing
from gaussworld.log import Done, Event, follow, part

from .cases import cases
from .entrants import entrants
from .evaluate import evaluating, with_videos
from .page import report_page
from .report import FORMAT, VERSION, Report
from .settings import BASELINES, EvaluateConfig
from .table import summary_table
from .videos import filming

REPORT, PAGE = "report.json", "index.html"
_CONFIG = EvaluateConfig()


def evaluate(
    episodes: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="EPISODES")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    model: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-m"])] = (),
    baselines: bool = True,
    seen: Path | None = None,
    videos: int = 0,
    workers: int = 1,
    fresh: bool = False,
    json: bool = False,
    config: EvaluateConfig = _CONFIG,
) -> None:
    """Judge models in recorded episodes that they have not seen, beside baselines that hurt.

    OUT becomes a folder: index.html (curves, tables, videos), report.json (all, episode by episode). The same
    command goes on where it was broken off. docs/evaluation.md says what every figure means.

    Args:
        episodes: a set that `gaussworld generate` made, or several.
        out: the folder of the report.
        model: names, folders that `gaussworld fit` made, or NAME=FOLDER.
        baselines: judge persistence, constant-velocity and prior as well.
        seen: reconstruct worlds from the episodes' first RGB-D frames, into this folder, in place of their
            true meshes.
        videos: film so many episodes of each family and shift, truth and predictions side by side.
        workers: processes; times of steps are only true of one.
        fresh: find everything anew, in place of going on.
        json: print the report as JSON.
        config: what is judged and measured.
    """
    check_out(out)
    models = list(dict.fromkeys([*(BASELINES if baselines else ()), *model]))
    if not models:
        raise ConfigError("expected a model to judge, got none; add --model, or leave --no-baselines out")

    def work() -> Iterator[Event[Report]]:
        judging = evaluating(list(episodes), models, config, out=out, seen=seen, workers=workers, fresh=fresh)
        # With the first sign of life everything that is asked for has been found and checked.
        begun = next(judging)
        _claim(out)
        report = yield from part(chain([begun], judging), "Judging")
        if videos:
            chosen, playing = cases(list(episodes), config), entrants(models)
            told = yield from filming(report, chosen, playing, config, out, videos, seen, fresh)
            report = with_videos(report, told)
        write_report(report, out)
        yield Done(report)

    report = follow(work(), "Judging").result
    if json:
        print(json_text.dumps(report.record(), indent=1))
        return
    console = Console(width=None if Console().is_terminal else 160)
    console.print(summary_table(report))
    console.print(told(report, out), highlight=False)


def _claim(out: Path) -> None:
    """Leave a mark, so that a folder that was broken off is known again."""
    if not (out / REPORT).is_file():
        with replacing(out / REPORT) as file:
            file.write(json_text.dumps({"format": FORMAT, "version": VERSION, "finished": False}).encode())


def check_out(out: Path) -> None:
    """Refuse a folder that holds something else.

    Raises:
        ConfigError: it does.
    """
    if out.is_file():
        raise ConfigError(f"expected a folder for the report, got the file {out}; name another place")
    if out.is_dir() and any(out.iterdir()) and not _is_report(out / REPORT):
        raise ConfigError(
            f"expected a new folder or one of an earlier report, got {out}, which holds other files; name"
            " another"
        )


def _is_report(path: Path) -> bool:
    try:
        return json_text.loads(path.read_text(encoding="utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def write_report(report: Report, out: Path) -> None:
    """Write report.json and the page beside it.

    Raises:
        GaussWorldError: the file system refuses.
    """
    with replacing(out / REPORT) as file:
        file.write((json_text.dumps(report.record(), indent=1, allow_nan=False) + "\n").encode())
    with replacing(out / PAGE) as file:
        file.write(report_page(report).encode())


def told(report: Report, out: Path) -> str:
    """What a person wants to know besides the table."""
    lines = [
        "* least of its family; ± half of the 90 % interval; vs: error against that baseline at 30 steps"
    ]
    still = {each.episode for each in report.judged if each.still}
    if still:
        every = len({each.episode for each in report.judged})
        lines.append(f"Nothing moves in {len(still)} of {every} episodes: they are counted apart.")
    failed = [(row, name, why) for row in report.rows for name, why in row.failed.items()]
    lines += [f"Failed: {row.model} in {name}: {why}" for row, name, why in failed[:5]]
    lines += [f"… and {len(failed) - 5} more, in {REPORT}"] if len(failed) > 5 else []
    lines += [f"Left out: {name}: {why}" for name, why in list(report.left_out.items())[:5]]
    lines += [f"  {out / PAGE}  curves, tables{', videos' if report.videos else ''}: open it in a browser"]
    lines += [f"  {out / REPORT}  all of it, episode by episode"]
    return "\n".join(lines)
