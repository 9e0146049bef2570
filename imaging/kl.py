"""A user's ``AutoencoderKL`` as a latent space; the package diffusers, which reads it, is optional."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imaging.autoencoder import LatentSpace, digest_of
from imaging.errors import ImagingError

__all__ = ["load_autoencoder_kl"]

_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


class _KL(LatentSpace):
    """An ``AutoencoderKL`` of diffusers; latents are the means of its posterior, scaled as its folder says."""

    def __init__(self, model: Any, *, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.model, self.shape = model, shape
        held = model.config
        self.inputs = int(held.in_channels)
        by_channel = held.latents_mean is not None and held.latents_std is not None
        shift = held.latents_mean if by_channel else held.shift_factor or 0.0
        scale = torch.tensor(held.latents_std if by_channel else 1.0) / held.scaling_factor
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1))
        self.register_buffer("scale", scale.view(-1, 1, 1))
        step = 2 ** (len(held.block_out_channels) - 1)
        if shape[1] % step or shape[2] % step:
            raise ValueError(f"height {shape[1]} and width {shape[2]} must be multiples of {step}")
        self.latent_shape = (int(held.latent_channels), shape[1] // step, shape[2] // step)

    def encode(self, values: Tensor) -> Tensor:
        """(mean of the posterior − shift) / scale; a grey image goes in as a coloured one."""
        mean = self.model.encode(values.expand(-1, self.inputs, -1, -1)).latent_dist.mean
        return (mean - self.get_buffer("shift")) / self.get_buffer("scale")

    def decode(self, latents: Tensor) -> Tensor:
        """Of grey images the mean of the colours that come out."""
        values = self.model.decode(latents * self.get_buffer("scale") + self.get_buffer("shift")).sample
        return values.mean(1, keepdim=True) if self.shape[0] < self.inputs else values


def load_autoencoder_kl(folder: Path, *, shape: tuple[int, int, int] | None = None) -> LatentSpace:
    """An ``AutoencoderKL`` as diffusers saves it: ``config.json`` and ``diffusion_pytorch_model.safetensors``.

    Its latents are (z − shift_factor) · scaling_factor, or (z − latents_mean) / latents_std · scaling_factor channel by
    channel, z the mean of the posterior.

    Args:
        folder: with both files.
        shape: of the images, grey ones too; the ``sample_size`` of its configuration if not given.

    Raises:
        ImagingError: the folder holds none, it cannot read images of that shape, or diffusers is not installed.
    """
    absent = [name for name in _FILES if not (folder / name).is_file()]
    if absent:
        raise ImagingError(f"{folder} holds no {absent[0]}: give the folder of an AutoencoderKL, as diffusers saves it")
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise ImagingError(f"{folder} is read by the package diffusers: pip install diffusers") from error
    try:
        held = json.loads((folder / _FILES[0]).read_text(encoding="utf-8"))
        if held["_class_name"] != "AutoencoderKL":
            raise ValueError(f"of class {held['_class_name']}")
        model = AutoencoderKL.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
        side = held["sample_size"]
        channels, height, width = shape or (held["in_channels"], side, side)
        if channels not in (1, held["in_channels"]):
            raise ValueError(f"for images of {held['in_channels']} channels, not {channels}")
        space = _KL(model, shape=(channels, height, width))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        what = str(error).splitlines()[0]
        raise ImagingError(f"{folder} holds no AutoencoderKL to read here ({what}): give another") from error
    space.name, space.digest = folder.absolute().name, digest_of(folder / _FILES[1])
    space.files = tuple(folder / name for name in _FILES)
    return space.eval().requires_grad_(False)
