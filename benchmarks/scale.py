r"""What size costs: time and memory by sites and people, a whole chromosome, a large panel, and seams.

    python benchmarks/scale.py cost -o docs/results
    python benchmarks/scale.py whole ../shared/data/kg_chr22_100_people.b37.vcf.gz -o runs/hundred
    python benchmarks/scale.py panel -o runs/panel
    python benchmarks/scale.py seams ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv \
        --crop 1024 -o docs/results

``cost`` measures every size in a process of its own on simulated people. ``whole`` runs ``genodiff synthesize`` and
tells its time and memory. ``panel`` simulates 2,500 people and 20,000 common sites of a 50-Mb chromosome, synthesizes
as many with the preset ``balanced`` and judges them window by window. ``seams`` asks whether LD across the borders of
tiles and LD blocks, where training crops end too, is what it is elsewhere.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_prep.readers import read_variants
from data_prep.simulate import simulate_coalescent
from data_prep.variants import VariantTable
from data_prep.vcf_write import write_vcf
from genodiff.evaluation.packed import PackedSites
from genodiff.genotypes import model as model_module
from genodiff.genotypes.config import preset
from genodiff.genotypes.engine import AlleleProblem
from genodiff.genotypes.model import GenotypeModel
from genodiff.provenance import peak_memory_mb
from genodiff.reproduce.page import markdown_table, number, save_figure, save_table

BASE_PEOPLE, BASE_SITES = 250, 1000
TIMES = (1, 2, 4, 8)
STEPS = 8
DRAWN = 16

MEASURES = {
    "read": "reading, s",
    "ties": "ties, s",
    "anchors": "anchors, s",
    "blocks": "LD blocks, s",
    "backgrounds": "backgrounds, s",
    "base": "base, s",
    "step": "training step, s",
    "pass": "pass of training, s",
    "person": "person drawn, s",
    "memory": "peak memory, MB",
}

WINDOW_BP = 5_000_000
NEAR = 24
"""Sites between the members of a pair at most, where seams are looked for."""
LEAST_MAF = 0.05


def common_sites(table: VariantTable, sites: int, *, spread: bool = False) -> VariantTable:
    """So many sites of MAF ≥ 5 %: the first, or evenly spread ones."""
    frequency = table.allele_frequency()
    common = np.flatnonzero(np.minimum(frequency, 1 - frequency) >= LEAST_MAF)
    if len(common) < sites:
        raise click.ClickException(f"only {len(common):,} common sites were simulated, {sites:,} are needed")
    chosen = np.linspace(0, len(common) - 1, sites).astype(int) if spread else np.arange(sites)
    return table.select(variants=common[chosen])


# Cost


@contextmanager
def _timed(seconds: dict[str, float], **places: tuple[Any, str]) -> Iterator[None]:
    """Adds up the time spent in functions, given as (owner, name), while the context lasts."""
    before = {key: getattr(owner, name) for key, (owner, name) in places.items()}

    def measured(key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds[key] = seconds.get(key, 0.0) + time.process_time() - began

        return run

    try:
        for key, (owner, name) in places.items():
            setattr(owner, name, measured(key, before[key]))
        yield
    finally:
        for key, (owner, name) in places.items():
            setattr(owner, name, before[key])


def measure(vcf: Path) -> dict[str, float]:
    """Processor seconds on one thread and peak memory (MB) of a ``balanced`` model of a file, in a few steps."""
    torch.set_num_threads(1)
    seconds: dict[str, float] = {}
    began = time.process_time()
    table, _ = read_variants(vcf)
    seconds["read"] = time.process_time() - began
    model = GenotypeModel(preset("balanced").with_steps(STEPS))
    starts: list[float] = []
    loss = AlleleProblem.loss

    def stamped(self: AlleleProblem, *arguments: Any) -> torch.Tensor:
        starts.append(time.process_time())
        return loss(self, *arguments)

    AlleleProblem.loss = stamped  # type: ignore[method-assign]
    with _timed(
        seconds,
        ties=(model_module, "find_ties"),
        anchors=(model_module, "fit_anchors"),
        blocks=(GenotypeModel, "_blocks"),
        backgrounds=(GenotypeModel, "_backgrounds"),
        base=(GenotypeModel, "_assemble"),
    ):
        model.fit(table, seed=1, device="cpu")
    # The first step warms caches up.
    seconds["step"] = float(np.median(np.diff(starts)[1:]))
    sites, rows = len(model.meta.ties.drawn), 2 * table.n_samples
    crops = rows * max(1.0, sites / model.config.crop_sites)
    seconds["pass"] = seconds["step"] * crops / model.config.training.batch
    began = time.process_time()
    model.sample(DRAWN, seed=1)
    seconds["person"] = (time.process_time() - began) / DRAWN
    memory = peak_memory_mb()
    drawn = {"sites_drawn": float(sites), "parameters": float(model.describe()["parameters"])}
    return seconds | drawn | {"memory": float("nan") if memory is None else memory}


def exponent(size: NDArray[np.float64], cost: NDArray[np.float64]) -> float:
    """Slope of log cost on log size: 1 where cost is proportional to size."""
    return float(np.polyfit(np.log(size), np.log(cost), 1)[0])


@click.group()
def main() -> None:
    """What size costs."""


@main.command("measure")
@click.argument("vcf", type=click.Path(path_type=Path))
def measure_command(vcf: Path) -> None:
    """Print times and memory of a model of VCF as JSON."""
    click.echo(json.dumps(measure(vcf)))


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--cells", type=click.Path(path_type=Path), default=Path("runs/scale"), show_default=True)
@click.option("--seed", default=1, show_default=True)
def cost(output: Path, cells: Path, seed: int) -> None:
    """Write scale.csv and scale.png: cost at 1×, 2×, 4× and 8× the sites, and the people."""
    cells.mkdir(parents=True, exist_ok=True)
    sizes = {("sites", k): (BASE_PEOPLE, k * BASE_SITES) for k in TIMES}
    sizes |= {("people", k): (k * BASE_PEOPLE, BASE_SITES) for k in TIMES}
    rows = []
    for (axis, k), (people, sites) in sizes.items():
        kept = cells / f"{people}x{sites}.json"
        if not kept.exists():
            vcf = kept.with_suffix(".vcf.gz")
            table = simulate_coalescent(people, length_bp=1300 * sites, seed=seed)
            write_vcf(common_sites(table, sites), vcf)
            del table
            command = [sys.executable, __file__, "measure", str(vcf)]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            kept.write_text(found.stdout.splitlines()[-1])
            vcf.unlink()
            vcf.with_name(vcf.name + ".tbi").unlink()
        rows.append({"axis": axis, "times": k, "people": people, "sites": sites, **json.loads(kept.read_text())})
    frame = pd.DataFrame(rows)
    save_table(frame, output / "scale.csv")
    save_figure(figure(frame), output / "scale.png")
    print(cost_table(frame))


def cost_table(frame: pd.DataFrame) -> str:
    """Costs by size as Markdown, with the exponents of both axes."""
    parts = []
    for axis in ("sites", "people"):
        part = frame[frame["axis"] == axis].sort_values("times")
        header = [axis, *(f"{n:,}" for n in part[axis]), "exponent"]
        size = part[axis].to_numpy(float)
        body = []
        for name, label in MEASURES.items():
            values = part[name].to_numpy(float)
            body.append([label, *(number(v) for v in values), f"{exponent(size, values):.2f}"])
        parts.append(markdown_table(header, body))
    return "\n\n".join(parts)


def figure(frame: pd.DataFrame) -> Any:
    """Cost against size, log-log, with a line of slope 1."""
    from genodiff.report.style import FAINT, LABELS, grid, styled

    shown = ["backgrounds", "base", "anchors", "pass", "person", "memory"]

    @styled
    def draw() -> Any:
        drawing, axes = grid(1, 2, width=9.0, height=4.4, sharey=True)
        for place, axis in zip(axes[0], ("sites", "people"), strict=True):
            part = frame[frame["axis"] == axis].sort_values("times")
            size = part[axis].to_numpy(float)
            for colour, name in zip(LABELS, shown, strict=False):
                values = part[name].to_numpy(float)
                label = f"{MEASURES[name].split(',')[0]} ({exponent(size, values):.2f})"
                place.loglog(size, values / values[0], "o-", color=colour, label=label, markersize=4)
            place.loglog(size, size / size[0], "--", color=FAINT, zorder=0)
            place.set_xticks(size, [f"{n:,.0f}" for n in size])
            place.minorticks_off()
            fixed = f"{BASE_PEOPLE} people" if axis == "sites" else f"{BASE_SITES:,} sites"
            place.set(xlabel=f"{axis} ({fixed})", title=f"Cost by {axis}, exponent in brackets")
            place.legend()
        axes[0, 0].set_ylabel("cost, relative")
        return drawing

    return draw()


# Whole commands


@main.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--preset", "choice", default="fast", show_default=True)
@click.option("--option", "extra", multiple=True, help="Further options for synthesize, e.g. --option --maf=0.")
def whole(vcf: Path, output: Path, choice: str, extra: tuple[str, ...]) -> None:
    """Run ``genodiff synthesize`` on all of VCF, and tell what it took."""
    command = ["synthesize", str(vcf), "-o", str(output), "--preset", choice, "--seed", "1", "--force", *extra]
    subprocess.run([sys.executable, "-m", "genodiff", *command], check=True)
    print(told(output))


def told(output: Path) -> str:
    """Sizes, seconds and memory of a finished run, in a paragraph."""
    facts = json.loads((output / "provenance.json").read_text())
    model, seconds = facts["model"], facts["seconds"]
    return (
        f"{model['people']:,} people learned from, {model['sites']:,} sites ({model['sites_drawn']:,} drawn), "
        f"{model['training_steps']:,} steps of {model['parameters'] / 1e6:.1f} million weights. Seconds: "
        f"{', '.join(f'{k} {v:.0f}' for k, v in seconds.items())}; {facts['seconds_total'] / 60:.1f} minutes in all, "
        f"peak memory {facts['peak_memory_mb'] / 1000:.2f} GB."
    )


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--people", default=2500, show_default=True)
@click.option("--sites", default=20_000, show_default=True)
@click.option("--length", "length_bp", default=50_000_000, show_default=True)
@click.option("--preset", "choice", default="balanced", show_default=True)
@click.option("--seed", default=1, show_default=True)
def panel(output: Path, people: int, sites: int, length_bp: int, choice: str, seed: int) -> None:
    """Synthesize a large coalescent panel, and judge every window of it and the borders of windows."""
    output.mkdir(parents=True, exist_ok=True)
    vcf = output / "panel.vcf.gz"
    if not vcf.exists():
        # A fifth more are simulated, to be held out.
        table = simulate_coalescent(people + people // 5, length_bp=length_bp, seed=seed)
        write_vcf(common_sites(table, sites, spread=True), vcf)
    out = output / "synthesized"
    share = (people // 5) / (people + people // 5)
    command = ["synthesize", str(vcf), "-o", str(out), "--preset", choice, "--seed", str(seed), "--force"]
    command += ["--maf", "0", "--holdout", f"{share:.6f}"]
    subprocess.run([sys.executable, "-m", "genodiff", *command], check=True)
    print(told(out))
    from data_prep.splits import split_people

    table, _ = read_variants(vcf)
    parts = split_people(table, holdout=share, seed=seed)
    synthetic, _ = read_variants(out / "synthetic.vcf.gz", maf=None)
    tables = [table.select(variants=_shared(table, synthetic), samples=people_of) for people_of in parts]
    model = GenotypeModel.load(out / "model", device="cpu")
    print(by_window(synthetic, *tables))
    print(seam_table(seams(model, synthetic, *tables)))


def _shared(table: VariantTable, other: VariantTable) -> NDArray[np.bool_]:
    """Sites of a table that another has too."""
    return np.asarray(table.site_keys.isin(other.site_keys))


def by_window(synthetic: VariantTable, train: VariantTable, holdout: VariantTable) -> str:
    """Error of allele frequencies and ratio of near-pair r² in every 5 Mb, as Markdown; the floor is that of train."""
    position = synthetic.sites["position"].to_numpy()
    window = position // WINDOW_BP
    r2, pairs = _r2((synthetic, train, holdout), np.arange(synthetic.n_variants), NEAR)
    af = [t.allele_frequency() for t in (synthetic, train, holdout)]
    body = []
    for w in np.unique(window):
        inside, here = window == w, (window[pairs] == w).all(1)
        error = [float(np.abs(a - af[2])[inside].mean()) for a in af[:2]]
        ratio = [float(r[here].sum() / r2[2][here].sum()) for r in r2[:2]]
        body.append([f"{w * WINDOW_BP / 1e6:.0f} Mb", f"{inside.sum():,}", *map(number, [*error, *ratio])])
    across = window[pairs[:, 0]] != window[pairs[:, 1]]
    if across.any():
        ratio = [float(r[across].sum() / r2[2][across].sum()) for r in r2[:2]]
        body.append(["across borders", f"{across.sum():,} pairs", "", "", *map(number, ratio)])
    return markdown_table(["window", "sites", "AF error", "floor", "near-pair r² ratio", "floor"], body)


# Seams


def borders_of(model: GenotypeModel) -> dict[str, NDArray[np.int64]]:
    """First sites, among those drawn, after the borders of LD blocks (and crops) and of tiles, by kind."""
    sites = len(model.meta.ties.drawn)
    tiles = sorted({tile for tile, _ in model.config.scales} | {model.config.network.tile})
    kinds = {f"tiles of {tile}": np.arange(tile, sites, tile) for tile in tiles}
    return {"LD blocks": np.asarray(model.meta.bounds[1:-1], dtype=np.int64)} | kinds


def _r2(
    tables: tuple[VariantTable, ...], sites: NDArray[np.int64], reach: int
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """r² of every table at pairs of places in ``sites`` within ``reach`` that are common in the last one; the pairs."""
    rows = [t.haplotype_rows()[:, sites] for t in tables]
    frequency = rows[-1].mean(0)
    common = np.minimum(frequency, 1 - frequency) >= LEAST_MAF
    first, lag = (v.ravel() for v in np.meshgrid(np.arange(len(sites)), np.arange(1, reach + 1), indexing="ij"))
    pairs = np.stack([first, first + lag], axis=1)[first + lag < len(sites)]
    pairs = pairs[common[pairs].all(1)]
    return [np.nan_to_num(PackedSites.pack(r).r2(pairs)) for r in rows], pairs


def seams(
    model: GenotypeModel, synthetic: VariantTable, train: VariantTable, holdout: VariantTable, *, reach: int = NEAR
) -> pd.DataFrame:
    """Does LD across borders differ from LD elsewhere?

    Every pair of common drawn sites at most ``reach`` apart either straddles a border of a kind or does not. Straddling
    pairs are compared with others as far apart (in sites): lags are weighed alike, by the straddling pairs.

    Args:
        model: the fitted model, whose borders are meant.
        synthetic, train, holdout: people at the same sites.
        reach: largest distance of a pair, in drawn sites.

    Returns:
        a row per kind of border there is: ``pairs`` that straddle one, the ratio of mean r² of synthetic people over
        that of ``train`` (``across``, ``elsewhere``), and of ``holdout`` over ``train`` likewise, the floor.
    """
    r2, pairs = _r2((synthetic, holdout, train), np.asarray(model.meta.ties.drawn), reach)
    lag = pairs[:, 1] - pairs[:, 0]
    rows = []
    for kind, borders in borders_of(model).items():
        if not len(borders):
            continue
        straddles = np.searchsorted(borders, pairs[:, 0], side="right") < np.searchsorted(
            borders, pairs[:, 1], side="right"
        )
        across, elsewhere = (np.bincount(lag[m], minlength=reach + 1) for m in (straddles, ~straddles))
        both = (across > 0) & (elsewhere > 0)
        weight = np.where(straddles, 1.0, (across / np.maximum(elsewhere, 1))[lag]) * both[lag]
        sums = [[float((r * weight)[m].sum()) for m in (straddles, ~straddles)] for r in r2]
        s, t, r = sums
        rows.append(
            {
                "border": kind,
                "pairs": int((straddles & both[lag]).sum()),
                "across": s[0] / r[0],
                "elsewhere": s[1] / r[1],
                "floor_across": t[0] / r[0],
                "floor_elsewhere": t[1] / r[1],
            }
        )
    return pd.DataFrame(rows)


def by_distance(
    model: GenotypeModel, synthetic: VariantTable, train: VariantTable, holdout: VariantTable, *, reach: int = NEAR
) -> pd.DataFrame:
    """Ratio of mean r² over that of training people by distance, in drawn sites, to the nearest border of LD blocks.

    The distance of a pair is that of its middle; ``synthetic`` and ``holdout`` are held against ``train``.
    """
    r2, pairs = _r2((synthetic, holdout, train), np.asarray(model.meta.ties.drawn), reach)
    borders = borders_of(model)["LD blocks"]
    middle = pairs.mean(1) + 0.5
    away = np.abs(middle[:, None] - borders).min(1)
    edges = [0, 2, 4, 8, 16, 32, 64, np.inf]
    rows = []
    for lo, hi in itertools.pairwise(edges):
        here = (away >= lo) & (away < hi)
        if here.any():
            s, t, r = (float(v[here].sum()) for v in r2)
            rows.append({"from": lo, "to": hi, "pairs": int(here.sum()), "synthetic": s / r, "holdout": t / r})
    return pd.DataFrame(rows)


def seam_table(frame: pd.DataFrame) -> str:
    """The table of :func:`seams` or :func:`by_distance` as Markdown."""
    body = [
        [f"{v:,}" if isinstance(v, int | np.integer) else v if isinstance(v, str) else number(float(v)) for v in row]
        for row in frame.itertuples(index=False)
    ]
    return markdown_table([str(c).replace("_", ", ") for c in frame.columns], body)


@main.command("seams")
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True, help="Table with the columns sample, split.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--region", help="Contig:from-to, instead of all of VCF.")
@click.option("--maf", default=0.01, show_default=True)
@click.option("--preset", "choice", default="fast", show_default=True)
@click.option("--crop", type=int, help="Sites of a training crop, instead of the preset's.")
@click.option("--seed", default=1, show_default=True)
@click.option("--threads", default=1, show_default=True)
def seams_command(
    vcf: Path, panel: Path, output: Path, *, region: str | None, maf: float, choice: str, crop: int | None, seed: int,
    threads: int,
) -> None:  # fmt: skip
    """Write seams.csv and seams.png: LD across the borders of a model of VCF."""
    torch.set_num_threads(threads)
    split = pd.read_csv(panel, sep="\t", dtype=str).set_index("sample")["split"]
    table, _ = read_variants(vcf, region=region, maf=maf)
    test = (split.reindex(table.samples.index) == "test").to_numpy()
    train, holdout = table.select(samples=~test), table.select(samples=test)
    config = preset(choice)
    config = config if crop is None else replace(config, crop_sites=crop)
    model = GenotypeModel(config).fit(train, seed=seed, device="cpu", progress=True)
    synthetic = model.sample(train.n_samples, seed=seed, progress=True)
    found, near = seams(model, synthetic, train, holdout), by_distance(model, synthetic, train, holdout)
    save_table(found, output / "seams.csv")
    save_table(near, output / "seams_by_distance.csv")
    save_figure(seam_figure(near), output / "seams.png")
    print(seam_table(found), seam_table(near), sep="\n\n")


def seam_figure(near: pd.DataFrame) -> Any:
    """Ratio of r² by distance to the nearest border."""
    from genodiff.report.style import REAL, SYNTHETIC, canvas, styled

    @styled
    def draw() -> Any:
        drawing, axes = canvas(width=6.2, height=3.8)
        names = [f"{lo:g}–{hi:g}" if np.isfinite(hi) else f"≥ {lo:g}" for lo, hi in near[["from", "to"]].to_numpy()]
        axes.plot(names, near["synthetic"], "o-", color=SYNTHETIC, label="synthetic people")
        axes.plot(names, near["holdout"], "o-", color=REAL, label="held-out people (floor)")
        axes.axhline(1.0, color="#8793a0", linewidth=0.8)
        axes.set(
            xlabel="sites between the pair and the nearest border of LD blocks",
            ylabel="mean r² over that of training people",
            title="LD beside seams",
            ylim=(0.5, 1.2),
        )
        axes.legend()
        return drawing

    return draw()


if __name__ == "__main__":
    main()
