"""`minimize`: what it takes, how it ends, and what it refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from thalweg.errors import InputError
from thalweg.functions.expression import parse
from thalweg.solvers.minimize import METHODS, minimize
from thalweg.solvers.outcome import Ending, Kind

SMOOTH = ("steepest-armijo", "steepest-wolfe", "newton", "trust-region", "newton-cg", "bfgs", "lbfgs")


def bowl(x: Any) -> Any:
    """Return (x₀ − 3)² + 25(x₁ + 1)², zero at (3, −1)."""
    return (x[0] - 3) ** 2 + 25 * (x[1] + 1) ** 2


# What may be passed.


@pytest.mark.parametrize("method", SMOOTH)
def test_every_smooth_method_finds_the_bottom_of_a_bowl(method: str) -> None:
    found = minimize(bowl, [0.0, 1.0], method)

    assert found.x == pytest.approx([3, -1], abs=1e-6)
    assert found.kind is Kind.MINIMUM
    assert found.gradient_norm <= 1e-6


@pytest.mark.parametrize("method", SMOOTH)
def test_derivatives_from_three_sources_lead_to_the_same_point(method: str) -> None:
    by_differences = minimize(bowl, np.array([0.0, 1.0]), method)
    by_torch = minimize(bowl, torch.tensor([0.0, 1.0], dtype=torch.float64), method)
    by_expression = minimize(parse("(x-3)^2 + 25*(y+1)^2"), [0.0, 1.0], method)

    assert by_differences.gradient_by == "central differences"
    assert by_torch.gradient_by == "PyTorch's autograd"
    assert by_expression.gradient_by == "the expression's own derivative"
    assert by_torch.x.tolist() == pytest.approx(by_differences.x, abs=1e-6)
    # The same function with exact derivatives takes the same path, to rounding.
    assert by_expression.path.value == pytest.approx(by_torch.path.value, rel=1e-6, abs=1e-12)


def test_a_point_comes_back_as_what_the_start_was() -> None:
    number = minimize(lambda w: (w - 2) ** 2, 5)
    array = minimize(lambda x: ((x - 2) ** 2).sum(), np.ones((2, 3)))
    parts = minimize(lambda p: ((p["w"] - 1) ** 2).sum() + p["b"] ** 2, {"w": [[3.0, 4.0]], "b": 2})
    pair = minimize(lambda p: ((p[0] - 1) ** 2).sum() + ((p[1] + 1) ** 2).sum(), [np.ones(2), np.ones(3)])
    tensors = minimize(
        lambda p: ((p["w"] - 1) ** 2).sum(), {"w": torch.zeros(2, 2), "b": torch.zeros(1)}, tolerance=1e-4
    )

    assert float(number.x) == pytest.approx(2)
    assert array.x.shape == (2, 3)
    assert parts.x["w"] == pytest.approx(np.ones((1, 2)))
    assert isinstance(pair.x, list)
    assert pair.x[1] == pytest.approx(-np.ones(3))
    assert tensors.x["w"].dtype is torch.float32
    assert tensors.x["w"].shape == (2, 2)


def test_a_given_gradient_has_the_structure_of_the_start() -> None:
    found = minimize(
        lambda p: ((p["w"] - 1) ** 2).sum() + p["b"] ** 2,
        {"w": np.zeros((2, 2)), "b": 3.0},
        gradient=lambda p: {"w": 2 * (p["w"] - 1), "b": 2 * p["b"]},
    )

    assert found.gradient_by == "the gradient that was given"
    assert found.x["w"] == pytest.approx(np.ones((2, 2)))


def test_evaluations_are_those_that_the_function_saw() -> None:
    """Two exact Hessians and no more values: classifying does not count, nor does it ask for values."""
    calls = {"f": 0, "g": 0}

    class Seen:
        def __call__(self, x: Any) -> float:
            calls["f"] += 1
            return float(bowl(x))

        def slope(self, x: Any) -> Any:
            calls["g"] += 1
            return np.array([2 * (x[0] - 3), 50 * (x[1] + 1)])

        def curvature(self, x: Any) -> Any:
            return np.diag([2.0, 50.0])

    found = minimize(Seen(), [0.0, 1.0], "bfgs")

    assert (found.evaluations.value, found.evaluations.gradient) == (calls["f"], calls["g"])


def test_differences_take_two_values_a_coordinate() -> None:
    found = minimize(bowl, [0.0, 1.0], "sgd", lr=0.01, max_steps=5)

    assert found.evaluations.gradient == 6
    assert found.evaluations.value == 6 + 6 * 4


def test_the_path_has_a_row_for_the_start_and_for_every_step() -> None:
    found = minimize(lambda w: (w - 3) ** 2, 0.0, "sgd", lr=0.1, max_steps=3)

    assert found.path.x[:, 0] == pytest.approx([0, 0.6, 1.08, 1.464], abs=1e-9)
    assert found.path.value[1:] == pytest.approx(found.path.value[:-1] * 0.64, rel=1e-8)
    assert found.path.gradient_norm == pytest.approx([6, 4.8, 3.84, 3.072], rel=1e-8)
    assert minimize(bowl, [0.0, 1.0], path=False).path.x is None


# How it ends.


@pytest.mark.parametrize(
    ("f", "start", "kind", "words"),
    [
        (lambda w: w**2, 0.0, Kind.MINIMUM, "a local minimum: the smallest eigenvalue of the Hessian is 2"),
        (lambda w: -2 * w**2, 0.0, Kind.MAXIMUM, "a maximum: the largest eigenvalue of the Hessian is -4"),
        (lambda x: x[0] * x[1], [0.0, 0.0], Kind.SADDLE, "a saddle: the Hessian has an eigenvalue of -1"),
        (lambda x: x[0] ** 2, [0.0, 0.0], Kind.DEGENERATE, "does not decide|to decide"),
        (lambda w: w**3, 0.0, Kind.DEGENERATE, "does not decide|to decide"),
    ],
)  # fmt: skip
def test_a_start_with_zero_gradient_is_noticed_and_classified(
    f: Callable[[Any], Any], start: Any, kind: Kind, words: str
) -> None:
    found = minimize(f, start)

    assert found.steps == 0
    assert found.kind is kind
    assert "is zero to 1e-06 at the start" in found.outcome
    assert any(part in found.outcome for part in words.split("|"))


@pytest.mark.parametrize("power", [3, 4, 6])
def test_a_flat_point_is_never_called_a_minimum(power: int) -> None:
    """wᵖ has the Hessian 0 at 0; where the gradient is 1e-9 it is positive still, on the right of 0."""
    found = minimize(parse(f"w^{power}"), 1.0, "newton", tolerance=1e-9)

    assert 0 < float(found.x) < 0.1
    assert found.kind is Kind.DEGENERATE


def test_descent_with_a_rate_that_lands_on_a_maximum() -> None:
    """From 2 at rate 0.1, w⁴ − 3w² + 2 leads to 0 exactly: 2 − 0.1·(32 − 12)."""
    found = minimize(parse("w^4 - 3*w^2 + 2"), 2.0, "sgd", lr=0.1)

    assert found.steps == 1
    assert found.kind is Kind.MAXIMUM


def test_a_rate_above_the_limit_diverges() -> None:
    """w² at rate 1.1 multiplies w by −1.2; at 1 it swings for ever."""
    high = minimize(parse("w^2"), 1.0, "sgd", lr=1.1)
    limit = minimize(parse("w^2"), 1.0, "sgd", lr=1.0, max_steps=50)

    assert high.ending is Ending.DIVERGED
    assert high.outcome.startswith("Diverged")
    assert limit.ending is Ending.STEPS
    assert "no lower than the 1 at the start" in limit.outcome


def test_values_that_are_no_longer_finite_are_a_divergence_from_the_last_finite_point() -> None:
    """w⁴ at rate 1 from 10: −3990, 2.5·10¹¹, … each step cubes."""
    found = minimize(parse("w^4"), 10.0, "sgd", lr=1.0)

    assert found.ending is Ending.DIVERGED
    assert np.isfinite(found.value)
    assert float(found.path.x[1, 0]) == -3990


@pytest.mark.parametrize("method", ["newton", "bfgs", "lbfgs", "steepest-wolfe"])
def test_a_function_without_minimum_is_said_to_have_none(method: str) -> None:
    found = minimize(lambda w: -(w**2), 1.0, method)

    assert found.ending is Ending.UNBOUNDED
    assert "no minimum" in found.outcome


def test_the_limit_of_evaluations_is_kept_to_the_one() -> None:
    rosenbrock = parse("100*(y - x^2)^2 + (1 - x)^2")
    for limit in (2, 3, 10, 31):
        found = minimize(rosenbrock, [-1.2, 1.0], max_evaluations=limit)

        assert found.ending is Ending.EVALUATIONS
        assert found.evaluations.value + found.evaluations.gradient == limit
        assert "as many evaluations as were allowed" in found.outcome


def test_a_tolerance_below_rounding_ends_stuck() -> None:
    found = minimize(parse("1000 + exp(x) + exp(-2*x) + exp(y - x) + exp(-y)"), [1.0, 2.0], tolerance=1e-40)

    assert found.ending is Ending.STUCK
    assert "but for rounding" in found.outcome
    assert found.gradient_norm < 1e-6


def test_the_domain_of_a_logarithm_is_not_left() -> None:
    """w − log w has its minimum at 1."""
    for method in SMOOTH:
        found = minimize(lambda w: w - np.log(w), 5.0, method)

        assert float(found.x) == pytest.approx(1, abs=1e-5)


def test_what_the_function_raises_passes_through() -> None:
    class OwnError(Exception):
        pass

    def f(x: Any) -> float:
        if x[0] < 0.5:
            raise OwnError("here")
        return float(x[0] ** 2)

    with pytest.raises(OwnError, match="here"):
        minimize(f, [1.0])


def test_an_interruption_passes_through() -> None:
    def f(x: Any) -> float:
        if x[0] < 0.5:
            raise KeyboardInterrupt
        return float(x[0] ** 2)

    with pytest.raises(KeyboardInterrupt):
        minimize(f, [1.0])


def test_two_runs_are_the_same_to_the_bit() -> None:
    for method in ("lbfgs", "sophia-h"):
        a, b = (minimize(bowl, [0.0, 1.0], method, max_steps=50, seed=3) for _ in range(2))

        assert a.path.x.tobytes() == b.path.x.tobytes()


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "lbgfs"}, r"method of minimize must be one it knows; got 'lbgfs'\. Did you mean lbfgs"),
        ({"method": "bfgs", "memory": 3}, r"options of bfgs must be among decrease, curvature; got 'memory'"),
        ({"method": "lbfgs", "memory": 0}, r"memory of lbfgs must be a whole number of at least 1; got 0"),
        ({"method": "adam", "lr": -1.0}, r"lr of adam must be .*; got -1\.0"),
        ({"method": "adam", "maximize": True}, r"the options of adam must be among .*; got 'maximize'"),
        ({"method": "sophia-g"}, r"the method of minimize must be one it knows"),
        ({"tolerance": 0.0}, r"tolerance of minimize must be a finite number above 0; got 0\.0"),
        ({"max_steps": -1}, r"max_steps of minimize must be a whole number of at least 0; got -1"),
        ({"max_evaluations": 0}, r"max_evaluations of minimize must be a whole number of at least 1; got 0"),
        ({"x0": []}, r"the start x0 must have a coordinate; got none"),
        ({"x0": ["a"]}, r"the start x0 must be real numbers; got \['a'\]"),
        ({"x0": [[1.0], [1.0, 2.0]]}, r"the start x0 must be real numbers"),
        ({"x0": [1.0, np.nan]}, r"the start x0 must be finite numbers; got x\[1\] = nan"),
        ({"f": 3}, r"the function must be a function of a point; got 3"),
        ({"f": lambda x: x}, r"the value of the function must be one number; got the shape \(2,\)"),
        ({"f": lambda x: "a"}, r"the value of the function must be a real number; got 'a'"),
        ({"f": lambda x: torch.tensor(1.0)}, r"the start x0 must be a tensor if the function is PyTorch's"),
        ({"x0": torch.ones(2), "f": lambda x: 1.0}, r"the value of the function must be a tensor"),
        ({"f": lambda x: np.log(x[0] - 10)}, r"the function at the start x0 must be finite; got nan"),
        ({"f": lambda x: np.sqrt(x).sum(), "gradient": lambda x: 0.5 / np.sqrt(x), "x0": [1.0, 0.0]},
         r"the gradient at the start x0 must be finite; got inf for x\[1\]"),
        ({"gradient": lambda x: [1.0]}, r"the gradient must have the shape of the start, \(2,\); got \(1,\)"),
        ({"gradient": lambda x: [2 * (x[0] - 3), 25 * (x[1] + 1)]},
         r"the gradient at the start must agree with differences, 100 for x\[1\]; got 50"),
        ({"hessian": lambda x: [1.0], "method": "newton"},
         r"the Hessian must have the shape \(2, 2\); got \(1,\)"),
        ({"penalty": object()}, r"L-BFGS must be called without penalty, which it would not use"),
        ({"method": "gauss-newton"}, r"Gauss–Newton must be given residuals"),
        ({"residuals": lambda x: x}, r"minimize must be given either f or residuals; got both"),
        ({"f": None}, r"minimize must be given either f or residuals; got neither"),
        ({"method": "natural-gradient"}, r"Natural gradient must be given a metric"),
        ({"method": "muon"}, r"start of muon must consist of arrays with 2 axes or more; got x0 of shape"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        minimize(**{"f": bowl, "x0": [0.0, 1.0], **arguments})


def test_a_wrong_gradient_of_many_coordinates_is_found_along_a_random_direction() -> None:
    with pytest.raises(InputError, match="for a random direction"):
        minimize(
            lambda x: (x**2).sum(), np.ones(200), gradient=lambda x: np.where(np.arange(200) == 7, x, 2 * x)
        )
    assert minimize(lambda x: (x**2).sum(), np.ones(200), gradient=lambda x: 2 * x).converged


def test_every_method_has_its_words_and_a_name_of_its_own() -> None:
    for name, solver in METHODS.items():
        assert solver.name == name
        assert solver.title
        assert solver.formula
        assert solver.source
        assert solver.use.endswith(".")
    assert (
        len({solver.title for solver in METHODS.values()}) >= len(METHODS) - 6
    )  # presets of one rule share it


@pytest.mark.parametrize("name", METHODS)
def test_every_option_refuses_what_is_invalid(name: str) -> None:
    for option, declared in METHODS[name].options.items():
        for value in declared.invalid():
            with pytest.raises(InputError, match=f"{option} of {name}"):
                minimize(bowl, [0.0, 1.0], name, **{option: value})


@pytest.mark.parametrize("method", SMOOTH)
@pytest.mark.parametrize(
    "text", ["x*y", "x^2*y^2", "1e90*(x - 1)^2*(y + 3)^4", "(x*y - 1)^2 + x^4", "x^2 + y^2"]
)
def test_a_start_near_overflow_ends_in_words_too(method: str, text: str) -> None:
    """Squares overflow there, and steps with them."""
    for start in ([1e100, 1e100], [1e5, 1e100], [1e100, 0.0]):
        try:
            found = minimize(parse(text), start, method, max_steps=30)
        except InputError as refused:
            assert "at the start x0 must be finite" in str(refused)  # noqa: PT017
        else:
            assert found.outcome
            assert np.isfinite(found.value)


@pytest.mark.parametrize("method", ["gauss-newton", "levenberg-marquardt"])
def test_residuals_near_overflow_end_in_words_too(method: str) -> None:
    for start in ([1e100, 1.0], [1e70, -1e70], [1e-200, 1e-200]):
        found = minimize(None, start, method, residuals=lambda x: np.array([x[0] * x[1], x[0]]), max_steps=30)

        assert found.outcome
        assert np.isfinite(found.value)
