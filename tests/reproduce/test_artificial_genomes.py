"""Published haplotypes beside ours: what is read, what is compared with whom, and what the page says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from data_prep.errors import InputError
from genodiff.evaluation import structure
from genodiff.evaluation.suite import evaluate
from genodiff.genotypes import config
from genodiff.reproduce import artificial_genomes as peers
from genodiff.reproduce.costs import Cost
from genodiff.reproduce.page import number
from genodiff.reproduce.tables import Results
from tests.commands import People, refused, tree
from tests.genotypes.tables import small

SITES = 40
TINY = small(training={"steps": 5})


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer trees in the classifier, a model of seconds, and no process of its own for every fit."""
    monkeypatch.setitem(config.PRESETS, "fast", TINY)
    monkeypatch.setattr(structure, "two_sample_auc", partial(structure.two_sample_auc, trees=10, repeats=1))
    monkeypatch.setattr(peers, "measured", lambda function, *a, **k: (function(*a, **k), Cost(1.5, 300.0)))


def haplotypes(n: int, *, seed: int) -> NDArray[np.int8]:
    """Rows of linked sites, two of every person in a row."""
    return People(n=n // 2, sites=SITES, seed=seed).haplotypes().transpose(0, 2, 1).reshape(n, SITES)


def arrays() -> dict[str, NDArray[np.int8]]:
    noise = np.random.default_rng(1).random((104, SITES))
    real = haplotypes(120, seed=5)
    return {"real": real, "gan": real[:104] ^ (noise < 0.02), "rbm": (noise < real.mean(0)).astype(np.int8)}


def legend(sites: int = SITES) -> str:
    lines = [f"{1 + (2 * j >= sites)}:s{j} {1000 + 100 * j} A G" for j in range(sites)]
    return "\n".join(["id position a0 a1", *lines]) + "\n"


def write(folder: Path, content: dict[str, NDArray[np.int8]] | None = None, text: str | None = None) -> Path:
    path = folder / "genomes.npz"
    np.savez(path, **(arrays() if content is None else content))
    path.with_suffix(".legend").write_text(legend() if text is None else text)
    return path


def test_people_are_pairs_of_rows_and_published_ones_are_paired_at_random(tmp_path: Path) -> None:
    genomes = peers.read_genomes(write(tmp_path))
    content = arrays()
    np.testing.assert_array_equal(genomes.real.haplotype_rows(), content["real"])
    assert genomes.real.n_samples == 60
    assert list(genomes.real.sites["contig"].unique()) == ["1", "2"]
    one, same, other = (genomes.drawn("GAN", 30, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.haplotypes, same.haplotypes)
    assert (one.haplotypes != other.haplotypes).any()
    known = {row.tobytes() for row in content["gan"]}
    assert all(row.tobytes() in known for row in one.haplotype_rows())
    assert one.n_samples == 30


def test_a_change_of_any_allele_changes_the_digest(tmp_path: Path) -> None:
    before = peers.read_genomes(write(tmp_path)).digest()
    for key in peers.KEYS:
        content = arrays()
        content[key] = content[key].copy()
        content[key][3, 7] ^= 1
        assert peers.read_genomes(write(tmp_path, content)).digest() != before


def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path) -> None:
    good = arrays()
    cases: list[tuple[dict[str, NDArray[np.int8]], str | None, tuple[str, ...]]] = [
        ({k: v for k, v in good.items() if k != "rbm"}, None, ("genomes.npz", "no array 'rbm'")),
        (good | {"gan": good["gan"][:, 0]}, None, ("genomes.npz", "gan", "(104,)")),
        (good | {"gan": good["gan"][:, :-1]}, None, ("genomes.npz", "gan has 39 sites and real 40")),
        (good | {"rbm": good["rbm"] + 1}, None, ("genomes.npz", "rbm holds 2", "row")),
        (good | {"real": good["real"][:-1]}, None, ("genomes.npz", "119 haplotypes", "even")),
        (good | {"real": good["real"][:60]}, None, ("genomes.npz", "real has 60", "at least 80")),
        (good | {"gan": good["gan"][:30]}, None, ("genomes.npz", "gan has 30", "at least 40")),
        (good, legend(39), ("genomes.legend", "39 sites", "40")),
        (good, "position\n1\n", ("genomes.legend", "line 1", "header")),
        (good, legend().replace("1100", "x"), ("genomes.legend", "line 3", "position")),
        (good, legend().replace("1200", "1001"), ("genomes.legend", "line 4", "go back")),
    ]  # fmt: skip
    for content, text, words in cases:
        path = write(tmp_path, content, text)
        refused(tmp_path, "reproduce", "artificial-genomes", path, "-o", tmp_path / "out", "--quiet", words=words)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    command = ("reproduce", "artificial-genomes", path, "-o", tmp_path / "out", "--quiet")
    refused(tmp_path, *command, "--legend", tmp_path / "no.legend", words=("no.legend does not exist",))
    for content in (b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused(tmp_path, *command, words=("genomes.npz", "no .npz of numbers that can be read"))
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 3)))
    refused(tmp_path, *command, words=("genomes.npz holds one array",))
    path.unlink()
    refused(tmp_path, *command, words=("genomes.npz does not exist",))


def test_rules_say_what_is_better() -> None:
    def better(rule: peers.Rule, ours: float, theirs: float, floor: float) -> str:
        results = Results()
        metric = next(row.metric for row in peers.ROWS if row.rule is rule)
        for name, value in (("genodiff", ours), ("RBM", theirs), (peers.FLOOR, floor)):
            results.add(name, peers.HALF, 1, {metric: value})
        return str(peers.compare(results.long(), peers.HALF)["verdict"].iloc[0])

    assert better(peers.LESS, 0.1, 0.2, 0.15) == "better"
    assert better(peers.MORE, 0.8, 0.9, 0.85) == "worse"
    assert better(peers.ONE, 1.02, 0.9, 1.0) == "better"
    # Copies of the people compared with push the classifier below one half.
    assert better(peers.HALVES, 0.40, 0.55, 0.5) == "worse"
    # More than real people have is as wrong as less.
    assert better(peers.NEAR, 0.99, 0.85, 0.9) == "worse"
    # Below the floor there is no leak, however far.
    assert better(peers.NOT_ABOVE, 20.0, 5.0, 30.0) == "even"
    assert better(peers.NOT_ABOVE, 31.0, 5.0, 30.0) == "worse"


def test_verdicts_are_of_means_and_count_the_seeds_that_agree() -> None:
    results = Results()
    for seed, ours, theirs in ((1, 0.10, 0.20), (2, 0.30, 0.25), (3, 0.10, 0.30)):
        results.add("genodiff", peers.EVERYBODY, seed, {"af_mae": ours, "membership_auc": 0.5})
        results.add("RBM", peers.EVERYBODY, seed, {"af_mae": theirs})
        results.add(peers.FLOOR, peers.EVERYBODY, seed, {"af_mae": 0.1, "membership_auc": 0.5})
    judged = peers.compare(results.long(), peers.EVERYBODY)
    assert judged.to_dict("records") == [
        {"metric": "af_mae", "label": "allele-frequency MAE", "verdict": "better", "agree": 2, "seeds": 3}
    ]


@pytest.mark.usefixtures("light")
def test_rows_are_metrics_of_the_evaluation(tmp_path: Path) -> None:
    genomes = peers.read_genomes(write(tmp_path))
    halves = [genomes.real.select(samples=np.arange(k, 60, 2)) for k in (0, 1)]
    found = set(evaluate(genomes.drawn("RBM", 30, seed=1), train=halves[0], holdout=halves[1])["metric"])
    assert {row.metric for row in peers.ROWS} <= found
    assert found >= peers._NEEDS_PEOPLE | peers._NEEDS_UNSEEN


@pytest.mark.usefixtures("light")
def test_the_page_is_made_once_and_again_from_what_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npz, out = write(tmp_path), tmp_path / "out"
    page = peers.reproduce(out, npz=npz, seeds=1, device="cpu")
    text = page.read_text()
    assert tree(out) >= {f"artificial-genomes.{kind}" for kind in ("md", "csv", "seeds.csv", "png")}
    assert str(tmp_path) not in text
    assert "genodiff reproduce artificial-genomes genomes.npz --budget quick --seeds 1" in text

    frame = pd.read_csv(out / "artificial-genomes.csv")
    value = frame.set_index(["against", "method", "metric"])["mean"].sort_index()
    for setting in (peers.EVERYBODY, peers.HALF):
        # Of the published sets both settings say the same, and nothing that needs people or the unseen.
        for name in ("GAN", "RBM"):
            assert value[setting, name, "c2st_auc"] == value["half", name, "c2st_auc"]
            assert not {"f_is", "membership_auc", "privacy_loss", "seconds"} & set(value[setting, name].index)
        assert value[setting, "independent sites", "near_pair_r2_ratio"] < 0.8
        assert value[setting, "bootstrap", "exact_copies"] > value[setting, "RBM", "exact_copies"]
        assert value[setting, "genodiff", "seconds"] == 1.5
        assert value[setting, "genodiff", "peak_memory_mb"] == 300
        assert peers.FLOOR in value[setting].index
    # Only people who were not learned from can be told from those who were.
    assert "membership_auc" not in value[peers.EVERYBODY, "genodiff"].index
    assert value[peers.HALF, "bootstrap", "membership_auc"] > 0.5
    assert value[peers.EVERYBODY, "genodiff", "c2st_auc"] != value[peers.HALF, "genodiff", "c2st_auc"]
    assert f"| {number(float(value[peers.HALF, 'RBM', 'c2st_auc']))} |" in text

    judged = peers.compare(pd.read_csv(out / "artificial-genomes.seeds.csv"), peers.HALF)
    won = int((judged["verdict"] == "better").sum())
    assert f"genodiff is better than the RBM on {won} of {len(judged)} rows" in text
    assert (judged["verdict"] != "better").sum() + won == len(judged)

    monkeypatch.setattr(peers, "measured", None)
    monkeypatch.setattr(peers, "evaluate", None)
    figure = (out / "artificial-genomes.png").read_bytes()
    assert peers.reproduce(out, npz=npz, seeds=1, device="cpu").read_text() == text
    assert (out / "artificial-genomes.png").read_bytes() == figure


@pytest.mark.usefixtures("light")
def test_other_alleles_are_not_taken_for_remembered_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runner(npz: Path) -> peers._Runner:
        return peers._Runner(peers.read_genomes(npz), peers.Cache(tmp_path / "cache"), TINY, "cpu", False)

    made = runner(write(tmp_path)).outcome("RBM", peers.HALF, seed=1)
    again = runner(write(tmp_path)).outcome("RBM", peers.EVERYBODY, seed=1)
    assert [repr(row[2]) for row in again.rows] == [repr(row[2]) for row in made.rows]
    assert {row[1] for row in again.rows} == {peers.EVERYBODY}
    content = arrays()
    content["rbm"] = content["rbm"][::-1].copy()
    monkeypatch.setattr(peers, "evaluate", lambda *_, **__: (_ for _ in ()).throw(InputError("made anew")))
    with pytest.raises(InputError, match="made anew"):
        runner(write(tmp_path, content)).outcome("RBM", peers.HALF, seed=1)
