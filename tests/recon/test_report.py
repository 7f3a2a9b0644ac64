"""The report: plain JSON, a page that loads nothing and believes no name, panels that flatter nobody."""

import base64
import hashlib
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.errors import FileFormatError, GaussWorldError
from gaussworld.gaussians import Gaussians
from gaussworld.render import render
from recon.evaluate import Scores, ViewScore, evaluate
from recon.frames import View
from recon.report import (
    CurvePoint,
    Panel,
    Report,
    as_json,
    machine_facts,
    read_report,
    side_by_side,
    worst_panels,
    write_report,
)
from recon.report.chart import curve_svg, nice_ticks
from recon.report.page import report_page
from recon.report.pictures import panels_html
from recon.report.words import duration, length, size

EVIL = '<script>alert(1)</script>"onerror=x.jpg'
SCORES = Scores(
    (
        ViewScore("good.jpg", 32.0, 0.95),
        ViewScore(EVIL, 24.0, 0.8, 0.2, 0.031),
        ViewScore("x", math.nan, math.nan),
    )
)
REPORT = Report(
    title="A & <b>",
    input="/captures/fox",
    input_kind="folder of images",
    images_given=67,
    images_used=50,
    gaussians=12345,
    sh_degree=2,
    scores={"test": SCORES, "train": Scores((ViewScore("t.jpg", math.inf, 1.0),))},
    curve=(
        CurvePoint(0.5, 50, 19.0, 100),
        CurvePoint(3.25, 200, 25.5, 9000),
        CurvePoint(9.0, 700, 28.0, 12345),
    ),
    seconds={"reading": 2.0, "fitting": 65.0},
    left_out=((EVIL, "blurred"), ("b.jpg", "blurred"), ("c.jpg", "not on disk")),
    scale={"metres_per_unit": 0.5, "source": "depth", "confidence": 0.9, "detail": "12 pictures agree"},
    up={"direction": (0.0, -1.0, 0.0), "source": "cameras", "confidence": "low"},
    trajectory={"ate_rmse": 0.039, "rpe_translation": 0.012, "rpe_rotation_deg": 0.4, "cameras": 50},
    peak_memory=1_430_000_000,
    settings={"preset": EVIL},
    machine=machine_facts(),
    files=((EVIL, "the Gaussians"),),
    notes=(EVIL,),
)


class Page(HTMLParser):
    """Tags and attributes of a page, and whether tags are closed in order."""

    VOID = ("meta", "img", "br", "circle", "line", "polyline", "polygon")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _panel(name: str = "a.jpg", width: int = 64, height: int = 48, noise: bool = False) -> Panel:
    truth = torch.rand(height, width, 3) if noise else torch.full((height, width, 3), 0.5)
    return Panel(name, truth, (truth + 0.1).clamp(0, 1), 20.0, 0.9, rank="worst of 7")


def test_json_is_plain_and_complete(tmp_path):
    """NaN and infinity are null, names are stable, and what is written is read."""
    write_report(tmp_path / "run", REPORT)
    read = read_report(tmp_path / "run")
    assert read == as_json(REPORT)
    assert (read["format"], read["images_given"], read["gaussians"]) == (1, 67, 12345)
    test = read["scores"]["test"]
    assert test["psnr"] == 28.0
    assert test["views"][2] == {"name": "x", "psnr": None, "ssim": None, "lpips": None, "depth_error": None}
    assert test["lpips"] == 0.2
    assert read["scores"]["train"]["psnr"] is None
    assert read["time_to_psnr"] == {"20": 3.25, "25": 3.25, "28": 9.0, "30": None, "32": None, "35": None}
    assert read["curve"][1] == {"seconds": 3.25, "step": 200, "psnr": 25.5, "gaussians": 9000}
    assert read["left_out"][2] == {"name": "c.jpg", "reason": "not on disk"}
    assert read["scale"]["metres_per_unit"] == 0.5
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]


def test_values_that_are_not_plain_are_refused():
    """A tensor in the report is a bug, not a string."""
    with pytest.raises(TypeError, match="got Tensor"):
        as_json(replace(REPORT, scale={"metres_per_unit": torch.ones(())}))


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "as JSON"), ('{"format": 2}', "got 2"), ("[]", "got None"), (None, "no such file")],
)
def test_reports_that_cannot_be_read(tmp_path, text, said):
    """Missing, broken, or of another version: one sentence each."""
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(FileFormatError, match=said):
        read_report(tmp_path)


def test_a_failed_write_keeps_the_old_report(tmp_path, monkeypatch):
    """A full disk loses nothing."""
    write_report(tmp_path, REPORT)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GaussWorldError, match="No space left"):
        write_report(tmp_path, replace(REPORT, title="new"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_names_are_harmless():
    """A picture called <script> is text everywhere: in tables, captions, attributes, links."""
    text = report_page(replace(REPORT, title=EVIL, input=EVIL, video=EVIL), [_panel(EVIL)])
    page = Page(text)
    assert page.open == []
    assert "<script>alert" not in text
    assert len(page.all("script")) == 1
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert sum(EVIL in words for words in page.words) >= 6


def test_the_page_loads_nothing_but_the_video_beside_it():
    """Pictures are inside, and the policy forbids everything else, scripts of others included."""
    text = report_page(REPORT, [_panel()])
    page = Page(text)
    sources = [a[key] for _, a in page.tags for key in ("src", "href") if a.get(key)]
    outside = [source for source in sources if source and not source.startswith("data:")]
    assert {"turntable.mp4"} < set(outside)
    assert not [source for source in outside if ":" in source or source.startswith("/")]
    assert "@import" not in text and "url(" not in text and "http" not in text.replace("http-equiv", "")
    policy = page.all("meta")[1]["content"] or ""
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert script is not None
    assert base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'")


def test_the_page_says_what_matters():
    """Headline figures with their units, in words."""
    words = " ".join(" ".join(Page(report_page(REPORT, [])).words).split())
    for said in (
        "12,345 Gaussians fitted to 47 pictures. 3 more pictures were held out, never seen in training",
        "28.0 dB",
        "50 of 67",
        "3.9 cm camera path error",
        "1 min 07 s",
        "1.4 GB",
        "One unit is 0.5 m, from depth; high confidence (90 %). 12 pictures agree.",
        "(0, -1, 0) in the frame of scene.ply, from cameras; low confidence.",
        "blurred · 2 pictures",
        "25 dB after 3.2 s",
        "1.55 cm",
    ):
        assert said in words, said


def test_sparse_reports_make_a_page_too():
    """No scores, no curve, no video, nothing known: a page that says so."""
    bare = Report("x", "x", "", images_given=3, images_used=3, gaussians=0, sh_degree=0, video=None)
    text = report_page(bare, [])
    assert Page(text).open == []
    assert "not compared with any picture" in text and "all that were given" in text
    assert "<video" not in text and "<dialog" not in text and "Unknown: pictures alone" in text
    of_video = report_page(replace(bare, video_frames=1200), [])
    assert "chosen from 1,200 frames of video" in of_video and "all that were given" not in of_video
    flattering = report_page(replace(bare, scores={"train": SCORES}), [])
    assert "No picture was held out" in flattering


def test_pictures_stay_within_the_budget(tmp_path):
    """Large pictures of pure noise: smaller, worse, and in the end fewer, but never more bytes."""
    panels = [_panel(str(i), 900, 700, noise=True) for i in range(6)]
    write_report(tmp_path, REPORT, panels)
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    first = Page(panels_html(panels)).all("img")[0]["src"] or ""
    with Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2]))) as picture:
        assert picture.width <= 480
    few = Page(panels_html(panels, budget=60_000))
    assert 0 < len(few.all("article")) < 6
    assert panels_html(panels, budget=10) == ""


def test_names_that_are_no_text_can_be_written(tmp_path):
    """A file name with a stray byte is no reason to lose the report."""
    stray = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write_report(tmp_path, replace(REPORT, left_out=((stray, "blurred"),)), [_panel(stray)])
    assert read_report(tmp_path)["left_out"][0]["name"] == stray
    assert "udce9.jpg" in (tmp_path / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def judged():
    """Gaussians, nine views of growing error, and their scores."""
    camera = Camera.looking_at((2.0, 0.0, 0.0), (0.0, 0.0, 0.0), 40, 30)
    ball = Gaussians.from_activated(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), 0.3),
        torch.full((1,), 0.8),
        torch.full((1, 3), 0.5),
    )
    picture = render(ball, camera, background=(0.2, 0.2, 0.2)).rgb
    views = [View.of(camera, picture + 0.02 * (1 + (i * 4) % 9), str((i * 4) % 9)) for i in range(9)]
    blind = replace(views[0], name="blind", mask=torch.zeros(30, 40, dtype=torch.bool))
    views.append(blind)
    return ball, views, evaluate(ball, views, (0.2, 0.2, 0.2))


def test_worst_panels_come_first_then_median_and_best(judged):
    """Eight is the worst of nine; the view of which nothing counts never comes."""
    ball, views, scores = judged
    panels = worst_panels(ball, views, scores, (0.2, 0.2, 0.2), count=2)
    assert [panel.name for panel in panels] == ["8", "7", "4", "0"]
    assert [panel.rank for panel in panels] == ["worst of 9", "2nd worst of 9", "median of 9", "best of 9"]
    assert float((panels[0].truth - panels[0].fit).mean()) == pytest.approx(0.18, abs=0.005)
    assert panels[0].label == f"held-out 8: {panels[0].psnr:.1f} dB"
    assert len(worst_panels(ball, views, scores, (0.2, 0.2, 0.2), count=50)) == 9
    assert worst_panels(ball, [], Scores(())) == []


def test_difference_is_amplified_and_masked():
    """Four times the error, black where it does not count."""
    panel = _panel()
    assert panel.difference.mean().item() == pytest.approx(0.4, abs=1e-5)
    half = torch.zeros(48, 64, dtype=torch.bool)
    half[:24] = True
    assert replace(panel, mask=half).difference[24:].max() == 0


def test_side_by_side_takes_panels_of_any_size():
    """One row each, under heads, as wide as the widest."""
    sheet = side_by_side([_panel(), _panel(width=30, height=80)])
    assert tuple(sheet.shape) == (26 + 48 + 80 + 2 * 6, 3 * 64 + 4 * 6, 3)
    assert sheet[26 + 40, 3 * 6 + 2 * 64 + 30, 0].item() == pytest.approx(0.4, abs=0.01)
    with pytest.raises(ValueError, match="at least one"):
        side_by_side([])


def test_chart_spans_its_points():
    """Dots lie inside the axes, rise with PSNR, and tell their figures; seconds become minutes."""
    svg = curve_svg(REPORT.curve, 600, 300, "wide")
    dots = [(float(x), float(y)) for x, y in re.findall(r'class="dot" cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert len(dots) == 3
    assert sorted(dots) == dots and [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    assert all(0 <= x <= 600 and 0 <= y <= 300 for x, y in dots)
    assert "<title>25.50 dB after 3.2 s: step 200, 9,000 Gaussians</title>" in svg
    slow = (*REPORT.curve, CurvePoint(900.0, 9000, 29.0, 1), CurvePoint(901.0, 9001, math.nan, 1))
    assert "minutes of training" in curve_svg(slow, 600, 300, "wide")
    assert curve_svg([CurvePoint(1.0, 1, math.nan, 1)], 600, 300, "wide") == ""
    assert 'class="dot"' in curve_svg([CurvePoint(0.0, 1, 20.0, 1)], 600, 300, "wide")


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 30.0), (18.7, 31.2), (25.0, 25.0), (0.0, 0.004), (-3.0, 1e5)]
)
def test_ticks_are_round_and_enclose(low, high):
    """Few, evenly spaced, from below to above."""
    ticks = nice_ticks(low, high, 5)
    assert ticks[0] <= low + 1e-6 and ticks[-1] >= high - 1e-6
    assert 2 <= len(ticks) <= 8
    steps = [b - a for a, b in pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)


def test_figures_read_like_a_person_wrote_them():
    """Units and digits that fit the size."""
    assert [duration(s) for s in (0.04, 9.94, 9.96, 59.6, 125.0, 7800.0)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "1 min 00 s",
        "2 min 05 s",
        "2 h 10 min",
    ]
    assert [length(v, 1.0) for v in (0.0031, 0.042, 0.999, 1.27, 12.0)] == [
        "3.1 mm",
        "4.2 cm",
        "0.999 m",
        "1.27 m",
        "12 m",
    ]
    assert (length(0.5, None), length(None, 1.0), length(0.5, 0.1)) == ("0.5 units", "unknown", "5 cm")
    assert [size(n) for n in (999, 312_400_000, 1_430_000_000)] == ["999 bytes", "312 MB", "1.4 GB"]


def test_machine_facts_are_words():
    """All there, none empty."""
    facts = machine_facts()
    assert {"processor", "cores", "device", "torch", "GaussWorld"} <= set(facts)
    assert all(json.dumps(value) != '""' for value in facts.values())
    assert facts["device"] == "CPU"
