"""Attacks, kinship and intervals against closed forms and brute force; nothing on strangers, a lot on copies."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.variants import VariantTable
from genodiff.baselines import baseline
from genodiff.evaluation import intervals
from genodiff.evaluation.adversarial import GroupDistances, _minimum_without_each
from genodiff.evaluation.attacks import Attack, by_density_ratio, by_distance, share_above_all
from genodiff.evaluation.classifier import auc
from genodiff.evaluation.copying import shared_runs, shared_runs_with_others
from genodiff.evaluation.disclosure import carrier_ranks, disclosure, guesses
from genodiff.evaluation.intervals import auc_interval, jackknife, ratio, tpr, tpr_interval
from genodiff.evaluation.kinship import dosages, king_robust, nearest_kinship
from genodiff.evaluation.panels import Panel, align
from genodiff.evaluation.suite import evaluate
from tests.evaluation.conftest import people_from, table_of


def brute_force_span(query: np.ndarray, panel: np.ndarray, positions: np.ndarray) -> float:
    best = 0.0
    for row in panel:
        start = None
        for j, same in enumerate(query == row):
            start = (j if start is None else start) if same else None
            if start is not None:
                best = max(best, positions[j] - positions[start])
    return best


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6), st.integers(1, 25), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_runs_by_position_equal_brute_force(seed: int, n: int, m: int, sites: int, rarity: float) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.random((n + m, sites)) < rarity / 2).astype(np.int8)
    positions = np.cumsum(rng.exponential(size=sites) * (rng.random(sites) < 0.8))
    found = shared_runs(rows[:n], rows[n:], positions=positions).span
    assert found is not None
    np.testing.assert_allclose(found, [brute_force_span(q, rows[n:], positions) for q in rows[:n]], atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.integers(1, 20), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_runs_with_others_equal_runs_with_everybody_else(
    seed: int, people: int, per: int, sites: int, rarity: float
) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.random((people * per, sites)) < rarity / 2).astype(np.int8)
    positions = np.cumsum(rng.exponential(size=sites))
    found = shared_runs_with_others(rows, rows_per_person=per, positions=positions)
    for i in range(people):
        own = np.arange(people * per) // per == i
        expected = shared_runs(rows[own], rows[~own], positions=positions)
        np.testing.assert_array_equal(found.sites[own], expected.sites)
        assert found.span is not None
        assert expected.span is not None
        np.testing.assert_allclose(found.span[own], expected.span, atol=1e-12)


def test_the_longest_run_in_sites_need_not_be_that_in_centimorgan() -> None:
    panel = np.array([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=np.int8)
    runs = shared_runs(np.zeros((1, 6), dtype=np.int8), panel, positions=np.array([0, 0.1, 0.2, 0.3, 0.4, 5.0]))
    assert runs.sites.tolist() == [3]
    assert runs.span is not None
    assert runs.span[0] == pytest.approx(4.6)
    with pytest.raises(ValueError, match="never go back"):
        shared_runs(panel, panel, positions=np.arange(6)[::-1])


def test_interval_of_an_auc_is_delongs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.7, 1, 40).round(1), rng.normal(0, 1, 60).round(1)
    psi = (x[:, None] > y).astype(float) + 0.5 * (x[:, None] == y)
    variance = psi.mean(axis=1).var(ddof=1) / 40 + psi.mean(axis=0).var(ddof=1) / 60
    found = auc_interval(x, y)
    assert found.value == pytest.approx(auc(x, y)) == pytest.approx(psi.mean())
    assert found.high - found.value == pytest.approx(1.959964 * np.sqrt(variance))
    assert found.value - found.low == pytest.approx(1.959964 * np.sqrt(variance))


def test_a_row_said_twice_is_one_witness() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.5, 1, 50), rng.normal(0, 1, 30)
    once, twice = auc_interval(x, y), auc_interval(np.repeat(x, 2), np.repeat(y, 2), per_person=2)
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))
    careless = auc_interval(np.repeat(x, 2), np.repeat(y, 2))
    assert careless.high - careless.low < 0.75 * (once.high - once.low)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    hits, found = 0, 0
    for _ in range(300):
        shared = [rng.normal(size=(40, 1)) + rng.normal(size=(40, 2)) for _ in "ab"]
        interval = auc_interval(shared[0].ravel(), shared[1].ravel(), per_person=2)
        hits += interval.low <= 0.5 <= interval.high
    assert 0.91 < hits / 300 < 0.98
    for _ in range(60):
        one = tpr_interval(rng.normal(2, 1, 200), rng.normal(0, 1, 400), generator=rng, fpr=0.1)
        found += one.low <= 0.7637 <= one.high  # Φ(2 − Φ⁻¹(.9))
    assert found / 60 > 0.85


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12),
       st.floats(0.01, 0.9))  # fmt: skip
def test_true_positive_rate_is_that_of_the_curve(members: list[int], others: list[int], fpr: float) -> None:
    """Interpolated between the points of the ROC curve, ties and all."""
    thresholds = [8, *sorted(set(others), reverse=True)]
    x = [np.mean([o >= t for o in others]) for t in thresholds]
    # At the threshold just above a score of the others all members above it are found already.
    points = [(0.0, np.mean([m > thresholds[1] for m in members]))]
    for t, below in zip(thresholds[1:], [*thresholds[2:], -1], strict=True):
        share = np.mean([o >= t for o in others])
        points += [(share, np.mean([m >= t for m in members])), (share, np.mean([m > below for m in members]))]
    assert x[-1] == points[-1][0] == 1
    after = next(p for p in points if p[0] > fpr)
    before = [p for p in points if p[0] <= fpr][-1]
    expected = before[1] + (after[1] - before[1]) * (fpr - before[0]) / (after[0] - before[0])
    assert tpr(np.array(members), np.array(others), fpr=fpr) == pytest.approx(expected)


def test_true_positive_rate_by_hand() -> None:
    members = np.concatenate([np.full(30, 5.0), np.zeros(70)])
    assert tpr(members, np.zeros(100)) == pytest.approx(0.3 + 0.7 * 0.01)
    assert tpr(np.zeros(10), np.zeros(10)) == pytest.approx(0.01)
    assert tpr(np.zeros(10), np.ones(200)) == 0
    assert tpr(np.ones(10), np.zeros(200)) == 1


def test_ratio_and_jackknife_by_hand() -> None:
    value, variance = ratio(np.array([1.0, 2.0, 6.0]), np.ones(3))
    assert (value, variance) == pytest.approx((3.0, np.var([1, 2, 6], ddof=1) / 3))
    assert np.isnan(ratio(np.zeros(3), np.zeros(3))).all()
    # Leaving out one of n numbers gives back the standard error of their mean.
    x = np.random.default_rng(0).normal(size=12)
    found = jackknife(x.mean(), (x.sum() - x) / 11)
    assert found.high - found.value == pytest.approx(2.200985 * x.std(ddof=1) / np.sqrt(12))


def test_adversarial_accuracy_without_each_group_equals_that_of_the_others() -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 2, (60, 40)).astype(np.int8)
    panels = [Panel(r, r, r[::2] + r[1::2], 2) for r in (rows[:30], rows[30:])]
    groups = GroupDistances.of(dict(zip("ab", panels, strict=True)))
    a, b = (rng.permutation(groups.people[k]) for k in "ab")
    left = np.arange(15) % 5
    expected = [groups.accuracy(a[left != g], b[left != g]).mean for g in range(5)]
    np.testing.assert_allclose(groups.accuracies_without(a, b, 5), expected)
    values = np.array([[1, 2, 3], [2, 2, 9]])
    np.testing.assert_array_equal(_minimum_without_each(values), [[2, 1, 1], [2, 2, 2]])


def test_share_above_all_over_every_crowd() -> None:
    members, others = np.array([0.5, 2.0, 3.0, 9.0]), np.array([0.0, 1.0, 2.0, 4.0, 5.0])
    for size in range(1, 6):
        expected = np.mean([np.mean(members > max(c)) for c in combinations(others, size)])
        assert share_above_all(members, others, size) == pytest.approx(expected)


def test_attacks_on_people_take_the_more_exposed_row() -> None:
    attack = by_distance(np.array([4, 1, 7, 9]), np.array([2, 8]), rows_per_person=2)
    assert attack.members.tolist() == [-4, -1, -7, -9]
    assert attack.people.members.tolist() == [-1, -7]
    assert attack.people.others.tolist() == [-2]
    assert (attack.n, attack.people.n, attack.people.rows_per_person) == (6, 3, 1)
    assert Attack(np.array([3.0]), np.array([1.0, 3.0])).auc.value == 0.75


def test_a_density_ratio_is_not_fooled_by_common_haplotypes() -> None:
    near, reference = np.array([0, 0]), np.array([0, 9])
    attack = by_density_ratio((near, reference), (near, reference))
    assert attack.members.tolist() == pytest.approx([0, np.log(10)])


def test_kinship_is_that_of_the_paper() -> None:
    """(N_AaAa − 2 N_AAaa)/(2 N_i) + ½ − (N_i + N_j)/(4 N_i), N_i the fewer heterozygotes."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 3, (5, 80)).astype(np.int8), rng.integers(0, 3, (7, 80)).astype(np.int8)
    for i, j in np.ndindex(5, 7):
        x, y = a[i], b[j]
        both, opposite = ((x == 1) & (y == 1)).sum(), (np.abs(x - y) == 2).sum()
        n, m = sorted([(x == 1).sum(), (y == 1).sum()])
        expected = (both - 2 * opposite) / (2 * n) + 0.5 - (n + m) / (4 * n)
        assert king_robust(a, b)[i, j] == pytest.approx(expected)
    np.testing.assert_array_equal(nearest_kinship(a, b), king_robust(a, b).max(axis=1))


def test_kinship_of_relatives_and_of_people_without_heterozygotes() -> None:
    rng = np.random.default_rng(5)
    frequency = rng.uniform(0.2, 0.8, 20_000)
    gametes = (rng.random((6, 20_000)) < frequency).astype(np.int8)
    mother, father = gametes[0] + gametes[1], gametes[2] + gametes[3]
    pick = rng.integers(0, 2, (4, 20_000)) > 0
    child, sister = (
        np.where(pick[k], gametes[0], gametes[1]) + np.where(pick[k + 1], gametes[2], gametes[3]) for k in (0, 2)
    )
    stranger = gametes[4] + gametes[5]
    people = np.stack([child, child, child, child]).astype(np.int8)
    relatives = np.stack([child, mother, sister, stranger]).astype(np.int8)
    found = np.diag(king_robust(people, relatives))
    np.testing.assert_allclose(found, [0.5, 0.25, 0.25, 0], atol=0.02)
    assert king_robust(father[None].astype(np.int8), mother[None].astype(np.int8))[0, 0] == pytest.approx(0, abs=0.02)
    plain = np.array([[0, 2, 0], [0, 2, 2]], dtype=np.int8)
    assert king_robust(plain, plain).tolist() == [[0.5, -np.inf], [-np.inf, 0.5]]


def test_dosages_have_no_missing_call() -> None:
    filled = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], dtype=np.int8)
    panel = Panel(np.where(filled > 0, -1, filled).astype(np.int8), filled, filled[::2], 2)
    assert dosages(panel).tolist() == [[1, 2], [1, 0]]


def test_guesses_are_votes_of_the_nearest() -> None:
    distance = np.array([[5, 0, 2], [1, 9, 4]])
    carried = np.array([[True, False], [False, True], [True, True]])
    found = guesses(distance, carried)
    np.testing.assert_allclose(found, [[1 / 2 + 1 / 3, 1 + 1 / 2], [1 + 1 / 2, 1 / 2 + 1 / 3]], rtol=1e-6)


def test_ranks_of_carriers_average_to_the_area_of_their_site() -> None:
    rng = np.random.default_rng(6)
    score = rng.integers(0, 4, (50, 3)).astype(np.float32)
    carries = rng.random((50, 3)) < 0.3
    carries[:, 2] = True
    ranks = carrier_ranks(score, carries)
    for j in range(2):
        expected = auc(score[carries[:, j], j], score[~carries[:, j], j])
        assert np.nanmean(ranks[:, j]) == pytest.approx(expected)
    assert np.isnan(ranks[:, 2]).all()
    assert np.isnan(ranks[~carries]).all()


def test_disclosure_compares_like_with_like() -> None:
    """A site that carriers of one side alone have says nothing; the others weigh n m / (n + m)."""
    nan = np.nan
    members = np.array([[0.9, nan, 0.1], [0.7, 0.8, nan]])
    others = np.array([[0.5, nan, nan], [0.5, 0.6, nan], [nan, nan, nan]])
    found = disclosure(members, others)
    assert found.n_sites == 2
    assert found.members.value == pytest.approx((1 * 0.8 + 0.5 * 0.8) / 1.5)
    assert found.advantage.value == pytest.approx((1 * 0.3 + 0.5 * 0.2) / 1.5)
    assert np.isnan(disclosure(members[:, 2:], others[:, 2:]).advantage.value)


ATTACKS = ("membership_auc", "membership_person_auc", "membership_ratio_auc", "membership_ratio_person_auc")
FOUND = ("membership_tpr", "membership_person_tpr", "membership_ratio_tpr", "membership_ratio_person_tpr")


@pytest.fixture(scope="module")
def many() -> dict[str, VariantTable]:
    """Three sets of people of one population with many founders: haplotypes are seldom alike, rare alleles linked."""
    rng = np.random.default_rng(9)
    founders = (rng.random((60, 200)) < rng.beta(0.3, 1.2, 200)).astype(np.int8)
    return {k: table_of(people_from(founders, n, rng), prefix=k) for k, n in (("R", 150), ("T", 120), ("S", 150))}


@pytest.fixture(autouse=True)
def _few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "REPLICATES", 60)


def judged(synthetic: VariantTable, many: dict[str, VariantTable]) -> dict[str, dict[str, float]]:
    class Map:
        def cM(self, position: np.ndarray) -> np.ndarray:
            return np.asarray(position) / 1e3

    frame = evaluate(synthetic, train=many["R"], holdout=many["T"], genetic_map=Map(), families=["privacy"])
    return frame.set_index("metric").to_dict("index")


def test_strangers_in_the_place_of_synthetic_people_give_nothing_away(many: dict[str, VariantTable]) -> None:
    found = judged(many["S"], many)
    for name in (*ATTACKS, "rare_allele_advantage", "privacy_loss"):
        truth = 0.5 if name in ATTACKS else 0.0
        assert found[name]["low"] - 0.01 < truth < found[name]["high"] + 0.01, name
    for name in FOUND:
        assert found[name]["value"] < 0.06, name
    assert found["singled_out"]["value"] < 0.06
    assert found["singled_out"]["floor"] == pytest.approx(1 / 41, abs=0.02)
    for name in ("copied_run_cm_mean", "kinship_mean"):
        assert found[name]["value"] == pytest.approx(found[name]["floor"], rel=0.1), name


@pytest.mark.parametrize(("name", "options"), [("bootstrap", {}), ("li-stephens", {"ne": 2_000.0})])
def test_copies_light_everything_up(many: dict[str, VariantTable], name: str, options: dict[str, float]) -> None:
    copies = baseline(name, **options).generate(many["R"], 300, seed=1)
    found = judged(copies, many)
    for metric in (*ATTACKS, "privacy_loss", "rare_allele_advantage"):
        assert found[metric]["low"] > (0.6 if metric in ATTACKS else 0.02), metric
        assert found[metric]["low"] <= found[metric]["value"] <= found[metric]["high"], metric
    for metric in (*FOUND, "singled_out"):
        assert found[metric]["value"] > 0.2 > 3 * found[metric]["floor"], metric
    for metric in ("copied_run_cm_mean", "kinship_mean", "kinship_max"):
        assert found[metric]["value"] > 1.1 * found[metric]["floor"], metric
    if name == "bootstrap":
        assert found["kinship_mean"]["value"] == found["kinship_twins"]["value"] / 2 == 0.5
        assert found["kinship_twins"]["floor"] < 0.2


def test_intervals_of_privacy_loss_are_as_wide_as_it_scatters() -> None:
    """The spread of the loss over independent sets of people, beside what the jackknife says of one of them."""
    from genodiff.evaluation import privacy

    losses, widths = [], []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        founders = (np.random.default_rng(0).random((30, 60)) < 0.3).astype(np.int8)
        r, t, s = (table_of(people_from(founders, 60, rng), prefix=k) for k in "RTS")
        comparison = align(s, train=r, holdout=t)
        groups = privacy.group_distances(comparison)
        found = next(m for m in privacy._adversarial_metrics(comparison, groups) if m.metric == "privacy_loss")
        losses.append(found.value)
        widths.append((found.high - found.low) / (2 * 2.09))
    assert 0.5 < np.std(losses, ddof=1) / np.mean(widths) < 1.6
