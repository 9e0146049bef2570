"""Table 2: the simulated world, the methods as they are judged, and the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from data_prep.simulate import simulate_ld_blocks
from genodiff.genotypes import config
from genodiff.reproduce import snps
from genodiff.reproduce.runs import (
    NEAR_LD,
    UNROUNDED,
    W2_SITES,
    Cache,
    Method,
    Problem,
    genotype_errors,
    measure,
    methods,
)
from genodiff.reproduce.tables import paper_metrics, verdicts
from tests.genotypes.tables import SMALL

TINY = snps.Design(people=50, sites=60, truth=400, many=80)
QUICK_METHODS = ("genodiff", "independent-sites", "bootstrap")


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fast", "balanced"):
        monkeypatch.setitem(config.PRESETS, name, replace(SMALL, training=replace(SMALL.training, steps=5)))


def drawing(draw: Callable[[Problem, int, int], NDArray[Any]], *, calls: list[int], real: bool = False) -> Method:
    """A method that counts how often it is fitted."""

    def fit(problem: Problem, seed: int) -> Any:
        calls.append(seed)
        return lambda n, s: draw(problem, n, s)

    return Method("stub", {"option": 1}, fit, real_valued=real)


def copies(problem: Problem, n: int, seed: int) -> NDArray[Any]:
    return problem.train.dosage()[np.random.default_rng(seed).integers(problem.train.n_samples, size=n)]


def test_everybody_comes_from_one_truth_and_nobody_is_in_two_places() -> None:
    problem = snps.problem_of(replace(TINY, people=4000, truth=4000, sites=40), seed=1)
    train, test, truth = problem.train.dosage(), problem.references["test"], problem.references["truth"]
    assert not problem.train.is_phased
    assert train.shape == test.shape == truth.shape == (4000, 40)
    for one, other in ((train, test), (train, truth), (test, truth)):
        # Standard error of a difference of means is at most sqrt(2 · 0.5 / 4000) = 0.016.
        assert np.abs(one.mean(0) - other.mean(0)).max() < 0.08
        assert not (one[:50, None] == other[None, :50]).all(axis=2).any()
    correlation = np.corrcoef(test, rowvar=False)
    assert np.diag(correlation, 1)[:19].min() > 0.4
    assert abs(correlation[19, 20]) < 0.1
    assert not (snps.problem_of(TINY, seed=2).train.dosage() == snps.problem_of(TINY, seed=1).train.dosage()).all()


def test_seeds_share_no_people() -> None:
    """Three samples per seed: train of one seed must not be test of the next."""
    kinds = [
        simulate_ld_blocks(5, 30, maf_law=np.full(30, 0.3), seed=3 * seed + which).table.dosage().tobytes()
        for seed in (1, 2, 3)
        for which in (0, 1, 2)
    ]
    assert len(set(kinds)) == 9


def test_the_test_people_carry_no_missing_calls_and_the_same_alternate_allele() -> None:
    problem = snps.problem_of(replace(TINY, people=300), seed=4)
    assert min(problem.train.dosage().min(), problem.references["test"].min()) == 0
    # ALT is the minor allele everywhere.
    assert problem.references["truth"].mean() < 1


def test_errors_are_the_papers_and_one_more() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 3, size=(40, 12)), rng.integers(0, 3, size=(30, 12))
    errors = genotype_errors(a, b)
    assert {k: v for k, v in errors.items() if k not in (W2_SITES, NEAR_LD)} == paper_metrics(a, b)
    per_site = [paper_metrics(a[:, [j]], b[:, [j]])["w2"] for j in range(12)]
    assert errors[W2_SITES] == pytest.approx(np.mean(per_site))
    assert genotype_errors(a.astype(np.int8), b.astype(np.int8)) == pytest.approx(errors)
    same = genotype_errors(a, a)
    assert same.pop(NEAR_LD) == pytest.approx(1)
    assert set(same.values()) == {0.0}


def test_lost_linkage_shows_in_the_slope() -> None:
    problem = snps.problem_of(replace(TINY, people=2000, sites=40), seed=1)
    truth, rng = problem.references["truth"], np.random.default_rng(1)
    assert genotype_errors(problem.train.dosage(), truth)[NEAR_LD] == pytest.approx(1, abs=0.1)
    # Every call is exchanged for one of another person with probability 1 − √½: half of every covariance is left.
    kept = rng.random(truth.shape) < np.sqrt(0.5)
    half = np.where(kept, truth, rng.permuted(truth, axis=0)).astype(np.int8)
    assert genotype_errors(half, truth)[NEAR_LD] == pytest.approx(0.5, abs=0.1)
    assert abs(genotype_errors(rng.permuted(truth, axis=0), truth)[NEAR_LD]) < 0.1


def test_an_outcome_is_remembered_and_depends_on_everything(tmp_path: Path) -> None:
    calls: list[int] = []
    method, cache = drawing(copies, calls=calls), Cache(tmp_path / "cache")
    problem = snps.problem_of(TINY, seed=1)
    first = measure(method, problem, seed=1, people=20, cache=cache, many=30)
    assert measure(method, problem, seed=1, people=20, cache=cache, many=30) == first
    assert calls == [1]
    assert [(m, a) for m, a, _ in first.rows] == [
        ("stub", "train"), ("stub", "test"), ("stub", "truth"), ("stub", "train, 30 draws"),
    ]  # fmt: skip
    measure(method, problem, seed=2, people=20, cache=cache, many=30)
    measure(method, problem, seed=1, people=21, cache=cache, many=30)
    measure(method, snps.problem_of(TINY, seed=2), seed=1, people=20, cache=cache, many=30)
    measure(replace(method, options={"option": 2}), problem, seed=1, people=20, cache=cache, many=30)
    assert len(calls) == 5


def test_phase_and_format_name_an_outcome_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    method, cache, problem = drawing(copies, calls=calls), Cache(tmp_path), snps.problem_of(TINY, seed=1)
    shape = problem.train.haplotypes.shape[:2]
    half = np.arange(shape[0] * shape[1]).reshape(shape) % 2 == 0
    masks = [None, np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool), half]
    phases = [replace(problem, train=replace(problem.train, phased=mask)) for mask in masks]
    assert len({phase.digest() for phase in phases}) == len(masks)
    assert phases[3].digest() == replace(problem, train=replace(problem.train, phased=half.copy())).digest()
    for expected in (1, 1):
        measure(method, problem, seed=1, people=40, cache=cache)
        assert len(calls) == expected
    monkeypatch.setattr("genodiff.reproduce.runs._FORMAT", 0)
    measure(method, problem, seed=1, people=40, cache=cache)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["", "{", '{"rows": 3, "seconds": 1}', "[]"])
def test_a_damaged_memory_is_made_again(tmp_path: Path, damage: str) -> None:
    calls: list[int] = []
    method, cache, problem = drawing(copies, calls=calls), Cache(tmp_path), snps.problem_of(TINY, seed=1)
    first = measure(method, problem, seed=1, people=20, cache=cache)
    (file,) = tmp_path.glob("*.json")
    file.write_text(damage)
    again = measure(method, problem, seed=1, people=20, cache=cache)
    assert again.rows == first.rows
    assert calls == [1, 1]
    assert json.loads(file.read_text())["seconds"] == again.seconds


def test_people_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    calls: list[int] = []
    method, cache, problem = drawing(copies, calls=calls), Cache(tmp_path), snps.problem_of(TINY, seed=1)
    assert measure(method, problem, seed=1, people=20, cache=cache).dosage is None
    kept = measure(method, problem, seed=1, people=20, cache=cache, keep=True)
    known = measure(method, problem, seed=1, people=20, cache=cache, keep=True)
    assert len(calls) == 2
    assert kept.dosage is not None
    assert known.dosage is not None
    np.testing.assert_array_equal(kept.dosage, known.dosage)
    np.testing.assert_array_equal(kept.dosage, copies(problem, 20, 1))


def test_real_numbers_are_judged_rounded_and_as_they_come(tmp_path: Path) -> None:
    def noisy(problem: Problem, n: int, seed: int) -> NDArray[Any]:
        noise = np.random.default_rng(seed).uniform(-0.4, 0.4, size=(n, problem.train.n_variants))
        return copies(problem, n, seed) + noise

    problem = snps.problem_of(TINY, seed=1)
    rounded = measure(drawing(copies, calls=[]), problem, seed=1, people=40, cache=Cache(tmp_path / "a"))
    both = measure(drawing(noisy, calls=[], real=True), problem, seed=1, people=40, cache=Cache(tmp_path / "b"))
    plain = [row for row in both.rows if row[0] == "stub"]
    assert plain == rounded.rows
    (raw,) = [row for row in both.rows if row[0] != "stub"]
    assert raw[:2] == ("stub" + UNROUNDED, "test")
    assert raw[2] == genotype_errors(noisy(problem, 40, 1), problem.references["test"])
    assert raw[2] != plain[1][2]


def test_the_plain_networks_draw_real_numbers() -> None:
    """The recipes of the paper keep the interface this experiment uses."""
    (method,) = methods(["gou-paper"], budget="quick", device="cpu", progress=False)
    assert method.real_valued
    assert {"steps", "a", "anchors", "sampling_steps"} <= set(method.options)


def test_names_that_nobody_has_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        methods(["genodif"], budget="quick", device="cpu", progress=False)


def test_targets_judge_the_papers_numbers_on_many_draws() -> None:
    rows = [("genodiff", "train, 80 draws", m, v) for m, v in (("mean_error", 0.005), ("sd_error", 0.03), ("w2", 0.1))]
    rows += [("genodiff", "test", "cov_frobenius", 10.5), (snps.FLOOR, "test", "cov_frobenius", 10.0)]
    frame = pd.DataFrame(rows, columns=["method", "against", "metric", "mean"])
    checks = verdicts(frame, snps.targets(frame, many=80))
    assert [(c.metric, c.met) for c in checks] == [
        ("mean_error", True), ("sd_error", False), ("w2", True), ("cov_frobenius", True),
    ]  # fmt: skip
    assert checks[-1].limit == pytest.approx(11.0)


@pytest.mark.usefixtures("small_preset")
def test_the_page_holds_every_method_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = snps.reproduce(tmp_path, seeds=2, budget="quick", device="cpu", design=TINY, methods=QUICK_METHODS)
    text = page.read_text()
    for name in (*QUICK_METHODS, snps.FLOOR, "paper, gou", "16.7", "--budget quick --seeds 2", "truth"):
        assert name in text
    frame = pd.read_csv(tmp_path / "gou-snps.csv")
    assert set(frame["against"]) == {"train", "test", "truth", "train, 80 draws"}
    assert set(frame["seeds"]) == {2}
    value = frame.set_index(["method", "against", "metric"])["mean"]
    # Copies have the training people's covariance, and sites without linkage have none of it.
    assert value["bootstrap", "train", "corr_frobenius"] < value["independent-sites", "train", "corr_frobenius"]

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("fitted again")

    monkeypatch.setattr("genodiff.genotypes.model.GenotypeModel.fit", never)
    again = snps.reproduce(tmp_path, seeds=2, budget="quick", device="cpu", design=TINY, methods=QUICK_METHODS)
    assert again.read_text() == text


@pytest.mark.usefixtures("small_preset")
def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("genodiff.baselines.sites.Bootstrap.generate", stop)
        with pytest.raises(KeyboardInterrupt):
            snps.reproduce(tmp_path, seeds=1, device="cpu", design=TINY, methods=QUICK_METHODS)
    kept = {path.name: path.read_bytes() for path in (tmp_path / ".cache").iterdir()}
    assert {name.rpartition("-")[0] for name in kept} == {"genodiff", "independent-sites"}
    assert not (tmp_path / "gou-snps.md").exists()
    snps.reproduce(tmp_path, seeds=1, device="cpu", design=TINY, methods=QUICK_METHODS)
    now = {path.name: path.read_bytes() for path in (tmp_path / ".cache").iterdir()}
    assert kept.items() < now.items()


@pytest.mark.usefixtures("small_preset")
def test_the_full_budget_adds_the_table_over_designs(tmp_path: Path) -> None:
    cells = (replace(TINY, block_size=10), replace(TINY, maf_law="neutral", decay=0.5))
    page = snps.reproduce(
        tmp_path, seeds=1, budget="full", device="cpu", design=TINY, cells=cells, methods=("genodiff",)
    )
    assert "gou-snps.sensitivity.md" in page.read_text()
    frame = pd.read_csv(tmp_path / "gou-snps.sensitivity.csv")
    assert list(frame["method"]) == ["genodiff", snps.FLOOR] * 2
    assert list(frame["maf_law"]) == ["uniform", "uniform", "neutral", "neutral"]
    text = (tmp_path / "gou-snps.sensitivity.md").read_text()
    assert "| uniform, 10, 0.2 |" in text
    assert len(snps.CELLS) == 12
    assert "preset balanced" in text
