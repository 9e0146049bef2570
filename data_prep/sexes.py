"""Sex, and the X chromosome where men have one copy of it.

Outside the pseudo-autosomal regions (PAR) the haplotypes of men are the unit: two men of one label are a *pair*, a row
of a :class:`~data_prep.variants.VariantTable` like a woman with her two chromosomes, so that a man's chromosome counts
once in every frequency. Such a table has two more columns of ``samples``: ``sex``, ``F`` of a woman and ``M`` of a
pair, and ``second``, the name of the other man (empty of a woman); the index has the name of the first.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.files import read_text
from data_prep.panels import SAMPLE_COLUMNS
from data_prep.variants import VariantTable

__all__ = ["Pairs", "Sexes", "panel_sexes", "read_sexes", "sex_counts", "sex_of", "with_sex_counts"]

_SEX = ("sex", "#sex", "gender")
_CODES = {"m": "M", "male": "M", "1": "M", "xy": "M", "f": "F", "female": "F", "2": "F", "xx": "F"}
_UNKNOWN = frozenset(("", "0", "-9", ".", "na", "nan", "unknown", "other"))
_COUNTS = "##genodiff_sexes="


@dataclass(frozen=True)
class Sexes:
    """Who is a woman, who a man, and which men may be paired.

    Attributes:
        of: ``M`` or ``F`` by sample name.
        source: the file, for messages.
        groups: by sample name, what two men of a pair must have in common, as a label; everybody's is the same if
            empty.
        own: whether the file of genotypes itself tells them, as PLINK does.
    """

    of: Mapping[str, str]
    source: str = "--sex"
    groups: Mapping[str, str] = field(default_factory=dict)
    own: bool = False

    def men(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Whether people (people,) are men.

        Raises:
            InputError: people without a sex.
        """
        absent = [name for name in names if name not in self.of]
        if absent:
            raise InputError(
                f"{self.source} lacks {len(absent):,} of {len(names):,} people (first: {', '.join(absent[:3])}): add "
                "them, or read only people of the table"
            )
        return np.array([self.of[name] == "M" for name in names], dtype=bool)


def sex_of(text: str) -> str | None:
    """``M`` or ``F`` for a sex as tables write it, ``None`` for any other text."""
    return _CODES.get(text.strip().lower())


def read_sexes(path: str | os.PathLike[str]) -> Sexes:
    """Sexes of people: a table with the columns sample and sex, or a PLINK ``.fam`` or ``.psam``.

    The table is separated by tabs, commas or blanks; the sample column is named as in a panel, the other ``sex`` or
    ``gender``. Without a header it has two columns, sample and sex, or the six of a ``.fam``. A sex is written M or F,
    male or female, 1 or 2, XY or XX, in any case; who is of neither (0, NA) counts as absent.

    Raises:
        InputError: not such a file, a sex that is none of these, or a sample with two.
    """
    lines = [(n, line) for n, line in read_text(path, what="table of sexes") if not line.startswith("##")]
    if not lines:
        raise InputError(f"{path} holds no lines: give a table with the columns sample and sex")
    separator = next((s for s in ("\t", ",") if s in lines[0][1]), None)
    head = [name.strip() for name in lines[0][1].split(separator)]
    lower = [name.lower() for name in head]
    at = next((lower.index(name) for name in SAMPLE_COLUMNS if name in lower), None)
    sex_at = next((lower.index(name) for name in _SEX if name in lower), None)
    if at is not None and sex_at is not None:
        lines = lines[1:]
    elif at is None and sex_at is None and len(head) in (2, 6):
        at, sex_at = (0, 1) if len(head) == 2 else (1, 4)
    else:
        raise InputError(
            f"{path}: columns {', '.join(head)} hold no {'sample' if at is None else 'sex'}: name them sample and sex"
        )
    of: dict[str, str] = {}
    for number, line in lines:
        fields = [text.strip() for text in line.split(separator)]
        if len(fields) != len(head):
            raise InputError(f"{path}, line {number}: {len(fields)} columns where the first line has {len(head)}")
        if fields[sex_at].lower() in _UNKNOWN:
            continue
        name, sex = fields[at], sex_of(fields[sex_at])
        if sex is None or not name:
            raise InputError(
                f"{path}, line {number}: sex {fields[sex_at]!r} of sample {name!r} is neither M, male, 1 nor F, "
                "female, 2: correct the line"
            )
        if of.setdefault(name, sex) != sex:
            raise InputError(f"{path}, line {number}: sample {name!r} is both {of[name]} and {sex}")
    if not of:
        raise InputError(f"{path} gives nobody a sex: give one line per person")
    return Sexes(of, source=str(path))


def panel_sexes(path: str | os.PathLike[str]) -> Sexes | None:
    """Sexes from a panel with a column ``sex`` or ``gender``, ``None`` where it has none that can be read."""
    columns = {name.strip().lower() for name in re.split(r"[\t, ]+", read_text(path, what="panel")[0][1])}
    if not columns & set(_SEX):
        return None
    try:
        return read_sexes(path)
    except InputError:
        return None


@dataclass(frozen=True)
class Pairs:
    """The rows that the people of a file form on X outside PAR.

    Men are paired with the next man of their group in the order of the file: neighbours there are often of one finer
    population. An odd one is left out.

    Attributes:
        first: person of the first haplotype of each row, (rows,), ascending.
        second: person of the other: the same of a woman, another man of a pair, (rows,).
        men: bool (people,).
        left_out: people in no row.
        names: of all people.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    men: NDArray[np.bool_]
    left_out: NDArray[np.intp]
    names: Sequence[str]

    @classmethod
    def of(cls, names: Sequence[str], sexes: Sexes) -> Pairs:
        """Pairs the men among the people of a file.

        Raises:
            InputError: people without a sex.
        """
        men = sexes.men(names)
        rows = [(int(i), int(i)) for i in np.flatnonzero(~men)]
        waiting: dict[str, int] = {}
        for i in np.flatnonzero(men).tolist():
            group = sexes.groups.get(names[i], "")
            if group in waiting:
                rows.append((waiting.pop(group), i))
            else:
                waiting[group] = i
        table = np.array(sorted(rows), dtype=np.intp).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1], men, np.array(sorted(waiting.values()), dtype=np.intp), list(names))

    def haplotypes(self, calls: NDArray[np.int8]) -> NDArray[np.int8]:
        """Haplotypes (variants, rows, 2) from calls (variants, people, 2), of men the first allele."""
        sides = np.stack([2 * self.first, 2 * self.second + (self.first == self.second)], axis=1).ravel()
        taken = calls.reshape(len(calls), -1)[:, sides]
        return np.ascontiguousarray(taken).reshape(len(calls), -1, 2)

    def phased(self, phased: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Phase (variants, rows) from that of calls (variants, people); that of a pair is known."""
        return phased[:, self.first] | (self.first != self.second)

    def samples(self) -> pd.DataFrame:
        """The rows as ``samples`` of a table."""
        pair = self.first != self.second
        names = np.asarray(self.names, dtype=object)
        return pd.DataFrame(
            {"sex": np.where(pair, "M", "F"), "second": np.where(pair, names[self.second], "")},
            index=pd.Index(names[self.first], name="sample"),
        )

    def notes(self, where: str) -> tuple[str, ...]:
        """Who is who, in lines."""
        pairs = int((self.first != self.second).sum())
        lines = [f"{where}: {len(self.first) - pairs:,} women, and {2 * pairs:,} men with one copy as {pairs:,} pairs"]
        if len(self.left_out):
            lines.append(
                f"{len(self.left_out):,} men without another of their label are left out (first: "
                f"{self.names[self.left_out[0]]})"
            )
        return tuple(lines)


def with_sex_counts(table: VariantTable) -> VariantTable:
    """The table with a header line that says of how many women and pairs every label is, for who is drawn from it.

    A table without sexes is returned as it is.
    """
    if "sex" not in table.samples.columns:
        return table
    labels = np.full(table.n_samples, "") if table.labels is None else table.labels
    men = (table.samples["sex"] == "M").to_numpy()
    counts = {
        str(name): [int((~men & (labels == name)).sum()), int((men & (labels == name)).sum())]
        for name in np.unique(labels)
    }
    kept = tuple(line for line in table.header if not line.startswith(_COUNTS))
    return replace(table, header=(*kept, _COUNTS + json.dumps(counts)))


def sex_counts(header: Iterable[str]) -> dict[str, tuple[int, int]] | None:
    """Number of women and of pairs of men by label, from the line of :func:`with_sex_counts`; ``None`` without it."""
    line = next((line for line in header if line.startswith(_COUNTS)), None)
    if line is None:
        return None
    return {name: (int(women), int(pairs)) for name, (women, pairs) in json.loads(line.removeprefix(_COUNTS)).items()}
