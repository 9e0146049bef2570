"""The training loop: exact resume, early stopping, failures, and workers that share a batch."""

from __future__ import annotations

import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from genodiff.core.training import TrainingConfig, TrainingError, Workers, step_generator, train
from tests.core.regression import CONFIG, KILL_AT, Regression, perceptron, run

ROOT = Path(__file__).resolve().parents[2]


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def saved_steps(checkpoint: Path) -> int:
    with safe_open(checkpoint, framework="pt") as handle:
        return int(handle.get_tensor("optimiser.step/0.weight"))


def stop_at(step: int) -> object:
    def before(call: int) -> None:
        if call == step:
            raise KeyboardInterrupt

    return before


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def test_training_fits_the_function() -> None:
    module, result = run(config=replace(CONFIG, steps=400, learning_rate=0.02, ema=0.95, validate_every=50))
    untrained = Regression(perceptron()).validation()
    assert result.best_validation < 0.1 * untrained
    assert Regression(module).validation() == result.best_validation
    assert [row["step"] for row in result.history] == list(range(50, 401, 50))


def test_same_seed_same_bits_and_another_seed_others() -> None:
    first, again, other = run()[0], run()[0], run(seed=12)[0]
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_noise_of_a_step_depends_on_seed_and_step_alone() -> None:
    draw = [torch.rand(3, generator=step_generator(*pair)) for pair in ((1, 5), (1, 5), (1, 6), (2, 5), (0, -1))]
    assert torch.equal(draw[0], draw[1])
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(draw[1:], 2))


@pytest.mark.parametrize("stop", [1, 7, 20, 39])
def test_resumed_run_ends_in_the_bits_of_an_uninterrupted_one(stop: int, tmp_path: Path) -> None:
    whole, expected = run()
    checkpoint = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        run(before=stop_at(stop), checkpoint=checkpoint)  # type: ignore[arg-type]
    module, result = run(checkpoint=checkpoint)
    assert torch.equal(weights(module), weights(whole))
    assert result.steps == expected.steps
    assert result.best_validation == expected.best_validation
    assert without_seconds(result.history) == without_seconds(expected.history)


def test_run_interrupted_between_checkpoints_repeats_the_lost_steps_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, expected = run()
    checkpoint, config = tmp_path / "state", replace(CONFIG, checkpoint_seconds=9.0)
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(KeyboardInterrupt):
        run(before=stop_at(KILL_AT), checkpoint=checkpoint, config=config)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert 0 < saved_steps(checkpoint) < KILL_AT
    module, result = run(checkpoint=checkpoint, config=config)
    assert torch.equal(weights(module), weights(whole))
    assert without_seconds(result.history) == without_seconds(expected.history)


def test_run_killed_by_the_system_resumes_to_the_same_bits(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.core.regression", "killed", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert saved_steps(tmp_path / "state") == KILL_AT
    module, result = run(checkpoint=tmp_path / "state")
    assert result.steps == CONFIG.steps
    assert torch.equal(weights(module), weights(run()[0]))


def test_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    module, result = run(checkpoint=tmp_path / "new folder" / "state")

    def never(_: int) -> None:
        raise AssertionError("a step was taken")

    again, repeated = run(before=never, checkpoint=tmp_path / "new folder" / "state")
    assert torch.equal(weights(module), weights(again))
    assert repeated.history == result.history


def test_half_written_checkpoint_does_not_replace_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    checkpoint = tmp_path / "state"
    whole, _ = run()
    with pytest.raises(KeyboardInterrupt):
        run(before=stop_at(10), checkpoint=checkpoint)  # type: ignore[arg-type]

    def half(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=checkpoint)
    monkeypatch.undo()
    assert saved_steps(checkpoint) == 10
    assert torch.equal(weights(run(checkpoint=checkpoint)[0]), weights(whole))


def test_checkpoint_of_another_run_is_ignored(tmp_path: Path) -> None:
    run(seed=99, checkpoint=tmp_path / "state", fingerprint="another")
    module, _ = run(checkpoint=tmp_path / "state")
    assert torch.equal(weights(module), weights(run()[0]))


def test_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "state"
    module = perceptron()
    problem = Regression(module)
    plain = problem.loss

    def failing(generator: torch.Generator, workers: Workers) -> Tensor:
        loss = plain(generator, workers)
        return loss * float("inf") if problem.calls == 13 else loss

    problem.loss = failing  # type: ignore[method-assign]
    with pytest.raises(
        TrainingError,
        match=r"loss became inf at step 13: try another seed or a lower learning rate; the last good state",
    ):
        train(module, problem, CONFIG, seed=11, checkpoint=checkpoint, fingerprint="regression")
    assert saved_steps(checkpoint) == 12
    assert torch.equal(weights(run(checkpoint=checkpoint)[0]), weights(run()[0]))


def test_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path: Path) -> None:
    module = perceptron()
    problem = Regression(module)
    plain = problem.loss

    def failing(generator: torch.Generator, workers: Workers) -> Tensor:
        loss = plain(generator, workers)
        if problem.calls < 4:
            return loss
        # √0 has value 0 and an infinite slope.
        return loss + torch.sqrt(0 * torch.stack([p.square().sum() for p in module.parameters()]).sum())

    problem.loss = failing  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="gradient became nan at step 4"):
        train(module, problem, CONFIG, seed=1, checkpoint=tmp_path / "state")
    assert torch.isfinite(weights(module)).all()
    assert saved_steps(tmp_path / "state") == 3


class Drift(nn.Module):
    """One number, pushed upwards by its loss; validation prefers a place it passes."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()))

    def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
        return -self.place

    def validation(self) -> float:
        return (self.place.item() - 0.05) ** 2


def test_early_stopping_restores_the_best_weights() -> None:
    module = Drift()
    config = TrainingConfig(
        steps=1000, batch=1, learning_rate=0.01, warmup=1, weight_decay=0.0, validate_every=2, patience=3
    )
    result = train(module, module, config, seed=1)
    losses = [row["validation_loss"] for row in result.history]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert result.stopped_early
    assert len(losses) == best + 1 + config.patience
    assert result.steps == 2 * len(losses) < config.steps
    assert module.validation() == losses[best] == result.best_validation


def test_stopped_run_stays_stopped_when_resumed(tmp_path: Path) -> None:
    config = TrainingConfig(
        steps=1000, batch=1, learning_rate=0.01, warmup=1, weight_decay=0.0, validate_every=2, patience=3
    )
    first, again = Drift(), Drift()
    result = train(first, first, config, seed=1, checkpoint=tmp_path / "state")
    repeated = train(again, again, config, seed=1, checkpoint=tmp_path / "state")
    assert repeated.stopped_early
    assert repeated.steps == result.steps
    assert again.place.item() == first.place.item()


def test_validation_sees_averaged_weights_in_evaluation_mode_and_training_goes_on() -> None:
    modes = []

    class Watched(Drift):
        def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
            modes.append(("train", self.training))
            return super().loss(generator, workers)

        def validation(self) -> float:
            modes.append(("validate", self.training))
            return super().validation()

    module = Watched().eval()
    train(module, module, TrainingConfig(steps=4, batch=1, validate_every=2), seed=1)
    assert modes == [("train", True), ("train", True), ("validate", False)] * 2


def test_no_steps_leave_the_module_as_it_is() -> None:
    module = perceptron()
    result = train(module, Regression(module), replace(CONFIG, steps=0), seed=1)
    assert torch.equal(weights(module), weights(perceptron()))
    assert result.steps == 0
    assert math.isinf(result.best_validation)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    from genodiff.core.training import _learning_rate

    stage = TrainingConfig(steps=50, warmup=0, learning_rate=0.1)
    whole = [_learning_rate(replace(stage, steps=100), k) for k in range(100)]
    parts = [_learning_rate(stage, k, (first, 100)) for first in (0, 50) for k in range(50)]
    assert parts == pytest.approx(whole)

    config = TrainingConfig(steps=100, warmup=10, learning_rate=1.0)
    rates = [_learning_rate(config, k) for k in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0, abs=0.03)
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] < 1e-3


@pytest.mark.parametrize("change", [{"steps": -1}, {"batch": 0}, {"validate_every": 0}, {"patience": 0}])
def test_configurations_that_make_no_sense_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        TrainingConfig(**change)


def test_workers_share_a_batch_without_gap_or_overlap() -> None:
    rows = [k for rank in range(4) for k in range(12)[Workers(rank, 4).part(12)]]
    assert rows == list(range(12))
    assert Workers().part(5) == slice(0, 5)
    assert [Workers(rank, 2).leads for rank in (0, 1)] == [True, False]
    with pytest.raises(ValueError, match="cannot be shared evenly by 4"):
        Workers(0, 4).part(10)


def test_two_workers_train_the_model_of_one_and_stop_together(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.core.regression", "worker", str(tmp_path)],
            cwd=ROOT, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    alone, _ = run()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6)
    # Either can go on from the checkpoint of the first worker.
    assert saved_steps(tmp_path / "state") == CONFIG.steps
    assert all("loss became nan at step 5" in (tmp_path / f"stopped{rank}").read_text() for rank in range(2))
