"""Compile a step into one graph for all parameters, with `torch.compile`: the backend for GPUs.

The step is the one that `rules.tail` puts together, traced on tensors without storage: no second formula.
A graph belongs to a *structure*: rules, flags, choices, whole numbers, which hyperparameters are zero (the
rate excepted), shapes, strides, types, devices, and which parameters have their numbers in common. All else
enters as data, in float64: numbers of the host as one vector on the device, and those that are tensors as
they are. Neither a schedule nor the count of steps compiles anything anew.

The clock, which depends on the step alone, is computed before the graph, once for all parameters that share
it: inside, every element would raise β to the power t for itself. Only rules with global scope, whose clock
depends on their sums, have it inside.

Nothing in a graph waits for the host. A step can be captured in a CUDA graph

- once it has run with the same structure and plain numbers: it is compiled then, and they are on the device;
- where t, the rate, and what else changes from one replay to the next are tensors on the device, and global
  scalars those that a step has returned. Plain numbers stay in every replay what they were at the capture.

It cannot be where the step is not compiled: with sparse gradients, and for rules that choose by computed
numbers what to compute (Shampoo, SOAP). Such a step runs on `eager`; a `NotCompiledWarning` says so, once.
"""

import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from thalweg.backends import eager
from thalweg.backends.eager import NEVER, Advanced
from thalweg.backends.structure import Call, Given, OnDevice, Plain, Record, Ruled
from thalweg.rules.base import Rule
from thalweg.rules.ops import Array
from thalweg.rules.tail import Row, step

MOST = 64  # graphs that are kept; the one that was not used for longest goes first
NEW_IN_A_ROW = 8  # structures, after which no more are compiled until a known one comes again

Compiler = str | Callable[..., Any]  # what `torch.compile` takes as its backend


class NotCompiledWarning(UserWarning):
    """A step that was to be compiled runs uncompiled, to the same result."""


@torch.no_grad()
def advance(
    rows: Iterable[Row],
    shared: Mapping[str, Any] | None = None,
    factor: Array = 1.0,
    *,
    dynamo_backend: Compiler = "inductor",
) -> Advanced:
    """Move parameters and states in place by one step, as `eager.advance` does, in one compiled graph.

    The first step of a structure compiles it: seconds for a few parameters, a minute for hundreds. Results
    are those of `eager` but for rounding, since what is fused is not rounded in between. What is returned is
    not waited for: `clipped` is a tensor where gradients may be clipped, and global scalars are tensors.

    Args:
        rows: as for `eager.advance`. A hyperparameter that is a tensor on another device than the CPU counts
            as not zero.
        shared: the global scalars of rules with global scope, as the step before left them.
        factor: what the schedule multiplies the rate with; a number or (K,).
        dynamo_backend: what makes code of the graph.
    """
    given, before = list(rows), shared or {}
    if not given:
        return eager.advance(given, before, factor)
    done = _unfit(given) or GRAPHS.run(Call(given, before, factor), dynamo_backend)
    if isinstance(done, str):
        _say(", ".join(dict.fromkeys(row.rule.title for row in given)), done)
        return eager.advance(given, before, factor)
    return done


def _unfit(rows: Sequence[Row]) -> str | None:
    """Return what keeps rows from being compiled, as far as they show it."""
    if any(row.gradient.layout is not torch.strided for row in rows):
        return "sparse gradients"
    if len({row.parameter.device for row in rows}) > 1:
        return "parameters on several devices"
    return None


@cache  # so that it is said once
def _say(titles: str, got: str) -> None:
    sentence = f"A step of {titles} must fit into one compiled graph; got {got}. It runs uncompiled."
    warnings.warn(sentence, NotCompiledWarning, stacklevel=4)


@cache  # so that it is said once
def _announce() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("Thalweg compiles a step: seconds for few parameters, a minute for hundreds.\n")


class Uncompiled(Exception):
    """What keeps a step from being compiled."""


class Structural(OnDevice):
    """Answers `nonzero` of a number from the structure; there is no answer to any other question."""

    def __init__(self) -> None:
        super().__init__()
        # By id: a tensor, how much of `bool((x != 0).any())` it is, and what the answer will be.
        self._met: dict[int, tuple[Tensor, int, bool]] = {}

    def told(self, x: Tensor, truth: bool | None) -> Tensor:
        """Return a number of which it may be known whether it is not zero."""
        if truth is not None:
            self._met[id(x)] = (x, 0, truth)
        return x

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        _, asked, truth = self._met.get(id(args[0]), (None, -1, False)) if args else (None, -1, False)
        if function is Tensor.__bool__:
            if asked != 2:
                raise Uncompiled("a choice that depends on what it computes")
            return truth
        made = super().__torch_function__(function, types, args, kwargs)
        compared = function is Tensor.ne and asked == 0 and isinstance(args[1], int) and args[1] == 0
        if compared or (function is Tensor.any and asked == 1):
            self._met[id(made)] = (made, asked + 1, truth)
        return made


def trace(call: Call) -> tuple[GraphModule, bool, bool]:
    """Return the graph of a call, and whether somebody asks what is clipped, and what is skipped.

    Its inputs are the vector of plain numbers, and the tensors. It writes parameters and states in place, and
    returns what was clipped and skipped, as far as somebody asks, and the new global scalars.
    """
    asked: list[bool] = []

    def whole(numbers: Tensor, *tensors: Tensor) -> list[Tensor]:
        def put(x: Any) -> Any:
            """Put numbers and tensors in their places."""
            if isinstance(x, Record):
                entries = [put(entry) for entry in x.entries]
                return x.kind(*entries) if hasattr(x.kind, "_fields") else tuple(entries)
            if isinstance(x, Plain):
                return structural.told(plain[x.place], x.truth)
            if isinstance(x, Given):
                tensor = tensors[x.place]
                return structural.told(tensor if x.shape else tensor.reshape(()), x.truth)
            if isinstance(x, Ruled):
                rule, clock = call.rules[x.identity], put(x.clock)
                return rule if clock is None else replace(rule, clock=lambda t, h, around: clock)
            return x

        plain = numbers.unbind()
        with Structural() as structural:
            rows: list[Row] = [put(record) for record in call.structure.rows]
            shared = {name: put(record) for name, record in call.structure.shared}
            done = step([_widened(row) for row in rows], shared, put(call.structure.factor))
            for row, ready in zip(rows, done.rows, strict=True):
                parameter, state = done.moved(ready)
                for old, new in zip((row.parameter, *row.state), (parameter, *state), strict=True):
                    if new is not old:  # as what a rule only remembers
                        old.copy_(new.reshape(old.shape))
            asked[:] = [done.clipped is not False, done.skipped is not False]
            clipped = [done.clipped] if asked[0] else []
            skipped = [done.skipped] if asked[1] else []
            return clipped + skipped + [x for name in shared for x in done.shared[name]]

    graph = make_fx(whole, tracing_mode="fake")(call.vector(), *call.tensors)
    return graph, asked[0], asked[1]


def _widened(row: Row) -> Row:
    """Return a row in the dtype of its state, in which a step is computed."""
    p, g, s = row.parameter, row.gradient, row.state
    wide = next((x.dtype for x in s if x.is_floating_point()), torch.promote_types(p.dtype, g.dtype))
    s = type(s)(*(x if x.ndim else x.reshape((1,) * p.ndim) for x in s))  # a number may come without axes
    return row._replace(parameter=p.to(wide), gradient=g.to(wide), state=s)


class Graph:
    """A compiled structure.

    Raises:
        Uncompiled: it cannot be traced, or there is no `torch.compile` for this Python.
    """

    def __init__(self, call: Call, dynamo_backend: Compiler) -> None:
        try:
            graph, self.clipped, self.skipped = trace(call)
            self.compiled = torch.compile(graph, fullgraph=True, dynamic=False, backend=dynamo_backend)
        except Exception as error:  # a body may raise anything on tensors without storage
            raise Uncompiled(_why(error)) from error
        self.shared = call.structure.shared
        self._last = (call.numbers, call.vector())

    def run(self, call: Call) -> Advanced:
        """Move the parameters and states of a call of this structure."""
        numbers, vector = self._last
        if numbers != call.numbers:
            vector = call.vector()
            self._last = (call.numbers, vector)
        # While another thread traces anything with FX, whose flag is the process's, this runs uncompiled.
        with torch._dynamo.config.patch(error_on_nested_fx_trace=False):
            made = iter(self.compiled(vector, *call.tensors))
        clipped = next(made) if self.clipped else False
        skipped = next(made) if self.skipped else NEVER
        shared = {name: kind(*(next(made) for _ in entries)) for name, (kind, entries) in self.shared}
        return Advanced(shared, clipped, skipped)


class Graphs:
    """The graphs used last, or why there is none; any thread may ask."""

    def __init__(self) -> None:
        # With their rules, so that the ids in the keys stay theirs.
        self._known: OrderedDict[Hashable, tuple[Graph | str, Mapping[int, Rule]]] = OrderedDict()
        self._looking, self._compiling = threading.Lock(), threading.Lock()
        self._new = 0  # structures in a row

    def run(self, call: Call, dynamo_backend: Compiler) -> Advanced | str:
        """Run a call, or return what keeps it from being compiled."""
        key = (call.structure, dynamo_backend)
        graph = self._find(key)
        if graph is None:
            with self._compiling:
                graph = self._find(key)  # another thread may have compiled it meanwhile
                if graph is None:
                    return self._first(key, call, dynamo_backend)
        return graph if isinstance(graph, str) else graph.run(call)

    def _find(self, key: Hashable) -> Graph | str | None:
        with self._looking:
            if key not in self._known:
                return None
            self._new = 0
            self._known.move_to_end(key)
            return self._known[key][0]

    def _first(self, key: Hashable, call: Call, dynamo_backend: Compiler) -> Advanced | str:
        from torch._dynamo.exc import TorchDynamoException  # takes a second to import

        if self._new == NEW_IN_A_ROW:
            return f"another structure in each of {NEW_IN_A_ROW} steps"
        _announce()
        graph: Graph | str
        done: Advanced | str
        try:
            graph = Graph(call, dynamo_backend)
            done = graph.run(call)  # which compiles before it moves anything
        except (Uncompiled, TorchDynamoException) as error:
            graph = done = _why(error)
        with self._looking:
            self._new += 1
            self._known[key] = (graph, call.rules)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return done


def _why(error: Exception) -> str:
    if isinstance(error, Uncompiled):
        return str(error)
    cause = getattr(error, "inner_exception", error)
    return f"{type(cause).__name__}: {cause}".strip().splitlines()[0]


GRAPHS = Graphs()
