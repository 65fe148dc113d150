"""The rules as methods: the numbers of the rules themselves, on any structure of arrays."""

import numpy as np
import pytest

from thalweg import reference
from thalweg.rules.catalogue import CATALOGUE
from thalweg.solvers.minimize import METHODS, minimize
from thalweg.solvers.rules import RULE_METHODS

PLAIN = [
    solver.name
    for solver in RULE_METHODS
    if CATALOGUE[solver.name].rule.evaluated is None
    and CATALOGUE[solver.name].rule.curvature is None
    and CATALOGUE[solver.name].rule.least_axes == 0
]


def test_adam_by_hand() -> None:
    """w², rate 0.1 from 10: 9.9, then 9.800027."""
    found = minimize(lambda w: w**2, 10.0, "adam", gradient=lambda w: 2 * w, lr=0.1, max_steps=2)

    assert [round(float(w), 6) for w in found.path.x[:, 0]] == [10.0, 9.9, 9.800027]


def test_momentum_by_hand() -> None:
    """w², β = 0.9, rate 0.1 from 10: 8, then 4.6."""
    found = minimize(lambda w: w**2, 10.0, "momentum", gradient=lambda w: 2 * w, lr=0.1, max_steps=2)

    assert found.path.x[:, 0].tolist() == pytest.approx([10, 8, 4.6])


@pytest.mark.parametrize("name", PLAIN)
def test_the_path_is_that_of_the_reference_optimizer(name: str) -> None:
    start = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": np.array([1.0, 2.0])}
    slope = lambda p: {"w": 2 * p["w"], "b": 4 * p["b"] ** 3}  # noqa: E731
    entry = CATALOGUE[name]
    optimizer = getattr(reference, entry.rule.class_name)(**entry.fixed)

    found = minimize(
        lambda p: (p["w"] ** 2).sum() + (p["b"] ** 4).sum(), start, name, gradient=slope, max_steps=5
    )
    points = [start]
    for _ in range(5):
        points.append(optimizer.step(points[-1], slope(points[-1])))

    expected = [np.concatenate([p["w"].ravel(), p["b"]]) for p in points]
    assert found.path.x.tolist() == [row.tolist() for row in expected]


@pytest.mark.parametrize("name", ["schedule-free-sgd", "schedule-free-adamw", "asgd"])
def test_where_a_rule_is_evaluated_at_an_average_that_is_the_point(name: str) -> None:
    entry = CATALOGUE[name]
    optimizer = getattr(reference, entry.rule.class_name)(lr=0.1, **entry.fixed)
    trained = np.array([2.0])
    for _ in range(3):
        trained = optimizer.step(trained, 2 * trained)

    found = minimize(lambda x: float(x @ x), [2.0], name, gradient=lambda x: 2 * x, lr=0.1, max_steps=3)

    evaluated = entry.rule.evaluated
    assert evaluated is not None
    state, h = optimizer._work.states[""], entry.rule.values(optimizer.hyperparameters)
    assert found.x == pytest.approx(evaluated(trained, state, h), rel=1e-14)
    assert found.value == float(found.x[0] ** 2)


def test_matrix_methods_take_matrices() -> None:
    target = np.array([[1.0, 2.0], [3.0, 4.0]])
    for name in ("muon", "shampoo", "soap"):
        found = minimize(
            lambda x: ((x - target) ** 2).sum(),
            np.zeros((2, 2)),
            name,
            gradient=lambda x: 2 * (x - target),
            lr=0.1,
            max_steps=100,
        )

        assert found.value < 0.7 * found.path.value[0]


def test_sophia_is_handed_the_curvature_along_random_signs() -> None:
    """For a diagonal Hessian u ⊙ Hu is its diagonal, whatever the signs: a product every ten steps."""
    found = minimize(
        lambda x: x[0] ** 2 + 10 * x[1] ** 2, [1.0, 1.0], "sophia-h", lr=0.05, max_steps=21,
        gradient=lambda x: np.array([2 * x[0], 20 * x[1]]), hessian=lambda x: np.diag([2.0, 20.0]),
    )  # fmt: skip

    assert found.evaluations.hessian == 3
    assert found.value < 11


def test_every_preset_is_a_method_but_the_one_that_samples_labels() -> None:
    assert set(CATALOGUE) - set(METHODS) == {"sophia-g"}
