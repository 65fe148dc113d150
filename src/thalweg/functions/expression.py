"""Expressions: formulas that a person typed, as functions of arrays and tensors, with exact derivatives.

>>> f = parse("(w1 - 3)^2 + 25*w2^2")
>>> f.variables, f([4.0, 1.0]).item()
(('w1', 'w2'), 26.0)
>>> [str(part) for part in f.gradient()]
['2*(w1 - 3)', '50*w2']
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from thalweg.errors import InputError, nearest
from thalweg.functions.grammar import MAX_VARIABLES, read
from thalweg.functions.nodes import FUNCTIONS, Call, Node, Number, Variable, derivative, fold
from thalweg.rules.ops import Array

_LOOSE, _PRODUCT, _SIGN, _POWER, _ATOM = range(5)  # how tightly a part holds together when it is written
_HOLDS: Final = {
    "add": _LOOSE, "subtract": _LOOSE, "multiply": _PRODUCT, "divide": _PRODUCT, "negative": _SIGN,
    "power": _POWER,
}  # fmt: skip
_WRITTEN: Final = {"add": " + ", "subtract": " - ", "multiply": "*", "divide": "/", "power": "^"}


@dataclass(frozen=True)
class Expression:
    """A function of some variables with one value, or with several.

    Call it with points: the last axis of an array or tensor, or a sequence of numbers, counts the variables
    in the order of `variables`. The result has the other axes, and one more for several values. Where it is
    not defined it is NaN or infinite, and nothing is raised.
    """

    parts: tuple[Node, ...]
    variables: tuple[str, ...]

    @property
    def is_scalar(self) -> bool:
        """Whether it has one value."""
        return len(self.parts) == 1

    def __call__(self, point: Any) -> Array:
        """Return the value, or the values along a last axis."""
        x = point if hasattr(point, "shape") else np.asarray(point, np.float64)
        if x.ndim == 0 or x.shape[-1] != len(self.variables):
            raise InputError(
                "the point",
                f"have {len(self.variables)} coordinates, {', '.join(self.variables)}",
                f"shape {tuple(x.shape)}",
            )
        values = _values(self.parts, {name: x[..., i] for i, name in enumerate(self.variables)}, x)
        return values[0] if self.is_scalar else _space(x).stack(values, -1)

    def derivative(self, name: str) -> "Expression":
        """Return the partial derivative with respect to one variable.

        >>> str(parse("sin(2*x)").derivative("x"))
        '2*cos(2*x)'
        """
        if name not in self.variables:
            raise InputError(
                "the variable", "be one of the expression", repr(name), nearest(name, self.variables)
            )
        return Expression(tuple(derivative(part, name) for part in self.parts), self.variables)

    @cached_property
    def _slopes(self) -> tuple["Expression", ...]:
        return tuple(self.derivative(name) for name in self.variables)

    def gradient(self) -> tuple["Expression", ...]:
        """Return the partial derivatives, one a variable; of several values: the columns of the Jacobian."""
        return self._slopes

    def hessian(self) -> tuple[tuple["Expression", ...], ...]:
        """Return the second partial derivatives, row by row.

        >>> [[str(x) for x in row] for row in parse("x*y").hessian()]
        [['0', '1'], ['1', '0']]
        """
        return tuple(slope.gradient() for slope in self._slopes)

    def slope(self, point: Any) -> Array:
        """Return the gradient at points, (…, n); of m values the Jacobian, (…, m, n).

        >>> parse("x^2 + y^2").slope([1.0, 2.0]).tolist()
        [2.0, 4.0]
        """
        x = point if hasattr(point, "shape") else np.asarray(point, np.float64)
        return _space(x).stack([part(x) for part in self._slopes], -1)

    def curvature(self, point: Any) -> Array:
        """Return the Hessian at points, (…, n, n), of a function with one value.

        >>> parse("x^3 + x*y").curvature([1.0, 0.0]).tolist()
        [[6.0, 1.0], [1.0, 0.0]]
        """
        x = point if hasattr(point, "shape") else np.asarray(point, np.float64)
        space = _space(x)
        return space.stack([space.stack([part(x) for part in row], -1) for row in self.hessian()], -2)

    def __str__(self) -> str:
        return ", ".join(fold(part, _text)[0] for part in self.parts)

    def latex(self) -> str:
        """Return the expression in LaTeX.

        >>> parse("(w-3)^2/2").latex()
        '\\\\frac{\\\\left(w - 3\\\\right)^{2}}{2}'
        """
        return ", ".join(fold(part, _latex)[0] for part in self.parts)

    def filled(self, point: Sequence[float]) -> str:
        """Return the expression with numbers in place of its variables, six digits each.

        >>> parse("2*(w - 3)").filled([-1.5])
        '2*((-1.5) - 3)'
        """
        values = dict(zip(self.variables, point, strict=True))

        def text(node: Node, below: list[tuple[str, int]]) -> tuple[str, int]:
            if isinstance(node, Variable):
                return _text(Number(-1, float(f"{values[node.name]:.6g}")), [])
            return _text(node, below)

        return ", ".join(fold(part, text)[0] for part in self.parts)


def parse(text: str, variables: Sequence[str] | None = None, who: str = "the expression") -> Expression:
    """Read an expression; see `thalweg.functions.grammar` for what may be written.

    Args:
        text: the formula, such as ``(w-3)^2``; several between commas are a vector function.
        variables: all that may occur, in the order of the coordinates; None: those that do, in order of name.
        who: what messages call it.

    Raises:
        InputError: it is no expression, or has too many or other variables; it says where.
    """
    parts = read(text, who)
    found: set[str] = set()
    for part in parts:
        fold(part, lambda node, below: found.add(node.name) if isinstance(node, Variable) else None)
    names = sorted(found, key=_by_name) if variables is None else list(variables)
    if others := sorted(found - set(names)):
        raise InputError(
            who, f"have no variable but {', '.join(names)}", others[0], nearest(others[0], names)
        )
    if not names:
        raise InputError(who, "have a variable", repr(text.strip()[:40]), "Such as w in (w-3)^2.")
    if len(names) > MAX_VARIABLES:
        raise InputError(who, f"have at most {MAX_VARIABLES} variables", len(names))
    return Expression(parts, tuple(names))


def _by_name(name: str) -> tuple[str, int]:
    """Sort w2 before w10."""
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or -1)


def _space(x: Array) -> Any:
    torch = sys.modules.get("torch")  # nobody has a tensor who did not import it
    return torch if torch is not None and isinstance(x, torch.Tensor) else np


def _values(parts: Sequence[Node], variables: dict[str, Array], like: Array) -> list[Array]:
    """Compute parts, without warnings where they are not defined."""
    space = _space(like)
    dtype = like.dtype if space is not np else np.result_type(like.dtype, np.float64)
    shape = next(iter(variables.values())).shape

    def value(node: Node, below: list[Array]) -> Array:
        if isinstance(node, Number):
            return space.asarray(node.value, dtype=dtype, **({} if space is np else {"device": like.device}))
        if isinstance(node, Variable):
            return variables[node.name].astype(dtype) if space is np else variables[node.name]
        assert isinstance(node, Call)
        return FUNCTIONS[node.name].compute(space, *below)

    with np.errstate(all="ignore"):
        return [space.broadcast_to(fold(part, value), shape) for part in parts]


def _text(node: Node, below: list[tuple[str, int]]) -> tuple[str, int]:
    """Write a node, and say how tightly it holds together; the grammar reads it back as the same."""
    if isinstance(node, Number):
        text = repr(node.value).removesuffix(".0")
        return (text, _ATOM) if node.value >= 0 else (f"({text})", _ATOM)
    if isinstance(node, Variable):
        return node.name, _ATOM
    assert isinstance(node, Call)
    if node.name not in _HOLDS:
        return f"{node.name}({', '.join(text for text, _ in below)})", _ATOM
    own = _HOLDS[node.name]
    if node.name == "negative":
        return f"-{_held(below[0], _SIGN)}", own
    # What stands on the right of - and /, and on the left of ^, must hold tighter.
    left = _held(below[0], own + (node.name == "power"))
    right = _held(below[1], own + (node.name in ("subtract", "divide")) if own < _POWER else _POWER)
    if right.startswith("-"):
        right = f"({right})"
    return f"{left}{_WRITTEN[node.name]}{right}", own


def _held(written: tuple[str, int], least: int) -> str:
    return written[0] if written[1] >= least else f"({written[0]})"


def _latex(node: Node, below: list[tuple[str, int]]) -> tuple[str, int]:
    if isinstance(node, Number):
        text = repr(node.value).removesuffix(".0")
        mantissa, exponent, power = text.partition("e")
        text = rf"{mantissa} \cdot 10^{{{int(power)}}}" if exponent else text
        return (text, _ATOM) if node.value >= 0 else (rf"\left({text}\right)", _ATOM)
    if isinstance(node, Variable):
        letters = node.name.rstrip("0123456789")
        digits = node.name[len(letters) :]
        shown = (
            letters.replace("_", r"\_") if len(letters) == 1 else rf"\mathrm{{{letters}}}".replace("_", r"\_")
        )
        return shown + (f"_{{{digits}}}" if digits else ""), _ATOM
    assert isinstance(node, Call)
    meaning, own = FUNCTIONS[node.name], _HOLDS.get(node.name, _ATOM)
    if own == _ATOM or node.name == "divide":
        return meaning.latex.format(*(text for text, _ in below)), own
    least = [own + (node.name == "power"), own + (node.name == "subtract")]
    if node.name == "power":
        least[1] = _LOOSE  # it stands above the line
    texts = [
        text if holds >= wanted else rf"\left({text}\right)"
        for (text, holds), wanted in zip(below, least, strict=False)
    ]
    if node.name == "multiply":
        dot = r" \cdot " if texts[1][0].isdigit() else " "
        return dot.join(texts), own
    return meaning.latex.format(*texts), own
