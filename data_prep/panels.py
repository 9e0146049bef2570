"""Population labels of people: read a panel, put it on a table, write one."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import numpy as np
import pandas as pd

from data_prep.errors import InputError, OutputError
from data_prep.files import read_text
from data_prep.variants import VariantTable

__all__ = ["PARENT", "SAMPLE_COLUMNS", "attach_panel", "parents_of", "read_panel", "read_parents", "write_panel"]

PARENT = "super_pop"
"""Column of a panel that says within what the labels of another column lie."""

SAMPLE_COLUMNS = ("sample", "#sample", "iid", "#iid", "id", "sample_id", "individual")
_LABEL = ("super_pop", "label", "pop", "population")


def _fields(line: str, separator: str | None) -> list[str]:
    return [field.strip() for field in line.split(separator)]


def read_panel(path: str | os.PathLike[str], column: str | None = None) -> pd.Series:
    """Labels by sample name.

    The file is separated by tabs, commas or blanks, and may be gzipped. With a header the sample column is named
    ``sample``, ``IID``, ``#IID`` or ``id`` (in any case) and the label column is the first of ``super_pop``, ``label``,
    ``pop``, ``population``. Without a header it has two columns, sample and label.

    Args:
        path: the panel.
        column: the label column to take instead.

    Returns:
        Labels (str), indexed by ``sample``.

    Raises:
        InputError: not such a file, a column is absent, a label is empty, or a sample has two labels.
    """
    lines = [(n, line) for n, line in read_text(path, what="panel") if not line.startswith("##")]
    if not lines:
        raise InputError(f"{path} holds no lines: give a panel with the columns sample and label")
    separator = next((s for s in ("\t", ",") if s in lines[0][1]), None)
    head = _fields(lines[0][1], separator)
    lower = [name.lower() for name in head]
    at = next((lower.index(name) for name in SAMPLE_COLUMNS if name in lower), None)
    wanted = [column.lower()] if column is not None else list(_LABEL)
    label_at = next((lower.index(name) for name in wanted if name in lower), None)
    if at is not None and label_at is not None and at != label_at:
        body = lines[1:]
    elif column is not None:
        raise InputError(f"{path} has no label column {column!r}: its columns are {', '.join(head)}")
    elif at is None and label_at is None and len(head) == 2:
        at, label_at, body = 0, 1, lines
    else:
        raise InputError(
            f"{path}: columns {', '.join(head)} hold no {'sample' if at is None else 'label'}: "
            "name them sample and label (or super_pop, pop, population)"
        )
    labels: dict[str, str] = {}
    for number, line in body:
        fields = _fields(line, separator)
        if len(fields) != len(head):
            raise InputError(f"{path}, line {number}: {len(fields)} columns where the first line has {len(head)}")
        name, label = fields[at], fields[label_at]
        if not name or not label:
            raise InputError(
                f"{path}, line {number}: the {'label' if name else 'sample'} is empty; fill it or drop the line"
            )
        if labels.setdefault(name, label) != label:
            raise InputError(f"{path}, line {number}: sample {name!r} is both {labels[name]!r} and {label!r}")
    if not labels:
        raise InputError(f"{path} holds a header only: give one line per person")
    return pd.Series(labels, name="label", dtype=object).rename_axis("sample")


def read_parents(
    path: str | os.PathLike[str], column: str | None = None, parent: str | None = None
) -> pd.Series | None:
    """The parent of every person's label, as super-populations are of populations, by sample name.

    Args:
        path: the panel.
        column: the label column, as for :func:`read_panel`.
        parent: the column of parents; if ``None``, ``super_pop`` where the panel has it beside the label column and
            every label lies in one of them.

    Returns:
        Parents (str), indexed by ``sample``; ``None`` where none are asked for and none are found.

    Raises:
        InputError: as for :func:`read_panel`, or a label lies in two parents that were asked for.
    """
    labels = read_panel(path, column)
    try:
        above = read_panel(path, parent or PARENT)
    except InputError:
        if parent is not None:
            raise
        return None
    several = above.groupby(labels).agg(lambda part: len(set(part))) > 1
    if several.any() and parent is not None:
        label = str(several.idxmax())
        first, second = sorted(above[labels == label].unique())[:2]
        raise InputError(
            f"{path}: label {label!r} lies in {first!r} and in {second!r} of column {parent!r}: "
            "name a column that holds one parent a label with --panel-parent"
        )
    same = above.nunique() == labels.nunique()
    return None if several.any() or (same and parent is None) else above.rename("parent")


def parents_of(table: VariantTable) -> dict[str, str] | None:
    """Parent of every label of a table; ``None`` where it has no labels or no parents.

    Raises:
        InputError: a label lies in two parents.
    """
    labels = table.labels
    if labels is None or "parent" not in table.samples.columns:
        return None
    out: dict[str, str] = {}
    for label, parent in zip(labels.tolist(), table.samples["parent"].astype(str), strict=True):
        if out.setdefault(label, parent) != parent:
            raise InputError(f"label {label!r} lies in {out[label]!r} and in {parent!r}: give every label one parent")
    return out


def attach_panel(
    table: VariantTable,
    panel: pd.Series,
    *,
    parents: pd.Series | None = None,
    source: str | os.PathLike[str] | None = None,
) -> VariantTable:
    """The table with a label for every person, and with its parent in ``samples["parent"]`` where there are parents.

    Args:
        table: people to label; the panel may hold others too.
        panel: labels indexed by sample name, from :func:`read_panel`.
        parents: parents of the labels indexed by sample name, from :func:`read_parents`.
        source: the file of the panel, for the message.

    Raises:
        InputError: people of the table that the panel lacks; the message gives their number and the first of them.
    """
    names = pd.Index(table.samples.index.astype(str))
    absent = names[~names.isin(panel.index)]
    if len(absent):
        first = ", ".join(absent[:3])
        raise InputError(
            f"{source or 'the panel'} lacks {len(absent):,} of {len(names):,} people (first: {first}): "
            "add them, or read only people of the panel"
        )
    labelled = table.with_labels(panel.loc[names].astype(str).to_numpy())
    if parents is None:
        return labelled
    return replace(labelled, samples=labelled.samples.assign(parent=parents.loc[names].astype(str).to_numpy()))


def write_panel(table: VariantTable, path: str | os.PathLike[str]) -> None:
    """Write ``sample<tab>label`` for every person, with ``sex`` (M, F) behind it where the table has sexes.

    Raises:
        ValueError: the table has no labels, or a name or label holds a tab or line end.
        OutputError: the file cannot be written.
    """
    if table.labels is None:
        raise ValueError("the table has no labels")
    rows = np.repeat(np.arange(table.n_samples), table.people_per_row)
    columns = [table.people, table.labels[rows]]
    head = ["sample", "label"]
    if "sex" in table.samples.columns:
        columns.append(table.samples["sex"].to_numpy()[rows])
        head.append("sex")
    for text in (*table.people, *map(str, set(table.labels))):
        if re.search(r"[\t\r\n]", text):
            raise ValueError(f"{text!r} cannot be written to a panel")
    lines = ("\t".join(map(str, fields)) for fields in zip(*columns, strict=True))
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as handle:
            handle.write("\n".join(["\t".join(head), *lines]) + "\n")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): check the folder and the free space"
        ) from error
