"""An autoencoder learns, is kept as one file and goes on where it stopped; a user's AutoencoderKL is read as it is."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from genodiff.core.training import TrainingConfig, _State
from imaging import autoencoder
from imaging.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    LatentSpace,
    encoded,
    load_autoencoder,
    reconstructed,
    train_autoencoder,
)
from imaging.errors import ImagingError
from imaging.runs import Source
from tests.imaging.images import discs
from tests.imaging.test_cli import refused, run, succeed

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = AutoencoderConfig(widths=(8, 16), channels=3)
SHORT = TrainingConfig(steps=100, batch=16, learning_rate=5e-3, warmup=5, weight_decay=0.0, ema=0.9, validate_every=25)
KL = ("config.json", "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def trained(disc_source: Source, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Autoencoder]:
    path = tmp_path_factory.mktemp("latents") / "discs.safetensors"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model = train_autoencoder(disc_source, path, config=SMALL, training=SHORT, seed=3)
    torch.set_num_threads(before)
    return path, model


def test_an_autoencoder_learns_to_give_images_back(disc_source: Source, trained: tuple[Path, Autoencoder]) -> None:
    _, model = trained
    test = disc_source.load().test
    back = reconstructed(model, test)
    assert back.pixels.shape == test.pixels.shape
    error = (back.values() - test.values()).square().mean().sqrt()
    assert float(error) == pytest.approx(model.error, rel=1e-6)
    assert model.error < 0.35 * test.moments()[1] ** 0.5
    nearby = model.decode(encoded(model, test) + SMALL.noise * torch.randn(24, 3, 8, 8))
    assert float((nearby - test.values()).square().mean().sqrt()) < 1.5 * model.error


def test_latents_have_mean_0_and_variance_1(disc_source: Source, trained: tuple[Path, Autoencoder]) -> None:
    _, model = trained
    assert (model.shape, model.latent_shape) == ((3, 16, 16), (3, 8, 8))
    latents = encoded(model, disc_source.load().train)
    assert latents.shape == (216, 3, 8, 8)
    variance, mean = torch.var_mean(latents.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
    torch.testing.assert_close(variance, torch.ones_like(variance), rtol=1e-4, atol=0)


def test_encoding_and_decoding_are_smooth() -> None:
    """Gradients exist to second order, as they do of the networks of the models."""
    model = Autoencoder((1, 2, 4), AutoencoderConfig(widths=(3, 4), channels=1)).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    values = torch.randn(1, 1, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (values,))
    assert torch.autograd.gradgradcheck(lambda x: model(x).square().sum(), (values,))


@pytest.mark.parametrize(
    ("widths", "shape", "latents"),
    [((8,), (1, 9, 7), (2, 9, 7)), ((8, 8), (3, 8, 12), (2, 4, 6)), ((4, 8, 8), (1, 16, 8), (2, 4, 2))],
)
def test_latents_are_halved_between_widths(
    widths: tuple[int, ...], shape: tuple[int, int, int], latents: tuple[int, int, int]
) -> None:
    model = Autoencoder(shape, AutoencoderConfig(widths=widths, channels=2))
    values = torch.randn(2, *shape)
    assert model.latent_shape == latents
    assert model.encode(values).shape == (2, *latents)
    assert model(values).shape == values.shape


def test_what_is_kept_is_small_and_is_what_was_trained(trained: tuple[Path, Autoencoder]) -> None:
    path, model = trained
    loaded = load_autoencoder(path, shape=(3, 16, 16))
    assert isinstance(loaded, Autoencoder)
    images = discs(5, channels=3)
    assert torch.equal(encoded(loaded, images), encoded(model, images))
    assert (loaded.name, loaded.error, loaded.digest) == ("folder", model.error, model.digest)
    assert len(loaded.digest) == 12
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    with safe_open(path, framework="pt") as handle:
        facts = json.loads(handle.metadata()["autoencoder"])
    assert facts["training"]["steps"] == 100
    assert facts["config"] == {"widths": [8, 16], "channels": 3, "noise": 0.05}
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    # The default size, in half precision.
    assert 2 * sum(p.numel() for p in Autoencoder((3, 32, 32)).parameters()) < 1_000_000


def test_an_interrupted_run_goes_on_to_equal_bits(
    disc_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, saved, saves = replace(SHORT, steps=12, validate_every=4, checkpoint_seconds=0.0), _State.save, 0

    def train(name: str) -> Path:
        path = tmp_path / name / "l.safetensors"
        train_autoencoder(disc_source, path, config=SMALL, training=training, seed=3)
        return path

    def interrupt(self: _State, path: Path, *, fingerprint: str) -> None:
        nonlocal saves
        saved(self, path, fingerprint=fingerprint)
        saves += 1
        if saves == 7:
            raise KeyboardInterrupt

    whole = train("whole")
    monkeypatch.setattr(_State, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("cut")
    assert [p.name for p in (tmp_path / "cut").iterdir()] == [".l.safetensors.checkpoint.safetensors"]
    cut = train("cut")
    assert saves == 12 + 1  # of every step, seven before the interruption, and once at the end
    assert cut.read_bytes() == whole.read_bytes()
    assert [p.name for p in cut.parent.iterdir()] == [cut.name]


def test_seeds_decide_what_is_learned(disc_source: Source, trained: tuple[Path, Autoencoder], tmp_path: Path) -> None:
    other = train_autoencoder(
        disc_source, tmp_path / "o.safetensors", config=SMALL, training=replace(SHORT, steps=2), seed=4
    )  # fmt: skip
    assert other.digest != trained[1].digest


def test_what_is_no_autoencoder_is_refused(trained: tuple[Path, Autoencoder], tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match="is not there"):
        load_autoencoder(tmp_path / "absent")
    with pytest.raises(ImagingError, match=r"is for images of shape \(3, 16, 16\), not \(1, 16, 16\)"):
        load_autoencoder(trained[0], shape=(1, 16, 16))
    (tmp_path / "x.safetensors").write_bytes(b"x")
    save_file({"a": torch.zeros(1)}, tmp_path / "y.safetensors")
    for name in ("x", "y"):
        with pytest.raises(ImagingError, match="holds no autoencoder: give a file that train-autoencoder wrote"):
            load_autoencoder(tmp_path / f"{name}.safetensors")
    with pytest.raises(ImagingError, match=r"images of shape \(1, 16, 16\), but the autoencoder of folder is for"):
        encoded(trained[1], discs(2))
    with pytest.raises(ValueError, match="must be multiples of 2"):
        Autoencoder((1, 9, 8), SMALL)
    for wrong in ({"widths": ()}, {"channels": 0}, {"noise": 1.0}):
        with pytest.raises(ValueError, match="widths and channels must be at least 1 and noise within"):
            AutoencoderConfig(**wrong)  # type: ignore[arg-type]


def test_the_command_trains(disc_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("--data", "folder", "--data-path", disc_source.path, "--size", 16)
    tiny = ("--widths", "4,8", "--channels", 2, "--steps", 3, "--batch", 4, "--threads", 1, "--quiet")
    out = tmp_path / "l.safetensors"
    said = succeed("train-autoencoder", *data, *tiny, "-o", out)
    model = load_autoencoder(out)
    assert isinstance(model, Autoencoder)
    assert said == f"latents 2 × 8 × 8, test images come back with an error of {model.error:.4f}: {out}\n"
    refused("train-autoencoder", *data, *tiny, "-o", out, words="exists: choose another -o, or replace it with --force")
    refused("train-autoencoder", *data, "--widths", "4,4,4,4,4,4", "-o", tmp_path / "x", words="no multiple of 32")
    refused("train-autoencoder", "--data", "folder", "-o", tmp_path / "x", words="--data-path")
    refused("train-autoencoder", *data, "--force", "-o", tmp_path, words="is a folder: choose another -o")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(autoencoder, "train", interrupt)
    result = run("train-autoencoder", *data, *tiny, "--force", "-o", out)
    assert result.exit_code == 130
    assert "goes on from its last checkpoint" in result.stderr
    assert load_autoencoder(out).digest == model.digest


@pytest.fixture(scope="module")
def kl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small AutoencoderKL of random weights, as diffusers saves it."""
    diffusers = pytest.importorskip("diffusers", reason="pip install diffusers to read an AutoencoderKL")
    folder = tmp_path_factory.mktemp("kl") / "vae"
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4, sample_size=16, scaling_factor=0.5, shift_factor=0.25,
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def copied(folder: Path, to: Path, **changes: object) -> Path:
    """The same weights under a configuration with other entries."""
    to.mkdir()
    (to / KL[1]).write_bytes((folder / KL[1]).read_bytes())
    (to / KL[0]).write_text(json.dumps({**json.loads((folder / KL[0]).read_text()), **changes}))
    return to


def test_a_kl_autoencoder_is_read_as_it_is(kl_folder: Path) -> None:
    from diffusers import AutoencoderKL

    space = load_autoencoder(kl_folder)
    assert isinstance(space, LatentSpace)
    assert (space.shape, space.latent_shape, space.name) == ((3, 16, 16), (4, 8, 8), "vae")
    theirs, values = AutoencoderKL.from_pretrained(kl_folder).eval(), discs(3, channels=3).values()
    with torch.no_grad():
        mean = theirs.encode(values).latent_dist.mode()
        latents = space.encode(values)
        torch.testing.assert_close(latents, (mean - 0.25) * 0.5, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(space.decode(latents), theirs.decode(mean).sample, rtol=1e-4, atol=1e-5)
    images = discs(3, channels=3)
    assert reconstructed(space, images).pixels.shape == images.pixels.shape
    assert not any(p.requires_grad for p in space.parameters())
    assert len(space.digest) == 12


def test_a_kl_autoencoder_reads_grey_images_and_other_sizes(kl_folder: Path) -> None:
    space = load_autoencoder(kl_folder, shape=(1, 8, 24))
    values = torch.rand(2, 1, 8, 24)
    coloured = load_autoencoder(kl_folder, shape=(3, 8, 24))
    assert space.latent_shape == coloured.latent_shape == (4, 4, 12)
    latents = space.encode(values)
    torch.testing.assert_close(latents, coloured.encode(values.expand(-1, 3, -1, -1)))
    assert space.decode(latents).shape == values.shape
    torch.testing.assert_close(space.decode(latents), coloured.decode(latents).mean(1, keepdim=True))


def test_latents_of_a_kl_autoencoder_may_be_scaled_by_channel(kl_folder: Path, tmp_path: Path) -> None:
    mean, std = [0.1, 0.2, -0.3, 0.0], [1.0, 2.0, 0.5, 4.0]
    folder = copied(kl_folder, tmp_path / "b", latents_mean=mean, latents_std=std, scaling_factor=2.0)
    plain = copied(kl_folder, tmp_path / "a", shift_factor=None, scaling_factor=1.0)
    values = discs(2, channels=3).values()
    latents = load_autoencoder(plain).encode(values)
    scaled = load_autoencoder(folder).encode(values)
    shift, scale = (torch.tensor(v).view(4, 1, 1) for v in (mean, std))
    torch.testing.assert_close(scaled, (latents - shift) / scale * 2)


def test_folders_that_hold_no_kl_autoencoder_are_refused(kl_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match=r"holds no config.json: give the folder of an AutoencoderKL"):
        load_autoencoder(tmp_path)
    with pytest.raises(ImagingError, match="of class VQModel"):
        load_autoencoder(copied(kl_folder, tmp_path / "a", _class_name="VQModel"))
    with pytest.raises(ImagingError, match="must be multiples of 2"):
        load_autoencoder(kl_folder, shape=(3, 9, 8))
    with pytest.raises(ImagingError, match="for images of 3 channels, not 2"):
        load_autoencoder(kl_folder, shape=(2, 8, 8))
    broken = copied(kl_folder, tmp_path / "b")
    (broken / KL[1]).write_bytes(b"x")
    with pytest.raises(ImagingError, match="holds no AutoencoderKL to read here"):
        load_autoencoder(broken)


def test_without_diffusers_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KL:
        (tmp_path / name).write_bytes(b"{}")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImagingError, match="pip install diffusers"):
        load_autoencoder(tmp_path)
