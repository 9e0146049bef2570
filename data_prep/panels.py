"""Population labels of people: read a panel, put it on a table, write one."""

from __future__ import annotations

import os
import re

import pandas as pd

from data_prep.errors import InputError, OutputError
from data_prep.files import read_text
from data_prep.variants import VariantTable

__all__ = ["attach_panel", "read_panel", "write_panel"]

_SAMPLE = ("sample", "#sample", "iid", "#iid", "id", "sample_id", "individual")
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
    at = next((lower.index(name) for name in _SAMPLE if name in lower), None)
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


def attach_panel(
    table: VariantTable, panel: pd.Series, *, source: str | os.PathLike[str] | None = None
) -> VariantTable:
    """The table with a label for every person.

    Args:
        table: people to label; the panel may hold others too.
        panel: labels indexed by sample name, from :func:`read_panel`.
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
    return table.with_labels(panel.loc[names].astype(str).to_numpy())


def write_panel(table: VariantTable, path: str | os.PathLike[str]) -> None:
    """Write ``sample<tab>label`` for every person.

    Raises:
        ValueError: the table has no labels, or a name or label holds a tab or line end.
        OutputError: the file cannot be written.
    """
    labels = table.labels
    if labels is None:
        raise ValueError("the table has no labels")
    names = [str(name) for name in table.samples.index]
    for text in (*names, *map(str, set(labels))):
        if re.search(r"[\t\r\n]", text):
            raise ValueError(f"{text!r} cannot be written to a panel")
    body = "".join(f"{name}\t{label}\n" for name, label in zip(names, labels, strict=True))
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as handle:
            handle.write(f"sample\tlabel\n{body}")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): check the folder and the free space"
        ) from error
