"""What forms show is never contradicted by values; and the rules that should show something do."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.functions import parse
from thalweg.functions.bounds import Shapes, spectrum_bounds

ATOMS = ["x", "y", "2", "0.5", "-1", "3"]
ONE = ["sqrt", "exp", "log", "sin", "tanh", "atan", "sinh", "cosh", "sigmoid", "softplus", "abs", "sign"]


def formulas() -> st.SearchStrategy[str]:
    return st.recursive(
        st.sampled_from(ATOMS),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}{t[1]}({t[2]}))"),
            st.tuples(inner, st.sampled_from(["2", "3", "4", "-1", "-2", "0.5", "1.5"])).map(
                lambda t: f"({t[0]})^({t[1]})"
            ),
            st.tuples(st.sampled_from(ONE), inner).map(lambda t: f"{t[0]}({t[1]})"),
            st.tuples(st.sampled_from(["max", "min"]), inner, inner).map(lambda t: f"{t[0]}({t[1]},{t[2]})"),
        ),
        max_leaves=8,
    )


@given(formulas(), st.lists(st.tuples(*[st.floats(-4, 4)] * 4), min_size=1, max_size=8))
def test_no_value_contradicts_what_a_form_shows(
    formula: str, pairs: list[tuple[float, float, float, float]]
) -> None:
    try:
        f = parse(f"0*x + 0*y + ({formula})", ["x", "y"])
    except InputError:  # such as (-1)^0.5
        reject()
    shape = Shapes().of(f.parts[0])
    points = np.array(pairs).reshape(-1, 2, 2)
    with np.errstate(all="ignore"):
        ends, middle = f(points), f(points.mean(axis=1))
    values = ends[np.isfinite(ends)]
    slack = 1e-9 * (1 + np.abs(values))

    assert (values >= shape.low - slack).all()
    assert (values <= shape.high + slack).all()
    if shape.positive:
        assert (values >= 0).all()
    if shape.smooth:
        assert not np.isnan(ends).any() or np.abs(points).max() > 1  # NaN only where numbers overflow
    good = np.isfinite(ends).all(axis=1) & np.isfinite(middle)
    mean, above = ends.mean(axis=1)[good], middle[good]
    slack = 1e-9 * (1 + np.abs(ends).max(axis=1))[good]
    if shape.convex:
        assert (above <= mean + slack).all()
    if shape.concave:
        assert (above >= mean - slack).all()


@pytest.mark.parametrize(
    "formula",
    [
        "x^2 + y^4",
        "x*x",
        "exp(x^2)",
        "-log(1 - x)",
        "sqrt(x^2 + (x - y)^2 + 1)",
        "softplus(-x)",
        "max(x, -2*x, 3)",
        "abs(2*x - 1) + abs(y)",
        "cosh(x - y)",
        "2^x",
        "(x^2 + 1)^2",
        "1/sqrt(1 - x)",
        "abs(x)^3",
        "x^1.5",
    ],
)
def test_convex_functions_that_the_rules_show(formula: str) -> None:
    assert Shapes().of(parse(formula).parts[0]).convex


@pytest.mark.parametrize("formula", ["log(x)", "sqrt(x)", "min(x, y)", "-x^2", "-softplus(x)", "x^0.3"])
def test_concave_functions_that_the_rules_show(formula: str) -> None:
    assert Shapes().of(parse(formula).parts[0]).concave


@pytest.mark.parametrize(
    "formula", ["1/x", "1/x^2", "sin(x)", "x^3", "log(x^2)", "sqrt(abs(x))", "x*y", "-abs(x)"]
)
def test_nothing_is_shown_of_functions_that_are_not_convex(formula: str) -> None:
    assert not Shapes().of(parse(formula).parts[0]).convex


def test_the_slope_of_the_sigmoid_is_at_most_a_quarter() -> None:
    (row,) = parse("softplus(3*x - 1)").hessian()

    assert Shapes().of(row[0].parts[0]).high == pytest.approx(9 / 4)


def test_a_box_narrows_what_is_shown() -> None:
    (row,) = parse("x^4").hessian()

    assert Shapes({"x": (-2.0, 1.0)}).of(row[0].parts[0]).high == pytest.approx(48)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=3, max_size=3))
def test_gershgorin_holds_all_eigenvalues(rows: list[list[float]]) -> None:
    matrix = np.array(rows) + np.array(rows).T
    shapes = Shapes()
    entries = [[shapes.of(parse(f"0*x+({float(v)!r})").parts[0]) for v in row] for row in matrix]
    low, high = spectrum_bounds(entries)
    values = np.linalg.eigvalsh(matrix)

    assert low - 1e-9 <= values[0]
    assert values[-1] <= high + 1e-9
