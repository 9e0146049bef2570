"""Bits per dimension of images under a model with a probability flow.

Pixels are whole numbers; a density is compared with them after uniform noise of the width of a level is added
(dequantisation; Theis et al. 2016), which bounds the bits of the discrete image from above in the mean:

    bits = −log2 p(y)/d + log2 127.5,    y = (k + u − ½)/127.5 − 1,  u uniform on [0, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genodiff.core.likelihood import flow_likelihood, position_likelihood
from imaging.datasets import LEVEL, Images
from imaging.files import Output
from imaging.fp import EARLIEST, FlexibleModel
from imaging.runs import Source, facts

__all__ = ["Bits", "bits_per_dimension", "evaluate_likelihood"]


@dataclass(frozen=True)
class Bits:
    """Bits per dimension of every image.

    Attributes:
        each: (n,).
        evaluations: of the right-hand side of the flow for each batch.
        bound: whether they are an upper bound of the bits.
    """

    each: NDArray[np.float64]
    evaluations: tuple[int, ...]
    bound: bool = False

    def table(self) -> pd.DataFrame:
        """One row: metric, value, its standard error over images, n."""
        n = len(self.each)
        error = float(self.each.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        metric = "bits per dimension" + " (bound)" * self.bound
        return pd.DataFrame([{"metric": metric, "value": self.each.mean(), "se": error, "n": n}])


def bits_per_dimension(
    model: FlexibleModel,
    images: Images,
    *,
    seed: int,
    batch: int = 100,
    tolerance: float = 1e-4,
    progress: bool = False,
) -> Bits:
    """Bits per dimension by the instantaneous change of variables, with one Hutchinson probe an image.

    The density is that of the model at ε, of the image itself. Of ``cld``, whose density is of image and velocity, what
    is given is a bound: E_v[−log p(x, v)] − H(v).

    Args:
        model: a trained model.
        images: of the size of the model.
        seed: of the noise of dequantisation, of the probes and of velocities.
        batch: images that one solution of the flow carries.
        tolerance: relative and absolute, of the adaptive solver.
        progress: show a bar.
    """
    from tqdm import tqdm

    generator = torch.Generator().manual_seed(seed)
    d, variance = model.design.dim, model.moments[1]
    measure = position_likelihood if model.design.process == "cld" else flow_likelihood
    found, evaluations = [], []
    for start in tqdm(range(0, len(images), batch), desc="bits", unit="batch", disable=not progress):
        rows = model.standardised(images.values(slice(start, start + batch)))
        solved = measure(
            model.denoiser, model.dequantised(rows, generator=generator), epsilon=EARLIEST, rtol=tolerance,
            atol=tolerance, generator=generator,
        )  # fmt: skip
        evaluations.append(solved.evaluations)
        nats = solved.nats - 0.5 * d * math.log(variance)
        found.append(-nats.numpy() / (d * math.log(2)) - math.log2(LEVEL))
    return Bits(np.concatenate(found).astype(np.float64), tuple(evaluations), model.design.process == "cld")


def evaluate_likelihood(
    folder: Path,
    output: Path,
    *,
    n: int = 1000,
    path: Path | None = None,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> str:
    """Bits per dimension of test images under a model folder; writes ``metrics.csv`` and ``bits.csv``, returns a table.

    Args:
        folder: from ``train`` with a process that has a likelihood.
        output: folder for the tables.
        n: test images, drawn at random; all if there are fewer.
        path: of the data, if not where their Debian package puts them.
        seed: of the choice of images and of all noise.
        force: replace what is there.
        progress: show a bar.

    Raises:
        ImagingError: the model has no likelihood.
    """
    with Output(output, force=force) as place:
        model = FlexibleModel.load(folder)
        test = Source(model.source["name"], path, model.source["size"]).load().test
        chosen = np.sort(np.random.default_rng(seed).permutation(len(test))[:n])
        bits = bits_per_dimension(model, test.select(chosen), seed=seed, progress=progress)
        table = bits.table()
        table.to_csv(place.path / "metrics.csv", index=False)
        pd.DataFrame({"image": chosen, "bits": bits.each}).to_csv(place.path / "bits.csv", index=False)
        place.finish(facts(
            command="evaluate --likelihood", model=folder, images=len(chosen), seed=seed, evaluations=bits.evaluations
        ))  # fmt: skip
    return table.to_string(index=False, float_format=lambda v: f"{v:.4f}")
