"""Names of files, people, sites and labels that are HTML reach the pages as text: nothing in them runs."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.variants import VariantTable
from genodiff.evaluation.suite import Evaluation
from genodiff.report import write_report
from genodiff.utility.page import write_utility
from genodiff.utility.suite import Utility
from tests.report.conftest import Written
from tests.report.test_browser import _FLAGS, BROWSER

SCRIPT = '<script>document.title="owned"</script>'
IMAGE = '"><img src=x onerror=document.title="owned">'


@pytest.fixture
def page(written: Written, tmp_path: Path) -> Path:
    """The report of a run whose every name is hostile."""

    def hostile(table: VariantTable) -> VariantTable:
        names = [f"{SCRIPT if i % 2 else IMAGE}{name}" for i, name in enumerate(table.samples.index)]
        labels = [SCRIPT if i % 2 else IMAGE for i in range(len(names))]
        return replace(
            table,
            sites=table.sites.assign(contig=SCRIPT, id=IMAGE),
            samples=pd.DataFrame({"label": labels}, index=names),
            header=(f"##reference={SCRIPT}",),
        )

    tables = {name: hostile(table) for name, table in written.tables.items()}
    provenance = {**written.provenance, "command": ["genodiff", "synthesize", f"{SCRIPT}.vcf"], "genodiff": IMAGE}
    provenance["filters"] = {**provenance["filters"], "source": IMAGE, "removed": {SCRIPT: 3}}
    provenance["inputs"] = {SCRIPT: {"role": IMAGE}}
    frame = written.evaluation.frame
    extra = frame.iloc[:1].assign(family=SCRIPT, metric=IMAGE, unit=SCRIPT)
    evaluation = Evaluation(pd.concat([frame, extra], ignore_index=True), written.evaluation.curves)
    return write_report(
        tmp_path / "out", evaluation=evaluation, history=None, provenance=provenance,
        title=f"Synthetic genotypes of {SCRIPT}{IMAGE}", **tables,
    )  # fmt: skip


def test_a_hostile_file_runs_nothing(page: Path, tmp_path: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in html  # the labels are there, as text
    assert not re.search(r"<script|<img(?! src=\"data:image/png;base64,)", html, re.IGNORECASE)
    if BROWSER is None:
        pytest.skip("no Chromium on this machine; the text was checked")
    # Chromium is given a page that would be owned, too: a browser without scripts would prove nothing.
    control = tmp_path / "control.html"
    control.write_text(f"<title>safe</title>{SCRIPT}")
    titles = []
    for path in (control, page):
        command = [BROWSER, *_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        titles.append(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1])  # type: ignore[index]
    assert titles[0] == "owned"
    assert titles[1].startswith("Synthetic genotypes of ")
    assert titles[1] != "owned"


def test_hostile_names_are_text_in_the_page_of_utility(tmp_path: Path) -> None:
    metrics = pd.DataFrame(
        [["ancestry", "ancestry_accuracy", 0.9, 0.9, 10, "share", 0.8, 1.0], ["ancestry", "ancestry_auc", 0.9, 0.9, 10,
         "share", 0.8, 1.0]],
        columns=["family", "metric", "value", "floor", "n", "unit", "low", "high"],
    )  # fmt: skip
    labels = pd.DataFrame({"label": [SCRIPT], "people": [10], "synthetic": [0.9], "real": [np.nan]})
    utility = Utility(metrics, {"ancestry": labels}, {"imputation": f"{IMAGE} is absent"})
    written = write_utility(utility, tmp_path, title=f"Utility of {SCRIPT}", people=[f"T: {IMAGE}"])
    text = written.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text
    assert not re.search(r"<script|<img", text)
