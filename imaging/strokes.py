"""From strokes to images (SDEdit): a coarse drawing is noised until only its layout is left, and the noise taken back.

Strokes are simulated as SDEdit makes them: a median filter, which removes what is finer than a brush, then a palette of
few colours. Distance to the strokes is the price of realism; the level of the noise chooses between them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from genodiff.core.networks import count_calls
from imaging import figures
from imaging.datasets import SUFFIXES, Images, from_unit, read_images, resized
from imaging.errors import ImagingError
from imaging.files import writing
from imaging.models import ImageModel
from imaging.runs import Source
from imaging.samples import Draw, check_samples, write_samples

__all__ = ["Revision", "faithfulness", "read_strokes", "revise", "stroke_to_image", "strokes"]

_REFINED = 8
"""Rounds of k-means after the median cut: the palette then has the colours that are there, not their bounds' middle."""


def strokes(images: Images, *, colours: int = 6, width: int = 5) -> Images:
    """Simulated strokes: a median filter of ``width`` × ``width`` pixels, then a palette of ``colours`` for each image.

    Args:
        images: grey or colour, of any size.
        colours: most colours in an image, 1 … 256.
        width: of the brush, in pixels; SDEdit's 23 of 256 would be 3 of 32, which leaves most of such small images.

    Raises:
        ValueError: colours or width out of range, or images with neither one nor three channels.
    """
    from scipy import ndimage

    if not 1 <= colours <= 256 or width < 1:
        raise ValueError(f"expected 1 to 256 colours and a width >= 1, got {colours} and {width}")
    if images.shape[0] not in (1, 3):
        raise ValueError(f"strokes need images of one or three channels, got {images.shape[0]}")
    broad = ndimage.median_filter(images.pixels, (1, 1, width, width), mode="nearest")
    return replace(images, name=f"strokes of {images.name}", pixels=np.stack([_painted(p, colours) for p in broad]))


def _painted(pixels: NDArray[np.uint8], colours: int) -> NDArray[np.uint8]:
    """An image (C, H, W) in its own palette."""
    from PIL import Image

    shown = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    few = shown.quantize(colours, Image.Quantize.MEDIANCUT, _REFINED, dither=Image.Dither.NONE)
    return np.atleast_3d(np.asarray(few.convert(shown.mode))).transpose(2, 0, 1)


def read_strokes(path: Path, shape: tuple[int, int, int]) -> Images:
    """A user's pictures, a file or all of a folder or zip, as images of a model: the centre of each, resized.

    Args:
        path: of the file, folder or zip.
        shape: channels, height and width; grey is the luma of colour.

    Raises:
        ImagingError: there are none, one cannot be read, or images of that shape are no squares.
    """
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    if height != width or channels not in (1, 3):
        raise ImagingError(f"pictures become squares of one or three channels, but the model is for {shape}")
    if not path.exists():
        raise ImagingError(f"{path} is not there: give a picture, or a folder or zip of pictures")
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        try:
            with Image.open(path) as image:
                images = Images(path.name, resized(np.asarray(image.convert("RGB")), height)[None])
        except (UnidentifiedImageError, OSError) as error:
            raise ImagingError(f"{path} cannot be read as an image: give another picture") from error
    else:
        images = read_images(path, size=height, name=path.name)
    if channels == 3:
        return images
    grey = [np.asarray(Image.fromarray(p.transpose(1, 2, 0)).convert("L"))[None] for p in images.pixels]
    return replace(images, pixels=np.stack(grey))


@torch.no_grad()
def revise(
    model: ImageModel,
    images: Images,
    *,
    level: float,
    steps: int,
    seed: int,
    batch: int = 256,
    progress: bool = False,
) -> Draw:
    """Images that resemble given ones, by :meth:`ImageModel.revise`, and how often the network was called for each.

    Raises:
        ImagingError: the images have another shape than those of the model, or it does not reach the level.
    """
    from tqdm import tqdm

    if images.shape != model.shape:
        raise ImagingError(f"{images.name}: images of shape {images.shape}, but the model is for {model.shape}")
    generator = torch.Generator().manual_seed(seed)
    parts = []
    with count_calls(cast(nn.Module, model.denoiser.network)) as calls:
        runs = range(0, len(images), batch)
        for k in tqdm(runs, desc="revise", unit="batch", disable=not progress, dynamic_ncols=True):
            values = images.values(slice(k, k + batch))
            parts.append(from_unit(model.revise(values, level=level, steps=steps, generator=generator)))
    return Draw(np.concatenate(parts), calls.rows // len(images))


def faithfulness(made: Images, to: Images) -> float:
    """Root mean square distance of images to those they were made from, values in [−1, 1]: 0 is a copy."""
    return float((made.values() - to.values()).double().square().mean().sqrt())


@dataclass(frozen=True)
class Revision:
    """What was made of strokes.

    Attributes:
        images: the results.
        strokes: what they were made from.
        distance: see :func:`faithfulness`.
        nfe: calls of the network for each image, as counted.
    """

    images: Images
    strokes: Images
    distance: float
    nfe: int


def stroke_to_image(
    folder: Path,
    output: Path,
    *,
    pictures: Path | None = None,
    simulate: int = 16,
    colours: int = 6,
    width: int = 5,
    level: float = 2.0,
    steps: int = 18,
    path: Path | None = None,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> Revision:
    """Makes images of strokes and writes them, with a PNG of the first strokes and what became of them beside.

    Args:
        folder: of the model.
        output: file for images and strokes (.npz).
        pictures: file, folder or zip of strokes; simulated ones if not given.
        simulate: strokes to simulate, from the first images of the test set of the model's data.
        colours: of a simulated stroke image.
        width: of its brush, in pixels.
        level: of the noise; see :meth:`ImageModel.revise`.
        steps: of the model's sampler.
        path: of the model's data, if not where their Debian package puts them.
        seed: of the noise.
        force: replace what is there.
        progress: show a bar.

    Raises:
        ImagingError: no model, no strokes, a level that it does not reach, or a file that exists.
    """
    check_samples(output, force=force)
    model = ImageModel.load(folder)
    if pictures is None:
        test = Source(model.source["name"], path, model.source["size"]).load().test
        given = strokes(test.select(np.arange(min(simulate, len(test)))), colours=colours, width=width)
    else:
        given = read_strokes(pictures, model.shape)
    drawn = revise(model, given, level=level, steps=steps, seed=seed, progress=progress)
    made = Images(output.name, drawn.pixels)
    distance = faithfulness(made, given)
    said = {
        "model": str(folder), "strokes": given.name, "level": level, "steps": steps, "nfe": drawn.nfe, "seed": seed,
        "distance": distance,
    }  # fmt: skip
    write_samples(drawn.pixels, output, said=json.dumps(said), force=force, strokes=given.pixels)
    with writing(output.with_suffix(".png"), force=True) as temporary:
        figures.sheet(figures.above(given, made), temporary, columns=min(figures.COLUMNS, len(made)))
    return Revision(made, given, distance, drawn.nfe)
