"""What a rule computes on its way, under the names that its own body has for it.

A rule's functions run as they are, on arrays that remember how they were made. What comes out is taken down
when a function returns: its local variables, and of each the arithmetic that made it. So a hand calculation
shows the method itself, and no second formula.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thalweg.functions.nodes import Call, Node, Number, fold
from thalweg.rules.base import Rule

# NumPy's names of what an expression can say too.
_OPERATIONS: Final = {
    "negative": "negative", "add": "add", "subtract": "subtract", "multiply": "multiply",
    "divide": "divide", "power": "power", "sqrt": "sqrt", "absolute": "abs", "sign": "sign",
    "maximum": "max",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Held(Node):
    """An array of which only the numbers are known."""

    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Chosen(Node):
    """One of two parts, element by element."""

    condition: NDArray[Any]
    parts: tuple[Node, Node]

    @property
    def children(self) -> tuple[Node, ...]:
        """Both."""
        return self.parts


class Remembered(np.ndarray):
    """An array that knows what it was computed from; its numbers are NumPy's, bit for bit.

    >>> x = remembered(np.array([3.0]))
    >>> y = 2 * x + 1
    >>> y.tolist(), y.node.name, at(y.node.arguments[0], 0).arguments[1].value
    ([7.0], 'add', 3.0)
    """

    node: Node

    def __array_finalize__(self, made_of: Any) -> None:
        """Take over from an array of the same shape, as a copy; of another, only the numbers count."""
        node = getattr(made_of, "node", None)
        same = node is not None and made_of.shape == self.shape
        self.node = node if same and node is not None else Held(-1, self.view(np.ndarray))

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **options: Any) -> Any:
        """Compute with plain arrays, and take down with what."""
        plain = [_plain(x) for x in inputs]
        outputs = options.pop("out", None)
        if outputs is not None:
            options["out"] = tuple(_plain(x) for x in outputs)
        result = getattr(ufunc, method)(*plain, **options)
        name = _OPERATIONS.get(ufunc.__name__)
        if method == "reduce" and np.size(plain[0]) == 1 == np.size(result) and ufunc is np.add:
            return _with(result, _node(inputs[0]))  # a sum of one
        if method != "__call__" or name is None or outputs is not None:
            return remembered(result)
        return _with(result, _made(name, tuple(_node(x) for x in inputs)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Compute with plain arrays; only a choice is remembered."""
        result = function(*(_plain(x) for x in args), **{key: _plain(x) for key, x in kwargs.items()})
        if function is np.where and len(args) == 3:
            return _with(result, Chosen(-1, _plain(args[0]), (_node(args[1]), _node(args[2]))))
        return remembered(result)


def remembered(values: Any) -> Any:
    """Return an array that begins to remember here; a number without axes stays one."""
    return _with(values, Held(-1, _plain(values))) if np.ndim(values) else values


def forgotten(value: Any) -> Any:
    """Return an array without its past, so that what was before it can be freed."""
    return remembered(_plain(value))


def _with(values: Any, node: Node) -> Any:
    if np.ndim(values) == 0:
        return values
    made = np.asarray(values).view(Remembered)
    made.node = node
    return made


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Remembered) else x


def _node(x: Any) -> Node:
    if isinstance(x, Remembered):
        return x.node
    return Held(-1, np.asarray(x)) if np.ndim(x) else Number(-1, float(x))


def _made(name: str, parts: tuple[Node, ...]) -> Node:
    """Return a call; −max(−x, −y), which is how rules write it, is min(x, y)."""
    inner = parts[0]
    if name == "negative" and isinstance(inner, Number):
        return Number(-1, -inner.value)
    if name == "negative" and isinstance(inner, Call) and inner.name == "max":
        turned = [_turned(x) for x in inner.arguments]
        if None not in turned:
            return Call(-1, "min", tuple(x for x in turned if x is not None))
    return Call(-1, name, parts)


def _turned(node: Node) -> Node | None:
    """Return x of −x, and of a number its opposite."""
    if isinstance(node, Number):
        return Number(-1, -node.value)
    return node.arguments[0] if isinstance(node, Call) and node.name == "negative" else None


def at(node: Node, place: int, known: Mapping[int, Node] | None = None) -> Node:
    """Return the arithmetic of one element, with numbers of six digits in it.

    Args:
        node: how an array was made.
        place: which element.
        known: what stands for arrays that have a name, by the identity of their node; the node itself is
            written out.
    """
    given = {key: value for key, value in (known or {}).items() if key != id(node)}

    def filled(here: Node, below: list[Node]) -> Node:
        if isinstance(here, Held):
            return _number(_element(here.values, place))
        if isinstance(here, Number):
            return _number(here.value)
        if isinstance(here, Chosen):
            return below[0] if _element(here.condition, place) else below[1]
        assert isinstance(here, Call)
        if here.name == "negative" and isinstance(below[0], Number):
            return _number(-below[0].value)
        return Call(-1, here.name, tuple(below))

    return fold(node, filled, given)


def element(values: Any, place: int) -> Node:
    """Return one element, with six digits, as a node."""
    return _number(_element(values, place))


def _element(values: Any, place: int) -> float:
    """Return one element; what all have in common is there once."""
    flat = np.asarray(values).reshape(-1)
    return float(flat[place if flat.size > 1 else 0])


def _number(value: float) -> Node:
    return Number(-1, float(f"{value:.6g}") + 0.0)  # without a minus before zero


@dataclass
class Notes:
    """What was taken down in one step."""

    found: dict[str, Any] = field(default_factory=dict)  # local variables, in the order of the body
    clock: dict[str, float] = field(default_factory=dict)  # the numbers of the step alone
    aliases: dict[str, str] = field(default_factory=dict)  # field of the state → its name in the body
    direction: Any = None


def noted(rule: Rule, notes: Notes) -> Rule:
    """Return a rule that computes the same and takes down its local variables."""

    def watch(function: Callable[..., Any], kept: tuple[int, ...]) -> Callable[..., Any]:
        """Let a function run under watch; `kept` counts the arguments that are shown under their name."""

        def run(*arguments: Any) -> Any:
            result, names, values = _locals_of(function, arguments)
            hidden = {name for place, name in enumerate(names) if place not in kept}
            shown = {n: x for n, x in values.items() if n not in hidden and _is_quantity(x)}
            notes.found |= shown
            state = result[1] if isinstance(result, tuple) and len(result) == 2 else result
            for name, value in zip(getattr(state, "_fields", ()), state, strict=False):
                if same := [n for n, x in shown.items() if x is value and n != "d"]:
                    notes.aliases[name] = same[0]
            notes.clock |= _numbers(arguments[4] if len(arguments) > 4 else None)
            return result

        return run

    return replace(
        rule,
        direction=watch(rule.direction, (1,)),
        tail=watch(rule.tail, ()) if rule.tail else None,
        partial=watch(rule.partial, (1,)) if rule.partial else None,
        refresh=watch(rule.refresh, (1,)) if rule.refresh else None,
    )


def directed(rule: Rule, notes: Notes) -> Rule:
    """Return a rule that computes the same and takes down its direction, wrappers included."""

    def direction(*arguments: Any) -> Any:
        notes.direction, state = rule.direction(*arguments)
        return notes.direction, state

    return replace(rule, direction=direction)


def _is_quantity(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.ndim > 0 and x.dtype.kind == "f"


def _numbers(clock: Any) -> dict[str, float]:
    fields = zip(getattr(clock, "_fields", ()), clock or (), strict=False)
    kinds = (int, float, np.generic, np.ndarray)
    return {name: float(x) for name, x in fields if isinstance(x, kinds) and np.ndim(x) == 0}


def _locals_of(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, tuple[str, ...], dict[str, Any]]:
    """Call a function; return its result, the names of its arguments, and its variables at the end."""
    code = getattr(function, "__code__", None)
    if code is None:  # written in C: it has no variables to look at
        return function(*arguments), (), {}
    values: dict[str, Any] = {}

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code is code:
            values.update(frame.f_locals)

    before: Any = sys.getprofile()
    sys.setprofile(look)
    try:
        result = function(*arguments)
    finally:
        # A profiler written in C, such as cProfile, is no function, and goes on by its own call.
        before.enable() if hasattr(before, "enable") else sys.setprofile(before)
    order = (*code.co_varnames, *code.co_cellvars)
    ordered = {name: values[name] for name in order if name in values}
    return result, code.co_varnames[: code.co_argcount], ordered
