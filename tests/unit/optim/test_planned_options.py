"""How steps are to be carried out: what may be asked for, and that it is done, kept, and said."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.errors import InputError
from twins import World, adam, close, slope

BACKENDS = ("auto", "eager")


def test_kernels_that_are_not_there_are_done_without() -> None:
    w = nn.Parameter(torch.ones(3, 3))
    optimizer = optim.Shampoo([w], lr=0.1, backend="kernels")
    w.grad = torch.ones(3, 3)
    assert optimizer.runs == "No step was taken yet."
    optimizer.step()

    assert optimizer.runs == "Parameters moved: 1 by eager operations."
    assert (w != 1).all()


@pytest.mark.parametrize("given", ["cuda", "", None, 3, "Kernels", True])
def test_an_unknown_backend_is_refused(given: Any) -> None:
    with pytest.raises(
        InputError,
        match=r"^the backend of Adam must be one of auto, kernels, compiled, eager; got ",
    ):
        adam([nn.Parameter(torch.ones(1))], backend=given)


def test_rounding_by_chance_is_refused_where_it_has_no_meaning() -> None:
    w = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    with pytest.raises(InputError, match=r"^stochastic_rounding of Adam must come with .*state_dtype=None"):
        adam([w], stochastic_rounding=True)
    with pytest.raises(InputError, match=r"^stochastic_rounding of Adam must come with .*torch\.bfloat16"):
        adam([w], stochastic_rounding=True, state_dtype=torch.bfloat16)
    with pytest.raises(InputError, match=r"^stochastic_rounding of Adam must be True or False; got 1\.$"):
        adam([w], stochastic_rounding=1, state_dtype=torch.float32)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("backend", ["auto", "kernels", "eager"])
def test_rounding_by_chance_keeps_small_steps_however_they_run(backend: str, gaps: bool) -> None:
    whole = torch.ones(100, 200, dtype=torch.bfloat16)
    w = nn.Parameter(whole[:, ::2] if gaps else whole[:, :100].clone())
    optimizer = optim.SGD([w], lr=1e-4, state_dtype=torch.float32, stochastic_rounding=True, backend=backend)
    for _ in range(20):
        w.grad = torch.ones_like(w)
        optimizer.step()

    # 2e-3 is half of what bfloat16 distinguishes below 1, so each element has gone there half of the time;
    # the mean of 10,000 of them has a standard deviation of 2e-5.
    assert w.double().mean().item() == pytest.approx(1 - 2e-3, abs=2e-4)


OPTIONS: dict[str, Any] = {
    "state_dtype": torch.float32, "stochastic_rounding": True, "backend": "kernels",
}  # fmt: skip


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "change"])
def test_options_survive(how: str) -> None:
    w = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = adam([w], **OPTIONS)
    w.grad = torch.ones_like(w)
    optimizer.step()
    if how == "change":
        twin: optim.RuleOptimizer = optim.change(optimizer, optim.NAdam, lr=0.1)
    else:
        twin = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))

    assert twin.execution._asdict() == OPTIONS
    assert twin.runs == "No step was taken yet."
    (p,) = twin.param_groups[0]["params"]
    p.grad = torch.ones_like(p)
    twin.step()
    assert twin.runs == "Parameters moved: 1 by compiled kernels."
    assert twin.state[p]["exp_avg"].dtype == torch.float32


def test_options_are_no_part_of_a_state() -> None:
    one, other = (World(b, adam, ((3,),), torch.float64) for b in BACKENDS)
    one.step()
    other.step()

    assert one.optimizer.state_dict()["param_groups"] == other.optimizer.state_dict()["param_groups"]
    other.optimizer.load_state_dict(one.optimizer.state_dict())
    other.step()
    assert other.by_kernels == 0
    close(other.state(0)["exp_avg"], one.state(0)["exp_avg"] * 0.8 + slope((3,), 2, 0) * 0.2, 1e-13)
