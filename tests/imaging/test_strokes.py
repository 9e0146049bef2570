"""Strokes are few colours in broad patches; a model revises images as Gaussian data say it must."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from genodiff.core.knots import KnotSchedule
from imaging import runs
from imaging.datasets import Images
from imaging.errors import ImagingError
from imaging.figures import above
from imaging.fp import PROCESSES, Flexible, FlexibleModel, Process
from imaging.models import ImageModel, time_of_level
from imaging.networks import UNetConfig
from imaging.runs import Source
from imaging.strokes import faithfulness, read_strokes, revise, strokes
from imaging.toad import Toad, ToadModel
from tests.imaging.images import discs, write_pictures
from tests.imaging.test_cli import refused, succeed

SMALL = UNetConfig(widths=(4, 8), blocks=1)
SHAPE = (1, 8, 8)
MEAN, VARIANCE = 0.1, 0.04
pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Silent(nn.Module):
    """A network that says nothing: its denoiser is then exact for N(mean, variance), pixel by pixel."""

    shape = SHAPE

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.zeros_like(x)


def flexible(process: Process) -> FlexibleModel:
    model = FlexibleModel.new(Flexible(SHAPE, process), SMALL, moments=(MEAN, VARIANCE), source={}, seed=1)
    model.denoiser.network = Silent()
    model.denoiser.requires_grad_(False)
    return model


def edm() -> ToadModel:
    model = ToadModel.new(Toad(SHAPE), SMALL, moments=(MEAN, VARIANCE), source={}, seed=1)
    model.denoiser.network = Silent()
    model.denoiser.requires_grad_(False)
    return model


def parted() -> ToadModel:
    """Two bands with schedules of their own, the fine one noised earlier."""
    start = edm()
    toad = Toad(SHAPE, cuts=(0.5,))
    knots = start.schedule.log_knots().detach()
    bend = 2 * torch.sin(torch.linspace(0, math.pi, knots.shape[1], dtype=knots.dtype))
    return start.on(toad, KnotSchedule(torch.cat([knots - bend, knots + bend]).sort(1).values, horizon=toad.highest))


MODELS = {"edm": edm, "parted": parted, **{name: (lambda name=name: flexible(name)) for name in PROCESSES[:4]}}


def gaussian(n: int = 1000) -> Tensor:
    return MEAN + VARIANCE**0.5 * torch.randn(n, *SHAPE, generator=generator(7))


@pytest.mark.parametrize("level", [0.5, 3.0])
@pytest.mark.parametrize("name", MODELS)
def test_a_level_says_how_much_is_kept(name: str, level: float) -> None:
    """Of Gaussian data, of which the denoiser is exact, every mode keeps 1/√(1 + ρ) and stays in law as it is."""
    model, given = MODELS[name](), gaussian()
    made = model.revise(given, level=level, steps=24, generator=generator())
    x, y = (v.flatten(1) - MEAN for v in (given, made))
    assert float(y.var()) == pytest.approx(VARIANCE, rel=0.02)
    kept = float((x * y).sum() / x.square().sum())
    if name == "parted":
        assert isinstance(model, ToadModel)
        process = model.process
        t = time_of_level(model.level, level, earliest=0.0, latest=process.horizon)
        noise = process.variance(torch.tensor(t)).detach()
        assert float(noise.mean() / VARIANCE) == pytest.approx(level**2, rel=1e-5)
        assert float(noise.max() / noise.min()) > 2
        expected = (1 + noise / VARIANCE).rsqrt()
        z_x, z_y = process.basis.analysis(x), process.basis.analysis(y)
        for band in expected.unique():
            of = expected == band
            assert float((z_x * z_y)[:, of].sum() / z_x[:, of].square().sum()) == pytest.approx(float(band), abs=0.02)
    else:
        assert kept == pytest.approx(1 / math.hypot(1, level), abs=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_no_noise_gives_the_input_back_and_much_noise_forgets_it(name: str) -> None:
    model, given = MODELS[name](), gaussian(500)
    near = model.revise(given, level=0.02, steps=5, generator=generator())
    assert float((near - given).square().mean().sqrt()) == pytest.approx(0.02 * VARIANCE**0.5, rel=0.05)
    far = model.revise(given, level=60.0, steps=20, generator=generator())
    assert abs(float(torch.corrcoef(torch.stack([far.flatten(), given.flatten()]))[0, 1])) < 0.04
    same = model.revise(given, level=60.0, steps=20, generator=generator())
    other = model.revise(given, level=60.0, steps=20, generator=generator(2))
    assert torch.equal(far, same)
    assert not torch.equal(far, other)


def test_samplers_may_start_later() -> None:
    model, timed = flexible("vp"), parted()
    for sampler in ("heun", "euler-maruyama"):
        model.sampler = sampler  # type: ignore[assignment]
        later, whole = model.times(6, first=0.3), model.times(6)
        assert (float(later[0]), float(whole[0])) == (pytest.approx(0.3), pytest.approx(1.0))
        assert float(later[-1]) == pytest.approx(float(whole[-1]))
        assert torch.allclose(model.times(6, first=1.0), whole, rtol=1e-12)
    assert timed.times(4, first=60.0).tolist() == [60.0, 45.0, 30.0, 15.0, 0.0]
    model.sampler = "heun"
    with pytest.raises(ValueError, match="expected 0 < lowest < highest"):
        model.process.noise_grid(4, last=0.2, first=0.1)


@pytest.mark.parametrize("sampler", ["euler-maruyama", "ancestral"])
def test_stochastic_samplers_revise_too(sampler: str) -> None:
    model = flexible("vp")
    model.sampler = sampler  # type: ignore[assignment]
    given = gaussian(500)
    near = model.revise(given, level=0.05, steps=20, generator=generator())
    assert float((near - given).square().mean().sqrt()) < 0.1 * VARIANCE**0.5
    far = model.revise(given, level=50.0, steps=60, generator=generator())
    assert abs(float(torch.corrcoef(torch.stack([far.flatten(), given.flatten()]))[0, 1])) < 0.04


@pytest.mark.parametrize(("name", "below", "beyond"), [("edm", 0.009, 401.0), ("vp", 1e-4, 160.0)])
def test_a_level_that_is_not_reached_is_refused(name: str, below: float, beyond: float) -> None:
    model = MODELS[name]()
    for level in (below, beyond, math.nan):
        with pytest.raises(ImagingError, match=r"beyond this model, whose noise goes from .* choose another --level"):
            model.revise(gaussian(2), level=level, steps=4, generator=generator())


def test_a_process_with_velocities_is_refused() -> None:
    with pytest.raises(ImagingError, match="cannot revise"):
        flexible("cld").revise(gaussian(2), level=1.0, steps=4, generator=generator())
    with pytest.raises(ImagingError, match="of kind toad cannot revise images"):
        ImageModel.revise(edm(), gaussian(2), level=1.0, steps=4, generator=generator())


def test_revising_counts_calls_and_goes_by_batches() -> None:
    model, images = edm(), discs(5, size=8)
    whole = revise(model, images, level=1.0, steps=4, seed=1)
    assert (whole.pixels.shape, whole.nfe) == (images.pixels.shape, 7)
    assert revise(model, images, level=1.0, steps=4, seed=1, batch=2).nfe == 7
    with pytest.raises(ImagingError, match=r"images of shape \(3, 8, 8\), but the model is for \(1, 8, 8\)"):
        revise(model, discs(2, size=8, channels=3), level=1.0, steps=4, seed=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16, 33])
def test_strokes_are_few_colours_in_broad_patches(channels: int, size: int) -> None:
    images = discs(6, size=size, channels=channels)
    if channels == 3:  # colours, not greys
        images = replace(images, pixels=images.pixels // np.array([1, 2, 3], np.uint8)[:, None, None])
    made = strokes(images)
    assert made.pixels.shape == images.pixels.shape
    for image in made.pixels:
        assert len(np.unique(image.reshape(channels, -1), axis=1).T) <= 6
    assert (strokes(images).pixels == made.pixels).all()

    def roughness(pixels: np.ndarray) -> float:
        return float(np.abs(np.diff(pixels.astype(float), axis=3)).mean())

    assert roughness(made.pixels) < 0.5 * roughness(images.pixels)
    assert faithfulness(made, images) < 0.9 * float(images.values().std())


def test_strokes_keep_what_is_broad_and_flat() -> None:
    pixels = np.zeros((1, 3, 16, 16), np.uint8)
    pixels[:, 0, :, 8:], pixels[:, 1, :8], pixels[0, 2, 4, 4] = 200, 90, 255
    made = strokes(Images("flags", pixels), colours=4, width=3).pixels
    pixels[0, 2, 4, 4] = 0  # narrower than the brush
    np.testing.assert_array_equal(made, pixels)
    assert len(np.unique(strokes(discs(1), colours=1).pixels)) == 1


@pytest.mark.parametrize("options", [{"colours": 0}, {"colours": 257}, {"width": 0}])
def test_strokes_of_no_width_or_colour_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 to 256 colours and a width >= 1"):
        strokes(discs(1), **options)
    with pytest.raises(ValueError, match="one or three channels, got 2"):
        strokes(discs(1, channels=2))


def test_pictures_of_a_user_become_images_of_the_model(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 3)
    colour = read_strokes(tmp_path / "p", (3, 16, 16))
    assert colour.pixels.shape == (3, 3, 16, 16)
    assert colour.pixels[2, :, 5, 5].tolist() == [20, 100, 235]
    one = read_strokes(tmp_path / "p" / "002.png", (3, 16, 16))
    np.testing.assert_array_equal(one.pixels, colour.pixels[2:])
    grey = read_strokes(tmp_path / "p", (1, 8, 8))
    assert grey.pixels.shape == (3, 1, 8, 8)
    assert abs(int(grey.pixels[2, 0, 0, 0]) - (0.299 * 20 + 0.587 * 100 + 0.114 * 235)) < 1
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(tmp_path / "p" / "001.png", "001.png")
    np.testing.assert_array_equal(read_strokes(tmp_path / "p.zip", (3, 16, 16)).pixels, colour.pixels[1:2])
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(ImagingError, match=r"bad.png cannot be read as an image"):
        read_strokes(tmp_path / "bad.png", SHAPE)
    with pytest.raises(ImagingError, match="is not there"):
        read_strokes(tmp_path / "absent.png", SHAPE)
    with pytest.raises(ImagingError, match=r"no|squares"):
        read_strokes(tmp_path / "p", (1, 8, 16))


def test_a_sheet_has_what_was_made_below_its_strokes() -> None:
    first, second = discs(5, size=8, seed=1), discs(5, size=8, seed=2)
    shown = above(first, second, columns=3).pixels
    assert len(shown) == 12
    np.testing.assert_array_equal(shown[:6], np.concatenate([first.pixels[:3], second.pixels[:3]]))
    np.testing.assert_array_equal(shown[6:8], first.pixels[3:])
    np.testing.assert_array_equal(shown[9:11], second.pixels[3:])
    assert (shown[[8, 11]] == 255).all()


@pytest.fixture(scope="module")
def trained(disc_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "edm"
    runs.train_model(disc_source, folder, network=SMALL, config=replace(runs.TRAINING, steps=2, batch=4, warmup=1))
    return folder


def test_the_command_makes_images_of_strokes(disc_source: Source, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    data = ("--data-path", disc_source.path)
    said = succeed("stroke-to-image", trained, "--simulate", 20, "--steps", 3, *data, "--quiet", "-o", out)
    with np.load(out) as held:
        images, given, facts = held["images"], held["strokes"], json.loads(str(held["facts"]))
    assert images.shape == given.shape == (20, 3, 16, 16)
    expected = strokes(disc_source.load().test.select(np.arange(20)))
    np.testing.assert_array_equal(given, expected.pixels)
    distance = math.sqrt(((images.astype(float) - given) ** 2).mean()) / 127.5
    assert facts["distance"] == pytest.approx(distance, rel=1e-5)
    assert (facts["nfe"], facts["level"]) == (5, 2.0)
    assert f"20 images at a distance of {distance:.3f} from their strokes" in said
    assert "called 5 times" in said
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.size == (16 * 32, 4 * 32)


def test_the_command_reads_pictures(trained: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 3)
    out = tmp_path / "out.npz"
    distances = []
    for level in (0.02, 20):
        said = succeed("stroke-to-image", trained, tmp_path / "p", "--level", level, "--steps", 3, "--quiet",
                       "--force", "-o", out)  # fmt: skip
        assert said.startswith("3 images at a distance of ")
        distances.append(float(said.split()[6]))
    assert distances[0] < 0.05 < distances[1]
    refused("stroke-to-image", trained, tmp_path / "p", "-o", out, words="exists: choose another -o")
    refused("stroke-to-image", trained, tmp_path / "p", "-o", tmp_path / "x.png", words="must end in .npz")
    new = ("-o", tmp_path / "new.npz")
    refused("stroke-to-image", trained, tmp_path / "none.png", *new, words="none.png is not there")
    refused("stroke-to-image", trained, tmp_path / "p", "--level", 1e6, *new, words="choose another --level")
    refused("stroke-to-image", trained, tmp_path / "p", "--level", 0, *new, words="see imaging stroke-to-image --help")
    refused("stroke-to-image", trained, tmp_path / "p", "--simulate", 3, *new, words="where no PICTURES are given")
    refused("stroke-to-image", trained, *new, words="--data-path")
    refused("stroke-to-image", tmp_path / "p", *new, words="holds no imaging.json")
    assert not (tmp_path / "new.npz").exists()
