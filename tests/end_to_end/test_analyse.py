"""`thalweg analyse`: the figures that must come out, to the printed digits, and what is never claimed."""

import json
from typing import Any

import pytest

from end_to_end.program import Call


@pytest.fixture
def call(call: Call) -> Call:
    """Return a function that runs the command in this process and tells how it ended."""
    return lambda *arguments: call("analyse", *arguments)


@pytest.fixture
def answer(call: Any) -> Any:
    """Return a function that runs the command, which must succeed silently, and reads its JSON."""

    def run(*arguments: str) -> Any:
        done = call(*arguments, "--json")
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    return run


@pytest.fixture
def text(call: Any) -> Any:
    """Return a function that runs the command and returns what it prints, in one line."""

    def run(*arguments: str) -> str:
        done = call(*arguments)
        assert (done.code, done.err) == (0, "")
        return " ".join(done.out.split())

    return run


def kinds(said: Any) -> list[tuple[list[float], str]]:
    return [([round(x, 6) + 0.0 for x in point["at"]], point["kind"]) for point in said["critical_points"]]


def test_half_of_4_w_squared_is_stable_below_a_half(answer: Any, text: Any) -> None:
    said = answer("½·4·w²")

    assert said["gradient"] == ["4*w"]
    assert said["hessian"] == [["4"]]
    assert said["largest_stable_rate"]["sgd"] == 0.5
    assert "Stable below η = 0.5 (gradient descent), 0.95 (momentum 0.9), 0.339286 (Nesterov 0.9)" in text(
        "½·4·w²"
    )


def test_a_valley_with_condition_number_25(answer: Any, text: Any) -> None:
    said = answer("w1^2+25*w2^2")

    assert said["variables"] == ["w1", "w2"]
    assert said["gradient"] == ["2*w1", "50*w2"]
    assert said["hessian"] == [["2", "0"], ["0", "50"]]
    assert said["condition_number"] == 25
    assert said["largest_stable_rate"]["sgd"] == 0.04
    assert said["best_fixed_rate"] == pytest.approx(0.0384615, abs=5e-8)
    assert said["contraction"] == pytest.approx(0.923077, abs=5e-7)
    assert said["convex"] is True
    shown = text("w1^2+25*w2^2")
    assert "κ = 25. Best fixed rate 2/(λmin + λmax) = 0.0384615" in shown
    assert "leaves at most 0.923077 of the distance" in shown


def test_eigenvalues_1_and_100_take_346_steps_in_loss_and_691_in_distance(answer: Any, text: Any) -> None:
    said = answer("0.5*x^2+50*y^2")

    assert said["best_fixed_rate"] == 2 / 101
    assert said["contraction"] == 99 / 101
    assert said["predicted_steps"] == said["counted_steps"] == {"loss": 346, "distance": 691}
    assert said["predicted_steps_at_safe_rate"]["loss"] == 688
    assert "predicted 346 in loss, 691 in distance; counted by running it 346" in text("0.5*x^2+50*y^2")


def test_two_minima_with_a_maximum_between_them(answer: Any) -> None:
    said = answer("w^4-2*w^2")

    assert kinds(said) == [([-1.0], "minimum"), ([0.0], "maximum"), ([1.0], "minimum")]
    assert [point["scope"] for point in said["critical_points"]] == ["global", "local", "global"]
    assert said["convex"] is False


def test_gradient_descent_may_come_to_rest_at_a_maximum_and_that_is_said(answer: Any, text: Any) -> None:
    said = answer("w^4-3*w^2+2", "--start", "2", "--lr", "0.1")

    assert kinds(said)[1] == ([0.0], "maximum")
    assert said["from_start"] == {
        "start": [2.0],
        "rate": 0.1,
        "end": [0.0],
        "steps": 1,
        "outcome": "at rest",
        "kind": "maximum",
    }
    shown = text("w^4-3*w^2+2", "--start", "2", "--lr", "0.1")
    assert "comes to rest after 1 step at 0, a maximum. Converged does not mean minimum." in shown


@pytest.mark.parametrize("formula", ["x*y", "x^2-y^2"])
def test_saddles_are_saddles_and_have_no_best_rate(formula: str, answer: Any) -> None:
    said = answer(formula)

    assert kinds(said) == [([0.0, 0.0], "saddle")]
    assert said["best_fixed_rate"] is None
    assert said["largest_stable_rate"] is None
    assert said["convex"] is False


def test_a_bowl_away_from_zero_has_a_global_minimum(answer: Any) -> None:
    said = answer("(w₁−3)²+(w₂+1)²")

    (point,) = said["critical_points"]
    assert (point["at"], point["kind"], point["scope"], point["value"]) == (
        [3.0, -1.0],
        "minimum",
        "global",
        0.0,
    )
    assert said["convex"] is True


def test_a_zero_gradient_and_hessian_are_no_minimum_by_themselves(answer: Any) -> None:
    assert kinds(answer("x^3")) == [([0.0], "degenerate")]
    assert kinds(answer("x^4")) == [([0.0], "minimum")]
    assert kinds(answer("(y-x^2)*(y-3*x^2)")) == [([0.0, 0.0], "saddle")]  # a minimum along every line
    assert kinds(answer("x^3-3*x*y^2+z^4")) == [([0.0, 0.0, 0.0], "saddle")]


def test_a_kink_is_named(text: Any, answer: Any) -> None:
    assert kinds(answer("abs(w)")) == [([0.0], "minimum")]
    shown = text("abs(w)")
    assert "a kink, where there is no derivative" in shown
    assert "at their kinks there is no derivative" in shown


def test_functions_without_a_minimiser(answer: Any, text: Any) -> None:
    said = answer("exp(w)")
    assert said["critical_points"] == []
    assert said["search"]["complete"] is True

    said = answer("softplus(-w)")
    found = {row["condition"]: row["holds"] for row in said["conditions"]}
    assert found == {"convex": True, "L-smooth": True, "rate below 2/L": True, "a minimiser exists": False}
    assert "along (1): its infimum is never reached" in text("softplus(-w)")


def test_separable_logistic_regression_has_none_and_one_that_is_not_has_one(answer: Any) -> None:
    def exists(said: Any) -> Any:
        return said["conditions"][-1]["holds"]

    assert exists(answer("softplus(-w1-2*w2)+softplus(-2*w1+w2)+softplus(w2-3*w1)")) is False
    assert exists(answer("softplus(-w)+softplus(w)+softplus(-2*w)")) is True


def test_a_wave_has_several_critical_points_in_the_box(answer: Any) -> None:
    said = answer("sin(x)", "--within", "-5,5")

    assert [kind for _, kind in kinds(said)] == ["maximum", "minimum", "maximum", "minimum"]
    assert {point["scope"] for point in said["critical_points"]} == {"global"}
    assert said["search"]["within"] == [-5.0, 5.0]


def test_rosenbrock_is_not_convex_by_a_witness_that_holds(answer: Any) -> None:
    said = answer("(1-x)^2+100*(y-x^2)^2")

    assert kinds(said) == [([1.0, 1.0], "minimum")]
    assert said["critical_points"][0]["scope"] == "global"
    assert said["convex"] is False
    witness = said["convexity"]["witness"]

    def f(x: float, y: float) -> float:
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    a, b = witness["points"]
    assert f(*((p + q) / 2 for p, q in zip(a, b, strict=True))) > (f(*a) + f(*b)) / 2


def test_the_noise_ball_is_where_it_is_predicted(answer: Any) -> None:
    said = answer("w1^2+25*w2^2", "--noise", "2", "--lr", "0.03")

    assert [ball["eigenvalue"] for ball in said["noise_ball"]] == [2.0, 50.0]
    for ball in said["noise_ball"]:
        a = ball["eigenvalue"]
        assert ball["predicted"] == pytest.approx(0.03 * 2 / (a * (2 - 0.03 * a)))
        # Four standard errors: the interval is of 1.96.
        assert abs(ball["measured"] - ball["predicted"]) < 2.04 * (ball["high"] - ball["low"]) / 2


def test_a_vector_function_has_its_jacobian(answer: Any, text: Any) -> None:
    said = answer("x^2*y, 5*x+sin(y)", "--start", "1,0")

    assert said["jacobian"] == [["2*x*y", "x^2"], ["5", "cos(y)"]]
    assert said["jacobian_at_start"] == [[0.0, 1.0], [5.0, 1.0]]
    assert "[2*x*y, x^2]" in text("x^2*y, 5*x+sin(y)")


def test_a_formula_that_begins_with_a_sign(answer: Any) -> None:
    done = answer("--lr", "0.1", "0-x^2")

    assert kinds(done) == [([0.0], "maximum")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["w^"], "the expression must be complete"),
        (["3"], "the expression must have a variable"),
        (["x*y", "--start", "1"], "the start must have 2 coordinates, x, y; got 1"),
        (["x", "--start", "a"], "--start must be a number; got 'a'"),
        (["x", "--noise", "-1"], "the variance of the noise must be a number of at least 0"),
        (["x", "--lr", "0"], "the rate must be a number above 0"),
        (["x", "--within", "3"], "--within must be two numbers"),
        (["x", "--within", "3,1"], "the box must have a lower and a higher end"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(arguments: list[str], message: str, call: Any) -> None:
    done = call(*arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
