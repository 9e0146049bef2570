"""What several tests of images share: one thread, and discs to learn from and be judged by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from imaging.features import FeatureNetwork, save_features
from imaging.runs import Source
from tests.imaging.images import disc_sets, discs


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Results to the bit do not depend on the machine's processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def disc_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A folder of 240 PNG files of 16 × 16 pixels."""
    folder = tmp_path_factory.mktemp("discs")
    for k, pixels in enumerate(discs(240, channels=3).pixels):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{k:03d}.png")
    return Source("folder", folder, 16)


@pytest.fixture(scope="module")
def disc_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of features that were never trained."""
    path = tmp_path_factory.mktemp("features") / "discs.safetensors"
    torch.manual_seed(0)
    network = FeatureNetwork((3, 16, 16), 2)
    sets = disc_sets(channels=3)
    network.balance(sets.train)
    save_features(network, path, sets=sets, accuracy=0.5, force=False)
    return path
