"""Table 2 of the GOU paper (§7.2): simulated SNPs in LD blocks, 500 people at 1,000 sites.

The paper leaves open the size of the blocks, the rate of the exponential, the law of the allele frequencies and
whether its test people are new; :class:`Design` holds our choice, and the full budget shows what depends on it.
Every seed is a world of its own: frequencies, people to learn from, people to be judged against, fit and draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
from tqdm import tqdm

from data_prep.simulate import simulate_ld_blocks
from data_prep.variants import VariantTable
from genodiff.files import atomic_text
from genodiff.reproduce import Length, seeds_for
from genodiff.reproduce.page import markdown_table, number, save_table, write_page
from genodiff.reproduce.runs import (
    NEAR,
    NEAR_LD,
    UNROUNDED,
    W2_SITES,
    Cache,
    Problem,
    against_many,
    genotype_errors,
    measure,
)
from genodiff.reproduce.runs import methods as methods_named
from genodiff.reproduce.tables import PAPER, Results, Target, verdicts

__all__ = ["CELLS", "FLOOR", "METHODS", "Design", "problem_of", "reproduce", "sensitivity", "targets"]

NAME = "gou-snps"

METHODS = (
    "isotropic-paper", "gou-paper", "isotropic-tuned", "genodiff", "gaussian-copula", "independent-sites", "bootstrap",
)  # fmt: skip
"""What is judged, in the order of the columns. The last two are the extremes: no linkage, and everybody a copy."""

MANY = ("genodiff", "gaussian-copula", "bootstrap")
"""Methods of which so many are drawn that sampling error vanishes."""

FLOOR = "floor (training people)"
TRUTH = "new people of the truth"
"""So many that nothing but the sampling error of the training people is left in their errors against train."""


@dataclass(frozen=True)
class Design:
    """The simulated world.

    Attributes:
        people: learned from, judged against, and drawn.
        sites: number of SNPs.
        block_size: sites per LD block.
        decay: rate of the exponential per site.
        maf_law: law of the minor-allele frequencies.
        maf_range: its bounds.
        truth: number of people who stand for the truth.
        many: number of people drawn where sampling error is to vanish.
    """

    people: int = 500
    sites: int = 1000
    block_size: int = 20
    decay: float = 0.2
    maf_law: Literal["uniform", "neutral"] = "uniform"
    maf_range: tuple[float, float] = (0.05, 0.5)
    truth: int = 20_000
    many: int = 20_000


CELLS: tuple[Design, ...] = (
    *(Design(block_size=block, decay=decay) for block in (10, 20, 50) for decay in (0.1, 0.2, 0.5)),
    *(Design(block_size=block, maf_law="neutral") for block in (10, 20, 50)),
)
"""Designs of the table of sensitivity."""


def problem_of(design: Design, *, seed: int) -> Problem:
    """People to learn from, as many others from the same truth, and a large sample of it: all unphased.

    Args:
        design: the world.
        seed: positive; different seeds share nothing.
    """
    first = simulate_ld_blocks(
        design.people, design.sites, block_size=design.block_size, decay=design.decay, maf_law=design.maf_law,
        maf_range=design.maf_range, seed=3 * seed,
    )  # fmt: skip

    def others(people: int, *, which: int) -> VariantTable:
        again = simulate_ld_blocks(
            people, design.sites, block_size=design.block_size, decay=design.decay, maf_law=first.maf,
            seed=3 * seed + which,
        ).table  # fmt: skip
        if not (again.sites["position"] == first.table.sites["position"]).all():
            raise AssertionError("the simulator moved the sites: positions must not depend on the seed")
        # Letters are drawn anew with every seed; they carry nothing, ALT is the minor allele in all three.
        return replace(again, sites=first.table.sites)

    return Problem(
        train=first.table,
        references={"test": others(design.people, which=1).dosage(), "truth": others(design.truth, which=2).dosage()},
    )


def _floors(problem: Problem, results: Results, *, seed: int) -> None:
    """What real people attain: those learned from as if they were synthetic, and the truth itself."""
    train, references = problem.train.dosage(), problem.references
    for against in ("test", "truth"):
        results.add(FLOOR, against, seed, genotype_errors(train, references[against]))
    results.add(TRUTH, "train", seed, genotype_errors(references["truth"], train))


def targets(frame: pd.DataFrame, *, many: int) -> list[Target]:
    """What genodiff is to reach: the paper's printed errors where they can be reached, and the floor elsewhere."""
    printed = PAPER["Table 2"]["gou"]
    large = against_many(many)
    found = [
        Target("genodiff", large, metric, printed[metric], f"genodiff against {large}: at most what the paper prints")
        for metric in ("mean_error", "sd_error", "w2")
    ]
    floor = frame[(frame["method"] == FLOOR) & (frame["against"] == "test")].set_index("metric")["mean"]
    return [
        *found,
        Target(
            "genodiff", "test", "cov_frobenius", 1.1 * float(floor["cov_frobenius"]),
            "genodiff against test: at most 1.1 × that of the training people",
        ),
    ]  # fmt: skip


def sensitivity(
    designs: Sequence[Design], *, budget: Length, cache: Cache, progress: bool, device: str
) -> tuple[pd.DataFrame, float]:
    """Errors of genodiff and of the floor on other designs, one seed each.

    Returns:
        One row per design and method: block_size, decay, maf_law, method and the metrics against test; and the
        seconds all fits took.
    """
    (genodiff,) = methods_named(["genodiff"], budget=budget, device=device, progress=progress)
    rows, seconds = [], 0.0
    for design in tqdm(designs, desc="sensitivity", unit="design", disable=not progress, dynamic_ncols=True):
        problem = problem_of(design, seed=1)
        outcome = measure(genodiff, problem, seed=1, people=design.people, cache=cache)
        seconds += outcome.seconds
        cell = {"block_size": design.block_size, "decay": design.decay, "maf_law": design.maf_law}
        judged = next(values for _, against, values in outcome.rows if against == "test")
        rows.append({**cell, "method": "genodiff", **judged})
        floor = genotype_errors(problem.train.dosage(), problem.references["test"])
        rows.append({**cell, "method": FLOOR, **floor})
    return pd.DataFrame(rows), seconds


def _sensitivity_page(output: Path, frame: pd.DataFrame, *, command: str, budget: Length) -> str:
    """Writes the table of sensitivity as Markdown and CSV; returns the note that points to it."""
    shown = ("mean_error", "sd_error", "cov_frobenius", "corr_frobenius", W2_SITES, "histogram_kl", NEAR_LD)
    rows = []
    for (law, block, decay), part in frame.groupby(["maf_law", "block_size", "decay"], sort=False):
        by = part.set_index("method")
        pairs = [(float(by.loc["genodiff", m]), float(by.loc[FLOOR, m])) for m in shown]
        rows.append([f"{law}, {block}, {decay:g}", *(f"{number(a)} / {number(b)} = {a / b:.2f}" for a, b in pairs)])
    stem = f"{NAME}.sensitivity"
    text = [
        "# Simulated SNPs: what depends on the choices the paper leaves open",
        f"```\n{command}\n```",
        "makes this page again. Errors of genodiff against test people, those of the training people (the floor), and "
        f"their ratio; one seed, preset {'fast' if budget == 'quick' else 'balanced'}. `{NEAR_LD}` is the slope of "
        f"correlations on those of the test people over pairs up to {NEAR} sites apart.",
        markdown_table(["MAF law, block, decay", *shown], rows),
    ]
    atomic_text(output / f"{stem}.md", "\n\n".join(text) + "\n")
    save_table(frame, output / f"{stem}.csv")
    return f"Other block sizes, rates and laws of frequency: [{stem}.md]({stem}.md)."


def _intro(design: Design) -> str:
    return (
        f"Table 2 of Taheri 2026: N = {design.people} people at d = {design.sites:,} simulated SNPs. Sites lie in "
        f"independent blocks of {design.block_size}; within a block latent normals have correlation "
        f"exp(−{design.decay:g} · distance) and are cut into 0, 1, 2 under Hardy–Weinberg proportions with "
        f"minor-allele frequencies uniform on [{design.maf_range[0]:g}, {design.maf_range[1]:g}]. The paper gives none "
        "of these numbers, so its columns are context and not a like-for-like comparison. *test* is as many new people "
        f"of the same truth, *truth* {design.truth:,} of them. {design.people} people are drawn from every method."
    )


def _notes(frame: pd.DataFrame, design: Design, *, many: int, budget: Length) -> list[str]:
    """What a reader has to know to read the numbers."""
    means = frame.set_index(["method", "against", "metric"])["mean"]
    printed = PAPER["Table 2"]["gou"]
    pure = design.sites * math.sqrt(2 / design.people)
    floor = {m: number(float(means[FLOOR, "test", m])) for m in ("mean_error", "cov_frobenius", "corr_frobenius")}
    truth = {m: number(float(means[TRUTH, "train", m])) for m in ("cov_frobenius", "corr_frobenius")}
    return [
        f"The paper's errors of {printed['mean_error']} (means) and {printed['corr_frobenius']} (correlations) lie "
        f"below what any {design.people} people attain against any other {design.people}: the floor is "
        f"{floor['mean_error']} and {floor['corr_frobenius']} (d·√(2/N) ≈ {pure:.0f} by sampling error alone). Means, "
        f"standard deviations and W2 are therefore judged on {many:,} draws against the training people.",
        f"{design.truth:,} new people of the truth itself differ from the training people by {truth['cov_frobenius']} "
        f"(covariance) and {truth['corr_frobenius']} (correlation). A method that comes much nearer has learned the "
        "sampling error of its training people, as *bootstrap* does. For correlations that part is d/√N ≈ "
        f"{pure / math.sqrt(2):.0f} whatever the frequencies, so that the printed {printed['corr_frobenius']} is "
        "either of that kind or of a norm defined otherwise.",
        f"*{FLOOR}* puts the people learned from in the place of synthetic people. *bootstrap* copies them and is an "
        "extreme, not a method.",
        "*isotropic-paper* and *gou-paper* draw real numbers: they are judged after rounding to 0, 1, 2 and as they "
        f"come (“{UNROUNDED.strip(', ')}”; KL has one bin per genotype in both). A standard deviation of "
        "genotypes cannot exceed 1, so that the printed "
        "error of 2.68 of the isotropic model must be one of unrounded values.",
        f"`{NEAR_LD}` is the slope of correlations on those of the reference over pairs up to {NEAR} sites apart: 1 is "
        "right, less is linkage lost. Frobenius norms over all pairs are mostly sampling error and can hide that; with "
        "a small reference its own noise keeps even real people a little below 1.",
        f"`{W2_SITES}` is the 2-Wasserstein distance averaged over all SNPs, in place of the first five.",
        *([] if budget == "full" else [
            "Quick budget: fast preset, a fifth of the training steps of the plain networks. "
        ]),
    ]  # fmt: skip


def reproduce(
    output: Path,
    *,
    seeds: int | None = None,
    budget: Length = "quick",
    progress: bool = False,
    device: str = "auto",
    design: Design | None = None,
    cells: Sequence[Design] = CELLS,
    sensitive: bool | None = None,
    methods: Sequence[str] = METHODS,
) -> Path:
    """Runs Table 2 again and writes its page.

    Args:
        output: folder of the page; what is measured is remembered in its ``.cache``, so that an interrupted run goes
            on when it is started again.
        seeds: number of seeds; 2 for quick and 5 for full if ``None``.
        budget: ``quick`` is the fast preset; ``full`` the balanced one.
        progress: show bars.
        device: auto, cpu, cuda or mps.
        design: the world; that of the page if ``None``.
        cells: designs of the table of sensitivity.
        sensitive: make that table; in the full budget alone if ``None``.
        methods: what is judged; ``genodiff`` must be among them.

    Returns:
        path of the page.
    """
    count = seeds_for(budget, seeds)
    design = design or Design(many=1_000 if budget == "quick" else Design.many)
    cache = Cache(output / ".cache")
    sensitive = budget == "full" if sensitive is None else sensitive
    command = f"genodiff reproduce {NAME} --budget {budget} --seeds {count}"
    chosen = methods_named(methods, budget=budget, device=device, progress=progress)
    results, seconds = Results(), 0.0
    with tqdm(total=count * len(chosen), desc=NAME, unit="fit", disable=not progress, dynamic_ncols=True) as bar:
        for seed in range(1, count + 1):
            problem = problem_of(design, seed=seed)
            for method in chosen:
                bar.set_postfix_str(f"{method.name}, seed {seed}")
                many = design.many if method.name in MANY else 0
                outcome = measure(method, problem, seed=seed, people=design.people, cache=cache, many=many)
                outcome.add_to(results, seed=seed)
                seconds += outcome.seconds
                bar.update()
            _floors(problem, results, seed=seed)
    frame = results.frame()
    notes = _notes(frame, design, many=design.many, budget=budget)
    if sensitive and cells:
        command += "" if budget == "full" else " --sensitivity"
        cells_frame, more = sensitivity(cells, budget=budget, cache=cache, progress=progress, device=device)
        notes.append(_sensitivity_page(output, cells_frame, command=command, budget=budget))
        seconds += more
    return write_page(
        output,
        name=NAME,
        title="Simulated SNPs (Table 2)",
        intro=_intro(design),
        results=results,
        paper=PAPER["Table 2"],
        checks=verdicts(frame, targets(frame, many=design.many)),
        figures=[],
        command=command,
        notes=notes,
        seconds=seconds,
    )
