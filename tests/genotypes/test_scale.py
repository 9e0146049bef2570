"""Size: work that grows in proportion, memory with a bound, workers that share it, and borders that do not show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.scale import by_distance, exponent, seams
from data_prep.variants import VariantTable
from genodiff.genotypes import backgrounds as module
from genodiff.genotypes.backgrounds import Backgrounds
from genodiff.genotypes.config import preset
from genodiff.genotypes.model import GenotypeModel
from tests.genotypes.tables import coalescent, small
from tests.genotypes.worker import fitted as fitted_here

ROOT = Path(__file__).resolve().parents[2]


def backgrounds(rows: Tensor, *, tile: int = 8) -> tuple[Backgrounds, Tensor]:
    return Backgrounds.fit(rows, count=12, tile=tile, halo=8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def rows() -> Tensor:
    """80 haplotypes at 640 sites, which come in few kinds."""
    return torch.from_numpy(coalescent(40, 640).haplotype_rows()).float()


def test_clusters_of_repeated_rows_are_those_of_every_row_counted(rows: Tensor) -> None:
    """Lloyd's algorithm on all rows one by one, from the same points, ends in the same clusters."""
    x = rows[:, 100:124].double()
    assert len(x.unique(dim=0)) < len(x) / 2
    prior, count, rounds = x.mean(0), 6, 6
    found = module._clusters(x.float(), prior.float(), count, generator=torch.Generator().manual_seed(1), rounds=rounds)
    # The first points, by the same numbers.
    generator = torch.Generator().manual_seed(1)
    code = x @ torch.randn(x.shape[1], generator=generator, dtype=torch.float64)
    _, which, often = code.unique(return_inverse=True, return_counts=True)
    key = torch.rand(len(often), generator=generator, dtype=torch.float64).log() / often
    a = torch.stack([x[which == k][0] for k in key.topk(count).indices])
    for _ in range(rounds):
        nearest = torch.cdist(x, a).argmin(1)
        a = torch.stack([(x[nearest == k].sum(0) + 0.3 * prior) / ((nearest == k).sum() + 0.3) for k in range(len(a))])
    while True:
        size = torch.bincount(nearest, minlength=len(a))
        a = a[size >= module.LEAST_ROWS]
        nearest = torch.cdist(x, a).argmin(1)
        if torch.bincount(nearest, minlength=len(a)).min() >= module.LEAST_ROWS:
            break
    assert torch.equal(found.unique(return_inverse=True)[1], nearest.unique(return_inverse=True)[1])


def test_training_and_weights_grow_in_proportion() -> None:
    model = GenotypeModel(preset("balanced"))
    steps = [model._training(k * 5000, 20_000).steps for k in (1, 2, 4)]
    assert steps[1] == pytest.approx(2 * steps[0], abs=1)
    assert steps[2] == pytest.approx(4 * steps[0], abs=2)
    steps = [model._training(5000, k * 10_000).steps for k in (1, 2, 4)]
    assert exponent(np.array([1.0, 2, 4]), np.array(steps, dtype=float)) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_two_workers_under_torchrun_learn_the_model_of_one(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "tests.genotypes.worker", str(tmp_path),
        ],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert first["world"] == second["world"] == 2
    alone = fitted_here()
    for name, value in alone.engine.network.state_dict().items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], value, rtol=1e-3, atol=1e-5)
    losses = [[row["validation_loss"] for row in h] for h in (first["history"], alone.result.history)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.fixture(scope="module")
def people() -> tuple[VariantTable, VariantTable]:
    """200 people to learn from and 60 others, at 900 sites."""
    table, held = coalescent(260, 900, seed=5), np.arange(260) % 13 >= 10
    return table.select(samples=~held), table.select(samples=held)


@pytest.mark.slow
def test_linkage_across_borders_is_nearly_linkage_elsewhere(people: tuple[VariantTable, VariantTable]) -> None:
    """Near pairs that straddle a border keep their r²; an untrained base, which ends at LD blocks, loses a quarter.

    The widest tiles are the hardest: their few borders are borders of all narrower ones too.
    """
    torch.set_num_threads(1)
    config = small(crop_sites=400, rare=0.0, training={"steps": 200, "validate_every": 200})
    model = GenotypeModel(config).fit(people[0], seed=1, device="cpu")
    found = seams(model, model.sample(200, seed=1), *people).set_index("border")
    assert (found["pairs"] > 1000).all()
    assert found["elsewhere"].between(0.9, 1.15).all(), found
    relative = (found["across"] / found["elsewhere"]) / (found["floor_across"] / found["floor_elsewhere"])
    assert relative["tiles of 128"] > 0.75, found
    assert relative.drop("tiles of 128").between(0.88, 1.1).all(), found


def test_a_seam_is_seen(people: tuple[VariantTable, VariantTable]) -> None:
    """People put together from the LD blocks of others have all linkage inside and none across."""
    train, holdout = people
    model = GenotypeModel(small(rare=0.0, training={"steps": 0})).fit(train, seed=1, device="cpu")
    rng, haplotypes = np.random.default_rng(1), np.array(train.haplotypes)
    first = model.meta.ties.drawn[list(model.meta.bounds[1:-1])]
    for part in np.split(np.arange(train.n_variants), first):
        haplotypes[:, part] = haplotypes[rng.permutation(len(haplotypes))][:, part]
    cut = VariantTable(haplotypes, train.sites, train.samples, None, train.header)
    found = seams(model, cut, train, holdout).set_index("border").loc["LD blocks"]
    assert found["elsewhere"] == pytest.approx(1, abs=0.02)
    assert found["across"] < 0.2
    near = by_distance(model, cut, train, holdout)["synthetic"].to_numpy()
    assert near[0] < 0.2
    assert near[-1] > 0.95
