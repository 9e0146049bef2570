"""A small U-Net of an image and a noise level that may be differentiated as often as one likes.

The θ-gradient of a learned schedule needs second derivatives of the network in x, and their gradients. Kept libraries
do not serve: the attention of ``diffusers`` and ``azula`` calls ``scaled_dot_product_attention``, whose fused kernels
have no second derivative (huggingface/diffusers#5678, pytorch/pytorch#116350), ``azula`` requires ``torchvision`` (and
with it another build of torch), ``diffusers`` takes seconds to import. So the network is here: convolutions, group
normalisation, SiLU, and attention written out, all smooth.

Convolutions run with channels last, which the CPU and tensor cores are fastest at.

With ``patch`` = 2 the first layer folds 2 × 2 pixels into channels (and the last unfolds them), which costs a quarter;
the finest detail reaches the output past the network, through the skip connection of the preconditioning.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Block", "Precision", "UNet", "UNetConfig", "normalised", "trained_in"]

Precision = Literal["float32", "bfloat16"]
"""Numbers in which a network is multiplied while it is trained."""

_GROUP = 16
_FREQUENCIES = 16


@dataclass(frozen=True)
class UNetConfig:
    """Size of a :class:`UNet`.

    Attributes:
        widths: channels at every resolution, finest first; each is half as fine as the one before.
        blocks: residual blocks per resolution on the way down, and as many on the way up.
        patch: side of the square of pixels that the first layer folds into channels.
        attention: whether the coarsest resolution has self-attention.
        classes: number of classes an image may be conditioned on; 0 for none.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 2
    patch: int = 2
    attention: bool = True
    classes: int = 0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or self.blocks < 1 or self.patch < 1 or self.classes < 0:
            raise ValueError(f"widths, blocks and patch must be at least 1 and classes at least 0: {self}")


def normalised(channels: int) -> nn.GroupNorm:
    """Group normalisation by groups of about sixteen channels."""
    return nn.GroupNorm(max(g for g in range(1, channels // min(_GROUP, channels) + 1) if channels % g == 0), channels)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A last layer that starts at zero, so that a residual block starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """h + conv(silu((1 + a) norm(conv(silu(norm(h)))) + b)), with (a, b) from the noise level.

    Args:
        width_in: channels that go in.
        width: channels that come out.
        level: length of the vector of the noise level; 0 where there is none, and (a, b) = 0.
    """

    def __init__(self, width_in: int, width: int, level: int = 0) -> None:
        super().__init__()
        self.norm_in, self.norm = normalised(width_in), normalised(width)
        self.enter = nn.Conv2d(width_in, width, 3, padding=1)
        self.leave = _zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.modulation = nn.Linear(level, 2 * width) if level else None
        self.past = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)

    def forward(self, h: Tensor, level: Tensor | None = None) -> Tensor:
        inner = self.norm(self.enter(F.silu(self.norm_in(h))))
        if self.modulation is not None:
            a, b = self.modulation(level)[:, :, None, None].chunk(2, dim=1)
            inner = (1 + a) * inner + b
        return self.past(h) + self.leave(F.silu(inner))


class _Attention(nn.Module):
    """Self-attention over all positions, one head; written out because the fused kernels lack a second derivative."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = normalised(width)
        self.query_key_value = nn.Conv2d(width, 3 * width, 1)
        self.leave = _zeroed(nn.Conv2d(width, width, 1))

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.query_key_value(self.norm(h)).flatten(2).chunk(3, dim=1)
        weight = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(h.shape[1]), dim=-1)
        return h + self.leave((v @ weight.transpose(1, 2)).view_as(h))


def _through(blocks: nn.Module, h: Tensor, level: Tensor) -> Tensor:
    for block in blocks.children():
        h = block(h, level)
    return h


class UNet(nn.Module):
    """An image, a noise level and perhaps a class to an image of the same shape.

    Args:
        shape: channels, height and width; height and width must be multiples of patch · 2^(resolutions − 1).
        config: size.
        inputs: channels that go in, if not as many as come out.

    Raises:
        ValueError: height or width is no such multiple.
    """

    def __init__(self, shape: Sequence[int], config: UNetConfig | None = None, *, inputs: int | None = None) -> None:
        super().__init__()
        self.config = config = UNetConfig() if config is None else config
        self.shape = (c, height, width) = tuple(shape)
        step = config.patch * 2 ** (len(config.widths) - 1)
        if height % step or width % step:
            raise ValueError(f"height {height} and width {width} must be multiples of {step} for {config}")
        self.inputs = c if inputs is None else inputs
        first, level = config.widths[0], 4 * config.widths[0]
        self.register_buffer("frequencies", torch.logspace(-1, 1.5, _FREQUENCIES))
        self.level = nn.Sequential(nn.Linear(2 * _FREQUENCIES, level), nn.SiLU(), nn.Linear(level, level))
        self.label = nn.Embedding(config.classes, level) if config.classes else None
        self.enter = nn.Conv2d(self.inputs * config.patch**2, first, 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for w, below in itertools.pairwise(config.widths):
            self.down.append(self._blocks(w, w, level))
            self.shrink.append(nn.Conv2d(w, below, 3, stride=2, padding=1))
            self.grow.insert(0, nn.Conv2d(below, w, 3, padding=1))
            self.up.insert(0, self._blocks(2 * w, w, level))
        last = config.widths[-1]
        self.middle, self.after = self._blocks(last, last, level), self._blocks(last, last, level)
        self.attention = _Attention(last) if config.attention else nn.Identity()
        self.norm = normalised(first)
        self.leave = _zeroed(nn.Conv2d(first, c * config.patch**2, 3, padding=1))
        self.precision: Precision = "float32"

    def _blocks(self, width_in: int, width: int, level: int) -> nn.ModuleList:
        return nn.ModuleList(Block(width if k else width_in, width, level) for k in range(self.config.blocks))

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Maps images and their noise levels to images.

        Args:
            x: (B, C, H, W), or (B, C·H·W); the answer has the same shape, but for its channels where ``inputs`` are
                others.
            noise: embedded noise level, ¼ log σ, (B,) or ().
            label: class of every image, (B,) int64, for a network with classes.
        """
        angle = noise.to(x.dtype).expand(len(x)).unsqueeze(-1) * self.get_buffer("frequencies")
        level = self.level(torch.cat([angle.sin(), angle.cos()], dim=-1))
        if self.label is not None:
            if label is None:
                raise ValueError("this network is conditioned on a class: give labels")
            level = level + self.label(label)
        level = F.silu(level)
        images = x.reshape(-1, self.inputs, *self.shape[1:])
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.training and self.precision == "bfloat16"):
            out = F.pixel_shuffle(self._mapped(F.pixel_unshuffle(images, self.config.patch), level), self.config.patch)
        out = out.to(x.dtype)
        return out.flatten(1) if x.ndim == 2 else out

    def _mapped(self, folded: Tensor, level: Tensor) -> Tensor:
        h = self.enter(folded.contiguous(memory_format=torch.channels_last))
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            h = _through(blocks, h, level)
            skips.append(h)
            h = shrink(h)
        h = _through(self.after, self.attention(_through(self.middle, h, level)), level)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            h = grow(F.interpolate(h, scale_factor=2.0, mode="nearest"))
            h = _through(blocks, torch.cat([h, skips.pop()], dim=1), level)
        return self.leave(F.silu(self.norm(h)))


@contextmanager
def trained_in(network: object, precision: Precision) -> Iterator[None]:
    """Within, a :class:`UNet` that is being trained multiplies in ``precision``; judged and sampled, it never does."""
    assert isinstance(network, UNet)
    network.precision = precision
    try:
        yield
    finally:
        network.precision = "float32"
