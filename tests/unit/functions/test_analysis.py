"""Analyses beside NumPy's and SciPy's answers, and of expressions that nobody chose."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import thalweg
from thalweg.errors import InputError
from thalweg.functions import parse
from thalweg.functions.analysis import analyse
from thalweg.functions.analysis_text import data, sentences
from thalweg.functions.convexity import parts_of
from thalweg.functions.normal import Normal
from unit.functions.test_bounds import formulas

HIMMELBLAU = "(x^2+y-11)^2+(x+y^2-7)^2"


def test_torch_is_not_imported() -> None:
    code = "import sys, thalweg.functions.analysis_text; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_himmelblau_has_four_minima_four_saddles_and_a_maximum() -> None:
    found = analyse(HIMMELBLAU)
    kinds = [point.kind for point in found.points]

    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"minimum": 4, "saddle": 4, "maximum": 1}
    assert all(point.is_global for point in found.points if point.kind == "minimum")
    # SciPy knows neither our derivatives nor our search: from near each minimum it must end at it.
    f = parse(HIMMELBLAU)
    for point in found.points:
        if point.kind == "minimum":
            other = minimize(lambda x: float(f(x)), np.array(point.at) + 0.3, tol=1e-10)
            assert np.abs(other.x - point.at).max() < 1e-5  # differences know a minimum to about 1e-8 of f


@pytest.mark.parametrize(
    ("formula", "at"),
    [
        ("(1.5-x+x*y)^2+(2.25-x+x*y^2)^2+(2.625-x+x*y^3)^2", (3.0, 0.5)),  # Beale 1958
        ("(x+2*y-7)^2+(2*x+y-5)^2", (1.0, 3.0)),  # Booth
        ("0.26*(x^2+y^2)-0.48*x*y", (0.0, 0.0)),  # Matyas
        ("x*log(x) + y^2", (np.exp(-1.0), 0.0)),
        ("log(exp(x)+exp(-x)) + (y-1)^4", (0.0, 1.0)),
    ],
)
def test_minima_of_the_literature(formula: str, at: tuple[float, float]) -> None:
    minima = [point.at for point in analyse(formula).points if point.kind == "minimum"]

    assert len(minima) == 1
    assert minima[0] == pytest.approx(at, abs=1e-6)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_random_quadratics_agree_with_linear_algebra(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    half = random.integers(-4, 5, (n, n))
    hessian = half @ half.T + np.diag(random.integers(1, 30, n))
    centre = random.integers(-5, 6, n)
    names = [f"w{i}" for i in range(n)]
    away = [f"({name}-({c}))" for name, c in zip(names, centre, strict=True)]
    formula = " + ".join(f"{hessian[i, j]}/2*{away[i]}*{away[j]}" for i in range(n) for j in range(n))

    found = analyse(formula)

    (point,) = found.points
    values = np.linalg.eigvalsh(hessian)
    assert point.at == tuple(map(float, centre))
    assert point.eigenvalues == pytest.approx(tuple(values))
    assert (point.kind, point.is_global, found.convex and found.convex.holds) == ("minimum", True, True)
    assert point.condition_number == pytest.approx(np.linalg.cond(hessian))
    assert found.rates is not None
    assert found.rates.best == pytest.approx(2 / (values[0] + values[-1]))
    assert found.rates.largest_stable["sgd"] == pytest.approx(2 / values[-1])
    # What is predicted is counted, step for step.
    assert found.rates.predicted == found.rates.counted


@pytest.mark.slow
@given(formulas())
@settings(max_examples=60)
def test_every_expression_is_analysed_or_refused(formula: str) -> None:
    try:
        found = analyse(f"{formula} + 0*x")
    except InputError:
        return
    json.dumps(data(found), allow_nan=False)
    assert sentences(found)
    for point in found.points:
        assert np.isfinite(point.at).all()
        if point.kind == "minimum" and point.is_global:
            with np.errstate(all="ignore"):
                seen = found.expression(np.linspace(-9, 9, 181)[:, None] * np.ones(len(point.at)))
            seen = seen[np.isfinite(seen)]
            assert (seen >= point.value - 1e-6 * (1 + abs(point.value))).all()


@pytest.mark.parametrize(
    ("formula", "holds"),
    [
        ("x^2 + sin(x)", True),  # 2 − sin x ≥ 1
        ("sqrt(x^2 + y^2)", True),
        ("max(x^2, exp(y))", True),
        ("x^4 - 2*x^3 + 2*x^2", True),  # 12x² − 12x + 4 has no root
        ("log(x)", False),
        ("x^2 - 0.1*x^4", False),
        ("-abs(x)", False),  # whose Hessian is 0 wherever there is one
        ("log(exp(x) + exp(y))", None),  # convex; no rule here shows it, and nothing refutes it
    ],
)
def test_convexity_is_shown_refuted_or_undecided(formula: str, holds: bool | None) -> None:
    found = analyse(formula)

    assert found.convex is not None
    assert found.convex.holds is holds
    if holds is False:
        assert found.witness is not None
        a, b = (np.array(point) for point in found.witness.points)
        f = found.expression
        assert f((a + b) / 2) > (f(a) + f(b)) / 2


def test_the_smoothness_constant_is_exact_a_bound_or_of_the_box() -> None:
    def constant(formula: str) -> tuple[float | None, str, bool]:
        found = analyse(formula).smoothness
        assert found is not None
        return found.value, found.where, found.exact

    assert constant("w1^2+25*w2^2") == (50.0, "everywhere", True)
    assert constant("softplus(w)")[:2] == (0.25, "everywhere")
    assert constant("x^4") == (1200.0, "in the box", False)
    assert constant("abs(x)") == (None, "nowhere", False)


def l_smooth(formula: str) -> tuple[bool | None, str]:
    decision = dict(analyse(formula).conditions)["L-smooth"]
    return decision.holds, decision.why


@pytest.mark.parametrize(
    ("formula", "jump"),
    [
        *(("abs(w)", 2), ("abs(w - 1) + w^2", 2), ("1e-8*abs(w)", 2e-8), ("max(x, y) + x^2", 2**0.5)),
        ("abs(w - 0.3)*abs(w + 0.3)", 1.2),
    ],
)
def test_a_jump_of_the_slope_is_found_and_no_constant_is_left(formula: str, jump: float) -> None:
    holds, why = l_smooth(formula)

    assert holds is False
    assert f"the gradient changes by {jump:.3g} within " in why
    assert dict(analyse(formula).conditions)["rate below 2/L"].holds is False


@pytest.mark.parametrize("formula", ["sqrt(abs(w))", "w^(3/2)", "abs(w)^1.5"])
def test_a_slope_that_grows_like_a_root_has_no_constant_either(formula: str) -> None:
    assert l_smooth(formula)[0] is False


@pytest.mark.parametrize(
    "formula",
    [
        *("abs(w)^2", "sign(w)*w^2", "max(w, 0)^2"),  # L = 2, though there are kinks in the formula
        "atan(1000*w)*abs(w)",  # L is some thousands, in a narrow place
        *("abs(x)*0 + sin(x)", "max(1e9*w, 1e9*w - 1)"),  # linear, with large numbers
    ],
)
def test_kinks_in_a_formula_alone_refute_no_constant(formula: str) -> None:
    assert l_smooth(formula)[0] is not False


def test_what_is_not_defined_everywhere_is_no_polynomial() -> None:
    found = analyse("4*y^2 + x*((y - 1)/x)")

    assert found.search is not None
    assert not found.search.complete
    assert all(point.at[0] != 0 for point in found.points)


def test_lines_of_minima_are_said_to_be_lines() -> None:
    found = analyse("(x-y)^2")

    assert found.search is not None
    assert found.search.endless
    assert [point.kind for point in found.points] == ["minimum"]
    assert found.points[0].condition_number is None
    assert "They are not isolated" in "\n".join(sentences(found))


def test_where_a_function_only_fades_away_there_is_no_critical_point() -> None:
    assert [point.at for point in analyse("exp(-x^2)").points] == [(0.0,)]
    assert analyse("1/(1+exp(x))").points == ()


def test_a_quadratic_with_a_huge_condition_number_is_not_run_for_ever() -> None:
    rates = analyse("x^2+1e5*y^2").rates

    assert rates is not None
    assert rates.predicted is not None
    assert rates.predicted.loss == 345_388  # about κ·ln(10⁶)/4
    assert rates.counted is not None
    assert rates.counted.loss is None


def test_work_is_bounded_by_counts() -> None:
    large = parse("*".join(f"tanh(x{i % 20}*x{(i + 1) % 20} + 1)" for i in range(40)))

    with pytest.raises(InputError, match="be small enough to analyse"):
        parts_of(large)


@pytest.mark.parametrize(
    ("formula", "slope"),
    [
        ("0.5*4*w^2", "4*w"),
        ("x^3/3", "x^2"),
        ("sqrt(x^2+1)", "x/sqrt(x^2 + 1)"),
        ("exp(-x^2)", "-2*x*exp(-x^2)"),
        ("1/x", "-1/x^2"),
        ("*".join(["x"] * 90), "90*x^89"),
    ],
)
def test_derivatives_are_written_shortly_and_mean_the_same(formula: str, slope: str) -> None:
    (derivative,) = parse(formula).gradient()
    written = Normal().text(derivative)

    assert written == slope
    points = np.array([[0.3], [0.7], [1.1]])
    assert parse(written)(points) == pytest.approx(derivative(points))


@given(formulas())
def test_a_written_derivative_reads_back_as_the_same_function(formula: str) -> None:
    try:
        slopes = parse(f"{formula} + 0*x").gradient()
    except InputError:
        return
    points = np.random.default_rng(0).uniform(0.5, 2.0, (20, len(slopes)))
    for slope in slopes:
        written = Normal().text(slope)
        if "choose" in written:  # of max and min, which no formula can say
            continue
        try:
            again = parse(written, slope.variables)
        except InputError:  # a number or an exponent beyond what may be typed
            continue
        with np.errstate(all="ignore"):
            a, b = slope(points), again(points)
        good = np.isfinite(a) & np.isfinite(b)
        assert a[good] == pytest.approx(b[good], rel=1e-6, abs=1e-6 * (1 + np.abs(a[good]).max(initial=0.0)))


def test_an_analysis_reads_as_its_sentences() -> None:
    said = str(thalweg.analyse("w1^2 + 25*w2^2"))

    assert said.startswith("Global minimum at w1, w2 = (0, 0), value 0")
    assert "Condition number κ = 25. Best fixed rate 2/(λmin + λmax) = 0.0384615" in said
