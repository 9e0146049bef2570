"""The page and its files: complete, self-contained, honest about odd data."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from genodiff.evaluation.suite import Evaluation
from genodiff.report import write_metrics_csv, write_report
from genodiff.report.glossary import FAMILIES, METRICS
from genodiff.report.verdict import TARGETS
from tests.report.conftest import Written, people


def test_every_target_is_measured_by_the_suite(written: Written) -> None:
    wanted = {t.metric for t in TARGETS} | {t.reference for t in TARGETS if t.reference}
    assert wanted <= set(written.evaluation.frame["metric"])


def test_every_metric_is_explained(written: Written) -> None:
    measured = written.evaluation.frame
    measured = measured[measured["family"] != "sites"]
    names = set(measured["metric"])
    said_beside_another = {m for m in names if m.endswith("_holdout") and m.removesuffix("_holdout") in names}
    assert names - said_beside_another <= METRICS.keys()
    assert set(measured["family"]) <= FAMILIES.keys()


def test_the_page_needs_nothing_from_outside(written: Written) -> None:
    html = written.page.read_text(encoding="utf-8")
    assert len(html) < 4_000_000
    assert not re.search(r"https?://", html)
    assert not re.search(r"<script|<link[^>]+stylesheet|@import|url\(", html)
    sources = re.findall(r'\bsrc="([^"]{0,40})', html)
    assert sources
    assert all(s.startswith("data:image/png;base64,") for s in sources)


def test_the_page_has_all_figures_with_alternatives(written: Written) -> None:
    html = written.page.read_text(encoding="utf-8")
    images = re.findall(r"<img [^>]+>", html)
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    files = {p.stem for p in (written.page.parent / "figures").iterdir()}
    assert len(files) == len(images)
    assert files == {
        "frequencies_synthetic",
        "frequencies_training",
        "ld_decay",
        "ld_window_1",
        "pca_1_2",
        "pca_3_4",
        "pca_labels_held-out",
        "pca_labels_synthetic",
        "covariance_held-out",
        "covariance_synthetic",
        "nearest_training",
        "nearest_synthetic",
        "copied_runs",
        "training",
    }
    for file in (written.page.parent / "figures").iterdir():
        with Image.open(file) as image:
            image.load()
            assert image.width > 600
    assert not list(written.page.parent.rglob(".*"))


def test_headings_verdict_and_data_are_there(written: Written) -> None:
    html = written.page.read_text(encoding="utf-8")
    assert html.count("<h1>") == 1
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings[:2] == ["Fidelity", "Privacy"]
    assert headings[-3:] == ["All metrics", "Data", "Provenance"]
    assert html.count('<li class="') == len(TARGETS)
    assert "160 of 175 records were kept of two words.vcf.gz." in html
    assert "minor-allele frequency below the threshold of 0.01" in html
    assert "genodiff synthesize &#39;two words.vcf.gz&#39;" in html


def test_what_the_user_named_is_escaped(written: Written) -> None:
    html = written.page.read_text(encoding="utf-8")
    assert "<b>A" not in html
    assert "&lt;b&gt;A" in html
    assert "<title>Synthetic genotypes &amp; more</title>" in html


def test_the_same_input_gives_the_same_page(written: Written, tmp_path: Path) -> None:
    again = write_report(
        tmp_path,
        evaluation=written.evaluation,
        **written.tables,
        history=written.history,
        provenance=written.provenance,
        title="Synthetic genotypes & more",
    )
    assert again.read_bytes() == written.page.read_bytes()


def test_no_global_state_of_matplotlib_is_touched(written: Written) -> None:
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_little_data_give_a_page_that_says_so(tmp_path: Path) -> None:
    """No labels, no phase, no curves, two sites, NaN metrics: everything that cannot be shown is left out."""
    tables = {
        name: people(6, sites=2, seed=seed, prefix=name, phased=False)
        for seed, name in enumerate(("synthetic", "train", "holdout"))
    }
    tables = {name: replace(t, samples=t.samples.drop(columns="label")) for name, t in tables.items()}
    frame = pd.DataFrame(
        [("frequencies", "af_mae", np.nan, np.nan, 0, ""), ("new family", "new_metric", 1.0, 0.0, 3, "x")],
        columns=["family", "metric", "value", "floor", "n", "unit"],
    )
    page = write_report(
        tmp_path, evaluation=Evaluation(frame), **tables, history=None, provenance={}, title="Little"
    ).read_text(encoding="utf-8")
    assert "Only 12 haplotypes were held out" in page
    assert "No check could be judged." in page
    assert "new metric" in page
    assert "New family" in page
    assert "genotypes" in page
    assert "People by label" not in page
    assert "Population structure" not in page


def test_tables_of_different_sites_are_compared_at_common_ones(tmp_path: Path, written: Written) -> None:
    tables = dict(written.tables)
    tables["synthetic"] = tables["synthetic"].select(variants=slice(20, None))
    evaluation = Evaluation(written.evaluation.frame)
    page = write_report(tmp_path, evaluation=evaluation, **tables, history=None, provenance={}, title="Other sites")
    assert (tmp_path / "figures" / "ld_window_1.png").exists()
    assert "Training</h2>" not in page.read_text(encoding="utf-8")


def test_metrics_are_written_as_they_are(written: Written, tmp_path: Path) -> None:
    path = write_metrics_csv(written.evaluation.frame, tmp_path / "deep" / "metrics.csv")
    pd.testing.assert_frame_equal(pd.read_csv(path), written.evaluation.frame)
    assert path.read_text().splitlines()[0] == "family,metric,value,floor,n,unit,low,high"


@pytest.mark.parametrize("n", [2, 8, 9, 26])
def test_labels_beyond_the_palette_share_a_colour(n: int) -> None:
    from genodiff.report.panels import _label_names
    from genodiff.report.style import LABELS

    labels = np.repeat([f"P{i:02d}" for i in range(n)], np.arange(n) + 1)
    names = _label_names(labels)
    assert len(names) <= len(LABELS)
    assert names == sorted(names)
    assert f"P{n - 1:02d}" in names
