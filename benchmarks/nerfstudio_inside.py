"""What nerfstudio_environment.py runs inside the environment it has made: `prepare [CAPTURE]`, then `check`.

Works in the current folder: data/ (the dataset), outputs/proof/gaussworld/run (nerfstudio's run), facts.json.
"""
# nerfstudio is installed in that environment only.
# pyright: reportMissingImports=false

import contextlib
import json
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import gaussworld as gw
from gaussworld.io import load_capture
from gaussworld.io.nerfstudio import find_run, load_run, save_dataset
from gaussworld.log import drain
from gaussworld.metrics import psnr

DATA, RUN, FACTS = Path("data"), Path("outputs/proof/gaussworld/run"), Path("facts.json")
PACKAGES = "nerfstudio gsplat viser numpy torch torchvision opencv-python-headless open3d pycolmap scipy tyro"


def prepare(capture: str | None = None) -> None:
    """Write the dataset, and see to the weights that nerfstudio wants when it starts."""
    source = cut_out() if capture is None else load_capture(capture)
    drain(save_dataset(source, DATA, depth=source.frames[0].depth is not None))
    FACTS.write_text(json.dumps({"lpips": weights_for_lpips()}))


def cut_out() -> gw.Capture:
    """The synthetic tabletop without its sky, which no Gaussian could stand for."""
    from recon.synthetic import tabletop

    capture = tabletop()
    frames = [
        replace(frame, image=torch.cat([frame.image, (frame.depth > 0)[..., None].float()], dim=-1))  # pyright: ignore
        for frame in capture.frames
    ]
    return replace(capture, frames=tuple(frames))


def weights_for_lpips() -> bool:
    """Whether AlexNet's weights are there, which splatfacto fetches; offline random ones stand in."""
    from torchvision.models import AlexNet_Weights, alexnet

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    weights, marker = folder / Path(AlexNet_Weights.IMAGENET1K_V1.url).name, folder / "random.txt"
    if marker.exists():
        weights.unlink(missing_ok=True)
    with contextlib.suppress(Exception):
        alexnet(weights=AlexNet_Weights.IMAGENET1K_V1)
        marker.unlink(missing_ok=True)
        return True
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"{weights.name} holds random numbers.\n")
    torch.save(alexnet().state_dict(), weights)
    return False


def check() -> None:
    """All checks: name, what was found, what is wanted, and whether that is so."""
    facts = json.loads(FACTS.read_text())
    rows: list[list[Any]] = []
    rows += trained()
    rows += imported()
    rows += own_export()
    rows += exported(DATA, "exported capture", load_capture(DATA))
    world = gw.World.open("imported.world")
    drain(save_dataset(world, "data-of-world"))
    rows += exported(Path("data-of-world"), "exported world", load_capture("data-of-world"))
    rows += run_of_ours()
    capture = load_capture(DATA)
    size = capture.frames[0].camera
    notes = []
    if not facts["lpips"]:
        notes.append("The weights for LPIPS could not be fetched; random ones stand in, no LPIPS is quoted.")
    FACTS.write_text(
        json.dumps(
            {
                **facts,
                "versions": {"Python": sys.version.split()[0]}
                | {name: version(name) for name in PACKAGES.split()},
                "dataset": f"{len(capture)} pictures of {size.width}x{size.height}",
                "notes": notes,
                "checks": rows,
            }
        )
    )


def trained() -> list[list[Any]]:
    """The method is found through its entry point, trains, and nerfstudio has saved its checkpoint."""
    from nerfstudio.configs.method_configs import all_methods
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(RUN))
    events.Reload()
    losses = [event.value for event in events.Scalars("Train Loss")]
    first, last = losses[0], sum(losses[-5:]) / len(losses[-5:])
    files = find_run(RUN)
    size = files.checkpoint.stat().st_size / 1e6
    named = type(all_methods["gaussworld"].pipeline.model).__module__
    return [
        [
            "method `gaussworld` in ns-train",
            named,
            "recon.nerfstudio.model",
            named == "recon.nerfstudio.model",
        ],
        ["training loss, first and mean of last 5", f"{first:.3f}, {last:.3f}", "falls", last < 0.7 * first],
        ["nerfstudio's checkpoint", f"{files.checkpoint.name}, {size:.0f} MB", "there", True],
    ]


def imported() -> list[list[Any]]:
    """The checkpoint as a world: frame, count, and the same pictures as nerfstudio draws."""
    from nerfstudio.utils.eval_utils import eval_setup

    start = time.perf_counter()
    world = load_run(RUN)
    taken = time.perf_counter() - start
    world.save("imported.world")
    gaussians = gw.World.open("imported.world").shown()
    _, pipeline, _, _ = eval_setup(RUN.resolve() / "config.yml", test_mode="test")
    model, manager = pipeline.model, pipeline.datamanager
    background = tuple(model.background_color.tolist())
    ours = {f.name: f.camera for f in load_capture(DATA).frames}
    agreements, qualities = [], []
    pairs = manager.fixed_indices_eval_dataloader
    for name, (camera, batch) in zip(manager.eval_dataset.image_filenames, pairs):
        theirs = model.get_outputs_for_camera(camera)["rgb"]
        K = camera.get_intrinsics_matrices()[0]
        height, width = theirs.shape[:2]
        view = gw.Camera(ours[Path(name).name].world_from_camera, K, width, height)
        with torch.no_grad():
            drawn = gw.render(gaussians, view, background=background).rgb.clamp(0, 1)
        agreements.append(float(psnr(drawn, theirs)))
        picture = model.composite_with_background(model.get_gt_img(batch["image"]), model.background_color)
        qualities.append(float(psnr(theirs, picture)))
    points = manager.train_dataparser_outputs.metadata.get("points3D_xyz")
    start = model.config.num_random if points is None else len(points)
    same = len(gaussians) == model.num_points
    mean, grown = sum(qualities) / len(qualities), start != model.num_points
    return [
        ["Gaussians before and after densification", f"{start:,}, {model.num_points:,}", "differ", grown],
        ["Gaussians imported", f"{len(gaussians):,} in {taken:.2f} s", f"{model.num_points:,}", same],
        ["cameras of the world", str(len(world.cameras)), str(len(ours)), len(world.cameras) == len(ours)],
        [
            f"imported world against nerfstudio's own drawing, worst of {len(agreements)} held-out views",
            f"{min(agreements):.1f} dB", "≥ 40 dB", min(agreements) >= 40,
        ],
        ["nerfstudio's drawing against the pictures, mean", f"{mean:.2f} dB", "≥ 15 dB", mean > 15],
    ]  # fmt: skip


def own_export() -> list[list[Any]]:
    """nerfstudio's own .ply of the run, which is in its frame, against the imported world."""
    from nerfstudio.scripts.exporter import ExportGaussianSplat

    ExportGaussianSplat(load_config=RUN / "config.yml", output_dir=Path("ply")).main()
    placed = json.loads((RUN / "dataparser_transforms.json").read_text())
    nerf_from_source = torch.eye(4)
    nerf_from_source[:3] = torch.tensor(placed["transform"])
    theirs = gw.load("ply/splat.ply").transformed(torch.linalg.inv(nerf_from_source), 1 / placed["scale"])
    world = gw.World.open("imported.world")
    with torch.no_grad():
        pairs = [[gw.render(each, c).rgb for each in (world.shown(), theirs)] for c in world.cameras[:4]]
    worst = min(float(psnr(ours, other)) for ours, other in pairs)
    return [["imported world against nerfstudio's own .ply", f"{worst:.1f} dB", "≥ 40 dB", worst >= 40]]


def exported(folder: Path, what: str, capture: gw.Capture) -> list[list[Any]]:
    """nerfstudio's parser against our own reader: every camera, nerfstudio's turn and scale undone."""
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
    from nerfstudio.data.datasets.base_dataset import InputDataset

    parser = NerfstudioDataParserConfig(data=folder, load_3D_points=True).setup()
    ours = {frame.name: frame.camera for frame in capture.frames}
    seen, off, turned, pixels = set(), 0.0, 0.0, 0.0
    for split in ("train", "test"):
        parsed = parser.get_dataparser_outputs(split)
        InputDataset(parsed).get_data(0, image_type="uint8")
        bottom = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
        source_from_nerf = torch.linalg.inv(torch.cat([parsed.dataparser_transform, bottom]).double())
        for index, path in enumerate(parsed.image_filenames):
            pose = torch.cat([parsed.cameras.camera_to_worlds[index], bottom]).double()
            pose[:3, 3] /= parsed.dataparser_scale
            back = source_from_nerf @ pose @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]).double())
            camera = ours[path.name]
            off = max(off, float((back[:3, 3] - camera.world_from_camera[:3, 3]).norm()))
            turned = max(turned, float((back[:3, :3] - camera.world_from_camera[:3, :3]).abs().max()))
            K = parsed.cameras[index].get_intrinsics_matrices()
            pixels = max(pixels, float((K - camera.K).abs().max()))
            seen.add(path.name)
    points, wanted = len(parsed.metadata.get("points3D_xyz", ())), len(load_capture(folder).points)
    found = f"{len(seen)} of {len(ours)} pictures; {off:.1e} units, {turned:.1e} in rotation, {pixels:.1e} px"
    good = len(seen) == len(ours) and off < 1e-4 and turned < 1e-5 and pixels < 1e-3
    return [
        [f"{what}, cameras as nerfstudio's parser has them", found, "all; < 1e-4, < 1e-5, < 1e-3", good],
        [f"{what}, points to start from", f"{points:,}", f"{wanted:,}", points == wanted],
    ]


def run_of_ours() -> list[list[Any]]:
    """A run of `gaussworld splat` as a dataset."""
    from gaussworld.cli import main

    main(["splat", str(DATA), "-o", "ours", "--preset", "preview", "--steps", "100"])
    drain(save_dataset("ours", "data-of-run"))
    return exported(Path("data-of-run"), "exported run", load_capture("ours"))


if __name__ == "__main__":
    {"prepare": prepare, "check": check}[sys.argv[1]](*sys.argv[2:])
