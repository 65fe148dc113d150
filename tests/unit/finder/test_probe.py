"""A probe of a person's own model: what it answers, with what it copes, what it refuses."""

import copy
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler

from thalweg import optim
from thalweg.errors import InputError
from thalweg.finder import probe_lr
from thalweg.records import Answer, Finding

Batch = tuple[Tensor, Tensor]


def batches(count: int = 16, size: int = 16) -> list[Batch]:
    """Return batches of a function that a small network can learn."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count * size, 6, generator=generator)
    y = (x @ torch.randn(6, 1, generator=generator)).tanh()
    return [(x[i::count], y[i::count]) for i in range(count)]


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def squared(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def sgd(model: nn.Module, lr: float = 0.1, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **more)


def probed(
    make: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    loss: Callable[[nn.Module, Any], Tensor] = squared,
    **more: Any,
) -> Finding:
    model = network()
    return probe_lr(model, make(model), loss, batches(), **{"steps": 200, **more})


def bits(model: nn.Module) -> list[Any]:
    """Everything that a model has: parameters, buffers, gradients, modes."""
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    return [
        *(None if t is None else t.detach().numpy().tobytes() for t in tensors),
        [m.training for m in model.modules()],
    ]


# Answers.


class Quadratic(nn.Module):
    """½ Σ λᵢwᵢ² for a batch without noise."""

    def __init__(self, curvature: list[float]) -> None:
        super().__init__()
        self.register_buffer("curvature", torch.tensor(curvature))
        self.w = nn.ParameterList(torch.ones(()) for _ in curvature)

    def forward(self) -> Tensor:
        return 0.5 * sum(c * w * w for c, w in zip(self.curvature, self.w, strict=True))


def test_on_a_quadratic_the_suggestion_is_below_where_it_diverges_and_good_enough() -> None:
    model = Quadratic([4.0, 1.0])

    found = probe_lr(model, sgd(model), lambda m, batch: m(), [0.0] * 8, steps=400, highest=10.0)

    assert found.outcome is Answer.FOUND
    assert found.suggestion is not None
    assert found.suggestion < 2 / 4
    # After 400 updates 0.018 leaves a millionth of the direction that is less curved.
    assert found.suggestion > 0.018
    assert found.diverges_at is not None
    assert found.diverges_at > 2 / 4


def test_a_group_with_a_tenth_of_the_rate_is_a_parameter_with_a_tenth_of_the_curvature() -> None:
    # With w = √10·v, a step of η/10 in v is a step of η in w, whose curvature is a tenth.
    grouped, scaled = Quadratic([4.0, 10.0]), Quadratic([4.0, 1.0])
    with torch.no_grad():
        grouped.w[1] /= math.sqrt(10)
    groups = [{"params": [grouped.w[0]], "lr": 0.1}, {"params": [grouped.w[1]], "lr": 0.01}]

    one = probe_lr(grouped, torch.optim.SGD(groups), lambda m, batch: m(), [0.0] * 8, steps=400)
    other = probe_lr(scaled, sgd(scaled), lambda m, batch: m(), [0.0] * 8, steps=400)

    assert one.suggestion == pytest.approx(other.suggestion, rel=0.02)
    assert one.diverges_at == other.diverges_at
    known = [(a, b) for a, b in zip(one.losses, other.losses, strict=True) if a is not None and b is not None]
    assert len(known) > 20
    for a, b in known:
        assert a == pytest.approx(b, rel=1e-4)


def test_a_group_that_rests_goes_on_resting() -> None:
    model = network()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.0}]
    moved: list[Tensor] = []

    def watched(m: nn.Module, batch: Batch) -> Tensor:
        moved.append((m[2].weight - model[2].weight).abs().max())
        return squared(m, batch)

    probe_lr(model, torch.optim.SGD(groups, lr=0.1), watched, batches(), steps=100)

    assert torch.stack(moved).max() == 0


def test_in_the_middle_of_training_it_goes_on_from_there() -> None:
    model = network()
    optimizer = sgd(model, 0.1)
    seen = squared(model, batches()[0]).item()
    for _ in range(30):
        for batch in batches():
            optimizer.zero_grad()
            squared(model, batch).backward()
            optimizer.step()
    left = squared(model, batches()[0]).item()
    assert left < 0.3 * seen

    found = probe_lr(model, optimizer, squared, batches(), steps=200)

    first = next(loss for loss in found.losses if loss is not None)
    assert first < 0.3 * seen


def test_at_its_best_already_there_is_no_answer_although_dropout_measures_less() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 10)
    y = x @ torch.randn(10, 1)
    parts = [(x[i::16], y[i::16]) for i in range(16)]
    model = nn.Sequential(nn.Dropout(0.2), nn.Linear(10, 1, bias=False))
    # In the mean over what is dropped, the loss is that of ridge regression: |xw − y|² + 0.25·Σxᵢ²wᵢ².
    ridge = x.T @ x + 0.25 * torch.diag((x * x).sum(0))
    with torch.no_grad():
        model[1].weight.copy_(torch.linalg.solve(ridge, x.T @ y).T)

    found = probe_lr(model, sgd(model, 0.05), squared, parts, steps=400)

    assert (found.outcome, found.suggestion) == (Answer.RISING, None)


def test_the_same_seed_is_the_same_answer_whatever_was_drawn_before_and_another_may_differ() -> None:
    def drawing(model: nn.Module, batch: Batch) -> Tensor:
        noise = random.gauss(0, 0.1) + float(np.random.normal(scale=0.1)) + 0.1 * torch.randn(())
        return squared(model, (batch[0] + noise, batch[1]))

    found = []
    for drawn, seed in ((0, 7), (1, 7), (0, 8)):
        random.seed(drawn)
        np.random.seed(drawn)
        model = network()
        torch.manual_seed(drawn)
        loader = DataLoader(TensorDataset(*map(torch.cat, zip(*batches(), strict=True))), 16, shuffle=True)
        found.append(probe_lr(model, sgd(model), drawing, loader, steps=100, seed=seed))

    assert found[0] == found[1]
    assert found[0].losses != found[2].losses


def test_batches_kept_aside_are_measured_and_not_trained_on() -> None:
    model, trained, measured = network(), set[float](), set[float]()

    def noted(m: nn.Module, batch: Batch) -> Tensor:
        (trained if torch.is_grad_enabled() else measured).add(batch[0].sum().item())
        return squared(m, batch)

    probe_lr(model, sgd(model), noted, batches(), steps=100)

    assert len(measured) == 4
    assert not trained & measured
    assert len(trained) == 12


def test_two_batches_are_enough() -> None:
    model = network()

    assert probe_lr(model, sgd(model), squared, batches(2, 64), steps=200).outcome is Answer.FOUND


@pytest.mark.parametrize("offset", [-5.0, 0.0])
def test_where_nothing_is_a_number_every_rate_diverged(offset: float) -> None:
    model = network()

    found = probe_lr(model, sgd(model), lambda m, b: squared(m, b).log() + offset + math.nan, batches())

    assert (found.outcome, found.suggestion) == (Answer.DIVERGED, None)


# Optimizers.


class Asking(torch.optim.SGD):
    """Steps with a closure only, as methods with a line search do."""

    def step(self, closure: Any) -> Any:
        loss = closure()
        super().step()
        return loss


def test_a_method_that_steps_with_a_closure_gets_one() -> None:
    assert probed(lambda m: Asking(m.parameters(), lr=0.1)).short == probed().short


def test_a_method_whose_copies_are_not_whole_is_refused() -> None:
    with pytest.raises(InputError, match=r"copy\.deepcopy copies whole; got 'LBFGS' object has no"):
        probed(lambda m: torch.optim.LBFGS(m.parameters()))


def test_sam_takes_its_second_gradient() -> None:
    flat, plain = (
        probed(lambda m, rho=rho: optim.SGD(m, lr=0.1, wrappers=[optim.sam(rho)])) for rho in (0.5, 1e-12)
    )
    without = probed(lambda m: optim.SGD(m, lr=0.1))

    assert plain.suggestion == pytest.approx(without.suggestion, rel=0.02)
    assert flat.losses != plain.losses


@pytest.mark.parametrize(
    ("make", "two_faced"),
    [
        (lambda m: optim.ScheduleFreeAdamW(m, lr=0.01), True),
        (lambda m: optim.Adam(m, lr=0.01, wrappers=[optim.ema(0.9)]), True),
        (lambda m: optim.Adam(m, lr=0.01), False),
    ],
    ids=["schedule-free", "ema", "adam"],
)
def test_weights_to_evaluate_with_are_measured_where_there_are_such(make: Any, two_faced: bool) -> None:
    calls: list[tuple[bool, Tensor]] = []

    def noted(m: nn.Module, batch: Batch) -> Tensor:
        calls.append((torch.is_grad_enabled(), m[0].weight.detach().clone()))
        return squared(m, batch)

    probed(make, loss=noted, steps=100)

    # Between a measurement and the update after it nothing moves but from one set of weights to the other.
    pairs = [
        (before, after)
        for (training, before), (trains, after) in itertools.pairwise(calls)
        if not training and trains and not torch.equal(after, calls[0][1])  # where no new training begins
    ]
    assert len(pairs) > 20
    same = sum(torch.equal(before, after) for before, after in pairs)
    # An average of the first weights alone is those weights.
    assert same < len(pairs) / 2 if two_faced else same == len(pairs)


def test_gradients_that_overflow_end_a_training_and_not_the_probe() -> None:
    def walled(model: nn.Module, batch: Batch) -> Tensor:
        norm = torch.cat([p.flatten() for p in model.parameters()]).norm()
        # Where the weights have grown to 20, the gradient of √0 is no number, although the loss is one.
        return squared(model, batch) + 0 * (20 - norm).relu().sqrt()

    found = probed(lambda m: optim.SGD(m, lr=0.1, wrappers=[optim.skip_nonfinite(limit=1)]), walled)

    assert found.outcome is Answer.FOUND
    assert found.losses[-1] is None
    assert found.diverges_at is not None


def test_sophia_whose_curvature_a_loop_measures_is_refused() -> None:
    with pytest.raises(InputError, match=r"the optimizer must step by gradients alone; got Sophia-G"):
        probed(lambda m: optim.SophiaG(m, lr=0.001))


# No trace.


def data() -> TensorDataset:
    return TensorDataset(*map(torch.cat, zip(*batches(), strict=True)))


LOADERS = {
    "shuffled": lambda g: DataLoader(data(), 16, shuffle=True),
    "shuffled by a generator": lambda g: DataLoader(data(), 16, shuffle=True, generator=g),
    "sampler": lambda g: DataLoader(data(), 16, sampler=RandomSampler(data(), generator=g)),
    "weights": lambda g: DataLoader(
        data(), 16, sampler=WeightedRandomSampler(torch.ones(256), 256, generator=g)
    ),
    "sampler of batches": lambda g: DataLoader(
        data(), batch_sampler=BatchSampler(RandomSampler(data(), generator=g), 16, False)
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_the_next_epoch_has_the_order_that_it_would_have_had(name: str) -> None:
    def order(probe: bool) -> list[bytes]:
        model = network()
        torch.manual_seed(3)
        loader = LOADERS[name](torch.Generator().manual_seed(5))
        seen = [batch[0].numpy().tobytes() for batch in loader]
        if probe:
            probe_lr(model, sgd(model), squared, loader, steps=100)
        return seen + [batch[0].numpy().tobytes() for batch in loader]

    assert order(True) == order(False)


class Counted(nn.Module):
    """Counts how often it is called, in a buffer and in a number."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.number = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.number += 1
        return self.linear(x)


def test_a_module_that_counts_does_not_count_a_probe() -> None:
    model = Counted()
    squared(model, batches()[0])

    probe_lr(model, sgd(model), squared, batches(), steps=100)

    assert (int(model.calls), model.number) == (1, 1)


def test_a_scaler_of_gradients_and_schedulers_are_as_before() -> None:
    model = network()
    optimizer = optim.Adam(model, lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1)
    schedulers = [
        torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=50),
        torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
    ]
    for batch in batches()[:3]:
        optimizer.zero_grad()
        scaler.scale(squared(model, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
        schedulers[0].step()
    states = [copy.deepcopy(thing.state_dict()) for thing in (scaler, *schedulers)]
    rates = [(group["lr"], group["betas"]) for group in optimizer.param_groups]

    probe_lr(model, optimizer, lambda m, b: squared(m, b), batches(), steps=100)

    assert [thing.state_dict() for thing in (scaler, *schedulers)] == states
    assert [(group["lr"], group["betas"]) for group in optimizer.param_groups] == rates


def test_an_error_in_the_loss_leaves_no_trace_either() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    before, calls = bits(model), iter(range(10**6))
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()

    def failing(m: nn.Module, batch: Batch) -> Tensor:
        if next(calls) == 50:
            raise ZeroDivisionError
        return squared(m, batch)

    with pytest.raises(ZeroDivisionError):
        probe_lr(model, sgd(model), failing, batches(), steps=100)

    assert bits(model) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_gradients_are_switched_on_where_they_were_off() -> None:
    with torch.no_grad():
        found = probed()
        assert not torch.is_grad_enabled()

    assert found == probed()


# Refusals.


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda m, b: squared(m, b).item(), r"the loss must return a scalar tensor; got [\d.]+\."),
        (
            lambda m, b: (m(b[0]) - b[1]).square(),
            r"the loss must return a scalar tensor; got shape \(16, 1\)",
        ),
        (lambda m, b: squared(m, b).detach(), "the loss must depend on what the optimizer moves"),
    ],
)
def test_a_loss_that_nothing_can_be_learnt_from_is_refused(loss: Any, said: str) -> None:
    model = network()
    with pytest.raises(InputError, match=said):
        probe_lr(model, sgd(model), loss, batches())


def test_a_loss_of_the_model_itself_instead_of_the_copy_is_refused_and_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    before = bits(model)

    with pytest.raises(InputError, match="Compute it from its first argument"):
        probe_lr(model, sgd(model), lambda _, b: squared(model, b), batches())

    assert bits(model) == before


def test_an_optimizer_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="the loss must depend on what the optimizer moves"):
        probe_lr(network(), sgd(network()), squared, batches())


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = network()
    model.kept = model(batches()[0][0])  # no leaf of the graph, which PyTorch does not copy

    with pytest.raises(InputError, match=r"optimizer must be what copy\.deepcopy copies whole; got Runtime"):
        probe_lr(model, sgd(model), squared, batches())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"steps": 99},
            "steps of the training that a rate is found for must be a whole number of at least 100",
        ),
        ({"steps": 200.5}, "steps of the training"),
        ({"lowest": 0.0}, r"lowest of the sweep must be a finite number above 0; got 0\.0"),
        ({"highest": math.inf}, "highest of the sweep must be a finite number above 0; got inf"),
        ({"lowest": 1.0, "highest": 1.0}, r"the sweep must end above where it begins; got 1\.0 to 1\.0"),
        ({"highest": 1e6}, r"the sweep must span at most 11\.5 decades in its 24 updates; got 14\."),
        ({"seed": -1}, "seed of the probe must be a whole number in"),
    ],
)
def test_numbers_out_of_range_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        probed(**more)


def test_a_generator_of_batches_is_refused_before_it_is_touched() -> None:
    left = iter(batches())
    model = network()

    with pytest.raises(InputError, match="the batches must be what can be gone through again"):
        probe_lr(model, sgd(model), squared, left)

    assert len(list(left)) == 16
