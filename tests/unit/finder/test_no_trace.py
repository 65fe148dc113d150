"""A probe in the middle of training leaves everything bit for bit as it was."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg import optim, probe_lr
from thalweg.errors import InputError
from thalweg.records import Answer

OPTIMIZERS = {
    "torch sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9),
    "torch adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, amsgrad=True),
    "sgd": lambda m: optim.SGD(m, lr=0.05, momentum=0.9, wrappers=[optim.ema(0.9)]),
    "adamw": lambda m: optim.AdamW(m, lr=1e-3, wrappers=[optim.clip_norm(1.0), optim.lookahead(3, 0.5)]),
    "muon": lambda m: optim.Muon(m, lr=1e-3),
}


class Net(nn.Module):
    """With running statistics, random numbers of its own, and a part that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.drop, self.last = nn.Dropout(0.2), nn.Linear(8, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.relu(self.norm(self.first(x))))) * self.frozen


def loader() -> DataLoader[Any]:
    x = torch.linspace(-1, 1, 256).view(64, 4)
    return DataLoader(
        TensorDataset(x, x.sum(1, keepdim=True)),
        batch_size=8,
        shuffle=True,
        generator=torch.Generator().manual_seed(3),
    )


def squared(model: nn.Module, batch: Any) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return all that a probe could touch, copied."""
    return copy.deepcopy(
        {
            "weights": model.state_dict(),
            "gradients": [p.grad for p in model.parameters()],
            "modes": [m.training for m in model.modules()],
            "optimizer": optimizer.state_dict(),
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
        }
    )


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, epochs: int) -> list[float]:
    losses = []
    for _ in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            loss = squared(model, batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_probe_changes_nothing_and_training_goes_on_with_the_same_bits(make: Any) -> None:
    ends = []
    for probed in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        model, batches = Net(), loader()
        model.norm.eval()
        optimizer = make(model)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
        losses = trained(model, optimizer, batches, 2)
        if probed:
            before = everything(model, optimizer)
            probe_lr(model, optimizer, squared, batches, steps=100)
            assert_same(before, everything(model, optimizer))
        scheduler.step()
        ends.append((losses + trained(model, optimizer, batches, 2), everything(model, optimizer)))
    assert_same(*ends)


def test_gradients_that_are_there_and_those_that_are_not_stay_so() -> None:
    torch.manual_seed(0)
    model, batches = Net(), loader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    squared(model, next(iter(batches))).backward()
    model.last.bias.grad = None
    before = everything(model, optimizer)
    probe_lr(model, optimizer, squared, list(batches), steps=100)
    assert_same(before, everything(model, optimizer))


class Recorded(torch.optim.SGD):
    """Notes the rates of its groups at every step."""

    rates: list[tuple[float, ...]] = []

    def step(self, closure: Any = None) -> Any:
        self.rates.append(tuple(group["lr"] for group in self.param_groups))
        return super().step(closure)


def test_groups_keep_their_ratio_while_rates_climb_by_one_factor() -> None:
    torch.manual_seed(0)
    model, batches = Net(), list(loader())
    groups = [{"params": model.first.parameters()}, {"params": model.last.parameters(), "lr": 0.5}]
    Recorded.rates.clear()
    probe_lr(model, Recorded(groups, lr=0.1), squared, batches, steps=100, lowest=1e-4, highest=1.0)
    first = np.array([r[0] for r in Recorded.rates])
    np.testing.assert_allclose([r[1] for r in Recorded.rates], 5 * first, rtol=1e-12)
    sweep = first[:24]  # the fewest updates of a sweep
    np.testing.assert_allclose(sweep, np.geomspace(1e-4, 1.0, 24), rtol=1e-12)


@pytest.mark.parametrize("offset", [-100.0, 100.0])
def test_an_offset_of_the_loss_changes_no_answer(offset: float) -> None:
    """Up to rounding of the losses, which an offset of 100 makes a hundred times coarser: 1e-5 in float32."""

    def found(by: float) -> Any:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = lambda m, batch: squared(m, batch) + by  # noqa: E731
        return probe_lr(model, optimizer, loss, list(loader()), steps=200)

    plain, moved = found(0.0), found(offset)
    assert plain.outcome is moved.outcome is Answer.FOUND
    assert moved.suggestion == pytest.approx(plain.suggestion, rel=0.25)


def test_what_cannot_be_probed_is_refused_in_words() -> None:
    model, batches = Net(), list(loader())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for wrong, said in (
        (lambda: probe_lr(model, optimizer, squared, iter(batches)), "the batches must be what can be gone"),
        (lambda: probe_lr(model, optimizer, squared, batches[:1]), "the batches must be at least 2; got 1"),
        (lambda: probe_lr(model, optimizer, squared, batches, steps=3), "steps of the training"),
        (lambda: probe_lr(model, optimizer, squared, batches, lowest=1.0, highest=0.1), "the sweep must end"),
        (
            lambda: probe_lr(model, torch.optim.SGD(model.parameters(), lr=0.0), squared, batches),
            "the rate of the optimizer's first group must be above 0; got 0.0",
        ),
    ):
        with pytest.raises(InputError) as raised:
            wrong()
        assert said in str(raised.value)
