"""Rates of the modes learned by the evidence bound, in the place of those of GOU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence
from torch.nn import functional as F

from data_prep.variants import VariantTable
from genodiff.core.flexible import FlexibleDiffusion
from genodiff.core.processes import LinearDiffusion
from genodiff.genotypes import schedules
from genodiff.genotypes.config import ModelConfig
from genodiff.genotypes.denoiser import AlleleDenoiser
from genodiff.genotypes.engine import Engine, horizon_for
from genodiff.genotypes.model import GenotypeModel
from tests.genotypes.tables import coalescent, small, table_of

QUICK = {"drift": "fp-noise", "training": {"steps": 4}, "scales": ((8, 64),)}


def fit(table: VariantTable, **changes: object) -> GenotypeModel:
    return GenotypeModel(small(**{**QUICK, **changes})).fit(table, device="cpu")


def process_of(model: GenotypeModel) -> FlexibleDiffusion:
    assert isinstance(model.engine.process, FlexibleDiffusion)
    return model.engine.process


@pytest.fixture(scope="module", autouse=True)
def quickly() -> Iterator[None]:
    """Fewer steps than models are given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedules, "_SPECTRUM", replace(schedules._SPECTRUM, steps=80, validate_every=20))
        yield


@pytest.fixture(scope="module")
def people() -> tuple[VariantTable, VariantTable]:
    """60 people to learn from and 40 others at the same sites."""
    both = coalescent(100, 200)
    return both.select(samples=np.arange(60)), both.select(samples=np.arange(60, 100))


@pytest.fixture(scope="module")
def model(people: tuple[VariantTable, VariantTable]) -> GenotypeModel:
    torch.set_num_threads(1)
    return fit(people[0])


@pytest.fixture(scope="module")
def start(people: tuple[VariantTable, VariantTable]) -> GenotypeModel:
    """The same before the rates are learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedules, "_SPECTRUM", replace(schedules._SPECTRUM, steps=0))
        return fit(people[0])


def strangers(model: GenotypeModel, others: VariantTable) -> tuple[torch.Tensor, torch.Tensor]:
    """States of people the model has not seen, and the anchors they are nearest to."""
    rows = torch.from_numpy(others.haplotype_rows()[:, model.meta.ties.drawn]).float()
    return rows, torch.cdist(rows, model.engine.prior.means).argmin(1)


def test_the_default_is_the_drift_of_gou() -> None:
    values = ModelConfig().to_dict()
    assert values.pop("drift") == "gou"
    assert ModelConfig.from_dict(values) == ModelConfig()


def test_before_learning_it_is_the_isotropic_drift(start: GenotypeModel) -> None:
    engine, process = start.engine, process_of(start)
    rates = torch.full((process.dim,), -0.5)
    horizon = horizon_for(engine.prior.modal_variance, rates, drowned=start.config.drowned)
    plain = LinearDiffusion(engine.basis, mean=process.mean, rates=rates, horizon=horizon)
    assert process.horizon == pytest.approx(horizon, rel=1e-6)
    for t in engine.grid(5).float():
        torch.testing.assert_close(process.variance(t), plain.variance(t))
        torch.testing.assert_close(process.mean_coefficient(t), plain.mean_coefficient(t))
        assert torch.equal(process.noise_ratio(t), plain.noise_ratio(t, rate=-0.5))


def test_learned_rates_are_not_those_of_the_start_and_keep_to_the_clock(model: GenotypeModel) -> None:
    rates = process_of(model).rates
    log_rates = rates.spectrum().flatten().log()
    assert float(log_rates.std()) > 0.02
    assert abs(float(log_rates.mean())) < 1e-5
    assert not any(p.requires_grad for p in model.engine.process.parameters())


def test_every_mode_is_drowned_where_the_sampler_starts(model: GenotypeModel, start: GenotypeModel) -> None:
    process = process_of(model)
    end = torch.tensor(process.horizon)
    ratio = process.variance(end) / process.mean_coefficient(end).square()
    signal = model.engine.prior.modal_variance / ratio
    assert float(signal.max()) <= model.config.drowned * (1 + 1e-4)
    assert float(ratio.min()) >= 1 - 1e-4
    # No later than it must be.
    assert float(process.stretch()) == pytest.approx(1, abs=1e-6)
    assert process.horizon == process_of(start).horizon or float(signal.max()) > model.config.drowned * (1 - 1e-4)
    assert float(process.noise_ratio(model.engine.grid()[-1])) == pytest.approx(model.config.lowest_noise)


def test_the_bound_of_strangers_is_no_worse_than_at_the_start(
    model: GenotypeModel, start: GenotypeModel, people: tuple[VariantTable, VariantTable]
) -> None:
    """The same times and noise for both."""
    engine, process = start.engine, process_of(start)
    rates, learned = process.rates, process_of(model).rates
    problem = schedules.spectrum_problem(engine, *strangers(start, people[1]), seed=5)
    problem.held_out, problem.held_condition = problem.rows, dict(problem.condition)
    with torch.no_grad():
        before = problem.validation()
        rates.load_state_dict(learned.state_dict())
        after = problem.validation()
        rates.load_state_dict({"log_spectrum": torch.zeros(process.dim, 1)}, strict=False)
    assert 0 < after < before


def test_what_the_path_leaves_over_is_a_divergence_and_a_cross_entropy(
    model: GenotypeModel, people: tuple[VariantTable, VariantTable]
) -> None:
    engine, process = model.engine, process_of(model)
    x_0, component = strangers(model, people[1])
    x_0, component = x_0[:3].clone(), component[:3]
    x_0[1, 4] = 0.25
    grid = engine.grid(6)
    alleles = AlleleDenoiser(engine.denoiser.base, None, ploidy=1)
    found = schedules._beyond(
        engine, alleles, x_0, grid=grid, generator=torch.Generator().manual_seed(3), component=component
    )
    q, law = process.basis.matrix().double(), engine.start_law()
    m, s2 = process.mean_coefficient(grid[0]).double(), process.variance(grid[0]).double()
    assert m.max() > 0.01
    spread, wide = ((q * v.double()) @ q.T for v in (s2, law.modal_variance))
    x_t, _ = process.transition(torch.tensor(0.0), grid[-1].float()).sample(
        x_0, generator=torch.Generator().manual_seed(3)
    )
    logits = alleles.logits(x_t, grid[-1].float(), component=component)
    for i, row in enumerate(x_0):
        mean = process.mean.double() + q @ (m * (q.T @ (row - process.mean).double()))
        apart = kl_divergence(
            MultivariateNormal(mean, spread), MultivariateNormal(law.means[component[i]].double(), wide)
        )
        known = torch.ones(len(row), dtype=torch.bool)
        known[4] = i != 1
        read = F.binary_cross_entropy_with_logits(logits[i, known], row[known], reduction="sum")
        assert float(found[i]) == pytest.approx(float(apart) + float(read), rel=1e-4)


def test_crops_are_the_whole_where_blocks_are_independent(model: GenotypeModel) -> None:
    engine: Engine = model.engine
    assert len(engine.basis.bounds) > 3
    process, denoiser, sites = engine.run_of(1, 3)
    assert process.dim == sites.stop - sites.start < engine.process.dim
    x = torch.randn(6, engine.process.dim, generator=torch.Generator().manual_seed(2))
    component, t = torch.zeros(6, dtype=torch.int64), torch.tensor(0.4)
    torch.testing.assert_close(process.variance(t), engine.process.variance(t)[sites])
    assert torch.equal(process.noise_ratio(t, rate=-0.5), engine.process.noise_ratio(t, rate=-0.5))
    whole = engine.denoiser.base(x, t, component=component)[:, sites]
    torch.testing.assert_close(denoiser.base(x[:, sites], t, component=component), whole, rtol=1e-5, atol=1e-5)


def test_equal_seeds_and_a_saved_model_give_equal_bits(
    model: GenotypeModel, people: tuple[VariantTable, VariantTable], tmp_path: Path
) -> None:
    table = people[0]
    drawn = model.sample(100, seed=1)
    assert np.abs(drawn.allele_frequency() - table.allele_frequency()).mean() < 0.06
    loaded = GenotypeModel.load(model.save(tmp_path / "model"), device="cpu")
    assert loaded.config == model.config
    assert torch.equal(loaded.engine.grid(9), model.engine.grid(9))
    np.testing.assert_array_equal(loaded.sample(100, seed=1).haplotypes, drawn.haplotypes)
    state, again = model.engine.state_dict(), fit(table).engine.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in state.items())


@pytest.mark.parametrize("sampler", ["euler-maruyama", "heun-ode"])
def test_other_samplers_and_grids_keep_frequencies(
    model: GenotypeModel, people: tuple[VariantTable, VariantTable], sampler: str
) -> None:
    paced = model.with_sampling(sampler=sampler, schedule="constant-speed")
    assert paced.engine.pace is not None
    assert model.engine.pace is None
    drawn = paced.sample(100, seed=1)
    assert np.abs(drawn.allele_frequency() - people[0].allele_frequency()).mean() < 0.06


def test_unphased_people_can_have_learned_rates(people: tuple[VariantTable, VariantTable]) -> None:
    table = people[0]
    unphased = table_of(table.haplotypes, phased=np.zeros(table.haplotypes.shape[:2], dtype=bool))
    model = fit(unphased)
    assert model.meta.ploidy == 2
    error = np.abs(model.sample(100, seed=1).allele_frequency() - table.allele_frequency()).mean()
    assert error < 0.06


def test_choices_that_do_not_go_together_are_refused(people: tuple[VariantTable, VariantTable]) -> None:
    with pytest.raises(ValueError, match="0 subspaces, not 2"):
        ModelConfig(drift="fp-noise", subspaces=2)
    with pytest.raises(ValueError, match="no drift 'cld'"):
        ModelConfig(drift="cld")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learned settle, not those of LinearDiffusion"):
        GenotypeModel(small(training={"steps": 0}, scales=())).fit(people[0], device="cpu").engine.settle()
