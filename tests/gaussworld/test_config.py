"""Dataclass <-> TOML <-> flags: equality of what is saved and loaded, and one sentence for every mistake."""

import dataclasses
import math
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.config import find_preset, load_config, preset_names, save_config, toml_from_config
from gaussworld.errors import ConfigError
from gaussworld.flags import parse_flags, pick_kinds


class Mode(Enum):
    FAST = "fast"
    EXACT = "exact"


@dataclasses.dataclass(frozen=True)
class Adc:
    """Adaptive density control."""

    every: int = 100


@dataclasses.dataclass(frozen=True)
class Mcmc:
    """Relocation."""

    cap_max: int = 1000
    """Never more."""
    noise: float = 1e-4


@dataclasses.dataclass(frozen=True)
class Rates:
    means: float = 1.6e-4
    betas: tuple[float, float] = (0.9, 0.999)


@dataclasses.dataclass(frozen=True)
class Train:
    """Settings like those of a trainer."""

    steps: int = 3000
    """Pictures looked at."""
    antialiased: bool = False
    masked: bool = True
    name: str = "run"
    mode: Mode = Mode.FAST
    backend: Literal["cpu", "cuda"] = "cpu"
    sh_degree: int | None = None
    folder: Path = Path("out")
    levels: tuple[int, ...] = ()
    rates: Rates = dataclasses.field(default_factory=Rates)
    strategy: Adc | Mcmc = dataclasses.field(default_factory=Adc)
    extra: Mcmc | None = None


def loaded(toml: str, folder: Path) -> Train:
    path = folder / "preset.toml"
    path.write_text(toml, encoding="utf-8")
    return load_config(Train, path)


numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
mcmcs = st.builds(Mcmc, cap_max=st.integers(-(2**62), 2**62), noise=numbers)
trains = st.builds(
    Train,
    steps=st.integers(-(2**62), 2**62),
    antialiased=st.booleans(),
    masked=st.booleans(),
    name=texts,
    mode=st.sampled_from(Mode),
    backend=st.sampled_from(["cpu", "cuda"]),
    sh_degree=st.none() | st.integers(-3, 3),
    folder=st.builds(Path, texts.filter(lambda text: "\0" not in text)),
    levels=st.lists(st.integers(-5, 5)).map(tuple),
    rates=st.builds(Rates, means=numbers, betas=st.tuples(numbers, numbers)),
    strategy=st.builds(Adc, every=st.integers(0, 9)) | mcmcs,
    extra=st.none() | mcmcs,
)


@settings(max_examples=40)
@given(trains)
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, config: Train) -> None:
    """save -> load is the identity for every configuration."""
    path = tmp_path_factory.mktemp("config") / "config.toml"
    save_config(config, path)
    assert load_config(Train, path) == config


def test_saved_toml_is_readable() -> None:
    """Values first, then a section for each nested dataclass, with its kind where there is a choice."""
    toml = toml_from_config(Train(strategy=Mcmc(), levels=(1, 2)))
    assert toml.startswith('steps = 3000\nantialiased = false\nmasked = true\nname = "run"\n')
    assert "levels = [1, 2]\n\n[rates]\nmeans = 0.00016\nbetas = [0.9, 0.999]\n" in toml
    assert '[strategy]\nkind = "mcmc"\ncap_max = 1000\nnoise = 0.0001\n' in toml
    assert toml.endswith('[extra]\nkind = "none"\n')


def test_preset_holds_only_differences(tmp_path: Path) -> None:
    """What a file does not say is the dataclass's default; 1e-4 is a number."""
    config = loaded('steps = 7\n[rates]\nmeans = 1e-4\n[strategy]\nkind = "mcmc"\nnoise = 3\n', tmp_path)
    assert config == Train(steps=7, rates=Rates(means=1e-4), strategy=Mcmc(noise=3.0))


def test_presets_stack(tmp_path: Path) -> None:
    """A preset changes what it names in the configuration it starts from."""
    path = tmp_path / "more.toml"
    path.write_text("masked = false\n[strategy]\nnoise = 0.5\n")
    start = Train(steps=5, strategy=Mcmc(cap_max=9))
    assert load_config(Train, path, start) == Train(steps=5, masked=False, strategy=Mcmc(9, 0.5))


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("stpes = 3", "expected a known key, got 'stpes'; did you mean 'steps'?"),
        ("[rates]\nmean = 3", "expected a known key, got 'rates.mean'; did you mean 'means'?"),
        ("qqq = 3", "expected a known key, got 'qqq'; known keys are steps, antialiased, masked, name,"),
        ("steps = 1.5", "--steps: expected a whole number, got '1.5'"),
        ("steps = true", "--steps: expected a whole number, got 'True'"),
        ("steps = [1, 2]", "not understood: 2"),
        ('backend = "tpu"', "--backend: got 'tpu', expected one of ('cpu', 'cuda')"),
        ("[rates]\nbetas = [0.9]", "--rates.betas: expected 2 value(s) after it, got fewer"),
        ("rates = 3", "rates: expected a section of keys, got 3"),
        ("[steps]\na = 1", "steps: expected a value, got {'a': 1}"),
        ("[strategy]\nkind = 'adam'", "strategy.kind: expected adc or mcmc, got 'adam'"),
        ("[strategy]\nnoise = 1", "expected a known key, got 'strategy.noise'; known keys are every"),
        ("[extra]\nnoise = 1", "extra: expected kind among its keys, got only noise"),
        ("steps =", "expected TOML, got a file that does not parse: Invalid value"),
    ],
)
def test_mistakes_in_a_preset(toml: str, sentence: str, tmp_path: Path) -> None:
    """The message names the file, what was expected and what came."""
    with pytest.raises(ConfigError) as caught:
        loaded(toml, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'preset.toml'}: {sentence}")
    assert "\n" not in str(caught.value)


def test_command_line_overrides_the_preset() -> None:
    """The preset is only the default of the same parser."""
    start = Train(steps=7, strategy=Mcmc(cap_max=5))
    parsed = parse_flags(Train, ["--strategy.noise", "2", "--antialiased"], default=start)
    assert parsed == Train(steps=7, antialiased=True, strategy=Mcmc(5, 2.0))


def test_kinds_are_picked_by_flag() -> None:
    """`--strategy.kind` works as `kind` does in a file, and keeps what the preset said of the same kind."""
    assert parse_flags(
        Train, ["--strategy.kind", "mcmc", "--strategy.noise=2"], default=Train()
    ).strategy == Mcmc(noise=2.0)
    assert pick_kinds(Train(strategy=Mcmc(7)), ["--strategy.kind=mcmc", "x"]) == (
        Train(strategy=Mcmc(7)),
        ["x"],
    )
    with pytest.raises(ConfigError, match=r"--strategy\.kind: expected a value after it, got nothing"):
        pick_kinds(Train(), ["--strategy.kind"])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--stpes", "3"], "unknown flag --stpes; did you mean --steps?"),
        (["--steps"], "--steps: expected 1 value(s) after it, got fewer"),
        (["--rates.means", "many"], "--rates.means: expected a number, got 'many'"),
        (["3"], "not understood: 3"),
    ],
)
def test_mistakes_on_the_command_line(flags: list[str], sentence: str) -> None:
    """tyro's boxes become one sentence."""
    with pytest.raises(ConfigError) as caught:
        parse_flags(Train, flags, default=Train(), prog="gaussworld train")
    assert str(caught.value) == sentence


def test_presets_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    """A name is one of the shipped; a path is any file."""
    assert "render/antialiased" in preset_names()
    assert find_preset("render/antialiased").is_file()
    (tmp_path / "mine.toml").write_text("")
    assert find_preset(tmp_path / "mine.toml") == tmp_path / "mine.toml"
    with pytest.raises(ConfigError, match="got 'render/antialised'; did you mean 'render/antialiased'"):
        find_preset("render/antialised")


def test_infinity_survives(tmp_path: Path) -> None:
    """TOML knows inf; so does a learning rate that is never reached."""
    save_config(Train(rates=Rates(means=math.inf)), tmp_path / "c.toml")
    assert load_config(Train, tmp_path / "c.toml").rates.means == math.inf
