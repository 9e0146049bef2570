"""Training of a network as the posterior mean under an anisotropic field, or what it is compared with."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from genodiff.core.learning import frozen
from genodiff.core.losses import VectorProblem
from genodiff.core.training import TrainingConfig, TrainingResult, train
from imaging.files import Output
from imaging.networks import UNetConfig
from imaging.runs import AT_ONCE, REPEATS, TRAINING, Source, check_size, finish, rows_of
from imaging.spde import Field, FieldModel, Process, equal_noise

__all__ = ["DENOISING", "train_field"]

DENOISING = replace(TRAINING, learning_rate=5e-4)
"""Of a network by denoising."""

_CELLS = 256
_SCALED_BY = 2048
"""Images by which a network is scaled."""


def train_field(
    source: Source,
    output: Path,
    *,
    process: Process = "spde",
    smoothing: float = 0.5,
    edge: float = 0.5,
    length: float = 0.0,
    network: UNetConfig,
    config: TrainingConfig = DENOISING,
    seed: int = 1,
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
        network: size of the U-Net.
        config: length, rates and batch.
        seed: of weights, batches and noise.
        force: replace what is there.
        progress: show a bar.
    """
    with Output(output, force=force) as folder:
        sets = source.load()
        check_size(source, network)
        design = Field(sets.train.shape, process, smoothing, edge, length)
        few = torch.randperm(len(sets.train), generator=torch.Generator().manual_seed(seed))[:_SCALED_BY]
        model = FieldModel.new(
            design, network, values=sets.train.values(few), moments=sets.train.moments(), source=source.facts(),
            seed=seed,
        )  # fmt: skip
        model.learned = ("network",)
        rows, held_out = rows_of(sets, model.standardised)
        problem = VectorProblem(
            model.denoiser, rows, held_out, grid=equal_noise(model.process, _CELLS), batch=config.batch, seed=seed,
            repeats=REPEATS, objective=design.objective, at_once=AT_ONCE,
        )  # fmt: skip
        with frozen(model.process):
            result = train(
                model.denoiser, problem, config, seed=seed, checkpoint=folder.checkpoint,
                fingerprint=f"field {model.facts()} {config} {seed}", progress=progress,
            )  # fmt: skip
        finish(model, folder, result, command="train", training=asdict(config), seed=seed)
    return result
