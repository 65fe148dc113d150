"""States of thalweg.optim: exchanged with PyTorch, saved, copied, refused."""

import copy
import io
import pickle
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import (
    deviation,
    gradients,
    starts,
)
from thalweg import optim
from thalweg.errors import InputError
from thalweg.optim import BY_RULE
from thalweg.optim.states import positions
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import RULES
from walks import (
    CLOSE,
    NAMES,
    RICH,
    THEIRS,
    assert_same_bits,
    begin_for,
    buffers,
    double,
    now,
    parameters,
    walk,
)

__all__ = ["double"]  # a fixture


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_state_goes_to_pytorch_and_comes_from_it_in_the_middle_of_a_run(
    name: str, ours_first: bool, dtype: torch.dtype
) -> None:
    @settings(max_examples=5)
    @given(after=st.integers(0, 12), seed=st.integers(0, 1000))
    def check(after: int, seed: int) -> None:
        slopes = gradients(seed, steps=after + 12)
        classes = (BY_RULE[name], THEIRS[name]) if ours_first else (THEIRS[name], BY_RULE[name])
        first = parameters(begin_for(name, seed), dtype)
        giver = classes[0](list(first.values()), foreach=False, **RICH[name])
        walk(giver, first, slopes[:after])

        second = parameters(now(first), dtype)
        taker = classes[1](list(second.values()), lr=0.3, foreach=False)
        taker.load_state_dict(copy.deepcopy(giver.state_dict()))  # PyTorch would share the buffers

        assert_same_bits(buffers(giver), buffers(taker))
        rest = [walk(o, leaves, slopes[after:]) for o, leaves in ((giver, first), (taker, second))]
        close = CLOSE if dtype is torch.float64 else 1e-5  # of float32's 6e-8, over 12 steps
        assert deviation(*rest, now(first)) <= close

    check()


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_was_saved_keeps_its_bits_and_resumes_to_the_same_bits(name: str) -> None:
    slopes = gradients(1, steps=20)
    leaves = parameters(starts(1))
    optimizer = BY_RULE[name](list(leaves.values()), **RICH[name])
    walk(optimizer, leaves, slopes[:10])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = parameters(now(leaves))
    other = BY_RULE[name](list(resumed.values()))

    other.load_state_dict(torch.load(file, weights_only=True))

    assert_same_bits(buffers(optimizer), buffers(other))
    assert deviation(walk(optimizer, leaves, slopes[10:]), walk(other, resumed, slopes[10:]), starts(1)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_deepcopy_and_pickle_go_on_as_the_original(name: str) -> None:
    slopes = gradients(1, steps=8)
    leaves = parameters(starts(1))
    optimizer = BY_RULE[name](list(leaves.values()), **RICH[name])
    walk(optimizer, leaves, slopes[:4])
    pair = (list(leaves.values()), optimizer)

    copies = [copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))]

    expected = walk(optimizer, leaves, slopes[4:])
    for others, twin in copies:
        path = walk(twin, dict(zip(leaves, others, strict=True)), slopes[4:])
        # To rounding: what was a strided view is dense in a pickled copy, and moved by another backend.
        assert deviation(path, expected, starts(1)) <= 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_loading_copies_and_keeps_the_dtype_of_the_state(name: str) -> None:
    full = torch.nn.Parameter(torch.ones(2, dtype=torch.float32))
    half = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    precise, optimizer = (BY_RULE[name]([leaf], **RICH[name]) for leaf in (full, half))
    full.grad = torch.tensor([0.1, 0.3], dtype=torch.float32)
    precise.step()
    saved = precise.state_dict()
    before = buffers(precise)

    optimizer.load_state_dict(saved)

    assert_same_bits(buffers(optimizer), before)
    half.grad = torch.ones_like(half)
    optimizer.step()
    assert half.dtype == torch.bfloat16
    assert {x.dtype for x in buffers(optimizer)[0].values()} == {torch.float32}
    assert_same_bits(buffers(precise), before)


def test_another_methods_state_is_refused_in_words_and_changes_nothing() -> None:
    for name in NAMES:
        for other in NAMES:
            if other == name or enough(RULES[name], RULES[other]):
                continue
            mine, foreign = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
            optimizer, stranger = BY_RULE[name]([mine], **RICH[name]), BY_RULE[other]([foreign])
            for leaf, each in ((mine, optimizer), (foreign, stranger)):
                leaf.grad = torch.ones(2)
                each.step()
            state, groups = buffers(optimizer), copy.deepcopy(optimizer.param_groups)
            who = f"the state that {RULES[name].title} loads must have "

            with pytest.raises(InputError, match=re.escape(who)):
                optimizer.load_state_dict(stranger.state_dict())

            assert_same_bits(buffers(optimizer), state)
            assert str(optimizer.param_groups) == str(groups)


def enough(rule: Rule, other: Rule) -> bool:
    """Tell whether another rule's state has all that a rule needs: Adam's and AdamW's are alike."""
    loaded = rule.defaults() | {n: x for n, x in other.defaults().items() if n in rule.hyper}
    needed = set(rule.state_fields(rule.values(loaded), (2,)))
    have = set(other.state_fields(other.values(other.defaults()), (2,)))
    return set(positions(rule)) <= {*positions(other), "decoupled_weight_decay"} and needed <= have


def test_a_state_that_lacks_a_buffer_is_refused() -> None:
    leaf = torch.nn.Parameter(torch.ones(2))
    leaf.grad = torch.ones(2)
    optimizer = optim.Adam([leaf])
    optimizer.step()
    saved = optimizer.state_dict()
    del saved["state"][0]["exp_avg"]

    with pytest.raises(
        InputError, match=r"must have exp_avg, exp_avg_sq for parameter 0; got \['exp_avg_sq', 'step'\]"
    ):
        optim.Adam([leaf]).load_state_dict(saved)


def single(value: float) -> torch.Tensor:
    return torch.full((2,), value, dtype=torch.float32)


def test_the_hooks_of_loading_may_change_what_is_loaded_and_see_what_was_kept() -> None:
    leaf = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = optim.Adam([leaf])
    saved = {
        "state": {0: {"step": 3.0, "exp_avg": single(1.0), "exp_avg_sq": single(1.0)}},
        "param_groups": optimizer.state_dict()["param_groups"],
    }

    def change(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "state": {0: {**state["state"][0], "exp_avg": single(7.0)}}}

    seen = []
    optimizer.register_load_state_dict_pre_hook(change)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o.state[leaf]["exp_avg"].clone()))
    for _ in range(2):
        optimizer.load_state_dict(saved)

    assert [(x.dtype, x.tolist()) for x in seen] == [(torch.float32, [7.0, 7.0])] * 2
    assert optimizer.state[leaf]["step"].item() == 3
    assert saved["state"][0]["exp_avg"].tolist() == [1.0, 1.0]
