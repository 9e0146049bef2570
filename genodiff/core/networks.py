"""Plain networks for vectors; networks that know what the coordinates mean live with the models that use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MLP", "Calls", "count_calls"]

_FREQUENCIES = 16


class MLP(nn.Module):
    """A residual multilayer perceptron of a vector and a noise level.

    The noise level enters every layer through sines and cosines of its logarithm. Its input reaches the output directly
    too, scaled per coordinate by a function of the noise level: at high noise the answer is next to the input, and a
    network narrower than the vector could not pass it on. The last layers start at zero.

    Args:
        dim: length d of the vector.
        width: units per layer.
        depth: residual layers.
    """

    def __init__(self, dim: int, *, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.register_buffer("frequencies", 0.1 * 1.5 ** torch.arange(_FREQUENCIES, dtype=torch.float32))
        self.enter = nn.Linear(dim, width)
        self.level = nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.leave = nn.Linear(width, dim)
        self.past = nn.Linear(width, dim)
        for last in (self.leave, self.past):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, log_noise: Tensor) -> Tensor:
        """Maps (B, d) and (B,) log noise-to-signal ratios to (B, d)."""
        angle = log_noise.unsqueeze(-1) * self.get_buffer("frequencies")
        level = self.level(torch.cat([angle.sin(), angle.cos()], dim=-1))
        h = self.enter(x)
        for layer in self.layers:
            h = h + layer(h + level)
        return self.leave(torch.nn.functional.silu(h)) + self.past(level) * x


@dataclass
class Calls:
    """How often a network was evaluated.

    Attributes:
        passes: calls of the network, whatever the batch.
        rows: rows of all batches together.
    """

    passes: int = 0
    rows: int = 0


@contextmanager
def count_calls(network: nn.Module) -> Iterator[Calls]:
    """Counts the evaluations of a network from inside it, by a hook on its ``forward``."""
    calls = Calls()

    def count(_: nn.Module, given: tuple[Any, ...], __: Any) -> None:
        calls.passes, calls.rows = calls.passes + 1, calls.rows + len(given[0])

    hook = network.register_forward_hook(count)
    try:
        yield calls
    finally:
        hook.remove()
