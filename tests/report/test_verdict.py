"""The verdict says what the numbers say, and no more."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from genodiff.report.verdict import TARGETS, Verdict, judge, number

GOOD = {
    "af_mae": (0.0089, 0.0078),
    "ld_decay_mae": (0.0027, 0.0007),
    "near_pair_r2_ratio": (1.01, 1.0),
    "three_point_r": (0.99, 0.996),
    "pca_w2": (0.55, 0.5),
    "recall": (0.9, 0.96),
    "f_is": (0.06, 0.09),
    "f_is_holdout": (0.065, math.nan),
    "c2st_auc": (0.7, 0.51),
    "aa_truth": (0.55, 0.476),
    "aa_syn": (0.42, 0.5),
    "privacy_loss": (-0.02, 0.0),
    "membership_auc": (0.51, 0.5),
    "copied_run_mean": (1500.0, 1445.0),
    "exact_copies": (0.0, 0.0),
}


def frame(**changed: tuple[float, float]) -> pd.DataFrame:
    values = GOOD | changed
    return pd.DataFrame([(name, *pair) for name, pair in values.items()], columns=["metric", "value", "floor"])


def statuses(verdict: Verdict) -> dict[str, str]:
    return {c.target.metric: c.status for a in (verdict.fidelity, verdict.privacy) for c in a.checks}


def test_all_met() -> None:
    verdict = judge(frame(), holdout_haplotypes=1_032)
    assert set(statuses(verdict).values()) == {"met"}
    assert verdict.fidelity.line == "8 of 8 checks met."
    assert verdict.privacy.line == "No sign of copying in 6 of 6 checks."
    assert verdict.caution == ""
    assert verdict.lines == ("Fidelity: 8 of 8 checks met.", "Privacy: No sign of copying in 6 of 6 checks.")
    assert verdict.fidelity.tone == verdict.privacy.tone == "good"


@pytest.mark.parametrize(
    ("metric", "inside", "outside"),
    [
        ("af_mae", (1.149, 1.0), (1.151, 1.0)),
        ("ld_decay_mae", (3.99, 1.0), (4.01, 1.0)),
        ("near_pair_r2_ratio", (0.951, 1.2), (1.051, 1.2)),
        ("three_point_r", (0.951, 1.0), (0.949, 1.0)),
        ("pca_w2", (1.149, 1.0), (1.151, 1.0)),
        ("recall", (0.91, 1.0), (0.89, 1.0)),
        ("f_is", (0.084, 0.5), (0.086, 0.5)),
        ("c2st_auc", (0.75, math.nan), (0.751, math.nan)),
        ("aa_truth", (0.38, 0.49), (0.36, 0.49)),
        ("aa_syn", (0.6, 0.49), (0.62, 0.49)),
        ("privacy_loss", (-0.029, math.nan), (0.031, math.nan)),
        ("membership_auc", (0.53, 0.5), (0.531, 0.5)),
        ("copied_run_mean", (109.0, 100.0), (111.0, 100.0)),
        ("exact_copies", (0.01, 0.01), (0.011, 0.01)),
    ],
)
def test_every_threshold(metric: str, inside: tuple[float, float], outside: tuple[float, float]) -> None:
    assert statuses(judge(frame(**{metric: inside}), holdout_haplotypes=1_032))[metric] == "met"
    missed = statuses(judge(frame(**{metric: outside}), holdout_haplotypes=1_032))
    assert missed.pop(metric) == "not met"
    assert set(missed.values()) == {"met"}


def test_every_target_has_a_threshold_test() -> None:
    assert {t.metric for t in TARGETS} == GOOD.keys() - {"f_is_holdout"}


def test_a_missed_check_is_named_with_its_target() -> None:
    verdict = judge(frame(c2st_auc=(0.81, 0.51)), holdout_haplotypes=1_032)
    assert verdict.fidelity.line == "7 of 8 checks met; not met: C2ST 0.810 against a target of at most 0.75."
    assert verdict.fidelity.tone == "bad"


def test_a_leak_is_not_called_no_sign_of_copying() -> None:
    verdict = judge(frame(membership_auc=(0.7, 0.5)), holdout_haplotypes=1_032)
    assert verdict.privacy.line.startswith("1 of 6 checks not met: membership inference AUC 0.700")
    assert "No sign" not in verdict.privacy.line


def test_too_unlike_is_told_from_too_like() -> None:
    far = judge(frame(aa_truth=(0.9, 0.48)), holdout_haplotypes=1_032).privacy.line
    near = judge(frame(aa_truth=(0.1, 0.48)), holdout_haplotypes=1_032).privacy.line
    assert "no sign of copying" in far
    assert "no sign of copying" not in near
    # Copies of one person are far from others, too.
    alike = judge(frame(aa_syn=(0.9, 0.48)), holdout_haplotypes=1_032).privacy.line
    assert "no sign of copying" not in alike
    assert "nearer to each other" in alike


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recall": (math.nan, 0.9)}, "no finite value"),
        ({"recall": (0.9, math.nan)}, "no finite floor"),
    ],
)
def test_what_is_not_a_number_is_not_judged(change: dict[str, tuple[float, float]], reason: str) -> None:
    verdict = judge(frame(**change), holdout_haplotypes=1_032)
    check = next(c for c in verdict.fidelity.checks if c.target.metric == "recall")
    assert check.met is None
    assert check.reason == reason
    assert verdict.fidelity.line == "7 of 7 checks met. 1 check could not be judged."
    assert verdict.fidelity.tone == "open"


def test_an_absent_metric_is_not_judged() -> None:
    verdict = judge(frame()[lambda f: f["metric"] != "exact_copies"], holdout_haplotypes=1_032)
    assert verdict.privacy.checks[-1].reason == "not measured"


def test_small_data_prove_nothing() -> None:
    verdict = judge(frame(), holdout_haplotypes=98)
    assert "98 haplotypes" in verdict.caution
    assert "proves neither" in verdict.caution
    assert "too few to exclude" in verdict.privacy.line
    assert verdict.privacy.tone == "open"
    assert verdict.lines[-1] == verdict.caution


def test_very_small_data_are_not_judged() -> None:
    verdict = judge(frame(), holdout_haplotypes=20)
    assert set(statuses(verdict).values()) == {"could not be judged"}
    assert verdict.fidelity.line == verdict.privacy.line == "No check could be judged."


def test_an_empty_frame_is_judged_as_nothing() -> None:
    verdict = judge(frame().iloc[:0], holdout_haplotypes=1_032)
    assert verdict.fidelity.line == "No check could be judged."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0136, "0.0136"),
        (0.000683, "0.00068"),
        (-0.00988, "−0.00988"),
        (3e-9, "3.0e−09"),
        (0.0, "0"),
        (1.0, "1"),
        (0.99996, "1.00"),
        (9.9996, "10.0"),
        (432.87, "433"),
        (999.97, "1,000"),
        (1445.07, "1,445"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text
