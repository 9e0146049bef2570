"""``--privacy strict``: synthetic people who are more like a training person than real people are, are drawn anew.

Three things are measured of a row (a haplotype, or a person where phase is unknown) against the training rows:

* the *distance* to the nearest of them,
* the longest *run* of sites shared with one of them,
* the *exposure* of one of them: how many times nearer the row lies to it than anybody else it is known with does.
  A copy of a common haplotype exposes nobody, one of a haplotype that a single person has exposes that person.

What is innocent is taken from the training people alone, each of whom is held against the others in the same way. A
synthetic person is redrawn, with the same label, where a row of theirs goes beyond all but 1 % of training rows in one
of the three. So an honest model loses people too, about as many as the training people would lose among themselves: the
price of strictness is the far tail of likeness, on both sides of what is innocent there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.variants import VariantTable
from genodiff.evaluation.copying import shared_runs, shared_runs_with_others
from genodiff.evaluation.distances import hamming

__all__ = ["QUANTILE", "ROUNDS", "Guard", "Measures", "Neighbours", "Outcome", "fidelity_cost", "redraw"]

QUANTILE = 0.99
"""Share of training rows that may not be exceeded."""

ROUNDS = 10
"""How often people are drawn anew before they are left out."""

_LEAST_DRAWN = 64
_CELLS = 1 << 23

_SAID = {"af_mae": "allele-frequency error", "ld_decay_mae": "LD-decay error", "c2st_auc": "C2ST"}

Draw = Callable[[int | Mapping[str, int], int], VariantTable]
"""Draws so many people, in all or per label, with a seed."""


@dataclass(frozen=True)
class Neighbours:
    """The two people nearest to each of some rows, people of the row itself left out.

    Attributes:
        distance: differing alleles to the nearest row of another person, float32 (n,); ∞ where there is none.
        person: that person, (n,).
        second: distance to the nearest row of a third person, float32 (n,).
    """

    distance: NDArray[np.float32]
    person: NDArray[np.int64]
    second: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.int8], *, rows_per_person: int) -> Neighbours:
        """Of rows (n, sites) among one another, rows of one person beside one another."""
        owner = np.arange(len(rows)) // rows_per_person
        parts = []
        for part in _parts(len(rows), len(rows)):
            apart = hamming(rows[part], rows)
            people = apart.reshape(len(apart), -1, rows_per_person).min(axis=2)
            at = np.arange(len(people))
            people[at, owner[part]] = np.inf
            nearest = people.argmin(axis=1)
            first = people[at, nearest]
            people[at, nearest] = np.inf
            parts.append((first, nearest, people.min(axis=1)))
        return cls(*(np.concatenate(p) for p in zip(*parts, strict=True)))


def _parts(n: int, width: int) -> list[slice]:
    """Runs of n rows whose distances to ``width`` others fit in memory."""
    step = max(1, _CELLS // max(width, 1))
    return [slice(i, i + step) for i in range(0, n, step)]


@dataclass(frozen=True)
class Measures:
    """Likeness of rows to the training rows.

    Attributes:
        distance: differing alleles to the nearest training row, (n,).
        run: longest run of sites shared with a training row, (n,).
        exposure: largest ratio of 1 + the distance of a training row to its nearest other person and 1 + its distance
            to this row, (n,).
    """

    distance: NDArray[np.float32]
    run: NDArray[np.int64]
    exposure: NDArray[np.float32]


@dataclass(frozen=True)
class Guard:
    """What a person may share with the training people.

    Attributes:
        rows: int8 (n, sites), the training rows, complete.
        rows_per_person: 2 for haplotypes, 1 for dosages.
        alone: distance of each training row to its nearest other person, (n,).
        least_distance: fewest alleles a row may differ by from a training row.
        longest_run: most sites in a row it may share with one.
        largest_exposure: most a training row may be exposed by it.
        real_share: share of the training people who go beyond one of the three among the others.
    """

    rows: NDArray[np.int8]
    rows_per_person: int
    alone: NDArray[np.float32]
    least_distance: float
    longest_run: float
    largest_exposure: float
    real_share: float

    @classmethod
    def of(cls, train: VariantTable, *, phased: bool, quantile: float = QUANTILE) -> Guard:
        """The bounds that the training people set among themselves, each without their own rows.

        Args:
            train: at least 3 training people; a missing call counts as the commonest state of the site.
            phased: whether haplotypes are compared, or else dosages.
            quantile: share of rows that keep to a bound.
        """
        rows, per = _states(train, phased=phased), 2 if phased else 1
        counts = np.stack([(rows == k).sum(axis=0) for k in range(2 // per + 1)])
        rows = np.where(rows < 0, counts.argmax(axis=0).astype(np.int8), rows)
        near = Neighbours.of(rows, rows_per_person=per)
        real = Measures(
            distance=near.distance,
            run=shared_runs_with_others(rows, rows_per_person=per).sites,
            exposure=_exposure_among(rows, near, rows_per_person=per),
        )
        # Ties keep to the bound, so that at most a share 1 − quantile goes beyond it.
        guard = cls(
            rows=rows,
            rows_per_person=per,
            alone=near.distance,
            least_distance=float(np.quantile(real.distance, 1 - quantile, method="lower")),
            longest_run=float(np.quantile(real.run, quantile, method="higher")),
            largest_exposure=float(np.quantile(real.exposure, quantile, method="higher")),
            real_share=float("nan"),
        )
        return replace(guard, real_share=float(guard._beyond(real).mean()))

    def measures(self, rows: NDArray[np.int8]) -> Measures:
        """Of new rows, int8 (n, sites), complete."""
        distance, exposure = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.float32)
        for part in _parts(len(rows), len(self.rows)):
            apart = hamming(rows[part], self.rows)
            distance[part] = apart.min(axis=1)
            exposure[part] = ((1 + self.alone) / (1 + apart)).max(axis=1)
        return Measures(distance, shared_runs(rows, self.rows).sites, exposure)

    def _beyond(self, found: Measures) -> NDArray[np.bool_]:
        """Whether each person goes beyond a bound, (people,)."""
        bounds = (found.distance < self.least_distance, found.run > self.longest_run)
        rows = np.logical_or.reduce([*bounds, found.exposure > self.largest_exposure])
        return np.asarray(rows.reshape(-1, self.rows_per_person).any(axis=1))

    def exceeded(self, table: VariantTable) -> NDArray[np.bool_]:
        """Whether each person goes beyond a bound, (people,). The table has complete calls at the same sites."""
        return self._beyond(self.measures(_states(table, phased=self.rows_per_person == 2)))


def _exposure_among(rows: NDArray[np.int8], near: Neighbours, *, rows_per_person: int) -> NDArray[np.float32]:
    """How much each training row exposes one of another person, who is known with everybody but the two of them."""
    owner = np.arange(len(rows)) // rows_per_person
    out = np.empty(len(rows), dtype=np.float32)
    for part in _parts(len(rows), len(rows)):
        own = owner[part, None]
        alone = np.where(near.person == own, near.second, near.distance)
        ratio = (1 + alone) / (1 + hamming(rows[part], rows))
        ratio[own == owner] = 0
        out[part] = ratio.max(axis=1)
    return out


def _states(table: VariantTable, *, phased: bool) -> NDArray[np.int8]:
    return table.haplotype_rows() if phased else table.dosage()


@dataclass(frozen=True)
class Outcome:
    """What was done to whom.

    Attributes:
        people: people asked for.
        exceeded: of the people first drawn, how many exceeded a bound.
        redrawn: how many of them someone else took the place of.
        dropped: how many are left out, because everybody drawn in their place exceeded a bound too.
        rounds: rounds of drawing anew.
        candidates: people drawn in them.
        least_distance, longest_run, largest_exposure: the bounds.
        real_share: share of training people who exceed them among themselves.
        quantile: share of training rows that keep to a bound.
    """

    people: int
    exceeded: int
    redrawn: int
    dropped: int
    rounds: int
    candidates: int
    least_distance: float
    longest_run: float
    largest_exposure: float
    real_share: float
    quantile: float = QUANTILE

    @property
    def line(self) -> str:
        """All of it in one sentence or two."""
        text = (
            f"Strict privacy: {self.exceeded:,} of {self.people:,} people ({self.exceeded / self.people:.1%}) differed "
            f"by fewer than {self.least_distance:,.0f} alleles from a training row, shared a run of more than "
            f"{self.longest_run:,.0f} sites with one, or lay more than {self.largest_exposure:.1f} times nearer to one "
            f"than anybody else, as do {self.real_share:.1%} of the training people among themselves; "
            f"{self.redrawn:,} were drawn anew."
        )
        if self.least_distance < 1:
            text += " People of this region are so alike that the bound on the distance forbids nothing."
        if self.dropped:
            text += f" {self.dropped:,} were left out, for nobody drawn in their place kept to these bounds."
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the sentence as ``note``."""
        return {**asdict(self), "note": self.line}


def redraw(
    table: VariantTable, guard: Guard, draw: Draw, *, seed: int, rounds: int = ROUNDS, progress: bool = False
) -> tuple[VariantTable, Outcome]:
    """Replaces the people who exceed a bound by others with the same label.

    Args:
        table: the people first drawn.
        guard: the bounds.
        draw: makes further people.
        seed: equal seeds give equal people, if those of ``draw`` do.
        rounds: how often to draw. Who is not replaced by then is left out, and the outcome says so.
        progress: show a bar.

    Raises:
        InputError: fewer than half of the people would be left.
    """
    haplotypes, samples = np.array(table.haplotypes), table.samples.copy()
    labels = np.full(table.n_samples, "") if table.labels is None else table.labels
    open_ = guard.exceeded(table)
    first, done, drawn = int(open_.sum()), 0, 0
    with tqdm(total=first, desc="privacy", unit="person", disable=not progress, dynamic_ncols=True) as bar:
        while open_.any() and done < rounds:
            names, wanted = np.unique(labels[open_], return_counts=True)
            # More than are wanted: a batch of a few is calibrated badly, and some of them will exceed a bound too.
            counts = np.maximum(2 * wanted, -(-_LEAST_DRAWN * wanted // wanted.sum()))
            asked: int | dict[str, int] = int(counts.sum())
            if table.labels is not None:
                asked = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
            done += 1
            others = draw(asked, int(np.random.SeedSequence([seed, done]).generate_state(1)[0]))
            drawn += others.n_samples
            kept = ~guard.exceeded(others)
            whose = np.full(others.n_samples, "") if others.labels is None else others.labels
            for name in names:
                places = np.flatnonzero(open_ & (labels == name))
                found = np.flatnonzero(kept & (whose == name))[: len(places)]
                places = places[: len(found)]
                haplotypes[places] = others.haplotypes[found]
                samples.iloc[places] = others.samples.iloc[found].to_numpy()
                open_[places] = False
                bar.update(len(places))
    left = int(open_.sum())
    if 2 * left > table.n_samples:
        raise InputError(
            f"--privacy strict: {left:,} of {table.n_samples:,} people copy the training people in each of {done} "
            "draws: learn from more people, or for fewer steps"
        )
    made = replace(table, haplotypes=haplotypes, samples=_as_before(samples, table.samples))
    outcome = Outcome(
        people=table.n_samples,
        exceeded=first,
        redrawn=first - left,
        dropped=left,
        rounds=done,
        candidates=drawn,
        least_distance=guard.least_distance,
        longest_run=guard.longest_run,
        largest_exposure=guard.largest_exposure,
        real_share=guard.real_share,
    )
    return (made if not left else made.select(samples=~open_)), outcome


def _as_before(samples: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """The same people under the names, and with the types, of those they take the place of."""
    return samples.astype(like.dtypes.to_dict()).set_axis(like.index)


def fidelity_cost(
    drawn: VariantTable, kept: pd.DataFrame, *, train: VariantTable, holdout: VariantTable, genetic_map: Any = None,
    seed: int = 1, progress: bool = False,
) -> tuple[pd.DataFrame, str]:  # fmt: skip
    """Fidelity of the people first drawn beside that of the people kept.

    Args:
        drawn: the people first drawn, before anybody was drawn anew.
        kept: metrics of the people kept, as :func:`genodiff.evaluation.suite.evaluate` gives them.
        train: people learned from, as for ``kept``.
        holdout: people to judge by, likewise.
        genetic_map: likewise.
        seed: likewise.
        progress: show a bar.

    Returns:
        A table with the columns family, metric, standard, strict, floor, unit; and some of it in a sentence.
    """
    from genodiff.evaluation.suite import FAMILIES, evaluate

    families = [name for name in FAMILIES if name != "privacy"]
    before = evaluate(
        drawn, train=train, holdout=holdout, genetic_map=genetic_map, seed=seed, families=families, progress=progress
    )
    after = kept.set_index("metric")["value"]
    both = before[(before["family"] != "sites") & before["metric"].isin(after.index)]
    table = both.rename(columns={"value": "standard"})[["family", "metric", "standard", "floor", "unit"]]
    table.insert(3, "strict", after.reindex(table["metric"]).to_numpy())
    rows = table.set_index("metric")
    said = [(name, rows.loc[metric]) for metric, name in _SAID.items() if metric in rows.index]
    words = [f"{name} {row['standard']:.3g} before and {row['strict']:.3g} after" for name, row in said]
    return table, f"Its cost in fidelity: {', '.join(words)}; the other metrics are in strict.csv."
