"""Features of pictures and matches between them, into the database, skipping what is there already."""

from collections.abc import Generator
from pathlib import Path

from gaussworld.errors import CaptureError

from .background import colmap, in_background
from .database import described_images, named_by_id, watched
from .pairs import Pair
from .pictures import Pictures
from .settings import Features, Thresholds

Steps = Generator[tuple[float, str], None, None]

#: Pairs whose features are in memory together.
_BLOCK = 400
#: [px] Pictures up to this side have too few features of whole pixels and more.
_SMALL_PICTURE = 500


def find_features(database: Path, pictures: Pictures, features: Features) -> Steps:
    """Find SIFT features of the pictures that have none yet.

    Yields:
        The share that is done and what is being done.
    """
    pycolmap = colmap()
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = features.side
    options.use_gpu = False
    options.sift.max_num_features = features.count
    options.sift.peak_threshold = features.peak
    options.sift.edge_threshold = features.edge
    largest = max(max(picture.width, picture.height) for picture in pictures.all)
    enlarge = largest <= (features.side if features.enlarge else _SMALL_PICTURE)
    options.sift.first_octave = -1 if enlarge else 0
    names = pictures.names

    def work(token: object) -> None:
        pycolmap.extract_features(
            database, pictures.root, names, extraction_options=options, cancellation_token=token
        )

    with watched(database) as opened:
        waiting = {image.image_id for image in opened.read_all_images()}

        def share_done() -> float:
            waiting.difference_update([key for key in waiting if opened.exists_descriptors(key)])
            return 1 - len(waiting) / len(names)

        for share in in_background(work, share_done):
            yield share, f"finding features in {round(share * len(names))} of {len(names)} pictures"
    if described_images(database) == 0:
        raise CaptureError(
            f"{pictures.root}: expected pictures that can be decoded, got none among {len(names)}; open one"
            " of them in a viewer"
        )


def match_pairs(
    database: Path, names: list[str], pairs: list[Pair], thresholds: Thresholds, seed: int
) -> Steps:
    """Match the features of pairs of pictures and keep what a rigid scene explains; the seed is RANSAC's.

    Yields:
        The share that is done and what is being done.
    """
    pycolmap = colmap()
    options = pycolmap.FeatureMatchingOptions()
    options.use_gpu = False
    options.sift.max_ratio = thresholds.ratio
    listed = database.with_suffix(".pairs.txt")
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path, pairing.block_size = listed, _BLOCK
    verification = verification_options(thresholds, seed)

    def work(token: object) -> None:
        pycolmap.match_image_pairs(database, options, pairing, verification, cancellation_token=token)

    with named_by_id(database) as ids:
        lines = [f"{ids[names[a]]} {ids[names[b]]}\n" for a, b in pairs]
        listed.write_text("".join(lines), encoding="utf-8")
        try:
            with watched(database) as opened:
                for share in in_background(work, lambda: opened.num_verified_image_pairs() / len(pairs)):
                    yield share, f"matching {round(share * len(pairs))} of {len(pairs)} pairs"
        finally:
            listed.unlink(missing_ok=True)


def verification_options(thresholds: Thresholds, seed: int) -> object:
    """COLMAP's options for what makes matches of two pictures count."""
    options = colmap().TwoViewGeometryOptions()
    options.min_num_inliers = thresholds.pair_inliers
    options.ransac.random_seed = seed
    return options
