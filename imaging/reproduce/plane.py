"""Section 4.1 of the FP-Diffusion paper: a Gaussian on the plane z = 2 of three dimensions, and how points reach it.

Data are N(0, diag(w²)) in x and y, and z = 2. Where w = 1 the optimal map from N(0, I) to the data is the projection
along z, so that the field of generation should be vertical (eq. 20); which way it points is not judged, for points pass
through the plane and come back where the mean of the process is still on its way. With w ≠ 1 points have to move within
the plane too, and what is vertical is a matter of degree.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genodiff.core.evidence import Evidence, evidence_grid
from genodiff.core.flexible import FlexibleDiffusion, dense_flexible
from genodiff.core.losses import VectorProblem
from genodiff.core.networks import MLP
from genodiff.core.samplers import HeunODE
from genodiff.core.scores import FlexibleDenoiser
from genodiff.core.training import TrainingConfig, train
from imaging.reproduce.parts import new_figure, save_figure
from imaging.reproduce.stages import Stages

__all__ = [
    "FULL",
    "QUICK",
    "ROWS",
    "Measured",
    "Settings",
    "angles",
    "draw",
    "exact_velocity",
    "learn",
    "measure",
    "points",
]

HEIGHT = 2.0
"""z of the plane."""

_EARLIEST = 1e-3
_SEEN = (0.1, 0.2, 0.3, 0.5)
"""Times at which angles are taken."""

_SHOWN, _DRAWN = 0.2, 12

ROWS = {"VP": (False, False), "free FP": (True, False), "regularised FP": (True, True)}
"""Whether the process of a row is learned, and whether it is regularised."""


@dataclass(frozen=True)
class Settings:
    """Size of the experiment.

    Attributes:
        training: of network and process together.
        widths: w, standard deviations of the data within the plane.
        points: learned from, and judged by, each.
        kinetic: λ1, of ∫‖v‖².
        jacobian: λ2, of ∫‖∇v‖².
        layers: width and depth of the network.
        steps: of the sampler.
    """

    training: TrainingConfig
    widths: tuple[float, ...] = (1.0, 0.5)
    points: int = 2000
    kinetic: float = 0.1
    jacobian: float = 0.01
    layers: tuple[int, int] = (64, 3)
    steps: int = 50


FULL = Settings(TrainingConfig(steps=1500, batch=256, learning_rate=2e-3, weight_decay=0.0, validate_every=500))
QUICK = Settings(
    TrainingConfig(steps=150, batch=128, learning_rate=3e-3, weight_decay=0.0, validate_every=75), points=500
)


@dataclass(frozen=True)
class Measured:
    """What is found.

    Attributes:
        table: columns width, row, seed, angle (degrees, of the learned field), exact (of the exact score of the learned
            process), path (length over that of its chord, of the learned field).
        shown: of the first seed, by width and row: ``field``, lines x, z, v_x, v_z; ``paths``, (paths, times, 3).
    """

    table: pd.DataFrame
    shown: dict[tuple[float, str], dict[str, Any]]


def points(n: int, width: float, *, generator: torch.Generator) -> Tensor:
    """Data (n, 3)."""
    flat = width * torch.randn(n, 2, generator=generator)
    return torch.cat([flat, torch.full((n, 1), HEIGHT)], dim=1)


def _untrained(row: str, settings: Settings, seed: int) -> FlexibleDenoiser:
    learned, _ = ROWS[row]
    process = dense_flexible(3, learn=("spectrum", "rotation", "drift") if learned else ())
    width, depth = settings.layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FlexibleDenoiser(process, MLP(3, width=width, depth=depth))


def learn(row: str, width: float, settings: Settings, *, seed: int, progress: bool = False) -> FlexibleDenoiser:
    """A score network on the process of a row, with that process.

    Args:
        row: of :data:`ROWS`.
        width: w.
        settings: of the experiment.
        seed: of data, weights and noise.
        progress: show a bar.
    """
    denoiser = _untrained(row, settings, seed)
    process = denoiser.process
    generator = torch.Generator().manual_seed(seed)
    rows, held_out = (points(settings.points, width, generator=generator) for _ in range(2))

    kept = (settings.kinetic, settings.jacobian) if ROWS[row][1] else (0.0, 0.0)
    objective = Evidence(evidence_grid(process, epsilon=_EARLIEST), *kept)
    problem = VectorProblem(
        denoiser, rows, held_out, grid=objective.grid, batch=settings.training.batch,
        seed=seed, repeats=2, objective=objective,
    )  # fmt: skip
    train(denoiser, problem, settings.training, seed=seed, progress=progress)
    return denoiser.eval().requires_grad_(False)


def exact_velocity(denoiser: FlexibleDenoiser, x: Tensor, t: Tensor, *, width: float) -> Tensor:
    """The probability flow of the process of ``denoiser`` at the exact score of the Gaussian on the plane, (B, 3)."""
    process = denoiser.process
    assert isinstance(process, FlexibleDiffusion)
    law = process.transition(torch.zeros_like(t), t)
    phi, noise = law.phi.squeeze(-3), law.covariance.squeeze(-3)
    spread = torch.diag(torch.tensor([width**2, width**2, 0.0]))
    residual = x - phi @ torch.tensor([0.0, 0.0, HEIGHT])
    score = -torch.linalg.solve(phi @ spread @ phi.mT + noise, residual.unsqueeze(-1)).squeeze(-1)
    return process.drift(x, t) - 0.5 * process.diffused(score, t)


def angles(v: Tensor) -> Tensor:
    """Degrees between velocities and the vertical, up or down, in [0, 90], (B,); no number where nothing moves."""
    found = torch.atan2(v[:, :2].norm(dim=-1), v[:, 2].abs()).rad2deg()
    return found.where((v != 0).any(dim=-1), torch.nan)


def _paths(denoiser: FlexibleDenoiser, n: int, steps: int, *, seed: int) -> Tensor:
    """States along the probability flow from N(0, I) to ε, (steps + 1, n, 3)."""
    process = denoiser.process
    assert isinstance(process, FlexibleDiffusion)
    grid = process.noise_grid(steps, last=_EARLIEST).float()
    rule, x = HeunODE(denoiser), process.start(n, generator=torch.Generator().manual_seed(seed))
    seen = [x]
    for t, s in itertools.pairwise(grid):
        seen.append(rule.step(seen[-1], t, s))
    return torch.stack(seen)


@torch.no_grad()
def _measured(row: str, width: float, settings: Settings, seed: int) -> dict[str, Any]:
    with torch.enable_grad():
        denoiser = learn(row, width, settings, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    learned, exact = [], []
    for time in _SEEN:
        t = torch.tensor(time)
        law = denoiser.process.transition(torch.zeros_like(t), t)
        x, _ = law.sample(points(settings.points, width, generator=generator), generator=generator)
        learned.append(float(angles(denoiser.velocity(x, t)).mean()))
        exact.append(float(angles(exact_velocity(denoiser, x, t, width=width)).mean()))
    paths = _paths(denoiser, settings.points, settings.steps, seed=seed)
    length = paths.diff(dim=0).norm(dim=-1).sum(0) / (paths[-1] - paths[0]).norm(dim=-1)
    side = torch.linspace(-2.5, 2.5, 13)
    x, z = torch.meshgrid(side, side + HEIGHT / 2, indexing="xy")
    at = torch.stack([x.flatten(), torch.zeros(x.numel()), z.flatten()], dim=1)
    v = -denoiser.velocity(at, torch.tensor(_SHOWN))
    return {
        "angle": float(np.mean(learned)), "exact": float(np.mean(exact)), "path": float(length.mean()),
        "field": torch.cat([at[:, ::2], v[:, ::2]], dim=1).tolist(),
        "paths": paths[:, :_DRAWN].transpose(0, 1).tolist(),
    }  # fmt: skip


def measure(settings: Settings, stages: Stages, *, seed: int, seeds: int, progress: bool = False) -> Measured:
    """Learns and measures every row for every width and seed; what ``stages`` holds is not done again."""
    from tqdm import tqdm

    cells = list(itertools.product(settings.widths, range(seed, seed + seeds), ROWS))
    lines, shown = [], {}
    for width, number, row in tqdm(cells, desc="plane", disable=not progress, dynamic_ncols=True):
        found = stages.value_of(
            "plane", partial(_measured, row, width, settings, number), row=row, width=width, seed=number,
            settings=asdict(settings), torch=torch.__version__,
        )  # fmt: skip
        lines.append({"width": width, "row": row, "seed": number, **{k: found[k] for k in ("angle", "exact", "path")}})
        if number == seed:
            shown[width, row] = found
    return Measured(pd.DataFrame(lines), shown)


def draw(measured: Measured, output: Path) -> None:
    """Writes ``fp-plane-fields.png`` (figure 2) and ``fp-plane-paths.png`` (figure 5): a line of panels a width."""
    widths = list(dict.fromkeys(width for width, _ in measured.shown))
    fields = new_figure(9.0, 3.2 * len(widths))
    paths = new_figure(9.0, 3.2 * len(widths))
    flat = fields.subplots(len(widths), len(ROWS), squeeze=False, sharex=True, sharey=True)
    deep = paths.subplots(len(widths), len(ROWS), squeeze=False, subplot_kw={"projection": "3d"})
    for (width, row), found in measured.shown.items():
        i, j = widths.index(width), list(ROWS).index(row)
        x, z, v_x, v_z = np.array(found["field"]).T
        size = np.hypot(v_x, v_z).clip(1e-9)
        axes = flat[i, j]
        axes.quiver(x, z, v_x / size, v_z / size, size, cmap="viridis", pivot="mid")
        axes.axhline(HEIGHT, color="black", linewidth=0.8)
        axes.set(title=f"{row}, w = {width:g}", xlabel="x", ylabel="z")
        for line in np.array(found["paths"]):
            deep[i, j].plot(*line.T, linewidth=1.0)
            deep[i, j].scatter(*line[-1], s=8, color="black")
        deep[i, j].set(title=f"{row}, w = {width:g}", xlabel="x", ylabel="y", zlabel="z")
    save_figure(fields, output / "fp-plane-fields.png")
    save_figure(paths, output / "fp-plane-paths.png")
