"""What the commands do: from data to trained weights, samples and judgements, on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.datasets import Images, ImageSets, load, read_images
from imaging.errors import ImagingError
from imaging.files import Output, writing

__all__ = ["Source", "evaluate", "read_samples", "train_features", "write_samples"]


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        name: of the data set.
        path: its files, if not where their Debian package puts them.
        size: side of the images in pixels.
    """

    name: str
    path: Path | None = None
    size: int = 32

    def load(self) -> ImageSets:
        """The training and the test set."""
        return load(self.name, path=self.path, size=self.size)


def facts(**known: Any) -> str:
    """JSON that says what made a folder."""
    packages = {name: metadata.version(name) for name in ("genodiff", "torch", "numpy", "scipy")}
    return json.dumps({**known, "packages": packages}, indent=2, ensure_ascii=False, default=str) + "\n"


def train_features(
    source: Source,
    output: Path,
    *,
    steps: int | None = None,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> float:
    """Trains a feature network, writes its weights and returns its accuracy on the test set."""
    from imaging import features

    if output.exists() and not force:
        raise ImagingError(f"{output} exists: choose another -o, or replace it with --force")
    sets = source.load()
    config = features.TRAINING if steps is None else replace(features.TRAINING, steps=steps)
    checkpoint = output.with_name(f".{output.name}.checkpoint.safetensors")
    network, accuracy, _ = features.train_features(
        sets, seed=seed, config=config, checkpoint=checkpoint, progress=progress
    )
    features.save_features(network, output, sets=sets, accuracy=accuracy, force=force)
    checkpoint.unlink(missing_ok=True)
    return accuracy


def write_samples(pixels: NDArray[np.uint8], path: Path, *, said: str, force: bool = False) -> None:
    """Images (n, C, H, W) uint8 and a JSON line on how they were made, as one .npz."""
    if path.suffix != ".npz":
        raise ImagingError(f"{path}: the name of samples must end in .npz")
    with writing(path, force=force) as temporary:
        np.savez_compressed(temporary, images=pixels, facts=np.array(said))


def read_samples(path: Path, *, size: int) -> Images:
    """Images from an .npz that ``sample`` wrote, or from a folder or zip.

    Raises:
        ImagingError: there are none, or they cannot be read.
    """
    if not path.exists():
        raise ImagingError(f"{path} is not there: give an .npz from sample, or a folder or zip of images")
    if path.suffix != ".npz":
        return read_images(path, size=size, name=path.name)
    try:
        with np.load(path, allow_pickle=False) as held:
            return Images(path.name, held["images"])
    except (KeyError, ValueError, OSError) as error:
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
    from imaging.metrics import judge

    with Output(output, force=force) as folder:
        known = load_features(features or source.name)
        made = read_samples(samples, size=source.size)
        sets = source.load()
        if made.shape[0] == 3 and sets.train.shape[0] == 1:  # a grey image that went through a colour format
            made = replace(made, pixels=np.ascontiguousarray(made.pixels[:, :1]))
        table = judge(made, sets, known, seed=seed, inception=fid_weights)
        table.to_csv(folder.path / "metrics.csv", index=False)
        figures.spectra({"made": made, "test": sets.test, "train": sets.train}, folder.path / "spectrum.png")
        figures.sheet(made, folder.path / "samples.png")
        folder.finish(facts(
            command="evaluate", samples=samples, data=source.name, size=source.size, seed=seed,
            features={"name": known.name, "weights": known.digest, "accuracy": known.accuracy},
        ))  # fmt: skip
    return table.to_string(index=False, float_format=lambda v: f"{v:.4g}", na_rep="")
