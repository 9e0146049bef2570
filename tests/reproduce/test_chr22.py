"""Table 3 and Figure 2: who is held out, which sites are drawn, the figure and the page."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from genodiff.genotypes import config
from genodiff.reproduce import chr22
from genodiff.reproduce.heatmaps import covariance_figure
from genodiff.reproduce.page import save_figure
from genodiff.reproduce.runs import W2_SITES
from genodiff.reproduce.tables import verdicts
from tests.commands import People
from tests.genotypes.tables import SMALL

TINY = chr22.Design(sites=40, zoom=15, claim_sites=12, claim_people=30)
PEOPLE = People(n=60, sites=80)


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config.PRESETS, "fast", replace(SMALL, training=replace(SMALL.training, steps=5)))


@pytest.fixture
def vcf(tmp_path: Path) -> Path:
    return PEOPLE.write(tmp_path)


def panel_of(folder: Path, splits: list[str] | None) -> Path:
    """A panel with labels and, if given, a column split, cycled through."""
    path = folder / "panel.tsv"
    rows = ["sample\tpop" + ("\tsplit" if splits else "")]
    for i, name in enumerate(PEOPLE.names):
        rows.append(f"{name}\t{'AB'[i % 2]}" + (f"\t{splits[i % len(splits)]}" if splits else ""))
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_embedded_example_is_there_to_stand_in() -> None:
    assert chr22.EXAMPLE.exists()
    people = chr22.people_of(chr22.EXAMPLE, chr22.EXAMPLE.with_name("example.panel.tsv"), design=TINY)
    assert people.table.n_samples == 300
    assert people.train is None


def test_the_panel_says_whom_to_hold_out(tmp_path: Path, vcf: Path) -> None:
    people = chr22.people_of(vcf, panel_of(tmp_path, ["train", "train", "Test"]), design=TINY)
    assert people.train is not None
    for seed in (1, 2):
        problem = chr22.problem_of(people, design=TINY, seed=seed)
        assert list(problem.train.samples.index) == [n for i, n in enumerate(PEOPLE.names) if i % 3 < 2]
        assert problem.references["test"].shape == (20, 40)
    assert set(people.table.labels if people.table.labels is not None else []) == {"A", "B"}


@pytest.mark.parametrize("with_panel", [False, True])
def test_without_such_a_column_a_quarter_is_drawn(tmp_path: Path, vcf: Path, with_panel: bool) -> None:
    people = chr22.people_of(vcf, panel_of(tmp_path, None) if with_panel else None, design=TINY)
    assert people.train is None
    one, other = (chr22.problem_of(people, design=TINY, seed=seed) for seed in (1, 2))
    assert one.train.n_samples == other.train.n_samples == 45
    assert list(one.train.samples.index) != list(other.train.samples.index)
    again = chr22.problem_of(people, design=TINY, seed=1)
    assert again.digest() == one.digest() != other.digest()


@pytest.mark.parametrize(("splits", "word"), [(["train", "dev"], "'dev'"), (["train"], "one side")])
def test_a_split_that_cannot_be_used_is_refused(tmp_path: Path, vcf: Path, splits: list[str], word: str) -> None:
    with pytest.raises(InputError, match=word) as refusal:
        chr22.people_of(vcf, panel_of(tmp_path, splits), design=TINY)
    assert "panel.tsv" in str(refusal.value)


def test_too_few_people_or_sites_are_refused(tmp_path: Path, vcf: Path) -> None:
    people = chr22.people_of(vcf, None, design=TINY)
    for size, words in (
        (2, "^2 people are too few: at least 20 to learn from and 2 held out"),
        (24, "^18 people to learn from and 6 held out are too few: at least 20 and 2"),
    ):
        few = replace(people, table=people.table.select(samples=np.arange(size)))
        with pytest.raises(InputError, match=words):
            chr22.problem_of(few, design=TINY, seed=1)
    one_held_out = replace(people, train=np.arange(60) > 0)
    with pytest.raises(InputError, match=r"^59 people to learn from and 1 held out are too few"):
        chr22.problem_of(one_held_out, design=TINY, seed=1)
    one_site = replace(people, table=people.table.select(variants=[0]))
    with pytest.raises(InputError, match=r"^too few sites where .*: 1, at least 2 are needed$"):
        chr22.problem_of(one_site, design=TINY, seed=1)
    least = replace(people, table=people.table.select(samples=np.arange(27), variants=[0, 1]))
    assert chr22.problem_of(least, design=TINY, seed=1).train.n_samples == 20


def test_sites_are_drawn_in_order_and_with_everybody_called(tmp_path: Path) -> None:
    vcf = replace(PEOPLE, missing=0.005).write(tmp_path)
    everything = chr22.people_of(vcf, None, design=TINY)
    assert 20 < everything.table.n_variants < 80
    assert everything.table.missing_rate().max() == 0
    fewer = replace(TINY, sites=10)
    one, other = (chr22.problem_of(everything, design=fewer, seed=seed) for seed in (1, 2))
    for problem in (one, other):
        position = problem.train.sites["position"].to_numpy()
        assert len(position) == 10
        assert (np.diff(position) > 0).all()
    assert list(one.train.site_keys) != list(other.train.site_keys)
    # A file with fewer sites than are asked for gives all it has.
    all_sites = chr22.problem_of(everything, design=replace(TINY, sites=500), seed=1)
    assert all_sites.train.n_variants == everything.table.n_variants


def test_targets_are_half_the_printed_errors_and_nearly_the_floor() -> None:
    floor = {"mean_error": 0.02, "sd_error": 0.03, "cov_frobenius": 20.0, "corr_frobenius": 90.0, W2_SITES: 0.1}
    reached = {"mean_error": 0.022, "sd_error": 0.04, "cov_frobenius": 22.0, "corr_frobenius": 110.0, W2_SITES: 0.11}
    rows = [(chr22.FLOOR, "test", m, v) for m, v in floor.items()]
    rows += [("genodiff", "test", m, v) for m, v in reached.items()]
    frame = pd.DataFrame(rows, columns=["method", "against", "metric", "mean"])
    checks = verdicts(frame, chr22.targets(frame))
    assert [(c.metric, round(c.limit, 4), c.met) for c in checks] == [
        ("mean_error", 0.04, True), ("sd_error", 0.09, True), ("cov_frobenius", 33.495, True), (W2_SITES, 0.12, True),
        ("mean_error", 0.023, True), ("sd_error", 0.0345, False), ("cov_frobenius", 23.0, True),
        (W2_SITES, 0.115, True), ("corr_frobenius", 103.5, False),
    ]  # fmt: skip


def test_the_figure_shows_all_on_one_scale_and_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shared = rng.integers(0, 2, size=(300, 40))
    real = (shared + rng.integers(0, 2, size=(300, 40))).astype(np.int8)
    figure = covariance_figure({"real": real, "drawn": np.ascontiguousarray(real[::-1])}, zoom=15)
    panels = [ax for ax in figure.axes if ax.get_images()]
    assert len(panels) == 4
    limits = {ax.get_images()[0].get_clim() for ax in panels}
    (low, high) = limits.pop()
    assert not limits
    assert low == -high
    shapes = [np.shape(ax.get_images()[0].get_array()) for ax in panels]
    assert shapes == [(40, 40), (40, 40), (15, 15), (15, 15)]
    first = np.asarray(panels[0].get_images()[0].get_array())
    np.testing.assert_allclose(first, np.cov(real, rowvar=False), atol=1e-5)
    content = save_figure(figure, tmp_path / "f.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert width > height > 300
    assert len(content) < 200_000


def test_a_figure_of_constant_sites_has_a_scale() -> None:
    covariance_figure({"real": np.zeros((10, 6), dtype=np.int8), "drawn": np.ones((10, 6), dtype=np.int8)}, zoom=4)


@pytest.mark.usefixtures("small_preset")
def test_the_page_names_files_without_folders(tmp_path: Path, vcf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genodiff.reproduce.real_claims.HORIZONS", (0.5, 2.0))
    panel = panel_of(tmp_path, ["train", "train", "test"])
    names = ("isotropic-tuned", "genodiff", "bootstrap")
    out = tmp_path / "out"
    page = chr22.reproduce(out, vcf=vcf, panel=panel, seeds=2, device="cpu", design=TINY, methods=names)
    text = page.read_text()
    for word in (*names, chr22.FLOOR, "gou-chr22 people.vcf --panel panel.tsv --budget quick --seeds 2", "0.24"):
        assert word in text
    assert str(tmp_path) not in text
    assert (out / "gou-chr22.covariance.png").stat().st_size < 500_000
    assert "gou-chr22.covariance.png" in text
    for kind in ("initialisation", "correlation", "modes"):
        assert f"gou-chr22.{kind}.png" in text
        assert (out / f"gou-chr22.{kind}.png").exists()
    errors = pd.read_csv(out / "gou-chr22.initialisation.csv")
    assert set(errors["covariance"]) == {"noise", "within", "total", "stationary"}
    assert (errors.loc[errors["covariance"] == "noise", "w2_marginals"] >= 0).all()
    frame = pd.read_csv(out / "gou-chr22.csv")
    value = frame.set_index(["method", "against", "metric"])["mean"]
    assert value["bootstrap", "train", "cov_frobenius"] < value["bootstrap", "test", "cov_frobenius"] * 1.5
    before = (out / "gou-chr22.covariance.png").read_bytes()
    again = chr22.reproduce(out, vcf=vcf, panel=panel, seeds=2, device="cpu", design=TINY, methods=names)
    assert again.read_text() == text
    assert (out / "gou-chr22.covariance.png").read_bytes() == before
