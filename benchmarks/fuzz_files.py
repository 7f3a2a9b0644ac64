"""Mutation fuzzing of every reader of files: no crash, hang, jump of memory or stray exception is allowed.

    python benchmarks/fuzz_files.py --minutes 10          # all formats and captures
    python benchmarks/fuzz_files.py --only .spz --seed 3  # one of them, other mutations

Small valid files are damaged at random: bytes, counts, words, lengths, splices; inside gzip and zip as well.
A worker process reads each within limits of time and memory; whatever ends otherwise than with Gaussians or
an error of ours is kept, once for each place in the code, and named. Exit code 1 if there is any.
"""

import argparse
import gzip
import io
import json
import logging
import math
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gaussworld import edit
from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import GaussWorldError, MissingDependency
from gaussworld.gaussians import Gaussians
from gaussworld.io import FORMATS, load, load_capture, load_framing, save, save_cameras
from gaussworld.io.framing import Framing
from gaussworld.log import drain
from gaussworld.pose import look_at
from gaussworld.session import Session
from gaussworld.store import Store
from gaussworld.store.share import export, unpack
from gaussworld.store.verify import verify
from gaussworld.world import World

DATA = Path(__file__).resolve().parent.parent / "tests" / "gaussworld" / "io" / "data"
NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"2",
    b"999999999999",
    b"4294967295",
    b"1e999",
    b"nan",
    b"inf",
    b"-0.0",
    b"",
    b"x",
)
INTEGERS = (
    0,
    1,
    2,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    10**12,
    2**63,
    2**64 - 1,
)
FLOATS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 3e38, -3e38, 1e-45, 88.0, -1e9)


@dataclass(frozen=True)
class Seed:
    """A valid file, or a folder of them, and how it is read."""

    name: str
    files: dict[str, bytes]
    target: str
    """What is given to the reader, relative to the folder; "." for the folder."""
    kind: Literal["gaussians", "capture", "world", "packed"] = "gaussians"

    def read(self, folder: Path) -> None:
        path = folder / self.target
        if self.kind == "capture":
            load_capture(path, need_pictures=False)
            return
        if self.kind == "world":
            try:
                World.open(path)
            finally:
                with Store(path, read_only=True) as store:
                    drain(verify(store))
            return
        if self.kind == "packed":
            shutil.rmtree(folder / "out.world", ignore_errors=True)
            drain(unpack(path, folder / "out.world"))
            return
        load_framing(path)
        got = load(path)
        for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
            assert bool(torch.isfinite(getattr(got, name)).all()), f"{name} is not finite"
        assert bool(got.quats.any(dim=1).all()), "a quaternion is zero"


def gaussians(n: int, degree: int) -> Gaussians:
    """Noise with ids, so that formats that keep objects have some."""
    generator = torch.Generator().manual_seed(degree)
    means, quats, scales, opacities = (
        torch.randn(n, *shape, generator=generator) for shape in ((3,), (4,), (3,), ())
    )
    sh = torch.randn(n, (degree + 1) ** 2, 3, generator=generator) * 0.3
    ids = torch.arange(n, dtype=torch.int32) % 2
    return Gaussians(means, quats, scales, opacities, sh, object_ids=ids)


def make_seeds(folder: Path, only: str) -> list[Seed]:
    """Every format that can be written, at two degrees, then those kept beside the tests, then captures."""
    seeds: list[Seed] = []
    for suffix in FORMATS:
        for degree in (0, 3):
            path = folder / f"a{degree}{suffix}"
            try:
                save(gaussians(4, degree), path)
            except (ValueError, MissingDependency) as error:
                print(f"{suffix} is not written here: {error}")
                break
            seeds.append(Seed(f"{suffix} degree {degree}", {path.name: path.read_bytes()}, path.name))
    from gaussworld.io import spz

    spz.write(gaussians(4, 1), folder / "a.spz", Framing(), version=4)
    extra = [
        folder / "a.spz",
        *(DATA / name for name in ("oracle.compressed.ply", "oracle.sog", "gsply_v3.spz")),
    ]
    seeds += [Seed(f"{path.suffix} {path.name}", {path.name: path.read_bytes()}, path.name) for path in extra]
    with zipfile.ZipFile(DATA / "oracle.sog") as archive:
        seeds.append(
            Seed(".sog folder", {name: archive.read(name) for name in archive.namelist()}, "meta.json")
        )
    return [seed for seed in [*seeds, *captures(folder), *worlds(folder)] if only in seed.name]


def worlds(folder: Path) -> list[Seed]:
    """A stored world of two objects and two revisions, and the same packed."""
    path = folder / "a.world"
    with Session.create(path, World.from_gaussians(gaussians(6, 1))) as session:
        session.do(edit.Move((1,), (0.0, 0.0, 1.0)))
        session.do(edit.SetJoint(1, "revolute"))
    with Store(path) as store:
        drain(export(store, folder / "a.worldz"))
    files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    packed = (folder / "a.worldz").read_bytes()
    return [Seed("world", files, ".", "world"), Seed(".worldz", {"a.worldz": packed}, "a.worldz", "packed")]


def captures(folder: Path) -> list[Seed]:
    pose = look_at(torch.ones(3), torch.zeros(3))
    camera = Camera(pose, torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]), 32, 24)
    frames = tuple(Frame(camera, folder / f"{i}.png") for i in range(2))
    capture = Capture(frames, torch.randn(5, 3), torch.rand(5, 3))
    for name in ("nerf/transforms.json", "colmap"):
        save_cameras(capture, folder / name)
    from gaussworld.io import colmap

    colmap.write(capture, folder / "text", text=True)
    seeds = []
    for name in ("nerf", "colmap", "text"):
        files = [path for path in (folder / name).rglob("*") if path.is_file()]
        content = {str(path.relative_to(folder / name)): path.read_bytes() for path in files}
        seeds.append(Seed(f"capture {name}", content, ".", "capture"))
    return seeds


# Mutations: bytes and a source of chance to bytes.


def overwrite(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))


def set_number(data: bytearray, chance: random.Random) -> None:
    """An extreme number, of any width and byte order, at any place; half the time in the header."""
    at = chance.randrange(min(len(data), 64) if chance.random() < 0.5 else len(data))
    order = chance.choice(("little", "big"))
    if chance.random() < 0.3:
        value = np.array(chance.choice(FLOATS), chance.choice(("<f4", ">f4", "<f8")))
        data[at : at + value.itemsize] = value.tobytes()
        return
    size = chance.choice((1, 2, 4, 8))
    data[at : at + size] = (chance.choice(INTEGERS) % 2 ** (8 * size)).to_bytes(size, order)


def set_word(data: bytearray, chance: random.Random) -> None:
    """Another number in the place of one that is written in digits."""
    digits = [i for i, byte in enumerate(data[:20_000]) if 48 <= byte < 58]
    if not digits:
        return set_number(data, chance)
    start = stop = chance.choice(digits)
    while stop < len(data) and data[stop] in b"0123456789.e+-":
        stop += 1
    data[start:stop] = chance.choice(NUMBERS)


def cut(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : None if chance.random() < 0.5 else start + chance.randint(1, 64)]


def repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start:start] = data[start : start + chance.randint(1, 200)] * chance.choice((1, 1, 2, 50))


def insert(data: bytearray, chance: random.Random) -> None:
    noise = chance.choice(
        (chance.randbytes(8), b"[" * 100_000, b"\0" * 1000, b"\n", b'"', b",", b"{}", b"../")
    )
    data[chance.randrange(len(data)) : 0] = noise


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    overwrite, overwrite, set_number, set_number, set_word, set_word, cut, repeat, insert,
)  # fmt: skip


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Damage inside what is packed, most of the time: a wrong checksum would hide all else."""
    if chance.random() < 0.75:
        if data[:2] == b"\x1f\x8b":
            return gzip.compress(mutated(gzip.decompress(data), others, chance), mtime=0)
        if data[:2] == b"PK":
            return rezipped(data, others, chance)
    buffer = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        if not buffer:
            break
        if chance.random() < 0.03:
            other = chance.choice(others)
            at = chance.randrange(len(other) + 1)
            buffer[chance.randrange(len(buffer)) :] = other[at : at + 10_000]
        else:
            chance.choice(MUTATIONS)(buffer, chance)
    return bytes(buffer)


def rezipped(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The same zip with one entry damaged, missing, or under another name."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w") as after:
        names = before.namelist()
        chosen, way = chance.choice(names), chance.random()
        for name in names:
            content = before.read(name)
            if name == chosen and way < 0.1:
                continue
            if name == chosen:
                content = mutated(content, others, chance)
                name = chance.choice(("../a", "/a", names[0])) if way > 0.9 else name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                after.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


@dataclass(frozen=True)
class Limits:
    seconds: float
    megabytes: int


class TooSlow(Exception):
    """A case took longer than it may."""


def work(
    seeds: list[Seed], start: int, chance_seed: int, limits: Limits, folder: Path, pipe: Connection
) -> None:
    """Read damaged files until stopped: ("begin", case) before each, ("end", (folder, outcome)) after."""
    torch.set_num_threads(1)
    logging.disable()
    prepare(seeds, limits, folder / "warm")
    pipe.send(("ready", None))
    everything = [data for seed in seeds for data in seed.files.values()]
    number, spent = start, [0.0] * len(seeds)
    while True:
        # Every seed gets the same time, not the same number of cases: some readers start another process.
        begun, which = time.monotonic(), spent.index(min(spent))
        chance, seed = random.Random(f"{chance_seed} {number} {which}"), seeds[which]
        victim = chance.choice(sorted(seed.files))
        files = seed.files | {victim: mutated(seed.files[victim], everything, chance)}
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        write(files, place)
        pipe.send(("begin", (number, seed.name, victim)))
        result = outcome(seed, place, limits)
        if result not in ("read", "refused"):
            place = place.rename(folder / f"case {number}")
        pipe.send(("end", (place, result)))
        spent[which] += time.monotonic() - begun
        number += 1


def prepare(seeds: list[Seed], limits: Limits, folder: Path) -> None:
    """Read every seed once, so that libraries are loaded, then lower the ceiling."""
    for i, seed in enumerate(seeds):
        write(seed.files, folder / str(i))
        seed.read(folder / str(i))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    ceiling = used + limits.megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    signal.signal(signal.SIGALRM, _too_slow)
    warnings.simplefilter("error")


def _too_slow(*_: object) -> None:
    raise TooSlow


def write(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def outcome(seed: Seed, place: Path, limits: Limits) -> str:
    """ "read", "refused", or what happened and where."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    try:
        seed.read(place)
        result = "read"
    except GaussWorldError as error:
        result = "refused" if "\n" not in str(error) else f"error of several lines: {error!r:.200}"
    except BaseException as error:
        result = describe(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return f"memory grew by {grown} MB" if grown > limits.megabytes // 2 else result


def describe(error: BaseException) -> str:
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "gaussworld" in frame.filename]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {where}: {str(error)[:160]}"


@dataclass
class Tally:
    outcomes: Counter[str]
    offenders: dict[tuple[str, str], str]

    def note(self, seed: str, victim: str, result: str, case: Path, kept: Path) -> None:
        kind = result if result in ("read", "refused") else "offender"
        self.outcomes[f"{seed}: {kind}"] += 1
        key = (seed, result.split(":", maxsplit=1)[0] + result.partition(" at ")[2][:40])
        if kind == "offender" and key not in self.offenders:
            self.offenders[key] = result
            copy = kept / f"{len(self.offenders):03}"
            shutil.copytree(case, copy, dirs_exist_ok=True)
            print(f"OFFENDER {seed} ({victim} in {copy}): {result}", flush=True)


def fuzz(seeds: list[Seed], arguments: argparse.Namespace, folder: Path) -> Tally:
    limits, tally, number = Limits(arguments.seconds, arguments.megabytes), Tally(Counter(), {}), 0
    end = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < end:
        here, there = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.get_context("fork").Process(
            target=work, args=(seeds, number, arguments.seed, limits, folder, there), daemon=True
        )
        worker.start()
        there.close()
        current = (number, "start-up", "")
        try:
            while time.monotonic() < end:
                if not here.poll(max(60.0, 4 * limits.seconds)):
                    tally.note(current[1], current[2], "hang", folder / "case", arguments.keep)
                    break
                kind, value = here.recv()
                if kind == "begin":
                    current = value
                elif kind == "end":
                    place, result = value
                    tally.note(current[1], current[2], result, place, arguments.keep)
        except EOFError:
            worker.join()
            tally.note(current[1], current[2], f"crash {worker.exitcode}", folder / "case", arguments.keep)
            if current[1] == "start-up":
                raise SystemExit("the worker did not start: a seed cannot be read") from None
        worker.kill()
        worker.join()
        number = current[0] + 1
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of seeds to use")
    parser.add_argument("--seconds", type=float, default=10.0, help="one case may take")
    parser.add_argument("--megabytes", type=int, default=1024, help="one case may take, half of it resident")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "gaussworld_offenders")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.keep, ignore_errors=True)
    arguments.keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        seeds = make_seeds(Path(folder), arguments.only)
        print(f"{len(seeds)} seeds: {', '.join(seed.name for seed in seeds)}", flush=True)
        tally = fuzz(seeds, arguments, Path(folder))
    for name, count in sorted(tally.outcomes.items()):
        print(f"{count:9} {name}")
    total = Counter(name.rsplit(": ", 1)[1] for name in tally.outcomes.elements())
    print(json.dumps({"cases": sum(total.values()), **total, "kinds": len(tally.offenders)}))
    return 1 if tally.offenders else 0


if __name__ == "__main__":
    sys.exit(main())
