"""Squared norms of the gradients of parts, against gradients that PyTorch takes of all examples at once."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.curvature import squared_norms


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def parts(count: int, size: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, generator=generator, dtype=torch.float64),
            torch.randint(2, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def squared_norm(loss: Tensor, model: nn.Module) -> float:
    found = torch.autograd.grad(loss, list(model.parameters()))
    return sum(float((g**2).sum()) for g in found)


@pytest.mark.parametrize("size", [1, 3])
def test_the_norms_are_those_of_the_gradients_of_ever_larger_batches(size: int) -> None:
    model, given = network(), parts(8, size)

    found = squared_norms(model, lambda part: functional.cross_entropy(model(part[0]), part[1]), given)

    expected = []
    for together in (1, 2, 4, 8):
        batches = [given[i : i + together] for i in range(0, 8, together)]
        losses = [
            functional.cross_entropy(model(torch.cat([x for x, _ in b])), torch.cat([y for _, y in b]))
            for b in batches
        ]
        expected.append(sum(squared_norm(loss, model) for loss in losses) / len(losses))
    assert found == pytest.approx(expected, rel=1e-12)


def test_weights_gradients_buffers_and_mode_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: t.clone() for name, t in model.state_dict().items()}

    squared_norms(model, lambda x: model(x).mean(), torch.randn(4, 6, 3))

    assert model.training
    assert {name: t.tolist() for name, t in model.state_dict().items()} == {
        name: t.tolist() for name, t in before.items()
    }
    assert all(bool((p.grad == 1).all()) for p in model.parameters() if p.grad is not None)


def test_what_is_frozen_does_not_count_and_what_is_unused_counts_zero() -> None:
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))

    # The gradient of the weight is the input; that of the bias would be 1.
    assert squared_norms(model, lambda x: model(x).sum(), torch.tensor([[[2.0]], [[-4.0]]])) == [10.0, 1.0]


def test_sparse_gradients_of_an_embedding_count_as_the_dense_ones() -> None:
    def found(sparse: bool) -> list[float]:
        model = nn.Embedding(4, 2, sparse=sparse)
        nn.init.constant_(model.weight, 0.5)
        return squared_norms(model, lambda x: model(x).square().sum(), torch.tensor([[0, 1], [1, 1]]))

    assert found(sparse=True) == found(sparse=False)


def test_a_gradient_that_is_a_view_is_summed_all_the_same() -> None:
    model = nn.Linear(1, 3, bias=False)

    # The gradient is 1 for each of three weights: one number in memory.
    found = squared_norms(model, lambda x: model.weight.sum(), [0, 0, 0, 0])
    assert found == pytest.approx([3.0, 3.0, 3.0], rel=1e-15)  # of a square root, squared


def test_gradients_in_half_precision_are_added_up_in_single() -> None:
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)

    # 1 + 2⁻⁹ has too many digits for bfloat16.
    given = [torch.tensor([[1.0]], dtype=torch.bfloat16), torch.tensor([[2.0**-8]], dtype=torch.bfloat16)]
    assert squared_norms(model, lambda x: model(x).sum(), given)[1] == (0.5 + 2.0**-9) ** 2
