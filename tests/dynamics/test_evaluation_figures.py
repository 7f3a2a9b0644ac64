"""Figures of `gaussworld evaluate` that need no episode: distances, angles, intervals, curves, sums."""

import math

import pytest
import torch

from dynamics.evaluation.distances import angle_between, chamfer, earth_movers
from dynamics.evaluation.judged import Judged, Passage
from dynamics.evaluation.report import report_of
from dynamics.evaluation.statistics import curve_of, gain_of, mean_of, quantile_of, share_of
from dynamics.evaluation.table import changed
from gaussworld.errors import FileFormatError


def judged(model, episode, distance, family="push", **changed):
    at = {10: {"distance_m": distance, "moved_m": 0.05}}
    facts = {"seed": 1, "shift": None, "policy": "scripted", "steps": 10, "dt": 0.1, "still": False}
    return Judged(episode, family, model=model, at=at, curve=(0.0, distance), **{**facts, **changed})


def test_chamfer_is_a_distance_and_blind_to_order():
    """A shift smaller than the gaps is told as itself; the order of points is of no matter."""
    points = torch.cartesian_prod(*[torch.arange(4.0)] * 3)
    assert chamfer(points, points.flip(0)) == 0
    assert chamfer(points, points + torch.tensor([0.1, 0, 0])) == pytest.approx(0.1, abs=1e-6)
    # One far point among many: a quarter of the way back and forth counts once, in one direction.
    more = torch.cat([points, torch.tensor([[10.0, 0, 0]])])
    assert chamfer(points, more) == pytest.approx(7 / 65 / 2, abs=1e-6)


def test_earth_movers_pairs_one_to_one():
    """Where Chamfer sees two heaps as one, the pairing does not; it is exact and blind to order."""
    a = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]])
    b = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert chamfer(a, b) == 0
    assert earth_movers(a, b) == pytest.approx(1 / 3)
    many = torch.rand(700, 3, generator=torch.Generator().manual_seed(0))
    assert earth_movers(many, many + torch.tensor([0, 0, 0.01])) == pytest.approx(0.01, rel=1e-3)


def test_both_signs_of_a_quaternion_are_one_turn():
    """The double cover: q and -q differ by nothing, in float32 as well; a small angle stays what it is."""
    turn = torch.tensor([[math.cos(0.2), 0, 0, math.sin(0.2)]])
    assert float(angle_between(turn, -turn)[0]) == pytest.approx(0.0, abs=1e-7)
    upright = torch.tensor([[1.0, 0, 0, 0]])
    assert float(angle_between(upright, -turn)[0]) == pytest.approx(0.4, abs=1e-6)
    tiny = torch.tensor([[1.0, 0, 0, 5e-5]])
    assert float(angle_between(upright, tiny)[0]) == pytest.approx(1e-4, rel=1e-3)
    half = torch.tensor([[0.0, 0, 0, 1]])
    assert float(angle_between(upright, half)[0]) == pytest.approx(math.pi)


def test_shares_have_wilsons_interval():
    """At both ends the share lies 1.645 standard errors of that end away; never outside [0, 1]."""
    told = share_of(9, 10)
    assert told is not None and told.low < 0.9 < told.high
    for end in (told.low, told.high):
        assert abs(0.9 - end) / math.sqrt(end * (1 - end) / 10) == pytest.approx(1.6449, abs=1e-3)
    none, every = share_of(0, 20), share_of(20, 20)
    assert none is not None and none.low == pytest.approx(0.0, abs=1e-12) and 0.1 < none.high < 0.13
    assert (
        every is not None and every.high == pytest.approx(1.0) and every.low == pytest.approx(1 - none.high)
    )
    assert share_of(0, 0) is None
    with pytest.raises(ValueError, match="hits of 0 to 2"):
        share_of(3, 2)


def test_means_have_intervals_that_repeat():
    """The bootstrap is near the normal interval of many values, repeats by seed, and tells single ones."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(3)).tolist()
    told, again = mean_of(values, 5), mean_of(values, 5)
    assert told is not None and told == again and told.error is not None
    assert told.high - told.low == pytest.approx(2 * 1.645 * told.error, rel=0.1)
    alone = mean_of([2.0])
    assert alone is not None and (alone.mean, alone.low, alone.high, alone.error) == (2, 2, 2, None)
    assert mean_of([]) is None and quantile_of([], 0.5) is None and quantile_of([1.0, 3.0], 0.5) == 2


def test_gains_are_of_the_same_episodes():
    """A quarter less in every episode is a gain of exactly a quarter, however episodes differ."""
    others = [0.1, 0.5, 0.01, 2.0]
    told = gain_of([0.75 * value for value in others], others)
    assert told is not None
    assert (told.mean, told.low, told.high) == (pytest.approx(0.25), pytest.approx(0.25), pytest.approx(0.25))
    assert gain_of([1.0], [0.0]) is None
    with pytest.raises(ValueError, match="same episodes"):
        gain_of([1.0], [1.0, 2.0])


def test_curves_of_different_lengths():
    """At each moment those that reach it count; nothing is made up beyond."""
    curve = curve_of([[0.0, 1.0], [0.0, 3.0, 4.0]])
    assert [mean for mean, _, _ in curve] == [0.0, 2.0, 4.0]
    assert curve[1][1] == 1.0 and curve[1][2] == 3.0 and curve[2][1:] == (4.0, 4.0)
    assert curve_of([]) == []


def test_records_come_back():
    """What JSON keeps is what was found; a damaged record is refused in one sentence."""
    passages = (Passage("box", 0.2, 0.009),)
    one = judged("prior", "push-1", 0.01, passages=passages, surprise=0.5, step_s=(0.1, 0.2))
    assert Judged.of_record(one.record()) == one
    broken = one.record()
    del broken["at"]
    with pytest.raises(FileFormatError, match="figures of an episode"):
        Judged.of_record(broken)


def test_nothing_moved_enters_no_mean():
    """Goals reached at the start: still episodes are counted apart, whatever a model does in them."""
    rows = [judged("prior", "a", 0.01), judged("persistence", "a", 0.04)]
    plain = report_of(rows, ["persistence", "prior"], [10])
    still = [judged("prior", "b", 0.5, still=True), judged("persistence", "b", 0.0, still=True)]
    report = report_of([*rows, *still], ["persistence", "prior"], [10])
    for row, before in zip(report.rows, plain.rows):
        assert row.at == before.at and row.gain == before.gain and row.curve == before.curve
        assert (row.episodes, row.still) == (1, 1)
    prior = report.rows[1]
    assert prior.gain["persistence"][10].mean == pytest.approx(0.75)
    assert prior.still_m[10].mean == 0.5


def test_failures_are_not_averaged_away():
    """A model that failed once keeps the mean of the rest, but is never best and has no improvement."""
    rows = [judged("prior", name, 0.02) for name in "ab"] + [
        judged("persistence", name, 0.05) for name in "ab"
    ]
    good, bad = judged("net", "a", 0.001), judged("net", "b", 0.0, failed="NaN in object_poses")
    report = report_of(
        [*rows, good, Judged(**{**vars(bad), "at": {}, "curve": ()})], ["prior", "persistence", "net"], [10]
    )
    (net,) = [row for row in report.rows if row.model == "net"]
    assert net.failed == {"b": "NaN in object_poses"} and net.gain == {}
    assert net.at[10]["distance_m"].count == 1
    assert report.best(("push", None), 10) == "prior"


def test_shifts_are_rows_of_their_own():
    """What was held out on purpose is told beside the ordinary episodes, never mixed with them."""
    rows = [
        judged("prior", "a", 0.01),
        judged("prior", "b", 0.03, shift="mass"),
        judged("prior", "c", 0.07, family="rope"),
    ]
    report = report_of(rows, ["prior"], [10])
    assert report.groups == (("push", None), ("push", "mass"), ("rope", None))
    assert [row.at[10]["distance_m"].mean for row in report.rows] == [0.01, 0.03, 0.07]


def test_no_gain_before_things_move():
    """Where nothing has moved yet, to be better than a baseline that is right would be noise."""

    def early(model, distance):
        one = judged(model, "a", distance)
        return Judged(**{**vars(one), "at": {1: {"distance_m": distance, "moved_m": 1e-6}}})

    report = report_of([early("prior", 1e-5), early("persistence", 1e-7)], ["prior", "persistence"], [1])
    assert report.rows[0].gain == {} and report.best(("push", None), 1) is None


def test_success_and_coverage_are_counted_over_things():
    """Trajectories within 5 % of their path; radii that held, of all things and of those that moved."""
    at = {10: {"distance_m": 0.01, "moved_m": 0.1, "placed": 2.0, "asked": 3.0, "placed_moved": 1.0,
               "near": 2.0, "near_moved": 0.0, "asked_moved": 2.0, "spread_m": 0.02}}  # fmt: skip
    passages = (Passage("a", 0.1, 0.0049), Passage("b", 0.1, 0.0051))
    one = Judged(**{**vars(judged("net", "a", 0.01, passages=passages)), "at": at})
    (row,) = report_of([one, Judged(**{**vars(one), "episode": "b"})], ["net"], [10]).rows
    assert row.success is not None and (row.success.hits, row.success.count) == (2, 4)
    counts = {name: (told[10].hits, told[10].count) for name, told in row.coverage.items()}
    assert counts == {"placed": (4, 6), "placed_moved": (2, 4), "near": (4, 6), "near_moved": (0, 4)}
    assert "placed" not in row.at[10] and row.at[10]["spread_m"].mean == pytest.approx(0.02)


def test_changes_in_words():
    """Less error is negative; never minus zero; large ones are factors."""
    told = [changed(value) for value in (-0.254, 0.001, -0.001, 0.5, 20.0)]
    assert told == ["−25 %", "0 %", "0 %", "+50 %", "×21"]


def test_models_that_tie_lead_both():
    """Equal means are marked alike, but where all are equal nobody leads."""
    rows = [judged("prior", "a", 0.01), judged("hybrid", "a", 0.01), judged("persistence", "a", 0.04)]
    report = report_of(rows, ["prior", "hybrid", "persistence"], [10])
    assert [report.leads(row, 10) for row in report.rows] == [True, True, False]
    tied = report_of(rows[:2], ["prior", "hybrid"], [10])
    assert [tied.leads(row, 10) for row in tied.rows] == [False, False]
