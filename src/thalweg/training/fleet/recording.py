"""Recording what a function of tensors computes, as a graph of torch's own operations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


def recorded(function: Callable[..., Sequence[Tensor]], given: Sequence[Tensor]) -> fx.GraphModule:
    """Call a function and return the graph of what it did; each node has its value under "val".

    `make_fx` does the same, but imports a compiler first, which takes as long as a race of small networks.

    >>> graph = recorded(lambda x, y: [x * y + 1], [torch.ones(2), torch.ones(2)])
    >>> [node.name for node in graph.graph.nodes], graph(torch.tensor([3.0]), torch.tensor([2.0]))[0].item()
    (['given_0', 'given_1', 'mul_tensor', 'add_tensor', 'output'], 7.0)
    """
    recorder = _Recorder(given)
    with _checks_of_numbers(), recorder:
        made = function(*given)
    recorder.graph.output([recorder.node(x) for x in made])
    return fx.GraphModule(recorder.root, recorder.graph)


@contextmanager
def _checks_of_numbers() -> Iterator[None]:
    """Keep torch from importing SymPy to check what is simply true; other checks are its own."""
    whole: Any = torch._check_with

    def check(error: Any, condition: Any, message: Any = None) -> None:
        if condition is not True:
            whole(error, condition, message)

    torch._check_with = check  # type: ignore[assignment]
    try:
        yield
    finally:
        torch._check_with = whole


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation; tensors are known by identity, and kept, so that none takes another's place."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph, self.root = fx.Graph(), nn.Module()
        self._nodes: dict[int, fx.Node] = {}
        self._kept: list[Tensor] = []
        for place, x in enumerate(given):
            self._know(x, self.graph.placeholder(f"given_{place}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, to keep it from looking in here

    def _know(self, x: Tensor, node: fx.Node) -> None:
        node.meta["val"] = x
        self._nodes[id(x)] = node
        self._kept.append(x)

    def node(self, x: Any) -> Any:
        """Return the node of a tensor; one that comes from elsewhere is a constant."""
        if not isinstance(x, Tensor):
            return x
        if id(x) not in self._nodes:
            name = f"constant_{len(self._kept)}"
            self.root.register_buffer(name, x.detach())
            self._know(x, self.graph.get_attr(name))
        return self._nodes[id(x)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        with torch.utils._python_dispatch._disable_current_modes():
            node = self.graph.call_function(
                func, *(pytree.tree_map(self.node, x) for x in (tuple(args), dict(kwargs)))
            )
            if isinstance(made, Tensor):
                self._know(made, node)
            elif isinstance(made, tuple | list):
                node.meta["val"] = made
                for place, x in enumerate(made):
                    if isinstance(x, Tensor):
                        self._know(x, self.graph.call_function(getitem, (node, place)))
        return made
