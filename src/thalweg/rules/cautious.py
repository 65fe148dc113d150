"""Cautious masking: leave out the entries of a direction that point against the gradient."""

from typing import NamedTuple

from thalweg.hyper import Interval, Real
from thalweg.rules.base import Clock, Scope, Surroundings, Values
from thalweg.rules.ops import Array, cast, maximum, mean_over, sign
from thalweg.rules.wrap import Wrapper


class CautiousClock(NamedTuple):
    """The axes over which the share of kept entries is taken."""

    axes: tuple[int, ...]


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t, h
    return CautiousClock(around.axes)


def _mask(p: Array, g: Array, d: Array, h: Values, c: Clock) -> Array:
    del p
    kept = cast(sign(d) * sign(g) > 0, d)  # the product itself may underflow
    return d * kept / maximum(mean_over(kept, c.axes), h.cautious_floor)


CAUTIOUS = Wrapper(
    name="cautious",
    title="Cautious masking",
    formula="M = 1 where d·g > 0, else 0\nd ← d ⊙ M / max(mean M, floor)",
    source=(
        "Liang et al. 2024 (arXiv 2411.16085). g is the gradient that the method received, the mean is over "
        "one parameter. Their code has the floor 1e-3; other libraries scale by n/(ΣM + 1) instead."
    ),
    use="With momentum, where old directions often disagree with the new gradient.",
    hyper={
        "cautious_floor": Real(
            1e-3, "least share of kept entries that is divided by", Interval(0.0, 1.0, closed="right")
        )
    },
    clock=_clock,
    mask=_mask,
    scope=Scope.TENSOR,
)
