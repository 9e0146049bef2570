"""``genodiff baseline``: people made by a baseline from a VCF, with their panel and provenance beside the VCF."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from data_prep.alleles import one_alternate_each
from data_prep.errors import InputError
from data_prep.variants import VariantTable
from genodiff.baselines import baseline
from genodiff.genotypes.model import resolve_device
from genodiff.loading import DataOptions, data_inputs, hash_inputs, load_data, unchanged
from genodiff.pipeline import write_people
from genodiff.private.promise import PrivacyWarning, Private
from genodiff.provenance import Provenance
from genodiff.sexes import Drawing
from genodiff.staging import check_vcf_output

__all__ = ["run"]


def run(
    name: str,
    options: Mapping[str, Any],
    data: DataOptions,
    output: Path,
    *,
    n: int | None,
    device: str,
    threads: int | None,
    force: bool,
    progress: bool,
) -> tuple[VariantTable, list[str]]:
    """Reads as ``genodiff fit`` does, generates, and writes as ``genodiff sample`` does.

    Args:
        name: of the baseline.
        options: fields of its dataclass.
        data: what to read; its seed is that of the split and of the generation.
        output: the VCF to write.
        n: number of people; as many as were learned from if ``None``.
        device: auto, cpu, cuda or mps.
        threads: processor threads; all if ``None``.
        force: replace outputs that exist.
        progress: show bars.

    Returns:
        The people, and what there is to say of the input in lines of text.

    Raises:
        InputError: a file or an option that cannot be used.
        OutputError: the output cannot be written.
    """
    try:
        method = baseline(name, **options)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    try:
        place = resolve_device(device)
    except RuntimeError as error:
        raise InputError(f"--device {device}: expected auto, cpu, cuda or mps") from error
    check_vcf_output(output, force=force)
    if isinstance(method, Private) and data.maf == 0:
        # Whether a site varies among these people is theirs to keep: a public list has sites that do not.
        data = replace(data, maf=None)
    provenance = Provenance(seed=data.seed, configuration={"data": data, "baseline": name, "options": method, "n": n})
    provenance.device = str(place)
    with provenance.stage("read"), unchanged(data_inputs(data).values()):
        loaded = load_data(data, progress=progress)
        if not isinstance(method, Private):
            hash_inputs(provenance, data_inputs(data))
    drawing = Drawing.of(loaded.train.header, n=n, labels=None)
    said = loaded.filters.lines()
    if isinstance(method, Private):
        if drawing.pairs is not None:
            raise InputError(f"{name}: its guarantee does not cover sexes: give an autosome")
        # Neither a hash of the input nor its counts of calls are covered by the guarantee.
        method.check_sites(loaded.filters)
        promise = method.guarantee(loaded.train.n_samples)
        provenance.record("privacy", promise)
        said += promise
    else:
        provenance.record("filters", loaded.filters.to_dict())
    rate = getattr(method, "rate_cm_per_mb", None)
    if rate is not None and loaded.genetic_map is None:
        provenance.record("assumed_cm_per_mb", rate)
        said.append(f"no genetic map: {rate:g} cM per Mb assumed")
    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    with provenance.stage("generate"), threadpool_limits(limits=threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", PrivacyWarning)  # said above
        table = method.generate(
            loaded.train,
            loaded.train.n_samples if drawing.n is None else drawing.n,
            seed=data.seed,
            genetic_map=loaded.genetic_map,
            device=str(place),
            progress=progress,
        )
    table = drawing.people(one_alternate_each(table), seed=data.seed)
    said += write_people(table, output, force=force, threads=threads, provenance=provenance)
    return table, said
