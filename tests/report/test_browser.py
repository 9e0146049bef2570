"""The page in a real browser, where there is one: it loads without an error, shows every image, fits a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Written

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

# Flags that keep the browser off the network, and its console on stderr.
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
_FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
_FLAGS += ["--enable-logging=stderr", "--v=0"]

_PROBE = """
<script>
window.addEventListener("load", () => {
  const wide = document.documentElement;
  const images = [...document.images].map(i => ({complete: i.complete, natural: i.naturalWidth,
    shown: i.getBoundingClientRect().width, right: i.getBoundingClientRect().right}));
  const small = [...document.querySelectorAll("p, li, td, th, small, summary")]
    .filter(e => e.innerText && parseFloat(getComputedStyle(e).fontSize) < 12).length;
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify({scroll: wide.scrollWidth, client: wide.clientWidth, images, small,
    width: window.innerWidth});
  document.body.replaceChildren(out);
});
</script>
"""


def probe(page: Path, work: Path, *, width: int) -> tuple[dict[str, Any], str]:
    """Measure a copy of the page in a frame of the given width; the product itself holds no script.

    A headless window is never narrower than about 500 pixels, so a phone is an inner frame.
    """
    copy, outer = work / "page.html", work / "outer.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", _PROBE + "</body>"), encoding="utf-8")
    outer.write_text(
        f'<!DOCTYPE html><body><iframe src="page.html" width="{width}" height="900" style="border:0"></iframe><script>'
        'window.addEventListener("load", () => { const f = document.querySelector("iframe");'
        " const text = f.contentDocument.getElementById('probe').textContent;"
        " document.body.insertAdjacentHTML('beforeend', '<pre id=result></pre>');"
        " document.getElementById('result').textContent = text; });</script></body>"
    )
    assert BROWSER is not None
    command = [BROWSER, *_FLAGS, "--allow-file-access-from-files", f"--user-data-dir={work / 'profile'}"]
    command += ["--window-size=1400,1000", "--dump-dom", outer.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="result">(.*?)</pre>', run.stdout, re.DOTALL)
    assert found, run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads(found[1]), run.stderr


@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_loads_and_fits(written: Written, tmp_path: Path, width: int) -> None:
    found, log = probe(written.page, tmp_path, width=width)
    assert found["width"] == width
    assert "CONSOLE" not in log, log
    assert found["scroll"] <= found["client"]
    assert len(found["images"]) == len(list((written.page.parent / "figures").iterdir()))
    for image in found["images"]:
        assert image["complete"]
        assert image["natural"] > 600
        assert image["shown"] > 300
        assert image["right"] <= found["client"]
    assert found["small"] == 0
