"""Models of fields: equal noise, every process learned and sampled, latents, images made again from noisy ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from imaging import cli, fp
from imaging.autoencoder import TRAINING, AutoencoderConfig, train_autoencoder
from imaging.denoising import DENOISING, train_field
from imaging.errors import ImagingError
from imaging.models import ImageModel
from imaging.networks import UNetConfig
from imaging.runs import Source
from imaging.samples import draw
from imaging.spde import EDGE, PROCESSES, SMOOTHING, Field, FieldModel, Process, equal_noise

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (3, 8, 8)
NETWORK = UNetConfig(widths=(4, 8), blocks=1)
SHORT = replace(DENOISING, steps=3, batch=8, warmup=1, validate_every=3)
ENCODING = replace(TRAINING, steps=3, batch=8, warmup=1, validate_every=3)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def untrained(process: Process, shape: tuple[int, int, int] = SHAPE) -> FieldModel:
    """A network that says nothing: the posterior mean of N(0, I), where there are no edges."""
    rows = torch.randn(64, 3 * 64, generator=generator())
    return FieldModel.new(
        Field(shape, process), NETWORK, rows=rows, moments=(0.0, 1.0), source={"name": "noise", "size": 8}, seed=1
    )


@pytest.fixture(scope="module")
def autoencoder(disc_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("latents") / "discs.safetensors"
    train_autoencoder(disc_source, path, config=AutoencoderConfig(widths=(4, 8), channels=2), training=ENCODING)
    return path


@pytest.mark.parametrize("process", PROCESSES)
def test_equal_noise_is_the_share_of_noise_in_equal_steps(process: Process) -> None:
    found = Field(SHAPE, process).diffusion()
    times = equal_noise(found, 12)
    assert times[0].item() == pytest.approx(found.horizon)
    assert (times.diff() < 0).all()
    sigma = found.noise_ratio(times[1:], rate=-0.5).sqrt()
    share = sigma / (1 + sigma)
    assert torch.allclose(share.diff(), share.diff()[:1].expand(11), rtol=1e-4)
    assert share[-1].item() == pytest.approx(1e-3, rel=1e-3)
    late = equal_noise(found, 4, first=0.5, last=0.0)
    assert late[-1].item() == 0
    assert found.noise_ratio(late[0], rate=-0.5).item() == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(("steps", "first", "last"), [(0, None, 0.0), (3, 1.5, 0.0), (3, 0.1, 0.2), (3, 0.5, -0.1)])
def test_shares_of_noise_that_are_none_are_refused(steps: int, first: float | None, last: float) -> None:
    with pytest.raises(ValueError, match="steps"):
        equal_noise(Field(SHAPE, "vp-sde").diffusion(), steps, first=first, last=last)


@pytest.mark.parametrize("process", ["vp-sde", "flow"])
def test_the_flow_of_standard_normal_data_leaves_them_standard_normal(process: Process) -> None:
    model = untrained(process)
    model.sampler = "flow"
    x = model.sample(200, steps=24, generator=generator())
    assert x.mean().item() == pytest.approx(0.0, abs=0.03)
    assert x.var().item() == pytest.approx(1.0, abs=0.03)


def test_bridges_lose_the_variance_of_the_posterior_as_one_over_the_steps() -> None:
    missing = [1 - untrained("vp-sde").sample(200, steps=k, generator=generator()).var().item() for k in (20, 80)]
    assert missing[0] / missing[1] == pytest.approx(4.0, rel=0.5)


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_is_learned_kept_and_sampled(process: Process, disc_source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    result = train_field(disc_source, folder, process=process, smoothing=0.3, network=NETWORK, config=SHORT)
    assert result.steps == 3
    model = ImageModel.load(folder)
    assert isinstance(model, FieldModel)
    assert model.design.process == process
    again = ImageModel.load(folder)
    for sampler in model.samplers:
        model.sampler = again.sampler = sampler  # type: ignore[assignment,attr-defined]
        ours, theirs = (draw(each, 3, steps=4, seed=5) for each in (model, again))
        assert (ours.pixels == theirs.pixels).all()
        assert ours.pixels.shape == (3, 3, 16, 16)
        assert ours.nfe == 4 * model.calls_a_step
    packed = tmp_path / "model.safetensors"
    model.pack(packed)
    half, _ = ImageModel.unpack(packed)
    parameters = dict(half.denoiser.network.named_parameters())  # type: ignore[union-attr,operator]
    for name, p in model.denoiser.network.named_parameters():  # type: ignore[union-attr,operator]
        assert torch.equal(parameters[name], p.half().float())


@pytest.mark.parametrize("process", ["vp-sde", "spde", "flow"])
def test_little_noise_gives_images_back_and_much_of_it_forgets_them(process: Process) -> None:
    model = untrained(process)
    images = torch.rand(20, *SHAPE, generator=generator(3)) * 2 - 1
    with torch.no_grad():
        near = model.revise(images, level=0.02, steps=4, generator=generator())
        far = model.revise(images, level=30.0, steps=8, generator=generator())
    assert (near - images).square().mean().sqrt().item() < 0.1
    assert torch.corrcoef(torch.stack([far.flatten(), images.flatten()]))[0, 1].abs().item() < 0.1
    with pytest.raises(ImagingError, match="choose another --level"):
        untrained("spde").revise(images, level=1e4, steps=4, generator=generator())


def test_models_of_latents_hold_their_autoencoder(
    disc_source: Source, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "autoencoder.safetensors"
    held.write_bytes(autoencoder.read_bytes())
    folder = tmp_path / "model"
    train_field(disc_source, folder, process="spde", autoencoder=held, network=NETWORK, config=SHORT)
    held.unlink()
    model = ImageModel.load(folder)
    assert isinstance(model, FieldModel)
    assert model.design.shape == (2, 8, 8)
    assert model.shape == (3, 16, 16)
    values = disc_source.load().test.values(slice(0, 4))
    assert model.restored(model.standardised(values)).shape == values.shape
    assert draw(model, 2, steps=3, seed=1).pixels.shape == (2, 3, 16, 16)
    states = model.standardised(disc_source.load().train.values())
    assert states.mean().item() == pytest.approx(0.0, abs=0.02)
    assert states.var().item() == pytest.approx(1.0, abs=0.05)


def test_an_autoencoder_that_changes_while_a_model_is_learned_is_refused(
    disc_source: Source, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "autoencoder.safetensors"
    held.write_bytes(autoencoder.read_bytes())
    from imaging import denoising

    train = denoising.train

    def changed(*arguments: object, **options: object) -> object:
        held.write_bytes(held.read_bytes() + b" ")
        return train(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(denoising, "train", changed)
    with pytest.raises(ImagingError, match="has changed since it was read"):
        train_field(disc_source, tmp_path / "model", process="vp-sde", autoencoder=held, network=NETWORK, config=SHORT)
    assert not (tmp_path / "model").exists()


def test_the_commands_know_every_process() -> None:
    assert cli._FIELDS == PROCESSES
    assert cli._LIKELY == fp.PROCESSES
    defaults = {option.name: option.default for option in cli.main.commands["train"].params}
    assert (defaults["smoothing"], defaults["edge"]) == (SMOOTHING, EDGE)


@pytest.mark.parametrize(
    ("process", "option"),
    [
        ("edm", "--autoencoder x"),
        ("vp", "--smoothing 1"),
        ("cld", "--rank 2"),
        ("flow", "--edge 1"),
        ("spde", "--jointly 1"),
    ],
)
def test_options_of_other_processes_are_refused(process: str, option: str, tmp_path: Path) -> None:
    given = ["train", "--process", process, *option.split(), "-o", str(tmp_path / "model")]
    found = CliRunner().invoke(cli.main, given)
    assert found.exit_code == 2
    assert option.split()[0] in found.output
    assert len(found.output.strip().splitlines()) == 1
