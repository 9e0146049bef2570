"""Tables 1 and 2 and figures 2, 5 and 7 of the FP-Diffusion paper in small.

Every row of the tables is a model of its own for every seed: equal network, steps, batches and objective, another
forward process or another way to learn it. The plane of §4.1 is in :mod:`imaging.reproduce.plane`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from genodiff.core.training import TrainingConfig
from imaging import joint
from imaging.errors import ImagingError
from imaging.files import writing
from imaging.fp import FlexibleModel, Process
from imaging.likelihood import bits_per_dimension
from imaging.networks import Precision, UNetConfig
from imaging.reproduce import fp_page, plane
from imaging.reproduce.judge import Judge
from imaging.reproduce.stages import Stages
from imaging.runs import Source

__all__ = ["FULL", "QUICK", "ROWS", "Settings", "Task", "reproduce", "settings_of"]

ROWS: dict[str, tuple[Process, float]] = {
    "VP": ("vp", 1.0),
    "FP-Noise (joint)": ("fp-noise", 1.0),
    "FP-Noise (mix)": ("fp-noise", 0.5),
    "FP-Drift (joint)": ("fp-drift", 1.0),
    "FP-Drift (mix)": ("fp-drift", 0.5),
    "FP (joint)": ("fp", 1.0),
    "FP (mix)": ("fp", 0.5),
    "CLD": ("cld", 1.0),
}
"""The process of each row, and the share of its steps in which the process is learned."""


@dataclass(frozen=True)
class Task:
    """What is learned of one set of images.

    Attributes:
        source: of the images.
        network: size of every U-Net.
        training: of every model, both stages together.
        images: of the test set whose likelihood is taken.
        samples: drawn for the Fréchet distance; 0 leaves it out.
        precision: of the networks in training.
    """

    source: Source
    network: UNetConfig
    training: TrainingConfig
    images: int
    samples: int
    precision: Precision = "float32"


@dataclass(frozen=True)
class Settings:
    """Size of a run.

    Attributes:
        tasks: the sets of images.
        plane: the experiment in three dimensions.
        rows: of the tables.
        steps: of the sampler (two calls of the network each).
        seeds: models of every row.
        seed: of the first of them.
        features: by which images are compared; those shipped for a set if ``None``.
    """

    tasks: tuple[Task, ...]
    plane: plane.Settings
    rows: tuple[str, ...] = tuple(ROWS)
    steps: int = 18
    seeds: int = 3
    seed: int = 1
    features: str | None = None


_DIGITS, _GARMENTS = Source("mnist", size=28), Source("fashion-mnist")

FULL = Settings(
    tasks=(
        Task(
            _DIGITS, UNetConfig(widths=(24, 48), blocks=1), replace(joint.EVIDENCE, steps=1200), images=100,
            samples=0, precision="bfloat16",
        ),
        Task(
            _GARMENTS, UNetConfig(widths=(16, 32, 64), blocks=1), replace(joint.EVIDENCE, steps=1200), images=100,
            samples=1000, precision="bfloat16",
        ),
    ),
    plane=plane.FULL,
)  # fmt: skip
"""Hours of one core."""

_BRIEFLY = replace(joint.EVIDENCE, steps=80, warmup=20, ema=0.95, validate_every=40)

QUICK = Settings(
    tasks=(
        Task(
            _DIGITS, UNetConfig(widths=(16, 32), blocks=1),
            _BRIEFLY, images=16, samples=0,
        ),
        Task(
            _GARMENTS, UNetConfig(widths=(16, 32), blocks=1),
            _BRIEFLY, images=16, samples=100,
        ),
    ),
    plane=plane.QUICK,
    seeds=1,
)  # fmt: skip
"""Minutes: every part at work, nothing well learned."""


def settings_of(
    extent: str, names: Sequence[str] = (), *, seed: int = 1, samples: int | None = None, seeds: int | None = None
) -> Settings:
    """:data:`QUICK` or :data:`FULL` for the sets of given names, with other numbers of samples or seeds if said.

    Raises:
        ImagingError: a set that is none of the page's.
    """
    settings = QUICK if extent == "quick" else FULL
    tasks = {task.source.name: task for task in settings.tasks}
    unknown = [name for name in names if name not in tasks]
    if unknown:
        raise ImagingError(f"--data {unknown[0]} is not on this page: choose among {', '.join(tasks)}")
    chosen = [tasks[name] for name in dict.fromkeys(names)] or list(tasks.values())
    if samples is not None:
        chosen = [replace(task, samples=samples if task.samples else 0) for task in chosen]
    return replace(settings, tasks=tuple(chosen), seed=seed, seeds=settings.seeds if seeds is None else seeds)


def _judged(model: FlexibleModel, judge: Judge, task: Task, *, steps: int, seed: int) -> list[dict[str, Any]]:
    """Bits per dimension, how long they took, and the measures of samples."""
    few = judge.sets.test.select(np.arange(min(task.images, len(judge.sets.test))))
    began = time.process_time()
    bits = bits_per_dimension(model, few, seed=seed)
    spent = time.process_time() - began
    (row,) = bits.table().to_dict("records")
    found: list[dict[str, Any]] = [
        {"metric": "bits per dimension", "value": row["value"], "floor": None, "n": row["n"], "nfe": None},
        {"metric": "seconds a thousand", "value": 1000 * spent / len(few), "floor": None, "n": row["n"], "nfe": None},
    ]  # fmt: skip
    return found + (judge.cell(model, task.samples, steps=steps, seed=seed) if task.samples else [])


def reproduce(output: Path, settings: Settings, *, command: str, progress: bool = False) -> Path:
    """Trains and judges what is not yet, and writes ``fp.md`` with its tables and figures.

    An interrupted run goes on: every stage is kept in ``output/.stages`` under a hash of what it depends on.

    Args:
        output: folder of the page.
        settings: size of the run.
        command: what makes the page again, for the page.
        progress: show bars.

    Returns:
        path of the page.

    Raises:
        ImagingError: data are absent.
    """
    from tqdm import tqdm

    began = time.monotonic()
    stages = Stages(output / ".stages")
    judges = [Judge(task.source, features=settings.features, seed=settings.seed) for task in settings.tasks]
    for task, judge in zip(settings.tasks, judges, strict=True):  # what is missing is said before hours are spent
        _ = judge.data, judge.features if task.samples else None
    flat = plane.measure(settings.plane, stages, seed=settings.seed, seeds=settings.seeds, progress=progress)
    records: list[dict[str, Any]] = []
    shown: dict[str, dict[str, FlexibleModel]] = {}
    for task, judge in zip(settings.tasks, judges, strict=True):
        name = task.source.name
        cells = [(row, settings.seed + k) for k in range(settings.seeds) for row in settings.rows]
        for row, seed in tqdm(cells, desc=name, disable=not progress, dynamic_ncols=True):
            path, seconds = stages.folder_of(
                f"{name}-{ROWS[row][0]}", partial(_train, task, row, seed, progress), data=judge.data,
                source=task.source.facts(), network=asdict(task.network), config=asdict(task.training),
                seed=seed, row=ROWS[row], precision=task.precision, torch=torch.__version__,
            )  # fmt: skip
            model = FlexibleModel.load(path)
            measure: Callable[[], Any] = partial(_judged, model, judge, task, steps=settings.steps, seed=seed)
            found = stages.value_of(
                f"{name}-cell", measure, model=path.name, steps=settings.steps, images=task.images,
                samples=task.samples, features=judge.features.digest if task.samples else None,
                judged_with=settings.seed,
            )  # fmt: skip
            records += [{"data": name, "row": row, "seed": seed, "training_seconds": seconds, **one} for one in found]
            if seed == settings.seed:
                shown.setdefault(name, {})[row] = model
    frame = pd.DataFrame(records)
    with writing(output / "fp.csv", force=True) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    with writing(output / "fp-plane.csv", force=True) as temporary:
        flat.table.to_csv(temporary, index=False, float_format="%.6g")
    plane.draw(flat, output)
    for judge in judges:
        name = judge.source.name
        fp_page.draw_figures(output, name, shown[name], judge.sets, steps=settings.steps, seed=settings.seed)
    return fp_page.write_page(
        output, frame, flat.table, settings=settings, command=command, spent=time.monotonic() - began
    )


def _train(task: Task, row: str, seed: int, progress: bool, path: Path) -> None:
    process, jointly = ROWS[row]
    joint.train_flexible(
        task.source, path, process=process, jointly=jointly, network=task.network, config=task.training, seed=seed,
        precision=task.precision, progress=progress,
    )  # fmt: skip
