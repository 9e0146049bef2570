"""Schedules and clocks learned by gradient, on the one training loop (TOAD Algorithm 1).

:func:`learn_schedule` is line 1 (alone, or together with the network), :func:`learn_time` line 2. What samples then are
equal steps of the returned denoiser's own time, with the second evaluation halfway (lines 3 and 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from genodiff.core.denoisers import Denoiser
from genodiff.core.knots import KnotSchedule, TransformedSchedule
from genodiff.core.losses import VectorProblem
from genodiff.core.schedules import uniform_grid
from genodiff.core.subspaces import SubspaceDiffusion
from genodiff.core.training import TrainingConfig, TrainingResult, train
from genodiff.core.trajectory import time_objective, trajectory_score_matching

__all__ = ["frozen", "learn_schedule", "learn_time"]

D = TypeVar("D", bound=Denoiser)


@contextmanager
def frozen(module: nn.Module, *, but: nn.Module | None = None) -> Iterator[None]:
    """No parameter of ``module`` asks for a gradient meanwhile, save those of ``but``."""
    kept = set() if but is None else {id(p) for p in but.parameters()}
    held = [p for p in module.parameters() if p.requires_grad and id(p) not in kept]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


def _schedule(denoiser: Denoiser) -> tuple[SubspaceDiffusion, KnotSchedule]:
    process = denoiser.process
    if not isinstance(process, SubspaceDiffusion) or not isinstance(process.schedule, KnotSchedule):
        raise ValueError("needs noise in subspaces with a schedule of knots that no clock transforms")
    return process, process.schedule


def _train(
    denoiser: Denoiser,
    learned: nn.Module,
    objective: Callable[..., Tensor],
    rows: Tensor,
    held_out: Tensor,
    config: TrainingConfig,
    *,
    seed: int,
    repeats: int,
    at_once: int | None,
    checkpoint: Path | None,
    fingerprint: str,
    progress: bool,
    conditions: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = ({}, {}),
) -> TrainingResult:
    problem = VectorProblem(
        denoiser, rows, held_out, grid=uniform_grid(denoiser.process.horizon, 1), batch=config.batch, seed=seed,
        repeats=repeats, objective=objective, at_once=at_once, conditions=conditions,
    )  # fmt: skip
    with frozen(denoiser, but=learned):
        return train(
            learned, problem, config, seed=seed, checkpoint=checkpoint, fingerprint=fingerprint, progress=progress
        )


def learn_schedule(
    denoiser: Denoiser,
    rows: Tensor,
    held_out: Tensor,
    config: TrainingConfig,
    *,
    seed: int,
    c: float = 1.0,
    score_correction: bool = True,
    jointly: bool = False,
    repeats: int = 8,
    at_once: int | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    progress: bool = False,
) -> TrainingResult:
    """Learns θ by TLSM (TOAD eq. 15), in place.

    Args:
        denoiser: posterior mean on a :class:`SubspaceDiffusion` with a :class:`KnotSchedule`.
        rows: data (n, d).
        held_out: validation data (m, d).
        config: length, rates and batch of training.
        seed: of batches and noise.
        c: variance of the data in the objective.
        score_correction: see :func:`trajectory_score_matching`.
        jointly: train the network (φ), too; otherwise it stays as it is.
        repeats: noise levels at which validation data are seen.
        at_once: most validation vectors in one pass.
        checkpoint: file to resume from; see :func:`genodiff.core.training.train`.
        fingerprint: names the run.
        progress: show a bar.
    """
    _, schedule = _schedule(denoiser)
    objective = partial(trajectory_score_matching, c=c, score_correction=score_correction)
    return _train(
        denoiser, denoiser if jointly else schedule, objective, rows, held_out, config, seed=seed, repeats=repeats,
        at_once=at_once, checkpoint=checkpoint, fingerprint=fingerprint, progress=progress,
    )  # fmt: skip


def learn_time(
    denoiser: D,
    rows: Tensor,
    held_out: Tensor,
    config: TrainingConfig,
    *,
    seed: int,
    c: float = 1.0,
    window: float = 0.125,
    excess: float = 1.0,
    repeats: int = 8,
    at_once: int | None = None,
    conditions: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = ({}, {}),
    checkpoint: Path | None = None,
    fingerprint: str = "",
    progress: bool = False,
) -> tuple[D, TrainingResult]:
    """Learns the clock γ of a denoiser whose schedule and weights stay as they are, by H + L̂ (TOAD §5.2).

    It begins with r(t) = t.

    Args:
        denoiser: posterior mean on a :class:`SubspaceDiffusion` with a :class:`KnotSchedule`.
        rows: data (n, d).
        held_out: validation data (m, d).
        config: length, rates and batch of training.
        seed: of batches and noise.
        c: variance of the data in L̂.
        window: share of T that a step of the sampler is taken to have.
        excess: weight of L̂ beside H.
        repeats: noise levels at which validation data are seen.
        at_once: most validation vectors in one pass.
        conditions: what the denoiser is told of training and of validation vectors, one row per vector each.
        checkpoint: file to resume from.
        fingerprint: names the run.
        progress: show a bar.

    Returns:
        the denoiser on the transformed schedule, and what training left behind.
    """
    process, schedule = _schedule(denoiser)
    knots = schedule.log_knots().detach().mean(0, keepdim=True)
    clock = KnotSchedule(knots, horizon=schedule.horizon, gain=schedule.gain).to(process.mean.device)
    timed = denoiser.on(process.with_schedule(TransformedSchedule(schedule, clock)))
    objective = partial(time_objective, c=c, window=window, excess=excess)
    result = _train(
        timed, clock, objective, rows, held_out, config, seed=seed, repeats=repeats, at_once=at_once,
        checkpoint=checkpoint, fingerprint=fingerprint, progress=progress, conditions=conditions,
    )  # fmt: skip
    return timed, result
