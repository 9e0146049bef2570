r"""What synthetic people are good for, method by method: imputation, ancestry, association, scores.

    python benchmarks/utility.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv \
        --map ../shared/data/chr22.b38.gmap.gz -o docs/results

Methods learn from the people whose row of the panel says ``train`` in the column ``split``; those whose row says
``test`` are imputed, told by ancestry and studied. Writes ``utility.md`` and ``utility.csv`` (or another ``--name``).
Results of methods are kept in ``--cells`` so that an interrupted run goes on. Imputation needs Beagle.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import pandas as pd
import torch
from people import development
from tqdm import tqdm

from data_prep.maps import GeneticMap, read_map
from data_prep.variants import VariantTable
from genodiff.baselines import baseline
from genodiff.files import atomic_text
from genodiff.genotypes.config import PRESETS, preset
from genodiff.genotypes.model import GenotypeModel
from genodiff.reproduce.page import markdown_table, number, save_table
from genodiff.utility import TASKS, measure

SHOWN = {
    "imputation_r2": "imputation r²",
    "imputation_r2_ratio": "over real panel",
    "imputation_r2_maf_0.5_1": "MAF .5–1 %",
    "imputation_r2_maf_1_2": "1–2 %",
    "imputation_r2_maf_2_5": "2–5 %",
    "imputation_r2_maf_5_10": "5–10 %",
    "imputation_r2_maf_10_20": "10–20 %",
    "imputation_r2_maf_20_50": "20–50 %",
    "ancestry_accuracy": "ancestry accuracy",
    "ancestry_auc": "ancestry AUC",
    "association_effect_r": "effects r",
    "association_z_r": "z r",
    "association_power": "power",
    "association_false_positives": "false positives",
    "ld_score_r": "LD-score r",
    "ld_score_slope": "LD-score slope",
    "pgs_r2": "polygenic r²",
    "pgs_mean_error": "score mean error",
    "pgs_sd_error": "score sd error",
}


def _generate(name: str, train: VariantTable, *, seed: int, genetic_map: GeneticMap | None) -> VariantTable:
    """As many people as were learned from, by a preset of this project's model or by a baseline."""
    if name in PRESETS:
        return GenotypeModel(preset(name)).fit(train, seed=seed, progress=True).sample(train.n_samples, seed=seed)
    return baseline(name).generate(train, train.n_samples, seed=seed, genetic_map=genetic_map)


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("--map", "map_file", type=click.Path(path_type=Path), help="Genetic map.")
@click.option("--region", default="chr22:50000000-50165000", show_default=True)
@click.option("--methods", default="fast,li-stephens,hapnest,gaussian-copula,independent-sites", show_default=True,
              help="Presets of the model (fast, balanced, best) and names of baselines.")  # fmt: skip
@click.option("--seed", default=1, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--cells", type=click.Path(path_type=Path), default=Path("runs/utility"), show_default=True)
@click.option("--name", default="utility", show_default=True, help="Stem of the page and of the table.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    vcf: Path, *, panel: Path, map_file: Path | None, region: str, methods: str, seed: int, threads: int, cells: Path,
    name: str, output: Path,
) -> None:  # fmt: skip
    """Make people by every method, put them to use, and set the figures beside one another."""
    torch.set_num_threads(threads)
    train, holdout = development(vcf, panel, region=region)
    genetic_map = None if map_file is None else read_map(map_file, str(train.sites["contig"].iloc[0]))
    frames = []
    for method in tqdm(methods.split(","), unit="method"):
        path = cells / f"{method}.{region.replace(':', '_')}.{seed}.csv"
        if not path.exists():
            synthetic = _generate(method, train, seed=seed, genetic_map=genetic_map)
            began = time.perf_counter()
            frame = measure(
                synthetic, train=train, holdout=holdout, tasks=TASKS, genetic_map=genetic_map, seed=seed,
                threads=threads,
            )  # fmt: skip
            save_table(frame.assign(method=method, seconds=time.perf_counter() - began), path)
        frames.append(pd.read_csv(path))
    command = f"python benchmarks/utility.py ../shared/data/{vcf.name} --panel ../shared/data/{panel.name}"
    command += f" --map ../shared/data/{map_file.name}" if map_file is not None else ""
    command += f" --region {region} --methods {methods} --seed {seed} --name {name} -o docs/results"
    _write(
        pd.concat(frames), output / name, command=command,
        facts=f"{train.n_samples:,} people learned from, as many made by every method, {holdout.n_samples:,} people "
        f"never seen, {train.n_variants:,} sites with minor-allele frequency of at least 1 %",
    )  # fmt: skip


def _write(results: pd.DataFrame, stem: Path, *, command: str, facts: str) -> None:
    """The page: a row per figure, a column per method, the floor first; intervals in the table of all figures."""
    by_method = {str(name): part.set_index("metric") for name, part in results.groupby("method", sort=False)}
    first = next(iter(by_method.values()))
    rows = []
    for metric, label in SHOWN.items():
        values = [number(float(part.loc[metric, "value"])) for part in by_method.values()]
        rows.append([label, number(float(first.loc[metric, "floor"])), *values])
    intervals = []
    for name, part in by_method.items():
        ratio = part.loc["imputation_r2_ratio"]
        met = "met" if ratio["value"] >= 0.95 else "**missed**"
        share, low, high = (f"{100 * ratio[column]:.1f}" for column in ("value", "low", "high"))
        intervals.append([name, f"{share} %", f"{low} to {high}", met])
    save_table(results, stem.with_suffix(".csv"))
    atomic_text(
        stem.with_suffix(".md"),
        f"# What synthetic people are good for\n\n```\n{command}\n```\n\n{facts}. One seed. *Real* is the floor: the "
        "training people themselves in the place of synthetic ones. What every figure is: "
        f"[utility](../utility.md). All of them, with intervals: [{stem.name}.csv]({stem.name}.csv).\n\n"
        f"{markdown_table(['', '*real*', *by_method], rows)}\n\n"
        "Imputation r² over that of the real panel, with the 95 % interval over held-out people; the goal is 95 %:\n\n"
        f"{markdown_table(['', 'share', 'interval', 'goal'], intervals)}\n",
    )


if __name__ == "__main__":
    main()
