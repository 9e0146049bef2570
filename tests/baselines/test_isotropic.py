"""The published diffusion recipes on laws whose moments are known."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from genodiff.baselines import generate
from genodiff.baselines.isotropic import GouPaper, IsotropicPaper, IsotropicTuned, Modes
from tests.baselines.tables import two_labels
from tests.genotypes.tables import table_of

TINY: dict[str, Any] = {"steps": 3, "batch": 8, "width": 8, "depth": 1, "sampling_steps": 2}


def correlated(n: int) -> torch.Tensor:
    """Rows of a normal law with means 1, −2, 0 and correlation .8 of the first two coordinates."""
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(n, 3, generator=generator)
    x = torch.stack([e[:, 0], 0.8 * e[:, 0] + 0.6 * e[:, 1], 0.5 * e[:, 2]], dim=1)
    return x + torch.tensor([1.0, -2.0, 0.0])


def test_modes_turn_there_and_back() -> None:
    x = correlated(20)
    q = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    for turned in (None, q):
        modes = Modes(x.mean(0), torch.tensor(2.0), turned, torch.full((3,), -0.5))
        torch.testing.assert_close(modes.synthesis(modes.analysis(x)), x)
        assert modes.analysis(x).square().mean().item() == pytest.approx(
            (x - x.mean(0)).square().mean().item() / 4, rel=1e-5
        )


def test_rates_follow_the_variance_of_the_modes() -> None:
    modes = GouPaper(a=0.2)._modes(correlated(5000))
    # Variances 1.8, .25 and .2 along the principal axes: c = −½ (a + (1 − a)(1 − λ/λ_max)).
    expected = [-0.5 * (0.2 + 0.8 * (1 - v / 1.8)) for v in (1.8, 0.25, 0.2)]
    np.testing.assert_allclose(modes.rates.numpy(), expected, atol=0.01)
    assert IsotropicPaper()._modes(correlated(50)).rates.tolist() == [-0.5] * 3


@pytest.mark.parametrize("method", [IsotropicPaper, GouPaper])
def test_means_and_covariance_are_learned(method: type[IsotropicPaper | GouPaper]) -> None:
    torch.set_num_threads(1)
    x = correlated(800)
    recipe = method(steps=1500, width=48, depth=2, sampling_steps=100)
    drawn = recipe.draw(x, 3000, seed=1)
    np.testing.assert_allclose(drawn.mean(0), x.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(drawn.T.numpy()), np.cov(x.T.numpy()), atol=0.2)


@pytest.mark.parametrize("method", [IsotropicPaper, GouPaper])
def test_equal_seeds_give_equal_vectors(method: type[IsotropicPaper | GouPaper]) -> None:
    recipe = method(steps=10, width=16, depth=1, sampling_steps=5)
    x = correlated(100)
    first = recipe.draw(x, 20, seed=1)
    assert torch.equal(first, recipe.draw(x, 20, seed=1))
    assert not torch.equal(first, recipe.draw(x, 20, seed=2))


def test_the_start_of_gou_has_the_second_moment_of_the_forward_marginal() -> None:
    from genodiff.core.bases import Identity
    from genodiff.core.processes import LinearDiffusion
    from genodiff.core.schedules import LinearRate

    recipe = GouPaper(anchors=6)
    x = correlated(600)
    modes = recipe._modes(x)
    z = modes.analysis(x)
    process = LinearDiffusion(
        Identity(3), mean=torch.zeros(3), rates=modes.rates, horizon=1.0, clock=LinearRate()
    )  # fmt: skip
    mean, covariance = recipe._start(process, z, seed=1).moments()
    one = torch.tensor(1.0)
    m, s2 = process.mean_coefficient(one), process.variance(one)
    torch.testing.assert_close(mean, m * z.mean(0), atol=1e-4, rtol=0)
    second = m * m * z.square().mean(0) + s2
    torch.testing.assert_close(covariance.diagonal(), second, atol=1e-3, rtol=0)


def test_a_preset_that_does_not_exist_is_refused() -> None:
    with pytest.raises((ValueError, InputError), match="preset"):
        IsotropicTuned(preset="quick")


@pytest.mark.parametrize(
    "options",
    [{"steps": -1}, {"batch": 0}, {"width": 0}, {"depth": -1}, {"sampling_steps": 0}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("method", [IsotropicPaper, GouPaper])
def test_options_outside_their_domain_are_named(
    method: type[IsotropicPaper | GouPaper], options: dict[str, int]
) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"^{name} must be at least [01], got {value}$"):
        method(**options)


@pytest.mark.parametrize("options", [{"a": 0.0}, {"a": 2.0}, {"a": float("nan")}, {"anchors": 0}])
def test_options_of_gou_outside_their_domain_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must "):
        GouPaper(**options)


@pytest.mark.parametrize("sites", [1, 12])
@pytest.mark.parametrize("distinct", [1, 3, 40])
def test_more_anchors_than_different_people_will_do(sites: int, distinct: int) -> None:
    alleles = np.random.default_rng(1).integers(0, 2, (distinct, sites, 2), dtype=np.int8)
    train = table_of(np.tile(alleles, (40 // distinct + 1, 1, 1))[:40])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = generate("gou-paper", train, 5, seed=1, device="cpu", anchors=40, **TINY)
    assert made.haplotypes.shape == (5, sites, 2)


@pytest.mark.parametrize("name", ["isotropic-paper", "gou-paper"])
def test_what_a_plain_network_cannot_learn_from_is_refused(name: str) -> None:
    train = two_labels()
    with pytest.raises(ValueError, match="at least 1 person must be asked for, got 0"):
        generate(name, train, 0, seed=1, device="cpu", **TINY)
    for people in (0, 1, 9):
        with pytest.raises(InputError, match=f"^{people} people are too few to learn from: give at least 10$"):
            generate(name, train.select(samples=np.arange(people)), 5, seed=1, device="cpu", **TINY)
    assert generate(name, train.select(samples=np.arange(10)), 5, seed=1, device="cpu", **TINY).n_samples == 5
    haplotypes = train.haplotypes.copy()
    haplotypes[:, 3] = -1
    silent = replace(train, haplotypes=haplotypes)
    with pytest.raises(InputError, match=r"^1 of 40 sites have no call at all \(first: .*--max-missing$"):
        generate(name, silent, 5, seed=1, device="cpu", **TINY)
