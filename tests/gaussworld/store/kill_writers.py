"""Kill a writer again and again while others read: `python kill_writers.py FOLDER ROUNDS SEED`.

Every revision has one number in all its objects, in poses and arrays; a reader that sees two has seen a torn
one. The writer tells each revision after it was committed; none of those may be lost.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from gaussworld.errors import GaussWorldError
from gaussworld.gaussians import Gaussians
from gaussworld.log import drain
from gaussworld.store import Store
from gaussworld.store.collect import collect
from gaussworld.store.verify import verify
from gaussworld.world import World
from gaussworld.world_object import WorldObject

OBJECTS, ROWS = 5, 3000


def world_of(number: int) -> World:
    """A world that is `number` all over."""
    objects = {}
    for i in range(OBJECTS):
        pose = torch.eye(4)
        pose[0, 3] = number
        arrays = (torch.full((ROWS, *tail), float(number)) for tail in ((3,), (4,), (3,), (), (4, 3)))
        objects[i] = WorldObject(i, f"{number}", Gaussians(*arrays), world_from_object=pose)
    return World(objects)


def number_of(world: World) -> int:
    """The number a world is all over; an error if it is not."""
    numbers = {float(item.name) for item in world.objects.values()}
    for item in world.objects.values():
        numbers.add(float(item.world_from_object[0, 3]))
        for name in ("means", "sh", "opacity_logits"):
            numbers |= set(getattr(item.gaussians, name).unique().tolist())
    if len(numbers) != 1 or len(world.objects) != OBJECTS:
        raise AssertionError(f"torn: {sorted(numbers)} in {len(world.objects)} objects")
    return int(numbers.pop())


def write(path: Path, pipe: int, seed: int) -> None:
    """Commit, undo and collect until killed; tell `number revision` after each commit."""
    rng = random.Random(seed)
    store = Store(path)
    while True:
        ref = store.branch()
        base = store.read(ref.revision)
        number = number_of(base.world) + 1
        if rng.random() < 0.1 and store.revision(ref.revision).parent is not None:
            store.undo("main")
            continue
        if rng.random() < 0.03:
            drain(collect(store, compact=True, grace_s=0.0))
            continue
        new = world_of(number + rng.randrange(1000))
        _, revision = store.commit(
            new, base, parent=ref.revision, branch="main", op="become", details={"number": number}
        )
        os.write(pipe, f"{number_of(new)} {revision}\n".encode())


def read(path: Path, stop: Path) -> None:
    """Open the head again and again until told to stop."""
    count = 0
    while not stop.exists():
        number_of(World.open(path))
        count += 1
    if not count:
        raise AssertionError("the reader read nothing")


def forked(function, *arguments) -> int:
    """The process id of a child that does one thing and exits with 0, or 1 after an error."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        function(*arguments)
        status = 0
    except BaseException as error:
        sys.stderr.write(f"{function.__name__}: {type(error).__name__}: {error}\n")
    finally:
        os._exit(status)


def main(folder: Path, rounds: int, seed: int) -> None:
    torch.set_num_threads(1)  # a pool of threads would not survive the forks
    rng = random.Random(seed)
    path, stop = folder / "a.world", folder / "stop"
    Store.create(path, world_of(0)).close()
    readers = [forked(read, path, stop) for _ in range(2)]
    committed = 0
    for turn in range(rounds):
        ours, theirs = os.pipe()
        writer = forked(write, path, theirs, seed + turn)
        os.close(theirs)
        time.sleep(rng.uniform(0.02, 0.5))
        os.kill(writer, signal.SIGKILL)
        if not os.WIFSIGNALED(os.waitpid(writer, 0)[1]):
            raise AssertionError(f"the writer of round {turn} ended by itself")
        with os.fdopen(ours) as said:
            told = [
                tuple(map(int, line.split())) for line in said.read().splitlines() if line.count(" ") == 1
            ]
        committed += len(told)
        with Store(path) as store:
            for number, revision in told:
                if number_of(store.read(revision).world) != number:
                    raise AssertionError(f"revision {revision} is not {number}")
            found = drain(verify(store)).result
            if found.damages:
                raise AssertionError(f"after kill {turn}: {found.damages}")
    stop.touch()
    failures = sum(os.waitpid(pid, 0)[1] != 0 for pid in readers)
    with Store(path) as store:
        revisions = len(store.revisions())
    if failures or not committed:
        raise AssertionError(f"{failures} readers failed, {committed} revisions committed")
    told_of = f"{rounds} kills, {committed} revisions told, {revisions} kept"
    sys.stdout.write(f"{told_of}, 0 torn reads, 0 lost, integrity clean\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except GaussWorldError as error:
        raise AssertionError(str(error)) from error
