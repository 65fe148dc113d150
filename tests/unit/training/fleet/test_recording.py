import subprocess
import sys

import pytest
import torch
from torch import Tensor

from thalweg.training.fleet.graph import computed_once
from thalweg.training.fleet.recording import recorded


def targets(graph: torch.fx.GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def test_a_graph_computes_what_was_recorded_also_of_other_numbers() -> None:
    weight = torch.tensor([2.0, 3.0])

    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        z = x * weight
        z.add_(1)
        top, place = z.max(0)
        return [z, top + y, place]

    graph = recorded(function, [torch.ones(2), torch.zeros(())])
    given = [torch.tensor([5.0, 7.0]), torch.tensor(0.5)]

    for mine, theirs in zip(graph(*given), function(*given), strict=True):
        assert torch.equal(mine, theirs)
    assert graph(*given)[1].item() == 22.5
    assert weight.tolist() == [2.0, 3.0]


def test_every_node_knows_its_value_and_what_comes_from_elsewhere_is_a_constant() -> None:
    elsewhere = torch.arange(3.0)
    graph = recorded(lambda x: [x + elsewhere], [torch.ones(3)])

    kinds = {node.op: node.meta["val"].tolist() for node in graph.graph.nodes if "val" in node.meta}
    assert kinds == {"placeholder": [1, 1, 1], "get_attr": [0, 1, 2], "call_function": [1, 2, 3]}


def test_gradients_are_recorded_with_what_they_take() -> None:
    def slope(x: Tensor) -> list[Tensor]:
        given = x.detach().requires_grad_()
        return list(torch.autograd.grad((given**3).sum(), [given]))

    graph = recorded(slope, [torch.ones(2)])
    assert graph(torch.tensor([2.0, 3.0]))[0].tolist() == [12.0, 27.0]


def test_what_is_computed_twice_is_computed_once_and_what_is_drawn_twice_is_drawn_twice() -> None:
    def function(x: Tensor) -> list[Tensor]:
        return [x.exp() + x.exp(), torch.rand_like(x) - torch.rand_like(x)]

    once = computed_once(recorded(function, [torch.ones(2)]))

    assert targets(once).count("aten.exp.default") == 1
    assert targets(once).count("aten.rand_like.default") == 2
    same, drawn = once(torch.zeros(2))
    assert same.tolist() == [2.0, 2.0]
    assert (drawn != 0).all()


def test_checks_that_fail_while_recording_are_still_torchs() -> None:
    whole = torch._check_with
    with pytest.raises(RuntimeError, match="expected"):
        recorded(lambda x: [torch._check(False, lambda: "expected")], [torch.ones(2)])  # type: ignore[func-returns-value]
    assert torch._check_with is whole


RACE = """
import sys
import numpy as np
from thalweg.api.prepare import execution, prepare
from thalweg.executors.auto import EXECUTORS, choose
from thalweg.records import Stage
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial

prepared = prepare("digits", 0, None, None, False)
trials = [Trial(name, Stage.TUNING, Recipe(name, 0.01, batch_size=32), seed, 9)
          for name in ("sgd", "adam") for seed in range(4)]
how, _ = choose(prepared.workload, trials, execution(0, "fleet", None, "cpu", 0.0), 72)
traces = list(EXECUTORS["fleet"](prepared.workload, trials, how, lambda trial: False))
print(len(traces), sorted({"sympy", "sklearn", "torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


def test_a_race_of_small_networks_imports_no_compiler_of_torchs() -> None:
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=True)
    assert done.stdout == "8 []\n"
