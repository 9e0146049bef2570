"""Noise in subspaces, constant speed and a learned time of the genotype model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.variants import VariantTable
from genodiff.core.processes import LinearDiffusion, gou_rates
from genodiff.core.schedules import log_noise_grid
from genodiff.core.subspaces import SubspaceDiffusion
from genodiff.genotypes.config import ModelConfig
from genodiff.genotypes.engine import Engine, horizon_for
from genodiff.genotypes.model import GenotypeModel
from genodiff.genotypes.schedules import leading_subspaces, log_linear
from tests.genotypes.tables import small, table_of

QUICK = {"training": {"steps": 4}}
CHOICES = [
    {"schedule": "constant-speed"},
    {"subspaces": 2},
    {"subspaces": 3, "schedule": "constant-speed"},
]


def fit(table: VariantTable, **changes: object) -> GenotypeModel:
    return GenotypeModel(small(**QUICK, **changes)).fit(table, device="cpu")


@pytest.fixture(scope="module")
def gou(table: VariantTable) -> GenotypeModel:
    torch.set_num_threads(1)
    return fit(table)


@pytest.fixture(scope="module")
def split(table: VariantTable) -> GenotypeModel:
    torch.set_num_threads(1)
    return fit(table, subspaces=2, schedule="constant-speed")


@pytest.fixture(scope="module")
def timed(split: GenotypeModel) -> GenotypeModel:
    return split.with_sampling(schedule="learned-time")


def subspace_process(model: GenotypeModel) -> SubspaceDiffusion:
    assert isinstance(model.engine.process, SubspaceDiffusion)
    return model.engine.process


def test_subspaces_take_equal_shares_of_the_variance_in_its_order() -> None:
    variance = torch.tensor([1.0, 4.0, 2.0, 1.0, 0.5, 0.5, 3.0])
    assert leading_subspaces(variance, 1).tolist() == [0] * 7
    assert leading_subspaces(variance, 2).tolist() == [1, 0, 1, 1, 1, 1, 0]
    assert leading_subspaces(variance, 4).tolist() == [3, 0, 2, 3, 3, 3, 1]


def test_a_mode_larger_than_a_share_leaves_no_subspace_empty() -> None:
    assert leading_subspaces(torch.tensor([9.0, 1.0, 1.0]), 4).tolist() == [0, 1, 1]


def test_the_default_is_the_drift_of_gou_with_its_geometric_grid(gou: GenotypeModel) -> None:
    engine, config = gou.engine, gou.config
    rates = gou_rates(engine.total, a=config.a, b=0.5)
    horizon = horizon_for(engine.prior.modal_variance, rates, drowned=config.drowned)
    plain = LinearDiffusion(engine.basis, mean=engine.process.mean, rates=rates, horizon=horizon)
    t = torch.tensor([0.1, 1.0])
    assert type(engine.process) is LinearDiffusion
    assert torch.equal(engine.process.variance(t), plain.variance(t))
    assert torch.equal(engine.process.mean_coefficient(t), plain.mean_coefficient(t))
    assert engine.process.horizon == horizon
    start = torch.tensor(horizon, dtype=torch.float64)
    expected = log_noise_grid(
        lambda rho: plain.time_of_noise(rho, rate=-0.5),
        lowest=config.lowest_noise,
        highest=float(plain.noise_ratio(start, rate=-0.5)),
        steps=7,
    )
    assert torch.equal(engine.grid(7)[1:], expected[1:])
    assert not [name for name in engine.state_dict() if "schedule" in name or name == "pace"]


def test_models_saved_before_there_was_a_choice_have_the_default() -> None:
    values = ModelConfig().to_dict()
    del values["subspaces"], values["schedule"]
    assert ModelConfig.from_dict(values) == ModelConfig()


def test_the_base_in_subspaces_is_the_posterior_of_gaussian_rows(split: GenotypeModel) -> None:
    """Against the joint normal law of a row and its noisy self, all matrices dense."""
    engine, process = split.engine, subspace_process(split)
    q = process.basis.matrix().double()
    prior = (q * engine.prior.modal_variance.double()) @ q.T
    for t in (0.05, 0.5, 1.0):
        time = torch.tensor(t)
        levels = process.schedule.levels(time)
        assert float(levels[0]) != float(levels[1]) or t == 1.0
        noise = sum((q * chosen.double()) @ q.T * g for chosen, g in zip(process.members, levels, strict=True))
        x_t = torch.randn(5, process.dim, generator=torch.Generator().manual_seed(1))
        component = torch.arange(5) % engine.prior.n_components
        nu = engine.prior.means[component].double()
        expected = nu + torch.linalg.solve(prior + noise, (x_t.double() - nu).T).T @ prior
        found = engine.denoiser.base(x_t, time, component=component)
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
        left = prior - prior @ torch.linalg.solve(prior + noise, prior)
        variance = engine.denoiser.base.posterior(x_t, time, component=component).variance[0]
        torch.testing.assert_close(variance.double(), left.diagonal(), rtol=1e-3, atol=1e-4)


def test_crops_are_the_whole_where_blocks_are_independent(split: GenotypeModel) -> None:
    engine = split.engine
    assert len(engine.basis.bounds) > 3
    process, denoiser, sites = engine.run_of(1, 3)
    assert process.dim == sites.stop - sites.start < engine.process.dim
    x = torch.randn(6, engine.process.dim, generator=torch.Generator().manual_seed(2))
    component, t = torch.zeros(6, dtype=torch.int64), torch.tensor(0.4)
    assert torch.equal(process.variance(t), engine.process.variance(t)[sites])
    assert torch.equal(process.noise_ratio(t, rate=-0.5), engine.process.noise_ratio(t, rate=-0.5))
    whole = engine.denoiser.base(x, t, component=component)[:, sites]
    torch.testing.assert_close(denoiser.base(x[:, sites], t, component=component), whole, rtol=1e-5, atol=1e-5)


def test_a_crop_may_lack_a_subspace() -> None:
    process = subspace_of(torch.tensor([0, 0, 1, 1]))
    part = process.restrict(process.basis, slice(2, 4))
    t = torch.tensor(0.5)
    assert torch.equal(part.variance(t), process.variance(t)[2:])


def subspace_of(subspace: torch.Tensor) -> SubspaceDiffusion:
    from genodiff.core.bases import Identity

    return SubspaceDiffusion(Identity(len(subspace)), subspace, log_linear(2, lowest=0.1, highest=10.0))


@pytest.mark.parametrize("changes", CHOICES, ids=str)
def test_every_schedule_samples_its_frequencies_and_survives_saving(
    table: VariantTable, tmp_path: Path, changes: dict[str, object]
) -> None:
    fitted = fit(table, **changes)
    engine: Engine = fitted.engine
    grid = engine.grid(9)
    assert (grid.diff() < 0).all()
    rho = engine.process.noise_ratio(grid[[0, -1]], rate=-0.5)
    assert float(rho[1]) == pytest.approx(fitted.config.lowest_noise, rel=1e-3)
    assert float(grid[0]) == pytest.approx(engine.process.horizon)
    drawn = fitted.sample(100, seed=1)
    assert np.abs(drawn.allele_frequency() - table.allele_frequency()).mean() < 0.06
    loaded = GenotypeModel.load(fitted.save(tmp_path / "model"), device="cpu")
    assert loaded.config == fitted.config
    assert torch.equal(loaded.engine.grid(9), grid)
    np.testing.assert_array_equal(loaded.sample(100, seed=1).haplotypes, drawn.haplotypes)


@pytest.mark.parametrize("sampler", ["euler-ode", "heun-ode", "euler-flow", "heun-flow"])
def test_samplers_without_noise_keep_frequencies(split: GenotypeModel, table: VariantTable, sampler: str) -> None:
    drawn = split.with_sampling(sampler=sampler, sampling_steps=10).sample(100, seed=1)
    assert np.abs(drawn.allele_frequency() - table.allele_frequency()).mean() < 0.06


@pytest.mark.parametrize("sampler", ["euler-flow", "heun-flow"])
def test_flows_along_the_noise_need_noise_in_subspaces(gou: GenotypeModel, sampler: str) -> None:
    with pytest.raises(ValueError, match="subspaces"):
        gou.with_sampling(sampler=sampler).sample(4, seed=1)


def test_unphased_people_can_have_noise_in_subspaces(table: VariantTable) -> None:
    unphased = table_of(table.haplotypes, phased=np.zeros(table.haplotypes.shape[:2], dtype=bool))
    model = fit(unphased, subspaces=2, schedule="constant-speed")
    assert model.meta.ploidy == 2
    error = np.abs(model.sample(100, seed=1).allele_frequency() - table.allele_frequency()).mean()
    assert error < 0.06


def test_a_learned_time_moves_the_clock_and_not_the_order_of_the_noise(
    split: GenotypeModel, timed: GenotypeModel
) -> None:
    """r(t) is one for all subspaces: the levels that one of them meets, the others meet together as before."""
    old, new = subspace_process(split).schedule, subspace_process(timed).schedule
    t = torch.linspace(0.2, 0.8, 7, dtype=torch.float64)
    found = new.log_levels(t)
    r = old.time_of(found.mean(-1))
    assert float((r - t).abs().max()) > 0.01
    torch.testing.assert_close(old.log_levels(r), found, rtol=0, atol=0.1)
    assert split.config.schedule == "constant-speed"


def test_subspaces_can_be_sampled_in_geometric_steps(split: GenotypeModel) -> None:
    engine = split.with_sampling(schedule="geometric").engine
    rho = engine.process.noise_ratio(engine.grid(6), rate=-0.5).log()
    torch.testing.assert_close(rho.diff(), rho.diff().mean().expand(6), rtol=1e-3, atol=0)


def test_the_grid_of_a_fitted_model_can_be_changed_without_training(gou: GenotypeModel) -> None:
    paced = gou.with_sampling(schedule="constant-speed")
    assert gou.engine.pace is None
    assert paced.engine.network is gou.engine.network
    geometric, even = gou.engine.grid(8), paced.engine.grid(8)
    torch.testing.assert_close(even[[0, -1]], geometric[[0, -1]], rtol=1e-6, atol=0)
    # Under next to all noise and next to none there is little to decide: steps are spent in between.
    rho = [gou.engine.process.noise_ratio(g, rate=-0.5).log() for g in (geometric, even)]
    assert float(rho[1].diff()[0]) < float(rho[0].diff()[0])
    assert torch.equal(paced.with_sampling(schedule="geometric").engine.grid(8), geometric)
    early = paced.with_sampling(start_noise=2.0).engine
    assert float(early.grid(5)[0]) == pytest.approx(early.start_time)


def test_a_schedule_that_was_not_trained_for_is_refused(timed: GenotypeModel) -> None:
    with pytest.raises(ValueError, match="cannot be sampled with 'constant-speed'"):
        timed.with_sampling(schedule="constant-speed")


def test_choices_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="learned time"):
        ModelConfig(schedule="learned-time")
    with pytest.raises(ValueError, match="0 or more"):
        ModelConfig(subspaces=-1)


def test_a_drift_has_no_schedule_to_set(gou: GenotypeModel) -> None:
    with pytest.raises(ValueError, match="LinearDiffusion"):
        gou.engine.set_schedule(log_linear(1, lowest=0.1, highest=1.0))
