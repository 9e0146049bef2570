"""The commands as functions: files in, files out.

Everything a command writes is made in a hidden folder beside its destination and moved there in one step. The folder
also keeps the checkpoint of training: a command that was interrupted goes on from it when it is run again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data_prep.composition import match_labels
from data_prep.errors import GenodiffError, InputError, OutputError
from data_prep.filters import FilterReport, filter_table
from data_prep.maps import GeneticMap, read_map
from data_prep.panels import attach_panel, read_panel, write_panel
from data_prep.readers import read_variants
from data_prep.splits import read_sample_list, split_by_names, split_people
from data_prep.variants import VariantTable
from data_prep.vcf import VcfSource
from data_prep.vcf_write import write_vcf
from genodiff import __version__
from genodiff.provenance import Provenance

if TYPE_CHECKING:
    import torch

    from genodiff.core.training import Workers
    from genodiff.genotypes.model import GenotypeModel

__all__ = ["DataOptions", "FitOptions", "SampleOptions", "evaluate", "fit", "inspect", "sample", "synthesize"]

_OURS = {"provenance.json": lambda facts: "genodiff" in facts, "model.json": lambda facts: "genodiff_version" in facts}
"""What a file of results holds when this program wrote it, by name."""


@dataclass(frozen=True)
class DataOptions:
    """What to read and whom to hold out.

    Attributes:
        path: VCF, bgzipped VCF or BCF.
        panel: file of population labels.
        panel_column: its column, if not the usual one.
        region: ``contig`` or ``contig:from-to`` (bp, 1-based, inclusive).
        genetic_map: file of the genetic map.
        maf: least minor-allele frequency among the people learned from; 0 keeps every polymorphic site.
        max_missing: largest share of people without a call.
        holdout: share of people held out, 0 for none.
        holdout_samples: file with the names of the people held out, instead of a share.
        seed: of the split.
    """

    path: Path
    panel: Path | None = None
    panel_column: str | None = None
    region: str | None = None
    genetic_map: Path | None = None
    maf: float = 0.01
    max_missing: float = 0.1
    holdout: float = 0.25
    holdout_samples: Path | None = None
    seed: int = 1


@dataclass(frozen=True)
class FitOptions:
    """How to learn. ``steps`` and ``anchors`` override the preset where given."""

    preset: str = "balanced"
    seed: int = 1
    device: str = "auto"
    threads: int | None = None
    steps: int | None = None
    anchors: int | None = None


@dataclass(frozen=True)
class SampleOptions:
    """How many people to draw, in all or per label."""

    n: int | None = None
    labels: Mapping[str, int] | None = None
    seed: int = 1


@dataclass(frozen=True)
class Data:
    """People to learn from, people held out (if any), and how they came about."""

    train: VariantTable
    holdout: VariantTable | None
    filters: FilterReport
    genetic_map: GeneticMap | None


def load_data(options: DataOptions, *, progress: bool) -> Data:
    """Reads, labels, splits and filters; frequencies are judged among the people learned from alone.

    Raises:
        InputError: a file or an option that cannot be used.
    """
    names = VcfSource(options.path).samples
    # Here and not above: a file that cannot be used is refused before torch is loaded.
    from genodiff.genotypes.model import MIN_PEOPLE

    if len(names) < MIN_PEOPLE:
        raise InputError(f"{options.path} has {len(names)} people: at least {MIN_PEOPLE} are needed")
    held_names = None if options.holdout_samples is None else read_sample_list(options.holdout_samples)
    held_count = round(options.holdout * len(names)) if held_names is None else len(held_names)
    panel = None if options.panel is None else read_panel(options.panel, options.panel_column)
    # A site at frequency f among the people learned from, a share m of whom lack a call, has at least
    # (1 − m) (1 − share) f among all.
    learned = max(0.0, 1 - held_count / len(names))
    everybody, coarse = read_variants(
        options.path,
        region=options.region,
        maf=options.maf * learned * (1 - options.max_missing),
        max_missing=options.max_missing,
        progress=progress,
    )
    if panel is not None:
        everybody = attach_panel(everybody, panel, source=options.panel)
    holdout: VariantTable | None = None
    if held_names is not None:
        chosen, held = split_by_names(everybody, held_names, source=options.holdout_samples)
    elif options.holdout > 0:
        chosen, held = split_people(everybody, holdout=options.holdout, seed=options.seed)
    else:
        chosen, held = np.arange(everybody.n_samples), np.arange(0)
    if len(chosen) < MIN_PEOPLE:
        raise InputError(
            f"{options.path}: {len(chosen)} people are left to learn from, at least {MIN_PEOPLE} are needed; "
            "hold out fewer"
        )
    train, fine = filter_table(everybody.select(samples=chosen), maf=options.maf, max_missing=options.max_missing)
    removed = {k: coarse.removed.get(k, 0) + fine.removed.get(k, 0) for k in {**coarse.removed, **fine.removed}}
    filters = replace(
        coarse,
        kept=train.n_variants,
        removed=removed,
        missing_calls=fine.missing_calls,
        unphased_het_calls=fine.unphased_het_calls,
        n_samples=train.n_samples,
        maf=options.maf,
    )
    filters.require_sites()
    if len(held):
        keep = everybody.site_keys.get_indexer(train.site_keys)
        holdout = everybody.select(samples=held, variants=keep)
    contig = str(train.sites["contig"].iloc[0])
    genetic_map = None if options.genetic_map is None else read_map(options.genetic_map, contig)
    return Data(train=train, holdout=holdout, filters=filters, genetic_map=genetic_map)


def _make_folder(path: Path) -> list[Path]:
    """Creates a folder and those above it; returns the ones that were absent, innermost first."""
    absent = [path] if not path.exists() else []
    absent += [above for above in path.parents if not above.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return absent


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


class Staging:
    """A folder beside the destination that becomes the destination when all is done.

    Args:
        destination: folder to appear at the end; a link is followed.
        force: replace a folder of results that is there.
        keep: leave the checkpoint of an earlier attempt in place.
        inputs: files that are read; none of them may lie in a folder that is replaced.

    Raises:
        OutputError: the destination exists and ``force`` is false, or is not something this program made, or its
            parent cannot be written to.
    """

    def __init__(
        self, destination: Path, *, force: bool, keep: bool = False, inputs: Iterable[Path | None] = ()
    ) -> None:
        self.destination, self._force = destination, force
        self._inputs = [path.resolve() for path in inputs if path is not None]
        try:
            self._target = destination.resolve()
            self._refuse()
            self.path = self._target.with_name(f".{self._target.name}.partial")
            if self.path.exists():
                for left in self.path.iterdir():
                    if left.is_dir() and not left.is_symlink():
                        shutil.rmtree(left)
                    elif not (keep and left == self.checkpoint):
                        left.unlink()
            self._made = _make_folder(self.path)[1:]
        except OSError as error:
            raise OutputError(f"{destination}: cannot write there ({error.strerror}): choose another -o") from error

    def _refuse(self) -> None:
        """Refuses a destination that may not be replaced."""
        if not self._target.exists():
            return
        if not self._force:
            raise OutputError(f"{self.destination} exists: choose another -o, or replace it with --force")
        if not _is_ours(self._target):
            raise OutputError(f"{self.destination} exists and was not made by genodiff: choose another -o")
        for path in self._inputs:
            if self._target in path.parents:
                raise OutputError(f"{self.destination} holds the input {path.name}: choose another -o")

    @property
    def checkpoint(self) -> Path:
        """Where training keeps its state."""
        return self.path / "checkpoint.safetensors"

    def discard(self) -> None:
        """Removes the folder and those made for it, unless it holds a checkpoint to go on from."""
        if not self.checkpoint.exists():
            shutil.rmtree(self.path, ignore_errors=True)
            _remove_empty(self._made)

    def finish(self) -> None:
        """Moves everything into place; what was there is removed only now.

        Raises:
            OutputError: something that may not be replaced has appeared there.
        """
        self._refuse()
        self.checkpoint.unlink(missing_ok=True)
        if self._target.exists():
            shutil.rmtree(self._target)
        os.replace(self.path, self._target)


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty or holds results of this program."""
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    for name, ours in _OURS.items():
        try:
            facts = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(facts, dict) and ours(facts):
            return True
    return False


def _use_threads(threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)


def _device(name: str) -> torch.device:
    from genodiff.genotypes.model import resolve_device

    try:
        return resolve_device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: expected auto, cpu, cuda or mps") from error


def _drop_damaged(checkpoint: Path) -> None:
    """Removes a checkpoint that cannot be read, as a power cut can leave one: training then starts anew."""
    from safetensors import SafetensorError, safe_open

    try:
        if checkpoint.exists():
            with safe_open(checkpoint, framework="pt"):
                pass
    except SafetensorError:
        checkpoint.unlink(missing_ok=True)


def _fit(
    data: Data, options: FitOptions, *, checkpoint: Path, progress: bool, provenance: Provenance
) -> tuple[GenotypeModel, Workers]:
    from genodiff.core.training import Workers
    from genodiff.genotypes.config import preset
    from genodiff.genotypes.model import GenotypeModel, fingerprint_of

    config = preset(options.preset)
    if options.steps is not None:
        config = replace(config, passes=None, training=replace(config.training, steps=options.steps))
    if options.anchors is not None:
        rows = data.train.n_samples * (2 if data.train.is_phased else 1)
        if options.anchors > rows:
            unit = "haplotypes" if data.train.is_phased else "people"
            raise InputError(f"--anchors {options.anchors}: there are only {rows:,} {unit} to learn from")
        config = replace(config, anchors=options.anchors)
    _use_threads(options.threads)
    device = _device(options.device)
    workers = Workers.connect(device)
    provenance.device = str(device)
    _drop_damaged(checkpoint)
    with provenance.stage("fit"):
        model = GenotypeModel(config).fit(
            data.train,
            seed=options.seed,
            device=device,
            checkpoint=checkpoint,
            fingerprint=f"{__version__} {fingerprint_of(data.train, config, seed=options.seed)}",
            workers=workers,
            progress=progress,
        )
    provenance.record("model", model.describe())
    provenance.record("model_config", config.to_dict())
    return model, workers


def _hash_inputs(provenance: Provenance, inputs: Mapping[str, Path | None]) -> None:
    for role, path in inputs.items():
        if path is not None and path.is_file():
            provenance.add_input(path, role=role)


def _check_labels(wanted: Mapping[str, int], *, known: Iterable[str], where: str) -> None:
    """Refuses labels nobody has, before any work is done."""
    names = sorted(set(known))
    unknown = [name for name in wanted if name not in names]
    if unknown:
        has = f"it has {', '.join(names)}" if names else "it was fitted without a panel"
        raise InputError(f"{where}: nobody learned from has the label {unknown[0]!r} ({has}): correct --labels")


def _data_inputs(options: DataOptions) -> dict[str, Path | None]:
    return {
        "genotypes": options.path,
        "panel": options.panel,
        "map": options.genetic_map,
        "holdout samples": options.holdout_samples,
    }


def fit(data: DataOptions, options: FitOptions, output: Path, *, force: bool, progress: bool) -> GenotypeModel:
    """``genodiff fit``: a model folder from a VCF."""
    provenance = Provenance(seed=options.seed, configuration={"data": data, "fit": options})
    inputs = _data_inputs(data)
    staging = Staging(output, force=force, keep=True, inputs=inputs.values())
    try:
        with provenance.stage("read"):
            loaded = load_data(data, progress=progress)
            _hash_inputs(provenance, inputs)
        provenance.record("filters", loaded.filters.to_dict())
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
    except BaseException:
        staging.discard()
        raise


def _stem(path: Path) -> str:
    """``synthetic.vcf.gz`` → ``synthetic``."""
    stem = path.name
    for suffix in (".gz", ".bgz", ".vcf", ".bcf"):
        stem = stem.removesuffix(suffix)
    return stem


def _beside(output: Path, ending: str) -> Path:
    """``synthetic.vcf.gz`` → ``synthetic.panel.tsv``, in the same folder."""
    return output.parent / f"{_stem(output)}{ending}"


def _check_vcf_output(output: Path, *companions: Path, force: bool) -> None:
    """Refuses a destination that would fail or overwrite, before any work is done."""
    try:
        if output.is_dir():
            raise OutputError(
                f"{output} is a folder: give the name of a VCF file, for example {output}/synthetic.vcf.gz"
            )
        if not _stem(output) or not output.name.endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")):
            raise OutputError(f"{output}: the name must end in .vcf, .vcf.gz or .bcf")
        for path in (output, *companions):
            if path.exists() and not force:
                raise OutputError(f"{path} exists: choose another -o, or replace it with --force")
        above = next(folder for folder in output.absolute().parents if folder.exists())
    except OSError as error:
        raise OutputError(f"{output}: cannot write there ({error.strerror}): choose another -o") from error
    if not above.is_dir():
        raise OutputError(f"{output}: {above} is not a folder: choose another -o")
    if not os.access(above, os.W_OK):
        raise OutputError(f"{output}: {above} cannot be written to: choose another -o")


def _write_together(output: Path, write: Callable[[Path], None]) -> None:
    """Files beside each other that appear together: ``write`` receives the name of the first in a hidden folder."""
    made: list[Path] = []
    hidden: Path | None = None
    try:
        made = _make_folder(output.absolute().parent)
        hidden = Path(tempfile.mkdtemp(dir=output.absolute().parent, prefix=f".{_stem(output)}-"))
        write(hidden / output.name)
        # An index left by another run would be found first.
        for suffix in (".tbi", ".csi"):
            output.with_name(output.name + suffix).unlink(missing_ok=True)
        for path in sorted(hidden.iterdir(), key=lambda path: path.name == output.name):
            os.replace(path, output.with_name(path.name))
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written ({error.strerror}): check the folder and the free space"
        ) from error
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)
        _remove_empty(made)


def write_table(table: VariantTable, output: Path, *, force: bool) -> None:
    """Writes a VCF and, where there are labels, the panel beside it."""
    labelled = table.labels is not None
    _check_vcf_output(output, *([_beside(output, ".panel.tsv")] if labelled else []), force=force)

    def write(path: Path) -> None:
        write_vcf(table, path)
        if labelled:
            write_panel(table, _beside(path, ".panel.tsv"))

    _write_together(output, write)


def sample(
    model: Path, options: SampleOptions, output: Path, *, device: str, threads: int | None, force: bool, progress: bool
) -> VariantTable:
    """``genodiff sample``: new people from a model folder, with their panel and provenance beside the VCF."""
    from genodiff.genotypes.model import GenotypeModel

    _check_vcf_output(output, _beside(output, ".panel.tsv"), _beside(output, ".provenance.json"), force=force)
    _use_threads(threads)
    provenance = Provenance(seed=options.seed, configuration={"model": model, "sample": options})
    loaded = GenotypeModel.load(model, device=_device(device))
    _hash_inputs(provenance, {"model": model / "model.json"})
    if options.labels is not None:
        _check_labels(options.labels, known=loaded.labels, where=str(model))
    provenance.device = str(loaded.engine.device)
    with provenance.stage("sample"):
        table = loaded.sample(options.n, labels=options.labels, seed=options.seed, progress=progress)

    def write(path: Path) -> None:
        with provenance.stage("write"):
            write_vcf(table, path, threads=threads or os.cpu_count() or 1)
            if table.labels is not None:
                write_panel(table, _beside(path, ".panel.tsv"))
        provenance.write(_beside(path, ".provenance.json"))

    _write_together(output, write)
    return table


def _judge(
    synthetic: VariantTable,
    data: Data,
    out: Path,
    *,
    seed: int,
    title: str,
    history: list[dict[str, float]] | None,
    progress: bool,
    provenance: Provenance,
) -> str:
    """Metrics, figures and page into ``out``; returns the verdict in one line."""
    from genodiff.evaluation.suite import evaluate_full
    from genodiff.report import judge, write_metrics_csv, write_report

    assert data.holdout is not None
    train, holdout = (match_labels(table, synthetic, seed=seed) for table in (data.train, data.holdout))
    judged = ""
    if (train.n_samples, holdout.n_samples) != (data.train.n_samples, data.holdout.n_samples):
        judged = (
            f"Judged on {holdout.n_samples:,} of {data.holdout.n_samples:,} held-out and {train.n_samples:,} of "
            f"{data.train.n_samples:,} training people, mixed by label as the synthetic ones."
        )
    provenance.record("judged_on", {"train": train.n_samples, "holdout": holdout.n_samples, "note": judged})
    with provenance.stage("evaluate"):
        evaluation = evaluate_full(
            synthetic,
            train=train,
            holdout=holdout,
            genetic_map=data.genetic_map,
            seed=seed,
            progress=progress,
        )
    write_metrics_csv(evaluation.frame, out / "metrics.csv")
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
        )
    return "\n".join([*data.filters.lines(), *([judged] if judged else []), *verdict.lines])


def synthesize(
    data: DataOptions,
    options: FitOptions,
    people: SampleOptions,
    output: Path,
    *,
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
    provenance = Provenance(seed=options.seed, configuration={"data": data, "fit": options, "sample": people})
    inputs = _data_inputs(data)
    staging = Staging(output, force=force, keep=True, inputs=inputs.values())
    try:
        with provenance.stage("read"):
            loaded = load_data(data, progress=progress)
            _hash_inputs(provenance, inputs)
        if loaded.holdout is None or loaded.holdout.n_samples < 2:
            raise InputError(f"{data.path}: one person held out is too few to judge by: hold out more")
        if people.labels is not None and loaded.train.labels is not None:
            _check_labels(people.labels, known=loaded.train.labels.tolist(), where=str(data.panel))
        provenance.record("filters", loaded.filters.to_dict())
        model, workers = _fit(loaded, options, checkpoint=staging.checkpoint, progress=progress, provenance=provenance)
        if not workers.leads:
            return ""
        out = staging.path
        model.save(out / "model")
        with provenance.stage("sample"):
            table = model.sample(people.n, labels=people.labels, seed=people.seed, progress=progress)
        with provenance.stage("write"):
            write_vcf(table, out / "synthetic.vcf.gz", threads=options.threads or os.cpu_count() or 1)
            # Every run leaves the same files; without labels the panel says so with the sign of VCF.
            labelled = table if table.labels is not None else table.with_labels(["."] * table.n_samples)
            write_panel(labelled, out / "synthetic.panel.tsv")
        verdict = _judge(
            table,
            loaded,
            out,
            seed=options.seed,
            title=f"Synthetic genotypes of {data.path.name}",
            history=model.result.history,
            progress=progress,
            provenance=provenance,
        )
        provenance.write(out / "provenance.json")
        staging.finish()
        return verdict
    except BaseException:
        staging.discard()
        raise


def evaluate(
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
    seed: int,
    force: bool,
    progress: bool,
) -> str:
    """``genodiff evaluate``: metrics and report for genotypes made by anything; returns the verdict."""
    inputs = {"synthetic": synthetic, "train": train, "holdout": holdout, "panel": panel, "map": genetic_map}
    given = {"synthetic panel": synthetic_panel, **inputs}
    provenance = Provenance(seed=seed, configuration={"region": region, "maf": maf, **given})
    staging = Staging(output, force=force, inputs=given.values())
    try:
        with provenance.stage("read"):
            tables = {
                name: read_variants(path, region=region, maf=None, max_missing=1.0, progress=progress)[0]
                for name, path in (("synthetic", synthetic), ("train", train), ("holdout", holdout))
            }
            if panel is not None:
                labels = read_panel(panel)
                for name in ("train", "holdout"):
                    tables[name] = attach_panel(tables[name], labels, source=panel)
            if synthetic_panel is not None:
                tables["synthetic"] = attach_panel(
                    tables["synthetic"], read_panel(synthetic_panel), source=synthetic_panel
                )
            shared = tables["train"].samples.index.intersection(tables["holdout"].samples.index)
            if len(shared):
                raise InputError(
                    f"{holdout}: {len(shared):,} people are also in {train}, the first is {shared[0]}: "
                    "a copy cannot be told from people that were learned from; hold out others"
                )
            tables["train"], filters = filter_table(tables["train"], maf=maf, max_missing=1.0)
            filters = replace(filters, source=str(train))
            filters.require_sites()
            contig = str(tables["train"].sites["contig"].iloc[0])
            map_ = None if genetic_map is None else read_map(genetic_map, contig)
            _hash_inputs(provenance, given)
        provenance.record("filters", filters.to_dict())
        data = Data(tables["train"], tables["holdout"], filters, map_)
        try:
            verdict = _judge(
                tables["synthetic"],
                data,
                staging.path,
                seed=seed,
                title=f"Evaluation of {synthetic.name}",
                history=None,
                progress=progress,
                provenance=provenance,
            )
        except ValueError as error:
            raise InputError(f"{synthetic}: {error}") from error
        provenance.write(staging.path / "provenance.json")
        staging.finish()
        return verdict
    except BaseException:
        staging.discard()
        raise


def inspect(path: Path, *, region: str | None = None, progress: bool = False) -> list[tuple[str, str]]:
    """``genodiff inspect``: what a VCF or a model folder holds, as pairs of name and value."""
    if path.is_dir():
        from genodiff.genotypes.model import GenotypeModel

        facts = GenotypeModel.load(path, device="cpu").describe()
        return [(k.replace("_", " "), _shown(v)) for k, v in facts.items()]
    table, filters = read_variants(path, region=region, maf=0.0, max_missing=1.0, progress=progress)
    frequency = table.allele_frequency()
    maf = np.minimum(frequency, 1 - frequency)
    sites = table.sites
    first, last = int(sites["position"].iloc[0]), int(sites["position"].iloc[-1])
    rows = [
        ("people", f"{table.n_samples:,}"),
        ("contig", str(sites["contig"].iloc[0])),
        ("span", f"{first:,}–{last:,} bp"),
        ("records", f"{filters.n_records:,}"),
        ("usable sites", f"{table.n_variants:,}"),
        *((f"removed, {reason}", f"{count:,}") for reason, count in filters.removed.items()),
        ("sites with MAF ≥ 1 %", f"{int((maf >= 0.01).sum()):,}"),
        ("sites with MAF ≥ 5 %", f"{int((maf >= 0.05).sum()):,}"),
        ("phased", _phase(table)),
        ("unphased heterozygous calls", f"{filters.unphased_het_calls:,}"),
        ("missing calls", f"{filters.missing_calls:,}"),
    ]
    return rows


def removals(output: Path) -> list[str]:
    """What the filters removed for the run that wrote the folder, as lines of text."""
    return FilterReport(**json.loads((output / "provenance.json").read_text())["filters"]).lines()


def _phase(table: VariantTable) -> str:
    """How calls are phased, and what the model makes of it."""
    if not table.unphased_het.any():
        return "yes: haplotypes are learned"
    return "mostly: haplotypes are learned, unphased calls masked" if table.is_phased else "no: dosages are learned"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:,}" for k, v in value.items()) or "none"
    if isinstance(value, float):
        return "–" if not math.isfinite(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


_NOT_WRITABLE = frozenset(
    (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG)
)


def as_user_error(error: BaseException) -> str | None:
    """The one line a user sees for an error that is theirs to mend, or ``None`` for a defect of this program."""
    if isinstance(error, GenodiffError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return f"{error.filename or 'output'}: cannot be written ({error.strerror}): free space or choose another -o"
    if "torch" not in sys.modules:
        return None
    from safetensors import SafetensorError

    from genodiff.core.training import TrainingError

    if isinstance(error, TrainingError):
        return str(error)
    # A full disk while a checkpoint is written is no OSError.
    if isinstance(error, SafetensorError) and "os error" in str(error):
        return f"the checkpoint cannot be written ({error}): free space or choose another -o"
    return None
