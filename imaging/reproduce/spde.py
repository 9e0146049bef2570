"""Anisotropic fields beside isotropic ones, flow matching and blurring: in pixels, in latents and from strokes.

The full text of the paper is not public; what is compared are the claims of its abstract. Every row of a table is a
model of its own for every seed: equal network, steps and batches, and equal noise-to-signal ratios in training and in
sampling. Only EDM brings its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from genodiff.core.training import TrainingConfig
from imaging import autoencoder, denoising, runs
from imaging.autoencoder import digest_of, load_autoencoder, reconstructed, train_autoencoder
from imaging.datasets import Images
from imaging.errors import ImagingError
from imaging.files import writing
from imaging.models import ImageModel
from imaging.networks import Precision, UNetConfig
from imaging.reproduce import geometry, spde_page
from imaging.reproduce.judge import Judge
from imaging.reproduce.stages import Stages
from imaging.runs import Source
from imaging.spde import EDGE, EDGED, SMOOTHING, FieldModel, Process, SamplerName
from imaging.strokes import faithfulness, revise, strokes

__all__ = ["FULL", "QUICK", "ROWS", "Settings", "Task", "reproduce", "settings_of"]

ROWS: dict[str, Process | None] = {
    "EDM": None,
    "VP": "vp-sde",
    "flow matching": "flow",
    "blurring": "blurring",
    "edge-preserving noise": "edge-noise",
    "isotropic SPDE": "spde-isotropic",
    "SPDE, edges in the drift": "spde-drift",
    "SPDE, edges in the noise": "spde-noise",
    "SPDE": "spde",
}
"""The process of each row; EDM, in pixels alone, is a model of another kind."""

_MAIN = ("EDM", "VP", "flow matching", "blurring", "isotropic SPDE", "SPDE")
"""Rows of sets on which the parts of the field are not told apart."""

STROKED = ("VP", "flow matching", "SPDE")
"""Rows that make images from strokes."""

_IN_LATENTS = (0.1, 0.5)
"""ν and κ that were best for latents of 8 × 8 (docs/results/spde.md)."""

_SAMPLERS: tuple[SamplerName, ...] = ("bridge", "flow")


@dataclass(frozen=True)
class Task:
    """What is learned of one set of images.

    Attributes:
        source: of the images.
        network: size of every U-Net.
        training: of every model.
        samples: images of a cell.
        encoding: training of an autoencoder of whose latents the models are; ``None`` for pixels.
        precision: of the networks in training.
        smoothing: ν of every process that has one; see :class:`imaging.spde.Field`.
        edge: κ of every process that has one.
        rows: of the tables.
    """

    source: Source
    network: UNetConfig
    training: TrainingConfig
    samples: int
    encoding: TrainingConfig | None = None
    precision: Precision = "float32"
    smoothing: float = SMOOTHING
    edge: float = EDGE
    rows: tuple[str, ...] = tuple(ROWS)

    @property
    def name(self) -> str:
        """Of the set and its space."""
        return self.source.name if self.encoding is None else f"{self.source.name} latents"

    def coefficients(self, row: str) -> dict[str, float]:
        """Those of ν and κ on which the process of a row depends."""
        process = ROWS[row] or ""
        used = {"smoothing": process.startswith("spde"), "edge": process in EDGED}
        return {name: getattr(self, name) for name, needed in used.items() if needed}


@dataclass(frozen=True)
class Settings:
    """Size of a run.

    Attributes:
        tasks: sets of images and spaces.
        rows: of the tables, of those that a set has.
        calls: of the network, for an image.
        levels: noise-to-signal ratios up to which strokes are carried.
        shown: images whose forward processes are compared.
        seeds: models of every row.
        seed: of the first of them.
        features: by which images are compared; those shipped for a set if ``None``.
    """

    tasks: tuple[Task, ...]
    rows: tuple[str, ...] = tuple(ROWS)
    calls: int = 50
    levels: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    shown: int = 200
    seeds: int = 3
    seed: int = 1
    features: str | None = None


def _tasks(
    steps: int,
    samples: int,
    widths: tuple[int, ...],
    encoding: TrainingConfig,
    *,
    precision: Precision = "float32",
    **short: Any,
) -> tuple[Task, ...]:
    pixels = UNetConfig(widths=widths, blocks=1)
    latents = UNetConfig(widths=widths[:2] if len(widths) > 2 else widths, blocks=1, patch=1)
    training = replace(denoising.DENOISING, steps=steps, **short)
    emoji, garments = Source("emoji"), Source("fashion-mnist")
    return (
        Task(emoji, pixels, training, samples, precision=precision),
        Task(garments, pixels, training, samples, precision=precision, rows=_MAIN),
        Task(emoji, latents, training, samples, encoding, precision, *_IN_LATENTS, rows=_MAIN),
    )


FULL = Settings(_tasks(800, 500, (16, 32, 64), replace(autoencoder.TRAINING, steps=1000), precision="bfloat16"))
"""Hours of one core."""

QUICK = Settings(
    _tasks(
        60, 64, (16, 32), replace(autoencoder.TRAINING, steps=80, warmup=10, ema=0.95, validate_every=40),
        warmup=10, ema=0.95, validate_every=30,
    ),
    calls=10, levels=(0.5, 2.0), shown=32, seeds=1,
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
    known = {task.source.name for task in settings.tasks}
    for name in names:
        if name not in known:
            raise ImagingError(f"--data {name} is not on this page: choose among {', '.join(sorted(known))}")
    tasks = [task for task in settings.tasks if not names or task.source.name in names]
    if samples is not None:
        tasks = [replace(task, samples=samples) for task in tasks]
    return replace(settings, tasks=tuple(tasks), seed=seed, seeds=settings.seeds if seeds is None else seeds)


def _train(task: Task, row: str, seed: int, encoder: Path | None, progress: bool, path: Path) -> None:
    common: dict[str, Any] = {
        "network": task.network, "config": task.training, "seed": seed, "progress": progress,
        "precision": task.precision,
    }  # fmt: skip
    process = ROWS[row]
    if process is None:
        runs.train_model(task.source, path, **common)
    else:
        common |= task.coefficients(row)
        denoising.train_field(task.source, path, process=process, autoencoder=encoder, **common)


def _judged(model: ImageModel, judge: Judge, task: Task, *, calls: int, seed: int) -> list[dict[str, Any]]:
    """Measures of what is drawn by every sampler in as many calls, and what the process costs beside the network."""
    found: list[dict[str, Any]] = []
    if not isinstance(model, FieldModel):
        drawn = judge.cell(model, task.samples, steps=calls // 2, seed=seed)
        return [{"sampler": "its own", **one} for one in drawn]
    for sampler in _SAMPLERS:
        model.sampler = sampler
        drawn = judge.cell(model, task.samples, steps=calls // model.calls_a_step, seed=seed)
        found += [{"sampler": sampler, **one} for one in drawn]
    return [*found, {"sampler": "", "metric": "noise beside network", "value": _cost(model), "floor": None}]


def _cost(model: FieldModel, *, batch: int = 64, repeats: int = 5) -> float:
    """Processor time of noising a batch over that of the network on it, forwards, as in training."""
    process = model.process
    x = process.start(batch, generator=torch.Generator().manual_seed(1))
    t = model.times(batch + 1)[:batch].to(x)
    spent = [0.0, 0.0]
    for _ in range(repeats + 1):
        for k, act in enumerate((lambda: process.noised(x, t), lambda: model.denoiser(x, t))):
            began = time.process_time()
            act()
            spent[k] = spent[k] + time.process_time() - began if _ else 0.0  # the first round warms up
    return spent[0] / spent[1]


def _stroked(
    model: FieldModel, judge: Judge, task: Task, *, level: float, calls: int, seed: int
) -> list[dict[str, Any]]:
    """Realism and faithfulness of images made from strokes of test images."""
    test = judge.sets.test
    given = strokes(replace(test, pixels=test.pixels[: task.samples], labels=None))
    made = Images("made", revise(model, given, level=level, steps=calls // model.calls_a_step, seed=seed).pixels)
    distance = {"metric": "distance to the strokes", "value": faithfulness(made, given), "floor": None}
    return [*judge.measures(made), distance]


def reproduce(output: Path, settings: Settings, *, command: str, progress: bool = False) -> Path:
    """Trains and judges what is not yet, and writes ``spde.md`` with its tables and figures.

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
    judges = {task.source.name: Judge(task.source, features=settings.features, seed=settings.seed)
              for task in settings.tasks}  # fmt: skip
    for judge in judges.values():  # what is missing is said before hours are spent
        _ = judge.data, judge.features
    records: list[dict[str, Any]] = []
    found: dict[str, geometry.Survival] = {}
    for name, judge in judges.items():
        found[name] = geometry.survival(judge.sets.test.values(slice(0, settings.shown)), seed=settings.seed)
        geometry.draw(found[name], output, name)
    for task in settings.tasks:
        judge, models = judges[task.source.name], {}
        encoder = None if task.encoding is None else _encoder(task, judge, stages, records, settings.seed, progress)
        latents = None if encoder is None else digest_of(encoder)
        rows = [row for row in settings.rows if row in task.rows and (encoder is None or ROWS[row] is not None)]
        cells = [(row, settings.seed + k) for k in range(settings.seeds) for row in rows]
        for row, seed in tqdm(cells, desc=task.name, disable=not progress, dynamic_ncols=True):
            path, seconds = stages.folder_of(
                f"{task.name}-{row}".replace(" ", "-"), partial(_train, task, row, seed, encoder, progress),
                data=judge.data, source=task.source.facts(), network=asdict(task.network),
                config=asdict(task.training), seed=seed, row=ROWS[row] or "edm", torch=torch.__version__,
                encoder=latents, precision=task.precision, **task.coefficients(row),
            )  # fmt: skip
            model = ImageModel.load(path)
            if seed == settings.seed:
                models[row] = model
            key: dict[str, Any] = {
                "model": path.name, "calls": settings.calls, "samples": task.samples,
                "features": judge.features.digest, "judged_with": settings.seed,
            }  # fmt: skip
            measure: Callable[[], Any] = partial(_judged, model, judge, task, calls=settings.calls, seed=seed)
            about = {"data": task.name, "row": row, "seed": seed, "training_seconds": seconds}
            drawn = stages.value_of(f"{task.name}-cell".replace(" ", "-"), measure, **key)
            records += [{**about, "level": None, **one} for one in drawn]
            if row not in STROKED or encoder is not None:
                continue
            assert isinstance(model, FieldModel)
            for level in settings.levels:
                made = stages.value_of(
                    f"{task.name}-strokes",
                    partial(_stroked, model, judge, task, level=level, calls=settings.calls, seed=seed),
                    level=level, **key,
                )  # fmt: skip
                records += [{**about, "sampler": "strokes", "level": level, **one} for one in made]
        spde_page.draw_samples(output, task.name, models, calls=settings.calls, seed=settings.seed)
        if encoder is None:
            spde_page.draw_strokes(output, task.name, models, judge.sets.test, settings)
    frame = pd.DataFrame(records)
    with writing(output / "spde.csv", force=True) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    return spde_page.write_page(
        output, frame, found, settings=settings, command=command, spent=time.monotonic() - began
    )


def _encoder(
    task: Task, judge: Judge, stages: Stages, records: list[dict[str, Any]], seed: int, progress: bool
) -> Path:
    """The autoencoder of a set; what is left of test images on the way through it goes to the records as a floor."""
    assert task.encoding is not None
    encoding = task.encoding

    def make(folder: Path) -> None:
        begun = folder.with_name(f".{folder.name}")
        begun.mkdir(parents=True, exist_ok=True)
        train_autoencoder(
            task.source, begun / "autoencoder", training=encoding, seed=seed, force=True, progress=progress
        )
        begun.rename(folder)

    path, _ = stages.folder_of(
        f"{task.source.name}-autoencoder", make, data=judge.data, config=asdict(encoding), seed=seed,
        torch=torch.__version__,
    )  # fmt: skip
    held = path / "autoencoder"
    measure = partial(_reconstructed, held, judge)
    left = stages.value_of(
        f"{task.source.name}-reconstructed", measure, encoder=digest_of(held),
        features=judge.features.digest, judged_with=judge.seed,
    )  # fmt: skip
    about = {"data": task.name, "row": "test images, encoded and decoded", "seed": seed, "sampler": "bridge"}
    records += [{**about, "level": None, "training_seconds": None, **one} for one in left]
    return held


def _reconstructed(path: Path, judge: Judge) -> list[dict[str, Any]]:
    return judge.measures(reconstructed(load_autoencoder(path), judge.sets.test))
