"""A traced graph, freed of what does nothing and laid out for stacked products."""

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
_VIEWS = (aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.reshape.default)
_SAME = (aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default)


def simplified(graph: fx.GraphModule) -> fx.GraphModule:
    """Return the graph without operations that change nothing, its outputs laid out as they are wanted.

    A gradient that is the transpose of a product becomes the product of transposes: no copy follows.
    """
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and (same := _unchanged(node)) is not None:
            node.replace_all_uses_with(same)
            graph.graph.erase_node(node)
    for node in list(graph.graph.nodes):
        if node.target is aten.transpose.int:
            _turned(graph.graph, node)
    if not any(mutates(node) for node in graph.graph.nodes):
        graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def computed_once(graph: fx.GraphModule) -> fx.GraphModule:
    """Return the graph in which nothing is computed twice: loss and metrics call the model on the same batch.

    Only for graphs in which nothing is written to; what draws random numbers stays.
    """
    known: dict[Any, fx.Node] = {}
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or torch.Tag.nondeterministic_seeded in getattr(
            node.target, "tags", ()
        ):
            continue
        key = repr((node.target, node.args, node.kwargs))  # nodes are told by their names
        if key in known:
            node.replace_all_uses_with(known[key])
            graph.graph.erase_node(node)
        else:
            known[key] = node
    graph.recompile()
    return graph


def mutates(node: fx.Node) -> bool:
    """Tell whether an operation writes to what it is given."""
    return (
        node.op == "call_function"
        and getattr(node.target, "_schema", None) is not None
        and (
            node.target._schema.is_mutable  # type: ignore[union-attr]
        )
    )


def _shape(node: Any) -> Any:
    value = node.meta.get("val")
    return None if value is None else tuple(value.shape)


def _unchanged(node: fx.Node) -> fx.Node | None:
    """Return what a node is a mere copy of."""
    target, source = node.target, node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    if target in _SAME:
        return source
    if target in _VIEWS and _shape(node) == _shape(source) is not None:
        return source
    if target is aten.mul.Scalar and node.args[1] == 1 and _dtype(node) == _dtype(source):
        return source
    if target is aten.transpose.int and source.target is aten.transpose.int:
        inner = source.args[0]
        axes = {_axis(node, i) for i in (1, 2)}
        if isinstance(inner, fx.Node) and axes == {_axis(source, i) for i in (1, 2)}:
            return inner
    return None


def _dtype(node: fx.Node) -> Any:
    return node.meta["val"].dtype if "val" in node.meta else None


def _axis(node: fx.Node, place: int) -> int:
    return int(node.args[place]) % len(_shape(node))  # type: ignore[arg-type]


def _turned(graph: fx.Graph, node: fx.Node) -> None:
    """Replace the transpose of a product by the product of transposes."""
    product = node.args[0]
    if not isinstance(product, fx.Node) or product.target is not aten.bmm.default or len(product.users) > 1:
        return
    if {_axis(node, 1), _axis(node, 2)} != {1, 2}:
        return
    with graph.inserting_before(product):
        a, b = (_transposed(graph, x) for x in product.args)
        turned = graph.call_function(aten.bmm.default, (b, a))
        turned.meta["val"] = node.meta["val"].contiguous()
    node.replace_all_uses_with(turned)
    graph.erase_node(node)
    graph.erase_node(product)


def _transposed(graph: fx.Graph, x: Any) -> fx.Node:
    if x.target is aten.transpose.int and {_axis(x, 1), _axis(x, 2)} == {1, 2}:
        inner: fx.Node = x.args[0]
        return inner
    turned = graph.call_function(aten.transpose.int, (x, 1, 2))
    turned.meta["val"] = x.meta["val"].transpose(1, 2)
    return turned
