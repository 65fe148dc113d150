"""Parameter groups from a model: what does not decay, rates by depth, rates of adapters."""

from typing import Any

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.errors import InputError


class RootNorm(nn.Module):
    """A norm that PyTorch does not know."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class Block(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = RootNorm(size)
        self.attention = nn.MultiheadAttention(size, 1)
        self.mlp = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))
        self.scale = nn.Parameter(torch.ones(size))  # a vector that is neither bias nor norm


class Transformer(nn.Module):
    def __init__(self, tied: bool = False, blocks: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.blocks = nn.ModuleList(Block(4) for _ in range(blocks))
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 7)
        if tied:
            self.out.weight = self.tokens.weight


def names(groups: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {group["description"]: [name for name, _ in group["params"]] for group in groups}


def of(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: group for group in groups for name, _ in group["params"]}


def test_biases_and_norms_do_not_decay_whatever_their_shape_and_other_vectors_do() -> None:
    model = Transformer()
    model.table = nn.LayerNorm([2, 3])

    decay, still = optim.groups(model)

    assert still["weight_decay"] == 0
    assert "weight_decay" not in decay
    assert [n for n, _ in still["params"]] == [
        *(f"blocks.{i}.{n}" for i in range(2) for n in (
            "norm.weight", "attention.in_proj_bias", "attention.out_proj.bias", "mlp.0.bias", "mlp.2.bias",
        )),
        "norm.weight", "norm.bias", "out.bias", "table.weight", "table.bias",
    ]  # fmt: skip
    assert {"blocks.0.scale", "tokens.weight", "pos_embed", "blocks.1.attention.in_proj_weight"} <= {
        n for n, _ in decay["params"]
    }


def test_embeddings_decay_unless_they_are_asked_not_to() -> None:
    model = Transformer()
    still = names(optim.groups(model, no_decay="biases, norms and embeddings"))["no decay"]

    assert {"tokens.weight", "pos_embed"} <= set(still)
    assert names(optim.groups(model, no_decay="nothing")) == {
        "all other parameters": [n for n, _ in model.named_parameters()]
    }


def test_every_trained_parameter_comes_once_a_tied_one_too() -> None:
    model = Transformer(tied=True)
    model.blocks[0].requires_grad_(False)

    for options in ({}, {"rate_decay": 0.5}, {"no_decay": "nothing"}):
        listed = [p for group in optim.groups(model, **options) for _, p in group["params"]]
        assert sorted(map(id, listed)) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_rates_fall_with_the_depth_from_the_top() -> None:
    groups = of(optim.groups(Transformer(blocks=3), rate_decay=0.5, no_decay="nothing"))
    factors = {name: group.get("rate_factor", 1.0) for name, group in groups.items()}

    assert factors["out.weight"] == factors["norm.bias"] == 1
    assert factors["blocks.2.mlp.0.weight"] == 0.5
    assert factors["blocks.1.scale"] == 0.25
    assert factors["blocks.0.norm.weight"] == 0.125
    assert factors["tokens.weight"] == factors["pos_embed"] == 0.0625
    assert groups["blocks.1.scale"]["description"] == "block 2 of 3, rate × 0.25"
    assert groups["out.weight"]["description"] == "after the blocks"
    tied = of(optim.groups(Transformer(tied=True), rate_decay=0.5))
    assert tied["tokens.weight"]["description"] == "before the blocks, rate × 0.125"


def test_blocks_of_one_type_in_several_containers_are_counted_through() -> None:
    class Stage(nn.Sequential):
        pass

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)
            self.inside = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))

    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(3, 2, 3))
    model.add_module("one", Stage(Residual(), Residual()))
    model.add_module("two", Stage(Residual(), Residual(), Residual()))
    model.add_module("head", nn.Linear(2, 2))

    groups = of(optim.groups(model, rate_decay=0.5, no_decay="nothing"))

    assert groups["stem.weight"]["rate_factor"] == 0.5**6
    assert groups["one.1.inside.0.weight"]["description"] == "block 2 of 5, rate × 0.0625"
    assert groups["two.2.conv.bias"]["rate_factor"] == 0.5
    assert "rate_factor" not in groups["head.weight"]


def test_plain_layers_are_blocks_too_and_what_stands_between_counts_to_the_layer_before() -> None:
    model = nn.Sequential(
        nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)
    )
    groups = of(optim.groups(model, rate_decay=0.1, no_decay="nothing"))

    assert [
        groups[n].get("rate_factor", 1) for n in ("0.weight", "1.weight", "3.bias", "4.bias", "5.bias")
    ] == (pytest.approx([0.01, 0.01, 0.1, 1, 1]))


def with_adapters() -> nn.Module:
    model = Transformer()
    model.requires_grad_(False)
    for block in model.blocks:
        block.lora_A = nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
        block.lora_B = nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)})
    return model


def test_matrices_b_of_adapters_learn_faster() -> None:
    groups = optim.groups(with_adapters(), lora_ratio=16)

    assert names(groups) == {
        "all other parameters": [f"blocks.{i}.lora_A.default.weight" for i in range(2)],
        "matrices B of adapters, rate × 16": [f"blocks.{i}.lora_B.default.weight" for i in range(2)],
    }
    assert [group["lr"] for group in optim.AdamW(groups, lr=0.01).param_groups] == [0.01, 0.16]


def test_what_is_asked_for_combines() -> None:
    model = with_adapters()
    model.out.bias.requires_grad_(True)

    groups = of(optim.groups(model, lora_ratio=4, rate_decay=0.5))

    assert groups["blocks.1.lora_B.default.weight"]["rate_factor"] == 2
    assert groups["blocks.0.lora_B.default.weight"].get("rate_factor", 1) == 1
    assert groups["blocks.0.lora_A.default.weight"]["rate_factor"] == 0.25
    assert groups["out.bias"]["weight_decay"] == 0
    assert groups["out.bias"]["description"] == "after the blocks, no decay"


def test_groups_keep_names_and_words_in_the_optimizer_and_serve_pytorchs_classes() -> None:
    model = Transformer()
    ours = optim.AdamW(optim.groups(model, rate_decay=0.5), lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(optim.groups(model, rate_decay=0.5, lr=0.01), weight_decay=0.1)

    assert {g["description"]: (g["lr"], g["weight_decay"], g["param_names"]) for g in ours.param_groups} == {
        g["description"]: (g["lr"], g["weight_decay"], g["param_names"]) for g in theirs.param_groups
    }
    theirs.load_state_dict(ours.state_dict())


def test_what_cannot_be_done_is_refused_in_words() -> None:
    model = nn.Linear(2, 2)
    for options, words in (
        ({"no_decay": "bias"}, "no_decay of the groups must be one of"),
        ({"rate_decay": 1.5}, r"rate_decay of the groups must be a number in \[0, 1\]; got 1.5"),
        ({"rate_decay": 0.0}, "rate_decay of the groups must be above 0"),
        ({"lora_ratio": 0}, "lora_ratio of the groups must be a finite number above 0; got 0"),
        ({"lr": -1.0}, "lr of the groups must be a finite number of at least 0; got -1.0"),
        (
            {"lora_ratio": 16},
            "trained parameters named lora_A and lora_B for lora_ratio; got 0 of A and 0 of B",
        ),
        (
            {"rate_decay": 0.5},
            r"at least two blocks of one type in a ModuleList or Sequential; got 0 in Linear",
        ),
    ):
        with pytest.raises(InputError, match=words):
            optim.groups(model, **options)
