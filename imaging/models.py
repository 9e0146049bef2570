"""``ImageModel``: a trained image diffusion as a folder of weights (safetensors) and facts (JSON), without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from genodiff.core.knots import KnotSchedule, TransformedSchedule, karras_schedule
from genodiff.core.preconditioning import PreconditionedDenoiser
from genodiff.core.schedules import uniform_grid
from imaging.errors import ImagingError
from imaging.files import MARK, writing
from imaging.networks import UNet, UNetConfig
from imaging.toad import Toad, karras_grid

__all__ = ["Grid", "ImageModel"]

Grid = Literal["karras", "uniform"]

_WEIGHTS = "weights.safetensors"


def _clocked(schedule: KnotSchedule) -> TransformedSchedule:
    """A schedule with a clock that leaves it as it is, r(t) = t, to learn from."""
    knots = schedule.log_knots().detach().mean(0, keepdim=True)
    return TransformedSchedule(schedule, KnotSchedule(knots, horizon=schedule.horizon, gain=schedule.gain))


def _tuples(held: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where a configuration has tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in held.items()}


@dataclass
class ImageModel:
    """An image diffusion and what it was learned from.

    Attributes:
        toad: shape, subspaces and noise levels.
        network: size of the U-Net.
        denoiser: the posterior mean, with the process and its schedule.
        source: name and size of the data set.
        grid: the times of its sampler: ``karras``, those of EDM, or ``uniform`` in the time of its own schedule.
        learned: what was learned, in order: ``network``, ``schedule``, ``time``.
    """

    toad: Toad
    network: UNetConfig
    denoiser: PreconditionedDenoiser
    source: dict[str, Any]
    grid: Grid = "karras"
    learned: tuple[str, ...] = ()

    @classmethod
    def new(
        cls, toad: Toad, network: UNetConfig, *, moments: tuple[float, float], source: dict[str, Any], seed: int
    ) -> ImageModel:
        """An untrained model on the schedule of Karras et al., for data of a given mean and variance.

        Args:
            toad: shape, subspaces and noise levels.
            network: size of the U-Net.
            moments: mean and variance of the values of all pixels.
            source: name and size of the data set.
            seed: of the first weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet = UNet(toad.shape, network)
        mean, variance = moments
        centre = torch.full((unet.shape[0] * unet.shape[1] * unet.shape[2],), mean)
        return cls(toad, network, toad.denoiser(unet, variance=variance, centre=centre), source)

    @property
    def schedule(self) -> KnotSchedule:
        """g_j(t), without the clock if there is one."""
        held = self.denoiser.process.schedule
        found = held.schedule if isinstance(held, TransformedSchedule) else held
        assert isinstance(found, KnotSchedule)
        return found

    @property
    def clock(self) -> KnotSchedule | None:
        """g_w(t) of a learned time."""
        held = self.denoiser.process.schedule
        return held.clock if isinstance(held, TransformedSchedule) else None

    def on(self, toad: Toad, schedule: KnotSchedule) -> ImageModel:
        """The same network on another schedule; it is sampled in equal steps of that schedule's time."""
        denoiser = self.denoiser.on(toad.process(schedule))
        return ImageModel(toad, self.network, denoiser, self.source, "uniform", self.learned)

    def times(self, steps: int) -> Tensor:
        """The times a sampler of ``steps`` steps visits, (steps + 1,)."""
        process = self.denoiser.process
        return karras_grid(process, steps) if self.grid == "karras" else uniform_grid(process.horizon, steps)

    def facts(self) -> dict[str, Any]:
        """All that :meth:`load` must know beside the weights."""
        return {
            "toad": asdict(self.toad), "network": asdict(self.network), "grid": self.grid,
            "clock": self.clock is not None, "learned": self.learned, "data": self.source,
        }  # fmt: skip

    def save_weights(self, folder: Path) -> None:
        """Writes the weights into ``folder``."""
        from safetensors.torch import save_file

        tensors = {name: t.detach().cpu().contiguous() for name, t in self.denoiser.state_dict().items()}
        save_file(tensors, folder / _WEIGHTS)
        (folder / _WEIGHTS).chmod((folder / _WEIGHTS).stat().st_mode | 0o044)

    @classmethod
    def load(cls, folder: Path) -> ImageModel:
        """A model that ``train``, ``learn-schedule`` or ``learn-time`` wrote.

        Raises:
            ImagingError: the folder holds none, or its files do not fit.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for name in (MARK, _WEIGHTS):
            if not (folder / name).is_file():
                raise ImagingError(f"{folder} holds no {name}: give a model folder from train or learn-schedule")
        try:
            facts = json.loads((folder / MARK).read_text(encoding="utf-8"))["model"]
            return cls._made(facts, load_file(folder / _WEIGHTS))
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise ImagingError(f"{folder} holds no readable model ({what}): train it again") from error

    @classmethod
    def _made(cls, facts: dict[str, Any], tensors: dict[str, Tensor]) -> ImageModel:
        """A model of known facts and weights, ready to sample from."""
        toad, network = Toad(**_tuples(facts["toad"])), UNetConfig(**_tuples(facts["network"]))
        schedule = karras_schedule(
            toad.subspaces, knots=toad.knots, horizon=toad.highest,
            lowest=toad.lowest, highest=toad.highest, gain=toad.gain,
        )  # fmt: skip
        held = _clocked(schedule) if facts["clock"] else schedule
        denoiser = toad.denoiser(UNet(toad.shape, network), variance=1.0, schedule=held)
        denoiser.load_state_dict(tensors)
        denoiser.eval().requires_grad_(False)
        return cls(toad, network, denoiser, facts["data"], facts["grid"], tuple(facts["learned"]))

    def pack(self, path: Path, **said: Any) -> None:
        """Writes the model as one small file: the network in half precision, its schedule as it is.

        Args:
            path: the file, replaced if it is there.
            said: what else to keep in it, as JSON.
        """
        from safetensors.torch import save_file

        halved = {f"network.{name}" for name, _ in self.denoiser.network.named_parameters()}
        tensors = {
            name: (t.half() if name in halved else t).detach().cpu().contiguous()
            for name, t in self.denoiser.state_dict().items()
        }
        with writing(path, force=True) as temporary:
            save_file(tensors, temporary, metadata={"model": json.dumps({"model": self.facts(), **said})})

    @classmethod
    def unpack(cls, path: Path) -> tuple[ImageModel, dict[str, Any]]:
        """A model that :meth:`pack` wrote, and what else the file keeps.

        Raises:
            ImagingError: the file holds none.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as handle:
                facts = json.loads((handle.metadata() or {})["model"])
                tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a dict
            model = cls._made(facts.pop("model"), tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise ImagingError(f"{path} holds no readable model ({what}): train it again") from error
        return model, facts
