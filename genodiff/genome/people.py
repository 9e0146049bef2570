"""``genodiff people``: who is learned from, who is held out and who is to be made, the same on every chromosome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.panels import attach_panel, read_panel
from data_prep.splits import read_sample_list, split_by_names, split_people
from data_prep.thinning import Unlinked
from data_prep.variants import VariantTable
from data_prep.vcf import VcfSource
from genodiff.files import atomic_text
from genodiff.genome.groups import LEAST_PEOPLE, Grouping, group_people
from genodiff.genome.reading import Parts, read_autosome
from genodiff.provenance import Provenance
from genodiff.staging import Staging

__all__ = ["PeopleOptions", "draw_people", "people"]

_SITES = 20_000
"""Most sites of all files together that principal components are taken of."""

_EVERYBODY = "all"
"""Label of people without a panel."""


@dataclass(frozen=True)
class PeopleOptions:
    """Whom to divide and whom to make.

    Attributes:
        panel: file of population labels; without one everybody has the label ``all``.
        panel_column: its column, if not the usual one.
        holdout: share of people held out, the same of every label.
        holdout_samples: file with the names of the people held out, instead of a share.
        n: synthetic people; as many as are learned from if neither ``n`` nor ``labels`` is given.
        labels: synthetic people per label, instead.
        least: fewest training people of a group, unless its label has fewer.
        seed: of the split, the groups and the draw.
    """

    panel: Path | None = None
    panel_column: str | None = None
    holdout: float = 0.25
    holdout_samples: Path | None = None
    n: int | None = None
    labels: Mapping[str, int] | None = None
    least: int = LEAST_PEOPLE
    seed: int = 1


def people(
    vcfs: Sequence[Path], options: PeopleOptions, output: Path, *, force: bool, progress: bool
) -> tuple[str, list[str]]:
    """Writes ``panel.tsv``, ``train.txt``, ``holdout.txt``, ``people.tsv``, ``groups.tsv`` and ``provenance.json``.

    Args:
        vcfs: chromosomes of the same people, or only unlinked sites of them, as ``genodiff survey`` leaves.
        options: whom to divide and whom to make.
        output: folder to appear.
        force: replace an output that exists.
        progress: show bars.

    Returns:
        What was found, in a line, and of which labels too few people are learned from, a line each.

    Raises:
        InputError: a file that cannot be used, too few people to learn from or held out, other people in another file,
            sites twice, or a label nobody has.
        OutputError: the output cannot be written.
    """
    if options.panel is None and options.panel_column is not None:
        raise InputError("--panel-column names a column of a panel: give --panel, too")
    if options.holdout_samples is None and options.holdout == 0:
        raise InputError(
            "--holdout 0 leaves nobody to judge by: hold out a share, or name people with --holdout-samples"
        )
    provenance = Provenance(seed=options.seed, configuration={"people": options})
    inputs = [*vcfs, options.panel, options.holdout_samples]
    with Staging(output, force=force, inputs=inputs) as staging:
        names = _same_people(vcfs)
        first = VariantTable(
            np.empty((len(names), 0, 2), dtype=np.int8),
            pd.DataFrame(columns=["contig", "position", "id", "ref", "alt"]),
            pd.DataFrame(index=pd.Index(names, name="sample")),
        )
        if options.panel is None:
            first = first.with_labels([_EVERYBODY] * len(names))
        else:
            first = attach_panel(first, read_panel(options.panel, options.panel_column), source=options.panel)
        labels = first.labels
        assert labels is not None
        if options.holdout_samples is None:
            learned, held = split_people(first, holdout=options.holdout, seed=options.seed)
        else:
            listed = read_sample_list(options.holdout_samples)
            learned, held = split_by_names(first, listed, source=options.holdout_samples)
        _check_sides(len(learned), len(held), source=options.holdout_samples)
        wanted = _wanted(options, labels[learned])
        with provenance.stage("read"):
            parts = _parts(vcfs, names, learned, progress=progress)
            for path in inputs:
                if path is not None:
                    provenance.add_input(path)
        mask = np.zeros(len(names), dtype=bool)
        mask[held] = True
        with provenance.stage("groups"):
            found = group_people(parts, held=mask, labels=labels, least=options.least, seed=options.seed)
        group = np.empty(len(names), dtype=object)
        group[learned], group[held] = found.train, found.holdout
        drawn = draw_people(found.train, labels[learned], wanted, seed=options.seed)
        _write(staging.path, names, labels, group, mask, drawn)
        provenance.record("dimensions", found.dimensions)
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return _line(found, labels, drawn), _small(labels[learned], wanted, least=options.least)


def _check_sides(learned: int, held: int, *, source: Path | None) -> None:
    """Refuses what no chromosome could be fitted to, or judged by."""
    # Here and not above: a file that cannot be used is refused before torch is loaded.
    from genodiff.genotypes.model import MIN_PEOPLE

    where = "--holdout" if source is None else source
    if learned < MIN_PEOPLE:
        raise InputError(
            f"{where}: {learned} people are left to learn from, at least {MIN_PEOPLE} are needed; hold out fewer"
        )
    if held < 2:
        raise InputError(f"{where}: one person held out is too few to judge by: hold out more")


def _same_people(vcfs: Sequence[Path]) -> list[str]:
    """Names of the people of the first file, once every other file is known to hold the same."""
    names = VcfSource(vcfs[0]).samples
    for path in vcfs[1:]:
        other = VcfSource(path).samples
        absent = sorted(set(names) ^ set(other))
        if absent:
            where, lacks = (vcfs[0], path) if absent[0] in set(names) else (path, vcfs[0])
            raise InputError(
                f"{lacks} lacks {absent[0]!r}, who is in {where}: give the same people on every chromosome, "
                "for example with 'bcftools view -S'"
            )
    return names


def _wanted(options: PeopleOptions, labels: NDArray[np.str_]) -> dict[str, int]:
    """Synthetic people per label."""
    known, counts = np.unique(labels, return_counts=True)
    if options.labels is not None:
        unknown = sorted(set(options.labels) - set(known.tolist()))
        if unknown:
            raise InputError(
                f"nobody learned from has the label {unknown[0]!r} (there are {', '.join(known)}): correct --labels"
            )
        return dict(options.labels)
    return _apportion(dict(zip(known.tolist(), counts.tolist(), strict=True)), options.n or len(labels))


def _apportion(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to ``total``, by largest remainder; ties go to the first."""
    exact = total * np.asarray(list(shares.values()), dtype=np.float64) / sum(shares.values())
    count = np.floor(exact + 1e-9).astype(int)
    count[np.argsort(-(exact - count), kind="stable")[: total - count.sum()]] += 1
    return dict(zip(shares, count.tolist(), strict=True))


def _parts(
    vcfs: Sequence[Path], names: list[str], learned: NDArray[np.int64], *, progress: bool
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Dosages of two parts of the genome: every other chromosome, or the halves of the only one."""
    each: list[NDArray[np.int8]] = []
    places = Parts()
    most = _SITES // len(vcfs)
    for path in vcfs:
        table, _ = read_autosome(
            path, samples=names, choose=Unlinked(people=learned.astype(np.intp)), progress=progress
        )
        places.add(path, table)
        keep = np.unique(np.linspace(0, table.n_variants - 1, min(most, table.n_variants)).round().astype(int))
        each.append(table.select(variants=keep).dosage())
    if len(each) == 1:
        if each[0].shape[1] < 2:
            raise InputError(f"{vcfs[0]} has one unlinked common site: too few to tell people apart by")
        middle = each[0].shape[1] // 2
        each = [each[0][:, :middle], each[0][:, middle:]]
    return np.concatenate(each[0::2], axis=1), np.concatenate(each[1::2], axis=1)


def draw_people(
    group: NDArray[np.str_], label: NDArray[np.str_], wanted: Mapping[str, int], *, seed: int
) -> pd.DataFrame:
    """Synthetic people in random order, the groups of a label in the proportions of the people learned from.

    Args:
        group: of every person learned from, (people,).
        label: of the same, (people,).
        wanted: people to make per label.
        seed: of the order.

    Returns:
        Columns ``sample`` (GD000001 …), ``label``, ``group``.
    """
    rows: list[tuple[str, str]] = []
    for name, count in wanted.items():
        groups, sizes = np.unique(group[label == name], return_counts=True)
        shares = _apportion(dict(zip(groups.tolist(), sizes.tolist(), strict=True)), count)
        rows += [(name, str(g)) for g, n in shares.items() for _ in range(n)]
    order = np.random.default_rng([seed, 3]).permutation(len(rows))
    width = max(6, len(str(len(rows))))
    return pd.DataFrame(
        [(f"GD{i:0{width}d}", *rows[k]) for i, k in enumerate(order, 1)], columns=["sample", "label", "group"]
    )


def _write(
    folder: Path,
    names: list[str],
    labels: NDArray[np.str_],
    group: NDArray[np.object_],
    held: NDArray[np.bool_],
    drawn: pd.DataFrame,
) -> None:
    real = pd.DataFrame({"sample": names, "label": labels, "group": group})
    counts = pd.DataFrame(
        {
            "train": real[~held].groupby(["label", "group"]).size(),
            "holdout": real[held].groupby(["label", "group"]).size(),
            "synthetic": drawn.groupby(["label", "group"]).size(),
        }
    )
    for name, frame in (("panel", real), ("people", drawn), ("groups", counts.fillna(0).astype(int).reset_index())):
        atomic_text(folder / f"{name}.tsv", frame.to_csv(sep="\t", index=False, lineterminator="\n"))
    for name, side in (("train", ~held), ("holdout", held)):
        atomic_text(folder / f"{name}.txt", "".join(f"{person}\n" for person in real.loc[side, "sample"]))


def _small(labels: NDArray[np.str_], wanted: Mapping[str, int], *, least: int) -> list[str]:
    """What a label of few people discloses, a line a label that somebody is to be made of."""
    learned = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    return [
        f"label {name}: {learned[name]:,} people are learned from, fewer than the {least:,} of --least: who is made "
        f"with it is like one of {learned[name]:,}; join it with another label, or leave it out with --labels"
        for name, count in wanted.items()
        if count and learned[name] < least
    ]


def _line(found: Grouping, labels: NDArray[np.str_], drawn: pd.DataFrame) -> str:
    return (
        f"{len(found.train):,} people to learn from, {len(found.holdout):,} held out, {len(drawn):,} to be made; "
        f"{len(np.unique(labels)):,} labels in {len(np.unique(found.train)):,} groups by {found.dimensions} components"
    )
