"""``genodiff utility``: three VCFs in, tables and figures out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from data_prep.composition import match_labels
from data_prep.errors import InputError
from genodiff.loading import hash_inputs, load_judged
from genodiff.provenance import Provenance
from genodiff.staging import Staging
from genodiff.utility.beagle import Beagle
from genodiff.utility.page import verdict, write_utility
from genodiff.utility.suite import measure_full

__all__ = ["run"]


def run(
    synthetic: Path,
    train: Path,
    holdout: Path,
    output: Path,
    *,
    panel: Path | None,
    synthetic_panel: Path | None,
    genetic_map: Path | None,
    region: str | None,
    maf: float,
    tasks: Sequence[str] | None,
    seed: int,
    threads: int | None,
    memory_gb: int,
    force: bool,
    progress: bool,
) -> str:
    """Reads and matches labels as ``genodiff evaluate`` does, measures, and writes a folder.

    Args:
        synthetic, train, holdout: VCFs.
        output: folder to appear, whole or not at all.
        panel, synthetic_panel: population labels of real and of synthetic people.
        genetic_map: bp to cM.
        region: ``contig`` or ``contig:from-to``.
        maf: least minor-allele frequency among training people.
        tasks: what to measure; all that is possible if ``None``.
        seed: of every random draw.
        threads: of Beagle; all if ``None``.
        memory_gb: of Beagle.
        force: replace an output that exists.
        progress: show bars.

    Returns:
        The verdict, a line per task.

    Raises:
        InputError: a file or a task that cannot be used.
        OutputError: the output cannot be written.
    """
    if tasks is not None and "imputation" in tasks:
        Beagle().require()
    given = {
        "synthetic": synthetic, "train": train, "holdout": holdout, "panel": panel, "synthetic panel": synthetic_panel,
        "map": genetic_map,
    }  # fmt: skip
    provenance = Provenance(
        seed=seed, configuration={"region": region, "maf": maf, "tasks": tasks, "memory_gb": memory_gb, **given}
    )
    with Staging(output, force=force, inputs=given.values()) as staging:
        with provenance.stage("read"):
            table, data = load_judged(
                synthetic, train, holdout, panel=panel, synthetic_panel=synthetic_panel, genetic_map=genetic_map,
                region=region, maf=maf, progress=progress,
            )  # fmt: skip
            hash_inputs(provenance, given)
        assert data.holdout is not None
        learned, held = (match_labels(t, table, seed=seed) for t in (data.train, data.holdout))
        try:
            with provenance.stage("measure"):
                utility = measure_full(
                    table, train=learned, holdout=held, tasks=tasks, genetic_map=data.genetic_map, seed=seed,
                    threads=threads or os.cpu_count() or 1, memory_gb=memory_gb, progress=progress,
                )  # fmt: skip
        except ValueError as error:
            raise InputError(f"{synthetic}: {error}") from error
        provenance.record("skipped", utility.skipped)
        people = [
            f"Synthetic people, S: {table.n_samples:,} of {synthetic.name}.",
            f"Training people, R: {learned.n_samples:,} of {train.name}.",
            f"Held-out people, T: {held.n_samples:,} of {holdout.name}.",
        ]
        write_utility(utility, staging.path, title=f"Utility of {synthetic.name}", people=people)
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return "\n".join(verdict(utility))
