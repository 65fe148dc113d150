"""Muon against PyTorch's, on PyTorch's own sequence of operations."""

from typing import Any

import numpy as np
import pytest
import torch

from cases import Path, deviation, factors, gradients, starts
from thalweg import optim
from walks import walk

SHAPES = {"wide": (3, 5), "tall": (6, 2), "square": (4, 4)}
VALUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay and momentum": {"weight_decay": 0.02, "momentum": 0.8},
    "without nesterov": {"nesterov": False, "momentum": 0.7},
    "other coefficients": {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3, "eps": 0.5},
    "the scale of AdamW": {"adjust_lr_fn": "match_rms_adamw"},
    "the original scale": {"adjust_lr_fn": "original"},
}


def paths(dtype: torch.dtype, values: dict[str, Any], precision: str) -> tuple[Path, Path, list[list[Any]]]:
    begin = starts(0, SHAPES)
    slopes = gradients(0, SHAPES)
    found, buffers = [], []
    for cls, own in ((optim.Muon, {"precision": precision}), (torch.optim.Muon, {})):
        leaves = {n: torch.nn.Parameter(torch.tensor(p, dtype=dtype)) for n, p in begin.items()}
        optimizer = cls(list(leaves.values()), lr=0.05, **values, **own)
        found.append(walk(optimizer, leaves, slopes, factors=factors(0)))
        buffers.append([optimizer.state[leaf]["momentum_buffer"] for leaf in leaves.values()])
    return found[0], found[1], buffers


@pytest.mark.parametrize("name", VALUES)
def test_hundred_steps_in_float64_equal_pytorchs_operations(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch rounds to bfloat16, where entries differ by 0.06 from float64: here it is kept from that."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # a copy, as it divides in place

    ours, theirs, _ = paths(torch.float64, VALUES[name], "parameter")

    assert deviation(ours, theirs, starts(0, SHAPES)) <= 1e-12


@pytest.mark.parametrize("name", VALUES)
def test_products_in_bfloat16_are_pytorchs(name: str) -> None:
    ours, theirs, (mine, others) = paths(torch.float32, VALUES[name], "bfloat16")

    assert all(torch.equal(a, b) for a, b in zip(mine, others, strict=True))
    # The orthogonal factors are equal bit for bit; the rate meets them, and the decay, in another order: a
    # few roundings of float32 (6e-8) in 100 steps. One other bit of a factor would be 4e-3 × the rate.
    assert deviation(ours, theirs, starts(0, SHAPES)) <= 2e-6
    assert np.isfinite(ours[-1]["wide"]).all()


def test_what_pytorch_refuses_is_moved_too_as_a_matrix_or_by_adamw() -> None:
    kernel, bias = torch.nn.Parameter(torch.randn(4, 2, 3, 3)), torch.nn.Parameter(torch.zeros(4))
    with pytest.raises(ValueError, match="2D"):
        torch.optim.Muon([kernel])
    matrix = torch.nn.Parameter(kernel.detach().reshape(4, 18).clone())
    optimizer = optim.Muon([kernel, bias], lr=0.1)
    other = optim.Muon([matrix], lr=0.1)
    kernel.grad, bias.grad = torch.randn_like(kernel), torch.ones(4)
    matrix.grad = kernel.grad.reshape(4, 18)

    optimizer.step()
    other.step()

    assert torch.equal(kernel.reshape(4, 18), matrix)
    assert set(optimizer.state[bias]) == {"step", "exp_avg", "exp_avg_sq"}
