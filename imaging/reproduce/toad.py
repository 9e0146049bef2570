"""Table 1 of the TOAD paper in small: five rows of models, seven numbers of network calls, two sets of images.

Three models are trained for each set: EDM, and from it a schedule with its network and its clock for one band of
frequency (``iso``) and for two (``ani``). A row is one of them with or without its clock. Every cell is drawn from the
file that is published, with weights in half precision, so that the shipped files give the same table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from genodiff.core.training import TrainingConfig
from imaging import runs
from imaging.errors import ImagingError
from imaging.files import drop_damaged, writing
from imaging.networks import UNetConfig
from imaging.reproduce import page
from imaging.reproduce.judge import Judge
from imaging.reproduce.stages import Stages, digest
from imaging.runs import Source
from imaging.toad import ToadModel

__all__ = ["CONTROLS", "FULL", "MODELS", "QUICK", "ROWS", "WEIGHTS", "Settings", "reproduce", "row_of", "settings_of"]

WEIGHTS = Path(__file__).parents[1] / "weights" / "toad"
"""Where trained models are shipped."""

MODELS = ("edm", "iso", "ani")

ROWS = {
    "EDM": ("edm", False),
    "g_iso": ("iso", False),
    "g_iso_w": ("iso", True),
    "(g1, g2)_ani": ("ani", False),
    "(g1, g2)_ani_w": ("ani", True),
}
"""The model of each row of the paper's table, and whether it is sampled by its learned clock."""

CONTROLS = {
    "EDM's network, steps of g_iso_w": ("EDM", "g_iso_w"),
    "network of g_iso_w, EDM's steps": ("g_iso_w", "EDM"),
}
"""Rows that have the network of one row of the table and the schedule, clock and steps of another."""


@dataclass(frozen=True)
class Settings:
    """Size of a run.

    Attributes:
        sources: sets of images.
        network: size of every U-Net.
        training: of EDM.
        fitting: of the network on a schedule of constant speed, without a gradient of the schedule.
        refining: of schedule and network together by TLSM, from there.
        timing: of the clock.
        steps: K of the sampler, a column each.
        samples: images of a cell.
        seeds: of sampling.
        seed: the first of them, and that of training.
        features: by which sets are compared; those shipped for a set if ``None``.
    """

    sources: tuple[Source, ...]
    network: UNetConfig
    training: TrainingConfig
    fitting: TrainingConfig
    refining: TrainingConfig
    timing: TrainingConfig
    steps: tuple[int, ...] = (5, 6, 7, 8, 10, 18, 40)
    samples: int = 10_000
    seeds: int = 3
    seed: int = 1
    features: str | None = None


_CLOCK = 5e-3
"""Learning rate of a clock: it has few parameters, few steps, and begins at r(t) = t, far from where it ends."""


def _learning(steps: int, **other: Any) -> TrainingConfig:
    return replace(runs.LEARNING, steps=steps, warmup=max(1, steps // 10), validate_every=max(1, steps // 2), **other)


FULL = Settings(
    sources=(Source("fashion-mnist"), Source("emoji")),
    network=UNetConfig(widths=(20, 40, 72)),
    training=replace(runs.TRAINING, patience=40),
    fitting=_learning(1400), refining=_learning(300), timing=_learning(100, learning_rate=_CLOCK),
)  # fmt: skip
"""Hours to train, a day or two to draw; the models of both sets fit into 10 MB.

A step of refining or of timing takes as long as three of EDM, so that what is learned after EDM costs an eighth of it.
"""

QUICK = Settings(
    sources=(Source("fashion-mnist"),),
    network=UNetConfig(widths=(16, 32, 64), blocks=1),
    training=replace(runs.TRAINING, steps=500, warmup=50, ema=0.99, validate_every=250),
    fitting=_learning(32, ema=0.95), refining=_learning(10, ema=0.9),
    timing=_learning(10, ema=0.9, learning_rate=_CLOCK),
    samples=500, seeds=1,
)  # fmt: skip
"""Minutes: enough to see every part at work, too little to learn what garments look like."""


def settings_of(
    extent: str, names: Sequence[str] = (), *, seed: int = 1, samples: int | None = None, seeds: int | None = None
) -> Settings:
    """:data:`QUICK` or :data:`FULL` for the sets of given names, with other numbers of samples or seeds if said."""
    default = QUICK if extent == "quick" else FULL
    sources = tuple(map(Source, dict.fromkeys(names))) or default.sources
    return replace(
        default, sources=sources, seed=seed, samples=default.samples if samples is None else samples,
        seeds=default.seeds if seeds is None else seeds,
    )  # fmt: skip


def _trained(judge: Judge, settings: Settings, stages: Stages, progress: bool) -> dict[str, tuple[Path, float]]:
    """Folders of the models of a set, and the processor seconds of learning each from its start."""
    source, seed = judge.source, settings.seed
    common: dict[str, Any] = {"seed": seed, "progress": progress}

    def edm(path: Path) -> None:
        runs.train_model(source, path, network=settings.network, config=settings.training, **common)

    found = {"edm": stages.folder_of(
        f"{source.name}-edm", edm, data=judge.data, source=source.facts(), network=asdict(settings.network),
        config=asdict(settings.training), seed=seed, torch=torch.__version__,
    )}  # fmt: skip
    for subspaces, name in enumerate(MODELS[1:], start=1):
        path, seconds = found["edm"][0], 0.0
        learning: Sequence[tuple[str, TrainingConfig, Callable[..., object], dict[str, Any]]] = (
            ("fitted", settings.fitting, runs.learn_schedule, {"subspaces": subspaces, "constant_speed": True}),
            ("refined", settings.refining, runs.learn_schedule, {"subspaces": subspaces}),
            ("timed", settings.timing, runs.learn_time, {}),
        )
        for stage, config, learn, options in learning:

            def make(
                output: Path,
                start: Path = path,
                config: TrainingConfig = config,
                learn: Callable[..., object] = learn,
                options: dict[str, Any] = options,
            ) -> None:
                learn(start, output, config=config, path=source.path, **options, **common)

            path, spent = stages.folder_of(
                f"{source.name}-{name}-{stage}", make, start=path.name, config=asdict(config), seed=seed, **options
            )
            seconds += spent
        found[name] = (path, seconds)
    return found


def _publish(found: dict[str, tuple[Path, float]], source: Source, folder: Path, recipe: dict[str, Any]) -> None:
    """The models as small files, each with how it was learned and the processor seconds that this took."""
    for name, (path, seconds) in found.items():
        packed = folder / f"{source.name}-{name}.safetensors"
        said = {"stage": path.name, "seconds": seconds, "recipe": recipe}
        drop_damaged(packed)
        if not packed.exists() or ToadModel.unpack(packed)[1] != said:
            ToadModel.load(path).pack(packed, **said)


def _published(source: Source, folder: Path, name: str) -> Path:
    path = folder / f"{source.name}-{name}.safetensors"
    if not path.is_file():
        raise ImagingError(f"{path} is not there: no such model is shipped; run without --from-weights to train it")
    return path


def row_of(model: ToadModel, timed: bool) -> ToadModel:
    """A model as a row of the table: sampled in equal steps of its clock, or of its schedule's own time."""
    return model if timed or model.clock is None else model.on(model.toad, model.schedule)


def reproduce(
    output: Path,
    settings: Settings,
    *,
    command: str,
    weights: Path | None = None,
    progress: bool = False,
) -> Path:
    """Trains what is not trained, draws what is not drawn, and writes ``toad.md`` with its tables and figures.

    An interrupted run goes on: every stage is kept in ``output/.stages`` under a hash of what it depends on.

    Args:
        output: folder of the page; the models are published to ``output/weights``.
        settings: size of the run.
        command: what makes the page again, for the page.
        weights: folder of published models to use instead of training.
        progress: show bars.

    Returns:
        path of the page.

    Raises:
        ImagingError: data or published models are absent.
    """
    from tqdm import tqdm

    began = time.monotonic()
    stages = Stages(output / ".stages")
    judges = [Judge(source, features=settings.features, seed=settings.seed) for source in settings.sources]
    folder = weights or output / "weights"
    for judge in judges:  # what is missing is said before hours are spent
        _ = judge.features, judge.data
        if weights is not None:
            for name in MODELS:
                _published(judge.source, weights, name)
    records: list[dict[str, Any]] = []
    seconds: dict[tuple[str, str], float] = {}
    models: dict[tuple[str, str], ToadModel] = {}
    for judge in judges:
        source = judge.source
        if weights is None:
            _publish(_trained(judge, settings, stages, progress), source, folder, _recipe(settings))
        held = {name: ToadModel.unpack(_published(source, folder, name)) for name in MODELS}
        seconds |= {(source.name, name): float(said["seconds"]) for name, (_, said) in held.items()}
        rows = {row: row_of(held[name][0], timed) for row, (name, timed) in ROWS.items()}
        models |= {(source.name, row): model for row, model in rows.items()}
        contents = {name: _contents(_published(source, folder, name)) for name in MODELS}
        drawn = {row: (rows[row], contents[name]) for row, (name, _) in ROWS.items()}
        for row, (lender, by) in CONTROLS.items():
            drawn[row] = rows[by].lend(rows[lender]), f"{drawn[lender][1]} by {drawn[by][1]}"
        cells = [(row, k, seed) for row in ROWS for k in settings.steps for seed in range(settings.seeds)]
        cells += [(row, k, 0) for row in CONTROLS for k in (settings.steps[0], settings.steps[-1])]
        for row, k, number in tqdm(cells, desc=f"cells of {source.name}", disable=not progress, dynamic_ncols=True):
            seed, (model, content) = settings.seed + number, drawn[row]
            measured = stages.value_of(
                f"{source.name}-cell", partial(judge.cell, model, settings.samples, steps=k, seed=seed),
                model=content, row=row, steps=k, seed=seed,
                samples=settings.samples, data=judge.data, features=judge.features.digest, torch=torch.__version__,
                judged_with=settings.seed,
            )  # fmt: skip
            records += [{"data": source.name, "row": row, "steps": k, "seed": seed, **one} for one in measured]
    frame = pd.DataFrame(records)
    with writing(output / "toad.csv", force=True) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    lent = frame["row"].isin(list(CONTROLS))
    frame, controls = frame[~lent], frame[lent]
    for source in settings.sources:
        named = {row: models[source.name, row] for row in ROWS}
        part = frame[frame["data"] == source.name]
        page.draw_figures(output, source.name, named, part, steps=settings.steps[0], seed=settings.seed)
    packed = [_published(source, folder, name) for source in settings.sources for name in MODELS]
    return page.write_page(
        output, frame, controls, seconds=seconds, recipe=ToadModel.unpack(packed[0])[1]["recipe"],
        samples=settings.samples,
        seeds=range(settings.seed, settings.seed + settings.seeds), command=command, spent=time.monotonic() - began,
        size=sum(path.stat().st_size for path in packed), trained=weights is None,
    )  # fmt: skip


def _contents(path: Path) -> str:
    """Digest of the weights and of what the model is, without the seconds that it took to learn."""
    from safetensors.torch import load_file

    model, _ = ToadModel.unpack(path)
    tensors = load_file(path)
    arrays = (tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors))
    return digest(json.dumps(model.facts(), sort_keys=True).encode(), *arrays)


def _recipe(settings: Settings) -> dict[str, Any]:
    """How the models are learned, for the page."""
    n = settings.network
    stages = {"EDM": settings.training, "fitted": settings.fitting, "refined": settings.refining}
    return {
        "network": f"of widths {', '.join(map(str, n.widths))}, {n.blocks} blocks each, patches of {n.patch}",
        "seed": settings.seed,
        "stages": {k: {"steps": c.steps, "batch": c.batch} for k, c in {**stages, "timed": settings.timing}.items()},
    }
