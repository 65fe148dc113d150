"""The ends of what is legal: zeros, numbers near the end of a type, empty and tiny shapes, bad gradients."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from thalweg import reference
from thalweg.backends import eager
from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.optim import BY_RULE
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS

SHAPES = [(), (1,), (0,), (1, 1), (1, 4), (4, 1), (3, 0), (0, 3), (1, 1, 2, 2)]


def in_numpy(rule: Rule, start: Any, gradients: list[Any], **values: Any) -> np.ndarray:
    work = Reference(rule, rule.checked(values))
    at = {"w": np.asarray(start)}
    for g in gradients:
        at = work.step(at, {"w": np.asarray(g, at["w"].dtype)})
    return at["w"]


def in_torch(rule: Rule, start: Any, gradients: list[Any], **values: Any) -> np.ndarray:
    p = torch.nn.Parameter(torch.tensor(start))
    optimizer = BY_RULE[rule.name]([p], **values)
    for g in gradients:
        p.grad = torch.full_like(p, float(g)) if np.ndim(g) == 0 else torch.tensor(g, dtype=p.dtype)
        optimizer.step()
    return p.detach().numpy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_zero_gradients_and_a_rate_of_zero_leave_every_shape_finite_and_in_its_dtype(
    name: str, shape: tuple[int, ...]
) -> None:
    rule = RULES[name]
    if len(shape) < rule.least_axes:
        pytest.skip("moved by AdamW")
    generator = np.random.default_rng(3)
    start = generator.standard_normal(shape).astype(np.float32)
    noise = [generator.standard_normal(shape) for _ in range(4)]

    for values in ({}, {"lr": 0.0}):
        for slopes in ([np.zeros(shape)] * 4, noise):
            for walk in (in_numpy, in_torch):
                end = np.asarray(walk(rule, start, slopes, **values))
                assert end.dtype == np.float32
                assert np.isfinite(end).all()
                assert end.shape == shape


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.least_axes])
def test_a_nan_gradient_reaches_the_parameter_and_raises_nothing(name: str) -> None:
    """Libraries refuse to decompose what is not finite; a run that diverges is to end as elsewhere."""
    rule, slopes = RULES[name], [np.full((1, 4), math.nan)] * 3

    with np.errstate(invalid="ignore"):
        assert np.isnan(in_numpy(rule, np.ones((1, 4)), slopes)).all()
    assert np.isnan(in_torch(rule, np.ones((1, 4)), slopes)).all()


@pytest.mark.parametrize("torch_backend", [False, True])
@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_a_replica_that_diverges_leaves_the_others_alone(name: str, torch_backend: bool) -> None:
    rule = RULES[name]
    h = rule.values({**rule.checked({}), "lr": np.array([0.1, 0.1])})
    start, g = np.ones((2, 2, 2)), np.array([[1.0, 2.0], [3.0, 5.0]])
    slopes = np.stack([g, g * math.nan])
    alone = in_numpy(rule, start[0], [g] * 3, lr=0.1)

    if torch_backend:
        p = torch.tensor(start)
        h = rule.values({**rule.checked({}), "lr": torch.tensor([0.1, 0.1], dtype=torch.float64)})
        state = rule.initial(p, h, replicas=True)
        for t in range(1, 4):
            eager.advance([Row(rule, p, torch.tensor(slopes), state, t, h, True)])
        end = p.numpy()
    else:
        work = Reference(rule, h._asdict())
        at: dict[str, Any] = {"w": start}
        with np.errstate(invalid="ignore"):
            for _ in range(3):
                at = work.step(at, {"w": slopes})
        end = at["w"]

    # SOAP divides what the basis turns to nearly nothing by nearly nothing.
    np.testing.assert_allclose(end[0], alone, rtol=1e-6)
    assert np.isnan(end[1]).all()


@pytest.mark.parametrize("name", ["shampoo", "soap"])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)])
def test_a_preconditioner_of_one_number_is_kept_from_step_to_step(name: str, shape: tuple[int, int]) -> None:
    rule, generator = RULES[name], np.random.default_rng(5)
    start, slopes = generator.standard_normal(shape), [generator.standard_normal(shape) for _ in range(6)]

    ours = in_torch(rule, start, slopes, update_every=2)

    # The long side has rank one at first, and its basis in SOAP is then not unique.
    near = 1e-9 if name == "shampoo" or shape == (1, 1) else 1e-3
    np.testing.assert_allclose(ours, in_numpy(rule, start, slopes, update_every=2), rtol=near)


@pytest.mark.parametrize("averaging", ["ema", "swa", "lookahead"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_number_as_parameter_keeps_its_dtype_through_clipping_and_averages(
    averaging: str, dtype: torch.dtype
) -> None:
    """The share by which all gradients are shortened is a float64 tensor without axes, as they are."""
    p = torch.nn.Parameter(torch.tensor(1.0, dtype=dtype))
    optimizer = BY_RULE["sgd"]([p], lr=0.5, wrappers=[WRAPPERS["clip_norm"](2.0), WRAPPERS[averaging]()])
    p.grad = torch.tensor(4.0, dtype=dtype)

    optimizer.step()

    assert p.dtype is dtype
    assert p.item() == pytest.approx(0.0, abs=1e-2)


# Numbers near the end of a type.


def test_adafactor_takes_a_mean_square_whose_square_is_beyond_float32() -> None:
    """For a gradient that is g everywhere, v = g² and u = 1."""
    for walk in (in_numpy, in_torch):
        end = walk(RULES["adafactor"], np.ones((2, 2), np.float32), [np.full((2, 2), 1e12)], lr=0.1)
        np.testing.assert_allclose(end, 0.9, rtol=1e-6)


def test_adafactor_takes_the_papers_epsilon_beside_zero_gradients_in_float32() -> None:
    for walk in (in_numpy, in_torch):
        start = np.ones((2, 2), np.float32)
        assert (
            walk(RULES["adafactor"], start, [np.zeros((2, 2))], eps=(1e-30, 1e-3)).tolist() == start.tolist()
        )


def test_d_adaptation_takes_products_beyond_float32() -> None:
    ends = [
        in_torch(RULES["dadapt-adam"], np.ones(3, dtype), [np.full(3, 1e19)] * 3)
        for dtype in (np.float32, np.float64)
    ]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)


@pytest.mark.parametrize("walk", [in_numpy, in_torch])
def test_centred_rmsprop_stays_finite_where_rounding_leaves_no_variance(walk: Any) -> None:
    """v and ḡ² both end at 0.09, up to rounding: some of these differences are below 0."""
    slopes = [np.linspace(0.1, 0.9, 50)] * 60

    assert np.isfinite(walk(RULES["rmsprop"], np.zeros(50), slopes, alpha=0.5, centered=True)).all()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_rprop_sees_signs_where_the_product_of_gradients_leaves_float32(size: float) -> None:
    """The step grows by 1.2 each time: 0.01 · (1 + 1.2 + 1.44)."""
    end = in_numpy(RULES["rprop"], np.zeros(1, np.float32), [[size]] * 3)

    assert end[0] == pytest.approx(-0.01 * (1 + 1.2 + 1.44), rel=1e-6)


def test_sophia_clips_a_ratio_beyond_float32() -> None:
    end = in_numpy(RULES["sophia-h"], np.zeros(1, np.float32), [[1e30]], lr=0.5)

    assert end[0] == -0.5


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_adaptive_clipping_shortens_and_keeps_gradients_whose_squares_leave_float32(size: float) -> None:
    """The weights have norm 5, a hundredth of which is the limit: 0.05 · (3, 4)/5."""
    rule = wrapped(SGD, [WRAPPERS["agc"](0.01)])
    h = rule.values(rule.defaults())
    start = np.array([3.0, 4.0], np.float32)
    row = Row(rule, start, np.float32(size) * start, rule.initial(start, h), 1, h)
    assert rule.transforms

    done = rule.transforms[0]([row])

    expected = [0.03, 0.04] if size > 1 else (np.float32(size) * start).tolist()
    assert done.rows[0].gradient.dtype == np.float32
    assert done.rows[0].gradient.tolist() == pytest.approx(expected, rel=1e-6)
    assert bool(done.clipped) is (size > 1)


def test_rows_that_are_next_to_nothing_become_zero_without_a_warning() -> None:
    rule = wrapped(SGD, [WRAPPERS["proximal"]("group", strength=1.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end = in_numpy(rule, np.full((2, 2), 1e-155), [np.zeros((2, 2))], lr=1e100)

    assert end.tolist() == [[0, 0], [0, 0]]


# What is given.


def test_a_list_is_as_good_as_a_tuple() -> None:
    """It is no column of replicas."""
    slopes = np.array([1.0, -2.0])

    listed = reference.Adam(betas=[0.8, 0.9]).step(slopes, slopes)

    assert listed.tolist() == reference.Adam(betas=(0.8, 0.9)).step(slopes, slopes).tolist()


def test_a_wrapper_without_its_values_is_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"got clip_norm\. Call it: clip_norm\(\)\."):
        wrapped(SGD, [WRAPPERS["clip_norm"]])  # type: ignore[list-item]


def test_a_value_that_comes_twice_is_refused() -> None:
    with pytest.raises(InputError, match="limit of clip_norm must be given once"):
        WRAPPERS["clip_norm"](1.0, limit=2.0)
