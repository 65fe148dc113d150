"""SAM and ASAM around methods: against an oracle, and in the company of all that trains networks."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles.wrappers import sam_gradient
from thalweg import optim
from thalweg.errors import InputError, ThalwegError
from thalweg.rules.sam import asam, sam
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped

CLOSE = 1e-12
INPUTS = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
TARGETS = INPUTS.sum(1, keepdim=True).sin()


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def loss_of(model: nn.Module, rows: slice = slice(None)) -> Tensor:
    return ((model(INPUTS[rows]) - TARGETS[rows]) ** 2).mean()


def gradient_at(model: nn.Module) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return the gradient of the network's loss as a function of its parameters, for the oracle."""
    twin = copy.deepcopy(model)

    def gradient(at: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, p in twin.named_parameters():
            p.data = torch.tensor(at[name])
        twin.zero_grad()
        loss_of(twin).backward()
        return {name: p.grad.numpy().copy() for name, p in twin.named_parameters()}

    return gradient


def at(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def sam_step(model: nn.Module, optimizer: optim.RuleOptimizer, loss: Callable[..., Tensor] = loss_of) -> None:
    optimizer.zero_grad()
    loss(model).backward()
    with optimizer.perturbed():
        optimizer.zero_grad()
        loss(model).backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("wrapper", "rho", "adaptive"), [(optim.sam(0.1), 0.1, False), (optim.asam(0.7, eta=0.02), 0.7, True)]
)
@pytest.mark.parametrize(
    "plain",
    [lambda p, **k: optim.SGD(p, lr=0.1, momentum=0.9, **k), lambda p, **k: optim.Adam(p, lr=0.01, **k)],
)
def test_twenty_steps_equal_the_method_on_the_oracles_gradients(
    wrapper: Any, rho: float, adaptive: bool, plain: Callable[..., optim.RuleOptimizer]
) -> None:
    ours, expected = network(), network()
    optimizer, other = plain(ours, wrappers=[wrapper]), plain(expected)
    gradient = gradient_at(expected)

    for _ in range(20):
        sam_step(ours, optimizer)
        slopes = sam_gradient(gradient, at(expected), rho, adaptive, eta=0.02)
        for name, p in expected.named_parameters():
            p.grad = torch.tensor(slopes[name])
        other.step()

        for p, q in zip(ours.parameters(), expected.parameters(), strict=True):
            assert (p - q).abs().max() <= CLOSE


@settings(max_examples=20)
@given(start=st.floats(-5, 5), slope=st.floats(0.1, 3), rho=st.floats(0.0, 2.0))
def test_on_a_quadratic_the_second_gradient_is_that_of_the_oracle(
    start: float, slope: float, rho: float
) -> None:
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = optim.SGD([w], lr=1.0, wrappers=[optim.sam(rho)])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = slope * w**2 / 2
        loss.backward()
        return loss

    loss = optimizer.step(closure)

    slopes = sam_gradient(lambda here: {"w": slope * here["w"]}, {"w": np.array(start)}, rho)
    assert loss.item() == slope * start**2 / 2
    assert abs(w.item() - (start - slopes["w"])) <= CLOSE * max(1, abs(start))


def test_parameters_come_back_bit_for_bit_also_after_an_exception() -> None:
    model = network()
    optimizer = optim.SGD(model, lr=0.1, wrappers=[optim.sam(0.3)])
    loss_of(model).backward()
    before = at(model)

    def fail() -> None:
        with optimizer.perturbed():
            assert all((at(model)[n] != before[n]).all() for n in before)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()

    assert all((at(model)[n] == before[n]).all() for n in before)
    with pytest.raises(ThalwegError, match="must step with second gradients"):
        optimizer.step()


def test_the_way_moved_has_length_rho_over_all_parameters() -> None:
    model = network()
    optimizer = optim.Muon(model, wrappers=[optim.sam(0.3)])
    loss_of(model).backward()
    before = at(model)

    with optimizer.perturbed():
        moved = sum(((at(model)[n] - before[n]) ** 2).sum() for n in before)

    assert moved**0.5 == pytest.approx(0.3, rel=1e-12)


def test_a_step_is_refused_without_second_gradients_and_where_parameters_are_moved() -> None:
    model = network()
    optimizer = optim.SGD(model, lr=0.1, wrappers=[optim.asam()])
    with pytest.raises(
        ThalwegError, match=r"perturbed\(\) must find gradients along which it moves; got none"
    ):
        optimizer.perturbed().__enter__()
    loss_of(model).backward()
    with pytest.raises(
        ThalwegError, match="SGD with asam must step with second gradients; got the first ones"
    ):
        optimizer.step()
    with optimizer.perturbed():
        for forbidden in (optimizer.step, optimizer.perturbed().__enter__):
            with pytest.raises(ThalwegError, match="got them moved by asam"):
                forbidden()
        optimizer.zero_grad()
        loss_of(model).backward()
    optimizer.step()
    with pytest.raises(ThalwegError, match="must step with second gradients"):
        optimizer.step()
    with pytest.raises(
        ThalwegError, match=r"Adam must have sam or asam among its wrappers for perturbed\(\)"
    ):
        optim.Adam(model).perturbed().__enter__()
    with pytest.raises(InputError, match="take one second gradient; got sam and asam"):
        optim.SGD(model, wrappers=[optim.sam(), optim.asam()])


def test_batchnorm_counts_each_batch_once() -> None:
    def normalised() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()

    known, named, lost, once = (normalised() for _ in range(4))
    sam_step(known, optim.SGD(known, wrappers=[optim.sam()]))
    loss_of(once)
    optimizer = optim.SGD(optim.groups(named), wrappers=[optim.sam()])
    loss_of(named).backward()
    with optimizer.perturbed(named):
        loss_of(named).backward()
    sam_step(lost, optim.SGD(lost.parameters(), wrappers=[optim.sam()]))

    for model in (known, named):
        assert all(torch.equal(x, y) for x, y in zip(model.buffers(), once.buffers(), strict=True))
    assert lost[1].num_batches_tracked == 2


def test_both_gradients_may_be_accumulated() -> None:
    whole, parts = network(), network()
    one, other = (optim.SGD(m, lr=0.1, wrappers=[optim.sam(0.1)]) for m in (whole, parts))

    def in_halves(model: nn.Module) -> None:
        for rows in (slice(0, 4), slice(4, 8)):
            (loss_of(model, rows) / 2).backward()

    sam_step(whole, one)
    in_halves(parts)
    with other.perturbed():
        other.zero_grad()
        in_halves(parts)
    other.step()

    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        assert (p - q).abs().max() <= CLOSE


def test_the_way_does_not_depend_on_the_scale_of_a_grad_scaler_which_skips_what_is_not_finite() -> None:
    plain, scaled = network(), network()
    one, other = (optim.SGD(m, lr=0.1, wrappers=[optim.sam(0.1)]) for m in (plain, scaled))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    def scaled_step(factor: float) -> None:
        other.zero_grad()
        scaler.scale(loss_of(scaled) * factor).backward()
        before = at(scaled)
        with other.perturbed():
            if factor != 1:
                assert all((at(scaled)[n] == before[n]).all() for n in before)
            other.zero_grad()
            scaler.scale(loss_of(scaled) * factor).backward()
        scaler.step(other)
        scaler.update()

    sam_step(plain, one)
    scaled_step(1.0)
    assert all(
        (x - y).abs().max() <= CLOSE for x, y in zip(plain.parameters(), scaled.parameters(), strict=True)
    )
    before = at(scaled)
    scaled_step(float("inf"))
    assert all((at(scaled)[n] == before[n]).all() for n in before)
    assert scaler.get_scale() == 2.0**9
    scaled_step(1.0)
    assert all((at(scaled)[n] != before[n]).all() for n in before)


def test_parameters_without_a_gradient_stay_and_count_in_no_norm() -> None:
    w, idle = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([w, idle], lr=1.0, wrappers=[optim.sam(1.0)])
    (w**2).sum().backward()

    with optimizer.perturbed():
        assert w.tolist() == pytest.approx([3.6, 4.8])
        assert idle.tolist() == [1, 1]


def test_clipping_acts_on_the_second_gradient() -> None:
    w = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = optim.SGD([w], lr=1.0, wrappers=[optim.clip_norm(5.0), optim.sam(5.0)])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (w**2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)

    # The first gradient (3, 4) moves w to (6, 8), the second one has length 10, and is halved.
    assert w.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert optimizer.clipped


def test_under_maximize_the_way_leads_down() -> None:
    w = nn.Parameter(torch.tensor(2.0))
    optimizer = optim.SGD([w], lr=1.0, maximize=True, wrappers=[optim.sam(0.5)])
    (w**2).backward()

    with optimizer.perturbed():
        assert w.item() == 1.5


def test_a_sparse_first_gradient_moves_the_rows_that_it_names() -> None:
    table = nn.Embedding(3, 2, sparse=True)
    before = table.weight.detach().clone()
    optimizer = optim.SGD(table, lr=1.0, wrappers=[optim.sam(1.0)])
    table(torch.tensor([1])).sum().backward()

    with optimizer.perturbed():
        moved = table.weight.detach() - before

    assert moved[1].tolist() == pytest.approx([0.5**0.5] * 2, rel=1e-6)
    assert not moved[[0, 2]].any()


@pytest.mark.parametrize("wrapper", [optim.sam(0.3), optim.asam(0.3)])
def test_replicas_move_as_each_by_itself(wrapper: Any) -> None:
    generator = np.random.default_rng(0)
    p, g = generator.standard_normal((2, 3, 4)), generator.standard_normal((2, 3, 4))
    g[:, 2] = 0.0  # the third replica has no way to go
    rule = wrapped(SGD, [wrapper])
    offset = {"sam": sam, "asam": asam}[wrapper.wrapper.name]
    rho = f"{wrapper.wrapper.name}_rho"

    def rows(place: Any, h: Any) -> list[Row]:
        replicas = isinstance(place, slice)
        return [Row(rule, p[i][place], g[i][place], (), 1, h, replicas) for i in range(2)]

    rates = np.array([0.1, 0.3, 0.5])
    stacked = offset(rows(slice(None), rule.values(rule.defaults() | {rho: rates})))
    for k in range(3):
        single = offset(rows(k, rule.values(rule.defaults() | {rho: float(rates[k])})))
        for together, alone in zip(stacked, single, strict=True):
            np.testing.assert_allclose(together[k], alone, rtol=1e-14)
    assert not stacked[0][2].any()


def test_the_wrapper_and_its_values_survive_copies() -> None:
    model = network()
    optimizer = optim.Adam(model, wrappers=[optim.asam(0.2, eta=0.1)])
    twin_model, twin = copy.deepcopy((model, optimizer))

    sam_step(model, optimizer)
    sam_step(twin_model, twin)

    assert all(torch.equal(x, y) for x, y in zip(model.parameters(), twin_model.parameters(), strict=True))
    assert twin.param_groups[0]["asam_eta"] == 0.1
