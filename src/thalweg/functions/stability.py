"""Which rates are stable, which fixed one is best, and how many steps that takes: numbers alone.

Near a minimum a function is a quadratic, and along each eigenvector of its Hessian a method with a fixed rate
is a linear recursion. It converges where the spectral radius of that recursion is below 1.

>>> largest_stable_rate("momentum", 4.0)
0.95
>>> best_fixed_rate(2.0, 50.0), round(contraction(2.0, 50.0), 6)
(0.038461538461538464, 0.923077)
"""

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from thalweg.errors import InputError, nearest
from thalweg.rules.catalogue import preset

SHRINK: Final = 1e6  # what predicted numbers of steps shrink loss or distance by


class Momentum(NamedTuple):
    """A rate with a momentum, and by what factor a step shrinks the distance in the long run."""

    rate: float
    momentum: float
    contraction: float


def _summed(h: Mapping[str, Any]) -> float:
    beta = h["momentum"]
    limit = 2 * (1 + beta) / (1 + 2 * beta) if h["nesterov"] else 2 * (1 + beta)
    # Without momentum there is no buffer, and so no dampening.
    kept = 1 - (beta if h["buffer"] == "mean" else h["dampening"] if beta else 0.0)
    return float(limit / kept)


def _averaged(h: Mapping[str, Any]) -> float:
    beta = float(h["betas"][0])
    return 2 * (1 + beta) / (1 - beta)


def _looking_ahead(h: Mapping[str, Any]) -> float:
    return _averaged(h) / (1 + 2 * float(h["betas"][0]))


def _plain(h: Mapping[str, Any]) -> float:
    # RMSprop's own buffer adds up what was divided already, as SGD's does.
    return 2 * (1 + float(h.get("momentum", 0.0)))


_LIMITS: Final = {
    "sgd": _summed, "momentum": _summed, "nesterov": _summed, "adagrad": _plain, "rmsprop": _plain,
    "adam": _averaged, "adamw": _averaged, "amsgrad": _averaged, "radam": _averaged, "adamax": _averaged,
    "nadam": _looking_ahead,
}  # fmt: skip
OPTIMIZERS: Final = tuple(_LIMITS)
DIVIDING: Final = OPTIMIZERS[3:]  # those that divide the gradient by a running size of it


def stability_limit(optimizer: str, **hyperparameters: Any) -> float:
    """Return the product of rate and eigenvalue below which a method is stable.

    | method | limit of ηλ | default |
    |---|---|---|
    | gradient descent | 2 | 2 |
    | momentum | 2(1 + β)/(1 − τ), τ the dampening | 3.8 |
    | Nesterov | 2(1 + β)/(1 + 2β) | 1.357 |
    | Adagrad, RMSprop | 2 | 2 |
    | Adam, AdamW, AMSGrad, RAdam, AdaMax | 2(1 + β₁)/(1 − β₁) | 38 |
    | NAdam | 2(1 + β₁)/((1 − β₁)(1 + 2β₁)) | 13.57 |

    For those that divide, λ is the largest eigenvalue of P⁻¹H, where P is what they divide by, √v̂ + ε, and
    stands still.

    Args:
        optimizer: a preset, one of `OPTIMIZERS`.
        hyperparameters: values other than the preset's, such as ``momentum=0.5``.

    Raises:
        InputError: there is no limit known for this optimizer, or a value is out of its range.

    >>> [round(stability_limit(name), 3) for name in ("sgd", "momentum", "nesterov", "adam", "nadam")]
    [2.0, 3.8, 1.357, 38.0, 13.571]

    Source: spectral radius of the recursion; for Adam, Cohen et al. 2022, arXiv:2207.14484.
    """
    if optimizer not in _LIMITS:
        raise InputError(
            "the optimizer", "be one with a known limit", repr(optimizer), nearest(optimizer, _LIMITS)
        )
    chosen = preset(optimizer)
    return _LIMITS[optimizer](chosen.rule.checked({**chosen.fixed, **hyperparameters}))


def largest_stable_rate(optimizer: str, eigenvalue: float, **hyperparameters: Any) -> float:
    """Return the rate below which a method converges, where `eigenvalue`, above 0, is the largest.

    For a method that divides it is in units of what it divides by: a rate of 38/λ times √v̂ + ε.

    >>> largest_stable_rate("sgd", 50.0)
    0.04
    """
    _check_positive("the eigenvalue", eigenvalue)
    return stability_limit(optimizer, **hyperparameters) / eigenvalue


def best_fixed_rate(smallest: float, largest: float) -> float:
    """Return the rate 2/(λmin + λmax), of all fixed rates the one whose slowest direction is fastest.

    1/λmax is merely safe: it needs nearly twice as many steps where λmax is much larger than λmin.

    Args:
        smallest: the smallest eigenvalue of the Hessian, above 0.
        largest: the largest.

    >>> best_fixed_rate(1.0, 100.0) == 2 / 101
    True

    Source: Polyak 1987, Introduction to Optimization, section 1.4; Nesterov 2018, theorem 2.1.15.
    """
    _check_range(smallest, largest)
    return 2 / (smallest + largest)


def contraction(smallest: float, largest: float, rate: float | None = None) -> float:
    """Return max |1 − ηλ|, by which a step of gradient descent shrinks the distance at least.

    At the best fixed rate, which None means, it is (κ − 1)/(κ + 1), where κ = λmax/λmin.

    >>> contraction(1.0, 3.0), contraction(1.0, 3.0, rate=0.25)
    (0.5, 0.75)
    """
    _check_range(smallest, largest)
    if rate is None:
        return (largest - smallest) / (largest + smallest)
    return max(abs(1 - rate * smallest), abs(1 - rate * largest))


def best_momentum(smallest: float, largest: float) -> Momentum:
    """Return the best setting of momentum (heavy ball): η = 4/(√λmax + √λmin)², β = ((√κ − 1)/(√κ + 1))².

    In the long run each step shrinks the distance by √β = (√κ − 1)/(√κ + 1).

    >>> best_momentum(1.0, 9.0)
    Momentum(rate=0.25, momentum=0.25, contraction=0.5)

    Source: Polyak 1964, Some methods of speeding up the convergence of iteration methods.
    """
    _check_range(smallest, largest)
    low, high = math.sqrt(smallest), math.sqrt(largest)
    factor = (high - low) / (high + low)
    return Momentum(4 / (high + low) ** 2, factor**2, factor)


def steps_to_shrink(factor: float, shrink: float = SHRINK) -> int | None:
    """Return the least n with factorⁿ ≤ 1/shrink, of a quantity that each step multiplies by `factor`.

    None where it does not shrink. Loss shrinks by the square of what the distance shrinks by.

    >>> steps_to_shrink(99 / 101), steps_to_shrink((99 / 101) ** 2), steps_to_shrink(0.0)
    (691, 346, 1)
    """
    if not factor < 1:
        return None
    if factor <= 1 / shrink:
        return 1
    # A millionth of a millionth less, so that what is a whole number but for rounding is not raised by one.
    return math.ceil(-math.log(shrink) / math.log(factor) * (1 - 1e-12))


def noise_ball(rate: float, eigenvalue: float, variance: float) -> float | None:
    """Return E w² = ηs/(a(2 − ηa)), where a fixed rate η ends on ½aw² with gradients of variance s.

    None where the rate is not stable, and so nothing is reached.

    >>> noise_ball(0.5, 2.0, 4.0)
    1.0

    Source: the variance of w ← (1 − ηa)w − ηξ that reproduces itself.
    """
    _check_positive("the eigenvalue", eigenvalue)
    if not 0 < rate * eigenvalue < 2:
        return None
    return rate * variance / (eigenvalue * (2 - rate * eigenvalue))


def _check_positive(who: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(who, "be a number above 0", value)


def _check_range(smallest: float, largest: float) -> None:
    _check_positive("the smallest eigenvalue", smallest)
    if not (largest >= smallest and math.isfinite(largest)):
        raise InputError("the largest eigenvalue", f"be at least the smallest, {smallest:g}", largest)
