"""From matches to cameras and points: COLMAP's incremental and global mappers, and the last refinement."""

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

from .background import colmap, in_background
from .database import remove_database
from .features import verification_options
from .settings import Mapper, SfmConfig, Thresholds

Models = list[Any]

#: Pictures a camera needs before its principal point and eight lens parameters are worth fitting.
_RICH_LENS_FROM = 10
#: The richer lens stays when the error sinks to this share: fitted to noise it sinks by less than 1 %.
_RICH_LENS_GAIN = 0.98
#: Share of the picture's size that a principal point may lie off its middle.
_OFF_CENTRE = 0.08
_ROUNDS, _CHANGE = 3, 5e-4
#: Calls that the global mapper makes when a stage ends.
_GLOBAL_STAGES = 8


def map_with(
    mapper: Mapper, database: Path, images: Path, thresholds: Thresholds, seed: int
) -> Generator[float, None, Models]:
    """Run a mapper; the models that came of it, largest first.

    Yields:
        The share that is done, as far as it can be told.
    """
    run = _global if mapper == "global" else _incremental
    models = yield from run(database, images, thresholds, seed)
    return sorted(models, key=lambda model: (model.num_reg_images(), model.num_points3D()), reverse=True)


def _incremental(
    database: Path, images: Path, thresholds: Thresholds, seed: int
) -> Generator[float, None, Models]:
    pycolmap = colmap()
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed, options.extract_colors = seed, False
    # The first pair is the first that any thread finds: with several, the model is not the same each time.
    options.num_threads = 1
    options.min_num_matches, options.min_model_size = thresholds.pair_inliers, 3
    options.mapper.abs_pose_min_num_inliers = thresholds.pose_inliers
    options.mapper.filter_min_tri_angle = options.triangulation.min_angle = thresholds.angle_deg
    with pycolmap.Database.open(database) as opened:
        count = opened.num_images()
    registered = [2]
    out = _fresh_folder(database.with_suffix(".models"))

    def registered_one() -> None:
        registered[0] += 1

    def work(token: object) -> Models:
        found = pycolmap.incremental_mapping(
            database, images, out, options, next_image_callback=registered_one, cancellation_token=token
        )
        return list(found.values())

    try:
        return (yield from in_background(work, lambda: registered[0] / (count + 1)))
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _global(
    database: Path, images: Path, thresholds: Thresholds, seed: int
) -> Generator[float, None, Models]:
    pycolmap = colmap()
    options = pycolmap.GlobalPipelineOptions()
    options.random_seed, options.image_path = seed, images
    options.min_num_matches, options.min_model_size = thresholds.pair_inliers, 3
    options.mapper.min_tri_angle_deg = min(thresholds.angle_deg, options.mapper.min_tri_angle_deg)
    stages = [0]

    def work(token: Any) -> Models:
        def stage_done() -> None:
            stages[0] += 1
            # The global pipeline takes no token; an error here is how it is stopped.
            if token.is_cancelled:
                raise InterruptedError("cancelled")

        models = pycolmap.ReconstructionManager()
        with pycolmap.Database.open(database) as opened:
            pipeline = pycolmap.GlobalPipeline(options, opened, models)
            pipeline.add_callback(int(pycolmap.GlobalPipelineCallback.MODEL_UPDATE_CALLBACK), stage_done)
            pipeline.run()
        return [models.get(index) for index in range(models.size())]

    return (yield from in_background(work, lambda: stages[0] / _GLOBAL_STAGES))


def with_known_lens(
    database: Path, model: Any, thresholds: Thresholds, seed: int
) -> Generator[float, None, Path]:
    """A copy of the database whose matches were verified again with the lenses of a model.

    The global mapper needs relative poses; without focal lengths those are wrong, and so is what it makes of
    them, silently.
    """
    pycolmap = colmap()
    copy = database.with_suffix(".known.db")
    remove_database(copy)
    with pycolmap.Database.open(database):
        # Opened and closed once, so that nothing is left in the write-ahead log.
        pass
    shutil.copyfile(database, copy)
    with pycolmap.Database.open(copy) as opened:
        for key, lens in model.cameras.items():
            camera = opened.read_camera(key)
            camera.params, camera.has_prior_focal_length = lens.params, True
            opened.update_camera(camera)
        opened.clear_two_view_geometries()

    def work(token: object) -> None:
        pycolmap.geometric_verification(
            copy,
            two_view_geometry_options=verification_options(thresholds, seed),
            cancellation_token=token,
        )

    yield from in_background(work, lambda: 0.0)
    return copy


def drop_images(model: Any, names: set[str]) -> None:
    """Take cameras out of a model, with what only they saw."""
    for image in list(model.images.values()):
        if image.name in names and image.has_pose:
            model.deregister_frame(image.frame_id)


def refine(
    database: Path, model: Any, config: SfmConfig, thresholds: Thresholds
) -> Generator[float, None, Any]:
    """Bundle adjustment of everything in turn with new triangulation, and the lens that explains the most.

    Yields:
        The share that is done.
    """
    yield 0.0
    plain = yield from in_background(lambda _: _refined(database, model, thresholds, set()), lambda: 0.1)
    rich = _rich_lenses(plain, config)
    if not rich:
        return plain
    other = yield from in_background(lambda _: _refined(database, plain, thresholds, rich), lambda: 0.5)
    if not all(_is_sound(other.cameras[key]) for key in rich):
        return plain
    gain = other.compute_mean_reprojection_error() / max(plain.compute_mean_reprojection_error(), 1e-9)
    same = other.num_reg_images() >= plain.num_reg_images()
    return other if same and (config.lens == "opencv" or gain < _RICH_LENS_GAIN) else plain


def _rich_lenses(model: Any, config: SfmConfig) -> set[int]:
    """Cameras whose lens may have all parameters."""
    if config.lens not in ("auto", "opencv"):
        return set()
    count: dict[int, int] = {}
    for image in model.images.values():
        count[image.camera_id] = count.get(image.camera_id, 0) + int(image.has_pose)
    fewest = _RICH_LENS_FROM if config.lens == "auto" else 1
    return {key for key, taken in count.items() if taken >= fewest}


def _refined(database: Path, model: Any, thresholds: Thresholds, rich: set[int]) -> Any:
    """A refined copy of a model; `rich` are the cameras that get the whole OpenCV lens."""
    pycolmap = colmap()
    model = pycolmap.Reconstruction(model)
    for key in rich:
        camera = model.cameras[key]
        K, radial = camera.calibration_matrix(), camera.params[3]
        camera.model = pycolmap.CameraModelId.OPENCV
        camera.params = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], radial, 0, 0, 0]
    cache_options = pycolmap.DatabaseCacheOptions()
    cache_options.min_num_matches = thresholds.pair_inliers
    with pycolmap.Database.open(database) as opened:
        cache = pycolmap.DatabaseCache.create(opened, cache_options)
    for key, camera in model.cameras.items():
        # The mapper refuses a model whose lenses are not those of its matches.
        if cache.exists_camera(key):
            cached = cache.camera(key)
            cached.model, cached.params = camera.model, camera.params
    mapper = pycolmap.IncrementalMapper(cache)
    mapper.begin_reconstruction(model)
    options = pycolmap.IncrementalPipelineOptions()
    options.mapper.filter_min_tri_angle = options.triangulation.min_angle = thresholds.angle_deg
    mapper.iterative_global_refinement(
        _ROUNDS, _CHANGE, options.mapper, _adjustment(bool(rich)), options.triangulation
    )
    mapper.end_reconstruction(False)
    return model


def _adjustment(principal_point: bool) -> Any:
    pycolmap = colmap()
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_principal_point = principal_point
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.max_num_iterations = 50
    options.ceres.solver_options.function_tolerance = 1e-6
    return options


def _is_sound(camera: Any) -> bool:
    """Whether a fitted OpenCV lens has a plausible centre and stays one-to-one out to the corners."""
    K, (k1, k2) = camera.calibration_matrix(), camera.params[4:6]
    off = max(abs(K[0, 2] / camera.width - 0.5), abs(K[1, 2] / camera.height - 0.5))
    corner = ((camera.width / K[0, 0]) ** 2 + (camera.height / K[1, 1]) ** 2) / 4
    slopes = [1 + 3 * k1 * r2 + 5 * k2 * r2**2 for r2 in (corner * step / 8 for step in range(1, 10))]
    return off < _OFF_CENTRE and min(slopes) > 0


def _fresh_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
