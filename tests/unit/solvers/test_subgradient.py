"""The subgradient method: its bound, Polyak's step, and the perceptron, which is one."""

import math

import numpy as np
import pytest
from scipy import optimize

from thalweg.solvers.minimize import minimize
from thalweg.solvers.outcome import Ending
from thalweg.solvers.subgradient import subgradient


class AbsoluteErrors:
    """f(x) = mean |aᵢᵀx − bᵢ|, least absolute deviations; its minimum by linear programming."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.a, self.size = rng.normal(size=(60, 3)), 3
        self.b = self.a @ [1.0, -2.0, 0.5] + rng.standard_t(2, size=60)

    def value(self, x: np.ndarray) -> float:
        return float(np.abs(self.a @ x - self.b).mean())

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.a.T @ np.sign(self.a @ x - self.b) / len(self.b)

    def solved(self) -> tuple[np.ndarray, float]:
        n, p = self.a.shape
        ones = np.eye(n)
        found = optimize.linprog(
            np.r_[np.zeros(p), np.full(n, 1 / n)],
            np.block([[self.a, -ones], [-self.a, -ones]]),
            np.r_[self.b, -self.b],
            bounds=[(None, None)] * p + [(0, None)] * n,
        )
        return found.x[:p], float(found.fun)


def test_polyaks_step_reaches_the_minimum_of_a_linear_programme_and_keeps_its_bound():
    f = AbsoluteErrors()
    x_star, minimum = f.solved()
    longest = float(np.linalg.norm(f.a, axis=1).mean())  # of any subgradient
    values = [
        item.value for item, _ in zip(subgradient(f, np.zeros(3), minimum=minimum), range(2000), strict=False)
    ]
    best = np.array(values[:1000])
    steps = np.arange(1, len(best) + 1)
    # Polyak 1969: best of the first k points: f − f* ≤ G‖x₀ − x*‖/√k
    assert np.all(best - minimum <= longest * np.linalg.norm(x_star) / np.sqrt(steps) + 1e-12)
    assert values[-1] - minimum < 1e-6
    assert np.all(np.diff(values) <= 0)


def test_a_shrinking_step_keeps_its_bound_and_hands_out_the_best_point():
    f = AbsoluteErrors()
    x_star, minimum = f.solved()
    rate = 0.5
    iterates = [item for item, _ in zip(subgradient(f, np.zeros(3), rate=rate), range(3000), strict=False)]
    values = np.array([item.value for item in iterates])
    assert np.all(np.diff(values) <= 0)
    assert [f.value(item.x) for item in iterates[::100]] == values[::100].tolist()
    # f_best − f* ≤ (‖x₀ − x*‖² + G²·Σηₜ²)/(2Σηₜ), over the points that were stepped from
    longest = float(np.linalg.norm(f.a, axis=1).mean())
    taken = rate / np.sqrt(np.arange(1, len(values)))
    bound = (x_star @ x_star + longest**2 * np.cumsum(taken**2)) / (2 * np.cumsum(taken))
    assert np.all(values[:-1] - minimum <= bound)
    assert values[-1] - minimum < 1e-3


def test_through_minimize_with_tensors_and_with_differences():
    import torch

    target = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = minimize(
        lambda x: (x - target).abs().sum(), torch.zeros(2, dtype=torch.float64), "subgradient", minimum=0.0
    )
    assert found.ending in (Ending.STUCK, Ending.CONVERGED)
    assert torch.allclose(found.x, target, atol=1e-6)
    found = minimize(
        lambda x: float(np.abs(x - [1.0, -2.0]).sum()), np.zeros(2), "subgradient", rate=1.0, max_steps=4000
    )
    assert found.ending is Ending.STEPS
    assert found.value < 0.05  # about rate·√n/√t, 0.02
    assert found.gradient_by == "central differences"


def test_a_zero_subgradient_ends_it_and_a_value_that_is_not_finite_too():
    found = minimize(lambda x: float(max(abs(x[0]) - 1, 0)), np.array([3.0]), "subgradient", rate=2.5)
    assert found.ending is Ending.CONVERGED
    assert found.x.tolist() == [0.5]
    found = minimize(lambda x: float(np.sqrt(x[0])), np.array([1.0]), "subgradient", rate=2.5)  # to −0.25
    assert found.ending is Ending.DIVERGED
    assert found.x.tolist() == [1.0]


def test_the_perceptron_rule_is_a_subgradient_step_on_the_positive_part_of_minus_the_margin():
    """Of max(0, −y wᵀx): −yx where y wᵀx < 0, and 0 where it is above. w ← w + η·yx on a mistake."""
    rng = np.random.default_rng(2)
    points = rng.normal(size=(50, 3))
    labels = np.sign(points @ [1.0, 2.0, -1.0])
    by_rule = by_step = rng.normal(size=3)
    mistakes = 0
    for x, y in zip(points, labels, strict=True):
        if y * (by_rule @ x) < 0:  # the rule of Rosenblatt
            by_rule, mistakes = by_rule + y * x, mistakes + 1

        class Loss:
            size = 3

            def value(self, w: np.ndarray, x: np.ndarray = x, y: float = y) -> float:
                return max(0.0, -y * float(w @ x))

            def gradient(self, w: np.ndarray, x: np.ndarray = x, y: float = y) -> np.ndarray:
                return -y * x if y * float(w @ x) < 0 else np.zeros(3)

        before = Loss().value(by_step)
        steps = subgradient(Loss(), by_step, rate=1.0)
        next(steps)
        after = next(steps, None)  # None: the subgradient is zero, and w stays
        if after is not None:
            # Handed out is the better of two points; the rule takes the new one, better or not.
            by_step = by_step - Loss().gradient(by_step)
            assert after.value == min(before, Loss().value(by_step))
    np.testing.assert_array_equal(by_step, by_rule)
    assert mistakes > 5


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_a_step_of_constant_length_would_not_settle_and_a_shrinking_one_does(rate):
    """On |x| from 2.35 steps: a constant step ends between 0.35 and −0.65 steps, for ever."""

    class Size:
        size = 1

        def value(self, x: np.ndarray) -> float:
            return float(abs(x[0]))

        def gradient(self, x: np.ndarray) -> np.ndarray:
            return np.sign(x)

    x = 2.35 * rate
    for _ in range(1000):
        x = x - rate * math.copysign(1, x)
    assert abs(x) > 0.3 * rate
    values = [
        item.value
        for item, _ in zip(subgradient(Size(), np.array([2.35 * rate]), rate=rate), range(1000), strict=False)
    ]
    assert values[-1] < 0.03 * rate
