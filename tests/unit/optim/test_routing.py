"""Where a rule for matrices sends what is none, or should be none of its own."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.errors import InputError

HIDDEN = "hidden matrices and filters"


class Language(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)
        self.position = nn.Parameter(torch.zeros(5, 4))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(2))
        self.out = nn.Linear(4, 7, bias=False)
        if tied:
            self.out.weight = self.tokens.weight


def routes(optimizer: optim.RuleOptimizer) -> dict[str, tuple[str, str]]:
    return {
        name: (group["rule"], group["because"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


@pytest.mark.parametrize("method", [optim.Muon, optim.Shampoo, optim.SOAP])
def test_a_model_is_routed_by_its_modules(method: Any) -> None:
    where = routes(method(Language(), lr=0.01))
    name = method.rule.name

    assert where == {
        "tokens.weight": ("adamw", "an embedding"),
        "position": ("adamw", "an embedding"),
        **{f"blocks.{i}.0.weight": (name, HIDDEN) for i in range(2)},
        **{
            f"blocks.{i}.{n}": ("adamw", "fewer than 2 axes")
            for i in range(2)
            for n in ("0.bias", "1.weight", "1.bias")
        },
        "out.weight": ("adamw", "the head"),
    }


def test_a_tied_head_is_an_embedding_and_comes_once() -> None:
    where = routes(optim.Muon(Language(tied=True)))

    assert where["tokens.weight"] == ("adamw", "an embedding")
    assert "out.weight" not in where


def test_the_first_convolution_and_the_head_are_not_muons() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2)
    )
    where = routes(optim.Muon(model))

    assert where["0.weight"] == ("adamw", "the first convolution")
    assert where["2.weight"] == ("muon", HIDDEN)
    assert where["4.weight"] == ("adamw", "the head")


def test_routes_say_what_goes_where_and_why() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 1))

    assert optim.Muon(model, lr=0.02, fallback={"lr": 0.003}).routes == (
        "Muon at 0.02 (hidden matrices and filters): 18 numbers: 0.weight, 1.weight\n"
        "AdamW at 0.003 (fewer than 2 axes): 8 numbers: 0.bias, 1.bias, 2.bias\n"
        "AdamW at 0.003 (the head): 4 numbers: 2.weight"
    )
    assert optim.Adam(model[:1], lr=0.1).routes == "Adam at 0.1: 9 numbers: 0.weight, 0.bias"


def test_bare_parameters_are_routed_by_their_axes_and_routes_say_so() -> None:
    model = Language()
    optimizer = optim.Muon(model.parameters())

    assert [g["rule"] for g in optimizer.param_groups] == ["muon", "adamw"]
    assert optimizer.routes.endswith(
        "Without their model, embeddings and head cannot be told from other matrices: pass the model, "
        'or give them a group with "rule": "adamw".'
    )
    assert "shape (7, 4)" in optimizer.routes
    assert "cannot be told" not in optim.Muon(model).routes


def test_the_groups_of_a_model_are_routed_by_its_modules_too() -> None:
    model = Language()
    optimizer = optim.Muon(optim.groups(model, rate_decay=0.5), lr=0.1, fallback={"lr": 0.01})

    assert routes(optimizer) == routes(optim.Muon(model))
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}
    assert rates["blocks.1.0.weight"] == 0.05
    assert rates["blocks.1.0.bias"] == 0.005
    assert rates["tokens.weight"] == pytest.approx(0.00125)
    assert rates["out.weight"] == 0.01
    still = {
        name
        for group in optimizer.param_groups
        if group["weight_decay"] == 0
        for name in group["param_names"]
    }
    assert still == {f"blocks.{i}.{n}" for i in range(2) for n in ("0.bias", "1.weight", "1.bias")}
    assert not any("not_hidden" in group for group in optim.AdamW(optim.groups(model)).param_groups)


def test_a_group_that_names_its_rule_is_obeyed() -> None:
    a, b, c = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    optimizer = optim.Muon(
        [{"params": [a], "rule": "adamw"}, {"params": [b], "rule": "muon"}, {"params": [c]}]
    )

    assert [g["rule"] for g in optimizer.param_groups] == ["adamw", "muon", "muon"]
    for p in (a, b, c):
        p.grad = torch.ones(2, 2)
    optimizer.step()
    assert optimizer.state[a].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[b].keys() == {"step", "momentum_buffer"}


def test_a_rule_that_is_not_there_is_refused() -> None:
    w = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(InputError, match="rule of a group of Muon must be 'muon' or 'adamw'; got 'sgd'"):
        optim.Muon([{"params": [w], "rule": "sgd"}])
    with pytest.raises(InputError, match="rule of a group of SGD must be 'sgd'; got 'adamw'"):
        optim.SGD([{"params": [w], "rule": "adamw"}])
    with pytest.raises(InputError, match=r"have at least 2 axes; got one of shape \(2,\)"):
        optim.Muon([{"params": [nn.Parameter(torch.ones(2))], "rule": "muon"}])


def test_the_hyperparameters_of_the_fallback_are_checked() -> None:
    w = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(InputError, match="eps of AdamW must be"):
        optim.Muon([w], fallback={"eps": -1.0})
    with pytest.raises(InputError, match="'beta'"):
        optim.Muon([w], fallback={"beta": 0.9})
    with pytest.raises(
        InputError, match=r"fallback of Adam must be left out; got one\. Adam takes all parameters"
    ):
        optim.Adam([w], fallback={"lr": 0.1})
    with pytest.raises(
        InputError, match="the model that Muon is given must have parameters to train; got none"
    ):
        optim.Muon(nn.ReLU())


def test_both_rules_compute_what_they_compute_alone() -> None:
    torch.manual_seed(0)
    matrix, vector = nn.Parameter(torch.randn(3, 2).double()), nn.Parameter(torch.randn(3).double())
    alone = [copy.deepcopy(matrix), copy.deepcopy(vector)]
    together = optim.Muon(
        [matrix, vector], lr=0.1, precision="parameter", fallback={"lr": 0.01, "weight_decay": 0.3}
    )
    apart = [
        optim.Muon([alone[0]], lr=0.1, precision="parameter"),
        optim.AdamW([alone[1]], lr=0.01, weight_decay=0.3),
    ]

    for _ in range(3):
        for mine, other in zip((matrix, vector), alone, strict=True):
            mine.grad = other.grad = torch.randn_like(mine)
        together.step()
        for optimizer in apart:
            optimizer.step()

    assert torch.equal(matrix, alone[0])
    assert torch.equal(vector, alone[1])


def test_a_state_with_other_routes_is_refused() -> None:
    model = Language()
    saved = optim.Muon(model).state_dict()
    own = optim.Muon(
        [
            {
                "params": [(n, p) for n, p in model.named_parameters() if n in group["param_names"]],
                "rule": "adamw",
            }
            for group in saved["param_groups"]
        ]
    )

    with pytest.raises(
        InputError, match="have its parameters moved by adamw, as the optimizer does; got muon"
    ):
        own.load_state_dict(saved)
