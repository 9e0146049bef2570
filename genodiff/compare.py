"""Runs side by side: one tidy table, one page, and figures that lay their curves over one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from genodiff.files import atomic_text
from genodiff.provenance import Provenance
from genodiff.report.comparison import write_comparison
from genodiff.report.verdict import Verdict, judge
from genodiff.runs import Run, read_run
from genodiff.staging import Staging

__all__ = ["Comparison", "compare", "compare_runs"]


@dataclass(frozen=True)
class Comparison:
    """Runs, and what the verdict says of each.

    Attributes:
        runs: in the order of the columns.
        verdicts: of each run.
        apart: whether the runs were judged at different sites or by different people, so that their values have
            different floors and only what they are beside these can be compared.
    """

    runs: tuple[Run, ...]
    verdicts: tuple[Verdict, ...]
    apart: bool

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy: ``run`` and the columns of :attr:`genodiff.runs.Run.metrics`, one row a run and metric."""
        parts = [run.metrics.assign(run=run.name) for run in self.runs]
        frame = pd.concat(parts, ignore_index=True)
        return frame[["run", *(column for column in frame.columns if column != "run")]]


def compare_runs(runs: Sequence[Run], *, different_sites: bool = False) -> Comparison:
    """Holds runs side by side.

    Args:
        runs: at least two, each with a name of its own.
        different_sites: the runs may be of different sites, as chromosomes are.

    Raises:
        InputError: fewer than two runs, a name twice, or different sites where they may not be.
    """
    if len(runs) < 2:
        raise InputError("one run alone cannot be compared: give at least two")
    for i, run in enumerate(runs):
        twin = next((other for other in runs[:i] if other.name == run.name), None)
        if twin is not None:
            raise InputError(
                f"{twin.folder} and {run.folder} are both called {run.name}: "
                f"give one another name, as in new={run.folder}"
            )
    difference = next(filter(None, (_difference(runs[0], run) for run in runs[1:])), "")
    if difference and not different_sites:
        parted = next((run for run in runs[1:] if _split_apart(runs[0], run)), None)
        if parted is not None:
            raise InputError(
                f"{difference}: by --seed or --holdout they hold out other people, and other sites pass --maf: run "
                "them again with the same --holdout-samples, or say --different-sites"
            )
        raise InputError(f"{difference}: judge them at the same sites, or say --different-sites (as of chromosomes)")
    verdicts = tuple(judge(run.metrics, holdout_haplotypes=2 * run.holdout_people) for run in runs)
    apart = bool(difference) or not all(_same_people(runs[0], run) for run in runs[1:])
    return Comparison(tuple(runs), verdicts, apart)


def _difference(one: Run, other: Run) -> str:
    """In which sites two runs were judged, where these are not the same; empty where they are, or nothing is known."""
    counts = [run.value("sites_compared") for run in (one, other)]
    if np.isfinite(counts).all() and counts[0] != counts[1]:
        return f"{one.folder} was judged at {counts[0]:,.0f} sites and {other.folder} at {counts[1]:,.0f}"
    sites = [_sites(run) for run in (one, other)]
    if not sites[0] or not sites[1] or sites[0] == sites[1]:
        return ""
    first = next(pair for pair in zip(*sites, strict=False) if pair[0] != pair[1])
    return f"{one.folder} and {other.folder} were judged at different sites (the first are {' and '.join(first)})"


def _split_apart(one: Run, other: Run) -> bool:
    """Whether two runs drew other people of the same genotypes to hold out, as far as their provenance tells."""
    drawn = []
    for run in (one, other):
        configuration, inputs = run.provenance.get("configuration"), run.provenance.get("inputs")
        data = configuration.get("data") if isinstance(configuration, dict) else None
        if not isinstance(data, dict) or not isinstance(inputs, dict) or data.get("holdout_samples") is not None:
            return False
        files = [file for file in inputs.values() if isinstance(file, dict) and file.get("role") == "genotypes"]
        drawn.append(
            ([file.get("sha256") for file in files], data.get("region"), data.get("seed"), data.get("holdout"))
        )
    return drawn[0][:2] == drawn[1][:2] and drawn[0][2:] != drawn[1][2:]


def _sites(run: Run) -> list[str]:
    """``contig:position`` of the sites a run was judged at; empty where it kept no curves."""
    frame = run.curves.get("allele_frequency")
    if frame is None:
        return []
    return [f"{contig}:{position}" for contig, position in zip(frame["contig"], frame["position"], strict=True)]


def _same_people(one: Run, other: Run) -> bool:
    """Whether two runs have the same floors: the same real people, as far as the metrics tell."""
    floors = [run.metrics.set_index("metric")["floor"] for run in (one, other)]
    shared = floors[0].index.intersection(floors[1].index)
    mine, theirs = (floor[shared].to_numpy() for floor in floors)
    return bool(np.allclose(mine, theirs, rtol=1e-9, atol=0, equal_nan=True))


def compare(
    runs: Sequence[tuple[str | None, Path]],
    output: Path,
    *,
    different_sites: bool = False,
    figures: str = "png",
    force: bool = False,
) -> Comparison:
    """``genodiff compare``: ``comparison.csv``, ``comparison.html`` and figures of folders of results.

    Args:
        runs: name (that of the folder if ``None``) and folder of each.
        output: folder to write.
        different_sites: the runs may be of different sites, as chromosomes are.
        figures: kind of the files in ``figures``, of :data:`genodiff.report.style.KINDS`.
        force: replace an output that exists.

    Raises:
        InputError: a folder holds no results, or the runs cannot be compared.
        OutputError: the output exists, or cannot be written.
    """
    folders = [folder for _, folder in runs]
    provenance = Provenance(configuration={"runs": folders, "different_sites": different_sites})
    with Staging(output, force=force, inputs=[folder / "metrics.csv" for folder in folders]) as staging:
        with provenance.stage("read"):
            found = compare_runs([read_run(path, name=name) for name, path in runs], different_sites=different_sites)
        for run in found.runs:
            provenance.add_input(run.folder / "metrics.csv", role="metrics")
        atomic_text(staging.path / "comparison.csv", found.frame.to_csv(index=False, lineterminator="\n"))
        with provenance.stage("report"):
            write_comparison(
                staging.path,
                runs=found.runs,
                verdicts=found.verdicts,
                apart=found.apart,
                title="Comparison of " + ", ".join(run.name for run in found.runs),
                kind=figures,
            )
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return found
