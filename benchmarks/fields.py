"""Choice of ν and κ: ``python benchmarks/fields.py --data emoji vp-sde spde,8,.1 spde,2,.2``.

Every PROCESS[,ν,κ] is trained on 85 % of the training images, and what it draws is compared with the other 15 %; test
images are not touched. ``--latents`` does the same in latents of an autoencoder of the same images. Prints a line of
CSV for every model and sampler.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from imaging.autoencoder import train_autoencoder
from imaging.datasets import ImageSets
from imaging.denoising import train_field
from imaging.models import ImageModel
from imaging.reproduce.judge import Judge
from imaging.reproduce.spde import FULL
from imaging.runs import Source
from imaging.spde import EDGE, SMOOTHING, FieldModel

_HELD_BACK, _SPLIT = 0.15, 101


class Training(Source):
    """The training images of a source, of which some are held back."""

    def load(self) -> ImageSets:
        """Images to learn from and to choose by."""
        return super().load().train.split(_HELD_BACK, seed=_SPLIT)


def main() -> None:
    """Trains, draws, judges, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("process", nargs="+", metavar="PROCESS[,NU,KAPPA]")
    parser.add_argument("--data", default="emoji")
    parser.add_argument("--latents", action="store_true")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    alike = (t for t in FULL.tasks if t.source.name == given.data and (t.encoding is not None) == given.latents)
    task = next(alike, None)
    if task is None:
        parser.error(f"the page of spde has no {given.data}{' latents' * given.latents}")
    source = Training(given.data)
    judge = Judge(source, features=None, seed=_SPLIT)
    print("process,nu,kappa,sampler,metric,value,floor")
    with tempfile.TemporaryDirectory() as folder:
        encoder = None
        if task.encoding is not None:
            encoder = Path(folder) / "autoencoder"
            train_autoencoder(source, encoder, training=task.encoding, seed=given.seed)
        for said in given.process:
            process, *coefficients = said.split(",")
            nu, kappa = map(float, coefficients or (SMOOTHING, EDGE))
            path = Path(folder) / said
            train_field(
                source, path, process=process, smoothing=nu, edge=kappa, autoencoder=encoder, network=task.network,
                config=replace(task.training, steps=given.steps), seed=given.seed, precision=task.precision,
            )  # fmt: skip
            model = ImageModel.load(path)
            assert isinstance(model, FieldModel)
            for sampler in ("bridge", "flow"):
                model.sampler = sampler
                steps = FULL.calls // model.calls_a_step
                for found in judge.cell(model, given.samples, steps=steps, seed=given.seed):
                    cells = (process, nu, kappa, sampler, found["metric"], found["value"], found["floor"])
                    print(*cells, sep=",", flush=True)


if __name__ == "__main__":
    main()
