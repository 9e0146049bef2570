"""The commands as functions: files in, files out.

Everything a command writes is made in a hidden folder beside its destination and moved there in one step. The folder
also keeps the checkpoint of training: a command that was interrupted goes on from it when it is run again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from data_prep.alleles import one_alternate_each
from data_prep.builds import build_of
from data_prep.composition import match_labels
from data_prep.errors import InputError
from data_prep.maps import read_map
from data_prep.panels import read_panel, write_panel
from data_prep.sexes import sex_counts
from data_prep.variants import VariantTable
from data_prep.vcf_write import write_vcf
from data_prep.writers import write_variants
from genodiff import __version__
from genodiff.errors import as_user_error
from genodiff.files import atomic_text
from genodiff.genotypes.admixture import Mixing, by_ancestry, write_ancestry
from genodiff.inspection import inspect, removals
from genodiff.loading import (
    Data,
    DataOptions,
    JudgedOptions,
    data_inputs,
    hash_inputs,
    load_data,
    load_judged,
    unchanged,
)
from genodiff.memory import available_bytes, needed_bytes, require_memory
from genodiff.provenance import Provenance
from genodiff.runs import write_curves
from genodiff.sexes import Drawing
from genodiff.sites import read_learned
from genodiff.staging import Staging, beside, check_vcf_output, drafted, drop_damaged, write_together

if TYPE_CHECKING:
    import torch

    from genodiff.core.training import Workers
    from genodiff.evaluation.suite import Evaluation
    from genodiff.genotypes.config import ModelConfig
    from genodiff.genotypes.model import GenotypeModel

__all__ = [
    "Data",
    "DataOptions",
    "FitOptions",
    "JudgedOptions",
    "SampleOptions",
    "as_user_error",
    "evaluate",
    "fit",
    "inspect",
    "load_data",
    "removals",
    "sample",
    "synthesize",
    "write_people",
    "write_table",
]


@dataclass(frozen=True)
class FitOptions:
    """How to learn. ``steps`` and ``anchors`` override the preset where given; ``compiled`` compiles the network.

    ``ignore_memory`` goes on where far more memory seems to be needed than there is.
    """

    preset: str = "balanced"
    seed: int = 1
    device: str = "auto"
    threads: int | None = None
    steps: int | None = None
    anchors: int | None = None
    compiled: bool = False
    ignore_memory: bool = False


@dataclass(frozen=True)
class SampleOptions:
    """How many people to draw, in all or per label, and how mixtures of labels came about.

    ``privacy`` is ``"standard"``, or ``"strict"`` to draw anew who is too much like a person learned from; ``against``
    names the file of the latter where a model folder is drawn from, ``sex`` that of their sexes. ``people`` names a
    panel of the people to draw, in its order, and ``people_column`` its column of labels if not the usual one.
    """

    n: int | None = None
    labels: Mapping[str, int] | None = None
    seed: int = 1
    generations: float = 8.0
    genetic_map: Path | None = None
    privacy: str = "standard"
    against: Path | None = None
    sex: Path | None = None
    people: Path | None = None
    people_column: str | None = None


def _use_threads(threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)


def _device(name: str) -> torch.device:
    from genodiff.genotypes.model import resolve_device

    try:
        return resolve_device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: expected auto, cpu, cuda or mps") from error


def _fit(
    data: Data, options: FitOptions, *, checkpoint: Path, progress: bool, provenance: Provenance, drawn: int = 0
) -> tuple[GenotypeModel, Workers]:
    from genodiff.core.training import Workers
    from genodiff.genotypes.config import preset
    from genodiff.genotypes.model import GenotypeModel, fingerprint_of

    config = preset(options.preset).with_steps(options.steps)
    if options.anchors is not None:
        rows = data.train.n_samples * (2 if data.train.is_phased else 1)
        if options.anchors > rows:
            unit = "haplotypes" if data.train.is_phased else "people"
            raise InputError(f"--anchors {options.anchors}: there are only {rows:,} {unit} to learn from")
        config = replace(config, anchors=options.anchors)
    _require_memory(data, options, config, drawn=drawn)
    _use_threads(options.threads)
    device = _device(options.device)
    workers = Workers.connect(device)
    provenance.device = str(device)
    drop_damaged(checkpoint)
    with provenance.stage("fit"):
        model = GenotypeModel(config).fit(
            data.train,
            seed=options.seed,
            device=device,
            checkpoint=checkpoint,
            fingerprint=f"{__version__} {fingerprint_of(data.train, config, seed=options.seed)}",
            workers=workers,
            compiled=options.compiled,
            progress=progress,
        )
    provenance.record("model", model.describe())
    provenance.record("model_config", config.to_dict())
    return model, workers


def _require_memory(data: Data, options: FitOptions, config: ModelConfig, *, drawn: int) -> None:
    """Refuses data that a model of the preset cannot be learned from in the memory there is."""
    from genodiff.genotypes.ties import find_ties
    from genodiff.genotypes.units import units_of

    people = data.train.n_samples + (0 if data.holdout is None else data.holdout.n_samples)
    width, free = config.network.width, available_bytes()
    sites = data.train.n_variants
    if free is not None and needed_bytes(people=people, sites=sites, width=width, drawn=drawn) > free:
        # Ties are what makes dense data cheap; to find them is not free, and seldom needed to know that there is room.
        units = units_of(data.train)
        sites = len(find_ties(units.states, ploidy=units.ploidy).drawn)
    smaller = ", or --preset balanced" if options.preset == "best" else ""
    require_memory(
        needed_bytes(people=people, sites=sites, width=width, drawn=drawn),
        what=f"learning from {people:,} people at {data.train.n_variants:,} sites with --preset {options.preset}",
        remedies=f"use --region for a part, or a larger --maf{smaller}",
        anyway=options.ignore_memory,
    )


def _check_labels(wanted: Mapping[str, int], *, known: Iterable[str], where: str) -> None:
    """Refuses labels nobody has, before any work is done."""
    from genodiff.genotypes.admixture import shares_of

    names = sorted(set(known))
    unknown = [name for asked in wanted for name in shares_of(asked, names) if name not in names]
    if unknown:
        has = f"it has {', '.join(names)}" if names else "it was fitted without a panel"
        raise InputError(f"{where}: nobody learned from has the label {unknown[0]!r} ({has}): correct --labels")


@contextlib.contextmanager
def _opened(
    data: DataOptions, output: Path, configuration: Mapping[str, Any], *, seed: int, force: bool, progress: bool
) -> Iterator[tuple[Staging, Provenance, Data]]:
    """What a command that learns begins with: a folder for the results, the record of the run, and the people."""
    provenance = Provenance(seed=seed, configuration={"data": data, **configuration})
    inputs = data_inputs(data)
    with Staging(output, force=force, keep=True, inputs=inputs.values()) as staging:
        with provenance.stage("read"), unchanged(inputs.values()):
            loaded = load_data(data, progress=progress)
            hash_inputs(provenance, inputs)
        provenance.record("filters", loaded.filters.to_dict())
        provenance.record("build", _build(loaded.train))
        yield staging, provenance, loaded


def _build(table: VariantTable) -> str | None:
    build = build_of(table.header)
    return None if build is None else build.name


def fit(data: DataOptions, options: FitOptions, output: Path, *, force: bool, progress: bool) -> GenotypeModel:
    """``genodiff fit``: a model folder from a VCF."""
    with _opened(data, output, {"fit": options}, seed=options.seed, force=force, progress=progress) as opened:
        staging, provenance, loaded = opened
        model, workers = _fit(loaded, options, checkpoint=staging.checkpoint, progress=progress, provenance=provenance)
        if workers.leads:
            finished = staging.path / "model"
            model.save(finished)
            provenance.write(finished / "provenance.json")
            for file in finished.iterdir():
                os.replace(file, staging.path / file.name)
            finished.rmdir()
            staging.finish()
    return model


def write_table(table: VariantTable, output: Path, *, force: bool) -> list[str]:
    """Writes genotypes and, where there are labels, the panel beside them; returns what the format could not hold."""
    check_vcf_output(output, force=force)
    return write_people(table, output, force=force)


def write_people(
    table: VariantTable,
    output: Path,
    *,
    force: bool,
    threads: int | None = None,
    provenance: Provenance | None = None,
) -> list[str]:
    """Writes genotypes and, beside them, the panel where there are labels and the record of the run where there is one.

    Args:
        table: the people.
        output: the genotypes in the format of its ending, which :func:`genodiff.staging.check_vcf_output` has passed.
        force: remove what an earlier run left beside it.
        threads: processor threads that compress; all if ``None``.
        provenance: the record; writing is timed in it.

    Returns:
        What the format could not hold, in lines of text.
    """
    lost: list[str] = []

    def write(path: Path) -> None:
        with contextlib.nullcontext() if provenance is None else provenance.stage("write"):
            lost.extend(write_variants(table, path, threads=threads or os.cpu_count() or 1))
            if table.labels is not None:
                write_panel(table, beside(path, ".panel.tsv"))
            write_ancestry(table, beside(path, ".ancestry.tsv.gz"))
        if provenance is not None:
            provenance.write(beside(path, ".provenance.json"))

    write_together(output, write, force=force)
    return lost


def sample(
    model: Path, options: SampleOptions, output: Path, *, device: str, threads: int | None, force: bool, progress: bool
) -> tuple[VariantTable, str]:
    """``genodiff sample``: new people from a model folder, with their panel and provenance beside the VCF.

    Returns:
        The people, and what was done for their privacy and what the format could not hold; empty where nothing was.
    """
    from genodiff.genotypes.model import GenotypeModel

    check_vcf_output(output, force=force)
    _use_threads(threads)
    provenance = Provenance(seed=options.seed, configuration={"model": model, "sample": options})
    people = None if options.people is None else read_panel(options.people, options.people_column)
    loaded = GenotypeModel.load(model, device=_device(device))
    given = {"map": options.genetic_map, "against": options.against, "sexes": options.sex, "people": options.people}
    hash_inputs(provenance, {"model": model / "model.json", **given})
    if people is not None and sex_counts(loaded.meta.header) is not None:
        raise InputError(
            f"{model} is of X, where men are drawn in pairs: --people is for autosomes, give -n or --labels"
        )
    if options.labels is not None:
        _check_labels(options.labels, known=loaded.labels, where=str(model))
    with unchanged([options.against]):
        train = (
            None if options.against is None else _against(options, options.against, loaded, model, progress=progress)
        )
    contig = str(loaded.meta.sites["contig"].iloc[0])
    genetic_map = None if options.genetic_map is None else read_map(options.genetic_map, contig)
    mixing = Mixing(generations=options.generations, genetic_map=genetic_map)
    provenance.device = str(loaded.engine.device)
    drawing = Drawing.of(loaded.meta.header, n=options.n, labels=options.labels)
    with drafted(output) as drafts:
        with provenance.stage("sample"):
            table = loaded.sample(
                drawing.n if people is None else None,
                labels=drawing.labels,
                people=people,
                mixing=mixing,
                seed=options.seed,
                drafts=drafts,
                progress=progress,
            )
        note = ""
        if options.privacy == "strict" and train is not None:
            table, note = _strict(
                loaded, table, train, mixing=mixing, seed=options.seed, progress=progress, provenance=provenance
            )
        table = drawing.people(one_alternate_each(table), seed=options.seed)
        provenance.record("build", _build(table))
        lost = write_people(table, output, force=force, threads=threads, provenance=provenance)
    return table, "\n".join(filter(None, [note, *lost]))


def _against(options: SampleOptions, path: Path, model: GenotypeModel, folder: Path, *, progress: bool) -> VariantTable:
    """The people a model was learned from, for strict privacy."""
    meta = model.meta
    train = read_learned(path, meta.sites, header=meta.header, sex=options.sex, progress=progress)
    # Without the labels other men may be paired, and fewer left out: one of every label at most.
    odd = 0 if sex_counts(meta.header) is None else len(meta.population.labels)
    if not 0 <= train.n_samples - meta.n_people <= odd // 2:
        raise InputError(
            f"{path} has {train.n_samples:,} people, {folder} was learned from {meta.n_people:,}: give the people it "
            "was learned from and nobody else"
        )
    return train


def _strict(
    model: GenotypeModel,
    table: VariantTable,
    train: VariantTable,
    *,
    mixing: Mixing,
    seed: int,
    progress: bool,
    provenance: Provenance,
) -> tuple[VariantTable, str]:
    """The people with those drawn anew who are too much like somebody in ``train``, and what was done in words."""
    from genodiff.strict import Guard, redraw

    def draw(asked: int | Mapping[str, int], seed: int) -> VariantTable:
        if isinstance(asked, int):
            return model.sample(asked, seed=seed)
        return model.sample(labels=asked, mixing=mixing, seed=seed)

    with provenance.stage("privacy"):
        guard = Guard.of(train, phased=model.meta.ploidy == 1)
        kept, outcome = redraw(table, guard, draw, seed=seed, progress=progress)
    provenance.record("privacy", outcome.to_dict())
    return kept, outcome.line


def _evaluation(
    synthetic: VariantTable,
    plain: VariantTable,
    *,
    train: VariantTable,
    holdout: VariantTable,
    data: Data,
    composed: VariantTable,
    mixed: bool,
    seed: int,
    progress: bool,
) -> Evaluation:
    """All metrics; where some people are of mixed descent, fidelity of the plain ones and privacy of everybody."""
    from genodiff.evaluation.suite import FAMILIES, Evaluation, evaluate_full

    def of(who: VariantTable, train: VariantTable, holdout: VariantTable, families: Sequence[str]) -> Evaluation:
        return evaluate_full(
            who,
            train=train,
            holdout=holdout,
            genetic_map=data.genetic_map,
            seed=seed,
            families=families,
            progress=progress,
        )

    if not mixed:
        return of(synthetic, train, holdout, list(FAMILIES))
    assert data.holdout is not None
    learned, held = (match_labels(table, composed, seed=seed) for table in (data.train, data.holdout))
    private = of(synthetic, learned, held, ["privacy"])
    if plain is synthetic:
        return private
    faithful = of(plain, train, holdout, [name for name in FAMILIES if name != "privacy"])
    frame = pd.concat([faithful.frame, private.frame[private.frame["family"] == "privacy"]], ignore_index=True)
    return Evaluation(frame, faithful.curves | private.curves)


def _judge(
    synthetic: VariantTable,
    data: Data,
    out: Path,
    *,
    seed: int,
    title: str,
    history: list[dict[str, float]] | None,
    figures: str,
    progress: bool,
    provenance: Provenance,
) -> str:
    """Metrics, figures and page into ``out``; returns the verdict in one line."""
    from genodiff.report import judge, write_metrics_csv, write_report

    assert data.holdout is not None
    known = [] if data.train.labels is None else data.train.labels.tolist()
    mixed, composed = by_ancestry(synthetic, known)
    plain = synthetic.select(samples=~mixed) if 2 <= (~mixed).sum() < len(mixed) else synthetic
    like = plain if plain is not synthetic else composed
    train, holdout = (match_labels(table, like, seed=seed) for table in (data.train, data.holdout))
    judged = ""
    if (train.n_samples, holdout.n_samples) != (data.train.n_samples, data.holdout.n_samples):
        judged = (
            f"Judged on {holdout.n_people:,} of {data.holdout.n_people:,} held-out and {train.n_people:,} of "
            f"{data.train.n_people:,} training people, mixed by label as the synthetic ones."
        )
    if mixed.any():
        who = "nobody" if plain is synthetic else f"the other {plain.n_people:,} alone"
        judged += (
            f" {mixed.sum():,} of {synthetic.n_samples:,} synthetic people are of mixed descent, and nobody real is of "
            f"the same: fidelity is judged on {who}, privacy on all."
        )
        judged = judged.strip()
    provenance.record("judged_on", {"train": train.n_people, "holdout": holdout.n_people, "note": judged})
    with provenance.stage("evaluate"):
        evaluation = _evaluation(
            synthetic, plain, train=train, holdout=holdout, data=data, composed=composed, mixed=bool(mixed.any()),
            seed=seed, progress=progress,
        )  # fmt: skip
    write_metrics_csv(evaluation.frame, out / "metrics.csv")
    write_curves(evaluation.curves, out)
    curve = None
    if history:
        curve = pd.DataFrame(history).rename(columns={"validation_loss": "holdout_loss"})
    verdict = judge(evaluation.frame, holdout_haplotypes=2 * holdout.n_samples)
    with provenance.stage("report"):
        write_report(
            out,
            evaluation=evaluation,
            synthetic=synthetic,
            train=train,
            holdout=holdout,
            history=curve,
            provenance=provenance.to_dict(),
            title=title,
            figures=figures,
        )
    return "\n".join([*data.filters.lines(), *([judged] if judged else []), *verdict.lines])


def synthesize(
    data: DataOptions,
    options: FitOptions,
    people: SampleOptions,
    output: Path,
    *,
    figures: str = "png",
    force: bool,
    progress: bool,
) -> str:
    """``genodiff synthesize``: model, synthetic VCF, metrics and report from a VCF; returns the verdict."""
    if data.holdout_samples is None and not 0 < data.holdout < 1:
        raise InputError("--holdout must lie strictly between 0 and 1: the report needs people the model never saw")
    if people.labels is not None and data.panel is None:
        raise InputError("--labels needs --panel: without it nobody has a label")
    if (people.n or sum((people.labels or {}).values()) or 2) < 2:
        raise InputError("one synthetic person cannot be judged: ask for at least 2")
    configuration = {"fit": options, "sample": people}
    with _opened(data, output, configuration, seed=options.seed, force=force, progress=progress) as opened:
        staging, provenance, loaded = opened
        if loaded.holdout is None or loaded.holdout.n_samples < 2:
            raise InputError(f"{data.path}: one person held out is too few to judge by: hold out more")
        if people.labels is not None and loaded.train.labels is not None:
            names = loaded.train.labels.tolist()
            _check_labels(people.labels, known=names, where=str(data.panel))
            mixed = [name for name in people.labels if name not in names]
            if mixed and not loaded.train.is_phased:
                raise InputError(
                    f"{data.path}: a mixture of labels ({mixed[0]}) is a mosaic of haplotypes, and these genotypes are "
                    "not phased: phase them first"
                )
        asked = people.n or sum((people.labels or {}).values()) or loaded.train.n_samples
        model, workers = _fit(
            loaded, options, checkpoint=staging.checkpoint, progress=progress, provenance=provenance, drawn=asked
        )
        if not workers.leads:
            return ""
        out = staging.path
        model.save(out / "model")
        with provenance.stage("sample"):
            mixing = Mixing(generations=people.generations, genetic_map=loaded.genetic_map)
            drawing = Drawing.of(loaded.train.header, n=people.n, labels=people.labels)
            table = model.sample(
                drawing.n,
                labels=drawing.labels,
                mixing=mixing,
                seed=people.seed,
                drafts=staging.drafts,
                progress=progress,
            )
            table = one_alternate_each(table)
        drawn, note = table, ""
        if people.privacy == "strict":
            table, note = _strict(
                model, table, loaded.train, mixing=mixing, seed=people.seed, progress=progress, provenance=provenance
            )
        table = drawing.people(one_alternate_each(table), seed=people.seed)
        with provenance.stage("write"):
            write_vcf(table, out / "synthetic.vcf.gz", threads=options.threads or os.cpu_count() or 1)
            # Every run leaves the same files; without labels the panel says so with the sign of VCF.
            labelled = table if table.labels is not None else table.with_labels(["."] * table.n_samples)
            write_panel(labelled, out / "synthetic.panel.tsv")
            write_ancestry(table, out / "synthetic.ancestry.tsv.gz")
        verdict = _judge(
            table,
            loaded,
            out,
            seed=options.seed,
            title=f"Synthetic genotypes of {data.path.name}",
            history=model.result.history,
            figures=figures,
            progress=progress,
            provenance=provenance,
        )
        if note:
            verdict = "\n".join([note, _cost(drawn, loaded, out, seed=options.seed, progress=progress), verdict])
        provenance.write(out / "provenance.json")
        staging.finish()
    return verdict


def _cost(drawn: VariantTable, data: Data, out: Path, *, seed: int, progress: bool) -> str:
    """What strict privacy costs in fidelity: ``strict.csv`` beside the metrics, and some of it in words."""
    from genodiff.strict import fidelity_cost

    assert data.holdout is not None
    mixed, _ = by_ancestry(drawn, [] if data.train.labels is None else data.train.labels.tolist())
    plain = drawn.select(samples=~mixed)
    if plain.n_samples < 2:
        return "Its cost in fidelity cannot be said: nobody real is of the same mixed descent."
    train, holdout = (match_labels(table, plain, seed=seed) for table in (data.train, data.holdout))
    kept = pd.read_csv(out / "metrics.csv")
    table, line = fidelity_cost(
        plain, kept, train=train, holdout=holdout, genetic_map=data.genetic_map, seed=seed, progress=progress
    )
    atomic_text(out / "strict.csv", table.to_csv(index=False, lineterminator="\n"))
    return line


def evaluate(
    options: JudgedOptions, output: Path, *, seed: int, figures: str = "png", force: bool, progress: bool
) -> str:
    """``genodiff evaluate``: metrics and report for genotypes made by anything; returns the verdict."""
    given = options.inputs
    chosen = {name: getattr(options, name) for name in ("region", "maf", "build", "multiallelic", "structural")}
    provenance = Provenance(seed=seed, configuration={**chosen, **given})
    with Staging(output, force=force, inputs=given.values()) as staging:
        with provenance.stage("read"), unchanged(given.values()):
            judged, data = load_judged(options, progress=progress)
            hash_inputs(provenance, given)
        provenance.record("filters", data.filters.to_dict())
        provenance.record("build", _build(data.train))
        try:
            verdict = _judge(
                judged,
                data,
                staging.path,
                seed=seed,
                title=f"Evaluation of {options.synthetic.name}",
                history=None,
                figures=figures,
                progress=progress,
                provenance=provenance,
            )
        except ValueError as error:
            raise InputError(f"{options.synthetic}: {error}") from error
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return verdict
