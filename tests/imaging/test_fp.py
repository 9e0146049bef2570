"""Flexible forward processes of images: models that load again, bits that are right, stages that leave the process."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from genodiff.core.scores import FlexibleDenoiser
from genodiff.core.training import _AVERAGE_EVERY, TrainingConfig
from imaging import joint, runs
from imaging.datasets import Images
from imaging.errors import ImagingError
from imaging.fp import PROCESSES, Flexible, FlexibleModel, Process, by_frequency, radial_frequency
from imaging.likelihood import bits_per_dimension
from imaging.models import ImageModel
from imaging.networks import UNetConfig
from imaging.runs import Source
from imaging.samples import draw
from imaging.toad import ToadModel
from tests.imaging.test_cli import refused, succeed

SMALL = UNetConfig(widths=(4, 8), blocks=1)
pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = TrainingConfig(
    steps=16, batch=8, learning_rate=1e-2, warmup=1, weight_decay=0.0, ema=0.5, validate_every=8, checkpoint_seconds=0.0
)


def untrained(process: Process, *, shape: tuple[int, int, int] = (1, 8, 8), variance: float = 0.2) -> FlexibleModel:
    model = FlexibleModel.new(Flexible(shape, process), SMALL, moments=(0.1, variance), source={}, seed=1)
    model.denoiser.eval().requires_grad_(False)
    return model


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_is_trained_kept_and_sampled(disc_source: Source, tmp_path: Path, process: Process) -> None:
    result = joint.train_flexible(
        disc_source, tmp_path / "m", process=process, jointly=0.5, network=SMALL, config=SHORT
    )
    assert math.isfinite(result.best_validation)
    model = ImageModel.load(tmp_path / "m")
    assert isinstance(model, FlexibleModel)
    assert model.learned == (("network",) if process in ("vp", "cld") else ("network", "process"))
    assert draw(model, 3, steps=2, seed=1).pixels.shape == (3, 3, 16, 16)
    again = FlexibleModel.load(tmp_path / "m")
    assert (draw(again, 3, steps=2, seed=1).pixels == draw(model, 3, steps=2, seed=1).pixels).all()
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"imaging.json", "weights.safetensors"}
    with pytest.raises(
        ImagingError, match="is a model of kind flexible, where one of kind toad is needed: give one that train"
    ):
        ToadModel.load(tmp_path / "m")


def test_a_process_that_is_learned_moves_and_a_frozen_one_does_not(
    disc_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned(name: str, jointly: float) -> dict[str, torch.Tensor]:
        out = tmp_path / name
        joint.train_flexible(disc_source, out, process="fp", jointly=jointly, network=SMALL, config=SHORT)
        return {key: value.clone() for key, value in FlexibleModel.load(out).process.state_dict().items()}

    assert SHORT.steps / 2 >= _AVERAGE_EVERY  # or the averaged weights would be those of the start
    start = Flexible((3, 16, 16), "fp").diffusion().state_dict()
    never, mixed = learned("never", 0.0), learned("mixed", 0.5)
    assert all(torch.equal(never[key], start[key]) for key in start)
    assert not torch.equal(mixed["rates.log_spectrum"], start["rates.log_spectrum"])
    seen, train = [], joint.train

    def watched(denoiser: FlexibleDenoiser, *arguments: object, **options: object) -> object:
        seen.append({key: value.clone() for key, value in denoiser.process.state_dict().items()})
        return train(denoiser, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(joint, "train", watched)
    again = learned("again", 0.5)
    assert all(torch.equal(seen[0][key], start[key]) for key in start)
    assert not torch.equal(seen[1]["rates.log_spectrum"], start["rates.log_spectrum"])
    assert all(torch.equal(again[key], seen[1][key]) for key in start)  # the second stage left it as it was
    assert all(torch.equal(again[key], mixed[key]) for key in start)


def test_an_interrupted_run_goes_on_to_equal_bits(
    disc_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str) -> None:
        joint.train_flexible(disc_source, tmp_path / name, process="fp-noise", jointly=0.5, network=SMALL, config=SHORT)

    run("whole")
    train, calls = joint.train, 0

    def interrupted(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(joint, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    assert not (tmp_path / "cut").exists()
    run("cut")
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("process", PROCESSES)
def test_bits_of_noise_are_those_of_its_density(process: Process) -> None:
    """A network that has learned nothing says nothing: the model is N(mean, variance), pixel by pixel."""
    model = untrained(process)
    pixels = np.random.default_rng(1).integers(90, 170, (6, 1, 8, 8)).astype(np.uint8)
    images = Images("noise", pixels)
    bits = bits_per_dimension(model, images, seed=3, batch=6, tolerance=1e-6)
    generator = torch.Generator().manual_seed(3)
    x = model.dequantised(model.standardised(images.values()), generator=generator).double()
    nats = 0.5 * (x.square() + math.log(2 * math.pi * 0.2)).mean(1)
    if process == "cld":  # a bound in the mean over velocities, which are drawn
        v = torch.randn(x.shape, generator=generator).double()
        nats += 0.5 * (v.square() - 1).mean(1)
    expected = nats / math.log(2) + math.log2(127.5)
    np.testing.assert_allclose(
        bits.each, expected.numpy(), atol=0.05 if process == "cld" else 2e-4
    )  # one probe: exact where modes do not mix
    row = bits.table().iloc[0]
    assert row["value"] == pytest.approx(bits.each.mean())
    assert row["se"] == pytest.approx(bits.each.std(ddof=1) / math.sqrt(6))


def test_modes_of_like_frequency_are_paired() -> None:
    shape = (2, 4, 8)
    order, frequency = by_frequency(shape), radial_frequency(shape)
    assert sorted(order.tolist()) == list(range(64))
    for channel in order.view(2, -1):
        assert (frequency[channel].diff() >= 0).all()
        assert len({int(mode) // 32 for mode in channel}) == 1
    assert float(frequency[0]) == 0
    assert float(frequency[9]) == pytest.approx(math.hypot(1 / 4, 1 / 8))


@pytest.mark.parametrize("sampler", ["heun", "euler-maruyama", "ancestral"])
@pytest.mark.parametrize("process", ["vp", "fp"])
def test_samplers_of_an_untrained_network_draw_noise_of_the_moments(process: Process, sampler: str) -> None:
    model = untrained(process, variance=0.04)
    model.sampler = sampler  # type: ignore[assignment]
    steps = {"heun": 10, "euler-maruyama": 60, "ancestral": 100}[sampler]
    values = model.sample(400, steps=steps, generator=torch.Generator().manual_seed(1))
    assert float(values.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(values.var()) == pytest.approx(0.04, rel=0.05 if sampler == "heun" else 0.15)


def test_commands_train_sample_and_give_bits(disc_source: Source, tmp_path: Path) -> None:
    data = ("--data", "folder", "--data-path", disc_source.path, "--size", 16)
    tiny = ("--batch", 8, "--threads", 1, "--quiet")
    model, out, judged = tmp_path / "m", tmp_path / "s.npz", tmp_path / "bits"
    network = ("--widths", "4,8", "--blocks", 1)
    succeed("train", *data, "--process", "fp-drift", "--steps", 4, *network, *tiny, "-o", model)
    said = succeed("sample", model, "-n", 2, "--steps", 3, "--sampler", "ancestral", "--quiet", "-o", out)
    assert "called 3 times" in said
    said = succeed("evaluate", model, "--likelihood", "-n", 2, "--data-path", disc_source.path, "--quiet", "-o", judged)
    table = pd.read_csv(judged / "metrics.csv")
    assert table["n"].tolist() == [2]
    assert f"{table['value'][0]:.4f}" in said
    assert len(pd.read_csv(judged / "bits.csv")) == 2


def test_what_does_not_go_together_is_refused(disc_source: Source, tmp_path: Path) -> None:
    edm = tmp_path / "edm"
    runs.train_model(disc_source, edm, network=SMALL, config=replace(SHORT, steps=1))
    refused("sample", edm, "--sampler", "heun", "-o", tmp_path / "s.npz", words="leave --sampler out")
    refused(
        "evaluate",
        edm,
        "--likelihood",
        "-o",
        tmp_path / "b",
        words="where one of kind flexible is needed: give one that train",
    )
    refused("evaluate", edm, "-n", 3, "-o", tmp_path / "b", words="-n goes with --likelihood")
    refused("reproduce", "fp", "--quick", "--data", "emoji", "-o", tmp_path / "r", words="choose among mnist")
    refused("reproduce", "fp", "--quick", "--from-weights", "-o", tmp_path / "r", words="for toad alone")
    assert not (tmp_path / "b").exists()
