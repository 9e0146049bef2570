"""Images that a model drew: how they are drawn, kept and judged."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from genodiff.core.networks import count_calls
from imaging.datasets import Images, from_unit, read_images
from imaging.errors import ImagingError
from imaging.files import MARK, Output, check_file, writing
from imaging.models import ImageModel
from imaging.runs import Source, facts

__all__ = ["Draw", "check_samples", "draw", "evaluate", "read_samples", "sample_model", "write_samples"]


@dataclass(frozen=True)
class Draw:
    """Images that a model drew.

    Attributes:
        pixels: (n, C, H, W) uint8.
        nfe: calls of the network for each image, as counted.
    """

    pixels: NDArray[np.uint8]
    nfe: int


@torch.no_grad()
def draw(model: ImageModel, n: int, *, steps: int, seed: int, batch: int = 256, progress: bool = False) -> Draw:
    """New images, and how often the network was called for each."""
    from tqdm import tqdm

    generator = torch.Generator().manual_seed(seed)
    parts = []
    with count_calls(cast(nn.Module, model.denoiser.network)) as calls:
        for done in tqdm(range(0, n, batch), desc="sample", unit="batch", disable=not progress, dynamic_ncols=True):
            values = model.sample(min(batch, n - done), steps=steps, generator=generator)
            parts.append(from_unit(values))
    return Draw(np.concatenate(parts), calls.rows // n)


def sample_model(
    folder: Path,
    output: Path,
    *,
    n: int,
    steps: int,
    sampler: str | None = None,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> int:
    """Draws images from a model folder, writes them with a PNG of the first beside them, and returns the NFE."""
    from imaging import figures

    check_samples(output, force=force)
    model = ImageModel.load(folder)
    if sampler is not None:
        if sampler not in model.samplers:
            remedy = f"choose {', '.join(model.samplers)}, or leave" if model.samplers else "it has one only: leave"
            raise ImagingError(f"{folder} is not sampled by {sampler}: {remedy} --sampler out")
        setattr(model, "sampler", sampler)  # noqa: B010 - of the kinds that have samplers
    drawn = draw(model, n, steps=steps, seed=seed, progress=progress)
    said = {"model": str(folder), "steps": steps, "sampler": sampler, "nfe": drawn.nfe, "seed": seed}
    write_samples(drawn.pixels, output, said=json.dumps(said), force=force)
    with writing(output.with_suffix(".png"), force=True) as temporary:
        figures.sheet(Images(output.name, drawn.pixels), temporary)
    return drawn.nfe


def check_samples(output: Path, *, force: bool) -> None:
    """Refuses a name for samples that would fail, before anything is drawn."""
    if output.suffix != ".npz":
        raise ImagingError(f"{output}: the name of samples must end in .npz")
    for path in (output, output.with_suffix(".png")):  # the picture of the first of them
        check_file(path, force=force)


def write_samples(
    pixels: NDArray[np.uint8], path: Path, *, said: str, force: bool = False, **beside: NDArray[np.uint8]
) -> None:
    """Images (n, C, H, W) uint8, a JSON line on how they were made, and other arrays by name, as one .npz."""
    with writing(path, force=force) as temporary:
        arrays: dict[str, Any] = {"images": pixels, "facts": np.array(said), **beside}
        np.savez_compressed(temporary, **arrays)


def read_samples(path: Path, *, size: int) -> Images:
    """Images from an .npz that ``sample`` wrote, or from a folder or zip.

    Raises:
        ImagingError: there are none, or they cannot be read.
    """
    if not path.exists():
        raise ImagingError(f"{path} is not there: give an .npz from sample, or a folder or zip of images")
    if (path / MARK).is_file():
        raise ImagingError(f"{path} is a model: give what sample drew from it, or ask for --likelihood")
    if path.suffix != ".npz":
        return read_images(path, size=size, name=path.name)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return Images(path.name, held["images"])
    except (
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ImagingError(f"{path} holds no images (n, C, H, W) of bytes: give an .npz from sample") from error


def evaluate(
    samples: Path,
    source: Source,
    output: Path,
    *,
    features: str | None = None,
    fid_weights: Path | None = None,
    seed: int = 1,
    force: bool = False,
) -> str:
    """Judges samples, writes ``metrics.csv``, ``spectrum.png`` and ``samples.png``, and returns the table as text."""
    from imaging import figures
    from imaging.features import load_features
    from imaging.metrics import Reference, radial_spectrum

    with Output(output, force=force) as folder:
        known = load_features(features or source.name)
        made = read_samples(samples, size=source.size)
        sets = source.load()
        if made.shape[0] == 3 and sets.train.shape[0] == 1:  # a grey image that went through a colour format
            made = replace(made, pixels=np.ascontiguousarray(made.pixels[:, :1]))
        reference = Reference(sets, known, seed=seed, inception=fid_weights)
        table = reference.judge(made)
        table.to_csv(folder.path / "metrics.csv", index=False)
        figures.spectra({"made": radial_spectrum(made), **reference.spectra}, folder.path / "spectrum.png")
        figures.sheet(made, folder.path / "samples.png")
        folder.finish(facts(
            command="evaluate", samples=samples, data=source.name, size=source.size, seed=seed,
            features={"name": known.name, "weights": known.digest, "accuracy": known.accuracy},
        ))  # fmt: skip
    return table.to_string(index=False, float_format=lambda v: f"{v:.4g}", na_rep="")
