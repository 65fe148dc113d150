"""Values and derivatives of expressions, against torch's automatic differentiation and SymPy."""

from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.functions import Expression, parse
from thalweg.functions.nodes import FUNCTIONS, Call, Node, Number, Variable, fold
from unit.functions.trees import NAMES, texts

points = st.tuples(*[st.floats(-3, 3).map(lambda x: round(x, 3)) for _ in NAMES])


@given(texts, points)
def test_values_and_slopes_are_those_of_torch(text: str, point: tuple[float, float]) -> None:
    expression = parse(text, NAMES)
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)

    value = expression(x)
    (slope,) = torch.autograd.grad(value, x)

    mine, here = expression.slope(np.array(point)), expression(np.array(point))
    # Where a root, a logarithm or an overflow makes the function infinite or undefined, a chain rule has
    # 0 · ∞; where two branches meet, torch shares the slope among them.
    assume(np.isfinite(mine).all() and torch.isfinite(slope).all() and not _on_an_edge(expression, point))
    assert here == pytest.approx(value.item(), rel=1e-12, abs=1e-12)
    scale = 1 + np.abs(mine).max()
    assert mine == pytest.approx(slope.numpy(), rel=1e-9, abs=1e-9 * scale)


def _on_an_edge(expression: Expression, point: tuple[float, float]) -> bool:
    """Tell whether an argument of abs, or the two of max or min, are at their edge."""
    values = dict(zip(NAMES, point, strict=True))
    found: list[bool] = []

    def value(node: Node, below: list[Any]) -> Any:
        if isinstance(node, Number):
            return np.float64(node.value)
        if isinstance(node, Variable):
            return np.float64(values[node.name])
        assert isinstance(node, Call)
        if node.name in ("abs", "sqrt"):
            found.append(bool(abs(below[0]) < 1e-9))
        if node.name in ("max", "min"):
            found.append(bool(abs(below[0] - below[1]) < 1e-9))
        return FUNCTIONS[node.name].compute(np, *below)

    with np.errstate(all="ignore"):
        fold(expression.parts[0], value)
    return any(found)


def _sympy(expression: Expression) -> Any:
    """Return the same function in SymPy, from our nodes: SymPy's own parser evaluates Python."""
    known = {
        "negative": lambda x: -x,
        "add": lambda x, y: x + y,
        "subtract": lambda x, y: x - y,
        "multiply": lambda x, y: x * y,
        "divide": lambda x, y: x / y,
        "power": lambda x, y: x**y,
        "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
        "softplus": lambda x: sympy.log(1 + sympy.exp(x)),
    }

    def made(node: Node, below: list[Any]) -> Any:
        if isinstance(node, Number):
            return sympy.Float(node.value, 30)
        if isinstance(node, Variable):
            return sympy.Symbol(node.name, real=True)
        assert isinstance(node, Call)
        return known.get(node.name, getattr(sympy, node.name, None))(*below)

    return fold(expression.parts[0], made)


SMOOTH = [
    "(1-x)^2 + 100*(y-x^2)^2",
    "sin(x*y)*exp(-x^2) + tan(x/3)",
    "log(1 + x^2)*sqrt(2 + y^2) - x/(1 + y^2)",
    "asin(x/4) + acos(y/4) + atan(x*y)",
    "sinh(x) - cosh(y)*tanh(x - y)",
    "sigmoid(x*y) + softplus(x - 2y)",
    "(2 + x^2)^(1 + y)",
    "2^x * 3^-y",
]


@pytest.mark.parametrize("text", SMOOTH)
def test_gradient_and_hessian_are_those_of_sympy(text: str) -> None:
    expression, symbols = parse(text, NAMES), [sympy.Symbol(name, real=True) for name in NAMES]
    theirs = _sympy(expression)
    for point in np.random.default_rng(1).uniform(-2, 2, size=(5, 2)):
        at = {s: sympy.Float(x, 30) for s, x in zip(symbols, point, strict=True)}
        gradient = [float(theirs.diff(s).evalf(30, subs=at)) for s in symbols]
        hessian = [[float(theirs.diff(s, t).evalf(30, subs=at)) for t in symbols] for s in symbols]

        # The functions are of size one to a thousand; their second derivatives lose a digit or two.
        assert expression.slope(point) == pytest.approx(np.array(gradient), rel=1e-12, abs=1e-12)
        assert expression.curvature(point) == pytest.approx(np.array(hessian), rel=1e-11, abs=1e-11)


def test_every_function_that_may_be_called_is_differentiated_as_torch_does() -> None:
    for name, meaning in FUNCTIONS.items():
        if not meaning.public or name == "choose":
            continue
        arguments = ", ".join(("x", "y")[: len(meaning.partials)])
        expression = parse(f"{name}({arguments}) + 0*x*y", NAMES)
        x = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(expression(x), x)
        assert expression.slope([0.3, 0.4]) == pytest.approx(slope.numpy(), rel=1e-14), name


def test_values_have_the_axes_of_the_points() -> None:
    f, pair = parse("x + 2y"), parse("x, x*y")
    grid = np.random.default_rng(0).normal(size=(3, 4, 2))

    assert f(grid).shape == (3, 4)
    assert f.slope(grid).shape == (3, 4, 2)
    assert f.curvature(grid).shape == (3, 4, 2, 2)
    assert pair(grid).shape == (3, 4, 2)
    assert pair.slope(grid).shape == (3, 4, 2, 2)
    assert pair.slope([2.0, 3.0]).tolist() == [[1.0, 0.0], [3.0, 2.0]]
    assert f(torch.zeros(5, 2, dtype=torch.float32)).dtype is torch.float32


def test_where_a_function_is_not_defined_it_is_nan_or_infinite_and_nothing_is_raised() -> None:
    assert np.isnan(parse("log(x)")([-1.0]))
    assert parse("log(x)")([0.0]) == -np.inf
    assert parse("1/x")([0.0]) == np.inf
    assert parse("exp(x)")([1e4]) == np.inf
    assert np.isnan(parse("sqrt(x)").slope([-1.0])).all()


def test_a_point_of_another_size_and_a_variable_of_another_function_are_refused() -> None:
    with pytest.raises(InputError, match="the point must have 2 coordinates, x, y; got shape"):
        parse("x*y")([1.0])
    with pytest.raises(InputError, match="the variable must be one of the expression; got 'z'"):
        parse("x*y").derivative("z")


@pytest.mark.parametrize(
    ("text", "gradient"),
    [
        ("(w-3)^2", ["2*(w - 3)"]),
        ("w1^2+25*w2^2", ["2*w1", "50*w2"]),
        ("w^4-2*w^2", ["4*w^3 - 4*w"]),
        ("x/y", ["1/y", "-(x/y^2)"]),
        ("exp(-x)", ["-exp(-x)"]),
        ("log(x)", ["1/x"]),
        ("max(x, 0)", ["choose(x, 0, 1, 0)"]),
    ],
)
def test_derivatives_are_written_shortly(text: str, gradient: list[str]) -> None:
    assert [str(part) for part in parse(text).gradient()] == gradient


def test_numbers_take_the_place_of_variables() -> None:
    assert parse("2*(w - 3)").filled([0.0]) == "2*(0 - 3)"
    assert parse("x - y").filled([1.23456789, -2.0]) == "1.23457 - (-2)"


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("x^2/2", r"\frac{x^{2}}{2}"),
        ("3*4*w1", r"3 \cdot 4 w_{1}"),
        ("(x + 1)*(x - 1)", r"\left(x + 1\right) \left(x - 1\right)"),
        ("-(x + 1)^2", r"-\left(x + 1\right)^{2}"),
        ("rate_a*1e-6", r"\mathrm{rate\_a} \cdot 1 \cdot 10^{-6}"),
    ],
)
def test_latex(text: str, latex: str) -> None:
    assert parse(text).latex() == latex
