"""`Run`: the folder of one reconstruction - where its files lie, whose it is, and whether it can go on."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaussworld import __version__
from gaussworld.config import save_config, toml_from_config
from gaussworld.errors import ConfigError, GaussWorldError
from gaussworld.io.atomic import replacing

MADE_BY, FORMAT = "gaussworld recon", 1


@dataclass(frozen=True)
class Run:
    """Paths of a run; the folder is self-contained but for pictures that are used where they lie."""

    folder: Path

    @property
    def card(self) -> Path:
        """Whose folder this is, and how far it got."""
        return self.folder / "run.json"

    @property
    def scene(self) -> Path:
        """The Gaussians."""
        return self.folder / "scene.ply"

    @property
    def world(self) -> Path:
        """The Gaussians as a stored world, for edits."""
        return self.folder / "scene.world"

    @property
    def cameras(self) -> Path:
        """All cameras with their splits; the sparse points lie beside it."""
        return self.folder / "transforms.json"

    @property
    def frame(self) -> Path:
        """The way back to the input's frame, the up direction, the unit: each with source and confidence."""
        return self.folder / "frame.json"

    @property
    def config(self) -> Path:
        """The settings of the training, fully resolved."""
        return self.folder / "config.toml"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object for every ten steps."""
        return self.folder / "metrics.jsonl"

    @property
    def pictures(self) -> Path:
        """Frames taken from videos, and copies of photographs that could not be used as they were."""
        return self.folder / "pictures"

    @property
    def sfm(self) -> Path:
        """Features, matches and the sparse model."""
        return self.folder / "sfm"

    @property
    def turntable(self) -> Path:
        return self.folder / "turntable.mp4"

    def read(self) -> dict[str, Any]:
        """What `run.json` says; empty where there is none.

        Raises:
            ConfigError: the file is damaged, or another version wrote it.
        """
        try:
            card = json.loads(self.card.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.card}: expected the run's JSON, got: {error}; choose another folder for the output"
            ) from error
        if not isinstance(card, dict) or card.get("made_by") != MADE_BY:
            raise ConfigError(
                f"{self.card}: expected a run of {MADE_BY}, got a file of something else;"
                " choose another folder"
            )
        if card.get("format") != FORMAT:
            raise ConfigError(
                f"{self.folder}: expected a run of format {FORMAT}, got format {card.get('format')} of"
                f" GaussWorld {card.get('version')}; choose another folder, nothing in this one was changed"
            )
        return card

    def write(self, **facts: object) -> None:
        """Add facts to `run.json`."""
        card = {"made_by": MADE_BY, "format": FORMAT, "version": __version__, **self.read(), **facts}
        write_json(self.card, card)


class Clock:
    """Seconds by stage, added up over all sittings of a run: its card keeps them between two."""

    def __init__(self, run: Run, resume: bool) -> None:
        """Go on with the seconds of earlier sittings, or at zero; a finished run is not told of that yet."""
        card = run.read()
        self.seconds: dict[str, float] = dict(card.get("seconds", {})) if resume else {}
        self.kept = resume or not card.get("finished", False)
        """Whether the folder is this run's already, so that its card may be written."""
        self._run, self._stage, self._begun = run, "", 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """However the work inside ends, the stage it was in ends with it."""
        try:
            yield
        finally:
            # On a full disk the work has its own sentence to say.
            with suppress(GaussWorldError):
                self.enter("")

    def enter(self, stage: str) -> None:
        """The stage before ends here, and this one begins; the empty name is none."""
        now = time.monotonic()
        if self._stage:
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + now - self._begun, 2)
        ended, self._stage, self._begun = self._stage, stage, now
        if ended and self.kept:
            self._run.write(seconds=self.seconds)


def write_json(path: Path, value: object) -> None:
    """Write plain values as JSON, the whole file or nothing."""
    with replacing(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def settings_of(config: object, *others: object) -> dict[str, str]:
    """What decides a run's result, by name: the training's settings, then those of other dataclasses."""
    settings = _lines(toml_from_config(config))
    for other in others:
        settings |= {f"{type(other).__name__}.{name}": repr(value) for name, value in vars(other).items()}
    return settings


def claim(folder: Path, verb: str, sources: list[str], settings: dict[str, str], resume: bool) -> Run:
    """Make a new folder ours, or find the run in it that is to go on; nothing in an old one is changed yet.

    Args:
        folder: for the results.
        verb: "recon", or "sfm", whose folders recon goes on with.
        sources: absolute paths of the inputs.
        settings: what decides the result.
        resume: go on with a run that is there; else its training begins anew.

    Raises:
        ConfigError: the folder holds other files, another input's run, or one with other settings.
    """
    run = Run(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out: expected a folder, got the file {folder}; name another place")
    card = run.read() if folder.is_dir() else {}
    if not card:
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"--out: expected a new folder or an earlier run, got {folder}, which holds other files;"
                " name another folder"
            )
        run.write(input=sources, verb=verb, settings=settings, seconds={}, finished=False)
        return run
    begun = any(path.exists() for path in (run.config, run.scene, run.sfm / "sfm.json"))
    if card.get("input") != sources and not begun:
        # An input that could not be used left nothing worth protecting.
        run.write(input=sources, verb=verb, settings=settings, seconds={}, finished=False)
        return run
    if card.get("input") != sources:
        raise ConfigError(
            f"--out: expected a run on {', '.join(sources)}, got {folder}, which holds one on"
            f" {', '.join(card.get('input', []))}; name another folder"
        )
    before = card.get("verb", verb)
    if (before, verb) == ("recon", "sfm"):
        raise ConfigError(f"{folder} holds a whole run of recon, which has cameras; name another folder")
    if resume and before == verb and (changed := _changed(card.get("settings", {}), settings)):
        raise ConfigError(
            f"{folder} holds a run with other settings ({changed}); add --no-resume to begin anew, or name"
            " another folder"
        )
    return run


def begin(run: Run, verb: str, config: object, settings: dict[str, str], resume: bool) -> None:
    """From here on the folder is this run's: what an earlier one left is gone unless it goes on."""
    if not resume:
        run.checkpoint.unlink(missing_ok=True)
        run.metrics.unlink(missing_ok=True)
    run.write(verb=verb, settings=settings, finished=False)
    save_config(config, run.config)


def _changed(before: dict[str, str], now: dict[str, str]) -> str:
    """The first settings that differ, as `steps: 1000, now 3000`."""
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    shown = [f"{key}: {before.get(key, 'not there')}, now {now.get(key, 'not there')}" for key in keys[:3]]
    return "; ".join(shown) + ("; ..." if len(keys) > 3 else "")


def _lines(text: str) -> dict[str, str]:
    """Key and value of each line of our own TOML, sections included."""
    values, section = {}, ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif "=" in line:
            key, _, value = line.partition(" = ")
            values[section + key] = value
    return values
