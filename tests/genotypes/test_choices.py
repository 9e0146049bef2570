"""Choices that ablations compare: modes of the drift, base of the denoiser, rule of a step, early starts."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from data_prep.variants import VariantTable
from genodiff.genotypes.config import SamplerName
from genodiff.genotypes.engine import SAMPLERS, CalibratedDenoiser
from genodiff.genotypes.model import GenotypeModel
from genodiff.genotypes.units import units_of
from tests.genotypes.tables import small

UNTRAINED = {"training": {"steps": 0}}


@pytest.fixture(scope="module")
def model(table: VariantTable) -> GenotypeModel:
    torch.set_num_threads(1)
    return GenotypeModel(small(training={"steps": 4})).fit(table, device="cpu")


def untrained(table: VariantTable, **changes: object) -> GenotypeModel:
    return GenotypeModel(small(**UNTRAINED, **changes)).fit(table, device="cpu")


def logits(model: GenotypeModel, x: torch.Tensor, anchor: int) -> torch.Tensor:
    """Log odds half-way through, for rows known to be of an anchor, under the first label."""
    engine = model.engine
    k = torch.full((len(x),), anchor)
    conditions = (k, torch.zeros_like(k))[: len(engine.conditions)]
    return engine.denoiser.logits(x, torch.tensor(engine.start_time / 2), component=k, conditions=conditions)


def neighbour_correlation(table: VariantTable) -> float:
    x = table.haplotype_rows().astype(float)
    x = x[:, x.std(0) > 0]
    z = (x - x.mean(0)) / x.std(0)
    return float(np.abs((z[:, :-1] * z[:, 1:]).mean(0)).mean())


def test_every_sampler_has_a_name() -> None:
    assert set(SAMPLERS) == set(get_args(SamplerName))


def test_one_block_spans_the_region_in_the_full_basis(table: VariantTable) -> None:
    engine = untrained(table, basis="full").engine
    assert len(engine.basis.blocks()) == 1
    q = engine.basis.matrix().double()
    torch.testing.assert_close(q.T @ q, torch.eye(len(q), dtype=torch.float64), atol=1e-4, rtol=0)


def test_every_site_is_a_mode_in_the_identity_basis(table: VariantTable) -> None:
    model = untrained(table, basis="identity", anchors=1)
    engine = model.engine
    torch.testing.assert_close(engine.basis.matrix(), torch.eye(engine.process.dim))
    states = units_of(table).at(model.meta.ties.drawn).states
    torch.testing.assert_close(engine.total, torch.from_numpy(states.var(0)).float(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("base", ["gaussian", "none"])
def test_a_base_without_anchors_gives_every_anchor_the_same_answer(table: VariantTable, base: str) -> None:
    model = untrained(table, base=base, scales=())
    x = torch.randn(3, model.engine.process.dim)
    torch.testing.assert_close(logits(model, x, 0), logits(model, x, 1))


def test_without_a_base_other_sites_say_nothing(table: VariantTable) -> None:
    model = untrained(table, base="none", a=1.0, scales=())
    x = torch.randn(1, model.engine.process.dim)
    moved = x.clone()
    moved[0, 0] += 1
    changed = (logits(model, x, 0) - logits(model, moved, 0)).abs()[0]
    assert changed[0] > 0.1
    assert changed[1:].max() < 1e-3


def test_the_base_is_what_carries_the_covariance(table: VariantTable) -> None:
    """Without training and with an isotropic drift, LD in the samples comes from the base alone."""
    real = neighbour_correlation(table)
    with_base, without = (
        neighbour_correlation(untrained(table, base=base, a=1.0, anchors=1, scales=()).sample(100, seed=2))
        for base in ("gaussian", "none")
    )
    assert with_base > 0.6 * real
    assert without < 0.4 * real


@pytest.mark.parametrize("sampler", [name for name in get_args(SamplerName) if not name.endswith("-flow")])
def test_every_sampler_keeps_frequencies(model: GenotypeModel, table: VariantTable, sampler: str) -> None:
    drawn = model.with_sampling(sampler=sampler, sampling_steps=20).sample(100, seed=1)
    error = np.abs(drawn.allele_frequency() - table.allele_frequency()).mean()
    assert error < 0.06


def test_an_early_start_takes_the_start_law_of_its_time(model: GenotypeModel) -> None:
    early = model.with_sampling(start_noise=2.0)
    engine = early.engine
    rho = engine.process.noise_ratio(torch.tensor(engine.start_time), rate=-0.5)
    assert float(rho) == pytest.approx(2.0)
    assert float(engine.grid(5)[0]) == pytest.approx(engine.start_time)
    means = engine.prior.pushed(engine.start_time).means
    torch.testing.assert_close(engine.start_law().means, means)
    assert model.engine.start_time == model.engine.process.horizon > engine.start_time
    assert early.sample(4, seed=1).n_samples == 4


def test_a_start_beyond_the_horizon_is_the_horizon(model: GenotypeModel) -> None:
    assert model.with_sampling(start_noise=1e9).engine.start_time == model.engine.process.horizon


def test_choices_of_training_cannot_be_made_later(model: GenotypeModel) -> None:
    with pytest.raises(ValueError, match=r"\['a'\] cannot be changed after fitting"):
        model.with_sampling(a=1.0)


def test_other_choices_leave_the_model_alone(model: GenotypeModel) -> None:
    before = model.config
    other = model.with_sampling(sampling_steps=3)
    assert (model.config, model.engine.config) == (before, before)
    assert other.engine.config.sampling_steps == 3
    assert other.engine.network is model.engine.network


@pytest.mark.parametrize("changes", [{"basis": "full"}, {"basis": "identity"}, {"base": "gaussian"}, {"scales": ()}])
def test_choices_survive_saving(table: VariantTable, tmp_path: Path, changes: dict[str, object]) -> None:
    fitted = untrained(table, **changes)
    loaded = GenotypeModel.load(fitted.save(tmp_path / "model"), device="cpu")
    assert loaded.config == fitted.config
    drawn = [m.sample(6, seed=4).haplotypes for m in (fitted, loaded)]
    np.testing.assert_array_equal(*drawn)


def test_sampling_holds_the_means_of_a_batch_and_of_its_anchors(table: VariantTable) -> None:
    """An untrained model that knows nothing of anchors: rows drift to the frequencies of everybody and are held."""
    engine = untrained(table, base="gaussian", anchors=4, scales=()).engine
    means = engine.prior.means
    # Far more rows than the held mean is damped by; anchors in other shares than in the base.
    component = torch.cat([torch.arange(len(means)).repeat(600), torch.zeros(600, dtype=torch.int64)])
    conditions = (component, torch.zeros_like(component))[: len(engine.conditions)]
    t = torch.tensor(float(engine.process.time_of_noise(torch.tensor(4.0, dtype=torch.float64), rate=-0.5)))
    generator = torch.Generator().manual_seed(1)
    x_0 = (torch.rand(len(component), means.shape[1], generator=generator) < means[component]).float()
    x_t = engine.process.transition(torch.zeros(()), t).noised(x_0, torch.randn(x_0.shape, generator=generator))
    given = {"component": component, "conditions": conditions}
    with torch.no_grad():
        plain = engine.denoiser(x_t, t, **given)
        held = CalibratedDenoiser(engine.denoiser, means=means)(x_t, t, **given)
    target = means[component].mean(0)
    own = means[component] - target

    def lean(x: torch.Tensor) -> float:
        return float(((x - x.mean(0)) * own).sum() / own.square().sum())

    assert float((plain.mean(0) - target).abs().mean()) > 3 * float((held.mean(0) - target).abs().mean())
    assert lean(plain) < 0.7
    assert lean(plain) + 0.05 < lean(held) <= 1.01


def test_alleles_of_a_path_are_shifted_together(model: GenotypeModel) -> None:
    """Over many draws the shift leaves frequencies as they are, and alleles of a row have it in common."""
    engine = model.engine
    component = torch.zeros(2000, dtype=torch.int64)
    conditions = (component, component)[: len(engine.conditions)]
    x = torch.zeros(1, engine.process.dim).expand(2000, -1)
    given = {"component": component, "conditions": conditions}
    t = torch.tensor(engine.start_time / 2)
    with torch.no_grad():
        logits, shift = engine.denoiser.together(x, t, generator=torch.Generator().manual_seed(1), **given)
        torch.testing.assert_close(logits, engine.denoiser.logits(x, t, **given))
    assert isinstance(shift, torch.Tensor)
    assert shift.shape == logits.shape
    assert 1 < len(shift.unique(dim=0)) < 2000
