"""Anchors from rows, their number from the data, and who goes with whom."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from genodiff.genotypes.anchors import Population, _repaired, fit_anchors, inbreeding, pseudo_rows
from genodiff.genotypes.units import Units, units_of
from tests.genotypes.tables import table_of


def independent(people: int, sites: int, frequency: NDArray[np.float64], seed: int = 0) -> NDArray[np.int8]:
    rng = np.random.default_rng(seed)
    return (rng.random((people, sites, 2)) < frequency[None, :, None]).astype(np.int8)


def two_populations(people: int = 200, sites: int = 300, seed: int = 0) -> NDArray[np.int8]:
    """Half of the people from each of two populations whose frequencies are far apart; no linkage."""
    p = np.random.default_rng(seed).uniform(0.1, 0.9, (2, sites))
    halves = [independent(people // 2, sites, p[k], seed + 1 + k) for k in (0, 1)]
    return np.concatenate(halves)


def units(haplotypes: NDArray[np.int8]) -> Units:
    return units_of(table_of(haplotypes))


def test_inbreeding_of_random_mating_is_zero_and_of_selfing_one() -> None:
    random = units(independent(300, 400, np.full(400, 0.3)))
    assert abs(inbreeding(random.states)) < 0.01
    twins = random.states.copy()
    twins[1::2] = twins[::2]
    assert inbreeding(twins) == pytest.approx(1, abs=1e-12)


def test_inbreeding_of_pooled_populations_shows_their_difference() -> None:
    assert inbreeding(units(two_populations()).states) > 0.1


def test_inbreeding_leaves_unknown_states_out() -> None:
    states = units(independent(500, 400, np.full(400, 0.3))).states.copy()
    states[np.random.default_rng(1).random(states.shape) < 0.2] = -1
    assert abs(inbreeding(states)) < 0.02
    assert inbreeding(np.full((4, 3), -1, dtype=np.int8)) == 0


def test_expected_inbreeding_after_repairing_is_the_mean_over_repairings() -> None:
    haplotypes = units(two_populations(40, 60)).states
    group = np.random.default_rng(4).integers(0, 3, len(haplotypes))
    rng, drawn, alike = np.random.default_rng(5), [], []
    for _ in range(400):
        partner = np.arange(len(group))
        for g in range(3):
            members = np.flatnonzero(group == g)
            partner[members] = rng.permutation(members)
        drawn.append(inbreeding(haplotypes[partner]))
        pairs = [rng.permutation(np.flatnonzero(group == g)) for g in range(3)]
        alike.append(inbreeding(haplotypes[np.concatenate([p[: len(p) // 2 * 2] for p in pairs])]))
    for found, sample in zip(_repaired(haplotypes, group), (drawn, alike), strict=True):
        assert found == pytest.approx(np.mean(sample), abs=5 * np.std(sample) / np.sqrt(len(sample)))


def test_people_alike_make_up_for_ancestry_that_anchors_do_not_tell() -> None:
    """Of 12 founders, a tenth of people have one twice. Eight anchors cannot tell who is whose, but that it happens."""
    rng = np.random.default_rng(3)
    founders = (rng.random((12, 400)) < rng.uniform(0.1, 0.9, 400)).astype(np.int8)
    pair = rng.integers(0, 12, (1000, 2))
    pair[:100, 1] = pair[:100, 0]
    states = founders[pair.ravel()] ^ (rng.random((2000, 400)) < 0.02)
    people = units(states.reshape(1000, 2, 400).transpose(0, 2, 1))
    anchors = fit_anchors(people, n=8, seed=1)
    observed, expected = anchors.inbreeding
    plain = _repaired(people.states, anchors.assignment)[0]
    assert plain < observed - 0.01
    assert expected == pytest.approx(observed, abs=0.002)
    pools = [np.flatnonzero(anchors.assignment == k) for k in range(anchors.n)]
    drawn = anchors.population.draw(4000, rng=rng)[:, 1:].ravel()
    assert inbreeding(people.states[[rng.choice(pools[k]) for k in drawn]]) == pytest.approx(expected, abs=0.02)


def test_people_alike_keep_the_share_of_every_anchor() -> None:
    made = POPULATION.alike(0.2)
    for population in (POPULATION, made):
        share = np.bincount(population.combinations[:, 1:].T.ravel(), np.tile(population.counts, 2), minlength=3)
        np.testing.assert_allclose(share, [50 + 40 + 5, 50 + 50, 5])
    assert made.counts[(made.combinations == [0, 0, 1]).all(1)] == pytest.approx(40)
    assert made.counts[(made.combinations == [0, 0, 0]).all(1)] == pytest.approx(5)
    assert made.counts[(made.combinations == [0, 1, 1]).all(1)] == pytest.approx(30)
    assert POPULATION.alike(0) is POPULATION


def test_anchors_keep_two_populations_apart_and_their_difference() -> None:
    anchors = fit_anchors(units(two_populations()), seed=1)
    assert anchors.n == 8
    observed, repaired = anchors.inbreeding
    assert observed > 0.1
    assert repaired == pytest.approx(observed, abs=0.01)
    population = np.repeat([0, 1], 200)
    assert all(len(np.unique(population[anchors.assignment == k])) == 1 for k in range(anchors.n))


def test_more_populations_need_more_anchors() -> None:
    p = np.random.default_rng(7).uniform(0.05, 0.95, (6, 200))
    people = np.concatenate([independent(60, 200, q, seed=k) for k, q in enumerate(p)])
    anchors = fit_anchors(units(people), seed=1)
    assert anchors.n in (8, 16)
    assert anchors.inbreeding[1] == pytest.approx(anchors.inbreeding[0], abs=0.01)


def test_data_without_structure_take_the_fewest_anchors() -> None:
    anchors = fit_anchors(units(independent(300, 400, np.full(400, 0.3))), seed=1)
    assert anchors.n == 8
    assert abs(anchors.inbreeding[1]) < 0.015


def test_few_rows_have_a_single_anchor() -> None:
    anchors = fit_anchors(units(two_populations(30)), seed=1)
    assert anchors.n == 1
    np.testing.assert_allclose(anchors.points[0], units(two_populations(30)).frequency(), rtol=1e-5)


def test_anchors_lie_within_labels() -> None:
    labels = np.repeat(["A", "B"], 100)
    single = fit_anchors(units(two_populations()), labels=labels, n=1, seed=1)
    # At least one anchor a label, so that base, start and calibration know the label.
    assert single.n == 2
    assert single.inbreeding[1] == pytest.approx(single.inbreeding[0], abs=0.01)
    assert single.population.labels == ("A", "B")
    # Label, then the anchors of both haplotypes: one combination per population.
    np.testing.assert_array_equal(single.population.combinations, [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(single.population.counts, [100, 100])


def test_anchors_are_means_of_their_rows() -> None:
    rows = units(two_populations())
    anchors = fit_anchors(rows, n=2, seed=1)
    for k in (0, 1):
        mean = rows.states[anchors.assignment == k].mean(0)
        np.testing.assert_allclose(anchors.points[k], mean, atol=1 / (anchors.assignment == k).sum())
    # An allele that a cluster does not show stays possible there.
    assert (anchors.points > 0).all()
    assert (anchors.points < 1).all()


def test_medoids_are_rows_of_their_cluster() -> None:
    rows = units(two_populations())
    anchors = fit_anchors(rows, n=3, kind="medoids", seed=1)
    for k in range(3):
        assert (rows.states[anchors.assignment == k] == anchors.starts[k]).all(1).any()


def test_unphased_heterozygotes_count_half_in_the_anchors() -> None:
    haplotypes = two_populations()
    phased = np.random.default_rng(1).random(haplotypes.shape[:2]) >= 0.3
    rows = units_of(table_of(haplotypes, phased=phased))
    assert rows.per_person == 2
    anchors = fit_anchors(rows, n=2, seed=1)
    truth = np.stack([haplotypes[side].mean((0, 2)) for side in (slice(0, 100), slice(100, 200))])
    order = [int(anchors.assignment[0]), int(anchors.assignment[-1])]
    assert np.abs(anchors.points[order] - truth).mean() < 0.01
    assert anchors.inbreeding[0] == pytest.approx(inbreeding(units(haplotypes).states), abs=1e-12)


def test_same_seed_same_anchors_whatever_the_global_state() -> None:
    import torch

    rows = units(two_populations())
    first = fit_anchors(rows, n=4, seed=3)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    again = fit_anchors(rows, n=4, seed=3)
    np.testing.assert_array_equal(first.assignment, again.assignment)
    np.testing.assert_array_equal(first.points, again.points)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_dosages_have_anchors_of_people_and_no_pairing() -> None:
    haplotypes = two_populations()
    rows = units_of(table_of(haplotypes, phased=np.zeros(haplotypes.shape[:2], dtype=bool)))
    anchors = fit_anchors(rows, seed=1)
    assert anchors.points.shape == (anchors.n, 300)
    assert anchors.points.max() > 1.2
    assert np.isnan(anchors.inbreeding).all()
    assert anchors.population.combinations.shape[1] == 2


@pytest.mark.parametrize("sites", [1, 2, 3])
def test_few_sites_give_no_more_anchors_than_distinct_rows(sites: int) -> None:
    rows = units(two_populations(sites=sites))
    anchors = fit_anchors(rows, seed=1)
    assert anchors.n <= 2**sites
    assert (np.bincount(anchors.assignment, minlength=anchors.n) > 0).all()
    assert (anchors.weights > 0).all()


@pytest.mark.parametrize("n", [0, 401])
def test_number_of_anchors_out_of_range_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="number of anchors must lie in 1 … 400"):
        fit_anchors(units(two_populations()), n=n)


POPULATION = Population(
    labels=("A", "B"),
    combinations=np.array([[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 0, 2]]),
    counts=np.array([50, 25, 20, 5]),
)


def tally(people: NDArray[np.int64]) -> Counter[tuple[int, ...]]:
    return Counter((int(row[0]), *sorted(int(v) for v in row[1:])) for row in people)


@pytest.mark.parametrize("n", [1, 7, 100, 333, 2000])
def test_drawn_combinations_occur_their_expected_number_of_times(n: int) -> None:
    for seed in range(5):
        drawn = tally(POPULATION.draw(n, rng=np.random.default_rng(seed)))
        assert sum(drawn.values()) == n
        for row, count in zip(POPULATION.combinations, POPULATION.counts, strict=True):
            assert abs(drawn[tuple(row.tolist())] - n * count / 100) < 1


def test_drawn_people_of_a_label_are_of_that_label_in_proportion() -> None:
    drawn = tally(POPULATION.draw(75, rng=np.random.default_rng(0), label=0))
    assert drawn == {(0, 0, 1): 50, (0, 1, 1): 25}


def test_which_haplotype_comes_first_and_the_order_of_people_are_random() -> None:
    people = POPULATION.draw(1000, rng=np.random.default_rng(0))
    mixed = people[(people[:, 0] == 0) & (people[:, 1] != people[:, 2])]
    assert 0.4 < (mixed[:, 1] == 0).mean() < 0.6
    first, second = people[:500, 0].mean(), people[500:, 0].mean()
    assert abs(first - second) < 0.1


def four_populations(few: int, *, sites: int = 300) -> tuple[NDArray[np.int8], list[str], dict[str, str]]:
    """Two parents of two populations each: far apart between parents, near within; the last has ``few`` people."""
    rng = np.random.default_rng(11)
    above = rng.uniform(0.1, 0.9, (2, sites))
    near = np.clip(above.repeat(2, axis=0) + rng.normal(0, 0.05, (4, sites)), 0.02, 0.98)
    sizes = (60, 60, 60, few)
    people = np.concatenate(
        [independent(n, sites, p, seed=k) for k, (n, p) in enumerate(zip(sizes, near, strict=True))]
    )
    names = ("a1", "a2", "b1", "b2")
    return people, list(np.repeat(names, sizes)), dict(zip(names, "AABB", strict=True))


def law_of(population: Population, label: int) -> dict[tuple[int, ...], float]:
    chosen = population.combinations[:, 0] == label
    share = population.counts[chosen] / population.counts[chosen].sum()
    return {tuple(pair): p for pair, p in zip(population.combinations[chosen, 1:].tolist(), share, strict=True)}


def test_a_label_of_few_people_joins_the_anchors_of_its_parent() -> None:
    people, labels, parents = four_populations(6)
    anchors = fit_anchors(units(people), labels=np.asarray(labels), parents=parents, seed=1)
    rows = np.repeat(labels, 2)
    few = set(anchors.assignment[rows == "b2"].tolist())
    assert few <= set(anchors.assignment[rows == "b1"].tolist())
    assert not few & set(anchors.assignment[np.isin(rows, ["a1", "a2"])].tolist())
    assert np.bincount(anchors.assignment).min() >= 5
    assert anchors.population.parents == ("A", "A", "B", "B")
    assert anchors.population.borrowed[:3] == (0, 0, 0)


def test_without_parents_a_label_of_few_people_joins_the_nearest_anchors_of_all() -> None:
    people, labels, _ = four_populations(6)
    anchors = fit_anchors(units(people), labels=np.asarray(labels), seed=1)
    rows = np.repeat(labels, 2)
    assert set(anchors.assignment[rows == "b2"].tolist()) <= set(anchors.assignment[rows == "b1"].tolist())
    assert anchors.population.parents == ()


def test_labels_of_few_people_with_no_kin_are_put_together() -> None:
    people, _, _ = four_populations(60)
    labels = np.asarray([f"{k // 10:02d}" for k in range(240)])
    anchors = fit_anchors(units(people), labels=labels, seed=1)
    assert anchors.n >= 8
    assert len(anchors.population.labels) == 24
    assert len(anchors.population.borrowed) == 24
    assert min(anchors.population.borrowed) > 0
    # Clusters are of alleles, not of labels.
    population = np.repeat([0, 1], 240)
    assert all(len(np.unique(population[anchors.assignment == k])) == 1 for k in range(anchors.n))


def test_a_parent_of_few_people_stands_by_itself_no_more_than_a_label() -> None:
    people, labels, parents = four_populations(6)
    lonely = parents | {"b2": "C"}
    anchors = fit_anchors(units(people), labels=np.asarray(labels), parents=lonely, seed=1)
    assert set(anchors.assignment[np.repeat(labels, 2) == "b2"].tolist()) <= set(range(anchors.n))
    reached = {tuple(r[1:]) for r in anchors.population.combinations.tolist() if r[0] == 3}
    others = {tuple(r[1:]) for r in anchors.population.combinations.tolist() if r[0] != 3}
    assert reached >= others


def test_least_rows_zero_gives_every_label_its_own_anchors() -> None:
    people, labels, parents = four_populations(6)
    anchors = fit_anchors(units(people), labels=np.asarray(labels), parents=parents, least_rows=0, seed=1)
    rows = np.repeat(labels, 2)
    own = set(anchors.assignment[rows == "b2"].tolist())
    assert not own & set(anchors.assignment[rows != "b2"].tolist())
    assert anchors.population.borrowed == ()


def test_borrowed_law_is_the_posterior_mean_of_a_dirichlet_law() -> None:
    people = np.array([[0, 0, 1]] * 30 + [[0, 2, 1]] * 10 + [[1, 0, 0]] * 2 + [[1, 1, 0]] * 2)
    law = Population.of(("big", "few"), people, pseudo={1: 8.0})
    # Of 44 people in all 32 have the pair (0, 1), 10 have (1, 2), 2 have (0, 0).
    expected = {(0, 0): 2 + 8 * 2 / 44, (0, 1): 2 + 8 * 32 / 44, (1, 2): 8 * 10 / 44}
    assert law_of(law, 1) == pytest.approx({k: v / 12 for k, v in expected.items()})
    assert law_of(law, 0) == pytest.approx({(0, 1): 0.75, (1, 2): 0.25})
    assert law.borrowed == pytest.approx((0, 8 / 12))
    # Labels keep their share of everybody.
    totals = np.bincount(law.combinations[:, 0], law.counts)
    np.testing.assert_allclose(totals, [40, 4])


def test_a_parent_of_few_people_borrows_from_everybody() -> None:
    people = np.array([[0, 0, 0]] * 30 + [[1, 1, 1]] * 4)
    law = Population.of(
        ("big", "few"), people, parents=("P", "Q"), pseudo={1: 4.0}, pseudo_parent={"Q": 4.0}
    )  # fmt: skip
    above = {(0, 0): 4 * 30 / 34 / 8, (1, 1): (4 + 4 * 4 / 34) / 8}
    assert law_of(law, 1) == pytest.approx({(0, 0): above[0, 0] / 2, (1, 1): (1 + above[1, 1]) / 2})


@pytest.mark.parametrize("f_st", [0.02, 0.1])
def test_pseudo_rows_are_those_of_the_drift_the_groups_went_through(f_st: float) -> None:
    """Frequencies drawn from the beta law whose concentration is to be found."""
    rng, alpha = np.random.default_rng(3), (1 - f_st) / f_st
    above = rng.uniform(0.2, 0.8, 3000)
    p = rng.beta(alpha * above, alpha * (1 - above), (8, 3000))
    people = np.concatenate([independent(40, 3000, q, seed=k) for k, q in enumerate(p)])
    found = pseudo_rows(units(people), np.repeat(np.arange(8), 40), np.arange(8))
    assert found == pytest.approx(alpha, rel=0.1)


def test_pseudo_rows_stay_finite_where_groups_do_not_differ() -> None:
    people = units(independent(100, 200, np.full(200, 0.3)))
    same = pseudo_rows(people, np.arange(100) % 2, np.arange(2))
    assert same > 100
    assert pseudo_rows(people, np.zeros(100, dtype=int), np.arange(1)) == pytest.approx(999)
    apart = units(np.repeat(np.eye(2, dtype=np.int8)[:, :, None], 2, axis=2).repeat(10, axis=0))
    assert pseudo_rows(apart, np.repeat([0, 1], 10), np.arange(2)) == pytest.approx(1)


def test_synthetic_frequencies_of_few_people_are_nearer_with_a_parent() -> None:
    people, labels, parents = four_populations(6)
    truth = independent(2000, 300, four_truth(), seed=99).mean((0, 2))
    errors = []
    for least in (0, 40):
        rows = units(people)
        anchors = fit_anchors(rows, labels=np.asarray(labels), parents=parents, least_rows=least, seed=1)
        drawn = anchors.population.draw(400, rng=np.random.default_rng(0), label=3)[:, 1:]
        errors.append(np.square(anchors.points[drawn].mean((0, 1)) - truth).mean())
    assert errors[1] < 0.5 * errors[0]


def four_truth() -> NDArray[np.float64]:
    rng = np.random.default_rng(11)
    above = rng.uniform(0.1, 0.9, (2, 300))
    return np.clip(above.repeat(2, axis=0) + rng.normal(0, 0.05, (4, 300)), 0.02, 0.98)[3]
