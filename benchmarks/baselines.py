r"""genodiff beside every baseline on one region: fidelity against leakage.

    python benchmarks/baselines.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv \
        --map ../shared/data/chr22.b38.gmap.gz -o docs/results

Methods learn from the people whose row of the panel says ``train`` in the column ``split`` and are judged by those
whose row says ``test``. Writes ``baselines.md``, ``baselines.csv`` and ``baselines/frontier.png``. Every cell is
remembered in ``baselines/.cache`` of the output folder under all it depends on, the code of the method among them, so
that an interrupted run goes on and no table mixes two models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from people import development
from tqdm import tqdm

from data_prep.maps import GeneticMap, read_map
from data_prep.variants import VariantTable
from genodiff.baselines import baseline
from genodiff.evaluation.suite import evaluate
from genodiff.files import atomic_text
from genodiff.genotypes.config import ModelConfig, preset
from genodiff.genotypes.model import GenotypeModel
from genodiff.report.style import INK, SYNTHETIC, TRAIN, grid, styled
from genodiff.reproduce.costs import code_digest, measured
from genodiff.reproduce.page import markdown_table, number, save_figure, save_table
from genodiff.reproduce.runs import Cache, Outcome, Problem

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "genodiff, fast": ("genodiff", {"preset": "fast"}),
    "genodiff, balanced": ("genodiff", {}),
    "genodiff, best": ("genodiff", {"preset": "best"}),
    "genodiff, 4 passes": ("genodiff", {"passes": 4, "least_steps": 100}),
    "genodiff, 12 passes": ("genodiff", {"passes": 12, "least_steps": 100}),
    "genodiff, 48 passes": ("genodiff", {"passes": 48}),
    "genodiff, 96 passes": ("genodiff", {"passes": 96}),
    "genodiff, width 64": ("genodiff", {"width": 64}),
    "genodiff, width 192": ("genodiff", {"width": 192}),
    "genodiff, isotropic drift": ("isotropic-tuned", {}),
    "Li–Stephens, Ne 2,000": ("li-stephens", {"ne": 2_000.0}),
    "Li–Stephens, Ne 11,418": ("li-stephens", {"ne": 11_418.0}),
    "Li–Stephens, Ne 40,000": ("li-stephens", {"ne": 40_000.0}),
    "Li–Stephens, Ne 150,000": ("li-stephens", {"ne": 150_000.0}),
    "Li–Stephens, Ne 600,000": ("li-stephens", {"ne": 600_000.0}),
    "HAPNEST, Ne 100": ("hapnest", {"ne": 100.0}),
    "HAPNEST, Ne 500": ("hapnest", {"ne": 500.0}),
    "HAPNEST, Ne 2,500": ("hapnest", {"ne": 2_500.0}),
    "HAPNEST, as published": ("hapnest", {}),
    "HAPNEST, Ne 50,000": ("hapnest", {"ne": 50_000.0}),
    "Gaussian copula": ("gaussian-copula", {}),
    "Gaussian": ("gaussian", {}),
    "isotropic DDPM (paper)": ("isotropic-paper", {}),
    "GOU, plain network (paper)": ("gou-paper", {}),
    "independent sites": ("independent-sites", {}),
    "bootstrap": ("bootstrap", {}),
}

DOSAGES = ("isotropic DDPM (paper)", "GOU, plain network (paper)")
"""Methods without phase, whose people are compared as people: their floors are others."""


@dataclass(frozen=True)
class Sweep:
    """A method over one of its settings, in the figure a line.

    Attributes:
        name: written at the line.
        colour, marker: of the line; the colours are those of Okabe and Ito, which all eyes can tell apart.
        members: what the line joins, in order, with what is written at each point.
    """

    name: str
    colour: str
    marker: str
    members: dict[str, str]


SWEEPS = (
    Sweep("genodiff over passes, 4 to 96", SYNTHETIC, "o", {
        "genodiff, 4 passes": "4 passes", "genodiff, 12 passes": "", "genodiff, balanced": "", "genodiff, 48 passes":
        "", "genodiff, 96 passes": "96 passes",
    }),
    Sweep("genodiff over width, 64 to 192", "#8a3b6e", "^", {
        "genodiff, width 64": "", "genodiff, balanced": "", "genodiff, width 192": "",
    }),
    Sweep("genodiff: fast, balanced, best", INK, "D", {
        "genodiff, fast": "", "genodiff, balanced": "balanced", "genodiff, best": "",
    }),
    Sweep("Li–Stephens over Nₑ, 2,000 to 600,000", "#0072b2", "s", {
        "Li–Stephens, Ne 2,000": "2,000", "Li–Stephens, Ne 11,418": "", "Li–Stephens, Ne 40,000": "40,000",
        "Li–Stephens, Ne 150,000": "150,000", "Li–Stephens, Ne 600,000": "600,000",
    }),
    Sweep("HAPNEST over Nₑ, 100 to 50,000", "#009e73", "v", {
        "HAPNEST, Ne 100": "100", "HAPNEST, Ne 500": "500", "HAPNEST, Ne 2,500": "2,500",
        "HAPNEST, as published": "published", "HAPNEST, Ne 50,000": "50,000",
    }),
)  # fmt: skip

SINGLE = {
    "genodiff, isotropic drift": "isotropic drift",
    "Gaussian copula": "copula",
    "Gaussian": "Gaussian",
    "isotropic DDPM (paper)": "DDPM",
    "GOU, plain network (paper)": "GOU",
    "independent sites": "independent",
    "bootstrap": "bootstrap",
}
"""Methods that are one point, and what is written at it."""

UP = {
    "c2st_auc": "C2ST (½ is best)",
    "ld_decay_mae": "LD-decay MAE (less is better)",
    "aa_truth": "AA, real half (the floor is best)",
}
ACROSS = {"membership_auc": "membership AUC", "privacy_loss": "privacy loss"}

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
    "seconds": "s",
    "peak_memory_mb": "MB",
}


def _config(options: dict[str, Any]) -> ModelConfig:
    """A preset with changes; ``width`` is that of the network."""
    changes = {k: v for k, v in options.items() if k not in ("preset", "width")}
    config = replace(preset(options.get("preset", "balanced")), **changes)
    width = options.get("width", config.network.width)
    return replace(config, network=replace(config.network, width=width))


def generate(
    method: str, options: dict[str, Any], train: VariantTable, *, seed: int, genetic_map: GeneticMap | None
) -> VariantTable:
    """As many people as are learned from."""
    if method == "genodiff":
        model = GenotypeModel(_config(options)).fit(train, seed=seed, progress=True)
        return model.sample(train.n_samples, seed=seed, progress=True)
    return baseline(method, **options).generate(train, train.n_samples, seed=seed, genetic_map=genetic_map)


@cache
def _code(method: str) -> str:
    """The code a cell depends on."""
    used = ["genodiff.evaluation"]
    if method == "genodiff" or "isotropic" in method or method == "gou-paper":
        used += ["genodiff.core", "genodiff.genotypes", "data_prep.blocks"]
    return code_digest(*used, *(["genodiff.baselines"] if method != "genodiff" else []))


@dataclass(frozen=True)
class Bench:
    """People, and where cells are remembered."""

    train: VariantTable
    holdout: VariantTable
    genetic_map: GeneticMap | None
    cache: Cache

    @cached_property
    def digest(self) -> str:
        """A hash of all people, sites and the map."""
        return Problem(self.train, {"test": self.holdout.haplotype_rows()}, self.genetic_map).digest()

    def cell(self, name: str, *, seed: int, make: bool) -> Outcome | None:
        """One method and seed, judged; ``None`` if it is not there and not to be made."""
        method, options = METHODS[name]
        settings = _config(options).to_dict() if method == "genodiff" else options
        key = {"settings": settings, "seed": seed, "data": self.digest, "code": _code(method)}
        known = self.cache.get(method, key, people=False)
        if known is None and make:
            people, cost = measured(generate, method, options, self.train, seed=seed, genetic_map=self.genetic_map)
            frame = evaluate(people, train=self.train, holdout=self.holdout, seed=seed)
            value, floor = (dict(zip(frame["metric"], frame[c], strict=True)) for c in ("value", "floor"))
            costs = {"seconds": cost.seconds, "peak_memory_mb": cost.megabytes}
            known = Outcome([(method, "value", value | costs), (method, "floor", floor)], cost.seconds)
            self.cache.put(method, key, known)
        return known


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("--map", "map_file", type=click.Path(path_type=Path), help="Genetic map, for the mosaics.")
@click.option("--region", default="chr22:50000000-50165000", show_default=True)
@click.option("--seeds", default=1, show_default=True, help="Number of seeds.")
@click.option("--threads", default=2, show_default=True)
@click.option("--only", default="", help="Run only methods whose name holds this; the page shows all that are there.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    vcf: Path, *, panel: Path, map_file: Path | None, region: str, seeds: int, threads: int, only: str, output: Path
) -> None:
    """Run every method, judge it, and draw the frontier."""
    if not any(only in name for name in METHODS):
        raise click.UsageError(f"--only {only!r} is part of no method's name: {'; '.join(METHODS)}")
    torch.set_num_threads(threads)
    train, holdout = development(vcf, panel, region=region)
    genetic_map = None if map_file is None else read_map(map_file, str(train.sites["contig"].iloc[0]))
    bench = Bench(train, holdout, genetic_map, Cache(output / "baselines" / ".cache"))
    rows = []
    for seed in range(1, seeds + 1):
        for name in tqdm(METHODS, unit="method", desc=f"seed {seed}"):
            cell = bench.cell(name, seed=seed, make=only in name)
            if cell is None:
                continue
            (_, _, value), (_, _, floor) = cell.rows
            rows += [(name, seed, metric, v, floor.get(metric, np.nan)) for metric, v in value.items()]
    command = f"python benchmarks/baselines.py ../shared/data/{vcf.name} --panel ../shared/data/{panel.name}"
    command += f" --map ../shared/data/{map_file.name}" if map_file is not None else ""
    command += f" --region {region} --seeds {seeds} -o docs/results"
    print(_write(pd.DataFrame(rows, columns=["method", "seed", "metric", "value", "floor"]), bench, output, command))


def means(long: pd.DataFrame) -> pd.DataFrame:
    """Over seeds: method, metric, value, sd (divisor n − 1), floor; methods in their order."""
    groups = long.groupby(["method", "metric"], sort=False)
    return groups.agg(value=("value", "mean"), sd=("value", "std"), floor=("floor", "mean")).reset_index()


def _write(long: pd.DataFrame, bench: Bench, output: Path, command: str) -> Path:
    table = means(long)
    save_figure(frontier(table), output / "baselines" / "frontier.png")
    cells = table.set_index(["method", "metric"]).sort_index()

    def cell(name: str, metric: str, column: str) -> str:
        if (name, metric) not in cells.index:
            return ""
        value, sd = cells.loc[(name, metric), [column, "sd"]]
        text = "" if np.isnan(value) else f"{value:,.0f}" if abs(value) >= 100 else number(value)
        return text if np.isnan(sd) or column == "floor" or not text else f"{text} ± {number(sd)}"

    present = list(dict.fromkeys(table["method"]))
    phased = [name for name in present if name not in DOSAGES][:1]
    dosages = [name for name in present if name in DOSAGES][:1]
    floors = [(f"*floor, {kind}*", name) for kind, of in (("haplotypes", phased), ("dosages", dosages)) for name in of]
    rows = [[label, *(cell(name, metric, "floor") for metric in SHOWN)] for label, name in floors]
    rows += [[name, *(cell(name, metric, "value") for metric in SHOWN)] for name in present]
    seeds = long["seed"].nunique()
    spread = "One seed" if seeds == 1 else f"{seeds} seeds, mean ± standard deviation"
    text = (
        f"# Fidelity against leakage\n\n```\n{command}\n```\n\n"
        f"{bench.train.n_samples:,} people learned from and as many drawn by every method, "
        f"{bench.holdout.n_samples:,} people never seen to judge by, {bench.train.n_variants:,} sites with "
        f"minor-allele frequency of at least 1 %. {spread}. "
        "Floors put the people learned from (for copies: the people held out) in the place of synthetic ones. "
        "Methods that draw dosages without phase are compared person by person, with floors of their own. Seconds "
        "include learning and drawing; memory is the largest of a process of its own, interpreter and libraries "
        f"included; {torch.get_num_threads()} threads.\n\n"
        "![Fidelity against leakage](baselines/frontier.png)\n\n"
        "*Down and left is better, save for adversarial accuracy, where the floor is best and less is copying. "
        "Lines follow one setting: passes over the people, width of the network, preset, Nₑ of the mosaics (the rate "
        "of switches is proportional to it). Cross and dashed lines are the floor of haplotypes; open squares are "
        "methods of dosages, which have another.*\n\n" + markdown_table(["", *SHOWN.values()], rows) + "\n"
    )
    save_table(long if seeds > 1 else long.drop(columns="seed"), output / "baselines.csv")
    return atomic_text(output / "baselines.md", text)


@styled
def frontier(table: pd.DataFrame) -> Figure:
    """Fidelity against leakage, three measures of the one by two of the other.

    Args:
        table: ``method``, ``metric``, ``value`` and ``floor``, as from :func:`means`.
    """
    value, floor = (
        table.drop_duplicates(["method", "metric"]).pivot_table(index="method", columns="metric", values=column)
        for column in ("value", "floor")
    )
    reference = next((name for name in value.index if name not in DOSAGES), value.index[0])
    figure, axes = grid(len(UP), len(ACROSS), width=9.4, height=11.0, sharex=False, sharey=False)
    written: list[list[tuple[float, float, str, str]]] = []
    for ax, (up, across) in zip(axes.flat, [(u, a) for u in UP for a in ACROSS], strict=True):
        if up == "ld_decay_mae":
            ax.set_yscale("log")
        x, y = floor.loc[reference, [across, up]].to_numpy(dtype=float)
        ax.axvline(x, color=TRAIN, linewidth=1.0, linestyle=(0, (4, 3)), zorder=0)
        ax.axhline(y, color=TRAIN, linewidth=1.0, linestyle=(0, (4, 3)), zorder=0)
        ax.plot(x, y, marker="x", color=INK, markersize=9, markeredgewidth=2, linestyle="none", zorder=4)
        notes, lines = [(x, y, "floor", INK)], []
        for sweep in SWEEPS:
            members = [n for n in sweep.members if n in value.index]
            if not members:
                continue
            points = value.loc[members, [across, up]].to_numpy()
            lines += ax.plot(
                *points.T, label=sweep.name, marker=sweep.marker, markersize=5.5, linewidth=1.4, color=sweep.colour,
                zorder=3,
            )  # fmt: skip
            notes += [
                (a, b, sweep.members[n], sweep.colour)
                for n, (a, b) in zip(members, points, strict=True) if sweep.members[n]
            ]  # fmt: skip
        for name in (n for n in SINGLE if n in value.index):
            a, b = value.loc[name, [across, up]]
            fill = "white" if name in DOSAGES else "#566472"
            ax.plot(a, b, marker="s", markersize=5, color="#566472", markerfacecolor=fill, linestyle="none", zorder=2)
            notes.append((a, b, SINGLE[name], "#566472"))
        ax.margins(x=0.16, y=0.12)
        ax.set_title(UP[up] if across == "membership_auc" else "")
        ax.set_xlabel(ACROSS[across])
        written.append(notes)
    if lines:
        figure.legend(handles=lines, loc="outside upper center", ncols=2)
    # Places of texts are known only when the layout is.
    figure.draw_without_rendering()
    for ax, notes in zip(axes.flat, written, strict=True):
        _label(ax, notes)
    return figure


def _label(ax: Axes, notes: list[tuple[float, float, str, str]], *, size: float = 9.0) -> None:
    """Writes at points, each text at the first place around its point where nothing is yet.

    Args:
        ax: axes whose limits are final.
        notes: x, y, text and colour; the first come first.
        size: of the type, points.
    """
    scale = ax.figure.dpi / 72
    box = ax.get_window_extent()
    anchors = ax.transData.transform([(a, b) for a, b, *_ in notes])
    taken: list[tuple[float, float, float, float]] = []
    for line in ax.lines[2:]:
        points = ax.transData.transform(line.get_xydata())
        steps = np.linspace(0, len(points) - 1, 16 * len(points))
        path = np.stack([np.interp(steps, np.arange(len(points)), points[:, k]) for k in (0, 1)], axis=1)
        for at, r in ((points, 5 * scale), (path, 1 * scale)):
            taken += [(px - r, py - r, px + r, py + r) for px, py in at]
    for (a, b, text, colour), (px, py) in zip(notes, anchors, strict=True):
        width, height = 0.64 * size * len(text) * scale, 1.2 * size * scale
        best: tuple[float, tuple[float, float], tuple[float, float, float, float]] | None = None
        for radius in (7, 14, 24, 36, 50, 66):
            for angle in np.deg2rad([0, 45, -45, 90, -90, 135, -135, 180, 22, -22, 158, -158]):
                dx, dy = radius * scale * np.cos(angle), radius * scale * np.sin(angle)
                left = px + dx - (width / 2) * (1 - np.cos(angle))
                bottom = py + dy - (height / 2) * (1 - np.sin(angle))
                place = (left, bottom, left + width, bottom + height)
                outside = max(0.0, box.x0 - place[0], place[2] - box.x1, box.y0 - place[1], place[3] - box.y1)
                cost = sum(_overlap(place, other) for other in taken) + 1e3 * outside + 2 * radius
                if best is None or cost < best[0]:
                    best = cost, (left - px, bottom - py), place
        assert best is not None
        _, (ox, oy), place = best
        nearest = np.clip(px, place[0], place[2]) - px, np.clip(py, place[1], place[3]) - py
        far = np.hypot(*nearest) > 14 * scale
        ax.annotate(
            text, (a, b), textcoords="offset points", xytext=(ox / scale, oy / scale), fontsize=size, color=colour,
            va="bottom", zorder=5,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6} if far else None,
        )  # fmt: skip
        taken.append(place)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Area two boxes (left, bottom, right, top) have in common."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


if __name__ == "__main__":
    main()
