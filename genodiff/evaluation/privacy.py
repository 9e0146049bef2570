"""What synthetic people give away about the people a generator was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from genodiff.evaluation.adversarial import DRAWS, MAX_ROWS, GroupDistances
from genodiff.evaluation.classifier import auc
from genodiff.evaluation.copying import longest_shared_runs
from genodiff.evaluation.distances import nearest
from genodiff.evaluation.panels import Comparison, Panel, person_rows
from genodiff.evaluation.results import Curve, FamilyResult, Metric

__all__ = [
    "NearestDistances",
    "copied_runs",
    "copies",
    "expected_maximum",
    "expected_unique_share",
    "family",
    "group_distances",
    "nearest_distances",
]


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


def nearest_distances(comparison: Comparison, groups: GroupDistances | None = None) -> NearestDistances:
    """Distances to the closest row between all synthetic, all training and all held-out people.

    Missing calls are taken as the commonest state of the site.

    Args:
        comparison: the three sets of people.
        groups: distances between them, if known already (:func:`group_distances`).
    """
    panels = {"s": comparison.synthetic_all, "r": comparison.train_all, "t": comparison.holdout}
    wanted = (("s", "r"), ("t", "r"), ("r", "s"), ("t", "s"))
    if groups is not None and all(len(groups.people[k]) == p.n_people for k, p in panels.items()):
        found = [groups.nearest(groups.people[a], groups.people[b]) for a, b in wanted]
    else:
        found = [nearest(panels[a].filled, panels[b].filled) for a, b in wanted]
    return NearestDistances(*found)


def group_distances(comparison: Comparison) -> GroupDistances:
    """Distances between held-out (``t``), synthetic (``s``) and training people (``r``), at most 4,000 rows of each."""
    limit = MAX_ROWS // comparison.holdout.rows_per_person
    panels = {"t": comparison.holdout, "s": comparison.synthetic_all, "r": comparison.train_all}
    return GroupDistances.of({k: p.draw(limit, comparison.generator(f"distances {k}")) for k, p in panels.items()})


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


def _adversarial_metrics(comparison: Comparison, distance: GroupDistances) -> list[Metric]:
    """AA of S against T, and its loss against R, with real people in their places as floors."""
    t, s, r = (len(distance.people[k]) for k in "tsr")
    generator = comparison.generator("adversarial accuracy")

    n = min(t, s, r)
    value = distance.mean_accuracy(("t", "s"), n, generator)
    floor = distance.mean_accuracy(("t", "r"), n, generator)
    n_leak = min(s, r)
    leak = distance.mean_accuracy(("r", "s"), n_leak, generator).mean
    matched = distance.mean_accuracy(("r", "s"), n, generator).mean

    n_real = min(n, (t + r) // 2)
    n_real_leak = min(n_leak, (t + r) // 2)
    real = [distance.mean_accuracy(("tr", "tr"), k, generator).mean for k in (n_real, n_real_leak)]
    half = min(t // 2, r)
    unseen = distance.mean_accuracy(("t", "t"), half, generator).mean if half > 1 else float("nan")
    seen = distance.mean_accuracy(("r", "t"), half, generator).mean if half > 1 else float("nan")

    per, unit = distance.rows_per_person, f"share ({comparison.row_name})"
    return [
        Metric("privacy", "aa_truth", value.truth, floor.truth, n * per, unit),
        Metric("privacy", "aa_syn", value.syn, floor.syn, n * per, unit),
        Metric("privacy", "privacy_loss", value.mean - leak, real[0] - real[1], n_leak * per, unit),
        Metric("privacy", "privacy_loss_matched", value.mean - matched, unseen - seen, n * per, unit),
    ]


def _membership_floor(comparison: Comparison, distance: GroupDistances) -> float:
    """AUC with one half of T as the synthetic people and the other as non-members; mean over draws."""
    people, members = distance.people["t"], distance.people["r"]
    if len(people) < 4:
        return float("nan")
    generator = comparison.generator("membership_auc")
    between, within = distance.block(members, people), distance.block(people, people)
    found = []
    for _ in range(DRAWS):
        halves = np.array_split(generator.permutation(len(people)), 2)
        stand_in, unseen = (person_rows(p, rows_per_person=distance.rows_per_person) for p in halves)
        inside = between.take(stand_in, axis=1).min(axis=1).astype(float)
        outside = within[np.ix_(unseen, stand_in)].min(axis=1).astype(float)
        found.append(auc(-inside, -outside))
    return float(np.mean(found))


def family(comparison: Comparison) -> FamilyResult:
    """What S gives away about R. Floors put T, who took no part in fitting, in the place of S.

    Metrics:

    * ``aa_truth``, ``aa_syn``: nearest-neighbour adversarial accuracy of S against T, floor: R against T; means over 25
      draws of equally many people.
    * ``privacy_loss``: the mean of both halves minus the same for S against R; positive = leak. S is compared with as
      many training people as there are synthetic ones, since in a small draw of R the people that S resembles would
      mostly be absent. Accuracy falls a little as people are added, for distances tie more often; the floor shows how
      much, as two disjoint sets of real people lose between the two numbers.
    * ``privacy_loss_matched``: the same with equally few people in both terms, which has no such drift but sees only a
      part of a leak. Floor: one half of T in the place of S, the other in that of T.
    * ``membership_auc``: score minus the distance to the closest synthetic row, members R, non-members T. Floor: one
      half of T in the place of S, the other the non-members.
    * ``copied_run_mean``, ``copied_run_median``, ``copied_run_max``: longest run of sites a synthetic row shares with
      a training row; the maximum is that expected among equally many rows (the fewer of T's and S's).
    * ``copied_run_holdout``: mean run of S with T, floor: R with T.
    * ``exact_copies``: rows equal to a training row. ``unique_share``: distinct rows among equally many.
    * ``dcr_median``, ``dcr_p05``: distance to the closest training row, median and 5th percentile.

    Curves: ``nearest_…`` (the arrays of :class:`NearestDistances`), ``copied_run_synthetic_train``,
    ``copied_run_holdout_train``, ``copied_run_synthetic_holdout``.
    """
    holdout, synthetic, train = comparison.holdout, comparison.synthetic_all, comparison.train_all
    rows = comparison.row_name
    groups = group_distances(comparison)
    metrics = _adversarial_metrics(comparison, groups)

    distance = nearest_distances(comparison, groups)
    attack = auc(-distance.train_to_synthetic, -distance.holdout_to_synthetic)
    n_attacked = train.n_rows + holdout.n_rows
    metrics.append(
        Metric("privacy", "membership_auc", attack, _membership_floor(comparison, groups), n_attacked, f"AUC ({rows})")
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
