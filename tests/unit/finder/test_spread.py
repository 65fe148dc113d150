"""The variance of a batch's gradient: against linear regression, where every gradient is known exactly."""

import numpy as np
import pytest
import torch

from small_tasks import ROOT, TRAIN, linear, recipe, workload
from thalweg.finder.spread import WITHOUT, batch_sizes, gradient, spreads
from thalweg.records import Stage
from thalweg.records.sampling import WITH_REPLACEMENT
from thalweg.training.engine import ModelEngine
from thalweg.training.trial import Trial

DRAWS = 2000
# ‖g_B − G‖² varies by less than three times its mean, and the mean of n of them by √n less; four of these.
TOLERANCE = 4 * 3 / DRAWS**0.5


def engine() -> ModelEngine:
    one = recipe(precision="float64", rate=0.1)
    return ModelEngine(workload(linear()), Trial("x", Stage.SINGLE, one, 0, 1), ROOT)


def gradients_by_hand(made: ModelEngine) -> np.ndarray:
    """The gradient of (x·w + b − y)² in (w, b) is 2 (x·w + b − y) (x, 1)."""
    x, y = (t.double().numpy() for t in made.train_part.batch(np.arange(TRAIN)))
    weight, bias = (p.detach().numpy() for p in made.parameters)
    off = x @ weight.T + bias - y
    return 2 * off * np.column_stack([x, np.ones(TRAIN)])


def test_trace_is_that_of_the_covariance_of_single_examples():
    made = engine()
    exact = np.cov(gradients_by_hand(made).T).trace()  # divided by N − 1

    assert spreads(made, draws=2).trace == pytest.approx(exact, rel=1e-12)


def test_gradient_of_a_batch_is_the_mean_of_its_examples_gradients():
    made = engine()
    exact = gradients_by_hand(made)[[3, 3, 7]].mean(axis=0)
    found = torch.cat([g.flatten() for g in gradient(made, np.array([3, 3, 7]))])

    assert found.numpy() == pytest.approx(exact, rel=1e-12)


@pytest.mark.slow
def test_measured_variance_follows_both_laws_and_falls_as_one_over_the_batch_size():
    made = engine()
    exact = gradients_by_hand(made)
    population = exact.var(axis=0).sum()  # σ², divided by N
    found = spreads(made, draws=DRAWS)

    for size in found.sizes:
        B = size.batch_size
        law = population / B * (1.0 if size.sampling == WITH_REPLACEMENT else (TRAIN - B) / (TRAIN - 1))
        assert size.expected == pytest.approx(law, rel=1e-12)
        assert size.measured == pytest.approx(law, rel=TOLERANCE)
    assert found.slope == pytest.approx(-1.0, abs=0.05)  # of five sizes, each within a few per cent


def test_all_pairs_of_three_examples_have_exactly_the_variance_of_the_law():
    """No draws at all: every batch of 2 of the first 3 examples, with and without replacement."""
    g = gradients_by_hand(engine())[:3]
    mean, trace = g.mean(axis=0), np.cov(g.T).trace()

    def variance(pairs: list[tuple[int, int]]) -> float:
        return float(np.mean([np.square(g[list(pair)].mean(axis=0) - mean).sum() for pair in pairs]))

    different = [(i, j) for i in range(3) for j in range(3) if i != j]
    any_two = [(i, j) for i in range(3) for j in range(3)]
    assert variance(different) == pytest.approx(trace * (1 / 2 - 1 / 3), rel=1e-12)
    assert variance(any_two) == pytest.approx(trace * (1 - 1 / 3) / 2, rel=1e-12)


def test_sizes_are_powers_of_two_below_all_examples():
    assert batch_sizes(2) == [1]
    assert batch_sizes(64) == [1, 2, 4, 8, 16, 32]
    assert {s.sampling for s in spreads(engine(), draws=2).sizes} == {WITHOUT, WITH_REPLACEMENT}


def test_one_seed_one_result():
    assert spreads(engine(), draws=4) == spreads(engine(), draws=4)
