"""Exact roots beside NumPy's, and roots that are known."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thalweg.functions.roots import is_semidefinite, real_roots, solve


def polynomial(roots: list[int]) -> list[Fraction]:
    made = [Fraction(1)]
    for root in roots:
        made = [
            (made[i - 1] if i else 0) - (root * made[i] if i < len(made) else 0) for i in range(len(made) + 1)
        ]
    return made


def test_the_twenty_roots_that_rounding_scatters_are_exact() -> None:
    found = real_roots(polynomial(list(range(1, 21))))  # Wilkinson 1963

    assert [root.at for root in found] == [float(i) for i in range(1, 21)]


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=7))
def test_integer_roots_come_back_once_each_and_signs_change_at_odd_ones(roots: list[int]) -> None:
    found = real_roots(polynomial(roots))

    assert [root.at for root in found] == sorted(set(map(float, roots)))
    for root in found:
        assert (root.left != root.right) == (roots.count(int(root.at)) % 2 == 1)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=9).filter(lambda x: x[-1] != 0))
def test_simple_roots_are_those_of_numpy(coefficients: list[int]) -> None:
    found = [root.at for root in real_roots([Fraction(x) for x in coefficients])]
    value = np.polynomial.Polynomial(coefficients)

    # At each root the value is rounding; NumPy's simple real roots, apart from others, are all among them.
    scale = np.polynomial.Polynomial(np.abs(coefficients))
    assert all(abs(value(x)) <= 1e-12 * scale(abs(x)) for x in found)
    other = np.roots(coefficients[::-1])
    for i, root in enumerate(other):
        alone = min((abs(root - x) for j, x in enumerate(other) if j != i), default=1.0) > 1e-2
        if alone and abs(root.imag) < 1e-12:
            assert min(abs(root.real - x) for x in found) < 1e-6 * (1 + abs(root))


def test_systems_with_one_many_and_no_solutions() -> None:
    one, two, zero = Fraction(1), Fraction(2), Fraction(0)

    assert solve([[two, zero], [zero, two]], [two, one]) == [one, Fraction(1, 2)]
    assert solve([[one, one], [one, one]], [two, two]) == [two, zero]
    assert solve([[one, one], [one, one]], [two, one]) is None


@given(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=3))
def test_a_matrix_times_itself_is_semidefinite_and_one_below_it_is_not(rows: list[list[int]]) -> None:
    square = np.array(rows).T @ np.array(rows)
    least = np.linalg.eigvalsh(square)[0]

    def exact(shift: Fraction) -> bool:
        return is_semidefinite(
            [[Fraction(int(x)) - shift * (i == j) for j, x in enumerate(row)] for i, row in enumerate(square)]
        )

    assert exact(Fraction(0))
    assert not exact(Fraction(float(least)) + Fraction(1, 10**6))
