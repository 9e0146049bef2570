"""The one training loop: EMA, early stopping, clipping, checkpoints, exact resume, data-parallel workers.

All randomness of step k comes from a generator seeded by (seed, k), and a checkpoint holds parameters, averages and
optimiser moments: a run that is killed and resumed ends in the same bits as one that is not, on the same CPU.
Under ``torchrun`` every worker draws the same batch and takes its own part of it, and gradients are averaged, so that
the model is that of a single process at equal batch up to rounding.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = [
    "Problem",
    "TrainingConfig",
    "TrainingError",
    "TrainingResult",
    "Workers",
    "generator_on",
    "step_generator",
    "train",
]


_AVERAGE_EVERY = 4
"""Steps between updates of the averaged weights; with millions of weights the average is a cost of its own."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and where the last good state is."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch: examples per step, over all workers.
        learning_rate: peak rate of AdamW; linear warm-up, then a cosine to zero.
        warmup: steps of warm-up.
        weight_decay: decoupled weight decay.
        ema: decay of the averaged weights; the average warms up as (k + 1)/(k + 10).
        clip: largest norm of the gradient.
        validate_every: steps between validations on held-out people.
        patience: validations without improvement after which training stops.
        checkpoint_seconds: least time between checkpoints.
    """

    steps: int = 2000
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0
    validate_every: int = 200
    patience: int = 6
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1 or self.validate_every < 1 or self.patience < 1:
            raise ValueError(f"steps >= 0 and batch, validate_every, patience >= 1 expected: {self}")


@dataclass(frozen=True)
class Workers:
    """This process among the data-parallel ones: ``part(n)`` is its slice of a batch of n."""

    rank: int = 0
    world: int = 1

    @classmethod
    def connect(cls, device: torch.device) -> Workers:
        """Joins the process group announced by ``torchrun`` in the environment; a single worker otherwise."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
            # Threads of a group that is still there when the interpreter ends abort it.
            atexit.register(torch.distributed.destroy_process_group)
        return cls(rank=torch.distributed.get_rank(), world=world)

    @property
    def leads(self) -> bool:
        """Whether this worker writes files and reports."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Rows of a batch of n that belong to this worker; n must be a multiple of ``world``."""
        if n % self.world:
            raise ValueError(f"batch of {n} cannot be shared evenly by {self.world} workers")
        return slice(self.rank * n // self.world, (self.rank + 1) * n // self.world)

    def average(self, parameters: list[nn.Parameter], loss: Tensor) -> float:
        """Averages gradients over the workers in place, and returns the average loss.

        Every worker learns of a loss that is not finite, so that none waits for one that has stopped.
        """
        if self.world == 1:
            return float(loss.detach())
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients] + [loss.detach().reshape(1)])
        torch.distributed.all_reduce(flat)
        flat /= self.world
        for g, piece in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
            g.copy_(piece.view_as(g))
        return float(flat[-1])


class Problem(Protocol):
    """What is trained: a loss over a random batch, and a fixed loss over held-out people."""

    def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
        """Mean loss of this worker's part of a batch; every draw comes from ``generator``."""

    def validation(self) -> float:
        """Loss on held-out examples with fixed noise: the same number for the same weights."""


@dataclass
class TrainingResult:
    """What training left behind; the module holds the best averaged weights.

    Attributes:
        steps: steps taken in all, including those before a resume.
        best_validation: lowest validation loss.
        stopped_early: whether patience ran out.
        history: one row per validation: step, train_loss (mean since the last row), validation_loss, seconds.
    """

    steps: int = 0
    best_validation: float = math.inf
    stopped_early: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator that depends on (seed, step) alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % (2**63 - 1))


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """A generator for ``device`` that depends on ``generator``, a CPU one: itself where the device is the CPU."""
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))


def _learning_rate(config: TrainingConfig, step: int, within: tuple[int, int] | None = None) -> float:
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    first, whole = within or (0, config.steps)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * (first + step) / max(1, whole)))


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """A hash of tensors by name, and of a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _State:
    """Everything a checkpoint holds, with its single-file format (safetensors; scalars as JSON in its header)."""

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.module, self.optimiser = module, optimiser
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.best = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.result = TrainingResult()
        self.stale = 0
        self.loss_sum, self.loss_count = 0.0, 0

    def tensors(self) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for name, p in self.parameters.items():
            out[f"weight/{name}"], out[f"average/{name}"], out[f"best/{name}"] = (
                p.detach(),
                self.average[name],
                self.best[name],
            )
            for key, value in self.optimiser.state.get(p, {}).items():
                out[f"optimiser.{key}/{name}"] = torch.as_tensor(value)
        return {k: v.detach().cpu().contiguous() for k, v in out.items()}

    def save(self, path: Path, *, fingerprint: str) -> None:
        from safetensors.torch import save_file

        scalars = {
            "steps": self.result.steps, "best": self.result.best_validation, "stale": self.stale,
            "stopped": self.result.stopped_early, "history": self.result.history,
            "loss_sum": self.loss_sum, "loss_count": self.loss_count,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        tensors, text = self.tensors(), json.dumps(scalars)
        metadata = {"fingerprint": fingerprint, "state": text, "sha256": _digest(tensors, text)}
        save_file(tensors, temporary, metadata=metadata)
        os.replace(temporary, path)

    def load(self, path: Path, *, fingerprint: str) -> bool:
        """Restores a checkpoint of the same run; false if the file belongs to another one."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                return False
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a dict
        # Of a file that a fault of the disk has changed, nothing is believed. Older ones have no digest.
        if metadata.get("sha256", "") not in ("", _digest(tensors, metadata.get("state", ""))):
            return False
        moments: dict[str, dict[str, Tensor]] = {}
        with torch.no_grad():
            for key, value in tensors.items():
                kind, name = key.split("/", 1)
                if kind == "weight":
                    self.parameters[name].copy_(value)
                elif kind == "average":
                    self.average[name].copy_(value)
                elif kind == "best":
                    self.best[name].copy_(value)
                else:
                    moments.setdefault(name, {})[kind.removeprefix("optimiser.")] = value
        for name, values in moments.items():
            p = self.parameters[name]
            # A fused optimiser keeps its step count beside the parameters, another one on the CPU.
            fused = self.optimiser.param_groups[0]["fused"]
            self.optimiser.state[p] = {k: v.to(p.device) if fused or k != "step" else v for k, v in values.items()}
        scalars: dict[str, Any] = json.loads(metadata["state"])
        self.result = TrainingResult(
            steps=scalars["steps"], best_validation=scalars["best"], stopped_early=scalars["stopped"],
            history=scalars["history"],
        )  # fmt: skip
        self.stale, self.loss_sum, self.loss_count = scalars["stale"], scalars["loss_sum"], scalars["loss_count"]
        return True

    @torch.no_grad()
    def swap(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Puts weights into the module and returns what was there."""
        held = {n: p.detach().clone() for n, p in self.parameters.items()}
        for n, p in self.parameters.items():
            p.copy_(weights[n])
        return held

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        names = list(self.parameters)
        torch._foreach_lerp_([self.average[n] for n in names], [self.parameters[n] for n in names], 1 - decay)


def train(
    module: nn.Module,
    problem: Problem,
    config: TrainingConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    within: tuple[int, int] | None = None,
    workers: Workers | None = None,
    progress: bool = False,
) -> TrainingResult:
    """Trains ``module`` in place and leaves the averaged weights with the best validation loss in it.

    Args:
        module: parameters to train (those that require gradients).
        problem: training and validation loss.
        config: length, rates, patience.
        seed: of the batches and their noise.
        checkpoint: file to write the state to and to resume from; no checkpoints if ``None``.
        fingerprint: names the run; a checkpoint with another fingerprint is not resumed from.
        within: steps before this training, and steps in all, of a longer one that it is a stage of: its rates fall
            along one cosine over all stages. A training of its own if ``None``.
        workers: this process among the data-parallel ones.
        progress: show a bar with loss and time left.

    Raises:
        TrainingError: the loss or its gradient is not finite; the checkpoint of the last good state is left in place.
    """
    from tqdm import tqdm

    workers = workers or Workers()
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters or config.steps == 0:
        return TrainingResult()
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    optimiser = torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=fused
    )
    state = _State(module, optimiser)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint, fingerprint=fingerprint)
    result = state.result
    began = last_saved = time.monotonic()
    earlier = result.history[-1]["seconds"] if result.history else 0.0
    bar = tqdm(
        total=config.steps, initial=result.steps, desc="fit", unit="step", disable=not (progress and workers.leads),
        dynamic_ncols=True,
    )  # fmt: skip
    module.train()
    with bar, _held_back(workers) as asked:
        while result.steps < config.steps and not result.stopped_early and not asked:
            step = result.steps
            optimiser.param_groups[0]["lr"] = _learning_rate(config, step, within)
            optimiser.zero_grad(set_to_none=True)
            loss = problem.loss(step_generator(seed, step), workers)
            loss.backward()
            value = workers.average(parameters, loss)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.clip))
            # Checked before the step: a gradient that is not finite would spoil the weights, then the checkpoint.
            if not (math.isfinite(value) and math.isfinite(norm)):
                what = f"loss became {value}" if not math.isfinite(value) else f"gradient became {norm}"
                kept = f"; the last good state is in {checkpoint}" if checkpoint and checkpoint.exists() else ""
                raise TrainingError(f"the {what} at step {step + 1}: try another seed or a lower learning rate{kept}")
            optimiser.step()
            if (step + 1) % _AVERAGE_EVERY == 0:
                state.update_average(min(config.ema, (step + 1) / (step + 10)) ** _AVERAGE_EVERY)
            result.steps = step + 1
            state.loss_sum, state.loss_count = state.loss_sum + value, state.loss_count + 1
            bar.update()
            if result.steps % config.validate_every == 0 or result.steps == config.steps:
                row = _validate(state, problem, config)
                row["seconds"] = earlier + time.monotonic() - began
                bar.set_postfix(loss=f"{row['train_loss']:.4f}", held_out=f"{row['validation_loss']:.4f}")
            due = time.monotonic() - last_saved >= config.checkpoint_seconds
            if checkpoint is not None and workers.leads and due:
                state.save(checkpoint, fingerprint=fingerprint)
                last_saved = time.monotonic()
    if checkpoint is not None and workers.leads:
        state.save(checkpoint, fingerprint=fingerprint)
    if asked:
        signal.raise_signal(asked[0])
        raise KeyboardInterrupt  # a handler that did not end the process: training is unfinished all the same
    state.swap(state.best)
    return result


@contextlib.contextmanager
def _held_back(workers: Workers) -> Iterator[list[signal.Signals]]:
    """Signals that ask this process to end, gathered until a step is done: a half step cannot be gone on from.

    Workers that wait for one another, and threads, are ended as they are. A signal that is ignored stays so, as
    Ctrl-C is in what a shell starts in the background.
    """
    asked: list[signal.Signals] = []
    if workers.world > 1 or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, _: object) -> None:
        asked.append(signal.Signals(number))

    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _validate(state: _State, problem: Problem, config: TrainingConfig) -> dict[str, float]:
    """Scores the averaged weights, remembers the best, and decides whether to stop."""
    held = state.swap(state.average)
    state.module.eval()
    with torch.no_grad():
        value = problem.validation()
    state.module.train()
    result = state.result
    if value < result.best_validation:
        result.best_validation, state.stale = value, 0
        state.best = {n: p.detach().clone() for n, p in state.parameters.items()}
    else:
        state.stale += 1
        result.stopped_early = state.stale >= config.patience
    state.swap(held)
    row = {
        "step": float(result.steps),
        "train_loss": state.loss_sum / max(1, state.loss_count),
        "validation_loss": value,
    }
    result.history.append(row)
    state.loss_sum, state.loss_count = 0.0, 0
    return row
