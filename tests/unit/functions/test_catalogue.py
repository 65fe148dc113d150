"""Each function of the catalogue is what it is said to be: minima, saddles, condition numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.functions.catalogue import FAMILIES, FUNCTIONS, NAMES, surface

ALL = [*FUNCTIONS.values(), surface("quadratic:kappa=100"), surface("ravine:kappa=100")]
VALUES = {"saddle": -0.5, "monkey-saddle": -27 / 256}  # at the minima; 0 of all others
each = pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)


@each
def test_minima_have_the_known_value_and_no_lower_point_anywhere_in_the_box(entry):
    f, known = entry.expression, VALUES.get(entry.name, 0.0)
    ticks = [np.linspace(low, high, 301) for low, high in entry.box]
    everywhere = f(np.stack(np.meshgrid(*ticks), axis=-1))
    random = np.random.default_rng(0)

    for at in entry.minima:
        # Himmelblau's minima are numbers of 16 digits, where f is of the order of (11 · 2⁻⁵²)².
        assert f(at) == pytest.approx(known, abs=1e-15)
        around = np.asarray(at) + random.uniform(-0.1, 0.1, (10_000, 2))
        assert f(around).min() >= known - 1e-15
    assert everywhere.min() >= known - 1e-12


@each
def test_minima_have_a_zero_gradient_and_a_positive_definite_hessian(entry):
    f = entry.expression
    for at in entry.minima:
        if entry.name == "ackley":  # the tip of a cone: no gradient there, and one of length 4 beside it
            beside = np.array([[1e-6, 0.0], [0.0, -1e-6]])
            assert np.isnan(f.slope(at)).all()
            assert np.linalg.norm(f.slope(beside), axis=-1) == pytest.approx(4 / math.sqrt(2), rel=1e-4)
            continue
        # A coordinate is off by 2⁻⁵² of its size at most, the gradient by the curvature times that.
        curvature = np.abs(f.curvature(at)).max()
        assert np.abs(f.slope(at)).max() <= 8 * curvature * 2**-52 * max(map(abs, at), default=0)
        assert np.linalg.eigvalsh(f.curvature(at)).min() > 0


@each
def test_start_and_minima_lie_in_the_box_and_the_start_is_no_minimum(entry):
    for point in (entry.start, *entry.minima):
        assert all(low <= x <= high for x, (low, high) in zip(point, entry.box, strict=True))
    assert np.linalg.norm(entry.expression.slope(entry.start)) > 1e-3
    assert "" not in (entry.source, entry.why, entry.title)


@pytest.mark.parametrize("name", ["saddle", "monkey-saddle"])
def test_a_saddle_has_a_zero_gradient_and_both_higher_and_lower_points_around_it(name):
    entry = surface(name)
    f, turns = entry.expression, np.linspace(0, 2 * np.pi, 100)
    around = f(0.01 * np.stack([np.cos(turns), np.sin(turns)], axis=-1))

    assert entry.saddle == (0.0, 0.0)
    assert f.slope(entry.saddle).tolist() == [0.0, 0.0]
    assert around.min() < f(entry.saddle) < around.max()


def test_the_saddle_has_the_hessian_that_is_said_and_the_monkey_saddle_none():
    assert surface("saddle").expression.curvature((0.0, 0.0)).tolist() == [[2.0, 0.0], [0.0, -2.0]]
    assert not surface("monkey-saddle").expression.curvature((0.0, 0.0)).any()


def test_numbers_that_are_said_of_functions_are_true():
    def condition(name):
        entry = surface(name)
        return np.linalg.cond(entry.expression.curvature(entry.minima[0]))

    assert condition("rosenbrock") == pytest.approx(2508, abs=0.5)
    assert condition("booth") == pytest.approx(9)
    assert condition("matyas") == pytest.approx(25)
    beale = surface("beale")
    assert np.linalg.norm(beale.expression.slope((-4.5, -4.5))) > 200_000
    assert np.linalg.norm(beale.expression.slope(beale.start)) == pytest.approx(28, abs=0.5)


@given(st.sampled_from(sorted(FAMILIES)), st.floats(1, 1e8))
def test_a_family_has_the_condition_number_that_was_asked_for(name, kappa):
    entry = surface(f"{name}:kappa={kappa!r}")

    values = np.linalg.eigvalsh(entry.expression.curvature(entry.minima[0]))

    # Of the small eigenvalue 1 beside κ, rounding leaves κ · 2⁻⁵² or so.
    assert values.tolist() == pytest.approx([1, kappa], rel=1e-13 * kappa + 1e-12)


def test_a_family_is_named_in_three_ways():
    named, bare, default = (surface(f"quadratic{end}") for end in (":kappa=100", ":100", ""))

    assert named == bare == default
    assert named.text == "(x^2 + 100*y^2)/2"


def test_a_formula_begins_at_ones_and_knows_no_minimum():
    entry = surface(" x^2 - w ")

    assert (entry.text, entry.start, entry.minima, entry.box) == ("x^2 - w", (1.0, 1.0), (), None)
    assert entry.expression.variables == ("w", "x")
    assert surface("x-y").expression((3.0, 1.0)) == 2.0  # two letters are no name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rosenbrok", "must be a known name or a formula; got 'rosenbrok'. Did you mean rosenbrock?"),
        ("monkey-sadle", "got 'monkey-sadle'. Did you mean monkey-saddle"),
        ("parabola", "must be a known name or a formula; got 'parabola'. Known: ackley, beale"),
        ("booth:3", "the function booth must be named alone; got 'booth:3'. Write booth."),
        ("quadratic:x=3", "the function quadratic must be given kappa; got 'x'."),
        (
            "quadratic:",
            "kappa of quadratic must be a number in [1, 1e+08]; got ''. Such as quadratic:kappa=1",
        ),
        ("quadratic:0.5", "kappa of quadratic must be a number in [1, 1e+08]; got 0.5."),
        ("x + y + z", "the function must have one or two variables; got 3: x, y, z."),
        ("x, y", "the function must have one value; got 2 between commas."),
        ("x +* 3", "the function must be a formula; got '*' at character 4."),
        ("", "the function must be complete"),
    ],
)
def test_what_is_no_function_gets_a_sentence(text, said):
    with pytest.raises(InputError) as refused:
        surface(text)
    assert said in str(refused.value)


def test_every_name_is_found_as_it_is_listed():
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        assert surface(name.upper()).expression.is_scalar
