"""Two Gaussians in the plane: data with exact shares, methods that keep them, and the page from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from genodiff.reproduce import mixture, plane
from genodiff.reproduce.mixture import LIMITS, NAME, data_of, near, truth_metrics
from genodiff.reproduce.plane import Budget, Data, Plane, copies, principal, recipe, with_base
from genodiff.reproduce.tables import paper_metrics
from tests.commands import succeed

TINY = Budget(steps=3, residual_steps=3, plain_draws=100, draws=400, base_draws=20_000)
PLANE = Plane()


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "EULER_STEPS", 20)
    monkeypatch.setattr(plane, "SHORT_STEPS", 10)


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray, Data]:
    return data_of(PLANE, seed=1, n=400, device="cpu")


def test_data_have_exact_shares_and_the_moments_that_are_said() -> None:
    x, component = PLANE.draw(20_000, rng=np.random.default_rng(1))
    assert component.sum() == 10_000
    assert ((x[:, 0] > 0) == component).all()
    assert np.cov(x, rowvar=False) == pytest.approx(PLANE.covariance, abs=0.1)
    by_chance = PLANE.draw(1_000, rng=np.random.default_rng(1), exact=False)[1]
    assert by_chance.sum() != 500
    even = PLANE.even(20_000, seed=1)
    assert even.mean(0) == pytest.approx([0, 0], abs=1e-3)
    assert np.cov(even, rowvar=False) == pytest.approx(PLANE.covariance, abs=5e-3)


def test_truth_has_no_error_against_itself() -> None:
    even = PLANE.even(20_000, seed=1)
    out = truth_metrics(even, PLANE, even)
    assert max(v for k, v in out.items()) < 5e-3
    shifted = truth_metrics(even + np.array([0.5, 0.0]), PLANE, even)
    assert shifted["mean_error_1"] == pytest.approx(0.5, abs=1e-3)
    assert shifted["w2_1"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("drift", ["gou", "isotropic"])
def test_the_base_alone_has_the_moments_of_the_training_points(
    sample: tuple[np.ndarray, np.ndarray, Data], drift: str
) -> None:
    train, _, data = sample
    drawn = with_base(data, budget=TINY, seed=1, drift=drift, trained=False)  # type: ignore[arg-type]
    assert drawn.share == pytest.approx(0.5, abs=2e-4)
    error = paper_metrics(drawn.points, train, per_coordinate=True)
    # What remains is the noise of 20,000 draws.
    assert error["mean_error"] < 0.015
    assert error["sd_error"] < 0.015
    assert error["cov_frobenius"] < 0.25
    assert error["w2_2"] < 0.06


def test_copies_start_from_every_training_point(sample: tuple[np.ndarray, np.ndarray, Data]) -> None:
    train, test, data = sample
    drawn = copies(data, horizons=[0.005, 1e-6], budget=TINY, seed=1)
    assert near(drawn[1e-6].points, train) > 0.95
    assert near(drawn[1e-6].points, train) > near(test, train) + 0.3
    assert drawn[1e-6].points == pytest.approx(train, abs=0.05)


def test_recipe_draws_from_both_spreads_with_one_network(sample: tuple[np.ndarray, np.ndarray, Data]) -> None:
    _, _, data = sample
    drawn = recipe(data, budget=TINY, seed=1)
    assert list(drawn) == ["noise", "within"]
    for each in drawn.values():
        assert each.points.shape == (100, 2)
        assert np.isfinite(each.points).all()


def test_principal_axes_of_the_plane(sample: tuple[np.ndarray, np.ndarray, Data]) -> None:
    train, _, data = sample
    basis, spectrum, mean = principal(data.rows)
    assert spectrum.dtype == torch.float32
    assert mean.numpy() == pytest.approx(train.mean(0), abs=1e-4)
    assert abs(basis.matrix()[0, 0]) == pytest.approx(1, abs=1e-3)
    assert spectrum.numpy() == pytest.approx([36.25, 0.25], rel=0.1)


def test_limits_are_the_printed_column_where_it_has_digits() -> None:
    assert (LIMITS["mean_error_1"], LIMITS["cov_frobenius"], LIMITS["corr_frobenius"], LIMITS["w2_1"]) == (
        0.003, 0.034, 0.005, 0.025
    )  # fmt: skip


def test_command_writes_page_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mixture.BUDGETS, "quick", TINY)
    monkeypatch.setattr(mixture, "POINTS", 200)
    monkeypatch.setattr(mixture, "TRUTH", 2_000)
    monkeypatch.setattr(mixture, "SENSITIVITY", ((3.0, 0.5),))
    out = tmp_path / "out"
    printed = succeed("reproduce", "gou-mixture", "-o", out, "--seeds", 1, "--device", "cpu", "--threads", 1, "--quiet")
    assert printed.strip() == f"page: {out / NAME}.md"
    assert {p.name.removeprefix(NAME) for p in out.iterdir()} == {
        ".md", ".csv", ".seeds.csv", ".initialisation.csv", ".claims.csv", ".forward.png", ".separation.png",
        ".samples.png", ".initialisation.png", ".modes.png", ".correlation.png",
    }  # fmt: skip
    page = (out / f"{NAME}.md").read_text()
    for part in ("train", "test", "truth"):
        assert f"## Errors against {part}" in page
    for word in ("paper, gou", "floor (test points)", "of 18 met", "Lemma 10", "Claims of section 6", "near-copies"):
        assert word in page
    assert "nan" not in page.lower()
    frame = pd.read_csv(out / f"{NAME}.csv")
    assert set(frame["against"]) == {"train", "test", "truth"}
    assert frame["mean"].notna().all()
