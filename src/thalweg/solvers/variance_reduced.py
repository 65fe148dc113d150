"""Finite sums: stochastic gradient descent, and the two ways to take the noise out of it, SVRG and SAGA.

The gradient of one term is a noisy gradient of the sum, and with a constant rate the noise keeps x away from
the minimum. SVRG and SAGA subtract what the term's gradient was before, and add the mean of all of those:
the direction is right on average still, and its noise vanishes as x settles. So a constant rate reaches the
minimum, of a strongly convex sum by a constant factor per pass, as gradient descent does, at the cost of few
terms a step.

An iterate is one round: n steps of one term (of SVRG, `inner` · n). Terms are drawn with replacement, by the
seed and the round alone. The slope of an iterate is that of the whole sum, computed to be looked at; only of
SVRG it is part of the method, and counted as such.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from thalweg import seeds
from thalweg.errors import InputError
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.solvers.base import Iterate, Need, Objective, Solver, Vector
from thalweg.solvers.finite_sum import FiniteSum, Places
from thalweg.solvers.proximal import NoPenalty, Penalty


def stochastic(
    objective: Objective,
    x: Vector,
    *,
    rate: float,
    penalty: Penalty | None = None,
    batch: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Yield the iterates of stochastic gradient descent, one a round: x ← prox(x − η∇fᵢ(x), η).

    Args:
        objective: a `FiniteSum`, or what `minimize` makes of one.
        x: the start, (p,).
        rate: η, above 0, constant.
        penalty: a record of `thalweg.solvers.proximal`; None: the proximal operator is the identity.
        batch: of how many terms the gradient of a step is the mean.
        seed: which terms are drawn.

    Source: `STOCHASTIC`.
    """
    total, penalty = _terms(objective, rate), penalty or NoPenalty()
    for count in _rounds():
        yield _looked(objective, penalty, x, objective.gradient(x), rate)
        for places in _batches(total, batch, seed, count, 1):
            x = penalty.prox(x - rate * total.rows(x, places).mean(axis=0), rate)


def svrg(
    objective: Objective,
    x: Vector,
    *,
    rate: float,
    penalty: Penalty | None = None,
    inner: int = 2,
    batch: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Yield the snapshots x̃ of SVRG: ∇F(x̃), then steps x ← prox(x − η(∇fᵢ(x) − ∇fᵢ(x̃) + ∇F(x̃)), η).

    The next snapshot is the last x. A round costs n + 2·inner·n gradients of terms, and no memory.

    Args:
        objective: a `FiniteSum`, or what `minimize` makes of one.
        x: the start, (p,).
        rate: η, above 0; 1/(10L) and more, with L the largest Lipschitz constant of a term's gradient.
        penalty: a record of `thalweg.solvers.proximal`; None: the proximal operator is the identity.
        inner: passes over n terms between snapshots.
        batch: of how many terms the gradient of a step is the mean.
        seed: which terms are drawn.

    Terms ½(x − aᵢ)² have equal curvature, so their noise cancels at once: the first step is exact.

    >>> total = FiniteSum(
    ...     lambda x, a: 0.5 * (x - a) ** 2, np.array([1.0, 3.0]), gradients=lambda x, a: (x - a)[:, None]
    ... )
    >>> rounds = svrg(total, np.array([0.0]), rate=1.0, inner=1)
    >>> [next(rounds).x.tolist() for _ in range(2)], total.evaluated
    ([[0.0], [2.0]], 8)

    Source: `SVRG`.
    """
    total, penalty = _terms(objective, rate), penalty or NoPenalty()
    for count in _rounds():
        anchor, mean = x, total.full(x)
        yield _looked(objective, penalty, x, mean, rate)
        for places in _batches(total, batch, seed, count, inner):
            noise = (total.rows(x, places) - total.rows(anchor, places)).mean(axis=0)
            x = penalty.prox(x - rate * (noise + mean), rate)


def saga(
    objective: Objective,
    x: Vector,
    *,
    rate: float,
    penalty: Penalty | None = None,
    batch: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Yield the iterates of SAGA, one a round: x ← prox(x − η(∇fᵢ(x) − gᵢ + ḡ), η), then gᵢ ← ∇fᵢ(x).

    g is a table of the last gradient of each term, ḡ its mean: n · p numbers of memory. It begins with the
    gradients at the start, n of them; a round costs n more.

    Args:
        objective: a `FiniteSum`, or what `minimize` makes of one.
        x: the start, (p,).
        rate: η, above 0; 1/(3L), with L the largest Lipschitz constant of a term's gradient.
        penalty: a record of `thalweg.solvers.proximal`; None: the proximal operator is the identity.
        batch: of how many terms the gradient of a step is the mean.
        seed: which terms are drawn.

    Source: `SAGA`.
    """
    total, penalty = _terms(objective, rate), penalty or NoPenalty()
    table = total.rows(x, np.arange(total.examples))
    for count in _rounds():
        yield _looked(objective, penalty, x, objective.gradient(x), rate)
        mean = table.mean(axis=0)  # anew in each round, so that rounding does not gather
        for places in _batches(total, batch, seed, count, 1):
            rows = total.rows(x, places)
            changes = rows - table[places]
            x = penalty.prox(x - rate * (changes.mean(axis=0) + mean), rate)
            # A term that was drawn twice has changed once.
            once = np.unique(places, return_index=True)[1] if batch > 1 else slice(None)
            mean = mean + changes[once].sum(axis=0) / total.examples
            table[places] = rows


def _rounds() -> Iterator[int]:
    count = 0
    while True:
        yield count
        count += 1


def _terms(objective: Any, rate: float | None) -> FiniteSum:
    if rate is None:
        raise InputError(
            "rate",
            "be given to a method that asks for single terms",
            "none",
            "With L the largest Lipschitz constant of a term's gradient (of ½(aᵀx − b)² it is ‖a‖², of a "
            "logistic loss ¼‖a‖²) take 1/(3L), or half of it for SVRG.",
        )
    total = getattr(objective, "function", objective)
    if not isinstance(total, FiniteSum):
        raise InputError(
            "the function",
            "be a FiniteSum for a method that asks for single terms",
            type(total).__name__,
            "Pass FiniteSum(losses, *data).",
        )
    return total


def _batches(total: FiniteSum, batch: int, seed: int, count: int, passes: int) -> Iterator[Places]:
    for number in range(passes):
        drawn = seeds.draws(total.examples, seed, "order", count, number)
        for start in range(0, len(drawn), batch):
            yield drawn[start : start + batch]


def _looked(objective: Any, penalty: Penalty, x: Vector, gradient: Vector, rate: float) -> Iterate:
    value = objective.value(x) if hasattr(objective, "value") else objective(x)
    slope = (x - penalty.prox(x - rate * gradient, rate)) / rate
    return Iterate(x, value + penalty.value(x), slope)


_RATE = Real(
    None, "rate η, constant; compare 1/L, L the largest Lipschitz constant of a term's gradient", ABOVE_0
)
_BATCH = Integer(1, "of how many terms the gradient of a step is the mean", Interval(1))
_NEEDS = frozenset({Need.TERMS, Need.PENALTY})

STOCHASTIC = Solver(
    name="stochastic",
    title="Stochastic gradient descent over terms",
    run=stochastic,
    formula="x ← prox(x − η∇fᵢ(x), η), i drawn at random",
    source="Robbins and Monro 1951, here with a constant rate, which ends in noise around the minimum.",
    use="To compare with. For networks take a rule and a schedule.",
    options={"rate": _RATE, "batch": _BATCH},
    needs=_NEEDS,
    random=True,
)

SVRG = Solver(
    name="svrg",
    title="SVRG (stochastic variance-reduced gradient)",
    run=svrg,
    formula="x ← prox(x − η(∇fᵢ(x) − ∇fᵢ(x̃) + ∇F(x̃)), η), x̃ the x after every inner·n steps",
    source=(
        "Johnson and Zhang 2013, with the last x as the next snapshot, their option I, and 2n steps, as they "
        "recommend for convex sums; with a penalty Xiao and Zhang 2014, who take the mean of the x instead."
    ),
    use="Convex sums to high accuracy, without memory for a table.",
    options={
        "rate": _RATE,
        "inner": Integer(2, "passes over n terms between snapshots", Interval(1)),
        "batch": _BATCH,
    },
    needs=_NEEDS,
    random=True,
)

SAGA = Solver(
    name="saga",
    title="SAGA",
    run=saga,
    formula="x ← prox(x − η(∇fᵢ(x) − gᵢ + ḡ), η), then gᵢ ← ∇fᵢ(x) of before the step; ḡ the mean of all gᵢ",
    source="Defazio, Bach and Lacoste-Julien 2014.",
    use="As SVRG, with fewer gradients, where n · p numbers fit into memory.",
    options={"rate": _RATE, "batch": _BATCH},
    needs=_NEEDS,
    random=True,
)

VARIANCE_REDUCED = (STOCHASTIC, SVRG, SAGA)
