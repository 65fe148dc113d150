"""Follow a graph of torch's through one replica: which loops and products it takes, on which memory.

One axis of everything that follows from an input is that of the replicas (`replica_axes`); here it is as long
as it is for one of them. What would mix replicas is refused. What follows from constants alone is computed at
once, by torch.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from thalweg.backends import replica_axes as axes
from thalweg.backends.replica_arrays import ARRAYS, Call
from thalweg.backends.replica_image_calls import IMAGES
from thalweg.backends.replica_ops import COMPARISONS, FORMULAS, FULL, GIVEN, LOGIC, SAME, VIEWS
from thalweg.backends.replica_pieces import PIECES, Place, Shifted, shift
from thalweg.backends.replica_steps import Machine, Steps
from thalweg.backends.replica_values import (
    LARGEST_CONSTANT,
    Buffer,
    Expr,
    Splat,
    Value,
    View,
    cast,
    distinct,
    dtype_of,
    expression,
    fresh,
    name_of,
    row_major,
    uniform,
    value_of,
    where,
)
from thalweg.backends.symbols import Untraceable

LARGEST_EXPRESSION = 32  # operations that are computed together


class Lowered:
    """A graph as steps on the memory of one replica.

    Args:
        graph: what `make_fx` made: placeholders with a leading axis of replicas.
        machine: for which processor.

    Raises:
        Untraceable: an operation is unknown, or mixes replicas.
    """

    def __init__(self, graph: GraphModule, machine: Machine) -> None:
        self.graph = graph
        self.work = Steps(machine)
        self.inputs: list[View] = []
        self.outputs: list[View] = []
        self.known: dict[Node, Any] = {}
        self.back: dict[Node, int] = {}  # where the axis of the replicas is, counted from the last: 1, 2, …
        self.backs: dict[Node, Sequence[int]] = {}  # likewise, of each of several results
        self.order = {node: i for i, node in enumerate(graph.graph.nodes)}
        self.alike: set[Node] = set()  # constants of the shape of something that replicas have
        self.roots: dict[Node, Node] = {}  # whose memory a node sees
        self.turned = _turned(graph)
        self.replicas = 0
        for node in graph.graph.nodes:
            self._follow(node)
        self.work.prune()

    # What a node is.

    def _follow(self, node: Node) -> None:
        match node.op:
            case "placeholder":
                self._place(node)
            case "get_attr":
                self.known[node] = operator.attrgetter(str(node.target))(self.graph)
                self.roots[node] = node
            case "call_function":
                try:
                    self.known[node] = self._called(node)
                except Untraceable:
                    raise
                except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as problem:
                    raise Untraceable(f"{node.target} must be known here; got: {problem}") from problem
            case "output":
                self._finish(node)
            case _:
                raise Untraceable(f"A traced graph must hold operations of torch's; got: {node.op}.")

    def _place(self, node: Node) -> None:
        meta = node.meta.get("val")
        self.roots[node] = node
        if not isinstance(meta, Tensor):
            raise Untraceable(f"An input must be a tensor; got {type(meta).__name__}.")
        self.replicas = self.replicas or (meta.shape[0] if meta.dim() else 0)
        if not meta.dim() or meta.shape[0] != self.replicas:
            raise Untraceable(
                f"An input must have a leading axis of {self.replicas} replicas; got {tuple(meta.shape)}."
            )
        shape, dtype = self._shape(meta, meta.dim()), dtype_of(meta)
        view = View(Buffer(0, "input", len(self.inputs)), 0, shape, row_major(shape), dtype)
        self.inputs.append(view)
        self.known[node], self.back[node] = view, meta.dim()

    def _shape(self, meta: Tensor, back: int) -> tuple[int, ...]:
        return axes.of_one(tuple(meta.shape), back, self.replicas)

    def _called(self, node: Node) -> Any:
        if node.target is operator.getitem:
            source: Any = node.args[0]
            self.roots[node] = self.roots[source]
            backs = self.backs.get(source)
            self.back[node] = self.back.get(source, 0) if backs is None else backs[int(node.args[1])]  # type: ignore[arg-type]
            return self._kept(node, self.known[source][node.args[1]])
        target: Any = node.target
        if not isinstance(target, torch._ops.OpOverload):
            raise Untraceable(f"A traced graph must hold operations of torch's; got: {target}.")
        if torch.Tag.nondeterministic_seeded in target.tags:
            raise Untraceable(f"What is compiled must not draw numbers; got: {target}.")
        name = target._schema.name.removeprefix("aten::")
        if mutable := target._schema.is_mutable:
            if not name.endswith("_") or name.endswith("__"):
                raise Untraceable(f"What is compiled must not write into its operands; got: {target}.")
            name = name[:-1]
        arguments = torch.fx.map_arg((node.args, node.kwargs), lambda n: self.known[n])
        batched = [n for n in node.all_input_nodes if not isinstance(self.known[n], Tensor)]
        self.roots[node] = node
        if batched or any(n in self.alike for n in node.all_input_nodes):
            self.alike.add(node)
        if name in FULL or name in GIVEN:
            if mutable:
                self._overwritten(node)
            made = self._full(node, name, arguments[0])
            if mutable:
                self.known[node.args[0]] = made  # type: ignore[index]
            return made
        if not batched:
            if mutable:
                raise Untraceable(f"What is compiled must not write into constants; got: {target}.")
            return _constant(target, *arguments)
        if mutable:
            self._overwritten(node)
        elif name in VIEWS:
            self.roots[node] = self.roots[batched[0]]
        result = self._lowered(node, name, batched, *arguments)
        if mutable:
            changed: Any = node.args[0]
            self.known[changed], self.back[changed] = result, self.back[node]
        return result

    def _overwritten(self, node: Node) -> None:
        """Refuse a change in place that others would see."""
        target = node.args[0]
        assert isinstance(target, Node)
        self.roots[node] = root = self.roots[target]
        now = self.order[node]
        if root.op != "call_function":
            raise Untraceable(f"What is compiled must not write into its inputs; got: {node.target}.")
        for other, its in list(self.roots.items()):
            if its is root and other not in (target, node) and any(self.order[u] > now for u in other.users):
                raise Untraceable(f"What is compiled must not be seen twice and changed; got: {node.target}.")

    def _lowered(
        self, node: Node, name: str, batched: list[Node], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if name in VIEWS:
            return self._viewed(node, args, kwargs)
        if name == "add" and (step := shift(args, self.replicas, self.back[batched[0]])) and not kwargs:
            self.back[node] = self.back[batched[0]]
            return Shifted(args[0], step)
        meta = node.meta["val"]
        example = meta[0] if isinstance(meta, tuple | list) else meta
        made: Any
        if name in PIECES or name in IMAGES:
            place = Place(
                self.work, node, self.replicas, {n: self.back.get(n, 0) for n in node.all_input_nodes}
            )
            if name in PIECES:
                made, back = PIECES[name](place, *args, **kwargs)
            else:
                made, self.backs[node] = IMAGES[name](place, *args, **kwargs)
                back = self.backs[node][0]
        else:
            back = axes.common({self.back[n] for n in batched})
            args, kwargs = torch.fx.node.map_aggregate((args, kwargs), lambda x: self._shared(x, back))
            call = Call(self.work, node, node in self.turned, back, [])
            made = self._made(call, node, name, args, kwargs)
            back = call.left(example.dim())
        self.back[node] = back
        if isinstance(meta, Tensor) and not isinstance(made, Tensor):
            shape = self._shape(meta, back)
            made = _spread(made, shape)
            if made.shape != shape or made.dtype != dtype_of(meta):
                raise Untraceable(f"{node.target} must give {shape}; got {made.shape}.")
        return self._kept(node, made)

    def _shared(self, x: Any, back: int) -> Any:
        """Return a constant for one replica."""
        return axes.shared(x, back, self.replicas) if isinstance(x, Tensor) else x

    def _kept(self, node: Node, made: Any) -> Any:
        """Store what several others need, and what has grown long."""
        if isinstance(made, Expr) and (len(node.users) > 1 or len(distinct(made)) > LARGEST_EXPRESSION):
            return self.work.stored(made)
        return made

    def _made(self, call: Call, node: Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in ARRAYS:
            return ARRAYS[name](call, *args, **kwargs)
        dtype = call.dtype
        if name in SAME:
            return value_of(args[0])
        if name == "_to_copy":
            return cast(value_of(args[0]), dtype)
        if name == "copy":
            return _spread(cast(value_of(args[1]), dtype), self._shape(node.meta["val"], call.back))
        if name in FORMULAS:
            if dtype in ("bool", "uint8") and name != "mul":
                raise Untraceable(f"{node.target} must be of numbers with a sign; got {dtype}.")
            named = {key: _operand(x, dtype) for key, x in kwargs.items()}
            return FORMULAS[name](*(_operand(x, dtype) for x in args), **named)
        if name in COMPARISONS:
            common = self._common(node)
            return expression(name, *(cast(value_of(x), common) for x in args))
        if name in LOGIC:
            if name.startswith("bitwise") and dtype != "bool":
                raise Untraceable(f"{node.target} must be of truths; got {dtype}.")
            return expression(LOGIC[name], *(cast(value_of(x), "bool") for x in args))
        if name == "where":
            condition, x, y = (value_of(z) for z in args)
            return where(cast(condition, "bool"), cast(x, dtype), cast(y, dtype))
        if name == "masked_fill":
            x, mask, number = (value_of(z) for z in args)
            return where(cast(mask, "bool"), cast(number, dtype), x)
        raise Untraceable(f"An operation must be known to be compiled; got: {node.target}.")

    def _full(self, node: Node, name: str, args: tuple[Any, ...]) -> Any:
        meta = node.meta["val"]
        number: Any = FULL[name] if name in FULL else args[GIVEN[name]]
        if isinstance(number, Tensor) and number.numel() == 1:
            number = number.item()
        if not isinstance(number, bool | int | float):
            raise Untraceable(f"{node.target} must be given a number; got {type(number).__name__}.")
        return torch.full((), number, dtype=meta.dtype).expand(meta.shape)

    # Operands.

    def _common(self, node: Node) -> str:
        """Return the type in which torch compares two operands."""
        given: Any = [x.meta.get("val", self.known[x]) if isinstance(x, Node) else x for x in node.args]
        return name_of(torch.result_type(*given))

    def _viewed(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Let torch say how a view lies, on an array without memory whose first stride tells replicas."""
        x, *rest = args
        if isinstance(x, Expr):
            if node.target in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
                return x if len(node.users) == 1 else self.work.stored(x)
            source: Any = node.args[0]
            if (found := axes.through(node, x, self.back[source], self.replicas, rest, kwargs)) is not None:
                made, self.back[node] = found
                return made if isinstance(made, list) else self._kept(node, made)
            x = self.work.stored(x)
        if isinstance(x, Shifted):
            seen = self._viewed(node, (x.value, *rest), kwargs)
            return (
                [Shifted(each, x.step) for each in seen] if isinstance(seen, list) else Shifted(seen, x.step)
            )
        try:
            seen = self._seen(node, x, rest, kwargs)
        except RuntimeError:  # as it does not lie here where torch would have put it
            seen = self._seen(node, self.work.store(fresh(x.shape, x.dtype), x), rest, kwargs)
        return seen

    def _seen(self, node: Node, x: View, rest: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        source: Any = node.args[0]
        found, back = axes.seen(node, x, self.back[source], self.replicas, rest, kwargs)
        self.back[node] = back
        return found

    # Results.

    def _finish(self, node: Node) -> None:
        given = node.args[0]
        for x in given if isinstance(given, tuple | list) else [given]:
            value = self.known[x] if isinstance(x, Node) else None
            if isinstance(value, Tensor) and value.dim() and (x in self.alike or not value.stride(0)):
                value = value_of(axes.shared(value, value.dim(), self.replicas)[:1])
            elif not isinstance(value, Value):
                raise Untraceable("A result must follow from what differs between replicas.")
            elif not isinstance(x, Node) or self.back[x] != len(value.shape) or value.shape[0] != 1:
                raise Untraceable(f"What is compiled must keep replicas apart; got a result of {x}.")
            place = len(self.outputs)
            if isinstance(value, View) and value.whole and value.buffer.home == "scratch":
                view = value
            else:
                view = self.work.store(fresh(value.shape, value.dtype), value)
            view.buffer.home, view.buffer.place = "output", place
            self.outputs.append(view)


def _turned(graph: GraphModule) -> set[Node]:
    """Return the products that are results only when transposed."""
    found = set()
    last = list(graph.graph.nodes)[-1]
    for x in last.all_input_nodes:
        turns = 0
        while x.op == "call_function" and isinstance(x.target, torch._ops.OpOverload):
            name = x.target._schema.name.removeprefix("aten::")
            if name == "bmm":
                if turns % 2:
                    found.add(x)
                break
            if name in ("transpose", "permute", "t"):
                turns += 1
            elif name not in ("view", "_unsafe_view", *SAME):
                break
            x = x.args[0]
    return found


def _constant(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = target(*args, **kwargs)
    if isinstance(made, Tensor) and made.numel() > LARGEST_CONSTANT and any(made.stride()):
        if (number := uniform(made)) is None:
            raise Untraceable(f"A constant must be small; got {made.numel()} numbers.")
        made = torch.full((), number, dtype=made.dtype).expand(made.shape)
    return made


def _operand(x: Any, dtype: str) -> Any:
    return cast(value_of(x), dtype) if isinstance(x, Value | Tensor) else x


def _spread(x: Value, shape: tuple[int, ...]) -> Value:
    """Return what has no array of its own in a larger shape."""
    if isinstance(x, Splat):
        return Splat(x.number, shape, x.dtype)
    if isinstance(x, Expr):
        return Expr(x.operation, x.operands, shape, x.dtype, x.detail)
    return x
