"""The whole model on small tables: what it takes, what it gives, and that it gives the same again."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.variants import VariantTable
from genodiff.core.training import TrainingError, Workers
from genodiff.genotypes.config import PRESETS, ModelConfig, preset
from genodiff.genotypes.engine import AlleleProblem
from genodiff.genotypes.model import GenotypeModel, fingerprint_of, resolve_device
from tests.genotypes.tables import SMALL, small, table_of

QUICK = small(training={"steps": 4})


def fit(table: VariantTable, config: ModelConfig = SMALL, **arguments: object) -> GenotypeModel:
    return GenotypeModel(config).fit(table, device="cpu", **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(table: VariantTable) -> GenotypeModel:
    torch.set_num_threads(1)
    return fit(table)


@pytest.fixture(scope="module")
def unphased(table: VariantTable) -> VariantTable:
    return table_of(table.haplotypes, phased=np.zeros(table.haplotypes.shape[:2], dtype=bool))


def same(first: VariantTable, second: VariantTable) -> bool:
    return np.array_equal(first.haplotypes, second.haplotypes) and first.samples.equals(second.samples)


def af_error(first: VariantTable, second: VariantTable) -> float:
    return float(np.abs(first.allele_frequency() - second.allele_frequency()).mean())


def af_floor(table: VariantTable, people: int) -> float:
    """Mean error of allele frequencies in a random sample of so many people."""
    p = table.allele_frequency()
    return float(np.sqrt(2 / np.pi) * np.sqrt(p * (1 - p) / (2 * people)).mean())


def test_samples_are_complete_phased_calls_at_the_sites_of_the_input(model: GenotypeModel, table: VariantTable) -> None:
    drawn = model.sample(25, seed=2)
    assert drawn.haplotypes.shape == (25, 200, 2)
    assert set(np.unique(drawn.haplotypes)) == {0, 1}
    assert drawn.is_phased
    assert not drawn.unphased_het.any()
    pd.testing.assert_frame_equal(drawn.sites, table.sites)
    assert drawn.header == table.header


def test_names_are_new(model: GenotypeModel, table: VariantTable) -> None:
    drawn = model.sample(25, seed=2)
    assert list(drawn.samples.index[:2]) == ["GD000001", "GD000002"]
    assert not set(drawn.samples.index) & set(table.samples.index)


def test_as_many_people_as_were_learned_from_unless_said_otherwise(model: GenotypeModel) -> None:
    assert model.sample(seed=2).n_samples == 60
    assert model.sample(1, seed=2).n_samples == 1


def test_same_seed_same_people_and_another_seed_others(model: GenotypeModel) -> None:
    first = model.sample(20, seed=5)
    assert same(first, model.sample(20, seed=5))
    assert not same(first, model.sample(20, seed=6))


def test_same_seed_same_model_whatever_the_global_state(table: VariantTable) -> None:
    first = fit(table, QUICK, seed=4)
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002 - the point is that the global state does not matter
    again, other = fit(table, QUICK, seed=4), fit(table, QUICK, seed=5)
    for name, value in first.engine.state_dict().items():
        assert torch.equal(value, again.engine.state_dict()[name]), name
    assert same(first.sample(10, seed=1), again.sample(10, seed=1))
    assert not same(first.sample(10, seed=1), other.sample(10, seed=1))


def test_people_differ_from_each_other(model: GenotypeModel) -> None:
    rows = model.sample(40, seed=2).haplotype_rows()
    assert len(np.unique(rows, axis=0)) > 0.9 * len(rows)


def test_allele_frequencies_of_samples_are_those_of_the_training_people(
    model: GenotypeModel, table: VariantTable
) -> None:
    drawn = model.sample(200, seed=3)
    assert af_error(drawn, table) < 1.15 * af_floor(table, 200)


def test_samples_keep_linkage_of_neighbours(model: GenotypeModel, table: VariantTable) -> None:
    def r(of: VariantTable) -> NDArray[np.float64]:
        x = of.haplotype_rows().astype(float)
        return np.array(np.corrcoef(x + 1e-9 * np.random.default_rng(0).standard_normal(x.shape), rowvar=False))

    real, drawn = r(table), r(model.sample(200, seed=3))
    near = np.eye(200, k=1, dtype=bool) | np.eye(200, k=3, dtype=bool)
    assert np.corrcoef(real[near], drawn[near])[0, 1] > 0.9


def test_training_lowers_the_held_out_loss(table: VariantTable) -> None:
    history = fit(table, small(training={"steps": 60, "validate_every": 10})).result.history
    assert [row["step"] for row in history] == [10, 20, 30, 40, 50, 60]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


# --- labels --------------------------------------------------------------------------------------------------------


def test_labels_of_samples_are_in_proportion(model: GenotypeModel) -> None:
    assert model.labels == ("CEU", "CHB", "YRI")
    labels = model.sample(60, seed=2).labels
    assert labels is not None
    assert sorted(np.unique(labels, return_counts=True)[1]) == [20, 20, 20]


def test_requested_labels_are_honoured(model: GenotypeModel) -> None:
    labels = model.sample(labels={"YRI": 7, "CEU": 3}, seed=2).labels
    assert labels is not None
    assert dict(zip(*np.unique(labels, return_counts=True), strict=True)) == {"YRI": 7, "CEU": 3}


def test_people_of_a_label_have_its_allele_frequencies(table: VariantTable) -> None:
    model = fit(table, small(anchors=2, training={"steps": 60}))
    assert table.labels is not None
    for label in model.labels:
        people = table.select(samples=table.labels == label)
        drawn = model.sample(labels={label: 100}, seed=3)
        assert af_error(drawn, people) < 0.6 * af_error(table, people), label


def test_unknown_label_is_refused(model: GenotypeModel) -> None:
    with pytest.raises(InputError, match=r"label 'XYZ' is not one the model knows \(CEU, CHB, YRI\)"):
        model.sample(labels={"CEU": 1, "XYZ": 2})


def test_label_of_a_model_without_panel_is_refused(unphased: VariantTable) -> None:
    with pytest.raises(InputError, match="fitted without a panel"):
        fit(unphased, QUICK).sample(labels={"CEU": 1})


def test_number_and_labels_exclude_each_other(model: GenotypeModel) -> None:
    with pytest.raises(ValueError, match="not both"):
        model.sample(3, labels={"CEU": 3})
    for wrong in ({"n": 0}, {"labels": {"CEU": 0}}):
        with pytest.raises(ValueError, match="at least 1 person"):
            model.sample(**wrong)


# --- kinds of input ------------------------------------------------------------------------------------------------


def test_unphased_input_gives_unphased_output(unphased: VariantTable) -> None:
    model = fit(unphased)
    drawn = model.sample(200, seed=2)
    assert drawn.phased is not None
    assert not drawn.phased.any()
    assert drawn.labels is None
    assert (drawn.haplotypes >= 0).all()
    assert set(np.unique(drawn.dosage())) == {0, 1, 2}
    assert af_error(drawn, unphased) < 1.15 * af_floor(unphased, 200)
    assert model.describe()["unit"] == "dosages"


def test_partly_unphased_input_gives_phased_output_with_its_frequencies(table: VariantTable) -> None:
    phased = np.random.default_rng(1).random(table.haplotypes.shape[:2]) >= 0.3
    drawn = fit(table_of(table.haplotypes, phased=phased)).sample(200, seed=2)
    assert drawn.is_phased
    assert af_error(drawn, table) < 1.3 * af_floor(table, 200)


@pytest.mark.parametrize("phased", [True, False])
def test_missing_calls_are_never_written(table: VariantTable, phased: bool) -> None:
    haplotypes = table.haplotypes.copy()
    rng = np.random.default_rng(1)
    haplotypes[rng.random(haplotypes.shape[:2]) < 0.1] = -1
    haplotypes[rng.random(haplotypes.shape) < 0.05] = -1
    haplotypes[:, 7] = -1
    holes = table_of(haplotypes, phased=None if phased else np.zeros(haplotypes.shape[:2], dtype=bool))
    model = fit(holes)
    drawn = model.sample(100, seed=2)
    assert (drawn.haplotypes >= 0).all()
    called = np.arange(200) != 7
    error = np.abs(drawn.allele_frequency() - holes.allele_frequency())[called].mean()
    assert error < 1.3 * af_floor(table, 100)
    assert np.isfinite(model.result.best_validation)


@pytest.mark.parametrize("sites", [5, 15, 16, 17])
def test_inputs_of_less_than_or_about_a_tile(table: VariantTable, sites: int) -> None:
    drawn = fit(table.select(variants=slice(0, sites)), QUICK).sample(10, seed=1)
    assert drawn.haplotypes.shape == (10, sites, 2)


@pytest.mark.parametrize("people", [40, 400])
def test_inputs_with_next_to_no_variance_within_anchors(people: int) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (people, 1, 2))
    fit(table_of(np.repeat(rows, 3, axis=1)), small(anchors=2, training={"steps": 2})).sample(10, seed=1)


def test_fewer_than_twenty_people_are_refused(table: VariantTable) -> None:
    with pytest.raises(InputError, match="19 people are too few to learn from: give at least 20"):
        fit(table.select(samples=slice(0, 19)))
    fit(table.select(samples=slice(0, 20)), QUICK)


def test_table_without_sites_is_refused(table: VariantTable) -> None:
    with pytest.raises(InputError, match="no sites"):
        fit(table.select(variants=slice(0, 0)))


# --- choices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"anchor_covariance": "noise"}, {"anchor_covariance": "total"}, {"a": 1.0}])
def test_other_start_laws_and_isotropic_drift_sample_the_same_frequencies(
    table: VariantTable, change: dict[str, object]
) -> None:
    drawn = fit(table, small(**change, training={"steps": 2})).sample(100, seed=2)
    assert af_error(drawn, table) < 1.3 * af_floor(table, 100)


def test_medoid_anchors_sample_the_same_frequencies(table: VariantTable) -> None:
    drawn = fit(table, small(anchors=4, anchor_kind="medoids")).sample(200, seed=2)
    assert af_error(drawn, table) < 1.5 * af_floor(table, 200)


@pytest.mark.parametrize("phased", [True, False])
def test_mixed_precision_trains_and_samples(table: VariantTable, unphased: VariantTable, phased: bool) -> None:
    model = fit(table if phased else unphased, small(precision="bfloat16", training={"steps": 12, "validate_every": 4}))
    assert all(np.isfinite(row["validation_loss"]) for row in model.result.history)
    drawn = model.sample(100, seed=1)
    assert af_error(drawn, table) < 1.5 * af_floor(table, 100)


def test_compiled_network_learns_the_same(table: VariantTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by the compiler and run without the code it would make, for which it takes minutes."""
    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(plain, backend="eager"))
    first, second = (fit(table, QUICK, compiled=c) for c in (False, True))
    assert second.result.best_validation == pytest.approx(first.result.best_validation, rel=1e-5)
    assert [m.engine.network._compiled_call_impl is not None for m in (first, second)] == [False, True]
    assert second.engine.state_dict().keys() == first.engine.state_dict().keys()
    assert (second.sample(4, seed=1).haplotypes == first.sample(4, seed=1).haplotypes).mean() > 0.99


def test_long_inputs_are_trained_on_crops(table: VariantTable) -> None:
    config = small(crop_sites=64, passes=0.5, least_steps=1, training={"validate_every": 2})
    model = fit(table, config)
    # Steps in proportion to people and sites.
    rows = 2 * (table.n_samples - 10)
    assert model.result.steps == round(0.5 * rows * model.engine.process.dim / 64 / 16)
    assert model.sample(5, seed=1).n_variants == 200


def test_crops_cover_every_block_and_start_and_end_at_blocks(model: GenotypeModel) -> None:
    problem = AlleleProblem(model.engine, None, None, seed=1)  # type: ignore[arg-type]
    model.engine.config = small(crop_sites=64)
    try:
        generator = torch.Generator().manual_seed(1)
        runs = [problem._crop(generator) for _ in range(300)]
    finally:
        model.engine.config = SMALL
    blocks = len(problem.bounds) - 1
    assert all(0 <= first < last <= blocks for first, last in runs)
    covered = np.zeros(blocks)
    for first, last in runs:
        covered[first:last] += 1
    assert (covered > 20).all()


def test_blocks_end_at_tiles(model: GenotypeModel) -> None:
    bounds = model.meta.bounds
    assert bounds[0] == 0
    assert bounds[-1] == model.engine.process.dim <= 200
    assert all(b % SMALL.network.tile == 0 for b in bounds[:-1])


def test_base_of_a_run_of_blocks_is_that_of_the_whole_given_the_anchor(table: VariantTable) -> None:
    engine = fit(table, small(training={"steps": 0}, scales=())).engine
    component = torch.zeros(3, dtype=torch.long)
    conditions = (component,) * len(engine.conditions)
    x = torch.randn(3, engine.process.dim, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.1, 0.5, 1.5])
    whole = engine.denoiser.logits(x, t, component=component, conditions=conditions)
    process, denoiser, sites = engine.run_of(1, 3)
    part = denoiser.logits(x[:, sites], t, component=component, conditions=conditions)
    assert process.dim == part.shape[1] < engine.process.dim
    torch.testing.assert_close(part, whole[:, sites], rtol=1e-4, atol=1e-4)


def test_sampler_starts_where_structure_has_drowned_and_ends_where_alleles_are_read(model: GenotypeModel) -> None:
    engine = model.engine
    grid = engine.grid()
    assert len(grid) == SMALL.sampling_steps + 1
    assert (grid.diff() < 0).all()
    process = engine.process
    left = engine.prior.modal_variance * process.mean_coefficient(grid[0]).square() / process.variance(grid[0])
    assert float(left.max()) == pytest.approx(SMALL.drowned, rel=1e-4)
    assert float(process.noise_ratio(grid[-1], rate=-0.5)) == pytest.approx(SMALL.lowest_noise)


def test_loss_that_is_not_a_number_is_an_error(table: VariantTable, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = AlleleProblem.loss

    def failing(self: AlleleProblem, generator: torch.Generator, workers: Workers) -> torch.Tensor:
        return plain(self, generator, workers) * float("nan")

    monkeypatch.setattr(AlleleProblem, "loss", failing)
    with pytest.raises(TrainingError, match="loss became nan at step 1"):
        fit(table, QUICK)


def test_fit_resumes_from_its_checkpoint_to_the_same_people(table: VariantTable, tmp_path: Path) -> None:
    checkpoint = tmp_path / "state"
    config = small(training={"steps": 8, "validate_every": 4, "checkpoint_seconds": 0.0})
    mark = fingerprint_of(table, config, seed=1)
    plain, calls = AlleleProblem.loss, 0

    def interrupted(self: AlleleProblem, generator: torch.Generator, workers: Workers) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return plain(self, generator, workers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AlleleProblem, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(table, config, checkpoint=checkpoint, fingerprint=mark)
    resumed = fit(table, config, checkpoint=checkpoint, fingerprint=mark)
    assert same(resumed.sample(10, seed=1), fit(table, config).sample(10, seed=1))


def test_fingerprint_changes_with_whatever_the_fit_depends_on(table: VariantTable) -> None:
    mark = fingerprint_of(table, SMALL, seed=1)
    assert mark == fingerprint_of(table, SMALL, seed=1)
    labels = np.asarray(table.labels).copy()
    labels[:2] = labels[[-1, -2]]
    others = [
        fingerprint_of(table, SMALL, seed=2),
        fingerprint_of(table, small(a=0.9), seed=1),
        fingerprint_of(table.select(samples=slice(1, None)), SMALL, seed=1),
        fingerprint_of(table.with_labels(labels), SMALL, seed=1),
    ]
    assert len({mark, *others}) == 5


def test_unfitted_model_says_so() -> None:
    model = GenotypeModel()
    for use in (model.sample, model.describe, lambda: model.labels):
        with pytest.raises(RuntimeError, match="not fitted"):
            use()


def test_description_is_of_plain_values(model: GenotypeModel) -> None:
    import json

    described = model.describe()
    json.dumps(described)
    assert described["people"] == 60
    assert described["sites"] == 200
    assert described["labels"] == {"CEU": 20, "CHB": 20, "YRI": 20}


@pytest.mark.parametrize("name", ["fast", "balanced", "best"])
def test_presets_survive_as_plain_values(name: str) -> None:
    import json

    config = preset(name)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.network.reach >= 500


def test_unknown_preset_and_device_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of fast, balanced, best"):
        preset("quick")
    assert set(PRESETS) == {"fast", "balanced", "best"}
    with pytest.raises(InputError, match="expected auto, cpu, cuda or mps"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="not available here"):
            resolve_device("cuda:0")
    assert resolve_device("cpu") == torch.device("cpu")
