"""Training of a network as the posterior mean under an anisotropic field, or what it is compared with."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genodiff.core.learning import frozen
from genodiff.core.losses import VectorProblem
from genodiff.core.training import TrainingConfig, TrainingResult, train
from imaging.autoencoder import LatentSpace, encoded, load_autoencoder
from imaging.datasets import ImageSets
from imaging.files import Output
from imaging.networks import Precision, UNetConfig, trained_in
from imaging.runs import AT_ONCE, HELD_OUT, REPEATS, TRAINING, Source, check_size, finish, rows_of
from imaging.spde import EDGE, SMOOTHING, Field, FieldModel, Process, equal_noise

__all__ = ["DENOISING", "train_field"]

DENOISING = replace(TRAINING, learning_rate=5e-4)
"""Of a network by denoising."""

_CELLS = 256
_SCALED_BY = 512
"""Images by which a network is scaled."""


def train_field(
    source: Source,
    output: Path,
    *,
    process: Process = "spde",
    smoothing: float = SMOOTHING,
    edge: float = EDGE,
    length: float = 0.0,
    autoencoder: Path | None = None,
    network: UNetConfig,
    config: TrainingConfig = DENOISING,
    seed: int = 1,
    precision: Precision = "float32",
    force: bool = False,
    progress: bool = False,
) -> TrainingResult:
    """A network as the posterior mean, or as the velocity of a straight path, by denoising.

    Args:
        source: of the images.
        output: folder for the model.
        process: see :class:`imaging.spde.Field`, as are the next three.
        smoothing: ν.
        edge: κ at the start.
        length: pixels over which noise is alike.
        autoencoder: of whose latents the model is to be; of pixels if ``None``.
        network: size of the U-Net.
        config: length, rates and batch.
        seed: of weights, batches and noise.
        precision: of the network in training.
        force: replace what is there.
        progress: show a bar.
    """
    with Output(output, force=force) as folder:
        sets = source.load()
        space = None if autoencoder is None else load_autoencoder(autoencoder, shape=sets.train.shape)
        shape, moments, rows, held_out = _states(sets, space)
        for side in shape[1:]:
            check_size(side, network)
        design = Field(shape, process, smoothing, edge, length, images=None if space is None else sets.train.shape)
        few = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:_SCALED_BY]
        model = FieldModel.new(
            design, network, rows=rows[few], moments=moments, source=source.facts(), space=space, seed=seed
        )
        model.learned = ("network",)
        problem = VectorProblem(
            model.denoiser, rows, held_out, grid=equal_noise(model.process, _CELLS), batch=config.batch, seed=seed,
            repeats=REPEATS, objective=design.objective, at_once=AT_ONCE,
        )  # fmt: skip
        with frozen(model.process), trained_in(model.denoiser.network, precision):
            result = train(
                model.denoiser, problem, config, seed=seed, checkpoint=folder.checkpoint,
                fingerprint=f"field {model.facts()} {config} {seed} {precision} {sets.digest}", progress=progress,
            )  # fmt: skip
        finish(model, folder, result, command="train", training=asdict(config), seed=seed, precision=precision)
    return result


def _states(
    sets: ImageSets, space: LatentSpace | None
) -> tuple[tuple[int, int, int], tuple[float, float], Tensor, Tensor]:
    """Shape and moments of images or of their latents, and those of either set at mean 0 and variance 1 as rows."""
    if space is None:
        mean, variance = sets.train.moments()
        return sets.train.shape, (mean, variance), *rows_of(sets, lambda x: (x.flatten(1) - mean) / variance**0.5)
    test = sets.test.select(np.arange(min(HELD_OUT, len(sets.test))))
    rows, held_out = (encoded(space, images).flatten(1) for images in (sets.train, test))
    mean, variance = float(rows.mean()), float(rows.var())
    return space.latent_shape, (mean, variance), *((z - mean) / variance**0.5 for z in (rows, held_out))
