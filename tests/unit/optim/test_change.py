"""Going on with another method: what is carried over, and what is not."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from thalweg import optim
from thalweg.errors import InputError
from thalweg.optim.changing import FOLLOWING, MEMORIES
from thalweg.rules.catalogue import RULES


def walked(method: Any, gradients: list[float], **values: Any) -> tuple[nn.Parameter, optim.RuleOptimizer]:
    w = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = method([w], **values)
    walk(optimizer, w, gradients)
    return w, optimizer


def walk(optimizer: torch.optim.Optimizer, w: Tensor, gradients: list[float]) -> list[float]:
    path = []
    for gradient in gradients:
        w.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        path.append(w.item())
    return path


SLOPES = [1.0, -2.0, 0.5, 3.0]


@pytest.mark.parametrize("middle", [optim.NAdam, optim.RAdam, optim.AdamW, optim.LAMB])
def test_adams_memories_are_kept_by_its_relatives_and_come_back_as_they_were(middle: Any) -> None:
    w, adam = walked(optim.Adam, SLOPES, betas=(0.8, 0.9))

    relative = optim.change(adam, middle, lr=0.1)
    back = optim.change(relative, optim.Adam, lr=0.001)

    for optimizer in (relative, back):
        assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
        for name in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer.state[w][name], adam.state[w][name])
            assert optimizer.state[w][name] is not adam.state[w][name]
    start = w.item()
    expected = walk(adam, w, SLOPES)
    w.data.fill_(start)
    assert walk(back, w, SLOPES) == expected


def test_nadam_after_adam_is_where_it_would_be() -> None:
    w, adam = walked(optim.Adam, SLOPES)
    _, nadam = walked(optim.NAdam, SLOPES)
    (expected,) = nadam.state.values()

    state = optim.change(adam, optim.NAdam, lr=0.1).state[w]

    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(state[name], value, rtol=1e-14, atol=0)


@settings(max_examples=30)
@given(
    slopes=st.lists(st.floats(-3, 3), min_size=1, max_size=20),
    memory=st.floats(0.1, 0.95),
    dampening=st.floats(-0.5, 0.5),
)
def test_a_sum_becomes_the_mean_of_the_same_gradients(
    slopes: list[float], memory: float, dampening: float
) -> None:
    w, adam = walked(optim.Adam, slopes, betas=(memory, 0.99))
    _, lion_alone = walked(optim.Lion, slopes, betas=(0.5, memory))
    _, sgd = walked(optim.SGD, slopes, momentum=memory)
    (summed,), (mean,) = (list(o.state.values()) for o in (sgd, lion_alone))

    from_adam = optim.change(adam, optim.SGD, lr=0.1, momentum=memory).state[w]["momentum_buffer"]
    lion = optim.change(adam, optim.Lion, lr=0.1, betas=(0.5, memory)).state[w]["exp_avg"]
    damped = optim.change(adam, optim.SGD, lr=0.1, momentum=memory, dampening=dampening)
    again = optim.change(damped, optim.SGD, lr=0.1, momentum=memory, buffer="mean", dampening=0.0)

    # The sum gives the first gradient more weight than the mean does; both estimate the mean gradient.
    assert torch.equal(lion, adam.state[w]["exp_avg"])
    assert torch.allclose(lion, mean["exp_avg"], rtol=1e-12, atol=1e-15)
    constant = walked(optim.Adam, [2.0] * len(slopes), betas=(memory, 0.99))
    other = walked(optim.SGD, [2.0] * len(slopes), momentum=memory)
    carried = optim.change(constant[1], optim.SGD, lr=0.1, momentum=memory).state[constant[0]][
        "momentum_buffer"
    ]
    assert torch.allclose(carried, other[1].state[other[0]]["momentum_buffer"], rtol=1e-12)
    weight = (1 - memory ** len(slopes)) / (1 - memory)
    estimate = adam.state[w]["exp_avg"] / (1 - memory ** len(slopes))
    assert torch.allclose(from_adam, estimate * weight, rtol=1e-12, atol=1e-15)
    expected = estimate * (1 - memory ** len(slopes))
    assert torch.allclose(again.state[w]["momentum_buffer"], expected, rtol=1e-12, atol=1e-15)
    assert summed["momentum_buffer"].ndim == 0


def test_other_memories_keep_the_estimates() -> None:
    w, adam = walked(optim.Adam, SLOPES, betas=(0.8, 0.9))

    state = optim.change(adam, optim.AdamW, lr=0.1, betas=(0.5, 0.99)).state[w]

    for name, old, new in (("exp_avg", 0.8, 0.5), ("exp_avg_sq", 0.9, 0.99)):
        estimate = adam.state[w][name] / (1 - old**4)
        assert torch.allclose(state[name] / (1 - new**4), estimate, rtol=1e-13)


def test_a_method_that_corrects_gets_all_its_memories_or_none() -> None:
    w, sgd = walked(optim.SGD, SLOPES, momentum=0.9)

    adam = optim.change(sgd, optim.Adam, lr=0.1)

    assert adam.state[w] == {}
    assert adam.carried == (
        "SGD → Adam: nothing was carried over; exp_avg, exp_avg_sq, the count of steps starts anew."
    )
    before = w.item()
    walk(adam, w, [5.0])
    assert before - w.item() == pytest.approx(0.1)  # as a first step of Adam


def test_what_starts_anew_beside_what_is_carried_is_named() -> None:
    w, adam = walked(optim.Adam, SLOPES)
    sophia = optim.change(adam, optim.SophiaH, lr=0.1)
    adamax = optim.change(adam, optim.Adamax, lr=0.1)

    assert (
        sophia.carried == "Adam → Sophia-H: carried over exp_avg and the count of steps; hessian starts anew."
    )
    assert adamax.state[w].keys() == {"step", "exp_avg", "exp_inf"}
    assert optim.change(optim.Adam([w]), optim.SGD, lr=0.1).carried == (
        "Nothing was carried over: no step had been taken."
    )


def test_gradients_of_the_other_sign_are_not_carried() -> None:
    w, adam = walked(optim.Adam, SLOPES)

    for method in (optim.Adam, optim.Lion):
        assert not optim.change(adam, method, lr=0.1, maximize=True).state[w]


def test_groups_names_rates_and_what_does_not_decay_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    adam = optim.AdamW(optim.groups(model, rate_decay=0.5), lr=0.1, weight_decay=0.3)

    lion = optim.change(adam, optim.Lion, lr=0.01, weight_decay=0.7)

    for old, new in zip(adam.param_groups, lion.param_groups, strict=True):
        assert new["param_names"] == old["param_names"]
        assert new["description"] == old["description"]
        assert new["lr"] == pytest.approx(old["lr"] / 10)
        assert new["weight_decay"] == (0.0 if "no decay" in old["description"] else 0.7)
        assert new["betas"] == (0.9, 0.99)  # Lion's mean something else


def test_wrappers_go_along_and_their_averages_with_the_counts() -> None:
    w, adam = walked(optim.Adam, SLOPES, wrappers=[optim.ema(0.5), optim.clip_norm(7.0)])

    nadam = optim.change(adam, optim.NAdam, lr=0.1)
    adagrad = optim.change(adam, optim.Adagrad, lr=0.1)
    bare = optim.change(adam, optim.NAdam, lr=0.1, wrappers=[])

    assert nadam.wrappers == adam.wrappers
    assert torch.equal(nadam.state[w]["ema_average"], adam.state[w]["ema_average"])
    assert nadam.param_groups[0]["clip_norm_limit"] == 7.0
    assert adagrad.state[w]["ema_average"] == w  # anew, as the count
    assert "ema_average" not in bare.state[w]


def test_a_model_is_routed_and_both_rules_carry_over() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)).double()
    adam = optim.AdamW(model, lr=0.1)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    adam.step()

    muon = optim.change(adam, optim.Muon, lr=0.02, fallback={"lr": 0.001})
    back = optim.change(muon, optim.SOAP, lr=0.01)

    assert muon.routes.splitlines()[0].startswith("Muon at 0.02 (hidden matrices and filters)")
    hidden, head = model[0].weight, model[2].weight
    assert torch.allclose(muon.state[hidden]["momentum_buffer"], 0.05 * torch.ones(2, 2).double(), rtol=1e-12)
    assert torch.equal(muon.state[head]["exp_avg_sq"], adam.state[head]["exp_avg_sq"])
    assert "AdamW → AdamW: carried over exp_avg, exp_avg_sq and the count of steps." in muon.carried
    assert [g["rule"] for g in back.param_groups] == [
        "soap" if g["rule"] == "muon" else "adamw" for g in muon.param_groups
    ]
    assert not back.state[hidden]
    assert back.state[head]["step"].item() == 1


def test_prodigy_goes_on_as_prodigy_with_its_d() -> None:
    w, prodigy = walked(optim.Prodigy, SLOPES, d0=1e-3)

    again = optim.change(prodigy, optim.Prodigy, lr=0.5)

    assert again.scalars() == prodigy.scalars()
    assert torch.equal(again.state[w]["s"], prodigy.state[w]["s"])


def test_the_tables_name_only_what_there_is() -> None:
    for table in (MEMORIES, FOLLOWING):
        for name, fields in table.items():
            rule = RULES[name]
            rich = {"momentum": 0.9, "amsgrad": True} if name != "rmsprop" else {}
            values = rule.values(rule.defaults() | {n: x for n, x in rich.items() if n in rule.hyper})
            assert set(fields) <= set(rule.state_fields(values, (2, 2)))


def test_what_is_no_optimizer_or_method_is_refused() -> None:
    w = nn.Parameter(torch.ones(1))
    with pytest.raises(InputError, match=r"to change must be one of thalweg\.optim; got Adam"):
        optim.change(torch.optim.Adam([w]), optim.SGD, lr=0.1)
    with pytest.raises(InputError, match=r"to change to must be a class of thalweg\.optim; got"):
        optim.change(optim.Adam([w]), torch.optim.SGD, lr=0.1)
    with pytest.raises(InputError, match="lr of SGD must be"):
        optim.change(optim.Adam([w]), optim.SGD, lr=-0.1)
