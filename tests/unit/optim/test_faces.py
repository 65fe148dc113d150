"""Methods with weights to evaluate with: switching, saving, the watch over a model, batch statistics."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg import optim
from thalweg.errors import ThalwegError

INPUTS = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

FACES: dict[str, Callable[[Any], optim.RuleOptimizer]] = {
    "schedule-free": lambda p: optim.ScheduleFreeSGD(p, lr=0.1),
    "ema": lambda p: optim.AdamW(p, lr=0.05, wrappers=[optim.ema(0.8)]),
    "swa around muon": lambda p: optim.Muon(p, lr=0.05, precision="parameter", wrappers=[optim.swa(start=1)]),
    "lookahead": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, wrappers=[optim.lookahead(3, 0.5)]),
    "asgd": lambda p: optim.ASGD(p, lr=0.1, t0=1.0),
}


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 1)
    ).double()


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        ((model(INPUTS) - INPUTS.sum(1, keepdim=True)) ** 2).mean().backward()
        optimizer.step()


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("face", FACES)
def test_the_trained_weights_come_back_bit_for_bit(face: str) -> None:
    model = network()
    optimizer = FACES[face](model)
    optimizer.eval()  # before any step: nothing to show yet
    optimizer.train()
    descend(model, optimizer)
    trained = weights(model)

    assert optimizer.two_faced
    with optimizer.evaluating():
        shown = weights(model)
        assert optimizer.evaluates
        optimizer.eval()  # again: no change
        with optimizer.evaluating():
            pass
        assert equal(weights(model), shown)
    assert not optimizer.evaluates
    assert equal(weights(model), trained)
    assert not equal(shown, trained)
    assert optimizer.state_dict()["state"][0].keys() == optimizer.state[next(model.parameters())].keys()


@pytest.mark.parametrize("face", FACES)
def test_a_run_saved_with_the_weights_to_evaluate_with_goes_on_bit_for_bit(face: str) -> None:
    model = network()
    optimizer = FACES[face](model)
    descend(model, optimizer)
    optimizer.eval()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    optimizer.train()
    descend(model, optimizer)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = network()
    other = FACES[face](resumed)
    resumed.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    assert other.evaluates
    with pytest.raises(
        ThalwegError, match=r"for step\(\); got those to evaluate with. Call optimizer.train\(\)"
    ):
        other.step()
    twin_model, twin = copy.deepcopy((resumed, other))
    for each, its_optimizer in ((resumed, other), (twin_model, twin)):
        assert its_optimizer.evaluates
        its_optimizer.train()
        descend(each, its_optimizer)

        assert equal(weights(each), weights(model))
        assert equal(list(each.buffers()), list(model.buffers()))


def test_methods_with_one_set_of_weights_do_nothing() -> None:
    model = network()
    optimizer = optim.Adam(model)
    handle = optimizer.attach(model)
    descend(model, optimizer, 1)
    before = weights(model)

    optimizer.eval()
    model.eval()
    model.state_dict()
    model.train()
    optimizer.train()

    assert not optimizer.two_faced
    assert equal(weights(model), before)
    handle.remove()


def test_a_watched_model_refuses_to_switch_and_to_save_with_the_wrong_weights() -> None:
    model = network()
    optimizer = FACES["ema"](model)
    handle = optimizer.attach(model)
    descend(model, optimizer)

    model.train()
    with pytest.raises(
        ThalwegError, match=r"model.eval\(\); got those that AdamW trains. Call optimizer.eval\(\) first"
    ):
        model.eval()
    assert model.training
    with pytest.raises(ThalwegError, match=r"model.state_dict\(\); got those that AdamW trains"):
        model.state_dict()
    with pytest.raises(ThalwegError, match=r"model.eval\(\)"):
        nn.Sequential(model).eval()  # from a model around it, too
    optimizer.eval()
    model.eval()
    assert model.state_dict().keys() == network().state_dict().keys()
    with pytest.raises(ThalwegError, match=r"before model.train\(\); got those to evaluate with, of AdamW"):
        model.train()
    assert not model.training
    optimizer.train()
    model.train()
    handle.remove()
    handle.remove()  # twice is no harm
    model.eval()
    assert type(model) is nn.Sequential


def test_a_watched_model_is_still_one_of_its_kind_and_its_copies_are_not_watched() -> None:
    model = network()
    optimizer = FACES["ema"](model)
    optimizer.attach(model)
    descend(model, optimizer)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)

    copies = [copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))]
    copies.append(torch.load(file, weights_only=False))

    assert isinstance(model, nn.Sequential)
    assert repr(model) == repr(network())
    for each in copies:
        assert type(each) is nn.Sequential
        assert equal(weights(each), weights(model))
        each.eval()
        each.state_dict()


def test_two_optimizers_may_watch_one_model_and_an_optimizer_that_is_gone_watches_nothing() -> None:
    model = network()
    first = optim.SGD(model[0].parameters(), wrappers=[optim.ema(0.5)])
    second = optim.SGD(model[3].parameters(), wrappers=[optim.ema(0.5)])
    handle, _ = first.attach(model), second.attach(model)

    first.eval()
    with pytest.raises(ThalwegError, match=r"model.eval\(\)"):
        model.eval()
    second.eval()
    model.eval()
    second.train()
    handle.remove()
    with pytest.raises(ThalwegError, match=r"model.state_dict\(\)"):
        model.state_dict()
    del second
    model.state_dict()


def test_training_parts_of_a_watched_model_and_loading_into_it_are_free() -> None:
    model = network()
    optimizer = FACES["ema"](model)
    optimizer.attach(model)

    model[1].eval()
    model.load_state_dict(network().state_dict())

    assert not model[1].training


@pytest.mark.parametrize("momentum", [0.1, None])
def test_recomputed_batch_statistics_are_those_of_pytorchs_update_bn(momentum: float | None) -> None:
    ours, theirs = network(), network()
    for model in (ours, theirs):
        model[1].momentum = momentum
        descend(model, optim.SGD(model, lr=0.1))
        model.eval()
        model[3].train()
    batches = [(INPUTS[i : i + 4] * (i + 1), None) for i in range(0, 16, 4)]

    optim.recompute_batchnorm(ours, batches)
    torch.optim.swa_utils.update_bn(batches, theirs)

    assert equal(list(ours.buffers()), list(theirs.buffers()))
    assert ours[1].momentum == momentum
    assert [m.training for m in ours.modules()] == [False, False, False, False, True, False]


def test_batch_statistics_may_be_recomputed_with_a_forward_of_ones_own_and_under_a_watch() -> None:
    model = network()
    optimizer = FACES["ema"](model)
    optimizer.attach(model)
    descend(model, optimizer)
    optimizer.eval()
    model.eval()
    seen = []

    def forward(batch: Tensor) -> None:
        assert model.training
        seen.append(len(batch))
        model(batch)

    optim.recompute_batchnorm(model, [INPUTS], forward)

    assert seen == [16]
    assert not model.training
    assert torch.allclose(model[1].running_mean, model[0](INPUTS).mean(0))
    nothing = nn.Linear(2, 2)
    optim.recompute_batchnorm(nothing, iter(lambda: pytest.fail("no batch is taken"), None))
