"""Objectives: differences, counts, layouts, and how points are classified."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from thalweg.errors import InputError
from thalweg.solvers.derivatives import check_gradient, derivatives_of
from thalweg.solvers.layout import layout_of
from thalweg.solvers.minimize import METHODS, minimize
from thalweg.solvers.objective import Counted, Derivatives, differences
from thalweg.solvers.outcome import Kind, classify


def objective(f: Any, start: Any, **given: Any) -> tuple[Counted, Any]:
    layout, x = layout_of(start)
    several = given.pop("several", False)
    derivatives = derivatives_of(f, layout, given.get("gradient"), given.get("hessian"), several=several)
    return Counted(f, layout, derivatives, is_residuals=several), x


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=4))
def test_differences_agree_with_the_exact_gradient(point: list[float]) -> None:
    """Central differences of a function of size 1 to 20 are good to ε^⅔ of it, some 1e-9."""
    x = np.array(point)

    slope = differences(lambda x: float(np.exp(x).sum() + np.sin(x[0])), x, 0.0)

    exact = np.exp(x) + np.eye(len(x))[0] * np.cos(x[0])
    assert slope == pytest.approx(exact, abs=2e-8)


def test_a_difference_to_the_defined_side_is_taken_at_the_edge_of_a_domain() -> None:
    with np.errstate(invalid="ignore"):
        slope = differences(lambda x: float((1 - x[0]) ** 1.5 + x[0]), np.array([1.0]), 1.0)

    assert slope[0] == pytest.approx(1, abs=0.01)  # √h of a one-sided difference of this function


def test_second_derivatives_from_every_source_are_the_same() -> None:
    f = lambda x: x[0] ** 3 + x[0] * x[1] + x[1] ** 4  # noqa: E731
    gradient = lambda x: np.array([3 * x[0] ** 2 + x[1], x[0] + 4 * x[1] ** 3])  # noqa: E731
    exact = np.array([[6.0, 1.0], [1.0, 12.0]])
    v = np.array([1.0, -2.0])

    for given_, start, within in (
        ({}, [1.0, 1.0], 1e-4),
        ({"gradient": gradient}, [1.0, 1.0], 1e-7),
        ({"hessian": lambda x: exact}, [1.0, 1.0], 1e-15),
        ({}, torch.ones(2, dtype=torch.float64), 1e-14),
    ):
        counted, x = objective(f, start, **given_)

        assert counted.hessian(x) == pytest.approx(exact, abs=within)
        assert counted.hessian_product(x, v) == pytest.approx(exact @ v, abs=3 * within)


def test_what_was_computed_last_is_not_computed_again() -> None:
    counted, x = objective(lambda x: float(x @ x), [1.0, 2.0], gradient=lambda x: 2 * x)
    for _ in range(3):
        counted.value(x)
        counted.gradient(x)

    assert counted.evaluations[:2] == (1, 1)
    with counted.uncounted():
        counted.value(x + 1)
    assert counted.evaluations[:2] == (1, 1)


def test_a_tensor_function_of_nothing_has_a_zero_gradient() -> None:
    counted, x = objective(lambda x: torch.tensor(3.0), torch.ones(2))

    assert counted.gradient(x).tolist() == [0, 0]


def test_the_type_and_place_of_tensors_reach_the_function() -> None:
    seen = []

    def f(p: Any) -> Any:
        seen.append((p["w"].dtype, p["b"].dtype))
        return (p["w"] ** 2).sum() + p["b"].double() ** 2

    counted, x = objective(f, {"w": torch.ones(2, dtype=torch.float64), "b": torch.tensor(1.0)})
    counted.gradient(x)

    assert set(seen) == {(torch.float64, torch.float32)}


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        arrays(np.float64, array_shapes(max_dims=3, max_side=3), elements=st.floats(-9, 9)),
        min_size=1,
        max_size=3,
    )
)
def test_a_vector_becomes_the_start_again(start: dict[str, Any]) -> None:
    layout, x = layout_of(start)

    back = layout.point(x)

    assert list(back) == list(start)
    assert all(np.array_equal(back[name], start[name]) for name in start)
    assert len(layout.names()) == len(x) == len(set(layout.names()))


def test_a_right_gradient_is_never_refused_and_a_wrong_one_is() -> None:
    f = lambda x: float(np.sum(x**2 * np.exp(x)))  # noqa: E731
    right = lambda x: (2 * x + x**2) * np.exp(x)  # noqa: E731
    for seed in range(20):
        start = np.random.default_rng(seed).uniform(-3, 3, 4)
        check_gradient(*objective(f, start, gradient=right))
        with pytest.raises(InputError, match="must agree with differences"):
            check_gradient(*objective(f, start, gradient=lambda x: right(x) * [1, 1, 1.01, 1]))


def test_a_kink_at_the_start_is_not_held_against_the_gradient() -> None:
    check_gradient(*objective(lambda x: float(abs(x[0])), [0.0], gradient=lambda x: np.array([0.0])))


def test_a_wrong_jacobian_names_the_residual() -> None:
    with pytest.raises(InputError, match=r"the Jacobian at the start .* for x\[1\] of residual 0; got 7"):
        minimize(
            None, [1.0, 1.0], "gauss-newton",
            residuals=lambda x: np.array([x[0] * x[1], x[0]]), jacobian=lambda x: [[1, 7], [1, 0]],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("eigenvalues", "kind"),
    [
        ((1.0, 2.0), Kind.MINIMUM),
        ((-1.0, -2.0), Kind.MAXIMUM),
        ((-1e-6, 2.0), Kind.SADDLE),
        ((0.0, 2.0), Kind.DEGENERATE),
        ((0.0, -2.0), Kind.DEGENERATE),
        ((0.0, 0.0), Kind.DEGENERATE),
        ((1e-5, 1e9), Kind.MINIMUM),  # units that differ by 10⁷ make no singular Hessian
        ((-1e-5, 1e9), Kind.SADDLE),
    ],
)
def test_a_point_is_what_the_signs_of_its_eigenvalues_say(eigenvalues: Any, kind: Kind) -> None:
    h = np.diag(eigenvalues)
    counted, x = objective(
        lambda x: float(x @ h @ x) / 2, [0.0, 0.0], gradient=lambda x: h @ x, hessian=lambda x: h
    )

    found = classify(counted, x, counted.gradient(x))

    assert found is not None
    assert found.kind is kind
    assert (found.smallest, found.largest) == (min(eigenvalues), max(eigenvalues))


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_rotated_points_are_classified_by_differences_too(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    eigenvalues = rng.uniform(0.5, 5, n) * rng.choice([-1, 1], n)
    h = (q * eigenvalues) @ q.T
    counted, x = objective(lambda x: float(x @ h @ x) / 2, np.zeros(n))

    found = classify(counted, x, counted.gradient(x))

    signs = {bool(value > 0) for value in eigenvalues}
    expected = Kind.SADDLE if len(signs) == 2 else Kind.MINIMUM if signs == {True} else Kind.MAXIMUM
    assert found is not None
    assert found.kind is expected


def test_only_what_is_known_counts_as_exact() -> None:
    counted = Counted(None, layout_of([0.0])[0], Derivatives(lambda x: 0.0))

    assert not counted.exact_hessian
    assert counted.derivatives.by == "central differences"


def test_every_method_has_a_page() -> None:
    pages = Path(__file__).parents[3] / "docs"
    text = "".join((pages / name).read_text() for name in ("minimize.md", "proximal.md", "methods.md"))

    assert [name for name in METHODS if f"`{name}`" not in text and f'"{name}"' not in text] == []
