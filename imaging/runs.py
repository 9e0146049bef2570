"""What the commands that train do: from data to a folder with a model, or a file of features."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from genodiff.core import learning as core
from genodiff.core.knots import KnotSchedule
from genodiff.core.learning import frozen
from genodiff.core.losses import VectorProblem
from genodiff.core.speed import fit_constant_speed_schedule, measure_error_curves
from genodiff.core.training import TrainingConfig, TrainingResult, train
from genodiff.core.trajectory import preconditioned_score_matching
from imaging.datasets import Images, ImageSets, load
from imaging.errors import ImagingError
from imaging.files import Output, check_file, drop_damaged
from imaging.models import ImageModel
from imaging.networks import Precision, UNetConfig, trained_in
from imaging.toad import Toad, ToadModel, edm_times

__all__ = [
    "AT_ONCE",
    "HELD_OUT",
    "LEARNING",
    "REPEATS",
    "TRAINING",
    "Source",
    "check_size",
    "facts",
    "finish",
    "learn",
    "learn_schedule",
    "learn_time",
    "rows_of",
    "train_features",
    "train_model",
]

HELD_OUT = 512
"""Images of the test set by which training is validated."""

REPEATS = 2
"""Noise levels at which each of them is seen."""

AT_ONCE = 256
"""Most of them in one pass."""

_LEVELS, _MEASURED = 65, 256
"""Noise levels at which, and images of the test set on which, the error of a network is measured."""


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

    def facts(self) -> dict[str, Any]:
        """What a model keeps of it; where the files were is no property of a model."""
        return {"name": self.name, "size": self.size}

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

    check_file(output, force=force)
    sets = source.load()
    config = features.TRAINING if steps is None else replace(features.TRAINING, steps=steps)
    checkpoint = output.with_name(f".{output.name}.checkpoint.safetensors")
    drop_damaged(checkpoint)
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


LEARNING = TrainingConfig(
    steps=4000, batch=64, learning_rate=3e-4, warmup=100, weight_decay=0.0, ema=0.999, validate_every=250, patience=16
)


class _Rows:
    """Images as rows of values, made from bytes for one batch at a time."""

    device = torch.device("cpu")

    def __init__(self, images: Images, form: Callable[[Tensor], Tensor]) -> None:
        self.images, self.form = images, form

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.form(self.images.values(index))


def _flat(values: Tensor) -> Tensor:
    return values.flatten(1)


def rows_of(sets: ImageSets, form: Callable[[Tensor], Tensor] = _flat) -> tuple[Tensor, Tensor]:
    """What is learned from, by batches, and what training is validated on.

    Args:
        sets: images.
        form: values (B, C, H, W) to rows.
    """
    return cast(Tensor, _Rows(sets.train, form)), form(sets.test.values(slice(0, HELD_OUT)))


def finish(model: ImageModel, folder: Output, result: TrainingResult, **known: Any) -> None:
    """Puts the weights and the facts into the folder, and the folder into its place."""
    model.denoiser.eval()
    model.save_weights(folder.path)
    folder.finish(facts(model=model.facts(), history=result.history, **known))


def check_size(size: int, network: UNetConfig) -> None:
    """Refuses images, or latents, that the network cannot halve as often as it has to."""
    step = network.patch * 2 ** (len(network.widths) - 1)
    if size % step:
        raise ImagingError(f"a size of {size} is no multiple of {step}: choose another --size, --widths or --patch")


def train_model(
    source: Source,
    output: Path,
    *,
    network: UNetConfig,
    config: TrainingConfig = TRAINING,
    seed: int = 1,
    precision: Precision = "float32",
    force: bool = False,
    progress: bool = False,
) -> TrainingResult:
    """The baseline: one isotropic noise level for all modes, trained as EDM is (Karras et al. 2022)."""
    with Output(output, force=force) as folder:
        sets = source.load()
        check_size(source.size, network)
        model = ToadModel.new(
            Toad(sets.train.shape), network, moments=sets.train.moments(), source=source.facts(), seed=seed
        )
        model.learned = ("network",)
        rows, held_out = rows_of(sets)
        problem = VectorProblem(
            model.denoiser, rows, held_out, grid=edm_times(model.process), batch=config.batch, seed=seed,
            repeats=REPEATS, objective=preconditioned_score_matching, at_once=AT_ONCE,
        )  # fmt: skip
        with frozen(model.process), trained_in(model.denoiser.network, precision):
            result = train(
                model.denoiser, problem, config, seed=seed, checkpoint=folder.checkpoint,
                fingerprint=f"train {model.facts()} {config} {seed} {precision} {sets.digest}", progress=progress,
            )  # fmt: skip
        finish(model, folder, result, command="train", training=asdict(config), seed=seed, precision=precision)
    return result


def learn_schedule(
    start: Path,
    output: Path,
    *,
    subspaces: int = 2,
    constant_speed: bool = False,
    score_correction: bool = True,
    c: float = 1.0,
    gain: float = 10.0,
    config: TrainingConfig = LEARNING,
    path: Path | None = None,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> TrainingResult:
    """Line 1 of TOAD's Algorithm 1: the schedule g_j(t), with the network that goes with it.

    Args:
        start: folder of a trained model.
        output: folder for the new one.
        subspaces: J; the cosine modes are parted at j/J of the highest frequency, j = 1 … J − 1.
        constant_speed: fit the schedule to the error the network leaves, without a gradient, then train the network on
            it; otherwise both are learned together by TLSM.
        score_correction: see :func:`genodiff.core.trajectory.trajectory_score_matching`.
        c: variance of the data in TLSM.
        gain: how many times faster the schedule is learned than the network.
        config: length, rates and batch.
        path: of the data, if not where their Debian package puts them.
        seed: of batches and noise.
        force: replace what is there.
        progress: show a bar.
    """
    with Output(output, force=force) as folder:
        old = ToadModel.load(start)
        if old.clock is not None:
            raise ImagingError(f"{start} has a learned time: give the model it was learned for")
        if old.toad.subspaces not in (1, subspaces):
            raise ImagingError(
                f"{start} has {old.toad.subspaces} subspaces, which cannot become {subspaces}: give the model that "
                f"it was learned from, or --subspaces {old.toad.subspaces}"
            )
        sets = Source(old.source["name"], path, old.source["size"]).load()
        toad = replace(old.toad, cuts=tuple(j / subspaces for j in range(1, subspaces)), c=c, gain=gain)
        knots = old.schedule.log_knots().detach()
        schedule = KnotSchedule(knots.expand(subspaces, -1), horizon=toad.highest, gain=gain)
        model = old.on(toad, schedule)
        rows, held_out = rows_of(sets)
        if constant_speed:
            levels = torch.linspace(math.log(toad.lowest), math.log(toad.highest), _LEVELS, dtype=torch.float64)
            curves = measure_error_curves(
                model.denoiser, held_out[:_MEASURED], schedule.time_of(levels[1:]).detach().clamp(max=toad.highest),
                generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
            fitted = fit_constant_speed_schedule(
                curves, c=c, knots=toad.knots, horizon=toad.highest, lowest=toad.lowest, highest=toad.highest, gain=gain
            )
            model = old.on(toad, fitted)
        model.learned = (*old.learned, "constant speed" if constant_speed else "schedule")
        model.denoiser.requires_grad_(True)
        with frozen(model.process) if constant_speed else nullcontext():
            result = core.learn_schedule(
                model.denoiser, rows, held_out, config, seed=seed, c=c, jointly=True,
                score_correction=score_correction and not constant_speed, repeats=REPEATS, at_once=AT_ONCE,
                checkpoint=folder.checkpoint, progress=progress,
                fingerprint=f"schedule {model.facts()} {config} {seed} {score_correction} {old.digest} {sets.digest}",
            )  # fmt: skip
        finish(
            model, folder, result, command="learn-schedule", start=start, training=asdict(config), seed=seed,
            score_correction=score_correction,
        )  # fmt: skip
    return result


def learn_time(
    start: Path,
    output: Path,
    *,
    window: float = 0.125,
    excess: float = 1.0,
    gain: float = 10.0,
    config: TrainingConfig = LEARNING,
    path: Path | None = None,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> TrainingResult:
    """Line 2 of TOAD's Algorithm 1: the time transform r(t; γ); network and schedule stay as they are.

    Args:
        start: folder of a model with a learned schedule.
        output: folder for the new one.
        window: share of the whole time that a step of the sampler is taken to have.
        excess: weight of the score-matching loss beside the error of discretisation.
        gain: what one unit of the parameter moves; see :class:`genodiff.core.knots.KnotSchedule`.
        config: length, rates and batch.
        path: of the data, if not where their Debian package puts them.
        seed: of batches and noise.
        force: replace what is there.
        progress: show a bar.
    """
    with Output(output, force=force) as folder:
        old = ToadModel.load(start)
        if old.clock is not None:
            raise ImagingError(f"{start} has a learned time already: give the model it was learned for")
        sets = Source(old.source["name"], path, old.source["size"]).load()
        rows, held_out = rows_of(sets)
        knots = old.schedule.log_knots().detach()
        model = old.on(replace(old.toad, gain=gain), KnotSchedule(knots, horizon=old.toad.highest, gain=gain))
        model.learned = (*old.learned, "time")
        model.denoiser, result = core.learn_time(
            model.denoiser, rows, held_out, config, seed=seed, c=old.toad.c, window=window, excess=excess,
            repeats=REPEATS, at_once=AT_ONCE, checkpoint=folder.checkpoint,
            fingerprint=f"time {model.facts()} {config} {seed} {window} {excess} {old.digest} {sets.digest}",
            progress=progress,
        )  # fmt: skip
        finish(
            model, folder, result, command="learn-time", start=start, training=asdict(config), seed=seed,
            window=window, excess=excess,
        )  # fmt: skip
    return result


def learn(
    start: Path,
    output: Path,
    *,
    subspaces: int = 2,
    constant_speed: bool = False,
    config: TrainingConfig = LEARNING,
    time_steps: int = 500,
    path: Path | None = None,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> TrainingResult:
    """TOAD's Algorithm 1 whole: :func:`learn_schedule`, and from what it leaves :func:`learn_time`.

    The model between the two is kept beside ``output``, hidden, until both are done.

    Args:
        start: folder of a trained model.
        output: folder for the new one.
        subspaces: see :func:`learn_schedule`, as is the next.
        constant_speed: how the schedule is found.
        config: length, rates and batch, the length that of the schedule.
        time_steps: length of the learning of the clock.
        path: of the data, if not where their Debian package puts them.
        seed: of batches and noise.
        force: replace what is there.
        progress: show bars.
    """
    if output.exists() and not force:
        raise ImagingError(f"{output} exists: choose another -o, or replace it with --force")
    said = f"{start.resolve()} {subspaces} {constant_speed} {config} {seed}"
    whole = output.absolute()
    between = whole.with_name(f".{whole.name}.schedule-{hashlib.sha256(said.encode()).hexdigest()[:8]}")
    common: dict[str, Any] = {"path": path, "seed": seed, "progress": progress}
    if not between.exists():
        learn_schedule(start, between, subspaces=subspaces, constant_speed=constant_speed, config=config, **common)
    result = learn_time(between, output, config=replace(config, steps=time_steps), force=force, **common)
    shutil.rmtree(between)
    return result
