"""Learned rotations: orthogonal, equal to dense exponentials, with the right slopes."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from genodiff.core.bases import PCA
from genodiff.core.blocks import antisymmetric
from genodiff.core.cosines import CosineBasis
from genodiff.core.flexible import fp_noise
from genodiff.core.rotations import DenseRotation, LowRankRotation, Rotated, Rotation
from tests.core.helpers import DOUBLE, at, generator, normal, orthogonal


def moved(rotation: Rotation, size: float = 1.0, seed: int = 3) -> Rotation:
    """The rotation away from its start."""
    with torch.no_grad():
        for i, p in enumerate(rotation.parameters()):
            p += size * normal(*p.shape, seed=seed + i).to(p)
    return rotation


def both(dim: int = 8) -> list[Rotation]:
    return [DenseRotation(dim, dtype=DOUBLE), LowRankRotation(dim, 2, generator=generator(), dtype=DOUBLE)]


def generating(rotation: Rotation) -> Tensor:
    if isinstance(rotation, DenseRotation):
        return antisymmetric(rotation.upper, rotation.dim).detach()
    assert isinstance(rotation, LowRankRotation)
    return (rotation.u @ rotation.v.T - rotation.v @ rotation.u.T).detach()


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("size", [1e-9, 0.3, 3.0])
def test_rotation_is_the_exponential_of_its_matrix(kind: int, size: float) -> None:
    rotation, one = moved(both()[kind], size), torch.eye(8, dtype=DOUBLE)
    expected = torch.tensor(expm(generating(rotation).numpy()))
    torch.testing.assert_close(rotation.turn(one).T.detach(), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(rotation.turn_back(one).detach(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", [0, 1])
def test_rotation_keeps_lengths_and_angles(kind: int) -> None:
    rotation = moved(both()[kind], 2.0)
    p = rotation.turn(torch.eye(8, dtype=DOUBLE)).detach()
    torch.testing.assert_close(p @ p.T, torch.eye(8, dtype=DOUBLE), rtol=0, atol=1e-12)
    assert torch.linalg.det(p) == pytest.approx(1.0)


def test_single_precision_stays_orthogonal() -> None:
    rotation = moved(LowRankRotation(64, 4, generator=generator()), 0.5)
    p = rotation.turn(torch.eye(64)).detach()
    torch.testing.assert_close(p @ p.T, torch.eye(64), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", [0, 1])
def test_rotation_starts_at_one_and_wants_to_move(kind: int) -> None:
    rotation, x, y = both()[kind], normal(5, 8), normal(5, 8, seed=1)
    torch.testing.assert_close(rotation.turn(x).detach(), x)
    (rotation.turn(x) * y).sum().backward()
    assert max(float(p.grad.abs().max()) for p in rotation.parameters() if p.grad is not None) > 0.1


@pytest.mark.parametrize("kind", [0, 1])
def test_slopes_against_finite_differences(kind: int) -> None:
    rotation, x = moved(both(6)[kind], 0.7), normal(2, 6)
    values = {name: p.detach().clone().requires_grad_() for name, p in rotation.named_parameters()}

    def turned(*parameters: Tensor) -> Tensor:
        given = (dict(zip(values, parameters, strict=True)), x)
        return torch.func.functional_call(rotation, *given)

    rotation.forward = rotation.turn  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(turned, tuple(values.values()))


@pytest.mark.parametrize("kind", [0, 1])
def test_rotated_basis_is_the_product_of_both(kind: int) -> None:
    q, rotation, x = orthogonal(8), moved(both()[kind]), normal(3, 8)
    basis = Rotated(PCA(q), rotation)
    expected = q @ torch.tensor(expm(generating(rotation).numpy()))
    torch.testing.assert_close(basis.matrix().detach(), expected)
    torch.testing.assert_close(basis.synthesis(basis.analysis(x)).detach(), x)
    v = normal(8).exp()
    torch.testing.assert_close(basis.diagonal(v).detach(), ((expected * v) @ expected.T).diagonal())
    assert basis.dtype == DOUBLE
    assert basis.dim == 8


def test_a_process_in_a_rotated_basis_learns_the_rotation() -> None:
    rotation = LowRankRotation(16, 2, generator=generator(), dtype=DOUBLE)
    process = fp_noise(Rotated(CosineBasis((1, 4, 4), dtype=DOUBLE), rotation))
    with torch.no_grad():
        process.rates.get_parameter("log_spectrum").copy_(normal(16, 1))
    law = process.transition(at(0.0), at(0.3))
    law.log_prob(normal(2, 16, seed=1), normal(2, 16, seed=2)).sum().backward()
    assert rotation.v.grad is not None
    assert rotation.v.grad.norm() > 0.01


@pytest.mark.parametrize("rank", [0, 5])
def test_ranks_that_do_not_fit_are_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"got {rank}"):
        LowRankRotation(8, rank)
