"""Table 3 and Figure 2 of the GOU paper (§7.3): real genotypes of chromosome 22 at 2,000 sites.

The paper takes 2,000 SNPs and 2,000 people of the 1000 Genomes Project and does not say whom it judges against. Here
everybody in the file takes part, and a share of the people is never learned from. Haplotypes are the unit of learning
where calls are phased; all errors are those of dosages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.maps import read_map
from data_prep.panels import attach_panel, read_panel
from data_prep.readers import read_variants
from data_prep.splits import split_people
from data_prep.variants import VariantTable
from genodiff.genotypes.model import MIN_PEOPLE
from genodiff.reproduce import Length, seeds_for
from genodiff.reproduce.heatmaps import covariance_figure
from genodiff.reproduce.page import number, save_figure, write_page
from genodiff.reproduce.real_claims import claim_figures
from genodiff.reproduce.runs import NEAR, NEAR_LD, UNROUNDED, W2_SITES, Cache, Problem, genotype_errors, measure
from genodiff.reproduce.runs import methods as methods_named
from genodiff.reproduce.tables import PAPER, Results, Target, verdicts

__all__ = [
    "FLOOR",
    "METHODS",
    "Design",
    "People",
    "covariance_figure",
    "people_of",
    "problem_of",
    "reproduce",
    "targets",
]

NAME = "gou-chr22"

EXAMPLE = Path(__file__).parents[1] / "data" / "example.vcf.gz"
"""300 simulated people, embedded."""

METHODS = (
    "isotropic-paper", "gou-paper", "isotropic-tuned", "genodiff", "gaussian-copula", "li-stephens",
    "independent-sites", "bootstrap",
)  # fmt: skip
"""What is judged, in the order of the columns. The last two are the extremes: no linkage, and everybody a copy."""

DRAWN = ("isotropic-paper", "isotropic-tuned", "genodiff")
"""Methods of Figure 2, beside the real people."""

FLOOR = "floor (training people)"

LEAST_HELD_OUT, LEAST_SITES = 2, 2
"""Fewer have no spread to judge by, and no correlation."""


@dataclass(frozen=True)
class Design:
    """Which sites, and how many people are held out where the panel does not say.

    Attributes:
        sites: number of sites drawn from the file.
        maf: least minor-allele frequency among everybody.
        holdout: share of the people held out where the panel has no column ``split``.
        zoom: number of neighbouring sites in the lower row of Figure 2.
        claim_sites: number of neighbouring sites for the claims on start law, groups and correlations, whose algebra
            is dense.
        claim_people: most people for those.
    """

    sites: int = 2000
    maf: float = 0.01
    holdout: float = 0.25
    zoom: int = 200
    claim_sites: int = 400
    claim_people: int = 400


@dataclass(frozen=True)
class People:
    """Everybody at every site that may be drawn.

    Attributes:
        table: complete calls; labelled where there is a panel.
        train: whether a person is learned from, bool (people,); ``None`` if the panel does not say.
        genetic_map: of the contig.
    """

    table: VariantTable
    train: NDArray[np.bool_] | None = None
    genetic_map: Any = field(default=None, repr=False)


def _split_column(panel: Path, table: VariantTable) -> NDArray[np.bool_] | None:
    """Whether a person is learned from, by the panel's column ``split``; ``None`` if it has none."""
    try:
        split = read_panel(panel, "split")
    except InputError:
        # The labels were read before, so that the file itself is in order.
        return None
    said = split.loc[table.samples.index.astype(str)].str.lower().to_numpy(dtype=str)
    wrong = np.flatnonzero(~np.isin(said, ["train", "test"]))
    if len(wrong):
        raise InputError(f"{panel}: the column split holds {said[wrong[0]]!r}: write train or test")
    train: NDArray[np.bool_] = said == "train"
    if train.all() or not train.any():
        raise InputError(f"{panel}: the column split puts everybody on one side: leave people on both")
    return train


def people_of(
    vcf: Path, panel: Path | None, *, design: Design, genetic_map: Path | None = None, progress: bool = False
) -> People:
    """Reads everybody.

    Args:
        vcf: phased or unphased genotypes of one contig.
        panel: labels of the people; its column ``split`` (train, test), if it has one, says whom to hold out.
        design: least frequency.
        genetic_map: for the methods that use recombination.
        progress: show a bar.

    Raises:
        InputError: a file that cannot be used.
    """
    # A missing call has no dosage, and the paper's metrics know none: only sites where everybody is called are drawn.
    table, _ = read_variants(vcf, maf=design.maf, max_missing=0.0, progress=progress)
    train = None
    if panel is not None:
        table = attach_panel(table, read_panel(panel), source=panel)
        train = _split_column(panel, table)
    contig = str(table.sites["contig"].iloc[0])
    return People(table, train, None if genetic_map is None else read_map(genetic_map, contig=contig))


def problem_of(people: People, *, design: Design, seed: int) -> Problem:
    """Some of the sites, and everybody on one side or the other.

    Args:
        people: everybody.
        design: number of sites.
        seed: of the sites, and of the people held out where the panel does not say.

    Raises:
        InputError: too few people on either side, or too few sites.
    """
    table = people.table
    if table.n_variants < LEAST_SITES:
        raise InputError(
            f"too few sites where everybody is called and the minor allele is not rarer than {design.maf:g}: "
            f"{table.n_variants}, at least {LEAST_SITES} are needed"
        )
    if table.n_samples < MIN_PEOPLE + LEAST_HELD_OUT:
        raise InputError(
            f"{table.n_samples:,} people are too few: at least {MIN_PEOPLE} to learn from and {LEAST_HELD_OUT} held "
            "out are needed"
        )
    rng = np.random.default_rng([seed, 22])
    sites = np.sort(rng.permutation(table.n_variants)[: design.sites])
    if people.train is None:
        train, test = split_people(table, holdout=design.holdout, seed=seed)
    else:
        train, test = np.flatnonzero(people.train), np.flatnonzero(~people.train)
    if len(train) < MIN_PEOPLE or len(test) < LEAST_HELD_OUT:
        raise InputError(
            f"{len(train):,} people to learn from and {len(test):,} held out are too few: at least {MIN_PEOPLE} and "
            f"{LEAST_HELD_OUT} are needed"
        )
    return Problem(
        train=table.select(variants=sites, samples=train),
        references={"test": table.select(variants=sites, samples=test).dosage()},
        genetic_map=people.genetic_map,
    )


def targets(frame: pd.DataFrame) -> list[Target]:
    """What genodiff is to reach against people it has not seen: half the printed errors, and nearly the floor."""
    printed = PAPER["Table 3"]["gou"]
    # W2 of five of 2,000 sites is a matter of which five: the average over all is judged against the printed number.
    of = {"mean_error": "mean_error", "sd_error": "sd_error", "cov_frobenius": "cov_frobenius", W2_SITES: "w2"}
    floor = frame[(frame["method"] == FLOOR) & (frame["against"] == "test")].set_index("metric")["mean"]
    half = [
        Target(
            "genodiff",
            "test",
            metric,
            printed[name] / 2,
            f"genodiff against test: at most half the printed error (floor {number(float(floor[metric]))})",
        )
        for metric, name in of.items()
    ]
    near = [
        Target("genodiff", "test", metric, 1.15 * float(floor[metric]),
               "genodiff against test: at most 1.15 × that of the training people")
        for metric in [*of, "corr_frobenius"]
    ]  # fmt: skip
    return half + near


def _intro(people: People, problem: Problem, design: Design, *, vcf: Path, drawn: int) -> str:
    table, train, test = people.table, problem.train, len(problem.references["test"])
    span = (int(table.sites["position"].iloc[-1]) - int(table.sites["position"].iloc[0])) / 1e6
    held = "by the panel's column *split*" if people.train is not None else f"{design.holdout:.0%}, drawn anew per seed"
    return (
        f"Table 3 and Figure 2 of Taheri 2026 on {vcf.name}: {train.n_variants:,} sites, drawn anew per seed from the "
        f"{table.n_variants:,} of contig {table.sites['contig'].iloc[0]} ({span:.1f} Mb) with minor-allele frequency "
        f"of at least {design.maf:.0%}; {train.n_samples:,} people to learn from and {test:,} held out ({held}). "
        f"{'Haplotypes' if train.is_phased else 'Dosages'} are learned, errors are those of dosages, and {drawn:,} "
        "people are drawn from every method. The paper's people and sites are others, so its columns are context and "
        "not a like-for-like comparison."
    )


def _notes(design: Design, *, budget: Length, mapped: bool) -> list[str]:
    return [
        f"*{FLOOR}* puts as many training people in the place of the synthetic ones: what real people attain.",
        "Frequencies are held to those of the training people while sampling, so that errors of means and W2 lie below "
        "the floor by design, and 1.15 × the floor asks little of them; it asks more of covariances. *bootstrap* "
        "copies and is an extreme.",
        f"`{NEAR_LD}` is the slope of correlations on those of the reference over pairs up to {NEAR} sites apart: 1 is "
        "right, less is linkage lost. Frobenius norms over all pairs are mostly sampling error and can hide that; with "
        "a small reference its own noise keeps even real people a little below 1.",
        f"`{W2_SITES}` is the 2-Wasserstein distance averaged over all sites; it is what is judged, since five of "
        f"{design.sites:,} sites say more about which five than about the method.",
        "*isotropic-paper* and *gou-paper* draw real numbers: they are judged after rounding to 0, 1, 2 and as they "
        f"come (“{UNROUNDED.strip(', ')}”; KL has one bin per genotype in both).",
        *([] if mapped else ["No genetic map was given: *li-stephens* takes a constant rate of recombination."]),
        *(["Quick budget: fast preset, a fifth of the training steps of the plain networks; as "
           "many people are drawn as are held out."] if budget == "quick" else []),
    ]  # fmt: skip


def _command(vcf: Path, panel: Path | None, genetic_map: Path | None) -> str:
    """The line that makes the page again; files by name, since folders differ from machine to machine."""
    parts = [f"genodiff reproduce {NAME} {vcf.name}"]
    parts += [f"--panel {panel.name}"] if panel is not None else []
    parts += [f"--map {genetic_map.name}"] if genetic_map is not None else []
    return " ".join(parts)


def reproduce(
    output: Path,
    *,
    vcf: Path | None,
    panel: Path | None = None,
    genetic_map: Path | None = None,
    seeds: int | None = None,
    budget: Length = "quick",
    progress: bool = False,
    device: str = "auto",
    design: Design | None = None,
    methods: Sequence[str] = METHODS,
) -> Path:
    """Runs Table 3 and Figure 2 again and writes their page.

    Args:
        output: folder of the page; what is measured is remembered in its ``.cache``, so that an interrupted run goes
            on when it is started again.
        vcf: real genotypes of one contig; the simulated people of the embedded example if ``None``, which shows how
            the page is made and says nothing about chromosome 22. Its page has a name of its own.
        panel: labels of the people, and whom to hold out (column ``split``).
        genetic_map: for the methods that use recombination.
        seeds: number of seeds; 2 for quick and 5 for full if ``None``.
        budget: ``quick`` is the fast preset, ``full`` the balanced one.
        progress: show bars.
        device: auto, cpu, cuda or mps.
        design: which sites; those of the page if ``None``.
        methods: what is judged; ``genodiff`` must be among them.

    Returns:
        path of the page.

    Raises:
        InputError: genotypes that cannot be used.
    """
    count = seeds_for(budget, seeds)
    design = design or Design()
    name, title = NAME, "Chromosome 22 (Table 3, Figure 2)"
    command = f"genodiff reproduce {NAME}"
    if vcf is None:
        name, title = f"{NAME}-example", "Table 3 and Figure 2 on simulated people"
        vcf, panel = EXAMPLE, EXAMPLE.with_name("example.panel.tsv")
    else:
        command = _command(vcf, panel, genetic_map)
    people = people_of(vcf, panel, design=design, genetic_map=genetic_map, progress=progress)
    cache = Cache(output / ".cache")
    chosen = methods_named(methods, budget=budget, device=device, progress=progress)
    results, seconds = Results(), 0.0
    shown: dict[str, NDArray[np.int8]] = {}
    with tqdm(total=count * len(chosen), desc=NAME, unit="fit", disable=not progress, dynamic_ncols=True) as bar:
        for seed in range(1, count + 1):
            problem = problem_of(people, design=design, seed=seed)
            test = problem.references["test"]
            train = problem.train.dosage()
            drawn = len(train) if budget == "full" else min(len(train), len(test))
            if seed == 1:
                first = problem.train
                intro = _intro(people, problem, design, vcf=vcf, drawn=drawn)
                shown["real, held out"] = test
            for method in chosen:
                bar.set_postfix_str(f"{method.name}, seed {seed}")
                keep = seed == 1 and method.name in DRAWN
                outcome = measure(method, problem, seed=seed, people=drawn, cache=cache, keep=keep)
                outcome.add_to(results, seed=seed)
                seconds += outcome.seconds
                if outcome.dosage is not None:
                    shown[method.name] = outcome.dosage
                bar.update()
            some = np.random.default_rng(seed).permutation(len(train))[:drawn]
            results.add(FLOOR, "test", seed, genotype_errors(train[some], test))
    frame = results.frame()
    figure = f"{name}.covariance.png"
    save_figure(covariance_figure(shown, zoom=design.zoom), output / figure)
    worst = {method: _cov(frame, method) for method in shown if method in DRAWN}
    caption = (
        "Covariances of dosages in site order, held-out people and those drawn by three methods, on one scale. "
        "Frobenius norm of the difference from test: "
        + ", ".join(f"{method} {value}" for method, value in worst.items())
        + f"; floor {_cov(frame, FLOOR)}."
    )
    claims = claim_figures(first, output, name, sites=design.claim_sites, people=design.claim_people)
    return write_page(
        output,
        name=name,
        title=title,
        intro=intro,
        results=results,
        paper=PAPER["Table 3"],
        checks=verdicts(frame, targets(frame)),
        figures=[(figure, caption), *claims],
        command=f"{command} --budget {budget} --seeds {count}",
        notes=_notes(design, budget=budget, mapped=people.genetic_map is not None),
        seconds=seconds,
    )


def _cov(frame: pd.DataFrame, method: str) -> str:
    means = frame.set_index(["method", "against", "metric"])["mean"]
    return number(float(means[method, "test", "cov_frobenius"]))
