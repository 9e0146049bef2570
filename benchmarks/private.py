r"""The price of differential privacy on one region, ε by ε.

    python benchmarks/private.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv

Learns from the people whose row of the panel says ``train`` in the column ``split``, judges by those whose row says
``test``, and prints a table. The noise has seeds, so that the table can be made again: these people are published.
Sites are those of MAF ≥ 1 % among all people of the file, as a public list would have them.
"""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import click
import pandas as pd
from people import sides
from tqdm import tqdm

from data_prep.panels import attach_panel, read_panel
from data_prep.readers import read_variants
from genodiff.baselines import Baseline, baseline
from genodiff.evaluation.suite import evaluate
from genodiff.private.promise import PrivacyWarning
from genodiff.reproduce.page import markdown_table, number

SHOWN = {
    "af_mae": "AF MAE",
    "near_pair_r2_ratio": "near-pair r² ratio",
    "near_pair_r2_corr": "near-pair r² correlation",
    "ld_decay_mae": "LD-decay MAE",
    "pca_w2": "PCA-W2",
    "c2st_auc": "C2ST",
    "membership_auc": "membership AUC",
}


def methods(epsilons: list[float], delta: float, seed: int) -> dict[str, Baseline]:
    """What is compared, by name; the budget at every ε, and the two ends without any guarantee."""
    private = {
        f"ε = {'∞' if math.isinf(e) else f'{e:g}'}": baseline("dp-gaussian", epsilon=e, delta=delta, noise_seed=seed)
        for e in epsilons
    }
    return {
        **private,
        "Gaussian copula, not private": baseline("gaussian-copula"),
        "independent sites, not private": baseline("independent-sites"),
    }


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("--region", default="chr22:50000000-50040000", show_default=True)
@click.option("--epsilon", "epsilons", type=float, multiple=True, default=[1.0, 3.0, 8.0, 30.0, math.inf])
@click.option("--delta", default=1e-5, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Number of seeds, of noise and people.")
def main(vcf: Path, *, panel: Path, region: str, epsilons: tuple[float, ...], delta: float, seeds: int) -> None:
    """Print mean ± standard deviation over seeds, and floors."""
    everybody, _ = read_variants(vcf, region=region, maf=0.01, max_missing=0.0)
    train, holdout = sides(attach_panel(everybody, read_panel(panel), source=panel), panel)
    rows = []
    for seed in range(1, seeds + 1):
        for name, method in tqdm(methods(list(epsilons), delta, seed).items(), file=sys.stderr):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PrivacyWarning)
                people = method.generate(train, train.n_samples, seed=seed)
            frame = evaluate(people, train=train, holdout=holdout, seed=seed).set_index("metric")
            rows += [(name, key, frame.loc[key, "value"], frame.loc[key, "floor"]) for key in SHOWN]
    cells = pd.DataFrame(rows, columns=["method", "metric", "value", "floor"]).groupby(["method", "metric"], sort=False)
    mean, spread = cells.mean(), cells["value"].std()
    lines = [["*floor*", *(number(mean["floor"].xs(key, level="metric").mean()) for key in SHOWN)]]
    for name in dict.fromkeys(row[0] for row in rows):
        pairs = ((mean.loc[(name, key), "value"], spread[(name, key)]) for key in SHOWN)
        lines.append([name, *(f"{number(m)} ± {number(s)}" if s == s else number(m) for m, s in pairs)])
    click.echo(f"{train.n_samples:,} people, {holdout.n_samples:,} others, {train.n_variants:,} sites, δ = {delta:g}")
    click.echo(markdown_table(["", *SHOWN.values()], lines))


if __name__ == "__main__":
    main()
