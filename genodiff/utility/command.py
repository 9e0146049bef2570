"""``genodiff utility``: three VCFs in, tables and figures out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from data_prep.composition import match_labels
from data_prep.errors import InputError
from genodiff.loading import JudgedOptions, hash_inputs, load_judged, unchanged
from genodiff.provenance import Provenance
from genodiff.staging import Staging
from genodiff.utility.beagle import Beagle
from genodiff.utility.page import verdict, write_utility
from genodiff.utility.suite import measure_full

__all__ = ["run"]


def run(
    options: JudgedOptions,
    output: Path,
    *,
    tasks: Sequence[str] | None,
    seed: int,
    threads: int | None,
    memory_gb: int,
    force: bool,
    progress: bool,
) -> str:
    """Reads and matches labels as ``genodiff evaluate`` does, measures, and writes a folder.

    Args:
        options: whose genotypes to put to use, and beside whom.
        output: folder to appear, whole or not at all.
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
    given = options.inputs
    provenance = Provenance(
        seed=seed,
        configuration={"region": options.region, "maf": options.maf, "tasks": tasks, "memory_gb": memory_gb, **given},
    )
    with Staging(output, force=force, inputs=given.values()) as staging:
        with provenance.stage("read"), unchanged(given.values()):
            table, data = load_judged(options, progress=progress)
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
            raise InputError(f"{options.synthetic}: {error}") from error
        provenance.record("skipped", utility.skipped)
        people = [
            f"Synthetic people, S: {table.n_samples:,} of {options.synthetic.name}.",
            f"Training people, R: {learned.n_samples:,} of {options.train.name}.",
            f"Held-out people, T: {held.n_samples:,} of {options.holdout.name}.",
        ]
        write_utility(utility, staging.path, title=f"Utility of {options.synthetic.name}", people=people)
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return "\n".join(verdict(utility))
