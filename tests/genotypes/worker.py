"""One of the workers under ``torchrun`` that fit a model together: ``-m tests.genotypes.worker FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from genodiff.core.training import Workers
from genodiff.genotypes.model import GenotypeModel
from tests.genotypes.tables import coalescent, small

CROPPED = small(crop_sites=96, rare=0.0, training={"steps": 6, "validate_every": 3, "patience": 100})
"""Crops, two validations and an average, in a second."""


def fitted(workers: Workers | None = None) -> GenotypeModel:
    return GenotypeModel(CROPPED).fit(coalescent(40, 200), seed=4, device="cpu", workers=workers)


if __name__ == "__main__":
    torch.set_num_threads(1)
    workers = Workers.connect(torch.device("cpu"))
    model = fitted(workers)
    torch.save(
        {"weights": model.engine.network.state_dict(), "history": model.result.history, "world": workers.world},
        Path(sys.argv[1]) / f"rank{workers.rank}.pt",
    )
    torch.distributed.destroy_process_group()
