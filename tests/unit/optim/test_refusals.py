"""What the arguments of thalweg.optim refuse, in words, before anything is touched."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.errors import InputError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))


def sam_with_gradients() -> optim.RuleOptimizer:
    model = network()
    optimizer = optim.SGD(model, lr=0.1, wrappers=[optim.sam()])
    model(torch.ones(2, 3)).sum().backward()
    return optimizer


WRAPPERS = (
    "the wrappers of Adam must be a list of wrappers with their values; got {}. Write [clip_norm(1.0)]."
)
MODEL = "{} must be a torch.nn.Module; got {}."


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([optim.clip_norm], "[clip_norm without its brackets]"),
        (optim.clip_norm, "clip_norm without its brackets"),
        (optim.clip_norm(2), "clip_norm(limit=2)"),
        ("clip_norm", "'clip_norm'"),
        (["clip_norm"], "['clip_norm']"),
        ({"clip_norm": 1.0}, "{'clip_norm': 1.0}"),
        (None, "None"),
        (3, "3"),
    ],
)
def test_wrappers_are_a_list_of_wrappers_with_their_values(given: Any, named: str) -> None:
    with pytest.raises(InputError) as refusal:
        optim.Adam(network(), wrappers=given)
    assert str(refusal.value) == WRAPPERS.format(named)


@pytest.mark.parametrize("given", ["float32", torch.int32, torch.complex64, float, 3])
def test_a_state_dtype_is_a_floating_one(given: Any) -> None:
    with pytest.raises(
        InputError, match=r"^state_dtype of Adam must be a floating dtype of torch, or None; got"
    ):
        optim.Adam(network(), state_dtype=given)


@pytest.mark.parametrize("given", [3, "adamw", [("lr", 0.1)]])
def test_a_fallback_is_a_table(given: Any) -> None:
    with pytest.raises(InputError, match=r"^fallback of Muon must be a table of names and values; got"):
        optim.Muon(network(), fallback=given)


@pytest.mark.parametrize(
    ("call", "who"),
    [
        (lambda x: optim.ScheduleFreeAdamW(network()).attach(x), "the model to attach to"),
        (lambda x: optim.groups(x), "the model to make groups of"),
        (lambda x: optim.recompute_batchnorm(x, []), "the model whose statistics are recomputed"),
        (lambda x: sam_with_gradients().perturbed(x).__enter__(), "the model whose buffers are put back"),
    ],
)
def test_a_model_is_a_module(call: Callable[[Any], Any], who: str) -> None:
    with pytest.raises(InputError) as refusal:
        call("model")
    assert str(refusal.value) == MODEL.format(who, "str")
    with pytest.raises(InputError) as refusal:
        call([nn.Parameter(torch.ones(2))])
    assert str(refusal.value) == MODEL.format(who, "list")


@pytest.mark.parametrize("given", [["w"], [{"params": ["w"]}], [("w", "v")]])
def test_what_is_no_tensor_is_refused_by_pytorch_for_methods_of_matrices_too(given: Any) -> None:
    for method in (optim.Adam, optim.Muon):
        with pytest.raises(TypeError, match="can only optimize Tensors"):
            method(given)


def test_curvature_has_the_shapes_of_the_parameters_and_may_come_one_by_one() -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SophiaH(model)
    with pytest.raises(InputError) as refusal:
        optimizer.refresh([torch.ones(1, 2), torch.ones(3)])
    assert str(refusal.value) == (
        "the curvature that Sophia-H is given must have the shapes of the parameters, [(1, 2), (1,)]; "
        "got [(1, 2), (3,)]."
    )
    assert not optimizer.state
    optimizer.refresh(torch.ones_like(p) for p in model.parameters())
    assert all((state["hessian"] > 0).all() for state in optimizer.state.values())


def test_a_conversion_takes_an_optimizer_of_ours_and_a_state() -> None:
    with pytest.raises(
        InputError, match=r"^the optimizer whose state is converted must be one of thalweg\.optim; got Adam"
    ):
        optim.convert.to_package(torch.optim.Adam(network().parameters()))  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"^the state of prodigyopt.Prodigy must have state and param_groups; got \[\]"
    ):
        optim.convert.from_package(optim.Prodigy(network()), {})


def test_skipping_covers_an_estimate_of_curvature_that_is_not_finite() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = optim.SophiaH([w], wrappers=[optim.skip_nonfinite()])
    optimizer.refresh([torch.full((2,), 8.0)])
    before = optimizer.state[w]["hessian"].clone()
    optimizer.refresh([torch.tensor([1.0, torch.nan])])

    assert torch.equal(optimizer.state[w]["hessian"], before)


def test_decay_is_given_to_the_method_or_to_the_wrapper_that_takes_its_place() -> None:
    leaf = nn.Parameter(torch.ones(2))
    with pytest.raises(InputError) as error:
        optim.AdamW([leaf], weight_decay=0.1, wrappers=[optim.decoupled_decay(0.2)])
    assert str(error.value) == (
        "weight_decay of AdamW must be given once; got it beside decoupled_decay(weight_decay=0.2). "
        "Leave it out: the wrapper takes its place."
    )
    alone = optim.AdamW([leaf], wrappers=[optim.decoupled_decay(0.2)])
    other = optim.AdamW([leaf], weight_decay=0.1, wrappers=[optim.decoupled_decay(by="schedule")])
    assert [o.param_groups[0]["weight_decay"] for o in (alone, other)] == [0.2, 0.1]
