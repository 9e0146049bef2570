"""What synthetic people give away about the people a generator was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from genodiff.evaluation.adversarial import DRAWS, MAX_ROWS, GroupDistances
from genodiff.evaluation.attacks import Attack, by_density_ratio, by_distance, share_above_all
from genodiff.evaluation.classifier import auc
from genodiff.evaluation.copying import Runs, shared_runs
from genodiff.evaluation.disclosure import RARE, Disclosure, carrier_ranks, disclosure, guesses
from genodiff.evaluation.distances import hamming, nearest
from genodiff.evaluation.intervals import Interval, jackknife, tpr
from genodiff.evaluation.kinship import COUSIN, TWIN, dosages, nearest_kinship
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

GROUPS = 20
"""Groups of people that are left out in turn for the interval of the privacy loss."""

MAX_RARE_SITES = 1_000
"""Rare alleles that are guessed, at most; a random choice where there are more."""

RARE_DRAWS = 3
"""Draws of held-out people in the place of the synthetic ones, for the floor of the guesses."""


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


def copied_runs(panels: Sequence[Panel], source: Panel, cm: NDArray[np.float64] | None) -> list[Runs]:
    """Longest exact run each row of each of the panels shares with any one row of ``source``, in one pass.

    Args:
        panels: whose runs are wanted.
        source: whom they may have them from.
        cm: positions of the sites in cM, or ``None``.
    """
    found = shared_runs(np.concatenate([p.filled for p in panels]), source.filled, positions=cm)
    ends = np.cumsum([p.n_rows for p in panels])
    return [found[e - p.n_rows : e] for p, e in zip(panels, ends, strict=True)]


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
    loss = _loss_interval(comparison, distance, value.mean - leak, sizes=(n, n_leak))

    per, unit = distance.rows_per_person, f"share ({comparison.row_name})"
    return [
        Metric("privacy", "aa_truth", value.truth, floor.truth, n * per, unit),
        Metric("privacy", "aa_syn", value.syn, floor.syn, n * per, unit),
        _with_interval("privacy_loss", loss, real[0] - real[1], n_leak * per, unit),
        Metric("privacy", "privacy_loss_matched", value.mean - matched, unseen - seen, n * per, unit),
    ]


def _loss_interval(
    comparison: Comparison, distance: GroupDistances, loss: float, *, sizes: tuple[int, int]
) -> Interval:
    """Interval of the privacy loss: each of 20 groups of people of all three sets is left out in turn."""
    if min(sizes) <= 2 * GROUPS:
        return Interval(loss, float("nan"), float("nan"))
    generator = comparison.generator("privacy_loss interval")
    t, s, r = (generator.permutation(distance.people[k]) for k in "tsr")
    n, n_leak = sizes
    unseen = distance.accuracies_without(t[:n], s[:n], GROUPS)
    seen = distance.accuracies_without(r[:n_leak], s[:n_leak], GROUPS)
    return jackknife(loss, unseen - seen)


def _with_interval(name: str, found: Interval, floor: float, n: int, unit: str) -> Metric:
    return Metric("privacy", name, found.value, floor, n, unit, found.low, found.high)


def _membership_metrics(
    comparison: Comparison, distance: GroupDistances, nearest_rows: NearestDistances
) -> list[Metric]:
    """Attacks by distance and by density ratio, on rows and on people, with held-out people as S for floors."""
    per, generator = distance.rows_per_person, comparison.generator("membership")
    attack = by_distance(nearest_rows.train_to_synthetic, nearest_rows.holdout_to_synthetic, rows_per_person=per)
    unseen, reference = np.array_split(generator.permutation(distance.people["t"]), 2)[::-1]
    sides = [
        tuple(distance.nearest(who, to) for to in (distance.people["s"], reference))
        for who in (distance.people["r"], unseen)
    ]
    calibrated = by_density_ratio(*sides, rows_per_person=per)  # type: ignore[arg-type]
    floors = _membership_floors(comparison, distance)
    crowd = len(distance.people["t"]) // 3
    exposed = share_above_all(calibrated.people.members, calibrated.people.others, max(crowd, 1))

    rows, found = comparison.row_name, []
    for name, one, unit in (
        ("membership", attack, rows),
        ("membership_person", attack.people, "people"),
        ("membership_ratio", calibrated, rows),
        ("membership_ratio_person", calibrated.people, "people"),
    ):
        auc, tpr = one.auc, one.tpr(comparison.generator(f"{name} interval"))
        found.append(_with_interval(f"{name}_auc", auc, floors[f"{name}_auc"], one.n, f"AUC ({unit})"))
        found.append(_with_interval(f"{name}_tpr", tpr, floors[f"{name}_tpr"], one.n, f"share ({unit})"))
    n = len(distance.people["r"])
    found.append(Metric("privacy", "singled_out", exposed, floors["singled_out"], n, "share (people)"))
    return found


def _membership_floors(comparison: Comparison, distance: GroupDistances) -> dict[str, float]:
    """The attacks with held-out people in the place of S; means over draws.

    By distance one half of T stands in for S and the other are the non-members; by density ratio T is cut in three.
    """
    people, members, per = distance.people["t"], distance.people["r"], distance.rows_per_person
    generator = comparison.generator("membership_auc")
    found: dict[str, list[float]] = {}

    def add(name: str, attack: Attack) -> None:
        for suffix, one in (("", attack), ("_person", attack.people)):
            found.setdefault(f"{name}{suffix}_auc", []).append(auc(one.members, one.others))
            found.setdefault(f"{name}{suffix}_tpr", []).append(tpr(one.members, one.others))

    # Read once: what is drawn from it is a few columns.
    between, within = distance.block(members, people), distance.block(people, people)
    for _ in range(DRAWS if len(people) >= 4 else 0):
        order = generator.permutation(len(people))
        stand_in, unseen = (person_rows(p, rows_per_person=per) for p in np.array_split(order, 2))
        near = (between.take(stand_in, axis=1).min(axis=1), within[np.ix_(unseen, stand_in)].min(axis=1))
        add("membership", by_distance(*near, rows_per_person=per))
        third = len(people) // 3
        parts = [person_rows(order[k * third : (k + 1) * third], rows_per_person=per) for k in range(3)]
        sides = [tuple(m.take(part, axis=1).min(axis=1) for part in parts[:2]) for m in (between, within[parts[2]])]
        attack = by_density_ratio(*sides, rows_per_person=per)
        add("membership_ratio", attack)
        exposed = share_above_all(attack.people.members, attack.people.others, third)
        found.setdefault("singled_out", []).append(exposed)
    names = [f"membership{a}{b}_{c}" for a in ("", "_ratio") for b in ("", "_person") for c in ("auc", "tpr")]
    return {name: float(np.mean(found[name])) if name in found else float("nan") for name in [*names, "singled_out"]}


def _copying_metrics(comparison: Comparison) -> tuple[list[Metric], dict[str, Curve]]:
    """Longest runs shared with R and with T, in sites and, where there is a map, in cM."""
    holdout, synthetic, train = comparison.holdout, comparison.synthetic_all, comparison.train_all
    unseen = copied_runs((synthetic, comparison.train), holdout, None)
    run_s, run_t = copied_runs((synthetic, holdout), train, comparison.cm)
    run_st, run_rt = (run.sites for run in unseen)
    n, rows = min(synthetic.n_rows, holdout.n_rows), comparison.row_name
    found = [
        _pair("copied_run_mean", np.mean, run_s.sites, run_t.sites, f"sites ({rows})"),
        _pair("copied_run_median", np.median, run_s.sites, run_t.sites, f"sites ({rows})"),
        _largest("copied_run_max", run_s.sites, run_t.sites, n, f"sites ({rows})"),
        _pair("copied_run_holdout", np.mean, run_st, run_rt, f"sites ({rows})"),
    ]
    curves: dict[str, Curve] = {
        "copied_run_synthetic_train": run_s.sites,
        "copied_run_holdout_train": run_t.sites,
        "copied_run_synthetic_holdout": run_st,
    }
    if run_s.span is not None and run_t.span is not None:
        found.append(_pair("copied_run_cm_mean", np.mean, run_s.span, run_t.span, f"cM ({rows})"))
        found.append(_largest("copied_run_cm_max", run_s.span, run_t.span, n, f"cM ({rows})"))
        curves |= {"copied_run_cm_synthetic_train": run_s.span, "copied_run_cm_holdout_train": run_t.span}
    return found, curves


def _pair(name: str, summary: Callable[..., Any], value: NDArray[Any], floor: NDArray[Any], unit: str) -> Metric:
    return Metric("privacy", name, float(summary(value)), float(summary(floor)), len(value), unit)


def _largest(name: str, value: NDArray[Any], floor: NDArray[Any], n: int, unit: str) -> Metric:
    return Metric("privacy", name, expected_maximum(value, n), expected_maximum(floor, n), n, unit)


def _kinship_metrics(comparison: Comparison) -> tuple[list[Metric], dict[str, Curve]]:
    """KING-robust kinship of synthetic people with the training person nearest to them."""
    known = dosages(comparison.train_all)
    value, floor = (nearest_kinship(dosages(p), known) for p in (comparison.synthetic_all, comparison.holdout))
    n = min(len(value), len(floor))

    def mean(x: NDArray[np.float64]) -> float:
        finite = x[np.isfinite(x)]
        return float(finite.mean()) if len(finite) else float("nan")

    found = [
        _pair("kinship_mean", mean, value, floor, "φ (people)"),
        _largest("kinship_max", value, floor, n, "φ (people)"),
        _pair("kinship_cousins", lambda x: np.mean(x >= COUSIN), value, floor, "share (people)"),
        _pair("kinship_twins", lambda x: np.mean(x >= TWIN), value, floor, "share (people)"),
    ]
    return found, {"kinship_synthetic_train": value, "kinship_holdout_train": floor}


def _disclosure_metrics(comparison: Comparison) -> list[Metric]:
    """Guessing rare alleles from the nearest synthetic rows; held-out people as S for floors."""
    generator, per = comparison.generator("rare alleles"), comparison.holdout.rows_per_person
    frequency, maf = comparison.train_all.frequency, comparison.train_all.maf
    known = np.flatnonzero(maf >= RARE)
    rare = np.flatnonzero((maf < RARE) & comparison.train_all.polymorphic)
    if len(rare) > MAX_RARE_SITES:
        rare = np.sort(generator.choice(rare, MAX_RARE_SITES, replace=False))
    holdout, synthetic = (p.draw(MAX_ROWS // per, generator) for p in (comparison.holdout, comparison.synthetic_all))
    # As many members are attacked as others.
    train = comparison.train_all.draw(holdout.n_people, generator)
    names = [("rare_allele_auc", "AUC (sites)"), ("rare_allele_advantage", "AUC (sites)")]
    if not len(known) or not len(rare):
        return [Metric("privacy", name, float("nan"), float("nan"), 0, unit) for name, unit in names]

    def carriers(panel: Panel) -> NDArray[np.bool_]:
        states = panel.filled[:, rare]
        return np.where(frequency[rare] > 0.5, states < panel.max_state, states > 0)

    truth = [carriers(p) for p in (train, holdout)]
    sources = np.concatenate([carriers(synthetic), truth[1]])
    looked_up = np.concatenate([synthetic.filled[:, known], holdout.filled[:, known]])
    distance = [hamming(p.filled[:, known], looked_up) for p in (train, holdout)]

    def attack(stand_in: NDArray[np.int64], others: NDArray[np.int64]) -> Disclosure:
        """Of all members and of some others, by some of the rows that can be looked up."""
        ranks = [
            carrier_ranks(guesses(d[:, stand_in], sources[stand_in]), t)
            for d, t in ((distance[0], truth[0]), (distance[1][others], truth[1][others]))
        ]
        return disclosure(ranks[0], ranks[1], rows_per_person=per)

    judged = attack(np.arange(synthetic.n_rows), np.arange(holdout.n_rows))
    floors = []
    for _ in range(RARE_DRAWS if holdout.n_people >= 4 else 0):
        halves = np.array_split(generator.permutation(holdout.n_people), 2)
        stand_in, others = (person_rows(half, rows_per_person=per) for half in halves)
        floors.append(attack(synthetic.n_rows + stand_in, others))
    found = []
    for (name, unit), part in zip(names, ("members", "advantage"), strict=True):
        drawn = [getattr(f, part).value for f in floors]
        floor = float(np.mean(drawn)) if drawn else float("nan")
        found.append(_with_interval(name, getattr(judged, part), floor, judged.n_sites, unit))
    return found


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
      half of T in the place of S, the other the non-members. ``membership_tpr``: members found where 1 % of non-members
      are called members too. ``membership_person_…``: of people, by the more exposed of their rows.
    * ``membership_ratio_…``: the same attacks by density ratio, with one half of T as the attacker's reference and the
      other as non-members. Floor: one third of T each as S, as reference and as non-members.
    * ``singled_out``: training people whom the density ratio exposes more than any of a third of T's number of
      non-members.
    * ``copied_run_mean``, ``copied_run_median``, ``copied_run_max``: longest run of sites a synthetic row shares with
      a training row; the maximum is that expected among equally many rows (the fewer of T's and S's).
      ``copied_run_cm_mean``, ``copied_run_cm_max``: in cM, where there is a map.
    * ``copied_run_holdout``: mean run of S with T, floor: R with T.
    * ``exact_copies``: rows equal to a training row. ``unique_share``: distinct rows among equally many.
    * ``dcr_median``, ``dcr_p05``: distance to the closest training row, median and 5th percentile.
    * ``kinship_mean``, ``kinship_max``, ``kinship_cousins``, ``kinship_twins``: KING-robust kinship of synthetic people
      with the training person nearest to them; shares are those of at least 1/16 and of at least .354.
    * ``rare_allele_auc``, ``rare_allele_advantage``: attribute disclosure, see :mod:`genodiff.evaluation.disclosure`.

    Curves: ``nearest_…`` (the arrays of :class:`NearestDistances`), ``copied_run_…`` and ``copied_run_cm_…``
    (``synthetic_train``, ``holdout_train``; in sites ``synthetic_holdout`` too), ``kinship_synthetic_train``,
    ``kinship_holdout_train``.
    """
    holdout, synthetic, train = comparison.holdout, comparison.synthetic_all, comparison.train_all
    rows = comparison.row_name
    groups = group_distances(comparison)
    metrics = _adversarial_metrics(comparison, groups)

    distance = nearest_distances(comparison, groups)
    metrics += _membership_metrics(comparison, groups, distance)
    del groups
    copying, runs = _copying_metrics(comparison)
    kinship, relatives = _kinship_metrics(comparison)

    n = min(synthetic.n_rows, holdout.n_rows)
    share = [float(copies(p, train).mean()) for p in (synthetic, holdout)]
    unique = [expected_unique_share(p.filled, n) for p in (synthetic, holdout)]
    closest = (distance.synthetic_to_train, distance.holdout_to_train)
    median, low = ([float(np.quantile(c, q)) for c in closest] for q in (0.5, 0.05))
    allele_unit = f"{'sites' if holdout.rows_per_person == 2 else 'alleles'} ({rows})"
    metrics += [
        *copying,
        Metric("privacy", "exact_copies", share[0], share[1], synthetic.n_rows, f"share ({rows})"),
        Metric("privacy", "unique_share", unique[0], unique[1], n, f"share ({rows})"),
        Metric("privacy", "dcr_median", median[0], median[1], synthetic.n_rows, allele_unit),
        Metric("privacy", "dcr_p05", low[0], low[1], synthetic.n_rows, allele_unit),
        *kinship,
        *_disclosure_metrics(comparison),
    ]
    curves: dict[str, Curve] = {
        "nearest_synthetic_to_train": distance.synthetic_to_train,
        "nearest_holdout_to_train": distance.holdout_to_train,
        "nearest_train_to_synthetic": distance.train_to_synthetic,
        "nearest_holdout_to_synthetic": distance.holdout_to_synthetic,
    }
    return FamilyResult(tuple(metrics), curves | runs | relatives)
