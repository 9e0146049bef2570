"""The commands from images to judged images; what is wrong is told in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from genodiff.core.training import _State
from imaging import cli, runs
from imaging.features import FeatureNetwork, save_features
from imaging.samples import draw
from imaging.toad import ToadModel
from tests.imaging.images import disc_sets, discs

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--batch", 8, "--threads", 1, "--quiet")
HEAVY = {"torch", "numpy", "scipy", "pandas", "matplotlib", "PIL", "fontTools", "safetensors"}


def run(*arguments: object) -> Result:
    """A command in this process; an error that is not turned into a line fails the test."""
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="imaging")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*arguments: object, words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("imaging: ")
    assert words in result.stderr


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 PNG files of 16 × 16 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    for k, pixels in enumerate(discs(40, channels=3).pixels):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{k:03d}.png")
    return folder


@pytest.fixture(scope="module")
def data(pictures: Path) -> tuple[object, ...]:
    return ("--data", "folder", "--data-path", pictures, "--size", 16)


@pytest.fixture(scope="module")
def edm(data: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline of two resolutions, eight steps old; tests must not change it."""
    folder = tmp_path_factory.mktemp("models") / "edm"
    before = torch.get_num_threads()
    said = succeed("train", *data, "--steps", 8, "--widths", "4,8", "--blocks", 1, *TINY, "-o", folder)
    assert said.startswith("8 steps, validation loss")
    torch.set_num_threads(before)
    return folder


def test_every_command_shows_examples() -> None:
    assert "Examples:" in succeed("--help")
    assert set(cli.main.commands) >= {"train", "learn-schedule", "learn-time", "sample", "evaluate", "train-features"}
    for name in cli.main.commands:
        help_text = succeed(name, "--help")
        assert f"genodiff imaging {name}" in help_text
        assert all(len(line) <= 110 for line in help_text.splitlines())


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, imaging.cli; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not HEAVY & set(loaded.split())


def test_genodiff_offers_the_group_that_is_announced() -> None:
    from genodiff.cli import main

    announced = entry_points(group="genodiff.commands", name="imaging")
    if not announced:
        pytest.skip("the distribution is not installed with its entry points")
    assert next(iter(announced)).load() is cli.main
    result = CliRunner().invoke(main, ["imaging", "sample", "--help"])
    assert result.exit_code == 0
    assert "Draw images from a MODEL" in result.stdout
    assert "imaging" in CliRunner().invoke(main, ["--help"]).stdout
    result = CliRunner().invoke(
        main, ["imaging", "sample", "absent", "-o", "x.npz", "--steps", "0"], prog_name="genodiff"
    )
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "see genodiff imaging sample --help" in result.stderr


@pytest.mark.parametrize(("steps", "nfe"), [(2, 3), (5, 9)])
def test_a_model_draws_images(edm: Path, tmp_path: Path, steps: int, nfe: int) -> None:
    out = tmp_path / "s.npz"
    said = succeed("sample", edm, "-n", 5, "--steps", steps, "--quiet", "-o", out)
    assert f"5 images, the network called {nfe} times for each" in said
    with np.load(out) as held:
        assert (held["images"].shape, held["images"].dtype) == ((5, 3, 16, 16), np.uint8)
        assert json.loads(str(held["facts"]))["nfe"] == nfe
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.size == (160, 32)


def test_seeds_decide_what_is_drawn(edm: Path) -> None:
    model = ToadModel.load(edm)
    a, b, c = (draw(model, 4, steps=2, seed=s).pixels for s in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()
    assert (draw(model, 4, steps=2, seed=1, batch=2).pixels.shape) == a.shape


def test_a_schedule_and_a_time_are_learned(edm: Path, pictures: Path, tmp_path: Path) -> None:
    ani, timed = tmp_path / "ani", tmp_path / "timed"
    succeed("learn-schedule", edm, "--steps", 8, *TINY, "--data-path", pictures, "-o", ani)
    model = ToadModel.load(ani)
    assert model.toad.cuts == (0.5,)
    assert model.learned == ("network", "schedule")
    assert (model.schedule.offset != 0).any()
    succeed("learn-time", ani, "--steps", 8, *TINY, "--data-path", pictures, "-o", timed)
    last = ToadModel.load(timed)
    assert last.learned == ("network", "schedule", "time")
    assert last.clock is not None
    assert (last.clock.offset != 0).any()
    before, after = (dict(m.denoiser.network.named_parameters()) for m in (model, last))
    assert all(torch.equal(before[name], after[name]) for name in before)
    t = torch.linspace(0, 6400, 9, dtype=torch.float64)
    torch.testing.assert_close(last.schedule.log_levels(t), model.schedule.log_levels(t), rtol=1e-12, atol=1e-12)
    assert "called 5 times" in succeed("sample", timed, "-n", 2, "--steps", 3, "--quiet", "-o", tmp_path / "s.npz")
    refused("learn-time", timed, "-o", tmp_path / "x", words="has a learned time already")
    refused("learn-schedule", timed, "-o", tmp_path / "x", words="has a learned time")
    refused("learn-schedule", ani, "--subspaces", 3, "-o", tmp_path / "x", words="cannot become 3")


def test_schedule_and_time_in_one_go_are_those_of_two_commands(
    edm: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (*TINY, "--data-path", pictures)
    succeed("learn-schedule", edm, "--steps", 8, *common, "-o", tmp_path / "ani")
    succeed("learn-time", tmp_path / "ani", "--steps", 4, *common, "-o", tmp_path / "timed")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    given = ("learn", edm, "--steps", 8, "--time-steps", 4, *common, "-o", tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "learn_time", interrupted)
        assert run(*given).exit_code == 130
    assert not (tmp_path / "whole").exists()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "learn_schedule", interrupted)  # done before, and not done again
        succeed(*given)
    ours, theirs = (ToadModel.load(tmp_path / name) for name in ("whole", "timed"))
    assert ours.learned == ("network", "schedule", "time")
    weights = theirs.denoiser.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in ours.denoiser.state_dict().items())
    assert {p.name for p in tmp_path.iterdir()} == {"ani", "timed", "whole"}
    refused(*given, words="exists: choose another -o")


def test_a_schedule_of_constant_speed_is_fitted_and_kept(edm: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "fitted"
    succeed("learn-schedule", edm, "--method", "constant-speed", "--subspaces", 1, "--steps", 2, *TINY,
            "--data-path", pictures, "-o", out)  # fmt: skip
    model, start = ToadModel.load(out), ToadModel.load(edm)
    assert model.learned == ("network", "constant speed")
    assert not model.schedule.offset.any()
    assert (model.schedule.log_knots() - start.schedule.log_knots()).abs().max() > 0.1


def test_an_interrupted_run_ends_in_the_same_weights(
    edm: Path, data: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again"
    command = ("train", *data, "--steps", 8, "--widths", "4,8", "--blocks", 1, *TINY, "-o", out)
    saved = _State.save

    def interrupt(self: _State, path: Path, *, fingerprint: str) -> None:
        saved(self, path, fingerprint=fingerprint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_State, "save", interrupt)
        patch.setattr(runs, "TRAINING", runs.replace(runs.TRAINING, checkpoint_seconds=0.0))
        result = run(*command)
    assert result.exit_code == 130
    assert "goes on from its last checkpoint" in result.stderr
    assert not out.exists()
    held = tmp_path / ".again.partial" / "checkpoint.safetensors"
    assert held.is_file()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "TRAINING", runs.replace(runs.TRAINING, checkpoint_seconds=0.0))
        succeed(*command)
    first, second = (load_file(folder / "weights.safetensors") for folder in (edm, out))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]


def test_samples_are_judged(edm: Path, data: tuple[object, ...], pictures: Path, tmp_path: Path) -> None:
    weights = tmp_path / "f.safetensors"
    save_features(FeatureNetwork((3, 16, 16), 2), weights, sets=disc_sets(4, channels=3), accuracy=0.5, force=False)
    samples = tmp_path / "s.npz"
    succeed("sample", edm, "-n", 12, "--steps", 2, "--quiet", "-o", samples)
    for made, out in ((samples, tmp_path / "a"), (pictures, tmp_path / "b")):
        table = succeed("evaluate", made, *data, "--features", weights, "-o", out)
        assert "FD-discs" in table
        names = {path.name for path in out.iterdir()}
        assert names == {"metrics.csv", "spectrum.png", "samples.png", "imaging.json"}
        assert json.loads((out / "imaging.json").read_text())["features"]["name"] == "discs"


def test_features_are_trained(pictures: Path, tmp_path: Path) -> None:
    root = tmp_path / "afhq"
    for part in ("train", "test"):
        for k, path in enumerate(sorted(pictures.iterdir())):
            folder = root / part / ("disc" if k % 2 == 0 else "ring")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "f.safetensors"
    said = succeed("train-features", "--data", "afhq", "--data-path", root, "--size", 16, "--steps", 3,
                   "--threads", 1, "-o", out)  # fmt: skip
    assert "of the test images" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afhq", "f.safetensors"]
    refused("train-features", "--data", "folder", "--data-path", pictures, "--size", 16,
            "-o", tmp_path / "g.safetensors", words="has no classes")  # fmt: skip


def test_bad_requests_are_told_in_one_line(edm: Path, data: tuple[object, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused("train", "--data", "imagenet", "-o", out, words="choose one of fashion-mnist")
    refused("train", *data, "--widths", "8,x", "-o", out, words="'8,x' is not a list of whole numbers")
    refused("train", *data, "--widths", "8,8,8,8,8,8", "-o", out, words="a size of 16 is no multiple of 64")
    refused("train", *data, "-o", edm, words="exists: choose another -o")
    refused("train", "--data", "folder", "--data-path", tmp_path, "-o", out, words="holds no images")
    (tmp_path / "mine").mkdir()
    refused("train", *data, "--force", "-o", tmp_path / "mine", words="was not made by imaging")
    refused("sample", tmp_path, "-o", tmp_path / "s.npz", words="holds no imaging.json")
    refused("sample", edm, "-o", tmp_path / "s.png", words="must end in .npz")
    refused("sample", edm, "--steps", 1, "-o", tmp_path / "s.npz", words="see imaging sample --help")
    refused("evaluate", tmp_path / "none.npz", *data, "--features", "fmnist", "-o", out, words="none.npz is not there")
    (tmp_path / "bad.npz").write_bytes(b"x")
    refused("evaluate", tmp_path / "bad.npz", *data, "--features", "fmnist", "-o", out, words="bad.npz holds no images")
    refused("evaluate", tmp_path / "bad.npz", *data, "-o", out, words="no features are called folder")
    refused("nothing", words="no such command")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.npz", "mine"]


def test_a_damaged_model_is_named(edm: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("imaging.json", "weights.safetensors"):
        (model / name).write_bytes((edm / name).read_bytes())
    (model / "weights.safetensors").write_bytes(b"x")
    refused("sample", model, "-o", tmp_path / "s.npz", words="holds no readable model")
    (model / "weights.safetensors").write_bytes((edm / "weights.safetensors").read_bytes())
    (model / "imaging.json").write_text("{}")
    refused("sample", model, "-o", tmp_path / "s.npz", words="holds no readable model")
