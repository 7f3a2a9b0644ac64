"""From pictures to cameras: features, matches and a mapper, again with other settings until it is enough."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gaussworld.errors import CaptureError
from gaussworld.log import Done, Event, Notice, Progress

from .attempt import Candidate, attempt, drop_outliers
from .background import colmap, in_background
from .database import focal_is_known, ready_database, remove_database
from .explain import facts_of, why_left_out, why_no_model
from .features import find_features, match_pairs
from .mapping import refine
from .pairs import choose_pairs
from .pictures import FEWEST, Pictures, open_pictures
from .record import capture_of, read_result, signature, write_result
from .settings import Attempt, Mapper, Rung, SfmConfig, SfmResult, rungs

#: Below this share of the pictures the next rung of the ladder is tried.
_ENOUGH = 0.7
#: In sets up to this size each picture is worth a retry: one of sixteen is a whole side of the object.
_SMALL = 40
#: A larger set may miss this share before the other mapper is tried.
_MOST = 0.9
#: The largest model must hold at least this share of the pictures to be of use.
_USEFUL = 0.25
#: Pictures of a model whose lenses are good enough to start from.
_LENSES_FROM = 6
#: Where an attempt's stages end, as shares of its time.
_FEATURES, _MATCHED, _MAPPED = 0.25, 0.65, 0.85
#: So many pictures are named in a sentence.
_NAMED = 5

Told = Generator[Progress | Notice, None, None]


@dataclass
class _Climb:
    """The state of one run: what it works on, and what has come of it."""

    pictures: Pictures
    work: Path
    config: SfmConfig
    ordered: bool
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def best(self) -> Candidate:
        return max(self.candidates, key=lambda each: each.worth)

    @property
    def lenses(self) -> Any:
        """A model that is large enough for its focal lengths to be about right, if there is one."""
        known = self.candidates and self.best.attempt.registered >= _LENSES_FROM
        return self.best.model if known else None

    def progress(self, share: float, message: str, begun: int | None = None) -> Progress:
        """The bar counts hundredths of an attempt; `begun` attempts lie behind."""
        begun = len(self.candidates) if begun is None else begun
        return Progress(round(100 * (begun + share)), 100 * (begun + 1), message=message)


def structure_from_motion(
    images: Sequence[Path], work: Path, config: SfmConfig | None = None, *, ordered: bool = False
) -> Iterator[Event[SfmResult]]:
    """Find the cameras of pictures, and sparse points of what they show, with COLMAP.

    The work folder keeps the database of features and matches (database.db), the model (sparse/0, COLMAP
    binary) and sfm.json. A second call with the same pictures and settings reads the result; one that was
    interrupted goes on with the features and matches it has. Features, matches and the incremental mapper
    repeat themselves to rounding; the global mapper's models vary a little with the order of its threads.

    Args:
        images: pictures of one scene, in any folders.
        work: a folder of its own.
        config: how cameras are found.
        ordered: the pictures are a video's, in the order of time.

    Yields:
        `Progress` in hundredths of an attempt; a `Notice` on what the user should know; `Done` with the
        result last.

    Raises:
        CaptureError: fewer than three pictures, or no model that holds a quarter of them.
        MissingDependency: pycolmap is not installed.
    """
    config, work = config or SfmConfig(), Path(work).absolute()
    pictures = open_pictures(images)
    if pictures.left_out:
        yield Notice(f"left out {_listed(pictures.left_out)}")
    made_from = signature(pictures, config, ordered)
    colmap().set_random_seed(config.seed)
    if (known := read_result(work, pictures, made_from)) is not None:
        yield Done(known, f"{_summary(known, len(pictures))}, from an earlier run")
        return
    climb = _Climb(pictures, work, config, ordered)
    yield from _climb(climb)
    _check(climb)
    yield from _praise_and_blame(climb)
    model, outliers = yield from _refined(climb)
    result = _result(climb, model, outliers)
    write_result(work, model, result, made_from)
    _keep_database(climb)
    # Read back, because a later run reads it too and must find points in the same order, digits and all.
    yield Done(read_result(work, pictures, made_from) or result, _summary(result, len(pictures)))


def _climb(climb: _Climb) -> Told:
    """Try one rung after the other until enough pictures are registered."""
    steps = rungs(climb.config)
    for number, rung in enumerate(steps):
        yield from _try(climb, rung, number)
        if number + 1 == len(steps) or not _goes_on(climb, number):
            return
        yield Notice(
            f"{climb.best.attempt.registered} of {len(climb.pictures)} pictures have a camera with"
            f" {rung.name}; trying {steps[number + 1].name}"
        )


def _goes_on(climb: _Climb, number: int) -> bool:
    best, count = climb.best, len(climb.pictures)
    if best.worth[0] < _ENOUGH * count:
        return True
    return number == 0 and count <= _SMALL and best.attempt.registered < count


def _try(climb: _Climb, rung: Rung, number: int) -> Told:
    """Features and matches of one rung, then one mapper or both."""
    began, config, pictures = time.monotonic(), climb.config, climb.pictures
    database = climb.work / (f"database-{number}.db" if number else "database.db")
    ready_database(database, pictures, config, _made_from(climb, rung))
    for share, message in find_features(database, pictures, rung.features):
        yield climb.progress(_FEATURES * share, message)
    pairs = choose_pairs(database, pictures.names, config.matching, climb.ordered, config.seed)
    for share, message in match_pairs(database, pictures.names, pairs, rung.thresholds, config.seed):
        yield climb.progress(_FEATURES + (_MATCHED - _FEATURES) * share, message)
    before = time.monotonic() - began
    for mapper in _mappers(config, database):
        run = attempt(mapper, database, pictures.root, rung, config.seed, climb.lenses)
        candidate = yield from _mapping(climb, run, f"mapping, {mapper}")
        timed = replace(candidate.attempt, seconds=round(candidate.attempt.seconds + before, 1))
        climb.candidates.append(replace(candidate, attempt=timed))
        before = 0.0
        if not _other_mapper_needed(climb):
            return


def _made_from(climb: _Climb, rung: Rung) -> dict[str, Any]:
    config = climb.config
    return climb.pictures.signature(
        features=rung.features,
        thresholds=rung.thresholds,
        matching=[config.matching, climb.ordered, config.seed],
        cameras=[config.one_camera, config.lens],
    )


def _mapping(
    climb: _Climb, run: Generator[float, None, Candidate], message: str
) -> Generator[Progress, None, Candidate]:
    while True:
        try:
            share = next(run)
        except StopIteration as end:
            return end.value
        yield climb.progress(_MATCHED + (_MAPPED - _MATCHED) * share, message)


def _mappers(config: SfmConfig, database: Path) -> tuple[Mapper, ...]:
    if config.mapper != "auto":
        return (config.mapper,)
    # Without focal lengths the global mapper's models can be folded though all pictures are in them.
    return ("global", "incremental") if focal_is_known(database) else ("incremental", "global")


def _other_mapper_needed(climb: _Climb) -> bool:
    best, count = climb.best, len(climb.pictures)
    return not best.believable or best.attempt.registered < (count if count <= _SMALL else _MOST * count)


def _check(climb: _Climb) -> None:
    """Raise the sentence that explains a failure.

    Raises:
        CaptureError: the best model is of no use.
    """
    best, count = climb.best, len(climb.pictures)
    if best.attempt.registered >= max(FEWEST, _USEFUL * count):
        return
    facts = facts_of(best.database)
    raise CaptureError(why_no_model(climb.pictures, facts, best.attempt.registered))


def _praise_and_blame(climb: _Climb) -> Told:
    """What the user should know about the model that is kept."""
    best, tried = climb.best.attempt, len(climb.candidates)
    if tried > 1:
        yield Notice(f"kept the largest model of {tried} attempts: {best.settings}, {best.mapper} mapper")
    if best.models > 1:
        others = best.models - 1
        yield Notice(
            f"the pictures fell into {best.models} pieces that do not connect; the largest is kept, {others}"
            f" smaller {'one is' if others == 1 else 'ones are'} left out"
        )
    if climb.best.outliers:
        yield Notice(f"dropped outlier cameras: {_listed(list(climb.best.outliers.items()))}")
    if not climb.best.believable:
        yield Notice(
            f"the model explains only {best.agreement:.0%} of the matches between pictures: parts of it may"
            " be folded or doubled; look before you trust it, and leave out pictures of look-alike places"
        )


def _refined(climb: _Climb) -> Generator[Progress, None, tuple[Any, dict[str, str]]]:
    """The best model after bundle adjustment, with colours; the outliers that showed up on the way."""
    best, root, begun = climb.best, climb.pictures.root, len(climb.candidates) - 1
    run = refine(best.database, best.model, climb.config, best.rung.thresholds)
    model = None
    while model is None:
        try:
            share = next(run)
        except StopIteration as end:
            model = end.value
        else:
            yield climb.progress(_MAPPED + (1 - _MAPPED) * share, "refining", begun)
    outliers, _ = drop_outliers(best.database, model, best.rung)
    colored = in_background(lambda _: model.extract_colors_for_all_images(root), lambda: 0.0)
    for _ in colored:
        yield climb.progress(0.99, "colouring points", begun)
    yield climb.progress(1.0, "", begun)
    return model, outliers


def _result(climb: _Climb, model: Any, late_outliers: dict[str, str]) -> SfmResult:
    best, pictures = climb.best, climb.pictures
    capture = capture_of(model, pictures)
    placed, facts = {frame.image for frame in capture.frames}, facts_of(best.database)
    outliers = best.outliers | late_outliers
    left_out = tuple(
        (each.name, outliers.get(each.name) or why_left_out(each.name, facts))
        for each in pictures.all
        if each.path not in placed
    )
    attempts: tuple[Attempt, ...] = tuple(each.attempt for each in climb.candidates)
    error = round(float(model.compute_mean_reprojection_error()), 4)
    return SfmResult(capture, (*pictures.left_out, *left_out), attempts, error)


def _keep_database(climb: _Climb) -> None:
    """Only the database of the model that was kept stays, under the usual name."""
    kept, usual = climb.best.database, climb.work / "database.db"
    for database in {each.database for each in climb.candidates} - {kept}:
        remove_database(database)
    if kept != usual:
        with colmap().Database.open(kept):
            # Opened and closed once, so that nothing is left in the files beside it.
            pass
        remove_database(usual)
        kept.replace(usual)
        remove_database(kept)


def _listed(named: Sequence[tuple[str, str]]) -> str:
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(f"{name} ({reason})" for name, reason in named[:_NAMED]) + more


def _summary(result: SfmResult, count: int) -> str:
    return (
        f"{len(result.capture)} of {count} pictures registered, {len(result.capture.points):,} points,"
        f" reprojection error {result.reprojection_error:.2f} px"
    )
