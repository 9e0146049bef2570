r"""Labels of few people, mixtures of labels, and more people than were learned from, each beside its floor.

    python benchmarks/conditioning.py few ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv
    python benchmarks/conditioning.py mixed ../shared/data/kg_phase1_chr22.b37.vcf.gz \
        --panel ../shared/data/panel.tsv --map ../shared/data/chr22.b37.gmap.gz
    python benchmarks/conditioning.py many ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv

People whose row of the panel says ``test`` in the column ``split`` are held out. Tables are printed as Markdown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import click
import numpy as np
import torch
from numpy.typing import NDArray
from people import at_sites_of, sides

from data_prep.filters import filter_table
from data_prep.maps import read_map
from data_prep.panels import attach_panel, read_panel, read_parents
from data_prep.readers import read_variants
from data_prep.variants import VariantTable
from genodiff.evaluation.adversarial import adversarial_accuracy
from genodiff.evaluation.distances import hamming, nearest
from genodiff.evaluation.structure import hudson_fst
from genodiff.genotypes.admixture import Mixing, local_ancestry, shares_of
from genodiff.genotypes.anchors import fit_anchors
from genodiff.genotypes.config import preset
from genodiff.genotypes.model import GenotypeModel

F = TypeVar("F", bound=Callable[..., Any])


def data_arguments(region: str | None) -> Callable[[F], F]:
    """What every table is made from."""

    def apply(function: F) -> F:
        options = (
            click.argument("vcf", type=click.Path(path_type=Path)),
            click.option("--panel", type=click.Path(path_type=Path), required=True),
            click.option("--region", default=region, show_default=True),
            click.option("--maf", default=0.01, show_default=True),
            click.option("--preset", "preset_name", default="fast", show_default=True),
            click.option("--seed", default=1, show_default=True),
            click.option("--threads", default=1, show_default=True),
        )
        for option in reversed(options):
            function = option(function)
        return function

    return apply


def read(vcf: Path, panel: Path, *, region: str | None, column: str) -> tuple[VariantTable, VariantTable]:
    """People to learn from and people held out, at all sites."""
    table, _ = read_variants(vcf, region=region, maf=0.0, max_missing=0.1, progress=False)
    table = attach_panel(table, read_panel(panel, column), parents=read_parents(panel, column), source=panel)
    return sides(table, panel)


def fit(table: VariantTable, preset_name: str, *, seed: int, least_rows: int | None = None) -> GenotypeModel:
    """A model; ``least_rows`` 0 gives every label anchors of its own, however few its people."""
    chosen = fit_anchors if least_rows is None else partial(fit_anchors, least_rows=least_rows)
    with mock.patch("genodiff.genotypes.model.fit_anchors", chosen):
        return GenotypeModel(preset(preset_name)).fit(table, seed=seed, device="cpu", progress=True)


def line(*cells: object) -> None:
    """A row of a Markdown table."""
    print("| " + " | ".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def head(*cells: str) -> None:
    """The first row of a Markdown table."""
    line(*cells)
    print("|" + "---|" * len(cells), flush=True)


@click.group()
def main() -> None:
    """Tables of docs/conditioning.md."""


@main.command()
@data_arguments("chr22:50000000-50080000")
@click.option("--labels", default="GBR,LWK,JPT,PEL", show_default=True, help="Populations cut to a few people.")
@click.option("--people", default=6, show_default=True, help="How many of each are learned from.")
@click.option("--drawn", default=200, show_default=True, help="Synthetic people per label.")
def few(
    vcf: Path, panel: Path, region: str, maf: float, preset_name: str, seed: int, threads: int, labels: str,
    people: int, drawn: int,
) -> None:  # fmt: skip
    """Populations cut to a few people: F_ST and frequencies against held-out people of theirs."""
    torch.set_num_threads(threads)
    chosen = labels.split(",")
    whole, test = read(vcf, panel, region=region, column="pop")
    rng = np.random.default_rng(seed)
    kept = np.ones(whole.n_samples, dtype=bool)
    for label in chosen:
        there = np.flatnonzero(whole.labels == label)
        kept[rng.permutation(there)[people:]] = False
    train, _ = filter_table(whole.select(samples=np.flatnonzero(kept)), maf=maf, max_missing=0.1)
    whole, test = at_sites_of(whole, train), at_sites_of(test, train)
    print(f"{train.n_samples:,} people learned from, {train.n_variants:,} sites, {preset_name}, seed {seed}\n")
    synthetic = {}
    for name, least in (("own anchors", 0), ("borrowed", None)):
        model = fit(train, preset_name, seed=seed, least_rows=least)
        print(f"{name}: {model.meta.n_anchors} anchors, borrowed {model.describe()['labels_borrowed']}", flush=True)
        synthetic[name] = model.sample(labels=dict.fromkeys(chosen, drawn), seed=seed)
    assert test.labels is not None
    assert whole.labels is not None
    assert train.labels is not None
    parent = dict(zip(whole.labels, whole.samples["parent"], strict=True))
    print()
    head("label", "people", "F_ST to held-out", "frequency error", "nearest of the few, to that of held-out")
    for label in chosen:
        truth = test.select(samples=test.labels == label)
        own = train.select(samples=train.labels == label)
        beside = (train.samples["parent"] == parent[label]).to_numpy() & (train.labels != label)
        sides = {
            f"the {people} themselves": own,
            f"rest of {parent[label]}": train.select(samples=beside),
            **{f"synthetic, {name}": t.select(samples=t.labels == label) for name, t in synthetic.items()},
            "floor: others of that label": whole.select(samples=(whole.labels == label) & ~kept),
        }
        floor = nearest(truth.haplotype_rows(), own.haplotype_rows()).mean()
        for name, side in sides.items():
            error = np.abs(side.allele_frequency() - truth.allele_frequency()).mean()
            near = float("nan") if side is own else nearest(side.haplotype_rows(), own.haplotype_rows()).mean() / floor
            line(label, name, hudson_fst(side.dosage(), truth.dosage()), float(error), float(near))


@main.command()
@data_arguments(None)
@click.option("--map", "map_file", type=click.Path(path_type=Path), required=True)
@click.option("--mixture", default="AFR=0.8+EUR=0.2", show_default=True)
@click.option("--people", default=300, show_default=True)
@click.option("--generations", default=8.0, show_default=True)
@click.option("--least-sites", default=1500, show_default=True, help="Sites kept, evenly spaced.")
def mixed(
    vcf: Path, panel: Path, region: str | None, maf: float, preset_name: str, seed: int, threads: int,
    map_file: Path, mixture: str, people: int, generations: float, least_sites: int,
) -> None:  # fmt: skip
    """A mixture: proportions, switches and lengths of tracts against theory; F_ST against mixed real people."""
    torch.set_num_threads(threads)
    train, test = read(vcf, panel, region=region, column="super_pop")
    train, _ = filter_table(train, maf=maf, max_missing=0.1)
    spaced = np.unique(np.linspace(0, train.n_variants - 1, least_sites).astype(int))
    train = train.select(variants=spaced)
    test = at_sites_of(test, train)
    genetic_map = read_map(map_file, str(train.sites["contig"].iloc[0]))
    model = fit(train, preset_name, seed=seed)
    mixing = Mixing(generations=generations, concentration=float("inf"), genetic_map=genetic_map)
    table = model.sample(labels={mixture: people}, mixing=mixing, seed=seed)
    frame = local_ancestry(table)
    assert frame is not None
    shares = shares_of(mixture)
    length = genetic_map.cM(frame["end"].to_numpy()) - genetic_map.cM(frame["start"].to_numpy())
    span = length.sum() / (2 * people)
    switches = len(frame) / (2 * people) - 1
    expected = generations * (1 - sum(p**2 for p in shares.values())) * span / 100
    print(f"{train.n_samples:,} people learned from, {train.n_variants:,} sites, {span:.1f} cM, {preset_name}\n")
    head("", "observed", "expected")
    for name, p in shares.items():
        line(f"share of {name}", float(length[frame["label"] == name].sum() / length.sum()), p)
    line("switches per haplotype", float(switches), float(expected))
    assert test.labels is not None
    rng = np.random.default_rng(seed)
    parts = {k: np.flatnonzero(test.labels == k) for k in shares}
    total = min(int(len(v) / shares[k]) for k, v in parts.items())
    real = np.concatenate([rng.choice(v, int(shares[k] * total), replace=False) for k, v in parts.items()])
    line("F_ST to held-out people mixed alike", hudson_fst(table.dosage(), test.select(samples=real).dosage()), 0.0)


@main.command()
@data_arguments("chr22:50000000-50150000")
@click.option("--people", default=500, show_default=True, help="How many are learned from.")
@click.option("--multiples", default="1,2,5,10", show_default=True)
def many(
    vcf: Path, panel: Path, region: str, maf: float, preset_name: str, seed: int, threads: int, people: int,
    multiples: str,
) -> None:  # fmt: skip
    """More people than were learned from: uniqueness and adversarial accuracy, judged on equal numbers."""
    torch.set_num_threads(threads)
    train, test = read(vcf, panel, region=region, column="super_pop")
    rng = np.random.default_rng(seed)
    train = train.select(samples=np.sort(rng.permutation(train.n_samples)[:people]))
    train, _ = filter_table(train, maf=maf, max_missing=0.1)
    test = at_sites_of(test, train)
    model = fit(train, preset_name, seed=seed)
    real, learned = test.haplotype_rows(), train.haplotype_rows()
    n = min(len(real), len(learned))
    print(f"{train.n_samples:,} people learned from, {train.n_variants:,} sites, {preset_name}, seed {seed}; ", end="")
    print(f"{n:,} haplotypes from each side\n")
    head(
        "synthetic people", "AA, real half", "AA, synthetic half", "unique share of all", "unique share of as many",
        "nearest other, mean of as many", "nearest other, 1 % quantile", "exact copies of training",
    )  # fmt: skip

    def judge(name: str, rows: NDArray[np.int8], against: NDArray[np.int8], *, copies: bool = True) -> None:
        accuracy, unique, near = [], [], []
        for draw in range(5):
            pick = np.random.default_rng([seed, draw])
            a = against[pick.permutation(len(against))[:n]]
            b = rows[pick.permutation(len(rows))[:n]]
            within = hamming(b, b)
            found = adversarial_accuracy(hamming(a, b), hamming(a, a), within.copy())
            np.fill_diagonal(within, np.inf)
            accuracy.append((found.truth, found.syn))
            unique.append(len(np.unique(b, axis=0)) / n)
            near.append((within.min(1).mean(), np.quantile(within.min(1), 0.01)))
        half, apart = np.mean(accuracy, axis=0), np.mean(near, axis=0)
        same = float((nearest(rows, learned) == 0).mean()) if copies else float("nan")
        line(
            name, float(half[0]), float(half[1]), len(np.unique(rows, axis=0)) / len(rows), float(np.mean(unique)),
            float(apart[0]), float(apart[1]), same,
        )  # fmt: skip

    judge("floor: training people", learned, real, copies=False)
    judge("floor: held-out people", real, learned)
    remarks = []
    for multiple in map(int, multiples.split(",")):
        rows = model.sample(multiple * people, seed=seed + multiple).haplotype_rows()
        judge(f"{multiple * people:,} ({multiple}×)", rows, real)
        kinds, counts = np.unique(rows, axis=0, return_counts=True)
        repeated = kinds[counts > 1]
        if len(repeated):
            known = int((nearest(repeated, np.concatenate([real, learned])) == 0).sum())
            remarks.append(
                f"{multiple}×: {len(repeated)} haplotypes occur more than once, at most {counts.max()} times; "
                f"{known} of them are haplotypes of real people too"
            )
    print("\n" + "\n".join(remarks))


if __name__ == "__main__":
    main()
