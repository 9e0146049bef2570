"""What synthetic people give away about the people a generator was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from genodiff.evaluation.classifier import auc
from genodiff.evaluation.copying import longest_shared_runs
from genodiff.evaluation.distances import hamming, nearest
from genodiff.evaluation.panels import Comparison, Panel, person_rows
from genodiff.evaluation.results import Curve, FamilyResult, Metric

__all__ = [
    "Adversarial",
    "NearestDistances",
    "adversarial_accuracy",
    "copied_runs",
    "copies",
    "expected_maximum",
    "expected_unique_share",
    "family",
    "nearest_distances",
]

DRAWS = 10
MAX_ROWS = 4_000
"""Rows of each set, at most, that enter nearest-neighbour adversarial accuracy."""


@dataclass(frozen=True)
class Adversarial:
    """Nearest-neighbour adversarial accuracy (Yelmen et al. 2021).

    Attributes:
        truth: share of real rows whose nearest synthetic row is farther than their nearest other real row.
        syn: share of synthetic rows whose nearest real row is farther than their nearest other synthetic row.
    """

    truth: float
    syn: float

    @property
    def mean(self) -> float:
        """Mean of the two halves; ½ where real and synthetic rows are mixed evenly and no distances tie."""
        return (self.truth + self.syn) / 2


@dataclass(frozen=True)
class NearestDistances:
    """Number of differing alleles to the closest row, one entry a row of the first-named set.

    Attributes:
        synthetic_to_train: every synthetic row to all training rows.
        holdout_to_train: every held-out row to all training rows.
        train_to_synthetic: every training row to all synthetic rows.
        holdout_to_synthetic: every held-out row to all synthetic rows.
    """

    synthetic_to_train: NDArray[np.float32]
    holdout_to_train: NDArray[np.float32]
    train_to_synthetic: NDArray[np.float32]
    holdout_to_synthetic: NDArray[np.float32]


def adversarial_accuracy(
    between: NDArray[Any], within_real: NDArray[Any], within_synthetic: NDArray[Any]
) -> Adversarial:
    """Adversarial accuracy from distance matrices of equally many real and synthetic rows.

    The comparison is strict: a tie counts as "not farther", so that ties lower both halves below ½.

    Args:
        between: (n, n) distances, real rows against synthetic ones.
        within_real, within_synthetic: (n, n) distances within each set; the diagonal is not looked at.
    """
    n, m = between.shape
    if n != m:
        raise ValueError(f"{n} real and {m} synthetic rows: adversarial accuracy needs equally many")
    real, synthetic = (_nearest_other(w) for w in (within_real, within_synthetic))
    return Adversarial(float((between.min(axis=1) > real).mean()), float((between.min(axis=0) > synthetic).mean()))


def _nearest_other(within: NDArray[Any]) -> NDArray[Any]:
    masked = np.array(within)
    np.fill_diagonal(masked, np.inf)
    return masked.min(axis=1)


@dataclass(frozen=True)
class _Distances:
    """Distance matrices of two panels, from which equal numbers of people are drawn at no further cost."""

    between: NDArray[np.float32]
    within_a: NDArray[np.float32]
    within_b: NDArray[np.float32]
    rows_per_person: int

    def adversarial(self, people_a: NDArray[np.int64], people_b: NDArray[np.int64]) -> Adversarial:
        a, b = (person_rows(p, rows_per_person=self.rows_per_person) for p in (people_a, people_b))
        return adversarial_accuracy(
            self.between[np.ix_(a, b)], self.within_a[np.ix_(a, a)], self.within_b[np.ix_(b, b)]
        )


def _choose(n: int, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.choice(n, size, replace=False)


def _mean(found: list[Adversarial]) -> Adversarial:
    return Adversarial(float(np.mean([f.truth for f in found])), float(np.mean([f.syn for f in found])))


def nearest_distances(comparison: Comparison) -> NearestDistances:
    """Distances to the closest row between all synthetic, all training and all held-out people.

    Missing calls are taken as the commonest state of the site.
    """
    s, r, t = (p.filled for p in (comparison.synthetic_all, comparison.train_all, comparison.holdout))
    return NearestDistances(
        synthetic_to_train=nearest(s, r),
        holdout_to_train=nearest(t, r),
        train_to_synthetic=nearest(r, s),
        holdout_to_synthetic=nearest(t, s),
    )


def copied_runs(panel: Panel, source: Panel) -> NDArray[np.int64]:
    """Longest exact run of sites each row of ``panel`` shares with any one row of ``source``, (rows,)."""
    return longest_shared_runs(panel.filled, source.filled)


def copies(panel: Panel, source: Panel) -> NDArray[np.bool_]:
    """Whether each row of ``panel`` equals some row of ``source`` at all sites, (rows,)."""
    known = {row.tobytes() for row in source.filled}
    return np.array([row.tobytes() in known for row in panel.filled])


def _log_choose(n: Any, k: Any) -> Any:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def expected_maximum(values: NDArray[Any], size: int) -> float:
    """Expected maximum of ``size`` values drawn without replacement: maxima of unequal sets made comparable.

    The k-th smallest of n is the maximum with probability C(k − 1, size − 1) / C(n, size).
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if size >= n:
        return float(ordered[-1])
    k = np.arange(size, n + 1)
    weight = np.exp(_log_choose(k - 1, size - 1) - _log_choose(n, size))
    return float(weight @ ordered[size - 1 :])


def expected_unique_share(rows: NDArray[np.int8], size: int) -> float:
    """Expected share of distinct rows among ``size`` rows drawn without replacement (rarefaction).

    A group of c equal rows among n is missed with probability C(n − c, size) / C(n, size).
    """
    _, counts = np.unique([hash(row.tobytes()) for row in rows], return_counts=True)
    n = len(rows)
    size = min(size, n)
    possible = n - counts >= size
    missed = np.zeros(len(counts))
    missed[possible] = np.exp(_log_choose(n - counts[possible], size) - _log_choose(n, size))
    return float((1 - missed).sum() / size)


def _adversarial_metrics(comparison: Comparison) -> list[Metric]:
    """AA of S against T and its loss against R, with real people in their places as floors.

    ``privacy_loss`` = AA(T, S) − AA(R, S), at equal numbers of people: where synthetic rows lie closer to training
    people than to people the generator has not seen, the second is the smaller and the loss positive. Its floor puts one half
    of T in the place of S and the other half in that of T.
    """
    per = comparison.holdout.rows_per_person
    limit = MAX_ROWS // per
    t, s, r = (
        p.draw(limit, comparison.generator(f"adversarial {name}"))
        for name, p in (
            ("holdout", comparison.holdout),
            ("synthetic", comparison.synthetic_all),
            ("train", comparison.train_all),
        )
    )
    within_t, within_s, within_r = (hamming(p.filled, p.filled) for p in (t, s, r))
    ts, tr, rs = (hamming(a.filled, b.filled) for a, b in ((t, s), (t, r), (r, s)))
    t_s, t_r = _Distances(ts, within_t, within_s, per), _Distances(tr, within_t, within_r, per)
    r_s, r_t = _Distances(rs, within_r, within_s, per), _Distances(tr.T, within_r, within_t, per)
    t_t = _Distances(within_t, within_t, within_t, per)

    n = min(t.n_people, s.n_people, r.n_people)
    generator = comparison.generator("adversarial accuracy")
    test, floor, loss, loss_floor = [], [], [], []
    for _ in range(DRAWS):
        people_t, people_s, people_r = (_choose(p.n_people, n, generator) for p in (t, s, r))
        test.append(t_s.adversarial(people_t, people_s))
        floor.append(t_r.adversarial(people_t, people_r))
        loss.append(test[-1].mean - r_s.adversarial(people_r, people_s).mean)
        half = n // 2
        if half > 1:
            stand_in, unseen = people_t[:half], people_t[half : 2 * half]
            unseen_accuracy = t_t.adversarial(unseen, stand_in).mean
            loss_floor.append(unseen_accuracy - r_t.adversarial(people_r[:half], stand_in).mean)
    value, real = _mean(test), _mean(floor)
    rows, unit = n * per, f"share ({comparison.row_name})"
    return [
        Metric("privacy", "aa_truth", value.truth, real.truth, rows, unit),
        Metric("privacy", "aa_syn", value.syn, real.syn, rows, unit),
        Metric(
            "privacy",
            "privacy_loss",
            float(np.mean(loss)),
            float(np.mean(loss_floor)) if loss_floor else float("nan"),
            rows,
            unit,
        ),
    ]


def _membership_floor(comparison: Comparison) -> float:
    """AUC with one half of T as the synthetic people and the other as non-members; mean over draws."""
    t, r = comparison.holdout, comparison.train_all
    if t.n_people < 4:
        return float("nan")
    generator = comparison.generator("membership_auc")
    limit = MAX_ROWS // t.rows_per_person
    t, r = t.draw(limit, generator), r.draw(limit, generator)
    within, between = hamming(t.filled, t.filled), hamming(r.filled, t.filled)
    found = []
    for _ in range(DRAWS):
        order = generator.permutation(t.n_people)
        stand_in, unseen = (person_rows(p, rows_per_person=t.rows_per_person) for p in np.array_split(order, 2))
        members, others = between[:, stand_in].min(axis=1), within[np.ix_(unseen, stand_in)].min(axis=1)
        found.append(auc(-members, -others))
    return float(np.mean(found))


def family(comparison: Comparison) -> FamilyResult:
    """What S gives away about R. Floors put T, who took no part in fitting, in the place of S.

    Metrics: ``aa_truth``, ``aa_syn`` (nearest-neighbour adversarial accuracy of S against T, floor: R against T; means
    over 5 draws of equally many people), ``privacy_loss`` (the mean of both halves minus the same on R: positive =
    leak), ``membership_auc`` (score: minus the distance to the closest synthetic row; members R, non-members T),
    ``copied_run_mean``, ``copied_run_median``, ``copied_run_max`` (longest run of sites each synthetic row shares with
    a training row; the maximum is that expected in equally many rows as T has, or S where it has fewer),
    ``copied_run_holdout`` (mean run of S with T, floor: R with T), ``exact_copies`` (rows equal to a training row),
    ``unique_share`` (distinct rows in equally many), ``dcr_median`` and ``dcr_p05`` (distance to the closest training
    row: median and 5th percentile).

    Curves: ``nearest_…`` (the arrays of :class:`NearestDistances`), ``copied_run_synthetic_train``,
    ``copied_run_holdout_train``, ``copied_run_synthetic_holdout``.
    """
    holdout, synthetic, train = comparison.holdout, comparison.synthetic_all, comparison.train_all
    rows = comparison.row_name
    metrics = _adversarial_metrics(comparison)

    distance = nearest_distances(comparison)
    attack = auc(-distance.train_to_synthetic, -distance.holdout_to_synthetic)
    n_attacked = train.n_rows + holdout.n_rows
    metrics.append(
        Metric("privacy", "membership_auc", attack, _membership_floor(comparison), n_attacked, f"AUC ({rows})")
    )

    run_s, run_t = copied_runs(synthetic, train), copied_runs(holdout, train)
    run_st, run_rt = copied_runs(synthetic, holdout), copied_runs(comparison.train, holdout)
    n = min(synthetic.n_rows, holdout.n_rows)
    unit = f"sites ({rows})"
    share = [float(copies(p, train).mean()) for p in (synthetic, holdout)]
    unique = [expected_unique_share(p.filled, n) for p in (synthetic, holdout)]
    closest = (distance.synthetic_to_train, distance.holdout_to_train)
    median, low = ([float(np.quantile(c, q)) for c in closest] for q in (0.5, 0.05))
    allele_unit = f"{'sites' if holdout.rows_per_person == 2 else 'alleles'} ({rows})"
    metrics += [
        Metric("privacy", "copied_run_mean", float(run_s.mean()), float(run_t.mean()), synthetic.n_rows, unit),
        Metric(
            "privacy", "copied_run_median", float(np.median(run_s)), float(np.median(run_t)), synthetic.n_rows, unit
        ),
        Metric("privacy", "copied_run_max", expected_maximum(run_s, n), expected_maximum(run_t, n), n, unit),
        Metric("privacy", "copied_run_holdout", float(run_st.mean()), float(run_rt.mean()), synthetic.n_rows, unit),
        Metric("privacy", "exact_copies", share[0], share[1], synthetic.n_rows, f"share ({rows})"),
        Metric("privacy", "unique_share", unique[0], unique[1], n, f"share ({rows})"),
        Metric("privacy", "dcr_median", median[0], median[1], synthetic.n_rows, allele_unit),
        Metric("privacy", "dcr_p05", low[0], low[1], synthetic.n_rows, allele_unit),
    ]
    curves: dict[str, Curve] = {
        "nearest_synthetic_to_train": distance.synthetic_to_train,
        "nearest_holdout_to_train": distance.holdout_to_train,
        "nearest_train_to_synthetic": distance.train_to_synthetic,
        "nearest_holdout_to_synthetic": distance.holdout_to_synthetic,
        "copied_run_synthetic_train": run_s,
        "copied_run_holdout_train": run_t,
        "copied_run_synthetic_holdout": run_st,
    }
    return FamilyResult(tuple(metrics), curves)
