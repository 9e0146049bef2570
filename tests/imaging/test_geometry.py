"""What of an image survives: measures against closed forms, and processes that spare edges."""

from __future__ import annotations

import math

import pytest
import torch

from imaging.reproduce.geometry import correlation, local_correlation, survival
from imaging.reproduce.spde_page import half_life
from tests.imaging.images import discs

pytestmark = pytest.mark.usefixtures("one_thread")


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_correlation_is_that_of_the_moments() -> None:
    x = normal(4000, seed=1)
    assert correlation(x, 3 * x + 2).item() == pytest.approx(1.0)
    assert correlation(x, -x).item() == pytest.approx(-1.0)
    y = 0.6 * x + 0.8 * normal(4000, seed=2)
    assert correlation(x, y).item() == pytest.approx(torch.corrcoef(torch.stack([x, y]))[0, 1].item(), abs=1e-6)


def test_local_correlation_knows_structure_from_contrast() -> None:
    x = normal(2, 1, 32, 32, seed=3)
    assert local_correlation(x, 0.2 * x + 5).mean().item() == pytest.approx(1.0, abs=1e-3)
    assert abs(local_correlation(x, normal(2, 1, 32, 32, seed=4)).mean().item()) < 0.1
    mixed = local_correlation(x, 0.6 * x + 0.8 * normal(2, 1, 32, 32, seed=5)).mean().item()
    assert mixed == pytest.approx(0.6, abs=0.06)


def test_local_correlation_against_sums_over_a_window() -> None:
    from scipy import ndimage

    x, y = normal(1, 1, 24, 24, seed=6), normal(1, 1, 24, 24, seed=7)
    a, b = ((z / z.std())[0, 0].double().numpy() for z in (x, y))

    def mean(z: object) -> object:
        return ndimage.gaussian_filter(z, 1.5, mode="reflect", truncate=6)

    cross = mean(a * b) - mean(a) * mean(b)  # type: ignore[operator]
    spread = (mean(a * a) - mean(a) ** 2) * (mean(b * b) - mean(b) ** 2)  # type: ignore[operator]
    expected = (cross + 0.00045) / (spread**0.5 + 0.00045)
    # The discrete heat kernel is a Gaussian but for its lattice.
    assert abs(local_correlation(x, y)[0, 0].double().numpy() - expected).mean() < 0.02


def test_noise_that_spares_edges_leaves_more_of_them_at_equal_ratio() -> None:
    values = discs(24, channels=1).values()
    rows = {"VP": ("vp-sde", False), "edge": ("edge-noise", False), "SPDE, simulated": ("spde", True)}
    found = survival(values, ratios=(15.0, 5.0, 0.0), rows=rows).table  # type: ignore[arg-type]
    assert set(found["row"]) == set(rows)
    at = found.set_index(["row", "ratio"])["at edges"]
    assert at["edge", 5.0] > at["VP", 5.0]
    for row in rows:
        assert at[row, 15.0] > at[row, 5.0] > at[row, 0.0]


def test_half_life_is_where_the_curve_crosses_a_half() -> None:
    import pandas as pd

    table = pd.DataFrame({"row": ["a", "a", "a", "b", "b"], "ratio": [10.0, 0.0, -10.0, 10.0, 0.0],
                          "at edges": [0.9, 0.6, 0.2, 0.9, 0.8]})  # fmt: skip
    assert half_life(table, "a", "at edges") == pytest.approx(-2.5)
    assert math.isnan(half_life(table, "b", "at edges"))
