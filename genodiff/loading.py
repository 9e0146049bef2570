"""From files to tables: what a command reads, whom it holds out, which sites it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_prep.alleles import AlleleRules, Multiallelic
from data_prep.builds import build_named, build_of
from data_prep.errors import InputError
from data_prep.filters import FilterReport, filter_table
from data_prep.formats import companions, is_store
from data_prep.maps import GeneticMap, read_map
from data_prep.panels import attach_panel, read_panel, read_parents
from data_prep.ploidy import own_sexes
from data_prep.readers import open_source, read_variants
from data_prep.regions import Region
from data_prep.sexes import Sexes, panel_sexes, read_sexes, with_sex_counts
from data_prep.sources import Source
from data_prep.splits import read_sample_list, split_by_names, split_people
from data_prep.variants import VariantTable
from genodiff.provenance import Provenance

__all__ = [
    "Data",
    "DataOptions",
    "JudgedOptions",
    "data_inputs",
    "hash_inputs",
    "load_data",
    "load_judged",
    "unchanged",
]


@dataclass(frozen=True)
class DataOptions:
    """What to read and whom to hold out.

    Attributes:
        path: genotypes in any format that :func:`data_prep.readers.open_source` knows.
        panel: file of population labels.
        panel_column: its column, if not the usual one.
        panel_parent: the column of what labels lie within, if not the usual one.
        region: ``contig`` or ``contig:from-to`` (bp, 1-based, inclusive).
        genetic_map: file of the genetic map.
        maf: least minor-allele frequency among the people learned from; 0 keeps every polymorphic site,
            ``None`` monomorphic ones too.
        max_missing: largest share of people without a call.
        holdout: share of people held out, 0 for none.
        holdout_samples: file with the names of the people held out, instead of a share.
        seed: of the split.
        sex: file of the sexes of people, for X.
        build: of the genome, ``GRCh37`` or ``GRCh38``, where the header does not tell.
        multiallelic: of records with several alternates: ``drop``, ``split`` or ``join``.
        structural: whether structural variants are read.
    """

    path: Path
    panel: Path | None = None
    panel_column: str | None = None
    panel_parent: str | None = None
    region: str | None = None
    genetic_map: Path | None = None
    maf: float | None = 0.01
    max_missing: float = 0.1
    holdout: float = 0.25
    holdout_samples: Path | None = None
    seed: int = 1
    sex: Path | None = None
    build: str | None = None
    multiallelic: Multiallelic = "drop"
    structural: bool = True


@dataclass(frozen=True)
class JudgedOptions:
    """Which genotypes to judge, and by whom.

    Attributes:
        synthetic: file of genotypes made by anything.
        train: file of the people its generator learned from.
        holdout: file of people it has not seen.
        panel: file of population labels of the real people.
        synthetic_panel: file of population labels of the synthetic people.
        genetic_map: file of the genetic map.
        region: ``contig`` or ``contig:from-to`` (bp, 1-based, inclusive).
        maf: least minor-allele frequency among the people learned from.
        sex: file of the sexes of the real people, and of the synthetic ones where their panel has none, for X.
        build: of the genome, ``GRCh37`` or ``GRCh38``, where the header does not tell.
        multiallelic: of records with several alternates: ``drop``, ``split`` or ``join``.
        structural: whether structural variants are read.
    """

    synthetic: Path
    train: Path
    holdout: Path
    panel: Path | None = None
    synthetic_panel: Path | None = None
    genetic_map: Path | None = None
    region: str | None = None
    maf: float = 0.0
    sex: Path | None = None
    build: str | None = None
    multiallelic: Multiallelic = "drop"
    structural: bool = True

    @property
    def inputs(self) -> dict[str, Path | None]:
        """The files that are read, by what they are read for."""
        return {
            "synthetic": self.synthetic,
            "train": self.train,
            "holdout": self.holdout,
            "panel": self.panel,
            "synthetic panel": self.synthetic_panel,
            "map": self.genetic_map,
            "sexes": self.sex,
        }


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
    for name in ("panel_column", "panel_parent"):
        if options.panel is None and getattr(options, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} names a column of a panel: give --panel, too")
    source = open_source(options.path)
    names = source.samples
    # Here and not above: a file that cannot be used is refused before torch is loaded.
    from genodiff.genotypes.model import MIN_PEOPLE

    if len(names) < MIN_PEOPLE:
        raise InputError(f"{options.path} has {len(names)} people: at least {MIN_PEOPLE} are needed")
    held_names = None if options.holdout_samples is None else read_sample_list(options.holdout_samples)
    held_count = round(options.holdout * len(names)) if held_names is None else len(held_names)
    panel = None if options.panel is None else read_panel(options.panel, options.panel_column)
    parents = None if options.panel is None else read_parents(options.panel, options.panel_column, options.panel_parent)
    # A site at frequency f among the people learned from, a share m of whom lack a call, has at least
    # (1 − m) (1 − share) f among all; on X, where a woman counts as two men, half of that.
    labels, held_set = {} if panel is None else panel.to_dict(), set(held_names or ())
    # Two men of a pair have one label, and are on one side.
    groups = {name: f"{labels.get(name, '')}\t{name in held_set}" for name in names}
    sexes = _sexes(options.sex, options.panel, groups=groups, own=_own(source, options.region, options.build))
    learned = max(0.0, 1 - held_count / len(names)) * (1.0 if sexes is None else 0.5)
    everybody, coarse = read_variants(
        options.path,
        region=options.region,
        maf=None if options.maf is None else options.maf * learned * (1 - options.max_missing),
        max_missing=options.max_missing,
        rules=AlleleRules(options.multiallelic, options.structural),
        sexes=sexes,
        build=options.build,
        progress=progress,
    )
    if panel is not None:
        everybody = attach_panel(everybody, panel, parents=parents, source=options.panel)
    holdout: VariantTable | None = None
    if held_names is not None:
        if everybody.n_people > everybody.n_samples:
            # Of a pair the first is in the table, of those left out nobody.
            held_names = [name for name in held_names if name not in names or name in everybody.samples.index]
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
        n_samples=train.n_people,
        maf=options.maf or 0.0,
    )
    filters.require_sites()
    if len(held):
        keep = everybody.site_keys.get_indexer(train.site_keys)
        holdout = everybody.select(samples=held, variants=keep)
    contig = str(train.sites["contig"].iloc[0])
    genetic_map = None if options.genetic_map is None else read_map(options.genetic_map, contig)
    return Data(train=with_sex_counts(train), holdout=holdout, filters=filters, genetic_map=genetic_map)


def load_judged(options: JudgedOptions, *, progress: bool) -> tuple[VariantTable, Data]:
    """Genotypes made by anything, and the real people to judge them by.

    Raises:
        InputError: a file that cannot be used, or people who are among those learned from and those held out.
    """
    paths = {"synthetic": options.synthetic, "train": options.train, "holdout": options.holdout}
    panels = {"synthetic": options.synthetic_panel, "train": options.panel, "holdout": options.panel}
    rules = AlleleRules(options.multiallelic, options.structural)
    tables = {}
    for name, path in paths.items():
        panel = panels[name]
        labels = None if panel is None else read_panel(panel)
        groups = {} if labels is None else labels.to_dict()
        own = _own(open_source(path), options.region, options.build) if path.suffix in (".bed", ".pgen") else None
        sexes = _sexes(options.sex, panel, groups=groups, panel_first=name == "synthetic", own=own)
        table, _ = read_variants(
            path,
            region=options.region,
            maf=None,
            max_missing=1.0,
            rules=rules,
            sexes=sexes,
            build=options.build,
            progress=progress,
        )
        tables[name] = table if labels is None else attach_panel(table, labels, source=panel)
    learned_from = set(tables["train"].people)
    shared = [name for name in tables["holdout"].people if name in learned_from]
    if shared:
        raise InputError(
            f"{options.holdout}: {len(shared):,} people are also in {options.train}, the first is {shared[0]}: "
            "a copy cannot be told from people that were learned from; hold out others"
        )
    learned, filters = filter_table(tables["train"], maf=options.maf, max_missing=1.0)
    filters = replace(filters, source=str(options.train))
    filters.require_sites()
    contig = str(learned.sites["contig"].iloc[0])
    map_ = None if options.genetic_map is None else read_map(options.genetic_map, contig)
    return tables["synthetic"], Data(train=learned, holdout=tables["holdout"], filters=filters, genetic_map=map_)


def _sexes(
    given: Path | None,
    panel: Path | None,
    *,
    groups: Mapping[str, str],
    panel_first: bool = False,
    own: Sexes | None = None,
) -> Sexes | None:
    """Sexes from a table, a column of a panel or the genotypes' ``own``; two men of a pair share their group."""
    table = None if given is None else read_sexes(given)
    column = None if panel is None or (table and not panel_first) else panel_sexes(panel)
    found = ((column or table) if panel_first else (table or column)) or own
    return None if found is None else replace(found, groups=groups)


def _own(source: Source, region: str | None, build: str | None) -> Sexes | None:
    where = None if region is None else Region.parse(region)
    return own_sexes(source, where, build_of(source.header) or (None if build is None else build_named(build)))


def data_inputs(options: DataOptions) -> dict[str, Path | None]:
    """The files that are read, by what they are read for."""
    return {
        "genotypes": options.path,
        "panel": options.panel,
        "map": options.genetic_map,
        "sexes": options.sex,
        "holdout samples": options.holdout_samples,
    }


@contextmanager
def unchanged(paths: Iterable[Path | None]) -> Iterator[None]:
    """Refuses files that change while the block reads them: half of what was read would be of another file.

    Raises:
        InputError: size, time of change, or the file itself is another at the end.
    """

    def state(path: Path) -> tuple[int, int, int] | None:
        try:
            facts = path.stat()
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns, facts.st_ino

    before = {path: state(path) for path in paths if path is not None and path.is_file()}
    try:
        yield
    finally:
        # Also where reading failed: of a file that is being written it does, and the remedy is another.
        for path, facts in before.items():
            if state(path) != facts:
                raise InputError(f"{path} changed while it was read: wait until it is written, then run this again")


def hash_inputs(provenance: Provenance, inputs: Mapping[str, Path | None]) -> None:
    """Records the files among the inputs, with those that belong to them."""
    for role, path in inputs.items():
        if path is None:
            continue
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if is_store(path) else [path, *companions(path)]:
            if file.is_file():
                provenance.add_input(file, role=role)
