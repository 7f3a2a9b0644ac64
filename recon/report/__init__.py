"""What a run tells about itself: report.json for programs and report.html for people."""

from collections.abc import Sequence
from pathlib import Path

from gaussworld.io.atomic import replacing

from .machine import machine_facts
from .page import report_page
from .panels import Panel, side_by_side, worst_panels
from .record import CurvePoint, Report, as_json, read_report, save_record

__all__ = [
    "CurvePoint",
    "Panel",
    "Report",
    "as_json",
    "machine_facts",
    "read_report",
    "side_by_side",
    "worst_panels",
    "write_report",
]

PAGE_NAME = "report.html"


def write_report(folder: Path, report: Report, panels: Sequence[Panel] = ()) -> None:
    """Write report.html and report.json into a run folder; readers see each old or whole, never a part.

    Args:
        folder: made where it does not exist.
        report: the facts.
        panels: pictures to show, in this order, such as those of `worst_panels`.

    Raises:
        GaussWorldError: the file system refuses.
    """
    page = report_page(report, panels)
    with replacing(folder / PAGE_NAME) as file:
        # Names of files need not be valid text.
        file.write(page.encode("utf-8", "backslashreplace"))
    save_record(folder, report)
