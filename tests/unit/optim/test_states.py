"""Loading states: by name, strictly or not, with wrappers, and exchanged with PyTorch."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg import optim
from thalweg.errors import InputError
from thalweg.rules.catalogue import RULES


def network(names: str = "abc") -> nn.ModuleDict:
    torch.manual_seed(1)
    return nn.ModuleDict({name: nn.Linear(2, 2) for name in names}).double()


def descend(model: nn.ModuleDict, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        sum((layer(torch.ones(2).double()) ** 2).sum() for layer in model.values()).backward()
        optimizer.step()


def of(model: nn.ModuleDict, name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return optimizer.state[model.get_parameter(name)]


def test_parameters_are_matched_by_name_whatever_their_order() -> None:
    model = network()
    optimizer = optim.Adam(model)
    descend(model, optimizer)
    other = network("cab")
    turned = optim.Adam(other)

    turned.load_state_dict(optimizer.state_dict())

    for name, _ in model.named_parameters():
        assert torch.equal(of(other, name, turned)["exp_avg"], of(model, name, optimizer)["exp_avg"])
    assert turned.param_groups[0]["param_names"] == [name for name, _ in other.named_parameters()]


def test_what_is_missing_or_extra_is_named_unless_only_what_both_have_is_wanted() -> None:
    model = network("abc")
    optimizer = optim.Adam(model, lr=0.5)
    descend(model, optimizer)
    other = network("bcd")
    taker = optim.Adam(other, lr=0.1)

    with pytest.raises(
        InputError, match=r"got no d.weight, d.bias; also a.weight, a.bias. Load the state of this model"
    ):
        taker.load_state_dict(optimizer.state_dict())
    assert not taker.state
    taker.load_state_dict(optimizer.state_dict(), strict=False)

    assert torch.equal(of(other, "b.weight", taker)["exp_avg"], of(model, "b.weight", optimizer)["exp_avg"])
    assert not of(other, "d.weight", taker)
    assert taker.param_groups[0]["lr"] == 0.1  # the group has other members
    descend(other, taker)


def test_other_groups_are_refused_unless_strictness_is_given_up() -> None:
    model = network("ab")
    optimizer = optim.Adam(model)
    descend(model, optimizer)
    split = optim.Adam(optim.groups(model))

    with pytest.raises(
        InputError, match=r"must group the parameters as the optimizer does; got a group of a\.weight"
    ):
        split.load_state_dict(optimizer.state_dict())
    split.load_state_dict(optimizer.state_dict(), strict=False)

    assert torch.equal(of(model, "b.bias", split)["exp_avg_sq"], of(model, "b.bias", optimizer)["exp_avg_sq"])
    assert [g.get("weight_decay") for g in split.param_groups] == [0.0, 0.0]
    unnamed = optim.Adam(model.parameters())
    with pytest.raises(InputError, match=r"have groups of \[2, 2\] parameters; got \[4\]"):
        optim.Adam(optim.groups(model)).load_state_dict(unnamed.state_dict())


def test_a_plain_state_goes_into_a_wrapped_optimizer_only_without_strictness() -> None:
    model = network("ab")
    theirs = torch.optim.Adam(model.parameters(), lr=0.01)
    descend(model, theirs)
    ours = optim.Adam(model, lr=0.2, wrappers=[optim.ema(0.9), optim.skip_nonfinite()])

    with pytest.raises(
        InputError, match=r"ema_average for a.weight; got .*Pass strict=False to start anew what wrap"
    ):
        ours.load_state_dict(theirs.state_dict())
    assert not ours.state
    assert ours.param_groups[0]["lr"] == 0.2
    ours.load_state_dict(theirs.state_dict(), strict=False)

    assert ours.param_groups[0]["lr"] == 0.01
    assert ours.param_groups[0]["ema_memory"] == 0.9
    assert ours.skipped_steps == 0
    start = model["a"].weight.detach().clone()
    descend(model, ours, 1)
    expected = 0.9 * start + 0.1 * model["a"].weight
    assert torch.allclose(of(model, "a.weight", ours)["ema_average"], expected, rtol=1e-12)
    broken = theirs.state_dict() | {"state": {0: {"step": 1.0, "momentum_buffer": torch.ones(2, 2)}}}
    with pytest.raises(InputError, match=r"have exp_avg, exp_avg_sq for a.weight; got \['momentum_buffer"):
        ours.load_state_dict(broken, strict=False)


def test_what_is_no_state_or_of_other_shapes_is_refused() -> None:
    model = network("ab")
    optimizer = optim.Adam(model.parameters())
    descend(model, optimizer)
    with pytest.raises(InputError, match="must have state and param_groups; got"):
        optimizer.load_state_dict(model.state_dict())
    turned = optim.Adam([p for name in "ab" for p in (model[name].bias, model[name].weight)])
    with pytest.raises(InputError, match=r"have exp_avg of shape \(2,\) for parameter 0; got \(2, 2\)"):
        turned.load_state_dict(optimizer.state_dict())
    assert not turned.state


@pytest.mark.parametrize("name", RULES)
def test_every_rules_own_state_passes_the_examination(name: str) -> None:
    values = {"lr": 0.01, "weight_decay": 0.0} if "weight_decay" in RULES[name].hyper else {"lr": 0.01}
    model = network("ab")
    optimizer, taker = (optim.BY_RULE[name](model, **values) for _ in range(2))
    descend(model, optimizer)

    taker.load_state_dict(optimizer.state_dict())

    for p in model.parameters():
        assert taker.state[p].keys() == optimizer.state[p].keys()
        for key, value in optimizer.state[p].items():
            assert torch.equal(taker.state[p][key], value)
            assert taker.state[p][key] is not value


# PyTorch's Muon computes in bfloat16: one rounding of 2⁻⁸ of a step of 0.01.
EXCHANGED: dict[str, tuple[Callable[..., Any], Callable[..., Any], float]] = {
    "asgd": (optim.ASGD, torch.optim.ASGD, 1e-8),  # PyTorch keeps η in float32
    "rprop": (optim.Rprop, torch.optim.Rprop, 1e-12),
    "nadam": (optim.NAdam, torch.optim.NAdam, 1e-8),  # PyTorch keeps the product of the μ in float32
    "adafactor": (optim.Adafactor, torch.optim.Adafactor, 1e-12),
    "muon": (optim.Muon, torch.optim.Muon, 1e-12),
}


@pytest.mark.parametrize("name", EXCHANGED)
def test_numbers_that_are_one_a_parameter_go_to_pytorch_and_back(name: str) -> None:
    ours, theirs, close = EXCHANGED[name]
    options = {} if name in ("muon", "adafactor") else {"foreach": False}
    model, twin = network("ab"), network("ab")
    first, second = (
        [p for p in m.parameters() if p.ndim == 2] if name == "muon" else list(m.parameters())
        for m in (model, twin)
    )
    one, two = ours(first, lr=0.01), theirs(second, lr=0.01, **options)
    for _ in range(2):  # there, and back
        descend(model, one)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            q.data = p.data.clone()
        state = one.state_dict()
        two.load_state_dict(copy.deepcopy(state))
        for place, buffers in state["state"].items():
            for key, value in buffers.items():
                assert two.state_dict()["state"][place][key].shape == value.shape
        descend(model, one)
        descend(twin, two)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert (p - q).abs().max() <= close
        model, twin, one, two = twin, model, two, one


def test_pytorchs_own_fresh_states_have_the_same_shapes() -> None:
    for name in ("asgd", "rprop", "nadam", "adafactor"):
        ours, theirs, _ = EXCHANGED[name]
        model = network("a")
        one, two = ours(model.parameters()), theirs(model.parameters())
        descend(model, one, 1)
        descend(model, two, 1)
        for p in model.parameters():
            assert {n: x.shape for n, x in one.state[p].items()} == {
                n: x.shape for n, x in two.state[p].items()
            }
