"""A small training problem, and the processes that train it: killed, or one of two workers.

Run as ``python -m tests.core.regression {killed|worker} FOLDER``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from genodiff.core.training import TrainingConfig, TrainingError, TrainingResult, Workers, train

CONFIG = TrainingConfig(steps=40, batch=16, warmup=5, validate_every=7, patience=100, checkpoint_seconds=0.0)
KILL_AT = 23


class Regression:
    """Noisy samples of a fixed smooth function, fitted by a small perceptron.

    Args:
        module: what is trained.
        before: called with the number of losses asked for so far, before each is computed.
    """

    def __init__(self, module: nn.Module, *, before: Callable[[int], None] | None = None) -> None:
        self.module, self.before, self.calls = module, before, 0
        self.held_out = torch.linspace(-1, 1, 64).unsqueeze(-1).expand(64, 3) * torch.tensor([1.0, -0.5, 2.0])

    @staticmethod
    def target(x: Tensor) -> Tensor:
        return torch.sin(x.sum(-1, keepdim=True))

    def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
        if self.before is not None:
            self.before(self.calls)
        self.calls += 1
        x = torch.randn(CONFIG.batch, 3, generator=generator)
        y = self.target(x) + 0.1 * torch.randn(CONFIG.batch, 1, generator=generator)
        part = workers.part(CONFIG.batch)
        return (self.module(x[part]) - y[part]).square().mean()

    @torch.no_grad()
    def validation(self) -> float:
        return float((self.module(self.held_out) - self.target(self.held_out)).square().mean())


def perceptron(seed: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def run(
    *,
    before: Callable[[int], None] | None = None,
    checkpoint: Path | None = None,
    config: TrainingConfig = CONFIG,
    seed: int = 11,
    fingerprint: str = "regression",
    workers: Workers | None = None,
) -> tuple[nn.Module, TrainingResult]:
    module = perceptron()
    problem = Regression(module, before=before)
    result = train(module, problem, config, seed=seed, checkpoint=checkpoint, fingerprint=fingerprint, workers=workers)
    return module, result


def _kill(step: int) -> None:
    if step == KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _worker(folder: Path) -> None:
    workers = Workers.connect(torch.device("cpu"))
    module, _ = run(workers=workers, checkpoint=folder / "state")
    torch.save(module.state_dict(), folder / f"rank{workers.rank}.pt")

    # A loss that fails on one worker only stops both.
    module = perceptron()
    problem = Regression(module)
    plain = problem.loss

    def failing(generator: torch.Generator, workers: Workers) -> Tensor:
        loss = plain(generator, workers)
        return loss * float("nan") if workers.rank == 1 and problem.calls == 5 else loss

    problem.loss = failing  # type: ignore[method-assign]
    try:
        train(module, problem, CONFIG, seed=1, workers=workers)
    except TrainingError as error:
        (folder / f"stopped{workers.rank}").write_text(str(error))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    task, place = sys.argv[1], Path(sys.argv[2])
    if task == "killed":
        run(before=_kill, checkpoint=place / "state")
    else:
        _worker(place)
