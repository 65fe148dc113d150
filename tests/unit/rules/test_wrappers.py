"""What wrappers do, by invariants and by numbers that can be worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize

from thalweg.backends.reference import Reference
from thalweg.rules.base import Surroundings
from thalweg.rules.decays import DECOUPLED_DECAY
from thalweg.rules.gradients import AGC, CENTRALISE, CLIP_GROUP_NORM, CLIP_NORM, CLIP_VALUE, SKIP_NONFINITE
from thalweg.rules.proximal import PROXIMAL, ProximalClock
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row, Transformed, step
from thalweg.rules.wrap import Applied, wrapped
from thalweg.rules.wrappers import WRAPPERS

NUMBERS = st.floats(-1e3, 1e3, width=32)
ARRAYS = arrays.arrays(np.float64, arrays.array_shapes(min_dims=0, max_dims=4, max_side=4), elements=NUMBERS)
LIMITS = st.floats(1e-3, 1e3)


def rows_of(applied: Applied, gradients: list[np.ndarray], parameters: Any = None) -> list[Row]:
    rule = wrapped(SGD, [applied])
    h = rule.values(rule.defaults())
    at = [np.ones_like(g) for g in gradients] if parameters is None else parameters
    return [
        Row(rule, p, g, rule.initial(p, h), 1, h, group=place)
        for place, (p, g) in enumerate(zip(at, gradients, strict=True))
    ]


def transformed(applied: Applied, gradients: list[np.ndarray], parameters: Any = None) -> Transformed:
    act = applied.wrapper.guard or applied.wrapper.transform
    assert act is not None
    return act(rows_of(applied, gradients, parameters))


def flat(gradients: Any) -> np.ndarray:
    return np.concatenate([np.ravel(g) for g in gradients])


def projected(applied: Applied, p: np.ndarray, threshold: float) -> np.ndarray:
    rule = wrapped(SGD, [applied])
    assert PROXIMAL.project is not None
    clock = ProximalClock(threshold, tuple(range(-p.ndim, 0)))
    return PROXIMAL.project(p, rule.values(rule.defaults()), clock)


# Gradients.


@given(gradients=st.lists(ARRAYS, min_size=1, max_size=3), limit=LIMITS)
def test_clipping_by_the_norm_never_lengthens_nor_turns_and_holds_the_limit(
    gradients: list[np.ndarray], limit: float
) -> None:
    done = transformed(CLIP_NORM(limit), gradients)
    before, after = flat(gradients), flat(r.gradient for r in done.rows)

    length = np.linalg.norm(before)
    assert np.linalg.norm(after) <= min(length, limit) * (1 + 1e-12)
    share = min(1.0, limit / (length + 1e-6))
    np.testing.assert_allclose(after, share * before, rtol=1e-12)
    assert bool(done.clipped) == (share < 1)


@given(gradients=st.lists(ARRAYS, min_size=1, max_size=3), limit=LIMITS)
def test_group_norms_are_clipped_as_each_group_would_be_alone(
    gradients: list[np.ndarray], limit: float
) -> None:
    done = transformed(CLIP_GROUP_NORM(limit), gradients)

    for row, g in zip(done.rows, gradients, strict=True):
        alone = transformed(CLIP_NORM(limit), [g]).rows[0].gradient
        np.testing.assert_array_equal(row.gradient, alone)


@given(g=ARRAYS, limit=LIMITS)
def test_clipping_by_value_is_numpys_clip(g: np.ndarray, limit: float) -> None:
    done = transformed(CLIP_VALUE(limit), [g])

    np.testing.assert_array_equal(done.rows[0].gradient, np.clip(g, -limit, limit))
    assert bool(done.clipped) == bool((np.abs(g) > limit).any())


@given(g=ARRAYS)
def test_centralised_gradients_have_mean_zero_in_every_unit_and_vectors_stay(g: np.ndarray) -> None:
    after = transformed(CENTRALISE(), [g]).rows[0].gradient

    if g.ndim < 2:
        np.testing.assert_array_equal(after, g)
    else:
        assert np.abs(after.mean(axis=tuple(range(1, g.ndim)))).max() <= 1e-12 * max(1, np.abs(g).max())


@given(g=ARRAYS, size=st.floats(0.0, 10.0), clipping=st.floats(1e-3, 1.0))
def test_adaptive_clipping_bounds_every_unit_by_its_weights(
    g: np.ndarray, size: float, clipping: float
) -> None:
    p = np.full_like(g, size)
    after = transformed(AGC(clipping, floor=0.1), [g], [p]).rows[0].gradient

    units = (lambda x: x.reshape(len(x), -1)) if g.ndim > 1 else (lambda x: x.reshape(1, -1))
    bound = clipping * np.maximum(np.linalg.norm(units(p), axis=1), 0.1)
    lengths = np.linalg.norm(units(after), axis=1)
    assert (lengths <= np.minimum(bound, np.linalg.norm(units(g), axis=1)) * (1 + 1e-12)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_stops_all_parameters(bad: float) -> None:
    gradients = [np.array(1.0), np.array([1.0, bad]), np.zeros((2, 0))]

    done = transformed(SKIP_NONFINITE(), gradients)

    assert done.skipped
    assert all(np.isfinite(row.gradient).all() for row in done.rows)
    assert not transformed(SKIP_NONFINITE(), gradients[::2]).skipped


def test_norms_of_float32_gradients_are_added_up_in_float64() -> None:
    """The squares of 1e30 overflow in float32."""
    done = transformed(CLIP_NORM(1.0), [np.full(4, 1e30, np.float32)])

    assert done.rows[0].gradient.dtype == np.float32
    assert done.rows[0].gradient.tolist() == pytest.approx([0.5] * 4)


def test_clip_norm_is_pytorchs() -> None:
    leaves = [torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (2, 3)]
    for leaf in leaves:
        leaf.grad = torch.arange(1, len(leaf) + 1, dtype=torch.float64)
    gradients = [leaf.grad.numpy().copy() for leaf in leaves]
    torch.nn.utils.clip_grad_norm_(leaves, 0.7)

    for row, leaf in zip(transformed(CLIP_NORM(0.7), gradients).rows, leaves, strict=True):
        np.testing.assert_allclose(row.gradient, leaf.grad.numpy(), rtol=1e-15)


def test_guards_act_before_transforms_wherever_they_stand() -> None:
    """Clipping by value would turn an infinite gradient into a finite one."""
    rule = wrapped(SGD, [CLIP_VALUE(1.0), SKIP_NONFINITE()])
    h = rule.values(rule.defaults())
    p = np.array([1.0])

    done = step([Row(rule, p, np.array([math.inf]), rule.initial(p, h), 1, h)])

    assert done.skipped
    assert done.moved(done.rows[0])[0].tolist() == [1.0]


# Proximal steps.


@given(x=NUMBERS, threshold=st.floats(1e-3, 10.0))
def test_soft_thresholding_minimises_what_it_says(x: float, threshold: float) -> None:
    found = float(projected(PROXIMAL("l1"), np.array(x), threshold))

    objective = lambda z: 0.5 * (z - x) ** 2 + threshold * abs(z)  # noqa: E731
    best = optimize.minimize_scalar(objective, bounds=(-abs(x) - 1, abs(x) + 1), method="bounded")
    assert objective(found) <= best.fun + 1e-9
    assert found == pytest.approx(math.copysign(max(abs(x) - threshold, 0.0), x))
    assert abs(x) > threshold or found == 0


@given(x=NUMBERS, threshold=st.floats(1e-3, 10.0), share=st.floats(0.0, 1.0))
def test_the_elastic_net_step_minimises_what_it_says(x: float, threshold: float, share: float) -> None:
    found = float(projected(PROXIMAL("elastic_net", l1_share=share), np.array(x), threshold))

    objective = lambda z: (  # noqa: E731
        0.5 * (z - x) ** 2 + threshold * (share * abs(z) + 0.5 * (1 - share) * z**2)
    )
    best = optimize.minimize_scalar(objective, bounds=(-abs(x) - 1, abs(x) + 1), method="bounded")
    assert objective(found) <= best.fun + 1e-9


@given(p=ARRAYS, threshold=st.floats(1e-3, 10.0))
def test_a_group_step_shortens_rows_by_the_threshold_or_makes_them_zero(
    p: np.ndarray, threshold: float
) -> None:
    after = projected(PROXIMAL("group"), p, threshold)

    rows, moved = (x.reshape(len(x) if x.ndim > 1 else 1, -1) for x in (p, after))
    for row, new in zip(rows, moved, strict=True):
        length = np.linalg.norm(row)
        assume(abs(length - threshold) > 1e-9)
        assert np.linalg.norm(new) == pytest.approx(max(length - threshold, 0.0), abs=1e-9)
        assert length > threshold or not new.any()
        assert np.dot(row, new) == pytest.approx(length * np.linalg.norm(new), abs=1e-6)


@given(p=ARRAYS, low=st.floats(-2.0, 0.0), width=st.floats(0.0, 3.0))
def test_bounds_hold_exactly_and_what_is_inside_stays(p: np.ndarray, low: float, width: float) -> None:
    np.testing.assert_array_equal(
        projected(PROXIMAL("box", low=low, high=low + width), p, 0.0), np.clip(p, low, low + width)
    )
    np.testing.assert_array_equal(projected(PROXIMAL("nonnegative"), p, 0.0), np.maximum(p, 0.0))


def test_the_threshold_follows_the_schedule_and_ista_finds_the_sparse_minimum() -> None:
    """½(θ − a)² + s|θ| has its minimum at the soft-thresholded a."""
    rule = wrapped(SGD, [PROXIMAL("l1", strength=0.5)])
    work = Reference(rule, rule.checked({"lr": 0.5}))
    a = np.array([2.0, -0.75, 0.25])
    at = {"w": np.zeros(3)}
    for past in range(200):
        at = work.step(at, {"w": at["w"] - a}, 1.0 if past < 100 else 0.3)

    np.testing.assert_allclose(at["w"], [1.5, -0.25, 0.0], atol=1e-12)
    assert at["w"][2] == 0


def test_entries_without_gradient_are_not_kept_by_the_cautious_mask() -> None:
    """d = g = (1, 0): half of the entries are kept, so that the other half is doubled."""
    rule = wrapped(SGD, [WRAPPERS["cautious"]()])
    h = rule.values(rule.checked({"lr": 1.0}))
    p = np.zeros(2)

    done = step([Row(rule, p, np.array([1.0, 0.0]), rule.initial(p, h), 1, h)])

    assert done.moved(done.rows[0])[0].tolist() == [-2, 0]


# Decay and averages.


@pytest.mark.parametrize(
    ("by", "kept"),
    [("rate", 1 - 0.02), ("schedule", 1 - 0.1), ("corrected", 1 - 0.01), ("cautious", 1 - 0.02)],
)
def test_what_multiplies_the_decay(by: str, kept: float) -> None:
    """λ = 0.2, γ = 0.1 at half of the peak 0.2: γλ = 0.02, fλ = 0.1, λγ²/γ_peak = 0.01."""
    rule = wrapped(SGD, [DECOUPLED_DECAY(0.2, by=by)])
    around = Surroundings((), None, rate=0.1, multiplier=0.5)

    assert rule.clock(1, rule.values(rule.defaults()), around).wrappers[0].kept == pytest.approx(
        kept, abs=1e-15
    )


def test_cautious_decay_sees_signs_where_the_product_underflows() -> None:
    rule = wrapped(SGD, [DECOUPLED_DECAY(0.5, by="cautious")])
    h = rule.values(rule.checked({"lr": 1.0}))
    p, g = np.array([1e-30, 1e-30], np.float32), np.array([1e-30, -1e-30], np.float32)

    done = step([Row(rule, p, g, rule.initial(p, h), 1, h)])

    assert done.moved(done.rows[0])[0].tolist() == pytest.approx([-0.5e-30, 2e-30], rel=1e-6)


@given(
    start=ARRAYS,
    memory=st.floats(0.0, 0.999),
    corrected=st.booleans(),
    every=st.integers(1, 4),
    first=st.integers(0, 6),
)
def test_averages_of_constant_weights_are_the_weights(
    start: np.ndarray, memory: float, corrected: bool, every: int, first: int
) -> None:
    calls = {
        "ema": {"memory": memory, "corrected": corrected},
        "swa": {"start": first, "every": every},
        "lookahead": {"every": every},
    }
    for name, values in calls.items():
        rule = wrapped(SGD, [WRAPPERS[name](**values)])
        work = Reference(rule, rule.checked({"lr": 1.0}))
        at = {"w": start}
        for _ in range(9):
            at = work.step(at, {"w": np.zeros_like(start)})

        assert rule.evaluated is not None
        shown = rule.evaluated(at["w"], work.states["w"], work.values)
        np.testing.assert_allclose(shown, start, rtol=1e-14)
        np.testing.assert_allclose(at["w"], start, rtol=1e-14)


def test_an_average_of_the_last_steps_is_their_mean() -> None:
    """θ goes 9, 8, 7, …, 0; of the steps after the fourth every second enters: 4, 2, 0."""
    rule = wrapped(SGD, [WRAPPERS["swa"](start=4, every=2)])
    work = Reference(rule, rule.checked({"lr": 1.0}))
    at, shown = {"w": np.array(10.0)}, []
    assert rule.evaluated is not None
    for _ in range(10):
        at = work.step(at, {"w": np.array(1.0)})
        shown.append(float(rule.evaluated(at["w"], work.states["w"], work.values)))

    assert shown == pytest.approx([9, 8, 7, 6, 5, 4, 4, 3, 3, 2])


# Calling.


def test_values_are_given_by_place_or_name_and_shown() -> None:
    assert repr(WRAPPERS["agc"](0.02, floor=0.1)) == "agc(clipping=0.02, floor=0.1)"
    assert repr(WRAPPERS["l2"](0.3)) == "l2(weight_decay=0.3)"
    assert WRAPPERS["clip_norm"](2.0).values == {"clip_norm_limit": 2.0}
    assert WRAPPERS["swa"].with_keys({"swa_every": 3}) == WRAPPERS["swa"](every=3)


def test_a_rule_without_wrappers_is_the_rule() -> None:
    assert wrapped(SGD, []) is SGD
