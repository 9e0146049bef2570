"""The published artificial genomes of Yelmen et al. 2021 (805 sites, GAN and RBM) and ours, judged alike.

Both published models were trained on all 2,504 people of the 1000 Genomes Project, and nobody was held out. The real
people are therefore halved anew for every seed: every set of synthetic people is compared with one half, and the other
half in its place is the floor. Our model takes part twice: fitted on everybody, as they were, and on one half alone,
the only setting in which somebody was not learned from and privacy can be attacked.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.files import DAMAGED, read_text, require_file
from data_prep.splits import split_people
from data_prep.variants import VariantTable
from genodiff.baselines import baseline
from genodiff.evaluation.structure import fit_pca
from genodiff.evaluation.suite import evaluate
from genodiff.files import atomic_text
from genodiff.genotypes.config import ModelConfig, preset
from genodiff.genotypes.model import MIN_PEOPLE, GenotypeModel
from genodiff.report.style import REAL, SYNTHETIC, TRAIN, grid, limits, styled
from genodiff.reproduce import Length, seeds_for
from genodiff.reproduce.costs import code_digest, measured
from genodiff.reproduce.page import markdown_table, number, save_figure, save_table
from genodiff.reproduce.runs import Cache, Outcome
from genodiff.reproduce.tables import Results

__all__ = ["EVERYBODY", "HALF", "ROWS", "Genomes", "Row", "Rule", "compare", "read_genomes", "reproduce"]

NAME = "artificial-genomes"
KEYS = ("real", "gan", "rbm")
_UNREADABLE: tuple[type[Exception], ...] = (
    *DAMAGED, ValueError, LookupError, NotImplementedError, MemoryError, zipfile.BadZipFile,
)  # fmt: skip
"""What NumPy raises on a file that is no archive of arrays."""

PUBLISHED = {"RBM": "rbm", "GAN": "gan"}
MADE = {"genodiff": "genodiff", "independent sites": "independent-sites", "bootstrap": "bootstrap"}
"""What is fitted here. The last two are the extremes: no linkage, and everybody a copy."""

EVERYBODY, HALF = "everybody", "half"
FLOOR = "floor (real people)"

_NEEDS_PEOPLE = frozenset((
    "genotype_frequency_mae", "f_is", "f_is_holdout", "heterozygosity", "heterozygosity_holdout", "mean_error",
    "sd_error", "cov_frobenius", "corr_frobenius", "w2_per_site", "histogram_kl",
))  # fmt: skip
"""Metrics of dosages, without meaning where haplotypes were paired at random."""

_NEEDS_UNSEEN = frozenset(("privacy_loss", "privacy_loss_matched", "membership_auc"))
"""Metrics that need people who were not learned from."""


@dataclass(frozen=True)
class Rule:
    """What is better.

    Attributes:
        words: for the table.
        distance: (value, floor) → what is to be small.
    """

    words: str
    distance: Callable[[float, float], float]


LESS = Rule("less", lambda value, floor: value)
MORE = Rule("more", lambda value, floor: -value)
ONE = Rule("near 1", lambda value, floor: abs(value - 1))
HALVES = Rule("near ½", lambda value, floor: abs(value - 0.5))
NEAR = Rule("near the floor", lambda value, floor: abs(value - floor))
NOT_ABOVE = Rule("not above the floor", lambda value, floor: max(0.0, value - floor))


@dataclass(frozen=True)
class Row:
    """One line of the tables.

    Attributes:
        metric: name of :func:`genodiff.evaluation.suite.evaluate`.
        label: the metric in words.
        rule: what is better.
    """

    metric: str
    label: str
    rule: Rule


ROWS = (
    Row("af_mae", "allele-frequency MAE", LESS),
    Row("af_r", "allele-frequency r", MORE),
    Row("ld_decay_mae", "LD-decay MAE", LESS),
    Row("near_pair_r2_corr", "near-pair r², correlation", MORE),
    Row("near_pair_r2_ratio", "near-pair r², ratio", ONE),
    Row("three_point_r", "three-point r", MORE),
    Row("pca_w2", "PCA-W2", LESS),
    Row("precision", "precision", NEAR),
    Row("recall", "recall", NEAR),
    Row("c2st_auc", "C2ST", HALVES),
    Row("aa_truth", "AA, real half", NEAR),
    Row("aa_syn", "AA, synthetic half", NEAR),
    Row("f_is", "F_IS", NEAR),
    Row("copied_run_mean", "copied run, mean (sites)", NOT_ABOVE),
    Row("copied_run_max", "copied run, longest (sites)", NOT_ABOVE),
    Row("exact_copies", "exact copies", NOT_ABOVE),
    Row("membership_auc", "membership AUC", NOT_ABOVE),
    Row("privacy_loss", "privacy loss", NOT_ABOVE),
)
"""What the page shows; the CSV has every metric. Two recalls or halves of adversarial accuracy are compared by their
distance to the floor: more than real people have is as wrong as less."""


@dataclass(frozen=True)
class Genomes:
    """Real people and the published haplotypes at the same sites.

    Attributes:
        real: the people, haplotypes 2i and 2i + 1 of the file those of person i.
        published: haplotypes (rows, sites) by method, int8 in 0/1.
        source: name of the file.
    """

    real: VariantTable
    published: Mapping[str, NDArray[np.int8]]
    source: str

    def digest(self) -> str:
        """A hash of all alleles and sites."""
        digest = hashlib.sha256("\n".join(self.real.site_keys).encode())
        digest.update(np.ascontiguousarray(self.real.haplotypes).tobytes())
        for name, rows in self.published.items():
            digest.update(f"{name} {rows.shape}".encode())
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def drawn(self, name: str, people: int, *, seed: int) -> VariantTable:
        """Some of the published haplotypes, paired at random: they were made one by one and belong to nobody."""
        rows = self.published[name]
        chosen = np.random.default_rng([seed, 805]).permutation(len(rows))[: 2 * people]
        return _people(rows[chosen], self.real.sites, prefix=name)


def _people(rows: NDArray[np.int8], sites: pd.DataFrame, *, prefix: str) -> VariantTable:
    haplotypes = np.ascontiguousarray(rows.reshape(-1, 2, rows.shape[1]).transpose(0, 2, 1))
    names = [f"{prefix}{i:05d}" for i in range(1, len(haplotypes) + 1)]
    return VariantTable(haplotypes, sites, pd.DataFrame(index=pd.Index(names, name="sample")))


def _alleles(path: Path) -> dict[str, NDArray[np.int8]]:
    """The three matrices of a file, (haplotypes, sites) in 0/1."""
    require_file(path, what="artificial genomes (.npz)")
    try:
        # Of a damaged archive numpy leaves the file open.
        with path.open("rb") as handle:
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(f"{path} holds one array: give an .npz with the arrays {', '.join(KEYS)}")
            absent = [key for key in KEYS if key not in file]
            if absent:
                raise InputError(f"{path} has no array {absent[0]!r}: give an .npz with the arrays {', '.join(KEYS)}")
            arrays = {key: file[key] for key in KEYS}
    except _UNREADABLE as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise InputError(f"{path} is no .npz of numbers that can be read{why}: copy or make the file again") from error
    for key, array in arrays.items():
        if array.ndim != 2 or not array.size:
            raise InputError(f"{path}: {key} has shape {array.shape}: give haplotypes × sites")
        if array.shape[1] != arrays["real"].shape[1]:
            raise InputError(
                f"{path}: {key} has {array.shape[1]:,} sites and real {arrays['real'].shape[1]:,}: give the same sites"
            )
        wrong = np.argwhere((array != 0) & (array != 1))
        if len(wrong):
            i, j = wrong[0]
            raise InputError(f"{path}: {key} holds {array[i, j]} in row {i}, site {j}: alleles are 0 or 1")
    return {key: np.ascontiguousarray(array, dtype=np.int8) for key, array in arrays.items()}


def _sites(path: Path, count: int) -> pd.DataFrame:
    """Sites of a legend: header ``id position a0 a1``, and ids that begin with the contig and a colon."""
    lines = read_text(path, what="legend")
    header = lines[0][1].split()
    if header[:4] != ["id", "position", "a0", "a1"]:
        raise InputError(f"{path}, line {lines[0][0]}: the header must be 'id position a0 a1'")
    records: list[tuple[str, int, str, str, str]] = []
    for line, text in lines[1:]:
        fields = text.split()
        contig, colon, _ = fields[0].partition(":")
        if len(fields) < 4 or not colon or not fields[1].isdigit() or int(fields[1]) < 1:
            raise InputError(f"{path}, line {line}: expected contig:name, position, a0 and a1, as in '22:rs1 1000 A G'")
        position = int(fields[1])
        if records and records[-1][0] == contig and records[-1][1] > position:
            raise InputError(f"{path}, line {line}: positions go back within contig {contig}: sort file and legend")
        records.append((contig, position, fields[0], fields[2], fields[3]))
    if len(records) != count:
        raise InputError(f"{path} has {len(records):,} sites and the haplotypes {count:,}: give the legend of the file")
    return pd.DataFrame(records, columns=["contig", "position", "id", "ref", "alt"])


def read_genomes(npz: Path, legend: Path | None = None) -> Genomes:
    """Reads the real and the published haplotypes.

    Args:
        npz: arrays ``real``, ``gan`` and ``rbm``, haplotypes × sites in 0/1.
        legend: positions of the sites; the file of the same name with the suffix ``.legend`` if ``None``.

    Raises:
        InputError: a file that cannot be used, or too few people.
    """
    arrays = _alleles(npz)
    sites = _sites(npz.with_suffix(".legend") if legend is None else legend, arrays["real"].shape[1])
    real = arrays["real"]
    if len(real) % 2:
        raise InputError(f"{npz}: real has {len(real):,} haplotypes: an even number is needed, two of every person")
    for key, array in arrays.items():
        # A half of the real people has to suffice for a model.
        least = 2 * MIN_PEOPLE * (2 if key == "real" else 1)
        if len(array) < least:
            raise InputError(f"{npz}: {key} has {len(array):,} haplotypes: at least {least} are needed")
    published = {name: arrays[key] for name, key in PUBLISHED.items()}
    return Genomes(_people(real, sites, prefix="real"), published, npz.name)


def draw(
    method: str, train: VariantTable, people: int, *, seed: int, config: ModelConfig, device: str, progress: bool
) -> VariantTable:
    """Fits a method and draws people from it.

    Args:
        method: ``genodiff`` or a baseline.
        train: whom it learns from.
        people: number of people drawn.
        seed: of fitting and drawing.
        config: of genodiff.
        device: where to train.
        progress: show bars.
    """
    if method == "genodiff":
        model = GenotypeModel(config).fit(train, seed=seed, device=device, progress=progress)
        return model.sample(people, seed=seed, progress=progress)
    return baseline(method).generate(train, people, seed=seed, device=device, progress=progress)


@dataclass(frozen=True)
class _Runner:
    """What all cells of a run share."""

    genomes: Genomes
    cache: Cache
    config: ModelConfig
    device: str
    progress: bool

    def halves(self, seed: int) -> tuple[VariantTable, VariantTable]:
        """The half that is (also) learned from, and the half that is compared with."""
        real = self.genomes.real
        first, second = split_people(real, holdout=0.5, seed=seed)
        return real.select(samples=first), real.select(samples=second)

    def outcome(self, name: str, setting: str, *, seed: int) -> Outcome:
        """One method in one setting, made or remembered; its people as haplotypes where the figure needs them."""
        first, second = self.halves(seed)
        published = name in self.genomes.published
        n = min(first.n_samples, *(len(rows) // 2 for rows in self.genomes.published.values()))
        key: dict[str, Any] = {"seed": seed, "people": n, "data": self.genomes.digest(), "code": _code(name)}
        if not published:
            key |= {"setting": setting, "device": self.device}
        if name == "genodiff":
            key["config"] = self.config.to_dict()
        keep = name == "genodiff" and seed == 1
        stem = name.replace(" ", "-")
        known = self.cache.get(stem, key, people=keep)
        if known is None:
            known = self._make(name, setting, n, seed=seed, halves=(first, second), keep=keep)
            self.cache.put(stem, key, known)
        known.rows = [(method, setting, metrics) for method, _, metrics in known.rows]
        return known

    def _make(
        self, name: str, setting: str, n: int, *, seed: int, halves: tuple[VariantTable, VariantTable], keep: bool
    ) -> Outcome:
        first, second = halves
        hidden: frozenset[str] = frozenset()
        own: dict[str, float] = {}
        if name in self.genomes.published:
            synthetic, hidden = self.genomes.drawn(name, n, seed=seed), _NEEDS_PEOPLE | _NEEDS_UNSEEN
        else:
            train = first if setting == HALF else self.genomes.real
            synthetic, cost = measured(
                draw, MADE[name], train, n, seed=seed, config=self.config, device=self.device, progress=self.progress
            )
            own = {"seconds": cost.seconds, "peak_memory_mb": cost.megabytes}
            hidden = hidden if setting == HALF else _NEEDS_UNSEEN
        frame = evaluate(synthetic, train=first, holdout=second, seed=seed)
        value, floor = (dict(zip(frame["metric"], frame[c], strict=True)) for c in ("value", "floor"))
        shown = {metric: v for metric, v in value.items() if metric not in hidden}
        rows = [(name, setting, shown | own), (FLOOR, setting, {m: v for m, v in floor.items() if math.isfinite(v)})]
        return Outcome(rows, own.get("seconds", 0.0), synthetic.haplotype_rows() if keep else None)


@cache
def _code(name: str) -> str:
    """The code a cell depends on."""
    used = ["genodiff.evaluation"]
    if name == "genodiff":
        used += ["genodiff.core", "genodiff.genotypes", "data_prep.blocks"]
    elif name in MADE:
        used += ["genodiff.baselines"]
    return code_digest(*used)


def compare(long: pd.DataFrame, setting: str, *, ours: str = "genodiff", theirs: str = "RBM") -> pd.DataFrame:
    """Row by row, which of two methods is better by the rule of the row.

    Args:
        long: as from :meth:`genodiff.reproduce.tables.Results.long`.
        setting: ``everybody`` or ``half``.
        ours, theirs: names of the methods.

    Returns:
        one row per row of :data:`ROWS` that was measured for both: ``metric``, ``label``, ``verdict`` (``better``,
        ``even`` or ``worse``, of the means over seeds), ``agree`` (number of seeds with the same verdict) and
        ``seeds``.
    """
    chosen = long[long["against"] == setting]
    table = chosen.pivot_table(index=["metric", "seed"], columns="method", values="value", dropna=False)
    found = []
    for row in ROWS:
        if row.metric not in table.index.get_level_values("metric"):
            continue
        values = table.loc[row.metric, [ours, theirs, FLOOR]]
        if values[[ours, theirs]].isna().any(axis=None):
            continue
        verdicts = [_verdict(row.rule, *v) for v in values.to_numpy(dtype=float)]
        verdict = _verdict(row.rule, *values.mean().to_numpy(dtype=float))
        found.append((row.metric, row.label, verdict, verdicts.count(verdict), len(verdicts)))
    return pd.DataFrame(found, columns=["metric", "label", "verdict", "agree", "seeds"])


def _verdict(rule: Rule, ours: float, theirs: float, floor: float) -> str:
    a, b = (rule.distance(value, floor) for value in (ours, theirs))
    return "even" if a == b else "better" if a < b else "worse"


def _summary(judged: pd.DataFrame, theirs: str) -> str:
    """How many rows, and which not, in a sentence."""
    count = judged["verdict"].value_counts()
    text = f"genodiff is better than the {theirs} on {count.get('better', 0)} of {len(judged)} rows"
    for verdict in ("even", "worse"):
        names = judged.loc[judged["verdict"] == verdict, "label"]
        text += f", {verdict} on {len(names)}" + (f" ({'; '.join(names)})" if len(names) else "")
    return text + "."


def _table(long: pd.DataFrame, frame: pd.DataFrame, setting: str) -> str:
    methods = [FLOOR, *PUBLISHED, *MADE]
    cells = {
        (m, metric): number(mean) if math.isnan(sd) else f"{number(mean)} ± {number(sd)}"
        for m, metric, mean, sd in frame.loc[
            frame["against"] == setting, ["method", "metric", "mean", "sd"]
        ].itertuples(index=False)
    }
    judged = {theirs: compare(long, setting, theirs=theirs).set_index("metric") for theirs in PUBLISHED}

    def said(metric: str, theirs: str) -> str:
        if metric not in judged[theirs].index:
            return ""
        of = judged[theirs].loc[metric]
        text = f"**{of['verdict']}**" if of["verdict"] == "worse" else str(of["verdict"])
        return text if of["seeds"] == 1 else f"{text} ({of['agree']}/{of['seeds']})"

    rows = [
        [row.label, row.rule.words, *(cells.get((m, row.metric), "–") for m in methods),
         *(said(row.metric, theirs) for theirs in PUBLISHED)]
        for row in ROWS
    ]  # fmt: skip
    for metric, label in (("seconds", "seconds"), ("peak_memory_mb", "peak memory, MB")):
        rows.append([label, "less", *(cells.get((m, metric), "–") for m in methods), "", ""])
    return markdown_table(["", "good is", *methods, *(f"genodiff, beside {name}" for name in PUBLISHED)], rows)


@styled
def structure_figure(real: tuple[NDArray[np.int8], NDArray[np.int8]], drawn: Mapping[str, NDArray[np.int8]]) -> Figure:
    """Principal components and correlations of neighbouring sites, one column per method.

    Args:
        real: haplotypes of the half that takes the place of synthetic people, and of the half compared with.
        drawn: haplotypes by method.
    """
    shown = {"real, other half": real[0], **drawn}
    model = fit_pca(real[1], components=2)
    points = {name: model.project(rows) for name, rows in shown.items()}
    background = model.project(real[1])
    expected = _neighbour_r(real[1])
    figure, axes = grid(2, len(shown), width=2.75 * len(shown), height=5.6, sharex=False, sharey=False)
    x, y = (limits(background[:, k], *(p[:, k] for p in points.values())) for k in (0, 1))
    for column, (name, rows) in enumerate(shown.items()):
        colour = TRAIN if column == 0 else SYNTHETIC if name.startswith("genodiff") else "#6b4c9a"
        top, bottom = axes[:, column]
        top.scatter(*background.T, s=2, color=REAL, alpha=0.25, linewidths=0, rasterized=True)
        top.scatter(*points[name].T, s=2, color=colour, alpha=0.35, linewidths=0, rasterized=True)
        top.set(title=name, xlim=x, ylim=y, xlabel="PC1")
        found = _neighbour_r(rows)
        bottom.plot([-1, 1], [-1, 1], color=TRAIN, linewidth=0.8)
        bottom.scatter(expected, found, s=3, color=colour, alpha=0.4, linewidths=0, rasterized=True)
        error = float(np.nanmean(np.abs(found - expected)))
        bottom.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="r, real")
        bottom.text(0.04, 0.93, f"mean |difference| {error:.3f}", transform=bottom.transAxes, fontsize=8.5)
        bottom.set_box_aspect(1)
        if column:
            top.tick_params(labelleft=False)
            bottom.tick_params(labelleft=False)
    axes[0, 0].set_ylabel("PC2")
    axes[1, 0].set_ylabel("r of neighbouring sites")
    return figure


def _neighbour_r(rows: NDArray[np.int8], *, lags: int = 3) -> NDArray[np.float64]:
    """Correlation of sites up to three apart, (pairs,); NaN where one of them is fixed."""
    centred = rows - rows.mean(axis=0)
    sd = np.sqrt(np.mean(centred**2, axis=0))
    z = np.divide(centred, sd, out=np.full_like(centred, np.nan), where=sd > 0)
    return np.concatenate([np.mean(z[:, k:] * z[:, :-k], axis=0) for k in range(1, min(lags, rows.shape[1] - 1) + 1)])


def _notes(genomes: Genomes, config: ModelConfig, *, budget: Length, drawn: int) -> list[str]:
    sizes = ", ".join(f"{len(rows):,} ({name})" for name, rows in genomes.published.items())
    fitted = "fast" if budget == "quick" else "balanced"
    return [
        f"Published haplotypes: {sizes}, made one by one. They belong to nobody: {drawn:,} people are made of them by "
        "pairing at random, anew for every seed. F_IS and all metrics of dosages would speak of that pairing and are "
        "left out for them. Haplotypes 2i and 2i + 1 of the real data are taken for those of one person; F_IS of "
        "people who are a mixture of populations is positive, and that of haplotypes paired at random is 0.",
        "GAN and RBM were trained on everybody: both halves are members for them. Their agreement with the half that "
        "is compared with is flattered by that wherever a model copies, there is nobody they have not seen, and so "
        "they have neither membership AUC nor privacy loss.",
        "*Copied run* and *exact copies* look at one half of the people. All of whom a model of the setting *half* has "
        "learned are in it, but only half of the members of every other model.",
        "Adversarial accuracy, precision and recall are compared by their distance to the floor, since more than real "
        "people have is as wrong as less, and C2ST by its distance to ½: copies of the people compared with push it "
        "below. What lies below the floor of a leak counts as no leak, so that two methods "
        "without one are even.",
        "Allele frequencies of genodiff are held to those of its training people while sampling; where these include "
        "the people compared with, the error can fall below the floor.",
        "No mosaic (Li–Stephens, HAPNEST): it would need one contig and sites close enough to be linked, and these "
        "lie megabases apart on 22 chromosomes. *bootstrap* copies people and is what memory alone attains; "
        "*independent sites* has no linkage.",
        f"genodiff: preset {fitted}, no labels, {config.passes or 0:g} passes. Seconds are those of fitting and "
        "drawing; memory is the largest of a process of its own, interpreter and libraries included. Those of the "
        "published models are not known.",
        "With one seed, differences of the size of the floor's own error (that of halving) decide some rows: more "
        "seeds average it out, and the number of them that agree stands beside each verdict.",
    ]  # fmt: skip


def reproduce(
    output: Path,
    *,
    npz: Path,
    legend: Path | None = None,
    seeds: int | None = None,
    budget: Length = "quick",
    progress: bool = False,
    device: str = "auto",
    config: ModelConfig | None = None,
) -> Path:
    """Judges the published artificial genomes and ours, and writes the page.

    Args:
        output: folder of the page; what is measured is remembered in its ``.cache``, so that an interrupted run goes
            on when it is started again.
        npz: real and published haplotypes, see :func:`read_genomes`.
        legend: positions of the sites; beside ``npz`` if ``None``.
        seeds: number of seeds; 2 for quick and 5 for full if ``None``.
        budget: ``quick`` is the fast preset, ``full`` the balanced one.
        progress: show bars.
        device: auto, cpu, cuda or mps.
        config: of genodiff, instead of the preset.

    Returns:
        path of the page.

    Raises:
        InputError: haplotypes or legend that cannot be used.
    """
    count = seeds_for(budget, seeds)
    genomes = read_genomes(npz, legend)
    chosen = config or preset("fast" if budget == "quick" else "balanced")
    runner = _Runner(genomes, Cache(output / ".cache"), chosen, device, progress)
    results, seconds, shown = Results(), 0.0, {}
    jobs = [(s, setting, m) for s in range(1, count + 1) for setting in (EVERYBODY, HALF) for m in (*PUBLISHED, *MADE)]
    with tqdm(jobs, desc=NAME, unit="fit", disable=not progress, dynamic_ncols=True) as bar:
        for seed, setting, method in bar:
            bar.set_postfix_str(f"{method}, {setting}, seed {seed}")
            outcome = runner.outcome(method, setting, seed=seed)
            for name, against, metrics in outcome.rows:
                # Every cell brings the floor of its halves; one of them is enough.
                if name != FLOOR or method == "genodiff":
                    results.add(name, against, seed, metrics)
            seconds += outcome.seconds
            if outcome.dosage is not None:
                shown[f"genodiff, {setting}"] = outcome.dosage
    first, second = (half.haplotype_rows() for half in runner.halves(1))
    people = len(next(iter(shown.values()))) // 2
    published = {name: genomes.drawn(name, people, seed=1).haplotype_rows() for name in PUBLISHED}
    save_figure(structure_figure((first, second), published | shown), output / f"{NAME}.png")
    return _write(
        output, results, genomes, chosen, budget=budget, seconds=seconds, people=people,
        command=f"genodiff reproduce {NAME} {npz.name}{'' if legend is None else f' --legend {legend.name}'} "
        f"--budget {budget} --seeds {count}",
    )  # fmt: skip


def _write(
    output: Path, results: Results, genomes: Genomes, config: ModelConfig, *, budget: Length, seconds: float,
    people: int, command: str,
) -> Path:  # fmt: skip
    long, frame = results.long(), results.frame()
    save_table(frame, output / f"{NAME}.csv")
    save_table(long, output / f"{NAME}.seeds.csv")
    real = genomes.real
    spread = "mean ± standard deviation over seeds" if len(results.seeds) > 1 else "one seed"
    parts = [
        "# Published artificial genomes and ours",
        f"The GAN and the RBM of Yelmen et al. (2021) as published, with the {real.n_samples:,} real people at "
        f"{real.n_variants:,} sites of {real.sites['contig'].nunique()} chromosomes they were trained on, all judged "
        f"by the whole evaluation of this project. For every seed the real people are halved; {people:,} synthetic "
        "people of every method are compared with one half, and the floor is the other half in their place.",
        f"```\n{command}\n```",
        f"makes this page again. Seeds {', '.join(map(str, results.seeds))}; {spread}; fitting and drawing took "
        f"{seconds / 60:.1f} minutes. Every metric is in [{NAME}.csv]({NAME}.csv), by seed in "
        f"[{NAME}.seeds.csv]({NAME}.seeds.csv).",
    ]
    for setting, heading, text in (
        (EVERYBODY, "All three learned from everybody",
         "Like for like: genodiff learned from all people, as GAN and RBM did. Everybody is a member, so that nothing "
         "here tells fidelity from memory: whoever copies, as *bootstrap* does, agrees best, and what is closer than "
         "the floor (adversarial accuracy below it, copied runs above it) is a leak."),
        (HALF, "genodiff learned from one half",
         "genodiff, *independent sites* and *bootstrap* learned from the other half alone and are judged by people "
         "they have never seen; GAN and RBM learned from the judging half too, and their columns are those of above. "
         "Membership AUC and privacy loss exist only here."),
    ):  # fmt: skip
        parts += [f"## {heading}", text, _table(long, frame, setting)]
        parts += [" ".join(_summary(compare(long, setting, theirs=theirs), theirs) for theirs in PUBLISHED)]
    caption = (
        "Above: haplotypes in the first two principal components of the half compared with (blue). Below: correlations "
        "of sites up to three apart against those of that half. Seed 1."
    )
    notes = _notes(genomes, config, budget=budget, drawn=people)
    parts += ["## Figure", f"![{caption}]({NAME}.png)\n\n*{caption}*"]
    parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return atomic_text(output / f"{NAME}.md", "\n\n".join(parts) + "\n")
