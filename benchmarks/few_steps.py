r"""How few steps will do: schedules of the noise and grids of the sampler, drawing from the posterior or without noise.

    python benchmarks/few_steps.py run ../shared/data/kg_chr22_50Mb.b38.vcf.gz \
        --panel ../shared/data/panel.tsv -o runs/few_steps
    python benchmarks/few_steps.py report runs/few_steps -o docs/results/few-steps

Only people whose row of the panel says ``train`` in the column ``split`` are touched: a quarter of them are set aside
to judge by, as many synthetic people are drawn. Every cell is a JSON file and every model a folder, so that an
interrupted run goes on. ``report`` writes ``metrics.csv`` and ``ratios.csv`` and prints both as Markdown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from fidelity import people_of
from tqdm import tqdm

from genodiff.evaluation.suite import evaluate
from genodiff.files import atomic_text
from genodiff.genotypes.config import ModelConfig, preset
from genodiff.genotypes.model import GenotypeModel
from genodiff.reproduce.page import markdown_table

ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gou, geometric": ({}, {}),
    "gou, constant speed": ({}, {"schedule": "constant-speed"}),
    "isotropic, constant speed": ({"subspaces": 1, "schedule": "constant-speed"}, {}),
    "isotropic, geometric": ({"subspaces": 1, "schedule": "constant-speed"}, {"schedule": "geometric"}),
    "subspaces, constant speed": ({"subspaces": 2, "schedule": "constant-speed"}, {}),
    "subspaces, geometric": ({"subspaces": 2, "schedule": "constant-speed"}, {"schedule": "geometric"}),
    "subspaces, learned time": ({"subspaces": 2, "schedule": "constant-speed"}, {"schedule": "learned-time"}),
}
"""What differs from the preset before training, and after it."""

STEPS = (10, 50, 5, 20)
SAMPLERS = ("ancestral", "euler", "heun")
"""Draws from the posterior; first and second order without noise: in time, or along the noise of subspaces."""

METRICS = ("af_mae", "ld_decay_mae", "near_pair_r2_ratio", "recall", "f_is", "c2st_auc", "aa_truth", "aa_syn",
           "membership_auc")  # fmt: skip
LOWER = ("af_mae", "ld_decay_mae", "c2st_auc", "aa_truth", "membership_auc")
TARGET = 1.2
FEW, MANY = 10, 50


def cells(rows: tuple[str, ...], samplers: tuple[str, ...], steps: tuple[int, ...]) -> Iterator[tuple[str, str, int]]:
    """Row, sampler and steps, all rows of one number of steps before the next number."""
    for n in steps:
        for row in rows:
            for sampler in samplers:
                yield row, sampler, n


@click.group()
def main() -> None:
    """How few steps will do."""


@main.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--region", default="chr22:50200000-50450000", show_default=True)
@click.option("--preset", "name", default="balanced", show_default=True)
@click.option("--row", "rows", multiple=True, type=click.Choice(list(ROWS)), default=list(ROWS))
@click.option("--sampler", "samplers", multiple=True, default=SAMPLERS[:2], show_default=True)
@click.option("--steps", multiple=True, type=int, default=STEPS, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--draw", default=1, show_default=True, help="Seed of the people drawn.")
@click.option("--threads", default=1, show_default=True)
def run(
    vcf: Path,
    *,
    panel: Path,
    output: Path,
    region: str,
    name: str,
    rows: tuple[str, ...],
    samplers: tuple[str, ...],
    steps: tuple[int, ...],
    seed: int,
    draw: int,
    threads: int,
) -> None:
    """Fit every model and judge every cell that has no file yet."""
    torch.set_num_threads(threads)
    train, holdout = people_of(vcf, panel, region, seed)
    for row, sampler, n in tqdm(list(cells(rows, samplers, steps)), unit="cell"):
        named = sampler if sampler == "ancestral" else f"{sampler}-{'flow' if 'gou' not in row else 'ode'}"
        file = output / "cells" / f"{row}.{named}.{n}.{seed}.{draw}.json".replace(", ", "__").replace(" ", "-")
        if file.exists():
            continue
        before, after = ROWS[row]
        config: ModelConfig = replace(preset(name), **before)
        fitted = next(other for other, (choices, _) in ROWS.items() if choices == before)
        folder = output / "models" / f"{fitted}.{seed}".replace(", ", "__").replace(" ", "-")
        if not folder.exists():
            began = time.perf_counter()
            model = GenotypeModel(config).fit(train, seed=seed, device="cpu")
            model.save(folder)
            click.echo(f"{fitted}: fit in {time.perf_counter() - began:.0f} s, loss {model.result.best_validation:.5f}")
        model = GenotypeModel.load(folder, device="cpu")
        began = time.perf_counter()
        model = model.with_sampling(sampler=named, sampling_steps=n, **after)
        drawn = model.sample(holdout.n_samples, seed=draw)
        seconds = time.perf_counter() - began
        frame = evaluate(drawn, train=train, holdout=holdout, seed=seed).set_index("metric")
        facts = {
            "row": row, "sampler": named, "steps": n, "seed": seed, "draw": draw, "drawn": drawn.n_samples,
            "seconds": seconds, "people": train.n_samples, "sites": train.n_variants,
            "noise": model.engine.process.noise_ratio(model.engine.grid(n), rate=-0.5).tolist(),
            "metrics": frame["value"].to_dict(), "floors": frame["floor"].to_dict(),
        }  # fmt: skip
        atomic_text(file, json.dumps(facts))


def table_of(run_folder: Path) -> pd.DataFrame:
    """One line per cell, metrics in columns; the floors in lines of their own, one per seed."""
    found = [json.loads(file.read_text()) for file in sorted((run_folder / "cells").glob("*.json"))]
    if not found:
        raise click.ClickException(f"{run_folder} has no cells: run first")
    lines = [{k: f[k] for k in ("row", "sampler", "steps", "seed", "draw")} | {m: f["metrics"][m] for m in METRICS}
             for f in found]  # fmt: skip
    floors = {f["seed"]: f["floors"] for f in found}
    lines += [{"row": "floor", "sampler": "", "steps": 0, "seed": s, "draw": 0} | {m: v[m] for m in METRICS}
              for s, v in floors.items()]  # fmt: skip
    order = {name: k for k, name in enumerate(["floor", *ROWS])}
    frame = pd.DataFrame(lines)
    return frame.sort_values(
        ["seed", "sampler", "row", "steps", "draw"], key=lambda c: c.map(order) if c.name == "row" else c
    )


def ratios_of(frame: pd.DataFrame) -> pd.DataFrame:
    """How much worse 10 steps are than 50; of what has no better side, the larger over the smaller."""
    drawn = frame[frame["row"] != "floor"].set_index(["sampler", "row", "seed", "draw", "steps"])
    lines = []
    for (sampler, row, seed, draw), part in drawn.groupby(["sampler", "row", "seed", "draw"], sort=False):
        cells = part.droplevel([0, 1, 2, 3])
        if not {FEW, MANY} <= set(cells.index):
            continue
        ratio = cells.loc[FEW, list(METRICS)] / cells.loc[MANY, list(METRICS)]
        ratio = ratio.where(ratio.index.isin(LOWER), ratio.where(ratio > 1, 1 / ratio))
        lines.append(
            {
                "sampler": sampler,
                "row": row,
                "seed": seed,
                "draw": draw,
                **ratio,
                "within": bool((ratio <= TARGET).all()),
            }
        )
    return pd.DataFrame(lines)


def shown(frame: pd.DataFrame, digits: int) -> str:
    """A table in Markdown, small numbers to so many digits."""
    body = [[f"{v:.{digits}g}" if isinstance(v, float) else str(v) for v in line] for line in frame.to_numpy(object)]
    return markdown_table([str(c) for c in frame.columns], body)


@main.command()
@click.argument("run_folder", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def report(run_folder: Path, *, output: Path) -> None:
    """Metrics of every cell, and those of 10 steps over those of 50."""
    frame = table_of(run_folder)
    ratios = ratios_of(frame)
    output.mkdir(parents=True, exist_ok=True)
    for name, table, digits in (("metrics", frame, 4), ("ratios", ratios, 3)):
        table.to_csv(output / f"{name}.csv", index=False, float_format=f"%.{digits}g")
        click.echo(f"\n{shown(table, digits)}")


if __name__ == "__main__":
    main()
