"""Choice of ν and κ: ``python benchmarks/fields.py --data emoji vp-sde spde,8,.1 spde,2,.2``.

Every PROCESS[,ν,κ] is trained on 85 % of the training images, and what it draws is compared with the other 15 %; test
images are not touched. ``--latents`` does the same in latents of an autoencoder of the same images. Prints a line of
CSV for every model and sampler. ``--forward 1000`` trains nothing and times the process on so many images: the equation
simulated to its horizon in 132 steps, and x_t drawn from the frozen law. ``--at-ratios-of spde,8,.1`` trains and
samples what has no edges at the signal-to-noise ratios r²/(1 − r²), r the correlation of x_t with x_0, that the named
process has at equal steps: what the schedule alone does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from genodiff.core.fields import FieldDiffusion
from genodiff.core.processes import Diffusion
from imaging import denoising, spde
from imaging.autoencoder import train_autoencoder
from imaging.datasets import ImageSets
from imaging.denoising import train_field
from imaging.models import ImageModel
from imaging.reproduce.geometry import correlation
from imaging.reproduce.judge import Judge
from imaging.reproduce.spde import FULL
from imaging.runs import Source
from imaging.spde import EDGE, SMOOTHING, Field, FieldModel, equal_noise

_HELD_BACK, _SPLIT, _STEPS = 0.15, 101, 132


class Training(Source):
    """The training images of a source, of which some are held back."""

    def load(self) -> ImageSets:
        """Images to learn from and to choose by."""
        return super().load().train.split(_HELD_BACK, seed=_SPLIT)


def at_ratios_of(process: FieldDiffusion, rows: torch.Tensor, seed: int) -> Callable[..., torch.Tensor]:
    """What :func:`imaging.spde.equal_noise` would give, at the signal-to-noise ratios of another process."""

    def times(other: Diffusion, steps: int, *, first: float | None = None, last: float = 1e-3) -> torch.Tensor:
        draw, found = torch.Generator().manual_seed(seed), []
        assert first is None
        for t in equal_noise(process, steps, last=1e-3).float():
            r = correlation(process.noised(rows, t, generator=draw), rows).clamp(1e-3, 1 - 1e-7).double()
            found.append((1 - r.square()) / r.square())
        # Falling, whatever the draw of the noise, from that of the horizon.
        ratio = torch.stack(found).cummin(0).values * (1 - 1e-6 * torch.arange(steps + 1, dtype=torch.float64))
        end = torch.tensor(other.horizon, dtype=torch.float64)
        ratio = ratio.clamp_max(0.999 * float(other.noise_ratio(end, rate=-0.5)))
        result = other.time_of_noise(ratio, rate=-0.5)
        result[0] = end
        if last == 0:
            result[-1] = 0.0
        return result

    return times


def forward(source: Source, images: int, seed: int) -> None:
    """Times the forward process of an SPDE on training images, brought to mean 0 and variance 1."""
    values = source.load().train.values(slice(0, images))
    rows = ((values - values.mean()) / values.std()).flatten(1)
    channels, height, width = values.shape[1:]
    process = Field((channels, height, width), "spde").diffusion()
    assert isinstance(process, FieldDiffusion)
    draw = torch.Generator().manual_seed(seed)
    times = equal_noise(process, _STEPS, last=0.0).flip(0).float()
    for what, act in (
        ("simulated", lambda: process.simulate(rows, times, generator=draw)),
        ("frozen", lambda: process.noised(rows, times[_STEPS // 2], generator=draw)),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        x = act()
        spent = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{what}: {len(rows):,} images of {channels} × {height} × {width}, {spent[0]:.1f} s, {spent[1]:.1f} s of "
              f"processors, deviation {float(x.std()):.3f}")  # fmt: skip


def main() -> None:
    """Trains, draws, judges, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("process", nargs="*", metavar="PROCESS[,NU,KAPPA]")
    parser.add_argument("--at-ratios-of", metavar="PROCESS,NU,KAPPA")
    parser.add_argument("--forward", type=int, metavar="IMAGES")
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
    if given.forward is not None:
        forward(source, given.forward, given.seed)
        return
    if given.at_ratios_of is not None:
        named, nu, kappa = given.at_ratios_of.split(",")
        values = source.load().train.values(slice(0, 100))
        rows = ((values - values.mean()) / values.std()).flatten(1)
        channels, height, width = values.shape[1:]
        process = Field((channels, height, width), named, float(nu), float(kappa)).diffusion()
        assert isinstance(process, FieldDiffusion)
        # Only here times are another's: neither training nor sampling has an option for it.
        spde.equal_noise = denoising.equal_noise = at_ratios_of(process, rows, given.seed)
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
