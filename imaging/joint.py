"""Training of a score network together with its forward process, by the bound on the likelihood."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from genodiff.core.denoisers import Denoiser
from genodiff.core.evidence import Evidence, evidence_grid
from genodiff.core.learning import frozen
from genodiff.core.losses import VectorProblem
from genodiff.core.training import TrainingConfig, TrainingResult, train
from imaging.files import Output
from imaging.fp import EARLIEST, Flexible, FlexibleModel, Process
from imaging.networks import Precision, UNetConfig, trained_in
from imaging.runs import AT_ONCE, REPEATS, TRAINING, Source, check_size, finish, rows_of

__all__ = ["EVIDENCE", "train_flexible"]

EVIDENCE = replace(TRAINING, learning_rate=5e-4)
"""Of a score network by the bound on the likelihood."""


def train_flexible(
    source: Source,
    output: Path,
    *,
    process: Process = "vp",
    rank: int = 0,
    jointly: float = 1.0,
    network: UNetConfig,
    config: TrainingConfig = EVIDENCE,
    seed: int = 1,
    precision: Precision = "float32",
    force: bool = False,
    progress: bool = False,
) -> TrainingResult:
    """A score network together with what is learned of its forward process, by the bound on the likelihood.

    Args:
        source: of the images.
        output: folder for the model.
        process: see :class:`imaging.fp.Flexible`.
        rank: of a learned rotation of the basis.
        jointly: share of the steps in which the forward process is learned too; it is left as it is in the rest,
            which start with a new optimiser from the averaged weights and go on along the same fall of the learning
            rate. 1 is *joint* training in the paper's words, less is *mix*.
        network: size of the U-Net.
        config: length, rates and batch, of both stages together.
        seed: of weights, batches and noise.
        precision: of the network in training.
        force: replace what is there.
        progress: show a bar.
    """
    with Output(output, force=force) as folder:
        sets = source.load()
        check_size(source.size, network)
        design = Flexible(sets.train.shape, process, rank)
        model = FlexibleModel.new(design, network, moments=sets.train.moments(), source=source.facts(), seed=seed)
        learns = any(p.requires_grad for p in model.process.parameters())
        first = round(jointly * config.steps) if learns else 0
        model.learned = ("network", *("process",) * (first > 0))
        rows, held_out = rows_of(sets, model.standardised)
        objective = Evidence(evidence_grid(model.process, epsilon=EARLIEST))
        problem = VectorProblem(
            model.denoiser, rows, held_out, grid=objective.grid, batch=config.batch, seed=seed, repeats=REPEATS,
            objective=_of_dequantised(model, objective), at_once=AT_ONCE,
        )  # fmt: skip
        stages = {"joint-": first, "": config.steps - first}
        result = TrainingResult()
        for stage, steps in stages.items():
            part = replace(config, steps=steps, warmup=min(config.warmup, max(1, steps // 10)))
            with nullcontext() if stage else frozen(model.process), trained_in(model.denoiser.network, precision):
                done = train(
                    model.denoiser, problem, part, seed=seed + bool(stage), checkpoint=folder.checkpoint_of(stage),
                    fingerprint=f"flexible {stage} {model.facts()} {config} {jointly} {seed} {precision} {sets.digest}",
                    within=(0 if stage else first, config.steps), progress=progress,
                )  # fmt: skip
            if steps:
                before = result.history[-1]["seconds"] if result.history else 0.0
                told = [{**row, "step": result.steps + row["step"], "seconds": before + row["seconds"]}
                        for row in done.history]  # fmt: skip
                result = replace(done, steps=result.steps + done.steps, history=[*result.history, *told])
        finish(
            model,
            folder,
            result,
            command="train",
            jointly=jointly,
            training=asdict(config),
            seed=seed,
            precision=precision,
        )
    return result


def _of_dequantised(model: FlexibleModel, evidence: Evidence) -> Callable[..., Tensor]:
    """The bound on the likelihood of images with the noise of dequantisation, in nats a dimension."""

    def objective(denoiser: Denoiser, x_0: Tensor, t: Tensor, *, generator: torch.Generator) -> Tensor:
        return evidence(denoiser, model.dequantised(x_0, generator=generator), t, generator=generator)

    return objective
