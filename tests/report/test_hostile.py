"""Names of files, people, sites and labels that are HTML reach the pages as text: nothing in them runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genodiff.utility.page import write_utility
from genodiff.utility.suite import Utility
from tests.commands import TRAINING, People, run
from tests.report.test_browser import _FLAGS, BROWSER

SCRIPT = '<script>document.title="owned"</script>'
IMAGE = '"><img src=x onerror=document.title="owned">'


@pytest.fixture
def page(tmp_path: Path, tiny: None) -> Path:
    """The report of a run whose every name is hostile."""
    people = People()
    text = people.text().replace("##reference=test", f"##reference={SCRIPT}")
    for i, name in enumerate(people.names):
        text = text.replace(name, f"{SCRIPT if i % 2 else IMAGE}{i}")
    text = re.sub(r"\trs(\d+)\t", lambda m: f"\t<img/src=x/onerror=document.title='owned'/id={m[1]}>\t", text)
    source, panel = tmp_path / "<img src=x onerror=document.title='owned'>.vcf", tmp_path / f"{IMAGE}.tsv"
    source.write_text(text)
    rows = [f"{SCRIPT if i % 2 else IMAGE}{i}\t{SCRIPT if i % 4 < 2 else IMAGE}" for i in range(people.n)]
    panel.write_text("\n".join(["sample\tpop", *rows]) + "\n")
    result = run("synthesize", source, "--panel", panel, "-o", tmp_path / "out", *TRAINING)
    assert result.exit_code == 0, result.stderr
    return tmp_path / "out" / "report.html"


def test_a_hostile_file_runs_nothing(page: Path, tmp_path: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in html  # the labels are there, as text
    assert not re.search(r"<script|<img(?! src=\"data:image/png;base64,)", html)
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
