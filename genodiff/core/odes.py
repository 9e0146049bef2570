"""Ordinary differential equations of tensors, integrated with steps that adapt to the error.

The steps are those of the Runge–Kutta pairs of ``scipy.integrate``. The state is float64 whatever the slope is computed
in, so that rounding does not build up over the steps and does not pass for error of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from scipy import integrate
from torch import Tensor

__all__ = ["ORDERS", "Pair", "solve"]

Pair = Literal["RK23", "RK45", "DOP853"]
"""Embedded Runge–Kutta pairs: Bogacki–Shampine 3(2), Dormand–Prince 5(4), Dormand–Prince 8(5, 3)."""

ORDERS: dict[Pair, int] = {"RK23": 3, "RK45": 5, "DOP853": 8}
"""Order of the solution that is carried on."""


def solve(
    slope: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    start: float,
    end: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    pair: Pair = "RK45",
) -> tuple[Tensor, int]:
    """y(end) for dy/dα = slope(α, y) and y(start) = y, with the number of slopes that it took.

    A step is taken when the root mean square over all entries of error/(atol + rtol |y|) is below one.

    Args:
        slope: of (α (), y), shape of y; both float64, the result in any floating type.
        y: the state at ``start``, any shape.
        start: first α.
        end: last α, before or after ``start``.
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step.
        pair: the Runge–Kutta pair.

    Returns:
        float64 state at ``end``, shape of y, on its device, and the number of evaluations.

    Raises:
        ValueError: a tolerance that is not positive, or an unknown pair.
        ArithmeticError: a slope that is not finite, or steps that shrink to nothing.
    """
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"tolerances must be positive, got rtol={rtol} and atol={atol}")
    if pair not in ORDERS:
        raise ValueError(f"expected a pair among {', '.join(ORDERS)}, got {pair!r}")

    def flat(alpha: float, values: object) -> object:
        state = torch.as_tensor(values).to(y.device).view(y.shape)
        out = slope(torch.tensor(alpha, dtype=torch.float64, device=y.device), state)
        if not torch.isfinite(out).all():
            raise ArithmeticError(f"the slope is not finite at {alpha}")
        return out.detach().to("cpu", torch.float64).flatten().numpy()

    first = y.detach().to("cpu", torch.float64).flatten().numpy()
    # Not solve_ivp, which keeps the state of every step.
    solver = getattr(integrate, pair)(flat, start, first, end, rtol=rtol, atol=atol)
    while solver.status == "running":
        message = solver.step()
    if solver.status == "failed":
        raise ArithmeticError(f"the integration stopped at {solver.t}: {message}")
    return torch.as_tensor(solver.y).to(y.device).view(y.shape), solver.nfev
