r"""genodiff beside every baseline on one region: fidelity against leakage.

    python benchmarks/baselines.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv \
        --map ../shared/data/chr22.b38.gmap.gz -o docs/results

Methods learn from the people whose row of the panel says ``train`` in the column ``split`` and are judged by those
whose row says ``test``. Writes ``baselines.md``, ``baselines.csv`` and ``baselines/frontier.png``. Cells are kept in
``--cells`` so that an interrupted run goes on.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from data_prep.filters import filter_table
from data_prep.maps import GeneticMap, read_map
from data_prep.panels import attach_panel, read_panel
from data_prep.readers import read_variants
from data_prep.variants import VariantTable
from genodiff.baselines import baseline
from genodiff.evaluation.suite import evaluate
from genodiff.files import atomic_text
from genodiff.genotypes.config import preset
from genodiff.genotypes.model import GenotypeModel
from genodiff.report.style import LABELS, SYNTHETIC, TRAIN, grid, styled
from genodiff.reproduce.page import markdown_table, save_figure

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "genodiff, 4 passes": ("genodiff", {"passes": 4, "least_steps": 100}),
    "genodiff, balanced": ("genodiff", {}),
    "genodiff, 48 passes": ("genodiff", {"passes": 48}),
    "genodiff, isotropic drift": ("isotropic-tuned", {}),
    "Li–Stephens, Ne 2,000": ("li-stephens", {"ne": 2_000.0}),
    "Li–Stephens, Ne 11,418": ("li-stephens", {"ne": 11_418.0}),
    "Li–Stephens, Ne 40,000": ("li-stephens", {"ne": 40_000.0}),
    "Li–Stephens, Ne 150,000": ("li-stephens", {"ne": 150_000.0}),
    "HAPNEST": ("hapnest", {}),
    "Gaussian copula": ("gaussian-copula", {}),
    "Gaussian": ("gaussian", {}),
    "isotropic DDPM (paper)": ("isotropic-paper", {}),
    "GOU, plain network (paper)": ("gou-paper", {}),
    "independent sites": ("independent-sites", {}),
    "bootstrap": ("bootstrap", {}),
}

DOSAGES = ("isotropic DDPM (paper)", "GOU, plain network (paper)")
"""Methods without phase, whose people are compared as people: their floors are others."""

CURVES = {"genodiff": "genodiff, ", "mosaic": "Li–Stephens"}

SHOWN = {
    "af_mae": "AF MAE",
    "ld_decay_mae": "LD-decay MAE",
    "near_pair_r2_ratio": "near-pair r² ratio",
    "three_point_r": "three-point r",
    "pca_w2": "PCA-W2",
    "recall": "recall",
    "f_is": "F_IS",
    "c2st_auc": "C2ST",
    "aa_truth": "AA real half",
    "aa_syn": "AA synthetic half",
    "privacy_loss": "privacy loss",
    "membership_auc": "membership AUC",
    "copied_run_mean": "copied run (sites)",
    "exact_copies": "exact copies",
}


def _generate(
    method: str, options: dict[str, Any], train: VariantTable, *, seed: int, genetic_map: GeneticMap | None
) -> VariantTable:
    if method == "genodiff":
        model = GenotypeModel(replace(preset("balanced"), **options)).fit(train, seed=seed, progress=True)
        return model.sample(train.n_samples, seed=seed, progress=True)
    return baseline(method, **options).generate(train, train.n_samples, seed=seed, genetic_map=genetic_map)


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("--map", "map_file", type=click.Path(path_type=Path), help="Genetic map, for the mosaics.")
@click.option("--region", default="chr22:50000000-50165000", show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--cells", type=click.Path(path_type=Path), default=Path("runs/baselines"), show_default=True)
@click.option("--only", default="", help="Only methods whose name holds this.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    vcf: Path, *, panel: Path, map_file: Path | None, region: str, seed: int, threads: int, cells: Path, only: str,
    output: Path,
) -> None:  # fmt: skip
    """Run every method, judge it, and draw the frontier."""
    torch.set_num_threads(threads)
    split = pd.read_csv(panel, sep="\t", dtype=str).set_index("sample")["split"]
    everybody, _ = read_variants(vcf, region=region, maf=0.005, max_missing=0.1, progress=False)
    everybody = attach_panel(everybody, read_panel(panel), source=panel)
    side = split.reindex(everybody.samples.index).to_numpy()
    train, _ = filter_table(everybody.select(samples=np.flatnonzero(side == "train")), maf=0.01, max_missing=0.1)
    keep = everybody.site_keys.get_indexer(train.site_keys)
    holdout = everybody.select(samples=np.flatnonzero(side == "test"), variants=keep)
    genetic_map = None if map_file is None else read_map(map_file, str(train.sites["contig"].iloc[0]))
    for name, (method, options) in tqdm(METHODS.items(), unit="method"):
        path = cells / f"{name.replace(' ', '_')}.{seed}.json"
        if path.exists() or only not in name:
            continue
        began = time.perf_counter()
        synthetic = _generate(method, options, train, seed=seed, genetic_map=genetic_map)
        seconds = time.perf_counter() - began
        frame = evaluate(synthetic, train=train, holdout=holdout, seed=seed)
        facts = {
            "name": name, "seconds": seconds, "sites": train.n_variants, "people": train.n_samples,
            "held_out": holdout.n_samples,
            "metrics": dict(zip(frame["metric"], frame["value"], strict=True)),
            "floors": dict(zip(frame["metric"], frame["floor"], strict=True)),
        }  # fmt: skip
        atomic_text(path, json.dumps(facts))
    found = {n: cells / f"{n.replace(' ', '_')}.{seed}.json" for n in METHODS}
    results = {n: json.loads(p.read_text()) for n, p in found.items() if p.exists()}
    command = f"python benchmarks/baselines.py ../shared/data/{vcf.name} --panel ../shared/data/{panel.name}"
    command += f" --map ../shared/data/{map_file.name}" if map_file is not None else ""
    _write(results, output, command=f"{command} --region {region} --seed {seed} -o docs/results")


def _floors(name: str, result: dict[str, Any]) -> list[str]:
    return [name, *(f"{result['floors'].get(m, float('nan')):.3g}" for m in SHOWN), ""]


def _write(results: dict[str, Any], output: Path, *, command: str) -> None:
    first = next(iter(results.values()))
    save_figure(frontier(results), output / "baselines" / "frontier.png")
    rows = [_floors("*floor, haplotypes*", first)]
    rows += [_floors("*floor, dosages*", r) for n, r in results.items() if n in DOSAGES][:1]
    for name, r in results.items():
        rows.append([name, *(f"{r['metrics'].get(m, float('nan')):.3g}" for m in SHOWN), f"{r['seconds']:.0f}"])
    table = markdown_table(["", *SHOWN.values(), "s"], rows)
    text = (
        f"# Fidelity against leakage\n\n```\n{command}\n```\n\n"
        f"{first['people']:,} people learned from and as many drawn by every method, {first['held_out']:,} people "
        f"never seen to judge by, {first['sites']:,} sites with minor-allele frequency of at least 1 %. One seed. "
        "Floors put the people learned from (for copies: the people held out) in the place of synthetic ones. "
        "Methods that draw "
        "dosages without phase are compared person by person, with floors of their own. Seconds include learning and "
        "drawing.\n\n"
        "![Fidelity against leakage](baselines/frontier.png)\n\n" + table + "\n"
    )
    atomic_text(output / "baselines.md", text)
    long = [
        {"method": n, "metric": m, "value": v, "floor": r["floors"][m]}
        for n, r in results.items()
        for m, v in r["metrics"].items()
    ]
    atomic_text(output / "baselines.csv", pd.DataFrame(long).to_csv(index=False, float_format="%.6g"))
    print(output / "baselines.md")


@styled
def frontier(results: dict[str, Any]) -> Figure:
    """Privacy loss against two measures of fidelity, every method a point, families of settings as curves."""
    figure, (axes,) = grid(1, 2, width=11.0, height=5.0)
    for ax, metric, title in zip(
        axes, ("c2st_auc", "ld_decay_mae"), ("C2ST (lower is better)", "LD-decay MAE (lower is better)"), strict=True
    ):
        colours = iter([c for c in LABELS if c != SYNTHETIC])
        for family, prefix in CURVES.items():
            members = [r for n, r in results.items() if n.startswith(prefix) and "isotropic" not in n]
            colour = SYNTHETIC if family == "genodiff" else next(colours)
            x = [r["metrics"]["privacy_loss"] for r in members]
            y = [r["metrics"][metric] for r in members]
            ax.plot(x, y, marker="o", color=colour)
            for r, a, b in zip(members, x, y, strict=True):
                text = r["name"].split(", ", 1)[-1] if family == "genodiff" else r["name"].replace("Li–Stephens, ", "")
                ax.annotate(text, (a, b), textcoords="offset points", xytext=(6, 4), fontsize=7.5, color=colour)
            if members:
                ax.plot([], [], color=colour, marker="o", label="genodiff" if family == "genodiff" else "Li–Stephens")
        for name, r in results.items():
            if any(name.startswith(p) and "isotropic" not in name for p in CURVES.values()):
                continue
            a, b = r["metrics"]["privacy_loss"], r["metrics"][metric]
            ax.plot(a, b, marker="s", markersize=5, color="#566472", linestyle="none")
            ax.annotate(name, (a, b), textcoords="offset points", xytext=(6, -3), fontsize=7.5)
        floor = next(iter(results.values()))["floors"][metric]
        ax.axhline(floor, color=TRAIN, linewidth=1.0, linestyle=(0, (4, 3)))
        ax.axvline(0, color=TRAIN, linewidth=1.0, linestyle=(0, (4, 3)))
        ax.set_xlabel("privacy loss (0 is none)")
        ax.set_title(title)
        if metric == "ld_decay_mae":
            ax.set_yscale("log")
        ax.margins(x=0.18)
    axes[0].legend(loc="best")
    return figure


if __name__ == "__main__":
    main()
