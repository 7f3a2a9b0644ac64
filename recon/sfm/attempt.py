"""One attempt: a mapper run on one database, its largest model freed of outliers and weighed."""

import logging
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .background import colmap
from .database import focal_is_known, remove_database
from .judge import judge
from .mapping import drop_images, map_with, with_known_lens
from .settings import Attempt, Mapper, Rung

logger = logging.getLogger(__name__)

#: A model that explains a smaller share of the matches is folded, mirrored or torn.
BELIEVABLE = 0.8
#: A second look for outliers sees what the first ones hid; more find nothing.
_LOOKS = 2


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that may become the result."""

    attempt: Attempt
    model: Any
    """COLMAP's reconstruction, without the outliers."""
    database: Path
    rung: Rung
    outliers: dict[str, str]
    """Reason by name."""

    @property
    def believable(self) -> bool:
        return self.attempt.agreement >= BELIEVABLE

    @property
    def worth(self) -> tuple[float, int]:
        """Pictures registered, of a model that cannot be believed only as many as the matches speak for."""
        share = 1.0 if self.believable else self.attempt.agreement
        return self.attempt.registered * share, self.attempt.points


def attempt(
    mapper: Mapper, database: Path, images: Path, rung: Rung, seed: int, lenses: Any = None
) -> Generator[float, None, Candidate]:
    """Map once; a mapper that finds nothing gives a candidate without pictures.

    Args:
        mapper: which one.
        database: features and matches.
        images: the folder the pictures' names are relative to.
        rung: the settings the database was made with.
        seed: of everything random in the mapper.
        lenses: an earlier model whose lenses the global mapper starts from where EXIF says nothing.

    Yields:
        The share that is done, as far as it can be told.
    """
    began, source = time.monotonic(), database
    models: list[Any] = []
    try:
        if mapper == "global" and lenses is not None and not focal_is_known(database):
            source = yield from with_known_lens(database, lenses, rung.thresholds, seed)
        models = yield from map_with(mapper, source, images, rung.thresholds, seed)
    except (RuntimeError, ValueError, IndexError) as error:
        # COLMAP raises these where there is nothing to start from.
        logger.info("the %s mapper found nothing: %s", mapper, error)
    finally:
        if source != database:
            remove_database(source)
    return _weighed(mapper, database, rung, models, time.monotonic() - began)


def _weighed(mapper: Mapper, database: Path, rung: Rung, models: list[Any], seconds: float) -> Candidate:
    if not models:
        nothing = Attempt(rung.name, mapper, 0, 0, 0, 0, 0.0, 0.0, round(seconds, 1))
        return Candidate(nothing, None, database, rung, {})
    model = colmap().Reconstruction(models[0])
    outliers, agreement = drop_outliers(database, model, rung)
    weighed = Attempt(
        settings=rung.name,
        mapper=mapper,
        registered=model.num_reg_images(),
        dropped=len(outliers),
        models=_pieces(models),
        points=model.num_points3D(),
        agreement=round(agreement, 3),
        reprojection_error=round(float(model.compute_mean_reprojection_error()), 3),
        seconds=round(seconds, 1),
    )
    return Candidate(weighed, model, database, rung, outliers)


def _pieces(models: list[Any]) -> int:
    """How many models there are, not counting those whose pictures are mostly in the largest as well."""
    placed = [{image.name for image in model.images.values() if image.has_pose} for model in models]
    return 1 + sum(len(names - placed[0]) > len(names) / 2 for names in placed[1:])


def drop_outliers(database: Path, model: Any, rung: Rung) -> tuple[dict[str, str], float]:
    """Take outlier cameras out of a model; reasons by name, and the agreement of what is left."""
    outliers: dict[str, str] = {}
    for _ in range(_LOOKS):
        verdict = judge(database, model, rung.thresholds.pair_inliers)
        if not verdict.outliers:
            break
        outliers |= verdict.outliers
        drop_images(model, set(verdict.outliers))
    # Points that only outliers saw count for nothing.
    with suppress(ValueError):
        model.update_point_3d_errors()
    return outliers, judge(database, model, rung.thresholds.pair_inliers).agreement
