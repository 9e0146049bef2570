"""Whether chromosomes belong to the same people, where the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from genodiff.evaluation.chromosomes import Chromosome, Labels, family, fit_canonical, shared_dimensions
from genodiff.evaluation.results import to_frame

PEOPLE = {"train": 240, "holdout": 120, "synthetic": 200}


def chromosomes(
    ancestry: dict[str, NDArray[np.float64]], *, shuffled: bool = False, seed: int = 1, n: int = 3
) -> list[Chromosome]:
    """Chromosomes of people whose alleles are drawn from two populations in the proportion of their ancestry."""
    rng = np.random.default_rng(seed)
    out = []
    for name in "ABCDE"[:n]:
        one, other = rng.uniform(0.05, 0.95, (2, 120))
        own = dict(ancestry)
        if shuffled:
            own["synthetic"] = rng.permutation(own["synthetic"])
        drawn = {
            side: rng.binomial(2, a[:, None] * one + (1 - a[:, None]) * other).astype(np.int8)
            for side, a in own.items()
        }
        out.append(Chromosome(name, **drawn))
    return out


def admixed(seed: int = 2) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return {side: rng.uniform(0, 1, n) for side, n in PEOPLE.items()}


def values(frame: pd.DataFrame) -> dict[str, float]:
    return dict(zip(frame["metric"], frame["value"], strict=True))


def test_consistent_people_agree_as_real_ones_do() -> None:
    frame = to_frame(family(chromosomes(admixed())).metrics)
    row = frame.set_index("metric").loc["chromosomes_r"]
    assert row["floor"] > 0.85
    assert abs(row["value"] - row["floor"]) < 0.05
    assert row["low"] <= row["value"] <= row["high"]
    assert abs(values(frame)["chromosomes_r_shuffled"]) < 0.15


def test_people_put_together_at_random_do_not() -> None:
    frame = to_frame(family(chromosomes(admixed(), shuffled=True)).metrics).set_index("metric")
    assert frame.loc["chromosomes_r", "floor"] > 0.85
    assert abs(frame.loc["chromosomes_r", "value"]) < 0.15


def test_what_is_left_within_labels() -> None:
    """Labels that say everything leave nothing; labels that say nothing leave all."""
    ancestry = {side: np.repeat([0.1, 0.9], n // 2) for side, n in PEOPLE.items()}
    told = Labels(*(np.repeat(["one", "other"], n // 2) for n in PEOPLE.values()))
    exact = values(to_frame(family(chromosomes(ancestry), labels=told).metrics))
    assert exact["chromosomes_r"] > 0.85
    assert exact["chromosomes_within_dimensions"] == 0
    assert "chromosomes_within_r" not in exact
    random = np.random.default_rng(4)
    empty = Labels(*(random.choice(["one", "other"], n) for n in PEOPLE.values()))
    found = values(to_frame(family(chromosomes(admixed()), labels=empty).metrics))
    assert found["chromosomes_within_r"] > 0.85


def test_chromosomes_that_share_nothing_are_said_to_share_nothing() -> None:
    nobody = {side: np.full(n, 0.5) for side, n in PEOPLE.items()}
    found = [family(chromosomes(nobody, seed=k, n=2)).metrics[0].value for k in range(12)]
    assert np.mean(found) < 0.2


def test_canonical_correlation_of_known_truth() -> None:
    rng = np.random.default_rng(1)
    shared = rng.standard_normal((4000, 1))
    a = np.column_stack([0.8 * shared + 0.6 * rng.standard_normal((4000, 1)), rng.standard_normal((4000, 2))])
    b = np.column_stack([rng.standard_normal((4000, 1)), -0.8 * shared + 0.6 * rng.standard_normal((4000, 1))])
    fitted = fit_canonical(a, b)
    assert fitted.r[0] == pytest.approx(0.64, abs=0.03)
    u, v = fitted.scores(a, b)
    assert np.corrcoef(u[:, 0], v[:, 0])[0, 1] == pytest.approx(fitted.r[0], abs=1e-6)
    assert shared_dimensions(a, b, generator=rng) == 1


def test_one_chromosome_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        family(chromosomes(admixed(), n=1))
