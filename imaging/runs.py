"""What the commands do: from data to trained weights, samples and judgements, on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genodiff.core.losses import VectorProblem
from genodiff.core.training import TrainingConfig, TrainingResult, train
from genodiff.core.trajectory import preconditioned_score_matching
from imaging.datasets import Images, ImageSets, from_unit, load, read_images
from imaging.errors import ImagingError
from imaging.files import Output, writing
from imaging.models import ImageModel
from imaging.networks import UNetConfig
from imaging.toad import Toad, edm_times, sample

__all__ = [
    "TRAINING",
    "Draw",
    "Source",
    "draw",
    "evaluate",
    "read_samples",
    "sample_model",
    "train_features",
    "train_model",
    "write_samples",
]

_HELD_OUT = 512
"""Images of the test set by which training is validated."""


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


@dataclass(frozen=True)
class Draw:
    """Images that a model drew.

    Attributes:
        pixels: (n, C, H, W) uint8.
        nfe: calls of the network for each image, as counted.
    """

    pixels: NDArray[np.uint8]
    nfe: int


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


TRAINING = TrainingConfig(
    steps=20_000,
    batch=64,
    learning_rate=1e-3,
    warmup=200,
    weight_decay=0.0,
    ema=0.9995,
    validate_every=500,
    patience=20,
)  # fmt: skip


class _Rows:
    """Images as rows of values, made from bytes for one batch at a time."""

    device = torch.device("cpu")

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.images.values(index).flatten(1)


def _trained(
    model: ImageModel,
    sets: ImageSets,
    folder: Output,
    objective: Callable[..., Tensor],
    config: TrainingConfig,
    *,
    grid: Tensor,
    seed: int,
    what: str,
    progress: bool,
) -> TrainingResult:
    """Trains whatever of the model requires a gradient, on times spread evenly over ``grid``, and saves it."""
    held_out = sets.test.values(slice(0, _HELD_OUT)).flatten(1)
    problem = VectorProblem(
        model.denoiser, cast(Tensor, _Rows(sets.train)), held_out,
        grid=grid, batch=config.batch, seed=seed, repeats=2, objective=objective, at_once=256,
    )  # fmt: skip
    began = time.monotonic()
    result = train(
        model.denoiser, problem, config, seed=seed, checkpoint=folder.checkpoint,
        fingerprint=f"{what} {model.facts()} {config} {seed}", progress=progress,
    )  # fmt: skip
    model.denoiser.eval()
    model.save_weights(folder.path)
    folder.finish(facts(
        command=what, model=model.facts(), seed=seed, training=asdict(config), history=result.history,
        seconds=round(time.monotonic() - began, 1),
    ))  # fmt: skip
    return result


def train_model(
    source: Source,
    output: Path,
    *,
    network: UNetConfig,
    config: TrainingConfig = TRAINING,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> tuple[ImageModel, TrainingResult]:
    """The baseline: one isotropic noise level for all modes, trained as EDM is (Karras et al. 2022)."""
    with Output(output, force=force) as folder:
        sets = source.load()
        about = {"name": source.name, "size": source.size}
        model = ImageModel.new(Toad(sets.train.shape), network, moments=sets.train.moments(), source=about, seed=seed)
        model.denoiser.process.requires_grad_(False)
        model.learned = ("network",)
        result = _trained(
            model, sets, folder, preconditioned_score_matching, config,
            grid=edm_times(model.denoiser.process), seed=seed, what="train", progress=progress,
        )  # fmt: skip
    return model, result


@torch.no_grad()
def draw(model: ImageModel, n: int, *, steps: int, seed: int, batch: int = 256, progress: bool = False) -> Draw:
    """New images by the second-order sampler, and how often the network was called for each."""
    from tqdm import tqdm

    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    generator = torch.Generator().manual_seed(seed)
    counter = model.denoiser.network.register_forward_hook(count)
    parts = []
    try:
        for done in tqdm(range(0, n, batch), desc="sample", unit="batch", disable=not progress, dynamic_ncols=True):
            values = sample(
                model.denoiser, min(batch, n - done), steps=steps, grid=model.times(steps),
                second=1.0 if model.grid == "karras" else 0.5, generator=generator, batch=batch,
            )  # fmt: skip
            parts.append(from_unit(values))
    finally:
        counter.remove()
    return Draw(np.concatenate(parts), calls // len(parts))


def sample_model(
    folder: Path, output: Path, *, n: int, steps: int, seed: int = 1, force: bool = False, progress: bool = False
) -> int:
    """Draws images from a model folder, writes them with a PNG of the first beside them, and returns the NFE."""
    from imaging import figures

    check_samples(output, force=force)
    model = ImageModel.load(folder)
    drawn = draw(model, n, steps=steps, seed=seed, progress=progress)
    said = {"model": str(folder), "steps": steps, "nfe": drawn.nfe, "grid": model.grid, "seed": seed}
    write_samples(drawn.pixels, output, said=json.dumps(said), force=force)
    with writing(output.with_suffix(".png"), force=True) as temporary:
        figures.sheet(Images(output.name, drawn.pixels), temporary)
    return drawn.nfe


def check_samples(output: Path, *, force: bool) -> None:
    """Refuses a name for samples that would fail, before anything is drawn."""
    if output.suffix != ".npz":
        raise ImagingError(f"{output}: the name of samples must end in .npz")
    if output.exists() and not force:
        raise ImagingError(f"{output} exists: choose another -o, or replace it with --force")


def write_samples(pixels: NDArray[np.uint8], path: Path, *, said: str, force: bool = False) -> None:
    """Images (n, C, H, W) uint8 and a JSON line on how they were made, as one .npz."""
    check_samples(path, force=force)
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
