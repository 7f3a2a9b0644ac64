"""The top of the page: the run in three sentences, what to beware of, the turning picture, the figures."""

import math
from collections.abc import Iterator
from html import escape
from urllib.parse import quote

from .record import Report
from .words import OF_SPLIT, colour_error, counted, duration, figure, length, size


def head_html(report: Report) -> str:
    """Title, what was reconstructed, how well, and what the reader should know first."""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in (*_warnings(report), *report.notes))
    about = " · ".join(filter(None, ("GaussWorld reconstruction", escape(report.input_kind))))
    return (
        f'<p class="kicker">{about} · <code>{escape(report.input)}</code></p>'
        f'<h1>{escape(report.title)}</h1><p class="lead">{_lead(report)}</p>{notes}'
    )


def hero_html(report: Report) -> str:
    """The turning picture, where there is one beside the page, and the figures that matter most."""
    tiles = "".join(
        f'<div class="tile{" first" if i == 0 else ""}"><b>{value}</b><i>{label}</i>'
        f"<small>{below}</small></div>"
        for i, (value, label, below) in enumerate(_tiles(report))
    )
    return f'<div class="hero">{_video(report)}<div class="tiles">{tiles}</div></div>'


def _video(report: Report) -> str:
    if not report.video:
        return ""
    place = escape(quote(report.video))
    return (
        f'<figure><video controls loop muted autoplay playsinline preload="metadata" src="{place}"></video>'
        f'<figcaption>A turn around the Gaussians: <a href="{place}">{escape(report.video)}</a>, beside'
        " this page.</figcaption></figure>"
    )


def _lead(report: Report) -> str:
    judged = report.judged
    held_out = 0 if judged in (None, "train") else len(report.scores[judged or ""].views)
    fitted = counted(report.images_used - held_out, "picture")
    said = f"{counted(report.gaussians, 'Gaussian')} fitted to {fitted}."
    if judged is None or not math.isfinite(report.scores[judged].psnr):
        return f"{said} They were not compared with any picture."
    psnr = report.scores[judged].psnr
    if judged == "train":
        return f"{said} They show those pictures with {psnr:.1f} dB PSNR."
    more = counted(held_out, "more picture was", "more pictures were")
    return (
        f"{said} {more} held out, never seen in training: the Gaussians predict them with {psnr:.1f} dB PSNR"
        f" on average, a typical colour error of {colour_error(psnr)}."
    )


def _warnings(report: Report) -> Iterator[str]:
    if report.judged == "train":
        yield (
            "No picture was held out, so the figures are of pictures that the Gaussians were fitted to. They"
            " flatter: new views can look much worse."
        )


def _tiles(report: Report) -> Iterator[tuple[str, str, str]]:
    """A figure, what it is, and what to hold it against."""
    yield from _likeness(report)
    used = _with_unit(f"{report.images_used:,}", f"of {report.images_given:,}")
    yield used, "pictures used", "; ".join(_of_which(report))
    if report.trajectory and report.trajectory.get("ate_rmse") is not None:
        ate = length(report.trajectory["ate_rmse"], 1.0)
        yield _with_unit(*ate.split()), "camera path error", "ATE: RMSE to the true path, aligned"
    yield f"{report.gaussians:,}", "Gaussians", f"colours: SH degree {report.sh_degree}"
    if report.seconds:
        longest = max(report.seconds, key=lambda stage: report.seconds[stage])
        most = f"most of it: {longest}" if len(report.seconds) > 1 else longest
        yield _timed(sum(report.seconds.values())), "from start to end", escape(most)
    if report.peak_memory is not None:
        gpu = report.peak_device_memory
        below = "of main memory" if gpu is None else f"of main memory; {size(gpu)} on the GPU"
        yield _with_unit(*size(report.peak_memory).split()), "peak memory", below


def _of_which(report: Report) -> Iterator[str]:
    """What became of the other pictures, and of how many frames all of them were chosen."""
    left = report.images_given - report.images_used
    if report.video_frames is not None:
        yield f"chosen from {counted(report.video_frames, 'frame')} of video"
    if left > 0:
        yield f"{left:,} left out, see below"
    elif report.video_frames is None:
        yield "all that were given"


def _likeness(report: Report) -> Iterator[tuple[str, str, str]]:
    if (judged := report.judged) is None:
        return
    scores, of = report.scores[judged], OF_SPLIT[judged]
    train = report.scores.get("train") if judged != "train" else None
    beside = f"training pictures: {figure(train.psnr, 1)} dB" if train and train.views else "higher is better"
    yield _with_unit(figure(scores.psnr, 1), "dB"), f"PSNR, {of} pictures", beside
    yield figure(scores.ssim, 3), f"SSIM, {of} pictures", "1 is identical"
    if scores.lpips is not None:
        yield figure(scores.lpips, 3), f"LPIPS, {of} pictures", "0 is identical"
    if scores.depth_error is not None:
        error = length(scores.depth_error, report.metres_per_unit)
        yield (
            _with_unit(*error.split()),
            f"depth error, {of} pictures",
            "median distance to the sensor's depth",
        )


def _with_unit(value: str, unit: str = "") -> str:
    return f"{value} <span>{unit}</span>" if unit else value


def _timed(seconds: float) -> str:
    words = duration(seconds).split()
    return " ".join(word if word[0].isdigit() else f"<span>{word}</span>" for word in words)
