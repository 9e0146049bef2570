"""``genodiff genome``: the chromosomes of the same synthetic people judged together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from data_prep.panels import read_panel
from data_prep.thinning import AtSites, Unlinked
from data_prep.vcf import VcfSource
from genodiff.evaluation.chromosomes import Chromosome, Labels, family
from genodiff.evaluation.results import COLUMNS, to_frame
from genodiff.files import atomic_text
from genodiff.genome.reading import Parts, read_autosome
from genodiff.genome.sheet import Entry, read_sheet
from genodiff.provenance import Provenance
from genodiff.report.genome import Judged, write_genome
from genodiff.report.verdict import number
from genodiff.runs import read_run
from genodiff.staging import Staging

__all__ = ["judge_genome"]

_SITES = 4_000
"""Most unlinked sites of a chromosome that principal components are taken of."""


def judge_genome(
    sheet: Path,
    output: Path,
    *,
    panel: Path | None,
    synthetic_panel: Path | None,
    title: str,
    seed: int,
    force: bool,
    progress: bool,
) -> str:
    """Writes ``report.html``, ``metrics.csv``, ``chromosomes.csv``, ``pairs.csv``, ``figures/``, ``provenance.json``.

    Args:
        sheet: the chromosomes, see :func:`genodiff.genome.sheet.read_sheet`.
        output: folder to appear.
        panel: labels of the real people; with ``synthetic_panel``, agreement within labels is measured, too.
        synthetic_panel: labels of the synthetic people.
        title: heading of the page.
        seed: of shuffles.
        force: replace an output that exists.
        progress: show bars.

    Returns:
        The verdict, a line per statement.

    Raises:
        InputError: a file that cannot be used, other people on another chromosome, or a chromosome twice.
        OutputError: the output cannot be written.
    """
    if (panel is None) != (synthetic_panel is None):
        raise InputError("--panel and --synthetic-panel go together: give both or neither")
    entries = read_sheet(sheet)
    provenance = Provenance(seed=seed, configuration={"panel": panel, "synthetic_panel": synthetic_panel})
    inputs = [sheet, panel, synthetic_panel, *(path for entry in entries for path in entry.files)]
    with Staging(output, force=force, inputs=inputs) as staging:
        frames = {entry.chromosome: read_run(entry.judged).metrics for entry in entries}
        with provenance.stage("read"):
            names = {side: VcfSource(getattr(entries[0], side)).samples for side in ("train", "holdout", "synthetic")}
            _check_apart(names, entries[0])
            places = Parts()
            chromosomes = [_chromosome(entry, names, places, progress=progress) for entry in entries]
            labels = None
            if panel is not None and synthetic_panel is not None:
                real, made = read_panel(panel), read_panel(synthetic_panel)
                labels = Labels(
                    _labels(names["train"], real, panel),
                    _labels(names["holdout"], real, panel),
                    _labels(names["synthetic"], made, synthetic_panel),
                )
            for path in inputs:
                if path is not None:
                    provenance.add_input(path)
        with provenance.stage("evaluate"):
            result = family(chromosomes, labels=labels, seed=seed)
        together = to_frame(result.metrics)
        provenance.record("judged_on", {"train": len(names["train"]), "holdout": len(names["holdout"])})
        provenance.record("unlinked_sites", {c.name: c.train.shape[1] for c in chromosomes})
        judged = [
            Judged(
                entry.chromosome,
                frames[entry.chromosome],
                _link(entry.judged / "report.html", output),
                holdout_haplotypes=2 * len(names["holdout"]),
            )
            for entry in entries
        ]
        metrics = pd.concat([together, _means(frames)], ignore_index=True)
        tidy = pd.concat(
            [frame.assign(chromosome=name)[["chromosome", *COLUMNS]] for name, frame in frames.items()],
            ignore_index=True,
        )
        pairs = result.curves["chromosomes"]
        assert isinstance(pairs, pd.DataFrame)
        for name, frame in (("metrics", metrics), ("chromosomes", tidy), ("pairs", pairs)):
            atomic_text(staging.path / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        lines = _verdict(judged, together)
        with provenance.stage("report"):
            write_genome(
                staging.path, judged=judged, together=together, curves=result.curves, lines=lines,
                people={side: len(who) for side, who in names.items()}, provenance=provenance.to_dict(), title=title,
            )  # fmt: skip
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return "\n".join(lines)


def _check_apart(names: dict[str, list[str]], entry: Entry) -> None:
    shared = sorted(set(names["train"]) & set(names["holdout"]))
    if shared:
        raise InputError(f"{entry.holdout}: {shared[0]!r} is also in {entry.train}: hold out others")
    for side, who in names.items():
        if len(who) < 6:
            raise InputError(f"{getattr(entry, side)} has {len(who)} people: at least 6 are needed")


def _chromosome(entry: Entry, names: dict[str, list[str]], places: Parts, *, progress: bool) -> Chromosome:
    """Dosages at unlinked common sites of the training people that all three sets have."""
    table, _ = read_autosome(entry.train, samples=names["train"], choose=Unlinked(), progress=progress)
    places.add(entry.train, table)
    keep = np.unique(np.linspace(0, table.n_variants - 1, min(_SITES, table.n_variants)).round().astype(int))
    tables = {"train": table.select(variants=keep)}
    for side in ("holdout", "synthetic"):
        tables[side], _ = read_autosome(
            getattr(entry, side), samples=names[side], maf=None, max_missing=1.0,
            choose=AtSites(tables["train"].sites), progress=progress,
        )  # fmt: skip
    position = [set(t.sites["position"]) for t in tables.values()]
    common = set.intersection(*position)
    if len(common) < 2:
        raise InputError(f"{entry.synthetic} has {len(common)} of the unlinked sites of {entry.train}: give the same")
    return Chromosome(
        entry.chromosome,
        **{side: t.select(variants=t.sites["position"].isin(common).to_numpy()).dosage() for side, t in tables.items()},
    )


def _labels(names: Sequence[str], panel: pd.Series, source: Path) -> np.ndarray:
    absent = [name for name in names if name not in panel.index]
    if absent:
        raise InputError(f"{source} lacks {len(absent):,} of {len(names):,} people (first: {absent[0]}): add them")
    return panel.loc[list(names)].to_numpy(dtype=str)


def _link(page: Path, output: Path) -> str:
    """Where the report of a chromosome lies, from the page; empty where there is none."""
    return os.path.relpath(page.resolve(), output.resolve()) if page.is_file() else ""


def _means(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every metric as the mean over the chromosomes that have it; n is the sum. Intervals are of one chromosome."""
    every = pd.concat(frames.values(), ignore_index=True)
    means = every.groupby(["family", "metric"], sort=False, as_index=False).agg(
        value=("value", "mean"), floor=("floor", "mean"), n=("n", "sum"), unit=("unit", "first")
    )
    return means.assign(low=np.nan, high=np.nan)[list(COLUMNS)]


def _verdict(judged: Sequence[Judged], together: pd.DataFrame) -> list[str]:
    """What a reader wants to know first."""
    lines = []
    for name in ("fidelity", "privacy"):
        aspects = [getattr(each.verdict, name) for each in judged]
        missed = sum(check.met is False for aspect in aspects for check in aspect.checks)
        made = sum(check.met is not None for aspect in aspects for check in aspect.checks)
        lines.append(f"{name.capitalize()}: {made - missed} of {made} checks met on {len(judged)} chromosomes.")
    rows = together.set_index("metric")
    for kind, what in (("", "of ancestry"), ("within_", "of ancestry within labels")):
        dimensions = f"chromosomes_{kind}dimensions"
        if f"chromosomes_{kind}r" in rows.index:
            row, null = rows.loc[f"chromosomes_{kind}r"], rows.loc[f"chromosomes_{kind}r_shuffled"]
            lines.append(
                f"Chromosomes of a person agree {what} by r = {number(float(row['value']))} "
                f"(held-out people {number(float(row['floor']))}, shuffled {number(float(null['value']))}), "
                f"{number(float(rows.loc[dimensions, 'value']))} directions a pair."
            )
        elif dimensions in rows.index:
            lines.append(f"Chromosomes of real people share nothing {what} that these sites could show.")
    return lines
