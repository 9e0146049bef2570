r"""What every choice of the model buys: one change at a time from the default, equal budgets, several seeds.

    python benchmarks/ablations.py run ../shared/data/kg_chr22_50Mb.b38.vcf.gz \
        --panel ../shared/data/panel.tsv -o runs/ablations
    python benchmarks/ablations.py report runs/ablations -o docs/results

Only people whose row of the panel says ``train`` in the column ``split`` are touched: per seed a quarter of them are
held out to judge by. Every cell is a JSON file, so that an interrupted run goes on, and a second process
with ``--backwards`` shares the work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from people import at_sites_of, sides
from tqdm import tqdm

from data_prep.filters import filter_table
from data_prep.readers import read_variants
from data_prep.splits import split_people
from data_prep.variants import VariantTable
from genodiff.core.training import TrainingConfig
from genodiff.evaluation.suite import evaluate
from genodiff.files import atomic_text
from genodiff.genotypes.anchors import fit_anchors
from genodiff.genotypes.config import ModelConfig
from genodiff.genotypes.model import GenotypeModel
from genodiff.genotypes.units import units_of

DEFAULT = ModelConfig(passes=8, least_steps=200, training=TrainingConfig(validate_every=50, warmup=25))
"""A third of the passes of ``balanced``: every cell has this budget."""

PEOPLE = (100, 300, 1000)
STARTS = (0.3, 1.0, None)
STEPS = {
    "ancestral": (5, 25, 100),
    "ancestral-mean": (5, 25),
    "euler-maruyama": (5, 25, 100),
    "euler-ode": (5, 25),
    "heun-ode": (5, 25),
}
GRID_SEEDS = 1
"""Seeds for which steps and starts are swept; each cell changes little from seed to seed, and there are many."""

QUICK_FAMILIES = ("frequencies", "covariance", "ld", "structure")


@dataclass(frozen=True)
class Draw:
    """One cell: how people are drawn from a fitted model and which families of metrics judge them."""

    name: str
    choices: dict[str, Any] = field(default_factory=dict)
    medoids: bool = False
    whole: bool = True


@dataclass(frozen=True)
class Fit:
    """One trained model and the cells drawn from it."""

    config: ModelConfig
    draws: tuple[Draw, ...]
    people: int | None = None


def fits() -> Iterator[Fit]:
    """All models, the default first."""
    samplers = tuple(
        Draw(f"sampler/{name}/{n}", {"sampler": name, "sampling_steps": n}, whole=False)
        for name, steps in STEPS.items()
        for n in steps
    )
    starts = (
        Draw("start/noise", {"anchor_covariance": "noise"}),
        Draw("start/total", {"anchor_covariance": "total"}),
        Draw("start/medoids", medoids=True),
    )
    yield Fit(DEFAULT, (Draw("default"), *starts, *samplers))
    for a in (1.0, 0.2, 0.05):
        early = tuple(
            Draw(
                f"early/{sampler}/a={a:g}/rho={rho or 0:g}/{steps}",
                {"sampler": sampler, "start_noise": rho, "sampling_steps": steps},
                whole=False,
            )
            for sampler in ("ancestral", "euler-maruyama")
            for rho in STARTS
            for steps in ((5,) if sampler == "ancestral" else (5, 25))
            if a in (1.0, 0.2)
        )
        yield Fit(replace(DEFAULT, a=a), (Draw(f"drift/a={a:g}"), *early))
    yield Fit(replace(DEFAULT, drift="fp-noise"), (Draw("drift/fp-noise"),))
    yield Fit(replace(DEFAULT, shrink="ledoit-wolf"), (Draw("shrink/ledoit-wolf"),))
    for basis in ("full", "identity"):
        yield Fit(replace(DEFAULT, basis=basis), (Draw(f"basis/{basis}"),))
    one = (Draw("anchors/1"), Draw("anchors/none", {"anchor_covariance": "noise"}))
    yield Fit(replace(DEFAULT, anchors=1), one)
    for base in ("gaussian", "none"):
        yield Fit(replace(DEFAULT, base=base), (Draw(f"base/{base}"),))
    bare = replace(DEFAULT, scales=())
    for a in (1.0, 0.5, 0.1):
        yield Fit(replace(bare, a=a), (Draw(f"bare/a={a:g}"),))
    yield Fit(replace(bare, base="none"), (Draw("bare/base=none"),))
    for people in PEOPLE:
        for a in (0.5, 1.0):
            yield Fit(replace(DEFAULT, a=a), (Draw(f"people/{people}/a={a:g}"),), people=people)


@click.group()
def main() -> None:
    """Ablations of the genotype model."""


@main.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--region", default="chr22:50000000-50100000", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--backwards", is_flag=True, help="Begin with the last model, to meet another process half-way.")
@click.option("--only", default="", help="Only cells whose name begins so.")
def run(
    vcf: Path, *, panel: Path, output: Path, region: str, seeds: int, threads: int, backwards: bool, only: str
) -> None:
    """Train every model and judge every cell that has no file yet."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    everybody, _ = read_variants(vcf, region=region, maf=0.005, max_missing=0.1, progress=False)
    table, _ = sides(everybody, panel)
    jobs = [(seed, f) for seed in range(1, seeds + 1) for f in fits()]
    for seed, f in tqdm(jobs[::-1] if backwards else jobs, unit="model"):
        asked = [d for d in f.draws if d.name.startswith(only) and (d.whole or seed <= GRID_SEEDS)]
        todo = [d for d in asked if not _cell(output, d.name, seed).exists()]
        if todo:
            _do(replace(f, draws=tuple(todo)), table, seed=seed, output=output)


def _cell(output: Path, name: str, seed: int) -> Path:
    return output / "cells" / f"{name.replace('/', '__')}.{seed}.json"


def _do(job: Fit, table: VariantTable, *, seed: int, output: Path) -> None:
    chosen, held = split_people(table, holdout=0.25, seed=seed)
    if job.people is not None:
        chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[: job.people])
    train, _ = filter_table(table.select(samples=chosen), maf=0.01, max_missing=0.1)
    holdout = at_sites_of(table.select(samples=held), train)
    began = time.perf_counter()
    model = GenotypeModel(job.config).fit(train, seed=seed, device="cpu")
    fit_seconds = time.perf_counter() - began
    for draw in job.draws:
        drawer = model.with_sampling(**draw.choices)
        means = model.engine.starts.clone()
        if draw.medoids:
            units = units_of(train).at(model.meta.ties.drawn)
            medoids = fit_anchors(units, n=job.config.anchors, kind="medoids", seed=seed)
            model.engine.starts.copy_(torch.from_numpy(medoids.starts))
        began = time.perf_counter()
        n = len(chosen) if draw.whole and job.people is None else len(held)
        synthetic = drawer.sample(n, seed=seed)
        sample_seconds = time.perf_counter() - began
        model.engine.starts.copy_(means)
        families = None if draw.whole else QUICK_FAMILIES
        frame = evaluate(synthetic, train=train, holdout=holdout, seed=seed, families=families)
        facts = {
            "name": draw.name, "seed": seed, "people": train.n_samples, "sites": train.n_variants, "drawn": n,
            "held_out": holdout.n_samples, "anchors": model.meta.n_anchors, "training_steps": model.result.steps,
            "validation_loss": model.result.best_validation, "horizon": model.engine.process.horizon,
            "fit_seconds": fit_seconds, "sample_seconds": sample_seconds,
            "metrics": dict(zip(frame["metric"], frame["value"], strict=True)),
            "floors": dict(zip(frame["metric"], frame["floor"], strict=True)),
        }  # fmt: skip
        atomic_text(_cell(output, draw.name, seed), json.dumps(facts))


if __name__ == "__main__":
    main()
