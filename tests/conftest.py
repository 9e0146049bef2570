"""What tests of whole commands share: a small model and one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Workers side by side (make test) have a processor each, not all of them each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The suite is the same every time it runs; GENODIFF_FUZZ=1 lets the property-based tests look further.
settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("GENODIFF_FUZZ"):
    settings.load_profile("repeatable")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``--preset fast`` is a model that is learned in about a second."""
    import torch

    from genodiff.genotypes import config
    from tests.commands import TINY

    monkeypatch.setitem(config.PRESETS, "fast", TINY)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of 40 labelled people; tests must not change it."""
    from genodiff.genotypes import config
    from tests.commands import TINY, TRAINING, People, succeed

    folder = tmp_path_factory.mktemp("fitted")
    people = People()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "fast", TINY)
        succeed("fit", people.write(folder), "--panel", people.panel(folder), "-o", folder / "model", *TRAINING)
    return folder / "model"
