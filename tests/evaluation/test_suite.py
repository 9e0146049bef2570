"""The whole table: its form, its invariants, planted leaks and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data_prep.variants import VariantTable
from genodiff.evaluation import classifier, intervals
from genodiff.evaluation.panels import align
from genodiff.evaluation.suite import FAMILIES, Evaluation, evaluate, evaluate_full
from tests.evaluation.conftest import table_of

Trio = dict[str, VariantTable]

METRICS = {
    "sites": "sites_compared sites_dropped",
    "frequencies": "af_mae af_mae_rare af_r af_r_rare genotype_frequency_mae sfs_distance fixed_share",
    "covariance": "mean_error sd_error cov_frobenius corr_frobenius w2_per_site histogram_kl",
    "ld": "ld_decay_mae ld_decay_mae_cm near_pair_r2_corr near_pair_r2_ratio three_point_r three_point_slope",
    "structure": "pca_w2 precision recall f_is f_is_holdout heterozygosity heterozygosity_holdout f_st "
    "population_f_st_mae c2st_auc",
    "privacy": "aa_truth aa_syn privacy_loss privacy_loss_matched membership_auc membership_tpr membership_person_auc "
    "membership_person_tpr membership_ratio_auc membership_ratio_tpr membership_ratio_person_auc "
    "membership_ratio_person_tpr singled_out copied_run_mean copied_run_median copied_run_max copied_run_holdout "
    "copied_run_cm_mean copied_run_cm_max exact_copies unique_share dcr_median dcr_p05 kinship_mean kinship_max "
    "kinship_cousins kinship_twins rare_allele_auc rare_allele_advantage",
}


class LinearMap:
    """One cM per Mb."""

    def cM(self, position: np.ndarray) -> np.ndarray:
        return np.asarray(position) / 1e6


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier.two_sample_auc, "__kwdefaults__", {"trees": 25, "repeats": 1})
    monkeypatch.setattr(intervals, "REPLICATES", 40)


def run(synthetic: VariantTable, trio: Trio, **options: object) -> Evaluation:
    return evaluate_full(synthetic, train=trio["train"], holdout=trio["holdout"], **options)  # type: ignore[arg-type]


def permuted(table: VariantTable, seed: int) -> VariantTable:
    return table.select(samples=np.random.default_rng(seed).permutation(table.n_samples))


def test_table_has_every_metric_with_a_floor(trio: Trio) -> None:
    found = run(trio["synthetic"], trio, genetic_map=LinearMap())
    assert list(found.frame.columns) == ["family", "metric", "value", "floor", "n", "unit", "low", "high"]
    expected = [(f, m) for f, names in METRICS.items() for m in names.split()]
    assert list(zip(found.frame["family"], found.frame["metric"], strict=True)) == expected
    assert found.frame["value"].notna().all()
    without = set(found.frame.loc[found.frame["floor"].isna(), "metric"])
    assert without == {"sites_compared", "sites_dropped", "f_is_holdout", "heterozygosity_holdout"}
    assert (found.frame["n"] >= 0).all()
    assert {"ld_decay", "ld_decay_cm", "allele_frequency", "pca", "copied_run_synthetic_train"} <= set(found.curves)
    pca = found.curves["pca"]
    assert isinstance(pca, pd.DataFrame)
    assert pca["set"].value_counts().to_dict() == {"synthetic": 120, "train": 120, "holdout": 80}
    assert found.metric("af_mae")["value"] > 0
    with pytest.raises(KeyError, match="no metric 'af'"):
        found.metric("af")


def test_same_seed_same_table_and_families_do_not_disturb_each_other(trio: Trio) -> None:
    whole = run(trio["synthetic"], trio).frame
    again = run(trio["synthetic"], trio).frame
    pd.testing.assert_frame_equal(whole, again)
    part = evaluate(trio["synthetic"], train=trio["train"], holdout=trio["holdout"], families=["privacy", "ld"])
    expected = whole[whole["family"].isin(["sites", "privacy", "ld"])]
    merged = part.merge(expected, on=["family", "metric"], suffixes=("", "_whole"))
    assert len(merged) == len(part) == len(expected)
    np.testing.assert_array_equal(merged["value"], merged["value_whole"])


def test_order_of_people_changes_nothing_that_is_not_drawn(trio: Trio) -> None:
    families = ["frequencies", "covariance", "ld"]
    expected = run(trio["synthetic"], trio, families=families).frame
    shuffled = {name: permuted(table, 3) for name, table in trio.items()}
    found = run(shuffled["synthetic"], shuffled, families=families).frame
    np.testing.assert_allclose(found["value"], expected["value"], atol=1e-6)
    np.testing.assert_allclose(found["floor"], expected["floor"], atol=1e-6)


def test_order_of_people_leaves_undrawn_privacy_alone(trio: Trio) -> None:
    drawn = {"aa_truth", "aa_syn", "privacy_loss", "privacy_loss_matched", "singled_out"}
    shuffled = {name: permuted(table, 4) for name, table in trio.items()}
    a, b = (run(t["synthetic"], t, families=["privacy"]).frame for t in (trio, shuffled))
    kept = ~a["metric"].isin(drawn) & ~a["metric"].str.contains("ratio|rare")
    assert kept.sum() > 15
    np.testing.assert_allclose(a.loc[kept, "value"], b.loc[kept, "value"])


def test_copies_of_training_people_light_privacy_up(trio: Trio) -> None:
    names = [f"GD{i}" for i in range(trio["train"].n_samples)]
    copy = replace(trio["train"], samples=trio["train"].samples.set_axis(names))
    found = run(copy, trio)
    assert found.metric("membership_auc")["value"] > 0.99
    assert found.metric("privacy_loss")["value"] > 0.3
    assert found.metric("exact_copies")["value"] == 1
    assert found.metric("exact_copies")["floor"] == 0
    assert found.metric("copied_run_mean")["value"] == trio["train"].n_variants
    assert found.metric("dcr_median")["value"] == 0
    same = found.frame[found.frame["family"].isin(["frequencies", "covariance", "ld"])]
    np.testing.assert_allclose(same["value"], same["floor"])


def test_honest_people_do_not_leak(trio: Trio) -> None:
    found = run(trio["synthetic"], trio, families=["privacy"])
    assert abs(found.metric("membership_auc")["value"] - 0.5) < 0.1
    assert abs(found.metric("privacy_loss")["value"]) < 0.15
    mean_run = found.metric("copied_run_mean")
    assert mean_run["value"] == pytest.approx(mean_run["floor"], rel=0.15)
    assert found.metric("copied_run_max")["n"] == 80


def test_independent_sites_are_found_out(trio: Trio) -> None:
    generator = np.random.default_rng(2)
    rows = generator.permuted(trio["train"].haplotype_rows(), axis=0)
    broken = table_of(rows.reshape(60, 2, -1).transpose(0, 2, 1), labels=trio["train"].labels, prefix="GD")
    found = run(broken, trio)
    assert found.metric("af_mae")["value"] == pytest.approx(found.metric("af_mae")["floor"])
    assert found.metric("ld_decay_mae")["value"] > 3 * found.metric("ld_decay_mae")["floor"]
    assert abs(found.metric("near_pair_r2_ratio")["value"]) < 0.5
    assert found.metric("c2st_auc")["value"] > 0.65
    assert found.metric("aa_truth")["value"] > 0.9
    assert found.metric("aa_syn")["value"] < found.metric("aa_truth")["value"] - 0.4
    assert found.metric("copied_run_mean")["value"] < found.metric("copied_run_mean")["floor"]


def test_unphased_tables_are_judged_on_dosages(trio: Trio) -> None:
    unphased = {name: replace(t, phased=np.zeros((t.n_samples, t.n_variants), dtype=bool)) for name, t in trio.items()}
    found = run(unphased["synthetic"], unphased)
    assert found.frame["value"].notna().all()
    assert found.metric("pca_w2")["unit"] == "sd of PC1 (genotypes)"
    assert found.metric("aa_truth")["n"] == 40
    phased = run(trio["synthetic"], trio, families=["frequencies", "covariance"])
    dosages = run(unphased["synthetic"], unphased, families=["frequencies", "covariance"])
    np.testing.assert_allclose(phased.frame["value"], dosages.frame["value"])


def test_missing_calls_and_an_all_missing_site_are_carried(trio: Trio) -> None:
    generator = np.random.default_rng(6)
    holed = {}
    for name, table in trio.items():
        haplotypes = np.array(table.haplotypes)
        haplotypes[generator.random(haplotypes.shape[:2]) < 0.02] = -1
        if name == "holdout":
            haplotypes[:, 5] = -1
        holed[name] = replace(table, haplotypes=haplotypes)
    found = run(holed["synthetic"], holed)
    assert found.frame["value"].notna().all()
    assert found.metric("af_mae")["n"] == trio["train"].n_variants - 1


def test_sites_are_matched_by_key_and_counted(trio: Trio) -> None:
    m = trio["train"].n_variants
    found = evaluate(
        trio["synthetic"].select(variants=slice(10, None)),
        train=trio["train"],
        holdout=trio["holdout"].select(variants=slice(0, m - 5)),
        families=["frequencies"],
    ).set_index("metric")
    assert found.loc["sites_compared", "value"] == m - 15
    assert found.loc["sites_dropped", "value"] == 15


def test_other_allele_is_another_site(trio: Trio) -> None:
    sites = trio["synthetic"].sites.assign(alt="C")
    with pytest.raises(ValueError, match="no site in common"):
        run(replace(trio["synthetic"], sites=sites), trio)


def test_too_few_people_and_unknown_families_are_refused(trio: Trio) -> None:
    with pytest.raises(ValueError, match="synthetic table has 1 people"):
        run(trio["synthetic"].select(samples=[0]), trio)
    with pytest.raises(ValueError, match=r"unknown families \['utility'\]"):
        run(trio["synthetic"], trio, families=["utility"])


def test_a_handful_of_people_and_sites_is_enough_not_to_fail(trio: Trio) -> None:
    tiny = {name: t.select(samples=slice(0, 3), variants=slice(0, 4)) for name, t in trio.items()}
    assert set(run(tiny["synthetic"], tiny).frame["family"]) == {"sites", *FAMILIES}


def test_value_and_floor_rest_on_equal_numbers(trio: Trio) -> None:
    few = trio["synthetic"].select(samples=slice(0, 25))
    comparison = align(few, train=trio["train"], holdout=trio["holdout"])
    assert comparison.synthetic.n_people == comparison.train.n_people == 25
    assert comparison.train_all.n_people == 60
    many = align(trio["synthetic"], train=few, holdout=trio["holdout"])
    assert many.synthetic.n_people == many.train.n_people == 25
    assert many.synthetic_all.n_people == 60


def test_progress_bar_goes_to_standard_error(trio: Trio, capsys: pytest.CaptureFixture[str]) -> None:
    run(trio["synthetic"], trio, families=["frequencies"], progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "evaluate" in captured.err


@pytest.mark.parametrize(("train", "holdout", "synthetic"), [(10, 40, 60), (60, 6, 60), (60, 40, 5), (4, 40, 4)])
def test_groups_of_any_size_can_be_compared(trio: Trio, train: int, holdout: int, synthetic: int) -> None:
    sizes = {"train": train, "holdout": holdout, "synthetic": synthetic}
    few = {name: trio[name].select(samples=np.arange(0, trio[name].n_samples)[::-1][:n]) for name, n in sizes.items()}
    found = run(few["synthetic"], few)
    assert found.metric("privacy_loss_matched")["value"] == pytest.approx(0, abs=1)
