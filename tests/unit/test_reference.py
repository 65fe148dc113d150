"""The methods in plain NumPy: by hand, and what they take, keep and refuse."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases import RULES, invalid_values
from thalweg import reference
from thalweg.errors import InputError
from thalweg.reference import SGD, Adagrad, Adam, AdamW, ReferenceOptimizer, RMSprop

CLASSES: list[type[ReferenceOptimizer]] = [
    getattr(reference, name) for name in reference.__all__ if name != "ReferenceOptimizer"
]


def descend(
    optimizer: ReferenceOptimizer, slope: Callable[[float], float], start: float, steps: int
) -> list[float]:
    points = [start]
    for _ in range(steps):
        points.append(float(optimizer.step(points[-1], slope(points[-1]))))
    return points[1:]


# By hand.


def test_descent_on_a_shifted_square() -> None:
    points = descend(SGD(lr=0.1), lambda w: 2 * (w - 3), 0.0, 3)

    assert points == pytest.approx([0.6, 1.08, 1.464], abs=1e-15)


def test_each_step_multiplies_the_loss_of_that_square_by_a_constant() -> None:
    points = [10.0, *descend(SGD(lr=0.1), lambda w: 2 * (w - 3), 10.0, 100)]
    losses = [(w - 3) ** 2 for w in points]

    assert [b / a for a, b in pairwise(losses[:21])] == pytest.approx([0.64] * 20)
    assert f"{points[-1]:.10f}" == "3.0000000014"


@pytest.mark.parametrize(("target", "rate", "expected"), [(5, 0.3, [3, 4.2]), (4, 0.2, [1.6, 2.56, 3.136])])
def test_other_squares(target: float, rate: float, expected: list[float]) -> None:
    points = descend(SGD(lr=rate), lambda w: 2 * (w - target), 0.0, len(expected))

    assert points == pytest.approx(expected)


def test_two_coordinates_reach_their_minimum() -> None:
    optimizer, w = SGD(lr=0.1), np.zeros(2)
    for _ in range(200):
        w = optimizer.step(w, 2 * (w - np.array([3.0, -1.0])))

    assert w == pytest.approx([3, -1])


def test_momentum_on_a_square() -> None:
    """b = 20, so 10 → 8; then b = 0.9·20 + 16 = 34, so 8 → 4.6."""
    assert descend(SGD(lr=0.1, momentum=0.9), lambda w: 2 * w, 10.0, 2) == pytest.approx([8, 4.6])


def test_nesterov_looks_along_the_buffer() -> None:
    """d = 20 + 0.9·20 = 38: 10 → 6.2; b = 0.9·20 + 12.4 = 30.4, d = 12.4 + 27.36: 6.2 → 2.224."""
    points = descend(SGD(lr=0.1, momentum=0.9, nesterov=True), lambda w: 2 * w, 10.0, 2)

    assert points == pytest.approx([6.2, 2.224])


def test_dampening_spares_the_first_gradient() -> None:
    """b = 2, then 0.5·2 + 0.5·2 = 2."""
    points = descend(SGD(lr=1.0, momentum=0.5, dampening=0.5), lambda w: 2.0, 10.0, 2)

    assert points == [8, 6]


def test_adam_on_a_square() -> None:
    """m = 2, v = 0.4, m̂ = 20, v̂ = 400: a step of 0.1; then m = 3.78, v = 0.79164."""
    optimizer = Adam(lr=0.1)

    assert descend(optimizer, lambda w: 2 * w, 10.0, 1) == pytest.approx([9.9], abs=1e-9)
    assert [float(x) for x in optimizer._work.states[""]] == pytest.approx([2, 0.4])
    assert round(float(optimizer.step(9.9, 19.8)), 6) == 9.800027
    assert [float(x) for x in optimizer._work.states[""]] == pytest.approx([3.78, 0.79164])


@pytest.mark.parametrize("slope", [1e-3, 1.0, 1e6])
def test_the_first_step_of_adam_is_the_rate_whatever_the_gradient(slope: float) -> None:
    assert float(Adam(lr=0.5, eps=0.0).step(10.0, slope)) == pytest.approx(9.5)


@pytest.mark.parametrize(("alpha", "factor"), [(0.9, 3.16227766), (0.99, 10.0), (0.999, 31.6227766)])
def test_the_first_step_of_rmsprop_is_larger_than_the_rate(alpha: float, factor: float) -> None:
    moved = float(RMSprop(lr=0.1, alpha=alpha, eps=0.0).step(0.0, -7.0))

    assert moved == pytest.approx(0.1 * factor)


def test_centred_rmsprop_divides_by_the_standard_deviation() -> None:
    """g = 4, α = ½: v = 8, ḡ = 2, v − ḡ² = 4, so the step is 4/2."""
    assert float(RMSprop(lr=1.0, alpha=0.5, eps=0.0, centered=True).step(10.0, 4.0)) == 8


def test_adagrad_divides_by_all_it_has_seen() -> None:
    """Gradients 3 and 4 under the roots 3 and 5, the second at half the rate."""
    optimizer = Adagrad(lr=1.0, lr_decay=1.0, eps=0.0)

    first = optimizer.step(10.0, 3.0)
    assert [float(first), float(optimizer.step(first, 4.0))] == pytest.approx([9, 8.6])
    assert float(Adagrad(lr=1.0, initial_accumulator_value=16.0, eps=0.0).step(10.0, 3.0)) == pytest.approx(
        9.4
    )


def test_amsgrad_never_lets_the_divisor_fall() -> None:
    """β = ½ each: v = 8, then 4; the largest, 8, is corrected by ¾. m = 2, then 1."""
    options: dict[str, Any] = {"lr": 1.0, "betas": (0.5, 0.5), "eps": 0.0}
    for amsgrad, v in ((True, 8), (False, 4)):
        optimizer = Adam(amsgrad=amsgrad, **options)
        first = optimizer.step(0.0, -4.0)
        step = float(optimizer.step(first, 0.0)) - float(first)
        assert step == pytest.approx((1 / 0.75) / (v / 0.75) ** 0.5)


def test_decay_is_part_of_adams_gradient_and_apart_from_adamws() -> None:
    """From 8 with γ = λ = ½ and g = −4: L2 cancels the gradient; AdamW gives 8·¾ + ½."""
    assert float(Adam(lr=0.5, weight_decay=0.5).step(8.0, -4.0)) == 8
    assert float(AdamW(lr=0.5, weight_decay=0.5, eps=0.0).step(8.0, -4.0)) == pytest.approx(6.5)


@pytest.mark.parametrize("cls", CLASSES)
def test_maximize_climbs_as_far_as_the_descent_of_the_negative(cls: type[ReferenceOptimizer]) -> None:
    options = {"lr": 0.1, **({"weight_decay": 0.1} if "weight_decay" in cls.rule.hyper else {})}
    climber, other = cls(maximize=True, **options), cls(**options)
    slope, up, down = 3 * np.eye(2), 2 * np.ones((2, 2)), 2 * np.ones((2, 2))

    for _ in range(2):  # SOAP's first step does not move
        up, down = climber.step(up, slope), other.step(down, -slope)

    assert (up == down).all()
    assert (up.diagonal() > 1.5).all()  # decay alone would not have moved them apart
    assert up[0, 0] > up[0, 1]


# What is taken and given back.


def test_parameters_come_back_as_they_were_given_and_are_left_alone() -> None:
    w, b = np.array([[1.0, 2.0]]), 3.0
    optimizer = SGD(lr=1.0)

    moved = optimizer.step({"w": w, "b": b}, {"b": 1, "w": np.ones((1, 2))})

    assert {name: x.tolist() for name, x in moved.items()} == {"w": [[0, 1]], "b": 2}
    assert w.tolist() == [[1, 2]]
    assert [x.tolist() for x in SGD(lr=1.0).step((w, b), [np.ones((1, 2)), None])] == [[[0, 1]], 3]
    assert isinstance(SGD(lr=1.0).step((w, b), (w, b)), tuple)


def test_a_parameter_without_gradient_stays_and_its_steps_are_not_counted() -> None:
    optimizer, alone = Adam(lr=0.1), Adam(lr=0.1)
    both = {"a": 1.0, "b": 1.0}

    for slopes in ({"a": 1.0, "b": None}, {"a": 2.0, "b": 5.0}):
        both = optimizer.step(both, slopes)

    assert float(both["b"]) == float(alone.step(1.0, 5.0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_float_type_is_kept_and_whole_numbers_become_float64(
    cls: type[ReferenceOptimizer], dtype: Any
) -> None:
    optimizer = cls(lr=np.float64(0.1))  # as it comes from np.logspace
    if dtype is np.float16 and cls.rule.name in TOO_SMALL_FOR_FLOAT16:
        pytest.skip("its smallest constants, or its eigenvectors, do not exist in float16")

    w = np.ones((2, 2), dtype)
    for _ in range(2):
        w = optimizer.step(w, np.array([[1.0, 0.5], [0.25, 1.0]]))

    assert w.dtype == dtype
    assert cls().step(np.array([[1, 2]]), np.array([[1, 1]])).dtype == np.float64


TOO_SMALL_FOR_FLOAT16 = {"prodigy", "dadapt-adam", "sophia-h", "sophia-g", "shampoo", "soap"}


def test_a_method_of_matrices_refuses_a_vector_in_words() -> None:
    with pytest.raises(InputError, match=r"^the parameters of Muon must have 2 axes or more; got w of shape"):
        reference.Muon().step({"w": np.ones(3)}, {"w": np.ones(3)})


# What is refused.


@pytest.mark.parametrize("cls", CLASSES)
def test_every_invalid_value_is_refused_in_words(cls: type[ReferenceOptimizer]) -> None:
    for name, bad in invalid_values(cls.rule):
        with pytest.raises(InputError) as error:
            cls(**{name: bad})
        assert str(error.value).startswith(f"{name} of {cls.rule.title} must be ")
        assert f"; got {bad!r}." in str(error.value)


@pytest.mark.parametrize(
    ("parameters", "slopes", "words"),
    [
        ([1.0, 2.0], [1.0], "the gradients of SGD must be one for each parameter, ['0', '1']; got ['0']."),
        ({"a": 1.0}, {"b": 1.0}, "the gradients of SGD must be one for each parameter, ['a']; got ['b']."),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, "the gradient of parameter a must have the parameter's shape (1,)"),
        ("w", 1.0, "the parameters and gradients of SGD must be real numbers or arrays of them; got 'w'."),
        (1j, 1.0, "the parameters and gradients of SGD must be real numbers or arrays of them; got 1j."),
        (1.0, np.array([1j]), "the parameters and gradients of SGD must be real numbers or arrays of them"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(parameters: Any, slopes: Any, words: str) -> None:
    with pytest.raises(InputError) as error:
        SGD(lr=0.1).step(parameters, slopes)

    assert str(error.value).startswith(words)


@pytest.mark.parametrize("other", [{"a": np.ones(2)}, {"b": np.ones(3)}, {"a": np.ones((2, 3))}, np.ones(3)])
def test_other_parameters_than_those_of_the_first_step_are_refused(other: Any) -> None:
    optimizer = SGD(lr=0.1, momentum=0.9)
    optimizer.step({"a": np.ones(3)}, {"a": np.ones(3)})

    with pytest.raises(InputError, match=r"be those of the first step, a of shape \(3,\); got .*of shape"):
        optimizer.step(other, other)


def test_an_unknown_hyperparameter_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"got 'beta'\. Did you mean betas"):
        Adam(beta=0.9)


# What is derived.


@pytest.mark.parametrize("cls", CLASSES)
def test_help_shows_formula_hyperparameters_and_source(cls: type[ReferenceOptimizer]) -> None:
    text = inspect.getdoc(cls) or ""

    assert inspect.cleandoc(cls.rule.formula) in text
    assert cls.rule.source in text
    for name, declared in cls.rule.hyper.items():
        assert f"{name} = {declared.default}: {declared.meaning}" in text


def test_the_documentation_shows_adams_body_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()

    assert inspect.getsource(Adam.rule.direction) in page


def test_repr_is_what_makes_it_again() -> None:
    optimizer = Adam(lr=0.1, betas=(0.5, 0.6))

    again = eval(repr(optimizer))

    assert repr(again) == repr(optimizer)
    assert again.hyperparameters == optimizer.hyperparameters


def test_there_is_a_class_for_every_rule_and_torch_is_not_needed() -> None:
    assert {cls.rule.name for cls in CLASSES} == set(RULES)
    script = "import sys, thalweg.reference as r; r.Adam().step(1.0, 1.0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
