"""Attacks on a model: what they measure, that overfitting lights them up, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_prep.readers import read_variants
from data_prep.variants import VariantTable
from data_prep.vcf import write_vcf
from genodiff.audit import COLUMNS, Evidence, Suspects, attack, audit, gather, summary, text
from genodiff.core.losses import allele_cross_entropy
from genodiff.genotypes.backgrounds import Backgrounds
from genodiff.genotypes.model import GenotypeModel
from genodiff.genotypes.network import NetworkConfig
from tests.commands import People, refused, succeed
from tests.genotypes.tables import coalescent, small
from tests.threads import one_thread

__all__ = ["one_thread"]

QUIETLY = ("--threads", "1", "--quiet")


@pytest.fixture(scope="module")
def sides() -> tuple[VariantTable, VariantTable]:
    """28 members and 122 others of one population, at 96 sites."""
    table = coalescent(150, 96)
    order = np.random.default_rng(0).permutation(150)
    return tuple(table.select(samples=np.sort(part)) for part in (order[:28], order[28:]))  # type: ignore[return-value]


def fitted_for(steps: int, table: VariantTable) -> GenotypeModel:
    """A model of the last of so many steps, whatever people kept aside say to that."""
    training = {"steps": steps, "batch": 32, "validate_every": steps, "learning_rate": 5e-3}
    config = small(network=NetworkConfig(tile=16, width=32, dilations=(1, 2), window=4), training=training)
    return GenotypeModel(config).fit(table, seed=1, device="cpu")


@pytest.fixture(scope="module")
def honest(sides: tuple[VariantTable, VariantTable]) -> GenotypeModel:
    """Ten steps."""
    return fitted_for(10, sides[0])


def people(found: pd.DataFrame, name: str, noise: str) -> pd.Series:
    chosen = (found["attack"] == name) & (found["noise"] == noise) & (found["unit"] == "people")
    assert chosen.sum() == 1
    return found[chosen].iloc[0]


def test_an_overfitted_model_gives_its_people_away(
    sides: tuple[VariantTable, VariantTable], honest: GenotypeModel
) -> None:
    before = audit(honest, members=sides[0], others=sides[1])
    after = audit(fitted_for(400, sides[0]), members=sides[0], others=sides[1])
    assert list(after.columns) == list(COLUMNS)
    for name, noise in (("gain", "mean"), ("combined", "all")):
        assert people(after, name, noise)["low"] > 0.6
        assert people(after, name, noise)["auc"] > people(before, name, noise)["auc"] + 0.08
    # Backgrounds and base are not trained: what they tell is the same.
    assert people(after, "background", "none")["auc"] == people(before, "background", "none")["auc"]
    assert "tells members from others" in summary(after)
    pd.testing.assert_frame_equal(before, audit(honest, members=sides[0], others=sides[1]))


def test_strangers_on_both_sides_cannot_be_told_apart(
    sides: tuple[VariantTable, VariantTable], honest: GenotypeModel
) -> None:
    halves = [sides[1].select(samples=slice(k, None, 2)) for k in (0, 1)]
    found = audit(honest, members=halves[0], others=halves[1])
    for name, noise in (("loss", "mean"), ("gain", "mean"), ("background", "none"), ("combined", "all")):
        row = people(found, name, noise)
        assert row["low"] < 0.5 < row["high"], (name, noise)


def test_losses_are_those_of_the_denoiser(sides: tuple[VariantTable, VariantTable], honest: GenotypeModel) -> None:
    suspects = Suspects.of(honest, sides[1].select(samples=slice(0, 5)))
    found = gather(honest, suspects, levels=3, draws=1, seed=4)
    engine, generator = honest.engine, torch.Generator().manual_seed(4)
    times = engine.grid(2)
    states = suspects.states
    with torch.no_grad():
        for level in range(3):
            noise = torch.randn(1, states.shape[1], generator=generator)
            t = times[level].float().expand(len(states))
            forward = engine.process.transition(torch.zeros_like(t), t)
            z = forward.m * engine.basis.analysis(states.float() - engine.process.mean)
            x_t = engine.process.mean + engine.basis.synthesis(z + forward.variance.sqrt() * noise)
            logits = engine.denoiser.logits(x_t, t, component=suspects.component, conditions=suspects.conditions)
            for i in range(len(states)):
                expected = float(allele_cross_entropy(logits[[i]], states[[i]]))
                assert found.loss[i, level] == pytest.approx(expected, rel=1e-4)
    assert found.noise[0] > found.noise[-1] == pytest.approx(honest.config.lowest_noise, rel=1e-3)
    assert (found.loss[:, 0] > found.loss[:, -1]).all()


def test_a_chromosome_longer_than_the_crop_is_covered_by_runs(
    sides: tuple[VariantTable, VariantTable], honest: GenotypeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genodiff import audit as module

    bounds = honest.engine.basis.bounds
    assert len(bounds) > 2
    assert module._runs(honest.engine) == [(0, len(bounds) - 1)]
    monkeypatch.setattr(honest.engine, "config", replace(honest.config, crop_sites=1))
    runs = module._runs(honest.engine)
    assert runs == [(k, k + 1) for k in range(len(bounds) - 1)]
    found = gather(honest, Suspects.of(honest, sides[0]), levels=2, draws=1)
    assert np.isfinite(found.loss).all()
    assert found.loss[:, -1].mean() < found.loss[:, 0].mean() < 1


def test_the_nearest_background_equals_brute_force(honest: GenotypeModel) -> None:
    from genodiff.audit import _background_distance

    suspects = Suspects.of(honest, coalescent(150, 96).select(samples=slice(0, 4)))
    backgrounds = honest.engine.backgrounds[0]
    assert isinstance(backgrounds, Backgrounds)
    found = _background_distance(backgrounds, suspects, honest.engine)
    tile, sites = backgrounds.tile, suspects.states.shape[1]
    for i, row in enumerate(suspects.states.numpy().astype(float)):
        each = []
        for k, (means, variance) in enumerate(
            zip(backgrounds.means.numpy(), backgrounds.variance.numpy(), strict=True)
        ):
            at = np.arange(k * tile, (k + 1) * tile)
            inside = at < sites
            x = np.where(inside, row[np.clip(at, 0, sites - 1)], 0)
            each.append((((x[:, None] - means) ** 2 / variance[:, None]).sum(axis=0)).min() / len(at))
        assert found[i] == pytest.approx(np.mean(each), rel=1e-4)


def test_unknown_sites_do_not_count(sides: tuple[VariantTable, VariantTable], honest: GenotypeModel) -> None:
    some = sides[1].select(variants=slice(10, 80))
    suspects = Suspects.of(honest, some)
    assert (suspects.states >= 0).any(dim=0).sum() <= 70
    assert (suspects.states[:, :5] < 0).all()
    found = gather(honest, suspects, levels=2, draws=1)
    assert np.isfinite(found.features).all()
    with pytest.raises(ValueError, match="at the same sites"):
        audit(honest, members=sides[0], others=some)


def test_a_score_that_knows_everything_finds_everybody() -> None:
    rng = np.random.default_rng(0)

    def evidence(shift: float) -> Evidence:
        return Evidence(
            np.array([9.0, 1.0]), rng.normal(shift, 0.1, (60, 2)), rng.normal(size=(60, 2)), np.empty((60, 0))
        )

    found = attack(evidence(0.0), evidence(2.0), rows_per_person=2)
    assert people(found, "loss", "mean")["auc"] == people(found, "combined", "all")["auc"] == 1
    assert people(found, "combined", "all")["tpr"] == 1
    assert set(found["attack"]) == {"loss", "gain", "combined"}
    assert found.groupby("unit")["members"].first().to_dict() == {"haplotypes": 60, "people": 30}
    lines = text(found).splitlines()
    assert len(lines) == 2 + 2 * 3 + 1
    assert len({len(line) for line in lines}) == 1
    nothing = attack(evidence(0.0), evidence(0.0), rows_per_person=2)
    assert "does not tell" in summary(nothing)
    assert "swapped" not in summary(nothing)
    assert "swapped" not in summary(found)
    turned = found.assign(high=found["high"].where(found["attack"] != "gain", 0.49))
    assert "swapped" in summary(turned)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The 40 people the model of these tests was learned from, and 40 others."""
    folder = tmp_path_factory.mktemp("people")
    everybody, _ = read_variants(People(n=80).write(folder), maf=None)
    paths = {"members": People().write(folder, "members.vcf"), "others": folder / "others.vcf"}
    others = everybody.select(samples=np.arange(40, 80))
    write_vcf(others, paths["others"])
    return paths


def test_the_command_writes_table_and_page(fitted: Path, files: dict[str, Path], tmp_path: Path) -> None:
    sources = ("--members", files["members"], "--non-members", files["others"])
    said = succeed("audit", fitted, *sources, "-o", tmp_path / "a", *QUIETLY)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"audit.csv", "audit.md", "provenance.json"}
    found = pd.read_csv(tmp_path / "a" / "audit.csv")
    assert list(found.columns) == list(COLUMNS)
    assert set(found["members"]) == {40, 80}
    page = (tmp_path / "a" / "audit.md").read_text()
    assert "at 60 of its 60 sites" in page
    for part in (text(found.fillna("none")), summary(found.fillna("none"))):
        assert part in said
        assert part in page
    facts = json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert {entry["role"] for entry in facts["inputs"].values()} == {"model", "members", "non-members"}
    shown = succeed("audit", fitted, *sources, *QUIETLY)
    assert said.startswith(shown)
    refused(tmp_path, "audit", fitted, *sources, "-o", tmp_path / "a", *QUIETLY, words=("exists", "--force"))


def test_the_command_refuses_what_it_cannot_use(fitted: Path, files: dict[str, Path], tmp_path: Path) -> None:
    members, _ = read_variants(files["members"], maf=None)
    others, _ = read_variants(files["others"], maf=None)
    variants = {
        "few.vcf": others.select(samples=slice(0, 19)),
        "alleles.vcf": replace(others, sites=others.sites.assign(alt="T")),
        "unphased.vcf": replace(others, phased=np.zeros((40, 60), dtype=bool)),
        "late.vcf": others.select(variants=slice(30, 60)),
        "early.vcf": members.select(variants=slice(0, 30)),
    }
    for name, table in variants.items():
        write_vcf(table, tmp_path / name)
    cases = [
        (files["members"], tmp_path / "few.vcf", ("few.vcf", "19 people", "at least 20")),
        (files["members"], tmp_path / "alleles.vcf", ("alleles.vcf", "none of the 60 sites", "REF and ALT")),
        (files["members"], tmp_path / "unphased.vcf", ("unphased.vcf", "no phase", "phase it")),
        (tmp_path / "early.vcf", tmp_path / "late.vcf", ("early.vcf", "late.vcf", "no site", "in common")),
        (files["members"], files["members"], ("members.vcf", "40 people", "P000")),
        (files["members"], tmp_path / "none.vcf", ("none.vcf", "does not exist")),
    ]
    for inside, outside, words in cases:
        start = ("audit", fitted, "--members", inside, "--non-members", outside)
        refused(tmp_path, *start, "-o", tmp_path / "a", *QUIETLY, words=words)
    refused(
        tmp_path, "audit", tmp_path, "--members", files["members"], "--non-members", files["others"], *QUIETLY,
        words=(tmp_path, "model"),
    )  # fmt: skip
