"""Women and men among new people on X, where a row drawn from the model is a woman or two men.

Sex has no part in the model: rows are drawn, and then as many of them, at random within their label, are men as keeps
the shares of the people learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.sexes import sex_counts
from data_prep.variants import VariantTable
from genodiff.genotypes.admixture import shares_of

__all__ = ["Drawing"]


@dataclass(frozen=True)
class Drawing:
    """How many rows to draw, and how many of them are men.

    Attributes:
        n: rows in all, as :meth:`GenotypeModel.sample` takes them; ``None`` where it may choose, or for ``labels``.
        labels: rows per label or mixture of labels, or ``None``.
        pairs: pairs of men in all, or per key of ``labels``; ``None`` where people are not told apart by sex.
        counts: women and pairs of men learned from, by label.
    """

    n: int | None
    labels: Mapping[str, int] | None
    pairs: int | Mapping[str, int] | None = None
    counts: Mapping[str, tuple[int, int]] | None = None

    @classmethod
    def of(cls, header: Iterable[str], *, n: int | None, labels: Mapping[str, int] | None) -> Drawing:
        """What is to be drawn for so many people.

        Args:
            header: of the people learned from, with the line of :func:`data_prep.sexes.with_sex_counts` on X.
            n: people in all; as many as were learned from if neither is given.
            labels: people per label or mixture of labels.

        Raises:
            InputError: an odd number of people where there are no women.
        """
        counts = sex_counts(header)
        if counts is None:
            return cls(n, labels)
        total = np.array(list(counts.values())).sum(axis=0)
        if labels is None:
            people = int(total[0] + 2 * total[1]) if n is None else n
            pairs = _pairs(people, total)
            return cls(people - pairs, None, pairs, counts)
        each = {}
        for name, people in labels.items():
            shares = shares_of(name, counts)
            of = sum(share * np.array(counts.get(label, (0, 0))) for label, share in shares.items())
            each[name] = _pairs(people, np.asarray(of))
        return cls(None, {name: people - each[name] for name, people in labels.items()}, each, counts)

    def people(self, table: VariantTable, *, seed: int) -> VariantTable:
        """The rows drawn as women and men, with names GD000001 … in the order of the file.

        Args:
            table: the rows; fewer than were asked for where some were left out.
            seed: of who is a man.
        """
        if self.pairs is None or self.counts is None:
            return table
        rng = np.random.default_rng([seed, 3])
        labels = np.full(table.n_samples, "") if table.labels is None else table.labels.astype(str)
        men = np.zeros(table.n_samples, dtype=bool)
        wanted = self.pairs if isinstance(self.pairs, Mapping) else self._by_label(labels, self.pairs)
        for name, pairs in wanted.items():
            rows = np.flatnonzero(labels == name)
            men[rng.choice(rows, size=min(pairs, len(rows)), replace=False)] = True
        ends = np.cumsum(1 + men)
        width = max(6, len(str(int(ends[-1]))))
        names = np.array([f"GD{i:0{width}d}" for i in range(1, int(ends[-1]) + 1)], dtype=object)
        samples = table.samples.assign(sex=np.where(men, "M", "F"), second=np.where(men, names[ends - 1], ""))
        return replace(table, samples=samples.set_axis(pd.Index(names[ends - 1 - men], name="sample")))

    def _by_label(self, labels: NDArray[np.str_], pairs: int) -> dict[str, int]:
        """A number of pairs shared by the labels as drawn, in proportion to how many of each are pairs."""
        assert self.counts is not None
        names, rows = np.unique(labels, return_counts=True)
        of = [np.array(self.counts.get(str(name), (1, 1))) for name in names]
        exact = np.array([n * c[1] / max(c.sum(), 1) for n, c in zip(rows, of, strict=True)])
        exact = exact * (pairs / max(exact.sum(), 1e-9))
        share = np.minimum(np.floor(exact).astype(np.int64), rows)
        while share.sum() < min(pairs, rows.sum()):
            share[np.argmax(np.where(share < rows, exact - share, -np.inf))] += 1
        return dict(zip(map(str, names), share.tolist(), strict=True))


def _pairs(people: int, counts: NDArray[np.float64]) -> int:
    """Pairs of men among so many people, with the share of ``counts`` (women, pairs), to the nearest pair."""
    women, pairs = counts
    if not women and people % 2:
        raise InputError(
            f"{people:,} people: without women the X chromosome is learned in pairs of men: ask for an even number"
        )
    return min(round(people * pairs / (women + 2 * pairs)), people // 2)
